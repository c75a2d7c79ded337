/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads of our own: started and joined here, and nowhere else.
 *
 * Everything by which one thread of the core can notice another goes through
 * one table of functions: starting, joining, sleeping here; locks and
 * conditions in lock.h.  A simulator sets the table, runs one task at a time,
 * and decides at each of these calls which one goes on; time and randomness it
 * gives by env.h.  With no table, all is plain pthreads.
 *
 * So the core starts no thread, sleeps, yields and waits in no other way.
 */

#ifndef FARPAGE_TASK_H
#define FARPAGE_TASK_H

#include "lock.h"

struct task;

/* Start fn (arg) in a thread of its own, with 256 KiB of stack and every
 * signal blocked.  name has at most 15 bytes and is a constant.  EAGAIN,
 * ENOMEM.  Blocks: no.
 */
#define TASK_NAME_MAX 15
extern int task_start (const char *name, void (*fn) (void *arg), void *arg,
                       struct task **tp);

/* Wait until its fn has returned, and free it; each task is joined once.
 * NULL is fine.  Lock: none held.  Blocks: yes.
 */
extern void task_join (struct task *t);

/* Does the caller run in it?  Not for a simulator's tasks. */
extern bool task_is_me (const struct task *t);

/* A place where a simulator may let another task run: between two looks at
 * something that is atomic, say.  Does nothing otherwise.
 */
extern void task_yield (void);

/* Let others run for so long; 0: just once (sched_yield).  Blocks: yes. */
extern void task_sleep (uint64_t ns);

/* ---- for a simulator ---- */

#define TASK_NO_DEADLINE UINT64_MAX

struct task_ops {
  int (*start) (const char *name, void (*fn) (void *), void *arg,
                struct task **tp);
  void (*join) (struct task *t);
  void (*yield) (void);
  void (*sleep) (uint64_t ns);
  void (*acquire) (lock_t *lock);
  void (*release) (lock_t *lock);
  /* As cond_wait_until (); TASK_NO_DEADLINE: as cond_wait (). */
  bool (*wait) (cond_t *cond, lock_t *lock, uint64_t deadline_ns);
  void (*broadcast) (cond_t *cond);
};

/* NULL: threads.  Set it while no task runs and no lock is held. */
extern void task_set (const struct task_ops *ops);

/* What task_set () set; for lock.c.  [const while tasks run] */
extern const struct task_ops *task_table;

#endif /* FARPAGE_TASK_H */
