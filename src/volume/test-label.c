/* SPDX-License-Identifier: BSD-2-Clause */
/* The label, and other data on the path: what is refused, what force does. */

#include <config.h>

#include "test-common.h"

#include <endian.h>
#include <errno.h>

#include "crc32c.h"
#include "disk.h"

#define SIZE_BYTES (4 * MIB)

static const struct volume_path_options plain = { .sparse = true };
static const struct volume_path_options forced = { .sparse = true,
                                                   .force = true };

static int
setup (void **state)
{
  UNUSED (state);
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

static void
read_label (const char *path, struct disk_label *l)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  assert_int_equal (pread (fd, l, sizeof *l, 0), sizeof *l);
  close (fd);
}

/* ---- label ---- */

static void
test_label_is_written (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES + 777);
  static const uint8_t zeros[DISK_LABEL_BYTES];
  struct disk_label l, again;
  struct volume *v;

  UNUSED (state);
  assert_int_equal (volume_open_path (path, &plain, &v), 0);
  assert_int_equal (v->size_bytes, SIZE_BYTES - MIB);
  assert_true (v->batched && v->checked);
  read_label (path, &l);
  assert_memory_equal (l.magic, DISK_LABEL_MAGIC, 8);
  assert_int_equal (le32toh (l.version), DISK_LABEL_VERSION);
  assert_int_equal (l.spare0, 0);
  assert_int_equal (le64toh (l.size_bytes), SIZE_BYTES + 777);
  assert_memory_not_equal (l.uuid, zeros, sizeof l.uuid);
  assert_memory_equal (l.spare1, zeros, sizeof l.spare1);
  assert_int_equal (le32toh (l.crc), crc32c (0, &l, sizeof l - 4));
  volume_close (v);

  assert_int_equal (test_open (path, &plain), 0);
  read_label (path, &again);
  assert_memory_not_equal (again.uuid, l.uuid, sizeof l.uuid);
}

/* With a good label nobody asks what the data are. */
static void
test_labelled_with_data (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);

  UNUSED (state);
  assert_int_equal (test_open (path, &plain), 0);
  test_poke (path, MIB, "x", 1);
  test_poke (path, SIZE_BYTES - 1, "x", 1);
  assert_int_equal (test_open (path, &plain), 0);
}

static void
test_label_damaged (void **state)
{
  static const uint64_t places[] = { 0, 8, 12, 16, 24, 40, 4091, 4092, 4095 };
  const char *path = test_file ("v", SIZE_BYTES);
  struct disk_label l;

  UNUSED (state);
  assert_int_equal (test_open (path, &plain), 0);
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    uint8_t byte;

    read_label (path, &l);
    byte = ((uint8_t *) &l)[places[i]] ^ 0x10;
    test_poke (path, places[i], &byte, 1);
    assert_int_equal (test_open (path, &plain), EEXIST);
    assert_int_equal (test_open (path, &forced), 0);
    assert_int_equal (test_open (path, &plain), 0);
  }
  assert_true (test_log_has ("damaged or of another version") > 0);
}

/* A right CRC alone does not make a label ours. */
static void
test_label_of_others (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct disk_label l;

  UNUSED (state);
  for (int i = 0; i < 3; i++) {
    assert_int_equal (test_open (path, &forced), 0);
    read_label (path, &l);
    if (i == 0)
      l.version = htole32 (DISK_LABEL_VERSION + 1);
    else if (i == 1)
      l.spare0 = 1;
    else
      l.spare1[4000] = 1;
    l.crc = htole32 (crc32c (0, &l, sizeof l - 4));
    test_poke (path, 0, &l, sizeof l);
    assert_int_equal (test_open (path, &plain), EEXIST);
  }
  /* Something that lives behind a good label. */
  assert_int_equal (test_open (path, &forced), 0);
  test_poke (path, DISK_LABEL_BYTES, "x", 1);
  assert_int_equal (test_open (path, &plain), EEXIST);
}

static void
test_label_other_size (void **state)
{
  const char *path = test_file ("v", SIZE_BYTES);
  struct disk_label l;
  struct volume *v;

  UNUSED (state);
  assert_int_equal (test_open (path, &plain), 0);
  for (unsigned i = 0; i < 2; i++) {
    uint64_t size_bytes = i == 0 ? 2 * SIZE_BYTES : SIZE_BYTES / 2;

    assert_int_equal (truncate (path, (off_t) size_bytes), 0);
    assert_int_equal (volume_open_path (path, &plain, &v), 0);
    assert_int_equal (v->size_bytes, size_bytes - MIB);
    volume_close (v);
    read_label (path, &l);
    assert_int_equal (le64toh (l.size_bytes), size_bytes);
  }
}

/* ---- other data ---- */

static void
test_nonzero_byte (void **state)
{
  static const struct {
    uint64_t size_bytes, at;
    int error;
  } cases[] = {
    { SIZE_BYTES, 0, EEXIST },
    { SIZE_BYTES, MIB - 1, EEXIST },
    { SIZE_BYTES, MIB, 0 },
    { SIZE_BYTES, SIZE_BYTES - MIB - 1, 0 },
    { SIZE_BYTES, SIZE_BYTES - MIB, EEXIST },
    { SIZE_BYTES, SIZE_BYTES - 1, EEXIST },
    { SIZE_BYTES + 777, SIZE_BYTES + 776, EEXIST },
    { MIB + 300000, MIB + 299999, EEXIST },
    { MIB + 300000, MIB + 10, EEXIST },
  };

  UNUSED (state);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const char *path = test_file ("v", cases[i].size_bytes);

    test_poke (path, cases[i].at, "x", 1);
    assert_int_equal (test_open (path, &plain), cases[i].error);
    assert_int_equal (test_open (path, &forced), 0);
    assert_int_equal (test_open (path, &plain), 0);
  }
  assert_true (test_log_has ("data in its last MiB (name another") > 0);
}

/* Make path hold what a program makes, or (NULL) a partition table; false if
 * the program is not there.
 */
static bool
made_by (const char *command, const char *path)
{
  /* One partition of type 0x83, from sector 2048, of 4096 sectors. */
  static const uint8_t table[66] = {
    [4] = 0x83, [9] = 8, [13] = 16, [64] = 0x55, 0xaa
  };
  char line[3 * PATH_MAX];

  if (command == NULL) {
    test_poke (path, 446, table, sizeof table);
    return true;
  }

  snprintf (line, sizeof line,
            "PATH=$PATH:/sbin:/usr/sbin; %s '%s' >/dev/null 2>&1", command,
            path);
  return system (line) == 0;
}

static void
refused_from (const char *command, const char *type)
{
  const char *path = test_file ("v", 16 * MIB);
  uint8_t *before = test_pages (16 * MIB), *after = test_pages (16 * MIB);
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  if (!made_by (command, path)) {
    print_message ("skipped: '%s' does not work here\n", command);
    free (before);
    free (after);
    close (fd);
    skip ();
  }
  test_poke (path, 16 * MIB - 9, "a second copy", 9);
  assert_int_equal (pread (fd, before, 16 * MIB, 0), 16 * MIB);
  test_log_forget ();
  assert_int_equal (test_open (path, &plain), EEXIST);
  assert_int_equal (test_log_has (type), 1);
  assert_int_equal (pread (fd, after, 16 * MIB, 0), 16 * MIB);
  assert_memory_equal (before, after, 16 * MIB);

  assert_int_equal (test_open (path, &forced), 0);
  assert_int_equal (test_log_has ("overwriting it"), 1);
  assert_int_equal (pread (fd, after, MIB, 15 * MIB), MIB);
  memset (before, 0, MIB);
  assert_memory_equal (before, after, MIB); /* a second copy went too */
  assert_int_equal (test_open (path, &plain), 0);
  close (fd);
  free (before);
  free (after);
}

static void
test_ext4 (void **state)
{
  UNUSED (state);
  refused_from ("mke2fs -q -F -t ext4", "holds ext4");
}

static void
test_swap (void **state)
{
  UNUSED (state);
  refused_from ("mkswap", "holds swap");
}

static void
test_partitions (void **state)
{
  UNUSED (state);
  refused_from (NULL, "holds dos");
}

/* A file system made over our label by a program that does not care. */
static void
test_ext4_over_label (void **state)
{
  const char *path = test_file ("v", 16 * MIB);

  UNUSED (state);
  assert_int_equal (test_open (path, &plain), 0);
  if (!made_by ("mke2fs -q -F -t ext4", path))
    skip ();
  assert_int_equal (test_open (path, &plain), EEXIST);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_label_is_written),
    CASE (test_labelled_with_data),
    CASE (test_label_damaged),
    CASE (test_label_of_others),
    CASE (test_label_other_size),
    CASE (test_nonzero_byte),
    CASE (test_ext4),
    CASE (test_swap),
    CASE (test_partitions),
    CASE (test_ext4_over_label),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
