/* SPDX-License-Identifier: BSD-2-Clause */
/* What a demand read waits for: 256 MiB of async writes go through a network of
 * 125 MB/s and 10 ms of round trip, and beside them one page after the other is
 * read.  The bound is 2 x round trip + 2 ms for the 99th percentile; it is that
 * of the link, so the async window is fixed.  All of a window may be ahead of a
 * read, as when the writes begin at once, and takes window / rate: at rate x
 * round trip and a twentieth that is 10.5 ms, and 1.5 of the bound are left for
 * the machine.  With a window that follows the link there is a line, and no
 * bound: the controller has its own test.  The relay takes whatever it is sent,
 * so this shows no full socket: test-cover.c has that.
 *
 * A run in which the relay, or a thread of this program that sleeps for a
 * millisecond at a time, was late by more than 2 ms says nothing and is
 * repeated.
 */

#include <config.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-net.h"

#define MIB      (UINT64_C (1) << 20)
#define CLUSTER  65536u
#define NR       4096u /* writes: 256 MiB, over the first half of the disk */
#define READS    4096u
#define RTT_US   10000u
#define BOUND_US (2 * RTT_US + 2000)
#define LATE_US  2000u
#define TRIES    5u
#define FIXED    20u /* clusters: 1.05 x 125 MB/s x 10 ms */

static struct io writes[NR];
static uint8_t cluster[CLUSTER];
static uint64_t times_us[READS];

struct figure {
  unsigned nr;
  uint64_t median_us, p99_us, most_us, alone_us, wait_us;
  double mb_s, late_ms;
};

/* ---- how late this machine is ---- */

static atomic_bool stop_napping;
static atomic_uint late_most_us;

static void *
nap (void *arg)
{
  (void) arg;
  while (!atomic_load (&stop_napping)) {
    uint64_t begin_us = net_now_us (), us;

    net_sleep_ms (1);
    us = net_now_us () - begin_us - 1000;
    if (us > atomic_load (&late_most_us))
      atomic_store (&late_most_us, (unsigned) us);
  }
  return NULL;
}

static int
by_size (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static uint64_t
read_one (struct link *l, unsigned n)
{
  static uint8_t page[4096];
  struct io io = { 0 };

  io_start (&io, l, REQUEST_READ, POOL_DEMAND, 128 * MIB + n * 4096, page,
            4096);
  assert_int_equal (io_wait (&io), 0);
  return io.end_us - io.begin_us;
}

static double
late_ms (struct relay *r)
{
  const char *text = strstr (relay_tell (r, "stat a"), "\"late_max_us\":");

  assert_non_null (text);
  return strtod (text + strlen ("\"late_max_us\":"), NULL) / 1000;
}

static bool
all_done (void)
{
  int value;

  sem_getvalue (&writes[NR - 1].done, &value);
  return value > 0;
}

static void
measure (struct link *l, struct figure *f)
{
  uint64_t begin_us;

  *f = (struct figure){ .alone_us = read_one (l, 0) };
  begin_us = net_now_us ();
  for (unsigned i = 0; i < NR; i++)
    io_start (&writes[i], l, REQUEST_WRITE, POOL_WASYNC,
              i * CLUSTER % (128 * MIB), cluster, CLUSTER);
  while (!all_done () && f->nr < READS) {
    times_us[f->nr] = read_one (l, f->nr);
    f->nr++;
  }
  for (unsigned i = 0; i < NR; i++)
    assert_int_equal (io_wait (&writes[i]), 0);
  f->mb_s = 256.0 * MIB / (writes[NR - 1].end_us - begin_us);
  qsort (times_us, f->nr, sizeof times_us[0], by_size);
  f->median_us = times_us[f->nr / 2];
  f->p99_us = times_us[f->nr * 99 / 100];
  f->most_us = times_us[f->nr - 1];
}

struct set_range {
  struct link *link;
};

static void
fix_window (void *arg)
{
  struct set_range *s = arg;

  link_set_range (s->link, POOL_WASYNC, FIXED, FIXED);
}

struct run {
  unsigned connections;
  bool tcp, fixed;
};

static void
one_run (const struct run *r, struct figure *f)
{
  struct server server;
  struct relay relay;
  struct set_range set;
  char uri[256];
  struct link_config config = { .uri = uri,
                                .connections = r->connections,
                                .cluster_bytes = CLUSTER };
  pthread_t napper;

  assert_true (server_start (&server, SERVER_MEMORY, 256 * MIB, NULL));
  relay_start (&relay, &server, r->tcp, "delay=5000 rate=125000000");
  relay_uri (&relay, "", uri, sizeof uri);
  assert_int_equal (link_open (&config, &set.link), 0);
  net_wait_up (set.link, r->connections);
  if (r->fixed)
    loop_call (link_loop (set.link), fix_window, &set);
  atomic_store (&stop_napping, false);
  atomic_store (&late_most_us, 0);
  pthread_create (&napper, NULL, nap, NULL);
  measure (set.link, f);
  atomic_store (&stop_napping, true);
  pthread_join (napper, NULL);
  f->late_ms = late_ms (&relay);
  if (f->late_ms < atomic_load (&late_most_us) / 1e3)
    f->late_ms = atomic_load (&late_most_us) / 1e3;
  net_check (set.link);
  link_close (set.link);
  relay_stop (&relay);
  server_kill (&server);
}

static void
print_figure (const struct run *r, const struct figure *f)
{
  print_message ("%u %s, window %s: %u reads: median %.1f ms, 99 %%: %.1f, "
                 "most %.1f; alone %.1f; writes %.0f MB/s; late %.1f ms\n",
                 r->connections, r->tcp ? "TCP" : "Unix",
                 r->fixed ? "fixed" : "follows", f->nr, f->median_us / 1e3,
                 f->p99_us / 1e3, f->most_us / 1e3, f->alone_us / 1e3, f->mb_s,
                 f->late_ms);
}

/* state: a struct run. */
static void
test_demand (void **state)
{
  const struct run *r = *state;
  struct figure f = { 0 };
  bool in_time = false;

  if (!relay_is_there ())
    skip ();
  for (unsigned i = 0; i < TRIES && !in_time; i++) {
    one_run (r, &f);
    print_figure (r, &f);
    if (!r->fixed || f.p99_us <= BOUND_US)
      return;
    in_time = f.late_ms * 1000 <= LATE_US;
  }
  if (!in_time) {
    print_message ("the machine was late each time: no figure\n");
    skip ();
  }
  fail_msg ("99 %% of demand reads within %.1f ms, not %.1f", f.p99_us / 1e3,
            BOUND_US / 1e3);
}

int
main (void)
{
  static struct run runs[] = {
    { 1, true, true },  { 4, true, true },  { 1, false, true },
    { 1, true, false }, { 4, true, false },
  };
  const struct CMUnitTest tests[] = {
    { "one connection", test_demand, NULL, NULL, &runs[0] },
    { "four connections", test_demand, NULL, NULL, &runs[1] },
    { "a Unix socket", test_demand, NULL, NULL, &runs[2] },
    { "one, a window that follows", test_demand, NULL, NULL, &runs[3] },
    { "four, a window that follows", test_demand, NULL, NULL, &runs[4] },
  };

  return NET_RUN (tests);
}
