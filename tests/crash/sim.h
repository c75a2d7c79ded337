/* SPDX-License-Identifier: BSD-2-Clause */
/* The simulator: the core's threads as coroutines of one thread, one at a
 * time, the seed choosing which; its time and its randomness.
 */

#ifndef FARPAGE_CRASH_SIM_H
#define FARPAGE_CRASH_SIM_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_TASKS_MAX 64u

struct sim_config {
  uint64_t seed;        /* of the order of tasks */
  uint64_t random_seed; /* of env_random () */
  uint64_t steps_max;   /* 0: SIM_STEPS_MAX */
};
#define SIM_STEPS_MAX UINT64_C (5000000)

enum sim_end {
  SIM_DONE,     /* fn has returned, and all tasks are joined */
  SIM_LEFT,     /* fn has returned, and tasks were left */
  SIM_DEADLOCK, /* all wait, and nobody for a time */
  SIM_LIVELOCK, /* too many steps */
};

/* Run fn (arg) as the first task.  After an end other than SIM_DONE the tasks
 * lie where they were, with what they had allocated: tell it, and exit.
 */
extern enum sim_end sim_run (const struct sim_config *config,
                             void (*fn) (void *arg), void *arg);

/* Who waits where, one task a line with its calls, to a descriptor; after an
 * end other than SIM_DONE.
 */
extern void sim_tell (int fd, enum sim_end end);

/* A place where another task may go on; kind goes into the trace.  Outside a
 * run it does nothing.
 */
enum sim_point {
  SIM_POINT_ACQUIRE = 1,
  SIM_POINT_WAIT,
  SIM_POINT_IO,
  SIM_POINT_START,
  SIM_POINT_YIELD,
  SIM_POINT_SLEEP,
  SIM_POINT_JOIN,
  SIM_POINT_END,
};
extern void sim_point (enum sim_point kind);

/* Called at every point, before anybody is chosen: for snapshots.  NULL: no
 * more.  It must not come to a point itself.
 */
extern void sim_on_point (void (*fn) (void *arg), void *arg);

/* Of what was chosen so far, and how often: two runs with the same seed and
 * the same code have the same.
 */
extern uint64_t sim_trace (void);
extern uint64_t sim_steps (void);
extern uint64_t sim_switches (void);
/* Add to the trace: that an I/O happened, say. */
extern void sim_note (uint64_t what);

/* Give the stacks back. */
extern void sim_free (void);

#endif /* FARPAGE_CRASH_SIM_H */
