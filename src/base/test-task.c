/* SPDX-License-Identifier: BSD-2-Clause */
/* task: real threads (name, mask, stack, join), and that a table gets every
 * call, those of lock.h among them.
 */

#include <config.h>

#include "env.h"
#include "task.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* ---- threads ---- */

struct seen {
  char name[32];
  sigset_t mask;
  size_t stack_bytes;
  pthread_t self;
};

static void
look_around (void *arg)
{
  struct seen *seen = arg;
  pthread_attr_t attr;

  seen->self = pthread_self ();
  pthread_getname_np (pthread_self (), seen->name, sizeof seen->name);
  pthread_sigmask (SIG_SETMASK, NULL, &seen->mask);
  pthread_getattr_np (pthread_self (), &attr);
  pthread_attr_getstacksize (&attr, &seen->stack_bytes);
  pthread_attr_destroy (&attr);
}

static void
test_thread (void **state)
{
  struct seen seen = { 0 };
  struct task *t = NULL;
  sigset_t mine;

  (void) state;
  assert_int_equal (task_start ("fifteen letters", look_around, &seen, &t), 0);
  task_join (t);
  assert_false (pthread_equal (seen.self, pthread_self ()));
  assert_string_equal (seen.name, "fifteen letters");
  assert_in_range (seen.stack_bytes, 256 << 10, 1 << 20);
  assert_int_equal (sigismember (&seen.mask, SIGTERM), 1);
  assert_int_equal (sigismember (&seen.mask, SIGUSR1), 1);
  pthread_sigmask (SIG_SETMASK, NULL, &mine);
  assert_int_equal (sigismember (&mine, SIGTERM), 0);
  task_join (NULL);
}

#define NR_TASKS  4
#define NR_ROUNDS 1000

static lock_t lock;
static cond_t cond;
static unsigned count;

static void
count_up (void *arg)
{
  (void) arg;
  for (unsigned i = 0; i < NR_ROUNDS; i++) {
    LOCK_SCOPE (&lock);
    count++;
    cond_broadcast (&cond);
    task_yield ();
  }
}

static void
test_several (void **state)
{
  struct task *t[NR_TASKS];

  (void) state;
  count = 0;
  for (unsigned i = 0; i < NR_TASKS; i++)
    assert_int_equal (task_start ("count", count_up, NULL, &t[i]), 0);
  lock_acquire (&lock);
  while (count < NR_TASKS * NR_ROUNDS)
    cond_wait (&cond, &lock);
  lock_release (&lock);
  for (unsigned i = 0; i < NR_TASKS; i++)
    task_join (t[i]);
  assert_int_equal (count, NR_TASKS * NR_ROUNDS);
}

static struct task *me;
static bool was_me;

static void
look_at_me (void *arg)
{
  (void) arg;
  LOCK_SCOPE (&lock);
  was_me = task_is_me (me);
}

static void
test_is_me (void **state)
{
  (void) state;
  lock_acquire (&lock);
  assert_int_equal (task_start ("me", look_at_me, NULL, &me), 0);
  assert_false (task_is_me (me));
  lock_release (&lock);
  task_join (me);
  assert_true (was_me);
}

static void
test_sleep (void **state)
{
  uint64_t begin_ns = env_now_ns ();

  (void) state;
  task_sleep (0);
  task_sleep (20 * NS_PER_MS);
  assert_true (env_now_ns () - begin_ns >= 20 * NS_PER_MS);
}

/* ---- a table ---- */

static char calls[256];

static void
call (const char *what)
{
  strcat (calls, what);
  strcat (calls, " ");
}

static int
fake_start (const char *name, void (*fn) (void *), void *arg, struct task **tp)
{
  (void) fn;
  call (name);
  *tp = arg;
  return 0;
}

static void
fake_join (struct task *t)
{
  assert_ptr_equal (t, calls);
  call ("join");
}

static void
fake_yield (void)
{
  call ("yield");
}

static void
fake_sleep (uint64_t ns)
{
  assert_int_equal (ns, 77);
  call ("sleep");
}

static void
fake_acquire (lock_t *l)
{
  assert_ptr_equal (l, &lock);
  call ("acquire");
}

static void
fake_release (lock_t *l)
{
  assert_ptr_equal (l, &lock);
  call ("release");
}

static bool
fake_wait (cond_t *c, lock_t *l, uint64_t deadline_ns)
{
  assert_ptr_equal (c, &cond);
  assert_ptr_equal (l, &lock);
  call (deadline_ns == TASK_NO_DEADLINE ? "wait" : "wait-until");
  return deadline_ns == 5;
}

static void
fake_broadcast (cond_t *c)
{
  assert_ptr_equal (c, &cond);
  call ("broadcast");
}

static const struct task_ops fake = {
  .start = fake_start,
  .join = fake_join,
  .yield = fake_yield,
  .sleep = fake_sleep,
  .acquire = fake_acquire,
  .release = fake_release,
  .wait = fake_wait,
  .broadcast = fake_broadcast,
};

static void
test_table (void **state)
{
  struct task *t;

  (void) state;
  task_set (&fake);
  assert_int_equal (task_start ("start", look_around, calls, &t), 0);
  task_yield ();
  task_sleep (77);
  lock_acquire (&lock);
  cond_wait (&cond, &lock);
  assert_true (cond_wait_until (&cond, &lock, 5));
  assert_false (cond_wait_until (&cond, &lock, 6));
  cond_broadcast (&cond);
  lock_release (&lock);
  task_join (t);
  task_set (NULL);
  assert_string_equal (calls, "start yield sleep acquire wait wait-until "
                              "wait-until broadcast release join ");
}

static void
test_held_exchange (void **state)
{
  (void) state;
#ifdef LOCK_CHECKED
  static const struct locks_held none;
  struct locks_held mine, other;

  lock_acquire (&lock);
  locks_held_exchange (&mine, &none);
  assert_false (lock_held (&lock));
  locks_held_exchange (&other, &mine);
  assert_int_equal (other.nr, 0);
  assert_true (lock_held (&lock));
  lock_release (&lock);
#else
  print_message ("no lock is checked in this build (--enable-debug)\n");
#endif
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_thread), cmocka_unit_test (test_several),
    cmocka_unit_test (test_is_me),  cmocka_unit_test (test_sleep),
    cmocka_unit_test (test_table),  cmocka_unit_test (test_held_exchange),
  };

  lock_init (&lock, LOCK_LEAF, "lock");
  cond_init (&cond);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
