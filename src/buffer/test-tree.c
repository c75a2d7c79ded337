/* SPDX-License-Identifier: BSD-2-Clause */
/* Trees against a set of leaves, on a small store that is cut, closed, crashed
 * and recovered; and what they redo.
 */

#include <config.h>

#include "test-tree.h"

#define OPS 20000

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
  assert_int_equal (redo (&t, DISK_REC_NODE, 4, 0, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 3, 1, blk[0]), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 3, 0, UINT64_MAX), EIO);
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

static void
raise_to (struct rig *t, unsigned height)
{
  uint64_t blks[TREE_HEIGHT_MAX];
  unsigned nr = height - t->tree.height;
  struct change ch;

  meta_begin (&t->m, NR_CHANGE, &ch);
  for (unsigned i = 0; i < nr; i++)
    blks[i] = meta_take_one (&t->m);
  assert_int_equal (tree_raise (&t->tree, &ch, height, blks), 0);
  for (unsigned i = 0; i < nr; i++)
    meta_note (&t->m, blks[i], true);
  change_end (t->m.fl, &ch);
  assert_int_equal (t->tree.height, height);
}

/* More levels: what is there stays, and there is room for more; the log says
 * so by its records alone, however high the tree was at the cut.
 */
static void
test_raise (void **state)
{
  const uint64_t far = (1u << 21) - 1;
  struct rig t;

  UNUSED (state);
  for (unsigned cuts = 0; cuts < 4; cuts++) {
    rig_create (&t, 0);
    if (cuts & 1) {
      assert_int_equal (set_leaf (&t, 0, 1), 1);
      assert_int_equal (flush_run_cycle (t.m.fl), 0);
    }
    raise_to (&t, 2);
    assert_int_equal (next_leaf (&t, 0), 0);
    assert_int_equal (next_leaf (&t, 1), cuts & 1 ? UINT64_MAX : 1);
    raise_to (&t, 3);
    assert_int_equal (atomic_load (&t.tree.nr_nodes), 3 + (cuts & 1));
    if (cuts & 2) {
      assert_int_equal (flush_run_cycle (t.m.fl), 0);
      assert_int_equal (flush_run_cycle (t.m.fl), 0);
      t.height = 3;
    }
    assert_int_equal (set_leaf (&t, far, 1), 3);
    assert_int_equal (get_leaf (&t, 0), cuts & 1);
    meta_check (&t.m, NULL);
    assert_int_equal (flush_commit (t.m.fl, flush_tail (t.m.fl)), 0);
    rig_crash (&t);
    assert_int_equal (t.tree.height, 3);
    meta_check (&t.m, NULL);
    assert_int_equal (get_leaf (&t, 0), cuts & 1);
    assert_int_equal (get_leaf (&t, far), 1);
    clear_leaf (&t, far);
    if (cuts & 1)
      clear_leaf (&t, 0);
    t.height = 3;
    rig_reopen (&t);
    meta_check (&t.m, NULL);
    rig_destroy (&t);
  }
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
    cmocka_unit_test (test_height),       cmocka_unit_test (test_ends),
    cmocka_unit_test (test_once_a_cycle), cmocka_unit_test (test_random_leaves),
    cmocka_unit_test (test_redo),         cmocka_unit_test (test_raise),
    cmocka_unit_test (test_prune),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
