/* SPDX-License-Identifier: BSD-2-Clause */
/* Check, last phase: every mapped page is read and its CRC looked at.
 *
 *   maps --> PAGES_MAX pages --> by block --> runs --> DEPTH reads under way
 *
 * Maps are walked once more; pages are gathered, sorted by block, and read in
 * as long transfers as they allow, past the page cache where volumes are.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "crc32c.h"

#define PAGES_MAX  262144u /* gathered before they are read: 8 MiB */
#define RUN_BLOCKS 256u
#define DEPTH      VIO_MAX
#define GAP        16u /* blocks that are read and not wanted, between two */

struct page {
  uint64_t tree, blk;
  pgno_t pgno;
  uint32_t crc;
};

struct check_data {
  struct page *pages;
  uint64_t nr, max;
  uint64_t nr_done, nr_all;
  struct vpool *pool; /* NULL: reads are over when they start */
  uint8_t *buf;       /* DEPTH * RUN_BLOCKS */
  int err;            /* ENOMEM, EINTR: no page is added any more */
};

static int
by_blk (const void *a, const void *b)
{
  const struct page *x = a, *y = b;

  return x->blk < y->blk ? -1 : x->blk > y->blk;
}

static void
tell_page (struct check *c, const struct page *p, const char *what)
{
  struct check_place at = CHECK_NOWHERE;

  at.blk = p->blk;
  at.tree = p->tree;
  at.pgno = p->pgno;
  check_tell (c, CHECK_DATA, &at, "%s", what);
}

static void
verify (struct check *c, const struct page *p, const uint8_t *block)
{
  c->report->nr_verified++;
  if (crc32c (0, block, DISK_BLOCK_BYTES) != p->crc)
    tell_page (c, p, "its content's checksum is wrong");
}

/* The run's read failed: one by one. */
static void
verify_alone (struct check *c, const struct page *p, uint8_t *block)
{
  if (check_read (c, p->blk, block) != 0)
    tell_page (c, p, "cannot be read");
  else
    verify (c, p, block);
}

/* Pages from first on that go in one transfer. */
static uint64_t
run_length (const struct check_data *d, uint64_t first)
{
  const struct page *p = &d->pages[first];
  uint64_t nr = 1;

  while (first + nr < d->nr && p[nr].blk - p->blk < RUN_BLOCKS &&
         p[nr].blk - p[nr - 1].blk <= GAP)
    nr++;
  return nr;
}

struct run {
  uint64_t first, nr; /* pages */
  struct vio io;
};

static void
verify_run (struct check *c, const struct run *r)
{
  const struct page *p = &c->data->pages[r->first];

  for (uint64_t i = 0; i < r->nr; i++) {
    uint8_t *block =
        (uint8_t *) r->io.buf + (p[i].blk - p->blk) * DISK_BLOCK_BYTES;

    if (r->io.error)
      verify_alone (c, &p[i], block);
    else
      verify (c, &p[i], block);
  }
}

/* Read and verify all that was gathered. */
static int
read_all (struct check *c)
{
  struct check_data *d = c->data;
  struct vbatch *batch = d->pool != NULL ? vbatch_get (d->pool) : NULL;
  struct run run[DEPTH];
  int err = 0;

  if (d->nr > 0)
    qsort (d->pages, d->nr, sizeof *d->pages, by_blk);
  for (uint64_t next = 0; next < d->nr && err == 0;) {
    unsigned n = 0;

    for (; n < DEPTH && next < d->nr; n++) {
      const struct page *p = &d->pages[next];
      struct run *r = &run[n];

      r->first = next;
      r->nr = run_length (d, next);
      r->io = (struct vio){
        .volume = c->volumes[blkno_volume (p->blk)],
        .op = VIO_READ,
        .off = blkno_place (p->blk) * DISK_BLOCK_BYTES,
        .buf = d->buf + (size_t) n * RUN_BLOCKS * DISK_BLOCK_BYTES,
        .bytes = (p[r->nr - 1].blk - p->blk + 1) * DISK_BLOCK_BYTES,
      };
      vio_start (batch, &r->io);
      next += r->nr;
    }
    if (batch != NULL)
      vbatch_wait (batch);
    for (unsigned i = 0; i < n; i++)
      verify_run (c, &run[i]);
    err = check_tick (c, CHECK_PHASE_DATA, d->nr_done + next, d->nr_all);
  }
  vbatch_put (batch);
  d->nr_done += d->nr;
  d->nr = 0;
  return err;
}

int
check_data_tick (struct check *c)
{
  return c->data == NULL ? 0
                         : check_tick (c, CHECK_PHASE_DATA, c->data->nr_done,
                                       c->data->nr_all);
}

void
check_data_add (struct check *c, uint64_t tree, pgno_t pgno, uint64_t blk,
                uint32_t crc)
{
  struct check_data *d = c->data;

  if (d == NULL || d->err)
    return;
  if (d->nr == PAGES_MAX)
    d->err = read_all (c);
  if (d->nr == d->max && d->err == 0) {
    uint64_t max = min_u64 (d->max * 4 + 64, PAGES_MAX);
    struct page *pages = realloc (d->pages, max * sizeof *pages);

    if (pages == NULL) {
      d->err = ENOMEM;
      return;
    }
    d->pages = pages;
    d->max = max;
  }
  if (d->err == 0)
    d->pages[d->nr++] = (struct page){ tree, blk, pgno, crc };
}

static int
begin (struct check *c, struct check_data *d)
{
  bool batched = false;

  d->nr_all = c->report->nr_mapped;
  d->buf = aligned_alloc (DISK_BLOCK_BYTES,
                          (size_t) DEPTH * RUN_BLOCKS * DISK_BLOCK_BYTES);
  if (d->buf == NULL)
    return ENOMEM;
  for (unsigned i = 0; i < c->nr_volumes; i++)
    batched |= c->volumes[i]->batched;
  return batched ? vpool_create (1, 0, VPOOL_AUTO, &d->pool) : 0;
}

int
check_pages (struct check *c)
{
  struct check_data d = { .nr = 0 };
  int err = begin (c, &d);

  c->data = &d;
  c->pass = PASS_DATA;
  if (err == 0)
    err = check_maps (c);
  if (err == 0)
    err = d.err;
  if (err == 0)
    err = read_all (c);
  c->pass = PASS_LOOK;
  c->data = NULL;
  vpool_destroy (d.pool);
  free (d.pages);
  free (d.buf);
  return err;
}
