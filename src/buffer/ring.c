/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading the log's ring; see ring.h.
 *
 * Called by recovery (recover*.c) and by the tool's dump; calls volume_read.
 * A run that cannot be read as a whole may have one bad block: then the block
 * that is wanted is read alone.
 *
 * One thread, no locks.  It judges blocks one by one: what they are together
 * is recover-scan.c's.
 */

#include <config.h>

#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flush.h"
#include "sabotage.h"

int
ring_open (struct ring *r, struct volume *v, const struct disk_super *root,
           uint64_t max)
{
  *r = (struct ring){
    .v = v,
    .ring_first = root->ring_first,
    .ring_blocks = root->ring_blocks,
    .uuid = root->uuid,
    .max = max,
    .next_nr = 1,
  };
  r->buf = aligned_alloc (DISK_BLOCK_BYTES, max * DISK_BLOCK_BYTES);
  return r->buf != NULL ? 0 : ENOMEM;
}

void
ring_close (struct ring *r)
{
  free (r->buf);
  r->buf = NULL;
  r->nr = 0;
}

/* Read blocks [lsn, lsn + nr), round the ring's end. */
static int
load (struct ring *r, uint64_t lsn, uint64_t nr)
{
  uint64_t done = 0;

  r->nr = 0;
  while (done < nr) {
    uint64_t at = (lsn + done) % r->ring_blocks;
    uint64_t run = min_u64 (nr - done, r->ring_blocks - at);
    int err =
        volume_read (r->v, (r->ring_first + at) * DISK_BLOCK_BYTES,
                     r->buf + done * DISK_BLOCK_BYTES, run * DISK_BLOCK_BYTES);

    if (err)
      return err;
    done += run;
  }
  r->first = lsn;
  r->nr = nr;
  return 0;
}

/* A run with lsn in it. */
static int
load_around (struct ring *r, uint64_t lsn, uint64_t low, uint64_t high,
             bool back)
{
  uint64_t nr = min_u64 (r->next_nr, back ? lsn - low + 1 : high - lsn);

  r->next_nr = min_u64 (2 * r->next_nr, r->max);
  if (load (r, back ? lsn + 1 - nr : lsn, nr) == 0)
    return 0;
  return load (r, lsn, 1);
}

const struct disk_log *
ring_block (struct ring *r, uint64_t lsn, uint64_t low, uint64_t high,
            bool back)
{
  if ((lsn < r->first || lsn - r->first >= r->nr) &&
      load_around (r, lsn, low, high, back) != 0)
    return NULL;
  return (const struct disk_log *) (r->buf +
                                    (lsn - r->first) * DISK_BLOCK_BYTES);
}

uint64_t
ring_blkno (const struct ring *r, uint64_t lsn)
{
  return blkno_make (0, r->ring_first + lsn % r->ring_blocks);
}

bool
ring_is_good (const struct ring *r, const struct disk_log *log, uint64_t lsn,
              uint64_t epoch)
{
  if (undo_error (log, r->uuid) != NULL || log->lsn != lsn)
    return false;
  return log->epoch >= epoch || SABOTAGE (ignore_epoch);
}
