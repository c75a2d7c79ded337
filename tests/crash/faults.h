/* SPDX-License-Identifier: BSD-2-Clause */
/* One fault of a medium at each place of a long run. */

#ifndef FARPAGE_CRASH_FAULTS_H
#define FARPAGE_CRASH_FAULTS_H

#include "run.h"

#define FAULT_REQUESTS 500u

struct faults {
  const struct subject *subject;
  const struct world *base;
  uint64_t seed;
  /* Of the run without a fault: its transfers and flushes, in order. */
  uint64_t nr_io;
  char *io;
  uint64_t nr_tried[MEDIA_FAULTS];
  uint64_t nr_refused[MEDIA_FAULTS]; /* the next open refused, as it may */
  uint64_t nr_lost[MEDIA_FAULTS];    /* the store said that it had failed */
  char why[RUN_WHY_BYTES];
};

/* The run without a fault; false: it fails already (why). */
extern bool faults_begin (struct faults *f);
extern void faults_end (struct faults *f);

/* Every kind at every place: how many, and the n-th of them, "KIND:PLACE", in
 * an order that the seed says.
 */
extern uint64_t faults_nr (const struct faults *f);
extern void faults_nth (const struct faults *f, uint64_t n, char *text,
                        size_t bytes);

/* "KIND:PLACE": 0 if all is well, also if that kind means nothing there; EIO:
 * why; EINVAL: no such fault.
 */
extern int faults_given (struct faults *f, const char *text);

/* The n-th request for memory fails, in recovery or after it; *hit: there were
 * so many.  False: why.
 */
extern bool faults_try_memory (struct faults *f, uint64_t n, bool *hit);

#endif /* FARPAGE_CRASH_FAULTS_H */
