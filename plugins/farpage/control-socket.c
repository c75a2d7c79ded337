/* SPDX-License-Identifier: BSD-2-Clause */
/* The listening socket's life; called by control.c only.
 *
 *   nothing → bound, under temp [control_socket_bind, before the fork]
 *   bound → listening, under path [control_socket_publish, after the fork]
 *   listening → nothing [control_socket_unlink]
 *
 * I1. The socket has mode 0600 from the moment it has a name: the mode is set
 *     on the descriptor before bind (2).
 * I2. A name is there under path only when connecting to it works.
 * I3. A socket that somebody listens on is never replaced, nor is anything
 *     that is no socket.  A dead server's is.
 * I4. Only a name that still leads to this socket is removed.
 *
 * Between the look at a dead name and its removal another server that starts
 * on the same explicit path at the same instant may slip in; nothing in the
 * file system closes that gap, so it is kept to two system calls.
 *
 * A server that nbdkit gives up on between .get_ready and .after_fork leaves
 * its temporary name behind.  For an explicit path that name is always the
 * same and the next start takes it; in a default place dead names are swept.
 */

#include <config.h>

#include "control-socket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define TEMP_SUFFIX  ".tmp"
#define BACKLOG      16
#define SWEEP_MAX    256 /* names looked at in a default place */
#define SWEEP_AGE_S  60  /* younger ones may be about to listen */
#define PID_BYTES    12  /* with a slash and a NUL */
#define REMEDY_PLACE "give control=PATH, or control= for none"

/* to = a b c; false: it does not fit, and to is empty. */
static bool
path_fits (char to[SOCKET_PATH_BYTES], const char *a, const char *b,
           const char *c)
{
  to[0] = '\0';
  if (strlen (a) + strlen (b) + strlen (c) >= SOCKET_PATH_BYTES)
    return false;
  stpcpy (stpcpy (stpcpy (to, a), b), c);
  return true;
}

enum place {
  PLACE_FREE,
  PLACE_DEAD,
  PLACE_LIVE,
  PLACE_OTHER
};

/* What is at path, and does anybody listen there? */
static enum place
place_probe (const char *path)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  struct stat st;
  int fd, err;

  if (lstat (path, &st) == -1)
    return errno == ENOENT ? PLACE_FREE : PLACE_OTHER;
  if (!S_ISSOCK (st.st_mode))
    return PLACE_OTHER;
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return PLACE_LIVE; /* cannot tell: leave it alone */
  strcpy (sun.sun_path, path);
  err = connect (fd, (struct sockaddr *) &sun, sizeof sun) == 0 ? 0 : errno;
  close (fd);
  if (err == ENOENT)
    return PLACE_FREE;
  return err == ECONNREFUSED ? PLACE_DEAD : PLACE_LIVE;
}

/* 0 if a new socket may have this name. */
static int
place_claimable (const char *path)
{
  switch (place_probe (path)) {
  case PLACE_LIVE:
    log_write (LOG_ERROR,
               "control socket %s: another server listens there (stop it, or "
               "give another control=PATH)",
               path);
    return EADDRINUSE;
  case PLACE_OTHER:
    log_write (LOG_ERROR,
               "control socket %s: is there and no socket (remove it, or give "
               "another control=PATH)",
               path);
    return EEXIST;
  default:
    return 0;
  }
}

/* A socket bound at s->temp. */
static int
bind_temp (struct control_socket *s)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  struct stat st;
  int fd, err;

  if (lstat (s->temp, &st) == 0 && S_ISSOCK (st.st_mode))
    unlink (s->temp); /* of a start that did not come to its end */
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return errno;
  strcpy (sun.sun_path, s->temp);
  if (fchmod (fd, 0600) == -1 ||
      bind (fd, (struct sockaddr *) &sun, sizeof sun) == -1) {
    err = errno;
    close (fd);
    return err;
  }
  if (lstat (s->temp, &st) == -1) {
    err = errno;
    close (fd);
    return err;
  }
  s->fd = fd;
  s->dev = st.st_dev;
  s->ino = st.st_ino;
  return 0;
}

/* nbdkit goes to / when it forks, so a relative path is made absolute here. */
static int
bind_explicit (struct control_socket *s, const char *path)
{
  char cwd[SOCKET_PATH_BYTES] = "";
  int err;

  if (path[0] != '/' && getcwd (cwd, sizeof cwd) == NULL && errno != ERANGE)
    return errno;
  if ((path[0] != '/' && cwd[0] == '\0') ||
      !path_fits (s->path, cwd, cwd[0] != '\0' ? "/" : "", path) ||
      !path_fits (s->temp, s->path, TEMP_SUFFIX, "")) {
    log_write (LOG_ERROR,
               "control socket %s: its path is too long (%zu bytes are the "
               "most; give a shorter control=PATH)",
               path, SOCKET_PATH_BYTES - sizeof TEMP_SUFFIX);
    s->path[0] = s->temp[0] = '\0';
    return ENAMETOOLONG;
  }
  err = place_claimable (s->path);
  if (err != 0) {
    s->path[0] = s->temp[0] = '\0';
    return err;
  }
  err = bind_temp (s);
  if (err != 0) {
    log_write (LOG_ERROR,
               "control socket %s: %s (make its directory, or give another "
               "control=PATH)",
               s->path, strerror (err));
    s->path[0] = s->temp[0] = '\0';
  }
  return err;
}

static bool
ends_with (const char *name, const char *suffix)
{
  size_t n = strlen (name), m = strlen (suffix);

  return n > m && strcmp (name + n - m, suffix) == 0;
}

/* Remove sockets of servers that were killed, so that they do not pile up. */
static void
sweep (const char *dir)
{
  DIR *d = opendir (dir);
  struct dirent *e;
  struct stat st;
  char path[SOCKET_PATH_BYTES];

  if (d == NULL)
    return;
  for (int n = 0; n < SWEEP_MAX && (e = readdir (d)) != NULL; n++) {
    if (!ends_with (e->d_name, ".sock") && !ends_with (e->d_name, TEMP_SUFFIX))
      continue;
    if (!path_fits (path, dir, "/", e->d_name) || lstat (path, &st) == -1)
      continue;
    if (st.st_uid != geteuid () || time (NULL) - st.st_mtime < SWEEP_AGE_S)
      continue;
    if (place_probe (path) == PLACE_DEAD)
      unlink (path);
  }
  closedir (d);
}

/* parent/farpage, made if need be. */
static int
bind_default (struct control_socket *s, const char *parent, mode_t mode)
{
  char longest[SOCKET_PATH_BYTES], pid[PID_BYTES];
  int err = 0;

  snprintf (pid, sizeof pid, "/%d", (int) getpid ());
  if (!path_fits (s->dir, parent, "/farpage", "") ||
      !path_fits (longest, s->dir, "/2147483647", ".sock") ||
      !path_fits (s->temp, s->dir, pid, TEMP_SUFFIX))
    err = ENAMETOOLONG;
  else if (mkdir (s->dir, mode) == -1 && errno != EEXIST)
    err = errno;
  else {
    sweep (s->dir);
    err = bind_temp (s);
  }
  if (err != 0)
    s->temp[0] = s->dir[0] = '\0';
  return err;
}

int
control_socket_bind (struct control_socket *s, const char *path)
{
  const char *xdg = getenv ("XDG_RUNTIME_DIR");
  bool has_xdg = xdg != NULL && xdg[0] == '/';
  int err;

  *s = (struct control_socket){ .fd = -1 };
  if (path != NULL)
    return path[0] == '\0' ? 0 : bind_explicit (s, path);
  s->is_default = true;
  if (has_xdg && bind_default (s, xdg, 0700) == 0)
    return 0;
  err = bind_default (s, "/run", 0755);
  if (err != 0)
    log_write (
        LOG_WARNING,
        "no control socket, 'farpage stat' will not find this server: "
        "%s%s/run/farpage: %s (set XDG_RUNTIME_DIR, or " REMEDY_PLACE ")",
        has_xdg ? xdg : "", has_xdg ? "/farpage and " : "", strerror (err));
  return 0;
}

/* Rename temp to path, over a dead server's socket only. */
static int
take_name (struct control_socket *s)
{
  struct stat st;
  int err;

  if (lstat (s->temp, &st) == -1)
    return errno;
  if (st.st_dev != s->dev || st.st_ino != s->ino)
    return EADDRINUSE; /* another start on the same path has overtaken us */
  err = place_claimable (s->path);
  if (err != 0)
    return err;
  if (place_probe (s->path) == PLACE_DEAD)
    unlink (s->path);
  if (renameat2 (AT_FDCWD, s->temp, AT_FDCWD, s->path, RENAME_NOREPLACE) == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS)
    return errno;
  return rename (s->temp, s->path) == 0 ? 0 : errno; /* NFS, old systems */
}

int
control_socket_publish (struct control_socket *s)
{
  char pid[PID_BYTES];
  int err;

  if (s->fd == -1)
    return 0;
  if (s->is_default) {
    snprintf (pid, sizeof pid, "/%d", (int) getpid ());
    path_fits (s->path, s->dir, pid, ".sock"); /* measured by bind_default */
  }
  err = listen (s->fd, BACKLOG) == 0 ? take_name (s) : errno;
  if (err == 0) {
    s->temp[0] = '\0';
    return 0;
  }
  log_write (s->is_default ? LOG_WARNING : LOG_ERROR,
             "no control socket: %s: %s (" REMEDY_PLACE ")", s->path,
             strerror (err));
  s->path[0] = '\0';
  control_socket_unlink (s);
  close (s->fd);
  s->fd = -1;
  return s->is_default ? 0 : err;
}

void
control_socket_unlink (struct control_socket *s)
{
  char *name = s->temp[0] != '\0' ? s->temp : s->path;
  struct stat st;

  if (s->fd == -1 || name[0] == '\0')
    return;
  if (lstat (name, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
    unlink (name);
  s->temp[0] = s->path[0] = '\0';
}
