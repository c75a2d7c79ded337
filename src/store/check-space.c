/* SPDX-License-Identifier: BSD-2-Clause */
/* Check, fifth phase: the free map of each volume against what is named.
 *
 *                 named          not named
 *   bit 1         in use         leaked: is never used again
 *   bit 0         LOST: will     free
 *                 be given away
 *                 to another
 *
 * As long as some node of a map cannot be read, what is below it is named and
 * not known to be: then leaked blocks are told and left alone.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crc32c.h"

struct freemap_walk {
  unsigned volume;
  uint64_t nr_leaves, nr_seen;
  /* A run of blocks with one fault, over leaves. */
  enum check_kind kind;
  uint64_t first, nr;
};

static void
tell_run (struct check *c, struct freemap_walk *f)
{
  struct check_place at = CHECK_NOWHERE;

  if (f->nr == 0)
    return;
  at.blk = blkno_make (f->volume, f->first);
  at.nr_blocks = f->nr;
  at.repair = f->kind == CHECK_LOST ? "in use from now on"
              : c->maps_broken      ? NULL
                                    : "free from now on";
  check_tell (c, f->kind, &at, "%s",
              f->kind == CHECK_LOST
                  ? "in use, and the free map says free: would be overwritten"
              : c->maps_broken
                  ? "nothing that can be read uses it, and the free map says "
                    "in use"
                  : "nothing uses it, and the free map says in use");
  f->nr = 0;
}

static void
add_block (struct check *c, struct freemap_walk *f, uint64_t place,
           enum check_kind kind)
{
  if (f->nr > 0 && (f->kind != kind || f->first + f->nr != place))
    tell_run (c, f);
  if (f->nr++ == 0) {
    f->first = place;
    f->kind = kind;
  }
}

static void
compare_byte (struct check *c, struct freemap_walk *f, uint64_t place,
              uint8_t says, uint8_t is)
{
  for (unsigned bit = 0; bit < 8; bit++)
    if (((says ^ is) >> bit & 1) != 0)
      add_block (c, f, place + bit,
                 (is >> bit & 1) != 0 ? CHECK_LOST : CHECK_LEAKED);
}

static uint32_t
count_bits (const uint8_t *bits)
{
  uint32_t nr = 0;

  for (unsigned i = 0; i < DISK_NODE_BODY; i++)
    nr += (uint32_t) __builtin_popcount (bits[i]);
  return nr;
}

/* What the leaf should hold: what is named; and, as long as not all names are
 * known, what it says.
 */
static bool
fix_leaf (struct check *c, struct disk_node *leaf, const uint8_t *is)
{
  for (unsigned i = 0; i < DISK_NODE_BODY; i++)
    leaf->body[i] = c->maps_broken ? leaf->body[i] | is[i] : is[i];
  leaf->nr_used = count_bits (leaf->body);
  return true;
}

static bool
freemap_leaf (struct check_walk *w, struct disk_node *leaf)
{
  struct freemap_walk *f = w->arg;
  struct check *c = w->c;
  const uint8_t *is = c->owned[f->volume] + leaf->index * DISK_NODE_BODY;
  bool wrong = memcmp (leaf->body, is, DISK_NODE_BODY) != 0;
  struct check_place at = CHECK_NOWHERE;

  f->nr_seen++;
  for (unsigned i = 0; i < DISK_NODE_BODY && wrong; i++)
    if (leaf->body[i] != is[i])
      compare_byte (c, f, leaf->index * DISK_FREEMAP_BITS + 8 * i,
                    leaf->body[i], is[i]);
  if (leaf->nr_used != count_bits (leaf->body)) {
    at.blk = leaf->blk;
    at.tree = w->tree;
    at.repair = "is put right";
    check_tell (c, CHECK_COUNT, &at,
                "the node has another number of blocks than it says");
    wrong = true;
  }
  return wrong && c->fix && fix_leaf (c, leaf, is);
}

/* ---- made anew ---- */

static void
node_begin (const struct check *c, struct disk_node *node, unsigned volume,
            unsigned level, uint64_t index)
{
  memset (node, 0, sizeof *node);
  node->magic = DISK_NODE_MAGIC;
  node->version = 1;
  node->type = level == 0 ? DISK_NODE_FREEMAP : DISK_NODE_INNER;
  node->level = (uint8_t) level;
  node->cycle = c->root.members[volume].freemap.cycle;
  node->tree = DISK_TREE_FREEMAP + volume;
  node->index = index;
  memcpy (node->uuid, c->root.uuid, sizeof node->uuid);
}

/* A node whose children lie from block below on, nr_below of them. */
static void
fill (const struct check *c, struct disk_node *node, unsigned volume,
      uint64_t below, uint64_t nr_below)
{
  struct disk_pointer *child = ((struct disk_inner *) node->body)->child;
  uint64_t base = node->index * DISK_FANOUT;

  if (node->level == 0) {
    memcpy (node->body, c->owned[volume] + node->index * DISK_NODE_BODY,
            DISK_NODE_BODY);
    node->nr_used = count_bits (node->body);
    return;
  }
  for (uint64_t i = base; i < base + DISK_FANOUT && i < nr_below; i++) {
    child[i - base].blk = blkno_make (volume, below + i);
    child[i - base].cycle = node->cycle;
    node->nr_used++;
  }
}

/* The whole tree, laid out as format does, in the cycle of its root. */
static int
make_anew (struct check *c, unsigned volume)
{
  const struct disk_member *m = &c->root.members[volume];
  struct disk_node *node = &c->nodes[0];
  uint64_t nr = (m->nr_blocks - 1) / DISK_FREEMAP_BITS + 1;
  uint64_t first = m->freemap_first, below = 0, nr_below = 0;

  for (unsigned level = 0; level <= m->freemap_height; level++) {
    for (uint64_t i = 0; i < nr; i++) {
      int err;

      node_begin (c, node, volume, level, i);
      node->blk = blkno_make (volume, first + i);
      fill (c, node, volume, below, nr_below);
      node->crc = crc32c (0, node, DISK_CRC_OFF);
      err = check_write (c, node->blk, node);
      if (err)
        return err;
    }
    below = first;
    nr_below = nr;
    first += nr;
    nr = (nr - 1) / DISK_FANOUT + 1;
  }
  return 0;
}

/* Without a good tree: it can be made anew if all names are known, and if it
 * lies as format lays it.
 */
static int
mend (struct check *c, unsigned volume)
{
  const struct disk_member *m = &c->root.members[volume];
  uint64_t last = m->freemap_first + m->freemap_blocks - 1;

  if (c->maps_broken || m->freemap.blk != blkno_make (volume, last)) {
    check_note (c,
                "%s: its free map is not made anew, for not all maps can be "
                "read (see --lose-pages)",
                c->volumes[volume]->name);
    return 0;
  }
  return make_anew (c, volume);
}

static int
check_freemap (struct check *c, unsigned volume)
{
  struct disk_member *m = &c->root.members[volume];
  struct freemap_walk f = { .volume = volume };
  struct check_walk w = {
    .c = c,
    .tree = DISK_TREE_FREEMAP + volume,
    .leaf_type = DISK_NODE_FREEMAP,
    .height = m->freemap_height,
    .leaf = freemap_leaf,
    .arg = &f,
  };
  struct disk_pointer root = m->freemap;
  int err;

  f.nr_leaves = w.nr_leaves = (m->nr_blocks - 1) / DISK_FREEMAP_BITS + 1;
  err = check_walk (&w, &root);
  if (err)
    return err;
  tell_run (c, &f);
  if (f.nr_seen != f.nr_leaves && !w.broken) {
    struct check_place at = CHECK_NOWHERE;

    at.volume = c->volumes[volume];
    at.tree = w.tree;
    at.repair = "is made anew";
    check_tell (c, CHECK_FREEMAP, &at,
                "of its %" PRIu64 " leaves %" PRIu64 " are there", f.nr_leaves,
                f.nr_seen);
  }
  return f.nr_seen != f.nr_leaves && c->fix ? mend (c, volume) : 0;
}

static void
count_used (struct check *c, unsigned volume)
{
  uint64_t nr_blocks = c->root.members[volume].nr_blocks, nr = 0;
  uint64_t nr_leaves = (nr_blocks - 1) / DISK_FREEMAP_BITS + 1;

  for (uint64_t i = 0; i < nr_leaves; i++)
    nr += count_bits (c->owned[volume] + i * DISK_NODE_BODY);
  c->report->nr_used += nr - (nr_leaves * DISK_FREEMAP_BITS - nr_blocks);
}

int
check_freemaps (struct check *c)
{
  int err = check_tick (c, CHECK_PHASE_BLOCKS, 0, 0);

  for (unsigned i = 0; i < c->nr_volumes && err == 0; i++) {
    count_used (c, i);
    err = check_freemap (c, i);
  }
  return err;
}
