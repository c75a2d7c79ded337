/* SPDX-License-Identifier: BSD-2-Clause */
/* What a crash may leave of a run's writes. */

#ifndef FARPAGE_CRASH_STATES_H
#define FARPAGE_CRASH_STATES_H

#include "media.h"
#include "rng.h"

/* Volumes in a simulated store. */
#define DISKS_MAX 3u

/* What crashes: with the machine, what no flush covers may be lost; with the
 * process alone, only what is under way.
 */
enum crash_kind {
  CRASH_MACHINE,
  CRASH_PROCESS,
  CRASH_KINDS
};

struct disks {
  unsigned nr;
  struct image image[DISKS_MAX];
};
extern void disks_copy (struct disks *to, const struct disks *from);
extern void disks_free (struct disks *d);
extern uint64_t disks_hash (const struct disks *d);

/* Points of a record at which a crash may leave something new: of the machine,
 * before each write begins and each flush ends, and at the end; of the process,
 * before each event.  Rising; the caller frees *points.
 */
extern unsigned states_points (const struct record *r, enum crash_kind kind,
                               uint64_t **points);

/* Moments of a machine's record at which more can be wrong than at others. */
enum moment {
  MOMENT_ANY,
  MOMENT_SUPER, /* a write of the first volume's superblock begins: what the
                 * one that counts says is the oldest */
  MOMENT_FLUSH, /* a flush ends: the most writes are in doubt */
  MOMENTS
};

/* One in four is put off until the next moment of either kind: *waits says for
 * which.  Of a point in rising order, is it one that is wanted?
 */
extern bool states_put_off (const struct record *r, const struct disks *d,
                            uint64_t at, bool wanted, struct rng *rng,
                            enum moment *waits);

/* A walk over the points of one record, in rising order. */
struct states {
  const struct record *record; /* stays the caller's */
  enum crash_kind kind;
  struct disks sure; /* what any crash at this point leaves */
  uint64_t at;
  uint8_t *covered; /* for each write: it is in sure */
  unsigned *maybe;  /* writes that a crash may leave or not */
  unsigned nr_maybe;
  unsigned nr_whole, nr; /* choices with whole writes only; all */
};

extern void states_begin (struct states *s, const struct record *r,
                          const struct disks *start, enum crash_kind kind);
extern void states_end (struct states *s);

/* Go to this point.  Then s->nr choices are there: up to STATES_ALL writes,
 * every subset; of more, prefixes, one lost, one kept, and random ones; then
 * some in which one write is torn between sectors.
 */
#define STATES_ALL 8u
extern void states_advance (struct states *s, uint64_t at);

/* Of the death of a process, with whole writes: is this write, which was not
 * over, kept in choice i?
 */
extern bool states_keeps (const struct states *s, unsigned i, unsigned write);

/* Choice i, 0 to s->nr - 1: what lies on the media then. */
extern void states_make (const struct states *s, unsigned i, struct disks *to);

/* The same in words, for people. */
extern void states_print (const struct states *s, unsigned i, int fd);

#endif /* FARPAGE_CRASH_STATES_H */
