/* SPDX-License-Identifier: BSD-2-Clause */
/* What records of the log mean to a durable store; called by recovery, in the
 * log's order, with no other thread at work.
 *
 * A record of an object that the table has no more changes nothing: the object
 * was removed since, and what it had was freed.
 */

#include <config.h>

#include "durable-impl.h"

#include <errno.h>

static int
add_entry (void *arg, uint64_t place, const struct disk_object *entry)
{
  struct dobject *dobj;

  return dobject_add (arg, place, entry, &dobj);
}

int
dobjects_load (struct durable *d)
{
  return objtable_each (d->ot, add_entry, d);
}

/* UNDO is done: the table and the free map can be read. */
static int
redo_begin (void *arg, const struct disk_super *root)
{
  struct durable *d = arg;
  int err = freemap_create (d->bs, d->fl, root, &d->fm);

  if (err == 0)
    err = objtable_create (d->bs, d->fl, d->s->space, d->fm, root, &d->ot);
  if (err == 0)
    err = dobjects_load (d);
  return err;
}

static int
redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct durable *d = arg;
  struct dobject *dobj;
  int err;

  if (rec->object == DISK_TREE_TABLE)
    return objtable_redo_node (d->ot, ch, rec);
  dobj = dobject_find (d, rec->object);
  if (dobj == NULL)
    return 0; /* removed since */
  dobj->redone = true;
  err = dobject_need_map (d, dobj);
  return err ? err : objmeta_redo_node (dobj->map, ch, rec);
}

/* An object that is there already.  Records of its pages may still come, or be
 * decided only at the end: till then its map has all that it ever had.
 */
static int
redo_again (struct durable *d, struct dobject *dobj,
            const struct disk_object *entry)
{
  struct disk_object *e = &dobj->entry;

  if (e->size_bytes != entry->size_bytes || e->old_bytes != entry->old_bytes) {
    int err = dobject_need_map (d, dobj);

    if (err)
      return err;
    objmeta_redo_pages (dobj->map, objmeta_entry_pages (entry));
  }
  e->state = entry->state;
  e->flags = entry->flags;
  e->size_bytes = entry->size_bytes;
  e->old_bytes = entry->old_bytes;
  /* Its map may have been made for an earlier record. */
  if (entry->state == DISK_OBJECT_DYING && dobj->map != NULL)
    objmeta_let_go (dobj->map, 0);
  return 0;
}

static int
redo_object (void *arg, struct change *ch, const struct disk_rec *rec,
             const struct disk_object *entry)
{
  struct durable *d = arg;
  struct dobject *dobj = dobject_at (d, rec->pgno);
  int err = objtable_redo (d->ot, ch, rec, entry);

  if (err)
    return err;
  if (dobj != NULL && dobj->entry.id == entry->id &&
      entry->state != DISK_OBJECT_FREE)
    return redo_again (d, dobj, entry);
  if (dobj != NULL) {
    dobject_unlink (d, dobj);
    dobject_free (dobj);
  }
  if (entry->state == DISK_OBJECT_FREE)
    return 0;
  return add_entry (d, rec->pgno, entry);
}

static int
redo_map (void *arg, struct change *ch, const struct disk_rec *rec,
          const uint32_t *crc)
{
  struct durable *d = arg;
  struct dobject *dobj = dobject_find (d, rec->object);
  int err;

  if (dobj == NULL)
    return 0;
  dobj->redone = true;
  err = dobject_need_map (d, dobj);
  return err ? err
             : objmeta_redo (dobj->map, ch, rec, crc, &dobj->nr_mapped,
                             &dobj->nr_zero);
}

/* Its map is made for its first record. */
static uint64_t
redo_where (void *arg, uint64_t object, pgno_t pgno)
{
  struct dobject *dobj = dobject_find (arg, object);

  if (dobj == NULL || dobj->map == NULL)
    return 0;
  return objmeta_where (dobj->map, pgno);
}

const struct recover_ops durable_recover_ops = {
  .begin = redo_begin,
  .node = redo_node,
  .object = redo_object,
  .map = redo_map,
  .where = redo_where,
};
