/* SPDX-License-Identifier: BSD-2-Clause */
/* The controller of how much is under way.
 *
 *   rate ^                 ___________      with too little under way the link
 *        |               /                  idles; with rate x rt it is full,
 *        |             /                    whatever is more only waits in its
 *        |___________/____________________> queue, before a demand read
 *                    rate x rt   under way
 *
 * So both are estimated, and the limit is rate x rt and a little (after BBR, as
 * Cardwell and others describe it in ACM Queue 14.5, 2016): NBD has no loss to
 * go by, and a rule that only looks at delay starves beside other traffic.
 *
 *   STARTUP --4 replies in a row took a quarter longer than rt,
 *             or rate grew by less than a quarter, 3 rounds,
 *             or far more is under way than rate x rt-----> DRAIN
 *   DRAIN   --what was too much has come back-------------> CRUISE
 *   CRUISE  --rt is RT_US old, or no round comes near it--> PROBE_RT
 *   PROBE_RT --a round with half of it--------------------> CRUISE
 *
 * A round ends when ROUND_LEAST of the requests that were sent in it came back,
 * for only those tell the time of the limit that it set, and a few tell chance.
 * So it is a round trip and a little, and several with a small window.  In
 * STARTUP one request suffices.
 *
 * rate: bytes that came back while a request was under way, over that time, or
 *     the time in which they were sent if that was longer: replies that come in
 *     bunches would look like a better link.  The most of the last 10 rounds,
 *     for less says only that less was asked for.  What was sent when there was
 *     room and nobody waited counts if it makes the rate larger; a round of
 *     nothing else is not one of the 10.
 * rt: the least, over 10 s, of the rounds' medians of what requests took.  Not
 *     of single requests: a server with two speeds, cache and disk, would have
 *     the window of its better one.  Rounds with a queue do not count, for
 *     there are some without in 10 s: PROBE_RT and the low steps of CRUISE.
 * limit: gain x rate x rt in whole units, and 2: one that is being sent, one
 *     that is being answered.  It rises by one with each unit that comes back,
 *     so that more never leaves as a burst; in STARTUP with each second one.
 *
 * STARTUP ends early, and CRUISE finds the rest.  Who doubles until the rate
 * does not grow has up to 2.5 times rate x rt in the queue by then, and a
 * demand read waits for that.  Here it is a half.  As three leave for two that
 * come back, those wait a little also while the link has room: so it ends at
 * about 3/4 of rate x rt, if that is not few units.
 *
 * CRUISE's steps are gains of 5/4, 7/8 and six times 1.  5/4 queues a quarter
 * of rate x rt if there is not more to be had, and is repeated while it makes
 * the rate a tenth larger; 7/8 lets that leave, and finds a
 * way that became shorter: there is a queue all the time then, so the time
 * falls with the limit, and rate x rt by an eighth in eight rounds.  For that
 * it goes without the 2, which would keep up a queue of their own.  A limit
 * below rate x rt leaves the link idle, and the gap comes by again each round
 * trip until more is sent: 3/4 costs twice what 7/8 does.
 *
 * Not done: to share a link fairly with others, and to learn from errors.
 * No locks: one thread has it.  Nothing here reads a clock, so a test can be
 * the link.
 */

#include <config.h>

#include "bdp.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

#define US_PER_S    UINT64_C (1000000)
#define RT_US       (10 * US_PER_S) /* so long a least rt counts */
#define IDLE_US     US_PER_S        /* then what is known loses its worth */
#define FLAT_ROUNDS 3u
#define LATE_LEAST  4u  /* replies */
#define ROUND_LEAST 32u /* replies */
#define EXTRA       2u  /* units */

/* Of CRUISE, in eighths: is there more, was there less, then just so. */
static const unsigned steps[] = { 10, 7, 8, 8, 8, 8, 8, 8 };
#define STEPS (sizeof steps / sizeof steps[0])

static unsigned
clamp (uint64_t n, unsigned min, unsigned max)
{
  if (n < min)
    return min;
  return n > max ? max : (unsigned) n;
}

/* ---- estimates ---- */

uint64_t
bdp_rate (const struct bdp *b)
{
  uint64_t most = 0;

  for (unsigned i = 0; i < BDP_ROUNDS; i++)
    if (b->rate[i] > most)
      most = b->rate[i];
  return most;
}

uint64_t
bdp_rt_us (const struct bdp *b)
{
  return b->rt_us;
}

/* rate x rt, in bytes. */
static uint64_t
product (const struct bdp *b)
{
  unsigned __int128 bytes = (unsigned __int128) bdp_rate (b) * b->rt_us;

  bytes /= US_PER_S;
  return bytes > UINT64_MAX / 16 ? UINT64_MAX / 16 : (uint64_t) bytes;
}

/* Over less time than rt, replies that came together by chance look like a
 * better link.
 */
static void
learn_rate (struct bdp *b, const struct bdp_mark *mark, uint64_t now_us)
{
  uint64_t bytes = b->delivered - mark->delivered;
  uint64_t us =
      max_u64 (now_us - mark->delivered_us, mark->sent_us - mark->first_us);
  uint64_t rate;

  us = max_u64 (us, b->rt_us);
  if (us == 0)
    us = 1;
  rate = bytes / us * US_PER_S;
  if (bytes < UINT64_MAX / US_PER_S)
    rate = bytes * US_PER_S / us;
  if (mark->idle && rate <= bdp_rate (b))
    return;
  b->busy = true;
  if (rate > b->rate[b->slot])
    b->rate[b->slot] = rate;
}

/* Of a round with more than there is room for, some at even distances. */
static void
learn_time (struct bdp *b, uint64_t us)
{
  uint32_t t = us < UINT32_MAX ? (uint32_t) us : UINT32_MAX;

  if (b->nr_times < BDP_MEDIAN)
    b->times[b->nr_times++] = t;
  else if (b->nr_done % (b->nr_done / BDP_MEDIAN + 1) == 0)
    b->times[b->nr_done / (b->nr_done / BDP_MEDIAN + 1) % BDP_MEDIAN] = t;
  b->nr_done++;
}

static int
by_time (const void *a, const void *b)
{
  uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

  return x < y ? -1 : x > y;
}

/* Takes the times of the round; 0: there are none. */
static uint64_t
median_us (struct bdp *b)
{
  uint32_t median;

  if (b->nr_times == 0)
    return 0;
  qsort (b->times, b->nr_times, sizeof b->times[0], by_time);
  median = b->times[b->nr_times / 2];
  return median > 0 ? median : 1;
}

static void
set_rt (struct bdp *b, uint64_t us, uint64_t now_us)
{
  b->rt_us = us;
  b->rt_at_us = now_us;
}

/* ---- rounds ---- */

static void
begin_round (struct bdp *b)
{
  b->round_begin = b->delivered;
  b->nr_times = b->nr_done = 0;
}

static bool
is_round_over (const struct bdp *b)
{
  return b->nr_done >= (b->phase == BDP_STARTUP ? 1 : ROUND_LEAST);
}

/* ---- phases ---- */

/* Of rate x rt, and a little if it is to be all. */
static uint64_t
units (const struct bdp *b, unsigned eighths)
{
  uint64_t bytes = product (b) * eighths / 8;

  return bytes / b->config.unit_bytes + (eighths < 8 ? 0 : EXTRA);
}

static void
set_limit (struct bdp *b, unsigned eighths)
{
  b->target = clamp (units (b, eighths), b->config.min, b->config.max);
  if (b->limit > b->target)
    b->limit = b->target;
}

static void
begin_phase (struct bdp *b, enum bdp_phase phase)
{
  b->phase = phase;
  b->step = 0;
  b->nr_flat = 0;
  b->low_us = 0;
  switch (phase) {
  case BDP_STARTUP:
    b->full_rate = 0;
    b->nr_late = 0;
    b->target = b->config.max;
    break;
  case BDP_DRAIN:
    set_limit (b, 8);
    break;
  case BDP_CRUISE:
    b->step = STEPS - 1;
    set_limit (b, 8);
    break;
  case BDP_PROBE_RT:
    set_limit (b, 4);
    break;
  }
}

/* In STARTUP what comes back was sent when the limit was two thirds, and waited
 * for up to a third of a round trip more.  So up to a third of the limit the
 * rate may still grow; with more it does not, but at the very begin.
 */
static bool
is_full (const struct bdp *b)
{
  return b->limit == b->config.max || b->nr_late >= LATE_LEAST ||
         b->limit > 3 * (units (b, 8) - EXTRA) + 2 * b->config.min;
}

/* In STARTUP: how many one after the other waited in a queue. */
static void
count_late (struct bdp *b, uint64_t us)
{
  if (us > b->rt_us + b->rt_us / 4 && b->rt_us > 0)
    b->nr_late++;
  else
    b->nr_late = 0;
}

static void
end_startup_round (struct bdp *b)
{
  uint64_t rate = bdp_rate (b);

  if (rate >= b->full_rate + b->full_rate / 4) {
    b->full_rate = rate;
    b->nr_flat = 0;
  } else if (++b->nr_flat >= FLAT_ROUNDS)
    begin_phase (b, BDP_DRAIN);
}

/* Was the way longer in all of eight rounds, also in the one that let our queue
 * run dry?
 */
static bool
is_longer (const struct bdp *b)
{
  return b->low_us > b->rt_us + b->rt_us / 2;
}

static void
end_cruise_round (struct bdp *b, uint64_t us, uint64_t now_us)
{
  if (b->low_us == 0 || us < b->low_us)
    b->low_us = us;
  if (b->step > 0 || bdp_rate (b) < b->step_rate + b->step_rate / 10)
    b->step = (b->step + 1) % STEPS;
  b->step_rate = bdp_rate (b);
  if (now_us - b->rt_at_us >= RT_US || (b->step == 0 && is_longer (b))) {
    begin_phase (b, BDP_PROBE_RT);
    return;
  }
  set_limit (b, steps[b->step]);
  if (b->step == 0)
    b->low_us = 0;
}

static void
end_round (struct bdp *b, uint64_t now_us)
{
  uint64_t us = median_us (b);

  if (b->busy) {
    b->slot = (b->slot + 1) % BDP_ROUNDS;
    b->rate[b->slot] = 0;
    b->busy = false;
  }
  if (b->phase != BDP_PROBE_RT && (b->rt_us == 0 || us <= b->rt_us))
    set_rt (b, us, now_us);
  switch (b->phase) {
  case BDP_STARTUP:
    end_startup_round (b);
    break;
  case BDP_DRAIN:
    break;
  case BDP_CRUISE:
    end_cruise_round (b, us, now_us);
    break;
  case BDP_PROBE_RT:
    set_rt (b, us, now_us);
    begin_phase (b, BDP_CRUISE);
    break;
  }
  begin_round (b);
}

/* ---- public ---- */

static void
take_range (struct bdp *b, unsigned min, unsigned max)
{
  b->config.min = clamp (min, 1, BDP_MAX);
  b->config.max = clamp (max, b->config.min, BDP_MAX);
}

void
bdp_init (struct bdp *b, const struct bdp_config *config, uint64_t now_us)
{
  memset (b, 0, sizeof *b);
  b->config.unit_bytes = config->unit_bytes > 0 ? config->unit_bytes : 1;
  take_range (b, config->min, config->max);
  bdp_restart (b, now_us);
}

void
bdp_set_range (struct bdp *b, unsigned min, unsigned max)
{
  unsigned old_max = b->config.max;

  take_range (b, min, max);
  b->limit = clamp (b->limit, b->config.min, b->config.max);
  if (units (b, 8) >= old_max && b->config.max > old_max)
    begin_phase (b, BDP_STARTUP); /* nobody knows what it kept us from */
  b->target = clamp (b->target, b->limit, b->config.max);
}

void
bdp_restart (struct bdp *b, uint64_t now_us)
{
  memset (b->rate, 0, sizeof b->rate);
  b->rt_us = 0;
  b->rt_at_us = b->delivered_us = b->idle_us = now_us;
  b->busy = false;
  b->limit = b->config.min;
  b->risen_bytes = 0;
  begin_phase (b, BDP_STARTUP);
  begin_round (b);
}

/* By what came back, or all that may be more is in the queue at once. */
static void
raise_limit (struct bdp *b, uint64_t bytes)
{
  b->risen_bytes += b->phase == BDP_STARTUP ? bytes / 2 : bytes;
  while (b->limit < b->target && b->risen_bytes >= b->config.unit_bytes) {
    b->risen_bytes -= b->config.unit_bytes;
    b->limit++;
  }
  if (b->limit == b->target)
    b->risen_bytes = 0;
}

/* After a second of nothing, each second halves what may be under way: what
 * others have begun to send meanwhile is not known.
 */
static void
forget_idle (struct bdp *b, uint64_t now_us)
{
  while (b->inflight == 0 && now_us - b->idle_us >= IDLE_US &&
         b->limit > b->config.min) {
    b->limit = clamp (b->limit / 2, b->config.min, b->config.max);
    b->idle_us += IDLE_US;
  }
}

unsigned
bdp_limit (struct bdp *b, uint64_t now_us)
{
  forget_idle (b, now_us);
  return b->limit;
}

void
bdp_send (struct bdp *b, uint64_t bytes, bool more, uint64_t now_us,
          struct bdp_mark *mark)
{
  if (b->inflight == 0)
    b->delivered_us = b->first_us = now_us;
  mark->sent_us = now_us;
  mark->first_us = b->first_us;
  mark->delivered = b->delivered;
  mark->delivered_us = b->delivered_us;
  b->inflight += bytes;
  mark->idle =
      !more && b->inflight < (uint64_t) b->limit * b->config.unit_bytes;
}

static void
leave (struct bdp *b, uint64_t bytes, uint64_t now_us)
{
  assert (bytes <= b->inflight);
  b->inflight -= bytes;
  if (b->inflight == 0)
    b->idle_us = now_us;
}

void
bdp_done (struct bdp *b, uint64_t bytes, const struct bdp_mark *mark,
          uint64_t now_us)
{
  leave (b, bytes, now_us);
  b->delivered += bytes;
  b->delivered_us = now_us;
  if (mark->delivered >= b->round_begin)
    learn_time (b, now_us - mark->sent_us);
  learn_rate (b, mark, now_us);
  b->first_us = max_u64 (b->first_us, mark->sent_us);
  if (b->phase == BDP_STARTUP)
    count_late (b, now_us - mark->sent_us);
  if (!mark->idle)
    raise_limit (b, bytes);
  if (is_round_over (b))
    end_round (b, now_us);
  if (b->phase == BDP_STARTUP && is_full (b))
    begin_phase (b, BDP_DRAIN);
  if (b->phase == BDP_DRAIN &&
      b->inflight < (uint64_t) b->limit * b->config.unit_bytes)
    begin_phase (b, BDP_CRUISE);
}

void
bdp_lost (struct bdp *b, uint64_t bytes, uint64_t now_us)
{
  leave (b, bytes, now_us);
}
