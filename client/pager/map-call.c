/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that go on as pages come and go: sync, pin, free, and the end of a map.
 * Each is tried at the end of a turn of the loop in which something changed, as
 * long as it is not over; map.c begins them.
 *
 * A sync looks at each frame once and never goes back, so that a program which
 * goes on writing does not keep it: what was written before it began is put, or
 * was already, and all puts up to the last that it began are waited for.
 */

#include <config.h>

#include "map.h"

#include <errno.h>

/* ---- sync ---- */

static bool
is_in (const struct map_call *c, const struct frame *f)
{
  return f->state != FRAME_FREE && f->page >= c->first && f->page < c->end;
}

/* Frames from c->frame on are put.  False: not all of them, this time. */
static bool
put_all (struct map_call *c)
{
  struct farpage_map *m = c->map;

  for (unsigned n = 0; c->frame < m->nr_frames; c->frame++) {
    struct frame *f = &m->frame[c->frame];

    if (!is_in (c, f) || !map_is_written (m, f)) {
      if (is_in (c, f) && f->put > c->serial)
        c->serial = f->put;
      if (++n > MAP_TURN_FRAMES) {
        map_work (m);
        return false;
      }
      continue;
    }
    if (f->put != 0)
      return false; /* when that has ended */
    if (map_put_row (m, f, true) != 0) {
      map_work_later (m);
      return false;
    }
    c->serial = m->serial;
  }
  return true;
}

/* Are all puts up to c->serial over? */
static bool
puts_are_over (const struct map_call *c)
{
  for (unsigned i = 0; i < MAP_PUTS; i++) {
    const uint64_t serial = c->map->put[i].serial;

    if (serial != 0 && serial <= c->serial)
      return false;
  }
  return true;
}

bool
map_sync_go (struct map_call *c)
{
  if (c->error == 0 && !put_all (c))
    return false;
  if (!puts_are_over (c))
    return false;
  return true;
}

/* ---- pin ---- */

static void
unpin (struct farpage_map *m, pgno_t first, pgno_t end)
{
  for (pgno_t p = first; p < end; p++) {
    frame_find (m, p)->pins--;
    m->nr_pinned--;
  }
}

bool
map_pin_go (struct map_call *c)
{
  struct farpage_map *m = c->map;
  struct frame *f;

  if (c->at == c->first &&
      m->nr_pinned + (c->end - c->first) > m->nr_frames / 2)
    c->error = ENOMEM;
  for (; c->at < c->end && c->error == 0; c->at++) {
    f = frame_find (m, c->at);
    if (f == NULL || f->state != FRAME_ACTIVE)
      break;
    f->pins++;
    m->nr_pinned++;
  }
  if (c->error != 0) {
    unpin (m, c->first, c->at);
    c->at = c->end;
  }
  for (pgno_t p = c->at; p < c->end && p - c->at < m->cluster; p++) {
    f = frame_find (m, p);
    if ((f == NULL || f->state != FRAME_ACTIVE) && !map_want (m, p, false))
      break;
  }
  if (c->at < c->end && (f = frame_find (m, c->at)) != NULL &&
      f->state == FRAME_ACTIVE)
    map_work (m);
  return c->at == c->end;
}

int
map_unpin (struct farpage_map *m, pgno_t first, pgno_t end)
{
  for (pgno_t p = first; p < end; p++) {
    const struct frame *f = frame_find (m, p);

    if (f == NULL || f->pins == 0)
      return EINVAL;
  }
  unpin (m, first, end);
  map_work (m);
  return 0;
}

/* ---- free ---- */

/* Frames of the range go, dirty or not.  EBUSY: pinned. */
bool
map_free_go (struct map_call *c)
{
  struct farpage_map *m = c->map;

  for (unsigned n = 0; c->frame < m->nr_frames; c->frame++) {
    struct frame *f = &m->frame[c->frame];

    if (++n > MAP_TURN_FRAMES) {
      map_work (m);
      return false;
    }
    if (!is_in (c, f))
      continue;
    if (f->pins > 0) {
      c->error = EBUSY;
      return true;
    }
    if (f->put != 0 || f->state == FRAME_FILLING)
      return false; /* when that is over */
    if (f->state == FRAME_ACTIVE)
      uffd_hide (m->uffd, f->page, 1);
    f->dirty = false;
    frame_free (m, f, 1);
  }
  return true;
}

/* ---- the end ---- */

/* Nothing is touched any more: what is dirty is put, and then nothing is under
 * way.
 */
bool
map_close_go (struct map_call *c)
{
  struct farpage_map *m = c->map;

  if (c->error == 0 && !put_all (c))
    return false;
  return m->nr_puts == 0 && m->list[FRAME_FILLING].nr == 0;
}
