/* SPDX-License-Identifier: BSD-2-Clause */
/* The rare answers of the kernel, and the pool.
 *
 * Answers (short, EINTR, EAGAIN, errors, any order) are made by wrapping:
 * preadv2 and pwritev2 for the sync engine, and, for io_uring,
 * io_uring_submit_and_wait, which edits the completions that wait in the ring.
 */

#include <config.h>

#include "test-rig.h"

#include <dirent.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/uio.h>

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
static atomic_uint wrap_submits;
static atomic_uint wrap_plain; /* calls of preadv2 and pwritev2 */
static atomic_int wrap_flags;  /* of the file that the last of them was for */
static _Atomic uint64_t wrap_pos; /* where in it */

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
  wrap_hits = wrap_submits = wrap_plain = 0;
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
  wrap_plain++;
  if (res >= 0) /* else it was no answer of ours */
    res = wrap_result (res);
  if (res >= -1)
    return res;
  errno = (int) -res;
  return -1;
}

ssize_t
__wrap_preadv2 (int fd, const struct iovec *iov, int nr, off_t off, int flags)
{
  wrap_flags = fcntl (fd, F_GETFL);
  wrap_pos = (uint64_t) off;
  return wrap_errno (__real_preadv2 (fd, iov, nr, off, flags));
}

ssize_t
__wrap_pwritev2 (int fd, const struct iovec *iov, int nr, off_t off, int flags)
{
  wrap_flags = fcntl (fd, F_GETFL);
  return wrap_errno (__real_pwritev2 (fd, iov, nr, off, flags));
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

  wrap_submits++;
  if (error != 0) {
    wrap_hits++;
    if (wrap_late) /* the kernel takes all but a request queued meanwhile */
      io_uring_submit (ring);
    return -error;
  }
  /* Of all that is under way, for one that came later would not be edited. */
  nr = (unsigned) max_u64 (nr, io_uring_sq_ready (ring));
  ret = __real_io_uring_submit_and_wait (ring, nr);
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

/* What one test has left must not fail the next. */
static struct rig *
wrapped_rig_of (void **state)
{
  wrap_nothing ();
  return rig_of (state);
}

/* The kernel is made to answer like this; all must be well in the end. */
static void
with_answers (struct rig *t, int error, int nr_errors, size_t bytes)
{
  struct vio io[VIO_MAX];

  for (int op = 0; op < 2; op++) {
    if (op == 0)
      fill (t, 10);
    else
      forget (t);
    wrap_error = error;
    wrap_error_nr = nr_errors;
    wrap_short = bytes;
    wrap_short_nr = bytes > 0 ? 40 : 0;
    wrap_hits = 0;
    move_all (t, op == 0 ? VIO_WRITE : VIO_READ, io);
    wrap_error_nr = wrap_short_nr = 0;
    expect_moved (t, io, 10);
    assert_true (wrap_hits >= (unsigned) nr_errors + (bytes > 0 ? 40 : 0));
    expect_all (t, 10);
  }
  assert_int_equal (t->v[0]->nr_errors + t->v[1]->nr_errors, 0);
}

static void
test_short (void **state)
{
  struct rig *t = wrapped_rig_of (state);

  /* An odd end is possible only with the page cache; without it we go on
   * from the page.
   */
  with_answers (t, 0, 0, t->v[0]->direct ? 3 * PAGE_BYTES + 100 : 100);
  with_answers (t, 0, 0, 5 * PAGE_BYTES);
}

/* Inside an element, and between two. */
static void
test_short_scattered (void **state)
{
  struct rig *t = wrapped_rig_of (state);

  t->scatter = true;
  with_answers (t, 0, 0, t->v[0]->direct ? 3 * PAGE_BYTES + 100 : 100);
  with_answers (t, 0, 0, 5 * PAGE_BYTES);
  with_answers (t, EINTR, 3, 2 * PAGE_BYTES);
  t->scatter = false;
  expect_all (t, 10);
}

/* Through the page cache an odd end is no reason to go back to the page. */
static void
test_short_cached (void **state)
{
  struct rig *t = wrapped_rig_of (state);

  t->cached = true;
  with_answers (t, 0, 0, t->v[0]->direct ? PAGE_BYTES + 100 : 100);
  t->scatter = true;
  with_answers (t, 0, 0, t->v[0]->direct ? PAGE_BYTES + 100 : 100);
}

/* Cached reads go through the page cache, and nothing else does. */
static void
test_cached_file (void **state)
{
  struct rig *t = wrapped_rig_of (state);
  uint8_t *buf = t->buf[0];
  struct vio io = { .volume = t->v[0], .buf = buf + 1, .bytes = PAGE_BYTES };
  struct vbatch *b = vbatch_get (t->pool);
  int flags = t->v[0]->direct ? O_DIRECT : 0;

  io.cached = true;
  for (unsigned round = 0; round < 2; round++) {
    assert_int_equal (volume_write (t->v[0], 0, buf, PAGE_BYTES), 0);
    assert_int_equal (wrap_flags & (O_DIRECT | O_ACCMODE), flags | O_RDWR);
    assert_int_equal (volume_read (t->v[0], 0, buf, PAGE_BYTES), 0);
    assert_int_equal (wrap_flags & (O_DIRECT | O_ACCMODE), flags | O_RDWR);
    wrap_short_nr = 1; /* and it goes on from there */
    wrap_short = 100;
    wrap_plain = 0;
    vio_start (b, &io);
    vbatch_wait (b);
    assert_int_equal (io.error, 0);
    assert_int_equal (wrap_plain, 2);
    assert_int_equal (wrap_pos, MIB + 100);
    assert_false (wrap_flags & O_DIRECT);
    if (t->v[0]->direct)
      assert_int_equal (wrap_flags & O_ACCMODE, O_RDONLY);
  }
  vbatch_put (b);
}

static void
test_interrupted (void **state)
{
  struct rig *t = wrapped_rig_of (state);

  with_answers (t, EINTR, 9, 0);
  with_answers (t, EAGAIN, 9, 0);
  with_answers (t, EINTR, 3, 2 * PAGE_BYTES);
}

static void
test_never_gets_on (void **state)
{
  struct rig *t = wrapped_rig_of (state);
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
  struct rig *t = wrapped_rig_of (state);
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

/* Nothing at all moved, and no errno: the end, and no reason to go on. */
static void
test_nothing_moved (void **state)
{
  struct rig *t = wrapped_rig_of (state);
  struct vio io[VIO_MAX];
  unsigned nr = 0;

  write_all_ok (t, 30);
  wrap_error_nr = 1;
  move_all (t, VIO_READ, io);
  for (unsigned i = 0; i < VIO_MAX; i++)
    nr += io[i].error == EIO;
  assert_int_equal (nr, 1);
  expect_all (t, 30);
}

/* A pool may have more of them under way. */
static void
move_deep (struct rig *t, struct vpool *pool, enum vio_op op)
{
  size_t bytes = QUARTER / VIO_DEPTH_MAX;
  struct vbatch *b = vbatch_get (pool);
  struct vio io[VIO_DEPTH_MAX];

  assert_int_equal (vbatch_depth (b), VIO_DEPTH_MAX);
  for (unsigned i = 0; i < VIO_DEPTH_MAX; i++) {
    io[i] = (struct vio){ .volume = t->v[0],
                          .op = op,
                          .off = i * bytes,
                          .buf = t->buf[0] + i * bytes,
                          .bytes = bytes };
    vio_start (b, &io[i]);
  }
  vbatch_wait (b);
  for (unsigned i = 0; i < VIO_DEPTH_MAX; i++) {
    assert_int_equal (io[i].error, 0);
    assert_int_equal (io[i].done, bytes);
  }
  vbatch_put (b);
}

static void
test_deep (void **state)
{
  struct rig *t = wrapped_rig_of (state);
  uint8_t *want = test_pages (QUARTER);
  struct vpool *pool;

  assert_int_equal (
      vpool_create_deep (1, 0, t->config->engine, VIO_DEPTH_MAX, &pool), 0);
  fill_one (t, want, 0, 40);
  fill_one (t, t->buf[0], 0, 40);
  move_deep (t, pool, VIO_WRITE);
  memset (t->buf[0], 0xdd, QUARTER);
  wrap_reverse = true;
  wrap_error = EAGAIN;
  wrap_error_nr = 9;
  move_deep (t, pool, VIO_READ);
  wrap_nothing ();
  assert_memory_equal (t->buf[0], want, QUARTER);
  free (want);
  vpool_destroy (pool);
}

/* ---- tests of io_uring only ---- */

/* One alone goes past the ring, more go through it and not past it. */
static void
test_alone (void **state)
{
  struct rig *t = wrapped_rig_of (state);
  struct vio io[2];

  for (unsigned nr = 1; nr <= 2; nr++) {
    struct vbatch *b = vbatch_get (t->pool);

    wrap_submits = wrap_plain = 0;
    for (unsigned i = 0; i < nr; i++) {
      io[i] = quarter (t, VIO_WRITE, i);
      vio_start (b, &io[i]);
    }
    vbatch_wait (b);
    assert_int_equal (io[nr - 1].error, 0);
    assert_int_equal (io[nr - 1].done, QUARTER);
    assert_int_equal (wrap_plain, nr == 1 ? 1 : 0);
    assert_true (nr == 1 ? wrap_submits == 0 : wrap_submits >= 1);
    vbatch_put (b);
  }
}

static void
test_any_order (void **state)
{
  struct rig *t = wrapped_rig_of (state);

  wrap_reverse = true;
  write_all_ok (t, 14);
  expect_all (t, 14);
  assert_true (wrap_hits >= 4);
}

static void
test_submit_again (void **state)
{
  struct rig *t = wrapped_rig_of (state);
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
  struct rig *t = wrapped_rig_of (state);

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
  assert_int_equal (vpool_bounce_bytes (g.pool), PAGE_BYTES);
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    FILES (test_short),
    FILES (test_short_scattered),
    FILES (test_short_cached),
    FILES (test_cached_file),
    FILES (test_interrupted),
    FILES (test_never_gets_on),
    FILES (test_error),
    FILES (test_nothing_moved),
    FILES (test_deep),
    URING (test_alone),
    URING (test_any_order),
    URING (test_submit_again),
    URING (test_ring_fails),
    cmocka_unit_test (test_pool_without_uring),
    cmocka_unit_test (test_pool_bad_arguments),
    cmocka_unit_test (test_pool_blocks),
  };

  wrap_nothing ();
  rig_look_for_uring ();
  return cmocka_run_group_tests (tests, test_begin, test_end);
}
