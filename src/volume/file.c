/* SPDX-License-Identifier: BSD-2-Clause */
/* A volume on a path: a regular file, or a block device; of a volatile store,
 * behind its label, or of a durable one, from the first byte on.
 *
 *   volume_open_path, volume_open_store
 *     --> file_new         what is it?                   [path_type]
 *     --> path_open        open and lock (or path_open_readonly)
 *     --> path_size        big enough?
 *   v --> label_check      ours, empty, or force         [label.c]
 *   v --> path_allocate    a regular file's blocks
 *     --> path_direct      past the page cache ...
 *     --> path_cached      ... and a way through it
 *   v --> label_write      from here on it is ours       [label.c]
 *     --> file_ready
 *
 *   v: volatile.  For a durable store these are steps of its own, and come
 *   when it is formatted: volume_format_check, _allocate, _wipe.
 *
 * I1. Nothing on a path changes before label_check () has agreed.
 * I2. Unless sparse, a regular file has all its blocks while it is a volume: a
 *     volatile store's from open on, a durable one's from format on.
 * I3. Nothing is ever written through cached_fd, and what is written past the
 *     page cache is taken out of it by the kernel: a cached read that begins
 *     when no write of its pages is under way finds what is on the medium.
 *     (The second descriptor takes no lock, and closing it gives none up:
 *     locks of open file descriptions are not those of a process.)
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
  uint64_t path_bytes; /* [const] of all of the path */
  uint64_t base;       /* [const] where the volume's data begin */
  int fd;              /* [const] */
  int cached_fd;       /* [const] -1 unless fd is O_DIRECT: for cached reads */
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

  vbatch_start_fd (batch, io, fd, f->base + io->off);
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
                   (off_t) (file_of (v)->base + off), (off_t) bytes);
  while (ret == -1 && errno == EINTR);
  return ret == 0 ? 0 : errno;
}

static int
block_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  uint64_t range[2] = { file_of (v)->base + off, bytes };
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

static bool
is_block (const struct file *f)
{
  return f->v.ops == &block_ops;
}

/* ---- opening ---- */

static int
file_direct (struct file *f, enum volume_direct direct)
{
  const char *path = f->v.name;
  int err;

  if (direct == DIRECT_NO)
    return 0;
  err = path_direct (f->fd, is_block (f));
  if (err == 0) {
    f->v.direct = true;
    return path_cached (f->fd, path, is_block (f), &f->cached_fd);
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

/* All that both kinds of store begin with, from the path's type to a volume
 * that has nothing open yet.  make: the command that makes such a file.
 */
static int
file_new (const char *path, const char *make, struct file **fp)
{
  struct file *f;
  bool block = false;
  int err;

  err = path_type (path, make, &block);
  if (err != 0)
    return err;
  f = calloc (1, sizeof *f);
  if (f == NULL)
    return ENOMEM;
  f->fd = f->cached_fd = -1;
  lock_init (&f->flush_lock, LOCK_LEAF, "flush");
  f->v.batched = true;
  f->v.checked = true;
  err = medium_init (&f->v, block ? &block_ops : &file_ops, path);
  if (err == 0)
    *fp = f;
  else
    file_close (&f->v);
  return err;
}

/* The end of opening, if there was no error: the volume's data begin at base.
 */
static int
file_ready (struct file *f, uint64_t base, int error, struct volume **vp)
{
  uint64_t size_bytes = f->path_bytes - base;

  if (error != 0) {
    file_close (&f->v);
    return error;
  }
  f->base = base;
  f->v.size_bytes = min_u64 (size_bytes - (size_bytes & PAGE_MASK),
                             (BLKNO_PLACE_MAX + 1) * PAGE_BYTES);
  f->v.align = f->v.direct ? PAGE_BYTES : 1;
  *vp = &f->v;
  return 0;
}

static int
open_labelled (struct file *f, const struct volume_path_options *options)
{
  const char *path = f->v.name;
  enum label_found found = LABEL_EMPTY;
  int err;

  err = path_open (path, is_block (f), options->lock_wait_ns, &f->fd);
  if (err == 0)
    err = path_size (f->fd, path, is_block (f), &f->path_bytes);
  if (err == 0)
    err = label_check (f->fd, path, f->path_bytes, LABEL_FOR_VOLATILE,
                       options->force, &found);
  if (err == 0 && !is_block (f) && !options->sparse)
    err = path_allocate (f->fd, path, f->path_bytes);
  if (err == 0)
    err = file_direct (f, options->direct);
  if (err == 0)
    err = label_write (f->fd, path, f->path_bytes, found);
  return err;
}

int
volume_open_path (const char *path, const struct volume_path_options *options,
                  struct volume **vp)
{
  struct file *f;
  int err = file_new (path, "truncate -s 1G", &f);

  if (err != 0)
    return err;
  f->v.sparse = options->sparse;
  err = open_labelled (f, options);
  return file_ready (f, LABEL_AREA_BYTES, err, vp);
}

int
volume_open_store (const char *path, struct volume_store_options *options,
                   struct volume **vp)
{
  struct file *f;
  int err = file_new (path, "farpage format --size 1G", &f);

  if (err != 0)
    return err;
  options->in_use = false;
  f->v.readonly = options->readonly;
  f->v.sparse = options->sparse && !options->readonly;
  if (options->readonly)
    err = path_open_readonly (path, is_block (f), &f->fd, &options->in_use);
  else
    err = path_open (path, is_block (f), options->lock_wait_ns, &f->fd);
  if (err == 0)
    err = path_size (f->fd, path, is_block (f), &f->path_bytes);
  if (err == 0)
    err = file_direct (f, options->direct);
  return file_ready (f, 0, err, vp);
}

/* ---- format ---- */

/* NULL: it is no path. */
static struct file *
path_of (struct volume *v)
{
  return v->ops == &file_ops || v->ops == &block_ops ? file_of (v) : NULL;
}

int
volume_format_check (struct volume *v, bool force)
{
  struct file *f = path_of (v);
  enum label_found found;

  if (f == NULL)
    return 0;
  return label_check (f->cached_fd >= 0 ? f->cached_fd : f->fd, v->name,
                      f->path_bytes, LABEL_FOR_FORMAT, force, &found);
}

int
volume_allocate (struct volume *v)
{
  struct file *f = path_of (v);

  if (v->readonly)
    return EROFS;
  if (f == NULL || is_block (f))
    return 0;
  return path_allocate (f->fd, v->name, f->path_bytes);
}

int
volume_wipe (struct volume *v)
{
  struct file *f = path_of (v);

  if (v->readonly)
    return EROFS;
  return f != NULL ? label_wipe (f->fd, v->name, f->path_bytes) : 0;
}
