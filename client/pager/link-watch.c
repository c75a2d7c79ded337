/* SPDX-License-Identifier: BSD-2-Clause */
/* The link: what takes too long.
 *
 * A timer, once a second or an eighth of the shorter time, looks at all that is
 * queued, sent or waits for its flush.  What is older than report_us is told,
 * again and again.  What is older than the deadline ends with ETIMEDOUT; if
 * libnbd has it, its connection is ended first, for only then is its memory
 * nobody's but the submitter's.  A connection that is not up within the
 * deadline, or 10 s, is ended too; a name has the deadline's time to be found,
 * for to ask again would be no faster.
 */

#include <config.h>

#include "link-impl.h"

#include <errno.h>
#include <stdio.h>

#include "log.h"

#define CONNECT_US UINT64_C (10000000)

static void
report (struct link *l, struct request *req, uint64_t now_us)
{
  char on[32] = "waits";

  if (now_us - req->told_us < l->config.report_us)
    return;
  req->told_us = now_us;
  l->stat.nr_reports++;
  if (req->state == REQUEST_SENT)
    snprintf (on, sizeof on, "is on connection %u", req->conn->index);
  else if (req->state == REQUEST_REPLIED)
    snprintf (on, sizeof on, "waits for a flush");
  log_write (LOG_WARNING, "%s: %s of %u bytes at %llu %s, for %llu s", l->where,
             request_kind_name (req->kind), req->len_bytes,
             (unsigned long long) req->off_bytes, on,
             (unsigned long long) ((now_us - req->since_us) / 1000000));
}

bool
link_is_late (const struct link *l, const struct request *req)
{
  return loop_now_us (l->loop) - req->since_us >= l->config.deadline_us;
}

static void
look_at_waiting (struct link *l, struct request_list *list, uint64_t now_us)
{
  struct request *req = list->first, *next;

  for (; req != NULL; req = next) {
    next = req->next;
    if (link_is_late (l, req)) {
      request_remove (list, req);
      link_over (l, req, ETIMEDOUT);
    } else {
      report (l, req, now_us);
    }
  }
}

/* A late one ends its connection; it is in a queue after that, or over. */
static void
look_at_sent (struct link *l, uint64_t now_us)
{
  for (struct request *req = l->sent.first; req != NULL; req = req->next) {
    if (req == &req->conn->look)
      continue;
    report (l, req, now_us);
    if (link_is_late (l, req))
      conn_lose (req->conn, ETIMEDOUT, "a request takes too long");
  }
}

static void
look_at_conns (struct link *l, uint64_t now_us)
{
  uint64_t most_us = l->config.deadline_us;

  if (most_us > CONNECT_US && l->state != LINK_OPENING)
    most_us = CONNECT_US;
  for (unsigned i = 0; i < l->nr_conns; i++) {
    struct conn *c = &l->conn[i];

    if ((c->state == CONN_CONNECTING || c->state == CONN_LOOKING) &&
        now_us - c->since_us >= most_us)
      conn_lose (c, ETIMEDOUT, "it does not get through");
    if (c->state == CONN_RESOLVING &&
        now_us - c->since_us >= l->config.deadline_us)
      conn_lose (c, ETIMEDOUT, "its name is not found in time");
  }
}

static void
on_watch (struct ev_loop *ev, ev_timer *w, int revents)
{
  struct link *l = w->data;
  uint64_t now_us = loop_now_us (l->loop);

  (void) ev;
  (void) revents;
  look_at_sent (l, now_us);
  for (unsigned q = 0; q < QUEUES; q++)
    look_at_waiting (l, &l->queue[q], now_us);
  look_at_waiting (l, &l->replied, now_us);
  look_at_conns (l, now_us);
}

void
link_watch_init (struct link *l)
{
  uint64_t us = 1000000;

  if (us > l->config.deadline_us / 8)
    us = l->config.deadline_us / 8;
  if (us > l->config.report_us / 8)
    us = l->config.report_us / 8;
  ev_timer_init (&l->watch, on_watch, us * 1e-6, us * 1e-6);
  l->watch.data = l;
  ev_timer_start (l->ev, &l->watch);
}
