/* SPDX-License-Identifier: BSD-2-Clause */
/* The pool's free space; the contract is in space.h.
 *
 * Called by object/; calls base/blist and, for sparse volumes, volume_trim.
 *
 *            charges (atomic)      units (atomic, FIFO of waiters)
 *   alloc --> lane 0..17: [run handed out][frees gathered]
 *                 | refill, at most 256           | when 64 runs are there
 *                 v                               v
 *             volume 0: blist   volume 1: blist ...   (next fit each)
 *
 * A lane is picked by the caller's hint, so writers to different shards do
 * not meet, and one shard's blocks lie together.  Pages that go to buffers have
 * one lane for all objects, for what a commit writes is then a few transfers,
 * not one a shard; nodes have one too.  With several volumes a lane takes one
 * stripe at a time and then moves on, volumes taking turns by how much each has
 * free (smooth weighted round robin).
 *
 * Invariants
 * I1. charged <= charge_max; charge_max + units + retire_max = blocks.
 * I2. Blocks taken from the blists = mapped + on the move + held by lanes +
 *     retired + under trim.  Blocks on the move <= units taken, retired <=
 *     retire_max (retire.c).
 * I3. Hence who holds a unit finds a block: in a blist, with a lane, or in
 *     the hands of a thread that is just putting it back.  A lane takes more
 *     than it was asked for only while there is plenty.
 * I4. Blocks outside config.usable are taken in the blists from the start, or
 *     beyond their end, and in no number above.  Those a store found in use
 *     at open (space_mark_used) count as mapped.
 * I5. A level is told once: "almost full" is set below low and cleared above
 *     high; "full" is set by a charge that failed below low and cleared at
 *     low.  A large charge that fails while there is room says nothing.
 *
 * Locks: lane < space < volume.  The path of a request takes its lane's lock;
 * the others only once in many blocks.  Counters are atomic.
 *
 * Not done: choosing runs by length (a search for a long run may walk a whole
 * fragmented map under the volume's lock; next fit of any length does not).
 */

#include <config.h>

#include "space-impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blist.h"
#include "env.h"
#include "log.h"
#include "task.h"

#define RESERVE_BLOCKS_MIN UINT64_C (256)   /* 1 MiB */
#define RESERVE_BLOCKS_MAX UINT64_C (65536) /* 256 MiB */
#define LOW_BLOCKS_MIN     UINT64_C (128)
#define HIGH_BLOCKS_MIN    UINT64_C (512)
#define ALLOC_YIELDS_MAX   64
#define ALLOC_NAP_NS       (100 * 1000)
#define ALLOC_WAIT_NS      (3 * NS_PER_S)
#define HISTOGRAM_BLOCKS   (UINT64_C (1) << 20) /* looked at under one lock */
#define TRIM_BLOCKS        16u         /* what a sparse volume gives back */
#define TRIM_BLOCKS_MAX    SHARD_PAGES /* at a time */

static struct log_limit no_block_limit;

/* ---- blocks ---- */

_Static_assert(SPACE_FRAGMENTS >= BLIST_HIST, "a histogram fits");
_Static_assert(SPACE_LANES == 16 + 2, "lane_of takes four bits of the product");

static struct lane *
lane_of (struct space *sp, uint64_t hint)
{
  if (hint >= SPACE_HINT_SMALL)
    return &sp->lanes[16 + (hint - SPACE_HINT_SMALL)];
  return &sp->lanes[(hint * UINT64_C (0x9e3779b97f4a7c15)) >> 60];
}

struct volume *
space_volume (struct space *sp, blkno_t blk)
{
  assert (blkno_volume (blk) < sp->config.nr_volumes);
  return sp->volumes[blkno_volume (blk)].volume;
}

/* Whose turn it is: each volume's credit grows by what it has free, the
 * richest is taken and pays the sum.  Returns nr_volumes if nothing is free.
 */
static unsigned
pick_volume (struct space *sp)
{
  unsigned best = sp->config.nr_volumes;
  int64_t sum = 0;

  if (sp->config.nr_volumes == 1)
    return 0;
  LOCK_SCOPE (&sp->lock);
  for (unsigned i = 0; i < sp->config.nr_volumes; i++) {
    struct space_volume *sv = &sp->volumes[i];
    int64_t nr_free = (int64_t) atomic_load (&sv->nr_free);

    if (nr_free == 0)
      continue;
    sv->credit += nr_free;
    sum += nr_free;
    if (best == sp->config.nr_volumes || sv->credit > sp->volumes[best].credit)
      best = i;
  }
  if (best < sp->config.nr_volumes)
    sp->volumes[best].credit -= sum;
  return best;
}

static uint64_t
nr_free_all (struct space *sp)
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < sp->config.nr_volumes; i++)
    sum += atomic_load (&sp->volumes[i].nr_free);
  return sum;
}

/* How many blocks a lane takes when it is asked for want (I3). */
static uint64_t
handout (struct space *sp, uint64_t want)
{
  uint64_t plenty = nr_free_all (sp) / (SPACE_LANES * 4);
  uint64_t most =
      sp->config.nr_volumes == 1 ? SPACE_HANDOUT_MAX : sp->config.stripe_blocks;

  return max_u64 (min_u64 (want, most), min_u64 (plenty, most));
}

/* Lock: needs lane->lock.  ENOSPC: no volume has a free block. */
static int
refill (struct space *sp, struct lane *lane, uint64_t want)
{
  for (unsigned tries = 0; tries <= sp->config.nr_volumes; tries++) {
    unsigned i = pick_volume (sp);
    uint64_t place, nr;

    if (i == sp->config.nr_volumes)
      return ENOSPC;
    struct space_volume *sv = &sp->volumes[i];
    LOCK_SCOPE (&sv->lock);
    if (blist_alloc (sv->bl, 1, handout (sp, want), &place, &nr) == 0) {
      atomic_store (&sv->nr_free, blist_nr_free (sv->bl));
      lane->run.blk = blkno_make (i, place);
      lane->run.nr = nr;
      return 0;
    }
  }
  return ENOSPC;
}

static int
lane_alloc (struct space *sp, struct lane *lane, uint64_t want,
            struct space_run *run)
{
  LOCK_SCOPE (&lane->lock);
  if (lane->run.nr == 0) {
    int err = refill (sp, lane, want);

    if (err)
      return err;
  }
  run->blk = lane->run.blk;
  run->nr = min_u64 (want, lane->run.nr);
  lane->run.blk += run->nr;
  lane->run.nr -= run->nr;
  return 0;
}

int
space_alloc (struct space *sp, uint64_t hint, uint64_t want,
             struct space_run *run)
{
  struct lane *lane = lane_of (sp, hint);
  uint64_t deadline_ns = 0;

  for (unsigned tries = 0; lane_alloc (sp, lane, want, run) != 0; tries++) {
    /* By I3 the blocks are with other lanes, or on their way back; a trim may
     * have them, or a thread that does not run just now.
     */
    space_drain (sp);
    if (tries < ALLOC_YIELDS_MAX) {
      task_sleep (0);
      continue;
    }
    if (tries == ALLOC_YIELDS_MAX)
      deadline_ns = env_now_ns () + ALLOC_WAIT_NS;
    else if (env_now_ns () > deadline_ns) {
      log_limited (&no_block_limit, LOG_ERROR,
                   "pool: no block for a write that has a right to one (a "
                   "trim hangs in a volume, or this is a bug: report it)");
      return EIO;
    }
    task_sleep (ALLOC_NAP_NS);
  }
  return 0;
}

/* Take the windows from w on that are free, up to the one before end, from the
 * blist, so that nobody is given a block of them.  Returns how many.
 */
static uint64_t
take_windows (struct space_volume *sv, uint64_t w, uint64_t end)
{
  uint64_t nr = 0, taken;

  end = min_u64 (end, w + TRIM_BLOCKS_MAX / TRIM_BLOCKS);
  LOCK_SCOPE (&sv->lock);
  while (w + nr < end &&
         blist_is_free (sv->bl, (w + nr) * TRIM_BLOCKS, TRIM_BLOCKS))
    nr++;
  if (nr > 0)
    blist_fill (sv->bl, w * TRIM_BLOCKS, nr * TRIM_BLOCKS, &taken);
  atomic_store (&sv->nr_free, blist_nr_free (sv->bl));
  return nr;
}

/* A run came free on a sparse volume: what whole 64 KiB windows it touches
 * have become free go back to the medium, neighbours together.  *done is the
 * last window given back: the next run may lie in it too.
 */
static void
give_back (struct space_volume *sv, const struct space_run *run, uint64_t *done)
{
  uint64_t w = blkno_place (run->blk) / TRIM_BLOCKS;
  uint64_t end = (blkno_place (run->blk) + run->nr - 1) / TRIM_BLOCKS + 1;

  while (w < end) {
    uint64_t nr = w == *done ? 0 : take_windows (sv, w, end);

    if (nr == 0) {
      w++;
      continue;
    }
    volume_trim (sv->volume, w * TRIM_BLOCKS * PAGE_BYTES,
                 nr * TRIM_BLOCKS * PAGE_BYTES);
    lock_acquire (&sv->lock);
    blist_free (sv->bl, w * TRIM_BLOCKS, nr * TRIM_BLOCKS);
    atomic_store (&sv->nr_free, blist_nr_free (sv->bl));
    lock_release (&sv->lock);
    w += nr;
    *done = w - 1;
  }
}

/* Put runs into their blists.  Lock: none of rank LOCK_LANE or above. */
static void
blists_free (struct space *sp, const struct space_run *runs, unsigned nr_runs)
{
  for (unsigned i = 0; i < nr_runs;) {
    struct space_volume *sv = &sp->volumes[blkno_volume (runs[i].blk)];
    uint64_t done = UINT64_MAX;
    unsigned first = i;

    lock_acquire (&sv->lock);
    for (; i < nr_runs && &sp->volumes[blkno_volume (runs[i].blk)] == sv; i++) {
      int err = blist_free (sv->bl, blkno_place (runs[i].blk), runs[i].nr);

      assert (err == 0);
      (void) err;
    }
    atomic_store (&sv->nr_free, blist_nr_free (sv->bl));
    lock_release (&sv->lock);
    if (sv->volume->sparse)
      for (; first < i; first++)
        give_back (sv, &runs[first], &done);
  }
}

/* Add a run to what the lane gathers.  True: it did not fit.
 * Lock: needs lane->lock.
 */
static bool
gather (struct lane *lane, const struct space_run *run)
{
  if (lane->nr_frees > 0) {
    struct space_run *last = &lane->frees[lane->nr_frees - 1];

    if (last->blk + last->nr == run->blk) {
      last->nr += run->nr;
      return false;
    }
    if (run->blk + run->nr == last->blk) {
      last->blk = run->blk;
      last->nr += run->nr;
      return false;
    }
  }
  if (lane->nr_frees == SPACE_LANE_FREES)
    return true;
  lane->frees[lane->nr_frees++] = *run;
  return false;
}

void
space_free (struct space *sp, uint64_t hint, const struct space_run *runs,
            unsigned nr_runs)
{
  struct lane *lane = lane_of (sp, hint);
  struct space_run full[SPACE_LANE_FREES];
  unsigned i = 0;

  while (i < nr_runs) {
    unsigned nr_full = 0;

    if (runs[i].nr >= SPACE_HANDOUT_MAX) {
      blists_free (sp, &runs[i++], 1);
      continue;
    }
    lock_acquire (&lane->lock);
    bool is_full = false;

    for (; i < nr_runs && runs[i].nr < SPACE_HANDOUT_MAX; i++) {
      is_full = gather (lane, &runs[i]);
      if (is_full)
        break;
    }
    if (is_full) {
      nr_full = lane->nr_frees;
      memcpy (full, lane->frees, nr_full * sizeof *full);
      lane->nr_frees = 0;
    }
    lock_release (&lane->lock);
    blists_free (sp, full, nr_full);
  }
}

void
space_drain (struct space *sp)
{
  for (unsigned i = 0; i < SPACE_LANES; i++) {
    struct lane *lane = &sp->lanes[i];
    struct space_run runs[SPACE_LANE_FREES + 1];
    unsigned nr;

    lock_acquire (&lane->lock);
    nr = lane->nr_frees;
    memcpy (runs, lane->frees, nr * sizeof *runs);
    lane->nr_frees = 0;
    if (lane->run.nr > 0)
      runs[nr++] = lane->run;
    lane->run.nr = 0;
    lock_release (&lane->lock);
    blists_free (sp, runs, nr);
  }
}

/* ---- create, destroy ---- */

/* Divide the blocks: the reserve (1/32 of the pool, bounded), of it a quarter
 * for blocks that go bad and the rest for those on the move; all others can
 * be promised.
 */
static void
set_limits (struct space *sp)
{
  uint64_t reserve = min_u64 (max_u64 (sp->nr_blocks / 32, RESERVE_BLOCKS_MIN),
                              RESERVE_BLOCKS_MAX);

  reserve = max_u64 (1, min_u64 (reserve, sp->nr_blocks / 4));
  sp->retire_max = reserve / 4;
  sp->nr_units = reserve - sp->retire_max;
  sp->charge_max = sp->nr_blocks - reserve;
  atomic_store (&sp->units_free, (int64_t) sp->nr_units);
  space_set_levels (sp);
}

/* Pools too small for the floors of the levels get a quarter and a half of
 * what can be promised.
 */
void
space_set_levels (struct space *sp)
{
  sp->low = min_u64 (max_u64 (LOW_BLOCKS_MIN, sp->nr_blocks / 100),
                     sp->charge_max / 4);
  sp->high = min_u64 (max_u64 (HIGH_BLOCKS_MIN, sp->nr_blocks / 50),
                      sp->charge_max / 2);
}

/* The blist counts from the medium's first block, as block numbers do; what
 * lies before the usable blocks is taken for good, what lies behind is outside.
 */
static int
add_volume (struct space *sp, unsigned i)
{
  struct space_volume *sv = &sp->volumes[i];
  uint64_t end, taken;
  int err;

  sv->volume = sp->config.volumes[i];
  end = sv->volume->size_bytes >> PAGE_SHIFT;
  if (sp->config.usable != NULL) {
    const struct space_run *run = &sp->config.usable[i];

    sv->first = blkno_place (run->blk);
    if (run->blk != blkno_make (i, sv->first) || sv->first > end ||
        run->nr > end - sv->first)
      return EINVAL;
    end = sv->first + run->nr;
  }
  sv->nr_blocks = end - sv->first;
  if (sv->nr_blocks < sp->config.stripe_blocks || end > BLIST_BLOCKS_MAX)
    return EINVAL;
  err = blist_create (end, &sv->bl);
  if (err)
    return err;
  err = blist_fill (sv->bl, 0, sv->first, &taken);
  assert (err == 0 && taken == sv->first);
  atomic_store (&sv->nr_free, blist_nr_free (sv->bl));
  sp->nr_blocks += sv->nr_blocks;
  return err;
}

int
space_create (const struct space_config *config, struct space **spp)
{
  struct space *sp;
  int err = 0;

  if (config->nr_volumes == 0 || config->nr_volumes > VOLUMES_MAX)
    return EINVAL;
  sp =
      aligned_alloc (64, sizeof *sp + config->nr_volumes * sizeof *sp->volumes);
  if (sp == NULL)
    return ENOMEM;
  memset (sp, 0, sizeof *sp + config->nr_volumes * sizeof *sp->volumes);
  sp->config = *config;
  if (sp->config.stripe_blocks == 0)
    sp->config.stripe_blocks = SPACE_STRIPE_BLOCKS;
  sp->last = &sp->first;
  lock_init (&sp->lock, LOCK_SPACE, "space");
  cond_init (&sp->changed);
  for (unsigned i = 0; i < SPACE_LANES; i++)
    lock_init (&sp->lanes[i].lock, LOCK_LANE, "lane");
  for (unsigned i = 0; i < config->nr_volumes; i++)
    lock_init (&sp->volumes[i].lock, LOCK_VOLUME, "volume");
  for (unsigned i = 0; i < config->nr_volumes && err == 0; i++)
    err = add_volume (sp, i);
  if (err) {
    space_destroy (sp);
    return err;
  }
  sp->config.usable = NULL;
  set_limits (sp);
  *spp = sp;
  return 0;
}

void
space_destroy (struct space *sp)
{
  if (sp == NULL)
    return;
  for (unsigned i = 0; i < SPACE_LANES; i++)
    lock_destroy (&sp->lanes[i].lock);
  for (unsigned i = 0; i < sp->config.nr_volumes; i++) {
    blist_destroy (sp->volumes[i].bl);
    lock_destroy (&sp->volumes[i].lock);
  }
  cond_destroy (&sp->changed);
  lock_destroy (&sp->lock);
  free (sp);
}

int
space_take (struct space *sp, const struct space_run *run)
{
  unsigned i = blkno_volume (run->blk);
  uint64_t place = blkno_place (run->blk), taken;

  if (i >= sp->config.nr_volumes || run->blk != blkno_make (i, place))
    return EINVAL;
  struct space_volume *sv = &sp->volumes[i];
  LOCK_SCOPE (&sv->lock);
  if (run->nr == 0 || place >= blist_nr_blocks (sv->bl) ||
      run->nr > blist_nr_blocks (sv->bl) - place ||
      !blist_is_free (sv->bl, place, run->nr))
    return EINVAL;
  blist_fill (sv->bl, place, run->nr, &taken);
  atomic_store (&sv->nr_free, blist_nr_free (sv->bl));
  return 0;
}

int
space_mark_used (struct space *sp, const struct space_run *run)
{
  int err = space_take (sp, run);

  if (err == 0)
    sp->nr_marked += run->nr;
  return err;
}

uint64_t
space_nr_marked (const struct space *sp)
{
  return sp->nr_marked;
}

/* ---- looking ---- */

void
space_stat (struct space *sp, struct space_stat *st)
{
  int64_t units_free;

  space_drain (sp);
  memset (st, 0, sizeof *st);
  st->nr_blocks = sp->nr_blocks;
  st->nr_charged = atomic_load (&sp->charged);
  st->nr_charge_max = sp->charge_max;
  st->nr_parked = atomic_load (&sp->nr_parked);
  st->nr_retired = atomic_load (&sp->nr_retired);
  st->nr_retire_max = sp->retire_max;
  st->nr_units = sp->nr_units;
  units_free = atomic_load (&sp->units_free);
  st->nr_units_used = (uint64_t) ((int64_t) sp->nr_units - units_free);
  st->stripe_blocks = sp->config.stripe_blocks;
  st->level = space_level_now (sp);
}

void
space_fragments (struct space *sp, uint64_t hist[SPACE_FRAGMENTS])
{
  space_drain (sp);
  memset (hist, 0, SPACE_FRAGMENTS * sizeof *hist);
  for (unsigned i = 0; i < sp->config.nr_volumes; i++) {
    struct space_volume *sv = &sp->volumes[i];
    uint64_t next = 0, run = 0;

    /* Those who need blocks get the lock between two pieces. */
    while (next < sv->first + sv->nr_blocks) {
      LOCK_SCOPE (&sv->lock);
      blist_histogram_part (sv->bl, HISTOGRAM_BLOCKS, &next, &run, hist);
    }
  }
}

uint64_t
space_volume_used (struct space *sp, unsigned volume)
{
  struct space_volume *sv = &sp->volumes[volume];

  return sv->nr_blocks - atomic_load (&sv->nr_free);
}

const char *
space_check (struct space *sp, uint64_t nr_mapped)
{
  uint64_t nr_used = 0;

  space_drain (sp);
  for (unsigned i = 0; i < sp->config.nr_volumes; i++) {
    struct space_volume *sv = &sp->volumes[i];
    const char *wrong;

    LOCK_SCOPE (&sv->lock);
    wrong = blist_check (sv->bl);
    if (wrong != NULL)
      return wrong;
    if (blist_nr_free (sv->bl) != atomic_load (&sv->nr_free))
      return "space: a volume's free count is not its blist's";
    nr_used += sv->nr_blocks - blist_nr_free (sv->bl);
  }
  uint64_t nr_parked = atomic_load (&sp->nr_parked);

  if (atomic_load (&sp->units_free) + (int64_t) nr_parked !=
      (int64_t) sp->nr_units)
    return "space: units are missing";
  if (nr_used != nr_mapped + nr_parked + atomic_load (&sp->nr_retired))
    return "space: blocks taken and blocks mapped differ";
  if (atomic_load (&sp->charged) < nr_mapped)
    return "space: more mapped than charged";
  return NULL;
}
