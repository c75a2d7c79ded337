/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop: jobs from several threads, their order, calls, the caller's own. */

#include <config.h>

#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <ev.h>

#define THREADS 4
#define JOBS    20000

struct numbered {
  struct job job; /* first */
  unsigned thread, n;
};

struct poster {
  struct loop *loop;
  unsigned thread;
  struct numbered *jobs;
};

static unsigned next_of[THREADS]; /* [loop] */
static unsigned nr_done, nr_disorder;

static void
do_numbered (struct job *job)
{
  struct numbered *j = (struct numbered *) job;

  if (j->n != next_of[j->thread]++)
    nr_disorder++;
  nr_done++;
}

static void *
post_all (void *arg)
{
  struct poster *p = arg;

  for (unsigned i = 0; i < JOBS; i++) {
    p->jobs[i] =
        (struct numbered){ .job.fn = do_numbered, .thread = p->thread, .n = i };
    loop_post (p->loop, &p->jobs[i].job);
  }
  return NULL;
}

static void
nothing (void *arg)
{
  (void) arg;
}

/* Each thread's jobs are done in its order, all of them once; a call that
 * comes after them returns after them.
 */
static void
test_order (void **state)
{
  struct poster posters[THREADS];
  pthread_t threads[THREADS];
  struct loop *loop;

  (void) state;
  assert_int_equal (loop_create (NULL, &loop), 0);
  for (unsigned i = 0; i < THREADS; i++) {
    posters[i] =
        (struct poster){ loop, i, calloc (JOBS, sizeof (struct numbered)) };
    next_of[i] = 0;
    pthread_create (&threads[i], NULL, post_all, &posters[i]);
  }
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join (threads[i], NULL);
  assert_int_equal (loop_call (loop, nothing, NULL), 0);
  assert_int_equal (nr_done, THREADS * JOBS);
  assert_int_equal (nr_disorder, 0);
  loop_destroy (loop);
  for (unsigned i = 0; i < THREADS; i++)
    free (posters[i].jobs);
}

struct called {
  struct loop *loop;
  pthread_t thread;
  bool here;
  int inner;
  uint64_t first_us, second_us;
};

static void
look_around (void *arg)
{
  struct called *c = arg;
  struct timespec ts = { .tv_nsec = 3000000 };

  c->thread = pthread_self ();
  c->here = loop_is_here (c->loop);
  c->inner = loop_call (c->loop, nothing, NULL);
  c->first_us = loop_now_us (c->loop);
  nanosleep (&ts, NULL);
  c->second_us = loop_now_us (c->loop);
}

/* A call runs on the loop's thread; one from there is refused; the time stands
 * still within a turn and not between two.
 */
static void
test_call (void **state)
{
  struct called a = { 0 }, b;
  struct loop *loop;

  (void) state;
  assert_int_equal (loop_create (NULL, &loop), 0);
  a.loop = loop;
  b = a;
  assert_int_equal (loop_call (loop, look_around, &a), 0);
  assert_int_equal (loop_call (loop, look_around, &b), 0);
  assert_false (loop_is_here (loop));
  assert_true (a.here);
  assert_int_equal (a.inner, EDEADLK);
  assert_false (pthread_equal (a.thread, pthread_self ()));
  assert_true (pthread_equal (a.thread, b.thread));
  assert_int_equal (a.first_us, a.second_us);
  assert_true (b.first_us >= a.first_us + 3000);
  loop_destroy (loop);
}

struct chain {
  struct job job; /* first */
  struct loop *loop;
  unsigned left;
};

static void
do_chain (struct job *job)
{
  struct chain *c = (struct chain *) job;

  if (c->left-- > 0)
    loop_post (c->loop, job);
}

/* A job may post itself again: others have their turn in between. */
static void
test_repost (void **state)
{
  struct chain chain = { .job.fn = do_chain, .left = 1000 };
  struct loop *loop;

  (void) state;
  assert_int_equal (loop_create (NULL, &loop), 0);
  chain.loop = loop;
  loop_post (loop, &chain.job);
  for (unsigned i = 0; i < 2000; i++)
    assert_int_equal (loop_call (loop, nothing, NULL), 0);
  assert_int_equal (chain.left, UINT32_MAX);
  loop_destroy (loop);
}

/* More jobs at once than a turn takes: the loop's other watchers come to their
 * turn after LOOP_TURN of them.
 */
static unsigned seen_by_watcher;

static void
on_prepare (struct ev_loop *ev, ev_prepare *w, int revents)
{
  (void) ev;
  (void) w;
  (void) revents;
  if (nr_done > 0 && seen_by_watcher == 0)
    seen_by_watcher = nr_done;
}

static void
stop_run (struct job *job)
{
  struct chain *c = (struct chain *) job;

  ev_break (loop_ev (c->loop), EVBREAK_ALL);
}

static void
test_own (void **state)
{
  struct ev_loop *ev = ev_loop_new (EVFLAG_AUTO);
  struct numbered jobs[LOOP_TURN * 3];
  struct chain stop = { .job.fn = stop_run };
  struct loop *loop;
  ev_prepare watcher;

  (void) state;
  next_of[0] = nr_done = nr_disorder = 0;
  assert_int_equal (loop_create (ev, &loop), 0);
  assert_ptr_equal (loop_ev (loop), ev);
  assert_false (loop_is_here (loop));
  ev_prepare_init (&watcher, on_prepare);
  ev_prepare_start (ev, &watcher);
  for (unsigned i = 0; i < LOOP_TURN * 3; i++) {
    jobs[i] = (struct numbered){ .job.fn = do_numbered, .n = i };
    loop_post (loop, &jobs[i].job);
  }
  stop.loop = loop;
  loop_post (loop, &stop.job);
  ev_run (ev, 0);
  assert_int_equal (nr_done, LOOP_TURN * 3);
  assert_int_equal (nr_disorder, 0);
  assert_int_equal (seen_by_watcher, LOOP_TURN);
  assert_true (loop_is_here (loop));
  assert_int_equal (loop_call (loop, nothing, NULL), EDEADLK);
  ev_prepare_stop (ev, &watcher);
  loop_destroy (loop);
  /* Nothing of it is left in the caller's loop: a run ends at once. */
  assert_int_equal (ev_run (ev, 0), 0);
  ev_loop_destroy (ev);
}

static void *
run_own (void *arg)
{
  ev_run (arg, 0);
  return NULL;
}

/* The caller's loop on another thread: calls and the end come from here. */
static void
test_own_elsewhere (void **state)
{
  struct ev_loop *ev = ev_loop_new (EVFLAG_AUTO);
  struct called a = { 0 };
  struct loop *loop;
  pthread_t thread;

  (void) state;
  assert_int_equal (loop_create (ev, &loop), 0);
  a.loop = loop;
  pthread_create (&thread, NULL, run_own, ev);
  assert_int_equal (loop_call (loop, look_around, &a), 0);
  assert_true (a.here);
  assert_true (pthread_equal (a.thread, thread));
  loop_destroy (loop);
  pthread_join (thread, NULL); /* it ends: nothing is watched any more */
  ev_loop_destroy (ev);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_order),         cmocka_unit_test (test_call),
    cmocka_unit_test (test_repost),        cmocka_unit_test (test_own),
    cmocka_unit_test (test_own_elsewhere),
  };

  loop_destroy (NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
