/* SPDX-License-Identifier: BSD-2-Clause */
/* From one run to all that a crash in it may leave, and what comes of that. */

#ifndef FARPAGE_CRASH_EXPLORE_H
#define FARPAGE_CRASH_EXPLORE_H

#include "run.h"

#define DEPTH_MAX 3u

/* One crash: of what, when, and which of the states that it may leave. */
struct crash {
  enum crash_kind kind;
  uint64_t at;
  unsigned choice;
};

struct explore_stat {
  uint64_t nr_runs;     /* openings, so also recoveries */
  uint64_t nr_states;   /* made */
  uint64_t nr_distinct; /* of them, media that no other had */
  uint64_t nr_by_depth[DEPTH_MAX + 1];
  uint64_t nr_by_kind[CRASH_KINDS];
};

/* What was seen: open addressing, shared by processes. */
struct seen;
extern struct seen *seen_new (unsigned shift); /* 2^shift places */
extern void seen_free (struct seen *s);
extern bool seen_add (struct seen *s, uint64_t hash); /* true: it is new */
/* There was no place for one, and it counted as seen. */
extern bool seen_is_full (struct seen *s);

struct explore {
  const struct subject *subject;
  struct seen *seen;
  uint64_t seed;
  /* Of a run that begins with no crash: every state of every point since the
   * last operation began; of one operation, of all points.
   */
  bool every;
  unsigned points_max;  /* else so many points; 0: all */
  unsigned states_max;  /* of one point; more are drawn from; 0: all */
  unsigned inner_max;   /* states of one recovery's own crashes; 0: none */
  uint64_t deadline_ns; /* of real time; 0: none */
  unsigned run_s_max;   /* of a processor for a run (run_limit ()); 0: none */
  struct explore_stat stat;
  /* After a failure: the way there, and what was wrong. */
  struct crash path[DEPTH_MAX];
  unsigned nr_path;
  char why[RUN_WHY_BYTES];
  /* Not NULL: go this way alone, and tell what happens on fd (-1: do not). */
  const struct crash *script;
  unsigned nr_script;
  int fd;
};

/* Do these operations on the world, then crash it everywhere.  after: if not
 * NULL, receives what the run left without a crash (a new base).  False: the
 * store has failed.
 */
extern bool explore_ops (struct explore *x, const struct world *w,
                         const struct op *ops, unsigned nr_ops,
                         struct world *after);

/* An empty formatted store, as a world. */
extern int explore_format (const struct subject *subject, struct world *w);

#endif /* FARPAGE_CRASH_EXPLORE_H */
