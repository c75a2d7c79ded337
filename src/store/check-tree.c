/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: a walk through a tree of META, whatever its nodes hold.
 *
 *   check_walk --> node (root) --> node (child) ... --> w->leaf (node)
 *
 * I1. A node is looked at only if it is the one that its pointer wants: block,
 *     tree, level, index and cycle, all in its head, under its CRC.  So levels
 *     fall, and no way leads round.
 * I2. In one pass a block is a node once: a second pointer to it is told and
 *     not followed.  So a walk reads no more nodes than there are blocks.
 * I3. With c->fix a pointer that leads to no good node goes only if pages may
 *     be lost; counts are put right.  A node that was changed keeps its cycle,
 *     so nothing above it must change.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc32c.h"

/* A node on the way down. */
struct step {
  unsigned level;
  uint64_t index;
  struct disk_pointer *at; /* in the node above, or the root */
};

bool
check_block_ok (const struct check *c, uint64_t blk)
{
  unsigned volume = blkno_volume (blk);
  uint64_t place = blkno_place (blk);

  return blk >> 60 == 0 && volume < c->nr_volumes &&
         place >= super_first_block (&c->root, volume) &&
         place < c->root.members[volume].nr_blocks - SLOTS_END;
}

/* The free map's nodes lie in an area of their own. */
static bool
place_ok (const struct check_walk *w, uint64_t blk)
{
  const struct disk_member *m;
  uint64_t volume = w->tree - DISK_TREE_FREEMAP;

  if (w->leaf_type != DISK_NODE_FREEMAP)
    return check_block_ok (w->c, blk);
  m = &w->c->root.members[volume];
  return blkno_volume (blk) == volume && blk >> 60 == 0 &&
         blkno_place (blk) >= m->freemap_first &&
         blkno_place (blk) - m->freemap_first < m->freemap_blocks;
}

/* The pages, or what else, that a node covers. */
static void
set_range (const struct check_walk *w, const struct step *s,
           struct check_place *at)
{
  uint64_t nr = w->leaf_pages << (DISK_FANOUT_SHIFT * s->level);

  if (w->leaf_type != DISK_NODE_MAP)
    return;
  at->pgno = s->index * nr;
  at->nr_pages = nr;
}

static void __attribute__ ((format (printf, 3, 4)))
tell (struct check_walk *w, const struct step *s, const char *fmt, ...)
{
  struct check_place at = CHECK_NOWHERE;
  enum check_kind kind =
      w->leaf_type == DISK_NODE_FREEMAP ? CHECK_FREEMAP : CHECK_NODE;
  char what[160];
  va_list args;

  w->broken = true;
  if (w->c->pass != PASS_LOOK)
    return;
  va_start (args, fmt);
  vsnprintf (what, sizeof what, fmt, args);
  va_end (args);
  at.tree = w->tree;
  set_range (w, s, &at);
  if (place_ok (w, s->at->blk))
    at.blk = s->at->blk;
  if (at.nr_pages > 1)
    w->c->report->nr_pages_lost += at.nr_pages;
  if (w->leaf_type == DISK_NODE_FREEMAP)
    at.repair = "the free map is made anew";
  else if (w->leaf_type == DISK_NODE_MAP && w->c->lose_pages)
    at.repair = "its pages become holes";
  check_tell (w->c, kind, &at, "node %" PRIu64 " of level %u: %s", s->index,
              s->level, what);
}

/* Read the node and judge all but what it holds. */
static bool
load (struct check_walk *w, const struct step *s, struct disk_node *node)
{
  const struct buf_id id = { w->tree, s->index, s->level };
  const char *why;

  if (!place_ok (w, s->at->blk)) {
    tell (w, s, "its pointer leads to block %#" PRIx64 ", where no node can be",
          s->at->blk);
    return false;
  }
  if (!(s->level == 0 && check_ahead_take (w->c, s->at->blk, node)) &&
      check_read (w->c, s->at->blk, node) != 0) {
    tell (w, s, "cannot be read");
    return false;
  }
  why = buf_node_error (node, w->c->root.uuid, &id,
                        s->level > 0 ? DISK_NODE_INNER : w->leaf_type,
                        s->at->blk);
  if (why == NULL && node->cycle != s->at->cycle)
    why = node->cycle < s->at->cycle ? "is older than what points to it"
                                     : "is newer than what points to it";
  if (why != NULL)
    tell (w, s, "%s", why);
  return why == NULL;
}

static void
tell_node (struct check_walk *w, const struct step *s, enum check_kind kind,
           const char *repair, const char *what)
{
  struct check_place at = CHECK_NOWHERE;

  if (w->c->pass != PASS_LOOK)
    return;
  at.blk = s->at->blk;
  at.tree = w->tree;
  at.repair = repair;
  set_range (w, s, &at);
  check_tell (w->c, kind, &at, "node %" PRIu64 " of level %u: %s", s->index,
              s->level, what);
}

/* A pointer that is none, or can be followed. */
static bool
pointer_ok (struct check_walk *w, const struct step *s)
{
  const unsigned shift = DISK_FANOUT_SHIFT * s->level;

  if (s->at->blk == 0 && s->at->cycle == 0)
    return true;
  if (s->at->blk == 0)
    tell (w, s, "its pointer has a cycle and no block");
  else if (s->index > (w->nr_leaves - 1) >> shift)
    tell (w, s, "lies behind the last");
  else
    return true;
  return false;
}

static int node (struct check_walk *w, const struct step *s);

static int
children (struct check_walk *w, const struct step *s, struct disk_node *n,
          bool *changed)
{
  struct disk_pointer *child = ((struct disk_inner *) n->body)->child;
  const size_t tail = sizeof (struct disk_inner);
  uint32_t nr = 0;

  if (!check_all_zero (n->body + tail, DISK_NODE_BODY - tail))
    tell_node (w, s, CHECK_ENTRY, NULL, "has something behind its pointers");
  if (s->level == 1)
    check_ahead_read (w->c, child);
  for (unsigned i = 0; i < DISK_FANOUT; i++) {
    struct step below = { s->level - 1, (s->index << DISK_FANOUT_SHIFT) + i,
                          &child[i] };
    struct disk_pointer was = child[i];
    int err = 0;

    if (!pointer_ok (w, &below)) {
      if (w->c->fix && w->c->lose_pages)
        child[i] = (struct disk_pointer){ 0, 0 };
    } else if (child[i].blk != 0)
      err = node (w, &below);
    if (err)
      return err;
    *changed |= was.blk != child[i].blk || was.cycle != child[i].cycle;
    nr += child[i].blk != 0;
  }
  if (n->nr_used != nr) {
    if (!*changed)
      tell_node (w, s, CHECK_COUNT, "is put right",
                 "it has another number of pointers than it says");
    *changed |= w->c->fix && n->nr_used != nr;
    n->nr_used = w->c->fix ? nr : n->nr_used;
  }
  return 0;
}

/* It is one's own, as long as nobody else has it as a node. */
static bool
own (struct check_walk *w, const struct step *s)
{
  struct check_place at = CHECK_NOWHERE;
  struct check_owner owner = { .tree = w->tree, .node = true };

  set_range (w, s, &at);
  owner.pgno = at.pgno;
  return check_own (w->c, &owner, s->at->blk);
}

/* A node that is not good: with c->fix, and if it may be, it is cut off. */
static void
drop (struct check_walk *w, const struct step *s)
{
  if (w->c->fix && w->c->lose_pages && w->c->pass == PASS_LOOK &&
      w->leaf_type == DISK_NODE_MAP)
    *s->at = (struct disk_pointer){ 0, 0 };
}

static int
node (struct check_walk *w, const struct step *s)
{
  struct disk_node *n = &w->c->nodes[s->level];
  bool changed = false;
  int err;

  err =
      check_tick (w->c, CHECK_PHASE_MAPS, w->c->nr_walked++, w->c->nr_to_walk);
  if (err)
    return err;
  if (!load (w, s, n)) {
    drop (w, s);
    return 0;
  }
  if (!own (w, s)) {
    tell (w, s, "is a node of this or another tree already");
    drop (w, s);
    return 0;
  }
  w->nr_nodes++;
  if (s->level > 0)
    err = children (w, s, n, &changed);
  else
    changed = w->leaf (w, n);
  if (err || !changed || !w->c->fix)
    return err;
  n->crc = crc32c (0, n, DISK_CRC_OFF);
  return check_write (w->c, s->at->blk, n);
}

int
check_walk (struct check_walk *w, struct disk_pointer *root)
{
  const struct step s = { w->height, 0, root };

  w->nr_nodes = 0;
  w->broken = false;
  if (!pointer_ok (w, &s)) {
    drop (w, &s);
    return 0;
  }
  return root->blk != 0 ? node (w, &s) : 0;
}
