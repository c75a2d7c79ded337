/* SPDX-License-Identifier: BSD-2-Clause */
/* A block is not free while a read that looked it up is under way: reads are
 * held inside the volume while writes, trims and the object's end churn.
 */

#include <config.h>

#include "test-disk.h"

#define PAGES(n) ((uint64_t) (n) << PAGE_SHIFT)
#define CHURN    (1000000 / SLOWER)

/* Pages that say which they are, and in which round they were written. */
static void
write_round (struct disk *d, pgno_t pgno, uint64_t nr, uint64_t round)
{
  static _Thread_local uint64_t buf[64 * PAGE_BYTES / 8];

  for (uint64_t i = 0; i < nr; i++)
    test_pattern (buf + i * PAGE_BYTES / 8, PAGE_BYTES, PAGES (pgno + i),
                  round);
  assert_int_equal (disk_write (d, buf, PAGES (pgno), PAGES (nr)), 0);
}

static void
expect_round (const uint8_t *got, pgno_t pgno, uint64_t nr, uint64_t round)
{
  uint64_t want[PAGE_BYTES / 8];

  for (uint64_t i = 0; i < nr; i++) {
    test_pattern (want, PAGE_BYTES, PAGES (pgno + i), round);
    assert_memory_equal (got + PAGES (i), want, PAGE_BYTES);
  }
}

static void
read_round (struct disk *d, pgno_t pgno, uint64_t nr, uint64_t round)
{
  uint8_t *buf = malloc (PAGES (nr));

  assert_int_equal (disk_read (d, buf, PAGES (pgno), PAGES (nr)), 0);
  expect_round (buf, pgno, nr, round);
  free (buf);
}

/* A read, by its end, that must give the pages of this round. */
static void
join_round (struct call *c, pgno_t pgno, uint64_t nr, uint64_t round)
{
  pthread_join (c->thread, NULL);
  assert_int_equal (c->err, 0);
  expect_round (c->buf, pgno, nr, round);
  free (c->buf);
  free (c);
}

/* The whole pool but its reserve is the object; 10^6 overwrites use what is
 * left of the reserve over and over, and never a block that is being read.
 */
static void
test_churn (void **state)
{
  struct disk *d = disk_open (DISK_FAULT, 32, PAGES (24), true);
  struct call *c;
  int rule;

  UNUSED (state);
  assert_int_equal (disk_stat (d).nr_charge_max, 24);
  write_round (d, 0, 24, 1);
  c = call_held (d, CALL_READ, 0, PAGES (3), PAGES (4), &rule);
  for (uint64_t i = 0; i < CHURN; i++)
    write_round (d, i % 24, 1, 2 + i / 24);
  assert_int_equal (disk_stat (d).nr_parked, 4);
  fault_release (d->v, rule);
  join_round (c, 3, 4, 1);
  assert_int_equal (disk_stat (d).nr_parked, 0);
  for (pgno_t i = 0; i < 24; i++)
    read_round (d, i, 1, 2 + (CHURN - 1 - i) / 24);
  disk_close (d);
}

/* Two reads of one block, in both orders of their ends. */
static void
test_two_readers (void **state)
{
  UNUSED (state);
  for (int order = 0; order < 2; order++) {
    struct disk *d = disk_open (DISK_FAULT, 1024, PAGES (24), false);
    struct call *c[2];
    int rule[2];

    write_round (d, 0, 24, 1);
    c[0] = call_held (d, CALL_READ, 0, PAGES (3), PAGES (4), &rule[0]);
    c[1] = call_held (d, CALL_READ, 0, PAGES (5), PAGES (4), &rule[1]);
    write_round (d, 0, 24, 2);
    assert_int_equal (disk_stat (d).nr_parked, 6); /* 3 to 8 */
    fault_release (d->v, rule[order]);
    join_round (c[order], order == 0 ? 3 : 5, 4, 1);
    assert_int_equal (disk_stat (d).nr_parked, 4);
    for (uint64_t i = 3; i < 300; i++)
      write_round (d, 0, 24, i);
    fault_release (d->v, rule[!order]);
    join_round (c[!order], order == 0 ? 5 : 3, 4, 1);
    assert_int_equal (disk_stat (d).nr_parked, 0);
    disk_close (d);
  }
}

/* A read that began later reads what is there then, and holds only that. */
static void
test_late_reader (void **state)
{
  struct disk *d = disk_open (DISK_FAULT, 1024, PAGES (24), false);
  struct call *c[2];
  int rule[2];

  UNUSED (state);
  write_round (d, 0, 24, 1);
  c[0] = call_held (d, CALL_READ, 0, PAGES (0), PAGES (4), &rule[0]);
  write_round (d, 0, 24, 2);
  c[1] = call_held (d, CALL_READ, 0, PAGES (0), PAGES (4), &rule[1]);
  write_round (d, 0, 24, 3);
  assert_int_equal (disk_stat (d).nr_parked, 8);
  fault_release (d->v, rule[0]);
  join_round (c[0], 0, 4, 1);
  assert_int_equal (disk_stat (d).nr_parked, 4);
  fault_release (d->v, rule[1]);
  join_round (c[1], 0, 4, 2);
  disk_close (d);
}

/* Of a read of scattered blocks, all runs looked up at once are kept. */
static void
test_scattered (void **state)
{
  struct disk *d = disk_open (DISK_FAULT, 1024, PAGES (24), false);
  struct call *c;
  int rule;

  UNUSED (state);
  for (pgno_t i = 0; i < 8; i += 2)
    write_round (d, i, 1, 1);
  for (pgno_t i = 1; i < 8; i += 2)
    write_round (d, i, 1, 1);
  c = call_held (d, CALL_READ, 0, 0, PAGES (8), &rule);
  write_round (d, 0, 8, 2);
  assert_int_equal (disk_stat (d).nr_parked, VIO_MAX);
  fault_release (d->v, rule);
  /* Its second round came after the write. */
  pthread_join (c->thread, NULL);
  expect_round (c->buf, 0, VIO_MAX, 1);
  expect_round (c->buf + PAGES (VIO_MAX), VIO_MAX, 8 - VIO_MAX, 2);
  assert_int_equal (c->err, 0);
  free (c->buf);
  free (c);
  disk_close (d);
}

/* A trim under a read: charges are free at once, blocks when it ends. */
static void
test_trim (void **state)
{
  struct disk *d = disk_open (DISK_FAULT, 1024, PAGES (1000), false);
  struct call *c;
  int rule;

  UNUSED (state);
  write_round (d, 0, 24, 1);
  c = call_held (d, CALL_READ, 0, PAGES (3), PAGES (4), &rule);
  assert_int_equal (disk_zero (d, 0, PAGES (1000), false), 0);
  assert_int_equal (disk_stat (d).nr_parked, 4);
  assert_int_equal (disk_stat (d).nr_charged, 0);
  for (uint64_t i = 0; i < 768; i += 24)
    write_round (d, i, 24, 2);
  fault_release (d->v, rule);
  join_round (c, 3, 4, 1);
  disk_close (d);
}

/* More is being read than may move: writers wait, and go on after it. */
static void
test_stuck (void **state)
{
  struct disk *d = disk_open (DISK_FAULT, 32, PAGES (24), true);
  struct call *c, *w;
  int rule;

  UNUSED (state);
  write_round (d, 0, 24, 1);
  c = call_held (d, CALL_READ, 0, 0, PAGES (24), &rule);
  for (uint64_t i = 0; i < disk_stat (d).nr_units; i++)
    write_round (d, i, 1, 2);
  w = call_start (d, CALL_WRITE, 5, PAGES (10), PAGES (12));
  nap_ns (100 * NS_PER_MS);
  assert_false (atomic_load (&w->over));
  fault_release (d->v, rule);
  assert_int_equal (call_join (w), 0);
  join_round (c, 0, 24, 1);
  disk_expect (d, 5, PAGES (10), PAGES (12));
  disk_close (d);
}

/* The object ends under reads; its blocks are free after them, its charges
 * at once.
 */
static void
test_rm (void **state)
{
  struct disk *d = disk_open (DISK_FAULT, 1024, PAGES (700), true);
  struct object *gone = d->o;
  struct call *c[2];
  int rule[2];

  UNUSED (state);
  for (pgno_t i = 0; i < 700; i += 50)
    write_round (d, i, 50, 1);
  c[0] = call_held (d, CALL_READ, 0, PAGES (3), PAGES (4), &rule[0]);
  c[1] = call_held (d, CALL_READ, 0, PAGES (601), PAGES (10), &rule[1]);
  object_kill (gone);
  object_drop (gone);
  assert_int_equal (object_nr_mapped (gone), 0);
  assert_int_equal (disk_stat (d).nr_charged, 0);
  assert_in_range (disk_stat (d).nr_parked, 5, 14);
  /* Its room is another's now, all of it. */
  assert_int_equal (disk_object (d, PAGES (768), true, &d->o), 0);
  for (int round = 2; round < 6; round++)
    for (pgno_t i = 0; i < 768; i += 32)
      write_round (d, i, 32, (uint64_t) round);
  for (int i = 0; i < 2; i++) {
    fault_release (d->v, rule[i]);
    assert_int_equal (call_join (c[i]), ESHUTDOWN);
  }
  assert_int_equal (disk_stat (d).nr_parked, 0);
  read_round (d, 3, 4, 5);
  object_destroy (gone);
  disk_close (d);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_churn),       cmocka_unit_test (test_two_readers),
    cmocka_unit_test (test_late_reader), cmocka_unit_test (test_scattered),
    cmocka_unit_test (test_trim),        cmocka_unit_test (test_stuck),
    cmocka_unit_test (test_rm),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
