/* SPDX-License-Identifier: BSD-2-Clause */
/* Many threads do to a pool what writes, overwrites, trims and reads do, in
 * random order; no block may ever have two owners, and at the end everything
 * is accounted for.
 */

#include <config.h>

#include "test-pool.h"

#define WORKERS   6
#define OPS       20000
#define OWNED_MAX 4096

struct worker {
  struct pool *p;
  uint64_t seed;
  const char *wrong;
  unsigned nr_owned, nr_full;
  blkno_t owned[OWNED_MAX];
};

static bool
alloc_one (struct worker *w, blkno_t *blk)
{
  struct space_run run;

  if (space_alloc (w->p->sp, test_random (&w->seed) % 20, 1, &run) != 0) {
    w->wrong = "a unit found no block";
    return false;
  }
  if (run.nr != 1 || !pool_own (w->p, &run)) {
    w->wrong = "a block has two owners, or is under trim";
    return false;
  }
  *blk = run.blk;
  return true;
}

static void
free_one (struct worker *w, blkno_t blk)
{
  struct space_run run = { blk, 1 };

  pool_disown (w->p, &run);
  space_free (w->p->sp, test_random (&w->seed) % 20, &run, 1);
}

/* New pages: nr of them, if the pool has room. */
static void
write_new (struct worker *w, uint64_t nr)
{
  nr = nr < OWNED_MAX - w->nr_owned ? nr : OWNED_MAX - w->nr_owned;
  if (space_charge (w->p->sp, nr) != 0) {
    w->nr_full++;
    return;
  }
  for (uint64_t i = 0; i < nr && w->wrong == NULL; i++)
    if (alloc_one (w, &w->owned[w->nr_owned]))
      w->nr_owned++;
}

/* The old blocks are read by somebody still, or not. */
static void
overwrite (struct worker *w, uint64_t nr, bool park)
{
  blkno_t old[64];

  nr = nr < w->nr_owned ? nr : w->nr_owned;
  for (uint64_t i = 0; i < nr && w->wrong == NULL; i++) {
    unsigned k = (unsigned) (test_random (&w->seed) % w->nr_owned);

    old[i] = w->owned[k];
    if (!alloc_one (w, &w->owned[k]))
      return;
    if (park)
      space_park (w->p->sp, 1);
    else
      free_one (w, old[i]);
  }
  for (uint64_t i = 0; i < nr && park; i++) {
    free_one (w, old[i]);
    space_unpark (w->p->sp, 1);
  }
}

static void
trim (struct worker *w, uint64_t nr)
{
  nr = nr < w->nr_owned ? nr : w->nr_owned;
  for (uint64_t i = 0; i < nr; i++)
    free_one (w, w->owned[--w->nr_owned]);
  space_uncharge (w->p->sp, nr);
}

static void *
worker_thread (void *arg)
{
  struct worker *w = arg;
  uint64_t slice_max = space_slice_max (w->p->sp);

  for (int i = 0; i < OPS && w->wrong == NULL; i++) {
    uint64_t op = test_random (&w->seed) % 16;
    uint64_t nr = 1 + test_random (&w->seed) % min_u64 (slice_max, 64);

    if (op < 5) {
      trim (w, nr);
      continue;
    }
    if (space_acquire (w->p->sp, nr, env_now_ns () + 2 * LATE_NS) != 0) {
      w->wrong = "no units for long";
      break;
    }
    if (op < 11)
      write_new (w, nr);
    else
      overwrite (w, nr, op > 13);
    space_release (w->p->sp, nr);
    if (op == 15 && nr % 8 == 0)
      space_drain (w->p->sp);
  }
  return NULL;
}

static void
stress (const uint64_t *sizes, unsigned stripe, bool sparse)
{
  struct pool *p = pool_open (sizes, stripe, sparse);
  struct worker *w = calloc (WORKERS, sizeof *w);
  pthread_t thread[WORKERS];
  uint64_t nr_mapped = 0, nr_full = 0;
  uint64_t seed = test_seed ();

  for (unsigned i = 0; i < WORKERS; i++) {
    w[i].p = p;
    w[i].seed = seed + i;
    pthread_create (&thread[i], NULL, worker_thread, &w[i]);
  }
  for (unsigned i = 0; i < WORKERS; i++) {
    pthread_join (thread[i], NULL);
    if (w[i].wrong != NULL)
      fail_msg ("%s", w[i].wrong);
    nr_mapped += w[i].nr_owned;
    nr_full += w[i].nr_full;
  }
  assert_true (nr_full > 0); /* or it was no test */
  pool_check (p, nr_mapped);
  assert_int_equal (pool_stat (p).nr_charged, nr_mapped);
  for (unsigned i = 0; i < WORKERS; i++)
    trim (&w[i], w[i].nr_owned);
  pool_check (p, 0);
  if (sparse)
    assert_true (atomic_load (&p->fake[0].nr_trims) > 0);
  free (w);
  pool_close (p);
}

static void
test_one_volume (void **state)
{
  UNUSED (state);
  stress ((uint64_t[]){ 2048, 0 }, 0, false);
}

static void
test_volumes (void **state)
{
  UNUSED (state);
  stress ((uint64_t[]){ 500, 1000, 32, 300, 0 }, 0, false);
}

static void
test_smallest (void **state)
{
  UNUSED (state);
  stress ((uint64_t[]){ 32, 0 }, 0, false);
}

static void
test_one_unit (void **state)
{
  UNUSED (state);
  stress ((uint64_t[]){ 7, 0 }, 1, false);
}

static void
test_sparse (void **state)
{
  UNUSED (state);
  stress ((uint64_t[]){ 1024, 700, 0 }, 0, true);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_one_volume), cmocka_unit_test (test_volumes),
    cmocka_unit_test (test_smallest),   cmocka_unit_test (test_one_unit),
    cmocka_unit_test (test_sparse),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
