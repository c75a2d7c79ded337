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
 */

#include <config.h>

#include "store-impl.h"

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
export_free (struct export *x)
{
  object_destroy (x->o);
  lock_destroy (&x->lock);
  free (x->name);
  free (x);
}

/* Give a new export its object.  Lock: none held. */
static int
make (struct store *s, struct export *x, const struct export_config *config)
{
  struct object_config oc = {
    .size_bytes = config->size_bytes,
    .reserved = config->reserved,
    .prepared = config->prepared,
    .space = s->space,
    .pool = s->pool,
    .zone = s->zone,
  };
  uint64_t linger_s =
      config->unnamed ? s->config.linger_ns / NS_PER_S : NAMED_LINGER_S;
  char hex[INSTANCE_HEX + 1];

  x->unnamed = config->unnamed;
  x->shared = config->shared;
  x->closed_ns = env_now_ns ();
  env_random (x->instance, sizeof x->instance);
  hex_put (hex, x->instance, sizeof x->instance);
  snprintf (x->description, sizeof x->description,
            "farpage instance=%s durability=volatile linger=%" PRIu64, hex,
            linger_s);
  return object_create (&oc, &x->o);
}

int
export_get (struct store *s, const char *name,
            const struct export_config *config, bool create_only,
            struct export **xp)
{
  struct export *x;
  int err;

  lock_acquire (&s->lock);
  x = table_find (s, name);
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
    export_free (x);
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
    export_free (x);
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
