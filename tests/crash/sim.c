/* SPDX-License-Identifier: BSD-2-Clause */
/* The simulator; see sim.h.  It is the table behind base/task.h, base/lock.h
 * and base/env.h while sim_run () runs.
 *
 *   sim_run --> task 0 = fn; others by task_start ()
 *                 |
 *      point: acquire, wait, sleep, start, join, I/O, yield, end
 *                 |
 *      choose: among the tasks that could go on, by the seed
 *
 * States of a task:
 *
 *   RUNNABLE <-> LOCK   [acquire of what another holds; its release]
 *   RUNNABLE  -> COND   [wait] -> LOCK or RUNNABLE [broadcast, deadline]
 *   RUNNABLE  -> SLEEP  [sleep] -> RUNNABLE [deadline]
 *   RUNNABLE  -> JOIN   [join] -> RUNNABLE [the other is OVER]
 *   RUNNABLE  -> OVER   [fn has returned] -> free [join]
 *
 * Time stands still while anybody can go on, but for step_ns a point (so that
 * a loop with a deadline ends); when nobody can, it jumps to the next
 * deadline.  When there is none either, that is a deadlock.
 *
 * Each run draws from its seed how eager it is to switch where it need not,
 * and how fast time goes: some bugs want a switch at every lock, others one
 * long undisturbed task, others timers that come amid of things.
 *
 * I1. A mutex is locked in the eyes of libc exactly if a task has it; all
 *     tasks are one thread to libc, so that trylock tells it.
 * I2. The stack of held locks (lock.h) is the running task's.
 * I3. Nothing depends on an address, the clock or the machine.
 */

#include <config.h>

#include "sim.h"

#include <assert.h>
#include <errno.h>
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "env.h"
#include "rng.h"
#include "task.h"

#ifdef __SANITIZE_ADDRESS__
#define STACK_BYTES ((size_t) 1 << 20)
#else
#define STACK_BYTES ((size_t) 256 << 10)
#endif

#define START_NS    (UINT64_C (1000) * NS_PER_S)
#define FRAMES_TOLD 24

enum state {
  FREE,
  RUNNABLE,
  LOCK,
  COND,
  SLEEP,
  JOIN,
  OVER
};

struct sim_task {
  struct context context;
  void *stack; /* kept from run to run */
  enum state state;
  const void *what; /* the lock, condition or task that it waits for */
  uint64_t deadline_ns;
  bool timed_out;
  const char *name;
  void (*fn) (void *);
  void *arg;
  struct locks_held held; /* of one that does not run */
};

static struct {
  struct sim_config config;
  struct rng rng, random;
  struct context home; /* of sim_run () */
  struct sim_task tasks[SIM_TASKS_MAX];
  struct sim_task *current; /* NULL: no run */
  unsigned nr;              /* tasks that ever ran: places below are used */
  unsigned switch_shift;    /* switches where it need not 1 time in 2^this */
  uint64_t now_ns, step_ns;
  uint64_t trace, steps, switches;
  enum sim_end end;
  bool over, telling;
  int tell_fd;
  void (*on_point) (void *arg);
  void *on_point_arg;
} sim;

static unsigned
number_of (const struct sim_task *t)
{
  return (unsigned) (t - sim.tasks);
}

/* ---- choosing ---- */

static bool
lock_is_free (const lock_t *lock)
{
  lock_t *l = (lock_t *) lock;

  if (pthread_mutex_trylock (&l->mutex) != 0)
    return false;
  pthread_mutex_unlock (&l->mutex);
  return true;
}

static bool
can_go_on (const struct sim_task *t)
{
  switch (t->state) {
  case RUNNABLE:
    return true;
  case LOCK:
    return lock_is_free (t->what);
  case COND:
  case SLEEP:
    return t->deadline_ns <= sim.now_ns;
  case JOIN:
    return ((const struct sim_task *) t->what)->state == OVER;
  default:
    return false;
  }
}

/* Those that can go on, except one; how many. */
static unsigned
gather (struct sim_task *to[], const struct sim_task *except)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < sim.nr; i++)
    if (&sim.tasks[i] != except && can_go_on (&sim.tasks[i]))
      to[nr++] = &sim.tasks[i];
  return nr;
}

/* Time jumps to the next deadline; false if nobody waits for one. */
static bool
jump (void)
{
  uint64_t next = TASK_NO_DEADLINE;

  for (unsigned i = 0; i < sim.nr; i++) {
    const struct sim_task *t = &sim.tasks[i];

    if ((t->state == COND || t->state == SLEEP) && t->deadline_ns < next)
      next = t->deadline_ns;
  }
  if (next == TASK_NO_DEADLINE)
    return false;
  if (next > sim.now_ns)
    sim.now_ns = next;
  return true;
}

/* This task stops here until somebody goes on with it.  After the end of the
 * run that is sim_tell (), which wants to know where here is.
 */
static void
leave (struct sim_task *self, struct context *to)
{
  context_switch (&self->context, to);
  while (sim.telling) {
    void *frames[FRAMES_TOLD];
    int nr = backtrace (frames, FRAMES_TOLD);

    backtrace_symbols_fd (frames, nr, sim.tell_fd);
    context_switch (&self->context, &sim.home);
  }
}

static void
switch_to (struct sim_task *t)
{
  struct sim_task *self = sim.current;

  if (t == self)
    return;
  sim.switches++;
  sim.current = t;
  locks_held_exchange (&self->held, &t->held);
  leave (self, &t->context);
}

/* The run is over, well or not. */
static void
go_home (enum sim_end end)
{
  static const struct locks_held none;
  struct sim_task *self = sim.current;

  sim.end = end;
  sim.over = true;
  locks_held_exchange (&self->held, &none);
  leave (self, &sim.home);
}

/* Let the seed choose; returns when this task is chosen.  avoid: rather
 * another one, if there is any.
 */
static void
choose (bool avoid)
{
  struct sim_task *to[SIM_TASKS_MAX], *self = sim.current;
  unsigned nr = gather (to, avoid ? self : NULL);

  while (nr == 0) {
    if (avoid && can_go_on (self)) {
      to[nr++] = self;
      break;
    }
    if (!jump ())
      go_home (SIM_DEADLOCK);
    nr = gather (to, NULL);
  }
  self = to[nr > 1 ? rng_below (&sim.rng, nr) : 0];
  sim.trace = hash_add (sim.trace, number_of (self));
  switch_to (self);
}

/* Each point comes through here. */
static void
step (enum sim_point kind)
{
  sim.now_ns += sim.step_ns;
  sim.trace = hash_add (sim.trace, kind << 8 | number_of (sim.current));
  if (++sim.steps > sim.config.steps_max)
    go_home (SIM_LIVELOCK);
  if (sim.on_point != NULL)
    sim.on_point (sim.on_point_arg);
}

void
sim_point (enum sim_point kind)
{
  if (sim.current == NULL || sim.over)
    return;
  step (kind);
  if ((rng_next (&sim.rng) & ((1u << sim.switch_shift) - 1)) == 0)
    choose (false);
}

/* ---- the table of task.h and lock.h ---- */

/* Wait in this state until can_go_on (). */
static void
block (enum sim_point kind, enum state state, const void *what,
       uint64_t deadline_ns)
{
  struct sim_task *self = sim.current;

  step (kind);
  self->state = state;
  self->what = what;
  self->deadline_ns = deadline_ns;
  choose (false);
  self->state = RUNNABLE;
  self->what = NULL;
}

static void
sim_acquire (lock_t *lock)
{
  sim_point (SIM_POINT_ACQUIRE);
  while (pthread_mutex_trylock (&lock->mutex) != 0)
    block (SIM_POINT_ACQUIRE, LOCK, lock, TASK_NO_DEADLINE);
}

static void
sim_release (lock_t *lock)
{
  pthread_mutex_unlock (&lock->mutex);
}

static bool
sim_wait (cond_t *cond, lock_t *lock, uint64_t deadline_ns)
{
  struct sim_task *self = sim.current;

  pthread_mutex_unlock (&lock->mutex);
  self->timed_out = true;
  block (SIM_POINT_WAIT, COND, cond, deadline_ns);
  while (pthread_mutex_trylock (&lock->mutex) != 0)
    block (SIM_POINT_ACQUIRE, LOCK, lock, TASK_NO_DEADLINE);
  return !self->timed_out;
}

static void
sim_broadcast (cond_t *cond)
{
  for (unsigned i = 0; i < sim.nr; i++) {
    struct sim_task *t = &sim.tasks[i];

    if (t->state != COND || t->what != cond)
      continue;
    t->state = RUNNABLE;
    t->timed_out = false;
  }
}

static void
sim_sleep (uint64_t ns)
{
  if (ns > 0) {
    block (SIM_POINT_SLEEP, SLEEP, NULL, sim.now_ns + ns);
    return;
  }
  step (SIM_POINT_SLEEP);
  choose (true);
}

static void
sim_yield (void)
{
  sim_point (SIM_POINT_YIELD);
}

/* Where every coroutine begins and ends. */
static void
entry (void)
{
  struct sim_task *self;

  context_entered ();
  self = sim.current;
  self->fn (self->arg);
  if (number_of (self) == 0)
    go_home (SIM_DONE);
  step (SIM_POINT_END);
  self->state = OVER;
  choose (false);
  abort (); /* nobody chooses one that is over */
}

static struct sim_task *
task_new (const char *name, void (*fn) (void *), void *arg)
{
  struct sim_task *t = sim.tasks;

  while (t < sim.tasks + SIM_TASKS_MAX && t->state != FREE)
    t++;
  if (t == sim.tasks + SIM_TASKS_MAX)
    return NULL;
  if (t->stack == NULL)
    t->stack = context_stack_new (STACK_BYTES);
  if (t->stack == NULL)
    return NULL;
  context_make (&t->context, t->stack, STACK_BYTES, entry);
  t->state = RUNNABLE;
  t->name = name;
  t->fn = fn;
  t->arg = arg;
  t->held.nr = 0;
  if (number_of (t) >= sim.nr)
    sim.nr = number_of (t) + 1;
  return t;
}

static int
sim_start (const char *name, void (*fn) (void *), void *arg, struct task **tp)
{
  struct sim_task *t = task_new (name, fn, arg);

  if (t == NULL)
    return EAGAIN;
  *tp = (struct task *) t;
  sim_point (SIM_POINT_START);
  return 0;
}

static void
sim_join (struct task *task)
{
  struct sim_task *t = (struct sim_task *) task;

  assert (t->state != FREE && t != sim.current);
  block (SIM_POINT_JOIN, JOIN, t, TASK_NO_DEADLINE);
  t->state = FREE;
}

static const struct task_ops task_ops = {
  .start = sim_start,
  .join = sim_join,
  .yield = sim_yield,
  .sleep = sim_sleep,
  .acquire = sim_acquire,
  .release = sim_release,
  .wait = sim_wait,
  .broadcast = sim_broadcast,
};

/* ---- the table of env.h ---- */

static uint64_t
sim_now (void)
{
  return sim.now_ns;
}

static void
sim_random (void *buf, size_t len)
{
  uint8_t *p = buf;

  for (size_t i = 0; i < len; i++)
    p[i] = (uint8_t) rng_next (&sim.random);
}

static uint64_t
sim_wall (void)
{
  return sim.now_ns / NS_PER_S;
}

static const struct env_ops env_ops = { sim_now, sim_random, sim_wall };

/* ---- a run ---- */

static void
prepare (const struct sim_config *config)
{
  static const uint64_t steps_ns[] = { 100, 1000, 100000, 20 * NS_PER_MS };

  sim.config = *config;
  if (sim.config.steps_max == 0)
    sim.config.steps_max = SIM_STEPS_MAX;
  sim.rng.state = config->seed;
  sim.random.state = config->random_seed;
  sim.switch_shift = (unsigned) rng_below (&sim.rng, 7);
  sim.step_ns = steps_ns[rng_below (&sim.rng, 4)];
  sim.now_ns = START_NS;
  sim.trace = sim.steps = sim.switches = 0;
  sim.nr = 0;
  sim.over = false;
  for (unsigned i = 0; i < SIM_TASKS_MAX; i++)
    sim.tasks[i].state = FREE;
}

enum sim_end
sim_run (const struct sim_config *config, void (*fn) (void *), void *arg)
{
  struct sim_task *first;

  assert (sim.current == NULL);
  prepare (config);
  task_set (&task_ops);
  env_set (&env_ops);
  first = task_new ("first", fn, arg);
  if (first == NULL)
    abort ();
  sim.current = first;
  context_switch (&sim.home, &first->context);
  sim.current = NULL;
  task_set (NULL);
  env_set (NULL);
  for (unsigned i = 1; i < sim.nr && sim.end == SIM_DONE; i++)
    if (sim.tasks[i].state != FREE)
      sim.end = SIM_LEFT;
  return sim.end;
}

/* ---- telling ---- */

/* Who has what t waits for. */
static const struct sim_task *
holder (const struct sim_task *t)
{
  for (unsigned i = 0; i < sim.nr; i++) {
    const struct sim_task *o = &sim.tasks[i];

    for (unsigned j = 0; o != t && j < o->held.nr; j++)
      if (o->held.lock[j] == t->what && o->state != LOCK)
        return o;
  }
  return NULL;
}

static void
tell_task (int fd, struct sim_task *t)
{
  static const char *const says[] = {
    [RUNNABLE] = "could go on",      [LOCK] = "waits for lock",
    [COND] = "waits on a condition", [SLEEP] = "sleeps",
    [JOIN] = "waits for the end of", [OVER] = "is over",
  };

  dprintf (fd, "task %u (%s) %s", number_of (t), t->name, says[t->state]);
  if (t->state == LOCK) {
    const struct sim_task *h = holder (t);

    dprintf (fd, " %s, which %s has", ((const lock_t *) t->what)->name,
             h != NULL ? h->name : "nobody");
  } else if (t->state == JOIN)
    dprintf (fd, " %s", ((const struct sim_task *) t->what)->name);
  for (unsigned i = 0; i < t->held.nr; i++)
    if (t->held.lock[i] != t->what)
      dprintf (fd, "; has %s", t->held.lock[i]->name);
  dprintf (fd, "\n");
  if (t->state == OVER)
    return;
  sim.telling = true;
  sim.tell_fd = fd;
  context_switch (&sim.home, &t->context);
  sim.telling = false;
}

void
sim_tell (int fd, enum sim_end end)
{
  static const char *const says[] = {
    [SIM_DONE] = "the run ended well",
    [SIM_LEFT] = "tasks were left running",
    [SIM_DEADLOCK] = "deadlock: all wait, and for no time",
    [SIM_LIVELOCK] = "livelock: too many steps",
  };

  dprintf (fd, "%s (after %llu steps)\n", says[end],
           (unsigned long long) sim.steps);
  for (unsigned i = 0; i < sim.nr; i++)
    if (sim.tasks[i].state != FREE)
      tell_task (fd, &sim.tasks[i]);
}

void
sim_on_point (void (*fn) (void *arg), void *arg)
{
  sim.on_point = fn;
  sim.on_point_arg = arg;
}

uint64_t
sim_trace (void)
{
  return sim.trace;
}

uint64_t
sim_steps (void)
{
  return sim.steps;
}

uint64_t
sim_switches (void)
{
  return sim.switches;
}

void
sim_note (uint64_t what)
{
  sim.trace = hash_add (sim.trace, what);
}

void
sim_free (void)
{
  for (unsigned i = 0; i < SIM_TASKS_MAX; i++) {
    context_stack_free (sim.tasks[i].stack, STACK_BYTES);
    sim.tasks[i].stack = NULL;
  }
}
