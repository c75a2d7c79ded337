/* SPDX-License-Identifier: BSD-2-Clause */
/* The simulator itself: exclusion, conditions, time, joins; the same seed is
 * the same run, another one another; deadlocks are found and told.
 */

#include <config.h>

#include "env.h"
#include "rng.h"
#include "sim.h"
#include "task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define NR_TASKS  4u
#define NR_ROUNDS 50u

static lock_t low, high;
static cond_t cond;

static enum sim_end
run (uint64_t seed, void (*fn) (void *), void *arg)
{
  struct sim_config config = { .seed = seed };

  return sim_run (&config, fn, arg);
}

/* ---- a lock excludes, a queue works ---- */

struct queue {
  unsigned nr, put, got;
  bool inside;
};

static void
enter (struct queue *q)
{
  lock_acquire (&low);
  assert_false (q->inside);
  q->inside = true;
}

static void
leave (struct queue *q)
{
  q->inside = false;
  lock_release (&low);
}

static void
producer (void *arg)
{
  struct queue *q = arg;

  for (unsigned i = 0; i < NR_ROUNDS; i++) {
    enter (q);
    task_yield ();
    q->nr++;
    q->put++;
    cond_broadcast (&cond);
    leave (q);
  }
}

static void
consumer (void *arg)
{
  struct queue *q = arg;

  for (;;) {
    enter (q);
    while (q->nr == 0 && q->got < NR_TASKS * NR_ROUNDS) {
      q->inside = false;
      cond_wait (&cond, &low);
      assert_false (q->inside);
      q->inside = true;
    }
    if (q->nr == 0)
      break;
    q->nr--;
    if (++q->got == NR_TASKS * NR_ROUNDS)
      cond_broadcast (&cond);
    leave (q);
  }
  leave (q);
}

static void
queue_main (void *arg)
{
  struct task *t[2 * NR_TASKS];

  for (unsigned i = 0; i < 2 * NR_TASKS; i++)
    assert_int_equal (
        task_start ("queue", i % 2 ? producer : consumer, arg, &t[i]), 0);
  for (unsigned i = 0; i < 2 * NR_TASKS; i++)
    task_join (t[i]);
}

static void
test_queue (void **state)
{
  (void) state;
  for (uint64_t seed = 0; seed < 200; seed++) {
    struct queue q = { 0 };

    assert_int_equal (run (seed, queue_main, &q), SIM_DONE);
    assert_int_equal (q.put, NR_TASKS * NR_ROUNDS);
    assert_int_equal (q.got, NR_TASKS * NR_ROUNDS);
  }
}

/* The same seed twice is the same trace; seeds differ. */
static void
test_repeats (void **state)
{
  uint64_t traces[50];

  (void) state;
  for (unsigned seed = 0; seed < 50; seed++) {
    struct queue q = { 0 }, again = { 0 };
    uint64_t steps;

    run (seed, queue_main, &q);
    traces[seed] = sim_trace ();
    steps = sim_steps ();
    free (malloc (1000 + seed)); /* the heap is not the same */
    run (seed, queue_main, &again);
    assert_int_equal (sim_trace (), traces[seed]);
    assert_int_equal (sim_steps (), steps);
    for (unsigned i = 0; i < seed; i++)
      assert_int_not_equal (traces[seed], traces[i]);
  }
}

/* ---- a race is found: a counter that is read and written without a lock */

static void
race (void *arg)
{
  unsigned *count = arg;
  unsigned seen = *count;

  task_yield ();
  *count = seen + 1;
}

static void
race_main (void *arg)
{
  struct task *t[2];

  task_start ("race", race, arg, &t[0]);
  task_start ("race", race, arg, &t[1]);
  task_join (t[0]);
  task_join (t[1]);
}

static void
test_race (void **state)
{
  unsigned nr[3] = { 0 };

  (void) state;
  for (uint64_t seed = 0; seed < 100; seed++) {
    unsigned count = 0;

    run (seed, race_main, &count);
    assert_in_range (count, 1, 2);
    nr[count]++;
  }
  assert_true (nr[1] > 5 && nr[2] > 5);
}

/* ---- time ---- */

static void
time_main (void *arg)
{
  uint64_t begin_ns = env_now_ns (), deadline_ns = begin_ns + 5 * NS_PER_S;

  task_sleep (100 * NS_PER_S);
  assert_true (env_now_ns () >= begin_ns + 100 * NS_PER_S);
  lock_acquire (&low);
  assert_false (cond_wait_until (&cond, &low, deadline_ns));
  deadline_ns = env_now_ns () + 5 * NS_PER_S;
  assert_false (cond_wait_until (&cond, &low, deadline_ns));
  assert_true (env_now_ns () >= deadline_ns);
  lock_release (&low);
  *(uint64_t *) arg = env_now_ns () - begin_ns;
}

static void
test_time (void **state)
{
  struct timespec a, b;
  uint64_t passed_ns;

  (void) state;
  clock_gettime (CLOCK_MONOTONIC, &a);
  for (uint64_t seed = 0; seed < 20; seed++) {
    assert_int_equal (run (seed, time_main, &passed_ns), SIM_DONE);
    assert_in_range (passed_ns, 105 * NS_PER_S, 110 * NS_PER_S);
  }
  clock_gettime (CLOCK_MONOTONIC, &b);
  assert_true (b.tv_sec - a.tv_sec < 5);
}

static void
spinner (void *arg)
{
  while (!*(volatile bool *) arg)
    task_sleep (0);
}

static void
spin_main (void *arg)
{
  struct task *t;

  task_start ("spinner", spinner, arg, &t);
  task_sleep (NS_PER_MS);
  *(bool *) arg = true;
  task_join (t);
}

static void
test_spin (void **state)
{
  (void) state;
  for (uint64_t seed = 0; seed < 20; seed++) {
    bool go = false;

    assert_int_equal (run (seed, spin_main, &go), SIM_DONE);
  }
}

static void
random_main (void *arg)
{
  env_random (arg, 64);
}

static void
test_random (void **state)
{
  struct sim_config config = { .seed = 1, .random_seed = 7 };
  char a[64], b[64], c[64];

  (void) state;
  sim_run (&config, random_main, a);
  config.seed = 2;
  sim_run (&config, random_main, b);
  config.random_seed = 8;
  sim_run (&config, random_main, c);
  assert_memory_equal (a, b, 64);
  assert_memory_not_equal (a, c, 64);
}

/* ---- ends that are not good ---- */

static char told[16384];

static void
tell (enum sim_end end)
{
  int fd = memfd_create ("told", 0);
  ssize_t n;

  sim_tell (fd, end);
  n = pread (fd, told, sizeof told - 1, 0);
  assert_true (n > 0);
  told[n] = '\0';
  close (fd);
}

static void
waiter (void *arg)
{
  (void) arg;
  LOCK_SCOPE (&high);
  cond_wait (&cond, &high);
}

static void
wanter (void *arg)
{
  (void) arg;
  LOCK_SCOPE (&low);
}

static void
deadlock_main (void *arg)
{
  struct task *t[2];

  (void) arg;
  task_start ("the waiter", waiter, NULL, &t[0]);
  lock_acquire (&low);
  task_start ("the wanter", wanter, NULL, &t[1]);
  task_join (t[0]);
}

/* Each on locks of its own: what a bad end leaves is not used again. */
static void
test_deadlock (void **state)
{
  (void) state;
  assert_int_equal (run (1, deadlock_main, NULL), SIM_DEADLOCK);
  tell (SIM_DEADLOCK);
  assert_non_null (strstr (told, "deadlock"));
  assert_non_null (
      strstr (told, "task 0 (first) waits for the end of the waiter; has low"));
  assert_non_null (strstr (told, "task 1 (the waiter) waits on a condition"));
  assert_non_null (
      strstr (told, "(the wanter) waits for lock low, which first has"));
  assert_non_null (strstr (told, "test-sim")); /* whose calls these are */
  lock_init (&low, LOCK_SHARD, "low");
  lock_init (&high, LOCK_LEAF, "high");
}

static void
left_main (void *arg)
{
  struct task *t;

  task_start ("left", wanter, arg, &t);
}

static void
forever_main (void *arg)
{
  (void) arg;
  for (;;)
    task_yield ();
}

static void
test_left_and_livelock (void **state)
{
  struct sim_config config = { .steps_max = 1000 };

  (void) state;
  assert_int_equal (sim_run (&config, left_main, NULL), SIM_LEFT);
  lock_init (&low, LOCK_SHARD, "low");
  assert_int_equal (sim_run (&config, forever_main, NULL), SIM_LIVELOCK);
  tell (SIM_LIVELOCK);
  assert_non_null (strstr (told, "livelock"));
}

/* ---- what it costs ---- */

static void
test_cost (void **state)
{
  struct timespec a, b;
  uint64_t steps = 0, switches = 0;
  double ns;

  (void) state;
  clock_gettime (CLOCK_MONOTONIC, &a);
  for (uint64_t seed = 0; seed < 500; seed++) {
    struct queue q = { 0 };

    run (seed, queue_main, &q);
    steps += sim_steps ();
    switches += sim_switches ();
  }
  clock_gettime (CLOCK_MONOTONIC, &b);
  ns = (double) (b.tv_sec - a.tv_sec) * 1e9 + (double) (b.tv_nsec - a.tv_nsec);
  print_message ("%.0f ns a point, %.0f ns a switch (%.0f us a run)\n",
                 ns / (double) steps, ns / (double) switches, ns / 500e3);
}

static int
end (void **state)
{
  (void) state;
  sim_free ();
  return 0;
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_queue),    cmocka_unit_test (test_repeats),
    cmocka_unit_test (test_race),     cmocka_unit_test (test_time),
    cmocka_unit_test (test_spin),     cmocka_unit_test (test_random),
    cmocka_unit_test (test_deadlock), cmocka_unit_test (test_left_and_livelock),
    cmocka_unit_test (test_cost),
  };

  lock_init (&low, LOCK_SHARD, "low");
  lock_init (&high, LOCK_LEAF, "high");
  cond_init (&cond);
  return cmocka_run_group_tests (tests, NULL, end);
}
