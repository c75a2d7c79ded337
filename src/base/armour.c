/* SPDX-License-Identifier: BSD-2-Clause */
/* The flusher's flag, locked memory, the OOM score; see armour.h.
 *
 *   armour_try      on, looked at, off again
 *   ---- fork ----
 *   armour_put_on   flag, mlockall, score
 *       --> memory and threads are made
 *   armour_fill     what is there is brought in
 *
 * A1. Memory is locked as a whole or not at all, and never under a limit that
 *     applies.  RLIMIT_MEMLOCK counts addresses, not pages: with MCL_FUTURE the
 *     first mmap beyond it fails, in whoever calls it and whenever that is. And
 *     of addresses nbdkit takes any number: 8 MiB of stack for each of 16
 *     threads a connection, 64 MiB for an arena of malloc.
 * A2. Whether a limit applies is found out by asking for more than it, once
 *     memory is locked: to go by CAP_IPC_LOCK would be wrong in a user
 *     namespace, where one can have it and still be limited.
 * A3. Not all that is mapped is brought in: nbdkit has 192 MiB of zeros in its
 *     data that it does not use, and MCL_CURRENT without MCL_ONFAULT would make
 *     memory of them, as `nbdkit --swap` does.  So whatever is anonymous in the
 *     program's own data is left, and all else is brought in piece by piece;
 *     but of files only those that are wanted, if the caller says which.
 * A4. That memory is locked is believed when the kernel says so.  A sanitizer's
 *     mlockall does nothing and returns 0, and its own mappings are terabytes
 *     that must not be brought in.
 *
 * State: none but the process's own.  One thread, at start.
 */

#include <config.h>

#include "armour.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "log.h"

#define SCORE_PATH  "/proc/self/oom_score_adj"
#define MAPS_PATH   "/proc/self/maps"
#define STATUS_PATH "/proc/self/status"
#define SCORE_LEAST (-1000)
#define LOCK_FLAGS  (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#define ABOVE_LIMIT ((size_t) 1 << 20)

/* ---- the three ---- */

static bool
set_flusher (bool on)
{
  return prctl (PR_SET_IO_FLUSHER, on ? 1ul : 0ul, 0ul, 0ul, 0ul) == 0;
}

/* A wrapper may have set it, as `no` leaves it. */
static bool
has_flusher (void)
{
  return prctl (PR_GET_IO_FLUSHER, 0ul, 0ul, 0ul, 0ul) == 1;
}

/* The soft limit becomes the hard one, as `ulimit -l` would make it: anybody
 * may do that.
 */
static rlim_t
memlock_limit (void)
{
  struct rlimit rl;

  if (getrlimit (RLIMIT_MEMLOCK, &rl) == -1)
    return 0;
  rl.rlim_cur = rl.rlim_max;
  (void) setrlimit (RLIMIT_MEMLOCK, &rl);
  return rl.rlim_max;
}

/* A2.  Nothing of it is touched. */
static bool
limit_applies (rlim_t limit)
{
  void *p;

  if (limit == RLIM_INFINITY)
    return false;
  p = mmap (NULL, (size_t) limit + ABOVE_LIMIT, PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return true;
  munmap (p, (size_t) limit + ABOVE_LIMIT);
  return false;
}

/* A4. */
static bool
is_locked (void)
{
  FILE *f = fopen (STATUS_PATH, "re");
  unsigned long kib = 0;
  char line[256];

  if (f == NULL)
    return false;
  while (kib == 0 && fgets (line, sizeof line, f) != NULL)
    (void) sscanf (line, "VmLck: %lu", &kib);
  fclose (f);
  return kib > 0;
}

static bool
lock_memory (void)
{
  rlim_t limit = memlock_limit ();

  if (mlockall (LOCK_FLAGS) == -1)
    return false;
  if (is_locked () && !limit_applies (limit))
    return true;
  munlockall ();
  return false;
}

/* 0, which is what a process has, if it cannot be read. */
static int
read_score (void)
{
  char text[16] = "";
  int fd = open (SCORE_PATH, O_RDONLY | O_CLOEXEC);

  if (fd == -1)
    return 0;
  if (read (fd, text, sizeof text - 1) == -1)
    text[0] = '\0';
  close (fd);
  return atoi (text);
}

static void
write_score (int score)
{
  char text[16];
  int len = snprintf (text, sizeof text, "%d\n", score);
  int fd = open (SCORE_PATH, O_WRONLY | O_CLOEXEC);
  ssize_t n;

  if (fd == -1)
    return;
  n = write (fd, text, (size_t) len);
  (void) n; /* whoever reads it sees what it is */
  close (fd);
}

/* ---- all of it ---- */

static void
put_on (struct armour *a)
{
  a->flusher = set_flusher (true);
  a->locked = lock_memory ();
  write_score (SCORE_LEAST);
  a->oom_score_adj = read_score ();
}

static void
take_off (const struct armour *a, int score)
{
  if (a->flusher)
    (void) set_flusher (false);
  if (a->locked)
    munlockall ();
  write_score (score);
}

/* text, from len on, gets one thing more; its new length. */
static size_t
add (char text[256], size_t len, const char *thing)
{
  int n = snprintf (text + len, 256 - len, "%s%s", len > 0 ? ", " : "", thing);

  return len + (size_t) n;
}

static bool
is_whole (const struct armour *a)
{
  return a->flusher && a->locked && a->oom_score_adj == SCORE_LEAST;
}

/* One line: what is missing, and what it takes. */
static void
tell (enum log_level level, const struct armour *a)
{
  char text[256];
  size_t len = 0;

  if (!a->flusher)
    len = add (text, len, "I/O flusher (it takes CAP_SYS_RESOURCE)");
  if (a->oom_score_adj != SCORE_LEAST)
    len = add (text, len, "OOM score -1000 (CAP_SYS_RESOURCE)");
  if (!a->locked)
    (void) add (text, len,
                "locked memory (LimitMEMLOCK=infinity, or CAP_IPC_LOCK)");
  log_write (level, "armour: refused: %s%s", text,
             level == LOG_ERROR ? ""
                                : "; goes on without: short of memory it may "
                                  "hang or be killed");
}

/* yes: is all of it on? */
static int
judge (enum armour_wanted wanted, const struct armour *a)
{
  if (is_whole (a))
    return 0;
  if (wanted == ARMOUR_AUTO) {
    tell (LOG_WARNING, a);
    return 0;
  }
  tell (LOG_ERROR, a);
  return EPERM;
}

int
armour_try (enum armour_wanted wanted)
{
  int score = read_score ();
  struct armour a;

  if (wanted != ARMOUR_YES)
    return 0;
  put_on (&a);
  take_off (&a, score);
  return judge (wanted, &a);
}

int
armour_put_on (enum armour_wanted wanted, struct armour *a)
{
  if (wanted != ARMOUR_NO) {
    put_on (a);
    return judge (wanted, a);
  }
  *a = (struct armour){ .flusher = has_flusher (),
                        .oom_score_adj = read_score () };
  return 0;
}

/* ---- bringing in what is there ---- */

struct range {
  uintptr_t first, end;
};

struct wish {
  struct range program;
  bool shared;
  const char *const *libraries;
};

/* Is it a part of a file of which all is wanted? */
static bool
is_wanted (const char *path, const char *const *libraries)
{
  const char *slash = strrchr (path, '/');

  if (libraries == NULL || slash == NULL)
    return true;
  for (; *libraries != NULL; libraries++)
    if (strncmp (slash + 1, *libraries, strlen (*libraries)) == 0)
      return true;
  return false;
}

/* The program is the first object. */
static int
look_at_program (struct dl_phdr_info *info, size_t bytes, void *arg)
{
  struct range *program = arg;

  (void) bytes;
  program->first = UINTPTR_MAX;
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    const ElfW (Phdr) *part = &info->dlpi_phdr[i];
    uintptr_t first = info->dlpi_addr + part->p_vaddr;

    if (part->p_type != PT_LOAD)
      continue;
    if (first < program->first)
      program->first = first;
    if (first + part->p_memsz > program->end)
      program->end = first + part->p_memsz;
  }
  return 1;
}

/* One line of maps, if it is to be filled (A3).  What cannot be brought in, as
 * the kernel's own pages, stays as it is.
 */
static void
fill_area (const char *line, const struct wish *wish)
{
  unsigned long first, end, inode;
  bool is_ours;
  char perms[5];
  int how, path;

  if (sscanf (line, "%lx-%lx %4s %*x %*s %lu%n", &first, &end, perms, &inode,
              &path) != 4 ||
      perms[0] != 'r' || (perms[3] == 's' && !wish->shared))
    return;
  is_ours = first >= wish->program.first && first < wish->program.end;
  if (is_ours ? inode == 0
              : perms[1] != 'w' && !is_wanted (line + path, wish->libraries))
    return;
  how = perms[1] == 'w' ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
  if (madvise ((void *) first, end - first, how) == -1 && errno == EINVAL)
    (void) mlock ((const void *) first, end - first); /* before Linux 5.14 */
}

void
armour_fill (const struct armour *a, bool shared, const char *const *libraries)
{
  struct wish wish = { .shared = shared, .libraries = libraries };
  char line[512];
  FILE *f;

  if (!a->locked)
    return;
  f = fopen (MAPS_PATH, "re");
  if (f == NULL) {
    log_write (LOG_WARNING, "armour: %s: %s: memory is locked as it is touched",
               MAPS_PATH, strerror (errno));
    return;
  }
  dl_iterate_phdr (look_at_program, &wish.program);
  while (fgets (line, sizeof line, f) != NULL)
    fill_area (line, &wish);
  fclose (f);
}
