/* SPDX-License-Identifier: BSD-2-Clause */
/* Crashes of long runs: what explore.h does for short ones, at random. */

#ifndef FARPAGE_CRASH_CUTS_H
#define FARPAGE_CRASH_CUTS_H

#include "explore.h"
#include "long.h"

struct cuts {
  const struct subject *subject;
  const struct world *base; /* one of them for each run */
  unsigned nr_bases;
  struct seen *seen; /* NULL: states are not counted */
  struct explore_stat stat;
  uint64_t nr_runs;  /* long ones */
  uint64_t nr_tried; /* opens that met a fault */
  /* After a failure. */
  char why[RUN_WHY_BYTES];
  char what[96];  /* as cuts_given () takes it */
  char tried[64]; /* the fault of an open between a crash and its look */
  /* What cuts_given () was given. */
  struct crash script[DEPTH_MAX];
  unsigned nr_script;
};

/* One long run that the seed says, and crashes of it, until deadline_ns of real
 * time (0: all that were chosen).  False: why.
 */
extern bool cuts_run (struct cuts *c, uint64_t seed, uint64_t deadline_ns);

/* "SEED:PATH", a path as sweep.h has them: 0 if all is well; EIO: why; EINVAL:
 * that is none.
 */
extern int cuts_given (struct cuts *c, const char *text);

#endif /* FARPAGE_CRASH_CUTS_H */
