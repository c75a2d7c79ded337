/* SPDX-License-Identifier: BSD-2-Clause */
/* Check, fourth phase: the page maps of all objects. */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "crc32c.h"
#include "objmeta.h"
#include "swmeta.h"

/* A row of pages with one fault. */
struct bad {
  pgno_t pgno;
  uint64_t nr;
  const char *what;
};

struct map_walk {
  struct check_object *o;
  pgno_t nr_pages;
};

static const char *
entry_error (const struct check *c, const struct map_walk *m, pgno_t pgno,
             uint64_t word, uint32_t crc)
{
  if (word == 0)
    return crc == 0 ? NULL : "a hole has a checksum";
  if (pgno >= m->nr_pages)
    return "lies behind the disk's end";
  switch (swmeta_kind (word)) {
  case SWMETA_ZERO:
    return swmeta_blkno (word) == 0 ? NULL : "a page of zeros has a block";
  case SWMETA_BLOCK:
    return check_block_ok (c, swmeta_blkno (word))
               ? NULL
               : "is in a block that is none of a page";
  default:
    return "its entry's kind is unknown";
  }
}

static void
tell_bad (struct check_walk *w, const struct disk_node *leaf, struct bad *bad)
{
  struct check_place at = CHECK_NOWHERE;

  if (bad->nr == 0)
    return;
  at.blk = leaf->blk;
  at.tree = w->tree;
  at.pgno = bad->pgno;
  at.nr_pages = bad->nr;
  at.repair = w->c->lose_pages ? "becomes a hole" : NULL;
  w->c->report->nr_pages_lost += bad->nr;
  check_tell (w->c, CHECK_ENTRY, &at, "%s", bad->what);
  bad->nr = 0;
}

static void
add_bad (struct check_walk *w, const struct disk_node *leaf, struct bad *bad,
         pgno_t pgno, const char *what)
{
  if (bad->nr > 0 && (bad->what != what || bad->pgno + bad->nr != pgno))
    tell_bad (w, leaf, bad);
  if (bad->nr++ == 0) {
    bad->pgno = pgno;
    bad->what = what;
  }
}

static bool
crc_right (struct check *c, uint64_t blk, uint32_t crc)
{
  struct disk_node *page = &c->nodes[TREE_LEVELS];

  return check_read (c, blk, page) == 0 &&
         crc32c (0, page, DISK_BLOCK_BYTES) == crc;
}

/* A page in a block that can be.  False: it must go. */
static bool
look_at_page (struct check_walk *w, pgno_t pgno, uint64_t blk, uint32_t crc)
{
  struct check *c = w->c;
  struct check_owner owner = { .tree = w->tree, .pgno = pgno };

  if (c->pass == PASS_DATA)
    check_data_add (c, w->tree, pgno, blk, crc);
  if (c->pass == PASS_OWNERS && check_is_twice (c, blk))
    owner.crc_right = crc_right (c, blk, crc);
  return check_own (c, &owner, blk);
}

/* All entries; returns how many there are. */
static uint32_t
look_at_entries (struct check_walk *w, struct disk_node *leaf, bool *changed)
{
  struct disk_map *map = (struct disk_map *) leaf->body;
  const struct map_walk *m = w->arg;
  struct check_object *o = m->o;
  const bool counts = w->c->pass == PASS_LOOK || w->c->pass == PASS_DROP;
  const bool fix = w->c->fix && w->c->lose_pages;
  struct bad bad = { 0, 0, NULL };
  uint32_t nr = 0;

  for (unsigned i = 0; i < DISK_MAP_PAGES; i++) {
    pgno_t pgno = leaf->index * DISK_MAP_PAGES + i;
    uint64_t word = map->word[i];
    const char *why = entry_error (w->c, m, pgno, word, map->crc[i]);
    bool block = why == NULL && swmeta_kind (word) == SWMETA_BLOCK;
    bool good = why == NULL;

    if (block)
      good = look_at_page (w, pgno, swmeta_blkno (word), map->crc[i]);
    if (why != NULL && w->c->pass == PASS_LOOK)
      add_bad (w, leaf, &bad, pgno, why);
    if (!good && fix) {
      map->word[i] = 0;
      map->crc[i] = 0;
      *changed = true;
    }
    nr += map->word[i] != 0;
    o->nr_mapped += counts && good && block;
    o->nr_zero += counts && good && swmeta_kind (word) == SWMETA_ZERO;
  }
  tell_bad (w, leaf, &bad);
  return nr;
}

static bool
map_leaf (struct check_walk *w, struct disk_node *leaf)
{
  struct check *c = w->c;
  struct check_place at = CHECK_NOWHERE;
  const size_t tail = sizeof (struct disk_map);
  bool changed = false;
  uint32_t nr = look_at_entries (w, leaf, &changed);

  at.blk = leaf->blk;
  at.tree = w->tree;
  at.pgno = leaf->index * DISK_MAP_PAGES;
  at.nr_pages = DISK_MAP_PAGES;
  if (c->pass == PASS_LOOK &&
      !check_all_zero (leaf->body + tail, DISK_NODE_BODY - tail))
    check_tell (c, CHECK_ENTRY, &at, "the node has something behind its end");
  if (leaf->nr_used == nr)
    return changed;
  at.repair = "is put right";
  if (c->pass == PASS_LOOK && !changed)
    check_tell (c, CHECK_COUNT, &at,
                "the node has another number of entries (%" PRIu32
                ") than it says (%" PRIu32 ")",
                nr, leaf->nr_used);
  leaf->nr_used = c->fix ? nr : leaf->nr_used;
  return c->fix;
}

static int
check_map (struct check *c, struct check_object *o)
{
  struct map_walk m = { .o = o };
  struct check_walk w = {
    .c = c,
    .tree = o->entry.id,
    .leaf_type = DISK_NODE_MAP,
    .height = o->entry.height,
    .leaf_pages = DISK_MAP_PAGES,
    .leaf = map_leaf,
    .arg = &m,
  };
  int err;

  m.nr_pages = objmeta_entry_pages (&o->entry);
  w.nr_leaves = (m.nr_pages - 1) / DISK_MAP_PAGES + 1;
  if (c->pass == PASS_LOOK || c->pass == PASS_DROP)
    o->nr_mapped = o->nr_zero = 0;
  err = check_walk (&w, &o->entry.root);
  if (c->pass != PASS_LOOK)
    return err;
  o->nr_nodes = w.nr_nodes;
  o->broken = w.broken;
  c->maps_broken |= w.broken && !(c->fix && c->lose_pages);
  return err;
}

int
check_maps (struct check *c)
{
  int err = 0;

  for (uint64_t i = 0; i < c->nr_objects && err == 0; i++)
    if (!c->objects[i].twin)
      err = check_map (c, &c->objects[i]);
  return err;
}
