/* SPDX-License-Identifier: BSD-2-Clause */
/* Trees against a set of leaves, on a small store that is cut, closed, crashed
 * and recovered; and what they do with nodes that are wrong.
 */

#include <config.h>

#include "test-meta.h"

#define TREE_ID   DISK_TREE_FIRST
#define OPS       20000
#define LEAVES    (1u << 14) /* of a tree of height 2 */
#define NR_CHANGE 10         /* nodes that a change of a test may touch */

struct rig {
  struct meta m; /* the first */
  struct tree tree;
  unsigned height;
};

/* A leaf's content. */
static uint64_t *
word_of (const struct buf *leaf)
{
  return ((struct disk_map *) node_of (leaf)->body)->word;
}

/* ---- the tree's owner ---- */

static int
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

static int
redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct rig *t = arg;

  assert_int_equal (rec->object, TREE_ID);
  return tree_redo (&t->tree, ch, rec, meta_note_node, meta_gone_redo, &t->m);
}

/* ZERO: the leaf's first word becomes 1; FREE: 0. */
static int
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

static void
rig_create (struct rig *t, unsigned height)
{
  memset (t, 0, sizeof *t);
  t->height = height;
  t->m.recover_ops = &recover_ops;
  meta_create (&t->m);
  meta_open (&t->m);
}

static void
rig_reopen (struct rig *t)
{
  meta_close (&t->m);
  tree_fini (&t->tree);
  meta_open (&t->m);
}

/* What was not committed is gone. */
static void
rig_crash (struct rig *t)
{
  meta_kill (&t->m);
  tree_fini (&t->tree);
  meta_open (&t->m);
}

static void
rig_destroy (struct rig *t)
{
  meta_close (&t->m);
  tree_fini (&t->tree);
  meta_destroy (&t->m);
}

/* ---- changes ---- */

static void
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
static unsigned
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
static void
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
static uint64_t
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

static uint64_t
next_leaf (struct rig *t, uint64_t index)
{
  uint64_t next = 0;

  assert_int_equal (tree_next (&t->tree, index, &next), 0);
  return next;
}

/* ---- tests ---- */

static void
test_height (void **state)
{
  static const struct {
    uint64_t nr_leaves;
    unsigned height;
  } want[] = {
    { 0, 0 },
    { 1, 0 },
    { 2, 1 },
    { 128, 1 },
    { 129, 2 },
    { 16384, 2 },
    { 16385, 3 },
    { 1u << 21, 3 },
    { (1u << 21) + 1, 4 },
    { UINT64_C (1) << 42, 6 },
  };

  UNUSED (state);
  for (unsigned i = 0; i < sizeof want / sizeof *want; i++)
    assert_int_equal (tree_height (want[i].nr_leaves), want[i].height);
}

/* One leaf at either end of trees of all heights. */
static void
test_ends (void **state)
{
  struct rig t;

  UNUSED (state);
  for (unsigned height = 0; height <= TREE_HEIGHT_MAX; height++) {
    uint64_t last = (UINT64_C (1) << 7 * height) - 1;

    rig_create (&t, height);
    assert_int_equal (get_leaf (&t, 0), 0);
    assert_int_equal (next_leaf (&t, 0), UINT64_MAX);
    assert_int_equal (set_leaf (&t, last, 7), height + 1);
    assert_int_equal (t.m.nr_roots, 1);
    assert_int_equal (get_leaf (&t, last), 7);
    assert_int_equal (get_leaf (&t, last + 1), 0);
    assert_int_equal (next_leaf (&t, 0), last);
    assert_int_equal (next_leaf (&t, last), last);
    assert_int_equal (next_leaf (&t, last + 1), UINT64_MAX);
    assert_int_equal (next_leaf (&t, UINT64_MAX), UINT64_MAX);
    if (height > 0)
      assert_int_equal (set_leaf (&t, 0, 8), height);
    meta_check (&t.m, NULL);
    rig_reopen (&t);
    meta_check (&t.m, NULL);
    assert_int_equal (get_leaf (&t, last), 7);
    clear_leaf (&t, last);
    if (height > 0) {
      assert_int_equal (next_leaf (&t, 1), UINT64_MAX);
      clear_leaf (&t, 0);
    }
    assert_int_equal (t.tree.root.blk, 0);
    assert_int_equal (atomic_load (&t.tree.nr_nodes), 0);
    rig_destroy (&t);
  }
}

/* The root is told of once a cycle, and a leaf once begun begins nothing. */
static void
test_once_a_cycle (void **state)
{
  struct rig t;
  struct flush_stat before, after;

  UNUSED (state);
  rig_create (&t, 2);
  (void) set_leaf (&t, 5, 1);
  (void) set_leaf (&t, 6, 1);
  assert_int_equal (flush_run_cycle (t.m.fl), 0);
  t.m.nr_roots = 0;
  (void) set_leaf (&t, 5, 2);
  assert_int_equal (t.m.nr_roots, 1);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 3);
  flush_stat (t.m.fl, &before);
  (void) set_leaf (&t, 5, 3);
  (void) set_leaf (&t, 6, 3);
  flush_stat (t.m.fl, &after);
  assert_int_equal (t.m.nr_roots, 1);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 4);
  assert_in_range (after.tail_lsn - before.tail_lsn, 0, 3);
  meta_check (&t.m, NULL);
  rig_destroy (&t);
}

/* Random leaves, in crowds and alone, against a plain array. */
struct model {
  struct rig t;
  uint64_t seed, word[LEAVES];
};

static uint64_t
below (struct model *d, uint64_t n)
{
  return (test_random (&d->seed) >> 11) % n;
}

static uint64_t
pick (struct model *d)
{
  static const uint64_t range[] = { 4, 300, LEAVES };
  uint64_t i = below (d, range[below (d, 3)]);

  return below (d, 2) == 0 ? i : LEAVES - 1 - i;
}

static void
compare (struct model *d)
{
  uint64_t next = 0;

  for (uint64_t i = 0; i < LEAVES; i++) {
    if (d->word[i] == 0)
      continue;
    assert_int_equal (next_leaf (&d->t, next), i);
    assert_int_equal (get_leaf (&d->t, i), d->word[i]);
    next = i + 1;
  }
  assert_int_equal (next_leaf (&d->t, next), UINT64_MAX);
  meta_check (&d->t.m, NULL);
}

/* All that was done is there after a crash, but what the words were. */
static void
crash_and_compare (struct model *d)
{
  assert_int_equal (flush_commit (d->t.m.fl, flush_tail (d->t.m.fl)), 0);
  rig_crash (&d->t);
  for (uint64_t i = 0; i < LEAVES; i++) {
    uint64_t word = get_leaf (&d->t, i);

    assert_int_equal (word != 0, d->word[i] != 0);
    d->word[i] = word;
  }
  compare (d);
}

static void
step (struct model *d)
{
  uint64_t i = pick (d);

  switch (below (d, 400)) {
  case 0:
    crash_and_compare (d);
    break;
  case 1:
    rig_reopen (&d->t);
    compare (d);
    break;
  case 2 ... 8:
    assert_int_equal (flush_run_cycle (d->t.m.fl), 0);
    break;
  case 9 ... 200:
    if (d->word[i] != 0)
      clear_leaf (&d->t, i);
    d->word[i] = 0;
    break;
  default:
    d->word[i] = 1 + below (d, 1000);
    (void) set_leaf (&d->t, i, d->word[i]);
  }
}

static void
test_random_leaves (void **state)
{
  struct model *d = calloc (1, sizeof *d);
  struct bufs_stat st;

  UNUSED (state);
  assert_non_null (d);
  rig_create (&d->t, 2);
  d->seed = test_seed ();
  for (unsigned i = 0; i < OPS; i++)
    step (d);
  compare (d);
  crash_and_compare (d);
  bufs_stat (d->t.m.bs, &st);
  print_message ("%" PRIu64 " nodes, %" PRIu64 " loaded since the crash\n",
                 atomic_load (&d->t.tree.nr_nodes), st.nr_loads);
  rig_destroy (&d->t);
  free (d);
}

/* ---- what cannot be loaded ---- */

/* The block of a node on the way to a leaf. */
static uint64_t
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

/* With an inner node or the leaf that cannot be read nothing is begun. */
static void
test_unreadable (void **state)
{
  struct rig t;
  uint64_t blks[3], blk, next = 77;
  unsigned nr = 77;
  struct change ch;
  struct buf *leaf = NULL;
  bool has = true;

  UNUSED (state);
  rig_create (&t, 2);
  (void) set_leaf (&t, 200, 1);
  (void) set_leaf (&t, 5, 1);
  for (unsigned i = 0; i < 3; i++)
    blks[i] = meta_take_one (&t.m);
  for (unsigned level = 0; level <= 2; level++) {
    blk = block_of (&t, level, 200);
    t.m.blind = true; /* or all nodes are cached */
    rig_reopen (&t);
    meta_fail_reads (&t.m, blk);
    meta_begin (&t.m, NR_CHANGE, &ch);
    assert_int_equal (tree_get (&t.tree, 200, &leaf), EIO);
    assert_null (leaf);
    assert_int_equal (tree_missing (&t.tree, 200, &nr), EIO);
    if (level > 0) {
      assert_int_equal (tree_missing (&t.tree, 201, &nr), EIO);
      assert_int_equal (tree_has (&t.tree, 201, &has), EIO);
      assert_int_equal (tree_next (&t.tree, 128, &next), EIO);
      assert_int_equal (tree_make (&t.tree, &ch, 201, blks, &nr, &leaf), EIO);
    }
    assert_true (nr == 77 && next == 77 && has && leaf == NULL);
    assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 0);
    fault_clear (t.m.given[blkno_volume (blk)]);
    change_end (t.m.fl, &ch);
    assert_int_equal (get_leaf (&t, 200), 1);
    meta_check (&t.m, NULL);
  }
  rig_destroy (&t);
}

/* The leaf is cached, the way to it is not and cannot be read. */
static void
test_begin_unreadable (void **state)
{
  struct rig t;
  uint64_t blk;
  struct buf *leaf, *inner;
  struct change ch;
  struct buf_id id = { .tree = TREE_ID, .index = 1, .level = 1 };

  UNUSED (state);
  rig_create (&t, 2);
  (void) set_leaf (&t, 200, 1);
  blk = block_of (&t, 1, 200);
  rig_reopen (&t);
  assert_int_equal (tree_get (&t.tree, 200, &leaf), 0);
  inner = buf_meta_find (t.m.bs, &id);
  assert_non_null (inner);
  buf_meta_drop (t.m.bs, inner);
  buf_put (t.m.bs, inner);
  meta_fail_reads (&t.m, blk);
  meta_begin (&t.m, NR_CHANGE, &ch);
  assert_int_equal (tree_begin (&t.tree, &ch, leaf), EIO);
  assert_int_equal (leaf->dirty_cycle, 0);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 0);
  fault_clear (t.m.given[blkno_volume (blk)]);
  assert_int_equal (tree_begin (&t.tree, &ch, leaf), 0);
  buf_done (t.m.fl, leaf);
  change_end (t.m.fl, &ch);
  buf_put (t.m.bs, leaf);
  meta_check (&t.m, NULL);
  rig_destroy (&t);
}

/* ---- what is wrong ---- */

static uint64_t poked_blk;

static void
point_out (struct disk_node *n)
{
  ((struct disk_inner *) n->body)->child[200 & 127].blk =
      blkno_make (1, META_BYTES / PAGE_BYTES);
}

static void
point_to_no_volume (struct disk_node *n)
{
  ((struct disk_inner *) n->body)->child[200 & 127].blk = UINT64_MAX;
}

static void
point_elsewhere (struct disk_node *n)
{
  ((struct disk_inner *) n->body)->child[200 & 127].blk = poked_blk;
}

static void
point_to_old (struct disk_node *n)
{
  ((struct disk_inner *) n->body)->child[200 & 127].cycle--;
}

static void
wrong_level (struct disk_node *n)
{
  n->level = 3;
}

/* Whatever an inner node says, it is EIO, and told. */
static void
test_wrong_nodes (void **state)
{
  static const struct {
    void (*change) (struct disk_node *n);
    const char *told;
  } wrong[] = {
    { point_out, "no such block" },
    { point_to_no_volume, "no such block" },
    { point_elsewhere, "another index" },
    { point_to_old, "newer than what points" },
    { wrong_level, "another level" },
  };
  struct rig t;
  struct buf *leaf;

  UNUSED (state);
  for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    uint64_t blk;

    rig_create (&t, 2);
    (void) set_leaf (&t, 200, 1);
    (void) set_leaf (&t, 201, 2);
    poked_blk = block_of (&t, 0, 201);
    blk = block_of (&t, 1, 200);
    meta_close (&t.m);
    tree_fini (&t.tree);
    meta_poke (&t.m, blk, wrong[i].change);
    t.m.blind = true;
    meta_open (&t.m);
    test_log_forget ();
    assert_int_equal (tree_get (&t.tree, 200, &leaf), EIO);
    assert_true (test_log_has (wrong[i].told) > 0);
    meta_kill (&t.m);
    tree_fini (&t.tree);
    meta_destroy (&t.m);
  }
}

/* A leaf that is not empty is not unmade, whatever its owner says. */
static void
test_not_empty (void **state)
{
  struct rig t;
  struct change ch;
  struct buf *leaf;

  UNUSED (state);
  rig_create (&t, 1);
  (void) set_leaf (&t, 3, 1);
  meta_begin (&t.m, NR_CHANGE, &ch);
  assert_int_equal (tree_get (&t.tree, 3, &leaf), 0);
  test_log_forget ();
  assert_int_equal (tree_unmake (&t.tree, &ch, leaf, meta_gone, &t.m), EIO);
  assert_int_equal (test_log_has ("said to be empty"), 1);
  change_end (t.m.fl, &ch);
  assert_int_equal (get_leaf (&t, 3), 1);
  meta_check (&t.m, NULL);
  rig_destroy (&t);
}

/* No buffer is clean: nothing is made. */
static void
test_no_buffer (void **state)
{
  static struct buf *held[BUFS_MIN];
  struct rig t;
  struct change ch;
  struct buf *leaf = NULL;
  uint64_t blks[3];
  unsigned nr = 0, used = 77;

  UNUSED (state);
  rig_create (&t, 2);
  for (unsigned i = 0; i < 3; i++)
    blks[i] = meta_take_one (&t.m);
  meta_begin (&t.m, NR_CHANGE, &ch);
  for (;; nr++) {
    struct buf_id id = { .tree = 99, .index = nr };

    held[nr] = buf_meta_new (t.m.bs, &id, DISK_NODE_MAP, blks[0]);
    if (held[nr] == NULL)
      break;
  }
  buf_meta_drop (t.m.bs, held[--nr]); /* room for one, and three are needed */
  buf_put (t.m.bs, held[nr]);
  assert_int_equal (tree_make (&t.tree, &ch, 9, blks, &used, &leaf), EIO);
  assert_true (used == 77 && leaf == NULL && t.tree.root.blk == 0);
  while (nr-- > 0) {
    buf_meta_drop (t.m.bs, held[nr]);
    buf_put (t.m.bs, held[nr]);
  }
  change_end (t.m.fl, &ch);
  for (unsigned i = 0; i < 3; i++)
    meta_put (&t.m, blks[i]);
  assert_int_equal (get_leaf (&t, 9), 0);
  (void) set_leaf (&t, 9, 4);
  meta_check (&t.m, NULL);
  rig_destroy (&t);
}

/* ---- redo ---- */

static int
redo (struct rig *t, enum disk_rec_type type, unsigned level, uint64_t index,
      uint64_t blk)
{
  struct disk_rec rec = { .type = (uint16_t) type,
                          .object = TREE_ID,
                          .pgno = index,
                          .word = blk,
                          .nr = level };
  struct change ch;
  int err;

  meta_begin (&t->m, NR_CHANGE, &ch);
  ch.quiet = true;
  err = redo_node (t, &ch, &rec);
  change_end (t->m.fl, &ch);
  return err;
}

static void
test_redo (void **state)
{
  struct rig t;
  uint64_t blk[4];

  UNUSED (state);
  rig_create (&t, 2);
  for (unsigned i = 0; i < 4; i++)
    blk[i] = meta_take_one (&t.m);
  /* A leaf before what is above it; levels, indexes, blocks there are not. */
  test_log_forget ();
  assert_int_equal (redo (&t, DISK_REC_NODE, 0, 5, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 1, 0, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 3, 0, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, UINT32_MAX, 0, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 2, 1, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 0, LEAVES, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 2, 0, UINT64_MAX), EIO);
  assert_int_equal (atomic_load (&t.tree.nr_nodes), 0);

  assert_int_equal (redo (&t, DISK_REC_NODE, 2, 0, blk[0]), 0);
  assert_int_equal (redo (&t, DISK_REC_NODE, 1, 0, blk[1]), 0);
  assert_int_equal (redo (&t, DISK_REC_NODE, 0, 5, blk[2]), 0);
  assert_int_equal (redo (&t, DISK_REC_NODE, 0, 5, blk[3]), 0); /* is there */
  assert_int_equal (block_of (&t, 0, 5), blk[2]);
  meta_check (&t.m, NULL);
  rig_reopen (&t);
  meta_check (&t.m, NULL);
  /* Absent, not empty, and at last empty: with all above it. */
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 0, 6, blk[3]), 0);
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 1, 0, blk[1]), 0);
  assert_int_equal (set_leaf (&t, 5, 1), 0);
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 0, 5, blk[2]), 0);
  assert_int_equal (get_leaf (&t, 5), 1);
  assert_int_equal (set_leaf (&t, 5, 0), 0);
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 0, 5, blk[2]), 0);
  assert_int_equal (t.tree.root.blk, 0);
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 1, 0, blk[1]), 0);
  meta_check (&t.m, NULL);
  rig_destroy (&t);
}

/* Inner nodes with nothing below are found, and taken away. */
static void
test_prune (void **state)
{
  struct rig t;
  struct change ch;

  UNUSED (state);
  rig_create (&t, 2);
  (void) set_leaf (&t, 5, 1);
  assert_int_equal (redo (&t, DISK_REC_NODE, 1, 3, meta_take_one (&t.m)), 0);
  assert_int_equal (next_leaf (&t, 6), 3 * 128);
  assert_int_equal (next_leaf (&t, 3 * 128 + 9), 3 * 128 + 9);
  assert_int_equal (get_leaf (&t, 3 * 128), 0);
  meta_begin (&t.m, NR_CHANGE, &ch);
  assert_int_equal (tree_prune (&t.tree, &ch, 6, meta_gone, &t.m), 0);
  assert_int_equal (atomic_load (&t.tree.nr_nodes), 4);
  assert_int_equal (tree_prune (&t.tree, &ch, 3 * 128, meta_gone, &t.m), 0);
  assert_int_equal (atomic_load (&t.tree.nr_nodes), 3);
  change_end (t.m.fl, &ch);
  assert_int_equal (next_leaf (&t, 6), UINT64_MAX);
  meta_check (&t.m, NULL);
  rig_destroy (&t);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_height),
    cmocka_unit_test (test_ends),
    cmocka_unit_test (test_once_a_cycle),
    cmocka_unit_test (test_random_leaves),
    cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_begin_unreadable),
    cmocka_unit_test (test_wrong_nodes),
    cmocka_unit_test (test_not_empty),
    cmocka_unit_test (test_no_buffer),
    cmocka_unit_test (test_redo),
    cmocka_unit_test (test_prune),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
