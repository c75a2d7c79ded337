/* SPDX-License-Identifier: BSD-2-Clause */
/* One page at a time, under its shard's lock: read-modify-write of a page
 * that a request covers only in part, or that a later request has overtaken
 * in part.  The lock is held over the read and the write, so no page is ever
 * torn and no other change comes between.
 *
 * What can wait is had before the lock: a batch, a unit, a block.  If a charge
 * is missing everything is given back, and begun again when it came.
 */

#include <config.h>

#include "request.h"

#include <errno.h>
#include <string.h>

#include "io.h"
#include "log.h"

static struct log_limit units_limit;

bool
page_is_zero (const void *buf)
{
  const uint64_t *p = buf;
  uint64_t first;

  /* Pages that are not zeros mostly show it at once. */
  memcpy (&first, p, sizeof first);
  return first == 0 && memcmp (buf, (const char *) buf + sizeof first,
                               PAGE_BYTES - sizeof first) == 0;
}

int
take_units (struct request *req, uint64_t nr)
{
  struct space *sp = req->o->space;
  uint64_t begin_ns, waited_ns;
  int err = space_acquire (sp, nr, 0);

  if (err == 0)
    return 0;
  begin_ns = env_now_ns ();
  err = space_acquire (sp, nr, begin_ns + req->units_wait_ns);
  waited_ns = env_now_ns () - begin_ns;
  req->units_wait_ns -= min_u64 (waited_ns, req->units_wait_ns);
  if (err == 0)
    return 0;
  log_limited (&units_limit, LOG_ERROR,
               "pool: a write found no room to move in for %d s: reads are "
               "stuck in a volume (look for a hanging disk)",
               (int) (UNITS_WAIT_NS / NS_PER_S));
  return EIO;
}

int
page_read (struct object *o, struct vbatch *batch, pgno_t pgno, void *buf)
{
  struct swmeta_run run;
  struct swent ent;
  int err = o->ops->lookup (o->map, pgno, 1, &run, &ent);

  if (err)
    return err;
  if (swmeta_kind (run.word) != SWMETA_BLOCK) {
    memset (buf, 0, PAGE_BYTES);
    return 0;
  }
  blkno_t blk = swmeta_blkno (run.word);

  err = io_block (o, batch, VIO_READ, blk, buf);
  if (err)
    return err;
  return io_verify (space_volume (o->space, blk), buf, &ent, 1);
}

/* Write buf to the block of run; if that fails retire it and try another. */
static int
write_block (struct request *req, pgno_t pgno, void *buf, struct space_run *run)
{
  struct object *o = req->o;
  int err = io_block (o, req->batch, VIO_WRITE, run->blk, buf);

  if (err != EIO)
    return err;
  space_retire (o->space, run);
  run->nr = 0;
  err = space_alloc (o->space, lane_hint (o, pgno), 1, run);
  if (err)
    return err;
  return io_block (o, req->batch, VIO_WRITE, run->blk, buf);
}

/* A charge for a page that was this, if it has none. */
static int
charge_page (struct object *o, const struct swmeta_run *was, uint64_t *charged)
{
  if (was->word != 0 || o->reserved || *charged > 0)
    return 0;
  if (space_charge (o->space, 1) != 0)
    return EAGAIN;
  *charged = 1;
  return 0;
}

/* Enter a page that was this, with its charge. */
static int
enter_page (struct object *o, const struct swmeta_run *was,
            const struct swent *ent, struct freed *freed, uint64_t *charged)
{
  int err = o->ops->build (o->map, freed->mc, was->pgno, 1, ent,
                           freed_displaced, freed);

  if (err)
    return err;
  if (swmeta_kind (ent->word) == SWMETA_BLOCK)
    atomic_fetch_add (&o->nr_mapped, 1);
  else
    atomic_fetch_add (&o->nr_zero, 1);
  if (was->word == 0 && !o->reserved)
    *charged = 0;
  return 0;
}

/* The page, which was this, becomes all zeros.  A promise of space that it has
 * stays: the request that has it kept was for all of the page, this is for a
 * part.  One that asks for a promise itself gets it for the whole page.
 */
static int
publish_zero (struct request *req, const struct swmeta_run *was,
              struct freed *freed, uint64_t *charged)
{
  static const struct swent zero = {
    .word = (uint64_t) SWMETA_ZERO << SWMETA_KIND_SHIFT,
  };
  struct object *o = req->o;
  struct swent ent;
  int err;

  if (swmeta_kind (was->word) == SWMETA_ZERO)
    return 0;
  if (req->keep && !o->reserved) {
    err = charge_page (o, was, charged);
    return err ? err : enter_page (o, was, &zero, freed, charged);
  }
  if (was->word == 0)
    return 0;
  err = o->ops->pop (o->map, freed->mc, was->pgno, &ent);
  if (err == 0)
    freed_removed (freed, was);
  return err;
}

int
page_publish (struct request *req, pgno_t pgno, void *buf,
              struct space_run *run, struct freed *freed, uint64_t *charged)
{
  struct object *o = req->o;
  struct swmeta_run was;
  struct swent ent = { 0 };
  int err = o->ops->lookup (o->map, pgno, 1, &was, NULL);

  if (err)
    return err;
  if (page_is_zero (buf))
    return publish_zero (req, &was, freed, charged);
  err = charge_page (o, &was, charged);
  if (err == 0)
    err = write_block (req, pgno, buf, run);
  if (err)
    return err;
  ent.word = swmeta_word (SWMETA_BLOCK, run->blk);
  io_stamp (space_volume (o->space, run->blk), buf, &ent, 1);
  err = enter_page (o, &was, &ent, freed, charged);
  if (err == 0)
    run->nr = 0;
  return err;
}

/* Lay src over page, but for the marked sectors. */
static void
overlay (char *page, uint32_t in_page, uint32_t bytes, const char *src,
         unsigned marks)
{
  uint32_t end = in_page + bytes;

  for (uint32_t pos = in_page; pos < end;) {
    uint32_t next = (pos | (SECTOR_BYTES - 1)) + 1;
    uint32_t len = (next < end ? next : end) - pos;

    if (!(marks >> (pos >> SECTOR_SHIFT) & 1)) {
      if (src != NULL)
        memcpy (page + pos, src + (pos - in_page), len);
      else
        memset (page + pos, 0, len);
    }
    pos += len;
  }
}

/* The sectors that a part of a page touches. */
static unsigned
sectors_of (uint32_t in_page, uint32_t bytes)
{
  unsigned first = in_page >> SECTOR_SHIFT;
  unsigned last = (in_page + bytes - 1) >> SECTOR_SHIFT;

  return (2u << last) - (1u << first);
}

/* Lock: needs the page's shard's. */
static int
update_locked (struct request *req, pgno_t pgno, uint32_t in_page,
               uint32_t bytes, const void *src, struct space_run *run,
               struct freed *freed, uint64_t *charged)
{
  char page[PAGE_BYTES] __attribute__ ((aligned (4096)));
  int err = request_may_publish (req);
  unsigned marks;

  if (err)
    return err;
  request_help_older (req, pgno, freed);
  marks = request_marks (req, pgno);
  if ((sectors_of (in_page, bytes) & ~marks) == 0)
    return 0; /* a later request has replaced it all */
  err = page_read (req->o, req->batch, pgno, page);
  if (err)
    return err;
  overlay (page, in_page, bytes, src, marks);
  err = page_publish (req, pgno, page, run, freed, charged);
  if (err)
    return err;
  request_mark_older (req, (pgno << PAGE_SHIFT) + in_page, bytes);
  return 0;
}

/* Once, with a unit and a block of its own.  EAGAIN: *charged must be 1. */
static int
update_try (struct request *req, pgno_t pgno, uint32_t in_page, uint32_t bytes,
            const void *src, uint64_t *charged)
{
  struct object *o = req->o;
  struct freed freed;
  struct space_run run;
  int err = take_units (req, 1);

  if (err)
    return err;
  err = space_alloc (o->space, lane_hint (o, pgno), 1, &run);
  if (err) {
    space_release (o->space, 1);
    return err;
  }
  freed_init (&freed, o, pgno, &req->mc);
  err = freed_enter (&freed);
  if (err == 0) {
    err = update_locked (req, pgno, in_page, bytes, src, &run, &freed, charged);
    freed_leave (&freed);
  }
  if (run.nr > 0)
    freed_blocks (&freed, &run);
  freed_give_back (&freed, pgno);
  space_release (o->space, 1);
  return err;
}

int
page_update (struct request *req, pgno_t pgno, uint32_t in_page, uint32_t bytes,
             const void *src)
{
  uint64_t charged = 0;
  int err;

  while ((err = update_try (req, pgno, in_page, bytes, src, &charged)) ==
         EAGAIN) {
    err = request_wait_charges (req, 1);
    if (err)
      break;
    charged = 1;
  }
  space_uncharge (req->o->space, charged);
  space_look (req->o->space);
  return err;
}
