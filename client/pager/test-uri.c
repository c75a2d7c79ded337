/* SPDX-License-Identifier: BSD-2-Clause */
/* URIs: what is taken, and as what; what is not. */

#include <config.h>

#include "uri.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *
text (const char *s)
{
  return s != NULL ? s : "-";
}

static void
test_good (void **state)
{
  static const struct {
    const char *uri;
    bool tls;
    const char *host, *port, *socket, *user, *name;
  } good[] = {
    { "nbd://a.example", false, "a.example", "10809", "-", "-", "" },
    { "nbd://a/", false, "a", "10809", "-", "-", "" },
    { "nbd://a:1/b/c", false, "a", "1", "-", "-", "b/c" },
    { "nbd://a:65535//b", false, "a", "65535", "-", "-", "/b" },
    { "nbd://10.0.0.1/swap/x:4G", false, "10.0.0.1", "10809", "-", "-",
      "swap/x:4G" },
    { "nbd://[::1]:99/b", false, "::1", "99", "-", "-", "b" },
    { "nbd://[fe80::1]", false, "fe80::1", "10809", "-", "-", "" },
    { "nbds://u%40x@a/%c3%a9%20", true, "a", "10809", "-", "u@x", "\xc3\xa9 " },
    { "nbd+unix:///?socket=/tmp/s", false, "-", "-", "/tmp/s", "-", "" },
    { "nbd+unix:///n?socket=a%3fb", false, "-", "-", "a?b", "-", "n" },
    { "nbds+unix://u@/n?socket=s", true, "-", "-", "s", "u", "n" },
  };

  (void) state;
  for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
    struct uri u;
    const char *why;

    assert_int_equal (uri_parse (good[i].uri, &u, &why), 0);
    assert_int_equal (u.tls, good[i].tls);
    assert_string_equal (text (u.host), good[i].host);
    assert_string_equal (text (u.port), good[i].port);
    assert_string_equal (text (u.socket), good[i].socket);
    assert_string_equal (text (u.user), good[i].user);
    assert_string_equal (u.name, good[i].name);
    uri_free (&u);
  }
}

static void
test_bad (void **state)
{
  static const char *const bad[] = {
    "",
    "nbd",
    "nbd:a",
    "nbd:/a",
    "NBD://a",
    "nbd+vsock://2",
    "nbd+ssh://a",
    "nbds+vsock://2",
    "http://a",
    "file:///etc/passwd",
    " nbd://a",
    "nbd://",
    "nbd:///b",
    "nbd://:1",
    "nbd://a:",
    "nbd://a:0",
    "nbd://a:65536",
    "nbd://a:99999999999",
    "nbd://a:1x",
    "nbd://a:-1",
    "nbd://::1",
    "nbd://[::1",
    "nbd://[::1]x",
    "nbd://[]",
    "nbd://a b",
    "nbd://u@a",
    "nbd://a/%",
    "nbd://a/%4",
    "nbd://a/%4g",
    "nbd://a/%00",
    "nbd://a/b#c",
    "nbd://a/b?socket=c",
    "nbd://a?",
    "nbds://a?tls-psk-file=/etc/passwd",
    "nbd+unix:///",
    "nbd+unix:///?socket=",
    "nbd+unix:///?Socket=a",
    "nbd+unix:///?socket=a&b=c",
    "nbd+unix://h/?socket=a",
    "nbd+unix://u@/?socket=a",
    "nbd+unix:///?tls-certificates=a",
  };
  struct uri u = { .host = (char *) "untouched" };
  const char *why;

  (void) state;
  for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    why = NULL;
    assert_int_equal (uri_parse (bad[i], &u, &why), EINVAL);
    assert_non_null (why);
    assert_string_equal (u.host, "untouched");
  }
}

static void
test_long (void **state)
{
  char *uri = malloc (6000);
  struct uri u;
  const char *why;

  (void) state;
  for (unsigned n = 4095; n <= 4097; n++) {
    strcpy (uri, "nbd://a/");
    memset (uri + 8, 'x', n);
    uri[8 + n] = '\0';
    assert_int_equal (uri_parse (uri, &u, &why), n <= 4096 ? 0 : EINVAL);
    if (n <= 4096)
      uri_free (&u);
  }
  for (unsigned n = 107; n <= 108; n++) {
    strcpy (uri, "nbd+unix:///?socket=");
    memset (uri + 20, 'x', n);
    uri[20 + n] = '\0';
    assert_int_equal (uri_parse (uri, &u, &why), n == 107 ? 0 : EINVAL);
    if (n == 107)
      uri_free (&u);
  }
  free (uri);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_good),
    cmocka_unit_test (test_bad),
    cmocka_unit_test (test_long),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
