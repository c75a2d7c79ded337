/* SPDX-License-Identifier: BSD-2-Clause */
/* Crash states of a known record: all of them, and nothing that cannot be. */

#include <config.h>

#include "states.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct record record;
static struct image live;

/* Two pages of this byte at block first; times are made by the record. */
static void
put (struct volume *v, unsigned first, uint8_t byte, unsigned nr)
{
  static uint8_t buf[4 * PAGE_BYTES];

  memset (buf, byte, sizeof buf);
  assert_int_equal (volume_write (v, first * PAGE_BYTES, buf, nr * PAGE_BYTES),
                    0);
}

static void
states_open (struct volume **v)
{
  record_clear (&record);
  image_make (&live, 64);
  media_open (&live, 0, &record, v);
}

static void
test_states_subsets (void **state)
{
  struct disks start = { .nr = 1 };
  struct volume *v;
  struct states s;
  bool seen[8] = { false };

  (void) state;
  states_open (&v);
  image_make (&start.image[0], 64);
  put (v, 1, 9, 1);
  assert_int_equal (volume_flush (v), 0);
  put (v, 1, 1, 1);
  put (v, 2, 2, 1);
  put (v, 3, 3, 1);
  states_begin (&s, &record, &start, CRASH_MACHINE);
  states_advance (&s, record.clock);
  assert_int_equal (s.nr_maybe, 3);
  assert_int_equal (s.nr_whole, 8);
  for (unsigned i = 0; i < s.nr; i++) {
    struct disks d;
    unsigned mask = 0;

    states_make (&s, i, &d);
    assert_non_null (image_get (&d.image[0], 1)); /* 9 at least */
    for (unsigned j = 1; j <= 3; j++) {
      const struct block *b = image_get (&d.image[0], j);

      mask |= (b != NULL && b->data[0] == j && b->data[4095] == j) << (j - 1);
      if (i < s.nr_whole)
        assert_true (b == NULL || b->data[0] == b->data[4095]);
    }
    if (i < s.nr_whole)
      seen[mask] = true;
    disks_free (&d);
  }
  for (unsigned i = 0; i < 8; i++)
    assert_true (seen[i]);
  states_end (&s);
  disks_free (&start);
  volume_close (v);
  image_free (&live);
}

/* Of a dead process all that had ended stands. */
static void
test_states_process (void **state)
{
  struct disks start = { .nr = 1 }, d;
  struct volume *v;
  struct states s;

  (void) state;
  states_open (&v);
  image_make (&start.image[0], 64);
  put (v, 1, 1, 1);
  put (v, 2, 2, 2);
  states_begin (&s, &record, &start, CRASH_PROCESS);
  states_advance (&s, record.writes[1].begin + 1);
  assert_int_equal (s.nr_maybe, 1);
  states_make (&s, 0, &d);
  assert_non_null (image_get (&d.image[0], 1));
  assert_null (image_get (&d.image[0], 2));
  disks_free (&d);
  states_advance (&s, record.clock);
  assert_int_equal (s.nr_maybe, 0);
  states_make (&s, 0, &d);
  assert_int_equal (d.image[0].hash, live.hash);
  disks_free (&d);
  states_end (&s);
  disks_free (&start);
  volume_close (v);
  image_free (&live);
}

/* More than eight: no state but of whole writes and torn ones, none missing
 * of prefixes, one lost and one kept.
 */
static void
test_states_many (void **state)
{
  struct disks start = { .nr = 1 };
  struct volume *v;
  struct states s;
  unsigned nr_prefixes = 0, nr_lost = 0, nr_kept = 0, nr_torn = 0;

  (void) state;
  states_open (&v);
  image_make (&start.image[0], 64);
  for (unsigned i = 0; i < 12; i++)
    put (v, i, (uint8_t) (i + 1), 1);
  states_begin (&s, &record, &start, CRASH_MACHINE);
  states_advance (&s, record.clock);
  for (unsigned i = 0; i < s.nr; i++) {
    struct disks d;
    unsigned mask = 0, torn = 0;

    states_make (&s, i, &d);
    for (unsigned j = 0; j < 12; j++) {
      const struct block *b = image_get (&d.image[0], j);

      mask |= (b != NULL) << j;
      torn += b != NULL && memchr (b->data, 0, PAGE_BYTES) != NULL;
    }
    assert_in_range (torn, 0, 1);
    nr_prefixes += torn == 0 && (mask & (mask + 1)) == 0;
    nr_lost += torn == 0 && __builtin_popcount (mask) == 11;
    nr_kept += torn == 0 && __builtin_popcount (mask) == 1;
    nr_torn += torn;
    disks_free (&d);
  }
  assert_true (nr_prefixes >= 13 && nr_lost >= 12 && nr_kept >= 12);
  assert_true (nr_torn >= 12);
  states_end (&s);
  disks_free (&start);
  volume_close (v);
  image_free (&live);
}

static int
end (void **state)
{
  (void) state;
  record_free (&record);
  blocks_free ();
  return 0;
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_states_subsets),
    cmocka_unit_test (test_states_process),
    cmocka_unit_test (test_states_many),
  };

  return cmocka_run_group_tests (tests, NULL, end);
}
