/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of durable maps share: one map on the store of test-meta.h, with
 * a free map and parked blocks that are this test's own and look at every note;
 * a model (swmeta) that gets the same calls and must answer the same.
 */

#ifndef FARPAGE_TEST_OBJMETA_H
#define FARPAGE_TEST_OBJMETA_H

#include "test-meta.h"

#include "freemap.h"
#include "objmeta-impl.h"
#include "parked.h"

#define OBJECT_ID DISK_TREE_FIRST
#define RUNS_MAX  SHARD_PAGES

struct runs {
  unsigned nr;
  struct swmeta_run run[RUNS_MAX];
};

/* What objmeta.c knows under these names is in the space layer elsewhere. */
struct freemap {
  struct meta *m;
  _Atomic uint64_t nr_notes;
  atomic_uint nr_inside;
};
struct parked {
  struct meta *m;
};

struct rig {
  struct meta m; /* the first */
  struct freemap fm;
  struct parked pk;
  void *map;
  pgno_t nr_pages;
  struct swzone *zone;
  struct swmeta *model;
  int64_t nr_mapped, nr_zero; /* as recovery has counted them */
  _Atomic uint64_t serial;
};

void
freemap_note (struct freemap *fm, const struct space_run *run, bool used)
{
  fm->nr_notes++;
  for (uint64_t i = 0; i < run->nr; i++)
    meta_note (fm->m, run->blk + i, used);
}

int
freemap_enter (struct freemap *fm)
{
  fm->nr_inside++;
  return 0;
}

void
freemap_leave (struct freemap *fm)
{
  assert_true (fm->nr_inside > 0);
  fm->nr_inside--;
}

void
parked_meta (struct parked *pk, uint64_t blk, uint64_t cycle)
{
  assert_int_equal (cycle, flush_cycle (pk->m->fl));
  meta_park (pk->m, blk, cycle);
}

int
parked_wait (struct parked *pk)
{
  UNUSED (pk);
  return 0;
}

/* ---- leaves ---- */

/* What a leaf counts is right, and its blocks are walked over. */
static inline void
rig_leaf (struct meta *m, const struct buf *leaf)
{
  const struct disk_map *map = map_of (leaf);
  struct rig *t = (struct rig *) m;
  unsigned nr = 0;

  for (unsigned i = 0; i < DISK_MAP_PAGES; i++) {
    enum swmeta_kind kind = swmeta_kind (map->word[i]);

    nr += map->word[i] != 0;
    t->nr_mapped += kind == SWMETA_BLOCK;
    t->nr_zero += kind == SWMETA_ZERO;
    if (kind == SWMETA_BLOCK)
      *meta_state (m, swmeta_blkno (map->word[i])) |= (char) 0x80;
    else
      assert_int_equal (map->crc[i], 0);
  }
  assert_int_equal (node_of_leaf (leaf)->nr_used, nr);
  assert_int_not_equal (nr, 0);
}

/* ---- recovery ---- */

static inline int
rig_begin (void *arg, const struct disk_super *root)
{
  struct rig *t = arg;
  struct disk_object entry = {
    .id = OBJECT_ID,
    .size_bytes = t->nr_pages * PAGE_BYTES,
    .state = DISK_OBJECT_LIVE,
    .root = root->table,
    .height = objmeta_height (t->nr_pages),
    .nr_nodes = root->next_object - DISK_TREE_FIRST,
  };

  t->fm.m = t->pk.m = &t->m;
  assert_int_equal (
      objmeta_create (t->m.bs, t->m.fl, &t->fm, &t->pk, &entry, &t->map), 0);
  assert_int_equal (objmeta_nr_nodes (t->map), entry.nr_nodes);
  t->m.tree = &((struct objmeta *) t->map)->tree;
  t->nr_mapped = t->nr_zero = 0;
  if (!t->m.blind)
    meta_find_used (&t->m, rig_leaf);
  return 0;
}

static inline int
rig_redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct rig *t = arg;

  assert_int_equal (rec->object, OBJECT_ID);
  return objmeta_redo_node (t->map, ch, rec);
}

static inline int
rig_redo_map (void *arg, struct change *ch, const struct disk_rec *rec,
              const uint32_t *crc)
{
  struct rig *t = arg;

  assert_int_equal (rec->object, OBJECT_ID);
  return objmeta_redo (t->map, ch, rec, crc, &t->nr_mapped, &t->nr_zero);
}

static const struct recover_ops rig_recover_ops = {
  .begin = rig_begin,
  .node = rig_redo_node,
  .map = rig_redo_map,
};

/* ---- life ---- */

static inline void
rig_create (struct rig *t, pgno_t nr_pages)
{
  memset (t, 0, sizeof *t);
  t->nr_pages = nr_pages;
  t->m.recover_ops = &rig_recover_ops;
  assert_int_equal (swzone_create (sizeof (struct swent), 64 * MIB, &t->zone),
                    0);
  assert_int_equal (swmeta_create (t->zone, nr_pages, &t->model), 0);
  meta_create (&t->m);
  meta_open (&t->m);
}

static inline void
rig_close (struct rig *t)
{
  meta_close (&t->m);
  map_durable_ops.destroy (t->map);
}

static inline void
rig_reopen (struct rig *t)
{
  rig_close (t);
  meta_open (&t->m);
}

/* What was not committed is gone. */
static inline void
rig_crash (struct rig *t)
{
  meta_kill (&t->m);
  map_durable_ops.destroy (t->map);
  meta_open (&t->m);
}

static inline void
rig_free (struct rig *t)
{
  swmeta_destroy (t->model);
  swzone_destroy (t->zone);
  meta_destroy (&t->m);
}

static inline void
rig_destroy (struct rig *t)
{
  rig_close (t);
  rig_free (t);
}

/* ---- the same to both ---- */

static inline void
rig_add_run (void *arg, const struct swmeta_run *run)
{
  struct runs *r = arg;

  assert_in_range (r->nr, 0, RUNS_MAX - 1);
  r->run[r->nr++] = *run;
}

static inline void
rig_same_runs (const struct runs *a, const struct runs *b)
{
  assert_int_equal (a->nr, b->nr);
  for (unsigned i = 0; i < a->nr; i++) {
    assert_int_equal (a->run[i].pgno, b->run[i].pgno);
    assert_int_equal (a->run[i].word, b->run[i].word);
    assert_int_equal (a->run[i].nr_pages, b->run[i].nr_pages);
  }
}

/* Blocks that have left the map are free when that is durable. */
static inline void
rig_park (struct rig *t, const struct runs *r)
{
  for (unsigned i = 0; i < r->nr; i++)
    for (uint64_t k = 0; k < r->run[i].nr_pages; k++)
      if (swmeta_kind (r->run[i].word) == SWMETA_BLOCK)
        meta_park_data (&t->m, swmeta_blkno (r->run[i].word) + k,
                        flush_tail (t->m.fl));
}

/* A page for a block, written to it; its CRC. */
static inline uint32_t
rig_write_page (struct rig *t, uint64_t blk)
{
  _Alignas(PAGE_BYTES) uint64_t page[PAGE_BYTES / 8] = { ++t->serial, blk };

  assert_int_equal (volume_write (t->m.given[blkno_volume (blk)],
                                  blkno_place (blk) * PAGE_BYTES, page,
                                  PAGE_BYTES),
                    0);
  flush_mark_volume (t->m.fl, blkno_volume (blk));
  return crc32c (0, page, PAGE_BYTES);
}

static inline void
rig_change_begin (struct rig *t, struct map_change *mc)
{
  struct change room;

  meta_begin (&t->m, CHANGE_NODES_MAX / 2, &room);
  change_end (t->m.fl, &room);
  assert_int_equal (map_durable_ops.begin (t->map, mc), 0);
}

/* Begun and prepared, with the blocks it takes.  EIO: neither. */
static inline int
rig_prepare (struct rig *t, struct map_change *mc, pgno_t pgno, uint64_t nr,
             bool build)
{
  unsigned missing = 99;
  int err;

  mc->nr_blks = 0;
  rig_change_begin (t, mc);
  err = map_durable_ops.prepare (t->map, pgno, nr, build, &missing);
  if (err) {
    map_durable_ops.end (t->map, mc);
    return err;
  }
  if (!build)
    assert_int_equal (missing, 0);
  assert_in_range (missing, 0, MAP_NODES_MAX);
  while (mc->nr_blks < missing)
    mc->blks[mc->nr_blks++] = meta_take_one (&t->m);
  return 0;
}

static inline void
rig_change_end (struct rig *t, struct map_change *mc)
{
  map_durable_ops.end (t->map, mc);
  for (unsigned i = 0; i < mc->nr_blks; i++)
    meta_put (&t->m, mc->blks[i]);
}

static inline int
rig_build (struct rig *t, pgno_t pgno, uint64_t nr, const struct swent *ents)
{
  struct runs got = { .nr = 0 }, want = { .nr = 0 };
  struct map_change mc;
  int err = rig_prepare (t, &mc, pgno, nr, true);

  if (err)
    return err;
  err = map_durable_ops.build (t->map, &mc, pgno, nr, ents, rig_add_run, &got);
  rig_change_end (t, &mc);
  if (err) {
    assert_int_equal (got.nr, 0);
    return err;
  }
  assert_int_equal (swmeta_build (t->model, pgno, nr, ents, rig_add_run, &want),
                    0);
  rig_same_runs (&got, &want);
  rig_park (t, &got);
  return 0;
}

static inline int
rig_free_pages (struct rig *t, pgno_t pgno, uint64_t nr)
{
  struct runs got = { .nr = 0 }, want = { .nr = 0 };
  struct map_change mc;
  int err = rig_prepare (t, &mc, pgno, nr, false);

  if (err)
    return err;
  err = map_durable_ops.free (t->map, &mc, pgno, nr, rig_add_run, &got);
  rig_change_end (t, &mc);
  if (err) {
    assert_int_equal (got.nr, 0);
    return err;
  }
  swmeta_free (t->model, pgno, nr, rig_add_run, &want);
  rig_same_runs (&got, &want);
  rig_park (t, &got);
  return 0;
}

static inline void
rig_same_ent (const struct swent *a, const struct swent *b)
{
  assert_int_equal (a->word, b->word);
  assert_int_equal (a->crc, b->crc);
  assert_int_equal (a->spare, b->spare);
}

static inline int
rig_pop (struct rig *t, pgno_t pgno)
{
  struct swent got, want;
  struct runs popped = { .nr = 1 };
  struct map_change mc;
  int err = rig_prepare (t, &mc, pgno, 1, false);

  if (err)
    return err;
  err = map_durable_ops.pop (t->map, &mc, pgno, &got);
  rig_change_end (t, &mc);
  if (err)
    return err;
  swmeta_pop (t->model, pgno, &want);
  rig_same_ent (&got, &want);
  popped.run[0] = (struct swmeta_run){ pgno, got.word, 1 };
  rig_park (t, &popped);
  return 0;
}

static inline int
rig_lookup (struct rig *t, pgno_t pgno, uint64_t max)
{
  static _Thread_local struct swent got[SHARD_PAGES], want[SHARD_PAGES];
  struct swmeta_run a, b;
  int err = map_durable_ops.lookup (t->map, pgno, max, &a, got);

  if (err)
    return err;
  swmeta_lookup (t->model, pgno, max, &b);
  assert_int_equal (a.pgno, b.pgno);
  assert_int_equal (a.word, b.word);
  assert_int_equal (a.nr_pages, b.nr_pages);
  if (a.word == 0)
    return 0;
  swmeta_get (t->model, pgno, b.nr_pages, want);
  for (uint64_t i = 0; i < a.nr_pages; i++)
    rig_same_ent (&got[i], &want[i]);
  return 0;
}

/* Every page of a shard is as the model has it. */
static inline void
rig_same_shard (struct rig *t, uint64_t shard)
{
  pgno_t pgno = shard * SHARD_PAGES;
  pgno_t end = min_u64 (pgno + SHARD_PAGES, t->nr_pages);

  while (pgno < end) {
    struct swmeta_run run;

    assert_int_equal (rig_lookup (t, pgno, end - pgno), 0);
    swmeta_lookup (t->model, pgno, end - pgno, &run);
    pgno += run.nr_pages;
  }
}

static inline void
rig_same (struct rig *t)
{
  uint64_t shard = 0;

  for (;;) {
    uint64_t want = swmeta_next_shard (t->model, shard);

    assert_int_equal (map_durable_ops.next_shard (t->map, shard), want);
    if (want == UINT64_MAX)
      break;
    rig_same_shard (t, want);
    shard = want + 1;
  }
  meta_check (&t->m, rig_leaf);
}

/* Entries for nr pages from blocks as they come, or zeros. */
static inline void
rig_entries (struct rig *t, struct swent *ents, uint64_t nr, bool zero)
{
  for (uint64_t i = 0; i < nr;) {
    uint64_t more = nr - i;
    uint64_t blk = zero ? 0 : meta_take (&t->m, nr - i, &more);

    for (uint64_t k = 0; k < more; k++, i++) {
      ents[i].word = zero ? swmeta_word (SWMETA_ZERO, 0)
                          : swmeta_word (SWMETA_BLOCK, blk + k);
      ents[i].crc = zero ? 0 : rig_write_page (t, blk + k);
      ents[i].spare = 0;
    }
  }
}

#endif /* FARPAGE_TEST_OBJMETA_H */
