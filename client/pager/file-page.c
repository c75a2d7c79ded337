/* SPDX-License-Identifier: BSD-2-Clause */
/* A file's pages, as somebody has them who looks after its cache himself:
 * getpages, putpages, haspage.  On the caller's thread, under the lock; aio
 * calls go on on the loop, after each read or write that ends.
 *
 *   aio: op ── step: what is there is OK, what is not begins to be read ──┐
 *         ▲                                                               │
 *         └───────────────── a read or write has ended ◀──────────────────┘
 *   sync: the same with the thread asleep in between
 *
 * Results of a get: OK: valid, in memory; BAD: behind the end; ERROR: a read of
 * it alone failed.  Of a put: OK: not dirty any more (SYNC), or nothing was;
 * PEND: on its way, a sync tells how it ended; AGAIN: only a part of it could
 * be written, and that is clean; ERROR: dirty as before.
 *
 *   flag         in NBD's terms                          the page after it
 *   (none)       WRITE now                               stays
 *   SYNC         WRITE, FLUSH as soon as it is answered  stays
 *   INVAL        the same                                is dropped
 *   NOREUSE      WRITE now                               the next to be used
 *                                                        again
 *   CLUSTER_OK   WRITE with others, within a second      stays
 *
 * Where few pages can be had every put is a SYNC, so that who makes them dirty
 * faster than they leave waits.
 */

#include <config.h>

#include "file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- get ---- */

/* PEND: not yet. */
static enum farpage_result
look_at (struct farpage_file *f, const struct file_wish *wish, pgno_t pgno)
{
  const struct file_waiter *w = &wish->waiter;
  struct page *p;

  if (f->dead)
    return FARPAGE_ERROR;
  if (pgno >= file_nr_pages (f))
    return FARPAGE_BAD;
  p = page_find (f->pages, pgno);
  if (p == NULL || p->state == PAGE_BUSY || p->valid != PAGE_BITS_ALL)
    return w->error != 0 && w->bad == pgno ? FARPAGE_ERROR : FARPAGE_PEND;
  if (wish->to != NULL) /* it is not wanted here any more */
    page_copy (wish->to + (pgno - w->first) * PAGE_BYTES, p->data, 1);
  else
    page_touch (f->pages, p);
  return FARPAGE_OK;
}

unsigned
file_step (struct farpage_file *f, struct file_wish *wish, unsigned *behind,
           unsigned *ahead)
{
  struct file_waiter *w = &wish->waiter;
  enum farpage_result *result = wish->result;
  unsigned none[2] = { 0, 0 }, left = 0;

  for (unsigned i = 0; i < w->end - w->first; i++) {
    const pgno_t pgno = w->first + i;
    unsigned count = 1;

    if (result[i] != FARPAGE_PEND)
      continue;
    result[i] = look_at (f, wish, pgno);
    if (result[i] != FARPAGE_PEND)
      continue;
    while (!w->alone && pgno + count < w->end &&
           pgno + count < file_nr_pages (f) &&
           result[i + count] == FARPAGE_PEND)
      count++;
    if (w->alone)
      *behind = *ahead = 0;
    if (file_get (f, pgno, count, behind, ahead) == 0)
      result[i] = look_at (f, wish, pgno); /* a hole */
    else if (file_no_room (f, &wish->room) != 0)
      result[i] = FARPAGE_ERROR;
    left += result[i] == FARPAGE_PEND;
    behind = &none[0]; /* they go with the first */
    ahead = &none[1];
  }
  w->error = 0;
  assert (left == 0 || f->nr_reads + f->nr_writes > 0);
  return left;
}

static int
check_count (const struct farpage_file *f, unsigned count)
{
  return count == 0 || count > FARPAGE_COUNT_MAX || count > f->pages->nr / 2
             ? EINVAL
             : 0;
}

int
farpage_file_getpages (struct farpage_file *f, uint64_t first, unsigned count,
                       unsigned *behind, unsigned *ahead,
                       enum farpage_result results[])
{
  struct file_wish wish = { .waiter = { .first = first, .end = first + count },
                            .result = results };
  unsigned no_behind = 0, no_ahead = 0;
  unsigned *b = behind != NULL ? behind : &no_behind;
  unsigned *a = ahead != NULL ? ahead : &no_ahead;
  unsigned want_b = *b, want_a = *a;
  bool is_first = true;

  if (loop_is_here (f->loop))
    return EDEADLK;
  if (check_count (f, count) != 0 || first + count < first)
    return EINVAL;
  for (unsigned i = 0; i < count; i++)
    results[i] = FARPAGE_PEND;
  pthread_mutex_lock (&f->lock);
  file_waiter_add (f, &wish.waiter);
  *b = *a = 0;
  while (file_step (f, &wish, &want_b, &want_a) > 0) {
    if (is_first) { /* what went with the first read is told */
      *b = want_b;
      *a = want_a;
    }
    is_first = false;
    want_b = want_a = 0;
    (void) file_wait (f);
  }
  file_waiter_remove (f, &wish.waiter);
  pthread_mutex_unlock (&f->lock);
  return 0;
}

/* ---- aio ---- */

static void
tell (struct file_op *op)
{
  const struct file_waiter *w = &op->wish.waiter;

  for (unsigned i = 0; op->fn != NULL && i < w->end - w->first; i++)
    op->fn (op->arg, w->first + i, op->result[i]);
  free (op);
}

/* [loop] */
void
file_ops_go (struct farpage_file *f)
{
  struct file_op **at, *over = NULL, *op;

  pthread_mutex_lock (&f->lock);
  for (at = &f->ops; (op = *at) != NULL;) {
    if (op->step (op) > 0) {
      at = &op->next;
      continue;
    }
    *at = op->next;
    f->nr_ops--;
    file_waiter_remove (f, &op->wish.waiter);
    op->next = over;
    over = op;
  }
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->lock);
  while ((op = over) != NULL) {
    over = op->next;
    tell (op);
  }
}

void
file_op_begin (struct job *job)
{
  struct file_op *op = (struct file_op *) job;
  struct farpage_file *f = op->file;
  unsigned left;

  pthread_mutex_lock (&f->lock);
  file_waiter_add (f, &op->wish.waiter);
  left = op->step (op);
  op->next = f->ops;
  f->ops = op;
  pthread_mutex_unlock (&f->lock);
  if (left == 0)
    file_ops_go (f);
}

struct file_op *
file_op_make (struct farpage_file *f, pgno_t first, unsigned count,
              farpage_page_fn *fn, void *arg)
{
  struct file_op *op = malloc (sizeof *op + count * sizeof op->result[0]);

  if (op == NULL)
    return NULL;
  *op = (struct file_op){ .job.fn = file_op_begin,
                          .file = f,
                          .wish = { .waiter = { .first = first,
                                                .end = first + count },
                                    .result = op->result },
                          .fn = fn,
                          .arg = arg };
  for (unsigned i = 0; i < count; i++)
    op->result[i] = FARPAGE_PEND;
  pthread_mutex_lock (&f->lock);
  f->nr_ops++;
  pthread_mutex_unlock (&f->lock);
  return op;
}

static unsigned
get_step (struct file_op *op)
{
  unsigned left = file_step (op->file, &op->wish, &op->behind, &op->ahead);

  op->behind = op->ahead = 0;
  return left;
}

int
farpage_file_aio_getpages (struct farpage_file *f, uint64_t first,
                           unsigned count, unsigned behind, unsigned ahead,
                           farpage_page_fn *fn, void *arg)
{
  struct file_op *op;

  if (check_count (f, count) != 0 || first + count < first)
    return EINVAL;
  op = file_op_make (f, first, count, fn, arg);
  if (op == NULL)
    return ENOMEM;
  op->step = get_step;
  op->behind = behind;
  op->ahead = ahead;
  loop_post (f->loop, &op->job);
  return 0;
}

/* ---- put ---- */

static enum farpage_result
put_result (struct farpage_file *f, const struct file_waiter *w, pgno_t pgno,
            int flags)
{
  struct page *p;

  if (f->dead)
    return FARPAGE_ERROR;
  if (pgno >= file_nr_pages (f))
    return FARPAGE_BAD;
  p = page_find (f->pages, pgno);
  if (p == NULL)
    return FARPAGE_OK;
  if (p->writing != 0 || (p->dirty != 0 && (flags & FARPAGE_SYNC) == 0))
    return FARPAGE_PEND;
  if (p->dirty != 0)
    return w->put_error != 0 ? FARPAGE_ERROR : FARPAGE_AGAIN;
  if ((flags & FARPAGE_INVAL) != 0 && p->state != PAGE_BUSY)
    page_drop (f->pages, p);
  return FARPAGE_OK;
}

static void
put_now (struct farpage_file *f, const struct file_waiter *w, int flags)
{
  const struct file_put how = { .idle = (flags & FARPAGE_NOREUSE) != 0 };

  for (pgno_t pgno = w->first; pgno < w->end; pgno++) {
    struct page *p = page_find (f->pages, pgno);

    if (p != NULL && p->state != PAGE_BUSY && p->dirty != 0 && p->writing == 0)
      (void) file_put_row (f, p, &how); /* what has no room is PEND */
  }
}

int
farpage_file_putpages (struct farpage_file *f, uint64_t first, unsigned count,
                       int flags, enum farpage_result results[])
{
  struct file_waiter w = { .first = first, .end = first + count };
  struct file_put how = { .sync = true };

  if (loop_is_here (f->loop))
    return EDEADLK;
  if (check_count (f, count) != 0 || w.end < first ||
      (flags & ~(FARPAGE_SYNC | FARPAGE_INVAL | FARPAGE_NOREUSE |
                 FARPAGE_CLUSTER_OK)) != 0)
    return EINVAL;
  pthread_mutex_lock (&f->lock);
  file_waiter_add (f, &w);
  if ((flags & FARPAGE_INVAL) != 0 || file_nr_to_be_had (f) < f->floor)
    flags |= FARPAGE_SYNC;
  how.idle = (flags & (FARPAGE_NOREUSE | FARPAGE_INVAL)) != 0;
  if ((flags & FARPAGE_SYNC) != 0)
    (void) file_put_range (f, first, w.end, &how);
  else if ((flags & FARPAGE_CLUSTER_OK) == 0 && !f->dead)
    put_now (f, &w, flags);
  for (unsigned i = 0; i < count; i++)
    results[i] = put_result (f, &w, first + i, flags);
  file_waiter_remove (f, &w);
  pthread_mutex_unlock (&f->lock);
  return 0;
}

/* ---- has ---- */

bool
farpage_file_haspage (struct farpage_file *f, uint64_t page, unsigned *before,
                      unsigned *after)
{
  uint64_t begin, end, nr;
  bool has = false;

  if (loop_is_here (f->loop))
    return false;
  pthread_mutex_lock (&f->lock);
  nr = file_nr_pages (f);
  if (!f->dead && page < nr) {
    (void) file_find_out (f, page * PAGE_BYTES, FILE_STATUS_SPAN, &begin, &end);
    nr = file_nr_pages (f);
    has = !f->dead && page < nr &&
          (!file_is_hole (f, page) || page_find (f->pages, page) != NULL);
  }
  if (has) {
    uint64_t from = begin / PAGE_BYTES;
    uint64_t to = min_u64 (end / PAGE_BYTES + (end % PAGE_BYTES != 0), nr);

    if (before != NULL)
      *before = (unsigned) min_u64 (page - from, UINT32_MAX);
    if (after != NULL)
      *after = (unsigned) min_u64 (to - 1 - page, UINT32_MAX);
  }
  pthread_mutex_unlock (&f->lock);
  return has;
}
