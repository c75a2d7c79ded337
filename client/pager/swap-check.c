/* SPDX-License-Identifier: BSD-2-Clause */
/* The recount of a swap pager, for tests: what entries, puts and displaced
 * words name is what the space calls used, each block once; see the invariants
 * at the heads of swap.c, swap-object.c and swap-put.c.
 */

#include <config.h>

#include "swap.h"

#include <stdlib.h>

#include "types.h"

struct recount {
  struct farpage_swap *swap;
  uint8_t *seen; /* a byte a block */
  uint64_t nr;
  const char *wrong;
};

static void
see (struct recount *r, uint64_t word)
{
  const uint64_t blk = swmeta_blkno (word);

  if (word == 0 || r->wrong != NULL)
    return;
  if (blk == 0 || blk >= r->swap->nr_blocks)
    r->wrong = "a block that is none";
  else if (r->seen[blk])
    r->wrong = "a block has two owners";
  else if (!swap_space_is_used (r->swap->space, blk))
    r->wrong = "a block that somebody has is not used";
  if (r->wrong == NULL) {
    r->seen[blk] = 1;
    r->nr++;
  }
}

static void
see_map (struct recount *r, struct farpage_object *o)
{
  uint64_t shard = 0, end;
  struct swmeta_run run;

  for (;; shard++) {
    shard = swmeta_next_shard (o->map, shard);
    if (shard == UINT64_MAX)
      return;
    end = min_u64 ((shard + 1) * SHARD_PAGES, o->nr_pages);
    for (uint64_t p = shard * SHARD_PAGES; p < end; p += run.nr_pages) {
      swmeta_lookup (o->map, p, end - p, &run);
      for (uint64_t i = 0; run.word != 0 && i < run.nr_pages; i++)
        see (r, run_word (&run, i));
    }
  }
}

static void
see_put_page (struct recount *r, const struct put_page *p)
{
  const struct put *put = p->put;
  const uint64_t i = (uint64_t) (p - put->page);
  const uint64_t word = swmeta_word (SWMETA_BLOCK, put->blk + i);

  if (put_find (put->object, put->first + i) != p)
    r->wrong = "a page is in two puts";
  if (p->dropped)
    see (r, word);
  else if (swap_object_word (put->object, put->first + i) != word)
    r->wrong = "the entry of a page that is being put";
  see (r, p->old);
}

static void
see_held (void *arg, uint64_t word)
{
  see (arg, word);
}

static const char *
check_object (const struct farpage_object *o)
{
  const char *wrong = swmeta_check (o->map);

  if (wrong != NULL)
    return wrong;
  if (o->dead && o->listed)
    return "a dead object is listed";
  if (o->nr_puts > 0 && o->paging == 0)
    return "puts of an object that does not page";
  if (o->moving && (o->nr_claimed == 0 || o->paging > 0))
    return "entries move while the object pages";
  return NULL;
}

/* Parked ops are of living objects, and counted there. */
static const char *
check_parked (struct farpage_swap *s)
{
  uint64_t nr_parked = 0, waiting = 0;
  struct op **tail = &s->parked;

  for (struct farpage_object *o = s->objects; o != NULL; o = o->next)
    nr_parked += o->nr_parked;
  for (; *tail != NULL; tail = &(*tail)->next)
    waiting += !(*tail)->begun;
  if (tail != s->parked_tail)
    return "the tail of what is parked";
  return waiting == nr_parked ? NULL : "the count of what is parked";
}

const char *
swap_check (struct farpage_swap *s)
{
  struct recount r = { .swap = s };
  struct swap_space_stat st;

  r.wrong = swap_space_check (s->space);
  r.seen = calloc (1, s->nr_blocks);
  if (r.seen == NULL)
    return r.wrong;
  if (r.wrong == NULL)
    r.wrong = check_parked (s);
  if (r.wrong == NULL)
    r.wrong = bundles_check (s);
  for (struct farpage_object *o = s->objects; o != NULL; o = o->next) {
    if (r.wrong == NULL)
      r.wrong = check_object (o);
    if (r.wrong == NULL)
      see_map (&r, o);
  }
  for (const struct step *t = s->steps; t != NULL; t = t->next)
    if (t->held != NULL)
      t->held (t, see_held, &r);
  for (unsigned i = 0; i < SWAP_PUT_PAGES; i++)
    for (struct put_page *p = s->puts[i]; p != NULL && !r.wrong; p = p->next)
      see_put_page (&r, p);
  swap_space_stat (s->space, &st);
  if (r.wrong == NULL && st.nr_used != r.nr)
    r.wrong = "the count of used blocks";
  free (r.seen);
  return r.wrong;
}
