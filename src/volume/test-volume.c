/* SPDX-License-Identifier: BSD-2-Clause */
/* Transfers on memory and files, by both engines.
 *
 * Every test of the first group runs once for each row of configs[].  The
 * kernel's rare answers (short, EINTR, EAGAIN, errors, any order) are made by
 * wrapping: preadv2 and pwritev2 for the sync engine, and, for io_uring,
 * io_uring_submit_and_wait, which edits the completions that wait in the ring.
 */

#include <config.h>

#include "test-common.h"

#include <dirent.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "env.h"

/* ---- the kernel, wrapped ---- */

static atomic_int wrap_error;    /* what the next calls fail with ... */
static atomic_int wrap_error_nr; /* ... and how many */
static atomic_size_t wrap_short; /* at most this many bytes at a time */
static atomic_int wrap_short_nr; /* so many times */
static atomic_bool wrap_reverse; /* completions in the reverse order */
static atomic_int wrap_submit;   /* the next submit fails with this ... */
static atomic_bool wrap_late;    /* ... after it has submitted one */
static atomic_int wrap_init_nr;  /* io_uring_queue_init fails after so many */
static atomic_uint wrap_hits;

extern ssize_t __real_preadv2 (int, const struct iovec *, int, off_t, int);
extern ssize_t __real_pwritev2 (int, const struct iovec *, int, off_t, int);
extern int __real_io_uring_submit_and_wait (struct io_uring *, unsigned);
extern int __real_io_uring_queue_init (unsigned, struct io_uring *, unsigned);
extern ssize_t __wrap_preadv2 (int, const struct iovec *, int, off_t, int);
extern ssize_t __wrap_pwritev2 (int, const struct iovec *, int, off_t, int);
extern int __wrap_io_uring_submit_and_wait (struct io_uring *, unsigned);
extern int __wrap_io_uring_queue_init (unsigned, struct io_uring *, unsigned);

static void
wrap_nothing (void)
{
  wrap_error = wrap_error_nr = wrap_submit = wrap_short_nr = 0;
  wrap_short = 0;
  wrap_reverse = wrap_late = false;
  wrap_init_nr = INT_MAX;
  wrap_hits = 0;
}

/* The answer to give instead of res. */
static ssize_t
wrap_result (ssize_t res)
{
  if (wrap_error_nr > 0) {
    wrap_error_nr--;
    wrap_hits++;
    return -wrap_error;
  }
  if (wrap_short_nr > 0 && res > (ssize_t) wrap_short) {
    wrap_short_nr--;
    wrap_hits++;
    return (ssize_t) wrap_short;
  }
  return res;
}

static ssize_t
wrap_errno (ssize_t res)
{
  if (res < 0) {
    errno = (int) -res;
    return -1;
  }
  return res;
}

ssize_t
__wrap_preadv2 (int fd, const struct iovec *iov, int nr, off_t off, int flags)
{
  ssize_t res = wrap_result ((ssize_t) iov->iov_len);
  struct iovec cut = { iov->iov_base, (size_t) res };

  return res < 0 ? wrap_errno (res) : __real_preadv2 (fd, &cut, nr, off, flags);
}

ssize_t
__wrap_pwritev2 (int fd, const struct iovec *iov, int nr, off_t off, int flags)
{
  ssize_t res = wrap_result ((ssize_t) iov->iov_len);
  struct iovec cut = { iov->iov_base, (size_t) res };

  return res < 0 ? wrap_errno (res)
                 : __real_pwritev2 (fd, &cut, nr, off, flags);
}

static void
edit_completions (struct io_uring *ring)
{
  unsigned mask = *ring->cq.kring_mask, head = *ring->cq.khead;
  unsigned nr = io_uring_cq_ready (ring);
  struct io_uring_cqe *cqes = ring->cq.cqes;

  for (unsigned i = 0; i < nr; i++) {
    struct io_uring_cqe *c = &cqes[(head + i) & mask];

    c->res = (int) wrap_result (c->res);
  }
  for (unsigned i = 0; wrap_reverse && i < nr / 2; i++) {
    struct io_uring_cqe *a = &cqes[(head + i) & mask];
    struct io_uring_cqe *b = &cqes[(head + nr - 1 - i) & mask];
    struct io_uring_cqe x = { .user_data = a->user_data, .res = a->res };

    a->user_data = b->user_data;
    a->res = b->res;
    b->user_data = x.user_data;
    b->res = x.res;
    wrap_hits++;
  }
}

int
__wrap_io_uring_submit_and_wait (struct io_uring *ring, unsigned nr)
{
  int ret, error = atomic_exchange (&wrap_submit, 0);

  if (error != 0) {
    wrap_hits++;
    if (wrap_late) /* the kernel takes all but a request queued meanwhile */
      io_uring_submit (ring);
    return -error;
  }
  ret = __real_io_uring_submit_and_wait (ring, wrap_reverse ? VIO_MAX : nr);
  edit_completions (ring);
  return ret;
}

int
__wrap_io_uring_queue_init (unsigned nr, struct io_uring *ring, unsigned flags)
{
  if (wrap_init_nr-- <= 0)
    return -ENOSYS;
  return __real_io_uring_queue_init (nr, ring, flags);
}

/* ---- what each test of the first group gets ---- */

struct config {
  bool memory;
  enum vpool_engine engine;
  enum volume_direct direct;
};

static const struct config configs[] = {
  { .memory = true, .engine = VPOOL_SYNC },
  { .engine = VPOOL_SYNC, .direct = DIRECT_NO },
  { .engine = VPOOL_SYNC, .direct = DIRECT_AUTO },
  { .engine = VPOOL_URING, .direct = DIRECT_NO },
  { .engine = VPOOL_URING, .direct = DIRECT_AUTO },
};

#define NR_VOLUMES 2
#define DATA_BYTES (2 * MIB)
#define BOUNCE     (128 * 1024)
#define POOL_NR    3
#define QUARTER    (DATA_BYTES / 2) /* of the bytes of both volumes */

struct bench {
  const struct config *config;
  struct volume *v[NR_VOLUMES];
  struct vpool *pool;
  uint8_t *buf[VIO_MAX]; /* QUARTER bytes each */
};

static bool uring_works;

static const char *
file_name (int i)
{
  return test_path (i == 0 ? "a" : "b");
}

static int
setup (void **state)
{
  const struct config *config = *state;
  struct volume_path_options options = { .sparse = true,
                                         .direct = config->direct };
  struct bench *t;

  if (config->engine == VPOOL_URING && !uring_works)
    return 0; /* *state stays the config: bench_of () skips */
  wrap_nothing ();
  test_log_forget ();
  t = calloc (1, sizeof *t);
  t->config = config;
  for (int i = 0; i < NR_VOLUMES; i++) {
    if (config->memory) {
      assert_int_equal (
          volume_open_memory ("mem:2M", DATA_BYTES, true, &t->v[i]), 0);
    } else {
      test_file (i == 0 ? "a" : "b", MIB + DATA_BYTES);
      assert_int_equal (volume_open_path (file_name (i), &options, &t->v[i]),
                        0);
    }
    assert_int_equal (t->v[i]->size_bytes, DATA_BYTES);
  }
  for (int i = 0; i < VIO_MAX; i++)
    t->buf[i] = test_pages (QUARTER);
  assert_int_equal (vpool_create (POOL_NR, BOUNCE, config->engine, &t->pool),
                    0);
  *state = t;
  return 0;
}

static int
teardown (void **state)
{
  struct bench *t = *state;

  if ((const void *) t >= (const void *) configs &&
      (const void *) t < (const void *) (&configs[0] + 5))
    return 0; /* was skipped */
  wrap_nothing ();
  vpool_destroy (t->pool);
  for (int i = 0; i < NR_VOLUMES; i++) {
    volume_close (t->v[i]);
    if (!t->config->memory)
      unlink (file_name (i));
  }
  for (int i = 0; i < VIO_MAX; i++)
    free (t->buf[i]);
  free (t);
  return 0;
}

static struct bench *
bench_of (void **state)
{
  const struct config *c = *state;

  for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++)
    if (c == &configs[i]) {
      print_message ("skipped: this kernel gives us no io_uring\n");
      skip ();
    }
  return *state;
}

static bool
is_uring (const struct bench *t)
{
  return t->config->engine == VPOOL_URING;
}

/* The i-th of VIO_MAX transfers that together cover both volumes. */
static struct vio
quarter (struct bench *t, enum vio_op op, unsigned i)
{
  return (struct vio){ .volume = t->v[i / 2],
                       .op = op,
                       .off = i % 2 * QUARTER,
                       .buf = t->buf[i],
                       .bytes = QUARTER };
}

static void
move_all (struct bench *t, enum vio_op op, struct vio io[VIO_MAX])
{
  struct vbatch *b = vbatch_get (t->pool);

  for (unsigned i = 0; i < VIO_MAX; i++) {
    io[i] = quarter (t, op, i);
    vio_start (b, &io[i]);
  }
  vbatch_wait (b);
  vbatch_put (b);
}

static void
fill (struct bench *t, uint64_t round)
{
  for (unsigned i = 0; i < VIO_MAX; i++)
    test_pattern (t->buf[i], QUARTER, i * QUARTER, round);
}

/* All of both volumes must be the pattern of this round. */
static void
expect_all (struct bench *t, uint64_t round)
{
  uint8_t *want = test_pages (QUARTER);
  struct vio io[VIO_MAX];

  for (unsigned i = 0; i < VIO_MAX; i++)
    memset (t->buf[i], 0xdd, QUARTER);
  move_all (t, VIO_READ, io);
  for (unsigned i = 0; i < VIO_MAX; i++) {
    test_pattern (want, QUARTER, i * QUARTER, round);
    assert_int_equal (io[i].error, 0);
    assert_int_equal (io[i].done, QUARTER);
    assert_memory_equal (t->buf[i], want, QUARTER);
  }
  free (want);
}

static void
write_all_ok (struct bench *t, uint64_t round)
{
  struct vio io[VIO_MAX];

  fill (t, round);
  move_all (t, VIO_WRITE, io);
  for (unsigned i = 0; i < VIO_MAX; i++)
    assert_int_equal (io[i].error, 0);
}

/* ---- tests of every medium and engine ---- */

static void
test_four_at_once (void **state)
{
  struct bench *t = bench_of (state);

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
  struct bench *t = bench_of (state);
  uint64_t seed = test_seed (), nr_pages = QUARTER / PAGE_BYTES;
  uint8_t *model = test_pages (VIO_MAX * QUARTER);

  write_all_ok (t, 1);
  for (unsigned i = 0; i < VIO_MAX; i++)
    memcpy (model + i * QUARTER, t->buf[i], QUARTER);
  for (uint64_t round = 2; round < 200; round++) {
    struct vbatch *b = vbatch_get (t->pool);
    struct vio io[VIO_MAX];

    for (unsigned i = 0; i < VIO_MAX; i++) {
      uint64_t first = test_random (&seed) % nr_pages;
      uint64_t nr = 1 + test_random (&seed) % min_u64 (32, nr_pages - first);
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

static void
test_flush (void **state)
{
  struct bench *t = bench_of (state);

  write_all_ok (t, 5);
  assert_int_equal (volume_flush (t->v[0]), 0);
  assert_int_equal (volume_flush (t->v[1]), 0);
  expect_all (t, 5);
}

/* A client's buffer at an odd address goes through the bounce buffer. */
static void
test_bounce (void **state)
{
  struct bench *t = bench_of (state);
  uint8_t *odd = (uint8_t *) test_pages (2 * BOUNCE) + 3;
  struct vbatch *b = vbatch_get (t->pool);
  struct vio io = quarter (t, VIO_WRITE, 0);

  assert_int_equal (vbatch_bounce_bytes (b), BOUNCE);
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

/* st_blocks of the i-th volume: of its file, or of the i-th memfd of ours. */
static uint64_t
volume_blocks (struct bench *t, int nr)
{
  DIR *dir;
  struct dirent *e;
  uint64_t blocks = 0;

  if (!t->config->memory)
    return test_blocks (file_name (nr));
  dir = opendir ("/proc/self/fd");
  assert_non_null (dir);
  while ((e = readdir (dir)) != NULL) {
    char link[64] = "";
    struct stat st;

    if (readlinkat (dirfd (dir), e->d_name, link, sizeof link - 1) > 0 &&
        strstr (link, "memfd:farpage") != NULL && nr-- == 0) {
      assert_int_equal (fstat (atoi (e->d_name), &st), 0);
      blocks = (uint64_t) st.st_blocks;
    }
  }
  closedir (dir);
  return blocks;
}

static void
test_trim (void **state)
{
  struct bench *t = bench_of (state);
  uint64_t before, after;

  write_all_ok (t, 6);
  assert_int_equal (volume_flush (t->v[0]), 0);
  before = volume_blocks (t, 0);
  assert_int_equal (volume_trim (t->v[0], PAGE_BYTES, MIB), 0);
  after = volume_blocks (t, 0);
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
  struct bench *t;
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
  struct bench *t = bench_of (state);
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
truncated (struct bench *t, uint64_t bytes)
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
  /* The batch is as good as new, and so is the volume when it is whole. */
  assert_int_equal (truncate (file_name (1), MIB + DATA_BYTES), 0);
  write_all_ok (t, 9);
  expect_all (t, 9);
}

static void
test_truncated (void **state)
{
  truncated (bench_of (state), MIB + QUARTER + QUARTER / 2);
}

static void
test_truncated_in_page (void **state)
{
  truncated (bench_of (state), MIB + QUARTER + QUARTER / 2 + 777);
}

/* The kernel is made to answer like this; all must be well in the end. */
static void
with_answers (struct bench *t, int error, int nr_errors, size_t bytes)
{
  struct vio io[VIO_MAX];

  for (int op = 0; op < 2; op++) {
    fill (t, 10);
    wrap_error = error;
    wrap_error_nr = nr_errors;
    wrap_short = bytes;
    wrap_short_nr = bytes > 0 ? 40 : 0;
    wrap_hits = 0;
    move_all (t, op == 0 ? VIO_WRITE : VIO_READ, io);
    wrap_error_nr = wrap_short_nr = 0;
    for (unsigned i = 0; i < VIO_MAX; i++) {
      assert_int_equal (io[i].error, 0);
      assert_int_equal (io[i].done, QUARTER);
    }
    assert_true (wrap_hits >= (unsigned) nr_errors + (bytes > 0 ? 40 : 0));
    expect_all (t, 10);
  }
  assert_int_equal (t->v[0]->nr_errors + t->v[1]->nr_errors, 0);
}

static void
test_short (void **state)
{
  struct bench *t = bench_of (state);

  /* An odd end is possible only with the page cache; without it we go on
   * from the page.
   */
  with_answers (t, 0, 0, t->v[0]->direct ? 3 * PAGE_BYTES + 512 : 100);
  with_answers (t, 0, 0, 5 * PAGE_BYTES);
}

static void
test_interrupted (void **state)
{
  struct bench *t = bench_of (state);

  with_answers (t, EINTR, 9, 0);
  with_answers (t, EAGAIN, 9, 0);
  with_answers (t, EINTR, 3, 2 * PAGE_BYTES);
}

static void
test_never_gets_on (void **state)
{
  struct bench *t = bench_of (state);
  struct vio io[VIO_MAX];

  write_all_ok (t, 11);
  wrap_error = EINTR;
  wrap_error_nr = INT_MAX;
  move_all (t, VIO_READ, io);
  wrap_nothing ();
  for (unsigned i = 0; i < VIO_MAX; i++)
    assert_int_equal (io[i].error, EIO);
  expect_all (t, 11);
}

static void
test_error (void **state)
{
  struct bench *t = bench_of (state);
  struct vio io[VIO_MAX];
  unsigned nr = 0;

  fill (t, 12);
  wrap_error = ENOSPC;
  wrap_error_nr = 2;
  move_all (t, VIO_WRITE, io);
  for (unsigned i = 0; i < VIO_MAX; i++) {
    assert_true (io[i].error == 0 || io[i].error == ENOSPC);
    nr += io[i].error == ENOSPC;
  }
  assert_int_equal (nr, 2);
  assert_int_equal (t->v[0]->nr_errors + t->v[1]->nr_errors, 2);
  assert_true (test_log_has (strerror (ENOSPC)) >= 1);
  write_all_ok (t, 13);
  expect_all (t, 13);
}

/* ---- tests of io_uring only ---- */

static void
test_any_order (void **state)
{
  struct bench *t = bench_of (state);

  wrap_reverse = true;
  write_all_ok (t, 14);
  expect_all (t, 14);
  assert_true (wrap_hits >= 4);
}

static void
test_submit_again (void **state)
{
  struct bench *t = bench_of (state);
  static const int errors[] = { EAGAIN, EBUSY, EINTR, ENOMEM };

  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    wrap_submit = errors[i];
    write_all_ok (t, 15 + i);
    expect_all (t, 15 + i);
  }
  assert_int_equal (wrap_hits, 4);
  assert_int_equal (test_log_has ("io_uring failed"), 0);
}

/* The ring fails for good, before or after the kernel has taken requests. */
static void
test_ring_fails (void **state)
{
  struct bench *t = bench_of (state);

  for (unsigned late = 0; late < 2; late++) {
    test_log_forget ();
    wrap_late = late;
    wrap_submit = EFAULT;
    write_all_ok (t, 20 + late);
    assert_int_equal (test_log_has ("io_uring failed"), 1);
    expect_all (t, 20 + late);
    /* The next batch taken would be the same one: keep it for the end. */
    if (late == 0) {
      vpool_destroy (t->pool);
      assert_int_equal (vpool_create (POOL_NR, 0, VPOOL_URING, &t->pool), 0);
    }
  }
}

/* ---- tests of pools, on their own ---- */

static unsigned
nr_open_files (void)
{
  DIR *dir = opendir ("/proc/self/fd");
  unsigned nr = 0;

  while (readdir (dir) != NULL)
    nr++;
  closedir (dir);
  return nr;
}

static void
test_pool_without_uring (void **state)
{
  unsigned nr_files = nr_open_files ();
  struct vpool *pool = NULL;

  UNUSED (state);
  for (int nr = 0; nr < 3; nr += 2) {
    if (nr > 0 && !uring_works)
      break;
    wrap_init_nr = nr;
    test_log_forget ();
    assert_int_equal (vpool_create (4, BOUNCE, VPOOL_AUTO, &pool), 0);
    assert_string_equal (vpool_engine_name (pool), "sync");
    assert_int_equal (test_log_has ("no io_uring here"), 1);
    assert_int_equal (nr_open_files (), nr_files);
    vpool_destroy (pool);
    pool = NULL;
    wrap_init_nr = nr;
    assert_int_equal (vpool_create (4, BOUNCE, VPOOL_URING, &pool), ENOSYS);
    assert_null (pool);
    assert_int_equal (nr_open_files (), nr_files);
  }
  wrap_nothing ();
}

static void
test_pool_bad_arguments (void **state)
{
  struct vpool *pool = NULL;

  UNUSED (state);
  assert_int_equal (vpool_create (0, BOUNCE, VPOOL_SYNC, &pool), EINVAL);
  assert_int_equal (vpool_create (1, SIZE_MAX, VPOOL_SYNC, &pool), EINVAL);
  assert_int_equal (vpool_create (2, SIZE_MAX / 2, VPOOL_SYNC, &pool), ENOMEM);
  assert_null (pool);
  vpool_destroy (NULL);
  vbatch_put (NULL);
}

struct getter {
  struct vpool *pool;
  atomic_bool got;
};

static void *
getter (void *arg)
{
  struct getter *g = arg;
  struct vbatch *b = vbatch_get (g->pool);

  g->got = true;
  vbatch_put (b);
  return NULL;
}

static void
test_pool_blocks (void **state)
{
  struct vbatch *b[2];
  struct getter g = { .got = false };
  pthread_t thread[3];

  UNUSED (state);
  assert_int_equal (vpool_create (2, 1, VPOOL_AUTO, &g.pool), 0);
  assert_int_equal (vpool_nr (g.pool), 2);
  for (unsigned i = 0; i < 2; i++) {
    b[i] = vbatch_get (g.pool);
    assert_int_equal (vpool_nr_used (g.pool), i + 1);
  }
  assert_ptr_not_equal (b[0], b[1]);
  assert_int_equal (vbatch_bounce_bytes (b[0]), PAGE_BYTES);
  for (unsigned i = 0; i < 3; i++)
    pthread_create (&thread[i], NULL, getter, &g);
  usleep (50000);
  assert_false (g.got);
  vbatch_put (b[1]);
  for (unsigned i = 0; i < 3; i++)
    pthread_join (thread[i], NULL);
  assert_true (g.got);
  assert_int_equal (vpool_nr_used (g.pool), 1);
  vbatch_put (b[0]);
  vpool_destroy (g.pool);
}

/* ---- tests of memory, on their own ---- */

static void
test_memory_sizes (void **state)
{
  struct volume *v = NULL;

  UNUSED (state);
  assert_int_equal (volume_open_memory ("m", 0, false, &v), EINVAL);
  assert_int_equal (volume_open_memory ("m", VOLUME_BYTES_MIN - 1, false, &v),
                    EINVAL);
  assert_int_equal (volume_open_memory ("m", UINT64_MAX, true, &v), EINVAL);
  test_log_forget ();
  assert_int_equal (volume_open_memory ("m", UINT64_C (1) << 45, false, &v),
                    ENOMEM);
  assert_int_equal (test_log_has ("0 m: no memory for 33554432 MiB"), 1);
  assert_null (v);
  assert_int_equal (volume_open_memory ("m", MIB + 4095, false, &v), 0);
  assert_int_equal (v->size_bytes, MIB);
  assert_string_equal (v->ops->kind, "memory");
  assert_string_equal (v->name, "m");
  assert_int_equal (volume_flush (v), 0);
  assert_int_equal (volume_trim (v, 0, PAGE_BYTES), EOPNOTSUPP);
  volume_close (v);
  volume_close (NULL);
}

static void
test_memory_is_allocated (void **state)
{
  struct bench t = { .config = &configs[0] };
  struct volume *v;

  UNUSED (state);
  assert_int_equal (volume_open_memory ("m", 8 * MIB, false, &v), 0);
  assert_int_equal (volume_blocks (&t, 0), 8 * MIB / 512);
  volume_close (v);
  assert_int_equal (volume_blocks (&t, 0), 0);
  assert_int_equal (volume_open_memory ("m", 8 * MIB, true, &v), 0);
  assert_int_equal (volume_blocks (&t, 0), 0);
  volume_close (v);
}

static void
test_memory_after_fork (void **state)
{
  uint8_t page[PAGE_BYTES];
  struct volume *v;
  struct vio io = { .op = VIO_WRITE, .buf = page, .bytes = PAGE_BYTES };
  int status;
  pid_t pid;

  UNUSED (state);
  assert_int_equal (volume_open_memory ("m", MIB, false, &v), 0);
  io.volume = v;
  memset (page, 1, sizeof page);
  vio_start (NULL, &io);
  pid = fork ();
  if (pid == 0) {
    io.op = VIO_READ;
    memset (page, 0, sizeof page);
    vio_start (NULL, &io);
    if (page[9] != 1)
      _exit (1);
    page[9] = 2;
    io.op = VIO_WRITE;
    vio_start (NULL, &io);
    _exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (status, 0);
  io.op = VIO_READ;
  vio_start (NULL, &io);
  assert_int_equal (page[9], 2);
  volume_close (v);
}

#define CASE(f, i, text)                                               \
  {                                                                    \
#f ", " text, f, setup, teardown, (void *) (uintptr_t) &configs[i] \
  }
#define FILES(f)                                            \
  CASE (f, 1, "sync, cached"), CASE (f, 2, "sync, direct"), \
      CASE (f, 3, "io_uring, cached"), CASE (f, 4, "io_uring, direct")
#define ALL(f)   CASE (f, 0, "memory"), FILES (f)
#define URING(f) CASE (f, 3, "cached"), CASE (f, 4, "direct")

int
main (void)
{
  const struct CMUnitTest tests[] = {
    ALL (test_four_at_once),
    ALL (test_random_ranges),
    ALL (test_flush),
    ALL (test_bounce),
    ALL (test_trim),
    ALL (test_threads),
    FILES (test_truncated),
    FILES (test_truncated_in_page),
    FILES (test_short),
    FILES (test_interrupted),
    FILES (test_never_gets_on),
    FILES (test_error),
    URING (test_any_order),
    URING (test_submit_again),
    URING (test_ring_fails),
    cmocka_unit_test (test_pool_without_uring),
    cmocka_unit_test (test_pool_bad_arguments),
    cmocka_unit_test (test_pool_blocks),
    cmocka_unit_test (test_memory_sizes),
    cmocka_unit_test (test_memory_is_allocated),
    cmocka_unit_test (test_memory_after_fork),
  };
  struct vpool *pool;

  wrap_nothing ();
  uring_works = vpool_create (1, 0, VPOOL_URING, &pool) == 0;
  if (uring_works)
    vpool_destroy (pool);
  return cmocka_run_group_tests (tests, test_begin, test_end);
}
