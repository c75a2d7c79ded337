/* SPDX-License-Identifier: BSD-2-Clause */
/* The block map, cached; file-map.h has the picture.  Called by the file pager
 * with the file's lock held; calls nobody, and needs no memory.
 *
 * A range is set by cutting it out of what there is and putting it in, joined
 * with neighbours of its kind.  When there is no room for one more, all is
 * forgotten but that: who reads in order asks about the next window anyway.
 *
 * Not done: to keep what is far from where anybody reads.  Data are kept, for
 * to ask about them again costs a round trip.
 */

#include <config.h>

#include "file-map.h"

#include <string.h>

/* The first extent that ends behind off. */
static unsigned
find (const struct file_map *m, uint64_t off)
{
  unsigned lo = 0, hi = m->nr;

  while (lo < hi) {
    unsigned mid = lo + (hi - lo) / 2;

    if (m->extent[mid].end <= off)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static void
insert (struct file_map *m, unsigned at, const struct file_extent *e)
{
  memmove (&m->extent[at + 1], &m->extent[at],
           (m->nr - at) * sizeof m->extent[0]);
  m->extent[at] = *e;
  m->nr++;
}

static void
erase (struct file_map *m, unsigned at, unsigned nr)
{
  memmove (&m->extent[at], &m->extent[at + nr],
           (m->nr - at - nr) * sizeof m->extent[0]);
  m->nr -= nr;
}

/* Nothing is known of [off, end), of which at most one extent is cut in two. */
static void
cut (struct file_map *m, uint64_t off, uint64_t end)
{
  unsigned i = find (m, off), last;

  if (i < m->nr && m->extent[i].off < off) {
    struct file_extent rest = { end, m->extent[i].end, m->extent[i].kind };

    m->extent[i].end = off;
    i++;
    if (rest.off < rest.end) {
      insert (m, i, &rest);
      return;
    }
  }
  for (last = i; last < m->nr && m->extent[last].end <= end; last++)
    ;
  erase (m, i, last - i);
  if (i < m->nr && m->extent[i].off < end)
    m->extent[i].off = end;
}

static void
set (struct file_map *m, struct file_extent e)
{
  unsigned i;

  if (e.off >= e.end)
    return;
  if (m->nr + 2 > FILE_MAP_EXTENTS)
    m->nr = 0;
  cut (m, e.off, e.end);
  if (e.kind == FILE_MAP_UNKNOWN)
    return;
  i = find (m, e.off);
  if (i < m->nr && m->extent[i].off == e.end && m->extent[i].kind == e.kind) {
    e.end = m->extent[i].end;
    erase (m, i, 1);
  }
  if (i > 0 && m->extent[i - 1].end == e.off && m->extent[i - 1].kind == e.kind)
    m->extent[i - 1].end = e.end;
  else
    insert (m, i, &e);
}

static void
spoil (struct file_map *m, uint64_t off, uint64_t end)
{
  for (unsigned i = 0; i < FILE_MAP_ASKED; i++)
    m->ask[i].spoiled |= m->ask[i].off < end && off < m->ask[i].end;
}

void
file_map_init (struct file_map *m)
{
  m->nr = 0;
  memset (m->ask, 0, sizeof m->ask);
}

void
file_map_forget (struct file_map *m)
{
  m->nr = 0;
  spoil (m, 0, UINT64_MAX);
}

enum file_map_kind
file_map_look (const struct file_map *m, uint64_t off, uint64_t *end)
{
  unsigned i = find (m, off);

  *end = i < m->nr ? m->extent[i].off : UINT64_MAX;
  if (i == m->nr || m->extent[i].off > off)
    return FILE_MAP_UNKNOWN;
  *end = m->extent[i].end;
  return m->extent[i].kind;
}

enum file_map_kind
file_map_around (const struct file_map *m, uint64_t off, uint64_t *begin,
                 uint64_t *end)
{
  unsigned i = find (m, off);

  if (i < m->nr && m->extent[i].off <= off) {
    *begin = m->extent[i].off;
    *end = m->extent[i].end;
    return m->extent[i].kind;
  }
  *begin = i > 0 ? m->extent[i - 1].end : 0;
  *end = i < m->nr ? m->extent[i].off : UINT64_MAX;
  return FILE_MAP_UNKNOWN;
}

struct file_map_ask *
file_map_ask (struct file_map *m, uint64_t off, uint64_t end)
{
  for (unsigned i = 0; off < end && i < FILE_MAP_ASKED; i++)
    if (m->ask[i].off == m->ask[i].end) {
      m->ask[i] = (struct file_map_ask){ off, end, false };
      return &m->ask[i];
    }
  return NULL;
}

void
file_map_answer (struct file_map *m, struct file_map_ask *ask,
                 const struct file_extent *extents, unsigned nr)
{
  for (unsigned i = 0; !ask->spoiled && i < nr; i++) {
    struct file_extent e = extents[i];

    e.off = max_u64 (e.off, ask->off);
    e.end = min_u64 (e.end, ask->end);
    set (m, e);
  }
  *ask = (struct file_map_ask){ 0, 0, false };
}

void
file_map_written (struct file_map *m, uint64_t off, uint64_t end)
{
  spoil (m, off, end);
  set (m, (struct file_extent){ off, end, FILE_MAP_DATA });
}

void
file_map_changed (struct file_map *m, uint64_t off, uint64_t end)
{
  spoil (m, off, end);
  set (m, (struct file_extent){ off, end, FILE_MAP_UNKNOWN });
}

const char *
file_map_check (const struct file_map *m)
{
  const struct file_extent *e = m->extent;

  if (m->nr > FILE_MAP_EXTENTS)
    return "more extents than there is room for";
  for (unsigned i = 0; i < m->nr; i++) {
    if (e[i].off >= e[i].end || e[i].kind == FILE_MAP_UNKNOWN)
      return "an extent that says nothing";
    if (i > 0 && e[i - 1].end > e[i].off)
      return "extents out of order";
    if (i > 0 && e[i - 1].end == e[i].off && e[i - 1].kind == e[i].kind)
      return "two extents that are one";
  }
  return NULL;
}
