/* SPDX-License-Identifier: BSD-2-Clause */
/* Kills a server while a test is at work with it: see test-killer.h.
 *
 * A thread, so that the test goes on asking meanwhile.  It lets the test get on
 * by a random number of steps, and some microseconds more, so that the end
 * comes at any point of a request; then the server is away for up to 60 ms, so
 * that the link finds it there at once, or after some tries.  The thread stays
 * until killer_end (), for what it started dies with it.
 */

#include <config.h>

#include "test-killer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "test-util.h"

#define STEPS   1500u /* between two kills, at most */
#define WAIT_MS 30000u

static void
sleep_us (uint64_t us)
{
  struct timespec ts = { .tv_nsec = (long) us * 1000 };

  nanosleep (&ts, NULL);
}

/* False: it does not get on, or shall not. */
static bool
wait_progress (struct killer *k)
{
  const unsigned long until =
      atomic_load (&k->progress) + 1 + test_random_below (&k->random, STEPS);

  for (unsigned ms = 0; ms < WAIT_MS && !atomic_load (&k->stop); ms++) {
    if (atomic_load (&k->progress) >= until)
      return true;
    net_sleep_ms (1);
  }
  return false;
}

static void *
kills (void *arg)
{
  struct killer *k = arg;
  bool well = true;

  while (k->nr > 0 && well) {
    well = wait_progress (k);
    if (!well)
      break;
    sleep_us (test_random_below (&k->random, 3000));
    server_kill (k->server);
    net_sleep_ms ((unsigned) test_random_below (&k->random, 60));
    well = server_try_restart (k->server);
    k->nr -= well;
  }
  atomic_store (&k->is_over, true);
  while (sem_wait (&k->may_end) == -1)
    ;
  return NULL;
}

void
killer_begin (struct killer *k, struct server *server, unsigned nr,
              uint64_t random)
{
  k->server = server;
  k->nr = nr;
  k->random = random | 1;
  atomic_store (&k->stop, false);
  atomic_store (&k->is_over, false);
  sem_init (&k->may_end, 0, 0);
  assert_int_equal (pthread_create (&k->thread, NULL, kills, k), 0);
}

bool
killer_is_over (struct killer *k)
{
  return atomic_load (&k->is_over);
}

void
killer_wait (struct killer *k)
{
  while (!killer_is_over (k))
    net_sleep_ms (1);
}

void
killer_end (struct killer *k)
{
  atomic_store (&k->stop, true);
  sem_post (&k->may_end);
  pthread_join (k->thread, NULL);
  sem_destroy (&k->may_end);
  if (k->nr > 0)
    fail_msg ("the server was to be killed %u times more", k->nr);
}
