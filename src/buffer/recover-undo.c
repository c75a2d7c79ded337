/* SPDX-License-Identifier: BSD-2-Clause */
/* UNDO: what maps were at redo_lsn, for redo to go on from.
 *
 *   log:     | REDO UNDO(7) UNDO(9) REDO UNDO(7) REDO |
 *   imaged:    node 7 --> lsn of its oldest image, 9 --> ..
 *
 * No node is written to be put back before redo reads it: it comes from the
 * log, where the images of nodes lie as near to each other as the records of
 * their changes do; and a node is not written twice, but with what redo has
 * made of it.  Most were read ahead (recover-ahead.c).
 *
 *   redo reads 7:   its oldest image, until 7 was written; then the medium
 *   7 is written:   early, or by the last cycle (image_is_old ())
 *   at the end:     nodes that redo has not changed, and so nobody has
 *                   written, are put back
 *
 * I1. A node that has an image and was not written by this recovery is never
 *     read from its place: nobody knows what the dead server left there.
 * I2. When the last cycle begins every node that has an image has been written.
 *
 * If redo fails all images go back, so that who looks at the volumes next
 * (`farpage check`, on its overlays) finds them as of redo_lsn.
 */

#include <config.h>

#include "recover-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "log.h"

/* ---- where images are ---- */

static uint64_t
blk_of (const struct imaged_at *at)
{
  return at->blk[0] | (uint64_t) at->blk[1] << 32;
}

/* The place of a block, or where it would be. */
static struct imaged_at *
imaged_place (const struct imaged *im, uint64_t blk)
{
  uint64_t hash = blk * UINT64_C (0x9e3779b97f4a7c15) >> 32;
  uint64_t i = hash * im->size >> 32;

  while (blk_of (&im->at[i]) != 0 && blk_of (&im->at[i]) != blk)
    i = i + 1 < im->size ? i + 1 : 0;
  return &im->at[i];
}

struct imaged_at *
imaged_find (const struct imaged *im, uint64_t blk)
{
  struct imaged_at *at;

  if (im->size == 0)
    return NULL;
  at = imaged_place (im, blk);
  return blk_of (at) != 0 ? at : NULL;
}

/* Called from the log's end on, so that the oldest is what stays. */
static void
imaged_add (struct imaged *im, uint64_t blk, uint64_t lsn)
{
  *imaged_place (im, blk) =
      (struct imaged_at){ { (uint32_t) blk, (uint32_t) (blk >> 32) },
                          (uint32_t) (lsn - im->before) };
}

/* One in five stays empty, also if all images are of different nodes. */
static int
make_imaged (struct recover *rc)
{
  struct imaged *im = &rc->fl->imaged;

  if (rc->end - rc->first >= UINT32_MAX / 2)
    return EFBIG; /* a ring of 8 TiB */
  im->before = rc->first - 1;
  im->size = rc->nr_images + rc->nr_images / 4 + 64;
  im->at = calloc (im->size, sizeof *im->at);
  return im->at != NULL ? 0 : ENOMEM;
}

uint64_t
recover_image_lsn (const struct recover *rc, uint64_t blk)
{
  const struct imaged *im = &rc->fl->imaged;
  const struct imaged_at *at = imaged_find (im, blk);

  return at != NULL && at->lsn != 0 ? im->before + at->lsn : 0;
}

/* ---- nodes from their images ---- */

/* page holds a log block and becomes the node that it has the image of. */
static void
node_of_image (void *page)
{
  const struct disk_log *log = page;
  struct disk_node *node = page;

  memmove (page, log->body, DISK_NODE_USED);
  memset ((uint8_t *) page + DISK_NODE_USED, 0, BUF_BYTES - DISK_NODE_USED);
  node->crc = crc32c (0, node, DISK_CRC_OFF);
}

static void
put_image (const struct disk_log *log, void *page)
{
  memcpy (page, log, sizeof *log);
  node_of_image (page);
}

int
recover_read_image (void *arg, uint64_t blk, void *page)
{
  struct recover *rc = arg;
  uint64_t lsn = recover_image_lsn (rc, blk);
  const struct disk_log *log = page;

  if (!recover_ahead_take (rc, blk, page)) {
    if (lsn == 0)
      return ENOENT;
    if (volume_read (rc->ring.v,
                     blkno_place (ring_blkno (&rc->ring, lsn)) * BUF_BYTES,
                     page, BUF_BYTES) != 0)
      return EIO;
  }
  if (lsn == 0)
    return 0;
  if (!ring_is_good (&rc->ring, log, lsn, 0) || log->kind != DISK_LOG_UNDO ||
      log->blk != blk)
    return EIO;
  node_of_image (page);
  return 0;
}

/* Where the image of a node goes in the copies: over one of a later image of
 * the same node, for the oldest counts.
 */
static unsigned
place_of_copy (struct recover *rc, uint64_t blk)
{
  const struct buf_io *ios = rc->fl->cut_ios;
  unsigned i = 0;

  while (i < rc->nr_copies && (ios[i].volume != blkno_volume (blk) ||
                               ios[i].first != blkno_place (blk)))
    i++;
  return i;
}

static int
by_place (const void *a, const void *b)
{
  const struct buf_io *x = a, *y = b;

  if (x->volume != y->volume)
    return x->volume < y->volume ? -1 : 1;
  return x->first < y->first ? -1 : x->first > y->first;
}

/* Write the copies that there are, neighbours together. */
static int
write_copies (struct recover *rc)
{
  struct flush *fl = rc->fl;
  struct vbatch *batch = vbatch_get (fl->pool);
  int err;

  qsort (fl->cut_ios, rc->nr_copies, sizeof *fl->cut_ios, by_place);
  err = bufs_write (fl->bs, batch, fl->cut_ios, rc->nr_copies);
  vbatch_put (batch);
  for (unsigned i = 0; i < rc->nr_copies; i++)
    flush_mark_volume (fl, (unsigned) fl->cut_ios[i].volume);
  rc->nr_copies = 0;
  return err;
}

/* The node of an image goes back to its place, soon. */
static int
put_back (struct recover *rc, const struct disk_log *log)
{
  unsigned i = place_of_copy (rc, log->blk);

  if (i == rc->nr_copies) {
    rc->fl->cut_ios[i] = (struct buf_io){
      .volume = blkno_volume (log->blk),
      .first = blkno_place (log->blk),
      .page = rc->fl->copies + (size_t) i * BUF_BYTES,
    };
    rc->nr_copies++;
  }
  put_image (log, rc->fl->cut_ios[i].page);
  return rc->nr_copies == CYCLE_COPIES ? write_copies (rc) : 0;
}

static int
note_image (struct recover *rc, const struct disk_log *log)
{
  if (!recover_block_ok (rc, log->blk)) {
    log_write (LOG_ERROR,
               "store: log block %" PRIu64 " has the image of a block that "
               "is not there (run 'farpage check')",
               log->lsn);
    return EUCLEAN;
  }
  imaged_add (&rc->fl->imaged, log->blk, log->lsn);
  rc->report->nr_undone++;
  return 0;
}

/* All images, from the log's end on. */
static int
each_image (struct recover *rc,
            int (*fn) (struct recover *rc, const struct disk_log *log))
{
  int err = 0;

  for (uint64_t lsn = rc->end; lsn > rc->first && err == 0; lsn--) {
    const struct disk_log *log;

    uint64_t at =
        SABOTAGE (undo_forwards) ? rc->first + rc->end - lsn : lsn - 1;

    err = recover_log (rc, at, true, &log);
    if (err == 0 && log->kind == DISK_LOG_UNDO)
      err = fn (rc, log);
  }
  return err;
}

/* Where the images lie that still count; often there are none. */
static void
find_rest (const struct imaged *im, uint64_t *first, uint64_t *end)
{
  *first = UINT64_MAX;
  *end = 0;
  for (uint64_t i = 0; i < im->size; i++)
    if (blk_of (&im->at[i]) != 0 && im->at[i].lsn != 0) {
      *first = min_u64 (*first, im->before + im->at[i].lsn);
      *end = max_u64 (*end, im->before + im->at[i].lsn + 1);
    }
}

int
recover_put_back_rest (struct recover *rc)
{
  uint64_t first, end;
  int err = 0;

  find_rest (&rc->fl->imaged, &first, &end);
  for (uint64_t lsn = first; lsn < end && err == 0; lsn++) {
    const struct disk_log *log;

    err = recover_log (rc, lsn, false, &log);
    if (err || log->kind != DISK_LOG_UNDO)
      continue;
    if (recover_image_lsn (rc, log->blk) != lsn || SABOTAGE (forget_images))
      continue;
    imaged_find (&rc->fl->imaged, log->blk)->lsn = 0;
    err = put_back (rc, log);
  }
  return err == 0 && rc->nr_copies > 0 ? write_copies (rc) : err;
}

void
recover_put_back_all (struct recover *rc)
{
  if (flush_failed (rc->fl) || commit_pass_alone (rc->fl, true, true) != 0)
    return;
  rc->end = atomic_load (&rc->fl->next_lsn);
  rc->ring.nr = 0;
  rc->nr_copies = 0;
  if (each_image (rc, put_back) == 0 && rc->nr_copies > 0)
    (void) write_copies (rc);
}

int
recover_note_images (struct recover *rc)
{
  int err = make_imaged (rc);

  return err ? err : each_image (rc, note_image);
}
