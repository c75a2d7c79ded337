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

/* ENOMEM.  Reads nothing; superblocks have been judged. */
extern int freemap_create (struct bufs *bs, struct flush *fl,
                           const struct disk_super *root, struct freemap **fmp);
extern void freemap_destroy (struct freemap *fm); /* NULL is fine */

/* Runs that one change may note between freemap_enter () and freemap_leave ():
 * pages of a shard that are displaced and displace, twice, and nodes.
 */
#define FREEMAP_NOTES_MAX (4 * SHARD_PAGES + CHANGE_NODES_MAX)
/* Runs that may be noted in all; recovery notes two a page at most. */
#define FREEMAP_NOTED_MAX 163840u

/* Around each change that notes anything, from before change_begin () until
 * after change_end (): makes sure that there is room for its notes, folding
 * what is noted if that is much.  EIO: not entered.  A thread is inside once.
 * Lock: none held.  Blocks: enter may.
 */
extern int freemap_enter (struct freemap *fm);
extern void freemap_leave (struct freemap *fm);

/* Blocks are (or are no more) in use.  Lock: any below LOCK_LEAF, and the one
 * that orders what happens to these blocks.  Blocks: no.  Should there be no
 * room the store fails: the log still knows.
 */
extern void freemap_note (struct freemap *fm, const struct space_run *run,
                          bool used);

/* Fold what is noted now, and load the nodes that what comes on top of it will
 * change.  EIO.  Lock: none held.  Blocks: yes.
 */
extern int freemap_before_cut (struct freemap *fm);
/* Fold the rest, and put the trees' roots into root.  EIO. */
extern int freemap_cut (struct freemap *fm, struct change *ch,
                        struct disk_super *root);

/* Tell all runs in use of a volume, in rising order, but for slots, ring and
 * the free map itself.  What is noted and not folded is not told.  EIO, or what
 * fn returns.  fn may call anything.
 */
extern int freemap_each (struct freemap *fm, unsigned volume,
                         int (*fn) (void *arg, const struct space_run *run),
                         void *arg);

struct freemap_stat {
  uint64_t nr_noted; /* runs that are not folded yet */
  /* Blocks that were to become used and were, or free and were: a bug, or
   * damage.  Told in the log; not counted in recovery.
   */
  uint64_t nr_wrong;
};
extern void freemap_stat (struct freemap *fm, struct freemap_stat *st);

#endif /* FARPAGE_FREEMAP_H */
