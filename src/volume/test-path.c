/* SPDX-License-Identifier: BSD-2-Clause */
/* What a path volume is opened on: type, size, rights, lock, blocks, O_DIRECT.
 * Label and other data are in test-label.c, block devices in test-block.c.
 */

#include <config.h>

#include "test-common.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "env.h"
#include "medium.h"

#define SIZE_BYTES (4 * MIB)

/* ---- the kernel, wrapped ---- */

static bool wrap_no_direct;      /* a page at a page's place: EINVAL */
static bool wrap_replace;        /* ... and "v" is another file then */
static int wrap_fallocate_error; /* of the next call */
static int wrap_fallocate_calls;
static bool wrap_full;             /* no block is free, says statvfs */
static atomic_int wrap_sync_error; /* of the next call, told once ... */
static atomic_int wrap_sync_wait;  /* ... when so many are in it */
static atomic_int wrap_sync_calls;

extern ssize_t __real_pread (int, void *, size_t, off_t);
extern int __real_fallocate (int, int, off_t, off_t);
extern int __real_fstatvfs (int, struct statvfs *);
extern int __real_fdatasync (int);
extern int __wrap_fdatasync (int);
extern ssize_t __wrap_pread (int, void *, size_t, off_t);
extern int __wrap_fallocate (int, int, off_t, off_t);
extern int __wrap_fstatvfs (int, struct statvfs *);

ssize_t
__wrap_pread (int fd, void *buf, size_t len, off_t off)
{
  if (wrap_no_direct && len == PAGE_BYTES && off == (off_t) PAGE_BYTES) {
    errno = EINVAL;
    return -1;
  }
  if (wrap_replace && len == PAGE_BYTES && off == (off_t) PAGE_BYTES) {
    char path[2 * PATH_MAX];

    strcpy (path, test_file ("w", SIZE_BYTES));
    assert_int_equal (rename (path, test_path ("v")), 0);
  }
  return __real_pread (fd, buf, len, off);
}

int
__wrap_fallocate (int fd, int mode, off_t off, off_t len)
{
  wrap_fallocate_calls++;
  if (wrap_fallocate_error != 0) {
    errno = wrap_fallocate_error;
    wrap_fallocate_error = 0;
    return -1;
  }
  return __real_fallocate (fd, mode, off, len);
}

int
__wrap_fstatvfs (int fd, struct statvfs *fs)
{
  int ret = __real_fstatvfs (fd, fs);

  if (wrap_full)
    fs->f_bfree = 0;
  return ret;
}

int
__wrap_fdatasync (int fd)
{
  int nr = atomic_fetch_add (&wrap_sync_calls, 1) + 1, error;

  error = atomic_exchange (&wrap_sync_error, 0);
  /* Time for the others to come, if they are let. */
  for (unsigned i = 0; error != EINTR && nr < wrap_sync_wait && i < 300; i++) {
    usleep (1000);
    nr = wrap_sync_calls;
  }
  if (error == 0)
    return __real_fdatasync (fd);
  errno = error;
  return -1;
}

static const struct volume_path_options plain = { .sparse = true };
static const struct volume_path_options forced = { .sparse = true,
                                                   .force = true };

static int
setup (void **state)
{
  UNUSED (state);
  wrap_no_direct = wrap_replace = wrap_full = false;
  wrap_fallocate_error = wrap_fallocate_calls = 0;
  wrap_sync_error = wrap_sync_wait = wrap_sync_calls = 0;
  test_log_forget ();
  return 0;
}

static int
teardown (void **state)
{
  UNUSED (state);
  env_set (NULL);
  unlink (test_path ("v"));
  return 0;
}

/* ---- what is no volume ---- */

static void
test_missing (void **state)
{
  UNUSED (state);
  assert_int_equal (test_open (test_path ("none"), &plain), ENOENT);
  assert_int_equal (test_log_has ("truncate -s 1G"), 1);
  assert_int_equal (test_log_has (test_path ("none")), 1);
}

static void
test_wrong_types (void **state)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  UNUSED (state);
  assert_int_equal (test_open (test_dir, &plain), EISDIR);
  assert_int_equal (mkfifo (test_path ("v"), 0600), 0);
  assert_int_equal (test_open (test_path ("v"), &plain), EINVAL);
  unlink (test_path ("v"));
  assert_true (strlen (test_path ("v")) < sizeof addr.sun_path);
  strcpy (addr.sun_path, test_path ("v"));
  assert_int_equal (bind (fd, (struct sockaddr *) &addr, sizeof addr), 0);
  assert_int_equal (test_open (test_path ("v"), &plain), EINVAL);
  close (fd);
  assert_int_equal (test_open ("/dev/null", &forced), EINVAL);
  assert_int_equal (test_log_has ("character device"), 3);
}

static void
test_too_small (void **state)
{
  uint64_t least = LABEL_AREA_BYTES + VOLUME_BYTES_MIN;
  struct volume *v;

  UNUSED (state);
  assert_int_equal (test_open (test_file ("v", 0), &plain), EINVAL);
  assert_int_equal (test_open (test_file ("v", least - 1), &plain), EINVAL);
  assert_int_equal (test_log_has ("too few"), 2);
  assert_int_equal (volume_open_path (test_file ("v", least), &plain, &v), 0);
  assert_int_equal (v->size_bytes, VOLUME_BYTES_MIN);
  assert_string_equal (v->ops->kind, "file");
  volume_close (v);
}

/* Run f in a child; its result. */
static int
in_child (int (*f) (const char *), const char *path)
{
  int status;
  pid_t pid = fork ();

  if (pid == 0)
    _exit (f (path));
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_true (WIFEXITED (status));
  return WEXITSTATUS (status);
}

static int
open_as_nobody (const char *path)
{
  if (geteuid () == 0 && setuid (65534) != 0)
    return 77;
  return test_open (path, &plain);
}

static int
open_readonly_mount (const char *path)
{
  if (unshare (CLONE_NEWNS) != 0 ||
      mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
      mount (test_dir, test_dir, NULL, MS_BIND, NULL) != 0 ||
      mount (NULL, test_dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0)
    return 77;
  return test_open (path, &plain);
}

static void
test_not_writable (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);

  UNUSED (state);
  assert_int_equal (chmod (path, 0444), 0);
  assert_int_equal (chmod (test_dir, 0755), 0);
  assert_int_equal (in_child (open_as_nobody, path), EACCES);
}

static void
test_readonly_mount (void **state)
{
  int err = in_child (open_readonly_mount, test_file ("v", SIZE_BYTES));

  UNUSED (state);
  if (err == 77) {
    print_message ("skipped: no mount namespace for us\n");
    skip ();
  }
  assert_int_equal (err, EROFS);
}

/* ---- lock ---- */

static void
test_locked_by_us (void **state)
{
  struct volume_path_options options = plain;
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;
  uint64_t begin_ns;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  assert_int_equal (test_open (path, &plain), EBUSY);
  options.lock_wait_ns = 100 * NS_PER_MS;
  begin_ns = env_now_ns ();
  assert_int_equal (test_open (path, &options), EBUSY);
  begin_ns = env_now_ns () - begin_ns;
  assert_in_range (begin_ns, 100 * NS_PER_MS, 2 * NS_PER_S);
  assert_int_equal (test_log_has ("is in use"), 2);
  volume_close (v);
  assert_int_equal (test_open (path, &plain), 0);
}

/* The lock goes over a fork, and ends with the last who has it. */
static void
test_locked_over_fork (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;
  int pipes[2], status;
  char byte;
  pid_t pid;

  UNUSED (state);
  assert_int_equal (pipe (pipes), 0);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  pid = fork ();
  if (pid == 0) {
    close (pipes[1]);
    _exit (read (pipes[0], &byte, 1) == 0 ? 0 : 1);
  }
  close (pipes[0]);
  volume_close (v);
  assert_int_equal (test_open (path, &plain), EBUSY);
  close (pipes[1]);
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (status, 0);
  assert_int_equal (test_open (path, &plain), 0);
}

static int
open_elsewhere (const char *path)
{
  return test_open (path, &plain);
}

static void
test_locked_by_process (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  assert_int_equal (in_child (open_elsewhere, path), EBUSY);
  volume_close (v);
  assert_int_equal (in_child (open_elsewhere, path), 0);
}

static void *
close_soon (void *v)
{
  usleep (150000);
  volume_close (v);
  return NULL;
}

static uint64_t
fast_now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return 50 * ((uint64_t) ts.tv_sec * NS_PER_S + (uint64_t) ts.tv_nsec);
}

static void
fast_random (void *buf, size_t len)
{
  memset (buf, 0x77, len);
}

/* A holder that goes away in time; the clock runs 50 times as fast, so that
 * the word about the wait, due after 2 s, is seen.
 */
static void
test_lock_is_waited_for (void **state)
{
  static const struct env_ops fast = { .now_ns = fast_now_ns,
                                       .random = fast_random };
  struct volume_path_options options = plain;
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;
  pthread_t thread;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  env_set (&fast);
  assert_int_equal (pthread_create (&thread, NULL, close_soon, v), 0);
  options.lock_wait_ns = 1000 * NS_PER_S;
  assert_int_equal (test_open (path, &options), 0);
  pthread_join (thread, NULL);
  assert_int_equal (test_log_has ("1 "), 1);
  assert_int_equal (test_log_has ("waiting for another process"), 1);
}

/* ---- blocks ---- */

static void
test_blocks_allocated (void **state)
{
  const struct volume_path_options whole = { .sparse = false };
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  assert_true (v->sparse);
  assert_true (test_blocks (path) < 2 * MIB / 512);
  volume_close (v);
  wrap_fallocate_error = EINTR;
  assert_int_equal (volume_open_path (path, &whole, &v), 0);
  assert_true (test_blocks (path) >= SIZE_BYTES / 512);
  assert_int_equal (volume_trim (v, 0, MIB), EOPNOTSUPP);
  assert_true (test_blocks (path) >= SIZE_BYTES / 512);
  volume_close (v);
}

static void
test_blocks_refused (void **state)
{
  const struct volume_path_options whole = { .sparse = false };
  const char *path = test_file ("v", SIZE_BYTES);
  uint8_t first = 1;
  int fd;

  UNUSED (state);
  wrap_full = true;
  assert_int_equal (test_open (path, &whole), ENOSPC);
  assert_int_equal (wrap_fallocate_calls, 0);
  wrap_full = false;
  wrap_fallocate_error = ENOSPC;
  assert_int_equal (test_open (path, &whole), ENOSPC);
  assert_int_equal (test_log_has ("no room"), 2);
  wrap_fallocate_error = EOPNOTSUPP;
  assert_int_equal (test_open (path, &whole), EOPNOTSUPP);
  assert_int_equal (test_log_has ("give sparse=yes, or"), 1);
  wrap_fallocate_error = EFBIG;
  assert_int_equal (test_open (path, &whole), EFBIG);
  fd = open (path, O_RDONLY | O_CLOEXEC);
  assert_int_equal (__real_pread (fd, &first, 1, 0), 1);
  assert_int_equal (first, 0); /* nothing was written */
  close (fd);
  assert_int_equal (test_open (path, &whole), 0);
}

/* ---- past the page cache ---- */

static void
test_direct (void **state)
{
  struct volume_path_options options = plain;
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;

  UNUSED (state);
  options.direct = DIRECT_NO;
  assert_int_equal (volume_open_path (path, &options, &v), 0);
  assert_false (v->direct);
  assert_int_equal (v->align, 1);
  volume_close (v);

  wrap_no_direct = true;
  options.direct = DIRECT_AUTO;
  assert_int_equal (volume_open_path (path, &options, &v), 0);
  assert_false (v->direct);
  assert_int_equal (test_log_has ("no O_DIRECT here"), 1);
  volume_close (v);
  options.direct = DIRECT_YES;
  assert_int_equal (test_open (path, &options), EINVAL);

  wrap_no_direct = false;
  if (volume_open_path (path, &options, &v) != 0) {
    print_message ("skipped: no O_DIRECT in %s\n", test_dir);
    skip ();
  }
  assert_true (v->direct);
  assert_int_equal (v->align, PAGE_BYTES);
  volume_close (v);
}

/* The second descriptor must be of the file that is locked. */
static void
test_replaced (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;
  bool direct;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  direct = v->direct;
  volume_close (v);
  if (!direct) {
    print_message ("skipped: no O_DIRECT in %s\n", test_dir);
    skip ();
  }
  wrap_replace = true;
  assert_int_equal (test_open (path, &plain), EBUSY);
  assert_int_equal (test_log_has ("was replaced while it was opened"), 1);
}

/* ---- flush ---- */

static void
test_flush_fails (void **state)
{
  static const int errors[] = { EIO, ENOSPC };
  uint8_t *page = test_pages (PAGE_BYTES);
  struct volume *v;

  UNUSED (state);
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    const char *path = test_file ("v", SIZE_BYTES);

    assert_int_equal (volume_open_path (path, &plain, &v), 0);
    wrap_sync_calls = 0;
    wrap_sync_error = EINTR; /* is no failure */
    assert_int_equal (volume_flush (v), 0);
    assert_int_equal (wrap_sync_calls, 2);
    assert_int_equal (volume_write (v, 0, page, PAGE_BYTES), 0);
    wrap_sync_error = errors[i];
    assert_int_equal (volume_flush (v), errors[i]);
    /* The kernel would say now that all is well. */
    assert_int_equal (volume_flush (v), EIO);
    assert_int_equal (volume_write (v, 0, page, PAGE_BYTES), EIO);
    assert_int_equal (volume_trim (v, 0, PAGE_BYTES), EIO);
    assert_int_equal (volume_read (v, 0, page, PAGE_BYTES), 0);
    assert_int_equal (wrap_sync_calls, 3);
    assert_int_equal (test_log_has ("nothing is written to it any more"),
                      i + 1);
    volume_close (v);
    assert_int_equal (test_open (path, &plain), 0);
  }
  free (page);
}

struct flusher {
  struct volume *v;
  pthread_t thread;
  int error;
};

static void *
flusher (void *arg)
{
  struct flusher *f = arg;

  f->error = volume_flush (f->v);
  return NULL;
}

/* Flushes under way together: the one that the kernel tells of the error is
 * not the only one that must hear it.
 */
static void
test_flush_fails_for_all (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct flusher f[4];
  struct volume *v;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  wrap_sync_calls = 0;
  wrap_sync_wait = 2;
  wrap_sync_error = EIO;
  for (unsigned i = 0; i < 4; i++) {
    f[i] = (struct flusher){ .v = v };
    assert_int_equal (pthread_create (&f[i].thread, NULL, flusher, &f[i]), 0);
  }
  for (unsigned i = 0; i < 4; i++) {
    pthread_join (f[i].thread, NULL);
    assert_int_equal (f[i].error, EIO);
  }
  assert_int_equal (wrap_sync_calls, 1);
  volume_close (v);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_missing),
    CASE (test_wrong_types),
    CASE (test_too_small),
    CASE (test_not_writable),
    CASE (test_readonly_mount),
    CASE (test_locked_by_us),
    CASE (test_locked_over_fork),
    CASE (test_locked_by_process),
    CASE (test_lock_is_waited_for),
    CASE (test_blocks_allocated),
    CASE (test_blocks_refused),
    CASE (test_direct),
    CASE (test_replaced),
    CASE (test_flush_fails),
    CASE (test_flush_fails_for_all),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
