/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of buffers share: a pool over two volumes in memory, either
 * of which can fail, and nodes with a word in them that tells them apart.
 */

#ifndef FARPAGE_TEST_BUFS_H
#define FARPAGE_TEST_BUFS_H

#include "test-common.h"

#include "buf-impl.h"
#include "crc32c.h"
#include "env.h"
#include "fault.h"
#include "task.h"

#include <errno.h>

#define NR_VOLUMES 2u
#define NR_BLOCKS  2048u /* of each volume */
#define NR_BUFS    320u
#define TREE       UINT64_C (0x1234)
#define PTR(b, c)  (&(struct disk_pointer){ .blk = (b), .cycle = (c) })
#define CHECK(r)   assert_string_equal (check ((r)->bs), "")
#define ID(i)      (&(struct buf_id){ .tree = TREE, .index = (i) })
#define UUID_BYTE  0x5a

struct rig {
  struct volume *v[NR_VOLUMES];
  struct vpool *pool;
  struct bufs *bs;
  struct buf_tag tags[NR_BUFS];
  atomic_uint nr_wakes;
};

static inline const char *
check (struct bufs *bs)
{
  const char *why = bufs_check (bs);

  return why != NULL ? why : "";
}

static inline void
count_wake (void *arg)
{
  struct rig *r = arg;

  atomic_fetch_add (&r->nr_wakes, 1);
}

static inline void
rig_open (struct rig *r)
{
  uint8_t uuid[DISK_UUID_BYTES];
  struct bufs_config config = { .volumes = r->v,
                                .nr_volumes = NR_VOLUMES,
                                .uuid = uuid,
                                .cache_bytes = NR_BUFS * BUF_BYTES,
                                .tags = r->tags,
                                .wake = count_wake,
                                .arg = r };

  memset (uuid, UUID_BYTE, sizeof uuid);
  memset (r, 0, sizeof *r);
  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    struct volume *inner;

    assert_int_equal (volume_open_memory (i == 0 ? "first" : "second",
                                          NR_BLOCKS * BUF_BYTES, true, &inner),
                      0);
    assert_int_equal (volume_open_fault (inner, &r->v[i]), 0);
  }
  assert_int_equal (vpool_create (2, 0, VPOOL_SYNC, &r->pool), 0);
  assert_int_equal (bufs_create (&config, &r->bs), 0);
}

static inline void
rig_close (struct rig *r)
{
  bufs_destroy (r->bs);
  vpool_destroy (r->pool);
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    volume_close (r->v[i]);
}

static inline int
setup (void **state)
{
  struct rig *r = aligned_alloc (64, (sizeof *r + 63) & ~(size_t) 63);

  test_log_forget ();
  rig_open (r);
  *state = r;
  return 0;
}

static inline int
teardown (void **state)
{
  rig_close (*state);
  free (*state);
  return 0;
}

static inline void
rig_read (struct rig *r, uint64_t blk, void *page)
{
  assert_int_equal (volume_read (r->v[blkno_volume (blk)],
                                 blkno_place (blk) * BUF_BYTES, page,
                                 BUF_BYTES),
                    0);
}

static inline void
rig_write (struct rig *r, uint64_t blk, const void *page)
{
  assert_int_equal (volume_write (r->v[blkno_volume (blk)],
                                  blkno_place (blk) * BUF_BYTES, page,
                                  BUF_BYTES),
                    0);
}

/* ---- nodes: the first word of a body is its stamp ---- */

static inline uint64_t *
stamp_of (void *node)
{
  return (uint64_t *) ((struct disk_node *) node)->body;
}

static inline void
seal (struct disk_node *node)
{
  node->crc = crc32c (0, node, DISK_CRC_OFF);
}

/* A good node, as it lies on a volume. */
static inline void
make_node (struct disk_node *node, uint64_t index, uint64_t blk, uint64_t cycle,
           uint64_t stamp)
{
  memset (node, 0, sizeof *node);
  node->magic = DISK_NODE_MAGIC;
  node->version = 1;
  node->type = DISK_NODE_MAP;
  node->blk = blk;
  node->cycle = cycle;
  node->tree = TREE;
  node->index = index;
  memset (node->uuid, UUID_BYTE, sizeof node->uuid);
  *stamp_of (node) = stamp;
  seal (node);
}

static inline void
put_node (struct rig *r, uint64_t index, uint64_t blk, uint64_t cycle,
          uint64_t stamp)
{
  struct disk_node node;

  make_node (&node, index, blk, cycle, stamp);
  rig_write (r, blk, &node);
}

static inline int
get (struct rig *r, uint64_t index, uint64_t blk, uint64_t cycle, bool quiet,
     struct buf **bp)
{
  return buf_meta_get (r->bs, ID (index), DISK_NODE_MAP, PTR (blk, cycle),
                       quiet, bp);
}

static inline bool
is_cached (struct rig *r, uint64_t index)
{
  struct buf *b = buf_meta_find (r->bs, ID (index));

  if (b != NULL)
    buf_put (r->bs, b);
  return b != NULL;
}

/* Write what was taken, from its own pages; the first error.  What was written
 * is told so.
 */
static inline int
write_taken (struct rig *r, struct buf **taken, unsigned nr)
{
  struct buf_io *ios = calloc (nr + 1, sizeof *ios);
  struct vbatch *batch = vbatch_get (r->pool);
  int err;

  for (unsigned i = 0; i < nr; i++)
    ios[i] = (struct buf_io){ .volume = blkno_volume (taken[i]->blk),
                              .first = blkno_place (taken[i]->blk),
                              .page = taken[i]->data,
                              .error = -1 };
  err = bufs_write (r->bs, batch, ios, nr);
  for (unsigned i = 0; i < nr; i++)
    if (ios[i].error == 0)
      bufs_written (r->bs, taken + i, 1);
  vbatch_put (batch);
  free (ios);
  return err;
}

/* Take and write all of DATA. */
static inline unsigned
write_data (struct rig *r)
{
  struct buf *taken[NR_BUFS];
  unsigned nr = bufs_take (r->bs, BUF_DATA, taken, NR_BUFS);

  assert_int_equal (write_taken (r, taken, nr), 0);
  return nr;
}

/* Take, seal as of this cycle and write all of META. */
static inline unsigned
write_meta (struct rig *r, uint64_t cycle)
{
  struct buf *taken[NR_BUFS];
  unsigned nr = bufs_take (r->bs, BUF_META, taken, NR_BUFS);

  for (unsigned i = 0; i < nr; i++)
    buf_meta_seal (taken[i], cycle, NULL);
  assert_int_equal (write_taken (r, taken, nr), 0);
  return nr;
}

static inline uint64_t
tag_of_block (struct rig *r, uint64_t blk)
{
  uint64_t nr = 0;

  for (unsigned i = 0; i < NR_BUFS; i++)
    nr += atomic_load (&r->tags[i].what) == ((uint64_t) BUF_DATA << 60 | blk);
  return nr;
}

static inline struct bufs_stat
stat_of (struct rig *r)
{
  struct bufs_stat st;

  bufs_stat (r->bs, &st);
  return st;
}

/* A clock that goes on by a tenth of a second with each look. */
static inline uint64_t
fast_now_ns (void)
{
  static _Atomic uint64_t now = NS_PER_S;

  return atomic_fetch_add (&now, NS_PER_S / 10);
}

static inline void
no_random (void *buf, size_t len)
{
  memset (buf, 7, len);
}

static const struct env_ops fast_clock = { .now_ns = fast_now_ns,
                                           .random = no_random };

/* Do so many wait for room, within two seconds? */
static inline bool
is_queued (struct rig *r, unsigned nr)
{
  struct buf_list *l = &r->bs->lists[BUF_DATA];

  for (unsigned i = 0; i < 2000; i++) {
    unsigned n = 0;

    lock_acquire (&l->lock);
    for (struct data_waiter *w = l->waiter; w != NULL; w = w->next)
      n++;
    lock_release (&l->lock);
    if (n == nr)
      return true;
    task_sleep (NS_PER_MS);
  }
  return false;
}

#endif /* FARPAGE_TEST_BUFS_H */
