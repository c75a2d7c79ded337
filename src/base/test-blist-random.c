/* SPDX-License-Identifier: BSD-2-Clause */
/* blist: random operations against a bit array. */

#include <config.h>

#include "blist.h"
#include "test-util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define assert_sound(bl) assert_null (blist_check (bl))

/* ---- random operations against the model ---- */

#define MODEL_MAX 300000u

struct model {
  struct blist *bl;
  uint8_t used[MODEL_MAX];
  uint64_t nr_blocks;
  uint64_t nr_max; /* it grows up to here */
  uint64_t nr_free;
  uint64_t cursor;
  uint64_t random;
};

static uint64_t
rnd (struct model *m, uint64_t below)
{
  return test_random_below (&m->random, below);
}

/* Lengths: mostly short, now and then as long as can be. */
static uint64_t
rnd_len (struct model *m, uint64_t max)
{
  uint64_t len = 1 + rnd (m, UINT64_C (1) << rnd (m, 14));

  return len < max ? len : max;
}

static bool
model_search (const struct model *m, uint64_t from, uint64_t want,
              uint64_t *start)
{
  uint64_t run = 0;

  for (uint64_t b = from; b < m->nr_blocks; b++) {
    run = m->used[b] ? 0 : run + 1;
    if (run == want) {
      *start = b + 1 - want;
      return true;
    }
  }
  return false;
}

static void
step_alloc (struct model *m)
{
  uint64_t at_least = rnd (m, 2) ? 1 : rnd_len (m, MODEL_MAX);
  uint64_t at_most = at_least + (rnd (m, 2) ? 0 : rnd_len (m, 100));
  uint64_t start = 77, count = 78, expect = 0, n;
  int err = blist_alloc (m->bl, at_least, at_most, &start, &count);

  if (!model_search (m, m->cursor, at_least, &expect) &&
      !model_search (m, 0, at_least, &expect)) {
    assert_int_equal (err, ENOSPC);
    assert_int_equal (start, 77);
    assert_int_equal (count, 78);
    return;
  }
  assert_int_equal (err, 0);
  assert_int_equal (start, expect);
  for (n = 0; n < at_most && expect + n < m->nr_blocks; n++) {
    if (m->used[expect + n])
      break;
    m->used[expect + n] = 1;
  }
  assert_int_equal (count, n);
  m->nr_free -= n;
  m->cursor = start + n < m->nr_blocks ? start + n : 0;
}

static void
step_free (struct model *m)
{
  uint64_t start = rnd (m, m->nr_blocks + 2);
  uint64_t count = 0, max = rnd_len (m, MODEL_MAX);
  bool good = start <= m->nr_blocks;

  /* Mostly a range that is taken; else any. */
  if (rnd (m, 8) > 0)
    while (start + count < m->nr_blocks && count < max &&
           m->used[start + count])
      count++;
  else
    count = max;
  for (uint64_t i = 0; i < count && good; i++)
    good = start + i < m->nr_blocks && m->used[start + i];
  assert_int_equal (blist_free (m->bl, start, count), good ? 0 : EINVAL);
  if (!good)
    return;
  memset (m->used + start, 0, count);
  m->nr_free += count;
}

static void
step_fill (struct model *m)
{
  uint64_t start = rnd (m, m->nr_blocks + 2), count = rnd_len (m, 5000);
  uint64_t nr = 0, taken = 79;

  if (start + count > m->nr_blocks) {
    assert_int_equal (blist_fill (m->bl, start, count, &taken), EINVAL);
    assert_int_equal (taken, 79);
    return;
  }
  assert_int_equal (blist_fill (m->bl, start, count, &taken), 0);
  for (uint64_t i = start; i < start + count; i++) {
    nr += !m->used[i];
    m->used[i] = 1;
  }
  assert_int_equal (taken, nr);
  m->nr_free -= nr;
}

static void
step_other (struct model *m)
{
  uint64_t start = rnd (m, m->nr_blocks + 1);
  uint64_t count = rnd_len (m, m->nr_blocks - start);
  uint64_t more = rnd (m, 50) ? 0 : rnd_len (m, m->nr_max - m->nr_blocks);
  bool is_free = true;

  if (rnd (m, 2)) {
    blist_seek (m->bl, start);
    m->cursor = start < m->nr_blocks ? start : 0;
  }
  for (uint64_t i = start; i < start + count; i++)
    is_free &= !m->used[i];
  assert_int_equal (blist_is_free (m->bl, start, count), is_free);
  assert_int_equal (blist_grow (m->bl, m->nr_blocks + more), 0);
  m->nr_blocks += more;
  m->nr_free += more;
}

/* A tree of this size that grows up to nr_max, nr_ops operations. */
static void
random_ops (uint64_t seed, uint64_t nr_blocks, uint64_t nr_max, uint64_t nr_ops)
{
  struct model *m = calloc (1, sizeof *m);

  assert_non_null (m);
  m->random = seed * 2 + 1;
  m->nr_blocks = m->nr_free = nr_blocks;
  m->nr_max = nr_max;
  assert_int_equal (blist_create (nr_blocks, &m->bl), 0);
  for (uint64_t i = 0; i < nr_ops; i++) {
    uint64_t op = rnd (m, 100);

    if (op < 45)
      step_alloc (m);
    else if (op < 88)
      step_free (m);
    else if (op < 94)
      step_fill (m);
    else
      step_other (m);
    assert_int_equal (blist_nr_free (m->bl), m->nr_free);
    assert_int_equal (blist_nr_blocks (m->bl), m->nr_blocks);
    if (i % (1 + m->nr_blocks / 256) == 0)
      assert_sound (m->bl);
  }
  assert_sound (m->bl);
  blist_destroy (m->bl);
  free (m);
}

static void
test_random (void **state)
{
  static const uint32_t starts[] = { 0,   1,    63,   64,   65,
                                     200, 4095, 4096, 4097, 20000 };
  uint64_t seed = test_seed ();
  uint64_t nr_ops = test_environment ("FARPAGE_RANDOM_OPS", 300000);
  const size_t nr = sizeof starts / sizeof starts[0];

  (void) state;
  for (size_t i = 0; i < nr; i++)
    random_ops (seed + i, starts[i], starts[i] + 5000, nr_ops / nr);
  /* The model takes its time: fewer operations where it is large. */
  random_ops (seed + nr, 262143, MODEL_MAX, nr_ops / 30);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
