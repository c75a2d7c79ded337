/* SPDX-License-Identifier: BSD-2-Clause */
/* Long calls in steps.  A reserve, free, copy or end of an object of a TiB
 * would keep the loop for seconds, and a demand read with it; so each turn of
 * the loop does a bit of one of them.
 *
 *   call --swap_step ()--> a first bit at once --over: most calls
 *                              |
 *                              v
 *                           steps --each turn, the first--> a bit --> over
 *                              ^                             |
 *                              +-----------------------------+
 *
 * A bit: SWAP_STEP_US, or SWAP_STEP_PAGES, of all that begin or go on in a turn
 * together.  It is done behind what the turn's events brought (ev_check, lowest
 * priority) and before the link looks, so a read that was asked for or answered
 * waits for one bit and no more.  While there are steps the loop does not wait.
 *
 * What others may see between two steps is for each call to say: swap-object.c,
 * swap-move.c.
 *
 * The space's own long work is a step as well: what a read has held back may
 * be a million runs when that read ends (swap_space_tidy ()).
 */

#include <config.h>

#include "swap.h"

#include <assert.h>
#include <time.h>

#include "types.h"

static uint64_t
clock_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

uint64_t
swap_step_take (struct farpage_swap *s, uint64_t want)
{
  const uint64_t turn_us = loop_now_us (s->loop), now_us = clock_us ();
  uint64_t n;

  if (turn_us != s->step_turn_us) {
    s->step_turn_us = turn_us;
    s->step_until_us = now_us + SWAP_STEP_US;
    s->step_left = s->step_pages;
  }
  if (now_us >= s->step_until_us)
    return 0;
  n = min_u64 (min_u64 (want, SWAP_STEP_CHUNK), s->step_left);
  s->step_left -= n;
  return n;
}

static void
append (struct farpage_swap *s, struct step *step)
{
  step->next = NULL;
  *s->steps_tail = step;
  s->steps_tail = &step->next;
}

void
swap_step (struct farpage_swap *s, struct step *step)
{
  if (step->go (step))
    return;
  append (s, step);
  ev_check_start (loop_ev (s->loop), &s->step_turn);
  ev_idle_start (loop_ev (s->loop), &s->step_more);
}

static void
at_turn (struct ev_loop *ev, ev_check *w, int revents)
{
  struct farpage_swap *s = w->data;
  struct step *step = s->steps;

  (void) revents;
  s->steps = step->next;
  if (s->steps == NULL)
    s->steps_tail = &s->steps;
  if (!step->go (step))
    append (s, step);
  if (s->steps == NULL) {
    ev_check_stop (ev, w);
    ev_idle_stop (ev, &s->step_more);
  }
}

static bool
tidy_some (struct step *step)
{
  struct farpage_swap *s = step->arg;
  uint64_t n;

  do {
    n = swap_step_take (s, SWAP_STEP_CHUNK);
    if (n == 0)
      return false;
  } while (!swap_space_tidy (s->space, (unsigned) n));
  s->tidying = false;
  swap_trim (s, s->closer != NULL);
  return true;
}

void
swap_tidy (struct farpage_swap *s)
{
  if (s->tidying || swap_space_is_tidy (s->space))
    return;
  s->tidying = true;
  swap_step (s, &s->tidy);
}

void
steps_start (struct farpage_swap *s)
{
  s->steps_tail = &s->steps;
  s->step_pages = SWAP_STEP_PAGES;
  s->tidy.go = tidy_some;
  s->tidy.arg = s;
  ev_check_init (&s->step_turn, at_turn);
  ev_set_priority (&s->step_turn, EV_MINPRI);
  s->step_turn.data = s;
  ev_idle_init (&s->step_more, loop_go_on);
}

void
steps_stop (struct farpage_swap *s)
{
  assert (s->steps == NULL || (s->steps == &s->tidy && s->tidy.next == NULL));
  ev_check_stop (loop_ev (s->loop), &s->step_turn);
  ev_idle_stop (loop_ev (s->loop), &s->step_more);
}
