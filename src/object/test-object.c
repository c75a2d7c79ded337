/* SPDX-License-Identifier: BSD-2-Clause */
/* What an object promises about space: holes, "zero, reserved" pages, full
 * pools, waits, its end.  Random requests are in test-model.c.
 */

#include <config.h>

#include "test-disk.h"

#define PAGES(n) ((uint64_t) (n) << PAGE_SHIFT)

static void
expect_extent (struct disk *d, uint64_t off, uint64_t max, uint64_t bytes,
               bool hole, bool zero)
{
  struct strategy_extent x = disk_extent (d, off, max);

  assert_int_equal (x.bytes, bytes);
  assert_int_equal (x.hole, hole);
  assert_int_equal (x.zero, zero);
}

static void
test_holes (void **state)
{
  struct disk *d = disk_open (DISK_MEMORY, 4096, PAGES (1024) + 100, false);
  uint8_t *buf = calloc (1, PAGES (8));

  UNUSED (state);
  expect_extent (d, 0, PAGES (1024) + 100, 2 * MIB, true, true); /* a shard */
  assert_int_equal (disk_fill (d, 7, 0, PAGES (8)), 0);
  assert_int_equal (object_nr_mapped (d->o), 8);
  /* Zeros among data, found in the copy. */
  memset (buf, 9, PAGES (8));
  memset (buf + PAGES (3), 0, PAGES (2));
  assert_int_equal (disk_write (d, buf, 0, PAGES (8)), 0);
  assert_int_equal (object_nr_mapped (d->o), 6);
  expect_extent (d, 0, PAGES (1024), PAGES (3), false, false);
  expect_extent (d, PAGES (3), PAGES (1000), PAGES (2), true, true);
  expect_extent (d, PAGES (3) + 5, 20, 20, true, true);
  expect_extent (d, PAGES (3) + 5, PAGES (9), PAGES (2) - 5, true, true);
  disk_expect (d, 0, PAGES (3), PAGES (2));
  disk_expect (d, 9, PAGES (5), PAGES (3));
  /* The last byte of a page that is not zero goes: a hole. */
  assert_int_equal (disk_fill (d, 1, PAGES (3) + 700, 2), 0);
  assert_int_equal (object_nr_mapped (d->o), 7);
  assert_int_equal (disk_write (d, buf + PAGES (3), PAGES (3) + 700, 2), 0);
  assert_int_equal (object_nr_mapped (d->o), 6);
  /* The object's last page, which is no whole one. */
  assert_int_equal (disk_fill (d, 1, PAGES (1024), 100), 0);
  assert_int_equal (object_nr_mapped (d->o), 7);
  expect_extent (d, PAGES (1024), 100, 100, false, false);
  assert_int_equal (disk_zero (d, PAGES (1024), 100, true), 0);
  expect_extent (d, PAGES (1024), 100, 100, false, true);
  assert_int_equal (object_nr_reserved (d->o), 1);
  /* A part of it, zeroed again, does not break the promise. */
  assert_int_equal (disk_zero (d, PAGES (1024) + 50, 50, false), 0);
  assert_int_equal (disk_write (d, buf + PAGES (3), PAGES (1024), 9), 0);
  assert_int_equal (object_nr_reserved (d->o), 1);
  disk_check (d);
  free (buf);
  disk_close (d);
}

/* Fill the pool through an object that is larger: *nr pages fit. */
static struct disk *
full_disk (enum disk_kind kind, uint64_t nr_blocks, uint64_t *nr)
{
  struct disk *d = disk_open (kind, nr_blocks, PAGES (2 * nr_blocks), false);

  *nr = disk_stat (d).nr_charge_max;
  for (uint64_t i = 0; i < *nr; i++)
    assert_int_equal (disk_fill (d, (int) (i % 200) + 1, PAGES (i), PAGE_BYTES),
                      0);
  return d;
}

/* In a full pool overwrites go on, of any length and alignment; new pages are
 * refused at once, and change nothing.
 */
static void
full (enum disk_kind kind, uint64_t nr_blocks)
{
  uint64_t nr;
  struct disk *d = full_disk (kind, nr_blocks, &nr);
  uint64_t seed = test_seed ();
  uint64_t begin = env_now_ns ();

  for (int i = 0; i < 20; i++) {
    assert_int_equal (disk_fill (d, 50, PAGES (nr), PAGE_BYTES), ENOSPC);
    assert_int_equal (disk_fill (d, 50, PAGES (nr) + 5, 1), ENOSPC);
    assert_int_equal (disk_zero (d, PAGES (nr), PAGE_BYTES, true), ENOSPC);
    assert_int_equal (disk_zero (d, PAGES (nr) + 1, 5, true), ENOSPC);
    assert_int_equal (disk_zero (d, PAGES (nr) + 1, 5, false), 0);
    assert_int_equal (disk_zero (d, PAGES (nr), PAGES (4), false), 0);
  }
  assert_true (env_now_ns () - begin < 10 * NS_PER_S);
  assert_int_equal (disk_stat (d).level, SPACE_LEVEL_FULL);
  disk_check (d);
  for (uint64_t i = 0; i < nr; i++)
    disk_expect (d, (int) (i % 200) + 1, PAGES (i), PAGE_BYTES);
  disk_expect (d, 0, PAGES (nr), PAGES (nr));
  assert_int_equal (disk_fill (d, 201, 0, PAGES (nr)), 0);
  for (int i = 0; i < 200; i++) {
    uint64_t off = (test_random (&seed) >> 11) % (PAGES (nr) - 1);
    uint64_t bytes = 1 + (test_random (&seed) >> 11) % (PAGES (nr) - off);

    assert_int_equal (disk_fill (d, 1 + i, off, bytes), 0);
    disk_expect (d, 1 + i, off, bytes);
  }
  assert_int_equal (object_nr_mapped (d->o), nr);
  disk_check (d);
  disk_close (d);
}

static void
test_full (void **state)
{
  UNUSED (state);
  full (DISK_MEMORY, 32);
  full (DISK_MEMORY, 100);
  full (DISK_FAULT, 1100);
  full (DISK_FILE, 64);
}

/* A write that meets both: what is before the new page may be done, each page
 * whole; a slice of a write is done or not as one.
 */
static void
test_full_straddling (void **state)
{
  uint64_t nr;
  struct disk *d = full_disk (DISK_MEMORY, 1024, &nr);

  UNUSED (state);
  assert_int_equal (disk_fill (d, 201, 0, PAGES (nr + 1)), ENOSPC);
  for (uint64_t i = 0; i < nr; i++) {
    uint8_t page[PAGE_BYTES];

    assert_int_equal (disk_read (d, page, PAGES (i), PAGE_BYTES), 0);
    assert_true (page[0] == 201 || page[0] == i % 200 + 1);
    for (unsigned k = 1; k < PAGE_BYTES; k++)
      assert_int_equal (page[k], page[0]);
  }
  disk_expect (d, 0, PAGES (nr), PAGES (nr));
  disk_check (d);
  disk_close (d);
}

/* "Zero, reserved" pages keep their promise when the pool is full. */
static void
test_kept_zeros (void **state)
{
  struct disk *d = disk_open (DISK_MEMORY, 1024, PAGES (2048), false);
  uint64_t nr = disk_stat (d).nr_charge_max;

  UNUSED (state);
  assert_int_equal (disk_fill (d, 3, 0, PAGES (10)), 0);
  assert_int_equal (disk_zero (d, 0, PAGES (100) + 5, true), 0);
  assert_int_equal (object_nr_mapped (d->o), 0);
  /* A page that is asked for in part is promised whole. */
  assert_int_equal (object_nr_reserved (d->o), 101);
  expect_extent (d, 0, PAGES (512), PAGES (101), false, true);
  disk_check (d);
  assert_int_equal (disk_fill (d, 4, PAGES (100), PAGES (nr - 100)), 0);
  assert_int_equal (disk_fill (d, 5, PAGES (nr), PAGE_BYTES), ENOSPC);
  assert_int_equal (disk_zero (d, 0, PAGES (nr), true), 0);
  assert_int_equal (disk_zero (d, 0, PAGES (nr), true), 0);
  assert_int_equal (object_nr_reserved (d->o), nr);
  disk_check (d);
  assert_int_equal (disk_fill (d, 6, 0, PAGES (nr)), 0);
  disk_expect (d, 6, 0, PAGES (nr));
  /* More than fits: nothing of that shard, and what was there stays. */
  assert_int_equal (disk_zero (d, 0, PAGES (2048), true), ENOSPC);
  disk_check (d);
  /* A trim gives everything up. */
  assert_int_equal (disk_zero (d, 0, PAGES (2048), false), 0);
  assert_int_equal (disk_stat (d).nr_charged, 0);
  disk_close (d);
}

/* All pages of a reserved object are promised, whatever is done to them. */
static void
test_reserved (void **state)
{
  struct disk *d = disk_open (DISK_MEMORY, 1024, PAGES (700), true);
  struct object *other;

  UNUSED (state);
  assert_int_equal (disk_object (d, PAGES (69), true, &other), ENOSPC);
  assert_int_equal (disk_object (d, PAGES (68), true, &other), 0);
  assert_int_equal (object_nr_reserved (d->o), 700);
  for (int i = 0; i < 3; i++) {
    assert_int_equal (disk_fill (d, 6, 0, PAGES (700)), 0);
    assert_int_equal (object_nr_reserved (d->o), 0);
    assert_int_equal (disk_zero (d, 0, PAGES (700), i == 1), 0);
    expect_extent (d, 0, PAGES (10), PAGES (10), true, true);
    assert_int_equal (disk_stat (d).nr_charged, 768);
  }
  object_destroy (other);
  disk_close (d);
}

/* ---- waiting for space that a drop brings ---- */

static void
test_wait (void **state)
{
  uint64_t nr;
  struct disk *d = full_disk (DISK_MEMORY, 1024, &nr);
  struct call *c[3];

  UNUSED (state);
  assert_int_equal (disk_zero (d, PAGES (nr), PAGES (1), false), 0);
  space_drop_begin (d->sp); /* as if an object were dropped */
  c[0] = call_start (d, CALL_WRITE, 9, PAGES (nr), PAGES (10));
  c[1] = call_start (d, CALL_WRITE, 8, PAGES (nr) + PAGES (20) + 7, 100);
  c[2] = call_start (d, CALL_KEEP, 0, PAGES (nr + 600), PAGES (1));
  nap_ns (100 * NS_PER_MS);
  for (int i = 0; i < 3; i++)
    assert_false (atomic_load (&c[i]->over));
  /* Overwrites go on while others wait. */
  assert_int_equal (disk_fill (d, 77, 0, PAGES (40)), 0);
  assert_int_equal (disk_zero (d, 0, PAGES (40), false), 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal (call_join (c[i]), 0);
  disk_expect (d, 9, PAGES (nr), PAGES (10));
  disk_expect (d, 8, PAGES (nr) + PAGES (20) + 7, 100);
  disk_check (d);
  space_drop_done (d->sp);
  disk_check (d);
  disk_close (d);
}

/* However many wait for space, they hold nothing that an overwrite needs. */
static void
wait_many (enum disk_kind kind)
{
  uint64_t nr;
  struct disk *d = full_disk (kind, 1024, &nr);
  uint64_t slice = space_slice_max (d->sp);
  struct call *c[2 * BATCHES];
  uint64_t begin = env_now_ns ();

  space_drop_begin (d->sp);
  for (uint64_t i = 0; i < 2 * BATCHES; i++)
    c[i] = call_start (d, CALL_WRITE, 9, PAGES (nr + i / 2 * slice) + i % 2 * 7,
                       i % 2 ? 5 : PAGES (slice));
  nap_ns (300 * NS_PER_MS);
  assert_int_equal (disk_fill (d, 77, 5, PAGES (nr) - 9), 0);
  disk_expect (d, 77, 5, PAGES (nr) - 9);
  assert_in_range (env_now_ns () - begin, 0, 8 * NS_PER_S);
  for (uint64_t i = 0; i < 2 * BATCHES; i++)
    assert_false (atomic_load (&c[i]->over));
  space_drop_done (d->sp);
  for (uint64_t i = 0; i < 2 * BATCHES; i++)
    assert_int_equal (call_join (c[i]), ENOSPC);
  disk_close (d);
}

static void
test_wait_many (void **state)
{
  UNUSED (state);
  wait_many (DISK_MEMORY);
  wait_many (DISK_FILE);
}

/* No request waits longer than ten seconds, of however many slices it is and
 * though now and then one gets its room.
 */
static void
test_wait_ends (void **state)
{
  uint64_t nr;
  struct disk *d = full_disk (DISK_MEMORY, 1024, &nr);
  uint64_t slice = space_slice_max (d->sp);
  uint64_t begin = env_now_ns ();
  struct call *c;

  UNUSED (state);
  space_drop_begin (d->sp);
  c = call_start (d, CALL_WRITE, 9, PAGES (nr), PAGES (4 * slice));
  for (uint64_t i = 0; i < 2; i++) {
    nap_ns (4 * NS_PER_S);
    assert_false (atomic_load (&c->over));
    assert_int_equal (disk_zero (d, PAGES (i * slice), PAGES (slice), false),
                      0);
  }
  assert_int_equal (call_join (c), ENOSPC);
  assert_in_range (env_now_ns () - begin, 9 * NS_PER_S, 15 * NS_PER_S);
  disk_expect (d, 9, PAGES (nr), PAGES (2 * slice));
  space_drop_done (d->sp);
  disk_check (d);
  disk_close (d);
}

/* ---- its end ---- */

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  bool hold, held;
} gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };

static int
gate_build (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
            const struct swent *ents, swmeta_run_fn fn, void *arg)
{
  pthread_mutex_lock (&gate.mutex);
  gate.held = true;
  pthread_cond_broadcast (&gate.changed);
  while (gate.hold)
    pthread_cond_wait (&gate.changed, &gate.mutex);
  pthread_mutex_unlock (&gate.mutex);
  return map_memory_ops.build (map, mc, pgno, nr, ents, fn, arg);
}

static void *
drop_thread (void *arg)
{
  object_kill (arg);
  object_drop (arg);
  return NULL;
}

/* A write that is just entering its page when the object is killed: the drop
 * does not miss what it enters.
 */
static void
test_drop_race (void **state)
{
  struct disk *d = disk_open (DISK_MEMORY, 1024, PAGES (2048), false);
  struct map_ops ops = map_memory_ops;
  pthread_t thread;
  struct call *c;

  UNUSED (state);
  ops.build = gate_build;
  d->o->ops = &ops;
  gate.hold = true;
  c = call_start (d, CALL_WRITE, 9, PAGES (600), PAGES (1));
  pthread_mutex_lock (&gate.mutex);
  while (!gate.held)
    pthread_cond_wait (&gate.changed, &gate.mutex);
  pthread_mutex_unlock (&gate.mutex);
  pthread_create (&thread, NULL, drop_thread, d->o);
  nap_ns (100 * NS_PER_MS);
  pthread_mutex_lock (&gate.mutex);
  gate.hold = false;
  pthread_cond_broadcast (&gate.changed);
  pthread_mutex_unlock (&gate.mutex);
  pthread_join (thread, NULL);
  call_join (c);
  assert_int_equal (object_nr_mapped (d->o), 0);
  disk_close (d);
}

static void
test_dead (void **state)
{
  struct disk *d = disk_open (DISK_MEMORY, 1024, PAGES (600), true);
  char byte;

  UNUSED (state);
  assert_int_equal (disk_fill (d, 1, 5, PAGES (550)), 0);
  assert_int_equal (object_size_bytes (d->o), PAGES (600));
  assert_true (object_is_reserved (d->o));
  assert_false (object_is_dead (d->o));
  object_kill (d->o);
  assert_true (object_is_dead (d->o));
  assert_int_equal (disk_fill (d, 1, 0, PAGES (3)), ESHUTDOWN);
  assert_int_equal (disk_fill (d, 1, 7, 1), ESHUTDOWN);
  assert_int_equal (disk_zero (d, 0, PAGES (3), false), ESHUTDOWN);
  assert_int_equal (disk_read (d, &byte, 0, 1), ESHUTDOWN);
  object_drop (d->o);
  object_drop (d->o); /* once is enough */
  assert_int_equal (object_nr_mapped (d->o), 0);
  assert_int_equal (disk_stat (d).nr_charged, 0);
  object_destroy (d->o);
  d->o = NULL;
  object_destroy (NULL);
  disk_close (d);
}

/* An object's end gives a sparse volume's memory back. */
static void
test_sparse (void **state)
{
  struct disk *d = calloc (1, sizeof *d);
  struct space_config config = { .volumes = &d->v, .nr_volumes = 1 };

  UNUSED (state);
  d->size = PAGES (5000);
  assert_int_equal (volume_open_memory ("mem", PAGES (8192), true, &d->v), 0);
  assert_int_equal (space_create (&config, &d->sp), 0);
  assert_int_equal (swzone_create (sizeof (struct swent), 64 * MIB, &d->zone),
                    0);
  assert_int_equal (disk_object (d, d->size, false, &d->o), 0);
  for (uint64_t i = 0; i < 5000; i += 7)
    assert_int_equal (disk_fill (d, 1, PAGES (i), PAGES (1)), 0);
  assert_int_equal (disk_fill (d, 1, 0, d->size), 0);
  assert_true (test_memfd_blocks (0) >= 5000 * 8);
  object_destroy (d->o);
  d->o = NULL;
  assert_int_equal (test_memfd_blocks (0), 0);
  disk_close (d);
}

/* Of no error is anything left behind. */
static void
test_no_memory (void **state)
{
  struct disk *d = disk_open (DISK_MEMORY, 1024, PAGES (600), false);
  struct swzone *zone = d->zone, *small;
  struct object *o;

  UNUSED (state);
  assert_int_equal (swzone_create (sizeof (struct swent), 4096, &small), 0);
  d->zone = small;
  assert_int_equal (disk_object (d, PAGES (700), true, &o), ENOMEM);
  d->zone = zone;
  swzone_destroy (small);
  disk_check (d);
  disk_close (d);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_holes),           cmocka_unit_test (test_full),
    cmocka_unit_test (test_full_straddling), cmocka_unit_test (test_kept_zeros),
    cmocka_unit_test (test_reserved),        cmocka_unit_test (test_wait),
    cmocka_unit_test (test_wait_many),       cmocka_unit_test (test_wait_ends),
    cmocka_unit_test (test_drop_race),       cmocka_unit_test (test_dead),
    cmocka_unit_test (test_no_memory),       cmocka_unit_test (test_sparse),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
