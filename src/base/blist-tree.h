/* SPDX-License-Identifier: BSD-2-Clause */
/* The tree inside a blist, for blist.c and blist-check.c only; the picture and
 * the invariants are at the head of blist.c.
 */

#ifndef FARPAGE_BLIST_TREE_H
#define FARPAGE_BLIST_TREE_H

#include "blist.h"

#define RADIX       64u
#define RADIX_SHIFT 6
#define LEVELS_MAX  8 /* 64^8 = BLIST_BLOCKS_MAX */
#define FULL        UINT64_MAX

struct node {
  uint64_t used;
  uint64_t bound;
};

struct blist {
  uint64_t nr_blocks;
  uint64_t nr_free;
  uint64_t cursor;
  unsigned nr_levels;
  struct node *level[LEVELS_MAX];
  uint64_t nr_nodes[LEVELS_MAX];
};

_Static_assert(BLIST_BLOCKS_MAX == UINT64_C (1) << (RADIX_SHIFT * LEVELS_MAX),
               "levels");

static inline unsigned
lowest_bit (uint64_t word) /* word is not 0 */
{
  return __builtin_ctzll (word);
}

static inline unsigned
highest_bit (uint64_t word) /* word is not 0 */
{
  return 63 - __builtin_clzll (word);
}

/* The bits from first to last. */
static inline uint64_t
bits (unsigned first, unsigned last)
{
  return (FULL << first) & (FULL >> (63 - last));
}

/* The first block of a node; of the node behind the last, the end. */
static inline uint64_t
first_block (unsigned level, uint64_t node)
{
  return node << (RADIX_SHIFT * (level + 1));
}

/* Bit i stays if bits i to i + want - 1 are set; 1 <= want <= 64. */
static inline uint64_t
runs_of (uint64_t word, unsigned want)
{
  for (unsigned len = 1; len < want;) {
    unsigned shift = len < want - len ? len : want - len;

    word &= word >> shift;
    len += shift;
  }
  return word;
}

/* Find the first run of want blocks, at least 1, that starts at from or later.
 * Lowers bounds on its way.  false: there is none.
 */
extern bool blist_search (struct blist *bl, uint64_t from, uint64_t want,
                          uint64_t *start);

/* The first free, the first taken block of start to end - 1, or end. */
extern uint64_t blist_next_free (const struct blist *bl, uint64_t start,
                                 uint64_t end);
extern uint64_t blist_next_used (const struct blist *bl, uint64_t start,
                                 uint64_t end);

#endif /* FARPAGE_BLIST_TREE_H */
