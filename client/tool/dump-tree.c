/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage dump --node, --table, --freemap, --object: the trees.
 *
 * A walk goes down from a root pointer.  What a pointer leads to must be the
 * node it ought to be (address, tree, level, index, cycle, CRC); one that is
 * not is printed as bad, and nothing behind it is followed.  So levels fall on
 * every way, no two ways lead to one node (it has one index), and a walk ends;
 * DUMP_LINKS_MAX is there for when this is wrong.
 */

#include <config.h>

#include "dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "disk-json.h"
#include "swmeta.h"
#include "tree.h"

/* A row of pages or blocks that are alike, gathered over leaves. */
struct run {
  uint64_t first, nr, word;
};

struct walk {
  struct dump *d;
  uint64_t tree;
  enum disk_node_type type; /* of leaves */
  void (*leaf) (struct walk *w, const struct disk_node *leaf);
  uint64_t nr_blocks; /* --freemap: of the volume */
  struct run run;
  uint64_t nr_used;         /* --freemap: blocks; --table: objects */
  uint64_t id;              /* --object: which */
  struct disk_object found; /* --object */
};

/* ---- walking */

static void walk_node (struct walk *w, const struct disk_pointer *at,
                       unsigned level, uint64_t index);

static void
walk_children (struct walk *w, const struct disk_node *node)
{
  const struct disk_inner *inner = (const struct disk_inner *) node->body;

  for (unsigned i = 0; i < DISK_FANOUT; i++)
    if (inner->child[i].blk != 0 || inner->child[i].cycle != 0)
      walk_node (w, &inner->child[i], node->level - 1u,
                 node->index * DISK_FANOUT + i);
}

static const char *
walk_read (struct walk *w, const struct disk_pointer *at,
           const struct buf_id *id, struct disk_node *node)
{
  unsigned type = id->level > 0 ? DISK_NODE_INNER : w->type;
  const char *why = dump_read (w->d, at->blk, node);

  if (why == NULL)
    why = buf_node_error (node, w->d->root.uuid, id, type, at->blk);
  if (why == NULL && node->cycle != at->cycle)
    why = "is of another cycle than what points to it";
  return why;
}

static void
walk_node (struct walk *w, const struct disk_pointer *at, unsigned level,
           uint64_t index)
{
  const struct buf_id id = { .tree = w->tree, .index = index, .level = level };
  struct disk_node *node = w->d->node[level];
  const char *why;
  json_t *item;

  if (w->d->nr_links++ >= DUMP_LINKS_MAX) {
    if (w->d->nr_links == DUMP_LINKS_MAX + 1)
      complain (NULL, "more than %u nodes: the rest is left out",
                DUMP_LINKS_MAX);
    w->d->bad = true;
    return;
  }
  why = walk_read (w, at, &id, node);
  if (why == NULL && level > 0)
    walk_children (w, node);
  else if (why == NULL)
    w->leaf (w, node);
  if (why == NULL)
    return;
  item = item_new ("node", "%u:%" PRIu64 ", level %u, index %" PRIu64,
                   blkno_volume (at->blk), blkno_place (at->blk), level, index);
  json_object_set_new (item, "wanted_cycle", item_number (at->cycle));
  dump_item (w->d, item, why);
}

static void
walk (struct walk *w, const struct disk_pointer *root, unsigned height)
{
  if (root->blk != 0 && height <= TREE_HEIGHT_MAX)
    walk_node (w, root, height, 0);
}

/* ---- one node */

void
dump_node (struct dump *d, uint64_t blk)
{
  struct disk_node *node = d->node[0];
  json_t *item =
      item_new ("node", "%u:%" PRIu64, blkno_volume (blk), blkno_place (blk));
  const char *why = dump_read (d, blk, node);

  if (why == NULL) {
    why = buf_node_error (node, d->root_known ? d->root.uuid : NULL, NULL, 0,
                          blk);
    if (node->magic == DISK_NODE_MAGIC)
      node_json (item, node);
  }
  dump_item (d, item, why);
}

/* ---- the object table */

/* NULL, or what is wrong with an entry that is not empty. */
static const char *
object_error (const struct disk_object *o)
{
  if (o->state != DISK_OBJECT_LIVE && o->state != DISK_OBJECT_DYING)
    return "its state is unknown";
  if (o->id < DISK_TREE_FIRST)
    return "its id is impossible";
  if (o->name_bytes > sizeof o->name)
    return "its name is too long";
  if (o->height > TREE_HEIGHT_MAX)
    return "its height is impossible";
  return NULL;
}

static void
table_leaf (struct walk *w, const struct disk_node *leaf)
{
  const struct disk_table *table = (const struct disk_table *) leaf->body;
  static const struct disk_object none;

  for (unsigned i = 0; i < DISK_TABLE_OBJECTS; i++) {
    const struct disk_object *o = &table->object[i];
    json_t *item;

    if (memcmp (o, &none, sizeof none) == 0)
      continue;
    w->nr_used++;
    item = item_new ("object", "0x%" PRIx64 ", place %" PRIu64, o->id,
                     leaf->index * DISK_TABLE_OBJECTS + i);
    object_json (item, o);
    dump_item (w->d, item, object_error (o));
  }
}

void
dump_table (struct dump *d)
{
  struct walk w = {
    .d = d, .tree = DISK_TREE_TABLE, .type = DISK_NODE_TABLE, .leaf = table_leaf
  };
  json_t *item;

  walk (&w, &d->root.table, d->root.table_height);
  item = item_new ("table", "of %s", d->by[0]->name);
  json_object_set_new (item, "nr_objects", item_number (w.nr_used));
  item_print (item, d->as_json);
}

/* ---- free maps */

static void
used_end (struct walk *w)
{
  json_t *item;

  if (w->run.nr == 0)
    return;
  item = item_new ("used", "%" PRIu64 ":%" PRIu64, w->tree - DISK_TREE_FREEMAP,
                   w->run.first);
  json_object_set_new (item, "nr_blocks", item_number (w->run.nr));
  item_print (item, w->d->as_json);
  w->run.nr = 0;
}

/* Bits behind the volume's end are set, too, and are nobody's. */
static void
freemap_leaf (struct walk *w, const struct disk_node *leaf)
{
  const struct disk_freemap *map = (const struct disk_freemap *) leaf->body;
  uint64_t base = leaf->index * DISK_FREEMAP_BITS;
  uint32_t nr_set = 0;

  for (unsigned i = 0; i < DISK_FREEMAP_BITS; i++) {
    if ((map->bits[i / 8] >> i % 8 & 1) == 0)
      continue;
    nr_set++;
    if (base + i >= w->nr_blocks)
      continue;
    if (w->run.nr == 0 || w->run.first + w->run.nr != base + i) {
      used_end (w);
      w->run.first = base + i;
    }
    w->run.nr++;
    w->nr_used++;
  }
  if (nr_set != leaf->nr_used)
    dump_item (w->d,
               item_new ("node", "%u:%" PRIu64, blkno_volume (leaf->blk),
                         blkno_place (leaf->blk)),
               "its count of bits is wrong");
}

void
dump_freemap (struct dump *d)
{
  for (unsigned i = 0; i < d->root.nr_volumes; i++) {
    const struct disk_member *m = &d->root.members[i];
    struct walk w = { .d = d,
                      .tree = DISK_TREE_FREEMAP + i,
                      .type = DISK_NODE_FREEMAP,
                      .leaf = freemap_leaf,
                      .nr_blocks = m->nr_blocks };
    json_t *item;

    walk (&w, &m->freemap, m->freemap_height);
    used_end (&w);
    item = item_new ("freemap", "of volume %u", i);
    json_object_set_new (item, "nr_blocks", item_number (m->nr_blocks));
    json_object_set_new (item, "nr_used", item_number (w.nr_used));
    item_print (item, d->as_json);
  }
}

/* ---- an object's map */

static void
pages_end (struct walk *w)
{
  json_t *item;

  if (w->run.nr == 0)
    return;
  item = item_new ("pages", "%" PRIu64, w->run.first);
  json_object_set_new (item, "nr_pages", item_number (w->run.nr));
  json_object_set_new (item, "kind", json_string (word_kind (w->run.word)));
  if (swmeta_kind (w->run.word) == SWMETA_BLOCK)
    json_object_set_new (item, "block",
                         item_block (swmeta_blkno (w->run.word)));
  item_print (item, w->d->as_json);
  w->run.nr = 0;
}

/* Does page go on where the run ends? */
static bool
goes_on (const struct run *run, uint64_t page, uint64_t word)
{
  bool block = swmeta_kind (word) == SWMETA_BLOCK;

  return run->nr > 0 && run->first + run->nr == page &&
         word == run->word + (block ? run->nr : 0);
}

static void
map_leaf (struct walk *w, const struct disk_node *leaf)
{
  const struct disk_map *map = (const struct disk_map *) leaf->body;

  for (unsigned i = 0; i < DISK_MAP_PAGES; i++) {
    uint64_t page = leaf->index * DISK_MAP_PAGES + i, word = map->word[i];

    if (word == 0)
      continue;
    if (!goes_on (&w->run, page, word)) {
      pages_end (w);
      w->run = (struct run){ .first = page, .word = word };
    }
    w->run.nr++;
    w->nr_used++;
  }
}

static void
find_leaf (struct walk *w, const struct disk_node *leaf)
{
  const struct disk_table *table = (const struct disk_table *) leaf->body;

  for (unsigned i = 0; i < DISK_TABLE_OBJECTS; i++)
    if (table->object[i].state != DISK_OBJECT_FREE &&
        table->object[i].id == w->id)
      w->found = table->object[i];
}

void
dump_object (struct dump *d, uint64_t id)
{
  struct walk w = { .d = d,
                    .tree = DISK_TREE_TABLE,
                    .type = DISK_NODE_TABLE,
                    .leaf = find_leaf,
                    .id = id };
  json_t *item = item_new ("object", "0x%" PRIx64, id);
  const char *why;

  walk (&w, &d->root.table, d->root.table_height);
  if (w.found.state == DISK_OBJECT_FREE) {
    dump_item (d, item, "there is no such object");
    return;
  }
  why = object_error (&w.found);
  object_json (item, &w.found);
  dump_item (d, item, why);
  w.tree = id;
  w.type = DISK_NODE_MAP;
  w.leaf = map_leaf;
  if (why == NULL)
    walk (&w, &w.found.root, w.found.height);
  pages_end (&w);
}
