/* SPDX-License-Identifier: BSD-2-Clause */
/* Page maps of durable objects; see objmeta.h and map.h.
 *
 *   shard (512 pages):   | leaf 2 s | leaf 2 s + 1 |   entries: word, CRC
 *   tree (buffer/tree.c):  root --> inner --> ... --> leaves
 *
 * Called by strategy through the table of functions, by the object table at a
 * cut (objmeta_root), and by recovery (objmeta-redo.c).  Calls the tree for
 * nodes and the log for records; tells the free map which blocks are named and
 * which no more; parks the blocks of nodes that are gone.  Changes are in
 * objmeta-change.c.
 *
 * I1. nr_used of a leaf is the number of its words that are not 0; a word that
 *     is 0 has CRC 0.
 * I2. A record MAP, ZERO or FREE says all that was changed: redoing the records
 *     of a shard in their order makes the same entries.
 * I3. An empty leaf stays only where a crash left it, until the next removal
 *     there; and in a reserved object while it lives: nodes that it has had are
 *     promised to it, and others' charges could not be had back.  Leaves behind
 *     the end of one that is made smaller go.
 * I4. The tree has the levels that nr_pages need, or more: pages that go take
 *     none with them.
 *
 * Nothing that was read is believed: a word must be of a known kind, its block
 * inside its volume, nr_used possible; else EIO and a line in the log.
 *
 * How many nodes a change may need: of the tree, only what is above a leaf that
 * is there is sure to stay, for leaves of other shards come and go under other
 * locks.  So a shard that has no leaf asks for all levels.
 *
 * Locks: entries are the shard's, held by the caller; the tree's own is taken
 * inside.
 */

#include <config.h>

#include "objmeta-impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

_Static_assert(SHARD_LEAVES + TREE_HEIGHT_MAX <= MAP_NODES_MAX, "blks");
_Static_assert(SHARD_LEAVES + TREE_HEIGHT_MAX <= CHANGE_NODES_MAX, "credit");

static struct log_limit trouble_limit;

/* ---- leaves ---- */

int
objmeta_trouble (const struct objmeta *m, pgno_t pgno, const char *what)
{
  log_limited (&trouble_limit, LOG_ERROR,
               "object %#" PRIx64 ", page %" PRIu64
               ": %s (run 'farpage check')",
               m->tree.id, pgno, what);
  return EIO;
}

bool
objmeta_run_ok (const struct objmeta *m, uint64_t word, uint64_t nr)
{
  blkno_t blk = swmeta_blkno (word);

  switch (swmeta_kind (word)) {
  case SWMETA_ABSENT:
  case SWMETA_ZERO:
    return blk == 0;
  case SWMETA_BLOCK:
    return bufs_has_block (m->tree.bs, blk) &&
           bufs_has_block (m->tree.bs, blk + nr - 1);
  }
  return false;
}

unsigned
objmeta_cut_parts (pgno_t pgno, uint64_t nr, struct part part[SHARD_LEAVES])
{
  unsigned n = 0;

  for (; nr > 0; n++) {
    unsigned first = pgno % DISK_MAP_PAGES;

    assert (n < SHARD_LEAVES);
    part[n].pgno = pgno;
    part[n].first = first;
    part[n].nr = (unsigned) min_u64 (DISK_MAP_PAGES - first, nr);
    part[n].leaf = NULL;
    pgno += part[n].nr;
    nr -= part[n].nr;
  }
  return n;
}

/* ---- looking ---- */

/* The entries of a leaf (NULL: none) that go on run, which may be empty yet,
 * from the first-th on, at most nr.  Returns how many.
 */
static unsigned
extend_run (const struct buf *leaf, unsigned first, unsigned nr,
            struct swmeta_run *run, struct swent *ents)
{
  const struct disk_map *map = leaf != NULL ? map_of (leaf) : NULL;
  unsigned n = 0;

  if (map == NULL)
    n = run->nr_pages == 0 || run->word == 0 ? nr : 0;
  for (; map != NULL && n < nr; n++) {
    uint64_t word = map->word[first + n];

    if (run->nr_pages + n == 0)
      run->word = word;
    else if (!objmeta_goes_on (run->word, run->nr_pages + n, word))
      break;
    if (ents != NULL && word != 0)
      ents[run->nr_pages + n] =
          (struct swent){ .word = word, .crc = map->crc[first + n] };
  }
  run->nr_pages += n;
  return n;
}

static int
durable_lookup (void *map, pgno_t pgno, uint64_t max, struct swmeta_run *run,
                struct swent *ents)
{
  struct objmeta *m = map;
  struct swmeta_run r = { .pgno = pgno };

  assert (pgno < m->nr_pages && max > 0);
  max = min_u64 (max, SHARD_PAGES - pgno % SHARD_PAGES);
  max = min_u64 (max, m->nr_pages - pgno);
  while (r.nr_pages < max) {
    pgno_t at = pgno + r.nr_pages;
    unsigned first = at % DISK_MAP_PAGES;
    unsigned nr = (unsigned) min_u64 (DISK_MAP_PAGES - first, max - r.nr_pages);
    struct buf *leaf;
    unsigned n;
    int err = tree_get (&m->tree, at / DISK_MAP_PAGES, &leaf);

    if (err && r.nr_pages == 0)
      return err;
    if (err)
      break; /* not for pages that can be read: who comes to it is told */
    n = extend_run (leaf, first, nr, &r, ents);
    if (leaf != NULL)
      buf_put (m->tree.bs, leaf);
    if (n < nr)
      break;
  }
  if (!objmeta_run_ok (m, r.word, r.nr_pages))
    return objmeta_trouble (m, pgno, "its entry is not possible");
  *run = r;
  return 0;
}

static uint64_t
durable_next_shard (void *map, uint64_t shard)
{
  struct objmeta *m = map;
  const uint64_t nr_shards = (m->nr_pages - 1) / SHARD_PAGES + 1;
  uint64_t leaf;

  if (shard >= nr_shards)
    return UINT64_MAX;
  if (tree_next (&m->tree, shard * SHARD_LEAVES, &leaf) != 0)
    return shard; /* who knows: looking it up will tell */
  shard = leaf != UINT64_MAX ? leaf / SHARD_LEAVES : UINT64_MAX;
  return shard < nr_shards ? shard : UINT64_MAX;
}

/* ---- before a change ---- */

static int
durable_begin (void *map, struct map_change *mc)
{
  struct objmeta *m = map;
  int err = parked_wait (m->pk);

  if (err == 0)
    err = freemap_enter (m->fm);
  if (err)
    return err;
  err = change_begin (m->tree.fl, m->tree.height + SHARD_LEAVES, &mc->change);
  if (err)
    freemap_leave (m->fm);
  return err;
}

static void
durable_end (void *map, struct map_change *mc)
{
  struct objmeta *m = map;

  change_end (m->tree.fl, &mc->change);
  freemap_leave (m->fm);
}

int
objmeta_count_needed (struct objmeta *m, pgno_t pgno, uint64_t nr,
                      unsigned *needed)
{
  const uint64_t first = pgno / DISK_MAP_PAGES;
  const uint64_t last = (pgno + nr - 1) / DISK_MAP_PAGES;
  const uint64_t base = pgno / SHARD_PAGES * SHARD_LEAVES;
  unsigned nr_there = 0, nr_absent = 0;
  int err = 0;

  for (uint64_t i = first; i <= last && err == 0; i++) {
    bool has = false;

    err = tree_has (&m->tree, i, &has);
    nr_there += has;
    nr_absent += !has;
  }
  for (uint64_t i = base; i < base + SHARD_LEAVES && err == 0; i++) {
    bool has = false;

    if (nr_there == 0 && (i < first || i > last))
      err = tree_has (&m->tree, i, &has);
    nr_there += has;
  }
  if (nr_absent > 0 && nr_there == 0)
    nr_absent += m->tree.height;
  if (err == 0)
    *needed = nr_absent;
  return err;
}

static int
durable_prepare (void *map, pgno_t pgno, uint64_t nr, bool build,
                 unsigned *nr_missing)
{
  struct objmeta *m = map;
  struct part part[SHARD_LEAVES];
  unsigned n = objmeta_cut_parts (pgno, nr, part), missing = 0;

  for (unsigned i = 0; i < n; i++) {
    unsigned nodes;
    int err = tree_missing (&m->tree, part[i].pgno / DISK_MAP_PAGES, &nodes);

    if (err)
      return err;
    missing += nodes;
  }
  if (!build)
    missing = 0;
  if (missing > 0) {
    int err = objmeta_count_needed (m, pgno, nr, &missing);

    if (err)
      return err;
  }
  *nr_missing = missing;
  return 0;
}

/* ---- life ---- */

static uint64_t
count_leaves (pgno_t nr_pages)
{
  return nr_pages > 0 ? (nr_pages - 1) / DISK_MAP_PAGES + 1 : 0;
}

uint32_t
objmeta_height (pgno_t nr_pages)
{
  return tree_height (count_leaves (nr_pages));
}

uint64_t
objmeta_nodes_max (pgno_t nr_pages, uint32_t height)
{
  uint64_t nr = count_leaves (nr_pages), sum = nr;

  if (height < objmeta_height (nr_pages))
    height = objmeta_height (nr_pages);
  for (; height > 0 && nr > 0; height--) {
    nr = (nr - 1) / DISK_FANOUT + 1;
    sum += nr;
  }
  return sum;
}

/* The tree's lock is held (tree.h). */
static void
root_changed (void *arg)
{
  struct objmeta *m = arg;

  m->root_changed = true;
}

int
objmeta_create (struct bufs *bs, struct flush *fl, struct freemap *fm,
                struct parked *pk, const struct disk_object *entry, void **mapp)
{
  pgno_t nr_pages = objmeta_entry_pages (entry);
  struct objmeta *m;

  if (nr_pages == 0 || nr_pages > OBJMETA_PAGES_MAX ||
      entry->height < objmeta_height (nr_pages) ||
      entry->height > TREE_HEIGHT_MAX) {
    log_write (LOG_ERROR,
               "object %#" PRIx64 ": a map of %u levels does not go with "
               "%" PRIu64 " bytes (run 'farpage check')",
               entry->id, entry->height, entry->size_bytes);
    return EIO;
  }
  m = calloc (1, sizeof *m);
  if (m == NULL)
    return ENOMEM;
  tree_init (&m->tree, bs, fl, entry->id, DISK_NODE_MAP, entry->height,
             &entry->root);
  m->tree.on_root = root_changed;
  m->tree.arg = m;
  atomic_store (&m->tree.nr_nodes, entry->nr_nodes);
  m->fm = fm;
  m->pk = pk;
  objmeta_set_pages (m, entry);
  *mapp = m;
  return 0;
}

void
objmeta_set_pages (void *map, const struct disk_object *entry)
{
  const bool keeps =
      entry->state == DISK_OBJECT_LIVE && (entry->flags & DISK_OBJECT_RESERVED);
  struct objmeta *m = map;

  m->nr_pages = objmeta_entry_pages (entry);
  atomic_store (&m->kept_pages, keeps ? bytes_to_pages (entry->size_bytes) : 0);
}

void
objmeta_redo_pages (void *map, pgno_t nr_pages)
{
  struct objmeta *m = map;

  m->nr_pages = max_u64 (m->nr_pages, nr_pages);
}

void
objmeta_let_go (void *map, pgno_t pgno)
{
  struct objmeta *m = map;

  atomic_store (&m->kept_pages, min_u64 (pgno, atomic_load (&m->kept_pages)));
}

void
objmeta_set_parked (void *map, struct parked *pk)
{
  struct objmeta *m = map;

  m->pk = pk;
}

static void
durable_destroy (void *map)
{
  struct objmeta *m = map;

  tree_fini (&m->tree);
  free (m);
}

bool
objmeta_has_changed (void *map)
{
  struct objmeta *m = map;

  LOCK_SCOPE (&m->tree.lock);
  return m->root_changed;
}

uint32_t
objmeta_levels (void *map)
{
  struct objmeta *m = map;

  LOCK_SCOPE (&m->tree.lock);
  return m->tree.height;
}

bool
objmeta_root (void *map, struct disk_object *entry)
{
  struct objmeta *m = map;
  bool changed;

  LOCK_SCOPE (&m->tree.lock);
  changed = m->root_changed;
  m->root_changed = false;
  entry->root = m->tree.root;
  entry->height = m->tree.height;
  entry->nr_nodes = atomic_load (&m->tree.nr_nodes);
  return changed;
}

uint64_t
objmeta_nr_nodes (void *map)
{
  struct objmeta *m = map;

  return atomic_load (&m->tree.nr_nodes);
}

/* ---- another size ---- */

static uint64_t
durable_nodes_left (void *map, pgno_t nr_pages, unsigned *nr_levels)
{
  struct objmeta *m = map;
  uint32_t height = objmeta_levels (m), needed = objmeta_height (nr_pages);
  uint64_t max = objmeta_nodes_max (nr_pages, height);
  uint64_t nr = objmeta_nr_nodes (m); /* those of a tail among them */

  *nr_levels = needed > height ? needed - height : 0;
  return max > nr ? max - nr : 0;
}

/* More levels, in a change of their own. */
static int
add_levels (struct objmeta *m, struct map_change *mc, uint32_t height)
{
  const unsigned nr = height - m->tree.height;
  int err = parked_wait (m->pk);

  assert (nr <= mc->nr_blks);
  if (err == 0)
    err = freemap_enter (m->fm);
  if (err)
    return err;
  err = change_begin (m->tree.fl, nr, &mc->change);
  if (err == 0) {
    err = tree_raise (&m->tree, &mc->change, height, mc->blks);
    if (err == 0)
      objmeta_use_blks (m, mc, nr);
    change_end (m->tree.fl, &mc->change);
  }
  freemap_leave (m->fm);
  return err;
}

static int
durable_resize (void *map, struct map_change *mc, pgno_t nr_pages)
{
  struct objmeta *m = map;
  uint32_t height = objmeta_height (nr_pages);
  int err = height > m->tree.height ? add_levels (m, mc, height) : 0;

  if (err)
    return err;
  if (nr_pages > m->nr_pages && atomic_load (&m->kept_pages) > 0)
    atomic_store (&m->kept_pages, nr_pages);
  m->nr_pages = nr_pages;
  return 0;
}

const struct map_ops map_durable_ops = {
  .begin = durable_begin,
  .end = durable_end,
  .prepare = durable_prepare,
  .lookup = durable_lookup,
  .build = objmeta_build,
  .free = objmeta_free,
  .pop = objmeta_pop,
  .next_shard = durable_next_shard,
  .nodes_left = durable_nodes_left,
  .resize = durable_resize,
  .destroy = durable_destroy,
};
