/* SPDX-License-Identifier: BSD-2-Clause */
/* stamp: the format as stamp.h draws it, and who may take an export. */

#include <config.h>

#include "stamp.h"

#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "crc32c.h"

static void
make (struct stamp *st, uint8_t *block)
{
  stamp_init (st, 77);
  st->beat = 0x1122334455667788;
  stamp_write (st, block);
}

static void
test_format (void **state)
{
  static const uint8_t beat[] = {
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11
  };
  uint8_t block[STAMP_BYTES];
  struct stamp st;
  uint32_t crc;

  (void) state;
  make (&st, block);
  assert_memory_equal (block, "FARPSWAP\1\0\0\0\1\0\0\0", 16);
  assert_memory_equal (block + 16, st.id, 16);
  assert_memory_equal (block + 32, beat, 8);
  assert_memory_equal (block + 40, "\x4d\0\0\0\0\0\0\0", 8);
  assert_string_equal ((char *) block + 56, st.host);
  memcpy (&crc, block + 4092, 4);
  assert_int_equal (le32toh (crc), crc32c (0, block, 4092));
}

static void
test_both_ways (void **state)
{
  uint8_t block[STAMP_BYTES], again[STAMP_BYTES];
  struct stamp st, other;

  (void) state;
  make (&st, block);
  assert_int_equal (st.pid, getpid ());
  assert_int_equal (stamp_read (block, &other), STAMP_VALID);
  assert_int_equal (other.beat, st.beat);
  assert_int_equal (other.nr_blocks, 77);
  stamp_write (&other, again);
  assert_memory_equal (block, again, sizeof block);
  make (&other, again);
  assert_memory_not_equal (st.id, other.id, sizeof st.id);
}

/* One bit wrong anywhere, and it is not believed. */
static void
test_damage (void **state)
{
  uint8_t block[STAMP_BYTES];
  struct stamp st;

  (void) state;
  make (&st, block);
  for (unsigned bit = 0; bit < 8 * STAMP_BYTES; bit++) {
    block[bit / 8] ^= 1 << bit % 8;
    assert_int_equal (stamp_read (block, &st), STAMP_FOREIGN);
    block[bit / 8] ^= 1 << bit % 8;
  }
  assert_int_equal (stamp_read (block, &st), STAMP_VALID);
}

/* Sums hold, but what they say is not known. */
static void
test_unknown (void **state)
{
  static const struct {
    unsigned at, value;
  } wrong[] = { { 0, 'X' }, { 8, 2 },  { 12, 3 },
                { 12, 0 },  { 52, 1 }, { 500, 1 } };
  uint8_t block[STAMP_BYTES];
  struct stamp st;

  (void) state;
  for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    uint32_t crc;

    make (&st, block);
    block[wrong[i].at] = wrong[i].value;
    crc = htole32 (crc32c (0, block, 4092));
    memcpy (block + 4092, &crc, 4);
    assert_int_equal (stamp_read (block, &st), STAMP_FOREIGN);
  }
  make (&st, block); /* a name that would write on a terminal */
  memcpy (st.host, "a\033[2Jb", 7);
  memset (st.host + 6, 'x', sizeof st.host - 6);
  stamp_write (&st, block);
  assert_int_equal (stamp_read (block, &st), STAMP_VALID);
  assert_memory_equal (st.host, "a?[2Jbx", 7);
  assert_int_equal (strlen (st.host), STAMP_HOST_MAX);
}

static void
test_rules (void **state)
{
  uint8_t block[STAMP_BYTES] = { 0 }, later[STAMP_BYTES];
  struct stamp st, other;

  (void) state;
  assert_int_equal (stamp_look (block, false), STAMP_TAKE);
  stamp_init (&st, 100);
  assert_false (stamp_is_ours (block, &st)); /* forgotten */
  block[1080] = 0x53;                        /* something else */
  assert_int_equal (stamp_look (block, false), STAMP_SOMETHING);
  assert_int_equal (stamp_look (block, true), STAMP_TAKE);
  assert_false (stamp_is_ours (block, &st));
  stamp_write (&st, block);
  assert_int_equal (stamp_look (block, false), STAMP_WATCH);
  assert_int_equal (stamp_look (block, true), STAMP_TAKE);
  assert_true (stamp_is_ours (block, &st));
  memcpy (later, block, sizeof later);
  assert_false (stamp_is_alive (block, later));
  st.beat++;
  stamp_write (&st, later);
  assert_true (stamp_is_alive (block, later));
  assert_true (stamp_is_ours (later, &st));
  stamp_init (&other, 100);
  assert_false (stamp_is_ours (later, &other));
  st.state = STAMP_CLOSED;
  stamp_write (&st, block);
  assert_int_equal (stamp_look (block, false), STAMP_TAKE);
  assert_false (stamp_is_ours (block, &st));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_format), cmocka_unit_test (test_both_ways),
    cmocka_unit_test (test_damage), cmocka_unit_test (test_unknown),
    cmocka_unit_test (test_rules),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
