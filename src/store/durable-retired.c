/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks that failed a write, from one start of a durable store to the next.
 *
 *   space: list --cut--> root of the cut --next superblock--> medium
 *        ^                                                      |
 *        +------------------ open, when all is charged ---------+
 *
 * I1. No map as of redo_lsn names a block of the superblock's list, the free
 *     map as of then has it as free, and no record from there on names it.  For
 *     before a block is handed out to the write that fails, the record that
 *     took it off a map is durable; the list is taken at a cut, which comes
 *     later; and after that nobody is given the block again.  So recovery need
 *     not know the list, and whatever it frees is none of these blocks.
 * I2. Until the list is taken over, when recovery is over, each superblock has
 *     it as the one before had it: a crash meanwhile loses nothing of it.
 *
 * A run that a crash keeps out of the list, or for which the list has no room,
 * is found again as it was the first time: by a write that fails.
 */

#include <config.h>

#include "durable-impl.h"

#include <inttypes.h>
#include <string.h>

#include "log.h"
#include "sabotage.h"

/* At open.  Blocks that cannot be taken out of use were good enough for a map,
 * which no server of ours lists; or are more than the pool can do without.
 */
static void
take_over (struct durable *d, const struct space_run *run)
{
  struct space *sp = d->s->space;
  uint64_t nr_left = 0;

  if (space_mark_retired (sp, run) == 0)
    return;
  for (uint64_t i = 0; i < run->nr; i++) {
    struct space_run one = { run->blk + i, 1 };

    nr_left += space_mark_retired (sp, &one) != 0;
  }
  log_write (LOG_WARNING,
             "%s: of %" PRIu64 " blocks from %" PRIu64 " on that failed a "
             "write, %" PRIu64 " are in use, or the pool has nothing in their "
             "place: those are used as if they were good (run 'farpage "
             "check', and replace the volume)",
             space_volume (sp, run->blk)->name, run->nr, blkno_place (run->blk),
             nr_left);
}

void
durable_take_retired (struct durable *d)
{
  const struct disk_super *root = &d->supers.root;

  for (unsigned i = 0; i < DISK_RETIRED && root->retired[i].nr != 0; i++) {
    struct space_run run = { root->retired[i].blk, root->retired[i].nr };

    take_over (d, &run);
  }
  d->knows_retired = true;
}

void
durable_cut_retired (struct durable *d, struct disk_super *root)
{
  struct space_run runs[SPACE_RETIRED_LISTED];
  unsigned nr;

  if (!d->knows_retired && !SABOTAGE (forget_retired)) /* I2 */
    return;
  nr = space_retired (d->s->space, runs);
  memset (root->retired, 0, sizeof root->retired);
  for (unsigned i = 0; i < nr && i < DISK_RETIRED; i++) {
    root->retired[i].blk = runs[i].blk;
    root->retired[i].nr = (uint32_t) min_u64 (runs[i].nr, UINT32_MAX);
  }
  if (nr <= DISK_RETIRED || d->told_retired)
    return;
  d->told_retired = true;
  log_write (LOG_WARNING,
             "%s: blocks in more than %u places have failed a write: the "
             "next start does not know of those that come now (replace the "
             "volume)",
             space_volume (d->s->space, runs[DISK_RETIRED].blk)->name,
             DISK_RETIRED);
}
