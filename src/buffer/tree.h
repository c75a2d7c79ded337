/* SPDX-License-Identifier: BSD-2-Clause */
/* META as radix trees: a root pointer, inner nodes with DISK_FANOUT pointers,
 * leaves of what the tree is for.
 *
 *   height 2:  root --> inner (level 2) --> inner (level 1) --> leaf (level 0)
 *              root pointer {blk, cycle}      index of level l: leaf >> 7 * l
 *
 * A pointer holds the cycle that wrote its node last, so a stale node is told
 * from a good one: when a node changes for the first time in a cycle, so do
 * all above it, and at last the root pointer (on_root).
 *
 * A tree of maps can get more levels, never less.  A new one is a node with
 * index 0 above the root, which becomes its child 0:
 *
 *   root --> old            root --> new (level + 1) --> child 0: old
 *
 * It is made though there be no old root: so the records of the log say, one
 * by one and whatever has become of the leaves, how high the tree is.
 *
 * Locks: inner nodes and the root pointer are the tree's (tree.lock, rank
 * LOCK_TREE); a leaf's content is guarded by its caller's lock.
 */

#ifndef FARPAGE_TREE_H
#define FARPAGE_TREE_H

#include "flush.h"

#define TREE_HEIGHT_MAX 6u

struct tree {
  struct bufs *bs;
  struct flush *fl;
  uint64_t id;                   /* [const] */
  unsigned height;               /* levels above the leaves: tree_raise () */
  enum disk_node_type leaf_type; /* [const] */
  lock_t lock;
  struct disk_pointer root; /* [lock] */
  /* The root pointer has changed; called with the lock held, in a change.
   * NULL: nobody wants to know.
   */
  void (*on_root) (void *arg);
  void *arg;
  _Atomic uint64_t nr_nodes; /* this process's count of its nodes */
};

/* Levels that nr_leaves leaves need above them. */
extern unsigned tree_height (uint64_t nr_leaves);

extern void tree_init (struct tree *t, struct bufs *bs, struct flush *fl,
                       uint64_t id, enum disk_node_type leaf_type,
                       unsigned height, const struct disk_pointer *root);
extern void tree_fini (struct tree *t);

/* The leaf, referenced; NULL if the tree has none there.  EIO.  Hot: one look
 * into the buffers.  Lock: the leaf's.  Blocks: may read.
 */
extern int tree_get (struct tree *t, uint64_t index, struct buf **leafp);

/* The block of a leaf that is in no buffer; 0: it is in one, or is not there,
 * or nobody can say.  Lock, Blocks: as tree_has.
 */
extern uint64_t tree_where (struct tree *t, uint64_t index);

/* Is the leaf there?  It is not loaded.  EIO.  Lock, Blocks: as tree_get. */
extern int tree_has (struct tree *t, uint64_t index, bool *has);

/* Nodes that are missing on the way to a leaf (0: it is there), all that are
 * there being loaded.  Holds as long as nobody else changes the tree: the last
 * leaf below an inner node may be unmade under another lock, and then it takes
 * height + 1 nodes at worst.  EIO.  Lock: the leaf's.  Blocks: may read.
 */
extern int tree_missing (struct tree *t, uint64_t index, unsigned *nr);

/* Make the leaf, which is not there, and what is missing above it, in these
 * blocks (see tree_missing; those that are not needed any more stay).  Appends
 * records.  *nr_used blocks are the tree's now.  The leaf is referenced, begun
 * and all zero.  EIO: nothing has changed.  Lock: the leaf's; in a change.
 * Blocks: may read inner nodes, unless tree_missing () was called before.
 */
extern int tree_make (struct tree *t, struct change *ch, uint64_t index,
                      const uint64_t *blks, unsigned *nr_used,
                      struct buf **leafp);

/* Begin a change of a leaf: buf_begin (), and what that means above it.  EIO:
 * nothing has changed.  Once it is done, what is above the leaf stays in memory
 * to the end of the change: making and unmaking leaves beside it cannot fail.
 * Blocks: may read inner nodes, unless tree_missing () was called before.
 */
extern int tree_begin (struct tree *t, struct change *ch, struct buf *leaf);

/* The leaf is empty, all zero: it and the inner nodes that become empty leave
 * the tree.  Appends records; gone is told each block, with the tree's lock
 * held; it is free when the cycle flush_cycle () has retired.  leaf's reference
 * is taken in any case.  EIO: it is still there.  Lock, Blocks: as tree_begin.
 */
extern int tree_unmake (struct tree *t, struct change *ch, struct buf *leaf,
                        void (*gone) (void *arg, uint64_t blk), void *arg_gone);

/* A crash can leave inner nodes with nothing below: those on the way to this
 * leaf leave the tree, as in tree_unmake.
 */
extern int tree_prune (struct tree *t, struct change *ch, uint64_t index,
                       void (*gone) (void *arg, uint64_t blk), void *arg_gone);

/* The tree gets nodes above its root until it has so many levels, in these
 * blocks, one a level.  Appends records.  EIO: nothing has changed.  Lock: none
 * held; nobody else is on the tree; in a change.
 */
extern int tree_raise (struct tree *t, struct change *ch, unsigned height,
                       const uint64_t *blks);

/* The first leaf that is there at or after index; UINT64_MAX if none.  One that
 * is not there is told of, too, if it is the first below an empty inner node
 * (tree_prune).  EIO.  Blocks: may read inner nodes.
 */
extern int tree_next (struct tree *t, uint64_t index, uint64_t *next);

/* Redo: a record NODE or UNNODE of this tree.  A node that is there already,
 * or is gone or not empty, stays as it is; one above the root raises a map.
 * used, gone: told the blocks.  EIO, too, if the record cannot be right.
 */
extern int tree_redo (struct tree *t, struct change *ch,
                      const struct disk_rec *rec,
                      void (*used) (void *arg, uint64_t blk),
                      void (*gone) (void *arg, uint64_t blk), void *arg);

#endif /* FARPAGE_TREE_H */
