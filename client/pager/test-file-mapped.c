/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges that are mapped for writing, beside an array of bytes. */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "file-mapped.h"
#include "test-util.h"

#define BYTES 300u
#define STEPS 100000u

static struct file_mapped mapped;
static bool plain[BYTES];

static void
check (void)
{
  const char *wrong = file_mapped_check (&mapped);
  uint64_t nr = 0, end = 0;

  if (wrong != NULL)
    fail_msg ("%s", wrong);
  for (unsigned i = 0; i < BYTES; i++) {
    nr += plain[i];
    if (plain[i])
      end = i + 1;
  }
  assert_int_equal (mapped.bytes, nr);
  assert_int_equal (file_mapped_end (&mapped), end);
}

static int
add (uint64_t off, uint64_t end)
{
  for (uint64_t i = off; i < end; i++)
    if (plain[i])
      return EBUSY;
  memset (plain + off, true, end - off);
  return 0;
}

static int
take_away (uint64_t off, uint64_t end)
{
  for (uint64_t i = off; i < end; i++)
    if (!plain[i])
      return EINVAL;
  memset (plain + off, false, end - off);
  return 0;
}

static void
test_random (void **state)
{
  uint64_t random = test_seed ();

  (void) state;
  memset (&mapped, 0, sizeof mapped);
  memset (plain, 0, sizeof plain);
  for (unsigned i = 0; i < STEPS; i++) {
    uint64_t off = test_random_below (&random, BYTES);
    uint64_t end = off + 1 + test_random_below (&random, 20);

    if (end > BYTES)
      end = BYTES;
    if (test_random_below (&random, 2) == 0)
      assert_int_equal (file_mapped_add (&mapped, off, end), add (off, end));
    else
      assert_int_equal (file_mapped_remove (&mapped, off, end),
                        take_away (off, end));
    check ();
  }
}

/* Every other byte, until there is no room; the content stays what it is. */
static void
test_full (void **state)
{
  const uint64_t end = 2 * FILE_MAPPED_MAX;

  (void) state;
  memset (&mapped, 0, sizeof mapped);
  for (uint64_t i = 0; i < end; i += 2)
    assert_int_equal (file_mapped_add (&mapped, i * 10, i * 10 + 10), 0);
  assert_int_equal (file_mapped_add (&mapped, end * 10, end * 10 + 10), ENOMEM);
  assert_int_equal (file_mapped_remove (&mapped, 3, 5), ENOMEM);
  assert_int_equal (mapped.bytes, FILE_MAPPED_MAX * 10);
  assert_int_equal (file_mapped_add (&mapped, 10, 20), 0); /* joins two */
  assert_int_equal (file_mapped_remove (&mapped, 3, 5), 0);
  assert_int_equal (mapped.bytes, FILE_MAPPED_MAX * 10 + 8);
  assert_null (file_mapped_check (&mapped));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random),
    cmocka_unit_test (test_full),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
