/* SPDX-License-Identifier: BSD-2-Clause */
/* putpages.  Called by the loop with an op; calls the space and the link.
 *
 *   pages that wait --take, build--> put --answered, flushed--> OK
 *        ^                            | failed, the first time: other blocks
 *        +----------------------------+ failed again: as before, ERROR
 *
 * Pages go to fresh blocks always, as the biggest run there is, halved down to
 * 4.  No such run: these pages FAIL, and it goes on with the rest at full size.
 * Their entries name the new blocks at once; what they displaced is kept in
 * the put and given when the put has ended well, or built back.
 *
 * Invariants (swap_check):
 * P1. A page is in one put at most; one that is and was not dropped has the
 *     entry blk + its place in the put.
 * P2. Blocks of a put are used, and named by no other entry.
 * P3. The caller's memory is read only while the page has no result.
 *
 * A page whose entry is taken out meanwhile (freespace, unswapped, reserve) is
 * dropped: what it displaced is given then, its block when the put ends.  Its
 * result is the put's all the same.
 *
 * A run that failed is retired.  One whose connection was lost may still land:
 * it goes to limbo.  One whose deadline came before it left is free.
 *
 * Replacing an entry needs no memory, so to go back cannot fail.  What wants
 * memory comes before anything is changed, and without it the page is the
 * caller's as before: AGAIN.
 */

#include <config.h>

#include "swap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

#define FAIL_PAGES 4u /* of a run that has no space */

/* ---- which pages are being put ---- */

static struct put_page **
head_of (const struct farpage_object *o, uint64_t page)
{
  uint64_t h = ((uintptr_t) o >> 4) * UINT64_C (0x9e3779b97f4a7c15) + page;

  return &o->swap->puts[(h ^ h >> 40) % SWAP_PUT_PAGES];
}

static uint64_t
page_of (const struct put_page *p)
{
  return p->put->first + (uint64_t) (p - p->put->page);
}

struct put_page *
put_find (const struct farpage_object *o, uint64_t page)
{
  struct put_page *p = o->nr_puts > 0 ? *head_of (o, page) : NULL;

  while (p != NULL && (p->put->object != o || page_of (p) != page))
    p = p->next;
  return p;
}

void *
put_addr (const struct put_page *p)
{
  return p->put->op->addr[page_of (p) - p->put->op->first];
}

static void
hash_pages (struct put *put)
{
  for (unsigned i = 0; i < put->nr; i++) {
    struct put_page **head = head_of (put->object, put->first + i);

    put->page[i].next = *head;
    *head = &put->page[i];
  }
  put->object->nr_puts++;
}

static void
unhash_pages (struct put *put)
{
  for (unsigned i = 0; i < put->nr; i++) {
    struct put_page **p = head_of (put->object, put->first + i);

    while (*p != &put->page[i])
      p = &(*p)->next;
    *p = put->page[i].next;
  }
  put->object->nr_puts--;
}

void
put_drop (struct put_page *p)
{
  assert (!p->dropped);
  p->dropped = true;
  swap_give_words (p->put->object->swap, p->old, 1);
  p->old = 0;
}

/* ---- entries ---- */

static void
keep_old (void *arg, const struct swmeta_run *run)
{
  struct put *put = arg;

  for (uint64_t i = 0; i < run->nr_pages; i++)
    put->page[run->pgno + i - put->first].old = run_word (run, i);
}

static void
ignore (void *arg, const struct swmeta_run *run)
{
  (void) arg;
  (void) run;
}

/* Pages [0, nr) of the put have what they had before it. */
static void
put_restore (struct put *put, unsigned nr)
{
  struct swmeta *map = put->object->map;

  for (unsigned i = 0; i < nr; i++) {
    struct put_page *p = &put->page[i];
    int err = 0;

    if (p->dropped)
      continue;
    if (p->old != 0)
      err = swmeta_build (map, put->first + i, 1, &p->old, ignore, NULL);
    else
      swmeta_free (map, put->first + i, 1, ignore, NULL);
    assert (err == 0);
    (void) err;
    p->old = 0;
  }
}

/* Pages that were not dropped get blocks from blk on.  ENOMEM: as before; not
 * if they have entries already.
 */
static int
put_build (struct put *put, uint64_t blk, swmeta_run_fn displaced)
{
  unsigned i = 0;

  while (i < put->nr) {
    uint64_t words[FARPAGE_CLUSTER_MAX];
    unsigned n = 0;
    int err;

    while (i + n < put->nr && !put->page[i + n].dropped &&
           (n == 0 || (put->first + i + n) % SHARD_PAGES != 0)) {
      words[n] = swmeta_word (SWMETA_BLOCK, blk + i + n);
      n++;
    }
    err = n == 0 ? 0
                 : swmeta_build (put->object->map, put->first + i, n, words,
                                 displaced, put);
    if (err) {
      put_restore (put, i);
      return err;
    }
    i += n > 0 ? n : 1;
  }
  return 0;
}

/* ---- the end ---- */

static void put_rows (struct op *op, unsigned from, unsigned nr, bool tried);

/* The blocks are right: what was displaced goes, and what was dropped. */
static void
put_finish (struct put *put)
{
  struct farpage_swap *s = put->object->swap;

  for (unsigned i = 0; i < put->nr; i++) {
    struct put_page *p = &put->page[i];
    unsigned n = 1;

    if (p->dropped) {
      swap_space_give (s->space, put->blk + i, 1);
      continue;
    }
    while (swmeta_kind (p->old) == SWMETA_BLOCK && i + n < put->nr &&
           put->page[i + n].old == p->old + n)
      n++;
    swap_give_words (s, p->old, n);
    i += n - 1;
  }
}

/* Its blocks are not to be used: elsewhere, if that may help; what was dropped
 * needs no place.
 */
static void
put_failed (struct put *put, int error)
{
  struct farpage_swap *s = put->object->swap;
  struct op *op = put->op;
  const unsigned from = put->first - op->first, nr = put->nr;
  const bool again = put->astray || (!put->tried && error != ETIMEDOUT);
  const bool tried = put->tried || !put->astray;
  unsigned n;

  put_restore (put, nr);
  if (put->stayed)
    swap_space_return (s->space, put->blk, nr);
  else if (put->astray || error == ETIMEDOUT)
    swap_space_limbo (s->space, put->blk, nr);
  else
    swap_space_retire (s->space, put->blk, nr);
  for (unsigned i = 0; i < nr; i += n) {
    for (n = 1; i + n < nr && put->page[i + n].dropped == put->page[i].dropped;
         n++)
      ;
    if (put->page[i].dropped)
      op_results (op, from + i, from + i + n, FARPAGE_OK);
    else if (again && !s->lost)
      put_rows (op, from + i, n, tried);
    else
      op_results (op, from + i, from + i + n, FARPAGE_ERROR);
  }
  s->nr_failed += nr;
}

void
put_ended (struct put *put, int error)
{
  struct op *op = put->op;
  struct farpage_swap *s = put->object->swap;
  const unsigned from = put->first - op->first;

  unhash_pages (put);
  if (error == 0 && !s->lost) {
    put_finish (put);
    s->nr_put += put->nr;
    op_results (op, from, from + put->nr, FARPAGE_OK);
  } else {
    put_failed (put, error);
  }
  free (put);
  s->nr_requests--;
  op_release (op);
}

void
put_move (struct put *put, uint64_t blk)
{
  int err = put_build (put, blk, ignore);

  assert (err == 0); /* it has entries already */
  (void) err;
  put->blk = blk;
}

/* ---- the begin ---- */

/* NULL: no memory. */
static struct put *
put_make (struct op *op, unsigned from, unsigned nr)
{
  struct put *put = calloc (1, sizeof *put + nr * sizeof put->page[0]);

  if (put == NULL)
    return NULL;
  put->op = op;
  put->object = op->object;
  put->first = op->first + from;
  put->nr = nr;
  for (unsigned i = 0; i < nr; i++)
    put->page[i].put = put;
  return put;
}

/* Its entries name blk and what follows, and it is in a bundle. */
static int
put_start (struct put *put, uint64_t blk, bool tried)
{
  struct op *op = put->op;
  int err = put_build (put, blk, keep_old);

  if (err)
    return err;
  put->blk = blk;
  put->tried = tried;
  hash_pages (put);
  op->nr_left++;
  op->object->swap->nr_requests++;
  err = bundle_add (put, (op->flags & FARPAGE_SYNC) != 0);
  if (err) {
    op->object->swap->nr_requests--;
    op->nr_left--;
    unhash_pages (put);
    put_restore (put, put->nr);
  }
  return err;
}

/* One run for some of the pages [from, from + nr), none of which is being put;
 * how many of them that deals with.
 */
static unsigned
put_run (struct op *op, unsigned from, unsigned nr, bool tried)
{
  struct farpage_swap *s = op->object->swap;
  struct put *put;
  uint64_t blk, n;

  if (swap_space_take (s->space, min_u64 (nr, s->cluster), &blk, &n) != 0) {
    nr = min_u64 (nr, FAIL_PAGES);
    op_results (op, from, from + nr, FARPAGE_FAIL);
    return nr;
  }
  put = put_make (op, from, n);
  if (put != NULL && put_start (put, blk, tried) == 0)
    return n;
  free (put);
  swap_space_return (s->space, blk, n);
  op_results (op, from, from + nr, FARPAGE_AGAIN);
  return nr;
}

static void
put_rows (struct op *op, unsigned from, unsigned nr, bool tried)
{
  while (nr > 0) {
    unsigned n = put_run (op, from, nr, tried);

    from += n;
    nr -= n;
  }
}

/* Deal with pages from op.next_page on; false: not now. */
static bool
put_some (struct op *op)
{
  struct farpage_object *o = op->object;
  const unsigned i = op->next_page;
  unsigned n = 1;

  if (!op_has (op, i)) {
    op_result (op, i, FARPAGE_BAD);
  } else if (put_find (o, op->first + i) != NULL) {
    if (op->flags & OP_WAITS)
      return false;
    op_result (op, i, FARPAGE_AGAIN);
  } else if (o->swap->nr_requests >= SWAP_REQUESTS_MAX) {
    return false;
  } else {
    while (i + n < op->count && n < o->swap->cluster && op_has (op, i + n) &&
           put_find (o, op->first + i + n) == NULL)
      n++;
    n = put_run (op, i, n, false);
  }
  op->next_page += n;
  return true;
}

void
put_go (struct op *op)
{
  struct farpage_object *o = op->object;

  if (!op_begin (op))
    return;
  while (op->next_page < op->count) {
    if (o->dead || o->swap->lost) {
      unsigned from = op->next_page;

      op->next_page = op->count;
      for (; from < op->count; from++)
        op_result (op, from, FARPAGE_ERROR);
    } else if (!put_some (op)) {
      op_park (op);
      return;
    }
  }
  op_release (op);
}
