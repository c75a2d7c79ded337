/* SPDX-License-Identifier: BSD-2-Clause */
/* The cached block map, beside an array of what is known of each byte. */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "file-map.h"
#include "test-util.h"

#define BYTES 12000u
#define STEPS 60000u

static struct file_map map;
static uint8_t plain[BYTES];

static void
set_plain (uint64_t off, uint64_t end, enum file_map_kind kind)
{
  memset (plain + off, kind, end - off);
}

/* It may have forgotten; what it says is right. */
static unsigned
compare (void)
{
  unsigned nr_known = 0;
  uint64_t end, begin, around;

  for (uint64_t off = 0; off < BYTES; off = end) {
    enum file_map_kind kind = file_map_look (&map, off, &end);

    assert_true (end > off);
    assert_int_equal (file_map_around (&map, off, &begin, &around), kind);
    assert_int_equal (around, end);
    assert_true (begin <= off);
    if (kind != FILE_MAP_UNKNOWN || begin > 0)
      assert_true (begin == off || plain[begin] == plain[off]);
    if (end > BYTES)
      end = BYTES;
    for (uint64_t i = off; kind != FILE_MAP_UNKNOWN && i < end; i++)
      assert_int_equal (plain[i], kind);
    nr_known += kind != FILE_MAP_UNKNOWN ? end - off : 0;
  }
  if (file_map_check (&map) != NULL)
    fail_msg ("%s", file_map_check (&map));
  return nr_known;
}

static unsigned
nr_known_plain (void)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < BYTES; i++)
    nr += plain[i] != FILE_MAP_UNKNOWN;
  return nr;
}

static void
ask_and_learn (uint64_t *random, uint64_t off, uint64_t end)
{
  struct file_map_ask *ask = file_map_ask (&map, off, end);
  struct file_extent e[8];
  unsigned nr = 0;

  assert_non_null (ask);
  while (off < end && nr < 8) {
    uint64_t to = off + 1 + test_random_below (random, end - off);

    e[nr] = (struct file_extent){ off, to, 1 + test_random_below (random, 2) };
    set_plain (off, to, e[nr].kind);
    off = to;
    nr++;
  }
  file_map_answer (&map, ask, e, nr);
}

static void
test_random (void **state)
{
  uint64_t random = test_seed ();

  (void) state;
  file_map_init (&map);
  memset (plain, 0, sizeof plain);
  for (unsigned i = 0; i < STEPS; i++) {
    uint64_t off = test_random_below (&random, BYTES - 1);
    uint64_t end = off + 1 + test_random_below (&random, BYTES - 1 - off);

    if (test_random_below (&random, 4) != 0 && end > off + 5)
      end = off + 1 + test_random_below (&random, 5);
    switch (test_random_below (&random, 3)) {
    case 0:
      file_map_written (&map, off, end);
      set_plain (off, end, FILE_MAP_DATA);
      break;
    case 1:
      file_map_changed (&map, off, end);
      set_plain (off, end, FILE_MAP_UNKNOWN);
      break;
    default:
      ask_and_learn (&random, off, end);
    }
    if (i % 50 == 0)
      assert_int_equal (compare (), nr_known_plain ());
  }
}

/* More extents than it has room for: it forgets, and says nothing wrong. */
static void
test_full (void **state)
{
  (void) state;
  file_map_init (&map);
  set_plain (0, BYTES, FILE_MAP_UNKNOWN);
  for (unsigned i = 0; i < BYTES; i++) {
    file_map_written (&map, i, i + 1);
    set_plain (i, i + 1, FILE_MAP_DATA);
    if (i % 2 != 0) {
      file_map_changed (&map, i, i + 1);
      set_plain (i, i + 1, FILE_MAP_UNKNOWN);
    }
    if (i % 100 == 0)
      compare ();
  }
  assert_true (compare () > 0);
  assert_true (compare () < nr_known_plain ());
}

static const struct file_extent hole = { 0, 1000, FILE_MAP_HOLE };

/* What was written while an answer was on its way is data. */
static void
test_spoiled (void **state)
{
  struct file_map_ask *ask[FILE_MAP_ASKED];
  uint64_t end;

  (void) state;
  file_map_init (&map);
  for (unsigned i = 0; i < FILE_MAP_ASKED; i++)
    ask[i] = file_map_ask (&map, 0, 100 + 100 * i);
  assert_null (file_map_ask (&map, 0, 10));
  file_map_written (&map, 150, 160);
  file_map_answer (&map, ask[1], &hole, 1); /* to 200 */
  assert_int_equal (file_map_look (&map, 0, &end), FILE_MAP_UNKNOWN);
  assert_int_equal (end, 150);
  file_map_answer (&map, ask[0], &hole, 1); /* to 100 */
  assert_int_equal (file_map_look (&map, 99, &end), FILE_MAP_HOLE);
  assert_int_equal (end, 100);
  file_map_changed (&map, 300, 301);
  file_map_answer (&map, ask[2], &hole, 1); /* to 300: of the write */
  assert_int_equal (file_map_look (&map, 250, &end), FILE_MAP_UNKNOWN);
  assert_int_equal (file_map_look (&map, 150, &end), FILE_MAP_DATA);
  file_map_answer (&map, ask[3], &hole, 1); /* to 400: of both */
  ask[3] = file_map_ask (&map, 0, 100);
  file_map_forget (&map);
  file_map_answer (&map, ask[3], &hole, 1);
  assert_int_equal (file_map_look (&map, 0, &end), FILE_MAP_UNKNOWN);
  assert_true (end == UINT64_MAX);
  ask[0] = file_map_ask (&map, 50, 60);
  file_map_written (&map, 60, 70); /* beside it */
  file_map_answer (&map, ask[0], &hole, 1);
  assert_int_equal (file_map_look (&map, 50, &end), FILE_MAP_HOLE);
  assert_int_equal (end, 60);
  assert_int_equal (file_map_look (&map, 49, &end), FILE_MAP_UNKNOWN);
  assert_int_equal (end, 50);
}

/* From a server that says what it likes. */
static void
test_odd (void **state)
{
  static const struct file_extent odd[] = {
    { 500, 100, FILE_MAP_HOLE },
    { 120, 120, FILE_MAP_HOLE },
    { 0, UINT64_MAX, FILE_MAP_HOLE },
    { 150, 160, FILE_MAP_DATA },
    { UINT64_MAX, UINT64_MAX, FILE_MAP_DATA },
  };
  struct file_map_ask *ask;
  uint64_t end;

  (void) state;
  file_map_init (&map);
  assert_null (file_map_ask (&map, 7, 7));
  ask = file_map_ask (&map, 100, 200);
  file_map_answer (&map, ask, odd, sizeof odd / sizeof odd[0]);
  assert_null (file_map_check (&map));
  assert_int_equal (file_map_look (&map, 99, &end), FILE_MAP_UNKNOWN);
  assert_int_equal (file_map_look (&map, 100, &end), FILE_MAP_HOLE);
  assert_int_equal (end, 150);
  assert_int_equal (file_map_look (&map, 150, &end), FILE_MAP_DATA);
  assert_int_equal (file_map_look (&map, 199, &end), FILE_MAP_HOLE);
  assert_int_equal (file_map_look (&map, 200, &end), FILE_MAP_UNKNOWN);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random),
    cmocka_unit_test (test_full),
    cmocka_unit_test (test_spoiled),
    cmocka_unit_test (test_odd),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
