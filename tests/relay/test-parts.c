/* SPDX-License-Identifier: BSD-2-Clause */
/* The relay's parts by themselves: the rate's clock, the queue, alarms and
 * addresses.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../crash/rng.h"
#include "addr.h"
#include "alarm.h"
#include "queue.h"
#include "rate.h"

static struct rng rng;

/* ---- rate ---- */

/* A long busy time in pieces of any size ends where one piece would. */
static void
test_rate_never_drifts (void **state)
{
  static const uint64_t rates[] = { 1, 3, 999, 1000000, 125000000, 999999937 };

  (void) state;
  for (unsigned k = 0; k < 6; k++) {
    struct rate r = { .bytes_per_s = rates[k] };
    uint64_t sum = 0;
    int64_t begin, end = 5000, last = 5000;

    for (unsigned i = 0; i < 20000; i++) {
      uint64_t bytes = 1 + rng_below (&rng, 2000);

      /* Looked at late or at once: all of it was there at 5000. */
      rate_take (&r, 5000 + (int64_t) rng_below (&rng, end - 5000 + 1), bytes,
                 &begin, &end);
      assert_true (begin == last && end >= begin);
      last = end;
      sum += bytes;
    }
    assert_true (end == 5000 + (int64_t) ((unsigned __int128) sum * NS_PER_S /
                                          rates[k]));
  }
}

static void
test_rate_has_no_burst (void **state)
{
  struct rate r = { .bytes_per_s = 1000 };
  int64_t begin, end;

  (void) state;
  rate_take (&r, 1000, 1, &begin, &end);
  assert_true (begin == 1000 && end == 1001000);
  rate_take (&r, 50 * NS_PER_S, 1000, &begin, &end); /* idle before */
  assert_true (begin == 50 * NS_PER_S && end == 51 * NS_PER_S);
  rate_set (&r, 2000);
  rate_take (&r, 50 * NS_PER_S, 1000, &begin, &end); /* behind what is there */
  assert_true (begin == 51 * NS_PER_S && end == 51 * NS_PER_S + NS_PER_S / 2);
  rate_shift (&r, NS_PER_S);
  assert_true (rate_free_ns (&r) == 52 * NS_PER_S + NS_PER_S / 2);
  rate_set (&r, 0);
  rate_take (&r, 7, 1u << 30, &begin, &end);
  assert_true (begin == 7 && end == 7);
}

/* ---- queue ---- */

#define MODEL_BYTES (8u << 20)

/* A queue and what must be in it: bytes from `out` to `in` of one stream, cut
 * as lens says.
 */
struct model {
  struct queue q;
  uint64_t in, out;
  int64_t shifted;
  uint64_t seg_start[100000];
  unsigned first, nr;
};

static uint8_t
byte_of (uint64_t off)
{
  return (uint8_t) rng_mix (off);
}

static void
model_add (struct model *m, bool end)
{
  struct seg seg = { .begin_ns = (int64_t) m->in, .kind = SEG_DATA };
  size_t room;
  uint8_t *to = queue_room (&m->q, &room);

  assert_non_null (to);
  assert_true (room >= QUEUE_BLOCK_BYTES / 4 - 64);
  seg.len = rng_below (&rng, 2) == 0 ? 1 + rng_below (&rng, 40)
                                     : 1 + rng_below (&rng, room);
  if (end) {
    seg.kind = SEG_END;
    seg.len = 0;
  }
  for (uint32_t i = 0; i < seg.len; i++)
    to[i] = byte_of (m->in + i);
  seg.begin_ns -= m->shifted;
  seg.end_ns = seg.begin_ns + seg.len;
  queue_add (&m->q, &seg);
  m->seg_start[m->nr++] = m->in;
  m->in += seg.len;
}

static void
model_check (struct model *m)
{
  struct queue_at at;
  void *bytes;
  uint64_t off = m->out;
  unsigned i = m->first;

  for (struct seg *s = queue_first (&m->q, &at, &bytes); s != NULL;
       s = queue_next (&at, &bytes), i++) {
    assert_true (s->begin_ns + m->shifted == (int64_t) m->seg_start[i]);
    for (uint32_t k = s->sent; k < s->len; k++)
      assert_int_equal (((uint8_t *) bytes)[k - s->sent], byte_of (off++));
  }
  assert_int_equal (i, m->nr);
  assert_true (off == m->in && m->q.bytes == m->in - m->out);
}

static void
test_queue_random (void **state)
{
  static struct model m;
  struct queue_at at;
  struct seg *s;
  void *bytes;

  (void) state;
  m = (struct model){ 0 };
  for (unsigned i = 0; i < 4000; i++) {
    unsigned what = (unsigned) rng_below (&rng, 20);

    if (what < 9 && m.in - m.out < MODEL_BYTES) {
      model_add (&m, what == 0);
    } else if (what < 18) {
      uint64_t n = rng_below (&rng, m.q.bytes + 1);

      n = what < 16 && n > 50000 ? 50000 : n;
      s = queue_first (&m.q, &at, &bytes);
      if (s != NULL && s->len == 0)
        queue_pop (&m.q), m.first++;
      else if (s != NULL && n > s->len - s->sent)
        n = s->len - s->sent;
      if (s != NULL && s->len == 0)
        continue;
      if (s != NULL && n == s->len - s->sent)
        m.first++;
      queue_sent (&m.q, n);
      m.out += n;
    } else {
      queue_shift (&m.q, 10);
      m.shifted -= 10;
    }
    if (i % 16 == 0)
      model_check (&m);
  }
  model_check (&m);
  queue_drop (&m.q);
  assert_int_equal (queue_memory ().used_bytes, 0);
  assert_in_range (queue_memory ().kept_bytes, 1, 64 * QUEUE_BLOCK_BYTES);
  queue_trim ();
  assert_int_equal (queue_memory ().kept_bytes, 0);
}

/* Many at once leave over the blocks' borders. */
static void
test_queue_sent_across (void **state)
{
  struct model *m = calloc (1, sizeof *m);

  (void) state;
  assert_non_null (m);
  for (unsigned i = 0; i < 300; i++)
    model_add (m, false);
  for (; m->first < m->nr && m->seg_start[m->first] <= m->in - 1000; m->first++)
    ;
  m->first--; /* that one is there in part, or its end is the last byte */
  queue_sent (&m->q, m->in - 1000);
  m->out = m->in - 1000;
  model_check (m);
  queue_drop (&m->q);
  free (m);
  queue_trim ();
}

/* ---- alarms ---- */

#define NR_ALARMS 500

struct clocked {
  struct alarm alarm;
  int64_t rang_ns;
  unsigned nr_rang;
};

static struct alarms alarms;
static struct clocked clocked[NR_ALARMS];
static int64_t last_at_ns;

static void
rings (struct alarm *alarm, int64_t now)
{
  struct clocked *c = (struct clocked *) alarm;

  assert_true (now >= alarm->at_ns && alarm->at_ns >= last_at_ns);
  last_at_ns = alarm->at_ns;
  c->rang_ns = now;
  c->nr_rang++;
  if (c->nr_rang == 1 && c - clocked < NR_ALARMS / 4)
    alarm_set (&alarms, alarm, now + 3000000); /* and once more */
}

/* Ends when no alarm is set, and at the latest after ten seconds. */
static void
on_tick (struct ev_loop *loop, ev_timer *w, int revents)
{
  static unsigned nr;

  (void) w;
  (void) revents;
  if (alarms.nr == 0 || ++nr == 1000)
    ev_break (loop, EVBREAK_ALL);
}

static void
test_alarms (void **state)
{
  struct ev_loop *loop = ev_loop_new (EVBACKEND_EPOLL);
  int64_t now = now_ns ();
  ev_timer tick;

  (void) state;
  assert_int_equal (alarms_open (&alarms, loop), 0);
  assert_int_equal (alarms_reserve (&alarms, NR_ALARMS), 0);
  last_at_ns = 0;
  for (unsigned i = 0; i < NR_ALARMS; i++) {
    clocked[i] = (struct clocked){ .alarm = { .ring = rings } };
    alarm_set (&alarms, &clocked[i].alarm,
               now + 2000000 + (int64_t) rng_below (&rng, 30000000));
  }
  for (unsigned i = 0; i < NR_ALARMS; i += 5) /* some again, some never */
    if (i % 2 == 0)
      alarm_clear (&alarms, &clocked[i].alarm);
    else
      alarm_set (&alarms, &clocked[i].alarm, now + 40000000);
  ev_timer_init (&tick, on_tick, 0.01, 0.01);
  ev_timer_start (loop, &tick);
  ev_run (loop, 0);
  for (unsigned i = 0; i < NR_ALARMS; i++)
    assert_int_equal (clocked[i].nr_rang, i % 10 == 0         ? 0
                                          : i < NR_ALARMS / 4 ? 2
                                                              : 1);
  assert_int_equal (alarms.nr, 0);
  alarms_close (&alarms);
  ev_loop_destroy (loop);
}

/* ---- addresses ---- */

static void
test_addresses (void **state)
{
  static const char *const good[] = { "tcp:127.0.0.1:10809", "tcp:[::1]:80",
                                      "unix:/tmp/x y", "tcp:0.0.0.0:0" };
  static const char *const bad[] = {
    "",
    "tcp:",
    "tcp:1",
    "tcp:localhost:1",
    "tcp:127.0.0.1:65536",
    "tcp:127.0.0.1:-1",
    "tcp:127.0.0.1: 1",
    "tcp:127.0.0.1:1x",
    "tcp:127.0.0.1:",
    "tcp:::1:80",
    "tcp:[127.0.0.1]:80",
    "tcp:[]:80",
    "unix:",
    "udp:127.0.0.1:1",
  };
  char text[ADDR_TEXT_MAX], path[200] = "unix:";
  struct addr a;

  (void) state;
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal (addr_parse (good[i], &a), 0);
    addr_print (&a, text);
    assert_string_equal (text, good[i]);
  }
  for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal (addr_parse (bad[i], &a), EINVAL);
  memset (path + 5, 'x', 107);
  assert_int_equal (addr_parse (path, &a), 0);
  memset (path + 5, 'x', 108);
  assert_int_equal (addr_parse (path, &a), EINVAL);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_rate_never_drifts),
    cmocka_unit_test (test_rate_has_no_burst),
    cmocka_unit_test (test_queue_random),
    cmocka_unit_test (test_queue_sent_across),
    cmocka_unit_test (test_alarms),
    cmocka_unit_test (test_addresses),
  };
  const char *seed = getenv ("FARPAGE_SEED");

  rng.state = seed != NULL ? strtoull (seed, NULL, 10) : (uint64_t) getpid ();
  printf ("FARPAGE_SEED=%llu\n", (unsigned long long) rng.state);
  return cmocka_run_group_tests_name ("parts", tests, NULL, NULL);
}
