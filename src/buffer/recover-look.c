/* SPDX-License-Identifier: BSD-2-Clause */
/* The log as recovery would find it, for `farpage check`: the rules are those
 * of recover-scan.c, but damage is handed out and not told, nothing is kept,
 * and a log with nothing to redo costs a read of one block.
 *
 *   first        mark         end      dropped
 *   | good .. good | good .. good | bad | good? ... |
 *
 * Called by store/check-log.c.  It reads the ring alone and writes nothing.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <stdlib.h>

#define LOOK_BLOCKS 64u

/* The ring, read a run at a time; runs grow, for most looks end soon. */
struct ring {
  struct volume *v;
  const struct disk_super *root;
  uint8_t *buf; /* LOOK_BLOCKS */
  uint64_t first, nr, next_nr;
};

static int
ring_read (struct ring *r, uint64_t lsn, uint64_t nr)
{
  uint64_t at = lsn % r->root->ring_blocks;
  int err;

  nr = min_u64 (nr, r->root->ring_blocks - at);
  err = volume_read (r->v, (r->root->ring_first + at) * BUF_BYTES, r->buf,
                     nr * BUF_BYTES);
  r->first = lsn;
  r->nr = err ? 0 : nr;
  return err;
}

/* Block lsn if it is good and of this epoch or a later one; NULL.  One that
 * cannot be read is as good as not there.
 */
static const struct disk_log *
ring_block (struct ring *r, uint64_t lsn, uint64_t limit, uint64_t epoch)
{
  const struct disk_log *log;

  if (lsn < r->first || lsn - r->first >= r->nr) {
    uint64_t nr = min_u64 (r->next_nr, limit - lsn);

    r->next_nr = min_u64 (2 * r->next_nr, LOOK_BLOCKS);
    if (ring_read (r, lsn, nr) != 0 && ring_read (r, lsn, 1) != 0)
      return NULL;
  }
  log = (const struct disk_log *) (r->buf + (lsn - r->first) * BUF_BYTES);
  if (undo_error (log, r->root->uuid) != NULL || log->lsn != lsn ||
      log->epoch < epoch)
    return NULL;
  return log;
}

static void
count (const struct disk_log *log, struct recover_look *look)
{
  uint32_t pos = 0;

  look->epoch = log->epoch;
  look->mark = max_u64 (look->mark, log->durable);
  look->nr_images += log->kind == DISK_LOG_UNDO;
  if (log->kind != DISK_LOG_REDO)
    return;
  while (undo_next_rec (log, log->bytes, &pos) != NULL)
    look->nr_records++;
  if (pos != log->bytes && look->wrong == NULL) {
    look->wrong = "has a record that is not whole";
    look->wrong_lsn = log->lsn;
  }
}

/* What lies behind the end: dropped, or a sign that the end is a hole. */
static void
look_behind (struct ring *r, uint64_t limit, struct recover_look *look)
{
  for (uint64_t lsn = look->end + 1; lsn < limit; lsn++) {
    const struct disk_log *log = ring_block (r, lsn, limit, look->epoch);

    if (log == NULL)
      continue;
    look->nr_dropped++;
    if (log->durable > look->end && look->wrong == NULL) {
      look->wrong = "is damaged: it was durable when a later one was written";
      look->wrong_lsn = look->end;
    }
  }
}

static void
look_at (struct ring *r, bool clean, struct recover_look *look)
{
  uint64_t limit = look->first + r->root->ring_blocks;
  const struct disk_log *log = NULL;

  if (ring_read (r, look->first, 1) == 0) {
    log = (const struct disk_log *) r->buf;
    if (undo_error (log, r->root->uuid) == NULL && log->lsn > look->first) {
      look->wrong = "is of a later turn of the ring: newer superblocks than "
                    "the best one are lost";
      look->wrong_lsn = look->first;
      return;
    }
  }
  while (look->end < limit) {
    log = ring_block (r, look->end, limit, look->epoch);
    if (log == NULL)
      break;
    count (log, look);
    look->end++;
  }
  if (!(clean && look->end == look->first))
    look_behind (r, limit, look);
  if (look->mark > look->end && look->wrong == NULL) {
    look->wrong = "is missing: the log was durable beyond it";
    look->wrong_lsn = look->end;
  }
}

int
recover_look (struct volume *v, const struct disk_super *root,
              struct recover_look *look)
{
  struct ring r = { .v = v, .root = root, .next_nr = 1 };

  *look =
      (struct recover_look){ .first = root->redo_lsn, .end = root->redo_lsn };
  look->epoch = root->redo_epoch;
  look->mark = max_u64 (root->durable_lsn, root->redo_lsn);
  r.buf = aligned_alloc (BUF_BYTES, LOOK_BLOCKS * BUF_BYTES);
  if (r.buf == NULL)
    return ENOMEM;
  look_at (&r, root->state == DISK_CLEAN, look);
  free (r.buf);
  return 0;
}
