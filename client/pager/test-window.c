/* SPDX-License-Identifier: BSD-2-Clause */
/* The pools against a plain recount, and their rules one by one. */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "test-util.h"
#include "window.h"

#define CLUSTER  65536u
#define REQUESTS 512u
#define STEPS    200000u

struct trial {
  struct window w;
  struct request req[REQUESTS];
  unsigned nr;          /* that were used */
  struct request *sent; /* a list */
  struct request *idle; /* the same, of those that came back */
  uint64_t now_us, random;
};

static struct trial *
begin (void)
{
  static struct trial t;

  memset (&t, 0, sizeof t);
  t.now_us = 1000;
  window_init (&t.w, CLUSTER, t.now_us);
  return &t;
}

static struct request *
make (struct trial *t, enum request_kind kind, enum request_pool pool,
      uint32_t len)
{
  struct request *req = t->idle;

  if (req != NULL)
    t->idle = req->next;
  else {
    assert_true (t->nr < REQUESTS);
    req = &t->req[t->nr++];
  }
  memset (req, 0, sizeof *req);
  req->kind = kind;
  req->pool = pool;
  req->len_bytes = len;
  return req;
}

static void
retire (struct trial *t, struct request *req)
{
  req->state = REQUEST_IDLE;
  req->next = t->idle;
  t->idle = req;
}

/* True: it has left. */
static bool
send_request (struct trial *t, struct request *req)
{
  if (!window_has_room (&t->w, req, t->now_us)) {
    retire (t, req);
    return false;
  }
  window_take (&t->w, req, true, t->now_us);
  req->state = REQUEST_SENT;
  req->next = t->sent;
  t->sent = req;
  assert_null (window_check (&t->w, t->sent));
  return true;
}

static bool
send_new (struct trial *t, enum request_kind kind, enum request_pool pool,
          uint32_t len)
{
  return send_request (t, make (t, kind, pool, len));
}

/* The i-th of those under way. */
static void
come_back (struct trial *t, unsigned i, bool learnt)
{
  struct request **link = &t->sent, *req;

  while (i-- > 0)
    link = &(*link)->next;
  req = *link;
  *link = req->next;
  window_give (&t->w, req, learnt, t->now_us);
  retire (t, req);
  assert_null (window_check (&t->w, t->sent));
}

static unsigned
fill (struct trial *t, enum request_kind kind, enum request_pool pool,
      uint32_t len)
{
  unsigned n = 0;

  while (send_new (t, kind, pool, len))
    n++;
  return n;
}

/* ---- the rules ---- */

static void
test_shares (void **state)
{
  struct trial *t = begin ();

  (void) state;
  assert_int_equal (fill (t, REQUEST_READ, POOL_DEMAND, CLUSTER), 24);
  assert_int_equal (fill (t, REQUEST_WRITE, POOL_WSYNC, CLUSTER), 16);
  assert_int_equal (fill (t, REQUEST_READ, POOL_AHEAD, CLUSTER), 8);
  assert_int_equal (fill (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER), 4);
  assert_int_equal (fill (t, REQUEST_FLUSH, POOL_ADMIN, 0), 4);
}

/* Few large ones are stopped by their bytes, many small ones by their count. */
static void
test_both_bind (void **state)
{
  struct trial *t = begin ();

  (void) state;
  assert_int_equal (fill (t, REQUEST_READ, POOL_DEMAND, 4096), 24);
  assert_int_equal (fill (t, REQUEST_WRITE, POOL_WSYNC, 3 * CLUSTER), 5);
  assert_int_equal (fill (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER / 16), 64);
  assert_int_equal (t->w.pool[POOL_WASYNC].bytes, 4 * CLUSTER);
  t->w.pool[POOL_AHEAD].nr_max = 10;
  assert_int_equal (fill (t, REQUEST_READ, POOL_AHEAD, 4096), 10);
}

static void
test_one_fits (void **state)
{
  static const enum request_pool pools[] = { POOL_DEMAND, POOL_WSYNC,
                                             POOL_AHEAD, POOL_WASYNC };
  struct trial *t = begin ();

  (void) state;
  for (unsigned i = 0; i < 4; i++) {
    assert_true (send_new (t, REQUEST_READ, pools[i], UINT32_MAX & ~4095u));
    assert_false (send_new (t, REQUEST_READ, pools[i], 4096));
    come_back (t, 0, true);
    assert_true (send_new (t, REQUEST_READ, pools[i], 4096));
  }
}

/* A trim of 32 MiB carries nothing. */
static void
test_no_bytes (void **state)
{
  struct trial *t = begin ();

  (void) state;
  assert_int_equal (fill (t, REQUEST_TRIM, POOL_ADMIN, 32u << 20), 4);
  assert_int_equal (t->w.pool[POOL_ADMIN].bytes, 0);
}

static void
test_lowered (void **state)
{
  struct trial *t = begin ();

  (void) state;
  window_set_range (&t->w, POOL_WASYNC, 10, 10);
  assert_int_equal (fill (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER), 10);
  window_set_range (&t->w, POOL_WASYNC, 3, 3);
  assert_int_equal (window_limit_bytes (&t->w, POOL_WASYNC, t->now_us),
                    3 * CLUSTER);
  for (unsigned left = 10; left > 3; left--) {
    assert_int_equal (t->w.pool[POOL_WASYNC].nr, left);
    assert_false (send_new (t, REQUEST_WRITE, POOL_WASYNC, 4096));
    come_back (t, 0, left % 2 == 0);
  }
  assert_false (send_new (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER));
  come_back (t, 0, true);
  assert_true (send_new (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER));
  assert_int_equal (t->w.pool[POOL_WASYNC].nr_peak, 10);
}

static void
test_bogus (void **state)
{
  struct trial *t = begin ();

  (void) state;
  window_set_range (&t->w, POOL_AHEAD, 0, 0);
  assert_int_equal (window_limit_bytes (&t->w, POOL_AHEAD, 1000), CLUSTER);
  window_set_range (&t->w, POOL_AHEAD, UINT32_MAX, 5);
  assert_int_equal (window_limit_bytes (&t->w, POOL_AHEAD, 1000),
                    (uint64_t) BDP_MAX * CLUSTER);
  window_set_range (&t->w, POOL_DEMAND, 1, 1);
  assert_int_equal (window_limit_bytes (&t->w, POOL_DEMAND, 1000),
                    24 * CLUSTER);
  window_init (&t->w, 0, 0);
  assert_int_equal (window_limit_bytes (&t->w, POOL_DEMAND, 0), 24);
  window_init (&t->w, UINT64_MAX, 0);
  assert_int_equal (window_limit_bytes (&t->w, POOL_DEMAND, 0),
                    24 * (uint64_t) UINT32_MAX);
}

/* It was taken as AHEAD and is wanted now: AHEAD gets its room back. */
static void
test_pool_changes (void **state)
{
  struct trial *t = begin ();

  (void) state;
  assert_true (send_new (t, REQUEST_READ, POOL_DEMAND, CLUSTER));
  assert_true (send_new (t, REQUEST_READ, POOL_AHEAD, CLUSTER));
  t->sent->pool = POOL_DEMAND;
  come_back (t, 0, true);
  assert_int_equal (t->w.pool[POOL_AHEAD].nr, 0);
  assert_int_equal (t->w.pool[POOL_DEMAND].nr, 1);
}

/* Round trips of 10 ms with all that there is room for. */
static void
round_trips (struct trial *t, unsigned n)
{
  while (n-- > 0) {
    fill (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER);
    t->now_us += 10000;
    while (t->sent != NULL)
      come_back (t, 0, true);
  }
}

static void
test_restart (void **state)
{
  struct trial *t = begin ();
  struct window_pool *p = &t->w.pool[POOL_WASYNC];

  (void) state;
  round_trips (t, 6);
  assert_true (window_limit_bytes (&t->w, POOL_WASYNC, t->now_us) >
               16 * CLUSTER);
  assert_true (bdp_rt_us (&p->bdp) == 10000 && bdp_rate (&p->bdp) > 0);
  fill (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER);
  window_restart (&t->w, t->now_us);
  assert_null (window_check (&t->w, t->sent));
  assert_int_equal (window_limit_bytes (&t->w, POOL_WASYNC, t->now_us),
                    BDP_MIN * CLUSTER);
  assert_true (bdp_rt_us (&p->bdp) == 0 && bdp_rate (&p->bdp) == 0);
  while (t->sent != NULL)
    come_back (t, 0, false);
  assert_int_equal (fill (t, REQUEST_WRITE, POOL_WASYNC, CLUSTER), BDP_MIN);
}

/* What comes back teaches, what is lost does not. */
static void
test_learnt (void **state)
{
  struct trial *t = begin ();
  struct window_pool *p = &t->w.pool[POOL_DEMAND];

  (void) state;
  assert_true (send_new (t, REQUEST_READ, POOL_DEMAND, CLUSTER));
  t->now_us += 5000;
  come_back (t, 0, false);
  assert_int_equal (bdp_rt_us (&p->bdp), 0);
  assert_true (send_new (t, REQUEST_READ, POOL_DEMAND, CLUSTER));
  t->now_us += 5000;
  come_back (t, 0, true);
  assert_int_equal (bdp_rt_us (&p->bdp), 5000);
}

/* ---- random ---- */

struct recount {
  unsigned nr;
  uint64_t bytes;
};

static struct recount
recount (const struct trial *t, enum request_pool pool)
{
  struct recount c = { 0, 0 };

  for (const struct request *req = t->sent; req != NULL; req = req->next)
    if (req->took == pool) {
      c.nr++;
      c.bytes += req->kind <= REQUEST_WRITE ? req->len_bytes : 0;
    }
  return c;
}

static void
random_send (struct trial *t)
{
  static const unsigned nr_max[POOLS] = { 24, 16, 1024, 1024, 4 };
  enum request_pool pool = test_random_below (&t->random, POOLS);
  enum request_kind kind = test_random_below (&t->random, 5);
  uint32_t len = (1 + test_random_below (&t->random, 24)) * 4096;
  struct request *req = make (t, kind, pool, len);
  uint64_t limit = window_limit_bytes (&t->w, pool, t->now_us);
  uint64_t bytes = kind <= REQUEST_WRITE ? len : 0;
  struct recount was = recount (t, pool);
  bool room =
      was.nr == 0 || (was.nr < nr_max[pool] && was.bytes + bytes <= limit);

  assert_int_equal (t->w.pool[pool].nr, was.nr);
  assert_int_equal (t->w.pool[pool].bytes, was.bytes);
  assert_int_equal (send_request (t, req), room);
  assert_int_equal (recount (t, pool).bytes, was.bytes + (room ? bytes : 0));
  if (room && test_random_below (&t->random, 4) == 0)
    req->pool = test_random_below (&t->random, POOLS);
}

static void
random_step (struct trial *t, unsigned *nr_sent)
{
  unsigned what = test_random_below (&t->random, 100);

  *nr_sent = 0;
  for (struct request *req = t->sent; req != NULL; req = req->next)
    ++*nr_sent;
  t->now_us += test_random_below (&t->random, 500);
  if (what < 55 && *nr_sent < REQUESTS)
    random_send (t);
  else if (what < 97 && *nr_sent > 0)
    come_back (t, test_random_below (&t->random, *nr_sent), what < 90);
  else if (what < 99)
    window_set_range (&t->w, test_random_below (&t->random, POOLS),
                      test_random_below (&t->random, 20),
                      test_random_below (&t->random, 40));
  else if (test_random_below (&t->random, 20) == 0)
    window_restart (&t->w, t->now_us);
  assert_null (window_check (&t->w, t->sent));
}

static void
test_random (void **state)
{
  struct trial *t = begin ();
  unsigned nr_sent, nr_most = 0;

  (void) state;
  t->random = test_seed () | 1;
  for (unsigned i = 0; i < STEPS; i++) {
    random_step (t, &nr_sent);
    if (nr_sent > nr_most)
      nr_most = nr_sent;
  }
  print_message ("%u steps, %u under way at most\n", STEPS, nr_most);
  assert_true (nr_most > 40);
  while (t->sent != NULL)
    come_back (t, 0, true);
  for (unsigned i = 0; i < POOLS; i++) {
    assert_int_equal (t->w.pool[i].nr, 0);
    assert_int_equal (t->w.pool[i].bytes, 0);
  }
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_shares),       cmocka_unit_test (test_both_bind),
    cmocka_unit_test (test_one_fits),     cmocka_unit_test (test_no_bytes),
    cmocka_unit_test (test_lowered),      cmocka_unit_test (test_bogus),
    cmocka_unit_test (test_pool_changes), cmocka_unit_test (test_restart),
    cmocka_unit_test (test_learnt),       cmocka_unit_test (test_random),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
