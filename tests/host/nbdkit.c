/* SPDX-License-Identifier: BSD-2-Clause */
/* The part of nbdkit's interface that the plugin calls; see nbdkit.h.
 *
 * Behaves as nbdkit 1.32 where that matters to a plugin: what is per thread,
 * what fails how, what ends the server.  Interned strings live to the end of
 * the process, as there.
 */

#include <config.h>

#include "nbdkit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SAID_BYTES 16384

static __thread struct {
  char export[4200];
  enum host_peer kind;
  unsigned number;
  uint16_t port;
  int error;
} here;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char said[SAID_BYTES]; /* [mutex] lines, the oldest cut away */
static void *interned;        /* [mutex] a chain, so that none is a leak */

/* ---- messages ---- */

void
nbdkit_verror (const char *msg, va_list args)
{
  char line[1024];
  size_t len;

  vsnprintf (line, sizeof line, msg, args);
  if (getenv ("FARPAGE_VERBOSE") != NULL)
    fprintf (stderr, "error: %s\n", line);
  pthread_mutex_lock (&mutex);
  len = strlen (said);
  if (len + strlen (line) + 2 > sizeof said)
    len = 0;
  snprintf (said + len, sizeof said - len, "%s\n", line);
  pthread_mutex_unlock (&mutex);
}

void
nbdkit_error (const char *msg, ...)
{
  va_list args;

  va_start (args, msg);
  nbdkit_verror (msg, args);
  va_end (args);
}

void
nbdkit_debug (const char *msg, ...)
{
  char line[1024];
  va_list args;

  va_start (args, msg);
  vsnprintf (line, sizeof line, msg, args); /* so that arguments are read */
  va_end (args);
}

bool
host_said (const char *words)
{
  bool found;

  pthread_mutex_lock (&mutex);
  found = strstr (said, words) != NULL;
  pthread_mutex_unlock (&mutex);
  return found;
}

void
host_show (void)
{
  pthread_mutex_lock (&mutex);
  fputs (said, stderr);
  pthread_mutex_unlock (&mutex);
}

void
host_forget (void)
{
  pthread_mutex_lock (&mutex);
  said[0] = '\0';
  pthread_mutex_unlock (&mutex);
}

void
nbdkit_set_error (int err)
{
  here.error = err;
}

int
host_take_error (void)
{
  int err = here.error;

  here.error = 0;
  return err;
}

/* ---- the connection ---- */

void
host_connection (const char *export, enum host_peer kind, unsigned number,
                 uint16_t port)
{
  snprintf (here.export, sizeof here.export, "%s", export);
  here.kind = kind;
  here.number = number;
  here.port = port;
}

const char *
nbdkit_export_name (void)
{
  return here.export;
}

static socklen_t
peer_ip6 (struct sockaddr_in6 *in6)
{
  char text[64];

  snprintf (text, sizeof text,
            here.kind == HOST_PEER_IP6 ? "fe80::%u" : "::ffff:10.0.0.%u",
            here.number);
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons (here.port);
  inet_pton (AF_INET6, text, &in6->sin6_addr);
  return sizeof *in6;
}

static socklen_t
peer_address (struct sockaddr_storage *ss)
{
  struct sockaddr_in *in = (struct sockaddr_in *) ss;

  switch (here.kind) {
  case HOST_PEER_IP4:
    in->sin_family = AF_INET;
    in->sin_port = htons (here.port);
    in->sin_addr.s_addr = htonl (0x0a000000 + here.number);
    return sizeof *in;
  case HOST_PEER_IP6:
  case HOST_PEER_MAPPED:
    return peer_ip6 ((struct sockaddr_in6 *) ss);
  case HOST_PEER_UNIX:
  case HOST_PEER_NO_PID:
    ss->ss_family = AF_UNIX;
    return sizeof (sa_family_t);
  default:
    ss->ss_family = AF_VSOCK;
    return sizeof (struct sockaddr);
  }
}

int
nbdkit_peer_name (struct sockaddr *addr, socklen_t *addrlen)
{
  struct sockaddr_storage ss;
  socklen_t len;

  if (here.kind == HOST_PEER_NONE) {
    nbdkit_error ("peer name: no connection");
    return -1;
  }
  memset (&ss, 0, sizeof ss);
  len = peer_address (&ss);
  if (len > *addrlen)
    abort ();
  memcpy (addr, &ss, len);
  *addrlen = len;
  return 0;
}

int64_t
nbdkit_peer_pid (void)
{
  return here.kind == HOST_PEER_UNIX ? (int64_t) here.number : -1;
}

int64_t
nbdkit_peer_uid (void)
{
  return here.kind == HOST_PEER_UNIX ? 1000 : -1;
}

/* ---- parsing ---- */

int
nbdkit_parse_bool (const char *str)
{
  static const char *const words[2][6] = {
    { "0", "false", "f", "no", "n", "off" },
    { "1", "true", "t", "yes", "y", "on" },
  };

  for (int value = 0; value < 2; value++)
    for (int i = 0; i < 6; i++)
      if (strcasecmp (str, words[value][i]) == 0)
        return value;
  nbdkit_error ("could not decipher boolean (%s)", str);
  return -1;
}

int
nbdkit_parse_uint64_t (const char *what, const char *str, uint64_t *r)
{
  char *end;

  errno = 0;
  *r = strtoull (str, &end, 0);
  if (end == str || *end != '\0' || errno != 0 || strchr (str, '-') != NULL) {
    nbdkit_error ("%s: could not parse number: \"%s\"", what, str);
    return -1;
  }
  return 0;
}

char *
nbdkit_absolute_path (const char *path)
{
  char *cwd, *to;

  if (path == NULL || *path == '\0') {
    nbdkit_error ("cannot convert null or empty path to an absolute path");
    return NULL;
  }
  if (*path == '/')
    return strdup (path);
  cwd = get_current_dir_name ();
  if (cwd == NULL || asprintf (&to, "%s/%s", cwd, path) < 0)
    to = NULL;
  free (cwd);
  return to;
}

const char *
nbdkit_strdup_intern (const char *str)
{
  size_t len = strlen (str) + 1;
  struct link {
    void *next;
    char text[];
  } *link = malloc (sizeof *link + len);

  if (link == NULL)
    return NULL;
  memcpy (link->text, str, len);
  pthread_mutex_lock (&mutex);
  link->next = interned;
  interned = link;
  pthread_mutex_unlock (&mutex);
  return link->text;
}

/* ---- extents, exports ---- */

void
host_extents_init (struct nbdkit_extents *x, uint64_t off, uint32_t bytes)
{
  x->next = off;
  x->end = off + bytes;
  x->nr = 0;
  x->max = HOST_EXTENTS_MAX;
}

int
nbdkit_add_extent (struct nbdkit_extents *x, uint64_t offset, uint64_t length,
                   uint32_t type)
{
  if (offset != x->next || length == 0 || offset >= x->end ||
      length > x->end - offset) {
    fprintf (stderr,
             "extent of %" PRIu64 " bytes at %" PRIu64 ": expected at %" PRIu64
             ", and an end not behind %" PRIu64 "\n",
             length, offset, x->next, x->end);
    abort ();
  }
  if (x->nr == x->max) {
    nbdkit_error ("nbdkit_add_extent: out of memory");
    return -1;
  }
  x->next = offset + length;
  x->extent[x->nr++] = (struct host_extent){ offset, length, type };
  return 0;
}

int
nbdkit_add_export (struct nbdkit_exports *x, const char *name,
                   const char *description)
{
  if (x->nr == HOST_EXPORTS_MAX || strlen (name) >= sizeof x->last ||
      description == NULL) {
    nbdkit_error ("nbdkit_add_export: too many exports");
    errno = EINVAL;
    return -1;
  }
  x->nr++;
  strcpy (x->last, name);
  return 0;
}
