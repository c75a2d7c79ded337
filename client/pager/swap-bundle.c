/* SPDX-License-Identifier: BSD-2-Clause */
/* Puts that leave as one write.  Called by swap-put.c; calls the link.
 *
 *   put: pages 7..9   blocks 40 41 42 \
 *   put: page 300     block  43        > bundle: one write of blocks 40 to 45
 *   put: pages 1, 2   blocks 44 45    /
 *
 * Fresh blocks follow each other from put to put, so single pages from anywhere
 * in any object make a whole cluster.  Sync and async puts have an open bundle
 * each, which leaves
 *
 *   - when it is a cluster, or a put does not go on from it;
 *   - at the end of the loop's turn, if it is sync, or nothing async is under
 *     way, so that nobody waits for company that may not come;
 *   - HOLD_S after that in any case (after Nagle, RFC 896).
 *
 * A put may begin in the link's pass, when one has failed or has waited: the
 * end of the turn is past then, so the loop goes round once more without
 * waiting.
 *
 * A put alone whose memory is in one piece leaves from there; else its content
 * is copied into the bundle when it joins.
 *
 * Invariants (bundles_check, a part of swap_check):
 * B1. A bundle's puts have its blocks, in order and without a gap.
 * B2. nr_async is the async bundles with the link.
 * B3. A bundle is either with the link or open[sync], and then it is less than
 *     a cluster, and the turn's end or the timer will send it.
 * B4. A page that is being put is in one bundle.
 * B5. Without memory of its own it has one put, whose memory is in one piece.
 *
 * It ends for all its puts in the same way, and each does what it has to.
 */

#include <config.h>

#include "swap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "types.h"

#define HOLD_S 0.001

static uint8_t *
content_of (const struct put *put)
{
  return put->op->addr[put->first - put->op->first];
}

/* ---- the end ---- */

static void
bundle_done (struct request *req)
{
  struct bundle *b = (struct bundle *) req;
  struct farpage_swap *s = b->swap;
  struct put *put = b->first;

  if (!b->sync)
    s->nr_async--;
  *(b->prev != NULL ? &b->prev->next : &s->bundles) = b->next;
  if (b->next != NULL)
    b->next->prev = b->prev;
  s->nr_runs += req->error == 0;
  while (put != NULL) {
    struct put *next = put->next;

    put->stayed = !req->left;
    put_ended (put, req->error);
    put = next;
  }
  free (b->own);
  free (b);
  swap_trim (s, false);
  swap_wake (s);
}

/* The connection that had it is lost.  Other blocks, as many in one run; else
 * its puts come back and go by themselves.
 */
static int
bundle_elsewhere (struct request *req)
{
  struct bundle *b = (struct bundle *) req;
  struct farpage_swap *s = b->swap;
  uint64_t blk, nr;
  int err;

  if (s->lost)
    return EIO;
  err = swap_space_take (s->space, b->nr, &blk, &nr);
  if (!err && nr < b->nr) {
    swap_space_return (s->space, blk, nr);
    err = ENOSPC;
  }
  for (struct put *put = b->first; put != NULL; put = put->next) {
    if (err)
      put->astray = true;
    else
      put_move (put, blk + (put->blk - b->blk));
  }
  if (err)
    return EAGAIN;
  swap_space_limbo (s->space, b->blk, b->nr);
  b->blk = blk;
  req->off_bytes = blk << PAGE_SHIFT;
  return 0;
}

/* ---- the begin ---- */

static void
send (struct farpage_swap *s, bool sync)
{
  struct bundle *b = s->open[sync];
  struct request *req;

  if (b == NULL)
    return;
  s->open[sync] = NULL;
  b->sent = true;
  if (!sync)
    ev_timer_stop (loop_ev (s->loop), &s->hold);
  req = &b->req;
  req->kind = REQUEST_WRITE;
  req->pool = sync ? POOL_WSYNC : POOL_WASYNC;
  req->off_bytes = b->blk << PAGE_SHIFT;
  req->len_bytes = b->nr << PAGE_SHIFT;
  req->data = b->own != NULL ? b->own : content_of (b->first);
  req->done = bundle_done;
  req->elsewhere = bundle_elsewhere;
  if (!sync)
    s->nr_async++;
  link_submit (s->link, req);
}

static void
copy_in (struct bundle *b, const struct put *put)
{
  uint8_t *to = b->own + ((put->blk - b->blk) << PAGE_SHIFT);
  void *const *addr = put->op->addr + (put->first - put->op->first);

  for (unsigned i = 0; i < put->nr; i++)
    page_copy (to + ((size_t) i << PAGE_SHIFT), addr[i], 1);
}

/* It has memory for all that it may become, and what it has so far in it. */
static bool
gather (struct bundle *b)
{
  if (b->own != NULL)
    return true;
  b->own = malloc ((size_t) b->swap->cluster << PAGE_SHIFT);
  if (b->own == NULL)
    return false;
  for (const struct put *put = b->first; put != NULL; put = put->next)
    copy_in (b, put);
  return true;
}

static struct bundle *
make (struct farpage_swap *s, const struct put *put, bool sync)
{
  struct bundle *b = calloc (1, sizeof *b);

  if (b == NULL)
    return NULL;
  b->swap = s;
  b->sync = sync;
  b->tail = &b->first;
  b->blk = put->blk;
  if (op_in_one_piece (put->op, put->first - put->op->first, put->nr) ||
      gather (b))
    return b;
  free (b);
  return NULL;
}

int
bundle_add (struct put *put, bool sync)
{
  struct farpage_swap *s = put->object->swap;
  struct bundle *b = s->open[sync];

  if (b != NULL && (b->blk + b->nr != put->blk ||
                    b->nr + put->nr > s->cluster || !gather (b))) {
    send (s, sync);
    b = NULL;
  }
  if (b == NULL)
    b = make (s, put, sync);
  if (b == NULL)
    return ENOMEM;
  if (s->open[sync] == NULL) {
    b->next = s->bundles;
    if (b->next != NULL)
      b->next->prev = b;
    s->bundles = s->open[sync] = b;
  }
  if (b->own != NULL)
    copy_in (b, put);
  put->next = NULL;
  *b->tail = put;
  b->tail = &put->next;
  b->nr += put->nr;
  if (b->nr == s->cluster) {
    send (s, sync);
  } else {
    ev_prepare_start (loop_ev (s->loop), &s->turn);
    ev_idle_start (loop_ev (s->loop), &s->soon);
  }
  return 0;
}

/* ---- when ---- */

static void
at_turn (struct ev_loop *ev, ev_prepare *w, int revents)
{
  struct farpage_swap *s = w->data;

  (void) revents;
  ev_prepare_stop (ev, w);
  ev_idle_stop (ev, &s->soon);
  send (s, true);
  if (s->nr_async == 0)
    send (s, false);
  else if (s->open[false] != NULL && !ev_is_active (&s->hold)) {
    ev_timer_set (&s->hold, HOLD_S, 0);
    ev_timer_start (ev, &s->hold);
  }
}

static void
on_hold (struct ev_loop *ev, ev_timer *w, int revents)
{
  (void) ev;
  (void) revents;
  send (w->data, false);
}

void
bundles_start (struct farpage_swap *s)
{
  ev_prepare_init (&s->turn, at_turn);
  ev_set_priority (&s->turn, EV_MAXPRI); /* before the link looks */
  s->turn.data = s;
  ev_idle_init (&s->soon, loop_go_on);
  ev_timer_init (&s->hold, on_hold, HOLD_S, 0);
  s->hold.data = s;
}

void
bundles_stop (struct farpage_swap *s)
{
  assert (s->open[false] == NULL && s->open[true] == NULL);
  ev_prepare_stop (loop_ev (s->loop), &s->turn);
  ev_idle_stop (loop_ev (s->loop), &s->soon);
  ev_timer_stop (loop_ev (s->loop), &s->hold);
}

/* ---- recount ---- */

static bool
will_leave (const struct farpage_swap *s, const struct bundle *b)
{
  return s->open[b->sync] == b && b->nr > 0 && b->nr < s->cluster &&
         ((ev_is_active (&s->turn) && ev_is_active (&s->soon)) ||
          (!b->sync && (ev_is_active (&s->hold) || ev_is_pending (&s->hold))));
}

static const char *
check_bundle (const struct bundle *b, uint64_t *nr_pages)
{
  uint64_t nr = 0;

  for (const struct put *p = b->first; p != NULL; p = p->next) {
    if (p->blk != b->blk + nr)
      return "the blocks of a bundle";
    for (unsigned i = 0; i < p->nr; i++)
      if (put_find (p->object, p->first + i) != &p->page[i])
        return "a page in a bundle is not being put";
    nr += p->nr;
  }
  *nr_pages += nr;
  if (nr != b->nr)
    return "the length of a bundle";
  if (b->own == NULL &&
      (b->first->next != NULL ||
       !op_in_one_piece (b->first->op, b->first->first - b->first->op->first,
                         b->first->nr)))
    return "a bundle in pieces has no memory";
  return NULL;
}

const char *
bundles_check (const struct farpage_swap *s)
{
  uint64_t nr_pages = 0;
  unsigned nr_async = 0;

  for (const struct bundle *b = s->bundles; b != NULL; b = b->next) {
    const char *wrong = check_bundle (b, &nr_pages);

    if (wrong != NULL)
      return wrong;
    if (!b->sent && !will_leave (s, b))
      return "an open bundle that nobody sends";
    if (b->sent && b == s->open[b->sync])
      return "an open bundle is with the link";
    nr_async += b->sent && !b->sync;
  }
  for (unsigned i = 0; i < SWAP_PUT_PAGES; i++)
    for (const struct put_page *p = s->puts[i]; p != NULL; p = p->next)
      nr_pages--;
  if (nr_pages != 0)
    return "a page that is being put is in no bundle";
  return nr_async == s->nr_async ? NULL : "the count of async bundles";
}
