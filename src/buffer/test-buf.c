/* SPDX-License-Identifier: BSD-2-Clause */
/* The pool and nodes: loading and judging, eviction, quiet reads, dropping,
 * dirty lists, what bufs_check () notices.
 */

#include <config.h>

#include "test-bufs.h"

/* ---- the pool ---- */

static void
test_limits (void **state)
{
  uint8_t uuid[DISK_UUID_BYTES] = { 0 };
  struct bufs_config config = { .uuid = uuid };
  struct bufs *bs = NULL;
  void *memory;

  UNUSED (state);
  config.cache_bytes = BUFS_MIN * BUF_BYTES - 1;
  assert_int_equal (bufs_create (&config, &bs), EINVAL);
  config.cache_bytes = UINT64_MAX;
  assert_int_equal (bufs_create (&config, &bs), EINVAL);
  config.cache_bytes = BUFS_MIN * BUF_BYTES;
  config.nr_volumes = DISK_VOLUMES + 1;
  assert_int_equal (bufs_create (&config, &bs), EINVAL);
  assert_null (bs);
  config.nr_volumes = 0;
  config.memory = memory = test_pages (config.cache_bytes);
  assert_int_equal (bufs_create (&config, &bs), 0);
  assert_int_equal (bufs_nr (bs), BUFS_MIN);
  assert_int_equal (bufs_dirty_max (bs, BUF_META), BUFS_MIN / 2);
  assert_int_equal (bufs_dirty_max (bs, BUF_DATA), BUFS_MIN / 4);
  assert_int_equal (bufs_dirty_max (bs, BUF_UNDO), BUFS_MIN / 8);
  assert_string_equal (check (bs), "");
  bufs_destroy (bs);
  bufs_destroy (NULL);
  free (memory);
}

static void
test_volume_bufs (void **state)
{
  struct rig *r = *state;

  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    assert_int_equal (buf_volume (r->bs, i)->type, BUF_VOLUME);
    memset (buf_volume (r->bs, i)->data, 'a' + i, BUF_BYTES);
  }
  assert_int_equal (buf_volume (r->bs, 0)->data[0], 'a');
  assert_int_equal (stat_of (r).nr_free, NR_BUFS - NR_VOLUMES);
  CHECK (r);
}

/* ---- nodes ---- */

static void
test_node_life (void **state)
{
  struct rig *r = *state;
  uint64_t blk = blkno_make (1, 77);
  struct disk_node disk;
  struct buf *b, *again;

  b = buf_meta_new (r->bs, ID (5), DISK_NODE_MAP, blk);
  assert_non_null (b);
  CHECK (r);
  *stamp_of (b->data) = 42;
  buf_meta_dirty (r->bs, b);
  buf_meta_dirty (r->bs, b);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 1);
  buf_put (r->bs, b);
  assert_ptr_equal (buf_meta_find (r->bs, ID (5)), b);
  buf_put (r->bs, b);
  assert_int_equal (write_meta (r, 9), 1);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 0);
  rig_read (r, blk, &disk);
  assert_null (buf_node_error (&disk, r->bs->uuid, ID (5), DISK_NODE_MAP, blk));
  assert_int_equal (disk.cycle, 9);
  assert_memory_equal (&disk, b->data, sizeof disk);

  /* From the buffer, and then, dropped, from the volume. */
  assert_int_equal (get (r, 5, blk, 9, false, &again), 0);
  assert_ptr_equal (again, b);
  buf_meta_drop (r->bs, b);
  CHECK (r);
  buf_put (r->bs, b);
  CHECK (r);
  assert_false (is_cached (r, 5));
  assert_int_equal (get (r, 5, blk, 9, false, &b), 0);
  assert_int_equal (*stamp_of (b->data), 42);
  assert_int_equal (b->blk, blk);
  assert_int_equal (b->dirty_cycle, 0);
  buf_put (r->bs, b);
  assert_int_equal (stat_of (r).nr_loads, 1); /* the first was made */
  CHECK (r);
}

static void
test_keys (void **state)
{
  struct rig *r = *state;
  struct buf_id id = { .tree = 3, .index = 4, .level = 1 };
  struct buf *b = buf_meta_new (r->bs, &id, DISK_NODE_INNER, 1);

  id.level = 2;
  assert_null (buf_meta_find (r->bs, &id));
  id.level = 1, id.tree = 4;
  assert_null (buf_meta_find (r->bs, &id));
  id.tree = 3, id.index = 3;
  assert_null (buf_meta_find (r->bs, &id));
  id.index = 4;
  assert_ptr_equal (buf_meta_find (r->bs, &id), b);
}

#define FIELD(f, m)                      \
  {                                      \
#f, offsetof(struct disk_node, f), m \
  }
static const struct {
  const char *name;
  size_t off;
  const char *message;
} fields[] = {
  FIELD (magic, "is no node"),
  FIELD (version, "its version is unknown"),
  FIELD (type, "has another type"),
  FIELD (level, "belongs to another level"),
  FIELD (blk, "was written for another block"),
  FIELD (cycle, "what points to it"),
  FIELD (tree, "belongs to another tree"),
  FIELD (index, "has another index"),
  FIELD (uuid, "belongs to another store"),
  FIELD (spare0, "its spare bytes are not zero"),
  FIELD (seal, "its spare bytes are not zero"),
  FIELD (spare1, "its spare bytes are not zero"),
  FIELD (spare2, "its spare bytes are not zero"),
  FIELD (crc, "its checksum is wrong"),
  FIELD (body, "its checksum is wrong"),
};

static void
expect_bad (struct rig *r, uint64_t blk, const char *message, bool first)
{
  struct buf *b = NULL;
  uint64_t nr_free = stat_of (r).nr_free;

  test_log_forget ();
  assert_int_equal (get (r, 6, blk, 3, false, &b), EIO);
  assert_null (b);
  assert_int_equal (stat_of (r).nr_free, nr_free);
  assert_true (test_log_has (message));
  if (first) {
    assert_true (test_log_has ("first: block 60:"));
    assert_true (test_log_has ("node 6 of tree 4660, level 0"));
  }
  CHECK (r);
}

static void
test_bad_nodes (void **state)
{
  struct rig *r = *state;
  struct disk_node node;

  env_set (&fast_clock); /* else the log says only one a second */
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    bool body = strcmp (fields[i].name, "body") == 0;

    make_node (&node, 6, 60, 3, 1);
    ((uint8_t *) &node)[fields[i].off] ^= 1;
    if (!body && strcmp (fields[i].name, "crc") != 0)
      seal (&node);
    rig_write (r, 60, &node);
    for (int k = 0; k < 10; k++)
      env_now_ns ();
    expect_bad (r, 60, fields[i].message, true);
  }
  make_node (&node, 6, 60, 2, 1);
  rig_write (r, 60, &node);
  for (int k = 0; k < 10; k++)
    env_now_ns ();
  expect_bad (r, 60, "is older than what points to it", true);
  put_node (r, 6, 60, 4, 1);
  for (int k = 0; k < 10; k++)
    env_now_ns ();
  expect_bad (r, 60, "is newer than what points to it", true);
  env_set (NULL);
}

static void
test_bad_pointers (void **state)
{
  struct rig *r = *state;
  static const uint64_t bad[] = {
    NR_BLOCKS,          BLKNO_PLACE_MAX, UINT64_C (2) << BLKNO_PLACE_BITS,
    UINT64_C (1) << 60, UINT64_MAX,
  };
  struct buf *b;

  env_set (&fast_clock);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    for (int k = 0; k < 10; k++)
      env_now_ns ();
    expect_bad (r, bad[i], "no such block", false);
  }
  put_node (r, 6, 60, 3, 1);
  assert_int_equal (get (r, 6, 60, 3, false, &b), 0);
  for (int k = 0; k < 10; k++)
    env_now_ns ();
  expect_bad (r, 61, "is known at another block", false);
  env_set (NULL);
  buf_put (r->bs, b);
  CHECK (r);
}

static void
test_read_error (void **state)
{
  struct rig *r = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = 60 * BUF_BYTES,
                             .bytes = BUF_BYTES,
                             .count = 1,
                             .error = EIO };
  struct buf *b;

  put_node (r, 6, 60, 3, 1);
  fault_add (r->v[0], &rule);
  expect_bad (r, 60, "cannot be read", true);
  assert_int_equal (get (r, 6, 60, 3, false, &b), 0); /* the rule is spent */
  buf_put (r->bs, b);
  CHECK (r);
}

/* buf_node_error () with nothing to compare. */
static void
test_node_error (void **state)
{
  struct disk_node node;

  UNUSED (state);
  make_node (&node, 6, 60, 3, 1);
  assert_null (buf_node_error (&node, NULL, NULL, 0, 60));
  assert_non_null (buf_node_error (&node, NULL, NULL, 0, 61));
  assert_non_null (buf_node_error (&node, NULL, ID (7), 0, 60));
  assert_non_null (buf_node_error (&node, NULL, ID (6), DISK_NODE_INNER, 60));
}

/* A dirty node is not compared with what points to it. */
static void
test_dirty_has_no_cycle (void **state)
{
  struct rig *r = *state;
  struct buf *b = buf_meta_new (r->bs, ID (1), DISK_NODE_MAP, 10), *again;

  buf_meta_dirty (r->bs, b);
  assert_int_equal (get (r, 1, 10, 99, false, &again), 0);
  assert_ptr_equal (again, b);
  buf_put (r->bs, again);
  buf_put (r->bs, b);
}

/* ---- eviction ---- */

static void
load_many (struct rig *r, unsigned from, unsigned nr, bool quiet)
{
  for (unsigned i = from; i < from + nr; i++) {
    struct buf *b;

    assert_int_equal (get (r, i, i + 1, 1, quiet, &b), 0);
    assert_int_equal (*stamp_of (b->data), i);
    buf_put (r->bs, b);
  }
}

static void
put_many (struct rig *r, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++)
    put_node (r, i, i + 1, 1, i);
}

static unsigned
nr_cached (struct rig *r, unsigned from, unsigned nr)
{
  unsigned n = 0;

  for (unsigned i = from; i < from + nr; i++)
    n += is_cached (r, i);
  return n;
}

static void
test_eviction (void **state)
{
  struct rig *r = *state;
  struct buf *held, *dirty, *b;

  put_many (r, 1500);
  assert_int_equal (get (r, 0, 1, 1, false, &held), 0);
  assert_int_equal (get (r, 1, 2, 1, false, &dirty), 0);
  *stamp_of (dirty->data) = 1000000;
  buf_meta_dirty (r->bs, dirty);
  buf_put (r->bs, dirty);
  load_many (r, 2, 1400, false);
  CHECK (r);
  assert_true (stat_of (r).nr_evicted >= 1400 - NR_BUFS);
  assert_ptr_equal (buf_meta_find (r->bs, ID (0)), held);
  assert_int_equal (*stamp_of (held->data), 0);
  buf_put (r->bs, held);
  buf_put (r->bs, held);
  b = buf_meta_find (r->bs, ID (1));
  assert_ptr_equal (b, dirty);
  assert_int_equal (*stamp_of (b->data), 1000000);
  buf_put (r->bs, b);
  /* UNDO's share is still free. */
  assert_int_equal (stat_of (r).nr_free, bufs_dirty_max (r->bs, BUF_UNDO));
}

/* What is used again and again stays while others come and go. */
static void
test_clock (void **state)
{
  struct rig *r = *state;

  put_many (r, 1500);
  load_many (r, 0, 50, false);
  for (unsigned i = 50; i < 1400; i += 50) {
    load_many (r, i, 50, false);
    (void) nr_cached (r, 0, 50); /* touches them */
  }
  assert_true (nr_cached (r, 0, 50) == 50);
  CHECK (r);
}

static void
test_quiet (void **state)
{
  struct rig *r = *state;
  struct buf *a, *b;

  put_many (r, 1500);
  load_many (r, 0, 200, false);
  load_many (r, 200, 1200, true); /* a scrub goes by */
  CHECK (r);
  assert_int_equal (nr_cached (r, 0, 200), 200);
  assert_int_equal (nr_cached (r, 200, 1200), 0);

  /* Quiet twice: gone with the last.  Found by others: it stays. */
  assert_int_equal (get (r, 300, 301, 1, true, &a), 0);
  assert_int_equal (get (r, 300, 301, 1, true, &b), 0);
  assert_ptr_equal (a, b);
  buf_put (r->bs, a);
  buf_put (r->bs, b);
  assert_false (is_cached (r, 300));
  assert_int_equal (get (r, 300, 301, 1, true, &a), 0);
  assert_true (is_cached (r, 300));
  buf_put (r->bs, a);
  assert_true (is_cached (r, 300));
  /* Changed: it stays as well. */
  assert_int_equal (get (r, 301, 302, 1, true, &a), 0);
  buf_meta_dirty (r->bs, a);
  buf_put (r->bs, a);
  write_meta (r, 1);
  assert_true (is_cached (r, 301));
  CHECK (r);
}

static void
test_none_clean (void **state)
{
  struct rig *r = *state;
  unsigned nr = NR_BUFS - NR_VOLUMES - bufs_dirty_max (r->bs, BUF_UNDO);
  struct buf *held[NR_BUFS], *b = NULL;

  put_many (r, NR_BUFS);
  for (unsigned i = 0; i < nr; i++)
    assert_int_equal (get (r, i, i + 1, 1, false, &held[i]), 0);
  env_set (&fast_clock);
  assert_int_equal (get (r, nr, nr + 1, 1, false, &b), EIO);
  assert_null (b);
  assert_true (test_log_has ("no buffer is clean"));
  assert_null (buf_meta_new (r->bs, ID (9999), DISK_NODE_MAP, 9));
  assert_int_equal (buf_data_get (r->bs, &b, 1), EIO);
  CHECK (r);
  env_set (NULL);
  /* The log has its own. */
  assert_non_null (buf_undo_new (r->bs, 1));
  CHECK (r);
  for (unsigned i = 0; i < nr; i++)
    buf_put (r->bs, held[i]);
  assert_int_equal (get (r, nr, nr + 1, 1, false, &b), 0);
  buf_put (r->bs, b);
  CHECK (r);
}

/* ---- dropping ---- */

static void
test_drop_dirty (void **state)
{
  struct rig *r = *state;
  struct buf *b = buf_meta_new (r->bs, ID (1), DISK_NODE_MAP, 10), *b2;

  buf_meta_dirty (r->bs, b);
  buf_meta_drop (r->bs, b);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 0);
  /* Made again at once, elsewhere, while the old one is held. */
  b2 = buf_meta_new (r->bs, ID (1), DISK_NODE_MAP, 11);
  assert_ptr_not_equal (b, b2);
  buf_meta_dirty (r->bs, b2);
  CHECK (r);
  buf_put (r->bs, b);
  buf_put (r->bs, b2);
  assert_int_equal (write_meta (r, 1), 1);
  assert_int_equal (stat_of (r).nr_free, NR_BUFS - NR_VOLUMES - 1);
  CHECK (r);
}

static void
test_drop_running (void **state)
{
  struct rig *r = *state;
  struct buf *b = buf_meta_new (r->bs, ID (1), DISK_NODE_MAP, 10), *taken[4];
  struct disk_node disk;

  *stamp_of (b->data) = 77;
  buf_meta_dirty (r->bs, b);
  assert_int_equal (bufs_take (r->bs, BUF_META, taken, 4), 1);
  buf_meta_dirty (r->bs, b); /* of the next cycle; dropped below */
  buf_meta_drop (r->bs, b);
  buf_put (r->bs, b);
  CHECK (r);
  assert_int_equal (bufs_take (r->bs, BUF_META, taken + 1, 3), 0);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 1);
  buf_meta_seal (taken[0], 3, NULL);
  assert_int_equal (write_taken (r, taken, 1), 0);
  rig_read (r, 10, &disk);
  assert_int_equal (*stamp_of (&disk), 77);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 0);
  assert_int_equal (stat_of (r).nr_free, NR_BUFS - NR_VOLUMES);
  CHECK (r);
}

/* ---- dirty again while it is written ---- */

static void
test_dirty_running (void **state)
{
  struct rig *r = *state;
  struct buf *b = buf_meta_new (r->bs, ID (1), DISK_NODE_MAP, 10), *taken[4];

  buf_meta_dirty (r->bs, b);
  assert_int_equal (bufs_take (r->bs, BUF_META, taken, 4), 1);
  assert_int_equal (stat_of (r).nr_running, 1);
  CHECK (r);
  buf_meta_dirty (r->bs, b);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 1);
  buf_put (r->bs, b);
  buf_meta_seal (taken[0], 1, NULL);
  assert_int_equal (write_taken (r, taken, 1), 0);
  CHECK (r);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 1);
  assert_int_equal (write_meta (r, 2), 1);
  assert_int_equal (bufs_nr_dirty (r->bs, BUF_META), 0);
  CHECK (r);
}

static void
test_seal_copy (void **state)
{
  struct rig *r = *state;
  struct buf *b = buf_meta_new (r->bs, ID (1), DISK_NODE_MAP, 10);
  struct disk_node copy;

  *stamp_of (b->data) = 5;
  buf_meta_seal (b, 12, &copy);
  assert_null (buf_node_error (&copy, r->bs->uuid, ID (1), DISK_NODE_MAP, 10));
  assert_int_equal (copy.cycle, 12);
  assert_memory_equal (&copy, b->data, sizeof copy);
  buf_meta_seal (b, 13, b->data);
  assert_int_equal (((struct disk_node *) b->data)->cycle, 13);
  buf_put (r->bs, b);
}

/* ---- the books ---- */

static void
test_check_notices (void **state)
{
  struct rig *r = *state;
  struct bufs *bs = r->bs;
  struct buf *b = buf_meta_new (bs, ID (1), DISK_NODE_MAP, 10);
  struct buf *u = buf_undo_new (bs, 4), *page;

  buf_meta_dirty (bs, b);
  assert_int_equal (buf_data_get (bs, &page, 1), 0);
  CHECK (r);
#define NOTICES(breaks, mends)                \
  do {                                        \
    breaks;                                   \
    assert_string_not_equal (check (bs), ""); \
    mends;                                    \
    CHECK (r);                                \
  } while (0)
  NOTICES (bs->free.nr++, bs->free.nr--);
  NOTICES (bs->lists[BUF_DATA].nr_reserved++,
           bs->lists[BUF_DATA].nr_reserved--);
  NOTICES (page->refs &= ~BUF_GONE, page->refs |= BUF_GONE);
  NOTICES (bs->free.nr_undo++, bs->free.nr_undo--);
  NOTICES (bs->lists[BUF_META].nr++, bs->lists[BUF_META].nr--);
  NOTICES (bs->lists[BUF_META].nr_running++, bs->lists[BUF_META].nr_running--);
  NOTICES (bs->lists[BUF_META].nr_pinned++, bs->lists[BUF_META].nr_pinned--);
  NOTICES (bs->nr_type[BUF_META]++, bs->nr_type[BUF_META]--);
  NOTICES (b->flags = 0, b->flags = BUF_DIRTY);
  NOTICES (b->refs -= 2, b->refs += 2);
  NOTICES (b->refs |= BUF_GONE, b->refs &= ~BUF_GONE);
  NOTICES (b->id.index++, b->id.index--);
  NOTICES (b->image = u, b->image = NULL);
  NOTICES (r->tags[u - bs->bufs].what++, r->tags[u - bs->bufs].what--);
  NOTICES (r->tags[b - bs->bufs].what++, r->tags[b - bs->bufs].what--);
  NOTICES (bs->free.first->refs = 1, bs->free.first->refs = 0);
  NOTICES (u->refs &= ~BUF_GONE, u->refs |= BUF_GONE);
  NOTICES (bs->buckets[b->bucket] = NULL, bs->buckets[b->bucket] = b);
  NOTICES (b->next = u, b->next = NULL);
  buf_data_unget (bs, &page, 1);
  buf_put (bs, b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
    cmocka_unit_test (test_limits),
    cmocka_unit_test (test_node_error),
    TEST (test_volume_bufs),
    TEST (test_node_life),
    TEST (test_keys),
    TEST (test_bad_nodes),
    TEST (test_bad_pointers),
    TEST (test_read_error),
    TEST (test_dirty_has_no_cycle),
    TEST (test_eviction),
    TEST (test_clock),
    TEST (test_quiet),
    TEST (test_none_clean),
    TEST (test_drop_dirty),
    TEST (test_drop_running),
    TEST (test_dirty_running),
    TEST (test_seal_copy),
    TEST (test_check_notices),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
