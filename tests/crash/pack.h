/* SPDX-License-Identifier: BSD-2-Clause */
/* A sweep by several processes: each has a part of the sequences, all have one
 * table of what was seen.
 */

#ifndef FARPAGE_CRASH_PACK_H
#define FARPAGE_CRASH_PACK_H

#include <stdio.h>
#include <sys/types.h>

#include "cuts.h"
#include "faults.h"
#include "sweep.h"

#define PROCS_MAX 64u
#define RUN_S_MAX 60u /* of a processor for one run */

struct pack_config {
  const struct subject *subject;
  double seconds;
  uint64_t seed;
  unsigned nr_procs, points_max, states_max, inner_max, whole;
  bool faults; /* the last process has the store without staging; all try
                * faults of media too, and more of long runs */
};

/* What a process tells the others. */
struct report {
  struct explore_stat stat;
  uint64_t nr_sequences, nr_all[ALL_MAX + 1];
  uint64_t nr_long, nr_cuts; /* long runs, and crash states of them */
  uint64_t nr_tried;         /* of these, opened with a fault first */
  bool failed;
  double seconds, cpu_seconds; /* to the end, or the failure */
  char why[RUN_WHY_BYTES], sequence[256], path[256];
  const struct subject *subject;
  char option[128]; /* not empty: this shows it again, and no sequence */
};

struct pack {
  const struct pack_config *config;
  struct report *report; /* one a process, shared */
  struct seen *seen;
  pid_t pid[PROCS_MAX];
};

extern void pack_start (struct pack *p, const struct pack_config *config);
/* Until all are over, or the first has failed, and the others are stopped.
 * True: none has.  *failed: what it says; NULL: it was stopped by a signal,
 * and has told.
 */
extern bool pack_wait (struct pack *p, const struct report **failed);
extern void pack_sum (const struct pack *p, struct report *to);
extern void pack_end (struct pack *p);

/* ---- in one process ---- */

/* A sweep as config says, with bases; false: why is told. */
extern bool pack_sweep_begin (struct sweep *s, const struct pack_config *config,
                              struct seen *seen, unsigned part);
/* Assertions and signals are told, with how to come there. */
extern void pack_catch_signals (const struct sweep *s,
                                const struct pack_config *config);
extern void pack_tell_command (const struct pack_config *config,
                               const char *what);
/* What is under way, for a signal: options; empty: the sweep. */
extern void pack_doing (const char *what);
extern double pack_now_s (void);

#endif /* FARPAGE_CRASH_PACK_H */
