/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads that share one small pool, for the thread sanitizer above all: some
 * change nodes and pages of their own, all read the same nodes (two may load
 * one at a time), one writes what is dirty, as the commit and the cycle do.
 */

#include <config.h>

#include "test-bufs.h"

#include "task.h"

#define THREADS  4u
#define OWN      40u  /* nodes of each */
#define SHARED   900u /* nodes that are only read, from index 1000 on */
#define PAGES    200u /* blocks of each, on volume 1 */
#define NR_STEPS 6000u

struct worker {
  struct rig *r;
  struct world *w;
  struct task *task;
  lock_t lock; /* a shard's: guards its nodes' contents */
  uint64_t random;
  unsigned number, wrong;
  uint64_t stamp[OWN], cycle[OWN], page[PAGES];
};

struct world {
  struct rig *r;
  struct worker workers[THREADS];
  atomic_bool stop;
  struct task *writer;
  struct disk_node *copies;
  uint64_t cycle;
  unsigned wrong;
};

static unsigned
below (struct worker *k, unsigned n)
{
  return (unsigned) ((test_random (&k->random) >> 11) % n);
}

static uint64_t
index_of (const struct worker *k, unsigned i)
{
  return k->number * OWN + i;
}

static void
change_node (struct worker *k)
{
  unsigned i = below (k, OWN);
  uint64_t index = index_of (k, i);
  struct buf *b;

  LOCK_SCOPE (&k->lock);
  if (get (k->r, index, index + 1, k->cycle[i], false, &b) != 0) {
    k->wrong++;
    return;
  }
  k->wrong += *stamp_of (b->data) != k->stamp[i];
  k->stamp[i] = ++*stamp_of (b->data);
  buf_meta_dirty (k->r->bs, b);
  buf_put (k->r->bs, b);
}

static void
read_shared (struct worker *k)
{
  uint64_t i = 1000 + below (k, SHARED);
  struct buf *b;

  if (get (k->r, i, i, 1, below (k, 4) == 0, &b) != 0) {
    k->wrong++;
    return;
  }
  k->wrong += *stamp_of (b->data) != i;
  buf_put (k->r->bs, b);
}

static uint64_t
blk_of (const struct worker *k, unsigned i)
{
  return blkno_make (1, k->number * PAGES + i);
}

static void
write_pages (struct worker *k)
{
  unsigned i = below (k, PAGES), nr = 1 + below (k, 5);
  struct buf *bufs[5];

  if (buf_data_get (k->r->bs, bufs, nr) != 0) {
    k->wrong++;
    return;
  }
  for (unsigned n = 0; n < nr; n++) {
    unsigned at = (i + n) % PAGES;

    if (n == 4) {
      buf_data_unget (k->r->bs, &bufs[n], 1);
      break;
    }
    k->page[at]++;
    test_pattern (bufs[n]->data, BUF_BYTES, blk_of (k, at), k->page[at]);
    buf_data_add (k->r->bs, &bufs[n], 1, blk_of (k, at));
  }
}

static void
read_page (struct worker *k)
{
  unsigned i = below (k, PAGES);
  uint64_t page[BUF_BYTES / 8], want[BUF_BYTES / 8];

  if (k->page[i] == 0)
    return;
  if (!buf_data_read (k->r->bs, blk_of (k, i), page))
    k->wrong +=
        volume_read (k->r->v[1], blkno_place (blk_of (k, i)) * BUF_BYTES, page,
                     sizeof page) != 0;
  test_pattern (want, sizeof want, blk_of (k, i), k->page[i]);
  k->wrong += memcmp (page, want, sizeof want) != 0;
}

static void
work_main (void *arg)
{
  struct worker *k = arg;

  for (unsigned i = 0; i < NR_STEPS; i++) {
    switch (below (k, 8)) {
    case 0 ... 1:
      change_node (k);
      break;
    case 2 ... 4:
      read_shared (k);
      break;
    case 5 ... 6:
      write_pages (k);
      break;
    default:
      read_page (k);
    }
  }
}

/* ---- the writer ---- */

static void
write_nodes (struct world *w)
{
  struct buf *taken[NR_BUFS];
  struct buf_io ios[NR_BUFS];
  struct vbatch *batch;
  unsigned nr;

  /* The gate: nobody changes while the cut is made. */
  for (unsigned i = 0; i < THREADS; i++)
    lock_acquire (&w->workers[i].lock);
  nr = bufs_take (w->r->bs, BUF_META, taken, NR_BUFS);
  w->cycle++;
  for (unsigned i = 0; i < nr; i++) {
    uint64_t index = taken[i]->id.index;

    buf_meta_seal (taken[i], w->cycle, &w->copies[i]);
    w->workers[index / OWN].cycle[index % OWN] = w->cycle;
    ios[i] = (struct buf_io){ .first = taken[i]->blk, .page = &w->copies[i] };
  }
  for (unsigned i = THREADS; i-- > 0;)
    lock_release (&w->workers[i].lock);
  batch = vbatch_get (w->r->pool);
  w->wrong += bufs_write (w->r->bs, batch, ios, nr) != 0;
  vbatch_put (batch);
  if (nr > 0)
    bufs_written (w->r->bs, taken, nr);
}

static void
write_pages_out (struct world *w)
{
  struct buf *taken[32];
  unsigned nr = bufs_take (w->r->bs, BUF_DATA, taken, 32);

  w->wrong += write_taken (w->r, taken, nr) != 0;
}

static void
writer_main (void *arg)
{
  struct world *w = arg;

  while (!atomic_load (&w->stop)) {
    write_pages_out (w);
    write_nodes (w);
  }
}

static void
make_world (struct world *w, struct rig *r)
{
  uint64_t seed = test_seed ();

  w->r = r;
  w->cycle = 1;
  w->copies = test_pages (NR_BUFS * BUF_BYTES);
  for (unsigned i = 0; i < SHARED; i++)
    put_node (r, 1000 + i, 1000 + i, 1, 1000 + i);
  for (unsigned n = 0; n < THREADS; n++) {
    struct worker *k = &w->workers[n];

    /* Several are held together, which ranks are for. */
    lock_init (&k->lock, LOCK_SHARD + (enum lock_rank) n, "worker");
    k->r = r;
    k->w = w;
    k->number = n;
    k->random = (seed + n) * 2 + 1;
    for (unsigned i = 0; i < OWN; i++) {
      k->cycle[i] = 1;
      k->stamp[i] = 5;
      put_node (r, index_of (k, i), index_of (k, i) + 1, 1, 5);
    }
  }
}

static void
test_threads (void **state)
{
  struct world *w = calloc (1, sizeof *w);
  struct rig *r = *state;

  make_world (w, r);
  assert_int_equal (task_start ("writer", writer_main, w, &w->writer), 0);
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal (
        task_start ("work", work_main, &w->workers[i], &w->workers[i].task), 0);
  for (unsigned i = 0; i < THREADS; i++)
    task_join (w->workers[i].task);
  atomic_store (&w->stop, true);
  task_join (w->writer);
  CHECK (r);
  while (write_data (r) > 0)
    ;
  write_nodes (w);
  CHECK (r);
  assert_int_equal (w->wrong, 0);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 0);
  for (unsigned n = 0; n < THREADS; n++) {
    assert_int_equal (w->workers[n].wrong, 0);
    lock_destroy (&w->workers[n].lock);
  }
  print_message ("%" PRIu64 " hits, %" PRIu64 " loads, %" PRIu64 " evicted\n",
                 stat_of (r).nr_hits, stat_of (r).nr_loads,
                 stat_of (r).nr_evicted);
  free (w->copies);
  free (w);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_threads, setup, teardown),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
