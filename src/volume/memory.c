/* SPDX-License-Identifier: BSD-2-Clause */
/* A volume in memory: one memfd, mapped shared.
 *
 *   volume_open_memory --> memory_make: memfd
 *                            --> memory_allocate --> memory_room
 *                            --> mmap
 *   start = memcpy, over at once; trim = a hole in the memfd.
 *
 * A memfd and not malloc, because nbdkit forks after it has opened us and the
 * child must see the same bytes, and because a hole gives memory back at
 * once.
 *
 * I1. Unless sparse, every page is allocated from open to close: a write
 *     cannot fail.  A sparse volume's write allocates; when the system has no
 *     memory left, that is the business of its OOM killer, and nobody gets an
 *     errno.
 * I2. The room is looked at before anything is allocated, for an allocation
 *     that does not fit would wake the OOM killer and not fail.
 *
 * No locks.  Two transfers that touch one byte at a time give either, as on
 * any disk; the layers above never do that.
 */

#include <config.h>

#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"
#include "medium.h"

/* What is left to everybody else, and to our own maps (18 bytes a page and
 * the bitmap, together below 1/128).
 */
#define MARGIN_BYTES  (UINT64_C (64) << 20)
#define MARGIN_SHIFT  7
#define CHUNK_BYTES   (UINT64_C (256) << 20)
#define CGROUP_MOUNT  "/sys/fs/cgroup"
#define CGROUP_LEVELS 64 /* nested deeper: the outer ones are not looked at */

struct memory {
  struct volume v;
  int fd;     /* [const] */
  char *base; /* [const] v.size_bytes mapped */
};

static struct memory *
memory_of (struct volume *v)
{
  return (struct memory *) ((char *) v - offsetof (struct memory, v));
}

/* ---- how much room there is ---- */

/* The number after key at a line's start; false if there is none. */
static bool
number_in_file (const char *path, const char *key, uint64_t *np)
{
  FILE *f = fopen (path, "re");
  size_t len = strlen (key);
  char line[256];
  bool found = false;

  if (f == NULL)
    return false;
  while (!found && fgets (line, sizeof line, f) != NULL)
    found = strncmp (line, key, len) == 0 &&
            sscanf (line + len, "%" SCNu64, np) == 1;
  fclose (f);
  return found;
}

static bool
cgroup_number (const char *dir, const char *file, const char *key, uint64_t *np)
{
  char path[PATH_MAX + 64];

  snprintf (path, sizeof path, CGROUP_MOUNT "%s/%s", dir, file);
  return number_in_file (path, key, np);
}

/* What one control group lets us have still: its limit less its use, where
 * pages of files do not count, for they can be dropped.
 */
static uint64_t
cgroup_room (const char *dir)
{
  uint64_t max, current, active = 0, inactive = 0;

  if (!cgroup_number (dir, "memory.max", "", &max) ||
      !cgroup_number (dir, "memory.current", "", &current))
    return UINT64_MAX;
  cgroup_number (dir, "memory.stat", "active_file ", &active);
  cgroup_number (dir, "memory.stat", "inactive_file ", &inactive);
  current -= min_u64 (current, active + inactive);
  return max - min_u64 (max, current);
}

/* The least of our control group (version 2) and those around it. */
static uint64_t
cgroups_room (void)
{
  FILE *f = fopen ("/proc/self/cgroup", "re");
  char line[PATH_MAX + 8];
  char *dir = NULL;
  uint64_t room = UINT64_MAX;

  if (f == NULL)
    return room;
  while (dir == NULL && fgets (line, sizeof line, f) != NULL)
    if (strncmp (line, "0::/", 4) == 0)
      dir = line + 3;
  fclose (f);
  if (dir == NULL)
    return room;
  dir[strcspn (dir, "\n")] = '\0';
  for (unsigned i = 0; i < CGROUP_LEVELS; i++) {
    char *slash = strrchr (dir, '/');

    room = min_u64 (room, cgroup_room (dir));
    if (slash == NULL)
      break;
    *slash = '\0';
  }
  return room;
}

static uint64_t
memory_room (void)
{
  uint64_t kib, room = UINT64_MAX;

  if (number_in_file ("/proc/meminfo", "MemAvailable:", &kib))
    room = kib << 10;
  return min_u64 (room, cgroups_room ());
}

/* ---- the table ---- */

static void
memory_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  char *place = memory_of (v)->base + io->off;

  (void) batch;
  for (unsigned i = 0; i < vio_nr_parts (io); i++) {
    struct iovec part = vio_part (io, i);

    if (io->op == VIO_READ)
      memcpy (part.iov_base, place, part.iov_len);
    else
      memcpy (place, part.iov_base, part.iov_len);
    place += part.iov_len;
  }
  io->done = io->bytes;
}

static int
memory_flush (struct volume *v)
{
  (void) v;
  return 0;
}

static int
memory_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  int ret;

  do
    ret = fallocate (memory_of (v)->fd,
                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) off,
                     (off_t) bytes);
  while (ret == -1 && errno == EINTR);
  return ret == 0 ? 0 : errno;
}

static void
memory_close (struct volume *v)
{
  struct memory *m = memory_of (v);

  if (m->base != NULL)
    munmap (m->base, v->size_bytes);
  if (m->fd >= 0)
    close (m->fd);
  medium_fini (v);
  free (m);
}

static const struct volume_ops memory_ops = {
  .kind = "memory",
  .start = memory_start,
  .flush = memory_flush,
  .trim = memory_trim,
  .close = memory_close,
};

/* ---- opening ---- */

static int
no_room (const char *name, uint64_t room)
{
  log_write (LOG_ERROR, "%s: only %" PRIu64 " MiB of memory are available",
             name, room >> 20);
  return ENOMEM;
}

/* All pages, in pieces: memory that others take meanwhile is seen, and a
 * signal undoes one piece only.
 */
static int
memory_allocate (struct memory *m, uint64_t size_bytes)
{
  uint64_t margin = MARGIN_BYTES + (size_bytes >> MARGIN_SHIFT);
  uint64_t at = 0;

  while (at < size_bytes) {
    uint64_t left = size_bytes - at;
    uint64_t piece = min_u64 (left, CHUNK_BYTES);
    uint64_t room = memory_room ();

    if (room < margin || room - margin < left)
      return no_room (m->v.name, at + room);
    if (fallocate (m->fd, 0, (off_t) at, (off_t) piece) == 0)
      at += piece;
    else if (errno == ENOMEM || errno == ENOSPC)
      return no_room (m->v.name, at);
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

/* Room is looked for before the mapping, to have one message for too much. */
static int
memory_make (struct memory *m, uint64_t size_bytes)
{
  void *base;
  int err;

  m->fd = memfd_create ("farpage", MFD_CLOEXEC);
  if (m->fd == -1 || ftruncate (m->fd, (off_t) size_bytes) == -1)
    return errno;
  err = m->v.sparse ? 0 : memory_allocate (m, size_bytes);
  if (err != 0)
    return err;
  base = mmap (NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
  if (base == MAP_FAILED)
    return errno;
  m->base = base;
  m->v.size_bytes = size_bytes;
  /* A core file must not be as big as the pool, nor hold its pages. */
  madvise (base, size_bytes, MADV_DONTDUMP);
  return 0;
}

int
volume_open_memory (const char *name, uint64_t size_bytes, bool sparse,
                    struct volume **vp)
{
  struct memory *m;
  int err;

  size_bytes -= size_bytes & PAGE_MASK;
  if (size_bytes < VOLUME_BYTES_MIN || size_bytes > INT64_MAX ||
      size_bytes > SIZE_MAX) {
    log_write (LOG_ERROR,
               "%s: %" PRIu64 " bytes are no size for a volume (give at "
               "least %" PRIu32 ")",
               name, size_bytes, VOLUME_BYTES_MIN);
    return EINVAL;
  }
  m = calloc (1, sizeof *m);
  if (m == NULL)
    return ENOMEM;
  m->fd = -1;
  m->v.align = 1;
  m->v.sparse = sparse;
  err = medium_init (&m->v, &memory_ops, name);
  if (err == 0)
    err = memory_make (m, size_bytes);
  if (err != 0) {
    log_write (LOG_ERROR,
               "%s: a volume of %" PRIu64 " MiB cannot be made: %s (make it "
               "smaller, or use a file)",
               name, size_bytes >> 20, strerror (err));
    memory_close (&m->v);
    return err;
  }
  *vp = &m->v;
  return 0;
}
