/* SPDX-License-Identifier: BSD-2-Clause */
/* Room for what is noted in the free map, and many who note. */

#include <config.h>

#include "test-freemap.h"

#include <pthread.h>

/* ---- room ---- */

/* Whoever enters folds when much is noted. */
static void
test_room (void **state)
{
  struct freemap_stat st;
  struct world w;
  uint64_t most = 0;

  UNUSED (state);
  world_small (&w);
  for (uint64_t i = 0; i < 3 * 90000; i++) {
    uint64_t place =
        w.first[1] + i % 90000 / 2 * 2 + (i % 90000 + i / 90000) % 2;

    /* Nothing joins: up and down by turns. */
    assert_int_equal (freemap_enter (w.b.fm), 0);
    note (&w, blkno_make (1, place), 1, w.used[1][place] == 0);
    w.used[1][place] ^= 1;
    freemap_leave (w.b.fm);
    freemap_stat (w.b.fm, &st);
    most = max_u64 (most, st.nr_noted);
  }
  assert_in_range (most, FREEMAP_NOTED_MAX / 8, FREEMAP_NOTED_MAX / 4 + 1);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

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

/* ---- threads ---- */

#define THREADS 6
#define CHANGES 15000

struct changer {
  struct world *w;
  uint64_t seed;
  unsigned nr;
};

/* Each has its own blocks, with others' between them. */
static void *
change_thread (void *arg)
{
  struct changer *c = arg;
  struct world *w = c->w;

  for (unsigned i = 0; i < CHANGES; i++) {
    uint64_t room = (w->end[1] - w->first[1]) / (8 * THREADS);
    uint64_t at = test_random (&c->seed) % room * THREADS + c->nr;
    uint64_t place = w->first[1] + at * 8, nr = 1;
    bool used = !w->used[1][place];

    while (nr < 8 && w->used[1][place + nr] != used &&
           test_random (&c->seed) % 4 != 0)
      nr++;
    change_run (w, 1, place, nr, used);
  }
  return NULL;
}

static void
test_threads (void **state)
{
  uint64_t seed = test_seed ();
  struct changer c[THREADS];
  pthread_t thread[THREADS];
  struct world w;

  UNUSED (state);
  world_small (&w);
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < THREADS; i++) {
      c[i] = (struct changer){ &w, seed + i + round * THREADS, i };
      pthread_create (&thread[i], NULL, change_thread, &c[i]);
    }
    for (unsigned i = 0; i < 20; i++)
      assert_int_equal (flush_run_cycle (w.b.fl), 0);
    for (unsigned i = 0; i < THREADS; i++)
      pthread_join (thread[i], NULL);
    reopen (&w, round == 0);
    compare (&w);
  }
  world_drop (&w);
}

static atomic_bool descended;

static void *
descend_thread (void *arg)
{
  struct world *w = arg;

  for (unsigned i = 0; i < 500; i++) {
    struct freemap_stat st = { 1, 0 };

    struct change ch;

    while (st.nr_noted > 0)
      freemap_stat (w->b.fm, &st);
    /* A cut, which a slow machine may come to, has to wait for us. */
    assert_int_equal (change_begin (w->b.fl, 1, &ch), 0);
    note (w, blkno_make (1, w->first[1] + 5000), 20000, i % 2 == 0);
    for (uint64_t k = 4999; k > 4000; k--)
      note (w, blkno_make (1, w->first[1] + k), 1, i % 2 == 0);
    change_end (w->b.fl, &ch);
  }
  atomic_store (&descended, true);
  return NULL;
}

/* A note that grows downward while it is being folded. */
static void
test_descending (void **state)
{
  struct world w;
  pthread_t thread;

  UNUSED (state);
  world_small (&w);
  pthread_create (&thread, NULL, descend_thread, &w);
  while (!atomic_load (&descended))
    assert_int_equal (freemap_before_cut (w.b.fm), 0);
  pthread_join (thread, NULL);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* ---- more leaves than buffers ---- */

#define HUGE (40 * 1024 * MIB) /* 342 leaves */

/* Changes all over a pool, so that each leaf changes in each cycle, with fewer
 * buffers than there are leaves; then the store ends, or dies.
 */
static void
change_leaves (bool only_cut, bool dies)
{
  struct world w;
  uint64_t nr_leaves;

  world_create (&w, (uint64_t[]){ HUGE }, 1, BUFS_MIN);
  w.only_cut = only_cut;
  nr_leaves = w.end[0] / DISK_FREEMAP_BITS;
  assert_true (nr_leaves > BUFS_MIN);
  for (unsigned round = 0; round < 6; round++) {
    for (uint64_t i = 1; i < nr_leaves; i++)
      change_run (&w, 0, i * DISK_FREEMAP_BITS + round / 2, 1, round % 2 == 0);
    if (round % 2 == 1)
      assert_int_equal (flush_run_cycle (w.b.fl), 0);
    if (round == 4 && dies)
      break;
    assert_false (flush_failed (w.b.fl));
  }
  reopen (&w, !dies);
  compare (&w);
  world_drop (&w);
}

static void
test_many_leaves (void **state)
{
  UNUSED (state);
  change_leaves (false, false);
  change_leaves (false, true);
}

/* All that is noted comes after before_cut (), as if many changed all the time.
 */
static void
test_many_in_cut (void **state)
{
  UNUSED (state);
  change_leaves (true, false);
  change_leaves (true, true);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_room),        cmocka_unit_test (test_inside),
    cmocka_unit_test (test_overflow),    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_descending),  cmocka_unit_test (test_many_leaves),
    cmocka_unit_test (test_many_in_cut),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
