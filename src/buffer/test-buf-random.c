/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers against a model: a node is a stamp and where it was written last, a
 * block is a stamp; random operations, and the books after each.
 *
 * What is taken for writing stays on its way for a while, so that other
 * operations come between, as they do when a thread writes.
 */

#include <config.h>

#include "test-bufs.h"

#define NR_NODES 400u
#define NR_PAGES 500u /* blocks of volume 1; nodes are on volume 0 */
#define NR_HELD  24u
#define NR_OPS   20000u

struct node {
  bool exists, dirty;
  uint64_t blk, stamp;
  uint64_t cycle; /* on the volume; 0: never written */
};

struct page {
  uint64_t stamp; /* 0: nothing is known */
  bool dirty;
};

struct world {
  struct rig *r;
  uint64_t random, stamp, cycle, next_blk, lsn;
  struct node nodes[NR_NODES];
  struct page pages[NR_PAGES];
  struct buf *held[NR_HELD];
  /* On their way. */
  struct buf *data[NR_BUFS], *meta[NR_BUFS], *undo[NR_BUFS];
  unsigned nr_data, nr_meta, nr_undo;
  struct disk_node *copies;
  struct buf *got[4];
  unsigned reserved; /* of got, still unused */
};

static unsigned
below (struct world *w, unsigned n)
{
  return (unsigned) ((test_random (&w->random) >> 11) % n);
}

static void
fill (uint64_t *page, uint64_t stamp)
{
  for (unsigned i = 0; i < BUF_BYTES / 8; i++)
    page[i] = stamp * (i + 1);
}

/* ---- writing ---- */

static void
take_data (struct world *w)
{
  if (w->nr_data == 0)
    w->nr_data =
        bufs_take (w->r->bs, BUF_DATA, w->data, 1 + below (w, NR_BUFS));
}

static void
end_data (struct world *w)
{
  for (unsigned i = 0; i < w->nr_data; i++) {
    struct page *p = &w->pages[blkno_place (w->data[i]->blk)];

    /* Given up meanwhile: another is dirty, or none. */
    if (!(w->data[i]->refs & BUF_GONE))
      p->dirty = false;
  }
  assert_int_equal (write_taken (w->r, w->data, w->nr_data), 0);
  w->nr_data = 0;
}

static void
take_meta (struct world *w)
{
  if (w->nr_meta > 0)
    return;
  w->nr_meta = bufs_take (w->r->bs, BUF_META, w->meta, NR_BUFS);
  w->cycle++;
  for (unsigned i = 0; i < w->nr_meta; i++) {
    struct node *n = &w->nodes[w->meta[i]->id.index];

    buf_meta_seal (w->meta[i], w->cycle, &w->copies[i]);
    n->cycle = w->cycle;
    n->dirty = false;
  }
}

static void
end_meta (struct world *w)
{
  struct buf_io ios[NR_BUFS];
  struct vbatch *batch = vbatch_get (w->r->pool);

  for (unsigned i = 0; i < w->nr_meta; i++)
    ios[i] = (struct buf_io){ .first = w->meta[i]->blk, .page = &w->copies[i] };
  assert_int_equal (bufs_write (w->r->bs, batch, ios, w->nr_meta), 0);
  vbatch_put (batch);
  if (w->nr_meta > 0)
    bufs_written (w->r->bs, w->meta, w->nr_meta);
  w->nr_meta = 0;
}

/* ---- operations ---- */

/* A block of volume 0 that no node has had for long. */
static uint64_t
new_block (struct world *w)
{
  for (;;) {
    unsigned i = 0;

    w->next_blk = w->next_blk % (NR_BLOCKS - 1) + 1;
    while (i < NR_NODES &&
           !(w->nodes[i].exists && w->nodes[i].blk == w->next_blk))
      i++;
    if (i == NR_NODES)
      return w->next_blk;
  }
}

static void
make_or_change (struct world *w)
{
  unsigned i = below (w, NR_NODES);
  struct node *n = &w->nodes[i];
  struct buf *b;

  if (bufs_nr_dirty (w->r->bs, BUF_META) >= bufs_dirty_max (w->r->bs, BUF_META))
    return;
  if (n->exists) {
    assert_int_equal (get (w->r, i, n->blk, n->cycle, below (w, 4) == 0, &b),
                      0);
    assert_int_equal (*stamp_of (b->data), n->stamp);
  } else {
    *n = (struct node){ .exists = true, .blk = new_block (w) };
    b = buf_meta_new (w->r->bs, ID (i), DISK_NODE_MAP, n->blk);
    assert_non_null (b);
  }
  n->stamp = *stamp_of (b->data) = ++w->stamp;
  n->dirty = true;
  buf_meta_dirty (w->r->bs, b);
  buf_put (w->r->bs, b);
}

static void
look (struct world *w)
{
  unsigned i = below (w, NR_NODES), k = below (w, NR_HELD);
  struct node *n = &w->nodes[i];
  struct buf *b;

  if (!n->exists) {
    assert_null (buf_meta_find (w->r->bs, ID (i)));
    return;
  }
  assert_int_equal (get (w->r, i, n->blk, n->cycle, below (w, 3) == 0, &b), 0);
  assert_int_equal (*stamp_of (b->data), n->stamp);
  if (below (w, 4) == 0 && w->held[k] == NULL)
    w->held[k] = b;
  else
    buf_put (w->r->bs, b);
}

static void
let_go (struct world *w)
{
  unsigned k = below (w, NR_HELD);

  if (w->held[k] != NULL)
    buf_put (w->r->bs, w->held[k]);
  w->held[k] = NULL;
}

static void
drop_node (struct world *w)
{
  unsigned i = below (w, NR_NODES);
  struct node *n = &w->nodes[i];
  struct buf *b;

  if (!n->exists)
    return;
  assert_int_equal (get (w->r, i, n->blk, n->cycle, false, &b), 0);
  assert_int_equal (*stamp_of (b->data), n->stamp);
  buf_meta_drop (w->r->bs, b);
  buf_put (w->r->bs, b);
  n->exists = n->dirty = false;
}

static void
write_page (struct world *w)
{
  unsigned i = below (w, NR_PAGES);
  struct buf_list *l = &w->r->bs->lists[BUF_DATA];
  struct buf **b;

  if (w->reserved == 0) {
    unsigned nr = 1 + below (w, 4);

    if (l->nr_reserved + l->nr_pinned + nr > w->r->bs->dirty_max[BUF_DATA])
      return;
    assert_int_equal (buf_data_get (w->r->bs, w->got, nr), 0);
    w->reserved = nr;
  }
  b = &w->got[--w->reserved];
  fill ((uint64_t *) (*b)->data, ++w->stamp);
  buf_data_add (w->r->bs, b, 1, blkno_make (1, i));
  w->pages[i] = (struct page){ .stamp = w->stamp, .dirty = true };
}

static void
read_page (struct world *w)
{
  unsigned i = below (w, NR_PAGES);
  uint64_t page[BUF_BYTES / 8], want[BUF_BYTES / 8];

  if (!buf_data_read (w->r->bs, blkno_make (1, i), page)) {
    assert_false (w->pages[i].dirty);
    rig_read (w->r, blkno_make (1, i), page);
  }
  fill (want, w->pages[i].stamp);
  assert_memory_equal (page, want, BUF_BYTES);
}

/* Past the buffers. */
static void
write_direct (struct world *w)
{
  unsigned i = below (w, NR_PAGES), nr = 1 + below (w, 8);
  uint64_t page[BUF_BYTES / 8];

  if (w->nr_data > 0)
    end_data (w); /* else it would wait for us */
  for (nr += i; i < nr && i < NR_PAGES; i++) {
    buf_data_drop (w->r->bs, blkno_make (1, i), 1);
    fill (page, ++w->stamp);
    rig_write (w->r, blkno_make (1, i), page);
    w->pages[i] = (struct page){ .stamp = w->stamp };
  }
}

static void
log_block (struct world *w)
{
  struct buf *b;
  unsigned k = below (w, NR_HELD);

  if (bufs_nr_dirty (w->r->bs, BUF_UNDO) >= bufs_dirty_max (w->r->bs, BUF_UNDO))
    return;
  b = buf_undo_new (w->r->bs, w->lsn++);
  for (unsigned i = 0; i < BUF_BYTES; i++)
    assert_int_equal (b->data[i], 0);
  memset (b->data, 0xaa, BUF_BYTES);
  if (w->held[k] == NULL && below (w, 3) == 0) {
    buf_ref (b);
    w->held[k] = b;
  }
}

static void
end_log (struct world *w)
{
  if (w->nr_undo > 0)
    bufs_written (w->r->bs, w->undo, w->nr_undo);
  w->nr_undo = bufs_take (w->r->bs, BUF_UNDO, w->undo, below (w, NR_BUFS));
}

static void
step (struct world *w)
{
  switch (below (w, 32)) {
  case 0 ... 6:
    make_or_change (w);
    break;
  case 7 ... 12:
    look (w);
    break;
  case 13 ... 14:
    drop_node (w);
    break;
  case 15 ... 16:
    let_go (w);
    break;
  case 17 ... 21:
    write_page (w);
    break;
  case 22 ... 24:
    read_page (w);
    break;
  case 25:
    write_direct (w);
    break;
  case 26 ... 27:
    log_block (w);
    break;
  case 28:
    if (below (w, 8) == 0)
      end_log (w);
    break;
  case 29:
    take_data (w);
    if (below (w, 2) == 0)
      end_data (w);
    break;
  case 30:
    if (below (w, 8) == 0)
      take_meta (w);
    break;
  case 31:
    if (below (w, 3) == 0)
      end_meta (w);
    break;
  }
}

static void
check_counts (struct world *w)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < NR_PAGES; i++) {
    nr += w->pages[i].dirty;
    assert_int_equal (tag_of_block (w->r, blkno_make (1, i)),
                      w->pages[i].dirty);
  }
  assert_true (bufs_nr_dirty (w->r->bs, BUF_DATA) >= nr);
  nr = 0;
  for (unsigned i = 0; i < NR_NODES; i++)
    nr += w->nodes[i].dirty;
  assert_int_equal (w->r->bs->lists[BUF_META].nr, nr);
}

/* At the end all is on the volumes. */
static void
finish (struct world *w)
{
  struct rig *r = w->r;

  end_data (w);
  end_meta (w);
  take_data (w);
  while (w->nr_data > 0) {
    end_data (w);
    take_data (w);
  }
  take_meta (w);
  end_meta (w);
  end_log (w);
  for (unsigned i = 0; i < NR_HELD; i++)
    if (w->held[i] != NULL)
      buf_put (r->bs, w->held[i]);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_DATA), 0);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 0);
  for (unsigned i = 0; i < NR_NODES; i++) {
    struct node *n = &w->nodes[i];
    struct disk_node disk;

    if (!n->exists)
      continue;
    rig_read (r, n->blk, &disk);
    assert_null (
        buf_node_error (&disk, r->bs->uuid, ID (i), DISK_NODE_MAP, n->blk));
    assert_int_equal (disk.cycle, n->cycle);
    assert_int_equal (*stamp_of (&disk), n->stamp);
  }
  for (unsigned i = 0; i < NR_PAGES; i++) {
    uint64_t page[BUF_BYTES / 8];

    rig_read (r, blkno_make (1, i), page);
    assert_int_equal (page[1], w->pages[i].stamp * 2);
  }
}

static void
test_random_ops (void **state)
{
  const char *text = getenv ("FARPAGE_RANDOM_OPS");
  uint64_t nr_ops = text != NULL ? strtoull (text, NULL, 0) : NR_OPS;
  struct world *w = calloc (1, sizeof *w);
  struct bufs_stat st;

  w->r = *state;
  w->random = test_seed () * 2 + 1;
  w->next_blk = 1;
  w->copies = test_pages (NR_BUFS * BUF_BYTES);
  for (uint64_t i = 0; i < nr_ops; i++) {
    step (w);
    CHECK (w->r);
    if (i % 64 == 0)
      check_counts (w);
  }
  finish (w);
  st = stat_of (w->r);
  print_message ("%" PRIu64 " operations: %" PRIu64 " hits, %" PRIu64
                 " loads, %" PRIu64 " evicted\n",
                 nr_ops, st.nr_hits, st.nr_loads, st.nr_evicted);
  assert_true (nr_ops < NR_OPS || st.nr_evicted > 100);
  free (w->copies);
  free (w);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_random_ops, setup, teardown),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
