/* SPDX-License-Identifier: BSD-2-Clause */
/* Leaving a server politely.
 *
 *   leave_take: dup, shutdown (SHUT_WR) ─▶ slot ─ read and forget ─▶ its end
 *
 * Called by the link for connections that it ends with requests under way.  A
 * close would have the server write its answers into nothing, and there are
 * servers that do not bear that: nbdkit 1.32.5 aborts if two threads do so at
 * a time, and takes with it whom else it serves.
 *
 * I1 io[i].fd is -1, or a socket that nobody else has and that is watched.
 *
 * Not done: a time limit; a slot that hangs is taken over by who comes
 * LEAVE_MAX later.
 */

#include <config.h>

#include "leave.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_BYTES 32768u

static void
drop (struct leave *v, ev_io *io)
{
  if (io->fd == -1)
    return;
  ev_io_stop (v->ev, io);
  close (io->fd);
  io->fd = -1;
}

static void
on_io (struct ev_loop *ev, ev_io *io, int revents)
{
  char nowhere[TURN_BYTES];
  ssize_t n = recv (io->fd, nowhere, sizeof nowhere, MSG_DONTWAIT);

  (void) ev;
  (void) revents;
  if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
    drop (io->data, io);
}

void
leave_init (struct leave *v, struct ev_loop *ev)
{
  *v = (struct leave){ .ev = ev };
  for (unsigned i = 0; i < LEAVE_MAX; i++)
    v->io[i].fd = -1;
}

void
leave_take (struct leave *v, int fd)
{
  ev_io *io = &v->io[v->next++ % LEAVE_MAX];
  int own = fcntl (fd, F_DUPFD_CLOEXEC, 0);

  if (own == -1)
    return;
  drop (v, io);
  shutdown (own, SHUT_WR);
  ev_io_init (io, on_io, own, EV_READ);
  io->data = v;
  ev_io_start (v->ev, io);
}

void
leave_end (struct leave *v)
{
  for (unsigned i = 0; i < LEAVE_MAX; i++)
    drop (v, &v->io[i]);
}
