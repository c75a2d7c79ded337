/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * powercut: what a medium may hold after a power cut, from the log of its
 * writes that qemu's blklogwrites driver keeps.
 *
 *   powercut LOG MEDIUM MARK SEED
 *
 * MEDIUM is a copy of what the medium was when the log began, and becomes what
 * it is after a cut.  The mark's sector is at byte MARK of it (batches.c).
 *
 *      log:  w w w F w w M w F w w w M w w | w w F
 *            '------- kept --'  '- some -' cut
 *
 * The cut is between any two entries, chosen by SEED, half of the time before a
 * flush, where there is most to lose.  All writes before the
 * last flush F that was over by then are on the medium, of those behind it any
 * may be, also in part: SEED chooses among all, none, a prefix, one lost, one
 * kept, and a coin for each, with a coin for each sector of one write in eight.
 * A write with FUA is there.
 *
 * qemu logs a write when it is done, before its guest learns so: what a guest
 * did after a reply is behind it in the log, what it flushed is before the
 * flush.  A write that was under way beside a flush may be before it in the
 * log, and is then always kept, which is one of the things that can happen.
 *
 * Prints "cut E of N entries, flush F, kept K of L, mark M": M was written, by
 * someone who had been told that all up to M is durable.  0: none.
 *
 * Exit: 0; 2 usage, a failed call, or a log that is none.
 */
#include <config.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The format is that of Linux's Documentation/admin-guide/device-mapper/
 * log-writes.rst; all little-endian. */
#define LOG_MAGIC UINT64_C (0x6a736677736872)
enum {
  LOG_FLUSH = 1,
  LOG_FUA = 2,
  LOG_DISCARD = 4,
  SECTOR_BYTES = 512
};

struct super {
  uint64_t magic, version, nr_entries;
  uint32_t sector_bytes;
};

struct head {
  uint64_t sector, nr_sectors, flags, data_bytes;
};

struct entry {
  uint64_t off, bytes, flags;
  const unsigned char *data; /* NULL: zeros */
};

enum way {
  ALL,
  NONE,
  PREFIX,
  ONE_LOST,
  ONE_KEPT,
  COINS,
  WAYS
};

struct cut {
  uint64_t end, flush; /* entries before these */
  enum way way;
  uint64_t one; /* entry that PREFIX, ONE_LOST and ONE_KEPT mean */
};

static uint64_t random_state;
static struct entry *entries;
static uint64_t nr_entries;

static void
die (const char *what)
{
  fprintf (stderr, "powercut: %s\n", what);
  exit (2);
}

/* splitmix64, below N. */
static uint64_t
draw (uint64_t n)
{
  uint64_t x = random_state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return (x ^ (x >> 31)) % n;
}

static const unsigned char *
map_file (const char *path, size_t *bytes)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  void *p;

  if (fd < 0 || fstat (fd, &st) < 0 || st.st_size < SECTOR_BYTES)
    die (path);
  p = mmap (NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p == MAP_FAILED)
    die (path);
  close (fd);
  *bytes = (size_t) st.st_size;
  return p;
}

/* ---- the log ---- */

/* The entry at *POS, which moves behind it.  False: it was not written, as qemu
 * was killed; the superblock counts also those that were just being written. */
static bool
read_entry (const unsigned char *log, size_t log_bytes, size_t *pos,
            struct entry *e)
{
  struct head h;

  if (log_bytes - *pos < SECTOR_BYTES)
    return false;
  memcpy (&h, log + *pos, sizeof h);
  e->off = le64toh (h.sector);
  e->bytes = le64toh (h.nr_sectors);
  e->flags = le64toh (h.flags);
  if (e->bytes == 0 && e->flags == 0)
    return false;
  if (e->off > INT64_MAX / SECTOR_BYTES ||
      e->bytes > (UINT64_C (1) << 40) / SECTOR_BYTES)
    die ("an entry of the log makes no sense");
  e->off *= SECTOR_BYTES;
  e->bytes *= SECTOR_BYTES;
  e->data = NULL;
  *pos += SECTOR_BYTES;
  if (e->flags & LOG_DISCARD)
    return true;
  if (log_bytes - *pos < e->bytes)
    return false;
  e->data = log + *pos;
  *pos += e->bytes;
  return true;
}

static void
read_log (const char *path)
{
  size_t log_bytes, pos = SECTOR_BYTES;
  const unsigned char *log = map_file (path, &log_bytes);
  struct super s;

  memcpy (&s, log, sizeof s);
  nr_entries = le64toh (s.nr_entries);
  if (le64toh (s.magic) != LOG_MAGIC || le64toh (s.version) != 1 ||
      le32toh (s.sector_bytes) != SECTOR_BYTES)
    die ("no log of qemu's blklogwrites with sectors of 512 bytes");
  if (nr_entries == 0 || nr_entries > log_bytes / SECTOR_BYTES)
    die ("the log has no entries, or more than fit");
  entries = calloc (nr_entries, sizeof entries[0]);
  if (entries == NULL)
    die ("no memory");
  for (uint64_t i = 0; i < nr_entries; i++)
    if (!read_entry (log, log_bytes, &pos, &entries[i]))
      nr_entries = i;
  if (nr_entries == 0)
    die ("the log has no entries");
}

/* ---- the cut ---- */

static void
choose (struct cut *c)
{
  c->end = 1 + draw (nr_entries);
  if (draw (2) == 0)
    while (c->end < nr_entries && !(entries[c->end].flags & LOG_FLUSH))
      c->end++;
  c->flush = c->end;
  while (c->flush > 0 && !(entries[c->flush - 1].flags & LOG_FLUSH))
    c->flush--;
  c->way = (enum way) draw (WAYS);
  c->one = c->flush;
  if (c->end > c->flush)
    c->one += draw (c->end - c->flush);
}

static bool
is_kept (const struct cut *c, uint64_t i)
{
  if (i < c->flush || (entries[i].flags & LOG_FUA))
    return true;
  switch (c->way) {
  case ALL:
    return true;
  case PREFIX:
    return i < c->one;
  case ONE_LOST:
    return i != c->one;
  case ONE_KEPT:
    return i == c->one;
  case COINS:
    return draw (2) == 0;
  default:
    return false;
  }
}

static void
write_all (int fd, const unsigned char *data, uint64_t bytes, uint64_t off)
{
  static const unsigned char zeros[1 << 20];

  while (bytes > 0) {
    size_t n = data == NULL && bytes > sizeof zeros ? sizeof zeros : bytes;
    ssize_t r = pwrite (fd, data == NULL ? zeros : data, n, (off_t) off);

    if (r <= 0)
      die ("cannot write the medium");
    data = data == NULL ? NULL : data + r;
    bytes -= (uint64_t) r;
    off += (uint64_t) r;
  }
}

/* Some of its sectors. */
static void
write_torn (int fd, const struct entry *e)
{
  for (uint64_t at = 0; at < e->bytes; at += SECTOR_BYTES)
    if (draw (2) == 0)
      write_all (fd, e->data == NULL ? NULL : e->data + at, SECTOR_BYTES,
                 e->off + at);
}

/* Number in the mark that E writes, or 0 */
static uint64_t
mark_of (const struct entry *e, uint64_t mark_off)
{
  uint64_t number;

  if (e->off != mark_off || e->bytes != SECTOR_BYTES || e->data == NULL ||
      e->data[SECTOR_BYTES - 1] != '\0' ||
      sscanf ((const char *) e->data, "batches: synced %" SCNu64, &number) != 1)
    return 0;
  return number;
}

static void
make_state (const char *medium, uint64_t mark_off)
{
  int fd = open (medium, O_WRONLY | O_CLOEXEC);
  uint64_t mark = 0, kept = 0;
  struct cut c;

  if (fd < 0)
    die (medium);
  choose (&c);
  for (uint64_t i = 0; i < c.end; i++) {
    const struct entry *e = &entries[i];
    uint64_t found = mark_of (e, mark_off);
    bool whole = i < c.flush || (e->flags & LOG_FUA);

    mark = found == 0 ? mark : found;
    if (!is_kept (&c, i))
      continue;
    kept += i >= c.flush;
    if (whole || c.way == ALL || draw (8) != 0)
      write_all (fd, e->data, e->bytes, e->off);
    else
      write_torn (fd, e);
  }
  if (close (fd) < 0)
    die (medium);
  printf ("cut %" PRIu64 " of %" PRIu64 " entries, flush %" PRIu64
          ", kept %" PRIu64 " of %" PRIu64 ", mark %" PRIu64 "\n",
          c.end, nr_entries, c.flush, kept, c.end - c.flush, mark);
}

static uint64_t
number_of (const char *text)
{
  char *end;
  uint64_t n;

  errno = 0;
  n = strtoull (text, &end, 10);
  if (errno != 0 || end == text || *end != '\0')
    die ("a number is none");
  return n;
}

int
main (int argc, char *argv[])
{
  if (argc != 5)
    die ("usage: powercut LOG MEDIUM MARK SEED");
  random_state = number_of (argv[4]);
  read_log (argv[1]);
  make_state (argv[2], number_of (argv[3]));
  return 0;
}
