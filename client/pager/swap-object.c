/* SPDX-License-Identifier: BSD-2-Clause */
/* Objects of a swap pager: the table, their making and their end.  Called by
 * pager.c through the loop, so a search and the making that follows it are one
 * step, and two who make one name get one object.
 *
 *   made: listed (if it has a name), refs 1
 *     --last reference--> unlisted: no one finds it, the name is free
 *     --nothing of it under way--> its blocks are given, in steps
 *     --> its memory is freed
 *
 * A free of a range goes in steps as well.  Between them pages of the range may
 * be got, put and reserved by others: each is freed before or after that.  It
 * waits while a copy or a large reserve is at work on the object.
 *
 * Invariants (swap_check): an object is listed under its name or not found at
 * all; one that is dead is not listed; what an entry names is used and named
 * once.
 */

#include <config.h>

#include "swap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- table ---- */

static struct farpage_object **
head_of (struct farpage_swap *s, const char *name)
{
  uint64_t h = UINT64_C (0xcbf29ce484222325); /* FNV-1a */

  for (; *name != '\0'; name++)
    h = (h ^ (uint8_t) *name) * UINT64_C (0x100000001b3);
  return &s->named[(h ^ h >> 32) % SWAP_NAMES];
}

static struct farpage_object *
find (struct farpage_swap *s, const char *name)
{
  struct farpage_object *o = *head_of (s, name);

  while (o != NULL && strcmp (o->name, name) != 0)
    o = o->next_name;
  return o;
}

static void
enlist (struct farpage_object *o)
{
  struct farpage_swap *s = o->swap;

  o->next = s->objects;
  if (o->next != NULL)
    o->next->prev = o;
  s->objects = o;
  s->nr_objects++;
  swap_object_relist (o);
}

static int
make (struct farpage_swap *s, const char *name, uint64_t nr_pages,
      struct farpage_object **objectp)
{
  struct farpage_object *o;
  int err = ENOMEM;

  if (s->nr_objects >= SWAP_OBJECTS_MAX)
    return ENOMEM;
  o = calloc (1, sizeof *o);
  if (o == NULL)
    return ENOMEM;
  o->swap = s;
  o->nr_pages = nr_pages;
  atomic_init (&o->refs, 1);
  if (name != NULL)
    o->name = strdup (name);
  if (name == NULL || o->name != NULL)
    err = swmeta_create (s->zone, nr_pages, &o->map);
  if (err) {
    free (o->name);
    free (o);
    return err;
  }
  enlist (o);
  *objectp = o;
  return 0;
}

int
swap_object_find_or_make (struct farpage_swap *s, const char *name,
                          uint64_t nr_pages, struct farpage_object **objectp)
{
  struct farpage_object *o = name != NULL ? find (s, name) : NULL;

  if (o == NULL)
    return make (s, name, nr_pages, objectp);
  if (o->nr_pages != nr_pages)
    return EEXIST;
  atomic_fetch_add (&o->refs, 1);
  *objectp = o;
  return 0;
}

void
swap_object_unlist (struct farpage_object *o)
{
  struct farpage_object **p;

  o->dead = true;
  if (!o->listed)
    return;
  for (p = head_of (o->swap, o->name); *p != o; p = &(*p)->next_name)
    ;
  *p = o->next_name;
  o->listed = false;
}

void
swap_object_relist (struct farpage_object *o)
{
  struct farpage_object **head;

  o->dead = false;
  if (o->name == NULL || find (o->swap, o->name) != NULL)
    return; /* another has the name now */
  head = head_of (o->swap, o->name);
  o->next_name = *head;
  *head = o;
  o->listed = true;
}

static void
destroy (struct farpage_object *o)
{
  struct farpage_swap *s = o->swap;

  assert (!o->listed && o->paging == 0 && o->nr_puts == 0);
  assert (swmeta_nr_entries (o->map) == 0);
  if (o->prev != NULL)
    o->prev->next = o->next;
  else
    s->objects = o->next;
  if (o->next != NULL)
    o->next->prev = o->prev;
  s->nr_objects--;
  swmeta_destroy (o->map);
  free (o->name);
  free (o);
}

static bool
destroy_some (struct step *step)
{
  struct release *r = step->arg;
  struct farpage_object *o = r->object;
  struct farpage_swap *s = o->swap;
  const bool all = swap_object_drop (o, &r->next, o->nr_pages);

  swap_trim (s, false);
  if (!all)
    return false;
  destroy (o);
  call_done (r->call, 0);
  return true;
}

static bool
try_destroy (struct waiter *w)
{
  struct release *r = w->arg;
  struct farpage_object *o = r->object;

  if (o->paging > 0 || o->nr_parked > 0 || o->nr_claimed > 0)
    return false;
  r->next = 0;
  r->step = (struct step){ .go = destroy_some, .arg = r };
  swap_step (o->swap, &r->step);
  return true;
}

void
swap_object_release (struct release *r)
{
  struct farpage_object *o = r->object;

  if (atomic_fetch_sub (&o->refs, 1) > 1) {
    call_done (r->call, 0);
    return;
  }
  swap_object_unlist (o);
  r->waiter.try = try_destroy;
  r->waiter.arg = r;
  r->waiter.what = "the end of an object";
  swap_wait (o->swap, &r->waiter);
}

/* ---- entries ---- */

uint64_t
swap_object_word (struct farpage_object *o, uint64_t page)
{
  struct swmeta_run run;

  swmeta_lookup (o->map, page, 1, &run);
  return run.word;
}

void
swap_give_words (struct farpage_swap *s, uint64_t word, uint64_t nr)
{
  if (word == 0)
    return;
  assert (nr == 1 || swmeta_kind (word) == SWMETA_BLOCK);
  swap_space_give (s->space, swmeta_blkno (word), nr);
}

/* Of a page that is being put the entry's block belongs to the put. */
static void
dropped_run (void *arg, const struct swmeta_run *run)
{
  struct farpage_object *o = arg;
  struct put_page *p;

  if (o->nr_puts == 0 && swmeta_kind (run->word) == SWMETA_BLOCK) {
    swap_give_words (o->swap, run->word, run->nr_pages);
    return;
  }
  for (uint64_t i = 0; i < run->nr_pages; i++) {
    p = o->nr_puts > 0 ? put_find (o, run->pgno + i) : NULL;
    if (p != NULL && !p->dropped)
      put_drop (p);
    else
      swap_give_words (o->swap, run_word (run, i), 1);
  }
}

bool
swap_object_drop (struct farpage_object *o, uint64_t *next, uint64_t end)
{
  uint64_t shard, to, n;

  assert (end <= o->nr_pages);
  while (*next < end) {
    shard = swmeta_next_shard (o->map, *next / SHARD_PAGES);
    if (shard > (end - 1) / SHARD_PAGES) {
      *next = end;
      break;
    }
    *next = max_u64 (*next, shard * SHARD_PAGES);
    to = min_u64 (end, (shard + 1) * SHARD_PAGES);
    n = swap_step_take (o->swap, to - *next);
    if (n == 0)
      return false;
    swmeta_free (o->map, *next, n, dropped_run, o);
    *next += n;
  }
  return true;
}
