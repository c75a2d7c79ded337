/* SPDX-License-Identifier: BSD-2-Clause */
/* What objtable.c and objtable-read.c share; nobody else includes it. */

#ifndef FARPAGE_OBJTABLE_IMPL_H
#define FARPAGE_OBJTABLE_IMPL_H

#include "objtable.h"

#define OBJTABLE_LEAVES \
  ((OBJTABLE_MAX + DISK_TABLE_OBJECTS - 1) / DISK_TABLE_OBJECTS)
#define OBJTABLE_HEIGHT 2u

_Static_assert(OBJTABLE_LEAVES <= DISK_FANOUT * DISK_FANOUT,
               "height of the table");
_Static_assert(OBJTABLE_LEAVES > DISK_FANOUT, "height of the table");

struct objtable {
  struct bufs *bs;
  struct flush *fl;
  struct space *space;
  struct freemap *fm;
  struct tree tree;
  lock_t lock;
  uint64_t next_id;                    /* [lock] */
  uint64_t first_free;                 /* [lock] places below are taken */
  unsigned nr_pinned;                  /* [lock] */
  unsigned pinned_max;                 /* [const] */
  struct buf *pinned[OBJTABLE_LEAVES]; /* [lock] */
  bool taken[OBJTABLE_MAX];            /* [lock] */
};

static inline struct disk_node *
objtable_node (const struct buf *leaf)
{
  return (struct disk_node *) leaf->data;
}

static inline struct disk_object *
objtable_entry (const struct buf *leaf, uint64_t place)
{
  struct disk_table *table = (struct disk_table *) objtable_node (leaf)->body;

  return &table->object[place % DISK_TABLE_OBJECTS];
}

/* ---- objtable.c ---- */

/* The place's leaf, referenced; NULL if there is none.
 * Lock: needs ot->lock.
 */
extern int objtable_leaf (struct objtable *ot, uint64_t place,
                          struct buf **leafp);
/* Keep a leaf, if that is not one too many.  Lock: needs ot->lock. */
extern void objtable_pin (struct objtable *ot, struct buf *leaf);
/* Lock: needs ot->lock. */
extern void objtable_set_taken (struct objtable *ot, uint64_t place,
                                bool taken);

/* ---- objtable-read.c ---- */

/* NULL, or what is wrong with an entry, wherever it comes from. */
extern const char *objtable_entry_error (const struct disk_object *e);
/* Tell it; returns EIO. */
extern int objtable_damaged (uint64_t place, const char *what);
/* Read and judge the whole table; count its nodes, take what is taken. */
extern int objtable_read (struct objtable *ot);

#endif /* FARPAGE_OBJTABLE_IMPL_H */
