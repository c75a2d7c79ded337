/* SPDX-License-Identifier: BSD-2-Clause */
/* Transfers on memory and files, by both engines: every test runs once for
 * each row of configs[] that it is for.
 */

#include <config.h>

#include "test-rig.h"

#include <errno.h>
#include <pthread.h>

/* ---- tests of every medium and engine ---- */

static void
test_four_at_once (void **state)
{
  struct rig *t = rig_of (state);

  assert_string_equal (vpool_engine_name (t->pool),
                       is_uring (t) ? "io_uring" : "sync");
  assert_true (t->config->memory != t->v[0]->batched);
  assert_true (t->config->memory != t->v[0]->checked);
  assert_int_equal (t->v[0]->align, t->v[0]->direct ? PAGE_BYTES : 1);
  for (uint64_t round = 1; round < 4; round++) {
    write_all_ok (t, round);
    expect_all (t, round);
  }
  assert_int_equal (t->v[0]->nr_errors, 0);
}

/* Random ranges, and a copy in memory of what they must have made. */
static void
test_random_ranges (void **state)
{
  struct rig *t = rig_of (state);
  uint64_t seed = test_seed ();
  uint8_t *model = test_pages (VIO_MAX * QUARTER);

  write_all_ok (t, 1);
  for (unsigned i = 0; i < VIO_MAX; i++)
    memcpy (model + i * QUARTER, t->buf[i], QUARTER);
  for (uint64_t round = 2; round < 200; round++) {
    struct vbatch *b = vbatch_get (t->pool);
    struct vio io[VIO_MAX];

    for (unsigned i = 0; i < VIO_MAX; i++) {
      uint64_t first = test_random (&seed) % NR_PAGES;
      uint64_t nr = 1 + test_random (&seed) % min_u64 (32, NR_PAGES - first);
      enum vio_op op = test_random (&seed) % 2 ? VIO_READ : VIO_WRITE;

      io[i] = quarter (t, op, i);
      io[i].off += first * PAGE_BYTES;
      io[i].bytes = nr * PAGE_BYTES;
      if (op == VIO_WRITE) {
        test_pattern (io[i].buf, io[i].bytes, io[i].off, round);
        memcpy (model + i / 2 * DATA_BYTES + io[i].off, io[i].buf, io[i].bytes);
      }
      vio_start (b, &io[i]);
    }
    vbatch_wait (b);
    vbatch_put (b);
    for (unsigned i = 0; i < VIO_MAX; i++) {
      assert_int_equal (io[i].error, 0);
      assert_memory_equal (io[i].buf, model + i / 2 * DATA_BYTES + io[i].off,
                           io[i].bytes);
    }
  }
  free (model);
}

/* What is written scattered is read in one piece, and the reverse. */
static void
test_scattered (void **state)
{
  struct rig *t = rig_of (state);

  for (uint64_t round = 1; round < 5; round++) {
    t->scatter = round % 2;
    write_all_ok (t, round);
    expect_all (t, round);
    t->scatter = !t->scatter;
    expect_all (t, round);
  }
}

/* Elements of one to eight pages, with gaps between them that stay. */
static void
test_elements (void **state)
{
  struct rig *t = rig_of (state);
  struct iovec iov[VIO_IOV_MAX];
  uint64_t seed = test_seed ();
  uint8_t *model = test_pages (QUARTER);

  for (uint64_t round = 1; round < 100; round++) {
    struct vbatch *b = vbatch_get (t->pool);
    struct vio io = { .volume = t->v[0], .iov = iov };
    size_t at = 0;

    memset (t->buf[0], (int) round, QUARTER);
    memcpy (model, t->buf[0], QUARTER);
    while (at + 16 * PAGE_BYTES < QUARTER / 2) {
      size_t bytes = (1 + test_random (&seed) % 8) * PAGE_BYTES;

      at += test_random (&seed) % 3 * PAGE_BYTES;
      iov[io.nr_iov++] = (struct iovec){ t->buf[0] + at, bytes };
      test_pattern (model + at, bytes, io.bytes, round);
      io.bytes += bytes;
      at += bytes;
    }
    test_pattern (t->buf[1], io.bytes, 0, round);
    assert_int_equal (volume_write (t->v[0], QUARTER, t->buf[1], io.bytes), 0);
    io.off = QUARTER;
    vio_start (b, &io);
    vbatch_wait (b);
    vbatch_put (b);
    assert_int_equal (io.error, 0);
    assert_memory_equal (t->buf[0], model, QUARTER);
  }
  free (model);
}

/* A cached read sees each write at once, and a trim; its memory may be
 * anywhere.
 */
static void
test_cached (void **state)
{
  struct rig *t = rig_of (state);
  uint8_t *odd = (uint8_t *) test_pages (QUARTER + PAGE_BYTES) + 3;
  uint8_t *want = test_pages (QUARTER);
  struct iovec iov[2] = { { odd + MIB / 2, MIB / 2 }, { odd, MIB / 2 } };
  struct vio io = { .volume = t->v[1], .cached = true, .bytes = QUARTER };
  struct vbatch *b = vbatch_get (t->pool);

  t->cached = true;
  for (uint64_t round = 1; round < 20; round++) {
    write_all_ok (t, round);
    expect_all (t, round);
    io.buf = odd;
    io.iov = round % 2 ? iov : NULL;
    io.nr_iov = 2;
    vio_start (b, &io);
    vbatch_wait (b);
    assert_int_equal (io.error, 0);
    test_pattern (want, QUARTER, 2 * QUARTER, round);
    assert_memory_equal (io.iov ? iov[0].iov_base : odd, want, MIB / 2);
    assert_memory_equal (io.iov ? odd : odd + MIB / 2, want + MIB / 2, MIB / 2);
  }
  assert_int_equal (volume_trim (t->v[1], 0, QUARTER), 0);
  io.iov = NULL;
  vio_start (b, &io);
  vbatch_wait (b);
  memset (want, 0, QUARTER);
  assert_memory_equal (odd, want, QUARTER);
  vbatch_put (b);
  free (odd - 3);
  free (want);
}

/* With no pool, and one that is used up does not matter. */
static void
test_alone (void **state)
{
  struct rig *t = rig_of (state);
  struct vbatch *b[POOL_NR];

  for (unsigned i = 0; i < POOL_NR; i++)
    b[i] = vbatch_get (t->pool);
  fill (t, 7);
  for (unsigned i = 0; i < VIO_MAX; i++)
    assert_int_equal (
        volume_write (t->v[i / 2], i % 2 * QUARTER, t->buf[i], QUARTER), 0);
  memset (t->buf[0], 0, QUARTER);
  assert_int_equal (volume_read (t->v[1], QUARTER, t->buf[0], QUARTER), 0);
  assert_memory_equal (t->buf[0], t->buf[3], QUARTER);
  assert_int_equal (
      volume_read (t->v[0], PAGE_BYTES, t->buf[0] + PAGE_BYTES, PAGE_BYTES), 0);
  test_pattern (t->buf[1], PAGE_BYTES, PAGE_BYTES, 7);
  assert_memory_equal (t->buf[0] + PAGE_BYTES, t->buf[1], PAGE_BYTES);
  for (unsigned i = 0; i < POOL_NR; i++)
    vbatch_put (b[i]);
  expect_all (t, 7);
}

static void
test_flush (void **state)
{
  struct rig *t = rig_of (state);

  write_all_ok (t, 5);
  assert_int_equal (volume_flush (t->v[0]), 0);
  assert_int_equal (volume_flush (t->v[1]), 0);
  expect_all (t, 5);
}

/* A client's buffer at an odd address goes through the bounce buffer. */
static void
test_bounce (void **state)
{
  struct rig *t = rig_of (state);
  uint8_t *odd = (uint8_t *) test_pages (2 * BOUNCE) + 3;
  struct vbatch *b = vbatch_get (t->pool);
  struct vio io = quarter (t, VIO_WRITE, 0);

  assert_int_equal (vpool_bounce_bytes (t->pool), BOUNCE);
  assert_int_equal ((uintptr_t) vbatch_bounce (b) % PAGE_BYTES, 0);
  memset (odd, 0x5a, BOUNCE);
  memcpy (vbatch_bounce (b), odd, BOUNCE);
  io.buf = vbatch_bounce (b);
  io.bytes = BOUNCE;
  vio_start (b, &io);
  vbatch_wait (b);
  assert_int_equal (io.error, 0);
  memset (vbatch_bounce (b), 0, BOUNCE);
  io.op = VIO_READ;
  vio_start (b, &io);
  vbatch_wait (b);
  assert_memory_equal (vbatch_bounce (b), odd, BOUNCE);
  vbatch_put (b);
  free (odd - 3);
}

static void
test_trim (void **state)
{
  struct rig *t = rig_of (state);
  uint64_t before, after;

  write_all_ok (t, 6);
  assert_int_equal (volume_flush (t->v[0]), 0);
  before = rig_blocks (t, 0);
  assert_int_equal (volume_trim (t->v[0], PAGE_BYTES, MIB), 0);
  after = rig_blocks (t, 0);
  assert_true (before >= after + MIB / 512);
  /* Its neighbours are what they were. */
  for (unsigned i = 0; i < 2; i++) {
    struct vbatch *b = vbatch_get (t->pool);
    struct vio io = quarter (t, VIO_READ, 0);
    uint8_t want[PAGE_BYTES];

    io.off = i == 0 ? 0 : MIB + PAGE_BYTES;
    io.bytes = PAGE_BYTES;
    vio_start (b, &io);
    vbatch_wait (b);
    vbatch_put (b);
    test_pattern (want, PAGE_BYTES, io.off, 6);
    assert_memory_equal (io.buf, want, PAGE_BYTES);
  }
  write_all_ok (t, 7);
  expect_all (t, 7);
}

struct writer {
  struct rig *t;
  unsigned nr;
  int error;
  pthread_t thread;
};
#define NR_WRITERS 8

/* One of many that write and read pages of their own. */
static void *
writer (void *arg)
{
  struct writer *w = arg;
  uint8_t *buf = aligned_alloc (PAGE_BYTES, 2 * PAGE_BYTES);

  for (uint64_t round = 0; round < 100 && w->error == 0; round++) {
    struct vbatch *b = vbatch_get (w->t->pool);
    struct vio io = { .volume = w->t->v[round % 2],
                      .op = VIO_WRITE,
                      .off = (round * NR_WRITERS + w->nr) % 512 * PAGE_BYTES,
                      .buf = buf,
                      .bytes = PAGE_BYTES };

    test_pattern (buf, PAGE_BYTES, io.off, round + w->nr);
    vio_start (b, &io);
    vbatch_wait (b);
    w->error = io.error;
    io.op = VIO_READ;
    io.buf = buf + PAGE_BYTES;
    vio_start (b, &io);
    vbatch_wait (b);
    vbatch_put (b);
    if (io.error != 0 || memcmp (buf, buf + PAGE_BYTES, PAGE_BYTES) != 0)
      w->error = EIO;
  }
  free (buf);
  return NULL;
}

static void
test_threads (void **state)
{
  struct rig *t = rig_of (state);
  struct writer w[NR_WRITERS];

  for (unsigned i = 0; i < NR_WRITERS; i++) {
    w[i] = (struct writer){ .t = t, .nr = i };
    assert_int_equal (pthread_create (&w[i].thread, NULL, writer, &w[i]), 0);
  }
  for (unsigned i = 0; i < NR_WRITERS; i++) {
    pthread_join (w[i].thread, NULL);
    assert_int_equal (w[i].error, 0);
  }
  assert_int_equal (vpool_nr_used (t->pool), 0);
}

/* ---- tests of files only ---- */

static void
truncated (struct rig *t, uint64_t bytes)
{
  struct vio io[VIO_MAX];

  write_all_ok (t, 8);
  assert_int_equal (truncate (file_name (1), (off_t) bytes), 0);
  move_all (t, VIO_READ, io);
  assert_int_equal (io[0].error, 0);
  assert_int_equal (io[1].error, 0);
  assert_int_equal (io[2].error, 0);
  assert_int_equal (io[3].error, EIO);
  assert_int_equal (t->v[0]->nr_errors, 0);
  assert_int_equal (t->v[1]->nr_errors, 1);
  assert_int_equal (test_log_has ("read of 1048576 bytes at 1048576"), 1);
  assert_int_equal (volume_read (t->v[1], QUARTER, t->buf[0], QUARTER), EIO);
  /* The batch is as good as new, and so is the volume when it is whole. */
  assert_int_equal (truncate (file_name (1), MIB + DATA_BYTES), 0);
  write_all_ok (t, 9);
  expect_all (t, 9);
}

static void
test_truncated (void **state)
{
  truncated (rig_of (state), MIB + QUARTER + QUARTER / 2);
}

static void
test_truncated_in_page (void **state)
{
  truncated (rig_of (state), MIB + QUARTER + QUARTER / 2 + 777);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    ALL (test_four_at_once), ALL (test_random_ranges),
    ALL (test_scattered),    ALL (test_elements),
    ALL (test_cached),       ALL (test_alone),
    ALL (test_flush),        ALL (test_bounce),
    ALL (test_trim),         ALL (test_threads),
    FILES (test_truncated),  FILES (test_truncated_in_page),
  };

  rig_look_for_uring ();
  return cmocka_run_group_tests (tests, test_begin, test_end);
}
