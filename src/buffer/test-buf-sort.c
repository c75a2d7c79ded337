/* SPDX-License-Identifier: BSD-2-Clause */
/* The order in which buffers are written: sorted whatever it was, each of them
 * still there, and without qsort (), which may ask for memory.
 */

#include <config.h>

#include "test-bufs.h"

#define NR_MAX    5000u
#define NR_ROUNDS 2000u

extern void __wrap_qsort (void *base, size_t nr, size_t bytes,
                          int (*compare) (const void *, const void *));

void
__wrap_qsort (void *base, size_t nr, size_t bytes,
              int (*compare) (const void *, const void *))
{
  (void) base;
  (void) nr;
  (void) bytes;
  (void) compare;
  fail_msg ("qsort () was called");
}

static uint64_t
below (uint64_t *random, uint64_t n)
{
  return test_random (random) % n;
}

enum pattern {
  RISING,
  FALLING,
  EQUAL,
  FEW,
  ANY,
  NEARLY,
  PATTERNS
};

static uint64_t
block_of (enum pattern pattern, unsigned i, unsigned nr, uint64_t *random)
{
  switch (pattern) {
  case RISING:
    return i;
  case FALLING:
    return nr - i;
  case EQUAL:
    return 7;
  case FEW:
    return below (random, 5);
  case NEARLY:
    return below (random, 50) == 0 ? below (random, nr) : i;
  default:
    return below (random, UINT64_MAX);
  }
}

static void
sort_one (struct buf *bufs, enum pattern pattern, unsigned nr, uint64_t *random)
{
  static struct buf *to[NR_MAX];
  static bool seen[NR_MAX];

  memset (seen, 0, sizeof seen);
  for (unsigned i = 0; i < nr; i++) {
    bufs[i].blk = block_of (pattern, i, nr, random);
    to[i] = &bufs[i];
  }
  bufs_sort (to, nr);
  for (unsigned i = 0; i < nr; i++) {
    assert_true (i == 0 || to[i - 1]->blk <= to[i]->blk);
    assert_false (seen[to[i] - bufs]);
    seen[to[i] - bufs] = true;
  }
}

static void
test_sort (void **state)
{
  struct buf *bufs = calloc (NR_MAX, sizeof *bufs);
  uint64_t random = test_seed () * 2 + 1;

  (void) state;
  for (enum pattern p = 0; p < PATTERNS; p++) {
    for (unsigned nr = 0; nr < 70; nr++)
      sort_one (bufs, p, nr, &random);
    sort_one (bufs, p, NR_MAX, &random);
  }
  for (unsigned i = 0; i < NR_ROUNDS; i++)
    sort_one (bufs, ANY, (unsigned) below (&random, 300), &random);
  free (bufs);
}

static void
put_page (struct rig *r, uint64_t blk, uint64_t round)
{
  struct buf *b;

  assert_int_equal (buf_data_get (r->bs, &b, 1), 0);
  memset (b->data, (int) round, BUF_BYTES);
  buf_data_add (r->bs, &b, 1, blk);
}

/* As commits take them. */
static void
test_take (void **state)
{
  struct rig *r = *state;
  struct buf *taken[NR_BUFS];
  unsigned nr = 61;

  for (unsigned i = 0; i < nr; i++)
    put_page (r, 1 + i * 37 % nr, i);
  assert_int_equal (bufs_take (r->bs, BUF_DATA, taken, NR_BUFS), nr);
  for (unsigned i = 0; i < nr; i++)
    assert_int_equal (taken[i]->blk, 1 + i);
  assert_int_equal (write_taken (r, taken, nr), 0);
  CHECK (r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_sort),
    cmocka_unit_test_setup_teardown (test_take, setup, teardown),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
