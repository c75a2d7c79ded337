/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection through the relay: who connected, the target, a pipe each way.
 *
 * Called by link.c, script.c and pipe.c; calls pipe.c.
 *
 *            fd[UP] ┌──────── pipe[UP] ────────▶┐ fd[DOWN]
 *   client ◀──────▶ │                           │ ◀──────▶ target
 *                   └◀─────── pipe[DOWN] ───────┘
 *
 *   CONNECTING ─▶ OPEN ─▶ OVER          [both ends passed on, or a reset]
 *        │         ├────▶ RESETTING ─▶ OVER   [cut at a byte]
 *        │         └────▶ CLOSING ───▶ OVER   [cut in order]
 *        ├──────────────▶ CLOSING            [cut in order before]
 *        └──────────────▶ OVER                [no target, or a reset]
 *
 * A reset is a close with SO_LINGER 0: over TCP an RST.  It takes back what the
 * receiver's machine has not acknowledged, so a cut at a byte waits for that
 * first.  Over a Unix socket there is no RST: the peer reads the end, or
 * ECONNRESET if we had not read all it wrote.
 *
 * I1  Sockets and watchers are there unless the state is OVER.
 * I2  A connection that is OVER is freed at the end of the turn, never inside
 *     a callback: callers may look at its state after any call.
 */

#include <config.h>

#include "conn.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "link.h"

#define WAIT_STEP_NS (NS_PER_S / 1000)
#define WAIT_NS      (2 * NS_PER_S)

static void
over (struct conn *c)
{
  struct link *link = c->link;
  struct relay *r = link->relay;

  if (c->state == CONN_OVER)
    return;
  for (enum way w = UP; w < NR_WAYS; w++) {
    pipe_stop (&c->pipe[w]);
    ev_io_stop (r->loop, &c->drain[w]);
  }
  ev_io_stop (r->loop, &c->connecting);
  alarm_clear (&r->alarms, &c->alarm);
  for (enum way w = UP; w < NR_WAYS; w++)
    if (c->fd[w] != -1)
      close (c->fd[w]);
  c->state = CONN_OVER;
  if (c->prev != NULL)
    c->prev->next = c->next;
  else
    link->conns = c->next;
  if (c->next != NULL)
    c->next->prev = c->prev;
  link->nr_conns--;
  r->nr_conns--;
  c->next = r->over;
  r->over = c;
}

static void
reset (struct conn *c)
{
  const struct linger now = { .l_onoff = 1 };

  for (enum way w = UP; w < NR_WAYS; w++)
    if (c->fd[w] != -1)
      setsockopt (c->fd[w], SOL_SOCKET, SO_LINGER, &now, sizeof now);
  over (c);
}

/* Bytes that a peer's machine has not acknowledged. */
static bool
has_unsent (int fd, const struct addr *a)
{
  int bytes = 0;

  return a->any.sa_family != AF_UNIX && ioctl (fd, SIOCOUTQ, &bytes) == 0 &&
         bytes > 0;
}

static void
on_drain (struct ev_loop *loop, ev_io *w, int revents)
{
  struct conn *c = w->data;
  char bytes[4096];
  ssize_t n = recv (w->fd, bytes, sizeof bytes, MSG_DONTWAIT);

  (void) revents;
  if (n > 0 || (n == -1 && (errno == EAGAIN || errno == EINTR)))
    return;
  ev_io_stop (loop, w);
  if (!ev_is_active (&c->drain[UP]) && !ev_is_active (&c->drain[DOWN]))
    over (c);
}

/* Close both halves in order: what peers still send is read and dropped, or
 * it would turn the close into a reset.  A target may have taken a connection
 * of which we don't know yet.
 */
static void
close_in_order (struct conn *c)
{
  struct relay *r = c->link->relay;

  c->state = CONN_CLOSING;
  ev_io_stop (r->loop, &c->connecting);
  alarm_clear (&r->alarms, &c->alarm);
  for (enum way w = UP; w < NR_WAYS; w++) {
    pipe_stop (&c->pipe[w]);
    if (c->fd[w] == -1)
      continue;
    shutdown (c->fd[w], SHUT_WR);
    ev_io_init (&c->drain[w], on_drain, c->fd[w], EV_READ);
    c->drain[w].data = c;
    ev_io_start (r->loop, &c->drain[w]);
  }
}

void
conn_cut (struct conn *c, enum cut_how how)
{
  if (how == CUT_RESET)
    reset (c);
  else if (c->state == CONN_OPEN || c->state == CONN_CONNECTING)
    close_in_order (c);
}

void
conn_cut_exactly (struct conn *c, enum cut_how how)
{
  if (how == CUT_CLOSE || c->state != CONN_OPEN) {
    conn_cut (c, how);
    return;
  }
  for (enum way w = UP; w < NR_WAYS; w++)
    pipe_stop (&c->pipe[w]);
  c->state = CONN_RESETTING;
  c->give_up_ns = now_ns () + WAIT_NS;
  c->alarm.ring (&c->alarm, now_ns ());
}

void
conn_pipe_over (struct conn *c)
{
  if (c->state == CONN_OPEN && c->pipe[UP].out_over && c->pipe[DOWN].out_over)
    over (c);
}

static void
connected (struct conn *c)
{
  c->state = CONN_OPEN;
  for (enum way w = UP; w < NR_WAYS; w++)
    pipe_open (&c->pipe[w], c, w, c->fd[w], c->fd[w == UP ? DOWN : UP]);
  for (enum way w = UP; w < NR_WAYS && c->state == CONN_OPEN; w++) {
    pipe_start (&c->pipe[w]);
    if (c->pipe[w].cut_at == 0)
      conn_cut_exactly (c, c->pipe[w].cut_how);
  }
}

static void
no_target (struct conn *c)
{
  c->link->nr_failed++;
  reset (c);
}

static void
on_connecting (struct ev_loop *loop, ev_io *w, int revents)
{
  struct conn *c = w->data;
  socklen_t len = sizeof (int);
  int err = 0;

  (void) revents;
  ev_io_stop (loop, w);
  getsockopt (w->fd, SOL_SOCKET, SO_ERROR, &err, &len);
  if (err != 0)
    no_target (c);
  else
    connected (c);
}

static void
connect_target (struct conn *c)
{
  struct relay *r = c->link->relay;
  int64_t now = now_ns ();
  int err = addr_connect (&c->link->target, &c->fd[DOWN]);

  if (err == EAGAIN && now < c->give_up_ns) {
    /* More connect to that Unix socket than its backlog takes. */
    alarm_set (&r->alarms, &c->alarm, now + WAIT_STEP_NS);
    return;
  }
  if (err != 0) {
    no_target (c);
    return;
  }
  ev_io_init (&c->connecting, on_connecting, c->fd[DOWN], EV_WRITE);
  c->connecting.data = c;
  ev_io_start (r->loop, &c->connecting);
}

/* What the state waits for may be there. */
static void
on_alarm (struct alarm *alarm, int64_t now)
{
  struct conn *c =
      (struct conn *) ((char *) alarm - offsetof (struct conn, alarm));

  if (c->state == CONN_CONNECTING)
    connect_target (c);
  else if (now >= c->give_up_ns ||
           (!has_unsent (c->fd[UP], &c->link->at) &&
            !has_unsent (c->fd[DOWN], &c->link->target)))
    reset (c);
  else
    alarm_set (&c->link->relay->alarms, alarm, now + WAIT_STEP_NS);
}

int
conn_open (struct link *link, int fd)
{
  struct conn *c = calloc (1, sizeof *c);

  /* One alarm of its own, one each way. */
  if (c == NULL || alarms_reserve (&link->relay->alarms,
                                   3 * (link->relay->nr_conns + 1)) != 0) {
    free (c);
    close (fd);
    return ENOMEM;
  }
  c->link = link;
  c->id = ++link->nr_accepted;
  c->fd[UP] = fd;
  c->fd[DOWN] = -1;
  c->alarm.ring = on_alarm;
  c->give_up_ns = now_ns () + WAIT_NS;
  for (enum way w = UP; w < NR_WAYS; w++)
    c->pipe[w].conn = c;
  c->next = link->conns;
  if (c->next != NULL)
    c->next->prev = c;
  link->conns = c;
  link->nr_conns++;
  link->relay->nr_conns++;
  connect_target (c);
  return 0;
}

void
conn_free (struct conn *c)
{
  free (c);
}
