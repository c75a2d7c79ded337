/* SPDX-License-Identifier: BSD-2-Clause */
/* Path volumes on a block device: a loop device, for which one must be root. */

#include <config.h>

#include "test-common.h"

#include <errno.h>

#include "env.h"

#define SIZE_BYTES (8 * MIB)

static char device[64]; /* empty: no loop devices for us */

/* A loop device over a new file, with these options of losetup. */
static int
loop_make (const char *options)
{
  char command[3 * PATH_MAX];
  FILE *f;

  snprintf (command, sizeof command,
            "PATH=$PATH:/sbin:/usr/sbin; losetup %s -f --show '%s' 2>/dev/null",
            options, test_file ("loop", SIZE_BYTES));
  device[0] = '\0';
  f = popen (command, "re");
  if (f == NULL)
    return -1;
  if (fgets (device, sizeof device, f) == NULL)
    device[0] = '\0';
  device[strcspn (device, "\n")] = '\0';
  pclose (f);
  return 0;
}

static int
setup (void **state)
{
  UNUSED (state);
  test_log_forget ();
  return loop_make ("");
}

static int
setup_readonly (void **state)
{
  UNUSED (state);
  test_log_forget ();
  return loop_make ("-r");
}

static int
teardown (void **state)
{
  char command[128];

  UNUSED (state);
  snprintf (command, sizeof command,
            "PATH=$PATH:/sbin:/usr/sbin; losetup -d %s", device);
  if (device[0] != '\0' && system (command) != 0)
    return -1;
  unlink (test_path ("loop"));
  return 0;
}

static void
need_device (void)
{
  if (device[0] == '\0') {
    print_message ("skipped: losetup gives us no loop device (be root)\n");
    skip ();
  }
}

static void
move (struct volume *v, struct vpool *pool, enum vio_op op, void *buf)
{
  struct vbatch *b = vbatch_get (pool);
  struct vio io = {
    .volume = v, .op = op, .off = 2 * MIB, .buf = buf, .bytes = 2 * MIB
  };

  vio_start (b, &io);
  vbatch_wait (b);
  vbatch_put (b);
  assert_int_equal (io.error, 0);
}

static void
test_block_io (void **state)
{
  static const enum volume_direct directs[] = { DIRECT_NO, DIRECT_YES };
  static const enum vpool_engine engines[] = { VPOOL_SYNC, VPOOL_AUTO };
  struct volume_path_options options = { .sparse = true };
  uint8_t *buf = test_pages (2 * MIB), *want = test_pages (2 * MIB);
  struct vpool *pool;
  struct volume *v;

  UNUSED (state);
  need_device ();
  for (unsigned i = 0; i < 4; i++) {
    options.direct = directs[i / 2];
    assert_int_equal (volume_open_path (device, &options, &v), 0);
    assert_int_equal (vpool_create (1, 0, engines[i % 2], &pool), 0);
    assert_string_equal (v->ops->kind, "block");
    assert_int_equal (v->size_bytes, SIZE_BYTES - MIB);
    assert_int_equal (v->direct, i / 2);
    test_pattern (want, 2 * MIB, 0, i);
    memcpy (buf, want, 2 * MIB);
    move (v, pool, VIO_WRITE, buf);
    memset (buf, 0, 2 * MIB);
    move (v, pool, VIO_READ, buf);
    assert_memory_equal (buf, want, 2 * MIB);
    assert_int_equal (volume_flush (v), 0);
    vpool_destroy (pool);
    volume_close (v);
  }
  free (buf);
  free (want);
}

static void
test_block_trim (void **state)
{
  const struct volume_path_options options = { .sparse = true };
  uint8_t *buf = test_pages (2 * MIB);
  struct vpool *pool;
  struct volume *v;
  uint64_t before;

  UNUSED (state);
  need_device ();
  assert_int_equal (volume_open_path (device, &options, &v), 0);
  assert_int_equal (vpool_create (1, 0, VPOOL_AUTO, &pool), 0);
  move (v, pool, VIO_WRITE, buf);
  assert_int_equal (volume_flush (v), 0);
  before = test_blocks (test_path ("loop"));
  assert_int_equal (volume_trim (v, 2 * MIB, 2 * MIB), 0);
  assert_true (test_blocks (test_path ("loop")) + MIB / 512 < before);
  vpool_destroy (pool);
  volume_close (v);
  free (buf);
}

static void
test_block_busy (void **state)
{
  const struct volume_path_options options = { .lock_wait_ns = 60 * NS_PER_MS };
  struct volume *v, *second = NULL;
  int fd;

  UNUSED (state);
  need_device ();
  assert_int_equal (volume_open_path (device, &options, &v), 0);
  assert_int_equal (volume_open_path (device, &options, &second), EBUSY);
  volume_close (v);
  /* As a mount or swapon would hold it. */
  fd = open (device, O_RDONLY | O_EXCL | O_CLOEXEC);
  assert_true (fd >= 0);
  assert_int_equal (volume_open_path (device, &options, &second), EBUSY);
  close (fd);
  assert_int_equal (volume_open_path (device, &options, &v), 0);
  volume_close (v);
}

static void
test_block_other_data (void **state)
{
  struct volume_path_options options = { .force = false };
  struct volume *v = NULL;

  UNUSED (state);
  need_device ();
  test_poke (device, SIZE_BYTES - 1, "x", 1);
  assert_int_equal (volume_open_path (device, &options, &v), EEXIST);
  options.force = true;
  assert_int_equal (volume_open_path (device, &options, &v), 0);
  volume_close (v);
}

static void
test_block_readonly (void **state)
{
  const struct volume_path_options options = { .force = true };
  struct volume *v = NULL;
  int err;

  UNUSED (state);
  need_device ();
  err = volume_open_path (device, &options, &v);
  assert_true (err == EACCES || err == EROFS); /* the kernel's choice */
  assert_null (v);
}

#define CASE(f, s) cmocka_unit_test_setup_teardown (f, s, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_block_io, setup),
    CASE (test_block_trim, setup),
    CASE (test_block_busy, setup),
    CASE (test_block_other_data, setup),
    CASE (test_block_readonly, setup_readonly),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
