/* SPDX-License-Identifier: BSD-2-Clause */
/* The public functions that have to do with objects and counts: checked here,
 * done on the loop; see pager.c.
 */

#include <config.h>

#include "swap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "types.h"

/* ---- objects ---- */

struct making {
  struct farpage_swap *swap;
  const char *name;
  uint64_t nr_pages;
  struct farpage_object *object;
  int error;
};

static void
make (void *arg)
{
  struct making *m = arg;

  m->error =
      swap_object_find_or_make (m->swap, m->name, m->nr_pages, &m->object);
}

int
farpage_alloc (struct farpage_swap *s, const char *name, uint64_t off_bytes,
               uint64_t size_bytes, struct farpage_object **objectp)
{
  struct making m = { .swap = s, .name = name };
  size_t len = name != NULL ? strnlen (name, FARPAGE_NAME_MAX + 1) : 1;
  int err;

  if (len == 0 || len > FARPAGE_NAME_MAX)
    return EINVAL;
  if (off_bytes > OBJECT_BYTES_MAX || size_bytes > OBJECT_BYTES_MAX - off_bytes)
    return EFBIG;
  m.nr_pages = (off_bytes + size_bytes + PAGE_MASK) / PAGE_BYTES;
  if (m.nr_pages == 0)
    return EINVAL;
  err = loop_call (s->loop, make, &m);
  if (err || m.error)
    return err ? err : m.error;
  *objectp = m.object;
  return 0;
}

void
farpage_reference (struct farpage_object *o)
{
  atomic_fetch_add (&o->refs, 1);
}

struct dealloc {
  struct call call; /* first */
  struct release release;
};

static void
dealloc_start (struct job *job)
{
  struct dealloc *d = (struct dealloc *) job;

  d->release.call = &d->call;
  swap_object_release (&d->release);
}

int
farpage_dealloc (struct farpage_object *o)
{
  struct dealloc d = { .release.object = o };

  return call_wait (o->swap->loop, &d.call, dealloc_start);
}

uint64_t
farpage_pages (const struct farpage_object *o)
{
  return o->nr_pages;
}

/* ---- what they have ---- */

struct looking_at {
  struct farpage_object *object;
  uint64_t page;
  uint64_t before, after;
  bool has;
};

static void
has (void *arg)
{
  struct looking_at *r = arg;

  r->has = cluster_has (r->object->map, r->page, SWAP_HAS_MAX, &r->before,
                        &r->after);
}

bool
farpage_haspage (struct farpage_object *o, uint64_t page, unsigned *before,
                 unsigned *after)
{
  struct looking_at r = { .object = o, .page = page };

  if (page >= o->nr_pages)
    return false;
  if (loop_is_here (o->swap->loop))
    has (&r);
  else if (loop_call (o->swap->loop, has, &r) != 0)
    return false;
  if (r.has && before != NULL)
    *before = (unsigned) r.before;
  if (r.has && after != NULL)
    *after = (unsigned) r.after;
  return r.has;
}

static bool
is_inside (const struct farpage_object *o, uint64_t first, uint64_t count)
{
  return first <= o->nr_pages && count <= o->nr_pages - first;
}

struct freeing {
  struct call call; /* first */
  struct step step;
  struct farpage_object *object;
  uint64_t next, end;
};

static bool
free_some (struct step *step)
{
  struct freeing *f = step->arg;
  bool all;

  if (f->object->moving)
    return false;
  all = swap_object_drop (f->object, &f->next, f->end);
  swap_trim (f->object->swap, false);
  if (all)
    call_done (&f->call, 0);
  return all;
}

static void
free_start (struct job *job)
{
  struct freeing *f = (struct freeing *) job;

  f->step = (struct step){ .go = free_some, .arg = f };
  swap_step (f->object->swap, &f->step);
}

int
farpage_freespace (struct farpage_object *o, uint64_t first, uint64_t count)
{
  struct freeing f = { .object = o, .next = first, .end = first + count };

  return is_inside (o, first, count)
             ? call_wait (o->swap->loop, &f.call, free_start)
             : EINVAL;
}

int
farpage_unswapped (struct farpage_object *o, uint64_t page)
{
  return farpage_freespace (o, page, 1);
}

int
farpage_reserve (struct farpage_object *o, uint64_t first, uint64_t count)
{
  struct reserve r = { .object = o, .first = first, .count = count };
  int err = ENOMEM;

  if (!is_inside (o, first, count))
    return EINVAL;
  if (count == 0)
    return 0;
  if (count > o->swap->nr_blocks)
    return ENOSPC;
  r.fresh = calloc (count, sizeof *r.fresh);
  r.old = calloc (count, sizeof *r.old);
  if (r.fresh != NULL && r.old != NULL)
    err = call_wait (o->swap->loop, &r.call, reserve_start);
  free (r.fresh);
  free (r.old);
  return err;
}

int
farpage_copy (struct farpage_object *src, struct farpage_object *dst,
              uint64_t off, int flags)
{
  struct copy c = { .src = src,
                    .dst = dst,
                    .off = off,
                    .destroy = (flags & FARPAGE_DESTROY) != 0 };

  if ((flags & ~FARPAGE_DESTROY) != 0 || src == dst || src->swap != dst->swap)
    return EINVAL;
  return call_wait (src->swap->loop, &c.call, copy_start);
}

/* ---- counts ---- */

struct looking {
  struct farpage_link *link;
  struct farpage_stat stat;
};

static void
look_at_link (struct farpage_stat *to, struct link *link)
{
  struct link_stat st;

  link_stat (link, &st);
  to->size_bytes = link_size_bytes (link);
  to->request_max_bytes = link_request_max (link);
  to->connections = st.nr_conns;
  to->connections_up = st.nr_conns_up;
  to->durable = link_is_durable (link);
  to->trims = link_can_trim (link);
  to->reconnects = st.nr_reconnects;
  to->replayed = st.nr_replayed;
  to->elsewhere = st.nr_elsewhere;
  to->reports = st.nr_reports;
  to->flushes = st.nr_flushes;
  to->errors = st.nr_errors;
  to->requests_read = st.nr_read;
  to->requests_written = st.nr_written;
  to->requests_trimmed = st.nr_trimmed;
  to->bytes_read = st.bytes_read;
  to->bytes_written = st.bytes_written;
  for (unsigned i = 0; i < POOLS; i++)
    to->pool[i] = (struct farpage_pool_stat){
      .requests = st.pool[i].nr,
      .queued = st.pool[i].nr_queued,
      .requests_max = st.pool[i].nr_max,
      .requests_peak = st.pool[i].nr_peak,
      .bytes = st.pool[i].bytes,
      .limit_bytes = st.pool[i].limit_bytes,
      .bytes_per_s = st.pool[i].rate,
      .round_trip_us = st.pool[i].rt_us,
    };
}

_Static_assert(FARPAGE_POOLS == POOLS, "pools");

static void
look_at_swap (struct farpage_stat *to, const struct farpage_swap *s)
{
  struct swap_space_stat st;

  swap_space_stat (s->space, &st);
  to->blocks = st.nr_blocks;
  to->blocks_free = st.nr_free + st.nr_ripe;
  to->blocks_used = st.nr_used;
  to->blocks_waiting = st.nr_waiting;
  to->blocks_trimming = st.nr_trimming;
  to->blocks_retired = st.nr_retired;
  to->blocks_limbo = st.nr_limbo;
  to->low = st.low;
  to->high = st.high;
  to->full = st.level == SWAP_FULL;
  to->almost_full = st.level != SWAP_ROOM;
  to->lost = s->lost;
  to->objects = s->nr_objects;
  to->objects_max = SWAP_OBJECTS_MAX;
  to->calls = atomic_load (&s->nr_ops);
  to->calls_max = SWAP_OPS_MAX;
  to->runs = s->nr_requests;
  to->runs_max = SWAP_REQUESTS_MAX;
  to->map_bytes = swzone_bytes (s->zone);
  to->map_bytes_max = swzone_bytes_max (s->zone);
  to->pages_got = s->nr_got;
  to->pages_put = s->nr_put;
  to->runs_put = s->nr_runs;
  to->pages_failed = s->nr_failed;
}

static void
look (void *arg)
{
  struct looking *l = arg;

  look_at_link (&l->stat, atomic_load (&l->link->link));
  if (l->link->swap != NULL)
    look_at_swap (&l->stat, l->link->swap);
}

int
farpage_stat (struct farpage_link *link, struct farpage_stat *stat,
              size_t stat_bytes)
{
  struct looking l = { .link = link };
  int err = 0;

  if (stat_bytes == 0)
    return EINVAL;
  if (loop_is_here (link->loop))
    look (&l);
  else
    err = loop_call (link->loop, look, &l);
  if (err)
    return err;
  memset (stat, 0, stat_bytes);
  memcpy (stat, &l.stat, min_u64 (stat_bytes, sizeof l.stat));
  return 0;
}

const char *
farpage_version (void)
{
  return PACKAGE_VERSION;
}
