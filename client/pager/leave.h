/* SPDX-License-Identifier: BSD-2-Clause */
/* Sockets that are given up while their server still works for them. */

#ifndef FARPAGE_LEAVE_H
#define FARPAGE_LEAVE_H

#include <ev.h>

#define LEAVE_MAX 32u

struct leave {
  struct ev_loop *ev;
  ev_io io[LEAVE_MAX]; /* fd -1: none */
  unsigned next;
};

extern void leave_init (struct leave *v, struct ev_loop *ev);
/* The socket behind fd, which the caller closes: no more is sent on it, what
 * still comes is thrown away, and at its end it is closed.  With LEAVE_MAX of
 * them the oldest is closed at once.
 */
extern void leave_take (struct leave *v, int fd);
extern void leave_end (struct leave *v);

#endif /* FARPAGE_LEAVE_H */
