/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of trees and maps share: a store on two memory volumes with the
 * smallest cache and ring there are, one tree, whose root lies where the object
 * table's would, and blocks for its nodes that come back by the rules.
 *
 * A test can run a cycle, close and open (every node is loaded anew and must
 * have the cycle that points to it), or crash (what was not written is gone)
 * and recover, and have all nodes walked and counted.
 */

#ifndef FARPAGE_TEST_META_H
#define FARPAGE_TEST_META_H

#include "test-common.h"

#include <errno.h>

#include "crc32c.h"
#include "env.h"
#include "fault.h"
#include "recover.h"
#include "tree-impl.h"

#define META_VOLUMES 2u
#define META_BYTES   (64 * MIB)
#define META_RING    (UINT64_C (2) * MIB)
#define META_PARKED  65536u /* more than there are blocks */

struct meta_parked {
  uint64_t blk, until; /* a cycle, or (data) an lsn */
};

struct meta {
  struct volume *v[META_VOLUMES], *given[META_VOLUMES]; /* fault over memory */
  struct supers s;
  struct bufs *bs;
  struct flush *fl;
  struct recover_report report;

  /* The tree's owner. */
  struct tree *tree; /* what is at work now */
  const struct recover_ops *recover_ops;
  unsigned nr_roots; /* times the root has changed */
  bool blind;        /* nodes are broken: do not walk them at open */

  /* Who has which block: 'f'ree, 'u'sed, 't'aken out, 'p'arked. */
  lock_t lock;
  uint64_t nr_blocks;
  char *state[META_VOLUMES];
  uint64_t hand;
  struct meta_parked parked[META_PARKED], parked_data[META_PARKED];
  unsigned nr_parked, nr_parked_data;
};

/* ---- blocks ---- */

static inline char *
meta_state (struct meta *m, uint64_t blk)
{
  assert_in_range (blkno_volume (blk), 0, META_VOLUMES - 1);
  assert_in_range (blkno_place (blk), 0, m->nr_blocks - 1);
  return &m->state[blkno_volume (blk)][blkno_place (blk)];
}

/* Lock: needs m's; nothing may fail under it, for cmocka would jump away. */
static inline uint64_t
meta_take_locked (struct meta *m, uint64_t want, uint64_t *nr)
{
  for (uint64_t tries = 0; tries < META_VOLUMES * m->nr_blocks; tries++) {
    uint64_t i = m->hand++ % (META_VOLUMES * m->nr_blocks);
    uint64_t volume = i / m->nr_blocks, place = i % m->nr_blocks;
    char *state = &m->state[volume][place];

    *nr = 0;
    while (*nr < want && place + *nr < m->nr_blocks && state[*nr] == 'f')
      state[(*nr)++] = 't';
    m->hand += *nr;
    if (*nr > 0)
      return blkno_make ((unsigned) volume, place);
  }
  return 0;
}

/* nr free blocks in a row, or fewer if there are not so many in a row. */
static inline uint64_t
meta_take (struct meta *m, uint64_t want, uint64_t *nr)
{
  uint64_t blk;

  *nr = 0;
  lock_acquire (&m->lock);
  blk = meta_take_locked (m, want, nr);
  lock_release (&m->lock);
  assert_int_not_equal (blk, 0); /* or no block is free */
  return blk;
}

static inline uint64_t
meta_take_one (struct meta *m)
{
  uint64_t nr;

  return meta_take (m, 1, &nr);
}

/* A block that is one of `was` becomes something else. */
static inline void
meta_move (struct meta *m, uint64_t blk, const char *was, char is)
{
  char *state = meta_state (m, blk), c;

  lock_acquire (&m->lock);
  c = *state;
  *state = is;
  lock_release (&m->lock);
  if (strchr (was, c) == NULL)
    fail_msg ("block %#" PRIx64 " is '%c' and becomes '%c'", blk, c, is);
}

static inline void
meta_put (struct meta *m, uint64_t blk)
{
  meta_move (m, blk, "t", 'f');
}

/* The tree, or a map, names this block; or does so no more. */
static inline void
meta_note (struct meta *m, uint64_t blk, bool used)
{
  meta_move (m, blk, used ? "tf" : "u", used ? 'u' : 't');
}

static inline void
meta_park (struct meta *m, uint64_t blk, uint64_t cycle)
{
  meta_move (m, blk, "t", 'p');
  LOCK_SCOPE (&m->lock);
  m->parked[m->nr_parked++ % META_PARKED] = (struct meta_parked){ blk, cycle };
}

static inline void
meta_park_data (struct meta *m, uint64_t blk, uint64_t lsn)
{
  meta_move (m, blk, "t", 'p');
  LOCK_SCOPE (&m->lock);
  m->parked_data[m->nr_parked_data++ % META_PARKED] =
      (struct meta_parked){ blk, lsn };
}

static inline void
meta_unpark (struct meta *m, struct meta_parked *list, unsigned *nr,
             uint64_t upto)
{
  unsigned left = 0;

  LOCK_SCOPE (&m->lock);
  for (unsigned i = 0; i < *nr; i++)
    if (list[i].until <= upto)
      m->state[blkno_volume (list[i].blk)][blkno_place (list[i].blk)] = 'f';
    else
      list[left++] = list[i];
  *nr = left;
}

static inline void
meta_note_node (void *arg, uint64_t blk)
{
  meta_note (arg, blk, true);
}

static inline void
meta_gone (void *arg, uint64_t blk)
{
  struct meta *m = arg;

  meta_note (m, blk, false);
  meta_park (m, blk, flush_cycle (m->fl));
}

/* In recovery, which allocates nothing, it need not be parked. */
static inline void
meta_gone_redo (void *arg, uint64_t blk)
{
  meta_note (arg, blk, false);
}

/* ---- what the flusher asks ---- */

static inline int
meta_before_cut (void *arg)
{
  (void) arg;
  return 0;
}

/* The next object's id tells the number of nodes. */
static inline int
meta_cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct meta *m = arg;

  (void) ch;
  LOCK_SCOPE (&m->tree->lock);
  root->table = m->tree->root;
  root->next_object = DISK_TREE_FIRST + atomic_load (&m->tree->nr_nodes);
  return 0;
}

static inline void
meta_durable (void *arg, uint64_t lsn)
{
  struct meta *m = arg;

  meta_unpark (m, m->parked_data, &m->nr_parked_data, lsn);
}

static inline void
meta_retired (void *arg, uint64_t cycle)
{
  struct meta *m = arg;

  meta_unpark (m, m->parked, &m->nr_parked, cycle);
}

static inline void
meta_root_changed (void *arg)
{
  struct meta *m = arg;

  assert_true (lock_held (&m->tree->lock));
  m->nr_roots++;
}

/* ---- walking ---- */

struct meta_walk {
  uint64_t nr_nodes, nr_leaves;
  void (*leaf) (struct meta *m, const struct buf *leaf);
};

/* Every pointer has the cycle that its node was changed in last, inner nodes
 * count right, and no block is used twice.
 */
static inline void
meta_walk_node (struct meta *m, struct meta_walk *w, unsigned level,
                uint64_t leaf, const struct disk_pointer *at)
{
  struct buf *b;
  uint64_t cycle;

  assert_int_equal (tree_node_get (m->tree, level, leaf, at, &b), 0);
  cycle = b->dirty_cycle != 0 ? b->dirty_cycle : node_of (b)->cycle;
  if (cycle != at->cycle)
    fail_msg ("level %u, leaf %" PRIu64 ": of cycle %" PRIu64
              ", its pointer says %" PRIu64,
              level, leaf, cycle, at->cycle);
  w->nr_nodes++;
  *meta_state (m, b->blk) |= 0x80;
  if (level == 0) {
    w->nr_leaves++;
    if (w->leaf != NULL)
      w->leaf (m, b);
  } else {
    unsigned nr = 0;

    for (uint64_t i = 0; i < DISK_FANOUT; i++) {
      const struct disk_pointer *child = &children_of (b)[i];

      nr += child->blk != 0;
      if (child->blk != 0)
        meta_walk_node (m, w, level - 1, leaf + (i << shift_of (level - 1)),
                        child);
    }
    assert_int_equal (nr, node_of (b)->nr_used);
  }
  buf_put (m->bs, b);
}

static inline void
meta_walk (struct meta *m, struct meta_walk *w)
{
  w->nr_nodes = w->nr_leaves = 0;
  if (m->tree->root.blk != 0)
    meta_walk_node (m, w, m->tree->height, 0, &m->tree->root);
}

/* All nodes are right, and the blocks in use are those that were walked. */
static inline void
meta_check (struct meta *m, void (*leaf) (struct meta *m, const struct buf *b))
{
  struct meta_walk w = { .leaf = leaf };

  meta_walk (m, &w);
  assert_int_equal (w.nr_nodes, atomic_load (&m->tree->nr_nodes));
  for (unsigned v = 0; v < META_VOLUMES; v++)
    for (uint64_t i = 0; i < m->nr_blocks; i++) {
      char c = m->state[v][i];
      bool walked = c & 0x80;

      m->state[v][i] = c &= 0x7f;
      if (walked != (c == 'u'))
        fail_msg ("volume %u, block %" PRIu64 " is '%c', %swalked over", v, i,
                  c, walked ? "" : "not ");
    }
}

/* Nobody has kept a block that no tree names. */
static inline void
meta_check_taken (struct meta *m)
{
  for (unsigned v = 0; v < META_VOLUMES; v++)
    assert_null (memchr (m->state[v], 't', m->nr_blocks));
}

/* ---- life ---- */

static const struct flush_ops meta_flush_ops = {
  .before_cut = meta_before_cut,
  .cut = meta_cut,
  .durable = meta_durable,
  .retired = meta_retired,
};

/* Which blocks are in use, from what the tree is now: for begin. */
static inline void
meta_find_used (struct meta *m,
                void (*leaf) (struct meta *m, const struct buf *b))
{
  struct meta_walk w = { .leaf = leaf };

  m->nr_parked = m->nr_parked_data = 0;
  for (unsigned v = 0; v < META_VOLUMES; v++) {
    uint64_t first = super_first_block (&m->s.root, v);

    memset (m->state[v], 's', m->nr_blocks);
    memset (m->state[v] + first, 'f', m->nr_blocks - 2 - first);
  }
  meta_walk (m, &w);
  for (unsigned v = 0; v < META_VOLUMES; v++)
    for (uint64_t i = 0; i < m->nr_blocks; i++)
      if (m->state[v][i] & 0x80)
        m->state[v][i] = 'u';
}

static inline void
meta_open (struct meta *m)
{
  struct bufs_config bc = { .volumes = m->v,
                            .nr_volumes = META_VOLUMES,
                            .cache_bytes = BUFS_MIN * BUF_BYTES };
  struct flush_config fc = { .volumes = m->v,
                             .nr_volumes = META_VOLUMES,
                             .supers = &m->s,
                             .ops = &meta_flush_ops,
                             .arg = m };

  for (unsigned i = 0; i < META_VOLUMES; i++)
    m->v[i] = m->given[i];
  assert_int_equal (supers_read (m->v, META_VOLUMES, &m->s), 0);
  bc.uuid = m->s.root.uuid;
  assert_int_equal (bufs_create (&bc, &m->bs), 0);
  fc.bs = m->bs;
  assert_int_equal (flush_create (&fc, &m->fl), 0);
  assert_int_equal (
      recover_run (m->fl, &m->s, NULL, m->recover_ops, m, &m->report), 0);
  /* Who had taken blocks out is gone. */
  for (unsigned v = 0; v < META_VOLUMES; v++)
    for (uint64_t i = 0; i < m->nr_blocks; i++)
      if (m->state[v][i] == 't')
        m->state[v][i] = 'f';
}

static inline void
meta_kill (struct meta *m)
{
  flush_destroy (m->fl);
  bufs_destroy (m->bs);
}

/* Nothing dirty or referenced is lost. */
static inline void
meta_close (struct meta *m)
{
  assert_int_equal (flush_close (m->fl), 0);
  assert_null (bufs_check (m->bs));
  assert_int_equal (bufs_nr_dirty (m->bs, BUF_META), 0);
  meta_kill (m);
}

static inline void
meta_create (struct meta *m)
{
  struct super_format format = { .volumes = m->given,
                                 .nr_volumes = META_VOLUMES,
                                 .ring_bytes = META_RING };
  uint8_t uuid[DISK_UUID_BYTES];

  lock_init (&m->lock, LOCK_LEAF, "test");
  m->nr_blocks = META_BYTES / BUF_BYTES;
  for (unsigned i = 0; i < META_VOLUMES; i++) {
    struct volume *inner;

    assert_int_equal (
        volume_open_memory (i == 0 ? "v0" : "v1", META_BYTES, true, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &m->given[i]), 0);
    m->state[i] = malloc (m->nr_blocks);
    assert_non_null (m->state[i]);
  }
  assert_int_equal (super_format (&format, uuid), 0);
}

static inline void
meta_destroy (struct meta *m)
{
  for (unsigned i = 0; i < META_VOLUMES; i++) {
    volume_close (m->given[i]);
    free (m->state[i]);
  }
  lock_destroy (&m->lock);
}

/* ---- changes, with no thread behind them ---- */

/* Make the room that change_begin () would wait for. */
static inline void
meta_begin (struct meta *m, unsigned nr_nodes, struct change *ch)
{
  struct flush_stat st;

  flush_stat (m->fl, &st);
  if (bufs_nr_dirty (m->bs, BUF_META) * 3 > bufs_dirty_max (m->bs, BUF_META) ||
      st.tail_lsn - st.redo_lsn > st.ring_blocks / 2)
    assert_int_equal (flush_run_cycle (m->fl), 0);
  if (bufs_nr_dirty (m->bs, BUF_UNDO) * 4 > bufs_dirty_max (m->bs, BUF_UNDO))
    assert_int_equal (flush_commit (m->fl, flush_tail (m->fl)), 0);
  assert_int_equal (change_begin (m->fl, nr_nodes, ch), 0);
}

/* ---- nodes on the medium ---- */

/* Change a node's bytes on its volume, and make its checksum right. */
static inline void
meta_poke (struct meta *m, uint64_t blk, void (*change) (struct disk_node *n))
{
  static _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
  struct disk_node *node = (struct disk_node *) page;
  struct volume *v = m->given[blkno_volume (blk)];
  uint64_t off = blkno_place (blk) * PAGE_BYTES;

  assert_int_equal (volume_read (v, off, page, PAGE_BYTES), 0);
  change (node);
  node->crc = crc32c (0, node, DISK_CRC_OFF);
  assert_int_equal (volume_write (v, off, page, PAGE_BYTES), 0);
}

/* Reads of a block fail. */
static inline int
meta_fail_reads (struct meta *m, uint64_t blk)
{
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = blkno_place (blk) * PAGE_BYTES,
                             .bytes = PAGE_BYTES,
                             .error = EIO };

  return fault_add (m->given[blkno_volume (blk)], &rule);
}

#endif /* FARPAGE_TEST_META_H */
