/* SPDX-License-Identifier: BSD-2-Clause */
/* Check, third phase: the object table, and later its counts.
 *
 * Entries are judged as the server judges them when it opens the store, and
 * against each other: ids, names and instances are one object's alone.  An
 * entry that says nothing sure of its map (id, size, height) has its map not
 * looked at; its blocks' owners are not known then.
 *
 * Repaired is what loses nothing and needs no guess: the younger of two objects
 * with one name gets another name, of two with one instance another instance;
 * counts.  What an entry or a node of the table was before it became what it is
 * cannot be known, and what to do then is told.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "objtable.h"
#include "store-impl.h"

#define TABLE_LEAVES ((OBJTABLE_MAX - 1) / DISK_TABLE_OBJECTS + 1)
#define FLAGS_KNOWN \
  (DISK_OBJECT_SHARED | DISK_OBJECT_RESERVED | DISK_OBJECT_UNNAMED)

/* ---- one entry ---- */

static const char *
name_error (const struct disk_object *e)
{
  char name[sizeof e->name + 1] = { 0 };
  const char *id = name;

  if (e->name_bytes >= sizeof e->name)
    return "its name is too long";
  if (!check_all_zero (e->name + e->name_bytes,
                       sizeof e->name - e->name_bytes) ||
      memchr (e->name, 0, e->name_bytes) != NULL)
    return "its name is not as long as it says";
  if (e->name_bytes == 0 && e->state == DISK_OBJECT_DYING)
    return NULL;
  memcpy (name, e->name, e->name_bytes);
  if ((e->flags & DISK_OBJECT_UNNAMED) && strncmp (id, "swap/", 5) == 0)
    id += 5;
  return store_name_error (id);
}

/* What its map is walked by. */
static const char *
map_error (const struct disk_object *e)
{
  if (e->state != DISK_OBJECT_LIVE && e->state != DISK_OBJECT_DYING)
    return "its state is unknown";
  if (e->id < DISK_TREE_FIRST || e->id >= SUPER_COUNT_MAX)
    return "its id is impossible";
  if (e->size_bytes == 0 || e->size_bytes > OBJECT_BYTES_MAX)
    return "its size is out of range";
  if (e->old_bytes != 0 &&
      (e->old_bytes <= e->size_bytes || e->old_bytes > OBJECT_BYTES_MAX))
    return "its size before is out of range";
  if (objmeta_entry_pages (e) > OBJMETA_PAGES_MAX ||
      e->height < objmeta_height (objmeta_entry_pages (e)) ||
      e->height > TREE_HEIGHT_MAX)
    return "its map's height does not fit its size";
  return NULL;
}

static const char *
entry_error (const struct disk_object *e)
{
  const pgno_t nr_pages = objmeta_entry_pages (e);

  if ((e->flags & ~(uint32_t) FLAGS_KNOWN) != 0)
    return "it has unknown flags";
  if (check_all_zero (e->instance, sizeof e->instance))
    return "it has no instance";
  if (e->nr_mapped > nr_pages || e->nr_zero > nr_pages - e->nr_mapped)
    return "more of it is mapped than it has";
  if (!check_all_zero (e->seal, sizeof e->seal) ||
      !check_all_zero (e->spare, sizeof e->spare))
    return "its spare bytes are not zero";
  return name_error (e);
}

/* For messages: whatever the entry holds. */
static char *
show_name (const struct disk_object *e)
{
  char name[sizeof e->name + 1] = { 0 };
  char *to = malloc (sizeof name);

  if (to == NULL)
    return NULL;
  memcpy (name, e->name, min_u64 (e->name_bytes, sizeof e->name));
  export_name_show (name, to, sizeof name);
  return to;
}

static void
tell_repair (struct check *c, uint64_t place, const struct disk_object *e,
             enum check_kind kind, const char *what, const char *repair)
{
  struct check_place at = CHECK_NOWHERE;
  char *name = show_name (e);

  at.tree = DISK_TREE_TABLE;
  at.repair = repair;
  check_tell (c, kind, &at, "place %" PRIu64 ", '%s' (%#" PRIx64 "): %s", place,
              name != NULL ? name : "", e->id, what);
  free (name);
}

static void
tell (struct check *c, uint64_t place, const struct disk_object *e,
      enum check_kind kind, const char *what)
{
  tell_repair (c, place, e, kind, what, NULL);
}

static int
keep (struct check *c, uint64_t place, const struct disk_object *e)
{
  struct check_object *o;

  if (c->nr_objects == c->max_objects) {
    uint64_t max = c->max_objects * 2 + 4;

    o = realloc (c->objects, max * sizeof *o);
    if (o == NULL)
      return ENOMEM;
    c->objects = o;
    c->max_objects = max;
  }
  o = &c->objects[c->nr_objects];
  *o = (struct check_object){ .place = place, .entry = *e };
  o->name = show_name (e);
  if (o->name == NULL)
    return ENOMEM;
  c->nr_objects++;
  c->nr_to_walk += min_u64 (e->nr_nodes, c->report->nr_blocks);
  return 0;
}

/* Once, after the first of them. */
static void
note_entry (struct check *c)
{
  if (!c->entry_noted)
    check_note (c, "what an entry of the table was cannot be known from what "
                   "it is now, so it is not repaired, and no server opens the "
                   "store: put back copies of all its volumes that are of one "
                   "moment");
  c->entry_noted = true;
}

static bool
judge_entry (struct check *c, uint64_t place, const struct disk_object *e)
{
  const char *why = map_error (e);

  if (why == NULL && place >= OBJTABLE_MAX)
    why = "lies behind the last";
  if (why != NULL) {
    tell (c, place, e, CHECK_OBJECT, why);
    note_entry (c);
    c->maps_broken = true;
    return false;
  }
  why = entry_error (e);
  if (why != NULL) {
    tell (c, place, e, CHECK_OBJECT, why);
    note_entry (c);
  }
  return true;
}

/* ---- a leaf ---- */

/* Write what was counted, and roots, into the leaf. */
static bool
patch_leaf (struct check *c, struct disk_node *leaf)
{
  struct disk_table *table = (struct disk_table *) leaf->body;
  bool changed = false;

  for (uint64_t i = 0; i < c->nr_objects; i++) {
    const struct check_object *o = &c->objects[i];
    struct disk_object *e = &table->object[o->place % DISK_TABLE_OBJECTS];

    if (o->place / DISK_TABLE_OBJECTS != leaf->index || o->twin)
      continue;
    changed |= memcmp (e, &o->entry, sizeof *e) != 0;
    *e = o->entry;
  }
  return changed;
}

static bool
table_leaf (struct check_walk *w, struct disk_node *leaf)
{
  struct check *c = w->c;
  const struct disk_table *table = (const struct disk_table *) leaf->body;
  uint64_t place = leaf->index * DISK_TABLE_OBJECTS;
  uint32_t nr = 0;
  int *err = w->arg;

  if (c->pass == PASS_DATA)
    return patch_leaf (c, leaf);
  if (c->pass != PASS_LOOK)
    return false;
  for (unsigned i = 0; i < DISK_TABLE_OBJECTS; i++, place++) {
    const struct disk_object *e = &table->object[i];

    if (e->state == DISK_OBJECT_FREE) {
      if (!check_all_zero (e, sizeof *e))
        tell (c, place, e, CHECK_OBJECT, "its place is free and not empty");
      continue;
    }
    nr++;
    if (judge_entry (c, place, e) && *err == 0)
      *err = keep (c, place, e);
  }
  if (!check_all_zero (leaf->body + sizeof *table,
                       DISK_NODE_BODY - sizeof *table))
    tell (c, place - 1, &table->object[DISK_TABLE_OBJECTS - 1], CHECK_OBJECT,
          "something lies behind it");
  if (leaf->nr_used == nr)
    return false;
  tell (c, place - DISK_TABLE_OBJECTS, &table->object[0], CHECK_COUNT,
        "its node has another number of objects than it says");
  leaf->nr_used = c->fix ? nr : leaf->nr_used;
  return c->fix;
}

/* ---- objects against each other ---- */

static int
by_id (const void *a, const void *b)
{
  const struct check_object *x = a, *y = b;

  if (x->entry.id != y->entry.id)
    return x->entry.id < y->entry.id ? -1 : 1;
  return x->place < y->place ? -1 : x->place > y->place;
}

static int
by_name (const void *a, const void *b)
{
  const struct check_object *x = *(struct check_object *const *) a;
  const struct check_object *y = *(struct check_object *const *) b;
  int order = memcmp (x->entry.name, y->entry.name, sizeof x->entry.name);

  return order != 0 ? order
         : x->entry.name_bytes < y->entry.name_bytes
             ? -1
             : x->entry.name_bytes > y->entry.name_bytes;
}

static int
by_instance (const void *a, const void *b)
{
  const struct check_object *x = *(struct check_object *const *) a;
  const struct check_object *y = *(struct check_object *const *) b;

  return memcmp (x->entry.instance, y->entry.instance,
                 sizeof x->entry.instance);
}

/* Its id behind its name: nobody else has that. */
static void
rename_object (struct disk_object *e)
{
  uint32_t len = (uint32_t) min_u64 (e->name_bytes, sizeof e->name);
  char suffix[24];
  uint32_t n = (uint32_t) snprintf (suffix, sizeof suffix, ".%" PRIx64, e->id);

  if (len > OBJECT_NAME_MAX - n) {
    len = OBJECT_NAME_MAX - n;
    while (len > 0 && (e->name[len] & 0xc0) == 0x80) /* within a character */
      len--;
  }
  memset (e->name + len, 0, sizeof e->name - len);
  memcpy (e->name + len, suffix, n);
  e->name_bytes = len + n;
}

static void
renew_instance (struct disk_object *e)
{
  env_random (e->instance, sizeof e->instance);
}

/* What two objects may not have in common, and what makes the younger one
 * differ.
 */
struct same {
  int (*order) (const void *, const void *);
  void (*change) (struct disk_object *e);
  const char *what, *repair;
};
static const struct same same_name = { by_name, rename_object,
                                       "another object has its name",
                                       "its id is put behind its name" };
static const struct same same_instance = { by_instance, renew_instance,
                                           "another object has its instance",
                                           "it gets a new one" };

/* Of those that are the same, the one with the lowest id stays as it is. */
static void
part (struct check *c, const struct same *same, struct check_object **by,
      uint64_t nr)
{
  struct check_object *first = by[0];

  for (uint64_t i = 1; i < nr; i++)
    if (by[i]->entry.id < first->entry.id)
      first = by[i];
  for (uint64_t i = 0; i < nr; i++) {
    const char *repair = by[i]->twin ? NULL : same->repair;

    if (by[i] == first)
      continue;
    tell_repair (c, by[i]->place, &by[i]->entry, CHECK_OBJECT, same->what,
                 repair);
    if (c->fix && repair != NULL)
      same->change (&by[i]->entry);
  }
}

/* Objects that are removed may share a name with the one that came next. */
static void
find_same (struct check *c, struct check_object **by, const struct same *same)
{
  uint64_t nr = 0, end;

  for (uint64_t i = 0; i < c->nr_objects; i++)
    if (c->objects[i].entry.state == DISK_OBJECT_LIVE)
      by[nr++] = &c->objects[i];
  if (nr > 0)
    qsort (by, nr, sizeof *by, same->order);
  for (uint64_t i = 0; i < nr; i = end) {
    for (end = i + 1; end < nr && same->order (&by[i], &by[end]) == 0;)
      end++;
    part (c, same, by + i, end - i);
  }
}

static int
compare_objects (struct check *c)
{
  struct check_object **by;

  if (c->nr_objects == 0)
    return 0;
  by = calloc (c->nr_objects, sizeof *by);
  if (by == NULL)
    return ENOMEM;
  qsort (c->objects, c->nr_objects, sizeof *c->objects, by_id);
  for (uint64_t i = 1; i < c->nr_objects; i++)
    if (c->objects[i - 1].entry.id == c->objects[i].entry.id) {
      c->objects[i].twin = true;
      c->maps_broken = true;
      tell (c, c->objects[i].place, &c->objects[i].entry, CHECK_OBJECT,
            "another object has its id");
      note_entry (c);
    }
  find_same (c, by, &same_name);
  find_same (c, by, &same_instance);
  free (by);
  return 0;
}

/* A number that was given to an object is never given again. */
static void
judge_next_id (struct check *c)
{
  struct check_place at = CHECK_NOWHERE;
  uint64_t last = 0;

  for (uint64_t i = 0; i < c->nr_objects; i++)
    last = max_u64 (last, c->objects[i].entry.id);
  if (last < c->root.next_object)
    return;
  at.tree = DISK_TREE_TABLE;
  at.repair = "is put right";
  check_tell (c, CHECK_COUNT, &at,
              "the next object's id (%#" PRIx64 ") has been given before",
              c->root.next_object);
  if (c->fix)
    c->root.next_object = last + 1;
}

/* ---- public ---- */

int
check_table (struct check *c)
{
  int wrong = 0, err;
  struct check_walk w = {
    .c = c,
    .tree = DISK_TREE_TABLE,
    .leaf_type = DISK_NODE_TABLE,
    .height = c->root.table_height,
    .nr_leaves = TABLE_LEAVES,
    .leaf = table_leaf,
    .arg = &wrong,
  };

  err = check_tick (c, CHECK_PHASE_TABLE, 0, 0);
  if (err == 0)
    err = check_walk (&w, &c->root.table);
  if (err == 0)
    err = wrong;
  if (err || c->pass != PASS_LOOK)
    return err;
  if (w.broken)
    check_note (c, "disks below a node of the table that is not good cannot "
                   "be brought back, and no server opens the store: put back "
                   "copies of all its volumes that are of one moment, or make "
                   "it anew with 'farpage format --force'");
  c->maps_broken |= w.broken;
  c->report->nr_nodes += w.nr_nodes;
  c->report->nr_objects = c->nr_objects;
  judge_next_id (c);
  return compare_objects (c);
}

static void
compare_count (struct check *c, struct check_object *o, uint64_t *says,
               uint64_t counted, const char *what)
{
  struct check_place at = CHECK_NOWHERE;

  if (*says == counted)
    return;
  at.tree = o->entry.id;
  at.repair = "is put right";
  check_tell (c, CHECK_COUNT, &at,
              "the table says %" PRIu64 " %s, and there are %" PRIu64, *says,
              what, counted);
  if (c->fix)
    *says = counted;
}

int
check_counts (struct check *c)
{
  int err = 0;

  for (uint64_t i = 0; i < c->nr_objects; i++) {
    struct check_object *o = &c->objects[i];

    c->report->nr_mapped += o->nr_mapped;
    c->report->nr_zero += o->nr_zero;
    c->report->nr_nodes += o->nr_nodes;
    if (o->twin || (o->broken && !c->lose_pages))
      continue;
    compare_count (c, o, &o->entry.nr_mapped, o->nr_mapped, "pages");
    compare_count (c, o, &o->entry.nr_zero, o->nr_zero, "reserved zero pages");
    compare_count (c, o, &o->entry.nr_nodes, o->nr_nodes, "map nodes");
  }
  if (c->fix) {
    c->pass = PASS_DATA;
    err = check_table (c);
    c->pass = PASS_LOOK;
  }
  return err;
}
