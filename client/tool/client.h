/* SPDX-License-Identifier: BSD-2-Clause */
/* The tool's end of the control socket.  All of it blocks, and complains. */

#ifndef FARPAGE_CLIENT_H
#define FARPAGE_CLIENT_H

#include <sys/types.h>
#include <sys/un.h>

#include "tool.h"

#define CLIENT_TIMEOUT_S 30

struct client {
  int fd;
  pid_t pid; /* of the server; 0: cannot be seen from here */
  char path[sizeof ((struct sockaddr_un *) 0)->sun_path];
  char *buf; /* what was read and not used: off … len */
  size_t off, len, cap;
};

/* Connect to the server that inv means.  0, or the exit status. */
extern int client_open (const struct invocation *inv, struct client *c);
extern void client_close (struct client *c);

/* Send request (taken) and return the answer; NULL: no answer, or a refusal. */
extern json_t *client_call (struct client *c, json_t *request);

/* Open, call, close: for commands that ask once.  NULL as client_call. */
extern json_t *client_ask (const struct invocation *inv, json_t *request);

/* The next line, in its own time (an event).  NULL: the server has gone. */
extern json_t *client_next (struct client *c);

/* A JSON string, or NULL: text is no UTF-8 (it complains). */
extern json_t *client_name (const char *text);

/* The size of a disk.  0, or the exit status: it is none (it complains). */
extern int client_size (const struct invocation *inv, const char *text,
                        json_int_t *bytes);

#endif /* FARPAGE_CLIENT_H */
