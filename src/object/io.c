/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages to and from media, with their checks; see io.h.
 *
 * A page's CRC32C is in its map entry, so a block that was lost, misplaced or
 * damaged on its way is seen when it is read.  Memory volumes do without:
 * their bytes never leave this process.
 */

#include <config.h>

#include "io.h"

#include <errno.h>
#include <inttypes.h>

#include "crc32c.h"
#include "log.h"

static struct log_limit verify_limit;

int
io_verify (const struct volume *v, const void *buf, const struct swent *ents,
           uint64_t nr)
{
  const char *p = buf;

  if (!v->checked)
    return 0;
  for (uint64_t i = 0; i < nr; i++, p += PAGE_BYTES)
    if (crc32c (0, p, PAGE_BYTES) != ents[i].crc) {
      log_limited (&verify_limit, LOG_ERROR,
                   "%s: block %" PRIu64 " is not what was written to it "
                   "(check the medium; the page reads as an error)",
                   v->name, blkno_place (swmeta_blkno (ents[i].word)));
      return EIO;
    }
  return 0;
}

void
io_stamp (const struct volume *v, const void *buf, struct swent *ents,
          uint64_t nr)
{
  const char *p = buf;

  for (uint64_t i = 0; i < nr; i++, p += PAGE_BYTES)
    ents[i].crc = v->checked ? crc32c (0, p, PAGE_BYTES) : 0;
}

void
io_start (struct object *o, struct vbatch *batch, struct vio *io,
          enum vio_op op, const struct space_run *run, void *buf)
{
  *io = (struct vio){
    .volume = space_volume (o->space, run->blk),
    .op = op,
    .off = space_off (run->blk),
    .buf = buf,
    .bytes = run->nr << PAGE_SHIFT,
  };
  vio_start (batch, io);
}

int
io_error (const struct vio *io)
{
  if (io->error == 0)
    return 0;
  return io->error == ENOSPC || io->error == EDQUOT ? ENOSPC : EIO;
}

int
io_block (struct object *o, struct vbatch *batch, enum vio_op op, blkno_t blk,
          void *buf)
{
  struct space_run run = { blk, 1 };
  struct vio io;

  io_start (o, batch, &io, op, &run, buf);
  if (batch != NULL)
    vbatch_wait (batch);
  return io_error (&io);
}
