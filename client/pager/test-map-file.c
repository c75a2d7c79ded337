/* SPDX-License-Identifier: BSD-2-Clause */
/* A file as memory: its end, who else maps it, what is durable when, a server
 * that dies, and a file that is closed by force.  That bytes are right is for
 * test-file-model.c.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-file-rig.h"
#include "test-map-rig.h"

#define FRAMES 64u

static struct farpage_map *
map_file (struct file_rig *r)
{
  struct farpage_map *m;

  assert_int_equal (farpage_map_file (r->file, FRAMES * PAGE, &m), 0);
  return m;
}

/* The last page is not all of it the file's. */
static void
test_end (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                    .size = MIB + 100,
                                    .pages = 64 };
  struct file_rig r;
  struct farpage_map *m, *none = NULL;
  uint8_t *memory, bytes[200];
  size_t done;

  (void) state;
  assert_true (file_rig_start (&r, &how));
  m = map_file (&r);
  memory = farpage_map_address (m);
  memset (memory + MIB, 7, 200);
  assert_int_equal (farpage_map_file (r.file, 0, &none), EBUSY);
  assert_int_equal (farpage_file_map_count (r.file, 5, 1, 1), EBUSY);
  assert_int_equal (farpage_file_setsize (r.file, MIB), EBUSY);
  assert_int_equal (farpage_advise (m, 0, PAGE, FARPAGE_ADVICE_FREE),
                    EOPNOTSUPP);
  assert_int_equal (farpage_sync (m, 0, MIB + PAGE + 1), EINVAL);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_file_pread (r.file, bytes, 200, MIB, &done), 0);
  assert_int_equal (done, 100);
  for (unsigned i = 0; i < 100; i++)
    assert_int_equal (bytes[i], 7);
  m = map_file (&r);
  memory = farpage_map_address (m);
  assert_int_equal (memory[MIB + 99], 7);
  assert_int_equal (memory[MIB + 100], 0);
  assert_int_equal (farpage_unmap (m), 0);
  file_rig_end (&r, 0);
}

/* What was synced is there after the server was killed; who has the map sees
 * nothing of it.
 */
static void
test_kill (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_DURABLE,
                                    .size = 64 * MIB,
                                    .pages = 64 };
  struct file_rig r;
  struct farpage_map *m;
  uint64_t *memory;

  (void) state;
  if (!file_rig_start (&r, &how))
    skip ();
  m = map_file (&r);
  memory = farpage_map_address (m);
  for (unsigned round = 1; round <= 3; round++) {
    for (unsigned i = 0; i < 4 * FRAMES; i++)
      memory[i * WORDS] = 1000 * round + i;
    assert_int_equal (farpage_sync (m, 0, 4 * FRAMES * PAGE), 0);
    server_kill (&r.server);
    server_restart (&r.server);
    for (unsigned i = 0; i < 4 * FRAMES; i++)
      assert_int_equal (memory[i * WORDS], 1000 * round + i);
  }
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
  file_rig_end (&r, 0);
}

/* By force: what is in memory stays, the rest is SIGBUS, never zeros. */
static void
test_force (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                    .size = 8 * MIB,
                                    .pages = 64 };
  struct file_rig r;
  struct farpage_map *m;
  uint8_t *memory, byte;

  (void) state;
  assert_true (file_rig_start (&r, &how));
  m = map_file (&r);
  memory = farpage_map_address (m);
  for (unsigned i = 0; i < 8 * FRAMES; i++)
    memory[i * PAGE] = 3;
  assert_int_equal (farpage_sync (m, 0, 8 * MIB), 0);
  assert_int_equal (farpage_pin (m, PAGE, 1), 0);
  farpage_file_force_close (r.file);
  assert_int_equal (map_peek (memory + PAGE, &byte), 0);
  assert_int_equal (byte, 3);
  for (unsigned i = 2; i < 8 * FRAMES; i++) {
    const int signal = map_peek (memory + i * PAGE, &byte);

    if (signal == 0)
      assert_int_equal (byte, 3);
    else
      assert_int_equal (signal, SIGBUS);
  }
  assert_true (map_stat (m).lost >= 7 * FRAMES);
  memory[PAGE] = 4;
  assert_int_equal (farpage_sync (m, PAGE, 1), EIO);
  assert_int_equal (farpage_unpin (m, PAGE, 1), 0);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), EIO);
  file_rig_end (&r, ESTALE);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_end),
    cmocka_unit_test (test_kill),
    cmocka_unit_test (test_force),
  };

  return MAP_RUN (tests);
}
