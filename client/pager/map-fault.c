/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of a touch.  Called by the loop when the userfaultfd is
 * readable, and with what the object has read; calls the object and uffd.c.
 *
 *   ABSENT, no frame     one is begun, FILLING; zeros where nothing was put
 *   ABSENT, FILLING      somebody waits: it is the loop's first concern now
 *   HIDDEN               it is mapped: ACTIVE
 *   PROTECTED            it is dirty, and may be written
 *   anything, ACTIVE     it came meanwhile, or the kernel has unmapped it: it
 *                        is mapped again if it has to be
 *
 * With a READY page those that its stream goes on with are mapped in the same
 * fault.
 *
 * What comes next (trend.c) is guessed at the end of the turn, when what was
 * touched is on the wire.  Guesses have at most half of the frames, take none
 * that a touch would need (farpage_map.low), and are as many as the link takes
 * in a window and a half: what waits in its queue can be asked for at once when
 * it is touched (map_object.hurry), but no more than that is to wait there.
 * Where they have no room, older ones that nobody came for are dropped; pages
 * that were never put are made of zeros at once.
 *
 * Where no frame is free faults wait in a ring; when that is full no more are
 * read, which is as well: their threads sleep.
 */

#include <config.h>

#include "map.h"

#include <errno.h>

#define AHEAD_EVERY_US UINT64_C (1000)
#define AHEAD_BATCH    16u /* pages: fewer are not worth a request */
#define AHEAD_MIN      32u /* pages, at first and at least */
#define AROUND         15u /* pages, mapped with one that was touched */

/* ---- pages that are there ---- */

static void
mapped (struct farpage_map *m, struct frame *f, bool write)
{
  if (f->ahead)
    m->stat.ahead_hits++;
  frame_not_ahead (m, f);
  f->dirty = f->dirty || write;
  f->wanted = f->want_write = false;
  frame_move (m, f, FRAME_ACTIVE);
}

/* A hidden page is mapped.  False: the kernel has no memory now. */
static bool
activate (struct farpage_map *m, struct frame *f, bool write)
{
  if (uffd_map (m->uffd, f->page, 1, write) != 0) {
    map_work_later (m);
    return false;
  }
  mapped (m, f, write);
  return true;
}

/* Those of [first, first + nr) are mapped.  False: none. */
static bool
map_some (struct farpage_map *m, pgno_t first, unsigned nr)
{
  if (uffd_map (m->uffd, first, nr, false) != 0) {
    uffd_hide (m->uffd, first, nr); /* some of them may be */
    return false;
  }
  for (unsigned i = 0; i < nr; i++)
    mapped (m, frame_find (m, first + i), false);
  return true;
}

/* What a stream touches after f, and is there, is mapped before f is: a fault
 * costs as much as some ten pages.  Returns the last page that is.
 */
static pgno_t
map_around (struct farpage_map *m, const struct frame *f)
{
  const int64_t stride = trend_stride (&m->trend, f->page);
  pgno_t last = f->page;
  unsigned nr = 0;

  for (; nr < AROUND && stride != 0; nr++) {
    const pgno_t at = last + (uint64_t) stride;
    const struct frame *g = at < m->nr_pages ? frame_find (m, at) : NULL;

    if (g == NULL || g->state != FRAME_READY)
      break;
    if (stride != 1 && stride != -1 && !map_some (m, at, 1))
      break;
    last = at;
  }
  if (nr > 0 && ((stride == 1 && !map_some (m, f->page + 1, nr)) ||
                 (stride == -1 && !map_some (m, last, nr))))
    return f->page;
  return last;
}

/* It has arrived, or is zeros.  Who waits for one that cannot be mapped now
 * touches it again, and then waits as for a frame.
 */
static void
arrived (struct farpage_map *m, struct frame *f)
{
  if (!f->wanted) {
    frame_move (m, f, FRAME_READY);
  } else if (!activate (m, f, f->want_write)) {
    f->wanted = f->want_write = false;
    frame_move (m, f, FRAME_CLEAN);
    uffd_wake (m->uffd, f->page);
  }
}

static void
poison (struct farpage_map *m, pgno_t page)
{
  m->stat.lost++;
  uffd_poison (m->uffd, page);
}

static void
lost (struct farpage_map *m, struct frame *f)
{
  const pgno_t page = f->page;
  const bool wanted = f->wanted;

  frame_free (m, f, 1);
  map_tell_calls (m, page, 0, EIO);
  if (wanted)
    poison (m, page);
}

static int
get_one (struct farpage_map *m, pgno_t page)
{
  m->stat.demand_reads++;
  return m->ops->get (m, page, 1, false);
}

void
map_got (struct farpage_map *m, pgno_t page, enum farpage_result result)
{
  struct frame *f = frame_find (m, page);

  switch (result) {
  case FARPAGE_FAIL: /* its memory was made, and nothing was read into it */
  case FARPAGE_OK:
    arrived (m, f);
    break;
  case FARPAGE_AGAIN:
    if (f->wanted && get_one (m, page) == 0)
      return;
    if (f->wanted)
      map_work_later (m);
    frame_free (m, f, 1); /* who waits for it is woken, and asks again */
    uffd_wake (m->uffd, page);
    break;
  default:
    lost (m, f);
  }
  map_work (m);
}

/* ---- touches ---- */

/* A page that has no frame.  False: not now. */
static bool
begin (struct farpage_map *m, pgno_t page, bool write)
{
  struct frame *f;

  if (frame_take (m, page, 1) == 0)
    return false;
  f = frame_find (m, page);
  f->wanted = true;
  f->want_write = write;
  if (m->ops->row (m, page, 1) == 0) {
    m->stat.zeros++;
    arrived (m, f);
    return true;
  }
  if (get_one (m, page) == 0)
    return true;
  frame_free (m, f, 1);
  map_work_later (m);
  return false;
}

/* Being read. */
static void
wait_for (struct farpage_map *m, struct frame *f, bool write)
{
  if (f->ahead) {
    m->stat.ahead_late++;
    frame_not_ahead (m, f);
    m->ops->hurry (m, f->page);
  }
  f->wanted = true;
  f->want_write = f->want_write || write;
}

/* It came meanwhile; or the kernel has unmapped it.  What was written to it by
 * then has to be known before it is mapped protected.
 */
static bool
map_again (struct farpage_map *m, struct frame *f, bool write)
{
  const bool writable =
      write || map_is_written (m, f) || !uffd_maps_protected (m->uffd);
  const int err = uffd_map_again (m->uffd, f->page, writable);

  if (err == 0 && writable)
    f->dirty = true;
  if (err == 0 || err == EEXIST)
    return true;
  map_work_later (m);
  return false;
}

bool
map_want (struct farpage_map *m, pgno_t page, bool write)
{
  struct frame *f = frame_find (m, page);

  if (f == NULL)
    return begin (m, page, write);
  switch (f->state) {
  case FRAME_FILLING:
    wait_for (m, f, write);
    return true;
  case FRAME_ACTIVE:
    return map_again (m, f, write);
  default:
    return activate (m, f, write);
  }
}

/* Its memory may be written from now on. */
static void
unprotect (struct farpage_map *m, pgno_t page)
{
  struct frame *f = frame_find (m, page);

  if (f == NULL || f->state != FRAME_ACTIVE) {
    uffd_wake (m->uffd, page); /* it touches it again */
    return;
  }
  f->dirty = true;
  uffd_unprotect (m->uffd, page);
}

/* ---- guesses ---- */

/* How far ahead, in pages. */
static uint64_t
ahead_max (struct farpage_map *m)
{
  const uint64_t now = loop_now_us (m->loop);
  struct link_stat st;

  if (m->ahead_max > 0 && now - m->ahead_us < AHEAD_EVERY_US)
    return m->ahead_max;
  link_stat (m->link, &st);
  m->ahead_max = max_u64 (st.pool[POOL_AHEAD].limit_bytes * 3 / 2 >> PAGE_SHIFT,
                          AHEAD_MIN);
  m->ahead_max = min_u64 (m->ahead_max, m->nr_frames / 2);
  m->ahead_us = now;
  return m->ahead_max;
}

/* May so many more pages be guessed? */
static uint64_t
ahead_room (struct farpage_map *m)
{
  const uint64_t free = m->list[FRAME_FREE].nr, most = m->nr_frames / 2;

  if (free <= m->low || m->nr_ahead >= most)
    return 0;
  return min_u64 (free - m->low, most - m->nr_ahead);
}

/* Frames for pages of [first, first + nr), none of which has one: as many as
 * are returned.
 */
static unsigned
take_ahead (struct farpage_map *m, pgno_t first, unsigned nr)
{
  nr = frame_take (m, first, nr);
  for (unsigned i = 0; i < nr; i++)
    frame_find (m, first + i)->ahead = true;
  m->nr_ahead += nr;
  m->stat.ahead += nr;
  return nr;
}

/* They lie in one row.  Returns how many are begun. */
static unsigned
ahead_row (struct farpage_map *m, pgno_t first, unsigned nr)
{
  nr = take_ahead (m, first, nr);
  if (nr == 0 || m->ops->get (m, first, nr, true) == 0)
    return nr;
  m->stat.ahead -= nr;
  frame_free (m, frame_find (m, first), nr);
  return 0;
}

/* Pages from first on that were never put, at most nr: they are there at once.
 * Returns how many are.
 */
static unsigned
ahead_zeros (struct farpage_map *m, pgno_t first, unsigned nr)
{
  unsigned n = 0;

  while (n < nr && m->ops->row (m, first + n, 1) == 0)
    n++;
  nr = take_ahead (m, first, n);
  for (unsigned i = 0; i < nr; i++)
    frame_move (m, frame_find (m, first + i), FRAME_READY);
  m->stat.zeros += nr;
  return nr;
}

/* How many of [first, first + most) from first on have no frame. */
static unsigned
absent (struct farpage_map *m, pgno_t first, uint64_t most)
{
  unsigned n = 0;

  while (n < most && n < m->cluster && frame_find (m, first + n) == NULL)
    n++;
  return n;
}

/* Upwards, from first on.  Returns how many of nr are taken care of. */
static uint64_t
ahead_up (struct farpage_map *m, pgno_t first, uint64_t nr, bool zeros)
{
  uint64_t done = 0;

  while (done < nr) {
    const pgno_t at = first + done;
    const unsigned n = absent (m, at, min_u64 (nr - done, ahead_room (m)));
    const unsigned row = n > 0 ? m->ops->row (m, at, n) : 0;
    unsigned got = 1;

    if (row > 0)
      got = ahead_row (m, at, row);
    else if (n > 0)
      got = zeros ? ahead_zeros (m, at, n) : 1;
    else if (frame_find (m, at) == NULL)
      return done; /* no room */
    done += got;
    if (got < row || got == 0)
      return done;
  }
  return done;
}

uint64_t
map_ahead (struct farpage_map *m, pgno_t first, int64_t stride, uint64_t nr,
           bool zeros)
{
  uint64_t done = 0;

  if (stride == 1)
    return ahead_up (m, first, nr, zeros);
  while (done < nr) {
    /* downwards in pieces, each of which goes upwards */
    const uint64_t n = stride == -1 ? min_u64 (nr - done, m->cluster) : 1;
    const pgno_t at = first + done * (uint64_t) stride - (n - 1);
    const uint64_t got = ahead_up (m, at, n, zeros);

    done += got;
    if (got < n)
      break;
  }
  return done;
}

/* So many pages are to be guessed: those that nobody came for, and that belong
 * to no stream which goes on, make room for them.  Where a stream finds nothing
 * any more (starved) the newest do, whose ever they are.
 */
static void
drop_stale (struct farpage_map *m, uint64_t nr, bool starved)
{
  const struct frame_list *ready = &m->list[FRAME_READY];

  for (unsigned n = 0;
       n < MAP_HIDE_BATCH && ahead_room (m) < nr && ready->nr > 0; n++) {
    struct frame *f = starved ? ready->last : ready->first;

    if (!starved && trend_awaits (&m->trend, f->page)) {
      frame_move (m, f, FRAME_READY);
      continue;
    }
    m->stat.ahead_wasted++;
    m->stat.dropped++;
    frame_free (m, f, 1);
  }
}

static void
guess (struct farpage_map *m, pgno_t page, bool there)
{
  struct trend_ask ask;
  uint64_t done;

  trend_touch (&m->trend, page, there, m->nr_pages, ahead_max (m), AHEAD_BATCH,
               &ask);
  if (ask.nr == 0) {
    if (m->in_order && frame_find (m, page + 1) == NULL)
      map_ahead (m, page + 1, 1, min_u64 (AHEAD_BATCH, m->nr_pages - 1 - page),
                 true);
    return;
  }
  drop_stale (m, ask.nr, !there);
  done = map_ahead (m, ask.first, ask.stride, ask.nr, true);
  if (done < ask.nr)
    trend_cut (&m->trend, &ask, done);
}

void
map_guess (struct farpage_map *m)
{
  const unsigned nr = m->nr_touched;

  m->nr_touched = 0;
  for (unsigned i = 0; i < nr && !m->random; i++)
    guess (m, m->touched[i].page, m->touched[i].there);
}

/* there: it had a frame. */
static void
guess_later (struct farpage_map *m, pgno_t page, bool there)
{
  if (m->nr_touched == MAP_FAULTS)
    map_guess (m);
  m->touched[m->nr_touched++] =
      (struct map_touched){ .page = page, .there = there };
}

/* ---- faults ---- */

static void
later (struct farpage_map *m, const struct uffd_fault *fault)
{
  m->waiting[(m->head + m->nr_waiting++) % MAP_WAITING] = *fault;
}

static void
on_fault (struct farpage_map *m, const struct uffd_fault *fault)
{
  const struct frame *f;
  pgno_t last = fault->page;
  bool there, guessed;

  m->stat.faults++;
  if (fault->kind == UFFD_PROTECTED) {
    unprotect (m, fault->page);
    return;
  }
  f = frame_find (m, fault->page);
  there = f != NULL;
  guessed = !there || f->ahead;
  if (f != NULL && f->state != FRAME_FILLING)
    m->stat.hits++;
  if (f != NULL && f->state == FRAME_READY && !m->random)
    last = map_around (m, f);
  if (!map_want (m, fault->page, fault->write)) {
    m->stat.waits++;
    later (m, fault);
  }
  if (guessed)
    guess_later (m, last, there);
}

/* Those that wait, as far as there are frames.  Where there are none, and
 * nothing else was refused, what makes one FREE is work of its own (map_work).
 */
static void
go_on (struct farpage_map *m)
{
  while (m->nr_waiting > 0) {
    const struct uffd_fault fault = m->waiting[m->head];

    if (!map_want (m, fault.page, fault.write)) {
      if (!m->stuck || m->nr_puts > 0 || frame_find (m, fault.page) != NULL)
        return;
      poison (m, fault.page); /* there will be no frame */
    }
    m->head = (m->head + 1) % MAP_WAITING;
    m->nr_waiting--;
    map_work (m);
  }
}

/* While the ring is full the loop must not be woken for what it cannot take. */
static void
watch_faults (struct farpage_map *m, bool on)
{
  if (m->closer != NULL)
    return;
  if (on)
    ev_io_start (loop_ev (m->loop), &m->faults);
  else
    ev_io_stop (loop_ev (m->loop), &m->faults);
}

void
map_on_faults (struct farpage_map *m)
{
  struct uffd_fault faults[MAP_FAULTS];
  unsigned nr, room;

  go_on (m);
  do {
    room = MAP_WAITING - m->nr_waiting;
    nr = room > 0 ? uffd_read (m->uffd, faults,
                               room < MAP_FAULTS ? room : MAP_FAULTS)
                  : 0;
    for (unsigned i = 0; i < nr; i++)
      on_fault (m, &faults[i]);
    if (nr > 0)
      map_work (m);
  } while (nr == MAP_FAULTS);
  watch_faults (m, m->nr_waiting < MAP_WAITING);
}
