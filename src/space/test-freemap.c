/* SPDX-License-Identifier: BSD-2-Clause */
/* The free map against a plain array of who is in use; see test-world.h.  What
 * happens when it is wrong or damaged is in test-freemap-bad.c.
 */

#include <config.h>

#include <pthread.h>

#include "test-world.h"

/* ---- tests ---- */

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
  for (uint64_t i = 0; i < 99000; i++) {
    change_run (&w, 1, w.first[1] + i, 1, true);
    if (i > 0) /* nothing joins */
      change_run (&w, 1, w.first[1] + i - 1, 1, false);
    freemap_stat (w.b.fm, &st);
    most = max_u64 (most, st.nr_noted);
  }
  assert_in_range (most, 2000, FREEMAP_NOTED_MAX / 4 + 2);
  reopen (&w, true);
  compare (&w);
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

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_new),     cmocka_unit_test (test_edges),
    cmocka_unit_test (test_order),   cmocka_unit_test (test_random_changes),
    cmocka_unit_test (test_large),   cmocka_unit_test (test_room),
    cmocka_unit_test (test_threads),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
