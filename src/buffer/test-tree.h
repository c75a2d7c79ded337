/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-tree.c and test-tree-wrong.c share: a tree of leaves whose first
 * word counts, on the store of test-meta.h.
 */

#ifndef FARPAGE_TEST_TREE_H
#define FARPAGE_TEST_TREE_H

#include "test-meta.h"

#define TREE_ID   DISK_TREE_FIRST
#define LEAVES    (1u << 14) /* of a tree of height 2 */
#define NR_CHANGE 10         /* nodes that a change of a test may touch */

struct rig {
  struct meta m; /* the first */
  struct tree tree;
  unsigned height;
};

/* A leaf's content. */
static inline uint64_t *
word_of (const struct buf *leaf)
{
  return ((struct disk_map *) node_of (leaf)->body)->word;
}

/* ---- the tree's owner ---- */

static inline int
redo_begin (void *arg, const struct disk_super *root)
{
  struct rig *t = arg;

  tree_init (&t->tree, t->m.bs, t->m.fl, TREE_ID, DISK_NODE_MAP, t->height,
             &root->table);
  t->tree.on_root = meta_root_changed;
  t->tree.arg = &t->m;
  atomic_store (&t->tree.nr_nodes, root->next_object - DISK_TREE_FIRST);
  t->m.tree = &t->tree;
  if (!t->m.blind)
    meta_find_used (&t->m, NULL);
  return 0;
}

static inline int
redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct rig *t = arg;

  assert_int_equal (rec->object, TREE_ID);
  return tree_redo (&t->tree, ch, rec, meta_note_node, meta_gone_redo, &t->m);
}

/* ZERO: the leaf's first word becomes 1; FREE: 0. */
static inline int
redo_map (void *arg, struct change *ch, const struct disk_rec *rec,
          const uint32_t *crc)
{
  struct rig *t = arg;
  struct buf *leaf;
  int err = tree_get (&t->tree, rec->pgno, &leaf);

  UNUSED (crc);
  if (err || leaf == NULL)
    return rec->type == DISK_REC_FREE ? err : EIO;
  err = tree_begin (&t->tree, ch, leaf);
  if (err == 0) {
    word_of (leaf)[0] = rec->type == DISK_REC_ZERO;
    buf_done (t->m.fl, leaf);
  }
  buf_put (t->m.bs, leaf);
  return err;
}

static const struct recover_ops recover_ops = {
  .begin = redo_begin,
  .node = redo_node,
  .map = redo_map,
};

static inline void
rig_create (struct rig *t, unsigned height)
{
  memset (t, 0, sizeof *t);
  t->height = height;
  t->m.recover_ops = &recover_ops;
  meta_create (&t->m);
  meta_open (&t->m);
}

static inline void
rig_reopen (struct rig *t)
{
  meta_close (&t->m);
  tree_fini (&t->tree);
  meta_open (&t->m);
}

/* What was not committed is gone. */
static inline void
rig_crash (struct rig *t)
{
  meta_kill (&t->m);
  tree_fini (&t->tree);
  meta_open (&t->m);
}

static inline void
rig_destroy (struct rig *t)
{
  meta_close (&t->m);
  tree_fini (&t->tree);
  meta_destroy (&t->m);
}

/* ---- changes ---- */

static inline void
log_leaf (struct rig *t, struct change *ch, uint64_t index, bool set)
{
  struct disk_rec rec = { .type = set ? DISK_REC_ZERO : DISK_REC_FREE,
                          .object = TREE_ID,
                          .pgno = index,
                          .nr = 1 };

  undo_append (t->m.fl, ch, &rec, NULL, 0);
}

/* Give a leaf this first word, making it if need be.  Returns how many nodes
 * were made.
 */
static inline unsigned
set_leaf (struct rig *t, uint64_t index, uint64_t word)
{
  uint64_t blks[TREE_HEIGHT_MAX + 1];
  unsigned missing, used = 0;
  struct change ch;
  struct buf *leaf;

  meta_begin (&t->m, NR_CHANGE, &ch);
  assert_int_equal (tree_missing (&t->tree, index, &missing), 0);
  for (unsigned i = 0; i < missing; i++)
    blks[i] = meta_take_one (&t->m);
  assert_int_equal (tree_get (&t->tree, index, &leaf), 0);
  assert_int_equal (leaf == NULL, missing > 0);
  if (leaf != NULL) {
    assert_int_equal (tree_begin (&t->tree, &ch, leaf), 0);
  } else {
    assert_int_equal (tree_make (&t->tree, &ch, index, blks, &used, &leaf), 0);
    assert_int_equal (used, missing);
    for (unsigned i = 0; i < used; i++)
      meta_note (&t->m, blks[i], true);
    assert_true (node_is_empty (leaf));
  }
  word_of (leaf)[0] = word;
  buf_done (t->m.fl, leaf);
  log_leaf (t, &ch, index, true);
  buf_put (t->m.bs, leaf);
  change_end (t->m.fl, &ch);
  return used;
}

/* Empty a leaf, and unmake it. */
static inline void
clear_leaf (struct rig *t, uint64_t index)
{
  struct change ch;
  struct buf *leaf;

  meta_begin (&t->m, NR_CHANGE, &ch);
  assert_int_equal (tree_get (&t->tree, index, &leaf), 0);
  assert_non_null (leaf);
  assert_int_equal (tree_begin (&t->tree, &ch, leaf), 0);
  word_of (leaf)[0] = 0;
  buf_done (t->m.fl, leaf);
  log_leaf (t, &ch, index, false);
  assert_int_equal (tree_unmake (&t->tree, &ch, leaf, meta_gone, &t->m), 0);
  change_end (t->m.fl, &ch);
}

/* The first word of a leaf; 0 if there is none. */
static inline uint64_t
get_leaf (struct rig *t, uint64_t index)
{
  struct buf *leaf;
  uint64_t word;
  bool has;

  assert_int_equal (tree_get (&t->tree, index, &leaf), 0);
  assert_int_equal (tree_has (&t->tree, index, &has), 0);
  assert_int_equal (has, leaf != NULL);
  if (leaf == NULL)
    return 0;
  word = word_of (leaf)[0];
  assert_int_not_equal (word, 0);
  buf_put (t->m.bs, leaf);
  return word;
}

static inline uint64_t
next_leaf (struct rig *t, uint64_t index)
{
  uint64_t next = 0;

  assert_int_equal (tree_next (&t->tree, index, &next), 0);
  return next;
}

/* The block of a node on the way to a leaf. */
static inline uint64_t
block_of (struct rig *t, unsigned level, uint64_t leaf)
{
  struct path p;
  uint64_t blk;

  LOCK_SCOPE (&t->tree.lock);
  assert_int_equal (tree_path_get (&t->tree, level, leaf, &p), 0);
  blk = p.at.blk;
  tree_path_put (&t->tree, &p);
  return blk;
}

#endif /* FARPAGE_TEST_TREE_H */
