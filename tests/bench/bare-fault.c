/* SPDX-License-Identifier: BSD-2-Clause */
/* See bare-fault.h. */

#include <config.h>

#include "bare-fault.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#define PAGE 4096u

struct bare_fault {
  int fd, stop[2];
  unsigned nr;
  void (*fill) (void *arg, void *page);
  void *arg;
  uint8_t *memory;
  uint8_t page[PAGE];
  pthread_t thread;
};

static void
die (const char *what)
{
  perror (what);
  exit (1);
}

static void *
handle (void *arg)
{
  struct bare_fault *b = arg;
  struct pollfd fds[2] = { { .fd = b->fd, .events = POLLIN },
                           { .fd = b->stop[0], .events = POLLIN } };
  struct uffd_msg msg;

  while (poll (fds, 2, -1) > 0 && fds[1].revents == 0) {
    if (read (b->fd, &msg, sizeof msg) != sizeof msg)
      continue;
    if (b->fill != NULL)
      b->fill (b->arg, b->page);
    struct uffdio_copy c = { .dst = msg.arg.pagefault.address & ~(PAGE - 1ull),
                             .src = (uintptr_t) b->page,
                             .len = PAGE };
    if (ioctl (b->fd, UFFDIO_COPY, &c) != 0)
      die ("UFFDIO_COPY");
  }
  return NULL;
}

static int
new_fd (void)
{
  const int dev = open ("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  int fd;

  if (dev < 0)
    return (int) syscall (SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  fd = ioctl (dev, _IO (0xAA, 0x00), O_CLOEXEC | O_NONBLOCK);
  close (dev);
  return fd;
}

struct bare_fault *
bare_fault_open (unsigned nr, void (*fill) (void *arg, void *page), void *arg)
{
  struct bare_fault *b = calloc (1, sizeof *b);
  struct uffdio_api api = { .api = UFFD_API };
  struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

  if (b == NULL)
    die ("bare_fault");
  b->nr = nr;
  b->fill = fill;
  b->arg = arg;
  b->fd = new_fd ();
  if (b->fd < 0 || ioctl (b->fd, UFFDIO_API, &api) != 0 || pipe (b->stop) != 0)
    die ("userfaultfd");
  b->memory = mmap (NULL, (size_t) nr * PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b->memory == MAP_FAILED)
    die ("mmap");
  madvise (b->memory, (size_t) nr * PAGE, MADV_NOHUGEPAGE);
  reg.range.start = (uintptr_t) b->memory;
  reg.range.len = (uint64_t) nr * PAGE;
  if (ioctl (b->fd, UFFDIO_REGISTER, &reg) != 0)
    die ("UFFDIO_REGISTER");
  if (pthread_create (&b->thread, NULL, handle, b) != 0)
    die ("thread");
  return b;
}

void
bare_fault_touch (struct bare_fault *b, unsigned page)
{
  *(volatile uint8_t *) (b->memory + (size_t) page * PAGE);
}

void
bare_fault_close (struct bare_fault *b)
{
  close (b->stop[1]);
  pthread_join (b->thread, NULL);
  munmap (b->memory, (size_t) b->nr * PAGE);
  close (b->stop[0]);
  close (b->fd);
  free (b);
}
