/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks that failed a write: out of use for good.  The contract is in space.h.
 *
 * Called by object/ when a write has failed, and at open by a durable store,
 * whose superblock lists them (store/durable-retired.c).
 *
 *   taken by a write --fails--> retired: no blist, lane or map has it
 *   free, at open  --listed-->  the same
 *
 * I1. nr_retired <= retire_max, and what is above is put back as if it was
 *     good: so a medium of which every write fails for a while does not cost
 *     the pool more than a quarter of the reserve.
 * I2. The list has what nr_retired counts, but for runs that came when it was
 *     full.  It grows at its end; a run that becomes longer stays in its place.
 *
 * Locks: space.lock guards the list; the count is atomic.
 */

#include <config.h>

#include "space-impl.h"

#include <errno.h>
#include <string.h>

/* Is run next to it?  Then it is part of it now. */
static bool
join (struct space_run *to, const struct space_run *run)
{
  if (to->blk + to->nr != run->blk && run->blk + run->nr != to->blk)
    return false;
  to->blk = min_u64 (to->blk, run->blk);
  to->nr += run->nr;
  return true;
}

static void
list_run (struct space *sp, const struct space_run *run)
{
  struct space_run *list = sp->retired;
  unsigned i = 0, k;

  LOCK_SCOPE (&sp->lock);
  while (i < sp->nr_retired_runs && !join (&list[i], run))
    i++;
  if (i == sp->nr_retired_runs) {
    if (i < SPACE_RETIRED_LISTED)
      list[sp->nr_retired_runs++] = *run;
    return;
  }
  /* It may have closed the gap to one that comes later. */
  for (k = i + 1; k < sp->nr_retired_runs && !join (&list[i], &list[k]); k++)
    ;
  if (k < sp->nr_retired_runs) {
    sp->nr_retired_runs--;
    memmove (&list[k], &list[k + 1], (sp->nr_retired_runs - k) * sizeof *list);
  }
}

void
space_retire (struct space *sp, const struct space_run *run)
{
  uint64_t nr = atomic_load (&sp->nr_retired);

  do {
    if (run->nr > sp->retire_max - nr) {
      space_free (sp, 0, run, 1);
      return;
    }
  } while (!atomic_compare_exchange_weak (&sp->nr_retired, &nr, nr + run->nr));
  list_run (sp, run);
}

int
space_mark_retired (struct space *sp, const struct space_run *run)
{
  uint64_t nr = atomic_load (&sp->nr_retired);
  uint64_t room = sp->retire_max - nr;
  uint64_t more = run->nr > room ? run->nr - room : 0;
  int err;

  if (more > sp->charge_max - atomic_load (&sp->charged))
    return ENOSPC;
  err = space_take (sp, run);
  if (err)
    return err;
  if (more > 0) {
    sp->retire_max += more;
    sp->charge_max -= more;
    space_set_levels (sp);
  }
  atomic_store (&sp->nr_retired, nr + run->nr);
  list_run (sp, run);
  return 0;
}

unsigned
space_retired (struct space *sp, struct space_run runs[SPACE_RETIRED_LISTED])
{
  LOCK_SCOPE (&sp->lock);
  memcpy (runs, sp->retired, sp->nr_retired_runs * sizeof *runs);
  return sp->nr_retired_runs;
}
