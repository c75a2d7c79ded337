/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory from afar while its server dies, a network breaks, time runs out: no
 * wrong word, no zeros for what was there; SIGBUS for who touches what is lost,
 * and the others go on.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-killer.h"
#include "test-map-rig.h"
#include "test-util.h"

#define NR      1024u
#define FRAMES  128u
#define THREADS 3u
#define KILLS   3u

/* ---- a crowd ---- */

/* Each has a third of the pages, and knows what it wrote. */
struct worker {
  pthread_t thread;
  volatile uint64_t *memory;
  uint64_t model[NR];
  unsigned id;
  uint64_t random;
  atomic_ulong *progress;
  atomic_bool *stop;
  unsigned wrong;
};

static void *
work (void *arg)
{
  struct worker *w = arg;

  while (!atomic_load (w->stop) && w->wrong == 0) {
    const uint64_t page =
        test_random_below (&w->random, NR / THREADS) * THREADS + w->id;

    if (w->memory[page * WORDS + 3] != w->model[page])
      w->wrong++;
    if (test_random_below (&w->random, 2) == 0)
      w->memory[page * WORDS + 3] = ++w->model[page];
    atomic_fetch_add (w->progress, 1);
  }
  return NULL;
}

static void
crowd_begin (struct worker *w, struct farpage_map *m, atomic_ulong *progress,
             atomic_bool *stop)
{
  atomic_store (stop, false);
  for (unsigned i = 0; i < THREADS; i++) {
    w[i] = (struct worker){ .memory = farpage_map_address (m),
                            .id = i,
                            .random = i + 1,
                            .progress = progress,
                            .stop = stop };
    pthread_create (&w[i].thread, NULL, work, &w[i]);
  }
}

static void
crowd_end (struct worker *w, struct farpage_map *m, atomic_bool *stop)
{
  const uint64_t *memory = farpage_map_address (m);

  atomic_store (stop, true);
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join (w[i].thread, NULL);
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal (w[i].wrong, 0);
  for (unsigned p = 0; p < NR / THREADS * THREADS; p++)
    assert_int_equal (memory[p * WORDS + 3], w[p % THREADS].model[p]);
}

static void
test_kills (void **state)
{
  static struct worker w[THREADS];
  struct rig r = { .link = NULL };
  struct killer k = { .nr = 0 };
  struct farpage_object *o;
  struct farpage_map *m;
  atomic_bool stop;

  (void) state;
  if (!rig_start (&r, SERVER_DURABLE, 64 * MIB, NULL, NULL))
    skip ();
  o = rig_make (&r, NULL, NR);
  m = map_open (o, FRAMES);
  crowd_begin (w, m, &k.progress, &stop);
  killer_begin (&k, &r.server, KILLS, test_seed ());
  killer_wait (&k);
  crowd_end (w, m, &stop);
  map_recount (m);
  assert_int_equal (map_stat (m).lost, 0);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_close (&r);
  killer_end (&k);
  server_kill (&r.server);
}

/* Frozen, cut, healed. */
static void
test_cuts (void **state)
{
  static struct worker w[THREADS];
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  atomic_ulong progress = 0;
  atomic_bool stop;

  (void) state;
  if (!rig_start_behind (&r, SERVER_FARPAGE, 64 * MIB))
    skip ();
  o = rig_make (&r, NULL, NR);
  m = map_open (o, FRAMES);
  crowd_begin (w, m, &progress, &stop);
  for (unsigned i = 0; i < 6; i++) {
    const unsigned long was = atomic_load (&progress);

    relay_tell (&r.relay, "freeze a");
    net_sleep_ms (50);
    if (i % 3 != 2)
      relay_tell (&r.relay, i % 3 == 0 ? "cut a how=reset" : "cut a");
    relay_tell (&r.relay, "heal a");
    while (atomic_load (&progress) < was + 500)
      net_sleep_ms (1);
  }
  crowd_end (w, m, &stop);
  map_recount (m);
  assert_int_equal (map_stat (m).lost, 0);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- what is lost ---- */

/* All pages hold i + 1 in their first byte; all but about FRAMES of them are
 * with the server alone.
 */
static struct farpage_map *
fill (struct farpage_object *o, volatile uint8_t **memory)
{
  struct farpage_map *m = map_open (o, FRAMES);

  *memory = farpage_map_address (m);
  for (unsigned i = 0; i < NR / 2; i++)
    (*memory)[i * PAGE] = (uint8_t) (i % 250 + 1);
  assert_int_equal (farpage_sync (m, 0, NR * PAGE), 0);
  return m;
}

struct reader {
  pthread_t thread;
  volatile uint8_t *memory;
  atomic_ulong looks;
  atomic_bool stop;
  bool wrong;
};

/* Looks at what is there, and pinned. */
static void *
look (void *arg)
{
  struct reader *l = arg;

  while (!atomic_load (&l->stop)) {
    l->wrong = l->wrong || *l->memory != 1;
    atomic_fetch_add (&l->looks, 1);
  }
  return NULL;
}

/* state: what this kernel shall not be able to do. */
static void
test_deadline (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_options options;
  struct farpage_object *o;
  struct farpage_map *m;
  struct reader l = { .looks = 0 };
  volatile uint8_t *memory;
  uint64_t begin;
  unsigned long looks;
  unsigned page;
  uint8_t byte = 0;

#ifdef __SANITIZE_THREAD__
  if (strcmp (*state, "poison") == 0)
    skip (); /* it takes a mapping for a write to what is mapped */
#endif
  setenv ("FARPAGE_UFFD_WITHOUT", *state, 1);
  rig_options (&r, &options);
  options.deadline_us = 1000000;
  if (!rig_start_behind_as (&r, SERVER_MEMORY, 64 * MIB, &options))
    skip ();
  o = rig_make (&r, NULL, NR);
  m = fill (o, &memory);
  assert_int_equal (farpage_pin (m, 0, PAGE), 0);
  l.memory = memory;
  pthread_create (&l.thread, NULL, look, &l);
  relay_tell (&r.relay, "freeze a");
  begin = net_now_us ();
  assert_int_equal (map_peek (memory + 100 * PAGE, &byte), SIGBUS);
  assert_true (net_now_us () - begin > 900000);
  assert_int_equal (map_peek (memory + 100 * PAGE, &byte), SIGBUS);
  assert_int_equal (map_stat (m).lost, 1);
  /* what was never put needs no server */
  assert_int_equal (map_peek (memory + (NR - 1) * PAGE, &byte), 0);
  assert_int_equal (byte, 0);
  assert_int_equal (farpage_pin (m, 120 * PAGE, PAGE), EIO);
  looks = atomic_load (&l.looks);
  while (atomic_load (&l.looks) == looks) /* or the test takes for ever */
    net_sleep_ms (1);
  relay_tell (&r.relay, "heal a");
  for (page = 200; map_peek (memory + page * PAGE, &byte) == SIGBUS; page++)
    assert_true (page < 220); /* a connect may take more than the deadline */
  assert_int_equal (byte, page + 1);
  atomic_store (&l.stop, true);
  pthread_join (l.thread, NULL);
  assert_false (l.wrong);
  assert_int_equal (farpage_unpin (m, 0, PAGE), 0);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
  unsetenv ("FARPAGE_UFFD_WITHOUT");
}

/* It comes back with nothing of what it had. */
static void
test_forgets (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  volatile uint8_t *memory;
  unsigned nr = 0;
  uint8_t byte;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, NR);
  m = fill (o, &memory);
  server_kill (&r.server);
  server_restart (&r.server);
  for (unsigned i = 0; i < NR / 2; i++) {
    const int signal = map_peek (memory + i * PAGE, &byte);

    if (signal == 0)
      assert_int_equal (byte, i % 250 + 1);
    else
      assert_int_equal (signal, SIGBUS);
    nr += signal == SIGBUS;
  }
  assert_true (nr >= NR / 2 - FRAMES);
  /* what is written now can not be put: memory runs out, nobody hangs */
  for (unsigned i = NR / 2, signal = 0; i < NR && signal == 0; i++)
    signal = (unsigned) map_poke (memory + i * PAGE, 1);
  assert_int_equal (farpage_sync (m, 0, NR * PAGE), EIO);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), EIO);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_close (&r);
  server_kill (&r.server);
}

#define DEADLINE(name, without)                                   \
  {                                                               \
    name, test_deadline, NULL, NULL, (void *) (uintptr_t) without \
  }

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_kills),
    cmocka_unit_test (test_cuts),
    DEADLINE ("deadline", ""),
#ifndef __SANITIZE_THREAD__ /* which takes a mapping for a write to it */
    DEADLINE ("deadline, no poison", "poison"),
#endif
    cmocka_unit_test (test_forgets),
  };

  return MAP_RUN (tests);
}
