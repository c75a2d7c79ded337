/* SPDX-License-Identifier: BSD-2-Clause */
/* The link: requests of the pager, carried to one export by some connections.
 *
 *   link_submit ─▶ queue[pool] ─ link_dispatch ─▶ sent ─ libnbd ─▶ answered
 *                      ▲                           │                  │
 *                      └──── link_look: lost ──────┘   link_take_answers
 *                      ▲                                   │          │
 *                      └── all are lost ── replied ◀─ a write      others
 *                                             └─ covered ─▶ over ─▶ done ()
 *
 * link.c: open, close, the pass that moves all of it on.  link-send.c: what
 * leaves when, on which connection, and what an answer means.
 * link-reconnect.c: connections that come and go.  link-watch.c: what takes too
 * long.  All runs on the loop: once a turn, before it waits, on_pass () goes
 * over answers, lost connections, queues and ends, until nothing moves.
 *
 * I1 A request is in exactly one list, by its state, and the lists are queue[]
 *    (QUEUED), sent and answered (SENT), replied (REPLIED), over (OVER).
 * I2 The window's counts are those of sent and answered.
 * I3 A write in replied has no answered flush that was sent after its reply.
 * I4 done () is called from on_pass () alone, and the request is the
 *    submitter's before: he may submit it again at once.
 * I5 While the link is not UP, nothing of the pager's is sent.
 * I6 A write that is sent to its place a second time was answered before, or
 *    its connection is fenced off, or no byte of it has left: else a late one
 *    would land on what came after it.
 *
 * Not done: order between requests.  Who needs a write before another waits for
 * it; a pager that writes to fresh blocks alone never does.
 */

#include <config.h>

#include "link-impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "log.h"

#define PASSES_MAX 16u /* in one turn */
#define BYE_MS     1000

/* ---- ends ---- */

void
link_over (struct link *l, struct request *req, int error)
{
  if (req->again)
    l->nr_again--;
  req->again = false;
  req->state = REQUEST_OVER;
  req->error = error;
  req->conn = NULL;
  request_append (&l->over, req);
}

void
link_fail_all (struct link *l, int error)
{
  struct request *req;

  for (unsigned q = 0; q < QUEUES; q++)
    while ((req = l->queue[q].first) != NULL) {
      request_remove (&l->queue[q], req);
      link_over (l, req, error);
    }
  while ((req = l->replied.first) != NULL) {
    request_remove (&l->replied, req);
    link_over (l, req, error);
  }
}

/* [I4] */
static bool
tell_over (struct link *l)
{
  struct request_list over = l->over;
  struct request *req;

  l->over = (struct request_list){ 0 };
  if (over.first == NULL)
    return false;
  while ((req = over.first) != NULL) {
    request_remove (&over, req);
    req->state = REQUEST_IDLE;
    if (req->error != 0)
      l->stat.nr_errors++;
    req->done (req);
  }
  return true;
}

static void
on_pass (struct ev_loop *ev, ev_prepare *w, int revents)
{
  struct link *l = w->data;
  bool busy = true;

  (void) revents;
  for (unsigned n = 0; busy && n < PASSES_MAX; n++) {
    busy = link_take_answers (l);
    busy |= link_look (l);
    link_dispatch (l);
    busy |= tell_over (l);
  }
  if (busy)
    ev_idle_start (ev, &l->more);
  else
    ev_idle_stop (ev, &l->more);
  for (unsigned i = 0; i < l->nr_conns; i++)
    conn_watch (&l->conn[i]);
}

/* ---- open and close ---- */

static void
free_link (struct link *l)
{
  free ((char *) l->config.uri);
  free ((char *) l->config.tls_certificates);
  free ((char *) l->config.tls_psk_file);
  free ((char *) l->config.tls_username);
  free (l->instance);
  free (l->name);
  uri_free (&l->uri);
  sem_destroy (&l->opened_sem);
  free (l);
}

/* All are copied, so that all can be freed. */
static bool
copy_text (const char **text)
{
  bool has = *text != NULL;

  if (has)
    *text = strdup (*text);
  return !has || *text != NULL;
}

static int
copy_config (struct link *l, const struct link_config *config)
{
  struct link_config *c = &l->config;
  const char **texts[] = { &c->uri, &c->tls_certificates, &c->tls_psk_file,
                           &c->tls_username };
  bool all = true;

  *c = *config;
  for (unsigned i = 0; i < 4; i++)
    all = copy_text (texts[i]) && all;
  if (!all)
    return ENOMEM;
  l->where = (char *) c->uri;
  if (c->deadline_us == 0)
    c->deadline_us = UINT64_C (300) * 1000000;
  if (c->report_us == 0)
    c->report_us = UINT64_C (20) * 1000000;
  if (c->cluster_bytes == 0)
    c->cluster_bytes = 65536;
  return 0;
}

static int
check_config (struct link *l)
{
  const char *why = NULL;
  int err = uri_parse (l->config.uri, &l->uri, &why);

  if (err == 0 && l->config.connections > LINK_CONNS_MAX)
    why = "more than 16 connections";
  else if (err == 0 && l->config.cluster_bytes % 4096 != 0)
    why = "the cluster is not in whole pages";
  if (why != NULL) {
    log_write (LOG_ERROR, "%s: %s", l->where, why);
    return EINVAL;
  }
  if (err == 0) {
    l->name = strdup (l->uri.name);
    err = l->name == NULL ? ENOMEM : 0;
  }
  return err;
}

static void
make_session (struct link *l)
{
  uint8_t raw[LINK_SESSION / 2];

  if (getrandom (raw, sizeof raw, 0) != sizeof raw)
    for (unsigned i = 0; i < sizeof raw; i++)
      raw[i] =
          (uint8_t) (time (NULL) >> i % 4 * 8) ^ (uint8_t) ((uintptr_t) l >> i);
  for (unsigned i = 0; i < sizeof raw; i++)
    snprintf (l->session + 2 * i, 3, "%02x", raw[i]);
  memcpy (&l->seed, raw, sizeof l->seed);
}

/* On the loop. */
static void
begin (void *arg)
{
  struct link *l = arg;

  leave_init (&l->leave, l->ev);
  for (unsigned i = 0; i < LINK_CONNS_MAX; i++)
    conn_init (&l->conn[i], i, l->ev, &l->leave, &l->sent, &l->answered);
  ev_prepare_init (&l->pass, on_pass);
  ev_idle_init (&l->more, loop_go_on);
  l->pass.data = l;
  ev_prepare_start (l->ev, &l->pass);
  link_cover_init (l);
  link_retry_init (l);
  link_watch_init (l);
  l->nr_conns = 1;
  link_connect (l, &l->conn[0]);
}

void
link_open_done (struct link *l, int error)
{
  if (l->opened)
    return;
  l->open_error = error;
  l->opened = true;
  if (error != 0)
    l->state = LINK_DEAD;
  sem_post (&l->opened_sem);
}

/* On the loop: nothing of the link runs any more. */
static void
end (void *arg)
{
  struct link *l = arg;
  uint64_t us = 0;

  l->state = LINK_CLOSING;
  for (unsigned i = 0; i < l->nr_conns; i++)
    conn_say_bye (&l->conn[i]);
  for (unsigned i = 0; i < l->nr_conns; i++)
    while (us < BYE_MS && !conn_is_gone (&l->conn[i], 20))
      us += 20;
  for (unsigned i = 0; i < l->nr_conns; i++)
    if (l->conn[i].state != CONN_IDLE)
      conn_stop (&l->conn[i]);
  for (unsigned i = 0; i < LINK_CONNS_MAX; i++)
    free (l->conn[i].block);
  leave_end (&l->leave);
  ev_prepare_stop (l->ev, &l->pass);
  ev_idle_stop (l->ev, &l->more);
  ev_timer_stop (l->ev, &l->cover);
  ev_timer_stop (l->ev, &l->retry);
  ev_timer_stop (l->ev, &l->watch);
}

/* On the loop's thread, or on that of a loop of the caller's which he does not
 * run elsewhere.
 */
static void
on_loop (struct link *l, void (*fn) (void *arg))
{
  if (l->config.own != NULL || loop_call (l->loop, fn, l) == EDEADLK)
    fn (l);
}

static void
close_link (struct link *l)
{
  if (l->config.own == NULL || loop_is_here (l->loop))
    on_loop (l, end);
  else
    loop_call (l->loop, end, l);
  loop_destroy (l->loop);
  free_link (l);
}

static void
wait_opened (struct link *l)
{
  if (l->config.own != NULL) {
    while (!l->opened)
      ev_run (l->ev, EVRUN_ONCE);
    return;
  }
  while (sem_wait (&l->opened_sem) == -1)
    ;
}

int
link_open (const struct link_config *config, struct link **lp)
{
  struct link *l = calloc (1, sizeof *l);
  int err;

  if (l == NULL)
    return ENOMEM;
  sem_init (&l->opened_sem, 0, 0);
  make_session (l);
  err = copy_config (l, config);
  if (err == 0)
    err = check_config (l);
  if (err == 0)
    err = loop_create (config->own, &l->loop);
  if (err != 0) {
    free_link (l);
    return err;
  }
  l->ev = loop_ev (l->loop);
  on_loop (l, begin);
  wait_opened (l);
  err = l->open_error;
  if (err == 0)
    *lp = l;
  else
    close_link (l);
  return err;
}

void
link_close (struct link *l)
{
  close_link (l);
}

/* ---- what it is ---- */

struct loop *
link_loop (struct link *l)
{
  return l->loop;
}

uint64_t
link_size_bytes (const struct link *l)
{
  return l->facts.size_bytes;
}

uint32_t
link_block_bytes (const struct link *l)
{
  return l->facts.block_bytes;
}

uint32_t
link_request_max (const struct link *l)
{
  return l->facts.request_max;
}

bool
link_is_readonly (const struct link *l)
{
  return l->facts.readonly;
}

bool
link_can_trim (const struct link *l)
{
  return l->facts.trim && !l->facts.readonly;
}

bool
link_can_zero (const struct link *l)
{
  return l->facts.zero && !l->facts.readonly;
}

bool
link_can_status (const struct link *l)
{
  return l->facts.status;
}

bool
link_is_durable (const struct link *l)
{
  return link_covers (l);
}

const char *
link_instance (const struct link *l)
{
  return l->instance;
}

/* ---- requests ---- */

static int
check_request (const struct link *l, const struct request *req)
{
  uint64_t size = l->facts.size_bytes;
  uint32_t most =
      req->kind == REQUEST_STATUS ? REQUEST_STATUS_MAX : l->facts.request_max;

  if (l->state == LINK_DEAD)
    return ESTALE;
  if (req->kind == REQUEST_FLUSH)
    return l->facts.flush ? 0 : ENOTSUP;
  if ((req->off_bytes | req->len_bytes) % l->facts.block_bytes != 0 ||
      req->len_bytes == 0 || req->len_bytes > most || req->off_bytes > size ||
      req->len_bytes > size - req->off_bytes)
    return EINVAL;
  if (request_writes (req) || req->kind == REQUEST_TRIM)
    if (l->facts.readonly)
      return EROFS;
  if ((req->kind == REQUEST_STATUS && !l->facts.status) ||
      (req->kind == REQUEST_TRIM && !l->facts.trim) ||
      (req->kind == REQUEST_ZERO && !l->facts.zero))
    return ENOTSUP;
  return 0;
}

void
link_submit (struct link *l, struct request *req)
{
  int err;

  req->since_us = loop_now_us (l->loop);
  req->told_us = req->since_us;
  req->again = req->answered = req->left = false;
  req->seq = 0;
  req->conn = NULL;
  if (req->kind == REQUEST_FLUSH)
    req->len_bytes = 0;
  err = check_request (l, req);
  if (err != 0)
    link_over (l, req, err);
  else
    link_enqueue (l, req);
  ev_idle_start (l->ev, &l->more); /* the pass of this turn may be over */
}

void
link_hurry (struct link *l, struct request *req)
{
  if (req->state != REQUEST_QUEUED || req->kind != REQUEST_READ)
    return;
  request_remove (&l->queue[req->pool], req);
  req->pool = POOL_DEMAND;
  link_enqueue (l, req);
}

void
link_hurry_at (struct link *l, uint64_t off_bytes)
{
  struct request *req = l->queue[POOL_AHEAD].first;

  while (req != NULL && off_bytes - req->off_bytes >= req->len_bytes)
    req = req->next;
  if (req != NULL)
    link_hurry (l, req);
}

void
link_set_range (struct link *l, enum request_pool pool, unsigned min,
                unsigned max)
{
  window_set_range (&l->window, pool, min, max);
}

void
link_set_rules (struct link *l, struct link_rules rules)
{
  l->rules = rules;
}

void
link_stat (struct link *l, struct link_stat *st)
{
  uint64_t now_us = loop_now_us (l->loop);

  *st = l->stat;
  st->nr_conns = l->nr_conns;
  link_first_up (l, &st->nr_conns_up);
  for (unsigned p = 0; p < POOLS; p++) {
    const struct window_pool *pool = &l->window.pool[p];

    st->pool[p].nr = pool->nr;
    st->pool[p].nr_queued =
        l->queue[p].nr + (p == POOL_ADMIN ? l->queue[QUEUE_FLUSH].nr : 0);
    st->pool[p].nr_max = pool->nr_max;
    st->pool[p].nr_peak = pool->nr_peak;
    st->pool[p].bytes = pool->bytes;
    st->pool[p].limit_bytes = window_limit_bytes (&l->window, p, now_us);
    st->pool[p].rate = pool->follows ? bdp_rate (&pool->bdp) : 0;
    st->pool[p].rt_us = pool->follows ? bdp_rt_us (&pool->bdp) : 0;
  }
}

const char *
link_check (struct link *l)
{
  const char *why = NULL;
  unsigned nr_again = 0, nr_trims = 0;

  for (unsigned q = 0; q < QUEUES; q++) {
    why = request_list_check (&l->queue[q], REQUEST_QUEUED);
    if (why != NULL)
      return why;
    for (const struct request *r = l->queue[q].first; r != NULL; r = r->next)
      nr_again += r->again;
  }
  if ((why = request_list_check (&l->sent, REQUEST_SENT)) != NULL ||
      (why = request_list_check (&l->answered, REQUEST_SENT)) != NULL ||
      (why = request_list_check (&l->replied, REQUEST_REPLIED)) != NULL ||
      (why = request_list_check (&l->over, REQUEST_OVER)) != NULL)
    return why;
  for (const struct request *r = l->sent.first; r != NULL; r = r->next) {
    nr_again += r->again;
    nr_trims += r->kind == REQUEST_TRIM;
    if (r->conn->state != CONN_UP && r->conn->state != CONN_LOST &&
        r != &r->conn->look)
      return "a request is sent on a connection that is not up";
  }
  if (l->answered.nr > 0)
    return NULL;
  if (nr_again != l->nr_again)
    return "writes that are sent again are not counted well";
  if (nr_trims != l->nr_trims)
    return "trims under way are not counted well";
  if (l->replied.nr > 0 && !link_covers (l))
    return "writes wait for a flush that nobody sends";
  for (unsigned i = 0; i < l->nr_conns; i++)
    if (l->conn[i].state == CONN_LOOKING)
      return NULL; /* what it looks with is in sent, and in no pool */
  return window_check (&l->window, l->sent.first);
}
