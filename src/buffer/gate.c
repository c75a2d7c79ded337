/* SPDX-License-Identifier: BSD-2-Clause */
/* The gate: changes go in when there is room for what they may need, and a
 * cycle's cut closes it.  See flush.h; the order of things is flush.c.
 *
 *   change_begin --> inside (credit) --> change_end
 *        | no room: asks the commit's thread, or the cycle's, and waits
 *        v
 *      gate_changed <-- who has written, cut, or gone out
 *
 * A change is inside from change_begin () to change_end (); the cut
 * closes the gate and waits until nobody is inside.  Credit: each change says
 * how many nodes it may touch, so that what it needs of buffers and ring is
 * there before it takes a lock, and nobody waits inside.
 *
 * G1. Who waits has asked for all that the last try under gate_lock said it
 *     needs, and who makes room broadcasts under that lock.
 *
 * Locks: gate_lock and want_lock are leaves and never held together.
 */

#include <config.h>

#include "flush-impl.h"

#include <assert.h>
#include <errno.h>

uint64_t
ring_used (struct flush *fl)
{
  return atomic_load (&fl->next_lsn) - atomic_load (&fl->redo_lsn);
}

/* Blocks of the ring that nobody but the cut may use. */
static uint64_t
ring_reserve (const struct flush *fl)
{
  return atomic_load (&fl->ring_reserve) + CHANGE_REDO_BLOCKS;
}

/* Is so much not durable that recovery would take too long? */
static bool
group_is_full (struct flush *fl)
{
  return atomic_load (&fl->pages) - atomic_load (&fl->pages_durable) >
             GROUP_PAGES_MAX ||
         atomic_load (&fl->next_lsn) - atomic_load (&fl->durable_lsn) >
             fl->ring_blocks / 4;
}

static bool
undo_is_half (struct flush *fl)
{
  return bufs_nr_dirty (fl->bs, BUF_UNDO) >
         bufs_dirty_max (fl->bs, BUF_UNDO) / 2;
}

/* What would make room for what the changes inside may need; 0: there is room.
 * One alone always has room in the buffers of the log.
 */
enum need {
  NEED_COMMIT = 1, /* too much is not durable */
  NEED_WRITE = 2,  /* the log's buffers are short */
  NEED_CYCLE = 4   /* META's, or the ring */
};

static unsigned
what_it_needs (struct flush *fl, uint64_t credit, unsigned inside)
{
  uint64_t redo = (uint64_t) inside * CHANGE_REDO_BLOCKS;
  uint64_t meta = bufs_nr_dirty (fl->bs, BUF_META) + credit;
  uint64_t undo = bufs_nr_dirty (fl->bs, BUF_UNDO) + credit + redo;
  unsigned need = 0;

  if (group_is_full (fl))
    need |= NEED_COMMIT;
  if ((inside > 1 || undo_is_half (fl)) &&
      undo > bufs_dirty_max (fl->bs, BUF_UNDO))
    need |= NEED_WRITE;
  if (ring_used (fl) + credit + redo + ring_reserve (fl) > fl->ring_blocks ||
      meta + atomic_load (&fl->cut_reserve) > bufs_dirty_max (fl->bs, BUF_META))
    need |= NEED_CYCLE;
  return need;
}

/* What one change with so many nodes adds to fl->inside. */
static uint64_t
one_inside (unsigned nr_nodes)
{
  return (uint64_t) nr_nodes << 32 | 1;
}

/* Go in, if the gate is open and there is room.  *need: if it is open, what
 * there is no room for.
 */
static bool
try_enter (struct flush *fl, unsigned nr_nodes, unsigned *need)
{
  uint64_t one = one_inside (nr_nodes);
  uint64_t inside = atomic_fetch_add (&fl->inside, one) + one;
  bool closed = atomic_load (&fl->closed);

  *need = closed ? 0 : what_it_needs (fl, inside >> 32, (uint32_t) inside);
  if (!closed && *need == 0)
    return true;
  atomic_fetch_sub (&fl->inside, one);
  return false;
}

void
gate_look (struct flush *fl)
{
  if (atomic_load (&fl->nr_waiting) == 0)
    return;
  LOCK_SCOPE (&fl->gate_lock);
  cond_broadcast (&fl->gate_changed);
}

/* Who waits at the gate asks for what it needs: a cycle costs an image and a
 * write of each node that changes again, and helps the log's buffers nothing.
 */
static void
want_room (struct flush *fl, unsigned need)
{
  LOCK_SCOPE (&fl->want_lock);
  if (need & NEED_COMMIT)
    fl->want_durable = max_u64 (fl->want_durable, flush_tail (fl));
  if (need & (NEED_COMMIT | NEED_WRITE)) {
    fl->want_pass = true;
    cond_broadcast (&fl->commit_wanted);
  }
  if (need & NEED_CYCLE) {
    fl->want_cycle = true;
    cond_broadcast (&fl->cycle_wanted);
  }
}

/* Wait until something has changed, if all that is needed was asked for before
 * it was looked at: who makes room, or fails the store, broadcasts under the
 * lock.  True: entered.
 */
static bool
enter_or_wait (struct flush *fl, unsigned nr_nodes, unsigned asked,
               unsigned *need)
{
  LOCK_SCOPE (&fl->gate_lock);
  if (try_enter (fl, nr_nodes, need))
    return true;
  if ((*need & ~asked) == 0 && !flush_failed (fl)) {
    cond_wait (&fl->gate_changed, &fl->gate_lock);
    *need = 0;
  }
  return false;
}

static int
wait_enter (struct flush *fl, unsigned nr_nodes, unsigned need)
{
  bool entered = false;

  atomic_fetch_add (&fl->nr_waiting, 1);
  /* For a moment we were inside: somebody may have gone to wait for that. */
  gate_look (fl);
  while (!entered && !flush_failed (fl)) {
    if (need != 0)
      want_room (fl, need);
    entered = enter_or_wait (fl, nr_nodes, need, &need);
  }
  atomic_fetch_sub (&fl->nr_waiting, 1);
  return entered ? 0 : EIO;
}

int
change_begin (struct flush *fl, unsigned nr_nodes, struct change *ch)
{
  unsigned need;

  assert (nr_nodes <= CHANGE_NODES_MAX);
  ch->lsn = 0;
  ch->quiet = false;
  ch->nr_nodes = nr_nodes;
  if (flush_failed (fl))
    return EIO;
  return try_enter (fl, nr_nodes, &need) ? 0 : wait_enter (fl, nr_nodes, need);
}

void
flush_make_room (struct flush *fl)
{
  if (cycle_is_full (fl))
    cycle_write_early (fl);
  else if (fl->started && undo_is_half (fl))
    (void) flush_written (fl, flush_tail (fl));
  else if (undo_is_half (fl))
    (void) commit_pass_alone (fl, true, false);
}

void
change_begin_cut (struct flush *fl, struct change *ch)
{
  ch->lsn = 0;
  ch->quiet = false;
  ch->nr_nodes = 0;
  flush_make_room (fl);
  atomic_fetch_add (&fl->inside, one_inside (0));
}

bool
cycle_is_wanted (struct flush *fl)
{
  return bufs_nr_dirty (fl->bs, BUF_META) * 4 >=
             bufs_dirty_max (fl->bs, BUF_META) * 3 ||
         ring_used (fl) * 4 >= fl->ring_blocks * 3;
}

void
change_end (struct flush *fl, struct change *ch)
{
  atomic_fetch_sub (&fl->inside, one_inside (ch->nr_nodes));
  if (atomic_load (&fl->closed) || atomic_load (&fl->nr_waiting) > 0) {
    LOCK_SCOPE (&fl->gate_lock);
    cond_broadcast (&fl->gate_changed);
  }
  if (cycle_is_wanted (fl) && !atomic_exchange (&fl->asked, true)) {
    LOCK_SCOPE (&fl->want_lock);
    cond_broadcast (&fl->cycle_wanted);
  }
}

void
gate_close (struct flush *fl)
{
  if (SABOTAGE (no_gate))
    return;
  LOCK_SCOPE (&fl->gate_lock);
  atomic_store (&fl->closed, true);
  while ((uint32_t) atomic_load (&fl->inside) > 0)
    cond_wait (&fl->gate_changed, &fl->gate_lock);
}

void
gate_open (struct flush *fl)
{
  LOCK_SCOPE (&fl->gate_lock);
  atomic_store (&fl->closed, false);
  cond_broadcast (&fl->gate_changed);
}
