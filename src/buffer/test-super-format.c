/* SPDX-License-Identifier: BSD-2-Clause */
/* What format makes: sizes, ring, free maps bit by bit, and that it can end
 * anywhere and leave the old store, none, or a good one.
 *
 * One thread does it all: the thread sanitizer does not follow.
 */

#include <config.h>

#include "test-alone.h"
#include "test-super.h"

#define GIB (1024 * MIB)

static struct rig rig;

/* Also what a test that failed has left open. */
static int
close_rig (void **state)
{
  UNUSED (state);
  if (rig.nr > 0)
    rig_close (&rig);
  return 0;
}

/* ---- sizes ---- */

static void
test_rings (void **state)
{
  static const struct {
    uint64_t size, given, ring; /* ring 0: refused */
  } cases[] = {
    { MIB, 0, MIB / 2 },
    { 10 * MIB, 0, 5 * MIB },
    { GIB, 0, 32 * MIB },
    { 16 * GIB, 0, 64 * MIB },
    { MIB, MIB / 2, MIB / 2 },
    { MIB, MIB / 2 - 1, 0 },
    { GIB, MIB / 2 + 4095, MIB / 2 },
    { GIB, 4 * MIB, 4 * MIB },
    { 16 * GIB, UINT64_C (140) * 8 * 4096, UINT64_C (140) * 8 * 4096 },
    { 16 * GIB, UINT64_C (140) * 8 * 4096 - 1, 0 },
    { MIB, 4 * MIB, 0 },
  };

  UNUSED (state);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    rig_open (&rig, 1, &cases[i].size);
    rig.format.ring_bytes = cases[i].given;
    if (cases[i].ring == 0) {
      assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
      assert_int_equal (test_log_has ("(at least "), 1);
    } else {
      assert_int_equal (super_format (&rig.format, rig.uuid), 0);
      check_fresh (&rig);
      assert_int_equal (rig.s.root.ring_blocks * 4096, cases[i].ring);
    }
    rig_close (&rig);
  }
}

/* The size that a refusal tells is one that is enough, and none below is. */
static void
test_least (void **state)
{
  static const uint64_t sizes[][2] = {
    { 165 * 4096, 37 * 4096 }, /* slots, ring, free map, 32 more */
    { 164 * 4096, 37 * 4096 },
    { 165 * 4096, 36 * 4096 },
  };

  UNUSED (state);
  for (unsigned i = 0; i < 3; i++) {
    rig_open (&rig, 2, sizes[i]);
    assert_int_equal (super_format (&rig.format, rig.uuid), i > 0 ? EINVAL : 0);
    if (i == 0)
      check_fresh (&rig);
    if (i == 1)
      assert_int_equal (test_log_has ("va: has 671744 bytes, which are too few "
                                      "(at least 675840)"),
                        1);
    if (i == 2)
      assert_int_equal (test_log_has ("vb: has 147456 bytes, which are too few "
                                      "(at least 151552)"),
                        1);
    rig_close (&rig);
  }
  rig_open (&rig, 1, sizes[0]);
  rig.format.nr_volumes = 0;
  assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
  rig.format.nr_volumes = 65;
  assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
}

/* The free map of large peers makes the default ring larger. */
static void
test_large_peers (void **state)
{
#ifdef __SANITIZE_THREAD__ /* 1 TiB finds no place there */
  static const uint64_t sizes[] = { GIB, 256 * GIB };
#else
  static const uint64_t sizes[] = { GIB, 1024 * GIB };
#endif

  UNUSED (state);
  rig_open (&rig, 2, sizes);
  rig.format.ring_bytes = 0;
  assert_int_equal (super_format (&rig.format, rig.uuid), 0);
  assert_int_equal (supers_read (rig.v, 2, &rig.s), 0);
  assert_int_equal (rig.s.root.members[1].freemap_height, 2);
  assert_int_equal (rig.s.root.ring_blocks,
                    8 * (rig.s.root.members[0].freemap_blocks +
                         rig.s.root.members[1].freemap_blocks));
}

/* A ring that no volume has room for, and the largest that this one has. */
static void
test_large_rings (void **state)
{
  static const uint64_t rings[] = { UINT64_MAX, UINT64_C (1) << 62 };
  static const uint64_t size = MIB;

  UNUSED (state);
  for (unsigned i = 0; i < 2; i++) {
    rig_open (&rig, 1, &size);
    rig.format.ring_bytes = rings[i];
    assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
    assert_int_equal (test_log_has ("larger than any volume (make it smaller)"),
                      1);
    rig_close (&rig);
  }
  rig_open (&rig, 1, &size);
  rig.format.ring_bytes = 220 * 4096;
  assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
  assert_int_equal (
      test_log_has ("va: has 1048576 bytes, which are too few (at "
                    "least 1052672, or a ring of at most 897024)"),
      1);
  rig.format.ring_bytes = 897024;
  assert_int_equal (super_format (&rig.format, rig.uuid), 0);
  check_fresh (&rig);
}

/* Nodes of a volume's free map. */
static uint64_t
nodes_of (uint64_t bytes)
{
  uint64_t nr = (bytes / 4096 + 30719) / 30720, all = nr;

  while (nr > 1) {
    nr = (nr + 127) / 128;
    all += nr;
  }
  return all;
}

/* The ring's least blocks, by docs/format.md. */
static uint64_t
ring_least (unsigned nr, const uint64_t *sizes)
{
  uint64_t nodes = 0;

  for (unsigned i = 0; i < nr; i++)
    nodes += nodes_of (sizes[i]);
  return max_u64 (128, 8 * nodes);
}

/* Two slots, ring, free map, 32 blocks, two slots. */
static bool
root_fits (unsigned nr, const uint64_t *sizes, uint64_t ring_bytes)
{
  uint64_t ring = max_u64 (ring_bytes / 4096, ring_least (nr, sizes));

  return sizes[0] / 4096 >= ring + nodes_of (sizes[0]) + 36;
}

/* The number behind these words in what was told last. */
static uint64_t
told (const char *words)
{
  for (int i = 0; i < LOG_KEPT; i++) {
    const char *at = strstr (test_log[i], words);

    if (at != NULL)
      return strtoull (at + strlen (words), NULL, 10);
  }
  fail_msg ("nothing says '%s'", words);
  return 0;
}

/* Is it refused if it must, and does what is told then lead to a store? */
static void
format_sizes (unsigned nr, uint64_t *sizes, uint64_t ring, unsigned seen[3])
{
  uint64_t least = ring_least (nr, sizes);
  struct volume *v[RIG_VOLUMES];

  rig_open (&rig, nr, sizes);
  rig.format.ring_bytes = ring;
  if (ring != 0 && ring / 4096 < least) {
    assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
    ring = told ("va: a ring of ");
    assert_int_equal (ring, rig.format.ring_bytes);
    ring = told ("too small for volumes of this size (at least ");
    assert_int_equal (ring, least * 4096);
    rig.format.ring_bytes = ring;
    seen[1]++;
  }
  if (!root_fits (nr, sizes, ring)) {
    test_log_forget ();
    assert_int_equal (super_format (&rig.format, rig.uuid), EINVAL);
    assert_int_equal (told ("va: has "), sizes[0]);
    sizes[0] = told ("which are too few (at least ");
    assert_true (root_fits (nr, sizes, ring));
    sizes[0] -= 4096;
    assert_false (root_fits (nr, sizes, ring));
    sizes[0] += 4096;
    rig_close (&rig);
    rig_open (&rig, nr, sizes);
    /* A larger root may have a larger free map, and that a larger ring. */
    if (ring != 0)
      ring = max_u64 (ring, 4096 * ring_least (nr, sizes));
    rig.format.ring_bytes = ring;
    seen[2]++;
  }
  assert_int_equal (super_format (&rig.format, rig.uuid), 0);
  check_fresh (&rig);
  for (unsigned i = 0; i < nr; i++)
    v[(i + sizes[0] / 4096) % nr] = rig.v[i];
  assert_int_equal (supers_read (v, nr, &rig.s), 0);
  assert_memory_equal (v, rig.v, nr * sizeof v[0]);
  rig_close (&rig);
  seen[0]++;
}

static void
test_random_sizes (void **state)
{
  uint64_t seed = test_seed ();
  unsigned seen[3] = { 0, 0, 0 };

  UNUSED (state);
  for (unsigned n = 0; n < 60; n++) {
    unsigned nr = 1 + test_random (&seed) % RIG_VOLUMES;
    uint64_t sizes[RIG_VOLUMES], ring = 0;

    for (unsigned i = 0; i < nr; i++) {
      sizes[i] = MIB + (test_random (&seed) % GIB >> test_random (&seed) % 10);
      sizes[i] &= ~(uint64_t) 4095;
      if (n % 10 == 0)
        sizes[i] *= 16; /* two levels */
    }
    if (n % 2 == 1)
      ring = sizes[0] < 10 * MIB ? MIB / 2 : 8 * MIB;
    format_sizes (nr, sizes, ring, seen);
  }
  print_message ("%u stores; refused: %u rings, %u roots\n", seen[0], seen[1],
                 seen[2]);
}

/* Small roots beside large volumes: each remedy that is told is good, also
 * where a larger root's own free map makes the ring larger.
 */
static void
test_small_roots (void **state)
{
  static const uint64_t cases[][4] = {
    { MIB, GIB, GIB, GIB },
    { MIB, GIB, 16 * GIB, 0 },
    { 2 * MIB, GIB, GIB, GIB },
    { 16 * MIB, 64 * GIB, 0, 0 },
    { 16 * MIB, 4 * GIB, 64 * GIB, 64 * GIB },
#ifndef __SANITIZE_THREAD__
    { 16 * MIB, 256 * GIB, 256 * GIB, 0 }, /* then it has two leaves */
#endif
  };
  const unsigned nr_cases = sizeof cases / sizeof cases[0];
  unsigned seen[3] = { 0, 0, 0 };

  UNUSED (state);
  for (unsigned i = 0; i < 2 * nr_cases; i++) {
    uint64_t sizes[RIG_VOLUMES];
    unsigned nr = 0;

    memcpy (sizes, cases[i / 2], sizeof sizes);
    while (nr < RIG_VOLUMES && sizes[nr] != 0)
      nr++;
    format_sizes (nr, sizes, i % 2 == 0 ? 0 : MIB / 2, seen);
  }
  assert_int_equal (seen[0], 2 * nr_cases);
  assert_int_equal (seen[1], nr_cases);
  assert_int_equal (seen[2], 2 * nr_cases - 2);
}

/* ---- over other things ---- */

static void
fill (struct volume *v, uint8_t with)
{
  uint8_t *buf = test_pages (v->size_bytes);

  memset (buf, with, v->size_bytes);
  move_blocks (v, VIO_WRITE, 0, buf, (uint32_t) (v->size_bytes / 4096));
  free (buf);
}

/* Both ends are free of what was there, and nothing else is ours. */
static void
test_over_garbage (void **state)
{
  static const uint64_t sizes[] = { 5 * MIB, 7 * MIB };
  uint8_t *buf = test_pages (7 * MIB);

  UNUSED (state);
  rig_open (&rig, 2, sizes);
  for (unsigned i = 0; i < 2; i++)
    fill (rig.v[i], 0xa5);
  assert_int_equal (super_format (&rig.format, rig.uuid), 0);
  check_fresh (&rig);
  assert_memory_equal (rig.s.root.uuid, rig.uuid, sizeof rig.uuid);
  for (unsigned i = 0; i < 2; i++) {
    move_blocks (rig.v[i], VIO_READ, 0, buf, (uint32_t) (sizes[i] / 4096));
    for (uint64_t k = 0; k < sizes[i] / 4096; k++) {
      bool outer = k < 256 || k >= sizes[i] / 4096 - 256;

      if (outer == (buf[k * 4096] == 0xa5 && buf[k * 4096 + 4095] == 0xa5))
        fail_msg ("block %" PRIu64 " of volume %u", k, i);
    }
  }
  free (buf);
}

/* The volumes of one store, in another order, are a store of its own. */
static void
test_twice (void **state)
{
  uint8_t old[16];

  UNUSED (state);
  rig_store (&rig, 3);
  for (unsigned i = 0; i < 9; i++)
    assert_int_equal (supers_attach (&rig.s, rig.page), 0);
  memcpy (old, rig.uuid, sizeof old);
  rig.v[3] = rig.v[0];
  rig.v[0] = rig.v[2];
  rig.v[2] = rig.v[3];
  assert_int_equal (super_format (&rig.format, rig.uuid), 0);
  check_fresh (&rig);
  assert_memory_not_equal (old, rig.uuid, sizeof old);
}

/* ---- interrupted ---- */

/* After a format that ended early: the store is the old one as it was, none,
 * or the new one, all of it.
 */
static unsigned
check_ended (struct rig *t, const uint8_t *old)
{
  int err = supers_read (t->v, t->nr, &t->s);

  if (err == 0 && old != NULL && memcmp (t->s.root.uuid, old, 16) == 0) {
    assert_int_equal (t->s.root.epoch, 3);
    return 0;
  }
  if (err == 0) {
    check_fresh (t);
    return 2;
  }
  assert_int_equal (err, EMEDIUMTYPE);
  return 1;
}

/* Format ends at the n-th write or, n 0, the flush of a volume; false: it did
 * not come to that.
 */
static bool
end_format (struct rig *t, unsigned volume, unsigned n, const uint8_t *old,
            unsigned seen[3])
{
  struct fault_rule rule = { .op = VIO_WRITE, .skip = n - 1, .error = EIO };
  int err;

  if (n == 0)
    fault_fail_flush (t->v[volume], EIO);
  else
    fault_add (t->v[volume], &rule);
  err = super_format (&t->format, t->uuid);
  fault_clear (t->v[volume]);
  seen[check_ended (t, old)]++;
  assert_true (err == 0 || err == EIO);
  return err != 0;
}

static void
test_interrupted (void **state)
{
  UNUSED (state);
  for (unsigned again = 0; again < 2; again++) {
    unsigned seen[3] = { 0, 0, 0 }, nr_ends = 0;
    uint8_t old[16];
    bool ended = true;

    for (unsigned volume = 0; volume < 3; volume++, ended = true)
      for (unsigned n = 0; ended; n++) {
        rig_store (&rig, 3);
        memcpy (old, rig.uuid, sizeof old);
        if (again != 0) {
          assert_int_equal (supers_attach (&rig.s, rig.page), 0);
          assert_int_equal (supers_attach (&rig.s, rig.page), 0);
        } else
          for (unsigned i = 0; i < 3; i++)
            fill (rig.v[i], 0);
        ended = end_format (&rig, volume, n, again != 0 ? old : NULL, seen);
        nr_ends++;
        rig_close (&rig);
      }
    print_message ("ended %u times: old %u, none %u, new %u\n", nr_ends,
                   seen[0], seen[1], seen[2]);
    assert_true (nr_ends > 30 && seen[1] > 15 && seen[2] > 3);
    assert_true (again == 0 ? seen[0] == 0 : seen[0] >= 4);
  }
}

/* ---- progress ---- */

static void
progress (void *arg, uint64_t done, uint64_t all)
{
  uint64_t *last = arg;

  assert_true (done > last[0] && done <= all);
  assert_true (last[1] == 0 || last[1] == all);
  last[0] = done;
  last[1] = all;
}

static void
test_progress (void **state)
{
  static const uint64_t sizes[] = { 50 * MIB, 151552 };
  uint64_t last[2] = { 0, 0 };

  UNUSED (state);
  rig_open (&rig, 2, sizes);
  rig.format.ring_bytes = 0;
  rig.format.progress = progress;
  rig.format.arg = last;
  assert_int_equal (super_format (&rig.format, rig.uuid), 0);
  assert_int_equal (last[0], last[1]);
  assert_true (last[1] >= 27 * MIB);
}

#define TEST(f) cmocka_unit_test_teardown (f, close_rig)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    TEST (test_rings),        TEST (test_least),       TEST (test_large_peers),
    TEST (test_random_sizes), TEST (test_small_roots), TEST (test_large_rings),
    TEST (test_over_garbage), TEST (test_twice),       TEST (test_interrupted),
    TEST (test_progress),
  };
  int nr_failed;

  test_alone_begin ();
  nr_failed =
      cmocka_run_group_tests_name ("super-format", tests, test_begin, test_end);
  test_alone_end ();
  return nr_failed;
}
