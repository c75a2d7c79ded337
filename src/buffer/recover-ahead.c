/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading ahead: the nodes that the next records change, many at a time.
 *
 *   records:  page 7 of A, page 900 of A, page 3 of B ..
 *   nodes:    those of them that no buffer has, each once
 *   from:     its image in the log, or its place --> sorted; neighbours in one
 *             transfer, as many transfers under way as the batch takes
 *   memory:   [log block of 7][node at 30][node at 31] ..
 *                  '--> recover_read_image (), when redo comes to it
 *
 * A record is of any page, and after a crash nothing is in memory: without
 * this redo waits for one small read after another.
 *
 * I1. What was read ahead counts while the cycle's number is what it was: in
 *     recovery nodes are written by cycle_write_early () alone, which raises it
 *     first, and only then what redo would read from changes.
 * I2. It is a hint: what it has not, or could not read, redo reads by itself,
 *     and what it has is judged as if redo had read it.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUN_MAX 64u /* blocks in a transfer */

int
recover_ahead_open (struct recover *rc)
{
  struct ahead *a = &rc->ahead;

  a->cycle = UINT64_MAX;
  a->pages = aligned_alloc (BUF_BYTES, (size_t) AHEAD_NODES * BUF_BYTES);
  return a->pages != NULL ? 0 : ENOMEM;
}

void
recover_ahead_close (struct recover *rc)
{
  free (rc->ahead.pages);
  rc->ahead.pages = NULL;
}

void
recover_ahead_begin (struct recover *rc)
{
  rc->ahead.nr = 0;
  rc->ahead.cycle = UINT64_MAX;
}

static void
add_node (struct recover *rc, uint64_t blk)
{
  struct ahead *a = &rc->ahead;
  uint64_t lsn;

  if (a->nr == AHEAD_NODES || !recover_block_ok (rc, blk))
    return;
  lsn = recover_image_lsn (rc, blk);
  a->node[a->nr++] = (struct ahead_node){
    .blk = blk,
    .from = lsn != 0 ? ring_blkno (&rc->ring, lsn) : blk,
  };
}

void
recover_ahead_add (struct recover *rc, uint64_t object, pgno_t pgno,
                   uint64_t nr)
{
  pgno_t end;

  if (rc->ops->where == NULL || __builtin_add_overflow (pgno, nr, &end))
    return;
  while (pgno < end) {
    uint64_t blk = rc->ops->where (rc->arg, object, pgno);

    if (blk != 0)
      add_node (rc, blk);
    pgno = (pgno / DISK_MAP_PAGES + 1) * DISK_MAP_PAGES;
  }
}

static int
by_from (const void *a, const void *b)
{
  const struct ahead_node *x = a, *y = b;

  return x->from < y->from ? -1 : x->from > y->from;
}

/* Many records are of one node. */
static void
sort_nodes (struct ahead *a)
{
  unsigned nr = 0;

  qsort (a->node, a->nr, sizeof *a->node, by_from);
  for (unsigned i = 0; i < a->nr; i++)
    if (nr == 0 || a->node[nr - 1].from != a->node[i].from)
      a->node[nr++] = a->node[i];
  a->nr = nr;
}

/* Start to read node i, and those behind it that lie behind it.  Returns how
 * many.
 */
static unsigned
start_run (struct recover *rc, struct vbatch *batch, unsigned i, struct vio *io)
{
  const struct ahead *a = &rc->ahead;
  uint64_t from = a->node[i].from;
  unsigned nr = 1;

  while (nr < RUN_MAX && i + nr < a->nr && a->node[i + nr].from == from + nr)
    nr++;
  *io = (struct vio){
    .volume = rc->fl->config.volumes[blkno_volume (from)],
    .op = VIO_READ,
    .off = blkno_place (from) * BUF_BYTES,
    .buf = a->pages + (size_t) i * BUF_BYTES,
    .bytes = (size_t) nr * BUF_BYTES,
  };
  vio_start (batch, io);
  return nr;
}

/* Of a run that could not be read there is nothing (I2). */
static void
forget_failed (struct ahead *a, const struct vio *io)
{
  size_t first = (size_t) ((uint8_t *) io->buf - a->pages) / BUF_BYTES;

  for (size_t i = 0; i < io->bytes / BUF_BYTES && io->error != 0; i++)
    a->node[first + i].blk = 0;
}

void
recover_ahead_read (struct recover *rc)
{
  struct vbatch *batch = vbatch_get (rc->fl->pool);
  struct ahead *a = &rc->ahead;
  struct vio io[VIO_DEPTH_MAX];
  unsigned done = 0;

  sort_nodes (a);
  while (done < a->nr) {
    unsigned nr = 0;

    while (nr < vbatch_depth (batch) && done < a->nr)
      done += start_run (rc, batch, done, &io[nr++]);
    vbatch_wait (batch);
    while (nr > 0)
      forget_failed (a, &io[--nr]);
  }
  vbatch_put (batch);
  a->cycle = flush_cycle (rc->fl);
}

bool
recover_ahead_take (struct recover *rc, uint64_t blk, void *page)
{
  const struct ahead *a = &rc->ahead;

  if (a->cycle != flush_cycle (rc->fl))
    return false; /* I1 */
  for (unsigned i = 0; i < a->nr; i++)
    if (a->node[i].blk == blk) {
      memcpy (page, a->pages + (size_t) i * BUF_BYTES, BUF_BYTES);
      return true;
    }
  return false;
}
