/* SPDX-License-Identifier: BSD-2-Clause */
/* The search of a blist: the first run long enough; the tree and its
 * invariants are at the head of blist.c, which alone calls it.
 *
 * A search walks leaf by leaf from the cursor, goes down only into nodes that
 * are not full, and steps over a node whose bound is too small.  A bound says
 * nothing of runs that cross the node's ends.  Those are found so: behind a
 * node stepped over, the free blocks at its end are counted backwards and
 * start the run; and a node that such a run leads into is entered whatever its
 * bound, until the run ends in it.  What a search walks through whole without
 * finding gets its bound lowered to what was asked for.  Taking blocks leaves
 * bounds true; giving them back sets those of the path to 0.
 *
 * Costs: a search passes at most 64 nodes a level between places that changed
 * since a search for as much went by.  One for a length that none was made for
 * since, in a tree full of shorter runs, looks at every leaf that is not full:
 * once, not each time.
 */

#include <config.h>

#include "blist.h"
#include "blist-tree.h"

/* The start of the free run that ends before end, cut at floor. */
static uint64_t
run_before (const struct blist *bl, uint64_t end, uint64_t floor)
{
  while (end > floor) {
    uint64_t first = (end - 1) / RADIX * RADIX;
    uint64_t word = bl->level[0][first / RADIX].used & bits (0, (end - 1) % 64);

    if (word != 0) {
      first += highest_bit (word) + 1;
      return first > floor ? first : floor;
    }
    end = first;
  }
  return floor;
}

/* A search for want blocks from the block from on, now at this node; run is
 * where the free run starts that ends right before it (the node's first block
 * if there is none, from in the first leaf).
 */
struct search {
  const uint64_t from;
  const uint64_t want;
  uint64_t run;
  uint64_t node;
  unsigned level;
  unsigned unasked; /* bounds up to this level were passed without a look */
};

static inline bool
too_small (const struct node *n, uint64_t want)
{
  return n->bound != 0 && n->bound <= want;
}

/* Look for the run's end and for a run in this leaf.  true: *start is one. */
static bool
search_leaf (const struct blist *bl, struct search *s, uint64_t *start)
{
  const struct node *n = &bl->level[0][s->node];
  uint64_t first = s->node * RADIX;
  uint64_t used = n->used;
  uint64_t end, found;

  if (s->from > first)
    used |= bits (0, s->from - first - 1);
  end = used != 0 ? first + lowest_bit (used) : first + RADIX;
  if (end > s->run && end - s->run >= s->want) {
    *start = s->run;
    return true;
  }
  if (used == 0)
    return false;
  if (s->want <= RADIX && !too_small (n, s->want)) {
    found = runs_of (~used, s->want);
    if (found != 0) {
      *start = first + lowest_bit (found);
      return true;
    }
  }
  s->run = first + highest_bit (used) + 1;
  return false;
}

/* Be done with this node, which is too small, by its bound alone. */
static void
search_skip (const struct blist *bl, struct search *s)
{
  uint64_t first = first_block (s->level, s->node);
  uint64_t end = first_block (s->level, s->node + 1);

  if (bl->level[s->level][s->node].used >> 63)
    s->run = end;
  else
    s->run = run_before (bl, end, first > s->from ? first : s->from);
}

/* A leaf was searched in vain, and the run, if any, starts in it: now ask the
 * bounds that were passed on the way down, and skip what they allow.
 */
static void
search_ask (const struct blist *bl, struct search *s)
{
  for (unsigned l = s->unasked; l > 0; l--) {
    uint64_t node = s->node >> (RADIX_SHIFT * l);

    if (too_small (&bl->level[l][node], s->want)) {
      s->level = l;
      s->node = node;
      search_skip (bl, s);
      break;
    }
  }
  s->unasked = 0;
}

/* Step to the next node that is not full, upwards where a parent has no more.
 * Lower the bounds of what was searched whole.  false: that was the last.
 */
static bool
search_step (struct blist *bl, struct search *s)
{
  for (;;) {
    struct node *n = &bl->level[s->level][s->node];
    unsigned slot = s->node % RADIX;
    uint64_t parent = s->node / RADIX;
    uint64_t rest;

    if (first_block (s->level, s->node) >= s->from &&
        (n->bound == 0 || n->bound > s->want))
      n->bound = s->want;
    if (s->level + 1 == bl->nr_levels)
      return false;
    rest = slot == 63
               ? 0
               : ~bl->level[s->level + 1][parent].used & bits (slot + 1, 63);
    if (rest != 0) {
      s->node = parent * RADIX + lowest_bit (rest);
      if (lowest_bit (rest) > slot + 1)
        s->run = first_block (s->level, s->node);
      return true;
    }
    s->level++;
    s->node = parent;
    if (slot < 63)
      s->run = first_block (s->level, s->node + 1);
  }
}

bool
blist_search (struct blist *bl, uint64_t from, uint64_t want, uint64_t *start)
{
  struct search s = { .from = from,
                      .want = want,
                      .run = from,
                      .node = from / RADIX,
                      .unasked = bl->nr_levels - 1 };

  do {
    /* Down to a leaf, or to a node that can be skipped. */
    while (s.level > 0) {
      const struct node *n = &bl->level[s.level][s.node];

      if (too_small (n, want)) {
        if (s.run == first_block (s.level, s.node))
          break;
        if (s.unasked < s.level)
          s.unasked = s.level;
      }
      s.level--;
      s.node = s.node * RADIX + lowest_bit (~n->used);
      if (s.node % RADIX != 0)
        s.run = first_block (s.level, s.node);
    }
    if (s.level > 0) {
      search_skip (bl, &s);
      continue;
    }
    if (search_leaf (bl, &s, start))
      return true;
    if (s.unasked > 0 && s.run >= s.node * RADIX)
      search_ask (bl, &s);
  } while (search_step (bl, &s));
  return false;
}
