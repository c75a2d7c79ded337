/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager and an export that has more when its server comes back. */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-file-rig.h"

static const struct file_rig_how how = {
  .kind = SERVER_FILE, .size = 700001, .pages = 64, .unverified = true
};

/* The server, which is gone, comes back with so many bytes, the new ones of
 * this value. */
static void
come_back_with (struct file_rig *r, size_t bytes, int value)
{
  uint8_t *data = malloc (bytes);
  char path[200];
  FILE *image;

  snprintf (path, sizeof path, "%s/image", net_dir ());
  image = fopen (path, "a");
  memset (data, value, bytes);
  assert_int_equal (fwrite (data, bytes - r->server.size, 1, image), 1);
  assert_int_equal (fclose (image), 0);
  free (data);
  server_restart (&r->server);
  for (unsigned i = 0; i < 5000 && farpage_file_size (r->file) != bytes; i++)
    net_sleep_ms (1);
  assert_int_equal (farpage_file_size (r->file), bytes);
}

/* What is new is read, also of a page that was there to the old end, or was
 * being read to it.
 */
static void
test_grown_data (void **state)
{
  const uint64_t last = how.size / PAGE;
  uint8_t data[PAGE];

  (void) state;
  for (unsigned i = 0; i < 2; i++) {
    struct file_rig r;

    assert_true (file_rig_start (&r, &how));
    if (i == 0)
      assert_int_equal (farpage_file_pread (r.file, data, 1, last * PAGE, NULL),
                        0);
    server_kill (&r.server);
    if (i == 1)
      assert_int_equal (
          farpage_file_aio_getpages (r.file, last, 1, 0, 0, NULL, NULL), 0);
    come_back_with (&r, 900003, 7);
    assert_int_equal (farpage_file_pread (r.file, data, PAGE, how.size, NULL),
                      0);
    for (unsigned k = 0; k < PAGE; k++)
      assert_int_equal (data[k], 7);
    file_rig_end (&r, 0);
  }
}

/* The server comes back with more behind what was the end. */
static void
test_grown (void **state)
{
  const uint64_t more = 900003;
  struct file_rig r, again = { .link = NULL };
  char uri[300];

  (void) state;
  assert_true (file_rig_start (&r, &how));
  assert_int_equal (farpage_file_size (r.file), how.size);
  assert_int_equal (farpage_file_pwrite (r.file, "x", 1, how.size - 1, NULL),
                    0);
  assert_int_equal (farpage_file_pwrite (r.file, "x", 1, how.size, NULL),
                    EFBIG);
  server_kill (&r.server);
  come_back_with (&r, more, 0);
  assert_int_equal (farpage_file_pwrite (r.file, "yz", 2, how.size, NULL), 0);
  assert_int_equal (farpage_file_pwrite (r.file, "e", 1, more - 1, NULL), 0);
  assert_int_equal (farpage_file_pwrite (r.file, "e", 1, more, NULL), EFBIG);
  file_rig_close (&r, 0);
  server_uri (&r.server, uri, sizeof uri);
  file_rig_open (&again, uri, &how);
  for (unsigned i = 0; i < 2; i++) {
    uint8_t data[8] = { 0 };
    size_t done;

    assert_int_equal (farpage_file_pread (again.file, data, 8,
                                          i == 0 ? how.size - 2 : more - 2,
                                          &done),
                      0);
    assert_int_equal (done, i == 0 ? 8 : 2);
    assert_memory_equal (data, i == 0 ? "\0xyz\0\0\0\0" : "\0e", done);
  }
  file_rig_close (&again, 0);
  server_kill (&r.server);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_grown),
    cmocka_unit_test (test_grown_data),
  };

  return NET_RUN (tests);
}
