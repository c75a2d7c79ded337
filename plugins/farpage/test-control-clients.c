/* SPDX-License-Identifier: BSD-2-Clause */
/* Clients of the control socket: too many, slow ones, ones that listen, and of
 * another user; on a real socket and a fake store.
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

static void
test_seventeenth (void **state)
{
  struct fixture *f = *state;
  int fd[CONTROL_CLIENTS_MAX], more;

  for (unsigned i = 0; i < NR_OF (fd); i++) {
    fd[i] = dial (f->path);
    say (fd[i], "{\"cmd\": \"ls\"}\n");
    assert_ok (fd[i]);
  }
  more = dial (f->path);
  assert_refused (more, "EBUSY", "16 clients");
  assert_closed (more);
  shutdown (fd[3], SHUT_WR);
  assert_closed (fd[3]); /* its place is free by now */
  fd[3] = dial (f->path);
  for (unsigned i = 0; i < NR_OF (fd); i++) {
    say (fd[i], "{\"cmd\": \"ls\"}\n");
    assert_ok (fd[i]);
    close (fd[i]);
  }
}

/* Who does not take answers gets no more work done, and is closed in time. */
static void
test_slow_reader (void **state)
{
  static const char line[] = "{\"cmd\": \"stat\"}\n";
  struct fixture *f = *state;
  int slow, fd;
  struct timeval tv = { .tv_sec = 20 };
  unsigned sent = 0;

  assert_int_equal (control_bind (f->path, &f->control), 0);
  f->control->write_timeout_s = 1.0; /* 30 s would be long for a test */
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  slow = dial (f->path);
  fd = dial (f->path);

  setsockopt (slow, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
  while (sent < 1000000 && say_bytes (slow, line, strlen (line)))
    sent++;
  assert_true (errno == EPIPE || errno == ECONNRESET); /* no time-out: closed */
  assert_true (sent < 20000); /* and not read without end */
  say (fd, line);
  assert_ok (fd);
  close (slow);
  close (fd);
}

/* Answers beyond what a socket holds arrive whole and in order, with events
 * between them, once they are taken.
 */
static void
test_late_reader (void **state)
{
  enum {
    NR = 400
  };
  struct fixture *f = *state;
  char text[64 * NR], *p = text;
  int fd = dial (f->path), events = 0;

  for (int i = 0; i < NR; i++)
    p += sprintf (p, "{\"cmd\": \"%s\", \"id\": %d}\n",
                  i == 0 ? "events" : "stat", i);
  say (fd, text);
  usleep (300000);
  fake_store_space (f->store, SPACE_FULL);
  for (int i = 0; i < NR + events; i++) {
    json_t *json = answer (fd);

    if (json_object_get (json, "event") != NULL)
      events++;
    else
      assert_int_equal (json_integer_value (json_object_get (json, "id")),
                        i - events);
    json_decref (json);
  }
  if (events == 0)
    assert_non_null (strstr (hear (fd), "\"full\""));
  close (fd);
}

static void
test_events (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path), deaf = dial (f->path);

  say (deaf, "{\"cmd\": \"ls\"}\n");
  assert_ok (deaf);
  say (fd, "{\"cmd\": \"events\"}\n");
  assert_string_equal (hear (fd), "{\"ok\": true, \"space\": \"ok\"}");
  fake_store_space (f->store, SPACE_ALMOST_FULL);
  assert_string_equal (hear (fd), "{\"event\": \"space\", "
                                  "\"state\": \"almost full\"}");
  fake_store_space (f->store, SPACE_FULL);
  assert_string_equal (hear (fd),
                       "{\"event\": \"space\", \"state\": \"full\"}");
  say (fd, "{\"cmd\": \"ls\"}\n");
  assert_ok (fd);
  fake_store_space (f->store, SPACE_OK);
  assert_string_equal (hear (fd), "{\"event\": \"space\", \"state\": \"ok\"}");
  say (deaf, "{\"cmd\": \"ls\"}\n"); /* it has been told nothing */
  assert_ok (deaf);
  close (fd);
  close (deaf);
}

/* A subscriber who does not listen is told the last state, not all. */
static void
test_events_merge (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);
  const char *line;
  unsigned nr = 0;

  say (fd, "{\"cmd\": \"events\"}\n");
  assert_ok (fd);
  for (int i = 0; i < 30000; i++)
    fake_store_space (f->store, i % 2 == 0 ? SPACE_ALMOST_FULL : SPACE_OK);
  fake_store_space (f->store, SPACE_FULL);
  do {
    line = hear (fd);
    assert_non_null (line);
    nr++;
  } while (strstr (line, "\"full\"") == NULL);
  assert_true (nr <= 30001);
  close (fd);
}

static void
test_stop (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);
  struct pollfd p = { .fd = fd, .events = POLLIN };

  say (fd, "{\"cmd\": \"stop\", \"id\": 1}\n"
           "{\"cmd\": \"create\", \"name\": \"late\", \"size\": 1}\n"
           "{\"cmd\": \"stop\"}\n");
  assert_ok (fd);
  await_stop (f);
  say (fd, "{\"cmd\": \"create\", \"name\": \"later\", \"size\": 1}\n");
  assert_int_equal (poll (&p, 1, 200), 0); /* open, and no second answer */
  assert_int_equal (fake_store_created (f->store), 0);
  close (fd);
}

static void
test_stop_and_go (void **state)
{
  struct fixture *f = *state;
  int fd = dial (f->path);

  say (fd, "{\"cmd\": \"stop\"}\n");
  close (fd);
  await_stop (f);
}

static void
test_foreign_user (void **state)
{
  struct fixture *f = *state;
  int status;
  pid_t pid;

  if (geteuid () != 0)
    skip ();
  chmod (f->dir, 0755);
  chmod (f->path, 0666); /* as if somebody had opened it up */
  pid = fork ();
  if (pid == 0) {
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fd = socket (AF_UNIX, SOCK_STREAM, 0);
    char ch;

    snprintf (sun.sun_path, sizeof sun.sun_path, "%s", f->path);
    if (setuid (65534) == -1 ||
        connect (fd, (struct sockaddr *) &sun, sizeof sun) == -1)
      _exit (2);
    send (fd, "{\"cmd\": \"ls\"}\n", 14, MSG_NOSIGNAL);
    _exit (recv (fd, &ch, 1, 0) == 1 ? 3 : 0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (WEXITSTATUS (status), 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    SERVED (test_seventeenth),  ALONE (test_slow_reader),
    SERVED (test_late_reader),  SERVED (test_events),
    SERVED (test_events_merge), SERVED (test_stop),
    SERVED (test_stop_and_go),  SERVED (test_foreign_user),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
