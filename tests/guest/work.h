/* SPDX-License-Identifier: BSD-2-Clause */
/* What programs that keep a guest at work share. */

#ifndef FARPAGE_GUEST_WORK_H
#define FARPAGE_GUEST_WORK_H

#include <stdint.h>
#include <time.h>

enum {
  PAGE = 4096,
  WORDS = PAGE / 8 /* of a page */
};

static inline uint64_t
now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* xorshift64; the state is never 0. */
static inline uint64_t
random_next (uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

#endif /* FARPAGE_GUEST_WORK_H */
