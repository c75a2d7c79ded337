/* SPDX-License-Identifier: BSD-2-Clause */
/* Links: who listens, and the times at which bytes get through.
 *
 * Called by script.c and pipe.c; calls conn.c.
 *
 * A byte's way through the link, as on a wire behind a router without limits:
 *
 *   read at t ─▶ the rate's clock: [free or t, + bytes / rate] ─▶ + delay
 *                one for all connections of a direction,          + jitter
 *                or one for each; first come, first served
 *
 * The clock is in front of the delay, so what has gone over the wire is under
 * way while the next goes over it.  A larger delay than the one before makes a
 * gap, a smaller one makes bytes catch up with, never overtake, what is ahead.
 *
 * Frozen: no byte moves and nobody is accepted; who connects meanwhile waits
 * in the backlog.  On thawing all goes on as if that time had not been: bytes
 * in flight keep their distances.
 *
 * Refusing: the listening socket is shut, so that connecting fails with
 * ECONNREFUSED; over TCP it stays bound, so that nobody takes the port.
 */

#include <config.h>

#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../crash/rng.h"

#define ACCEPTS_PER_TURN 16
#define REST_S           0.05

static void
on_accepting (struct ev_loop *loop, ev_io *w, int revents)
{
  struct link *link = w->data;

  (void) revents;
  for (unsigned n = 0; n < ACCEPTS_PER_TURN; n++) {
    int fd = accept4 (w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd == -1 && (errno == EAGAIN || errno == ECONNABORTED))
      return;
    if (fd == -1) {
      ev_io_stop (loop, w);
      ev_timer_set (&link->rest, REST_S, 0.);
      ev_timer_start (loop, &link->rest);
      return;
    }
    addr_no_delay (&link->at, fd);
    conn_open (link, fd);
  }
}

static bool
is_frozen (const struct link *link)
{
  return link->travel[UP].frozen_ns != 0 || link->travel[DOWN].frozen_ns != 0;
}

static void
accept_again (struct link *link)
{
  if (!link->refusing && !is_frozen (link))
    ev_io_start (link->relay->loop, &link->accepting);
}

static void
on_rest (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  accept_again (w->data);
}

static void
stop_accepting (struct link *link)
{
  ev_io_stop (link->relay->loop, &link->accepting);
  ev_timer_stop (link->relay->loop, &link->rest);
}

static void
watch (struct link *link, int fd)
{
  link->fd = fd;
  ev_io_init (&link->accepting, on_accepting, fd, EV_READ);
  link->accepting.data = link;
}

int
link_open (struct relay *r, const char *name, const struct addr *at,
           const struct addr *target, struct link **linkp)
{
  struct link *link;
  int err, fd;

  if (r->nr_links == LINKS_MAX)
    return ENOSPC;
  link = calloc (1, sizeof *link);
  if (link == NULL)
    return ENOMEM;
  *link = (struct link){ .relay = r, .at = *at, .target = *target };
  snprintf (link->name, sizeof link->name, "%s", name);
  for (enum way w = UP; w < NR_WAYS; w++)
    link->travel[w].cut_at = CUT_NEVER;
  err = addr_listen (&link->at, &fd);
  if (err != 0) {
    free (link);
    return err;
  }
  ev_init (&link->rest, on_rest);
  link->rest.data = link;
  watch (link, fd);
  accept_again (link);
  r->links[r->nr_links++] = link;
  *linkp = link;
  return 0;
}

void
link_close (struct link *link)
{
  while (link->conns != NULL)
    conn_cut (link->conns, CUT_RESET);
  stop_accepting (link);
  if (link->fd != -1)
    close (link->fd);
  if (link->at.any.sa_family == AF_UNIX)
    unlink (link->at.path.sun_path);
  free (link);
}

struct link *
link_find (struct relay *r, const char *name)
{
  for (unsigned i = 0; i < r->nr_links; i++)
    if (strcmp (r->links[i]->name, name) == 0)
      return r->links[i];
  return NULL;
}

struct conn *
link_conn (struct link *link, uint64_t id)
{
  for (struct conn *c = link->conns; c != NULL; c = c->next)
    if (c->id == id)
      return c;
  return NULL;
}

void
link_freeze (struct link *link, enum way way)
{
  struct travel *t = &link->travel[way];
  int64_t now = now_ns ();

  if (t->frozen_ns != 0)
    return;
  t->frozen_ns = now;
  stop_accepting (link);
  for (struct conn *c = link->conns; c != NULL; c = c->next)
    pipe_freeze (&c->pipe[way], now);
}

void
link_thaw (struct link *link, enum way way)
{
  struct travel *t = &link->travel[way];
  int64_t now = now_ns ();

  if (t->frozen_ns != 0)
    rate_shift (&t->rate, now - t->frozen_ns);
  t->frozen_ns = 0;
  for (struct conn *c = link->conns, *next; c != NULL; c = next) {
    next = c->next;
    pipe_thaw (&c->pipe[way], now);
  }
  accept_again (link);
}

void
link_refuse (struct link *link)
{
  if (link->refusing)
    return;
  link->refusing = true;
  stop_accepting (link);
  if (link->at.any.sa_family != AF_UNIX) {
    shutdown (link->fd, SHUT_RDWR);
  } else {
    close (link->fd);
    link->fd = -1;
  }
}

static int
listen_again (struct link *link)
{
  int fd, err = 0;

  if (link->at.any.sa_family != AF_UNIX) {
    if (listen (link->fd, SOMAXCONN) == -1)
      err = errno;
  } else {
    err = addr_listen (&link->at, &fd);
    if (err == 0)
      watch (link, fd);
  }
  link->refusing = err != 0;
  return err;
}

int
link_heal (struct link *link)
{
  int err = link->refusing ? listen_again (link) : 0;

  for (enum way w = UP; w < NR_WAYS; w++) {
    link->travel[w].cut_at = CUT_NEVER;
    for (struct conn *c = link->conns; c != NULL; c = c->next)
      c->pipe[w].cut_at = CUT_NEVER;
    link_thaw (link, w);
  }
  return err;
}

void
link_set_rate (struct link *link, enum way way, uint64_t bytes_per_s, bool each)
{
  struct travel *t = &link->travel[way];

  t->each = each;
  rate_set (&t->rate, bytes_per_s);
  for (struct conn *c = link->conns; c != NULL; c = c->next)
    rate_set (&c->pipe[way].own, bytes_per_s);
}

void
link_schedule (struct pipe *p, int64_t now, struct seg *seg)
{
  struct travel *t = &p->conn->link->travel[p->way];
  int64_t begin, end, late;

  rate_take (t->each ? &p->own : &t->rate, now, seg->len, &begin, &end);
  late = t->delay_ns;
  if (t->jitter_ns > 0) {
    struct rng rng = { p->jitter_state };

    late += (int64_t) rng_below (&rng, t->jitter_ns + 1);
    p->jitter_state = rng.state;
  }
  if (begin + late < p->last_due_ns)
    late = p->last_due_ns - begin;
  seg->begin_ns = begin + late;
  seg->end_ns = end + late;
  p->last_due_ns = seg->end_ns;
}

static void
on_end_of_turn (struct ev_loop *loop, ev_prepare *w, int revents)
{
  struct relay *r = w->data;

  (void) loop;
  (void) revents;
  while (r->over != NULL) {
    struct conn *c = r->over;

    r->over = c->next;
    conn_free (c);
  }
}

int
relay_open (struct relay *r, struct ev_loop *loop)
{
  *r = (struct relay){ .loop = loop };
  ev_prepare_init (&r->end_of_turn, on_end_of_turn);
  r->end_of_turn.data = r;
  ev_prepare_start (loop, &r->end_of_turn);
  return alarms_open (&r->alarms, loop);
}

void
relay_close (struct relay *r)
{
  for (unsigned i = 0; i < r->nr_links; i++)
    link_close (r->links[i]);
  on_end_of_turn (r->loop, &r->end_of_turn, 0);
  ev_prepare_stop (r->loop, &r->end_of_turn);
  alarms_close (&r->alarms);
  queue_trim ();
}
