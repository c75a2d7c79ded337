/* SPDX-License-Identifier: BSD-2-Clause */
/* What is read together: the rules one by one, and at random that what is
 * promised of every plan holds.  What is read ahead: streams.
 */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "file-plan.h"
#include "test-util.h"

#define STEPS 200000u
#define FAR   UINT64_MAX

static void
expect (struct file_plan p, unsigned behind, unsigned ahead, unsigned want_b,
        unsigned want_a)
{
  file_plan (&p, &behind, &ahead);
  assert_int_equal (behind, want_b);
  assert_int_equal (ahead, want_a);
}

static void
test_plan (void **state)
{
  (void) state;
  /* nr_pages, first, count, before, after, block, max */
  expect ((struct file_plan){ 100, 50, 1, 7, 9, 1, 64 }, 16, 16, 7, 9);
  expect ((struct file_plan){ 100, 50, 4, 7, 9, 1, 64 }, 3, 16, 3, 6);
  expect ((struct file_plan){ 100, 2, 1, FAR, FAR, 1, 64 }, 16, 0, 2, 0);
  expect ((struct file_plan){ 100, 97, 2, FAR, FAR, 1, 64 }, 0, 16, 0, 1);
  expect ((struct file_plan){ 100, 50, 4, FAR, 1, 1, 64 }, 0, 16, 0, 0);
  /* Too long: evenly. */
  expect ((struct file_plan){ 1000, 500, 2, FAR, FAR, 1, 12 }, 10, 10, 5, 5);
  expect ((struct file_plan){ 1000, 500, 12, FAR, FAR, 1, 12 }, 9, 9, 0, 0);
  expect ((struct file_plan){ 1000, 500, 2, FAR, FAR, 1, 32 }, 60, 20, 23, 7);
  /* Behind was whole blocks: it still is. */
  expect ((struct file_plan){ 1000, 512, 1, 64, FAR, 16, 65 }, 64, 64, 32, 32);
  expect ((struct file_plan){ 1000, 512, 1, 64, FAR, 16, 100 }, 64, 64, 48, 51);
  expect ((struct file_plan){ 1000, 512, 1, 65, FAR, 16, 100 }, 64, 64, 50, 49);
  expect ((struct file_plan){ 1000, 512, 1, 8, FAR, 16, 4 }, 8, 8, 0, 3);
}

static void
test_plan_random (void **state)
{
  uint64_t random = test_seed ();

  (void) state;
  for (unsigned i = 0; i < STEPS; i++) {
    struct file_plan p = { .nr_pages = 1 + test_random_below (&random, 300),
                           .before = test_random_below (&random, 40),
                           .after = test_random_below (&random, 40),
                           .block_pages = 1u << test_random_below (&random, 5),
                           .max = 1 + test_random_below (&random, 40) };
    unsigned behind = test_random_below (&random, 50), b = behind;
    unsigned ahead = test_random_below (&random, 50), a = ahead, max;

    p.first = test_random_below (&random, p.nr_pages);
    p.count =
        1 + test_random_below (&random, min_u64 (p.max, p.nr_pages - p.first));
    max = p.max;
    file_plan (&p, &b, &a);
    assert_true (b <= behind && b <= p.before && b <= p.first);
    assert_true (a <= ahead && p.first + p.count + a <= p.nr_pages);
    assert_true (a == 0 || a + p.count - 1 <= p.after);
    assert_true (b + a + p.count <= p.max);
    p.max = 1000; /* without a limit: all that there is */
    file_plan (&p, &behind, &ahead);
    if (behind + ahead + p.count <= max) {
      assert_int_equal (a, ahead);
      assert_int_equal (b, behind);
    } else if (p.block_pages == 1) {
      assert_int_equal (a + b + p.count, max);
    }
  }
}

/* ---- ahead ---- */

/* Who reads in order has it all ahead of him, in pieces that double. */
static void
test_in_order (void **state)
{
  struct file_seq s = { .clock = 0 };
  pgno_t from, end = 1;
  unsigned most = 0;

  (void) state;
  for (pgno_t p = 0; p < 1000; p++) {
    unsigned nr = file_seq_next (&s, p, 1, 1000, 64, &from);

    if (nr > 0) {
      assert_int_equal (from, end > p + 1 ? end : p + 1);
      end = from + nr;
      most = nr > most ? nr : most;
    }
    assert_true (end <= 1000);
    if (p > 200 && p < 900) /* half of it is left when more is asked for */
      assert_true (end > p + 32);
  }
  assert_int_equal (end, 1000);
  assert_in_range (most, 33, 64);
}

/* Parts of pages, and calls of many pages. */
static void
test_parts (void **state)
{
  struct file_seq s = { .clock = 0 };
  pgno_t from;

  (void) state;
  assert_int_equal (file_seq_next (&s, 10, 1, 1000, 64, &from), 0);
  assert_int_equal (file_seq_next (&s, 10, 1, 1000, 64, &from), 0);
  assert_int_equal (file_seq_next (&s, 10, 2, 1000, 64, &from), 4);
  assert_int_equal (from, 12);
  /* On behind a hole, with the same window; not within what was read. */
  file_seq_forget (&s);
  file_seq_jump (&s, 7);
  assert_int_equal (file_seq_next (&s, 7, 1, 1000, 64, &from), 0);
  assert_int_equal (file_seq_next (&s, 8, 1, 1000, 64, &from), 4);
  file_seq_jump (&s, 10);
  assert_int_equal (file_seq_next (&s, 9, 1, 1000, 64, &from), 0);
  file_seq_jump (&s, 500);
  assert_int_equal (file_seq_next (&s, 500, 1, 1000, 64, &from), 8);
  assert_int_equal (from, 501);
  /* Cut behind what was read ahead. */
  file_seq_forget (&s);
  assert_int_equal (file_seq_next (&s, 10, 1, 1000, 64, &from), 0);
  assert_int_equal (file_seq_next (&s, 11, 1, 1000, 64, &from), 4);
  assert_int_equal (from, 12);
  assert_int_equal (file_seq_next (&s, 12, 1, 14, 64, &from), 0);
  assert_int_equal (file_seq_next (&s, 13, 1, 14, 64, &from), 0);
  file_seq_forget (&s);
  assert_int_equal (file_seq_next (&s, 0, 100, 1000, 64, &from), 0);
  assert_int_equal (file_seq_next (&s, 100, 100, 1000, 64, &from), 4);
  assert_int_equal (from, 200);
  assert_int_equal (file_seq_next (&s, 200, 100, 1000, 64, &from), 8);
  assert_int_equal (from, 300);
}

/* Anywhere: nothing is read ahead. */
static void
test_anywhere (void **state)
{
  struct file_seq s = { .clock = 0 };
  uint64_t random = test_seed ();
  unsigned nr = 0;
  pgno_t from;

  (void) state;
  for (unsigned i = 0; i < 10000; i++)
    nr += file_seq_next (&s, test_random_below (&random, 1000000), 1, 1000000,
                         64, &from);
  assert_in_range (nr, 0, 40);
}

/* Some who read in order, in turn, are all known; one more than there is room
 * for puts all of them out.
 */
static void
test_streams (void **state)
{
  struct file_seq s = { .clock = 0 };
  unsigned nr = 0;
  pgno_t from;

  (void) state;
  for (unsigned p = 0; p < 100; p++)
    for (unsigned i = 0; i < FILE_STREAMS; i++)
      nr += file_seq_next (&s, i * 1000 + p, 1, 100000, 16, &from);
  assert_in_range (nr, FILE_STREAMS * 95, FILE_STREAMS * 120);
  file_seq_forget (&s);
  nr = 0;
  for (unsigned p = 0; p < 100; p++)
    for (unsigned i = 0; i <= FILE_STREAMS; i++)
      nr += file_seq_next (&s, i * 1000 + p, 1, 100000, 16, &from);
  assert_int_equal (nr, 0);
  file_seq_forget (&s);
  for (unsigned p = 0; p < 100; p++) {
    file_seq_next (&s, 50000 + 7 * p, 1, 100000, 16, &from); /* anywhere */
    for (unsigned i = 0; i < FILE_STREAMS - 1; i++)
      nr += file_seq_next (&s, i * 1000 + p, 1, 100000, 16, &from);
  }
  assert_in_range (nr, (FILE_STREAMS - 1) * 95, (FILE_STREAMS - 1) * 120);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_plan),     cmocka_unit_test (test_plan_random),
    cmocka_unit_test (test_in_order), cmocka_unit_test (test_parts),
    cmocka_unit_test (test_anywhere), cmocka_unit_test (test_streams),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
