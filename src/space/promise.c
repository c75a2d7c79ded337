/* SPDX-License-Identifier: BSD-2-Clause */
/* What the pool has promised, and who may move a block: charges, units and
 * levels.  The contract is in space.h, the invariants in space.c.
 *
 * Charges and units are atomic counters; the lock is taken only by those who
 * wait and by those who wake them.  Waiters for units are served in the order
 * of arrival: a new taker queues behind them, so a large request is not
 * passed for ever by small ones.  Where parked blocks need a commit to come
 * back (config.want_units), who has queued begins one; blocks parked after it
 * began are the next one's, which begins when they are many (parked.c).
 *
 * Not done: waiting for charges that no drop will bring.  Nobody can say that
 * a client will ever trim; it is told ENOSPC at once.
 */

#include <config.h>

#include "space-impl.h"

#include <assert.h>
#include <errno.h>

/* ---- levels ---- */

enum space_level
space_level_now (struct space *sp)
{
  if (atomic_load (&sp->full))
    return SPACE_LEVEL_FULL;
  return atomic_load (&sp->almost) ? SPACE_LEVEL_ALMOST_FULL : SPACE_LEVEL_OK;
}

static uint64_t
nr_free_charges (struct space *sp)
{
  return sp->charge_max - atomic_load (&sp->charged);
}

/* Tell of the level, one thread at a time, so that the last that was told is
 * what is.  Lock: needs sp->lock, and lets go of it while telling.
 */
static void
tell_level (struct space *sp)
{
  if (sp->telling || sp->config.on_level == NULL)
    return;
  sp->telling = true;
  while (sp->told != space_level_now (sp)) {
    enum space_level level = space_level_now (sp);

    sp->told = level;
    lock_release (&sp->lock);
    sp->config.on_level (sp->config.arg, level);
    lock_acquire (&sp->lock);
  }
  sp->telling = false;
}

/* Look at the levels again (I5); failed: a charge was just refused. */
static void
note_level (struct space *sp, bool failed)
{
  LOCK_SCOPE (&sp->lock);
  uint64_t nr_free = nr_free_charges (sp);

  if (nr_free >= sp->low)
    atomic_store (&sp->full, false);
  else if (failed)
    atomic_store (&sp->full, true);
  if (nr_free < sp->low)
    atomic_store (&sp->almost, true);
  else if (nr_free > sp->high)
    atomic_store (&sp->almost, false);
  tell_level (sp);
}

/* ---- charges ---- */

static bool
try_charge (struct space *sp, uint64_t nr)
{
  uint64_t charged = atomic_load (&sp->charged);

  do {
    if (nr > sp->charge_max - charged)
      return false;
  } while (
      !atomic_compare_exchange_weak (&sp->charged, &charged, charged + nr));
  return true;
}

int
space_charge (struct space *sp, uint64_t nr)
{
  if (nr == 0)
    return 0;
  return try_charge (sp, nr) ? 0 : ENOSPC;
}

void
space_look (struct space *sp)
{
  if (nr_free_charges (sp) < sp->low && !atomic_load (&sp->almost))
    note_level (sp, false);
}

int
space_charge_wait (struct space *sp, uint64_t nr, uint64_t deadline_ns)
{
  bool done;

  for (;;) {
    done = space_charge (sp, nr) == 0;
    if (done)
      break;
    LOCK_SCOPE (&sp->lock);
    done = try_charge (sp, nr);
    if (done)
      break;
    if (atomic_load (&sp->nr_dropping) == 0)
      break;
    sp->nr_charge_waiters++;
    bool in_time = cond_wait_until (&sp->changed, &sp->lock, deadline_ns);
    sp->nr_charge_waiters--;
    if (!in_time)
      break;
  }
  if (done)
    space_look (sp);
  else
    note_level (sp, true);
  return done ? 0 : ENOSPC;
}

static void
wake_charge_waiters (struct space *sp)
{
  LOCK_SCOPE (&sp->lock);
  if (sp->nr_charge_waiters > 0)
    cond_broadcast (&sp->changed);
}

void
space_uncharge (struct space *sp, uint64_t nr)
{
  if (nr == 0)
    return;
  uint64_t before = atomic_fetch_sub (&sp->charged, nr);

  assert (before >= nr);
  (void) before;
  if (space_level_now (sp) != SPACE_LEVEL_OK)
    note_level (sp, false);
  if (atomic_load (&sp->nr_dropping) > 0)
    wake_charge_waiters (sp);
}

void
space_drop_begin (struct space *sp)
{
  atomic_fetch_add (&sp->nr_dropping, 1);
}

void
space_drop_done (struct space *sp)
{
  atomic_fetch_sub (&sp->nr_dropping, 1);
  wake_charge_waiters (sp);
}

/* ---- units ---- */

uint64_t
space_nr_units (const struct space *sp)
{
  return sp->nr_units;
}

uint64_t
space_slice_max (const struct space *sp)
{
  return max_u64 (1, min_u64 (sp->nr_units / 4, SPACE_HANDOUT_MAX));
}

static bool
try_units (struct space *sp, uint64_t nr)
{
  int64_t units_free = atomic_load (&sp->units_free);

  do {
    if (units_free < (int64_t) nr)
      return false;
  } while (!atomic_compare_exchange_weak (&sp->units_free, &units_free,
                                          units_free - (int64_t) nr));
  return true;
}

/* Serve waiters in turn.  Lock: needs sp->lock. */
static void
grant_units (struct space *sp)
{
  bool any = false;

  while (sp->first != NULL && try_units (sp, sp->first->nr)) {
    struct waiter *w = sp->first;

    sp->first = w->next;
    if (sp->first == NULL)
      sp->last = &sp->first;
    w->granted = true;
    atomic_fetch_sub (&sp->nr_waiting, 1);
    any = true;
  }
  if (any)
    cond_broadcast (&sp->changed);
}

/* Lock: needs sp->lock. */
static void
leave_queue (struct space *sp, struct waiter *w)
{
  struct waiter **p = &sp->first;

  while (*p != w)
    p = &(*p)->next;
  *p = w->next;
  if (w->next == NULL)
    sp->last = p;
  atomic_fetch_sub (&sp->nr_waiting, 1);
  /* The next in the queue may ask for less. */
  grant_units (sp);
}

int
space_acquire (struct space *sp, uint64_t nr, uint64_t deadline_ns)
{
  struct waiter w = { .nr = nr };

  assert (nr <= space_slice_max (sp));
  if (nr == 0)
    return 0;
  if (atomic_load (&sp->nr_waiting) == 0 && try_units (sp, nr))
    return 0;
  if (deadline_ns == 0)
    return ETIMEDOUT;

  LOCK_SCOPE (&sp->lock);
  *sp->last = &w;
  sp->last = &w.next;
  atomic_fetch_add (&sp->nr_waiting, 1);
  /* Counted first, looked after: a release either sees the count or came
   * before this look.
   */
  grant_units (sp);
  if (!w.granted && sp->config.want_units != NULL) {
    /* In the queue first, asked after: what comes back is kept for it. */
    lock_release (&sp->lock);
    sp->config.want_units (sp->config.arg);
    lock_acquire (&sp->lock);
  }
  while (!w.granted)
    if (!cond_wait_until (&sp->changed, &sp->lock, deadline_ns) && !w.granted) {
      leave_queue (sp, &w);
      return ETIMEDOUT;
    }
  return 0;
}

static void
units_came_back (struct space *sp)
{
  if (atomic_load (&sp->nr_waiting) > 0) {
    LOCK_SCOPE (&sp->lock);
    grant_units (sp);
  }
}

void
space_release (struct space *sp, uint64_t nr)
{
  if (nr == 0)
    return;
  atomic_fetch_add (&sp->units_free, (int64_t) nr);
  units_came_back (sp);
}

void
space_park (struct space *sp, uint64_t nr)
{
  atomic_fetch_add (&sp->nr_parked, nr);
  atomic_fetch_sub (&sp->units_free, (int64_t) nr);
}

void
space_unpark (struct space *sp, uint64_t nr)
{
  if (nr == 0)
    return;
  atomic_fetch_sub (&sp->nr_parked, nr);
  space_release (sp, nr);
}
