/* SPDX-License-Identifier: BSD-2-Clause */
/* Staging files: a process that is killed and the next that reads them, files
 * that do not count, directories that cannot be used.
 */

#include <config.h>

#include "test-common.h"

#include "crc32c.h"
#include "staging.h"

#include <errno.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define NR        64u
#define CRC_OFF   4092u
#define TAGS_OFF  4096u
#define ALL       (4096u + 4096u + NR * 4096u)
#define FILE_NAME "staging/11111111-1111-1111-1111-111111111111.staging"
#define NEW_NAME  FILE_NAME ".new"

static const char *dir;
static uint8_t uuid[DISK_UUID_BYTES];
static bool in_memory;

/* The directory of the tests must be in memory. */
static int
begin (void **state)
{
  static char path[2 * PATH_MAX];
  struct statfs fs;

  setenv ("TMPDIR", "/dev/shm", 1);
  if (test_begin (state) != 0)
    return -1;
  in_memory = statfs (test_dir, &fs) == 0 &&
              (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
  snprintf (path, sizeof path, "%s", test_path ("staging"));
  dir = path;
  memset (uuid, 0x11, sizeof uuid);
  return 0;
}

static int
setup (void **state)
{
  UNUSED (state);
  test_log_forget ();
  return 0;
}

static int
clean (void **state)
{
  UNUSED (state);
  unlink (test_path (FILE_NAME));
  unlink (test_path (NEW_NAME));
  rmdir (test_path ("staging"));
  return 0;
}

static struct staging *
create (void)
{
  struct staging_config config = { .dir = dir, .nr_buffers = NR };
  struct staging *sg = NULL;

  memcpy (config.uuid, uuid, sizeof uuid);
  assert_int_equal (staging_create (&config, &sg), 0);
  assert_non_null (sg);
  assert_int_not_equal (staging_id (sg), 0);
  return sg;
}

static bool
exists (const char *name)
{
  struct stat st;

  return lstat (test_path (name), &st) == 0;
}

/* One page of each type, tagged. */
static void
stage (struct staging *sg)
{
  uint8_t *memory = staging_memory (sg);

  memset (memory + 3 * BUF_BYTES, 'd', BUF_BYTES);
  memset (memory + 63 * BUF_BYTES, 'u', BUF_BYTES);
  staging_tags (sg)[3].what = (uint64_t) BUF_DATA << 60 | 0;
  staging_tags (sg)[63].what =
      (uint64_t) BUF_UNDO << 60 | ((UINT64_C (1) << 60) - 1);
}

struct seen {
  unsigned nr_data, nr_undo, stop_after;
};

static int
see (void *arg, enum buf_type type, uint64_t blk, const void *page)
{
  struct seen *s = arg;
  const char *bytes = page;

  if (type == BUF_DATA) {
    assert_int_equal (blk, 0);
    assert_true (bytes[0] == 'd' && bytes[BUF_BYTES - 1] == 'd');
    s->nr_data++;
  } else {
    assert_int_equal (type, BUF_UNDO);
    assert_int_equal (blk, (UINT64_C (1) << 60) - 1);
    assert_true (bytes[0] == 'u' && bytes[BUF_BYTES - 1] == 'u');
    s->nr_undo++;
  }
  return s->nr_data + s->nr_undo == s->stop_after ? ECANCELED : 0;
}

#define NEEDS_MEMORY                                                        \
  if (!in_memory) {                                                         \
    print_message ("skipped: /dev/shm is not in memory here (no tmpfs)\n"); \
    skip ();                                                                \
  }

/* ---- lives ---- */

static void
test_close (void **state)
{
  struct staging *sg, *none = NULL;
  uint64_t id;
  struct stat st;

  UNUSED (state);
  NEEDS_MEMORY;
  assert_int_equal (staging_open (dir, uuid, 1, &none), ENOENT);
  assert_int_equal (test_log_nr, 0);
  sg = create ();
  assert_true (exists (NEW_NAME) && !exists (FILE_NAME));
  assert_int_equal (stat (test_path (NEW_NAME), &st), 0);
  assert_int_equal (st.st_mode & 07777, 0600);
  assert_int_equal (st.st_size, ALL);
  assert_int_equal (st.st_blocks * 512, ALL);
  assert_int_equal (stat (dir, &st), 0);
  assert_int_equal (st.st_mode & 07777, 0700);
  for (unsigned i = 0; i < NR; i++)
    assert_int_equal (staging_tags (sg)[i].what, 0);
  assert_int_equal ((uintptr_t) staging_memory (sg) % BUF_BYTES, 0);
  staging_close (sg, false); /* never published: it goes */
  assert_false (exists (NEW_NAME));
  sg = create ();
  assert_int_equal (staging_publish (sg), 0);
  assert_true (!exists (NEW_NAME) && exists (FILE_NAME));
  id = staging_id (sg);
  staging_close (sg, false);
  assert_int_equal (staging_open (dir, uuid, id, &sg), 0);
  staging_close (sg, true);
  assert_false (exists (FILE_NAME));
  staging_close (NULL, true);
}

/* A killed process, and the next, whose own file takes its place. */
static void
test_killed (void **state)
{
  struct seen s = { 0 };
  struct staging *old, *sg;
  uint64_t id;
  int fd[2], status;
  pid_t pid;

  UNUSED (state);
  NEEDS_MEMORY;
  assert_int_equal (pipe (fd), 0);
  pid = fork ();
  if (pid == 0) {
    sg = create ();
    if (staging_publish (sg) != 0)
      _exit (1);
    stage (sg);
    id = staging_id (sg);
    if (write (fd[1], &id, sizeof id) != (ssize_t) sizeof id)
      _exit (1);
    kill (getpid (), SIGKILL);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_true (WIFSIGNALED (status));
  assert_int_equal (read (fd[0], &id, sizeof id), sizeof id);
  close (fd[0]);
  close (fd[1]);

  sg = create ();
  assert_int_not_equal (staging_id (sg), id);
  assert_int_equal (staging_open (dir, uuid, id, &old), 0);
  assert_int_equal (staging_id (old), id);
  assert_int_equal (staging_each (old, see, &s), 0);
  assert_true (s.nr_data == 1 && s.nr_undo == 1);
  s = (struct seen){ .stop_after = 1 };
  assert_int_equal (staging_each (old, see, &s), ECANCELED);
  assert_int_equal (s.nr_data + s.nr_undo, 1);
  assert_int_equal (staging_publish (sg), 0);
  staging_close (old, true); /* is not what has the name now */
  assert_true (exists (FILE_NAME));
  assert_int_equal (staging_open (dir, uuid, id, &old), ENOENT);
  staging_close (sg, true);
  assert_false (exists (FILE_NAME));
}

/* A file that is newer than the root volume says so. */
static void
test_epoch (void **state)
{
  struct staging_config config = { .dir = dir, .nr_buffers = NR, .epoch = 7 };
  const uint8_t other[DISK_UUID_BYTES] = { 1 };
  struct staging *sg, *old;

  UNUSED (state);
  NEEDS_MEMORY;
  assert_int_equal (staging_check_root (dir, uuid, 1, 9), 0);
  memcpy (config.uuid, uuid, sizeof uuid);
  assert_int_equal (staging_create (&config, &sg), 0);
  assert_int_equal (staging_check_root (dir, uuid, 1, 9), 0);
  assert_int_equal (staging_publish (sg), 0);
  assert_int_equal (staging_check_root (dir, uuid, 7, 9), 0);
  assert_int_equal (staging_check_root (dir, uuid, 8, 9), 0);
  assert_int_equal (staging_check_root (dir, other, 6, 9), 0);
  assert_int_equal (staging_check_root (dir, uuid, 6, 9), ESTALE);
  assert_int_equal (test_log_has ("is of epoch 7 and superblock 0, and the "
                                  "root volume of epoch 6 and superblock 9: an "
                                  "old copy of it"),
                    1);
  assert_int_equal (staging_named (sg, 10), 0);
  assert_int_equal (staging_check_root (dir, uuid, 7, 9), ESTALE);
  assert_int_equal (staging_check_root (dir, uuid, 7, 10), 0);
  assert_int_equal (staging_check_root (dir, other, 7, 9), 0);
  assert_int_equal (staging_open (dir, uuid, staging_id (sg), &old), 0);
  staging_close (old, false);
  assert_true (exists (FILE_NAME));
  staging_close (sg, true);
  assert_int_equal (staging_check_root (dir, uuid, 6, 9), 0);
}

/* One that died before it published has left a file in the way. */
static void
test_left_over (void **state)
{
  struct staging *sg;

  UNUSED (state);
  NEEDS_MEMORY;
  assert_int_equal (mkdir (dir, 0700), 0);
  test_file (NEW_NAME, 100);
  sg = create ();
  assert_int_equal (staging_publish (sg), 0);
  staging_close (sg, true);
}

/* ---- files that do not count ---- */

static uint64_t
published (void)
{
  struct staging *sg = create ();
  uint64_t id = staging_id (sg);

  assert_int_equal (staging_publish (sg), 0);
  stage (sg);
  staging_close (sg, false);
  return id;
}

static void
expect_none (uint64_t id, const char *message)
{
  struct staging *sg = NULL;

  test_log_forget ();
  assert_int_equal (staging_open (dir, uuid, id, &sg), ENOENT);
  assert_null (sg);
  assert_true (test_log_has (message));
  assert_true (test_log_has ("it is not used"));
  assert_true (exists (FILE_NAME)); /* for who wants to look at it */
}

/* Change one byte of the head; with a right CRC, or not. */
static void
poke_head (size_t off, int by, bool crc)
{
  uint8_t head[4096];
  uint32_t sum;
  int fd = open (test_path (FILE_NAME), O_RDWR | O_CLOEXEC);

  assert_int_equal (pread (fd, head, sizeof head, 0), sizeof head);
  head[off] = (uint8_t) (head[off] + by);
  sum = crc32c (0, head, CRC_OFF);
  if (crc)
    memcpy (head + CRC_OFF, &sum, sizeof sum);
  assert_int_equal (pwrite (fd, head, sizeof head, 0), sizeof head);
  close (fd);
}

static void
test_bad_heads (void **state)
{
  static const struct {
    size_t off;
    bool crc;
    const char *message;
  } bad[] = {
    { 0, true, "is no staging file" },
    { 8, true, "its version is unknown" },
    { 12, false, "its checksum is wrong" },
    { 16, true, "belongs to another store" },
    { 32, true, "is not the one that the superblock names" },
    { 40, true, "has a wrong size" },
    { 46, true, "has a wrong size" },
    { 48, true, "is from before the machine was booted" },
    { 83, true, "is from before the machine was booted" },
    { 4000, false, "its checksum is wrong" },
    { 4092, false, "its checksum is wrong" },
  };
  struct staging *sg;
  uint64_t id;

  UNUSED (state);
  NEEDS_MEMORY;
  id = published ();
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    poke_head (bad[i].off, 1, bad[i].crc);
    expect_none (id, bad[i].message);
    poke_head (bad[i].off, -1, bad[i].crc);
    assert_int_equal (staging_open (dir, uuid, id, &sg), 0);
    staging_close (sg, false);
  }
}

static void
test_bad_files (void **state)
{
  uint64_t id;

  UNUSED (state);
  NEEDS_MEMORY;
  id = published ();
  expect_none (id + 1, "is not the one that the superblock names");
  assert_int_equal (truncate (test_path (FILE_NAME), ALL - 1), 0);
  expect_none (id, "has a wrong size");
  assert_int_equal (truncate (test_path (FILE_NAME), 100), 0);
  expect_none (id, "has a wrong size");
  assert_int_equal (chmod (test_path (FILE_NAME), 0640), 0);
  expect_none (id, "is not ours alone");
  unlink (test_path (FILE_NAME));
  assert_int_equal (mkfifo (test_path (FILE_NAME), 0600), 0);
  expect_none (id, "is no file");
}

/* What may count, but cannot be read, is no reason to go on without it. */
static void
test_link (void **state)
{
  char target[2 * PATH_MAX];
  struct staging *sg = NULL;
  uint64_t id;

  UNUSED (state);
  NEEDS_MEMORY;
  id = published ();
  snprintf (target, sizeof target, "%s", test_path ("moved"));
  assert_int_equal (rename (test_path (FILE_NAME), target), 0);
  assert_int_equal (symlink (target, test_path (FILE_NAME)), 0);
  assert_int_equal (staging_open (dir, uuid, id, &sg), ELOOP);
  assert_null (sg);
  assert_true (test_log_has ("it may hold"));
  unlink (target);
}

static void
test_bad_tag (void **state)
{
  struct seen s = { 0 };
  struct staging *sg;
  uint64_t id, what = (uint64_t) BUF_META << 60 | 5;

  UNUSED (state);
  NEEDS_MEMORY;
  id = published ();
  test_poke (test_path (FILE_NAME), TAGS_OFF + 8 * 5, &what, sizeof what);
  assert_int_equal (staging_open (dir, uuid, id, &sg), 0);
  assert_int_equal (staging_each (sg, see, &s), EIO);
  assert_true (test_log_has ("buffer 5 has a wrong tag"));
  staging_close (sg, false);
}

/* ---- directories ---- */

static void
expect_refused (const char *path, uint64_t nr, int error, const char *message)
{
  struct staging_config config = { .dir = path, .nr_buffers = nr };
  struct staging *sg = NULL;

  test_log_forget ();
  assert_int_equal (staging_create (&config, &sg), error);
  assert_null (sg);
  assert_true (test_log_has (message));
}

static void
test_bad_dirs (void **state)
{
  struct staging_config config = { .dir = dir };
  struct staging *sg = NULL;

  UNUSED (state);
  NEEDS_MEMORY;
  expect_refused ("/proc", NR, EINVAL, "is not in memory (tmpfs)");
  expect_refused ("/no/such/folder", NR, ENOENT, "staging=DIR");
  expect_refused ("/dev/null", NR, ENOTDIR, "staging=DIR");
  /* 4 TiB */
  expect_refused (dir, UINT64_C (1) << 30, ENOSPC, "smaller cache");
  assert_false (exists (NEW_NAME));
  assert_int_equal (staging_create (&config, &sg), EINVAL);
  config.nr_buffers = UINT64_MAX;
  assert_int_equal (staging_create (&config, &sg), EINVAL);
}

/* ---- in place of files ---- */

static struct staging fake = { .id = 77 };

static int
fake_create (const struct staging_config *config, struct staging **sgp)
{
  UNUSED (config);
  *sgp = &fake;
  return 0;
}

static int
fake_open (const char *path, const uint8_t u[DISK_UUID_BYTES], uint64_t id,
           struct staging **sgp)
{
  UNUSED (path);
  UNUSED (u);
  UNUSED (sgp);
  return id == 77 ? ESTALE : ENOENT;
}

static int
fake_check_root (const char *path, const uint8_t u[DISK_UUID_BYTES],
                 uint64_t epoch, uint64_t sequence)
{
  UNUSED (path);
  UNUSED (sequence);
  UNUSED (u);
  return epoch < 5 ? ESTALE : 0;
}

static void
test_set (void **state)
{
  static const struct staging_ops ops = { fake_create, fake_open,
                                          fake_check_root };
  struct staging_config config = { .dir = dir, .nr_buffers = NR };
  struct staging *sg;

  UNUSED (state);
  staging_set (&ops);
  assert_int_equal (staging_create (&config, &sg), 0);
  assert_int_equal (staging_id (sg), 77);
  assert_int_equal (staging_open (dir, uuid, 77, &sg), ESTALE);
  assert_int_equal (staging_check_root (dir, uuid, 4, 9), ESTALE);
  staging_set (NULL);
  assert_int_equal (staging_open (dir, uuid, 77, &sg), ENOENT);
  assert_int_equal (staging_check_root (dir, uuid, 4, 9), 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown (f, setup, clean)
    TEST (test_close),     TEST (test_killed),    TEST (test_left_over),
    TEST (test_bad_heads), TEST (test_bad_files), TEST (test_link),
    TEST (test_bad_tag),   TEST (test_bad_dirs),  TEST (test_set),
    TEST (test_epoch),
  };

  return cmocka_run_group_tests (tests, begin, test_end);
}
