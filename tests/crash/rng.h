/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers that a seed decides (splitmix64), and mixing for hashes. */

#ifndef FARPAGE_CRASH_RNG_H
#define FARPAGE_CRASH_RNG_H

#include <stdint.h>

struct rng {
  uint64_t state;
};

static inline uint64_t
rng_mix (uint64_t x)
{
  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

static inline uint64_t
rng_next (struct rng *r)
{
  r->state += UINT64_C (0x9e3779b97f4a7c15);
  return rng_mix (r->state);
}

/* 0 to n - 1; n is not 0. */
static inline uint64_t
rng_below (struct rng *r, uint64_t n)
{
  return (uint64_t) (((unsigned __int128) rng_next (r) * n) >> 64);
}

/* A hash that takes in one word more. */
static inline uint64_t
hash_add (uint64_t hash, uint64_t word)
{
  return rng_mix (hash ^ (word + UINT64_C (0x9e3779b97f4a7c15) + (hash << 6)));
}

#endif /* FARPAGE_CRASH_RNG_H */
