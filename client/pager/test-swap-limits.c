/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits of the swap pager: the clamp of async writes, moved while they run,
 * and the memory for page maps, which comes to its end before the export.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-rig.h"

#define CLUSTER (16 * PAGE)
#define WAIT_MS 20000u

/* ---- async writes ---- */

static void
set_range (struct rig *r, unsigned min, unsigned max)
{
  assert_int_equal (farpage_set_async_min (r->link, min), 0);
  assert_int_equal (farpage_set_async_max (r->link, max), 0);
}

static struct farpage_pool_stat
async_of (struct rig *r)
{
  struct farpage_stat st;

  rig_stat (r, &st);
  return st.pool[POOL_WASYNC];
}

static uint64_t
limit_of (struct rig *r)
{
  return async_of (r).limit_bytes / CLUSTER;
}

/* What is under way comes to lie in [least, most] clusters, and stays below
 * most for some looks.
 */
static void
wait_clusters (struct rig *r, unsigned least, unsigned most)
{
  unsigned nr_below = 0;
  struct farpage_pool_stat pool = { 0 };
  bool was_there = false;

  for (unsigned ms = 0; ms < WAIT_MS && (!was_there || nr_below < 20); ms++) {
    uint64_t clusters;

    pool = async_of (r);
    clusters = pool.bytes / CLUSTER;
    if (clusters > most)
      assert_int_equal (nr_below, 0);
    nr_below += clusters <= most;
    was_there |= clusters >= least && clusters <= most;
    net_sleep_ms (1);
  }
  assert_true (pool.queued > 0); /* or it says nothing */
  assert_true (was_there && nr_below >= 20);
}

/* 256 clusters on their way through a server that takes 20 ms for each. */
static void
test_async_max (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;
  void *addr[16];

  (void) state;
  assert_true (
      rig_start (&r, SERVER_MEMORY, 128 * MIB, "delay wdelay=20ms", NULL));
  o = rig_make (&r, NULL, FARPAGE_COUNT_MAX);
  set_range (&r, 6, 6);
  wait_init (&w, 0, FARPAGE_COUNT_MAX);
  for (unsigned i = 0; i < FARPAGE_COUNT_MAX; i += 16) {
    rig_addrs (&r, addr, i, 16, 1);
    assert_int_equal (farpage_aio_putpages (o, i, 16, addr, 0, wait_page, &w),
                      0);
  }
  wait_clusters (&r, 6, 6);
  set_range (&r, 2, 2); /* lower: as what is under way ends */
  wait_clusters (&r, 2, 2);
  set_range (&r, 4, 1); /* who wants one at most has one */
  wait_clusters (&r, 1, 1);
  assert_int_equal (limit_of (&r), 1);
  set_range (&r, 12, 12);
  wait_clusters (&r, 12, 12);
  set_range (&r, 0, 0); /* makes no sense: 1 */
  wait_clusters (&r, 1, 1);
  set_range (&r, UINT_MAX, UINT_MAX);
  assert_int_equal (limit_of (&r), 1024);
  wait_all (&w);
  for (unsigned i = 0; i < FARPAGE_COUNT_MAX; i++)
    assert_int_equal (w.result[i], FARPAGE_OK);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- memory for maps ---- */

#define STRIDE (512u * 512u) /* two pieces of the map for each page */

/* Pages of o far from each other, until there is no memory for one more. */
static unsigned
fill_maps (struct rig *r, struct farpage_object *o)
{
  enum farpage_result result = FARPAGE_OK;
  struct farpage_stat st;
  unsigned n = 0;

  for (; result == FARPAGE_OK && n < 4095; n++)
    result = rig_put (r, o, 1, (uint64_t) n * STRIDE, 1, 1);
  assert_int_equal (result, FARPAGE_AGAIN);
  rig_check (r);
  rig_stat (r, &st);
  assert_true (st.blocks_free > 0 && !st.full);
  assert_true (st.map_bytes <= st.map_bytes_max);
  print_message ("%u pages fill %lu of %lu bytes of maps\n", n - 1,
                 (unsigned long) st.map_bytes,
                 (unsigned long) st.map_bytes_max);
  return n - 1;
}

/* Each page is in one of the two, where the copy left or put it. */
static void
assert_copied (struct rig *r, struct farpage_object *src,
               struct farpage_object *dst, unsigned nr)
{
  unsigned nr_there = 0;

  for (uint64_t n = 1; n < nr; n++) {
    const uint64_t page = n * STRIDE;
    const bool here = farpage_haspage (src, page, NULL, NULL);

    if (here)
      rig_assert_has (r, src, page, 1, page, 1);
    else
      rig_assert_has (r, dst, page - 1, 1, page, 1);
    nr_there += !here;
    if (here)
      assert_int_equal (rig_get (r, dst, page - 1), FARPAGE_FAIL);
  }
  print_message ("%u of %u pages were copied\n", nr_there, nr - 1);
}

static void
test_maps_full (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o, *other;
  uint64_t next;
  unsigned nr;
  int err;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 16 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, UINT64_C (4096) * STRIDE);
  other = rig_make (&r, NULL, 4096 * STRIDE);
  nr = fill_maps (&r, o);
  next = (uint64_t) nr * STRIDE;
  assert_int_equal (rig_get (&r, o, next), FARPAGE_FAIL);
  assert_int_equal (rig_put (&r, other, 2, 0, 1, 1), FARPAGE_AGAIN);
  assert_int_equal (farpage_reserve (o, next, 1), ENOMEM);
  assert_int_equal (
      farpage_strategy (o, FARPAGE_WRITE, next * PAGE, PAGE, r.mem), ENOMEM);
  assert_int_equal (rig_get (&r, o, next), FARPAGE_FAIL);
  /* What has its piece can be put, also for the first time. */
  assert_int_equal (rig_put (&r, o, 1, 0, 16, 2), FARPAGE_OK);
  for (unsigned i = 0; i < 16; i++)
    rig_assert_has (&r, o, i, 1, i, 2);
  err = farpage_copy (o, other, 1, 0); /* elsewhere in its piece */
  rig_check (&r);
  assert_true (err == 0 || err == ENOMEM);
  assert_copied (&r, o, other, nr);
  assert_int_equal (farpage_freespace (o, 0, 4096 * STRIDE), 0);
  assert_int_equal (farpage_freespace (other, 0, 4096 * STRIDE), 0);
  assert_int_equal (rig_put (&r, o, 1, next, 1, 3), FARPAGE_OK);
  rig_assert_has (&r, o, next, 1, next, 3);
  assert_int_equal (farpage_dealloc (o), 0);
  assert_int_equal (farpage_dealloc (other), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_async_max),
    cmocka_unit_test (test_maps_full),
  };

  return NET_RUN (tests);
}
