/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: leaves read ahead, all that one inner node points to.
 *
 *   pointers of a node --> by block --> runs (with small gaps) --> VIO_MAX
 *   reads under way --> pages by block, for check-tree.c to take
 *
 * Leaves that are written in one cycle lie near each other, and a medium that
 * is asked for one block at a time answers slowly.  Reading ahead judges
 * nothing: a block that is not taken, or could not be read, is read by itself
 * and told of then.  Only where reads wait for a medium: not over overlays,
 * nor in memory.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GAP       16u /* blocks that are read and not wanted, between two */
#define RUN_MAX   256u
#define BUF_PAGES (VIO_MAX * RUN_MAX)

struct check_ahead {
  struct vpool *pool;
  uint8_t *buf;               /* BUF_PAGES: of the runs under way */
  uint8_t *pages;             /* DISK_FANOUT: what was wanted */
  uint64_t blks[DISK_FANOUT]; /* rising; of pages[] */
  bool read[DISK_FANOUT];
  unsigned nr;
};

struct run {
  unsigned first, nr; /* of blks */
  struct vio io;
};

int
check_ahead_begin (struct check *c)
{
  struct check_ahead *a;
  bool waits = !c->overlaid;
  int err;

  for (unsigned i = 0; i < c->nr_volumes; i++)
    waits = waits && c->volumes[i]->batched;
  if (!waits)
    return 0;
  a = c->ahead = calloc (1, sizeof *a);
  if (a == NULL)
    return ENOMEM;
  a->buf = aligned_alloc (DISK_BLOCK_BYTES, BUF_PAGES * DISK_BLOCK_BYTES);
  a->pages = malloc (DISK_FANOUT * DISK_BLOCK_BYTES);
  err = a->buf != NULL && a->pages != NULL ? 0 : ENOMEM;
  return err ? err : vpool_create (1, 0, VPOOL_AUTO, &a->pool);
}

void
check_ahead_end (struct check *c)
{
  struct check_ahead *a = c->ahead;

  if (a == NULL)
    return;
  vpool_destroy (a->pool);
  free (a->buf);
  free (a->pages);
  free (a);
  c->ahead = NULL;
}

static int
by_number (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* Blocks from first on that go in one transfer; they are of one volume, for
 * volumes' numbers lie far apart.
 */
static unsigned
run_length (const struct check_ahead *a, unsigned first)
{
  unsigned nr = 1;

  while (first + nr < a->nr && a->blks[first + nr] - a->blks[first] < RUN_MAX &&
         a->blks[first + nr] - a->blks[first + nr - 1] <= GAP)
    nr++;
  return nr;
}

static void
take_run (struct check_ahead *a, const struct run *r)
{
  for (unsigned i = r->first; i < r->first + r->nr && r->io.error == 0; i++) {
    uint64_t at = a->blks[i] - a->blks[r->first];

    memcpy (a->pages + (size_t) i * DISK_BLOCK_BYTES,
            (uint8_t *) r->io.buf + at * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    a->read[i] = true;
  }
}

/* Up to VIO_MAX runs from block next on; returns the first that is left. */
static unsigned
read_some (struct check *c, unsigned next)
{
  struct check_ahead *a = c->ahead;
  struct vbatch *batch = vbatch_get (a->pool);
  struct run run[VIO_MAX];
  unsigned n = 0;

  for (; n < VIO_MAX && next < a->nr; n++) {
    struct run *r = &run[n];
    uint64_t blk = a->blks[next];

    r->first = next;
    r->nr = run_length (a, next);
    r->io = (struct vio){
      .volume = c->volumes[blkno_volume (blk)],
      .op = VIO_READ,
      .off = blkno_place (blk) * DISK_BLOCK_BYTES,
      .buf = a->buf + (size_t) n * RUN_MAX * DISK_BLOCK_BYTES,
      .bytes = (a->blks[next + r->nr - 1] - blk + 1) * DISK_BLOCK_BYTES,
    };
    vio_start (batch, &r->io);
    next += r->nr;
  }
  vbatch_wait (batch);
  for (unsigned i = 0; i < n; i++)
    take_run (a, &run[i]);
  vbatch_put (batch);
  return next;
}

void
check_ahead_read (struct check *c, const struct disk_pointer child[DISK_FANOUT])
{
  struct check_ahead *a = c->ahead;

  if (a == NULL)
    return;
  a->nr = 0;
  for (unsigned i = 0; i < DISK_FANOUT; i++)
    if (child[i].blk != 0 && check_block_ok (c, child[i].blk))
      a->blks[a->nr++] = child[i].blk;
  qsort (a->blks, a->nr, sizeof *a->blks, by_number);
  memset (a->read, 0, sizeof a->read);
  for (unsigned next = 0; next < a->nr;)
    next = read_some (c, next);
}

bool
check_ahead_take (struct check *c, uint64_t blk, void *to)
{
  const struct check_ahead *a = c->ahead;
  const uint64_t *found = NULL;

  if (a != NULL && a->nr > 0)
    found = bsearch (&blk, a->blks, a->nr, sizeof blk, by_number);
  if (found == NULL || !a->read[found - a->blks])
    return false;
  memcpy (to, a->pages + (size_t) (found - a->blks) * DISK_BLOCK_BYTES,
          DISK_BLOCK_BYTES);
  return true;
}
