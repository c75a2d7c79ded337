/* SPDX-License-Identifier: BSD-2-Clause */
/* The object table: which named objects a durable store has, in a tree of
 * META whose leaves hold DISK_TABLE_OBJECTS entries.  A place is a number:
 * leaf * DISK_TABLE_OBJECTS + entry.
 *
 * Names are not looked up here: the store reads the whole table at open
 * (objtable_each) and keeps names in memory.
 */

#ifndef FARPAGE_OBJTABLE_H
#define FARPAGE_OBJTABLE_H

#include "freemap.h"
#include "objmeta.h"

#define OBJTABLE_MAX 65536u /* objects */

struct objtable;

extern int objtable_create (struct bufs *bs, struct flush *fl,
                            struct space *space, struct freemap *fm,
                            const struct disk_super *root,
                            struct objtable **otp);
extern void objtable_destroy (struct objtable *ot);

typedef int (*objtable_fn) (void *arg, uint64_t place,
                            const struct disk_object *entry);
extern int objtable_each (struct objtable *ot, objtable_fn fn, void *arg);

/* A place for a new object and an id that was never used; ENOSPC. */
extern int objtable_alloc (struct objtable *ot, uint64_t *place, uint64_t *id);

/* The place's entry becomes this (state FREE: empty) for all but root and
 * counts; durable when flush_commit (*lsn) is.  ENOSPC: no block for a new
 * table node.  Lock: none held.  Blocks: yes.
 */
extern int objtable_put (struct objtable *ot, uint64_t place,
                         const struct disk_object *entry, uint64_t *lsn);

/* At a cut: root and counts of an object that has changed. */
extern int objtable_cut_object (struct objtable *ot, struct change *ch,
                                uint64_t place, const struct disk_pointer *map,
                                const uint64_t counts[3]);
/* At a cut, at last: the table's own root, and the next id. */
extern int objtable_cut (struct objtable *ot, struct change *ch,
                         struct disk_super *root);

extern int objtable_redo_node (struct objtable *ot, struct change *ch,
                               const struct disk_rec *rec);
extern int objtable_redo (struct objtable *ot, struct change *ch,
                          const struct disk_rec *rec,
                          const struct disk_object *entry);

#endif /* FARPAGE_OBJTABLE_H */
