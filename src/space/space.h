/* SPDX-License-Identifier: BSD-2-Clause */
/* The pool's free space over several volumes.
 *
 * Three things are counted apart:
 *
 * charge   A promise of a block to a page: pages that are mapped, pages that
 *          are "zero, reserved", and every page of a reserved object.  Charges
 *          never exceed the limit: the pool less the relocation reserve.
 *          This, and only this, is where ENOSPC comes from.
 * unit     A block on the move: taken by a write before it publishes it, or
 *          displaced and still being read.  As many units exist as three
 *          quarters of the relocation reserve have blocks.
 * block    What the blists hand out.  Who holds a unit finds a block.
 *
 * The last quarter of the reserve makes up for blocks that were retired.
 * Blocks in use = charged and mapped + on the move + retired <= limit +
 * reserve = pool: so an overwrite waits for its turn at most, and never fails
 * for space.
 */

#ifndef FARPAGE_SPACE_H
#define FARPAGE_SPACE_H

#include "types.h"
#include "volume.h"

struct space;

/* A row of blocks on one volume. */
struct space_run {
  blkno_t blk;
  uint64_t nr;
};

#define SPACE_STRIPE_BLOCKS 32  /* default: 128 KiB */
#define SPACE_HANDOUT_MAX   256 /* blocks a lane takes from a volume at once */
#define SPACE_LANES         18u /* 16 by hint, and one for each of these: */
#define SPACE_HINT_META     UINT64_MAX       /* nodes */
#define SPACE_HINT_SMALL    (UINT64_MAX - 1) /* pages that go to buffers */
#define SPACE_LANE_FREES                              \
  64 /* runs a lane gathers before it gives back; one \
      * of SPACE_HANDOUT_MAX goes back at once */

enum space_level {
  SPACE_LEVEL_OK,
  SPACE_LEVEL_ALMOST_FULL,
  SPACE_LEVEL_FULL
};

struct space_config {
  struct volume *const *volumes; /* stay the caller's, outlive the space */
  unsigned nr_volumes;           /* 1 to VOLUMES_MAX */
  unsigned stripe_blocks;        /* 0: SPACE_STRIPE_BLOCKS */
  /* What of each volume may be handed out, in the volumes' order: blocks
   * outside (slots, log, free map) do not count as the pool's.  NULL: all.
   * Read by space_create () only.
   */
  const struct space_run *usable;
  /* Told of each change of level, with no lock held; must not block. */
  void (*on_level) (void *arg, enum space_level level);
  /* Somebody waits for units: begin what brings parked blocks back.  Called
   * with no lock held, must not block.  NULL: they come back by themselves.
   */
  void (*want_units) (void *arg);
  void *arg;
};

/* EINVAL, ENOMEM. */
extern int space_create (const struct space_config *config, struct space **spp);
extern void space_destroy (struct space *sp);

/* At open, before anybody works: these blocks are in use.  EINVAL, and nothing
 * changes, if any of them is not the pool's or was marked already: then
 * whoever keeps the books is wrong about more than this run, and no block of
 * the pool may be handed out.  Their charges are the caller's to make.
 */
extern int space_mark_used (struct space *sp, const struct space_run *run);
extern uint64_t space_nr_marked (const struct space *sp);

/* At open, when what is used is marked and charged: a process before this one
 * has retired these blocks, and they are as space_retire () leaves them.  If
 * they are more than the quarter of the reserve, it becomes larger, and what
 * can be promised smaller.  EINVAL, ENOSPC, and nothing changes: any of them is
 * not the pool's or is in use; so much can no more be taken from what is
 * promised.
 */
extern int space_mark_retired (struct space *sp, const struct space_run *run);

/* The volume a block is on, and where. */
extern struct volume *space_volume (struct space *sp, blkno_t blk);
static inline uint64_t
space_off (blkno_t blk)
{
  return blkno_place (blk) << PAGE_SHIFT;
}

/* ---- charges ---- */

/* Promise nr more pages a block, or ENOSPC.  Any lock may be held.  Blocks:
 * no.
 */
extern int space_charge (struct space *sp, uint64_t nr);

/* The same, but while an object is being dropped wait for what that brings,
 * until deadline_ns at most.  Lock: none held.  Blocks: yes.
 */
extern int space_charge_wait (struct space *sp, uint64_t nr,
                              uint64_t deadline_ns);
/* After charges made under a lock, when it is released: tell of a level that
 * was passed.  Lock: none held.
 */
extern void space_look (struct space *sp);
extern void space_uncharge (struct space *sp, uint64_t nr);

/* Around the freeing of an object's blocks. */
extern void space_drop_begin (struct space *sp);
extern void space_drop_done (struct space *sp);

/* ---- units ---- */

/* How many there are; at least 1. */
extern uint64_t space_nr_units (const struct space *sp);

/* Most units a caller may hold at a time; at least 1. */
extern uint64_t space_slice_max (const struct space *sp);

/* Take nr units (1 to space_slice_max), in turn.  ETIMEDOUT: none came free
 * before deadline_ns; 0 means no waiting.  The caller holds no units.  Lock:
 * none held.  Blocks: yes, if there is a deadline.
 */
extern int space_acquire (struct space *sp, uint64_t nr, uint64_t deadline_ns);

/* Give units back.  Lock: none of rank LOCK_SPACE or above held. */
extern void space_release (struct space *sp, uint64_t nr);

/* nr blocks were unmapped and are still being read: each holds a unit until
 * space_unpark () (and is freed by space_free () then).  Never fails, may be
 * more than there are: takers wait until it is made up.
 */
extern void space_park (struct space *sp, uint64_t nr);
extern void space_unpark (struct space *sp, uint64_t nr);

/* ---- blocks ---- */

/* One run of 1 to want blocks.  The caller holds units for them.  hint: calls
 * with the same hint get neighbouring blocks (an object's shard number,
 * mixed).  EIO: no block for 20 s, as while a trim hangs in a sparse volume.
 * Lock: none of rank LOCK_LANE or above held.  Blocks: no, but while the pool
 * is full to the last block it waits for who is putting some back.
 */
extern int space_alloc (struct space *sp, uint64_t hint, uint64_t want,
                        struct space_run *run);

/* Blocks that nobody maps or reads.  Lock, Blocks: as space_alloc. */
extern void space_free (struct space *sp, uint64_t hint,
                        const struct space_run *runs, unsigned nr_runs);

/* A run failed to take a write: it is never handed out again (up to a quarter
 * of the reserve; what is over is freed as if it were good).  The caller's
 * units for it are the caller's still.
 */
extern void space_retire (struct space *sp, const struct space_run *run);

/* The runs that were retired, neighbours as one; if they are more than that,
 * the first of them.  Lock: none of rank LOCK_SPACE or above held.
 */
#define SPACE_RETIRED_LISTED 256u
extern unsigned space_retired (struct space *sp,
                               struct space_run runs[SPACE_RETIRED_LISTED]);

/* Give back to the blists what lanes hold; for idle moments and statistics. */
extern void space_drain (struct space *sp);

/* ---- looking ---- */

struct space_stat {
  uint64_t nr_blocks, nr_charged, nr_charge_max, nr_parked;
  uint64_t nr_retired, nr_retire_max;
  uint64_t nr_units, nr_units_used;
  unsigned stripe_blocks;
  enum space_level level;
};
/* Drains lanes first.  Blocks: shortly. */
extern void space_stat (struct space *sp, struct space_stat *st);

/* Free runs of 2^i to 2^(i+1) - 1 blocks, of all volumes.  Walks the blists,
 * a piece at a time; takes long for a large pool, and keeps nobody waiting.
 * Blocks: yes.
 */
#define SPACE_FRAGMENTS 64
extern void space_fragments (struct space *sp, uint64_t hist[SPACE_FRAGMENTS]);
extern uint64_t space_volume_used (struct space *sp, unsigned volume);

/* Recount: nr_mapped blocks are mapped by all objects together, nobody is at
 * work.  NULL, or what is wrong.
 */
extern const char *space_check (struct space *sp, uint64_t nr_mapped);

#endif /* FARPAGE_SPACE_H */
