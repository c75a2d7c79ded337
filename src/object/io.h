/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages to and from media, with their checks.  Private to object/. */

#ifndef FARPAGE_IO_H
#define FARPAGE_IO_H

#include "request.h"

/* Does a transfer of this volume need a buffer other than buf? */
static inline bool
io_needs_bounce (const struct volume *v, const void *buf)
{
  return v->align > 1 && ((uintptr_t) buf & (v->align - 1)) != 0;
}

/* Do the pages in buf (nr of them) have the checks in ents?  EIO, and a line
 * in the log, if one has not.  Volumes that are not checked always pass.
 */
extern int io_verify (const struct volume *v, const void *buf,
                      const struct swent *ents, uint64_t nr);

/* The checks of the pages in buf, for a checked volume; else zeros. */
extern void io_stamp (const struct volume *v, const void *buf,
                      struct swent *ents, uint64_t nr);

/* Begin to move a run of blocks to or from buf. */
extern void io_start (struct object *o, struct vbatch *batch, struct vio *io,
                      enum vio_op op, const struct space_run *run, void *buf);

/* What a transfer's end means to the request: 0, ENOSPC (a sparse volume has
 * no room left beneath it: no fault of the block), or EIO.
 */
extern int io_error (const struct vio *io);

/* Move one block and wait.  Errors as io_error (). */
extern int io_block (struct object *o, struct vbatch *batch, enum vio_op op,
                     blkno_t blk, void *buf);

#endif /* FARPAGE_IO_H */
