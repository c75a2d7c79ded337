/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the log ends, and whether that is an end or a hole.
 *
 * From redo_lsn on blocks must follow each other: right place, lsn one more,
 * epoch never lower, CRC.  At the first that does not, s, the log ends: a
 * crash loses blocks behind the last flush, in any combination.  But if some
 * good block further on, of the same epoch or a later one, says that s was
 * durable when it was written, then s was there and is damaged; nothing is
 * written then.
 *
 * A block of an older turn of the ring, or one that an earlier recovery
 * dropped, does not count: its lsn or its epoch is lower.  The superblock has
 * the epoch that redo_lsn is of, for the first block has none before it.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <inttypes.h>

#include "log.h"

/* Read blocks [lsn, lsn + nr) into the chunk, round the ring's end. */
static int
load_chunk (struct recover *rc, uint64_t lsn, uint64_t nr)
{
  const struct disk_super *root = &rc->supers->root;
  struct volume *v = rc->fl->config.volumes[0];
  uint64_t done = 0;

  rc->chunk_nr = 0;
  while (done < nr) {
    uint64_t at = (lsn + done) % root->ring_blocks;
    uint64_t run = min_u64 (nr - done, root->ring_blocks - at);
    int err = volume_read (v, (root->ring_first + at) * BUF_BYTES,
                           rc->chunk + done * BUF_BYTES, run * BUF_BYTES);

    if (err)
      return err;
    done += run;
  }
  rc->chunk_first = lsn;
  rc->chunk_nr = nr;
  return 0;
}

/* A run of blocks around lsn; a medium that cannot read all of it may still
 * read the one.
 */
static int
load_around (struct recover *rc, uint64_t lsn, uint64_t low, uint64_t high,
             bool back)
{
  uint64_t first = lsn, nr;

  if (back)
    first = lsn - low >= RECOVER_CHUNK ? lsn + 1 - RECOVER_CHUNK : low;
  nr = min_u64 (high - first, RECOVER_CHUNK);
  if (load_chunk (rc, first, nr) == 0)
    return 0;
  return load_chunk (rc, lsn, 1);
}

static const struct disk_log *
chunk_block (const struct recover *rc, uint64_t lsn)
{
  if (lsn < rc->chunk_first || lsn - rc->chunk_first >= rc->chunk_nr)
    return NULL;
  return (const struct disk_log *) (rc->chunk +
                                    (lsn - rc->chunk_first) * BUF_BYTES);
}

static bool
is_good (const struct recover *rc, const struct disk_log *log, uint64_t lsn,
         uint64_t epoch)
{
  if (undo_error (log, rc->supers->root.uuid) != NULL || log->lsn != lsn)
    return false;
  return log->epoch >= epoch || SABOTAGE (ignore_epoch);
}

int
recover_log (struct recover *rc, uint64_t lsn, bool back,
             const struct disk_log **logp)
{
  const struct disk_log *log = chunk_block (rc, lsn);

  if (log == NULL) {
    int err = load_around (rc, lsn, rc->first, rc->end, back);

    if (err)
      return err;
    log = chunk_block (rc, lsn);
  }
  if (!is_good (rc, log, lsn, 0) && SABOTAGE (believe_behind)) {
    static const struct disk_log hole = { .kind = DISK_LOG_REDO };

    *logp = &hole;
    return 0;
  }
  if (!is_good (rc, log, lsn, 0)) {
    log_write (LOG_ERROR,
               "store: log block %" PRIu64 " was good and is not any more "
               "(the medium fails)",
               lsn);
    return EIO;
  }
  *logp = log;
  return 0;
}

/* Count what recovery will need memory for; pages by where the mark is. */
static void
count_records (struct recover *rc, const struct disk_log *log)
{
  const struct disk_rec *rec;
  uint32_t pos = 0;

  while ((rec = undo_next_rec (log, log->bytes, &pos)) != NULL) {
    if (rec->type == DISK_REC_UNNODE)
      rc->nr_unnodes++;
    else if (rec->type == DISK_REC_MAP || rec->type == DISK_REC_ZERO ||
             rec->type == DISK_REC_FREE)
      rc->nr_pages_above += min_u64 (rec->nr, SHARD_PAGES);
  }
}

/* Follow the blocks from first on to the end. */
static int
follow (struct recover *rc)
{
  uint64_t limit = rc->first + rc->supers->root.ring_blocks;

  for (rc->end = rc->first; rc->end < limit; rc->end++) {
    const struct disk_log *log = chunk_block (rc, rc->end);

    if (log == NULL) {
      int err = load_around (rc, rc->end, rc->first, limit, false);

      if (err) /* not readable: as good as not there; see find_damage () */
        break;
      log = chunk_block (rc, rc->end);
    }
    if (!is_good (rc, log, rc->end, rc->epoch)) {
      log = chunk_block (rc, rc->end + 1);
      if (SABOTAGE (believe_behind) && log != NULL &&
          is_good (rc, log, rc->end + 1, rc->epoch))
        continue;
      break;
    }
    rc->epoch = log->epoch;
    rc->mark = max_u64 (rc->mark, log->durable);
    rc->nr_images += log->kind == DISK_LOG_UNDO;
  }
  return 0;
}

/* Count what is above the mark, now that it is known. */
static int
count_above (struct recover *rc)
{
  for (uint64_t lsn = max_u64 (rc->first, rc->mark); lsn < rc->end; lsn++) {
    const struct disk_log *log;
    int err = recover_log (rc, lsn, false, &log);

    if (err)
      return err;
    if (log->kind == DISK_LOG_REDO)
      count_records (rc, log);
  }
  return 0;
}

/* Does a good block behind the end say that the end was durable? */
static int
find_damage (struct recover *rc)
{
  uint64_t limit = rc->first + rc->supers->root.ring_blocks;

  for (uint64_t lsn = rc->end + 1; lsn < limit; lsn++) {
    const struct disk_log *log = chunk_block (rc, lsn);

    if (log == NULL) {
      if (load_around (rc, lsn, rc->first, limit, false) != 0)
        continue;
      log = chunk_block (rc, lsn);
    }
    if (!is_good (rc, log, lsn, rc->epoch) || log->durable <= rc->end)
      continue;
    log_write (LOG_ERROR,
               "store: log block %" PRIu64 " is damaged: it was durable when "
               "block %" PRIu64 " was written (run 'farpage check')",
               rc->end, lsn);
    return EUCLEAN;
  }
  return 0;
}

/* The block at redo_lsn's place must not be of a later turn: then this root
 * slot is older than what the ring still holds.
 */
static int
check_first (struct recover *rc)
{
  const struct disk_super *root = &rc->supers->root;
  const struct disk_log *log;

  if (load_around (rc, rc->first, rc->first, rc->first + root->ring_blocks,
                   false) != 0)
    return 0;
  log = chunk_block (rc, rc->first);
  if (undo_error (log, root->uuid) != NULL || log->lsn <= rc->first)
    return 0;
  log_write (LOG_ERROR,
             "store: the log goes on from %" PRIu64 ", and the best superblock "
             "is of %" PRIu64 ": newer ones are lost (run 'farpage check')",
             log->lsn, rc->first);
  return EUCLEAN;
}

int
recover_scan (struct recover *rc, bool clean)
{
  const struct disk_super *root = &rc->supers->root;
  int err;

  rc->first = root->redo_lsn;
  rc->epoch = root->redo_epoch;
  rc->mark = max_u64 (root->durable_lsn, rc->first);
  err = check_first (rc);
  if (err == 0)
    err = follow (rc);
  if (err == 0 && SABOTAGE (believe_all))
    rc->mark = rc->end;
  if (err == 0 && !(clean && rc->end == rc->first))
    err = find_damage (rc);
  if (err == 0 && rc->mark > rc->end) {
    log_write (LOG_ERROR,
               "store: the log ends at %" PRIu64 ", but was durable up to "
               "%" PRIu64 " (run 'farpage check')",
               rc->end, rc->mark);
    err = EUCLEAN;
  }
  return err ? err : count_above (rc);
}
