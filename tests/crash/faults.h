/* SPDX-License-Identifier: BSD-2-Clause */
/* One fault of a medium at each place of a long run. */

#ifndef FARPAGE_CRASH_FAULTS_H
#define FARPAGE_CRASH_FAULTS_H

#include "long.h"

struct faults {
  const struct subject *subject;
  const struct world *base;
  uint64_t seed;
  unsigned nr_requests; /* 0: LONG_REQUESTS */
  uint64_t deadline_ns; /* of real time; 0: none */
  /* Told of each fault that is tried; may be NULL. */
  void (*doing) (const char *what);
  /* Of the run without a fault: its transfers and flushes, in order. */
  unsigned nr_io, max_io;
  uint8_t *io;                      /* enum media_op */
  uint64_t nr_places[MEDIA_FAULTS]; /* where a kind means something */
  uint64_t nr_tried[MEDIA_FAULTS];
  uint64_t nr_refused[MEDIA_FAULTS]; /* the next open refused, as it may */
  uint64_t nr_lost[MEDIA_FAULTS];    /* the store said that it had failed */
  uint64_t nr_retired;               /* the place must not be written again */
  /* After a failure; what: "KIND:PLACE:SEED:REQUESTS"; empty: no fault. */
  char why[RUN_WHY_BYTES], what[64];
};

/* The run without a fault.  False: it fails already. */
extern bool faults_begin (struct faults *f);
extern void faults_end (struct faults *f);

/* Every kind at every FAULT_PARTS-th place, of which the seed chooses the
 * first, too: parts 0 to FAULT_PARTS - 1 are all there are.  False: why.
 */
#define FAULT_PARTS 64u
extern bool faults_part (struct faults *f, unsigned part);

/* Every kind at the last nr places. */
extern bool faults_last (struct faults *f, unsigned nr);

/* "KIND:PLACE", or with ":SEED:REQUESTS" that are not f's; without
 * faults_begin ().  0 if all is well, also if that kind means nothing there;
 * EIO: why; EINVAL: no such fault.
 */
extern int faults_given (struct faults *f, const char *text);

#endif /* FARPAGE_CRASH_FAULTS_H */
