/* SPDX-License-Identifier: BSD-2-Clause */
/* Durable maps, case by case: what a call answers, needs and costs, and what it
 * does with nodes and records that are wrong.
 */

#include <config.h>

#include "test-objmeta.h"

#define PAGES UINT64_C (40000) /* height 2 */

static struct swent ents[SHARD_PAGES];

static void
build_blocks (struct rig *t, pgno_t pgno, uint64_t nr)
{
  rig_entries (t, ents, nr, false);
  assert_int_equal (rig_build (t, pgno, nr, ents), 0);
}

static void
build_zeros (struct rig *t, pgno_t pgno, uint64_t nr)
{
  rig_entries (t, ents, nr, true);
  assert_int_equal (rig_build (t, pgno, nr, ents), 0);
}

static struct swmeta_run
look (struct rig *t, pgno_t pgno, uint64_t max)
{
  struct swmeta_run run;

  assert_int_equal (map_durable_ops.lookup (t->map, pgno, max, &run, NULL), 0);
  return run;
}

static unsigned
missing (struct rig *t, pgno_t pgno, uint64_t nr)
{
  unsigned n = 99;

  assert_int_equal (map_durable_ops.prepare (t->map, pgno, nr, true, &n), 0);
  return n;
}

/* ---- sizes ---- */

static void
test_sizes (void **state)
{
  static const struct {
    pgno_t nr_pages;
    uint32_t height;
    uint64_t nr_nodes;
  } want[] = {
    { 1, 0, 1 },
    { 256, 0, 1 },
    { 257, 1, 3 },
    { 256 * 128, 1, 129 },
    { 256 * 128 + 1, 2, 129 + 3 },
    { UINT64_C (1) << 28, 3, (1 << 20) + (1 << 13) + (1 << 6) + 1 },
    { OBJMETA_PAGES_MAX, 6, UINT64_C (4432676798593) },
  };

  UNUSED (state);
  for (unsigned i = 0; i < sizeof want / sizeof *want; i++) {
    assert_int_equal (objmeta_height (want[i].nr_pages), want[i].height);
    for (uint32_t height = 0; height <= want[i].height; height++)
      assert_int_equal (objmeta_nodes_max (want[i].nr_pages, height),
                        want[i].nr_nodes);
  }
  assert_int_equal (objmeta_nodes_max (0, 0), 0);
  assert_int_equal (objmeta_nodes_max (1, 6), 7);
  assert_int_equal (objmeta_nodes_max (257, 3), 5);
}

static void
test_wrong_entry (void **state)
{
  static const struct disk_object wrong[] = {
    { .id = 9, .size_bytes = 0 },
    { .id = 9, .size_bytes = 1, .height = 7 },
    { .id = 9, .size_bytes = 1, .old_bytes = 2 * MIB, .height = 0 },
    { .id = 9, .size_bytes = 2 * MIB, .height = 0 },
    { .id = 9, .size_bytes = UINT64_MAX, .height = 6 },
  };
  struct rig t;

  UNUSED (state);
  rig_create (&t, PAGES);
  for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    void *map = NULL;

    test_log_forget ();
    assert_int_equal (
        objmeta_create (t.m.bs, t.m.fl, &t.fm, &t.pk, &wrong[i], &map), EIO);
    assert_null (map);
    assert_int_equal (test_log_has ("does not go with"), 1);
  }
  rig_destroy (&t);
}

/* ---- answers ---- */

/* Runs cross the edge between the leaves of a shard, and end at the shard's. */
static void
test_runs (void **state)
{
  struct rig t;
  struct swmeta_run run;

  UNUSED (state);
  rig_create (&t, PAGES);
  run = look (&t, 3, UINT64_MAX);
  assert_true (run.word == 0 && run.nr_pages == SHARD_PAGES - 3);
  run = look (&t, PAGES - 1, UINT64_MAX);
  assert_true (run.word == 0 && run.nr_pages == 1);

  build_blocks (&t, 200, 200);
  run = look (&t, 200, UINT64_MAX);
  assert_int_equal (run.nr_pages, 200);
  run = look (&t, 210, 100);
  assert_int_equal (run.nr_pages, 100);
  run = look (&t, 0, UINT64_MAX);
  assert_true (run.word == 0 && run.nr_pages == 200);
  run = look (&t, 400, UINT64_MAX);
  assert_true (run.word == 0 && run.nr_pages == 112);

  /* Only one leaf of a shard is there: the hole goes on into it. */
  build_zeros (&t, 1024 + 300, 212);
  run = look (&t, 1024, UINT64_MAX);
  assert_true (run.word == 0 && run.nr_pages == 300);
  run = look (&t, 1024 + 300, UINT64_MAX);
  assert_int_equal (swmeta_kind (run.word), SWMETA_ZERO);
  assert_int_equal (run.nr_pages, 212);
  build_zeros (&t, 1024 + 512, 1);
  assert_int_equal (look (&t, 1024 + 300, UINT64_MAX).nr_pages, 212);
  rig_same (&t);
  rig_destroy (&t);
}

/* The root is told of once, with how many nodes there are. */
static void
test_root (void **state)
{
  struct disk_object e = { .root = { 1, 1 }, .nr_nodes = 99 };
  struct rig t;

  UNUSED (state);
  rig_create (&t, PAGES);
  assert_false (objmeta_root (t.map, &e));
  assert_true (e.root.blk == 0 && e.nr_nodes == 0 && e.height == 2);
  build_zeros (&t, 5, 1);
  assert_true (objmeta_root (t.map, &e));
  assert_true (e.root.blk != 0 && e.nr_nodes == 3);
  assert_int_equal (e.root.cycle, flush_cycle (t.m.fl));
  assert_false (objmeta_root (t.map, &e));
  assert_int_equal (flush_run_cycle (t.m.fl), 0);
  build_zeros (&t, 6, 1);
  assert_true (objmeta_root (t.map, &e));
  assert_int_equal (e.root.cycle, flush_cycle (t.m.fl));
  rig_destroy (&t);
}

/* ---- what a change needs ---- */

static void
test_needed (void **state)
{
  struct rig t;
  struct map_change mc = { .nr_blks = 0 };
  struct runs got = { .nr = 0 };

  UNUSED (state);
  rig_create (&t, PAGES);
  /* No leaf in the shard: all levels, whatever is there now. */
  assert_int_equal (missing (&t, 0, 1), 3);
  assert_int_equal (missing (&t, 255, 2), 4);
  build_zeros (&t, 512, 1);
  assert_int_equal (missing (&t, 0, 1), 3);
  assert_int_equal (missing (&t, 255, 2), 4);
  /* One is there: what is above it stays. */
  assert_int_equal (missing (&t, 512, 256), 0);
  assert_int_equal (missing (&t, 512 + 255, 2), 1);
  assert_int_equal (missing (&t, 512 + 256, 1), 1);
  build_zeros (&t, 512 + 256, 1);
  assert_int_equal (missing (&t, 512, 512), 0);

  /* Too few blocks: nothing changes. */
  rig_entries (&t, ents, 1, true);
  rig_change_begin (&t, &mc);
  assert_int_equal (
      map_durable_ops.build (t.map, &mc, 0, 1, ents, rig_add_run, &got),
      EAGAIN);
  map_durable_ops.end (t.map, &mc);
  assert_int_equal (got.nr, 0);
  rig_same (&t);
  rig_destroy (&t);
}

/* After prepare no call reads. */
static void
test_prepared (void **state)
{
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .error = EIO };
  struct runs got = { .nr = 0 };
  struct map_change mc;
  struct rig t;

  UNUSED (state);
  rig_create (&t, PAGES);
  build_blocks (&t, 200, 200);
  build_blocks (&t, 5000, 1);
  for (unsigned i = 0; i < 3; i++) {
    t.m.blind = true;
    rig_reopen (&t);
    rig_entries (&t, ents, 200, false);
    assert_int_equal (rig_prepare (&t, &mc, 200, 200, i == 0), 0);
    for (unsigned v = 0; v < META_VOLUMES; v++)
      fault_add (t.m.given[v], &rule);
    got.nr = 0;
    if (i == 0) {
      assert_int_equal (
          map_durable_ops.build (t.map, &mc, 200, 200, ents, rig_add_run, &got),
          0);
    } else if (i == 1) {
      struct swent ent;

      assert_int_equal (map_durable_ops.pop (t.map, &mc, 300, &ent), 0);
      assert_int_equal (swmeta_kind (ent.word), SWMETA_BLOCK);
    } else {
      assert_int_equal (
          map_durable_ops.free (t.map, &mc, 200, 200, rig_add_run, &got), 0);
    }
    for (unsigned v = 0; v < META_VOLUMES; v++)
      fault_clear (t.m.given[v]);
    rig_change_end (&t, &mc);
  }
  meta_check (&t.m, rig_leaf);
  rig_destroy (&t);
}

/* One change of a page: the leaf, what is above it, and no record too many. */
static void
test_cost (void **state)
{
  struct rig t;
  struct flush_stat before, after;

  UNUSED (state);
  rig_create (&t, PAGES);
  build_blocks (&t, 0, 512);
  assert_int_equal (flush_run_cycle (t.m.fl), 0);
  flush_stat (t.m.fl, &before);
  build_blocks (&t, 7, 1);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 3);
  build_blocks (&t, 8, 1);
  build_blocks (&t, 7, 10);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 3);
  flush_stat (t.m.fl, &after);
  assert_in_range (after.tail_lsn - before.tail_lsn, 3, 5); /* 3 images */
  build_blocks (&t, 300, 1);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 4);
  rig_destroy (&t);
}

/* ---- nodes that are wrong ---- */

static void
unknown_kind (struct disk_node *n)
{
  ((struct disk_map *) n->body)->word[10] |= UINT64_C (7) << 60;
}

static void
beyond_volume (struct disk_node *n)
{
  ((struct disk_map *) n->body)->word[10] =
      swmeta_word (SWMETA_BLOCK, blkno_make (1, META_BYTES / PAGE_BYTES));
}

static void
no_volume (struct disk_node *n)
{
  ((struct disk_map *) n->body)->word[10] =
      swmeta_word (SWMETA_BLOCK, blkno_make (META_VOLUMES, 600));
}

static void
zero_with_block (struct disk_node *n)
{
  ((struct disk_map *) n->body)->word[10] = swmeta_word (SWMETA_ZERO, 600);
}

static void
no_count (struct disk_node *n)
{
  n->nr_used = 0;
}

static void
count_too_high (struct disk_node *n)
{
  n->nr_used = UINT32_MAX;
}

/* Page 10 cannot be read, changed or freed; others can be read. */
static void
test_wrong_leaves (void **state)
{
  static const struct {
    void (*change) (struct disk_node *n);
    bool entry; /* or the node counts wrong */
  } wrong[] = {
    { unknown_kind, true }, { beyond_volume, true },
    { no_volume, true },    { zero_with_block, true },
    { no_count, false },    { count_too_high, false },
  };

  UNUSED (state);
  for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    struct swmeta_run run = { .nr_pages = 99 };
    struct buf *leaf;
    struct rig t;
    uint64_t blk;

    rig_create (&t, PAGES);
    build_blocks (&t, 0, 20);
    assert_int_equal (tree_get (t.m.tree, 0, &leaf), 0);
    blk = leaf->blk;
    buf_put (t.m.bs, leaf);
    rig_close (&t);
    meta_poke (&t.m, blk, wrong[i].change);
    t.m.blind = true;
    meta_open (&t.m);
    test_log_forget ();
    if (wrong[i].entry) {
      assert_int_equal (map_durable_ops.lookup (t.map, 10, 1, &run, NULL), EIO);
      assert_int_equal (run.nr_pages, 99);
      if (i == 0) /* the next second's messages are dropped */
        assert_int_equal (test_log_has ("page 10: its entry is not possible"),
                          1);
      assert_int_equal (rig_lookup (&t, 11, 100), 0);
      assert_int_equal (look (&t, 2, 5).nr_pages, 5);
    } else {
      assert_int_equal (rig_lookup (&t, 0, 512), 0);
    }
    rig_entries (&t, ents, 5, false);
    assert_int_equal (rig_build (&t, 8, 5, ents), EIO);
    assert_int_equal (rig_free_pages (&t, 8, 300), EIO);
    assert_int_equal (rig_pop (&t, 10), EIO);
    assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 0);
    meta_kill (&t.m);
    map_durable_ops.destroy (t.map);
    rig_free (&t);
  }
}

/* The second leaf of a shard cannot be read: the first can, and who changes
 * both changes none.
 */
static void
test_unreadable_leaf (void **state)
{
  struct swmeta_run run;
  struct buf *leaf;
  struct rig t;
  uint64_t blk;
  unsigned n = 99;

  UNUSED (state);
  rig_create (&t, PAGES);
  build_blocks (&t, 200, 200);
  assert_int_equal (tree_get (t.m.tree, 1, &leaf), 0);
  blk = leaf->blk;
  buf_put (t.m.bs, leaf);
  t.m.blind = true;
  rig_reopen (&t);
  meta_fail_reads (&t.m, blk);
  assert_int_equal (look (&t, 200, 200).nr_pages, 56);
  assert_int_equal (map_durable_ops.lookup (t.map, 256, 1, &run, NULL), EIO);
  rig_entries (&t, ents, 100, false);
  assert_int_equal (rig_build (&t, 200, 100, ents), EIO);
  assert_int_equal (rig_free_pages (&t, 200, 100), EIO);
  assert_int_equal (rig_pop (&t, 300), EIO);
  assert_int_equal (map_durable_ops.prepare (t.map, 255, 2, true, &n), EIO);
  assert_int_equal (n, 99);
  assert_int_equal (bufs_nr_dirty (t.m.bs, BUF_META), 0);
  fault_clear (t.m.given[blkno_volume (blk)]);
  for (unsigned i = 0; i < 100; i++)
    meta_put (&t.m, swmeta_blkno (ents[i].word));
  rig_same (&t);
  rig_destroy (&t);
}

/* No way to tell which shards there are: all may have entries. */
static void
test_unreadable_root (void **state)
{
  struct rig t;
  uint64_t blk;

  UNUSED (state);
  rig_create (&t, PAGES);
  build_blocks (&t, 5000, 1);
  blk = t.m.tree->root.blk;
  t.m.blind = true;
  rig_reopen (&t);
  meta_fail_reads (&t.m, blk);
  assert_int_equal (map_durable_ops.next_shard (t.map, 0), 0);
  assert_int_equal (map_durable_ops.next_shard (t.map, 3), 3);
  assert_int_equal (map_durable_ops.next_shard (t.map, 78), 78);
  assert_int_equal (map_durable_ops.next_shard (t.map, 79), UINT64_MAX);
  fault_clear (t.m.given[blkno_volume (blk)]);
  assert_int_equal (map_durable_ops.next_shard (t.map, 0), 9);
  rig_destroy (&t);
}

/* ---- records ---- */

static int
redo (struct rig *t, enum disk_rec_type type, pgno_t pgno, uint64_t word,
      uint32_t nr)
{
  static const uint32_t crc[SHARD_PAGES] = { 11, 12, 13 };
  struct disk_rec rec = { .type = (uint16_t) type,
                          .object = OBJECT_ID,
                          .pgno = pgno,
                          .word = word,
                          .nr = nr };
  struct change ch;
  int err;

  meta_begin (&t->m, CHANGE_NODES_MAX / 2, &ch);
  ch.quiet = true;
  if (type == DISK_REC_NODE || type == DISK_REC_UNNODE)
    err = objmeta_redo_node (t->map, &ch, &rec);
  else
    err = objmeta_redo (t->map, &ch, &rec, crc, &t->nr_mapped, &t->nr_zero);
  change_end (t->m.fl, &ch);
  return err;
}

static void
test_wrong_records (void **state)
{
  const uint64_t end = META_BYTES / PAGE_BYTES;
  struct rig t;
  uint64_t blk;

  UNUSED (state);
  rig_create (&t, PAGES);
  build_zeros (&t, 0, 1);
  build_zeros (&t, PAGES - 1, 1);
  blk = meta_take_one (&t.m);
  assert_int_equal (redo (&t, DISK_REC_OBJECT, 0, 0, 1), EIO);
  assert_int_equal (redo (&t, DISK_REC_ZERO, 0, 0, 0), EIO);
  assert_int_equal (redo (&t, DISK_REC_ZERO, PAGES, 0, 1), EIO);
  assert_int_equal (redo (&t, DISK_REC_FREE, PAGES - 1, 0, 2), EIO);
  assert_int_equal (redo (&t, DISK_REC_FREE, UINT64_MAX, 0, 2), EIO);
  assert_int_equal (redo (&t, DISK_REC_MAP, 0, end, 1), EIO);
  assert_int_equal (redo (&t, DISK_REC_MAP, 0, end - 1, 2), EIO);
  assert_int_equal (redo (&t, DISK_REC_MAP, 0, blk | UINT64_C (1) << 60, 1),
                    EIO);
  assert_int_equal (redo (&t, DISK_REC_MAP, 0, blkno_make (9, 5), 1), EIO);
  assert_int_equal (redo (&t, DISK_REC_MAP, 1000, blk, 1), EIO); /* no node */
  assert_int_equal (redo (&t, DISK_REC_ZERO, 1000, 0, 1), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 157, blk, 0), EIO);
  assert_int_equal (redo (&t, DISK_REC_NODE, 1 << 20, blk, 0), EIO);
  assert_true (t.nr_mapped == 0 && t.nr_zero == 0);
  rig_same (&t);
  assert_int_equal (redo (&t, DISK_REC_FREE, 1000, 0, 1), 0);
  rig_same (&t);
  rig_destroy (&t);
}

static void
no_note (void *arg, uint64_t blk)
{
  UNUSED (arg);
  UNUSED (blk);
}

/* A leaf beyond the object's end, from wherever it came, is no shard's. */
static void
test_beyond (void **state)
{
  struct disk_rec rec = { .type = DISK_REC_NODE, .pgno = 158 };
  struct change ch;
  struct rig t;

  UNUSED (state);
  rig_create (&t, PAGES);
  build_zeros (&t, PAGES - 1, 1);
  rec.word = meta_take_one (&t.m);
  meta_begin (&t.m, CHANGE_NODES_MAX / 2, &ch);
  ch.quiet = true;
  assert_int_equal (tree_redo (t.m.tree, &ch, &rec, no_note, no_note, NULL), 0);
  change_end (t.m.fl, &ch);
  assert_int_equal (rig_free_pages (&t, PAGES - 1, 1), 0);
  assert_int_equal (map_durable_ops.next_shard (t.map, 0), UINT64_MAX);
  rig_destroy (&t);
}

/* Records by hand: pages, counts, a leaf that stays empty until UNNODE, or the
 * next removal.
 */
static void
test_records (void **state)
{
  struct rig t;
  uint64_t blk[3], run, nr = 0;

  UNUSED (state);
  rig_create (&t, 512);
  for (unsigned i = 0; i < 3; i++)
    blk[i] = meta_take_one (&t.m);
  do
    run = meta_take (&t.m, 3, &nr);
  while (nr < 3);
  assert_int_equal (redo (&t, DISK_REC_NODE, 0, blk[0], 1), 0);
  assert_int_equal (redo (&t, DISK_REC_NODE, 0, blk[1], 0), 0);
  assert_int_equal (redo (&t, DISK_REC_NODE, 1, blk[2], 0), 0);
  assert_int_equal (redo (&t, DISK_REC_MAP, 255, run, 3), 0);
  assert_true (t.nr_mapped == 3 && t.nr_zero == 0);
  assert_int_equal (look (&t, 255, 9).nr_pages, 3);
  assert_int_equal (redo (&t, DISK_REC_ZERO, 256, 0, 4), 0);
  assert_true (t.nr_mapped == 1 && t.nr_zero == 4);
  nr = t.fm.nr_notes;
  assert_int_equal (redo (&t, DISK_REC_MAP, 255, run, 1), 0); /* as it is */
  assert_int_equal (t.fm.nr_notes, nr);
  assert_true (t.nr_mapped == 1 && t.nr_zero == 4);
  t.nr_mapped = t.nr_zero = 0;
  meta_check (&t.m, rig_leaf);
  assert_true (t.nr_mapped == 1 && t.nr_zero == 4);
  assert_int_equal (redo (&t, DISK_REC_FREE, 0, 0, 512), 0);
  assert_true (t.nr_mapped == 0 && t.nr_zero == 0);
  assert_int_equal (objmeta_nr_nodes (t.map), 3);
  assert_int_equal (redo (&t, DISK_REC_UNNODE, 1, blk[2], 0), 0);
  assert_int_equal (objmeta_nr_nodes (t.map), 2);
  assert_int_equal (map_durable_ops.next_shard (t.map, 0), 0);
  assert_int_equal (rig_free_pages (&t, 0, 512), 0);
  assert_int_equal (objmeta_nr_nodes (t.map), 0);
  rig_same (&t);

  /* The log ended behind the inner node's record. */
  blk[0] = meta_take_one (&t.m);
  assert_int_equal (redo (&t, DISK_REC_NODE, 0, blk[0], 1), 0);
  assert_int_equal (map_durable_ops.next_shard (t.map, 0), 0);
  assert_int_equal (rig_free_pages (&t, 0, 512), 0);
  assert_int_equal (objmeta_nr_nodes (t.map), 0);
  rig_same (&t);
  rig_destroy (&t);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_sizes),
    cmocka_unit_test (test_wrong_entry),
    cmocka_unit_test (test_runs),
    cmocka_unit_test (test_root),
    cmocka_unit_test (test_needed),
    cmocka_unit_test (test_prepared),
    cmocka_unit_test (test_cost),
    cmocka_unit_test (test_wrong_leaves),
    cmocka_unit_test (test_unreadable_leaf),
    cmocka_unit_test (test_unreadable_root),
    cmocka_unit_test (test_wrong_records),
    cmocka_unit_test (test_beyond),
    cmocka_unit_test (test_records),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
