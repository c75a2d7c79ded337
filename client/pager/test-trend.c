/* SPDX-License-Identifier: BSD-2-Clause */
/* What is foreseen of accesses in order, backwards, with strides, by several
 * readers, and at random: how much of what is touched was asked for before, and
 * how much was asked for and is not touched.
 */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-util.h"
#include "trend.h"

#define NR    100000u
#define MAX   64u
#define BATCH 8u

#define RANDOM_ROUNDS 500u

struct count {
  struct trend t;
  uint8_t *asked; /* of each page: 1 asked for, 2 touched */
  uint64_t touches, hits, nr_asked, used;
  uint64_t max, nr;
  bool random; /* streams may be one by accident, and two the same */
};

static void
begin (struct count *c, uint64_t nr)
{
  memset (c, 0, sizeof *c);
  c->nr = nr;
  c->max = MAX;
  c->asked = calloc (1, nr);
}

static void
touch (struct count *c, pgno_t page)
{
  struct trend_ask ask;
  const bool there = c->asked[page] != 0;

  c->touches++;
  if (c->asked[page] == 1) {
    c->hits++;
    c->used++;
  }
  c->asked[page] = 2;
  trend_touch (&c->t, page, there, c->nr, c->max, BATCH, &ask);
  for (uint64_t i = 0; i < ask.nr; i++) {
    const pgno_t at = ask.first + i * (uint64_t) ask.stride;

    assert_true (at < c->nr);
    assert_true (c->random || c->asked[at] != 1); /* once is enough */
    c->nr_asked += c->asked[at] == 0;             /* the others are there */
    if (c->asked[at] == 0)
      c->asked[at] = 1;
  }
  for (unsigned i = 0; i < TREND_STREAMS; i++)
    assert_true (c->t.stream[i].ahead <= c->max);
}

static void
expect (struct count *c, unsigned misses, unsigned wasted)
{
  if (c->touches - c->hits > misses || c->nr_asked - c->used > wasted)
    fail_msg ("%lu of %lu not foreseen (%u may), %lu of %lu in vain (%u may)",
              c->touches - c->hits, c->touches, misses, c->nr_asked - c->used,
              c->nr_asked, wasted);
  free (c->asked);
}

/* Each stride, up and down, from some place on. */
static void
test_strides (void **state)
{
  static const int strides[] = { 1, -1, 2, -2, 7, 100, -100, 1023 };
  struct count c;

  (void) state;
  for (unsigned i = 0; i < sizeof strides / sizeof strides[0]; i++) {
    pgno_t page = strides[i] > 0 ? 3 : NR - 1;

    begin (&c, NR);
    for (unsigned n = 0; n < 90; n++, page += (uint64_t) strides[i])
      touch (&c, page);
    expect (&c, 4, MAX);
  }
}

/* To the end, and nothing behind it. */
static void
test_ends (void **state)
{
  struct count c;

  (void) state;
  begin (&c, 1000);
  for (pgno_t p = 0; p < 1000; p++)
    touch (&c, p);
  expect (&c, 4, 0);
  begin (&c, 1000);
  for (pgno_t p = 1000; p-- > 0;)
    touch (&c, p);
  expect (&c, 4, 0);
}

/* Two and eight that take turns, near each other and far away. */
static void
test_streams (void **state)
{
  struct count c;

  (void) state;
  begin (&c, NR);
  for (pgno_t p = 0; p < 1000; p++) {
    touch (&c, 100 + p);
    touch (&c, 1500 + p);
  }
  expect (&c, 8, 2 * MAX);
  begin (&c, NR);
  for (pgno_t p = 0; p < 1000; p++)
    for (unsigned i = 0; i < 8; i++)
      touch (&c, 10000 * i + (i % 2 == 0 ? p : 9000 - 3 * p));
  expect (&c, 8 * 5, 8 * MAX);
}

/* Again and again, and each time all that was there has gone; also from a place
 * on that is not far behind the end.
 */
static void
test_laps (void **state)
{
  struct count c;

  (void) state;
  begin (&c, NR);
  c.max = 512;
  c.random = true; /* what has gone is asked for again */
  for (unsigned lap = 0; lap < 3; lap++) {
    memset (c.asked, 0, c.nr);
    for (pgno_t p = 0; p < 3000; p++)
      touch (&c, p);
  }
  memset (c.asked, 0, c.nr);
  for (pgno_t p = 2700; p < 3500; p++)
    touch (&c, p);
  expect (&c, 3 * 4 + 4 + TREND_BEHIND, 4 * 512);
}

/* One that leaves out a page now and then, and one that is held up by others.
 */
static void
test_noise (void **state)
{
  uint64_t random = test_seed ();
  struct count c;

  (void) state;
  begin (&c, NR);
  c.random = true;
  for (pgno_t p = 0; p < 2000; p++)
    if (test_random_below (&random, 10) != 0)
      touch (&c, p);
  expect (&c, 10, 2000 / 10 + 100 + MAX);
  begin (&c, NR);
  c.random = true;
  for (pgno_t p = 0; p < 2000; p++) {
    touch (&c, p);
    if (test_random_below (&random, 3) == 0)
      touch (&c, 50000 + test_random_below (&random, 50000));
  }
  expect (&c, 2000 / 3 + 150, 2 * MAX);
}

/* At random: hardly anything.  Where there are few pages a stream that is none
 * can go on for long by accident, in one round of a hundred: of many it is
 * hardly anything, too.
 */
static void
test_random (void **state)
{
  uint64_t random = test_seed (), in_vain = 0;
  unsigned nr_bad = 0;
  struct count c;

  (void) state;
  begin (&c, 16384);
  c.random = true;
  for (unsigned i = 0; i < 16000; i++)
    touch (&c, test_random_below (&random, 16384));
  expect (&c, 16000, 16000 / 100);
  for (unsigned round = 0; round < RANDOM_ROUNDS; round++) {
    begin (&c, 1024);
    c.random = true;
    for (unsigned i = 0; i < 1000; i++)
      touch (&c, test_random_below (&random, 1024));
    in_vain += c.nr_asked - c.used;
    nr_bad += c.nr_asked - c.used > 1000 / 10;
    free (c.asked);
  }
  printf ("%lu of %u touches asked in vain, %u rounds of more than 10 %%\n",
          in_vain, RANDOM_ROUNDS * 1000, nr_bad);
  assert_true (in_vain <= RANDOM_ROUNDS * 1000 / 50);
  assert_true (nr_bad <= RANDOM_ROUNDS / 20);
}

/* The window follows what the caller allows; what was cut is asked for again.
 */
static void
test_limits (void **state)
{
  struct trend t = { .nr = 0 };
  struct trend_ask ask;
  pgno_t next = 0;

  (void) state;
  for (pgno_t p = 0; p < 2000; p++) {
    const uint64_t max = p < 500 ? 4 : p < 1000 ? 256 : 16;

    trend_touch (&t, p, true, 100000, max, BATCH, &ask);
    if (ask.nr > 0) {
      assert_true (next == 0 || ask.first == next);
      assert_true (ask.first + ask.nr - p <= max + 1);
      next = ask.first + ask.nr;
      if (ask.nr > 2 && p % 7 == 0) {
        trend_cut (&t, &ask, 2);
        next = ask.first + 2;
      }
    }
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_strides), cmocka_unit_test (test_ends),
    cmocka_unit_test (test_streams), cmocka_unit_test (test_noise),
    cmocka_unit_test (test_random),  cmocka_unit_test (test_limits),
    cmocka_unit_test (test_laps),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
