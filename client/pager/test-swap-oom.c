/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager without memory: each allocation fails in its turn, and no page
 * is lost.
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

#define PAGES 40u
#define TURNS 16u

extern void *__real_malloc (size_t bytes);
extern void *__real_calloc (size_t nr, size_t bytes);
extern void *__wrap_malloc (size_t bytes);
extern void *__wrap_calloc (size_t nr, size_t bytes);

/* So many are had yet, then one or all are not; below 0: all are. */
static atomic_int left = -1;
static atomic_bool for_good;

static bool
fails (void)
{
  int was = atomic_load (&left);

  if (was < 0)
    return false;
  if (was > 0) {
    atomic_store (&left, was - 1);
    return false;
  }
  if (!atomic_load (&for_good))
    atomic_store (&left, -1);
  return true;
}

void *
__wrap_malloc (size_t bytes)
{
  return fails () ? NULL : __real_malloc (bytes);
}

void *
__wrap_calloc (size_t nr, size_t bytes)
{
  return fails () ? NULL : __real_calloc (nr, bytes);
}

static void
set_failing (int after, bool good)
{
  atomic_store (&for_good, good);
  atomic_store (&left, after);
}

/* Versions that the pages have; each is put again, some are not. */
static unsigned
put_without (struct rig *r, struct farpage_object *o, uint64_t version[],
             uint64_t next, int after, bool good)
{
  enum farpage_result results[PAGES];
  unsigned nr_again = 0;
  void *addr[PAGES];
  int err;

  rig_addrs (r, addr, 0, PAGES, next % 2 ? 3 : 1);
  for (unsigned i = 0; i < PAGES; i++)
    rig_fill (addr[i], 1, i, next);
  set_failing (after, good);
  err = farpage_putpages (o, 0, PAGES, addr, results);
  set_failing (-1, false);
  rig_check (r);
  if (err) {
    assert_int_equal (err, ENOMEM);
    return PAGES;
  }
  for (unsigned i = 0; i < PAGES; i++) {
    assert_true (results[i] == FARPAGE_OK || results[i] == FARPAGE_AGAIN);
    if (results[i] == FARPAGE_OK)
      version[i] = next;
    else
      nr_again++;
  }
  return nr_again;
}

static unsigned
get_without (struct rig *r, struct farpage_object *o, const uint64_t version[],
             int after, bool good)
{
  enum farpage_result results[PAGES];
  unsigned nr_again = 0;
  void *addr[PAGES];
  int err;

  for (unsigned from = 0; from < PAGES; from += 8) {
    rig_addrs (r, addr, 200, 8, 1 + from / 8 % 2);
    set_failing (after, good);
    err = farpage_getpages (o, from, 8, 3, addr, results);
    set_failing (-1, false);
    rig_check (r);
    if (err) {
      assert_int_equal (err, ENOMEM);
      nr_again++;
      continue;
    }
    for (unsigned i = 0; i < 8; i++) {
      assert_true (results[i] == FARPAGE_OK || results[i] == FARPAGE_AGAIN);
      nr_again += results[i] == FARPAGE_AGAIN;
      if (results[i] == FARPAGE_OK)
        assert_true (rig_is (addr[i], 1, from + i, version[from + i]));
    }
  }
  return nr_again;
}

static void
run (bool good)
{
  struct rig r = { .link = NULL };
  uint64_t version[PAGES], next = 1;
  unsigned nr_put = 0, nr_got = 0;
  struct farpage_object *o;

  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, PAGES);
  assert_int_equal (rig_put (&r, o, 1, 0, PAGES, 0), FARPAGE_OK);
  memset (version, 0, sizeof version);
  for (int after = 0; after < (int) TURNS; after++)
    for (unsigned i = 0; i < 2; i++) {
      nr_put += put_without (&r, o, version, next++, after, good);
      nr_got += get_without (&r, o, version, after, good);
      for (unsigned p = 0; p < PAGES; p++)
        rig_assert_has (&r, o, p, 1, p, version[p]);
    }
  assert_true (nr_put > 0 && nr_got > 0);
  set_failing (0, true);
  assert_int_equal (farpage_reserve (o, 0, 10), ENOMEM);
  set_failing (-1, false);
  rig_assert_has (&r, o, 9, 1, 9, version[9]);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_one (void **state)
{
  (void) state;
  run (false);
}

static void
test_all (void **state)
{
  (void) state;
  run (true);
}

/* Puts that share a write: each is put or was not tried, whatever of it could
 * not be had.
 */
#define PUTS 12u

static unsigned
put_together (struct rig *r, struct farpage_object *o, uint64_t version[],
              uint64_t next, int after)
{
  static struct wait wait[PUTS];
  unsigned nr_again = 0;
  void *addr[2];

  rig_hold (r);
  for (unsigned i = 0; i < PUTS; i++) {
    rig_addrs (r, addr, 4 * i, 2, 1 + i % 2);
    rig_fill (addr[0], 1, 3 * i, next);
    rig_fill (addr[1], 1, 3 * i + 1, next);
    wait_init (&wait[i], 3 * i, 2);
    assert_int_equal (farpage_aio_putpages (o, 3 * i, 2, addr,
                                            next % 2 ? FARPAGE_SYNC : 0,
                                            wait_page, &wait[i]),
                      0);
  }
  set_failing (after, next % 3 == 0);
  rig_let_go (r);
  for (unsigned i = 0; i < PUTS; i++)
    wait_all (&wait[i]);
  set_failing (-1, false);
  rig_check (r);
  for (unsigned i = 0; i < 2 * PUTS; i++) {
    const enum farpage_result result = wait[i / 2].result[i % 2];

    assert_true (result == FARPAGE_OK || result == FARPAGE_AGAIN);
    if (result == FARPAGE_OK)
      version[i / 2 * 3 + i % 2] = next;
    nr_again += result == FARPAGE_AGAIN;
  }
  return nr_again;
}

static void
test_together (void **state)
{
  struct rig r = { .link = NULL };
  uint64_t version[PAGES] = { 0 }, next = 1;
  struct farpage_object *o;
  unsigned nr_again = 0;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, PAGES);
  assert_int_equal (rig_put (&r, o, 1, 0, PAGES, 0), FARPAGE_OK);
  for (int after = 0; after < 20; after++)
    for (unsigned i = 0; i < 3; i++) {
      nr_again += put_together (&r, o, version, next++, after);
      for (unsigned p = 0; p < PAGES; p++)
        rig_assert_has (&r, o, p, 1, p, version[p]);
    }
  assert_true (nr_again > 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* What is opened and made, at each allocation; nothing is left of it. */
static void
test_made (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o = NULL, *none = NULL;
  struct farpage_link *link = NULL;
  struct farpage_stat before, after;
  char uri[300];
  int err;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, PAGES);
  rig_stat (&r, &before);
  set_failing (0, true);
  assert_int_equal (farpage_alloc (r.swap, "name", 0, PAGE, &none), ENOMEM);
  assert_int_equal (farpage_strategy (o, FARPAGE_WRITE, 0, PAGE, r.mem),
                    ENOMEM);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 0, PAGE, r.mem), ENOMEM);
  set_failing (-1, false);
  for (int i = 0; i < 8; i++) { /* one alone */
    set_failing (i, false);
    err = farpage_alloc (r.swap, "name", 0, PAGE, &none);
    set_failing (-1, false);
    assert_true (err == ENOMEM || err == 0);
    if (!err)
      assert_int_equal (farpage_dealloc (none), 0);
    rig_check (&r);
  }
  rig_stat (&r, &after);
  assert_int_equal (after.objects, before.objects);
  assert_int_equal (after.blocks_used, before.blocks_used);
  server_uri (&r.server, uri, sizeof uri);
  set_failing (0, true);
  err = farpage_link_open (uri, NULL, &link);
  set_failing (-1, false);
  assert_int_equal (err, ENOMEM);
  assert_null (link);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_one),
    cmocka_unit_test (test_all),
    cmocka_unit_test (test_together),
    cmocka_unit_test (test_made),
  };

  return NET_RUN (tests);
}
