/* SPDX-License-Identifier: BSD-2-Clause */
/* The page map of a durable object: a tree of META nodes behind the table of
 * map.h.  Loaded by need, evicted when clean, its changes logged.
 */

#ifndef FARPAGE_OBJMETA_H
#define FARPAGE_OBJMETA_H

#include "freemap.h"
#include "map.h"
#include "parked.h"

struct objmeta;

/* What a tree of TREE_HEIGHT_MAX levels can hold. */
#define OBJMETA_PAGES_MAX \
  (UINT64_C (1) << (DISK_MAP_SHIFT + DISK_FANOUT_SHIFT * TREE_HEIGHT_MAX))

/* The durable map behind map.h.  Beyond what is said there:
 *
 * prepare  with build: *nr_missing is what it takes at worst, for other shards'
 *          nodes come and go meanwhile.
 * build    takes blocks from the front of mc->blks; nr_blks are left, with
 *          their charges.  EAGAIN: nothing has changed, and more are needed,
 *          for leaves that prepare found have become empty in this change since
 *          (build first, then free).
 * free     leaves that become empty leave the tree: their blocks are parked,
 *          with their charges.
 * next_shard  returns its argument if a node cannot be read.
 */
extern const struct map_ops map_durable_ops;

/* The map of object entry->id, whose root lies at entry->root.  fm is told what
 * blocks become used or unused; pk gets those of nodes that are gone, and may
 * be NULL in recovery.  EIO: the entry contradicts itself.  ENOMEM.
 */
extern int objmeta_create (struct bufs *bs, struct flush *fl,
                           struct freemap *fm, struct parked *pk,
                           const struct disk_object *entry, void **mapp);
/* Pages from this one on will all go, and their nodes with them: those of a
 * reserved object would stay else.  0: the object is being removed.
 */
extern void objmeta_let_go (void *map, pgno_t pgno);
/* A map that recovery made, before there was pk.  Nobody uses it yet. */
extern void objmeta_set_parked (void *map, struct parked *pk);
/* In recovery: it has had so many pages at some time since the cut. */
extern void objmeta_redo_pages (void *map, pgno_t nr_pages);
/* Recovery is over, and it has those that the entry says. */
extern void objmeta_set_pages (void *map, const struct disk_object *entry);
/* For the table, at a cut: has the root changed since the last call; and root,
 * height and nr_nodes of the object's entry.  Lock: the gate is closed.
 */
extern bool objmeta_root (void *map, struct disk_object *entry);

/* Levels that it has above its leaves. */
extern uint32_t objmeta_levels (void *map);

/* Has it changed since the last objmeta_root ()? */
extern bool objmeta_has_changed (void *map);

/* How many nodes the map has now. */
extern uint64_t objmeta_nr_nodes (void *map);

/* Redo of NODE, UNNODE, and MAP, ZERO, FREE.  nr_mapped and nr_zero are
 * changed by as much as the map is.  EIO, too, if the record cannot be right.
 */
extern int objmeta_redo_node (void *map, struct change *ch,
                              const struct disk_rec *rec);
extern int objmeta_redo (void *map, struct change *ch,
                         const struct disk_rec *rec, const uint32_t *crc,
                         int64_t *nr_mapped, int64_t *nr_zero);

/* The block of the node that has the entry of a page, if it is in no buffer;
 * else 0.
 */
extern uint64_t objmeta_where (void *map, pgno_t pgno);

/* Levels that the map of an object of so many pages has above its leaves. */
extern uint32_t objmeta_height (pgno_t nr_pages);

/* Most nodes that a map of so many pages and levels can have; levels that are
 * too few for them count as those they need.
 */
extern uint64_t objmeta_nodes_max (pgno_t nr_pages, uint32_t height);

/* The pages that the map of an object may have: behind its end, too, while it
 * is made smaller.
 */
static inline pgno_t
objmeta_entry_pages (const struct disk_object *entry)
{
  return bytes_to_pages (entry->old_bytes != 0 ? entry->old_bytes
                                               : entry->size_bytes);
}

#endif /* FARPAGE_OBJMETA_H */
