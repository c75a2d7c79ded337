/* SPDX-License-Identifier: BSD-2-Clause */
/* The link and a server that lies, fails or is silent: what it says of the
 * export, and what it answers.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-fake.h"

/* ---- what it says of the export ---- */

static void
test_numbers (void **state)
{
  static const struct {
    uint64_t size;
    uint32_t block[3];
    int err;
    uint32_t least, max;
  } said[] = {
    { 4096, { 0, 0, 0 }, 0, 1, 32u << 20 },
    { 4095, { 0, 0, 0 }, 0, 1, 32u << 20 },
    { 0, { 0, 0, 0 }, 0, 1, 32u << 20 },
    { 8191, { 1, 4096, 65536 }, 0, 1, 65536 },
    { UINT64_C (1) << 62, { 0, 0, 0 }, 0, 1, 32u << 20 },
    { (UINT64_C (1) << 62) + 4096, { 0, 0, 0 }, EPROTO, 0, 0 },
    { UINT64_C (1) << 63, { 0, 0, 0 }, EPROTO, 0, 0 },
    { UINT64_MAX, { 0, 0, 0 }, EPROTO, 0, 0 },
    { 65536, { 512, 4096, 4096 }, 0, 512, 4096 },
    { 65536, { 512, 4096, UINT32_MAX }, 0, 512, 32u << 20 },
    { 65536, { 4096, 4096, 12288 }, 0, 4096, 12288 },
    { 65536 + 512, { 512, 4096, 12288 }, 0, 512, 12288 },
    { 65536 + 512, { 4096, 4096, 12288 }, EPROTO, 0, 0 },
    { 65536, { 8192, 8192, 65536 }, 0, 8192, 65536 },
    { 131072, { 65536, 65536, 131072 }, 0, 65536, 131072 },
    { 65536, { 512, 512, 2048 }, EPROTO, 0, 0 },
  };

  (void) state;
  for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
    struct link_config config = config_of ();
    int err;

    setup (NULL);
    fake.size = said[i].size;
    memcpy (fake.block, said[i].block, sizeof fake.block);
    fake_begin (&fake);
    err = link_open (&config, &l);
    if (err != said[i].err)
      fail_msg ("case %u: %s", i, strerror (err));
    if (err == 0) {
      assert_int_equal (link_size_bytes (l), said[i].size);
      assert_int_equal (link_block_bytes (l), said[i].least);
      assert_int_equal (link_request_max (l), said[i].max);
    }
    teardown (NULL);
  }
}

/* Of what it says of holes only what can be is taken, up to what cannot. */
static void
test_extents (void **state)
{
  static const struct {
    unsigned nr;
    uint32_t says[16];
    unsigned nr_is;
    uint32_t is[8]; /* bytes, and 1: zeros */
  } said[] = {
    { 2, { 65536, 0 }, 1, { 65536, 0 } },
    { 2, { 65536, 3 }, 1, { 65536, 1 } },
    { 6, { 4096, 0, 8192, 3, 53248, 1 }, 3, { 4096, 0, 8192, 1, 53248, 0 } },
    { 2, { 4096, 2 }, 1, { 4096, 1 } },        /* less than was asked */
    { 2, { UINT32_MAX, 3 }, 1, { 65536, 1 } }, /* beyond the export */
    { 4, { 65000, 0, UINT32_MAX, 2 }, 2, { 65000, 0, 536, 1 } },
    { 4, { 65536, 0, 4096, 3 }, 1, { 65536, 0 } },
    { 4, { 0, 3, 65536, 3 }, 0, { 0 } }, /* without end */
    { 6, { 512, 3, 0, 3, 65024, 3 }, 1, { 512, 1 } },
    { 16,
      { 1, 3, 1, 0, 1, 3, 1, 0, 1, 3, 1, 0, 1, 3, 1, 0 },
      8,
      { 1, 1, 1, 0, 1, 1 } },
  };

  (void) state;
  for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
    static struct request_extents x;

    memset (&x, 0xee, sizeof x);
    setup (NULL);
    fake.nr_extents = said[i].nr;
    memcpy (fake.extents, said[i].says, sizeof fake.extents);
    go (1);
    assert_true (link_can_status (l));
    assert_int_equal (io_do (l, REQUEST_STATUS, POOL_DEMAND, 0, &x, 65536), 0);
    if (x.nr != said[i].nr_is)
      fail_msg ("case %u: %u extents", i, x.nr);
    for (unsigned k = 0; k < x.nr && k < 3; k++) {
      assert_int_equal (x.extent[k].bytes, said[i].is[2 * k]);
      assert_int_equal (x.extent[k].zeros, said[i].is[2 * k + 1]);
    }
    teardown (NULL);
  }
}

/* Where there is no such thing, or an error instead. */
static void
test_no_extents (void **state)
{
  static struct request_extents x;

  (void) state;
  go (1);
  assert_false (link_can_status (l));
  assert_int_equal (io_do (l, REQUEST_STATUS, POOL_DEMAND, 0, &x, 65536),
                    ENOTSUP);
  teardown (NULL);
  setup (NULL);
  fake.nr_extents = 2;
  fake.extents[0] = 65536;
  go (1);
  fake_rule (&fake, FAKE_STATUS, FAKE_ERROR, 5, 0, 1);
  x.nr = 7;
  assert_int_equal (io_do (l, REQUEST_STATUS, POOL_DEMAND, 0, &x, 65536), EIO);
  assert_int_equal (x.nr, 0);
  assert_int_equal (io_do (l, REQUEST_STATUS, POOL_DEMAND, 0, &x, 65536), 0);
  assert_int_equal (x.nr, 1);
}

static void
test_readonly (void **state)
{
  (void) state;
  fake.flags |= 2;
  go (1);
  assert_true (link_is_readonly (l));
  assert_int_equal (write_page (POOL_WSYNC, 0), EROFS);
  assert_int_equal (io_do (l, REQUEST_TRIM, POOL_ADMIN, 0, NULL, 4096), EROFS);
  assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 0, other, 4096), 0);
}

/* Neither flush nor trim nor zeroes nor several connections. */
static void
test_poor (void **state)
{
  struct link_config config = config_of ();
  struct link_stat st;

  (void) state;
  fake.flags = 0;
  config.connections = 8;
  go_with (&config);
  net_stat (l, &st);
  assert_int_equal (st.nr_conns, 1);
  assert_false (link_is_durable (l));
  assert_false (link_can_trim (l) || link_can_zero (l));
  assert_int_equal (write_page (POOL_WSYNC, 0), 0);
  assert_int_equal (io_do (l, REQUEST_FLUSH, POOL_ADMIN, 0, NULL, 0), ENOTSUP);
  assert_int_equal (io_do (l, REQUEST_TRIM, POOL_ADMIN, 0, NULL, 4096),
                    ENOTSUP);
  assert_int_equal (io_do (l, REQUEST_ZERO, POOL_ADMIN, 0, NULL, 4096),
                    ENOTSUP);
  net_check (l);
}

static void
test_open_fails (void **state)
{
  struct link_config config = config_of ();
  uint64_t begin_us;

  (void) state;
  config.uri = "nbd+ssh://a/";
  assert_int_equal (link_open (&config, &l), EINVAL);
  assert_true (net_said ("the scheme is none of"));
  config.uri = uri;
  assert_int_equal (link_open (&config, &l), ENOENT); /* no socket */
  config.connections = 17;
  assert_int_equal (link_open (&config, &l), EINVAL);
  config.connections = 1;
  fake.refuse = 0x80000006; /* no such export */
  fake_begin (&fake);
  assert_int_equal (link_open (&config, &l), ENOENT);
  fake_refuse (&fake, true);
  assert_true (link_open (&config, &l) != 0);
  /* Who accepts and says nothing. */
  fake_end (&fake);
  setup (NULL);
  fake_begin (&fake);
  pthread_mutex_lock (&fake.mutex);
  config.deadline_us = 400000;
  begin_us = net_now_us ();
  assert_int_equal (link_open (&config, &l), ETIMEDOUT);
  assert_in_range (net_now_us () - begin_us, 400000, 1000000);
  pthread_mutex_unlock (&fake.mutex);
  assert_null (l);
}

/* ---- what it answers ---- */

static void
test_errors (void **state)
{
  static const struct {
    uint32_t wire;
    int err;
  } errors[] = { { 1, EPERM },     { 5, EIO },     { 12, ENOMEM },
                 { 22, EINVAL },   { 28, ENOSPC }, { 95, ENOTSUP },
                 { 12345, EINVAL } };
  static const enum fake_kind kinds[] = { FAKE_READ, FAKE_WRITE, FAKE_TRIM,
                                          FAKE_FLUSH, FAKE_ZERO };
  static const enum request_kind asked[] = { REQUEST_READ, REQUEST_WRITE,
                                             REQUEST_TRIM, REQUEST_FLUSH,
                                             REQUEST_ZERO };
  struct link_stat st;
  unsigned n = 0;

  (void) state;
  go (1);
  for (unsigned k = 0; k < 5; k++)
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++, n++) {
      fake_rule (&fake, kinds[k], FAKE_ERROR, errors[i].wire, 0, 1);
      assert_int_equal (io_do (l, asked[k], POOL_ADMIN, 0, page, 4096),
                        errors[i].err);
      assert_int_equal (io_do (l, asked[k], POOL_ADMIN, 0, page, 4096), 0);
    }
  net_stat (l, &st);
  assert_int_equal (st.nr_errors, n);
  assert_int_equal (st.nr_reconnects, 0);
  net_check (l);
}

/* Nonsense or the end, instead of an answer to a read: it is asked again. */
static void
test_read_again (void **state)
{
  static const enum fake_act acts[] = { FAKE_BAD_COOKIE, FAKE_BAD_MAGIC,
                                        FAKE_CLOSE, FAKE_HALF };
  struct link_stat st;

  (void) state;
  go (1);
  memcpy (fake.data + 8192, page, 4096);
  for (unsigned i = 0; i < 4; i++) {
    memset (other, 0, sizeof other);
    fake_rule (&fake, FAKE_READ, acts[i], 0, 0, 1);
    assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 8192, other, 4096),
                      0);
    assert_memory_equal (page, other, 4096);
    net_check (l);
  }
  net_stat (l, &st);
  assert_int_equal (st.nr_reconnects, 4);
  assert_int_equal (st.nr_replayed, 4);
}

/* A read that is done and did not bring all of its bytes once, or in more
 * pieces than are kept apart: what lies in the memory may not be what the
 * server has.
 */
static void
test_parts (void **state)
{
  static const int errors[] = {
    [FAKE_PARTS_NONE] = EIO,          [FAKE_PARTS_FIRST] = EIO,
    [FAKE_PARTS_SECOND] = EIO,        [FAKE_PARTS_FIRST_TWICE] = EIO,
    [FAKE_PARTS_ALL_AND_FIRST] = EIO, [FAKE_PARTS_BOTH] = 0,
    [FAKE_PARTS_TURNED] = 0,          [FAKE_PARTS_COMB_8] = 0,
    [FAKE_PARTS_COMB_9] = EIO,
  };
  struct link_stat st;

  (void) state;
  fake.nr_extents = 2;
  fake.extents[0] = 65536;
  go (1);
  memcpy (fake.data + 8192, page, 4096);
  for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    memset (other, 0, sizeof other);
    fake_rule (&fake, FAKE_READ, FAKE_PARTS, i, 0, 1);
    assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 8192, other, 4096),
                      errors[i]);
    if (errors[i] == 0)
      assert_memory_equal (page, other, 4096);
    net_check (l);
  }
  net_stat (l, &st);
  assert_int_equal (st.nr_reconnects, 0);
}

/* To a write or a trim: it goes to another place, or ends with an error. */
static void
test_write_elsewhere (void **state)
{
  static const enum fake_act acts[] = { FAKE_BAD_COOKIE, FAKE_BAD_MAGIC,
                                        FAKE_CLOSE, FAKE_HALF };
  struct link_stat st;

  (void) state;
  go (1);
  for (unsigned i = 0; i < 4; i++) {
    struct io io = { .has_place = true, .place = 65536 };

    memset (fake.data + 65536, 0, 4096);
    fake_rule (&fake, FAKE_WRITE, acts[i], 0, 0, 1);
    io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 4096, page, 4096);
    assert_int_equal (io_wait (&io), 0);
    assert_int_equal (atomic_load (&io.asked), 1);
    assert_memory_equal (fake.data + 65536, page, 4096);

    io.has_place = false;
    fake_rule (&fake, FAKE_TRIM, acts[i], 0, 0, 1);
    io_start (&io, l, REQUEST_TRIM, POOL_ADMIN, 4096, NULL, 4096);
    assert_int_equal (io_wait (&io), EIO);
    assert_int_equal (atomic_load (&io.asked), 2);
  }
  net_stat (l, &st);
  assert_int_equal (st.nr_elsewhere, 4);
  net_check (l);
}

/* ESHUTDOWN is the end of a connection, and the request goes again: to its own
 * place, for it was answered.
 */
static void
test_shutdown (void **state)
{
  struct io io = { 0 };
  struct link_stat st;

  (void) state;
  go (1);
  fake_rule (&fake, FAKE_WRITE, FAKE_ERROR, 108, 0, 1);
  io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 4096, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_int_equal (atomic_load (&io.asked), 0);
  assert_memory_equal (fake.data + 4096, page, 4096);
  net_stat (l, &st);
  assert_int_equal (st.nr_reconnects, 1);
  net_check (l);
}

/* No answer at all: told, again and again; then the deadline, and the memory is
 * the caller's.
 */
static void
test_silent (void **state)
{
  struct link_config config = config_of ();
  struct io io = { 0 };
  uint8_t *mine = malloc (4096);
  struct link_stat st;

  (void) state;
  config.deadline_us = 800000;
  config.report_us = 200000;
  go_with (&config);
  fake_rule (&fake, FAKE_READ, FAKE_HOLD, 0, 0, 1);
  io_start (&io, l, REQUEST_READ, POOL_DEMAND, 8192, mine, 4096);
  assert_int_equal (io_wait (&io), ETIMEDOUT);
  free (mine); /* an answer now would be written to it */
  assert_in_range (io.end_us - io.begin_us, 800000, 1100000);
  assert_true (net_said ("read of 4096 bytes at 8192 is on connection 0"));
  net_stat (l, &st);
  assert_in_range (st.nr_reports, 2, 4);
  fake_release (&fake);
  net_wait_up (l, 1);
  assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 0, other, 4096), 0);
  net_check (l);
}

/* The deadline of what waits in a queue. */
static void
test_queued_deadline (void **state)
{
  struct link_config config = config_of ();
  struct io io = { 0 };

  (void) state;
  config.deadline_us = 800000;
  go_with (&config);
  fake_refuse (&fake, true);
  fake_cut (&fake);
  wait_event (LINK_DISCONNECTED);
  io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 0, page, 4096);
  assert_int_equal (io_wait (&io), ETIMEDOUT);
  assert_int_equal (atomic_load (&io.asked), 0); /* it was never sent */
  assert_in_range (io.end_us - io.begin_us, 800000, 1100000);
  net_check (l);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_numbers),
    cmocka_unit_test (test_extents),
    TEST (test_no_extents),
    TEST (test_readonly),
    TEST (test_poor),
    TEST (test_open_fails),
    TEST (test_errors),
    TEST (test_read_again),
    TEST (test_parts),
    TEST (test_write_elsewhere),
    TEST (test_shutdown),
    TEST (test_silent),
    TEST (test_queued_deadline),
  };

  return NET_RUN (tests);
}
