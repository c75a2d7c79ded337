/* SPDX-License-Identifier: BSD-2-Clause */
/* How much should be under way: a controller that follows what the link and
 * its server carry.  It is told of requests and looks at no clock; bdp.c has
 * the model.
 */

#ifndef FARPAGE_BDP_H
#define FARPAGE_BDP_H

#include <stdbool.h>
#include <stdint.h>

#define BDP_ROUNDS 10u /* rounds that a rate counts for */
#define BDP_MEDIAN 64u /* request times of a round, at most */
#define BDP_MIN    4u  /* units under way at the start, and the least */
#define BDP_MAX    1024u

enum bdp_phase {
  BDP_STARTUP, /* doubles a round until the rate does not grow */
  BDP_DRAIN,   /* until what is queued has gone */
  BDP_CRUISE,  /* looks for more in one round of eight */
  BDP_PROBE_RT /* with half under way: what does the way take? */
};

struct bdp_config {
  uint64_t unit_bytes; /* a cluster */
  unsigned min, max;   /* of the limit, in units; the same: it is fixed */
};

/* What a request carries from bdp_send () to bdp_done (). */
struct bdp_mark {
  uint64_t sent_us, delivered, delivered_us, first_us;
  bool idle; /* there was room and nobody waited when it was sent */
};

struct bdp {
  struct bdp_config config;
  enum bdp_phase phase;
  unsigned limit;                   /* in units */
  unsigned target;                  /* that it rises to */
  uint64_t risen_bytes;             /* came back, not yet a unit */
  uint64_t inflight;                /* bytes */
  uint64_t delivered, delivered_us; /* bytes so far, and when the last came */
  uint64_t first_us;                /* when the newest that came was sent */
  uint64_t round_begin;             /* what is sent from here on, in bytes
                                     * delivered, is of this round */
  uint64_t rate[BDP_ROUNDS];        /* bytes a second, the most of each round */
  unsigned slot;                    /* in rate: of this round */
  bool busy;                        /* this round says what the link carries */
  uint32_t times[BDP_MEDIAN];       /* us, of this round */
  unsigned nr_times, nr_done;       /* of this round */
  uint64_t rt_us, rt_at_us;         /* the least median, and since when */
  uint64_t low_us;                  /* the least median of CRUISE's eight */
  uint64_t full_rate;               /* in STARTUP: what has to be exceeded */
  unsigned nr_flat;                 /* rounds in which it was not */
  unsigned nr_late;                 /* in STARTUP: waited in a queue, a row */
  unsigned step;                    /* of CRUISE's eight */
  uint64_t step_rate;               /* when it began */
  uint64_t idle_us;                 /* since when nothing is under way */
};

/* Bogus numbers are clamped: min and max to 1 .. BDP_MAX, max to at least min,
 * unit_bytes to at least 1.
 */
extern void bdp_init (struct bdp *b, const struct bdp_config *config,
                      uint64_t now_us);
/* The same rules; what is under way stays under way. */
extern void bdp_set_range (struct bdp *b, unsigned min, unsigned max);

/* Units that may be under way now. */
extern unsigned bdp_limit (struct bdp *b, uint64_t now_us);

/* A request leaves.  more: others wait for room. */
extern void bdp_send (struct bdp *b, uint64_t bytes, bool more, uint64_t now_us,
                      struct bdp_mark *mark);
/* It came back, whole. */
extern void bdp_done (struct bdp *b, uint64_t bytes,
                      const struct bdp_mark *mark, uint64_t now_us);
/* It did not: an error, or its connection is gone.  Nothing is learnt. */
extern void bdp_lost (struct bdp *b, uint64_t bytes, uint64_t now_us);
/* There is another link: begin again. */
extern void bdp_restart (struct bdp *b, uint64_t now_us);

/* Estimates: bytes a second, and us; 0: there is none yet. */
extern uint64_t bdp_rate (const struct bdp *b);
extern uint64_t bdp_rt_us (const struct bdp *b);

#endif /* FARPAGE_BDP_H */
