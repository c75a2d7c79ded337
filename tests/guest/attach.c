/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach: an export as /dev/nbdINDEX, by netlink, that comes back when the
 * server does.
 *
 *   attach ADDRESS PORT EXPORT INDEX SECONDS
 *
 * nbd-client 3.24 cannot do that: by netlink it connects once.  Here the kernel
 * holds requests for up to SECONDS when the connection is lost
 * (NBD_ATTR_DEAD_CONN_TIMEOUT) and is given a new socket
 * (NBD_CMD_RECONFIGURE) as soon as there is one; requests that were under way
 * are sent again.  One connection and no timeout: the kernel never sends a
 * request twice that the same server may have seen.
 *
 * Prints "attached" once the device is there, "again" for each new connection,
 * and runs until it is killed; the device stays.  No threads.
 *
 * Exit: 2 usage or a failed call, before the device is there.
 */
#include <config.h>

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  BLOCK_BYTES = 4096,
  RETRY_US = 100000,
  MESSAGE_MAX = 512
};

#define OPTION_MAGIC       UINT64_C (0x49484156454f5054)
#define OPTION_EXPORT_NAME 1
#define CLIENT_FLAGS       3 /* fixed newstyle, no zeroes */

struct export
{
  const char *address, *name;
  uint16_t port;
  uint32_t index;
  uint64_t dead_seconds;
  uint64_t bytes, flags; /* from the server */
};

/* A message with attributes, as it grows. */
struct message {
  union {
    struct nlmsghdr head;
    char bytes[MESSAGE_MAX];
  };
};

static void
die (const char *what)
{
  fprintf (stderr, "attach: %s: %s\n", what, strerror (errno));
  exit (2);
}

/* ---- the server ---- */

static int
write_all (int fd, const void *data, size_t bytes)
{
  return send (fd, data, bytes, MSG_NOSIGNAL) == (ssize_t) bytes ? 0 : -1;
}

static int
read_all (int fd, void *data, size_t bytes)
{
  return recv (fd, data, bytes, MSG_WAITALL) == (ssize_t) bytes ? 0 : -1;
}

static int
ask_for (int fd, struct export *e)
{
  struct __attribute__ ((packed)) {
    uint64_t magic, option;
    uint16_t flags;
  } hello;
  struct __attribute__ ((packed)) {
    uint32_t flags;
    uint64_t magic;
    uint32_t option, bytes;
  } ask = { htobe32 (CLIENT_FLAGS), htobe64 (OPTION_MAGIC),
            htobe32 (OPTION_EXPORT_NAME),
            htobe32 ((uint32_t) strlen (e->name)) };
  struct __attribute__ ((packed)) {
    uint64_t bytes;
    uint16_t flags;
  } answer;

  if (read_all (fd, &hello, sizeof hello) < 0 ||
      hello.option != htobe64 (OPTION_MAGIC) ||
      write_all (fd, &ask, sizeof ask) < 0 ||
      write_all (fd, e->name, strlen (e->name)) < 0 ||
      read_all (fd, &answer, sizeof answer) < 0)
    return -1;
  e->bytes = be64toh (answer.bytes);
  e->flags = be16toh (answer.flags);
  return 0;
}

/* A socket on which the server waits for requests, or -1. */
static int
dial (struct export *e)
{
  struct sockaddr_in to = { .sin_family = AF_INET,
                            .sin_port = htons (e->port) };
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

  if (fd >= 0 && inet_pton (AF_INET, e->address, &to.sin_addr) == 1 &&
      setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 &&
      connect (fd, (struct sockaddr *) &to, sizeof to) == 0 &&
      ask_for (fd, e) == 0)
    return fd;
  if (fd >= 0)
    close (fd);
  return -1;
}

/* ---- the kernel ---- */

static void
begin (struct message *m, uint16_t family, uint8_t command)
{
  struct genlmsghdr g = { .cmd = command, .version = 1 };

  memset (m, 0, sizeof *m);
  m->head.nlmsg_type = family;
  m->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  memcpy (m->bytes + NLMSG_HDRLEN, &g, sizeof g);
  m->head.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
}

/* Returns where it is; messages here are far below MESSAGE_MAX. */
static size_t
put (struct message *m, uint16_t type, const void *data, size_t bytes)
{
  size_t at = m->head.nlmsg_len;
  struct nlattr a = { .nla_len = (uint16_t) (NLA_HDRLEN + bytes),
                      .nla_type = type };

  memcpy (m->bytes + at, &a, sizeof a);
  if (bytes > 0)
    memcpy (m->bytes + at + NLA_HDRLEN, data, bytes);
  m->head.nlmsg_len += (uint32_t) NLA_ALIGN (a.nla_len);
  return at;
}

/* What was put since AT is inside it. */
static void
nest (struct message *m, size_t at)
{
  uint16_t bytes = (uint16_t) (m->head.nlmsg_len - at);

  memcpy (m->bytes + at, &bytes, sizeof bytes);
}

static void
put_socket (struct message *m, int fd)
{
  uint32_t number = (uint32_t) fd;
  size_t list = put (m, NBD_ATTR_SOCKETS | NLA_F_NESTED, NULL, 0);
  size_t item = put (m, NBD_SOCK_ITEM | NLA_F_NESTED, NULL, 0);

  put (m, NBD_SOCK_FD, &number, sizeof number);
  nest (m, item);
  nest (m, list);
}

/* Send it; the answer is in M, up to the acknowledgement.  0, or -1 and errno.
 */
static int
talk (int netlink, struct message *m)
{
  struct nlmsgerr e;
  struct message first;
  bool have_first = false;

  if (send (netlink, m, m->head.nlmsg_len, 0) < 0)
    return -1;
  for (;;) {
    if (recv (netlink, m, sizeof *m, 0) < NLMSG_HDRLEN)
      return -1;
    if (m->head.nlmsg_type == NLMSG_ERROR)
      break;
    first = *m;
    have_first = true;
  }
  memcpy (&e, NLMSG_DATA (&m->head), sizeof e);
  if (have_first)
    *m = first;
  errno = -e.error;
  return e.error == 0 ? 0 : -1;
}

static uint16_t
find_family (int netlink)
{
  struct message m;
  size_t at = NLMSG_HDRLEN + GENL_HDRLEN;

  begin (&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
  put (&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME,
       sizeof NBD_GENL_FAMILY_NAME);
  if (talk (netlink, &m) < 0)
    die ("no netlink family of nbd");
  while (at + NLA_HDRLEN <= m.head.nlmsg_len && at < sizeof m) {
    struct nlattr a;
    uint16_t id;

    memcpy (&a, m.bytes + at, sizeof a);
    memcpy (&id, m.bytes + at + NLA_HDRLEN, sizeof id);
    if (a.nla_type == CTRL_ATTR_FAMILY_ID)
      return id;
    at += NLA_ALIGN (a.nla_len > 0 ? a.nla_len : NLA_HDRLEN);
  }
  errno = ENOENT;
  die ("no netlink family of nbd");
  return 0;
}

static int
make_device (int netlink, uint16_t family, const struct export *e, int fd)
{
  struct message m;
  uint64_t block = BLOCK_BYTES;

  begin (&m, family, NBD_CMD_CONNECT);
  put (&m, NBD_ATTR_INDEX, &e->index, sizeof e->index);
  put (&m, NBD_ATTR_SIZE_BYTES, &e->bytes, sizeof e->bytes);
  put (&m, NBD_ATTR_BLOCK_SIZE_BYTES, &block, sizeof block);
  put (&m, NBD_ATTR_SERVER_FLAGS, &e->flags, sizeof e->flags);
  put (&m, NBD_ATTR_DEAD_CONN_TIMEOUT, &e->dead_seconds,
       sizeof e->dead_seconds);
  put_socket (&m, fd);
  return talk (netlink, &m);
}

/* Fails as long as the kernel has not seen that its socket is dead. */
static int
give_socket (int netlink, uint16_t family, const struct export *e, int fd)
{
  struct message m;

  begin (&m, family, NBD_CMD_RECONFIGURE);
  put (&m, NBD_ATTR_INDEX, &e->index, sizeof e->index);
  put_socket (&m, fd);
  return talk (netlink, &m);
}

static void
wait_for_end (int fd)
{
  struct pollfd p = { .fd = fd, .events = POLLRDHUP };

  while (poll (&p, 1, -1) < 1)
    ;
}

static int
come_back (int netlink, uint16_t family, struct export *e)
{
  int fd;

  while ((fd = dial (e)) < 0)
    usleep (RETRY_US);
  while (give_socket (netlink, family, e, fd) < 0)
    usleep (RETRY_US);
  return fd;
}

int
main (int argc, char *argv[])
{
  struct export e;
  uint16_t family;
  int netlink, fd;

  if (argc != 6) {
    fprintf (stderr, "usage: attach ADDRESS PORT EXPORT INDEX SECONDS\n");
    return 2;
  }
  e = (struct export){ .address = argv[1],
                       .name = argv[3],
                       .port = (uint16_t) atoi (argv[2]),
                       .index = (uint32_t) atoi (argv[4]),
                       .dead_seconds = (uint64_t) atoi (argv[5]) };
  netlink = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (netlink < 0)
    die ("netlink");
  family = find_family (netlink);
  fd = dial (&e);
  if (fd < 0)
    die ("cannot open the export");
  if (make_device (netlink, family, &e, fd) < 0)
    die ("the kernel does not take it");
  printf ("attached\n");
  for (;;) {
    fflush (stdout);
    wait_for_end (fd);
    close (fd);
    fd = come_back (netlink, family, &e);
    printf ("again\n");
  }
}
