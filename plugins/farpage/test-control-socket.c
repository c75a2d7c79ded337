/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket's places and names: who may have which, and what is left.
 */

#include <config.h>

#include "control-fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void
test_path (void **state)
{
  struct fixture *f = *state;
  struct control *second;
  char path[128], temp[96];
  struct stat st;
  FILE *file;
  int fd;

  assert_int_equal (stat (f->path, &st), 0);
  assert_int_equal (st.st_mode, S_IFSOCK | 0600);
  assert_string_equal (control_path (f->control), f->path);
  assert_int_equal (control_bind (f->path, &second), EADDRINUSE);
  snprintf (path, sizeof path, "%s/file", f->dir);
  file = fopen (path, "w");
  assert_non_null (file);
  fclose (file);
  assert_int_equal (control_bind (path, &second), EEXIST);
  unlink (path);
  snprintf (path, sizeof path, "%s/none/c.sock", f->dir);
  assert_int_equal (control_bind (path, &second), ENOENT);
  memset (path, 'x', sizeof path);
  path[sizeof path - 1] = '\0';
  assert_int_equal (control_bind (path, &second), ENAMETOOLONG);

  /* a name that came up between bind and start */
  snprintf (path, sizeof path, "%s/d.sock", f->dir);
  assert_int_equal (control_bind (path, &second), 0);
  snprintf (temp, sizeof temp, "%s/d.sock.tmp", f->dir);
  assert_int_equal (stat (temp, &st), 0);
  assert_int_equal (st.st_mode, S_IFSOCK | 0600);
  assert_int_equal (symlink (f->path, path), 0);
  assert_int_equal (control_start (second, f->store, &f->armour, count_stop, f),
                    EEXIST);
  control_stop (second);
  assert_int_equal (access (temp, F_OK), -1);
  unlink (path);

  /* and one that is listened on by now */
  assert_int_equal (control_bind (path, &second), 0);
  assert_int_equal (link (f->path, path), 0);
  assert_int_equal (control_start (second, f->store, &f->armour, count_stop, f),
                    EADDRINUSE);
  control_stop (second);
  unlink (path);
  fd = dial (f->path);
  say (fd, "{\"cmd\": \"ls\"}\n");
  assert_ok (fd);
  close (fd);
}

static void
test_dead_path (void **state)
{
  struct fixture *f = *state;
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);

  snprintf (sun.sun_path, sizeof sun.sun_path, "%s", f->path);
  assert_int_equal (bind (fd, (struct sockaddr *) &sun, sizeof sun), 0);
  assert_int_equal (listen (fd, 1), 0);
  close (fd); /* killed: the name stays */
  assert_int_equal (control_bind (f->path, &f->control), 0);
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  fd = dial (f->path);
  say (fd, "{\"cmd\": \"ls\"}\n");
  assert_ok (fd);
  close (fd);
}

/* A name that leads to something else by now is not removed. */
static void
test_taken_path (void **state)
{
  struct fixture *f = *state;
  FILE *file;

  assert_int_equal (control_bind (f->path, &f->control), 0);
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  unlink (f->path);
  file = fopen (f->path, "w");
  assert_non_null (file);
  fclose (file);
  control_stop (f->control);
  f->control = NULL;
  assert_int_equal (unlink (f->path), 0);
}

static void
test_default_path (void **state)
{
  struct fixture *f = *state;
  char want[96], dir[64];
  int fd;

  setenv ("XDG_RUNTIME_DIR", f->dir, 1);
  assert_int_equal (control_bind (NULL, &f->control), 0);
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  snprintf (want, sizeof want, "%s/farpage/%d.sock", f->dir, (int) getpid ());
  assert_non_null (control_path (f->control));
  assert_string_equal (control_path (f->control), want);
  fd = dial (want);
  say (fd, "{\"cmd\": \"ls\"}\n");
  assert_ok (fd);
  close (fd);
  control_stop (f->control);
  f->control = NULL;
  assert_int_equal (access (want, F_OK), -1);
  snprintf (dir, sizeof dir, "%s/farpage", f->dir);
  assert_int_equal (rmdir (dir), 0);
}

/* As nbdkit does it: bound in the parent, served and named by the child. */
static void
test_fork (void **state)
{
  struct fixture *f = *state;
  char want[96], dir[64];
  int status, fd, ready[2];
  pid_t pid;

  setenv ("XDG_RUNTIME_DIR", f->dir, 1);
  assert_int_equal (pipe (ready), 0);
  assert_int_equal (control_bind (NULL, &f->control), 0);
  pid = fork ();
  if (pid == 0) {
    if (control_start (f->control, f->store, &f->armour, count_stop, f) != 0 ||
        write (ready[1], "x", 1) != 1)
      _exit (1);
    await_stop (f);
    control_stop (f->control);
    _exit (0);
  }
  close (f->control->socket.fd); /* the parent ends here, without a word */
  free (f->control);
  f->control = NULL;
  assert_int_equal (read (ready[0], want, 1), 1);
  snprintf (dir, sizeof dir, "%s/farpage", f->dir);
  snprintf (want, sizeof want, "%s/%d.sock", dir, (int) pid);
  fd = dial (want);
  say (fd, "{\"cmd\": \"stop\"}\n");
  assert_ok (fd);
  assert_closed (fd);
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (status, 0);
  assert_int_equal (rmdir (dir), 0);
  close (ready[0]);
  close (ready[1]);
}

/* Without a socket the store is told the time all the same. */
static void
test_no_socket (void **state)
{
  struct fixture *f = *state;

  assert_int_equal (control_bind ("", &f->control), 0);
  assert_int_equal (
      control_start (f->control, f->store, &f->armour, count_stop, f), 0);
  assert_null (control_path (f->control));
  usleep (1500000);
  assert_true (fake_store_ticks (f->store) >= 1);
}

/* No default place works: the server goes on, and says what to do. */
static void
test_no_default_place (void **state)
{
  struct fixture *f = *state;
  char text[512] = "";
  int status;
  pid_t pid = fork ();

  if (pid == 0) {
    if (geteuid () == 0 && setuid (65534) == -1)
      _exit (2);
    setenv ("XDG_RUNTIME_DIR", "/nonexistent", 1);
    log_set (keep_log, text);
    if (control_bind (NULL, &f->control) != 0 ||
        control_start (f->control, f->store, &f->armour, count_stop, f) != 0)
      _exit (3);
    if (control_path (f->control) != NULL)
      _exit (4);
    control_stop (f->control);
    _exit (strstr (text, "/nonexistent/farpage and /run/farpage") == NULL ||
           strstr (text, "control=PATH") == NULL);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_true (WIFEXITED (status));
  assert_int_equal (WEXITSTATUS (status), 0);
}

/* Sockets of servers that were killed are swept, others are left alone. */
static void
test_sweep (void **state)
{
  struct fixture *f = *state;
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  struct timeval tv[2];
  char dir[64], dead[96];
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);

  snprintf (dir, sizeof dir, "%s/farpage", f->dir);
  assert_int_equal (mkdir (dir, 0700), 0);
  snprintf (dead, sizeof dead, "%s/1.sock", dir);
  snprintf (sun.sun_path, sizeof sun.sun_path, "%s", dead);
  assert_int_equal (bind (fd, (struct sockaddr *) &sun, sizeof sun), 0);
  close (fd);
  setenv ("XDG_RUNTIME_DIR", f->dir, 1);
  assert_int_equal (control_bind (NULL, &f->control), 0);
  control_stop (f->control);
  assert_int_equal (access (dead, F_OK), 0); /* it may be about to listen */
  memset (tv, 0, sizeof tv);
  assert_int_equal (utimes (dead, tv), 0); /* as if it were old */
  assert_int_equal (control_bind (NULL, &f->control), 0);
  control_stop (f->control);
  f->control = NULL;
  assert_int_equal (access (dead, F_OK), -1);
  assert_int_equal (rmdir (dir), 0);
}

static void
test_not_started (void **state)
{
  struct fixture *f = *state;

  assert_int_equal (control_bind (f->path, &f->control), 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    SERVED (test_path),
    ALONE (test_dead_path),
    ALONE (test_taken_path),
    ALONE (test_default_path),
    ALONE (test_fork),
    ALONE (test_no_socket),
    ALONE (test_no_default_place),
    ALONE (test_sweep),
    ALONE (test_not_started),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
