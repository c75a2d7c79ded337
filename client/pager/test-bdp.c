/* SPDX-License-Identifier: BSD-2-Clause */
/* The controller on a link that is reckoned (test-link.h).  plot-bdp draws what
 * is only bounded here.
 */

#include <config.h>

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "test-link.h"

#define SETTLED_US (20 * US_PER_S)

static uint64_t seed;

static void
begin (struct link *l, const struct way *way, unsigned nr)
{
  link_begin (l, way, nr, seed);
}

/* What we queue stays below half of rate x delay and a few units. */
static void
expect_settled (struct link *l, uint64_t end_us, double least_share)
{
  const struct way *w = link_way (l);
  struct stretch s = link_run (l, end_us);
  double units = way_units (w);

  print_message (
      "%11" PRIu64 " bytes/s, %5" PRIu64 " us: %.3f of it, limit %3u for "
      "%5.1f, queue %.1f at most\n",
      way_rate (w), w->delay_us, s.share, l->b.limit, units, s.queue);
  assert_true (s.share >= least_share);
  assert_true (s.share <= 1.01);
  assert_true (s.queue <= units / 2 + BDP_MIN + 2);
}

/* ---- tests ---- */

static void
test_links (void **state)
{
  static const uint64_t rates[] = { 12500000, 125000000, 1250000000 };
  static const uint64_t delays[] = { 200, 1000, 10000, 50000 };

  (void) state;
  for (unsigned i = 0; i < 3; i++)
    for (unsigned k = 0; k < 4; k++) {
      struct way way = { 0, rates[i], delays[k], 0, 0, 0 };
      struct link l;

      begin (&l, &way, 1);
      if (way_units (&way) > UNITS_MAX)
        continue;
      link_run (&l, 30 * delays[k] + 30 * UNIT * US_PER_S / rates[i]);
      expect_settled (&l, l.now_us + SETTLED_US, 0.95);
    }
}

/* Twelve round trips suffice, and what is queued meanwhile is bounded. */
static void
test_start (void **state)
{
  static const uint64_t delays[] = { 10000, 50000 };

  (void) state;
  for (unsigned k = 0; k < 2; k++) {
    struct way way = { 0, 125000000, delays[k], 0, 0, 0 };
    double units = way_units (&way);
    struct stretch s;
    struct link l;

    begin (&l, &way, 1);
    s = link_run (&l, 12 * delays[k]);
    print_message ("%5" PRIu64 " us: limit %u for %.1f, queue %.1f at most\n",
                   delays[k], l.b.limit, units, s.queue);
    assert_true (bdp_rate (&l.b) >= 0.98 * (double) way.rate);
    assert_true (bdp_rt_us (&l.b) <= delays[k] + 600);
    assert_true (l.b.limit <= 1.6 * units);
    assert_true (s.queue <= units / 2 + BDP_MIN);
    expect_settled (&l, 30 * delays[k], 0.95);
  }
}

/* Replies come a few at a time, as threads are woken. */
static void
test_bunches (void **state)
{
  static const uint64_t delays[] = { 10000, 20000, 50000 };

  (void) state;
  for (unsigned k = 0; k < 3; k++) {
    struct way way = { 0, 125000000, delays[k], 0, 0, 0 };
    struct link l;

    begin (&l, &way, 1);
    l.bunch_us = 2000;
    link_run (&l, 30 * delays[k]);
    expect_settled (&l, l.now_us + SETTLED_US, 0.95);
  }
}

static void
test_two_speeds (void **state)
{
  struct way way = { 0, 125000000, 2000, 8000, 2, 0 };
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  link_run (&l, US_PER_S);
  expect_settled (&l, 20 * US_PER_S, 0.82);
}

/* Most is slow: the window is that of the slow ones, and the queue what it is
 * when by chance a row of fast ones comes.  The longest is taken of each
 * second, and the mean of those.
 */
static void
test_mostly_slow (void **state)
{
  struct way way = { 0, 125000000, 2000, 8000, 6, 0 };
  double share = 0, queue = 0;
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  for (unsigned i = 1; i <= 21; i++) {
    struct stretch s = link_run (&l, i * US_PER_S);

    if (i == 1)
      continue;
    share += s.share / 20;
    queue += s.queue / 20;
  }
  print_message ("%.3f of it, limit %u for %.1f, queue %.1f\n", share,
                 l.b.limit, way_units (&way), queue);
  assert_true (share >= 0.93);
  assert_true (queue <= 1.45 * way_units (&way));
}

/* A way that became longer or shorter is found in two seconds. */
static void
test_step_soon (void **state)
{
  static const struct way way[] = { { 0, 125000000, 1000, 0, 0, 0 },
                                    { 5 * US_PER_S, 125000000, 10000, 0, 0, 0 },
                                    { 9 * US_PER_S, 125000000, 1000, 0, 0,
                                      0 } };
  struct link l;

  (void) state;
  begin (&l, way, 3);
  link_run (&l, 7 * US_PER_S);
  expect_settled (&l, 9 * US_PER_S, 0.95);
  link_run (&l, 11 * US_PER_S);
  expect_settled (&l, 13 * US_PER_S, 0.95);
}

static void
test_steps (void **state)
{
  static const struct way way[] = {
    { 0, 125000000, 1000, 0, 0, 0 },
    { 30 * US_PER_S, 125000000, 10000, 0, 0, 0 },
    { 60 * US_PER_S, 125000000, 1000, 0, 0, 0 },
    { 90 * US_PER_S, 125000000, 1000, 0, 0, 4 },
    { 120 * US_PER_S, 125000000, 50000, 0, 0, 0 },
    { 150 * US_PER_S, 125000000, 50000, 0, 0, 4 },
    { 180 * US_PER_S, 125000000, 10000, 0, 0, 4 },
    { 210 * US_PER_S, 125000000, 10000, 0, 0, 0 }
  };
  struct link l;

  (void) state;
  begin (&l, way, 8);
  for (unsigned i = 0; i < 8; i++) {
    link_run (&l, (i * 30 + 15) * US_PER_S);
    expect_settled (&l, (i + 1) * 30 * US_PER_S, 0.95);
  }
}

/* Others leave a link on which a unit more is little. */
static void
test_more (void **state)
{
  static const struct way way[] = {
    { 0, 1250000000, 50000, 0, 0, 4 },
    { 5 * US_PER_S, 1250000000, 50000, 0, 0, 0 },
  };
  struct link l;

  (void) state;
  begin (&l, way, 2);
  bdp_set_range (&l.b, BDP_MIN, BDP_MAX);
  link_run (&l, 9 * US_PER_S);
  expect_settled (&l, 13 * US_PER_S, 0.95);
}

/* Nothing creeps up in ten minutes. */
static void
test_long (void **state)
{
  struct way way = { 0, 12500000, 50000, 0, 0, 0 };
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  link_run (&l, 580 * US_PER_S);
  expect_settled (&l, 600 * US_PER_S, 0.95);
}

/* Requests of a quarter: the limit rises with bytes, not with replies. */
static void
test_small (void **state)
{
  struct way way = { 0, 125000000, 50000, 0, 0, 0 };
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  l.bytes = UNIT / 4;
  link_run (&l, 60000);
  assert_in_range (l.b.limit, 6, 2 * BDP_MIN);
  link_run (&l, US_PER_S);
  expect_settled (&l, 10 * US_PER_S, 0.95);
}

/* The server holds everything for a while, just when the time is looked at. */
static void
test_stall (void **state)
{
  static const struct way way[] = { { 0, 125000000, 10000, 0, 0, 0 },
                                    { 2 * US_PER_S, 125000000, 11000, 0, 0,
                                      0 } };
  struct link l;

  (void) state;
  begin (&l, way, 2);
  while (l.b.phase != BDP_PROBE_RT && l.now_us < 30 * US_PER_S)
    link_turn (&l);
  link_run (&l, l.now_us + 15000);
  assert_int_equal (l.b.phase, BDP_PROBE_RT);
  for (unsigned i = 0; i < l.nr; i++)
    l.asked[i].done_us += 500000;
  l.free_ns += 500000000;
  link_run (&l, l.now_us + US_PER_S);
  assert_true (l.b.limit <= 1.6 * way_units (&way[1]));
  expect_settled (&l, l.now_us + 4 * US_PER_S, 0.95);
}

/* Who asks for little says nothing about what the link carries. */
static void
test_little_asked (void **state)
{
  struct way way = { 0, 125000000, 10000, 0, 0, 0 };
  struct link l;
  unsigned was;

  (void) state;
  begin (&l, &way, 1);
  link_run (&l, 2 * US_PER_S);
  was = l.b.limit;
  assert_true (was > 16);
  l.nr_wanted = 2;
  link_run (&l, 32 * US_PER_S);
  l.nr_wanted = 0;
  assert_true (bdp_rate (&l.b) > 125000000 / 100 * 95);
  link_run (&l, l.now_us + 40000);
  expect_settled (&l, l.now_us + 2 * US_PER_S, 0.95);
}

static void
test_fixed (void **state)
{
  struct bdp_config config = { UNIT, 7, 7 };
  struct way way = { 0, 125000000, 10000, 0, 0, 0 };
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  bdp_init (&l.b, &config, 0);
  assert_int_equal (bdp_limit (&l.b, 0), 7);
  link_run (&l, 3 * US_PER_S);
  assert_int_equal (bdp_limit (&l.b, l.now_us), 7);
  assert_true (bdp_rate (&l.b) > 0 && bdp_rt_us (&l.b) >= 10000);
  bdp_set_range (&l.b, 0, 0);
  assert_int_equal (bdp_limit (&l.b, l.now_us), 1);
  bdp_set_range (&l.b, 5000, 3);
  assert_int_equal (bdp_limit (&l.b, l.now_us), BDP_MAX);
}

/* A range that kept it small is gone: it is as fast as at a start.  One that
 * keeps it small holds at once.
 */
static void
test_range (void **state)
{
  struct way way = { 0, 125000000, 50000, 0, 0, 0 };
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  bdp_set_range (&l.b, 4, 8);
  link_run (&l, 5 * US_PER_S);
  assert_in_range (bdp_limit (&l.b, l.now_us), 8 * 7 / 8 - 1, 8);
  bdp_set_range (&l.b, 4, UNITS_MAX);
  link_run (&l, l.now_us + 12 * 50000);
  assert_true (bdp_rate (&l.b) > 0.9 * (double) way.rate);
  expect_settled (&l, l.now_us + 5 * US_PER_S, 0.95);
  bdp_set_range (&l.b, 4, 20);
  assert_int_equal (bdp_limit (&l.b, l.now_us), 20);
  link_run (&l, l.now_us + 2 * US_PER_S);
  assert_true (l.b.limit <= 20);
}

/* All that is under way comes back, or is lost. */
static void
drain (struct link *l, bool lost)
{
  while (l->nr > 0) {
    l->nr--;
    if (lost)
      bdp_lost (&l->b, UNIT, l->now_us);
    else
      bdp_done (&l->b, UNIT, &l->asked[l->nr].mark, l->now_us);
  }
}

static void
test_idle (void **state)
{
  struct way way = { 0, 125000000, 50000, 0, 0, 0 };
  struct link l;
  unsigned was;

  (void) state;
  begin (&l, &way, 1);
  link_run (&l, 5 * US_PER_S);
  assert_true (l.b.limit > 64);
  l.now_us += 60000;
  drain (&l, false);
  was = bdp_limit (&l.b, l.now_us);
  assert_int_equal (bdp_limit (&l.b, l.now_us + 1040000), was / 2);
  assert_int_equal (bdp_limit (&l.b, l.now_us + 90 * US_PER_S), BDP_MIN);
}

static void
test_lost (void **state)
{
  struct way way = { 0, 125000000, 10000, 0, 0, 0 };
  struct link l;

  (void) state;
  begin (&l, &way, 1);
  link_run (&l, 2 * US_PER_S);
  drain (&l, true);
  assert_int_equal (l.b.inflight, 0);
  bdp_restart (&l.b, l.now_us);
  assert_int_equal (bdp_limit (&l.b, l.now_us), BDP_MIN);
  assert_int_equal (bdp_rate (&l.b), 0);
  l.free_ns = 0;
  link_run (&l, l.now_us + US_PER_S);
  expect_settled (&l, l.now_us + 5 * US_PER_S, 0.95);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_links),        cmocka_unit_test (test_start),
    cmocka_unit_test (test_two_speeds),   cmocka_unit_test (test_steps),
    cmocka_unit_test (test_little_asked), cmocka_unit_test (test_fixed),
    cmocka_unit_test (test_range),        cmocka_unit_test (test_idle),
    cmocka_unit_test (test_mostly_slow),  cmocka_unit_test (test_step_soon),
    cmocka_unit_test (test_more),         cmocka_unit_test (test_long),
    cmocka_unit_test (test_small),        cmocka_unit_test (test_stall),
    cmocka_unit_test (test_lost),         cmocka_unit_test (test_bunches),
  };

  seed = test_seed ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
