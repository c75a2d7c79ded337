/* SPDX-License-Identifier: BSD-2-Clause */
/* What space.c, promise.c and retire.c share; nobody else includes it. */

#ifndef FARPAGE_SPACE_IMPL_H
#define FARPAGE_SPACE_IMPL_H

#include "space.h"

#include <stdatomic.h>

#include "lock.h"

struct lane {
  lock_t lock;
  struct space_run run;                     /* [lane.lock] */
  unsigned nr_frees;                        /* [lane.lock] */
  struct space_run frees[SPACE_LANE_FREES]; /* [lane.lock] */
} __attribute__ ((aligned (64)));

struct space_volume {
  lock_t lock;
  struct volume *volume;     /* [const] */
  uint64_t first, nr_blocks; /* [const] of the pool's; bl is taken below */
  struct blist *bl;          /* [lock] */
  _Atomic uint64_t nr_free;  /* of bl; written under lock */
  int64_t credit;            /* [space.lock] turn in the rotation */
} __attribute__ ((aligned (64)));

/* Someone waiting for units, in the order of arrival. */
struct waiter {
  struct waiter *next;
  uint64_t nr;
  bool granted;
};

struct space {
  struct space_config config; /* [const] */
  uint64_t nr_blocks;         /* [const] */
  uint64_t nr_units;          /* [const] */
  uint64_t charge_max;        /* [const] since space_mark_retired () */
  uint64_t retire_max;        /* the same */
  uint64_t low, high;         /* the same */
  uint64_t nr_marked;         /* by space_mark_used (); before anybody works */
  _Atomic uint64_t charged;
  _Atomic int64_t units_free; /* below 0: more parked than there are */
  _Atomic uint64_t nr_parked;
  _Atomic uint64_t nr_retired;
  atomic_uint nr_dropping;  /* objects whose blocks are being freed */
  atomic_uint nr_waiting;   /* in waiters; read without the lock */
  atomic_bool almost, full; /* written under lock */
  lock_t lock;
  cond_t changed;               /* units or charges came back */
  struct waiter *first, **last; /* [lock] */
  unsigned nr_charge_waiters;   /* [lock] */
  enum space_level told;        /* [lock] */
  bool telling;                 /* [lock] somebody is in on_level */
  unsigned nr_retired_runs;     /* [lock] in retired */
  struct space_run retired[SPACE_RETIRED_LISTED]; /* [lock] */
  struct lane lanes[SPACE_LANES];
  struct space_volume volumes[];
};

/* [space.c] */
extern void space_set_levels (struct space *sp);
/* Take a free run out of its blist; EINVAL as space_mark_used (). */
extern int space_take (struct space *sp, const struct space_run *run);

/* [promise.c] */
extern enum space_level space_level_now (struct space *sp);

#endif /* FARPAGE_SPACE_IMPL_H */
