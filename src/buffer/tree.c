/* SPDX-License-Identifier: BSD-2-Clause */
/* Radix trees over META buffers; see tree.h for the picture.
 *
 * Called by whoever has a tree: maps of objects, the object table, free maps.
 * Calls buf (nodes) and flush (changes and their records), and knows nothing
 * of what lies in a leaf but that an empty one is all zero.
 *
 * Invariants:
 * I1. A pointer's cycle is the cycle that its node was last changed in.  So a
 *     node that is begun in a cycle has all nodes above it begun in that cycle,
 *     and the root pointer taken over.
 * I2. Thus nodes above one that was begun in the current cycle are dirty and
 *     stay in memory until the cut: after tree_begin () or tree_make () nothing
 *     more on the way to that leaf is read in the same change.
 * I3. nr_used of an inner node is the number of its pointers.
 * I4. An inner node has at least one pointer, but for those that recovery made
 *     for a record NODE whose leaf's record did not get into the log, and those
 *     that an empty tree got by tree_raise () (tree_prune).
 * I5. What can fail (loading) comes before anything is changed.
 *
 * Nothing that was read is believed: buf checks that a pointer leads into a
 * volume, and that the node there is the one that was asked for; here a node
 * leaves only if its body is seen to be all zero, whatever its nr_used says.
 *
 * Locks: tree.lock is held over all but the look for a cached leaf, while inner
 * nodes are read too: they are few, and mostly in memory.  It is not held while
 * a leaf is read: its pointer changes only under the leaf's lock.
 *
 * Deliberately not done: trees do not lose levels; inner nodes are not kept for
 * later when they become empty.
 */

#include <config.h>

#include "tree-impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "log.h"

static struct log_limit trouble_limit;

/* ---- nodes ---- */

/* The first slot from this one on that has a pointer; DISK_FANOUT if none. */
static unsigned
next_child (const struct buf *b, unsigned slot)
{
  const struct disk_pointer *child = children_of (b);

  while (slot < DISK_FANOUT && child[slot].blk == 0)
    slot++;
  return slot;
}

static unsigned
count_children (const struct buf *b)
{
  const struct disk_pointer *child = children_of (b);
  unsigned nr = 0;

  for (unsigned i = 0; i < DISK_FANOUT; i++)
    nr += child[i].blk != 0;
  return nr;
}

static struct buf_id
id_of (const struct tree *t, unsigned level, uint64_t leaf)
{
  return (struct buf_id){ .tree = t->id,
                          .index = leaf >> shift_of (level),
                          .level = level };
}

static struct buf *
node_find (struct tree *t, unsigned level, uint64_t leaf)
{
  struct buf_id id = id_of (t, level, leaf);

  return buf_meta_find (t->bs, &id);
}

int
tree_trouble (const struct tree *t, unsigned level, uint64_t index,
              uint64_t blk, const char *what)
{
  log_limited (&trouble_limit, LOG_ERROR,
               "meta: tree %#" PRIx64 ", level %u, node %" PRIu64
               ", volume %u, block %" PRIu64 ": %s (run 'farpage check')",
               t->id, level, index, blkno_volume (blk), blkno_place (blk),
               what);
  return EIO;
}

int
tree_node_get (struct tree *t, unsigned level, uint64_t leaf,
               const struct disk_pointer *at, struct buf **bp)
{
  struct buf_id id = id_of (t, level, leaf);

  return buf_meta_get (t->bs, &id, level == 0 ? t->leaf_type : DISK_NODE_INNER,
                       at, false, bp);
}

/* ---- ways ---- */

void
tree_path_put (struct tree *t, struct path *p)
{
  for (unsigned level = p->low; level <= t->height; level++)
    buf_put (t->bs, p->node[level]);
}

int
tree_path_get (struct tree *t, unsigned level, uint64_t leaf, struct path *p)
{
  p->low = t->height + 1;
  p->at = t->root;
  while (p->at.blk != 0 && p->low > level + 1) {
    int err = tree_node_get (t, p->low - 1, leaf, &p->at, &p->node[p->low - 1]);

    if (err) {
      tree_path_put (t, p);
      return err;
    }
    p->low--;
    p->at = *child_of (p->node[p->low], leaf);
  }
  return 0;
}

/* The way to a leaf that is in hand.  Lock: needs the tree's. */
static int
path_get_leaf (struct tree *t, const struct buf *leaf, struct path *p)
{
  int err = tree_path_get (t, 0, leaf->id.index, p);

  if (err == 0 && p->at.blk != leaf->blk) {
    tree_path_put (t, p);
    err = tree_trouble (t, 0, leaf->id.index, leaf->blk,
                        "the node above points to another block");
  }
  return err;
}

/* The pointer to a leaf, blk 0 if it is absent: from the lowest cached node
 * down.
 */
static int
leaf_pointer (struct tree *t, uint64_t leaf, struct disk_pointer *at)
{
  struct buf *b = NULL;
  unsigned level;

  LOCK_SCOPE (&t->lock);
  for (level = 1; level <= t->height && b == NULL; level++)
    b = node_find (t, level, leaf);
  level = b != NULL ? b->id.level : t->height + 1;
  *at = b != NULL ? *child_of (b, leaf) : t->root;
  if (b != NULL)
    buf_put (t->bs, b);
  while (--level > 0 && at->blk != 0) {
    int err = tree_node_get (t, level, leaf, at, &b);

    if (err)
      return err;
    *at = *child_of (b, leaf);
    buf_put (t->bs, b);
  }
  return 0;
}

/* ---- changing ---- */

/* The pointer to the node of a level on the way to a leaf becomes `to`: what
 * is above it is begun (I1).  Lock: needs the tree's.
 */
static void
pointer_set (struct tree *t, struct change *ch, const struct path *p,
             unsigned level, uint64_t leaf, struct disk_pointer to)
{
  for (; level < t->height; level++) {
    struct buf *b = p->node[level + 1];
    bool first = buf_begin (t->fl, ch, b, false);
    struct disk_pointer *child = child_of (b, leaf);
    bool count = (child->blk == 0) != (to.blk == 0);

    *child = to;
    if (count)
      node_of (b)->nr_used = count_children (b);
    buf_done (t->fl, b);
    if (!first)
      return;
    to = (struct disk_pointer){ b->blk, flush_cycle (t->fl) };
  }
  t->root = to;
  if (t->on_root != NULL)
    t->on_root (t->arg);
}

static void
append (struct tree *t, struct change *ch, enum disk_rec_type type,
        const struct buf *b)
{
  struct disk_rec rec = {
    .type = (uint16_t) type,
    .object = t->id,
    .pgno = b->id.index,
    .word = b->blk,
    .nr = b->id.level,
  };

  undo_append (t->fl, ch, &rec, NULL, 0);
}

struct buf *
tree_node_new (struct tree *t, unsigned level, uint64_t leaf, uint64_t blk)
{
  struct buf_id id = id_of (t, level, leaf);

  return buf_meta_new (t->bs, &id, level == 0 ? t->leaf_type : DISK_NODE_INNER,
                       blk);
}

void
tree_node_enter (struct tree *t, struct change *ch, const struct path *p,
                 struct buf *b)
{
  (void) buf_begin (t->fl, ch, b, true);
  append (t, ch, DISK_REC_NODE, b);
  pointer_set (t, ch, p, b->id.level, leaf_of (b),
               (struct disk_pointer){ b->blk, flush_cycle (t->fl) });
  atomic_fetch_add (&t->nr_nodes, 1);
}

void
tree_node_raise (struct tree *t, struct change *ch, struct buf *b)
{
  const struct disk_pointer below = t->root;

  assert (b->id.level == t->height + 1 && b->id.index == 0);
  t->height = b->id.level;
  tree_node_enter (t, ch, NULL, b);
  children_of (b)[0] = below;
  node_of (b)->nr_used = count_children (b);
  buf_done (t->fl, b);
}

void
tree_node_unmake (struct tree *t, struct change *ch, const struct path *p,
                  struct buf *b, void (*gone) (void *arg, uint64_t blk),
                  void *arg)
{
  uint64_t leaf = leaf_of (b);
  unsigned level = b->id.level, top = level;

  while (top < t->height && count_children (p->node[top + 1]) == 1)
    top++;
  pointer_set (t, ch, p, top, leaf, (struct disk_pointer){ 0, 0 });
  for (;;) {
    append (t, ch, DISK_REC_UNNODE, b);
    gone (arg, b->blk);
    buf_meta_drop (t->bs, b);
    atomic_fetch_sub (&t->nr_nodes, 1);
    if (level++ == top)
      return;
    b = p->node[level];
  }
}

/* ---- public ---- */

unsigned
tree_height (uint64_t nr_leaves)
{
  unsigned height = 0;

  while (height < TREE_HEIGHT_MAX && nr_leaves > UINT64_C (1)
                                                     << shift_of (height))
    height++;
  return height;
}

void
tree_init (struct tree *t, struct bufs *bs, struct flush *fl, uint64_t id,
           enum disk_node_type leaf_type, unsigned height,
           const struct disk_pointer *root)
{
  assert (height <= TREE_HEIGHT_MAX);
  *t = (struct tree){
    .bs = bs,
    .fl = fl,
    .id = id,
    .height = height,
    .leaf_type = leaf_type,
    .root = *root,
  };
  lock_init (&t->lock, LOCK_TREE, "tree");
}

void
tree_fini (struct tree *t)
{
  lock_destroy (&t->lock);
}

int
tree_get (struct tree *t, uint64_t index, struct buf **leafp)
{
  struct buf *leaf = node_find (t, 0, index);
  struct disk_pointer at;
  int err;

  if (leaf == NULL && in_tree (t, 0, index)) {
    err = leaf_pointer (t, index, &at);
    if (err)
      return err;
    if (at.blk != 0)
      return tree_node_get (t, 0, index, &at, leafp);
  }
  *leafp = leaf;
  return 0;
}

uint64_t
tree_where (struct tree *t, uint64_t index)
{
  struct buf *leaf = node_find (t, 0, index);
  struct disk_pointer at = { 0 };

  if (leaf != NULL) {
    buf_put (t->bs, leaf);
    return 0;
  }
  if (!in_tree (t, 0, index) || leaf_pointer (t, index, &at) != 0)
    return 0;
  return at.blk;
}

int
tree_has (struct tree *t, uint64_t index, bool *has)
{
  struct disk_pointer at = { 0 };
  int err = in_tree (t, 0, index) ? leaf_pointer (t, index, &at) : 0;

  if (err)
    return err;
  *has = at.blk != 0;
  return 0;
}

/* Is b, whose lock is held, changed in this cycle already? */
static bool
is_begun (const struct tree *t, const struct buf *b)
{
  return b->dirty_cycle == flush_cycle (t->fl);
}

int
tree_missing (struct tree *t, uint64_t index, unsigned *nr)
{
  struct buf *leaf = node_find (t, 0, index);
  struct path p;
  int err;

  if (leaf == NULL || !is_begun (t, leaf)) {
    lock_acquire (&t->lock);
    err = tree_path_get (t, 0, index, &p);
    if (err == 0)
      tree_path_put (t, &p);
    lock_release (&t->lock);
    if (err == 0 && leaf == NULL && p.at.blk != 0)
      err = tree_node_get (t, 0, index, &p.at, &leaf);
    if (err) {
      if (leaf != NULL)
        buf_put (t->bs, leaf);
      return err;
    }
  }
  *nr = leaf != NULL ? 0 : p.low;
  if (leaf != NULL)
    buf_put (t->bs, leaf);
  return 0;
}

/* The nodes that are missing below the lowest of p, not in the tree yet.  EIO:
 * none is there.  Lock: needs the tree's.
 */
static int
new_nodes (struct tree *t, const struct path *p, uint64_t leaf,
           const uint64_t *blks, struct buf **node)
{
  for (unsigned level = 0; level < p->low; level++) {
    node[level] = tree_node_new (t, level, leaf, blks[p->low - 1 - level]);
    if (node[level] != NULL)
      continue;
    while (level-- > 0) {
      buf_meta_drop (t->bs, node[level]);
      buf_put (t->bs, node[level]);
    }
    return EIO;
  }
  return 0;
}

int
tree_make (struct tree *t, struct change *ch, uint64_t index,
           const uint64_t *blks, unsigned *nr_used, struct buf **leafp)
{
  struct buf *node[TREE_HEIGHT_MAX + 1];
  struct path p;
  int err;

  assert (in_tree (t, 0, index));
  LOCK_SCOPE (&t->lock);
  err = tree_path_get (t, 0, index, &p);
  if (err)
    return err;
  assert (p.at.blk == 0);
  err = new_nodes (t, &p, index, blks, node);
  if (err) {
    tree_path_put (t, &p);
    return err;
  }
  *nr_used = p.low;
  while (p.low > 1) {
    struct buf *b = node[p.low - 1];

    tree_node_enter (t, ch, &p, b);
    buf_done (t->fl, b);
    p.node[--p.low] = b;
  }
  tree_node_enter (t, ch, &p, node[0]);
  tree_path_put (t, &p);
  *leafp = node[0];
  return 0;
}

int
tree_begin (struct tree *t, struct change *ch, struct buf *leaf)
{
  struct path p;
  int err;

  if (is_begun (t, leaf)) {
    (void) buf_begin (t->fl, ch, leaf, false);
    return 0;
  }
  LOCK_SCOPE (&t->lock);
  err = path_get_leaf (t, leaf, &p);
  if (err)
    return err;
  if (buf_begin (t->fl, ch, leaf, false))
    pointer_set (t, ch, &p, 0, leaf->id.index,
                 (struct disk_pointer){ leaf->blk, flush_cycle (t->fl) });
  tree_path_put (t, &p);
  return 0;
}

int
tree_unmake (struct tree *t, struct change *ch, struct buf *leaf,
             void (*gone) (void *arg, uint64_t blk), void *arg_gone)
{
  struct path p;
  int err;

  LOCK_SCOPE (&t->lock);
  err = path_get_leaf (t, leaf, &p);
  if (err == 0) {
    if (node_is_empty (leaf))
      tree_node_unmake (t, ch, &p, leaf, gone, arg_gone);
    else
      err = tree_trouble (t, 0, leaf->id.index, leaf->blk,
                          "is said to be empty, and is not");
    tree_path_put (t, &p);
  }
  buf_put (t->bs, leaf);
  return err;
}

int
tree_raise (struct tree *t, struct change *ch, unsigned height,
            const uint64_t *blks)
{
  struct buf *node[TREE_HEIGHT_MAX];
  unsigned nr = height - t->height, n = 0;

  assert (t->height <= height && height <= TREE_HEIGHT_MAX);
  LOCK_SCOPE (&t->lock);
  while (n < nr &&
         (node[n] = tree_node_new (t, t->height + 1 + n, 0, blks[n])) != NULL)
    n++;
  for (unsigned i = 0; i < n; i++) {
    if (n == nr)
      tree_node_raise (t, ch, node[i]);
    else
      buf_meta_drop (t->bs, node[i]);
    buf_put (t->bs, node[i]);
  }
  return n == nr ? 0 : EIO;
}

/* From the root down to the first leaf from *index on.  *found false: it is
 * not below the nodes on the way to *index; *index has become the leaf behind
 * those.  Lock: needs the tree's.
 */
static int
next_step (struct tree *t, uint64_t *index, bool *found)
{
  struct disk_pointer at = t->root;

  *found = at.blk != 0;
  if (!*found)
    *index = UINT64_MAX;
  for (unsigned level = t->height; level > 0 && *found; level--) {
    struct buf *b;
    unsigned from = slot_of (level, *index), slot;
    int err = tree_node_get (t, level, *index, &at, &b);

    if (err)
      return err;
    slot = next_child (b, from);
    if (slot < DISK_FANOUT) {
      at = children_of (b)[slot];
      if (slot > from)
        *index = (b->id.index << DISK_FANOUT_SHIFT | slot)
                 << shift_of (level - 1);
    } else if (node_is_empty (b)) {
      level = 1; /* I4: tell of it as if it had a leaf here */
    } else {
      *index = (b->id.index + 1) << shift_of (level);
      *found = false;
    }
    buf_put (t->bs, b);
  }
  return 0;
}

int
tree_next (struct tree *t, uint64_t index, uint64_t *next)
{
  bool found = false;

  LOCK_SCOPE (&t->lock);
  while (!found && in_tree (t, 0, index)) {
    int err = next_step (t, &index, &found);

    if (err)
      return err;
  }
  *next = found ? index : UINT64_MAX;
  return 0;
}
