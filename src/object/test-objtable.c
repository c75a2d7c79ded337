/* SPDX-License-Identifier: BSD-2-Clause */
/* The object table at work: objects come, change and go, cuts move their roots,
 * stores are closed and killed; what is refused is in test-objtable-bad.c.
 */

#include <config.h>

#include "test-objtable.h"

#include <pthread.h>

/* ---- objects ---- */

static void
test_new (void **state)
{
  struct world *w = world_create (16 * MIB);

  UNUSED (state);
  compare (w, true);
  assert_int_equal (objtable_nr_nodes (w->ot), 0);
  reopen (w, true);
  reopen (w, false);
  world_destroy (w);
}

/* Objects come, change and go; places are used again, ids are not. */
static void
test_life (void **state)
{
  struct world *w = world_create (16 * MIB);

  UNUSED (state);
  for (unsigned clean = 0; clean < 2; clean++) {
    for (uint64_t i = 0; i < 20; i++)
      assert_int_equal (create (w, 1 + i * 1000 * MIB), i);
    assert_int_equal (objtable_nr_nodes (w->ot), 2 + 3);
    compare (w, true);
    reopen (w, clean);
    set_state (w, 3, DISK_OBJECT_DYING);
    set_state (w, 11, DISK_OBJECT_DYING);
    reopen (w, clean);
    set_state (w, 11, DISK_OBJECT_FREE);
    set_state (w, 3, DISK_OBJECT_FREE);
    reopen (w, clean);
    assert_int_equal (create (w, MIB), 3);
    assert_int_equal (create (w, OBJECT_BYTES_MAX), 11);
    reopen (w, clean);
    for (uint64_t i = 0; i < 20; i++)
      set_state (w, i, DISK_OBJECT_FREE);
    reopen (w, clean);
    assert_int_equal (objtable_nr_nodes (w->ot), 2 + 3);
  }
  world_destroy (w);
}

/* A kill right after the first object: its nodes come from the log alone. */
static void
test_first_nodes (void **state)
{
  struct world *w = world_create (16 * MIB);

  UNUSED (state);
  create (w, MIB);
  reopen (w, false);
  assert_int_equal (objtable_nr_nodes (w->ot), 3);
  reopen (w, true);
  world_destroy (w);
}

/* An id stays used when its object is gone, and the table is as at first. */
static void
test_ids (void **state)
{
  struct world *w = world_create (16 * MIB);

  UNUSED (state);
  for (unsigned i = 0; i < 8; i++) {
    assert_int_equal (create (w, MIB), 0);
    if (i & 1)
      assert_int_equal (flush_run_cycle (w->b.fl), 0);
    set_state (w, 0, DISK_OBJECT_FREE);
    reopen (w, i & 2);
  }
  world_destroy (w);
}

/* ---- cuts ---- */

/* Roots are as of the last cut, and a put does not touch them; who is not at
 * the place any more changes nothing.
 */
static void
test_roots (void **state)
{
  struct world *w = world_create (16 * MIB);
  struct disk_object old;
  uint64_t lsn;

  UNUSED (state);
  w->cuts_roots = true;
  for (unsigned i = 0; i < 30; i++)
    create (w, 8 * MIB);
  for (unsigned i = 0; i < 5; i++)
    assert_int_equal (flush_run_cycle (w->b.fl), 0);
  compare (w, true);
  set_state (w, 7, DISK_OBJECT_DYING);
  compare (w, true);
  reopen (w, true);
  reopen (w, false);
  /* The next at a place begins with none. */
  assert_true (w->model[7].root.blk > 0);
  set_state (w, 7, DISK_OBJECT_FREE);
  assert_int_equal (create (w, 8 * MIB), 7);
  compare (w, true);
  /* One that was at the place before. */
  old = w->model[7];
  w->model[7].id--;
  for (unsigned i = 0; i < 5; i++)
    assert_int_equal (flush_run_cycle (w->b.fl), 0);
  w->model[7] = old;
  compare (w, true);
  reopen (w, true);
  /* One that takes a place over. */
  assert_true (w->model[8].root.blk > 0);
  w->model[8] = entry_of (w->id_max + 1, 4 * MIB);
  assert_int_equal (objtable_put (w->ot, 8, &w->model[8], &lsn), 0);
  compare (w, true);
  reopen (w, false);
  world_destroy (w);
}

/* ---- random ---- */

static void
random_op (struct world *w, uint64_t *seed)
{
  uint64_t place = test_random (seed) % NR_MODEL;
  struct disk_object *e = &w->model[place];

  if (e->state == DISK_OBJECT_LIVE)
    set_state (w, place, DISK_OBJECT_DYING);
  else if (e->state == DISK_OBJECT_DYING)
    set_state (w, place, DISK_OBJECT_FREE);
  else
    create (w, 8 * MIB + test_random (seed) % (64 * MIB));
}

/* More leaves than are kept in memory. */
static void
test_random_ops (void **state)
{
  struct world *w = world_of (64 * MIB, 1024);
  uint64_t seed = test_seed ();

  UNUSED (state);
  w->cuts_roots = true;
  for (unsigned i = 0; i < NR_MODEL * 3 / 4; i++)
    create (w, 8 * MIB);
  for (unsigned i = 0; i < 6000; i++) {
    uint64_t op = test_random (&seed) % 1000;

    if (op < 6)
      reopen (w, op % 2);
    else if (op < 12)
      assert_int_equal (flush_run_cycle (w->b.fl), 0);
    else
      random_op (w, &seed);
  }
  reopen (w, true);
  world_destroy (w);
}

/* ---- threads ---- */

#define THREADS 4

struct worker {
  struct world *w;
  uint64_t seed;
  unsigned nr;
  struct disk_object own[40]; /* state FREE: none */
  uint64_t place[40];
};

static void
work (struct worker *t)
{
  unsigned k = (unsigned) (test_random (&t->seed) % 40);
  struct disk_object *e = &t->own[k];
  uint64_t lsn, id;
  int err;

  if (e->state == DISK_OBJECT_FREE) {
    assert_int_equal (objtable_alloc (t->w->ot, &t->place[k], &id), 0);
    *e = entry_of (id, MIB);
  } else if (e->state == DISK_OBJECT_LIVE) {
    e->state = DISK_OBJECT_DYING;
  } else {
    memset (e, 0, sizeof *e);
  }
  err = objtable_put (t->w->ot, t->place[k], e, &lsn);
  assert_int_equal (err, 0);
}

static void *
worker_thread (void *arg)
{
  struct worker *t = arg;

  for (unsigned i = 0; i < 4000; i++)
    work (t);
  return NULL;
}

static void
test_threads (void **state)
{
  struct world *w = world_create (64 * MIB);
  struct worker *t = calloc (THREADS, sizeof *t);
  uint64_t seed = test_seed ();
  pthread_t thread[THREADS];

  UNUSED (state);
  for (unsigned i = 0; i < THREADS; i++) {
    t[i].w = w;
    t[i].seed = seed + i;
    pthread_create (&thread[i], NULL, worker_thread, &t[i]);
  }
  for (unsigned i = 0; i < 10; i++)
    assert_int_equal (flush_run_cycle (w->b.fl), 0);
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join (thread[i], NULL);
  for (unsigned i = 0; i < THREADS; i++)
    for (unsigned k = 0; k < 40; k++)
      if (t[i].own[k].state != DISK_OBJECT_FREE) {
        assert_int_equal (w->model[t[i].place[k]].state, DISK_OBJECT_FREE);
        w->model[t[i].place[k]] = t[i].own[k];
      }
  compare (w, true);
  reopen (w, false);
  reopen (w, true);
  free (t);
  world_destroy (w);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_new),         cmocka_unit_test (test_life),
    cmocka_unit_test (test_first_nodes), cmocka_unit_test (test_ids),
    cmocka_unit_test (test_roots),       cmocka_unit_test (test_random_ops),
    cmocka_unit_test (test_threads),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
