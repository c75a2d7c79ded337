/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of a map, for the swmeta*.c files only; the picture and the
 * invariants are at the head of swmeta.c.
 */

#ifndef FARPAGE_SWMETA_MAP_H
#define FARPAGE_SWMETA_MAP_H

#include "swmeta.h"
#include "swzone.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#define FANOUT       512u
#define FANOUT_SHIFT 9
#define SHARD_BLOCKS (SHARD_PAGES / SWBLOCK_PAGES)
#define PAGES_MAX    (UINT64_C (1) << 52)
#define ALL_PRESENT  0xffffu

typedef _Atomic (void *) slot_t;

struct inner {
  slot_t slot[FANOUT];
};

struct shard {
  uint16_t present[SHARD_BLOCKS];
  uint32_t used;
  uint32_t have;
  char *block[SHARD_BLOCKS];
};

_Static_assert(sizeof (struct inner) == SWZONE_INNER_BYTES, "inner");
_Static_assert(sizeof (struct shard) <= SWZONE_SHARD_BYTES, "shard");

struct swmeta {
  struct swzone *zone; /* [const] */
  pgno_t nr_pages;     /* changed by swmeta_resize, alone on the map */
  uint64_t nr_shards;  /* the same */
  size_t entry_bytes;  /* [const] */
  unsigned height;     /* as nr_pages */
  bool reserved;       /* set by swmeta_reserve, alone on the map */
  slot_t root;
  _Atomic uint64_t nr_entries;
};

/* ---- entries ---- */

static inline uint64_t
word_of (const void *entry)
{
  uint64_t word;

  memcpy (&word, entry, sizeof word);
  return word;
}

static inline char *
entry_at (const struct swmeta *map, const struct shard *s, unsigned i)
{
  return s->block[i / SWBLOCK_PAGES] + i % SWBLOCK_PAGES * map->entry_bytes;
}

static inline bool
present (const struct shard *s, unsigned i)
{
  return s->present[i / SWBLOCK_PAGES] >> (i % SWBLOCK_PAGES) & 1;
}

/* The word that continues a run behind an entry with this word; 0 if none can.
 * The first place of a volume does not follow on the last of another.
 */
static inline uint64_t
word_after (uint64_t word)
{
  if (swmeta_kind (word) != SWMETA_BLOCK)
    return word;
  return blkno_place (word) == BLKNO_PLACE_MAX ? 0 : word + 1;
}

static inline bool
goes_on (uint64_t word, uint64_t next)
{
  return next == word_after (word);
}

/* Runs on their way to the caller. */
struct gather {
  struct swmeta_run run;
  uint64_t next; /* the word that continues it */
  uint64_t nr;   /* pages gathered in all */
  swmeta_run_fn fn;
  void *arg;
};

static inline void
gather_end (struct gather *g)
{
  if (g->run.nr_pages > 0)
    g->fn (g->arg, &g->run);
  g->run.nr_pages = 0;
}

/* Gather nr entries in a row, the first of page pgno. */
static inline void
gather_row (struct gather *g, const struct swmeta *map, const char *entry,
            pgno_t pgno, unsigned nr)
{
  uint64_t next = g->run.pgno + g->run.nr_pages == pgno ? g->next : 0;

  g->nr += nr;
  for (unsigned i = 0; i < nr; i++, entry += map->entry_bytes) {
    uint64_t word = word_of (entry);

    if (word != next) {
      gather_end (g);
      g->run.pgno = pgno + i;
      g->run.word = word;
    }
    g->run.nr_pages++;
    next = word_after (word);
  }
  g->next = next;
}

/* Gather the entries of these bits of a swblock; pgno is its first page. */
static inline void
gather_bits (struct gather *g, const struct swmeta *map, const char *block,
             pgno_t pgno, unsigned bits)
{
  while (bits != 0) {
    unsigned i = __builtin_ctz (bits);
    unsigned nr = __builtin_ctz (~(bits >> i));

    gather_row (g, map, block + i * map->entry_bytes, pgno + i, nr);
    bits &= bits + (1u << i); /* without the lowest row of ones */
  }
}

/* ---- the way to a shard ---- */

static inline slot_t *
inner_slot (struct inner *inner, unsigned level, uint64_t shard)
{
  return &inner->slot[shard >> (FANOUT_SHIFT * (level - 1)) & (FANOUT - 1)];
}

static inline void *
slot_load (slot_t *slot)
{
  return atomic_load_explicit (slot, memory_order_acquire);
}

/* The slot of a shard, or NULL if an inner node on the way is missing. */
static inline slot_t *
shard_slot (struct swmeta *map, uint64_t shard)
{
  slot_t *slot = &map->root;

  for (unsigned level = map->height; level > 0; level--) {
    struct inner *inner = slot_load (slot);

    if (inner == NULL)
      return NULL;
    slot = inner_slot (inner, level, shard);
  }
  return slot;
}

/* The node of a shard, or NULL. */
static inline struct shard *
shard_find (struct swmeta *map, uint64_t shard)
{
  slot_t *slot = shard_slot (map, shard);

  return slot != NULL ? slot_load (slot) : NULL;
}

/* The first page of a shard from the i-th on that has an entry; SHARD_PAGES
 * if none has.
 */
static inline unsigned
next_present (const struct shard *s, unsigned i)
{
  unsigned b = i / SWBLOCK_PAGES;
  unsigned bits = s->present[b] >> (i % SWBLOCK_PAGES);
  uint32_t used;

  if (bits != 0)
    return i + __builtin_ctz (bits);
  used = b == SHARD_BLOCKS - 1 ? 0 : s->used & (UINT32_MAX << (b + 1));
  if (used == 0)
    return SHARD_PAGES;
  b = __builtin_ctz (used);
  return b * SWBLOCK_PAGES + __builtin_ctz (s->present[b]);
}

/* Swblocks that were taken off a shard, on their way to the zone. */
static inline void
block_detach (struct shard *s, unsigned b, struct swzone_piece **chain)
{
  struct swzone_piece *piece = (struct swzone_piece *) s->block[b];

  s->have &= ~(UINT32_C (1) << b);
  s->block[b] = NULL;
  piece->next = *chain;
  *chain = piece;
}

/* Take these pages' bits off swblock b, and the swblock off the shard if none
 * is left.
 */
static inline void
swmeta_clear (struct swmeta *map, struct shard *s, unsigned b, unsigned bits,
              struct swzone_piece **chain)
{
  s->present[b] &= ~bits;
  if (s->present[b] != 0)
    return;
  s->used &= ~(UINT32_C (1) << b);
  if (!map->reserved)
    block_detach (s, b, chain);
}

static inline void
assert_in_shard (const struct swmeta *map, pgno_t pgno, uint64_t nr)
{
  assert (pgno < map->nr_pages && nr <= map->nr_pages - pgno);
  assert (nr > 0 && nr <= SHARD_PAGES - pgno % SHARD_PAGES);
  (void) map;
  (void) pgno;
  (void) nr;
}

static inline void
count_entries (struct swmeta *map, uint64_t more)
{
  if (more != 0)
    atomic_fetch_add_explicit (&map->nr_entries, more, memory_order_relaxed);
}

/* Make sure that a shard has these swblocks (a bit each).  ENOMEM: it has what
 * it had.
 */
extern int swmeta_shard_make (struct swmeta *map, uint64_t shard,
                              uint32_t blocks, struct shard **sp);

/* Take away a shard node that has no swblock left (I3). */
extern void swmeta_shard_put_if_empty (struct swmeta *map, slot_t *slot,
                                       struct shard *s);

#endif /* FARPAGE_SWMETA_MAP_H */
