/* SPDX-License-Identifier: BSD-2-Clause */
/* The free map's leaves as they are read: at open all of them are walked, and
 * judged; freemap.c has the picture.
 *
 * A leaf has passed buf's checks: it is the right node, and whole.  Here its
 * bits are judged by themselves: their number, and those of blocks that are
 * never the pool's.  Whether they agree with the maps is not judged: whoever
 * walks compares (durable.c), and `farpage check` does in full.
 *
 * Locks: fold_lock, for one leaf at a time; fn is called without it.
 */

#include <config.h>

#include "freemap-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "log.h"

#define BITMAP_WORDS (DISK_FREEMAP_BITS / 64)

_Static_assert(DISK_FREEMAP_BITS % 64 == 0, "a leaf is whole words");

static struct log_limit damage_limit;

/* ---- a leaf ---- */

int
freemap_leaf (struct freemap *fm, struct fm_volume *v, uint64_t index,
              struct buf **leafp)
{
  int err = tree_get (&v->tree, index, leafp);

  if (err == 0 && *leafp == NULL) {
    log_limited (&damage_limit, LOG_ERROR,
                 "free map: volume %u has no node for blocks from %" PRIu64
                 " on (run 'farpage check')",
                 (unsigned) (v - fm->volumes), index * DISK_FREEMAP_BITS);
    err = EIO;
  }
  return err;
}

unsigned
freemap_set_bits (uint8_t *bits, unsigned bit, unsigned nr, bool used)
{
  unsigned changed = 0;

  while (nr > 0) {
    unsigned n = (unsigned) min_u64 (nr, 8 - bit % 8);
    uint8_t mask = (uint8_t) (((1u << n) - 1) << bit % 8);
    uint8_t *byte = &bits[bit / 8];
    uint8_t new = used ? *byte | mask : *byte &(uint8_t) ~mask;

    changed += (unsigned) __builtin_popcount (*byte ^ new);
    *byte = new;
    bit += n;
    nr -= n;
  }
  return changed;
}

/* ---- all leaves ---- */

struct walk {
  struct freemap *fm;
  struct fm_volume *v;
  struct space_run run; /* not told yet; nr 0: none */
  int (*fn) (void *arg, const struct space_run *run);
  void *arg;
};

/* The first bit from this one on that is (or is not) set. */
static unsigned
next_bit (const uint64_t *words, unsigned bit, bool set)
{
  while (bit < DISK_FREEMAP_BITS) {
    uint64_t word = set ? words[bit / 64] : ~words[bit / 64];

    word >>= bit % 64;
    if (word != 0)
      return bit + (unsigned) __builtin_ctzll (word);
    bit = (bit / 64 + 1) * 64;
  }
  return DISK_FREEMAP_BITS;
}

static int
tell (struct walk *w)
{
  int err = w->run.nr > 0 ? w->fn (w->arg, &w->run) : 0;

  w->run.nr = 0;
  return err;
}

/* The places of [from, to) that lie in leaf, as bits of it. */
static unsigned
clip (uint64_t leaf, uint64_t from, uint64_t to, unsigned *bit)
{
  uint64_t base = leaf * DISK_FREEMAP_BITS;

  from = max_u64 (from, base);
  to = min_u64 (to, base + DISK_FREEMAP_BITS);
  *bit = (unsigned) (from - base);
  return from < to ? (unsigned) (to - from) : 0;
}

/* A leaf's bits, those of blocks that are not the pool's cleared.  NULL, or
 * what is wrong with it.
 */
static const char *
judge_leaf (struct fm_volume *v, const struct buf *leaf,
            uint64_t words[BITMAP_WORDS])
{
  uint64_t index = leaf->id.index;
  unsigned nr_used = 0, bit;
  unsigned nr = clip (index, 0, v->first, &bit);

  memcpy (words, freemap_node (leaf)->body, BITMAP_WORDS * sizeof *words);
  for (unsigned i = 0; i < BITMAP_WORDS; i++)
    nr_used += (unsigned) __builtin_popcountll (words[i]);
  if (nr_used != freemap_node (leaf)->nr_used)
    return "its count is not that of its bits";
  if (nr > 0 && freemap_set_bits ((uint8_t *) words, bit, nr, false) != nr)
    return "blocks before the pool's are marked as free";
  nr = clip (index, v->end, UINT64_MAX, &bit);
  if (nr > 0 && freemap_set_bits ((uint8_t *) words, bit, nr, false) != nr)
    return "blocks behind the pool's are marked as free";
  return NULL;
}

static int
read_leaf (struct walk *w, uint64_t index, uint64_t words[BITMAP_WORDS])
{
  const char *wrong;
  struct buf *leaf;
  int err;

  LOCK_SCOPE (&w->fm->fold_lock);
  err = freemap_leaf (w->fm, w->v, index, &leaf);
  if (err)
    return err;
  wrong = judge_leaf (w->v, leaf, words);
  buf_put (w->fm->bs, leaf);
  if (wrong == NULL)
    return 0;
  log_limited (&damage_limit, LOG_ERROR,
               "free map: volume %u, node for blocks from %" PRIu64
               " on: %s (run 'farpage check')",
               (unsigned) (w->v - w->fm->volumes), index * DISK_FREEMAP_BITS,
               wrong);
  return EIO;
}

static int
walk_leaf (struct walk *w, uint64_t index)
{
  uint64_t words[BITMAP_WORDS];
  blkno_t base = blkno_make ((unsigned) (w->v - w->fm->volumes),
                             index * DISK_FREEMAP_BITS);
  unsigned end = 0;
  int err = read_leaf (w, index, words);

  while (err == 0 && end < DISK_FREEMAP_BITS) {
    unsigned bit = next_bit (words, end, true);

    end = next_bit (words, bit, false);
    if (bit == end)
      break;
    if (w->run.nr > 0 && w->run.blk + w->run.nr == base + bit) {
      w->run.nr += end - bit;
      continue;
    }
    err = tell (w);
    w->run = (struct space_run){ base + bit, end - bit };
  }
  return err;
}

int
freemap_each (struct freemap *fm, unsigned volume,
              int (*fn) (void *arg, const struct space_run *run), void *arg)
{
  struct walk w = { .fm = fm, .v = &fm->volumes[volume], .fn = fn, .arg = arg };
  int err = 0;

  for (uint64_t i = 0; i < w.v->nr_leaves && err == 0; i++)
    err = walk_leaf (&w, i);
  return err ? err : tell (&w);
}
