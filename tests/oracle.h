/* SPDX-License-Identifier: BSD-2-Clause */
/* What sectors of disks may hold, after requests of which some were answered
 * and some were not; see oracle.c.
 */

#ifndef FARPAGE_TEST_ORACLE_H
#define FARPAGE_TEST_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR       512u
#define PAGE_SECTORS 8u

struct oracle;

/* What an answered request is worth. */
enum oracle_keeps {
  KEEPS_REPLIED, /* it stands: the death of a process */
  KEEPS_FLUSHED, /* it stands if it was flushed: a power cut, a failed disk */
};

struct range {
  unsigned disk;
  uint32_t first, nr; /* sectors */
};

/* All sectors are zero.  journal: NULL, or where everything is noted.  Ends
 * the process if there is no memory.
 */
extern struct oracle *oracle_new (unsigned nr_disks, uint32_t disk_sectors,
                                  enum oracle_keeps keeps, const char *journal);
extern void oracle_free (struct oracle *o);

/* A request goes out that writes a value of its own, or zeros.  Its id; 0: not
 * now, too much is open about one of its sectors.
 */
extern uint32_t oracle_issue (struct oracle *o, struct range r, bool zero);
/* It is over: answered without an error (sure), or it may have happened. */
extern void oracle_over (struct oracle *o, uint32_t id, bool sure, bool fua);
/* A flush goes out; what to call it by when it worked. */
extern uint64_t oracle_flush (struct oracle *o);
extern void oracle_flushed (struct oracle *o, uint64_t flush);
/* Note in the journal that all of this was before record nr of a log. */
extern void oracle_mark (struct oracle *o, uint64_t nr);

/* Play what another oracle's journal has, up to its last mark that is not
 * above nr, and of what follows only that it may have happened.
 */
extern void oracle_play (struct oracle *o, const char *journal, uint64_t nr);

/* The bytes that a request is to write. */
extern void oracle_fill (uint32_t id, struct range r, void *bytes);

enum oracle_look {
  LOOK_READ,    /* of a store at work: sectors that did not rest are left out */
  LOOK_RESTART, /* after one: what is found is what it is from now on */
  LOOK_COPY,    /* of a copy of an earlier time: nothing follows from it */
};

/* Could this be read?  since: oracle_flush () before a LOOK_READ.  The number
 * of wrong sectors; the first of them are told.
 */
extern unsigned oracle_check (struct oracle *o, struct range r,
                              const void *bytes, enum oracle_look look,
                              uint64_t since);

#endif /* FARPAGE_TEST_ORACLE_H */
