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

/* This kind at that place; true also if it means nothing there. */
extern bool faults_try (struct faults *f, enum media_fault_kind kind,
                        uint64_t at);

#endif /* FARPAGE_CRASH_FAULTS_H */
