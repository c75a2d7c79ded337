/* SPDX-License-Identifier: BSD-2-Clause */
/* One direction of one connection. */

#ifndef FARPAGE_RELAY_PIPE_H
#define FARPAGE_RELAY_PIPE_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "alarm.h"
#include "queue.h"
#include "rate.h"

struct conn;
struct link;

/* up: from who connected to the target; down: back. */
enum way {
  UP,
  DOWN,
  NR_WAYS,
};

enum cut_how {
  CUT_RESET, /* an abort; TCP sends RST */
  CUT_CLOSE, /* both halves are closed in order */
};

#define CUT_NEVER UINT64_MAX

struct pipe {
  struct conn *conn;
  enum way way;
  ev_io in;  /* EV_READ of the one socket */
  ev_io out; /* EV_WRITE of the other, while that is full */
  struct alarm alarm;
  struct queue queue;
  struct rate own;     /* used where the rate is for each connection */
  int64_t last_due_ns; /* of all that came so far */
  uint64_t in_bytes, out_bytes;
  uint64_t cut_at; /* of out_bytes, or CUT_NEVER */
  enum cut_how cut_how;
  uint64_t jitter_state;
  int64_t frozen_ns; /* since then; 0: it runs */
  bool running;      /* both sockets are connected */
  bool full;         /* the receiver takes no more for now */
  bool in_over;      /* the sender's end was read */
  bool out_over;     /* and passed on */
  bool broken;       /* the receiver is gone */
};

/* from, to: sockets.  Nothing moves before pipe_start (). */
void pipe_open (struct pipe *p, struct conn *conn, enum way way, int from,
                int to);
void pipe_start (struct pipe *p);

/* No byte moves any more; what was in flight is dropped. */
void pipe_stop (struct pipe *p);

/* Bytes in flight stay where they are, and go on from there. */
void pipe_freeze (struct pipe *p, int64_t now);
void pipe_thaw (struct pipe *p, int64_t now);

/* The connection is cut when just so many bytes have gone out since its
 * start, and at once if they have.  EINVAL: more have.
 */
int pipe_cut_at (struct pipe *p, uint64_t bytes, enum cut_how how);

#endif /* FARPAGE_RELAY_PIPE_H */
