/* SPDX-License-Identifier: BSD-2-Clause */
/* swap-space: single rules, and random operations against a plain array. */

#include <config.h>

#include "swap-space.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "test-util.h"

#define assert_sound(s) assert_null (swap_space_check (s))

struct levels {
  unsigned nr;
  enum swap_space_level seen[64];
};

static void
note_level (void *arg, enum swap_space_level level)
{
  struct levels *l = arg;

  if (l->nr < 64)
    l->seen[l->nr] = level;
  l->nr++;
}

static struct swap_space *
make (uint64_t nr, bool trim, struct levels *l)
{
  struct swap_space_config config = { .nr_blocks = nr,
                                      .trim = trim,
                                      .trim_max = 1024,
                                      .level = l != NULL ? note_level : NULL,
                                      .arg = l };
  struct swap_space *s;

  assert_int_equal (swap_space_create (&config, &s), 0);
  assert_sound (s);
  return s;
}

static uint64_t
nr_free (struct swap_space *s)
{
  struct swap_space_stat st;

  swap_space_stat (s, &st);
  return st.nr_free;
}

/* Takes all there is in pieces of one block; nothing is left. */
static void
take_all (struct swap_space *s)
{
  uint64_t blk, nr;

  while (nr_free (s) > 0)
    assert_int_equal (swap_space_take_any (s, 1, &blk, &nr), 0);
}

static void
test_take (void **state)
{
  struct swap_space *s = make (100, false, NULL);
  uint64_t blk, nr;

  (void) state;
  assert_int_equal (swap_space_take (s, 16, &blk, &nr), 0);
  assert_int_equal (blk, 1); /* never block 0 */
  assert_int_equal (nr, 16);
  assert_int_equal (swap_space_take (s, 200, &blk, &nr), 0);
  assert_int_equal (blk, 17); /* the biggest there is, all of it */
  assert_int_equal (nr, 83);
  assert_int_equal (swap_space_take (s, 1, &blk, &nr), ENOSPC);
  assert_int_equal (nr, 83); /* untouched */
  swap_space_return (s, 20, 3);
  swap_space_return (s, 30, 5);
  swap_space_return (s, 40, 9);
  assert_int_equal (swap_space_take (s, 16, &blk, &nr), 0);
  assert_int_equal (blk, 40); /* the biggest first, not the next */
  assert_int_equal (nr, 9);
  assert_int_equal (swap_space_take (s, 16, &blk, &nr), 0);
  assert_int_equal (blk, 30);
  assert_int_equal (nr, 5);
  assert_int_equal (swap_space_take (s, 16, &blk, &nr), ENOSPC);
  assert_int_equal (swap_space_take (s, 2, &blk, &nr), 0); /* less wanted */
  assert_int_equal (nr, 2);
  assert_int_equal (swap_space_take_any (s, 16, &blk, &nr), 0);
  assert_int_equal (nr, 1);
  assert_int_equal (nr_free (s), 0);
  assert_sound (s);
  swap_space_destroy (s);
}

/* A given block is not handed out before reads older than that are over, and
 * reads that follow each other without a gap do not hold it for ever.
 */
static void
test_reads (void **state)
{
  struct swap_space *s = make (65, false, NULL);
  uint64_t blk, nr, old, other;

  (void) state;
  take_all (s);
  old = swap_space_read_begin (s);
  swap_space_give (s, 8, 4);
  assert_int_equal (swap_space_take (s, 4, &blk, &nr), ENOSPC);
  other = swap_space_read_begin (s);
  for (int i = 0; i < 5; i++) { /* an unbroken row of younger ones */
    uint64_t next = swap_space_read_begin (s);

    swap_space_read_end (s, other);
    other = next;
    assert_int_equal (nr_free (s), 0);
    assert_sound (s);
  }
  swap_space_read_end (s, old);
  for (int i = 0; i < 2; i++) {
    uint64_t next = swap_space_read_begin (s);

    swap_space_read_end (s, other);
    other = next;
  }
  assert_int_equal (nr_free (s), 4);
  assert_int_equal (swap_space_take (s, 4, &blk, &nr), 0);
  assert_int_equal (blk, 8);
  swap_space_read_end (s, other);
  swap_space_give (s, 8, 4);
  assert_int_equal (nr_free (s), 4); /* nobody reads: at once */
  assert_sound (s);
  swap_space_destroy (s);
}

static void
test_trim (void **state)
{
  struct swap_space *s = make (2049, true, NULL);
  struct swap_space_stat st;
  uint64_t blk, nr, read;

  (void) state;
  take_all (s);
  read = swap_space_read_begin (s);
  swap_space_give (s, 1, 100);
  swap_space_give (s, 201, 1200);
  assert_false (swap_space_next_trim (s, true, &blk, &nr)); /* not ripe */
  swap_space_read_end (s, read);
  assert_true (swap_space_next_trim (s, false, &blk, &nr));
  assert_int_equal (blk, 1); /* also those below the gathered number go on */
  assert_int_equal (nr, 100);
  assert_true (swap_space_next_trim (s, false, &blk, &nr));
  assert_int_equal (blk, 201);
  assert_int_equal (nr, 1024); /* trim_max */
  swap_space_stat (s, &st);
  assert_int_equal (st.nr_trimming, 1124);
  assert_int_equal (st.nr_free, 0);
  assert_int_equal (st.nr_ripe, 176);
  /* What is under trim is not taken, what is ripe is. */
  assert_int_equal (swap_space_take (s, 176, &blk, &nr), 0);
  assert_int_equal (blk, 201 + 1024);
  assert_int_equal (swap_space_take (s, 16, &blk, &nr), ENOSPC);
  swap_space_trimmed (s, 1, 100);
  assert_int_equal (nr_free (s), 100);
  swap_space_trim_lost (s, 201, 1024);
  assert_int_equal (nr_free (s), 100);
  swap_space_fenced (s);
  assert_int_equal (nr_free (s), 1124);
  assert_sound (s);
  swap_space_destroy (s);
}

/* Few and small ones wait for all, then small ones are free without a trim. */
static void
test_trim_small (void **state)
{
  struct swap_space *s = make (2049, true, NULL);
  uint64_t blk, nr;

  (void) state;
  take_all (s);
  swap_space_give (s, 1, 15);
  swap_space_give (s, 100, 16);
  swap_space_give (s, 116, 8); /* adjacent runs merge */
  assert_false (swap_space_next_trim (s, false, &blk, &nr));
  assert_true (swap_space_next_trim (s, true, &blk, &nr));
  assert_int_equal (blk, 100);
  assert_int_equal (nr, 24);
  assert_int_equal (nr_free (s), 0);
  assert_false (swap_space_next_trim (s, true, &blk, &nr));
  assert_int_equal (nr_free (s), 15);
  assert_sound (s);
  swap_space_destroy (s);
}

static void
test_lost_blocks (void **state)
{
  struct swap_space *s = make (65, false, NULL);
  struct swap_space_stat st;
  uint64_t blk, nr;

  (void) state;
  take_all (s);
  swap_space_retire (s, 1, 8);
  swap_space_limbo (s, 9, 8);
  assert_int_equal (swap_space_take_any (s, 1, &blk, &nr), ENOSPC);
  assert_false (swap_space_is_used (s, 1));
  assert_true (swap_space_is_used (s, 17));
  swap_space_fenced (s);
  swap_space_stat (s, &st);
  assert_int_equal (st.nr_free, 8);
  assert_int_equal (st.nr_retired, 8);
  assert_int_equal (st.nr_limbo, 0);
  assert_int_equal (st.nr_used, 48);
  take_all (s);
  swap_space_fenced (s); /* not twice */
  assert_int_equal (nr_free (s), 0);
  assert_sound (s);
  swap_space_destroy (s);
}

static void
test_levels (void **state)
{
  struct levels l = { 0 };
  struct swap_space *s = make (16 * 64 + 1, false, &l); /* low 16, high 32 */
  uint64_t blk, nr;

  (void) state;
  take_all (s);
  assert_int_equal (l.nr, 1);
  assert_int_equal (l.seen[0], SWAP_ALMOST_FULL);
  for (int i = 0; i < 3; i++)
    assert_int_equal (swap_space_take (s, 1, &blk, &nr), ENOSPC);
  assert_int_equal (l.nr, 2); /* once */
  assert_int_equal (l.seen[1], SWAP_FULL);
  swap_space_return (s, 1, 15);
  assert_int_equal (l.nr, 2);
  swap_space_return (s, 16, 1); /* 16: low */
  assert_int_equal (l.nr, 3);
  assert_int_equal (l.seen[2], SWAP_ALMOST_FULL);
  swap_space_return (s, 17, 16); /* 32: high, not above */
  assert_int_equal (l.nr, 3);
  swap_space_return (s, 33, 1);
  assert_int_equal (l.nr, 4);
  assert_int_equal (l.seen[3], SWAP_ROOM);
  assert_int_equal (swap_space_take (s, 17, &blk, &nr), 0); /* 16 left */
  assert_int_equal (l.nr, 4);
  assert_sound (s);
  swap_space_destroy (s);
}

static void
test_create (void **state)
{
  struct swap_space_config config = { .nr_blocks = 1 };
  struct swap_space *s = NULL;

  (void) state;
  assert_int_equal (swap_space_create (&config, &s), EINVAL);
  config.nr_blocks = UINT64_MAX;
  assert_int_equal (swap_space_create (&config, &s), EINVAL);
  assert_null (s);
}

/* ---- random ---- */

enum where {
  FREE,
  USED,
  GIVEN,
  TRIMMING,
  RETIRED,
  LIMBO
};

#define BLOCKS 3000u
#define READS  24u
#define TRIMS  8u

struct model {
  struct swap_space *s;
  uint64_t random;
  bool trim;
  enum where where[BLOCKS];
  uint64_t given_at[BLOCKS]; /* GIVEN: when */
  uint64_t now;
  unsigned nr_reads;
  uint64_t read[READS], read_at[READS];
  unsigned nr_trims;
  uint64_t trim_blk[TRIMS], trim_nr[TRIMS];
  uint64_t nr_taken;
};

static uint64_t
rnd (struct model *m, uint64_t below)
{
  return test_random_below (&m->random, below);
}

/* May this block be handed out, or trimmed? */
static bool
is_ripe (const struct model *m, uint64_t b)
{
  for (unsigned i = 0; i < m->nr_reads; i++)
    if (m->read_at[i] < m->given_at[b])
      return false;
  return true;
}

static void
model_take (struct model *m, bool any)
{
  uint64_t want = 1 + rnd (m, 64), blk, nr;
  int err = any ? swap_space_take_any (m->s, want, &blk, &nr)
                : swap_space_take (m->s, want, &blk, &nr);

  if (err) {
    assert_int_equal (err, ENOSPC);
    for (uint64_t b = 1, run = 0; b < BLOCKS; b++) {
      run = m->where[b] == FREE ? run + 1 : 0;
      assert_true (run < (any || want < 4 ? (any ? 1 : want) : 4));
    }
    return;
  }
  assert_true (blk > 0 && nr > 0 && nr <= want && blk + nr <= BLOCKS);
  assert_true (any || nr >= (want < 4 ? want : 4));
  for (uint64_t b = blk; b < blk + nr; b++) {
    assert_true (m->where[b] == FREE ||
                 (m->where[b] == GIVEN && is_ripe (m, b)));
    m->where[b] = USED;
  }
  m->nr_taken += nr;
}

/* A random run of used blocks; 0: none. */
static uint64_t
used_run (struct model *m, uint64_t *blk)
{
  uint64_t max = 1 + rnd (m, 48), nr = 0;

  *blk = 1 + rnd (m, BLOCKS - 1);
  while (nr < max && *blk + nr < BLOCKS && m->where[*blk + nr] == USED)
    nr++;
  return nr;
}

static void
mark (struct model *m, uint64_t blk, uint64_t nr, enum where where)
{
  for (uint64_t b = blk; b < blk + nr; b++) {
    m->where[b] = where;
    m->given_at[b] = m->now;
  }
}

static void
model_give (struct model *m, unsigned how)
{
  uint64_t blk, nr = used_run (m, &blk);

  if (nr == 0)
    return;
  if (how < 80) {
    swap_space_give (m->s, blk, nr);
    mark (m, blk, nr, GIVEN);
  } else if (how < 96) {
    swap_space_return (m->s, blk, nr);
    mark (m, blk, nr, FREE);
  } else if (how < 98) {
    swap_space_limbo (m->s, blk, nr);
    mark (m, blk, nr, LIMBO);
  } else if (rnd (m, 8) == 0) {
    swap_space_retire (m->s, blk, 1);
    mark (m, blk, 1, RETIRED);
  }
}

static void
model_read (struct model *m)
{
  unsigned i = rnd (m, READS);

  if (i >= m->nr_reads) {
    m->read[m->nr_reads] = swap_space_read_begin (m->s);
    m->read_at[m->nr_reads++] = m->now;
  } else {
    swap_space_read_end (m->s, m->read[i]);
    m->nr_reads--;
    m->read[i] = m->read[m->nr_reads];
    m->read_at[i] = m->read_at[m->nr_reads];
  }
}

static void
model_trim (struct model *m)
{
  uint64_t blk, nr;
  unsigned i = rnd (m, TRIMS);

  if (i < m->nr_trims) {
    blk = m->trim_blk[i], nr = m->trim_nr[i];
    if (rnd (m, 8) == 0) {
      swap_space_trim_lost (m->s, blk, nr);
      mark (m, blk, nr, LIMBO);
    } else {
      swap_space_trimmed (m->s, blk, nr);
      mark (m, blk, nr, FREE);
    }
    m->nr_trims--;
    m->trim_blk[i] = m->trim_blk[m->nr_trims];
    m->trim_nr[i] = m->trim_nr[m->nr_trims];
    return;
  }
  if (!swap_space_next_trim (m->s, rnd (m, 2) == 0, &blk, &nr))
    return;
  assert_true (m->trim && nr >= SWAP_TRIM_MIN && nr <= 1024);
  for (uint64_t b = blk; b < blk + nr; b++)
    assert_true (m->where[b] == GIVEN && is_ripe (m, b));
  mark (m, blk, nr, TRIMMING);
  m->trim_blk[m->nr_trims] = blk;
  m->trim_nr[m->nr_trims++] = nr;
}

/* Sets and the model agree; GIVEN may be waiting, ripe or free. */
static void
model_compare (struct model *m)
{
  struct swap_space_stat st;
  uint64_t count[LIMBO + 1] = { 0 };

  assert_sound (m->s);
  swap_space_stat (m->s, &st);
  for (uint64_t b = 1; b < BLOCKS; b++) {
    count[m->where[b]]++;
    assert_int_equal (m->where[b] == USED, swap_space_is_used (m->s, b));
  }
  assert_int_equal (st.nr_used, count[USED]);
  assert_int_equal (st.nr_trimming, count[TRIMMING]);
  assert_int_equal (st.nr_retired, count[RETIRED]);
  assert_int_equal (st.nr_limbo, count[LIMBO]);
  assert_int_equal (st.nr_free + st.nr_ripe + st.nr_waiting,
                    count[FREE] + count[GIVEN]);
  if (m->nr_reads == 0)
    assert_int_equal (st.nr_waiting, 0);
}

static void
run_model (bool trim, uint64_t seed)
{
  uint64_t nr_ops = test_environment ("FARPAGE_RANDOM_OPS", 60000);
  struct model *m = calloc (1, sizeof *m);

  m->s = make (BLOCKS, trim, NULL);
  m->random = seed * 2 + 1;
  m->trim = trim;
  for (m->now = 1; m->now < nr_ops; m->now++) {
    unsigned op = rnd (m, 100);

    if (op < 38)
      model_take (m, op < 6);
    else if (op < 70)
      model_give (m, rnd (m, 100));
    else if (op < 92)
      model_read (m);
    else if (op < 99)
      model_trim (m);
    else if (rnd (m, 4) == 0) {
      swap_space_fenced (m->s);
      for (uint64_t b = 1; b < BLOCKS; b++)
        if (m->where[b] == LIMBO)
          m->where[b] = FREE;
    }
    if (m->now % 64 == 0)
      model_compare (m);
  }
  model_compare (m);
  printf ("%lu operations, %lu blocks taken\n", (unsigned long) nr_ops,
          (unsigned long) m->nr_taken);
  assert_true (m->nr_taken > nr_ops / 8);
  swap_space_destroy (m->s);
  free (m);
}

static void
test_random (void **state)
{
  uint64_t seed = test_seed ();

  (void) state;
  run_model (false, seed);
  run_model (true, seed);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_take),        cmocka_unit_test (test_reads),
    cmocka_unit_test (test_trim),        cmocka_unit_test (test_trim_small),
    cmocka_unit_test (test_lost_blocks), cmocka_unit_test (test_levels),
    cmocka_unit_test (test_create),      cmocka_unit_test (test_random),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
