/* SPDX-License-Identifier: BSD-2-Clause */
/* Puts that leave as one write: when they do, and what becomes of each when
 * that write fails, is lost, is too late, or its pages are taken out meanwhile.
 *
 * Pages of three objects are put while the loop stands still, so they are in
 * one bundle.  It is held if another write is under way.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-rig.h"

#define OBJECTS 3u
#define PUTS    6u /* two of each object */
#define PAGES   9u /* of all of them: 1 or 2 of each put */

/* Put i: of object i % 3, from page first_of (i) on, nr_of (i) pages. */
struct set {
  struct farpage_object *object[OBJECTS];
  struct wait wait[PUTS];
  unsigned from; /* page of mem */
};

static uint64_t
first_of (unsigned i)
{
  return i / OBJECTS * 600 + i;
}

static unsigned
nr_of (unsigned i)
{
  return 1 + i % 2;
}

static void
make_objects (struct rig *r, struct set *set)
{
  static const char *const names[OBJECTS] = { "a", "b", NULL };

  for (unsigned i = 0; i < OBJECTS; i++)
    set->object[i] = rig_make (r, names[i], 1000);
}

static void
end_objects (struct set *set)
{
  for (unsigned i = 0; i < OBJECTS; i++)
    if (set->object[i] != NULL)
      assert_int_equal (farpage_dealloc (set->object[i]), 0);
}

/* While the loop stands still.  Memory is every second page of mem from
 * set.from on.
 */
static void
put_set (struct rig *r, struct set *set, uint64_t version, int flags)
{
  unsigned at = set->from;

  for (unsigned i = 0; i < PUTS; i++) {
    const uint64_t first = first_of (i);
    void *addr[2];

    rig_addrs (r, addr, at, nr_of (i), 2);
    at += 2 * nr_of (i);
    for (unsigned k = 0; k < nr_of (i); k++)
      rig_fill (addr[k], i % OBJECTS, first + k, version);
    wait_init (&set->wait[i], first, nr_of (i));
    assert_int_equal (farpage_aio_putpages (set->object[i % OBJECTS], first,
                                            nr_of (i), addr, flags, wait_page,
                                            &set->wait[i]),
                      0);
  }
}

static void
assert_results (struct set *set, enum farpage_result result)
{
  for (unsigned i = 0; i < PUTS; i++) {
    wait_all (&set->wait[i]);
    for (unsigned k = 0; k < nr_of (i); k++)
      assert_int_equal (set->wait[i].result[k], result);
  }
}

static void
assert_content (struct rig *r, struct set *set, uint64_t version)
{
  for (unsigned i = 0; i < PUTS; i++)
    for (unsigned k = 0; k < nr_of (i); k++)
      rig_assert_has (r, set->object[i % OBJECTS], first_of (i) + k,
                      i % OBJECTS, first_of (i) + k, version);
}

/* ---- what there is on the loop ---- */

struct look {
  struct farpage_swap *swap;
  unsigned nr_async, nr_bundles;
  bool open[2];
};

static void
look_on_loop (void *arg)
{
  struct look *l = arg;

  l->nr_async = l->swap->nr_async;
  l->nr_bundles = 0;
  for (const struct bundle *b = l->swap->bundles; b != NULL; b = b->next)
    l->nr_bundles++;
  l->open[0] = l->swap->open[0] != NULL;
  l->open[1] = l->swap->open[1] != NULL;
}

static struct look
look (struct rig *r)
{
  struct look l = { .swap = r->swap };

  assert_int_equal (loop_call (r->swap->loop, look_on_loop, &l), 0);
  return l;
}

/* Until so many async bundles are with the link. */
static bool
wait_sent (struct rig *r, unsigned nr, unsigned ms)
{
  const uint64_t until_us = net_now_us () + ms * UINT64_C (1000);

  do {
    if (look (r).nr_async == nr)
      return true;
    net_sleep_ms (1);
  } while (net_now_us () < until_us);
  return false;
}

/* ---- when ---- */

/* Another write is under way, and what comes then is held for others to join,
 * but not until that write ends; a sync put is not.
 */
static void
test_hold (void **state)
{
  struct rig r = { .link = NULL };
  static struct wait first, sync;
  static struct set set;
  struct farpage_stat was, st;
  struct look l;
  void *addr[1];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 16 * MIB, "delay wdelay=2", NULL));
  set.from = 10;
  make_objects (&r, &set);
  rig_stat (&r, &was);
  rig_addrs (&r, addr, 0, 1, 1);
  rig_fill (addr[0], 0, 999, 1);
  wait_init (&first, 999, 1);
  assert_int_equal (
      farpage_aio_putpages (set.object[0], 999, 1, addr, 0, wait_page, &first),
      0);
  assert_true (wait_sent (&r, 1, 1000));
  rig_hold (&r);
  put_set (&r, &set, 1, 0);
  rig_addrs (&r, addr, 100, 1, 1);
  rig_fill (addr[0], 1, 999, 1);
  wait_init (&sync, 999, 1);
  assert_int_equal (farpage_aio_putpages (set.object[1], 999, 1, addr,
                                          FARPAGE_SYNC, wait_page, &sync),
                    0);
  rig_let_go (&r);
  rig_check (&r);
  l = look (&r); /* after one turn and its end */
  assert_false (l.open[true]);
  assert_true (wait_sent (&r, 2, 1000));
  l = look (&r);
  assert_int_equal (l.nr_bundles, 3);
  assert_int_equal (first.left, 1); /* it is still under way */
  rig_check (&r);
  wait_all (&first);
  wait_all (&sync);
  assert_results (&set, FARPAGE_OK);
  assert_content (&r, &set, 1);
  rig_assert_has (&r, set.object[0], 999, 0, 999, 1);
  rig_assert_has (&r, set.object[1], 999, 1, 999, 1);
  rig_stat (&r, &st);
  assert_int_equal (st.runs_put - was.runs_put, 3);
  assert_int_equal (st.pages_put - was.pages_put, PAGES + 2);
  end_objects (&set);
  rig_end (&r);
}

/* With nothing else under way it leaves at once, as soon as it is a cluster,
 * and what does not go on from it begins another one.
 */
static void
test_full (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_stat was, st;
  static struct wait wait[40];
  static struct set set;
  struct look l;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  make_objects (&r, &set);
  rig_stat (&r, &was);
  rig_hold (&r);
  for (unsigned i = 0; i < 40; i++) {
    void *addr[1];

    rig_addrs (&r, addr, 3 * i, 1, 1);
    rig_fill (addr[0], i % 3, 10 * i, 1);
    wait_init (&wait[i], 10 * i, 1);
    assert_int_equal (farpage_aio_putpages (set.object[i % 3], 10 * i, 1, addr,
                                            0, wait_page, &wait[i]),
                      0);
  }
  rig_let_go (&r);
  l = look (&r);
  assert_true (l.nr_bundles <= 3);
  for (unsigned i = 0; i < 40; i++) {
    wait_all (&wait[i]);
    assert_int_equal (wait[i].result[0], FARPAGE_OK);
    rig_assert_has (&r, set.object[i % 3], 10 * i, i % 3, 10 * i, 1);
  }
  rig_stat (&r, &st);
  assert_int_equal (st.runs_put - was.runs_put, 3); /* 16, 16, 8 */
  end_objects (&set);
  rig_end (&r);
}

/* ---- failure ---- */

/* Each page is an error and what it was before; no block is used again.  A
 * second try does not wait for the next timer.
 */
static void
fails (int flags)
{
  struct rig r = { .link = NULL };
  static struct set set;
  struct farpage_stat st;
  uint64_t begin_us;

  rig_start_failing (&r, MIB, "pwrite");
  set.from = 0;
  make_objects (&r, &set);
  rig_hold (&r);
  put_set (&r, &set, 1, flags);
  rig_let_go (&r);
  assert_results (&set, FARPAGE_OK);
  rig_fail (&r, true);
  begin_us = net_now_us ();
  for (unsigned round = 1; round <= 4; round++) {
    rig_hold (&r);
    put_set (&r, &set, 1 + round, flags);
    rig_let_go (&r);
    assert_results (&set, FARPAGE_ERROR);
    rig_check (&r);
    rig_stat (&r, &st);
    assert_int_equal (st.blocks_retired, 2 * PAGES * round);
    assert_int_equal (st.blocks_used, PAGES);
  }
  /* each would take a second if nobody but a timer woke the loop */
  assert_true (net_now_us () - begin_us < 2000000);
  assert_content (&r, &set, 1);
  rig_fail (&r, false);
  for (unsigned round = 0; round < 60; round++) { /* all blocks, and again */
    rig_hold (&r);
    put_set (&r, &set, 10 + round, flags);
    rig_let_go (&r);
    assert_results (&set, FARPAGE_OK);
    rig_check (&r);
  }
  assert_content (&r, &set, 69);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_retired, 2 * PAGES * 4);
  end_objects (&set);
  rig_end (&r);
}

static void
test_fails (void **state)
{
  (void) state;
  fails (0);
}

static void
test_fails_sync (void **state)
{
  (void) state;
  fails (FARPAGE_SYNC);
}

/* ---- loss ---- */

static void
cut (struct rig *r)
{
  relay_tell (&r->relay, "cut a how=reset");
  relay_tell (&r->relay, "heal a");
}

/* One connection: of several, what is lost with one could go over another
 * before that is seen to be lost, too, and to one more place then.
 */
static bool
start_with_one (struct rig *r, uint64_t size)
{
  struct farpage_options options;

  farpage_options_init (&options);
  options.connections = 1;
  return rig_start_behind_as (r, SERVER_FILE, size, &options);
}

/* Its connection is lost: all of it to one other run, and the old one is left
 * alone.  A page that was freed meanwhile stays free.
 */
static void
test_elsewhere (void **state)
{
  struct rig r = { .link = NULL };
  static struct set set;
  struct farpage_stat st;

  (void) state;
  if (!start_with_one (&r, 16 * MIB))
    skip ();
  make_objects (&r, &set);
  relay_tell (&r.relay, "freeze a");
  rig_hold (&r);
  put_set (&r, &set, 1, 0);
  rig_let_go (&r);
  assert_true (wait_sent (&r, 1, 1000));
  net_sleep_ms (20);
  assert_int_equal (farpage_unswapped (set.object[1], first_of (1)), 0);
  rig_check (&r);
  cut (&r);
  assert_results (&set, FARPAGE_OK);
  rig_check (&r);
  rig_stat (&r, &st);
  assert_int_equal (st.elsewhere, 1);
  assert_int_equal (st.blocks_limbo, PAGES);
  assert_int_equal (st.blocks_used, PAGES - 1);
  assert_int_equal (st.blocks_retired, 0);
  assert_int_equal (rig_get (&r, set.object[1], first_of (1)), FARPAGE_FAIL);
  for (unsigned i = 0; i < PUTS; i++)
    if (i != 1)
      rig_assert_has (&r, set.object[i % OBJECTS], first_of (i), i % OBJECTS,
                      first_of (i), 1);
  end_objects (&set);
  rig_end (&r);
}

/* There is no such run: its puts go by themselves, in what there is. */
static void
test_elsewhere_narrow (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *other;
  static struct set set;
  struct farpage_stat st;

  (void) state;
  if (!start_with_one (&r, 65 * PAGE))
    skip ();
  make_objects (&r, &set);
  other = rig_make (&r, NULL, 64);
  assert_int_equal (rig_put (&r, other, 7, 0, 55, 0), FARPAGE_OK);
  for (unsigned i = 0; i < 36; i += 6) /* 6 holes of 4 */
    assert_int_equal (farpage_freespace (other, i, 4), 0);
  relay_tell (&r.relay, "freeze a");
  rig_hold (&r);
  put_set (&r, &set, 1, 0); /* the 9 that are left */
  rig_let_go (&r);
  assert_true (wait_sent (&r, 1, 1000));
  net_sleep_ms (20);
  rig_check (&r);
  cut (&r);
  assert_results (&set, FARPAGE_OK);
  rig_check (&r);
  rig_stat (&r, &st);
  assert_int_equal (st.elsewhere, 0);
  assert_int_equal (st.blocks_limbo, PAGES);
  assert_content (&r, &set, 1);
  for (unsigned i = 36; i < 55; i++)
    rig_assert_has (&r, other, i, 7, i, 0);
  assert_int_equal (farpage_dealloc (other), 0);
  end_objects (&set);
  rig_end (&r);
}

/* Too late: each page is an error and what it was; the blocks may still be
 * written.
 */
static void
test_deadline (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_options o;
  static struct set set;
  struct farpage_stat st;

  (void) state;
  rig_options (&r, &o);
  o.deadline_us = 1500000;
  if (!rig_start_behind_as (&r, SERVER_FILE, 16 * MIB, &o))
    skip ();
  make_objects (&r, &set);
  rig_hold (&r);
  put_set (&r, &set, 1, 0);
  rig_let_go (&r);
  assert_results (&set, FARPAGE_OK);
  relay_tell (&r.relay, "freeze a");
  rig_hold (&r);
  put_set (&r, &set, 2, 0);
  rig_let_go (&r);
  assert_results (&set, FARPAGE_ERROR);
  rig_check (&r);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_limbo, PAGES);
  assert_int_equal (st.blocks_retired, 0);
  assert_int_equal (st.blocks_used, PAGES);
  relay_tell (&r.relay, "heal a");
  assert_content (&r, &set, 1);
  end_objects (&set);
  rig_end (&r);
}

/* ---- taken out ---- */

struct taker {
  pthread_t thread;
  struct farpage_object *object, *to;
  uint64_t first, count; /* count 0: dealloc, or copy to `to' */
  bool unswapped;
};

static void *
takes (void *arg)
{
  struct taker *t = arg;
  int err;

  if (t->unswapped)
    err = farpage_unswapped (t->object, t->first);
  else if (t->count > 0)
    err = farpage_freespace (t->object, t->first, t->count);
  else if (t->to != NULL)
    err = farpage_copy (t->object, t->to, 0, FARPAGE_DESTROY);
  else
    err = farpage_dealloc (t->object);
  assert_int_equal (err, 0);
  return NULL;
}

/* One object is copied away, one ends, of one pages are freed. */
static void
take_out (struct rig *r, bool held)
{
  struct taker taker[4] = { { .thread = 0 } };
  static struct wait first;
  struct farpage_object *to;
  static struct set set;
  struct farpage_stat st;
  void *addr[1];

  make_objects (r, &set);
  set.from = 10;
  to = rig_make (r, NULL, 1000);
  rig_addrs (r, addr, 0, 1, 1);
  rig_fill (addr[0], 7, 999, 1);
  wait_init (&first, 999, 1);
  assert_int_equal (
      farpage_aio_putpages (to, 999, 1, addr, 0, wait_page, &first), 0);
  assert_true (wait_sent (r, 1, 1000));
  taker[0].object = set.object[0];
  taker[0].to = to;
  taker[1].object = set.object[1];
  taker[2] = (struct taker){ .object = set.object[2],
                             .first = first_of (2),
                             .unswapped = true };
  taker[3] = (struct taker){ .object = set.object[2],
                             .first = first_of (5) + 1,
                             .count = 300 };
  rig_hold (r);
  put_set (r, &set, 1, 0);
  if (!held) {
    rig_let_go (r);
    assert_true (wait_sent (r, 2, 1000));
    rig_hold (r);
  }
  for (unsigned i = 0; i < 4; i++)
    pthread_create (&taker[i].thread, NULL, takes, &taker[i]);
  net_sleep_ms (50); /* they have asked */
  rig_let_go (r);
  rig_check (r);
  assert_int_equal (farpage_swap_close (r->swap), EBUSY);
  assert_results (&set, FARPAGE_OK);
  for (unsigned i = 0; i < 4; i++)
    pthread_join (taker[i].thread, NULL);
  wait_all (&first);
  rig_check (r);
  for (unsigned i = 0; i < PUTS; i += 3) /* of the first object */
    for (unsigned k = 0; k < nr_of (i); k++)
      rig_assert_has (r, to, first_of (i) + k, 0, first_of (i) + k, 1);
  assert_int_equal (rig_get (r, set.object[2], first_of (2)), FARPAGE_FAIL);
  rig_assert_has (r, set.object[2], first_of (5), 2, first_of (5), 1);
  assert_int_equal (rig_get (r, set.object[2], first_of (5) + 1), FARPAGE_FAIL);
  rig_stat (r, &st);
  assert_int_equal (st.blocks_used, 1 + nr_of (0) + nr_of (3) + 1);
  assert_int_equal (st.objects, 2);
  assert_int_equal (farpage_dealloc (to), 0);
  assert_int_equal (farpage_dealloc (set.object[2]), 0);
}

static void
test_taken_out (void **state)
{
  struct rig r = { .link = NULL };

  (void) state;
  assert_true (
      rig_start (&r, SERVER_MEMORY, 16 * MIB, "delay wdelay=300ms", NULL));
  take_out (&r, true);
  take_out (&r, false);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_hold),      cmocka_unit_test (test_full),
    cmocka_unit_test (test_fails),     cmocka_unit_test (test_fails_sync),
    cmocka_unit_test (test_elsewhere), cmocka_unit_test (test_elsewhere_narrow),
    cmocka_unit_test (test_deadline),  cmocka_unit_test (test_taken_out),
  };

  return NET_RUN (tests);
}
