/* SPDX-License-Identifier: BSD-2-Clause */
/* A small store with one tree and no objects, for tests of what is durable:
 * page p of the tree maps to a block with text that says p and a version.
 */

#ifndef TEST_FLUSH_H
#define TEST_FLUSH_H

#include "recover.h"
#include "tree.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crc32c.h"

#define RIG_PAGES 3000u
#define RIG_TREE  DISK_TREE_FIRST
#define RIG_BYTES (UINT64_C (24) << 20)
#define RIG_RING  (UINT64_C (1) << 20)

struct rig {
  struct volume *v;
  struct supers supers;
  struct bufs *bs;
  struct flush *fl;
  struct tree tree;
  struct disk_pointer root; /* what the superblock says */
  struct recover_report report;
  uint64_t next_block; /* never used before */
  bool started;
  unsigned nr_durable_told, nr_retired_told, nr_failed_told;
};

static inline int
rig_before_cut (void *arg)
{
  (void) arg;
  return 0;
}

static inline int
rig_cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct rig *r = arg;

  (void) ch;
  root->table = r->tree.root;
  root->table_height = r->tree.height;
  return 0;
}

static inline void
rig_durable (void *arg, uint64_t lsn)
{
  struct rig *r = arg;

  (void) lsn;
  r->nr_durable_told++;
}

static inline void
rig_retired (void *arg, uint64_t cycle)
{
  struct rig *r = arg;

  (void) cycle;
  r->nr_retired_told++;
}

static inline void
rig_failed (void *arg, const char *reason)
{
  struct rig *r = arg;

  (void) reason;
  r->nr_failed_told++;
}

static const struct flush_ops rig_ops = {
  .before_cut = rig_before_cut,
  .cut = rig_cut,
  .durable = rig_durable,
  .retired = rig_retired,
  .failed = rig_failed,
};

static inline void
rig_page (void *page, pgno_t pgno, uint64_t version)
{
  uint64_t *word = page;

  for (unsigned i = 0; i < PAGE_BYTES / 8; i += 2) {
    word[i] = pgno;
    word[i + 1] = version + i;
  }
}

/* Enter a page that is in blk, with its CRC, as strategy will. */
static inline void
rig_enter (struct rig *r, struct change *ch, pgno_t pgno, uint64_t blk,
           uint32_t crc, const uint64_t *blks)
{
  struct buf *leaf;
  struct disk_map *map;
  unsigned nr, nr_used;

  assert_int_equal (tree_missing (&r->tree, pgno >> DISK_MAP_SHIFT, &nr), 0);
  if (nr > 0) {
    assert_int_equal (
        tree_make (&r->tree, ch, pgno >> DISK_MAP_SHIFT, blks, &nr_used, &leaf),
        0);
  } else {
    assert_int_equal (tree_get (&r->tree, pgno >> DISK_MAP_SHIFT, &leaf), 0);
    assert_int_equal (tree_begin (&r->tree, ch, leaf), 0);
  }
  map = (struct disk_map *) ((struct disk_node *) leaf->data)->body;
  map->word[pgno % DISK_MAP_PAGES] = blk;
  map->crc[pgno % DISK_MAP_PAGES] = crc;
  buf_done (r->fl, leaf);
  buf_put (r->bs, leaf);
}

static inline int
rig_redo_begin (void *arg, const struct disk_super *root)
{
  struct rig *r = arg;

  tree_init (&r->tree, r->bs, r->fl, RIG_TREE, DISK_NODE_MAP,
             tree_height (RIG_PAGES / DISK_MAP_PAGES + 1), &root->table);
  return 0;
}

static inline void
rig_ignore (void *arg, uint64_t blk)
{
  (void) arg;
  (void) blk;
}

static inline int
rig_redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct rig *r = arg;

  return tree_redo (&r->tree, ch, rec, rig_ignore, rig_ignore, NULL);
}

static inline int
rig_redo_map (void *arg, struct change *ch, const struct disk_rec *rec,
              const uint32_t *crc)
{
  for (uint32_t i = 0; i < rec->nr; i++)
    rig_enter (arg, ch, rec->pgno + i, rec->word + i, crc[i], NULL);
  return 0;
}

static inline uint64_t
rig_redo_where (void *arg, uint64_t object, pgno_t pgno)
{
  struct rig *r = arg;

  assert_int_equal (object, RIG_TREE);
  return tree_where (&r->tree, pgno >> DISK_MAP_SHIFT);
}

static const struct recover_ops rig_redo = {
  .begin = rig_redo_begin,
  .node = rig_redo_node,
  .map = rig_redo_map,
  .where = rig_redo_where,
};

/* Open what is on r->v; returns recovery's result. */
static inline int
rig_open (struct rig *r)
{
  struct bufs_config bc = { .volumes = &r->v,
                            .nr_volumes = 1,
                            .uuid = r->supers.root.uuid,
                            .cache_bytes = BUFS_MIN * 4 * BUF_BYTES };
  struct flush_config fc = { .volumes = &r->v,
                             .nr_volumes = 1,
                             .supers = &r->supers,
                             .ops = &rig_ops,
                             .arg = r };
  int err = supers_read (&r->v, 1, &r->supers);

  if (err)
    return err;
  assert_int_equal (bufs_create (&bc, &r->bs), 0);
  fc.bs = r->bs;
  assert_int_equal (flush_create (&fc, &r->fl), 0);
  return recover_run (r->fl, &r->supers, NULL, &rig_redo, r, &r->report);
}

/* As if the process had died. */
static inline void
rig_drop (struct rig *r)
{
  flush_destroy (r->fl);
  bufs_destroy (r->bs);
  tree_fini (&r->tree);
}

static inline void
rig_format (struct rig *r)
{
  struct super_format f = { .volumes = &r->v,
                            .nr_volumes = 1,
                            .ring_bytes = RIG_RING };
  uint8_t uuid[DISK_UUID_BYTES];

  memset (r, 0, sizeof *r);
  assert_int_equal (volume_open_memory ("vol0", RIG_BYTES, false, &r->v), 0);
  assert_int_equal (super_format (&f, uuid), 0);
  assert_int_equal (rig_open (r), 0);
  assert_true (r->report.clean);
  r->next_block = super_first_block (&r->supers.root, 0);
}

/* Write a page: its data, its entry, its record.  Returns the lsn to wait
 * for.
 */
static inline uint64_t
rig_write (struct rig *r, pgno_t pgno, uint64_t version)
{
  uint8_t page[PAGE_BYTES];
  uint64_t blk = r->next_block++, blks[4];
  struct disk_rec rec = {
    .type = DISK_REC_MAP, .object = RIG_TREE, .pgno = pgno, .word = blk, .nr = 1
  };
  struct change ch;
  struct buf *b;
  uint32_t crc;
  unsigned nr;

  rig_page (page, pgno, version);
  crc = crc32c (0, page, sizeof page);
  assert_int_equal (tree_missing (&r->tree, pgno >> DISK_MAP_SHIFT, &nr), 0);
  for (unsigned i = 0; i < nr; i++)
    blks[i] = r->next_block++;
  assert_true (r->next_block < RIG_BYTES / BUF_BYTES - 2);
  /* With no thread nobody else writes. */
  if (!r->started && bufs_nr_dirty (r->bs, BUF_DATA) > 100)
    assert_int_equal (flush_written (r->fl, flush_tail (r->fl)), 0);
  if (buf_data_get (r->bs, &b, 1) != 0)
    return 0;
  page_copy (b->data, page, 1);
  buf_data_add (r->bs, &b, 1, blk);
  if (change_begin (r->fl, 4, &ch) != 0)
    return 0;
  rig_enter (r, &ch, pgno, blk, crc, blks);
  undo_append (r->fl, &ch, &rec, &crc, sizeof crc);
  change_end (r->fl, &ch);
  return ch.lsn;
}

/* Which version of a page there is: 0 none. */
static inline uint64_t
rig_version (struct rig *r, pgno_t pgno)
{
  uint64_t page[PAGE_BYTES / 8] __attribute__ ((aligned (4096)));
  const struct disk_map *map;
  struct buf *leaf;
  uint64_t blk;
  uint32_t crc;

  assert_int_equal (tree_get (&r->tree, pgno >> DISK_MAP_SHIFT, &leaf), 0);
  if (leaf == NULL)
    return 0;
  map = (const struct disk_map *) ((struct disk_node *) leaf->data)->body;
  blk = map->word[pgno % DISK_MAP_PAGES];
  crc = map->crc[pgno % DISK_MAP_PAGES];
  buf_put (r->bs, leaf);
  if (blk == 0)
    return 0;
  if (!buf_data_read (r->bs, blk, page))
    assert_int_equal (volume_read (r->v, blk * BUF_BYTES, page, sizeof page),
                      0);
  assert_int_equal (crc32c (0, page, sizeof page), crc);
  assert_int_equal (page[0], pgno);
  return page[1];
}

#endif /* TEST_FLUSH_H */
