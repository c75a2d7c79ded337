/* SPDX-License-Identifier: BSD-2-Clause */
/* Room: pages are hidden, put and dropped ahead of need.  Called at the end of
 * a turn of the loop in which something happened; calls the object and uffd.c.
 *
 * `high` frames are to be FREE; guesses may take them down to `low`, touches
 * all. When there are fewer CLEAN ones are dropped, the one first that was
 * hidden first, and when nothing is FREE guesses that nobody came for; and a
 * quarter of all frames is kept hidden, from the oldest ACTIVE one on, for that
 * is how it is found out which are in use.  What is found DIRTY then is put at
 * once, with what is dirty beside it, so that there are clean ones when they
 * are needed.
 *
 * A page may be touched, and written, while its put is under way: it is ACTIVE
 * then, and dirty again, and what the server gets of it may be neither the one
 * nor the other.  No harm: it is put once more before it is dropped, and until
 * then nobody reads it from there.
 *
 * A put that failed leaves its pages dirty.  The next is tried a second later.
 */

#include <config.h>

#include "map.h"

#include <errno.h>

#define AGAIN_S 1.0

/* ---- putting ---- */

bool
map_is_written (struct farpage_map *m, const struct frame *f)
{
  bool written;

  if (f->dirty || f->state != FRAME_ACTIVE || uffd_tells_writes (m->uffd))
    return f->dirty;
  uffd_written (m->uffd, f->page, 1, &written);
  return written;
}

/* Is this page to be put with its neighbour?  ACTIVE ones where somebody asks
 * for all that is dirty.
 */
static struct frame *
joins (struct farpage_map *m, pgno_t page, bool sync)
{
  struct frame *f = frame_find (m, page);

  if (f == NULL || f->put != 0)
    return NULL;
  if (f->state == FRAME_DIRTY)
    return f;
  return sync && f->state == FRAME_ACTIVE && map_is_written (m, f) ? f : NULL;
}

static void
begin_put (struct farpage_map *m, struct frame *f, uint64_t serial)
{
  f->put = serial;
  if (f->state == FRAME_DIRTY) {
    f->dirty = false;
    frame_move (m, f, FRAME_WRITING);
  } else {
    uffd_protect (m->uffd, f->page, 1);
    f->dirty = f->pins > 0; /* a device may write it, and nobody sees that */
  }
}

static void
put_over (struct farpage_map *m, struct frame *f, bool well)
{
  f->put = 0;
  f->dirty = f->dirty || !well;
  if (f->state == FRAME_WRITING)
    frame_move (m, f, well ? FRAME_CLEAN : FRAME_DIRTY);
}

static void
give_put (struct farpage_map *m, struct map_put *put)
{
  m->nr_puts--;
  m->put_pages -= put->nr;
  put->serial = 0;
  put->next = m->free_put;
  m->free_put = put;
}

int
map_put_row (struct farpage_map *m, struct frame *f, bool sync)
{
  struct map_put *put = m->free_put;
  pgno_t lo = f->page, hi = f->page + 1;
  int err;

  if (put == NULL)
    return EAGAIN;
  while (hi - lo < m->cluster && lo > 0 && joins (m, lo - 1, sync) != NULL)
    lo--;
  while (hi - lo < m->cluster && joins (m, hi, sync) != NULL)
    hi++;
  m->free_put = put->next;
  put->first = lo;
  put->nr = put->left = (unsigned) (hi - lo);
  put->serial = ++m->serial;
  m->nr_puts++;
  m->put_pages += put->nr;
  for (pgno_t p = lo; p < hi; p++)
    begin_put (m, frame_find (m, p), put->serial);
  err = m->ops->put (m, put, sync);
  if (err) {
    for (pgno_t p = lo; p < hi; p++)
      put_over (m, frame_find (m, p), false);
    give_put (m, put);
  }
  return err;
}

static void
wait_to_put (struct farpage_map *m)
{
  m->put_failed = true;
  ev_timer_stop (loop_ev (m->loop), &m->put_again);
  ev_timer_set (&m->put_again, AGAIN_S, 0);
  ev_timer_start (loop_ev (m->loop), &m->put_again);
}

void
map_put_done (struct map_put *put, pgno_t page, enum farpage_result result)
{
  struct farpage_map *m = put->map;

  put_over (m, frame_find (m, page), result == FARPAGE_OK);
  if (result == FARPAGE_OK) {
    m->stat.put++;
    m->stuck = false;
  } else {
    m->stat.put_failed++;
    m->stuck = m->stuck || result == FARPAGE_ERROR;
    wait_to_put (m);
    map_tell_calls (m, page, put->serial,
                    result == FARPAGE_FAIL ? ENOSPC : EIO);
  }
  if (--put->left == 0)
    give_put (m, put);
  map_work (m);
}

/* All that is DIRTY, but half of the memory at most is under way. */
static void
put_some (struct farpage_map *m)
{
  struct frame *f = m->list[FRAME_DIRTY].first, *next;

  for (; f != NULL && !m->put_failed; f = next) {
    next = f->next;
    if (f->put != 0)
      continue;
    if (m->put_pages >= m->nr_frames / 2)
      return;
    if (map_put_row (m, f, false) != 0) {
      map_work_later (m);
      return;
    }
    /* the row may have had the next one, too */
    next = m->list[FRAME_DIRTY].first;
    while (next != NULL && next->put != 0)
      next = next->next;
  }
}

/* ---- hiding ---- */

static void
hidden (struct farpage_map *m, struct frame *f, bool written)
{
  f->dirty = f->dirty || (written && !uffd_tells_writes (m->uffd));
  if (f->dirty)
    frame_move (m, f, FRAME_DIRTY);
  else
    frame_move (m, f, f->put != 0 ? FRAME_WRITING : FRAME_CLEAN);
}

/* The oldest ACTIVE page, and those behind it that are the next oldest. */
static void
hide_row (struct farpage_map *m)
{
  struct frame *f = m->list[FRAME_ACTIVE].first;
  const pgno_t first = f->page;
  bool written[MAP_HIDE_BATCH];
  unsigned nr = 0;

  for (; nr < MAP_HIDE_BATCH && f != NULL && f->pins == 0 &&
         f->page == first + nr;
       f = f->next)
    nr++;
  if (nr == 0) {
    frame_move (m, m->list[FRAME_ACTIVE].first, FRAME_ACTIVE);
    return;
  }
  uffd_hide (m->uffd, first, nr);
  if (!uffd_tells_writes (m->uffd))
    uffd_written (m->uffd, first, nr, written);
  for (unsigned i = 0; i < nr; i++)
    hidden (m, m->list[FRAME_ACTIVE].first,
            !uffd_tells_writes (m->uffd) && written[i]);
}

static uint64_t
nr_hidden (const struct farpage_map *m)
{
  return m->list[FRAME_CLEAN].nr + m->list[FRAME_DIRTY].nr +
         m->list[FRAME_WRITING].nr;
}

/* A quarter of what there is; as many tries as there are frames that are not
 * pinned.
 */
static void
hide_some (struct farpage_map *m)
{
  const uint64_t want = m->nr_frames / 4;
  uint64_t tries = m->list[FRAME_ACTIVE].nr;

  while (tries-- > 0 && nr_hidden (m) < want &&
         m->list[FRAME_ACTIVE].nr > m->nr_pinned)
    hide_row (m);
}

/* ---- dropping ---- */

/* The oldest of this list, and those behind it that are the next oldest. */
static void
drop_row (struct farpage_map *m, enum frame_state state, uint64_t most)
{
  struct frame *f = m->list[state].first, *g = f;
  unsigned nr = 0;

  for (;
       nr < most && nr < MAP_HIDE_BATCH && g != NULL && g->page == f->page + nr;
       g = g->next) {
    m->stat.ahead_wasted += g->ahead;
    nr++;
  }
  m->stat.dropped += nr;
  frame_free (m, f, nr);
}

void
map_make_room (struct farpage_map *m)
{
  const struct frame_list *free = &m->list[FRAME_FREE];

  if (free->nr < m->high - m->high / 8 || m->nr_waiting > 0) {
    hide_some (m);
    while (free->nr < m->high && m->list[FRAME_CLEAN].nr > 0)
      drop_row (m, FRAME_CLEAN, m->high - free->nr);
    if (free->nr == 0 && m->list[FRAME_READY].nr > 0)
      drop_row (m, FRAME_READY, m->low);
  }
  put_some (m);
}

void
map_hide_range (struct farpage_map *m, pgno_t first, pgno_t end)
{
  struct frame *f = m->list[FRAME_ACTIVE].first, *next;

  for (; f != NULL; f = next) {
    bool written = false;

    next = f->next;
    if (f->page < first || f->page >= end || f->pins > 0)
      continue;
    uffd_hide (m->uffd, f->page, 1);
    if (!uffd_tells_writes (m->uffd))
      uffd_written (m->uffd, f->page, 1, &written);
    hidden (m, f, written);
  }
}
