/* SPDX-License-Identifier: BSD-2-Clause */
/* The log as it lies on the root volume: the one reader of its ring, for
 * recovery, check and dump.
 *
 *   lsn       k ring_blocks .. | 17 | 18 | 19 | 20 | 21 | .. wraps
 *   memory                          [first    ..      ]   a run, up to max
 *
 * Blocks are asked for one by one, forwards or backwards, and read a run at a
 * time; runs grow, for many looks end with the first block.
 */

#ifndef FARPAGE_RING_H
#define FARPAGE_RING_H

#include "disk.h"
#include "volume.h"

#define RING_RUN_MAX 256u /* blocks in memory */

struct ring {
  struct volume *v; /* [const] the root */
  uint64_t ring_first, ring_blocks;
  const uint8_t *uuid; /* [const] the caller's */
  uint8_t *buf;        /* max blocks, page-aligned */
  uint64_t max, next_nr;
  uint64_t first, nr; /* in buf */
};

/* Memory for runs of max blocks, at most RING_RUN_MAX.  ENOMEM. */
extern int ring_open (struct ring *r, struct volume *v,
                      const struct disk_super *root, uint64_t max);
extern void ring_close (struct ring *r);

/* What the place of lsn holds, whatever it is, until the next call; NULL: it
 * cannot be read.  With it come, where they are not in memory, blocks of [low,
 * high): those behind it, or with back those before it.  Blocks: yes.
 */
extern const struct disk_log *ring_block (struct ring *r, uint64_t lsn,
                                          uint64_t low, uint64_t high,
                                          bool back);

/* The block that lsn has its place in. */
extern uint64_t ring_blkno (const struct ring *r, uint64_t lsn);

/* Is it block lsn, whole, of this store, and of this epoch or a later one? */
extern bool ring_is_good (const struct ring *r, const struct disk_log *log,
                          uint64_t lsn, uint64_t epoch);

#endif /* FARPAGE_RING_H */
