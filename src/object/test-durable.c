/* SPDX-License-Identifier: BSD-2-Clause */
/* Durable objects: what is in buffers and what is not, what a reply promises
 * and what a dead process leaves, nodes and their charges, dropping in steps,
 * and a store that has failed.
 */

#include <config.h>

#include "test-durable.h"

#define PAGES(n) ((uint64_t) (n) *PAGE_BYTES)
#define BLOCKS   4096u /* 16 MiB, a ring of 1 MiB in it */

static void
open_rig (struct rig *r, uint64_t nr_pages)
{
  memset (r, 0, sizeof *r);
  r->staged = true; /* replies wait for nothing */
  rig_format (r, BLOCKS, PAGES (nr_pages));
}

static uint64_t
nr_dirty (struct rig *r)
{
  return bufs_nr_dirty (r->bs, BUF_DATA);
}

static int
sync_rig (struct rig *r)
{
  return strategy_flush (r->d.o, &r->d.fenced);
}

static uint64_t
nr_mapped (struct rig *r)
{
  return object_nr_mapped (r->d.o);
}

static void
test_small (void **state)
{
  struct rig r;

  UNUSED (state);
  open_rig (&r, 1000);
  assert_int_equal (disk_fill (&r.d, 1, PAGES (3), PAGES (15)), 0);
  assert_int_equal (nr_dirty (&r), 15);
  assert_int_equal (disk_fill (&r.d, 2, PAGES (5) + 100, 50), 0);
  assert_int_equal (nr_dirty (&r), 16);
  disk_expect (&r.d, 0, 0, PAGES (3));
  disk_expect (&r.d, 1, PAGES (3), PAGES (2) + 100);
  disk_expect (&r.d, 2, PAGES (5) + 100, 50);
  disk_expect (&r.d, 1, PAGES (5) + 150, PAGES (13) - 150);
  disk_expect (&r.d, 0, PAGES (18), PAGES (100));
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (nr_dirty (&r), 0);
  disk_expect (&r.d, 1, PAGES (6), PAGES (12));
  rig_close (&r);
}

static void
test_large (void **state)
{
  struct rig r;
  char *buf = calloc (1, PAGES (300));

  UNUSED (state);
  open_rig (&r, 1000);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (disk_fill (&r.d, 3, PAGES (50), PAGES (15)), 0);
  assert_int_equal (sync_rig (&r), 0);
  assert_false (atomic_load (&r.fl->mark[0]));
  assert_int_equal (disk_fill (&r.d, 3, PAGES (250), PAGES (16)), 0);
  assert_int_equal (nr_dirty (&r), 0);
  assert_true (atomic_load (&r.fl->mark[0])); /* a commit flushes it */
  disk_expect (&r.d, 3, PAGES (250), PAGES (16));
  /* Few pages with anything in them, in a long write. */
  for (unsigned i = 0; i < 300; i += 40)
    buf[PAGES (i) + 7] = 1;
  assert_int_equal (disk_write (&r.d, buf, PAGES (100), PAGES (300)), 0);
  assert_int_equal (nr_dirty (&r), 8);
  assert_int_equal (nr_mapped (&r), 15 + 16 - 16 + 8);
  free (buf);
  rig_close (&r);
}

/* Some pages of a run in buffers, some only on the volume. */
static void
test_mixed_read (void **state)
{
  struct rig r;
  struct swmeta_run run;

  UNUSED (state);
  open_rig (&r, 1000);
  for (unsigned i = 0; i < 15; i++)
    assert_int_equal (disk_fill (&r.d, (int) i + 1, PAGES (i), PAGES (1)), 0);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (map_durable_ops.lookup (r.map, 0, 15, &run, NULL), 0);
  assert_int_equal (run.nr_pages, 15);
  for (unsigned mask = 0; mask < 1u << 15; mask += 1237) {
    uint8_t buf[15 * PAGE_BYTES];

    for (unsigned i = 0; i < 15; i++)
      if (mask >> i & 1)
        buf_data_drop (r.bs, swmeta_blkno (run.word) + i, 1);
    assert_int_equal (disk_read (&r.d, buf, 0, sizeof buf), 0);
    for (unsigned i = 0; i < 15; i++)
      for (unsigned k = 0; k < PAGE_BYTES; k++)
        assert_int_equal (buf[PAGES (i) + k], i + 1);
  }
  /* Page 7 alone is in a buffer; its block is spoilt, and nobody sees it. */
  assert_int_equal (disk_fill (&r.d, 77, PAGES (7), PAGES (1)), 0);
  assert_int_equal (map_durable_ops.lookup (r.map, 7, 1, &run, NULL), 0);
  assert_int_equal (sync_rig (&r), 0);
  fail_next (&r.d, VIO_READ, 1);
  disk_expect (&r.d, 77, PAGES (7), PAGES (1));
  fault_clear (r.d.v);
  rig_close (&r);
}

/* ---- what a reply promises ---- */

/* Without staging all that was replied is there when the process has died. */
static void
test_process_death (void **state)
{
  struct rig r;

  UNUSED (state);
  open_rig (&r, 2000);
  r.staged = false;
  rig_reopen (&r);
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (100)), 0);
  assert_int_equal (disk_fill (&r.d, 2, PAGES (600), PAGES (3)), 0);
  assert_int_equal (disk_fill (&r.d, 3, PAGES (601) + 9, 900), 0);
  assert_int_equal (disk_zero (&r.d, PAGES (10), PAGES (10), false), 0);
  assert_int_equal (disk_zero (&r.d, PAGES (1500), PAGES (200), true), 0);
  assert_int_equal (disk_zero (&r.d, PAGES (50), PAGES (2), true), 0);
  rig_reopen (&r);
  assert_false (r.report.clean);
  assert_int_equal (nr_mapped (&r), 100 + 3 - 10 - 2);
  assert_int_equal (object_nr_zero (r.d.o), 202);
  disk_expect (&r.d, 1, 0, PAGES (10));
  disk_expect (&r.d, 0, PAGES (10), PAGES (10));
  disk_expect (&r.d, 1, PAGES (20), PAGES (30));
  disk_expect (&r.d, 0, PAGES (50), PAGES (2));
  disk_expect (&r.d, 2, PAGES (600), PAGES (1) + 9);
  disk_expect (&r.d, 3, PAGES (601) + 9, 900);
  rig_close (&r);
}

/* A reply is durable, or it is not: fua, strict, flush, and changes that found
 * everything done already.
 */
static void
test_promises (void **state)
{
  struct rig r;
  struct disk *d = &r.d;
  char page[PAGE_BYTES] = { 1 };

  UNUSED (state);
  open_rig (&r, 1000);
  assert_int_equal (disk_fill (d, 1, 0, PAGES (3)), 0);
  assert_true (flush_durable (r.fl) < flush_tail (r.fl));
  assert_int_equal (strategy_write (d->o, &d->fenced, page, 0, 50, true), 0);
  assert_true (flush_durable (r.fl) >= flush_tail (r.fl));
  assert_int_equal (disk_zero (d, 0, PAGES (2), false), 0);
  assert_true (flush_durable (r.fl) < flush_tail (r.fl));
  /* Nothing is left to trim, but the trim before must not be lost. */
  assert_int_equal (strategy_zero (d->o, &d->fenced, 0, PAGES (2), false, true),
                    0);
  assert_true (flush_durable (r.fl) >= flush_tail (r.fl));
  assert_int_equal (disk_zero (d, PAGES (9), PAGES (2), true), 0);
  assert_true (flush_durable (r.fl) < flush_tail (r.fl));
  assert_int_equal (sync_rig (&r), 0);
  assert_true (flush_durable (r.fl) >= flush_tail (r.fl));
  r.strict = true;
  rig_reopen (&r);
  assert_int_equal (disk_fill (d, 4, PAGES (4), PAGES (60)), 0);
  assert_true (flush_durable (r.fl) >= flush_tail (r.fl));
  assert_int_equal (disk_fill (d, 4, PAGES (4) + 4, 60), 0);
  assert_true (flush_durable (r.fl) >= flush_tail (r.fl));
  rig_close (&r);
}

/* Blocks that were displaced are not used again before that is durable. */
static void
test_parked (void **state)
{
  struct rig r;
  struct swmeta_run run;
  uint64_t old;

  UNUSED (state);
  open_rig (&r, 1000);
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (4)), 0);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (map_durable_ops.lookup (r.map, 0, 4, &run, NULL), 0);
  old = run.word;
  assert_int_equal (disk_fill (&r.d, 2, 0, PAGES (4)), 0);
  assert_int_equal (parked_nr_blocks (r.pk), 4);
  assert_int_equal (disk_zero (&r.d, PAGES (1), PAGES (1), false), 0);
  assert_int_equal (parked_nr_blocks (r.pk), 5);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (map_durable_ops.lookup (r.map, 0, 1, &run, NULL), 0);
  assert_int_not_equal (run.word, old);
  rig_check (&r);
  rig_close (&r);
}

/* A read is under way when its page is replaced: the block is parked in the
 * read, and then for its record.
 */
static void
test_parked_read (void **state)
{
  struct rig r;
  struct call *c;
  int rule;

  UNUSED (state);
  open_rig (&r, 1000);
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (20)), 0);
  assert_int_equal (sync_rig (&r), 0);
  c = call_held (&r.d, CALL_READ, 0, 0, PAGES (20), &rule);
  assert_int_equal (disk_fill (&r.d, 2, 0, PAGES (3)), 0);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (disk_stat (&r.d).nr_parked, 3);
  fault_release (r.d.v, rule);
  pthread_join (c->thread, NULL);
  for (unsigned i = 0; i < PAGES (20); i++)
    assert_int_equal (c->buf[i], 1);
  free (c->buf);
  free (c);
  rig_check (&r);
  rig_close (&r);
}

/* ---- nodes ---- */

static void
test_nodes (void **state)
{
  struct rig r;

  UNUSED (state);
  open_rig (&r, UINT64_C (1) << 24); /* 64 GiB: height 3 */
  assert_int_equal (disk_fill (&r.d, 1, PAGES (7), 5), 0);
  assert_int_equal (objmeta_nr_nodes (r.map), 4);
  assert_int_equal (disk_fill (&r.d, 2, PAGES (250), PAGES (40)), 0);
  assert_int_equal (objmeta_nr_nodes (r.map), 5);
  assert_int_equal (disk_zero (&r.d, PAGES (9000), PAGES (300), true), 0);
  rig_check (&r);
  /* Part of the only page of a leaf far away becomes all zeros again. */
  assert_int_equal (disk_fill (&r.d, 1, PAGES (1u << 20), 9), 0);
  assert_int_equal (disk_zero (&r.d, PAGES (1u << 20), 10, false), 0);
  rig_reopen (&r);
  disk_expect (&r.d, 1, PAGES (7), 5);
  assert_int_equal (disk_zero (&r.d, 0, PAGES (1u << 19), false), 0);
  rig_check (&r);
  assert_int_equal (objmeta_nr_nodes (r.map), 0);
  assert_int_equal (disk_stat (&r.d).nr_charged, 0);
  rig_close (&r);
}

/* A full pool: new pages are refused, what is there can be overwritten, and
 * trimmed.
 */
static void
test_full (void **state)
{
  struct rig r;
  uint64_t nr = 0;

  UNUSED (state);
  open_rig (&r, BLOCKS * 2);
  while (disk_fill (&r.d, 1, PAGES (nr), PAGES (1)) == 0)
    nr++;
  assert_true (nr > BLOCKS / 2);
  assert_int_equal (disk_fill (&r.d, 1, PAGES (nr), PAGES (40)), ENOSPC);
  assert_int_equal (disk_zero (&r.d, PAGES (BLOCKS), PAGES (600), true),
                    ENOSPC);
  for (int round = 2; round < 6; round++) {
    for (uint64_t i = 0; i < nr; i += 7)
      assert_int_equal (disk_fill (&r.d, round, PAGES (i), 100), 0);
    for (uint64_t i = 0; i + 64 <= nr; i += 64)
      assert_int_equal (disk_fill (&r.d, round, PAGES (i), PAGES (64)), 0);
  }
  assert_int_equal (sync_rig (&r), 0);
  rig_reopen (&r);
  disk_expect (&r.d, 5, 0, PAGES (nr / 64 * 64));
  assert_int_equal (disk_fill (&r.d, 1, PAGES (nr), PAGES (40)), ENOSPC);
  assert_int_equal (disk_zero (&r.d, 0, PAGES (256), false), 0);
  assert_int_equal (disk_fill (&r.d, 9, PAGES (nr), PAGES (40)), 0);
  rig_close (&r);
}

/* A reserved object finds its pages and its nodes, whatever others took. */
static void
test_reserved (void **state)
{
  struct rig r;
  uint64_t nr = 1000;

  UNUSED (state);
  memset (&r, 0, sizeof r);
  r.staged = true;
  r.d.reserved = true;
  rig_format (&r, BLOCKS, PAGES (nr));
  while (space_charge (r.d.sp, 1) == 0)
    ;
  for (uint64_t i = 0; i < nr; i += 100)
    assert_int_equal (disk_fill (&r.d, 1, PAGES (i), 10), 0);
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (nr)), 0);
  assert_int_equal (sync_rig (&r), 0);
  rig_reopen (&r);
  disk_expect (&r.d, 1, 0, PAGES (nr));
  object_kill (r.d.o);
  assert_int_equal (object_drop (r.d.o), 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal (flush_run_cycle (r.fl), 0);
  assert_int_equal (disk_stat (&r.d).nr_charged,
                    atomic_load (&r.d.o->nr_node_charges));
  object_destroy (r.d.o);
  r.d.o = NULL;
  r.map = NULL;
  assert_int_equal (disk_stat (&r.d).nr_charged, 0);
  rig_die (&r);
  volume_close (r.d.v);
}

/* A younger write needs an older zeroing's nodes too: it gets them, or the
 * older is told that there are none.
 */
static void
help (bool full)
{
  struct rig r;
  struct call *c;
  uint64_t nr_kept = 0;
  int rule, older;

  open_rig (&r, 4000);
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (20)), 0);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (disk_fill (&r.d, 1, PAGES (2000), PAGES (1)), 0);
  assert_int_equal (disk_fill (&r.d, 1, PAGES (2600), PAGES (1)), 0);
  /* The zeroing is held as it reads its first page. */
  rule = hold_next (&r.d, VIO_READ);
  c = call_start (&r.d, CALL_KEEP, 0, 10, PAGES (3000));
  wait_held (&r.d, rule);
  if (full)
    while (space_charge (r.d.sp, 1) == 0)
      nr_kept++;
  assert_int_equal (disk_fill (&r.d, 2, PAGES (2000), PAGES (1)), 0);
  fault_release (r.d.v, rule);
  older = call_join (c);
  if (full)
    assert_int_equal (older, ENOSPC);
  else
    assert_int_equal (older, 0);
  disk_expect (&r.d, 2, PAGES (2000), PAGES (1));
  if (!full) {
    disk_expect (&r.d, 0, PAGES (2001), PAGES (900));
    assert_int_equal (object_nr_zero (r.d.o), 3000 - 1);
  }
  space_uncharge (r.d.sp, nr_kept);
  rig_close (&r);
}

static void
test_help (void **state)
{
  UNUSED (state);
  help (false);
  help (true);
}

/* ---- the end ---- */

static void
test_drop (void **state)
{
  struct rig r;

  UNUSED (state);
  open_rig (&r, 6000);
  for (unsigned i = 0; i < 6000; i += 300)
    assert_int_equal (disk_fill (&r.d, 1, PAGES (i), PAGES (30)), 0);
  assert_int_equal (disk_zero (&r.d, PAGES (5000), PAGES (500), true), 0);
  assert_int_equal (sync_rig (&r), 0);
  object_kill (r.d.o);
  assert_int_equal (disk_fill (&r.d, 1, 0, 1), ESHUTDOWN);
  flush_fail (r.fl, "a test says so");
  assert_int_equal (object_drop (r.d.o), EIO);
  assert_true (nr_mapped (&r) > 0);
  rig_reopen (&r);
  assert_int_equal (nr_mapped (&r), 600 - 60);
  object_kill (r.d.o);
  assert_int_equal (object_drop (r.d.o), 0);
  assert_int_equal (object_drop (r.d.o), 0);
  assert_int_equal (nr_mapped (&r), 0);
  assert_int_equal (object_nr_zero (r.d.o), 0);
  rig_check (&r);
  assert_int_equal (disk_stat (&r.d).nr_charged, 0);
  rig_reopen (&r);
  assert_int_equal (nr_mapped (&r), 0);
  rig_close (&r);
}

static void
test_failed (void **state)
{
  struct fault_rule all_writes = { .action = FAULT_DELAY, .op = VIO_WRITE };
  struct rig r;
  int rule;

  UNUSED (state);
  open_rig (&r, 2000);
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (100)), 0);
  assert_int_equal (sync_rig (&r), 0);
  assert_int_equal (disk_fill (&r.d, 2, PAGES (5), PAGES (3)), 0);
  fault_fail_flush (r.d.v, EIO);
  assert_int_equal (sync_rig (&r), EIO);
  assert_true (flush_failed (r.fl));
  rule = fault_add (r.d.v, &all_writes);
  assert_int_equal (disk_fill (&r.d, 3, 0, 1), EIO);
  assert_int_equal (disk_fill (&r.d, 3, 0, PAGES (1)), EIO);
  assert_int_equal (disk_fill (&r.d, 3, 0, PAGES (99)), EIO);
  assert_int_equal (disk_zero (&r.d, 0, PAGES (2), false), EIO);
  assert_int_equal (disk_zero (&r.d, 0, PAGES (2), true), EIO);
  assert_int_equal (sync_rig (&r), EIO);
  disk_expect (&r.d, 1, 0, PAGES (5));
  disk_expect (&r.d, 2, PAGES (5), PAGES (3));
  disk_expect (&r.d, 1, PAGES (8), PAGES (92));
  assert_int_equal (fault_nr_hits (r.d.v, rule), 0);
  rig_die (&r);
  volume_close (r.d.v);
}

/* ---- reads through the page cache ---- */

static struct {
  const struct volume_ops *inner;
  bool spoil_cached, spoil_all;
  unsigned nr_cached, nr_direct;
} spoil;

static void
spoil_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  spoil.inner->start (v, batch, io);
  if (io->op != VIO_READ)
    return;
  if (io->cached)
    spoil.nr_cached++;
  else
    spoil.nr_direct++;
  if (spoil.spoil_all || (spoil.spoil_cached && io->cached))
    *((char *) io->buf + io->bytes - 1) ^= 1;
}

/* What the page cache has may be stale: it is read again past it. */
static void
test_cached (void **state)
{
  static struct volume_ops ops;
  struct rig r;

  UNUSED (state);
  open_rig (&r, 1000);
  r.cached = true;
  rig_reopen (&r);
  spoil.inner = r.d.v->ops;
  ops = *r.d.v->ops;
  ops.start = spoil_start;
  assert_int_equal (disk_fill (&r.d, 1, 0, PAGES (40)), 0);
  assert_int_equal (sync_rig (&r), 0);
  r.d.v->ops = &ops;
  r.d.v->direct = true;
  disk_expect (&r.d, 1, 0, PAGES (40));
  assert_int_equal (spoil.nr_cached, 1);
  assert_int_equal (spoil.nr_direct, 0);
  spoil.spoil_cached = true;
  disk_expect (&r.d, 1, 0, PAGES (40));
  assert_int_equal (spoil.nr_cached, 2);
  assert_int_equal (spoil.nr_direct, 1);
  assert_int_equal (disk_fill (&r.d, 2, PAGES (7) + 9, 8), 0);
  disk_expect (&r.d, 2, PAGES (7) + 9, 8);
  disk_expect (&r.d, 1, PAGES (7) + 17, PAGES (1) - 17);
  spoil.spoil_all = true;
  test_log_forget ();
  assert_int_equal (
      disk_read (&r.d, (char[PAGE_BYTES]){ 0 }, PAGES (33), PAGE_BYTES), EIO);
  assert_int_equal (test_log_has ("'disk': page 33: block"), 1);
  spoil.spoil_all = spoil.spoil_cached = false;
  r.d.v->ops = spoil.inner;
  rig_close (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_small),       cmocka_unit_test (test_large),
    cmocka_unit_test (test_mixed_read),  cmocka_unit_test (test_process_death),
    cmocka_unit_test (test_promises),    cmocka_unit_test (test_parked),
    cmocka_unit_test (test_parked_read), cmocka_unit_test (test_nodes),
    cmocka_unit_test (test_full),        cmocka_unit_test (test_reserved),
    cmocka_unit_test (test_help),        cmocka_unit_test (test_drop),
    cmocka_unit_test (test_failed),      cmocka_unit_test (test_cached),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
