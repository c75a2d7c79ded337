/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-durable.c and test-retired.c share: a durable store whose volume,
 * memory behind a fault volume, outlives it; stopped and opened again, or put
 * back to its bytes of one moment, as a crash leaves them.
 */

#ifndef FARPAGE_TEST_KEPT_H
#define FARPAGE_TEST_KEPT_H

#include "test-store.h"
#include "test-util.h"

#include "super.h"

#define KEPT_BYTES (96 * MIB)
#define KEPT_CACHE (16 * MIB)

struct kept {
  struct rig rig;
  struct volume *memory;
  const struct volume_ops *ops; /* the fault volume's own */
  struct volume_ops kept_ops;   /* the same, but close does nothing */
  uint8_t *image;
  uint64_t cache_bytes;
  bool readonly;
};

static inline void
keep_open (struct volume *v)
{
  (void) v;
}

static inline int
open_store (struct kept *k, enum store_durability durability)
{
  struct store_volume_config vc = { .ready = k->rig.fault };
  struct store_config c = test_config;
  int err;

  c.volumes = &vc;
  c.nr_volumes = 1;
  c.durability = durability;
  c.cache_bytes = k->cache_bytes;
  c.readonly = k->readonly;
  err = store_open (&c, &k->rig.s);
  return err ? err : store_start (k->rig.s);
}

static inline void
close_store (struct kept *k)
{
  k->rig.fault->ops = &k->kept_ops;
  store_close (k->rig.s);
  k->rig.s = NULL;
  k->rig.fault->ops = k->ops;
}

static inline int
begin (void **state)
{
  struct kept *k = calloc (1, sizeof *k);
  struct super_format format = { .nr_volumes = 1, .ring_bytes = 16 * MIB };
  uint8_t uuid[DISK_UUID_BYTES];

  log_set (test_log_keep, NULL);
  memset (test_log, 0, sizeof test_log);
  assert_int_equal (volume_open_memory ("mem", KEPT_BYTES, true, &k->memory),
                    0);
  format.volumes = &k->memory;
  assert_int_equal (super_format (&format, uuid), 0);
  assert_int_equal (volume_open_fault (k->memory, &k->rig.fault), 0);
  k->ops = k->rig.fault->ops;
  k->kept_ops = *k->ops;
  k->kept_ops.close = keep_open;
  k->cache_bytes = KEPT_CACHE;
  k->image = malloc (KEPT_BYTES);
  assert_non_null (k->image);
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
  *state = k;
  return 0;
}

static inline int
end (void **state)
{
  struct kept *k = *state;

  if (k->rig.s != NULL)
    close_store (k);
  volume_close (k->rig.fault); /* and memory */
  free (k->image);
  free (k);
  log_set (NULL, NULL);
  return 0;
}

static inline void
reopen (struct kept *k)
{
  assert_int_equal (store_stop (k->rig.s), 0);
  close_store (k);
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
}

static inline struct durable_stat
durable_of (struct kept *k)
{
  struct durable_stat st;

  assert_true (store_durable_stat (k->rig.s, &st));
  return st;
}

/* All that was ever written, and flushes. */
static inline uint64_t
nr_changes (struct kept *k)
{
  struct durable_stat st = durable_of (k);

  return st.log.direct_bytes + st.log.data_bytes + st.log.log_bytes +
         st.log.meta_bytes + st.log.nr_flushes;
}

/* The medium as it is at one moment: not when a cycle is at work. */
static inline void
save (struct kept *k)
{
  uint64_t nr;
  int err;

  do {
    nr = nr_changes (k);
    AnnotateIgnoreReadsBegin (__FILE__, __LINE__);
    err = volume_read (k->memory, 0, k->image, KEPT_BYTES);
    AnnotateIgnoreReadsEnd (__FILE__, __LINE__);
    assert_int_equal (err, 0);
  } while (nr_changes (k) != nr);
}

/* The machine crashes: what was saved is what there is. */
static inline void
crash (struct kept *k)
{
  (void) store_stop (k->rig.s);
  close_store (k);
  assert_int_equal (volume_write (k->memory, 0, k->image, KEPT_BYTES), 0);
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
}

/* Not test-store.h's, whose store keeps nothing. */
#undef CASE
#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

#endif /* FARPAGE_TEST_KEPT_H */
