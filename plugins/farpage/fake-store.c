/* SPDX-License-Identifier: BSD-2-Clause */
/* A store that is a table of names; see fake-store.h.
 *
 * Linked to test-control and fake-server in the place of src/store.  One mutex
 * guards everything.  It keeps the contract of store.h for what the control
 * socket calls, and has no pages: figures are made up, but different.
 *
 *   objects: vm1 (open, by connection 7), and what was created
 */

#include <config.h>

#include "fake-store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"

#define OBJECTS_MAX 64

struct object {
  char name[OBJECT_NAME_MAX + 1];
  uint64_t size_bytes;
  bool reserve, shared, open, unnamed;
};

struct store {
  pthread_mutex_t mutex;
  struct object objects[OBJECTS_MAX]; /* [mutex], as all below */
  unsigned nr, ticks, created, repeat;
  enum space_state space;
  void (*on_space) (void *arg, enum space_state state);
  void *on_space_arg;
};

const char *const req_kind_names[REQ_KINDS] = { "read", "write", "flush",
                                                "trim", "zero",  "extents",
                                                "cache" };

struct store *
fake_store_new (void)
{
  struct store *s = calloc (1, sizeof *s);

  if (s == NULL)
    abort ();
  pthread_mutex_init (&s->mutex, NULL);
  s->objects[0] =
      (struct object){ .name = "vm1", .size_bytes = 10737418240, .open = true };
  s->objects[1] = (struct object){ .name = "swap/guest1",
                                   .size_bytes = 536870912,
                                   .reserve = true,
                                   .open = true,
                                   .unnamed = true };
  s->nr = 2;
  s->repeat = 1;
  return s;
}

void
fake_store_free (struct store *s)
{
  pthread_mutex_destroy (&s->mutex);
  free (s);
}

void
fake_store_space (struct store *s, enum space_state state)
{
  void (*fn) (void *, enum space_state);
  void *arg;

  pthread_mutex_lock (&s->mutex);
  s->space = state;
  fn = s->on_space;
  arg = s->on_space_arg;
  pthread_mutex_unlock (&s->mutex);
  if (fn != NULL)
    fn (arg, state);
}

void
fake_store_repeat (struct store *s, unsigned n)
{
  pthread_mutex_lock (&s->mutex);
  s->repeat = n;
  pthread_mutex_unlock (&s->mutex);
}

unsigned
fake_store_ticks (struct store *s)
{
  unsigned ticks;

  pthread_mutex_lock (&s->mutex);
  ticks = s->ticks;
  pthread_mutex_unlock (&s->mutex);
  return ticks;
}

unsigned
fake_store_created (struct store *s)
{
  unsigned created;

  pthread_mutex_lock (&s->mutex);
  created = s->created;
  pthread_mutex_unlock (&s->mutex);
  return created;
}

void
store_tick (struct store *s)
{
  pthread_mutex_lock (&s->mutex);
  s->ticks++;
  pthread_mutex_unlock (&s->mutex);
}

void
store_on_space (struct store *s, void (*fn) (void *, enum space_state),
                void *arg)
{
  pthread_mutex_lock (&s->mutex);
  s->on_space = fn;
  s->on_space_arg = arg;
  pthread_mutex_unlock (&s->mutex);
}

const char *
store_name_error (const char *name)
{
  if (name[0] == '\0')
    return "a name has 1 to 255 bytes";
  if (strpbrk (name, "/@~:#?") != NULL)
    return "a name has none of / @ ~ : # ?";
  return strlen (name) > OBJECT_NAME_MAX ? "a name has 1 to 255 bytes" : NULL;
}

static struct object *
find_locked (struct store *s, const char *name)
{
  for (unsigned i = 0; i < s->nr; i++)
    if (strcmp (s->objects[i].name, name) == 0)
      return &s->objects[i];
  return NULL;
}

static int
create_locked (struct store *s, const struct store_create *c)
{
  struct object *o = &s->objects[s->nr];

  if (find_locked (s, c->name) != NULL)
    return EEXIST;
  if (c->reserve && c->size_bytes > UINT64_C (1) << 40)
    return ENOSPC;
  if (s->nr == OBJECTS_MAX)
    return EMFILE;
  *o = (struct object){ .size_bytes = c->size_bytes,
                        .reserve = c->reserve,
                        .shared = c->shared };
  strcpy (o->name, c->name);
  s->nr++;
  s->created++;
  return 0;
}

int
store_create (struct store *s, const struct store_create *c,
              char instance[INSTANCE_HEX + 1])
{
  int err;

  pthread_mutex_lock (&s->mutex);
  err = create_locked (s, c);
  pthread_mutex_unlock (&s->mutex);
  if (err == 0)
    strcpy (instance, "0123456789abcdef0123456789abcdef");
  return err;
}

int
store_remove (struct store *s, const char *name, bool force)
{
  struct object *o;
  int err = 0;

  pthread_mutex_lock (&s->mutex);
  o = find_locked (s, name);
  if (o == NULL)
    err = ENOENT;
  else if (o->open && !force)
    err = EBUSY;
  else
    *o = s->objects[--s->nr];
  pthread_mutex_unlock (&s->mutex);
  return err;
}

int
store_resize (struct store *s, const char *name, uint64_t size_bytes)
{
  struct object *o;
  int err = 0;

  if (strncmp (name, "swap/", 5) == 0)
    return ENOTSUP;
  pthread_mutex_lock (&s->mutex);
  o = find_locked (s, name);
  if (o == NULL)
    err = ENOENT;
  else if (o->open && size_bytes < o->size_bytes)
    err = EBUSY;
  else
    o->size_bytes = size_bytes;
  pthread_mutex_unlock (&s->mutex);
  return err;
}

static void
fill_requests (struct req_stat req[REQ_KINDS])
{
  for (unsigned i = 0; i < REQ_KINDS; i++)
    req[i] = (struct req_stat){ .count = 1000 * (i + 1),
                                .bytes = UINT64_C (7654321) << (3 * i),
                                .errors = i };
}

void
store_stat (struct store *s, struct store_stat *st)
{
  *st = (struct store_stat){ .size_bytes = UINT64_C (100) << 30,
                             .mapped_bytes = UINT64_C (41) << 30,
                             .reserved_bytes = UINT64_C (5) << 29,
                             .parked_bytes = 49152,
                             .free_bytes = UINT64_C (56) << 30,
                             .relocation_bytes = 131072,
                             .relocation_used_bytes = 4096,
                             .durability = "strict",
                             .stripe_blocks = 32,
                             .uptime_ns = 93784123 * NS_PER_MS };
  fill_requests (st->req);
  for (unsigned i = 0; i < 20; i++)
    st->fragments[i] = i == 7 ? 0 : (i * 37) % 23 * (i + 1);
  pthread_mutex_lock (&s->mutex);
  st->space = s->space;
  st->nr_objects = s->nr;
  st->nr_conns = 1;
  pthread_mutex_unlock (&s->mutex);
}

bool
store_durable_stat (struct store *s, struct durable_stat *st)
{
  (void) s;
  *st = (struct durable_stat){ .epoch = 12, .staging = "/run/farpage" };
  st->cache.size_bytes = 64 << 20;
  st->cache.free_bytes = 5 << 20;
  st->cache.meta = (struct cache_use){ 21 << 20, 3 << 20, 32 << 20 };
  st->cache.data = (struct cache_use){ 22 << 20, 4 << 20, 16 << 20 };
  st->cache.undo = (struct cache_use){ 0, 1 << 20, 8 << 20 };
  st->cache.nr_hits = 123456;
  st->cache.nr_loads = 789;
  st->cache.nr_evicted = 12;
  st->log.size_bytes = UINT64_C (1) << 30;
  st->log.used_bytes = UINT64_C (1) << 29;
  st->log.first_lsn = 100;
  st->log.durable_lsn = 131170;
  st->log.tail_lsn = 131172;
  st->log.cycle = 77;
  st->log.nr_commits = 4242;
  st->log.nr_cycles = 76;
  st->log.nr_flushes = 8484;
  st->log.direct_bytes = 40 << 20;
  st->log.data_bytes = 11 << 20;
  st->log.log_bytes = 7 << 20;
  st->log.meta_bytes = 3 << 20;
  st->recovery.duration_ns = 1234 * NS_PER_MS;
  st->recovery.first_lsn = 90;
  st->recovery.end_lsn = 100;
  st->recovery.durable_lsn = 98;
  st->recovery.nr_staged = 17;
  st->recovery.nr_redone = 333;
  return true;
}

void
store_each_retired (struct store *s,
                    void (*fn) (void *, const char *, uint64_t, uint64_t),
                    void *arg)
{
  (void) s;
  fn (arg, "/dev/disk/by-id/nvme-a", 4711, 3);
}

void
store_each_volume (struct store *s,
                   void (*fn) (void *, const struct volume_stat *), void *arg)
{
  struct volume_stat st = { .name = "/dev/disk/by-id/nvme-a-\xff\033[31m",
                            .kind = "block device",
                            .engine = "io_uring",
                            .size_bytes = UINT64_C (64) << 30,
                            .used_bytes = UINT64_C (30) << 30,
                            .nr_errors = 3,
                            .direct = true };

  (void) s;
  fn (arg, &st);
  st = (struct volume_stat){ .name = "mem:36G",
                             .kind = "memory",
                             .engine = "copy",
                             .size_bytes = UINT64_C (36) << 30,
                             .used_bytes = UINT64_C (11) << 30,
                             .sparse = true };
  fn (arg, &st);
}

int
store_each_object (struct store *s, const char *name,
                   void (*fn) (void *, const struct object_stat *), void *arg)
{
  int err = name != NULL ? ENOENT : 0;

  pthread_mutex_lock (&s->mutex);
  for (unsigned i = 0; i < s->nr; i++) {
    struct object *o = &s->objects[i];
    struct object_stat st = { .name = o->name,
                              .instance = "0123456789abcdef0123456789abcdef",
                              .size_bytes = o->size_bytes,
                              .mapped_bytes = o->size_bytes / 3,
                              .reserved_bytes = o->reserve ? o->size_bytes : 0,
                              .reserved = o->reserve,
                              .shared = o->shared,
                              .unnamed = o->unnamed,
                              .nr_conns = o->open };

    if (o->open)
      strcpy (st.owner, "uid 1000, pid 4711");
    if (name != NULL && strcmp (name, o->name) != 0)
      continue;
    for (unsigned n = 0; n < s->repeat; n++)
      fn (arg, &st);
    err = 0;
  }
  pthread_mutex_unlock (&s->mutex);
  return err;
}

void
store_each_conn (struct store *s, void (*fn) (void *, const struct conn_stat *),
                 void *arg)
{
  struct conn_stat st = { .id = 7,
                          .export = "vm1~0123456789abcdef0123456789abcdef",
                          .peer = "uid 1000, pid 4711",
                          .age_ns = 3723 * NS_PER_S,
                          .idle_ns = 12 * NS_PER_MS,
                          .under_way = 2 };

  (void) s;
  fill_requests (st.req);
  fn (arg, &st);
  st.id = 8;
  st.export = "swap/guest1:512M";
  strcpy (st.peer, "[2001:db8:1234:5678:9abc:def0:1234:5678]:61234");
  st.age_ns = 12 * NS_PER_S;
  st.idle_ns = 90061 * NS_PER_S;
  st.fenced = true;
  fn (arg, &st);
}

void
store_each_bound (struct store *s,
                  void (*fn) (void *, const char *, uint64_t, uint64_t),
                  void *arg)
{
  (void) s;
  fn (arg, "connections", 2, 4096);
  fn (arg, "objects", 2, 65536);
  fn (arg, "bytes of page maps", 123456789, UINT64_C (1) << 34);
}
