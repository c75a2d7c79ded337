/* SPDX-License-Identifier: BSD-2-Clause */
/* What freemap.c and freemap-walk.c share; nobody else includes it. */

#ifndef FARPAGE_FREEMAP_IMPL_H
#define FARPAGE_FREEMAP_IMPL_H

#include "freemap.h"

struct note {
  uint64_t blk, nr;
};

struct fm_volume {
  struct tree tree;
  uint64_t first, end; /* [const] places whose bits change */
  uint64_t nr_leaves;  /* [const] */
};

struct freemap {
  struct flush *fl;
  struct bufs *bs;
  lock_t fold_lock;
  lock_t lock;
  cond_t left;            /* somebody has left */
  struct note *notes;     /* [lock] a ring of FREEMAP_NOTED_MAX places */
  uint64_t taken, pushed; /* [lock] counts since the start */
  uint64_t peeked;        /* [lock] so many have been looked at to fold them */
  atomic_uint nr_noted;   /* pushed - taken; written under lock */
  atomic_uint nr_inside;
  atomic_uint nr_waiting;
  _Atomic uint64_t nr_wrong;
  unsigned nr_volumes; /* [const] */
  struct fm_volume volumes[];
};

static inline struct disk_node *
freemap_node (const struct buf *leaf)
{
  return (struct disk_node *) leaf->data;
}

/* ---- freemap-walk.c ---- */

/* A leaf, referenced.  EIO, told: it cannot be read, or is not there.
 * Lock: needs fold_lock.
 */
extern int freemap_leaf (struct freemap *fm, struct fm_volume *v,
                         uint64_t index, struct buf **leafp);

/* Set or clear nr bits from this one on.  Returns how many have changed. */
extern unsigned freemap_set_bits (uint8_t *bits, unsigned bit, unsigned nr,
                                  bool used);

#endif /* FARPAGE_FREEMAP_IMPL_H */
