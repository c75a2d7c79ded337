/* SPDX-License-Identifier: BSD-2-Clause */
/* Recovery: from whatever a crash left to what was promised.
 *
 * With no thread running: finish what a dead process had staged; find the
 * log's end; take a new epoch; UNDO backwards, REDO forwards; one cycle, whose
 * superblock ends it.  A crash at any step, and it begins again and comes to
 * the same.  It never allocates blocks.  See recover.c.
 */

#ifndef FARPAGE_RECOVER_H
#define FARPAGE_RECOVER_H

#include "flush.h"
#include "staging.h"

/* What redoes a record, above.  Called in the log's order, in one change. */
struct recover_ops {
  /* UNDO is done: trees may be loaded from the roots in root. */
  int (*begin) (void *arg, const struct disk_super *root);
  /* NODE, UNNODE; UNNODEs come last. */
  int (*node) (void *arg, struct change *ch, const struct disk_rec *rec);
  int (*object) (void *arg, struct change *ch, const struct disk_rec *rec,
                 const struct disk_object *entry);
  /* MAP, ZERO, FREE of an object that may be gone.  crc: nr of a MAP. */
  int (*map) (void *arg, struct change *ch, const struct disk_rec *rec,
              const uint32_t *crc);
  /* The block of the node that has this page's entry, if it is in no buffer; 0:
   * it is, or none has.  May read what is above it.  NULL: nobody knows.
   */
  uint64_t (*where) (void *arg, uint64_t object, pgno_t pgno);
};

struct recover_report {
  bool clean;           /* nothing had to be done */
  uint64_t nr_staged;   /* buffers a dead process had left */
  uint64_t nr_undone;   /* nodes put back */
  uint64_t nr_redone;   /* records */
  uint64_t nr_verified; /* pages whose blocks were looked at */
  uint64_t nr_fallen;   /* pages that fell back to an older entry */
  uint64_t first_lsn, end_lsn, durable_lsn;
};

/* EUCLEAN: the log is damaged (told in the log: farpage check).  EIO, ENOMEM.
 * Blocks: yes, for as long as the log is.
 */
extern int recover_run (struct flush *fl, struct supers *supers,
                        struct staging *old, const struct recover_ops *ops,
                        void *arg, struct recover_report *report);

/* The log as recovery would find it. */
struct recover_look {
  uint64_t first, end, mark; /* redo_lsn; end; durable up to here */
  uint64_t epoch; /* the highest in [first, end), at least redo_epoch */
  uint64_t nr_images, nr_records;
  uint64_t nr_dropped; /* good blocks behind the end: they do not count */
  uint64_t sequence;   /* of the root's superblock that was gone by */
  bool newer;          /* a block tells of a newer one: that is what is wrong */
  const char *wrong;   /* NULL, or what is wrong with block wrong_lsn */
  uint64_t wrong_lsn;
  bool unread; /* what is wrong is that it cannot be read */
};

/* Look at the log of a root volume: what recovery would begin with, and what
 * makes it refuse.  first == end: there is nothing to do.  Tells nothing,
 * writes nothing.  ENOMEM.  Blocks: yes.
 */
extern int recover_look (struct volume *v, const struct disk_super *root,
                         struct recover_look *look);

#endif /* FARPAGE_RECOVER_H */
