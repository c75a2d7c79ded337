/* SPDX-License-Identifier: BSD-2-Clause */
/* The page map of a durable object: a tree of META nodes behind the table of
 * map.h.  Loaded by need, evicted when clean, its changes logged.
 */

#ifndef FARPAGE_OBJMETA_H
#define FARPAGE_OBJMETA_H

#include "freemap.h"
#include "map.h"

struct objmeta;

extern const struct map_ops map_durable_ops;

/* The map of object id, whose root lies at entry->root.  freemap is told what
 * blocks become used or unused.
 */
extern int objmeta_create (struct bufs *bs, struct flush *fl,
                           struct freemap *fm, const struct disk_object *entry,
                           void **mapp);
/* For the table, at a cut: has the root changed since the last call, and the
 * root, and how many nodes there are.  Lock: the gate is closed.
 */
extern bool objmeta_root (void *map, struct disk_pointer *root,
                          uint64_t *nr_nodes);

/* Redo of NODE, UNNODE, and MAP, ZERO, FREE.  nr_mapped and nr_zero are
 * changed by as much as the map is.
 */
extern int objmeta_redo_node (void *map, struct change *ch,
                              const struct disk_rec *rec);
extern int objmeta_redo (void *map, struct change *ch,
                         const struct disk_rec *rec, const uint32_t *crc,
                         int64_t *nr_mapped, int64_t *nr_zero);

/* Most nodes that the map of an object of so many pages can have. */
extern uint64_t objmeta_nodes_max (pgno_t nr_pages);

#endif /* FARPAGE_OBJMETA_H */
