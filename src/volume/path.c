/* SPDX-License-Identifier: BSD-2-Clause */
/* A path before it is a volume: what it is, opened and locked, how big, its
 * blocks, and whether it can be used past the page cache.
 *
 * file.c calls these, in the order in which they stand here.  What is refused
 * is told here, with the remedy.
 *
 * I1. A path is looked at before it is opened: to open a FIFO would hang, and
 *     a device might do something.
 * I2. A path that is opened to be read only is not locked, not even shared: it
 *     must not keep a store from starting.
 * I3. The lock is on the very descriptor that does the I/O (an open file
 *     description lock): fork keeps it, and it goes when the last copy is
 *     closed.  It keeps out other stores, a second open in this process too,
 *     and every program that asks with fcntl (qemu does).  A block device is
 *     opened with O_EXCL besides, which keeps out mounts and swapon.
 *
 * No locks of threads, and no state.  No bytes are written here.
 */

#include <config.h>

#include "medium.h"

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

#define POLL_NS     (50 * NS_PER_MS)
#define TELL_NS     (2 * NS_PER_S)
#define PIECE_BYTES (UINT64_C (1) << 30)

#define PATH_BYTES_MIN (LABEL_AREA_BYTES + VOLUME_BYTES_MIN)

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
path_type (const char *path, const char *make, bool *blockp)
{
  struct stat st;

  if (stat (path, &st) == -1) {
    if (errno != ENOENT)
      return refuse_open (path, errno);
    log_write (LOG_ERROR,
               "%s: no such file or device (make a file with '%s %s')", path,
               make, path);
    return ENOENT;
  }
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

/* O_NONBLOCK is for the open alone: on I/O it would bring EAGAIN. */
static int
open_checked (const char *path, bool block, int flags, int *fdp)
{
  int fd = open (path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct stat st;
  int err = 0;

  if (fd == -1)
    return errno;
  if (fstat (fd, &st) == -1 || fcntl (fd, F_SETFL, 0) == -1)
    err = errno;
  else if (block ? !S_ISBLK (st.st_mode) : !S_ISREG (st.st_mode))
    err = EINVAL; /* replaced since we looked */
  if (err == 0)
    *fdp = fd;
  else
    close (fd);
  return err;
}

/* One try.  EBUSY: somebody has it. */
static int
open_and_lock (const char *path, bool block, int *fdp)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int fd, readonly = 0;
  int err = open_checked (path, block, block ? O_RDWR | O_EXCL : O_RDWR, &fd);

  if (err != 0)
    return err;
  if (fcntl (fd, F_OFD_SETLK, &lock) == -1)
    err = errno == EAGAIN || errno == EACCES ? EBUSY : errno;
  else if (block && ioctl (fd, BLKROGET, &readonly) == 0 && readonly)
    err = EROFS;
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
path_open_readonly (const char *path, bool block, int *fdp, bool *in_usep)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int err = open_checked (path, block, O_RDONLY, fdp);

  if (err == EACCES || err == EPERM)
    return refuse (path, EACCES,
                   "may not be read by this user (change its owner or mode, "
                   "or be another user)");
  if (err != 0)
    return refuse_open (path, err);
  /* Where nobody can say, nobody has it. */
  *in_usep = fcntl (*fdp, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  return 0;
}

static int
refuse_size (const char *path, uint64_t size_bytes, const char *how)
{
  log_write (LOG_ERROR,
             "%s: has %" PRIu64 " bytes, too few for a volume (make it "
             "%" PRIu64 " or more%s)",
             path, size_bytes, PATH_BYTES_MIN, how);
  return EINVAL;
}

int
path_size (int fd, const char *path, bool block, uint64_t *sizep)
{
  uint64_t size_bytes;
  struct stat st;

  if (block) {
    if (ioctl (fd, BLKGETSIZE64, &size_bytes) == -1)
      return refuse_open (path, errno);
  } else {
    if (fstat (fd, &st) == -1)
      return refuse_open (path, errno);
    size_bytes = (uint64_t) st.st_size;
  }
  if (size_bytes < PATH_BYTES_MIN)
    return refuse_size (path, size_bytes, block ? "" : ", with truncate -s");
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
  if (fcntl (fd, F_SETFL, O_DIRECT) == -1)
    return errno;
  n = pread (fd, page, sizeof page, PAGE_BYTES);
  if (n == (ssize_t) sizeof page)
    return 0;
  err = n == -1 ? errno : EINVAL;
  if (fcntl (fd, F_SETFL, 0) == -1)
    err = errno;
  return err;
}

int
path_cached (int fd, const char *path, bool block, int *fdp)
{
  struct stat st, cached_st;
  int cached_fd;
  int err = open_checked (path, block, O_RDONLY, &cached_fd);

  if (err != 0)
    return refuse_open (path, err);
  if (fstat (fd, &st) == -1 || fstat (cached_fd, &cached_st) == -1)
    err = refuse_open (path, errno);
  else if (st.st_dev != cached_st.st_dev || st.st_ino != cached_st.st_ino)
    err = refuse (path, EBUSY, "was replaced while it was opened (try again)");
  if (err == 0)
    *fdp = cached_fd;
  else
    close (cached_fd);
  return err;
}

/* ---- a new file ---- */

static int
refuse_create (const char *path, int error)
{
  switch (error) {
  case EEXIST:
    return refuse (path, error,
                   "exists (name another, or format it as it is, with no "
                   "size)");
  case ENOENT:
    return refuse (path, error,
                   "cannot be made: its directory does not exist (make that "
                   "first)");
  case EACCES:
  case EPERM:
    return refuse (path, EACCES,
                   "cannot be made by this user (change the directory's owner "
                   "or mode, or be another user)");
  case EROFS:
    return refuse (path, error,
                   "cannot be made: its file system is read-only (name a file "
                   "elsewhere)");
  case EFBIG:
    return refuse (path, error,
                   "cannot be made: its file system has no files so big (make "
                   "it smaller)");
  default:
    log_write (LOG_ERROR, "%s: cannot be made: %s (check the path)", path,
               strerror (error));
    return error;
  }
}

/* Make the name of path durable.  A file system that does not sync directories
 * (EINVAL) has no more to offer.
 */
static int
sync_directory (const char *path)
{
  char *dir = strdup (path), *slash;
  int fd, err = 0;

  if (dir == NULL)
    return ENOMEM;
  slash = strrchr (dir, '/');
  if (slash != NULL)
    slash[slash == dir ? 1 : 0] = '\0';
  fd = open (slash != NULL ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free (dir);
  if (fd == -1)
    return errno;
  if (fsync (fd) == -1 && errno != EINVAL)
    err = errno;
  close (fd);
  return err;
}

int
volume_create_file (const char *path, uint64_t size_bytes, bool sparse)
{
  int fd, err = 0;

  size_bytes -= size_bytes & PAGE_MASK;
  if (size_bytes < PATH_BYTES_MIN)
    return refuse_size (path, size_bytes, "");
  if (size_bytes > INT64_MAX)
    return refuse_create (path, EFBIG);
  fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd == -1)
    return refuse_create (path, errno);
  if (ftruncate (fd, (off_t) size_bytes) == -1)
    err = refuse_create (path, errno);
  if (err == 0 && !sparse)
    err = path_allocate (fd, path, size_bytes);
  if (err == 0 && fsync (fd) == -1)
    err = refuse_create (path, errno);
  if (err == 0) {
    err = sync_directory (path);
    if (err != 0)
      refuse_create (path, err);
  }
  close (fd);
  if (err != 0)
    unlink (path);
  return err;
}
