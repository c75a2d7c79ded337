/* SPDX-License-Identifier: BSD-2-Clause */
/* Another size for a named disk, while it is served.
 *
 *   larger    1. promises and nodes are had (ENOSPC: nothing has changed)
 *             2. paused: levels, the object's end             log: NODE ...
 *             3. the table has the new size, durably          log: OBJECT
 *             4. connections opened from now on have it
 *
 *   smaller   1. nobody has it open, and who comes waits
 *             2. the table has the new size, durably, and the old one as that
 *                to which pages may be there                  log: OBJECT
 *             3. it can be opened; what is behind its end is freed in steps of
 *                one shard, each a change of its own          log: FREE ...
 *             4. paused: the rest of the last page is zeroed  log: MAP
 *             5. the table has the new size alone             log: OBJECT
 *             6. what was reserved goes back: the next start finds room for
 *                what the table says
 *
 * So a crash leaves the old size or the new one: its record is durable before
 * anybody knows of it.  Between 2 and 5 of a smaller one the next start goes on
 * at 3 (reap.c); pages behind the end are nobody's till then.  A larger one has
 * its levels before the record says that it needs them.
 *
 * Paused: its requests wait before they are counted in, and those that were are
 * over.  A connection's requests are checked against the end that it was told,
 * which is never behind the object's.
 *
 * Locks: store.lock for the export's flags; none is held over anything else.
 */

#include <config.h>

#include "durable.h"

#include <errno.h>
#include <string.h>

#include "env.h"
#include "sabotage.h"
#include "task.h"

#define RESIZE_WAIT_NS (3 * NS_PER_S) /* for requests under way */

/* ---- alone on an object ---- */

static bool
any_under_way (struct store *s, const struct export *x)
{
  LOCK_SCOPE (&s->lock);
  for (struct conn *c = s->conns; c != NULL; c = c->next_store)
    if (c->x == x && atomic_load (&c->under_way) > 0)
      return true;
  return false;
}

static void
go_on (struct store *s, struct export *x)
{
  LOCK_SCOPE (&s->lock);
  atomic_store (&x->paused, false);
  cond_broadcast (&s->changed);
}

static int
pause_requests (struct store *s, struct export *x)
{
  uint64_t deadline_ns = env_now_ns () + RESIZE_WAIT_NS;

  atomic_store (&x->paused, true);
  while (any_under_way (s, x)) {
    if (env_now_ns () >= deadline_ns) {
      go_on (s, x);
      return ETIMEDOUT;
    }
    task_sleep (NS_PER_MS);
  }
  return 0;
}

/* ---- larger ---- */

static int
grow (struct store *s, struct export *x, uint64_t size_bytes)
{
  struct growth g;
  int err = object_grow_begin (x->o, size_bytes, &g);

  if (err)
    return err;
  err = pause_requests (s, x);
  if (err == 0) {
    err = object_grow (x->o, &g);
    go_on (s, x);
  }
  object_grow_end (x->o, &g);
  if (err == 0 && x->dobj != NULL)
    err = durable_set_size (s->durable, x->dobj, size_bytes, 0);
  if (err == 0)
    atomic_store (&x->size_bytes, size_bytes);
  return err;
}

/* ---- smaller ---- */

int
resize_finish (struct store *s, struct export *x)
{
  uint64_t nr_charges = 0;
  int err = object_free_tail (x->o);

  if (err)
    return err;
  err = pause_requests (s, x);
  if (err)
    return err;
  err = object_end_cut (x->o, &nr_charges);
  go_on (s, x);
  if (err == 0 && x->dobj != NULL)
    err = durable_set_size (s->durable, x->dobj, x->size_bytes, 0);
  if (err == 0)
    space_uncharge (s->space, nr_charges);
  return err;
}

static void
let_in (struct store *s, struct export *x)
{
  LOCK_SCOPE (&s->lock);
  x->shut = false;
  cond_broadcast (&s->changed);
}

static int
shrink (struct store *s, struct export *x, uint64_t size_bytes)
{
  int err = 0;

  if (SABOTAGE (cut_early)) {
    object_cut (x->o, size_bytes);
    err = object_free_tail (x->o);
  }
  if (err == 0 && x->dobj != NULL)
    err = durable_set_size (s->durable, x->dobj, size_bytes,
                            SABOTAGE (forget_tail) ? 0 : x->size_bytes);
  if (err == 0) {
    object_cut (x->o, size_bytes);
    atomic_store (&x->size_bytes, size_bytes);
  }
  let_in (s, x);
  if (err)
    return err;
  err = resize_finish (s, x);
  if (err == ETIMEDOUT || err == ENOSPC) {
    log_write (LOG_WARNING,
               "export '%s': it is smaller, and some of its space is not free "
               "yet (resize it once more, or start the server anew)",
               x->name);
    return 0;
  }
  return err;
}

/* ---- both ---- */

/* May it be resized?  If so nobody else may, until resize_done ().  ECANCELED:
 * there is nothing to do.
 */
static int
take (struct store *s, const char *name, uint64_t size_bytes,
      struct export **xp)
{
  struct export *x;

  LOCK_SCOPE (&s->lock);
  x = table_look (s, name);
  if (x == NULL)
    return ENOENT;
  if (!x->made || x->resizing)
    return EALREADY;
  if (size_bytes < x->size_bytes && x->nr_conns > 0)
    return EBUSY;
  x->resizing = true;
  x->shut = size_bytes < x->size_bytes;
  *xp = x;
  return 0;
}

static void
done (struct store *s, struct export *x)
{
  LOCK_SCOPE (&s->lock);
  x->resizing = false;
  x->shut = false;
  cond_broadcast (&s->changed);
}

int
store_resize (struct store *s, const char *name, uint64_t size_bytes)
{
  struct export *x;
  int err;

  if (strncmp (name, SWAP_PREFIX, strlen (SWAP_PREFIX)) == 0)
    return ENOTSUP;
  if (store_name_error (name) != NULL)
    return ENOENT;
  if (size_bytes == 0 || size_bytes > OBJECT_BYTES_MAX)
    return EINVAL;
  if (s->config.readonly)
    return EROFS;
  err = take (s, name, size_bytes, &x);
  if (err)
    return err;
  if (object_is_cut (x->o)) /* one before this could not */
    err = resize_finish (s, x);
  if (err == 0 && size_bytes > x->size_bytes)
    err = grow (s, x, size_bytes);
  else if (err == 0 && size_bytes < x->size_bytes)
    err = shrink (s, x, size_bytes);
  done (s, x);
  return err;
}
