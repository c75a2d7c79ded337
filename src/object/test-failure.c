/* SPDX-License-Identifier: BSD-2-Clause */
/* Media that fail or lie, maps that fail, fences: what was acknowledged stays,
 * nothing leaks, the error is the right one.
 */

#include <config.h>

#include "test-disk.h"

#define PAGES(n) ((uint64_t) (n) << PAGE_SHIFT)
#define OLD      1
#define NEW      22
#define OTHER    33

static struct disk *
disk_of (uint64_t nr_pages)
{
  struct disk *d = disk_open (DISK_FAULT, 4096, PAGES (nr_pages), false);

  assert_int_equal (disk_fill (d, OLD, 0, PAGES (nr_pages)), 0);
  return d;
}

/* ---- media ---- */

/* A write that fails goes elsewhere, and the place is not used again. */
static void
test_write_once (void **state)
{
  struct disk *d = disk_of (100);

  UNUSED (state);
  fail_next (d, VIO_WRITE, 1);
  assert_int_equal (disk_fill (d, NEW, PAGES (3), PAGES (5)), 0);
  disk_expect (d, NEW, PAGES (3), PAGES (5));
  assert_int_equal (disk_stat (d).nr_retired, 5);
  fail_next (d, VIO_WRITE, 1);
  assert_int_equal (disk_fill (d, OTHER, PAGES (3) + 10, 100), 0);
  disk_expect (d, OTHER, PAGES (3) + 10, 100);
  disk_expect (d, NEW, PAGES (3) + 110, PAGES (5) - 110);
  assert_int_equal (disk_stat (d).nr_retired, 6);
  disk_expect (d, OLD, 0, PAGES (3));
  disk_check (d);
  disk_close (d);
}

static void
test_write_twice (void **state)
{
  struct disk *d = disk_of (100);

  UNUSED (state);
  fail_next (d, VIO_WRITE, 2);
  assert_int_equal (disk_fill (d, NEW, PAGES (3), PAGES (5)), EIO);
  fail_next (d, VIO_WRITE, 2);
  assert_int_equal (disk_fill (d, NEW, PAGES (3) + 10, 100), EIO);
  fail_next (d, VIO_WRITE, 2);
  assert_int_equal (disk_zero (d, PAGES (3) + 10, 100, false), EIO);
  disk_expect (d, OLD, 0, PAGES (100));
  disk_check (d);
  assert_int_equal (disk_stat (d).nr_retired, 7);
  disk_close (d);
}

/* A sparse volume has no room beneath it: the client is told so, the old page
 * stands, and the blocks are as good as they were.
 */
static void
test_no_room_beneath (void **state)
{
  struct disk *d = disk_of (100);
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = VIO_WRITE, .count = 2, .error = ENOSPC
  };

  UNUSED (state);
  assert_true (fault_add (d->v, &rule) >= 0);
  assert_int_equal (disk_fill (d, NEW, PAGES (3), PAGES (5)), ENOSPC);
  assert_int_equal (disk_fill (d, NEW, PAGES (3) + 10, 100), ENOSPC);
  disk_expect (d, OLD, 0, PAGES (100));
  assert_int_equal (disk_stat (d).nr_retired, 0);
  assert_int_equal (disk_fill (d, NEW, PAGES (3), PAGES (5)), 0);
  disk_check (d);
  disk_close (d);
}

/* Every write fails for long: the pool does not shrink without end, and works
 * when the medium does.
 */
static void
test_write_never (void **state)
{
  struct disk *d = disk_of (100);
  uint64_t max = disk_stat (d).nr_retire_max;

  UNUSED (state);
  fail_next (d, VIO_WRITE, 0);
  for (int i = 0; i < 500; i++)
    assert_int_equal (disk_fill (d, NEW, PAGES (i % 90), PAGES (1 + i % 9)),
                      EIO);
  fault_clear (d->v);
  assert_in_range (disk_stat (d).nr_retired, max - 9, max);
  disk_expect (d, OLD, 0, PAGES (100));
  assert_int_equal (disk_fill (d, NEW, 0, PAGES (100)), 0);
  disk_expect (d, NEW, 0, PAGES (100));
  disk_close (d);
}

static void
test_read (void **state)
{
  struct disk *d = disk_of (100);
  uint8_t buf[PAGES (2)];

  UNUSED (state);
  fail_next (d, VIO_READ, 1);
  assert_int_equal (disk_read (d, buf, PAGES (3), PAGES (2)), EIO);
  fail_next (d, VIO_READ, 1);
  assert_int_equal (disk_read (d, buf, PAGES (3) + 3, 7), EIO);
  fail_next (d, VIO_READ, 1); /* read-modify-write */
  assert_int_equal (disk_fill (d, NEW, PAGES (3) + 3, 7), EIO);
  disk_expect (d, OLD, 0, PAGES (100));
  disk_close (d);
}

/* Where the page is, on the volume. */
static uint64_t
place_of (struct disk *d, pgno_t pgno)
{
  struct swmeta_run run;

  assert_int_equal (d->o->ops->lookup (d->o->map, pgno, 1, &run, NULL), 0);
  return space_off (swmeta_blkno (run.word));
}

static void
corrupt (struct disk *d, enum vio_op op, uint64_t off, unsigned count)
{
  struct fault_rule rule = { .action = FAULT_CORRUPT,
                             .op = op,
                             .off = off,
                             .bytes = off != 0 ? PAGE_BYTES : 0,
                             .count = count };

  assert_true (fault_add (d->v, &rule) >= 0);
}

/* A page that lies is EIO whenever it is touched; the others are served. */
static void
test_corrupt (void **state)
{
  struct disk *d = disk_of (100);
  uint8_t buf[PAGES (4)];

  UNUSED (state);
  corrupt (d, VIO_READ, place_of (d, 50), 2);
  assert_int_equal (disk_read (d, buf, PAGES (48), PAGES (4)), EIO);
  disk_expect (d, OLD, PAGES (48), PAGES (2));
  disk_expect (d, OLD, PAGES (51), PAGES (2));
  assert_int_equal (disk_read (d, buf, PAGES (50) + 99, 1), EIO);
  disk_expect (d, OLD, 0, PAGES (100)); /* it was the read */
  fault_clear (d->v);
  /* Now on the medium. */
  corrupt (d, VIO_WRITE, 0, 1);
  assert_int_equal (disk_fill (d, NEW, PAGES (50), PAGES (1)), 0);
  for (int i = 0; i < 3; i++) {
    assert_int_equal (disk_read (d, buf, PAGES (50), PAGES (1)), EIO);
    assert_int_equal (disk_fill (d, NEW, PAGES (50) + 5, 1), EIO);
    assert_int_equal (disk_zero (d, PAGES (50) + 5, 1, false), EIO);
    disk_expect (d, OLD, PAGES (51), PAGES (49));
    disk_check (d);
  }
  /* A write of all of it, or a trim, heals. */
  assert_int_equal (disk_fill (d, OTHER, PAGES (50), PAGES (1)), 0);
  disk_expect (d, OTHER, PAGES (50), PAGES (1));
  corrupt (d, VIO_WRITE, 0, 1);
  assert_int_equal (disk_fill (d, NEW, PAGES (50), PAGES (1)), 0);
  assert_int_equal (disk_zero (d, PAGES (50), PAGES (1), false), 0);
  disk_expect (d, 0, PAGES (50), PAGES (1));
  disk_close (d);
}

/* ---- fences ---- */

static void
test_fence (void **state)
{
  struct disk *d = disk_of (100);
  struct call *c[2];
  int rule[2];

  UNUSED (state);
  /* One by its connection, one by the object's death. */
  c[0] = call_held (d, CALL_WRITE, NEW, PAGES (2), PAGES (5), &rule[0]);
  atomic_store (&c[0]->fenced, true);
  object_fence (d->o); /* returns though the write is held */
  assert_int_equal (disk_fill (d, OTHER, PAGES (4), PAGES (1)), 0);
  fault_release (d->v, rule[0]);
  assert_int_equal (call_join (c[0]), ESHUTDOWN);
  disk_expect (d, OLD, 0, PAGES (4));
  disk_expect (d, OTHER, PAGES (4), PAGES (1));
  disk_expect (d, OLD, PAGES (5), PAGES (95));
  disk_check (d); /* its blocks are free */
  c[1] = call_held (d, CALL_WRITE, NEW, PAGES (2), PAGES (5), &rule[1]);
  object_kill (d->o);
  object_drop (d->o);
  assert_int_equal (object_nr_mapped (d->o), 0);
  fault_release (d->v, rule[1]);
  assert_int_equal (call_join (c[1]), ESHUTDOWN);
  disk_close (d);
}

static void *
fence_thread (void *arg)
{
  struct call *c = arg;

  atomic_store (&c->fenced, true);
  object_fence (c->o);
  atomic_store (&c->over, true);
  return NULL;
}

/* A change of a part of a page looks at the flag before its I/O and publishes
 * behind it: the fence waits for it.
 */
static void
test_fence_part (void **state)
{
  struct disk *d = disk_of (100);
  struct call fence = { .o = d->o };
  struct call *c;
  pthread_t thread;
  int rule;

  UNUSED (state);
  c = call_held (d, CALL_WRITE, NEW, PAGES (2) + 5, 7, &rule);
  pthread_create (&thread, NULL, fence_thread, &fence);
  nap_ns (50 * NS_PER_MS);
  assert_false (atomic_load (&fence.over));
  fault_release (d->v, rule);
  pthread_join (thread, NULL);
  disk_expect (d, NEW, PAGES (2) + 5, 7);
  assert_int_equal (call_join (c), 0);
  disk_close (d);
}

/* ---- maps ---- */

static struct {
  unsigned at; /* the call that fails; 0: none */
  unsigned nr; /* calls so far */
  int error;
} inject;

static int
injected (void)
{
  return ++inject.nr == inject.at ? inject.error : 0;
}

static int
bad_lookup (void *map, pgno_t pgno, uint64_t max, struct swmeta_run *run,
            struct swent *ents)
{
  int err = injected ();

  return err ? err : map_memory_ops.lookup (map, pgno, max, run, ents);
}

static int
bad_build (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
           const struct swent *ents, swmeta_run_fn fn, void *arg)
{
  int err = injected ();

  return err ? err : map_memory_ops.build (map, mc, pgno, nr, ents, fn, arg);
}

static int
bad_free (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
          swmeta_run_fn fn, void *arg)
{
  int err = injected ();

  return err ? err : map_memory_ops.free (map, mc, pgno, nr, fn, arg);
}

static int
bad_pop (void *map, struct map_change *mc, pgno_t pgno, struct swent *ent)
{
  int err = injected ();

  return err ? err : map_memory_ops.pop (map, mc, pgno, ent);
}

static void
inject_at (struct disk *d, unsigned at, int error)
{
  static struct map_ops ops;

  ops = map_memory_ops;
  ops.lookup = bad_lookup;
  ops.build = bad_build;
  ops.free = bad_free;
  ops.pop = bad_pop;
  d->o->ops = at != 0 ? &ops : &map_memory_ops;
  inject.at = at;
  inject.nr = 0;
  inject.error = error;
}

#define FROM    (PAGES (505))
#define SPAN    (PAGES (40))
#define NR_ACTS 7

/* What fails: of all kinds, over holes, promises and blocks, two shards. */
static int
act (struct disk *d, unsigned i)
{
  static uint8_t buf[SPAN];

  memset (buf, NEW, SPAN);
  memset (buf + PAGES (4), 0, PAGES (2));
  memset (buf + PAGES (20), 0, PAGES (8));
  switch (i) {
  case 0:
    return disk_write (d, buf, FROM, SPAN);
  case 1:
    return disk_write (d, buf + 77, FROM + 77, SPAN - 77 - 1000);
  case 2:
    return disk_zero (d, FROM, SPAN, false);
  case 3:
    return disk_zero (d, FROM, SPAN, true);
  case 4:
    return disk_zero (d, FROM + 77, SPAN - 77 - 1000, true);
  case 5:
    return disk_read (d, buf, FROM, SPAN);
  default:
    return disk_zero (d, FROM + PAGES (1) + 3, 100, false);
  }
}

static struct disk *
disk_mixed (void)
{
  struct disk *d = disk_open (DISK_FAULT, 4096, PAGES (600), false);

  assert_int_equal (disk_fill (d, OLD, FROM, SPAN), 0);
  assert_int_equal (disk_zero (d, FROM + PAGES (3), PAGES (2), false), 0);
  assert_int_equal (disk_zero (d, FROM + PAGES (9), PAGES (9), true), 0);
  assert_int_equal (disk_zero (d, FROM + PAGES (25), PAGES (5), false), 0);
  assert_int_equal (disk_fill (d, OLD, FROM + PAGES (1), PAGES (1) + 100), 0);
  disk_check (d);
  return d;
}

/* Each page is the old or the new one. */
static void
old_or_new (const uint8_t *got, const uint8_t *old, const uint8_t *new)
{
  for (uint64_t i = 0; i < SPAN; i += PAGE_BYTES)
    if (memcmp (got + i, old + i, PAGE_BYTES) != 0)
      assert_memory_equal (got + i, new + i, PAGE_BYTES);
}

static bool
fail_at (unsigned i, unsigned at, int error)
{
  static uint8_t old[SPAN], new[SPAN], got[SPAN];
  struct disk *d = disk_mixed ();
  bool hit;
  int err;

  assert_int_equal (disk_read (d, old, FROM, SPAN), 0);
  inject_at (d, at, error);
  err = act (d, i);
  hit = inject.nr >= at;
  inject_at (d, 0, 0);
  assert_int_equal (err, hit ? error : 0);
  disk_check (d); /* nothing leaked */
  assert_int_equal (disk_read (d, got, FROM, SPAN), 0);
  assert_int_equal (act (d, i), 0);
  disk_check (d);
  assert_int_equal (disk_read (d, new, FROM, SPAN), 0);
  old_or_new (got, old, new);
  disk_expect (d, 0, 0, FROM);
  disk_close (d);
  return hit;
}

static void
test_map_fails (void **state)
{
  UNUSED (state);
  for (unsigned i = 0; i < NR_ACTS; i++) {
    unsigned at = 1;

    while (fail_at (i, at, at % 2 ? EIO : ENOMEM))
      at++;
    assert_true (at > 2);
    print_message ("act %u: %u calls failed one by one\n", i, at - 1);
  }
}

/* The map fails while a younger write does an older zeroing's work. */
static bool
fail_helping (unsigned at, enum call_op op)
{
  struct disk *d = disk_of (1200);
  struct call *c;
  int rule, younger, older;
  bool hit;

  assert_int_equal (disk_zero (d, PAGES (700), PAGES (99), false), 0);
  rule = hold_next (d, VIO_WRITE);
  c = call_start (d, op, 0, PAGES (3) + 9, PAGES (1100));
  wait_held (d, rule);
  inject_at (d, at, ENOMEM);
  younger = disk_fill (d, NEW, PAGES (600), PAGES (3));
  hit = inject.nr >= at;
  inject_at (d, 0, 0);
  fault_release (d->v, rule);
  older = call_join (c);
  disk_check (d);
  if (younger == 0)
    disk_expect (d, NEW, PAGES (600), PAGES (3));
  else
    assert_int_equal (younger, ENOMEM);
  assert_true (older == 0 || older == ENOMEM);
  if (older == 0)
    disk_expect (d, 0, PAGES (603), PAGES (400));
  disk_expect (d, 0, PAGES (4), PAGES (500)); /* before the error */
  disk_expect (d, OLD, PAGES (1104), PAGES (96));
  assert_int_equal (hit, younger != 0 || older != 0);
  disk_close (d);
  return hit;
}

static void
test_help_fails (void **state)
{
  unsigned at = 1;

  UNUSED (state);
  while (fail_helping (at, CALL_ZERO))
    at++;
  assert_true (at > 3);
  for (at = 1; fail_helping (at, CALL_KEEP); at++)
    ;
  assert_true (at > 5);
}

/* Of two errors the one at the lower offset is told. */
static void
test_lowest (void **state)
{
  struct disk *d = disk_of (100);
  uint8_t buf[PAGES (8)];

  UNUSED (state);
  for (pgno_t i = 0; i < 8; i += 2) /* each page a run */
    assert_int_equal (disk_fill (d, NEW, PAGES (i), PAGES (1)), 0);
  for (unsigned at = 1; at <= 8; at++) {
    inject_at (d, at, ENOMEM);
    fail_next (d, VIO_READ, 1);
    /* Four runs are looked up, then read; so the fifth comes too late. */
    assert_int_equal (disk_read (d, buf, 0, sizeof buf),
                      at <= VIO_MAX ? ENOMEM : EIO);
    inject_at (d, 0, 0);
    fault_clear (d->v);
    disk_check (d);
  }
  disk_close (d);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_write_once),
    cmocka_unit_test (test_write_twice),
    cmocka_unit_test (test_no_room_beneath),
    cmocka_unit_test (test_write_never),
    cmocka_unit_test (test_read),
    cmocka_unit_test (test_corrupt),
    cmocka_unit_test (test_fence),
    cmocka_unit_test (test_fence_part),
    cmocka_unit_test (test_map_fails),
    cmocka_unit_test (test_help_fails),
    cmocka_unit_test (test_lowest),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
