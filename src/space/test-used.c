/* SPDX-License-Identifier: BSD-2-Clause */
/* A durable store's pool: blocks of its volumes that are not the pool's, and
 * blocks that are in use from the start.
 */

#include <config.h>

#include "test-pool.h"

#define EDGE_LAST 2u /* slots at a volume's end */

/* All that is not usable belongs to somebody: who is given it is caught. */
static struct pool *
open_edges (const uint64_t *sizes, const uint64_t *firsts,
            struct space_run *usable)
{
  struct pool *p;

  for (unsigned i = 0; sizes[i] != 0; i++)
    usable[i] = (struct space_run){ blkno_make (i, firsts[i]),
                                    sizes[i] - firsts[i] - EDGE_LAST };
  p = pool_open_usable (sizes, usable, 0, false);
  for (unsigned i = 0; i < p->nr_volumes; i++) {
    struct space_run head = { blkno_make (i, 0), firsts[i] };
    struct space_run tail = { blkno_make (i, sizes[i] - EDGE_LAST), EDGE_LAST };

    assert_true (firsts[i] == 0 || pool_own (p, &head));
    assert_true (pool_own (p, &tail));
  }
  return p;
}

/* Allocate everything that is left: nr blocks, each once, none of an edge. */
static void
drain_pool (struct pool *p, uint64_t nr)
{
  while (nr > 0)
    nr -= pool_alloc (p, nr, min_u64 (nr, 7)).nr;
  for (unsigned i = 0; i < p->nr_volumes; i++)
    for (uint64_t k = 0; k < p->fake[i].v.size_bytes >> PAGE_SHIFT; k++)
      assert_true (atomic_load (&p->fake[i].owned[k]));
}

static void
test_edges (void **state)
{
  struct space_run usable[FAKES_MAX];
  struct pool *p = open_edges ((uint64_t[]){ 2000, 700, 50, 0 },
                               (uint64_t[]){ 1000, 3, 0 }, usable);
  uint64_t nr_all = 998 + 695 + 48;
  uint64_t hist[SPACE_FRAGMENTS], nr_runs = 0;
  struct space_stat st = pool_stat (p);

  UNUSED (state);
  assert_int_equal (st.nr_blocks, nr_all);
  assert_int_equal (st.nr_charge_max + st.nr_units + st.nr_retire_max, nr_all);
  assert_int_equal (space_nr_units (p->sp), st.nr_units);
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal (space_volume_used (p->sp, i), 0);
  space_fragments (p->sp, hist);
  for (unsigned i = 0; i < SPACE_FRAGMENTS; i++)
    nr_runs += hist[i];
  assert_int_equal (nr_runs, 3);
  assert_int_equal (hist[9], 2); /* 998, 695 */
  assert_int_equal (hist[5], 1); /* 48 */
  pool_check (p, 0);
  drain_pool (p, nr_all);
  assert_int_equal (space_volume_used (p->sp, 0), 998);
  pool_close (p);
}

/* Reserve and limits follow the usable size, from tiny pools on. */
static void
test_limits (void **state)
{
  static const struct {
    uint64_t size, first, reserve;
  } pools[] = {
    { 34, 0, 8 },          /* 32 usable */
    { 1102, 1000, 25 },    /* 100 */
    { 3002, 1000, 256 },   /* 2000: 1 MiB */
    { 100002, 4000, 3000 } /* 96000: 1/32 */
  };

  UNUSED (state);
  for (unsigned i = 0; i < sizeof pools / sizeof *pools; i++) {
    struct space_run usable[FAKES_MAX];
    struct pool *p =
        open_edges ((uint64_t[]){ pools[i].size, 0 }, &pools[i].first, usable);
    uint64_t nr = pools[i].size - pools[i].first - EDGE_LAST;
    struct space_stat st = pool_stat (p);

    assert_int_equal (st.nr_blocks, nr);
    assert_int_equal (st.nr_charge_max, nr - pools[i].reserve);
    assert_int_equal (st.nr_retire_max, pools[i].reserve / 4);
    assert_int_equal (st.nr_units, pools[i].reserve - pools[i].reserve / 4);
    assert_int_equal (space_charge (p->sp, st.nr_charge_max + 1), ENOSPC);
    assert_int_equal (space_charge (p->sp, st.nr_charge_max), 0);
    drain_pool (p, nr);
    pool_close (p);
  }
}

/* ---- marking ---- */

static int
mark (struct pool *p, unsigned volume, uint64_t place, uint64_t nr)
{
  return space_mark_used (
      p->sp, &(struct space_run){ blkno_make (volume, place), nr });
}

/* What is not the pool's, or is marked already, is refused as a whole. */
static void
test_refused (void **state)
{
  struct space_run usable[FAKES_MAX];
  struct pool *p = open_edges ((uint64_t[]){ 1000, 300, 0 },
                               (uint64_t[]){ 100, 4, 0 }, usable);

  UNUSED (state);
  assert_int_equal (mark (p, 0, 200, 0), EINVAL);
  assert_int_equal (mark (p, 0, 0, 1), EINVAL);
  assert_int_equal (mark (p, 0, 99, 1), EINVAL);
  assert_int_equal (mark (p, 0, 99, 2), EINVAL);
  assert_int_equal (mark (p, 0, 997, 2), EINVAL);
  assert_int_equal (mark (p, 0, 998, 1), EINVAL);
  assert_int_equal (mark (p, 0, 100, 899), EINVAL);
  assert_int_equal (mark (p, 0, 100, UINT64_MAX), EINVAL);
  assert_int_equal (mark (p, 0, 100, UINT64_MAX - 99), EINVAL);
  assert_int_equal (mark (p, 0, BLKNO_PLACE_MAX, 1), EINVAL);
  assert_int_equal (mark (p, 1, 3, 1), EINVAL);
  assert_int_equal (mark (p, 1, 298, 1), EINVAL);
  assert_int_equal (mark (p, 2, 100, 1), EINVAL);
  assert_int_equal (mark (p, 0xfff, 100, 1), EINVAL);
  assert_int_equal (mark (p, 0x1000, 100, 1), EINVAL); /* bit 60 */
  pool_check (p, 0);

  assert_int_equal (mark (p, 0, 100, 1), 0);
  assert_int_equal (mark (p, 0, 997, 1), 0);
  assert_int_equal (mark (p, 1, 4, 294), 0);
  assert_int_equal (mark (p, 0, 100, 1), EINVAL);
  assert_int_equal (mark (p, 0, 100, 2), EINVAL);
  assert_int_equal (mark (p, 0, 101, 897), EINVAL);
  assert_int_equal (mark (p, 1, 297, 1), EINVAL);
  assert_int_equal (space_charge (p->sp, 296), 0);
  pool_check (p, 296);
  assert_int_equal (space_volume_used (p->sp, 0), 2);
  assert_int_equal (space_volume_used (p->sp, 1), 294);
  assert_int_equal (mark (p, 0, 101, 896), 0);
  assert_int_equal (space_volume_used (p->sp, 0), 898);
  pool_close (p);
}

/* One random pool: what was marked is never handed out, all else is, and what
 * was marked can be freed like any block.
 */
static void
random_pool (uint64_t *seed)
{
  struct space_run usable[FAKES_MAX], runs[200];
  uint64_t sizes[3] = { 300 + test_random (seed) % 3000,
                        40 + test_random (seed) % 1000 };
  struct pool *p = open_edges (
      sizes, (uint64_t[]){ test_random (seed) % 200, test_random (seed) % 6 },
      usable);
  uint64_t nr_all = usable[0].nr + usable[1].nr;
  uint64_t nr_marked = 0;
  unsigned nr_runs = 0;

  for (unsigned i = 0; i < 200; i++) {
    unsigned v = (unsigned) (test_random (seed) % 2);
    struct space_run run = { blkno_make (v, test_random (seed) % sizes[v]),
                             1 + test_random (seed) % 40 };
    bool good = blkno_place (run.blk) + run.nr <= sizes[v];

    for (uint64_t k = 0; good && k < run.nr; k++)
      good = !atomic_load (&p->fake[v].owned[blkno_place (run.blk) + k]);
    assert_int_equal (space_mark_used (p->sp, &run), good ? 0 : EINVAL);
    if (good) {
      assert_true (pool_own (p, &run));
      nr_marked += run.nr;
      runs[nr_runs++] = run;
    }
  }
  assert_int_equal (space_nr_marked (p->sp), nr_marked);
  if (space_charge (p->sp, nr_marked) == 0)
    pool_check (p, nr_marked);
  drain_pool (p, nr_all - nr_marked);
  for (unsigned i = 0; i < nr_runs; i++)
    pool_free (p, i, runs[i]);
  space_drain (p->sp);
  drain_pool (p, nr_marked);
  pool_close (p);
}

static void
test_random_marks (void **state)
{
  uint64_t seed = test_seed ();

  UNUSED (state);
  for (int i = 0; i < 200; i++)
    random_pool (&seed);
}

/* ---- what is refused at create ---- */

static void
test_config (void **state)
{
  static struct fake f;
  struct volume *volumes[] = { &f.v };
  struct space_run usable;
  struct space_config config = { .volumes = volumes,
                                 .nr_volumes = 1,
                                 .usable = &usable };
  static const struct space_run bad[] = {
    { 0, 101 },
    { 101, 0 },
    { 1, 100 },
    { 90, 10 } /* less than a stripe */,
    { 100, 0 },
    { 4, UINT64_MAX },
    { UINT64_C (1) << 48, 50 },
    { UINT64_C (1) << 60, 50 },
  };
  struct space *sp;

  UNUSED (state);
  fake_init (&f, 100, false);
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    usable = bad[i];
    assert_int_equal (space_create (&config, &sp), EINVAL);
  }
  usable = (struct space_run){ 68, 32 };
  assert_int_equal (space_create (&config, &sp), 0);
  space_destroy (sp);
  free (f.owned);
  free (f.trimming);
}

/* ---- retired before ---- */

static int
mark_retired (struct pool *p, uint64_t place, uint64_t nr)
{
  return space_mark_retired (p->sp,
                             &(struct space_run){ blkno_make (0, place), nr });
}

/* What a process before this one has retired is as if this one had. */
static void
test_retired (void **state)
{
  struct space_run usable[FAKES_MAX], runs[SPACE_RETIRED_LISTED];
  struct pool *p =
      open_edges ((uint64_t[]){ 1102, 0 }, (uint64_t[]){ 78, 0 }, usable);
  struct space_stat st = pool_stat (p), is; /* 1022: reserve 255, of it 63 */

  UNUSED (state);
  assert_int_equal (st.nr_retire_max, 63);
  assert_int_equal (mark (p, 0, 200, 50), 0);
  assert_int_equal (mark_retired (p, 77, 1), EINVAL);
  assert_int_equal (mark_retired (p, 1099, 2), EINVAL);
  assert_int_equal (mark_retired (p, 195, 6), EINVAL);
  assert_int_equal (mark_retired (p, 249, 1), EINVAL);
  assert_int_equal (pool_stat (p).nr_retired, 0);
  assert_int_equal (mark_retired (p, 250, 60), 0);
  assert_int_equal (mark_retired (p, 198, 2), 0);
  assert_int_equal (mark_retired (p, 199, 1), EINVAL);
  assert_int_equal (mark_retired (p, 1099, 1), 0);
  is = pool_stat (p);
  assert_int_equal (is.nr_retired, 63);
  assert_int_equal (is.nr_retire_max, 63);
  assert_int_equal (is.nr_charge_max, st.nr_charge_max);
  assert_int_equal (space_retired (p->sp, runs), 3);
  assert_int_equal (runs[1].blk, 198);
  assert_int_equal (runs[1].nr, 2);
  assert_int_equal (space_charge (p->sp, 50), 0);
  pool_check (p, 50);
  for (uint64_t nr = 1022 - 50 - 63; nr > 0;)
    nr -= pool_alloc (p, nr, min_u64 (nr, 7)).nr;
  for (uint64_t i = 198; i < 310; i++) /* nobody was given one */
    assert_false (atomic_load (&p->fake[0].owned[i]));
  assert_int_equal (space_volume_used (p->sp, 0), 1022);
  pool_close (p);
}

/* More than the reserve has for them come out of what can be promised, as far
 * as it is not; everything still adds up.
 */
static void
test_retired_many (void **state)
{
  struct space_run usable[FAKES_MAX];
  struct pool *p =
      open_edges ((uint64_t[]){ 1102, 0 }, (uint64_t[]){ 78, 0 }, usable);
  struct space_stat st = pool_stat (p), is;

  UNUSED (state);
  assert_int_equal (space_charge (p->sp, st.nr_charge_max - 100), 0);
  assert_int_equal (mark_retired (p, 500, 164), ENOSPC);
  assert_int_equal (pool_stat (p).nr_retired, 0);
  assert_int_equal (mark_retired (p, 500, 13), 0);
  assert_int_equal (mark_retired (p, 600, 150), 0);
  is = pool_stat (p);
  assert_int_equal (is.nr_retired, 163);
  assert_int_equal (is.nr_retire_max, 163);
  assert_int_equal (is.nr_charge_max, st.nr_charge_max - 100);
  assert_int_equal (is.nr_charge_max + is.nr_units + is.nr_retire_max, 1022);
  assert_int_equal (mark_retired (p, 900, 1), ENOSPC);
  assert_int_equal (space_charge (p->sp, 1), ENOSPC);
  space_retire (p->sp, &(struct space_run){ pool_alloc (p, 1, 1).blk, 1 });
  assert_int_equal (pool_stat (p).nr_retired, 163); /* freed */
  pool_check (p, 0);
  pool_close (p);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_edges),        cmocka_unit_test (test_limits),
    cmocka_unit_test (test_refused),      cmocka_unit_test (test_random_marks),
    cmocka_unit_test (test_config),       cmocka_unit_test (test_retired),
    cmocka_unit_test (test_retired_many),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
