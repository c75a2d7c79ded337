/* SPDX-License-Identifier: BSD-2-Clause */
/* Structures of disk.h, field by field, under the names they have there.
 * Called by info.c and dump*.c.
 *
 * Whatever the bytes are, nothing outside a structure is read: counts in it
 * are cut to what it has room for.
 */

#include <config.h>

#include "disk-json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "flush.h"
#include "item.h"
#include "swmeta.h"

static void
set_number (json_t *to, const char *key, uint64_t n)
{
  json_object_set_new (to, key, item_number (n));
}

static void
set_flags (json_t *to, const char *key, uint64_t n)
{
  char text[32];

  snprintf (text, sizeof text, "0x%" PRIx64, n);
  json_object_set_new (to, key, json_string (text));
}

/* name, or the number if there is none. */
static void
set_name (json_t *to, const char *key, const char *name, uint64_t n)
{
  json_object_set_new (to, key,
                       name != NULL ? json_string (name) : item_number (n));
}

/* Two keys, or the first one null if it points to nothing. */
static void
set_pointer (json_t *to, const char *key, const struct disk_pointer *at)
{
  char text[64];

  if (at->blk == 0 && at->cycle == 0) {
    json_object_set_new (to, key, json_null ());
    return;
  }
  json_object_set_new (to, key, item_block (at->blk));
  snprintf (text, sizeof text, "%s_cycle", key);
  set_number (to, text, at->cycle);
}

/* ---- superblock ---- */

static const char *
state_name (uint32_t state)
{
  return state == DISK_CLEAN ? "clean" : state == DISK_IN_USE ? "in use" : NULL;
}

static void
members_json (json_t *to, const struct disk_super *p)
{
  json_t *members = json_array ();

  for (unsigned i = 0; i < p->nr_volumes && i < DISK_VOLUMES; i++) {
    const struct disk_member *m = &p->members[i];
    json_t *member = json_object ();

    set_number (member, "volume", i);
    set_number (member, "nr_blocks", m->nr_blocks);
    set_pointer (member, "freemap", &m->freemap);
    set_number (member, "freemap_height", m->freemap_height);
    set_number (member, "freemap_first", m->freemap_first);
    set_number (member, "freemap_blocks", m->freemap_blocks);
    json_array_append_new (members, member);
  }
  json_object_set_new (to, "members", members);
}

static void
retired_json (json_t *to, const struct disk_super *p)
{
  json_t *retired = json_array ();

  for (unsigned i = 0; i < DISK_RETIRED && p->retired[i].nr != 0; i++) {
    json_t *run = json_object ();

    set_number (run, "volume", blkno_volume (p->retired[i].blk));
    set_number (run, "block", blkno_place (p->retired[i].blk));
    set_number (run, "count", p->retired[i].nr);
    json_array_append_new (retired, run);
  }
  json_object_set_new (to, "retired", retired);
}

void
super_json (json_t *to, const struct disk_super *p)
{
  json_object_set_new (to, "magic", item_text (p->magic, sizeof p->magic));
  set_number (to, "version", p->version);
  set_number (to, "slot", p->slot);
  set_flags (to, "compat", p->compat);
  set_flags (to, "ro_compat", p->ro_compat);
  set_flags (to, "incompat", p->incompat);
  json_object_set_new (to, "uuid", item_hex (p->uuid, sizeof p->uuid));
  set_number (to, "volume", p->volume);
  set_number (to, "nr_volumes", p->nr_volumes);
  set_number (to, "nr_blocks", p->nr_blocks);
  set_number (to, "sequence", p->sequence);
  set_number (to, "epoch", p->epoch);
  if (p->volume != 0)
    return;
  set_name (to, "state", state_name (p->state), p->state);
  set_number (to, "entry_bytes", p->entry_bytes);
  set_number (to, "ring_first", p->ring_first);
  set_number (to, "ring_blocks", p->ring_blocks);
  set_number (to, "cycle", p->cycle);
  set_number (to, "redo_lsn", p->redo_lsn);
  set_number (to, "redo_epoch", p->redo_epoch);
  set_number (to, "next_lsn", p->next_lsn);
  set_number (to, "durable_lsn", p->durable_lsn);
  set_flags (to, "staging", p->staging);
  set_flags (to, "next_object", p->next_object);
  set_number (to, "dirty_max", p->dirty_max);
  set_pointer (to, "table", &p->table);
  set_number (to, "table_height", p->table_height);
  members_json (to, p);
  retired_json (to, p);
}

/* ---- nodes ---- */

static const char *
node_type_name (unsigned type)
{
  static const char *const names[] = { NULL, "inner", "map", "table",
                                       "freemap" };

  return type < sizeof names / sizeof names[0] ? names[type] : NULL;
}

const char *
word_kind (uint64_t word)
{
  return word == 0                            ? "hole"
         : swmeta_kind (word) == SWMETA_BLOCK ? "block"
         : swmeta_kind (word) == SWMETA_ZERO  ? "zero"
                                              : "unknown";
}

/* What a map word says, and the CRC of its page. */
static void
word_json (json_t *to, uint64_t word, const uint32_t *crc)
{
  if (swmeta_kind (word) == SWMETA_BLOCK)
    json_object_set_new (to, "block", item_block (swmeta_blkno (word)));
  else if (word == swmeta_word (SWMETA_ZERO, 0) || word == 0)
    json_object_set_new (to, "kind", json_string (word_kind (word)));
  else
    set_flags (to, "word", word);
  if (crc != NULL && *crc != 0)
    set_flags (to, "crc", *crc);
}

static void
inner_json (json_t *to, const struct disk_inner *inner)
{
  json_t *children = json_array ();

  for (unsigned i = 0; i < DISK_FANOUT; i++) {
    json_t *child;

    if (inner->child[i].blk == 0 && inner->child[i].cycle == 0)
      continue;
    child = json_object ();
    set_number (child, "child", i);
    set_pointer (child, "blk", &inner->child[i]);
    json_array_append_new (children, child);
  }
  json_object_set_new (to, "children", children);
}

static void
map_json (json_t *to, const struct disk_map *map, uint64_t index)
{
  json_t *entries = json_array ();

  for (unsigned i = 0; i < DISK_MAP_PAGES; i++) {
    json_t *entry;

    if (map->word[i] == 0 && map->crc[i] == 0)
      continue;
    entry = json_object ();
    set_number (entry, "page", index * DISK_MAP_PAGES + i);
    word_json (entry, map->word[i], &map->crc[i]);
    json_array_append_new (entries, entry);
  }
  json_object_set_new (to, "entries", entries);
}

void
object_json (json_t *to, const struct disk_object *o)
{
  static const char *const states[] = { "free", "live", "dying" };

  set_flags (to, "id", o->id);
  json_object_set_new (to, "instance", item_hex (o->instance, 16));
  json_object_set_new (to, "name",
                       item_text (o->name, o->name_bytes < sizeof o->name
                                               ? o->name_bytes
                                               : sizeof o->name));
  set_number (to, "size_bytes", o->size_bytes);
  set_number (to, "old_bytes", o->old_bytes);
  set_name (to, "state", o->state < 3 ? states[o->state] : NULL, o->state);
  json_object_set_new (to, "shared",
                       json_boolean ((o->flags & DISK_OBJECT_SHARED) != 0));
  json_object_set_new (to, "reserved",
                       json_boolean ((o->flags & DISK_OBJECT_RESERVED) != 0));
  json_object_set_new (to, "unnamed",
                       json_boolean ((o->flags & DISK_OBJECT_UNNAMED) != 0));
  set_pointer (to, "root", &o->root);
  set_number (to, "height", o->height);
  set_number (to, "nr_mapped", o->nr_mapped);
  set_number (to, "nr_zero", o->nr_zero);
  set_number (to, "nr_nodes", o->nr_nodes);
  set_number (to, "created_s", o->created_s);
}

static void
table_json (json_t *to, const struct disk_table *table, uint64_t index)
{
  static const struct disk_object none;
  json_t *objects = json_array ();

  for (unsigned i = 0; i < DISK_TABLE_OBJECTS; i++) {
    json_t *object;

    if (memcmp (&table->object[i], &none, sizeof none) == 0)
      continue;
    object = json_object ();
    set_number (object, "place", index * DISK_TABLE_OBJECTS + i);
    object_json (object, &table->object[i]);
    json_array_append_new (objects, object);
  }
  json_object_set_new (to, "objects", objects);
}

static bool
bit (const struct disk_freemap *map, unsigned i)
{
  return (map->bits[i / 8] >> i % 8 & 1) != 0;
}

static void
freemap_json (json_t *to, const struct disk_freemap *map, uint64_t index)
{
  json_t *runs = json_array ();
  unsigned i = 0, end;

  while (i < DISK_FREEMAP_BITS) {
    json_t *run;

    for (end = i; end < DISK_FREEMAP_BITS && bit (map, end) == bit (map, i);)
      end++;
    if (bit (map, i)) {
      run = json_object ();
      set_number (run, "first", index * DISK_FREEMAP_BITS + i);
      set_number (run, "nr_blocks", end - i);
      json_array_append_new (runs, run);
    }
    i = end;
  }
  json_object_set_new (to, "used", runs);
}

void
node_head_json (json_t *to, const struct disk_node *node)
{
  set_name (to, "type", node_type_name (node->type), node->type);
  set_number (to, "level", node->level);
  json_object_set_new (to, "blk", item_block (node->blk));
  set_number (to, "cycle", node->cycle);
  set_flags (to, "tree", node->tree);
  set_number (to, "index", node->index);
  json_object_set_new (to, "uuid", item_hex (node->uuid, sizeof node->uuid));
  set_number (to, "nr_used", node->nr_used);
}

void
node_json (json_t *to, const struct disk_node *node)
{
  const void *body = node->body;

  node_head_json (to, node);
  switch (node->type) {
  case DISK_NODE_INNER:
    inner_json (to, body);
    break;
  case DISK_NODE_MAP:
    map_json (to, body, node->index);
    break;
  case DISK_NODE_TABLE:
    table_json (to, body, node->index);
    break;
  case DISK_NODE_FREEMAP:
    freemap_json (to, body, node->index);
    break;
  }
}

/* ---- log ---- */

static void
map_record_json (json_t *to, const struct disk_rec *rec)
{
  const uint32_t *crc = (const uint32_t *) (rec + 1);
  uint32_t room = (uint32_t) ((rec->bytes - sizeof *rec) / sizeof *crc);
  json_t *crcs = json_array ();
  char text[16];

  json_object_set_new (to, "block", item_block (rec->word));
  for (uint32_t i = 0; i < rec->nr && i < room; i++) {
    snprintf (text, sizeof text, "0x%08" PRIx32, crc[i]);
    json_array_append_new (crcs, json_string (text));
  }
  json_object_set_new (to, "crc", crcs);
}

static json_t *
record_json (const struct disk_rec *rec)
{
  static const char *const names[] = { NULL,   "map",    "zero",  "free",
                                       "node", "unnode", "object" };
  unsigned type = rec->type;
  json_t *to = json_object ();

  set_name (to, "record",
            type < sizeof names / sizeof names[0] ? names[type] : NULL, type);
  set_flags (to, "object", rec->object);
  if (type == DISK_REC_OBJECT) {
    set_number (to, "place", rec->pgno);
    if (rec->bytes >= sizeof *rec + sizeof (struct disk_object))
      object_json (to, (const struct disk_object *) (rec + 1));
  } else if (type == DISK_REC_NODE || type == DISK_REC_UNNODE) {
    set_number (to, "level", rec->nr);
    set_number (to, "index", rec->pgno);
    json_object_set_new (to, "block", item_block (rec->word));
  } else {
    set_number (to, "page", rec->pgno);
    set_number (to, "nr", rec->nr);
    if (type == DISK_REC_MAP)
      map_record_json (to, rec);
  }
  return to;
}

void
log_json (json_t *to, const struct disk_log *log)
{
  uint32_t end = log->bytes < DISK_LOG_BODY ? log->bytes : DISK_LOG_BODY;
  const struct disk_rec *rec;
  json_t *records;
  uint32_t pos = 0;

  set_name (to, "kind",
            log->kind == DISK_LOG_REDO   ? "redo"
            : log->kind == DISK_LOG_UNDO ? "undo"
                                         : NULL,
            log->kind);
  set_number (to, "lsn", log->lsn);
  set_number (to, "epoch", log->epoch);
  set_number (to, "durable", log->durable);
  set_number (to, "bytes", log->bytes);
  if (log->kind == DISK_LOG_UNDO) {
    json_object_set_new (to, "image_of", item_block (log->blk));
    node_head_json (to, (const struct disk_node *) log->body);
    return;
  }
  records = json_array ();
  while ((rec = undo_next_rec (log, end, &pos)) != NULL)
    json_array_append_new (records, record_json (rec));
  json_object_set_new (to, "records", records);
  if (pos < end)
    set_number (to, "bytes_behind", end - pos);
}
