/* SPDX-License-Identifier: BSD-2-Clause */
/* blist: what it promises, one thing at a time. */

#include <config.h>

#include "blist.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define assert_sound(bl) assert_null (blist_check (bl))

/* Sizes around the ends of leaves and subtrees. */
static const uint64_t sizes[] = {
  0,
  1,
  2,
  63,
  64,
  65,
  127,
  128,
  4095,
  4096,
  4097,
  262143,
  262144,
  262145,
  (1 << 24) - 1,
  1 << 24,
  (1 << 24) + 1,
};
#define NR_SIZES (sizeof sizes / sizeof sizes[0])

static struct blist *
new_blist (uint64_t nr_blocks)
{
  struct blist *bl = NULL;

  assert_int_equal (blist_create (nr_blocks, &bl), 0);
  assert_non_null (bl);
  return bl;
}

/* All taken but for one run. */
static struct blist *
new_with_run (uint64_t nr_blocks, uint64_t start, uint64_t count)
{
  struct blist *bl = new_blist (nr_blocks);
  uint64_t nr;

  assert_int_equal (blist_fill (bl, 0, nr_blocks, &nr), 0);
  assert_int_equal (nr, nr_blocks);
  assert_int_equal (blist_free (bl, start, count), 0);
  return bl;
}

/* Free every second of the last 2 n blocks: space enough for any search to be
 * made, and none that a search for 2 or more finds.
 */
static void
free_singles (struct blist *bl, uint64_t n)
{
  uint64_t nr_blocks = blist_nr_blocks (bl);

  for (uint64_t i = 0; i < n; i++)
    assert_int_equal (blist_free (bl, nr_blocks - 1 - 2 * i, 1), 0);
}

static void
assert_alloc (struct blist *bl, uint64_t at_least, uint64_t at_most,
              uint64_t start, uint64_t count)
{
  uint64_t s = 77, c = 78;

  assert_int_equal (blist_alloc (bl, at_least, at_most, &s, &c), 0);
  assert_int_equal (s, start);
  assert_int_equal (c, count);
  assert_sound (bl);
}

static void
assert_no_space (struct blist *bl, uint64_t at_least)
{
  uint64_t s = 77, c = 78;

  assert_int_equal (blist_alloc (bl, at_least, UINT64_MAX, &s, &c), ENOSPC);
  assert_int_equal (s, 77);
  assert_int_equal (c, 78);
  assert_sound (bl);
}

/* ---- edges ---- */

static void
test_sizes (void **state)
{
  (void) state;
  for (size_t i = 0; i < NR_SIZES; i++) {
    uint64_t nr = sizes[i];
    struct blist *bl = new_blist (nr);

    assert_sound (bl);
    assert_int_equal (blist_nr_blocks (bl), nr);
    assert_int_equal (blist_nr_free (bl), nr);
    assert_no_space (bl, nr + 1);
    if (nr > 0) {
      assert_alloc (bl, nr, nr, 0, nr);
      assert_no_space (bl, 1);
      assert_int_equal (blist_free (bl, nr - 1, 1), 0);
      assert_sound (bl);
      assert_alloc (bl, 1, 16, nr - 1, 1);
      assert_int_equal (blist_free (bl, 0, nr), 0);
      assert_alloc (bl, 1, UINT64_MAX, 0, nr);
      assert_int_equal (blist_nr_free (bl), 0);
    }
    blist_destroy (bl);
  }
  blist_destroy (NULL);
}

static void
test_bad_arguments (void **state)
{
  struct blist *bl = new_blist (100), *none = NULL;
  uint64_t s = 77, c = 78, nr = 79;

  (void) state;
  assert_int_equal (blist_create (BLIST_BLOCKS_MAX + 1, &none), EINVAL);
  assert_null (none);
  assert_int_equal (blist_alloc (bl, 0, 1, &s, &c), EINVAL);
  assert_int_equal (blist_alloc (bl, 2, 1, &s, &c), EINVAL);
  assert_int_equal (blist_fill (bl, 99, 2, &nr), EINVAL);
  assert_int_equal (blist_fill (bl, UINT64_MAX, 2, &nr), EINVAL);
  assert_int_equal (blist_fill (bl, 1, UINT64_MAX, &nr), EINVAL);
  assert_int_equal (blist_grow (bl, 99), EINVAL);
  assert_int_equal (blist_grow (bl, BLIST_BLOCKS_MAX + 1), EINVAL);
  assert_int_equal (s, 77);
  assert_int_equal (c, 78);
  assert_int_equal (nr, 79);
  assert_false (blist_is_free (bl, 99, 2));
  assert_false (blist_is_free (bl, UINT64_MAX, 2));
  assert_true (blist_is_free (bl, 0, 100));
  assert_int_equal (blist_nr_free (bl), 100);
  assert_sound (bl);
  blist_destroy (bl);
}

/* A run over the border of a leaf and of subtrees of every height. */
static void
test_run_crosses (void **state)
{
  (void) state;
  for (uint64_t border = 64; border <= 1 << 24; border *= 64) {
    struct blist *bl = new_with_run ((1 << 24) + 100, border - 3, 8);

    free_singles (bl, 20);
    assert_no_space (bl, 9); /* lowers all bounds to 9 */
    assert_int_equal (blist_free (bl, border - 20, 2), 0);
    assert_no_space (bl, 9);
    assert_alloc (bl, 8, 8, border - 3, 8);
    assert_no_space (bl, 3);
    assert_int_equal (blist_free (bl, border - 1, 2), 0);
    assert_alloc (bl, 2, 100, border - 20, 2);
    assert_alloc (bl, 2, 100, border - 1, 2);
    assert_no_space (bl, 2);
    blist_destroy (bl);
  }
}

/* Bounds of the nodes on both sides of a border say "too small", the run over
 * it is not; one half was there when the search lowered the bounds.
 */
static void
run_between_small_bounds (uint64_t half, bool left_first)
{
  const uint64_t border = 64 * 4096;
  const uint64_t left = border - half, right = border;
  struct blist *bl = new_with_run (3 * border, left_first ? left : right, half);

  free_singles (bl, half + 1);
  assert_no_space (bl, half + 1);
  assert_int_equal (blist_free (bl, left_first ? right : left, half), 0);
  assert_no_space (bl, 2 * half + 1);
  blist_seek (bl, 0);
  assert_alloc (bl, 2 * half, 2 * half, left, 2 * half);
  blist_destroy (bl);
}

static void
test_run_between_small_bounds (void **state)
{
  (void) state;
  for (uint64_t half = 1; half <= 5000; half = half * 3 + 1) {
    run_between_small_bounds (half, true);
    run_between_small_bounds (half, false);
  }
}

static void
test_long_runs (void **state)
{
  static const uint64_t lens[] = { 64, 65, 127, 128, 129, 1000, 4096, 9000 };

  (void) state;
  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
    for (uint64_t start = 0; start < 200; start += 13) {
      struct blist *bl = new_with_run (20000, start, lens[i]);

      assert_no_space (bl, lens[i] + 1);
      assert_alloc (bl, lens[i] - 1, lens[i] - 1, start, lens[i] - 1);
      assert_alloc (bl, 1, 64, start + lens[i] - 1, 1);
      assert_no_space (bl, 1);
      blist_destroy (bl);
    }
}

static void
test_cursor (void **state)
{
  struct blist *bl = new_blist (1000);

  (void) state;
  assert_alloc (bl, 1, 10, 0, 10);
  assert_alloc (bl, 1, 10, 10, 10);
  blist_seek (bl, 995);
  assert_alloc (bl, 1, 10, 995, 5); /* cut at the end */
  assert_alloc (bl, 1, 10, 20, 10); /* turned */
  blist_seek (bl, 993);
  assert_alloc (bl, 3, 10, 30, 10); /* 2 are not enough */
  blist_seek (bl, 990);
  assert_alloc (bl, 1, 1, 990, 1);
  assert_int_equal (blist_free (bl, 0, 40), 0);
  blist_seek (bl, 35);
  assert_alloc (bl, 2, 955, 35, 955); /* the part behind the cursor */
  assert_alloc (bl, 1, 1, 991, 1);
  blist_seek (bl, 20);
  assert_alloc (bl, 35, 35, 0, 35); /* turned, a run over the cursor */
  blist_seek (bl, 1000);            /* the end means the start */
  assert_int_equal (blist_free (bl, 7, 1), 0);
  assert_alloc (bl, 1, 1, 7, 1);
  blist_seek (bl, UINT64_MAX);
  assert_alloc (bl, 1, 1, 992, 1);
  blist_destroy (bl);
}

static void
test_bad_free_changes_nothing (void **state)
{
  struct blist *bl = new_with_run (20000, 5000, 1);
  uint64_t start, count;

  (void) state;
  assert_int_equal (blist_free (bl, 5000, 1), EINVAL);
  assert_int_equal (blist_free (bl, 0, 20000), EINVAL);
  assert_int_equal (blist_free (bl, 4990, 11), EINVAL);
  assert_int_equal (blist_free (bl, 5000, 64), EINVAL);
  assert_int_equal (blist_free (bl, 19999, 2), EINVAL);
  assert_int_equal (blist_free (bl, 20000, 1), EINVAL);
  assert_int_equal (blist_free (bl, 20001, 0), EINVAL);
  assert_int_equal (blist_free (bl, 10, UINT64_MAX - 5), EINVAL);
  assert_int_equal (blist_free (bl, 20000, 0), 0);
  assert_int_equal (blist_nr_free (bl), 1);
  assert_sound (bl);
  assert_int_equal (blist_alloc (bl, 1, 1, &start, &count), 0);
  assert_int_equal (start, 5000);
  assert_int_equal (blist_free (bl, 0, 20000), 0);
  assert_int_equal (blist_nr_free (bl), 20000);
  assert_sound (bl);
  blist_destroy (bl);
}

static void
test_fill (void **state)
{
  struct blist *bl = new_blist (300000);
  uint64_t nr = 77;

  (void) state;
  assert_int_equal (blist_fill (bl, 10, 5, &nr), 0);
  assert_int_equal (nr, 5);
  assert_int_equal (blist_fill (bl, 0, 20, &nr), 0);
  assert_int_equal (nr, 15);
  assert_int_equal (blist_fill (bl, 0, 20, &nr), 0);
  assert_int_equal (nr, 0);
  assert_int_equal (blist_fill (bl, 100, 299000, &nr), 0);
  assert_int_equal (nr, 299000);
  assert_sound (bl);
  assert_int_equal (blist_fill (bl, 0, 300000, &nr), 0);
  assert_int_equal (nr, 300000 - 299000 - 20);
  assert_int_equal (blist_fill (bl, 300000, 0, &nr), 0);
  assert_int_equal (nr, 0);
  assert_int_equal (blist_nr_free (bl), 0);
  assert_sound (bl);
  blist_destroy (bl);
}

/* From every size to every larger one: empty, full, and with a bound known. */
static void
grow_from_to (uint64_t from, uint64_t to, unsigned how)
{
  struct blist *bl = new_blist (from);
  uint64_t nr, taken = 0;

  if (how > 0) {
    assert_int_equal (blist_fill (bl, 0, from, &taken), 0);
    if (how == 2 && from > 0) {
      assert_int_equal (blist_free (bl, from - 1, 1), 0);
      taken--;
      assert_no_space (bl, 2);
    }
  }
  assert_int_equal (blist_grow (bl, to), 0);
  assert_sound (bl);
  assert_int_equal (blist_nr_blocks (bl), to);
  assert_int_equal (blist_nr_free (bl), to - taken);
  assert_true (blist_is_free (bl, taken, to - taken));
  assert_int_equal (blist_fill (bl, 0, taken, &nr), 0);
  assert_int_equal (nr, 0);
  if (to > taken)
    assert_alloc (bl, to - taken, to, taken, to - taken);
  blist_destroy (bl);
}

static void
test_grow (void **state)
{
  (void) state;
  for (size_t i = 0; i < NR_SIZES; i++)
    for (size_t k = i; k < NR_SIZES && sizes[k] < 300000; k++)
      for (unsigned how = 0; how < 3; how++)
        grow_from_to (sizes[i], sizes[k], how);
  grow_from_to (1 << 24, (1 << 24) + 1, 1);
}

/* In pieces of any length it is the same as at once. */
static void
expect_parts (const struct blist *bl, const uint64_t expect[BLIST_HIST])
{
  static const uint64_t lengths[] = { 1, 3, 64, 1000, 299999, UINT64_MAX };

  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    uint64_t hist[BLIST_HIST] = { 0 }, next = 0, run = 0, nr_parts = 0;

    while (next < blist_nr_blocks (bl)) {
      blist_histogram_part (bl, lengths[i], &next, &run, hist);
      nr_parts++;
    }
    assert_int_equal (run, 0);
    assert_int_equal (nr_parts, (blist_nr_blocks (bl) - 1) / lengths[i] + 1);
    assert_memory_equal (hist, expect, sizeof hist);
  }
}

static void
test_histogram (void **state)
{
  uint64_t hist[BLIST_HIST], expect[BLIST_HIST] = { 0 };
  struct blist *bl = new_with_run (300000, 0, 1);

  (void) state;
  blist_free (bl, 2, 2);
  blist_free (bl, 5, 3);
  blist_free (bl, 60, 8);
  blist_free (bl, 4000, 200000);
  expect[0] = 1;
  expect[1] = 2;
  expect[3] = 1;
  expect[17] = 1;
  blist_histogram (bl, hist);
  assert_memory_equal (hist, expect, sizeof hist);
  expect_parts (bl, expect);
  blist_free (bl, 299990, 10); /* to the very end */
  expect[3]++;
  expect_parts (bl, expect);
  blist_destroy (bl);

  bl = new_blist (0);
  memset (expect, 0, sizeof expect);
  blist_histogram (bl, hist);
  assert_memory_equal (hist, expect, sizeof hist);
  blist_destroy (bl);
}

static void
test_dump (void **state)
{
  struct blist *bl = new_with_run (5000, 4100, 3);
  char *text = NULL;
  size_t len = 0;
  FILE *fp = open_memstream (&text, &len);

  (void) state;
  assert_non_null (fp);
  blist_dump (bl, fp);
  fclose (fp);
  assert_non_null (strstr (text, "5000 blocks, 3 free"));
  assert_non_null (strstr (text, "level 0 block 4096 used ffffffffffffff8f"));
  assert_non_null (strstr (text, "level 1 block 4096"));
  free (text);
  blist_destroy (bl);
}

static void
test_memory (void **state)
{
  struct blist *bl = new_blist (1 << 24);

  (void) state;
  assert_true (blist_bytes (bl) * 8.0 / (1 << 24) <= 2.25);
  blist_destroy (bl);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_sizes),
    cmocka_unit_test (test_bad_arguments),
    cmocka_unit_test (test_run_crosses),
    cmocka_unit_test (test_run_between_small_bounds),
    cmocka_unit_test (test_long_runs),
    cmocka_unit_test (test_cursor),
    cmocka_unit_test (test_bad_free_changes_nothing),
    cmocka_unit_test (test_fill),
    cmocka_unit_test (test_grow),
    cmocka_unit_test (test_histogram),
    cmocka_unit_test (test_dump),
    cmocka_unit_test (test_memory),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
