/* SPDX-License-Identifier: BSD-2-Clause */
/* How long an unnamed object stays when nobody has it open, on a clock that
 * stands still.
 */

#include <config.h>

#include "test-store.h"

static int
setup_clock (void **state)
{
  test_clock_start ();
  return setup (state);
}

static bool
is_there (struct rig *rig, const char *name)
{
  struct object_stat st;

  return object_of (rig, name, &st);
}

static uint64_t
linger_of (struct rig *rig, const char *name)
{
  struct object_stat st;

  assert_true (object_of (rig, name, &st));
  return st.linger_ns;
}

static void
tick_after (struct rig *rig, uint64_t ns)
{
  test_clock_add (ns);
  store_tick (rig->s);
}

/* Written: 600 s, then its pages are free. */
static void
test_written (void **state)
{
  struct rig *rig = *state;
  uint64_t free_bytes = stat_of (rig).free_bytes;
  struct conn *c = open_as (rig, "swap/x:1M", &peer_a);

  assert_int_equal (write_byte (c, 0, 7), 0);
  tick_after (rig, 100000 * NS_PER_S); /* open: for ever */
  assert_true (is_there (rig, "swap/x"));
  assert_int_equal (linger_of (rig, "swap/x"), 0);
  store_disconnect (c);
  assert_int_equal (linger_of (rig, "swap/x"), 600 * NS_PER_S);
  tick_after (rig, 600 * NS_PER_S - 1);
  assert_int_equal (linger_of (rig, "swap/x"), 1);
  c = open_as (rig, "swap/x", &peer_a);
  assert_int_equal (read_byte (c, 0), 7);
  tick_after (rig, 600 * NS_PER_S);
  store_disconnect (c);
  tick_after (rig, 600 * NS_PER_S - 1);
  assert_true (is_there (rig, "swap/x"));
  assert_int_equal (stat_of (rig).free_bytes, free_bytes - MIB);
  tick_after (rig, 1);
  assert_false (is_there (rig, "swap/x"));
  assert_int_equal (stat_of (rig).free_bytes, free_bytes);
  assert_int_equal (stat_of (rig).mapped_bytes, 0);
}

/* Never written: 10 s, and what is read or flushed is not written. */
static void
test_unwritten (void **state)
{
  struct rig *rig = *state;
  struct conn *c = open_as (rig, "swap/x:1M", &peer_a);

  assert_int_equal (read_byte (c, 0), 0);
  assert_int_equal (conn_flush (c), 0);
  assert_int_equal (conn_write (c, "", 0, 0, false), 0);
  assert_int_equal (conn_write (c, "x", MIB, 1, false), EINVAL);
  store_disconnect (c);
  assert_int_equal (linger_of (rig, "swap/x"), 10 * NS_PER_S);
  tick_after (rig, 10 * NS_PER_S - 1);
  assert_true (is_there (rig, "swap/x"));
  c = open_as (rig, "swap/x", &peer_a);
  store_disconnect (c);
  tick_after (rig, 10 * NS_PER_S - 1);
  assert_true (is_there (rig, "swap/x"));
  tick_after (rig, 1);
  assert_false (is_there (rig, "swap/x"));
}

/* An open that leads to nothing keeps nothing alive. */
static void
test_failed_opens (void **state)
{
  struct rig *rig = *state;

  store_disconnect (open_as (rig, "swap/x:1M", &peer_a));
  for (int i = 0; i < 9; i++) {
    test_clock_add (NS_PER_S);
    assert_int_equal (open_error (rig, "swap/x:2M"), EEXIST);
    assert_int_equal (open_error (rig, "swap/x~" HEX_A), ESTALE);
    assert_int_equal (linger_of (rig, "swap/x"), (9 - i) * NS_PER_S);
  }
  tick_after (rig, NS_PER_S);
  assert_false (is_there (rig, "swap/x"));
}

/* ---- what comes between the tick's look at the clock and its work ---- */

static struct conn *leaving;

static void
leave (void)
{
  test_clock_add (1);
  store_disconnect (leaving);
}

static void
test_close_in_tick (void **state)
{
  struct rig *rig = *state;

  leaving = open_as (rig, "swap/x:1M", &peer_a);
  assert_int_equal (write_byte (leaving, 0, 7), 0);
  test_clock_hook = leave;
  store_tick (rig->s);
  assert_null (test_clock_hook);
  assert_true (is_there (rig, "swap/x"));
  leaving = open_as (rig, "swap/x", &peer_a);
  assert_int_equal (read_byte (leaving, 0), 7);
  store_disconnect (leaving);
}

/* ---- instances, names ---- */

/* After its time an instance is gone for good. */
static void
test_instance_gone (void **state)
{
  struct rig *rig = *state;
  struct conn *c = open_as (rig, "swap/x:1M", &peer_a);
  struct object_stat st;
  char name[128];

  assert_true (object_of (rig, "swap/x", &st));
  snprintf (name, sizeof name, "swap/x:1M~%s", st.instance);
  store_disconnect (c);
  assert_int_equal (open_error (rig, name), 0);
  tick_after (rig, 10 * NS_PER_S);
  assert_int_equal (open_error (rig, name), ESTALE);
  assert_false (is_there (rig, "swap/x"));
  c = open_as (rig, "swap/x:2M", &peer_a);
  assert_int_equal (open_error (rig, name), EEXIST);
  snprintf (name, sizeof name, "swap/x~%s", st.instance);
  assert_int_equal (open_error (rig, name), ESTALE);
  store_disconnect (c);
}

static void
test_named_stays (void **state)
{
  struct rig *rig = *state;

  create (rig, "n", MIB);
  store_disconnect (open_as (rig, "n", &peer_a));
  tick_after (rig, UINT64_C (1000000000) * NS_PER_S);
  assert_true (is_there (rig, "n"));
}

/* One tick takes all whose time has come, and no other. */
static void
test_many (void **state)
{
  struct rig *rig = *state;
  char name[32];

  for (int i = 0; i < 100; i++) {
    struct conn *c;

    snprintf (name, sizeof name, "swap/%d:4K", i);
    c = open_as (rig, name, &peer_a);
    if (i % 3 == 0)
      assert_int_equal (write_byte (c, 0, 1), 0);
    store_disconnect (c);
  }
  tick_after (rig, 10 * NS_PER_S);
  assert_int_equal (stat_of (rig).nr_objects, 34);
  tick_after (rig, 590 * NS_PER_S);
  assert_int_equal (stat_of (rig).nr_objects, 0);
}

static void
test_no_linger (void **state)
{
  struct store_config config = test_config;
  struct rig rig;
  struct conn *c;

  (void) state;
  test_clock_start ();
  config.linger_ns = config.linger_unwritten_ns = 0;
  rig_open (&rig, &config, POOL_BYTES);
  c = open_as (&rig, "swap/x:1M", &peer_a);
  store_tick (rig.s);
  assert_true (is_there (&rig, "swap/x"));
  store_disconnect (c);
  store_tick (rig.s);
  assert_false (is_there (&rig, "swap/x"));
  rig_close (&rig);
}

int
main (void)
{
#define CLOCK(f) cmocka_unit_test_setup_teardown (f, setup_clock, teardown)
  static const struct CMUnitTest tests[] = {
    CLOCK (test_written),       CLOCK (test_unwritten),
    CLOCK (test_failed_opens),  CLOCK (test_close_in_tick),
    CLOCK (test_instance_gone), CLOCK (test_named_stays),
    CLOCK (test_many),          cmocka_unit_test (test_no_linger),
  };

  return cmocka_run_group_tests_name ("linger", tests, NULL, NULL);
}
