/* SPDX-License-Identifier: BSD-2-Clause */
/* The order of things: changes of nodes, and the failure latch.  The gate is
 * gate.c, the log in memory undo.c, group commits commit.c, cycles cycle.c.
 *
 * Requests change META in memory and append to the log; two threads make it
 * durable:
 *
 *   requests --> log in memory --commit--> ring, one flush for all who wait
 *   requests --> META in memory --cycle--> META in place
 *
 * Rules, each of which a sweep of the simulator breaks once (sabotage.h):
 *
 * R1. A record is durable together with its data: one flush covers both, and
 *     recovery looks at the data of every record above the durable mark.
 * R2. A log block that a flush has covered is never written again.
 * R3. A node is written in place only when the log through its cut is durable:
 *     with it the UNDO of its old image.
 * R4. The superblock that drops a cycle's UNDO is written when that cycle's
 *     META is complete and flushed; ring space and META blocks that only that
 *     cycle needed are free when that superblock is durable.
 * R5. A node changes for the first time in a cycle only when its content as of
 *     the cut has been copied, or has a copy in its UNDO image.
 * R6. A flush counts for what had completed before it was issued; one that
 *     fails is never tried again: the store has failed.
 *
 * Locks: want_lock and fail_lock are leaves and taken with no other of this
 * file held.
 */

#include <config.h>

#include "flush-impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "env.h"
#include "log.h"

/* ---- changing a node ---- */

uint64_t
flush_cycle (struct flush *fl)
{
  return atomic_load (&fl->cycle);
}

struct imaged_at *
imaged_find (const struct imaged *im, uint64_t blk)
{
  if (im->size == 0)
    return NULL;
  for (uint64_t i = blk * UINT64_C (0x9e3779b97f4a7c15);; i++) {
    struct imaged_at *at = &im->at[i & (im->size - 1)];

    if (at->blk == 0 || at->blk == blk)
      return at->blk == blk ? at : NULL;
  }
}

/* Has the medium what nobody could go back to without an image? */
static bool
needs_image (const struct flush *fl, const struct buf *b)
{
  const struct disk_node *node = (const struct disk_node *) b->data;

  return node->cycle < atomic_load (&fl->early_cycle) &&
         imaged_find (&fl->imaged, b->blk) == NULL;
}

bool
buf_begin (struct flush *fl, struct change *ch, struct buf *b, bool fresh)
{
  uint64_t cycle = flush_cycle (fl);

  (void) ch;
  LOCK_SCOPE (node_lock (fl, b));
  if (b->dirty_cycle == cycle)
    return false;
  if (b->cut) {
    /* R5: it is still to be written as it is now. */
    buf_meta_seal (b, b->dirty_cycle, b->data);
    if (!SABOTAGE (no_image))
      b->image = undo_image (fl, b, true);
  } else if (!fresh && needs_image (fl, b)) {
    if (!SABOTAGE (no_undo))
      (void) undo_image (fl, b, false);
  }
  b->fresh = fresh;
  b->dirty_cycle = cycle;
  buf_meta_dirty (fl->bs, b);
  return true;
}

void
buf_done (struct flush *fl, struct buf *b)
{
  (void) fl;
  assert (b->dirty_cycle == flush_cycle (fl));
  (void) b;
}

/* ---- waiting ---- */

uint64_t
flush_tail (struct flush *fl)
{
  return atomic_load (&fl->content_lsn);
}

uint64_t
flush_durable (struct flush *fl)
{
  return atomic_load (&fl->durable_lsn);
}

void
flush_kick (struct flush *fl)
{
  LOCK_SCOPE (&fl->want_lock);
  fl->want_durable = max_u64 (fl->want_durable, flush_tail (fl));
  cond_broadcast (&fl->commit_wanted);
}

void
flush_wake (struct flush *fl)
{
  LOCK_SCOPE (&fl->want_lock);
  fl->want_pass = true;
  cond_broadcast (&fl->commit_wanted);
}

int
flush_run_cycle (struct flush *fl)
{
  uint64_t nr;

  if (!fl->started)
    return cycle_run (fl);
  LOCK_SCOPE (&fl->want_lock);
  /* One that has begun may have made its cut already. */
  nr = fl->nr_cycles_begun + 1;
  fl->want_cycles = max_u64 (fl->want_cycles, nr);
  cond_broadcast (&fl->cycle_wanted);
  while (fl->nr_cycles_done < nr && !flush_failed (fl))
    cond_wait (&fl->cycle_done, &fl->want_lock);
  return flush_failed (fl) ? EIO : 0;
}

int
flush_set_staging (struct flush *fl, uint64_t id)
{
  if (fl->supers->root.staging == id)
    return 0;
  fl->supers->root.staging = id;
  return cycle_write_super (fl);
}

void
flush_mark_volume (struct flush *fl, unsigned volume)
{
  atomic_store (&fl->mark[volume], true);
}

void
flush_wrote (struct flush *fl, unsigned volume, uint64_t bytes)
{
  atomic_fetch_add (&fl->bytes_direct, bytes);
  flush_mark_volume (fl, volume);
}

/* ---- failing ---- */

bool
flush_failed (struct flush *fl)
{
  return atomic_load (&fl->failed);
}

const char *
flush_fail_reason (struct flush *fl)
{
  return flush_failed (fl) ? fl->reason : NULL;
}

void
flush_fail (struct flush *fl, const char *reason)
{
  lock_acquire (&fl->fail_lock);
  bool first = !atomic_load (&fl->failed);

  if (first) {
    snprintf (fl->reason, sizeof fl->reason, "%s", reason);
    atomic_store (&fl->failed, true);
  }
  lock_release (&fl->fail_lock);
  if (!first)
    return;
  log_write (LOG_ERROR,
             "store: failed: %s (nothing is written any more; reads go on; "
             "stop it, look at the volumes, run 'farpage check', start again)",
             reason);
  bufs_fail (fl->bs);
  lock_acquire (&fl->want_lock);
  commit_wake_waiter (fl);
  cond_broadcast (&fl->cycle_done);
  cond_broadcast (&fl->commit_wanted);
  cond_broadcast (&fl->cycle_wanted);
  lock_release (&fl->want_lock);
  lock_acquire (&fl->gate_lock);
  cond_broadcast (&fl->gate_changed);
  lock_release (&fl->gate_lock);
  if (fl->config.ops->failed != NULL)
    fl->config.ops->failed (fl->config.arg, reason);
}

/* ---- life ---- */

static void
init_locks (struct flush *fl)
{
  lock_init (&fl->flush_lock, LOCK_FLUSH, "device flush");
  lock_init (&fl->log_lock, LOCK_LOG, "log");
  lock_init (&fl->gate_lock, LOCK_LEAF, "gate");
  lock_init (&fl->want_lock, LOCK_LEAF, "flusher");
  lock_init (&fl->fail_lock, LOCK_LEAF, "failure");
  for (unsigned i = 0; i < NODE_LOCKS; i++)
    lock_init (&fl->node_lock[i], LOCK_NODE, "node");
  cond_init (&fl->gate_changed);
  cond_init (&fl->commit_wanted);
  cond_init (&fl->cycle_wanted);
  cond_init (&fl->cycle_done);
}

static uint64_t
count_freemap_nodes (const struct disk_super *root)
{
  uint64_t nr = 0;

  for (unsigned i = 0; i < root->nr_volumes; i++)
    nr += root->members[i].freemap_blocks;
  return nr;
}

static int
make_memory (struct flush *fl)
{
  void *copies = mmap (NULL, CYCLE_COPIES * BUF_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  fl->copies = copies != MAP_FAILED ? copies : NULL;
  fl->cut = calloc (bufs_nr (fl->bs), sizeof (struct buf *));
  fl->taken = calloc (COMMIT_TAKE, sizeof (struct buf *));
  fl->ios = calloc (COMMIT_TAKE, sizeof *fl->ios);
  fl->cut_ios = calloc (CYCLE_COPIES, sizeof *fl->cut_ios);
  if (fl->copies == NULL || fl->cut == NULL || fl->taken == NULL ||
      fl->ios == NULL || fl->cut_ios == NULL)
    return ENOMEM;
  return 0;
}

void
flush_reserve (struct flush *fl, uint64_t nr_nodes)
{
  /* 8: inner nodes of the table and of a few volumes' free maps. */
  uint64_t nr = fl->freemap_nodes + nr_nodes + 8;
  uint64_t most = fl->ring_blocks - min_u64 (fl->ring_blocks / 2, 64);

  atomic_store (&fl->cut_reserve,
                min_u64 (nr, bufs_dirty_max (fl->bs, BUF_META) / 2));
  /* Recovery lays what a cut would have laid, with however few buffers.  One
   * change alone goes into a ring that is empty.
   */
  atomic_store (&fl->ring_reserve, min_u64 (nr, most));
}

int
flush_create (const struct flush_config *config, struct flush **flp)
{
  const struct disk_super *root = &config->supers->root;
  struct flush *fl = calloc (1, sizeof *fl);
  int err;

  if (fl == NULL)
    return ENOMEM;
  fl->config = *config;
  fl->bs = config->bs;
  fl->supers = config->supers;
  fl->ring_first = root->ring_first;
  fl->ring_blocks = root->ring_blocks;
  memcpy (fl->uuid, root->uuid, sizeof fl->uuid);
  fl->freemap_nodes = count_freemap_nodes (root);
  atomic_init (&fl->early_cycle, UINT64_MAX);
  flush_reserve (fl, 0);
  fl->waiters_end = &fl->waiters;
  init_locks (fl);
  err = make_memory (fl);
  if (err == 0)
    err = vpool_create (2, PAGE_BYTES, VPOOL_SYNC, &fl->pool);
  if (err) {
    flush_destroy (fl);
    return err;
  }
  *flp = fl;
  return 0;
}

int
flush_start (struct flush *fl)
{
  struct vpool *pool;
  int err = vpool_create (2, PAGE_BYTES, VPOOL_AUTO, &pool);

  if (err)
    return err;
  vpool_destroy (fl->pool);
  fl->pool = pool;
  fl->started = true;
  err = task_start ("commit", commit_main, fl, &fl->commit_task);
  if (err == 0)
    err = task_start ("cycle", cycle_main, fl, &fl->cycle_task);
  return err;
}

static void
stop_threads (struct flush *fl)
{
  lock_acquire (&fl->want_lock);
  fl->stop_cycle = true;
  cond_broadcast (&fl->cycle_wanted);
  lock_release (&fl->want_lock);
  if (fl->cycle_task != NULL)
    task_join (fl->cycle_task);
  /* A cycle that was under way has needed commits to its end. */
  lock_acquire (&fl->want_lock);
  fl->stop_commit = true;
  cond_broadcast (&fl->commit_wanted);
  lock_release (&fl->want_lock);
  if (fl->commit_task != NULL)
    task_join (fl->commit_task);
  fl->cycle_task = fl->commit_task = NULL;
  fl->started = false;
}

int
flush_close (struct flush *fl)
{
  stop_threads (fl);
  if (flush_failed (fl))
    return EIO;
  return cycle_run_last (fl, DISK_CLEAN);
}

void
flush_destroy (struct flush *fl)
{
  if (fl == NULL)
    return;
  if (fl->started)
    stop_threads (fl);
  vpool_destroy (fl->pool);
  if (fl->copies != NULL)
    munmap (fl->copies, CYCLE_COPIES * BUF_BYTES);
  free (fl->cut);
  free (fl->taken);
  free (fl->ios);
  free (fl->cut_ios);
  free (fl->imaged.at);
  for (unsigned i = 0; i < NODE_LOCKS; i++)
    lock_destroy (&fl->node_lock[i]);
  lock_destroy (&fl->flush_lock);
  lock_destroy (&fl->log_lock);
  lock_destroy (&fl->gate_lock);
  lock_destroy (&fl->want_lock);
  lock_destroy (&fl->fail_lock);
  cond_destroy (&fl->gate_changed);
  cond_destroy (&fl->commit_wanted);
  cond_destroy (&fl->cycle_wanted);
  cond_destroy (&fl->cycle_done);
  free (fl);
}

void
flush_stat (struct flush *fl, struct flush_stat *st)
{
  *st = (struct flush_stat){
    .cycle = flush_cycle (fl),
    .epoch = fl->epoch,
    .tail_lsn = flush_tail (fl),
    .durable_lsn = flush_durable (fl),
    .redo_lsn = atomic_load (&fl->redo_lsn),
    .ring_blocks = fl->ring_blocks,
    .nr_commits = atomic_load (&fl->nr_commits),
    .nr_device_flushes = atomic_load (&fl->nr_flushes),
    .bytes_direct = atomic_load (&fl->bytes_direct),
    .bytes_data = atomic_load (&fl->bytes_data),
    .bytes_log = atomic_load (&fl->bytes_log),
    .bytes_meta = atomic_load (&fl->bytes_meta),
  };
  LOCK_SCOPE (&fl->want_lock);
  st->nr_cycles = fl->nr_cycles_done;
}
