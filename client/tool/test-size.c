/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes that are taken and refused, and how numbers are shown. */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "size.h"

#define NR_OF(a) (sizeof (a) / sizeof (a)[0])

static void
test_taken (void **state)
{
  static const struct {
    const char *text;
    uint64_t bytes;
  } cases[] = {
    { "0", 0 },
    { "1", 1 },
    { "007", 7 },
    { "512b", 512 },
    { "512B", 512 },
    { "3s", 1536 },
    { "3S", 1536 },
    { "1k", 1024 },
    { "1K", 1024 },
    { "10M", 10485760 },
    { "10m", 10485760 },
    { "10G", UINT64_C (10737418240) },
    { "10g", UINT64_C (10737418240) },
    { "1T", UINT64_C (1) << 40 },
    { "1t", UINT64_C (1) << 40 },
    { "1P", UINT64_C (1) << 50 },
    { "1p", UINT64_C (1) << 50 },
    { "7E", UINT64_C (7) << 60 },
    { "7e", UINT64_C (7) << 60 },
    { "9223372036854775807", INT64_MAX },
    { "9007199254740991k", UINT64_C (9007199254740991) << 10 },
    { "00000000000000000000000000000001", 1 },
  };

  (void) state;
  for (size_t i = 0; i < NR_OF (cases); i++) {
    uint64_t bytes = 42;

    if (size_parse (cases[i].text, &bytes) != 0 || bytes != cases[i].bytes)
      fail_msg ("'%s' is %ju", cases[i].text, (uintmax_t) bytes);
  }
}

static void
test_refused (void **state)
{
  static const char *const wrong[] = {
    "",      " ",    "x",    "K",   "-1",
    "+1",    " 1",   "1 ",   "1 K", "1KB",
    "1KiB",  "1.5G", "0x10", "1e3", "1_000",
    "1,000", "--1",  "1-",   "1z",  "1Z",
    "1Y",    "1\n",  "1K1",  "٣",   "99999999999999999999x",
  };
  static const char *const big[] = {
    "9223372036854775808",
    "9007199254740992K",
    "8E",
    "8e",
    "8192P",
    "8388608T",
    "16E",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551617",
    "99999999999999999999999",
    "36893488147419103233K",
    "18014398509481984s",
  };
  uint64_t bytes = 42;

  (void) state;
  for (size_t i = 0; i < NR_OF (wrong); i++)
    if (size_parse (wrong[i], &bytes) != EINVAL)
      fail_msg ("'%s' is not refused", wrong[i]);
  for (size_t i = 0; i < NR_OF (big); i++)
    if (size_parse (big[i], &bytes) != ERANGE)
      fail_msg ("'%s' is not too big", big[i]);
  assert_int_equal (bytes, 42);
}

static void
test_size_human (void **state)
{
  char text[HUMAN_BYTES];

  (void) state;
  assert_string_equal (size_human (0, text), "0B");
  assert_string_equal (size_human (1023, text), "1023B");
  assert_string_equal (size_human (1024, text), "1.0K");
  assert_string_equal (size_human (1048575, text), "1.0M");
  assert_string_equal (size_human (1047552, text), "1023.0K");
  assert_string_equal (size_human (UINT64_C (10) << 30, text), "10.0G");
  assert_string_equal (size_human (INT64_MAX, text), "8.0E");
  assert_string_equal (size_human (UINT64_MAX, text), "16.0E");
}

static void
test_time_human (void **state)
{
  char text[HUMAN_BYTES];

  (void) state;
  assert_string_equal (time_human (0, text), "0ms");
  assert_string_equal (time_human (-1, text), "0ms");
  assert_string_equal (time_human (0.9999, text), "1.0s");
  assert_string_equal (time_human (9.94, text), "9.9s");
  assert_string_equal (time_human (9.96, text), "9s");
  assert_string_equal (time_human (59.9, text), "59s");
  assert_string_equal (time_human (60, text), "1m 0s");
  assert_string_equal (time_human (3599, text), "59m 59s");
  assert_string_equal (time_human (86399, text), "23h 59m");
  assert_string_equal (time_human (93784, text), "1d 2h");
  time_human (1e300, text);
}

static void
test_percent (void **state)
{
  (void) state;
  assert_true (percent (0, 0) == 0);
  assert_true (percent (1, 0) == 0);
  assert_true (percent (1, 4) == 25);
  assert_true (percent (UINT64_MAX, UINT64_MAX) == 100);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_taken),      cmocka_unit_test (test_refused),
    cmocka_unit_test (test_size_human), cmocka_unit_test (test_time_human),
    cmocka_unit_test (test_percent),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
