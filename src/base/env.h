/* SPDX-License-Identifier: BSD-2-Clause */
/* Time and randomness, behind a table so that a test or a simulator can give
 * the core its own.
 */

#ifndef FARPAGE_ENV_H
#define FARPAGE_ENV_H

#include <stddef.h>
#include <stdint.h>

struct env_ops {
  /* Nanoseconds on a clock that never goes back.  Blocks: no. */
  uint64_t (*now_ns) (void);
  /* Fill buf with bytes nobody can guess.  Never fails.  Blocks: no. */
  void (*random) (void *buf, size_t len);
  /* Seconds since 1970, for people alone: it may jump.  NULL: the system's.
   * Blocks: no.
   */
  uint64_t (*wall_s) (void);
};

/* The table in use; NULL puts the system's own back.  Set it before any other
 * thread runs.
 */
extern void env_set (const struct env_ops *ops);

extern uint64_t env_now_ns (void);
extern void env_random (void *buf, size_t len);
extern uint64_t env_wall_s (void);

#define NS_PER_S  UINT64_C (1000000000)
#define NS_PER_MS UINT64_C (1000000)

#endif /* FARPAGE_ENV_H */
