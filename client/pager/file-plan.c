/* SPDX-License-Identifier: BSD-2-Clause */
/* Which pages of a file are read together; file-plan.h has the contract.
 * Called by file-get.c, with the file's lock held.
 *
 *       | before              first   |          after      |
 *       |  - - behind - - - - w w w w - - ahead - - - -     |
 *
 * One read, after the vnode pager: neighbours that lie together anyway cost
 * little more than the wanted ones; if the read is too long both sides give in
 * proportion to what they have.
 *
 * Ahead: a stream is known by the page that it would go on with.  The first use
 * of a place makes one that reads nothing ahead, the second START pages, and so
 * on up to max.  There are a few, the one that was not used for longest makes
 * room: so readers of several places at a time are each in order.
 */

#include <config.h>

#include "file-plan.h"

#include <assert.h>

#define START 4u /* pages */

void
file_plan (const struct file_plan *p, unsigned *behind, unsigned *ahead)
{
  uint64_t b = min_u64 (*behind, min_u64 (p->before, p->first));
  uint64_t left = p->nr_pages - p->first - p->count;
  uint64_t a = p->after >= p->count - 1 ? p->after - (p->count - 1) : 0;
  uint64_t sum, trim, cut;
  const bool whole = b == p->before;

  assert (p->count > 0 && p->count <= p->max && p->block_pages > 0);
  assert (p->first + p->count <= p->nr_pages);
  a = min_u64 (*ahead, min_u64 (a, left));
  sum = a + b;
  if (sum + p->count > p->max) {
    trim = sum + p->count - p->max;
    cut = trim * b / sum;
    if (whole)
      cut = (cut + p->block_pages - 1) / p->block_pages * p->block_pages;
    b -= min_u64 (cut, b);
    a = min_u64 (a, p->max - p->count - b);
  }
  *behind = (unsigned) b;
  *ahead = (unsigned) a;
}

/* NULL: first goes on from none; *oldest makes room then. */
static struct file_stream *
find (struct file_seq *s, pgno_t first, struct file_stream **oldest)
{
  *oldest = &s->stream[0];
  for (unsigned i = 0; i < FILE_STREAMS; i++) {
    struct file_stream *st = &s->stream[i];

    /* A page that is used in several parts is not out of order. */
    if (st->used > 0 && (st->next == first || st->next == first + 1))
      return st;
    if (st->used < (*oldest)->used)
      *oldest = st;
  }
  return NULL;
}

unsigned
file_seq_next (struct file_seq *s, pgno_t first, unsigned count,
               uint64_t nr_pages, unsigned max, pgno_t *from)
{
  const pgno_t end = first + count;
  struct file_stream *oldest, *st = find (s, first, &oldest);
  uint64_t left, nr;

  assert (count > 0 && end <= nr_pages);
  s->clock++;
  if (st == NULL) {
    *oldest = (struct file_stream){ end, end, START / 2, s->clock };
    return 0;
  }
  st->used = s->clock;
  if (end <= st->next)
    return 0;
  st->next = end;
  st->end = min_u64 (max_u64 (st->end, end), nr_pages); /* it was cut */
  left = st->end - end;
  if (left > st->ahead / 2)
    return 0;
  st->ahead = (unsigned) min_u64 (2 * (uint64_t) st->ahead, max);
  nr = st->ahead > left ? st->ahead - left : 0;
  nr = min_u64 (nr, nr_pages - st->end);
  *from = st->end;
  st->end += nr;
  return (unsigned) nr;
}

void
file_seq_jump (struct file_seq *s, pgno_t to)
{
  struct file_stream *last = &s->stream[0];

  for (unsigned i = 1; i < FILE_STREAMS; i++)
    if (s->stream[i].used > last->used)
      last = &s->stream[i];
  if (last->used == 0 || (last->next <= to && to < last->end))
    return;
  last->next = last->end = to;
}

void
file_seq_forget (struct file_seq *s)
{
  *s = (struct file_seq){ .clock = 0 };
}
