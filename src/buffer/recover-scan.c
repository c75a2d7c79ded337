/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the log ends, and whether that is an end or a hole.
 *
 *   first        mark         end      dropped
 *   | good .. good | good .. good | bad | good? ... |
 *
 * From redo_lsn on blocks must follow each other: right place, lsn one more,
 * epoch never lower, CRC.  At the first that does not, s, the log ends: a
 * crash loses blocks behind the last flush, in any combination.  But if some
 * good block further on, of the same epoch or a later one, says that s was
 * durable when it was written, then s was there and is damaged; nothing is
 * written then.
 *
 * If s cannot be read it may have been durable: nothing is written either.
 *
 * A block of an older turn of the ring, or one that an earlier recovery
 * dropped, does not count: its lsn or its epoch is lower.  The superblock has
 * the epoch that redo_lsn is of, for the first block has none before it.
 *
 * No block may be of a later turn: ring space is free only when a superblock
 * that says so is durable, so this root slot is older than what the ring still
 * holds, and to go by it would lose what came since.  The first place that a
 * later turn takes is redo_lsn's, and after a clean end, with all slots good,
 * only that is looked at, for a ring may take seconds; `farpage check` looks
 * at all of it.
 *
 * Nor may a block say that a newer superblock than the best one is needed: what
 * that one had let go may have been taken since.  Where a node lay when the
 * older one was written there may be a page, and UNDO would put the node back
 * over it.  If no block says so nothing was taken, and the older one leads to
 * the same.
 *
 * Recovery and `farpage check` look with the same function; what is wrong is
 * handed out, and told by who called.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <inttypes.h>

#include "log.h"

static const char later_turn[] =
    "is of a later turn of the ring: newer superblocks than the best one are "
    "lost";

static const char newer_root[] =
    "needs a newer superblock than the best one: it is lost, or cannot be read";

/* ---- looking ---- */

static void
wrong (struct recover_look *look, uint64_t lsn, const char *what)
{
  if (look->wrong != NULL)
    return;
  look->wrong = what;
  look->wrong_lsn = lsn;
}

/* Of good blocks.  They are of the ring's last turn, or older: half of all
 * numbers apart is far.
 */
static void
compare_root (const struct disk_log *log, struct recover_look *look)
{
  uint32_t ahead = log->sequence - (uint32_t) look->sequence;

  if (ahead == 0 || ahead > INT32_MAX || SABOTAGE (trust_old_root))
    return;
  if (!look->newer)
    look->wrong = NULL; /* what else seems wrong comes of that */
  look->newer = true;
  wrong (look, log->lsn, newer_root);
}

static void
count (const struct disk_log *log, struct recover_look *look)
{
  uint32_t pos = 0;

  compare_root (log, look);
  look->epoch = log->epoch;
  look->mark = max_u64 (look->mark, log->durable);
  look->nr_images += log->kind == DISK_LOG_UNDO;
  if (log->kind != DISK_LOG_REDO)
    return;
  while (undo_next_rec (log, log->bytes, &pos) != NULL)
    look->nr_records++;
  if (pos != log->bytes)
    wrong (look, log->lsn, "has a record that is not whole");
}

/* Block lsn if it counts; NULL also if it cannot be read. */
static const struct disk_log *
good_block (struct ring *r, uint64_t lsn, const struct recover_look *look)
{
  const struct disk_log *log =
      ring_block (r, lsn, look->first, look->first + r->ring_blocks, false);

  return log != NULL && ring_is_good (r, log, lsn, look->epoch) ? log : NULL;
}

/* Is there, where lsn belongs, a block that could be written only when a
 * superblock with a later redo_lsn was durable?
 */
static bool
is_too_far (struct ring *r, uint64_t lsn, const struct recover_look *look)
{
  uint64_t limit = look->first + r->ring_blocks;
  const struct disk_log *log = ring_block (r, lsn, look->first, limit, false);

  return log != NULL && log->lsn >= limit && undo_error (log, r->uuid) == NULL;
}

/* What lies behind the end: dropped, or a sign that the end is a hole, or that
 * the superblock is not the last one.
 */
static void
look_behind (struct ring *r, struct recover_look *look)
{
  uint64_t limit = look->first + r->ring_blocks;

  for (uint64_t lsn = look->end; lsn < limit; lsn++) {
    const struct disk_log *log = good_block (r, lsn, look);

    if (log == NULL && is_too_far (r, lsn, look))
      wrong (look, lsn, later_turn);
    if (log == NULL || lsn == look->end)
      continue;
    look->nr_dropped++;
    compare_root (log, look);
    if (log->durable > look->end)
      wrong (look, look->end,
             "is damaged: it was durable when a later one was written");
  }
}

/* An end that cannot be read may be a block that was durable: what it had would
 * be lost, and nodes that were written by it could not be put back.
 */
static void
look_if_read (struct ring *r, struct recover_look *look)
{
  uint64_t limit = look->first + r->ring_blocks;

  if (look->end == limit || look->wrong != NULL ||
      ring_block (r, look->end, look->first, limit, false) != NULL)
    return;
  look->unread = true;
  wrong (look, look->end, "cannot be read, and may have been durable");
}

static bool
is_of_later_turn (struct ring *r, uint64_t first)
{
  const struct disk_log *log =
      ring_block (r, first, first, first + r->ring_blocks, false);

  return log != NULL && undo_error (log, r->uuid) == NULL && log->lsn > first;
}

/* For a broken rule: there is a good one behind the bad one. */
static bool
is_passed_over (struct ring *r, const struct recover_look *look)
{
  return SABOTAGE (believe_behind) &&
         look->end + 1 - look->first < r->ring_blocks &&
         good_block (r, look->end + 1, look) != NULL;
}

static void
look_at (struct ring *r, const struct disk_super *root, uint64_t sequence,
         bool clean, struct recover_look *look)
{
  const struct disk_log *log;

  *look = (struct recover_look){ .first = root->redo_lsn,
                                 .end = root->redo_lsn,
                                 .sequence = sequence };
  look->epoch = root->redo_epoch;
  look->mark = max_u64 (root->durable_lsn, root->redo_lsn);
  if (is_of_later_turn (r, look->first)) {
    wrong (look, look->first, later_turn);
    return;
  }
  while (look->end - look->first < r->ring_blocks &&
         ((log = good_block (r, look->end, look)) != NULL ||
          is_passed_over (r, look))) {
    if (log != NULL)
      count (log, look);
    look->end++;
  }
  if (SABOTAGE (believe_all))
    look->mark = look->end;
  if (!clean || look->end != look->first) {
    look_behind (r, look);
    look_if_read (r, look);
  }
  if (look->mark > look->end)
    wrong (look, look->end, "is missing: the log was durable beyond it");
}

int
recover_look (struct volume *v, const struct disk_super *root,
              struct recover_look *look)
{
  struct ring r;
  int err = ring_open (&r, v, root, RING_RUN_MAX);

  if (err == 0)
    look_at (&r, root, root->sequence, false, look);
  ring_close (&r);
  return err;
}

/* ---- for recovery ---- */

int
recover_log (struct recover *rc, uint64_t lsn, bool back,
             const struct disk_log **logp)
{
  const struct disk_log *log =
      ring_block (&rc->ring, lsn, rc->first, rc->end, back);

  if (SABOTAGE (believe_behind) && log != NULL &&
      !ring_is_good (&rc->ring, log, lsn, 0)) {
    static const struct disk_log hole = { .kind = DISK_LOG_REDO };

    *logp = &hole;
    return 0;
  }
  if (log == NULL || !ring_is_good (&rc->ring, log, lsn, 0)) {
    log_write (LOG_ERROR,
               "store: log block %" PRIu64 " was good and is not any more "
               "(the medium fails)",
               lsn);
    return EIO;
  }
  *logp = log;
  return 0;
}

/* Count what recovery will need memory for. */
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

/* Tells why. */
static int
refuse (const struct recover *rc, const struct recover_look *look)
{
  bool again = look->unread ||
               (look->newer && super_has_unread (rc->supers->root_errors));

  log_write (LOG_ERROR, "store: log block %" PRIu64 " %s (%s)", look->wrong_lsn,
             look->wrong,
             again ? "try again; or run 'farpage check'"
                   : "run 'farpage check'");
  return again ? EIO : EUCLEAN;
}

int
recover_scan (struct recover *rc, bool clean)
{
  struct recover_look look;

  rc->ring.nr = 0; /* what staging had is on the medium by now */
  look_at (&rc->ring, &rc->supers->root, rc->sequence, clean, &look);
  rc->first = look.first;
  rc->end = look.end;
  rc->mark = look.mark;
  rc->epoch = look.epoch;
  rc->nr_images = look.nr_images;
  return look.wrong != NULL ? refuse (rc, &look) : count_above (rc);
}

static int
ask_staged (void *arg, enum buf_type type, uint64_t blk, const void *page)
{
  const struct disk_log *log = page;

  if (type == BUF_UNDO && log->magic == DISK_LOG_MAGIC && log->lsn == blk)
    compare_root (log, arg);
  return 0;
}

int
recover_ask_root (struct recover *rc, struct staging *old)
{
  struct recover_look look;
  int err = 0;

  look_at (&rc->ring, &rc->supers->root, rc->sequence, false, &look);
  if (!look.newer)
    err = staging_each (old, ask_staged, &look);
  rc->ring.nr = 0;
  return look.newer ? refuse (rc, &look) : err;
}
