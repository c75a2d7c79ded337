/* SPDX-License-Identifier: BSD-2-Clause */
/* Which pages will be touched next: numbers alone.
 *
 * The majority trend over recent accesses is that of Leap (Maruf and Chowdhury,
 * ATC 2020), with a majority for each of several streams: an access at page p
 * begins a stream of stride d when three of the four pages p - d, p - 2 d,
 * p - 3 d and p - 4 d are among the last TREND_RECENT accesses that belong to
 * no stream.  Random accesses have no such d, but by accident, and cost
 * nothing.
 *
 * A stream has a window: how many pages before the last access are to be there.
 * It begins small and doubles with each window that was used up, so that it
 * follows what the link needs, up to the caller's maximum.  Where an access
 * does not fit a stream nothing more is asked for that stream: it ends when
 * TREND_PATIENCE x its window of others went by, or as the one that was used
 * least recently.
 */

#ifndef FARPAGE_TREND_H
#define FARPAGE_TREND_H

#include "types.h"

#define TREND_RECENT     48u
#define TREND_STREAMS    16u
#define TREND_STRIDE_MAX 1024
#define TREND_START      4u /* pages: the first window */
#define TREND_DOUBT      2u
#define TREND_PATIENCE   16u
#define TREND_BEHIND     32u /* strides that readers of a stream are apart */
#define TREND_AWAKE      16u /* accesses in which one that goes on has one */

struct trend_stream {
  int64_t stride;  /* 0: it is none */
  pgno_t last;     /* the access furthest on */
  uint64_t ahead;  /* pages from last on that were asked for */
  uint64_t window; /* and that may be */
  uint64_t used;   /* steps since the window grew */
  uint64_t clock;  /* of the last access */
};

struct trend {
  pgno_t recent[TREND_RECENT];
  unsigned nr, at; /* recent[at] is the oldest when all are used */
  struct trend_stream stream[TREND_STREAMS];
  uint64_t clock;
  unsigned doubt; /* one more with each stream, two less with its success */
};

/* first, first + stride, ... nr of them: to be asked for. */
struct trend_ask {
  pgno_t first;
  int64_t stride;
  uint64_t nr; /* 0: nothing */
};

/* Somebody touches page, one of nr_pages.  there: in memory, or on its way; if
 * it is not, what was asked for has gone again.  *ask: what to ask for now,
 * within nr_pages; streams that go on have equal shares of max, none is more
 * pages ahead than its share was then, and asks for at least batch at a time,
 * but at the end of what there is.
 */
extern void trend_touch (struct trend *t, pgno_t page, bool there,
                         uint64_t nr_pages, uint64_t max, uint64_t batch,
                         struct trend_ask *ask);
/* The stride of the stream that page belongs to, if that has gone on for a
 * window at least; else 0.
 */
extern int64_t trend_stride (struct trend *t, pgno_t page);
/* Was page asked for by a stream that goes on? */
extern bool trend_awaits (const struct trend *t, pgno_t page);
/* What was asked for from page on will not come: of ask.nr pages only the first
 * done are on their way.
 */
extern void trend_cut (struct trend *t, const struct trend_ask *ask,
                       uint64_t done);

#endif /* FARPAGE_TREND_H */
