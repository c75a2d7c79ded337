/* SPDX-License-Identifier: BSD-2-Clause */
/* Path volumes on a block device, of volatile and of durable stores: a loop
 * device, for which one must be root.
 */

#include <config.h>

#include "test-common.h"

#include <errno.h>

#include "env.h"

#define SIZE_BYTES (8 * MIB)
#define ODD_BYTES  (SIZE_BYTES + 3 * SECTOR_BYTES)

static char device[64]; /* empty: no loop devices for us */

/* A loop device over a new file of that many bytes, with these options of
 * losetup.
 */
static int
loop_make (const char *options, uint64_t size_bytes)
{
  char command[3 * PATH_MAX];
  FILE *f;

  snprintf (command, sizeof command,
            "PATH=$PATH:/sbin:/usr/sbin; losetup %s -f --show '%s' 2>/dev/null",
            options, test_file ("loop", size_bytes));
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
  return loop_make ("", SIZE_BYTES);
}

static int
setup_readonly (void **state)
{
  UNUSED (state);
  test_log_forget ();
  return loop_make ("-r", SIZE_BYTES);
}

static int
setup_4kn (void **state)
{
  UNUSED (state);
  test_log_forget ();
  return loop_make ("-b 4096", SIZE_BYTES);
}

/* Sectors of 512 bytes, and not a whole number of pages. */
static int
setup_odd (void **state)
{
  UNUSED (state);
  test_log_forget ();
  return loop_make ("", ODD_BYTES);
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

/* ---- of durable stores ---- */

static struct volume *
open_store (enum volume_direct direct)
{
  struct volume_store_options options = { .direct = direct, .sparse = true };
  struct volume *v = NULL;

  assert_int_equal (volume_open_store (device, &options, &v), 0);
  assert_string_equal (v->ops->kind, "block");
  assert_int_equal (v->size_bytes, SIZE_BYTES);
  return v;
}

/* From the first byte to the last, past the page cache and through it. */
static void
test_store_io (void **state)
{
  uint8_t *want = test_pages (SIZE_BYTES), *buf = test_pages (SIZE_BYTES);
  struct volume *v;

  UNUSED (state);
  need_device ();
  for (unsigned direct = 0; direct < 2; direct++) {
    v = open_store (direct ? DIRECT_YES : DIRECT_NO);
    for (uint64_t round = 0; round < 3; round++) {
      struct vio io = {
        .volume = v, .cached = true, .buf = buf, .bytes = SIZE_BYTES
      };
      struct vpool *pool;
      struct vbatch *b;

      assert_int_equal (vpool_create (1, 0, VPOOL_AUTO, &pool), 0);
      test_pattern (want, SIZE_BYTES, 0, 2 * round + direct);
      assert_int_equal (volume_write (v, 0, want, SIZE_BYTES), 0);
      b = vbatch_get (pool);
      vio_start (b, &io);
      vbatch_wait (b);
      vbatch_put (b);
      vpool_destroy (pool);
      assert_memory_equal (buf, want, SIZE_BYTES);
      assert_int_equal (volume_read (v, 0, buf, SIZE_BYTES), 0);
      assert_memory_equal (buf, want, SIZE_BYTES);
      assert_int_equal (volume_flush (v), 0);
      /* Where, seen from the file beneath. */
      test_peek (test_path ("loop"), 0, buf, PAGE_BYTES);
      assert_memory_equal (buf, want, PAGE_BYTES);
    }
    volume_close (v);
  }
  free (want);
  free (buf);
}

static void
test_store_trim (void **state)
{
  uint8_t *buf = test_pages (SIZE_BYTES);
  struct vio io = { .cached = true, .buf = buf, .bytes = MIB };
  struct vpool *pool;
  struct vbatch *b;
  uint64_t before;

  UNUSED (state);
  need_device ();
  io.volume = open_store (DIRECT_AUTO);
  assert_int_equal (volume_write (io.volume, 0, buf, SIZE_BYTES), 0);
  assert_int_equal (volume_flush (io.volume), 0);
  before = test_blocks (test_path ("loop"));
  assert_int_equal (vpool_create (1, 0, VPOOL_SYNC, &pool), 0);
  b = vbatch_get (pool);
  for (unsigned round = 0; round < 2; round++) { /* warm, then trimmed */
    vio_start (b, &io);
    vbatch_wait (b);
    assert_int_equal (buf[0], round == 0 ? 0xee : 0);
    assert_int_equal (volume_trim (io.volume, 0, 2 * MIB), 0);
  }
  vbatch_put (b);
  vpool_destroy (pool);
  assert_true (test_blocks (test_path ("loop")) + MIB / 512 < before);
  assert_int_equal (volume_read (io.volume, 2 * MIB, buf, PAGE_BYTES), 0);
  assert_int_equal (buf[0], 0xee);
  volume_close (io.volume);
  free (buf);
}

static void
test_store_busy (void **state)
{
  struct volume_store_options options = { .readonly = true };
  const struct volume_path_options plain = { .sparse = true };
  struct volume *v, *second = NULL;

  UNUSED (state);
  need_device ();
  v = open_store (DIRECT_AUTO);
  assert_int_equal (volume_open_store (device, &options, &second), 0);
  assert_true (options.in_use);
  volume_close (second);
  second = NULL;
  options.readonly = false;
  assert_int_equal (volume_open_store (device, &options, &second), EBUSY);
  assert_int_equal (volume_open_path (device, &plain, &second), EBUSY);
  assert_null (second);
  volume_close (v);
  options.readonly = true;
  assert_int_equal (volume_open_store (device, &options, &second), 0);
  assert_false (options.in_use);
  v = open_store (DIRECT_AUTO); /* a reader keeps nobody out */
  volume_close (v);
  volume_close (second);
}

/* The last sectors, behind the last page, are looked at and wiped too: the
 * second copy of a GPT is there.
 */
static void
test_store_format (void **state)
{
  static const uint8_t zeros[SECTOR_BYTES];
  uint8_t sector[SECTOR_BYTES];
  struct volume *v;

  UNUSED (state);
  need_device ();
  test_poke (device, ODD_BYTES - SECTOR_BYTES, "EFI PART", 8);
  v = open_store (DIRECT_AUTO);
  assert_int_equal (volume_format_check (v, false), EEXIST);
  assert_int_equal (volume_format_check (v, true), 0);
  assert_int_equal (volume_allocate (v), 0);
  assert_int_equal (volume_wipe (v), 0);
  assert_int_equal (volume_format_check (v, false), 0);
  volume_close (v);
  test_peek (test_path ("loop"), ODD_BYTES - SECTOR_BYTES, sector,
             SECTOR_BYTES);
  assert_memory_equal (sector, zeros, SECTOR_BYTES);
}

static void
test_store_readonly (void **state)
{
  struct volume_store_options options = { .readonly = true };
  uint8_t *page = test_pages (PAGE_BYTES);
  struct volume *v = NULL;

  UNUSED (state);
  need_device ();
  assert_int_equal (volume_open_store (device, &options, &v), 0);
  assert_int_equal (volume_read (v, 0, page, PAGE_BYTES), 0);
  assert_int_equal (page[0], 0);
  volume_close (v);
  free (page);
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
    CASE (test_store_io, setup),
    CASE (test_store_io, setup_4kn),
    CASE (test_store_io, setup_odd),
    CASE (test_store_trim, setup),
    CASE (test_store_busy, setup),
    CASE (test_store_format, setup_odd),
    CASE (test_store_readonly, setup_readonly),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
