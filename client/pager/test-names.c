/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of servers that are found late, never, or have several addresses, of
 * which the first is no good.  The link goes on meanwhile.
 *
 * getaddrinfo () is this program's: NAME.test is 127.0.0.1, after what NAME
 * says.  libnbd finds it before that of the C library.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ev.h>

#include "lookup.h"
#include "test-net.h"

#define MIB (UINT64_C (1) << 20)

/* ---- the resolver ---- */

static atomic_bool hangs;
static atomic_uint nr_asked, nr_inside;

typedef int getaddrinfo_fn (const char *, const char *, const struct addrinfo *,
                            struct addrinfo **);

__attribute__ ((visibility ("default"))) int
getaddrinfo (const char *host, const char *port, const struct addrinfo *hints,
             struct addrinfo **list)
{
  getaddrinfo_fn *real;
  int err;

  *(void **) &real = dlsym (RTLD_NEXT, "getaddrinfo");
  if (strstr (host, ".test") == NULL)
    return real (host, port, hints, list);
  atomic_fetch_add (&nr_asked, 1);
  if (strcmp (host, "none.test") == 0)
    return EAI_NONAME;
  if (strcmp (host, "slow.test") == 0) {
    atomic_fetch_add (&nr_inside, 1);
    do
      net_sleep_ms (20);
    while (atomic_load (&hangs));
    net_sleep_ms (300);
    atomic_fetch_sub (&nr_inside, 1);
  }
  if (strcmp (host, "two.test") != 0)
    return real ("127.0.0.1", port, hints, list);
  err = real ("127.0.0.1", "1", hints, list); /* nobody is there */
  return err ? err : real ("127.0.0.1", port, hints, &(*list)->ai_next);
}

/* ---- a server behind a relay, by name ---- */

struct named {
  struct server server;
  struct relay relay;
  char uri[256];
};

static bool
start (struct named *n, const char *name)
{
  const char *port;

  if (!relay_is_there () ||
      !server_start (&n->server, SERVER_MEMORY, MIB, NULL))
    return false;
  relay_start (&n->relay, &n->server, true, "");
  port = strrchr (n->relay.at, ':');
  snprintf (n->uri, sizeof n->uri, "nbd://%s%s/", name, port);
  atomic_store (&nr_asked, 0);
  atomic_store (&hangs, false);
  return true;
}

/* Lookups that were left alone come to an end. */
static void
release (void)
{
  atomic_store (&hangs, false);
  for (unsigned i = 0; i < 1000 && lookup_nr () > 0; i++)
    net_sleep_ms (10);
  assert_int_equal (lookup_nr (), 0);
}

static void
end (struct named *n)
{
  release ();
  relay_stop (&n->relay);
  server_kill (&n->server);
}

static void
assert_works (struct link *l)
{
  static uint8_t page[4096];

  assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 0, page, sizeof page),
                    0);
}

static void
test_found (void **state)
{
  static const char *const names[] = { "good.test", "two.test" };
  struct named n;
  struct link *l;

  (void) state;
  for (unsigned i = 0; i < 2; i++) {
    const struct link_config config = { .uri = n.uri, .connections = 4 };

    if (!start (&n, names[i]))
      skip ();
    assert_int_equal (link_open (&config, &l), 0);
    net_wait_up (l, 4);
    assert_works (l);
    assert_int_equal (atomic_load (&nr_asked), 4);
    net_check (l);
    link_close (l);
    end (&n);
  }
}

static void
test_not_found (void **state)
{
  const struct link_config config = { .uri = "nbd://none.test/" };
  struct link *l;

  (void) state;
  atomic_store (&nr_asked, 0);
  net_forget ();
  assert_int_equal (link_open (&config, &l), EPROTO);
  assert_true (net_said ("none.test"));
  assert_int_equal (atomic_load (&nr_asked), 1);
}

/* ---- late, on a loop of the caller's ---- */

static void
count_tick (struct ev_loop *ev, ev_timer *w, int revents)
{
  (void) ev;
  (void) revents;
  ++*(unsigned *) w->data;
}

static void
test_own_loop (void **state)
{
  struct ev_loop *ev = ev_loop_new (EVFLAG_AUTO);
  struct link_config config = { .connections = 1, .own = ev };
  unsigned nr_ticks = 0;
  struct named n;
  struct link *l;
  ev_timer tick;

  (void) state;
  if (!start (&n, "slow.test")) {
    ev_loop_destroy (ev);
    skip ();
  }
  config.uri = n.uri;
  ev_timer_init (&tick, count_tick, 0.01, 0.01);
  tick.data = &nr_ticks;
  ev_timer_start (ev, &tick);
  assert_int_equal (link_open (&config, &l), 0);
  assert_true (nr_ticks > 5); /* of the 30 there might be in 300 ms */
  link_close (l);
  ev_timer_stop (ev, &tick);
  ev_loop_destroy (ev);
  end (&n);
}

/* ---- never ---- */

/* The open ends at its deadline; what it has left alone does no harm. */
static void
test_hangs (void **state)
{
  struct link_config config = { .deadline_us = 400000 };
  uint64_t begin_us;
  struct named n;
  struct link *l;

  (void) state;
  if (!start (&n, "slow.test"))
    skip ();
  config.uri = n.uri;
  atomic_store (&hangs, true);
  begin_us = net_now_us ();
  assert_int_equal (link_open (&config, &l), ETIMEDOUT);
  assert_true (net_now_us () - begin_us >= 400000);
  assert_int_equal (atomic_load (&nr_inside), 1);
  release ();
  config.deadline_us = 0;
  assert_int_equal (link_open (&config, &l), 0);
  assert_works (l);
  link_close (l);
  end (&n);
}

/* A link that connects again: its loop answers while the name is looked up,
 * and when it is found all goes on.
 */
static void
test_again (void **state)
{
  struct link_config config = { .connections = 2 };
  static uint8_t page[4096];
  struct io io = { 0 };
  struct link_stat st;
  struct named n;
  struct link *l;

  (void) state;
  if (!start (&n, "slow.test"))
    skip ();
  config.uri = n.uri;
  assert_int_equal (link_open (&config, &l), 0);
  net_wait_up (l, 2);
  atomic_store (&hangs, true);
  relay_tell (&n.relay, "cut a how=reset");
  for (unsigned i = 0; i < 500 && atomic_load (&nr_inside) == 0; i++)
    net_sleep_ms (10);
  assert_true (atomic_load (&nr_inside) > 0);
  for (unsigned i = 0; i < 20; i++) {
    net_stat (l, &st); /* on its loop: would wait for ever */
    net_check (l);
    assert_int_equal (st.nr_conns_up, 0);
  }
  io_start (&io, l, REQUEST_READ, POOL_DEMAND, 0, page, sizeof page);
  assert_int_equal (io_wait_ms (&io, 50), -1);
  atomic_store (&hangs, false);
  assert_int_equal (io_wait (&io), 0);
  net_wait_up (l, 2);
  net_check (l);
  /* closed while it looks: nothing waits for that */
  atomic_store (&hangs, true);
  relay_tell (&n.relay, "cut a how=reset");
  for (unsigned i = 0; i < 500 && atomic_load (&nr_inside) == 0; i++)
    net_sleep_ms (10);
  link_close (l);
  assert_true (atomic_load (&nr_inside) > 0);
  release ();
  end (&n);
}

/* No more threads than that, however often it is tried. */
static void
test_bound (void **state)
{
  struct link_config config = { .deadline_us = 20000 };
  struct named n;
  struct link *l;
  unsigned nr = 0;
  int err;

  (void) state;
  if (!start (&n, "slow.test"))
    skip ();
  config.uri = n.uri;
  atomic_store (&hangs, true);
  do
    err = link_open (&config, &l);
  while (err == ETIMEDOUT && ++nr <= LOOKUPS_MAX);
  assert_int_equal (err, EAGAIN);
  assert_int_equal (nr, LOOKUPS_MAX);
  assert_int_equal (atomic_load (&nr_inside), LOOKUPS_MAX);
  release ();
  config.deadline_us = 0;
  assert_int_equal (link_open (&config, &l), 0);
  link_close (l);
  end (&n);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_found),    cmocka_unit_test (test_not_found),
    cmocka_unit_test (test_own_loop), cmocka_unit_test (test_hangs),
    cmocka_unit_test (test_again),    cmocka_unit_test (test_bound),
  };

  return NET_RUN (tests);
}
