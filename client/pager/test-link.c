/* SPDX-License-Identifier: BSD-2-Clause */
/* The link over real servers: each kind of request, on one and on several
 * connections, priorities, flushes.
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

#include "test-net.h"

#define MIB     (UINT64_C (1) << 20)
#define CLUSTER 65536u

static struct link *
open_link (const char *uri, unsigned connections)
{
  const struct link_config config = { .uri = uri,
                                      .connections = connections,
                                      .deadline_us = 20000000,
                                      .cluster_bytes = CLUSTER };
  struct link *l = NULL;
  int err = link_open (&config, &l);

  if (err != 0)
    fail_msg ("%s: %s", uri, strerror (err));
  return l;
}

/* Write 4 MiB in clusters, all at once, and read them by pages and clusters. */
static void
write_and_read (struct link *l)
{
  static uint8_t data[64 * CLUSTER], back[64 * CLUSTER];
  static struct io io[64];

  net_fill (data, sizeof data, 1);
  memset (back, 0, sizeof back);
  memset (io, 0, sizeof io);
  for (unsigned i = 0; i < 64; i++)
    io_start (&io[i], l, REQUEST_WRITE, i % 2 ? POOL_WASYNC : POOL_WSYNC,
              i * CLUSTER, data + i * CLUSTER, CLUSTER);
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  for (unsigned i = 0; i < 64; i++)
    io_start (&io[i], l, REQUEST_READ, i % 2 ? POOL_AHEAD : POOL_DEMAND,
              i * CLUSTER, back + i * CLUSTER, CLUSTER);
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal (io_wait (&io[i]), 0);
  assert_memory_equal (data, back, sizeof data);
}

static void
trim_zero_flush (struct link *l)
{
  static uint8_t page[4096], zeros[4096];

  if (link_can_trim (l))
    assert_int_equal (
        io_do (l, REQUEST_TRIM, POOL_ADMIN, 0, NULL, 16 * CLUSTER), 0);
  else
    assert_int_equal (
        io_do (l, REQUEST_TRIM, POOL_ADMIN, 0, NULL, 16 * CLUSTER), ENOTSUP);
  if (link_can_zero (l)) {
    memset (page, 1, sizeof page);
    assert_int_equal (
        io_do (l, REQUEST_ZERO, POOL_ADMIN, 16 * CLUSTER, NULL, CLUSTER), 0);
    assert_int_equal (
        io_do (l, REQUEST_READ, POOL_DEMAND, 17 * CLUSTER - 4096, page, 4096),
        0);
    assert_memory_equal (page, zeros, 4096);
  }
  assert_int_equal (io_do (l, REQUEST_FLUSH, POOL_ADMIN, 0, NULL, 0), 0);
}

/* What is not a request of this export ends with an error, later. */
static void
bad_requests (struct link *l)
{
  static uint8_t page[4096];
  const uint64_t size = link_size_bytes (l);
  const struct {
    uint64_t off;
    size_t len;
  } bad[] = { { 0, 0 },
              { size, 4096 },
              { size - 4096, 8192 },
              { UINT64_MAX - 4095, 4096 },
              { 0, (size_t) link_request_max (l) + 4096 } };

  for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal (
        io_do (l, REQUEST_READ, POOL_DEMAND, bad[i].off, page, bad[i].len),
        EINVAL);
  if (link_block_bytes (l) > 1) {
    assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 1, page, 4095),
                      EINVAL);
    assert_int_equal (io_do (l, REQUEST_READ, POOL_DEMAND, 0, page, 1), EINVAL);
  }
}

static void
over_server (enum server_kind kind, unsigned connections)
{
  struct server s;
  struct link *l;
  struct link_stat st;
  char uri[256];

  if (!server_start (&s, kind, 64 * MIB, NULL)) {
    print_message ("%s: not on this machine\n", server_names[kind]);
    skip ();
  }
  server_uri (&s, uri, sizeof uri);
  l = open_link (uri, connections);
  assert_int_equal (link_size_bytes (l), 64 * MIB);
  assert_true (link_request_max (l) >= CLUSTER);
  assert_false (link_is_readonly (l));
  assert_true (link_is_durable (l));
  if (kind == SERVER_FARPAGE)
    assert_memory_equal (link_instance (l), "swap/t:64M~", 11);
  else
    assert_null (link_instance (l));
  net_stat (l, &st);
  net_wait_up (l, st.nr_conns);
  write_and_read (l);
  trim_zero_flush (l);
  bad_requests (l);
  net_check (l);
  net_stat (l, &st);
  print_message ("%s: %u connections, %llu flushes\n", server_names[kind],
                 st.nr_conns, (unsigned long long) st.nr_flushes);
  assert_true (st.nr_conns <= (connections != 0 ? connections : 4));
  assert_int_equal (st.bytes_written,
                    64 * CLUSTER + (link_can_zero (l) ? CLUSTER : 0));
  link_close (l);
  server_kill (&s);
}

/* state: the server's kind. */
static void
test_one (void **state)
{
  over_server (*(enum server_kind *) *state, 1);
}

static void
test_several (void **state)
{
  over_server (*(enum server_kind *) *state, 0);
}

/* nbds with a key that both have; not without it, nor with nbd. */
static void
test_tls (void **state)
{
  struct link_config config = { .deadline_us = 20000000 };
  struct server s;
  struct link *l = NULL;
  char keys[128], uri[256];
  FILE *f;

  (void) state;
  snprintf (keys, sizeof keys, "%s/keys", net_dir ());
  f = fopen (keys, "w");
  assert_non_null (f);
  fputs ("alice:0123456789abcdef0123456789abcdef\n", f);
  fclose (f);
  if (!server_start_tls (&s, 64 * MIB, keys))
    skip ();
  snprintf (uri, sizeof uri, "nbds+unix:///?socket=%s", s.socket);
  config.uri = uri;
  config.tls_psk_file = keys;
  config.tls_username = "alice";
  assert_int_equal (link_open (&config, &l), 0);
  write_and_read (l);
  net_check (l);
  link_close (l);
  config.tls_username = "bob";
  assert_int_not_equal (link_open (&config, &l), 0);
  snprintf (uri, sizeof uri, "nbds+unix://alice@/?socket=%s", s.socket);
  assert_int_equal (link_open (&config, &l), 0);
  link_close (l);
  snprintf (uri, sizeof uri, "nbd+unix:///?socket=%s", s.socket);
  assert_int_not_equal (link_open (&config, &l), 0);
  server_kill (&s);
}

int
main (void)
{
  static enum server_kind kinds[] = { SERVER_MEMORY, SERVER_FILE, SERVER_QEMU,
                                      SERVER_NBD, SERVER_FARPAGE };
#define ON(test, kind)                              \
  {                                                 \
#test " " #kind, test, NULL, NULL, &kinds[kind] \
  }
  const struct CMUnitTest tests[] = {
    ON (test_one, SERVER_MEMORY),      ON (test_one, SERVER_FILE),
    ON (test_one, SERVER_QEMU),        ON (test_one, SERVER_NBD),
    ON (test_one, SERVER_FARPAGE),     ON (test_several, SERVER_MEMORY),
    ON (test_several, SERVER_FILE),    ON (test_several, SERVER_QEMU),
    cmocka_unit_test (test_tls),       ON (test_several, SERVER_NBD),
    ON (test_several, SERVER_FARPAGE),
  };

  return NET_RUN (tests);
}
