/* SPDX-License-Identifier: BSD-2-Clause */
/* The contract, as a machine that can say which contents are allowed: what the
 * server promises (docs/contract.md), and nothing of how it is done.
 *
 * A page's content is told by its sectors, and a sector's by a token: 0 for
 * zeros, else the number of the operation that wrote it.
 */

#ifndef FARPAGE_CRASH_MODEL_H
#define FARPAGE_CRASH_MODEL_H

#include <errno.h>

#include "states.h"

#define MODEL_NAMES    9u   /* objects "a" to "i" */
#define MODEL_OPS_MAX  32u  /* in one run */
#define MODEL_PAGES    176u /* pages of all objects that a history touches */
#define MODEL_VERSIONS 24u  /* contents that one page may have */
#define PAGE_SECTORS   (PAGE_BYTES / SECTOR_BYTES)

enum op_kind {
  OP_WRITE,
  OP_TRIM,
  OP_ZERO,          /* may leave a hole */
  OP_ZERO_RESERVED, /* may not */
  OP_FLUSH,
  OP_CREATE,
  OP_REMOVE,
  OP_RESIZE,
  OP_SLEEP,  /* 6 s: timers come */
  OP_REOPEN, /* close and open again, with nobody else at work */
  OP_KINDS
};

struct op {
  enum op_kind kind;
  unsigned name;      /* which object */
  uint32_t first, nr; /* in sectors; OP_CREATE, OP_RESIZE: nr is the size in
                       * pages */
  bool fua;           /* OP_CREATE: reserved */
  unsigned client;    /* which task does it */
};

/* ---- what a store may hold ---- */

struct content {
  uint16_t token[PAGE_SECTORS];
};

struct expect_page {
  unsigned name;
  uint32_t pgno;
  unsigned nr;
  struct content is[MODEL_VERSIONS]; /* one of these */
};

struct expect_name {
  uint16_t life;      /* of the object, if there is one; 0: there is none */
  bool may_be_absent; /* with a life: it, or none */
  uint32_t nr_pages;
  uint32_t or_pages; /* not 0: or so many */
};

/* Pages that are not named are zeros. */
struct expect {
  struct expect_name name[MODEL_NAMES];
  unsigned nr_pages;
  struct expect_page page[MODEL_PAGES];
};

extern uint64_t expect_hash (const struct expect *e);

/* ---- what was done in a run ---- */

struct done_op {
  struct op op;
  uint16_t token;        /* of what it wrote; unique in all runs of a chain */
  uint16_t life;         /* of the object, or the one it made */
  uint64_t begin, reply; /* on the record's clock; RECORD_NEVER: not yet */
  int error;
  unsigned group; /* of a long run: those with one number went together */
};

struct history {
  bool strict;         /* every reply means durable */
  struct expect start; /* what the store held when it was opened: all sure */
  uint64_t opened;     /* when that was; RECORD_NEVER: not yet */
  unsigned nr;
  struct done_op op[MODEL_OPS_MAX];
};

/* What a crash at a point leaves, after the store was open. */
/* A create or resize that found no space was answered by `at`: nothing was
 * changed.
 */
static inline bool
was_refused (const struct done_op *o, uint64_t at)
{
  return (o->op.kind == OP_CREATE || o->op.kind == OP_RESIZE) &&
         o->error == ENOSPC && o->reply < at;
}

extern void model_crash (const struct history *h, enum crash_kind kind,
                         uint64_t at, struct expect *to);

/* What a read may see that began at `begin` and ends now. */
extern void model_read (const struct history *h, uint64_t begin,
                        struct expect *to);

/* ---- bytes ---- */

struct where {
  uint16_t life;
  uint32_t pgno;
};

/* The bytes of a page's sector as token wrote it. */
extern void content_fill (uint16_t token, const struct where *at,
                          unsigned sector, void *to);

/* Which content a page has.  False: it is none that anybody wrote there, and
 * why (200 bytes) says what it looks like.
 */
extern bool content_parse (const void *page, const struct where *at,
                           struct content *c, char *why);

/* What o makes of a page that it touches. */
extern void model_apply (const struct done_op *o, uint32_t pgno,
                         struct content *c);
extern bool expect_allows (const struct expect_page *e,
                           const struct content *c);
/* NULL: zeros alone are allowed. */
extern const struct expect_page *expect_find (const struct expect *e,
                                              unsigned name, uint32_t pgno);
/* The page, added with zeros if it is not there. */
extern struct expect_page *expect_page (struct expect *e, unsigned name,
                                        uint32_t pgno);

#endif /* FARPAGE_CRASH_MODEL_H */
