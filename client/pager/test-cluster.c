/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of blocks around a page, against a plain array of the same entries. */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster.h"
#include "test-util.h"

#define PAGES      2600u /* five shards and a bit */
#define ZONE_BYTES (UINT64_C (4) << 20)
#define STEPS      60000u

static struct swzone *zone;
static struct swmeta *map;
static uint64_t plain[PAGES]; /* words */

static int
set_up (void **state)
{
  (void) state;
  memset (plain, 0, sizeof plain);
  return swzone_create (sizeof (uint64_t), ZONE_BYTES, &zone) ||
         swmeta_create (zone, PAGES, &map);
}

static int
tear_down (void **state)
{
  (void) state;
  swmeta_destroy (map);
  swzone_destroy (zone);
  return 0;
}

static void
ignore (void *arg, const struct swmeta_run *run)
{
  (void) arg;
  (void) run;
}

/* Words that rise by one for blocks, else stay; 0 takes entries out. */
static void
lay (pgno_t pgno, uint64_t nr, uint64_t word)
{
  bool is_block = swmeta_kind (word) == SWMETA_BLOCK;

  for (uint64_t i = 0; i < nr; i++) {
    uint64_t w = word + (is_block ? i : 0);

    plain[pgno + i] = w;
    if (w == 0)
      swmeta_free (map, pgno + i, 1, ignore, NULL);
    else
      assert_int_equal (swmeta_build (map, pgno + i, 1, &w, ignore, NULL), 0);
  }
}

static void
lay_blocks (pgno_t pgno, uint64_t nr, blkno_t blk)
{
  lay (pgno, nr, swmeta_word (SWMETA_BLOCK, blk));
}

/* ---- the plain way ---- */

static bool
plain_next (pgno_t pgno)
{
  uint64_t a = plain[pgno], b = plain[pgno + 1];

  return swmeta_kind (a) == SWMETA_BLOCK && swmeta_kind (b) == SWMETA_BLOCK &&
         blkno_volume (a) == blkno_volume (b) &&
         blkno_place (a) + 1 == blkno_place (b);
}

static bool
plain_has (pgno_t req, uint64_t max, uint64_t *before, uint64_t *after)
{
  *before = *after = 0;
  if (req >= PAGES || plain[req] == 0)
    return false;
  while (*before < max && req > *before && plain_next (req - *before - 1))
    ++*before;
  while (*after < max && req + *after + 1 < PAGES && plain_next (req + *after))
    ++*after;
  return true;
}

/* A page from each side in turn, the later one first, while there is room. */
static bool
plain_around (pgno_t first, uint64_t count, pgno_t req, uint64_t max,
              pgno_t *from, uint64_t *nr)
{
  pgno_t low = req, high = req;
  bool grew = true;

  if (req < first || req >= first + count || req >= PAGES || plain[req] == 0)
    return false;
  while (grew && high - low + 1 < max) {
    grew = false;
    if (high + 1 < first + count && high + 1 < PAGES && plain_next (high)) {
      high++;
      grew = true;
    }
    if (high - low + 1 < max && low > first && plain_next (low - 1)) {
      low--;
      grew = true;
    }
  }
  *from = low;
  *nr = high - low + 1;
  return true;
}

static void
compare (pgno_t first, uint64_t count, pgno_t req, uint64_t max)
{
  uint64_t nr = 0, nr_plain = 0, before, after, b, a;
  pgno_t from = 0, from_plain = 0;
  bool is = cluster_around (map, first, count, req, max, &from, &nr);

  assert_int_equal (
      is, plain_around (first, count, req, max, &from_plain, &nr_plain));
  assert_int_equal (from, from_plain);
  assert_int_equal (nr, nr_plain);
  if (is)
    assert_true (from >= first && from <= req && req < from + nr && nr <= max);
  is = cluster_has (map, req, max, &before, &after);
  assert_int_equal (is, plain_has (req, max, &b, &a));
  if (is) {
    assert_int_equal (before, b);
    assert_int_equal (after, a);
  }
}

static void
expect (pgno_t req, uint64_t max, pgno_t from, uint64_t nr)
{
  pgno_t got_from;
  uint64_t got_nr;

  assert_true (cluster_around (map, 0, PAGES, req, max, &got_from, &got_nr));
  assert_int_equal (got_from, from);
  assert_int_equal (got_nr, nr);
  compare (0, PAGES, req, max);
}

/* ---- tests ---- */

/* A row over three shards, and over swblocks, is one. */
static void
test_crosses (void **state)
{
  uint64_t before, after;

  (void) state;
  lay_blocks (500, 600, 7000); /* 500 .. 1099: 512 and 1024 are within */
  expect (512, 16, 505, 16);
  expect (511, 16, 504, 16);
  expect (1024, 512, 588, 512);
  expect (800, 512, 545, 512);
  assert_true (cluster_has (map, 511, 7, &before, &after));
  assert_true (before == 7 && after == 7);
  assert_true (cluster_has (map, 800, 600, &before, &after));
  assert_true (before == 300 && after == 299);
}

static void
test_even (void **state)
{
  (void) state;
  lay_blocks (100, 64, 7000);
  expect (130, 16, 123, 16); /* 7 before, 8 after */
  expect (130, 17, 122, 17); /* 8 and 8 */
  expect (130, 2, 130, 2);
  expect (130, 1, 130, 1);
  expect (102, 16, 100, 16); /* what one side has not, the other gets */
  expect (161, 16, 148, 16);
  expect (130, 64, 100, 64);
}

/* The wanted page first or last: of the row, of the map, of the wish. */
static void
test_ends (void **state)
{
  pgno_t from;
  uint64_t nr;

  (void) state;
  lay_blocks (0, 20, 7000);
  lay_blocks (PAGES - 20, 20, 9000);
  expect (0, 16, 0, 16);
  expect (19, 16, 4, 16);
  expect (PAGES - 1, 16, PAGES - 16, 16);
  expect (PAGES - 20, 16, PAGES - 20, 16);
  assert_true (cluster_around (map, 5, 4, 5, 16, &from, &nr));
  assert_true (from == 5 && nr == 4);
  assert_true (cluster_around (map, 5, 4, 8, 16, &from, &nr));
  assert_true (from == 5 && nr == 4);
  assert_true (cluster_around (map, 5, UINT64_MAX, 8, 16, &from, &nr));
  assert_true (from == 5 && nr == 15);
}

static void
test_none (void **state)
{
  pgno_t from = 77;
  uint64_t nr = 78, after = 79;

  (void) state;
  lay_blocks (10, 4, 7000);
  assert_false (cluster_around (map, 0, PAGES, 14, 16, &from, &nr));
  assert_false (cluster_around (map, 0, 10, 10, 16, &from, &nr));
  assert_false (cluster_around (map, 11, 5, 10, 16, &from, &nr));
  assert_false (cluster_around (map, 10, 0, 10, 16, &from, &nr));
  assert_false (cluster_around (map, 0, UINT64_MAX, PAGES, 16, &from, &nr));
  assert_false (cluster_has (map, UINT64_MAX, 7, &nr, &after));
  assert_false (cluster_has (map, 9, 7, &nr, &after));
  assert_true (from == 77 && nr == 78 && after == 79);
  assert_true (cluster_around (map, 0, PAGES, 11, 0, &from, &nr));
  assert_true (from == 11 && nr == 1);
}

/* Not a row: the first place of the next volume, the same block again, one
 * that lies before, entries that are no blocks.
 */
static void
test_breaks (void **state)
{
  (void) state;
  lay_blocks (500, 12, blkno_make (0, BLKNO_PLACE_MAX - 11));
  lay_blocks (512, 4, blkno_make (1, 0));
  expect (511, 16, 500, 12);
  expect (512, 16, 512, 4);
  lay_blocks (1020, 4, 100);
  lay_blocks (1024, 4, 103);
  expect (1023, 16, 1020, 4);
  expect (1024, 16, 1024, 4);
  lay (1530, 12, swmeta_word (SWMETA_ZERO, 5));
  expect (1535, 16, 1535, 1);
  lay_blocks (1542, 3, 6);
  expect (1542, 16, 1542, 3);
}

/* No more than CLUSTER_PAGES_MAX, whatever is asked. */
static void
test_most (void **state)
{
  pgno_t from;
  uint64_t nr;

  (void) state;
  lay_blocks (0, 2000, 7000);
  assert_true (cluster_around (map, 0, PAGES, 1000, UINT64_MAX, &from, &nr));
  assert_int_equal (nr, CLUSTER_PAGES_MAX);
  assert_int_equal (from, 1000 - 255);
}

/* Long and short rows that often go on from what lies there. */
static void
random_lay (uint64_t *random)
{
  pgno_t pgno = test_random_below (random, PAGES);
  uint64_t most = test_random_below (random, 4) == 0 ? 700 : 20;
  uint64_t nr = min_u64 (1 + test_random_below (random, most), PAGES - pgno);
  unsigned what = test_random_below (random, 10);

  if (what == 0)
    lay (pgno, nr, 0);
  else if (what == 1)
    lay (pgno, min_u64 (nr, 20), swmeta_word (SWMETA_ZERO, 40));
  else if (what == 2)
    lay_blocks (pgno, nr, 1 + test_random_below (random, 50000));
  else
    lay_blocks (pgno, nr, 10000 + pgno);
}

static void
test_random (void **state)
{
  uint64_t random = test_seed () | 1;
  uint64_t nr_long = 0;

  (void) state;
  for (unsigned i = 0; i < STEPS; i++) {
    pgno_t first, req;
    uint64_t count, max, before, after;

    if (i % 16 == 0)
      random_lay (&random);
    first = test_random_below (&random, PAGES);
    req = first + test_random_below (&random, 64);
    count = 1 + test_random_below (&random, i % 2 == 0 ? 80 : 1500);
    max = 1 + test_random_below (&random, i % 3 == 0 ? CLUSTER_PAGES_MAX : 32);
    compare (first, count, req, max);
    if (cluster_has (map, min_u64 (req, PAGES - 1), 1200, &before, &after) &&
        before + after > SHARD_PAGES)
      nr_long++;
  }
  assert_null (swmeta_check (map));
  print_message ("%u wishes, %" PRIu64 " of them in rows longer than a shard\n",
                 STEPS, nr_long);
  assert_true (nr_long > 100);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_crosses, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_even, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_ends, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_none, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_breaks, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_most, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_random, set_up, tear_down),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
