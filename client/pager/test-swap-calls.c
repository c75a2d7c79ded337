/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls of the swap pager that are under way: many, from callbacks, on a
 * caller's loop, and what is seen of a put before its end.
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
#include <ev.h>

#include "test-rig.h"

/* ---- under way ---- */

struct chain {
  struct farpage_object *object;
  void *addr[1];
  struct wait wait;
  int err;
};

/* A callback asks for the next page. */
static void
next_page (void *arg, uint64_t page, enum farpage_result result)
{
  struct chain *c = arg;

  if (page + 1 < 40)
    c->err |= farpage_aio_getpages (c->object, page + 1, 1, 0, c->addr, 0,
                                    next_page, c);
  wait_page (&c->wait, page, result);
}

static void
test_callbacks (void **state)
{
  struct rig r = { .link = NULL };
  static struct chain c;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  c.object = rig_make (&r, NULL, 40);
  assert_int_equal (rig_put (&r, c.object, 1, 0, 40, 1), FARPAGE_OK);
  rig_addrs (&r, c.addr, 50, 1, 1);
  wait_init (&c.wait, 0, 40);
  assert_int_equal (
      farpage_aio_getpages (c.object, 0, 1, 0, c.addr, 0, next_page, &c), 0);
  wait_all (&c.wait);
  for (unsigned i = 0; i < 40; i++)
    assert_int_equal (c.wait.result[i], FARPAGE_OK);
  assert_int_equal (c.err, 0);
  assert_int_equal (farpage_dealloc (c.object), 0);
  rig_end (&r);
}

/* No more calls than that are taken, and all that were come to an end. */
static void
test_many (void **state)
{
  struct rig r = { .link = NULL };
  static struct wait w;
  struct farpage_object *o;
  struct farpage_stat st;
  unsigned nr = 0;
  void *addr[1];
  int err;

  (void) state;
  assert_true (
      rig_start (&r, SERVER_MEMORY, 64 * MIB, "delay wdelay=200ms", NULL));
  o = rig_make (&r, NULL, 10000);
  wait_init (&w, 0, FARPAGE_COUNT_MAX);
  do {
    rig_addrs (&r, addr, nr, 1, 1);
    err = farpage_aio_putpages (o, nr, 1, addr, FARPAGE_SYNC, wait_page, &w);
    nr += err == 0;
  } while (!err && nr < 5000);
  assert_int_equal (err, EAGAIN);
  assert_int_equal (nr, SWAP_OPS_MAX);
  rig_check (&r);
  rig_stat (&r, &st);
  assert_true (st.calls > SWAP_REQUESTS_MAX && st.calls <= SWAP_OPS_MAX);
  assert_int_equal (st.runs, SWAP_REQUESTS_MAX);
  assert_int_equal (farpage_freespace (o, 0, 4000), 0);
  rig_check (&r);
  wait_all (&w);
  for (unsigned i = 0; i < nr; i++)
    assert_int_equal (w.result[i], FARPAGE_OK);
  rig_check (&r);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void *
run_loop (void *arg)
{
  ev_run (arg, 0);
  return NULL;
}

static void
stop_loop (struct ev_loop *ev, ev_async *w, int events)
{
  (void) w;
  (void) events;
  ev_break (ev, EVBREAK_ALL);
}

/* The caller's loop, on a thread of his. */
static void
test_own_loop (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_options options;
  struct farpage_object *o;
  struct ev_loop *ev = ev_loop_new (EVFLAG_AUTO);
  ev_async stop;
  pthread_t thread;
  char uri[300];

  (void) state;
  assert_true (server_start (&r.server, SERVER_MEMORY, MIB, NULL));
  rig_options (&r, &options);
  options.loop = ev;
  server_uri (&r.server, uri, sizeof uri);
  assert_int_equal (farpage_link_open (uri, &options, &r.link), 0);
  ev_async_init (&stop, stop_loop);
  ev_async_start (ev, &stop);
  pthread_create (&thread, NULL, run_loop, ev);
  while (farpage_swap_open (r.link, &r.swap) == EDEADLK)
    net_sleep_ms (5); /* until the loop has turned on its thread */
  r.mem = calloc (RIG_PAGES, PAGE);
  o = rig_make (&r, NULL, 40);
  assert_int_equal (rig_put (&r, o, 1, 0, 40, 1), FARPAGE_OK);
  rig_assert_has (&r, o, 39, 1, 39, 1);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_check (&r);
  assert_int_equal (farpage_swap_close (r.swap), 0);
  assert_int_equal (farpage_link_close (r.link), 0);
  ev_async_send (ev, &stop);
  pthread_join (thread, NULL);
  ev_loop_destroy (ev);
  server_kill (&r.server);
  free (r.mem);
}

/* ---- a put under way ---- */

static void
test_pending (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w, again;
  enum farpage_result results[8];
  void *addr[8], *other[8];
  struct farpage_stat st;
  uint64_t begin;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, "delay wdelay=400ms", NULL));
  o = rig_make (&r, NULL, 64);
  assert_int_equal (rig_put (&r, o, 1, 0, 8, 1), FARPAGE_OK);
  rig_addrs (&r, addr, 100, 8, 1);
  for (unsigned i = 0; i < 8; i++)
    rig_fill (addr[i], 1, i, 2);
  wait_init (&w, 0, 8);
  wait_init (&again, 6, 4);
  begin = net_now_us ();
  assert_int_equal (farpage_aio_putpages (o, 0, 8, addr, 0, wait_page, &w), 0);
  assert_int_equal (
      farpage_aio_putpages (o, 6, 4, addr + 4, 0, wait_page, &again), 0);
  rig_addrs (&r, other, 200, 8, 1);
  assert_int_equal (farpage_getpages (o, 0, 8, 2, other, results), 0);
  assert_int_equal (results[2], FARPAGE_OK); /* from the put's memory */
  assert_true (rig_is (other[2], 1, 2, 2));
  assert_true (farpage_haspage (o, 5, NULL, NULL));
  rig_check (&r);
  assert_int_equal (farpage_unswapped (o, 3), 0);
  assert_int_equal (farpage_freespace (o, 4, 1), 0);
  rig_check (&r);
  assert_int_equal (rig_get (&r, o, 3), FARPAGE_FAIL);
  assert_false (farpage_haspage (o, 4, NULL, NULL));
  assert_true (net_now_us () - begin < 350000);
  assert_int_equal (w.result[0], FARPAGE_PEND);
  wait_all (&w);
  wait_all (&again);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (w.result[i], FARPAGE_OK);
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal (again.result[i], i < 2 ? FARPAGE_AGAIN : FARPAGE_OK);
  rig_check (&r);
  assert_int_equal (rig_get (&r, o, 3), FARPAGE_FAIL);
  rig_assert_has (&r, o, 2, 1, 2, 2);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_used, 8);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* What is beside it on the server, but not there yet, is not read with it. */
static void
test_pending_row (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;
  enum farpage_result results[8];
  void *addr[8];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, "delay wdelay=400ms", NULL));
  o = rig_make (&r, NULL, 64);
  assert_int_equal (rig_put (&r, o, 1, 0, 8, 1), FARPAGE_OK);
  rig_addrs (&r, addr, 100, 4, 1);
  wait_init (&w, 8, 4);
  assert_int_equal (farpage_aio_putpages (o, 8, 4, addr, 0, wait_page, &w), 0);
  rig_addrs (&r, addr, 200, 8, 1);
  assert_int_equal (farpage_getpages (o, 4, 8, 3, addr, results), 0);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (results[i], i < 4 ? FARPAGE_OK : FARPAGE_AGAIN);
  wait_all (&w);
  assert_int_equal (farpage_getpages (o, 4, 8, 3, addr, results), 0);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (results[i], FARPAGE_OK);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* Of a put that fails the pages that were dropped have nothing to go back to.
 */
static void
test_pending_fails (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;
  struct farpage_stat st;
  void *addr[8];

  (void) state;
  rig_start_failing (&r, MIB, "pwrite");
  o = rig_make (&r, NULL, 64);
  assert_int_equal (rig_put (&r, o, 1, 0, 8, 1), FARPAGE_OK);
  rig_fail (&r, true);
  rig_addrs (&r, addr, 100, 8, 1);
  for (unsigned round = 0; round < 20; round++) {
    wait_init (&w, 0, 8);
    assert_int_equal (farpage_aio_putpages (o, 0, 8, addr, 0, wait_page, &w),
                      0);
    assert_int_equal (farpage_freespace (o, 2, 2), 0);
    wait_all (&w);
    for (unsigned i = 0; i < 8; i++)
      assert_true (w.result[i] == FARPAGE_ERROR ||
                   (w.result[i] == FARPAGE_OK && (i == 2 || i == 3)) ||
                   w.result[i] == FARPAGE_FAIL);
    rig_check (&r);
  }
  rig_fail (&r, false);
  assert_int_equal (rig_get (&r, o, 2), FARPAGE_FAIL);
  rig_assert_has (&r, o, 1, 1, 1, 1);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_used, 6);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* A block that is being read is nobody else's before that has ended, also when
 * its page is gone.
 */
static void
test_read_holds (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;
  void *addr[1];

  (void) state;
  assert_true (
      rig_start (&r, SERVER_MEMORY, 65 * PAGE, "delay rdelay=400ms", NULL));
  o = rig_make (&r, NULL, 100);
  assert_int_equal (rig_put (&r, o, 1, 0, 64, 1), FARPAGE_OK);
  rig_addrs (&r, addr, 500, 1, 1);
  wait_init (&w, 5, 1);
  assert_int_equal (farpage_aio_getpages (o, 5, 1, 0, addr, 0, wait_page, &w),
                    0);
  assert_int_equal (farpage_unswapped (o, 5), 0);
  assert_int_equal (rig_put (&r, o, 1, 80, 1, 2), FARPAGE_FAIL);
  rig_check (&r);
  wait_all (&w);
  assert_int_equal (w.result[0], FARPAGE_OK);
  assert_true (rig_is (addr[0], 1, 5, 1));
  assert_int_equal (rig_put (&r, o, 1, 80, 1, 2), FARPAGE_OK);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_callbacks),     cmocka_unit_test (test_many),
    cmocka_unit_test (test_own_loop),      cmocka_unit_test (test_pending),
    cmocka_unit_test (test_pending_fails), cmocka_unit_test (test_pending_row),
    cmocka_unit_test (test_read_holds),
  };

  return NET_RUN (tests);
}
