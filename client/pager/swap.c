/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager: opening and closing, what waits, trims and time.  Called by
 * pager.c; swap.h has the picture of the files.
 *
 *   op: posted --> begun (object.paging) --> every page has a result --> gone
 *         |  ^
 *         v  | swap_wake (): something has ended
 *        parked: its object is claimed by a copy; or, a put, there are
 *                SWAP_REQUESTS_MAX requests, or it waits for another put
 *
 * Invariants (swap_check):
 * S1. The blocks that the space calls used are those that entries, puts and
 *     displaced words name, each named once.
 * S2. Not more than SWAP_TRIMS_MAX trims; a block under trim is in no entry.
 * S3. An op that is parked and has begun counts in paging, one that has not in
 *     nr_parked; an object with either is not freed.
 *
 * Trims leave when enough has come together (after each request's end) or
 * after a second, and what they held is free at their answer, not before: a
 * late one would take pages that came there since.
 *
 * No locks: all of it is the loop's, but open and close themselves, which run
 * on the caller's thread and go to the loop by loop_call () and call_wait ().
 */

#include <config.h>

#include "swap.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"
#include "size.h"
#include "swzone.h"
#include "types.h"

/* ---- ops ---- */

bool
op_has (const struct op *op, unsigned i)
{
  const uint64_t nr = op->object->nr_pages;

  return op->first < nr && i < nr - op->first;
}

bool
op_in_one_piece (const struct op *op, unsigned from, unsigned nr)
{
  for (unsigned i = 1; i < nr; i++)
    if ((char *) op->addr[from + i] !=
        (char *) op->addr[from] + ((size_t) i << PAGE_SHIFT))
      return false;
  return true;
}

void
op_park (struct op *op)
{
  struct farpage_swap *s = op->object->swap;

  op->next = NULL;
  *s->parked_tail = op;
  s->parked_tail = &op->next;
  if (!op->begun)
    op->object->nr_parked++;
}

bool
op_begin (struct op *op)
{
  struct farpage_object *o = op->object;

  if (op->begun)
    return true;
  if (o->nr_claimed > 0 && !o->dead) {
    op_park (op);
    return false;
  }
  op->begun = true;
  op->nr_left = op->count + 1;
  o->paging++;
  return true;
}

void
op_result (struct op *op, unsigned i, enum farpage_result result)
{
  assert (op->nr_left > 1);
  op->nr_left--;
  if (op->fn != NULL)
    op->fn (op->arg, op->first + i, result);
}

void
op_results (struct op *op, unsigned from, unsigned to,
            enum farpage_result result)
{
  for (unsigned i = from; i < to; i++)
    op_result (op, i,
               result == FARPAGE_AGAIN && !op_has (op, i) ? FARPAGE_BAD
                                                          : result);
}

void
op_release (struct op *op)
{
  struct farpage_object *o = op->object;
  struct farpage_swap *s = o->swap;

  if (--op->nr_left > 0)
    return;
  o->paging--;
  atomic_fetch_sub (&s->nr_ops, 1);
  free (op);
  swap_wake (s);
}

/* ---- waiting ---- */

/* Each once, in their order; those that cannot go on are parked again.  With
 * no more requests to be had the rest stays as it is.
 */
static void
wake_parked (struct farpage_swap *s)
{
  struct op *op = s->parked, *last = NULL;

  s->parked = NULL;
  s->parked_tail = &s->parked;
  while (op != NULL && s->nr_requests < SWAP_REQUESTS_MAX) {
    struct op *next = op->next;

    if (!op->begun)
      op->object->nr_parked--;
    op->go (op);
    op = next;
  }
  if (op == NULL)
    return;
  *s->parked_tail = op;
  for (last = op; last->next != NULL; last = last->next)
    ;
  s->parked_tail = &last->next;
}

static void
wake_waiters (struct farpage_swap *s)
{
  struct waiter *w = s->waiters, **tail = &s->waiters;

  s->waiters = NULL;
  while (w != NULL) {
    struct waiter *next = w->next; /* w is its owner's when try is true */

    if (!w->try (w)) {
      while (*tail != NULL)
        tail = &(*tail)->next;
      w->next = NULL;
      *tail = w;
    }
    w = next;
  }
}

void
swap_wake (struct farpage_swap *s)
{
  s->wake_again = true;
  if (s->waking)
    return;
  s->waking = true;
  while (s->wake_again) {
    s->wake_again = false;
    wake_parked (s);
    wake_waiters (s);
  }
  s->waking = false;
}

void
swap_wait (struct farpage_swap *s, struct waiter *w)
{
  struct waiter **tail = &s->waiters;

  w->since_us = w->told_us = loop_now_us (s->loop);
  w->next = NULL;
  while (*tail != NULL)
    tail = &(*tail)->next;
  *tail = w;
  swap_wake (s);
}

static void
report_waiters (struct farpage_swap *s)
{
  const uint64_t now = loop_now_us (s->loop);
  char human[HUMAN_BYTES];

  for (struct waiter *w = s->waiters; w != NULL; w = w->next) {
    if (now - w->told_us < SWAP_REPORT_US)
      continue;
    w->told_us = now;
    log_write (LOG_WARNING, "swap: %s has waited for paging for %s", w->what,
               time_human ((double) (now - w->since_us) / 1e6, human));
  }
}

/* ---- trims ---- */

void
swap_quiet (struct farpage_swap *s)
{
  struct call *closer = s->closer;

  if (closer == NULL || s->beating)
    return;
  for (unsigned i = 0; i < SWAP_TRIMS_MAX; i++)
    if (s->trim[i].busy)
      return;
  s->closer = NULL;
  call_done (closer, 0);
}

static void
trim_done (struct request *req)
{
  struct trim *t = (struct trim *) req;
  struct farpage_swap *s = t->swap;

  t->busy = false;
  if (t->lost || (req->error == ETIMEDOUT && req->left))
    swap_space_trim_lost (s->space, t->blk, t->nr);
  else
    swap_space_trimmed (s->space, t->blk, t->nr);
  swap_trim (s, s->closer != NULL);
  swap_quiet (s);
}

static int
trim_elsewhere (struct request *req)
{
  ((struct trim *) req)->lost = true;
  return EIO;
}

void
swap_trim (struct farpage_swap *s, bool all)
{
  swap_tidy (s);
  for (unsigned i = 0; i < SWAP_TRIMS_MAX; i++) {
    struct trim *t = &s->trim[i];

    if (t->busy || s->lost)
      continue;
    if (!swap_space_next_trim (s->space, all, &t->blk, &t->nr))
      return;
    t->busy = true;
    t->lost = false;
    t->req = (struct request){ .kind = REQUEST_TRIM,
                               .pool = POOL_ADMIN,
                               .off_bytes = t->blk << PAGE_SHIFT,
                               .len_bytes = (uint32_t) (t->nr << PAGE_SHIFT),
                               .done = trim_done,
                               .elsewhere = trim_elsewhere };
    link_submit (s->link, &t->req);
  }
}

static void
each_second (struct ev_loop *ev, ev_timer *w, int events)
{
  struct farpage_swap *s = w->data;

  (void) ev;
  (void) events;
  swap_trim (s, true);
  report_waiters (s);
  swap_wake (s);
}

static void
each_beat (struct ev_loop *ev, ev_timer *w, int events)
{
  (void) ev;
  (void) events;
  swap_stamp_beat (w->data);
}

/* ---- what becomes of it ---- */

void
swap_set_lost (struct farpage_swap *s, const char *why)
{
  if (s->lost)
    return;
  s->lost = true;
  log_write (LOG_ERROR, "swap: what was paged out is lost: %s", why);
  pager_event (s->owner, FARPAGE_LOST);
  swap_wake (s);
}

static void
level_changed (void *arg, enum swap_space_level level)
{
  struct farpage_swap *s = arg;
  const enum swap_space_level was = s->level;

  s->level = level;
  if (level == SWAP_FULL) {
    log_write (LOG_ERROR, "swap: the export is full");
    pager_event (s->owner, FARPAGE_FULL);
  } else if (level == SWAP_ROOM) {
    log_write (LOG_INFO, "swap: there is room again");
    pager_event (s->owner, FARPAGE_ROOM);
  } else if (was == SWAP_ROOM) {
    log_write (LOG_WARNING, "swap: the export is almost full");
    pager_event (s->owner, FARPAGE_ALMOST_FULL);
  }
}

/* ---- opening ---- */

/* Memory for the maps of all blocks, even if no two pages of them share a
 * swblock or a shard; a third less, and again, until half of the machine's
 * would do.
 */
static int
make_zone (struct farpage_swap *s)
{
  const uint64_t page_bytes =
      SWBLOCK_PAGES * sizeof (uint64_t) + 16 + SWZONE_SHARD_BYTES;
  const uint64_t most = (uint64_t) sysconf (_SC_PHYS_PAGES) / 2 *
                        (uint64_t) sysconf (_SC_PAGESIZE);
  uint64_t want = s->nr_blocks * page_bytes + (UINT64_C (1) << 20);
  const uint64_t all = want;
  char a[HUMAN_BYTES], b[HUMAN_BYTES];

  while (want > most)
    want -= want / 3;
  if (want < all)
    log_write (LOG_WARNING, "swap: %s for page maps instead of %s",
               size_human (want, a), size_human (all, b));
  return swzone_create (sizeof (uint64_t), want, &s->zone);
}

static int
make_space (struct farpage_swap *s)
{
  const struct swap_space_config config = {
    .nr_blocks = s->nr_blocks,
    .trim = link_can_trim (s->link),
    .trim_max =
        (uint32_t) min_u64 (link_request_max (s->link), 32u << 20) / PAGE_BYTES,
    .level = level_changed,
    .arg = s,
  };

  return swap_space_create (&config, &s->space);
}

static void
swap_free (struct farpage_swap *s)
{
  swap_space_destroy (s->space);
  if (s->zone != NULL)
    swzone_destroy (s->zone);
  free (s->block);
  free (s);
}

static int
swap_make (struct farpage_link *l, struct farpage_swap **swapp)
{
  struct farpage_swap *s = calloc (1, sizeof *s);
  int err = ENOMEM;

  if (s == NULL)
    return ENOMEM;
  s->owner = l;
  s->link = atomic_load (&l->link);
  s->loop = l->loop;
  s->parked_tail = &s->parked;
  s->nr_blocks =
      min_u64 (link_size_bytes (s->link) / PAGE_BYTES, BLKNO_PLACE_MAX);
  s->cluster = (unsigned) min_u64 (l->options.cluster_pages,
                                   link_request_max (s->link) / PAGE_BYTES);
  for (unsigned i = 0; i < SWAP_TRIMS_MAX; i++)
    s->trim[i].swap = s;
  s->block = aligned_alloc (STAMP_BYTES, STAMP_BYTES);
  if (s->block != NULL)
    err = make_zone (s);
  if (!err)
    err = make_space (s);
  if (err) {
    swap_free (s);
    return err;
  }
  *swapp = s;
  return 0;
}

struct opening {
  struct farpage_link *link;
  struct farpage_swap *swap;
};

/* It is open, or it is not (no swap). */
static void
install (void *arg)
{
  struct opening *o = arg;
  struct farpage_swap *s = o->swap;
  const double beat = (double) STAMP_BEAT_US / 1e6;

  o->link->opening = false;
  if (s == NULL)
    return;
  o->link->swap = s;
  link_set_rules (s->link, (struct link_rules){ .asks = true });
  bundles_start (s);
  steps_start (s);
  ev_timer_init (&s->second, each_second, 1, 1);
  s->second.data = s;
  ev_timer_start (loop_ev (s->loop), &s->second);
  ev_timer_init (&s->beat_timer, each_beat, beat, beat);
  s->beat_timer.data = s;
  ev_timer_start (loop_ev (s->loop), &s->beat_timer);
}

int
farpage_swap_open (struct farpage_link *l, struct farpage_swap **swapp)
{
  struct link *link = atomic_load (&l->link);
  struct opening o = { .link = l };
  struct farpage_link *was;
  int err;

  if (link_size_bytes (link) / PAGE_BYTES < SWAP_BLOCKS_MIN)
    return ENOSPC;
  if (link_block_bytes (link) > PAGE_BYTES)
    return EPROTO;
  err = pager_claim (l);
  if (err)
    return err;
  was = pager_speak (l);
  err = swap_make (l, &o.swap);
  if (!err)
    err = swap_stamp_open (o.swap, l->options.takeover);
  pager_speak (was);
  if (err && o.swap != NULL) {
    swap_free (o.swap);
    o.swap = NULL;
  }
  loop_call (l->loop, install, &o);
  if (!err)
    *swapp = o.swap;
  return err;
}

/* ---- closing ---- */

struct closing {
  struct call call; /* first */
  struct farpage_swap *swap;
};

static void
close_start (struct job *job)
{
  struct closing *c = (struct closing *) job;
  struct farpage_swap *s = c->swap;

  if (s->nr_objects > 0) {
    call_done (&c->call, EBUSY);
    return;
  }
  ev_timer_stop (loop_ev (s->loop), &s->second);
  ev_timer_stop (loop_ev (s->loop), &s->beat_timer);
  bundles_stop (s);
  s->closer = &c->call;
  while (!swap_space_tidy (s->space, SWAP_STEP_PAGES))
    ;
  swap_trim (s, true);
  swap_quiet (s);
}

static void
uninstall (void *arg)
{
  struct farpage_swap *s = arg;

  steps_stop (s);
  s->owner->swap = NULL;
  link_set_rules (s->link, (struct link_rules){ .asks = false });
}

int
farpage_swap_close (struct farpage_swap *s)
{
  struct closing c = { .swap = s };
  struct farpage_link *was;
  int err = call_wait (s->loop, &c.call, close_start);

  if (err)
    return err;
  was = pager_speak (s->owner);
  err = swap_stamp_close (s);
  if (err)
    log_write (LOG_WARNING,
               "swap: not closed on the server (error %d); the "
               "next open will wait to see whether it is in use",
               err);
  pager_speak (was);
  loop_call (s->loop, uninstall, s);
  swap_free (s);
  return 0;
}
