/* SPDX-License-Identifier: BSD-2-Clause */
/* getpages.  Called by the loop with an op; calls cluster for the row of
 * blocks around the wanted page, and the link.
 *
 *     first        req                 first + count
 *     | a a a | r r W r r r | a a a a a |      W: wanted, r: in one row with it
 *               before W after                 a: AGAIN, given back
 *
 * A short row is one request.  Of a long one W goes by itself, so that nothing
 * is in front of it on the way back, and the two sides follow as read-ahead.
 * Long: more than the link carries in an eighth of a round trip.
 *
 * A page that is being put is copied from the put's memory, for its block may
 * not have it yet; a row ends at such a page.  A page that is reserved reads as
 * zeros.  A read that failed is tried once more for the wanted page alone, but
 * not after its deadline; the others are given back, whoever wants them asks
 * for them.
 *
 * A read holds a ticket of the space from its submission to its end, so its
 * blocks are not written by others meanwhile, whatever becomes of the entries.
 * Memory that cannot be had makes AGAIN, never an error.
 */

#include <config.h>

#include "swap.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"

#define ALONE_MIN      4u /* pages */
#define ALONE_EVERY_US UINT64_C (100000)

struct get {
  struct request req; /* first */
  struct op *op;
  unsigned from, nr; /* pages of the op */
  uint64_t blk;
  uint64_t ticket;
  uint8_t *own; /* pages that do not lie in one piece, or NULL */
};

static void get_done (struct request *req);

static bool
has_wanted (const struct get *g)
{
  return g->op->req - g->from < g->nr;
}

/* The wanted page first. */
static void
get_results (struct get *g, enum farpage_result result)
{
  struct op *op = g->op;
  const bool wanted = has_wanted (g);

  if (wanted)
    op_result (op, op->req, result);
  for (unsigned i = g->from; i < g->from + g->nr; i++)
    if (!wanted || i != op->req)
      op_result (op, i, result);
}

static void
get_end (struct get *g, enum farpage_result result)
{
  struct op *op = g->op;
  struct farpage_swap *s = op->object->swap;

  swap_space_read_end (s->space, g->ticket);
  if (result == FARPAGE_OK) {
    for (unsigned i = 0; g->own != NULL && i < g->nr; i++)
      page_copy (op->addr[g->from + i], g->own + ((size_t) i << PAGE_SHIFT), 1);
    s->nr_got += g->nr;
  } else if (result == FARPAGE_ERROR) {
    s->nr_failed += g->nr;
  }
  get_results (g, result);
  op_release (op);
  free (g->own);
  free (g);
  s->nr_requests--;
  swap_trim (s, false);
  swap_wake (s);
}

static void
get_submit (struct get *g)
{
  const struct op *op = g->op;
  const bool demand = has_wanted (g) && (op->flags & FARPAGE_AHEAD) == 0;

  g->req = (struct request){
    .kind = REQUEST_READ,
    .pool = demand ? POOL_DEMAND : POOL_AHEAD,
    .off_bytes = g->blk << PAGE_SHIFT,
    .len_bytes = g->nr << PAGE_SHIFT,
    .data = g->own != NULL ? g->own : op->addr[g->from],
    .done = get_done,
  };
  link_submit (op->object->swap->link, &g->req);
}

/* All but the wanted page is given back. */
static void
get_narrow (struct get *g)
{
  struct op *op = g->op;
  const unsigned from = g->from, nr = g->nr;

  g->blk += op->req - from;
  g->from = op->req;
  g->nr = 1;
  free (g->own);
  g->own = NULL;
  op_results (op, from, op->req, FARPAGE_AGAIN);
  op_results (op, op->req + 1, from + nr, FARPAGE_AGAIN);
}

static void
get_done (struct request *req)
{
  struct get *g = (struct get *) req;
  const bool lost = g->op->object->swap->lost;

  if (req->error == 0 && !lost) {
    get_end (g, FARPAGE_OK);
  } else if (!has_wanted (g)) {
    get_end (g, FARPAGE_AGAIN);
  } else if (g->nr == 1 || lost) {
    get_end (g, FARPAGE_ERROR);
  } else if (req->error == ETIMEDOUT) {
    get_narrow (g);
    get_end (g, FARPAGE_ERROR);
  } else {
    get_narrow (g);
    get_submit (g);
  }
}

static void get_part (struct op *op, unsigned from, unsigned nr, uint64_t blk);

/* No memory for these pages: none of them, or only the wanted one. */
static void
get_less (struct op *op, unsigned from, unsigned nr, uint64_t blk)
{
  const bool wanted = op->req - from < nr && nr > 1;

  if (wanted) {
    op_results (op, from, op->req, FARPAGE_AGAIN);
    op_results (op, op->req + 1, from + nr, FARPAGE_AGAIN);
    get_part (op, op->req, 1, blk + op->req - from);
  } else {
    op_results (op, from, from + nr, FARPAGE_AGAIN);
  }
}

/* Read pages [from, from + nr) of the op from blk on. */
static void
get_part (struct op *op, unsigned from, unsigned nr, uint64_t blk)
{
  struct farpage_swap *s = op->object->swap;
  const bool scattered = !op_in_one_piece (op, from, nr);
  struct get *g;

  if (nr == 0)
    return;
  g = calloc (1, sizeof *g);
  if (g != NULL && scattered) {
    g->own = malloc ((size_t) nr << PAGE_SHIFT);
    if (g->own == NULL) {
      free (g);
      g = NULL;
    }
  }
  if (g == NULL) {
    get_less (op, from, nr, blk);
    return;
  }
  g->op = op;
  g->from = from;
  g->nr = nr;
  g->blk = blk;
  g->ticket = swap_space_read_begin (s->space);
  op->nr_left++;
  s->nr_requests++;
  get_submit (g);
}

/* Pages that the link carries in an eighth of a round trip. */
static unsigned
alone_pages (struct farpage_swap *s)
{
  const uint64_t now = loop_now_us (s->loop);
  struct link_stat st;
  unsigned __int128 pages;

  if (s->alone_pages > 0 && now - s->alone_us < ALONE_EVERY_US)
    return s->alone_pages;
  link_stat (s->link, &st);
  pages = (unsigned __int128) st.pool[POOL_AHEAD].rate *
          st.pool[POOL_AHEAD].rt_us / 8 / 1000000 / FARPAGE_PAGE;
  if (pages > FARPAGE_CLUSTER_MAX)
    pages = FARPAGE_CLUSTER_MAX;
  s->alone_pages = pages > ALONE_MIN ? (unsigned) pages : ALONE_MIN;
  s->alone_us = now;
  return s->alone_pages;
}

/* The row around the wanted page, which has the block blk. */
static void
get_row (struct op *op, uint64_t blk)
{
  struct farpage_object *o = op->object;
  struct farpage_swap *s = o->swap;
  const uint64_t page = op->first + op->req;
  uint64_t from, nr, lo = page, hi = page + 1;
  unsigned before, after;

  if (!cluster_around (o->map, op->first,
                       min_u64 (op->count, o->nr_pages - op->first), page,
                       s->cluster, &from, &nr))
    from = page, nr = 1;
  while (lo > from && (o->nr_puts == 0 || put_find (o, lo - 1) == NULL))
    lo--;
  while (hi < from + nr && (o->nr_puts == 0 || put_find (o, hi) == NULL))
    hi++;
  before = page - lo;
  after = hi - page - 1;
  if (before + 1 + after <= alone_pages (s)) {
    get_part (op, op->req - before, before + 1 + after, blk - before);
  } else {
    get_part (op, op->req, 1, blk);
    get_part (op, op->req + 1, after, blk + 1);
    get_part (op, op->req - before, before, blk - before);
  }
  op_results (op, 0, op->req - before, FARPAGE_AGAIN);
  op_results (op, op->req + after + 1, op->count, FARPAGE_AGAIN);
}

static void
get_one (struct op *op, enum farpage_result result)
{
  op_result (op, op->req, result);
  op_results (op, 0, op->req, FARPAGE_AGAIN);
  op_results (op, op->req + 1, op->count, FARPAGE_AGAIN);
}

void
get_go (struct op *op)
{
  struct farpage_object *o = op->object;
  struct put_page *p;
  uint64_t word;

  if (!op_begin (op))
    return;
  if (o->dead || o->swap->lost) {
    op_result (op, op->req, FARPAGE_ERROR);
    op_results (op, 0, op->req, FARPAGE_ERROR);
    op_results (op, op->req + 1, op->count, FARPAGE_ERROR);
  } else if (!op_has (op, op->req)) {
    get_one (op, FARPAGE_BAD);
  } else if ((p = put_find (o, op->first + op->req)) != NULL && !p->dropped) {
    page_copy (op->addr[op->req], put_addr (p), 1);
    get_one (op, FARPAGE_OK);
  } else if ((word = swap_object_word (o, op->first + op->req)) == 0) {
    get_one (op, FARPAGE_FAIL);
  } else if (swmeta_kind (word) == SWMETA_ZERO) {
    memset (op->addr[op->req], 0, FARPAGE_PAGE);
    get_one (op, FARPAGE_OK);
  } else {
    get_row (op, swmeta_blkno (word));
  }
  op_release (op);
}
