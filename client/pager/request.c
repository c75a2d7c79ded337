/* SPDX-License-Identifier: BSD-2-Clause */
/* Lists of requests, which the link keeps one of for each state; and what of a
 * read has come.
 *
 * I1 nr and bytes are those of the requests in the list.
 * I2 A request is in one list at most, the one of its state.
 * I3 Parts are not empty, and do not touch each other.
 *
 * Not done: the states themselves; they are the link's.
 */

#include <config.h>

#include "request.h"

#include <stddef.h>

void
request_append (struct request_list *list, struct request *req)
{
  req->prev = list->last;
  req->next = NULL;
  if (list->last != NULL)
    list->last->next = req;
  else
    list->first = req;
  list->last = req;
  list->nr++;
  list->bytes += req->len_bytes;
}

void
request_remove (struct request_list *list, struct request *req)
{
  if (req->prev != NULL)
    req->prev->next = req->next;
  else
    list->first = req->next;
  if (req->next != NULL)
    req->next->prev = req->prev;
  else
    list->last = req->prev;
  req->prev = req->next = NULL;
  list->nr--;
  list->bytes -= req->len_bytes;
}

void
request_prepend_all (struct request_list *list, struct request_list *from)
{
  if (from->first == NULL)
    return;
  from->last->next = list->first;
  if (list->first != NULL)
    list->first->prev = from->last;
  else
    list->last = from->last;
  list->first = from->first;
  list->nr += from->nr;
  list->bytes += from->bytes;
  *from = (struct request_list){ 0 };
}

uint32_t
request_carries (const struct request *req)
{
  bool carries = req->kind == REQUEST_READ || req->kind == REQUEST_WRITE;

  return carries ? req->len_bytes : 0;
}

bool
request_writes (const struct request *req)
{
  return req->kind == REQUEST_WRITE || req->kind == REQUEST_ZERO;
}

bool
request_add_part (struct request *req, uint32_t from, uint32_t end)
{
  struct request_part whole = { from, end };
  unsigned i = 0;

  for (unsigned k = 0; k < req->nr_parts; k++)
    if (from < req->part[k].end && req->part[k].from < end)
      return false;
  while (i < req->nr_parts) {
    const struct request_part p = req->part[i];

    if (p.end != from && p.from != end) {
      i++;
      continue;
    }
    if (p.end == from)
      whole.from = p.from;
    else
      whole.end = p.end;
    req->part[i] = req->part[--req->nr_parts];
  }
  if (req->nr_parts == REQUEST_PARTS)
    return false;
  req->part[req->nr_parts++] = whole;
  return true;
}

bool
request_is_whole (const struct request *req)
{
  return req->nr_parts == 1 && req->part[0].from == 0 &&
         req->part[0].end == req->len_bytes;
}

const char *
request_kind_name (enum request_kind kind)
{
  static const char *const names[] = { "read", "write", "trim",
                                       "zero", "flush", "status" };

  return names[kind];
}

const char *
request_list_check (const struct request_list *list, enum request_state state)
{
  const struct request *prev = NULL;
  unsigned nr = 0;
  uint64_t bytes = 0;

  for (const struct request *r = list->first; r != NULL; r = r->next) {
    if (r->prev != prev)
      return "a request's neighbour is not its neighbour";
    if (r->state != state)
      return "a request is in the list of another state";
    if (++nr > list->nr)
      return "a list is longer than its count";
    bytes += r->len_bytes;
    prev = r;
  }
  if (nr != list->nr || bytes != list->bytes || list->last != prev)
    return "a list's counts are not those of its requests";
  return NULL;
}
