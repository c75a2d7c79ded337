/* SPDX-License-Identifier: BSD-2-Clause */
/* Time and randomness; see env.h. */

#include <config.h>

#include "env.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint64_t
system_now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void
system_random (void *buf, size_t len)
{
  char *p = buf;

  /* getrandom gives up to 256 bytes whole once the pool is ready, and a
   * signal can cut a longer or an early call short.
   */
  while (len > 0) {
    ssize_t n = getrandom (p, len, 0);

    if (n > 0) {
      p += n;
      len -= n;
    }
  }
}

static uint64_t
system_wall_s (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_REALTIME, &ts);
  return (uint64_t) ts.tv_sec;
}

static const struct env_ops system_ops = {
  .now_ns = system_now_ns,
  .random = system_random,
  .wall_s = system_wall_s,
};

static const struct env_ops *current = &system_ops;

void
env_set (const struct env_ops *ops)
{
  current = ops != NULL ? ops : &system_ops;
}

uint64_t
env_now_ns (void)
{
  return current->now_ns ();
}

void
env_random (void *buf, size_t len)
{
  current->random (buf, len);
}

uint64_t
env_wall_s (void)
{
  return current->wall_s != NULL ? current->wall_s () : system_wall_s ();
}
