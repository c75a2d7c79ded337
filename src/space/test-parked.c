/* SPDX-License-Identifier: BSD-2-Clause */
/* Parked blocks, with a double of the flusher: commits come when the test says
 * so, or when they are asked for.
 */

#include <config.h>

#include "test-pool.h"

#include "parked.h"

/* ---- the flusher's double ---- */

/* Commits make durable what was appended before they were asked for. */
static struct {
  atomic_uint nr_kicks, nr_cycles;
  _Atomic uint64_t tail, wanted, durable; /* lsns */
  _Atomic uint64_t cycle;
  atomic_bool failed;
  struct parked *pk; /* cycles retire its blocks */
} fl;

void
flush_kick (struct flush *f)
{
  uint64_t tail = atomic_load (&fl.tail), wanted = atomic_load (&fl.wanted);

  UNUSED (f);
  while (wanted < tail &&
         !atomic_compare_exchange_weak (&fl.wanted, &wanted, tail))
    ;
  atomic_fetch_add (&fl.nr_kicks, 1);
}

uint64_t
flush_durable (struct flush *f)
{
  UNUSED (f);
  return atomic_load (&fl.durable);
}

bool
flush_failed (struct flush *f)
{
  UNUSED (f);
  return atomic_load (&fl.failed);
}

/* As in cycle.c: the end of cycle n retires what was given up in n - 1. */
int
flush_run_cycle (struct flush *f)
{
  uint64_t cycle = atomic_fetch_add (&fl.cycle, 1);

  UNUSED (f);
  if (flush_failed (f))
    return EIO;
  atomic_fetch_add (&fl.nr_cycles, 1);
  parked_retired (fl.pk, cycle - 1);
  return 0;
}

static struct parked *
open_parked (struct pool *p)
{
  struct parked *pk;

  memset (&fl, 0, sizeof fl);
  atomic_store (&fl.cycle, 10);
  assert_int_equal (parked_create (p->sp, NULL, &pk), 0);
  fl.pk = pk;
  return pk;
}

static void
park (struct pool *p, struct parked *pk, struct space_run run, uint64_t lsn)
{
  pool_disown (p, &run);
  parked_data (pk, &run, 1, lsn);
}

/* ---- data ---- */

/* A block is free when its lsn is durable, and its unit with it. */
static void
test_data (void **state)
{
  struct pool *p = pool_of (4096);
  struct parked *pk = open_parked (p);
  struct space_run a = pool_alloc (p, 1, 8), b = pool_alloc (p, 1, 8);

  UNUSED (state);
  park (p, pk, a, 5);
  park (p, pk, b, 6);
  assert_int_equal (pool_stat (p).nr_parked, 16);
  assert_int_equal (pool_stat (p).nr_units_used, 16);
  assert_int_equal (parked_nr_blocks (pk), 16);
  parked_durable (pk, 4);
  assert_int_equal (space_volume_used (p->sp, 0), 16);
  parked_durable (pk, 5);
  assert_int_equal (pool_stat (p).nr_parked, 8);
  assert_int_equal (space_volume_used (p->sp, 0), 8);
  assert_int_equal (parked_nr_blocks (pk), 8);
  parked_durable (pk, 7);
  assert_int_equal (pool_stat (p).nr_units_used, 0);
  assert_int_equal (atomic_load (&fl.nr_kicks), 0);
  pool_check (p, 0);
  parked_destroy (pk);
  parked_destroy (NULL);
  pool_close (p);
}

/* Who comes when the record is durable already finds nobody to wait for. */
static void
test_late (void **state)
{
  struct pool *p = pool_of (4096);
  struct parked *pk = open_parked (p);
  struct space_run a = pool_alloc (p, 1, 8), b = pool_alloc (p, 1, 8);

  UNUSED (state);
  atomic_store (&fl.durable, 5);
  parked_durable (pk, 5);
  park (p, pk, a, 6);
  assert_int_equal (parked_nr_blocks (pk), 8);
  atomic_store (&fl.durable, 6);
  park (p, pk, b, 6);
  assert_int_equal (parked_nr_blocks (pk), 0);
  assert_int_equal (pool_stat (p).nr_units_used, 0);
  pool_check (p, 0);
  parked_destroy (pk);
  pool_close (p);
}

/* Threads come out of order: what lies behind waits, nothing goes early. */
static void
test_order (void **state)
{
  struct pool *p = pool_of (4096);
  struct parked *pk = open_parked (p);
  struct space_run run[3];

  UNUSED (state);
  for (int i = 0; i < 3; i++)
    run[i] = pool_alloc (p, 1, 1);
  park (p, pk, run[0], 9);
  park (p, pk, run[1], 7);
  park (p, pk, run[2], 7); /* joins run[1], which is beside it */
  parked_durable (pk, 8);
  assert_int_equal (parked_nr_blocks (pk), 3);
  parked_durable (pk, 9);
  assert_int_equal (parked_nr_blocks (pk), 0);
  pool_check (p, 0);
  parked_destroy (pk);
  pool_close (p);
}

/* Beyond half of the units each call asks for a commit; below none does. */
static void
test_kick (void **state)
{
  struct pool *p = pool_of (4096); /* 192 units */
  struct parked *pk = open_parked (p);

  UNUSED (state);
  for (unsigned i = 0; i < 96; i++)
    park (p, pk, pool_alloc (p, 1, 1), i + 1);
  assert_int_equal (atomic_load (&fl.nr_kicks), 0);
  park (p, pk, pool_alloc (p, 1, 1), 97);
  assert_int_equal (atomic_load (&fl.nr_kicks), 1);
  park (p, pk, pool_alloc (p, 1, 1), 98);
  assert_int_equal (atomic_load (&fl.nr_kicks), 2);
  parked_durable (pk, 51);
  park (p, pk, pool_alloc (p, 1, 1), 99);
  assert_int_equal (atomic_load (&fl.nr_kicks), 2);
  parked_destroy (pk); /* the rest is freed */
  pool_check (p, 0);
  pool_close (p);
}

#define FULL 65536u

/* Every other block of a pool, so that nothing joins; more than fit. */
static uint64_t
fill_queue (struct pool *p, struct parked *pk, struct space_run *next)
{
  uint64_t nr_taken = 0;

  while (nr_taken < 2 * (FULL + 1)) {
    struct space_run run = pool_alloc (p, 1, 1);

    assert_int_equal (blkno_place (run.blk), nr_taken++);
    if (nr_taken % 2 == 0)
      continue;
    pool_disown (p, &run);
    if (nr_taken / 2 == FULL)
      *next = run;
    else
      parked_data (pk, &run, 1, 100 + nr_taken);
  }
  return nr_taken;
}

struct parker {
  struct parked *pk;
  struct space_run run;
  atomic_bool over;
};

static void *
parker_thread (void *arg)
{
  struct parker *t = arg;

  parked_data (t->pk, &t->run, 1, UINT64_MAX / 2);
  atomic_store (&t->over, true);
  return NULL;
}

/* A full queue asks for a commit, and waits for what it brings. */
static void
test_full (void **state)
{
  struct pool *p = pool_of (POOL_MAX);
  struct parker t = { .pk = open_parked (p) };
  uint64_t nr_taken = fill_queue (p, t.pk, &t.run);
  unsigned nr_kicks = atomic_load (&fl.nr_kicks);
  pthread_t thread;

  UNUSED (state);
  assert_in_range (nr_kicks, FULL / 2, FULL);
  pthread_create (&thread, NULL, parker_thread, &t);
  nap_ns (SOON_NS);
  assert_false (atomic_load (&t.over));
  assert_true (atomic_load (&fl.nr_kicks) > nr_kicks);
  parked_durable (t.pk, 101); /* the first one */
  pthread_join (thread, NULL);
  assert_int_equal (parked_nr_blocks (t.pk), FULL);
  parked_durable (t.pk, UINT64_MAX / 2);
  assert_int_equal (parked_nr_blocks (t.pk), 0);
  assert_int_equal (space_charge (p->sp, nr_taken / 2), 0);
  pool_check (p, nr_taken / 2);
  parked_destroy (t.pk);
  pool_close (p);
}

/* Full of blocks that all may go, for their lsns are durable: nobody else will
 * look, so who finds no room does.
 */
static void
test_full_of_durable (void **state)
{
  struct pool *p = pool_of (POOL_MAX);
  struct parker t = { .pk = open_parked (p) };
  uint64_t nr_taken = fill_queue (p, t.pk, &t.run);
  pthread_t thread;

  UNUSED (state);
  atomic_store (&fl.durable, UINT64_MAX / 2);
  pthread_create (&thread, NULL, parker_thread, &t);
  for (unsigned i = 0; i < 100 && !atomic_load (&t.over); i++)
    nap_ns (SOON_NS);
  assert_true (atomic_load (&t.over));
  pthread_join (thread, NULL);
  assert_int_equal (parked_nr_blocks (t.pk), 0);
  assert_int_equal (space_charge (p->sp, nr_taken / 2), 0);
  pool_check (p, nr_taken / 2);
  parked_destroy (t.pk);
  pool_close (p);
}

/* When the store has failed nobody waits. */
static void
test_failed (void **state)
{
  struct pool *p = pool_of (POOL_MAX);
  struct parker t = { .pk = open_parked (p) };
  pthread_t thread;

  UNUSED (state);
  fill_queue (p, t.pk, &t.run);
  pthread_create (&thread, NULL, parker_thread, &t);
  nap_ns (SOON_NS);
  atomic_store (&fl.failed, true);
  pthread_join (thread, NULL);
  assert_int_equal (parked_wait (t.pk), 0); /* nothing is too much */
  parked_destroy (t.pk);
  pool_close (p);
}

/* ---- META ---- */

static void
test_meta (void **state)
{
  struct pool *p = pool_of (4096);
  struct parked *pk = open_parked (p);
  struct space_run run = pool_alloc (p, SPACE_HINT_META, 4);

  UNUSED (state);
  pool_disown (p, &run);
  assert_int_equal (space_charge (p->sp, 4), 0);
  for (unsigned i = 0; i < 4; i++)
    parked_meta (pk, run.blk + i, 10 + i / 2);
  assert_int_equal (parked_nr_blocks (pk), 4);
  assert_int_equal (pool_stat (p).nr_parked, 0); /* no units */
  parked_retired (pk, 9);
  parked_durable (pk, UINT64_MAX);
  pool_check (p, 4);
  parked_retired (pk, 10);
  assert_int_equal (pool_stat (p).nr_charged, 2);
  pool_check (p, 2);
  parked_retired (pk, 11);
  assert_int_equal (pool_stat (p).nr_charged, 0);
  pool_check (p, 0);
  parked_destroy (pk);
  pool_close (p);
}

#define META_FULL 32768u

/* Above half of the queue whoever is to come runs cycles; in a failed store it
 * hears so; a queue that is full all the same loses blocks, not the count.
 */
static void
test_meta_many (void **state)
{
  struct pool *p = pool_of (POOL_MAX);
  struct parked *pk = open_parked (p);
  uint64_t nr = 2 * (META_FULL + 10);

  UNUSED (state);
  assert_int_equal (space_charge (p->sp, nr), 0);
  for (uint64_t i = 0; i < nr; i++) {
    struct space_run run = pool_alloc (p, 1, 1);

    assert_int_equal (blkno_place (run.blk), i);
    if (i == META_FULL) /* half of it, every other block */
      assert_int_equal (parked_wait (pk), 0);
    if (i % 2 == 0)
      parked_meta (pk, run.blk, 10);
  }
  assert_int_equal (atomic_load (&fl.nr_cycles), 0);
  assert_int_equal (parked_nr_blocks (pk), META_FULL);
  assert_int_equal (test_log_has ("wait for a cycle"), 1);
  atomic_store (&fl.failed, true);
  assert_int_equal (parked_wait (pk), EIO);
  atomic_store (&fl.failed, false);
  atomic_store (&fl.cycle, 9);
  assert_int_equal (parked_wait (pk), 0);
  assert_int_equal (atomic_load (&fl.nr_cycles), 3); /* 9, 10: not yet */
  assert_int_equal (parked_nr_blocks (pk), 0);
  pool_check (p, nr - META_FULL);
  assert_int_equal (pool_stat (p).nr_charged, nr - META_FULL);
  parked_destroy (pk);
  pool_close (p);
}

/* ---- threads ---- */

#define WRITERS 4
#define OPS     30000
#define PAGES   16
#define NONE    UINT64_MAX

struct writer {
  struct pool *p;
  struct parked *pk;
  _Atomic uint64_t *until; /* by place: not to be had before this is durable */
  uint64_t seed;
  const char *wrong;
  unsigned nr_pages;
  blkno_t page[PAGES];
};

static void
write_page (struct writer *w, blkno_t *page)
{
  struct space_run old = { *page, 1 }, run;
  uint64_t lsn;

  if (space_alloc (w->p->sp, w->seed % 8, 1, &run) != 0) {
    w->wrong = "a unit found no block";
    return;
  }
  if (!pool_own (w->p, &run))
    w->wrong = "a block has two owners";
  if (atomic_load (&w->until[blkno_place (run.blk)]) >
      atomic_load (&fl.durable))
    w->wrong = "a block was used before its unmapping was durable";
  *page = run.blk;
  /* Published: the record is in the log. */
  lsn = atomic_fetch_add (&fl.tail, 1) + 1;
  if (old.blk == NONE)
    return;
  atomic_store (&w->until[blkno_place (old.blk)], lsn);
  pool_disown (w->p, &old);
  parked_data (w->pk, &old, 1, lsn);
}

static void *
writer_thread (void *arg)
{
  struct writer *w = arg;
  uint64_t slice_max = space_slice_max (w->p->sp);

  for (int i = 0; i < OPS && w->wrong == NULL; i++) {
    uint64_t nr = 1 + test_random (&w->seed) % slice_max;

    if (space_acquire (w->p->sp, nr, env_now_ns () + LATE_NS) != 0) {
      w->wrong = "no units for long";
      break;
    }
    for (uint64_t k = 0; k < nr && w->wrong == NULL; k++)
      write_page (w, &w->page[test_random (&w->seed) % w->nr_pages]);
    space_release (w->p->sp, nr);
  }
  return NULL;
}

/* Commits, when they are wanted, and not one more. */
static void *
committer_thread (void *arg)
{
  struct parked *pk = arg;

  while (!atomic_load (&fl.failed)) {
    uint64_t wanted = atomic_load (&fl.wanted);

    if (wanted > atomic_load (&fl.durable)) {
      atomic_store (&fl.durable, wanted);
      parked_durable (pk, wanted);
    } else {
      sched_yield ();
    }
  }
  return NULL;
}

static void
kick_for_units (void *arg)
{
  UNUSED (arg);
  flush_kick (NULL);
}

/* Nobody waits for ever where only commits bring blocks back, and no block is
 * used early.
 */
static void
threads (uint64_t nr_blocks, unsigned stripe, unsigned nr_pages)
{
  struct pool *p = pool_of (nr_blocks > 32 ? nr_blocks : 32);
  struct space_config config = { .volumes = p->volumes,
                                 .nr_volumes = 1,
                                 .stripe_blocks = stripe,
                                 .want_units = kick_for_units };
  static struct writer w[WRITERS];
  pthread_t thread[WRITERS], committer;
  uint64_t seed = test_seed (), nr_mapped = 0;
  _Atomic uint64_t *until = calloc (nr_blocks, sizeof *until);
  struct parked *pk;

  space_destroy (p->sp);
  p->volumes[0]->size_bytes = nr_blocks << PAGE_SHIFT;
  assert_int_equal (space_create (&config, &p->sp), 0);
  assert_int_equal (space_charge (p->sp, pool_stat (p).nr_charge_max), 0);
  pk = open_parked (p);
  pthread_create (&committer, NULL, committer_thread, pk);
  for (unsigned i = 0; i < WRITERS; i++) {
    w[i] = (struct writer){ p, pk, until, seed + i, NULL, nr_pages, { 0 } };
    for (unsigned k = 0; k < PAGES; k++)
      w[i].page[k] = NONE;
    pthread_create (&thread[i], NULL, writer_thread, &w[i]);
  }
  for (unsigned i = 0; i < WRITERS; i++) {
    pthread_join (thread[i], NULL);
    if (w[i].wrong != NULL)
      fail_msg ("%s", w[i].wrong);
    for (unsigned k = 0; k < PAGES; k++)
      nr_mapped += w[i].page[k] != NONE;
  }
  atomic_store (&fl.failed, true);
  pthread_join (committer, NULL);
  parked_destroy (pk);
  pool_check (p, nr_mapped);
  free (until);
  pool_close (p);
}

static void
test_threads (void **state)
{
  UNUSED (state);
  threads (120, 0, PAGES); /* 30 in reserve: 23 units */
}

static void
test_one_unit (void **state)
{
  UNUSED (state);
  threads (7, 4, 1);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_data),
    cmocka_unit_test (test_order),
    cmocka_unit_test (test_kick),
    cmocka_unit_test (test_full),
    cmocka_unit_test (test_full_of_durable),
    cmocka_unit_test (test_failed),
    cmocka_unit_test (test_meta),
    cmocka_unit_test (test_meta_many),
    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_one_unit),
    cmocka_unit_test (test_late),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
