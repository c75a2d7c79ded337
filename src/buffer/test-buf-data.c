/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages, log blocks, tags, who waits for room, transfers and their errors. */

#include <config.h>

#include "test-bufs.h"

#include "task.h"

#define WAIT_MS 2000u

static void
fill_page (void *page, uint64_t blk, uint64_t round)
{
  test_pattern (page, BUF_BYTES, blk * BUF_BYTES, round);
}

/* Buffers that were got and are not used yet. */
static struct buf *held[NR_BUFS];
static unsigned nr_held;

static void
get_pages (struct rig *r, unsigned nr)
{
  assert_int_equal (buf_data_get (r->bs, held, nr), 0);
  nr_held = nr;
}

static void
unget_pages (struct rig *r, unsigned nr)
{
  nr_held -= nr;
  buf_data_unget (r->bs, held + nr_held, nr);
}

/* Into a buffer that was got. */
static void
write_page (struct rig *r, uint64_t blk, uint64_t round)
{
  struct buf *b = held[--nr_held];

  fill_page (b->data, blk, round);
  buf_data_add (r->bs, &b, 1, blk);
}

/* One page, waited for. */
static void
wait_write (struct rig *r, uint64_t blk, uint64_t round)
{
  get_pages (r, 1);
  write_page (r, blk, round);
}

static void
expect_page (struct rig *r, uint64_t blk, uint64_t round)
{
  uint8_t page[BUF_BYTES], want[BUF_BYTES];

  fill_page (want, blk, round);
  assert_true (buf_data_read (r->bs, blk, page));
  assert_memory_equal (page, want, BUF_BYTES);
}

static void
expect_disk (struct rig *r, uint64_t blk, uint64_t round)
{
  uint8_t page[BUF_BYTES], want[BUF_BYTES];

  fill_page (want, blk, round);
  rig_read (r, blk, page);
  assert_memory_equal (page, want, BUF_BYTES);
}

/* ---- pages ---- */

static void
test_page_life (void **state)
{
  struct rig *r = *state;
  uint64_t blk = blkno_make (1, 33);
  uint8_t page[BUF_BYTES];

  assert_false (buf_data_read (r->bs, blk, page));
  wait_write (r, blk, 1);
  CHECK (r);
  assert_int_equal (tag_of_block (r, blk), 1);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 1);
  expect_page (r, blk, 1);
  assert_int_equal (write_data (r), 1);
  CHECK (r);
  expect_disk (r, blk, 1);
  assert_int_equal (tag_of_block (r, blk), 0);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 0);
  expect_page (r, blk, 1);
  /* The block is handed out again. */
  wait_write (r, blk, 2);
  expect_page (r, blk, 2);
  CHECK (r);
  write_data (r);
  expect_disk (r, blk, 2);
  buf_data_drop (r->bs, blk - 2, 5);
  assert_false (buf_data_read (r->bs, blk, page));
  assert_int_equal (stat_of (r).nr_free, NR_BUFS - NR_VOLUMES);
  wait_write (r, 0, 1); /* block 0 is one like any other */
  expect_page (r, 0, 1);
  assert_int_equal (tag_of_block (r, 0), 1);
  CHECK (r);
}

static void
test_unget (void **state)
{
  struct rig *r = *state;
  unsigned max = bufs_dirty_max (r->bs, BUF_DATA);

  for (unsigned i = 0; i < 5; i++) {
    get_pages (r, max);
    CHECK (r);
    unget_pages (r, max);
    CHECK (r);
  }
}

/* A page that was given up before it had a record: forgotten, tag first. */
static void
test_given_up (void **state)
{
  struct rig *r = *state;
  uint8_t page[BUF_BYTES];

  wait_write (r, 7, 1);
  wait_write (r, 7, 2);
  CHECK (r);
  assert_int_equal (tag_of_block (r, 7), 1);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 1);
  expect_page (r, 7, 2);
  buf_data_drop (r->bs, 7, 1);
  CHECK (r);
  assert_int_equal (tag_of_block (r, 7), 0);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 0);
  assert_false (buf_data_read (r->bs, 7, page));
  assert_int_equal (write_data (r), 0);
}

static void
test_given_up_running (void **state)
{
  struct rig *r = *state;
  struct buf *old[2], *new[2];

  wait_write (r, 7, 1);
  assert_int_equal (bufs_take (r->bs, BUF_DATA, old, 2), 1);
  wait_write (r, 7, 2);
  CHECK (r);
  assert_int_equal (tag_of_block (r, 7), 1);
  expect_page (r, 7, 2);
  assert_int_equal (write_taken (r, old, 1), 0);
  expect_page (r, 7, 2);
  assert_int_equal (bufs_take (r->bs, BUF_DATA, new, 2), 1);
  assert_int_equal (write_taken (r, new, 1), 0);
  expect_disk (r, 7, 2);
  CHECK (r);
}

struct dropper {
  struct rig *r;
  atomic_bool over;
};

static void
drop_main (void *arg)
{
  struct dropper *d = arg;

  buf_data_drop (d->r->bs, 0, 20);
  atomic_store (&d->over, true);
}

static void
test_drop_waits (void **state)
{
  struct rig *r = *state;
  struct dropper d = { .r = r };
  struct buf *taken[2];
  struct task *task;

  wait_write (r, 7, 1);
  assert_int_equal (bufs_take (r->bs, BUF_DATA, taken, 2), 1);
  assert_int_equal (task_start ("drop", drop_main, &d, &task), 0);
  task_sleep (20 * NS_PER_MS);
  assert_false (atomic_load (&d.over));
  assert_int_equal (write_taken (r, taken, 1), 0);
  task_join (task);
  assert_true (atomic_load (&d.over));
  CHECK (r);
}

/* Oldest first, and each take in the order of blocks. */
static void
test_take_order (void **state)
{
  struct rig *r = *state;
  static const uint64_t blks[] = { 9, 3, 1000, 2, 8, 1 };
  struct buf *taken[6];

  for (unsigned i = 0; i < 6; i++)
    wait_write (r, i == 2 ? blkno_make (1, 0) : blks[i], i);
  assert_int_equal (bufs_take (r->bs, BUF_DATA, taken, 4), 4);
  assert_int_equal (taken[0]->blk, 2);
  assert_int_equal (taken[1]->blk, 3);
  assert_int_equal (taken[2]->blk, 9);
  assert_int_equal (taken[3]->blk, blkno_make (1, 0));
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 6);
  assert_int_equal (stat_of (r).nr_running, 4);
  CHECK (r);
  assert_int_equal (write_taken (r, taken, 4), 0);
  assert_int_equal (write_data (r), 2);
  CHECK (r);
}

/* A stream of pages leaves the nodes alone, and the youngest of its own. */
static void
test_stream (void **state)
{
  struct rig *r = *state;
  unsigned nr = NR_BUFS / 2;
  uint8_t page[BUF_BYTES];

  for (unsigned i = 0; i < nr; i++) {
    struct buf *b;

    put_node (r, i, i + 1, 1, i);
    assert_int_equal (get (r, i, i + 1, 1, false, &b), 0);
    buf_put (r->bs, b);
  }
  for (unsigned i = 0; i < 1500; i++) {
    wait_write (r, blkno_make (1, i), 1);
    if (i % 20 == 19)
      write_data (r);
  }
  CHECK (r);
  assert_int_equal (stat_of (r).nr_clean[BUF_META], nr);
  assert_true (stat_of (r).nr_clean[BUF_DATA] >= NR_BUFS / 4);
  assert_true (buf_data_read (r->bs, blkno_make (1, 1490), page));
  assert_false (buf_data_read (r->bs, blkno_make (1, 100), page));
}

/* ---- room ---- */

static void
test_wake (void **state)
{
  struct rig *r = *state;
  unsigned half = bufs_dirty_max (r->bs, BUF_DATA) / 2;

  for (unsigned i = 0; i < half - 1; i++)
    wait_write (r, i, 1);
  assert_int_equal (r->nr_wakes, 0);
  wait_write (r, half, 1);
  assert_int_equal (r->nr_wakes, 1);
  wait_write (r, half + 1, 1);
  assert_int_equal (r->nr_wakes, 1);
  write_data (r);
  for (unsigned i = 0; i < half; i++)
    wait_write (r, i, 1);
  assert_int_equal (r->nr_wakes, 2);
  CHECK (r);
}

struct waiter {
  struct rig *r;
  unsigned nr, order;
  int error;
  atomic_uint *nr_over;
  atomic_bool over;
  struct buf *bufs[NR_BUFS];
};

static void
wait_main (void *arg)
{
  struct waiter *w = arg;

  w->error = buf_data_get (w->r->bs, w->bufs, w->nr);
  w->order = atomic_fetch_add (w->nr_over, 1);
  atomic_store (&w->over, true);
}

static bool
becomes (atomic_bool *over, bool want)
{
  for (unsigned i = 0; i < WAIT_MS && atomic_load (over) != want; i++)
    task_sleep (NS_PER_MS);
  return atomic_load (over) == want;
}

/* First a large one, then a small one that would fit: it does not pass. */
static void
test_first_come (void **state)
{
  struct rig *r = *state;
  unsigned max = bufs_dirty_max (r->bs, BUF_DATA);
  atomic_uint nr_over = 0;
  struct waiter large = { .r = r,
                          .nr = max - max / 2 + 2,
                          .nr_over = &nr_over };
  struct waiter small = { .r = r, .nr = 1, .nr_over = &nr_over };
  struct task *tasks[2];
  struct buf *taken[NR_BUFS];
  unsigned nr;

  for (unsigned i = 0; i < max / 2; i++)
    wait_write (r, i, 1);
  nr = r->nr_wakes;
  assert_int_equal (task_start ("large", wait_main, &large, &tasks[0]), 0);
  assert_true (is_queued (r, 1));
  assert_int_equal (task_start ("small", wait_main, &small, &tasks[1]), 0);
  assert_true (is_queued (r, 2));
  for (unsigned i = 0; i < WAIT_MS && r->nr_wakes < nr + 2; i++)
    task_sleep (NS_PER_MS);
  assert_true (r->nr_wakes >= nr + 2); /* each who waits */
  CHECK (r);
  nr = bufs_take (r->bs, BUF_DATA, taken, NR_BUFS);
  assert_int_equal (nr, max / 2);
  assert_int_equal (write_taken (r, taken, 1), 0);
  assert_true (is_queued (r, 2));
  assert_int_equal (write_taken (r, taken + 1, nr - 1), 0);
  assert_true (becomes (&large.over, true) && becomes (&small.over, true));
  task_join (tasks[0]);
  task_join (tasks[1]);
  assert_int_equal (large.error, 0);
  assert_int_equal (small.error, 0);
  CHECK (r);
  buf_data_unget (r->bs, large.bufs, large.nr);
  buf_data_unget (r->bs, small.bufs, small.nr);
  CHECK (r);
}

/* While one waits, each page that comes, and the end of a write, wake. */
static void
test_wake_for_waiter (void **state)
{
  struct rig *r = *state;
  unsigned max = bufs_dirty_max (r->bs, BUF_DATA), nr;
  atomic_uint nr_over = 0;
  struct waiter w = { .r = r, .nr = max, .nr_over = &nr_over };
  struct buf *taken[2];
  struct task *task;

  get_pages (r, 3);
  assert_int_equal (task_start ("wait", wait_main, &w, &task), 0);
  assert_true (is_queued (r, 1));
  for (unsigned i = 0; i < WAIT_MS && r->nr_wakes == 0; i++)
    task_sleep (NS_PER_MS);
  nr = r->nr_wakes;
  write_page (r, 1, 1);
  write_page (r, 2, 1);
  assert_int_equal (r->nr_wakes, nr + 2);
  assert_int_equal (bufs_take (r->bs, BUF_DATA, taken, 1), 1);
  nr = r->nr_wakes;
  assert_int_equal (write_taken (r, taken, 1), 0); /* one is left */
  assert_int_equal (r->nr_wakes, nr + 1);
  write_data (r);
  unget_pages (r, 1);
  assert_true (becomes (&w.over, true));
  task_join (task);
  assert_int_equal (w.error, 0);
  buf_data_unget (r->bs, w.bufs, max);
  CHECK (r);
}

static void
test_fail_wakes (void **state)
{
  struct rig *r = *state;
  unsigned max = bufs_dirty_max (r->bs, BUF_DATA);
  atomic_uint nr_over = 0;
  struct waiter w[3];
  struct task *tasks[3];
  uint8_t page[BUF_BYTES];

  get_pages (r, max);
  for (unsigned i = 0; i < 3; i++) {
    w[i] = (struct waiter){ .r = r, .nr = 1, .nr_over = &nr_over };
    assert_int_equal (task_start ("wait", wait_main, &w[i], &tasks[i]), 0);
  }
  assert_true (is_queued (r, 3));
  bufs_fail (r->bs);
  for (unsigned i = 0; i < 3; i++) {
    task_join (tasks[i]);
    assert_int_equal (w[i].error, EIO);
  }
  assert_int_equal (buf_data_get (r->bs, held, 1), EIO);
  /* What was reserved before may still be written and read. */
  write_page (r, 5, 1);
  expect_page (r, 5, 1);
  assert_false (buf_data_read (r->bs, 6, page));
  unget_pages (r, max - 1);
  CHECK (r);
}

/* ---- log blocks ---- */

static void
test_undo (void **state)
{
  struct rig *r = *state;
  struct buf *a = buf_undo_new (r->bs, 100), *b, *taken[4];

  for (unsigned i = 0; i < BUF_BYTES; i++)
    assert_int_equal (a->data[i], 0);
  assert_int_equal (atomic_load (&r->tags[a - r->bs->bufs].what),
                    (uint64_t) BUF_UNDO << 60 | 100);
  memset (a->data, 1, BUF_BYTES);
  buf_ref (a); /* an image */
  b = buf_undo_new (r->bs, 101);
  (void) buf_undo_new (r->bs, 102);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_UNDO), 3);
  CHECK (r);
  assert_int_equal (bufs_take (r->bs, BUF_UNDO, taken, 2), 2);
  assert_ptr_equal (taken[0], a);
  assert_ptr_equal (taken[1], b);
  CHECK (r);
  bufs_written (r->bs, taken, 2);
  CHECK (r);
  assert_int_equal (atomic_load (&r->tags[a - r->bs->bufs].what), 0);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_UNDO), 2); /* the image */
  assert_int_equal (a->data[9], 1);
  buf_put (r->bs, a);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_UNDO), 1);
  CHECK (r);
  a = buf_undo_new (r->bs, 103);
  for (unsigned i = 0; i < BUF_BYTES; i++)
    assert_int_equal (a->data[i], 0);
}

/* Beyond its share (a cut may) it takes what is free, then what is clean, and
 * leaves alone what pages have got.
 */
static void
test_undo_beyond (void **state)
{
  struct rig *r = *state;
  unsigned data = bufs_dirty_max (r->bs, BUF_DATA);
  unsigned nr = NR_BUFS - NR_VOLUMES - data;
  struct buf *taken[NR_BUFS];

  for (unsigned i = 0; i < 20; i++)
    wait_write (r, i, 1);
  write_data (r);
  get_pages (r, data);
  for (unsigned i = 0; i < nr; i++) {
    (void) buf_undo_new (r->bs, i);
    CHECK (r);
  }
  for (unsigned i = 0; i < data; i++)
    write_page (r, i, 1);
  CHECK (r);
  assert_int_equal (bufs_take (r->bs, BUF_UNDO, taken, NR_BUFS), nr);
  bufs_written (r->bs, taken, nr);
  CHECK (r);
}

/* ---- transfers ---- */

static struct buf_io
io_of (uint64_t volume, uint64_t first, uint8_t *page)
{
  return (struct buf_io){
    .volume = volume, .first = first, .page = page, .error = -1
  };
}

static unsigned
nr_writes (struct rig *r, unsigned volume, struct buf_io *ios, unsigned nr)
{
  struct fault_rule rule = { .action = FAULT_DELAY, .op = VIO_WRITE };
  struct vbatch *batch = vbatch_get (r->pool);
  int rule_nr = fault_add (r->v[volume], &rule);
  unsigned hits;

  assert_int_equal (bufs_write (r->bs, batch, ios, nr), 0);
  vbatch_put (batch);
  for (unsigned i = 0; i < nr; i++)
    assert_int_equal (ios[i].error, 0);
  hits = fault_nr_hits (r->v[volume], rule_nr);
  fault_clear (r->v[volume]);
  return hits;
}

static void
test_runs (void **state)
{
  struct rig *r = *state;
  uint8_t *pages = test_pages (600 * BUF_BYTES);
  struct buf_io ios[600];

  for (unsigned i = 0; i < 600; i++)
    fill_page (pages + i * BUF_BYTES, i, 3);
  for (unsigned i = 0; i < 600; i++) /* neighbours, from memory backwards */
    ios[i] = io_of (0, i, pages + i * BUF_BYTES);
  assert_int_equal (nr_writes (r, 0, ios, 600), 3); /* 256 + 256 + 88 */
  for (unsigned i = 0; i < 600; i++)
    expect_disk (r, i, 3);

  for (unsigned i = 0; i < 600; i++) {
    fill_page (pages + i * BUF_BYTES, blkno_make (1, 1300 - 2 * i), 4);
    ios[i] = io_of (1, 1300 - 2 * i, pages + i * BUF_BYTES);
  }
  assert_int_equal (nr_writes (r, 1, ios, 600), 600);
  for (unsigned i = 0; i < 600; i++)
    expect_disk (r, blkno_make (1, 1300 - 2 * i), 4);

  /* The same places on two volumes are no neighbours; 2, 3 then 1 neither. */
  ios[0] = io_of (0, 10, pages);
  ios[1] = io_of (1, 11, pages + BUF_BYTES);
  ios[2] = io_of (0, 12, pages + 2 * BUF_BYTES);
  ios[3] = io_of (0, 13, pages + 3 * BUF_BYTES);
  ios[4] = io_of (0, 11, pages + 4 * BUF_BYTES);
  assert_int_equal (nr_writes (r, 0, ios, 5), 3);
  assert_int_equal (nr_writes (r, 0, ios, 0), 0);
  free (pages);
}

/* One transfer fails: its pages, and no others, are not written, and stay. */
static void
test_write_error (void **state)
{
  struct rig *r = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_WRITE,
                             .off = 21 * BUF_BYTES,
                             .bytes = BUF_BYTES,
                             .error = ENOSPC };
  struct buf *taken[NR_BUFS];
  unsigned nr;

  fault_add (r->v[0], &rule);
  for (unsigned i = 0; i < 3; i++) {
    wait_write (r, 10 + i, 1);
    wait_write (r, 20 + i, 1);
    wait_write (r, 30 + i, 1);
  }
  nr = bufs_take (r->bs, BUF_DATA, taken, NR_BUFS);
  assert_int_equal (nr, 9);
  assert_int_equal (write_taken (r, taken, nr), ENOSPC);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 3);
  bufs_fail (r->bs);
  for (unsigned i = 0; i < 3; i++) {
    expect_disk (r, 10 + i, 1);
    expect_disk (r, 30 + i, 1);
    expect_page (r, 20 + i, 1);
    assert_int_equal (tag_of_block (r, 20 + i), 1);
    assert_int_equal (tag_of_block (r, 10 + i), 0);
  }
  /* Others come and go; these stay. */
  for (unsigned i = 0; i < 600; i++) {
    struct buf *b;

    put_node (r, i, 100 + i, 1, i);
    assert_int_equal (get (r, i, 100 + i, 1, false, &b), 0);
    buf_put (r->bs, b);
  }
  for (unsigned i = 0; i < 3; i++)
    expect_page (r, 20 + i, 1);
  CHECK (r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
    TEST (test_page_life),   TEST (test_unget),
    TEST (test_given_up),    TEST (test_given_up_running),
    TEST (test_drop_waits),  TEST (test_take_order),
    TEST (test_stream),      TEST (test_wake),
    TEST (test_first_come),  TEST (test_wake_for_waiter),
    TEST (test_fail_wakes),  TEST (test_undo),
    TEST (test_undo_beyond), TEST (test_runs),
    TEST (test_write_error),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
