/* SPDX-License-Identifier: BSD-2-Clause */
/* Statistics: what store.h promises to tell, gathered from all layers. */

#include <config.h>

#include "durable.h"

#include <errno.h>
#include <string.h>

#include "env.h"

static void
add_counts (struct req_stat *to, struct req_count *from)
{
  for (unsigned k = 0; k < REQ_KINDS; k++) {
    to[k].count += atomic_load (&from[k].count);
    to[k].bytes += atomic_load (&from[k].bytes);
    to[k].errors += atomic_load (&from[k].errors);
  }
}

static void
stat_space (struct store *s, struct store_stat *st)
{
  static const enum space_state state[] = {
    [SPACE_LEVEL_OK] = SPACE_OK,
    [SPACE_LEVEL_ALMOST_FULL] = SPACE_ALMOST_FULL,
    [SPACE_LEVEL_FULL] = SPACE_FULL,
  };
  struct space_stat ss;

  space_stat (s->space, &ss);
  st->size_bytes = ss.nr_blocks << PAGE_SHIFT;
  if (s->durable != NULL)
    ss.nr_parked += durable_nr_parked_meta (s->durable);
  st->parked_bytes = ss.nr_parked << PAGE_SHIFT;
  st->free_bytes = ss.nr_charged < ss.nr_charge_max
                       ? (ss.nr_charge_max - ss.nr_charged) << PAGE_SHIFT
                       : 0;
  st->relocation_bytes = (ss.nr_units + ss.nr_retire_max) << PAGE_SHIFT;
  st->relocation_used_bytes = (ss.nr_units_used + ss.nr_retired) << PAGE_SHIFT;
  st->space = state[ss.level];
  st->stripe_blocks = ss.stripe_blocks;
  space_fragments (s->space, st->fragments);
}

void
store_stat (struct store *s, struct store_stat *st)
{
  memset (st, 0, sizeof *st);
  stat_space (s, st);
  st->durability = store_durability_name (s);
  st->failed = s->durable != NULL ? durable_fail_reason (s->durable) : NULL;
  st->readonly = s->config.readonly;
  st->holding = atomic_load (&s->holding);
  st->uptime_ns = env_now_ns () - s->opened_ns;

  LOCK_SCOPE (&s->lock);
  st->nr_objects = s->nr_exports;
  st->nr_conns = s->nr_conns;
  for (unsigned i = 0; i < s->nr_exports; i++) {
    struct export *x = s->exports[i];

    if (!x->made)
      continue;
    st->mapped_bytes += object_nr_mapped (x->o) << PAGE_SHIFT;
    st->reserved_bytes += object_nr_reserved (x->o) << PAGE_SHIFT;
  }
  add_counts (st->req, s->gone);
  for (struct conn *c = s->conns; c != NULL; c = c->next_store)
    add_counts (st->req, c->req);
}

bool
store_durable_stat (struct store *s, struct durable_stat *st)
{
  if (s->durable == NULL)
    return false;
  memset (st, 0, sizeof *st);
  durable_stat (s->durable, st);
  return true;
}

void
store_each_retired (struct store *s,
                    void (*fn) (void *arg, const char *volume, uint64_t block,
                                uint64_t nr),
                    void *arg)
{
  struct space_run runs[SPACE_RETIRED_LISTED];
  unsigned nr = space_retired (s->space, runs);

  for (unsigned i = 0; i < nr; i++)
    fn (arg, space_volume (s->space, runs[i].blk)->name,
        blkno_place (runs[i].blk), runs[i].nr);
}

void
store_each_volume (struct store *s,
                   void (*fn) (void *arg, const struct volume_stat *st),
                   void *arg)
{
  for (unsigned i = 0; i < s->nr_volumes; i++) {
    struct volume *v = s->volumes[i];
    struct volume_stat st = {
      .name = v->name,
      .kind = v->ops->kind,
      .engine = v->batched && s->pool != NULL ? vpool_engine_name (s->pool)
                                              : "memory",
      .size_bytes = v->size_bytes,
      .used_bytes = space_volume_used (s->space, i) << PAGE_SHIFT,
      .nr_errors = atomic_load (&v->nr_errors),
      .direct = v->direct,
      .sparse = v->sparse,
      .checked = v->checked,
    };

    fn (arg, &st);
  }
}

/* Lock: needs store.lock. */
static void
stat_export (struct store *s, struct export *x, struct object_stat *st)
{
  memset (st, 0, sizeof *st);
  st->name = x->name;
  hex_put (st->instance, x->instance, sizeof x->instance);
  st->size_bytes = x->size_bytes;
  st->mapped_bytes = object_nr_mapped (x->o) << PAGE_SHIFT;
  st->reserved_bytes = object_nr_reserved (x->o) << PAGE_SHIFT;
  st->unnamed = x->unnamed;
  st->reserved = object_is_reserved (x->o);
  st->shared = x->shared;
  st->nr_conns = x->nr_conns;
  if (x->unnamed && x->nr_conns == 0)
    st->linger_ns = linger_left_ns (s, x, env_now_ns ());

  LOCK_SCOPE (&x->lock);
  if (x->owned)
    ident_text (&x->owner, st->owner, sizeof st->owner);
}

int
store_each_object (struct store *s, const char *name,
                   void (*fn) (void *arg, const struct object_stat *st),
                   void *arg)
{
  struct object_stat st;

  LOCK_SCOPE (&s->lock);
  if (name != NULL) {
    struct export *x = table_find (s, name);

    if (x == NULL)
      return ENOENT;
    stat_export (s, x, &st);
    fn (arg, &st);
    return 0;
  }
  for (unsigned pass = 0; pass < 2; pass++)
    for (unsigned i = 0; i < s->nr_exports; i++) {
      struct export *x = s->exports[i];

      if (!x->made || x->unnamed != (pass == 1))
        continue;
      stat_export (s, x, &st);
      fn (arg, &st);
    }
  return 0;
}

void
store_each_conn (struct store *s,
                 void (*fn) (void *arg, const struct conn_stat *st), void *arg)
{
  uint64_t now_ns = env_now_ns ();

  LOCK_SCOPE (&s->lock);
  for (struct conn *c = s->conns; c != NULL; c = c->next_store) {
    uint64_t last_ns = atomic_load (&c->last_ns);
    struct conn_stat st = {
      .id = c->id,
      .export = c->x->name,
      .age_ns = c->opened_ns < now_ns ? now_ns - c->opened_ns : 0,
      .idle_ns = last_ns < now_ns ? now_ns - last_ns : 0,
      .readonly = conn_readonly (c),
      .fenced = atomic_load (&c->fenced),
      .under_way = atomic_load (&c->under_way),
    };

    peer_text (&c->peer, st.peer, sizeof st.peer);
    add_counts (st.req, c->req);
    fn (arg, &st);
  }
}

void
store_each_bound (struct store *s,
                  void (*fn) (void *arg, const char *name, uint64_t used,
                              uint64_t max),
                  void *arg)
{
  struct space_stat ss;
  unsigned nr_exports, nr_conns, nr_sessions = 0;

  space_stat (s->space, &ss);
  lock_acquire (&s->lock);
  nr_exports = s->nr_exports;
  nr_conns = s->nr_conns;
  for (unsigned i = 0; i < nr_exports; i++) {
    unsigned nr = atomic_load (&s->exports[i]->nr_sessions);

    nr_sessions = nr > nr_sessions ? nr : nr_sessions;
  }
  lock_release (&s->lock);
  fn (arg, "blocks promised to pages", ss.nr_charged, ss.nr_charge_max);
  fn (arg, "blocks on the move", ss.nr_units_used, ss.nr_units);
  fn (arg, "blocks retired", ss.nr_retired, ss.nr_retire_max);
  if (s->durable != NULL)
    durable_each_bound (s->durable, fn, arg);
  fn (arg, "bytes of page maps", swzone_bytes (s->zone),
      swzone_bytes_max (s->zone));
  fn (arg, "volumes", s->nr_volumes, VOLUMES_MAX);
  fn (arg, "objects", nr_exports, EXPORTS_MAX);
  fn (arg, "connections", nr_conns, CONNS_MAX);
  fn (arg, "sessions remembered for an object", nr_sessions, SESSIONS_MAX);
  if (s->pool != NULL)
    fn (arg, "I/O contexts", vpool_nr_used (s->pool), vpool_nr (s->pool));
}
