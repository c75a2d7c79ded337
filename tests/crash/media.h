/* SPDX-License-Identifier: BSD-2-Clause */
/* Media for the simulator: images that share their blocks, a volume that is
 * such an image, and the record of what was written and flushed when.
 */

#ifndef FARPAGE_CRASH_MEDIA_H
#define FARPAGE_CRASH_MEDIA_H

#include "types.h"
#include "volume.h"

/* ---- images ---- */

/* A page of an image; never changes once it is made. */
struct block {
  unsigned refs;
  uint64_t hash;
  struct block *next_free;
  uint8_t data[PAGE_BYTES] __attribute__ ((aligned (64)));
};

/* Blocks in rows, so that a copy shares all and a change copies one row. */
#define ROW_BLOCKS 64u
struct row {
  unsigned refs;
  struct block *block[ROW_BLOCKS]; /* NULL: zeros */
};

struct image {
  unsigned nr;      /* blocks */
  uint64_t hash;    /* of all content, by place */
  struct row **row; /* NULL: zeros */
};

extern void image_make (struct image *im, unsigned nr); /* all zeros */
extern void image_copy (struct image *to, const struct image *from);
extern void image_free (struct image *im);
extern void image_set (struct image *im, unsigned i, struct block *b);

static inline struct block *
image_get (const struct image *im, unsigned i)
{
  const struct row *row = im->row[i / ROW_BLOCKS];

  return row != NULL ? row->block[i % ROW_BLOCKS] : NULL;
}

/* A reference to a block with this content; NULL: it is all zeros. */
extern struct block *block_new (const void *data);
extern void block_ref (struct block *b); /* NULL is fine */
extern void block_put (struct block *b); /* NULL is fine */
extern void blocks_free (void);          /* those that nobody has */

/* ---- the record of a run: one clock for all its events ---- */

struct media_fault;

enum media_op {
  MEDIA_READ,
  MEDIA_WRITE,
  MEDIA_TRIM,
  MEDIA_SYNC
};

#define RECORD_NEVER UINT64_MAX

struct rec_write {
  unsigned volume, first, nr; /* in blocks */
  unsigned blocks;            /* where in record.blocks the content begins */
  uint64_t begin, end;        /* on the clock; RECORD_NEVER: under way */
};

struct rec_flush {
  unsigned volume;
  uint64_t begin, end;
};

struct record {
  uint64_t clock; /* events so far; an event's time is the count before it */
  struct rec_write *writes;
  struct rec_flush *flushes;
  struct block **blocks;
  unsigned nr_writes, nr_flushes, nr_blocks;
  unsigned max_writes, max_flushes, max_blocks;
  uint64_t nr_io;            /* transfers and flushes */
  struct media_fault *fault; /* NULL: none */
  uint64_t slow;             /* not 0: reads take long, some by this seed */
  bool changed_under_way;    /* a buffer changed while it was being written */
  /* Called before the clock moves; may be NULL. */
  void (*before_event) (void *arg);
  void *arg;
  /* Called before a transfer or flush; may be NULL.  It may set fault. */
  void (*on_io) (void *arg, uint64_t at, enum media_op op);
  void *on_io_arg;
};

/* ---- faults ---- */

enum media_fault_kind {
  MEDIA_EIO,         /* one transfer fails */
  MEDIA_EIO_EVER,    /* so does every later one there */
  MEDIA_ENOSPC,      /* one write finds no space */
  MEDIA_SHORT,       /* half of a write is done, then it fails */
  MEDIA_FLIP,        /* a bit of what is read is turned, once */
  MEDIA_LOST,        /* a write is said to be done, and is not */
  MEDIA_MISDIRECTED, /* a write is done somewhere else */
  MEDIA_STALE,       /* what is read was there before the last write */
  MEDIA_FLUSH,       /* a flush fails, and of what it was to cover some is
                      * lost; the next ones would not fail */
  MEDIA_VANISH,      /* nothing works any more on this volume */
  MEDIA_FAULTS
};
extern const char *const media_fault_names[MEDIA_FAULTS];

/* One fault, at the transfer or flush with this number (all volumes counted
 * together, from 0).
 */
struct media_fault {
  enum media_fault_kind kind;
  uint64_t at;
  const struct image *start; /* of each volume */
  bool hit;
  unsigned volume, first, nr; /* where, if hit */
  enum media_op op;
};

/* What may happen to a transfer: an error, or 0, and how it is done. */
enum media_way {
  WAY_WHOLE,
  WAY_NOT,
  WAY_HALF,
  WAY_FLIPPED,
  WAY_ELSEWHERE,
  WAY_STALE
};

/* Does this fault mean something for such an operation? */
extern bool media_fault_fits (enum media_fault_kind kind, enum media_op op);
/* The operation number `at` comes; the way it goes, and its error. */
extern enum media_way media_fault_take (struct media_fault *f, uint64_t at,
                                        enum media_op op, unsigned volume,
                                        unsigned first, unsigned nr,
                                        int *error);

extern void record_clear (struct record *r);
/* A new record begins with writes that had ended before it, and are not
 * flushed; its clock then begins at 1.
 */
extern void record_begin_with (struct record *r, const struct rec_write *writes,
                               unsigned nr_writes, struct block *const *blocks,
                               unsigned nr_blocks);
extern void record_free (struct record *r);
static inline uint64_t
record_event (struct record *r)
{
  if (r->before_event != NULL)
    r->before_event (r->arg);
  return r->clock++;
}

/* ---- a volume ---- */

/* Over an image that stays the caller's and is changed in place (as a process
 * sees it: what was written is there).  Each read, write, trim and flush is a
 * point of the simulator; writes, trims and flushes go into the record.  Number
 * 1 is sparse: what is freed there is given back, and a trim is a write of
 * zeros.
 */
extern int media_open (struct image *im, unsigned number, struct record *r,
                       struct volume **vp);

#endif /* FARPAGE_CRASH_MEDIA_H */
