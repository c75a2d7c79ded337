/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtual disk: a size, a page map, and the blocks its pages are in.
 *
 * An object does not know its name, its clients or NBD; store/ keeps those.
 * What reads and writes it is in strategy.h.
 */

#ifndef FARPAGE_OBJECT_H
#define FARPAGE_OBJECT_H

#include "map.h"
#include "space.h"
#include "types.h"
#include "volume.h"

struct object;

struct object_config {
  uint64_t size_bytes; /* 1 or more; the last page may be partial */
  bool reserved;       /* every page is charged now, until the object ends */
  bool prepared;       /* all memory of its map is made now */
  struct space *space;
  struct vpool *pool; /* batches; NULL if no volume needs one */
  struct swzone *zone;
};

/* ENOSPC: the reservation does not fit.  ENOMEM. */
extern int object_create (const struct object_config *config,
                          struct object **op);

/* Calls on it fail with ESHUTDOWN from now on, and none publishes any more. */
extern void object_kill (struct object *o);
extern bool object_is_dead (const struct object *o);

/* Give back what a dead object's map holds, a shard at a time.  Its requests
 * may still be under way: blocks that one is reading are parked until it is
 * over.  Blocks: yes, for as long as the map is large; never others for more
 * than one shard.
 */
extern void object_drop (struct object *o);

/* No request is under way any more.  Kills and drops it if that has not been
 * done.  NULL is fine.
 */
extern void object_destroy (struct object *o);

extern uint64_t object_size_bytes (const struct object *o);
extern bool object_is_reserved (const struct object *o);
extern uint64_t object_nr_mapped (const struct object *o);   /* blocks */
extern uint64_t object_nr_reserved (const struct object *o); /* promised only */

/* Nobody publishes with this fence flag up any more when it returns: the flag
 * was set before the call, and everyone looks at it under a shard's lock.
 */
extern void object_fence (struct object *o);

/* Walk the map and recount; nobody is at work.  NULL, or what is wrong. */
extern const char *object_check (struct object *o);

#endif /* FARPAGE_OBJECT_H */
