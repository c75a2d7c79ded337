/* SPDX-License-Identifier: BSD-2-Clause */
/* Are the relay's delay and rate true within 2 %?
 *
 * Noise of a busy machine only ever makes bytes later.  So there are two
 * bounds, and they are not alike: that nothing is early holds for every single
 * message, in every round; that the median (or a whole transfer) is late by no
 * more than 2 % and FLOOR_US has to be shown by one round, since a round in
 * which other processes had the processors tells nothing about the relay, and
 * no noise makes a delay that is too long look right.  A busy time may last for
 * many seconds, and so may all rounds together (patience_us); and a machine
 * that stands still for a while takes no round away (ROUNDS_OF_ALL).  FLOOR_US
 * is what two wake-ups take, the relay's and the reader's: a bare relay without
 * delay needs as much.
 *
 * A round in which even a bare relay was late by more than FLOOR_MOST_US is
 * none that a relay could be judged by.  Where no more than FIT_LEAST others
 * were to be had, the case is left out and says so.
 *
 * The last test shows that this ruler sees an error of 5 %.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <math.h>
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

#define PATIENCE_US   30e6
#define ROUNDS_LEAST  3      /* of a rate */
#define ROUNDS_OF_ALL 8      /* however long they take */
#define FIT_LEAST     3      /* rounds that condemn */
#define PAUSE_US      100000 /* after a round that shows nothing */
#define PINGS         31
#define FLOOR_US      100.
#define FLOOR_MOST_US 250.
#define TRUE          0.02
#define LOOK_US       400.

static double patience_us = PATIENCE_US;

/* ---- rounds ---- */

struct rounds {
  double begin_us;
  unsigned nr;  /* that were begun */
  unsigned fit; /* in which a bare relay was as it should be */
};

/* Is there another round? */
static bool
next_round (struct rounds *r)
{
  if (r->nr == 0) {
    r->begin_us = now_us ();
  } else {
    usleep (PAUSE_US);
    if (now_us () - r->begin_us >= patience_us && r->nr >= ROUNDS_OF_ALL)
      return false;
  }
  r->nr++;
  return true;
}

/* What a bare relay's lateness leaves to ours, which has two alarms to look at
 * where that one has one.
 */
static double
floor_of (double late_us)
{
  return 2 * late_us < FLOOR_US        ? FLOOR_US
         : 2 * late_us > FLOOR_MOST_US ? FLOOR_MOST_US
                                       : 2 * late_us;
}

/* The same of this round. */
static double
floor_now (struct rounds *r, double late_us)
{
  if (late_us <= FLOOR_MOST_US)
    r->fit++;
  return floor_of (late_us);
}

/* Nothing was shown: is it the machine's doing? */
static bool
is_unfit (const struct rounds *r)
{
  if (r->fit >= FIT_LEAST)
    return false;
  print_message ("skipped: a bare relay was late by more than %.0f us in %u of "
                 "%u rounds\n",
                 FLOOR_MOST_US, r->nr - r->fit, r->nr);
  return true;
}

/* ---- delay ---- */

struct ping {
  double sent_us;
  char rest[24]; /* as much as a request of NBD */
};

static_assert (sizeof (struct ping) == BARE_LEN, "what a bare relay reads");

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
  struct ping p = { .sent_us = now_us () };
  double sent_us = p.sent_us;

  send_all (from, &p, sizeof p);
  recv_at (to, &p, sent_us + delay_us);
  return now_us () - sent_us;
}

/* What a bare relay is late by now, in the middle. */
static double
bare_late (bool tcp, double delay_us)
{
  struct bare b;
  double us[PINGS];

  bare_open (&b, tcp, delay_us);
  for (unsigned i = 0; i < PINGS; i++)
    us[i] = one_way (b.ends.client, b.ends.server, delay_us) - delay_us;
  bare_close (&b);
  return median (us, PINGS);
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
is_true (double got, double want, double floor_us)
{
  return got <= want * (1 + TRUE) + floor_us;
}

enum shown {
  SHOWN,
  NOT_SHOWN,
  UNFIT
};

/* Does a round show both ways' delays to be these? */
static enum shown
shows_delay (const struct ruler_link *link, double up_us, double down_us)
{
  const double want[2] = { up_us, down_us };
  struct rounds r = { .nr = 0 };
  double mid[2], least[2], floor_us = 0;
  bool shown = false;

  while (!shown && next_round (&r)) {
    ping_pong (link, want, mid, least);
    if (least[0] < up_us || least[1] < down_us)
      return NOT_SHOWN; /* too early is never noise */
    floor_us =
        floor_now (&r, bare_late (link->at.any.sa_family != AF_UNIX, up_us));
    shown = is_true (mid[0], up_us, floor_us) &&
            is_true (mid[1], down_us, floor_us);
  }
  print_message ("delay %.0f and %.0f us: %.0f and %.0f (floor %.0f, round "
                 "%u)\n",
                 up_us, down_us, mid[0], mid[1], floor_us, r.nr);
  return shown ? SHOWN : is_unfit (&r) ? UNFIT : NOT_SHOWN;
}

/* The case ends here if it does not, or cannot. */
static void
assert_delay (struct ruler_link *link, double up_us, double down_us)
{
  enum shown shown = shows_delay (link, up_us, down_us);

  if (shown == UNFIT) {
    ruler_unlink (link);
    skip ();
  }
  assert_int_equal (shown, SHOWN);
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
    assert_delay (&link, us[i], us[i]);
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
  assert_delay (&link, 2000, 7000);
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

/* No round is early, not even of those behind one that shows it: bytes that are
 * late by chance look like a lower rate.
 */
static bool
shows_rate (const struct ruler_link *link, double rate, unsigned nr,
            uint64_t len, bool up)
{
  const double want_us = len * nr / rate * 1e6;
  struct rounds r = { .nr = 0 };
  double us = 0, least_us = INFINITY;

  while ((r.nr < ROUNDS_LEAST || least_us > want_us * (1 + TRUE)) &&
         next_round (&r)) {
    us = transfer (link, nr, len, up);
    if (us < least_us)
      least_us = us;
    if (us < want_us * 0.9999) {
      print_message ("rate %.0f: %.0f us, too early by %.0f (round %u)\n", rate,
                     us, want_us - us, r.nr);
      return false;
    }
  }
  print_message ("rate %.0f, %u connections: %.0f (%u rounds)\n", rate, nr,
                 len * nr / least_us * 1e6, r.nr);
  return least_us <= want_us * (1 + TRUE);
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
  struct rounds r = { .nr = 0 };
  double us[PINGS], got = 0, floor_us = 0;
  char page[4096];
  bool shown = false;

  (void) state;
  ruler_link (&ruler, "page", true, "rate=1000000 delay=1000", &link);
  e = ruler_ends (&link);
  while (!shown && next_round (&r)) {
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
    floor_us = floor_now (&r, bare_late (true, 5096));
    shown = is_true (got, 5096, floor_us);
  }
  print_message ("a page at 1 MB/s and 1 ms: %.0f us (5096, floor %.0f, round "
                 "%u)\n",
                 got, floor_us, r.nr);
  if (!shown && is_unfit (&r))
    skip ();
  assert_true (shown);
  ends_close (&e);
  ruler_unlink (&link);
}

/* ---- spacing ---- */

#define TRAIN    500
#define SPACE_US 400
#define UNDER_US 10000

static void *
send_train (void *arg)
{
  const int *fd = arg;
  double start_us = now_us ();

  for (unsigned i = 0; i < TRAIN; i++) {
    struct ping p = { 0 };

    /* Pairs: two back to back, then a gap. */
    while (now_us () < start_us + i / 2 * 2 * SPACE_US)
      usleep (50);
    snprintf (p.rest, sizeof p.rest, "%u", i);
    p.sent_us = now_us ();
    send_all (*fd, &p, sizeof p);
  }
  return NULL;
}

/* How much longer than UNDER_US messages are under way. */
struct lateness {
  double mid, most; /* in the middle, and nine of ten; us */
};

static struct lateness
one_train (struct ends e)
{
  static double off[TRAIN];
  struct lateness late;
  pthread_t thread;

  assert_int_equal (pthread_create (&thread, NULL, send_train, &e.client), 0);
  for (unsigned i = 0; i < TRAIN; i++) {
    struct ping p;

    recv_all (e.server, &p, sizeof p);
    off[i] = now_us () - (p.sent_us + UNDER_US);
    assert_true (off[i] >= 0);
    assert_true (strtoul (p.rest, NULL, 10) == i); /* first in, first out */
  }
  pthread_join (thread, NULL);
  late.mid = median (off, TRAIN);
  late.most = off[TRAIN * 9 / 10];
  return late;
}

static struct lateness
bare_train (void)
{
  struct lateness late;
  struct bare b;

  bare_open (&b, true, UNDER_US);
  late = one_train (b.ends);
  bare_close (&b);
  return late;
}

static void
test_spacing (void **state)
{
  struct ruler_link link;
  struct lateness late = { 0 }, bare = { 0 };
  struct rounds r = { .nr = 0 };
  struct ends e;
  bool shown = false;

  (void) state;
  ruler_link (&ruler, "train", true, "delay=10000", &link);
  e = ruler_ends (&link);
  while (!shown && next_round (&r)) {
    late = one_train (e);
    bare = bare_train ();
    shown = late.mid <= floor_now (&r, bare.mid) + UNDER_US * TRUE / 2 &&
            late.most <= floor_of (bare.most) + UNDER_US * TRUE;
  }
  print_message ("%u messages each %u us under way: later by %.0f us, nine of "
                 "ten by at most %.0f; a bare relay %.0f and %.0f (round %u)\n",
                 TRAIN, UNDER_US, late.mid, late.most, bare.mid, bare.most,
                 r.nr);
  if (!shown && is_unfit (&r))
    skip ();
  assert_true (shown);
  ends_close (&e);
  ruler_unlink (&link);
}

/* ---- the ruler ---- */

static void
test_ruler_sees_errors (void **state)
{
  struct ruler_link link;

  (void) state;
  patience_us = PATIENCE_US / 10;
  ruler_link (&ruler, "wrong", true, "delay=10500", &link);
  assert_int_not_equal (shows_delay (&link, 10000, 10000), SHOWN);
  assert_int_equal (shows_delay (&link, 11000, 10000), NOT_SHOWN);
  ruler_tell (&ruler, "set wrong delay=0 rate=9500000");
  assert_false (shows_rate (&link, 10e6, 1, 500000, true));
  /* late by a twentieth of 0.2 s, and that each time? */
  assert_false (shows_rate (&link, 9e6, 1, 2000000, true));
  patience_us = PATIENCE_US;
  ruler_unlink (&link);
}

static int
group_setup (void **state)
{
  ruler_realtime ();
  return ruler_setup (state);
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
                                      ruler_teardown);
}
