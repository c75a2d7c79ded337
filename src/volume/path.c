/* SPDX-License-Identifier: BSD-2-Clause */
/* A path before it is a volume: what it is, opened and locked, how big, its
 * blocks, and whether it can be used past the page cache.
 *
 * file.c calls these, in the order in which they stand here.  What is refused
 * is told here, with the remedy.
 *
 * I1. A path is looked at before it is opened: to open a FIFO would hang, and
 *     a device might do something.
 * I2. The lock is on the very descriptor that does the I/O (an open file
 *     description lock): fork keeps it, and it goes when the last copy is
 *     closed.  It keeps out other stores, a second open in this process too,
 *     and every program that asks with fcntl (qemu does).  A block device is
 *     opened with O_EXCL besides, which keeps out mounts and swapon.
 *
 * No locks of threads, and no state.  It does not write.
 */

#include <config.h>

#include "medium.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "env.h"
#include "log.h"

#define POLL_NS     (50 * NS_PER_MS)
#define TELL_NS     (2 * NS_PER_S)
#define PIECE_BYTES (UINT64_C (1) << 30)

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

int
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

int
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

int
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

int
path_allocate (int fd, const char *path, uint64_t size_bytes)
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

int
path_direct (int fd, bool block)
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

int
path_cached (int fd, const char *path, int *fdp)
{
  int cached_fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct stat st, cached_st;
  int err = 0;

  if (cached_fd == -1)
    return refuse_open (path, errno);
  if (fstat (fd, &st) == -1 || fstat (cached_fd, &cached_st) == -1 ||
      fcntl (cached_fd, F_SETFL, 0) == -1)
    err = refuse_open (path, errno);
  else if (st.st_dev != cached_st.st_dev || st.st_ino != cached_st.st_ino ||
           st.st_rdev != cached_st.st_rdev)
    err = refuse (path, EBUSY, "was replaced while it was opened (try again)");
  if (err == 0)
    *fdp = cached_fd;
  else
    close (cached_fd);
  return err;
}
