/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers of types DATA, UNDO and VOLUME, and who waits for room in DATA's
 * share.  See buf.h and buf.c.
 *
 *                 reserved        dirty          running
 *   buf_data_get --------> .. add ----> list take ----> .. written --> clean
 *     |                                                       |
 *     waiter --> waiter  <--------- room, first come ---------'
 *
 * I1. nr_reserved + nr_pinned <= dirty_max for DATA, pinned being dirty or
 *     running.  Each reserved page has a buffer in its caller's hands, so that
 *     buf_data_add () neither waits nor evicts nor fails.
 * I2. Nobody passes a waiter: room goes to the first until it has what it
 *     needs.
 * I3. While somebody waits and there is dirty DATA that nobody writes, wake
 *     was called after the last of it came.
 * I4. At most one DATA buffer of a block can be found, and it is the newest
 *     content.  What it displaces is clean as a rule, for a block is free
 *     only when its record is durable; but it need not be: a block that was
 *     given up before it had a record is forgotten here, tag first.
 *
 * Locks: a part's, then a list's.  wake is called with neither.
 */

#include <config.h>

#include "buf-impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "task.h"
#include "sabotage.h"

/* ---- room ---- */

void
buf_data_wake (struct bufs *bs)
{
  if (bs->config.wake != NULL)
    bs->config.wake (bs->config.arg);
}

static bool
fits_locked (struct bufs *bs, const struct buf_list *l, unsigned nr)
{
  return l->nr_reserved + atomic_load (&l->nr_pinned) + nr <=
         bs->dirty_max[BUF_DATA];
}

void
buf_data_serve_locked (struct bufs *bs, struct buf_list *l)
{
  bool failed = atomic_load (&bs->failed);

  while (l->waiter != NULL && (failed || fits_locked (bs, l, l->waiter->nr))) {
    struct data_waiter *w = l->waiter;

    l->waiter = w->next;
    if (l->waiter == NULL)
      l->waiter_end = &l->waiter;
    if (!failed)
      l->nr_reserved += w->nr;
    w->failed = failed;
    w->over = true;
    cond_broadcast (&w->cond);
  }
}

/* Queue, and wait.  Lock: needs the list's; lets go of it meanwhile. */
static int
wait_locked (struct bufs *bs, struct buf_list *l, unsigned nr)
{
  struct data_waiter w = { .nr = nr };

  cond_init (&w.cond);
  *l->waiter_end = &w;
  l->waiter_end = &w.next;
  lock_release (&l->lock);
  buf_data_wake (bs);
  lock_acquire (&l->lock);
  while (!w.over)
    cond_wait (&w.cond, &l->lock);
  cond_destroy (&w.cond);
  return w.failed ? EIO : 0;
}

static int
reserve (struct bufs *bs, unsigned nr)
{
  struct buf_list *l = &bs->lists[BUF_DATA];

  LOCK_SCOPE (&l->lock);
  if (atomic_load (&bs->failed))
    return EIO;
  if (l->waiter != NULL || !fits_locked (bs, l, nr))
    return wait_locked (bs, l, nr);
  l->nr_reserved += nr;
  return 0;
}

static void
unreserve (struct bufs *bs, unsigned nr)
{
  struct buf_list *l = &bs->lists[BUF_DATA];

  LOCK_SCOPE (&l->lock);
  assert (l->nr_reserved >= nr);
  l->nr_reserved -= nr;
  buf_data_serve_locked (bs, l);
}

int
buf_data_get (struct bufs *bs, struct buf **to, unsigned nr)
{
  unsigned done;
  int err;

  assert (nr <= bs->dirty_max[BUF_DATA]);
  err = reserve (bs, nr);
  if (err)
    return err;
  done = bufs_new (bs, BUF_DATA, to, nr);
  if (done == nr)
    return 0;
  for (unsigned i = 0; i < done; i++)
    buf_put (bs, to[i]);
  unreserve (bs, nr);
  return EIO;
}

void
buf_data_unget (struct bufs *bs, struct buf *const *bufs, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++)
    buf_put (bs, bufs[i]);
  unreserve (bs, nr);
}

void
bufs_fail (struct bufs *bs)
{
  struct buf_list *l = &bs->lists[BUF_DATA];

  atomic_store (&bs->failed, true);
  LOCK_SCOPE (&l->lock);
  buf_data_serve_locked (bs, l);
}

/* ---- pages ---- */

/* The buffer of blk leaves the hash; returned with a reference, and gone when
 * that is put.  NULL: there is none.  Lock: needs the bucket's.
 */
static struct buf *
displace_locked (struct bufs *bs, uint32_t bucket, uint64_t blk)
{
  struct buf *old = buf_find_block (bs, bucket, blk);

  if (old == NULL)
    return NULL;
  atomic_fetch_add (&old->refs, 1);
  buf_hash_remove (bs, old);
  atomic_fetch_or (&old->refs, BUF_GONE);
  return old;
}

static bool
is_running (struct bufs *bs, const struct buf *b)
{
  LOCK_SCOPE (&bs->lists[BUF_DATA].lock);
  return b->flags & BUF_RUNNING;
}

/* What was displaced is of no use to anybody (I4).  With wait, it is on its
 * way to the volume no more.
 */
static void
forget (struct bufs *bs, struct buf *old, bool wait)
{
  if (old == NULL)
    return;
  buf_untag (bs, old);
  if (buf_list_remove (bs, old))
    buf_put (bs, old);
  while (wait && is_running (bs, old) && !atomic_load (&bs->failed))
    task_sleep (BUF_NAP_NS);
  buf_put (bs, old);
}

/* They are dirty; is it time that somebody wrote? */
static bool
add_dirty (struct bufs *bs, struct buf *const *bufs, unsigned nr)
{
  struct buf_list *l = &bs->lists[BUF_DATA];

  LOCK_SCOPE (&l->lock);
  assert (l->nr_reserved >= nr);
  l->nr_reserved -= nr;
  for (unsigned i = 0; i < nr; i++)
    buf_list_add_locked (bs, bufs[i]);
  if (l->waiter == NULL && (l->woken || l->nr < bs->wake_at))
    return false;
  l->woken = true;
  return true;
}

static void
enter (struct bufs *bs, struct buf *b, uint64_t blk)
{
  uint32_t bucket = buf_bucket_of_block (bs, blk);
  struct part *p = buf_part (bs, bucket);
  struct buf *old;

  b->blk = blk;
  atomic_fetch_and_explicit (&b->refs, ~BUF_GONE, memory_order_relaxed);
  lock_acquire (&p->lock);
  old = displace_locked (bs, bucket, blk);
  buf_hash_add (bs, bucket, b);
  lock_release (&p->lock);
  forget (bs, old, false);
}

void
buf_data_add (struct bufs *bs, struct buf *const *bufs, unsigned nr,
              uint64_t blk)
{
  for (unsigned i = 0; i < nr; i++)
    enter (bs, bufs[i], blk + i);
  if (add_dirty (bs, bufs, nr))
    buf_data_wake (bs);
}

bool
bufs_have_data (struct bufs *bs)
{
  return atomic_load_explicit (&bs->nr_type[BUF_DATA], memory_order_relaxed) !=
         0;
}

bool
buf_data_read (struct bufs *bs, uint64_t blk, void *page)
{
  uint32_t bucket = buf_bucket_of_block (bs, blk);
  struct part *p = buf_part (bs, bucket);
  struct buf *b;

  lock_acquire (&p->lock);
  b = buf_find_block (bs, bucket, blk);
  if (b != NULL) {
    atomic_fetch_add_explicit (&b->refs, 1, memory_order_relaxed);
    atomic_store_explicit (&b->touched, true, memory_order_relaxed);
    p->nr_hits++;
  }
  lock_release (&p->lock);
  if (b == NULL)
    return false;
  page_copy (page, b->data, 1);
  buf_put (bs, b);
  return true;
}

void
buf_data_drop (struct bufs *bs, uint64_t blk, uint64_t nr)
{
  for (uint64_t i = 0; i < nr && !SABOTAGE (keep_old_page); i++) {
    uint32_t bucket = buf_bucket_of_block (bs, blk + i);
    struct part *p = buf_part (bs, bucket);
    struct buf *old;

    if (!bufs_have_data (bs))
      return;
    lock_acquire (&p->lock);
    old = displace_locked (bs, bucket, blk + i);
    lock_release (&p->lock);
    forget (bs, old, true);
  }
}

/* ---- log blocks and slots ---- */

struct buf *
buf_undo_new (struct bufs *bs, uint64_t lsn)
{
  struct buf *b = buf_new (bs, BUF_UNDO);

  assert (b != NULL); /* its share is kept free */
  b->blk = lsn;
  atomic_store_explicit (&b->refs, BUF_GONE | 1, memory_order_relaxed);
  memset (b->data, 0, BUF_BYTES);
  LOCK_SCOPE (&bs->lists[BUF_UNDO].lock);
  buf_list_add_locked (bs, b);
  return b;
}

struct buf *
buf_volume (struct bufs *bs, unsigned volume)
{
  assert (volume < bs->config.nr_volumes);
  return &bs->bufs[volume];
}
