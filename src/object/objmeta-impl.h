/* SPDX-License-Identifier: BSD-2-Clause */
/* What objmeta.c and objmeta-redo.c share; nobody else includes it. */

#ifndef FARPAGE_OBJMETA_IMPL_H
#define FARPAGE_OBJMETA_IMPL_H

#include "objmeta.h"
#include "tree.h"

#define SHARD_LEAVES (SHARD_PAGES / DISK_MAP_PAGES)
_Static_assert(SHARD_LEAVES == 2, "a change has two parts");

struct objmeta {
  struct tree tree;
  struct freemap *fm; /* [const] */
  struct parked *pk;  /* [const] once in use */
  pgno_t nr_pages;    /* changed by resize, alone on the map */
  bool root_changed;  /* [tree.lock] since objmeta_root () */
  /* Leaves below this page stay when they are empty: those of a reserved object
   * are promised to it.
   */
  _Atomic pgno_t kept_pages;
};

/* Pages of one leaf. */
struct part {
  struct buf *leaf; /* referenced; NULL: absent */
  pgno_t pgno;      /* the first */
  unsigned first;   /* its place in the leaf */
  unsigned nr;
  unsigned nr_old; /* of them that have entries */
};

static inline struct disk_node *
node_of_leaf (const struct buf *leaf)
{
  return (struct disk_node *) leaf->data;
}

static inline struct disk_map *
map_of (const struct buf *leaf)
{
  return (struct disk_map *) node_of_leaf (leaf)->body;
}

/* Does next go on a run of nr entries, the first of which has this word? */
static inline bool
objmeta_goes_on (uint64_t word, uint64_t nr, uint64_t next)
{
  return next == (swmeta_kind (word) == SWMETA_BLOCK ? word + nr : word);
}

/* May nr entries on from word be in a map? */
extern bool objmeta_run_ok (const struct objmeta *m, uint64_t word,
                            uint64_t nr);

/* Tell the log what is wrong with a page; EIO. */
extern int objmeta_trouble (const struct objmeta *m, pgno_t pgno,
                            const char *what);

/* Cut pages of a shard at the leaves' edges.  Returns how many parts. */
extern unsigned objmeta_cut_parts (pgno_t pgno, uint64_t nr,
                                   struct part part[SHARD_LEAVES]);

/* Look at all entries that a change of this part would displace, and count
 * them.  EIO.
 */
extern int objmeta_check_part (const struct objmeta *m, struct part *part);

/* Runs on their way to a caller, who may be NULL, and to the free map. */
struct gather {
  struct objmeta *m;
  bool used; /* what the free map is told of them */
  swmeta_run_fn fn;
  void *arg;
  struct swmeta_run run;
};
/* An entry, if it is one.  Pages come in rising order. */
extern void objmeta_gather (struct gather *g, pgno_t pgno, uint64_t word);
extern void objmeta_gather_end (struct gather *g);

/* Nodes that building pages of a shard may take at worst.  EIO. */
extern int objmeta_count_needed (struct objmeta *m, pgno_t pgno, uint64_t nr,
                                 unsigned *needed);

/* The first nr blocks of mc are nodes of the tree now. */
extern void objmeta_use_blks (struct objmeta *m, struct map_change *mc,
                              unsigned nr);

/* ---- of the table in map.h ---- */

extern int objmeta_build (void *map, struct map_change *mc, pgno_t pgno,
                          uint64_t nr, const struct swent *ents,
                          swmeta_run_fn fn, void *arg);
extern int objmeta_free (void *map, struct map_change *mc, pgno_t pgno,
                         uint64_t nr, swmeta_run_fn fn, void *arg);
extern int objmeta_pop (void *map, struct map_change *mc, pgno_t pgno,
                        struct swent *ent);

#endif /* FARPAGE_OBJMETA_IMPL_H */
