/* SPDX-License-Identifier: BSD-2-Clause */
/* Maps: opening, closing, and what is asked of them.  The public functions
 * check, and go to the loop; map.h has the picture.
 *
 * A map is its loop's from farpage_map () on to the end of farpage_unmap ();
 * who touches its memory needs nothing of it.  The loop never does: it would
 * wait for itself.
 *
 * Work is done at the end of a turn, when all that came in one turn is known:
 * room is made for all of it at once.  The link has had its pass then, so that
 * what was touched is asked for before anything is guessed, or room is made.
 */

#include <config.h>

#include "map.h"

#include <errno.h>
#include <stdlib.h>

#include "log.h"

#define AGAIN_S 0.01

/* ---- work ---- */

static void
try_calls (struct farpage_map *m)
{
  struct map_call **at = &m->calls, *c;

  while ((c = *at) != NULL) {
    if (c->go (c)) { /* which may be told of errors meanwhile */
      *at = c->next;
      call_done (&c->call, c->error);
    } else {
      at = &c->next;
    }
  }
}

static void
stop (struct farpage_map *m)
{
  struct ev_loop *ev = loop_ev (m->loop);

  ev_io_stop (ev, &m->faults);
  ev_prepare_stop (ev, &m->turn);
  ev_idle_stop (ev, &m->soon);
  ev_timer_stop (ev, &m->again);
  ev_timer_stop (ev, &m->put_again);
}

/* True: the map is over, and whoever closes it has it. */
static bool
try_close (struct farpage_map *m)
{
  struct map_call *c = m->closer;

  if (c == NULL || !map_close_go (c))
    return false;
  stop (m);
  call_done (&c->call, c->error);
  return true;
}

static void
on_turn (struct ev_loop *ev, ev_prepare *w, int events)
{
  struct farpage_map *m = w->data;

  (void) events;
  for (unsigned i = 0; i < 2 && m->changed; i++) {
    m->changed = false;
    map_guess (m);
    map_make_room (m);
    if (m->nr_waiting > 0)
      map_on_faults (m);
    try_calls (m);
    if (try_close (m))
      return;
  }
  if (!m->changed)
    ev_idle_stop (ev, &m->soon);
}

static void
on_faults (struct ev_loop *ev, ev_io *w, int events)
{
  (void) ev;
  (void) events;
  map_on_faults (w->data);
}

static void
on_again (struct ev_loop *ev, ev_timer *w, int events)
{
  (void) ev;
  (void) events;
  map_work (w->data);
}

static void
on_put_again (struct ev_loop *ev, ev_timer *w, int events)
{
  struct farpage_map *m = w->data;

  (void) ev;
  (void) events;
  m->put_failed = false;
  map_work (m);
}

void
map_work (struct farpage_map *m)
{
  m->changed = true;
  ev_idle_start (loop_ev (m->loop), &m->soon);
}

void
map_work_later (struct farpage_map *m)
{
  if (ev_is_active (&m->again))
    return;
  ev_timer_set (&m->again, AGAIN_S, 0);
  ev_timer_start (loop_ev (m->loop), &m->again);
}

void
map_tell_calls (struct farpage_map *m, pgno_t page, uint64_t put, int error)
{
  for (struct map_call *c = m->calls; c != NULL; c = c->next) {
    if (c->go == (put == 0 ? map_pin_go : map_sync_go) && page >= c->first &&
        page < c->end && c->error == 0)
      c->error = error;
  }
  if (m->closer != NULL && put != 0)
    m->closer->error = error;
}

/* ---- opening ---- */

static int
make_frames (struct farpage_map *m)
{
  m->nr_hash = 1;
  while (m->nr_hash < m->nr_frames)
    m->nr_hash *= 2;
  m->frame = calloc (m->nr_frames, sizeof *m->frame);
  m->hash = calloc (m->nr_hash, sizeof m->hash[0]);
  if (m->frame == NULL || m->hash == NULL)
    return ENOMEM;
  frames_init (m);
  for (unsigned i = 0; i < MAP_PUTS; i++) {
    m->put[i].map = m;
    m->put[i].next = i + 1 < MAP_PUTS ? &m->put[i + 1] : NULL;
  }
  m->free_put = &m->put[0];
  return 0;
}

static void
map_destroy (struct farpage_map *m)
{
  if (m->uffd != NULL)
    uffd_close (m->uffd);
  free (m->frame);
  free (m->hash);
  free (m);
}

/* There is a map. */
static void
start (void *arg)
{
  struct farpage_map *m = arg;
  struct ev_loop *ev = loop_ev (m->loop);

  ev_io_init (&m->faults, on_faults, uffd_fd (m->uffd), EV_READ);
  ev_set_priority (&m->faults, EV_MAXPRI);
  ev_prepare_init (&m->turn, on_turn);
  ev_set_priority (&m->turn, EV_MINPRI); /* behind the link's */
  ev_idle_init (&m->soon, loop_go_on);
  ev_timer_init (&m->again, on_again, AGAIN_S, 0);
  ev_timer_init (&m->put_again, on_put_again, 0, 0);
  m->faults.data = m->turn.data = m->again.data = m->put_again.data = m;
  ev_io_start (ev, &m->faults);
  ev_prepare_start (ev, &m->turn);
}

/* how: the object, and what it says of itself. */
static int
make (const struct farpage_map *how, uint64_t budget_bytes,
      struct farpage_map **mapp)
{
  const uint64_t nr =
      (budget_bytes > 0 ? budget_bytes : MAP_BUDGET) / FARPAGE_PAGE;
  struct farpage_map *m;
  int err;

  if (nr < MAP_FRAMES_MIN || nr > MAP_FRAMES_MAX || how->nr_pages == 0)
    return EINVAL;
  if (loop_is_here (how->loop))
    return EDEADLK;
  m = malloc (sizeof *m);
  if (m == NULL)
    return ENOMEM;
  *m = *how;
  m->nr_frames = max_u64 (MAP_FRAMES_MIN, min_u64 (nr, m->nr_pages));
  m->low = m->nr_frames / 32;
  m->high = m->nr_frames / 8;
  err = m->ops->open (m);
  if (err) {
    free (m);
    return err;
  }
  err = make_frames (m);
  if (!err)
    err = uffd_open (m->nr_pages, &m->uffd);
  if (err) {
    m->ops->close (m);
    map_destroy (m);
    return err;
  }
  loop_call (m->loop, start, m);
  *mapp = m;
  return 0;
}

int
farpage_map (struct farpage_object *o, uint64_t budget_bytes,
             struct farpage_map **mapp)
{
  const struct farpage_map how = { .ops = &map_swap_object,
                                   .object = o,
                                   .owner = o->swap->owner,
                                   .link = o->swap->link,
                                   .loop = o->swap->loop,
                                   .nr_pages = o->nr_pages,
                                   .cluster = o->swap->cluster };
  struct farpage_link *was = pager_speak (how.owner);
  int err = make (&how, budget_bytes, mapp);

  pager_speak (was);
  return err;
}

int
farpage_map_file (struct farpage_file *f, uint64_t budget_bytes,
                  struct farpage_map **mapp)
{
  const uint64_t bytes = farpage_file_size (f);
  const struct farpage_map how = { .ops = &map_file_object,
                                   .file = f,
                                   .owner = f->owner,
                                   .link = f->link,
                                   .loop = f->loop,
                                   .nr_pages =
                                       (bytes + PAGE_MASK) >> PAGE_SHIFT,
                                   .cluster = FILE_IO_PAGES };
  struct farpage_link *was = pager_speak (how.owner);
  int err = make (&how, budget_bytes, mapp);

  pager_speak (was);
  return err;
}

void *
farpage_map_address (const struct farpage_map *m)
{
  return uffd_users (m->uffd);
}

/* ---- calls ---- */

static void
add_call (struct job *job)
{
  struct map_call *c = (struct map_call *) job;
  struct farpage_map *m = c->map;

  c->next = m->calls;
  m->calls = c;
  map_work (m);
}

/* Bytes to the pages that they touch. */
static int
pages_of (const struct farpage_map *m, uint64_t off, uint64_t len,
          struct map_call *c)
{
  const uint64_t bytes = m->nr_pages << PAGE_SHIFT;

  if (off > bytes || len > bytes - off)
    return EINVAL;
  c->first = off >> PAGE_SHIFT;
  c->end = (off + len + PAGE_MASK) >> PAGE_SHIFT;
  return 0;
}

static int
call (struct farpage_map *m, uint64_t off_bytes, uint64_t len_bytes,
      bool (*go) (struct map_call *c))
{
  struct map_call c = { .map = m, .go = go };
  int err = pages_of (m, off_bytes, len_bytes, &c);

  c.at = c.first;
  return err ? err : call_wait (m->loop, &c.call, add_call);
}

int
farpage_sync (struct farpage_map *m, uint64_t off_bytes, uint64_t len_bytes)
{
  int err = call (m, off_bytes, len_bytes, map_sync_go);

  return err ? err : m->ops->flush (m);
}

int
farpage_pin (struct farpage_map *m, uint64_t off_bytes, uint64_t len_bytes)
{
  return call (m, off_bytes, len_bytes, map_pin_go);
}

/* Of a call that is over at once. */
struct brief {
  struct farpage_map *map;
  pgno_t first, end;
  int advice;
  int error;
  struct farpage_map_stat *stat;
};

static void
unpin (void *arg)
{
  struct brief *b = arg;

  b->error = map_unpin (b->map, b->first, b->end);
}

int
farpage_unpin (struct farpage_map *m, uint64_t off_bytes, uint64_t len_bytes)
{
  struct map_call c;
  struct brief b = { .map = m };
  int err = pages_of (m, off_bytes, len_bytes, &c);

  if (err)
    return err;
  b.first = c.first;
  b.end = c.end;
  err = loop_call (m->loop, unpin, &b);
  return err ? err : b.error;
}

static void
advise (void *arg)
{
  struct brief *b = arg;
  struct farpage_map *m = b->map;

  switch (b->advice) {
  case FARPAGE_ADVICE_WILLNEED:
    map_ahead (m, b->first, 1, b->end - b->first, false);
    break;
  case FARPAGE_ADVICE_DONTNEED:
    map_hide_range (m, b->first, b->end);
    break;
  default:
    m->random = b->advice == FARPAGE_ADVICE_RANDOM;
    m->in_order = b->advice == FARPAGE_ADVICE_SEQUENTIAL;
  }
  map_work (m);
}

int
farpage_advise (struct farpage_map *m, uint64_t off_bytes, uint64_t len_bytes,
                enum farpage_advice advice)
{
  struct map_call c;
  struct brief b = { .map = m, .advice = (int) advice };
  int err = pages_of (m, off_bytes, len_bytes, &c);

  if (err || (unsigned) advice > FARPAGE_ADVICE_FREE)
    return EINVAL;
  if (advice == FARPAGE_ADVICE_FREE) {
    if (((off_bytes | len_bytes) & PAGE_MASK) != 0)
      return EINVAL;
    if (m->file != NULL)
      return EOPNOTSUPP;
    err = call (m, off_bytes, len_bytes, map_free_go);
    return err || len_bytes == 0
               ? err
               : farpage_freespace (m->object, c.first, c.end - c.first);
  }
  b.first = c.first;
  b.end = c.end;
  return loop_call (m->loop, advise, &b);
}

static void
look (void *arg)
{
  struct brief *b = arg;
  struct farpage_map *m = b->map;

  *b->stat = m->stat;
  b->stat->budget_bytes = m->nr_frames << PAGE_SHIFT;
  b->stat->resident_bytes = uffd_resident_bytes (m->uffd);
  b->stat->pages_mapped = m->list[FRAME_ACTIVE].nr;
  b->stat->pages_dirty = m->list[FRAME_DIRTY].nr + m->list[FRAME_WRITING].nr;
  b->stat->pages_pinned = m->nr_pinned;
}

int
farpage_map_stat (struct farpage_map *m, struct farpage_map_stat *stat,
                  size_t stat_bytes)
{
  struct farpage_map_stat all = { 0 };
  struct brief b = { .map = m, .stat = &all };
  int err;

  if (stat_bytes == 0)
    return EINVAL;
  if (loop_is_here (m->loop))
    look (&b);
  else if ((err = loop_call (m->loop, look, &b)) != 0)
    return err;
  memset (stat, 0, stat_bytes);
  memcpy (stat, &all, min_u64 (stat_bytes, sizeof all));
  return 0;
}

/* ---- closing ---- */

static void
close_start (struct job *job)
{
  struct map_call *c = (struct map_call *) job;
  struct farpage_map *m = c->map;

  if (m->nr_pinned > 0 || m->calls != NULL || m->closer != NULL) {
    c->error = EBUSY;
    call_done (&c->call, EBUSY);
    return;
  }
  uffd_forbid (m->uffd);
  m->nr_waiting = m->nr_touched = 0;
  ev_io_stop (loop_ev (m->loop), &m->faults);
  m->closer = c;
  m->put_failed = false;
  map_work (m);
}

int
farpage_unmap (struct farpage_map *m)
{
  struct map_call c = { .map = m, .end = m->nr_pages };
  int err = call_wait (m->loop, &c.call, close_start), last;

  if (err == EBUSY || err == EDEADLK)
    return err;
  if (!err)
    err = m->ops->flush (m);
  last = m->ops->close (m);
  map_destroy (m);
  return err ? err : last;
}
