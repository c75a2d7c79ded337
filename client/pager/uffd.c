/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel gives for memory from afar: see uffd.h.  Called by the map*
 * files; calls the kernel.
 *
 * Why a memfd, two mappings and MINOR faults: a page is filled through our own
 * mapping by the socket itself, and nobody sees it half filled; it is written
 * to the server from there while no user can change it, or while one does; and
 * hiding it tells, one fault later, that it is in use.
 *
 * U1 Whether a protected page was written is in its entry in the page table:
 *    the mark (bit 57 of pagemap) is taken away by the first write, and stays
 *    when the page is hidden.  It is read after that, when it can no longer
 *    change.  Where the kernel tells each first write, the mark is kept, too,
 *    and not looked at.
 * U2 The kernel may unmap a page at any time.  A protected one keeps its mark
 * in what is left of the entry; without the mark it counts as written. U3 The
 * mark of a page that was dropped is left behind, and means nothing: every
 * uffd_map () sets or clears it.
 *
 * Not done: huge pages.  The memory is not put into core dumps.
 */

#include <config.h>

#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "log.h"

/* Of kernels later than the headers may be. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO (0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
struct uffdio_poison {
  struct uffdio_range range;
  uint64_t mode;
  int64_t updated;
};
#define UFFDIO_POISON _IOWR (UFFDIO, 0x08, struct uffdio_poison)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((uint64_t) 1 << 1)
#endif

#define FEATURES                                           \
  (UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | \
   UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
#define READS       64u /* messages at a time */
#define MARK        (UINT64_C (1) << 57)
#define ENTRIES     512u /* of the page table, at a time */
#define KERNEL_WANT "farpage_map needs Linux 6.1 or later"

struct uffd {
  uint64_t nr_pages;
  int fd, memfd, pagemap, empty; /* empty: a file of no bytes */
  bool wp_async, continue_wp, poison;
  uint8_t *users, *own;
  uint8_t *bounce; /* a page */
};

static uint64_t
address (const struct uffd *u, pgno_t page)
{
  return (uint64_t) (uintptr_t) u->users + (page << PAGE_SHIFT);
}

static struct uffdio_range
range_of (const struct uffd *u, pgno_t first, uint64_t nr)
{
  return (struct uffdio_range){ .start = address (u, first),
                                .len = nr << PAGE_SHIFT };
}

/* ---- opening ---- */

static bool
is_without (const char *word)
{
  const char *list = getenv ("FARPAGE_UFFD_WITHOUT");

  return list != NULL && strstr (list, word) != NULL;
}

static int
new_fd (int *fdp)
{
  const int flags = O_CLOEXEC | O_NONBLOCK;
  int dev = open ("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  int err;

  if (dev >= 0) {
    *fdp = ioctl (dev, USERFAULTFD_IOC_NEW, flags);
    err = *fdp < 0 ? errno : 0;
    close (dev);
  } else {
    *fdp = (int) syscall (SYS_userfaultfd, flags);
    err = *fdp < 0 ? errno : 0;
  }
  if (err == EPERM)
    log_write (LOG_ERROR,
               "map: no right to handle page faults: give this user access to "
               "/dev/userfaultfd (chmod or a udev rule), or run with "
               "CAP_SYS_PTRACE, or set vm.unprivileged_userfaultfd=1");
  else if (err == ENOSYS)
    log_write (LOG_ERROR, "map: this kernel has no userfaultfd: " KERNEL_WANT
                          " with CONFIG_USERFAULTFD");
  return err;
}

static int
probe (uint64_t *features)
{
  struct uffdio_api api = { .api = UFFD_API };
  int fd, err = new_fd (&fd);

  if (err)
    return err;
  err = ioctl (fd, UFFDIO_API, &api) != 0 ? errno : 0;
  close (fd);
  if (!err && (api.features & FEATURES) != FEATURES)
    err = EOPNOTSUPP;
  if (err) {
    log_write (LOG_ERROR, "map: this kernel's userfaultfd cannot do what is "
                          "needed: " KERNEL_WANT);
    return EOPNOTSUPP;
  }
  *features = api.features;
  return 0;
}

static int
open_fd (struct uffd *u)
{
  struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
  uint64_t has;
  int err = probe (&has);

  if (err)
    return err;
  u->wp_async = (has & UFFD_FEATURE_WP_ASYNC) != 0 && !is_without ("wp-async");
  u->poison = (has & UFFD_FEATURE_POISON) != 0 && !is_without ("poison");
  if (u->wp_async)
    api.features |= UFFD_FEATURE_WP_ASYNC;
  if (u->poison)
    api.features |= UFFD_FEATURE_POISON;
  err = new_fd (&u->fd);
  if (!err && ioctl (u->fd, UFFDIO_API, &api) != 0)
    err = errno;
  return err;
}

static int
map_memory (struct uffd *u)
{
  const size_t bytes = (size_t) u->nr_pages << PAGE_SHIFT;
  struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING |
                                         UFFDIO_REGISTER_MODE_MINOR |
                                         UFFDIO_REGISTER_MODE_WP };

  u->memfd = memfd_create ("farpage", MFD_CLOEXEC);
  if (u->memfd < 0 || ftruncate (u->memfd, (off_t) bytes) != 0)
    return errno;
  u->users =
      mmap (NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, u->memfd, 0);
  if (u->users == MAP_FAILED)
    return errno;
  u->own = mmap (NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, u->memfd, 0);
  if (u->own == MAP_FAILED)
    return errno;
  /* A child of fork () has neither: it would read zeros. */
  if (madvise (u->users, bytes, MADV_DONTFORK) != 0 ||
      madvise (u->own, bytes, MADV_DONTFORK) != 0 ||
      madvise (u->users, bytes, MADV_DONTDUMP) != 0 ||
      madvise (u->own, bytes, MADV_DONTDUMP) != 0)
    return errno;
  /* EINVAL: a kernel that has no huge pages. */
  madvise (u->users, bytes, MADV_NOHUGEPAGE);
  madvise (u->own, bytes, MADV_NOHUGEPAGE);
  reg.range = range_of (u, 0, u->nr_pages);
  if (ioctl (u->fd, UFFDIO_REGISTER, &reg) != 0)
    return errno;
  return 0;
}

/* Is a hidden page mapped protected by one call?  Tried with the first page:
 * before 6.4 the mode is EINVAL.
 */
static void
try_continue (struct uffd *u)
{
  struct uffdio_continue c = { .range = range_of (u, 0, 1),
                               .mode = UFFDIO_CONTINUE_MODE_WP };

  if (is_without ("continue-wp"))
    return;
  if (uffd_make (u, 0, 1) != 0)
    return;
  u->continue_wp = ioctl (u->fd, UFFDIO_CONTINUE, &c) == 0;
  uffd_hide (u, 0, 1);
  uffd_drop (u, 0, 1);
}

int
uffd_open (uint64_t nr_pages, struct uffd **up)
{
  struct uffd *u = calloc (1, sizeof *u);
  int err;

  if (u == NULL)
    return ENOMEM;
  u->nr_pages = nr_pages;
  u->fd = u->memfd = u->empty = -1;
  u->users = u->own = MAP_FAILED;
  u->pagemap = open ("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  u->bounce = aligned_alloc (PAGE_BYTES, PAGE_BYTES);
  err = u->bounce == NULL ? ENOMEM : u->pagemap < 0 ? errno : open_fd (u);
  if (!err)
    err = map_memory (u);
  if (!err) {
    u->empty = memfd_create ("farpage-lost", MFD_CLOEXEC);
    err = u->empty < 0 ? errno : 0;
  }
  if (err) {
    uffd_close (u);
    return err;
  }
  try_continue (u);
  *up = u;
  return 0;
}

void
uffd_forbid (struct uffd *u)
{
  const size_t bytes = (size_t) u->nr_pages << PAGE_SHIFT;
  struct uffdio_range all = range_of (u, 0, u->nr_pages);

  mprotect (u->users, bytes, PROT_NONE);
  ioctl (u->fd, UFFDIO_WAKE, &all);
}

void
uffd_close (struct uffd *u)
{
  const size_t bytes = (size_t) u->nr_pages << PAGE_SHIFT;

  if (u->users != MAP_FAILED)
    munmap (u->users, bytes);
  if (u->own != MAP_FAILED)
    munmap (u->own, bytes);
  if (u->fd >= 0)
    close (u->fd);
  if (u->memfd >= 0)
    close (u->memfd);
  if (u->empty >= 0)
    close (u->empty);
  if (u->pagemap >= 0)
    close (u->pagemap);
  free (u->bounce);
  free (u);
}

void *
uffd_users (const struct uffd *u)
{
  return u->users;
}

uint8_t *
uffd_own (const struct uffd *u, pgno_t page)
{
  return u->own + (page << PAGE_SHIFT);
}

int
uffd_fd (const struct uffd *u)
{
  return u->fd;
}

bool
uffd_maps_protected (const struct uffd *u)
{
  return u->continue_wp;
}

bool
uffd_tells_writes (const struct uffd *u)
{
  return !u->wp_async;
}

/* ---- faults ---- */

unsigned
uffd_read (struct uffd *u, struct uffd_fault *faults, unsigned max)
{
  struct uffd_msg msg[READS];
  const size_t want = min_u64 (max, READS) * sizeof msg[0];
  ssize_t got = read (u->fd, msg, want);
  unsigned nr = 0;

  for (unsigned i = 0; got > 0 && i < (size_t) got / sizeof msg[0]; i++) {
    const uint64_t flags = msg[i].arg.pagefault.flags;
    const uint64_t off = msg[i].arg.pagefault.address - address (u, 0);

    if (msg[i].event != UFFD_EVENT_PAGEFAULT)
      continue;
    faults[nr++] = (struct uffd_fault){
      .page = off >> PAGE_SHIFT,
      .kind = flags & UFFD_PAGEFAULT_FLAG_WP      ? UFFD_PROTECTED
              : flags & UFFD_PAGEFAULT_FLAG_MINOR ? UFFD_HIDDEN
                                                  : UFFD_ABSENT,
      .write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0,
    };
  }
  return nr;
}

void
uffd_wake (struct uffd *u, pgno_t page)
{
  struct uffdio_range range = range_of (u, page, 1);

  ioctl (u->fd, UFFDIO_WAKE, &range);
}

/* ---- pages ---- */

/* A range is cut where the kernel was called away: from there on again. */
static int
go_on (struct uffdio_range *range, int64_t done)
{
  if (errno == EAGAIN && done > 0) {
    range->start += (uint64_t) done;
    range->len -= (uint64_t) done;
    return 0;
  }
  return errno == EAGAIN ? 0 : errno;
}

static int
map_by_continue (struct uffd *u, pgno_t first, uint64_t nr, bool writable)
{
  struct uffdio_continue c = { .range = range_of (u, first, nr),
                               .mode = writable ? 0 : UFFDIO_CONTINUE_MODE_WP };
  int err = 0;

  while (!err && ioctl (u->fd, UFFDIO_CONTINUE, &c) != 0)
    err = go_on (&c.range, c.mapped);
  return err;
}

/* Where it cannot be mapped protected otherwise: out of the memfd and in again.
 */
static int
map_by_copy (struct uffd *u, pgno_t page)
{
  struct uffdio_copy c = { .dst = address (u, page),
                           .src = (uint64_t) (uintptr_t) u->bounce,
                           .len = PAGE_BYTES,
                           .mode = UFFDIO_COPY_MODE_WP };

  page_copy (u->bounce, uffd_own (u, page), 1);
  uffd_drop (u, page, 1);
  while (ioctl (u->fd, UFFDIO_COPY, &c) != 0)
    if (errno != EAGAIN) {
      const int err = errno;

      page_copy (uffd_own (u, page), u->bounce, 1);
      return err;
    }
  return 0;
}

int
uffd_map (struct uffd *u, pgno_t first, uint64_t nr, bool writable)
{
  int err = 0;

  if (writable || u->continue_wp)
    return map_by_continue (u, first, nr, writable);
  for (uint64_t i = 0; i < nr && !err; i++)
    err = map_by_copy (u, first + i);
  return err;
}

int
uffd_map_again (struct uffd *u, pgno_t page, bool writable)
{
  const int err = map_by_continue (u, page, 1, writable || !u->continue_wp);

  uffd_wake (u, page);
  return err;
}

void
uffd_hide (struct uffd *u, pgno_t first, uint64_t nr)
{
  madvise (u->users + (first << PAGE_SHIFT), nr << PAGE_SHIFT, MADV_DONTNEED);
}

void
uffd_drop (struct uffd *u, pgno_t first, uint64_t nr)
{
  fallocate (u->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
             (off_t) (first << PAGE_SHIFT), (off_t) (nr << PAGE_SHIFT));
}

int
uffd_make (struct uffd *u, pgno_t first, uint64_t nr)
{
  int err;

  do
    err =
        fallocate (u->memfd, FALLOC_FL_KEEP_SIZE, (off_t) (first << PAGE_SHIFT),
                   (off_t) (nr << PAGE_SHIFT)) != 0
            ? errno
            : 0;
  while (err == EINTR);
  return err == ENOSPC ? ENOMEM : err;
}

static void
set_protection (struct uffd *u, pgno_t first, uint64_t nr, bool on)
{
  struct uffdio_writeprotect wp = { .range = range_of (u, first, nr),
                                    .mode =
                                        on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };

  while (ioctl (u->fd, UFFDIO_WRITEPROTECT, &wp) != 0 && errno == EAGAIN)
    ;
}

void
uffd_protect (struct uffd *u, pgno_t first, uint64_t nr)
{
  set_protection (u, first, nr, true);
}

void
uffd_unprotect (struct uffd *u, pgno_t page)
{
  set_protection (u, page, 1, false);
}

void
uffd_poison (struct uffd *u, pgno_t page)
{
  struct uffdio_poison p = { .range = range_of (u, page, 1) };
  int done = -1;

  while (u->poison && (done = ioctl (u->fd, UFFDIO_POISON, &p)) != 0 &&
         errno == EAGAIN)
    ;
  if (done != 0)
    mmap (u->users + (page << PAGE_SHIFT), PAGE_BYTES, PROT_READ | PROT_WRITE,
          MAP_SHARED | MAP_FIXED, u->empty, 0);
  uffd_wake (u, page);
}

/* ---- what is known ---- */

void
uffd_written (const struct uffd *u, pgno_t first, unsigned nr, bool written[])
{
  uint64_t entry[ENTRIES];

  for (unsigned i = 0; i < nr; i += ENTRIES) {
    const unsigned n = (unsigned) min_u64 (nr - i, ENTRIES);
    const off_t at =
        (off_t) (((address (u, first) >> PAGE_SHIFT) + i) * sizeof entry[0]);
    const ssize_t got = pread (u->pagemap, entry, n * sizeof entry[0], at);

    for (unsigned k = 0; k < n; k++)
      written[i + k] =
          got < (ssize_t) ((k + 1) * sizeof entry[0]) || (entry[k] & MARK) == 0;
  }
}

uint64_t
uffd_resident_bytes (const struct uffd *u)
{
  struct stat st;

  return fstat (u->memfd, &st) == 0 ? (uint64_t) st.st_blocks * 512 : 0;
}
