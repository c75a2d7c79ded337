/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests for memory that fail, each in turn. */

#ifndef FARPAGE_CRASH_STARVE_H
#define FARPAGE_CRASH_STARVE_H

#include "long.h"

enum starve_way {
  STARVE_RECOVER, /* a recovery, and 500 requests */
  STARVE_OPEN,    /* the open of a closed store, and 500 requests */
  STARVE_CHECK,   /* a check of a closed store */
  STARVE_CHECK_CRASHED,
  STARVE_WAYS
};
extern const char *const starve_names[STARVE_WAYS];

struct starve {
  const struct subject *subject;
  const struct world *base;
  uint64_t seed;
  enum starve_way way;
  uint64_t nr_io; /* of a run without a fault */
  char why[RUN_WHY_BYTES];
};

/* The run without a fault.  False: why. */
extern bool starve_begin (struct starve *s);
/* The n-th request for memory fails; *hit: there were so many.  False: why. */
extern bool starve_try (struct starve *s, uint64_t n, bool *hit);

#endif /* FARPAGE_CRASH_STARVE_H */
