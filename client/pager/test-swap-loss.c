/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager and a server that dies, and connections that break: what was
 * put is there or an error, and what is being put comes there.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-rig.h"

static void
put_async (struct rig *r, struct farpage_object *o, struct wait *w)
{
  void *addr[256];

  rig_addrs (r, addr, 0, 256, 1);
  for (unsigned i = 0; i < 256; i++)
    rig_fill (addr[i], 1, 256 + i, 0);
  wait_init (w, 256, 256);
  assert_int_equal (farpage_aio_putpages (o, 256, 256, addr, 0, wait_page, w),
                    0);
}

/* What was put is there, what is being put comes there. */
static void
test_restart (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;

  (void) state;
  assert_true (rig_start (&r, SERVER_FILE, 8 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, 512);
  assert_int_equal (rig_put (&r, o, 1, 0, 256, 0), FARPAGE_OK);
  for (unsigned round = 0; round < 3; round++) {
    put_async (&r, o, &w);
    server_kill (&r.server);
    rig_check (&r);
    server_restart (&r.server);
    wait_all (&w);
    for (unsigned i = 0; i < 256; i++)
      assert_int_equal (w.result[i], FARPAGE_OK);
    for (unsigned i = 0; i < 512; i++)
      rig_assert_has (&r, o, i, 1, i, 0);
    rig_check (&r);
  }
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 0);
  assert_true (atomic_load (&r.events[FARPAGE_CONNECTED]) >= 3);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* A server that has forgotten everything: errors, never zeros. */
static void
test_forgotten (void **state)
{
  struct rig r = { .link = NULL };
  enum farpage_result results[4];
  struct farpage_object *o;
  void *addr[4];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 8 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, 512);
  assert_int_equal (rig_put (&r, o, 1, 0, 256, 0), FARPAGE_OK);
  server_kill (&r.server);
  server_restart (&r.server);
  for (unsigned i = 0; i < 256; i += 50)
    assert_int_equal (rig_get (&r, o, i), FARPAGE_ERROR);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 1);
  rig_addrs (&r, addr, 0, 4, 1);
  assert_int_equal (farpage_putpages (o, 300, 4, addr, results), 0);
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal (results[i], FARPAGE_ERROR);
  rig_check (&r);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* Connections break while much is under way.  A write on a lost one may still
 * land, so its blocks are not used again before that is fenced off, which is
 * for ever where the server knows no sessions.
 */
static void
cuts (enum server_kind kind, bool fenced)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;
  struct farpage_stat st;

  if (!rig_start_behind (&r, kind, 64 * MIB))
    skip ();
  o = rig_make (&r, NULL, 512);
  assert_int_equal (rig_put (&r, o, 1, 0, 256, 0), FARPAGE_OK);
  for (unsigned round = 0; round < 6; round++) {
    relay_tell (&r.relay, "freeze a");
    put_async (&r, o, &w);
    net_sleep_ms (30); /* they are sent */
    relay_tell (&r.relay, "cut a how=reset");
    relay_tell (&r.relay, "heal a");
    rig_check (&r);
    wait_all (&w);
    for (unsigned i = 0; i < 256; i++)
      assert_int_equal (w.result[i], FARPAGE_OK);
    for (unsigned i = 0; i < 512; i++)
      rig_assert_has (&r, o, i, 1, i, 0);
    rig_check (&r);
  }
  rig_stat (&r, &st);
  assert_true (st.reconnects >= 6);
  assert_int_equal (st.lost, false);
  if (fenced) {
    assert_int_equal (st.blocks_limbo, 0);
    assert_true (st.replayed > 0);
  } else {
    assert_true (st.elsewhere > 0);
    assert_true (st.blocks_limbo > 0);
  }
  assert_int_equal (st.blocks_retired, 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_cut_file (void **state)
{
  (void) state;
  cuts (SERVER_FILE, false);
}

static void
test_cut_farpage (void **state)
{
  (void) state;
  cuts (SERVER_FARPAGE, true);
}

/* Elsewhere there is no run so long: it comes back and goes in pieces; and
 * when there is nothing: FAIL, and the page is what it was.
 */
static void
test_cut_narrow (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o, *other;
  unsigned nr_ok = 0, nr_fail = 0;
  struct farpage_options options;
  struct farpage_stat st;
  static struct wait w;

  (void) state;
  /* With several it may go on another that is cut, too, and be lost again. */
  rig_options (&r, &options);
  options.connections = 1;
  if (!rig_start_behind_as (&r, SERVER_FILE, 129 * PAGE, &options))
    skip ();
  o = rig_make (&r, NULL, 512);
  other = rig_make (&r, NULL, 128);
  assert_int_equal (rig_put (&r, other, 2, 0, 112, 0), FARPAGE_OK);
  for (unsigned i = 0; i < 36; i += 6) /* 6 holes of 4 */
    assert_int_equal (farpage_freespace (other, i, 4), 0);
  relay_tell (&r.relay, "freeze a");
  wait_init (&w, 0, 16);
  {
    void *addr[16];

    rig_addrs (&r, addr, 0, 16, 1);
    for (unsigned i = 0; i < 16; i++)
      rig_fill (addr[i], 1, i, 0);
    assert_int_equal (farpage_aio_putpages (o, 0, 16, addr, 0, wait_page, &w),
                      0);
  }
  net_sleep_ms (50);
  relay_tell (&r.relay, "cut a how=reset");
  relay_tell (&r.relay, "heal a");
  wait_all (&w);
  rig_check (&r);
  for (unsigned i = 0; i < 16; i++) {
    nr_ok += w.result[i] == FARPAGE_OK;
    nr_fail += w.result[i] == FARPAGE_FAIL;
    if (w.result[i] == FARPAGE_OK)
      rig_assert_has (&r, o, i, 1, i, 0);
    else
      assert_int_equal (rig_get (&r, o, i), FARPAGE_FAIL);
  }
  assert_int_equal (nr_ok, 16);
  assert_int_equal (nr_fail, 0);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_limbo, 16);
  for (unsigned i = 36; i < 112; i++)
    rig_assert_has (&r, other, i, 2, i, 0);
  assert_int_equal (farpage_dealloc (o), 0);
  assert_int_equal (farpage_dealloc (other), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_restart),    cmocka_unit_test (test_forgotten),
    cmocka_unit_test (test_cut_file),   cmocka_unit_test (test_cut_farpage),
    cmocka_unit_test (test_cut_narrow),
  };

  return NET_RUN (tests);
}
