/* SPDX-License-Identifier: BSD-2-Clause */
/* Durable maps against swmeta: the same calls, the same answers, the same runs
 * displaced, while the store is cut, closed, crashed and recovered, and reads
 * fail.  And several threads on one map, while the flusher runs.
 */

#include <config.h>

#include "test-objmeta.h"

#include "task.h"

#ifdef __SANITIZE_THREAD__
#define OPS 1000
#else
#define OPS 4000
#endif
#define FULL       12000 /* entries: from then on more is freed than built */
#define THREADS    4u
#define THREAD_OPS 400

struct random {
  struct rig t;
  uint64_t seed;
  unsigned nr_eio;
};

static uint64_t
below (struct random *d, uint64_t n)
{
  return (test_random (&d->seed) >> 11) % n;
}

/* Pages of one shard: in crowds and alone, often at an edge of something. */
static void
pick (struct random *d, pgno_t *pgno, uint64_t *nr)
{
  static const uint64_t grain[] = { 1, 1, 16, 256, 512 };
  static const uint64_t longest[] = { 1, 1, 3, 20, 300, 512 };
  uint64_t range =
      below (d, 2) == 0 ? min_u64 (3000, d->t.nr_pages) : d->t.nr_pages;
  uint64_t g = grain[below (d, 5)];

  *pgno = below (d, range) / g * g;
  if (below (d, 4) == 0)
    *pgno = d->t.nr_pages - 1 - *pgno;
  *nr = 1 + below (d, longest[below (d, 6)]);
  *nr = min_u64 (*nr, SHARD_PAGES - *pgno % SHARD_PAGES);
  *nr = min_u64 (*nr, d->t.nr_pages - *pgno);
}

/* Entries of blocks and of zeros, in rows. */
static void
some_entries (struct random *d, struct swent *ents, uint64_t nr)
{
  for (uint64_t i = 0; i < nr;) {
    uint64_t row = 1 + below (d, nr - i);

    rig_entries (&d->t, &ents[i], row, below (d, 4) == 0);
    i += row;
  }
}

static void
put_entries (struct random *d, const struct swent *ents, uint64_t nr)
{
  for (uint64_t i = 0; i < nr; i++)
    if (swmeta_kind (ents[i].word) == SWMETA_BLOCK)
      meta_put (&d->t.m, swmeta_blkno (ents[i].word));
}

static int
change (struct random *d, pgno_t pgno, uint64_t nr)
{
  static struct swent ents[SHARD_PAGES];
  bool full = swmeta_nr_entries (d->t.model) > FULL;
  int err;

  switch (full ? 3 + below (d, 5) : below (d, 8)) {
  case 0 ... 3:
    some_entries (d, ents, nr);
    err = rig_build (&d->t, pgno, nr, ents);
    if (err)
      put_entries (d, ents, nr);
    return err;
  case 4 ... 6:
    if (below (d, 3) == 0) { /* all of a shard */
      pgno -= pgno % SHARD_PAGES;
      nr = min_u64 (SHARD_PAGES, d->t.nr_pages - pgno);
    }
    return rig_free_pages (&d->t, pgno, nr);
  default:
    return rig_pop (&d->t, pgno);
  }
}

/* A change while the n-th read fails: all is as it was, or it is done. */
static void
change_unreadable (struct random *d, pgno_t pgno, uint64_t nr)
{
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .error = EIO,
                             .skip = (unsigned) below (d, 2) };
  int err;

  for (unsigned i = 0; i < META_VOLUMES; i++)
    fault_add (d->t.m.given[i], &rule);
  err = change (d, pgno, nr);
  for (unsigned i = 0; i < META_VOLUMES; i++)
    fault_clear (d->t.m.given[i]);
  assert_true (err == 0 || err == EIO);
  d->nr_eio += err != 0;
  rig_same_shard (&d->t, pgno / SHARD_PAGES);
}

static void
same_counts (struct random *d)
{
  int64_t nr_mapped = d->t.nr_mapped, nr_zero = d->t.nr_zero;

  d->t.nr_mapped = d->t.nr_zero = 0;
  rig_same (&d->t);
  assert_int_equal (d->t.nr_mapped, nr_mapped);
  assert_int_equal (d->t.nr_zero, nr_zero);
}

static void
step (struct random *d)
{
  uint64_t nr;
  pgno_t pgno;

  pick (d, &pgno, &nr);
  switch (below (d, 100)) {
  case 0:
    assert_int_equal (flush_commit (d->t.m.fl, flush_tail (d->t.m.fl)), 0);
    rig_crash (&d->t);
    same_counts (d);
    break;
  case 1:
    d->t.m.blind = below (d, 2) == 0; /* nothing is cached */
    rig_reopen (&d->t);
    if (!d->t.m.blind)
      rig_same (&d->t);
    d->t.m.blind = false;
    break;
  case 2 ... 5:
    assert_int_equal (flush_run_cycle (d->t.m.fl), 0);
    break;
  case 6 ... 15:
    change_unreadable (d, pgno, nr);
    break;
  case 16 ... 40:
    assert_int_equal (rig_lookup (&d->t, pgno, nr), 0);
    break;
  default:
    assert_int_equal (change (d, pgno, nr), 0);
  }
}

/* All pages go, and all nodes with them. */
static void
free_all (struct random *d)
{
  uint64_t shard = 0;

  while ((shard = map_durable_ops.next_shard (d->t.map, shard)) != UINT64_MAX) {
    pgno_t pgno = shard * SHARD_PAGES;

    assert_int_equal (
        rig_free_pages (&d->t, pgno,
                        min_u64 (SHARD_PAGES, d->t.nr_pages - pgno)),
        0);
  }
  assert_int_equal (objmeta_nr_nodes (d->t.map), 0);
  assert_int_equal (d->t.m.tree->root.blk, 0);
  assert_int_equal (swmeta_nr_entries (d->t.model), 0);
  meta_check_taken (&d->t.m);
}

static void
random_map (pgno_t nr_pages, uint64_t seed)
{
  struct random *d = calloc (1, sizeof *d);
  struct bufs_stat st;

  assert_non_null (d);
  d->seed = seed;
  rig_create (&d->t, nr_pages);
  for (unsigned i = 0; i < OPS; i++)
    step (d);
  rig_same (&d->t);
  bufs_stat (d->t.m.bs, &st);
  print_message ("%" PRIu64 " pages: %" PRIu64 " entries, %" PRIu64
                 " nodes; %u calls met a read that failed\n",
                 nr_pages, swmeta_nr_entries (d->t.model),
                 objmeta_nr_nodes (d->t.map), d->nr_eio);
  free_all (d);
  rig_reopen (&d->t);
  rig_same (&d->t);
  rig_destroy (&d->t);
  free (d);
}

static void
test_against_model (void **state)
{
  static const pgno_t sizes[] = {
    1, 200, 513, 40000, UINT64_C (3) << 20, OBJMETA_PAGES_MAX,
  };
  uint64_t seed = test_seed ();

  UNUSED (state);
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
    random_map (sizes[i], seed + i);
}

/* ---- threads ---- */

/* Each has the shards whose number is its own modulo THREADS, so that they
 * share all but leaves: nodes above come and go under each other's hands.
 */
struct thread {
  struct random *d;
  unsigned nr;
  uint64_t seed;
  struct task *task;
  lock_t shard;
};

/* As a request does it: begin, lock, prepare; if blocks are missing, all over
 * with them.
 */
static void
thread_begin (struct thread *th, struct map_change *mc, pgno_t pgno,
              uint64_t nr, bool build)
{
  struct rig *t = &th->d->t;

  mc->nr_blks = 0;
  for (;;) {
    unsigned missing;

    assert_int_equal (map_durable_ops.begin (t->map, mc), 0);
    lock_acquire (&th->shard);
    assert_int_equal (
        map_durable_ops.prepare (t->map, pgno, nr, build, &missing), 0);
    if (missing <= mc->nr_blks)
      return;
    lock_release (&th->shard);
    map_durable_ops.end (t->map, mc);
    while (mc->nr_blks < missing)
      mc->blks[mc->nr_blks++] = meta_take_one (&t->m);
  }
}

static void
thread_step (struct thread *th)
{
  struct rig *t = &th->d->t;
  struct runs got = { .nr = 0 }, want = { .nr = 0 };
  uint64_t r = test_random (&th->seed) >> 11;
  uint64_t shard = (r % 12) * THREADS * 16 + th->nr; /* 32 MiB apart */
  pgno_t pgno = shard * SHARD_PAGES + r / 16 % 2 * DISK_MAP_PAGES;
  uint64_t nr = 1 + r / 64 % 4;
  bool build = r / 1024 % 2 == 0;
  struct swent ents[4];
  struct map_change mc;

  if (build)
    rig_entries (t, ents, nr, r / 4096 % 4 == 0);
  thread_begin (th, &mc, pgno, nr, build);
  if (build) {
    assert_int_equal (
        map_durable_ops.build (t->map, &mc, pgno, nr, ents, rig_add_run, &got),
        0);
    assert_int_equal (
        swmeta_build (t->model, pgno, nr, ents, rig_add_run, &want), 0);
  } else {
    assert_int_equal (
        map_durable_ops.free (t->map, &mc, pgno, nr, rig_add_run, &got), 0);
    swmeta_free (t->model, pgno, nr, rig_add_run, &want);
  }
  lock_release (&th->shard);
  rig_change_end (t, &mc);
  rig_same_runs (&got, &want);
  rig_park (t, &got);
}

static void
thread_main (void *arg)
{
  struct thread *th = arg;

  for (unsigned i = 0; i < THREAD_OPS; i++)
    thread_step (th);
}

static void
test_threads (void **state)
{
  static struct thread th[THREADS];
  struct random *d = calloc (1, sizeof *d);
  uint64_t seed = test_seed ();

  UNUSED (state);
  assert_non_null (d);
  rig_create (&d->t, UINT64_C (12) * THREADS * 16 * SHARD_PAGES);
  assert_int_equal (flush_start (d->t.m.fl), 0);
  for (unsigned i = 0; i < THREADS; i++) {
    th[i] = (struct thread){ .d = d, .nr = i, .seed = seed + i };
    lock_init (&th[i].shard, LOCK_SHARD, "shard");
    assert_int_equal (task_start ("test", thread_main, &th[i], &th[i].task), 0);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    task_join (th[i].task);
    lock_destroy (&th[i].shard);
  }
  rig_reopen (&d->t);
  rig_same (&d->t);
  print_message ("%" PRIu64 " entries, %" PRIu64 " nodes\n",
                 swmeta_nr_entries (d->t.model), objmeta_nr_nodes (d->t.map));
  rig_destroy (&d->t);
  free (d);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_against_model),
    cmocka_unit_test (test_threads),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
