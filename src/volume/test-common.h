/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of this folder share: a directory that goes away, files in
 * it, the log's last messages, patterns, a generator of random numbers.
 */

#ifndef FARPAGE_TEST_COMMON_H
#define FARPAGE_TEST_COMMON_H

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "volume.h"

#define MIB       (UINT64_C (1) << 20)
#define UNUSED(x) ((void) (x))
#define LOG_KEPT  8
#define LOG_CHARS 512

static char test_dir[PATH_MAX];
static char test_log[LOG_KEPT][LOG_CHARS];
static atomic_uint test_log_nr;

static inline void
test_log_keep (void *arg, enum log_level level, const char *text)
{
  unsigned i = atomic_fetch_add (&test_log_nr, 1) % LOG_KEPT;

  UNUSED (arg);
  snprintf (test_log[i], LOG_CHARS, "%d %s", (int) level, text);
}

static inline void
test_log_forget (void)
{
  memset (test_log, 0, sizeof test_log);
}

/* How many of the messages kept have these words. */
static inline unsigned
test_log_has (const char *words)
{
  unsigned nr = 0;

  for (int i = 0; i < LOG_KEPT; i++)
    nr += strstr (test_log[i], words) != NULL;
  return nr;
}

/* Group fixture: a directory, and the log kept. */
static inline int
test_begin (void **state)
{
  const char *tmp = getenv ("TMPDIR");

  UNUSED (state);
  snprintf (test_dir, sizeof test_dir, "%s/farpage-test.XXXXXX",
            tmp != NULL ? tmp : "/tmp");
  log_set (test_log_keep, NULL);
  return mkdtemp (test_dir) != NULL ? 0 : -1;
}

static inline int
test_end (void **state)
{
  UNUSED (state);
  log_set (NULL, NULL);
  return rmdir (test_dir); /* each test removes its own files */
}

static inline const char *
test_path (const char *name)
{
  static char path[2 * PATH_MAX];

  snprintf (path, sizeof path, "%s/%s", test_dir, name);
  return path;
}

/* Make a file of that many bytes, all holes; returns its path. */
static inline const char *
test_file (const char *name, uint64_t bytes)
{
  const char *path = test_path (name);
  int fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  assert_true (fd >= 0);
  assert_int_equal (ftruncate (fd, (off_t) bytes), 0);
  close (fd);
  return path;
}

/* Open a path volume, close at once; the error. */
static inline int
test_open (const char *path, const struct volume_path_options *options)
{
  struct volume *v = NULL;
  int err = volume_open_path (path, options, &v);

  if (err == 0)
    volume_close (v);
  else
    assert_null (v);
  return err;
}

static inline void
test_poke (const char *path, uint64_t off, const void *buf, size_t len)
{
  int fd = open (path, O_WRONLY | O_CLOEXEC);

  assert_true (fd >= 0);
  assert_int_equal (pwrite (fd, buf, len, (off_t) off), len);
  close (fd);
}

static inline void
test_peek (const char *path, uint64_t off, void *buf, size_t len)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  assert_true (fd >= 0);
  assert_int_equal (pread (fd, buf, len, (off_t) off), len);
  close (fd);
}

static inline uint64_t
test_blocks (const char *path)
{
  struct stat st;

  assert_int_equal (stat (path, &st), 0);
  return (uint64_t) st.st_blocks;
}

/* st_blocks of the nr-th of this process's memfds, 0 if there are fewer. */
static inline uint64_t
test_memfd_blocks (int nr)
{
  DIR *dir = opendir ("/proc/self/fd");
  struct dirent *e;
  uint64_t blocks = 0;

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

static inline uint64_t
test_seed (void)
{
  const char *text = getenv ("FARPAGE_SEED");
  uint64_t seed = text != NULL ? strtoull (text, NULL, 0) : 0;

  if (seed == 0)
    seed = ((uint64_t) getpid () << 20) ^ (uint64_t) time (NULL);
  print_message ("FARPAGE_SEED=%" PRIu64 "\n", seed);
  return seed;
}

static inline uint64_t
test_random (uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Words that tell where they are and in which round they were written. */
static inline void
test_pattern (void *buf, size_t bytes, uint64_t off, uint64_t round)
{
  uint64_t *word = buf;

  for (size_t i = 0; i < bytes / 8; i++)
    word[i] = (off + 8 * i) ^ (round * UINT64_C (0x9e3779b97f4a7c15));
}

static inline void *
test_pages (size_t bytes)
{
  void *p = aligned_alloc (PAGE_BYTES, bytes);

  assert_non_null (p);
  memset (p, 0xee, bytes);
  return p;
}

#endif /* FARPAGE_TEST_COMMON_H */
