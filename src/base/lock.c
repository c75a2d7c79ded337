/* SPDX-License-Identifier: BSD-2-Clause */
/* Mutexes with ranks; see lock.h.
 *
 * In a --enable-debug build each thread has a stack of the locks it holds.
 * I1. Ranks on the stack rise strictly from bottom to top.
 * I2. A thread that waits on a condition holds that one lock only, so that
 *     no other lock is kept while it sleeps.
 *
 * With a simulator's table (task.h) mutexes and conditions are its business,
 * and the stack is the running task's.
 */

#include <config.h>

#include "lock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "task.h"

#ifdef LOCK_CHECKED

/* In the static block: a plugin's thread would else allocate, in the C library,
 * when it takes its first lock.
 */
static __thread struct locks_held held
    __attribute__ ((tls_model ("initial-exec")));

void
locks_held_exchange (struct locks_held *save, const struct locks_held *load)
{
  *save = held;
  held = *load;
}

static void
held_push (const lock_t *lock)
{
  if (held.nr > 0 && held.lock[held.nr - 1]->rank >= lock->rank) {
    const lock_t *top = held.lock[held.nr - 1];

    fprintf (stderr, "farpage: lock %s (rank %d) taken under %s (rank %d)\n",
             lock->name, lock->rank, top->name, top->rank);
    abort ();
  }
  assert (held.nr < LOCKS_HELD_MAX);
  held.lock[held.nr++] = lock;
}

static void
held_pop (const lock_t *lock)
{
  unsigned i = held.nr;

  while (i > 0 && held.lock[i - 1] != lock)
    i--;
  assert (i > 0);
  for (; i < held.nr; i++)
    held.lock[i - 1] = held.lock[i];
  held.nr--;
}

bool
lock_held (const lock_t *lock)
{
  for (unsigned i = 0; i < held.nr; i++)
    if (held.lock[i] == lock)
      return true;
  return false;
}

#else

static inline void
held_push (const lock_t *lock)
{
  (void) lock;
}

static inline void
held_pop (const lock_t *lock)
{
  (void) lock;
}

bool
lock_held (const lock_t *lock)
{
  (void) lock;
  return true;
}

#endif

void
lock_init (lock_t *lock, enum lock_rank rank, const char *name)
{
  pthread_mutex_init (&lock->mutex, NULL);
#ifdef LOCK_CHECKED
  lock->rank = rank;
  lock->name = name;
#else
  (void) rank;
  (void) name;
#endif
}

void
lock_destroy (lock_t *lock)
{
  pthread_mutex_destroy (&lock->mutex);
}

void
lock_acquire (lock_t *lock)
{
  int err;

  held_push (lock);
  if (task_table != NULL) {
    task_table->acquire (lock);
    return;
  }
  err = pthread_mutex_lock (&lock->mutex);
  assert (err == 0);
  (void) err;
}

void
lock_release (lock_t *lock)
{
  int err;

  held_pop (lock);
  if (task_table != NULL) {
    task_table->release (lock);
    return;
  }
  err = pthread_mutex_unlock (&lock->mutex);
  assert (err == 0);
  (void) err;
}

void
cond_init (cond_t *cond)
{
  pthread_condattr_t attr;

  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&cond->cond, &attr);
  pthread_condattr_destroy (&attr);
}

void
cond_destroy (cond_t *cond)
{
  pthread_cond_destroy (&cond->cond);
}

bool
cond_wait_until (cond_t *cond, lock_t *lock, uint64_t deadline_ns)
{
  struct timespec ts = { .tv_sec = deadline_ns / 1000000000,
                         .tv_nsec = deadline_ns % 1000000000 };
  int err;

#ifdef LOCK_CHECKED
  assert (held.nr == 1 && held.lock[0] == lock);
#endif
  if (task_table != NULL)
    return task_table->wait (cond, lock, deadline_ns);
  err = pthread_cond_timedwait (&cond->cond, &lock->mutex, &ts);
  assert (err == 0 || err == ETIMEDOUT);
  return err == 0;
}

void
cond_wait (cond_t *cond, lock_t *lock)
{
#ifdef LOCK_CHECKED
  assert (held.nr == 1 && held.lock[0] == lock);
#endif
  if (task_table != NULL)
    task_table->wait (cond, lock, TASK_NO_DEADLINE);
  else
    pthread_cond_wait (&cond->cond, &lock->mutex);
}

void
cond_broadcast (cond_t *cond)
{
  if (task_table != NULL)
    task_table->broadcast (cond);
  else
    pthread_cond_broadcast (&cond->cond);
}
