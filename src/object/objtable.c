/* SPDX-License-Identifier: BSD-2-Clause */
/* The object table; the contract is in objtable.h.
 *
 * Called by the store (create, remove), by the flusher at a cut, and by
 * recovery.  Reading it, at open, and judging entries is objtable-read.c.
 *
 *   place:   0 .. 6     7 .. 13           OBJTABLE_MAX - 1
 *          [ leaf 0 ] [ leaf 1 ] ..       a tree of fixed height
 *
 *   alloc --> taken --put--> LIVE --put--> DYING --put--> FREE
 *               |                                          ^
 *               put fails, objtable_free () ---------------/
 *
 * Invariants
 * I1. taken[place] is set from objtable_alloc () until a put of FREE; an entry
 *     that is not FREE is taken.
 * I2. next_id is above every id in the table and in records redone; it is in
 *     the superblock from each cut on.  An id whose first record was lost left
 *     no trace, and may come again.
 * I3. Leaves, once made, stay: there are OBJTABLE_LEAVES at most, and a place
 *     is used again before a higher one is.
 * I4. Leaves that have objects are kept in memory (pinned), so that a cut
 *     needs no I/O; but only up to a sixteenth of the buffers, above that they
 *     come and go as others do.
 * I5. What was read or redone is judged before anything believes it: a name
 *     with a NUL, a height that does not fit its size, ... is damage.
 *
 * Locks: lock (rank LOCK_TABLE) guards everything here and the leaves' content,
 * and orders OBJECT records.  Blocks for new leaves are had before it is taken.
 */

#include <config.h>

#include "objtable-impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX (OBJTABLE_HEIGHT + 1) /* that a put may need */

/* ---- leaves ---- */

int
objtable_leaf (struct objtable *ot, uint64_t place, struct buf **leafp)
{
  struct buf *leaf = ot->pinned[place / DISK_TABLE_OBJECTS];

  if (leaf == NULL)
    return tree_get (&ot->tree, place / DISK_TABLE_OBJECTS, leafp);
  buf_ref (leaf);
  *leafp = leaf;
  return 0;
}

void
objtable_pin (struct objtable *ot, struct buf *leaf)
{
  struct buf **p = &ot->pinned[leaf->id.index];

  if (*p != NULL || ot->nr_pinned == ot->pinned_max)
    return;
  buf_ref (leaf);
  *p = leaf;
  ot->nr_pinned++;
}

void
objtable_set_taken (struct objtable *ot, uint64_t place, bool taken)
{
  ot->taken[place] = taken;
  if (!taken)
    ot->first_free = min_u64 (ot->first_free, place);
}

/* ---- places ---- */

int
objtable_alloc (struct objtable *ot, uint64_t *place, uint64_t *id)
{
  LOCK_SCOPE (&ot->lock);
  while (ot->first_free < OBJTABLE_MAX && ot->taken[ot->first_free])
    ot->first_free++;
  if (ot->first_free == OBJTABLE_MAX || ot->next_id >= SUPER_COUNT_MAX - 1)
    return ENOSPC;
  *place = ot->first_free;
  *id = ot->next_id++;
  objtable_set_taken (ot, *place, true);
  return 0;
}

void
objtable_free (struct objtable *ot, uint64_t place)
{
  LOCK_SCOPE (&ot->lock);
  objtable_set_taken (ot, place, false);
}

/* ---- putting ---- */

struct put {
  uint64_t place;
  const struct disk_object *entry;
  uint64_t lsn;       /* result */
  unsigned nr_needed; /* blocks, when EAGAIN */
  unsigned nr_blks;   /* charged */
  uint64_t blks[NODES_MAX];
};

/* What the place's entry, `old`, becomes.  Its map has the levels that its size
 * needs, by records before this one, or those that it had, if they are more.
 * The next cut has its counts; until then they must be possible.
 */
static void
merge_entry (const struct disk_object *old, const struct disk_object *entry,
             struct disk_object *new)
{
  const pgno_t nr_pages = objmeta_entry_pages (entry);

  memset (new, 0, sizeof *new);
  if (entry->state == DISK_OBJECT_FREE)
    return;
  *new = *entry;
  new->root = (struct disk_pointer){ 0, 0 };
  new->nr_mapped = new->nr_zero = new->nr_nodes = 0;
  new->height = objmeta_height (nr_pages);
  if (old->state == DISK_OBJECT_FREE || old->id != new->id)
    return;
  new->root = old->root;
  new->height = (uint32_t) max_u64 (new->height, old->height);
  new->nr_mapped = min_u64 (old->nr_mapped, nr_pages);
  new->nr_zero = min_u64 (old->nr_zero, nr_pages - new->nr_mapped);
  new->nr_nodes = old->nr_nodes;
}

/* The record has no root and no counts: those are the cuts'. */
static void
append_entry (struct objtable *ot, struct change *ch, uint64_t place,
              uint64_t id, const struct disk_object *new)
{
  struct disk_rec rec = { .type = DISK_REC_OBJECT,
                          .object = id,
                          .pgno = place };
  struct disk_object bare = *new;

  bare.root = (struct disk_pointer){ 0, 0 };
  bare.nr_mapped = bare.nr_zero = bare.nr_nodes = 0;
  undo_append (ot->fl, ch, &rec, &bare, sizeof bare);
}

/* The leaf is begun.  Lock: needs ot->lock. */
static void
set_entry (struct objtable *ot, struct change *ch, struct buf *leaf,
           uint64_t place, const struct disk_object *new)
{
  struct disk_object *at = objtable_entry (leaf, place);
  uint64_t id = new->state != DISK_OBJECT_FREE ? new->id : at->id;

  if ((at->state == DISK_OBJECT_FREE) != (new->state == DISK_OBJECT_FREE))
    objtable_node (leaf)->nr_used += new->state != DISK_OBJECT_FREE ? 1 : -1;
  *at = *new;
  append_entry (ot, ch, place, id, new);
  objtable_set_taken (ot, place, new->state != DISK_OBJECT_FREE);
  if (new->state != DISK_OBJECT_FREE)
    objtable_pin (ot, leaf);
}

static void
note_node (struct objtable *ot, uint64_t blk, bool used)
{
  freemap_note (ot->fm, &(struct space_run){ blk, 1 }, used);
}

/* Make the leaf that is not there.  EAGAIN: blocks are needed for that.
 * Lock: needs ot->lock.
 */
static int
make_leaf (struct objtable *ot, struct change *ch, struct put *p,
           struct buf **leafp)
{
  uint64_t index = p->place / DISK_TABLE_OBJECTS;
  unsigned nr_used;
  int err = tree_missing (&ot->tree, index, &p->nr_needed);

  if (err)
    return err;
  assert (p->nr_needed > 0 && p->nr_needed <= NODES_MAX);
  if (p->nr_needed > p->nr_blks)
    return EAGAIN;
  err = tree_make (&ot->tree, ch, index, p->blks, &nr_used, leafp);
  if (err)
    return err;
  for (unsigned i = 0; i < nr_used; i++)
    note_node (ot, p->blks[i], true);
  p->nr_blks -= nr_used;
  memmove (p->blks, p->blks + nr_used, p->nr_blks * sizeof *p->blks);
  return 0;
}

/* Lock: needs ot->lock. */
static int
put_locked (struct objtable *ot, struct change *ch, struct put *p)
{
  static const struct disk_object none;
  struct disk_object new;
  struct buf *leaf;
  int err = objtable_leaf (ot, p->place, &leaf);

  if (err)
    return err;
  merge_entry (leaf != NULL ? objtable_entry (leaf, p->place) : &none, p->entry,
               &new);
  if (objtable_entry_error (&new) != NULL)
    err = EINVAL;
  else if (leaf != NULL)
    err = tree_begin (&ot->tree, ch, leaf);
  else if (new.state != DISK_OBJECT_FREE)
    err = make_leaf (ot, ch, p, &leaf);
  else
    objtable_set_taken (ot, p->place, false);
  if (err == 0 && leaf != NULL) {
    set_entry (ot, ch, leaf, p->place, &new);
    p->lsn = ch->lsn;
    buf_done (ot->fl, leaf);
  }
  if (leaf != NULL)
    buf_put (ot->bs, leaf);
  return err;
}

static int
put_once (struct objtable *ot, struct put *p)
{
  struct change ch;
  int err = freemap_enter (ot->fm);

  if (err)
    return err;
  err = change_begin (ot->fl, NODES_MAX, &ch);
  if (err == 0) {
    lock_acquire (&ot->lock);
    err = put_locked (ot, &ch, p);
    lock_release (&ot->lock);
    change_end (ot->fl, &ch);
  }
  freemap_leave (ot->fm);
  return err;
}

/* A charge stands for each block, so that no unit is needed for it. */
static int
get_blocks (struct objtable *ot, struct put *p)
{
  while (p->nr_blks < p->nr_needed) {
    struct space_run run;
    int err = space_charge (ot->space, 1);

    if (err)
      return err;
    err = space_alloc (ot->space, SPACE_HINT_META, 1, &run);
    if (err) {
      space_uncharge (ot->space, 1);
      return err;
    }
    p->blks[p->nr_blks++] = run.blk;
  }
  return 0;
}

static void
give_back_blocks (struct objtable *ot, struct put *p)
{
  for (unsigned i = 0; i < p->nr_blks; i++)
    space_free (ot->space, SPACE_HINT_META,
                &(struct space_run){ p->blks[i], 1 }, 1);
  space_uncharge (ot->space, p->nr_blks);
  p->nr_blks = 0;
}

/* A put has failed: a place that was never put is free again. */
static void
let_place_go (struct objtable *ot, uint64_t place)
{
  struct buf *leaf = NULL;

  LOCK_SCOPE (&ot->lock);
  if (objtable_leaf (ot, place, &leaf) != 0)
    return; /* who knows what is there: it stays taken */
  if (leaf == NULL || objtable_entry (leaf, place)->state == DISK_OBJECT_FREE)
    objtable_set_taken (ot, place, false);
  if (leaf != NULL)
    buf_put (ot->bs, leaf);
}

int
objtable_put (struct objtable *ot, uint64_t place,
              const struct disk_object *entry, uint64_t *lsn)
{
  struct put p = { .place = place, .entry = entry };
  int err;

  assert (place < OBJTABLE_MAX);
  while ((err = put_once (ot, &p)) == EAGAIN) {
    err = get_blocks (ot, &p);
    if (err)
      break;
  }
  give_back_blocks (ot, &p);
  if (err)
    let_place_go (ot, place);
  else
    *lsn = p.lsn;
  return err;
}

/* ---- cuts ---- */

int
objtable_before_cut (struct objtable *ot, struct change *ch, uint64_t place)
{
  struct buf *leaf;
  int err;

  assert (place < OBJTABLE_MAX);
  LOCK_SCOPE (&ot->lock);
  err = objtable_leaf (ot, place, &leaf);
  if (err || leaf == NULL)
    return err;
  err = tree_begin (&ot->tree, ch, leaf);
  if (err == 0)
    buf_done (ot->fl, leaf);
  buf_put (ot->bs, leaf);
  return err;
}

int
objtable_cut_object (struct objtable *ot, struct change *ch, uint64_t place,
                     const struct disk_object *now)
{
  struct disk_object *e;
  struct buf *leaf;
  int err;

  assert (place < OBJTABLE_MAX);
  LOCK_SCOPE (&ot->lock);
  err = objtable_leaf (ot, place, &leaf);
  if (err || leaf == NULL)
    return err;
  e = objtable_entry (leaf, place);
  if (e->state != DISK_OBJECT_FREE && e->id == now->id) {
    err = tree_begin (&ot->tree, ch, leaf);
    if (err == 0) {
      e->root = now->root;
      e->height = now->height;
      e->nr_mapped = now->nr_mapped;
      e->nr_zero = now->nr_zero;
      e->nr_nodes = now->nr_nodes;
      buf_done (ot->fl, leaf);
    }
  }
  buf_put (ot->bs, leaf);
  return err;
}

int
objtable_cut (struct objtable *ot, struct change *ch, struct disk_super *root)
{
  (void) ch;
  LOCK_SCOPE (&ot->lock);
  root->next_object = ot->next_id;
  LOCK_SCOPE (&ot->tree.lock);
  root->table = ot->tree.root;
  root->table_height = ot->tree.height;
  return 0;
}

/* ---- redo ---- */

static void
node_used (void *arg, uint64_t blk)
{
  note_node (arg, blk, true);
}

static void
node_gone (void *arg, uint64_t blk)
{
  note_node (arg, blk, false);
}

int
objtable_redo_node (struct objtable *ot, struct change *ch,
                    const struct disk_rec *rec)
{
  if (rec->type != DISK_REC_NODE)
    return objtable_damaged (0,
                             "the log says that it has lost a node"); /* I3 */
  LOCK_SCOPE (&ot->lock);
  return tree_redo (&ot->tree, ch, rec, node_used, node_gone, ot);
}

/* Lock: needs ot->lock. */
static int
redo_locked (struct objtable *ot, struct change *ch, uint64_t place,
             const struct disk_object *entry)
{
  struct disk_object new;
  struct buf *leaf;
  int err = objtable_leaf (ot, place, &leaf);

  if (err)
    return err;
  if (leaf == NULL)
    return entry->state == DISK_OBJECT_FREE
               ? 0
               : objtable_damaged (place, "the log has no record of its node");
  merge_entry (objtable_entry (leaf, place), entry, &new);
  if (objtable_entry_error (&new) != NULL)
    err = objtable_damaged (place, "the log has an entry that cannot be");
  else
    err = tree_begin (&ot->tree, ch, leaf);
  if (err == 0) {
    set_entry (ot, ch, leaf, place, &new);
    buf_done (ot->fl, leaf);
  }
  buf_put (ot->bs, leaf);
  return err;
}

int
objtable_redo (struct objtable *ot, struct change *ch,
               const struct disk_rec *rec, const struct disk_object *entry)
{
  if (rec->pgno >= OBJTABLE_MAX || rec->object < DISK_TREE_FIRST ||
      rec->object >= SUPER_COUNT_MAX - 1 ||
      (entry->state != DISK_OBJECT_FREE && entry->id != rec->object))
    return objtable_damaged (rec->pgno,
                             "the log has a record that makes no sense");
  LOCK_SCOPE (&ot->lock);
  ot->next_id = max_u64 (ot->next_id, rec->object + 1);
  return redo_locked (ot, ch, rec->pgno, entry);
}

/* ---- life ---- */

uint64_t
objtable_nr_nodes (struct objtable *ot)
{
  return atomic_load (&ot->tree.nr_nodes);
}

int
objtable_create (struct bufs *bs, struct flush *fl, struct space *space,
                 struct freemap *fm, const struct disk_super *root,
                 struct objtable **otp)
{
  struct objtable *ot;
  int err;

  if (root->table.blk != 0 && root->table_height != OBJTABLE_HEIGHT)
    return objtable_damaged (0, "its tree has a height that cannot be");
  ot = calloc (1, sizeof *ot);
  if (ot == NULL)
    return ENOMEM;
  ot->bs = bs;
  ot->fl = fl;
  ot->space = space;
  ot->fm = fm;
  ot->next_id = max_u64 (root->next_object, DISK_TREE_FIRST);
  ot->pinned_max = bufs_nr (bs) / 16;
  lock_init (&ot->lock, LOCK_TABLE, "object table");
  tree_init (&ot->tree, bs, fl, DISK_TREE_TABLE, DISK_NODE_TABLE,
             OBJTABLE_HEIGHT, &root->table);
  err = objtable_read (ot);
  if (err) {
    objtable_destroy (ot);
    return err;
  }
  *otp = ot;
  return 0;
}

void
objtable_destroy (struct objtable *ot)
{
  if (ot == NULL)
    return;
  for (unsigned i = 0; i < OBJTABLE_LEAVES; i++)
    if (ot->pinned[i] != NULL)
      buf_put (ot->bs, ot->pinned[i]);
  tree_fini (&ot->tree);
  lock_destroy (&ot->lock);
  free (ot);
}
