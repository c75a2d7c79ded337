/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-control.c and test-control-socket.c share; see the header.
 *
 * Each test starts a server of its own in a fresh directory and speaks to it
 * from the test's thread.
 */

#include <config.h>

#include "control-fixture.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void
count_stop (void *arg)
{
  struct fixture *f = arg;

  atomic_fetch_add (&f->stops, 1);
}

void
keep_log (void *arg, enum log_level level, const char *text)
{
  if (level != LOG_DEBUG)
    snprintf (arg, 512, "%s", text);
}

int
setup_dir (void **state)
{
  struct fixture *f = calloc (1, sizeof *f);

  assert_non_null (f);
  strcpy (f->dir, "/tmp/test-control-XXXXXX");
  assert_non_null (mkdtemp (f->dir));
  snprintf (f->path, sizeof f->path, "%s/c.sock", f->dir);
  f->store = fake_store_new ();
  f->armour = (struct armour){ .flusher = true, .oom_score_adj = -7 };
  *state = f;
  return 0;
}

int
setup (void **state)
{
  struct fixture *f;

  setup_dir (state);
  f = *state;
  assert_int_equal (control_bind (f->path, &f->control), 0);
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  return 0;
}

int
teardown (void **state)
{
  struct fixture *f = *state;

  control_stop (f->control);
  fake_store_free (f->store);
  assert_int_equal (access (f->path, F_OK), -1);
  assert_int_equal (rmdir (f->dir), 0); /* nothing is left behind */
  free (f);
  return 0;
}

/* ---- a client ---- */

int
dial (const char *path)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  assert_true (fd >= 0);
  snprintf (sun.sun_path, sizeof sun.sun_path, "%s", path);
  assert_int_equal (connect (fd, (struct sockaddr *) &sun, sizeof sun), 0);
  return fd;
}

/* false if the server has closed. */
bool
say_bytes (int fd, const char *text, size_t n)
{
  while (n > 0) {
    ssize_t done = send (fd, text, n, MSG_NOSIGNAL);

    if (done <= 0)
      return false;
    text += done;
    n -= done;
  }
  return true;
}

void
say (int fd, const char *text)
{
  assert_true (say_bytes (fd, text, strlen (text)));
}

/* One line of at most 128 KiB, or NULL at the end; static. */
char *
hear (int fd)
{
  static char line[1 << 17];
  struct pollfd p = { .fd = fd, .events = POLLIN };
  size_t n = 0;

  for (;;) {
    assert_int_equal (poll (&p, 1, WAIT_MS), 1);
    if (recv (fd, line + n, 1, 0) != 1)
      return NULL;
    if (line[n] == '\n') {
      line[n] = '\0';
      return line;
    }
    n++;
    assert_true (n < sizeof line);
  }
}

/* The next answer, parsed. */
json_t *
answer (int fd)
{
  char *line = hear (fd);
  json_t *json;

  assert_non_null (line);
  json = json_loads (line, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null (json);
  return json;
}

void
assert_ok (int fd)
{
  json_t *json = answer (fd);

  assert_true (json_is_true (json_object_get (json, "ok")));
  json_decref (json);
}

/* The next answer is a refusal whose text has words in it. */
void
assert_refused (int fd, const char *name, const char *words)
{
  json_t *json = answer (fd);
  const char *text = json_string_value (json_object_get (json, "error"));
  const char *number = json_string_value (json_object_get (json, "errno"));

  assert_true (json_is_false (json_object_get (json, "ok")));
  assert_non_null (text);
  assert_non_null (number);
  assert_string_equal (number, name);
  if (strstr (text, words) == NULL)
    fail_msg ("'%s' is not in '%s'", words, text);
  json_decref (json);
}

void
assert_closed (int fd)
{
  assert_null (hear (fd));
  close (fd);
}

/* Wait for on_stop. */
void
await_stop (struct fixture *f)
{
  for (int i = 0; i < WAIT_MS / 10 && atomic_load (&f->stops) == 0; i++)
    usleep (10000);
  usleep (50000);
  assert_int_equal (atomic_load (&f->stops), 1);
}
