/* SPDX-License-Identifier: BSD-2-Clause */
/* The link over a network that is slow, frozen and cut, and servers that are
 * killed.  FARPAGE_SEED: of test_random.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "test-net.h"

#define MIB     (UINT64_C (1) << 20)
#define CLUSTER 65536u
#define S_US    UINT64_C (1000000)

static struct server server;
static struct relay relay;
static struct link *l;
static bool has_server, has_relay;
static char uri[256];
static uint8_t page[4096], newer[4096], other[4096];
static atomic_uint events[4];

static void
on_event (void *arg, enum link_event event)
{
  (void) arg;
  atomic_fetch_add (&events[event], 1);
}

static int
setup (void **state)
{
  (void) state;
  for (unsigned i = 0; i < 4; i++)
    atomic_store (&events[i], 0);
  net_fill (page, sizeof page, 1);
  net_fill (newer, sizeof newer, 2);
  net_forget ();
  return 0;
}

static int
teardown (void **state)
{
  (void) state;
  if (l != NULL)
    link_close (l);
  if (has_relay)
    relay_stop (&relay);
  if (has_server)
    server_kill (&server);
  l = NULL;
  has_relay = has_server = false;
  return 0;
}

static void
start_server (enum server_kind kind)
{
  has_server = server_start (&server, kind, 256 * MIB, NULL);
  if (!has_server)
    skip ();
  server_uri (&server, uri, sizeof uri);
}

static void
start_relay (bool tcp, const char *options)
{
  if (!relay_is_there ())
    skip ();
  relay_start (&relay, &server, tcp, options);
  has_relay = true;
  relay_uri (&relay, server.kind == SERVER_FARPAGE ? "swap/t:64M" : "", uri,
             sizeof uri);
}

static void
go (unsigned connections, uint64_t deadline_us)
{
  const struct link_config config = { .uri = uri,
                                      .connections = connections,
                                      .deadline_us = deadline_us,
                                      .cluster_bytes = CLUSTER,
                                      .event = on_event };
  int err = link_open (&config, &l);

  if (err != 0)
    fail_msg ("%s: %s", uri, strerror (err));
  net_wait_up (l, connections);
}

/* ---- late writes ---- */

/* The newest. */
static unsigned
last_conn (void)
{
  const char *text = relay_tell (&relay, "stat a");
  unsigned last = 0;

  for (const char *p = text; (p = strstr (p, "\"id\":")) != NULL; p++) {
    unsigned id = (unsigned) strtoul (p + 5, NULL, 10);

    last = id > last ? id : last;
  }
  return last;
}

/* A write is sent into a network that stands still; the link gives the
 * connection up (for a read's deadline), and the write goes again.  Then newer
 * data is written where it went, and then the network moves: the first one
 * arrives.
 */
static void
late_write (struct io *late)
{
  static struct io read; /* a failed test leaves it with the link */
  unsigned conn;

  go (1, 1500000);
  conn = last_conn ();
  relay_tell (&relay, "freeze a up conn=%u", conn);
  io_start (&read, l, REQUEST_READ, POOL_DEMAND, 0, other, 4096);
  net_sleep_ms (900);
  io_start (late, l, REQUEST_WRITE, POOL_WASYNC, MIB, page, 4096);
  assert_int_equal (io_wait (&read), ETIMEDOUT);
  assert_int_equal (io_wait (late), 0);
  net_check (l);
  assert_int_equal (
      io_do (l, REQUEST_WRITE, POOL_WSYNC, late->req.off_bytes, newer, 4096),
      0);
  relay_tell (&relay, "thaw a");
  net_sleep_ms (300);
  assert_int_equal (
      io_do (l, REQUEST_READ, POOL_DEMAND, late->req.off_bytes, other, 4096),
      0);
  assert_memory_equal (other, newer, 4096);
  net_check (l);
}

static void
test_late_write (void **state)
{
  static struct io late = { .has_place = true, .place = 2 * MIB };

  (void) state;
  start_server (SERVER_MEMORY);
  start_relay (false, "");
  late_write (&late);
  assert_int_equal (atomic_load (&late.asked), 1);
  assert_int_equal (late.req.off_bytes, 2 * MIB);
  /* It did arrive, where nobody is. */
  assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, MIB, other, 4096), 0);
  assert_memory_equal (other, page, 4096);
}

/* Our server: the old connection is fenced off, so the same place is right. */
static void
test_late_write_fenced (void **state)
{
  static struct io late = { .has_place = true, .place = 2 * MIB };

  (void) state;
  start_server (SERVER_FARPAGE);
  start_relay (false, "");
  late_write (&late);
  assert_int_equal (atomic_load (&late.asked), 0);
  assert_int_equal (late.req.off_bytes, MIB);
}

/* ---- servers that are killed ---- */

static uint64_t
written (void)
{
  struct link_stat st;

  net_stat (l, &st);
  return st.nr_written;
}

static void
zero_image (void)
{
  char path[128];
  int fd;

  snprintf (path, sizeof path, "%s/image", net_dir ());
  fd = open (path, O_RDWR);
  assert_int_equal (ftruncate (fd, 0), 0);
  assert_int_equal (ftruncate (fd, 256 * MIB), 0);
  close (fd);
}

/* Replied to, no flush yet; then kill -9, and what was not flushed is gone. It
 * is written again, to its place.
 */
static void
test_killed_replied (void **state)
{
  static struct io io[8];
  unsigned nr_tried = 0;
  bool early;

  (void) state;
  start_server (SERVER_FILE);
  go (1, 20 * S_US);
  do {
    uint64_t before = written ();

    early = false;
    memset (io, 0, sizeof io);
    for (unsigned i = 0; i < 8; i++)
      io_start (&io[i], l, REQUEST_WRITE, POOL_WASYNC, 8192 * i, page, 4096);
    while (written () < before + 8)
      ;
    server_kill (&server);
    for (unsigned i = 0; i < 8; i++) {
      int value;

      sem_getvalue (&io[i].done, &value);
      early |= value > 0; /* the flush came before the kill */
    }
    zero_image ();
    server_restart (&server);
    for (unsigned i = 0; i < 8; i++)
      assert_int_equal (io_wait (&io[i]), 0);
    net_check (l);
  } while (early && nr_tried++ < 20);
  assert_false (early);
  for (unsigned i = 0; i < 8; i++) {
    assert_int_equal (atomic_load (&io[i].asked), 0);
    assert_int_equal (
        io_do (l, REQUEST_READ, POOL_DEMAND, 8192 * i, other, 4096), 0);
    assert_memory_equal (other, page, 4096);
  }
}

/* Writes and reads while the server is killed and started, again and again. */
static void
test_killed_under_load (void **state)
{
  enum {
    NR = 512
  };
  static struct io io[NR];
  static uint8_t data[NR][4096];
  struct link_stat st;
  unsigned nr = 0;

  (void) state;
  start_server (SERVER_FILE);
  go (4, 20 * S_US);
  memset (io, 0, sizeof io);
  for (unsigned round = 0; round < 8; round++) {
    for (unsigned i = 0; i < NR / 8; i++, nr++) {
      net_fill (data[nr], 4096, nr);
      io[nr].has_place = true;
      io[nr].place = 8192 * nr + 4096;
      io_start (&io[nr], l, REQUEST_WRITE, nr % 2 ? POOL_WASYNC : POOL_WSYNC,
                8192 * nr, data[nr], 4096);
    }
    net_sleep_ms (round);
    server_kill (&server);
    net_check (l);
    server_restart (&server);
  }
  for (unsigned i = 0; i < NR; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  for (unsigned i = 0; i < NR; i++) {
    assert_int_equal (
        io_do (l, REQUEST_READ, POOL_DEMAND, io[i].req.off_bytes, other, 4096),
        0);
    assert_memory_equal (other, data[i], 4096);
  }
  net_stat (l, &st);
  print_message ("%llu reconnects, %llu sent again, %llu elsewhere\n",
                 (unsigned long long) st.nr_reconnects,
                 (unsigned long long) st.nr_replayed,
                 (unsigned long long) st.nr_elsewhere);
  net_check (l);
}

/* Our server, volatile: started again it has another instance, and what is on
 * the link is lost, not zeros.
 */
static void
test_killed_instance (void **state)
{
  (void) state;
  start_server (SERVER_FARPAGE);
  go (2, 20 * S_US);
  assert_int_equal (io_do (l, REQUEST_WRITE, POOL_WSYNC, 4096, page, 4096), 0);
  server_kill (&server);
  server_restart (&server);
  assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 4096, other, 4096),
                    ESTALE);
  assert_int_equal (atomic_load (&events[LINK_LOST]), 1);
  net_check (l);
}

/* ---- the network ---- */

static void
test_frozen (void **state)
{
  static struct io sent, io[64];
  uint64_t before_us;

  (void) state;
  start_server (SERVER_MEMORY);
  start_relay (true, "");
  go (2, 1000000);
  relay_tell (&relay, "freeze a");
  before_us = net_now_us ();
  memset (io, 0, sizeof io);
  io_start (&sent, l, REQUEST_READ, POOL_DEMAND, 0, other, 4096);
  for (unsigned i = 0; i < 64; i++)
    io_start (&io[i], l, REQUEST_WRITE, POOL_WSYNC, 4096 * i, page, 4096);
  assert_int_equal (io_wait (&sent), ETIMEDOUT);
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal (io_wait (&io[i]), ETIMEDOUT);
  assert_in_range (net_now_us () - before_us, 1000000, 1500000);
  net_check (l);
  relay_tell (&relay, "heal a");
  net_wait_up (l, 2);
  assert_int_equal (io_do (l, REQUEST_WRITE, POOL_WSYNC, 0, page, 4096), 0);
}

static void
test_refused (void **state)
{
  static struct io io[64];

  (void) state;
  start_server (SERVER_MEMORY);
  start_relay (true, "delay=1000");
  go (4, 20 * S_US);
  memset (io, 0, sizeof io);
  relay_tell (&relay, "refuse a");
  relay_tell (&relay, "cut a how=reset");
  for (unsigned i = 0; i < 64; i++)
    io_start (&io[i], l, REQUEST_WRITE, POOL_WASYNC, 4096 * i, page, 4096);
  net_sleep_ms (600);
  assert_int_equal (atomic_load (&events[LINK_DISCONNECTED]), 1);
  relay_tell (&relay, "heal a");
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  net_wait_up (l, 4);
  assert_int_equal (atomic_load (&events[LINK_CONNECTED]), 1);
  net_check (l);
}

/* ---- random ---- */

#define NR_RANDOM 1500u
#define WINDOW    96u

static atomic_uint next_place; /* in pages */

static int
fresh_place (struct request *req)
{
  struct io *io = (struct io *) req;

  atomic_fetch_add (&io->asked, 1);
  req->off_bytes = UINT64_C (4096) * atomic_fetch_add (&next_place, 1);
  return 0;
}

static void
start_random (struct io *io, unsigned n, uint8_t *data, unsigned *seed)
{
  static const enum request_pool pools[] = { POOL_WSYNC, POOL_WASYNC,
                                             POOL_WASYNC, POOL_ADMIN };

  net_fill (data, 4096, n);
  io->elsewhere = fresh_place;
  io_start (io, l, REQUEST_WRITE, pools[rand_r (seed) % 4],
            UINT64_C (4096) * atomic_fetch_add (&next_place, 1), data, 4096);
}

static void
random_fault (unsigned *seed)
{
  switch (rand_r (seed) % 5) {
  case 0:
    relay_tell (&relay, "cut a how=reset");
    break;
  case 1:
    relay_tell (&relay, "cut a up after=%u", rand_r (seed) % 100000);
    break;
  case 2:
    relay_tell (&relay, "cut a down after=%u how=reset", rand_r (seed) % 2000);
    break;
  case 3:
    relay_tell (&relay, "refuse a");
    relay_tell (&relay, "cut a");
    net_sleep_ms (rand_r (seed) % 100);
    break;
  default:
    relay_tell (&relay, "freeze a");
    net_sleep_ms (rand_r (seed) % 50);
  }
  net_check (l);
  relay_tell (&relay, "heal a");
}

/* Each write goes to a place of its own, and is there when it was answered. */
static void
random_on (enum server_kind kind, unsigned connections, unsigned seed)
{
  static struct io io[NR_RANDOM];
  static uint8_t data[NR_RANDOM][4096];
  struct link_stat st;

  start_server (kind);
  start_relay (true, "delay=500");
  go (connections, 20 * S_US);
  memset (io, 0, sizeof io);
  atomic_store (&next_place, 0);
  for (unsigned i = 0; i < NR_RANDOM; i++) {
    start_random (&io[i], i, data[i], &seed);
    if (i >= WINDOW)
      assert_int_equal (io_wait (&io[i - WINDOW]), 0);
    if (rand_r (&seed) % 60 == 0)
      random_fault (&seed);
  }
  for (unsigned i = NR_RANDOM - WINDOW; i < NR_RANDOM; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  for (unsigned i = 0; i < NR_RANDOM; i++) {
    assert_int_equal (
        io_do (l, REQUEST_READ, POOL_DEMAND, io[i].req.off_bytes, other, 4096),
        0);
    assert_memory_equal (other, data[i], 4096);
  }
  net_stat (l, &st);
  print_message ("%llu reconnects, %llu sent again, %llu elsewhere\n",
                 (unsigned long long) st.nr_reconnects,
                 (unsigned long long) st.nr_replayed,
                 (unsigned long long) st.nr_elsewhere);
  if (kind == SERVER_FARPAGE)
    assert_int_equal (st.nr_elsewhere, 0);
  net_check (l);
}

static unsigned
seed_of_run (void)
{
  const char *text = getenv ("FARPAGE_SEED");
  unsigned seed = text != NULL ? (unsigned) strtoul (text, NULL, 0)
                               : (unsigned) time (NULL);

  print_message ("FARPAGE_SEED=%u\n", seed);
  return seed;
}

static void
test_random (void **state)
{
  (void) state;
  random_on (SERVER_MEMORY, 4, seed_of_run ());
}

static void
test_random_one (void **state)
{
  (void) state;
  random_on (SERVER_MEMORY, 1, seed_of_run ());
}

static void
test_random_fenced (void **state)
{
  (void) state;
  random_on (SERVER_FARPAGE, 3, seed_of_run ());
}

/* ---- the caller's own loop ---- */

static unsigned nr_own;

static void
on_own (struct request *req)
{
  struct ev_loop *ev = req->arg;

  assert_int_equal (req->error, 0);
  if (++nr_own == 16)
    ev_break (ev, EVBREAK_ALL);
}

static void
test_own_loop (void **state)
{
  struct ev_loop *ev = ev_loop_new (EVFLAG_AUTO);
  struct link_config config = { .uri = uri, .own = ev };
  struct request reqs[16];

  (void) state;
  nr_own = 0;
  start_server (SERVER_MEMORY);
  assert_int_equal (link_open (&config, &l), 0);
  for (unsigned i = 0; i < 16; i++) {
    reqs[i] = (struct request){ .kind = REQUEST_WRITE,
                                .pool = POOL_WSYNC,
                                .off_bytes = 4096 * i,
                                .len_bytes = 4096,
                                .data = page,
                                .done = on_own,
                                .arg = ev };
    link_submit (l, &reqs[i]);
  }
  assert_int_equal (nr_own, 0); /* later, never from there */
  ev_run (ev, 0);
  assert_int_equal (nr_own, 16);
  assert_null (link_check (l));
  link_close (l);
  l = NULL;
  config.uri = "nbd+unix:///?socket=/nonexistent";
  assert_int_equal (link_open (&config, &l), ENOENT);
  ev_run (ev, 0); /* nothing of it is left */
  ev_loop_destroy (ev);
}

int
main (void)
{
#define TEST(name) cmocka_unit_test_setup_teardown (name, setup, teardown)
  const struct CMUnitTest tests[] = {
    TEST (test_late_write),      TEST (test_late_write_fenced),
    TEST (test_killed_replied),  TEST (test_killed_under_load),
    TEST (test_killed_instance), TEST (test_frozen),
    TEST (test_refused),         TEST (test_random),
    TEST (test_random_one),      TEST (test_random_fenced),
    TEST (test_own_loop),
  };

  net_serial = true;
  return NET_RUN (tests);
}
