/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtual disk: a size, a page map, and the blocks its pages are in.
 *
 * An object does not know its name, its clients or NBD; store/ keeps those.
 * What reads and writes it is in strategy.h.
 *
 * The map of an object in memory is made here; that of a durable one is made by
 * the store (objmeta.h), and its changes go through the flusher.
 */

#ifndef FARPAGE_OBJECT_H
#define FARPAGE_OBJECT_H

#include "map.h"
#include "parked.h"
#include "space.h"
#include "types.h"
#include "volume.h"

struct object;

struct object_config {
  uint64_t size_bytes; /* 1 or more; the last page may be partial */
  uint64_t old_bytes;  /* 0; or what is behind size_bytes is there up to here,
                        * and to be freed: object_free_tail () */
  bool reserved;       /* every page is charged now, until the object ends */
  bool prepared;       /* all memory of its map is made now */
  struct space *space;
  struct vpool *pool; /* batches, with room for SPACE_HANDOUT_MAX pages each;
                       * NULL if no volume needs one */
  struct swzone *zone;
  const char *name; /* for messages; stays the caller's; may be NULL */
  bool cached;      /* reads may go through the page cache */

  /* Of a durable object, else NULL.  The map is made already, and becomes the
   * object's; zone and prepared do not count.
   */
  struct bufs *bs;
  struct flush *fl;
  struct parked *pk;
  const struct map_ops *ops;
  void *map;
  uint64_t nr_mapped, nr_zero; /* what is in it, charged already unless the
                                * object is reserved */
  bool staged;                 /* what is in buffers outlives the process */
  bool strict; /* each reply waits until its change is durable */
};

/* ENOSPC: the reservation does not fit.  ENOMEM.  After an error a durable map
 * is the caller's still.
 */
extern int object_create (const struct object_config *config,
                          struct object **op);

/* Calls on it fail with ESHUTDOWN from now on, and none publishes any more. */
extern void object_kill (struct object *o);
extern bool object_is_dead (const struct object *o);

/* Give back what a dead object's map holds, a shard at a time.  Its requests
 * may still be under way: blocks that one is reading are parked until it is
 * over.  After an error (EIO, of a durable object) the rest is there still, and
 * the call can be made again, now or by the next process: it goes on where this
 * one stopped.  Blocks: yes, for as long as the map is large; never others for
 * more than one shard.
 */
extern int object_drop (struct object *o);
/* Who is dropping o is to stop soon, with EINTR. */
extern void object_drop_stop (struct object *o);

/* ---- another size (resize.c) ---- */

/* A larger size: first what it takes is had, then, when no request is under way
 * and none can come, the object grows, and what is left is given back.
 */
struct growth {
  uint64_t size_bytes;
  uint64_t nr_charges; /* had */
  struct map_change mc;
};
/* ENOSPC.  Nothing to end after an error.  Blocks: yes. */
extern int object_grow_begin (struct object *o, uint64_t size_bytes,
                              struct growth *g);
/* EIO, ENOMEM: it is as it was.  Lock: none held; nobody else is on o.  Blocks:
 * for room in the log, and to touch memory of a prepared map.
 */
extern int object_grow (struct object *o, struct growth *g);
extern void object_grow_end (struct object *o, struct growth *g);

/* A smaller one: what lies behind its end is there still, and nobody's.  Nobody
 * uses o.
 */
extern void object_cut (struct object *o, uint64_t size_bytes);
/* Free that, a shard at a time, as object_drop () does, and with the same
 * errors.  Requests may be under way.  Then, when none is and none can come,
 * object_end_cut () zeroes the rest of the last page, and the caller gives so
 * many charges back when no crash brings the tail back.  EIO; ENOSPC: promises
 * of nodes are not all there yet.
 */
extern int object_free_tail (struct object *o);
extern int object_end_cut (struct object *o, uint64_t *nr_charges);
/* Has it been cut, and not ended? */
extern bool object_is_cut (const struct object *o);

/* Batches for an object that was made before there were any; nobody uses it
 * yet.
 */
extern void object_set_pool (struct object *o, struct vpool *pool);

/* No request is under way any more.  An object in memory is killed and dropped
 * if that has not been done; a durable one keeps on its media what it has.
 * NULL is fine.
 */
extern void object_destroy (struct object *o);

extern uint64_t object_size_bytes (const struct object *o);
extern bool object_is_reserved (const struct object *o);
extern uint64_t object_nr_mapped (const struct object *o); /* blocks */
extern uint64_t object_nr_zero (const struct object *o);
extern uint64_t object_nr_reserved (const struct object *o); /* promised only */

/* Nobody publishes with this fence flag up any more when it returns: the flag
 * was set before the call, and everyone looks at it under a shard's lock.
 */
extern void object_fence (struct object *o);

/* Walk the map and recount; nobody is at work.  NULL, or what is wrong:
 * object_unread if the medium does not give the map.
 */
extern const char *object_check (struct object *o);
extern const char object_unread[];

#endif /* FARPAGE_OBJECT_H */
