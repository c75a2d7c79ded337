/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that overtake each other (request.c, I1 to I4): an older one is
 * held inside the volume, younger ones are published and replied, then the
 * older one is let go.  What was replied stays, sector by sector.
 *
 * A request that changes a part of a page holds the shard's lock while it
 * reads and writes, so younger ones go to other shards then.
 */

#include <config.h>

#include "test-disk.h"

#define PAGES(n)   ((uint64_t) (n) << PAGE_SHIFT)
#define SECTORS(n) ((uint64_t) (n) << SECTOR_SHIFT)
#define OLD        1
#define OLDER      11
#define YOUNGER    22
#define YOUNGEST   33

static struct disk *
disk_of (uint64_t size)
{
  struct disk *d = disk_open (DISK_FAULT, 8192, size, false);

  assert_int_equal (disk_fill (d, OLD, 0, size), 0);
  return d;
}

static struct call *
write_held (struct disk *d, int byte, uint64_t off, uint64_t bytes, int *rule)
{
  return call_held (d, CALL_WRITE, byte, off, bytes, rule);
}

static void
let_go (struct disk *d, int rule, struct call *c)
{
  fault_release (d->v, rule);
  assert_int_equal (call_join (c), 0); /* answered as done */
}

/* An older write of pages [4, 8) against a younger write of this range. */
static void
write_over (uint64_t off, uint64_t bytes)
{
  struct disk *d = disk_of (PAGES (600));
  uint64_t end = off + bytes;
  struct call *c;
  int rule;

  c = write_held (d, OLDER, PAGES (4), PAGES (4), &rule);
  assert_int_equal (disk_fill (d, YOUNGER, off, bytes), 0);
  disk_expect (d, YOUNGER, off, bytes);
  let_go (d, rule, c);
  disk_expect (d, YOUNGER, off, bytes);
  if (off > PAGES (4))
    disk_expect (d, OLDER, PAGES (4), off - PAGES (4));
  if (end < PAGES (8))
    disk_expect (d, OLDER, end, PAGES (8) - end);
  disk_expect (d, OLD, 0, off < PAGES (4) ? off : PAGES (4));
  end = end > PAGES (8) ? end : PAGES (8);
  disk_expect (d, OLD, end, PAGES (600) - end);
  disk_close (d);
}

static void
test_write_over_write (void **state)
{
  UNUSED (state);
  write_over (PAGES (4), PAGES (4));                  /* the same */
  write_over (PAGES (3), PAGES (6));                  /* more */
  write_over (PAGES (5), PAGES (1));                  /* a page */
  write_over (PAGES (4), PAGES (2));                  /* the first */
  write_over (PAGES (2), PAGES (3));                  /* straddling */
  write_over (PAGES (7), PAGES (3));                  /* straddling */
  write_over (PAGES (5) + SECTORS (3), SECTORS (2));  /* in a page */
  write_over (PAGES (5) + SECTORS (3), SECTORS (11)); /* in two */
  write_over (PAGES (4) + SECTORS (7), SECTORS (18)); /* in four */
  write_over (PAGES (3) + SECTORS (3), SECTORS (6));  /* over the start */
  write_over (PAGES (7) + SECTORS (7), SECTORS (2));  /* over the end */
}

/* Below a sector either may win, but nothing else may come out. */
static void
test_sub_sector (void **state)
{
  static const uint64_t where[][2] = { { 100, 1 },    { 511, 2 },
                                       { 100, 1000 }, { 4000, 200 },
                                       { 3, 12000 },  { 0, 513 } };

  UNUSED (state);
  for (size_t i = 0; i < sizeof where / sizeof where[0]; i++) {
    struct disk *d = disk_of (PAGES (16));
    uint64_t off = PAGES (4) + where[i][0];
    uint64_t end = off + where[i][1];
    uint8_t got[PAGES (4)];
    struct call *c;
    int rule;

    c = write_held (d, OLDER, PAGES (4), PAGES (4), &rule);
    assert_int_equal (disk_fill (d, YOUNGER, off, end - off), 0);
    disk_expect (d, YOUNGER, off, end - off);
    disk_expect (d, OLD, PAGES (4), off - PAGES (4));
    let_go (d, rule, c);
    assert_int_equal (disk_read (d, got, PAGES (4), PAGES (4)), 0);
    for (uint64_t k = PAGES (4); k < PAGES (8); k++) {
      uint64_t sector = k & ~(uint64_t) (SECTOR_BYTES - 1);
      bool whole = off <= sector && sector + SECTOR_BYTES <= end;
      bool inside = off <= k && k < end;
      uint8_t byte = got[k - PAGES (4)];

      assert_true (byte == OLDER ? !whole : byte == YOUNGER && inside);
    }
    disk_close (d);
  }
}

/* Zeroing, younger, over an older write; with and without a promise. */
static void
test_zero_over_write (void **state)
{
  UNUSED (state);
  for (int keep = 0; keep < 2; keep++) {
    struct disk *d = disk_of (PAGES (1200));
    struct call *c;
    int rule;

    c = write_held (d, OLDER, PAGES (4), PAGES (1100), &rule);
    assert_int_equal (disk_zero (d, PAGES (6), PAGES (2), keep), 0);
    assert_int_equal (disk_zero (d, PAGES (9) + SECTORS (2), SECTORS (3), keep),
                      0);
    assert_int_equal (
        disk_zero (d, PAGES (500) + SECTORS (6), PAGES (530), keep), 0);
    assert_int_equal (object_nr_reserved (d->o), keep ? 2 + 529 : 0);
    let_go (d, rule, c);
    disk_expect (d, OLDER, PAGES (4), PAGES (2));
    disk_expect (d, 0, PAGES (6), PAGES (2));
    disk_expect (d, OLDER, PAGES (8), PAGES (1) + SECTORS (2));
    disk_expect (d, 0, PAGES (9) + SECTORS (2), SECTORS (3));
    disk_expect (d, OLDER, PAGES (9) + SECTORS (5), SECTORS (3));
    disk_expect (d, 0, PAGES (500) + SECTORS (6), PAGES (530));
    disk_expect (d, OLDER, PAGES (1030) + SECTORS (6), PAGES (3));
    disk_expect (d, OLD, PAGES (1104), PAGES (96));
    assert_int_equal (object_nr_reserved (d->o), keep ? 2 + 529 : 0);
    disk_close (d);
  }
}

/* An older trim that is held at its first, partial page and has three shards
 * and a last partial page before it; younger requests land there.
 */
static void
under_zero (enum call_op op)
{
  struct disk *d = disk_of (PAGES (3000));
  uint64_t off = PAGES (100) + SECTORS (3), end = PAGES (2500) + SECTORS (5);
  int rule = hold_next (d, VIO_WRITE);
  struct call *c = call_start (d, op, 0, off, end - off);

  wait_held (d, rule);
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (600), PAGES (10)), 0);
  assert_int_equal (
      disk_fill (d, YOUNGER, PAGES (1100) + SECTORS (1), SECTORS (4)), 0);
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (1200) + 9, 5), 0);
  assert_int_equal (
      disk_fill (d, YOUNGER, PAGES (2500) + SECTORS (2), SECTORS (1)), 0);
  /* The older one has been seen to where the younger were. */
  disk_expect (d, 0, PAGES (610), PAGES (10));
  disk_expect (d, OLD, PAGES (1600), PAGES (10));
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (2600), PAGES (1)), 0);
  let_go (d, rule, c);
  disk_expect (d, OLD, 0, off);
  disk_expect (d, 0, off, PAGES (600) - off);
  disk_expect (d, YOUNGER, PAGES (600), PAGES (10));
  disk_expect (d, 0, PAGES (610), PAGES (490) + SECTORS (1));
  disk_expect (d, YOUNGER, PAGES (1100) + SECTORS (1), SECTORS (4));
  disk_expect (d, 0, PAGES (1100) + SECTORS (5), SECTORS (3));
  disk_expect (d, YOUNGER, PAGES (1200) + 9, 5);
  disk_expect (d, 0, PAGES (1200) + 14, PAGES (1300) - 14 + SECTORS (2));
  disk_expect (d, YOUNGER, PAGES (2500) + SECTORS (2), SECTORS (1));
  disk_expect (d, 0, PAGES (2500) + SECTORS (3), SECTORS (2));
  disk_expect (d, OLD, PAGES (2500) + SECTORS (5), SECTORS (3));
  disk_expect (d, YOUNGER, PAGES (2600), PAGES (1));
  if (op == CALL_KEEP)
    assert_int_equal (object_nr_reserved (d->o), 2500 - 101 - 10 - 2);
  else
    assert_int_equal (object_nr_mapped (d->o), 101 + 500 + 10 + 2);
  disk_close (d);
}

static void
test_write_over_zero (void **state)
{
  UNUSED (state);
  under_zero (CALL_ZERO);
  under_zero (CALL_KEEP);
}

/* A younger zeroing keeps a promise on the page where the older one ends: its
 * edge must not take that away.
 */
static void
test_promise_stays (void **state)
{
  struct disk *d = disk_of (PAGES (3000));
  int rule = hold_next (d, VIO_WRITE);
  struct call *c = call_start (d, CALL_ZERO, 0, PAGES (100) + SECTORS (3),
                               PAGES (1900) + SECTORS (2));

  UNUSED (state);
  wait_held (d, rule);
  assert_int_equal (disk_zero (d, PAGES (2000), PAGES (1), true), 0);
  let_go (d, rule, c);
  assert_int_equal (object_nr_reserved (d->o), 1);
  disk_close (d);
}

/* Three writes of one page, ended in every order. */
static void
test_chain (void **state)
{
  UNUSED (state);
  for (int order = 0; order < 2; order++) {
    struct disk *d = disk_of (PAGES (16));
    struct call *c[2];
    int rule[2];

    c[0] = write_held (d, OLDER, PAGES (2), PAGES (6), &rule[0]);
    c[1] = write_held (d, YOUNGER, PAGES (3), PAGES (3), &rule[1]);
    assert_int_equal (
        disk_fill (d, YOUNGEST, PAGES (4) + SECTORS (1), SECTORS (5)), 0);
    let_go (d, rule[order], c[order]);
    disk_expect (d, YOUNGEST, PAGES (4) + SECTORS (1), SECTORS (5));
    let_go (d, rule[!order], c[!order]);
    disk_expect (d, OLDER, PAGES (2), PAGES (1));
    disk_expect (d, YOUNGER, PAGES (3), PAGES (1) + SECTORS (1));
    disk_expect (d, YOUNGEST, PAGES (4) + SECTORS (1), SECTORS (5));
    disk_expect (d, YOUNGER, PAGES (4) + SECTORS (6), PAGES (2) - SECTORS (6));
    disk_expect (d, OLDER, PAGES (6), PAGES (2));
    disk_close (d);
  }
}

/* A younger write that fails, is fenced or never gets room takes nothing from
 * the older.
 */
static void
test_younger_fails (void **state)
{
  struct disk *d = disk_of (PAGES (600));
  struct call *c;
  int rule;

  UNUSED (state);
  c = write_held (d, OLDER, PAGES (4), PAGES (4), &rule);
  fail_next (d, VIO_WRITE, 2);
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (4), PAGES (2)), EIO);
  fail_next (d, VIO_WRITE, 2);
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (5) + 512, 512), EIO);
  atomic_store (&d->fenced, true);
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (6), PAGES (1)), ESHUTDOWN);
  assert_int_equal (disk_fill (d, YOUNGER, PAGES (7), 512), ESHUTDOWN);
  assert_int_equal (disk_zero (d, PAGES (7), PAGES (1), true), ESHUTDOWN);
  atomic_store (&d->fenced, false);
  disk_expect (d, OLD, 0, PAGES (600));
  let_go (d, rule, c);
  disk_expect (d, OLDER, PAGES (4), PAGES (4));
  disk_close (d);
}

/* The object ends inside a sector, and a younger write reaches its end. */
static void
test_short_sector (void **state)
{
  uint64_t size = PAGES (3) + 700;
  struct disk *d = disk_of (size);
  struct call *c;
  int rule;

  UNUSED (state);
  c = write_held (d, OLDER, 0, size, &rule);
  assert_int_equal (disk_fill (d, YOUNGER, size - 188, 188), 0);
  let_go (d, rule, c);
  disk_expect (d, OLDER, 0, size - 188);
  disk_expect (d, YOUNGER, size - 188, 188);
  c = write_held (d, OLDER, 0, size, &rule);
  assert_int_equal (disk_zero (d, PAGES (3), 700, false), 0);
  let_go (d, rule, c);
  disk_expect (d, OLDER, 0, PAGES (3));
  disk_expect (d, 0, PAGES (3), 700);
  disk_close (d);
}

/* ---- at random ---- */

struct play {
  struct disk *d;
  uint64_t seed, size;
  uint8_t *want; /* younger over older, by sectors */
  uint8_t *done; /* a byte a sector: a younger one has it */
};

static uint64_t
below (struct play *p, uint64_t n)
{
  return (test_random (&p->seed) >> 11) % n;
}

static void
play_younger (struct play *p, uint64_t keep_off)
{
  uint64_t nr = p->size / SECTOR_BYTES;
  int byte = 100 + (int) below (p, 100);

  for (int i = 0; i < 6; i++) {
    uint64_t first = keep_off + below (p, nr - keep_off);
    uint64_t len = 1 + below (p, below (p, 2) ? 20 : 3000);
    bool zero = below (p, 3) == 0;

    len = min_u64 (len, nr - first);
    if (zero)
      assert_int_equal (
          disk_zero (p->d, SECTORS (first), SECTORS (len), below (p, 2)), 0);
    else
      assert_int_equal (disk_fill (p->d, byte, SECTORS (first), SECTORS (len)),
                        0);
    memset (p->want + SECTORS (first), zero ? 0 : byte, SECTORS (len));
    memset (p->done + first, 1, len);
  }
}

/* One older request, held somewhere; younger ones; the end. */
static void
play_round (struct play *p)
{
  bool zero = below (p, 2) == 0;
  uint64_t off = PAGES (below (p, 700)) + (zero ? SECTORS (3) : 0);
  uint64_t bytes = PAGES (1 + below (p, 2000));
  uint64_t nr = p->size / SECTOR_BYTES;
  uint64_t keep_off = zero ? (off / SHARD_BYTES + 1) * 4096 : 0;
  enum call_op op;
  struct call *c;
  int rule;

  memset (p->done, 0, nr);
  fault_clear (p->d->v);
  assert_int_equal (disk_fill (p->d, OLD, 0, p->size), 0);
  memset (p->want, OLD, p->size);
  rule = hold_next (p->d, VIO_WRITE);
  op = !zero ? CALL_WRITE : below (p, 2) ? CALL_ZERO : CALL_KEEP;
  c = call_start (p->d, op, OLDER, off, bytes);
  wait_held (p->d, rule);
  play_younger (p, keep_off);
  let_go (p->d, rule, c);
  for (uint64_t i = off / SECTOR_BYTES; i < (off + bytes) / SECTOR_BYTES; i++)
    if (!p->done[i])
      memset (p->want + SECTORS (i), zero ? 0 : OLDER, SECTOR_BYTES);
  for (uint64_t i = 0; i < nr;) { /* in pieces of one content */
    uint64_t k = i + 1;

    while (k < nr && p->want[SECTORS (k)] == p->want[SECTORS (i)])
      k++;
    disk_expect (p->d, p->want[SECTORS (i)], SECTORS (i), SECTORS (k - i));
    i = k;
  }
  disk_check (p->d);
}

static void
test_random_play (void **state)
{
  struct play p = { .size = PAGES (2800), .seed = test_seed () };

  UNUSED (state);
  p.d = disk_of (p.size);
  p.want = malloc (p.size);
  p.done = malloc (p.size / SECTOR_BYTES);
  for (int i = 0; i < 100 / SLOWER; i++)
    play_round (&p);
  free (p.want);
  free (p.done);
  disk_close (p.d);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_write_over_write),
    cmocka_unit_test (test_sub_sector),
    cmocka_unit_test (test_zero_over_write),
    cmocka_unit_test (test_write_over_zero),
    cmocka_unit_test (test_promise_stays),
    cmocka_unit_test (test_chain),
    cmocka_unit_test (test_younger_fails),
    cmocka_unit_test (test_short_sector),
    cmocka_unit_test (test_random_play),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
