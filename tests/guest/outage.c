/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outage: uses a device without a pause, and tells how long it had to wait.
 *
 *   outage memory MIB SEED   touches memory at random, reads and writes; its
 *                            caller gives it less than that, and swap
 *   outage files DIR SEED    writes small files and syncs them, and reads them
 *                            past the page cache
 *
 * What a page or file holds says which one it is, and how often it was written:
 * each is checked whenever it is read, and all of them at the end.
 *
 * "ready" on stdout when it has been at it for a while.  At SIGTERM it goes on
 * for AFTER more accesses, checks all, and prints one line of key=value: the
 * longest access (a touch; a file read, or written and synced), and how many
 * there were.  The process itself is locked in memory.
 *
 * Exit: 0; 1 something was wrong; 2 usage or a failed system call.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "work.h"

enum {
  MIB_MAX = 256,
  FILES = 24,
  FILE_PAGES_MAX = 8,
  BEFORE = 30, /* accesses */
  AFTER = 60
};

static uint64_t seed, random_state;
static volatile sig_atomic_t ending;

static void
die (const char *what)
{
  fprintf (stderr, "outage: %s: %s\n", what, strerror (errno));
  exit (2);
}

static void
wrong (const char *what, uint64_t nr)
{
  fprintf (stderr, "outage: %s %" PRIu64 " is wrong\n", what, nr);
  exit (1);
}

static uint64_t
word_of (uint64_t nr, uint64_t times, uint64_t at)
{
  return (nr * WORDS + at) * UINT64_C (0x9e3779b97f4a7c15) ^ seed ^ times << 40;
}

/* ---- memory ---- */

static uint64_t *memory, nr_pages;
static uint32_t page_times[(MIB_MAX << 20) / PAGE];

/* Not all of it: a touch is to be one. */
static const uint64_t page_words[] = { 0, 1, WORDS / 2, WORDS - 1 };

static void
write_page (uint64_t nr)
{
  page_times[nr]++;
  for (unsigned i = 0; i < sizeof page_words / sizeof page_words[0]; i++)
    memory[nr * WORDS + page_words[i]] =
        word_of (nr, page_times[nr], page_words[i]);
}

static void
check_page (uint64_t nr)
{
  for (unsigned i = 0; i < sizeof page_words / sizeof page_words[0]; i++)
    if (memory[nr * WORDS + page_words[i]] !=
        word_of (nr, page_times[nr], page_words[i]))
      wrong ("page", nr);
}

static void
begin_memory (const char *mib)
{
  nr_pages = (strtoull (mib, NULL, 10) << 20) / PAGE;
  if (nr_pages == 0 || nr_pages > sizeof page_times / sizeof page_times[0]) {
    errno = EINVAL;
    die (mib);
  }
  memory = mmap (NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    die ("mmap");
  for (uint64_t nr = 0; nr < nr_pages; nr++)
    write_page (nr);
}

static void
touch_memory (void)
{
  const uint64_t nr = random_next (&random_state) % nr_pages;

  check_page (nr);
  if (random_state % 3 == 0)
    write_page (nr);
}

static void
check_memory (void)
{
  for (uint64_t nr = 0; nr < nr_pages; nr++)
    check_page (nr);
}

/* ---- files ---- */

static const char *dir;
static uint64_t file_times[FILES];
static _Alignas(PAGE) uint64_t expected[FILE_PAGES_MAX * WORDS];
static _Alignas(PAGE) uint64_t seen[FILE_PAGES_MAX * WORDS];

/* Its content as it was last written is in `expected`. */
static int
open_file (uint64_t nr, int flags, size_t *bytes)
{
  char path[256];
  int fd;

  *bytes = (1 + (nr + file_times[nr]) % FILE_PAGES_MAX) * PAGE;
  for (uint64_t i = 0; i < *bytes / 8; i++)
    expected[i] = word_of (nr, file_times[nr], i);
  snprintf (path, sizeof path, "%s/file%" PRIu64, dir, nr);
  fd = open (path, flags, 0600);
  if (fd < 0)
    die (path);
  return fd;
}

static void
write_file (uint64_t nr)
{
  size_t bytes;
  int fd;

  file_times[nr]++;
  fd = open_file (nr, O_WRONLY | O_CREAT | O_TRUNC, &bytes);
  if (write (fd, expected, bytes) != (ssize_t) bytes)
    die ("write");
  if (fsync (fd) != 0)
    die ("fsync");
  close (fd);
}

static void
check_file (uint64_t nr)
{
  size_t bytes;
  int fd = open_file (nr, O_RDONLY | O_DIRECT, &bytes);
  const ssize_t n = read (fd, seen, sizeof seen);

  if (n < 0)
    die ("read");
  if ((size_t) n != bytes || memcmp (seen, expected, bytes) != 0)
    wrong ("file", nr);
  close (fd);
}

static void
begin_files (const char *where)
{
  dir = where;
  for (uint64_t nr = 0; nr < FILES; nr++)
    write_file (nr);
}

static void
use_files (void)
{
  const uint64_t nr = random_next (&random_state) % FILES;

  if (random_state % 2 == 0)
    write_file (nr);
  else
    check_file (nr);
}

static void
check_files (void)
{
  for (uint64_t nr = 0; nr < FILES; nr++)
    check_file (nr);
}

/* ---- both ---- */

static const struct kind {
  const char *name;
  void (*begin) (const char *arg);
  void (*use) (void);
  void (*check) (void);
} kinds[] = { { "memory", begin_memory, touch_memory, check_memory },
              { "files", begin_files, use_files, check_files } };

static void
on_term (int signal)
{
  (void) signal;
  ending = true;
}

static void
use (const struct kind *kind)
{
  uint64_t worst_us = 0, nr = 0, last;

  for (last = 0; !ending || nr < last; nr++) {
    const uint64_t begin_us = now_us ();
    uint64_t us;

    if (!ending)
      last = nr + AFTER;
    kind->use ();
    us = now_us () - begin_us;
    worst_us = us > worst_us ? us : worst_us;
    if (nr == BEFORE) {
      printf ("ready\n");
      fflush (stdout);
    }
  }
  kind->check ();
  printf ("longest_ms=%" PRIu64 " accesses=%" PRIu64 "\n", worst_us / 1000, nr);
}

int
main (int argc, char **argv)
{
  const struct sigaction action = { .sa_handler = on_term,
                                    .sa_flags = SA_RESTART };

  for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0] && argc == 4; i++)
    if (strcmp (argv[1], kinds[i].name) == 0) {
      seed = strtoull (argv[3], NULL, 10) + 1;
      random_state = seed;
      if (mlockall (MCL_CURRENT) != 0)
        die ("mlockall");
      sigaction (SIGTERM, &action, NULL);
      kinds[i].begin (argv[2]);
      use (&kinds[i]);
      return 0;
    }
  fprintf (stderr, "usage: outage memory MIB SEED | outage files DIR SEED\n");
  return 2;
}
