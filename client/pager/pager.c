/* SPDX-License-Identifier: BSD-2-Clause */
/* The public functions: they check what they are given, once, and hand it to
 * the loop.
 *
 *   caller's thread                          the loop's thread
 *   aio: make an op, loop_post () ---------> op.go (), results by the callback
 *   sync: the same, wait for all results <-- the last result
 *   the rest: loop_call (), or call_wait () where it takes more than a step
 *
 * Locks: a sync call waits on a mutex and a condition of its own, which the
 * loop takes for the moment of telling; nothing else is shared but the counts
 * of references and ops.  So a function that waits must not be called on the
 * loop's thread: EDEADLK.
 *
 * Log lines.  base has one way out for all links of a process; each line goes
 * to the link whose loop's thread it is said on, or whose opening or closing,
 * or that of its pager, this thread is at (pager_speak ()).  Of
 * a caller's own loop that is the thread that opened the link, and the last of
 * several.
 */

#include <config.h>

#include "file.h"
#include "swap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "types.h"

#define REPORT_US   UINT64_C (20000000)
#define DEADLINE_US UINT64_C (300000000)

#define LEAVING_MS    600 /* for a writer that goes */
#define LEAVING_TRIES 20

/* ---- log and events ---- */

static _Thread_local struct farpage_link *here;
static pthread_mutex_t newest_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct farpage_link *newest; /* [newest_mutex] being opened */

static void
tell (struct farpage_link *l, enum log_level level, const char *text)
{
  /* as in syslog.h, whose names base has for its own */
  static const int priorities[] = {
    [LOG_ERROR] = 3, [LOG_WARNING] = 4, [LOG_INFO] = 6, [LOG_DEBUG] = 7
  };

  if (l != NULL && l->options.log != NULL)
    l->options.log (l->options.arg, priorities[level], text);
}

/* A loop that has no link yet is that of a link that is being opened. */
static void
log_line (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  if (here != NULL) {
    tell (here, level, text);
    return;
  }
  pthread_mutex_lock (&newest_mutex);
  tell (newest, level, text);
  pthread_mutex_unlock (&newest_mutex);
}

static void
log_once (void)
{
  log_set (log_line, NULL);
}

static void
set_newest (struct farpage_link *l)
{
  pthread_mutex_lock (&newest_mutex);
  newest = l;
  pthread_mutex_unlock (&newest_mutex);
}

static void
set_here (void *arg)
{
  here = arg;
}

struct farpage_link *
pager_speak (struct farpage_link *l)
{
  struct farpage_link *was = here;

  here = l;
  return was;
}

void
pager_event (struct farpage_link *l, enum farpage_event event)
{
  if (l->options.event != NULL)
    l->options.event (l->options.arg, event);
}

static void
link_event (void *arg, enum link_event event)
{
  struct farpage_link *l = arg;
  struct farpage_swap *s = l->swap;

  switch (event) {
  case LINK_CONNECTED:
    /* A server that tells instances has fenced off the old session. */
    if (s != NULL && link_instance (s->link) != NULL)
      swap_space_fenced (s->space);
    if (l->file != NULL)
      file_grown (l->file);
    pager_event (l, FARPAGE_CONNECTED);
    break;
  case LINK_DISCONNECTED:
    pager_event (l, FARPAGE_DISCONNECTED);
    break;
  case LINK_LOST:
    if (l->file != NULL)
      file_kill (l->file, "the export is not the one that it was");
    if (s != NULL)
      swap_set_lost (s, "the server has another store now");
    else
      pager_event (l, FARPAGE_LOST);
    break;
  }
  if (s != NULL) {
    s->down = event != LINK_CONNECTED;
    swap_wake (s);
  }
}

static int
link_admit (void *arg, const uint8_t *block)
{
  struct farpage_link *l = arg;

  if (l->swap == NULL || stamp_is_ours (block, &l->swap->stamp))
    return 0;
  return ESTALE;
}

/* ---- calls that are waited for ---- */

void
call_done (struct call *call, int error)
{
  pthread_mutex_lock (&call->mutex);
  call->error = error;
  call->done = true;
  pthread_cond_signal (&call->cond);
  pthread_mutex_unlock (&call->mutex);
}

static void
call_init (struct call *call)
{
  pthread_mutex_init (&call->mutex, NULL);
  pthread_cond_init (&call->cond, NULL);
  call->done = false;
}

static void
call_sleep (struct call *call)
{
  pthread_mutex_lock (&call->mutex);
  while (!call->done)
    pthread_cond_wait (&call->cond, &call->mutex);
  pthread_mutex_unlock (&call->mutex);
}

static void
call_destroy (struct call *call)
{
  pthread_cond_destroy (&call->cond);
  pthread_mutex_destroy (&call->mutex);
}

int
call_wait (struct loop *loop, struct call *call, void (*fn) (struct job *job))
{
  if (loop_is_here (loop))
    return EDEADLK;
  call_init (call);
  call->job.fn = fn;
  loop_post (loop, &call->job);
  call_sleep (call);
  call_destroy (call);
  return call->error;
}

/* ---- link ---- */

void
farpage_options_init (struct farpage_options *o)
{
  memset (o, 0, sizeof *o);
  o->struct_bytes = sizeof *o;
  o->cluster_pages = 16;
  o->async_max = WINDOW_MAX;
  o->deadline_us = DEADLINE_US;
}

static void
link_free (struct farpage_link *l)
{
  free ((char *) l->options.tls_certificates);
  free ((char *) l->options.tls_psk_file);
  free ((char *) l->options.tls_username);
  pthread_cond_destroy (&l->file_gone);
  pthread_mutex_destroy (&l->file_lock);
  free (l);
}

static bool
copy_text (const char **text)
{
  if (*text != NULL)
    *text = strdup (*text);
  return *text != NULL;
}

/* The caller's options, of a header that may be older; texts are copied. */
static int
make_link (const struct farpage_options *options, struct farpage_link **lp)
{
  struct farpage_options o;
  struct farpage_link *l;
  bool want[3], have[3];

  farpage_options_init (&o);
  if (options != NULL) {
    if (options->struct_bytes == 0 || options->struct_bytes > sizeof o)
      return EINVAL;
    memcpy (&o, options, options->struct_bytes);
  }
  if (o.cluster_pages == 0 || o.cluster_pages > FARPAGE_CLUSTER_MAX ||
      o.connections > LINK_CONNS_MAX)
    return EINVAL;
  l = calloc (1, sizeof *l);
  if (l == NULL)
    return ENOMEM;
  want[0] = o.tls_certificates != NULL;
  want[1] = o.tls_psk_file != NULL;
  want[2] = o.tls_username != NULL;
  have[0] = copy_text (&o.tls_certificates);
  have[1] = copy_text (&o.tls_psk_file);
  have[2] = copy_text (&o.tls_username);
  l->options = o;
  pthread_mutex_init (&l->file_lock, NULL);
  pthread_cond_init (&l->file_gone, NULL);
  if (memcmp (want, have, sizeof want) != 0) {
    link_free (l);
    return ENOMEM;
  }
  l->async_min = BDP_MIN;
  l->async_max = o.async_max;
  *lp = l;
  return 0;
}

/* The most is a bound, which the least has to keep. */
static void
set_range (void *arg)
{
  struct farpage_link *l = arg;
  const unsigned min = atomic_load (&l->async_min);
  const unsigned max = atomic_load (&l->async_max);

  link_set_range (atomic_load (&l->link), POOL_WASYNC, min < max ? min : max,
                  max);
}

static int
open_link (struct farpage_link *l, const char *uri)
{
  const struct farpage_options *o = &l->options;
  const struct link_config config = {
    .uri = uri,
    .connections = o->connections,
    .deadline_us = o->deadline_us,
    .report_us = REPORT_US,
    .cluster_bytes = o->cluster_pages * FARPAGE_PAGE,
    .is_volatile = o->is_volatile,
    .tls_certificates = o->tls_certificates,
    .tls_psk_file = o->tls_psk_file,
    .tls_username = o->tls_username,
    .own = o->loop,
    .admit = link_admit,
    .event = link_event,
    .arg = l,
  };
  struct farpage_link *was;
  struct link *link;
  int err;

  set_newest (l);
  was = pager_speak (l);
  err = link_open (&config, &link);
  pager_speak (was);
  if (!err) {
    atomic_store (&l->link, link);
    l->loop = link_loop (link);
  }
  return err;
}

/* Our server has the export read-only for who comes while its writer is just
 * going: his connection ends a moment before he is forgotten.
 */
static int
open_when_free (struct farpage_link *l, const char *uri)
{
  const struct timespec nap = { .tv_nsec =
                                    LEAVING_MS / LEAVING_TRIES * 1000000L };
  int err = open_link (l, uri);

  for (unsigned i = 0; err == 0 && i < LEAVING_TRIES; i++) {
    struct link *link = atomic_load (&l->link);

    if (!link_is_readonly (link) || link_instance (link) == NULL)
      break;
    link_close (link);
    nanosleep (&nap, NULL);
    err = open_link (l, uri);
  }
  return err;
}

int
farpage_link_open (const char *uri, const struct farpage_options *options,
                   struct farpage_link **linkp)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct farpage_link *l;
  int err = uri == NULL ? EINVAL : make_link (options, &l);

  if (err)
    return err;
  pthread_once (&once, log_once);
  err = open_when_free (l, uri);
  if (!err && l->options.loop == NULL)
    loop_call (l->loop, set_here, l);
  else if (!err)
    set_here (l);
  set_newest (NULL);
  if (!err && link_is_readonly (atomic_load (&l->link))) {
    link_close (atomic_load (&l->link));
    err = EROFS;
  }
  if (err) {
    link_free (l);
    return err;
  }
  farpage_set_async_max (l, l->options.async_max);
  *linkp = l;
  return 0;
}

static bool
is_idle (const struct farpage_link *l)
{
  return !l->opening && l->swap == NULL && l->file == NULL;
}

/* [loop] NULL: it is in use. */
static void
claim (void *arg)
{
  struct farpage_link **l = arg;

  if (is_idle (*l))
    (*l)->opening = true;
  else
    *l = NULL;
}

int
pager_claim (struct farpage_link *l)
{
  struct farpage_link *ours = l;
  int err = loop_call (l->loop, claim, &ours);

  if (err == 0 && ours == NULL)
    err = EBUSY;
  return err;
}

int
farpage_link_close (struct farpage_link *l)
{
  int err = pager_claim (l);

  if (err)
    return err;
  link_close (atomic_load (&l->link));
  if (here == l)
    here = NULL;
  link_free (l);
  return 0;
}

/* On the loop's own thread at once, else there. */
static int
on_loop (struct loop *loop, void (*fn) (void *arg), void *arg)
{
  if (!loop_is_here (loop))
    return loop_call (loop, fn, arg);
  fn (arg);
  return 0;
}

int
farpage_set_async_max (struct farpage_link *l, unsigned clusters)
{
  atomic_store (&l->async_max, clusters);
  return on_loop (l->loop, set_range, l);
}

int
farpage_set_async_min (struct farpage_link *l, unsigned clusters)
{
  atomic_store (&l->async_min, clusters);
  return on_loop (l->loop, set_range, l);
}

/* ---- pages ---- */

static void
op_job (struct job *job)
{
  struct op *op = (struct op *) job;

  op->go (op);
}

static int
make_op (const struct op *how, void *const addr[], bool beyond, struct op **opp)
{
  struct farpage_swap *s = how->object->swap;
  struct op *op;

  if (atomic_fetch_add (&s->nr_ops, 1) >= SWAP_OPS_MAX && !beyond) {
    atomic_fetch_sub (&s->nr_ops, 1);
    return EAGAIN;
  }
  op = malloc (sizeof *op + how->count * sizeof op->addr[0]);
  if (op == NULL) {
    atomic_fetch_sub (&s->nr_ops, 1);
    return ENOMEM;
  }
  *op = *how;
  memcpy (op->addr, addr, how->count * sizeof op->addr[0]);
  *opp = op;
  return 0;
}

int
pager_post (const struct op *how, void *const addr[], bool beyond)
{
  struct op *op;
  int err = make_op (how, addr, beyond, &op);

  if (err)
    return err;
  op->job.fn = op_job;
  loop_post (how->object->swap->loop, &op->job);
  return 0;
}

int
pager_begin (const struct op *how, void *const addr[])
{
  struct op *op;
  int err = make_op (how, addr, false, &op);

  if (!err)
    op->go (op);
  return err;
}

int
farpage_aio_getpages (struct farpage_object *o, uint64_t first, unsigned count,
                      unsigned req, void *const addr[], int flags,
                      farpage_page_fn *fn, void *arg)
{
  const struct op how = { .object = o,
                          .go = get_go,
                          .first = first,
                          .count = count,
                          .req = req,
                          .flags = flags,
                          .fn = fn,
                          .arg = arg };

  if (count == 0 || count > FARPAGE_COUNT_MAX || req >= count ||
      (flags & ~FARPAGE_AHEAD) != 0)
    return EINVAL;
  return pager_post (&how, addr, false);
}

int
farpage_aio_putpages (struct farpage_object *o, uint64_t first, unsigned count,
                      void *const addr[], int flags, farpage_page_fn *fn,
                      void *arg)
{
  const struct op how = { .object = o,
                          .go = put_go,
                          .first = first,
                          .count = count,
                          .flags = flags,
                          .fn = fn,
                          .arg = arg };

  if (count == 0 || count > FARPAGE_COUNT_MAX || (flags & ~FARPAGE_SYNC) != 0)
    return EINVAL;
  return pager_post (&how, addr, false);
}

/* Of a sync call: the last result wakes it. */
struct sync_pages {
  struct call call;
  uint64_t first;
  unsigned left; /* [loop] */
  enum farpage_result *results;
};

static void
page_of_call (void *arg, uint64_t page, enum farpage_result result)
{
  struct sync_pages *p = arg;

  p->results[page - p->first] = result;
  if (--p->left == 0)
    call_done (&p->call, 0);
}

int
farpage_getpages (struct farpage_object *o, uint64_t first, unsigned count,
                  unsigned req, void *const addr[],
                  enum farpage_result results[])
{
  struct sync_pages p = { .first = first, .left = count, .results = results };
  int err;

  if (loop_is_here (o->swap->loop))
    return EDEADLK;
  call_init (&p.call);
  err = farpage_aio_getpages (o, first, count, req, addr, 0, page_of_call, &p);
  if (!err)
    call_sleep (&p.call);
  call_destroy (&p.call);
  return err;
}

int
farpage_putpages (struct farpage_object *o, uint64_t first, unsigned count,
                  void *const addr[], enum farpage_result results[])
{
  struct sync_pages p = { .first = first, .left = count, .results = results };
  int err;

  if (loop_is_here (o->swap->loop))
    return EDEADLK;
  call_init (&p.call);
  err = farpage_aio_putpages (o, first, count, addr, FARPAGE_SYNC, page_of_call,
                              &p);
  if (!err)
    call_sleep (&p.call);
  call_destroy (&p.call);
  return err;
}
