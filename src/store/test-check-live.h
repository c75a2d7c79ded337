/* SPDX-License-Identifier: BSD-2-Clause */
/* Stores that the server makes, over volumes in memory that outlive it: what
 * lies on them at a moment is kept, and is put back while no store is open.
 *
 * FARPAGE_SEED: of whatever is random.
 */

#ifndef FARPAGE_TEST_CHECK_LIVE_H
#define FARPAGE_TEST_CHECK_LIVE_H

#include "test-check.h"

#include <time.h>
#include <unistd.h>

#include "env.h"
#include "store.h"
#include "test-util.h"

#define NR_VOLUMES 2

static uint64_t seed;

static inline uint64_t
rnd (void)
{
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static inline void
seed_begin (void)
{
  const char *text = getenv ("FARPAGE_SEED");

  seed = text != NULL ? strtoull (text, NULL, 0) : env_now_ns ();
  seed |= 1;
  print_message ("FARPAGE_SEED=%" PRIu64 "\n", seed);
}

struct live {
  struct volume *v[NR_VOLUMES]; /* fault over memory; a store does not close
                                 * them */
  const struct volume_ops *ops;
  uint8_t *image[NR_VOLUMES]; /* a moment's content */
  struct store *s;
  struct found found;
};

static inline void
keep_open (struct volume *v)
{
  (void) v;
}

static inline void
live_open (struct live *t, const uint64_t bytes[NR_VOLUMES],
           uint64_t ring_bytes)
{
  struct super_format format = { .volumes = t->v,
                                 .nr_volumes = NR_VOLUMES,
                                 .ring_bytes = ring_bytes };
  uint8_t uuid[DISK_UUID_BYTES];
  struct volume *inner;

  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    assert_int_equal (
        volume_open_memory (i > 0 ? "vb" : "va", bytes[i], true, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &t->v[i]), 0);
    t->image[i] = aligned_alloc (PAGE_BYTES, bytes[i]);
  }
  assert_int_equal (super_format (&format, uuid), 0);
  t->ops = t->v[0]->ops;
}

static inline void
live_close (struct live *t)
{
  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    volume_close (t->v[i]);
    free (t->image[i]);
  }
}

static inline int
try_open_store (struct live *t)
{
  static struct volume_ops kept;
  struct store_volume_config vc[NR_VOLUMES] = { { .ready = t->v[0] },
                                                { .ready = t->v[1] } };
  struct store_config config = { .volumes = vc,
                                 .nr_volumes = NR_VOLUMES,
                                 .durability = STORE_FLUSH,
                                 .cache_bytes = 2 * MIB };
  int err;

  kept = *t->ops;
  kept.close = keep_open;
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    t->v[i]->ops = &kept;
  test_alone_begin (); /* no thread is there yet */
  err = store_open (&config, &t->s);
  test_alone_end ();
  if (err == 0)
    err = store_start (t->s);
  if (err)
    for (unsigned i = 0; i < NR_VOLUMES; i++)
      t->v[i]->ops = t->ops;
  return err;
}

static inline void
open_store (struct live *t)
{
  assert_int_equal (try_open_store (t), 0);
}

static inline int
try_close_store (struct live *t)
{
  int err = store_stop (t->s);

  store_close (t->s);
  t->s = NULL;
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    t->v[i]->ops = t->ops;
  return err;
}

static inline void
close_store (struct live *t)
{
  assert_int_equal (try_close_store (t), 0);
}

static inline void
make (struct live *t, const char *name, uint64_t size_bytes)
{
  const struct store_create sc = { .name = name, .size_bytes = size_bytes };
  char instance[INSTANCE_HEX + 1];

  assert_int_equal (store_create (t->s, &sc, instance), 0);
}

/* What lies there now, to and from t->image. */
static inline void
save (struct live *t)
{
  test_alone_begin ();
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    assert_int_equal (
        volume_read (t->v[i], 0, t->image[i], t->v[i]->size_bytes), 0);
  test_alone_end ();
}

/* Does t->image still show it? */
static inline bool
is_saved (struct live *t)
{
  bool same = true;

  test_alone_begin ();
  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    uint8_t *now = aligned_alloc (PAGE_BYTES, t->v[i]->size_bytes);

    assert_int_equal (volume_read (t->v[i], 0, now, t->v[i]->size_bytes), 0);
    same = same && memcmp (now, t->image[i], t->v[i]->size_bytes) == 0;
    free (now);
  }
  test_alone_end ();
  return same;
}

/* A moment of a store that is open: a copy of blocks that are being written
 * would be of no moment.
 */
static inline void
save_quiet (struct live *t)
{
  const struct timespec nap = { .tv_nsec = 20000000 };

  AnnotateIgnoreReadsBegin (__FILE__, __LINE__);
  do {
    save (t);
    nanosleep (&nap, NULL);
  } while (!is_saved (t));
  AnnotateIgnoreReadsEnd (__FILE__, __LINE__);
}

static inline void
put_back (struct live *t)
{
  test_alone_begin ();
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    assert_int_equal (
        volume_write (t->v[i], 0, t->image[i], t->v[i]->size_bytes), 0);
  test_alone_end ();
}

#endif /* FARPAGE_TEST_CHECK_LIVE_H */
