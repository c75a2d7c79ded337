/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers of type META: nodes of trees.  See buf.h and buf.c.
 *
 * Called by tree.c, flush.c and recover.c; calls volume_read.
 *
 *   buf_meta_get --> found --------------------------------> node
 *                \-> load: new buffer, read, judge, hash --/
 *
 * I1. A node is in one buffer at most that can be found, for its content's
 *     lock is held by who loads it.  A load fills a buffer that nobody sees;
 *     should two load one node all the same, the second takes the first's.
 * I2. A clean node's bytes are those on its volume: it was judged when it was
 *     read, or sealed in its buffer when it was written.
 *
 * Locks: a part's for a look, never over I/O.
 *
 * Not done: judging what a node holds.  Its tree does.
 */

#include <config.h>

#include "buf-impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crc32c.h"
#include "log.h"
#include "sabotage.h"

/* ---- nodes as they lie on a volume ---- */

static bool
all_zero (const uint8_t *p, size_t bytes)
{
  while (bytes > 0 && *p == 0)
    p++, bytes--;
  return bytes == 0;
}

const char *
buf_node_error (const struct disk_node *node, const uint8_t *uuid,
                const struct buf_id *id, unsigned type, uint64_t blk)
{
  if (node->magic != DISK_NODE_MAGIC)
    return "is no node";
  if (node->crc != crc32c (0, node, DISK_CRC_OFF))
    return "its checksum is wrong";
  if (node->version != 1)
    return "its version is unknown";
  if (uuid != NULL && memcmp (node->uuid, uuid, sizeof node->uuid) != 0)
    return "belongs to another store";
  if (node->blk != blk)
    return "was written for another block";
  if (id != NULL && node->tree != id->tree)
    return "belongs to another tree";
  if (id != NULL && node->level != id->level)
    return "belongs to another level";
  if (id != NULL && node->index != id->index)
    return "has another index";
  if (type != 0 && node->type != type)
    return "has another type";
  if (node->spare0 != 0 || !all_zero (node->seal, sizeof node->seal) ||
      !all_zero (node->spare1, sizeof node->spare1) ||
      !all_zero (node->spare2, sizeof node->spare2))
    return "its spare bytes are not zero";
  return NULL;
}

void
buf_meta_seal (struct buf *b, uint64_t cycle, void *to)
{
  struct disk_node *node = (struct disk_node *) b->data;

  assert (node->magic == DISK_NODE_MAGIC && node->blk == b->blk);
  if (!SABOTAGE (seal_old_cycle) || node->cycle == 0)
    node->cycle = cycle;
  node->crc = crc32c (0, node, DISK_CRC_OFF);
  if (to != NULL && to != node)
    memcpy (to, node, sizeof *node);
}

/* ---- the hash ---- */

/* Lock: needs the part's. */
static void
found_locked (struct part *p, struct buf *b, bool quiet)
{
  atomic_fetch_add_explicit (&b->refs, 1, memory_order_relaxed);
  p->nr_hits++;
  if (quiet)
    return;
  if (!atomic_load_explicit (&b->touched, memory_order_relaxed))
    atomic_store_explicit (&b->touched, true, memory_order_relaxed);
  if (atomic_load_explicit (&b->refs, memory_order_relaxed) & BUF_QUIET)
    atomic_fetch_and_explicit (&b->refs, ~BUF_QUIET, memory_order_relaxed);
}

static struct buf *
find (struct bufs *bs, const struct buf_id *id, bool quiet)
{
  uint32_t bucket = buf_bucket_of_node (bs, id);
  struct part *p = buf_part (bs, bucket);
  struct buf *b;

  LOCK_SCOPE (&p->lock);
  b = buf_find_node (bs, bucket, id);
  if (b != NULL)
    found_locked (p, b, quiet);
  return b;
}

struct buf *
buf_meta_find (struct bufs *bs, const struct buf_id *id)
{
  return find (bs, id, false);
}

/* Let b be found; or, if another was quicker (I1), free it for the other. */
static struct buf *
publish (struct bufs *bs, struct buf *b, bool quiet)
{
  uint32_t bucket = buf_bucket_of_node (bs, &b->id);
  struct part *p = buf_part (bs, bucket);
  struct buf *other;

  atomic_store_explicit (&b->refs, quiet ? BUF_QUIET | 1 : 1,
                         memory_order_relaxed);
  lock_acquire (&p->lock);
  other = buf_find_node (bs, bucket, &b->id);
  if (other != NULL)
    found_locked (p, other, quiet);
  else
    buf_hash_add (bs, bucket, b);
  lock_release (&p->lock);
  if (other == NULL)
    return b;
  buf_free_new (bs, b);
  return other;
}

/* ---- loading ---- */

void
bufs_set_source (struct bufs *bs, bufs_source fn, void *arg)
{
  bs->source = fn;
  bs->source_arg = arg;
}

static int
read_node (struct bufs *bs, uint64_t blk, void *page)
{
  int err = ENOENT;

  if (bs->source != NULL)
    err = bs->source (bs->source_arg, blk, page);
  if (err == ENOENT)
    err = volume_read (bs->config.volumes[blkno_volume (blk)],
                       blkno_place (blk) * BUF_BYTES, page, BUF_BYTES);
  return err;
}

/* A node is not what it should be: tell it. */
static int
bad_node (struct bufs *bs, const struct buf_id *id,
          const struct disk_pointer *at, const char *why)
{
  unsigned volume = blkno_volume (at->blk);

  log_limited (&bs->bad_limit, LOG_ERROR,
               "%s: block %" PRIu64 ": node %" PRIu64 " of tree %" PRIu64
               ", level %u: %s (run 'farpage check')",
               volume < bs->config.nr_volumes ? bs->config.volumes[volume]->name
                                              : "no volume",
               blkno_place (at->blk), id->index, id->tree, id->level, why);
  return EIO;
}

bool
bufs_has_block (const struct bufs *bs, uint64_t blk)
{
  return blk >> 60 == 0 && blkno_volume (blk) < bs->config.nr_volumes &&
         blkno_place (blk) <
             bs->config.volumes[blkno_volume (blk)]->size_bytes / BUF_BYTES;
}

static int
load (struct bufs *bs, const struct buf_id *id, enum disk_node_type type,
      const struct disk_pointer *at, struct buf *b)
{
  const struct disk_node *node = (const struct disk_node *) b->data;
  const char *why;

  b->id = *id;
  b->blk = at->blk;
  if (read_node (bs, at->blk, b->data) != 0)
    return bad_node (bs, id, at, "cannot be read");
  why = buf_node_error (node, bs->uuid, id, type, at->blk);
  if (why == NULL && node->cycle != at->cycle && !SABOTAGE (no_cycle_check))
    why = node->cycle < at->cycle ? "is older than what points to it"
                                  : "is newer than what points to it";
  return why != NULL ? bad_node (bs, id, at, why) : 0;
}

int
buf_meta_get (struct bufs *bs, const struct buf_id *id,
              enum disk_node_type type, const struct disk_pointer *at,
              bool quiet, struct buf **bp)
{
  struct buf *b = find (bs, id, quiet);
  int err;

  if (b == NULL) {
    if (!bufs_has_block (bs, at->blk))
      return bad_node (bs, id, at, "no such block");
    b = buf_new (bs, BUF_META);
    if (b == NULL)
      return EIO;
    err = load (bs, id, type, at, b);
    if (err) {
      buf_free_new (bs, b);
      return err;
    }
    b = publish (bs, b, quiet);
    atomic_fetch_add_explicit (&bs->nr_loads, 1, memory_order_relaxed);
  }
  if (b->blk != at->blk) {
    buf_put (bs, b);
    return bad_node (bs, id, at, "is known at another block");
  }
  *bp = b;
  return 0;
}

/* ---- making and dropping ---- */

struct buf *
buf_meta_new (struct bufs *bs, const struct buf_id *id,
              enum disk_node_type type, uint64_t blk)
{
  struct buf *b = buf_new (bs, BUF_META), *same;
  struct disk_node *node;

  if (b == NULL)
    return NULL;
  assert (bufs_has_block (bs, blk));
  b->id = *id;
  b->blk = blk;
  node = (struct disk_node *) b->data;
  memset (node, 0, sizeof *node);
  node->magic = DISK_NODE_MAGIC;
  node->version = 1;
  node->type = (uint8_t) type;
  node->level = (uint8_t) id->level;
  node->blk = blk;
  node->tree = id->tree;
  node->index = id->index;
  memcpy (node->uuid, bs->uuid, sizeof node->uuid);
  same = publish (bs, b, false);
  assert (same == b);
  return same;
}

void
buf_meta_drop (struct bufs *bs, struct buf *b)
{
  uint32_t bucket = atomic_load_explicit (&b->bucket, memory_order_relaxed);
  struct part *p = buf_part (bs, bucket);

  assert (b->type == BUF_META && bucket != BUCKET_NONE);
  lock_acquire (&p->lock);
  buf_hash_remove (bs, b);
  atomic_fetch_or (&b->refs, BUF_GONE);
  lock_release (&p->lock);
  if (buf_list_remove (bs, b))
    buf_put (bs, b);
}
