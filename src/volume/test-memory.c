/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory volumes: what is refused, what is allocated, and fork. */

#include <config.h>

#include "test-common.h"

#include <errno.h>
#include <sys/wait.h>

/* ---- tests of memory, on their own ---- */

/* ---- files of the kernel, wrapped ---- */

struct fake {
  const char *path, *text;
};
static const struct fake *fakes; /* NULL: the system's own files */

extern FILE *__real_fopen (const char *, const char *);
extern FILE *__wrap_fopen (const char *, const char *);

FILE *
__wrap_fopen (const char *path, const char *mode)
{
  const struct fake *f = fakes;

  if (f == NULL)
    return __real_fopen (path, mode);
  while (f->path != NULL && strcmp (f->path, path) != 0)
    f++;
  if (f->path == NULL)
    return NULL;
  return fmemopen ((void *) (uintptr_t) f->text, strlen (f->text), "r");
}

/* Open, close at once; the error. */
static int
open_mib (const struct fake *files, uint64_t mib)
{
  struct volume *v = NULL;
  int err;

  fakes = files;
  err = volume_open_memory ("m", mib * MIB, false, &v);
  volume_close (v);
  fakes = NULL;
  return err;
}

#define MEMINFO(kib)                                                     \
  {                                                                      \
    "/proc/meminfo", "MemTotal: 99999999 kB\nMemAvailable: " kib " kB\n" \
  }
#define CGROUP "/sys/fs/cgroup"

/* The margin of a small volume is 64 MiB and a bit. */
static void
test_memory_available (void **state)
{
  static const struct fake files[] = { MEMINFO ("81920"), { NULL, NULL } };
  static const struct fake none[] = { { NULL, NULL } };

  UNUSED (state);
  assert_int_equal (open_mib (files, 15), 0);
  assert_int_equal (open_mib (files, 16), ENOMEM);
  assert_int_equal (test_log_has ("only 80 MiB of memory"), 1);
  assert_int_equal (open_mib (none, 16), 0); /* no /proc: try it */
}

static void
test_memory_of_cgroup (void **state)
{
  static const struct fake files[] = {
    MEMINFO ("9999999"),
    { "/proc/self/cgroup", "4:memory:/x\n0::/a/b\n" },
    { CGROUP "/a/b/memory.max", "max\n" },
    { CGROUP "/a/b/memory.current", "1\n" },
    { CGROUP "/a/memory.max", "209715200\n" },     /* 200 MiB */
    { CGROUP "/a/memory.current", "178257920\n" }, /* 170 MiB, of which ... */
    { CGROUP "/a/memory.stat", /* ... 50 MiB can be dropped */
      "anon 1\ninactive_anon 7\nactive_anon 8\n"
      "inactive_file 31457280\nactive_file 20971520\n" },
    { NULL, NULL },
  };
  static const struct fake root[] = {
    MEMINFO ("9999999"),
    { "/proc/self/cgroup", "0::/\n" },
    { CGROUP "/memory.max", "83886080\n" },
    { CGROUP "/memory.current", "0\n" },
    { NULL, NULL },
  };

  UNUSED (state);
  assert_int_equal (open_mib (files, 15), 0);
  assert_int_equal (open_mib (files, 16), ENOMEM);
  assert_int_equal (open_mib (root, 15), 0);
  assert_int_equal (open_mib (root, 16), ENOMEM);
}

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
  assert_int_equal (test_log_has ("0 m: a volume of 33554432 MiB"), 1);
  assert_int_equal (test_log_has ("of memory are available"), 1);
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
  struct volume *v;

  UNUSED (state);
  assert_int_equal (volume_open_memory ("m", 8 * MIB, false, &v), 0);
  assert_int_equal (test_memfd_blocks (0), 8 * MIB / 512);
  volume_close (v);
  assert_int_equal (test_memfd_blocks (0), 0);
  assert_int_equal (volume_open_memory ("m", 8 * MIB, true, &v), 0);
  assert_int_equal (test_memfd_blocks (0), 0);
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_memory_available),
    cmocka_unit_test (test_memory_of_cgroup),
    cmocka_unit_test (test_memory_sizes),
    cmocka_unit_test (test_memory_is_allocated),
    cmocka_unit_test (test_memory_after_fork),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
