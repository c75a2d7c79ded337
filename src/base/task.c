/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads, or a simulator's tasks; see task.h.
 *
 *   task_start --> table? --> table->start
 *                    '--no--> pthread_create --> run: name, fn (arg)
 *
 * A struct task of a table is the table's own and is never looked into.
 *
 * Stacks are small because nbdkit's memory is counted, and locked where that
 * may be, whole stacks of these threads too.  256 KiB is much for them: the
 * deepest way, a cycle that writes nodes before its cut (bufs_write), has
 * frames of about 40 KiB; tests/test-armour.sh looks how much is ever touched.
 * Signals are blocked because they are the host's: a handler of its must not
 * run in a thread that it does not know.
 */

#include <config.h>

#include "task.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "env.h"

/* Frames under a sanitizer are several times ours. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define STACK_BYTES ((size_t) 1 << 20)
#else
#define STACK_BYTES ((size_t) 256 << 10)
#endif

struct task {
  pthread_t thread;
  void (*fn) (void *);
  void *arg;
  char name[TASK_NAME_MAX + 1];
};

const struct task_ops *task_table;

void
task_set (const struct task_ops *ops)
{
  task_table = ops;
}

static void *
run (void *arg)
{
  struct task *t = arg;

  pthread_setname_np (pthread_self (), t->name);
  t->fn (t->arg);
  return NULL;
}

/* pthread_create with our stack; signals are blocked around it, for a thread
 * begins with the mask of the one that made it.
 */
static int
create (struct task *t)
{
  pthread_attr_t attr;
  sigset_t all, before;
  int err = pthread_attr_init (&attr);

  if (err != 0)
    return err;
  sigfillset (&all);
  err = pthread_attr_setstacksize (&attr, STACK_BYTES);
  if (err == 0) {
    pthread_sigmask (SIG_SETMASK, &all, &before);
    err = pthread_create (&t->thread, &attr, run, t);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
  }
  pthread_attr_destroy (&attr);
  return err;
}

int
task_start (const char *name, void (*fn) (void *), void *arg, struct task **tp)
{
  struct task *t;
  int err;

  assert (strlen (name) <= TASK_NAME_MAX);
  if (task_table != NULL)
    return task_table->start (name, fn, arg, tp);
  t = calloc (1, sizeof *t);
  if (t == NULL)
    return ENOMEM;
  t->fn = fn;
  t->arg = arg;
  strcpy (t->name, name);
  err = create (t);
  if (err != 0) {
    free (t);
    return err;
  }
  *tp = t;
  return 0;
}

void
task_join (struct task *t)
{
  int err;

  if (t == NULL)
    return;
  if (task_table != NULL) {
    task_table->join (t);
    return;
  }
  err = pthread_join (t->thread, NULL);
  assert (err == 0);
  (void) err;
  free (t);
}

bool
task_is_me (const struct task *t)
{
  assert (task_table == NULL);
  return pthread_equal (t->thread, pthread_self ());
}

void
task_yield (void)
{
  if (task_table != NULL)
    task_table->yield ();
}

void
task_sleep (uint64_t ns)
{
  struct timespec ts = { .tv_sec = (time_t) (ns / NS_PER_S),
                         .tv_nsec = (long) (ns % NS_PER_S) };

  if (task_table != NULL) {
    task_table->sleep (ns);
    return;
  }
  if (ns == 0) {
    sched_yield ();
    return;
  }
  while (nanosleep (&ts, &ts) == -1 && errno == EINTR)
    ;
}
