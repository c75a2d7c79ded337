/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks that failed a write, of a durable store: they are retired after a
 * stop and after a crash as they were before, whatever the pool is short of;
 * and what a list does that no server of ours writes.
 */

#include <config.h>

#include "test-kept.h"

#include "durable-impl.h"

#define DISK     (16 * MIB)
#define LARGE    (64 * MIB)
#define NR_PAGES 20u /* go straight to the volume */
#define NR_PLACE (DISK_RETIRED + 20)

/* What the store says is retired. */
struct listed {
  struct space_run run[SPACE_RETIRED_LISTED];
  unsigned nr;
  uint64_t nr_blocks;
};

static void
add_listed (void *arg, const char *volume, uint64_t block, uint64_t nr)
{
  struct listed *l = arg;

  assert_string_equal (volume, "mem");
  l->run[l->nr++] = (struct space_run){ block, nr };
  l->nr_blocks += nr;
}

static struct listed
listed_of (struct kept *k)
{
  struct listed l = { .nr = 0 };
  struct space_stat st;

  store_each_retired (k->rig.s, add_listed, &l);
  space_stat (k->rig.s->space, &st);
  assert_int_equal (st.nr_retired, l.nr_blocks);
  return l;
}

static bool
listed_has (const struct listed *l, const struct space_run *run)
{
  for (unsigned i = 0; i < l->nr; i++)
    if (l->run[i].blk < run->blk + run->nr &&
        run->blk < l->run[i].blk + l->run[i].nr)
      return true;
  return false;
}

static void
same_list (const struct listed *a, const struct listed *b)
{
  assert_int_equal (a->nr, b->nr);
  assert_memory_equal (a->run, b->run, a->nr * sizeof a->run[0]);
}

/* A write that goes straight to the volume fails there, and is done. */
static void
fail_write (struct kept *k, struct conn *c, uint64_t off)
{
  static uint8_t buf[NR_PAGES * PAGE_BYTES] __attribute__ ((aligned (4096)));
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = VIO_WRITE, .count = 1, .error = EIO
  };
  struct listed was = listed_of (k), is;

  memset (buf, 7, sizeof buf);
  assert_int_equal (conn_flush (c), 0);
  assert_true (fault_add (k->rig.fault, &rule) >= 0);
  assert_int_equal (conn_write (c, buf, off, sizeof buf, false), 0);
  fault_clear (k->rig.fault);
  is = listed_of (k);
  assert_true (is.nr_blocks > was.nr_blocks);
}

/* A disk, open, and a row of blocks that its first write has retired. */
static struct conn *
begin_retired (struct kept *k)
{
  struct conn *c;

  create (&k->rig, "a", DISK);
  c = open_as (&k->rig, "a", &peer_a);
  fail_write (k, c, 0);
  return c;
}

/* Two cycles: the cut of the first, told by the superblock of the second. */
static void
run_cycles (struct kept *k)
{
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal (flush_run_cycle (k->rig.s->durable->fl), 0);
}

/* Take every block that is free: none is one of these. */
static void
fill_to_the_last (struct kept *k, const struct listed *l)
{
  static struct space_run runs[KEPT_BYTES / PAGE_BYTES];
  struct space *sp = k->rig.s->space;
  struct space_stat st;
  uint64_t left;
  unsigned nr = 0;

  space_stat (sp, &st);
  left = st.nr_blocks - space_volume_used (sp, 0);
  assert_true (left > 0);
  while (left > 0) {
    assert_int_equal (space_alloc (sp, nr, min_u64 (left, 100), &runs[nr]), 0);
    assert_false (listed_has (l, &runs[nr]));
    left -= runs[nr++].nr;
  }
  assert_int_equal (space_volume_used (sp, 0), st.nr_blocks);
  space_free (sp, 0, runs, nr);
  assert_null (store_check (k->rig.s));
}

static void
test_stop (void **state)
{
  struct kept *k = *state;
  struct listed was, is;
  struct conn *c;

  c = begin_retired (k);
  fail_write (k, c, MIB);
  store_disconnect (c);
  was = listed_of (k);
  for (unsigned round = 0; round < 3; round++) {
    reopen (k);
    is = listed_of (k);
    same_list (&was, &is);
    fill_to_the_last (k, &was);
    c = open_as (&k->rig, "a", &peer_a);
    assert_int_equal (read_byte (c, MIB + 5 * PAGE_BYTES), 7);
    fail_write (k, c, (2 + round) * MIB); /* and others come to them */
    store_disconnect (c);
    was = listed_of (k);
    assert_true (was.nr_blocks > is.nr_blocks);
  }
  assert_int_equal (test_log_has ("failed a write"), 0);
}

static void
test_crash (void **state)
{
  struct kept *k = *state;
  struct listed was, is;
  struct conn *c;

  c = begin_retired (k);
  run_cycles (k);
  was = listed_of (k);
  /* Work for recovery: what was mapped is freed, and what was not is mapped. */
  assert_int_equal (conn_trim (c, 0, NR_PAGES * PAGE_BYTES, false), 0);
  for (unsigned i = 0; i < 300; i++)
    assert_int_equal (write_byte (c, 3 * MIB + i * PAGE_BYTES, 5), 0);
  assert_int_equal (conn_flush (c), 0);
  save (k);
  store_disconnect (c);
  for (unsigned round = 0; round < 3; round++) {
    crash (k);
    assert_false (durable_of (k).recovery.clean);
    is = listed_of (k);
    same_list (&was, &is);
    fill_to_the_last (k, &was);
    save (k); /* recovery's own superblock has the list, too */
    crash (k);
    is = listed_of (k);
    same_list (&was, &is);
    c = open_as (&k->rig, "a", &peer_a);
    assert_int_equal (read_byte (c, 3 * MIB + 7 * PAGE_BYTES), 5);
    assert_int_equal (write_byte (c, 5 * MIB + round * MIB, 5), 0);
    assert_int_equal (conn_flush (c), 0);
    save (k);
    store_disconnect (c);
  }
  assert_int_equal (test_log_has ("failed a write"), 0);
}

/* More places than the list has room for: the first ones stay, and it is said
 * once.
 */
static void
test_list_full (void **state)
{
  struct kept *k = *state;
  struct space *sp = k->rig.s->space;
  struct listed was, is;
  struct space_run run;

  for (unsigned i = 0; i < NR_PLACE; i++) {
    assert_int_equal (space_alloc (sp, 1, 1, &run), 0);
    space_retire (sp, &run);
    assert_int_equal (space_alloc (sp, 1, 1, &run), 0);
    space_free (sp, 2, &run, 1); /* between two that are retired */
    if (i + 1 == DISK_RETIRED || i == DISK_RETIRED) {
      run_cycles (k);
      assert_int_equal (test_log_has ("failed a write"), i == DISK_RETIRED);
    }
  }
  run_cycles (k);
  was = listed_of (k);
  assert_int_equal (was.nr, NR_PLACE);
  assert_int_equal (test_log_has ("mem: blocks in more than 40 places have "
                                  "failed a write"),
                    1);
  run_cycles (k);
  assert_int_equal (test_log_has ("failed a write"), 1);
  save (k);
  for (unsigned round = 0; round < 2; round++) {
    if (round == 0)
      crash (k);
    else
      reopen (k);
    is = listed_of (k);
    assert_int_equal (is.nr, DISK_RETIRED);
    was.nr = DISK_RETIRED;
    same_list (&was, &is);
    fill_to_the_last (k, &is);
  }
}

/* ---- lists that no server writes ---- */

static void
write_list (struct kept *k, uint64_t blk, uint64_t nr)
{
  void *page = aligned_alloc (PAGE_BYTES, PAGE_BYTES);
  struct supers *s = calloc (1, sizeof *s);

  assert_int_equal (store_stop (k->rig.s), 0);
  close_store (k);
  assert_int_equal (supers_read (&k->memory, 1, s), 0);
  if (blk == 0)
    blk = s->root.table.blk;
  s->root.retired[0] = (struct disk_retired){ blk, (uint32_t) nr, 0 };
  for (unsigned i = 0; i < SUPER_COPIES; i++)
    assert_int_equal (supers_write_root (s, page), 0);
  free (s);
  free (page);
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
}

/* Of a listed block that a map has, the map counts. */
static void
test_owned (void **state)
{
  struct kept *k = *state;
  struct object_stat st;

  create (&k->rig, "a", DISK);
  write_list (k, 0, 1);
  assert_int_equal (test_log_has ("of 1 blocks from "), 1);
  assert_int_equal (listed_of (k).nr, 0);
  assert_null (store_check (k->rig.s));
  assert_true (object_of (&k->rig, "a", &st));
  reopen (k); /* and it is off the list */
  assert_int_equal (test_log_has ("of 1 blocks from "), 1);
  assert_int_equal (listed_of (k).nr, 0);
}

/* A list that is longer than the reserve has room for makes the pool smaller,
 * but never than what was promised.
 */
static void
test_long (void **state)
{
  struct store_create sc = { .name = "r",
                             .size_bytes = LARGE,
                             .reserve = true };
  struct kept *k = *state;
  char instance[INSTANCE_HEX + 1];
  struct space_stat was, is;
  struct listed l;
  struct conn *c;

  space_stat (k->rig.s->space, &was);
  write_list (k, 20000, 2000);
  space_stat (k->rig.s->space, &is);
  assert_int_equal (is.nr_retired, 2000);
  assert_int_equal (is.nr_charge_max,
                    was.nr_charge_max + was.nr_retire_max - 2000);
  assert_int_equal (test_log_has ("failed a write"), 0);
  l = listed_of (k);
  fill_to_the_last (k, &l);
  assert_int_equal (store_create (k->rig.s, &sc, instance), 0);
  write_list (k, 15000, 9000);
  assert_int_equal (test_log_has ("of 9000 blocks from 15000 on"), 1);
  space_stat (k->rig.s->space, &is);
  assert_in_range (is.nr_retired, 2000, 8000);
  assert_int_equal (is.nr_charged, is.nr_charge_max);
  l = listed_of (k);
  fill_to_the_last (k, &l);
  c = open_as (&k->rig, "r", &peer_a);
  assert_int_equal (write_byte (c, LARGE - PAGE_BYTES, 3), 0);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_stop),  CASE (test_crash), CASE (test_list_full),
    CASE (test_owned), CASE (test_long),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
