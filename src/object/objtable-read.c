/* SPDX-License-Identifier: BSD-2-Clause */
/* The object table as it is read: every entry is judged before anything
 * believes it; objtable.c has the picture.
 *
 * Called once at open, after UNDO and before REDO; entries that REDO brings are
 * judged by the same function.
 */

#include <config.h>

#include "objtable-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define FLAGS_KNOWN \
  (DISK_OBJECT_SHARED | DISK_OBJECT_RESERVED | DISK_OBJECT_UNNAMED)

static struct log_limit damage_limit;

/* ---- judging ---- */

static bool
all_zero (const void *buf, size_t len)
{
  const uint8_t *p = buf;

  return len == 0 || (p[0] == 0 && memcmp (p, p + 1, len - 1) == 0);
}

static const char *
name_error (const struct disk_object *e)
{
  if (e->name_bytes >= sizeof e->name)
    return "its name is too long";
  if (e->name_bytes == 0 && e->state == DISK_OBJECT_LIVE)
    return "it has no name";
  if (memchr (e->name, 0, e->name_bytes) != NULL ||
      !all_zero (e->name + e->name_bytes, sizeof e->name - e->name_bytes))
    return "its name is not as long as is said";
  return NULL;
}

const char *
objtable_entry_error (const struct disk_object *e)
{
  if (e->state == DISK_OBJECT_FREE)
    return all_zero (e, sizeof *e) ? NULL : "a free place is not empty";
  if (e->state != DISK_OBJECT_LIVE && e->state != DISK_OBJECT_DYING)
    return "its state is unknown";
  if (e->flags & ~(uint32_t) FLAGS_KNOWN)
    return "it has flags that are unknown";
  if (e->id < DISK_TREE_FIRST || e->id >= SUPER_COUNT_MAX - 1)
    return "its id cannot be";
  if (all_zero (e->instance, sizeof e->instance))
    return "it has no instance";
  if (e->size_bytes == 0 || e->size_bytes > OBJECT_BYTES_MAX)
    return "its size is out of range";
  if (e->old_bytes != 0 &&
      (e->old_bytes <= e->size_bytes || e->old_bytes > OBJECT_BYTES_MAX))
    return "its size before is out of range";
  if (e->height < objmeta_height (objmeta_entry_pages (e)) ||
      e->height > TREE_HEIGHT_MAX)
    return "the height of its map does not fit its size";
  if ((e->root.blk == 0) != (e->root.cycle == 0))
    return "its map's root is half a pointer";
  if (e->nr_mapped > objmeta_entry_pages (e) ||
      e->nr_zero > objmeta_entry_pages (e) - e->nr_mapped)
    return "more of it is mapped than it has";
  if (!all_zero (e->seal, sizeof e->seal) ||
      !all_zero (e->spare, sizeof e->spare))
    return "its spare bytes are not zero";
  return name_error (e);
}

int
objtable_damaged (uint64_t place, const char *what)
{
  log_limited (&damage_limit, LOG_ERROR,
               "object table: place %" PRIu64 ": %s (run 'farpage check')",
               place, what);
  return EIO;
}

/* ---- reading all of it ---- */

/* The first leaf from *index on, referenced; NULL: none any more.
 * Lock: needs ot->lock.
 */
static int
next_leaf (struct objtable *ot, uint64_t *index, struct buf **leafp)
{
  *leafp = NULL;
  for (;; ++*index) {
    int err = tree_next (&ot->tree, *index, index);

    if (err || *index == UINT64_MAX)
      return err;
    if (*index >= OBJTABLE_LEAVES)
      return objtable_damaged (*index * DISK_TABLE_OBJECTS,
                               "lies behind the last");
    err = objtable_leaf (ot, *index * DISK_TABLE_OBJECTS, leafp);
    if (err || *leafp != NULL)
      return err;
  }
}

static int
judge_leaf (struct objtable *ot, struct buf *leaf)
{
  uint64_t place = leaf->id.index * DISK_TABLE_OBJECTS;
  unsigned nr_used = 0;

  for (unsigned i = 0; i < DISK_TABLE_OBJECTS; i++, place++) {
    const struct disk_object *e = objtable_entry (leaf, place);
    const char *wrong = objtable_entry_error (e);

    if (wrong == NULL && e->state != DISK_OBJECT_FREE && place >= OBJTABLE_MAX)
      wrong = "lies behind the last";
    if (wrong != NULL)
      return objtable_damaged (place, wrong);
    if (e->state == DISK_OBJECT_FREE)
      continue;
    nr_used++;
    objtable_set_taken (ot, place, true);
    ot->next_id = max_u64 (ot->next_id, e->id + 1);
  }
  if (objtable_node (leaf)->nr_used != nr_used)
    return objtable_damaged (place - 1, "its node's count is wrong");
  if (nr_used > 0)
    objtable_pin (ot, leaf);
  return 0;
}

/* Inner nodes, and leaves. */
static int
count_nodes (struct objtable *ot, uint64_t nr_leaves)
{
  uint64_t nr = nr_leaves;
  bool any = false;

  for (uint64_t i = 0; i < OBJTABLE_LEAVES; i += DISK_FANOUT) {
    unsigned nr_missing;
    int err = tree_missing (&ot->tree, i, &nr_missing);

    if (err)
      return err;
    nr += nr_missing < 2;
    any = any || nr_missing < 3;
  }
  atomic_store (&ot->tree.nr_nodes, nr + any);
  return 0;
}

static int
read_leaves (struct objtable *ot)
{
  uint64_t nr_leaves = 0;

  LOCK_SCOPE (&ot->lock);
  for (uint64_t index = 0;; index++, nr_leaves++) {
    struct buf *leaf;
    int err = next_leaf (ot, &index, &leaf);

    if (err)
      return err;
    if (leaf == NULL)
      return count_nodes (ot, nr_leaves);
    err = judge_leaf (ot, leaf);
    buf_put (ot->bs, leaf);
    if (err)
      return err;
  }
}

/* The entries of a leaf, copied; *index UINT64_MAX: none any more. */
static int
copy_leaf (struct objtable *ot, uint64_t *index, struct disk_table *to)
{
  struct buf *leaf;
  int err;

  LOCK_SCOPE (&ot->lock);
  err = next_leaf (ot, index, &leaf);
  if (err || leaf == NULL)
    return err;
  memcpy (to, objtable_node (leaf)->body, sizeof *to);
  buf_put (ot->bs, leaf);
  return 0;
}

int
objtable_each (struct objtable *ot, objtable_fn fn, void *arg)
{
  for (uint64_t index = 0;; index++) {
    struct disk_table table;
    int err = copy_leaf (ot, &index, &table);

    if (err || index == UINT64_MAX)
      return err;
    for (unsigned i = 0; i < DISK_TABLE_OBJECTS; i++) {
      if (table.object[i].state == DISK_OBJECT_FREE)
        continue;
      err = fn (arg, index * DISK_TABLE_OBJECTS + i, &table.object[i]);
      if (err)
        return err;
    }
  }
}

struct ids {
  uint64_t *id;
  uint64_t nr;
};

static int
add_id (void *arg, uint64_t place, const struct disk_object *entry)
{
  struct ids *ids = arg;

  (void) place;
  ids->id[ids->nr++] = entry->id;
  return 0;
}

static int
by_id (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* Two objects with one id would change each other's maps. */
static int
judge_ids (struct objtable *ot)
{
  struct ids ids = { calloc (OBJTABLE_MAX, sizeof (uint64_t)), 0 };
  int err = ids.id != NULL ? objtable_each (ot, add_id, &ids) : ENOMEM;

  if (err == 0)
    qsort (ids.id, ids.nr, sizeof *ids.id, by_id);
  for (uint64_t i = 1; i < ids.nr && err == 0; i++)
    if (ids.id[i] == ids.id[i - 1])
      err = objtable_damaged (0, "two objects have one id");
  free (ids.id);
  return err;
}

int
objtable_read (struct objtable *ot)
{
  int err = read_leaves (ot);

  return err ? err : judge_ids (ot);
}
