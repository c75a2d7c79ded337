/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: which pages are in memory.  Called by the other map files; calls
 * uffd.c for their memory.  map.h has the picture.
 *
 * M1 Each frame is in the list of its state; a page has at most one, which the
 *    hash finds unless it is FREE.
 * M2 A page that has no frame has no memory: the memfd never holds more pages
 *    than there are frames.
 * M3 Only an ACTIVE page can be touched without a fault; not each one can: the
 *    kernel unmaps pages, too.
 * M4 What is dirty, or WRITING, is never dropped; a CLEAN, READY or FILLING
 *    page is as the object has it, or both have none: zeros.
 * M5 A frame has a put exactly while that put is under way for its page;
 *    WRITING ones have, and of the others only ACTIVE and DIRTY may.
 * M6 Pinned ones are ACTIVE.
 */

#include <config.h>

#include "map.h"

static struct frame **
head_of (const struct farpage_map *m, pgno_t page)
{
  return &m->hash[(page * UINT64_C (0x9e3779b97f4a7c15) >> 20) &
                  (m->nr_hash - 1)];
}

struct frame *
frame_find (struct farpage_map *m, pgno_t page)
{
  struct frame *f = *head_of (m, page);

  while (f != NULL && f->page != page)
    f = f->chain;
  return f;
}

static void
append (struct frame_list *list, struct frame *f)
{
  f->next = NULL;
  f->prev = list->last;
  if (list->last != NULL)
    list->last->next = f;
  else
    list->first = f;
  list->last = f;
  list->nr++;
}

void
frames_init (struct farpage_map *m)
{
  for (uint64_t i = 0; i < m->nr_frames; i++)
    append (&m->list[FRAME_FREE], &m->frame[i]);
}

void
frame_move (struct farpage_map *m, struct frame *f, enum frame_state state)
{
  struct frame_list *list = &m->list[f->state];

  if (f->prev != NULL)
    f->prev->next = f->next;
  else
    list->first = f->next;
  if (f->next != NULL)
    f->next->prev = f->prev;
  else
    list->last = f->prev;
  list->nr--;
  f->state = state;
  append (&m->list[state], f);
}

/* The next FREE one is page's. */
static void
begin (struct farpage_map *m, pgno_t page)
{
  struct frame *f = m->list[FRAME_FREE].first;
  struct frame **head = head_of (m, page);

  frame_move (m, f, FRAME_FILLING);
  *f = (struct frame){ .page = page,
                       .prev = f->prev,
                       .next = f->next,
                       .chain = *head,
                       .state = FRAME_FILLING };
  *head = f;
}

unsigned
frame_take (struct farpage_map *m, pgno_t first, unsigned nr)
{
  nr = (unsigned) min_u64 (nr, m->list[FRAME_FREE].nr);
  if (nr == 0)
    return 0;
  if (uffd_make (m->uffd, first, nr) != 0) {
    uffd_drop (m->uffd, first, nr); /* it may have made some */
    map_work_later (m);
    return 0;
  }
  for (unsigned i = 0; i < nr; i++)
    begin (m, first + i);
  return nr;
}

void
frame_not_ahead (struct farpage_map *m, struct frame *f)
{
  if (f->ahead)
    m->nr_ahead--;
  f->ahead = false;
}

static void
forget (struct farpage_map *m, struct frame *f)
{
  struct frame **p = head_of (m, f->page);

  while (*p != f)
    p = &(*p)->chain;
  *p = f->chain;
  frame_not_ahead (m, f);
  frame_move (m, f, FRAME_FREE);
}

void
frame_free (struct farpage_map *m, struct frame *f, unsigned nr)
{
  const pgno_t first = f->page;

  uffd_drop (m->uffd, first, nr);
  forget (m, f);
  for (unsigned i = 1; i < nr; i++)
    forget (m, frame_find (m, first + i));
}

/* ---- recounting ---- */

static const char *
check_frame (struct farpage_map *m, const struct frame *f)
{
  const bool may_put = f->state == FRAME_ACTIVE || f->state == FRAME_WRITING ||
                       f->state == FRAME_DIRTY;

  if (f->state == FRAME_FREE)
    return NULL;
  if (f->page >= m->nr_pages || frame_find (m, f->page) != f)
    return "a frame is not found by its page";
  if (f->put != 0 && !may_put)
    return "a frame has a put that cannot have one";
  if (f->state == FRAME_WRITING && f->put == 0)
    return "a frame is WRITING without a put";
  if (f->pins > 0 && f->state != FRAME_ACTIVE)
    return "a pinned frame is not ACTIVE";
  if (f->ahead && f->state != FRAME_FILLING && f->state != FRAME_READY)
    return "a frame that was touched is a guess";
  if (f->dirty && f->state != FRAME_ACTIVE && f->state != FRAME_DIRTY)
    return "a dirty frame may be dropped";
  if (f->state == FRAME_DIRTY && !f->dirty)
    return "a frame is DIRTY and not dirty";
  return NULL;
}

static const char *
check_counts (struct farpage_map *m)
{
  uint64_t nr = 0, pages = 0, ahead = 0, puts = 0, left = 0, having = 0;

  for (unsigned s = 0; s < FRAME_STATES; s++) {
    uint64_t n = 0;

    for (const struct frame *f = m->list[s].first; f != NULL; f = f->next, n++)
      if (f->state != s)
        return "a frame is in the list of another state";
    if (n != m->list[s].nr)
      return "a list's count is wrong";
    nr += n;
  }
  for (uint64_t i = 0; i < m->nr_frames; i++) {
    ahead += m->frame[i].ahead;
    having += m->frame[i].state != FRAME_FREE && m->frame[i].put != 0;
  }
  for (unsigned i = 0; i < MAP_PUTS; i++) {
    puts += m->put[i].serial != 0;
    pages += m->put[i].serial != 0 ? m->put[i].nr : 0;
    left += m->put[i].serial != 0 ? m->put[i].left : 0;
  }
  if (nr != m->nr_frames)
    return "a frame is in no list";
  if (ahead != m->nr_ahead)
    return "guesses are counted wrong";
  if (puts != m->nr_puts || pages != m->put_pages || left != having)
    return "puts are counted wrong";
  if (uffd_resident_bytes (m->uffd) > (m->nr_frames - m->list[FRAME_FREE].nr)
                                          << PAGE_SHIFT)
    return "there is memory without a frame";
  return NULL;
}

const char *
map_check (struct farpage_map *m)
{
  const char *wrong = check_counts (m);

  for (uint64_t i = 0; i < m->nr_frames && wrong == NULL; i++)
    wrong = check_frame (m, &m->frame[i]);
  return wrong;
}
