/* SPDX-License-Identifier: BSD-2-Clause */
/* The free map against a plain array of who is in use.
 *
 * Pages stand for blocks here: place p of volume v is page p of object FIRST +
 * v, which is "zero" while the block is in use and a hole while it is not.  So
 * the log has records that redo what was noted, as those of maps do.
 */

#include <config.h>

#include "test-books.h"

#include <pthread.h>

#define FIRST DISK_TREE_FIRST

struct world {
  struct books b;
  unsigned char *used[BOOKS_VOLUMES]; /* the model: a byte a block */
  uint64_t nr_blocks[BOOKS_VOLUMES];
  uint64_t first[BOOKS_VOLUMES], end[BOOKS_VOLUMES];
  unsigned nr_cuts;
};

/* ---- what the flusher and recovery ask ---- */

static int
before_cut (void *arg)
{
  struct world *w = arg;

  return freemap_before_cut (w->b.fm);
}

static int
cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct world *w = arg;
  struct freemap_stat st;
  int err = freemap_cut (w->b.fm, ch, root);

  freemap_stat (w->b.fm, &st);
  assert_true (err != 0 || st.nr_noted == 0);
  w->nr_cuts++;
  return err;
}

static void
nothing (void *arg, uint64_t n)
{
  UNUSED (arg);
  UNUSED (n);
}

static const struct flush_ops flush_ops = {
  .before_cut = before_cut, .cut = cut, .durable = nothing, .retired = nothing
};

/* The model becomes what UNDO has left; REDO brings it to the log's end. */
static int
set_model (void *arg, const struct space_run *run)
{
  struct world *w = arg;

  memset (w->used[blkno_volume (run->blk)] + blkno_place (run->blk), 1,
          run->nr);
  return 0;
}

static int
begin (void *arg, const struct disk_super *root)
{
  struct world *w = arg;
  int err = freemap_create (w->b.bs, w->b.fl, root, &w->b.fm);

  for (unsigned v = 0; v < w->b.nr_volumes && err == 0; v++) {
    memset (w->used[v], 0, w->nr_blocks[v]);
    err = freemap_each (w->b.fm, v, set_model, w);
  }
  return err;
}

static int
redo (void *arg, struct change *ch, const struct disk_rec *rec,
      const uint32_t *crc)
{
  struct world *w = arg;
  unsigned v = (unsigned) (rec->object - FIRST);
  unsigned char used = rec->type == DISK_REC_ZERO;

  UNUSED (ch);
  UNUSED (crc);
  for (uint64_t i = rec->pgno; i < rec->pgno + rec->nr; i++) {
    struct space_run run = { blkno_make (v, i), 1 };

    if (w->used[v][i] != used)
      freemap_note (w->b.fm, &run, used);
    w->used[v][i] = used;
  }
  return 0;
}

static int
redo_none (void *arg, struct change *ch, const struct disk_rec *rec)
{
  UNUSED (arg);
  UNUSED (ch);
  UNUSED (rec);
  return EIO;
}

static int
redo_no_object (void *arg, struct change *ch, const struct disk_rec *rec,
                const struct disk_object *entry)
{
  UNUSED (entry);
  return redo_none (arg, ch, rec);
}

static const struct recover_ops recover_ops = {
  .begin = begin, .node = redo_none, .object = redo_no_object, .map = redo
};

/* ---- a world ---- */

static void
world_create (struct world *w, const uint64_t *sizes, unsigned nr,
              uint64_t nr_buffers)
{
  memset (w, 0, sizeof *w);
  w->b = (struct books){ .nr_buffers = nr_buffers,
                         .flush_ops = &flush_ops,
                         .recover_ops = &recover_ops,
                         .arg = w };
  test_log_forget ();
  for (unsigned v = 0; v < nr; v++) {
    w->nr_blocks[v] = sizes[v] / PAGE_BYTES;
    w->used[v] = calloc (w->nr_blocks[v], 1);
    assert_non_null (w->used[v]);
  }
  books_create (&w->b, sizes, nr);
  books_open (&w->b);
  for (unsigned v = 0; v < nr; v++) {
    w->first[v] = super_first_block (&w->b.s.root, v);
    w->end[v] = w->nr_blocks[v] - 2;
  }
}

static void
world_drop (struct world *w)
{
  books_drop (&w->b);
  books_destroy (&w->b);
  for (unsigned v = 0; v < w->b.nr_volumes; v++)
    free (w->used[v]);
}

/* 64 MiB and 400 MiB: one leaf, and four. */
static void
world_small (struct world *w)
{
  world_create (w, (uint64_t[]){ 64 * MIB, 400 * MIB }, 2, BUFS_MIN);
}

struct each {
  struct world *w;
  uint64_t next[BOOKS_VOLUMES]; /* nothing below is still to be told */
};

static int
compare_run (void *arg, const struct space_run *run)
{
  struct each *e = arg;
  unsigned v = blkno_volume (run->blk);
  uint64_t place = blkno_place (run->blk);

  assert_true (run->nr > 0);
  assert_true (e->next[v] == 0 || place > e->next[v]); /* whole, and rising */
  for (; e->next[v] < place; e->next[v]++)
    if (e->w->used[v][e->next[v]])
      fail_msg ("volume %u: block %" PRIu64 " is used, and not told", v,
                e->next[v]);
  for (; e->next[v] < place + run->nr; e->next[v]++)
    if (!e->w->used[v][e->next[v]])
      fail_msg ("volume %u: block %" PRIu64 " is told, and free", v,
                e->next[v]);
  return 0;
}

/* What is folded is what the model has; nothing is noted. */
static void
compare (struct world *w)
{
  struct each e = { .w = w };
  struct freemap_stat st;

  for (unsigned v = 0; v < w->b.nr_volumes; v++) {
    assert_int_equal (freemap_each (w->b.fm, v, compare_run, &e), 0);
    for (; e.next[v] < w->nr_blocks[v]; e.next[v]++)
      if (w->used[v][e.next[v]])
        fail_msg ("volume %u: block %" PRIu64 " is used, and not told", v,
                  e.next[v]);
  }
  freemap_stat (w->b.fm, &st);
  assert_int_equal (st.nr_wrong, 0);
}

static void
reopen (struct world *w, bool clean)
{
  if (clean)
    assert_int_equal (flush_close (w->b.fl), 0);
  else
    assert_int_equal (flush_commit (w->b.fl, flush_tail (w->b.fl)), 0);
  books_drop (&w->b);
  books_open (&w->b);
}

/* Note a run, and log it, in a change: what maps do. */
static void
change_run (struct world *w, unsigned v, uint64_t place, uint64_t nr, bool used)
{
  struct space_run run = { blkno_make (v, place), nr };
  struct change ch;

  assert_int_equal (freemap_enter (w->b.fm), 0);
  assert_int_equal (change_begin (w->b.fl, 1, &ch), 0);
  freemap_note (w->b.fm, &run, used);
  for (uint64_t i = 0; i < nr; i += SHARD_PAGES) {
    struct disk_rec rec = { .type = used ? DISK_REC_ZERO : DISK_REC_FREE,
                            .object = FIRST + v,
                            .pgno = place + i,
                            .nr = (uint32_t) min_u64 (SHARD_PAGES, nr - i) };

    undo_append (w->b.fl, &ch, &rec, NULL, 0);
  }
  memset (w->used[v] + place, used, nr);
  change_end (w->b.fl, &ch);
  freemap_leave (w->b.fm);
}

/* ---- tests ---- */

/* A new store has nothing in use that counts. */
static void
test_new (void **state)
{
  struct world w;

  UNUSED (state);
  world_small (&w);
  compare (&w);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* The first block and the last, runs over two leaves and over all. */
static void
test_edges (void **state)
{
  const uint64_t leaf = DISK_FREEMAP_BITS;
  struct world w;

  UNUSED (state);
  world_small (&w);
  for (unsigned v = 0; v < 2; v++) {
    change_run (&w, v, w.first[v], 1, true);
    change_run (&w, v, w.end[v] - 1, 1, true);
  }
  change_run (&w, 1, leaf - 1, 2, true);
  change_run (&w, 1, 2 * leaf - 5, 5, true);
  change_run (&w, 1, 3 * leaf, 3, true);
  reopen (&w, true);
  compare (&w);
  change_run (&w, 1, leaf, 1, false);
  change_run (&w, 1, w.first[1], 1, false);
  change_run (&w, 1, leaf - 1, 1, false);
  change_run (&w, 1, 2 * leaf - 5, 5, false);
  change_run (&w, 1, 3 * leaf, 3, false);
  change_run (&w, 1, w.end[1] - 1, 1, false);
  change_run (&w, 1, w.first[1], w.end[1] - w.first[1], true);
  reopen (&w, false);
  compare (&w);
  change_run (&w, 1, w.first[1] + 3, w.end[1] - w.first[1] - 7, false);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* What follows on each other in the notes stays in its order. */
static void
test_order (void **state)
{
  struct freemap_stat st;
  struct world w;
  uint64_t at;

  UNUSED (state);
  world_small (&w);
  at = w.first[1] + 1000;
  for (unsigned i = 0; i < 7; i++)
    change_run (&w, 1, at, 3, i % 2 == 0);
  /* Up, down, and a gap; each once. */
  for (uint64_t i = 100; i < 200; i++)
    change_run (&w, 1, at + i, 1, true);
  for (uint64_t i = 400; i > 300; i--)
    change_run (&w, 1, at + i, 1, true);
  freemap_stat (w.b.fm, &st);
  assert_in_range (st.nr_noted, 0, 9); /* one a turn, one up, one down */
  for (uint64_t i = 150; i < 350; i++)
    if (w.used[1][at + i])
      change_run (&w, 1, at + i, 1, false);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  compare (&w);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

static void
note (struct world *w, uint64_t blk, uint64_t nr, bool used)
{
  freemap_note (w->b.fm, &(struct space_run){ blk, nr }, used);
}

/* Bits that are so already, and blocks that cannot be, are counted and told;
 * all else is done.
 */
static void
test_wrong (void **state)
{
  struct freemap_stat st;
  struct world w;
  uint64_t at;

  UNUSED (state);
  world_small (&w);
  at = w.first[1] + 10;
  note (&w, blkno_make (1, at), 4, true);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  note (&w, blkno_make (1, at + 2), 4, true);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  freemap_stat (w.b.fm, &st);
  assert_int_equal (st.nr_wrong, 2);
  assert_int_equal (test_log_has ("2 that become used were so"), 1);
  note (&w, blkno_make (1, at + 5), 3, false);
  note (&w, blkno_make (1, w.first[1] - 1), 1, false); /* the free map's own */
  note (&w, blkno_make (0, 1), 2, false);
  note (&w, blkno_make (1, w.end[1]), 1, false);
  note (&w, blkno_make (1, w.end[1] - 1), 2, false);
  note (&w, blkno_make (7, 100), 1, true);
  assert_int_equal (flush_run_cycle (w.b.fl), 0);
  freemap_stat (w.b.fm, &st);
  assert_int_equal (st.nr_wrong, 2 + 2 + 1 + 2 + 1 + 2 + 1);
  assert_int_equal (flush_close (w.b.fl), 0);
  books_drop (&w.b);
  books_open (&w.b);
  for (uint64_t i = 0; i < 5; i++)
    assert_true (w.used[1][at + i]); /* the model is what was read */
  assert_false (w.used[1][at + 5]);
  world_drop (&w);
}

/* ---- random ---- */

static void
random_change (struct world *w, uint64_t *seed)
{
  unsigned v = (unsigned) (test_random (seed) % 2);
  uint64_t place = w->first[v] + test_random (seed) % (w->end[v] - w->first[v]);
  uint64_t max = test_random (seed) % 50 == 0 ? 40000 : 20, nr = 1;
  bool used = !w->used[v][place];

  max = min_u64 (1 + test_random (seed) % max, w->end[v] - place);
  while (nr < max && w->used[v][place + nr] != used)
    nr++;
  change_run (w, v, place, nr, used);
}

static void
test_random_changes (void **state)
{
  uint64_t seed = test_seed ();
  struct world w;
  unsigned nr_opens = 0;

  UNUSED (state);
  world_small (&w);
  for (unsigned i = 0; i < 40000; i++) {
    uint64_t op = test_random (&seed) % 2000;

    if (op < 2) {
      reopen (&w, op == 0);
      compare (&w);
      nr_opens++;
    } else if (op < 12) {
      assert_int_equal (flush_run_cycle (w.b.fl), 0);
      compare (&w);
    } else {
      random_change (&w, &seed);
    }
  }
  assert_true (nr_opens > 5 && w.nr_cuts > 50);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

/* 16 GiB: three levels, and each leaf changes in one cycle. */
static void
test_large (void **state)
{
  struct world w;

  UNUSED (state);
  world_create (&w, (uint64_t[]){ 16384 * MIB }, 1, 4096);
  assert_int_equal (w.b.s.root.members[0].freemap_height, 2);
  for (unsigned clean = 0; clean < 2; clean++) {
    for (uint64_t i = w.first[0] + 77 + clean; i < w.end[0] - 10; i += 20011)
      change_run (&w, 0, i, 9, true);
    reopen (&w, clean);
    compare (&w);
    for (uint64_t i = w.first[0] + 77 + clean; i < w.end[0] - 10; i += 20011)
      change_run (&w, 0, i, 9, false);
    change_run (&w, 0, w.first[0], w.end[0] - w.first[0], true);
    change_run (&w, 0, w.first[0], w.end[0] - w.first[0], false);
    reopen (&w, clean);
    compare (&w);
  }
  world_drop (&w);
}

/* ---- room ---- */

/* Whoever enters folds when much is noted. */
static void
test_room (void **state)
{
  struct freemap_stat st;
  struct world w;
  uint64_t most = 0;

  UNUSED (state);
  world_small (&w);
  for (uint64_t i = 0; i < 99000; i++) {
    change_run (&w, 1, w.first[1] + i, 1, true);
    if (i > 0) /* nothing joins */
      change_run (&w, 1, w.first[1] + i - 1, 1, false);
    freemap_stat (w.b.fm, &st);
    most = max_u64 (most, st.nr_noted);
  }
  assert_in_range (most, 2000, FREEMAP_NOTED_MAX / 4 + 2);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

struct enterer {
  struct freemap *fm;
  atomic_bool in;
};

static void *
enter_thread (void *arg)
{
  struct enterer *t = arg;

  assert_int_equal (freemap_enter (t->fm), 0);
  atomic_store (&t->in, true);
  return NULL;
}

/* There is room for all notes of all who are inside, and no more are. */
static void
test_inside (void **state)
{
  unsigned max = FREEMAP_NOTED_MAX / FREEMAP_NOTES_MAX;
  struct enterer t = { 0 };
  struct world w;
  pthread_t thread;

  UNUSED (state);
  world_small (&w);
  t.fm = w.b.fm;
  for (unsigned i = 0; i < max; i++)
    assert_int_equal (freemap_enter (w.b.fm), 0);
  for (uint64_t i = 0; i < max * FREEMAP_NOTES_MAX; i++)
    note (&w, blkno_make (1, w.first[1] + (i * 3 / 2) % 90000 + i % 2), 1,
          i / 60000 % 2 == 0);
  assert_false (flush_failed (w.b.fl));
  assert_int_equal (freemap_before_cut (w.b.fm), 0);
  pthread_create (&thread, NULL, enter_thread, &t);
  nanosleep (&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
  assert_false (atomic_load (&t.in));
  freemap_leave (w.b.fm);
  pthread_join (thread, NULL);
  assert_true (atomic_load (&t.in));
  world_drop (&w);
}

/* More than there is room for: the store fails, before a block is lost. */
static void
test_overflow (void **state)
{
  struct world w;

  UNUSED (state);
  world_small (&w);
  for (uint64_t i = 0; i <= FREEMAP_NOTED_MAX && !flush_failed (w.b.fl); i++)
    note (&w, blkno_make (1, w.first[1] + i % 2), 1, i / 2 % 2 == 0);
  for (uint64_t i = 0; i <= FREEMAP_NOTED_MAX && !flush_failed (w.b.fl); i++)
    note (&w, blkno_make (1, w.first[1]), 1, i % 2 == 0);
  assert_true (flush_failed (w.b.fl));
  world_drop (&w);
}

/* ---- damage ---- */

static uint64_t
leaf_block (struct world *w, unsigned v, uint64_t index)
{
  return blkno_make (v, w->b.s.root.members[v].freemap_first + index);
}

/* A leaf that cannot be read: nothing is lost, nothing is served, and at the
 * cut the store fails.
 */
static void
test_unreadable (void **state)
{
  struct each e = { 0 };
  struct world w;

  UNUSED (state);
  world_small (&w);
  change_run (&w, 1, w.first[1], 5, true);
  reopen (&w, true);
  flush_destroy (w.b.fl); /* open again, with nothing cached */
  freemap_destroy (w.b.fm);
  bufs_destroy (w.b.bs);
  w.b.fm = NULL;
  books_fail_reads (&w.b, leaf_block (&w, 1, 2));
  assert_int_equal (books_try_open (&w.b), EIO);
  assert_int_equal (freemap_each (w.b.fm, 1, compare_run, &e), EIO);
  assert_int_equal (flush_start (w.b.fl), 0);
  note (&w, blkno_make (1, 2 * DISK_FREEMAP_BITS + 7), 1, true);
  assert_int_equal (flush_run_cycle (w.b.fl), EIO);
  assert_true (flush_failed (w.b.fl));
  world_drop (&w);
}

static void
one_more (struct disk_node *node)
{
  node->nr_used++;
}

static void
clear_first (struct disk_node *node)
{
  node->body[0] &= 0xfe;
  node->nr_used--;
}

static void
clear_last (struct disk_node *node)
{
  node->body[DISK_NODE_BODY - 1] &= 0x7f;
  node->nr_used--;
}

/* A leaf that is whole, and says what cannot be. */
static void
test_damage (void **state)
{
  static const struct {
    void (*change) (struct disk_node *node);
    uint64_t leaf;
    const char *words;
  } damage[] = {
    { one_more, 1, "its count is not that of its bits" },
    { clear_first, 0, "before the pool's are marked as free" },
    { clear_last, 3, "behind the pool's are marked as free" },
  };

  UNUSED (state);
  for (unsigned i = 0; i < sizeof damage / sizeof *damage; i++) {
    struct world w;

    world_small (&w);
    assert_int_equal (flush_close (w.b.fl), 0);
    books_drop (&w.b);
    books_poke (&w.b, leaf_block (&w, 1, damage[i].leaf), damage[i].change);
    books_skip_second ();
    assert_int_equal (books_try_open (&w.b), EIO);
    assert_int_equal (test_log_has (damage[i].words), 1);
    world_drop (&w);
  }
}

/* ---- threads ---- */

#define THREADS 6
#define CHANGES 15000

struct changer {
  struct world *w;
  uint64_t seed;
  unsigned nr;
};

/* Each has its own blocks, with others' between them. */
static void *
change_thread (void *arg)
{
  struct changer *c = arg;
  struct world *w = c->w;

  for (unsigned i = 0; i < CHANGES; i++) {
    uint64_t room = (w->end[1] - w->first[1]) / (8 * THREADS);
    uint64_t at = test_random (&c->seed) % room * THREADS + c->nr;
    uint64_t place = w->first[1] + at * 8, nr = 1;
    bool used = !w->used[1][place];

    while (nr < 8 && w->used[1][place + nr] != used &&
           test_random (&c->seed) % 4 != 0)
      nr++;
    change_run (w, 1, place, nr, used);
  }
  return NULL;
}

static void
test_threads (void **state)
{
  uint64_t seed = test_seed ();
  struct changer c[THREADS];
  pthread_t thread[THREADS];
  struct world w;

  UNUSED (state);
  world_small (&w);
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < THREADS; i++) {
      c[i] = (struct changer){ &w, seed + i + round * THREADS, i };
      pthread_create (&thread[i], NULL, change_thread, &c[i]);
    }
    for (unsigned i = 0; i < 20; i++)
      assert_int_equal (flush_run_cycle (w.b.fl), 0);
    for (unsigned i = 0; i < THREADS; i++)
      pthread_join (thread[i], NULL);
    reopen (&w, round == 0);
    compare (&w);
  }
  world_drop (&w);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_new),
    cmocka_unit_test (test_edges),
    cmocka_unit_test (test_order),
    cmocka_unit_test (test_wrong),
    cmocka_unit_test (test_random_changes),
    cmocka_unit_test (test_large),
    cmocka_unit_test (test_room),
    cmocka_unit_test (test_inside),
    cmocka_unit_test (test_overflow),
    cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_damage),
    cmocka_unit_test (test_threads),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
