/* SPDX-License-Identifier: BSD-2-Clause */
/* A volume on a path: a regular file, or a block device.
 *
 *   volume_open_path
 *     --> path_type      what is it? (before it is opened: a FIFO would hang,
 *                        a device might do something)
 *     --> path_open      open and lock, wait for another process
 *     --> path_size      big enough?
 *     --> label_check    ours, empty, or force         [label.c]
 *     --> file_allocate  a regular file's blocks
 *     --> file_direct    past the page cache
 *     --> label_write    from here on it is ours        [label.c]
 *
 * I1. Nothing on the path changes before label_check () has agreed.
 * I2. The lock is on the very descriptor that does the I/O (an open file
 *     description lock): fork keeps it, and it goes when the last copy is
 *     closed.  It keeps out other stores, a second open in this process too,
 *     and every program that asks with fcntl (qemu does).  A block device is
 *     opened with O_EXCL besides, which keeps out mounts and swapon.
 * I3. Unless sparse, a regular file has all its blocks from open to close.
 *
 * No locks of threads: all fields are constant from open to close.  It does
 * not notice a path that shrinks or grows while it is open; a read behind the
 * new end is EIO.
 */

#include <config.h>

#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "env.h"
#include "log.h"
#include "medium.h"

#define POLL_NS     (50 * NS_PER_MS)
#define TELL_NS     (2 * NS_PER_S)
#define PIECE_BYTES (UINT64_C (1) << 30)

struct file {
  struct volume v;
  int fd; /* [const] */
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
  vbatch_start_fd (batch, io, file_of (v)->fd, LABEL_AREA_BYTES + io->off);
}

static int
file_flush (struct volume *v)
{
  int ret;

  do
    ret = fdatasync (file_of (v)->fd);
  while (ret == -1 && errno == EINTR);
  return ret == 0 ? 0 : errno;
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
refuse (const char *path, int error, const char *why)
{
  log_write (LOG_ERROR, "%s: %s", path, why);
  return error;
}

static int
refuse_open (const char *path, int error)
{
  switch (error) {
  case ENOENT:
    log_write (LOG_ERROR,
               "%s: no such file or device (make a file with "
               "'truncate -s 1G %s')",
               path, path);
    return error;
  case EACCES:
  case EPERM:
    return refuse (path, EACCES,
                   "may not be read and written by this user (change its "
                   "owner or mode, or be another user)");
  case EROFS:
    return refuse (path, error,
                   "is read-only (name a volume that can be written)");
  case EBUSY:
    return refuse (path, error,
                   "is in use: by another process, another volume of this "
                   "one, a mount or swap (end that, or name another volume)");
  case ETXTBSY:
    return refuse (path, EBUSY,
                   "is in use as swap or a program (end that, or name "
                   "another volume)");
  default:
    log_write (LOG_ERROR, "%s: cannot be opened: %s (check the path)", path,
               strerror (error));
    return error;
  }
}

static int
path_type (const char *path, bool *blockp)
{
  struct stat st;

  if (stat (path, &st) == -1)
    return refuse_open (path, errno);
  if (S_ISDIR (st.st_mode))
    return refuse (path, EISDIR,
                   "is a directory (name a regular file or a block device)");
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
    return refuse (path, EINVAL,
                   "is a FIFO, a socket or a character device (name a "
                   "regular file or a block device)");
  *blockp = S_ISBLK (st.st_mode);
  return 0;
}

/* One try.  EBUSY: somebody has it. */
static int
open_and_lock (const char *path, bool block, int *fdp)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  struct stat st;
  int err = 0, fd;

  fd = open (path, block ? flags | O_EXCL : flags);
  if (fd == -1)
    return errno;
  if (fstat (fd, &st) == -1)
    err = errno;
  else if (block ? !S_ISBLK (st.st_mode) : !S_ISREG (st.st_mode))
    err = EINVAL; /* replaced since we looked */
  else if (fcntl (fd, F_OFD_SETLK, &lock) == -1)
    err = errno == EAGAIN || errno == EACCES ? EBUSY : errno;
  /* O_NONBLOCK was for the open; on I/O it would bring EAGAIN. */
  else if (fcntl (fd, F_SETFL, O_RDWR) == -1)
    err = errno;
  if (err == 0)
    *fdp = fd;
  else
    close (fd);
  return err;
}

static int
path_open (const char *path, bool block, uint64_t wait_ns, int *fdp)
{
  uint64_t begin_ns = env_now_ns ();
  bool told = false;

  for (;;) {
    int err = open_and_lock (path, block, fdp);
    uint64_t waited_ns = env_now_ns () - begin_ns;
    struct timespec ts = { 0 };

    if (err == 0)
      return 0;
    if (err != EBUSY || waited_ns >= wait_ns)
      return refuse_open (path, err);
    if (!told && waited_ns >= TELL_NS) {
      told = true;
      log_write (LOG_WARNING,
                 "%s: is in use; waiting for another process to close it, "
                 "for %" PRIu64 " s more",
                 path, (wait_ns - waited_ns) / NS_PER_S);
    }
    ts.tv_nsec = (long) min_u64 (POLL_NS, wait_ns - waited_ns);
    nanosleep (&ts, NULL);
  }
}

static int
path_size (int fd, const char *path, bool block, uint64_t *sizep)
{
  uint64_t size_bytes;
  struct stat st;
  int readonly = 0;

  if (block) {
    if (ioctl (fd, BLKROGET, &readonly) == 0 && readonly)
      return refuse_open (path, EROFS);
    if (ioctl (fd, BLKGETSIZE64, &size_bytes) == -1)
      return refuse_open (path, errno);
  } else {
    if (fstat (fd, &st) == -1)
      return refuse_open (path, errno);
    size_bytes = (uint64_t) st.st_size;
  }
  if (size_bytes < LABEL_AREA_BYTES + VOLUME_BYTES_MIN) {
    log_write (LOG_ERROR,
               "%s: has %" PRIu64 " bytes, too few for a volume (make it "
               "%" PRIu64 " or more%s)",
               path, size_bytes, LABEL_AREA_BYTES + VOLUME_BYTES_MIN,
               block ? "" : ", with truncate -s");
    return EINVAL;
  }
  *sizep = size_bytes;
  return 0;
}

static int
refuse_allocate (const char *path, int error)
{
  switch (error) {
  case ENOSPC:
  case EDQUOT:
    return refuse (path, ENOSPC,
                   "its file system has no room for all of it (free some "
                   "space, make the file smaller, or give sparse=yes)");
  case EOPNOTSUPP:
    return refuse (path, error,
                   "its file system cannot set blocks aside for a file (give "
                   "sparse=yes, or name a file elsewhere)");
  default:
    log_write (LOG_ERROR,
               "%s: its blocks cannot be allocated: %s (give sparse=yes)", path,
               strerror (error));
    return error;
  }
}

/* What certainly does not fit is refused before anything is taken. */
static bool
file_fits (int fd, uint64_t size_bytes)
{
  struct statvfs fs;
  struct stat st;
  uint64_t has, need;

  if (fstat (fd, &st) == -1 || fstatvfs (fd, &fs) == -1)
    return true;
  has = (uint64_t) st.st_blocks * 512;
  need = size_bytes - min_u64 (size_bytes, has);
  return need / fs.f_frsize <= fs.f_bfree;
}

static int
file_allocate (int fd, const char *path, uint64_t size_bytes)
{
  uint64_t told_ns = env_now_ns (), at = 0;

  if (!file_fits (fd, size_bytes))
    return refuse_allocate (path, ENOSPC);
  while (at < size_bytes) {
    uint64_t piece = min_u64 (size_bytes - at, PIECE_BYTES);
    uint64_t now_ns = env_now_ns ();

    if (fallocate (fd, 0, (off_t) at, (off_t) piece) == 0)
      at += piece;
    else if (errno != EINTR)
      return refuse_allocate (path, errno);
    if (now_ns - told_ns >= TELL_NS) {
      told_ns = now_ns;
      log_write (LOG_INFO, "%s: %" PRIu64 " of %" PRIu64 " MiB are allocated",
                 path, at >> 20, size_bytes >> 20);
    }
  }
  return 0;
}

/* Make fd O_DIRECT if a page at any page's place can be moved that way. */
static int
direct_try (int fd, bool block)
{
  _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
  int sector_bytes;
  ssize_t n;
  int err;

  if (block && ioctl (fd, BLKSSZGET, &sector_bytes) == 0 &&
      sector_bytes > (int) PAGE_BYTES)
    return EINVAL;
  if (fcntl (fd, F_SETFL, O_RDWR | O_DIRECT) == -1)
    return errno;
  n = pread (fd, page, sizeof page, PAGE_BYTES);
  if (n == (ssize_t) sizeof page)
    return 0;
  err = n == -1 ? errno : EINVAL;
  if (fcntl (fd, F_SETFL, O_RDWR) == -1)
    err = errno;
  return err;
}

static int
file_direct (struct file *f, const char *path, enum volume_direct direct)
{
  int err;

  if (direct == DIRECT_NO)
    return 0;
  err = direct_try (f->fd, f->v.ops == &block_ops);
  if (err == 0) {
    f->v.direct = true;
    return 0;
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
    err = file_allocate (f->fd, path, size_bytes);
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
  f->fd = -1;
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
