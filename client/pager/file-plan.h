/* SPDX-License-Identifier: BSD-2-Clause */
/* Which pages of a file are read together, and how far ahead: no I/O, no pages,
 * numbers alone.
 */

#ifndef FARPAGE_FILE_PLAN_H
#define FARPAGE_FILE_PLAN_H

#include "types.h"

/* ---- one read ---- */

struct file_plan {
  uint64_t nr_pages;      /* of the file */
  pgno_t first;           /* wanted, all within the file */
  unsigned count;         /* at least 1 */
  uint64_t before, after; /* pages on both sides of first that lie with it */
  unsigned block_pages;   /* of a block of the server; at least 1 */
  unsigned max;           /* pages of one read; at least count */
};

/* *behind, *ahead: pages that somebody would like before first and behind the
 * last wanted; on return those that are to be read.  They lie with first, in
 * the file, and all fit into one read; what does not is cut off evenly on both
 * sides.  Where behind reached the begin of what lies together it still begins
 * with a whole block then.
 */
extern void file_plan (const struct file_plan *plan, unsigned *behind,
                       unsigned *ahead);

/* ---- what comes next ---- */

#define FILE_STREAMS 8u /* that are read in order at the same time */

struct file_stream {
  pgno_t next;    /* where it would go on */
  pgno_t end;     /* so far it was read ahead */
  unsigned ahead; /* pages; doubled at the next use */
  uint64_t used;  /* 0: it is none */
};

struct file_seq {
  struct file_stream stream[FILE_STREAMS];
  uint64_t clock;
};

/* Pages [first, first + count) are used now.  Returns how many behind them are
 * to be read ahead, from *from on, 0: none; at most max, and within nr_pages.
 * As long as one page follows the other it doubles with each call that finds
 * less than half of it left; what does not follow ends it.
 */
extern unsigned file_seq_next (struct file_seq *s, pgno_t first, unsigned count,
                               uint64_t nr_pages, unsigned max, pgno_t *from);
/* Whoever read in order last goes on at this page: he knows what lies between
 * to be holes.
 */
extern void file_seq_jump (struct file_seq *s, pgno_t to);
/* These pages are not there any more: nobody has read ahead. */
extern void file_seq_forget (struct file_seq *s);

#endif /* FARPAGE_FILE_PLAN_H */
