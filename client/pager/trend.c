/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams of accesses, and what they will touch next: see trend.h.  Called by
 * map-fault.c for each fault; calls nothing.
 *
 *                last          last + window * stride
 *     accessed ---+--- ahead: asked for ---+--- may be asked for ---+
 *
 * I1 ahead <= window <= the stream's share of the caller's max when it last
 *    touched it.
 * I2 No two streams have the same stride and lie on each other's way: an access
 *    that fits one belongs to it, and begins none.
 */

#include <config.h>

#include "trend.h"

static bool
is_recent (const struct trend *t, pgno_t page)
{
  for (unsigned i = 0; i < t->nr; i++)
    if (t->recent[i] == page)
      return true;
  return false;
}

/* page + steps * stride in *at, if there is such a page. */
static bool
step (pgno_t page, int64_t stride, int64_t steps, uint64_t nr_pages, pgno_t *at)
{
  /* strides and steps are small: no overflow but below zero */
  const int64_t by = stride * steps;

  if (by < 0 ? page < (uint64_t) -by : nr_pages - page <= (uint64_t) by)
    return false;
  *at = page + (uint64_t) by;
  return true;
}

/* Of the four accesses before page with this stride, are three recent?  All,
 * when streams have come to nothing.
 */
static bool
has_majority (const struct trend *t, pgno_t page, int64_t stride,
              uint64_t nr_pages)
{
  unsigned nr = 0;
  pgno_t at;

  for (int64_t k = 1; k <= 4; k++)
    if (step (page, stride, -k, nr_pages, &at) && is_recent (t, at))
      nr++;
  return nr >= (t->doubt < TREND_DOUBT ? 3 : 4);
}

/* The stride that page goes on with, the latest one first; 0: none. */
static int64_t
find_stride (const struct trend *t, pgno_t page, uint64_t nr_pages)
{
  for (unsigned i = 0; i < t->nr; i++) {
    const unsigned at = (t->at + TREND_RECENT - 1 - i) % TREND_RECENT;
    const int64_t d = (int64_t) (page - t->recent[at]);

    if (d != 0 && d >= -TREND_STRIDE_MAX && d <= TREND_STRIDE_MAX &&
        has_majority (t, page, d, nr_pages))
      return d;
  }
  return 0;
}

static void
remember (struct trend *t, pgno_t page)
{
  t->recent[t->at] = page;
  t->at = (t->at + 1) % TREND_RECENT;
  if (t->nr < TREND_RECENT)
    t->nr++;
}

/* How many strides page lies before s->last; 0: not on its way, or behind. */
static uint64_t
steps_on (const struct trend_stream *s, pgno_t page)
{
  const int64_t d = (int64_t) (page - s->last);

  if (s->stride == 0 || d % s->stride != 0 || d / s->stride <= 0)
    return 0;
  return (uint64_t) (d / s->stride);
}

/* How many strides page lies behind s->last, where it is that at all. */
static uint64_t
steps_behind (const struct trend_stream *s, pgno_t page)
{
  const int64_t d = (int64_t) (s->last - page);

  return d % s->stride != 0 || d / s->stride < 0 ? UINT64_MAX
                                                 : (uint64_t) (d / s->stride);
}

/* The stream that page belongs to: it lies in what was asked for, or right
 * behind it.  Else one that has just passed it: readers of one stream do not
 * come in order.  But a page that has gone since, or that is further behind, is
 * another reader's.
 */
static struct trend_stream *
find_stream (struct trend *t, pgno_t page, bool there, uint64_t *steps)
{
  struct trend_stream *passed = NULL;

  for (unsigned i = 0; i < TREND_STREAMS; i++) {
    struct trend_stream *s = &t->stream[i];

    if (t->clock - s->clock > TREND_PATIENCE * s->window)
      s->stride = 0;
    if (s->stride == 0)
      continue;
    *steps = steps_on (s, page);
    if (*steps > 0 && *steps <= s->ahead + TREND_START)
      return s;
    if (there && *steps == 0 && steps_behind (s, page) <= TREND_BEHIND)
      passed = s;
  }
  *steps = 0;
  return passed;
}

static struct trend_stream *
oldest_stream (struct trend *t)
{
  struct trend_stream *s = &t->stream[0];

  for (unsigned i = 1; i < TREND_STREAMS; i++)
    if (t->stream[i].clock < s->clock)
      s = &t->stream[i];
  return s;
}

/* How many more pages of the stream there are. */
static uint64_t
pages_left (const struct trend_stream *s, uint64_t nr_pages)
{
  if (s->stride > 0)
    return (nr_pages - 1 - s->last) / (uint64_t) s->stride;
  return s->last / (uint64_t) -s->stride;
}

static bool
is_awake (const struct trend *t, const struct trend_stream *s)
{
  return s->stride != 0 && t->clock - s->clock <= TREND_AWAKE;
}

static unsigned
nr_awake (const struct trend *t)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < TREND_STREAMS; i++)
    nr += is_awake (t, &t->stream[i]);
  return nr;
}

void
trend_touch (struct trend *t, pgno_t page, bool there, uint64_t nr_pages,
             uint64_t max, uint64_t batch, struct trend_ask *ask)
{
  uint64_t steps = 0, end;
  struct trend_stream *s = find_stream (t, page, there, &steps);

  ask->nr = 0;
  t->clock++;
  if (s == NULL) {
    const int64_t stride = find_stride (t, page, nr_pages);

    remember (t, page);
    if (stride == 0)
      return;
    s = oldest_stream (t);
    if (t->doubt < 2 * TREND_DOUBT)
      t->doubt++;
    *s = (struct trend_stream){ .stride = stride,
                                .last = page,
                                .window = TREND_START };
  }
  s->clock = t->clock;
  if (steps > 0) {
    s->last += (uint64_t) (s->stride * (int64_t) steps);
    s->ahead -= there ? min_u64 (s->ahead, steps) : s->ahead;
    s->used += steps;
  }
  if (s->used >= s->window) {
    if (s->window == TREND_START)
      t->doubt -= t->doubt < 2 ? t->doubt : 2;
    s->window *= 2;
    s->used = 0;
  }
  max /= nr_awake (t); /* it is one */
  s->window = min_u64 (s->window, max_u64 (max, 1));
  end = min_u64 (s->window, pages_left (s, nr_pages));
  if (s->ahead >= end ||
      (end == s->window && end - s->ahead < min_u64 (batch, s->window / 2)))
    return;
  ask->first = s->last + (uint64_t) (s->stride * (int64_t) (s->ahead + 1));
  ask->stride = s->stride;
  ask->nr = end - s->ahead;
  s->ahead = end;
}

int64_t
trend_stride (struct trend *t, pgno_t page)
{
  uint64_t steps;
  const struct trend_stream *s = find_stream (t, page, true, &steps);

  return s != NULL && s->window > TREND_START ? s->stride : 0;
}

bool
trend_awaits (const struct trend *t, pgno_t page)
{
  for (unsigned i = 0; i < TREND_STREAMS; i++) {
    const struct trend_stream *s = &t->stream[i];
    const uint64_t steps = steps_on (s, page);

    if (steps > 0 && steps <= s->ahead && is_awake (t, s))
      return true;
  }
  return false;
}

void
trend_cut (struct trend *t, const struct trend_ask *ask, uint64_t done)
{
  for (unsigned i = 0; i < TREND_STREAMS; i++) {
    struct trend_stream *s = &t->stream[i];
    const pgno_t end =
        s->last + (uint64_t) (s->stride * (int64_t) (s->ahead + 1));

    if (s->stride == ask->stride && s->ahead >= ask->nr - done &&
        end == ask->first + (uint64_t) (ask->stride * (int64_t) ask->nr))
      s->ahead -= ask->nr - done;
  }
}
