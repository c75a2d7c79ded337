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

/* Reads and judges the whole table.  EIO: told in the log.  ENOMEM. */
extern int objtable_create (struct bufs *bs, struct flush *fl,
                            struct space *space, struct freemap *fm,
                            const struct disk_super *root,
                            struct objtable **otp);
extern void objtable_destroy (struct objtable *ot); /* NULL is fine */

/* Tell all entries that are not free.  EIO, or what fn returns.  fn may call
 * anything.
 */
typedef int (*objtable_fn) (void *arg, uint64_t place,
                            const struct disk_object *entry);
extern int objtable_each (struct objtable *ot, objtable_fn fn, void *arg);

/* Nodes of the table's tree: each has a block, and a charge. */
extern uint64_t objtable_nr_nodes (struct objtable *ot);

/* A place for a new object and an id that was never used; ENOSPC.  The place
 * is free again if its first put fails, or by objtable_free ().
 */
extern int objtable_alloc (struct objtable *ot, uint64_t *place, uint64_t *id);
extern void objtable_free (struct objtable *ot, uint64_t place);

/* The place's entry becomes this (state FREE: empty, and the place is free)
 * for all but root, height and counts; durable when flush_commit (*lsn) is.
 * ENOSPC: no block for a new table node.  EINVAL: no such entry can be.  One
 * that gets larger has the levels of its map already (tree_raise ()).  EIO.
 * Lock: none held.  Blocks: yes.
 */
extern int objtable_put (struct objtable *ot, uint64_t place,
                         const struct disk_object *entry, uint64_t *lsn);

/* Before a cut, in changes of their own (change_begin_cut, one for each or for
 * a few): begin the leaf of an object that the cut will change.  A cut has no
 * room to begin many.  EIO.  Lock: none held.  Blocks: may read.
 */
extern int objtable_before_cut (struct objtable *ot, struct change *ch,
                                uint64_t place);
/* At a cut: root, height and counts (mapped, zero, nodes) of an object that has
 * changed, as `now` has them.  Nothing happens if that is not at that place any
 * more.  EIO.
 */
extern int objtable_cut_object (struct objtable *ot, struct change *ch,
                                uint64_t place, const struct disk_object *now);
/* At a cut, at last: the table's own root, and the next id. */
extern int objtable_cut (struct objtable *ot, struct change *ch,
                         struct disk_super *root);

/* Redo, in the log's order.  EIO: the record cannot be right, or needs a node
 * that is not there.
 */
extern int objtable_redo_node (struct objtable *ot, struct change *ch,
                               const struct disk_rec *rec);
extern int objtable_redo (struct objtable *ot, struct change *ch,
                          const struct disk_rec *rec,
                          const struct disk_object *entry);

#endif /* FARPAGE_OBJTABLE_H */
