/* SPDX-License-Identifier: BSD-2-Clause */
/* Trees whose nodes cannot be read, or are wrong, and trees that find no
 * buffer: an error, and nothing has changed.
 */

#include <config.h>

#include "test-tree.h"

/* ---- what cannot be loaded ---- */

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
  unsigned nr;
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
  assert_int_equal (tree_missing (&t.tree, 200, &nr), EIO);
  assert_int_equal (leaf->dirty_cycle, 0);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 0);
  fault_clear (t.m.given[blkno_volume (blk)]);
  assert_int_equal (tree_missing (&t.tree, 200, &nr), 0);
  assert_int_equal (nr, 0);
  /* Now the node above is in memory, and says something else. */
  meta_fail_reads (&t.m, blk);
  inner = buf_meta_find (t.m.bs, &id);
  assert_non_null (inner);
  child_of (inner, 200)->blk++;
  assert_int_equal (tree_begin (&t.tree, &ch, leaf), EIO);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 0);
  child_of (inner, 200)->blk--;
  buf_put (t.m.bs, inner);
  assert_int_equal (tree_begin (&t.tree, &ch, leaf), 0);
  fault_clear (t.m.given[blkno_volume (blk)]);
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_not_empty), /* first: a message a second */
    cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_begin_unreadable),
    cmocka_unit_test (test_wrong_nodes),
    cmocka_unit_test (test_no_buffer),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
