/* SPDX-License-Identifier: BSD-2-Clause */
/* Clients of the control socket: lines in, answers out.
 *
 * Called by control.c and by the loop, in the control thread only; calls
 * request.c for what a line means.
 *
 *   socket → in[] → lines → request_run → out → socket
 *
 *   READING   out is empty; waits for input, or for its turn (again)
 *   WRITING   out has bytes; nothing is read and no line is run
 *   ENDING    as WRITING, and closed when out is taken
 *   STOPPING  has said `stop`: as WRITING, then open and deaf to the end
 *
 * I1. What a client makes us keep is bounded: one line of REQUEST_LINE_MAX,
 *     and answers of BATCH_BYTES with one of REQUEST_ANSWER_MAX on top.
 *     While there is an answer that it does not take, it gets no other; when
 *     it takes longer than write_timeout_s for what is there, it is closed.
 * I2. Answers leave in the order of lines.  An event goes between two
 *     answers, never into one.  Events are not queued: a subscriber who is
 *     slow misses states in between and is told the last.
 * I3. One turn of the loop runs at most BATCH lines of one client, so that
 *     a long pipeline does not keep others, or store_tick, waiting.
 * I4. After `stop` no line of that client is run, and on_stop is called when
 *     its answer is out or the client is gone, whichever is first.
 */

#include <config.h>

#include "control-client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH       16
#define BATCH_BYTES 65536u
#define IN_BYTES    (REQUEST_LINE_MAX + 1) /* a line and its end */

unsigned
client_count (const struct control *c)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
    if (c->clients[i].fd != -1)
      nr++;
  return nr;
}

static void
call_on_stop (struct client *cl)
{
  struct control *c = cl->control;

  if (!cl->stopping || c->stop_called)
    return;
  c->stop_called = true;
  c->on_stop (c->on_stop_arg);
}

void
client_close (struct client *cl)
{
  struct control *c = cl->control;

  ev_io_stop (c->loop, &cl->io);
  ev_timer_stop (c->loop, &cl->expire);
  ev_timer_stop (c->loop, &cl->again);
  close (cl->fd);
  free (cl->in);
  free (cl->out);
  cl->in = cl->out = NULL;
  cl->fd = -1;
  call_on_stop (cl);
}

/* ---- out ---- */

/* Takes text.  false: no memory, and the client is to be closed, since an
 * answer that is left out would shift all that follow.
 */
static bool
out_add (struct client *cl, char *text, size_t bytes)
{
  char *out;

  if (text == NULL)
    return false;
  if (cl->out_len == 0) {
    free (cl->out);
    cl->out = text;
    cl->out_len = bytes;
    cl->out_off = 0;
    return true;
  }
  out = realloc (cl->out, cl->out_len + bytes);
  if (out != NULL) {
    memcpy (out + cl->out_len, text, bytes);
    cl->out = out;
    cl->out_len += bytes;
  }
  free (text);
  return out != NULL;
}

/* Write what the socket takes.  false: the client is gone. */
static bool
out_flush (struct client *cl)
{
  while (cl->out_off < cl->out_len) {
    ssize_t n = send (cl->fd, cl->out + cl->out_off, cl->out_len - cl->out_off,
                      MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return errno == EAGAIN;
    cl->out_off += n;
  }
  free (cl->out);
  cl->out = NULL;
  cl->out_off = cl->out_len = 0;
  return true;
}

/* ---- in ---- */

/* Run one line; false: no memory for its answer. */
static bool
run_line (struct client *cl, const char *line, size_t bytes)
{
  struct request_env env = {
    .store = cl->control->store,
    .armour = cl->control->armour,
    .peer = cl->peer,
    .clients = { "control clients", client_count (cl->control),
                 CONTROL_CLIENTS_MAX },
    .space = atomic_load (&cl->control->space),
  };
  struct request_answer answer;

  request_run (&env, line, bytes, &answer);
  if (answer.stop)
    cl->stopping = true;
  if (answer.subscribe) {
    cl->subscribed = true;
    cl->told = env.space;
  }
  return out_add (cl, answer.text, answer.bytes);
}

static bool
refuse_long_line (struct client *cl)
{
  struct request_answer answer;

  request_refuse (EMSGSIZE,
                  "a line is longer than 64 KiB (the connection "
                  "is closed)",
                  &answer);
  cl->ending = true;
  return out_add (cl, answer.text, answer.bytes);
}

/* Run the next whole line, if there is one.  *more tells.  false: no memory. */
static bool
next_line (struct client *cl, bool *more)
{
  char *start = cl->in + cl->in_off;
  char *end = memchr (cl->in + cl->in_scan, '\n', cl->in_len - cl->in_scan);

  *more = end != NULL;
  if (end != NULL) {
    cl->in_off = cl->in_scan = end + 1 - cl->in;
    return run_line (cl, start, end - start);
  }
  if (cl->in_off > 0) {
    memmove (cl->in, start, cl->in_len - cl->in_off);
    cl->in_len -= cl->in_off;
    cl->in_off = 0;
  }
  cl->in_scan = cl->in_len;
  if (cl->in_len == IN_BYTES)
    return refuse_long_line (cl);
  return true;
}

/* Add a subscriber's event that is due, between two answers. */
static bool
add_event (struct client *cl)
{
  enum space_state state = atomic_load (&cl->control->space);
  char *text;
  int n;

  cl->event_due = false;
  if (cl->told == state)
    return true;
  cl->told = state;
  n = asprintf (&text, "{\"event\": \"space\", \"state\": \"%s\"}\n",
                stat_json_space (state));
  return n > 0 && out_add (cl, text, n);
}

/* ---- turns ---- */

static void
watch (struct client *cl, int events)
{
  struct ev_loop *loop = cl->control->loop;

  if ((cl->io.events & (EV_READ | EV_WRITE)) == events &&
      ev_is_active (&cl->io))
    return;
  ev_io_stop (loop, &cl->io);
  ev_io_set (&cl->io, cl->fd, events);
  if (events != 0)
    ev_io_start (loop, &cl->io);
}

/* Choose what to wait for, after a flush. */
static void
settle (struct client *cl, bool more)
{
  struct ev_loop *loop = cl->control->loop;

  if (cl->out_len > 0) {
    watch (cl, EV_WRITE);
    if (!ev_is_active (&cl->expire)) {
      ev_timer_set (&cl->expire, cl->control->write_timeout_s, 0.);
      ev_timer_start (loop, &cl->expire);
    }
    return;
  }
  ev_timer_stop (loop, &cl->expire);
  if (cl->ending) {
    client_close (cl);
    return;
  }
  if (more && !cl->stopping) {
    watch (cl, 0);
    if (!ev_is_active (&cl->again)) {
      ev_timer_set (&cl->again, 0., 0.);
      ev_timer_start (loop, &cl->again);
    }
    return;
  }
  watch (cl, EV_READ);
  call_on_stop (cl);
}

/* A turn: lines from in[] to out, and out to the socket. */
static void
turn (struct client *cl)
{
  bool more = true, ok = true;

  if (cl->out_len == 0) {
    for (int n = 0; n < BATCH && more && ok; n++) {
      if (cl->ending || cl->stopping || cl->out_len >= BATCH_BYTES)
        break;
      ok = next_line (cl, &more);
    }
    if (ok && cl->event_due)
      ok = add_event (cl);
  }
  if (!ok || !out_flush (cl)) {
    client_close (cl);
    return;
  }
  settle (cl, more);
}

static void
on_readable (struct client *cl)
{
  ssize_t n;

  if (cl->stopping) /* deaf, but it may go away */
    cl->in_off = cl->in_scan = cl->in_len = 0;
  n = recv (cl->fd, cl->in + cl->in_len, IN_BYTES - cl->in_len, MSG_DONTWAIT);
  if (n == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    client_close (cl);
    return;
  }
  cl->in_len += n;
  turn (cl);
}

static void
on_io (struct ev_loop *loop, ev_io *w, int revents)
{
  struct client *cl = w->data;

  (void) loop;
  if (revents & EV_READ)
    on_readable (cl);
  else
    turn (cl);
}

static void
on_again (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  turn (w->data);
}

static void
on_expire (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  client_close (w->data);
}

void
client_event (struct client *cl)
{
  cl->event_due = true;
  if (cl->out_len == 0 && !cl->ending && !cl->stopping)
    turn (cl);
}

void
client_open (struct control *c, int fd, const struct ucred *peer)
{
  struct client *cl = c->clients;

  while (cl->fd != -1)
    cl++;
  *cl = (struct client){ .control = c, .peer = *peer, .fd = fd };
  cl->in = malloc (IN_BYTES);
  if (cl->in == NULL) {
    close (fd);
    cl->fd = -1;
    return;
  }
  ev_io_init (&cl->io, on_io, fd, EV_READ);
  ev_init (&cl->expire, on_expire);
  ev_init (&cl->again, on_again);
  cl->io.data = cl->expire.data = cl->again.data = cl;
  ev_io_start (c->loop, &cl->io);
}
