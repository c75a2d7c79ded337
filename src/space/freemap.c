/* SPDX-License-Identifier: BSD-2-Clause */
/* The free map on the media; the contract is in freemap.h.
 *
 * Called by page maps and the object table (notes) and by the flusher (folds
 * and cuts).  Reading it, at open, is freemap-walk.c.
 *
 *   note --> [run +][run -][run +] .. --fold--> leaf: bits --cycle--> medium
 *            front                end           a tree a volume
 *
 *   leaf i has the bits of places i * DISK_FREEMAP_BITS and up, place p in
 *   byte p / 8, bit p % 8; 1 is in use, and so are slots, ring, the free map's
 *   own nodes and all places beyond the volume's end, always.
 *
 * Invariants
 * I1. Bits = state of the maps when the oldest note was made; with all notes
 *     done in their order, state of the maps now.  At a cut there are none.
 * I2. Folding lays no records: UNDO puts leaves back to a cut, and what redoes
 *     the maps' records notes again.
 * I3. A note is taken off only when its bits are changed; so what could not be
 *     folded is still there at the cut, where the store fails.  What a fold has
 *     looked at, those before peeked, grows no more.
 * I4. noted + inside * FREEMAP_NOTES_MAX <= FREEMAP_NOTED_MAX whenever somebody
 *     enters; so there is room for whoever is inside.
 * I5. All leaves are there from format on, in blocks of their own.
 *
 * Locks: fold_lock (rank LOCK_TABLE) guards the content of all leaves and is
 * held by the one who folds, inside a change; lock (a leaf) guards the notes.
 */

#include <config.h>

#include "freemap-impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "sabotage.h"

#ifndef NOTED_FOLD                         /* the simulator folds sooner */
#define NOTED_FOLD (FREEMAP_NOTED_MAX / 4) /* more: fold before entering */
#endif
#define FOLD_PIECES 4096u /* in one change, at most */
#define FOLD_BATCH  64u   /* notes looked at under one lock */
#define FOLD_OPEN   8u    /* leaves kept in hand */
#define MERGE_BACK  8u
#define LOAD_NOTES  256u
#define NOTE_USED   (UINT64_C (1) << 63) /* in blk */

static struct log_limit wrong_limit;

/* ---- notes ---- */

static struct note *
note_at (struct freemap *fm, uint64_t count)
{
  return &fm->notes[count % FREEMAP_NOTED_MAX];
}

/* Can new be part of this one, at its end or before it? */
static bool
extend (struct note *n, const struct note *new)
{
  if (n->blk + n->nr == new->blk) {
    n->nr += new->nr;
    return true;
  }
  if (new->blk + new->nr == n->blk) {
    n->blk = new->blk;
    n->nr += new->nr;
    return true;
  }
  return false;
}

static bool
overlap (const struct note *a, const struct note *b)
{
  uint64_t a_blk = a->blk & ~NOTE_USED, b_blk = b->blk & ~NOTE_USED;

  return a_blk < b_blk + b->nr && b_blk < a_blk + a->nr;
}

/* Make one of the last notes longer: overwriting, new blocks follow each other,
 * and what they displace lies between them in the queue.  Those between must be
 * of other blocks, for then their order is of no matter.  Lock: needs fm->lock.
 */
static bool
merge (struct freemap *fm, const struct note *new)
{
  for (unsigned i = 1; i <= MERGE_BACK && i <= fm->pushed - fm->peeked; i++) {
    struct note *n = note_at (fm, fm->pushed - i);

    if (extend (n, new))
      return true;
    if (overlap (n, new))
      return false;
  }
  return false;
}

/* False: no room. */
static bool
push (struct freemap *fm, const struct note *new)
{
  LOCK_SCOPE (&fm->lock);
  if (merge (fm, new))
    return true;
  if (fm->pushed - fm->taken == FREEMAP_NOTED_MAX)
    return false;
  *note_at (fm, fm->pushed++) = *new;
  atomic_store (&fm->nr_noted, (unsigned) (fm->pushed - fm->taken));
  return true;
}

void
freemap_note (struct freemap *fm, const struct space_run *run, bool used)
{
  struct note new = { run->blk | (used ? NOTE_USED : 0), run->nr };

  if (run->nr > 0 && !push (fm, &new))
    flush_fail (fm->fl, "more blocks became used or free than can be noted");
}

/* The first notes, at most max.  They grow no more.  Returns how many. */
static unsigned
peek (struct freemap *fm, struct note *notes, unsigned max)
{
  unsigned nr;

  LOCK_SCOPE (&fm->lock);
  nr = (unsigned) min_u64 (max, fm->pushed - fm->taken);
  for (unsigned i = 0; i < nr; i++)
    notes[i] = *note_at (fm, fm->taken + i);
  fm->peeked = max_u64 (fm->peeked, fm->taken + nr);
  return nr;
}

/* The first nr are done, and of the one behind them all but *rest, if that is
 * not NULL.  Lock: needs fold_lock.
 */
static void
take (struct freemap *fm, unsigned nr, const struct note *rest)
{
  LOCK_SCOPE (&fm->lock);
  fm->taken += nr;
  if (rest != NULL)
    *note_at (fm, fm->taken) = *rest;
  atomic_store (&fm->nr_noted, (unsigned) (fm->pushed - fm->taken));
}

/* ---- folding ---- */

struct fold {
  struct freemap *fm;
  struct change *ch;
  unsigned credit;                /* nodes that may still be begun */
  struct buf *leaf[FOLD_OPEN];    /* begun; NULL */
  struct fm_volume *v[FOLD_OPEN]; /* whose it is */
  unsigned next;                  /* to be given up for another */
};

/* A piece of a note, within one leaf. */
struct piece {
  struct fm_volume *v;
  uint64_t leaf;
  unsigned bit, nr;
  bool used;
};

/* The first piece of a note.  False: it leads out of the volumes. */
static bool
cut_piece (struct freemap *fm, const struct note *note, struct piece *p)
{
  blkno_t blk = note->blk & ~NOTE_USED;
  uint64_t place = blkno_place (blk);
  unsigned volume = blkno_volume (blk);

  if (volume >= fm->nr_volumes)
    return false;
  p->v = &fm->volumes[volume];
  if (place < p->v->first || place >= p->v->end || note->nr > p->v->end - place)
    return false;
  p->leaf = place / DISK_FREEMAP_BITS;
  p->bit = (unsigned) (place % DISK_FREEMAP_BITS);
  p->nr = (unsigned) min_u64 (note->nr, DISK_FREEMAP_BITS - p->bit);
  p->used = (note->blk & NOTE_USED) != 0;
  return true;
}

static void
fold_close (struct fold *f, unsigned i)
{
  if (f->leaf[i] == NULL)
    return;
  buf_done (f->fm->fl, f->leaf[i]);
  buf_put (f->fm->bs, f->leaf[i]);
  f->leaf[i] = NULL;
}

/* The leaf of a piece, begun.  EAGAIN: the credit is used up. */
static int
fold_open (struct fold *f, const struct piece *p, struct buf **leafp)
{
  unsigned nr_nodes = p->v->tree.height + 1, i = f->next;
  int err;

  for (unsigned k = 0; k < FOLD_OPEN; k++)
    if (f->leaf[k] != NULL && f->v[k] == p->v &&
        f->leaf[k]->id.index == p->leaf) {
      *leafp = f->leaf[k];
      return 0;
    }
  fold_close (f, i);
  if (f->credit < nr_nodes)
    return EAGAIN;
  f->credit -= nr_nodes;
  err = freemap_leaf (f->fm, p->v, p->leaf, leafp);
  if (err)
    return err;
  err = tree_begin (&p->v->tree, f->ch, *leafp);
  if (err) {
    buf_put (f->fm->bs, *leafp);
    return err;
  }
  f->leaf[i] = *leafp;
  f->v[i] = p->v;
  f->next = (i + 1) % FOLD_OPEN;
  return 0;
}

static void
tell_wrong (struct fold *f, const struct note *note, uint64_t nr)
{
  if (f->ch->quiet || nr == 0)
    return;
  atomic_fetch_add (&f->fm->nr_wrong, nr);
  log_limited (&wrong_limit, LOG_ERROR,
               "free map: volume %u, blocks from %" PRIu64 " on: %" PRIu64
               " that become %s were so already (this is a bug, or damage: "
               "report it, and run 'farpage check')",
               blkno_volume (note->blk & ~NOTE_USED),
               blkno_place (note->blk & ~NOTE_USED), nr,
               note->blk & NOTE_USED ? "used" : "free");
}

/* Fold what of a note lies in one leaf, and take it off the note. */
static int
fold_piece (struct fold *f, struct note *note)
{
  struct disk_node *node;
  struct buf *leaf;
  struct piece p;
  unsigned changed;
  int err;

  if (!cut_piece (f->fm, note, &p)) {
    tell_wrong (f, note, note->nr);
    note->nr = 0;
    return 0;
  }
  err = fold_open (f, &p, &leaf);
  if (err)
    return err;
  node = freemap_node (leaf);
  changed = freemap_set_bits (node->body, p.bit, p.nr, p.used);
  if (p.used)
    node->nr_used += changed;
  else
    node->nr_used -= changed;
  tell_wrong (f, note, p.nr - changed);
  note->blk += p.nr;
  note->nr -= p.nr;
  return 0;
}

/* Fold the first notes, as many as are looked at under one lock; at most *left
 * pieces.  ENOENT: there are none.  Lock: needs fold_lock.
 */
static int
fold_batch (struct fold *f, unsigned *left)
{
  struct note notes[FOLD_BATCH];
  unsigned nr = peek (f->fm, notes, FOLD_BATCH), i = 0;
  int err = nr == 0 ? ENOENT : 0;

  while (i<nr && * left> 0 && err == 0) {
    err = fold_piece (f, &notes[i]);
    i += err == 0 && notes[i].nr == 0;
    --*left;
  }
  take (f->fm, i, i < nr ? &notes[i] : NULL);
  return err;
}

/* Fold what one change may. */
static int
fold (struct freemap *fm, struct change *ch)
{
  struct fold f = { .fm = fm, .ch = ch, .credit = CHANGE_NODES_MAX };
  unsigned left = FOLD_PIECES;
  int err = 0;

  LOCK_SCOPE (&fm->fold_lock);
  while (err == 0 && left > 0)
    err = fold_batch (&f, &left);
  for (unsigned i = 0; i < FOLD_OPEN; i++)
    fold_close (&f, i);
  return err == ENOENT || err == EAGAIN ? 0 : err;
}

/* ---- room for notes ---- */

static int
fold_change (struct freemap *fm)
{
  struct change ch;
  int err = change_begin (fm->fl, CHANGE_NODES_MAX, &ch);

  if (err)
    return err;
  err = fold (fm, &ch);
  change_end (fm->fl, &ch);
  return err;
}

/* In first, looked at after: whoever was in before is counted, whoever comes
 * later counts us (I4).
 */
static bool
try_enter (struct freemap *fm)
{
  uint64_t nr_inside = atomic_fetch_add (&fm->nr_inside, 1) + 1;
  uint64_t nr_noted = atomic_load (&fm->nr_noted);

  if (nr_noted <= NOTED_FOLD &&
      nr_noted + nr_inside * FREEMAP_NOTES_MAX <= FREEMAP_NOTED_MAX)
    return true;
  atomic_fetch_sub (&fm->nr_inside, 1);
  return false;
}

/* Too many are inside: wait until one leaves. */
static bool
wait_enter (struct freemap *fm)
{
  bool entered;

  atomic_fetch_add (&fm->nr_waiting, 1);
  lock_acquire (&fm->lock);
  entered = try_enter (fm);
  if (!entered && atomic_load (&fm->nr_noted) <= NOTED_FOLD)
    cond_wait (&fm->left, &fm->lock);
  lock_release (&fm->lock);
  atomic_fetch_sub (&fm->nr_waiting, 1);
  return entered;
}

int
freemap_enter (struct freemap *fm)
{
  bool entered = try_enter (fm);

  while (!entered) {
    if (atomic_load (&fm->nr_noted) > NOTED_FOLD) {
      int err = fold_change (fm);

      if (err)
        return err;
    }
    entered = wait_enter (fm);
  }
  return 0;
}

void
freemap_leave (struct freemap *fm)
{
  unsigned before = atomic_fetch_sub (&fm->nr_inside, 1);

  assert (before > 0);
  (void) before;
  if (atomic_load (&fm->nr_waiting) > 0) {
    LOCK_SCOPE (&fm->lock);
    cond_broadcast (&fm->left);
  }
}

/* ---- the flusher ---- */

static uint64_t
count_taken (struct freemap *fm, uint64_t *pushed)
{
  LOCK_SCOPE (&fm->lock);
  if (pushed != NULL)
    *pushed = fm->pushed;
  return fm->taken;
}

/* Have the leaves of the first notes in memory. */
static int
load (struct freemap *fm)
{
  struct note notes[LOAD_NOTES];
  unsigned nr;

  LOCK_SCOPE (&fm->fold_lock);
  nr = peek (fm, notes, LOAD_NOTES);
  for (unsigned i = 0; i < nr; i++) {
    struct buf *leaf;
    struct piece p;
    int err;

    if (!cut_piece (fm, &notes[i], &p))
      continue;
    err = freemap_leaf (fm, p.v, p.leaf, &leaf);
    if (err)
      return err;
    buf_put (fm->bs, leaf);
  }
  return 0;
}

int
freemap_before_cut (struct freemap *fm)
{
  uint64_t pushed;
  uint64_t taken = count_taken (fm, &pushed);
  int err = 0;

  for (; taken < pushed && err == 0; taken = count_taken (fm, NULL)) {
    struct change ch;

    change_begin_cut (fm->fl, &ch);
    err = fold (fm, &ch);
    change_end (fm->fl, &ch);
  }
  return err ? err : load (fm);
}

int
freemap_cut (struct freemap *fm, struct change *ch, struct disk_super *root)
{
  int err = 0;

  while (err == 0 && atomic_load (&fm->nr_noted) > 0 && !SABOTAGE (fold_late)) {
    flush_make_room (fm->fl);
    err = fold (fm, ch);
  }
  if (err)
    return err;
  assert (atomic_load (&fm->nr_noted) == 0 || SABOTAGE (fold_late));
  for (unsigned i = 0; i < fm->nr_volumes; i++) {
    struct tree *t = &fm->volumes[i].tree;

    LOCK_SCOPE (&t->lock);
    root->members[i].freemap = t->root;
    root->members[i].freemap_height = t->height;
  }
  return 0;
}

/* ---- looking ---- */

void
freemap_stat (struct freemap *fm, struct freemap_stat *st)
{
  st->nr_noted = atomic_load (&fm->nr_noted);
  st->nr_wrong = atomic_load (&fm->nr_wrong);
}

/* ---- life ---- */

static void
init_volume (struct freemap *fm, unsigned i, const struct disk_super *root)
{
  const struct disk_member *m = &root->members[i];
  struct fm_volume *v = &fm->volumes[i];

  v->first = super_first_block (root, i);
  v->end = super_slot_block (m->nr_blocks, 1);
  v->nr_leaves = (m->nr_blocks + DISK_FREEMAP_BITS - 1) / DISK_FREEMAP_BITS;
  tree_init (&v->tree, fm->bs, fm->fl, DISK_TREE_FREEMAP + i, DISK_NODE_FREEMAP,
             m->freemap_height, &m->freemap);
}

int
freemap_create (struct bufs *bs, struct flush *fl,
                const struct disk_super *root, struct freemap **fmp)
{
  struct freemap *fm =
      calloc (1, sizeof *fm + root->nr_volumes * sizeof *fm->volumes);

  if (fm == NULL)
    return ENOMEM;
  fm->notes = calloc (FREEMAP_NOTED_MAX, sizeof *fm->notes);
  if (fm->notes == NULL) {
    free (fm);
    return ENOMEM;
  }
  fm->bs = bs;
  fm->fl = fl;
  fm->nr_volumes = root->nr_volumes;
  lock_init (&fm->fold_lock, LOCK_TABLE, "free map");
  lock_init (&fm->lock, LOCK_LEAF, "free map's notes");
  cond_init (&fm->left);
  for (unsigned i = 0; i < fm->nr_volumes; i++)
    init_volume (fm, i, root);
  *fmp = fm;
  return 0;
}

void
freemap_destroy (struct freemap *fm)
{
  if (fm == NULL)
    return;
  for (unsigned i = 0; i < fm->nr_volumes; i++)
    tree_fini (&fm->volumes[i].tree);
  cond_destroy (&fm->left);
  lock_destroy (&fm->lock);
  lock_destroy (&fm->fold_lock);
  free (fm->notes);
  free (fm);
}
