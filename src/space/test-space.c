/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks: rotation over volumes, runs, the last block, retiring, giving back
 * to sparse volumes.  Charges, units and levels are in test-promise.c.
 */

#include <config.h>

#include "test-pool.h"

/* ---- rotation ---- */

static uint64_t
blocks_of (const struct pool *p, unsigned i)
{
  return p->fake[i].v.size_bytes >> PAGE_SHIFT;
}

/* How many blocks volume i is away from its share of nr. */
static uint64_t
off_share (struct pool *p, unsigned i, uint64_t nr, uint64_t nr_all)
{
  uint64_t share = blocks_of (p, i) * nr / nr_all;
  uint64_t used = space_volume_used (p->sp, i);

  return used > share ? used - share : share - used;
}

/* Unequal volumes fill in proportion, a stripe at a time. */
static void
test_rotation (void **state)
{
  struct pool *p =
      pool_open ((uint64_t[]){ 3200, 12800, 960, 6400, 0 }, 32, false);
  uint64_t nr_all = 3200 + 12800 + 960 + 6400;
  uint64_t nr = 0;
  blkno_t last = 0;
  unsigned nr_moves = 0;

  UNUSED (state);
  while (nr < nr_all - 4 * 32) {
    struct space_run run = pool_alloc (p, 1, 1);

    /* Inside a stripe the next block is the neighbour. */
    if (nr % 32 != 0 && nr_all - nr > UINT64_C (4) * SPACE_LANES * 32)
      assert_int_equal (run.blk, last + 1);
    else if (nr % 32 == 0)
      nr_moves += blkno_volume (run.blk) != blkno_volume (last);
    last = run.blk;
    nr++;
    for (unsigned i = 0; i < p->nr_volumes && nr % 32 == 0; i++)
      assert_in_range (off_share (p, i, nr, nr_all), 0, 2 * 32);
  }
  assert_true (nr_moves > 200);
  pool_close (p);
}

/* A large request does not make a stripe larger; of equal volumes none is
 * behind by more than a stripe.
 */
static void
test_stripe (void **state)
{
  struct pool *p = pool_open ((uint64_t[]){ 6400, 6400, 0 }, 32, false);

  UNUSED (state);
  for (int i = 0; i < 200; i++) {
    struct space_run run = pool_alloc (p, 1, 256);

    assert_int_equal (run.nr, 32);
    assert_in_range (space_volume_used (p->sp, 0) + 32 -
                         space_volume_used (p->sp, 1),
                     0, 64);
  }
  pool_close (p);
}

/* When a volume is full the others go on. */
static void
test_one_volume_full (void **state)
{
  struct pool *p = pool_open ((uint64_t[]){ 32, 640, 0 }, 32, false);

  UNUSED (state);
  for (uint64_t nr = 0; nr < 672;)
    nr += pool_alloc (p, nr, 7).nr;
  assert_int_equal (space_volume_used (p->sp, 0), 32);
  assert_int_equal (space_volume_used (p->sp, 1), 640);
  pool_close (p);
}

/* ---- runs ---- */

static void
test_runs (void **state)
{
  struct pool *p = pool_of (131072);
  blkno_t last[2];
  uint64_t hint[2] = { 1, 2 };

  UNUSED (state);
  /* Whole runs of 256. */
  for (int i = 0; i < 20; i++)
    assert_int_equal (pool_alloc (p, 5, 256).nr, 256);
  /* No more than that, though there is more. */
  assert_in_range (pool_alloc (p, 5, 1000).nr, 1, 256);
  /* Two writers one block at a time: each gets neighbours. */
  for (int i = 0; i < 256; i++)
    for (int k = 0; k < 2; k++) {
      struct space_run run = pool_alloc (p, hint[k], 1);

      if (i > 0)
        assert_int_equal (run.blk, last[k] + 1);
      last[k] = run.blk;
    }
  pool_close (p);
}

/* What is given back comes together again. */
static void
test_freed (void **state)
{
  static struct space_run runs[40000];
  struct pool *p = pool_open ((uint64_t[]){ 20000, 20000, 0 }, 32, false);
  uint64_t seed = test_seed ();
  unsigned nr = 0;
  uint64_t fragments[SPACE_FRAGMENTS];

  UNUSED (state);
  for (uint64_t sum = 0; sum < 40000; sum += runs[nr++].nr)
    runs[nr] =
        pool_alloc (p, test_random (&seed) % 40, 1 + test_random (&seed) % 3);
  while (nr > 0) {
    unsigned i = (unsigned) (test_random (&seed) % nr);

    pool_free (p, test_random (&seed), runs[i]);
    runs[i] = runs[--nr];
  }
  pool_check (p, 0);
  space_fragments (p->sp, fragments);
  assert_int_equal (fragments[14], 2); /* 16384 to 32767: one a volume */
  assert_int_equal (space_volume_used (p->sp, 0), 0);
  pool_close (p);
}

/* ---- the last block ---- */

/* A pool full to the last charge: who holds units finds blocks for them, also
 * when other lanes hold what there is.
 */
static void
fill_to_the_last (const uint64_t *sizes, unsigned stripe, unsigned nr_retire)
{
  struct pool *p = pool_open (sizes, stripe, false);
  struct space_stat st = pool_stat (p);
  struct space_run *moving = calloc (st.nr_units + 1, sizeof *moving);

  for (unsigned i = 0; i < nr_retire; i++) {
    struct space_run run = pool_alloc (p, i, 1);

    space_retire (p->sp, &run);
  }
  assert_int_equal (pool_stat (p).nr_retired, nr_retire < st.nr_retire_max
                                                  ? nr_retire
                                                  : st.nr_retire_max);
  if (nr_retire > st.nr_retire_max)
    nr_retire = (unsigned) st.nr_retire_max;
  assert_int_equal (st.nr_charge_max + st.nr_units + st.nr_retire_max,
                    st.nr_blocks);
  for (uint64_t i = 0; i < st.nr_charge_max; i++) {
    struct space_run run = { 0 };

    assert_int_equal (space_charge (p->sp, 1), 0);
    assert_int_equal (space_alloc (p->sp, i, 1, &run), 0);
  }
  assert_int_equal (space_charge (p->sp, 1), ENOSPC);
  for (int round = 0; round < 20; round++) {
    for (uint64_t i = 0; i < st.nr_units; i++) {
      assert_int_equal (space_acquire (p->sp, 1, 0), 0);
      assert_int_equal (
          space_alloc (p->sp, i * 7 + (uint64_t) round, 1, &moving[i]), 0);
    }
    assert_int_equal (space_acquire (p->sp, 1, 0), ETIMEDOUT);
    for (uint64_t i = 0; i < st.nr_units; i++)
      space_free (p->sp, i, &moving[i], 1);
    space_release (p->sp, st.nr_units);
  }
  pool_check (p, st.nr_charge_max);
  free (moving);
  space_destroy (p->sp); /* owners were not kept */
  for (unsigned i = 0; i < p->nr_volumes; i++) {
    free (p->fake[i].owned);
    free (p->fake[i].trimming);
  }
  free (p);
}

static void
test_last_block (void **state)
{
  static const uint64_t sizes[] = { 32, 33, 63, 100, 1023, 1024, 5000, 40000 };

  UNUSED (state);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    fill_to_the_last ((uint64_t[]){ sizes[i], 0 }, 0, 0);
    fill_to_the_last ((uint64_t[]){ sizes[i], 32, 3 * sizes[i], 0 }, 0, 0);
    fill_to_the_last ((uint64_t[]){ sizes[i], 0 }, 1, 1);
  }
  for (uint64_t nr = 1; nr < 32; nr++)
    fill_to_the_last ((uint64_t[]){ nr, 0 }, 1, 0);
}

/* Retired blocks come out of the reserve: everything above still holds. */
static void
test_retire (void **state)
{
  UNUSED (state);
  fill_to_the_last ((uint64_t[]){ 32, 0 }, 0, 2);
  fill_to_the_last ((uint64_t[]){ 32, 0 }, 0, 3);
  fill_to_the_last ((uint64_t[]){ 1024, 0 }, 0, 63);
  fill_to_the_last ((uint64_t[]){ 1024, 0 }, 0, 64);
  fill_to_the_last ((uint64_t[]){ 1024, 64, 0 }, 0, 200);
}

/* A run above the cap is freed whole, and a smaller one still fits. */
static void
test_retire_runs (void **state)
{
  struct pool *p = pool_of (4096); /* reserve 256, cap 64 */
  struct space_run run = pool_alloc (p, 1, 60);
  struct space_run small = pool_alloc (p, 1, 4);
  struct space_run large = pool_alloc (p, 1, 5);
  struct space_run runs[SPACE_RETIRED_LISTED];

  UNUSED (state);
  assert_int_equal (space_retired (p->sp, runs), 0);
  space_retire (p->sp, &run);
  space_retire (p->sp, &large);
  assert_int_equal (pool_stat (p).nr_retired, 60);
  space_retire (p->sp, &small);
  assert_int_equal (pool_stat (p).nr_retired, 64);
  assert_int_equal (run.blk + run.nr, small.blk); /* neighbours are one */
  assert_int_equal (space_retired (p->sp, runs), 1);
  assert_int_equal (runs[0].blk, run.blk);
  assert_int_equal (runs[0].nr, run.nr + small.nr);
  pool_disown (p, &large);
  pool_check (p, 0);
  /* None of the retired ones is ever handed out. */
  for (uint64_t nr = 0; nr < 4096 - 64;)
    nr += pool_alloc (p, nr, 3).nr;
  pool_close (p);
}

/* Neighbours become one run, in the place of the first of them, in whatever
 * order they come; the others stay in theirs.
 */
static void
test_retire_joins (void **state)
{
  static const uint64_t order[] = { 20, 2, 6, 4, 10, 5, 3, 30, 9, 11 };
  static const struct space_run want[] = {
    { 20, 1 }, { 2, 5 }, { 9, 3 }, { 30, 1 }
  };
  struct pool *p = pool_of (4096);
  struct space_run all = pool_alloc (p, 1, 40);
  struct space_run runs[SPACE_RETIRED_LISTED];

  UNUSED (state);
  assert_int_equal (all.nr, 40);
  for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
    struct space_run one = { all.blk + order[i], 1 };

    space_retire (p->sp, &one);
  }
  assert_int_equal (space_retired (p->sp, runs), 4);
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal (runs[i].blk, all.blk + want[i].blk);
    assert_int_equal (runs[i].nr, want[i].nr);
  }
  assert_int_equal (pool_stat (p).nr_retired, 10);
  pool_close (p);
}

/* ---- sparse volumes ---- */

/* A window goes back when its last block is free, and not before. */
static void
test_windows (void **state)
{
  static struct space_run runs[2 * WINDOW_BLOCKS + 100];
  struct pool *p =
      pool_open ((uint64_t[]){ 2 * WINDOW_BLOCKS + 100, 0 }, 0, true);
  unsigned nr = 0;

  UNUSED (state);
  for (; nr < sizeof runs / sizeof runs[0]; nr++)
    runs[nr] = pool_alloc (p, 1, 1);
  for (unsigned i = 0; i < nr; i++) {
    unsigned trims;

    pool_free (p, i, runs[i]);
    space_drain (p->sp);
    trims = atomic_load (&p->fake[0].nr_trims);
    assert_int_equal (trims, (i + 1) / WINDOW_BLOCKS); /* not the last 100 */
  }
  pool_check (p, 0);
  pool_close (p);
}

/* Many runs of one window that come free together are one trim. */
static void
test_window_once (void **state)
{
  struct space_run runs[TRIM_MAX];
  struct pool *p = pool_open ((uint64_t[]){ TRIM_MAX, 0 }, 0, true);
  unsigned nr = 0;

  UNUSED (state);
  for (uint64_t nr_blocks = 0; nr_blocks < TRIM_MAX; nr_blocks += runs[nr++].nr)
    runs[nr] = pool_alloc (p, 1, 2);
  for (unsigned k = 0; k < 2; k++) /* even ones, then odd: none merge */
    for (unsigned i = k; i < nr; i += 2)
      if (runs[i].blk / WINDOW_BLOCKS == 3 ||
          (runs[i].blk + runs[i].nr - 1) / WINDOW_BLOCKS == 3)
        pool_free (p, 1, runs[i]);
  space_drain (p->sp);
  assert_int_equal (atomic_load (&p->fake[0].nr_trims), 1);
  pool_close (p);
}

/* A large run does not wait in a lane for others, and goes back as one. */
static void
test_window_at_once (void **state)
{
  struct pool *p = pool_open ((uint64_t[]){ 2 * TRIM_MAX, 0 }, 0, true);
  struct space_run run = { 0, TRIM_MAX };
  struct space_run small = { TRIM_MAX, 1 };

  UNUSED (state);
  for (uint64_t nr = 0; nr < 2 * TRIM_MAX;)
    nr += pool_alloc (p, 1, 256).nr;
  pool_disown (p, &run);
  pool_disown (p, &small);
  space_free (p->sp, 1, (struct space_run[]){ small, run }, 2);
  assert_int_equal (atomic_load (&p->fake[0].nr_trims), 1);
  pool_close (p);
}

static void *
drain_thread (void *arg)
{
  space_drain (arg);
  return NULL;
}

static void *
let_go_thread (void *arg)
{
  nap_ns (300 * NS_PER_MS);
  atomic_store ((atomic_bool *) arg, false);
  return NULL;
}

/* While windows are under trim none of their blocks is handed out; a writer
 * for whom there is nothing else waits.
 */
static void
test_under_trim (void **state)
{
  struct pool *p = pool_open ((uint64_t[]){ 2 * TRIM_MAX, 0 }, 0, true);
  struct fake *f = &p->fake[0];
  struct space_run run[8];
  pthread_t thread, other;
  struct space_run got;
  uint64_t nr = 0;

  UNUSED (state);
  for (unsigned i = 0; nr < 2 * TRIM_MAX; nr += run[i++].nr)
    run[i] = pool_alloc (p, 1, 128);
  for (unsigned i = 0; i < 4; i++)
    pool_free (p, 1, run[i]);
  atomic_store (&f->hold, true);
  pthread_create (&thread, NULL, drain_thread, p->sp);
  while (atomic_load (&f->nr_held) == 0)
    nap_ns (NS_PER_MS);
  /* The other blocks can be had. */
  for (unsigned i = 4; i < 7; i++)
    for (unsigned k = 0; k < 128; k += WINDOW_BLOCKS) /* no window is whole */
      pool_free (p, 2, (struct space_run){ run[i].blk + k, WINDOW_BLOCKS - 1 });
  for (nr = 0; nr < 3 * 8 * (WINDOW_BLOCKS - 1); nr += got.nr)
    got = pool_alloc (p, nr, 10);
  /* Now there is nothing but those under trim. */
  pthread_create (&other, NULL, let_go_thread, &f->hold);
  pool_alloc (p, 9, 10);
  pthread_join (thread, NULL);
  pthread_join (other, NULL);
  pool_close (p);
}

/* The memory of a sparse volume falls when what is in it is freed. */
static void
test_memory_goes_back (void **state)
{
  struct volume *v;
  struct space_config config = { .volumes = &v, .nr_volumes = 1 };
  struct space_run run[32];
  struct space *sp;
  static char page[256 * PAGE_BYTES];

  UNUSED (state);
  assert_int_equal (volume_open_memory ("mem", 32 * MIB, true, &v), 0);
  assert_int_equal (space_create (&config, &sp), 0);
  memset (page, 1, sizeof page);
  for (unsigned i = 0; i < 32; i++) {
    struct vio io = { .volume = v, .op = VIO_WRITE, .buf = page };

    assert_int_equal (space_alloc (sp, 1, 256, &run[i]), 0);
    io.off = space_off (run[i].blk);
    io.bytes = run[i].nr << PAGE_SHIFT;
    vio_start (NULL, &io);
  }
  assert_int_equal (test_memfd_blocks (0), 32 * MIB / 512);
  for (unsigned i = 0; i < 32; i += 2) {
    struct space_run part = { run[i].blk + 1, run[i].nr - 1 };

    space_free (sp, 1, &part, 1); /* its first window stays */
  }
  space_drain (sp);
  assert_int_equal (test_memfd_blocks (0), (16 + 1) * MIB / 512);
  for (unsigned i = 0; i < 32; i += 2) {
    struct space_run part = { run[i].blk, 1 };

    space_free (sp, 1, &part, 1);
  }
  space_drain (sp);
  assert_int_equal (test_memfd_blocks (0), 16 * MIB / 512);
  for (unsigned i = 1; i < 32; i += 2)
    space_free (sp, 1, &run[i], 1);
  space_drain (sp);
  assert_int_equal (test_memfd_blocks (0), 0);
  assert_null (space_check (sp, 0));
  space_destroy (sp);
  volume_close (v);
}

/* ---- what is refused ---- */

static void
test_config (void **state)
{
  static struct fake f;
  struct volume *volumes[VOLUMES_MAX + 1];
  struct space_config config = { .volumes = volumes };
  struct space *sp = NULL;

  UNUSED (state);
  for (unsigned i = 0; i <= VOLUMES_MAX; i++)
    volumes[i] = &f.v;
  fake_init (&f, 32, false);
  assert_int_equal (space_create (&config, &sp), EINVAL);
  config.nr_volumes = VOLUMES_MAX + 1;
  assert_int_equal (space_create (&config, &sp), EINVAL);
  config.nr_volumes = 1;
  config.stripe_blocks = 33;
  assert_int_equal (space_create (&config, &sp), EINVAL);
  assert_null (sp);
  config.stripe_blocks = 32;
  config.nr_volumes = VOLUMES_MAX;
  assert_int_equal (space_create (&config, &sp), 0);
  space_destroy (sp);
  space_destroy (NULL);
  free (f.owned);
  free (f.trimming);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_rotation),
    cmocka_unit_test (test_stripe),
    cmocka_unit_test (test_one_volume_full),
    cmocka_unit_test (test_runs),
    cmocka_unit_test (test_freed),
    cmocka_unit_test (test_last_block),
    cmocka_unit_test (test_retire),
    cmocka_unit_test (test_retire_runs),
    cmocka_unit_test (test_retire_joins),
    cmocka_unit_test (test_windows),
    cmocka_unit_test (test_window_once),
    cmocka_unit_test (test_window_at_once),
    cmocka_unit_test (test_under_trim),
    cmocka_unit_test (test_memory_goes_back),
    cmocka_unit_test (test_config),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
