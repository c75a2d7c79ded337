/* SPDX-License-Identifier: BSD-2-Clause */
/* What the relay cuts, to the byte, and whom it refuses. */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ruler.h"

#define MB UINT64_C (1000000)

static void
cut_at (const struct ruler_link *link, const char *name, bool up, uint64_t at,
        const char *how)
{
  struct ends e;
  struct sender s;
  int err, to;

  ruler_tell (&ruler, "cut %s %s at=%llu how=%s", name, up ? "up" : "down",
              (unsigned long long) at, how);
  e = ruler_ends (link);
  to = up ? e.server : e.client;
  s = (struct sender){ .fd = up ? e.client : e.server,
                       .stream = 10,
                       .len = 3 * MB };
  sender_start (&s);
  assert_int_equal (receive_pattern (to, 10, s.len, &err), at);
  if (link->at.any.sa_family != AF_UNIX)
    assert_int_equal (err, strcmp (how, "reset") == 0 ? ECONNRESET : 0);
  shutdown (to, SHUT_RDWR);
  close (to);
  sender_join (&s);
  if (link->at.any.sa_family != AF_UNIX && strcmp (how, "close") == 0)
    assert_int_equal (end_of (s.fd), 0); /* its bytes were taken, too */
  close (s.fd);
  ruler_tell (&ruler, "heal %s", name);
}

static void
cut_everywhere (const char *name, bool tcp, const char *settings)
{
  static const uint64_t at[] = { 0, 1, 4095, 65536, 1234567 };
  struct ruler_link link;

  ruler_link (&ruler, name, tcp, settings, &link);
  for (unsigned i = 0; i < 5; i++) {
    cut_at (&link, name, true, at[i], "reset");
    cut_at (&link, name, false, at[i], "reset");
    cut_at (&link, name, true, at[i], "close");
    cut_at (&link, name, false, at[i], "close");
  }
  ruler_unlink (&link);
}

static void
test_cut_at (void **state)
{
  (void) state;
  cut_everywhere ("cut-tcp", true, "");
  cut_everywhere ("cut-unix", false, "");
  cut_everywhere ("cut-slow", true, "delay=1000 rate=50000000");
}

static void
test_cut_now (void **state)
{
  struct ruler_link link;
  struct ends one, two;
  int err;

  (void) state;
  ruler_link (&ruler, "cut", true, "delay=200000", &link);
  one = ruler_ends (&link);
  two = ruler_ends (&link);
  send_all (one.client, "lost", 4);
  send_all (two.client, "here", 4);
  ruler_tell (&ruler, "cut cut conn=1");
  assert_int_equal (end_of (one.client), ECONNRESET);
  assert_int_equal (end_of (one.server), ECONNRESET);
  recv_all (two.server, (char[4]){ 0 }, 4);
  ruler_tell (&ruler, "cut cut down after=3 conn=2");
  send_all (two.server, "abcdef", 6);
  recv_all (two.client, (char[3]){ 0 }, 3);
  assert_int_equal (end_of (two.client), ECONNRESET);
  ends_close (&one);
  ends_close (&two);

  one = ruler_ends (&link);
  ruler_tell (&ruler, "cut cut how=close");
  assert_int_equal (receive_pattern (one.client, 0, 1, &err), 0);
  assert_int_equal (err, 0);
  assert_int_equal (end_of (one.server), 0);
  ends_close (&one);
  ruler_unlink (&link);
}

/* Nobody accepts at the target, so the relay still connects: over TCP it waits
 * for an answer, over a Unix socket until it may ask.
 */
static void
cut_while_connecting (bool tcp, const char *name)
{
  struct ruler_link link;
  const char *stat;
  int fd[4];

  ruler_link (&ruler, name, tcp, "", &link);
  assert_int_equal (listen (link.target, 0), 0);
  for (unsigned i = 0; i < 4; i++) {
    fd[i] = ruler_connect (&link);
    assert_true (fd[i] != -1);
  }
  do
    stat = ruler_tell (&ruler, "stat %s", name);
  while (ruler_number (&ruler, "accepted") < 4);
  assert_non_null (strstr (stat, "\"id\":4,\"state\":\"connecting\""));
  ruler_tell (&ruler, "cut %s conn=4 how=close", name);
  assert_int_equal (end_of (fd[3]), 0);
  ruler_tell (&ruler, "cut %s conn=3 how=reset", name);
  assert_int_equal (end_of (fd[2]), tcp ? ECONNRESET : 0);
  for (unsigned i = 0; i < 4; i++)
    close (fd[i]);
  ruler_unlink (&link);
}

static void
test_cut_while_connecting (void **state)
{
  (void) state;
  cut_while_connecting (true, "slow-tcp");
  cut_while_connecting (false, "slow-unix");
}

/* ---- refuse ---- */

static void
refused (bool tcp, const char *name)
{
  struct ruler_link link;
  struct ends before, after;

  ruler_link (&ruler, name, tcp, "", &link);
  before = ruler_ends (&link);
  ruler_tell (&ruler, "refuse %s", name);
  assert_int_equal (ruler_connect (&link), -1);
  assert_int_equal (errno, ECONNREFUSED);
  send_all (before.client, "hello", 5);
  recv_all (before.server, (char[5]){ 0 }, 5);
  ruler_tell (&ruler, "heal %s", name);
  after = ruler_ends (&link);
  send_all (after.client, "hello", 5);
  recv_all (after.server, (char[5]){ 0 }, 5);
  ends_close (&before);
  ends_close (&after);
  ruler_unlink (&link);
}

static void
test_refuse (void **state)
{
  (void) state;
  refused (true, "refuse-tcp");
  refused (false, "refuse-unix");
}

static void
test_no_target (void **state)
{
  struct ruler_link link;
  int fd;

  (void) state;
  ruler_link (&ruler, "nobody", true, "", &link);
  ruler_unlink (&link);
  fd = ruler_connect (&link);
  assert_true (fd != -1);
  assert_int_equal (end_of (fd), ECONNRESET);
  ruler_tell (&ruler, "stat nobody");
  assert_int_equal (ruler_number (&ruler, "failed"), 1);
  close (fd);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_cut_at),
    cmocka_unit_test (test_cut_now),
    cmocka_unit_test (test_cut_while_connecting),
    cmocka_unit_test (test_refuse),
    cmocka_unit_test (test_no_target),
  };

  return cmocka_run_group_tests_name ("cuts", tests, ruler_setup,
                                      ruler_teardown);
}
