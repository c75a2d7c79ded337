/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes of a durable object's page map; see objmeta.c.  A change of a shard:
 *
 *   1. Its leaves are referenced, and all that will be displaced is looked at.
 *   2. Its leaves are begun, or made.  The first of these may still fail; what
 *      is above it is in memory then (tree.c, I2).
 *   3. Entries, nr_used, records, notes.  Nothing fails any more.
 *   4. A leaf that has become empty leaves the tree; should that fail it stays.
 *
 * Locks: entries are the shard's, held by the caller; the tree takes its own.
 */

#include <config.h>

#include "objmeta-impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- leaves ---- */

int
objmeta_check_part (const struct objmeta *m, struct part *part)
{
  const uint64_t *word = map_of (part->leaf)->word + part->first;
  uint32_t nr_used = node_of_leaf (part->leaf)->nr_used;

  part->nr_old = 0;
  for (unsigned i = 0; i < part->nr; i++) {
    if (!objmeta_run_ok (m, word[i], 1))
      return objmeta_trouble (m, part->pgno + i, "its entry is not possible");
    part->nr_old += word[i] != 0;
  }
  /* What is left for pages outside the part; below 0 is very much. */
  if (nr_used - part->nr_old > DISK_MAP_PAGES - part->nr)
    return objmeta_trouble (m, part->pgno, "its node counts wrong");
  return 0;
}

static void
put_parts (struct objmeta *m, struct part *part, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    if (part[i].leaf != NULL)
      buf_put (m->tree.bs, part[i].leaf);
}

/* Step 1: the leaves that are there, with their references, and looked at. */
static int
get_parts (struct objmeta *m, pgno_t pgno, uint64_t nr,
           struct part part[SHARD_LEAVES], unsigned *np)
{
  unsigned n = objmeta_cut_parts (pgno, nr, part);

  assert (pgno < m->nr_pages && nr <= m->nr_pages - pgno);
  for (unsigned i = 0; i < n; i++) {
    int err = tree_get (&m->tree, part[i].pgno / DISK_MAP_PAGES, &part[i].leaf);

    part[i].nr_old = 0;
    if (err == 0 && part[i].leaf != NULL)
      err = objmeta_check_part (m, &part[i]);
    if (err) {
      put_parts (m, part, n);
      return err;
    }
  }
  *np = n;
  return 0;
}

/* ---- runs on their way to the caller, and to the free map ---- */

static void
note_run (struct objmeta *m, uint64_t word, uint64_t nr, bool used)
{
  struct space_run run = { swmeta_blkno (word), nr };

  if (swmeta_kind (word) == SWMETA_BLOCK)
    freemap_note (m->fm, &run, used);
}

void
objmeta_gather_end (struct gather *g)
{
  if (g->run.nr_pages > 0) {
    note_run (g->m, g->run.word, g->run.nr_pages, g->used);
    if (g->fn != NULL)
      g->fn (g->arg, &g->run);
  }
  g->run.nr_pages = 0;
}

void
objmeta_gather (struct gather *g, pgno_t pgno, uint64_t word)
{
  if (word == 0)
    return;
  if (g->run.nr_pages == 0 || g->run.pgno + g->run.nr_pages != pgno ||
      !objmeta_goes_on (g->run.word, g->run.nr_pages, word)) {
    objmeta_gather_end (g);
    g->run.pgno = pgno;
    g->run.word = word;
  }
  g->run.nr_pages++;
}

/* ---- changing ---- */

void
objmeta_use_blks (struct objmeta *m, struct map_change *mc, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++)
    freemap_note (m->fm, &(struct space_run){ mc->blks[i], 1 }, true);
  mc->nr_blks -= nr;
  memmove (mc->blks, mc->blks + nr, mc->nr_blks * sizeof *mc->blks);
}

/* Step 2 of building.  EAGAIN: prepare was too long ago. */
static int
begin_build (struct objmeta *m, struct map_change *mc, struct part *part,
             unsigned n)
{
  unsigned needed = 0;
  int err = 0;

  for (unsigned i = 0; i < n && err == 0; i++)
    if (part[i].leaf != NULL)
      err = tree_begin (&m->tree, &mc->change, part[i].leaf);
    else
      needed++;
  if (needed > 0 && err == 0)
    err = objmeta_count_needed (
        m, part[0].pgno, part[n - 1].pgno + part[n - 1].nr - part[0].pgno,
        &needed);
  if (err == 0 && needed > mc->nr_blks)
    err = EAGAIN;
  for (unsigned i = 0; i < n && err == 0; i++)
    if (part[i].leaf == NULL) {
      unsigned nr_used;

      err = tree_make (&m->tree, &mc->change, part[i].pgno / DISK_MAP_PAGES,
                       mc->blks, &nr_used, &part[i].leaf);
      if (err == 0)
        objmeta_use_blks (m, mc, nr_used);
    }
  return err;
}

static void
fill_part (const struct part *part, const struct swent *ents, struct gather *g)
{
  struct disk_map *map = map_of (part->leaf);

  for (unsigned i = 0; i < part->nr; i++) {
    unsigned k = part->first + i;

    assert (swmeta_kind (ents[i].word) != SWMETA_ABSENT);
    objmeta_gather (g, part->pgno + i, map->word[k]);
    map->word[k] = ents[i].word;
    map->crc[k] = swmeta_kind (ents[i].word) == SWMETA_BLOCK ? ents[i].crc : 0;
  }
  node_of_leaf (part->leaf)->nr_used += part->nr - part->nr_old;
}

static void
append (struct objmeta *m, struct change *ch, enum disk_rec_type type,
        const struct swmeta_run *run, const uint32_t *crc)
{
  struct disk_rec rec = {
    .type = (uint16_t) type,
    .object = m->tree.id,
    .pgno = run->pgno,
    .word = type == DISK_REC_MAP ? swmeta_blkno (run->word) : 0,
    .nr = (uint32_t) run->nr_pages,
  };

  undo_append (m->tree.fl, ch, &rec, crc,
               type == DISK_REC_MAP ? rec.nr * sizeof *crc : 0);
}

/* A record for each run of the entries, and the free map's note. */
static void
append_runs (struct objmeta *m, struct change *ch, pgno_t pgno, uint64_t nr,
             const struct swent *ents)
{
  _Static_assert(sizeof (struct disk_rec) + SHARD_PAGES * sizeof (uint32_t) <=
                     DISK_LOG_BODY,
                 "a record fits into a log block");
  uint32_t crc[SHARD_PAGES];

  while (nr > 0) {
    struct swmeta_run run = { .pgno = pgno, .word = ents[0].word };
    bool block = swmeta_kind (run.word) == SWMETA_BLOCK;

    do {
      crc[run.nr_pages] = ents[run.nr_pages].crc;
      run.nr_pages++;
    } while (run.nr_pages < nr &&
             objmeta_goes_on (run.word, run.nr_pages, ents[run.nr_pages].word));
    append (m, ch, block ? DISK_REC_MAP : DISK_REC_ZERO, &run, crc);
    note_run (m, run.word, run.nr_pages, true);
    ents += run.nr_pages;
    pgno += run.nr_pages;
    nr -= run.nr_pages;
  }
}

int
objmeta_build (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
               const struct swent *ents, swmeta_run_fn fn, void *arg)
{
  struct objmeta *m = map;
  struct gather g = { .m = m, .fn = fn, .arg = arg };
  struct part part[SHARD_LEAVES];
  unsigned n;
  int err = get_parts (m, pgno, nr, part, &n);

  if (err)
    return err;
  err = begin_build (m, mc, part, n);
  if (err == 0) {
    for (unsigned i = 0; i < n; i++) {
      fill_part (&part[i], ents + (part[i].pgno - pgno), &g);
      buf_done (m->tree.fl, part[i].leaf);
    }
    append_runs (m, &mc->change, pgno, nr, ents);
    objmeta_gather_end (&g);
  }
  put_parts (m, part, n);
  return err;
}

/* ---- removing ---- */

/* A node's block is given up (tree.h). */
static void
node_gone (void *arg, uint64_t blk)
{
  struct objmeta *m = arg;

  freemap_note (m->fm, &(struct space_run){ blk, 1 }, false);
  parked_meta (m->pk, blk, flush_cycle (m->tree.fl));
}

static inline bool
is_empty_leaf (const struct part *part)
{
  return part->leaf != NULL && node_of_leaf (part->leaf)->nr_used == 0;
}

/* Does its leaf stay though it be empty? */
static inline bool
is_kept (const struct objmeta *m, const struct part *part)
{
  return part->pgno - part->first < atomic_load (&m->kept_pages);
}

/* Step 2 of removing. */
static int
begin_free (struct objmeta *m, struct change *ch, struct part *part, unsigned n)
{
  int err = 0;

  for (unsigned i = 0; i < n && err == 0; i++)
    if (part[i].nr_old > 0)
      err = tree_begin (&m->tree, ch, part[i].leaf);
  return err;
}

static void
clear_part (struct objmeta *m, const struct part *part, struct gather *g)
{
  struct disk_map *map = map_of (part->leaf);

  for (unsigned k = part->first; k < part->first + part->nr; k++)
    objmeta_gather (g, part->pgno + (k - part->first), map->word[k]);
  memset (map->word + part->first, 0, part->nr * sizeof *map->word);
  memset (map->crc + part->first, 0, part->nr * sizeof *map->crc);
  node_of_leaf (part->leaf)->nr_used -= part->nr_old;
  buf_done (m->tree.fl, part->leaf);
}

/* Step 4.  Errors have been told of, and leave an empty node. */
static void
unmake_empty (struct objmeta *m, struct change *ch, struct part *part,
              unsigned n)
{
  bool any = false;

  for (unsigned i = 0; i < n; i++) {
    any = any || part[i].leaf != NULL || is_kept (m, &part[i]);
    if (!is_empty_leaf (&part[i]) || is_kept (m, &part[i]))
      continue;
    (void) tree_unmake (&m->tree, ch, part[i].leaf, node_gone, m);
    part[i].leaf = NULL;
  }
  if (!any)
    (void) tree_prune (&m->tree, ch, part[0].pgno / DISK_MAP_PAGES, node_gone,
                       m);
}

int
objmeta_free (void *map, struct map_change *mc, pgno_t pgno, uint64_t nr,
              swmeta_run_fn fn, void *arg)
{
  struct objmeta *m = map;
  struct gather g = { .m = m, .fn = fn, .arg = arg };
  struct part part[SHARD_LEAVES];
  unsigned n, nr_old = 0;
  int err = get_parts (m, pgno, nr, part, &n);

  if (err)
    return err;
  err = begin_free (m, &mc->change, part, n);
  if (err == 0) {
    for (unsigned i = 0; i < n; i++)
      if (part[i].nr_old > 0) {
        clear_part (m, &part[i], &g);
        nr_old += part[i].nr_old;
      }
    if (nr_old > 0)
      append (m, &mc->change, DISK_REC_FREE,
              &(struct swmeta_run){ .pgno = pgno, .nr_pages = nr }, NULL);
    objmeta_gather_end (&g);
    unmake_empty (m, &mc->change, part, n);
  }
  put_parts (m, part, n);
  return err;
}

int
objmeta_pop (void *map, struct map_change *mc, pgno_t pgno, struct swent *ent)
{
  struct swmeta_run run;
  struct swent popped = { 0 };
  int err = map_durable_ops.lookup (map, pgno, 1, &run, &popped);

  if (err == 0 && run.word != 0)
    err = objmeta_free (map, mc, pgno, 1, NULL, NULL);
  if (err == 0)
    *ent = popped;
  return err;
}
