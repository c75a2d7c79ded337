/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections to an export that are given to the kernel: negotiated here, with
 * what its nbd driver understands (simple replies, no TLS).
 *
 * Our server tells an instance: then each set of connections is a generation of
 * a session, which fences those before it off, and opens that instance or
 * nothing.  Other servers have names alone.
 */

#ifndef FARPAGE_EXPORT_H
#define FARPAGE_EXPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define EXPORT_HEX       32u
#define EXPORT_TEXT_MAX  4200u
#define EXPORT_CONNS_MAX 16u

struct export
{
  char name[EXPORT_TEXT_MAX];    /* without a suffix */
  char instance[EXPORT_HEX + 1]; /* "": the server tells none */
  char session[EXPORT_HEX + 1];
  uint64_t generation;
  uint64_t linger_seconds; /* of our server; 0: it is kept for good */
  bool is_volatile;        /* nothing outlives the server */
  uint64_t size_bytes;
  uint64_t flags; /* NBD_FLAG_*, of the last connection */
  struct sockaddr_storage peer;
  socklen_t peer_bytes;
  char why[1024]; /* what the last failure was */
};

/* What the server says of the export; no connection is left.  0, or an errno
 * and e->why.  Blocks: up to wait_ms, and while a name is looked up.
 */
extern int export_look (struct export *e, const char *uri, unsigned wait_ms);

/* A new generation of nr connections, at the address of export_look ().
 * user_timeout_ms: a TCP connection whose data is not acknowledged for so long
 * is dead, and where nothing is to be acknowledged it is asked each second; 0:
 * as the system has it.  0: fds are the caller's.  ENOENT: the server is there
 * and does not have this instance.  Blocks: up to wait_ms each.
 */
extern int export_dial (struct export *e, unsigned nr, unsigned wait_ms,
                        unsigned user_timeout_ms, int *fds);

#endif /* FARPAGE_EXPORT_H */
