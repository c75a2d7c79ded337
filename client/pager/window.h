/* SPDX-License-Identifier: BSD-2-Clause */
/* How much may be under way: a count of requests and of bytes for each pool.
 * No pool waits for another.  AHEAD and WASYNC follow the link (bdp.h), each
 * by itself; the others are fixed.
 */

#ifndef FARPAGE_WINDOW_H
#define FARPAGE_WINDOW_H

#include "request.h"

/* Requests of all pools at the start; the shares are the swap pager's: reads
 * one half, sync writes a quarter, async writes four clusters.
 */
#define WINDOW_REQUESTS 64u
#define WINDOW_DEMAND   (WINDOW_REQUESTS * 3 / 8)
#define WINDOW_AHEAD    (WINDOW_REQUESTS / 8) /* the least; it grows */
#define WINDOW_WSYNC    (WINDOW_REQUESTS / 4)
#define WINDOW_WASYNC   BDP_MIN /* clusters, the least; it grows */
#define WINDOW_ADMIN    4u
#define WINDOW_MAX      256u  /* clusters: default upper end */
#define WINDOW_NR_MAX   1024u /* requests of a pool that follows, at most */

struct window_pool {
  unsigned nr, nr_max; /* requests under way, and the most */
  uint64_t bytes;      /* under way: of reads and writes, trims carry none */
  bool follows;        /* bdp says how many bytes; else it only estimates */
  struct bdp bdp;
  unsigned nr_peak;
  uint64_t nr_taken, nr_refused; /* since the start: there was (no) room */
};

struct window {
  uint64_t cluster_bytes;
  struct window_pool pool[POOLS];
};

/* cluster_bytes: 1 .. UINT32_MAX, others are clamped. */
extern void window_init (struct window *w, uint64_t cluster_bytes,
                         uint64_t now_us);
/* min and max of a pool that follows, in clusters; bogus ones are clamped; the
 * same: fixed.  Lower than what is under way: that ends as it ends.  A pool
 * that does not follow stays as it is.
 */
extern void window_set_range (struct window *w, enum request_pool pool,
                              unsigned min, unsigned max);
/* Bytes and requests that the pool may have under way now. */
extern uint64_t window_limit_bytes (struct window *w, enum request_pool pool,
                                    uint64_t now_us);

/* Is there room for this request?  One always fits into a pool with nothing
 * under way.
 */
extern bool window_has_room (struct window *w, const struct request *req,
                             uint64_t now_us);
/* It leaves, and takes the room.  more: others of its pool wait. */
extern void window_take (struct window *w, struct request *req, bool more,
                         uint64_t now_us);
/* It came back (learnt: whole and well), or is lost; to the pool it was taken
 * from, whatever it is of now.
 */
extern void window_give (struct window *w, struct request *req, bool learnt,
                         uint64_t now_us);
/* The link is another: what followed begins again. */
extern void window_restart (struct window *w, uint64_t now_us);

/* NULL, or what does not add up with these requests under way. */
extern const char *window_check (const struct window *w,
                                 const struct request *sent);

#endif /* FARPAGE_WINDOW_H */
