/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits and rules of the control protocol, on a real socket and a fake store.
 * What the store does with a request is not looked at here.
 */

#include <config.h>

#include "control-fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- lines ---- */

static void
test_malformed (void **state)
{
  static const char *const lines[] = {
    "\n",
    " \n",
    "x\n",
    "{\n",
    "}\n",
    "{]\n",
    "{\"\n",
    "\"cmd\"\n",
    "[]\n",
    "1\n",
    "null\n",
    "{\"cmd\": \"ls\"} x\n",
    "{'cmd'}\n",
    "{\"cmd\"}\n",
    "{\"a\":}\n",
    "{\"cmd\": \"ls\",}\n",
    "\"\\\n",
    "{\"a\": 1e999}\n",
    "{\"a\": 99999999999999999999}\n",
    "{\"cmd\": \"ls\", \"cmd\": \"stop\"}\n",
    "{\"cmd\": \"ls\\u0000\"}\n",
    "{\"cmd\\u0000\": \"ls\"}\n",
    "{\"cmd\": \"\\ud800\"}\n",
    "{\"cmd\": \"\xff\"}\n",
    "{\"cmd\": \"\xc0\xaf\"}\n",
    "{\"cmd\": \"\xed\xa0\x80\"}\n",
    "\xff\xfe\n",
  };
  struct fixture *f = *state;
  int fd = dial (f->path);

  for (size_t i = 0; i < NR_OF (lines); i++) {
    say (fd, lines[i]);
    assert_refused (fd, "EINVAL", "not ");
  }
  assert_true (say_bytes (fd, "{\"cmd\": \0\"ls\"}\n", 15));
  assert_refused (fd, "EINVAL", "not JSON");
  assert_true (say_bytes (fd, "{\"cmd\": \"l\0s\"}\n", 15));
  assert_refused (fd, "EINVAL", "not JSON");
  say (fd, "{\"cmd\": \"ls\"}\r\n");
  assert_ok (fd);
  close (fd);
}

static void
test_long_line (void **state)
{
  static const char start[] = "{\"cmd\": \"ls\"}";
  struct fixture *f = *state;
  char *line = malloc (REQUEST_LINE_MAX + 2);
  int fd = dial (f->path);

  memset (line, ' ', REQUEST_LINE_MAX + 2);
  memcpy (line, start, strlen (start));
  line[REQUEST_LINE_MAX] = '\n';
  assert_true (say_bytes (fd, line, REQUEST_LINE_MAX + 1));
  assert_ok (fd);
  line[REQUEST_LINE_MAX] = ' ';
  line[REQUEST_LINE_MAX + 1] = '\n';
  say_bytes (fd, line, REQUEST_LINE_MAX + 2);
  assert_refused (fd, "EMSGSIZE", "64 KiB");
  assert_closed (fd);
  free (line);
}

static void
test_depth (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);
  char line[512];

  for (int extra = 14; extra <= 17; extra++) {
    /* the request's own braces are one level */
    snprintf (line, sizeof line, "{\"cmd\": \"ls\", \"id\": %.*s%.*s}\n", extra,
              "[[[[[[[[[[[[[[[[[[[[", extra, "]]]]]]]]]]]]]]]]]]]]");
    say (fd, line);
    if (extra + 1 <= 16)
      assert_ok (fd);
    else
      assert_refused (fd, "EINVAL", "nesting");
  }
  say (fd, "{\"cmd\": \"ls\", \"id\": \"\\\"[[[[[[[[[[[[[[[[[[[[[[[[\"}\n");
  assert_ok (fd);
  memset (line, '[', sizeof line - 2);
  strcpy (line + sizeof line - 2, "\n");
  for (int i = 0; i < 100; i++)
    say (fd, line);
  for (int i = 0; i < 100; i++)
    assert_refused (fd, "EINVAL", "nesting");
  close (fd);
}

static void
test_half_lines (void **state)
{
  static const char line[] = "{\"cmd\": \"ls\"}\n";
  struct fixture *f = *state;
  int fd = dial (f->path), other;

  for (const char *p = line; *p != '\0'; p++) {
    assert_true (say_bytes (fd, p, 1));
    usleep (1000);
  }
  assert_ok (fd);
  say (fd, "{\"cmd\": \"create\", \"name\": \"half\", \"size\": 1}");
  other = dial (f->path);
  say (other, line); /* is not kept waiting */
  assert_ok (other);
  shutdown (fd, SHUT_WR);
  assert_closed (fd);
  assert_int_equal (fake_store_created (f->store), 0);
  say (other, line);
  shutdown (other, SHUT_WR); /* an answer comes all the same */
  assert_ok (other);
  assert_closed (other);
}

static void
test_pipeline (void **state)
{
  struct fixture *f = *state;
  char text[64 * 1000], *p = text;
  int fd = dial (f->path);

  for (int i = 0; i < 1000; i++)
    p += sprintf (p, "{\"cmd\": \"%s\", \"id\": %d}\n",
                  i % 10 == 9 ? "what" : "events", i);
  say (fd, text);
  for (int i = 0; i < 1000; i++) {
    json_t *json = answer (fd);

    assert_int_equal (json_integer_value (json_object_get (json, "id")), i);
    assert_int_equal (json_is_true (json_object_get (json, "ok")), i % 10 != 9);
    json_decref (json);
  }
  close (fd);
}

static void
test_id (void **state)
{
  static const char *const ids[] = { "null",
                                     "true",
                                     "-5",
                                     "0.25",
                                     "\"\\u00e9\"",
                                     "[{}, \"a\"]",
                                     "{\"cmd\": \"stop\"}" };
  struct fixture *f = *state;
  int fd = dial (f->path);
  char line[128];

  for (size_t i = 0; i < NR_OF (ids) * 2; i++) {
    json_t *want = json_loads (ids[i / 2], JSON_DECODE_ANY, NULL);
    json_t *got;

    snprintf (line, sizeof line, "{\"cmd\": \"%s\", \"id\": %s}\n",
              i % 2 == 0 ? "ls" : "what", ids[i / 2]);
    say (fd, line);
    got = answer (fd);
    assert_true (json_equal (json_object_get (got, "id"), want));
    json_decref (got);
    json_decref (want);
  }
  close (fd);
}

/* ---- arguments ---- */

static void
test_arguments (void **state)
{
  static const struct {
    const char *line, *words;
  } cases[] = {
    { "{}", "create, rm, resize, ls, stat, stop, events" },
    { "{\"cmd\": 1}", "create, rm, resize, ls, stat, stop, events" },
    { "{\"cmd\": \"format\"}", "create, rm, resize, ls, stat, stop, events" },
    { "{\"cmd\": \"ls\", \"name\": \"a\"}", "'name' (it takes no argument)" },
    { "{\"cmd\": \"rm\", \"forec\": true}", "'forec' (it takes name, force)" },
    { "{\"cmd\": \"rm\"}", "'name' is missing" },
    { "{\"cmd\": \"rm\", \"name\": 7}", "name must be a string" },
    { "{\"cmd\": \"rm\", \"name\": null}", "name must be a string" },
    { "{\"cmd\": \"rm\", \"name\": \"a\", \"force\": 1}", "true or false" },
    { "{\"cmd\": \"create\", \"name\": \"a\"}", "'size' is missing" },
    { "{\"cmd\": \"create\", \"size\": 1}", "'name' is missing" },
    { "{\"cmd\": \"create\", \"name\": \"\", \"size\": 1}", "1 to 255" },
    { "{\"cmd\": \"create\", \"name\": \"a/b\", \"size\": 1}", "none of /" },
    { "{\"cmd\": \"resize\", \"name\": \"a\"}", "'size' is missing" },
    { "{\"cmd\": \"resize\", \"name\": \"a\", \"size\": 0}",
      "size must be a whole number" },
    { "{\"cmd\": \"stop\", \"now\": true}", "unknown argument 'now'" },
  };
  static const char *const sizes[] = {
    "0",
    "-1",
    "1.0",
    "1e3",
    "\"1\"",
    "true",
    "null",
    "[1]",
    "{}",
    "1125899906842625",
    "9223372036854775807",
    "-9223372036854775808",
  };
  struct fixture *f = *state;
  int fd = dial (f->path);
  char line[128];

  for (size_t i = 0; i < NR_OF (cases); i++) {
    say (fd, cases[i].line);
    say (fd, "\n");
    assert_refused (fd, "EINVAL", cases[i].words);
  }
  for (size_t i = 0; i < NR_OF (sizes); i++) {
    snprintf (line, sizeof line,
              "{\"cmd\": \"create\", \"name\": \"a\", \"size\": %s}\n",
              sizes[i]);
    say (fd, line);
    assert_refused (fd, "EINVAL", "size must be a whole number");
  }
  assert_int_equal (fake_store_created (f->store), 0);
  say (fd, "{\"cmd\": \"create\", \"name\": \"a\", "
           "\"size\": 1125899906842624}\n");
  assert_ok (fd);
  close (fd);
}

static void
test_errors_of_the_store (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);

  say (fd, "{\"cmd\": \"create\", \"name\": \"vm1\", \"size\": 1}\n"
           "{\"cmd\": \"create\", \"name\": \"b\", \"reserve\": true, "
           "\"size\": 1125899906842624}\n"
           "{\"cmd\": \"rm\", \"name\": \"none\"}\n"
           "{\"cmd\": \"rm\", \"name\": \"vm1\"}\n"
           "{\"cmd\": \"resize\", \"name\": \"none\", \"size\": 1}\n"
           "{\"cmd\": \"resize\", \"name\": \"vm1\", \"size\": 1}\n"
           "{\"cmd\": \"resize\", \"name\": \"vm1\", \"size\": "
           "1125899906842624}\n"
           "{\"cmd\": \"resize\", \"name\": \"swap/s\", \"size\": 1}\n"
           "{\"cmd\": \"rm\", \"name\": \"vm1\", \"force\": true}\n"
           "{\"cmd\": \"stat\", \"name\": \"vm1\"}\n");
  assert_refused (fd, "EEXIST", "vm1: is there already");
  assert_refused (fd, "ENOSPC", "b: not enough free space");
  assert_refused (fd, "ENOENT", "none: no such disk");
  assert_refused (fd, "EBUSY", "vm1: a client has it open");
  assert_refused (fd, "ENOENT", "none: no such disk");
  assert_refused (fd, "EBUSY", "vm1: a client has it open, and it would be");
  assert_ok (fd);
  assert_refused (fd, "EINVAL", "swap/s: swap keeps the size");
  assert_ok (fd);
  assert_refused (fd, "ENOENT", "vm1: no such disk");
  close (fd);
}

/* The log tells who changed what, and nothing of what was refused. */
static void
test_log (void **state)
{
  struct fixture *f = *state;
  char text[512] = "", want[128];
  int fd;

  log_set (keep_log, text);
  assert_int_equal (control_bind (f->path, &f->control), 0);
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  fd = dial (f->path);
  say (fd, "{\"cmd\": \"create\", \"name\": \"logged\", \"size\": 1}\n"
           "{\"cmd\": \"rm\", \"name\": \"\\n\"}\n{\"cmd\": \"ls\"}\n");
  assert_ok (fd);
  assert_refused (fd, "ENOENT", "no such");
  assert_ok (fd);
  close (fd);
  snprintf (want, sizeof want, "control: create logged (by pid %d, uid %u)",
            (int) getpid (), (unsigned) getuid ());
  control_stop (f->control);
  f->control = NULL;
  log_set (NULL, NULL);
  assert_string_equal (text, want);
}

/* A client's text in a message is cut, and between characters. */
static void
test_long_text (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);
  char line[8192], *p;

  p = stpcpy (line, "{\"cmd\": \"a");
  for (int i = 0; i < 2000; i++)
    p = stpcpy (p, "\xc3\xa9");
  strcpy (p, "\"}\n");
  say (fd, line);
  assert_refused (fd, "EINVAL", "\xc3\xa9' (known: create");
  p = stpcpy (line, "{\"cmd\": \"rm\", \"name\": \"");
  for (int i = 0; i < 4097; i++)
    p = stpcpy (p, "n");
  strcpy (p, "\"}\n");
  say (fd, line);
  assert_refused (fd, "EINVAL", "at most 4096 bytes");
  close (fd);
}

static void
test_stat (void **state)
{
  static const char *const keys[] = { "version",     "pid",      "uptime",
                                      "state",       "reason",   "durability",
                                      "armour",      "pool",     "store",
                                      "retired",     "volumes",  "objects",
                                      "connections", "requests", "bounds" };
  struct fixture *f = *state;
  int fd = dial (f->path);
  json_t *json, *bounds, *armour;

  say (fd, "{\"cmd\": \"stat\"}\n{\"cmd\": \"stat\", \"name\": \"vm1\"}\n");
  json = answer (fd);
  for (size_t i = 0; i < NR_OF (keys); i++)
    if (json_object_get (json, keys[i]) == NULL)
      fail_msg ("stat has no '%s'", keys[i]);
  assert_int_equal (json_object_size (json), NR_OF (keys) + 1);
  assert_int_equal (json_array_size (json_object_get (json, "objects")), 2);
  assert_int_equal (json_array_size (json_object_get (json, "connections")), 2);
  armour = json_object_get (json, "armour");
  assert_true (json_is_true (json_object_get (armour, "flusher")));
  assert_true (json_is_false (json_object_get (armour, "locked")));
  assert_int_equal (
      json_integer_value (json_object_get (armour, "oom_score_adj")), -7);
  bounds = json_object_get (json, "bounds");
  bounds = json_array_get (bounds, json_array_size (bounds) - 1);
  assert_int_equal (json_integer_value (json_object_get (bounds, "used")), 1);
  assert_int_equal (json_integer_value (json_object_get (bounds, "max")), 16);
  json_decref (json);
  json = answer (fd);
  assert_int_equal (json_array_size (json_object_get (json, "objects")), 1);
  assert_int_equal (json_array_size (json_object_get (json, "connections")), 1);
  json_decref (json);
  close (fd);
}

/* An answer beyond the limit is refused; the next one is as it should be. */
static void
test_huge_answer (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);

  fake_store_repeat (f->store, 40000);
  say (fd, "{\"cmd\": \"ls\"}\n{\"cmd\": \"stat\"}\n");
  assert_refused (fd, "E2BIG", "longer than 16 MiB");
  assert_refused (fd, "E2BIG", "longer than 16 MiB");
  fake_store_repeat (f->store, 1);
  say (fd, "{\"cmd\": \"ls\"}\n");
  assert_ok (fd);
  close (fd);
}

/* ---- memory ---- */

static unsigned allocations_left; /* until the one that fails */

static void *
stingy_malloc (size_t n)
{
  return allocations_left-- == 0 ? NULL : malloc (n);
}

/* Whichever allocation of jansson's fails, there is an answer, and it is the
 * whole one or a refusal (jansson may take it for bad JSON).
 */
static void
test_no_memory (void **state)
{
  static const char *const lines[] = {
    "{\"cmd\": \"stat\", \"id\": [1, {\"a\": \"b\"}]}",
    "{\"cmd\": \"ls\"}",
    "{\"cmd\": \"rm\", \"name\": \"none\"}",
    "{\"cmd\": \"events\"}",
  };
  struct fixture *f = *state;
  struct request_env env = { .store = f->store,
                             .armour = &f->armour,
                             .clients = { "c", 1, 2 } };
  struct request_answer full, a;
  unsigned refused = 0, n;

  for (size_t i = 0; i < NR_OF (lines); i++) {
    request_run (&env, lines[i], strlen (lines[i]), &full);
    assert_non_null (full.text);
    json_set_alloc_funcs (stingy_malloc, free);
    for (n = 0; n < 3000; n++) {
      bool same;

      allocations_left = n;
      request_run (&env, lines[i], strlen (lines[i]), &a);
      assert_non_null (a.text);
      assert_int_equal (a.text[a.bytes - 1], '\n');
      same = a.bytes == full.bytes && memcmp (a.text, full.text, a.bytes) == 0;
      if (!same && memmem (a.text, a.bytes, "\"ok\": false", 11) == NULL)
        fail_msg ("after %u: %.*s", n, (int) a.bytes, a.text);
      refused += !same;
      free (a.text);
      if (same && allocations_left <= n)
        break; /* it was over before */
    }
    json_set_alloc_funcs (malloc, free);
    free (full.text);
    assert_true (n < 3000);
  }
  assert_true (refused > 200);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    SERVED (test_malformed), SERVED (test_long_line),
    SERVED (test_depth),     SERVED (test_half_lines),
    SERVED (test_pipeline),  SERVED (test_id),
    SERVED (test_arguments), SERVED (test_errors_of_the_store),
    ALONE (test_log),        SERVED (test_long_text),
    SERVED (test_stat),      SERVED (test_huge_answer),
    ALONE (test_no_memory),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
