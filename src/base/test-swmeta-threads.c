/* SPDX-License-Identifier: BSD-2-Clause */
/* swmeta: threads that work on one map, each in shards of its own, as callers
 * do that hold different shards' locks; for the thread sanitizer above all.
 */

#include <config.h>

#include "swmeta.h"
#include "test-util.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <cmocka.h>

#define THREADS  4u
#define SHARDS   16u /* of each thread */
#define NR_PAGES (UINT64_C (1) << 40)
#define NR_OPS   100000u

struct worker {
  pthread_t thread;
  struct swmeta *map;
  uint64_t random;
  unsigned number;
  unsigned wrong; /* lookups that did not find what the thread had built */
  uint16_t tag[SHARDS][SHARD_PAGES]; /* 0: no entry */
  uint64_t nr_freed;
  uint64_t nr_built;
};

/* Shards of different threads lie side by side, and groups of them so far
 * apart that each needs inner nodes of its own, made by who comes first.
 */
static uint64_t
shard_of (const struct worker *w, unsigned i)
{
  return i * UINT64_C (40000000) + w->number;
}

static uint64_t
word_for (unsigned tag)
{
  return swmeta_word (SWMETA_BLOCK, tag);
}

static void
count_freed (void *arg, const struct swmeta_run *run)
{
  struct worker *w = arg;

  w->nr_freed += run->nr_pages;
}

static void
step (struct worker *w)
{
  unsigned k = test_random_below (&w->random, SHARDS);
  unsigned i = test_random_below (&w->random, SHARD_PAGES);
  unsigned nr =
      1 + test_random_below (&w->random, min_u64 (40, SHARD_PAGES - i));
  pgno_t pgno = shard_of (w, k) * SHARD_PAGES + i;
  struct swent ents[40] = { { 0 } };

  switch (test_random_below (&w->random, 4)) {
  case 0:
    for (unsigned n = 0; n < nr; n++) {
      w->tag[k][i + n] = 1 + test_random_below (&w->random, 60000);
      ents[n].word = word_for (w->tag[k][i + n]);
    }
    w->wrong += swmeta_build (w->map, pgno, nr, ents, count_freed, w) != 0;
    w->nr_built += nr;
    break;
  case 1: /* often the whole shard, so that its node goes and comes */
    if (nr % 4 == 0) {
      pgno -= i;
      i = 0;
      nr = SHARD_PAGES;
    }
    swmeta_free (w->map, pgno, nr, count_freed, w);
    memset (&w->tag[k][i], 0, nr * sizeof w->tag[k][0]);
    break;
  default:
    swmeta_get (w->map, pgno, nr, ents);
    for (unsigned n = 0; n < nr; n++)
      w->wrong +=
          ents[n].word != (w->tag[k][i + n] ? word_for (w->tag[k][i + n]) : 0);
    break;
  }
}

static void *
work (void *arg)
{
  struct worker *w = arg;

  for (unsigned i = 0; i < NR_OPS; i++)
    step (w);
  return NULL;
}

struct walker {
  pthread_t thread;
  struct swmeta *map;
  atomic_bool stop;
  uint64_t nr_walks;
  unsigned wrong;
};

/* Walk over all shards with no lock, as who drops an object does. */
static void *
walk (void *arg)
{
  struct walker *w = arg;

  do {
    uint64_t shard = swmeta_next_shard (w->map, 0), last;

    while (shard != UINT64_MAX) {
      w->wrong += shard % 40000000 >= THREADS;
      last = shard;
      shard = swmeta_next_shard (w->map, shard + 1);
      w->wrong += shard <= last;
    }
    w->nr_walks++;
  } while (!atomic_load (&w->stop));
  return NULL;
}

static void
test_threads (void **state)
{
  static struct worker workers[THREADS];
  static struct walker walker;
  uint64_t seed = test_seed (), nr_entries = 0;
  struct swzone *zone;
  struct swmeta *map;

  (void) state;
  assert_int_equal (swzone_create (sizeof (struct swent), 1 << 26, &zone), 0);
  assert_int_equal (swmeta_create (zone, NR_PAGES, &map), 0);
  walker.map = map;
  assert_int_equal (pthread_create (&walker.thread, NULL, walk, &walker), 0);
  for (unsigned i = 0; i < THREADS; i++) {
    struct worker *w = &workers[i];

    w->map = map;
    w->number = i;
    w->random = seed * 2 + 1 + i * 2654435762;
    assert_int_equal (pthread_create (&w->thread, NULL, work, w), 0);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    assert_int_equal (pthread_join (workers[i].thread, NULL), 0);
    assert_int_equal (workers[i].wrong, 0);
    nr_entries += workers[i].nr_built - workers[i].nr_freed;
  }
  atomic_store (&walker.stop, true);
  assert_int_equal (pthread_join (walker.thread, NULL), 0);
  assert_int_equal (walker.wrong, 0);
  assert_true (walker.nr_walks > 0);
  assert_int_equal (swmeta_nr_entries (map), nr_entries);
  assert_null (swmeta_check (map));
  swmeta_destroy (map);
  assert_int_equal (swzone_bytes (zone), 0);
  swzone_destroy (zone);
}

/* ---- the first entries below an inner node, by two at once ---- */

#define ROUNDS 20000u

struct racer {
  pthread_t thread;
  struct swmeta *map;
  atomic_uint *arrived;
  unsigned number;
  unsigned wrong;
};

static void
no_run (void *arg, const struct swmeta_run *run)
{
  (void) run;
  ++*(unsigned *) arg;
}

static void *
race (void *arg)
{
  struct racer *r = arg;
  struct swent ent = { .word = word_for (7) };

  for (unsigned round = 0; round < ROUNDS; round++) {
    pgno_t pgno = (round * UINT64_C (512) + r->number) * SHARD_PAGES;

    atomic_fetch_add (r->arrived, 1);
    while (atomic_load (r->arrived) < 2 * (round + 1))
      sched_yield ();
    r->wrong += swmeta_build (r->map, pgno, 1, &ent, no_run, &r->wrong) != 0;
  }
  return NULL;
}

static void
test_first_touch (void **state)
{
  struct racer racers[2] = { { .number = 0 }, { .number = 1 } };
  struct swzone *zone;
  struct swmeta *map;
  atomic_uint arrived = 0;

  (void) state;
  assert_int_equal (swzone_create (sizeof (struct swent), 1 << 30, &zone), 0);
  assert_int_equal (swmeta_create (zone, NR_PAGES, &map), 0);
  for (unsigned i = 0; i < 2; i++) {
    racers[i].map = map;
    racers[i].arrived = &arrived;
    assert_int_equal (
        pthread_create (&racers[i].thread, NULL, race, &racers[i]), 0);
  }
  for (unsigned i = 0; i < 2; i++) {
    assert_int_equal (pthread_join (racers[i].thread, NULL), 0);
    assert_int_equal (racers[i].wrong, 0);
  }
  assert_null (swmeta_check (map));
  assert_int_equal (swmeta_nr_entries (map), 2 * ROUNDS);
  swmeta_destroy (map);
  assert_int_equal (swzone_bytes (zone), 0);
  swzone_destroy (zone);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_first_touch),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
