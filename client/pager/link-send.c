/* SPDX-License-Identifier: BSD-2-Clause */
/* The link: what leaves when and where, what an answer means, and the flushes.
 *
 * Order of each turn: demand, flushes, sync writes, read-ahead, async writes,
 * the rest.  A queue whose pool has no room is passed over; it holds nobody
 * else up.
 *
 *                  several connections up        one
 *   demand         the first, which has          it, at once
 *                  nothing else
 *   all others     of the rest the one with      it, while libnbd has nothing
 *                  least under way that has      that the socket did not take
 *                  nothing that the socket
 *                  did not take
 *
 * So before a demand read in a socket are other demand reads, or the rest of
 * one request and what the socket takes ahead (two clusters, conn_set_unsent).
 *
 * Cover: `seq` counts writes' replies.  A flush notes it when it is sent, and
 * its good answer makes durable what was replied to until then.  The link sends
 * one of its own when a sync write was replied to, when half of the async
 * window waits, when for 1 ms no other write was queued or under way (who puts
 * few pages at a time waits for just these), and 50 ms after the first reply
 * that waits.  One at a time, the next takes all since, so a server that is
 * slow to flush is asked for fewer.  A flush that fails is not tried again, for
 * the server may have thrown away what it could not write: all that waits fails
 * with it. While writes are sent again after a loss no flush leaves: they were
 * replied to before it was asked for.
 */

#include <config.h>

#include "link-impl.h"

#include <errno.h>
#include <string.h>

/* ---- what leaves ---- */

void
link_enqueue (struct link *l, struct request *req)
{
  unsigned q = req->kind == REQUEST_FLUSH ? QUEUE_FLUSH : req->pool;

  req->state = REQUEST_QUEUED;
  request_append (&l->queue[q], req);
}

static bool
has_less (const struct conn *a, const struct conn *b)
{
  return a->bytes < b->bytes || (a->bytes == b->bytes && a->nr < b->nr);
}

/* On which connection; NULL: on none now. */
static struct conn *
pick (struct link *l, const struct request *req)
{
  unsigned nr_up;
  struct conn *first = link_first_up (l, &nr_up), *best = NULL;

  if (req->pool == POOL_DEMAND || first == NULL)
    return first;
  if (nr_up == 1)
    return conn_is_stuffed (first) ? NULL : first;
  for (unsigned i = first->index + 1; i < l->nr_conns; i++) {
    struct conn *c = &l->conn[i];

    if (c->state == CONN_UP && (best == NULL || has_less (c, best)) &&
        !conn_is_stuffed (c))
      best = c;
  }
  return best;
}

/* The head of a queue leaves, if it may. */
static bool
send_first (struct link *l, unsigned q)
{
  struct request *req = l->queue[q].first;
  uint64_t now_us = loop_now_us (l->loop);
  struct conn *c;

  if (req == NULL || l->state != LINK_UP)
    return false;
  if (!window_has_room (&l->window, req, now_us) ||
      (req->kind == REQUEST_FLUSH && l->nr_again > 0) ||
      (req->kind == REQUEST_TRIM && l->nr_trims >= LINK_TRIMS_MAX))
    return false;
  c = pick (l, req);
  if (c == NULL)
    return false;
  request_remove (&l->queue[q], req);
  window_take (&l->window, req, l->queue[q].first != NULL, now_us);
  if (req->kind == REQUEST_FLUSH)
    req->seq = l->seq;
  l->nr_trims += req->kind == REQUEST_TRIM;
  conn_send (c, req, req->fua && l->facts.fua);
  if (c->state == CONN_LOST) /* the next pass looks at it */
    ev_idle_start (l->ev, &l->more);
  return c->state == CONN_UP;
}

void
link_dispatch (struct link *l)
{
  static const unsigned order[] = { POOL_DEMAND, QUEUE_FLUSH, POOL_WSYNC,
                                    POOL_AHEAD,  POOL_WASYNC, POOL_ADMIN };
  unsigned nr_up;

  if (l->state != LINK_UP || link_first_up (l, &nr_up) == NULL)
    return;
  for (unsigned i = 0; i < QUEUES; i++)
    while (send_first (l, order[i]))
      ;
}

/* ---- cover ---- */

bool
link_covers (const struct link *l)
{
  return l->facts.flush && !l->config.is_volatile;
}

static void
on_own_flush (struct request *req)
{
  struct link *l = req->arg;

  bool more = l->flush_again || req->error != 0;

  l->flush_again = false;
  if (more && l->replied.nr > 0)
    link_want_flush (l);
}

void
link_want_flush (struct link *l)
{
  if (l->own_flush.state != REQUEST_IDLE) {
    l->flush_again = true;
    return;
  }
  l->own_flush.kind = REQUEST_FLUSH;
  l->own_flush.pool = POOL_ADMIN;
  l->own_flush.done = on_own_flush;
  l->own_flush.arg = l;
  link_submit (l, &l->own_flush);
}

static bool
writes_are_under_way (const struct link *l)
{
  return l->window.pool[POOL_WSYNC].nr + l->window.pool[POOL_WASYNC].nr +
             l->queue[POOL_WSYNC].nr + l->queue[POOL_WASYNC].nr >
         0;
}

/* So that it rings 50 ms after the first reply that waits. */
static void
wind_cover (struct link *l)
{
  uint64_t now_us = loop_now_us (l->loop), due_us;

  if (l->replied.first == NULL) {
    ev_timer_stop (l->ev, &l->cover);
    return;
  }
  if (ev_is_active (&l->cover))
    return;
  due_us = l->replied.first->replied_us + LINK_FLUSH_US;
  ev_timer_set (&l->cover, due_us > now_us ? (due_us - now_us) * 1e-6 : 0, 0);
  ev_timer_start (l->ev, &l->cover);
}

static void
on_cover (struct ev_loop *ev, ev_timer *w, int revents)
{
  struct link *l = w->data;

  (void) ev;
  (void) revents;
  if (l->replied.nr == 0 || l->state != LINK_UP)
    return;
  if (!writes_are_under_way (l) ||
      loop_now_us (l->loop) - l->replied.first->replied_us >= LINK_FLUSH_US)
    link_want_flush (l);
  else
    wind_cover (l);
}

/* Nothing else is under way: sooner, unless something comes. */
static void
hurry_cover (struct link *l)
{
  if (l->replied.nr == 0 || l->own_flush.state != REQUEST_IDLE ||
      writes_are_under_way (l))
    return;
  ev_timer_stop (l->ev, &l->cover);
  ev_timer_set (&l->cover, LINK_IDLE_US * 1e-6, 0);
  ev_timer_start (l->ev, &l->cover);
}

void
link_cover_init (struct link *l)
{
  ev_timer_init (&l->cover, on_cover, 0, 0);
  l->cover.data = l;
}

/* A flush that noted seq is answered. */
static void
cover (struct link *l, uint64_t seq, int error)
{
  struct request *req = l->replied.first, *next;

  for (; req != NULL && (error != 0 || req->seq <= seq); req = next) {
    next = req->next;
    request_remove (&l->replied, req);
    link_over (l, req, error);
  }
  ev_timer_stop (l->ev, &l->cover);
  wind_cover (l);
}

static void
write_replied (struct link *l, struct request *req)
{
  uint64_t now_us = loop_now_us (l->loop);
  bool urgent = req->pool == POOL_WSYNC || req->fua;

  if (!link_covers (l) || (req->fua && l->facts.fua)) {
    link_over (l, req, 0);
    return;
  }
  if (req->again)
    l->nr_again--;
  req->again = false;
  req->state = REQUEST_REPLIED;
  req->conn = NULL;
  req->seq = ++l->seq;
  req->replied_us = now_us;
  request_append (&l->replied, req);
  if (urgent || l->replied.bytes >=
                    window_limit_bytes (&l->window, POOL_WASYNC, now_us) / 2)
    link_want_flush (l);
  wind_cover (l);
}

/* ---- answers ---- */

static void
count (struct link *l, const struct request *req)
{
  struct link_stat *st = &l->stat;

  if (req->kind == REQUEST_READ) {
    st->nr_read++;
    st->bytes_read += req->len_bytes;
  } else if (request_writes (req)) {
    st->nr_written++;
    st->bytes_written += req->len_bytes;
  } else if (req->kind == REQUEST_TRIM) {
    st->nr_trimmed++;
  } else if (req->kind == REQUEST_STATUS) {
    st->nr_status++;
  } else {
    st->nr_flushes++;
  }
}

static void
take_answer (struct link *l, struct request *req)
{
  int error = req->error;

  window_give (&l->window, req, error == 0, loop_now_us (l->loop));
  conn_forget (req->conn, req);
  l->nr_trims -= req->kind == REQUEST_TRIM;
  if (error == 0)
    count (l, req);
  if (req->kind == REQUEST_FLUSH)
    cover (l, req->seq, error);
  if (error == 0 && request_writes (req))
    write_replied (l, req);
  else
    link_over (l, req, error);
}

bool
link_take_answers (struct link *l)
{
  struct request_list answered = l->answered;
  struct request *req;

  l->answered = (struct request_list){ 0 };
  if (answered.first == NULL)
    return false;
  while ((req = answered.first) != NULL) {
    struct conn *c = req->conn;

    request_remove (&answered, req);
    if (req->error == ENOTCONN || req->error == ESHUTDOWN) {
      req->answered = req->error == ESHUTDOWN;
      conn_lose (c, req->error, req->answered ? "the server goes away" : NULL);
      request_append (&l->sent, req); /* what is lost is there */
    } else if (req == &c->look) {
      req->state = REQUEST_IDLE;
      conn_forget (c, req);
    } else {
      take_answer (l, req);
    }
  }
  hurry_cover (l);
  return true;
}
