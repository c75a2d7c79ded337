/* SPDX-License-Identifier: BSD-2-Clause */
/* lock: the checker of ranks (in a build with --enable-debug), waiting with a
 * deadline.  log: where messages go, and what log_limited drops.
 */

#include <config.h>

#include "env.h"
#include "lock.h"
#include "log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static lock_t low, high;

static void
rising (void)
{
  LOCK_SCOPE (&low);
  LOCK_SCOPE (&high);
}

static void
falling (void)
{
  LOCK_SCOPE (&high);
  LOCK_SCOPE (&low);
}

static void
same_rank (void)
{
  lock_t twin;

  lock_init (&twin, LOCK_SHARD, "twin");
  LOCK_SCOPE (&low);
  LOCK_SCOPE (&twin);
}

static void
wait_with_two (void)
{
  cond_t cond;

  cond_init (&cond);
  LOCK_SCOPE (&low);
  LOCK_SCOPE (&high);
  cond_wait_until (&cond, &high, env_now_ns ());
}

static void
released_in_any_order (void)
{
  lock_acquire (&low);
  lock_acquire (&high);
  lock_release (&low);
  lock_release (&high);
  lock_acquire (&low);
  lock_release (&low);
}

/* Run fn in a child; true if it was aborted, false if it returned. */
static bool
aborts (void (*fn) (void))
{
  pid_t pid = fork ();
  int status = 0;

  assert_true (pid >= 0);
  if (pid == 0) {
    const struct rlimit no_core = { 0, 0 };
    int null = open ("/dev/null", O_WRONLY | O_CLOEXEC);

    /* The message is for people, and expected here. */
    dup2 (null, STDERR_FILENO);
    setrlimit (RLIMIT_CORE, &no_core);
    signal (SIGABRT, SIG_DFL);
    fn ();
    _exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  if (WIFSIGNALED (status)) {
    assert_int_equal (WTERMSIG (status), SIGABRT);
    return true;
  }
  assert_true (WIFEXITED (status));
  assert_int_equal (WEXITSTATUS (status), 0);
  return false;
}

static void
test_ranks (void **state)
{
  (void) state;
  assert_false (aborts (rising));
  assert_false (aborts (released_in_any_order));
#ifdef FARPAGE_DEBUG
  assert_true (aborts (falling));
  assert_true (aborts (same_rank));
  assert_true (aborts (wait_with_two));
#else
  (void) falling;
  (void) same_rank;
  (void) wait_with_two;
  print_message ("no rank is checked in this build (--enable-debug)\n");
#endif
}

static void
test_held (void **state)
{
  (void) state;
#ifdef FARPAGE_DEBUG
  assert_false (lock_held (&low));
#endif
  lock_acquire (&low);
  assert_true (lock_held (&low));
  lock_release (&low);
#ifdef FARPAGE_DEBUG
  assert_false (lock_held (&low));
#endif
}

static void
test_deadline (void **state)
{
  uint64_t deadline = env_now_ns () + 20 * NS_PER_MS;
  cond_t cond;

  (void) state;
  cond_init (&cond);
  lock_acquire (&low);
  while (cond_wait_until (&cond, &low, deadline))
    ;
  assert_true (env_now_ns () >= deadline);
  lock_release (&low);
  cond_destroy (&cond);
}

/* ---- log ---- */

static uint64_t now_ns;
static unsigned nr_messages;
static enum log_level last_level;
static char last_text[600];

static uint64_t
fake_now_ns (void)
{
  return now_ns;
}

static const struct env_ops fake_env = { .now_ns = fake_now_ns };

static void
keep (void *arg, enum log_level level, const char *text)
{
  assert_ptr_equal (arg, &nr_messages);
  nr_messages++;
  last_level = level;
  snprintf (last_text, sizeof last_text, "%s", text);
}

static void
test_log (void **state)
{
  char longer[2000];

  (void) state;
  log_set (NULL, NULL);
  log_write (LOG_ERROR, "nobody hears %d", 1);
  log_set (keep, &nr_messages);
  nr_messages = 0;
  log_write (LOG_WARNING, "volume %s: %d", "v", 7);
  assert_int_equal (nr_messages, 1);
  assert_int_equal (last_level, LOG_WARNING);
  assert_string_equal (last_text, "volume v: 7");
  memset (longer, 'x', sizeof longer);
  longer[sizeof longer - 1] = 0;
  log_write (LOG_INFO, "%s", longer);
  assert_int_equal (nr_messages, 2);
  assert_in_range (strlen (last_text), 100, 511);
  log_set (NULL, NULL);
}

static void
test_log_limited (void **state)
{
  struct log_limit limit = { 0 };

  (void) state;
  env_set (&fake_env);
  log_set (keep, &nr_messages);
  nr_messages = 0;
  now_ns = 5 * NS_PER_S;
  for (unsigned i = 0; i < 10; i++)
    log_limited (&limit, LOG_ERROR, "read failed %u", i);
  assert_int_equal (nr_messages, 1);
  assert_string_equal (last_text, "read failed 0");
  now_ns += NS_PER_S - 1;
  log_limited (&limit, LOG_ERROR, "read failed");
  assert_int_equal (nr_messages, 1);
  now_ns++;
  log_limited (&limit, LOG_ERROR, "read failed");
  assert_int_equal (nr_messages, 2);
  assert_string_equal (last_text, "read failed (and 10 more like it)");
  now_ns += NS_PER_S;
  log_limited (&limit, LOG_ERROR, "read failed");
  assert_int_equal (nr_messages, 3);
  assert_string_equal (last_text, "read failed");
  log_set (NULL, NULL);
  env_set (NULL);
}

static void
test_random (void **state)
{
  unsigned char a[600] = { 0 }, b[600] = { 0 };

  (void) state;
  env_random (a, sizeof a);
  env_random (b, sizeof b);
  assert_memory_not_equal (a, b, sizeof a);
}

static void
test_wall (void **state)
{
  uint64_t before = (uint64_t) time (NULL);

  (void) state;
  assert_in_range (env_wall_s (), before, before + 5);
  env_set (&fake_env); /* has none */
  assert_in_range (env_wall_s (), before, before + 5);
  env_set (NULL);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_ranks),       cmocka_unit_test (test_held),
    cmocka_unit_test (test_deadline),    cmocka_unit_test (test_log),
    cmocka_unit_test (test_log_limited), cmocka_unit_test (test_random),
    cmocka_unit_test (test_wall),
  };

  lock_init (&low, LOCK_SHARD, "low");
  lock_init (&high, LOCK_LEAF, "high");
  return cmocka_run_group_tests (tests, NULL, NULL);
}
