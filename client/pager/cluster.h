/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages into requests: pure functions over a page map and a wish.
 *
 * An entry that is no block is a row of itself.
 */

#ifndef FARPAGE_CLUSTER_H
#define FARPAGE_CLUSTER_H

#include "swmeta.h"

#define CLUSTER_PAGES_MAX 512u

/* Of the pages [first, first + count) those that lie with page req in one row
 * of blocks: [*from, *from + *nr), at most max pages (clamped to 1 ..
 * CLUSTER_PAGES_MAX), req among them.  Where the row is longer than max it is
 * cut evenly on both sides of req.  Crosses the map's shards.  False: req has
 * no entry, or is not among those pages, or beyond the map.
 */
extern bool cluster_around (struct swmeta *map, pgno_t first, uint64_t count,
                            pgno_t req, uint64_t max, pgno_t *from,
                            uint64_t *nr);

/* Blocks before and after req's that go on from it, at most max on each side
 * and across shards; false: it has none, or is beyond the map.
 */
extern bool cluster_has (struct swmeta *map, pgno_t req, uint64_t max,
                         uint64_t *before, uint64_t *after);

#endif /* FARPAGE_CLUSTER_H */
