/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers: the pool, the hash, references, eviction.  The contract is in
 * buf.h; nodes are buf-meta.c, pages and log blocks buf-data.c, dirty lists
 * buf-list.c, transfers buf-write.c, the books buf-check.c.
 *
 *   descriptors:  [VOLUME ..][b][b][b][b][b] ..    one a page of the memory
 *   hash:         part (lock) --> bucket --> b --> b
 *   dirty lists:  META, UNDO, DATA: first --> b --> b, oldest first
 *   free list:    first --> b --> b, the last one freed first
 *
 * States of a buffer:
 *
 *   free  --> new     [buf_new, buf_data_get]: in its caller's hands
 *   clean --> new     [the same]: evicted, when none is free
 *   new   --> clean   [buf_meta_get, buf_meta_new]: in the hash
 *   new   --> dirty   [buf_data_add, buf_undo_new]
 *   clean --> dirty   [buf_meta_dirty]
 *   dirty --> running [bufs_take]; META may become dirty again meanwhile
 *   running --> clean [bufs_written]
 *   any   --> gone    [buf_meta_drop, buf_data_add, buf_data_drop]: out of the
 *                     hash; UNDO is born so, and so are new DATA
 *   gone  --> free    [buf_put]: the last reference
 *
 * I1. Being dirty is a reference, which the list holds; bufs_take () hands it
 *     to its caller and bufs_written () gives it back.  So a buffer is evicted
 *     if its count is 0, and nothing else has to be looked at.
 * I2. A count rises from 0 under the lock of the bucket the buffer is in, and
 *     the buffer leaves its bucket under the same lock.  So count 0 and in its
 *     bucket, seen under the lock, is nobody's.
 * I3. BUF_GONE is set once, by who holds a reference and with the buffer in no
 *     bucket: exactly one buf_put () sees the count go to 0 with it.
 * I4. nr_free >= UNDO's share - UNDO buffers in use.  What eats into that
 *     evicts instead.
 *
 * The clock: what was found again since the hand last came by is spared once.
 * A buffer begins unspared, so that what is loaded once, by a pass over many,
 * makes room for its like.  Pages that were written evict pages once they have
 * 3/8 of the pool: else a stream of writes would drive all nodes out.
 *
 * Locks: a part's (LOCK_BUF), then a list's (LOCK_LIST); no two of one rank.
 * The clock takes one part's lock at a time.
 *
 * Not done: waiting for a buffer without a bound, and queueing for it.  The
 * shares make it a matter of threads that hold more references than there are
 * buffers.
 */

#include <config.h>

#include "buf-impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "env.h"
#include "log.h"
#include "task.h"

#define BUFS_MAX (UINT32_C (1) << 30)
#define NEW_NS   NS_PER_S

/* ---- the hash ---- */

static inline uint64_t
mix (uint64_t x)
{
  x *= UINT64_C (0x9e3779b97f4a7c15);
  return x ^ x >> 32;
}

uint32_t
buf_bucket_of_node (const struct bufs *bs, const struct buf_id *id)
{
  uint64_t h = mix (id->tree + ((uint64_t) id->level << 56));

  return (uint32_t) mix (h ^ id->index) & (bs->nr_buckets - 1);
}

uint32_t
buf_bucket_of_block (const struct bufs *bs, uint64_t blk)
{
  return (uint32_t) mix (blk) & (bs->nr_buckets - 1);
}

struct buf *
buf_find_node (struct bufs *bs, uint32_t bucket, const struct buf_id *id)
{
  struct buf *b = bs->buckets[bucket];

  while (b != NULL && (b->id.index != id->index || b->id.tree != id->tree ||
                       b->id.level != id->level || b->type != BUF_META))
    b = b->next_hash;
  return b;
}

struct buf *
buf_find_block (struct bufs *bs, uint32_t bucket, uint64_t blk)
{
  struct buf *b = bs->buckets[bucket];

  while (b != NULL && (b->blk != blk || b->type != BUF_DATA))
    b = b->next_hash;
  return b;
}

void
buf_hash_add (struct bufs *bs, uint32_t bucket, struct buf *b)
{
  assert (lock_held (&buf_part (bs, bucket)->lock));
  b->next_hash = bs->buckets[bucket];
  bs->buckets[bucket] = b;
  atomic_store_explicit (&b->bucket, bucket, memory_order_relaxed);
}

void
buf_hash_remove (struct bufs *bs, struct buf *b)
{
  uint32_t bucket = atomic_load_explicit (&b->bucket, memory_order_relaxed);
  struct buf **at = &bs->buckets[bucket];

  assert (lock_held (&buf_part (bs, bucket)->lock));
  while (*at != b)
    at = &(*at)->next_hash;
  *at = b->next_hash;
  b->next_hash = NULL;
  atomic_store_explicit (&b->bucket, BUCKET_NONE, memory_order_relaxed);
}

/* ---- the free list ---- */

/* Free buffers that a buffer of this type may not take.  Lock: needs free. */
static uint64_t
kept_locked (const struct bufs *bs, enum buf_type type)
{
  uint64_t undo = bs->dirty_max[BUF_UNDO];

  if (type == BUF_UNDO || bs->free.nr_undo >= undo)
    return 0;
  return undo - bs->free.nr_undo;
}

/* Up to nr free buffers.  Returns how many. */
static unsigned
pop_free (struct bufs *bs, enum buf_type type, struct buf **to, unsigned nr)
{
  unsigned done = 0;

  LOCK_SCOPE (&bs->free.lock);
  for (; done < nr && bs->free.nr > kept_locked (bs, type); done++) {
    struct buf *b = bs->free.first;

    bs->free.first = b->next;
    bs->free.nr--;
    bs->free.nr_undo += type == BUF_UNDO;
    b->next = NULL;
    to[done] = b;
  }
  return done;
}

static void
push_free (struct bufs *bs, struct buf *b)
{
  LOCK_SCOPE (&bs->free.lock);
  bs->free.nr_undo -= b->type == BUF_UNDO;
  b->type = BUF_FREE;
  b->next = bs->free.first;
  bs->free.first = b;
  bs->free.nr++;
}

/* ---- eviction ---- */

/* If nobody has b, take it out of its bucket, into the caller's hands. */
static bool
try_evict (struct bufs *bs, struct buf *b)
{
  uint32_t bucket = atomic_load_explicit (&b->bucket, memory_order_relaxed);

  if (bucket == BUCKET_NONE)
    return false;
  LOCK_SCOPE (&buf_part (bs, bucket)->lock);
  if (atomic_load_explicit (&b->bucket, memory_order_relaxed) != bucket ||
      (atomic_load (&b->refs) & BUF_COUNT) != 0)
    return false; /* I2 */
  buf_hash_remove (bs, b);
  buf_part (bs, bucket)->nr_evicted++;
  atomic_fetch_sub_explicit (&bs->nr_type[b->type], 1, memory_order_relaxed);
  atomic_store_explicit (&b->refs, 0, memory_order_relaxed);
  b->type = BUF_FREE;
  return true;
}

/* The clock: whom it finds untouched since it last came by; with data, among
 * pages only.
 */
static struct buf *
evict_one (struct bufs *bs, bool data)
{
  for (uint64_t i = 0; i < 2 * (uint64_t) bs->nr; i++) {
    uint64_t hand =
        atomic_fetch_add_explicit (&bs->hand[data], 1, memory_order_relaxed);
    struct buf *b = &bs->bufs[hand % bs->nr];

    if (atomic_load_explicit (&b->bucket, memory_order_relaxed) ==
            BUCKET_NONE ||
        (atomic_load_explicit (&b->refs, memory_order_relaxed) & BUF_COUNT) !=
            0)
      continue;
    if (data && !atomic_load_explicit (&b->is_data, memory_order_relaxed))
      continue;
    if (atomic_load_explicit (&b->touched, memory_order_relaxed))
      atomic_store_explicit (&b->touched, false, memory_order_relaxed);
    else if (try_evict (bs, b))
      return b;
  }
  return NULL;
}

/* Pages that pass through must not take the place of nodes. */
static struct buf *
evict_for (struct bufs *bs, enum buf_type type)
{
  struct buf *b = NULL;

  if (type == BUF_DATA &&
      atomic_load_explicit (&bs->nr_type[BUF_DATA], memory_order_relaxed) >
          bs->data_max)
    b = evict_one (bs, true);
  return b != NULL ? b : evict_one (bs, false);
}

/* A buffer of this type, evicted or else free; NULL after a second of trying.
 */
static struct buf *
evicted_or_free (struct bufs *bs, enum buf_type type)
{
  uint64_t end_ns = 0;
  struct buf *b;

  for (;;) {
    b = evict_for (bs, type);
    if (b != NULL && type == BUF_UNDO) {
      LOCK_SCOPE (&bs->free.lock);
      bs->free.nr_undo++;
    }
    if (b != NULL || pop_free (bs, type, &b, 1) == 1)
      return b;
    if (end_ns == 0)
      end_ns = env_now_ns () + NEW_NS;
    else if (env_now_ns () >= end_ns)
      break;
    task_sleep (BUF_NAP_NS);
  }
  log_limited (&bs->full_limit, LOG_WARNING,
               "no buffer is clean: all %u are in use (give it a larger "
               "cache)",
               bs->nr);
  return NULL;
}

static void
make_new (struct bufs *bs, enum buf_type type, struct buf *b)
{
  assert (b->image == NULL);
  b->type = type;
  b->id = (struct buf_id){ 0 };
  b->blk = 0;
  atomic_store_explicit (&b->refs, type == BUF_DATA ? BUF_GONE | 1 : 1,
                         memory_order_relaxed);
  atomic_store_explicit (&b->touched, false, memory_order_relaxed);
  atomic_store_explicit (&b->is_data, type == BUF_DATA, memory_order_relaxed);
  b->flags = 0;
  b->dirty_cycle = 0;
  b->fresh = b->cut = false;
  atomic_fetch_add_explicit (&bs->nr_type[type], 1, memory_order_relaxed);
}

unsigned
bufs_new (struct bufs *bs, enum buf_type type, struct buf **to, unsigned nr)
{
  unsigned done = pop_free (bs, type, to, nr);

  for (; done < nr; done++) {
    to[done] = evicted_or_free (bs, type);
    if (to[done] == NULL)
      break;
  }
  for (unsigned i = 0; i < done; i++)
    make_new (bs, type, to[i]);
  return done;
}

struct buf *
buf_new (struct bufs *bs, enum buf_type type)
{
  struct buf *b;

  return bufs_new (bs, type, &b, 1) == 1 ? b : NULL;
}

void
buf_free_new (struct bufs *bs, struct buf *b)
{
  assert (b->image == NULL);
  atomic_fetch_sub_explicit (&bs->nr_type[b->type], 1, memory_order_relaxed);
  atomic_store_explicit (&b->refs, 0, memory_order_relaxed);
  push_free (bs, b);
}

/* ---- references ---- */

void
buf_ref (struct buf *b)
{
  unsigned old = atomic_fetch_add_explicit (&b->refs, 1, memory_order_relaxed);

  assert ((old & BUF_COUNT) > 0);
  (void) old;
}

void
buf_put (struct bufs *bs, struct buf *b)
{
  unsigned old = atomic_fetch_sub_explicit (&b->refs, 1, memory_order_acq_rel);

  assert ((old & BUF_COUNT) > 0);
  if (old == 1 || (old & BUF_COUNT) > 1)
    return;
  if (old & BUF_GONE)
    buf_free_new (bs, b);     /* I3 */
  else if (try_evict (bs, b)) /* or whoever is in it by now */
    push_free (bs, b);
}

/* ---- figures ---- */

unsigned
bufs_nr (const struct bufs *bs)
{
  return bs->nr;
}

uint64_t
bufs_nr_dirty (struct bufs *bs, enum buf_type type)
{
  if (type == BUF_UNDO)
    return atomic_load_explicit (&bs->nr_type[type], memory_order_relaxed);
  return atomic_load (&bs->lists[type].nr_pinned);
}

uint64_t
bufs_dirty_max (struct bufs *bs, enum buf_type type)
{
  return bs->dirty_max[type];
}

void
bufs_stat (struct bufs *bs, struct bufs_stat *st)
{
  *st = (struct bufs_stat){ .nr = bs->nr,
                            .nr_loads = atomic_load (&bs->nr_loads) };
  for (unsigned i = BUF_VOLUME; i < BUF_TYPES; i++) {
    uint64_t nr = atomic_load (&bs->nr_type[i]);

    st->nr_dirty[i] = bufs_nr_dirty (bs, i);
    st->nr_clean[i] = nr - min_u64 (nr, st->nr_dirty[i]);
    LOCK_SCOPE (&bs->lists[i].lock);
    st->nr_running += bs->lists[i].nr_running;
  }
  for (unsigned i = 0; i < bs->nr_parts; i++) {
    struct part *p = &bs->parts[i];

    LOCK_SCOPE (&p->lock);
    st->nr_hits += p->nr_hits;
    st->nr_evicted += p->nr_evicted;
  }
  LOCK_SCOPE (&bs->free.lock);
  st->nr_free = bs->free.nr;
}

/* ---- life ---- */

static uint64_t
power_of_two (uint64_t at_least)
{
  uint64_t n = 1;

  while (n < at_least)
    n *= 2;
  return n;
}

/* Memory that begins on a cache line, all zero. */
static void *
zeroed (size_t nr, size_t bytes)
{
  size_t all = (nr * bytes + 63) & ~(size_t) 63;
  void *p = aligned_alloc (64, all);

  if (p != NULL)
    memset (p, 0, all);
  return p;
}

static int
make_memory (struct bufs *bs)
{
  uint64_t parts =
      min_u64 (max_u64 (bs->nr / 16, BUF_PARTS_MIN), BUF_PARTS_MAX);
  void *p = bs->config.memory;

  if (p == NULL) {
    p = mmap (NULL, (size_t) bs->nr * BUF_BYTES, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
      return ENOMEM;
  }
  bs->memory = p;
  bs->nr_parts = (unsigned) power_of_two (parts);
  bs->nr_buckets = (uint32_t) power_of_two (max_u64 (bs->nr, bs->nr_parts));
  bs->bufs = calloc (bs->nr, sizeof *bs->bufs);
  bs->buckets = calloc (bs->nr_buckets, sizeof (struct buf *));
  bs->parts = zeroed (bs->nr_parts, sizeof *bs->parts);
  if (bs->bufs == NULL || bs->buckets == NULL || bs->parts == NULL)
    return ENOMEM;
  for (unsigned i = 0; i < bs->nr_parts; i++)
    lock_init (&bs->parts[i].lock, LOCK_BUF, "buffers");
  return 0;
}

static void
make_bufs (struct bufs *bs)
{
  for (unsigned i = bs->nr; i-- > 0;) {
    struct buf *b = &bs->bufs[i];

    b->data = bs->memory + (size_t) i * BUF_BYTES;
    atomic_init (&b->bucket, BUCKET_NONE);
    if (i >= bs->config.nr_volumes) {
      push_free (bs, b);
    } else {
      b->type = BUF_VOLUME;
      atomic_init (&b->refs, 1);
      atomic_fetch_add (&bs->nr_type[BUF_VOLUME], 1);
    }
  }
}

static void
set_shares (struct bufs *bs)
{
  uint64_t nr = bs->nr - bs->config.nr_volumes;

  bs->dirty_max[BUF_VOLUME] = bs->config.nr_volumes;
  bs->dirty_max[BUF_META] = nr / 2;
  bs->dirty_max[BUF_DATA] = nr / 4;
  bs->dirty_max[BUF_UNDO] = nr / 8;
  bs->data_max = nr / 8 * 3;
  bs->wake_at = min_u64 (BUF_WAKE_PAGES, bs->dirty_max[BUF_DATA] / 2);
}

int
bufs_create (const struct bufs_config *config, struct bufs **bsp)
{
  uint64_t nr = config->cache_bytes / BUF_BYTES;
  struct bufs *bs;
  int err;

  if (nr < BUFS_MIN || nr > BUFS_MAX || config->nr_volumes > DISK_VOLUMES)
    return EINVAL;
  bs = zeroed (1, sizeof *bs);
  if (bs == NULL)
    return ENOMEM;
  bs->config = *config;
  bs->nr = (unsigned) nr;
  memcpy (bs->uuid, config->uuid, sizeof bs->uuid);
  bs->config.uuid = bs->uuid;
  set_shares (bs);
  lock_init (&bs->free.lock, LOCK_LIST, "free buffers");
  buf_lists_init (bs);
  err = make_memory (bs);
  if (err) {
    bufs_destroy (bs);
    return err;
  }
  make_bufs (bs);
  *bsp = bs;
  return 0;
}

void
bufs_destroy (struct bufs *bs)
{
  if (bs == NULL)
    return;
  for (unsigned i = 0; bs->parts != NULL && i < bs->nr_parts; i++)
    lock_destroy (&bs->parts[i].lock);
  buf_lists_fini (bs);
  lock_destroy (&bs->free.lock);
  if (bs->config.memory == NULL && bs->memory != NULL)
    munmap (bs->memory, (size_t) bs->nr * BUF_BYTES);
  free (bs->parts);
  free (bs->buckets);
  free (bs->bufs);
  free (bs);
}
