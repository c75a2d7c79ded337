/* SPDX-License-Identifier: BSD-2-Clause */
/* A long run: 500 requests one after the other, or by several clients at once
 * for a while, in phases that lean on one part of the store each; its ledger,
 * and the look at what it has left.  faults.c, cuts.c and starve.c are its
 * callers.
 */

#ifndef FARPAGE_CRASH_LONG_H
#define FARPAGE_CRASH_LONG_H

#include "ledger.h"
#include "run.h"

#define LONG_REQUESTS   500u
#define LONG_FIRST_LIFE 100u /* of objects that it makes */
#define LONG_TOGETHER   16u /* changes and flushes of several clients at once */
#define LONG_OPS        (LONG_REQUESTS + LONG_TOGETHER)

struct long_run {
  const struct subject *subject;
  const struct world *base;
  uint64_t seed;
  struct media_fault *fault; /* NULL: none */
  struct disks disks;
  struct record record;
  struct ledger ledger;
  struct expect start;         /* what the ledger began with */
  struct done_op op[LONG_OPS]; /* as they were done */
  unsigned nr_ops;
  unsigned nr_requests, nr_requests_max;
  bool closed;     /* cleanly */
  bool errors;     /* some request has failed */
  bool lies;       /* the medium said it had done what it had not */
  bool may_refuse; /* the next open: more is lost than may be */
  bool check;      /* the store after the look, too */
  bool failed;     /* why */
  char why[RUN_WHY_BYTES];
  /* Under way. */
  void *s;
  struct rng rng;
  uint16_t token, life;
  unsigned phase, phase_left;
  unsigned group, nr_groups; /* several clients are at work; 0: one */
};

extern void long_begin (struct long_run *y, const struct subject *subject,
                        const struct world *base, uint64_t seed);
extern void long_end (struct long_run *y);

/* Open, nr_requests_max requests, compare, check, close; nr tells one run of a
 * chain from another.  Nothing may fail before the fault was met.
 */
extern void long_go (struct long_run *y, unsigned nr);

/* Open what there is, with media that work now, and compare with the ledger:
 * live if the run was closed (or keeps: the process died alone), else durable.
 * Then so many requests more, from what was found on, compare, close.
 */
extern void long_look (struct long_run *y, unsigned nr, bool keeps,
                       unsigned nr_requests);

/* Open what there is with y->fault, compare, close, whatever comes of it: what
 * it has left is still to be looked at.
 */
extern void long_try (struct long_run *y, unsigned nr, bool keeps);

/* The ledger for a moment on the record's clock. */
extern void long_ledger_at (const struct long_run *y, uint64_t at,
                            struct ledger *l);

/* ---- between long.c, long-requests.c and long-together.c ---- */

/* The next one. */
extern void long_request (struct long_run *y);
/* One request: done, judged and noted. */
extern void long_op (struct long_run *y, const struct op *op);
/* Several clients at once.  False: not now. */
extern bool long_together (struct long_run *y);

/* A large write of so many pages of object b, from there. */
#define CHURN_PAGE 300u
#define CHURN_NR   20u
/* The place of the n-th page of an object that is used. */
extern uint32_t long_place (const struct long_run *y, unsigned name,
                            uint32_t n);
/* It failed: was the fault there by then?  It went well: should it have? */
extern void long_judge (struct long_run *y, const char *what, int err,
                        bool failed_before, bool durable);
extern void long_compare_page (struct long_run *y, const struct expect *e,
                               const struct expect_page *p, bool must_read);
extern void long_wrong (struct long_run *y, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

#endif /* FARPAGE_CRASH_LONG_H */
