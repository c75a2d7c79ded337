/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pattern: files whose content follows from a seed and does not compress.
 *
 *   pattern write FILE BYTES SEED   make or overwrite FILE
 *   pattern sync FILE BYTES SEED    the same, and fsync it
 *   pattern check FILE BYTES SEED   FILE has exactly this content
 *   pattern jump FILE BYTES SEED    so have 512 whole pages of it, at random
 *
 * All but jump print the sum of what was written or read (FNV-1a over 64-bit
 * words), so a run can show that two readings were equal.  Test scripts call
 * it, in guests whose CPU is emulated: a generator of three shifts a word, and
 * no library but libc.
 *
 * Content: the words of xorshift64 begun with the seed (mixed, never 0), in the
 * machine's byte order; the last word is cut at BYTES.  check names the first
 * wrong byte's offset: its page is what a swap or disk lost.
 *
 * Exit: 0; 1 wrong content; 2 usage or a failed system call.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  CHUNK_BYTES = 256 * 1024,
  PAGE_WORDS = 4096 / sizeof (uint64_t),
  JUMPS = 512
};

static uint64_t chunk[CHUNK_BYTES / sizeof (uint64_t)];
static unsigned char seen[CHUNK_BYTES];

struct stream {
  uint64_t state; /* of the generator, never 0 */
  uint64_t sum;
};

static void
stream_begin (struct stream *s, uint64_t seed)
{
  s->state = (seed + 1) * UINT64_C (0x9e3779b97f4a7c15);
  if (s->state == 0)
    s->state = 1;
  s->sum = UINT64_C (0xcbf29ce484222325);
}

static void
stream_words (struct stream *s, uint64_t *words, size_t nr)
{
  uint64_t x = s->state;

  for (size_t i = 0; i < nr; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    words[i] = x;
  }
  s->state = x;
}

static void
stream_fill (struct stream *s)
{
  stream_words (s, chunk, sizeof chunk / sizeof chunk[0]);
}

/* Whole words only: the tail of a chunk is padded by its caller. */
static void
stream_sum (struct stream *s, const void *data, size_t bytes)
{
  const uint64_t *word = data;

  for (size_t i = 0; i < bytes / sizeof *word; i++)
    s->sum = (s->sum ^ word[i]) * UINT64_C (0x100000001b3);
}

static int
write_all (int fd, const void *data, size_t bytes)
{
  const char *p = data;

  while (bytes > 0) {
    ssize_t r = write (fd, p, bytes);

    if (r < 0 && errno != EINTR)
      return errno;
    if (r > 0) {
      p += r;
      bytes -= (size_t) r;
    }
  }
  return 0;
}

/* Up to BYTES into DATA; *got is less only at the end of the file. */
static int
read_all (int fd, void *data, size_t bytes, size_t *got)
{
  char *p = data;
  size_t n = 0;

  while (n < bytes) {
    ssize_t r = read (fd, p + n, bytes - n);

    if (r < 0 && errno != EINTR)
      return errno;
    if (r == 0)
      break;
    if (r > 0)
      n += (size_t) r;
  }
  *got = n;
  return 0;
}

/* Compare a chunk of the file at OFF with what it must be. */
static bool
chunk_right (const char *file, uint64_t off, size_t bytes, size_t got)
{
  const unsigned char *want = (const unsigned char *) chunk;
  size_t i = 0;

  if (got == bytes && memcmp (want, seen, bytes) == 0)
    return true;
  while (i < got && want[i] == seen[i])
    i++;
  fprintf (stderr, "pattern: %s: wrong from byte %" PRIu64 " on%s\n", file,
           off + i, i == got ? " (it is too short)" : "");
  return false;
}

/* Pad the last, cut word with zeros, so that it can be summed. */
static void
pad (void *data, size_t bytes)
{
  size_t over = bytes % sizeof (uint64_t);

  if (over != 0)
    memset ((char *) data + bytes, 0, sizeof (uint64_t) - over);
}

static int
step (int fd, const char *file, bool writing, uint64_t off, size_t bytes,
      struct stream *s)
{
  size_t got;
  int err;

  stream_fill (s);
  if (writing) {
    err = write_all (fd, chunk, bytes);
    pad (chunk, bytes);
    stream_sum (s, chunk, (bytes + 7) / 8 * 8);
    return err;
  }
  err = read_all (fd, seen, bytes, &got);
  if (err != 0)
    return err;
  if (!chunk_right (file, off, bytes, got))
    exit (1);
  pad (seen, bytes);
  stream_sum (s, seen, (bytes + 7) / 8 * 8);
  return 0;
}

/* After the last byte there must be no other. */
static int
check_end (int fd, const char *file)
{
  size_t got;
  int err = read_all (fd, seen, 1, &got);

  if (err == 0 && got != 0) {
    fprintf (stderr, "pattern: %s: it is too long\n", file);
    exit (1);
  }
  return err;
}

static int
run (int fd, const char *file, bool writing, uint64_t size, uint64_t seed)
{
  struct stream s;
  int err = 0;

  stream_begin (&s, seed);
  for (uint64_t off = 0; off < size && err == 0; off += CHUNK_BYTES) {
    uint64_t left = size - off;

    err = step (fd, file, writing, off,
                left < CHUNK_BYTES ? (size_t) left : CHUNK_BYTES, &s);
  }
  if (err == 0 && !writing)
    err = check_end (fd, file);
  if (err == 0)
    printf ("%016" PRIx64 "\n", s.sum);
  return err;
}

/* The generator's states before each page are kept, not the content. */
static int
jump (int fd, const char *file, uint64_t size, uint64_t seed)
{
  const uint64_t nr = size / (PAGE_WORDS * sizeof chunk[0]);
  struct stream s, *pages = calloc (nr, sizeof *pages);
  struct stream random;
  int err = pages == NULL || nr == 0 ? ENOMEM : 0;

  stream_begin (&s, seed);
  for (uint64_t i = 0; i < nr && err == 0; i++) {
    pages[i] = s;
    stream_words (&s, chunk, PAGE_WORDS);
  }
  stream_begin (&random, ~seed);
  for (unsigned n = 0; n < JUMPS && err == 0; n++) {
    uint64_t page, off;
    size_t got = 0;

    stream_words (&random, &page, 1);
    page %= nr;
    off = page * sizeof *chunk * PAGE_WORDS;
    s = pages[page];
    stream_words (&s, chunk, PAGE_WORDS);
    err = lseek (fd, (off_t) off, SEEK_SET) < 0
              ? errno
              : read_all (fd, seen, sizeof *chunk * PAGE_WORDS, &got);
    if (err == 0 && !chunk_right (file, off, sizeof *chunk * PAGE_WORDS, got))
      exit (1);
  }
  free (pages);
  return err;
}

static bool
number (const char *text, uint64_t *n)
{
  char *end;

  errno = 0;
  *n = strtoull (text, &end, 10);
  return errno == 0 && end != text && *end == '\0' && *text != '-';
}

int
main (int argc, char *argv[])
{
  uint64_t size, seed;
  bool writing;
  int fd, err;

  if (argc != 5 ||
      (strcmp (argv[1], "write") && strcmp (argv[1], "sync") &&
       strcmp (argv[1], "check") && strcmp (argv[1], "jump")) ||
      !number (argv[3], &size) || !number (argv[4], &seed)) {
    fprintf (stderr, "usage: pattern write|sync|check|jump FILE BYTES SEED\n");
    return 2;
  }
  writing = argv[1][0] == 'w' || argv[1][0] == 's';
  fd = writing ? open (argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
               : open (argv[2], O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    err = errno;
  else
    err = argv[1][0] == 'j' ? jump (fd, argv[2], size, seed)
                            : run (fd, argv[2], writing, size, seed);
  if (err == 0 && argv[1][0] == 's' && fsync (fd) < 0)
    err = errno;
  if (fd >= 0 && close (fd) < 0 && err == 0)
    err = errno;
  if (err != 0) {
    fprintf (stderr, "pattern: %s: %s\n", argv[2], strerror (err));
    return 2;
  }
  return 0;
}
