/* SPDX-License-Identifier: BSD-2-Clause */
/* crc32c: known answers (RFC 3720, B.4), whole and in parts. */

#include <config.h>

#include "crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void
test_known_answers (void **state)
{
  unsigned char buf[32];

  (void) state;
  assert_int_equal (crc32c (0, "123456789", 9), 0xe3069283);
  assert_int_equal (crc32c (0, NULL, 0), 0);
  memset (buf, 0, sizeof buf);
  assert_int_equal (crc32c (0, buf, sizeof buf), 0x8a9136aa);
  memset (buf, 0xff, sizeof buf);
  assert_int_equal (crc32c (0, buf, sizeof buf), 0x62a8ab43);
  for (unsigned i = 0; i < sizeof buf; i++)
    buf[i] = i;
  assert_int_equal (crc32c (0, buf, sizeof buf), 0x46dd794e);
}

static void
test_parts (void **state)
{
  unsigned char buf[4096 + 16];
  uint32_t whole;

  (void) state;
  for (unsigned i = 0; i < sizeof buf; i++)
    buf[i] = i * 2654435761u >> 13;
  for (unsigned start = 0; start < 16; start++) {
    whole = crc32c (0, buf + start, 4096);
    for (unsigned cut = 0; cut <= 4096; cut += cut < 70 ? 1 : 129)
      assert_int_equal (
          crc32c (crc32c (0, buf + start, cut), buf + start + cut, 4096 - cut),
          whole);
  }
  buf[100] ^= 1;
  assert_int_not_equal (crc32c (0, buf, 4096), crc32c (0, buf + 1, 4096));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_known_answers),
    cmocka_unit_test (test_parts),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
