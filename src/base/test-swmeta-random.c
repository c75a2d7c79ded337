/* SPDX-License-Identifier: BSD-2-Clause */
/* swmeta: random operations on two maps of one zone against two arrays of
 * entries.
 */

#include <config.h>

#include "swmeta.h"
#include "test-util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define ZONE_BYTES  (UINT64_C (64) << 20)
#define RUNS_MAX    20000u
#define WINDOW      4096u /* pages that the model knows, in 8 shards */
#define ENTRIES_MAX SHARD_PAGES

/* ---- runs that were handed back ---- */

struct runs {
  struct swmeta_run run[RUNS_MAX];
  unsigned nr;
};

static struct runs got, expected;

static void
record (void *arg, const struct swmeta_run *run)
{
  struct runs *runs = arg;

  assert_true (runs->nr < RUNS_MAX);
  assert_true (run->nr_pages > 0);
  runs->run[runs->nr++] = *run;
}

static bool
naive_goes_on (uint64_t a, uint64_t b)
{
  if (swmeta_kind (a) != SWMETA_BLOCK)
    return a == b;
  return swmeta_kind (b) == SWMETA_BLOCK &&
         blkno_volume (a) == blkno_volume (b) &&
         blkno_place (a) + 1 == blkno_place (b);
}

static void
expect (pgno_t pgno, uint64_t word, uint64_t last)
{
  struct swmeta_run *r = &expected.run[max_u64 (expected.nr, 1) - 1];

  if (expected.nr > 0 && r->pgno + r->nr_pages == pgno &&
      naive_goes_on (last, word)) {
    r->nr_pages++;
    return;
  }
  assert_true (expected.nr < RUNS_MAX);
  expected.run[expected.nr++] = (struct swmeta_run){ pgno, word, 1 };
}

static void
assert_runs (void)
{
  assert_int_equal (got.nr, expected.nr);
  for (unsigned i = 0; i < got.nr; i++) {
    assert_int_equal (got.run[i].pgno, expected.run[i].pgno);
    assert_int_equal (got.run[i].word, expected.run[i].word);
    assert_int_equal (got.run[i].nr_pages, expected.run[i].nr_pages);
  }
  got.nr = expected.nr = 0;
}

/* ---- random operations against the model ---- */

struct side {
  struct swmeta *map;
  struct swent ent[WINDOW];
  uint64_t nr_entries;
};

struct model {
  struct swzone *zone;
  struct side side[2];
  pgno_t base; /* page of the first entry in the model */
  uint64_t random;
};

static uint64_t
rnd (struct model *m, uint64_t below)
{
  return test_random_below (&m->random, below);
}

/* A range within one shard of the window; *i counts from its start. */
static void
rnd_range (struct model *m, unsigned *i, unsigned *nr)
{
  unsigned left;

  *i = rnd (m, WINDOW);
  if (rnd (m, 4) == 0)
    *i &= ~(SWBLOCK_PAGES - 1);
  left = SHARD_PAGES - *i % SHARD_PAGES;
  *nr = 1 + rnd (m, UINT64_C (1) << rnd (m, 10));
  *nr = min_u64 (*nr, left);
}

static void
step_build (struct model *m, struct side *s)
{
  static struct swent ents[ENTRIES_MAX];
  unsigned i, nr;
  uint64_t blk = blkno_make (rnd (m, 3), rnd (m, 3) ? rnd (m, 1000000) : 0);
  uint64_t last = 0;

  rnd_range (m, &i, &nr);
  if (rnd (m, 20) == 0)
    blk = blkno_make (1, BLKNO_PLACE_MAX - rnd (m, 20));
  for (unsigned n = 0; n < nr; n++) {
    blk = rnd (m, 10) == 0 ? rnd (m, 1000000) : blk + 1;
    ents[n].word = rnd (m, 10) == 0 ? swmeta_word (SWMETA_ZERO, 0)
                                    : swmeta_word (SWMETA_BLOCK, blk);
    ents[n].crc = rnd (m, UINT32_MAX);
  }
  assert_int_equal (swmeta_build (s->map, m->base + i, nr, ents, record, &got),
                    0);
  for (unsigned n = 0; n < nr; n++) {
    uint64_t old = s->ent[i + n].word;

    if (old != 0)
      expect (m->base + i + n, old, last);
    else
      s->nr_entries++;
    last = old;
    s->ent[i + n] = ents[n];
  }
  assert_runs ();
}

static void
step_free (struct model *m, struct side *s)
{
  unsigned i, nr;
  uint64_t last = 0;

  rnd_range (m, &i, &nr);
  swmeta_free (s->map, m->base + i, nr, record, &got);
  for (unsigned n = 0; n < nr; n++) {
    uint64_t old = s->ent[i + n].word;

    if (old != 0) {
      expect (m->base + i + n, old, last);
      s->nr_entries--;
    }
    last = old;
    s->ent[i + n] = (struct swent){ 0 };
  }
  assert_runs ();
}

static void
step_pop (struct model *m, struct side *s)
{
  unsigned i = rnd (m, WINDOW);
  struct swent ent;

  memset (&ent, 0xee, sizeof ent);
  swmeta_pop (s->map, m->base + i, &ent);
  assert_memory_equal (&ent, &s->ent[i], sizeof ent);
  s->nr_entries -= ent.word != 0;
  s->ent[i] = (struct swent){ 0 };
}

static void
step_lookup (struct model *m, struct side *s)
{
  static struct swent ents[ENTRIES_MAX];
  struct swmeta_run run;
  unsigned i, nr, n, b, a, first, end;
  uint64_t before, after;

  rnd_range (m, &i, &nr);
  swmeta_get (s->map, m->base + i, nr, ents);
  assert_memory_equal (ents, s->ent + i, nr * sizeof ents[0]);
  swmeta_lookup (s->map, m->base + i, rnd (m, 8) ? nr : UINT64_MAX, &run);
  if (run.nr_pages > nr)
    nr = SHARD_PAGES - i % SHARD_PAGES;
  for (n = 1; n < nr; n++)
    if (s->ent[i].word == 0
            ? s->ent[i + n].word != 0
            : !naive_goes_on (s->ent[i + n - 1].word, s->ent[i + n].word))
      break;
  assert_int_equal (run.pgno, m->base + i);
  assert_int_equal (run.word, s->ent[i].word);
  assert_int_equal (run.nr_pages, n);

  first = i / SHARD_PAGES * SHARD_PAGES;
  end = first + SHARD_PAGES;
  b = rnd (m, 40);
  a = rnd (m, 40);
  swmeta_extent (s->map, m->base + i, b, a, &before, &after);
  for (n = 0; n < b && i - n > first; n++)
    if (s->ent[i].word == 0 ||
        !naive_goes_on (s->ent[i - n - 1].word, s->ent[i - n].word))
      break;
  assert_int_equal (before, n);
  for (n = 0; n < a && i + n + 1 < end; n++)
    if (s->ent[i].word == 0 ||
        !naive_goes_on (s->ent[i + n].word, s->ent[i + n + 1].word))
      break;
  assert_int_equal (after, n);
}

static void
step_move (struct model *m)
{
  struct side *src = &m->side[rnd (m, 2)];
  struct side *dst = &m->side[rnd (m, 2)];
  unsigned nr = rnd (m, 1 + WINDOW / 2);
  unsigned from = rnd (m, WINDOW - nr + 1), to = rnd (m, WINDOW - nr + 1);
  uint64_t done = 77, last = 0;

  if (rnd (m, 2) && src != dst)
    to = from;
  if (src == dst && from < to + nr && to < from + nr)
    return;
  assert_int_equal (swmeta_move (dst->map, m->base + to, src->map,
                                 m->base + from, nr, record, &got, &done),
                    0);
  assert_int_equal (done, nr);
  for (unsigned n = 0; n < nr; n++) {
    struct swent *e = &src->ent[from + n];

    if (e->word != 0 && dst->ent[to + n].word != 0) {
      expect (m->base + from + n, e->word, last);
      last = e->word;
      src->nr_entries--;
    } else {
      last = 0;
      if (e->word != 0) {
        dst->ent[to + n] = *e;
        dst->nr_entries++;
        src->nr_entries--;
      }
    }
    *e = (struct swent){ 0 };
  }
  assert_runs ();
}

static void
assert_sides (struct model *m)
{
  static struct swent ents[ENTRIES_MAX];

  for (unsigned k = 0; k < 2; k++) {
    struct side *s = &m->side[k];

    assert_null (swmeta_check (s->map));
    assert_int_equal (swmeta_nr_entries (s->map), s->nr_entries);
    for (unsigned i = 0; i < WINDOW; i += SHARD_PAGES) {
      swmeta_get (s->map, m->base + i, SHARD_PAGES, ents);
      assert_memory_equal (ents, s->ent + i, sizeof ents);
    }
  }
}

static void
random_ops (uint64_t seed, pgno_t base, pgno_t nr_pages, uint64_t nr_ops)
{
  struct model *m = calloc (1, sizeof *m);

  assert_non_null (m);
  m->random = seed * 2 + 1;
  m->base = base;
  assert_int_equal (swzone_create (sizeof (struct swent), ZONE_BYTES, &m->zone),
                    0);
  for (unsigned k = 0; k < 2; k++)
    assert_int_equal (swmeta_create (m->zone, nr_pages, &m->side[k].map), 0);
  for (uint64_t i = 0; i < nr_ops; i++) {
    struct side *s = &m->side[rnd (m, 2)];
    uint64_t op = rnd (m, 100);

    if (op < 30)
      step_build (m, s);
    else if (op < 60)
      step_free (m, s);
    else if (op < 70)
      step_pop (m, s);
    else if (op < 99)
      step_lookup (m, s);
    else
      step_move (m);
    if (i % 512 == 0)
      assert_sides (m);
  }
  assert_sides (m);
  for (unsigned k = 0; k < 2; k++)
    swmeta_destroy (m->side[k].map);
  assert_int_equal (swzone_bytes (m->zone), 0);
  swzone_destroy (m->zone);
  free (m);
}

static void
test_random (void **state)
{
  uint64_t seed = test_seed ();
  uint64_t nr_ops = test_environment ("FARPAGE_RANDOM_OPS", 600000);

  (void) state;
  random_ops (seed, 0, WINDOW, nr_ops / 3);
  random_ops (seed + 1, 512 * 512 - 1024, 512 * 512 * 3, nr_ops / 3);
  random_ops (seed + 2, (UINT64_C (1) << 51) - 1024, UINT64_C (1) << 52,
              nr_ops / 3);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
