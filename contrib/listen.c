/* SPDX-License-Identifier: BSD-2-Clause */
/* listen: hand a program listening sockets, TCP and Unix at once.
 *
 *   listen ADDRESS PORT SOCKET PROGRAM [ARGUMENT...]
 *
 * nbdkit's own options make it listen on one of the two; with sockets it has
 * inherited it serves all of them.  So contrib/quickstart starts it through
 * this: what systemd does for a .socket unit, and no more.
 *
 *   descriptor 3, 4...: every address that ADDRESS has ("localhost" has two)
 *   the last one:       SOCKET, for its owner only
 *   environment:        LISTEN_FDS, LISTEN_PID
 *
 * Exit status before PROGRAM runs: 2 for a wrong command line, 3 if the port
 * or the socket is in use, 1 for the rest.  A socket file nobody listens on
 * any more is replaced; a file that is no socket is not.
 *
 * A TCP client that has vanished without a word is found by keepalive, with the
 * times of farpage.socket: accepted connections have the options of these.
 *
 * It does not fork, does not wait for a first client, and knows nothing of
 * NBD.  All its descriptors come from bind_one: nothing else may be open at 3
 * or above when it starts, or the program would take that for a socket; so it
 * closes those first.
 */

#include <config.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD    3
#define SOCKETS_MAX 16
#define BACKLOG     128

#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_EACH_S 5
#define KEEPALIVE_PROBES 3

enum {
  EXIT_WRONG = 1,
  EXIT_USAGE = 2,
  EXIT_IN_USE = 3
};

static unsigned nr_sockets;

static _Noreturn void
die (const char *what, const char *detail, int err)
{
  fprintf (stderr, "listen: %s%s%s: %s\n", what,
           *detail != '\0' ? ", port " : "", detail, strerror (err));
  exit (err == EADDRINUSE ? EXIT_IN_USE : EXIT_WRONG);
}

static bool
set (int fd, int level, int name, int value)
{
  return setsockopt (fd, level, name, &value, sizeof value) == 0;
}

static bool
set_tcp (int fd)
{
  return set (fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
         set (fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
         set (fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S) &&
         set (fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EACH_S) &&
         set (fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

/* A listening socket on the next descriptor: 0, or an errno. */
static int
bind_one (const struct sockaddr *sa, socklen_t len)
{
  int fd = socket (sa->sa_family, SOCK_STREAM, 0);
  int err;

  if (fd == -1)
    return errno;
  if (sa->sa_family != AF_UNIX && !set_tcp (fd))
    goto fail;
  /* Else the IPv6 wildcard would take the IPv4 port too. */
  if (sa->sa_family == AF_INET6 && !set (fd, IPPROTO_IPV6, IPV6_V6ONLY, 1))
    goto fail;
  if (bind (fd, sa, len) == -1 || listen (fd, BACKLOG) == -1)
    goto fail;
  nr_sockets++;
  return 0;

fail:
  err = errno;
  close (fd);
  return err;
}

/* /etc/hosts can name an address twice. */
static bool
is_again (const struct addrinfo *list, const struct addrinfo *a)
{
  for (; list != a; list = list->ai_next) {
    if (list->ai_addrlen == a->ai_addrlen &&
        memcmp (list->ai_addr, a->ai_addr, a->ai_addrlen) == 0)
      return true;
  }
  return false;
}

/* Every address of a name.  One this machine does not have (::1 where IPv6 is
 * off) is left out as long as another works.
 */
static void
listen_tcp (const char *address, const char *port)
{
  const struct addrinfo hints = {
    .ai_flags = AI_PASSIVE,
    .ai_family = AF_UNSPEC,
    .ai_socktype = SOCK_STREAM,
  };
  struct addrinfo *list;
  int err = 0, r = getaddrinfo (address, port, &hints, &list);

  if (r != 0) {
    fprintf (stderr, "listen: %s, port %s: %s\n", address, port,
             gai_strerror (r));
    exit (EXIT_WRONG);
  }
  for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
    if (is_again (list, a))
      continue;

    int e = nr_sockets < SOCKETS_MAX ? bind_one (a->ai_addr, a->ai_addrlen)
                                     : EMFILE;

    if (e == EADDRINUSE)
      die (address, port, e);
    if (e != 0)
      err = e;
  }
  freeaddrinfo (list);
  if (nr_sockets == 0)
    die (address, port, err);
}

/* Is someone listening on this socket file? */
static bool
answers (const struct sockaddr_un *sun)
{
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);
  bool yes =
      fd != -1 && connect (fd, (const struct sockaddr *) sun, sizeof *sun) == 0;

  if (fd != -1)
    close (fd);
  return yes;
}

static void
listen_unix (const char *path)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  struct stat st;
  mode_t mask;
  int err;

  if (strlen (path) >= sizeof sun.sun_path)
    die (path, "", ENAMETOOLONG);
  strcpy (sun.sun_path, path);
  if (lstat (path, &st) == 0 && S_ISSOCK (st.st_mode) && !answers (&sun) &&
      unlink (path) == -1)
    die (path, "", errno);
  mask = umask (S_IRWXG | S_IRWXO);
  err = bind_one ((const struct sockaddr *) &sun, sizeof sun);
  umask (mask);
  if (err != 0)
    die (path, "", err);
}

static void
set_number (const char *name, long value)
{
  char number[24];

  snprintf (number, sizeof number, "%ld", value);
  if (setenv (name, number, 1) == -1)
    die (name, "", errno);
}

int
main (int argc, char *argv[])
{
  if (argc < 5) {
    fprintf (stderr, "Usage: listen ADDRESS PORT SOCKET PROGRAM "
                     "[ARGUMENT...]\n");
    return EXIT_USAGE;
  }
  if (close_range (FIRST_FD, ~0U, 0) == -1)
    die ("close_range", "", errno);
  listen_tcp (argv[1], argv[2]);
  listen_unix (argv[3]);
  set_number ("LISTEN_FDS", nr_sockets);
  set_number ("LISTEN_PID", getpid ());
  execvp (argv[4], argv + 4);
  die (argv[4], "", errno);
}
