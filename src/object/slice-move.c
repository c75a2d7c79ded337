/* SPDX-License-Identifier: BSD-2-Clause */
/* Step 3 of a write (strategy-write.c): data to their blocks.
 *
 *   pages   | 3 4 5 | 6: zeros | 7 8 |
 *   blocks  | 70-72 |          | 12 9|   --> a transfer for each run of blocks,
 *                                            or a buffer for each page
 *
 * Directly, at most VIO_MAX transfers are under way; what was in buffers for
 * these blocks is forgotten first.  By buffers, nothing can fail: they were got
 * before, are filled here with no lock held, and entered under the shard's.
 */

#include <config.h>

#include "slice.h"

#include <errno.h>
#include <string.h>

#include "io.h"

int
slice_alloc_pages (struct slice *s, unsigned i, unsigned end)
{
  for (unsigned k = i; k < end; k++)
    s->ents[k].word = 0;
  while (i < end) {
    struct space_run run;
    int err = space_alloc (s->o->space, lane_hint (s->o, s->pgno, s->buffered),
                           end - i, &run);

    if (err)
      return err;
    for (uint64_t k = 0; k < run.nr; k++)
      s->ents[i++].word = swmeta_word (SWMETA_BLOCK, run.blk + k);
  }
  return 0;
}

struct child {
  struct vio io;
  unsigned first, end; /* pages of the slice */
};

static void
child_start (struct slice *s, struct child *c, unsigned first, unsigned end)
{
  struct vbatch *batch = s->req->batch;
  struct space_run run = { swmeta_blkno (s->ents[first].word), end - first };
  struct volume *v = space_volume (s->o->space, run.blk);
  const char *src = s->buf + ((size_t) first << PAGE_SHIFT);
  char *from = (char *) (uintptr_t) src;

  if (io_needs_bounce (v, src, IO_WRITE)) {
    from = (char *) vbatch_bounce (batch) + ((size_t) first << PAGE_SHIFT);
    memcpy (from, src, run.nr << PAGE_SHIFT);
  }
  io_stamp (s->o, v, src, &s->ents[first], run.nr);
  c->first = first;
  c->end = end;
  if (object_is_durable (s->o))
    buf_data_drop (s->o->bs, run.blk, run.nr);
  io_start (s->o, batch, &c->io, IO_WRITE, &run, from);
}

static int
child_end (struct slice *s, const struct child *c)
{
  int err = io_error (&c->io);

  if (err == 0 && object_is_durable (s->o))
    flush_wrote (s->o->fl, blkno_volume (swmeta_blkno (s->ents[c->first].word)),
                 (uint64_t) (c->end - c->first) << PAGE_SHIFT);
  return err;
}

/* A child failed: its run is retired, its pages go elsewhere, once. */
static int
child_retry (struct slice *s, const struct child *failed)
{
  struct space_run bad = { swmeta_blkno (s->ents[failed->first].word),
                           failed->end - failed->first };
  int err;

  space_retire (s->o->space, &bad);
  err = slice_alloc_pages (s, failed->first, failed->end);
  for (unsigned i = failed->first; i < failed->end && err == 0;) {
    struct child c;
    unsigned end = slice_run_end (s, i);

    child_start (s, &c, i, end < failed->end ? end : failed->end);
    if (s->req->batch != NULL)
      vbatch_wait (s->req->batch);
    err = child_end (s, &c);
    i = c.end;
  }
  return err;
}

int
slice_write (struct slice *s)
{
  struct child child[VIO_MAX];
  int err = 0;

  for (unsigned i = 0; i < s->nr_pages && err == 0;) {
    unsigned nr = 0;

    while (i < s->nr_pages && nr < VIO_MAX) {
      unsigned end =
          s->ents[i].word == 0 ? slice_row_end (s, i) : slice_run_end (s, i);

      if (s->ents[i].word != 0)
        child_start (s, &child[nr++], i, end);
      i = end;
    }
    if (s->req->batch != NULL)
      vbatch_wait (s->req->batch);
    for (unsigned k = 0; k < nr && err == 0; k++) {
      err = child_end (s, &child[k]);
      if (err == EIO)
        err = child_retry (s, &child[k]);
    }
  }
  return err;
}

/* Step 3 of pages that go to buffers.  As many buffers as pages need blocks are
 * in the first places: from the last page on each gets the last that is left.
 */
void
slice_fill (struct slice *s)
{
  unsigned left = s->nr_buffers;

  for (unsigned i = s->nr_pages; i-- > 0;) {
    const char *src = s->buf + ((size_t) i << PAGE_SHIFT);
    struct buf *b = NULL;

    if (s->ents[i].word != 0) {
      b = s->bufs[--left];
      page_copy (b->data, src, 1);
      io_stamp (s->o,
                space_volume (s->o->space, swmeta_blkno (s->ents[i].word)), src,
                &s->ents[i], 1);
    }
    s->bufs[i] = b;
  }
}

void
slice_unbuffer (struct slice *s)
{
  unsigned nr = 0;

  for (unsigned i = 0; nr < s->nr_buffers; i++)
    if (s->bufs[i] != NULL)
      s->bufs[nr++] = s->bufs[i];
  if (nr > 0)
    buf_data_unget (s->o->bs, s->bufs, nr);
}

void
slice_enter (struct slice *s, unsigned i, unsigned end)
{
  while (i < end) {
    unsigned next = min_u64 (slice_run_end (s, i), end);

    buf_data_add (s->o->bs, s->bufs + i, next - i,
                  swmeta_blkno (s->ents[i].word));
    s->nr_buffers -= next - i;
    while (i < next)
      s->bufs[i++] = NULL;
  }
}
