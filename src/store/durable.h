/* SPDX-License-Identifier: BSD-2-Clause */
/* What a store has beside its space if it is durable; private to store/. */

#ifndef FARPAGE_DURABLE_H
#define FARPAGE_DURABLE_H

#include "freemap.h"
#include "objmeta.h"
#include "objtable.h"
#include "parked.h"
#include "recover.h"
#include "store-impl.h"

struct durable;

/* A named object as the table on the media has it. */
struct dobject {
  struct dobject *next, *next_by_id; /* [durable.lock] */
  uint64_t place;                    /* [const] in the table */
  struct disk_object entry;   /* [durable.lock] but for root and counts */
  void *map;                  /* its durable map; NULL: not needed so far */
  struct object *o;           /* [durable.lock] who counts for it; NULL */
  uint64_t begun_cycle;       /* the cycle its entry was last begun in */
  bool owned;                 /* o is to be destroyed with it */
  bool redone;                /* in recovery: since it was put in the table */
  int64_t nr_mapped, nr_zero; /* while there is no object */
};

/* Read the superblocks, recover, and find what there is.  The store's volumes
 * are open; they are put in order.  Makes space and what hangs on it.  What
 * goes wrong is told in the log.  Blocks: yes.
 */
extern int durable_open (struct store *s);
/* When all objects that there are have been charged: blocks that failed a write
 * in a process before this one are out of use.  Those that cannot be are told
 * in the log.
 */
extern void durable_take_retired (struct durable *d);
/* After the last fork: threads. */
extern int durable_start (struct durable *d);
/* A clean end: all is written, the superblock says so.  Requests may be held
 * but none is under way.  EIO: the store has failed.
 */
extern int durable_stop (struct durable *d);
extern void durable_close (struct durable *d); /* NULL is fine */

/* ---- looking (durable-stat.c) ---- */

extern void durable_stat (struct durable *d, struct durable_stat *st);
/* NULL, or why it has failed. */
extern const char *durable_fail_reason (struct durable *d);
extern uint64_t durable_nr_parked_meta (struct durable *d);
/* As store_each_bound (). */
extern void durable_each_bound (struct durable *d,
                                void (*fn) (void *arg, const char *name,
                                            uint64_t used, uint64_t max),
                                void *arg);

extern bool durable_failed (struct durable *d);

/* Blocks that maps, their nodes and the table's are in, and nodes that are
 * parked; nobody is at work.
 */
extern uint64_t durable_nr_blocks (struct durable *d);
/* Blocks that wait until nothing needs them. */
extern uint64_t durable_nr_parked (struct durable *d);

/* ---- objects ---- */

/* A new object, with a place in the table that is not entered yet: first it is
 * to have what is promised to it, or a crash would leave one in the table that
 * the pool has no room for.
 */
extern int durable_create (struct durable *d, const char *name,
                           const struct export_config *config,
                           const uint8_t instance[INSTANCE_BYTES],
                           struct dobject **dop);
/* Now enter it: durable on return.  ENOSPC, EIO. */
extern int durable_enter (struct durable *d, struct dobject *dobj);
/* It is not to be, and was not entered; its object, if any, is the caller's. */
extern void durable_give_up (struct durable *d, struct dobject *dobj);
/* The map of an object that is in the table, for oc. */
extern int durable_map (struct durable *d, struct dobject *dobj,
                        struct object_config *oc);
/* From now on o, which has that map, counts for it. */
extern void durable_attach (struct durable *d, struct dobject *dobj,
                            struct object *o);
/* Its object could not be emptied: it stays until the store is closed, for the
 * next start to go on.
 */
extern void durable_keep (struct durable *d, struct dobject *dobj);
/* It is removed, durably: nobody finds it again, also after a crash. */
extern int durable_remove (struct durable *d, struct dobject *dobj);
/* Its size, durable on return.  old_bytes: what it was, if pages behind the end
 * are there still; 0: none are, and if it is larger its map has the levels.
 * EIO: the store has failed.
 */
extern int durable_set_size (struct durable *d, struct dobject *dobj,
                             uint64_t size_bytes, uint64_t old_bytes);
/* Its map is empty: its place in the table is free, and dobj with it; its
 * object is the caller's.
 */
extern int durable_forget (struct durable *d, struct dobject *dobj);

/* One that was being removed when the store ended and that nobody empties yet;
 * NULL: there is none.
 */
extern struct dobject *durable_next_dying (struct durable *d);

/* Calls fn for each object of the table with this state; at open. */
extern int durable_each (struct durable *d, enum disk_object_state state,
                         int (*fn) (void *arg, struct dobject *dobj),
                         void *arg);

#endif /* FARPAGE_DURABLE_H */
