/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of this folder share: volumes that hold nothing but note what
 * is trimmed, a pool over them, and who owns which block.
 */

#ifndef FARPAGE_TEST_POOL_H
#define FARPAGE_TEST_POOL_H

#include "test-common.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "env.h"
#include "space.h"

#define FAKES_MAX     4
#define POOL_MAX      200000 /* blocks of a fake volume */
#define WINDOW_BLOCKS 16u
#define TRIM_MAX      512u /* blocks at a time */
#define SOON_NS       (50 * NS_PER_MS)
#define LATE_NS       (120 * NS_PER_S)

struct fake {
  struct volume v;
  atomic_uint nr_trims;
  atomic_bool hold;       /* trims wait while it is set */
  atomic_uint nr_held;    /* trims that wait */
  atomic_uint bad;        /* trims of a window somebody owns */
  atomic_uchar *owned;    /* a byte a block */
  atomic_uchar *trimming; /* a byte a block */
};

struct pool {
  struct fake fake[FAKES_MAX];
  struct volume *volumes[FAKES_MAX];
  unsigned nr_volumes;
  struct space *sp;
  enum space_level told[64]; /* by on_level */
  atomic_uint nr_told;
  atomic_uint nr_wanted; /* calls of want_units */
};

static inline void
nap_ns (uint64_t ns)
{
  struct timespec ts = { .tv_sec = (time_t) (ns / NS_PER_S),
                         .tv_nsec = (long) (ns % NS_PER_S) };

  nanosleep (&ts, NULL);
}

/* ---- the fake volume ---- */

static inline int
fake_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  struct fake *f = (struct fake *) v; /* v is its first field */
  uint64_t first = off >> PAGE_SHIFT;
  uint64_t end = (off + bytes) >> PAGE_SHIFT;

  atomic_fetch_add (&f->nr_trims, 1);
  if (first % WINDOW_BLOCKS != 0 || end % WINDOW_BLOCKS != 0 || end == first ||
      end - first > TRIM_MAX)
    atomic_fetch_add (&f->bad, 1);
  for (uint64_t i = first; i < end; i++) {
    atomic_store (&f->trimming[i], 1);
    if (atomic_load (&f->owned[i]))
      atomic_fetch_add (&f->bad, 1);
  }
  atomic_fetch_add (&f->nr_held, 1);
  while (atomic_load (&f->hold))
    nap_ns (NS_PER_MS);
  atomic_fetch_sub (&f->nr_held, 1);
  for (uint64_t i = first; i < end; i++)
    atomic_store (&f->trimming[i], 0);
  return 0;
}

static const struct volume_ops fake_ops = { .kind = "fake", .trim = fake_trim };

static inline void
fake_init (struct fake *f, uint64_t nr_blocks, bool sparse)
{
  assert_true (nr_blocks <= POOL_MAX);
  f->v.ops = &fake_ops;
  f->v.name = (char *) (uintptr_t) "fake";
  f->v.size_bytes = nr_blocks << PAGE_SHIFT;
  f->v.align = 1;
  f->v.sparse = sparse;
  f->owned = calloc (nr_blocks, sizeof *f->owned);
  f->trimming = calloc (nr_blocks, sizeof *f->trimming);
}

/* ---- the pool ---- */

static inline void
pool_on_level (void *arg, enum space_level level)
{
  struct pool *p = arg;
  unsigned i = atomic_fetch_add (&p->nr_told, 1);

  p->told[i % 64] = level;
}

static inline void
pool_want_units (void *arg)
{
  struct pool *p = arg;

  atomic_fetch_add (&p->nr_wanted, 1);
}

/* sizes ends with 0. */
static inline struct pool *
pool_open_usable (const uint64_t *sizes, const struct space_run *usable,
                  unsigned stripe, bool sparse)
{
  struct pool *p = calloc (1, sizeof *p);
  struct space_config config = { .stripe_blocks = stripe,
                                 .usable = usable,
                                 .on_level = pool_on_level,
                                 .want_units = pool_want_units,
                                 .arg = p };

  for (; sizes[p->nr_volumes] != 0; p->nr_volumes++) {
    fake_init (&p->fake[p->nr_volumes], sizes[p->nr_volumes], sparse);
    p->volumes[p->nr_volumes] = &p->fake[p->nr_volumes].v;
  }
  config.volumes = p->volumes;
  config.nr_volumes = p->nr_volumes;
  assert_int_equal (space_create (&config, &p->sp), 0);
  return p;
}

static inline struct pool *
pool_open (const uint64_t *sizes, unsigned stripe, bool sparse)
{
  return pool_open_usable (sizes, NULL, stripe, sparse);
}

static inline struct pool *
pool_of (uint64_t nr_blocks)
{
  return pool_open ((uint64_t[]){ nr_blocks, 0 }, 0, false);
}

static inline void
pool_close (struct pool *p)
{
  space_destroy (p->sp);
  for (unsigned i = 0; i < p->nr_volumes; i++) {
    assert_int_equal (atomic_load (&p->fake[i].bad), 0);
    free (p->fake[i].owned);
    free (p->fake[i].trimming);
  }
  free (p);
}

static inline struct space_stat
pool_stat (struct pool *p)
{
  struct space_stat st;

  space_stat (p->sp, &st);
  return st;
}

/* The run is the caller's, and was nobody's: false if not.  Any thread. */
static inline bool
pool_own (struct pool *p, const struct space_run *run)
{
  struct fake *f = &p->fake[blkno_volume (run->blk)];
  bool good = run->nr > 0;

  for (uint64_t i = 0; i < run->nr; i++) {
    uint64_t place = blkno_place (run->blk) + i;

    good = good && place < f->v.size_bytes >> PAGE_SHIFT &&
           atomic_exchange (&f->owned[place], 1) == 0 &&
           !atomic_load (&f->trimming[place]);
  }
  return good;
}

static inline void
pool_disown (struct pool *p, const struct space_run *run)
{
  struct fake *f = &p->fake[blkno_volume (run->blk)];

  for (uint64_t i = 0; i < run->nr; i++)
    atomic_store (&f->owned[blkno_place (run->blk) + i], 0);
}

static inline struct space_run
pool_alloc (struct pool *p, uint64_t hint, uint64_t want)
{
  struct space_run run = { 0 };

  assert_int_equal (space_alloc (p->sp, hint, want, &run), 0);
  assert_in_range (run.nr, 1, want);
  assert_true (pool_own (p, &run));
  return run;
}

static inline void
pool_free (struct pool *p, uint64_t hint, struct space_run run)
{
  pool_disown (p, &run);
  space_free (p->sp, hint, &run, 1);
}

static inline void
pool_check (struct pool *p, uint64_t nr_mapped)
{
  const char *wrong = space_check (p->sp, nr_mapped);

  if (wrong != NULL)
    fail_msg ("%s", wrong);
}

#endif /* FARPAGE_TEST_POOL_H */
