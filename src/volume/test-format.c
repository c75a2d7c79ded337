/* SPDX-License-Identifier: BSD-2-Clause */
/* Path volumes of a durable store, and the steps of its format; on a block
 * device: test-block.c.
 */

#include <config.h>

#include "test-common.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "disk.h"
#include "env.h"

#define SIZE_BYTES (4 * MIB)

/* ---- the kernel, wrapped ---- */

static bool wrap_full;       /* no block is free, says statvfs */
static int wrap_sync_error;  /* of the next fsync or fdatasync but ... */
static int wrap_sync_passes; /* ... so many */

extern int __real_fstatvfs (int, struct statvfs *);
extern int __real_fsync (int);
extern int __real_fdatasync (int);
extern int __wrap_fstatvfs (int, struct statvfs *);
extern int __wrap_fsync (int);
extern int __wrap_fdatasync (int);

int
__wrap_fstatvfs (int fd, struct statvfs *fs)
{
  int ret = __real_fstatvfs (fd, fs);

  if (wrap_full)
    fs->f_bfree = 0;
  return ret;
}

static int
wrap_sync (int (*real) (int), int fd)
{
  int error = wrap_sync_error;

  if (error == 0 || wrap_sync_passes-- > 0)
    return real (fd);
  wrap_sync_error = 0;
  errno = error;
  return -1;
}

int
__wrap_fsync (int fd)
{
  return wrap_sync (__real_fsync, fd);
}

int
__wrap_fdatasync (int fd)
{
  return wrap_sync (__real_fdatasync, fd);
}

static int
setup (void **state)
{
  UNUSED (state);
  wrap_full = false;
  wrap_sync_error = wrap_sync_passes = 0;
  test_log_forget ();
  return 0;
}

static int
teardown (void **state)
{
  UNUSED (state);
  unlink (test_path ("v"));
  return 0;
}

/* ---- what tests share ---- */

static const struct volume_path_options plain = { .sparse = true };
static const struct volume_path_options forced = { .sparse = true,
                                                   .force = true };

static int
open_store (const char *path, bool readonly, struct volume **vp)
{
  struct volume_store_options options = { .readonly = readonly,
                                          .sparse = true };

  return volume_open_store (path, &options, vp);
}

/* All of the file, to be freed. */
static uint8_t *
content (const char *path, size_t bytes)
{
  uint8_t *p = malloc (bytes + PAGE_BYTES);
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  assert_non_null (p);
  assert_int_equal (pread (fd, p, bytes + PAGE_BYTES, 0), bytes);
  close (fd);
  return p;
}

/* Is the path free for a format, or the error?  Nothing changes. */
static int
check (const char *path, size_t bytes, bool force)
{
  static const enum volume_direct directs[] = { DIRECT_NO, DIRECT_AUTO };
  uint8_t *before = content (path, bytes), *after;
  int err = 0;

  for (unsigned i = 0; i < 2; i++) {
    struct volume_store_options options = { .direct = directs[i] };
    struct volume *v;

    assert_int_equal (volume_open_store (path, &options, &v), 0);
    err = volume_format_check (v, force);
    volume_close (v);
    after = content (path, bytes);
    assert_memory_equal (before, after, bytes);
    free (after);
  }
  free (before);
  return err;
}

/* ---- opening ---- */

static void
test_open_store (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES + 777);
  struct volume_store_options options = { .in_use = true };
  uint8_t *page = test_pages (PAGE_BYTES), *all;
  struct volume *v;

  UNUSED (state);
  test_poke (path, 0, "whatever is here", 16);
  assert_int_equal (open_store (path, false, &v), 0);
  assert_string_equal (v->ops->kind, "file");
  assert_int_equal (v->size_bytes, SIZE_BYTES);
  assert_true (v->batched && v->checked && v->sparse && !v->readonly);
  assert_int_equal (v->align, v->direct ? PAGE_BYTES : 1);
  assert_true (test_blocks (path) < MIB / 512); /* nothing is allocated */
  assert_int_equal (volume_read (v, 0, page, PAGE_BYTES), 0);
  assert_memory_equal (page, "whatever is here", 16);
  test_pattern (page, PAGE_BYTES, 0, 1);
  assert_int_equal (volume_write (v, 0, page, PAGE_BYTES), 0);
  assert_int_equal (volume_write (v, SIZE_BYTES - PAGE_BYTES, page, PAGE_BYTES),
                    0);
  assert_int_equal (volume_flush (v), 0);
  all = content (path, SIZE_BYTES + 777);
  assert_memory_equal (all, page, PAGE_BYTES);
  assert_memory_equal (all + SIZE_BYTES - PAGE_BYTES, page, PAGE_BYTES);
  free (all);
  assert_int_equal (volume_trim (v, 0, PAGE_BYTES), 0);
  assert_int_equal (volume_read (v, 0, page, PAGE_BYTES), 0);
  assert_int_equal (page[9], 0);
  volume_close (v);
  assert_int_equal (volume_open_store (path, &options, &v), 0);
  assert_false (options.in_use); /* by nobody but us */
  assert_false (v->sparse);
  volume_close (v);
  free (page);
}

static void
test_open_store_refused (void **state)
{
  struct volume_store_options options = { .lock_wait_ns = 60 * NS_PER_MS };
  const char *path = test_path ("v");
  struct volume *v = NULL, *first;

  UNUSED (state);
  assert_int_equal (open_store (path, false, &v), ENOENT);
  assert_int_equal (test_log_has ("farpage format --size 1G"), 1);
  assert_int_equal (open_store (test_dir, true, &v), EISDIR);
  test_file ("v", MIB + VOLUME_BYTES_MIN - 1);
  assert_int_equal (open_store (test_path ("v"), true, &v), EINVAL);
  path = test_file ("v", SIZE_BYTES);
  for (unsigned i = 0; i < 2; i++) {
    if (i == 0)
      assert_int_equal (open_store (path, false, &first), 0);
    else
      assert_int_equal (volume_open_path (path, &plain, &first), 0);
    assert_int_equal (volume_open_store (path, &options, &v), EBUSY);
    assert_int_equal (test_open (path, &plain), EBUSY);
    volume_close (first);
  }
  assert_null (v);
}

static void
test_readonly (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume_store_options options = { .readonly = true, .sparse = true };
  uint8_t *page = test_pages (PAGE_BYTES), *before, *after;
  struct volume *v, *store;

  UNUSED (state);
  test_poke (path, MIB, "here", 4);
  before = content (path, SIZE_BYTES);
  options.in_use = true;
  assert_int_equal (volume_open_store (path, &options, &v), 0);
  assert_false (options.in_use);
  assert_true (v->readonly);
  wrap_sync_error = EIO;
  assert_int_equal (volume_flush (v), 0);
  wrap_sync_error = 0;
  assert_int_equal (volume_write (v, 0, page, PAGE_BYTES), EROFS);
  assert_int_equal (volume_trim (v, MIB, PAGE_BYTES), EOPNOTSUPP);
  assert_int_equal (volume_allocate (v), EROFS);
  assert_int_equal (volume_wipe (v), EROFS);
  assert_int_equal (volume_read (v, MIB, page, PAGE_BYTES), 0);
  assert_memory_equal (page, "here", 5);
  after = content (path, SIZE_BYTES);
  assert_memory_equal (before, after, SIZE_BYTES);

  /* It keeps nobody out, and tells of who is in. */
  assert_int_equal (open_store (path, false, &store), 0);
  volume_close (v);
  assert_int_equal (volume_open_store (path, &options, &v), 0);
  assert_true (options.in_use);
  volume_close (v);
  volume_close (store);
  free (before);
  free (after);
  free (page);
}

/* Who may read and not write may open it readonly, and only so. */
static int
open_as_nobody (const char *path)
{
  struct volume *v = NULL;

  if (geteuid () == 0 && setuid (65534) != 0)
    return 77;
  if (open_store (path, false, &v) != EACCES)
    return 1;
  if (open_store (path, true, &v) != 0)
    return 2;
  volume_close (v);
  return 0;
}

static int
open_unreadable (const char *path)
{
  struct volume *v = NULL;

  if (geteuid () == 0 && setuid (65534) != 0)
    return 77;
  return open_store (path, true, &v) == EACCES &&
                 test_log_has ("may not be read by this user") == 1
             ? 0
             : 1;
}

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

static void
test_readonly_rights (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);

  UNUSED (state);
  assert_int_equal (chmod (test_dir, 0755), 0);
  assert_int_equal (chmod (path, 0444), 0);
  assert_int_equal (in_child (open_as_nobody, path), 0);
  assert_int_equal (chmod (path, 0), 0);
  assert_int_equal (in_child (open_unreadable, path), 0);
}

/* ---- format ---- */

static void
test_check_free (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);

  UNUSED (state);
  assert_int_equal (check (path, SIZE_BYTES, false), 0);
  assert_int_equal (test_open (path, &plain), 0); /* labels it */
  test_poke (path, 2 * MIB, "data", 4);
  test_poke (path, SIZE_BYTES - 4, "data", 4);
  assert_int_equal (check (path, SIZE_BYTES, false), 0);
}

static void
test_check_taken (void **state)
{
  /* One partition of type 0x83, from sector 2048, of 4096 sectors. */
  static const uint8_t table[66] = {
    [4] = 0x83, [9] = 8, [13] = 16, [64] = 0x55, 0xaa
  };
  const char *path = test_file ("v", SIZE_BYTES);

  UNUSED (state);
  test_poke (path, 446, table, sizeof table);
  assert_int_equal (check (path, SIZE_BYTES, false), EEXIST);
  assert_int_equal (test_log_has ("holds dos (name another volume, or give "
                                  "--force to overwrite it)"),
                    2);
  assert_int_equal (check (path, SIZE_BYTES, true), 0);
  assert_int_equal (test_log_has ("holds dos; overwriting it"), 2);

  path = test_file ("v", SIZE_BYTES + 777);
  test_poke (path, SIZE_BYTES + 776, "x", 1);
  assert_int_equal (check (path, SIZE_BYTES + 777, false), EEXIST);
  assert_int_equal (test_log_has ("data in its last MiB (name another"), 2);
  assert_int_equal (check (path, SIZE_BYTES + 777, true), 0);
}

/* Any one of the four slots will do, for a format and for a volatile store. */
static void
test_durable_store (void **state)
{
  static const uint64_t slots[] = { 0, 1, SIZE_BYTES / PAGE_BYTES - 2,
                                    SIZE_BYTES / PAGE_BYTES - 1 };

  UNUSED (state);
  for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
    const char *path = test_file ("v", SIZE_BYTES + 777);

    test_log_forget ();
    test_poke (path, slots[i] * PAGE_BYTES, DISK_SUPER_MAGIC, 8);
    assert_int_equal (check (path, SIZE_BYTES + 777, false), EEXIST);
    assert_int_equal (
        test_log_has ("v: holds a durable store (name another volume, or give "
                      "--force to overwrite it)"),
        2);
    assert_int_equal (check (path, SIZE_BYTES + 777, true), 0);
    assert_int_equal (test_log_has ("a durable store; overwriting it"), 2);
    assert_int_equal (test_open (path, &plain), EEXIST);
    assert_int_equal (
        test_log_has ("v: holds a durable store (use it with durability=flush, "
                      "or force=yes to overwrite it)"),
        1);
    assert_int_equal (test_open (path, &forced), 0);
    assert_int_equal (test_open (path, &plain), 0); /* and it is gone */
  }
}

static void
test_allocate (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct volume *v;

  UNUSED (state);
  assert_int_equal (open_store (path, false, &v), 0);
  wrap_full = true;
  assert_int_equal (volume_allocate (v), ENOSPC);
  assert_true (test_blocks (path) < MIB / 512);
  wrap_full = false;
  assert_int_equal (volume_allocate (v), 0);
  assert_true (test_blocks (path) >= SIZE_BYTES / 512);
  volume_close (v);
}

/* Descriptors of ours that are past the page cache. */
static unsigned
nr_direct (void)
{
  unsigned nr = 0;

  for (int fd = 0; fd < 64; fd++) {
    int flags = fcntl (fd, F_GETFL);

    nr += flags != -1 && (flags & O_DIRECT) != 0;
  }
  return nr;
}

static void
test_wipe (void **state)
{
  static const enum volume_direct directs[] = { DIRECT_NO, DIRECT_AUTO };
  size_t size_bytes = SIZE_BYTES + 777;
  const char *path = test_file ("v", size_bytes);
  uint8_t *want = test_pages (SIZE_BYTES + PAGE_BYTES), *all;
  uint8_t *page = test_pages (PAGE_BYTES);

  UNUSED (state);
  for (unsigned i = 0; i < 2; i++) {
    struct volume_store_options options = { .direct = directs[i] };
    struct volume *v;

    test_pattern (want, size_bytes & ~7u, 0, i);
    test_poke (path, 0, want, size_bytes);
    assert_int_equal (volume_open_store (path, &options, &v), 0);
    wrap_sync_error = EIO;
    assert_int_equal (volume_wipe (v), EIO);
    assert_int_equal (test_log_has ("cannot be wiped"), 1 + i);
    test_poke (path, 0, want, size_bytes);
    assert_int_equal (volume_wipe (v), 0);
    all = content (path, size_bytes);
    memset (want, 0, MIB);
    memset (want + size_bytes - MIB, 0, MIB);
    assert_memory_equal (all, want, size_bytes);
    free (all);
    assert_int_equal (nr_direct (), v->direct); /* as before */
    assert_int_equal (volume_read (v, 0, page, PAGE_BYTES), 0);
    assert_memory_equal (page, want, PAGE_BYTES);
    assert_int_equal (volume_format_check (v, false), 0);
    volume_close (v);
  }
  free (want);
  free (page);
}

/* Format of what is no path has nothing to look at. */
static void
test_no_path (void **state)
{
  struct volume *v, *overlay;

  UNUSED (state);
  assert_int_equal (volume_open_memory ("m", SIZE_BYTES, true, &v), 0);
  assert_int_equal (volume_open_overlay (v, &overlay), 0);
  for (unsigned i = 0; i < 2; i++) {
    struct volume *each = i == 0 ? v : overlay;

    assert_int_equal (volume_format_check (each, false), 0);
    assert_int_equal (volume_allocate (each), 0);
    assert_int_equal (volume_wipe (each), 0);
  }
  volume_close (overlay);
}

/* ---- new files ---- */

static void
test_create (void **state)
{
  const char *path = test_path ("v");
  struct volume *v;
  struct stat st;

  UNUSED (state);
  for (unsigned sparse = 0; sparse < 2; sparse++) {
    assert_int_equal (volume_create_file (path, SIZE_BYTES + 777, sparse), 0);
    assert_int_equal (stat (path, &st), 0);
    assert_int_equal (st.st_mode & 0777, 0600);
    assert_int_equal (st.st_size, SIZE_BYTES);
    if (sparse)
      assert_true (test_blocks (path) < MIB / 512);
    else
      assert_true (test_blocks (path) >= SIZE_BYTES / 512);
    assert_int_equal (open_store (path, false, &v), 0);
    assert_int_equal (volume_format_check (v, false), 0);
    volume_close (v);
    assert_int_equal (volume_create_file (path, SIZE_BYTES, sparse), EEXIST);
    assert_int_equal (test_log_has ("exists (name another"), sparse + 1);
    unlink (path);
  }
}

static void
test_create_refused (void **state)
{
  const char *path = test_path ("v");
  static const int errors[] = { EIO, ENOSPC };

  UNUSED (state);
  assert_int_equal (symlink ("nowhere", path), 0);
  assert_int_equal (volume_create_file (path, SIZE_BYTES, true), EEXIST);
  unlink (path);
  assert_int_equal (volume_create_file (path, MIB, true), EINVAL);
  assert_int_equal (test_log_has ("too few for a volume"), 1);
  assert_int_equal (volume_create_file (path, UINT64_MAX, true), EFBIG);
  wrap_full = true;
  assert_int_equal (volume_create_file (path, SIZE_BYTES, false), ENOSPC);
  wrap_full = false;
  for (int i = 0; i < 2; i++) { /* of the file, of the directory */
    wrap_sync_error = errors[i];
    wrap_sync_passes = i;
    assert_int_equal (volume_create_file (path, SIZE_BYTES, true), errors[i]);
    assert_int_equal (wrap_sync_error, 0);
    assert_int_equal (test_log_has (strerror (errors[i])), 1);
  }
  assert_int_equal (access (path, F_OK), -1); /* none of them left any */
  assert_int_equal (volume_create_file (test_path ("no/v"), SIZE_BYTES, true),
                    ENOENT);
  assert_int_equal (test_log_has ("its directory does not exist"), 1);
}

/* A name with no directory is one in the current one. */
static void
test_create_here (void **state)
{
  int here = open (".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  UNUSED (state);
  assert_int_equal (chdir (test_dir), 0);
  assert_int_equal (volume_create_file ("v", SIZE_BYTES, true), 0);
  assert_int_equal (access (test_path ("v"), F_OK), 0);
  assert_int_equal (fchdir (here), 0);
  close (here);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_open_store),    CASE (test_open_store_refused),
    CASE (test_readonly),      CASE (test_readonly_rights),
    CASE (test_check_free),    CASE (test_check_taken),
    CASE (test_durable_store), CASE (test_allocate),
    CASE (test_wipe),          CASE (test_no_path),
    CASE (test_create),        CASE (test_create_refused),
    CASE (test_create_here),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
