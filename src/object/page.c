/* SPDX-License-Identifier: BSD-2-Clause */
/* One page at a time, under its shard's lock: read-modify-write of a page
 * that a request covers only in part, or that a later request has overtaken
 * in part.  The lock is held over the read and the write, so no page is ever
 * torn and no other change comes between.
 *
 * What can wait is had before the lock: room in the buffers, a batch, a unit,
 * a block, always in this order.  If a charge or a node is missing everything
 * is given back, and begun again when it came.
 *
 * A page of a durable object goes to a buffer, and only when nothing is missing
 * any more: just before its entry, whose record then never comes without it.
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
  if (object_is_durable (req->o) && flush_failed (req->o->fl))
    return EIO;
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

struct update {
  struct request *req;
  pgno_t pgno;
  uint32_t in_page, bytes; /* what of the page changes */
  const void *src;         /* NULL: zeros */
  uint64_t charged;        /* 0 or 1: a promise had but not used yet */
  uint64_t needed;         /* what it must be, after EAGAIN */
  struct buf *to;          /* a buffer for it; NULL: goes to the volume */
  struct space_run run;    /* the page's new block; nr 0: used, or none */
  struct swmeta_run was;   /* [shard.lock] what the page is now */
  struct freed freed;
};

/* The page's content as the map has it now, to buf.  Lock: needs the shard's.
 */
static int
read_page (struct update *u, void *buf)
{
  struct object *o = u->req->o;
  struct swent ent;
  int err = o->ops->lookup (o->map, u->pgno, 1, &u->was, &ent);

  if (err)
    return err;
  if (swmeta_kind (u->was.word) != SWMETA_BLOCK) {
    memset (buf, 0, PAGE_BYTES);
    return 0;
  }
  return io_read_page (o, u->req->batch, u->pgno, &ent, buf);
}

/* Write buf to the new block; if that fails retire it and try another. */
static int
write_block (struct update *u, void *buf)
{
  struct object *o = u->req->o;
  int err = io_block (o, u->req->batch, IO_WRITE, u->run.blk, buf);

  if (err != EIO)
    return err;
  space_retire (o->space, &u->run);
  u->run.nr = 0;
  err = space_alloc (o->space, lane_hint (o, u->pgno, object_is_durable (o)), 1,
                     &u->run);
  if (err)
    return err;
  return io_block (o, u->req->batch, IO_WRITE, u->run.blk, buf);
}

/* All that it takes to give the page an entry: nodes, and a charge if it has
 * none.
 */
static int
ready_page (struct update *u)
{
  struct object *o = u->req->o;
  int err = freed_prepare (&u->freed, u->pgno, 1, true);

  if (err || u->was.word != 0 || o->reserved || u->charged > 0)
    return err;
  u->needed = 1;
  if (space_charge (o->space, 1) != 0)
    return EAGAIN;
  u->charged = 1;
  return 0;
}

static int
enter_page (struct update *u, const struct swent *ent)
{
  struct object *o = u->req->o;
  int err = freed_build (&u->freed, u->pgno, 1, ent);

  if (err)
    return err;
  if (swmeta_kind (ent->word) == SWMETA_BLOCK)
    atomic_fetch_add (&o->nr_mapped, 1);
  else
    atomic_fetch_add (&o->nr_zero, 1);
  if (u->was.word == 0 && !o->reserved)
    u->charged = 0;
  return 0;
}

/* The page becomes all zeros.  A promise of space that it has stays: the
 * request that has it kept was for all of the page, this is for a part.  One
 * that asks for a promise itself gets it for the whole page.
 */
static int
publish_zero (struct update *u)
{
  static const struct swent zero = {
    .word = (uint64_t) SWMETA_ZERO << SWMETA_KIND_SHIFT,
  };
  struct object *o = u->req->o;
  struct swent ent;
  int err;

  if (swmeta_kind (u->was.word) == SWMETA_ZERO)
    return 0;
  if (u->req->keep && !o->reserved) {
    err = ready_page (u);
    return err ? err : enter_page (u, &zero);
  }
  if (u->was.word == 0)
    return 0;
  err = freed_prepare (&u->freed, u->pgno, 1, false);
  if (err == 0)
    err = o->ops->pop (o->map, u->freed.mc, u->pgno, &ent);
  if (err == 0)
    freed_removed (&u->freed, &u->was);
  return err;
}

/* Make buf the page's content, in the new block if it is not all zeros. */
static int
publish (struct update *u, void *buf)
{
  struct object *o = u->req->o;
  struct swent ent = { 0 };
  int err;

  if (page_is_zero (buf))
    return publish_zero (u);
  err = ready_page (u);
  if (err == 0 && u->to == NULL)
    err = write_block (u, buf);
  if (err)
    return err;
  ent.word = swmeta_word (SWMETA_BLOCK, u->run.blk);
  io_stamp (o, space_volume (o->space, u->run.blk), buf, &ent, 1);
  if (u->to != NULL) {
    page_copy (u->to->data, buf, 1);
    buf_data_add (o->bs, &u->to, 1, u->run.blk);
    u->to = NULL;
  }
  err = enter_page (u, &ent);
  if (err == 0)
    u->run.nr = 0;
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
update_locked (struct update *u)
{
  char page[PAGE_BYTES] __attribute__ ((aligned (4096)));
  struct request *req = u->req;
  int err = request_may_publish (req);
  unsigned marks;

  if (err == 0)
    err = request_help_older (req, u->pgno, &u->freed);
  if (err)
    return err;
  marks = request_marks (req, u->pgno);
  if ((sectors_of (u->in_page, u->bytes) & ~marks) == 0)
    return 0; /* a later request has replaced it all */
  err = read_page (u, page);
  if (err)
    return err;
  overlay (page, u->in_page, u->bytes, u->src, marks);
  err = publish (u, page);
  if (err)
    return err;
  request_mark_older (req, (u->pgno << PAGE_SHIFT) + u->in_page, u->bytes);
  return 0;
}

/* With a unit and a block of its own. */
static int
update_with_block (struct update *u)
{
  struct object *o = u->req->o;
  int err = take_units (u->req, 1);

  if (err)
    return err;
  err = space_alloc (o->space, lane_hint (o, u->pgno, object_is_durable (o)), 1,
                     &u->run);
  if (err) {
    space_release (o->space, 1);
    return err;
  }
  freed_init (&u->freed, o, u->pgno, &u->req->mc);
  err = freed_enter (&u->freed);
  if (err == 0) {
    err = update_locked (u);
    freed_leave (&u->freed);
  }
  freed_give_back (&u->freed, u->pgno);
  if (u->run.nr > 0) {
    freed_blocks (&u->freed, &u->run);
    freed_give_back_unnamed (&u->freed, u->pgno);
  }
  space_release (o->space, 1);
  return err;
}

/* Once.  EAGAIN: something is missing, see request_wait (). */
static int
update_try (struct update *u)
{
  struct object *o = u->req->o;
  int err = 0;

  u->freed.nr_missing = 0;
  u->to = NULL;
  if (object_is_durable (o)) {
    request_use_batch (u->req, false);
    err = buf_data_get (o->bs, &u->to, 1);
    if (err)
      return err;
    request_use_batch (u->req, true);
  }
  err = update_with_block (u);
  if (u->to != NULL)
    buf_data_unget (o->bs, &u->to, 1);
  return err;
}

int
page_update (struct request *req, pgno_t pgno, uint32_t in_page, uint32_t bytes,
             const void *src)
{
  struct update u; /* large: each field is set where it is first needed */
  int err;

  u.req = req;
  u.pgno = pgno;
  u.in_page = in_page;
  u.bytes = bytes;
  u.src = src;
  u.charged = u.needed = 0;
  while ((err = update_try (&u)) == EAGAIN) {
    err = request_wait (req, &u.freed, &u.charged, u.needed);
    if (err)
      break;
  }
  space_uncharge (req->o->space, u.charged);
  space_look (req->o->space);
  return err;
}
