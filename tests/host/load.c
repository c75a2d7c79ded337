/* SPDX-License-Identifier: BSD-2-Clause */
/* Workers that read and write disks, each checking its own sectors.
 *
 *   disk    | share 0 | share 1 | share 2 | share 3 | share 0 | ...
 *             grain     grain
 *   slot 0 = shares 0, 1 (two workers)   slot 1 = shares 2, 3
 *
 * I1. A byte of the model is written and compared by one worker at a time:
 *     the one whose share it is in.  Pages belong to several workers where the
 *     grain is no multiple of a page, so their changes meet inside.
 * I2. A slot's connection is closed when its workers have ended, as nbdkit
 *     does it, and the next is opened: the model goes on.
 *
 * Disks are reserved, so no request of these may fail at all.
 */

#include <config.h>

#include "load.h"

#include <errno.h>
#include <string.h>

#define BYTES_MAX (UINT64_C (2) * MIB)

struct worker {
  struct host *host;
  struct disk *disk;
  void *handle;
  unsigned share;
  uint64_t random;
  unsigned nr_requests;
  uint8_t *buf;
  struct nbdkit_extents *extents;
};

/* ---- where ---- */

/* A random range in one row of the worker's share. */
static uint32_t
pick_range (struct worker *w, uint64_t *off)
{
  const struct disk *d = w->disk;
  uint64_t row = (uint64_t) d->grain * SECTOR;
  uint64_t nr_rows = d->bytes / row / SHARES;
  uint64_t base =
      (test_random_below (&w->random, nr_rows) * SHARES + w->share) * row;
  uint64_t unit = 1, at, len;

  switch (test_random_below (&w->random, 3)) {
  case 0:
    unit = SECTOR;
    break;
  case 1:
    unit = row >= 2 * PAGE ? PAGE : SECTOR;
    break;
  }
  at = (base + test_random_below (&w->random, row) + unit - 1) / unit * unit;
  if (at >= base + row)
    at = base;
  len = 1 + test_random_below (&w->random, base + row - at);
  if (len > unit)
    len -= len % unit;
  *off = at;
  return (uint32_t) (len < BYTES_MAX ? len : BYTES_MAX);
}

/* ---- what ---- */

static void
fill (struct worker *w, uint32_t len)
{
  uint64_t word = 0;

  if (test_random_below (&w->random, 8) == 0) {
    memset (w->buf, 0, len);
    return;
  }
  for (uint32_t i = 0; i < len; i++) {
    if (i % 8 == 0)
      word = test_random_below (&w->random, UINT64_MAX);
    w->buf[i] = (uint8_t) (word >> (i % 8 * 7));
  }
}

static void
do_write (struct worker *w, uint64_t off, uint32_t len)
{
  uint32_t flags =
      test_random_below (&w->random, 16) == 0 ? NBDKIT_FLAG_FUA : 0;

  fill (w, len);
  MUST (w->host->p->pwrite (w->handle, w->buf, len, off, flags) == 0);
  memcpy (w->disk->model + off, w->buf, len);
}

static void
compare (const struct disk *d, const uint8_t *buf, uint64_t off, uint32_t len)
{
  const uint8_t *want = d->model + off;

  if (memcmp (buf, want, len) == 0)
    return;
  for (uint32_t i = 0; i < len; i++)
    if (buf[i] != want[i]) {
      fprintf (stderr,
               "%s: byte %" PRIu64 " (of a read of %u at %" PRIu64
               ") is %02x and must be %02x\n",
               d->export, off + i, len, off, buf[i], want[i]);
      abort ();
    }
}

static void
do_read (struct worker *w, uint64_t off, uint32_t len)
{
  memset (w->buf, 0xee, len);
  MUST (w->host->p->pread (w->handle, w->buf, len, off, 0) == 0);
  compare (w->disk, w->buf, off, len);
}

static void
do_trim (struct worker *w, uint64_t off, uint32_t len)
{
  MUST (w->host->p->trim (w->handle, len, off, 0) == 0);
  memset (w->disk->model + off, 0, len);
}

static void
do_zero (struct worker *w, uint64_t off, uint32_t len)
{
  uint32_t flags = (uint32_t) test_random_below (&w->random, 8);
  int r = w->host->p->zero (w->handle, len, off, flags);

  if (r == 0) {
    memset (w->disk->model + off, 0, len);
    return;
  }
  MUST (flags & NBDKIT_FLAG_FAST_ZERO);
  MUST (host_take_error () == ENOTSUP);
}

/* What is told to be zero is zero; all of the range is told of. */
static void
do_extents (struct worker *w, uint64_t off, uint32_t len)
{
  struct nbdkit_extents *x = w->extents;
  uint32_t flags =
      test_random_below (&w->random, 4) == 0 ? NBDKIT_FLAG_REQ_ONE : 0;

  host_extents_init (x, off, len);
  MUST (w->host->p->extents (w->handle, len, off, flags, x) == 0);
  MUST (x->nr > 0 && (flags || x->next == off + len));
  for (unsigned i = 0; i < x->nr; i++) {
    const struct host_extent *e = &x->extent[i];

    MUST ((e->type & NBDKIT_EXTENT_ZERO) || !(e->type & NBDKIT_EXTENT_HOLE));
    for (uint64_t k = 0; (e->type & NBDKIT_EXTENT_ZERO) && k < e->bytes; k++)
      MUST (w->disk->model[e->off + k] == 0);
  }
}

static void
one_request (struct worker *w)
{
  uint64_t off, op = test_random_below (&w->random, 100);
  uint32_t len = pick_range (w, &off);

  if (op < 42)
    do_write (w, off, len);
  else if (op < 76)
    do_read (w, off, len);
  else if (op < 84)
    do_trim (w, off, len);
  else if (op < 92)
    do_zero (w, off, len);
  else if (op < 97)
    do_extents (w, off, len);
  else if (op < 98)
    MUST (w->host->p->cache (w->handle, len, off, 0) == 0);
  else
    MUST (w->host->p->flush (w->handle, 0) == 0);
  atomic_fetch_add (&w->host->nr_requests, 1);
}

static void *
worker_main (void *arg)
{
  struct worker *w = arg;

  w->buf = malloc (BYTES_MAX);
  w->extents = malloc (sizeof *w->extents);
  MUST (w->buf != NULL && w->extents != NULL);
  for (unsigned i = 0; i < w->nr_requests && !atomic_load (&w->host->end); i++)
    one_request (w);
  free (w->extents);
  free (w->buf);
  return NULL;
}

/* ---- connections ---- */

static void *
connect_disk (struct host *host, const struct disk *d, uint16_t port)
{
  void *handle;

  host_connection (d->export, d->kind, (unsigned) (d - host->disk) + 1, port);
  handle = host->p->open (0);
  MUST (handle != NULL);
  MUST (host->p->get_size (handle) == (int64_t) d->bytes);
  MUST (host->p->can_write (handle) == 1);
  atomic_fetch_add (&host->nr_opens, 1);
  return handle;
}

void *
slot_main (void *arg)
{
  struct slot *slot = arg;
  struct host *host = slot->host;
  uint64_t random = host->seed + slot->nr * 7919 +
                    (uint64_t) (slot->disk - host->disk) * 104729 + 1;
  uint16_t port = (uint16_t) (1000 * slot->nr);

  while (!atomic_load (&host->end)) {
    void *handle = connect_disk (host, slot->disk, ++port);
    unsigned nr_requests = (unsigned) test_random_below (&random, 400);
    struct worker w[WORKERS];
    pthread_t thread[WORKERS];

    for (unsigned i = 0; i < WORKERS; i++) {
      w[i] = (struct worker){ .host = host,
                              .disk = slot->disk,
                              .handle = handle,
                              .share = slot->nr * WORKERS + i,
                              .nr_requests = nr_requests };
      w[i].random = test_random_below (&random, UINT64_MAX) | 1;
      MUST (pthread_create (&thread[i], NULL, worker_main, &w[i]) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
      pthread_join (thread[i], NULL);
    host->p->close (handle);
  }
  return NULL;
}

void
disk_verify (struct host *host, struct disk *disk)
{
  void *handle = connect_disk (host, disk, 9);
  uint8_t *buf = malloc (BYTES_MAX);

  MUST (buf != NULL);
  for (uint64_t off = 0; off < disk->bytes; off += BYTES_MAX) {
    uint64_t left = disk->bytes - off;
    uint32_t len = (uint32_t) (left < BYTES_MAX ? left : BYTES_MAX);

    MUST (host->p->pread (handle, buf, len, off, 0) == 0);
    compare (disk, buf, off, len);
  }
  free (buf);
  host->p->close (handle);
}
