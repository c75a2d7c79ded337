/* SPDX-License-Identifier: BSD-2-Clause */
/* The control thread: a libev loop that listens, ticks and hands on events.
 *
 * Called by plugin.c (bind, start, stop) and by whichever thread of the store
 * notices a change of the pool's state (on_space); calls control-socket.c for
 * the socket's names and control-client.c for each client.
 *
 *   plugin ── bind ── fork ── start ══ thread: ev_run ══ quit ── stop
 *                                        ├ accept: uid checked, at most 16
 *                                        ├ tick: store_tick, each second
 *                                        └ wake: quit, or news for clients
 *
 * I1. The loop and all watchers are made after the fork and touched by the
 *     control thread alone; others set an atomic and call ev_async_send.
 * I2. The thread is a task: its stack is small, and it has all signals blocked,
 *     for they are nbdkit's.
 * I3. No lock of ours is held when the store is called.  A slow client costs
 *     a slot, never time.
 *
 * It does not authenticate beyond the peer's uid, and knows no nbdkit.
 */

#include <config.h>

#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control-client.h"
#include "log.h"
#include "task.h"

#define TICK_S     1.0
#define ACCEPT_MAX 16 /* a turn */

#define SPACE_UNKNOWN (-1) /* not heard of yet */

int
control_bind (const char *path, struct control **cp)
{
  struct control *c = calloc (1, sizeof *c);
  int err;

  if (c == NULL)
    return ENOMEM;
  c->write_timeout_s = CONTROL_WRITE_TIMEOUT_S;
  for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
    c->clients[i].fd = -1;
  atomic_init (&c->space, SPACE_UNKNOWN);
  err = control_socket_bind (&c->socket, path);
  if (err != 0) {
    free (c);
    return err;
  }
  *cp = c;
  return 0;
}

const char *
control_path (const struct control *c)
{
  return c->socket.fd != -1 && c->socket.path[0] != '\0' ? c->socket.path
                                                         : NULL;
}

/* ---- in the thread ---- */

/* Root and the user we run as may speak. */
static bool
peer_ok (int fd, struct ucred *peer)
{
  socklen_t len = sizeof *peer;

  return getsockopt (fd, SOL_SOCKET, SO_PEERCRED, peer, &len) == 0 &&
         (peer->uid == 0 || peer->uid == geteuid ());
}

static void
refuse_client (int fd)
{
  struct request_answer answer;

  request_refuse (EBUSY, "16 clients are connected already (try again later)",
                  &answer);
  if (answer.text != NULL &&
      send (fd, answer.text, answer.bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
    log_write (LOG_DEBUG, "control socket: a client too many has gone");
  free (answer.text);
}

static struct log_limit accept_limit;

static void
on_accept (struct ev_loop *loop, ev_io *w, int revents)
{
  struct control *c = w->data;
  struct ucred peer;

  (void) revents;
  for (int n = 0; n < ACCEPT_MAX; n++) {
    int fd = accept4 (w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd == -1) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return;
      log_limited (&accept_limit, LOG_WARNING,
                   "control socket: cannot take a client: %s (if descriptors "
                   "are out, raise 'ulimit -n')",
                   strerror (errno));
      ev_io_stop (loop, w); /* it stays readable: rest until the next tick */
      return;
    }
    if (!peer_ok (fd, &peer))
      close (fd);
    else if (client_count (c) == CONTROL_CLIENTS_MAX) {
      refuse_client (fd);
      close (fd);
    } else
      client_open (c, fd, &peer);
  }
}

static void
on_tick (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct control *c = w->data;

  (void) revents;
  store_tick (c->store);
  if (c->socket.fd != -1)
    ev_io_start (loop, &c->accept);
}

static void
on_wake (struct ev_loop *loop, ev_async *w, int revents)
{
  struct control *c = w->data;

  (void) revents;
  if (atomic_load (&c->quit)) {
    ev_break (loop, EVBREAK_ALL);
    return;
  }
  for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
    if (c->clients[i].fd != -1 && c->clients[i].subscribed)
      client_event (&c->clients[i]);
}

/* Called by any thread of the store. */
static void
on_space (void *arg, enum space_state state)
{
  struct control *c = arg;

  atomic_store (&c->space, state);
  ev_async_send (c->loop, &c->wake);
}

static void
control_main (void *arg)
{
  struct control *c = arg;

  ev_run (c->loop, 0);
  for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
    c->clients[i].stopping = false; /* the end has come: nobody is asked */
    if (c->clients[i].fd != -1)
      client_close (&c->clients[i]);
  }
}

/* ---- start and stop ---- */

static void
init_watchers (struct control *c)
{
  ev_io_init (&c->accept, on_accept, c->socket.fd, EV_READ);
  ev_timer_init (&c->tick, on_tick, TICK_S, TICK_S);
  ev_async_init (&c->wake, on_wake);
  c->accept.data = c->tick.data = c->wake.data = c;
  if (c->socket.fd != -1)
    ev_io_start (c->loop, &c->accept);
  ev_timer_start (c->loop, &c->tick);
  ev_async_start (c->loop, &c->wake);
}

int
control_start (struct control *c, struct store *s, const struct armour *armour,
               void (*on_stop) (void *), void *arg)
{
  struct store_stat st;
  int unknown = SPACE_UNKNOWN;
  int err;

  c->store = s;
  c->armour = armour;
  c->on_stop = on_stop;
  c->on_stop_arg = arg;
  err = control_socket_publish (&c->socket);
  if (err != 0)
    return err;
  c->loop = ev_loop_new (EVFLAG_AUTO | EVFLAG_NOENV);
  if (c->loop == NULL)
    return ENOMEM;
  init_watchers (c);
  store_on_space (s, on_space, c);
  store_stat (s, &st);
  atomic_compare_exchange_strong (&c->space, &unknown, st.space);
  err = task_start ("control", control_main, c, &c->task);
  if (err != 0) {
    store_on_space (s, NULL, NULL);
    ev_loop_destroy (c->loop);
    c->loop = NULL;
    return err;
  }
  return 0;
}

void
control_stop (struct control *c)
{
  if (c == NULL)
    return;
  control_socket_unlink (&c->socket);
  if (c->task != NULL) {
    if (task_is_me (c->task))
      return;
    store_on_space (c->store, NULL, NULL);
    atomic_store (&c->quit, true);
    ev_async_send (c->loop, &c->wake);
    task_join (c->task);
    ev_loop_destroy (c->loop);
  }
  if (c->socket.fd != -1)
    close (c->socket.fd);
  free (c);
}
