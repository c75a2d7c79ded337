/* SPDX-License-Identifier: BSD-2-Clause */
/* Cycles: META goes to its place, and the log before it is let go.
 *
 * Cycle n, and what a crash leaves after each step (P(n): the log's end at cut
 * n; "as of P" is the state of all META when the log was there):
 *
 *   1. before_cut: most of the free map is folded.
 *   2. The gate is closed.  cut: counts, roots, free map.  P(n) is the log's
 *      end, F(n) the dirty nodes, the cycle is n + 1.  The gate is open again.
 *   3. Commit through P(n).  META of cycle n - 1, complete since step 5 of the
 *      last turn, is durable by the same flush.
 *      - a crash up to here: superblock n - 1, redo from P(n - 2)
 *   4. Superblock n: redo from P(n - 1), the roots as of P(n - 1); flushed.
 *      What of the ring is before P(n - 1), and blocks that META gave up in
 *      cycles up to n - 1, are free.
 *   5. F(n) in place, from copies, and waited for.
 *      - a crash from here on: superblock n.  UNDO puts every node that was
 *        changed after P(n - 1) back to what it was then, whether step 5 came
 *        to it or not; REDO goes on from there.
 *
 * An empty cycle is how the last full one retires: it comes when nothing has
 * happened for CYCLE_NS.
 *
 * Steps 1 and 2 may change more nodes than there are buffers for: leaves of the
 * free map, from notes all over the pool.  Then what is dirty is written before
 * the cut (cycle_write_early ()), with a number of its own, n; the cut comes
 * with n + 1 or later.  No superblock tells of it:
 *
 *   - the log is durable through the last change of what is written (R3).  So
 *     after a crash UNDO goes back to P(n - 1) as it does from step 5.
 *   - what such a node was at P(n - 1) is in the log already: changing it again
 *     before the cut lays no image (flush.early_cycle), so the ring holds one
 *     of each leaf.
 *   - blocks that META gives up wait for the superblock of the cut that comes
 *     after, whatever its number.
 *   - recovery leaves out so many numbers that no node on the media has one
 *     that it gives again (CYCLES_UNTOLD).
 *
 * One thread runs this, beside the commits; or recovery, or close.
 */

#include <config.h>

#include "flush-impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "env.h"
#include "log.h"

static int
fail (struct flush *fl, const char *reason)
{
  flush_fail (fl, reason);
  return EIO;
}

/* ---- the cut ---- */

struct cut {
  unsigned nr;            /* nodes in fl->cut */
  uint64_t cycle, lsn;    /* n, P(n) */
  struct disk_super root; /* roots as of P(n) */
};

/* Lock: the gate is closed. */
static void
take_nodes (struct flush *fl, struct cut *cut)
{
  cut->nr = bufs_take (fl->bs, BUF_META, fl->cut, bufs_nr (fl->bs));
  for (unsigned i = 0; i < cut->nr; i++) {
    LOCK_SCOPE (node_lock (fl, fl->cut[i]));
    assert (fl->cut[i]->dirty_cycle == cut->cycle && !fl->cut[i]->cut);
    fl->cut[i]->cut = true;
    fl->cut[i]->fresh = false;
  }
  atomic_store (&fl->cycle, cut->cycle + 1);
}

static int
make_cut (struct flush *fl, struct cut *cut)
{
  struct change ch = { .nr_nodes = 0, .quiet = fl->hold_mark };
  int err = fl->config.ops->before_cut (fl->config.arg);

  if (err)
    return fail (fl, "the free map could not be read");
  gate_close (fl);
  cut->root = fl->cut_root;
  cut->root.redo_epoch = fl->epoch;
  err = fl->config.ops->cut (fl->config.arg, &ch, &cut->root);
  /* What was to be written early, and could not, is still taken. */
  if (err == 0 && flush_failed (fl))
    err = EIO;
  if (err == 0) {
    cut->cycle = atomic_load (&fl->cycle);
    cut->lsn = undo_close_block (fl);
    take_nodes (fl, cut);
    atomic_store (&fl->early_cycle, cut->cycle + 1);
  }
  gate_open (fl);
  if (err)
    return fail (fl, "maps could not be brought up to date");
  bufs_sort (fl->cut, cut->nr);
  return 0;
}

/* ---- META in place ---- */

/* A node as it was at the cut, to page.  It may change from now on. */
static void
copy_node (struct flush *fl, struct buf *b, uint64_t cycle, void *page)
{
  struct buf *image;

  lock_acquire (node_lock (fl, b));
  image = b->image;
  b->image = NULL;
  if (image == NULL) {
    buf_meta_seal (b, cycle, b->data);
    page_copy (page, b->data, 1);
  }
  b->cut = false;
  lock_release (node_lock (fl, b));
  if (image != NULL) {
    const struct disk_log *log = (const struct disk_log *) image->data;
    struct disk_node *node = page;

    memset (page, 0, BUF_BYTES);
    memcpy (page, log->body, DISK_NODE_USED);
    node->crc = crc32c (0, page, DISK_CRC_OFF);
    buf_put (fl->bs, image);
  }
}

/* In recovery: from now on the medium has what counts of this node. */
static void
image_is_old (struct flush *fl, uint64_t blk)
{
  struct imaged_at *at = imaged_find (&fl->imaged, blk);

  if (at != NULL && !SABOTAGE (read_old_image))
    at->lsn = 0;
}

static int
write_nodes (struct flush *fl, const struct cut *cut)
{
  struct vbatch *batch = vbatch_get (fl->pool);
  int err = 0;

  for (unsigned i = 0; i < cut->nr && err == 0;) {
    unsigned nr = (unsigned) min_u64 (cut->nr - i, CYCLE_COPIES);

    for (unsigned k = 0; k < nr; k++) {
      uint8_t *page = fl->copies + (size_t) k * BUF_BYTES;

      copy_node (fl, fl->cut[i + k], cut->cycle, page);
      fl->cut_ios[k] = (struct buf_io){
        .volume = blkno_volume (fl->cut[i + k]->blk),
        .first = blkno_place (fl->cut[i + k]->blk),
        .page = page,
      };
    }
    err = bufs_write (fl->bs, batch, fl->cut_ios, nr);
    if (err == 0) {
      for (unsigned k = 0; k < nr; k++) {
        flush_mark_volume (fl, (unsigned) fl->cut_ios[k].volume);
        image_is_old (fl, fl->cut[i + k]->blk);
      }
      bufs_written (fl->bs, fl->cut + i, nr);
    }
    atomic_fetch_add (&fl->bytes_meta, (uint64_t) nr * BUF_BYTES);
    i += nr;
    gate_look (fl);
  }
  vbatch_put (batch);
  return err ? fail (fl, "a map could not be written") : 0;
}

/* ---- before the cut ---- */

/* Dirty nodes, at most: what has room beside the changes that are under way, or
 * in recovery, with no pages, three quarters of the buffers.  Less what a
 * change may add; the others are for the log and for what is read.
 */
uint64_t
cycle_early_nodes (struct flush *fl)
{
  uint64_t credit = atomic_load (&fl->inside) >> 32;
  uint64_t most = bufs_dirty_max (fl->bs, BUF_META);

  if (fl->hold_mark)
    return bufs_nr (fl->bs) / 4 * 3 - CHANGE_NODES_MAX;
  return most - min_u64 (most, credit + CHANGE_NODES_MAX);
}

bool
cycle_is_full (struct flush *fl)
{
  return bufs_nr_dirty (fl->bs, BUF_META) >=
         max_u64 (CYCLE_EARLY_NODES (fl), 1);
}

bool
flush_has_room (struct flush *fl)
{
  return !cycle_is_full (fl);
}

void
cycle_write_early (struct flush *fl)
{
  struct cut cut = { .nr = 0 };
  bool closed = atomic_load (&fl->closed);
  int err = 0;

  /* What could not be written then is still taken. */
  if (flush_failed (fl))
    return;
  if (!closed)
    gate_close (fl);
  cut.cycle = atomic_load (&fl->cycle);
  cut.lsn = undo_close_block (fl);
  take_nodes (fl, &cut);
  if (!closed)
    gate_open (fl);
  bufs_sort (fl->cut, cut.nr);
  if (!SABOTAGE (early_before_log)) /* R3 */
    err = fl->started ? flush_commit (fl, cut.lsn)
                      : commit_pass_alone (fl, true, true);
  if (err == 0)
    (void) write_nodes (fl, &cut);
}

/* ---- superblocks ---- */

/* The next superblock: maps on the media are as of redo_lsn and these roots;
 * durable on return.
 */
static int
write_super (struct flush *fl, const struct disk_super *roots,
             uint64_t redo_lsn)
{
  struct disk_super *root = &fl->supers->root;
  struct buf *b = buf_volume (fl->bs, 0);

  if (flush_failed (fl))
    return EIO;
  memcpy (root->members, roots->members, sizeof root->members);
  memcpy (root->retired, roots->retired, sizeof root->retired);
  root->table = roots->table;
  root->table_height = roots->table_height;
  root->next_object = roots->next_object;
  root->cycle = roots->cycle;
  root->redo_lsn = redo_lsn;
  root->redo_epoch = roots->redo_epoch;
  root->durable_lsn =
      fl->hold_mark ? fl->held_mark : atomic_load (&fl->durable_lsn);
  root->dirty_max = bufs_dirty_max (fl->bs, BUF_META);
  for (unsigned i = 0; i < (SABOTAGE (super_once) ? 1 : SUPER_COPIES); i++) {
    if (supers_write_root (fl->supers, b->data) != 0)
      return fail (fl, "the superblock could not be written");
    flush_mark_volume (fl, 0);
    atomic_fetch_add (&fl->bytes_meta, BUF_BYTES);
    if (!SABOTAGE (super_unflushed) && commit_flush_volumes (fl) != 0)
      return EIO;
  }
  atomic_store (&fl->sequence, supers_oldest (root));
  return 0;
}

int
cycle_write_super (struct flush *fl)
{
  struct disk_super roots = fl->cut_root;

  return write_super (fl, &roots, fl->cut_lsn);
}

/* What only cycles up to this one needed is free. */
static void
retire (struct flush *fl, uint64_t redo_lsn, uint64_t cycle)
{
  atomic_store (&fl->redo_lsn, redo_lsn);
  fl->config.ops->retired (fl->config.arg, cycle);
  gate_look (fl);
}

/* ---- a cycle ---- */

/* What the next superblock says. */
static void
take_over (struct flush *fl, const struct cut *cut)
{
  fl->cut_lsn = cut->lsn;
  fl->cut_root = cut->root;
  fl->cut_root.cycle = cut->cycle;
}

int
cycle_run (struct flush *fl)
{
  struct cut cut;
  int err = make_cut (fl, &cut);

  if (err == 0 && !SABOTAGE (meta_before_log))
    err = flush_commit (fl, cut.lsn);
  /* With no record since, nothing has flushed the META of the last turn. */
  if (err == 0 && !SABOTAGE (skip_meta_flush))
    err = commit_flush_volumes (fl);
  if (err == 0 && SABOTAGE (super_before_meta))
    take_over (fl, &cut);
  if (err == 0)
    err = write_super (fl, &fl->cut_root, fl->cut_lsn);
  if (err)
    return err;
  retire (fl, SABOTAGE (free_ring_early) ? cut.lsn : fl->cut_lsn,
          SABOTAGE (retire_early) ? cut.cycle - 1 : fl->cut_root.cycle);
  err = write_nodes (fl, &cut);
  if (err)
    return err;
  take_over (fl, &cut);
  return 0;
}

int
cycle_run_last (struct flush *fl, enum disk_state state)
{
  struct cut cut;
  int err = make_cut (fl, &cut);

  if (err == 0)
    err = commit_pass_alone (fl, true, true);
  if (err == 0)
    err = write_nodes (fl, &cut);
  if (err == 0 && !SABOTAGE (close_unflushed))
    err = commit_flush_volumes (fl);
  if (err)
    return err;
  cut.root.cycle = cut.cycle;
  fl->hold_mark = false;
  fl->supers->root.state = state;
  fl->supers->root.next_lsn = cut.lsn;
  if (state == DISK_CLEAN)
    fl->supers->root.staging = 0;
  err = write_super (fl, &cut.root, cut.lsn);
  if (err)
    return err;
  fl->cut_lsn = cut.lsn;
  fl->cut_root = cut.root;
  retire (fl, cut.lsn, cut.cycle);
  return 0;
}

/* ---- the thread ---- */

/* Is there anything that a cycle would bring forward? */
static bool
has_work (struct flush *fl)
{
  return bufs_nr_dirty (fl->bs, BUF_META) > 0 ||
         atomic_load (&fl->content_lsn) > atomic_load (&fl->redo_lsn);
}

/* Lock: needs want_lock. */
static bool
cycle_is_due (struct flush *fl, uint64_t next_ns)
{
  if (fl->want_cycle || fl->want_cycles > fl->nr_cycles_done ||
      cycle_is_wanted (fl))
    return true;
  return env_now_ns () >= next_ns && has_work (fl);
}

/* True: begin a cycle; false: stop. */
static bool
wait_cycle (struct flush *fl, uint64_t next_ns)
{
  LOCK_SCOPE (&fl->want_lock);
  for (;;) {
    if (fl->stop_cycle || flush_failed (fl))
      return false;
    if (cycle_is_due (fl, next_ns)) {
      fl->want_cycle = false;
      fl->nr_cycles_begun++;
      atomic_store (&fl->asked, false);
      return true;
    }
    if (env_now_ns () >= next_ns)
      next_ns = env_now_ns () + CYCLE_NS;
    cond_wait_until (&fl->cycle_wanted, &fl->want_lock, next_ns);
  }
}

void
cycle_main (void *arg)
{
  struct flush *fl = arg;

  while (wait_cycle (fl, env_now_ns () + CYCLE_NS)) {
    (void) cycle_run (fl);
    LOCK_SCOPE (&fl->want_lock);
    fl->nr_cycles_done = fl->nr_cycles_begun;
    cond_broadcast (&fl->cycle_done);
  }
}
