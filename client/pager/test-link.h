/* SPDX-License-Identifier: BSD-2-Clause */
/* A link that is reckoned, for the controller's test and its picture: bytes
 * leave one after the other at a rate, and come back after a delay and what the
 * server takes.  Whoever has it asks for as much as the controller lets him.
 *
 *   window --> [queue] --rate--> wire: delay --> server --> done
 */

#ifndef FARPAGE_TEST_LINK_H
#define FARPAGE_TEST_LINK_H

#include <assert.h>
#include <string.h>

#include "bdp.h"
#include "test-util.h"

#define UNIT      65536u
#define UNITS_MAX 256u
#define US_PER_S  UINT64_C (1000000)
#define NS_PER_S  UINT64_C (1000000000)
#define ASKED     2048u

/* What the link is from a time on. */
struct way {
  uint64_t from_us;
  uint64_t rate;     /* bytes a second */
  uint64_t delay_us; /* there and back */
  uint64_t slow_us;  /* more than that, of some requests */
  unsigned slow;     /* of so many in eight */
  unsigned others;   /* part of the rate that others take, in eighths */
};

struct asked {
  uint64_t done_us;
  struct bdp_mark mark;
};

struct link {
  const struct way *way;
  unsigned nr_ways;
  struct bdp b;
  uint64_t now_us, free_ns; /* the wire has nothing to send from then on */
  struct asked asked[ASKED];
  unsigned nr;
  unsigned nr_wanted; /* at once; 0: as many as may be */
  uint64_t bytes;     /* of a request */
  uint64_t bunch_us;  /* replies come at multiples of that; 0: each alone */
  uint64_t bytes_done, random;
};

/* What a stretch of time brought. */
struct stretch {
  double share; /* of what the link could carry */
  double queue; /* units, the most */
};

static inline const struct way *
link_way (const struct link *l)
{
  const struct way *w = l->way;

  for (unsigned i = 1; i < l->nr_ways; i++)
    if (l->way[i].from_us <= l->now_us)
      w = &l->way[i];
  return w;
}

static inline uint64_t
way_rate (const struct way *w)
{
  return w->rate * (8 - w->others) / 8;
}

/* rate x delay, in units. */
static inline double
way_units (const struct way *w)
{
  return (double) way_rate (w) *
         (double) (w->delay_us + w->slow_us * w->slow / 8) / (double) US_PER_S /
         UNIT;
}

static inline void
link_begin (struct link *l, const struct way *way, unsigned nr, uint64_t seed)
{
  static const struct bdp_config config = { UNIT, BDP_MIN, UNITS_MAX };

  memset (l, 0, sizeof *l);
  l->way = way;
  l->nr_ways = nr;
  l->random = seed;
  l->bytes = UNIT;
  bdp_init (&l->b, &config, 0);
}

/* Units that wait before the wire. */
static inline double
link_queue (const struct link *l)
{
  uint64_t now_ns = l->now_us * 1000;

  if (l->free_ns <= now_ns)
    return 0;
  return (double) (l->free_ns - now_ns) * (double) way_rate (link_way (l)) /
         (double) NS_PER_S / UNIT;
}

static inline void
link_ask (struct link *l)
{
  const struct way *w = link_way (l);
  struct asked *a = &l->asked[l->nr++];
  uint64_t slow = test_random_below (&l->random, 8) < w->slow ? w->slow_us : 0;

  assert (l->nr <= ASKED);
  if (l->free_ns < l->now_us * 1000)
    l->free_ns = l->now_us * 1000;
  l->free_ns += l->bytes * NS_PER_S / way_rate (w);
  a->done_us = (l->free_ns + 999) / 1000 + w->delay_us + slow;
  if (l->bunch_us > 0)
    a->done_us = (a->done_us + l->bunch_us - 1) / l->bunch_us * l->bunch_us;
  bdp_send (&l->b, l->bytes, l->nr_wanted == 0, l->now_us, &a->mark);
}

/* The next that comes back. */
static inline void
link_turn (struct link *l)
{
  uint64_t limit = bdp_limit (&l->b, l->now_us) * (uint64_t) UNIT / l->bytes;
  unsigned first = 0;
  struct asked a;

  if (l->nr_wanted > 0 && l->nr_wanted < limit)
    limit = l->nr_wanted;
  while (l->nr < limit)
    link_ask (l);
  if (l->nr == 0)
    return;
  for (unsigned i = 1; i < l->nr; i++)
    if (l->asked[i].done_us < l->asked[first].done_us)
      first = i;
  a = l->asked[first];
  l->asked[first] = l->asked[--l->nr];
  l->now_us = a.done_us;
  l->bytes_done += l->bytes;
  bdp_done (&l->b, l->bytes, &a.mark, l->now_us);
}

static inline struct stretch
link_run (struct link *l, uint64_t end_us)
{
  const struct way *w = link_way (l);
  uint64_t begin_us = l->now_us, before = l->bytes_done;
  struct stretch s = { 0, 0 };
  double could;

  while (l->now_us < end_us) {
    double queue = link_queue (l);

    if (queue > s.queue)
      s.queue = queue;
    link_turn (l);
  }
  could = (double) way_rate (w) * (double) (l->now_us - begin_us) /
          (double) US_PER_S;
  if (could > 0)
    s.share = (double) (l->bytes_done - before) / could;
  return s;
}

#endif /* FARPAGE_TEST_LINK_H */
