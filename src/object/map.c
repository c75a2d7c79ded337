/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory map: swmeta behind the table of map.h, and nothing more.  Its
 * changes need neither credit nor blocks.
 */

#include <config.h>

#include "map.h"

static int
memory_begin (void *map, struct map_change *mc)
{
  (void) map;
  (void) mc;
  return 0;
}

static void
memory_end (void *map, struct map_change *mc)
{
  (void) map;
  (void) mc;
}

static int
memory_prepare (void *map, pgno_t pgno, uint64_t nr, bool build,
                unsigned *nr_missing)
{
  (void) map;
  (void) pgno;
  (void) nr;
  (void) build;
  *nr_missing = 0;
  return 0;
}

static int
memory_lookup (void *map, pgno_t pgno, uint64_t max, struct swmeta_run *run,
               struct swent *ents)
{
  swmeta_lookup (map, pgno, max, run);
  if (ents != NULL && run->word != 0)
    swmeta_get (map, pgno, run->nr_pages, ents);
  return 0;
}

static int
memory_build (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
              const struct swent *ents, swmeta_run_fn fn, void *arg)
{
  (void) mc;
  return swmeta_build (map, pgno, nr, ents, fn, arg);
}

static int
memory_free (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
             swmeta_run_fn fn, void *arg)
{
  (void) mc;
  swmeta_free (map, pgno, nr, fn, arg);
  return 0;
}

static int
memory_pop (void *map, struct map_change *mc, pgno_t pgno, struct swent *ent)
{
  (void) mc;
  swmeta_pop (map, pgno, ent);
  return 0;
}

static uint64_t
memory_next_shard (void *map, uint64_t shard)
{
  return swmeta_next_shard (map, shard);
}

static uint64_t
memory_nodes_left (void *map, pgno_t nr_pages, unsigned *nr_levels)
{
  (void) map;
  (void) nr_pages;
  *nr_levels = 0;
  return 0;
}

static int
memory_resize (void *map, struct map_change *mc, pgno_t nr_pages)
{
  (void) mc;
  return swmeta_resize (map, nr_pages);
}

static void
memory_destroy (void *map)
{
  swmeta_destroy (map);
}

const struct map_ops map_memory_ops = {
  .begin = memory_begin,
  .end = memory_end,
  .prepare = memory_prepare,
  .lookup = memory_lookup,
  .build = memory_build,
  .free = memory_free,
  .pop = memory_pop,
  .next_shard = memory_next_shard,
  .nodes_left = memory_nodes_left,
  .resize = memory_resize,
  .destroy = memory_destroy,
};

int
map_memory_create (struct swzone *zone, pgno_t nr_pages, bool reserve,
                   void **mapp)
{
  struct swmeta *map;
  int err = swmeta_create (zone, nr_pages, &map);

  if (err)
    return err;
  if (reserve)
    err = swmeta_reserve (map);
  if (err) {
    swmeta_destroy (map);
    return err;
  }
  *mapp = map;
  return 0;
}
