/* SPDX-License-Identifier: BSD-2-Clause */
/* Which sequences of operations are tried, from which beginnings. */

#ifndef FARPAGE_CRASH_SWEEP_H
#define FARPAGE_CRASH_SWEEP_H

#include "explore.h"

#define SEQUENCE_MAX 8u
#define ALL_MAX      3u /* of this length, and shorter, every one */

/* Worlds that sequences begin with: an empty pair of objects, and objects
 * with pages in them, which were closed well; one whose map has more nodes than
 * fit into half of the buffers; and two that have so many that a few writes
 * find none free.
 */
#define BASES      4u
#define BASES_LONG 3u /* these have room for many requests more */

struct sweep {
  struct explore x;
  struct world base[BASES];
  uint64_t nr_sequences, nr_all[ALL_MAX + 1];
  bool drawn_only;         /* not all of one operation, of two, of three */
  unsigned whole;          /* all of this length, also after the deadline */
  unsigned points_max;     /* of a drawn sequence; 0: all */
  unsigned part, nr_parts; /* this process does each nr_parts-th sequence */
  /* Called between sequences; false: it has failed.  May be NULL. */
  bool (*meanwhile) (void *arg);
  void *arg;
  /* The sequence that failed, or is tried. */
  struct op ops[SEQUENCE_MAX];
  unsigned nr_ops, base_nr;
};

/* Format, and make the bases.  False: x.why. */
extern bool sweep_begin (struct sweep *s);
extern void sweep_end (struct sweep *s);

/* All sequences of one, two and three operations from each base, with all that
 * their last one may leave, and by turns with them random ones of two and
 * three, and of four to eight, until the deadline.  nr_all: those that were
 * not cut short.  False: the store has failed: x.why, x.path, ops.
 */
extern bool sweep_run (struct sweep *s);

/* "BASE:op,op,..." */
extern int sweep_parse (struct sweep *s, const char *text);
extern void sweep_print (const struct sweep *s, char *text, size_t bytes);
/* Try that sequence alone. */
extern bool sweep_one (struct sweep *s);
/* The crashes of a failure: "M12.3/P40.0", kind, time and state of each. */
extern void sweep_print_path (const struct sweep *s, char *text, size_t bytes);
extern int sweep_parse_path (struct crash path[DEPTH_MAX], unsigned *nr,
                             const char *text);

/* How many of the bases leave room for hundreds of requests. */
extern unsigned sweep_bases_for_long (const struct subject *subject);

/* Sequences of n operations, from all bases. */
extern uint64_t sweep_how_many (const struct subject *subject, unsigned n);

#endif /* FARPAGE_CRASH_SWEEP_H */
