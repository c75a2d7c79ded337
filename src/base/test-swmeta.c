/* SPDX-License-Identifier: BSD-2-Clause */
/* swmeta: what it promises, one thing at a time. */

#include <config.h>

#include "swmeta.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ZONE_BYTES (UINT64_C (64) << 20)
#define RUNS_MAX   100u

/* ---- runs that were handed back ---- */

struct runs {
  struct swmeta_run run[RUNS_MAX];
  unsigned nr;
};

static struct runs got;

static void
record (void *arg, const struct swmeta_run *run)
{
  struct runs *runs = arg;

  assert_true (runs->nr < RUNS_MAX);
  assert_true (run->nr_pages > 0);
  runs->run[runs->nr++] = *run;
}

/* ---- helpers ---- */

static struct swzone *
new_zone (void)
{
  struct swzone *zone = NULL;

  assert_int_equal (swzone_create (sizeof (struct swent), ZONE_BYTES, &zone),
                    0);
  assert_int_equal (swzone_bytes (zone), 0);
  return zone;
}

static struct swmeta *
new_map (struct swzone *zone, pgno_t nr_pages)
{
  struct swmeta *map = NULL;

  assert_int_equal (swmeta_create (zone, nr_pages, &map), 0);
  assert_int_equal (swmeta_nr_pages (map), nr_pages);
  assert_int_equal (swmeta_nr_entries (map), 0);
  return map;
}

static void
destroy (struct swzone *zone, struct swmeta *map)
{
  swmeta_destroy (map);
  assert_int_equal (swzone_bytes (zone), 0);
  swzone_destroy (zone);
}

/* Map nr pages to blocks in a row. */
static void
map_blocks (struct swmeta *map, pgno_t pgno, uint64_t nr, blkno_t blk)
{
  struct swent ents[SHARD_PAGES] = { { 0 } };

  for (uint64_t i = 0; i < nr; i++)
    ents[i].word = swmeta_word (SWMETA_BLOCK, blk + i);
  assert_int_equal (swmeta_build (map, pgno, nr, ents, record, &got), 0);
  assert_null (swmeta_check (map));
}

static void
assert_got (unsigned i, pgno_t pgno, blkno_t blk, uint64_t nr)
{
  assert_true (i < got.nr);
  assert_int_equal (got.run[i].pgno, pgno);
  assert_int_equal (got.run[i].word, swmeta_word (SWMETA_BLOCK, blk));
  assert_int_equal (got.run[i].nr_pages, nr);
}

static void
assert_nr_got (unsigned nr)
{
  assert_int_equal (got.nr, nr);
  got.nr = 0;
}

static void
assert_lookup (struct swmeta *map, pgno_t pgno, uint64_t max, uint64_t word,
               uint64_t nr)
{
  struct swmeta_run run;

  swmeta_lookup (map, pgno, max, &run);
  assert_int_equal (run.pgno, pgno);
  assert_int_equal (run.word, word);
  assert_int_equal (run.nr_pages, nr);
}

/* ---- tests ---- */

static void
test_bad_arguments (void **state)
{
  struct swzone *zone = NULL;
  struct swmeta *map = NULL;

  (void) state;
  assert_int_equal (swzone_create (0, ZONE_BYTES, &zone), EINVAL);
  assert_int_equal (swzone_create (7, ZONE_BYTES, &zone), EINVAL);
  assert_int_equal (swzone_create (12, ZONE_BYTES, &zone), EINVAL);
  assert_int_equal (swzone_create (72, ZONE_BYTES, &zone), EINVAL);
  assert_null (zone);
  zone = new_zone ();
  assert_int_equal (swzone_bytes_max (zone), ZONE_BYTES);
  assert_int_equal (swmeta_create (zone, UINT64_MAX, &map), EINVAL);
  assert_null (map);
  map = new_map (zone, 0);
  assert_int_equal (swmeta_next_shard (map, 0), UINT64_MAX);
  assert_int_equal (swmeta_reserve (map), 0);
  assert_null (swmeta_check (map));
  swmeta_destroy (NULL);
  destroy (zone, map);
}

/* What is displaced comes back in runs, over swblocks too, and only that. */
static void
test_displaced_in_runs (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 1024);

  (void) state;
  map_blocks (map, 10, 20, 1000);
  map_blocks (map, 30, 10, 1020); /* goes on */
  map_blocks (map, 40, 5, 5000);
  map_blocks (map, 50, 5, 5005); /* goes on, but not in the pages */
  assert_nr_got (0);
  assert_lookup (map, 10, 512, swmeta_word (SWMETA_BLOCK, 1000), 30);
  assert_lookup (map, 10, 7, swmeta_word (SWMETA_BLOCK, 1000), 7);
  map_blocks (map, 5, 60, 9000);
  assert_got (0, 10, 1000, 30);
  assert_got (1, 40, 5000, 5);
  assert_got (2, 50, 5005, 5);
  assert_nr_got (3);
  assert_int_equal (swmeta_nr_entries (map), 60);
  swmeta_free (map, 0, 512, record, &got);
  assert_got (0, 5, 9000, 60);
  assert_nr_got (1);
  destroy (zone, map);
}

/* Neither from volume to volume nor from kind to kind. */
static void
test_runs_end (void **state)
{
  struct swent ents[4] = { { 0 } };
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 512);
  uint64_t before, after;

  (void) state;
  map_blocks (map, 0, 2, blkno_make (3, BLKNO_PLACE_MAX));
  assert_lookup (map, 0, 9,
                 swmeta_word (SWMETA_BLOCK, blkno_make (3, BLKNO_PLACE_MAX)),
                 1);
  swmeta_extent (map, 1, 9, 9, &before, &after);
  assert_int_equal (before, 0);
  assert_int_equal (after, 0);
  ents[0].word = swmeta_word (SWMETA_ZERO, 7);
  ents[1].word = swmeta_word (SWMETA_ZERO, 7);
  ents[2].word = swmeta_word (SWMETA_ZERO, 8);
  ents[3].word = swmeta_word (SWMETA_BLOCK, 8);
  assert_int_equal (swmeta_build (map, 100, 4, ents, record, &got), 0);
  assert_lookup (map, 100, 9, ents[0].word, 2);
  assert_lookup (map, 102, 9, ents[2].word, 1);
  assert_lookup (map, 103, 9, ents[3].word, 1);
  assert_nr_got (0);
  destroy (zone, map);
}

/* Absent swblocks in one step, to the end of the shard or of the map. */
static void
test_holes (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 512 * 3 + 100);
  uint64_t before = 7, after = 7;

  (void) state;
  assert_lookup (map, 0, UINT64_MAX, 0, 512);
  assert_lookup (map, 511, UINT64_MAX, 0, 1);
  assert_lookup (map, 512 * 3, UINT64_MAX, 0, 100);
  map_blocks (map, 500, 1, 8);
  assert_lookup (map, 0, UINT64_MAX, 0, 500);
  assert_lookup (map, 0, 20, 0, 20);
  assert_lookup (map, 501, UINT64_MAX, 0, 11);
  swmeta_extent (map, 499, 9, 9, &before, &after);
  assert_int_equal (before, 0);
  assert_int_equal (after, 0);
  map_blocks (map, 512 * 3 + 99, 1, 9);
  swmeta_extent (map, 512 * 3 + 99, 9, 9, &before, &after);
  assert_int_equal (after, 0);
  assert_lookup (map, 512 * 3, UINT64_MAX, 0, 99);
  destroy (zone, map);
}

/* A swblock goes when its last entry does, a shard node with its last. */
static void
test_memory_goes_at_count_0 (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 512 * 512);
  uint64_t inner, one, two;
  struct swent ent;

  (void) state;
  map_blocks (map, 0, 1, 1);
  one = swzone_bytes (zone);
  map_blocks (map, 1, 15, 2);
  assert_int_equal (swzone_bytes (zone), one);
  map_blocks (map, 16, 1, 17);
  two = swzone_bytes (zone);
  assert_int_equal (two - one, SWBLOCK_PAGES * sizeof ent);
  swmeta_free (map, 0, 15, record, &got);
  assert_int_equal (swzone_bytes (zone), two);
  swmeta_pop (map, 15, &ent);
  assert_int_equal (ent.word, swmeta_word (SWMETA_BLOCK, 16));
  assert_int_equal (swzone_bytes (zone), one);
  assert_int_equal (swmeta_next_shard (map, 0), 0);
  swmeta_free (map, 10, 100, record, &got);
  inner = swzone_bytes (zone);
  assert_true (inner < one - SWBLOCK_PAGES * sizeof ent);
  assert_int_equal (swmeta_next_shard (map, 0), UINT64_MAX);
  swmeta_pop (map, 15, &ent);
  assert_int_equal (ent.word, 0);
  swmeta_free (map, 0, 512, record, &got);
  assert_int_equal (swzone_bytes (zone), inner);
  got.nr = 0;
  destroy (zone, map);
}

/* The zone's bound holds, nothing changes on ENOMEM, and what is reserved is
 * there for good.
 */
static void
test_reserve (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 512 * 4 + 1), *other;
  uint64_t reserved;

  (void) state;
  map_blocks (map, 700, 1, 5);
  assert_int_equal (swmeta_reserve (map), 0);
  assert_null (swmeta_check (map));
  reserved = swzone_bytes (zone);
  assert_true (reserved >= (512 * 4 + 16) * sizeof (struct swent));
  for (unsigned shard = 0; shard < 4; shard++) {
    map_blocks (map, shard * 512, 512, shard * 512);
    assert_int_equal (swzone_bytes (zone), reserved);
    got.nr = 0;
    swmeta_free (map, shard * 512, 512, record, &got);
    assert_got (0, shard * 512, shard * 512, 512);
    assert_nr_got (1);
    assert_int_equal (swzone_bytes (zone), reserved);
  }
  /* Too large for the zone: as before the call. */
  other = new_map (zone, ZONE_BYTES / sizeof (struct swent));
  map_blocks (other, 512 * 600 + 5, 1, 5);
  reserved = swzone_bytes (zone);
  assert_int_equal (swmeta_reserve (other), ENOMEM);
  assert_int_equal (swzone_bytes (zone), reserved);
  assert_int_equal (swmeta_nr_entries (other), 1);
  assert_null (swmeta_check (other));
  swmeta_destroy (other);
  reserved = swzone_bytes (zone);
  other = new_map (zone, UINT64_C (1) << 52); /* refused at once */
  assert_int_equal (swmeta_reserve (other), ENOMEM);
  assert_int_equal (swzone_bytes (zone), reserved);
  swmeta_destroy (other);
  destroy (zone, map);
}

/* Entries stay where they are while the map gets higher and shorter. */
static void
test_resize (void **state)
{
  static const pgno_t sizes[] = { 513,           4,   512 * 512, 512 * 512 + 1,
                                  512 * 512 * 3, 100, 4,         1 << 30,
                                  1000 };
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 4);

  (void) state;
  assert_int_equal (swmeta_resize (map, 5), 0);
  map_blocks (map, 3, 1, 77);
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    pgno_t last = sizes[i] - 1;

    assert_int_equal (swmeta_resize (map, sizes[i]), 0);
    assert_int_equal (swmeta_nr_pages (map), sizes[i]);
    assert_null (swmeta_check (map));
    assert_lookup (map, 3, 1, swmeta_word (SWMETA_BLOCK, 77), 1);
    if (last == 3)
      continue;
    assert_lookup (map, last, 2, 0, 1);
    map_blocks (map, last, 1, i);
    swmeta_free (map, last, 1, record, &got);
    assert_got (0, last, i, 1);
    assert_nr_got (1);
  }
  assert_int_equal (swmeta_resize (map, (UINT64_C (1) << 52) + 1), EINVAL);
  destroy (zone, map);
}

/* What is reserved follows the size; what does not fit changes nothing. */
static void
test_resize_reserved (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 100);
  uint64_t small, reserved;

  (void) state;
  assert_int_equal (swmeta_reserve (map), 0);
  small = swzone_bytes (zone);
  map_blocks (map, 99, 1, 5);
  assert_int_equal (swmeta_resize (map, 512 * 600), 0);
  reserved = swzone_bytes (zone);
  assert_true (reserved >= 512 * 600 * sizeof (struct swent));
  map_blocks (map, 512 * 599, 512, 9);
  swmeta_free (map, 512 * 599, 512, record, &got);
  assert_nr_got (1);
  assert_int_equal (swzone_bytes (zone), reserved);
  assert_int_equal (
      swmeta_resize (map, ZONE_BYTES / sizeof (struct swent) - 512 * 8),
      ENOMEM);
  assert_int_equal (swmeta_nr_pages (map), 512 * 600);
  assert_null (swmeta_check (map));
  assert_lookup (map, 99, 1, swmeta_word (SWMETA_BLOCK, 5), 1);
  assert_int_equal (swmeta_resize (map, 100), 0);
  assert_null (swmeta_check (map));
  assert_true (swzone_bytes (zone) < small + 512 * 100 * 16);
  destroy (zone, map);
}

/* Entries far apart in the largest map; what is between costs nothing. */
static void
test_next_shard (void **state)
{
  struct swzone *zone = new_zone ();
  const pgno_t nr_pages = UINT64_C (1) << 52;
  struct swmeta *map = new_map (zone, nr_pages);
  uint64_t shard = 0;

  (void) state;
  assert_int_equal (swmeta_next_shard (map, 0), UINT64_MAX);
  for (unsigned bit = 9; bit < 52; bit++)
    map_blocks (map, UINT64_C (1) << bit, 3, bit);
  map_blocks (map, nr_pages - 1, 1, 52);
  for (unsigned bit = 9; bit < 52; bit++) {
    shard = swmeta_next_shard (map, shard);
    assert_int_equal (shard, UINT64_C (1) << (bit - 9));
    swmeta_free (map, shard * SHARD_PAGES, SHARD_PAGES, record, &got);
    assert_got (0, UINT64_C (1) << bit, bit, 3);
    assert_nr_got (1);
    shard++;
  }
  shard = swmeta_next_shard (map, shard);
  assert_int_equal (shard, (nr_pages - 1) / SHARD_PAGES);
  swmeta_free (map, nr_pages - 1, 1, record, &got);
  assert_nr_got (1);
  assert_int_equal (swmeta_next_shard (map, 0), UINT64_MAX);
  assert_int_equal (swmeta_next_shard (map, UINT64_MAX), UINT64_MAX);
  assert_int_equal (swmeta_nr_entries (map), 0);
  destroy (zone, map);
}

/* Whole swblocks move with their memory; destination wins; far pages too. */
static void
test_move (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *src = new_map (zone, 1 << 20);
  struct swmeta *dst = new_map (zone, UINT64_C (1) << 40);
  const pgno_t far = (UINT64_C (1) << 39) + 512 * 511;
  uint64_t nr = 77;

  (void) state;
  map_blocks (src, 512 * 3 - 8, 8, 100);
  map_blocks (src, 512 * 3, 40, 200);
  map_blocks (src, 900000, 1, 300);
  map_blocks (dst, far + 512 * 3 + 4, 2, 900);
  assert_int_equal (swmeta_move (dst, far, src, 0, 1 << 20, record, &got, &nr),
                    0);
  assert_int_equal (nr, 1 << 20);
  assert_got (0, 512 * 3 + 4, 204, 2);
  assert_nr_got (1);
  assert_null (swmeta_check (src));
  assert_null (swmeta_check (dst));
  assert_int_equal (swmeta_nr_entries (src), 0);
  assert_int_equal (swmeta_nr_entries (dst), 49);
  assert_lookup (dst, far + 512 * 3 - 8, 512, swmeta_word (SWMETA_BLOCK, 100),
                 8);
  assert_lookup (dst, far + 512 * 3, 512, swmeta_word (SWMETA_BLOCK, 200), 4);
  assert_lookup (dst, far + 512 * 3 + 4, 512, swmeta_word (SWMETA_BLOCK, 900),
                 2);
  assert_lookup (dst, far + 512 * 3 + 6, 512, swmeta_word (SWMETA_BLOCK, 206),
                 34);
  assert_lookup (dst, far + 900000, 512, swmeta_word (SWMETA_BLOCK, 300), 1);
  swmeta_destroy (src);
  destroy (zone, dst);
}

/* Entries of every size that a zone takes keep all their bytes. */
static void
test_entry_sizes (void **state)
{
  unsigned char in[40 * 64], out[40 * 64];

  (void) state;
  for (size_t bytes = 8; bytes <= 64; bytes += 8) {
    struct swzone *zone;
    struct swmeta *map;

    for (size_t i = 0; i < 40 * bytes; i++)
      in[i] = i % bytes == 7 ? 0x10 : i * 7 + bytes;
    assert_int_equal (swzone_create (bytes, ZONE_BYTES, &zone), 0);
    map = new_map (zone, 2000);
    assert_int_equal (swmeta_build (map, 600, 40, in, record, &got), 0);
    assert_null (swmeta_check (map));
    swmeta_get (map, 600, 40, out);
    assert_memory_equal (in, out, 40 * bytes);
    swmeta_pop (map, 620, out);
    assert_memory_equal (in + 20 * bytes, out, bytes);
    swmeta_get (map, 620, 1, out);
    for (size_t i = 0; i < bytes; i++)
      assert_int_equal (out[i], 0);
    assert_nr_got (0);
    destroy (zone, map);
  }
}

static void
test_dump (void **state)
{
  struct swzone *zone = new_zone ();
  struct swmeta *map = new_map (zone, 2000);
  char *text = NULL;
  size_t len = 0;
  FILE *fp = open_memstream (&text, &len);

  (void) state;
  assert_non_null (fp);
  map_blocks (map, 600, 40, blkno_make (2, 77));
  swmeta_dump (map, fp);
  fclose (fp);
  assert_non_null (strstr (text, "2000 pages, 40 entries"));
  assert_non_null (strstr (text, "pages 600 + 40 block 2:77"));
  free (text);
  destroy (zone, map);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_bad_arguments),
    cmocka_unit_test (test_displaced_in_runs),
    cmocka_unit_test (test_runs_end),
    cmocka_unit_test (test_holes),
    cmocka_unit_test (test_memory_goes_at_count_0),
    cmocka_unit_test (test_reserve),
    cmocka_unit_test (test_resize),
    cmocka_unit_test (test_resize_reserved),
    cmocka_unit_test (test_next_shard),
    cmocka_unit_test (test_move),
    cmocka_unit_test (test_entry_sizes),
    cmocka_unit_test (test_dump),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
