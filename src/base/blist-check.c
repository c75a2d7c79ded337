/* SPDX-License-Identifier: BSD-2-Clause */
/* What a reader or a test asks of a blist: the histogram for `farpage stat`,
 * the tree as text, the invariants of blist.c checked.  Changes nothing, asks
 * for no memory.
 */

#include <config.h>

#include "blist.h"
#include "blist-tree.h"

#include <inttypes.h>
#include <string.h>

static void
count_run (uint64_t *run, uint64_t hist[BLIST_HIST])
{
  if (*run > 0)
    hist[highest_bit (*run)]++;
  *run = 0;
}

void
blist_histogram_part (const struct blist *bl, uint64_t max, uint64_t *next,
                      uint64_t *run, uint64_t hist[BLIST_HIST])
{
  uint64_t start = *next;
  uint64_t end = max < bl->nr_blocks - start ? start + max : bl->nr_blocks;

  *next = end;
  while (start < end) {
    uint64_t stop = blist_next_used (bl, start, end);

    *run += stop - start;
    if (stop == end)
      break;
    count_run (run, hist);
    start = blist_next_free (bl, stop, end);
  }
  if (end == bl->nr_blocks)
    count_run (run, hist);
}

void
blist_histogram (const struct blist *bl, uint64_t hist[BLIST_HIST])
{
  uint64_t next = 0, run = 0;

  memset (hist, 0, BLIST_HIST * sizeof hist[0]);
  blist_histogram_part (bl, bl->nr_blocks, &next, &run, hist);
}

void
blist_dump (const struct blist *bl, FILE *fp)
{
  fprintf (fp,
           "blist: %" PRIu64 " blocks, %" PRIu64 " free, cursor %" PRIu64
           ", %u levels\n",
           bl->nr_blocks, bl->nr_free, bl->cursor, bl->nr_levels);
  for (unsigned l = bl->nr_levels; l-- > 0;)
    for (uint64_t i = 0; i < bl->nr_nodes[l]; i++) {
      const struct node *n = &bl->level[l][i];

      if (n->used != 0 && n->used != FULL)
        fprintf (fp,
                 "%*slevel %u block %" PRIu64 " used %016" PRIx64
                 " bound %" PRIu64 "\n",
                 (int) (bl->nr_levels - l) * 2, "", l, first_block (l, i),
                 n->used, n->bound);
    }
}

/* Free runs of a node: at its start, at its end, the longest; its blocks. */
struct runs {
  uint64_t head, tail, longest, size;
};

/* The runs of two neighbours together. */
static struct runs
runs_join (struct runs a, struct runs b)
{
  uint64_t middle = a.tail + b.head;
  struct runs r = { .head = a.head == a.size ? a.size + b.head : a.head,
                    .tail = b.tail == b.size ? b.size + a.tail : b.tail,
                    .longest = a.longest > b.longest ? a.longest : b.longest,
                    .size = a.size + b.size };

  if (middle > r.longest)
    r.longest = middle;
  return r;
}

/* The bits of a node that belong to nothing. */
static uint64_t
edge_of (const struct blist *bl, unsigned level, uint64_t node)
{
  uint64_t nr = level == 0 ? bl->nr_blocks : bl->nr_nodes[level - 1];

  if ((node + 1) * RADIX <= nr)
    return 0;
  return bits (nr > node * RADIX ? nr - node * RADIX : 0, 63);
}

static struct runs
leaf_runs (uint64_t used)
{
  struct runs r = { RADIX, RADIX, 0, RADIX };
  uint64_t left = ~used;

  if (used != 0) {
    r.head = lowest_bit (used);
    r.tail = RADIX - 1 - highest_bit (used);
  }
  for (; left != 0; left &= left >> 1)
    r.longest++;
  return r;
}

/* Check a node and all below it; *runs is what was found. */
static const char *
check_node (const struct blist *bl, unsigned level, uint64_t node,
            struct runs *runs)
{
  const struct node *n = &bl->level[level][node];
  uint64_t edge = edge_of (bl, level, node);
  struct runs sum = { 0 };

  if ((n->used & edge) != edge)
    return "I1, I2: a bit behind the end is not set";
  if (level == 0)
    sum = leaf_runs (n->used);
  for (unsigned i = 0; i < RADIX && level > 0 && !(edge >> i & 1); i++) {
    const struct node *child = &bl->level[level - 1][node * RADIX + i];
    struct runs part;
    const char *wrong = check_node (bl, level - 1, node * RADIX + i, &part);

    if (wrong != NULL)
      return wrong;
    if ((n->used >> i & 1) != (child->used == FULL))
      return "I2: a bit is not what its child is";
    if (child->used != FULL && child->bound == 0 && n->bound != 0)
      return "I4: a bound above a node that has none";
    sum = runs_join (sum, part);
  }
  if (n->bound != 0 && sum.longest >= n->bound)
    return "I3: a free run is longer than its node's bound";
  *runs = sum;
  return NULL;
}

const char *
blist_check (const struct blist *bl)
{
  uint64_t nr_free = 0;
  struct runs runs;

  if (bl->nr_nodes[bl->nr_levels - 1] != 1)
    return "there is not one root";
  if (bl->cursor != 0 && bl->cursor >= bl->nr_blocks)
    return "the cursor is behind the end";
  for (uint64_t i = 0; i < bl->nr_nodes[0]; i++)
    nr_free += __builtin_popcountll (~bl->level[0][i].used);
  if (nr_free != bl->nr_free)
    return "I5: nr_free is wrong";
  return check_node (bl, bl->nr_levels - 1, 0, &runs);
}
