/* SPDX-License-Identifier: BSD-2-Clause */
/* Trees after a crash: redoing records NODE and UNNODE, and what a log that
 * ends between two records leaves.  Called by recovery, through the trees'
 * owners; see tree.c.
 *
 * Records NODE are redone in the log's order, records UNNODE above the durable
 * mark behind all others.  So a node that was unmade and made again there stays
 * where it first was, and records that were for its later place find it there.
 */

#include <config.h>

#include "tree-impl.h"

#include <errno.h>

/* The node of a record NODE, in no tree yet. */
static int
new_node (struct tree *t, const struct disk_rec *rec, struct buf **bp)
{
  if (!bufs_has_block (t->bs, rec->word))
    return tree_trouble (t, rec->nr, rec->pgno, rec->word,
                         "a record in the log leads out of the volume");
  *bp = tree_node_new (t, rec->nr, rec->pgno << shift_of (rec->nr), rec->word);
  return *bp != NULL ? 0 : EIO;
}

/* Is it of a node above the root?  Only maps get such. */
static bool
raises (const struct tree *t, const struct disk_rec *rec)
{
  return rec->type == DISK_REC_NODE && t->leaf_type == DISK_NODE_MAP &&
         rec->nr == t->height + 1 && rec->nr <= TREE_HEIGHT_MAX &&
         rec->pgno == 0;
}

/* Lock: needs the tree's. */
static int
redo_raise (struct tree *t, struct change *ch, const struct disk_rec *rec)
{
  struct buf *b;
  int err = new_node (t, rec, &b);

  if (err)
    return err;
  tree_node_raise (t, ch, b);
  buf_put (t->bs, b);
  return 0;
}

/* A record NODE, for a node that is not there.  Lock: needs the tree's. */
static int
redo_node (struct tree *t, struct change *ch, const struct disk_rec *rec,
           const struct path *p)
{
  struct buf *b;
  int err;

  if (p->low > rec->nr + 1)
    return tree_trouble (t, rec->nr, rec->pgno, rec->word,
                         "the log has no record of the node above it");
  err = new_node (t, rec, &b);
  if (err)
    return err;
  tree_node_enter (t, ch, p, b);
  buf_done (t->fl, b);
  buf_put (t->bs, b);
  return 0;
}

/* A record UNNODE, for a node that is there.  Lock: needs the tree's. */
static int
redo_unnode (struct tree *t, struct change *ch, const struct disk_rec *rec,
             const struct path *p, void (*gone) (void *arg, uint64_t blk),
             void *arg)
{
  uint64_t leaf = rec->pgno << shift_of (rec->nr);
  struct buf *b;
  int err = tree_node_get (t, rec->nr, leaf, &p->at, &b);

  if (err)
    return err;
  if (node_is_empty (b))
    tree_node_unmake (t, ch, p, b, gone, arg);
  buf_put (t->bs, b);
  return 0;
}

int
tree_redo (struct tree *t, struct change *ch, const struct disk_rec *rec,
           void (*used) (void *arg, uint64_t blk),
           void (*gone) (void *arg, uint64_t blk), void *arg)
{
  struct path p;
  int err;

  LOCK_SCOPE (&t->lock);
  if (raises (t, rec)) {
    err = redo_raise (t, ch, rec);
    if (err == 0)
      used (arg, rec->word);
    return err;
  }
  if (!in_tree (t, rec->nr, rec->pgno))
    return tree_trouble (t, rec->nr, rec->pgno, rec->word,
                         "a record in the log names a node that cannot be");
  err = tree_path_get (t, rec->nr, rec->pgno << shift_of (rec->nr), &p);
  if (err)
    return err;
  if (rec->type == DISK_REC_NODE && p.at.blk == 0) {
    err = redo_node (t, ch, rec, &p);
    if (err == 0)
      used (arg, rec->word);
  } else if (rec->type == DISK_REC_UNNODE && p.at.blk != 0) {
    err = redo_unnode (t, ch, rec, &p, gone, arg);
  }
  tree_path_put (t, &p);
  return err;
}

int
tree_prune (struct tree *t, struct change *ch, uint64_t index,
            void (*gone) (void *arg, uint64_t blk), void *arg_gone)
{
  struct path p;
  int err;

  if (!in_tree (t, 0, index))
    return 0;
  LOCK_SCOPE (&t->lock);
  err = tree_path_get (t, 0, index, &p);
  if (err)
    return err;
  if (p.low <= t->height && node_is_empty (p.node[p.low]))
    tree_node_unmake (t, ch, &p, p.node[p.low], gone, arg_gone);
  tree_path_put (t, &p);
  return 0;
}
