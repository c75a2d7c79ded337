/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages to and from media, with their checks.  Private to object/. */

#ifndef FARPAGE_IO_H
#define FARPAGE_IO_H

#include "request.h"

enum io_op {
  IO_WRITE,
  IO_READ,
  IO_READ_CACHED /* through the page cache, if the volume has a way */
};

/* How this object reads, at first. */
static inline enum io_op
io_read_op (const struct object *o)
{
  return o->cached ? IO_READ_CACHED : IO_READ;
}

/* Does a transfer of this volume need a buffer other than buf? */
static inline bool
io_needs_bounce (const struct volume *v, const void *buf, enum io_op op)
{
  return v->align > 1 && op != IO_READ_CACHED &&
         ((uintptr_t) buf & (v->align - 1)) != 0;
}

/* One transfer through the page cache, done when this returns.  Blocks: yes. */
extern void io_run_cached (struct object *o, struct vio *io,
                           const struct space_run *run, void *buf);

/* How many pages in buf, from the first on (of nr), have the checks in ents.
 * On volumes that are not checked all have.
 */
extern uint64_t io_count_good (const struct volume *v, const void *buf,
                               const struct swent *ents, uint64_t nr);

/* The page that was read as pgno has not the check in ent.  If that came
 * through the page cache it is read again, past it, to buf.  EIO, and a line
 * in the log, if it is still wrong.  batch: its bounce is not in use.
 */
extern int io_bad_page (struct object *o, struct vbatch *batch, pgno_t pgno,
                        const struct swent *ent, void *buf);

/* The checks of the pages in buf, if anything will look at them; else zeros. */
extern void io_stamp (const struct object *o, const struct volume *v,
                      const void *buf, struct swent *ents, uint64_t nr);

/* Begin to move a run of blocks to or from buf. */
extern void io_start (struct object *o, struct vbatch *batch, struct vio *io,
                      enum io_op op, const struct space_run *run, void *buf);

/* What a transfer's end means to the request: 0, ENOSPC (a sparse volume has
 * no room left beneath it: no fault of the block), or EIO.
 */
extern int io_error (const struct vio *io);

/* Move one block and wait.  Errors as io_error (). */
extern int io_block (struct object *o, struct vbatch *batch, enum io_op op,
                     blkno_t blk, void *buf);

/* The page pgno, whose entry is ent, from its buffer or its block to buf
 * (page-aligned).  EIO.
 */
extern int io_read_page (struct object *o, struct vbatch *batch, pgno_t pgno,
                         const struct swent *ent, void *buf);

#endif /* FARPAGE_IO_H */
