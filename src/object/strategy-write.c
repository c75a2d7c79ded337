/* SPDX-License-Identifier: BSD-2-Clause */
/* Writing an object: every write goes to fresh blocks.
 *
 * A request is entered (request.c), then cut at page edges, shard edges and
 * SPACE_HANDOUT_MAX pages.  A part of a page goes by page_update ().  The rest
 * goes in slices:
 *
 *   1. Look which pages are zeros: they become holes and need nothing.
 *   2. Take a unit for each other page, then blocks: waiting is done here,
 *      with no lock held.
 *   3. Move the data to the blocks, at most VIO_MAX transfers under way; a
 *      run that fails is retired, and its pages tried once more elsewhere.
 *   4. Under the shard's lock: charge pages that had no block, see to older
 *      zeroings, enter the blocks in the map, leave out what a later request
 *      has replaced, mark older writes.
 *   5. Give back displaced blocks, unused blocks and units.
 *
 * Of a durable object, a slice with few pages that need blocks goes to buffers:
 * buffers are waited for before step 2 and filled in step 3, and become those
 * of their blocks in step 4, when nothing is missing any more, each just before
 * its entry.  So no buffer has a block that no map names, and no record comes
 * before its page.  Larger slices go straight to the volumes; for those nodes
 * are seen to before step 2, so that no data are moved twice.
 *
 * If a charge or a node was missing in step 4, wait for it now that nothing is
 * held, for who only overwrites must find units and batches; then begin again
 * at 1.
 *
 * A page is thus old or new at any time, and the old one stands if anything
 * fails.  An error ends the request at once: what follows it is at a higher
 * offset.
 */

#include <config.h>

#include "strategy.h"

#include <errno.h>
#include <string.h>

#include "slice.h"

/* Step 1: ents of pages that need a block get word 1 for now. */
static void
slice_classify (struct slice *s)
{
  s->nr_units = 0;
  for (unsigned i = 0; i < s->nr_pages; i++) {
    bool zero = page_is_zero (s->buf + ((size_t) i << PAGE_SHIFT));

    s->zero[i] = zero;
    s->ents[i] = (struct swent){ .word = zero ? 0 : 1 };
    s->nr_units += !zero;
  }
}

/* Step 2, when the units are there. */
static int
slice_alloc (struct slice *s)
{
  int err = 0;

  for (unsigned i = 0; i < s->nr_pages;) {
    unsigned end = slice_row_end (s, i);

    if (s->ents[i].word != 0) {
      if (err == 0)
        err = slice_alloc_pages (s, i, end);
      else
        memset (&s->ents[i], 0, (end - i) * sizeof *s->ents);
    }
    i = end;
  }
  return err;
}

/* Which pages a later request has replaced, wholly or in part: they are left
 * out here, and those in part are noted for page_update ().
 * Lock: needs the shard's.
 */
static void
find_overtaken (struct slice *s)
{
  s->any_left_out = atomic_load (&s->req->overtaken);
  s->any_partial = false;
  if (!s->any_left_out)
    return;
  for (unsigned i = 0; i < s->nr_pages; i++) {
    unsigned marks = request_marks (s->req, s->pgno + i);

    s->left_out[i] = marks != 0;
    s->partial[i] = marks != 0 && marks != 0xff;
    s->any_partial |= s->partial[i];
  }
}

static bool
is_left_out (const struct slice *s, unsigned i)
{
  return s->any_left_out && s->left_out[i];
}

/* How many of the pages that still wait for their block have no charge.
 * Lock: needs the shard's.
 */
static int
count_uncharged (struct slice *s, uint64_t *nr)
{
  *nr = 0;
  if (s->o->reserved)
    return 0;
  for (unsigned i = 0; i < s->nr_pages;) {
    struct swmeta_run run;
    int err =
        s->o->ops->lookup (s->o->map, s->pgno + i, s->nr_pages - i, &run, NULL);

    if (err)
      return err;
    if (run.word == 0)
      for (unsigned k = i; k < i + run.nr_pages; k++)
        *nr += s->ents[k].word != 0 && !is_left_out (s, k);
    i += (unsigned) run.nr_pages;
  }
  return 0;
}

/* Load what the change will take, where pages get blocks and where they lose
 * them.  A slice touches two leaves of a map at most: those of the first and
 * the last page that gets a block are all that need to be there.
 */
static int
prepare_rows (struct slice *s)
{
  unsigned first = s->nr_pages, end = 0;
  bool any_free = false;
  int err = 0;

  if (!object_is_durable (s->o))
    return 0; /* prepares nothing */
  for (unsigned i = 0; i < s->nr_pages; i++) {
    if (is_left_out (s, i))
      continue;
    if (s->ents[i].word == 0) {
      any_free = true;
      continue;
    }
    first = i < first ? i : first;
    end = i + 1;
  }
  if (first < end)
    err = freed_prepare (&s->freed, s->pgno + first, end - first, true);
  if (err == 0 && any_free)
    err = freed_prepare (&s->freed, s->pgno, s->nr_pages, false);
  return err;
}

/* Before step 2 of what goes straight to the volumes: are there nodes for it?
 * EAGAIN as freed_prepare ().  A store that has failed writes nothing.
 */
static int
slice_foresee (struct slice *s)
{
  if (flush_failed (s->o->fl))
    return EIO;
  LOCK_SCOPE (&s->freed.shard->lock);
  return prepare_rows (s);
}

/* Enter pages [i, end): all with blocks, or all zeros. */
static int
publish_row (struct slice *s, unsigned i, unsigned end)
{
  struct object *o = s->o;
  uint64_t nr_displaced = s->freed.nr_displaced;
  int err;

  if (s->buffered && s->ents[i].word != 0)
    slice_enter (s, i, end);
  if (s->ents[i].word == 0)
    err = o->ops->free (o->map, s->freed.mc, s->pgno + i, end - i,
                        freed_removed, &s->freed);
  else
    err = freed_build (&s->freed, s->pgno + i, end - i, &s->ents[i]);
  if (err)
    return err;
  if (s->ents[i].word != 0) {
    atomic_fetch_add (&o->nr_mapped, end - i);
    if (!o->reserved)
      s->charged -= end - i - (s->freed.nr_displaced - nr_displaced);
    memset (&s->ents[i], 0, (end - i) * sizeof *s->ents);
  }
  request_mark_older (s->req, (s->pgno + i) << PAGE_SHIFT,
                      (uint64_t) (end - i) << PAGE_SHIFT);
  return 0;
}

/* All rows of zeros, or all of the others. */
static int
publish_rows (struct slice *s, bool zeros)
{
  int err = 0;

  for (unsigned i = 0; i < s->nr_pages && err == 0;) {
    unsigned end = i + 1;

    while (end < s->nr_pages && is_left_out (s, end) == is_left_out (s, i) &&
           s->zero[end] == s->zero[i])
      end++;
    if (!is_left_out (s, i) && s->zero[i] == zeros)
      err = publish_row (s, i, end);
    i = end;
  }
  return err;
}

/* Step 4.  EAGAIN: something is missing, see request_wait ().
 * Lock: needs the shard's.
 */
static int
slice_publish (struct slice *s)
{
  int err = request_may_publish (s->req);

  if (err == 0)
    err = request_help_older (s->req, s->pgno, &s->freed);
  if (err)
    return err;
  find_overtaken (s);
  err = prepare_rows (s);
  if (err == 0)
    err = count_uncharged (s, &s->needed);
  if (err)
    return err;
  if (s->needed > s->charged) {
    if (space_charge (s->o->space, s->needed - s->charged) != 0)
      return EAGAIN;
    s->charged = s->needed;
  }
  /* What is removed may take nodes with it that the others need. */
  if (s->nr_units > 0)
    err = publish_rows (s, false);
  if (err == 0 && s->nr_units < s->nr_pages)
    err = publish_rows (s, true);
  return err;
}

/* Step 5. */
static void
slice_end (struct slice *s)
{
  freed_give_back (&s->freed, s->pgno);
  for (unsigned i = 0; i < s->nr_pages;) {
    unsigned end = slice_run_end (s, i);
    struct space_run run = { swmeta_blkno (s->ents[i].word), end - i };

    if (s->ents[i].word != 0)
      freed_blocks (&s->freed, &run);
    else
      end = slice_row_end (s, i);
    i = end;
  }
  freed_give_back_unnamed (&s->freed, s->pgno);
  space_release (s->o->space, s->nr_units);
}

/* Steps 2 to 5. */
static int
slice_move (struct slice *s)
{
  int err = take_units (s->req, s->nr_units);

  if (err)
    return err;
  err = slice_alloc (s);
  if (err == 0 && s->buffered)
    slice_fill (s);
  else if (err == 0)
    err = slice_write (s);
  if (err == 0)
    err = freed_enter (&s->freed);
  if (err == 0) {
    err = slice_publish (s);
    freed_leave (&s->freed);
  }
  slice_end (s);
  return err;
}

/* Steps 1 to 5.  EAGAIN: nothing is held but s->charged; see request_wait ().
 * Some pages may be entered already, which does no harm: they are written
 * again.
 */
static int
slice_try (struct slice *s)
{
  struct object *o = s->o;
  int err = 0;

  freed_init (&s->freed, o, s->pgno, &s->req->mc);
  slice_classify (s);
  s->needed = s->charged;
  s->any_left_out = false;
  s->buffered = object_is_durable (o) && s->nr_units < DIRECT_PAGES;
  s->nr_buffers = s->buffered ? (unsigned) s->nr_units : 0;
  request_use_batch (s->req, !s->buffered);
  if (s->nr_buffers > 0)
    err = buf_data_get (o->bs, s->bufs, s->nr_buffers);
  else if (object_is_durable (o) && !s->buffered)
    err = slice_foresee (s);
  if (err)
    return err;
  err = slice_move (s);
  if (s->nr_buffers > 0)
    slice_unbuffer (s);
  return err;
}

/* Pages overtaken in part, one by one. */
static int
slice_update_partial (struct slice *s)
{
  int err = 0;

  for (unsigned i = 0; i < s->nr_pages && err == 0; i++)
    if (s->partial[i])
      err = page_update (s->req, s->pgno + i, 0, PAGE_BYTES,
                         s->buf + ((size_t) i << PAGE_SHIFT));
  return err;
}

static int
write_slice (struct request *req, pgno_t pgno, unsigned nr_pages,
             const char *buf)
{
  struct slice s; /* large: each field is set where it is first needed */
  int err;

  s.req = req;
  s.o = req->o;
  s.pgno = pgno;
  s.nr_pages = nr_pages;
  s.buf = buf;
  s.charged = s.needed = 0;
  s.any_partial = false;
  while ((err = slice_try (&s)) == EAGAIN) {
    err = request_wait (req, &s.freed, &s.charged, s.needed);
    if (err)
      break;
  }
  space_uncharge (s.o->space, s.charged);
  space_look (s.o->space);
  if (err == 0 && s.any_partial)
    err = slice_update_partial (&s);
  return err;
}

/* How many whole pages from pgno on the next slice takes. */
static unsigned
slice_pages (const struct request *req, pgno_t pgno, uint64_t max)
{
  max = min_u64 (max, space_slice_max (req->o->space));
  max = min_u64 (max, SHARD_PAGES - pgno % SHARD_PAGES);
  if (req->o->pool != NULL)
    max = min_u64 (max, vpool_bounce_bytes (req->o->pool) >> PAGE_SHIFT);
  return (unsigned) max;
}

int
strategy_write (struct object *o, const atomic_bool *fenced, const void *buf,
                uint64_t off, uint64_t bytes, bool fua)
{
  struct request req;
  const char *p = buf;
  int err = 0;

  req.o = o;
  req.fenced = fenced;
  req.off = off;
  req.bytes = bytes;
  req.zero = req.keep = false;
  request_begin (&req);
  while (bytes > 0 && err == 0) {
    pgno_t pgno = off >> PAGE_SHIFT;
    uint32_t in_page = off & PAGE_MASK;
    uint64_t len;

    if (in_page != 0 || bytes < PAGE_BYTES) {
      len = min_u64 (PAGE_BYTES - in_page, bytes);
      err = page_update (&req, pgno, in_page, (uint32_t) len, p);
    } else {
      unsigned nr = slice_pages (&req, pgno, bytes >> PAGE_SHIFT);

      len = (uint64_t) nr << PAGE_SHIFT;
      err = write_slice (&req, pgno, nr, p);
    }
    off += len;
    p += len;
    bytes -= len;
  }
  return request_end (&req, err, fua);
}
