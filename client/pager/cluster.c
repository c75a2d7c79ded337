/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages into requests: which of a page's neighbours come or go with it.
 *
 *   pages   ... 509 510 511 | 512 513 514 ...    | a shard's end
 *   blocks       70  71  72 |  73  74   9
 *                    ^req: before 1, after 3, across the shard's end
 *
 * Called by the swap pager, for the row of blocks that one request carries, and
 * to tell what a page has around it.  Calls swmeta, which looks into one shard
 * at a time; here a row goes on where two shards' entries do.
 *
 * Nothing is cut at a boundary of pages or of blocks: a row is as long as it
 * lies on the export, but for the caller's limit.  Keeps nothing, changes
 * nothing; the caller has the map to himself.  Costs what is looked at, never
 * more than the limit on each side.
 */

#include <config.h>

#include "cluster.h"

static uint64_t
word_at (struct swmeta *map, pgno_t pgno)
{
  struct swmeta_run run;

  swmeta_lookup (map, pgno, 1, &run);
  return run.word;
}

/* Of the pages on both sides of a shard's end. */
static bool
goes_on_across (struct swmeta *map, pgno_t pgno)
{
  uint64_t word = word_at (map, pgno), next = word_at (map, pgno + 1);

  return swmeta_kind (word) == SWMETA_BLOCK &&
         blkno_place (word) < BLKNO_PLACE_MAX && next == word + 1;
}

static uint64_t
blocks_before (struct swmeta *map, pgno_t pgno, uint64_t max)
{
  uint64_t n = 0, more, after;

  while (n < max && n < pgno) {
    swmeta_extent (map, pgno - n, max - n, 0, &more, &after);
    n += more;
    if (n == max || (pgno - n) % SHARD_PAGES != 0 || n == pgno ||
        !goes_on_across (map, pgno - n - 1))
      break;
    n++;
  }
  return n;
}

static uint64_t
blocks_after (struct swmeta *map, pgno_t pgno, uint64_t max)
{
  const uint64_t left = swmeta_nr_pages (map) - 1 - pgno;
  uint64_t n = 0, before, more;

  max = min_u64 (max, left);
  while (n < max) {
    swmeta_extent (map, pgno + n, 0, max - n, &before, &more);
    n += more;
    if (n == max || (pgno + n + 1) % SHARD_PAGES != 0 ||
        !goes_on_across (map, pgno + n))
      break;
    n++;
  }
  return n;
}

bool
cluster_has (struct swmeta *map, pgno_t req, uint64_t max, uint64_t *before,
             uint64_t *after)
{
  uint64_t word;

  if (req >= swmeta_nr_pages (map))
    return false;
  word = word_at (map, req);
  if (word == 0)
    return false;
  if (swmeta_kind (word) != SWMETA_BLOCK)
    max = 0;
  *before = blocks_before (map, req, max);
  *after = blocks_after (map, req, max);
  return true;
}

bool
cluster_around (struct swmeta *map, pgno_t first, uint64_t count, pgno_t req,
                uint64_t max, pgno_t *from, uint64_t *nr)
{
  uint64_t before, after, half;

  max = min_u64 (max_u64 (max, 1), CLUSTER_PAGES_MAX);
  if (req < first || req - first >= count ||
      !cluster_has (map, req, max - 1, &before, &after))
    return false;
  before = min_u64 (before, req - first);
  after = min_u64 (after, count - 1 - (req - first));
  half = (max - 1) / 2;
  if (before <= half)
    after = min_u64 (after, max - 1 - before);
  else {
    after = min_u64 (after, max - 1 - half);
    before = min_u64 (before, max - 1 - after);
  }
  *from = req - before;
  *nr = before + 1 + after;
  return true;
}
