/* SPDX-License-Identifier: BSD-2-Clause */
/* The pools: what may be under way, of each kind of request.
 *
 *   request --has_room, take--> pool [nr | bytes] --give--> (its bdp learns)
 *
 * Called by link.c, which has the queues: who finds no room waits there, in the
 * order in which it came.  Calls bdp.c, one for each pool.  In a fixed pool
 * that one's least and most are the same, so it limits the bytes to as many
 * clusters as there are requests, and its estimates are for others to read.
 *
 * A request binds a count and bytes, and both are limited: a pool of single
 * pages by its count, one of clusters by its bytes.  A trim, a zero or a flush
 * carries no bytes.
 *
 * Invariants (window_check):
 * I1. nr and bytes of a pool are those of the requests SENT that it took.
 * I2. What its bdp has under way is bytes.
 * I3. nr is at most nr_max, and nr_peak was reached.
 * More bytes than the limit are under way if a request alone is larger, or if
 * the limit fell; then they only become fewer.
 *
 * Deliberately not here: which request is next, and any wait.
 * No locks: the loop has it.
 */

#include <config.h>

#include "window.h"

#include <assert.h>
#include <string.h>

static const struct {
  unsigned nr_max;
  bool follows;
  unsigned min, max; /* clusters */
} starts[POOLS] = {
  [POOL_DEMAND] = { WINDOW_DEMAND, false, WINDOW_DEMAND, WINDOW_DEMAND },
  [POOL_WSYNC] = { WINDOW_WSYNC, false, WINDOW_WSYNC, WINDOW_WSYNC },
  [POOL_AHEAD] = { WINDOW_NR_MAX, true, WINDOW_AHEAD, WINDOW_MAX },
  [POOL_WASYNC] = { WINDOW_NR_MAX, true, WINDOW_WASYNC, WINDOW_MAX },
  [POOL_ADMIN] = { WINDOW_ADMIN, false, WINDOW_ADMIN, WINDOW_ADMIN },
};

void
window_init (struct window *w, uint64_t cluster_bytes, uint64_t now_us)
{
  memset (w, 0, sizeof *w);
  if (cluster_bytes < 1)
    cluster_bytes = 1;
  w->cluster_bytes = cluster_bytes < UINT32_MAX ? cluster_bytes : UINT32_MAX;
  for (unsigned i = 0; i < POOLS; i++) {
    struct window_pool *p = &w->pool[i];
    struct bdp_config config = { w->cluster_bytes, starts[i].min,
                                 starts[i].max };

    p->nr_max = starts[i].nr_max;
    p->follows = starts[i].follows;
    bdp_init (&p->bdp, &config, now_us);
  }
}

void
window_set_range (struct window *w, enum request_pool pool, unsigned min,
                  unsigned max)
{
  struct window_pool *p = &w->pool[pool];

  if (p->follows)
    bdp_set_range (&p->bdp, min, max);
}

uint64_t
window_limit_bytes (struct window *w, enum request_pool pool, uint64_t now_us)
{
  return bdp_limit (&w->pool[pool].bdp, now_us) * w->cluster_bytes;
}

bool
window_has_room (struct window *w, const struct request *req, uint64_t now_us)
{
  struct window_pool *p = &w->pool[req->pool];
  uint64_t limit = window_limit_bytes (w, req->pool, now_us);

  if (p->nr == 0 ||
      (p->nr < p->nr_max && p->bytes + request_carries (req) <= limit))
    return true;
  p->nr_refused++;
  return false;
}

void
window_take (struct window *w, struct request *req, bool more, uint64_t now_us)
{
  struct window_pool *p = &w->pool[req->pool];

  assert (p->nr < p->nr_max);
  req->took = req->pool;
  p->nr++;
  p->nr_taken++;
  p->bytes += request_carries (req);
  if (p->nr > p->nr_peak)
    p->nr_peak = p->nr;
  bdp_send (&p->bdp, request_carries (req), more, now_us, &req->mark);
}

void
window_give (struct window *w, struct request *req, bool learnt,
             uint64_t now_us)
{
  struct window_pool *p = &w->pool[req->took];

  assert (p->nr > 0 && p->bytes >= request_carries (req));
  p->nr--;
  p->bytes -= request_carries (req);
  if (learnt)
    bdp_done (&p->bdp, request_carries (req), &req->mark, now_us);
  else
    bdp_lost (&p->bdp, request_carries (req), now_us);
}

void
window_restart (struct window *w, uint64_t now_us)
{
  for (unsigned i = 0; i < POOLS; i++)
    bdp_restart (&w->pool[i].bdp, now_us);
}

static const char *
check_pool (const struct window_pool *p, unsigned nr, uint64_t bytes)
{
  if (p->nr != nr)
    return "a pool counts other requests than are under way";
  if (p->bytes != bytes)
    return "a pool counts other bytes than are under way";
  if (p->bdp.inflight != bytes)
    return "a controller knows of other bytes than are under way";
  if (p->nr > p->nr_max || p->nr > p->nr_peak)
    return "more requests are under way than a pool may have";
  if (p->bdp.limit < p->bdp.config.min || p->bdp.limit > p->bdp.config.max)
    return "a limit is out of its range";
  return NULL;
}

const char *
window_check (const struct window *w, const struct request *sent)
{
  unsigned nr[POOLS] = { 0 };
  uint64_t bytes[POOLS] = { 0 };

  for (const struct request *req = sent; req != NULL; req = req->next) {
    if (req->state != REQUEST_SENT || req->took >= POOLS)
      return "a request under way is not SENT, or of no pool";
    nr[req->took]++;
    bytes[req->took] += request_carries (req);
  }
  for (unsigned i = 0; i < POOLS; i++) {
    const char *wrong = check_pool (&w->pool[i], nr[i], bytes[i]);

    if (wrong != NULL)
      return wrong;
  }
  return NULL;
}
