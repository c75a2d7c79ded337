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
 * One pass runs at a time, in the thread of whoever waits for it first, so
 * that a flush alone wakes nobody; what nobody waits for is the commit
 * thread's.  The others wait in a queue, each on a condition of his own, and
 * wake each other one by one: all at once they would only meet at the locks of
 * this file and of the server's connection.
 *
 * W1. [want_lock] While a waiter in the queue has no more to wait for, one
 *     that was woken has not yet run; he wakes the next.
 */

#include <config.h>

#include "flush-impl.h"

#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "env.h"

/* ---- writing ---- */

static int
fail (struct flush *fl, const char *reason)
{
  flush_fail (fl, reason);
  return EIO;
}

/* Dirty DATA into taken[] and ios[] from nr on, at most *left of it.  Returns
 * how many there are then.
 */
static unsigned
take_data (struct flush *fl, uint64_t *left)
{
  unsigned nr = bufs_take (fl->bs, BUF_DATA, fl->taken,
                           (unsigned) min_u64 (*left, COMMIT_TAKE));

  for (unsigned i = 0; i < nr; i++)
    fl->ios[i] = (struct buf_io){
      .volume = blkno_volume (fl->taken[i]->blk),
      .first = blkno_place (fl->taken[i]->blk),
      .page = fl->taken[i]->data,
    };
  /* What others have dropped meanwhile is not waited for. */
  *left = nr > 0 ? *left - nr : 0;
  return nr;
}

/* Log blocks below end, behind the nr that are in taken[] already.  They are
 * on their list in the order of lsns.
 */
static int
take_log (struct flush *fl, uint64_t *lsn, uint64_t end, unsigned *nr)
{
  unsigned first = *nr;

  *nr += bufs_take (fl->bs, BUF_UNDO, fl->taken + first,
                    (unsigned) min_u64 (end - *lsn, COMMIT_TAKE - first));
  for (unsigned i = first; i < *nr; i++, ++*lsn) {
    if (fl->taken[i]->blk != *lsn)
      return fail (fl, "the log is out of order");
    undo_seal (fl, fl->taken[i]);
    fl->ios[i] = (struct buf_io){
      .first = fl->ring_first + *lsn % fl->ring_blocks,
      .page = fl->taken[i]->data,
    };
  }
  if (*nr == 0)
    return fail (fl, "the log has lost a block");
  return 0;
}

/* Those of taken[] from one place to another that have been written. */
static void
tell_written (struct flush *fl, unsigned i, unsigned end)
{
  while (i < end) {
    unsigned first = i;

    while (i < end && fl->ios[i].error == 0)
      /* R6: from here on the next flush is for it too. */
      flush_mark_volume (fl, (unsigned) fl->ios[i++].volume);
    if (i > first)
      bufs_written (fl->bs, fl->taken + first, i - first);
    else
      i++;
  }
}

/* Write nr taken buffers, of which the first nr_data are DATA. */
static int
write_taken (struct flush *fl, struct vbatch *batch, unsigned nr_data,
             unsigned nr)
{
  int err = bufs_write (fl->bs, batch, fl->ios, nr);

  tell_written (fl, 0, nr_data);
  tell_written (fl, nr_data, nr);
  atomic_fetch_add (&fl->bytes_data, (uint64_t) nr_data * BUF_BYTES);
  atomic_fetch_add (&fl->bytes_log, (uint64_t) (nr - nr_data) * BUF_BYTES);
  return err;
}

/* For a broken rule: the last block that a flush has covered, once more, with
 * the mark of today.
 */
static void
rewrite_last (struct flush *fl)
{
  uint64_t lsn = atomic_load (&fl->durable_lsn) - 1;
  uint64_t off = (fl->ring_first + lsn % fl->ring_blocks) * BUF_BYTES;
  uint8_t page[BUF_BYTES] __attribute__ ((aligned (BUF_BYTES)));
  struct disk_log *log = (struct disk_log *) page;

  if (volume_read (fl->config.volumes[0], off, page, BUF_BYTES) != 0 ||
      log->lsn != lsn)
    return;
  log->durable = lsn;
  log->crc = crc32c (0, log, DISK_CRC_OFF);
  (void) volume_write (fl->config.volumes[0], off, page, BUF_BYTES);
}

/* Dirty DATA, as much as there is now, and the log below end: together, for
 * nothing orders one before the other (R1).
 */
static int
write_all (struct flush *fl, struct vbatch *batch, uint64_t end, bool data)
{
  uint64_t left = data ? bufs_nr_dirty (fl->bs, BUF_DATA) : 0;
  uint64_t lsn = atomic_load (&fl->written_lsn);

  if (SABOTAGE (rewrite_log))
    rewrite_last (fl);
  if (end - atomic_load (&fl->redo_lsn) > fl->ring_blocks)
    return fail (fl, "the log has run over its ring");
  while (left > 0 || lsn < end) {
    unsigned nr_data = left > 0 ? take_data (fl, &left) : 0, nr = nr_data;
    int err = 0;

    if (lsn < end && nr < COMMIT_TAKE)
      err = take_log (fl, &lsn, end, &nr);
    if (err == 0 && write_taken (fl, batch, nr_data, nr) != 0)
      err = fail (fl, "what was replied to could not be written");
    if (err)
      return err;
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
    if (volume_flush (fl->config.volumes[i]) != 0) {
      atomic_store (&fl->mark[i], true);
      return fail (fl, "a volume's flush failed");
    }
  }
  return 0;
}

/* Where a pass ends: with close, behind all records that there are.  Else
 * before the block that takes records, but if all below it is written, and
 * images lie behind it: these must not wait until it is full, for nobody may
 * come in who fills it.
 */
static uint64_t
pass_end (struct flush *fl, bool close)
{
  uint64_t open;

  if (!close) {
    LOCK_SCOPE (&fl->log_lock);
    if (fl->open == NULL)
      return atomic_load (&fl->next_lsn);
    open = fl->open->blk;
    if (open > atomic_load (&fl->written_lsn) ||
        open + 1 == atomic_load (&fl->next_lsn))
      return open;
  }
  return undo_close_block (fl);
}

static int
pass (struct flush *fl, bool close, bool flush)
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
  err = write_all (fl, batch, end, !SABOTAGE (data_after_log));
  if (err == 0 && flush && !SABOTAGE (mark_before_completion))
    err = commit_flush_volumes (fl);
  if (err == 0 && SABOTAGE (data_after_log))
    err = write_all (fl, batch, end, true);
  vbatch_put (batch);
  if (err)
    return err;
  if (flush) {
    atomic_store (&fl->durable_lsn, end);
    atomic_store (&fl->pages_durable, pages);
    atomic_fetch_add (&fl->nr_commits, 1);
    if (!fl->hold_mark)
      fl->config.ops->durable (fl->config.arg, end);
  }
  return 0;
}

/* Is the mark in the log behind what is durable, and no commit comes? */
static bool
mark_is_due (struct flush *fl)
{
  uint64_t content = atomic_load (&fl->content_lsn);

  return content > fl->told_lsn && content <= atomic_load (&fl->durable_lsn);
}

/* Is there something for the commit's thread, now that no pass is under way?
 * Lock: needs want_lock.
 */
static bool
thread_has_work (struct flush *fl)
{
  return fl->want_pass || fl->stop_commit || flush_failed (fl) ||
         fl->want_durable > atomic_load (&fl->durable_lsn) ||
         (!fl->mark_timed && mark_is_due (fl));
}

int
commit_pass (struct flush *fl, bool close, bool flush)
{
  int err;

  fl->passing = true;
  commit_wake_waiter (fl); /* he may have to do no pass himself */
  lock_release (&fl->want_lock);
  err = pass (fl, close, flush);
  gate_look (fl);
  lock_acquire (&fl->want_lock);
  fl->passing = false;
  commit_wake_waiter (fl);
  if (thread_has_work (fl))
    cond_broadcast (&fl->commit_wanted);
  return err;
}

int
commit_pass_alone (struct flush *fl, bool close, bool flush)
{
  LOCK_SCOPE (&fl->want_lock);
  return commit_pass (fl, close, flush);
}

/* ---- waiting ---- */

struct commit_waiter {
  struct commit_waiter *next;
  uint64_t lsn;
  const _Atomic uint64_t *reached;
  cond_t woken;
  bool queued;
};

/* Lock: needs want_lock. */
static bool
must_wait (struct flush *fl, const struct commit_waiter *w)
{
  return fl->passing && atomic_load (w->reached) < w->lsn && !flush_failed (fl);
}

void
commit_wake_waiter (struct flush *fl)
{
  struct commit_waiter **at = &fl->waiters, *w;

  while (*at != NULL && must_wait (fl, *at))
    at = &(*at)->next;
  w = *at;
  if (w == NULL)
    return;
  *at = w->next;
  if (*at == NULL)
    fl->waiters_end = at;
  w->queued = false;
  cond_broadcast (&w->woken);
}

/* Until a pass is over, or there is nothing to wait for. */
static void
wait_queued (struct flush *fl, struct commit_waiter *w)
{
  w->next = NULL;
  w->queued = true;
  *fl->waiters_end = w;
  fl->waiters_end = &w->next;
  cond_init (&w->woken);
  while (w->queued)
    cond_wait (&w->woken, &fl->want_lock);
  cond_destroy (&w->woken);
}

/* Until *reached is at lsn: by a pass of one's own, if no other is under way.
 */
static int
wait_lsn (struct flush *fl, uint64_t lsn, const _Atomic uint64_t *reached)
{
  struct commit_waiter w = { .lsn = lsn, .reached = reached };

  if (atomic_load (reached) >= lsn)
    return flush_failed (fl) ? EIO : 0;
  LOCK_SCOPE (&fl->want_lock);
  while (atomic_load (reached) < lsn && !flush_failed (fl)) {
    if (fl->passing)
      wait_queued (fl, &w);
    else
      (void) commit_pass (fl, true, reached == &fl->durable_lsn);
  }
  commit_wake_waiter (fl);
  return flush_failed (fl) ? EIO : 0;
}

int
flush_commit (struct flush *fl, uint64_t lsn)
{
  return wait_lsn (fl, lsn, &fl->durable_lsn);
}

int
flush_written (struct flush *fl, uint64_t lsn)
{
  return wait_lsn (fl, lsn, &fl->written_lsn);
}

/* ---- the thread ---- */

enum job {
  JOB_NONE,
  JOB_WRITE, /* what there is */
  JOB_COMMIT,
  JOB_MARK, /* tell in the log what is durable */
  JOB_STOP
};

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
  return pass ? JOB_WRITE : JOB_NONE;
}

/* Wait a second for something to do.  True: there was no commit in it, and the
 * mark is due.  Lock: needs want_lock.
 */
static bool
wait_idle (struct flush *fl)
{
  uint64_t durable = atomic_load (&fl->durable_lsn);
  bool woken;

  fl->mark_timed = true;
  woken = cond_wait_until (&fl->commit_wanted, &fl->want_lock,
                           env_now_ns () + IDLE_MARK_NS);
  fl->mark_timed = false;
  return !woken && !fl->passing && durable == atomic_load (&fl->durable_lsn) &&
         mark_is_due (fl);
}

/* Wait for something to do; no commit for a second, and it is the mark.  Lock:
 * needs want_lock.
 */
static enum job
wait_job (struct flush *fl)
{
  for (;;) {
    enum job job = fl->passing ? JOB_NONE : next_job (fl);

    if (job != JOB_NONE)
      return job;
    if (fl->passing || !mark_is_due (fl))
      cond_wait (&fl->commit_wanted, &fl->want_lock);
    else if (wait_idle (fl))
      return JOB_MARK;
  }
}

void
commit_main (void *arg)
{
  struct flush *fl = arg;

  LOCK_SCOPE (&fl->want_lock);
  for (;;) {
    enum job job = wait_job (fl);

    if (job == JOB_STOP)
      return;
    if (job == JOB_MARK) {
      lock_release (&fl->want_lock);
      undo_empty_block (fl);
      lock_acquire (&fl->want_lock);
      if (fl->passing) /* which writes it, or the next does */
        continue;
    }
    (void) commit_pass (fl, job != JOB_WRITE, job == JOB_COMMIT);
  }
}
