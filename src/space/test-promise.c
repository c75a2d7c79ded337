/* SPDX-License-Identifier: BSD-2-Clause */
/* Charges, units and levels. */

#include <config.h>

#include "test-pool.h"

/* ---- charges ---- */

static void
test_charges (void **state)
{
  struct pool *p = pool_of (4096); /* reserve 256 */

  UNUSED (state);
  assert_int_equal (pool_stat (p).nr_charge_max, 4096 - 256);
  assert_int_equal (space_charge (p->sp, 4096 - 256 + 1), ENOSPC);
  assert_int_equal (space_charge (p->sp, UINT64_MAX), ENOSPC);
  assert_int_equal (space_charge (p->sp, 4096 - 256 - 1), 0);
  assert_int_equal (space_charge (p->sp, UINT64_MAX), ENOSPC);
  assert_int_equal (space_charge (p->sp, 2), ENOSPC);
  assert_int_equal (space_charge (p->sp, 1), 0);
  assert_int_equal (space_charge (p->sp, 1), ENOSPC);
  assert_int_equal (space_charge (p->sp, 0), 0);
  space_uncharge (p->sp, 0);
  space_uncharge (p->sp, 4096 - 256);
  assert_int_equal (pool_stat (p).nr_charged, 0);
  pool_close (p);
}

#define CHARGERS 8

struct charger {
  struct pool *p;
  atomic_uint_fast64_t *held;
  uint64_t seed, nr_refused;
  bool over;
};

static void *
charge_thread (void *arg)
{
  struct charger *c = arg;
  uint64_t max = 4096 - 256;
  uint64_t mine = 0;

  for (int i = 0; i < 400000; i++) {
    uint64_t nr = 1 + test_random (&c->seed) % (max / CHARGERS);

    if (mine > 0 && (test_random (&c->seed) & 1)) {
      atomic_fetch_sub (c->held, mine);
      space_uncharge (c->p->sp, mine);
      mine = 0;
    } else if (space_charge (c->p->sp, nr) == 0) {
      c->over |= atomic_fetch_add (c->held, nr) + nr > max;
      mine += nr;
    } else {
      c->nr_refused++;
    }
  }
  space_uncharge (c->p->sp, mine);
  atomic_fetch_sub (c->held, mine);
  return NULL;
}

/* Never beyond the limit, whoever charges; and the limit is met. */
static void
test_charge_threads (void **state)
{
  struct pool *p = pool_of (4096);
  struct charger c[CHARGERS];
  pthread_t thread[CHARGERS];
  atomic_uint_fast64_t held = 0;
  uint64_t seed = test_seed ();
  uint64_t nr_refused = 0;

  UNUSED (state);
  for (unsigned i = 0; i < CHARGERS; i++) {
    c[i] = (struct charger){ .p = p, .held = &held, .seed = seed + i };
    pthread_create (&thread[i], NULL, charge_thread, &c[i]);
  }
  for (unsigned i = 0; i < CHARGERS; i++) {
    pthread_join (thread[i], NULL);
    assert_false (c[i].over);
    nr_refused += c[i].nr_refused;
  }
  assert_true (nr_refused > 0);
  assert_int_equal (pool_stat (p).nr_charged, 0);
  pool_close (p);
}

/* ---- someone who waits ---- */

struct taker {
  struct pool *p;
  uint64_t nr, deadline_ns;
  bool charges; /* else units */
  atomic_bool over;
  int err;
  pthread_t thread;
};

static void *
taker_thread (void *arg)
{
  struct taker *t = arg;

  t->err = t->charges ? space_charge_wait (t->p->sp, t->nr, t->deadline_ns)
                      : space_acquire (t->p->sp, t->nr, t->deadline_ns);
  atomic_store (&t->over, true);
  return NULL;
}

static void
taker_start (struct taker *t, struct pool *p, uint64_t nr, uint64_t wait_ns)
{
  t->p = p;
  t->nr = nr;
  t->deadline_ns = env_now_ns () + wait_ns;
  atomic_init (&t->over, false);
  pthread_create (&t->thread, NULL, taker_thread, t);
}

/* It is still waiting a while later. */
static void
taker_waits (struct taker *t)
{
  nap_ns (SOON_NS);
  assert_false (atomic_load (&t->over));
}

static void
taker_ends (struct taker *t, int err)
{
  pthread_join (t->thread, NULL);
  assert_int_equal (t->err, err);
}

/* ---- units ---- */

#define UNITS 192 /* of a pool of 4096: three quarters of 256 */
#define SLICE 48

static void
take_all (struct pool *p)
{
  assert_int_equal (pool_stat (p).nr_units, UNITS);
  assert_int_equal (space_slice_max (p->sp), SLICE);
  for (int i = 0; i < UNITS / SLICE; i++)
    assert_int_equal (space_acquire (p->sp, SLICE, 0), 0);
}

/* A large request is not passed by a small one that came later. */
static void
test_units_in_turn (void **state)
{
  struct pool *p = pool_of (4096);
  struct taker large = { 0 }, small = { 0 };

  UNUSED (state);
  take_all (p);
  taker_start (&large, p, SLICE, LATE_NS);
  taker_waits (&large);
  taker_start (&small, p, 1, LATE_NS);
  taker_waits (&small);
  space_release (p->sp, SLICE - 1); /* enough for small alone */
  taker_waits (&small);
  /* Nor by one that does not wait. */
  assert_int_equal (space_acquire (p->sp, 1, 0), ETIMEDOUT);
  taker_waits (&large);
  space_release (p->sp, 1);
  taker_ends (&large, 0);
  taker_waits (&small);
  space_release (p->sp, 1);
  taker_ends (&small, 0);
  space_release (p->sp, UNITS);
  pool_check (p, 0);
  pool_close (p);
}

/* Who has to wait asks for units, once it stands in the queue; who does not
 * wait, or gets them at once, does not ask.
 */
static void
test_units_wanted (void **state)
{
  struct pool *p = pool_of (4096);
  struct taker t = { 0 };

  UNUSED (state);
  take_all (p);
  assert_int_equal (atomic_load (&p->nr_wanted), 0);
  assert_int_equal (space_acquire (p->sp, 1, 0), ETIMEDOUT);
  assert_int_equal (atomic_load (&p->nr_wanted), 0);
  taker_start (&t, p, 1, LATE_NS);
  while (atomic_load (&p->nr_wanted) == 0)
    nap_ns (NS_PER_MS);
  space_release (p->sp, 1);
  /* Nobody can take it from the one that waits. */
  assert_int_equal (space_acquire (p->sp, 1, 0), ETIMEDOUT);
  taker_ends (&t, 0);
  assert_int_equal (atomic_load (&p->nr_wanted), 1);
  space_release (p->sp, UNITS);
  pool_check (p, 0);
  pool_close (p);
}

/* Who gives up leaves the queue as it was: first, middle and last. */
static void
test_units_timeout (void **state)
{
  struct pool *p = pool_of (4096);

  UNUSED (state);
  for (int quitter = 0; quitter < 3; quitter++) {
    struct taker t[4] = { 0 };

    take_all (p);
    for (int i = 0; i < 3; i++) {
      taker_start (&t[i], p, 10 + (uint64_t) i,
                   i == quitter ? 20 * SOON_NS : LATE_NS);
      taker_waits (&t[i]);
    }
    taker_ends (&t[quitter], ETIMEDOUT);
    taker_start (&t[3], p, 13, LATE_NS);
    taker_waits (&t[3]);
    /* The others are served one by one. */
    for (int i = 0; i < 4; i++) {
      if (i == quitter)
        continue;
      taker_waits (&t[i]);
      space_release (p->sp, t[i].nr);
      taker_ends (&t[i], 0);
    }
    space_release (p->sp, UNITS);
    pool_check (p, 0);
  }
  pool_close (p);
}

/* When a large one gives up, small ones behind it go at once. */
static void
test_units_quitter_wakes (void **state)
{
  struct pool *p = pool_of (4096);
  struct taker large = { 0 }, small = { 0 };

  UNUSED (state);
  take_all (p);
  space_release (p->sp, 5);
  taker_start (&large, p, SLICE, 20 * SOON_NS);
  taker_waits (&large);
  taker_start (&small, p, 5, LATE_NS);
  taker_ends (&large, ETIMEDOUT);
  taker_ends (&small, 0);
  space_release (p->sp, UNITS);
  pool_check (p, 0);
  pool_close (p);
}

/* More may be parked than there are units; takers wait until it is made up. */
static void
test_park (void **state)
{
  struct pool *p = pool_of (4096);
  struct taker t = { 0 };

  UNUSED (state);
  space_park (p->sp, UNITS + 100);
  assert_int_equal (pool_stat (p).nr_parked, UNITS + 100);
  assert_int_equal (pool_stat (p).nr_units_used, UNITS + 100);
  assert_int_equal (space_acquire (p->sp, 1, env_now_ns () + NS_PER_MS),
                    ETIMEDOUT);
  taker_start (&t, p, SLICE, LATE_NS);
  space_unpark (p->sp, 100 + SLICE - 1);
  taker_waits (&t);
  space_unpark (p->sp, 1);
  taker_ends (&t, 0);
  space_unpark (p->sp, UNITS - SLICE);
  space_release (p->sp, SLICE);
  space_unpark (p->sp, 0);
  pool_check (p, 0);
  pool_close (p);
}

#define GRABBERS 6

static void *
grab_thread (void *arg)
{
  struct charger *c = arg;

  for (int i = 0; i < 20000; i++) {
    uint64_t nr = 1 + test_random (&c->seed) % SLICE;

    if (space_acquire (c->p->sp, nr, env_now_ns () + LATE_NS) != 0) {
      c->over = true;
      break;
    }
    c->over |= atomic_fetch_add (c->held, nr) + nr > UNITS;
    if (i % 64 == 0)
      sched_yield ();
    atomic_fetch_sub (c->held, nr);
    space_release (c->p->sp, nr);
  }
  return NULL;
}

/* Nobody is forgotten: with few units and many takers all come to an end. */
static void
test_unit_threads (void **state)
{
  struct pool *p = pool_of (4096);
  struct charger c[GRABBERS];
  pthread_t thread[GRABBERS];
  atomic_uint_fast64_t held = 0;
  uint64_t seed = test_seed ();

  UNUSED (state);
  for (unsigned i = 0; i < GRABBERS; i++) {
    c[i] = (struct charger){ .p = p, .held = &held, .seed = seed + i };
    pthread_create (&thread[i], NULL, grab_thread, &c[i]);
  }
  for (unsigned i = 0; i < GRABBERS; i++) {
    pthread_join (thread[i], NULL);
    assert_false (c[i].over);
  }
  pool_check (p, 0);
  pool_close (p);
}

/* ---- levels ---- */

static void
told (struct pool *p, unsigned nr, enum space_level last)
{
  assert_int_equal (atomic_load (&p->nr_told), nr);
  if (nr > 0)
    assert_int_equal (p->told[(nr - 1) % 64], last);
  assert_int_equal (pool_stat (p).level, last);
}

static void
charge_all_but (struct pool *p, uint64_t nr_free)
{
  struct space_stat st = pool_stat (p);
  uint64_t now = st.nr_charge_max - st.nr_charged;

  if (now > nr_free)
    assert_int_equal (space_charge_wait (p->sp, now - nr_free, 0), 0);
  else
    space_uncharge (p->sp, nr_free - now);
}

static void
levels (uint64_t nr_blocks, uint64_t low, uint64_t high)
{
  struct pool *p = pool_of (nr_blocks);

  charge_all_but (p, low);
  told (p, 0, SPACE_LEVEL_OK);
  charge_all_but (p, low - 1);
  told (p, 1, SPACE_LEVEL_ALMOST_FULL);
  /* Told once, up to the high mark and no more. */
  charge_all_but (p, 0);
  charge_all_but (p, high);
  charge_all_but (p, low - 1);
  charge_all_but (p, high);
  told (p, 1, SPACE_LEVEL_ALMOST_FULL);
  charge_all_but (p, high + 1);
  told (p, 2, SPACE_LEVEL_OK);
  charge_all_but (p, low);
  told (p, 2, SPACE_LEVEL_OK);
  charge_all_but (p, 0);
  told (p, 3, SPACE_LEVEL_ALMOST_FULL);
  /* Full: a charge failed; until the low mark. */
  assert_int_equal (space_charge_wait (p->sp, 1, 0), ENOSPC);
  assert_int_equal (space_charge_wait (p->sp, 1, 0), ENOSPC);
  told (p, 4, SPACE_LEVEL_FULL);
  charge_all_but (p, low - 1);
  told (p, 4, SPACE_LEVEL_FULL);
  charge_all_but (p, low);
  told (p, 5, SPACE_LEVEL_ALMOST_FULL);
  charge_all_but (p, high + 1);
  told (p, 6, SPACE_LEVEL_OK);
  /* What does not fit at all does not make the pool full. */
  assert_int_equal (space_charge_wait (p->sp, nr_blocks, 0), ENOSPC);
  told (p, 6, SPACE_LEVEL_OK);
  pool_close (p);
}

static void
test_levels (void **state)
{
  UNUSED (state);
  levels (4096, 128, 512);     /* the floors */
  levels (12800, 128, 512);    /* 1 % is the floor of low */
  levels (60000, 600, 1200);   /* 1 % and 2 % */
  levels (200000, 2000, 4000); /* the same */
  levels (32, 24 / 4, 24 / 2); /* too small for the floors */
}

/* A level passed under a lock is told by space_look (). */
static void
test_look (void **state)
{
  struct pool *p = pool_of (4096);

  UNUSED (state);
  assert_int_equal (space_charge (p->sp, 4096 - 256), 0);
  told (p, 0, SPACE_LEVEL_OK);
  space_look (p->sp);
  space_look (p->sp);
  told (p, 1, SPACE_LEVEL_ALMOST_FULL);
  pool_close (p);
}

/* ---- dropping ---- */

static void
test_drop (void **state)
{
  struct pool *p = pool_of (4096);
  struct taker t = { .charges = true };
  uint64_t begin;

  UNUSED (state);
  charge_all_but (p, 0);
  /* Nothing is being dropped: at once. */
  begin = env_now_ns ();
  assert_int_equal (space_charge_wait (p->sp, 1, begin + LATE_NS), ENOSPC);
  assert_true (env_now_ns () - begin < LATE_NS / 2);
  /* It waits for enough, and gets it. */
  space_drop_begin (p->sp);
  taker_start (&t, p, 10, LATE_NS);
  taker_waits (&t);
  space_uncharge (p->sp, 9);
  taker_waits (&t);
  space_uncharge (p->sp, 1);
  taker_ends (&t, 0);
  /* It waits no longer than it was told. */
  begin = env_now_ns ();
  assert_int_equal (space_charge_wait (p->sp, 1, begin + SOON_NS), ENOSPC);
  assert_in_range (env_now_ns () - begin, SOON_NS, LATE_NS / 2);
  /* Two drops: the end of the last is the end of waiting. */
  space_drop_begin (p->sp);
  taker_start (&t, p, 10, LATE_NS);
  taker_waits (&t);
  space_drop_done (p->sp);
  taker_waits (&t);
  space_drop_done (p->sp);
  taker_ends (&t, ENOSPC);
  assert_true (env_now_ns () < t.deadline_ns);
  pool_close (p);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_charges),
    cmocka_unit_test (test_charge_threads),
    cmocka_unit_test (test_units_in_turn),
    cmocka_unit_test (test_units_wanted),
    cmocka_unit_test (test_units_timeout),
    cmocka_unit_test (test_units_quitter_wakes),
    cmocka_unit_test (test_park),
    cmocka_unit_test (test_unit_threads),
    cmocka_unit_test (test_levels),
    cmocka_unit_test (test_look),
    cmocka_unit_test (test_drop),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
