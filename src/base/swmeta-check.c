/* SPDX-License-Identifier: BSD-2-Clause */
/* What a reader or a test asks of a page map: its runs as text, the invariants
 * of swmeta.c checked.  Changes nothing.
 *
 * Locks: the caller is alone on the map.
 */

#include <config.h>

#include "swmeta-map.h"

#include <inttypes.h>

static const char *
kind_name (uint64_t word)
{
  switch (swmeta_kind (word)) {
  case SWMETA_ABSENT:
    return "absent";
  case SWMETA_BLOCK:
    return "block";
  case SWMETA_ZERO:
    return "zero";
  }
  return "kind?";
}

void
swmeta_dump (struct swmeta *map, FILE *fp)
{
  uint64_t shard = swmeta_next_shard (map, 0);

  fprintf (fp, "swmeta: %" PRIu64 " pages, %" PRIu64 " entries, height %u%s\n",
           map->nr_pages, swmeta_nr_entries (map), map->height,
           map->reserved ? ", reserved" : "");
  for (; shard != UINT64_MAX; shard = swmeta_next_shard (map, shard + 1)) {
    pgno_t pgno = shard * SHARD_PAGES;
    pgno_t end = min_u64 (pgno + SHARD_PAGES, map->nr_pages);
    struct swmeta_run run;

    fprintf (fp, "  shard %" PRIu64 " have %08" PRIx32 "\n", shard,
             shard_find (map, shard)->have);
    for (; pgno < end; pgno += run.nr_pages) {
      swmeta_lookup (map, pgno, SHARD_PAGES, &run);
      if (run.word != 0)
        fprintf (fp, "    pages %" PRIu64 " + %" PRIu64 " %s %u:%" PRIu64 "\n",
                 pgno, run.nr_pages, kind_name (run.word),
                 blkno_volume (run.word), blkno_place (run.word));
    }
  }
}

/* Check one shard; add its entries to *nr. */
static const char *
check_shard (const struct swmeta *map, const struct shard *s, pgno_t pgno,
             uint64_t *nr)
{
  if (s->have == 0)
    return "I3: a shard node without swblocks";
  if ((s->used & ~s->have) != 0)
    return "I2: entries without a swblock";
  if (s->used != s->have && !map->reserved)
    return "I3: a swblock without entries";
  for (unsigned b = 0; b < SHARD_BLOCKS; b++) {
    if ((s->present[b] != 0) != (s->used >> b & 1))
      return "I2: a bit of used is wrong";
    if ((s->block[b] != NULL) != (s->have >> b & 1))
      return "I2: a bit of have is wrong";
  }
  for (unsigned i = next_present (s, 0); i < SHARD_PAGES; i++) {
    if (!present (s, i))
      continue;
    if (swmeta_kind (word_of (entry_at (map, s, i))) == SWMETA_ABSENT)
      return "I1: an entry of kind absent";
    if (pgno + i >= map->nr_pages)
      return "I5: an entry behind the end";
    ++*nr;
  }
  return NULL;
}

const char *
swmeta_check (struct swmeta *map)
{
  uint64_t shard = swmeta_next_shard (map, 0), nr = 0;

  for (; shard != UINT64_MAX; shard = swmeta_next_shard (map, shard + 1)) {
    const char *wrong =
        check_shard (map, shard_find (map, shard), shard * SHARD_PAGES, &nr);

    if (wrong != NULL)
      return wrong;
  }
  return nr == swmeta_nr_entries (map) ? NULL : "I4: nr_entries is wrong";
}
