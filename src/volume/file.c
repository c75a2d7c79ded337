/* SPDX-License-Identifier: BSD-2-Clause */
/* A volume on a path: a regular file, or a block device.
 *
 *   volume_open_path
 *     --> path_type      what is it?                   [path.c]
 *     --> path_open      open and lock                 [path.c]
 *     --> path_size      big enough?                   [path.c]
 *     --> label_check    ours, empty, or force         [label.c]
 *     --> path_allocate  a regular file's blocks       [path.c]
 *     --> path_direct    past the page cache           [path.c]
 *     --> path_cached    and a way through it          [path.c]
 *     --> label_write    from here on it is ours       [label.c]
 *
 * I1. Nothing on the path changes before label_check () has agreed.
 * I2. Unless sparse, a regular file has all its blocks from open to close.
 * I3. Nothing is ever written through cached_fd, and what is written past the
 *     page cache is taken out of it by the kernel: a cached read that begins
 *     when no write of its pages is under way finds what is on the medium.
 *     (The second descriptor takes no lock, and closing it gives none up:
 *     locks of open file descriptions are not those of a process.)
 *
 * I4. A flush that begins when another has failed fails with it, even if both
 *     ran at once: fdatasync is called by one thread at a time, and not again
 *     after an error.
 *
 * Lock: file.flush_lock (LOCK_LEAF), over fdatasync; all else is constant from
 * open to close.  It does not notice a path that shrinks or grows while it is
 * open; a read behind the new end is EIO.
 */

#include <config.h>

#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lock.h"
#include "log.h"
#include "medium.h"

struct file {
  struct volume v;
  int fd;        /* [const] */
  int cached_fd; /* [const] -1 unless fd is O_DIRECT: for cached reads */
  lock_t flush_lock;
  int flush_error; /* [flush_lock] of the first that failed */
};

static struct file *
file_of (struct volume *v)
{
  return (struct file *) ((char *) v - offsetof (struct file, v));
}

/* ---- the tables ---- */

static void
file_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  struct file *f = file_of (v);
  int fd = io->cached && f->cached_fd >= 0 ? f->cached_fd : f->fd;

  vbatch_start_fd (batch, io, fd, LABEL_AREA_BYTES + io->off);
}

/* The kernel tells an error of write-back to one caller only, so one at a time
 * (I4).  EINTR is no end of a flush, and tells of no error.
 */
static int
file_flush (struct volume *v)
{
  struct file *f = file_of (v);
  int ret;

  LOCK_SCOPE (&f->flush_lock);
  if (f->flush_error != 0)
    return f->flush_error;
  do
    ret = fdatasync (f->fd);
  while (ret == -1 && errno == EINTR);
  if (ret == -1)
    f->flush_error = errno;
  return f->flush_error;
}

static int
file_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  int ret;

  do
    ret =
        fallocate (file_of (v)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   (off_t) (LABEL_AREA_BYTES + off), (off_t) bytes);
  while (ret == -1 && errno == EINTR);
  return ret == 0 ? 0 : errno;
}

static int
block_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  uint64_t range[2] = { LABEL_AREA_BYTES + off, bytes };
  int ret;

  do
    ret = ioctl (file_of (v)->fd, BLKDISCARD, range);
  while (ret == -1 && errno == EINTR);
  return ret == 0 ? 0 : errno;
}

static void
file_close (struct volume *v)
{
  struct file *f = file_of (v);

  if (f->fd >= 0)
    close (f->fd);
  if (f->cached_fd >= 0)
    close (f->cached_fd);
  lock_destroy (&f->flush_lock);
  medium_fini (v);
  free (f);
}

static const struct volume_ops file_ops = {
  .kind = "file",
  .start = file_start,
  .flush = file_flush,
  .trim = file_trim,
  .close = file_close,
};

static const struct volume_ops block_ops = {
  .kind = "block",
  .start = file_start,
  .flush = file_flush,
  .trim = block_trim,
  .close = file_close,
};

/* ---- opening ---- */

static int
file_direct (struct file *f, const char *path, enum volume_direct direct)
{
  int err;

  if (direct == DIRECT_NO)
    return 0;
  err = path_direct (f->fd, f->v.ops == &block_ops);
  if (err == 0) {
    f->v.direct = true;
    return path_cached (f->fd, path, &f->cached_fd);
  }
  if (direct == DIRECT_YES) {
    log_write (LOG_ERROR,
               "%s: cannot be used past the page cache: %s (give "
               "direct=auto or direct=no)",
               path, strerror (err));
    return err;
  }
  log_write (LOG_INFO, "%s: no O_DIRECT here (%s): using the page cache", path,
             strerror (err));
  return 0;
}

/* All of opening that comes after the type is known and ops are set. */
static int
file_open (struct file *f, const char *path,
           const struct volume_path_options *options)
{
  bool block = f->v.ops == &block_ops;
  enum label_found found = LABEL_EMPTY;
  uint64_t size_bytes = 0;
  int err;

  err = path_open (path, block, options->lock_wait_ns, &f->fd);
  if (err == 0)
    err = path_size (f->fd, path, block, &size_bytes);
  if (err == 0)
    err = label_check (f->fd, path, size_bytes, options->force, &found);
  if (err == 0 && !block && !options->sparse)
    err = path_allocate (f->fd, path, size_bytes);
  if (err == 0)
    err = file_direct (f, path, options->direct);
  if (err == 0)
    err = label_write (f->fd, path, size_bytes, found);
  if (err != 0)
    return err;
  size_bytes -= LABEL_AREA_BYTES;
  f->v.size_bytes = min_u64 (size_bytes - (size_bytes & PAGE_MASK),
                             (BLKNO_PLACE_MAX + 1) * PAGE_BYTES);
  return 0;
}

int
volume_open_path (const char *path, const struct volume_path_options *options,
                  struct volume **vp)
{
  struct file *f;
  bool block = false;
  int err;

  err = path_type (path, &block);
  if (err != 0)
    return err;
  f = calloc (1, sizeof *f);
  if (f == NULL)
    return ENOMEM;
  f->fd = f->cached_fd = -1;
  lock_init (&f->flush_lock, LOCK_LEAF, "flush");
  f->v.batched = true;
  f->v.checked = true;
  f->v.sparse = options->sparse;
  err = medium_init (&f->v, block ? &block_ops : &file_ops, path);
  if (err == 0)
    err = file_open (f, path, options);
  if (err != 0) {
    file_close (&f->v);
    return err;
  }
  f->v.align = f->v.direct ? PAGE_BYTES : 1;
  *vp = &f->v;
  return 0;
}
