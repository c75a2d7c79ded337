/* SPDX-License-Identifier: BSD-2-Clause */
/* reserve and copy: entries without their pages.  Called on the loop.
 *
 * reserve: blocks first, in runs down to single ones, all or none; then
 * entries of kind ZERO that carry them; what these displace is kept until all
 * stand, then dropped, or built back.
 *
 *   page: 0        dropped       built            taken       count
 *         | old gone | old kept    | old in the map | no block  |
 *         | new in the map         | new kept       |           |
 *
 * A small one is one step on the loop, beside whatever is under way.  A large
 * one goes in steps, so it must be alone on the map to be able to go back: it
 * claims the object, so that no op begins on it, and waits until none is under
 * way, as a copy does.
 *
 * copy: claims both objects, waits, and moves the entries, in steps; what the
 * destination has wins.  The cost is that of the entries there are.  A source
 * that goes is unlisted first, and what it still has is dropped, in steps.
 *
 * One that is at work has set `moving`: others, and frees, wait for it.
 */

#include <config.h>

#include "swap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "types.h"

/* ---- reserve ---- */

/* So many pages may be dealt with now, of what is left. */
static uint64_t
may (const struct reserve *r, uint64_t left)
{
  return r->small ? left : swap_step_take (r->object->swap, left);
}

static int
take_some (struct reserve *r, uint64_t n)
{
  struct farpage_swap *s = r->object->swap;
  uint64_t blk, nr;

  while (n > 0) {
    int err = swap_space_take_any (s->space, n, &blk, &nr);

    if (err)
      return err;
    for (n -= nr; nr > 0; nr--, blk++)
      r->fresh[r->taken++] = swmeta_word (SWMETA_ZERO, blk);
  }
  return 0;
}

static void
keep_old (void *arg, const struct swmeta_run *run)
{
  struct reserve *r = arg;

  for (uint64_t i = 0; i < run->nr_pages; i++)
    r->old[run->pgno + i - r->first] = run_word (run, i);
}

static void
ignore (void *arg, const struct swmeta_run *run)
{
  (void) arg;
  (void) run;
}

static int
build_some (struct reserve *r, uint64_t n)
{
  while (n > 0) {
    const uint64_t page = r->first + r->built;
    const uint64_t nr = min_u64 (n, SHARD_PAGES - page % SHARD_PAGES);
    int err = swmeta_build (r->object->map, page, nr, &r->fresh[r->built],
                            keep_old, r);

    if (err)
      return err;
    r->built += nr;
    n -= nr;
  }
  return 0;
}

static void
drop_some (struct reserve *r, uint64_t n)
{
  struct farpage_object *o = r->object;

  for (; n > 0; n--, r->dropped++) {
    struct put_page *p = put_find (o, r->first + r->dropped);

    if (p != NULL && !p->dropped)
      put_drop (p);
    else
      swap_give_words (o->swap, r->old[r->dropped], 1);
  }
}

/* The last pages that are built have what they had. */
static void
build_back (struct reserve *r, uint64_t n)
{
  struct swmeta *map = r->object->map;
  int err = 0;

  for (; n > 0; n--) {
    const uint64_t i = --r->built;

    if (r->old[i] != 0)
      err = swmeta_build (map, r->first + i, 1, &r->old[i], ignore, NULL);
    else
      swmeta_free (map, r->first + i, 1, ignore, NULL);
    assert (err == 0); /* replacing needs no memory */
  }
  (void) err;
}

static void
give_back (struct reserve *r, uint64_t n)
{
  for (; n > 0; n--)
    swap_space_return (r->object->swap->space,
                       swmeta_blkno (r->fresh[--r->taken]), 1);
}

/* True: it stands, or there is an error. */
static bool
reserve_forth (struct reserve *r)
{
  uint64_t n = 1;

  while (r->taken < r->count && !r->error &&
         (n = may (r, r->count - r->taken)) > 0)
    r->error = take_some (r, n);
  while (r->taken == r->count && r->built < r->count && !r->error &&
         (n = may (r, r->count - r->built)) > 0)
    r->error = build_some (r, n);
  while (r->built == r->count && r->dropped < r->count &&
         (n = may (r, r->count - r->dropped)) > 0)
    drop_some (r, n);
  return n > 0;
}

/* True: all is as it was. */
static bool
reserve_back (struct reserve *r)
{
  uint64_t n = 1;

  while (r->built > 0 && (n = may (r, r->built)) > 0)
    build_back (r, n);
  while (r->built == 0 && r->taken > 0 && (n = may (r, r->taken)) > 0)
    give_back (r, n);
  return n > 0;
}

static bool
reserve_some (struct step *step)
{
  struct reserve *r = step->arg;
  struct farpage_object *o = r->object;
  struct farpage_swap *s = o->swap;
  bool over = r->error || reserve_forth (r);

  if (over && r->error)
    over = reserve_back (r);
  swap_trim (s, false);
  if (!over)
    return false;
  if (!r->small) {
    o->moving = false;
    o->nr_claimed--;
    swap_wake (s); /* what was parked */
  }
  call_done (&r->call, r->error);
  return true;
}

static void
held_words (const struct step *step, void (*see) (void *arg, uint64_t word),
            void *see_arg)
{
  const struct reserve *r = step->arg;

  for (uint64_t i = r->built; i < r->taken; i++)
    see (see_arg, r->fresh[i]);
  for (uint64_t i = r->dropped; i < r->built; i++)
    see (see_arg, r->old[i]);
}

static bool
try_reserve (struct waiter *w)
{
  struct reserve *r = w->arg;
  struct farpage_object *o = r->object;

  if (o->moving || (!r->small && o->paging > 0))
    return false;
  o->moving = !r->small;
  swap_step (o->swap, &r->step);
  return true;
}

void
reserve_start (struct job *job)
{
  struct reserve *r = (struct reserve *) job;
  struct farpage_swap *s = r->object->swap;

  r->small = r->count <= min_u64 (SWAP_RESERVE_ONCE, s->step_pages);
  r->object->nr_claimed += !r->small;
  r->step = (struct step){ .go = reserve_some, .held = held_words, .arg = r };
  r->waiter.try = try_reserve;
  r->waiter.arg = r;
  r->waiter.what = "a reserve";
  swap_wait (s, &r->waiter);
}

/* ---- copy ---- */

static void
freed (void *arg, const struct swmeta_run *run)
{
  struct farpage_object *src = arg;

  if (swmeta_kind (run->word) == SWMETA_BLOCK) {
    swap_give_words (src->swap, run->word, run->nr_pages);
    return;
  }
  for (uint64_t i = 0; i < run->nr_pages; i++)
    swap_give_words (src->swap, run->word, 1);
}

/* True: all, or there is an error. */
static bool
move_some (struct copy *c)
{
  struct swmeta *src = c->src->map;

  while (c->done < c->nr && !c->error) {
    const uint64_t page = c->off + c->done;
    const uint64_t shard = swmeta_next_shard (src, page / SHARD_PAGES);
    uint64_t n, moved;

    if (shard > (c->off + c->nr - 1) / SHARD_PAGES) {
      c->done = c->nr;
    } else if (shard > page / SHARD_PAGES) {
      c->done = shard * SHARD_PAGES - c->off;
    } else { /* whole swblocks go with their memory */
      n = SWAP_STEP_CHUNK - page % SWAP_STEP_CHUNK;
      n = swap_step_take (c->src->swap, min_u64 (n, c->nr - c->done));
      if (n == 0)
        return false;
      c->error = swmeta_move (c->dst->map, c->done, src, page, n, freed, c->src,
                              &moved);
      c->done += n;
    }
  }
  return true;
}

static void
let_go (struct farpage_object *o)
{
  o->moving = false;
  o->nr_claimed--;
}

static bool
copy_some (struct step *step)
{
  struct copy *c = step->arg;
  struct farpage_swap *s = c->src->swap;

  if (!c->moved) {
    c->moved = move_some (c);
    swap_trim (s, false);
    if (!c->moved)
      return false;
    let_go (c->dst);
    if (c->error || !c->destroy)
      let_go (c->src);
    if (c->error && c->destroy)
      swap_object_relist (c->src);
    swap_wake (s); /* what was parked */
    if (c->error || !c->destroy) {
      call_done (&c->call, c->error);
      return true;
    }
  }
  if (!swap_object_drop (c->src, &c->next, c->src->nr_pages))
    return false;
  swap_trim (s, false);
  let_go (c->src);
  swap_wake (s);
  c->release.call = &c->call;
  c->release.object = c->src;
  swap_object_release (&c->release);
  return true;
}

static bool
try_copy (struct waiter *w)
{
  struct copy *c = w->arg;

  if (c->src->paging > 0 || c->dst->paging > 0 || c->src->moving ||
      c->dst->moving)
    return false;
  c->src->moving = c->dst->moving = true;
  if (c->off < c->src->nr_pages)
    c->nr = min_u64 (c->src->nr_pages - c->off, c->dst->nr_pages);
  c->step = (struct step){ .go = copy_some, .arg = c };
  swap_step (c->src->swap, &c->step);
  return true;
}

void
copy_start (struct job *job)
{
  struct copy *c = (struct copy *) job;

  if (c->destroy)
    swap_object_unlist (c->src);
  c->src->nr_claimed++;
  c->dst->nr_claimed++;
  c->waiter.try = try_copy;
  c->waiter.arg = c;
  c->waiter.what = "a copy";
  swap_wait (c->src->swap, &c->waiter);
}
