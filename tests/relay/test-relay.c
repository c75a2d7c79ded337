/* SPDX-License-Identifier: BSD-2-Clause */
/* What the relay does to bytes, times and cuts aside: nothing is lost, made up
 * or out of order.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ruler.h"

#define MB UINT64_C (1000000)

/* Nothing is there to be read for that long. */
static bool
is_silent (int fd, unsigned us)
{
  char byte;

  usleep (us);
  return recv (fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == -1 && errno == EAGAIN;
}

/* ---- all bytes, both ways ---- */

static void
both_ways (const struct ruler_link *link, uint64_t len)
{
  struct ends e = ruler_ends (link);
  struct sender up = { .fd = e.client, .stream = 1, .len = len };
  struct sender down = { .fd = e.server, .stream = 2, .len = len };
  struct receiver at_server = { .fd = e.server, .stream = 1, .len = len };
  struct receiver at_client = { .fd = e.client, .stream = 2, .len = len };

  sender_start (&up);
  sender_start (&down);
  receiver_start (&at_server);
  receiver_start (&at_client);
  receiver_join (&at_server);
  receiver_join (&at_client);
  sender_join (&up);
  sender_join (&down);
  assert_int_equal (at_server.got, len);
  assert_int_equal (at_client.got, len);
  assert_false (up.failed || down.failed);
  ends_close (&e);
}

static void
test_integrity (void **state)
{
  struct ruler_link tcp, local;

  (void) state;
  ruler_link (&ruler, "sum-tcp", true, "delay=500 jitter=3000 seed=5", &tcp);
  ruler_link (&ruler, "sum-unix", false, "rate=100000000 delay=1000", &local);
  both_ways (&tcp, 30 * MB);
  both_ways (&local, 20 * MB);
  ruler_tell (&ruler, "stat sum-tcp");
  assert_int_equal (ruler_number (&ruler, "up_in_bytes"), 30 * MB);
  assert_int_equal (ruler_number (&ruler, "up_out_bytes"), 30 * MB);
  assert_int_equal (ruler_number (&ruler, "down_in_bytes"), 30 * MB);
  assert_int_equal (ruler_number (&ruler, "down_out_bytes"), 30 * MB);
  ruler_unlink (&tcp);
  ruler_unlink (&local);
}

/* Settings change all the time, also to a shorter delay. */
static void
test_change_while_running (void **state)
{
  static const char *const settings[] = {
    "delay=20000", "delay=0",  "rate=30000000", "jitter=5000",
    "each=1",      "jitter=0", "rate=0",        "delay-up=3000 each=0",
  };
  struct ruler_link link;
  struct ends e;
  struct sender s;
  struct receiver r;

  (void) state;
  ruler_link (&ruler, "change", true, "", &link);
  e = ruler_ends (&link);
  s = (struct sender){ .fd = e.client, .stream = 3, .len = 60 * MB };
  r = (struct receiver){ .fd = e.server, .stream = 3, .len = s.len };
  receiver_start (&r);
  sender_start (&s);
  for (unsigned i = 0; i < 40; i++) {
    ruler_tell (&ruler, "set change %s", settings[i % 8]);
    usleep (2000);
  }
  sender_join (&s);
  receiver_join (&r);
  assert_int_equal (r.got, s.len);
  ends_close (&e);
  ruler_unlink (&link);
}

/* A thousand connections, each with its own bytes and echo. */
#define MANY 1000

static void
test_many_connections (void **state)
{
  static struct ends e[MANY];
  struct ruler_link link;
  char bytes[2048];

  (void) state;
  ruler_link (&ruler, "many", true, "delay=3000 rate=50000000", &link);
  for (unsigned i = 0; i < MANY; i++)
    e[i] = ruler_ends (&link);
  for (unsigned i = 0; i < MANY; i++) {
    pattern_fill (i, 0, bytes, sizeof bytes);
    send_all (e[i].client, bytes, sizeof bytes);
    pattern_fill (i + MANY, 0, bytes, sizeof bytes);
    send_all (e[i].server, bytes, sizeof bytes);
  }
  for (unsigned i = 0; i < MANY; i++) {
    recv_all (e[i].server, bytes, sizeof bytes);
    assert_true (pattern_is (i, 0, bytes, sizeof bytes));
    recv_all (e[i].client, bytes, sizeof bytes);
    assert_true (pattern_is (i + MANY, 0, bytes, sizeof bytes));
  }
  ruler_tell (&ruler, "stat many");
  assert_int_equal (ruler_number (&ruler, "open"), MANY);
  for (unsigned i = 0; i < MANY; i++)
    ends_close (&e[i]);
  for (unsigned n = 0; n < 200; n++) {
    ruler_tell (&ruler, "stat many");
    if (ruler_number (&ruler, "open") == 0)
      break;
    usleep (10000);
  }
  assert_int_equal (ruler_number (&ruler, "open"), 0);
  ruler_unlink (&link);
}

/* ---- memory ---- */

static uint64_t
resident_bytes (void)
{
  char path[64];
  unsigned long size = 0, resident = 0;
  FILE *file;

  snprintf (path, sizeof path, "/proc/%d/statm", (int) ruler.pid);
  file = fopen (path, "r");
  assert_non_null (file);
  assert_int_equal (fscanf (file, "%lu %lu", &size, &resident), 2);
  fclose (file);
  return resident * (uint64_t) sysconf (_SC_PAGESIZE);
}

static void
test_memory (void **state)
{
  const uint64_t len = 120 * MB, back = 40 * MB;
  struct ruler_link link;
  struct ends e;
  struct sender s;
  uint64_t before, most;
  int err;

  (void) state;
  ruler_link (&ruler, "burst", true, "", &link);
  e = ruler_ends (&link);
  before = resident_bytes ();
  /* Nobody reads, and yet all of it is taken. */
  s = (struct sender){ .fd = e.server, .stream = 4, .len = back };
  sender_start (&s);
  sender_join (&s);
  s = (struct sender){ .fd = e.client, .stream = 5, .len = len };
  sender_start (&s);
  sender_join (&s);
  usleep (20000);
  ruler_tell (&ruler, "stat burst");
  most = ruler_number (&ruler, "memory_bytes");
  /* Some is in the sockets' buffers. */
  assert_true (most >= len + back - 40 * MB && most <= 2 * (len + back));
  assert_int_equal (receive_pattern (e.server, 5, len, &err), len);
  assert_int_equal (receive_pattern (e.client, 4, back, &err), back);
  ruler_tell (&ruler, "stat burst");
  assert_int_equal (ruler_number (&ruler, "memory_bytes"), 0);
  print_message ("resident: %llu KiB, burst %llu KiB, then %llu KiB\n",
                 (unsigned long long) before / 1024,
                 (unsigned long long) most / 1024,
                 (unsigned long long) resident_bytes () / 1024);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
  assert_true (resident_bytes () < before + 8 * MB);
#endif
  ends_close (&e);
  ruler_unlink (&link);
}

/* Small messages share blocks. */
static void
test_memory_of_small (void **state)
{
  struct ruler_link link;
  struct ends e;

  (void) state;
  ruler_link (&ruler, "small", false, "delay=1000000", &link);
  e = ruler_ends (&link);
  for (unsigned i = 0; i < 2000; i++) {
    char bytes[28];

    pattern_fill (6, i * sizeof bytes, bytes, sizeof bytes);
    send_all (e.client, bytes, sizeof bytes);
    usleep (20);
  }
  ruler_tell (&ruler, "stat small");
  print_message ("2000 messages of 28 bytes: %llu KiB\n",
                 (unsigned long long) ruler_number (&ruler, "memory_bytes") /
                     1024);
  assert_in_range (ruler_number (&ruler, "memory_bytes"), 1, 4 * 65536);
  {
    int err;

    assert_int_equal (receive_pattern (e.server, 6, 2000 * 28, &err),
                      2000 * 28);
  }
  ends_close (&e);
  ruler_unlink (&link);
}

/* ---- ends ---- */

/* One half is closed, the other still carries bytes. */
static void
half_close (const struct ruler_link *link)
{
  struct ends e = ruler_ends (link);
  struct sender s = { .fd = e.server, .stream = 8, .len = 3 * MB };
  double start_us;
  int err;

  send_all (e.client, "hello", 5);
  start_us = now_us ();
  shutdown (e.client, SHUT_WR);
  recv_all (e.server, (char[5]){ 0 }, 5);
  assert_int_equal (end_of (e.server), 0);
  assert_true (now_us () >= start_us + 20000); /* an end travels, too */
  sender_start (&s);
  assert_int_equal (receive_pattern (e.client, 8, s.len, &err), s.len);
  sender_join (&s);
  close (e.server);
  assert_int_equal (end_of (e.client), 0);
  close (e.client);
}

static void
reset_peer (const struct ruler_link *link)
{
  const struct linger now = { .l_onoff = 1 };
  struct ends e = ruler_ends (link);
  double start_us = now_us ();

  send_all (e.client, "unread", 6);
  usleep (40000);
  setsockopt (e.server, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close (e.server);
  assert_int_equal (end_of (e.client), ECONNRESET);
  assert_true (now_us () >= start_us + 60000);
  close (e.client);
}

/* The server goes in order; the client learns from its next bytes. */
static void
write_to_gone (const struct ruler_link *link)
{
  struct ends e = ruler_ends (link);

  close (e.server);
  assert_int_equal (end_of (e.client), 0);
  for (unsigned i = 0; i < 2000; i++) {
    if (send (e.client, "x", 1, MSG_NOSIGNAL) == -1)
      break;
    usleep (5000);
  }
  assert_int_equal (send (e.client, "x", 1, MSG_NOSIGNAL), -1);
  assert_true (errno == EPIPE || errno == ECONNRESET);
  close (e.client);
}

static void
test_ends (void **state)
{
  struct ruler_link tcp, local;

  (void) state;
  ruler_link (&ruler, "ends-tcp", true, "delay=20000", &tcp);
  ruler_link (&ruler, "ends-unix", false, "delay=20000", &local);
  half_close (&tcp);
  half_close (&local);
  reset_peer (&tcp);
  write_to_gone (&tcp);
  write_to_gone (&local);
  ruler_tell (&ruler, "stat ends-tcp");
  assert_int_equal (ruler_number (&ruler, "open"), 0);
  assert_int_equal (ruler_number (&ruler, "memory_bytes"), 0);
  ruler_unlink (&tcp);
  ruler_unlink (&local);
}

/* ---- freeze ---- */

static void
frozen (const struct ruler_link *link, const char *name, const char *conn)
{
  struct ends e = ruler_ends (link), later;
  struct sender s = { .fd = e.client, .stream = 9, .len = 20 * MB };
  struct receiver r = { .fd = e.server, .stream = 9, .len = s.len };
  char page[4096] = "";
  uint64_t out, in;

  receiver_start (&r);
  sender_start (&s);
  usleep (30000);
  ruler_tell (&ruler, "freeze %s %s", name, conn);
  ruler_tell (&ruler, "stat %s", name);
  out = ruler_number (&ruler, "up_out_bytes");
  in = ruler_number (&ruler, "down_in_bytes");
  send_all (e.server, page, sizeof page);
  later.client = ruler_connect (link);
  assert_true (later.client != -1);
  if (*conn == '\0')
    assert_true (accept (link->target, NULL, NULL) == -1 && errno == EAGAIN);
  usleep (60000);
  ruler_tell (&ruler, "stat %s", name);
  assert_int_equal (ruler_number (&ruler, "up_out_bytes"), out);
  assert_int_equal (ruler_number (&ruler, "down_in_bytes"), in);
  if (*conn == '\0')
    assert_true (accept (link->target, NULL, NULL) == -1 && errno == EAGAIN);
  ruler_tell (&ruler, "thaw %s %s", name, conn);
  sender_join (&s);
  receiver_join (&r);
  assert_int_equal (r.got, s.len);
  recv_all (e.client, page, sizeof page);
  later.server = ruler_accept (link);
  send_all (later.client, "hello", 5);
  recv_all (later.server, (char[5]){ 0 }, 5);
  ends_close (&later);
  ends_close (&e);
}

static void
test_freeze (void **state)
{
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "freeze", true, "delay=10000 rate=100000000", &link);
  frozen (&link, "freeze", "");
  ruler_unlink (&link);
  ruler_link (&ruler, "freeze-one", true, "delay=10000 rate=100000000", &link);
  frozen (&link, "freeze-one", "conn=1");
  ruler_unlink (&link);
}

/* How much longer than delay and freeze two bytes took, in us; not less. */
static double
freeze_in_flight (const struct ruler_link *link)
{
  struct ends e = ruler_ends (link);
  double start_us = now_us (), stood_us, took_us;

  send_all (e.client, "1", 1);
  send_all (e.server, "2", 1);
  usleep (30000);
  ruler_tell (&ruler, "freeze flight up");
  stood_us = now_us ();
  recv_all (e.client, (char[1]){ 0 }, 1); /* down is not frozen */
  assert_true (is_silent (e.server, 60000));
  stood_us = now_us () - stood_us;
  ruler_tell (&ruler, "thaw flight up");
  recv_all (e.server, (char[1]){ 0 }, 1);
  took_us = now_us () - start_us;
  assert_true (took_us >= 100000 + stood_us);
  ends_close (&e);
  return took_us - 100000 - stood_us;
}

/* What is in flight stays where it is: freezing takes its time from nobody.  A
 * busy machine makes it later, in one round or another.
 */
static void
test_freeze_in_flight (void **state)
{
  struct ruler_link link;
  double late_us;
  unsigned round = 0;

  (void) state;
  ruler_link (&ruler, "flight", true, "delay=100000", &link);
  do
    late_us = freeze_in_flight (&link);
  while (late_us > 20000 && ++round < 8);
  assert_true (late_us <= 20000);
  ruler_unlink (&link);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_integrity),
    cmocka_unit_test (test_change_while_running),
    cmocka_unit_test (test_many_connections),
    cmocka_unit_test (test_memory),
    cmocka_unit_test (test_memory_of_small),
    cmocka_unit_test (test_ends),
    cmocka_unit_test (test_freeze),
    cmocka_unit_test (test_freeze_in_flight),
  };

  return cmocka_run_group_tests_name ("relay", tests, ruler_setup,
                                      ruler_teardown);
}
