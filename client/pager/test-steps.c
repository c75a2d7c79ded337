/* SPDX-License-Identifier: BSD-2-Clause */
/* Long calls in steps: what a demand read waits for beside one, that each is
 * whole or undone, and what is asked meanwhile.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <ev.h>

#include "test-rig.h"

static uint64_t
nr_used (struct rig *r)
{
  struct farpage_stat st;

  rig_check (r);
  rig_stat (r, &st);
  return st.blocks_used;
}

/* ---- a demand read beside one ---- */

#define HUGE_PAGES  (UINT64_C (1) << 21) /* 8 GiB, no two in one run */
#define HUGE_BLOCKS (3 * HUGE_PAGES)
/* Of a turn; twice that is much less than the 20 ms that a read may wait.  Not
 * with sanitizers, whose work counts too.
 */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define BOUND_US 60000u
#else
#define BOUND_US 6000u
#endif

struct filling {
  struct farpage_object *object;
  uint64_t *words;
};

static void
fail_on_displaced (void *arg, const struct swmeta_run *run)
{
  (void) arg;
  (void) run;
  abort ();
}

/* All pages of the object have blocks, the last page the first, and beside each
 * one is a free one: so nothing of it ever makes a row.
 */
static void
fill_map (void *arg)
{
  struct filling *f = arg;
  struct farpage_swap *s = f->object->swap;
  uint64_t left = 2 * HUGE_PAGES, blk, nr;

  while (left > 0) {
    if (swap_space_take_any (s->space, left, &blk, &nr) != 0)
      abort ();
    for (; nr > 0; nr--, blk++)
      if (--left % 2 == 0)
        f->words[left / 2] = swmeta_word (SWMETA_BLOCK, blk);
      else
        swap_space_return (s->space, blk, 1);
  }
  for (uint64_t i = 0; i < HUGE_PAGES; i += SHARD_PAGES)
    if (swmeta_build (f->object->map, i, SHARD_PAGES, &f->words[i],
                      fail_on_displaced, NULL) != 0)
      abort ();
}

static struct farpage_object *
make_huge (struct rig *r)
{
  struct filling f = { .object = rig_make (r, NULL, HUGE_PAGES) };

  f.words = malloc (HUGE_PAGES * sizeof *f.words);
  assert_int_equal (loop_call (r->swap->loop, fill_map, &f), 0);
  free (f.words);
  return f.object;
}

enum long_call {
  DEALLOC,
  FREESPACE,
  RESERVE,
  COPY,
  LONG_CALLS
};

static const char *const call_names[LONG_CALLS] = { "dealloc", "freespace",
                                                    "reserve", "copy" };

struct caller {
  pthread_t thread;
  enum long_call call;
  struct farpage_object *object, *to;
  int err;
  uint64_t us;
  atomic_bool done;
};

static void *
call_long (void *arg)
{
  struct caller *c = arg;
  uint64_t begin_us = net_now_us ();

  switch (c->call) {
  case DEALLOC:
    c->err = farpage_dealloc (c->object);
    break;
  case FREESPACE:
    c->err = farpage_freespace (c->object, 0, HUGE_PAGES);
    break;
  case RESERVE:
    c->err = farpage_reserve (c->object, 0, HUGE_PAGES);
    break;
  default:
    c->err = farpage_copy (c->object, c->to, 1, 0); /* entry by entry */
  }
  c->us = net_now_us () - begin_us;
  atomic_store (&c->done, true);
  return NULL;
}

/* How long the loop's thread works in one turn, by its own clock: so this says
 * something on a machine that has others to serve, too.  A read waits for the
 * turn it is asked for in and the one it is answered in.
 */
struct probe {
  struct ev_loop *ev;
  ev_prepare turn;
  uint64_t since_us, most_us;
};

static uint64_t
work_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
on_turn (struct ev_loop *ev, ev_prepare *w, int revents)
{
  struct probe *p = w->data;
  const uint64_t us = work_us ();

  (void) ev;
  (void) revents;
  if (us - p->since_us > p->most_us)
    p->most_us = us - p->since_us;
  p->since_us = us;
}

static void
start_probe (void *arg)
{
  struct probe *p = arg;

  ev_prepare_init (&p->turn, on_turn);
  p->turn.data = p;
  p->since_us = work_us ();
  ev_prepare_start (p->ev, &p->turn);
}

static void
stop_probe (void *arg)
{
  struct probe *p = arg;

  ev_prepare_stop (p->ev, &p->turn);
}

static uint64_t
read_beside (struct rig *r, struct farpage_object *o, struct caller *c)
{
  struct probe p = { .ev = loop_ev (r->swap->loop) };
  uint64_t most_us = 0, nr = 0;

  assert_int_equal (loop_call (r->swap->loop, start_probe, &p), 0);
  pthread_create (&c->thread, NULL, call_long, c);
  while (!atomic_load (&c->done)) {
    uint64_t us = net_now_us ();

    assert_int_equal (rig_get (r, o, 0), FARPAGE_OK);
    us = net_now_us () - us;
    most_us = us > most_us ? us : most_us;
    nr++;
  }
  pthread_join (c->thread, NULL);
  assert_int_equal (loop_call (r->swap->loop, stop_probe, &p), 0);
  assert_int_equal (c->err, 0);
  print_message ("%s of %lu pages: %.0f ms; %lu reads beside it, of %.1f ms at "
                 "most; the longest turn of the loop: %.1f ms\n",
                 call_names[c->call], (unsigned long) HUGE_PAGES, c->us / 1e3,
                 (unsigned long) nr, most_us / 1e3, p.most_us / 1e3);
  return p.most_us;
}

/* What reads held back is moved on though nobody asks for anything. */
static void
wait_tidy (struct rig *r)
{
  struct farpage_stat st = { .blocks_waiting = 1 };

  for (unsigned i = 0; i < 500 && st.blocks_waiting > 0; i++) {
    rig_stat (r, &st);
    net_sleep_ms (10);
  }
  assert_int_equal (st.blocks_waiting, 0);
}

/* The server takes its time, so that there is much that reads hold back.
 * Returns the longest turn.
 */
static uint64_t
call_beside (enum long_call call)
{
  struct rig r = { .link = NULL };
  struct caller c = { .call = call };
  struct farpage_object *o;
  uint64_t us;

  assert_true (rig_start (&r, SERVER_MEMORY, HUGE_BLOCKS * PAGE,
                          "delay rdelay=50ms", NULL));
  o = rig_make (&r, NULL, 1);
  assert_int_equal (rig_put (&r, o, 1, 0, 1, 1), FARPAGE_OK);
  c.object = make_huge (&r);
  if (c.call == COPY)
    c.to = rig_make (&r, NULL, HUGE_PAGES);
  us = read_beside (&r, o, &c);
  if (c.call != DEALLOC)
    assert_int_equal (farpage_dealloc (c.object), 0);
  if (c.call == COPY)
    assert_int_equal (farpage_dealloc (c.to), 0);
  rig_assert_has (&r, o, 0, 1, 0, 1);
  wait_tidy (&r);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
  return us;
}

/* A turn that is too long is so each time.  One that touches memory which the
 * machine has to find first, or its host, is too long once.
 */
static void
test_beside (void **state)
{
  uint64_t us = UINT64_MAX;

  for (unsigned round = 0; round < 4 && us > BOUND_US; round++)
    us = call_beside (*(enum long_call *) *state);
  assert_in_range (us, 0, BOUND_US);
}

/* ---- whole, or undone ---- */

struct reader {
  pthread_t thread;
  struct farpage_object *object;
  uint64_t page, as;
  uint8_t mem[PAGE];
  enum farpage_result result;
};

static void *
reads (void *arg)
{
  struct reader *rd = arg;
  void *addr = rd->mem;

  net_sleep_ms (1);
  assert_int_equal (
      farpage_getpages (rd->object, rd->page, 1, 0, &addr, &rd->result), 0);
  return NULL;
}

static void
start_reader (struct reader *rd, struct farpage_object *o, uint64_t page,
              uint64_t as)
{
  rd->object = o;
  rd->page = page;
  rd->as = as;
  pthread_create (&rd->thread, NULL, reads, rd);
}

static void
end_reader (struct reader *rd)
{
  pthread_join (rd->thread, NULL);
  assert_int_equal (rd->result, FARPAGE_OK);
  assert_true (rig_is (rd->mem, 1, rd->as, 0));
}

static void
assert_pages (struct rig *r, struct farpage_object *o, uint64_t first,
              unsigned nr)
{
  for (uint64_t i = first; i < first + nr; i++)
    rig_assert_has (r, o, i, 1, i, 0);
}

/* A call on a thread of its own, in the order in which they are begun while the
 * loop stands still.
 */
struct asker {
  pthread_t thread;
  struct farpage_object *object, *to; /* to: copy */
  uint64_t first, count, off;
  bool reserves;
  int err;
};

static void *
asks (void *arg)
{
  struct asker *a = arg;

  if (a->to != NULL)
    a->err = farpage_copy (a->object, a->to, a->off, FARPAGE_DESTROY);
  else if (a->reserves)
    a->err = farpage_reserve (a->object, a->first, a->count);
  else
    a->err = farpage_freespace (a->object, a->first, a->count);
  return NULL;
}

static void
ask (struct asker *a)
{
  pthread_create (&a->thread, NULL, asks, a);
  net_sleep_ms (20);
}

/* What is asked of pages that a reserve is at work on comes after it, which
 * fails here and is undone.
 */
static void
test_overlap (void **state)
{
  struct rig r = { .link = NULL };
  struct asker a[3] = { { .reserves = true, .count = 7901 },
                        { .first = 100, .count = 10 },
                        { .reserves = true, .first = 120, .count = 8 } };
  struct farpage_object *o;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 8001 * PAGE, NULL, NULL));
  rig_small_steps (&r);
  o = rig_make (&r, NULL, 20000);
  assert_int_equal (rig_put (&r, o, 1, 100, 101, 0), FARPAGE_OK);
  for (unsigned round = 0; round < 2; round++) {
    /* no space; then it stands, and they come after that */
    a[0].count = round == 0 ? 7901 : 5000;
    rig_hold (&r);
    for (unsigned i = 0; i < 3; i++) {
      a[i].object = o;
      ask (&a[i]);
    }
    rig_let_go (&r);
    for (unsigned i = 0; i < 3; i++)
      pthread_join (a[i].thread, NULL);
    assert_int_equal (a[0].err, round == 0 ? ENOSPC : 0);
    assert_int_equal (a[1].err, 0);
    assert_int_equal (a[2].err, 0);
    assert_int_equal (rig_get (&r, o, 100), FARPAGE_FAIL);
    assert_int_equal (rig_get (&r, o, 109), FARPAGE_FAIL);
    if (round == 0)
      assert_pages (&r, o, 110, 10);
    assert_int_equal (rig_get (&r, o, 127), FARPAGE_OK);
    assert_int_equal (r.mem[(RIG_PAGES - 1) * PAGE], 0);
    assert_int_equal (nr_used (&r), round == 0 ? 91 : 4990);
  }
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* There are not so many blocks. */
static void
test_no_space (void **state)
{
  struct rig r = { .link = NULL };
  static struct reader rd;
  struct farpage_object *o;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 8001 * PAGE, NULL, NULL));
  rig_small_steps (&r);
  o = rig_make (&r, NULL, 20000);
  assert_int_equal (rig_put (&r, o, 1, 100, 50, 0), FARPAGE_OK);
  assert_int_equal (rig_put (&r, o, 1, 7000, 50, 0), FARPAGE_OK);
  start_reader (&rd, o, 120, 120);
  assert_int_equal (farpage_reserve (o, 0, 7901), ENOSPC);
  end_reader (&rd);
  assert_int_equal (nr_used (&r), 100);
  assert_pages (&r, o, 100, 50);
  assert_pages (&r, o, 7000, 50);
  assert_int_equal (rig_get (&r, o, 99), FARPAGE_FAIL);
  assert_int_equal (farpage_reserve (o, 0, 6990), 0);
  assert_int_equal (nr_used (&r), 6990 + 50);
  assert_int_equal (rig_get (&r, o, 120), FARPAGE_OK);
  assert_int_equal (r.mem[(RIG_PAGES - 1) * PAGE], 0);
  assert_pages (&r, o, 7000, 50);
  assert_int_equal (farpage_freespace (o, 10, 5000), 0);
  assert_int_equal (nr_used (&r), 1990 + 50);
  assert_int_equal (rig_get (&r, o, 9), FARPAGE_OK);
  assert_int_equal (rig_get (&r, o, 10), FARPAGE_FAIL);
  assert_int_equal (rig_get (&r, o, 5009), FARPAGE_FAIL);
  assert_int_equal (rig_get (&r, o, 5010), FARPAGE_OK);
  assert_int_equal (farpage_dealloc (o), 0);
  assert_int_equal (nr_used (&r), 0);
  rig_end (&r);
}

/* There is no memory for the map: entries are built back. */
static void
test_no_memory (void **state)
{
  struct rig r = { .link = NULL };
  static struct reader rd;
  struct farpage_object *o;
  struct swzone *zone, *was;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 256 * MIB, NULL, NULL));
  rig_small_steps (&r);
  assert_int_equal (swzone_create (sizeof (uint64_t), 1 << 18, &zone), 0);
  was = r.swap->zone;
  r.swap->zone = zone; /* of the next object */
  o = rig_make (&r, NULL, 60000);
  r.swap->zone = was;
  assert_int_equal (rig_put (&r, o, 1, 100, 50, 0), FARPAGE_OK);
  assert_int_equal (farpage_reserve (o, 150, 7), 0);
  start_reader (&rd, o, 120, 120);
  assert_int_equal (farpage_reserve (o, 0, 60000), ENOMEM);
  end_reader (&rd);
  assert_int_equal (nr_used (&r), 57);
  assert_pages (&r, o, 100, 50);
  assert_int_equal (rig_get (&r, o, 99), FARPAGE_FAIL);
  assert_int_equal (rig_get (&r, o, 156), FARPAGE_OK);
  assert_int_equal (rig_get (&r, o, 157), FARPAGE_FAIL);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
  swzone_destroy (zone);
}

struct ender {
  struct farpage_object *object;
  pthread_t thread;
};

static void *
ends (void *arg)
{
  struct ender *e = arg;

  assert_int_equal (farpage_dealloc (e->object), 0);
  return NULL;
}

/* The name is free while the pages are still being freed. */
static void
test_dealloc (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *again;
  struct farpage_stat st;
  struct ender e;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 1024 * MIB, NULL, NULL));
  e.object = rig_make (&r, "x", 200000);
  assert_int_equal (farpage_reserve (e.object, 0, 200000), 0);
  rig_small_steps (&r);
  rig_hold (&r);
  pthread_create (&e.thread, NULL, ends, &e);
  net_sleep_ms (20);
  rig_let_go (&r);
  again = rig_make (&r, "x", 5);
  rig_stat (&r, &st);
  assert_int_equal (st.objects, 2); /* the old one is still there */
  assert_int_equal (rig_put (&r, again, 1, 0, 5, 0), FARPAGE_OK);
  rig_check (&r);
  assert_int_equal (farpage_swap_close (r.swap), EBUSY);
  pthread_join (e.thread, NULL);
  assert_pages (&r, again, 0, 5);
  assert_int_equal (nr_used (&r), 5);
  assert_int_equal (farpage_dealloc (again), 0);
  rig_end (&r);
}

/* What is asked of the destination meanwhile waits. */
static void
test_copy (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *src, *dst;
  struct asker copier = { .off = 5 };
  static struct reader rd[2];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  rig_small_steps (&r);
  src = rig_make (&r, "src", 9000);
  dst = rig_make (&r, NULL, 8000);
  assert_int_equal (rig_put (&r, src, 1, 3, 900, 0), FARPAGE_OK);
  assert_int_equal (rig_put (&r, src, 1, 6000, 900, 0), FARPAGE_OK);
  assert_int_equal (rig_put (&r, src, 1, 8990, 10, 0), FARPAGE_OK);
  assert_int_equal (rig_put (&r, dst, 1, 7, 2, 0), FARPAGE_OK);
  copier.object = src;
  copier.to = dst;
  rig_hold (&r);
  ask (&copier);
  start_reader (&rd[0], dst, 8, 8);
  start_reader (&rd[1], dst, 6890 - 5, 6890);
  net_sleep_ms (20);
  rig_let_go (&r);
  end_reader (&rd[0]);
  end_reader (&rd[1]); /* it was moved, and is there */
  pthread_join (copier.thread, NULL);
  assert_int_equal (copier.err, 0);
  rig_assert_has (&r, dst, 7, 1, 7, 0);
  rig_assert_has (&r, dst, 9, 1, 14, 0);
  rig_assert_has (&r, dst, 6894, 1, 6899, 0);
  assert_int_equal (rig_get (&r, dst, 6895), FARPAGE_FAIL);
  assert_int_equal (nr_used (&r), 898 + 900);
  assert_int_equal (farpage_dealloc (dst), 0);
  rig_end (&r);
}

int
main (void)
{
  static enum long_call calls[] = { DEALLOC, FREESPACE, RESERVE, COPY };
  const struct CMUnitTest tests[] = {
    { "a read beside dealloc", test_beside, NULL, NULL, &calls[0] },
    { "a read beside freespace", test_beside, NULL, NULL, &calls[1] },
    { "a read beside reserve", test_beside, NULL, NULL, &calls[2] },
    { "a read beside copy", test_beside, NULL, NULL, &calls[3] },
    cmocka_unit_test (test_no_space),
    cmocka_unit_test (test_overlap),
    cmocka_unit_test (test_no_memory),
    cmocka_unit_test (test_dealloc),
    cmocka_unit_test (test_copy),
  };

  return NET_RUN (tests);
}
