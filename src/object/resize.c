/* SPDX-License-Identifier: BSD-2-Clause */
/* Another size for an object; called by the store, which sees to it that nobody
 * is on the object where that is asked for.
 *
 *   larger:   promises and nodes are had -- alone: levels, nr_pages, size
 *
 *   smaller:  alone: size        0 ......... size ........ nr_pages
 *             free_tail               kept     |    tail    |
 *             alone: end_cut     0 ......... size = nr_pages
 *
 * New pages are holes.  Whoever comes to a page behind the end has none: the
 * store checks requests against an end that is not behind the object's.  So a
 * tail only shrinks, as a dead object's map does (object.c, I1).
 *
 * I1. Bytes behind the end in the last page are zeros, unless there is a tail:
 *     a write that covers a part of a page leaves the rest, and a page that was
 *     made by one was zeros before; object_end_cut () zeroes those of a page
 *     that becomes the last.
 * I2. Nodes behind the end of a reserved object leave its map with the tail,
 * and each takes a promise with it; what the rest may need is promised anew in
 *     object_end_cut (), from what the tail's pages had.
 *
 * Locks stay as many as the object was made with: their number follows the size
 * when it is opened the next time.
 */

#include <config.h>

#include "object.h"

#include <errno.h>

#include "request.h"

bool
object_is_cut (const struct object *o)
{
  return o->cut;
}

/* ---- larger ---- */

/* Blocks for so many new levels, for which there are charges. */
static int
get_blocks (struct object *o, struct map_change *mc, unsigned nr)
{
  while (mc->nr_blks < nr) {
    struct space_run run;
    int err = space_alloc (o->space, SPACE_HINT_META, nr - mc->nr_blks, &run);

    if (err)
      return err;
    for (uint64_t i = 0; i < run.nr; i++)
      mc->blks[mc->nr_blks++] = run.blk + i;
  }
  return 0;
}

void
object_grow_end (struct object *o, struct growth *g)
{
  for (unsigned i = 0; i < g->mc.nr_blks; i++) {
    struct space_run run = { g->mc.blks[i], 1 };

    space_free (o->space, SPACE_HINT_META, &run, 1);
  }
  space_uncharge (o->space, g->nr_charges);
  g->mc.nr_blks = 0;
  g->nr_charges = 0;
}

int
object_grow_begin (struct object *o, uint64_t size_bytes, struct growth *g)
{
  const pgno_t nr_pages = bytes_to_pages (size_bytes);
  unsigned nr_levels, none;
  uint64_t nr_nodes = o->ops->nodes_left (o->map, nr_pages, &nr_levels);
  int err;

  g->size_bytes = size_bytes;
  g->mc.nr_blks = 0;
  g->nr_charges = nr_levels;
  if (o->reserved)
    g->nr_charges = nr_pages - o->nr_pages + nr_nodes -
                    o->ops->nodes_left (o->map, o->nr_pages, &none);
  err = space_charge_wait (o->space, g->nr_charges,
                           env_now_ns () + CHARGE_WAIT_NS);
  if (err)
    return err;
  err = get_blocks (o, &g->mc, nr_levels);
  if (err)
    object_grow_end (o, g);
  return err;
}

int
object_grow (struct object *o, struct growth *g)
{
  const pgno_t nr_pages = bytes_to_pages (g->size_bytes);
  const unsigned nr_levels = g->mc.nr_blks;
  int err = o->ops->resize (o->map, &g->mc, nr_pages);

  if (err)
    return err;
  if (o->reserved)
    atomic_fetch_add (&o->nr_node_charges,
                      g->nr_charges - nr_levels - (nr_pages - o->nr_pages));
  g->nr_charges = 0;
  o->nr_pages = nr_pages;
  o->size_bytes = g->size_bytes;
  return 0;
}

/* ---- smaller ---- */

void
object_cut (struct object *o, uint64_t size_bytes)
{
  o->size_bytes = size_bytes;
  o->cut = true;
}

int
object_free_tail (struct object *o)
{
  int err;

  space_drop_begin (o->space);
  err = object_drop_from (o, bytes_to_pages (o->size_bytes));
  space_drain (o->space);
  space_drop_done (o->space);
  return err;
}

/* What is behind the end in the last page.  Alone: a write up to the end would
 * have the rest of its last sector left out (request_mark_older ()).
 */
static int
zero_edge (struct object *o)
{
  static const atomic_bool never;
  uint64_t end = o->size_bytes;

  if ((end & PAGE_MASK) == 0)
    return 0;
  return strategy_zero (o, &never, end, PAGE_BYTES - (end & PAGE_MASK), false,
                        false);
}

int
object_end_cut (struct object *o, uint64_t *nr_charges)
{
  const pgno_t nr_pages = bytes_to_pages (o->size_bytes);
  struct map_change mc = { .nr_blks = 0 };
  uint64_t had, needed;
  unsigned nr_levels;
  int err = zero_edge (o);

  if (err)
    return err;
  had = o->nr_pages - nr_pages + o->nr_node_charges;
  needed = o->ops->nodes_left (o->map, nr_pages, &nr_levels);
  if (o->reserved && needed > had) { /* I2: the inner nodes above went too */
    err = space_charge (o->space, needed - had);
    if (err)
      return err;
    had = needed;
  }
  err = o->ops->resize (o->map, &mc, nr_pages);
  if (err)
    return err;
  *nr_charges = o->reserved ? had - needed : 0;
  o->nr_node_charges = o->reserved ? needed : 0;
  o->nr_pages = nr_pages;
  o->cut = false;
  return 0;
}
