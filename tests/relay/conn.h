/* SPDX-License-Identifier: BSD-2-Clause */
/* One connection: two sockets, and a pipe each way. */

#ifndef FARPAGE_RELAY_CONN_H
#define FARPAGE_RELAY_CONN_H

#include "pipe.h"

enum conn_state {
  CONN_CONNECTING, /* to the target */
  CONN_OPEN,
  CONN_RESETTING, /* a reset waits until what was sent has arrived */
  CONN_CLOSING,   /* both halves closed, the rest is read and dropped */
  CONN_OVER,      /* no sockets, about to be freed */
};

struct conn {
  struct conn *next, *prev; /* [link] or, when over, in the relay's list */
  struct link *link;
  uint64_t id; /* from 1 in its link */
  enum conn_state state;
  int fd[NR_WAYS]; /* whom UP and DOWN read from */
  ev_io connecting;
  ev_io drain[NR_WAYS];
  struct alarm alarm; /* of a state that waits */
  int64_t give_up_ns;
  struct pipe pipe[NR_WAYS];
};

/* Takes over fd, which was accepted.  Blocks: never. */
int conn_open (struct link *link, int fd);

/* At once; bytes in flight are dropped.  The struct stays for this turn. */
void conn_cut (struct conn *c, enum cut_how how);

/* The same, but what was handed to the receivers' sockets gets there. */
void conn_cut_exactly (struct conn *c, enum cut_how how);

/* A pipe has come to its end. */
void conn_pipe_over (struct conn *c);

/* Frees it, sockets and all.  Not from within a callback of its own. */
void conn_free (struct conn *c);

#endif /* FARPAGE_RELAY_CONN_H */
