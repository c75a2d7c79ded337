/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-super.c and test-super-format.c share: a store over memory
 * volumes, each under a fault volume.
 */

#ifndef FARPAGE_TEST_SUPER_H
#define FARPAGE_TEST_SUPER_H

#include "test-common.h"

#include <errno.h>

#include "crc32c.h"
#include "fault.h"
#include "super.h"

#define RIG_VOLUMES 4
#define RING_MIN    (SUPER_RING_BLOCKS_MIN * DISK_BLOCK_BYTES)

struct rig {
  struct volume *v[RIG_VOLUMES]; /* fault over memory */
  unsigned nr;
  struct super_format format;
  struct supers s;
  uint8_t uuid[DISK_UUID_BYTES];
  void *page;
};

static inline void
rig_open (struct rig *t, unsigned nr, const uint64_t *sizes)
{
  static const char *const names[RIG_VOLUMES] = { "va", "vb", "vc", "vd" };
  struct volume *inner;

  t->nr = nr;
  for (unsigned i = 0; i < nr; i++) {
    assert_int_equal (volume_open_memory (names[i], sizes[i], true, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &t->v[i]), 0);
  }
  t->page = test_pages (PAGE_BYTES);
  t->format = (struct super_format){ .volumes = t->v, .nr_volumes = nr };
  t->format.ring_bytes = RING_MIN;
  test_log_forget ();
}

static inline void
rig_close (struct rig *t)
{
  for (unsigned i = 0; i < t->nr; i++)
    volume_close (t->v[i]);
  free (t->page);
  memset (t, 0, sizeof *t);
}

/* A store of nr volumes of 1, 2, .. MiB, formatted and read. */
static inline void
rig_store (struct rig *t, unsigned nr)
{
  static const uint64_t sizes[RIG_VOLUMES] = { MIB, 2 * MIB, 3 * MIB, 4 * MIB };

  rig_open (t, nr, sizes);
  assert_int_equal (super_format (&t->format, t->uuid), 0);
  assert_int_equal (supers_read (t->v, nr, &t->s), 0);
}

static inline void
move_blocks (struct volume *v, enum vio_op op, uint64_t blk, void *buf,
             uint32_t nr)
{
  uint64_t off = blk * DISK_BLOCK_BYTES;
  size_t bytes = (size_t) nr * DISK_BLOCK_BYTES;

  if (op == VIO_READ)
    assert_int_equal (volume_read (v, off, buf, bytes), 0);
  else
    assert_int_equal (volume_write (v, off, buf, bytes), 0);
}

static inline uint64_t
slot_of (const struct volume *v, unsigned slot)
{
  return super_slot_block (v->size_bytes / DISK_BLOCK_BYTES, slot);
}

static inline void
slot_read (struct volume *v, unsigned slot, struct disk_super *to)
{
  move_blocks (v, VIO_READ, slot_of (v, slot), to, 1);
}

static inline void
slot_write (struct volume *v, unsigned slot, const struct disk_super *from)
{
  struct disk_super copy = *from;

  move_blocks (v, VIO_WRITE, slot_of (v, slot), &copy, 1);
}

static inline void
slot_seal (struct disk_super *p)
{
  p->crc = crc32c (0, p, DISK_CRC_OFF);
}

/* ---- reading what was made, with nothing but disk.h ---- */

struct walk {
  struct volume *v;
  const struct disk_super *root;
  unsigned volume;
  uint64_t nr_blocks, nr_nodes, nr_leaves;
};

static inline uint64_t
used_to (const struct disk_super *root, unsigned volume)
{
  return 2 + (volume == 0 ? root->ring_blocks : 0) +
         root->members[volume].freemap_blocks;
}

static inline void
check_leaf (const struct walk *w, const struct disk_node *leaf)
{
  uint64_t base = leaf->index * DISK_FREEMAP_BITS;
  uint64_t low = used_to (w->root, w->volume), high = w->nr_blocks - 2;
  uint32_t nr_used = 0;

  for (uint64_t i = 0; i < DISK_FREEMAP_BITS; i += 8) {
    uint8_t used = 0;

    for (unsigned bit = 0; bit < 8; bit++)
      if (base + i + bit < low || base + i + bit >= high)
        used |= (uint8_t) (1u << bit);
    if (used != leaf->body[i / 8])
      fail_msg ("blocks from %" PRIu64 " of volume %u", base + i, w->volume);
    nr_used += (uint32_t) __builtin_popcount (used);
  }
  assert_int_equal (leaf->nr_used, nr_used);
}

static inline void
check_node (struct walk *w, const struct disk_pointer *at, unsigned level,
            uint64_t index)
{
  const uint64_t place = at->blk & ((UINT64_C (1) << 48) - 1);
  const struct disk_member *m = &w->root->members[w->volume];
  struct disk_node *node = test_pages (sizeof *node);
  const struct disk_inner *inner = (const void *) node->body;
  uint64_t nr_below = w->nr_leaves;
  uint32_t nr_used = 0;

  assert_int_equal (at->blk >> 48, w->volume);
  assert_in_range (place, m->freemap_first,
                   m->freemap_first + m->freemap_blocks - 1);
  move_blocks (w->v, VIO_READ, place, node, 1);
  assert_int_equal (node->crc, crc32c (0, node, DISK_CRC_OFF));
  assert_int_equal (node->magic, DISK_NODE_MAGIC);
  assert_int_equal (node->version, 1);
  assert_int_equal (node->type,
                    level == 0 ? DISK_NODE_FREEMAP : DISK_NODE_INNER);
  assert_int_equal (node->level, level);
  assert_int_equal (node->blk, at->blk);
  assert_int_equal (node->cycle, at->cycle);
  assert_int_equal (node->tree, 0x100 + w->volume);
  assert_int_equal (node->index, index);
  assert_memory_equal (node->uuid, w->root->uuid, 16);
  w->nr_nodes++;
  for (unsigned l = 1; l < level; l++)
    nr_below = (nr_below + 127) / 128;
  for (unsigned i = 0; i < DISK_FANOUT && level > 0; i++) {
    if (index * 128 + i < nr_below) {
      check_node (w, &inner->child[i], level - 1, index * 128 + i);
      nr_used++;
    } else
      assert_int_equal (inner->child[i].blk | inner->child[i].cycle, 0);
  }
  if (level > 0)
    assert_int_equal (node->nr_used, nr_used);
  else
    check_leaf (w, node);
  free (node);
}

/* The store that t's volumes are is a fresh one, to its last bit. */
static inline void
check_fresh (struct rig *t)
{
  struct disk_super *root = &t->s.root;
  uint8_t *ring = test_pages (MIB);

  assert_int_equal (supers_read (t->v, t->nr, &t->s), 0);
  assert_int_equal (root->state, DISK_CLEAN);
  assert_int_equal (root->epoch, 1);
  assert_int_equal (root->cycle, 1);
  assert_int_equal (root->redo_lsn, 1);
  assert_int_equal (root->next_lsn, 1);
  assert_int_equal (root->durable_lsn, 1);
  assert_int_equal (root->next_object, 0x1000);
  assert_int_equal (root->entry_bytes, 12);
  assert_int_equal (root->table.blk | root->table.cycle, 0);
  assert_int_equal (root->table_height, 0);
  assert_int_equal (root->dirty_max | root->staging, 0);
  for (uint64_t i = 0; i < root->ring_blocks; i += MIB / 4096) {
    uint64_t nr = min_u64 (root->ring_blocks - i, MIB / 4096);

    move_blocks (t->v[0], VIO_READ, 2 + i, ring, (uint32_t) nr);
    if (ring[0] != 0 || memcmp (ring, ring + 1, nr * 4096 - 1) != 0)
      fail_msg ("the ring is not zero in its %" PRIu64 " blocks from %" PRIu64,
                nr, i);
  }
  for (unsigned i = 0; i < t->nr; i++) {
    struct walk w = { .v = t->v[i], .root = root, .volume = i };
    const struct disk_member *m = &root->members[i];

    w.nr_blocks = t->v[i]->size_bytes / 4096;
    w.nr_leaves = (w.nr_blocks + 30719) / 30720;
    check_node (&w, &m->freemap, m->freemap_height, 0);
    assert_int_equal (w.nr_nodes, m->freemap_blocks);
    assert_int_equal (super_first_block (root, i), used_to (root, i));
  }
  free (ring);
}

#endif /* FARPAGE_TEST_SUPER_H */
