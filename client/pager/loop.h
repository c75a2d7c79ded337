/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop of a link: one thread, or the caller's own libev loop, that owns
 * everything of it.  Other threads leave jobs in an inbox and ring a bell.
 */

#ifndef FARPAGE_LOOP_H
#define FARPAGE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct ev_loop;
struct ev_idle;
struct loop;

/* Something to be done on the loop, once; whose memory it is gets it back when
 * fn is called.
 */
struct job {
  void (*fn) (struct job *job);
  struct job *next; /* the loop's */
};

/* own: the caller's loop, which he runs; NULL: a thread that runs one.  EAGAIN,
 * ENOMEM.
 */
extern int loop_create (struct ev_loop *own, struct loop **lp);
/* Nothing is in the inbox and nobody posts any more; joins the thread, or
 * stops the watchers.  Not on the loop's own thread, but for a loop of the
 * caller's: there on its thread, or while it runs on another.  NULL is fine.
 */
extern void loop_destroy (struct loop *l);
extern struct ev_loop *loop_ev (struct loop *l);

/* Any thread.  Jobs are done in the order they were posted, at most LOOP_TURN
 * a turn.  Does not block.
 */
#define LOOP_TURN 64u
extern void loop_post (struct loop *l, struct job *job);
/* Is this the thread that the loop runs on?  Of the caller's own loop: the one
 * that ran a job or a watcher of ours last, or none yet.
 */
extern bool loop_is_here (const struct loop *l);
/* Post fn (arg) and wait until it has returned.  EDEADLK: on the loop's own
 * thread.  Blocks: yes.
 */
extern int loop_call (struct loop *l, void (*fn) (void *arg), void *arg);

/* Microseconds on a clock that never goes back; the same within a turn. [loop]
 */
extern uint64_t loop_now_us (struct loop *l);

/* Of an ev_idle: does nothing.  While one is started the loop does not wait. */
extern void loop_go_on (struct ev_loop *ev, struct ev_idle *w, int revents);

#endif /* FARPAGE_LOOP_H */
