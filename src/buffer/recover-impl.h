/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of recovery share; nobody else includes it. */

#ifndef FARPAGE_RECOVER_IMPL_H
#define FARPAGE_RECOVER_IMPL_H

#include "flush-impl.h"
#include "recover.h"
#include "ring.h"

/* What a record above the mark makes of a page. */
struct candidate {
  uint64_t object;
  pgno_t pgno;
  uint64_t order; /* of the record, rising */
  uint64_t blk;   /* MAP */
  uint32_t crc;   /* MAP */
  uint16_t type;  /* enum disk_rec_type */
  bool newest;    /* of its page */
  bool good;      /* the block has that CRC */
  bool chosen;    /* of its page's candidates */
};

#ifndef AHEAD_NODES /* the simulator has fewer */
#define AHEAD_NODES 256u
#endif

/* Nodes that were read before redo asked for them; recover-ahead.c. */
struct ahead_node {
  uint64_t blk;  /* 0: it could not be read */
  uint64_t from; /* the block that was read: this one, or its image */
};
struct ahead {
  uint8_t *pages; /* AHEAD_NODES blocks, as they were read */
  struct ahead_node node[AHEAD_NODES];
  unsigned nr;
  uint64_t cycle; /* when they were read; UINT64_MAX: they were not */
};

struct recover {
  struct flush *fl;
  struct supers *supers;
  const struct recover_ops *ops;
  void *arg;
  struct recover_report *report;
  uint8_t *page;      /* one block */
  unsigned nr_copies; /* old images in flush.copies, not written yet */
  struct ring ring;
  struct ahead ahead;
  uint64_t sequence;                   /* of the root's superblock as read */
  uint64_t first, end, mark;           /* redo_lsn, E, M */
  uint64_t epoch;                      /* the highest in [first, end) */
  uint64_t nr_images;                  /* in [first, end) */
  uint64_t nr_pages_above, nr_unnodes; /* in records above the mark */
  struct candidate *candidates;
  uint64_t nr_candidates;
  struct disk_rec *late; /* UNNODE above the mark */
  uint64_t nr_late;
};

/* Is blk where META or DATA can be? */
extern bool recover_block_ok (const struct recover *rc, uint64_t blk);

/* ---- recover-scan.c ---- */

/* Log block lsn, of [first, end).  back: the next will be the one before it.
 * EIO: it was read well before, and is not now.
 */
extern int recover_log (struct recover *rc, uint64_t lsn, bool back,
                        const struct disk_log **logp);
/* Find end, mark, epoch and counts.  clean: the superblock says that nothing
 * follows, and is the last; then, if so, the rest of the ring is not looked at.
 * EUCLEAN: damage; EIO: it may be, but something cannot be read.  Told.
 */
extern int recover_scan (struct recover *rc, bool clean);

/* A slot of the root is not good, and may have been the newest: does anything
 * that the dead process has left tell of it?  Before the next slot is written,
 * which may be its place.  Errors as recover_scan ().
 */
extern int recover_ask_root (struct recover *rc, struct staging *old);

/* ---- recover.c ---- */

/* One change ends and another begins: what is dirty is written if there is
 * much of it.
 */
extern int recover_next (struct recover *rc, struct change *ch);
/* The same, and what has been noted for the free map is folded. */
extern int recover_breathe (struct recover *rc, struct change *ch);

/* ---- recover-undo.c ---- */

/* Go through the images, from the log's end on: which are the oldest. */
extern int recover_note_images (struct recover *rc);
/* Its image that counts; 0: it has none, or was written since. */
extern uint64_t recover_image_lsn (const struct recover *rc, uint64_t blk);
/* A bufs_source: a node that redo wants to read, as its oldest image says
 * unless it was written since.
 */
extern int recover_read_image (void *rc, uint64_t blk, void *page);
/* Redo is over, and what it has changed is written: put the others back. */
extern int recover_put_back_rest (struct recover *rc);
/* Redo has come to something that cannot be: put everything back, also what
 * this recovery has laid images of.
 */
extern void recover_put_back_all (struct recover *rc);

/* ---- recover-ahead.c ---- */

extern int recover_ahead_open (struct recover *rc); /* ENOMEM */
extern void recover_ahead_close (struct recover *rc);
/* Forget what there is; gather nodes that have entries of these pages and are
 * in no buffer, AHEAD_NODES at most; read them.
 */
extern void recover_ahead_begin (struct recover *rc);
extern void recover_ahead_add (struct recover *rc, uint64_t object, pgno_t pgno,
                               uint64_t nr);
extern void recover_ahead_read (struct recover *rc);
/* Has block blk been read ahead?  Then what was read for it: its image's log
 * block if it has an image that counts.
 */
extern bool recover_ahead_take (struct recover *rc, uint64_t blk, void *page);

/* ---- recover-page.c ---- */

/* Memory for what recover_scan () has counted. */
extern int recover_make_room (struct recover *rc);
extern int recover_gather (struct recover *rc, const struct disk_rec *rec,
                           const uint32_t *crc);
/* Which candidate of each page counts; tell it. */
extern int recover_pages (struct recover *rc, struct change *ch);

#endif /* FARPAGE_RECOVER_IMPL_H */
