/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages to and from media, with their checks; see io.h.
 *
 * A page's CRC32C is in its map entry, so a block that was lost, misplaced or
 * damaged on its way is seen when it is read.  Memory volumes do without:
 * their bytes never leave this process.  A durable object has checks on any
 * volume, for recovery asks them whether a block was written.
 */

#include <config.h>

#include "io.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crc32c.h"
#include "log.h"
#include "sabotage.h"

static struct log_limit verify_limit;

uint64_t
io_count_good (const struct volume *v, const void *buf,
               const struct swent *ents, uint64_t nr)
{
  const char *p = buf;
  uint64_t i = 0;

  if (!v->checked || SABOTAGE (no_page_crc))
    return nr;
  while (i < nr && crc32c (0, p + (i << PAGE_SHIFT), PAGE_BYTES) == ents[i].crc)
    i++;
  return i;
}

int
io_bad_page (struct object *o, struct vbatch *batch, pgno_t pgno,
             const struct swent *ent, void *buf)
{
  blkno_t blk = swmeta_blkno (ent->word);
  struct volume *v = space_volume (o->space, blk);

  if (o->cached && v->direct) {
    void *to = io_needs_bounce (v, buf, IO_READ) ? vbatch_bounce (batch) : buf;
    int err = io_block (o, batch, IO_READ, blk, to);

    if (err)
      return err;
    if (to != buf)
      memcpy (buf, to, PAGE_BYTES);
    if (io_count_good (v, buf, ent, 1) == 1)
      return 0;
  }
  log_limited (&verify_limit, LOG_ERROR,
               "'%s': page %" PRIu64 ": block %" PRIu64 " of %s is not what "
               "was written to it (check the medium; the page reads as an "
               "error)",
               o->name != NULL ? o->name : "?", pgno, blkno_place (blk),
               v->name);
  return EIO;
}

void
io_stamp (const struct object *o, const struct volume *v, const void *buf,
          struct swent *ents, uint64_t nr)
{
  bool needed = v->checked || object_is_durable (o);
  const char *p = buf;

  for (uint64_t i = 0; i < nr; i++, p += PAGE_BYTES)
    ents[i].crc = needed ? crc32c (0, p, PAGE_BYTES) : 0;
}

static struct vio
vio_of (struct object *o, enum io_op op, const struct space_run *run, void *buf)
{
  return (struct vio){
    .volume = space_volume (o->space, run->blk),
    .op = op == IO_WRITE ? VIO_WRITE : VIO_READ,
    .cached = op == IO_READ_CACHED,
    .off = space_off (run->blk),
    .buf = buf,
    .bytes = run->nr << PAGE_SHIFT,
  };
}

void
io_start (struct object *o, struct vbatch *batch, struct vio *io, enum io_op op,
          const struct space_run *run, void *buf)
{
  *io = vio_of (o, op, run, buf);
  vio_start (batch, io);
}

void
io_run_cached (struct object *o, struct vio *io, const struct space_run *run,
               void *buf)
{
  *io = vio_of (o, IO_READ_CACHED, run, buf);
  vio_run (io);
}

int
io_error (const struct vio *io)
{
  if (io->error == 0)
    return 0;
  return io->error == ENOSPC || io->error == EDQUOT ? ENOSPC : EIO;
}

int
io_block (struct object *o, struct vbatch *batch, enum io_op op, blkno_t blk,
          void *buf)
{
  struct space_run run = { blk, 1 };
  struct vio io;

  io_start (o, batch, &io, op, &run, buf);
  if (batch != NULL)
    vbatch_wait (batch);
  return io_error (&io);
}

int
io_read_page (struct object *o, struct vbatch *batch, pgno_t pgno,
              const struct swent *ent, void *buf)
{
  blkno_t blk = swmeta_blkno (ent->word);
  int err;

  if (o->bs != NULL && buf_data_read (o->bs, blk, buf))
    return 0;
  err = io_block (o, batch, io_read_op (o), blk, buf);
  if (err || io_count_good (space_volume (o->space, blk), buf, ent, 1) == 1)
    return err;
  return io_bad_page (o, batch, pgno, ent, buf);
}
