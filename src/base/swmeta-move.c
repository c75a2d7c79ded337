/* SPDX-License-Identifier: BSD-2-Clause */
/* Entries from one map to another (collapse of shadow objects, renaming of
 * ranges); see swmeta.h and swmeta.c.
 *
 * The source is walked from entry to entry, so absent pages cost nothing; a
 * piece that lies within one swblock of both sides goes at a time.  A whole
 * swblock goes with its memory where the other side has none.
 *
 * Locks: the caller is alone on both maps.
 */

#include <config.h>

#include "swmeta-map.h"

/* Two ranges, and a piece at their start that is within one swblock of both. */
struct move {
  struct swmeta *dst, *src;
  pgno_t dst_pgno, src_pgno;
  unsigned nr;
};

/* Move the entries of one piece; bits are those that src has there, the first
 * page being bit 0.  ENOMEM: nothing moved.
 */
static int
move_piece (const struct move *m, unsigned bits, struct gather *g)
{
  const size_t entry_bytes = m->src->entry_bytes;
  const unsigned from = m->src_pgno % SHARD_PAGES;
  const unsigned to = m->dst_pgno % SHARD_PAGES;
  const unsigned sb = from / SWBLOCK_PAGES, db = to / SWBLOCK_PAGES;
  slot_t *slot = shard_slot (m->src, m->src_pgno / SHARD_PAGES);
  struct shard *s = slot_load (slot), *d;
  struct swzone_piece *chain = NULL;
  unsigned wins;
  int err = swmeta_shard_make (m->dst, m->dst_pgno / SHARD_PAGES,
                               UINT32_C (1) << db, &d);

  if (err)
    return err;
  wins = bits & d->present[db] >> (to % SWBLOCK_PAGES);
  gather_bits (g, m->src, entry_at (m->src, s, from), m->src_pgno, wins);
  for (unsigned left = bits & ~wins; left != 0; left &= left - 1) {
    unsigned i = __builtin_ctz (left);

    memcpy (entry_at (m->dst, d, to + i), entry_at (m->src, s, from + i),
            entry_bytes);
  }
  d->present[db] |= (bits & ~wins) << (to % SWBLOCK_PAGES);
  d->used |= UINT32_C (1) << db;
  swmeta_clear (m->src, s, sb, bits << (from % SWBLOCK_PAGES), &chain);
  count_entries (m->dst, __builtin_popcount (bits & ~wins));
  count_entries (m->src, -(uint64_t) __builtin_popcount (bits));
  swzone_put (m->src->zone, SWZONE_SWBLOCK, chain);
  swmeta_shard_put_if_empty (m->src, slot, s);
  return 0;
}

/* Move a whole swblock, its memory and all, to where there is none.  false: it
 * cannot be done so.
 */
static bool
move_swblock (const struct move *m, unsigned bits)
{
  const unsigned sb = m->src_pgno % SHARD_PAGES / SWBLOCK_PAGES;
  const unsigned db = m->dst_pgno % SHARD_PAGES / SWBLOCK_PAGES;
  struct shard *d = shard_find (m->dst, m->dst_pgno / SHARD_PAGES);
  slot_t *slot = shard_slot (m->src, m->src_pgno / SHARD_PAGES);
  struct shard *s = slot_load (slot);
  unsigned n = __builtin_popcount (s->present[sb]);

  if (m->src_pgno % SWBLOCK_PAGES != m->dst_pgno % SWBLOCK_PAGES ||
      s->present[sb] != bits << (m->src_pgno % SWBLOCK_PAGES) ||
      m->src->zone != m->dst->zone || m->src->reserved || d == NULL ||
      (d->have >> db & 1))
    return false;
  d->block[db] = s->block[sb];
  d->present[db] = s->present[sb];
  d->have |= UINT32_C (1) << db;
  d->used |= UINT32_C (1) << db;
  s->block[sb] = NULL;
  s->present[sb] = 0;
  s->have &= ~(UINT32_C (1) << sb);
  s->used &= ~(UINT32_C (1) << sb);
  count_entries (m->dst, n);
  count_entries (m->src, -(uint64_t) n);
  swmeta_shard_put_if_empty (m->src, slot, s);
  return true;
}

/* The first page from pgno on that has an entry; UINT64_MAX if none. */
static pgno_t
next_entry (struct swmeta *map, pgno_t pgno)
{
  for (;;) {
    uint64_t shard = swmeta_next_shard (map, pgno / SHARD_PAGES);
    unsigned i;

    if (shard == UINT64_MAX)
      return UINT64_MAX;
    pgno = max_u64 (pgno, shard * SHARD_PAGES);
    i = next_present (shard_find (map, shard), pgno % SHARD_PAGES);
    pgno = shard * SHARD_PAGES + i;
    if (i < SHARD_PAGES)
      return pgno;
  }
}

int
swmeta_move (struct swmeta *dst, pgno_t dst_pgno, struct swmeta *src,
             pgno_t src_pgno, uint64_t nr, swmeta_run_fn freed, void *arg,
             uint64_t *nr_moved)
{
  struct gather g = { .fn = freed, .arg = arg };
  struct move m = { .dst = dst, .src = src };
  uint64_t done = 0;
  int err = 0;

  assert (src->entry_bytes == dst->entry_bytes);
  assert (src_pgno <= src->nr_pages && nr <= src->nr_pages - src_pgno);
  assert (dst_pgno <= dst->nr_pages && nr <= dst->nr_pages - dst_pgno);
  while (done < nr) {
    unsigned sb, i, bits;

    m.src_pgno = next_entry (src, src_pgno + done);
    if (m.src_pgno >= src_pgno + nr) {
      done = nr;
      break;
    }
    done = m.src_pgno - src_pgno;
    m.dst_pgno = dst_pgno + done;
    m.nr = SWBLOCK_PAGES -
           max_u64 (m.src_pgno % SWBLOCK_PAGES, m.dst_pgno % SWBLOCK_PAGES);
    m.nr = min_u64 (m.nr, nr - done);
    i = m.src_pgno % SHARD_PAGES;
    sb = i / SWBLOCK_PAGES;
    bits = shard_find (src, m.src_pgno / SHARD_PAGES)->present[sb];
    bits =
        bits >> (i % SWBLOCK_PAGES) & (ALL_PRESENT >> (SWBLOCK_PAGES - m.nr));
    err = move_swblock (&m, bits) ? 0 : move_piece (&m, bits, &g);
    if (err)
      break;
    done += m.nr;
  }
  gather_end (&g);
  *nr_moved = done;
  return err;
}
