/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a virtual disk; see object.h.
 *
 *   created --(object_kill)--> dead --(object_drop)--> empty --> destroyed
 *      '----- a durable one, when its store is closed ------------^
 *
 * I1. A dead object's map only shrinks: whoever publishes looks at the flag
 *     under the shard's lock, and object_kill locks each in turn once the flag
 *     is up.  So one walk over the shards, which takes no lock to find its
 *     way, empties the map, though requests are still under way.
 * I2. charges = nr_pages and nr_node_charges if reserved, else nr_mapped +
 *     nr_zero; a dead object has none of pages once it is dropped.  Nodes of
 *     its map have one each, which is theirs (parked.h).  nr_pages are those of
 *     its size, and of its tail if it has one (resize.c).
 * I3. nr_mapped and nr_zero change inside the bracket of the change that they
 *     count, so at a cut they are what the map is.
 */

#include <config.h>

#include "object.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

/* Locks for an object of so many pages: one a shard, rounded up to a power of
 * two, SHARDS_MAX at most.
 */
static unsigned
nr_locks (pgno_t nr_pages)
{
  unsigned nr = 1;

  while (nr < SHARDS_MAX && (uint64_t) nr * SHARD_PAGES < nr_pages)
    nr *= 2;
  return nr;
}

/* A reserved object's promises: its pages and its tail's, and *nr_nodes that
 * its durable map may still need.  Of one with a tail some nodes' promises may
 * have gone to others, and the tail's come back soon (resize.c, I2).
 */
static int
charge (const struct object_config *config, pgno_t nr_pages, uint64_t *nr_nodes)
{
  uint64_t deadline_ns = env_now_ns () + CHARGE_WAIT_NS;
  unsigned nr_levels;
  int err;

  *nr_nodes = 0;
  if (!config->reserved)
    return 0;
  if (config->map != NULL)
    *nr_nodes = config->ops->nodes_left (
        config->map, bytes_to_pages (config->size_bytes), &nr_levels);
  err = space_charge_wait (config->space, nr_pages + *nr_nodes, deadline_ns);
  if (err != ENOSPC || config->old_bytes == 0)
    return err;
  *nr_nodes = 0;
  return space_charge_wait (config->space, nr_pages, deadline_ns);
}

int
object_create (const struct object_config *config, struct object **op)
{
  pgno_t nr_pages =
      bytes_to_pages (max_u64 (config->size_bytes, config->old_bytes));
  uint64_t nr_nodes;
  unsigned nr_shards = nr_locks (nr_pages);
  size_t bytes = sizeof (struct object) + nr_shards * sizeof (struct shard);
  struct object *o;
  int err;

  assert ((config->fl == NULL) == (config->map == NULL));
  assert (config->size_bytes > 0);
  err = charge (config, nr_pages, &nr_nodes);
  if (err)
    return err;
  o = aligned_alloc (64, bytes);
  if (o == NULL) {
    err = ENOMEM;
    goto uncharge;
  }
  memset (o, 0, bytes);
  o->ops = config->ops;
  o->map = config->map;
  if (o->map == NULL) {
    o->ops = &map_memory_ops;
    err = map_memory_create (config->zone, nr_pages, config->prepared, &o->map);
  }
  if (err)
    goto fail;
  atomic_init (&o->size_bytes, config->size_bytes);
  atomic_init (&o->nr_pages, nr_pages);
  o->cut = config->old_bytes != 0;
  o->reserved = config->reserved;
  o->space = config->space;
  o->pool = config->pool;
  o->nr_shards = nr_shards;
  o->name = config->name;
  o->cached = config->cached;
  o->bs = config->bs;
  o->fl = config->fl;
  o->pk = config->pk;
  o->staged = config->staged;
  o->strict = config->strict;
  atomic_init (&o->nr_mapped, config->nr_mapped);
  atomic_init (&o->nr_zero, config->nr_zero);
  atomic_init (&o->nr_node_charges, nr_nodes);
  env_random (&o->hint, sizeof o->hint);
  for (unsigned i = 0; i < nr_shards; i++)
    lock_init (&o->shards[i].lock, LOCK_SHARD, "shard");
  *op = o;
  return 0;

fail:
  free (o);
uncharge:
  if (config->reserved)
    space_uncharge (config->space, nr_pages + nr_nodes);
  return err;
}

void
object_kill (struct object *o)
{
  atomic_store (&o->dead, true);
  object_fence (o);
}

bool
object_is_dead (const struct object *o)
{
  return atomic_load (&o->dead);
}

/* The pages of one shard, from this one on. */
static int
drop_shard (struct object *o, pgno_t first)
{
  uint64_t nr =
      min_u64 (SHARD_PAGES - first % SHARD_PAGES, o->nr_pages - first);
  struct map_change mc = { .nr_blks = 0 };
  struct freed freed;
  int err;

  freed_init (&freed, o, first, &mc);
  err = freed_enter (&freed);
  if (err)
    return err;
  err = freed_prepare (&freed, first, nr, false);
  if (err == 0)
    err = o->ops->free (o->map, &mc, first, nr, freed_removed, &freed);
  freed_leave (&freed);
  freed_give_back (&freed, first);
  return err;
}

int
object_drop_from (struct object *o, pgno_t pgno)
{
  int err = 0;

  for (uint64_t nr = pgno / SHARD_PAGES; err == 0; nr++) {
    pgno_t first;

    nr = o->ops->next_shard (o->map, nr);
    if (nr == UINT64_MAX)
      break;
    first = max_u64 (pgno, nr * SHARD_PAGES);
    if (first >= o->nr_pages)
      break;
    err = atomic_load (&o->drop_stop) ? EINTR : drop_shard (o, first);
  }
  return err;
}

void
object_drop_stop (struct object *o)
{
  atomic_store (&o->drop_stop, true);
}

void
object_set_pool (struct object *o, struct vpool *pool)
{
  o->pool = pool;
}

int
object_drop (struct object *o)
{
  int err;

  assert (object_is_dead (o));
  if (o->dropped)
    return 0;
  space_drop_begin (o->space);
  err = object_drop_from (o, 0);
  if (err == 0) {
    if (o->reserved)
      space_uncharge (o->space, o->nr_pages);
    o->dropped = true;
  }
  space_drain (o->space); /* so that sparse volumes get their windows back */
  space_drop_done (o->space);
  return err;
}

void
object_destroy (struct object *o)
{
  if (o == NULL)
    return;
  if (!object_is_durable (o)) {
    object_kill (o);
    (void) object_drop (o); /* a map in memory is always readable */
  }
  if (o->dropped)
    space_uncharge (o->space, atomic_load (&o->nr_node_charges));
  for (unsigned i = 0; i < o->nr_shards; i++) {
    assert (o->shards[i].first == NULL && o->shards[i].pins == NULL);
    lock_destroy (&o->shards[i].lock);
  }
  o->ops->destroy (o->map);
  free (o);
}

uint64_t
object_size_bytes (const struct object *o)
{
  return o->size_bytes;
}

bool
object_is_reserved (const struct object *o)
{
  return o->reserved;
}

uint64_t
object_nr_mapped (const struct object *o)
{
  return atomic_load (&o->nr_mapped);
}

uint64_t
object_nr_zero (const struct object *o)
{
  return atomic_load (&o->nr_zero);
}

uint64_t
object_nr_reserved (const struct object *o)
{
  uint64_t nr_mapped = object_nr_mapped (o);

  if (!o->reserved)
    return atomic_load (&o->nr_zero);
  return nr_mapped < o->nr_pages ? o->nr_pages - nr_mapped : 0;
}

void
object_fence (struct object *o)
{
  for (unsigned i = 0; i < o->nr_shards; i++) {
    lock_acquire (&o->shards[i].lock);
    lock_release (&o->shards[i].lock);
  }
}

const char object_unread[] = "object: its map cannot be read";

const char *
object_check (struct object *o)
{
  uint64_t nr_mapped = 0, nr_zero = 0;

  for (pgno_t pgno = 0; pgno < o->nr_pages;) {
    uint64_t next = o->ops->next_shard (o->map, pgno / SHARD_PAGES);
    struct swmeta_run run;

    if (next == UINT64_MAX)
      break;
    pgno = max_u64 (pgno, next * SHARD_PAGES);
    if (o->ops->lookup (o->map, pgno, o->nr_pages - pgno, &run, NULL) != 0)
      return object_unread;
    if (swmeta_kind (run.word) == SWMETA_BLOCK)
      nr_mapped += run.nr_pages;
    else if (swmeta_kind (run.word) == SWMETA_ZERO)
      nr_zero += run.nr_pages;
    pgno += run.nr_pages;
  }
  if (nr_mapped != atomic_load (&o->nr_mapped))
    return "object: its count of mapped pages is wrong";
  if (nr_zero != atomic_load (&o->nr_zero))
    return "object: its count of reserved pages is wrong";
  for (unsigned i = 0; i < o->nr_shards; i++)
    if (o->shards[i].first != NULL || o->shards[i].pins != NULL)
      return "object: a request is left behind";
  return NULL;
}
