/* SPDX-License-Identifier: BSD-2-Clause */
/* The free map when its notes are wrong or too many, and when what is on the
 * media is damaged; see test-world.h.
 */

#include <config.h>

#include <pthread.h>

#include "test-world.h"

static void
note (struct world *w, uint64_t blk, uint64_t nr, bool used)
{
  freemap_note (w->b.fm, &(struct space_run){ blk, nr }, used);
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

/* ---- room ---- */

struct enterer {
  struct freemap *fm;
  atomic_bool in;
};

static void *
enter_thread (void *arg)
{
  struct enterer *t = arg;

  assert_int_equal (freemap_enter (t->fm), 0);
  atomic_store (&t->in, true);
  return NULL;
}

/* There is room for all notes of all who are inside, and no more are. */
static void
test_inside (void **state)
{
  unsigned max = FREEMAP_NOTED_MAX / FREEMAP_NOTES_MAX;
  struct enterer t = { 0 };
  struct world w;
  pthread_t thread;

  UNUSED (state);
  world_small (&w);
  t.fm = w.b.fm;
  for (unsigned i = 0; i < max; i++)
    assert_int_equal (freemap_enter (w.b.fm), 0);
  for (uint64_t i = 0; i < max * FREEMAP_NOTES_MAX; i++)
    note (&w, blkno_make (1, w.first[1] + (i * 3 / 2) % 90000 + i % 2), 1,
          i / 60000 % 2 == 0);
  assert_false (flush_failed (w.b.fl));
  assert_int_equal (freemap_before_cut (w.b.fm), 0);
  pthread_create (&thread, NULL, enter_thread, &t);
  nanosleep (&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
  assert_false (atomic_load (&t.in));
  freemap_leave (w.b.fm);
  pthread_join (thread, NULL);
  assert_true (atomic_load (&t.in));
  world_drop (&w);
}

/* More than there is room for: the store fails, before a block is lost. */
static void
test_overflow (void **state)
{
  struct world w;

  UNUSED (state);
  world_small (&w);
  for (uint64_t i = 0; i <= FREEMAP_NOTED_MAX && !flush_failed (w.b.fl); i++)
    note (&w, blkno_make (1, w.first[1] + i % 2), 1, i / 2 % 2 == 0);
  for (uint64_t i = 0; i <= FREEMAP_NOTED_MAX && !flush_failed (w.b.fl); i++)
    note (&w, blkno_make (1, w.first[1]), 1, i % 2 == 0);
  assert_true (flush_failed (w.b.fl));
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
    cmocka_unit_test (test_wrong),    cmocka_unit_test (test_inside),
    cmocka_unit_test (test_overflow), cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_damage),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
