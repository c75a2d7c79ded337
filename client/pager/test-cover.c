/* SPDX-License-Identifier: BSD-2-Clause */
/* The link and the time after an answer: when a write is durable, and what
 * becomes of it when connections are lost and the server comes again.
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

/* ---- cover ---- */

/* Alone it is covered at once; while another write is under way, which may
 * want the same flush, after 50 ms.
 */
static void
test_cover_times (void **state)
{
  struct io io = { 0 }, held = { 0 };

  (void) state;
  go (3); /* one for demand, one that is held up */
  io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 0, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_in_range (io.end_us - io.begin_us, 1000, 40000);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 1);
  io_start (&io, l, REQUEST_WRITE, POOL_WSYNC, 0, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_in_range (io.end_us - io.begin_us, 0, 40000);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 2);
  net_sleep_ms (120);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 2);
  fake_rule (&fake, FAKE_WRITE, FAKE_HOLD, 0, 0, 1);
  io_start (&held, l, REQUEST_WRITE, POOL_WASYNC, 4096, page, 4096);
  wait_count (FAKE_WRITE, 3);
  io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 0, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_in_range (io.end_us - io.begin_us, 49000, 150000);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 3);
  fake_release (&fake);
  assert_int_equal (io_wait (&held), 0);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 4);
}

/* Half of the async window at once: no wait for the 50 ms. */
static void
test_cover_half (void **state)
{
  static uint8_t data[4 * CLUSTER];
  static struct io io[64];
  uint64_t half;
  struct link_stat st;
  unsigned nr;

  (void) state;
  go (1);
  net_stat (l, &st);
  half = st.pool[POOL_WASYNC].limit_bytes / 2;
  nr = (unsigned) ((half + CLUSTER - 1) / CLUSTER);
  assert_in_range (nr, 1, 64);
  for (unsigned i = 0; i < nr; i++)
    io_start (&io[i], l, REQUEST_WRITE, POOL_WASYNC, i * CLUSTER, data,
              CLUSTER);
  for (unsigned i = 0; i < nr; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  assert_in_range (io[nr - 1].end_us - io[0].begin_us, 0, 45000);
}

/* Durable by itself: no flush. */
static void
test_fua (void **state)
{
  struct io io = { .fua = true };

  (void) state;
  go (1);
  io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 0, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_in_range (io.end_us - io.begin_us, 0, 40000);
  net_sleep_ms (100);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 0);
}

/* A server without FUA: a flush at once does it. */
static void
test_no_fua (void **state)
{
  struct io io = { .fua = true };

  (void) state;
  fake.flags &= ~8;
  go (1);
  io_start (&io, l, REQUEST_WRITE, POOL_ADMIN, 0, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_in_range (io.end_us - io.begin_us, 0, 40000);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 1);
}

static void
test_volatile (void **state)
{
  struct link_config config = config_of ();

  (void) state;
  config.is_volatile = true;
  go_with (&config);
  assert_false (link_is_durable (l));
  assert_int_equal (write_page (POOL_WSYNC, 0), 0);
  net_sleep_ms (100);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 0);
  assert_int_equal (io_do (l, REQUEST_FLUSH, POOL_ADMIN, 0, NULL, 0), 0);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 1);
}

/* What is replied to after a flush was sent waits for the next one. */
static void
test_cover_seq (void **state)
{
  struct io first = { 0 }, second = { 0 };

  (void) state;
  go (3); /* one for demand, one is held up by the flush */
  fake_rule (&fake, FAKE_FLUSH, FAKE_HOLD, 0, 0, 1);
  io_start (&first, l, REQUEST_WRITE, POOL_WSYNC, 0, page, 4096);
  wait_count (FAKE_FLUSH, 1);
  io_start (&second, l, REQUEST_WRITE, POOL_WSYNC, 4096, page, 4096);
  wait_written (2);
  net_check (l);
  assert_int_equal (io_wait_ms (&first, 20), -1);
  fake_rule (&fake, FAKE_FLUSH, FAKE_SILENT, 0, 0, 1);
  /* fake_rule () of a hold alone takes back a release. */
  fake_release (&fake);
  assert_int_equal (io_wait (&first), 0);
  wait_count (FAKE_FLUSH, 2);
  assert_int_equal (io_wait_ms (&second, 100), -1);
  fake_cut (&fake);
  assert_int_equal (io_wait (&second), 0);
  assert_int_equal (fake_count (&fake, FAKE_WRITE), 3);
  net_check (l);
}

/* A flush that fails takes with it what was replied to before it was sent, and
 * nothing earlier or later.
 */
static void
test_flush_fails (void **state)
{
  struct io first = { 0 }, io[2] = { 0 };

  (void) state;
  go (3); /* one for demand, one is held up by the flush */
  fake_rule (&fake, FAKE_FLUSH, FAKE_HOLD, 0, 0, 1);
  io_start (&first, l, REQUEST_WRITE, POOL_WSYNC, 0, page, 4096);
  wait_count (FAKE_FLUSH, 1);
  for (unsigned i = 0; i < 2; i++) {
    io_start (&io[i], l, REQUEST_WRITE, POOL_WSYNC, 4096 * (i + 1), page, 4096);
    wait_written (2 + i);
  }
  fake_rule (&fake, FAKE_FLUSH, FAKE_ERROR, 5, 0, 1);
  fake_release (&fake);
  assert_int_equal (io_wait (&first), 0);
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal (io_wait (&io[i]), EIO);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), 2);
  assert_int_equal (write_page (POOL_WASYNC, 0), 0);
  net_check (l);
}

/* ---- loss ---- */

/* Replied to, not flushed, then the server is gone, and what it had in memory,
 * too: it is written again, to its place, before anybody's flush.
 */
static void
test_replied_again (void **state)
{
  struct io io = { 0 }, flush = { 0 };
  struct link_stat st;
  unsigned nr;

  (void) state;
  go (1);
  fake_rule (&fake, FAKE_FLUSH, FAKE_SILENT, 0, 0, 1);
  io_start (&io, l, REQUEST_WRITE, POOL_WSYNC, 8192, page, 4096);
  wait_count (FAKE_FLUSH, 1);
  fake_rule (&fake, FAKE_WRITE, FAKE_HOLD, 0, 0, 1);
  fake_refuse (&fake, true);
  fake_cut (&fake);
  wait_event (LINK_DISCONNECTED);
  memset (fake.data, 0, fake.data_bytes);
  io_start (&flush, l, REQUEST_FLUSH, POOL_ADMIN, 0, NULL, 0);
  net_check (l);
  fake_refuse (&fake, false);
  wait_event (LINK_CONNECTED);
  wait_count (FAKE_WRITE, 2);
  nr = fake_count (&fake, FAKE_FLUSH);
  assert_int_equal (io_wait_ms (&flush, 100), -1);
  assert_int_equal (fake_count (&fake, FAKE_FLUSH), nr);
  net_check (l);
  fake_release (&fake);
  assert_int_equal (io_wait (&io), 0);
  assert_int_equal (io_wait (&flush), 0);
  assert_int_equal (io.req.off_bytes, 8192);
  assert_int_equal (atomic_load (&io.asked), 0);
  assert_memory_equal (fake.data + 8192, page, 4096);
  net_stat (l, &st);
  assert_int_equal (st.nr_elsewhere, 0);
  assert_int_equal (atomic_load (&admitted), 0);
  net_check (l);
}

/* One of several is lost: what is replied to stays, nobody is told. */
static void
test_one_lost (void **state)
{
  struct io io = { .has_place = true, .place = 65536 };
  struct link_stat st;

  (void) state;
  go (4);
  fake_rule (&fake, FAKE_WRITE, FAKE_CLOSE, 0, 0, 1);
  io_start (&io, l, REQUEST_WRITE, POOL_WSYNC, 4096, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_int_equal (atomic_load (&io.asked), 1);
  assert_memory_equal (fake.data + 65536, page, 4096);
  net_wait_up (l, 4);
  assert_int_equal (atomic_load (&events[LINK_DISCONNECTED]), 0);
  net_stat (l, &st);
  assert_int_equal (st.nr_reconnects, 1);
  net_check (l);
}

/* 50 ms, 100, 200, 400, each a fifth more or less. */
static void
test_backoff (void **state)
{
  unsigned nr;

  (void) state;
  go (1);
  fake_refuse (&fake, true);
  fake_cut (&fake);
  net_sleep_ms (1200);
  pthread_mutex_lock (&fake.mutex);
  nr = fake.nr_refused;
  pthread_mutex_unlock (&fake.mutex);
  assert_in_range (nr, 3, 5);
  fake_refuse (&fake, false);
  wait_event (LINK_CONNECTED);
}

static void
reconnect (void)
{
  atomic_store (&events[LINK_DISCONNECTED], 0);
  atomic_store (&events[LINK_CONNECTED], 0);
  fake_refuse (&fake, true);
  fake_cut (&fake);
  wait_event (LINK_DISCONNECTED);
}

/* Each of them: after it the export is not the one that it was. */
static void
test_not_the_same (void **state)
{
  (void) state;
  for (unsigned i = 0; i < 7; i++) {
    struct link_config config = config_of ();
    struct io io = { 0 };

    setup (NULL);
    config.admit = on_admit;
    memcpy (fake.block, ((uint32_t[]){ 512, 4096, 65536 }), 12);
    go_with (&config);
    set_rules ((struct link_rules){ .asks = true });
    net_wait_up (l, 1);
    assert_int_equal (atomic_load (&admitted), 0);
    reconnect ();
    io_start (&io, l, REQUEST_WRITE, POOL_WASYNC, 0, page, 4096);
    if (i == 0)
      fake.size -= 4096;
    else if (i == 1)
      fake.flags &= ~4;
    else if (i == 2)
      fake.flags |= 2;
    else if (i == 3)
      fake.block[2] = 32768;
    else if (i == 4)
      fake.description = "farpage instance=00112233445566778899aabbccddeeff";
    else if (i == 5)
      fake.block[0] = 4096;
    else
      atomic_store (&admit_error, ESTALE);
    fake_refuse (&fake, false);
    assert_int_equal (io_wait (&io), ESTALE);
    assert_int_equal (atomic_load (&admitted), i == 6);
    assert_int_equal (atomic_load (&events[LINK_LOST]), 1);
    assert_int_equal (atomic_load (&events[LINK_CONNECTED]), 0);
    assert_int_equal (fake_count (&fake, FAKE_WRITE), 0);
    assert_int_equal (write_page (POOL_WSYNC, 0), ESTALE);
    net_check (l);
    teardown (NULL);
  }
}

static void
test_admitted (void **state)
{
  struct link_config config = config_of ();

  (void) state;
  config.admit = on_admit;
  config.connections = 3;
  go_with (&config);
  set_rules ((struct link_rules){ .asks = true });
  net_wait_up (l, 3);
  assert_int_equal (atomic_load (&admitted), 0);
  reconnect ();
  fake_refuse (&fake, false);
  net_wait_up (l, 3);
  assert_int_equal (atomic_load (&admitted), 3);
  assert_int_equal (write_page (POOL_WSYNC, 0), 0);
}

/* Who says nothing of itself is not connected to again where writes have no
 * other place; and a write that was under way on a lost connection ends all,
 * also while others are up.  A read goes to another.
 */
static void
test_strict (void **state)
{
  static const enum fake_kind kinds[] = { FAKE_READ, FAKE_WRITE, FAKE_TRIM,
                                          FAKE_KINDS };

  (void) state;
  for (unsigned i = 0; i < 4; i++) {
    bool read = kinds[i] == FAKE_READ;
    int err;

    setup (NULL);
    go (3);
    set_rules ((struct link_rules){ .strict = true });
    if (kinds[i] == FAKE_KINDS)
      fake_cut (&fake);
    else
      fake_rule (&fake, kinds[i], FAKE_CLOSE, 0, 0, 1);
    if (read)
      err = io_do (l, REQUEST_READ, POOL_AHEAD, 0, other, 4096);
    else if (kinds[i] == FAKE_TRIM)
      err = io_do (l, REQUEST_TRIM, POOL_ADMIN, 0, NULL, 4096);
    else
      err = write_page (POOL_WSYNC, 0);
    assert_int_equal (err, read ? 0 : ESTALE);
    if (read)
      net_wait_up (l, 3);
    else
      wait_event (LINK_LOST);
    assert_int_equal (write_page (POOL_WSYNC, 0), read ? 0 : ESTALE);
    assert_int_equal (atomic_load (&events[LINK_LOST]), !read);
    net_check (l);
    teardown (NULL);
  }
}

static void
get_size (void *arg)
{
  *(uint64_t *) arg = link_size_bytes (l);
}

/* What the server has more is taken where somebody looks. */
static void
test_grown (void **state)
{
  (void) state;
  for (unsigned grows = 0; grows < 2; grows++) {
    uint64_t was, is;

    setup (NULL);
    go (1);
    set_rules ((struct link_rules){ .grows = grows != 0 });
    loop_call (link_loop (l), get_size, &was);
    reconnect ();
    fake.size += 512;
    fake_refuse (&fake, false);
    wait_event (LINK_CONNECTED);
    loop_call (link_loop (l), get_size, &is);
    assert_int_equal (is, was + (grows != 0 ? 512 : 0));
    teardown (NULL);
  }
}

/* A server that tells an instance: a session, its generation one more each
 * time; what was sent goes again to its place, for the old ones are fenced.
 */
static void
test_session (void **state)
{
  static const char begin[] = "n~00112233445566778899aabbccddeeff.";
  struct io io = { 0 };
  char session[33] = { 0 }, away[128];

  (void) state;
  fake.description = "farpage instance=00112233445566778899aabbccddeeff d=x";
  go (2);
  assert_string_equal (link_instance (l), "n~00112233445566778899aabbccddeeff");
  assert_memory_equal (fake.name, begin, strlen (begin));
  memcpy (session, fake.name + strlen (begin), 32);
  assert_int_equal (strspn (session, "0123456789abcdef"), 32);
  assert_string_equal (fake.name + strlen (begin) + 32, ".1");
  fake_rule (&fake, FAKE_WRITE, FAKE_CLOSE, 0, 0, 1);
  io_start (&io, l, REQUEST_WRITE, POOL_WSYNC, 4096, page, 4096);
  assert_int_equal (io_wait (&io), 0);
  assert_int_equal (atomic_load (&io.asked), 0);
  assert_int_equal (fake_count (&fake, FAKE_WRITE), 2);
  net_wait_up (l, 2);
  assert_memory_equal (fake.name + strlen (begin), session, 32);
  assert_string_equal (fake.name + strlen (begin) + 32, ".2");
  /* No socket is not the same as no such instance. */
  snprintf (away, sizeof away, "%s-away", fake.path);
  assert_int_equal (rename (fake.path, away), 0);
  reconnect ();
  net_sleep_ms (300);
  fake_refuse (&fake, false);
  assert_int_equal (rename (away, fake.path), 0);
  net_wait_up (l, 2);
  assert_int_equal (atomic_load (&events[LINK_LOST]), 0);
  fake.refuse = 0x80000006; /* the instance is gone */
  reconnect ();
  fake_refuse (&fake, false);
  wait_event (LINK_LOST);
  net_check (l);
}

/* A read that nobody waited for, and now somebody does. */
struct hurried {
  struct io *io;
};

static void
hurry (void *arg)
{
  struct hurried *h = arg;

  link_hurry (l, &h->io->req);
}

static void
test_hurry (void **state)
{
  static uint8_t data[1024][4096];
  static struct io io[1024];
  struct hurried h = { .io = &io[1023] };
  struct link_stat st;

  (void) state;
  go (1);
  fake_rule (&fake, FAKE_READ, FAKE_HOLD, 0, 0, 1);
  for (unsigned i = 0; i < 1024; i++)
    io_start (&io[i], l, REQUEST_READ, POOL_AHEAD, 4096 * i, data[i], 4096);
  net_stat (l, &st);
  assert_true (st.pool[POOL_AHEAD].nr_queued > 0);
  assert_int_equal (st.pool[POOL_DEMAND].nr, 0);
  loop_call (link_loop (l), hurry, &h);
  net_sleep_ms (20);
  net_stat (l, &st);
  assert_int_equal (st.pool[POOL_DEMAND].nr, 1);
  net_check (l);
  fake_release (&fake);
  for (unsigned i = 0; i < 1024; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  assert_true (io[1023].end_us <= io[1022].end_us);
  net_check (l);
}

/* ---- demand first ---- */

#define NR_WRITES 16u

static uint8_t clusters[NR_WRITES][CLUSTER];
static struct io writes[NR_WRITES];

static void
start_writes (void)
{
  memset (writes, 0, sizeof writes);
  for (unsigned i = 0; i < NR_WRITES; i++)
    io_start (&writes[i], l, REQUEST_WRITE, POOL_WSYNC, i * CLUSTER,
              clusters[i], CLUSTER);
}

static void
wait_writes (void)
{
  for (unsigned i = 0; i < NR_WRITES; i++)
    assert_int_equal (io_wait (&writes[i]), 0);
}

/* One connection whose server does not read: what the socket does not take
 * stays in our queue, and the demand read that comes then is before it.
 */
static void
test_demand_one (void **state)
{
  struct io read = { 0 };
  struct link_stat st;

  (void) state;
  go (1);
  fake_rule (&fake, FAKE_WRITE, FAKE_HOLD, 0, 0, 1);
  start_writes ();
  wait_count (FAKE_WRITE, 1);
  net_sleep_ms (50);
  net_stat (l, &st);
  assert_in_range (st.pool[POOL_WSYNC].nr, 2, 6);
  io_start (&read, l, REQUEST_READ, POOL_DEMAND, 0, other, 4096);
  fake_release (&fake);
  assert_int_equal (io_wait (&read), 0);
  wait_writes ();
  assert_in_range (fake.writes_before_read, 1, 6);
  net_check (l);
}

/* Several: all that have writes stand still, and demand is answered. */
static void
test_demand_several (void **state)
{
  (void) state;
  go (3);
  fake_rule (&fake, FAKE_WRITE, FAKE_HOLD, 0, 0, 0);
  start_writes ();
  wait_count (FAKE_WRITE, 2);
  net_sleep_ms (50);
  assert_int_equal (fake_count (&fake, FAKE_WRITE), 2);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 0, other, 4096), 0);
  fake_release (&fake);
  wait_writes ();
  net_check (l);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    TEST (test_cover_times),
    TEST (test_cover_half),
    TEST (test_fua),
    TEST (test_no_fua),
    TEST (test_volatile),
    TEST (test_cover_seq),
    TEST (test_flush_fails),
    TEST (test_replied_again),
    TEST (test_one_lost),
    TEST (test_backoff),
    cmocka_unit_test (test_not_the_same),
    TEST (test_admitted),
    cmocka_unit_test (test_strict),
    cmocka_unit_test (test_grown),
    TEST (test_session),
    TEST (test_hurry),
    TEST (test_demand_one),
    TEST (test_demand_several),
  };

  return NET_RUN (tests);
}
