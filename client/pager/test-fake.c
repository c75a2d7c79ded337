/* SPDX-License-Identifier: BSD-2-Clause */
/* One lying server and one link to it, for test-lies.c and test-cover.c. */

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

struct fake fake;
struct link *l;
char uri[256];
uint8_t page[4096], other[4096];
atomic_uint events[4], admitted;
atomic_int admit_error;

static void
on_event (void *arg, enum link_event event)
{
  (void) arg;
  atomic_fetch_add (&events[event], 1);
}

int
on_admit (void *arg, const uint8_t *block)
{
  (void) arg;
  (void) block;
  atomic_fetch_add (&admitted, 1);
  return atomic_load (&admit_error);
}

struct link_config
config_of (void)
{
  return (struct link_config){ .uri = uri,
                               .connections = 1,
                               .deadline_us = 20 * S_US,
                               .cluster_bytes = CLUSTER,
                               .event = on_event };
}

int
setup (void **state)
{
  char path[100];

  (void) state;
  snprintf (path, sizeof path, "%s/fake", net_dir ());
  snprintf (uri, sizeof uri, "nbd+unix:///n?socket=%s", path);
  fake_init (&fake, path);
  for (unsigned i = 0; i < 4; i++)
    atomic_store (&events[i], 0);
  atomic_store (&admitted, 0);
  atomic_store (&admit_error, 0);
  net_fill (page, sizeof page, 5);
  net_forget ();
  l = NULL;
  return 0;
}

int
teardown (void **state)
{
  (void) state;
  if (l != NULL)
    link_close (l);
  if (fake.data != NULL)
    fake_end (&fake);
  l = NULL;
  return 0;
}

void
go_with (const struct link_config *config)
{
  fake_begin (&fake);
  assert_int_equal (link_open (config, &l), 0);
}

void
go (unsigned connections)
{
  struct link_config config = config_of ();

  config.connections = connections;
  go_with (&config);
  net_wait_up (l, connections);
}

static void
on_set_rules (void *arg)
{
  link_set_rules (l, *(const struct link_rules *) arg);
}

void
set_rules (struct link_rules rules)
{
  assert_int_equal (loop_call (link_loop (l), on_set_rules, &rules), 0);
}

int
write_page (enum request_pool pool, uint64_t off)
{
  return io_do (l, REQUEST_WRITE, pool, off, page, 4096);
}

void
wait_count (enum fake_kind kind, unsigned nr)
{
  for (unsigned i = 0; i < 1000 && fake_count (&fake, kind) < nr; i++)
    net_sleep_ms (2);
  assert_true (fake_count (&fake, kind) >= nr);
}

void
wait_event (enum link_event event)
{
  for (unsigned i = 0; i < 1000 && atomic_load (&events[event]) == 0; i++)
    net_sleep_ms (2);
  assert_int_equal (atomic_load (&events[event]), 1);
}

void
wait_written (unsigned nr)
{
  struct link_stat st = { 0 };

  for (unsigned i = 0; i < 1000 && st.nr_written < nr; i++) {
    net_stat (l, &st);
    net_sleep_ms (1);
  }
  assert_int_equal (st.nr_written, nr);
}
