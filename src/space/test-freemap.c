/* SPDX-License-Identifier: BSD-2-Clause */
/* What the free map says: after folds, cycles, clean ends and kills, and when
 * it is told wrong things or read from a damaged medium.  Room for notes, and
 * threads, are in test-freemap-room.c.
 */

#include <config.h>

#include "test-freemap.h"

/* ---- what it says ---- */

/* A new store has nothing in use that counts. */
static void
test_new (void **state)
{
  struct world w;

  UNUSED (state);
  world_small (&w);
  compare (&w);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* The first block and the last, runs over two leaves and over all. */
static void
test_edges (void **state)
{
  const uint64_t leaf = DISK_FREEMAP_BITS;
  struct world w;

  UNUSED (state);
  world_small (&w);
  for (unsigned v = 0; v < 2; v++) {
    change_run (&w, v, w.first[v], 1, true);
    change_run (&w, v, w.end[v] - 1, 1, true);
  }
  change_run (&w, 1, leaf - 1, 2, true);
  change_run (&w, 1, 2 * leaf - 5, 5, true);
  change_run (&w, 1, 3 * leaf, 3, true);
  reopen (&w, true);
  compare (&w);
  change_run (&w, 1, leaf, 1, false);
  change_run (&w, 1, w.first[1], 1, false);
  change_run (&w, 1, leaf - 1, 1, false);
  change_run (&w, 1, 2 * leaf - 5, 5, false);
  change_run (&w, 1, 3 * leaf, 3, false);
  change_run (&w, 1, w.end[1] - 1, 1, false);
  change_run (&w, 1, w.first[1], w.end[1] - w.first[1], true);
  reopen (&w, false);
  compare (&w);
  change_run (&w, 1, w.first[1] + 3, w.end[1] - w.first[1] - 7, false);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* What follows on each other in the notes stays in its order. */
static void
test_order (void **state)
{
  struct freemap_stat st;
  struct world w;
  uint64_t at;

  UNUSED (state);
  world_small (&w);
  at = w.first[1] + 1000;
  for (unsigned i = 0; i < 7; i++)
    change_run (&w, 1, at, 3, i % 2 == 0);
  /* Up, down, and a gap; each once. */
  for (uint64_t i = 100; i < 200; i++)
    change_run (&w, 1, at + i, 1, true);
  for (uint64_t i = 400; i > 300; i--)
    change_run (&w, 1, at + i, 1, true);
  freemap_stat (w.b.fm, &st);
  assert_in_range (st.nr_noted, 0, 9); /* one a turn, one up, one down */
  for (uint64_t i = 150; i < 350; i++)
    if (w.used[1][at + i])
      change_run (&w, 1, at + i, 1, false);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  compare (&w);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* Bits that are so already, and blocks that cannot be, are counted and told;
 * all else is done.
 */
static void
test_wrong (void **state)
{
  struct freemap_stat st;
  struct world w;
  uint64_t at;

  UNUSED (state);
  world_small (&w);
  at = w.first[1] + 10;
  note (&w, blkno_make (1, at), 4, true);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  note (&w, blkno_make (1, at + 2), 4, true);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  freemap_stat (w.b.fm, &st);
  assert_int_equal (st.nr_wrong, 2);
  assert_int_equal (test_log_has ("2 that become used were so"), 1);
  note (&w, blkno_make (1, at + 5), 3, false);
  note (&w, blkno_make (1, w.first[1] - 1), 1, false); /* the free map's own */
  note (&w, blkno_make (0, 1), 2, false);
  note (&w, blkno_make (1, w.end[1]), 1, false);
  note (&w, blkno_make (1, w.end[1] - 1), 2, false);
  note (&w, blkno_make (7, 100), 1, true);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  freemap_stat (w.b.fm, &st);
  assert_int_equal (st.nr_wrong, 2 + 2 + 1 + 2 + 1 + 2 + 1);
  assert_int_equal (flush_close (w.b.fl), 0);
  books_drop (&w.b);
  books_open (&w.b);
  for (uint64_t i = 0; i < 5; i++)
    assert_true (w.used[1][at + i]); /* the model is what was read */
  assert_false (w.used[1][at + 5]);
  world_drop (&w);
}

/* ---- random ---- */

static void
random_change (struct world *w, uint64_t *seed)
{
  unsigned v = (unsigned) (test_random (seed) % 2);
  uint64_t place = w->first[v] + test_random (seed) % (w->end[v] - w->first[v]);
  uint64_t max = test_random (seed) % 50 == 0 ? 40000 : 20, nr = 1;
  bool used = !w->used[v][place];

  max = min_u64 (1 + test_random (seed) % max, w->end[v] - place);
  while (nr < max && w->used[v][place + nr] != used)
    nr++;
  change_run (w, v, place, nr, used);
}

static void
test_random_changes (void **state)
{
  uint64_t seed = test_seed ();
  struct world w;
  unsigned nr_opens = 0;

  UNUSED (state);
  world_small (&w);
  for (unsigned i = 0; i < 40000; i++) {
    uint64_t op = test_random (&seed) % 2000;

    if (op < 2) {
      reopen (&w, op == 0);
      compare (&w);
      nr_opens++;
    } else if (op < 12) {
      assert_int_equal (flush_run_cycle (w.b.fl), 0);
      compare (&w);
    } else {
      random_change (&w, &seed);
    }
  }
  assert_true (nr_opens > 5 && w.nr_cuts > 50);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* 16 GiB: three levels, and each leaf changes in one cycle. */
static void
test_large (void **state)
{
  struct world w;

  UNUSED (state);
  world_create (&w, (uint64_t[]){ 16384 * MIB }, 1, 4096);
  assert_int_equal (w.b.s.root.members[0].freemap_height, 2);
  for (unsigned clean = 0; clean < 2; clean++) {
    for (uint64_t i = w.first[0] + 77 + clean; i < w.end[0] - 10; i += 20011)
      change_run (&w, 0, i, 9, true);
    reopen (&w, clean);
    compare (&w);
    for (uint64_t i = w.first[0] + 77 + clean; i < w.end[0] - 10; i += 20011)
      change_run (&w, 0, i, 9, false);
    change_run (&w, 0, w.first[0], w.end[0] - w.first[0], true);
    change_run (&w, 0, w.first[0], w.end[0] - w.first[0], false);
    reopen (&w, clean);
    compare (&w);
  }
  world_drop (&w);
}

/* ---- damage ---- */

static uint64_t
leaf_block (struct world *w, unsigned v, uint64_t index)
{
  return blkno_make (v, w->b.s.root.members[v].freemap_first + index);
}

/* A leaf that cannot be read: nothing is lost, nothing is served, and at the
 * cut the store fails.
 */
static void
test_unreadable (void **state)
{
  struct each e = { 0 };
  struct world w;

  UNUSED (state);
  world_small (&w);
  change_run (&w, 1, w.first[1], 5, true);
  reopen (&w, true);
  flush_destroy (w.b.fl); /* open again, with nothing cached */
  freemap_destroy (w.b.fm);
  bufs_destroy (w.b.bs);
  w.b.fm = NULL;
  books_fail_reads (&w.b, leaf_block (&w, 1, 2));
  assert_int_equal (books_try_open (&w.b), EIO);
  assert_int_equal (freemap_each (w.b.fm, 1, compare_run, &e), EIO);
  assert_int_equal (flush_start (w.b.fl), 0);
  note (&w, blkno_make (1, 2 * DISK_FREEMAP_BITS + 7), 1, true);
  assert_int_equal (flush_run_cycle (w.b.fl), EIO);
  assert_true (flush_failed (w.b.fl));
  world_drop (&w);
}

static void
one_more (struct disk_node *node)
{
  node->nr_used++;
}

static void
clear_first (struct disk_node *node)
{
  node->body[0] &= 0xfe;
  node->nr_used--;
}

static void
clear_last (struct disk_node *node)
{
  node->body[DISK_NODE_BODY - 1] &= 0x7f;
  node->nr_used--;
}

/* A leaf that is whole, and says what cannot be. */
static void
test_damage (void **state)
{
  static const struct {
    void (*change) (struct disk_node *node);
    uint64_t leaf;
    const char *words;
  } damage[] = {
    { one_more, 1, "its count is not that of its bits" },
    { clear_first, 0, "before the pool's are marked as free" },
    { clear_last, 3, "behind the pool's are marked as free" },
  };

  UNUSED (state);
  for (unsigned i = 0; i < sizeof damage / sizeof *damage; i++) {
    struct world w;

    world_small (&w);
    assert_int_equal (flush_close (w.b.fl), 0);
    books_drop (&w.b);
    books_poke (&w.b, leaf_block (&w, 1, damage[i].leaf), damage[i].change);
    books_skip_second ();
    assert_int_equal (books_try_open (&w.b), EIO);
    assert_int_equal (test_log_has (damage[i].words), 1);
    world_drop (&w);
  }
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_new),
    cmocka_unit_test (test_edges),
    cmocka_unit_test (test_order),
    cmocka_unit_test (test_wrong),
    cmocka_unit_test (test_random_changes),
    cmocka_unit_test (test_large),
    cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_damage),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
