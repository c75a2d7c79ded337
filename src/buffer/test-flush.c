/* SPDX-License-Identifier: BSD-2-Clause */
/* Log, flusher and recovery on one tree, against an array of versions.  What a
 * crash may leave in every order of writes is the simulator's (tests/crash).
 */

#include <config.h>

#include "test-flush.h"

#include <stdio.h>

#include "env.h"
#include "fault.h"
#include "flush-impl.h"

static uint64_t expect[RIG_PAGES];
static uint8_t saved[PAGE_BYTES] __attribute__ ((aligned (4096)));

static void
check_all (struct rig *r)
{
  for (pgno_t p = 0; p < RIG_PAGES; p++)
    assert_int_equal (rig_version (r, p), expect[p]);
}

static void
write_one (struct rig *r, pgno_t pgno, uint64_t version)
{
  uint64_t lsn = rig_write (r, pgno, version);

  assert_true (lsn > 0);
  expect[pgno] = version;
}

static void
test_clean_close (void **state)
{
  struct rig r;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  for (pgno_t p = 0; p < RIG_PAGES; p += 7)
    write_one (&r, p, p + 1);
  check_all (&r);
  assert_int_equal (flush_close (r.fl), 0);
  rig_drop (&r);
  assert_int_equal (rig_open (&r), 0);
  assert_true (r.report.clean);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

/* Everything that was committed is there, whether a cycle has come by or not;
 * and it can go on from there, and crash again.
 */
static void
test_crash_after_commit (void **state)
{
  struct rig r;
  uint64_t version = 1;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  for (unsigned turn = 0; turn < 12; turn++) {
    for (unsigned i = 0; i < 150; i++, version++)
      write_one (&r, (version * 37) % RIG_PAGES, version);
    if (turn % 3 == 1)
      assert_int_equal (flush_run_cycle (r.fl), 0);
    for (unsigned i = 0; i < 20; i++, version++)
      write_one (&r, (version * 11) % RIG_PAGES, version);
    assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
    rig_drop (&r);
    assert_int_equal (rig_open (&r), 0);
    assert_false (r.report.clean);
    assert_true (r.report.nr_redone >= 20);
    check_all (&r);
  }
  rig_drop (&r);
  volume_close (r.v);
}

/* What was not written is gone, and nothing else. */
static void
test_crash_before_commit (void **state)
{
  struct rig r;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  for (pgno_t p = 0; p < 600; p++)
    write_one (&r, p, 1);
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  for (pgno_t p = 300; p < 380; p++)
    assert_true (rig_write (&r, p, 2) > 0);
  rig_drop (&r);
  assert_int_equal (rig_open (&r), 0);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

/* A block of a record above the mark that did not reach the medium: its page
 * alone falls back.
 */
static void
test_lost_data (void **state)
{
  static const uint8_t zeros[PAGE_BYTES] __attribute__ ((aligned (4096)));
  struct rig r;
  uint64_t first;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  for (pgno_t p = 0; p < 10; p++)
    write_one (&r, p, 1);
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  first = r.next_block;
  for (pgno_t p = 0; p < 10; p++)
    write_one (&r, p, 2);
  for (pgno_t p = 0; p < 5; p++)
    write_one (&r, p, 3);
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  rig_drop (&r);
  /* Page 2's third, page 3's second and third, page 7's second. */
  for (unsigned i = 0; i < 4; i++) {
    static const uint64_t lost[] = { 12, 13, 3, 7 };

    assert_int_equal (
        volume_write (r.v, (first + lost[i]) * BUF_BYTES, zeros, sizeof zeros),
        0);
  }
  expect[2] = 2;
  expect[3] = 1;
  expect[7] = 1;
  assert_int_equal (rig_open (&r), 0);
  assert_int_equal (r.report.nr_fallen, 3);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

/* A store whose log is damaged is refused, and left as it was. */
static void
test_refused (void **state)
{
  static const uint8_t zeros[PAGE_BYTES] __attribute__ ((aligned (4096)));
  uint8_t *before = aligned_alloc (PAGE_BYTES, RIG_BYTES);
  uint8_t *after = aligned_alloc (PAGE_BYTES, RIG_BYTES);
  uint64_t first;
  struct rig r;

  (void) state;
  rig_format (&r);
  first = r.supers.root.redo_lsn;
  for (pgno_t p = 0; p < 100; p++)
    assert_true (rig_write (&r, p, 1) > 0);
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  assert_true (rig_write (&r, 1, 2) > 0); /* tells that it was durable */
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  rig_drop (&r);
  assert_int_equal (
      volume_write (r.v, (r.supers.root.ring_first + first) * BUF_BYTES, zeros,
                    sizeof zeros),
      0);
  assert_int_equal (volume_read (r.v, 0, before, RIG_BYTES), 0);
  assert_int_equal (rig_open (&r), EUCLEAN);
  assert_int_equal (volume_read (r.v, 0, after, RIG_BYTES), 0);
  assert_memory_equal (before, after, RIG_BYTES);
  flush_destroy (r.fl);
  bufs_destroy (r.bs);
  volume_close (r.v);
  free (before);
  free (after);
}

static uint64_t
ring_place (const struct rig *r, uint64_t lsn)
{
  const struct disk_super *root = &r->supers.root;

  return root->ring_first + lsn % root->ring_blocks;
}

/* Reads of this block fail, so many times; 0: always. */
static void
fail_reads (struct volume *v, uint64_t blk, unsigned count)
{
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = blk * BUF_BYTES,
                             .bytes = BUF_BYTES,
                             .count = count,
                             .error = EIO };

  assert_true (fault_add (v, &rule) >= 0);
}

/* This one alone. */
static void
make_unreadable (struct rig *r, uint64_t blk, unsigned count)
{
  fault_clear (r->v);
  fail_reads (r->v, blk, count);
}

/* What cannot be read may have been durable: it is not dropped. */
static void
test_unreadable (void **state)
{
  struct recover_look look;
  struct volume *inner;
  uint64_t page_5;
  struct rig r;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  page_5 = r.next_block + 5;
  for (pgno_t p = 0; p < 10; p++)
    write_one (&r, p, 1);
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  rig_drop (&r);
  inner = r.v;
  assert_int_equal (recover_look (inner, &r.supers.root, &look), 0);
  assert_null (look.wrong);
  assert_int_equal (volume_open_fault (inner, &r.v), 0);
  for (uint64_t lsn = look.end - 1; lsn <= look.end; lsn++) {
    make_unreadable (&r, ring_place (&r, lsn), 0);
    assert_int_equal (rig_open (&r), EIO);
    flush_destroy (r.fl);
    bufs_destroy (r.bs);
  }
  make_unreadable (&r, page_5, 0);
  assert_int_equal (rig_open (&r), EIO);
  rig_drop (&r);
  make_unreadable (&r, page_5, 1);
  assert_int_equal (rig_open (&r), 0);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

/* A whole block with no record, where lsn belongs. */
static void
seal_block (struct rig *r, uint64_t lsn)
{
  const struct disk_super *root = &r->supers.root;
  struct disk_log log = { .magic = DISK_LOG_MAGIC,
                          .version = 1,
                          .kind = DISK_LOG_REDO,
                          .lsn = lsn,
                          .epoch = root->epoch,
                          .durable = 1 };
  uint64_t at = root->ring_first + lsn % root->ring_blocks;

  memcpy (log.uuid, root->uuid, sizeof log.uuid);
  log.crc = crc32c (0, &log, DISK_CRC_OFF);
  assert_int_equal (volume_write (r->v, at * BUF_BYTES, &log, sizeof log), 0);
}

static int
open_and_drop (struct rig *r)
{
  int err = rig_open (r);

  flush_destroy (r->fl);
  bufs_destroy (r->bs);
  if (err == 0)
    tree_fini (&r->tree);
  return err;
}

/* The newest superblock, in as many slots, cannot be read. */
static int
open_without (struct rig *r, unsigned nr)
{
  uint64_t sequence = r->supers.root.sequence;

  fault_clear (r->v);
  for (unsigned i = 0; i < nr; i++)
    fail_reads (r->v,
                super_slot_block (RIG_BYTES / BUF_BYTES,
                                  (sequence - i) % DISK_SUPER_SLOTS),
                0);
  return rig_open (r);
}

/* All copies of the newest superblock say the same. */
static void
compare_copies (struct rig *r)
{
  static struct disk_super super __attribute__ ((aligned (4096)));
  const struct disk_super *root = &r->supers.root;

  for (unsigned i = 0; i < SUPER_COPIES; i++) {
    uint64_t blk = super_slot_block (RIG_BYTES / BUF_BYTES,
                                     (root->sequence - i) % DISK_SUPER_SLOTS);

    assert_int_equal (volume_read (r->v, blk * BUF_BYTES, &super, sizeof super),
                      0);
    assert_int_equal (super.sequence, root->sequence - i);
    assert_int_equal (super.cycle, root->cycle);
    assert_int_equal (super.redo_lsn, root->redo_lsn);
    assert_int_equal (super.epoch, root->epoch);
  }
}

/* In one slot: nothing is lost.  In both: if nothing was written since, the
 * older one leads to the same; else nobody goes by it, nor writes anything.
 */
static void
test_superblocks_lost (void **state)
{
  struct volume *inner;
  struct rig r;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  inner = r.v;
  rig_drop (&r);
  assert_int_equal (volume_open_fault (inner, &r.v), 0);
  assert_int_equal (rig_open (&r), 0);
  for (unsigned nr = 0; nr <= SUPER_COPIES; nr++) {
    write_one (&r, 7, 1 + nr);
    assert_int_equal (flush_run_cycle (r.fl), 0);
    assert_int_equal (flush_run_cycle (r.fl), 0); /* retires that */
    fault_clear (r.v);
    compare_copies (&r);
    rig_drop (&r);
    assert_int_equal (open_without (&r, nr), 0);
    check_all (&r);
  }
  for (unsigned nr = 0; nr < SUPER_COPIES; nr++) {
    fault_clear (r.v);
    assert_int_equal (flush_run_cycle (r.fl), 0);
    write_one (&r, 8, 1 + nr);
    assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
    rig_drop (&r);
    assert_int_equal (open_without (&r, nr), 0);
    check_all (&r);
  }
  fault_clear (r.v);
  assert_int_equal (flush_run_cycle (r.fl), 0);
  write_one (&r, 9, 1);
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  rig_drop (&r);
  assert_int_equal (open_without (&r, SUPER_COPIES), EIO);
  flush_destroy (r.fl);
  bufs_destroy (r.bs);
  fault_clear (r.v);
  assert_int_equal (rig_open (&r), 0);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

/* A block far ahead says that later superblocks are lost, wherever it is: seen
 * by who looks at all of the ring, and by recovery the same, but for a clean
 * store with good slots, until the log comes to begin there.
 */
static void
test_far_ahead (void **state)
{
  static const uint8_t zeros[PAGE_BYTES] __attribute__ ((aligned (4096)));
  struct recover_look look;
  struct rig r;
  uint64_t end, slot;

  (void) state;
  rig_format (&r);
  write_one (&r, 1, 1);
  assert_int_equal (flush_close (r.fl), 0);
  end = r.supers.root.redo_lsn;
  rig_drop (&r);
  seal_block (&r, end + 2 + 5 * r.supers.root.ring_blocks);
  assert_int_equal (recover_look (r.v, &r.supers.root, &look), 0);
  assert_non_null (look.wrong);
  assert_int_equal (look.wrong_lsn, end + 2);
  /* A slot is bad: it may have been a later superblock. */
  slot = super_slot_block (RIG_BYTES / BUF_BYTES, 0);
  if (r.supers.root.sequence % DISK_SUPER_SLOTS == 0)
    slot = super_slot_block (RIG_BYTES / BUF_BYTES, 1);
  assert_int_equal (volume_read (r.v, slot * BUF_BYTES, saved, sizeof saved),
                    0);
  assert_int_equal (volume_write (r.v, slot * BUF_BYTES, zeros, sizeof zeros),
                    0);
  assert_int_equal (open_and_drop (&r), EUCLEAN);
  assert_int_equal (volume_write (r.v, slot * BUF_BYTES, saved, sizeof saved),
                    0);
  assert_int_equal (open_and_drop (&r), 0);
  /* It is in use now: all of the ring is looked at. */
  assert_int_equal (open_and_drop (&r), EUCLEAN);
  seal_block (&r, end + 2);
  assert_int_equal (open_and_drop (&r), 0);
  volume_close (r.v);
}

/* The flusher's threads at work, far more than the ring holds. */
static void
test_threads (void **state)
{
  struct rig r;
  uint64_t version = 1;
  struct flush_stat st;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  assert_int_equal (flush_start (r.fl), 0);
  r.started = true;
  for (unsigned i = 0; i < 4000; i++, version++) {
    write_one (&r, (version * 389) % RIG_PAGES, version);
    if (i % 97 == 0)
      assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
    if (i % 701 == 0)
      assert_int_equal (flush_run_cycle (r.fl), 0);
  }
  assert_int_equal (flush_commit (r.fl, flush_tail (r.fl)), 0);
  check_all (&r);
  flush_stat (r.fl, &st);
  print_message ("%lu commits, %lu cycles, %lu flushes; KiB of data %lu, log "
                 "%lu, meta %lu\n",
                 st.nr_commits, st.nr_cycles, st.nr_device_flushes,
                 st.bytes_data >> 10, st.bytes_log >> 10, st.bytes_meta >> 10);
  assert_true (st.nr_cycles >= 6);
  rig_drop (&r);
  assert_int_equal (rig_open (&r), 0);
  check_all (&r);
  assert_int_equal (flush_close (r.fl), 0);
  rig_drop (&r);
  assert_int_equal (rig_open (&r), 0);
  assert_true (r.report.clean);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

/* Who waits for room in the log's buffers asks for what is there to be written:
 * that is also what lies behind the block that takes records, or he waits for
 * ever.
 */
static void
test_images_behind_records (void **state)
{
  struct rig r;

  (void) state;
  memset (expect, 0, sizeof expect);
  rig_format (&r);
  for (pgno_t p = 0; p < 8 * DISK_MAP_PAGES; p += DISK_MAP_PAGES)
    write_one (&r, p, 1);
  assert_int_equal (flush_run_cycle (r.fl), 0);
  for (pgno_t p = 0; p < 8 * DISK_MAP_PAGES; p += DISK_MAP_PAGES)
    write_one (&r, p, 2);
  assert_true (bufs_nr_dirty (r.bs, BUF_UNDO) >= 9);
  /* What lies before it, then it and the rest. */
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal (commit_pass_alone (r.fl, false, false), 0);
  assert_int_equal (bufs_nr_dirty (r.bs, BUF_UNDO), 0);
  /* One that has nothing behind it goes on to take records. */
  write_one (&r, 0, 3);
  assert_int_equal (commit_pass_alone (r.fl, false, false), 0);
  assert_int_equal (bufs_nr_dirty (r.bs, BUF_UNDO), 1);
  check_all (&r);
  rig_drop (&r);
  volume_close (r.v);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_clean_close),
    cmocka_unit_test (test_crash_after_commit),
    cmocka_unit_test (test_crash_before_commit),
    cmocka_unit_test (test_lost_data),
    cmocka_unit_test (test_refused),
    cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_superblocks_lost),
    cmocka_unit_test (test_far_ahead),
    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_images_behind_records),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
