/* SPDX-License-Identifier: BSD-2-Clause */
/* A slice of a write: whole pages of one shard, on their way to blocks.  What
 * strategy-write.c and slice-move.c share; nobody else includes it.
 */

#ifndef FARPAGE_SLICE_H
#define FARPAGE_SLICE_H

#include "request.h"

#define DIRECT_PAGES 16u /* so many go straight to the volumes */

struct slice {
  struct request *req;
  struct object *o;
  pgno_t pgno;
  unsigned nr_pages; /* 1 to SPACE_HANDOUT_MAX, in one shard */
  const char *buf;   /* the client's */
  uint64_t nr_units;
  bool buffered;       /* goes to buffers */
  unsigned nr_buffers; /* in bufs */
  uint64_t charged;    /* promises had but not used yet */
  uint64_t needed;     /* how many it must be, after EAGAIN */
  struct freed freed;
  bool any_left_out, any_partial;
  bool zero[SPACE_HANDOUT_MAX];         /* becomes a hole */
  bool left_out[SPACE_HANDOUT_MAX];     /* if any_left_out */
  bool partial[SPACE_HANDOUT_MAX];      /* if any_left_out */
  struct swent ents[SPACE_HANDOUT_MAX]; /* word 0: needs no block (now) */
  struct buf *bufs[SPACE_HANDOUT_MAX];  /* to fill; NULL: none, or used */
};

/* The pages from i on that have (or have no) block: the end of the row. */
static inline unsigned
slice_row_end (const struct slice *s, unsigned i)
{
  bool zero = s->ents[i].word == 0;

  while (i < s->nr_pages && (s->ents[i].word == 0) == zero)
    i++;
  return i;
}

/* The pages from i on whose blocks follow each other. */
static inline unsigned
slice_run_end (const struct slice *s, unsigned i)
{
  unsigned k = i + 1;

  while (k < s->nr_pages && s->ents[k].word == s->ents[i].word + (k - i))
    k++;
  return k;
}

/* ---- slice-move.c ---- */

/* Blocks for the pages [i, end).  What could not be had keeps word 0. */
extern int slice_alloc_pages (struct slice *s, unsigned i, unsigned end);

/* Move the data of all pages that have blocks to them.  A run that fails is
 * retired, and its pages tried once more elsewhere.  EIO, ENOSPC.  Lock: none
 * held.  Blocks: yes.
 */
extern int slice_write (struct slice *s);

/* Move them to the slice's buffers, of which there are as many as pages with
 * blocks, and make their checks.  Lock: none held.
 */
extern void slice_fill (struct slice *s);
/* Pages [i, end), which have blocks, become the content of these.  Lock: needs
 * the shard's.
 */
extern void slice_enter (struct slice *s, unsigned i, unsigned end);
/* Give back the buffers that were not used. */
extern void slice_unbuffer (struct slice *s);

#endif /* FARPAGE_SLICE_H */
