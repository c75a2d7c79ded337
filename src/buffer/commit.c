/* SPDX-License-Identifier: BSD-2-Clause */
/* Group commits: dirty DATA and the log to their volumes, one device flush for
 * each volume, and everybody who waited is answered.
 *
 *   close the open block: T = the log's end
 *     take dirty DATA, as much as there was   --> write, neighbours together
 *     take log blocks below T                 --> seal, write
 *     written = T
 *     take the marks; flush those volumes     --> durable = T
 *
 * A record is appended after its page is a dirty buffer, or on its volume, so
 * whatever the records below T name is taken too.  What comes while a pass is
 * under way waits for the next: else a pass would never end under load.
 *
 * Passes with no flush keep the backlog short; they begin when dirty DATA or
 * log reach a run, or somebody waits for room, and need not close the block.
 *
 * One thread runs this; before there are threads (recovery), whoever waits.
 */

#include <config.h>

#include "flush-impl.h"

#include <errno.h>
#include <string.h>

#include "env.h"

/* ---- writing ---- */

static int
fail (struct flush *fl, const char *reason)
{
  flush_fail (fl, reason);
  return EIO;
}

/* Write nr taken buffers to where ios says. */
static int
write_taken (struct flush *fl, struct vbatch *batch, unsigned nr)
{
  int err = bufs_write (fl->bs, batch, fl->ios, nr);

  for (unsigned i = 0; i < nr; i++) {
    if (fl->ios[i].error != 0)
      continue;
    /* R6: from here on the next flush is for it too. */
    flush_mark_volume (fl, (unsigned) fl->ios[i].volume);
    buf_written (fl->bs, fl->taken[i]);
  }
  return err;
}

/* Dirty DATA, at most what there is now. */
static int
write_data (struct flush *fl, struct vbatch *batch)
{
  uint64_t left = bufs_nr_dirty (fl->bs, BUF_DATA);

  while (left > 0) {
    unsigned nr = bufs_take (fl->bs, BUF_DATA, fl->taken,
                             (unsigned) min_u64 (left, COMMIT_TAKE));

    if (nr == 0)
      break;
    for (unsigned i = 0; i < nr; i++)
      fl->ios[i] = (struct buf_io){
        .volume = blkno_volume (fl->taken[i]->blk),
        .first = blkno_place (fl->taken[i]->blk),
        .page = fl->taken[i]->data,
      };
    if (write_taken (fl, batch, nr) != 0)
      return fail (fl, "pages that were replied to could not be written");
    atomic_fetch_add (&fl->bytes_data, (uint64_t) nr * BUF_BYTES);
    left -= min_u64 (left, nr);
    gate_look (fl);
  }
  return 0;
}

/* Log blocks below end.  They are on their list in the order of lsns. */
static int
write_log (struct flush *fl, struct vbatch *batch, uint64_t end)
{
  uint64_t lsn = atomic_load (&fl->written_lsn);

  if (end - atomic_load (&fl->redo_lsn) > fl->ring_blocks)
    return fail (fl, "the log has run over its ring");
  while (lsn < end) {
    unsigned nr = bufs_take (fl->bs, BUF_UNDO, fl->taken,
                             (unsigned) min_u64 (end - lsn, COMMIT_TAKE));

    if (nr == 0)
      return fail (fl, "the log has lost a block");
    for (unsigned i = 0; i < nr; i++, lsn++) {
      if (fl->taken[i]->blk != lsn)
        return fail (fl, "the log is out of order");
      undo_seal (fl, fl->taken[i]);
      fl->ios[i] = (struct buf_io){
        .first = fl->ring_first + lsn % fl->ring_blocks,
        .page = fl->taken[i]->data,
      };
    }
    if (write_taken (fl, batch, nr) != 0)
      return fail (fl, "the log could not be written");
    atomic_fetch_add (&fl->bytes_log, (uint64_t) nr * BUF_BYTES);
    gate_look (fl);
  }
  atomic_store (&fl->written_lsn, end);
  return 0;
}

int
commit_flush_volumes (struct flush *fl)
{
  if (SABOTAGE (skip_commit_flush))
    return 0;
  /* A mark that another has taken is flushed when he lets go. */
  LOCK_SCOPE (&fl->flush_lock);
  for (unsigned i = 0; i < fl->config.nr_volumes; i++) {
    if (!atomic_exchange (&fl->mark[i], false))
      continue;
    atomic_fetch_add (&fl->nr_flushes, 1);
    int err = volume_flush (fl->config.volumes[i]);

    if (err && SABOTAGE (retry_flush))
      err = volume_flush (fl->config.volumes[i]);
    if (err) {
      atomic_store (&fl->mark[i], true);
      return fail (fl, "a volume's flush failed");
    }
  }
  return 0;
}

/* Where a pass ends: with close, behind all records that there are. */
static uint64_t
pass_end (struct flush *fl, bool close)
{
  if (close)
    return undo_close_block (fl);
  LOCK_SCOPE (&fl->log_lock);
  return fl->open != NULL ? fl->open->blk : atomic_load (&fl->next_lsn);
}

static void
tell_progress (struct flush *fl)
{
  lock_acquire (&fl->want_lock);
  cond_broadcast (&fl->progress);
  lock_release (&fl->want_lock);
  gate_look (fl);
}

int
commit_pass (struct flush *fl, bool close, bool flush)
{
  struct vbatch *batch;
  uint64_t end, pages;
  int err;

  if (flush_failed (fl))
    return EIO;
  batch = vbatch_get (fl->pool);
  pages = atomic_load (&fl->pages); /* no more than what end covers */
  end = pass_end (fl, close);
  if (SABOTAGE (mark_before_completion))
    (void) commit_flush_volumes (fl);
  err = write_data (fl, batch);
  if (err == 0)
    err = write_log (fl, batch, end);
  vbatch_put (batch);
  if (err)
    return err;
  if (flush) {
    err = SABOTAGE (mark_before_completion) ? 0 : commit_flush_volumes (fl);
    if (err)
      return err;
    atomic_store (&fl->durable_lsn, end);
    atomic_store (&fl->pages_durable, pages);
    atomic_fetch_add (&fl->nr_commits, 1);
    if (!fl->hold_mark)
      fl->config.ops->durable (fl->config.arg, end);
  }
  tell_progress (fl);
  return 0;
}

/* ---- the thread ---- */

enum job {
  JOB_NONE,
  JOB_WRITE,   /* what there is */
  JOB_WRITTEN, /* somebody waits until it is written */
  JOB_COMMIT,
  JOB_MARK, /* tell in the log what is durable */
  JOB_STOP
};

static bool
mark_is_due (struct flush *fl)
{
  uint64_t content = atomic_load (&fl->content_lsn);

  return content > fl->told_lsn && content <= atomic_load (&fl->durable_lsn);
}

/* What is to be done now.  Lock: needs want_lock. */
static enum job
next_job (struct flush *fl)
{
  bool pass = fl->want_pass;

  if (fl->stop_commit || flush_failed (fl))
    return JOB_STOP;
  fl->want_pass = false;
  if (fl->want_durable > atomic_load (&fl->durable_lsn))
    return JOB_COMMIT;
  if (fl->want_written > atomic_load (&fl->written_lsn))
    return JOB_WRITTEN;
  return pass ? JOB_WRITE : JOB_NONE;
}

/* Wait for something to do; nothing for a second, and it is the mark. */
static enum job
wait_job (struct flush *fl)
{
  uint64_t idle_ns = env_now_ns () + IDLE_MARK_NS;

  LOCK_SCOPE (&fl->want_lock);
  for (;;) {
    enum job job = next_job (fl);

    if (job != JOB_NONE)
      return job;
    if (!mark_is_due (fl))
      cond_wait (&fl->commit_wanted, &fl->want_lock);
    else if (!cond_wait_until (&fl->commit_wanted, &fl->want_lock, idle_ns) &&
             mark_is_due (fl))
      return JOB_MARK;
  }
}

void
commit_main (void *arg)
{
  struct flush *fl = arg;

  for (;;) {
    enum job job = wait_job (fl);

    if (job == JOB_STOP)
      return;
    if (job == JOB_MARK)
      undo_empty_block (fl);
    (void) commit_pass (fl, job != JOB_WRITE, job == JOB_COMMIT);
  }
}
