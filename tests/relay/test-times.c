/* SPDX-License-Identifier: BSD-2-Clause */
/* Are the relay's delay and rate true within 2 %?
 *
 * Noise of a busy machine only ever makes bytes later.  So there are two
 * bounds, and they are not alike: that nothing is early holds for every single
 * message, in every round; that the median (or a whole transfer) is late by no
 * more than 2 % and FLOOR_US has to be shown by one round of ROUNDS, since a
 * round in which other processes had the processors tells nothing about the
 * relay, and no noise makes a wrong delay look right.  FLOOR_US is what two
 * wake-ups take, the relay's and the reader's: a bare relay without delay needs
 * as much.
 *
 * The last test shows that this ruler sees an error of 5 %.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ruler.h"

#define ROUNDS   8
#define PINGS    31
#define FLOOR_US 100.
#define TRUE     0.02
#define LOOK_US  400.

static struct ruler ruler;

/* ---- delay ---- */

struct ping {
  double nr;
  char rest[24]; /* as much as a request of NBD */
};

/* A message that is to come at this time: the reader sleeps until shortly
 * before it, and then looks without pause, so that it is not its own wake-up
 * that is measured.
 */
static void
recv_at (int fd, struct ping *p, double want_us)
{
  double sleep_us = want_us - LOOK_US - now_us ();
  ssize_t n;

  if (sleep_us > 0)
    usleep ((useconds_t) sleep_us);
  do
    n = recv (fd, p, sizeof *p, MSG_DONTWAIT);
  while (n == -1 && errno == EAGAIN && now_us () < want_us + LOOK_US);
  if (n == -1)
    recv_all (fd, p, sizeof *p);
}

/* One message from here to there: how long it takes, in us. */
static double
one_way (int from, int to, double delay_us)
{
  struct ping p = { 0 };
  double sent_us = now_us ();

  send_all (from, &p, sizeof p);
  recv_at (to, &p, sent_us + delay_us);
  return now_us () - sent_us;
}

/* Medians of one way's time, in us, and the least there was. */
static void
ping_pong (const struct ruler_link *link, const double delay_us[2],
           double mid[2], double least[2])
{
  struct ends e = ruler_ends (link);
  double us[2][PINGS];

  for (unsigned i = 0; i < PINGS; i++) {
    us[0][i] = one_way (e.client, e.server, delay_us[0]);
    us[1][i] = one_way (e.server, e.client, delay_us[1]);
  }
  for (unsigned w = 0; w < 2; w++) {
    mid[w] = median (us[w], PINGS);
    least[w] = us[w][0];
  }
  ends_close (&e);
}

static bool
is_true (double got, double want)
{
  return got <= want * (1 + TRUE) + FLOOR_US;
}

/* Does a round show both ways' delays to be these? */
static bool
shows_delay (const struct ruler_link *link, double up_us, double down_us)
{
  const double want[2] = { up_us, down_us };
  double mid[2], least[2];
  unsigned round = 0;

  do {
    ping_pong (link, want, mid, least);
    if (least[0] < up_us || least[1] < down_us)
      return false; /* too early is never noise */
    round++;
  } while (!(is_true (mid[0], up_us) && is_true (mid[1], down_us)) &&
           round < ROUNDS);
  print_message ("delay %.0f and %.0f us: %.0f and %.0f (round %u)\n", up_us,
                 down_us, mid[0], mid[1], round);
  return is_true (mid[0], up_us) && is_true (mid[1], down_us);
}

static void
tell_lateness (void)
{
  ruler_tell (&ruler, "stat");
  print_message ("  alarms late by %d us, at most %d\n",
                 (int) ruler_number (&ruler, "late_mean_us"),
                 (int) ruler_number (&ruler, "late_max_us"));
}

static void
delays (bool tcp)
{
  static const unsigned us[] = { 0, 1000, 10000, 50000 };
  struct ruler_link link;

  ruler_link (&ruler, tcp ? "delay-tcp" : "delay-unix", tcp, "", &link);
  for (unsigned i = 0; i < 4; i++) {
    ruler_tell (&ruler, "set %s delay=%u", tcp ? "delay-tcp" : "delay-unix",
                us[i]);
    assert_true (shows_delay (&link, us[i], us[i]));
    tell_lateness ();
  }
  ruler_unlink (&link);
}

static void
test_delay_tcp (void **state)
{
  (void) state;
  delays (true);
}

static void
test_delay_unix (void **state)
{
  (void) state;
  delays (false);
}

static void
test_delay_of_each_way (void **state)
{
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "ways", true, "delay-up=2000 delay-down=7000", &link);
  assert_true (shows_delay (&link, 2000, 7000));
  ruler_unlink (&link);
}

static void
test_jitter (void **state)
{
  struct ruler_link link;
  double mid[2], least[2];

  (void) state;
  ruler_link (&ruler, "jitter", true, "delay=2000 jitter-up=8000 seed=7",
              &link);
  ping_pong (&link, (double[]){ 2000, 2000 }, mid, least);
  assert_true (least[0] >= 2000 && least[1] >= 2000);
  assert_true (mid[0] > 3000); /* about 6000; 2000 without */
  assert_true (least[0] < 6000);
  ruler_unlink (&link);
}

/* ---- rate ---- */

/* nr connections each send len bytes at once: until all is there, in us. */
static double
transfer (const struct ruler_link *link, unsigned nr, uint64_t len, bool up)
{
  struct ends e[8];
  struct sender s[8];
  struct receiver r[8];
  double start_us, took_us;

  for (unsigned i = 0; i < nr; i++) {
    e[i] = ruler_ends (link);
    s[i] = (struct sender){ .fd = up ? e[i].client : e[i].server,
                            .stream = i,
                            .len = len };
    r[i] = (struct receiver){ .fd = up ? e[i].server : e[i].client,
                              .stream = i,
                              .len = len };
    receiver_start (&r[i]);
  }
  start_us = now_us ();
  for (unsigned i = 0; i < nr; i++)
    sender_start (&s[i]);
  for (unsigned i = 0; i < nr; i++)
    receiver_join (&r[i]);
  took_us = now_us () - start_us;
  for (unsigned i = 0; i < nr; i++) {
    assert_int_equal (r[i].got, len);
    sender_join (&s[i]);
    ends_close (&e[i]);
  }
  return took_us;
}

static bool
shows_rate (const struct ruler_link *link, double rate, unsigned nr,
            uint64_t len, bool up)
{
  double want_us = len * nr / rate * 1e6, us = 0;

  for (unsigned round = 0; round < ROUNDS; round++) {
    us = transfer (link, nr, len, up);
    if (us < want_us * 0.9999) {
      print_message ("rate %.0f: %.0f us, too early by %.0f\n", rate, us,
                     want_us - us);
      return false;
    }
    if (us <= want_us * (1 + TRUE)) {
      print_message ("rate %.0f, %u connections: %.0f (round %u)\n", rate, nr,
                     len * nr / us * 1e6, round + 1);
      return true;
    }
  }
  print_message ("rate %.0f, %u connections: %.0f after %u rounds\n", rate, nr,
                 len * nr / us * 1e6, ROUNDS);
  return false;
}

static void
test_rate (void **state)
{
  static const unsigned mb[] = { 1, 10, 100 };
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "rate", true, "", &link);
  for (unsigned i = 0; i < 3; i++) {
    ruler_tell (&ruler, "set rate rate=%u", mb[i] * 1000000);
    assert_true (shows_rate (&link, mb[i] * 1e6, 1, mb[i] * 400000, true));
    assert_true (shows_rate (&link, mb[i] * 1e6, 1, mb[i] * 400000, false));
  }
  ruler_unlink (&link);
}

static void
test_rate_unix (void **state)
{
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "rate-unix", false, "rate=100000000", &link);
  assert_true (shows_rate (&link, 1e8, 1, 40000000, true));
  ruler_unlink (&link);
}

/* The rate is the link's: four have it together. */
static void
test_rate_shared (void **state)
{
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "shared", true, "rate=20000000", &link);
  assert_true (shows_rate (&link, 2e7, 4, 2000000, true));
  assert_true (shows_rate (&link, 2e7, 4, 2000000, false));
  ruler_unlink (&link);
}

/* The rate is each connection's: four have four times as much. */
static void
test_rate_each (void **state)
{
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "each", true, "rate=5000000 each=1", &link);
  assert_true (shows_rate (&link, 2e7, 4, 2000000, true));
  ruler_unlink (&link);
}

/* The clock has no burst to give: one page takes its time, too, also after the
 * link has been idle.
 */
static void
test_rate_of_a_page (void **state)
{
  struct ruler_link link;
  struct ends e;
  double us[PINGS], got = 0;
  char page[4096];

  (void) state;
  ruler_link (&ruler, "page", true, "rate=1000000 delay=1000", &link);
  e = ruler_ends (&link);
  for (unsigned round = 0; round < ROUNDS; round++) {
    for (unsigned i = 0; i < PINGS; i++) {
      double start_us = now_us ();

      pattern_fill (0, 0, page, sizeof page);
      send_all (e.client, page, sizeof page);
      recv_all (e.server, page, sizeof page);
      us[i] = now_us () - start_us;
      assert_true (us[i] >= 5096 - 1);
      usleep (1000);
    }
    got = median (us, PINGS);
    if (is_true (got, 5096))
      break;
  }
  print_message ("a page at 1 MB/s and 1 ms: %.0f us (5096)\n", got);
  assert_true (is_true (got, 5096));
  ends_close (&e);
  ruler_unlink (&link);
}

/* ---- spacing ---- */

#define TRAIN    500
#define SPACE_US 400

struct train {
  int fd;
  double sent_us[TRAIN];
};

static void *
send_train (void *arg)
{
  struct train *t = arg;
  double start_us = now_us ();

  for (unsigned i = 0; i < TRAIN; i++) {
    struct ping p = { 0 };

    /* Pairs: two back to back, then a gap. */
    while (now_us () < start_us + i / 2 * 2 * SPACE_US)
      usleep (50);
    p.nr = i;
    t->sent_us[i] = now_us ();
    send_all (t->fd, &p, sizeof p);
  }
  return NULL;
}

/* How far a message's delay is from 10 ms, in the middle and at 90 %. */
static void
one_train (const struct ruler_link *link, double *mid, double *most)
{
  static struct train t;
  static double off[TRAIN];
  struct ends e = ruler_ends (link);
  pthread_t thread;

  t.fd = e.client;
  assert_int_equal (pthread_create (&thread, NULL, send_train, &t), 0);
  for (unsigned i = 0; i < TRAIN; i++) {
    struct ping p;

    recv_all (e.server, &p, sizeof p);
    off[i] = now_us ();
    assert_true (p.nr == i); /* first in, first out */
  }
  pthread_join (thread, NULL);
  for (unsigned i = 0; i < TRAIN; i++) {
    off[i] -= t.sent_us[i] + 10000;
    assert_true (off[i] >= 0);
  }
  *mid = median (off, TRAIN);
  *most = off[TRAIN * 9 / 10];
  ends_close (&e);
}

static void
test_spacing (void **state)
{
  struct ruler_link link;
  double mid, most;
  unsigned round = 0;

  (void) state;
  ruler_link (&ruler, "train", true, "delay=10000", &link);
  do
    one_train (&link, &mid, &most);
  while ((mid > 200 || most > 300) && ++round < ROUNDS);
  print_message ("%u messages each 10000 us under way: later by %.0f us, nine "
                 "of ten by at most %.0f\n",
                 TRAIN, mid, most);
  assert_true (mid <= 200 && most <= 300);
  ruler_unlink (&link);
}

/* ---- the ruler ---- */

static void
test_ruler_sees_errors (void **state)
{
  struct ruler_link link;

  (void) state;
  ruler_link (&ruler, "wrong", true, "delay=10500", &link);
  assert_false (shows_delay (&link, 10000, 10000));
  assert_false (shows_delay (&link, 11000, 10000));
  ruler_tell (&ruler, "set wrong delay=0 rate=9500000");
  assert_false (shows_rate (&link, 10e6, 1, 500000, true));
  assert_false (shows_rate (&link, 9e6, 1, 500000, true));
  ruler_unlink (&link);
}

static int
group_setup (void **state)
{
  (void) state;
  ruler_realtime ();
  ruler_open (&ruler);
  return 0;
}

static int
group_teardown (void **state)
{
  (void) state;
  return ruler_close (&ruler);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_delay_tcp),
    cmocka_unit_test (test_delay_unix),
    cmocka_unit_test (test_delay_of_each_way),
    cmocka_unit_test (test_jitter),
    cmocka_unit_test (test_rate),
    cmocka_unit_test (test_rate_unix),
    cmocka_unit_test (test_rate_shared),
    cmocka_unit_test (test_rate_each),
    cmocka_unit_test (test_rate_of_a_page),
    cmocka_unit_test (test_spacing),
    cmocka_unit_test (test_ruler_sees_errors),
  };

  return cmocka_run_group_tests_name ("times", tests, group_setup,
                                      group_teardown);
}
