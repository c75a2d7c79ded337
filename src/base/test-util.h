/* SPDX-License-Identifier: BSD-2-Clause */
/* What the random tests of this folder share. */

#ifndef FARPAGE_TEST_UTIL_H
#define FARPAGE_TEST_UTIL_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "test-alone.h"

/* A number from the environment. */
static inline uint64_t
test_environment (const char *name, uint64_t otherwise)
{
  const char *text = getenv (name);

  return text != NULL ? strtoull (text, NULL, 0) : otherwise;
}

/* The seed of this run, printed so that it can be run again. */
static inline uint64_t
test_seed (void)
{
  uint64_t seed = test_environment ("FARPAGE_SEED", (uint64_t) time (NULL));

  printf ("FARPAGE_SEED=%" PRIu64 "\n", seed);
  fflush (stdout);
  return seed;
}

/* The next random number below this one; 0 below 0.  State is not 0. */
static inline uint64_t
test_random_below (uint64_t *state, uint64_t below)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return below == 0 ? 0 : (*state >> 11) % below;
}

#endif /* FARPAGE_TEST_UTIL_H */
