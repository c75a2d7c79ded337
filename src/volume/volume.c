/* SPDX-License-Identifier: BSD-2-Clause */
/* What all volumes have in common: the calls of volume.h that go through the
 * table of functions, and the end of a transfer.
 *
 *   space --> volume_trim, object --> vio_start, volume_flush --> volume_ops
 *       { memory.c, file.c (+ path.c, label.c), overlay.c, fault.c }
 *                     file.c --> batch.c (vbatch_start_fd)
 *                     all of them --> vio_finish
 *
 * I1. A transfer lies inside its volume, in whole pages, and its memory is
 *     aligned as the volume says and as long as the transfer: checked here
 *     once, by assertion, for a wrong one is a bug of the layer above.
 * I2. Every error of a medium is counted in nr_errors and told, at most once
 *     a second for each volume.
 * I3. flush_failed is set before the flush that failed returns, and never
 *     taken back; with it set no write, trim or flush reaches the medium that
 *     had not begun before.
 *
 * No locks: flush_failed, nr_errors and the log's limit are atomic, the rest
 * is constant from open to close.  It does not keep close away from transfers
 * that are under way; its caller does.
 */

#include <config.h>

#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "medium.h"
#include "sabotage.h"

int
medium_init (struct volume *v, const struct volume_ops *ops, const char *name)
{
  v->name = strdup (name);
  if (v->name == NULL)
    return ENOMEM;
  v->ops = ops;
  return 0;
}

void
medium_fini (struct volume *v)
{
  free (v->name);
}

static void
count_error (struct volume *v)
{
  atomic_fetch_add_explicit (&v->nr_errors, 1, memory_order_relaxed);
}

void
vio_finish (struct vio *io, int error)
{
  struct volume *v = io->volume;

  io->error = error;
  if (error == 0)
    return;
  count_error (v);
  log_limited (&v->error_limit, LOG_ERROR,
               "%s: %s of %zu bytes at %" PRIu64 " failed: %s", v->name,
               io->op == VIO_READ ? "read" : "write", io->bytes, io->off,
               strerror (error));
}

static bool
in_volume (const struct volume *v, uint64_t off, uint64_t bytes)
{
  return off <= v->size_bytes && bytes <= v->size_bytes - off &&
         ((off | bytes) & PAGE_MASK) == 0;
}

struct iovec
vio_rest (const struct vio *io, size_t at, unsigned *ip)
{
  struct iovec part;
  unsigned i = 0;

  assert (at < io->bytes);
  for (part = vio_part (io, 0); at >= part.iov_len; part = vio_part (io, ++i))
    at -= part.iov_len;
  *ip = i;
  return (struct iovec){ (char *) part.iov_base + at, part.iov_len - at };
}

static bool
memory_is_good (const struct vio *io)
{
  size_t sum = 0, mask = io->cached ? 0 : io->volume->align - 1;

  if (io->iov != NULL && (io->nr_iov == 0 || io->nr_iov > VIO_IOV_MAX))
    return false;
  for (unsigned i = 0; i < vio_nr_parts (io); i++) {
    struct iovec part = vio_part (io, i);

    if (((uintptr_t) part.iov_base & mask) != 0 || part.iov_len == 0 ||
        (part.iov_len & PAGE_MASK) != 0 || part.iov_len > io->bytes - sum)
      return false;
    sum += part.iov_len;
  }
  return sum == io->bytes;
}

void
vio_start (struct vbatch *batch, struct vio *io)
{
  struct volume *v = io->volume;

  assert (io->bytes > 0 && in_volume (v, io->off, io->bytes));
  assert (memory_is_good (io));
  assert (!io->cached || io->op == VIO_READ);
  assert (batch != NULL || !v->batched);
  io->error = 0;
  io->done = 0;
  if (io->op == VIO_WRITE && v->readonly)
    vio_finish (io, EROFS);
  else if (io->op == VIO_WRITE && atomic_load (&v->flush_failed))
    vio_finish (io, EIO);
  else
    v->ops->start (v, batch, io);
}

int
volume_read (struct volume *v, uint64_t off, void *buf, size_t bytes)
{
  struct vio io = {
    .volume = v, .op = VIO_READ, .off = off, .buf = buf, .bytes = bytes
  };

  vio_run (&io);
  return io.error;
}

int
volume_write (struct volume *v, uint64_t off, const void *buf, size_t bytes)
{
  struct vio io = { .volume = v,
                    .op = VIO_WRITE,
                    .off = off,
                    .buf = (void *) buf,
                    .bytes = bytes };

  vio_run (&io);
  return io.error;
}

int
volume_flush (struct volume *v)
{
  bool failed = atomic_load (&v->flush_failed);
  int err;

  if (v->readonly)
    return 0;
  err = failed ? EIO : v->ops->flush (v);
  if (err && SABOTAGE (retry_flush))
    err = v->ops->flush (v);
  if (err == 0)
    return 0;
  count_error (v);
  if (!failed && !atomic_exchange (&v->flush_failed, true))
    log_write (LOG_ERROR,
               "%s: flush failed: %s (what was written last may be lost; "
               "nothing is written to it any more until it is opened anew)",
               v->name, strerror (err));
  return err;
}

int
volume_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  int err;

  assert (in_volume (v, off, bytes));
  if (!v->sparse)
    return EOPNOTSUPP;
  if (bytes == 0)
    return 0;
  if (atomic_load (&v->flush_failed))
    return EIO;
  err = v->ops->trim (v, off, bytes);
  if (err != 0 && err != EOPNOTSUPP) {
    count_error (v);
    log_limited (&v->error_limit, LOG_ERROR,
                 "%s: trim of %" PRIu64 " bytes at %" PRIu64 " failed: %s",
                 v->name, bytes, off, strerror (err));
  }
  return err;
}

void
volume_close (struct volume *v)
{
  if (v != NULL)
    v->ops->close (v);
}
