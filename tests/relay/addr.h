/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses of stream sockets as people write them. */

#ifndef FARPAGE_RELAY_ADDR_H
#define FARPAGE_RELAY_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ADDR_TEXT_MAX 160

struct addr {
  union {
    struct sockaddr any;
    struct sockaddr_storage storage;
    struct sockaddr_un path;
  };
  socklen_t len;
};

/* tcp:HOST:PORT (HOST a number, [::1] in brackets) or unix:PATH.  EINVAL. */
int addr_parse (const char *text, struct addr *a);

/* The same, as text. */
void addr_print (const struct addr *a, char text[ADDR_TEXT_MAX]);

/* A socket that listens there.  A port of 0 becomes the chosen one; a socket
 * file that nobody listens on is replaced.  0 or a positive errno.
 */
int addr_listen (struct addr *a, int *fd);

/* A socket that connects, or has.  0 or a positive errno; never EINPROGRESS. */
int addr_connect (const struct addr *a, int *fd);

/* Small writes leave at once. */
void addr_no_delay (const struct addr *a, int fd);

#endif /* FARPAGE_RELAY_ADDR_H */
