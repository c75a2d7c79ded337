/* SPDX-License-Identifier: BSD-2-Clause */
/* Free space as a radix bitmap with size hints (Matthew Dillon's blist).
 *
 * A blist knows which of nr_blocks blocks are free.  It has no lock (its
 * owner's guards it), does no I/O and no logging, and after blist_create only
 * blist_grow asks for memory: alloc, free and fill never do.  A new blist is
 * all free.  Costs about 2.03 bits a block.
 *
 *   blist_create (nr, &bl);
 *   blist_alloc (bl, 1, 32, &start, &count);     next fit, 1 to 32 blocks
 *   blist_free (bl, start, count);
 *   blist_destroy (bl);
 *
 * Every function returns 0 or a positive errno and leaves its results
 * untouched on failure.  None blocks.
 */

#ifndef FARPAGE_BLIST_H
#define FARPAGE_BLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct blist;

/* Most blocks a blist can hold. */
#define BLIST_BLOCKS_MAX (UINT64_C (1) << 48)

/* nr_blocks: 0 to BLIST_BLOCKS_MAX.  EINVAL, ENOMEM. */
extern int blist_create (uint64_t nr_blocks, struct blist **blp);
extern void blist_destroy (struct blist *bl); /* NULL is fine */

/* Take the first run of at least at_least free blocks at or after the cursor
 * (turning once at the end), cut at at_most, and put the cursor behind it.
 * The run may cross any leaf or subtree.  EINVAL: at_least is 0 or above
 * at_most.  ENOSPC: no such run.
 */
extern int blist_alloc (struct blist *bl, uint64_t at_least, uint64_t at_most,
                        uint64_t *start, uint64_t *count);

/* Give back a range.  EINVAL, and nothing changes, if any of it lies outside
 * or is free already.
 */
extern int blist_free (struct blist *bl, uint64_t start, uint64_t count);

/* Take a range, whatever part of it is taken already; *nr_taken is how many
 * blocks were free before.  EINVAL: outside.
 */
extern int blist_fill (struct blist *bl, uint64_t start, uint64_t count,
                       uint64_t *nr_taken);

/* More blocks at the end, all free.  EINVAL: fewer than now, or too many.
 * ENOMEM: nothing changed.
 */
extern int blist_grow (struct blist *bl, uint64_t nr_blocks);

/* Next allocation looks from here on; beyond the end means block 0. */
extern void blist_seek (struct blist *bl, uint64_t block);

extern uint64_t blist_nr_blocks (const struct blist *bl);
extern uint64_t blist_nr_free (const struct blist *bl);
extern size_t blist_bytes (const struct blist *bl); /* memory it holds */

/* true if the whole range is inside and free. */
extern bool blist_is_free (const struct blist *bl, uint64_t start,
                           uint64_t count);

/* Number of free runs by length: hist[i] counts runs of 2^i to 2^(i+1) - 1
 * blocks.  Walks the map: time follows nr_blocks / 64 at worst, but whole
 * taken subtrees are skipped.
 */
#define BLIST_HIST 49
extern void blist_histogram (const struct blist *bl, uint64_t hist[BLIST_HIST]);

/* The same in pieces, for an owner who must not keep his lock for so long:
 * adds to hist the runs that end in the next max blocks from *next on, and
 * moves *next behind them.  *next and *run (what of a run is behind *next) are
 * 0 at first; *next is nr_blocks when all is done.  Of what changes between
 * two pieces each tells what it sees.
 */
extern void blist_histogram_part (const struct blist *bl, uint64_t max,
                                  uint64_t *next, uint64_t *run,
                                  uint64_t hist[BLIST_HIST]);

/* The tree for a reader: one line a node that is neither all free nor full. */
extern void blist_dump (const struct blist *bl, FILE *fp);

/* Walk and recount everything.  NULL, or what is wrong. */
extern const char *blist_check (const struct blist *bl);

#endif /* FARPAGE_BLIST_H */
