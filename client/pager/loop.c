/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop: a thread with libev, or the caller's loop, and its inbox.
 *
 *   any thread: loop_post () ─▶ inbox [mutex] ─ bell ─▶ on_bell: 64 jobs ─▶ fn
 *               loop_call ()  = a job and a semaphore on the caller's stack
 *
 * The link (link.c) and the pager's entries call it; it knows neither.
 *
 * I1 Jobs are called in the order of loop_post (), each once, on one thread.
 * I2 While the inbox is not empty the bell has been rung.
 * I3 When the last job of a turn is called nothing of struct loop is looked at
 *    any more: that job may be the one that lets it be freed.
 *
 * Lock: the inbox's mutex, held over list operations only.  Everything else is
 * the loop's; `here` is atomic, for any thread asks who the loop is.
 *
 * Not done: jobs do not have priorities and cannot be taken back.
 */

#include <config.h>

#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <ev.h>

struct loop {
  struct ev_loop *ev; /* [const] */
  bool is_own;        /* [const] the caller's */
  pthread_t thread;   /* [const] unless is_own */
  ev_async bell;
  ev_check after;    /* the time, after a wait */
  ev_prepare before; /* and before one */
  uint64_t now_us;
  atomic_uintptr_t here; /* pthread_self () of the last turn; 0: none yet */
  pthread_mutex_t mutex;
  struct job *first, **last; /* [mutex] */
};

static void
note_turn (struct loop *l)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  l->now_us = (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
note_here (struct loop *l)
{
  atomic_store_explicit (&l->here, (uintptr_t) pthread_self (),
                         memory_order_relaxed);
}

static void
on_after (struct ev_loop *ev, ev_check *w, int revents)
{
  (void) ev;
  (void) revents;
  note_here (w->data);
  note_turn (w->data);
}

static void
on_before (struct ev_loop *ev, ev_prepare *w, int revents)
{
  (void) ev;
  (void) revents;
  note_here (w->data);
  note_turn (w->data);
}

/* Takes up to LOOP_TURN jobs out, and rings again if there are more. */
static struct job *
take_jobs (struct loop *l)
{
  struct job *first, *job;

  pthread_mutex_lock (&l->mutex);
  first = job = l->first;
  for (unsigned n = 1; n < LOOP_TURN && job != NULL; n++)
    job = job->next;
  if (job != NULL && job->next != NULL) {
    l->first = job->next;
    job->next = NULL;
    ev_async_send (l->ev, &l->bell);
  } else {
    l->first = NULL;
    l->last = &l->first;
  }
  pthread_mutex_unlock (&l->mutex);
  return first;
}

static void
on_bell (struct ev_loop *ev, ev_async *w, int revents)
{
  struct job *job = take_jobs (w->data), *next;

  (void) ev;
  (void) revents;
  for (; job != NULL; job = next) {
    next = job->next;
    job->fn (job);
  }
}

static void
start_watchers (struct loop *l)
{
  ev_async_init (&l->bell, on_bell);
  ev_check_init (&l->after, on_after);
  ev_prepare_init (&l->before, on_before);
  l->bell.data = l->after.data = l->before.data = l;
  ev_set_priority (&l->after, EV_MAXPRI);
  ev_set_priority (&l->before, EV_MAXPRI);
  ev_async_start (l->ev, &l->bell);
  ev_check_start (l->ev, &l->after);
  ev_prepare_start (l->ev, &l->before);
}

static void
stop_watchers (void *arg)
{
  struct loop *l = arg;

  ev_async_stop (l->ev, &l->bell);
  ev_check_stop (l->ev, &l->after);
  ev_prepare_stop (l->ev, &l->before);
}

static void *
run (void *arg)
{
  struct loop *l = arg;

  note_here (l);
  ev_run (l->ev, 0);
  return NULL;
}

/* Signals are the caller's: none is taken on our thread. */
static int
start_thread (struct loop *l)
{
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&l->thread, NULL, run, l);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return err;
}

int
loop_create (struct ev_loop *own, struct loop **lp)
{
  struct loop *l = calloc (1, sizeof *l);
  int err = 0;

  if (l == NULL)
    return ENOMEM;
  l->is_own = own != NULL;
  l->ev = own != NULL ? own : ev_loop_new (EVFLAG_AUTO | EVFLAG_NOENV);
  if (l->ev == NULL) {
    free (l);
    return ENOMEM;
  }
  l->last = &l->first;
  pthread_mutex_init (&l->mutex, NULL);
  note_turn (l);
  start_watchers (l);
  if (!l->is_own)
    err = start_thread (l);
  if (err != 0) {
    stop_watchers (l);
    ev_loop_destroy (l->ev);
    pthread_mutex_destroy (&l->mutex);
    free (l);
    return err;
  }
  *lp = l;
  return 0;
}

static void
leave (void *arg)
{
  struct loop *l = arg;

  ev_break (l->ev, EVBREAK_ALL);
}

void
loop_destroy (struct loop *l)
{
  if (l == NULL)
    return;
  if (!l->is_own) {
    loop_call (l, leave, l);
    pthread_join (l->thread, NULL);
    stop_watchers (l);
    ev_loop_destroy (l->ev);
  } else if (loop_is_here (l) || atomic_load (&l->here) == 0) {
    stop_watchers (l);
  } else {
    loop_call (l, stop_watchers, l);
  }
  pthread_mutex_destroy (&l->mutex);
  free (l);
}

struct ev_loop *
loop_ev (struct loop *l)
{
  return l->ev;
}

void
loop_post (struct loop *l, struct job *job)
{
  bool was_empty;

  job->next = NULL;
  pthread_mutex_lock (&l->mutex);
  was_empty = l->first == NULL;
  *l->last = job;
  l->last = &job->next;
  if (was_empty)
    ev_async_send (l->ev, &l->bell);
  pthread_mutex_unlock (&l->mutex);
}

bool
loop_is_here (const struct loop *l)
{
  return atomic_load_explicit (&l->here, memory_order_relaxed) ==
         (uintptr_t) pthread_self ();
}

struct call {
  struct job job; /* first: job is the call */
  void (*fn) (void *arg);
  void *arg;
  sem_t done;
};

static void
do_call (struct job *job)
{
  struct call *call = (struct call *) job;

  call->fn (call->arg);
  sem_post (&call->done);
}

int
loop_call (struct loop *l, void (*fn) (void *arg), void *arg)
{
  struct call call = { .job.fn = do_call, .fn = fn, .arg = arg };

  if (loop_is_here (l))
    return EDEADLK;
  sem_init (&call.done, 0, 0);
  loop_post (l, &call.job);
  while (sem_wait (&call.done) == -1)
    ;
  sem_destroy (&call.done);
  return 0;
}

uint64_t
loop_now_us (struct loop *l)
{
  return l->now_us;
}

void
loop_go_on (struct ev_loop *ev, struct ev_idle *w, int revents)
{
  (void) ev;
  (void) w;
  (void) revents;
}
