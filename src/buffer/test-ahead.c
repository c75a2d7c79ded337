/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading ahead in recovery: what is handed out, and what is not.  That
 * recovery comes to the same with it is shown by the other tests of recovery
 * and by the simulator.
 */

#include <config.h>

#include "test-flush.h"

#include "recover-impl.h"

#define NR   (AHEAD_NODES + 40)
#define GONE UINT64_C (0x0fffffffffffffff) /* a block that no volume has */

/* A volume over the rig's, with a block that cannot be read. */
static struct volume *under;
static uint64_t bad_place;
static unsigned nr_reads;

static void
bad_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  uint64_t first = io->off / BUF_BYTES;

  (void) v;
  (void) batch;
  nr_reads++;
  memset (io->buf, 0xee, io->bytes);
  if (bad_place >= first && bad_place < first + io->bytes / BUF_BYTES)
    io->error = EIO;
  else
    io->error = volume_read (under, io->off, io->buf, io->bytes);
}

static const struct volume_ops bad_ops = { .kind = "bad", .start = bad_start };

struct world {
  struct rig r;
  struct volume bad;
  struct volume *volumes[1];
  struct recover rc;
  uint64_t blk[NR]; /* of leaf i */
};

static uint64_t
where (void *arg, uint64_t object, pgno_t pgno)
{
  struct world *w = arg;

  assert_int_equal (object, RIG_TREE);
  return w->blk[pgno / DISK_MAP_PAGES];
}

static const struct recover_ops ops = { .where = where };

static int
set_up (void **state)
{
  struct world *w = calloc (1, sizeof *w);
  uint64_t page[BUF_BYTES / 8];

  assert_non_null (w);
  rig_format (&w->r);
  under = w->r.v;
  bad_place = UINT64_MAX;
  nr_reads = 0;
  w->bad = *under;
  w->bad.ops = &bad_ops;
  w->volumes[0] = &w->bad;
  w->r.fl->config.volumes = w->volumes;
  w->rc = (struct recover){
    .fl = w->r.fl, .supers = &w->r.supers, .ops = &ops, .arg = w
  };
  assert_int_equal (ring_open (&w->rc.ring, under, &w->r.supers.root, 1), 0);
  assert_int_equal (recover_ahead_open (&w->rc), 0);
  /* In threes, and these in no order. */
  for (unsigned i = 0; i < NR; i++) {
    w->blk[i] = w->r.next_block + i * 179u % NR / 3 * 5 + i * 179u % NR % 3;
    memset (page, 0, sizeof page);
    page[0] = w->blk[i];
    assert_int_equal (
        volume_write (under, w->blk[i] * BUF_BYTES, page, BUF_BYTES), 0);
  }
  *state = w;
  return 0;
}

static int
tear_down (void **state)
{
  struct world *w = *state;

  recover_ahead_close (&w->rc);
  ring_close (&w->rc.ring);
  w->r.fl->config.volumes = &w->r.v;
  rig_drop (&w->r);
  volume_close (w->r.v);
  free (w);
  return 0;
}

static void
read_leaves (struct world *w, unsigned nr)
{
  recover_ahead_begin (&w->rc);
  for (unsigned i = 0; i < nr; i++)
    recover_ahead_add (&w->rc, RIG_TREE, i * DISK_MAP_PAGES + i % 7, 1);
  recover_ahead_read (&w->rc);
}

/* Leaf i was read ahead, and is what lies in its block. */
static bool
has (struct world *w, unsigned i)
{
  uint64_t page[BUF_BYTES / 8];

  if (!recover_ahead_take (&w->rc, w->blk[i], page))
    return false;
  assert_int_equal (page[0], w->blk[i]);
  assert_int_equal (page[1], 0);
  return true;
}

static void
test_all (void **state)
{
  struct world *w = *state;

  assert_false (has (w, 0));
  read_leaves (w, 200);
  for (unsigned i = 0; i < 200; i++)
    assert_true (has (w, i));
  assert_false (has (w, 200));
  assert_in_range (nr_reads, 1, 199); /* neighbours together */
  assert_true (has (w, 7));           /* as often as it is asked for */
}

/* A record of many pages takes each node once, and two records of one node. */
static void
test_once (void **state)
{
  struct world *w = *state;

  w->blk[1] = w->blk[0] + 1000;
  assert_int_equal (volume_write (under, w->blk[1] * BUF_BYTES,
                                  &(uint64_t[BUF_BYTES / 8]){ w->blk[1] },
                                  BUF_BYTES),
                    0);
  recover_ahead_begin (&w->rc);
  for (unsigned i = 0; i < 50; i++)
    recover_ahead_add (&w->rc, RIG_TREE, DISK_MAP_PAGES - 10, 20);
  recover_ahead_read (&w->rc);
  assert_true (has (w, 0) && has (w, 1));
  assert_int_equal (nr_reads, 2);
}

static void
test_too_many (void **state)
{
  struct world *w = *state;

  read_leaves (w, NR);
  for (unsigned i = 0; i < NR; i++)
    assert_int_equal (has (w, i), i < AHEAD_NODES);
}

/* Nodes were written: what was read before does not count. */
static void
test_cycle (void **state)
{
  struct world *w = *state;

  read_leaves (w, 10);
  atomic_fetch_add (&w->r.fl->cycle, 1);
  for (unsigned i = 0; i < 10; i++)
    assert_false (has (w, i));
  read_leaves (w, 10);
  assert_true (has (w, 9));
  recover_ahead_begin (&w->rc);
  assert_false (has (w, 9));
}

/* What could not be read is left to redo, and so is what cannot be. */
static void
test_bad (void **state)
{
  struct world *w = *state;
  unsigned nr = 0;

  bad_place = w->blk[5];
  w->blk[6] = GONE;
  read_leaves (w, 100);
  assert_false (has (w, 5) || has (w, 6));
  for (unsigned i = 0; i < 100; i++)
    nr += has (w, i);
  assert_in_range (nr, 96, 98); /* its neighbours, too */
  recover_ahead_begin (&w->rc);
  recover_ahead_add (&w->rc, RIG_TREE, UINT64_MAX - 1, 4);
  recover_ahead_read (&w->rc);
  assert_int_equal (w->rc.ahead.nr, 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_all, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_once, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_too_many, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_cycle, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_bad, set_up, tear_down),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
