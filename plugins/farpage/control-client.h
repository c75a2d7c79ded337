/* SPDX-License-Identifier: BSD-2-Clause */
/* Clients of the control socket, and what they share with the loop. */

#ifndef FARPAGE_CONTROL_CLIENT_H
#define FARPAGE_CONTROL_CLIENT_H

#include <ev.h>
#include <stdatomic.h>

#include "control-socket.h"
#include "request.h"

#define CONTROL_CLIENTS_MAX     16u
#define CONTROL_WRITE_TIMEOUT_S 30.0

struct control;

/* A slot for a client; everything in it is the loop's. */
struct client {
  struct control *control;
  struct ucred peer;
  int fd;          /* -1: the slot is free */
  ev_io io;        /* waits for input, or for room while out has bytes */
  ev_timer expire; /* runs while out has bytes */
  ev_timer again;  /* there are more lines in in[] */
  char *in;        /* REQUEST_LINE_MAX + 1 bytes */
  size_t in_off;   /* the next line's place */
  size_t in_scan;  /* no end of line before it */
  size_t in_len;
  char *out; /* answers not yet taken */
  size_t out_off, out_len;
  bool subscribed, event_due;
  enum space_state told; /* what a subscriber was told last */
  bool ending;           /* runs nothing more; closed when out is taken */
  bool stopping;         /* has said `stop`; runs nothing more, stays open */
};

struct control {
  struct control_socket socket;
  struct store *store;         /* [const] after control_start */
  const struct armour *armour; /* [const] after control_start */
  void (*on_stop) (void *arg); /* [const] after control_start */
  void *on_stop_arg;           /* [const] after control_start */
  double write_timeout_s;      /* [const]; tests set it before the start */
  struct task *task;           /* [control_start's thread] NULL: not started */
  struct ev_loop *loop;        /* [const] after control_start */
  ev_io accept;                /* [loop] */
  ev_timer tick;               /* [loop] */
  ev_async wake;               /* sent by any thread */
  atomic_int space;            /* the last state heard of */
  atomic_bool quit;
  bool stop_called;                           /* [loop] */
  struct client clients[CONTROL_CLIENTS_MAX]; /* [loop] */
};

/* Take fd, which is connected, non-blocking, and of somebody who may speak. */
extern void client_open (struct control *c, int fd, const struct ucred *peer);
extern void client_close (struct client *cl);

/* Tell a subscriber that the pool's state is another one. */
extern void client_event (struct client *cl);

extern unsigned client_count (const struct control *c);

#endif /* FARPAGE_CONTROL_CLIENT_H */
