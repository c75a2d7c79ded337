/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager over nbds:// and nbds+unix://, to an nbdkit that wants
 * certificates, or keys that both have: pages are put and got, also after the
 * connections broke; and nobody is let in, nor believed, who has not what the
 * other wants.
 *
 *   FOLDER          has                              made by
 *   good            ca-cert, server-, client-        authority "good"
 *   bare            ca-cert of "good"                no certificate of its own
 *   misled          client- of "good"                believes "other"
 *   other           ca-cert, server-, client-        authority "other"
 */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "test-rig.h"

/* ---- certificates ---- */

/* False: it failed, or is not here. */
__attribute__ ((format (printf, 1, 2))) static bool
shell (const char *fmt, ...)
{
  char command[1500];
  va_list args;
  int n;

  va_start (args, fmt);
  n = vsnprintf (command, sizeof command, fmt, args);
  va_end (args);
  assert_in_range (n, 1, sizeof command - 1);
  return system (command) == 0;
}

static const char *
folder (const char *name)
{
  static char path[4][150];
  static unsigned n;
  char *p = path[n++ % 4];

  snprintf (p, sizeof path[0], "%s/%s", net_dir (), name);
  return p;
}

/* NAME-key.pem and NAME-cert.pem in the folder, by its authority. */
static bool
certify (const char *name, const char *uses)
{
  return shell ("cd %s && certtool --generate-privkey --key-type=ecdsa "
                "--outfile %s-key.pem 2>/dev/null && "
                "printf 'cn = localhost\\ndns_name = localhost\\n"
                "ip_address = 127.0.0.1\\nexpiration_days = 10\\n%s\\n' "
                "> %s.info && "
                "certtool --generate-certificate --load-privkey %s-key.pem "
                "--load-ca-certificate ca-cert.pem "
                "--load-ca-privkey ca-key.pem --template %s.info "
                "--outfile %s-cert.pem 2>/dev/null",
                folder ("new"), name, uses, name, name, name, name);
}

static bool
make_folder (const char *name)
{
  return shell ("mkdir %s && cd %s && certtool --generate-privkey "
                "--key-type=ecdsa --outfile ca-key.pem 2>/dev/null && "
                "printf 'cn = %s\\nca\\ncert_signing_key\\n"
                "expiration_days = 10\\n' > ca.info && "
                "certtool --generate-self-signed --load-privkey ca-key.pem "
                "--template ca.info --outfile ca-cert.pem 2>/dev/null",
                folder ("new"), folder ("new"), name) &&
         certify ("server", "tls_www_server") &&
         certify ("client", "tls_www_client") &&
         shell ("mv %s %s", folder ("new"), folder (name));
}

static int
make_certificates (void **state)
{
  assert_int_equal (net_group_setup (state), 0);
  if (!shell ("certtool --version >/dev/null 2>&1"))
    return 0;
  assert_true (make_folder ("good"));
  assert_true (make_folder ("other"));
  assert_true (shell ("mkdir %s && cp %s/ca-cert.pem %s", folder ("bare"),
                      folder ("good"), folder ("bare")));
  assert_true (shell ("cp -r %s %s && cp %s/ca-cert.pem %s", folder ("good"),
                      folder ("misled"), folder ("other"), folder ("misled")));
  return 0;
}

static bool
has_certificates (void)
{
  struct stat st;

  return stat (folder ("good"), &st) == 0;
}

/* ---- what goes over it ---- */

static struct server server;
static struct relay relay;

/* The scheme, and user@ or nothing, over TCP or a Unix socket. */
static void
uri_of (char *uri, size_t len, const char *scheme, const char *user, bool tcp)
{
  if (tcp)
    snprintf (uri, len, "%s://%s%s/", scheme, user, relay.at);
  else
    snprintf (uri, len, "%s+unix://%s/?socket=%s", scheme, user, relay.at);
}

static void
pages_go (const char *uri, const struct farpage_options *options)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct wait w;
  void *addr[512];

  rig_open (&r, uri, options);
  o = rig_make (&r, NULL, 1024);
  assert_int_equal (rig_put (&r, o, 1, 0, 512, 1), FARPAGE_OK);
  rig_addrs (&r, addr, 0, 512, 1);
  for (unsigned i = 0; i < 512; i++)
    rig_fill (addr[i], 1, 512 + i, 1);
  wait_init (&w, 512, 512);
  assert_int_equal (farpage_aio_putpages (o, 512, 512, addr, 0, wait_page, &w),
                    0);
  relay_tell (&relay, "cut a how=reset");
  wait_all (&w);
  for (unsigned i = 0; i < 512; i++)
    assert_int_equal (w.result[i], FARPAGE_OK);
  for (unsigned i = 0; i < 1024; i++)
    rig_assert_has (&r, o, i, 1, i, 1);
  assert_true (atomic_load (&r.events[FARPAGE_CONNECTED]) > 0);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_close (&r);
}

/* No link comes of it. */
static void
is_refused (const char *uri, const struct farpage_options *options)
{
  struct farpage_link *link = NULL;

  assert_int_not_equal (farpage_link_open (uri, options, &link), 0);
  assert_null (link);
}

static void
options_of (struct farpage_options *options, const char *certificates)
{
  struct rig none;

  rig_options (&none, options);
  options->event = NULL;
  options->arg = NULL;
  options->tls_certificates = certificates;
}

/* ---- tests ---- */

static void
certificates (bool tcp)
{
  struct farpage_options options;
  struct rig none;
  char uri[300];

  if (!has_certificates () || !relay_is_there ())
    skip ();
  assert_true (server_start_certificates (&server, 64 * MIB, folder ("good")));
  relay_start (&relay, &server, tcp, "");
  rig_options (&none, &options);
  uri_of (uri, sizeof uri, "nbds", "", tcp);
  options.tls_certificates = folder ("good");
  pages_go (uri, &options);
  options_of (&options, folder ("other")); /* neither believes the other */
  is_refused (uri, &options);
  options_of (&options, folder ("misled")); /* the server would, it does not */
  if (tcp) /* libnbd 1.14 looks at no server's certificate on a Unix socket */
    is_refused (uri, &options);
  options_of (&options, folder ("bare")); /* the server wants a client's */
  is_refused (uri, &options);
  options_of (&options, folder ("good"));
  uri_of (uri, sizeof uri, "nbd", "", tcp);
  is_refused (uri, &options);
  relay_stop (&relay);
  server_kill (&server);
}

static void
test_certificates_tcp (void **state)
{
  (void) state;
  certificates (true);
}

static void
test_certificates_unix (void **state)
{
  (void) state;
  certificates (false);
}

static const char *
write_keys (const char *name, const char *line)
{
  const char *path = folder (name);
  FILE *f = fopen (path, "w");

  assert_non_null (f);
  fprintf (f, "%s\n", line);
  fclose (f);
  return path;
}

static void
keys (bool tcp)
{
  const char *right = write_keys ("keys", "alice:0123456789abcdef0123456789ab");
  const char *wrong = write_keys ("none", "alice:0123456789abcdef0123456789ac");
  struct farpage_options options;
  struct rig none;
  char uri[300];

  if (!relay_is_there ())
    skip ();
  assert_true (server_start_tls (&server, 64 * MIB, right));
  relay_start (&relay, &server, tcp, "");
  rig_options (&none, &options);
  options.tls_psk_file = right;
  uri_of (uri, sizeof uri, "nbds", "alice@", tcp);
  pages_go (uri, &options);
  options_of (&options, NULL);
  options.tls_psk_file = wrong;
  is_refused (uri, &options);
  options.tls_psk_file = right;
  options.tls_username = "bob";
  uri_of (uri, sizeof uri, "nbds", "", tcp);
  is_refused (uri, &options);
  uri_of (uri, sizeof uri, "nbd", "", tcp);
  is_refused (uri, &options);
  relay_stop (&relay);
  server_kill (&server);
}

static void
test_keys_tcp (void **state)
{
  (void) state;
  keys (true);
}

static void
test_keys_unix (void **state)
{
  (void) state;
  keys (false);
}

/* nbds to a server that knows no TLS: it does not go on without. */
static void
test_plain (void **state)
{
  struct farpage_options options;
  char uri[300];

  (void) state;
  if (!relay_is_there ())
    skip ();
  assert_true (server_start (&server, SERVER_MEMORY, 64 * MIB, NULL));
  relay_start (&relay, &server, true, "");
  options_of (&options, has_certificates () ? folder ("good") : NULL);
  uri_of (uri, sizeof uri, "nbds", "", true);
  is_refused (uri, &options);
  relay_stop (&relay);
  server_kill (&server);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_certificates_tcp),
    cmocka_unit_test (test_certificates_unix),
    cmocka_unit_test (test_keys_tcp),
    cmocka_unit_test (test_keys_unix),
    cmocka_unit_test (test_plain),
  };

  cmocka_set_test_filter (getenv ("FARPAGE_TEST"));
  return cmocka_run_group_tests (tests, make_certificates, net_group_teardown);
}
