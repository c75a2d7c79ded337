/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading an object, and asking where it has pages.
 *
 * A read goes in rounds.  A round looks up at most VIO_MAX runs of one shard
 * under its lock, pins their blocks (change.c, I5), reads them all at once
 * without the lock, and checks them.  Holes are zeros without I/O.
 *
 *   pages   | 3 4 5 | 6 | 7 8 |     | 9 10 |
 *   runs    | blk 70|hole|blk 12|   | blk 40| -> one transfer a run
 *
 * Of a durable object's run some pages may be in buffers, and not on the volume
 * yet: they are copied, and what lies between them is transferred.  A page that
 * is not in a buffer when it is asked for is on its volume: it was before, or
 * it left the buffers because it had been written, and its block stays what it
 * is while it is pinned.
 *
 * A batch for I/O is taken when it is first needed: pages from buffers need
 * none, and one transfer through the page cache, which mostly has it, none
 * either.
 *
 * The request is done once, when its last round is; of several errors it ends
 * with the one at the lowest offset, since rounds rise.
 */

#include <config.h>

#include "strategy.h"

#include <errno.h>
#include <string.h>

#include "io.h"
#include "request.h"

/* A row of pages on its way. */
struct piece {
  uint64_t first; /* its first page, of the round */
  struct space_run run;
  char *to;
  struct vio io;
};

struct round {
  struct object *o;
  struct vbatch **batchp; /* the request's; *batchp NULL: none yet */
  pgno_t pgno;
  uint64_t nr_pages; /* looked up so far */
  struct pin pin;
  bool in_buffers;             /* some of it may be */
  unsigned x;                  /* read so far: extents, */
  uint64_t k;                  /* and pages of the next one */
  uint64_t first[PIN_EXTENTS]; /* page of the round each extent begins at */
  struct swent ents[SHARD_PAGES];
};

/* Look up runs for at most max pages, and pin them.
 * Lock: takes the shard's.
 */
static int
round_lookup (struct round *r, uint64_t max)
{
  struct shard *shard = shard_of (r->o, r->pgno);

  LOCK_SCOPE (&shard->lock);
  r->nr_pages = 0;
  r->pin.nr_extents = 0;
  while (r->nr_pages < max && r->pin.nr_extents < PIN_EXTENTS) {
    struct swmeta_run run;
    int err =
        r->o->ops->lookup (r->o->map, r->pgno + r->nr_pages, max - r->nr_pages,
                           &run, &r->ents[r->nr_pages]);

    if (err)
      return err;
    if (swmeta_kind (run.word) == SWMETA_BLOCK) {
      unsigned x = r->pin.nr_extents++;

      r->pin.extent[x].blk = swmeta_blkno (run.word);
      r->pin.extent[x].nr = run.nr_pages;
      r->first[x] = r->nr_pages;
    }
    r->nr_pages += run.nr_pages;
  }
  pin_begin (shard, &r->pin);
  return 0;
}

/* If block blk is in a buffer it is copied to the round's page i in buf. */
static bool
in_buffer (struct round *r, uint64_t blk, char *buf, uint64_t i)
{
  return r->in_buffers &&
         buf_data_read (r->o->bs, blk, buf + (i << PAGE_SHIFT));
}

/* Zeros for what the extents leave out. */
static void
round_fill_holes (struct round *r, char *buf)
{
  uint64_t pos = 0;

  for (unsigned x = 0; x <= r->pin.nr_extents; x++) {
    uint64_t end = x < r->pin.nr_extents ? r->first[x] : r->nr_pages;

    memset (buf + (pos << PAGE_SHIFT), 0, (end - pos) << PAGE_SHIFT);
    if (x < r->pin.nr_extents)
      pos = end + r->pin.extent[x].nr;
  }
}

/* The next pages of the round that must come from a volume; those before them
 * that are in buffers are copied to buf.  False: there are none left.
 */
static bool
next_piece (struct round *r, char *buf, struct piece *p)
{
  for (; r->x < r->pin.nr_extents; r->x++, r->k = 0) {
    const struct space_run *x = &r->pin.extent[r->x];
    uint64_t first = r->first[r->x], end;

    while (r->k < x->nr && in_buffer (r, x->blk + r->k, buf, first + r->k))
      r->k++;
    if (r->k == x->nr)
      continue;
    end = r->in_buffers ? r->k + 1 : x->nr;
    while (end < x->nr && !in_buffer (r, x->blk + end, buf, first + end))
      end++;
    p->first = first + r->k;
    p->run = (struct space_run){ x->blk + r->k, end - r->k };
    r->k = end < x->nr ? end + 1 : end; /* the one at end is copied */
    return true;
  }
  return false;
}

/* NULL: volumes that need none. */
static struct vbatch *
round_batch (struct round *r)
{
  if (*r->batchp == NULL && r->o->pool != NULL)
    *r->batchp = vbatch_get (r->o->pool);
  return *r->batchp;
}

static void
piece_start (struct round *r, struct piece *p, char *buf)
{
  struct volume *v = space_volume (r->o->space, p->run.blk);
  struct vbatch *batch = round_batch (r);
  enum io_op op = io_read_op (r->o);

  p->to = buf + (p->first << PAGE_SHIFT);
  if (io_needs_bounce (v, p->to, op))
    p->to = (char *) vbatch_bounce (batch) + (p->first << PAGE_SHIFT);
  io_start (r->o, batch, &p->io, op, &p->run, p->to);
}

/* Read all pieces, and wait for them. */
static void
pieces_read (struct round *r, struct piece *piece, unsigned nr, char *buf)
{
  if (nr == 1 && r->o->cached) {
    piece->to = buf + (piece->first << PAGE_SHIFT);
    io_run_cached (r->o, &piece->io, &piece->run, piece->to);
    return;
  }
  for (unsigned i = 0; i < nr; i++)
    piece_start (r, &piece[i], buf);
  if (nr > 0 && *r->batchp != NULL)
    vbatch_wait (*r->batchp);
}

static int
piece_end (struct round *r, const struct piece *p, char *buf)
{
  const struct swent *ents = &r->ents[p->first];
  char *dst = buf + (p->first << PAGE_SHIFT);
  uint64_t i = 0;
  int err = io_error (&p->io);

  if (err)
    return err;
  while (err == 0) {
    i += io_count_good (p->io.volume, p->to + (i << PAGE_SHIFT), &ents[i],
                        p->run.nr - i);
    if (i == p->run.nr)
      break;
    err = io_bad_page (r->o, round_batch (r), r->pgno + p->first + i, &ents[i],
                       p->to + (i << PAGE_SHIFT));
    i++;
  }
  if (err == 0 && p->to != dst)
    memcpy (dst, p->to, p->run.nr << PAGE_SHIFT);
  return err;
}

/* Read what was looked up to buf.  Lock: none held. */
static int
round_read (struct round *r, char *buf)
{
  struct piece piece[VIO_MAX];
  int err = 0;

  r->x = 0;
  r->k = 0;
  r->in_buffers = r->o->bs != NULL && bufs_have_data (r->o->bs);
  round_fill_holes (r, buf);
  do {
    unsigned nr = 0;

    while (nr < VIO_MAX && next_piece (r, buf, &piece[nr]))
      nr++;
    pieces_read (r, piece, nr, buf);
    for (unsigned i = 0; i < nr && err == 0; i++)
      err = piece_end (r, &piece[i], buf);
  } while (r->x < r->pin.nr_extents && err == 0);
  return err;
}

/* Read whole pages from pgno on, at most max of them, to buf; *nr_done is how
 * many it was.
 */
static int
read_pages (struct object *o, struct vbatch **batchp, pgno_t pgno, uint64_t max,
            char *buf, uint64_t *nr_done)
{
  struct round r; /* large: each field is set where it is first needed */
  int err;

  r.o = o;
  r.batchp = batchp;
  r.pgno = pgno;
  max = min_u64 (max, SHARD_PAGES - pgno % SHARD_PAGES);
  if (o->pool != NULL)
    max = min_u64 (max, vpool_bounce_bytes (o->pool) >> PAGE_SHIFT);
  err = round_lookup (&r, max);
  if (err)
    return err;
  err = round_read (&r, buf);
  pin_end (o, pgno, &r.pin);
  *nr_done = r.nr_pages;
  return err;
}

/* A part of one page. */
static int
read_part (struct object *o, struct vbatch **batchp, uint64_t off, uint32_t len,
           char *buf)
{
  char page[PAGE_BYTES] __attribute__ ((aligned (4096)));
  uint64_t nr;
  int err = read_pages (o, batchp, off >> PAGE_SHIFT, 1, page, &nr);

  if (err == 0)
    memcpy (buf, page + (off & PAGE_MASK), len);
  return err;
}

int
strategy_read (struct object *o, const atomic_bool *fenced, void *buf,
               uint64_t off, uint64_t bytes)
{
  struct vbatch *batch = NULL;
  char *p = buf;
  int err = 0;

  while (bytes > 0 && err == 0) {
    uint32_t in_page = off & PAGE_MASK;
    uint64_t len;

    if (in_page != 0 || bytes < PAGE_BYTES) {
      len = min_u64 (PAGE_BYTES - in_page, bytes);
      err = read_part (o, &batch, off, (uint32_t) len, p);
    } else {
      uint64_t nr = 0;

      err = read_pages (o, &batch, off >> PAGE_SHIFT, bytes >> PAGE_SHIFT, p,
                        &nr);
      len = nr << PAGE_SHIFT;
    }
    off += len;
    p += len;
    bytes -= len;
  }
  vbatch_put (batch);
  if (atomic_load (&o->dead) || atomic_load (fenced))
    return ESHUTDOWN;
  return err;
}

int
strategy_extent (struct object *o, uint64_t off, uint64_t max,
                 struct strategy_extent *extent)
{
  pgno_t pgno = off >> PAGE_SHIFT;
  uint64_t nr = ((off + max - 1) >> PAGE_SHIFT) - pgno + 1;
  struct shard *shard = shard_of (o, pgno);
  struct swmeta_run run;
  int err;

  nr = min_u64 (nr, SHARD_PAGES - pgno % SHARD_PAGES);
  lock_acquire (&shard->lock);
  err = o->ops->lookup (o->map, pgno, nr, &run, NULL);
  lock_release (&shard->lock);
  if (err)
    return err;
  extent->bytes = min_u64 (max, ((pgno + run.nr_pages) << PAGE_SHIFT) - off);
  extent->hole = swmeta_kind (run.word) == SWMETA_ABSENT;
  extent->zero = swmeta_kind (run.word) != SWMETA_BLOCK;
  return 0;
}
