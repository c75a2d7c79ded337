/* SPDX-License-Identifier: BSD-2-Clause */
/* What the store counts, as JSON; called by request.c in the control thread.
 *
 * Each list is one walk of a store_each_* function with a struct list: its
 * callback adds one object and only remembers that memory ran out, since the
 * walk cannot be ended early and may hold a lock of the store.  Numbers beyond
 * 2^63-1 are told as that.  No state, no lock.
 */

#include <config.h>

#include "stat-json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"

struct list {
  json_t *array;
  const char *name; /* NULL: all */
  bool failed;
};

static json_t *
number (uint64_t n)
{
  return json_integer (n > INT64_MAX ? INT64_MAX : (json_int_t) n);
}

/* Seconds, to the millisecond. */
static json_t *
seconds (uint64_t ns)
{
  return json_real ((double) (ns / NS_PER_MS) / 1000);
}

json_t *
stat_json_string (const char *text)
{
  json_t *json = json_string (text);
  char *copy;

  if (json != NULL)
    return json;
  copy = strdup (text);
  if (copy == NULL)
    return NULL;
  for (char *p = copy; *p != '\0'; p++)
    if ((unsigned char) *p >= 0x80)
      *p = '?';
  json = json_string (copy);
  free (copy);
  return json;
}

const char *
stat_json_space (enum space_state state)
{
  switch (state) {
  case SPACE_ALMOST_FULL:
    return "almost full";
  case SPACE_FULL:
    return "full";
  default:
    return "ok";
  }
}

/* Takes item, which may be NULL: no memory. */
static void
add (struct list *list, json_t *item)
{
  if (item == NULL || json_array_append_new (list->array, item) != 0)
    list->failed = true;
}

static void
add_object (void *arg, const struct object_stat *st)
{
  add (arg,
       json_pack ("{s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:i, s:o,"
                  " s:o}",
                  "name", stat_json_string (st->name), "instance",
                  stat_json_string (st->instance), "size_bytes",
                  number (st->size_bytes), "mapped_bytes",
                  number (st->mapped_bytes), "reserved_bytes",
                  number (st->reserved_bytes), "unnamed", st->unnamed,
                  "reserved", st->reserved, "shared", st->shared, "connections",
                  (int) st->nr_conns, "owner", stat_json_string (st->owner),
                  "linger", seconds (st->linger_ns)));
}

static void
add_volume (void *arg, const struct volume_stat *st)
{
  add (arg, json_pack ("{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b}", "name",
                       stat_json_string (st->name), "kind",
                       stat_json_string (st->kind), "engine",
                       stat_json_string (st->engine), "size_bytes",
                       number (st->size_bytes), "used_bytes",
                       number (st->used_bytes), "errors",
                       number (st->nr_errors), "direct", st->direct, "sparse",
                       st->sparse, "checked", st->checked));
}

static json_t *
requests (const struct req_stat req[REQ_KINDS])
{
  json_t *kinds = json_object ();

  for (int i = 0; i < REQ_KINDS && kinds != NULL; i++) {
    json_t *kind =
        json_pack ("{s:o, s:o, s:o}", "count", number (req[i].count), "bytes",
                   number (req[i].bytes), "errors", number (req[i].errors));

    if (json_object_set_new (kinds, req_kind_names[i], kind) != 0) {
      json_decref (kinds);
      kinds = NULL;
    }
  }
  return kinds;
}

/* Is export the object's name, perhaps with a size or an instance after it? */
static bool
export_of (const char *export, const char *name)
{
  size_t n = strlen (name);

  return strncmp (export, name, n) == 0 && strchr ("@~:", export[n]) != NULL;
}

static void
add_conn (void *arg, const struct conn_stat *st)
{
  struct list *list = arg;

  if (list->name != NULL && !export_of (st->export, list->name))
    return;
  add (list,
       json_pack ("{s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:i, s:o}", "id",
                  number (st->id), "export", stat_json_string (st->export),
                  "peer", stat_json_string (st->peer), "age",
                  seconds (st->age_ns), "idle", seconds (st->idle_ns),
                  "read_only", st->readonly, "fenced", st->fenced, "under_way",
                  (int) st->under_way, "requests", requests (st->req)));
}

static void
add_bound (void *arg, const char *name, uint64_t used, uint64_t max)
{
  add (arg, json_pack ("{s:o, s:o, s:o}", "name", stat_json_string (name),
                       "used", number (used), "max", number (max)));
}

static json_t *
pool (const struct store_stat *st)
{
  struct list runs = { .array = json_array () };
  int nr = 64;

  while (nr > 0 && st->fragments[nr - 1] == 0)
    nr--;
  for (int i = 0; i < nr; i++)
    add (&runs, number (st->fragments[i]));
  if (runs.failed) {
    json_decref (runs.array);
    return NULL;
  }
  return json_pack (
      "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:i, s:o}", "size_bytes",
      number (st->size_bytes), "mapped_bytes", number (st->mapped_bytes),
      "reserved_bytes", number (st->reserved_bytes), "parked_bytes",
      number (st->parked_bytes), "free_bytes", number (st->free_bytes),
      "relocation_bytes", number (st->relocation_bytes),
      "relocation_used_bytes", number (st->relocation_used_bytes), "space",
      stat_json_space (st->space), "stripe_blocks", (int) st->stripe_blocks,
      "fragments", runs.array);
}

/* Takes list, gives its array or NULL. */
static json_t *
finish (struct list *list)
{
  if (list->failed) {
    json_decref (list->array);
    return NULL;
  }
  return list->array;
}

int
stat_json_objects (struct store *s, const char *name, json_t **to)
{
  struct list list = { .array = json_array () };
  int err = store_each_object (s, name, add_object, &list);
  json_t *array = finish (&list);

  if (err != 0) {
    json_decref (array);
    return err;
  }
  if (array == NULL)
    return ENOMEM;
  *to = array;
  return 0;
}

/* ---- of a durable store ---- */

static json_t *
cache_use (const struct cache_use *use)
{
  return json_pack ("{s:o, s:o, s:o}", "clean_bytes", number (use->clean_bytes),
                    "dirty_bytes", number (use->dirty_bytes), "dirty_max_bytes",
                    number (use->dirty_max_bytes));
}

static json_t *
cache (const struct durable_stat *st)
{
  return json_pack (
      "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "size_bytes",
      number (st->cache.size_bytes), "free_bytes",
      number (st->cache.free_bytes), "writing_bytes",
      number (st->cache.writing_bytes), "meta", cache_use (&st->cache.meta),
      "data", cache_use (&st->cache.data), "undo", cache_use (&st->cache.undo),
      "hits", number (st->cache.nr_hits), "loads", number (st->cache.nr_loads),
      "evicted", number (st->cache.nr_evicted));
}

/* What was written to the volumes for each byte that clients wrote. */
static double
amplification (const struct durable_stat *st, uint64_t client_bytes)
{
  uint64_t sum = st->log.direct_bytes + st->log.data_bytes + st->log.log_bytes +
                 st->log.meta_bytes;

  return client_bytes > 0 ? (double) sum / (double) client_bytes : 0;
}

static json_t *
store_log (const struct durable_stat *st, uint64_t client_bytes)
{
  double times = amplification (st, client_bytes);

  return json_pack (
      "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
      "size_bytes", number (st->log.size_bytes), "used_bytes",
      number (st->log.used_bytes), "first_lsn", number (st->log.first_lsn),
      "tail_lsn", number (st->log.tail_lsn), "durable_lsn",
      number (st->log.durable_lsn), "cycle", number (st->log.cycle), "commits",
      number (st->log.nr_commits), "cycles", number (st->log.nr_cycles),
      "flushes", number (st->log.nr_flushes), "direct_bytes",
      number (st->log.direct_bytes), "data_bytes", number (st->log.data_bytes),
      "log_bytes", number (st->log.log_bytes), "meta_bytes",
      number (st->log.meta_bytes), "write_amplification",
      json_real ((double) (uint64_t) (times * 1000 + 0.5) / 1000));
}

static json_t *
recovery (const struct durable_stat *st)
{
  return json_pack ("{s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                    "clean", st->recovery.clean, "duration",
                    seconds (st->recovery.duration_ns), "first_lsn",
                    number (st->recovery.first_lsn), "end_lsn",
                    number (st->recovery.end_lsn), "durable_lsn",
                    number (st->recovery.durable_lsn), "staged",
                    number (st->recovery.nr_staged), "undone",
                    number (st->recovery.nr_undone), "redone",
                    number (st->recovery.nr_redone), "verified",
                    number (st->recovery.nr_verified), "fallen",
                    number (st->recovery.nr_fallen));
}

/* null of a volatile store. */
static json_t *
durable (struct store *s, uint64_t client_bytes)
{
  struct durable_stat st;

  if (!store_durable_stat (s, &st))
    return json_null ();
  return json_pack ("{s:o, s:o, s:o, s:o, s:o}", "epoch", number (st.epoch),
                    "staging",
                    stat_json_string (st.staging != NULL ? st.staging : ""),
                    "cache", cache (&st), "log", store_log (&st, client_bytes),
                    "recovery", recovery (&st));
}

static void
add_retired (void *arg, const char *volume, uint64_t block, uint64_t nr)
{
  add (arg, json_pack ("{s:o, s:o, s:o}", "volume", stat_json_string (volume),
                       "block", number (block), "count", number (nr)));
}

static const char *
state_name (const struct store_stat *st)
{
  if (st->failed != NULL)
    return "failed";
  if (st->holding)
    return "stopping";
  return st->readonly ? "readonly" : "running";
}

int
stat_json (struct store *s, const char *name, const struct armour *armour,
           const struct bound *extra, json_t **to)
{
  struct list volumes = { .name = NULL }, bounds = { .name = NULL };
  struct list conns = { .name = name }, retired = { .name = NULL };
  struct store_stat st;
  json_t *objects, *json;
  int err;

  err = stat_json_objects (s, name, &objects);
  if (err != 0)
    return err;
  volumes.array = json_array ();
  conns.array = json_array ();
  bounds.array = json_array ();
  retired.array = json_array ();
  store_stat (s, &st);
  store_each_volume (s, add_volume, &volumes);
  store_each_conn (s, add_conn, &conns);
  store_each_bound (s, add_bound, &bounds);
  add_bound (&bounds, extra->name, extra->used, extra->max);
  store_each_retired (s, add_retired, &retired);
  /* json_pack takes every reference, and a NULL makes it fail */
  json = json_pack (
      "{s:s, s:i, s:o, s:s, s:o, s:s, s:{s:b, s:b, s:i}, s:o, s:o, s:o, s:o,"
      " s:o, s:o, s:o, s:o}",
      "version", PACKAGE_VERSION, "pid", (int) getpid (), "uptime",
      seconds (st.uptime_ns), "state", state_name (&st), "reason",
      stat_json_string (st.failed != NULL ? st.failed : ""), "durability",
      st.durability, "armour", "flusher", armour->flusher, "locked",
      armour->locked, "oom_score_adj", armour->oom_score_adj, "pool",
      pool (&st), "store", durable (s, st.req[REQ_WRITE].bytes), "retired",
      finish (&retired), "volumes", finish (&volumes), "objects", objects,
      "connections", finish (&conns), "requests", requests (st.req), "bounds",
      finish (&bounds));
  if (json == NULL)
    return ENOMEM;
  *to = json;
  return 0;
}
