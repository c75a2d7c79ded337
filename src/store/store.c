/* SPDX-License-Identifier: BSD-2-Clause */
/* A store: opening and closing, making and removing objects, idle work.
 *
 * The stack is built here, bottom up, and nowhere else:
 *
 *   volumes -> space (a blist each) -> zone (memory for maps)
 *           -> batches (store_start, after the last fork) -> exports, conns
 *
 * Locks: store.lock guards the table and the list of connections; making and
 * dropping an object is done without it.
 */

#include <config.h>

#include "durable.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "env.h"
#include "task.h"

/* Memory that a page's map entry can cost at worst: a swblock, a node and
 * their share of the tree for one page alone.
 */
#define MAP_BYTES_A_PAGE 1024

void
store_space_changed (void *arg, enum space_level level)
{
  static const struct {
    enum log_level level;
    const char *text;
  } says[] = {
    [SPACE_LEVEL_OK] = { LOG_INFO, "pool: there is room again" },
    [SPACE_LEVEL_ALMOST_FULL] = { LOG_WARNING,
                                  "pool: almost full (trim or remove disks)" },
    [SPACE_LEVEL_FULL] = { LOG_ERROR,
                           "pool: full: new pages are refused (trim or "
                           "remove disks)" },
  };
  static const enum space_state state[] = {
    [SPACE_LEVEL_OK] = SPACE_OK,
    [SPACE_LEVEL_ALMOST_FULL] = SPACE_ALMOST_FULL,
    [SPACE_LEVEL_FULL] = SPACE_FULL,
  };
  struct store *s = arg;

  log_write (says[level].level, "%s", says[level].text);
  LOCK_SCOPE (&s->news_lock);
  if (s->on_space != NULL)
    s->on_space (s->on_space_arg, state[level]);
}

void
store_on_space (struct store *s, void (*fn) (void *arg, enum space_state state),
                void *arg)
{
  LOCK_SCOPE (&s->news_lock);
  s->on_space = fn;
  s->on_space_arg = arg;
}

static bool
is_durable (const struct store *s)
{
  return s->config.durability != STORE_VOLATILE;
}

const char *
store_durability_name (const struct store *s)
{
  static const char *const names[] = {
    [STORE_VOLATILE] = "volatile",
    [STORE_FLUSH] = "flush",
    [STORE_STRICT] = "strict",
  };

  return names[s->config.durability];
}

/* ---- open ---- */

/* Would the lock of a volume be waited for in vain, since we have it? */
static bool
same_place (const char *a, const char *b)
{
  struct stat x, y;

  if (a == NULL || b == NULL || stat (a, &x) == -1 || stat (b, &y) == -1)
    return false;
  if (S_ISBLK (x.st_mode) && S_ISBLK (y.st_mode))
    return x.st_rdev == y.st_rdev;
  return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int
check_given_once (const struct store_config *config)
{
  for (unsigned i = 0; i < config->nr_volumes; i++)
    for (unsigned j = 0; j < i; j++)
      if (same_place (config->volumes[i].path, config->volumes[j].path)) {
        log_write (LOG_ERROR,
                   "%s: the volume is given twice (name each volume once)",
                   config->volumes[i].path);
        return EINVAL;
      }
  return 0;
}

/* A formatted volume; read-only, what is written to it stays in memory. */
static int
open_store_volume (struct store *s, const char *path, enum volume_direct direct,
                   struct volume **vp)
{
  struct volume_store_options options = {
    .readonly = s->config.readonly,
    .direct = direct,
    .lock_wait_ns = s->config.lock_wait_ns,
  };
  struct volume *v;
  int err = volume_open_store (path, &options, &v);

  if (err || !s->config.readonly) {
    if (err == 0)
      *vp = v;
    return err;
  }
  err = volume_open_overlay (v, vp);
  if (err)
    volume_close (v);
  return err;
}

/* Is what becomes free on it given back?  A readonly one, or a caller's, is as
 * it is.
 */
static int
set_discard (const struct store_config *config, struct volume *v)
{
  bool may = config->sparse || strcmp (v->ops->kind, "block") == 0;

  if (config->discard == STORE_DISCARD_ON && !may) {
    log_write (LOG_ERROR,
               "%s: discard=on would give away blocks that were set aside for "
               "it (say sparse=yes too, or discard=auto)",
               v->name);
    return EINVAL;
  }
  v->sparse = may && config->discard != STORE_DISCARD_OFF && !config->readonly;
  return 0;
}

static int
open_volume (struct store *s, const struct store_volume_config *vc)
{
  static const enum volume_direct direct[] = {
    [STORE_DIRECT_AUTO] = DIRECT_AUTO,
    [STORE_DIRECT_YES] = DIRECT_YES,
    [STORE_DIRECT_NO] = DIRECT_NO,
  };
  struct volume **vp = &s->volumes[s->nr_volumes];
  struct volume_path_options options = {
    .force = s->config.force,
    .sparse = s->config.sparse,
    .direct = direct[s->config.direct],
    .lock_wait_ns = s->config.lock_wait_ns,
  };
  int err = 0;

  if (vc->ready != NULL)
    *vp = vc->ready;
  else if (vc->path != NULL && is_durable (s))
    err = open_store_volume (s, vc->path, direct[s->config.direct], vp);
  else if (vc->path != NULL)
    err = volume_open_path (vc->path, &options, vp);
  else
    err = volume_open_memory ("mem", vc->size_bytes, s->config.sparse, vp);
  if (err)
    return err;
  s->nr_volumes++;
  return vc->ready != NULL ? 0 : set_discard (&s->config, *vp);
}

/* After a failure: what the caller had opened stays the caller's. */
static void
return_volumes (struct store *s, const struct store_config *config)
{
  for (unsigned i = 0; i < s->nr_volumes; i++)
    if (config->volumes[i].ready != NULL)
      s->volumes[i] = NULL;
}

static uint64_t
map_bytes_max (uint64_t nr_blocks)
{
  uint64_t memory =
      (uint64_t) sysconf (_SC_PHYS_PAGES) * (uint64_t) sysconf (_SC_PAGESIZE);

  return max_u64 (UINT64_C (64) << 20,
                  min_u64 (nr_blocks * MAP_BYTES_A_PAGE, memory / 2));
}

static int
build_volatile (struct store *s)
{
  struct space_config sc = {
    .volumes = s->volumes,
    .stripe_blocks = s->config.stripe_blocks,
    .on_level = store_space_changed,
    .arg = s,
  };
  int err;

  sc.nr_volumes = s->nr_volumes;
  err = space_create (&sc, &s->space);
  if (err)
    log_write (LOG_ERROR, "pool: %s (a volume has at least one stripe)",
               strerror (err));
  return err;
}

static int
load_object (void *arg, struct dobject *dobj)
{
  return export_load (arg, dobj);
}

static int
build_durable (struct store *s)
{
  int err = durable_open (s);

  if (err == 0)
    err = durable_each (s->durable, DISK_OBJECT_LIVE, load_object, s);
  if (err == 0)
    durable_take_retired (s->durable);
  return err;
}

static int
build (struct store *s)
{
  uint64_t nr_blocks = 0;
  int err;

  for (unsigned i = 0; i < s->config.nr_volumes; i++) {
    err = open_volume (s, &s->config.volumes[i]);
    if (err)
      return err;
    nr_blocks += s->volumes[i]->size_bytes >> PAGE_SHIFT;
  }
  err = swzone_create (sizeof (struct swent), map_bytes_max (nr_blocks),
                       &s->zone);
  if (err)
    return err;
  s->exports = calloc (EXPORTS_MAX, sizeof (*s->exports));
  if (s->exports == NULL)
    return ENOMEM;
  return is_durable (s) ? build_durable (s) : build_volatile (s);
}

int
store_open (const struct store_config *config, struct store **sp)
{
  struct store *s;
  int err;

  if (config->nr_volumes == 0 || config->nr_volumes > VOLUMES_MAX)
    return EINVAL;
  err = check_given_once (config);
  if (err)
    return err;
  s = calloc (1, sizeof *s);
  if (s == NULL)
    return ENOMEM;
  s->config = *config;
  s->config.default_name = NULL;
  if (s->config.cache_bytes == 0)
    s->config.cache_bytes = CACHE_BYTES;
  s->opened_ns = env_now_ns ();
  lock_init (&s->lock, LOCK_STORE, "store");
  lock_init (&s->news_lock, LOCK_LEAF, "store news");
  cond_init (&s->changed);
  if (config->default_name != NULL) {
    s->default_name = strdup (config->default_name);
    if (s->default_name == NULL) {
      store_close (s);
      return ENOMEM;
    }
  }
  err = build (s);
  s->config.volumes = NULL; /* the caller's; not needed any more */
  if (err) {
    return_volumes (s, config);
    store_close (s);
    return err;
  }
  s->opened = true;
  *sp = s;
  return 0;
}

/* Objects that were there at open have had no batches yet. */
static void
start_objects (struct store *s)
{
  for (unsigned i = 0; i < s->nr_exports; i++)
    object_set_pool (s->exports[i]->o, s->pool);
}

int
store_start (struct store *s)
{
  bool needs_pool = false;

  for (unsigned i = 0; i < s->nr_volumes; i++)
    needs_pool |= s->volumes[i]->batched || s->volumes[i]->align > 1;
  if (needs_pool) {
    int err = vpool_create (BATCHES, BOUNCE_BYTES, VPOOL_AUTO, &s->pool);

    if (err)
      return err;
    start_objects (s);
  }
  if (!is_durable (s))
    return 0;
  int err = durable_start (s->durable);

  return err ? err : reap_start (s);
}

/* In a --enable-debug build: the books must balance at the end. */
static void
check_at_close (struct store *s)
{
#ifdef FARPAGE_DEBUG
  const char *wrong;

  /* One that has failed has given up in the middle of things. */
  if (!s->opened || (s->durable != NULL && durable_failed (s->durable)))
    return;
  wrong = store_check (s);

  if (wrong != NULL && wrong != object_unread) { /* a medium may fail */
    fprintf (stderr, "farpage: store_close: %s\n", wrong);
    abort ();
  }
#else
  (void) s;
#endif
}

int
store_stop (struct store *s)
{
  if (!s->opened || s->durable == NULL || s->stopped)
    return 0;
  s->stopped = true;
  reap_stop (s);
  return durable_stop (s->durable);
}

void
store_close (struct store *s)
{
  if (s == NULL)
    return;
  assert (s->nr_conns == 0);
  (void) store_stop (s);
  check_at_close (s);
  while (s->nr_exports > 0) {
    struct export *x;

    lock_acquire (&s->lock);
    x = s->exports[s->nr_exports - 1];
    x->nr_conns++;
    table_remove (s, x);
    lock_release (&s->lock);
    export_put (s, x);
  }
  free (s->exports);
  durable_close (s->durable);
  vpool_destroy (s->pool);
  swzone_destroy (s->zone);
  space_destroy (s->space);
  for (unsigned i = 0; i < s->nr_volumes; i++)
    volume_close (s->volumes[i]);
  cond_destroy (&s->changed);
  lock_destroy (&s->news_lock);
  lock_destroy (&s->lock);
  free (s->default_name);
  free (s);
}

/* An export that nobody finds any more: it is removed, durably if it is
 * durable, and what it has is freed.
 */
static int
empty_export (struct store *s, struct export *x)
{
  int err = 0;

  if (x->dobj != NULL)
    err = durable_remove (s->durable, x->dobj);
  object_kill (x->o);
  if (err == 0)
    err = object_drop (x->o);
  if (x->dobj == NULL)
    return err;
  if (err == 0)
    err = durable_forget (s->durable, x->dobj);
  if (err)
    x->kept = true;
  else
    x->dobj = NULL;
  return err;
}

/* ---- hold, tick ---- */

static bool
any_under_way (struct store *s)
{
  LOCK_SCOPE (&s->lock);
  for (struct conn *c = s->conns; c != NULL; c = c->next_store)
    if (atomic_load (&c->under_way) > 0)
      return true;
  return false;
}

bool
store_hold (struct store *s, uint64_t timeout_ns)
{
  uint64_t deadline_ns = env_now_ns () + timeout_ns;

  atomic_store (&s->holding, true);
  while (any_under_way (s)) {
    if (env_now_ns () >= deadline_ns)
      return false;
    task_sleep (NS_PER_MS);
  }
  return true;
}

uint64_t
linger_left_ns (struct store *s, const struct export *x, uint64_t now_ns)
{
  uint64_t linger_ns = atomic_load (&x->written)
                           ? s->config.linger_ns
                           : s->config.linger_unwritten_ns;
  /* The caller may have looked at the clock before the last one left. */
  uint64_t gone_ns = now_ns > x->closed_ns ? now_ns - x->closed_ns : 0;

  return gone_ns < linger_ns ? linger_ns - gone_ns : 0;
}

/* One unnamed object whose time has come, off the table, with a reference. */
static struct export *
take_expired (struct store *s, uint64_t now_ns)
{
  LOCK_SCOPE (&s->lock);
  for (unsigned i = 0; i < s->nr_exports; i++) {
    struct export *x = s->exports[i];

    if (x->made && x->unnamed && x->nr_conns == 0 &&
        linger_left_ns (s, x, now_ns) == 0) {
      table_remove (s, x);
      x->nr_conns++;
      return x;
    }
  }
  return NULL;
}

void
store_tick (struct store *s)
{
  struct export *x;

  if (atomic_load (&s->holding) || s->config.readonly)
    return;
  while ((x = take_expired (s, env_now_ns ())) != NULL) {
    log_write (LOG_INFO, "export '%s': nobody came back, its pages are free",
               x->name);
    (void) empty_export (s, x);
    export_put (s, x);
  }
  space_drain (s->space);
}

/* ---- objects ---- */

int
store_create (struct store *s, const struct store_create *c,
              char instance[INSTANCE_HEX + 1])
{
  struct export_config config = {
    .size_bytes = c->size_bytes,
    .shared = c->shared,
    .reserved = c->reserve || s->config.reserve == 1,
    .prepared = c->reserve || s->config.reserve == 1,
  };
  struct export *x;
  int err;

  if (store_name_error (c->name) != NULL || c->size_bytes == 0 ||
      c->size_bytes > OBJECT_BYTES_MAX)
    return EINVAL;
  if (s->config.readonly)
    return EROFS;
  err = export_get (s, c->name, &config, true, &x);
  if (err)
    return err;
  hex_put (instance, x->instance, sizeof x->instance);
  export_put (s, x);
  return 0;
}

int
store_remove (struct store *s, const char *name, bool force)
{
  struct export *x;
  int err;

  if (store_name_error (name) != NULL)
    return ENOENT;
  if (s->config.readonly)
    return EROFS;
  lock_acquire (&s->lock);
  x = table_find (s, name);
  if (x == NULL || x->resizing || (x->nr_conns > 0 && !force)) {
    err = x == NULL ? ENOENT : x->resizing ? EALREADY : EBUSY;
    lock_release (&s->lock);
    return err;
  }
  if (s->config.readonly) {
    lock_release (&s->lock);
    return EROFS;
  }
  table_remove (s, x);
  x->nr_conns++;
  lock_release (&s->lock);
  err = empty_export (s, x);
  export_put (s, x);
  return err;
}
