/* SPDX-License-Identifier: BSD-2-Clause */
/* A store under test, behind one table: the real one, and those that show
 * what the tests are worth.
 */

#ifndef FARPAGE_CRASH_SUBJECT_H
#define FARPAGE_CRASH_SUBJECT_H

#include "states.h"

/* Names are numbers, "a" to "i".  Functions return 0 or a positive errno. */
struct subject {
  const char *name;
  unsigned nr_volumes;
  unsigned nr_blocks[DISKS_MAX];
  unsigned nr_bases; /* sweep.h: as many as it has room for */
  bool fills;        /* a write may find no space */
  bool reserves;     /* but not of a reserved object */
  bool retires;      /* blocks that failed a write, for good */
  bool strict;       /* every reply means durable */
  bool has_staging;  /* keeps what is replied in ram.h */

  int (*format) (struct volume *const *v, unsigned nr);
  /* Takes the volumes, also when it fails. */
  int (*open) (struct volume *const *v, unsigned nr, void **sp);
  int (*close) (void *s); /* gone, whatever it returns */

  /* reserved: no write to it finds no space.  ENOSPC: it is not made. */
  int (*create) (void *s, unsigned name, uint32_t nr_pages, bool reserved);
  int (*remove) (void *s, unsigned name);
  /* ENOSPC: it is as it was.  NULL: it cannot. */
  int (*resize) (void *s, unsigned name, uint32_t nr_pages);
  int (*size) (void *s, unsigned name, uint32_t *nr_pages); /* ENOENT */

  int (*read) (void *s, unsigned name, void *buf, uint64_t off, uint32_t bytes);
  int (*write) (void *s, unsigned name, const void *buf, uint64_t off,
                uint32_t bytes, bool fua);
  int (*trim) (void *s, unsigned name, uint64_t off, uint32_t bytes, bool fua);
  int (*zero) (void *s, unsigned name, uint64_t off, uint32_t bytes,
               bool may_hole, bool fua);
  int (*flush) (void *s, unsigned name);

  /* Sets hole[i] for pages that block status says are holes; may be NULL. */
  int (*holes) (void *s, unsigned name, uint32_t nr_pages, bool *hole);
  /* NULL, or what is wrong; nobody is at work.  May be NULL. */
  const char *(*check) (void *s);
  /* The same of media that nobody has open, and that are not written; the
   * volumes stay the caller's.  closed: the store was.  May be NULL.
   */
  const char *(*check_media) (struct volume *const *v, unsigned nr,
                              bool closed);
};

extern const struct subject trivial_subject;
extern const struct subject toy_subject;
/* The real one: with staging, without, and durable with each reply. */
extern const struct subject store_subject, plain_subject, strict_subject;
/* As plain, on a volume of 16 GiB: it is slow. */
extern const struct subject huge_subject;

/* What is wrong with the toy, for a test of the tests. */
enum toy_error {
  TOY_GOOD,
  TOY_NO_FLUSH,      /* a flush does not reach the medium */
  TOY_NO_CRC,        /* the data of a record is believed as it is read */
  TOY_NO_EPOCH,      /* dropped records can come back */
  TOY_FUA_IGNORED,   /* FUA waits for nothing */
  TOY_LAZY_NAMES,    /* making and removing are not flushed */
  TOY_EARLY_REPLY,   /* the reply is out before the write */
  TOY_NO_OPEN_FLUSH, /* what a recovery finds may still be lost */
  TOY_EARLY_FLUSH,   /* a flush that was under way already is waited for */
  TOY_ERRORS
};
extern enum toy_error toy_error;

struct done_op;

/* Do what o says, one of the things that a client can ask for: not OP_SLEEP,
 * not OP_REOPEN.  Errors are the store's.
 */
extern int subject_send (const struct subject *subject, void *s,
                         const struct done_op *o);

#endif /* FARPAGE_CRASH_SUBJECT_H */
