/* SPDX-License-Identifier: BSD-2-Clause */
/* The free map on the media: a bit for each block that META or a durable map
 * names, in a tree of each volume.
 *
 * It is a cache of truth.  What changes is noted in memory and folded into the
 * nodes by the flusher, all of it at a cycle's cut, so that the free map on
 * the medium is always as of the same place in the log as the maps are.
 */

#ifndef FARPAGE_FREEMAP_H
#define FARPAGE_FREEMAP_H

#include "space.h"
#include "tree.h"

struct freemap;

/* EIO, ENOMEM. */
extern int freemap_create (struct bufs *bs, struct flush *fl,
                           const struct disk_super *root, struct freemap **fmp);
extern void freemap_destroy (struct freemap *fm); /* NULL is fine */

/* Blocks are (or are no more) in use.  Lock: any below LOCK_LEAF.  Blocks:
 * no.  Room is had with freemap_wait (); what goes over it is kept all the
 * same (memory of a fixed reserve, CHANGE_NODES_MAX + SHARD_PAGES runs for
 * each change under way).
 */
extern void freemap_note (struct freemap *fm, const struct space_run *run,
                          bool used);

/* Wait while too much is noted and not folded.  Lock: none held. */
extern int freemap_wait (struct freemap *fm);

/* Load the nodes that what is noted will change, and fold most of it. */
extern int freemap_before_cut (struct freemap *fm);
/* Fold the rest, and put the trees' roots into root. */
extern int freemap_cut (struct freemap *fm, struct change *ch,
                        struct disk_super *root);

/* Tell all runs in use of a volume, in rising order.  EIO. */
extern int freemap_each (struct freemap *fm, unsigned volume,
                         int (*fn) (void *arg, const struct space_run *run),
                         void *arg);

#endif /* FARPAGE_FREEMAP_H */
