/* SPDX-License-Identifier: BSD-2-Clause */
/* What tree.c and tree-redo.c share; nobody else includes it. */

#ifndef FARPAGE_TREE_IMPL_H
#define FARPAGE_TREE_IMPL_H

#include "tree.h"

#include <string.h>

/* The inner nodes on the way to a node. */
struct path {
  struct buf *node[TREE_HEIGHT_MAX + 1]; /* by level, from low to height */
  unsigned low;           /* the lowest that is there; height + 1: none */
  struct disk_pointer at; /* the pointer that the way ended with; 0: absent */
};

/* Leaves below a node of this level, as a shift. */
static inline unsigned
shift_of (unsigned level)
{
  return DISK_FANOUT_SHIFT * level;
}

/* Does leaf (or, with a level, the node of that level's) index exist? */
static inline bool
in_tree (const struct tree *t, unsigned level, uint64_t index)
{
  return level <= t->height && index >> shift_of (t->height - level) == 0;
}

static inline struct disk_node *
node_of (const struct buf *b)
{
  return (struct disk_node *) b->data;
}

static inline struct disk_pointer *
children_of (const struct buf *b)
{
  return ((struct disk_inner *) node_of (b)->body)->child;
}

/* The slot in an inner node of this level on the way to a leaf. */
static inline unsigned
slot_of (unsigned level, uint64_t leaf)
{
  return leaf >> shift_of (level - 1) & (DISK_FANOUT - 1);
}

static inline struct disk_pointer *
child_of (const struct buf *b, uint64_t leaf)
{
  return &children_of (b)[slot_of (b->id.level, leaf)];
}

/* The first leaf below a node. */
static inline uint64_t
leaf_of (const struct buf *b)
{
  return b->id.index << shift_of (b->id.level);
}

static inline bool
node_is_empty (const struct buf *b)
{
  const uint8_t *body = node_of (b)->body;

  return body[0] == 0 && memcmp (body, body + 1, DISK_NODE_BODY - 1) == 0;
}

/* Tell the log what is wrong with a node; EIO. */
extern int tree_trouble (const struct tree *t, unsigned level, uint64_t index,
                         uint64_t blk, const char *what);

/* The node of a level on the way to a leaf, which at points to. */
extern int tree_node_get (struct tree *t, unsigned level, uint64_t leaf,
                          const struct disk_pointer *at, struct buf **bp);

/* The inner nodes above a level on the way to a leaf, as far as they are there.
 * EIO: none is referenced.  Lock: needs the tree's.
 */
extern int tree_path_get (struct tree *t, unsigned level, uint64_t leaf,
                          struct path *p);
extern void tree_path_put (struct tree *t, struct path *p);

/* A new node of a level on the way to a leaf, in no tree yet.  NULL: no buffer
 * was clean.
 */
extern struct buf *tree_node_new (struct tree *t, unsigned level, uint64_t leaf,
                                  uint64_t blk);
/* It becomes a node of the tree, begun; all above it is there.  Lock: needs the
 * tree's.
 */
extern void tree_node_enter (struct tree *t, struct change *ch,
                             const struct path *p, struct buf *b);

/* Or it goes above the root, and is done.  Lock: needs the tree's. */
extern void tree_node_raise (struct tree *t, struct change *ch, struct buf *b);

/* Node b, which is empty, leaves the tree, and what is above it and becomes
 * empty by that.  They need not be begun: the medium keeps them as they are
 * there.  Lock: needs the tree's.
 */
extern void tree_node_unmake (struct tree *t, struct change *ch,
                              const struct path *p, struct buf *b,
                              void (*gone) (void *arg, uint64_t blk),
                              void *arg);

#endif /* FARPAGE_TREE_IMPL_H */
