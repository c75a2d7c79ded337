/* SPDX-License-Identifier: BSD-2-Clause */
/* The books of the buffers: all that buf.c, buf-list.c and buf-data.c say is
 * always so, walked and recounted.  For tests, and for who has stopped
 * everybody else.
 *
 * Locks: none, so nobody is at work.
 */

#include <config.h>

#include "buf-impl.h"

/* What the descriptors say, to be compared with the counters. */
struct count {
  uint64_t type[BUF_TYPES], pinned[BUF_TYPES], running[BUF_TYPES];
  uint64_t hashed, dirty;
  uint64_t hand; /* DATA that is new */
};

static unsigned
count_of (struct buf *b)
{
  return atomic_load (&b->refs) & BUF_COUNT;
}

static bool
is_hashed (struct buf *b)
{
  return atomic_load (&b->bucket) != BUCKET_NONE;
}

static bool
is_gone (struct buf *b)
{
  return atomic_load (&b->refs) & BUF_GONE;
}

static uint64_t
tag_of (struct bufs *bs, struct buf *b)
{
  struct buf_tag *tag = buf_tag (bs, b);

  return tag != NULL ? atomic_load (&tag->what) : 0;
}

/* ---- one buffer ---- */

static const char *
check_tag (struct bufs *bs, struct buf *b)
{
  bool tagged = (b->type == BUF_UNDO && b->flags != 0) ||
                (b->type == BUF_DATA && b->flags != 0 && !is_gone (b));
  uint64_t want = tagged ? buf_tag_what (b->type, b->blk) : 0;

  if (bs->config.tags != NULL && tag_of (bs, b) != want)
    return "a tag is wrong";
  return NULL;
}

static const char *
check_free (struct buf *b)
{
  if (atomic_load (&b->refs) != 0 || b->flags != 0)
    return "a free buffer is in use";
  return is_hashed (b) ? "a free buffer is in the hash" : NULL;
}

static const char *
check_buf (struct bufs *bs, struct buf *b)
{
  unsigned least = !!(b->flags & BUF_DIRTY) + !!(b->flags & BUF_RUNNING);

  if (b->data != bs->memory + (size_t) (b - bs->bufs) * BUF_BYTES)
    return "a buffer's page is not its own";
  if (b->type == BUF_FREE)
    return check_free (b);
  if (count_of (b) < least)
    return "a dirty buffer has too few references";
  if (is_gone (b) && (count_of (b) == 0 || is_hashed (b)))
    return "a buffer that is gone is still there";
  if (!is_gone (b) && is_hashed (b) != (b->type != BUF_VOLUME))
    return "a buffer can not be found";
  if (b->type == BUF_UNDO && !is_gone (b))
    return "a log block can be found";
  if (b->type != BUF_META && least == 2)
    return "a page is dirty while it is written";
  if (b->image != NULL && (b->type != BUF_META || !b->cut))
    return "an image of a node that is not cut";
  return NULL;
}

static const char *
check_bufs (struct bufs *bs, struct count *n)
{
  for (unsigned i = 0; i < bs->nr; i++) {
    struct buf *b = &bs->bufs[i];
    const char *why = check_buf (bs, b);

    if (why == NULL)
      why = check_tag (bs, b);
    if (why != NULL)
      return why;
    n->type[b->type]++;
    n->pinned[b->type] += b->flags != 0;
    n->running[b->type] += !!(b->flags & BUF_RUNNING);
    n->dirty += !!(b->flags & BUF_DIRTY);
    n->hashed += is_hashed (b);
    n->hand += b->type == BUF_DATA && b->flags == 0 && is_gone (b);
  }
  return NULL;
}

/* ---- hash and lists ---- */

static bool
same_key (const struct buf *a, const struct buf *b)
{
  if (a->type != b->type)
    return false;
  if (a->type == BUF_DATA)
    return a->blk == b->blk;
  return a->id.tree == b->id.tree && a->id.index == b->id.index &&
         a->id.level == b->id.level;
}

static const char *
check_bucket (struct bufs *bs, uint32_t bucket, struct count *n)
{
  for (struct buf *b = bs->buckets[bucket]; b != NULL; b = b->next_hash) {
    uint32_t own = b->type == BUF_DATA ? buf_bucket_of_block (bs, b->blk)
                                       : buf_bucket_of_node (bs, &b->id);

    if (own != bucket || atomic_load (&b->bucket) != bucket)
      return "a buffer is in a wrong bucket";
    for (struct buf *o = b->next_hash; o != NULL; o = o->next_hash)
      if (same_key (o, b))
        return "two buffers have the same";
    if (n->hashed-- == 0)
      return "a bucket has more than there is";
  }
  return NULL;
}

static const char *
check_hash (struct bufs *bs, struct count *n)
{
  const char *why = NULL;

  for (uint32_t i = 0; i < bs->nr_buckets && why == NULL; i++)
    why = check_bucket (bs, i, n);
  if (why == NULL && n->hashed != 0)
    why = "a buffer is in no bucket";
  return why;
}

static const char *
check_list (struct bufs *bs, enum buf_type type, struct count *n)
{
  struct buf_list *l = &bs->lists[type];
  struct buf *prev = NULL;
  uint64_t nr = 0;

  for (struct buf *b = l->first; b != NULL; prev = b, b = b->next, nr++) {
    if (b->type != type || !(b->flags & BUF_DIRTY) || b->prev != prev)
      return "a dirty list is broken";
    if (type == BUF_UNDO && prev != NULL && prev->blk >= b->blk)
      return "log blocks are out of order";
    if (n->dirty-- == 0)
      return "a dirty list has more than there is";
  }
  if (prev != l->last || nr != l->nr)
    return "a dirty list is miscounted";
  if (n->running[type] != l->nr_running ||
      n->pinned[type] != atomic_load (&l->nr_pinned))
    return "dirty buffers are miscounted";
  return NULL;
}

static const char *
check_lists (struct bufs *bs, struct count *n)
{
  const char *why = NULL;

  for (unsigned i = BUF_VOLUME; i < BUF_TYPES && why == NULL; i++) {
    why = check_list (bs, i, n);
    if (why == NULL && n->type[i] != atomic_load (&bs->nr_type[i]))
      why = "buffers of a type are miscounted";
  }
  if (why == NULL && n->dirty != 0)
    why = "a dirty buffer is on no list";
  return why;
}

/* ---- shares ---- */

static const char *
check_shares (struct bufs *bs, const struct count *n)
{
  struct buf_list *l = &bs->lists[BUF_DATA];
  uint64_t undo = bs->dirty_max[BUF_UNDO], nr = 0;

  for (struct buf *b = bs->free.first; b != NULL; b = b->next)
    if (b->type != BUF_FREE || nr++ == bs->nr)
      return "the free list is broken";
  if (nr != bs->free.nr || nr != n->type[BUF_FREE])
    return "free buffers are miscounted";
  if (n->type[BUF_UNDO] != bs->free.nr_undo)
    return "log blocks are miscounted";
  if (l->nr_reserved != n->hand)
    return "a reserved page has no buffer";
  if (l->nr_reserved + n->pinned[BUF_DATA] > bs->dirty_max[BUF_DATA])
    return "pages have more than their share";
  undo -= min_u64 (undo, n->type[BUF_UNDO]);
  if (nr < undo)
    return "too few buffers are free";
  if (l->waiter != NULL &&
      l->nr_reserved + n->pinned[BUF_DATA] + l->waiter->nr <=
          bs->dirty_max[BUF_DATA])
    return "somebody waits for room that is there";
  return NULL;
}

const char *
bufs_check (struct bufs *bs)
{
  struct count n = { .hashed = 0 };
  const char *why = check_bufs (bs, &n);

  if (why == NULL)
    why = check_hash (bs, &n);
  if (why == NULL)
    why = check_lists (bs, &n);
  if (why == NULL)
    why = check_shares (bs, &n);
  return why;
}
