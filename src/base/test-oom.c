/* SPDX-License-Identifier: BSD-2-Clause */
/* blist and swmeta without memory: every single request to the system for
 * memory fails in turn, then the zone's bound is met at every place.  What
 * fails says ENOMEM and has changed nothing, what follows works, nothing
 * leaks.
 *
 * The linker puts the __wrap_ functions below in place of the real ones.
 */

#include <config.h>

#include "blist.h"
#include "swmeta.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

extern void *__real_calloc (size_t nr, size_t bytes);
extern void __real_free (void *ptr);
extern void *__real_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                          off_t off);
extern int __real_munmap (void *addr, size_t bytes);
extern void *__wrap_calloc (size_t nr, size_t bytes);
extern void __wrap_free (void *ptr);
extern void *__wrap_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                          off_t off);
extern int __wrap_munmap (void *addr, size_t bytes);

static unsigned nr_requests, fail_at; /* 0: none fails */
static size_t nr_live, bytes_mapped;

static bool
fails (void)
{
  return ++nr_requests == fail_at;
}

void *
__wrap_calloc (size_t nr, size_t bytes)
{
  void *ptr = fails () ? NULL : __real_calloc (nr, bytes);

  nr_live += ptr != NULL;
  return ptr;
}

void
__wrap_free (void *ptr)
{
  nr_live -= ptr != NULL;
  __real_free (ptr);
}

void *
__wrap_mmap (void *addr, size_t bytes, int prot, int flags, int fd, off_t off)
{
  void *map = MAP_FAILED;

  if (!fails ())
    map = __real_mmap (addr, bytes, prot, flags, fd, off);
  if (map != MAP_FAILED)
    bytes_mapped += bytes;
  return map;
}

int
__wrap_munmap (void *addr, size_t bytes)
{
  bytes_mapped -= bytes;
  return __real_munmap (addr, bytes);
}

/* Run it once for each of its requests, that request failing. */
static void
each_request_fails (void (*scenario) (void), unsigned nr_least)
{
  fail_at = 0;
  do {
    nr_requests = 0;
    fail_at++;
    scenario ();
    assert_int_equal (nr_live, 0);
    assert_int_equal (bytes_mapped, 0);
  } while (nr_requests >= fail_at);
  assert_true (fail_at > nr_least);
  fail_at = 0;
}

/* ---- blist ---- */

static void
blist_scenario (void)
{
  struct blist *bl = NULL;
  uint64_t nr;
  int err = blist_create (5000, &bl);

  if (err) {
    assert_int_equal (err, ENOMEM);
    assert_null (bl);
    assert_int_equal (blist_create (5000, &bl), 0);
  }
  assert_int_equal (blist_fill (bl, 100, 4900, &nr), 0);
  err = blist_grow (bl, 300000);
  if (err) {
    assert_int_equal (err, ENOMEM);
    assert_int_equal (blist_nr_blocks (bl), 5000);
    assert_int_equal (blist_nr_free (bl), 100);
    assert_null (blist_check (bl));
    assert_int_equal (blist_free (bl, 4999, 1), 0);
    assert_int_equal (blist_fill (bl, 4999, 1, &nr), 0);
    assert_int_equal (blist_grow (bl, 300000), 0);
  }
  assert_null (blist_check (bl));
  assert_int_equal (blist_nr_free (bl), 295100);
  blist_destroy (bl);
}

static void
test_blist (void **state)
{
  (void) state;
  each_request_fails (blist_scenario, 1 + 3 + 4);
}

/* ---- swmeta ---- */

#define NR_PAGES (UINT64_C (1) << 30)
#define NR_ENTS  40u
#define PLACE    (512 * 777 - 44)
#define FAR      (NR_PAGES - 100)

struct maps {
  struct swzone *zone;
  struct swmeta *large, *small;
};

static void
ignore (void *arg, const struct swmeta_run *run)
{
  (void) arg;
  assert_true (run->nr_pages > 0);
}

static int
build (struct swmeta *map, pgno_t pgno, blkno_t blk)
{
  struct swent ents[NR_ENTS] = { { 0 } };

  for (unsigned i = 0; i < NR_ENTS; i++)
    ents[i].word = swmeta_word (SWMETA_BLOCK, blk + i);
  return swmeta_build (map, pgno, NR_ENTS, ents, ignore, NULL);
}

static bool
is_built (struct swmeta *map, pgno_t pgno, blkno_t blk)
{
  struct swmeta_run run;

  swmeta_lookup (map, pgno, NR_ENTS, &run);
  return run.word == swmeta_word (SWMETA_BLOCK, blk) && run.nr_pages == NR_ENTS;
}

static int
step_large (struct maps *m)
{
  return swmeta_create (m->zone, NR_PAGES, &m->large);
}

static int
step_small (struct maps *m)
{
  return swmeta_create (m->zone, 2000, &m->small);
}

static int
step_build (struct maps *m)
{
  return build (m->large, PLACE, 1000);
}

static int
step_build_far (struct maps *m)
{
  return build (m->large, FAR, 2000);
}

static int
step_reserve (struct maps *m)
{
  const uint64_t before = swzone_bytes (m->zone);
  int err = swmeta_reserve (m->small);

  if (err)
    assert_int_equal (swzone_bytes (m->zone), before);
  return err;
}

/* What is reserved never fails. */
static int
step_move_to_reserved (struct maps *m)
{
  uint64_t nr = 0;

  assert_int_equal (
      swmeta_move (m->small, 0, m->large, PLACE - 4, 100, ignore, NULL, &nr),
      0);
  assert_int_equal (nr, 100);
  assert_true (is_built (m->small, 4, 1000));
  return 0;
}

/* A move that fails is done up to *nr_moved and can go on. */
static int
step_move (struct maps *m)
{
  uint64_t nr = 0;
  int err = swmeta_move (m->large, 5000, m->small, 0, 2000, ignore, NULL, &nr);

  assert_int_equal (swmeta_nr_entries (m->small) + swmeta_nr_entries (m->large),
                    2 * NR_ENTS);
  assert_true (err ? nr < 2000 : nr == 2000);
  if (err)
    assert_int_equal (swmeta_nr_entries (m->small),
                      NR_ENTS - (nr ? nr - 4 : 0));
  return err;
}

static int (*const steps[]) (struct maps *m) = {
  step_large,     step_small,   step_build,
  step_build_far, step_reserve, step_move_to_reserved,
  step_move,
};
#define NR_STEPS (sizeof steps / sizeof steps[0])

static void
assert_sound (struct maps *m, uint64_t nr_large)
{
  if (m->large != NULL) {
    assert_null (swmeta_check (m->large));
    assert_int_equal (swmeta_nr_entries (m->large), nr_large);
  }
  if (m->small != NULL)
    assert_null (swmeta_check (m->small));
}

/* All steps; one that has no memory is made again.  With a bound on the zone
 * that cannot help: then return.  true: all done.
 */
static bool
all_steps (uint64_t bytes_max)
{
  struct maps m = { NULL, NULL, NULL };
  bool done = true;
  int err = swzone_create (sizeof (struct swent), bytes_max, &m.zone);

  if (err) {
    assert_int_equal (err, ENOMEM);
    assert_int_equal (swzone_create (sizeof (struct swent), bytes_max, &m.zone),
                      0);
  }
  for (size_t i = 0; i < NR_STEPS && done; i++) {
    uint64_t nr = m.large != NULL ? swmeta_nr_entries (m.large) : 0;

    err = steps[i](&m);
    if (err) {
      assert_int_equal (err, ENOMEM);
      if (steps[i] != step_move)
        assert_sound (&m, nr);
      done = steps[i](&m) == 0;
    }
  }
  if (done) {
    assert_true (is_built (m.large, 5004, 1000));
    assert_true (is_built (m.large, FAR, 2000));
    assert_sound (&m, 2 * NR_ENTS);
  }
  swmeta_destroy (m.large);
  swmeta_destroy (m.small);
  assert_int_equal (swzone_bytes (m.zone), 0);
  swzone_destroy (m.zone);
  return done;
}

static void
swmeta_scenario (void)
{
  assert_true (all_steps (UINT64_C (1) << 30));
}

static void
test_swmeta (void **state)
{
  (void) state;
  each_request_fails (swmeta_scenario, 3 + 3);
}

static void
test_zone_bound (void **state)
{
  uint64_t bytes_max = 0;

  (void) state;
  while (!all_steps (bytes_max)) {
    bytes_max += 64;
    assert_true (bytes_max < UINT64_C (1) << 20);
  }
  assert_true (bytes_max > 2000 * sizeof (struct swent));
  assert_int_equal (nr_live, 0);
  assert_int_equal (bytes_mapped, 0);
}

/* What a dropped object used goes back to the system, but for one chunk a
 * kind, here of 2 MiB.
 */
static void
test_memory_goes_back (void **state)
{
  const size_t few = 3 * ((size_t) 2 << 20);
  struct swzone *zone;
  struct swmeta *map;
  uint64_t ent[8] = { swmeta_word (SWMETA_BLOCK, 7) };

  (void) state;
  assert_int_equal (swzone_create (sizeof ent, UINT64_C (1) << 30, &zone), 0);
  assert_int_equal (swmeta_create (zone, 512 * 512, &map), 0);
  for (unsigned round = 0; round < 3; round++) {
    for (pgno_t p = 0; p < 512 * 512; p += 16)
      assert_int_equal (swmeta_build (map, p, 1, ent, ignore, NULL), 0);
    assert_true (bytes_mapped > 2 * few);
    for (pgno_t p = 0; p < 512 * 512; p += SHARD_PAGES)
      swmeta_free (map, p, SHARD_PAGES, ignore, NULL);
    assert_in_range (bytes_mapped, 1, few);
  }
  swmeta_destroy (map);
  swzone_destroy (zone);
  assert_int_equal (bytes_mapped, 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_blist),
    cmocka_unit_test (test_swmeta),
    cmocka_unit_test (test_zone_bound),
    cmocka_unit_test (test_memory_goes_back),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
