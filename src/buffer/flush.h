/* SPDX-License-Identifier: BSD-2-Clause */
/* The log, the flusher and its cycles: what makes a change durable, and when.
 *
 * Three streams, each written by one thread:
 *
 *   commit   dirty DATA and the log's blocks, then one device flush for every
 *            volume that had any: a group commit (FLUSH, FUA, parked blocks)
 *   cycle    META in place: cut, commit, superblock, META
 *   requests append to the log in memory, and wait for the others
 *
 * A change of META:
 *
 *   change_begin (fl, nr_nodes, &ch);      waits, no lock held
 *     lock the shard; load the nodes (buf_meta_get, tree_get)
 *     buf_begin (fl, &ch, b, fresh);       its UNDO is in the log
 *       ... change b->data ...
 *     buf_done (fl, b);
 *     undo_append (fl, &ch, &rec, ...);    its REDO is in the log
 *     unlock the shard
 *   change_end (fl, &ch);
 *   flush_commit (fl, ch.lsn);             if it must be durable
 *
 * Cycle n, and what a crash leaves at each step: flush.c.
 */

#ifndef FARPAGE_FLUSH_H
#define FARPAGE_FLUSH_H

#include "buf.h"
#include "super.h"

struct flush;
struct change;

struct flush_ops {
  /* Change and load what the cut would have to, so that it is short.  Blocks:
   * yes.
   */
  int (*before_cut) (void *arg);
  /* The gate is closed, nobody changes META: write what is only in memory
   * (counts, roots, free map) into META and into root, where what is retired
   * goes, too, by buf_begin () as in any change, and with flush_make_room ()
   * again and again if that may be many nodes.  EIO makes the store fail.
   */
  int (*cut) (void *arg, struct change *ch, struct disk_super *root);
  /* Records below lsn are durable.  Must not block. */
  void (*durable) (void *arg, uint64_t lsn);
  /* No superblock needs blocks any more that META gave up in this cycle or
   * before.  Must not block.
   */
  void (*retired) (void *arg, uint64_t cycle);
  /* The store has failed, for this reason.  Told once; must not block. */
  void (*failed) (void *arg, const char *reason);
};

struct flush_config {
  struct bufs *bs;
  struct volume *const *volumes;
  unsigned nr_volumes;
  struct supers *supers; /* slots of all volumes, the root's chosen */
  const struct flush_ops *ops;
  void *arg;
};

/* Made before recovery, which uses it with no thread; flush_start () begins
 * the threads (after the last fork).
 */
extern int flush_create (const struct flush_config *config, struct flush **flp);
extern int flush_start (struct flush *fl);
/* The last cycle, and a clean superblock.  Nobody changes anything any more.
 * Errors as flush_commit.  Blocks: yes.
 */
extern int flush_close (struct flush *fl);
extern void flush_destroy (struct flush *fl); /* NULL is fine */

/* The staging file that belongs to the store from now on (0: none), durable on
 * return.  Before flush_start ().
 */
extern int flush_set_staging (struct flush *fl, uint64_t id);

/* A cut may change so many nodes beside the free map's. */
extern void flush_reserve (struct flush *fl, uint64_t nr_nodes);

/* ---- changes ---- */

struct change {
  unsigned nr_nodes; /* credit that is left */
  uint64_t lsn;      /* after the last undo_append: wait for it to be durable */
  bool quiet;        /* in recovery: no records */
};

/* Most nodes a change may touch. */
#define CHANGE_NODES_MAX 32u

/* Wait for room in the log and in the buffers, and for the gate.  EIO: the
 * store has failed.  Lock: none held.  Blocks: yes.
 */
extern int change_begin (struct flush *fl, unsigned nr_nodes,
                         struct change *ch);
extern void change_end (struct flush *fl, struct change *ch);

/* For before_cut () and cut (), between two changes of at most
 * CHANGE_NODES_MAX nodes: room for the next, which only the cycle under way
 * can make.  If buffers are short nodes are written before the cut (cycle.c),
 * or the log is.  Errors have made the store fail.  Lock: none held.  Blocks:
 * yes.
 */
extern void flush_make_room (struct flush *fl);
/* For before_cut (): a change in the room that this has made. */
extern void change_begin_cut (struct flush *fl, struct change *ch);
/* For before_cut (): would the next have to make some? */
extern bool flush_has_room (struct flush *fl);

/* b is about to change: its UNDO is laid if this is the first time in the
 * cycle (true is returned: whoever points to b must take over the cycle's
 * number, flush_cycle ()).  Lock: the one that guards b's content.
 * Blocks: no.
 */
extern bool buf_begin (struct flush *fl, struct change *ch, struct buf *b,
                       bool fresh);
extern void buf_done (struct flush *fl, struct buf *b);

/* The cycle that changes made now belong to. */
extern uint64_t flush_cycle (struct flush *fl);

/* Append a record (crc and bytes are filled in) and what follows it.  Lock:
 * the one that orders records of this kind, held over the change itself.
 */
extern void undo_append (struct flush *fl, struct change *ch,
                         struct disk_rec *rec, const void *more,
                         uint32_t more_bytes);

/* ---- waiting ---- */

/* Where the log ends now: records appended so far are below. */
extern uint64_t flush_tail (struct flush *fl);
extern uint64_t flush_durable (struct flush *fl);

/* Until all records below lsn are durable on all volumes.  EIO: the store has
 * failed.  Lock: none held.  Blocks: yes.
 */
extern int flush_commit (struct flush *fl, uint64_t lsn);

/* Until records below lsn and their data are written, if not flushed: they
 * survive this process.  With staging they do at once.
 */
extern int flush_written (struct flush *fl, uint64_t lsn);

/* Begin a commit soon, nobody waits: parked blocks are wanted. */
extern void flush_kick (struct flush *fl);
/* Begin to write what is dirty; for bufs_config.wake. */
extern void flush_wake (struct flush *fl);
/* One whole cycle; returns when its superblock is durable. */
extern int flush_run_cycle (struct flush *fl);

/* A volume was written past the buffers: its next commit flushes it too. */
extern void flush_mark_volume (struct flush *fl, unsigned volume);
/* The same, for a client's data: so much of it. */
extern void flush_wrote (struct flush *fl, unsigned volume, uint64_t bytes);

/* One latch: the first caller's reason counts. */
extern void flush_fail (struct flush *fl, const char *reason);
extern bool flush_failed (struct flush *fl);
extern const char *flush_fail_reason (struct flush *fl);

struct flush_stat {
  uint64_t cycle, epoch, tail_lsn, durable_lsn, redo_lsn, ring_blocks;
  uint64_t nr_commits, nr_cycles, nr_device_flushes;
  /* Written to volumes; direct: past the buffers. */
  uint64_t bytes_direct, bytes_data, bytes_log, bytes_meta;
};
extern void flush_stat (struct flush *fl, struct flush_stat *st);

/* ---- the log as it was read (undo.c): no flusher is needed ---- */

/* NULL, or what is wrong with a log block as it was read. */
extern const char *undo_error (const struct disk_log *log, const uint8_t *uuid);
/* The record at *pos of a block's body, whole and well; NULL: there is none.
 * *pos goes behind it.
 */
extern const struct disk_rec *undo_next_rec (const struct disk_log *log,
                                             uint32_t end, uint32_t *pos);

#endif /* FARPAGE_FLUSH_H */
