/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of durable objects share: a store with one object on one
 * volume in memory, all of it real but for the object table: the superblock
 * holds the root and the count of nodes of the object's map.  A rig can die as
 * a process does, and be opened again; what it wrote to its volume stays.
 */

#ifndef FARPAGE_TEST_DURABLE_H
#define FARPAGE_TEST_DURABLE_H

#include "test-disk.h"

#include "buf-impl.h"
#include "flush-impl.h"
#include "objmeta.h"
#include "recover.h"

#define RIG_RING_BYTES (UINT64_C (1) << 20)
#define RIG_BUFFERS    (BUFS_MIN * 4)

struct rig {
  struct disk d; /* v, sp and o: for the calls of test-disk.h */
  struct supers supers;
  struct bufs *bs;
  struct flush *fl;
  struct freemap *fm;
  struct parked *pk;
  struct disk_object entry;
  void *map;
  uint64_t nr_nodes; /* of the map, at the last cut */
  int64_t nr_mapped, nr_zero;
  bool staged, strict, cached;
  struct recover_report report;
};

/* ---- what the flusher asks ---- */

static inline int
rig_before_cut (void *arg)
{
  struct rig *r = arg;

  return freemap_before_cut (r->fm);
}

static inline int
rig_cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct rig *r = arg;
  struct disk_object now;

  (void) objmeta_root (r->map, &now);
  r->nr_nodes = now.nr_nodes;
  root->table = now.root;
  root->table_height = now.height;
  root->next_object = DISK_TREE_FIRST + r->nr_nodes; /* there is no table */
  return freemap_cut (r->fm, ch, root);
}

static inline void
rig_durable (void *arg, uint64_t lsn)
{
  struct rig *r = arg;

  if (r->pk != NULL)
    parked_durable (r->pk, lsn);
}

static inline void
rig_retired (void *arg, uint64_t cycle)
{
  struct rig *r = arg;

  if (r->pk != NULL)
    parked_retired (r->pk, cycle);
}

static const struct flush_ops rig_ops = {
  .before_cut = rig_before_cut,
  .cut = rig_cut,
  .durable = rig_durable,
  .retired = rig_retired,
};

static inline void
rig_wake (void *arg)
{
  struct rig *r = arg;

  if (r->fl != NULL)
    flush_wake (r->fl);
}

static inline void
rig_want_units (void *arg)
{
  struct rig *r = arg;

  flush_kick (r->fl);
}

/* ---- recovery ---- */

static inline int
rig_redo_begin (void *arg, const struct disk_super *root)
{
  struct rig *r = arg;
  int err = freemap_create (r->bs, r->fl, root, &r->fm);

  if (err)
    return err;
  r->entry.root = root->table;
  r->entry.nr_nodes = root->next_object - DISK_TREE_FIRST;
  return objmeta_create (r->bs, r->fl, r->fm, NULL, &r->entry, &r->map);
}

static inline int
rig_redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct rig *r = arg;

  return objmeta_redo_node (r->map, ch, rec);
}

static inline int
rig_redo_map (void *arg, struct change *ch, const struct disk_rec *rec,
              const uint32_t *crc)
{
  struct rig *r = arg;
  int64_t ignored[2] = { 0, 0 };

  return objmeta_redo (r->map, ch, rec, crc, &ignored[0], &ignored[1]);
}

static const struct recover_ops rig_redo = {
  .begin = rig_redo_begin,
  .node = rig_redo_node,
  .map = rig_redo_map,
};

/* ---- open and close ---- */

static inline int
rig_mark_used (void *arg, const struct space_run *run)
{
  struct rig *r = arg;

  return space_mark_used (r->d.sp, run);
}

/* Counts by walking the map: there is no table that keeps them. */
static inline void
rig_count (struct rig *r)
{
  pgno_t nr_pages = ((r->d.size - 1) >> PAGE_SHIFT) + 1;

  r->nr_mapped = r->nr_zero = 0;
  for (pgno_t pgno = 0; pgno < nr_pages;) {
    uint64_t shard = map_durable_ops.next_shard (r->map, pgno / SHARD_PAGES);
    struct swmeta_run run;

    if (shard == UINT64_MAX)
      return;
    pgno = max_u64 (pgno, shard * SHARD_PAGES);
    assert_int_equal (
        map_durable_ops.lookup (r->map, pgno, nr_pages - pgno, &run, NULL), 0);
    if (swmeta_kind (run.word) == SWMETA_BLOCK)
      r->nr_mapped += (int64_t) run.nr_pages;
    else if (swmeta_kind (run.word) == SWMETA_ZERO)
      r->nr_zero += (int64_t) run.nr_pages;
    pgno += run.nr_pages;
  }
}

static inline void
rig_make_space (struct rig *r)
{
  uint64_t first = super_first_block (&r->supers.root, 0);
  struct space_run usable = { first,
                              r->supers.root.members[0].nr_blocks - 2 - first };
  struct space_config sc = { .volumes = &r->d.v,
                             .nr_volumes = 1,
                             .usable = &usable,
                             .want_units = rig_want_units,
                             .arg = r };

  assert_int_equal (space_create (&sc, &r->d.sp), 0);
  assert_int_equal (freemap_each (r->fm, 0, rig_mark_used, r), 0);
  rig_count (r);
  r->nr_nodes = objmeta_nr_nodes (r->map);
  assert_int_equal (space_nr_marked (r->d.sp),
                    (uint64_t) r->nr_mapped + r->nr_nodes);
  assert_int_equal (space_charge (r->d.sp, r->nr_nodes), 0);
  if (!r->d.reserved)
    assert_int_equal (
        space_charge (r->d.sp, (uint64_t) (r->nr_mapped + r->nr_zero)), 0);
}

static inline void
rig_make_object (struct rig *r)
{
  struct object_config config = {
    .size_bytes = r->d.size,
    .reserved = r->d.reserved,
    .space = r->d.sp,
    .pool = r->d.pool,
    .name = "disk",
    .cached = r->cached,
    .bs = r->bs,
    .fl = r->fl,
    .pk = r->pk,
    .ops = &map_durable_ops,
    .map = r->map,
    .nr_mapped = (uint64_t) r->nr_mapped,
    .nr_zero = (uint64_t) r->nr_zero,
    .staged = r->staged,
    .strict = r->strict,
  };

  assert_int_equal (object_create (&config, &r->d.o), 0);
}

/* Open what is on the volume, as it was left. */
static inline void
rig_open (struct rig *r)
{
  struct bufs_config bc = { .volumes = &r->d.v,
                            .nr_volumes = 1,
                            .uuid = r->supers.root.uuid,
                            .cache_bytes = RIG_BUFFERS * BUF_BYTES,
                            .wake = rig_wake,
                            .arg = r };
  struct flush_config fc = { .volumes = &r->d.v,
                             .nr_volumes = 1,
                             .supers = &r->supers,
                             .ops = &rig_ops,
                             .arg = r };

  assert_int_equal (supers_read (&r->d.v, 1, &r->supers), 0);
  assert_int_equal (bufs_create (&bc, &r->bs), 0);
  fc.bs = r->bs;
  assert_int_equal (flush_create (&fc, &r->fl), 0);
  assert_int_equal (
      recover_run (r->fl, &r->supers, NULL, &rig_redo, r, &r->report), 0);
  rig_make_space (r);
  assert_int_equal (parked_create (r->d.sp, r->fl, &r->pk), 0);
  /* The map again, with a place for what it gives up. */
  map_durable_ops.destroy (r->map);
  r->entry.root = r->supers.root.table;
  r->entry.nr_nodes = r->nr_nodes;
  assert_int_equal (
      objmeta_create (r->bs, r->fl, r->fm, r->pk, &r->entry, &r->map), 0);
  rig_make_object (r);
  assert_int_equal (flush_start (r->fl), 0);
}

/* What the process had in memory is gone; no request is under way. */
static inline void
rig_die (struct rig *r)
{
  flush_destroy (r->fl);
  r->fl = NULL;
  object_destroy (r->d.o);
  r->d.o = NULL;
  r->map = NULL;
  parked_destroy (r->pk);
  r->pk = NULL;
  freemap_destroy (r->fm);
  bufs_destroy (r->bs);
  space_destroy (r->d.sp);
}

/* All parked blocks come back, and all books balance. */
static inline void
rig_check (struct rig *r)
{
  const char *wrong;
  uint64_t nr_nodes, nr_charged;

  assert_int_equal (flush_commit (r->fl, flush_tail (r->fl)), 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal (flush_run_cycle (r->fl), 0);
  /* The flusher tells of it after it has woken us. */
  for (int i = 0; i < 1000 && parked_nr_blocks (r->pk) > 0; i++)
    nap_ns (NS_PER_MS);
  assert_int_equal (parked_nr_blocks (r->pk), 0);
  nr_nodes = objmeta_nr_nodes (r->map);
  wrong = object_check (r->d.o);
  if (wrong == NULL)
    wrong = space_check (r->d.sp, object_nr_mapped (r->d.o) + nr_nodes);
  if (wrong == NULL)
    wrong = bufs_check (r->bs);
  if (wrong == NULL && r->bs->lists[BUF_DATA].nr_reserved != 0)
    wrong = "room in the buffers was not given back";
  if (wrong != NULL)
    fail_msg ("%s", wrong);
  nr_charged = object_nr_mapped (r->d.o) + object_nr_reserved (r->d.o) +
               nr_nodes + atomic_load (&r->d.o->nr_node_charges);
  assert_int_equal (disk_stat (&r->d).nr_charged, nr_charged);
}

static inline void
rig_reopen (struct rig *r)
{
  rig_die (r);
  rig_open (r);
}

/* A store of so many blocks, all told, with an object of size bytes.  Fields
 * of *r that say how it is are set.
 */
static inline void
rig_format (struct rig *r, uint64_t nr_blocks, uint64_t size)
{
  struct super_format f = { .volumes = &r->d.v,
                            .nr_volumes = 1,
                            .ring_bytes = RIG_RING_BYTES };
  uint8_t uuid[DISK_UUID_BYTES];
  struct volume *inner;

  if (r->d.v == NULL) {
    assert_int_equal (
        volume_open_memory ("mem", nr_blocks * PAGE_BYTES, false, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &r->d.v), 0);
    r->d.v->checked = true;
  }
  r->d.size = size;
  r->entry.id = DISK_TREE_FIRST;
  r->entry.size_bytes = size;
  r->entry.state = DISK_OBJECT_LIVE;
  r->entry.height = objmeta_height (((size - 1) >> PAGE_SHIFT) + 1);
  assert_int_equal (super_format (&f, uuid), 0);
  rig_open (r);
}

static inline void
rig_close (struct rig *r)
{
  rig_check (r);
  assert_int_equal (flush_close (r->fl), 0);
  rig_die (r);
  volume_close (r->d.v);
}

#endif /* FARPAGE_TEST_DURABLE_H */
