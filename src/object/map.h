/* SPDX-License-Identifier: BSD-2-Clause */
/* The page map of an object as strategy sees it: a table of functions.
 *
 * Each may block, and fail with EIO or ENOMEM, having changed nothing: behind
 * the table may lie memory (swmeta, in map.c) or nodes on a medium.  Callers
 * hold the lock of the shard that the pages are in, and pages of one call lie
 * in one shard.
 */

#ifndef FARPAGE_MAP_H
#define FARPAGE_MAP_H

#include "flush.h"
#include "swmeta.h"
#include "types.h"

/* What a change of a durable map needs while it is made: credit with the
 * flusher, and blocks for nodes that are not there yet.  A memory map needs
 * none of it.
 */
#define MAP_NODES_MAX 16u
struct map_change {
  struct change change;
  unsigned nr_blks; /* charged; that stands for them, they need no units */
  uint64_t blks[MAP_NODES_MAX];
};

struct map_ops {
  /* Around each change, from before the shard's lock is taken until after it
   * is released.  EIO: the store has failed.  Lock: none held.  Blocks: yes.
   */
  int (*begin) (void *map, struct map_change *mc);
  void (*end) (void *map, struct map_change *mc);

  /* Before build (or, with build false, free and pop) of these pages: load
   * what it will change, so that it cannot fail.  *nr_missing: nodes that
   * mc->blks must have blocks for; if it has fewer, nothing is to be changed.
   */
  int (*prepare) (void *map, pgno_t pgno, uint64_t nr, bool build,
                  unsigned *nr_missing);

  /* The longest run from pgno on, at most max pages; ents, if not NULL,
   * receives its entries (nothing for a hole).
   */
  int (*lookup) (void *map, pgno_t pgno, uint64_t max, struct swmeta_run *run,
                 struct swent *ents);

  /* Enter nr entries, none of them absent; what they displace is handed to
   * fn in runs.
   */
  int (*build) (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
                const struct swent *ents, swmeta_run_fn fn, void *arg);

  /* Remove the entries of nr pages; what they named is handed to fn. */
  int (*free) (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
               swmeta_run_fn fn, void *arg);

  /* Remove one entry and hand it out (zeros if there was none). */
  int (*pop) (void *map, struct map_change *mc, pgno_t pgno, struct swent *ent);

  /* The first shard from this one on that may have entries, or UINT64_MAX.
   * Lock: none needed.
   */
  uint64_t (*next_shard) (void *map, uint64_t shard);

  /* How many nodes it may still come to need if it has so many pages;
   * *nr_levels of them must be in mc->blks for resize to that size.  Exact if
   * nobody else is on the map.
   */
  uint64_t (*nodes_left) (void *map, pgno_t nr_pages, unsigned *nr_levels);

  /* It has so many pages from now on; those that it loses have no entries.
   * Errors: nothing has changed.  Lock: none held; nobody else is on the map.
   * Blocks: yes.
   */
  int (*resize) (void *map, struct map_change *mc, pgno_t nr_pages);

  /* Frees the map's memory; its entries are gone already. */
  void (*destroy) (void *map);
};

/* A map in memory, from the zone.  reserve: all memory it can need is made
 * now, and its calls cannot fail.
 */
extern const struct map_ops map_memory_ops;
extern int map_memory_create (struct swzone *zone, pgno_t nr_pages,
                              bool reserve, void **mapp);

#endif /* FARPAGE_MAP_H */
