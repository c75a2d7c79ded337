/* SPDX-License-Identifier: BSD-2-Clause */
/* The objects of a durable store: a list of what the table on the media has,
 * by id, and how they come and go.
 *
 *   none --durable_create--> LIVE --durable_remove--> DYING
 *                           |    ^                     --durable_forget--> none
 *                           '----' durable_set_size
 *
 * Each step is one entry of the table, durable when the call returns.  While
 * an object is served, or being emptied, its struct object counts what it has,
 * and a cut takes the counts from there.
 */

#include <config.h>

#include "durable-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "sabotage.h"

/* ---- the list ---- */

static struct dobject **
bucket_of (struct durable *d, uint64_t id)
{
  return &d->by_id[id % DURABLE_BUCKETS];
}

struct dobject *
dobject_find (struct durable *d, uint64_t id)
{
  struct dobject *dobj = *bucket_of (d, id);

  while (dobj != NULL && dobj->entry.id != id)
    dobj = dobj->next_by_id;
  return dobj;
}

struct dobject *
dobject_at (struct durable *d, uint64_t place)
{
  struct dobject *dobj = d->objects;

  while (dobj != NULL && dobj->place != place)
    dobj = dobj->next;
  return dobj;
}

int
dobject_add (struct durable *d, uint64_t place, const struct disk_object *entry,
             struct dobject **dop)
{
  struct dobject *dobj = calloc (1, sizeof *dobj);

  if (dobj == NULL)
    return ENOMEM;
  dobj->place = place;
  dobj->entry = *entry;
  dobj->nr_mapped = (int64_t) entry->nr_mapped;
  dobj->nr_zero = (int64_t) entry->nr_zero;
  LOCK_SCOPE (&d->lock);
  dobj->next = d->objects;
  d->objects = dobj;
  dobj->next_by_id = *bucket_of (d, entry->id);
  *bucket_of (d, entry->id) = dobj;
  *dop = dobj;
  return 0;
}

void
dobject_unlink (struct durable *d, struct dobject *dobj)
{
  struct dobject **p = &d->objects, **q;

  LOCK_SCOPE (&d->lock);
  while (*p != dobj)
    p = &(*p)->next;
  *p = dobj->next;
  q = bucket_of (d, dobj->entry.id);
  while (*q != dobj)
    q = &(*q)->next_by_id;
  *q = dobj->next_by_id;
}

void
dobject_free (struct dobject *dobj)
{
  if (dobj->owned)
    object_destroy (dobj->o);
  else if (dobj->map != NULL && dobj->o == NULL)
    map_durable_ops.destroy (dobj->map);
  free (dobj);
}

int
dobject_need_map (struct durable *d, struct dobject *dobj)
{
  void *map;
  int err;

  if (dobj->map != NULL)
    return 0;
  err = objmeta_create (d->bs, d->fl, d->fm, d->pk, &dobj->entry, &map);
  if (err)
    return err;
  LOCK_SCOPE (&d->lock); /* a cut looks at all */
  dobj->map = map;
  return 0;
}

/* ---- objects ---- */

static void
fill_entry (struct disk_object *entry, const char *name,
            const struct export_config *config, const uint8_t *instance)
{
  memcpy (entry->instance, instance, sizeof entry->instance);
  entry->size_bytes = config->size_bytes;
  entry->state = DISK_OBJECT_LIVE;
  entry->flags = (config->shared ? DISK_OBJECT_SHARED : 0) |
                 (config->reserved ? DISK_OBJECT_RESERVED : 0) |
                 (config->unnamed ? DISK_OBJECT_UNNAMED : 0);
  entry->height = objmeta_height (bytes_to_pages (config->size_bytes));
  if (config->unnamed) /* "swap/ID" is kept as "ID" */
    name += strlen (SWAP_PREFIX);
  entry->name_bytes = (uint32_t) strlen (name);
  entry->created_s = env_wall_s ();
  memcpy (entry->name, name, entry->name_bytes);
}

static int
put_entry (struct durable *d, uint64_t place, const struct disk_object *entry)
{
  uint64_t lsn;
  int err = objtable_put (d->ot, place, entry, &lsn);

  return err || SABOTAGE (lazy_names) ? err : flush_commit (d->fl, lsn);
}

int
durable_create (struct durable *d, const char *name,
                const struct export_config *config,
                const uint8_t instance[INSTANCE_BYTES], struct dobject **dop)
{
  struct disk_object entry = { 0 };
  struct dobject *dobj;
  uint64_t place;
  int err = objtable_alloc (d->ot, &place, &entry.id);

  if (err)
    return err;
  fill_entry (&entry, name, config, instance);
  err = dobject_add (d, place, &entry, &dobj);
  if (err) {
    objtable_free (d->ot, place);
    return err;
  }
  *dop = dobj;
  return 0;
}

int
durable_enter (struct durable *d, struct dobject *dobj)
{
  int err = put_entry (d, dobj->place, &dobj->entry);

  if (err == 0)
    flush_reserve (d->fl, objtable_nr_nodes (d->ot));
  return err;
}

void
durable_give_up (struct durable *d, struct dobject *dobj)
{
  /* A store that has failed may have it in the table, and writes no more. */
  if (!flush_failed (d->fl))
    objtable_free (d->ot, dobj->place);
  dobject_unlink (d, dobj);
  dobject_free (dobj);
}

int
durable_map (struct durable *d, struct dobject *dobj, struct object_config *oc)
{
  int err = dobject_need_map (d, dobj);

  if (err)
    return err;
  oc->bs = d->bs;
  oc->fl = d->fl;
  oc->pk = d->pk;
  oc->ops = &map_durable_ops;
  oc->map = dobj->map;
  oc->nr_mapped = (uint64_t) dobj->nr_mapped;
  oc->nr_zero = (uint64_t) dobj->nr_zero;
  oc->staged = d->staging != NULL;
  oc->strict = d->s->config.durability == STORE_STRICT;
  return 0;
}

void
durable_attach (struct durable *d, struct dobject *dobj, struct object *o)
{
  LOCK_SCOPE (&d->lock);
  dobj->o = o;
}

void
durable_keep (struct durable *d, struct dobject *dobj)
{
  LOCK_SCOPE (&d->lock);
  dobj->owned = true;
}

int
durable_remove (struct durable *d, struct dobject *dobj)
{
  lock_acquire (&d->lock);
  dobj->entry.state = DISK_OBJECT_DYING;
  objmeta_let_go (dobj->map, 0);
  lock_release (&d->lock);
  return put_entry (d, dobj->place, &dobj->entry);
}

int
durable_set_size (struct durable *d, struct dobject *dobj, uint64_t size_bytes,
                  uint64_t old_bytes)
{
  lock_acquire (&d->lock);
  dobj->entry.size_bytes = size_bytes;
  dobj->entry.old_bytes = old_bytes;
  if (old_bytes != 0)
    objmeta_let_go (dobj->map, bytes_to_pages (size_bytes));
  lock_release (&d->lock);
  return put_entry (d, dobj->place, &dobj->entry);
}

int
durable_forget (struct durable *d, struct dobject *dobj)
{
  static const struct disk_object empty;
  int err = put_entry (d, dobj->place, &empty);

  if (err)
    return err;
  dobject_unlink (d, dobj);
  dobject_free (dobj);
  return 0;
}

int
durable_each (struct durable *d, enum disk_object_state state,
              int (*fn) (void *arg, struct dobject *dobj), void *arg)
{
  struct dobject *next;

  for (struct dobject *dobj = d->objects; dobj != NULL; dobj = next) {
    next = dobj->next;
    if (dobj->entry.state == state) {
      int err = fn (arg, dobj);

      if (err)
        return err;
    }
  }
  return 0;
}

struct dobject *
durable_next_dying (struct durable *d)
{
  LOCK_SCOPE (&d->lock);
  for (struct dobject *dobj = d->objects; dobj != NULL; dobj = dobj->next)
    if (dobj->entry.state == DISK_OBJECT_DYING && dobj->o == NULL)
      return dobj;
  return NULL;
}
