/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages of records above the durable mark: nobody knows whether their blocks
 * reached the medium before the crash, so each is looked at.
 *
 *   page 7:  record 12 --> block 90, CRC wrong       (lost)
 *            record 10 --> block 81, CRC right   <-- counts
 *            map as of the mark --> block 40
 *
 * A block that cannot be read may be either: then recovery ends, having changed
 * nothing, for what was flushed must not be lost silently.
 *
 * A hole or zeros need no look.  If no candidate is right, the entry that the
 * map has stands: its block is not free before a later record is durable, so
 * nobody has written to it.
 *
 * The newest candidates are looked at first, in the order of their blocks,
 * many in one read; only pages whose newest is wrong are read one by one.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "crc32c.h"
#include "log.h"

#define BREATHE_PAGES 4096u /* what is noted of so many is folded */
#define AHEAD_PAGES   (AHEAD_NODES / 2)

int
recover_make_room (struct recover *rc)
{
  rc->candidates = calloc (rc->nr_pages_above + 1, sizeof *rc->candidates);
  rc->late = calloc (rc->nr_unnodes + 1, sizeof *rc->late);
  if (rc->candidates == NULL || rc->late == NULL)
    return ENOMEM;
  return 0;
}

int
recover_gather (struct recover *rc, const struct disk_rec *rec,
                const uint32_t *crc)
{
  for (uint32_t i = 0; i < rec->nr; i++) {
    if (rc->nr_candidates == rc->nr_pages_above)
      return EUCLEAN;
    rc->candidates[rc->nr_candidates] = (struct candidate){
      .object = rec->object,
      .pgno = rec->pgno + i,
      .order = rc->nr_candidates,
      .blk = rec->type == DISK_REC_MAP ? rec->word + i : 0,
      .crc = rec->type == DISK_REC_MAP ? crc[i] : 0,
      .type = rec->type,
    };
    rc->nr_candidates++;
  }
  return 0;
}

static int
by_page (const void *a, const void *b)
{
  const struct candidate *x = a, *y = b;

  if (x->object != y->object)
    return x->object < y->object ? -1 : 1;
  if (x->pgno != y->pgno)
    return x->pgno < y->pgno ? -1 : 1;
  return x->order > y->order ? -1 : x->order < y->order; /* newest first */
}

static int
by_order (const void *a, const void *b)
{
  const struct candidate *x = a, *y = b;

  return x->order < y->order ? -1 : x->order > y->order;
}

/* The newest by block; others behind them. */
static int
by_block (const void *a, const void *b)
{
  const struct candidate *x = a, *y = b;

  if (x->newest != y->newest)
    return x->newest ? -1 : 1;
  return x->blk < y->blk ? -1 : x->blk > y->blk;
}

static void
find_newest (struct recover *rc)
{
  qsort (rc->candidates, rc->nr_candidates, sizeof *rc->candidates, by_page);
  for (uint64_t i = 0; i < rc->nr_candidates; i++) {
    struct candidate *c = &rc->candidates[i];

    c->newest = i == 0 || c[-1].object != c->object || c[-1].pgno != c->pgno;
    c->good = c->type != DISK_REC_MAP;
  }
}

static int
read_blocks (struct recover *rc, uint64_t blk, uint64_t nr)
{
  struct volume *v = rc->fl->config.volumes[blkno_volume (blk)];

  rc->ring.nr = 0; /* it holds no log now */
  return volume_read (v, blkno_place (blk) * BUF_BYTES, rc->ring.buf,
                      nr * BUF_BYTES);
}

static int
unreadable (const struct recover *rc, const struct candidate *c)
{
  log_write (LOG_ERROR,
             "store: %s: block %" PRIu64
             " cannot be read, and may be what page "
             "%" PRIu64 " of object %" PRIu64 " durably is (try again; if it "
             "stays so, have it read as anything else, on a copy of the "
             "volume: then it counts as never written)",
             rc->fl->config.volumes[blkno_volume (c->blk)]->name,
             blkno_place (c->blk), c->pgno, c->object);
  return EIO;
}

/* Look at the blocks of nr candidates, which follow each other.  EIO, told: one
 * cannot be read, neither with others nor alone.
 */
static int
look (struct recover *rc, struct candidate *c, uint64_t nr)
{
  int err = read_blocks (rc, c->blk, nr);

  for (uint64_t i = 0; i < nr; i++) {
    const uint8_t *page = rc->ring.buf + i * BUF_BYTES;

    if (err && read_blocks (rc, c[i].blk, 1) != 0)
      return unreadable (rc, &c[i]);
    if (err)
      page = rc->ring.buf;
    c[i].good = crc32c (0, page, BUF_BYTES) == c[i].crc;
  }
  rc->report->nr_verified += nr;
  return 0;
}

static int
look_at_newest (struct recover *rc)
{
  int err = 0;

  qsort (rc->candidates, rc->nr_candidates, sizeof *rc->candidates, by_block);
  for (uint64_t i = 0;
       i < rc->nr_candidates && rc->candidates[i].newest && err == 0;) {
    struct candidate *c = &rc->candidates[i];
    uint64_t nr = 1;

    while (i + nr < rc->nr_candidates && nr < RING_RUN_MAX && c[nr].newest &&
           c[nr].blk == c->blk + nr && c->type == DISK_REC_MAP)
      nr++;
    if (c->type == DISK_REC_MAP)
      err = look (rc, c, nr);
    i += nr;
  }
  return err;
}

static int
apply (struct recover *rc, struct change *ch, const struct candidate *c)
{
  struct disk_rec rec = {
    .type = c->type,
    .bytes = sizeof rec,
    .object = c->object,
    .pgno = c->pgno,
    .word = c->blk,
    .nr = 1,
  };

  return rc->ops->map (rc->arg, ch, &rec, &c->crc);
}

/* Read the nodes of the next pages, from the i-th candidate on. */
static void
read_ahead (struct recover *rc, uint64_t i)
{
  uint64_t end = min_u64 (i + AHEAD_PAGES, rc->nr_candidates);

  recover_ahead_begin (rc);
  for (; i < end; i++)
    if (rc->candidates[i].chosen)
      recover_ahead_add (rc, rc->candidates[i].object, rc->candidates[i].pgno,
                         1);
  recover_ahead_read (rc);
}

/* Candidates of one page, newest first. */
static int
choose (struct recover *rc, struct candidate *c, uint64_t nr)
{
  uint64_t i = 0;
  int err = 0;

  for (; i < nr && err == 0; i++) {
    if (i > 0 && !c[i].good)
      err = look (rc, &c[i], 1);
    c[i].chosen = c[i].good;
    if (c[i].chosen)
      break;
  }
  rc->report->nr_fallen += i > 0;
  return err;
}

int
recover_pages (struct recover *rc, struct change *ch)
{
  int err = 0;

  find_newest (rc);
  err = look_at_newest (rc);
  qsort (rc->candidates, rc->nr_candidates, sizeof *rc->candidates, by_page);
  for (uint64_t i = 0; i < rc->nr_candidates && err == 0;) {
    struct candidate *c = &rc->candidates[i];
    uint64_t nr = 1;

    while (i + nr < rc->nr_candidates && c[nr].object == c->object &&
           c[nr].pgno == c->pgno)
      nr++;
    err = choose (rc, c, nr);
    i += nr;
  }
  /* A block may have left one page and come to another: in this order. */
  qsort (rc->candidates, rc->nr_candidates, sizeof *rc->candidates, by_order);
  if (err == 0)
    err = recover_breathe (rc, ch);
  for (uint64_t i = 0; i < rc->nr_candidates && err == 0; i++) {
    if (i % AHEAD_PAGES == 0)
      read_ahead (rc, i);
    if (rc->candidates[i].chosen)
      err = apply (rc, ch, &rc->candidates[i]);
    if (err == 0)
      err = i % BREATHE_PAGES == BREATHE_PAGES - 1 ? recover_breathe (rc, ch)
                                                   : recover_next (rc, ch);
  }
  rc->nr_candidates = 0;
  return err;
}
