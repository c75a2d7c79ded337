/* SPDX-License-Identifier: BSD-2-Clause */
/* Swap metadata: the page map of one object; see swmeta.h.
 *
 * After the swap metadata of the BSD swap pagers: page entries in blocks of
 * 16 (swblocks) that come when a page of theirs does and go with the last.
 * Called by object (strategy, trim, extents) and by the client's swap pager;
 * calls the zone (swzone.c) and nothing else.
 *
 *   map.root --> inner --> inner --> shard node --> swblock
 *                512       512       512 pages:     16 entries
 *                slots     slots     32 pointers,
 *                                    32 x 16 bits
 *
 * `height` levels of inner nodes, by the size of the object (none for 2 MiB,
 * one to 1 GiB, two to 512 GiB ...; a map that has lost pages keeps the levels
 * it had).  A shard node says by a bit for each page
 * which entries there are; what lies in a swblock under a zero bit is garbage.
 *
 * Invariants (swmeta_check):
 * I1. Bit i of shard.present[b] is set if and only if page 16 b + i of the
 *     shard has an entry; its word is not 0.
 * I2. Bit b of shard.used is set if and only if present[b] is not 0; bit b of
 *     shard.have if and only if block[b] is there.  used is part of have.
 * I3. have is not 0, or the shard node would be gone.  have is used, but in a
 *     map that is reserved: there memory stays till the map goes.
 * I4. nr_entries is the number of bits set in all shard nodes.
 * I5. No entry at nr_pages or beyond.
 *
 * Locks: none here.  The slot of a shard, its node and its swblocks belong to
 * the holder of that shard's lock.  Inner nodes are shared by callers under
 * different locks: one is put into its slot, once, by compare-exchange (who
 * comes second gives his back), and stays until the map goes, so any caller
 * may follow the slots at any time.  swmeta_next_shard reads shards' slots
 * without their locks, but only whether they are empty.
 *
 * Costs: a call goes down `height` + 2 pointers and takes the zone's lock at
 * most once for each kind of memory it needs or gives back.  A page costs its
 * entry and 0.77 bytes in dense use, 4 KiB and a bit if alone in 1 GiB.
 *
 * Deliberately not done: inner nodes are not freed while the map lives (4 KiB
 * for each GiB that ever had an entry); no waiting for memory (the caller lets
 * go of its locks and starts again); runs do not cross a shard.
 */

#include <config.h>

#include "swmeta-map.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- the way to a shard ---- */

/* Fill an empty slot of an inner node, unless another thread is faster. */
static int
inner_make (struct swmeta *map, slot_t *slot, struct inner **innerp)
{
  struct swzone_piece *piece;
  void *there = NULL;
  int err = swzone_get (map->zone, SWZONE_INNER, 1, &piece);

  if (err)
    return err;
  memset ((void *) piece, 0, sizeof (struct inner));
  if (atomic_compare_exchange_strong (slot, &there, (void *) piece)) {
    *innerp = (struct inner *) piece;
    return 0;
  }
  piece->next = NULL;
  swzone_put (map->zone, SWZONE_INNER, piece);
  *innerp = there;
  return 0;
}

/* The slot of a shard, with the inner nodes above it.  ENOMEM. */
static int
slot_make (struct swmeta *map, uint64_t shard, slot_t **slotp)
{
  slot_t *slot = &map->root;

  for (unsigned level = map->height; level > 0; level--) {
    struct inner *inner = slot_load (slot);
    int err = inner == NULL ? inner_make (map, slot, &inner) : 0;

    if (err)
      return err;
    slot = inner_slot (inner, level, shard);
  }
  *slotp = slot;
  return 0;
}

void
swmeta_shard_put_if_empty (struct swmeta *map, slot_t *slot, struct shard *s)
{
  struct swzone_piece *piece = (struct swzone_piece *) (void *) s;

  if (s->have != 0)
    return;
  atomic_store_explicit (slot, NULL, memory_order_release);
  piece->next = NULL;
  swzone_put (map->zone, SWZONE_SHARD, piece);
}

int
swmeta_shard_make (struct swmeta *map, uint64_t shard, uint32_t blocks,
                   struct shard **sp)
{
  struct swzone_piece *chain;
  struct shard *s;
  slot_t *slot;
  uint32_t missing;
  int err = slot_make (map, shard, &slot);

  if (err)
    return err;
  s = slot_load (slot);
  missing = s != NULL ? blocks & ~s->have : blocks;
  if (missing == 0) {
    *sp = s;
    return 0;
  }
  err = swzone_get (map->zone, SWZONE_SWBLOCK, __builtin_popcount (missing),
                    &chain);
  if (err)
    return err;
  if (s == NULL) {
    struct swzone_piece *piece;

    err = swzone_get (map->zone, SWZONE_SHARD, 1, &piece);
    if (err) {
      swzone_put (map->zone, SWZONE_SWBLOCK, chain);
      return err;
    }
    s = memset ((void *) piece, 0, sizeof *s);
    atomic_store_explicit (slot, s, memory_order_release);
  }
  s->have |= missing;
  for (; missing != 0; missing &= missing - 1) {
    s->block[__builtin_ctz (missing)] = (char *) chain;
    chain = chain->next;
  }
  *sp = s;
  return 0;
}

/* The swblocks of nr pages from the i-th page of a shard on, a bit each. */
static inline uint32_t
blocks_of (unsigned i, uint64_t nr)
{
  unsigned first = i / SWBLOCK_PAGES, last = (i + nr - 1) / SWBLOCK_PAGES;

  return (UINT32_MAX << first) & (UINT32_MAX >> (31 - last));
}

/* The pages of swblock b among the nr pages from the i-th on, a bit each. */
static inline unsigned
pages_of (unsigned b, unsigned i, uint64_t nr)
{
  unsigned first = b * SWBLOCK_PAGES, end = first + SWBLOCK_PAGES;
  unsigned bits = ALL_PRESENT;

  if (i > first)
    bits &= ALL_PRESENT << (i - first);
  if (i + nr < end)
    bits &= ALL_PRESENT >> (end - i - nr);
  return bits;
}

/* ---- map ---- */

static void
set_pages (struct swmeta *map, pgno_t nr_pages)
{
  map->nr_pages = nr_pages;
  map->nr_shards = (nr_pages + SHARD_PAGES - 1) / SHARD_PAGES;
}

/* Must the map be higher for its shards? */
static bool
is_too_low (const struct swmeta *map)
{
  return map->nr_shards > UINT64_C (1) << (FANOUT_SHIFT * map->height);
}

int
swmeta_create (struct swzone *zone, pgno_t nr_pages, struct swmeta **mapp)
{
  struct swmeta *map;

  if (nr_pages > PAGES_MAX)
    return EINVAL;
  map = calloc (1, sizeof *map);
  if (map == NULL)
    return ENOMEM;
  map->zone = zone;
  set_pages (map, nr_pages);
  map->entry_bytes = swzone_entry_bytes (zone);
  while (is_too_low (map))
    map->height++;
  *mapp = map;
  return 0;
}

/* Take away a shard's swblocks: all, or those without an entry. */
static void
shard_prune (struct swmeta *map, slot_t *slot, struct shard *s, bool all)
{
  struct swzone_piece *chain = NULL;
  uint32_t drop = all ? s->have : s->have & ~s->used;

  for (; drop != 0; drop &= drop - 1)
    block_detach (s, __builtin_ctz (drop), &chain);
  swzone_put (map->zone, SWZONE_SWBLOCK, chain);
  swmeta_shard_put_if_empty (map, slot, s);
}

/* Take away all memory below a slot, or what holds no entry.  Alone on the
 * map.  Goes as deep as the map is high, 5 at most.
 */
static void
prune (struct swmeta *map, slot_t *slot, unsigned level, bool all)
{
  void *node = slot_load (slot);
  struct inner *inner = node;
  struct swzone_piece *piece = node;
  bool empty = true;

  if (node == NULL)
    return;
  if (level == 0) {
    shard_prune (map, slot, node, all);
    return;
  }
  for (unsigned i = 0; i < FANOUT; i++) {
    prune (map, &inner->slot[i], level - 1, all);
    empty = empty && slot_load (&inner->slot[i]) == NULL;
  }
  if (!empty)
    return;
  atomic_store_explicit (slot, NULL, memory_order_relaxed);
  piece->next = NULL;
  swzone_put (map->zone, SWZONE_INNER, piece);
}

void
swmeta_destroy (struct swmeta *map)
{
  if (map == NULL)
    return;
  prune (map, &map->root, map->height, true);
  free (map);
}

/* All memory of shards from first on.  ENOMEM: some of it is there. */
static int
reserve_from (struct swmeta *map, uint64_t first)
{
  const uint64_t nr_blocks = (map->nr_pages - 1) / SWBLOCK_PAGES + 1;

  /* Do not first fill a zone that can never hold it. */
  if (map->nr_pages > 0 && nr_blocks > swzone_bytes_max (map->zone) /
                                           (SWBLOCK_PAGES * map->entry_bytes))
    return ENOMEM;
  for (uint64_t shard = first; shard < map->nr_shards; shard++) {
    uint64_t nr = min_u64 (map->nr_pages - shard * SHARD_PAGES, SHARD_PAGES);
    struct shard *s;
    int err = swmeta_shard_make (map, shard, blocks_of (0, nr), &s);

    if (err)
      return err;
    for (uint32_t b = s->have & ~s->used; b != 0; b &= b - 1)
      memset (s->block[__builtin_ctz (b)], 0, SWBLOCK_PAGES * map->entry_bytes);
  }
  return 0;
}

int
swmeta_reserve (struct swmeta *map)
{
  int err = reserve_from (map, 0);

  if (err)
    prune (map, &map->root, map->height, false);
  else
    map->reserved = true;
  return err;
}

/* As many levels as its shards need.  ENOMEM: some of them. */
static int
raise (struct swmeta *map)
{
  for (; is_too_low (map); map->height++) {
    void *below = slot_load (&map->root);
    struct swzone_piece *piece;
    int err;

    if (below == NULL)
      continue;
    err = swzone_get (map->zone, SWZONE_INNER, 1, &piece);
    if (err)
      return err;
    memset ((void *) piece, 0, sizeof (struct inner));
    atomic_store (&((struct inner *) piece)->slot[0], below);
    atomic_store (&map->root, (void *) piece);
  }
  return 0;
}

/* Shards from first on have no entries, and lose the memory that they have. */
static void
cut_shards (struct swmeta *map, uint64_t first)
{
  uint64_t shard = swmeta_next_shard (map, first);

  for (; shard != UINT64_MAX; shard = swmeta_next_shard (map, shard + 1)) {
    slot_t *slot = shard_slot (map, shard);

    shard_prune (map, slot, slot_load (slot), true);
  }
}

int
swmeta_resize (struct swmeta *map, pgno_t nr_pages)
{
  const pgno_t old_pages = map->nr_pages;
  const uint64_t old_shards = map->nr_shards;
  int err;

  if (nr_pages > PAGES_MAX)
    return EINVAL;
  if (nr_pages < old_pages) {
    cut_shards (map, (nr_pages + SHARD_PAGES - 1) / SHARD_PAGES);
    set_pages (map, nr_pages);
    return 0;
  }
  set_pages (map, nr_pages);
  err = raise (map);
  if (err == 0 && map->reserved) {
    err = reserve_from (map, old_pages / SHARD_PAGES);
    if (err)
      cut_shards (map, old_shards);
  }
  if (err)
    set_pages (map, old_pages);
  return err;
}

pgno_t
swmeta_nr_pages (const struct swmeta *map)
{
  return map->nr_pages;
}

uint64_t
swmeta_nr_entries (const struct swmeta *map)
{
  return atomic_load_explicit (&map->nr_entries, memory_order_relaxed);
}

/* ---- looking ---- */

/* The pages of the run that starts at the i-th, at most max. */
static unsigned
run_length (const struct swmeta *map, const struct shard *s, unsigned i,
            unsigned max)
{
  uint64_t word = word_of (entry_at (map, s, i));
  unsigned n = 1;

  for (; n < max && present (s, i + n); n++) {
    uint64_t next = word_of (entry_at (map, s, i + n));

    if (!goes_on (word, next))
      break;
    word = next;
  }
  return n;
}

void
swmeta_lookup (struct swmeta *map, pgno_t pgno, uint64_t max,
               struct swmeta_run *run)
{
  struct shard *s = shard_find (map, pgno / SHARD_PAGES);
  unsigned i = pgno % SHARD_PAGES;

  max = min_u64 (max, SHARD_PAGES - i);
  max = min_u64 (max, map->nr_pages - pgno);
  assert_in_shard (map, pgno, max);
  run->pgno = pgno;
  run->word = 0;
  run->nr_pages = max;
  if (s == NULL)
    return;
  if (!present (s, i)) {
    run->nr_pages = min_u64 (max, next_present (s, i) - i);
    return;
  }
  run->word = word_of (entry_at (map, s, i));
  run->nr_pages = run_length (map, s, i, max);
}

void
swmeta_extent (struct swmeta *map, pgno_t pgno, uint64_t max_before,
               uint64_t max_after, uint64_t *before, uint64_t *after)
{
  struct shard *s = shard_find (map, pgno / SHARD_PAGES);
  unsigned i = pgno % SHARD_PAGES;
  uint64_t word;

  assert_in_shard (map, pgno, 1);
  *before = *after = 0;
  if (s == NULL || !present (s, i))
    return;
  max_after = min_u64 (max_after, SHARD_PAGES - 1 - i);
  *after = run_length (map, s, i, max_after + 1) - 1;
  max_before = min_u64 (max_before, i);
  word = word_of (entry_at (map, s, i));
  while (*before < max_before && present (s, i - 1)) {
    uint64_t prev = word_of (entry_at (map, s, i - 1));

    if (!goes_on (prev, word))
      break;
    word = prev;
    i--;
    ++*before;
  }
}

void
swmeta_get (struct swmeta *map, pgno_t pgno, uint64_t nr, void *ents)
{
  const struct shard *s = shard_find (map, pgno / SHARD_PAGES);
  unsigned i = pgno % SHARD_PAGES;
  char *to = ents;

  assert_in_shard (map, pgno, nr);
  if (s == NULL) {
    memset (ents, 0, nr * map->entry_bytes);
    return;
  }
  for (; nr > 0; nr--, i++, to += map->entry_bytes)
    if (present (s, i))
      memcpy (to, entry_at (map, s, i), map->entry_bytes);
    else
      memset (to, 0, map->entry_bytes);
}

uint64_t
swmeta_next_shard (struct swmeta *map, uint64_t shard)
{
  while (shard < map->nr_shards) {
    slot_t *slot = &map->root;
    unsigned level = map->height, shift;
    struct inner *inner;

    while (level > 0 && (inner = slot_load (slot)) != NULL) {
      slot = inner_slot (inner, level, shard);
      level--;
    }
    if (level == 0 && slot_load (slot) != NULL)
      return shard;
    /* Past this slot and those behind it in its node that are empty too. */
    shift = FANOUT_SHIFT * level;
    do {
      shard = ((shard >> shift) + 1) << shift;
      slot++;
    } while (level < map->height && (shard >> shift) % FANOUT != 0 &&
             slot_load (slot) == NULL);
  }
  return UINT64_MAX;
}

/* ---- changing ---- */

int
swmeta_build (struct swmeta *map, pgno_t pgno, uint64_t nr, const void *ents,
              swmeta_run_fn displaced, void *arg)
{
  struct gather g = { .fn = displaced, .arg = arg };
  const unsigned i = pgno % SHARD_PAGES;
  const pgno_t base = pgno - i;
  const char *from = ents;
  uint32_t blocks = blocks_of (i, nr);
  struct shard *s;
  int err;

  assert_in_shard (map, pgno, nr);
  err = swmeta_shard_make (map, pgno / SHARD_PAGES, blocks, &s);
  if (err)
    return err;
  s->used |= blocks;
  for (; blocks != 0; blocks &= blocks - 1) {
    unsigned b = __builtin_ctz (blocks);
    unsigned bits = pages_of (b, i, nr);
    size_t bytes = __builtin_popcount (bits) * map->entry_bytes;
    char *to = s->block[b] + __builtin_ctz (bits) * map->entry_bytes;

    gather_bits (&g, map, s->block[b], base + b * SWBLOCK_PAGES,
                 bits & s->present[b]);
    memcpy (to, from, bytes);
    from += bytes;
    s->present[b] |= bits;
  }
  count_entries (map, nr - g.nr);
  gather_end (&g);
  return 0;
}

void
swmeta_free (struct swmeta *map, pgno_t pgno, uint64_t nr, swmeta_run_fn freed,
             void *arg)
{
  struct gather g = { .fn = freed, .arg = arg };
  slot_t *slot = shard_slot (map, pgno / SHARD_PAGES);
  struct shard *s = slot != NULL ? slot_load (slot) : NULL;
  const unsigned i = pgno % SHARD_PAGES;
  struct swzone_piece *chain = NULL;
  uint32_t blocks;

  assert_in_shard (map, pgno, nr);
  if (s == NULL)
    return;
  for (blocks = blocks_of (i, nr) & s->used; blocks != 0;
       blocks &= blocks - 1) {
    unsigned b = __builtin_ctz (blocks);
    unsigned bits = pages_of (b, i, nr);

    gather_bits (&g, map, s->block[b], pgno - i + b * SWBLOCK_PAGES,
                 bits & s->present[b]);
    swmeta_clear (map, s, b, bits, &chain);
  }
  count_entries (map, -g.nr);
  swzone_put (map->zone, SWZONE_SWBLOCK, chain);
  swmeta_shard_put_if_empty (map, slot, s);
  gather_end (&g);
}

void
swmeta_pop (struct swmeta *map, pgno_t pgno, void *ent)
{
  slot_t *slot = shard_slot (map, pgno / SHARD_PAGES);
  struct shard *s = slot != NULL ? slot_load (slot) : NULL;
  const unsigned i = pgno % SHARD_PAGES;
  struct swzone_piece *chain = NULL;

  assert_in_shard (map, pgno, 1);
  if (s == NULL || !present (s, i)) {
    memset (ent, 0, map->entry_bytes);
    return;
  }
  memcpy (ent, entry_at (map, s, i), map->entry_bytes);
  swmeta_clear (map, s, i / SWBLOCK_PAGES, 1u << (i % SWBLOCK_PAGES), &chain);
  count_entries (map, -UINT64_C (1));
  swzone_put (map->zone, SWZONE_SWBLOCK, chain);
  swmeta_shard_put_if_empty (map, slot, s);
}
