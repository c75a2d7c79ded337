/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager against a plain model: random operations over three objects,
 * many under way at a time, while a server is killed and started again, if that
 * is wanted.  test-swap-peers.c and test-swap-restart.c run it.
 *
 * The model has a version of each page, or that it has none.  One thread makes
 * the operations, so it knows their order; results come on the loop's thread.
 * A page that is being read is not changed meanwhile: what the read would give
 * is anybody's guess then.  Reads of pages that are being put, and so may fail,
 * are loose: their results are not looked at, but for those of single pages.
 *
 * Where the server forgets all when it is killed, a result may be ERROR from
 * then on, and no content is wrong or zero all the same; when the pager has
 * said that it is lost, each page is ERROR.
 *
 * FARPAGE_SEED, FARPAGE_RANDOM_OPS.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-killer.h"
#include "test-rig.h"
#include "test-swap-model.h"
#include "test-util.h"

#define OBJECTS 3u
#define PAGES   1500u
#define CALL    40u /* pages of one call, at most */
#define CALLS   24u /* under way */
#define ZERO    1u  /* version: reserved, reads as zeros */

struct page {
  uint64_t version; /* what it reads as; 0: nothing */
  uint64_t coming;  /* of the put that is under way; 0: none */
  bool dropped;     /* that put's content is not wanted any more */
  unsigned nr_gets; /* under way that expect what is there */
  unsigned key;     /* whose pattern: moved pages keep theirs */
  uint64_t as;
};

struct call_of {
  struct model *model;
  bool busy, is_put, loose;
  unsigned object, count, req, left;
  uint64_t first;
  uint64_t version; /* put */
  struct {
    uint64_t version, as;
    unsigned key;
  } expect[CALL];
  uint8_t *mem;
  void *addr[CALL];
};

struct model {
  struct rig rig;
  pthread_mutex_t mutex; /* all below, but what only the test's thread has */
  pthread_cond_t cond;
  struct farpage_object *object[OBJECTS];
  struct page page[OBJECTS][PAGES];
  struct call_of call[CALLS];
  unsigned nr_busy;
  uint64_t random, next_version;
  bool forgets; /* [const] */
  struct killer killer;
  uint64_t nr_result[FARPAGE_AGAIN + 1];
  uint64_t nr_wrong;
};

static uint64_t
rnd (struct model *m, uint64_t below)
{
  return test_random_below (&m->random, below);
}

/* ---- results; on the loop's thread, which must not end the test ---- */

static void
wrong (struct model *m, const char *what, const struct call_of *c,
       uint64_t page, enum farpage_result result)
{
  m->nr_wrong++;
  print_message ("%s: object %u page %lu result %d\n", what, c->object,
                 (unsigned long) page, result);
}

static bool
is_zero (const uint8_t *p)
{
  return p[0] == 0 && memcmp (p, p + 1, PAGE - 1) == 0;
}

/* Of a loose read only its memory is looked at, by the sanitizers. */
static void
got (struct model *m, struct call_of *c, unsigned i, enum farpage_result result)
{
  struct page *p = &m->page[c->object][c->first + i];
  const uint64_t version = c->expect[i].version;

  if (c->loose)
    return;
  p->nr_gets--;
  if (result == FARPAGE_ERROR && m->forgets)
    return;
  if (result == FARPAGE_AGAIN) {
    if (i == c->req)
      wrong (m, "given back what was wanted", c, c->first + i, result);
  } else if (result == FARPAGE_FAIL) {
    if (version != 0)
      wrong (m, "a page is not there", c, c->first + i, result);
  } else if (result != FARPAGE_OK) {
    wrong (m, "get", c, c->first + i, result);
  } else if (version == 0) {
    wrong (m, "a page that is not there", c, c->first + i, result);
  } else if (version == ZERO ? !is_zero (c->addr[i])
                             : !rig_is (c->addr[i], c->expect[i].key,
                                        c->expect[i].as, version)) {
    wrong (m, "wrong content", c, c->first + i, result);
  }
}

static void
was_put (struct model *m, struct call_of *c, unsigned i,
         enum farpage_result result)
{
  struct page *p = &m->page[c->object][c->first + i];

  if (result != FARPAGE_OK && result != FARPAGE_FAIL &&
      (result != FARPAGE_ERROR || !m->forgets))
    wrong (m, "put", c, c->first + i, result);
  if (result == FARPAGE_OK && !p->dropped) {
    p->version = c->version;
    p->key = c->object;
    p->as = c->first + i;
  }
  p->coming = 0;
  p->dropped = false;
}

static void
on_page (void *arg, uint64_t page, enum farpage_result result)
{
  struct call_of *c = arg;
  struct model *m = c->model;

  pthread_mutex_lock (&m->mutex);
  m->nr_result[result]++;
  atomic_fetch_add (&m->killer.progress, 1);
  if (c->is_put)
    was_put (m, c, page - c->first, result);
  else
    got (m, c, page - c->first, result);
  if (--c->left == 0) {
    c->busy = false;
    m->nr_busy--;
    pthread_cond_signal (&m->cond);
  }
  pthread_mutex_unlock (&m->mutex);
}

/* ---- operations; mutex held, but for calls that wait ---- */

static struct call_of *
get_call (struct model *m)
{
  struct call_of *c = m->call;

  while (m->nr_busy == CALLS)
    pthread_cond_wait (&m->cond, &m->mutex);
  while (c->busy)
    c++;
  c->object = rnd (m, OBJECTS);
  c->count = 1 + rnd (m, rnd (m, 3) == 0 ? CALL : 8);
  c->first = rnd (m, PAGES - c->count);
  c->loose = false;
  if (rnd (m, 2) == 0) /* neighbours meet more often */
    c->first = c->first / 64 * 64;
  for (unsigned i = 0; i < c->count; i++) {
    unsigned at = rnd (m, 8) == 0 ? i * 2 : i; /* in pieces, now and then */

    c->addr[i] = c->mem + (size_t) at * PAGE;
  }
  for (unsigned i = 1; i < c->count; i++)
    if ((char *) c->addr[i] <= (char *) c->addr[i - 1])
      c->addr[i] = (char *) c->addr[i - 1] + PAGE;
  return c;
}

static void
begin (struct model *m, struct call_of *c, bool is_put)
{
  c->is_put = is_put;
  c->left = c->count;
  c->busy = true;
  m->nr_busy++;
}

static void
do_put (struct model *m)
{
  struct call_of *c = get_call (m);
  int err;

  for (unsigned i = 0; i < c->count; i++)
    if (m->page[c->object][c->first + i].nr_gets > 0 ||
        m->page[c->object][c->first + i].coming != 0)
      return;
  c->version = ++m->next_version;
  for (unsigned i = 0; i < c->count; i++) {
    struct page *p = &m->page[c->object][c->first + i];

    rig_fill (c->addr[i], c->object, c->first + i, c->version);
    p->coming = c->version;
  }
  begin (m, c, true);
  err = farpage_aio_putpages (m->object[c->object], c->first, c->count, c->addr,
                              rnd (m, 4) == 0 ? FARPAGE_SYNC : 0, on_page, c);
  assert_int_equal (err, 0);
}

static void
do_get (struct model *m)
{
  struct call_of *c = get_call (m);
  int err;

  c->req = rnd (m, c->count);
  /* of a put that may still fail nobody knows */
  for (unsigned i = 0; i < c->count; i++)
    c->loose = c->loose || m->page[c->object][c->first + i].coming != 0;
  for (unsigned i = 0; !c->loose && i < c->count; i++) {
    struct page *p = &m->page[c->object][c->first + i];

    c->expect[i].version = p->version;
    c->expect[i].key = p->key;
    c->expect[i].as = p->as;
    p->nr_gets++;
  }
  begin (m, c, false);
  err = farpage_aio_getpages (m->object[c->object], c->first, c->count, c->req,
                              c->addr, rnd (m, 4) == 0 ? FARPAGE_AHEAD : 0,
                              on_page, c);
  assert_int_equal (err, 0);
}

/* A get of one page whose put is under way has that put's content. */
static void
do_get_coming (struct model *m)
{
  const unsigned object = rnd (m, OBJECTS);
  enum farpage_result result;
  static uint8_t mem[PAGE];
  void *addr = mem;
  uint64_t page, version = 0, after;
  struct page *p = NULL;

  for (unsigned i = 0; i < 50 && version == 0; i++) {
    page = rnd (m, PAGES);
    p = &m->page[object][page];
    version = p->dropped ? 0 : p->coming;
  }
  if (version == 0)
    return;
  pthread_mutex_unlock (&m->mutex);
  assert_int_equal (
      farpage_getpages (m->object[object], page, 1, 0, &addr, &result), 0);
  pthread_mutex_lock (&m->mutex);
  after = p->coming != 0 ? p->coming : p->version;
  if (after != version || (m->forgets && result == FARPAGE_ERROR))
    return; /* it had no space, or all is lost */
  assert_int_equal (result, FARPAGE_OK);
  assert_true (rig_is (mem, object, page, version));
}

static bool
are_read (struct model *m, unsigned object, uint64_t first, uint64_t count)
{
  for (uint64_t i = first; i < first + count; i++)
    if (m->page[object][i].nr_gets > 0)
      return true;
  return false;
}

static void
set (struct model *m, unsigned object, uint64_t page, uint64_t version)
{
  struct page *p = &m->page[object][page];

  p->version = version;
  if (p->coming != 0)
    p->dropped = true;
}

static void
do_free (struct model *m)
{
  const unsigned object = rnd (m, OBJECTS);
  const uint64_t count = 1 + rnd (m, rnd (m, 6) == 0 ? 600 : 30);
  const uint64_t first = rnd (m, PAGES - count + 1);

  if (are_read (m, object, first, count))
    return;
  /* first in the model: results of puts may come before the call's end */
  for (uint64_t i = first; i < first + count; i++)
    set (m, object, i, 0);
  pthread_mutex_unlock (&m->mutex);
  if (count == 1)
    assert_int_equal (farpage_unswapped (m->object[object], first), 0);
  else
    assert_int_equal (farpage_freespace (m->object[object], first, count), 0);
  pthread_mutex_lock (&m->mutex);
}

static void
drain (struct model *m)
{
  while (m->nr_busy > 0)
    pthread_cond_wait (&m->cond, &m->mutex);
}

static void
do_reserve (struct model *m)
{
  const unsigned object = rnd (m, OBJECTS);
  const uint64_t count = 1 + rnd (m, 100);
  const uint64_t first = rnd (m, PAGES - count + 1);
  int err;

  drain (m);
  err = farpage_reserve (m->object[object], first, count);
  if (err == ENOSPC)
    return;
  assert_int_equal (err, 0);
  for (uint64_t i = first; i < first + count; i++)
    set (m, object, i, ZERO);
}

/* The model's copy happens when the call is over: it waits for all that was
 * under way, and nothing begins meanwhile.
 */
static void
do_copy (struct model *m)
{
  const unsigned from = rnd (m, OBJECTS), to = (from + 1 + rnd (m, 2)) % 3;
  const bool destroy = rnd (m, 2) == 0;
  const uint64_t off = rnd (m, PAGES);

  pthread_mutex_unlock (&m->mutex);
  assert_int_equal (farpage_copy (m->object[from], m->object[to], off,
                                  destroy ? FARPAGE_DESTROY : 0),
                    0);
  pthread_mutex_lock (&m->mutex);
  for (uint64_t i = off; i < PAGES; i++) {
    struct page *s = &m->page[from][i], *d = &m->page[to][i - off];

    if (d->version == 0) {
      d->version = s->version;
      d->key = s->key;
      d->as = s->as;
    }
    s->version = 0;
  }
  for (uint64_t i = 0; destroy && i < PAGES; i++)
    m->page[from][i].version = 0;
  if (!destroy)
    return;
  pthread_mutex_unlock (&m->mutex);
  assert_int_equal (
      farpage_alloc (m->rig.swap, NULL, 0, PAGES * PAGE, &m->object[from]), 0);
  pthread_mutex_lock (&m->mutex);
}

static void
do_has (struct model *m)
{
  const unsigned object = rnd (m, OBJECTS);
  const uint64_t page = rnd (m, PAGES);
  const struct page *p = &m->page[object][page];
  const bool sure = p->coming == 0, has = p->version != 0;

  pthread_mutex_unlock (&m->mutex);
  if (sure)
    assert_int_equal (farpage_haspage (m->object[object], page, NULL, NULL),
                      has);
  pthread_mutex_lock (&m->mutex);
}

static void
step (struct model *m)
{
  const unsigned op = rnd (m, 1000);

  if (op < 400)
    do_put (m);
  else if (op < 800)
    do_get (m);
  else if (op < 840)
    do_get_coming (m);
  else if (op < 960)
    do_free (m);
  else if (op < 990)
    do_has (m);
  else if (op < 993)
    do_copy (m);
  else if (op < 997)
    do_reserve (m);
  else {
    pthread_mutex_unlock (&m->mutex);
    rig_check (&m->rig);
    pthread_mutex_lock (&m->mutex);
  }
}

/* All pages, one after the other; all is lost: each is ERROR. */
static void
read_all (struct model *m, bool lost)
{
  enum farpage_result result;
  static uint8_t mem[PAGE];
  void *addr = mem;

  for (unsigned o = 0; o < OBJECTS; o++)
    for (uint64_t i = 0; i < PAGES; i++) {
      const struct page *p = &m->page[o][i];

      assert_int_equal (
          farpage_getpages (m->object[o], i, 1, 0, &addr, &result), 0);
      assert_int_equal (result, lost         ? FARPAGE_ERROR
                                : p->version ? FARPAGE_OK
                                             : FARPAGE_FAIL);
      if (lost)
        continue;
      if (p->version == ZERO)
        assert_true (is_zero (mem));
      else if (p->version != 0)
        assert_true (rig_is (mem, p->key, p->as, p->version));
    }
}

/* ---- a run ---- */

static struct model *
begin_model (const struct model_plan *plan)
{
  struct model *m = calloc (1, sizeof *m);

  if (!rig_start (&m->rig, plan->kind, plan->size, plan->filter, NULL)) {
    free (m);
    skip ();
  }
  m->random = test_seed () * 2 + 1;
  m->next_version = ZERO;
  m->forgets = plan->forgets;
  pthread_mutex_init (&m->mutex, NULL);
  pthread_cond_init (&m->cond, NULL);
  for (unsigned i = 0; i < OBJECTS; i++)
    assert_int_equal (
        farpage_alloc (m->rig.swap, NULL, 0, PAGES * PAGE, &m->object[i]), 0);
  for (unsigned i = 0; i < CALLS; i++) {
    m->call[i].model = m;
    m->call[i].mem = malloc (2 * CALL * PAGE);
  }
  return m;
}

static bool
is_lost (struct model *m)
{
  return atomic_load (&m->rig.events[FARPAGE_LOST]) > 0;
}

/* Until the operations are done and the server was killed so often, or, if it
 * forgets, until that is known.
 */
static bool
goes_on (struct model *m, const struct model_plan *plan, uint64_t i)
{
  if (m->nr_wrong > 0)
    return false;
  if (plan->forgets)
    return !is_lost (m) && i < 1000000;
  return i < plan->nr_ops || !killer_is_over (&m->killer);
}

static void
steps (struct model *m, const struct model_plan *plan)
{
  killer_begin (&m->killer, &m->rig.server, plan->nr_restarts, m->random);
  pthread_mutex_lock (&m->mutex);
  for (uint64_t i = 0; goes_on (m, plan, i); i++)
    step (m);
  drain (m);
  pthread_mutex_unlock (&m->mutex);
  assert_int_equal (m->nr_wrong, 0);
  killer_wait (&m->killer);
  rig_check (&m->rig);
}

static void
tell_result (struct model *m, const struct model_plan *plan)
{
  struct farpage_stat st;

  rig_stat (&m->rig, &st);
  print_message ("%s: OK %lu, FAIL %lu, AGAIN %lu, ERROR %lu; killed %u times: "
                 "%lu sent again, %lu of them elsewhere\n",
                 server_names[plan->kind],
                 (unsigned long) m->nr_result[FARPAGE_OK],
                 (unsigned long) m->nr_result[FARPAGE_FAIL],
                 (unsigned long) m->nr_result[FARPAGE_AGAIN],
                 (unsigned long) m->nr_result[FARPAGE_ERROR], plan->nr_restarts,
                 (unsigned long) st.replayed, (unsigned long) st.elsewhere);
  assert_int_equal (st.lost, plan->forgets);
  if (plan->nr_restarts > 0 && !plan->forgets) {
    assert_true (st.replayed > 0);
    assert_true (atomic_load (&m->rig.events[FARPAGE_CONNECTED]) >=
                 plan->nr_restarts);
  }
}

void
model_run (const struct model_plan *plan)
{
  struct model *m = begin_model (plan);

  steps (m, plan);
  read_all (m, plan->forgets);
  tell_result (m, plan);
  for (unsigned i = 0; i < OBJECTS; i++)
    assert_int_equal (farpage_dealloc (m->object[i]), 0);
  rig_end (&m->rig);
  killer_end (&m->killer);
  for (unsigned i = 0; i < CALLS; i++)
    free (m->call[i].mem);
  free (m);
}

uint64_t
model_ops (uint64_t otherwise)
{
  return test_environment ("FARPAGE_RANDOM_OPS", otherwise);
}
