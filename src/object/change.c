/* SPDX-License-Identifier: BSD-2-Clause */
/* A change of one shard's map: its bracket, the nodes it needs, and the blocks
 * it sets free, those that reads hold among them.
 *
 *   freed_enter ()          credit and the gate are waited for; shard's lock
 *     freed_prepare ()      all nodes are loaded; EAGAIN: blocks for nodes are
 *       build, free, pop    missing, and nothing has changed
 *   freed_leave ()
 *   freed_give_back ()      blocks and charges
 *
 * Nodes (of a durable map only).  A page that is new may need nodes that are
 * not there yet.  Each costs a charge, and a block that stands for the charge
 * from the start, so that it needs no unit.
 *
 * N1. Charges and blocks are had with no lock held (request_wait ()), and are
 *     kept by the request until its end: unused ones are given back then.
 * N2. A reserved object's nodes are promised to it when it is made: they come
 *     from o->nr_node_charges, and ENOSPC is not for it.
 * N3. Who does an older request's work needs that one's nodes too.  If there
 *     are none to be had the older is told ENOSPC, and not its helper.
 *
 * Blocks.  What a durable map named goes to be parked until the record that
 * unmapped it is durable (parked.h); what no map ever named is free at once,
 * for such a block is never in a buffer: pages go to buffers only when nothing
 * can fail any more (page.c, strategy-write.c).
 *
 * Reading.  A read looks its blocks up under the lock, and reads without it:
 *
 * I5. A block that leaves the map while a pin names it is parked in that pin,
 *     and goes on to the next pin that names it, or is given back, when the
 *     pin ends.  A read cannot come to a block that has left the map, so this
 *     ends.
 *
 *   shard: pins -> [read r: blocks 17-20] -> [read s: blocks 96-97]
 *
 * Locks: pins are guarded by the shard's lock, and live on the stacks of their
 * requests.  A freed belongs to one thread.
 */

#include <config.h>

#include "request.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sabotage.h"

/* ---- the bracket ---- */

void
freed_init (struct freed *freed, struct object *o, pgno_t pgno,
            struct map_change *mc)
{
  freed->o = o;
  freed->shard = shard_of (o, pgno);
  freed->mc = mc;
  freed->nr_missing = 0;
  freed->missing_to_help = false;
  freed->nr_charges = 0;
  freed->nr_displaced = 0;
  freed->nr_runs = 0;
}

int
freed_enter (struct freed *freed)
{
  int err = freed->o->ops->begin (freed->o->map, freed->mc);

  if (err)
    return err;
  freed->nr_missing = 0;
  freed->missing_to_help = false;
  lock_acquire (&freed->shard->lock);
  return 0;
}

void
freed_leave (struct freed *freed)
{
  lock_release (&freed->shard->lock);
  freed->o->ops->end (freed->o->map, freed->mc);
}

int
freed_prepare (struct freed *freed, pgno_t pgno, uint64_t nr, bool build)
{
  unsigned nr_missing = 0;
  int err =
      freed->o->ops->prepare (freed->o->map, pgno, nr, build, &nr_missing);

  if (err || nr_missing <= freed->mc->nr_blks)
    return err;
  assert (nr_missing <= MAP_NODES_MAX);
  freed->nr_missing = nr_missing;
  return EAGAIN;
}

/* ---- building ---- */

int
freed_build (struct freed *freed, pgno_t pgno, uint64_t nr,
             const struct swent *ents)
{
  struct object *o = freed->o;
  int err;

  for (;;) {
    err = o->ops->build (o->map, freed->mc, pgno, nr, ents, freed_displaced,
                         freed);
    if (err != EAGAIN)
      return err;
    /* Nodes have gone since, with what others removed. */
    err = freed_prepare (freed, pgno, nr, true);
    if (err)
      return err;
  }
}

/* ---- nodes ---- */

/* Charges for nr nodes: a reserved object has some of its own (N2). */
static int
charge_nodes (struct request *req, uint64_t nr)
{
  struct object *o = req->o;
  uint64_t own = atomic_load (&o->nr_node_charges), most;
  int err;

  do
    most = min_u64 (own, nr);
  while (!atomic_compare_exchange_weak (&o->nr_node_charges, &own, own - most));
  if (most == nr)
    return 0;
  err = request_wait_charges (req, nr - most);
  if (err)
    atomic_fetch_add (&o->nr_node_charges, most);
  return err;
}

/* Nobody needs so many charges for nodes any more. */
static void
uncharge_nodes (struct object *o, unsigned nr)
{
  if (o->reserved)
    atomic_fetch_add (&o->nr_node_charges, nr);
  else
    space_uncharge (o->space, nr);
}

/* Until req has this many blocks for nodes.  ENOSPC.  Lock: none held. */
static int
get_nodes (struct request *req, unsigned nr)
{
  struct map_change *mc = &req->mc;
  int err = charge_nodes (req, nr - mc->nr_blks);

  if (err)
    return err;
  while (mc->nr_blks < nr) {
    struct space_run run;

    err = space_alloc (req->o->space, SPACE_HINT_META, nr - mc->nr_blks, &run);
    if (err) {
      uncharge_nodes (req->o, nr - mc->nr_blks);
      return err;
    }
    for (uint64_t i = 0; i < run.nr; i++)
      mc->blks[mc->nr_blks++] = run.blk + i;
  }
  return 0;
}

void
request_put_nodes (struct request *req)
{
  struct map_change *mc = &req->mc;

  for (unsigned i = 0; i < mc->nr_blks; i++) {
    struct space_run run = { mc->blks[i], 1 };

    space_free (req->o->space, SPACE_HINT_META, &run, 1);
  }
  uncharge_nodes (req->o, mc->nr_blks);
  mc->nr_blks = 0;
}

int
request_wait (struct request *req, const struct freed *freed, uint64_t *charged,
              uint64_t needed)
{
  int err = 0;

  if (needed > *charged) {
    err = request_wait_charges (req, needed - *charged);
    if (err)
      return err;
    *charged = needed;
  }
  if (freed->nr_missing > req->mc.nr_blks)
    err = get_nodes (req, freed->nr_missing);
  if (err == ENOSPC && freed->missing_to_help) {
    req->cannot_help = true; /* N3 */
    return 0;
  }
  return err;
}

/* ---- pins ---- */

void
pin_begin (struct shard *shard, struct pin *pin)
{
  pin->nr_parked = 0;
  memset (pin->parked, 0, sizeof pin->parked);
  pin->next = shard->pins;
  shard->pins = pin;
}

/* These blocks have left the map, and nobody reads them. */
static void
unmapped (struct object *o, pgno_t pgno, const struct space_run *runs,
          unsigned nr_runs)
{
  if (nr_runs == 0)
    return;
  if (object_is_durable (o))
    parked_data (o->pk, runs, nr_runs, flush_tail (o->fl));
  else
    space_free (o->space, lane_hint (o, pgno, false), runs, nr_runs);
}

/* Park a block in the first pin of the list that names it. */
static bool
park_block (struct pin *pins, blkno_t blk)
{
  for (struct pin *pin = pins; pin != NULL; pin = pin->next) {
    uint64_t base = 0;

    for (unsigned i = 0; i < pin->nr_extents; i++) {
      const struct space_run *x = &pin->extent[i];

      if (blk >= x->blk && blk - x->blk < x->nr) {
        base += blk - x->blk;
        pin->parked[base / 64] |= UINT64_C (1) << (base % 64);
        pin->nr_parked++;
        return true;
      }
      base += x->nr;
    }
  }
  return false;
}

/* The parked blocks of a pin that is over are no read's any more. */
static void
pin_give_back (struct object *o, pgno_t pgno, const struct pin *pin)
{
  struct space_run runs[PIN_RUNS];
  unsigned nr_runs = 0;
  uint64_t base = 0;

  for (unsigned i = 0; i < pin->nr_extents; i++)
    for (uint64_t k = 0; k < pin->extent[i].nr; k++, base++) {
      if (!(pin->parked[base / 64] >> (base % 64) & 1))
        continue;
      if (nr_runs == PIN_RUNS) {
        unmapped (o, pgno, runs, nr_runs);
        nr_runs = 0;
      }
      runs[nr_runs++] = (struct space_run){ pin->extent[i].blk + k, 1 };
    }
  unmapped (o, pgno, runs, nr_runs);
}

void
pin_end (struct object *o, pgno_t pgno, struct pin *pin)
{
  struct shard *shard = shard_of (o, pgno);
  unsigned nr_free = 0;

  lock_acquire (&shard->lock);
  struct pin **p = &shard->pins;

  while (*p != pin)
    p = &(*p)->next;
  *p = pin->next;
  if (pin->nr_parked == 0) {
    lock_release (&shard->lock);
    return;
  }
  /* What another read still needs goes on to its pin. */
  uint64_t base = 0;

  for (unsigned i = 0; i < pin->nr_extents; i++)
    for (uint64_t k = 0; k < pin->extent[i].nr; k++, base++) {
      uint64_t bit = UINT64_C (1) << (base % 64);

      if (!(pin->parked[base / 64] & bit))
        continue;
      if (park_block (shard->pins, pin->extent[i].blk + k))
        pin->parked[base / 64] &= ~bit;
      else
        nr_free++;
    }
  lock_release (&shard->lock);

  pin_give_back (o, pgno, pin);
  space_unpark (o->space, nr_free);
}

/* ---- what was set free ---- */

void
freed_blocks (struct freed *freed, const struct space_run *run)
{
  if (freed->nr_runs > 0) {
    struct space_run *last = &freed->runs[freed->nr_runs - 1];

    if (last->blk + last->nr == run->blk) {
      last->nr += run->nr;
      return;
    }
  }
  assert (freed->nr_runs < FREED_RUNS_MAX);
  freed->runs[freed->nr_runs++] = *run;
}

static void
left_the_map (struct freed *freed, const struct swmeta_run *run, bool charges)
{
  struct object *o = freed->o;
  blkno_t blk = swmeta_blkno (run->word);

  if (charges && !o->reserved)
    freed->nr_charges += run->nr_pages;
  if (swmeta_kind (run->word) == SWMETA_ZERO) {
    atomic_fetch_sub (&o->nr_zero, run->nr_pages);
    return;
  }
  atomic_fetch_sub (&o->nr_mapped, run->nr_pages);
  if (freed->shard->pins == NULL || SABOTAGE (forget_pins)) {
    freed_blocks (freed, &(struct space_run){ blk, run->nr_pages });
    return;
  }
  for (uint64_t i = 0; i < run->nr_pages; i++)
    if (park_block (freed->shard->pins, blk + i))
      space_park (o->space, 1);
    else
      freed_blocks (freed, &(struct space_run){ blk + i, 1 });
}

void
freed_removed (void *arg, const struct swmeta_run *run)
{
  left_the_map (arg, run, true);
}

void
freed_displaced (void *arg, const struct swmeta_run *run)
{
  struct freed *freed = arg;

  freed->nr_displaced += run->nr_pages;
  left_the_map (arg, run, false);
}

void
freed_give_back (struct freed *freed, pgno_t pgno)
{
  struct object *o = freed->o;

  /* Parked blocks have their units before the charges go. */
  unmapped (o, pgno, freed->runs, freed->nr_runs);
  space_uncharge (o->space, freed->nr_charges);
  freed->nr_runs = 0;
  freed->nr_charges = 0;
}

void
freed_give_back_unnamed (struct freed *freed, pgno_t pgno)
{
  struct object *o = freed->o;

  if (freed->nr_runs == 0)
    return;
  space_free (o->space, lane_hint (o, pgno, false), freed->runs,
              freed->nr_runs);
  freed->nr_runs = 0;
}
