/* SPDX-License-Identifier: BSD-2-Clause */
/* The link: connections that come, go and come again.
 *
 *   OPENING ─ the first is up ─▶ UP ─ the last is lost ─▶ DOWN ─ one is up ─▶
 * UP └─ it fails ─▶ DEAD                                  └─ not the same ─▶
 * DEAD
 *
 * A new connection is looked at before anything is sent on it: what the server
 * says of the export (conn_facts), its instance, and block 0, which `admit`
 * judges.  While others are up one that is not the same is closed and tried
 * again later; with none up, the store is not the one that it was: LOST.
 *
 * What was under way on a lost connection:
 *
 *   read, flush            goes again
 *   write, trim            the server may still do it, late, over what came
 *                          after it.  Where reopening fences off the old
 *                          connections it goes again to its place; else to
 *                          another one (`elsewhere`)
 *   write in replied       stays while others are up: the server lives.  With
 *                          none up it goes again to its place: it was done
 *                          once, so it is not done late
 *
 * By a link's rules (link_rules) a server that cannot be known again, nor be
 * fenced off, is not connected to again, and the first write that is lost under
 * way ends all: a late one would land on what came after it.
 *
 * Fences: our server tells an instance and knows sessions.  So the first look
 * is followed by a connect as NAME~INSTANCE.SESSION.1, and each that follows
 * the loss of all has the generation one higher: when it is let in, nothing of
 * the older ones is done any more.  There a lost connection ends the others
 * too, for only all together can be fenced.
 *
 * Back-off: 50 ms, doubling to 5 s, a fifth more or less.  With none up only
 * the first connection is tried; the others follow it.
 */

#include <config.h>

#include "link-impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define RETRY_MIN_US UINT64_C (50000)
#define RETRY_MAX_US UINT64_C (5000000)

struct conn *
link_first_up (struct link *l, unsigned *nr_up)
{
  struct conn *first = NULL;

  *nr_up = 0;
  for (unsigned i = 0; i < l->nr_conns; i++)
    if (l->conn[i].state == CONN_UP) {
      if (first == NULL)
        first = &l->conn[i];
      ++*nr_up;
    }
  return first;
}

/* ---- when to try again ---- */

/* To the next that may be tried. */
static void
wind_retry (struct link *l)
{
  uint64_t now_us = loop_now_us (l->loop), due_us = UINT64_MAX;

  ev_timer_stop (l->ev, &l->retry);
  for (unsigned i = 0; i < l->nr_conns; i++) {
    const struct conn *c = &l->conn[i];

    if (c->state == CONN_IDLE && c->retry_us < due_us &&
        (l->state == LINK_UP || (l->state == LINK_DOWN && i == 0)))
      due_us = c->retry_us;
  }
  if (due_us == UINT64_MAX)
    return;
  ev_timer_set (&l->retry, due_us > now_us ? (due_us - now_us) * 1e-6 : 0, 0);
  ev_timer_start (l->ev, &l->retry);
}

static void
on_retry (struct ev_loop *ev, ev_timer *w, int revents)
{
  struct link *l = w->data;
  uint64_t now_us = loop_now_us (l->loop);

  (void) ev;
  (void) revents;
  for (unsigned i = 0; i < (l->state == LINK_UP ? l->nr_conns : 1); i++)
    if (l->conn[i].state == CONN_IDLE && l->conn[i].retry_us <= now_us)
      link_connect (l, &l->conn[i]);
  wind_retry (l);
}

void
link_retry_init (struct link *l)
{
  ev_timer_init (&l->retry, on_retry, 0, 0);
  l->retry.data = l;
}

static void
retry_later (struct link *l, struct conn *c)
{
  uint64_t us = c->backoff_us * 2;

  if (us < RETRY_MIN_US)
    us = RETRY_MIN_US;
  if (us > RETRY_MAX_US)
    us = RETRY_MAX_US;
  c->backoff_us = us;
  us = us * 4 / 5 + us * 2 / 5 * (rand_r (&l->seed) % 1024) / 1024;
  c->retry_us = loop_now_us (l->loop) + us;
}

void
link_connect (struct link *l, struct conn *c)
{
  const struct conn_target target = { .uri = &l->uri,
                                      .name = l->name,
                                      .tls_certificates =
                                          l->config.tls_certificates,
                                      .tls_psk_file = l->config.tls_psk_file,
                                      .tls_username = l->config.tls_username };

  c->first = l->state == LINK_OPENING;
  conn_start (c, &target, loop_now_us (l->loop));
}

/* ---- sessions ---- */

/* NAME~INSTANCE.SESSION.GENERATION */
static int
name_session (struct link *l)
{
  size_t len = strlen (l->instance) + LINK_SESSION + 24;
  char *name = malloc (len);

  if (name == NULL)
    return ENOMEM;
  snprintf (name, len, "%s.%s.%llu", l->instance, l->session,
            (unsigned long long) l->generation);
  free (l->name);
  l->name = name;
  return 0;
}

/* The server tells an instance: this is the name with it.  NULL: the user has
 * named a session himself, or the export has no name; or no memory.
 */
static char *
name_instance (struct link *l, struct conn *c, const char *instance)
{
  char *own = *l->name == '\0' ? conn_own_name (c) : strdup (l->name);
  char *tilde = own != NULL ? strchr (own, '~') : NULL, *name = NULL;
  size_t len;

  if (own == NULL || *own == '\0' ||
      (tilde != NULL && strchr (tilde, '.') != NULL)) {
    free (own);
    return NULL;
  }
  if (tilde != NULL)
    *tilde = '\0';
  len = strlen (own) + CONN_INSTANCE + 2;
  name = malloc (len);
  if (name != NULL)
    snprintf (name, len, "%s~%s", own, instance);
  free (own);
  return name;
}

/* The first look at an export of our server: again, as a session. */
static bool
begin_session (struct link *l, struct conn *c, const struct conn_facts *facts)
{
  if (l->fences || facts->instance[0] == '\0')
    return false;
  l->instance = name_instance (l, c, facts->instance);
  l->generation = 1;
  if (l->instance == NULL || name_session (l) != 0)
    return false;
  l->fences = true;
  conn_say_bye (c);
  conn_stop (c);
  link_connect (l, c);
  return true;
}

/* ---- lost ---- */

/* Out of sent, on c, into lost. */
static void
take_sent (struct link *l, struct conn *c, struct request_list *lost)
{
  struct request *req = l->sent.first, *next;

  for (; req != NULL; req = next) {
    next = req->next;
    if (req->conn != c)
      continue;
    request_remove (&l->sent, req);
    if (req == &c->look) {
      req->state = REQUEST_IDLE;
      continue;
    }
    window_give (&l->window, req, false, loop_now_us (l->loop));
    l->nr_trims -= req->kind == REQUEST_TRIM;
    request_append (lost, req);
  }
}

static void
end_all (struct link *l, struct request_list *list, int error)
{
  struct request *req;

  while ((req = list->first) != NULL) {
    request_remove (list, req);
    link_over (l, req, error);
  }
}

static bool
changes (const struct request *req)
{
  return request_writes (req) || req->kind == REQUEST_TRIM;
}

/* Where one that was sent on a lost connection goes. */
static void
send_again (struct link *l, struct request *req, struct request_list *front)
{
  int err = link_is_late (l, req) ? ETIMEDOUT : 0;

  if (err == 0 && changes (req) && !l->fences && !req->answered) {
    err = req->elsewhere != NULL ? req->elsewhere (req) : EIO;
    l->stat.nr_elsewhere += err == 0;
    req->left = err != 0;
  }
  if (err != 0) {
    link_over (l, req, err);
    return;
  }
  l->stat.nr_replayed++;
  req->state = REQUEST_QUEUED;
  req->conn = NULL;
  request_append (&front[req->kind == REQUEST_FLUSH ? QUEUE_FLUSH : req->pool],
                  req);
}

static void
put_in_front (struct link *l, struct request_list *front)
{
  for (unsigned q = 0; q < QUEUES; q++)
    request_prepend_all (&l->queue[q], &front[q]);
}

/* The server may be another one now, without what was not flushed. */
static void
all_are_lost (struct link *l, struct request_list *front)
{
  struct request *req;

  while ((req = l->replied.first) != NULL) {
    request_remove (&l->replied, req);
    req->state = REQUEST_QUEUED;
    req->again = true;
    l->nr_again++;
    l->stat.nr_replayed++;
    request_append (&front[req->pool], req);
  }
  ev_timer_stop (l->ev, &l->cover);
  l->state = LINK_DOWN;
  l->conn[0].backoff_us = 0;
  retry_later (l, &l->conn[0]);
  if (l->fences) {
    l->generation++;
    name_session (l);
  }
  log_write (LOG_WARNING, "%s: no connection (tries again until it is there)",
             l->where);
}

/* All up connections' sent requests, where one cannot be fenced off alone. */
static void
lose_others (struct link *l, struct request_list *lost)
{
  link_take_answers (l);
  for (unsigned i = 0; i < l->nr_conns; i++) {
    struct conn *c = &l->conn[i];

    if (c->state == CONN_IDLE)
      continue;
    take_sent (l, c, lost);
    conn_stop (c);
    retry_later (l, c);
  }
}

/* Those that are up share the work anew. */
static void
set_roles (struct link *l)
{
  unsigned nr_up;

  link_first_up (l, &nr_up);
  for (unsigned i = 0; i < l->nr_conns; i++)
    if (l->conn[i].state == CONN_UP)
      conn_set_unsent (&l->conn[i],
                       nr_up == 1 ? 2 * l->window.cluster_bytes : 0);
}

static void
tell (struct link *l, enum link_event event)
{
  if (l->config.event != NULL)
    l->config.event (l->config.arg, event);
}

static bool
has_changes (const struct request_list *list)
{
  for (const struct request *req = list->first; req != NULL; req = req->next)
    if (changes (req))
      return true;
  return false;
}

static void
up_is_lost (struct link *l, struct request_list *lost)
{
  struct request_list front[QUEUES] = { 0 };
  struct request *req;
  unsigned nr_up;
  bool all;

  if (l->rules.strict && !l->fences &&
      (link_first_up (l, &nr_up) == NULL || has_changes (lost))) {
    end_all (l, lost, ESTALE);
    link_lost_for_good (l, "the server does not say whether it is the same one",
                        ESTALE);
    return;
  }
  if (l->fences)
    lose_others (l, lost);
  all = link_first_up (l, &nr_up) == NULL && l->state == LINK_UP;
  if (all)
    all_are_lost (l, front);
  set_roles (l);
  while ((req = lost->first) != NULL) {
    request_remove (lost, req);
    send_again (l, req, front);
  }
  put_in_front (l, front);
  if (all)
    tell (l, LINK_DISCONNECTED);
}

/* The server says that there is no such instance; ENOENT is a socket's, too. */
static bool
is_another (const struct link *l, const struct conn *c)
{
  return l->fences && l->state == LINK_DOWN && c->was_heard &&
         c->error == ENOENT;
}

/* The first failure is told; those that follow while it tries again are not. */
static void
report_loss (const struct link *l, const struct conn *c)
{
  enum log_level level = LOG_WARNING;

  if (l->state == LINK_OPENING)
    level = LOG_ERROR;
  else if (!c->was_up && c->backoff_us > RETRY_MIN_US)
    level = LOG_DEBUG;
  log_write (level, "%s: connection %u: %s", l->where, c->index,
             c->why != NULL ? c->why : strerror (c->error));
}

static void
on_lost (struct link *l, struct conn *c)
{
  struct request_list lost = { 0 };
  bool was_up = c->was_up;

  report_loss (l, c);
  link_take_answers (l);
  take_sent (l, c, &lost);
  conn_stop (c);
  retry_later (l, c);
  if (l->state == LINK_OPENING)
    link_open_done (l, c->error);
  else if (was_up)
    up_is_lost (l, &lost);
  else if (is_another (l, c))
    link_lost_for_good (l, "the export that it was is gone", ESTALE);
  wind_retry (l);
}

void
link_lost_for_good (struct link *l, const char *why, int error)
{
  struct request_list lost = { 0 };

  log_write (LOG_ERROR, "%s: %s; all that is on it is lost", l->where, why);
  l->state = LINK_DEAD;
  lose_others (l, &lost);
  end_all (l, &lost, error);
  link_fail_all (l, error);
  ev_timer_stop (l->ev, &l->cover);
  ev_timer_stop (l->ev, &l->retry);
  tell (l, LINK_LOST);
}

/* ---- up ---- */

static void
open_others (struct link *l)
{
  unsigned nr = l->config.connections != 0 ? l->config.connections : LINK_CONNS;

  l->nr_conns = l->facts.multi ? nr : 1;
  for (unsigned i = 1; i < l->nr_conns; i++)
    link_connect (l, &l->conn[i]);
}

static void
conn_is_up (struct link *l, struct conn *c)
{
  enum link_state was = l->state;
  uint64_t now_us = loop_now_us (l->loop);

  c->state = CONN_UP;
  c->was_up = true;
  c->backoff_us = 0;
  c->since_us = now_us;
  l->stat.nr_reconnects += !c->first;
  if (was == LINK_OPENING)
    open_others (l);
  l->state = LINK_UP;
  set_roles (l);
  if (was == LINK_OPENING)
    link_open_done (l, 0);
  if (was == LINK_DOWN) {
    log_write (LOG_INFO, "%s: connected again", l->where);
    window_restart (&l->window, now_us);
    for (unsigned i = 0; i < l->nr_conns; i++)
      l->conn[i].retry_us = now_us;
    wind_retry (l);
    tell (l, LINK_CONNECTED);
  }
}

/* It is not the same: this connection is of no use, or, with none up, all. */
static void
not_the_same (struct link *l, struct conn *c, const char *why)
{
  if (l->state == LINK_UP)
    conn_lose (c, ESTALE, why);
  else
    link_lost_for_good (l, why, ESTALE);
}

static const char *
differs (const struct conn_facts *was, const struct conn_facts *is)
{
  if (is->size_bytes < was->size_bytes)
    return "the export is smaller than it was";
  if (is->request_max < was->request_max)
    return "the largest request is less than it was";
  if (is->block_bytes > was->block_bytes)
    return "the smallest request is more than it was";
  if ((is->readonly && !was->readonly) || is->flush < was->flush ||
      is->fua < was->fua || is->trim < was->trim || is->zero < was->zero ||
      is->status < was->status)
    return "the server can do less than it could";
  return strcmp (is->instance, was->instance) != 0
             ? "the export is another one of the same name"
             : NULL;
}

static void
on_look (struct request *req)
{
  (void) req; /* link_look () sees its state */
}

static void
read_block (struct conn *c)
{
  if (c->block == NULL)
    c->block = malloc (4096);
  if (c->block == NULL) {
    conn_lose (c, ENOMEM, NULL);
    return;
  }
  c->state = CONN_LOOKING;
  c->look = (struct request){ .kind = REQUEST_READ,
                              .pool = POOL_DEMAND,
                              .len_bytes = 4096,
                              .data = c->block,
                              .done = on_look };
  conn_send (c, &c->look, false);
}

static void
adopt (struct link *l, struct conn *c, const struct conn_facts *facts)
{
  uint32_t cluster = l->config.cluster_bytes;

  l->facts = *facts;
  if (cluster > facts->request_max)
    cluster = facts->request_max;
  window_init (&l->window, cluster, loop_now_us (l->loop));
  conn_is_up (l, c);
}

static void
on_ready (struct link *l, struct conn *c)
{
  struct conn_facts facts;
  const char *why;
  int err = conn_facts (c, &facts, &why);

  if (err != 0) {
    conn_lose (c, err, why);
  } else if (l->state == LINK_OPENING) {
    if (!begin_session (l, c, &facts))
      adopt (l, c, &facts);
  } else if ((why = differs (&l->facts, &facts)) != NULL) {
    not_the_same (l, c, why);
  } else if (!l->rules.asks || c->first) {
    if (l->rules.grows && facts.size_bytes > l->facts.size_bytes)
      l->facts.size_bytes = facts.size_bytes;
    conn_is_up (l, c);
  } else {
    read_block (c);
  }
}

static void
on_looked (struct link *l, struct conn *c)
{
  if (c->look.error != 0)
    conn_lose (c, c->look.error, NULL);
  else if (l->config.admit (l->config.arg, c->block) != 0)
    not_the_same (l, c, "block 0 is not what it was");
  else
    conn_is_up (l, c);
}

bool
link_look (struct link *l)
{
  bool busy = false;

  for (unsigned i = 0; i < l->nr_conns && l->state != LINK_CLOSING; i++) {
    struct conn *c = &l->conn[i];

    if (c->state == CONN_READY)
      on_ready (l, c);
    else if (c->state == CONN_LOOKING && c->look.state == REQUEST_IDLE)
      on_looked (l, c);
    else if (c->state == CONN_LOST)
      on_lost (l, c);
    else
      continue;
    busy = true;
  }
  return busy;
}
