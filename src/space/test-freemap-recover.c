/* SPDX-License-Identifier: BSD-2-Clause */
/* Recovery that has to change more of the free map than fits in its buffers,
 * with a ring as full as a server may leave it; and killed again and again.
 *
 * Leaves of the free map change at a cut, so a server that dies before it has
 * laid no images of them: recovery lays those, behind what there is.
 */

#include <config.h>

#include "test-freemap.h"

#include "flush-impl.h"

#define POOL      (40 * 1024 * MIB) /* 342 leaves */
#define NR_KILLS  20u
#define PAD_BYTES 3700u

/* ---- a server with no cycle ---- */

/* A record that redoes nothing, of a block's size. */
static void
pad (struct world *w)
{
  static const uint8_t more[PAD_BYTES];
  struct disk_rec rec = {
    .type = DISK_REC_FREE, .object = FIRST, .pgno = w->end[0] - 1, .nr = 1
  };
  struct change ch;

  assert_int_equal (change_begin (w->b.fl, 1, &ch), 0);
  undo_append (w->b.fl, &ch, &rec, more, sizeof more);
  change_end (w->b.fl, &ch);
}

/* Would a change go in? */
static bool
has_room (struct world *w)
{
  uint64_t nr = atomic_load (&w->b.fl->ring_reserve) + 2 * CHANGE_REDO_BLOCKS;

  return ring_used (w->b.fl) + 1 + nr <= w->b.fl->ring_blocks;
}

static void
commit (struct world *w)
{
  assert_int_equal (flush_commit (w->b.fl, flush_tail (w->b.fl)), 0);
}

/* A block of each leaf, and the ring full; then it dies. */
static void
make_full (struct world *w, uint64_t nr_buffers)
{
  uint64_t nr_leaves;

  world_create (w, (uint64_t[]){ POOL }, 1, nr_buffers);
  assert_int_equal (flush_close (w->b.fl), 0);
  books_drop (&w->b);
  assert_int_equal (books_try_open (&w->b), 0);
  nr_leaves = w->end[0] / DISK_FREEMAP_BITS;
  for (uint64_t i = 1; i < nr_leaves; i++) {
    change_run (w, 0, i * DISK_FREEMAP_BITS, 1, true);
    if (i % 16 == 0)
      commit (w);
  }
  for (uint64_t i = 0; has_room (w); i++) {
    pad (w);
    if (i % 16 == 0)
      commit (w);
  }
  commit (w);
  print_message ("%" PRIu64 " leaves, %" PRIu64 " of %" PRIu64
                 " log blocks used\n",
                 nr_leaves, ring_used (w->b.fl), w->b.fl->ring_blocks);
  books_drop (&w->b);
}

/* ---- tests ---- */

static void
test_full (void **state)
{
  static const uint64_t nr_buffers[] = { BUFS_MIN, 4 * BUFS_MIN, 4096 };
  struct world w;

  UNUSED (state);
  for (size_t i = 0; i < sizeof nr_buffers / sizeof *nr_buffers; i++) {
    make_full (&w, nr_buffers[i]);
    books_open (&w.b);
    compare (&w);
    reopen (&w, true);
    compare (&w);
    world_drop (&w);
  }
}

/* Each recovery dies at some write, later than the one before it; none needs
 * more of the ring than the first.
 */
static void
test_killed (void **state)
{
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_WRITE,
                             .error = EIO };
  unsigned nr_kills = 0, nr_early = 0;
  uint64_t most = 0;
  struct world w;
  int err = EIO;

  UNUSED (state);
  make_full (&w, BUFS_MIN);
  while (err != 0 && nr_kills < NR_KILLS * 5) {
    rule.skip = 2 + nr_kills / 4;
    fault_add (w.b.v[0], &rule);
    err = books_try_open (&w.b);
    fault_clear (w.b.v[0]);
    most = max_u64 (most, w.b.report.end_lsn - w.b.report.first_lsn);
    if (err != 0) {
      assert_int_equal (err, EIO);
      nr_kills++;
      nr_early += atomic_load (&w.b.fl->bytes_meta) > 0;
      books_drop (&w.b);
    }
  }
  assert_int_equal (err, 0);
  print_message ("%u kills, %u with nodes written, at most %" PRIu64
                 " of %" PRIu64 " log blocks\n",
                 nr_kills, nr_early, most, w.b.s.root.ring_blocks);
  assert_true (nr_kills >= NR_KILLS && nr_early >= NR_KILLS / 2);
  assert_true (most <= w.b.s.root.ring_blocks);
  compare (&w);
  assert_int_equal (flush_start (w.b.fl), 0);
  reopen (&w, true);
  compare (&w);
  world_drop (&w);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_full),
    cmocka_unit_test (test_killed),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
