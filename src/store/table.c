/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of exports: find or make, count, remove.
 *
 * A sorted array of pointers under store.lock: thousands of names are found in
 * a dozen steps, and a list comes out in order.
 *
 * I1. Two who ask for one name get one export: the first puts it in the table
 *     as "being made", lets the lock go to make it (which may take long for a
 *     large reserved one), and the others wait until it is made or has gone.
 * I2. An export that is not in the table is never found again; it lives until
 *     its last connection leaves.
 * I3. While one is resized it stays in the table; and while it is made smaller
 *     nobody gets it who does not know its new size (shut, resize.c).
 */

#include <config.h>

#include "durable.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"

/* Where name is or would be.  Lock: needs store.lock. */
static unsigned
position (struct store *s, const char *name, bool *found)
{
  unsigned lo = 0, hi = s->nr_exports;

  *found = false;
  while (lo < hi) {
    unsigned mid = lo + (hi - lo) / 2;
    int cmp = strcmp (s->exports[mid]->name, name);

    if (cmp == 0) {
      *found = true;
      return mid;
    }
    if (cmp < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static bool
table_has (struct store *s, const char *name)
{
  bool found;

  (void) position (s, name, &found);
  return found;
}

struct export *
table_look (struct store *s, const char *name)
{
  bool found;
  unsigned i = position (s, name, &found);

  return found ? s->exports[i] : NULL;
}

struct export *
table_find (struct store *s, const char *name)
{
  for (;;) {
    bool found;
    unsigned i = position (s, name, &found);

    if (!found)
      return NULL;
    if (s->exports[i]->made)
      return s->exports[i];
    cond_wait (&s->changed, &s->lock);
  }
}

int
table_add (struct store *s, const char *name, struct export **xp)
{
  struct export *x;
  bool found;
  unsigned i = position (s, name, &found);

  assert (!found);
  if (s->nr_exports == EXPORTS_MAX)
    return EMFILE;
  x = calloc (1, sizeof *x);
  if (x == NULL)
    return ENOMEM;
  x->name = strdup (name);
  if (x->name == NULL) {
    free (x);
    return ENOMEM;
  }
  lock_init (&x->lock, LOCK_OBJECT, "export");
  memmove (&s->exports[i + 1], &s->exports[i],
           (s->nr_exports - i) * sizeof (*s->exports));
  s->exports[i] = x;
  s->nr_exports++;
  x->listed = true;
  *xp = x;
  return 0;
}

void
table_remove (struct store *s, struct export *x)
{
  bool found;
  unsigned i = position (s, x->name, &found);

  assert (found && s->exports[i] == x);
  s->nr_exports--;
  memmove (&s->exports[i], &s->exports[i + 1],
           (s->nr_exports - i) * sizeof (*s->exports));
  x->listed = false;
}

struct export *
table_next (struct store *s, const char *name)
{
  bool found;
  unsigned i = position (s, name, &found);

  for (i += found; i < s->nr_exports; i++)
    if (s->exports[i]->made && !s->exports[i]->unnamed)
      return s->exports[i];
  return NULL;
}

static void
export_free (struct store *s, struct export *x)
{
  if (x->kept)
    durable_keep (s->durable, x->dobj);
  else
    object_destroy (x->o);
  lock_destroy (&x->lock);
  free (x->name);
  free (x);
}

/* What all objects of s have in common. */
static struct object_config
config_of (struct store *s, const struct export *x)
{
  return (struct object_config){
    .space = s->space,
    .pool = s->pool,
    .zone = s->zone,
    .name = x->name,
    .cached = !x->unnamed && s->config.direct != STORE_DIRECT_YES,
  };
}

static void
describe (struct store *s, struct export *x)
{
  uint64_t linger_s =
      x->unnamed ? s->config.linger_ns / NS_PER_S : NAMED_LINGER_S;
  char hex[INSTANCE_HEX + 1];

  hex_put (hex, x->instance, sizeof x->instance);
  snprintf (x->description, sizeof x->description,
            "farpage instance=%s durability=%s linger=%" PRIu64, hex,
            x->dobj != NULL ? store_durability_name (s) : "volatile", linger_s);
}

/* The object of an export that the table on the media has. */
static int
make_durable (struct store *s, struct export *x, struct object_config *oc)
{
  int err = durable_map (s->durable, x->dobj, oc);

  if (err == 0)
    err = object_create (oc, &x->o);
  if (err == 0)
    durable_attach (s->durable, x->dobj, x->o);
  return err;
}

/* Give a new export its object.  Lock: none held. */
static int
make (struct store *s, struct export *x, const struct export_config *config)
{
  struct object_config oc;
  int err;

  if (s->config.readonly)
    return EROFS;
  x->unnamed = config->unnamed;
  x->shared = config->shared;
  x->closed_ns = env_now_ns ();
  env_random (x->instance, sizeof x->instance);
  atomic_init (&x->size_bytes, config->size_bytes);
  oc = config_of (s, x);
  oc.size_bytes = config->size_bytes;
  oc.reserved = config->reserved;
  oc.prepared = config->prepared;
  if (s->durable == NULL || (config->unnamed && !s->config.swap_keep)) {
    describe (s, x);
    return object_create (&oc, &x->o);
  }
  err = durable_create (s->durable, x->name, config, x->instance, &x->dobj);
  if (err)
    return err;
  describe (s, x);
  err = make_durable (s, x, &oc);
  if (err == 0)
    err = durable_enter (s->durable, x->dobj);
  if (err == 0)
    return 0;
  durable_give_up (s->durable, x->dobj);
  x->dobj = NULL;
  if (x->o != NULL) {
    object_kill (x->o);
    (void) object_drop (x->o); /* it is empty: its promises go back */
    object_destroy (x->o);
    x->o = NULL;
  }
  return err;
}

int
export_load (struct store *s, struct dobject *dobj)
{
  const struct disk_object *entry = &dobj->entry;
  char name[sizeof SWAP_PREFIX + sizeof entry->name];
  struct object_config oc;
  struct export *x;
  int err;

  snprintf (name, sizeof name, "%s%.*s",
            entry->flags & DISK_OBJECT_UNNAMED ? SWAP_PREFIX : "",
            (int) entry->name_bytes, (const char *) entry->name);
  lock_acquire (&s->lock);
  err = table_has (s, name) ? EUCLEAN : table_add (s, name, &x);
  lock_release (&s->lock);
  if (err == EUCLEAN)
    log_write (LOG_ERROR,
               "store: there are two disks '%s' (run 'farpage check')", name);
  if (err)
    return err;
  x->dobj = dobj;
  x->unnamed = entry->flags & DISK_OBJECT_UNNAMED;
  x->shared = entry->flags & DISK_OBJECT_SHARED;
  x->closed_ns = env_now_ns ();
  atomic_store (&x->written, true);
  memcpy (x->instance, entry->instance, sizeof x->instance);
  atomic_init (&x->size_bytes, entry->size_bytes);
  x->resizing = x->left_cut = entry->old_bytes != 0;
  oc = config_of (s, x);
  oc.size_bytes = entry->size_bytes;
  oc.old_bytes = entry->old_bytes;
  oc.reserved = entry->flags & DISK_OBJECT_RESERVED;
  describe (s, x);
  x->made = true;
  return make_durable (s, x, &oc);
}

int
export_get (struct store *s, const char *name,
            const struct export_config *config, bool create_only,
            struct export **xp)
{
  struct export *x;
  int err;

  lock_acquire (&s->lock);
  while ((x = table_find (s, name)) != NULL && x->shut)
    cond_wait (&s->changed, &s->lock);
  if (x != NULL || config == NULL) {
    err = x == NULL ? ENOENT : create_only ? EEXIST : 0;
    if (err == 0) {
      x->nr_conns++;
      *xp = x;
    }
    lock_release (&s->lock);
    return err;
  }
  err = table_add (s, name, &x);
  lock_release (&s->lock);
  if (err)
    return err;

  err = make (s, x, config);
  lock_acquire (&s->lock);
  if (err)
    table_remove (s, x);
  x->made = true;
  x->nr_conns = 1;
  cond_broadcast (&s->changed);
  lock_release (&s->lock);
  if (err) {
    export_free (s, x);
    return err;
  }
  *xp = x;
  return 0;
}

static void
put (struct store *s, struct export *x, bool was_open)
{
  bool last;

  lock_acquire (&s->lock);
  assert (x->nr_conns > 0);
  x->nr_conns--;
  if (was_open)
    x->closed_ns = env_now_ns ();
  last = x->nr_conns == 0 && !x->listed;
  lock_release (&s->lock);
  if (last)
    export_free (s, x);
}

void
export_put (struct store *s, struct export *x)
{
  put (s, x, false);
}

void
export_close (struct store *s, struct export *x)
{
  put (s, x, true);
}

/* ---- names, for others ---- */

int
store_list (struct store *s, store_name_fn fn, void *arg)
{
  char name[OBJECT_NAME_MAX + 1] = "";
  char description[sizeof ((struct export *) 0)->description];

  /* From name to name, so that fn is called with no lock held. */
  for (;;) {
    struct export *x;
    int err;

    lock_acquire (&s->lock);
    x = table_next (s, name);
    if (x != NULL) {
      strcpy (name, x->name);
      strcpy (description, x->description);
    }
    lock_release (&s->lock);
    if (x == NULL)
      return 0;
    err = fn (arg, name, description);
    if (err)
      return err;
  }
}

int
store_default (struct store *s, char name[OBJECT_NAME_MAX + 1])
{
  struct export *only = NULL;

  if (s->default_name != NULL) {
    if (strlen (s->default_name) > OBJECT_NAME_MAX)
      return ENOENT;
    strcpy (name, s->default_name);
    return 0;
  }
  LOCK_SCOPE (&s->lock);
  for (unsigned i = 0; i < s->nr_exports; i++) {
    if (!s->exports[i]->made || s->exports[i]->unnamed)
      continue;
    if (only != NULL)
      return ENOENT;
    only = s->exports[i];
  }
  if (only == NULL)
    return ENOENT;
  strcpy (name, only->name);
  return 0;
}
