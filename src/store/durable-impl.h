/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of durable share; nobody else includes it. */

#ifndef FARPAGE_DURABLE_IMPL_H
#define FARPAGE_DURABLE_IMPL_H

#include "durable.h"

#define DURABLE_BUCKETS 1024u /* of objects by id */

struct durable {
  struct store *s;
  struct supers supers;
  struct staging *staging; /* NULL: none */
  struct bufs *bs;
  struct flush *fl;
  struct freemap *fm;
  struct parked *pk;
  struct objtable *ot;
  struct recover_report report; /* [const] of the open */
  uint64_t recover_ns;          /* [const] it took that long */
  bool knows_retired; /* [const] once open: space has the superblock's list */
  bool told_retired;  /* [cut] that the list is full */
  lock_t lock;
  struct dobject *objects;                /* [lock] all */
  struct dobject *by_id[DURABLE_BUCKETS]; /* [lock] */
};

/* ---- durable-redo.c ---- */

extern const struct recover_ops durable_recover_ops;

/* All objects that the table has.  EIO, ENOMEM. */
extern int dobjects_load (struct durable *d);

/* ---- durable-retired.c ---- */

/* What is retired goes into root.  Lock: the gate is closed. */
extern void durable_cut_retired (struct durable *d, struct disk_super *root);

/* ---- durable-object.c ---- */

/* Lock: d->lock, or there is one thread only. */
extern struct dobject *dobject_find (struct durable *d, uint64_t id);
extern struct dobject *dobject_at (struct durable *d, uint64_t place);

/* An object that the table has, with its counts.  ENOMEM. */
extern int dobject_add (struct durable *d, uint64_t place,
                        const struct disk_object *entry, struct dobject **dop);
extern void dobject_unlink (struct durable *d, struct dobject *dobj);
extern void dobject_free (struct dobject *dobj);
/* Its map, if it has none so far.  EIO, ENOMEM. */
extern int dobject_need_map (struct durable *d, struct dobject *dobj);

#endif /* FARPAGE_DURABLE_IMPL_H */
