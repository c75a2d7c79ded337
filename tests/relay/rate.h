/* SPDX-License-Identifier: BSD-2-Clause */
/* The clock of a link's rate: when bytes that come now have gone over it.
 *
 * Bytes are counted from the start of a busy time, and each time is computed
 * from that count: nothing is rounded twice, and a late look at the clock
 * changes nothing.  Pure: no lock, no memory, no clock of its own.
 */

#ifndef FARPAGE_RELAY_RATE_H
#define FARPAGE_RELAY_RATE_H

#include <stdint.h>

#define NS_PER_S INT64_C (1000000000)

struct rate {
  uint64_t bytes_per_s; /* 0: no limit */
  int64_t base_ns;      /* the busy time's start */
  uint64_t bytes;       /* taken since */
};

/* The link is free from here on, in ns. */
static inline int64_t
rate_free_ns (const struct rate *r)
{
  if (r->bytes_per_s == 0)
    return r->base_ns;
  return r->base_ns +
         (int64_t) ((unsigned __int128) r->bytes * NS_PER_S / r->bytes_per_s);
}

/* bytes come at now_ns: the first starts at *begin_ns, the last is over at
 * *end_ns.
 */
static inline void
rate_take (struct rate *r, int64_t now_ns, uint64_t bytes, int64_t *begin_ns,
           int64_t *end_ns)
{
  if (rate_free_ns (r) <= now_ns || r->bytes_per_s == 0) {
    r->base_ns = now_ns;
    r->bytes = 0;
  }
  *begin_ns = rate_free_ns (r);
  r->bytes += bytes;
  *end_ns = rate_free_ns (r);
}

/* Another rate, for what comes from now on: it queues behind what is there. */
static inline void
rate_set (struct rate *r, uint64_t bytes_per_s)
{
  r->base_ns = rate_free_ns (r);
  r->bytes = 0;
  r->bytes_per_s = bytes_per_s;
}

/* The link stood still for this long. */
static inline void
rate_shift (struct rate *r, int64_t ns)
{
  r->base_ns += ns;
}

#endif /* FARPAGE_RELAY_RATE_H */
