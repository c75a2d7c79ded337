/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections: open an export by name, and the requests that come by it.
 *
 * Called by the plugin, a thread a request.  Each request is counted in (or
 * held: for a moment while its export is resized, for ever once store_hold ()
 * was called), checked against the end that the export had when the connection
 * was opened, its owner and its fence, handed to strategy, and counted out.
 * Numbers are kept a connection, so requests of two do not share a cache line.
 */

#include <config.h>

#include "store-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "strategy.h"

const char *const req_kind_names[REQ_KINDS] = {
  [REQ_READ] = "read",   [REQ_WRITE] = "write", [REQ_FLUSH] = "flush",
  [REQ_TRIM] = "trim",   [REQ_ZERO] = "zero",   [REQ_EXTENTS] = "extents",
  [REQ_CACHE] = "cache",
};

/* ---- opening ---- */

/* Tell a client's mistake in the log, and return it. */
static int
refuse (struct store *s, const char *export, const char *what, int err)
{
  char shown[300];

  export_name_show (export, shown, sizeof shown);
  log_limited (&s->client_limit, LOG_ERROR, "export '%s': %s", shown, what);
  return err;
}

static int
refuse_instance (struct store *s, const char *export)
{
  return refuse (s, export, "this instance is gone, and what was in it",
                 ESTALE);
}

/* What a new unnamed object of this name would be; its size can be unknown. */
static struct export_config
swap_config (struct store *s, const struct export_name *name)
{
  uint64_t size_bytes =
      name->size_bytes != 0 ? name->size_bytes : s->config.swap_size_bytes;
  bool reserved = s->config.reserve != 0;

  return (struct export_config){
    .size_bytes = size_bytes,
    .unnamed = true,
    .reserved = reserved,
    .prepared = reserved,
  };
}

static int
get_unnamed (struct store *s, const char *text, const struct export_name *name,
             struct export **xp)
{
  struct export_config config = swap_config (s, name);
  bool may_make =
      !name->has_instance && config.size_bytes != 0 && !s->config.readonly;
  int err = export_get (s, name->name, may_make ? &config : NULL, false, xp);

  if (err == ENOENT && name->has_instance)
    return refuse_instance (s, text);
  if (err == ENOENT && s->config.readonly)
    return refuse (s, text,
                   "the store is open read-only and has no such swap (start "
                   "the server without readonly=yes)",
                   err);
  if (err == ENOENT)
    return refuse (s, text,
                   "its size is not known (say swap/ID:SIZE, or start the "
                   "server with swap-size=SIZE)",
                   EINVAL);
  if (err == ENOSPC)
    return refuse (s, text,
                   "the pool has no room to reserve it (make it smaller, add "
                   "a volume, or start the server with reserve=no)",
                   err);
  if (err)
    return refuse (s, text, strerror (err), err);
  if (name->size_bytes != 0 && (*xp)->size_bytes != name->size_bytes) {
    export_put (s, *xp);
    return refuse (s, text, "this ID is in use with another size", EEXIST);
  }
  return 0;
}

static int
get_named (struct store *s, const char *text, const struct export_name *name,
           struct export **xp)
{
  int err = export_get (s, name->name, NULL, false, xp);

  if (err == ENOENT && name->has_instance)
    return refuse_instance (s, text);
  if (err == ENOENT)
    return refuse (s, text,
                   "there is no such disk (make it with 'farpage create NAME "
                   "SIZE')",
                   err);
  return err;
}

/* Find the export and check that it is the instance asked for. */
static int
get_export (struct store *s, const char *text, struct export_name *name,
            struct export **xp)
{
  char fallback[OBJECT_NAME_MAX + 1];
  const char *wrong;
  int err;

  if (text[0] == '\0') {
    if (store_default (s, fallback) != 0)
      return refuse (s, text,
                     "there is no default disk (name one, or start the "
                     "server with default=NAME)",
                     ENOENT);
    text = fallback;
  }
  wrong = export_name_parse (text, name);
  if (wrong != NULL)
    return refuse (s, text, wrong, EINVAL);
  err = name->unnamed ? get_unnamed (s, text, name, xp)
                      : get_named (s, text, name, xp);
  if (err)
    return err;
  if (name->has_instance &&
      memcmp (name->instance, (*xp)->instance, INSTANCE_BYTES) != 0) {
    export_put (s, *xp);
    return refuse_instance (s, text);
  }
  return 0;
}

/* Enter the connection in the store's list.  EMFILE: too many. */
static int
enlist (struct conn *c)
{
  struct store *s = c->s;

  LOCK_SCOPE (&s->lock);
  if (s->nr_conns == CONNS_MAX)
    return EMFILE;
  s->nr_conns++;
  c->id = s->next_conn_id++;
  c->prev_store = NULL;
  c->next_store = s->conns;
  if (s->conns != NULL)
    s->conns->prev_store = c;
  s->conns = c;
  return 0;
}

static void
delist (struct conn *c)
{
  struct store *s = c->s;

  LOCK_SCOPE (&s->lock);
  s->nr_conns--;
  *(c->prev_store != NULL ? &c->prev_store->next_store : &s->conns) =
      c->next_store;
  if (c->next_store != NULL)
    c->next_store->prev_store = c->prev_store;
  for (unsigned k = 0; k < REQ_KINDS; k++) {
    atomic_fetch_add (&s->gone[k].count, atomic_load (&c->req[k].count));
    atomic_fetch_add (&s->gone[k].bytes, atomic_load (&c->req[k].bytes));
    atomic_fetch_add (&s->gone[k].errors, atomic_load (&c->req[k].errors));
  }
}

int
store_connect (struct store *s, const char *export, bool readonly,
               const struct peer *peer, struct conn **cp)
{
  struct export_name name;
  struct export *x;
  struct conn *c;
  int err = get_export (s, export, &name, &x);

  if (err)
    return err;
  c = calloc (1, sizeof *c);
  if (c == NULL) {
    export_put (s, x);
    return ENOMEM;
  }
  c->s = s;
  c->x = x;
  c->peer = *peer;
  c->readonly = readonly || s->config.readonly;
  c->size_bytes = x->size_bytes;
  c->opened_ns = env_now_ns ();
  atomic_store (&c->last_ns, c->opened_ns);
  err = enlist (c);
  if (err) {
    refuse (s, export, "the server has all the connections it can have", err);
    goto fail;
  }
  err = owner_join (c, &name);
  if (err) {
    refuse (s, export,
            err == ESHUTDOWN ? "a later generation of this session is open"
                             : "too many sessions",
            err);
    delist (c);
    goto fail;
  }
  *cp = c;
  return 0;

fail:
  free (c);
  export_put (s, x);
  return err;
}

void
store_disconnect (struct conn *c)
{
  owner_leave (c);
  delist (c);
  export_close (c->s, c->x);
  free (c);
}

uint64_t
conn_size_bytes (const struct conn *c)
{
  return c->size_bytes;
}

bool
conn_readonly (const struct conn *c)
{
  return c->readonly || atomic_load (&c->shut_out);
}

const char *
conn_description (const struct conn *c)
{
  return c->x->description;
}

/* ---- requests ---- */

/* A request is under way, or waits first.  It never returns once the store
 * holds requests: the process is about to end, and a request without an answer
 * is sent again to the next one.
 */
static void
enter (struct conn *c)
{
  struct store *s = c->s;

  for (;;) {
    atomic_fetch_add (&c->under_way, 1);
    if (!atomic_load (&s->holding) && !atomic_load (&c->x->paused))
      return;
    atomic_fetch_sub (&c->under_way, 1);
    LOCK_SCOPE (&s->lock);
    while (atomic_load (&s->holding) || atomic_load (&c->x->paused))
      cond_wait (&s->changed, &s->lock);
  }
}

static void
count_in (struct conn *c, enum req_kind kind, uint64_t bytes)
{
  enter (c);
  atomic_store_explicit (&c->last_ns, env_now_ns (), memory_order_relaxed);
  atomic_fetch_add_explicit (&c->req[kind].count, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&c->req[kind].bytes, bytes, memory_order_relaxed);
}

static int
count_out (struct conn *c, enum req_kind kind, int err)
{
  if (err)
    atomic_fetch_add_explicit (&c->req[kind].errors, 1, memory_order_relaxed);
  atomic_fetch_sub (&c->under_way, 1);
  return err;
}

static int
check_range (const struct conn *c, uint64_t off, uint64_t bytes)
{
  return off > c->size_bytes || bytes > c->size_bytes - off ? EINVAL : 0;
}

/* After a look at the object: was that still this client's to see?  What is
 * killed is emptied only afterwards, so nobody is told of its holes.
 */
static int
check_alive (const struct conn *c)
{
  bool fenced = atomic_load (&c->fenced);

  return fenced || object_is_dead (c->x->o) ? ESHUTDOWN : 0;
}

/* Before a request that modifies: 0 if it is to be done.  One of length 0
 * changes nothing, and makes nobody an owner.
 */
static int
check_modify (struct conn *c, uint64_t off, uint64_t bytes)
{
  int err = check_range (c, off, bytes);

  if (err || bytes == 0)
    return err;
  err = owner_may_modify (c);
  if (err == 0 && !atomic_load (&c->x->written))
    atomic_store (&c->x->written, true);
  return err;
}

int
conn_read (struct conn *c, void *buf, uint64_t off, uint32_t bytes)
{
  int err;

  count_in (c, REQ_READ, bytes);
  err = check_range (c, off, bytes);
  if (err == 0 && bytes > 0)
    err = strategy_read (c->x->o, &c->fenced, buf, off, bytes);
  return count_out (c, REQ_READ, err);
}

int
conn_write (struct conn *c, const void *buf, uint64_t off, uint32_t bytes,
            bool fua)
{
  int err;

  count_in (c, REQ_WRITE, bytes);
  err = bytes > STRATEGY_BYTES_MAX ? EINVAL : check_modify (c, off, bytes);
  if (err == 0 && bytes > 0)
    err = strategy_write (c->x->o, &c->fenced, buf, off, bytes, fua);
  return count_out (c, REQ_WRITE, err);
}

int
conn_flush (struct conn *c)
{
  int err;

  count_in (c, REQ_FLUSH, 0);
  err = strategy_flush (c->x->o, &c->fenced);
  return count_out (c, REQ_FLUSH, err);
}

int
conn_trim (struct conn *c, uint64_t off, uint32_t bytes, bool fua)
{
  int err;

  count_in (c, REQ_TRIM, bytes);
  err = check_modify (c, off, bytes);
  if (err == 0 && bytes > 0)
    err = strategy_zero (c->x->o, &c->fenced, off, bytes, false, fua);
  return count_out (c, REQ_TRIM, err);
}

int
conn_zero (struct conn *c, uint64_t off, uint32_t bytes, bool may_hole,
           bool fast, bool fua)
{
  int err;

  count_in (c, REQ_ZERO, bytes);
  /* Whole pages are a change of the map; less than one is a write. */
  if (fast && bytes > 0 && bytes < PAGE_BYTES)
    err = ENOTSUP;
  else
    err = check_modify (c, off, bytes);
  if (err == 0 && bytes > 0)
    err = strategy_zero (c->x->o, &c->fenced, off, bytes, !may_hole, fua);
  return count_out (c, REQ_ZERO, err);
}

int
conn_cache (struct conn *c, uint64_t off, uint32_t bytes)
{
  int err;

  /* Nothing is kept in front of the volumes, so there is nothing to fill. */
  count_in (c, REQ_CACHE, bytes);
  err = check_range (c, off, bytes);
  if (err == 0)
    err = check_alive (c);
  return count_out (c, REQ_CACHE, err);
}

/* ---- extents ---- */

struct pending {
  uint64_t off, bytes;
  bool hole, zero;
};

static int
extents (struct conn *c, uint64_t off, uint64_t bytes, bool one,
         conn_extent_fn fn, void *arg)
{
  struct pending p = { .off = off };
  uint64_t end = off + bytes;

  while (off < end) {
    struct strategy_extent extent;
    int err = strategy_extent (c->x->o, off, end - off, &extent);

    if (err == 0)
      err = check_alive (c);
    if (err)
      return err;
    if (p.bytes > 0 && (p.hole != extent.hole || p.zero != extent.zero)) {
      err = fn (arg, p.off, p.bytes, p.hole, p.zero);
      if (err || one)
        return err;
      p.off = off;
      p.bytes = 0;
    }
    p.bytes += extent.bytes;
    p.hole = extent.hole;
    p.zero = extent.zero;
    off += extent.bytes;
  }
  return fn (arg, p.off, p.bytes, p.hole, p.zero);
}

int
conn_extents (struct conn *c, uint64_t off, uint32_t bytes, bool one,
              conn_extent_fn fn, void *arg)
{
  int err;

  count_in (c, REQ_EXTENTS, bytes);
  err = check_range (c, off, bytes);
  if (err == 0 && bytes > 0)
    err = extents (c, off, bytes, one, fn, arg);
  return count_out (c, REQ_EXTENTS, err);
}
