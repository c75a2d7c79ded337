/* SPDX-License-Identifier: BSD-2-Clause */
/* A map of a swap object: how its pages come and go.  Called by the other map
 * files; calls swap-get.c and, by way of the inbox, swap-put.c.
 */

#include <config.h>

#include "map.h"

#include <errno.h>

#include "cluster.h"

static void
got (void *arg, uint64_t page, enum farpage_result result)
{
  map_got (arg, page, result);
}

static int
swap_get (struct farpage_map *m, pgno_t first, unsigned count, bool ahead)
{
  const struct op how = { .object = m->object,
                          .go = get_go,
                          .first = first,
                          .count = count,
                          .flags = ahead ? FARPAGE_AHEAD : 0,
                          .fn = got,
                          .arg = m };
  void *addr[MAP_GET_PAGES];

  for (unsigned i = 0; i < count; i++)
    addr[i] = uffd_own (m->uffd, first + i);
  return pager_begin (&how, addr);
}

static void
swap_hurry (struct farpage_map *m, pgno_t page)
{
  const uint64_t word = swap_object_word (m->object, page);

  if (swmeta_kind (word) == SWMETA_BLOCK)
    link_hurry_at (m->link, swmeta_blkno (word) << PAGE_SHIFT);
}

static void
put (void *arg, uint64_t page, enum farpage_result result)
{
  map_put_done (arg, page, result);
}

static int
swap_put (struct farpage_map *m, struct map_put *p, bool sync)
{
  const struct op how = { .object = m->object,
                          .go = put_go,
                          .first = p->first,
                          .count = p->nr,
                          .flags = sync ? FARPAGE_SYNC : 0,
                          .fn = put,
                          .arg = p };
  void *addr[FARPAGE_CLUSTER_MAX];

  for (unsigned i = 0; i < p->nr; i++)
    addr[i] = uffd_own (m->uffd, p->first + i);
  return pager_post (&how, addr, false);
}

static unsigned
swap_row (struct farpage_map *m, pgno_t first, unsigned count)
{
  uint64_t from, nr;

  /* a page that is reserved, or being put, is a row of itself */
  if (swap_object_word (m->object, first) == 0)
    return 0;
  return cluster_around (m->object->map, first, count, first, count, &from, &nr)
             ? (unsigned) nr
             : 1;
}

struct claim {
  struct farpage_object *object;
  bool on, was;
};

static void
set_mapped (void *arg)
{
  struct claim *c = arg;

  c->was = c->object->mapped;
  c->object->mapped = c->on;
}

static int
swap_open_map (struct farpage_map *m)
{
  struct claim c = { .object = m->object, .on = true };
  int err = loop_call (m->loop, set_mapped, &c);

  if (err || c.was)
    return err ? err : EBUSY;
  farpage_reference (m->object);
  return 0;
}

/* Each put that is OK is. */
static int
swap_flush (struct farpage_map *m)
{
  (void) m;
  return 0;
}

static int
swap_close_map (struct farpage_map *m)
{
  struct claim c = { .object = m->object };

  loop_call (m->loop, set_mapped, &c);
  return farpage_dealloc (m->object);
}

const struct map_object map_swap_object = { .get = swap_get,
                                            .hurry = swap_hurry,
                                            .put = swap_put,
                                            .row = swap_row,
                                            .open = swap_open_map,
                                            .flush = swap_flush,
                                            .close = swap_close_map };
