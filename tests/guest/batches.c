/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batches: requests in batches to one disk, and what of them a crash may leave.
 *
 *   batches write SOCKET EXPORT SEED FIRST MEDIUM OFFSET
 *       batches FIRST, FIRST + 1, ... until it is killed.  After each: a mark
 *       with its number, 512 bytes at OFFSET of MEDIUM, and a line "synced N".
 *   batches check SOCKET EXPORT SEED N
 *       each page is what batches 1 to N leave, or what N + 1 leaves of it
 *
 * Guests whose power is cut write; the marks are in the log of the medium's
 * writes (powercut.c), so that it says exactly what was promised at each
 * moment. The same guest, or the host with the medium's cut state, checks.
 *
 * A batch follows from SEED and its number: up to 24 requests in flight
 * together, no page in two of them: pages, runs of pages, sectors of a page,
 * trims, zeroes.  It is over when all are replied and a flush after them is,
 * or, one batch in four, all were sent with FUA.
 *
 * The model is a version for each sector: the batch that wrote it, 0 for zeros.
 * A sector's content follows from SEED, its number and its version, so a page
 * that is stale, from another place or torn is neither of the two allowed.
 *
 * Exit: 0; 1 a wrong page; 2 usage or a failed call.
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

#include <libnbd.h>

enum {
  SECTOR_BYTES = 512,
  PAGE_BYTES = 4096,
  PAGE_SECTORS = PAGE_BYTES / SECTOR_BYTES,
  DISK_PAGES = 8192,
  REQUESTS_MAX = 24,
  RUN_PAGES_MAX = 64,
  READ_PAGES = 256
};

enum kind {
  WRITE,
  TRIM,
  ZERO
};

struct request {
  enum kind kind;
  uint32_t sector, sectors;
};

struct batch {
  struct request requests[REQUESTS_MAX];
  unsigned nr;
  bool fua;
};

typedef uint32_t model[DISK_PAGES * PAGE_SECTORS]; /* versions */

static uint64_t the_seed;
static model at_mark, after;
static unsigned char buffers[REQUESTS_MAX][RUN_PAGES_MAX * PAGE_BYTES];
static unsigned char seen[READ_PAGES * PAGE_BYTES];

static void
die (const char *what)
{
  fprintf (stderr, "batches: %s\n", what);
  exit (2);
}

static uint64_t
mix (uint64_t a, uint64_t b)
{
  uint64_t x = (a ^ (b + 1) * UINT64_C (0x9e3779b97f4a7c15)) + b;

  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

/* The next number of *STATE, below N. */
static uint32_t
draw (uint64_t *state, uint32_t n)
{
  *state = mix (*state, 77);
  return (uint32_t) ((*state >> 11) % n);
}

/* ---- what a batch does ---- */

static void
make_request (uint64_t *state, struct request *r)
{
  uint32_t what = draw (state, 100);
  uint32_t page = draw (state, DISK_PAGES);
  uint32_t pages = 1;

  r->kind = what < 84 ? WRITE : what < 92 ? TRIM : ZERO;
  if (what >= 60)
    pages += draw (state, what < 76 ? 15 : RUN_PAGES_MAX);
  if (pages > DISK_PAGES - page)
    pages = DISK_PAGES - page;
  r->sector = page * PAGE_SECTORS;
  r->sectors = pages * PAGE_SECTORS;
  if (what < 12) {
    uint32_t first = draw (state, PAGE_SECTORS);

    r->sector += first;
    r->sectors = 1 + draw (state, PAGE_SECTORS - first);
  }
}

static bool
meets (const struct request *a, const struct request *b)
{
  uint32_t a_end = (a->sector + a->sectors - 1) / PAGE_SECTORS;
  uint32_t b_end = (b->sector + b->sectors - 1) / PAGE_SECTORS;

  return a->sector / PAGE_SECTORS <= b_end && b->sector / PAGE_SECTORS <= a_end;
}

static void
make_batch (uint32_t number, struct batch *b)
{
  uint64_t state = mix (the_seed, number);
  unsigned wanted = 1 + draw (&state, REQUESTS_MAX);

  b->nr = 0;
  b->fua = draw (&state, 4) == 0;
  for (unsigned i = 0; i < wanted; i++) {
    struct request *r = &b->requests[b->nr];
    bool alone = true;

    make_request (&state, r);
    for (unsigned j = 0; j < b->nr; j++)
      alone = alone && !meets (r, &b->requests[j]);
    if (alone)
      b->nr++;
  }
}

static void
apply (model m, uint32_t number)
{
  struct batch b;

  make_batch (number, &b);
  for (unsigned i = 0; i < b.nr; i++) {
    const struct request *r = &b.requests[i];

    for (uint32_t s = r->sector; s < r->sector + r->sectors; s++)
      m[s] = r->kind == WRITE ? number : 0;
  }
}

static void
fill (unsigned char *to, uint32_t sector, uint32_t version)
{
  uint64_t x = mix (mix (the_seed, sector), version);
  uint64_t words[SECTOR_BYTES / sizeof x];

  if (x == 0)
    x = 1;
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    words[i] = version == 0 ? 0 : x;
  }
  memcpy (to, words, sizeof words);
}

/* ---- write ---- */

static int
send_request (struct nbd_handle *nbd, const struct request *r,
              unsigned char *data, uint32_t number, uint32_t flags)
{
  uint64_t off = (uint64_t) r->sector * SECTOR_BYTES;
  uint64_t bytes = (uint64_t) r->sectors * SECTOR_BYTES;
  int64_t cookie;

  if (r->kind == WRITE) {
    for (uint32_t s = 0; s < r->sectors; s++)
      fill (data + s * SECTOR_BYTES, r->sector + s, number);
    cookie = nbd_aio_pwrite (nbd, data, bytes, off, NBD_NULL_COMPLETION, flags);
  } else if (r->kind == TRIM)
    cookie = nbd_aio_trim (nbd, bytes, off, NBD_NULL_COMPLETION, flags);
  else
    cookie = nbd_aio_zero (nbd, bytes, off, NBD_NULL_COMPLETION, flags);
  return cookie < 0 ? -1 : 0;
}

/* Until all requests are replied; the first that failed ends the program. */
static void
wait_all (struct nbd_handle *nbd)
{
  int64_t cookie;

  for (;;) {
    while ((cookie = nbd_aio_peek_command_completed (nbd)) > 0)
      if (nbd_aio_command_completed (nbd, (uint64_t) cookie) != 1)
        die (nbd_get_error ());
    if (nbd_aio_in_flight (nbd) == 0)
      return;
    if (nbd_poll (nbd, -1) < 0)
      die (nbd_get_error ());
  }
}

static void
write_batch (struct nbd_handle *nbd, uint32_t number)
{
  struct batch b;

  make_batch (number, &b);
  for (unsigned i = 0; i < b.nr; i++)
    if (send_request (nbd, &b.requests[i], buffers[i], number,
                      b.fua ? LIBNBD_CMD_FLAG_FUA : 0) < 0)
      die (nbd_get_error ());
  wait_all (nbd);
  if (!b.fua && nbd_flush (nbd, 0) < 0)
    die (nbd_get_error ());
}

static int
write_mark (int fd, off_t off, uint32_t number)
{
  static _Alignas(PAGE_BYTES) char mark[SECTOR_BYTES];

  snprintf (mark, sizeof mark, "batches: synced %" PRIu32 "\n", number);
  return pwrite (fd, mark, sizeof mark, off) == sizeof mark ? 0 : -1;
}

static int
run_write (struct nbd_handle *nbd, uint32_t first, const char *medium,
           off_t off)
{
  int fd = open (medium, O_WRONLY | O_DIRECT | O_CLOEXEC);

  if (fd < 0)
    die (medium);
  for (uint32_t number = first; number != 0; number++) {
    write_batch (nbd, number);
    if (write_mark (fd, off, number) < 0)
      die (medium);
    printf ("synced %" PRIu32 "\n", number);
    fflush (stdout);
  }
  close (fd);
  return 0;
}

/* ---- check ---- */

static bool
page_is (const model m, uint32_t page, const unsigned char *content)
{
  unsigned char want[SECTOR_BYTES];

  for (uint32_t i = 0; i < PAGE_SECTORS; i++) {
    uint32_t s = page * PAGE_SECTORS + i;

    fill (want, s, m[s]);
    if (memcmp (want, content + i * SECTOR_BYTES, SECTOR_BYTES) != 0)
      return false;
  }
  return true;
}

static int
run_check (struct nbd_handle *nbd, uint32_t number)
{
  unsigned wrong = 0, newer = 0;

  for (uint32_t i = 1; i <= number; i++)
    apply (at_mark, i);
  memcpy (after, at_mark, sizeof after);
  apply (after, number + 1);
  for (uint32_t page = 0; page < DISK_PAGES; page++) {
    const unsigned char *content = seen + page % READ_PAGES * PAGE_BYTES;

    if (page % READ_PAGES == 0 &&
        nbd_pread (nbd, seen, sizeof seen, (uint64_t) page * PAGE_BYTES, 0) < 0)
      die (nbd_get_error ());
    if (page_is (at_mark, page, content))
      continue;
    if (page_is (after, page, content))
      newer++;
    else if (wrong++ < 10)
      fprintf (stderr,
               "batches: page %" PRIu32 " is not as batch %" PRIu32
               " left it (there it was of batch %" PRIu32 ", then %" PRIu32
               ")\n",
               page, number, at_mark[page * PAGE_SECTORS],
               after[page * PAGE_SECTORS]);
  }
  printf ("%u pages wrong, %u of batch %" PRIu32 "\n", wrong, newer,
          number + 1);
  return wrong == 0 ? 0 : 1;
}

/* ---- */

static uint64_t
number_of (const char *text)
{
  char *end;
  uint64_t n;

  errno = 0;
  n = strtoull (text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || n > INT64_MAX)
    die ("a number is none");
  return n;
}

int
main (int argc, char *argv[])
{
  bool writing = argc == 8 && strcmp (argv[1], "write") == 0;
  struct nbd_handle *nbd;
  uint64_t n;
  int status;

  if (!writing && (argc != 6 || strcmp (argv[1], "check") != 0))
    die ("usage: batches write SOCKET EXPORT SEED FIRST MEDIUM OFFSET | check "
         "SOCKET EXPORT SEED N");
  the_seed = number_of (argv[4]);
  n = number_of (argv[5]);
  if (n >= UINT32_MAX || (writing && n == 0))
    die ("a number of a batch is out of range");
  nbd = nbd_create ();
  if (nbd == NULL || nbd_set_export_name (nbd, argv[3]) < 0 ||
      nbd_connect_unix (nbd, argv[2]) < 0)
    die (nbd_get_error ());
  if (nbd_get_size (nbd) != (int64_t) DISK_PAGES * PAGE_BYTES)
    die ("the disk is not 32 MiB");
  status = writing ? run_write (nbd, (uint32_t) n, argv[6],
                                (off_t) number_of (argv[7]))
                   : run_check (nbd, (uint32_t) n);
  nbd_close (nbd);
  return status;
}
