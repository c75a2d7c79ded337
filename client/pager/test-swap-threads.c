/* SPDX-License-Identifier: BSD-2-Clause */
/* Many threads on the same objects: put, get, free, reserve, copy, strategy and
 * haspage at random, long calls in small steps, and the recount all the while.
 * A thread has pages of its own in each object and waits for each call, so it
 * knows what they have; what it meets of the others is their steps, claims and
 * puts, and a lack of space.
 *
 * FARPAGE_SEED, FARPAGE_RANDOM_OPS.
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
#include "test-util.h"

#define WORKERS 4u
#define SHARED  2u    /* objects */
#define OWN     1200u /* pages that a worker has of each */
#define CALL    24u
#define ZERO    1u

struct worker {
  struct rig *rig;
  pthread_t thread;
  struct farpage_object *shared[SHARED];
  unsigned id;
  uint64_t base, random, next_version, nr_ops, nr_no_space;
  uint64_t version[SHARED][OWN];
  uint8_t *mem;
};

static atomic_bool is_over;

static uint64_t
rnd (struct worker *w, uint64_t below)
{
  return test_random_below (&w->random, below);
}

/* Threads must not end the test: an error ends the program. */
static void
must (bool is_so, const struct worker *w, const char *what)
{
  if (is_so)
    return;
  fprintf (stderr, "worker %u: %s\n", w->id, what);
  abort ();
}

static bool
has_version (const struct worker *w, const uint8_t *p, uint64_t page,
             uint64_t version)
{
  if (version == ZERO)
    return p[0] == 0 && memcmp (p, p + 1, PAGE - 1) == 0;
  return rig_is (p, w->id, page, version);
}

static void
work_put (struct worker *w, unsigned o, uint64_t first, unsigned n)
{
  enum farpage_result results[CALL];
  void *addr[CALL] = { NULL };

  w->next_version++;
  for (unsigned i = 0; i < n; i++) {
    addr[i] = w->mem + (size_t) i * PAGE;
    rig_fill (addr[i], w->id, first + i, w->next_version);
  }
  must (farpage_putpages (w->shared[o], w->base + first, n, addr, results) == 0,
        w, "put");
  for (unsigned i = 0; i < n; i++) {
    must (results[i] == FARPAGE_OK || results[i] == FARPAGE_FAIL, w,
          "a put's result");
    if (results[i] == FARPAGE_OK)
      w->version[o][first + i] = w->next_version;
  }
}

static void
work_get (struct worker *w, unsigned o, uint64_t first, unsigned n)
{
  enum farpage_result results[CALL];
  const unsigned req = rnd (w, n);
  void *addr[CALL] = { NULL };

  for (unsigned i = 0; i < n; i++)
    addr[i] = w->mem + (size_t) i * PAGE;
  must (farpage_getpages (w->shared[o], w->base + first, n, req, addr,
                          results) == 0,
        w, "get");
  for (unsigned i = 0; i < n; i++) {
    const uint64_t version = w->version[o][first + i];

    if (i == req)
      must (results[i] == (version ? FARPAGE_OK : FARPAGE_FAIL), w,
            "a get's result");
    if (results[i] == FARPAGE_OK)
      must (version != 0 && has_version (w, addr[i], first + i, version), w,
            "wrong content");
    else
      must (results[i] == FARPAGE_AGAIN || i == req, w, "another result");
  }
}

static void
work_reserve (struct worker *w, unsigned o, uint64_t first, uint64_t n)
{
  int err = farpage_reserve (w->shared[o], w->base + first, n);

  must (err == 0 || err == ENOSPC, w, "reserve");
  w->nr_no_space += err != 0;
  for (uint64_t i = first; !err && i < first + n; i++)
    w->version[o][i] = ZERO;
}

static void
work_free (struct worker *w, unsigned o, uint64_t first, uint64_t n)
{
  must (farpage_strategy (w->shared[o], FARPAGE_FREE, (w->base + first) * PAGE,
                          n * PAGE, NULL) == 0,
        w, "free");
  for (uint64_t i = first; i < first + n; i++)
    w->version[o][i] = 0;
}

static void
work_write (struct worker *w, unsigned o, uint64_t first, unsigned n)
{
  int err;

  w->next_version++;
  for (unsigned i = 0; i < n; i++)
    rig_fill (w->mem + (size_t) i * PAGE, w->id, first + i, w->next_version);
  err = farpage_strategy (w->shared[o], FARPAGE_WRITE, (w->base + first) * PAGE,
                          n * PAGE, w->mem);
  must (err == 0 || err == ENOSPC, w, "write");
  if (err) /* which of them, it does not say */
    work_free (w, o, first, n);
  for (uint64_t i = first; !err && i < first + n; i++)
    w->version[o][i] = w->next_version;
}

static void
work_read (struct worker *w, unsigned o, uint64_t first, unsigned n)
{
  must (farpage_strategy (w->shared[o], FARPAGE_READ, (w->base + first) * PAGE,
                          n * PAGE, w->mem) == 0,
        w, "read");
  for (unsigned i = 0; i < n; i++) {
    uint64_t version = w->version[o][first + i];

    must (has_version (w, w->mem + (size_t) i * PAGE, first + i,
                       version ? version : ZERO),
          w, "wrong content of a read");
  }
}

/* One object of its own into another one; with and without its end. */
static void
work_copy (struct worker *w)
{
  const bool destroys = rnd (w, 2) == 0;
  const uint64_t off = rnd (w, 300);
  enum farpage_result result;
  struct farpage_object *a = NULL, *b = NULL;
  void *addr = w->mem;
  int err;

  must (farpage_alloc (w->rig->swap, NULL, 0, 700 * PAGE, &a) == 0 &&
            farpage_alloc (w->rig->swap, NULL, 0, 700 * PAGE, &b) == 0,
        w, "alloc");
  err = farpage_reserve (a, 0, 300 + rnd (w, 300));
  must (err == 0 || err == ENOSPC, w, "reserve of its own");
  rig_fill (w->mem, w->id, off, 7);
  must (farpage_putpages (a, off, 1, &addr, &result) == 0, w, "put");
  must (farpage_copy (a, b, off, destroys ? FARPAGE_DESTROY : 0) == 0, w,
        "copy");
  if (!destroys)
    must (farpage_dealloc (a) == 0, w, "dealloc of a source");
  if (result == FARPAGE_OK) {
    memset (w->mem, 0, PAGE);
    must (farpage_getpages (b, 0, 1, 0, &addr, &result) == 0 &&
              result == FARPAGE_OK && rig_is (w->mem, w->id, off, 7),
          w, "what was copied");
  }
  must (farpage_dealloc (b) == 0, w, "dealloc");
}

static void
work_has (struct worker *w, unsigned o, uint64_t page)
{
  unsigned before = 0, after = 0;

  must (farpage_haspage (w->shared[o], w->base + page, &before, &after) ==
            (w->version[o][page] != 0),
        w, "haspage");
  must (before <= 7 && after <= 7, w, "the row of haspage");
  for (unsigned i = 1; i <= after && page + i < OWN; i++)
    must (w->version[o][page + i] != 0, w, "a page after");
  for (unsigned i = 1; i <= before && i <= page; i++)
    must (w->version[o][page - i] != 0, w, "a page before");
}

static void *
works (void *arg)
{
  struct worker *w = arg;

  for (uint64_t i = 0; i < w->nr_ops; i++) {
    const unsigned o = rnd (w, SHARED), n = 1 + rnd (w, CALL);
    const unsigned long_n = 1 + rnd (w, rnd (w, 4) == 0 ? 600 : 40);
    const uint64_t first = rnd (w, OWN - n), at = rnd (w, OWN - long_n);

    switch (rnd (w, 16)) {
    case 0:
      work_free (w, o, at, long_n);
      break;
    case 1:
      work_reserve (w, o, at, long_n);
      break;
    case 2:
      work_copy (w);
      break;
    case 3:
      work_write (w, o, first, n);
      break;
    case 4:
      work_read (w, o, first, n);
      break;
    case 5:
      work_has (w, o, first);
      break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
      work_put (w, o, first, n);
      break;
    default:
      work_get (w, o, first, n);
    }
  }
  return NULL;
}

static void *
checks (void *arg)
{
  struct rig *r = arg;

  while (!atomic_load (&is_over)) {
    rig_check (r);
    net_sleep_ms (5);
  }
  return NULL;
}

/* Nearly all blocks are wanted, so space runs out now and then. */
static void
all_at_once (enum server_kind kind, const char *filter, uint64_t nr_ops)
{
  static struct worker worker[WORKERS];
  struct farpage_object *shared[SHARED];
  struct rig r = { .link = NULL };
  uint64_t seed = test_seed (), nr_no_space = 0;
  struct farpage_stat st;
  pthread_t checker;

  if (!rig_start (&r, kind, 26 * MIB, filter, NULL))
    skip ();
  rig_small_steps (&r);
  for (unsigned o = 0; o < SHARED; o++)
    shared[o] = rig_make (&r, NULL, WORKERS * OWN);
  atomic_store (&is_over, false);
  for (unsigned i = 0; i < WORKERS; i++) {
    worker[i] = (struct worker){ .rig = &r, .id = i };
    worker[i].base = i * OWN;
    worker[i].random = (seed + i) * 2 + 1;
    worker[i].next_version = ZERO;
    worker[i].nr_ops = nr_ops;
    worker[i].mem = malloc (CALL * PAGE);
    memcpy (worker[i].shared, shared, sizeof shared);
    pthread_create (&worker[i].thread, NULL, works, &worker[i]);
  }
  pthread_create (&checker, NULL, checks, &r);
  for (unsigned i = 0; i < WORKERS; i++) {
    pthread_join (worker[i].thread, NULL);
    nr_no_space += worker[i].nr_no_space;
    free (worker[i].mem);
  }
  atomic_store (&is_over, true);
  pthread_join (checker, NULL);
  printf ("%s: %u threads, %lu operations each; %lu found no space\n",
          server_names[kind], WORKERS, (unsigned long) nr_ops,
          (unsigned long) nr_no_space);
  for (unsigned o = 0; o < SHARED; o++)
    assert_int_equal (farpage_dealloc (shared[o]), 0);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_used, 0);
  rig_end (&r);
}

static void
test_threads (void **state)
{
  (void) state;
  all_at_once (SERVER_MEMORY, NULL,
               test_environment ("FARPAGE_RANDOM_OPS", 1500));
}

static void
test_threads_slow (void **state)
{
  (void) state;
  all_at_once (SERVER_MEMORY, "delay rdelay=1ms wdelay=2ms",
               test_environment ("FARPAGE_RANDOM_OPS", 150));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_threads_slow),
  };

  return NET_RUN (tests);
}
