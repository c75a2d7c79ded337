/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory of page maps: pieces of three sizes, cut from chunks.
 *
 * Called by swmeta.c, from any thread; calls mmap and munmap.
 *
 *   kind: swblocks      chunk          chunk (aligned to its size)
 *         partial  ---> [head|#|#|.|#] <-> [head|.|#|.|.]
 *                             free: a chain through the pieces not in use
 *
 * A chunk holds pieces of one kind.  Its head is found from a piece by the
 * address alone.  A chunk none of whose pieces is in use goes back to the
 * system, but for one a kind.  So what a dropped object used can serve maps
 * that need other kinds, and bytes_max bounds what the process really uses,
 * up to chunks that are partly in use.
 *
 * Invariants:
 * I1. bytes is the sum of the pieces in use, and never above bytes_max.
 * I2. A chunk is in its kind's partial list if and only if it has a piece
 *     that is not in use.
 * I3. nr_empty is the number of chunks of a kind without a piece in use; at
 *     most 1.
 *
 * Lock: one, of rank LOCK_ZONE.  swmeta takes and gives chains, at most one
 * of each kind in a call, so dense use takes it once in 16 pages or less.
 *
 * Deliberately not done: no caches for threads or processors, which would
 * make the bound inexact (a get could fail while others' caches are full).
 */

#include <config.h>

#include "swmeta.h"
#include "swzone.h"

#include "lock.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK_BYTES ((size_t) 2 << 20)
#define CACHE_LINE  64u
/* From here on huge pages: a smaller zone would waste too much in them. */
#define HUGE_ZONE_BYTES (UINT64_C (64) << 20)

struct chunk {
  struct chunk *prev, *next;
  struct swzone_piece *free; /* given back */
  unsigned nr_cut;           /* pieces that were ever in use */
  unsigned nr_used;
};

/* All [lock], but bytes can be read without. */
struct kind {
  size_t piece_bytes; /* [const] */
  size_t first;       /* [const] where in a chunk pieces begin */
  unsigned nr_pieces; /* [const] in a chunk */
  unsigned nr_empty;
  struct chunk *partial, *partial_last;
};

struct swzone {
  lock_t lock;
  size_t entry_bytes;     /* [const] */
  uint64_t bytes_max;     /* [const] */
  bool huge;              /* [const] ask for huge pages */
  _Atomic uint64_t bytes; /* [lock] to write */
  struct kind kind[SWZONE_KINDS];
};

/* ---- chunks ---- */

static void
chunk_unlink (struct kind *kind, struct chunk *c)
{
  *(c->prev != NULL ? &c->prev->next : &kind->partial) = c->next;
  *(c->next != NULL ? &c->next->prev : &kind->partial_last) = c->prev;
}

static void
chunk_link_first (struct kind *kind, struct chunk *c)
{
  c->prev = NULL;
  c->next = kind->partial;
  *(c->next != NULL ? &c->next->prev : &kind->partial_last) = c;
  kind->partial = c;
}

static void
chunk_link_last (struct kind *kind, struct chunk *c)
{
  c->next = NULL;
  c->prev = kind->partial_last;
  *(c->prev != NULL ? &c->prev->next : &kind->partial) = c;
  kind->partial_last = c;
}

/* A new chunk, in the partial list.  false: no memory. */
static bool
chunk_make (struct kind *kind, bool huge)
{
  char *map = mmap (NULL, 2 * CHUNK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct chunk *c;
  size_t before;

  if (map == MAP_FAILED)
    return false;
  before = -(uintptr_t) map & (CHUNK_BYTES - 1);
  if (before > 0)
    munmap (map, before);
  munmap (map + before + CHUNK_BYTES, CHUNK_BYTES - before);
  c = (struct chunk *) (map + before);
  if (huge)
    madvise (c, CHUNK_BYTES, MADV_HUGEPAGE); /* a hint: may fail */
  chunk_link_first (kind, c);
  kind->nr_empty++;
  return true;
}

static struct swzone_piece *
chunk_take (struct kind *kind)
{
  struct chunk *c = kind->partial;
  struct swzone_piece *piece = c->free;

  if (piece != NULL)
    c->free = piece->next;
  else
    piece = (struct swzone_piece *) ((char *) c + kind->first +
                                     c->nr_cut++ * kind->piece_bytes);
  if (c->nr_used++ == 0)
    kind->nr_empty--;
  if (c->nr_used == kind->nr_pieces)
    chunk_unlink (kind, c);
  return piece;
}

static void
chunk_return (struct kind *kind, struct swzone_piece *piece)
{
  struct chunk *c =
      (struct chunk *) ((uintptr_t) piece & ~(uintptr_t) (CHUNK_BYTES - 1));

  if (c->nr_used == kind->nr_pieces)
    chunk_link_first (kind, c);
  piece->next = c->free;
  c->free = piece;
  if (--c->nr_used > 0)
    return;
  chunk_unlink (kind, c);
  if (kind->nr_empty > 0) {
    munmap (c, CHUNK_BYTES);
    return;
  }
  kind->nr_empty = 1;
  chunk_link_last (kind, c);
}

/* ---- zone ---- */

static void
kind_init (struct kind *kind, size_t piece_bytes)
{
  kind->piece_bytes = piece_bytes;
  kind->first = (sizeof (struct chunk) + CACHE_LINE - 1) & -CACHE_LINE;
  kind->nr_pieces = (CHUNK_BYTES - kind->first) / piece_bytes;
}

int
swzone_create (size_t entry_bytes, uint64_t bytes_max, struct swzone **zonep)
{
  struct swzone *zone;

  if (entry_bytes < 8 || entry_bytes > 64 || entry_bytes % 8 != 0)
    return EINVAL;
  zone = calloc (1, sizeof *zone);
  if (zone == NULL)
    return ENOMEM;
  lock_init (&zone->lock, LOCK_ZONE, "zone");
  zone->entry_bytes = entry_bytes;
  zone->bytes_max = bytes_max;
  zone->huge = bytes_max >= HUGE_ZONE_BYTES;
  kind_init (&zone->kind[SWZONE_SWBLOCK], SWBLOCK_PAGES * entry_bytes);
  kind_init (&zone->kind[SWZONE_SHARD], SWZONE_SHARD_BYTES);
  kind_init (&zone->kind[SWZONE_INNER], SWZONE_INNER_BYTES);
  *zonep = zone;
  return 0;
}

void
swzone_destroy (struct swzone *zone)
{
  if (zone == NULL)
    return;
  assert (zone->bytes == 0);
  for (unsigned k = 0; k < SWZONE_KINDS; k++)
    if (zone->kind[k].partial != NULL)
      munmap (zone->kind[k].partial, CHUNK_BYTES);
  lock_destroy (&zone->lock);
  free (zone);
}

uint64_t
swzone_bytes (const struct swzone *zone)
{
  return atomic_load_explicit (&zone->bytes, memory_order_relaxed);
}

uint64_t
swzone_bytes_max (const struct swzone *zone)
{
  return zone->bytes_max;
}

size_t
swzone_entry_bytes (const struct swzone *zone)
{
  return zone->entry_bytes;
}

static void
put_locked (struct swzone *zone, struct kind *kind, struct swzone_piece *chain)
{
  uint64_t bytes = 0;

  while (chain != NULL) {
    struct swzone_piece *next = chain->next;

    chunk_return (kind, chain);
    bytes += kind->piece_bytes;
    chain = next;
  }
  atomic_store_explicit (&zone->bytes, swzone_bytes (zone) - bytes,
                         memory_order_relaxed);
}

int
swzone_get (struct swzone *zone, enum swzone_kind k, unsigned nr,
            struct swzone_piece **chain)
{
  struct kind *kind = &zone->kind[k];
  uint64_t bytes = nr * kind->piece_bytes;
  struct swzone_piece *got = NULL;

  LOCK_SCOPE (&zone->lock);
  if (bytes > zone->bytes_max - swzone_bytes (zone))
    return ENOMEM;
  atomic_store_explicit (&zone->bytes, swzone_bytes (zone) + bytes,
                         memory_order_relaxed);
  for (unsigned i = 0; i < nr; i++) {
    struct swzone_piece *piece;

    if (kind->partial == NULL && !chunk_make (kind, zone->huge)) {
      /* Those not got were counted above. */
      atomic_store_explicit (&zone->bytes,
                             swzone_bytes (zone) - (nr - i) * kind->piece_bytes,
                             memory_order_relaxed);
      put_locked (zone, kind, got);
      return ENOMEM;
    }
    piece = chunk_take (kind);
    piece->next = got;
    got = piece;
  }
  *chain = got;
  return 0;
}

void
swzone_put (struct swzone *zone, enum swzone_kind k, struct swzone_piece *chain)
{
  if (chain == NULL)
    return;
  LOCK_SCOPE (&zone->lock);
  put_locked (zone, &zone->kind[k], chain);
}
