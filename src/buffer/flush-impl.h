/* SPDX-License-Identifier: BSD-2-Clause */
/* What undo.c, flush.c, gate.c, commit.c, cycle.c and recover.c share; nobody
 * else includes it.
 */

#ifndef FARPAGE_FLUSH_IMPL_H
#define FARPAGE_FLUSH_IMPL_H

#include "flush.h"
#include "sabotage.h"
#include "task.h"

/* Ring blocks and UNDO buffers that the records of one change may take,
 * beside one image for each node: a shard full of single pages.
 */
#define CHANGE_REDO_BLOCKS 8u
/* What recovery may have to verify: pages in records that no flush covers. */
#define GROUP_PAGES_MAX 65536u
#define NODE_LOCKS      64u
#define COMMIT_TAKE     1024u /* buffers taken for writing at a time */
#define CYCLE_COPIES    256u  /* nodes copied for writing at a time */
#ifndef CYCLE_EARLY_NODES     /* the simulator has fewer */
#define CYCLE_EARLY_NODES(fl) cycle_early_nodes (fl)
#endif
/* More than all cycles use, and early writes in them, that one superblock
 * comes after.
 */
#define CYCLES_UNTOLD (UINT64_C (1) << 32)
#define CYCLE_NS      (5 * NS_PER_S)
#define IDLE_MARK_NS  NS_PER_S

/* The nodes that have an image in the log that recovery goes by: an open hash
 * that was made to hold them all, recover-undo.c.
 */
struct imaged_at {
  uint32_t blk[2]; /* low and high half; 0: empty */
  uint32_t lsn;    /* of the oldest image, from imaged.before on; 0: the node
                    * was written since */
};
struct imaged {
  struct imaged_at *at;
  uint64_t size;   /* 0: nothing is in it */
  uint64_t before; /* lsn of the block before those that recovery goes by */
};
_Static_assert(sizeof (struct imaged_at) == 12, "there may be very many");
/* NULL: it has none. */
extern struct imaged_at *imaged_find (const struct imaged *im, uint64_t blk);

struct flush {
  struct flush_config config;
  struct bufs *bs;
  struct supers *supers;
  struct vpool *pool;     /* batches of both threads, or of recovery */
  uint8_t *copies;        /* CYCLE_COPIES pages for the cycle's writes */
  struct buf **cut;       /* F(n): nodes of the cut, bufs_nr () places */
  struct buf **taken;     /* COMMIT_TAKE places, the commit's */
  struct buf_io *ios;     /* COMMIT_TAKE places, the commit's */
  struct buf_io *cut_ios; /* CYCLE_COPIES places, the cycle's */
  uint64_t ring_first, ring_blocks; /* [const] */
  uint8_t uuid[DISK_UUID_BYTES];    /* [const] */
  uint64_t epoch;                   /* [const] once recovery has taken it */
  uint64_t freemap_nodes;           /* [const] of all volumes */
  _Atomic uint64_t cut_reserve;     /* buffers for nodes that a cut changes */
  _Atomic uint64_t ring_reserve;    /* blocks for their images */

  /* The log's end.  [log_lock] */
  lock_t log_lock;
  struct buf *open; /* REDO block that takes records; NULL */
  uint32_t open_bytes;
  _Atomic uint64_t next_lsn;    /* written under the lock */
  _Atomic uint64_t content_lsn; /* behind the last block that is not empty */

  _Atomic uint64_t pages; /* in records so far; written under the lock */
  _Atomic uint64_t pages_durable; /* of those, how many are durable */

  /* How far the log has come; the commit's thread writes them. */
  _Atomic uint64_t written_lsn; /* blocks below are on their volume */
  _Atomic uint64_t durable_lsn; /* and flushed, with their data */
  uint64_t told_lsn;            /* the highest mark in a block written */
  bool hold_mark; /* in recovery: blocks go on telling the old mark */
  uint64_t held_mark;
  lock_t flush_lock;
  atomic_bool mark[VOLUMES_MAX]; /* written to since its last flush; taken
                                  * under flush_lock */

  /* The gate. */
  lock_t gate_lock;
  cond_t gate_changed; /* any of what change_begin () waits for */
  atomic_bool closed;
  /* Changes under way in the low half, nodes they may still change in the
   * high one: together, for each change touches both twice.
   */
  _Atomic uint64_t inside;
  atomic_uint nr_waiting;

  /* Cycles. */
  _Atomic uint64_t cycle;     /* that changes made now belong to */
  _Atomic uint64_t redo_lsn;  /* of the last durable superblock */
  _Atomic uint64_t sequence;  /* of the oldest superblock that may be gone by;
                               * written before redo_lsn */
  uint64_t cut_lsn;           /* P(n) of the last cut whose META is written */
  struct disk_super cut_root; /* roots as of cut_lsn */
  lock_t node_lock[NODE_LOCKS];
  struct imaged imaged; /* in recovery */
  /* Nodes on the media of this cycle or a later one were written before the
   * cut, by this process, and what they were before is in the log.
   */
  _Atomic uint64_t early_cycle;

  /* Who wants what of which thread.  [want_lock] */
  lock_t want_lock;
  cond_t commit_wanted, cycle_wanted, cycle_done;
  struct commit_waiter *waiters, **waiters_end;
  uint64_t want_durable; /* lsn, of a pass nobody waits for */
  bool passing;          /* a pass is under way */
  bool mark_timed;       /* the commit thread will see to the mark by itself */
  bool want_pass;        /* write what there is */
  atomic_bool asked;     /* a cycle, since the last began */
  uint64_t nr_cycles_begun, nr_cycles_done, want_cycles;
  bool want_cycle, stop_commit, stop_cycle;
  struct task *commit_task, *cycle_task;
  bool started; /* [const] once threads run; else callers do the work */

  lock_t fail_lock;
  atomic_bool failed;
  char reason[160]; /* [fail_lock] until failed */

  _Atomic uint64_t nr_commits, nr_flushes;
  _Atomic uint64_t bytes_direct, bytes_data, bytes_log, bytes_meta;
};

static inline lock_t *
node_lock (struct flush *fl, const struct buf *b)
{
  return &fl->node_lock[((uintptr_t) b >> 6) % NODE_LOCKS];
}

/* ---- undo.c ---- */

/* The node's content, as it lies on the medium, into the log: the buffer, with
 * a reference of the caller's if ref.  Lock: the node's.
 */
extern struct buf *undo_image (struct flush *fl, const struct buf *b, bool ref);
/* No more records into the open block.  Returns the lsn behind it. */
extern uint64_t undo_close_block (struct flush *fl);
/* A block with no record, for its mark. */
extern void undo_empty_block (struct flush *fl);
/* Finish a block for the medium. */
extern void undo_seal (struct flush *fl, struct buf *b);

/* ---- commit.c ---- */

/* Write dirty DATA and the log; with close, through next_lsn as it is now; with
 * flush, make it durable.  Errors have made the store fail.
 * Lock: needs want_lock, lets it go meanwhile; none else; !fl->passing.
 */
extern int commit_pass (struct flush *fl, bool close, bool flush);
/* The same by one who is alone: in recovery, at close. */
extern int commit_pass_alone (struct flush *fl, bool close, bool flush);
/* Wake the first of those in flush_commit () or flush_written () who has no
 * more to wait for; he wakes the next.  Lock: needs want_lock.
 */
extern void commit_wake_waiter (struct flush *fl);
/* Flush every marked volume. */
extern int commit_flush_volumes (struct flush *fl);
extern void commit_main (void *arg);

/* ---- cycle.c ---- */

extern int cycle_run (struct flush *fl);
/* The same, and its META is complete, durable and needs no log at the end. */
extern int cycle_run_last (struct flush *fl, enum disk_state state);
/* With no change of the caller's under way: write what is dirty before the cut,
 * if there is much of it; errors have made the store fail.
 */
extern uint64_t cycle_early_nodes (struct flush *fl);
extern bool cycle_is_full (struct flush *fl);
extern void cycle_write_early (struct flush *fl);
/* A slot as the last one, but for what the caller has changed in the root. */
extern int cycle_write_super (struct flush *fl);
extern void cycle_main (void *arg);

/* ---- gate.c ---- */

/* Something that change_begin () waits for has changed. */
extern void gate_look (struct flush *fl);
extern void gate_close (struct flush *fl);
extern void gate_open (struct flush *fl);
/* Dirty META, or the log, have come so far that a cycle should begin. */
extern bool cycle_is_wanted (struct flush *fl);
/* How full the log is, in blocks. */
extern uint64_t ring_used (struct flush *fl);

#endif /* FARPAGE_FLUSH_IMPL_H */
