/* SPDX-License-Identifier: BSD-2-Clause */
/* Trimming and zeroing: the cost is what is mapped, not the size.
 *
 * A request goes shard by shard.  In each, whole pages lose their entries (or,
 * if they keep their promise of space, get a "zero, reserved" one) under the
 * shard's lock.  A younger request may have seen to a shard before this one
 * came to it (request.c, I2).  A partial page at either end is a write of
 * zeros to that part.
 */

#include <config.h>

#include "strategy.h"

#include <errno.h>

#include "request.h"

#define ZERO_PAGES 256u /* entered at once: one record of the log */

/* Whole pages of req in a shard: [*first, *end), maybe none. */
static void
whole_pages (const struct request *req, uint64_t shard, pgno_t *first,
             pgno_t *end)
{
  *first = max_u64 ((req->off + PAGE_MASK) >> PAGE_SHIFT, shard * SHARD_PAGES);
  *end = min_u64 (request_end_padded (req) >> PAGE_SHIFT,
                  (shard + 1) * SHARD_PAGES);
}

/* Put a "zero, reserved" entry on nr pages; *charged falls by those that had
 * none.
 */
static int
build_zeros (struct request *req, pgno_t pgno, uint64_t nr, struct freed *freed,
             uint64_t *charged)
{
  struct object *o = req->o;
  struct swent ents[ZERO_PAGES];

  for (unsigned i = 0; i < min_u64 (nr, ZERO_PAGES); i++)
    ents[i] = (struct swent){ .word = swmeta_word (SWMETA_ZERO, 0) };
  while (nr > 0) {
    uint64_t step = min_u64 (nr, ZERO_PAGES);
    uint64_t nr_displaced = freed->nr_displaced;
    int err = freed_build (freed, pgno, step, ents);

    if (err)
      return err;
    atomic_fetch_add (&o->nr_zero, step);
    *charged -= step - (freed->nr_displaced - nr_displaced);
    pgno += step;
    nr -= step;
  }
  return 0;
}

/* Pages that have no charge yet. */
static int
count_holes (struct object *o, pgno_t pgno, pgno_t end, uint64_t *nr)
{
  *nr = 0;
  while (pgno < end) {
    struct swmeta_run run;
    int err = o->ops->lookup (o->map, pgno, end - pgno, &run, NULL);

    if (err)
      return err;
    if (run.word == 0)
      *nr += run.nr_pages;
    pgno += run.nr_pages;
  }
  return 0;
}

static int
zero_and_keep (struct request *req, pgno_t first, pgno_t end,
               struct freed *freed, uint64_t *charged, uint64_t *nr_needed)
{
  struct object *o = req->o;
  int err = freed_prepare (freed, first, end - first, true);

  if (err == 0)
    err = count_holes (o, first, end, nr_needed);
  if (err)
    return err;
  if (*nr_needed > *charged) {
    if (space_charge (o->space, *nr_needed - *charged) != 0)
      return EAGAIN;
    *charged = *nr_needed;
  }
  return build_zeros (req, first, end - first, freed, charged);
}

static int
remove_pages (struct object *o, pgno_t first, pgno_t end, struct freed *freed)
{
  int err = freed_prepare (freed, first, end - first, false);

  if (err)
    return err;
  return o->ops->free (o->map, freed->mc, first, end - first, freed_removed,
                       freed);
}

int
zero_shard (struct request *req, uint64_t shard, struct freed *freed,
            uint64_t *charged, uint64_t *nr_needed)
{
  struct object *o = req->o;
  pgno_t first, end;
  int err = 0;

  whole_pages (req, shard, &first, &end);
  if (first < end) {
    if (req->keep && !o->reserved)
      err = zero_and_keep (req, first, end, freed, charged, nr_needed);
    else
      err = remove_pages (o, first, end, freed);
    if (err)
      return err;
    request_mark_older (req, first << PAGE_SHIFT,
                        min_u64 (end << PAGE_SHIFT, o->size_bytes) -
                            (first << PAGE_SHIFT));
  }
  req->done[shard - req->off / SHARD_BYTES] = DONE_WELL;
  return 0;
}

/* Lock: needs the shard's. */
static int
shard_locked (struct request *req, uint64_t shard, struct freed *freed,
              uint64_t *charged, uint64_t *nr_needed)
{
  uint8_t done = req->done[shard - req->off / SHARD_BYTES];
  int err = request_may_publish (req);

  if (err)
    return err;
  if (done != DONE_NOT)
    return done == DONE_WELL ? 0 : done;
  err = request_help_older (req, shard * SHARD_PAGES, freed);
  if (err)
    return err;
  return zero_shard (req, shard, freed, charged, nr_needed);
}

static int
one_shard (struct request *req, uint64_t shard)
{
  struct object *o = req->o;
  pgno_t pgno = shard * SHARD_PAGES;
  uint64_t charged = 0, needed = 0;
  struct freed freed;
  int err;

  freed_init (&freed, o, pgno, &req->mc);
  for (;;) {
    err = freed_enter (&freed);
    if (err)
      break;
    err = shard_locked (req, shard, &freed, &charged, &needed);
    freed_leave (&freed);
    if (err != EAGAIN)
      break;
    freed_give_back (&freed, pgno);
    err = request_wait (req, &freed, &charged, needed);
    if (err)
      break;
  }
  freed.nr_charges += charged;
  freed_give_back (&freed, pgno);
  space_look (o->space);
  return err;
}

int
strategy_zero (struct object *o, const atomic_bool *fenced, uint64_t off,
               uint64_t bytes, bool keep, bool fua)
{
  uint64_t last = (off + bytes - 1) / SHARD_BYTES;
  struct request req;
  int err = 0;

  req.o = o;
  req.fenced = fenced;
  req.off = off;
  req.bytes = bytes;
  req.zero = true;
  req.keep = keep;
  request_begin (&req);
  if (req.edge[0].bytes > 0)
    err = page_update (&req, req.edge[0].pgno, req.edge[0].in_page,
                       req.edge[0].bytes, NULL);
  for (uint64_t shard = off / SHARD_BYTES; shard <= last && err == 0; shard++)
    err = one_shard (&req, shard);
  if (req.edge[1].bytes > 0 && err == 0)
    err = page_update (&req, req.edge[1].pgno, 0, req.edge[1].bytes, NULL);
  return request_end (&req, err, fua);
}
