/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses: parse, print, listen, connect.  Called by link.c and the tests.
 *
 * It asks no name server: a relay's ends are on this machine.
 */

#include <config.h>

#include "addr.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#define BACKLOG 4096

static int
parse_port (const char *text, in_port_t *port)
{
  char *end;
  unsigned long n;

  if (*text < '0' || *text > '9')
    return EINVAL;
  n = strtoul (text, &end, 10);
  if (*end != '\0' || n > UINT16_MAX)
    return EINVAL;
  *port = htons ((uint16_t) n);
  return 0;
}

static int
parse_tcp (const char *text, struct addr *a)
{
  struct sockaddr_in *v4 = (struct sockaddr_in *) &a->storage;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &a->storage;
  char host[INET6_ADDRSTRLEN];
  const char *port = strrchr (text, ':');
  size_t len;

  if (port == NULL)
    return EINVAL;
  len = port - text;
  if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
    text++;
    len -= 2;
    a->any.sa_family = AF_INET6;
    a->len = sizeof *v6;
  } else {
    a->any.sa_family = AF_INET;
    a->len = sizeof *v4;
  }
  if (len >= sizeof host)
    return EINVAL;
  memcpy (host, text, len);
  host[len] = '\0';
  if (a->any.sa_family == AF_INET6)
    return inet_pton (AF_INET6, host, &v6->sin6_addr) == 1
               ? parse_port (port + 1, &v6->sin6_port)
               : EINVAL;
  return inet_pton (AF_INET, host, &v4->sin_addr) == 1
             ? parse_port (port + 1, &v4->sin_port)
             : EINVAL;
}

int
addr_parse (const char *text, struct addr *a)
{
  memset (a, 0, sizeof *a);
  if (strncmp (text, "tcp:", 4) == 0)
    return parse_tcp (text + 4, a);
  if (strncmp (text, "unix:", 5) != 0 || text[5] == '\0' ||
      strlen (text + 5) >= sizeof a->path.sun_path)
    return EINVAL;
  a->path.sun_family = AF_UNIX;
  strcpy (a->path.sun_path, text + 5);
  a->len = sizeof a->path;
  return 0;
}

void
addr_print (const struct addr *a, char text[ADDR_TEXT_MAX])
{
  const struct sockaddr_in *v4 = (const struct sockaddr_in *) &a->storage;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) &a->storage;
  char host[INET6_ADDRSTRLEN] = "";

  if (a->any.sa_family == AF_UNIX) {
    snprintf (text, ADDR_TEXT_MAX, "unix:%s", a->path.sun_path);
  } else if (a->any.sa_family == AF_INET6) {
    inet_ntop (AF_INET6, &v6->sin6_addr, host, sizeof host);
    snprintf (text, ADDR_TEXT_MAX, "tcp:[%s]:%u", host, ntohs (v6->sin6_port));
  } else {
    inet_ntop (AF_INET, &v4->sin_addr, host, sizeof host);
    snprintf (text, ADDR_TEXT_MAX, "tcp:%s:%u", host, ntohs (v4->sin_port));
  }
}

static int
open_socket (const struct addr *a, int *fd)
{
  *fd =
      socket (a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return *fd == -1 ? errno : 0;
}

void
addr_no_delay (const struct addr *a, int fd)
{
  const int one = 1;

  if (a->any.sa_family != AF_UNIX)
    setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Nobody listens on this socket file any more. */
static bool
is_left_over (const struct addr *a)
{
  int fd, err;

  if (a->any.sa_family != AF_UNIX || open_socket (a, &fd) != 0)
    return false;
  err = connect (fd, &a->any, a->len) == -1 ? errno : 0;
  close (fd);
  return err == ECONNREFUSED;
}

static bool
has_port_0 (const struct addr *a)
{
  const struct sockaddr_in *v4 = (const struct sockaddr_in *) &a->storage;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) &a->storage;

  return (a->any.sa_family == AF_INET && v4->sin_port == 0) ||
         (a->any.sa_family == AF_INET6 && v6->sin6_port == 0);
}

/* A socket bound there, without listening. */
static int
open_bound (struct addr *a, int *fdp)
{
  const int one = 1;
  int fd, err = open_socket (a, &fd);

  if (err != 0)
    return err;
  if (a->any.sa_family != AF_UNIX)
    setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind (fd, &a->any, a->len) == -1) {
    err = errno;
    close (fd);
    return err;
  }
  if (a->any.sa_family != AF_UNIX)
    getsockname (fd, &a->any, &a->len);
  *fdp = fd;
  return 0;
}

int
addr_listen (struct addr *a, int *fdp)
{
  int chosen = -1, fd, err = 0;

  if (is_left_over (a))
    unlink (a->path.sun_path);
  /* A port that the kernel chose is lost when the socket stops listening, one
   * that was asked for is not: so let it choose, and then ask for that.
   */
  if (has_port_0 (a))
    err = open_bound (a, &chosen);
  if (err == 0)
    err = open_bound (a, &fd);
  if (chosen != -1)
    close (chosen);
  if (err != 0)
    return err;
  if (listen (fd, BACKLOG) == -1) {
    err = errno;
    close (fd);
    return err;
  }
  *fdp = fd;
  return 0;
}

int
addr_connect (const struct addr *a, int *fdp)
{
  int fd, err = open_socket (a, &fd);

  if (err != 0)
    return err;
  if (connect (fd, &a->any, a->len) == -1 && errno != EINPROGRESS) {
    err = errno;
    close (fd);
    return err;
  }
  addr_no_delay (a, fd);
  *fdp = fd;
  return 0;
}
