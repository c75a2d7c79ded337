/* SPDX-License-Identifier: BSD-2-Clause */
/* Free space as a radix bitmap with size hints; see blist.h.
 *
 * After Matthew Dillon's blist (subr_blist.c of DragonFly and FreeBSD): a
 * tree of radix 64, size hints that failed searches lower, a next-fit cursor.
 * Called by space (a blist per volume) and by the client's swap pager; calls
 * only calloc and free.  The search for a run is in blist-search.c.
 *
 *   level 2           [ root ]                 a node covers 64^3 blocks
 *                    /   |    \
 *   level 1       [  ] [  ] .. [  ]            64^2
 *                /  |  \
 *   level 0    [ ] [ ] [ ] ..                  64: the leaves
 *
 * There is one form of node for all levels, and one array of nodes for each
 * level: node i of level l covers the blocks i * 64^(l+1) on, its children are
 * the nodes 64 i to 64 i + 63 of level l - 1, and no pointer is needed.  So a
 * level is also a plain bitmap: bit b of level l belongs to block b (l = 0) or
 * to node b of level l - 1.  Memory that is all zero is a tree that is all
 * free and of which nothing else is known: calloc makes a blist, and what was
 * never touched costs no memory.
 *
 * Invariants (blist_check):
 * I1. Level 0: a bit is set if its block is taken, or lies at or behind
 *     nr_blocks.
 * I2. Above: a bit is set if and only if its child has all bits set, or does
 *     not exist.
 * I3. bound = 0: nothing known.  bound = k > 0: no run of free blocks, cut at
 *     the node's own ends, is longer than k - 1.
 * I4. A node that is not full and of bound 0 has a parent of bound 0 (and so
 *     on to the root).  So a free that meets such a node stops there: nothing
 *     above has to change.
 * I5. nr_free is the number of zero bits of level 0.
 *
 * Costs: alloc at the cursor and free touch a leaf, and levels above it only
 * when a node gets full, stops being so, or loses a bound: at random places of
 * a large tree that is one cache miss, and little code behind it, so that the
 * processor gets on to the next (alloc_in_leaf, free_in_leaf).  A range of n
 * blocks costs n / 64 leaves; the check that a range is taken skips full
 * subtrees.
 *
 * Deliberately not done: no best fit and no index by length (next fit keeps
 * neighbours together and the hint tells most of what is missing); no "all
 * free" mark above the leaves, so a run of n blocks is looked at in n / 64
 * steps; no lock; no shrinking.
 */

#include <config.h>

#include "blist.h"
#include "blist-tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES (UINT64_C (2) << 20)

/* ---- making and growing ---- */

/* A zeroed array.  Large ones ask for huge pages: a tree of 16 TiB is 1 GiB,
 * touched all over.  That is a hint, so its failure is none.
 */
static struct node *
nodes_alloc (uint64_t nr)
{
  struct node *nodes = calloc (nr, sizeof *nodes);
  uintptr_t start = (uintptr_t) nodes;
  uintptr_t end = start + nr * sizeof *nodes;

  if (nodes == NULL)
    return NULL;
  start = (start + HUGE_BYTES - 1) & ~(uintptr_t) (HUGE_BYTES - 1);
  end &= ~(uintptr_t) (HUGE_BYTES - 1);
  if (start < end)
    madvise ((void *) start, end - start, MADV_HUGEPAGE);
  return nodes;
}

static void
levels_free (struct blist *bl)
{
  for (unsigned l = 0; l < bl->nr_levels; l++)
    free (bl->level[l]);
}

/* Make all levels of a tree of nr_blocks, all zero.  ENOMEM: none made. */
static int
levels_alloc (struct blist *bl, uint64_t nr_blocks)
{
  uint64_t nr = nr_blocks;

  bl->nr_blocks = nr_blocks;
  bl->nr_levels = 0;
  do {
    unsigned l = bl->nr_levels;

    nr = nr == 0 ? 1 : (nr - 1) / RADIX + 1;
    bl->level[l] = nodes_alloc (nr);
    if (bl->level[l] == NULL) {
      levels_free (bl);
      return ENOMEM;
    }
    bl->nr_nodes[l] = nr;
    bl->nr_levels++;
  } while (nr > 1);
  return 0;
}

/* Set the bits that belong to nothing, behind the end of each level (I1, I2).
 */
static void
levels_set_edge (struct blist *bl)
{
  uint64_t nr = bl->nr_blocks;

  for (unsigned l = 0; l < bl->nr_levels; l++) {
    uint64_t nr_bits = bl->nr_nodes[l] * RADIX;

    if (nr < nr_bits)
      bl->level[l][nr / RADIX].used |= bits (nr % RADIX, 63);
    nr = bl->nr_nodes[l];
  }
}

int
blist_create (uint64_t nr_blocks, struct blist **blp)
{
  struct blist *bl;
  int err;

  if (nr_blocks > BLIST_BLOCKS_MAX)
    return EINVAL;
  bl = calloc (1, sizeof *bl);
  if (bl == NULL)
    return ENOMEM;
  err = levels_alloc (bl, nr_blocks);
  if (err) {
    free (bl);
    return err;
  }
  levels_set_edge (bl);
  bl->nr_free = nr_blocks;
  *blp = bl;
  return 0;
}

void
blist_destroy (struct blist *bl)
{
  if (bl == NULL)
    return;
  levels_free (bl);
  free (bl);
}

/* ---- setting and clearing ranges ---- */

/* Set the bits first to last of one level.  *firstp and *lastp become the
 * nodes that are full now, as a range; false if there is none.  Returns the
 * number of bits that were zero by *changed.
 */
static bool
set_level (struct node *nodes, uint64_t *firstp, uint64_t *lastp,
           uint64_t *changed)
{
  uint64_t first = *firstp / RADIX, last = *lastp / RADIX;
  uint64_t n = 0;

  for (uint64_t i = first; i <= last; i++) {
    uint64_t mask = bits (i == first ? *firstp % RADIX : 0,
                          i == last ? *lastp % RADIX : 63);

    n += __builtin_popcountll (mask & ~nodes[i].used);
    nodes[i].used |= mask;
  }
  *changed = n;
  /* All but the two at the ends are full for certain. */
  *firstp = nodes[first].used == FULL ? first : first + 1;
  *lastp = last;
  if (nodes[last].used != FULL) {
    if (last == 0)
      return false;
    *lastp = last - 1;
  }
  return *firstp <= *lastp;
}

/* The leaves first to last are full now: tell the levels above. */
static void
leaves_full (struct blist *bl, uint64_t first, uint64_t last)
{
  uint64_t changed;

  for (unsigned l = 1; l < bl->nr_levels; l++)
    if (!set_level (bl->level[l], &first, &last, &changed))
      break;
}

/* Take the blocks first to last; returns how many were free. */
static uint64_t
take_range (struct blist *bl, uint64_t first, uint64_t last)
{
  uint64_t nr_taken;

  if (set_level (bl->level[0], &first, &last, &nr_taken))
    leaves_full (bl, first, last);
  bl->nr_free -= nr_taken;
  return nr_taken;
}

/* Clear the bits first to last of one level and forget the bounds there.
 * Returns false if nothing above has to change for that (I2, I4).
 */
static bool
clear_level (struct node *nodes, uint64_t bit_first, uint64_t bit_last)
{
  uint64_t first = bit_first / RADIX, last = bit_last / RADIX;
  bool more = false;

  for (uint64_t i = first; i <= last; i++) {
    more = more || nodes[i].used == FULL || nodes[i].bound != 0;
    nodes[i].used &= ~bits (i == first ? bit_first % RADIX : 0,
                            i == last ? bit_last % RADIX : 63);
    nodes[i].bound = 0;
  }
  return more;
}

/* Free the blocks first to last, which are all taken. */
static void
release_range (struct blist *bl, uint64_t first, uint64_t last)
{
  bl->nr_free += last - first + 1;
  for (unsigned l = 0; l < bl->nr_levels; l++) {
    if (!clear_level (bl->level[l], first, last))
      break;
    first /= RADIX;
    last /= RADIX;
  }
}

int
blist_grow (struct blist *bl, uint64_t nr_blocks)
{
  struct blist old = *bl;
  struct blist new = *bl;
  uint64_t first, last;
  int err;

  if (nr_blocks < old.nr_blocks || nr_blocks > BLIST_BLOCKS_MAX)
    return EINVAL;
  if (nr_blocks == old.nr_blocks)
    return 0;
  err = levels_alloc (&new, nr_blocks);
  if (err)
    return err;
  for (unsigned l = 0; l < old.nr_levels; l++)
    memcpy (new.level[l], old.level[l], old.nr_nodes[l] * sizeof (struct node));
  /* A root that is full is a full child of the new level above it. */
  if (new.nr_levels > old.nr_levels &&new.level[old.nr_levels - 1][0].used ==
      FULL)
    new.level[old.nr_levels][0].used = 1;
  first = old.nr_blocks;
  last = nr_blocks - 1;
  for (unsigned l = 0; l < new.nr_levels; l++) {
    clear_level (new.level[l], first, last);
    first /= RADIX;
    last /= RADIX;
  }
  levels_set_edge (&new);
  new.nr_free += nr_blocks - old.nr_blocks;
  levels_free (&old);
  *bl = new;
  return 0;
}

/* ---- looking at ranges ---- */

uint64_t
blist_next_free (const struct blist *bl, uint64_t start, uint64_t end)
{
  unsigned l = 0;
  uint64_t bit = start;

  if (start >= end)
    return end;
  /* Up while there is nothing to the right ... */
  for (;;) {
    uint64_t mask = ~bl->level[l][bit / RADIX].used & bits (bit % RADIX, 63);

    if (mask != 0) {
      bit = bit / RADIX * RADIX + lowest_bit (mask);
      break;
    }
    bit = bit / RADIX + 1;
    if (++l == bl->nr_levels || first_block (l - 1, bit) >= end)
      return end;
  }
  /* ... then down to the first. */
  while (l > 0) {
    l--;
    bit = bit * RADIX + lowest_bit (~bl->level[l][bit].used);
  }
  return bit < end ? bit : end;
}

uint64_t
blist_next_used (const struct blist *bl, uint64_t start, uint64_t end)
{
  uint64_t block = start;

  while (block < end) {
    uint64_t word = bl->level[0][block / RADIX].used & bits (block % RADIX, 63);

    if (word != 0) {
      block = block / RADIX * RADIX + lowest_bit (word);
      return block < end ? block : end;
    }
    block = (block / RADIX + 1) * RADIX;
  }
  return end;
}

static inline bool
outside (const struct blist *bl, uint64_t start, uint64_t count)
{
  return start > bl->nr_blocks || count > bl->nr_blocks - start;
}

bool
blist_is_free (const struct blist *bl, uint64_t start, uint64_t count)
{
  return !outside (bl, start, count) &&
         blist_next_used (bl, start, start + count) == start + count;
}

/* ---- alloc and free ---- */

/* The commonest case, and all that random places pay for: the cursor's own
 * leaf has the run, and the run's end.  false: search.
 */
static bool
alloc_in_leaf (struct blist *bl, uint64_t at_least, uint64_t at_most,
               uint64_t *start, uint64_t *count)
{
  uint64_t leaf = bl->cursor / RADIX;
  struct node *n = &bl->level[0][leaf];
  uint64_t left = ~n->used & bits (bl->cursor % RADIX, 63);
  uint64_t found = at_least < RADIX ? runs_of (left, at_least) : 0;
  unsigned first, len;

  if (found == 0)
    return false;
  first = lowest_bit (found);
  len = lowest_bit (~(left >> first) | UINT64_C (1) << 63);
  if (len > at_most)
    len = at_most;
  else if (first + len >= 63)
    return false; /* it may go on in the next leaf */
  n->used |= bits (first, first + len - 1);
  if (n->used == FULL)
    leaves_full (bl, leaf, leaf);
  bl->nr_free -= len;
  *start = leaf * RADIX + first;
  *count = len;
  blist_seek (bl, *start + len);
  return true;
}

int
blist_alloc (struct blist *bl, uint64_t at_least, uint64_t at_most,
             uint64_t *start, uint64_t *count)
{
  uint64_t first = 0, end;

  if (at_least == 0 || at_least > at_most)
    return EINVAL;
  if (bl->nr_free < at_least)
    return ENOSPC;
  if (alloc_in_leaf (bl, at_least, at_most, start, count))
    return 0;
  if (!blist_search (bl, bl->cursor, at_least, &first) &&
      (bl->cursor == 0 || !blist_search (bl, 0, at_least, &first)))
    return ENOSPC;
  end = bl->nr_blocks - first > at_most ? first + at_most : bl->nr_blocks;
  end = blist_next_used (bl, first + at_least, end);
  take_range (bl, first, end - 1);
  blist_seek (bl, end);
  *start = first;
  *count = end - first;
  return 0;
}

/* The commonest case: a range within a leaf, and nothing to say above. */
static bool
free_in_leaf (struct blist *bl, uint64_t start, uint64_t count)
{
  struct node *n = &bl->level[0][start / RADIX];
  unsigned first = start % RADIX;
  uint64_t mask;

  if (count == 0 || count > RADIX - first)
    return false;
  mask = bits (first, first + count - 1);
  if ((n->used & mask) != mask || n->used == FULL || n->bound != 0)
    return false;
  n->used &= ~mask;
  bl->nr_free += count;
  return true;
}

int
blist_free (struct blist *bl, uint64_t start, uint64_t count)
{
  if (outside (bl, start, count))
    return EINVAL;
  if (free_in_leaf (bl, start, count))
    return 0;
  if (blist_next_free (bl, start, start + count) != start + count)
    return EINVAL;
  if (count > 0)
    release_range (bl, start, start + count - 1);
  return 0;
}

int
blist_fill (struct blist *bl, uint64_t start, uint64_t count,
            uint64_t *nr_taken)
{
  if (outside (bl, start, count))
    return EINVAL;
  *nr_taken = count > 0 ? take_range (bl, start, start + count - 1) : 0;
  return 0;
}

void
blist_seek (struct blist *bl, uint64_t block)
{
  bl->cursor = block < bl->nr_blocks ? block : 0;
}

uint64_t
blist_nr_blocks (const struct blist *bl)
{
  return bl->nr_blocks;
}

uint64_t
blist_nr_free (const struct blist *bl)
{
  return bl->nr_free;
}

size_t
blist_bytes (const struct blist *bl)
{
  size_t bytes = sizeof *bl;

  for (unsigned l = 0; l < bl->nr_levels; l++)
    bytes += bl->nr_nodes[l] * sizeof (struct node);
  return bytes;
}
