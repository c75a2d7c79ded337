/* SPDX-License-Identifier: BSD-2-Clause */
/* The tool's end of the control socket.
 *
 * Called by the commands.  One request at a time; each answer is one line.
 *
 *   --socket, else FARPAGE_SOCKET, else what is found in the default places:
 *   a name counts if somebody listens there (or we may not ask).
 *
 * I1. A server that does not answer costs CLIENT_TIMEOUT_S, not for ever.
 * I2. A line longer than ANSWER_MAX is not read to its end.
 */

#include <config.h>

#include "client.h"

#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "size.h"

#define ANSWER_MAX ((size_t) 64 << 20)
#define CHUNK      ((size_t) 64 << 10)
#define START      "start one with 'nbdkit farpage mem:1G', or give --socket PATH"

/* ---- which server ---- */

/* 0, or errno. */
static int
dial (const char *path, int *fdp)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  struct timeval tv = { .tv_sec = CLIENT_TIMEOUT_S };
  int fd, err;

  if (strlen (path) >= sizeof sun.sun_path)
    return ENAMETOOLONG;
  strcpy (sun.sun_path, path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return errno;
  if (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == -1 ||
      setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == -1 ||
      connect (fd, (struct sockaddr *) &sun, sizeof sun) == -1) {
    err = errno;
    close (fd);
    return err;
  }
  *fdp = fd;
  return 0;
}

static const char *
remedy (int err)
{
  switch (err) {
  case ENOENT:
  case ECONNREFUSED:
    return "no server listens there; " START;
  case EACCES:
  case EPERM:
    return "only root and the user whose server it is may; try sudo";
  case EAGAIN:
    return "it is busy; try again later";
  default:
    return "is it the control socket of a server?";
  }
}

static int
open_path (struct client *c, const char *path)
{
  struct ucred cred;
  socklen_t len = sizeof cred;
  int err = dial (path, &c->fd);

  if (err != 0) {
    complain (path, "%s (%s)", strerror (err), remedy (err));
    return STATUS_NO;
  }
  snprintf (c->path, sizeof c->path, "%s", path);
  if (getsockopt (c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
    c->pid = cred.pid;
  return 0;
}

/* Keep the names somebody may listen on: move them to the front. */
static size_t
keep_live (glob_t *found)
{
  size_t nr = 0;

  for (size_t i = 0; i < found->gl_pathc; i++) {
    char *path = found->gl_pathv[i];
    int fd, err = dial (path, &fd);

    if (err == 0)
      close (fd);
    if (err == ECONNREFUSED || err == ENOENT)
      continue;
    found->gl_pathv[i] = found->gl_pathv[nr];
    found->gl_pathv[nr++] = path;
  }
  return nr;
}

static void
complain_several (char *const *paths, size_t nr)
{
  char text[1024];
  size_t len = 0;

  for (size_t i = 0; i < nr && len < sizeof text; i++)
    len += snprintf (text + len, sizeof text - len, "%s%s", i > 0 ? ", " : "",
                     paths[i]);
  complain ("control socket",
            "%zu servers are running: %s (choose one with "
            "--socket PATH)",
            nr, text);
}

/* Look in parent/farpage. */
static void
find_in (const char *parent, glob_t *found)
{
  char pattern[sizeof ((struct client *) 0)->path];
  int n = snprintf (pattern, sizeof pattern, "%s/farpage/*.sock", parent);

  if (n > 0 && (size_t) n < sizeof pattern) /* longer: no socket could be */
    glob (pattern, found->gl_pathc > 0 ? GLOB_APPEND : 0, NULL, found);
}

static int
open_found (struct client *c)
{
  const char *xdg = getenv ("XDG_RUNTIME_DIR");
  glob_t found = { .gl_pathc = 0 };
  size_t nr;
  int status = STATUS_NO;

  if (xdg == NULL || xdg[0] != '/' || strcmp (xdg, "/run") == 0)
    xdg = NULL;
  else
    find_in (xdg, &found);
  find_in ("/run", &found);
  nr = keep_live (&found);
  if (nr == 1)
    status = open_path (c, found.gl_pathv[0]);
  else if (nr > 1)
    complain_several (found.gl_pathv, nr);
  else
    complain ("control socket",
              "no server found in %s%s/run/farpage (" START ")",
              xdg != NULL ? xdg : "", xdg != NULL ? "/farpage or " : "");
  globfree (&found);
  return status;
}

int
client_open (const struct invocation *inv, struct client *c)
{
  const char *path = inv->value[OPT_SOCKET];

  *c = (struct client){ .fd = -1 };
  if (path == NULL)
    path = getenv ("FARPAGE_SOCKET");
  if (path != NULL && path[0] != '\0')
    return open_path (c, path);
  return open_found (c);
}

void
client_close (struct client *c)
{
  if (c->fd != -1)
    close (c->fd);
  free (c->buf);
  *c = (struct client){ .fd = -1 };
}

/* ---- lines ---- */

static void
complain_io (const struct client *c, int err)
{
  if (err == EAGAIN)
    complain (c->path,
              "no answer within %d s (is the server hung? its log "
              "says more)",
              CLIENT_TIMEOUT_S);
  else if (err == 0)
    complain (c->path, "the server has closed the connection (has it ended? "
                       "its log says more)");
  else
    complain (c->path, "%s (the server's log may say more)", strerror (err));
}

/* false: it is gone; what it said before may still be there to read. */
static bool
send_all (struct client *c, const char *text, size_t n)
{
  while (n > 0) {
    ssize_t done = send (c->fd, text, n, MSG_NOSIGNAL);

    if (done == -1 && errno == EINTR)
      continue;
    if (done == -1)
      return false;
    text += done;
    n -= done;
  }
  return true;
}

/* Read more into buf.  0, or -1 with errno, 0 for the end. */
static int
fill (struct client *c)
{
  ssize_t n;

  if (c->cap - c->len < CHUNK) {
    size_t cap = c->cap * 2 + CHUNK;
    char *buf = cap <= ANSWER_MAX ? realloc (c->buf, cap) : NULL;

    if (buf == NULL) {
      errno = cap <= ANSWER_MAX ? ENOMEM : EMSGSIZE;
      return -1;
    }
    c->buf = buf;
    c->cap = cap;
  }
  do
    n = recv (c->fd, c->buf + c->len, c->cap - c->len, 0);
  while (n == -1 && errno == EINTR);
  if (n == 0)
    errno = 0;
  if (n <= 0)
    return -1;
  c->len += n;
  return 0;
}

/* One line as JSON; NULL: it has complained. */
static json_t *
read_line (struct client *c)
{
  char *start, *end = NULL;
  size_t scanned = 0;
  json_t *json;

  if (c->off > 0) {
    memmove (c->buf, c->buf + c->off, c->len - c->off);
    c->len -= c->off;
    c->off = 0;
  }
  for (;;) {
    start = c->buf;
    if (c->len > scanned)
      end = memchr (start + scanned, '\n', c->len - scanned);
    if (end != NULL)
      break;
    scanned = c->len;
    if (fill (c) == -1) {
      complain_io (c, errno);
      return NULL;
    }
  }
  c->off = end + 1 - start;
  json = json_loadb (start, end - start, 0, NULL);
  if (!json_is_object (json)) {
    complain (c->path, "what it says is no answer (is it the control socket "
                       "of a farpage server?)");
    json_decref (json);
    return NULL;
  }
  return json;
}

json_t *
client_call (struct client *c, json_t *request)
{
  char *text = json_dumps (request, 0);
  json_t *answer;
  const char *error;

  json_decref (request);
  if (text == NULL) {
    complain (NULL, "out of memory");
    return NULL;
  }
  if (send_all (c, text, strlen (text)))
    send_all (c, "\n", 1);
  free (text);
  answer = read_line (c); /* tells if the send has failed, too */
  if (answer == NULL || json_is_true (json_object_get (answer, "ok")))
    return answer;
  error = json_string_value (json_object_get (answer, "error"));
  complain (NULL, "%s", error != NULL ? error : "the server refused");
  json_decref (answer);
  return NULL;
}

json_t *
client_ask (const struct invocation *inv, json_t *request)
{
  struct client c;
  json_t *answer = NULL;

  if (client_open (inv, &c) == 0)
    answer = client_call (&c, request);
  else
    json_decref (request);
  client_close (&c);
  return answer;
}

json_t *
client_next (struct client *c)
{
  struct pollfd p = { .fd = c->fd, .events = POLLIN };

  if (c->off == c->len)
    while (poll (&p, 1, -1) == -1 && errno == EINTR)
      continue;
  return read_line (c);
}

json_t *
client_name (const char *text)
{
  json_t *name = json_string (text);

  if (name == NULL)
    complain (text, "is not UTF-8 (choose another name)");
  return name;
}

int
client_size (const struct invocation *inv, const char *text, json_int_t *bytes)
{
  uint64_t n = 0;
  int err = size_parse (text, &n);

  if (err == EINVAL)
    return complain_usage (inv->command,
                           "'%s' is no size: give bytes, or a number with one "
                           "of K M G T P E",
                           text);
  if (err != 0 || n == 0)
    return complain_usage (inv->command, "'%s': a disk has 1 byte to 1P", text);
  *bytes = (json_int_t) n;
  return 0;
}
