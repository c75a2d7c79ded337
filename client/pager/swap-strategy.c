/* SPDX-License-Identifier: BSD-2-Clause */
/* strategy: a transfer by bytes, in pieces of a cluster.  Runs on the caller's
 * thread, which waits; pieces are gets and puts like any other.
 *
 *   call: [  child  |  child  |  child  |  child  | not begun .. ]
 *            at -->  a child of a read asks on for what it was given back
 *
 * At most SWAP_CHILDREN are under way; none begins after an error.  They begin
 * in the order of their places, so the error at the lowest place is that of
 * the whole, once all have ended.  What was never put reads as zeros; a write
 * goes to fresh blocks, as any put.
 */

#include <config.h>

#include "swap.h"

#include <errno.h>
#include <string.h>

#include "types.h"

struct strategy;

struct child {
  struct strategy *parent;
  uint64_t first;
  unsigned nr;
  unsigned at;   /* pages before it are done */
  unsigned left; /* of those asked for: without a result */
  enum farpage_result result[FARPAGE_CLUSTER_MAX];
  bool busy; /* [mutex] */
};

struct strategy {
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  struct farpage_object *object;
  enum farpage_command command;
  uint64_t first; /* page of data */
  char *data;
  int error;           /* [mutex] */
  uint64_t error_page; /* [mutex] */
  unsigned nr_busy;    /* [mutex] */
  struct child child[SWAP_CHILDREN];
};

static char *
data_of (const struct strategy *s, uint64_t page)
{
  return s->data + ((page - s->first) << PAGE_SHIFT);
}

static void
child_end (struct child *c, uint64_t page, int error)
{
  struct strategy *s = c->parent;

  pthread_mutex_lock (&s->mutex);
  if (error && (s->error == 0 || page < s->error_page)) {
    s->error = error;
    s->error_page = page;
  }
  c->busy = false;
  s->nr_busy--;
  pthread_cond_signal (&s->cond);
  pthread_mutex_unlock (&s->mutex);
}

static void child_go (struct child *c);

/* A read goes on behind the last page it got in one piece.  [loop] */
static void
read_on (struct child *c)
{
  const unsigned was = c->at;

  for (; c->at < c->nr; c->at++) {
    const uint64_t page = c->first + c->at;

    if (c->result[c->at] == FARPAGE_FAIL)
      memset (data_of (c->parent, page), 0, FARPAGE_PAGE);
    else if (c->result[c->at] != FARPAGE_OK)
      break;
  }
  if (c->at == c->nr)
    child_end (c, 0, 0);
  else if (c->result[c->at] == FARPAGE_ERROR)
    child_end (c, c->first + c->at, EIO);
  else if (c->at == was) /* the one asked for: there was no memory */
    child_end (c, c->first + c->at, ENOMEM);
  else
    child_go (c);
}

static void
written (struct child *c)
{
  for (unsigned i = 0; i < c->nr; i++) {
    const uint64_t page = c->first + i;

    switch (c->result[i]) {
    case FARPAGE_OK:
      break;
    case FARPAGE_FAIL:
      child_end (c, page, ENOSPC);
      return;
    case FARPAGE_AGAIN:
      child_end (c, page, ENOMEM);
      return;
    default:
      child_end (c, page, EIO);
      return;
    }
  }
  child_end (c, 0, 0);
}

static void
child_page (void *arg, uint64_t page, enum farpage_result result)
{
  struct child *c = arg;

  c->result[page - c->first] = result;
  if (--c->left > 0)
    return;
  if (c->parent->command == FARPAGE_READ)
    read_on (c);
  else
    written (c);
}

static void
child_go (struct child *c)
{
  struct strategy *s = c->parent;
  const bool read = s->command == FARPAGE_READ;
  void *addr[FARPAGE_CLUSTER_MAX];
  struct op how = { .object = s->object,
                    .go = read ? get_go : put_go,
                    .first = c->first + c->at,
                    .count = c->nr - c->at,
                    .flags = read ? 0 : FARPAGE_SYNC | OP_WAITS,
                    .fn = child_page,
                    .arg = c };
  int err;

  c->left = how.count;
  for (unsigned i = 0; i < how.count; i++)
    addr[i] = data_of (s, how.first + i);
  err = pager_post (&how, addr, true);
  if (err)
    child_end (c, how.first, err);
}

/* Waits for a place; NULL: there is an error, or all is over (none). */
static struct child *
child_get (struct strategy *s, bool none)
{
  struct child *c = NULL;

  pthread_mutex_lock (&s->mutex);
  while (none ? s->nr_busy > 0 : s->nr_busy == SWAP_CHILDREN)
    pthread_cond_wait (&s->cond, &s->mutex);
  for (unsigned i = 0; !none && s->error == 0 && i < SWAP_CHILDREN; i++)
    if (!s->child[i].busy)
      c = &s->child[i];
  if (c != NULL) {
    c->busy = true;
    s->nr_busy++;
  }
  pthread_mutex_unlock (&s->mutex);
  return c;
}

static int
transfer (struct strategy *s, uint64_t nr_pages)
{
  const unsigned cluster = s->object->swap->cluster;
  struct child *c;

  pthread_mutex_init (&s->mutex, NULL);
  pthread_cond_init (&s->cond, NULL);
  for (uint64_t done = 0, n; done < nr_pages; done += n) {
    n = min_u64 (nr_pages - done, cluster);
    c = child_get (s, false);
    if (c == NULL)
      break;
    c->parent = s;
    c->first = s->first + done;
    c->nr = n;
    c->at = 0;
    child_go (c);
  }
  child_get (s, true);
  pthread_cond_destroy (&s->cond);
  pthread_mutex_destroy (&s->mutex);
  return s->error;
}

int
farpage_strategy (struct farpage_object *o, enum farpage_command command,
                  uint64_t off_bytes, size_t len_bytes, void *data)
{
  const uint64_t first = off_bytes / PAGE_BYTES, nr = len_bytes / PAGE_BYTES;
  struct strategy s = {
    .object = o, .command = command, .first = first, .data = data
  };

  if (loop_is_here (o->swap->loop))
    return EDEADLK;
  if (off_bytes % PAGE_BYTES != 0 || len_bytes % PAGE_BYTES != 0 ||
      first > o->nr_pages || nr > o->nr_pages - first)
    return EINVAL;
  switch (command) {
  case FARPAGE_FREE:
    return farpage_freespace (o, first, nr);
  case FARPAGE_READ:
  case FARPAGE_WRITE:
    return data == NULL && nr > 0 ? EINVAL : transfer (&s, nr);
  }
  return EINVAL;
}
