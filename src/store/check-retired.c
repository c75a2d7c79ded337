/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: blocks that failed a write, as the root's superblock lists them.
 *
 *                 named              not named
 *   listed        RETIRED: goes on   never given out
 *                 being used
 *
 * The free map does not know of them: the bit of a listed block is that of any
 * other that nothing names.  What a map names is not on the list of any server
 * of ours; it is the list that gives way, for the page's CRC tells whether the
 * block is good.
 */

#include <config.h>

#include "check-impl.h"

#include <inttypes.h>
#include <string.h>

struct listed {
  struct disk_retired run[DISK_RETIRED]; /* what stays */
  unsigned nr;
};

static void
tell_named (struct check *c, uint64_t blk, uint64_t nr)
{
  struct check_place at = CHECK_NOWHERE;

  at.blk = blk;
  at.nr_blocks = nr;
  at.repair = "off the list from now on";
  check_tell (c, CHECK_RETIRED, &at,
              "on the list of blocks that failed a write, and in use");
}

static void
stay (struct check *c, struct listed *l, uint64_t blk, uint64_t nr)
{
  c->report->nr_retired += nr;
  check_note (c,
              "%s: %" PRIu64 " blocks from %" PRIu64 " on failed a write, and "
              "are used no more",
              c->volumes[blkno_volume (blk)]->name, nr, blkno_place (blk));
  if (l->nr == DISK_RETIRED)
    return; /* the next write finds out */
  l->run[l->nr].blk = blk;
  l->run[l->nr++].nr = (uint32_t) nr;
}

static void
look_at_run (struct check *c, struct listed *l, const struct disk_retired *r)
{
  uint64_t end = r->blk + r->nr, from = r->blk;

  while (from < end) {
    bool named = check_is_owned (c, from);
    uint64_t to = from + 1;

    while (to < end && check_is_owned (c, to) == named)
      to++;
    if (named)
      tell_named (c, from, to - from);
    else
      stay (c, l, from, to - from);
    from = to;
  }
}

void
check_retired (struct check *c)
{
  struct listed l = { .nr = 0 };

  for (unsigned i = 0; i < DISK_RETIRED && c->root.retired[i].nr != 0; i++)
    look_at_run (c, &l, &c->root.retired[i]);
  if (c->fix)
    memcpy (c->root.retired, l.run, sizeof l.run);
}
