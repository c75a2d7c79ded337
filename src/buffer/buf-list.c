/* SPDX-License-Identifier: BSD-2-Clause */
/* Dirty buffers: a list for each type.  See buf.h and buf.c.
 *
 *   buf_list_add_locked --> first .. last --bufs_take--> running --bufs_written
 *
 * I1. A buffer is pinned while it is dirty or running: nr_pinned counts it
 *     once, though META may be both.
 * I2. A tag is set when its buffer's content is whole, and is gone before the
 *     buffer can be.
 *
 * Locks: one list's at a time.
 *
 * Not done: keeping the lists in the order of blocks, as a list is taken in
 * large pieces, and those are sorted.  qsort (): it may ask for memory, and
 * what is dirty must be written when there is none, too.
 */

#include <config.h>

#include "buf-impl.h"
#include "sabotage.h"

#include <assert.h>

/* ---- lists ---- */

void
buf_lists_init (struct bufs *bs)
{
  for (unsigned i = 0; i < BUF_TYPES; i++) {
    lock_init (&bs->lists[i].lock, LOCK_LIST, "dirty buffers");
    bs->lists[i].waiter_end = &bs->lists[i].waiter;
  }
}

void
buf_lists_fini (struct bufs *bs)
{
  for (unsigned i = 0; i < BUF_TYPES; i++) {
    assert (bs->lists[i].waiter == NULL);
    lock_destroy (&bs->lists[i].lock);
  }
}

void
buf_list_add_locked (struct bufs *bs, struct buf *b)
{
  struct buf_list *l = &bs->lists[b->type];
  struct buf_tag *tag = buf_tag (bs, b);

  assert (lock_held (&l->lock) && !(b->flags & BUF_DIRTY));
  if (tag != NULL && b->type != BUF_META &&
      !(b->type == BUF_DATA && SABOTAGE (no_data_tag)))
    atomic_store_explicit (&tag->what, buf_tag_what (b->type, b->blk),
                           memory_order_release);
  if (b->flags == 0)
    atomic_fetch_add (&l->nr_pinned, 1);
  b->flags |= BUF_DIRTY;
  b->next = NULL;
  b->prev = l->last;
  if (l->last != NULL)
    l->last->next = b;
  else
    l->first = b;
  l->last = b;
  l->nr++;
}

static void
remove_locked (struct buf_list *l, struct buf *b)
{
  if (b->prev != NULL)
    b->prev->next = b->next;
  else
    l->first = b->next;
  if (b->next != NULL)
    b->next->prev = b->prev;
  else
    l->last = b->prev;
  b->prev = b->next = NULL;
  b->flags &= ~(unsigned) BUF_DIRTY;
  l->nr--;
}

bool
buf_list_remove (struct bufs *bs, struct buf *b)
{
  struct buf_list *l = &bs->lists[b->type];

  LOCK_SCOPE (&l->lock);
  if (!(b->flags & BUF_DIRTY))
    return false;
  remove_locked (l, b);
  if (b->flags == 0)
    atomic_fetch_sub (&l->nr_pinned, 1);
  buf_data_serve_locked (bs, l); /* DATA: that may be room */
  return true;
}

void
buf_meta_dirty (struct bufs *bs, struct buf *b)
{
  struct buf_list *l = &bs->lists[BUF_META];

  assert (b->type == BUF_META);
  LOCK_SCOPE (&l->lock);
  if (b->flags & BUF_DIRTY)
    return;
  assert (!(atomic_load (&b->refs) & BUF_GONE));
  buf_ref (b);
  atomic_fetch_and (&b->refs, ~BUF_QUIET);
  buf_list_add_locked (bs, b);
}

/* ---- writing ---- */

/* b goes into the heap that begins at top, which has nothing there: the place
 * goes down to a leaf, by the greater children, and up again to where b
 * belongs, which is not far.
 */
static void
sift (struct buf **heap, unsigned top, unsigned nr, struct buf *b)
{
  unsigned i = top, child;

  for (; (child = 2 * i + 2) < nr; i = child) {
    child -= heap[child]->blk < heap[child - 1]->blk;
    heap[i] = heap[child];
  }
  if (child == nr) {
    heap[i] = heap[nr - 1];
    i = nr - 1;
  }
  for (; i > top && heap[(i - 1) / 2]->blk < b->blk; i = (i - 1) / 2)
    heap[i] = heap[(i - 1) / 2];
  heap[i] = b;
}

void
bufs_sort (struct buf **to, unsigned nr)
{
  unsigned i = 1;

  while (i < nr && to[i - 1]->blk <= to[i]->blk)
    i++;
  if (i >= nr)
    return;
  for (i = nr / 2; i-- > 0;)
    sift (to, i, nr, to[i]);
  for (i = nr - 1; i > 0; i--) {
    struct buf *b = to[i];

    to[i] = to[0];
    sift (to, 0, i, b);
  }
}

unsigned
bufs_take (struct bufs *bs, enum buf_type type, struct buf **to, unsigned max)
{
  struct buf_list *l = &bs->lists[type];
  unsigned nr = 0;

  lock_acquire (&l->lock);
  while (nr < max && l->first != NULL) {
    struct buf *b = l->first;

    assert (!(b->flags & BUF_RUNNING));
    remove_locked (l, b);
    b->flags |= BUF_RUNNING;
    if (SABOTAGE (untag_early))
      buf_untag (bs, b);
    to[nr++] = b;
  }
  l->nr_running += nr;
  l->woken = false;
  lock_release (&l->lock);
  if (type == BUF_DATA)
    bufs_sort (to, nr);
  return nr;
}

void
bufs_written (struct bufs *bs, struct buf *const *bufs, unsigned nr)
{
  struct buf_list *l = &bs->lists[bufs[0]->type];
  bool wake;

  for (unsigned i = 0; i < nr; i++)
    buf_untag (bs, bufs[i]);
  lock_acquire (&l->lock);
  for (unsigned i = 0; i < nr; i++) {
    struct buf *b = bufs[i];

    assert (b->type == bufs[0]->type && (b->flags & BUF_RUNNING));
    b->flags &= ~(unsigned) BUF_RUNNING;
    if (b->flags == 0)
      atomic_fetch_sub (&l->nr_pinned, 1);
  }
  l->nr_running -= nr;
  buf_data_serve_locked (bs, l);
  wake = l->waiter != NULL && l->nr_running == 0 && l->nr > 0;
  lock_release (&l->lock);
  if (wake)
    buf_data_wake (bs);
  for (unsigned i = 0; i < nr; i++)
    buf_put (bs, bufs[i]);
}
