/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager over real servers: what each public function answers. */

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

/* ---- results ---- */

static void
put_and_get (struct rig *r)
{
  struct farpage_object *o = rig_make (r, NULL, 100);
  enum farpage_result results[100];
  struct farpage_stat st;
  void *addr[100];
  unsigned nr_ok = 0;

  assert_int_equal (rig_put (r, o, 1, 10, 40, 7), FARPAGE_OK);
  rig_check (r);
  rig_addrs (r, addr, 200, 60, 1);
  memset (addr[0], 0, 60 * PAGE);
  assert_int_equal (farpage_getpages (o, 0, 60, 30, addr, results), 0);
  assert_int_equal (results[30], FARPAGE_OK);
  for (unsigned i = 0; i < 60; i++) {
    assert_true (results[i] == FARPAGE_OK || results[i] == FARPAGE_AGAIN);
    nr_ok += results[i] == FARPAGE_OK;
    if (results[i] == FARPAGE_OK)
      assert_true (rig_is (addr[i], 1, i, 7));
  }
  assert_int_equal (nr_ok, 16); /* a cluster */
  assert_int_equal (rig_get (r, o, 9), FARPAGE_FAIL);
  assert_int_equal (rig_get (r, o, 100), FARPAGE_BAD);
  assert_int_equal (rig_get (r, o, UINT64_MAX), FARPAGE_BAD);
  rig_addrs (r, addr, 0, 10, 1);
  assert_int_equal (farpage_getpages (o, 95, 10, 0, addr, results), 0);
  for (unsigned i = 0; i < 10; i++)
    assert_int_equal (results[i], i == 0  ? FARPAGE_FAIL
                                  : i < 5 ? FARPAGE_AGAIN
                                          : FARPAGE_BAD);
  assert_int_equal (farpage_putpages (o, 98, 4, addr, results), 0);
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal (results[i], i < 2 ? FARPAGE_OK : FARPAGE_BAD);
  rig_check (r);
  rig_stat (r, &st);
  assert_int_equal (st.blocks_used, 42);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_stat (r, &st);
  assert_int_equal (st.blocks_used, 0);
  assert_int_equal (st.objects, 0);
}

static void
on_server (enum server_kind kind)
{
  struct rig r = { .link = NULL };

  if (!rig_start (&r, kind, 64 * MIB, NULL, NULL))
    skip ();
  put_and_get (&r);
  rig_end (&r);
}

static void
test_memory (void **state)
{
  (void) state;
  on_server (SERVER_MEMORY);
}

static void
test_file (void **state)
{
  (void) state;
  on_server (SERVER_FILE);
}

static void
test_qemu (void **state)
{
  (void) state;
  on_server (SERVER_QEMU);
}

static void
test_nbd_server (void **state)
{
  (void) state;
  on_server (SERVER_NBD);
}

static void
test_farpage (void **state)
{
  (void) state;
  on_server (SERVER_FARPAGE);
}

/* Fresh space at each put, the old is free again. */
static void
test_again (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_stat st;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, 100);
  for (unsigned v = 0; v < 50; v++) {
    assert_int_equal (rig_put (&r, o, 1, v % 7, 90, v), FARPAGE_OK);
    rig_check (&r);
    rig_assert_has (&r, o, v % 7, 1, v % 7, v);
    rig_assert_has (&r, o, v % 7 + 89, 1, v % 7 + 89, v);
  }
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_used, 96);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_scattered (void **state)
{
  struct rig r = { .link = NULL };
  enum farpage_result results[64];
  struct farpage_object *o;
  void *addr[64];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, 64);
  rig_addrs (&r, addr, 0, 64, 3);
  for (unsigned i = 0; i < 64; i++)
    rig_fill (addr[i], 1, i, 1);
  assert_int_equal (farpage_putpages (o, 0, 64, addr, results), 0);
  memset (r.mem, 0, RIG_PAGES * PAGE);
  rig_addrs (&r, addr, 500, 64, 5);
  for (unsigned i = 0; i < 64; i += 16) {
    assert_int_equal (farpage_getpages (o, i, 16, 5, addr + i, results + i), 0);
    for (unsigned k = i; k < i + 16; k++) {
      assert_int_equal (results[k], FARPAGE_OK);
      assert_true (rig_is (addr[k], 1, k, 1));
    }
  }
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
nothing (void *arg, uint64_t page, enum farpage_result result)
{
  (void) arg;
  (void) page;
  (void) result;
}

static int deadlk[3];

/* On the loop's thread. */
static void
calls_back (void *arg, uint64_t page, enum farpage_result result)
{
  struct farpage_object *o = arg;
  enum farpage_result results[1];
  void *addr[1] = { NULL };

  (void) page;
  (void) result;
  deadlk[0] = farpage_getpages (o, 0, 1, 0, addr, results);
  deadlk[1] = farpage_dealloc (o);
  deadlk[2] = farpage_strategy (o, FARPAGE_READ, 0, PAGE, addr);
}

static void
test_arguments (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o, *other = NULL;
  struct farpage_swap *second = NULL;
  enum farpage_result results[1];
  void *addr[1];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, 10);
  rig_addrs (&r, addr, 0, 1, 1);
  assert_int_equal (farpage_getpages (o, 0, 0, 0, addr, results), EINVAL);
  assert_int_equal (farpage_getpages (o, 0, 1, 1, addr, results), EINVAL);
  assert_int_equal (
      farpage_putpages (o, 0, FARPAGE_COUNT_MAX + 1, addr, results), EINVAL);
  assert_int_equal (farpage_aio_getpages (o, 0, 1, 0, addr, 64, nothing, NULL),
                    EINVAL);
  assert_int_equal (
      farpage_aio_putpages (o, 0, 1, addr, FARPAGE_AHEAD, nothing, NULL),
      EINVAL);
  assert_int_equal (farpage_freespace (o, 9, 2), EINVAL);
  assert_int_equal (farpage_freespace (o, UINT64_MAX, 2), EINVAL);
  assert_int_equal (farpage_unswapped (o, 10), EINVAL);
  assert_int_equal (farpage_reserve (o, 5, 6), EINVAL);
  assert_int_equal (farpage_copy (o, o, 0, 0), EINVAL);
  assert_int_equal (farpage_alloc (r.swap, "", 0, PAGE, &other), EINVAL);
  assert_int_equal (farpage_alloc (r.swap, NULL, 0, 0, &other), EINVAL);
  assert_int_equal (farpage_alloc (r.swap, NULL, UINT64_MAX, 2, &other), EFBIG);
  assert_null (other);
  assert_int_equal (farpage_swap_open (r.link, &second), EBUSY);
  assert_int_equal (farpage_link_close (r.link), EBUSY);
  assert_int_equal (farpage_swap_close (r.swap), EBUSY);
  assert_int_equal (farpage_aio_getpages (o, 0, 1, 0, addr, 0, calls_back, o),
                    0);
  while (farpage_haspage (o, 0, NULL, NULL)) /* goes through the loop */
    ;
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal (deadlk[i], EDEADLK);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- errors ---- */

static void
test_read_errors (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_stat before, after;
  enum farpage_result results[16];
  void *addr[16];

  (void) state;
  rig_start_failing (&r, MIB, "pread");
  o = rig_make (&r, NULL, 16);
  assert_int_equal (rig_put (&r, o, 1, 0, 16, 1), FARPAGE_OK);
  rig_fail (&r, true);
  rig_addrs (&r, addr, 0, 16, 1);
  assert_int_equal (farpage_getpages (o, 0, 16, 3, addr, results), 0);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (results[i], i == 3 ? FARPAGE_ERROR : FARPAGE_AGAIN);
  rig_check (&r);
  rig_stat (&r, &before);
  /* A short row is one request, and then the wanted page is tried alone. */
  assert_int_equal (farpage_getpages (o, 0, 4, 2, addr, results), 0);
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal (results[i], i == 2 ? FARPAGE_ERROR : FARPAGE_AGAIN);
  rig_stat (&r, &after);
  assert_int_equal (after.errors - before.errors, 2);
  rig_fail (&r, false);
  rig_assert_has (&r, o, 3, 1, 3, 1);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* Tried once elsewhere, then the page is what it was; both runs are never used
 * again.
 */
static void
test_write_errors (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_stat st;

  (void) state;
  rig_start_failing (&r, MIB, "pwrite");
  o = rig_make (&r, NULL, 16);
  assert_int_equal (rig_put (&r, o, 1, 0, 8, 1), FARPAGE_OK);
  rig_fail (&r, true);
  assert_int_equal (rig_put (&r, o, 1, 4, 8, 2), FARPAGE_ERROR);
  rig_check (&r);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_retired, 16);
  assert_int_equal (st.blocks_used, 8);
  rig_fail (&r, false);
  for (unsigned i = 0; i < 8; i++)
    rig_assert_has (&r, o, i, 1, i, 1);
  assert_int_equal (rig_get (&r, o, 8), FARPAGE_FAIL);
  for (unsigned v = 3; v < 60; v++) { /* around the export, more than once */
    assert_int_equal (rig_put (&r, o, 1, 4, 8, v), FARPAGE_OK);
    rig_assert_has (&r, o, 11, 1, 11, v);
  }
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_retired, 16);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_trims (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_stat st;

  (void) state;
  rig_start_failing (&r, 16 * MIB, "trim");
  o = rig_make (&r, NULL, 600);
  assert_int_equal (rig_put (&r, o, 1, 0, 600, 1), FARPAGE_OK);
  assert_int_equal (farpage_freespace (o, 0, 512), 0);
  do
    rig_stat (&r, &st);
  while (st.blocks_trimming + st.blocks_waiting > 0);
  assert_true (st.requests_trimmed >= 1 && st.requests_trimmed <= 4);
  assert_int_equal (rig_get (&r, o, 0), FARPAGE_FAIL);
  rig_assert_has (&r, o, 512, 1, 512, 1);
  rig_fail (&r, true); /* free all the same */
  assert_int_equal (rig_put (&r, o, 1, 0, 512, 2), FARPAGE_OK);
  assert_int_equal (farpage_freespace (o, 0, 512), 0);
  do
    rig_stat (&r, &st);
  while (st.blocks_trimming + st.blocks_waiting > 0);
  assert_int_equal (st.blocks_free, 16 * MIB / PAGE - 1 - 88);
  assert_int_equal (farpage_freespace (o, 512, 44), 0); /* few: in a second */
  net_sleep_ms (1300);
  rig_stat (&r, &st);
  assert_true (st.errors >= 2);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- full ---- */

static void
test_full (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  enum farpage_result results[200];
  struct farpage_stat st;
  void *addr[200];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 65 * PAGE, NULL, NULL));
  o = rig_make (&r, NULL, 200);
  rig_addrs (&r, addr, 0, 200, 1);
  for (unsigned i = 0; i < 200; i++)
    rig_fill (addr[i], 1, i, 1);
  assert_int_equal (farpage_putpages (o, 0, 100, addr, results), 0);
  for (unsigned i = 0; i < 100; i++)
    assert_int_equal (results[i], i < 64 ? FARPAGE_OK : FARPAGE_FAIL);
  rig_check (&r);
  rig_stat (&r, &st);
  assert_true (st.full && st.almost_full);
  assert_int_equal (atomic_load (&r.events[FARPAGE_FULL]), 1);
  assert_int_equal (atomic_load (&r.events[FARPAGE_ALMOST_FULL]), 1);
  /* Holes of 3 and of 5: a run of 4 is the least, 3 are had if 3 are wanted;
   * after a FAIL it goes on with the rest.
   */
  assert_int_equal (farpage_freespace (o, 10, 3), 0);
  assert_int_equal (farpage_freespace (o, 20, 5), 0);
  assert_int_equal (farpage_putpages (o, 100, 12, addr + 100, results), 0);
  for (unsigned i = 0; i < 12; i++)
    assert_int_equal (results[i], i < 5   ? FARPAGE_OK
                                  : i < 9 ? FARPAGE_FAIL
                                          : FARPAGE_OK);
  rig_check (&r);
  for (unsigned i = 0; i < 5; i++)
    rig_assert_has (&r, o, 100 + i, 1, 100 + i, 1);
  for (unsigned i = 9; i < 12; i++)
    rig_assert_has (&r, o, 100 + i, 1, 100 + i, 1);
  assert_int_equal (farpage_freespace (o, 0, 200), 0);
  assert_int_equal (atomic_load (&r.events[FARPAGE_ROOM]), 1);
  assert_int_equal (atomic_load (&r.events[FARPAGE_FULL]), 1);
  assert_int_equal (atomic_load (&r.events[FARPAGE_ALMOST_FULL]), 1);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_memory),      cmocka_unit_test (test_file),
    cmocka_unit_test (test_qemu),        cmocka_unit_test (test_nbd_server),
    cmocka_unit_test (test_farpage),     cmocka_unit_test (test_again),
    cmocka_unit_test (test_scattered),   cmocka_unit_test (test_arguments),
    cmocka_unit_test (test_read_errors), cmocka_unit_test (test_write_errors),
    cmocka_unit_test (test_trims),       cmocka_unit_test (test_full),
  };

  return NET_RUN (tests);
}
