/* SPDX-License-Identifier: BSD-2-Clause */
/* Recovery; see recover.h.
 *
 *        redo_lsn          M (durable mark)        E (end)
 *   log:    | REDO UNDO UNDO REDO | REDO UNDO REDO |  dropped for good
 *            <------------- UNDO, backwards --------
 *             ------ REDO as is -> - REDO, checked ->
 *
 *   1. Flush every volume: what is read below is on the media then.
 *   2. A new epoch: peers' slots, then the root's.
 *   3. Staging: what a dead process had not written is written; flush.
 *   4. Find E and M (recover-scan.c).  With no staging file this comes before
 *      2: a store that is refused is left as it was.
 *   5. UNDO: which image of each node between E and redo_lsn is the oldest:
 *     by them all META is as of redo_lsn (recover-undo.c).
 *   6. REDO below M.  Of records above M only nodes and objects; their pages
 *      are gathered, and of each page the newest entry counts whose block has
 *      the right CRC (recover-page.c).  That is decided at the end, and before
 *      an object leaves the table.
 *   7. What 6 has changed is written, nodes that it has not changed are put
 *      back, and a cycle; its superblock ends it.
 *
 * I1. Until the superblock of 7, nothing that 4 to 6 read is changed for good:
 *     of nodes they read images, blocks go on telling M, and new images go
 *     behind E.  So a crash at any step begins again and ends the same.
 * I2. No block is allocated: records say where new nodes are.
 * I3. Memory: the buffers that this server has, however many the one before it
 *     had; and beside them a run of the log, the nodes read ahead, 15 bytes an
 *     image, and a candidate a page above M (bounded by GROUP_PAGES_MAX).
 *
 * How I1 and I3 go together: if nodes that 6 has changed become many, they are
 * written early, each to its place, and can be evicted (cycle_write_early ()).
 * That is a cycle without a cut and without a superblock:
 *
 *   - Before a node is written, the log has its image as of redo_lsn, durably:
 *     the dead server's, or one that buf_begin () has laid behind E.  The next
 *     recovery, if this one dies, finds either and puts the node back.
 *   - A node that was made after redo_lsn needs none: its block was free, or
 *     its page's, and then a record below M has freed it.
 *   - The cycle's number rises each time, and a node that was written early is
 *     known by it (flush.early_cycle) when it is read and changed again: what
 *     lies on the medium then must not become an image.
 *
 * So what may be dirty has room at any time between two changes, and each
 * change is small: one record, or one page above M.
 *
 * What takes the time is I/O: where the server before this one had more
 * buffers, nearly each record is a node read and a node written, 4 KiB
 * anywhere. So both go as many at a time as a batch takes: nodes are read
 * before their records (recover-ahead.c), and written when they are many.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "log.h"

/* ---- blocks from the medium ---- */

bool
recover_block_ok (const struct recover *rc, uint64_t blk)
{
  unsigned volume = blkno_volume (blk);
  uint64_t place = blkno_place (blk);

  if (blk >> 60 != 0 || volume >= rc->supers->nr_volumes)
    return false;
  /* The free map lies behind slots and ring, and before all the rest. */
  return place >= rc->supers->root.members[volume].freemap_first &&
         place < rc->supers->root.members[volume].nr_blocks - 2;
}

static int
write_block (struct recover *rc, uint64_t blk, const void *page)
{
  struct volume *v = rc->fl->config.volumes[blkno_volume (blk)];
  int err = volume_write (v, blkno_place (blk) * BUF_BYTES, page, BUF_BYTES);

  flush_mark_volume (rc->fl, blkno_volume (blk));
  return err;
}

/* ---- staging ---- */

/* A log block as a killed process left it, made whole. */
static void
mend_log_block (struct recover *rc, struct disk_log *log, uint64_t lsn)
{
  const struct disk_super *root = &rc->supers->root;
  uint32_t pos = 0;

  if (log->magic != DISK_LOG_MAGIC || log->lsn != lsn ||
      (log->kind == DISK_LOG_UNDO && log->bytes != DISK_NODE_USED)) {
    uint64_t epoch = log->lsn == lsn ? log->epoch : 0;

    memset (log, 0, sizeof *log);
    log->magic = DISK_LOG_MAGIC;
    log->version = 1;
    log->kind = DISK_LOG_REDO;
    log->lsn = lsn;
    log->epoch = epoch != 0 ? epoch : root->epoch - 1;
    log->sequence = (uint32_t) rc->sequence;
    memcpy (log->uuid, root->uuid, sizeof log->uuid);
  }
  if (log->kind == DISK_LOG_REDO) {
    while (undo_next_rec (log, DISK_LOG_BODY, &pos) != NULL)
      ;
    log->bytes = pos;
    memset (log->body + pos, 0, DISK_LOG_BODY - pos);
  }
  log->crc = crc32c (0, log, DISK_CRC_OFF);
}

static int
replay_one (void *arg, enum buf_type type, uint64_t blk, const void *page)
{
  struct recover *rc = arg;
  const struct disk_super *root = &rc->supers->root;

  rc->report->nr_staged++;
  memcpy (rc->page, page, BUF_BYTES);
  if (type == BUF_DATA) {
    if (!recover_block_ok (rc, blk))
      return EUCLEAN;
    return write_block (rc, blk, rc->page);
  }
  if (type != BUF_UNDO)
    return EUCLEAN;
  if (blk < root->redo_lsn || blk - root->redo_lsn >= root->ring_blocks)
    return 0; /* the ring has let it go already */
  if (!SABOTAGE (no_mend))
    mend_log_block (rc, (struct disk_log *) rc->page, blk);
  return write_block (
      rc, blkno_make (0, root->ring_first + blk % root->ring_blocks), rc->page);
}

static int
replay_staging (struct recover *rc, struct staging *old)
{
  int err;

  if (old == NULL || SABOTAGE (forget_staging))
    return 0;
  err = staging_each (old, replay_one, rc);
  if (err)
    return err;
  if (rc->report->nr_staged > 0)
    log_write (LOG_INFO,
               "store: %" PRIu64 " pages and log blocks of a process that "
               "ended without stopping were written",
               rc->report->nr_staged);
  return commit_flush_volumes (rc->fl);
}

/* ---- REDO ---- */

int
recover_next (struct recover *rc, struct change *ch)
{
  change_end (rc->fl, ch);
  change_begin_cut (rc->fl, ch);
  ch->quiet = true;
  return flush_failed (rc->fl) ? EIO : 0;
}

int
recover_breathe (struct recover *rc, struct change *ch)
{
  int err;

  change_end (rc->fl, ch);
  err = rc->fl->config.ops->before_cut (rc->fl->config.arg);
  change_begin_cut (rc->fl, ch);
  ch->quiet = true;
  return err == 0 && flush_failed (rc->fl) ? EIO : err;
}

static bool
is_page_rec (const struct disk_rec *rec)
{
  return rec->type == DISK_REC_MAP || rec->type == DISK_REC_ZERO ||
         rec->type == DISK_REC_FREE;
}

/* Is a record that passed its CRC one that we have written? */
static bool
rec_ok (const struct recover *rc, const struct disk_rec *rec)
{
  uint32_t more = rec->bytes - sizeof *rec;

  switch (rec->type) {
  case DISK_REC_MAP:
    return rec->nr >= 1 && rec->nr <= SHARD_PAGES &&
           more >= rec->nr * sizeof (uint32_t) &&
           recover_block_ok (rc, rec->word) &&
           recover_block_ok (rc, rec->word + rec->nr - 1);
  case DISK_REC_ZERO:
  case DISK_REC_FREE:
    return rec->nr >= 1 && rec->nr <= SHARD_PAGES;
  case DISK_REC_NODE:
  case DISK_REC_UNNODE:
    return rec->nr <= 8 && recover_block_ok (rc, rec->word);
  case DISK_REC_OBJECT:
    return more >= sizeof (struct disk_object);
  default:
    return false;
  }
}

/* What was gathered so far is decided. */
static int
settle (struct recover *rc, struct change *ch)
{
  int err = recover_pages (rc, ch);

  for (uint64_t i = 0; i < rc->nr_late && err == 0; i++) {
    err = rc->ops->node (rc->arg, ch, &rc->late[i]);
    if (err == 0)
      err = recover_next (rc, ch);
  }
  rc->nr_late = 0;
  return err;
}

/* An object that is gone has nothing any more: what it had goes first. */
static int
redo_object (struct recover *rc, struct change *ch, const struct disk_rec *rec,
             const struct disk_object *entry)
{
  bool gone = entry->state == DISK_OBJECT_FREE;
  int err = gone && !SABOTAGE (settle_late) ? settle (rc, ch) : 0;

  return err ? err : rc->ops->object (rc->arg, ch, rec, entry);
}

static int
redo_rec (struct recover *rc, struct change *ch, const struct disk_log *log,
          const struct disk_rec *rec)
{
  bool above = log->lsn >= rc->mark;
  const void *more = rec + 1;

  rc->report->nr_redone++;
  if (!rec_ok (rc, rec)) {
    log_write (LOG_ERROR,
               "store: log block %" PRIu64 " has a record that makes no sense "
               "(run 'farpage check')",
               log->lsn);
    return EUCLEAN;
  }
  if (above && is_page_rec (rec))
    return recover_gather (rc, rec, more);
  if (above && rec->type == DISK_REC_UNNODE && !SABOTAGE (unnode_at_once)) {
    rc->late[rc->nr_late++] = *rec;
    return 0;
  }
  if (rec->type == DISK_REC_OBJECT)
    return redo_object (rc, ch, rec, more);
  if (rec->type == DISK_REC_NODE || rec->type == DISK_REC_UNNODE)
    return rc->ops->node (rc->arg, ch, rec);
  return rc->ops->map (rc->arg, ch, rec, more);
}

/* The nodes that a block's records will change. */
static void
read_ahead (struct recover *rc, const struct disk_log *log)
{
  const struct disk_rec *rec;
  uint32_t pos = 0;

  recover_ahead_begin (rc);
  if (log->lsn >= rc->mark)
    return; /* recover_pages () does it */
  while ((rec = undo_next_rec (log, log->bytes, &pos)) != NULL)
    if (is_page_rec (rec) && rec_ok (rc, rec))
      recover_ahead_add (rc, rec->object, rec->pgno, rec->nr);
  recover_ahead_read (rc);
}

static int
redo_block (struct recover *rc, struct change *ch, const struct disk_log *log)
{
  const struct disk_rec *rec;
  uint32_t pos = 0;
  int err = 0;

  read_ahead (rc, log);
  while (err == 0 && (rec = undo_next_rec (log, log->bytes, &pos)) != NULL) {
    err = redo_rec (rc, ch, log, rec);
    if (err == 0)
      err = recover_next (rc, ch);
  }
  return err;
}

static int
redo_all (struct recover *rc)
{
  struct change ch;
  int err = 0;

  change_begin_cut (rc->fl, &ch);
  ch.quiet = true;
  for (uint64_t lsn = rc->first; lsn < rc->end && err == 0; lsn++) {
    const struct disk_log *log;

    err = recover_log (rc, lsn, false, &log);
    if (err == 0 && log->kind == DISK_LOG_REDO) {
      /* To settle pages takes the ring's memory. */
      memcpy (rc->page, log, BUF_BYTES);
      err = redo_block (rc, &ch, (const struct disk_log *) rc->page);
    }
    if (err == 0)
      err = recover_breathe (rc, &ch);
  }
  if (err == 0)
    err = settle (rc, &ch);
  change_end (rc->fl, &ch);
  return err;
}

/* ---- all of it ---- */

static void
set_log_end (struct recover *rc)
{
  struct flush *fl = rc->fl;

  fl->epoch = rc->supers->root.epoch;
  atomic_store (&fl->next_lsn, rc->end);
  atomic_store (&fl->content_lsn, rc->end);
  atomic_store (&fl->written_lsn, rc->end);
  atomic_store (&fl->durable_lsn, rc->end);
  atomic_store (&fl->redo_lsn, rc->first);
  /* Recovery takes nothing that is let go, so the one that was read serves. */
  atomic_store (&fl->sequence, rc->sequence);
  fl->told_lsn = rc->end;
  fl->cut_lsn = rc->first;
  fl->cut_root = rc->supers->root;
  /* No cycle before this one has written a node with its number. */
  atomic_store (&fl->cycle, rc->supers->root.cycle + CYCLES_UNTOLD);
  atomic_store (&fl->early_cycle, flush_cycle (fl));
}

static int
redo (struct recover *rc)
{
  struct flush *fl = rc->fl;
  int err;

  bufs_set_source (fl->bs, recover_read_image, rc);
  err = rc->ops->begin (rc->arg, &rc->supers->root);
  if (err == 0)
    err = redo_all (rc);
  bufs_set_source (fl->bs, NULL, NULL);
  if (err == 0)
    cycle_write_early (fl);
  return err == 0 && flush_failed (fl) ? EIO : err;
}

static int
undo_and_redo (struct recover *rc)
{
  struct flush *fl = rc->fl;
  int err;

  fl->hold_mark = true;
  fl->held_mark = SABOTAGE (forget_mark) ? rc->end : rc->mark;
  err = recover_make_room (rc);
  if (err == 0)
    err = recover_note_images (rc);
  if (err == 0) {
    err = redo (rc);
    if (err)
      recover_put_back_all (rc);
  }
  if (err == 0)
    err = recover_put_back_rest (rc);
  if (err == 0)
    err = cycle_run_last (fl, DISK_IN_USE);
  free (fl->imaged.at);
  fl->imaged = (struct imaged){ NULL, 0, 0 };
  return err;
}

static int
flush_all (struct recover *rc)
{
  for (unsigned i = 0; i < rc->fl->config.nr_volumes; i++)
    if (!SABOTAGE (no_open_flush))
      flush_mark_volume (rc->fl, i);
  return commit_flush_volumes (rc->fl);
}

static int
attach (struct recover *rc)
{
  rc->supers->root.state = DISK_IN_USE;
  return supers_attach (rc->supers, buf_volume (rc->fl->bs, 0)->data);
}

/* Nobody else is on the volumes: as many transfers at a time as may be, if the
 * kernel can; its rings are gone again before the process forks.
 */
static int
undo_and_redo_fast (struct recover *rc)
{
  struct vpool *slow = rc->fl->pool, *fast;
  int err = vpool_create_deep (2, PAGE_BYTES, VPOOL_AUTO, VIO_DEPTH_MAX, &fast);

  if (err)
    return err;
  rc->fl->pool = fast;
  err = undo_and_redo (rc);
  rc->fl->pool = slow;
  vpool_destroy (fast);
  return err;
}

/* Else a later superblock than the best one may be lost. */
static bool
all_slots_good (const struct supers *s)
{
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    if (s->root_errors[i] != NULL)
      return false;
  return true;
}

/* Steps 1 to 4. */
static int
attach_and_scan (struct recover *rc, struct staging *old)
{
  bool sure = all_slots_good (rc->supers);
  bool clean = sure && rc->supers->root.state == DISK_CLEAN;
  int err = flush_all (rc);

  rc->sequence = rc->supers->root.sequence;
  if (err == 0 && old == NULL)
    err = recover_scan (rc, clean);
  else if (err == 0 && !sure)
    err = recover_ask_root (rc, old);
  if (err == 0)
    err = attach (rc);
  if (err == 0 && old != NULL) {
    err = replay_staging (rc, old);
    if (err == 0)
      err = recover_scan (rc, clean);
  }
  /* Superblocks of this epoch are lost, or were not yet written when a repair
   * was interrupted: no block of two recoveries may have the same.
   */
  if (err == 0 && rc->epoch >= rc->supers->root.epoch) {
    rc->supers->root.epoch = rc->epoch;
    err = attach (rc);
  }
  return err;
}

static int
run (struct recover *rc, struct staging *old)
{
  struct recover_report *report = rc->report;
  int err = attach_and_scan (rc, old);

  if (err)
    return err;
  set_log_end (rc);
  report->first_lsn = rc->first;
  report->end_lsn = rc->end;
  report->durable_lsn = rc->mark;
  report->clean = rc->first == rc->end;
  if (!report->clean)
    return undo_and_redo_fast (rc);
  atomic_store (&rc->fl->sequence, supers_oldest (&rc->supers->root));
  return rc->ops->begin (rc->arg, &rc->supers->root);
}

int
recover_run (struct flush *fl, struct supers *supers, struct staging *old,
             const struct recover_ops *ops, void *arg,
             struct recover_report *report)
{
  struct recover rc = {
    .fl = fl, .supers = supers, .ops = ops, .arg = arg, .report = report
  };
  int err;

  memset (report, 0, sizeof *report);
  err =
      ring_open (&rc.ring, fl->config.volumes[0], &supers->root, RING_RUN_MAX);
  rc.page = aligned_alloc (BUF_BYTES, BUF_BYTES);
  if (err == 0)
    err = recover_ahead_open (&rc);
  if (err == 0)
    err = rc.page != NULL ? run (&rc, old) : ENOMEM;
  ring_close (&rc.ring);
  recover_ahead_close (&rc);
  free (rc.page);
  free (rc.candidates);
  free (rc.late);
  return err;
}
