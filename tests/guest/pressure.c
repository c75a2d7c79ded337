/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure: more memory than there is, checked, for some time.
 *
 *   pressure MIB SECONDS SEED [KIND DIR | hot]
 *
 * A process has MIB of memory and touches pages of it at random, reads and
 * writes; what a page holds says which one it is and how often it was written.
 * Beside it, as KIND says: `files` are written in DIR, over and over; `io`
 * reads and writes a file in DIR past the page cache; `fork` makes processes
 * that touch what they have and end.
 *
 * The first process is locked in memory.  Ten times a second it takes a little
 * memory and gives it back, as whoever wants to do anything on the machine has
 * to: the longest such turn is printed, and so is the longest touch, the one
 * under way at the end too.  A process that the kernel kills for want of memory
 * is counted, and started again.
 *
 * It takes up to twice as long if all memory has not been written once by then.
 *
 * With `hot` memory is more like a program's: nine of ten touches are of one
 * page in ten, and a third of each page is random, the rest zero, for who
 * compresses it.  Time, touches and the longest of them then count from when
 * all of it has been written once.
 *
 * One line of key=value on stdout.  Exit: 0; 1 a page was wrong, a process
 * ended by itself, nothing was touched, or a turn took longer than 30 s;
 * 2 usage or a failed system call.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

enum {
  BEAT_MS = 100,
  BEAT_BYTES = 64 << 10,
  LIMIT_MS = 30000,
  FILL_PER_TOUCH = 64, /* so that pages come back from the start on */
  FILES = 16,
  FILE_BYTES = 4 << 20,
  FORKS = 8,
  FORK_BYTES = 2 << 20,
  FILL_LIMIT_S = 120, /* for hot */
  HOT_ONE_IN = 10,
  WRONG = 3 /* a status */
};

struct shared {
  uint64_t touches, worst_us;
  uint64_t since_us; /* the touch that is under way, or 0 */
  uint64_t filled;   /* times all memory was written once */
  uint64_t files, ios, forks;
};

static struct shared *shared;
static uint64_t seed;
static bool hot;

static void
die (const char *what)
{
  fprintf (stderr, "pressure: %s: %s\n", what, strerror (errno));
  _exit (2);
}

static void *
take (size_t bytes, int flags)
{
  void *p =
      mmap (NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED)
    die ("mmap");
  return p;
}

/* ---- memory ---- */

/* Words 0 and 511: which page; 1 and 510: how often it was written. */
static void
write_page (uint64_t *page, uint64_t nr, uint64_t times)
{
  page[0] = page[WORDS - 1] = nr * UINT64_C (0x9e3779b97f4a7c15) ^ seed;
  page[1] = page[WORDS - 2] = times;
  page[2 + times % (WORDS - 4)] = times;
}

static bool
is_page (const uint64_t *page, uint64_t nr, uint64_t times)
{
  return page[0] == (nr * UINT64_C (0x9e3779b97f4a7c15) ^ seed) &&
         page[WORDS - 1] == page[0] && page[1] == times &&
         page[WORDS - 2] == times && page[2 + times % (WORDS - 4)] == times;
}

static void
touch_begin (void)
{
  shared->since_us = now_us ();
}

static uint64_t
touch_us (void)
{
  const uint64_t since = shared->since_us;

  return since == 0 ? 0 : now_us () - since;
}

static void
touch_done (void)
{
  const uint64_t us = touch_us ();

  shared->worst_us = us > shared->worst_us ? us : shared->worst_us;
  shared->since_us = 0;
  shared->touches++;
}

/* What compresses to a third; write_page () comes after it. */
static void
fill_page (uint64_t *page, uint64_t nr)
{
  uint64_t random = (nr * UINT64_C (0x9e3779b97f4a7c15) ^ seed) | 1;

  for (unsigned i = 2; i < WORDS / 3; i++)
    page[i] = random_next (&random);
}

static uint64_t
any_of (uint64_t nr, uint64_t *random)
{
  const uint64_t i = random_next (random) % nr;

  return hot && (*random >> 32) % HOT_ONE_IN != 0 ? i - i % HOT_ONE_IN : i;
}

/* One of the first nr pages. */
static void
touch_any (uint64_t *memory, uint8_t *times, uint64_t nr, uint64_t *random)
{
  const uint64_t i = any_of (nr, random);
  uint64_t *page = memory + i * WORDS;

  touch_begin ();
  if (!is_page (page, i, times[i])) {
    fprintf (stderr, "pressure: page %" PRIu64 " is wrong\n", i);
    _exit (WRONG);
  }
  if (*random % 3 == 0)
    write_page (page, i, ++times[i]);
  touch_done ();
}

static void
touch_memory (uint64_t bytes)
{
  const uint64_t nr = bytes / PAGE;
  uint64_t *memory = take (bytes, MAP_PRIVATE);
  uint8_t *times = take (nr, MAP_PRIVATE);
  uint64_t random = seed * 2 + 1;

  for (uint64_t i = 0; i < nr; i++) {
    touch_begin ();
    if (hot)
      fill_page (memory + i * WORDS, i);
    write_page (memory + i * WORDS, i, 0);
    touch_done ();
    if (i % FILL_PER_TOUCH == 0)
      touch_any (memory, times, i + 1, &random);
  }
  shared->filled++;
  for (;;)
    touch_any (memory, times, nr, &random);
}

/* ---- beside it ---- */

static void
write_files (const char *dir)
{
  static uint8_t block[65536];

  for (uint64_t n = 0;; n++) {
    char path[256];
    int fd;

    snprintf (path, sizeof path, "%s/file%" PRIu64, dir, n % FILES);
    fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
      die (path);
    memset (block, (int) n, sizeof block);
    for (unsigned i = 0; i < FILE_BYTES / sizeof block; i++)
      if (write (fd, block, sizeof block) != (ssize_t) sizeof block)
        die (path);
    close (fd);
    shared->files++;
  }
}

static void
read_and_write (const char *dir)
{
  uint8_t *block = take (65536, MAP_PRIVATE);
  uint64_t random = seed * 3 + 1;
  char path[256];
  int fd;

  snprintf (path, sizeof path, "%s/io", dir);
  fd = open (path, O_RDWR | O_CREAT | O_DIRECT, 0600);
  if (fd < 0 || ftruncate (fd, FILE_BYTES * 4) != 0)
    die (path);
  for (;;) {
    const off_t at = (off_t) (random_next (&random) % 64) * 65536;

    if ((random % 2 == 0 ? pwrite (fd, block, 65536, at)
                         : pread (fd, block, 65536, at)) != 65536)
      die (path);
    shared->ios++;
  }
}

static void
make_processes (void)
{
  uint8_t *memory = take (FORK_BYTES, MAP_PRIVATE);

  memset (memory, 1, FORK_BYTES);
  for (;;) {
    for (unsigned i = 0; i < FORKS; i++) {
      const pid_t pid = fork ();

      if (pid == 0) {
        for (unsigned p = 0; p < FORK_BYTES; p += PAGE)
          memory[p]++;
        _exit (0);
      }
      shared->forks += pid > 0;
    }
    while (wait (NULL) > 0)
      ;
  }
}

/* ---- all of it ---- */

struct work {
  const char *kind; /* empty: memory */
  pid_t pid;        /* 0: none */
};

/* Without memory for it there is none; the next turn tries again. */
static void
start (struct work *w, const char *dir, uint64_t bytes)
{
  const pid_t pid = fork ();
  int fd;

  if (pid != 0) {
    w->pid = pid > 0 ? pid : 0;
    return;
  }
  /* The kernel is to kill this one first. */
  fd = open ("/proc/self/oom_score_adj", O_WRONLY);
  if (fd < 0 || write (fd, "1000", 4) != 4)
    die ("oom_score_adj");
  close (fd);
  if (strcmp (w->kind, "files") == 0)
    write_files (dir);
  else if (strcmp (w->kind, "io") == 0)
    read_and_write (dir);
  else if (strcmp (w->kind, "fork") == 0)
    make_processes ();
  touch_memory (bytes);
}

/* Has it ended?  *killed is counted.  False: it ended by itself. */
static bool
look (struct work *w, uint64_t *killed)
{
  int status;

  if (w->pid == 0 || waitpid (w->pid, &status, WNOHANG) != w->pid)
    return true;
  w->pid = 0;
  ++*killed;
  if (w->kind[0] == '\0')
    shared->since_us = 0;
  return WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL;
}

static void
beat (void)
{
  const struct timespec pause = { .tv_nsec = BEAT_MS * 1000000 };
  void *p;

  nanosleep (&pause, NULL);
  p = mmap (NULL, BEAT_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (p != MAP_FAILED)
    munmap (p, BEAT_BYTES);
}

static void
print (uint64_t ms, uint64_t worst_ms, uint64_t killed)
{
  const uint64_t touch = touch_us ();
  const uint64_t worst = touch > shared->worst_us ? touch : shared->worst_us;

  printf ("touches_per_s=%" PRIu64 " filled=%" PRIu64 " worst_touch_ms=%" PRIu64
          " worst_beat_ms=%" PRIu64 " killed=%" PRIu64 " files=%" PRIu64
          " ios=%" PRIu64 " forks=%" PRIu64 "\n",
          shared->touches * 1000 / ms, shared->filled, worst / 1000, worst_ms,
          killed, shared->files, shared->ios, shared->forks);
}

/* All memory is there: what was before does not count. */
static void
begin_anew (uint64_t *worst_us, uint64_t *killed)
{
  shared->touches = 0;
  shared->worst_us = 0;
  *worst_us = 0;
  *killed = 0;
}

int
main (int argc, char **argv)
{
  const char *dir = argc == 6 ? argv[5] : "";
  struct work work[] = { { .kind = "" }, { .kind = argc == 6 ? argv[4] : "" } };
  const unsigned nr = argc == 6 ? 2 : 1;
  uint64_t begin = now_us (), worst_us = 0, end, most, last, killed = 0;
  bool wrong = false, filling;

  filling = hot = argc == 5 && strcmp (argv[4], "hot") == 0;
  if (argc != 4 && argc != 6 && !hot) {
    fprintf (stderr,
             "usage: pressure MIB SECONDS SEED [files|io|fork DIR | hot]\n");
    return 2;
  }
  seed = strtoull (argv[3], NULL, 10) + 1;
  end = begin + strtoull (argv[2], NULL, 10) * 1000000;
  most = hot ? begin + FILL_LIMIT_S * 1000000 : end + (end - begin);
  shared = take (sizeof *shared, MAP_SHARED);
  if (mlockall (MCL_CURRENT | MCL_FUTURE) != 0)
    die ("mlockall");
  for (last = begin;
       !wrong && (last < end || (shared->filled == 0 && last < most));) {
    uint64_t now;

    for (unsigned i = 0; i < nr; i++)
      if (work[i].pid == 0)
        start (&work[i], dir, strtoull (argv[1], NULL, 10) << 20);
    beat ();
    for (unsigned i = 0; i < nr; i++)
      wrong = !look (&work[i], &killed) || wrong;
    now = now_us ();
    worst_us = now - last > worst_us ? now - last : worst_us;
    last = now;
    if (filling && shared->filled > 0) {
      begin_anew (&worst_us, &killed);
      end += now - begin;
      begin = now;
      filling = false;
    }
  }
  print ((last - begin) / 1000, worst_us / 1000, killed);
  wrong =
      wrong || filling || shared->touches == 0 || worst_us / 1000 > LIMIT_MS;
  for (unsigned i = 0; i < nr; i++)
    if (work[i].pid > 0 && kill (work[i].pid, SIGKILL) == 0)
      waitpid (work[i].pid, NULL, 0);
  return wrong ? 1 : 0;
}
