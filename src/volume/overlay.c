/* SPDX-License-Identifier: BSD-2-Clause */
/* A copy-on-write volume in memory: the inner one is read and never written.
 *
 * For opens that must change nothing (readonly=yes, farpage check): recovery
 * runs over it as over the real thing, and all that it writes is forgotten.
 *
 *   read   --> lookup: none of the pages is here --> inner, as one transfer
 *                      some are                  --> page by page: here, or
 *                                                    runs from inner
 *   write  --> place: page made at its first write --> memcpy
 *
 *   table: slots, a power of two, at most 3/4 used; open addressing
 *   slot = block number, page (NULL: free)
 *
 * I1. inner gets reads only: no write, no trim, no flush.
 * I2. A page that was written once is here until close, and is never read from
 *     inner again: so a block that cannot be read may be written and then
 *     read, as on a medium.
 * I3. Pages never move (the table does), and are changed and read under the
 *     lock: a reader sees a whole write of a page or none of it.
 *
 * Lock: overlay.lock (LOCK_LEAF) guards the table and all pages; I/O of inner
 * is done with it released.  A page that is written meanwhile may be read as
 * it was before: as on any disk, two transfers of one page at a time give
 * either.
 *
 * Memory is bounded by what is written, at worst the volume's size; none to be
 * had is EIO, as it would be of a medium that takes no more writes.
 */

#include <config.h>

#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lock.h"
#include "medium.h"

#define NR_SLOTS_FIRST 64u

struct slot {
  uint64_t blk;
  uint8_t *page; /* PAGE_BYTES; NULL: free */
};

struct overlay {
  struct volume v;
  struct volume *inner; /* [const] */
  lock_t lock;
  struct slot *slots; /* [lock] */
  uint64_t nr_slots;  /* [lock] power of two */
  uint64_t nr_used;   /* [lock] */
  bool starved;       /* [lock] a write found no memory */
};

static struct overlay *
overlay_of (struct volume *v)
{
  return (struct overlay *) ((char *) v - offsetof (struct overlay, v));
}

/* ---- the table ---- */

/* The slot of blk, or the free one where it would be. */
static struct slot *
slot_find (struct slot *slots, uint64_t nr_slots, uint64_t blk)
{
  uint64_t i = blk * UINT64_C (0x9e3779b97f4a7c15) >> 16;

  while (slots[i & (nr_slots - 1)].page != NULL &&
         slots[i & (nr_slots - 1)].blk != blk)
    i++;
  return &slots[i & (nr_slots - 1)];
}

static int
grow_locked (struct overlay *o)
{
  uint64_t nr = 2 * o->nr_slots;
  struct slot *slots = calloc (nr, sizeof *slots);

  if (slots == NULL)
    return ENOMEM;
  for (uint64_t i = 0; i < o->nr_slots; i++)
    if (o->slots[i].page != NULL)
      *slot_find (slots, nr, o->slots[i].blk) = o->slots[i];
  free (o->slots);
  o->slots = slots;
  o->nr_slots = nr;
  return 0;
}

/* The page of blk, made if it is not here yet; NULL: no memory. */
static uint8_t *
place_locked (struct overlay *o, uint64_t blk)
{
  struct slot *s = slot_find (o->slots, o->nr_slots, blk);

  if (s->page != NULL)
    return s->page;
  if (4 * (o->nr_used + 1) > 3 * o->nr_slots) {
    if (grow_locked (o) != 0) {
      o->starved = true;
      return NULL;
    }
    s = slot_find (o->slots, o->nr_slots, blk);
  }
  s->page = malloc (PAGE_BYTES);
  if (s->page == NULL) {
    o->starved = true;
    return NULL;
  }
  s->blk = blk;
  o->nr_used++;
  return s->page;
}

/* ---- transfers ---- */

/* Copy blk out if it is here (to NULL: only tell). */
static bool
lookup (struct overlay *o, uint64_t blk, void *to)
{
  const uint8_t *page;

  LOCK_SCOPE (&o->lock);
  page = slot_find (o->slots, o->nr_slots, blk)->page;
  if (page != NULL && to != NULL)
    memcpy (to, page, PAGE_BYTES);
  return page != NULL;
}

static bool
any_is_here (struct overlay *o, const struct vio *io)
{
  uint64_t blk = io->off >> PAGE_SHIFT;

  for (uint64_t i = 0; i < io->bytes >> PAGE_SHIFT; i++)
    if (lookup (o, blk + i, NULL))
      return true;
  return false;
}

/* One part of a read's memory, at off of the volume: runs of pages that are
 * not here come from inner.
 */
static int
read_part (struct overlay *o, const struct vio *io, uint64_t off,
           struct iovec part)
{
  struct vio run = { .volume = o->inner, .op = VIO_READ, .cached = io->cached };

  for (size_t at = 0; at < part.iov_len; at += PAGE_BYTES) {
    char *to = (char *) part.iov_base + at;
    bool here = lookup (o, (off + at) >> PAGE_SHIFT, to);

    if (!here && run.bytes == 0) {
      run.off = off + at;
      run.buf = to;
    }
    if (!here)
      run.bytes += PAGE_BYTES;
    if (run.bytes > 0 && (here || at + PAGE_BYTES == part.iov_len)) {
      vio_run (&run);
      run.bytes = 0;
      if (run.error != 0)
        return run.error;
    }
  }
  return 0;
}

static int
overlay_read (struct overlay *o, const struct vio *io)
{
  uint64_t off = io->off;
  int err = 0;

  if (!any_is_here (o, io)) {
    struct vio whole = *io;

    whole.volume = o->inner;
    vio_run (&whole);
    return whole.error;
  }
  for (unsigned i = 0; i < vio_nr_parts (io) && err == 0; i++) {
    struct iovec part = vio_part (io, i);

    err = read_part (o, io, off, part);
    off += part.iov_len;
  }
  return err;
}

static int
overlay_write (struct overlay *o, const struct vio *io)
{
  uint64_t blk = io->off >> PAGE_SHIFT;

  LOCK_SCOPE (&o->lock);
  for (unsigned i = 0; i < vio_nr_parts (io); i++) {
    struct iovec part = vio_part (io, i);

    for (size_t at = 0; at < part.iov_len; at += PAGE_BYTES) {
      uint8_t *page = place_locked (o, blk++);

      if (page == NULL) {
        o->starved = true;
        return EIO;
      }
      memcpy (page, (char *) part.iov_base + at, PAGE_BYTES);
    }
  }
  return 0;
}

static void
overlay_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  struct overlay *o = overlay_of (v);
  int err;

  (void) batch;
  err = io->op == VIO_READ ? overlay_read (o, io) : overlay_write (o, io);
  io->done = err == 0 ? io->bytes : 0;
  vio_finish (io, err);
}

static int
overlay_flush (struct volume *v)
{
  (void) v;
  return 0;
}

static int
overlay_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  (void) v;
  (void) off;
  (void) bytes;
  return EOPNOTSUPP;
}

/* ---- open and close ---- */

/* All but inner. */
static void
overlay_fini (struct overlay *o)
{
  for (uint64_t i = 0; i < o->nr_slots; i++)
    free (o->slots[i].page);
  free (o->slots);
  lock_destroy (&o->lock);
  medium_fini (&o->v);
  free (o);
}

static void
overlay_close (struct volume *v)
{
  struct overlay *o = overlay_of (v);

  volume_close (o->inner);
  overlay_fini (o);
}

static const struct volume_ops overlay_ops = {
  .kind = "overlay",
  .start = overlay_start,
  .flush = overlay_flush,
  .trim = overlay_trim,
  .close = overlay_close,
};

int
volume_open_overlay (struct volume *inner, struct volume **vp)
{
  struct overlay *o = calloc (1, sizeof *o);

  if (o == NULL)
    return ENOMEM;
  o->slots = calloc (NR_SLOTS_FIRST, sizeof *o->slots);
  if (o->slots == NULL || medium_init (&o->v, &overlay_ops, inner->name) != 0) {
    free (o->slots);
    free (o);
    return ENOMEM;
  }
  o->nr_slots = NR_SLOTS_FIRST;
  o->inner = inner;
  o->v.size_bytes = inner->size_bytes;
  o->v.align = inner->align;
  o->v.checked = inner->checked;
  o->v.direct = inner->direct;
  lock_init (&o->lock, LOCK_LEAF, "overlay");
  *vp = &o->v;
  return 0;
}

struct volume *
volume_overlay_detach (struct volume *v)
{
  struct overlay *o = overlay_of (v);
  struct volume *inner = o->inner;

  assert (v->ops == &overlay_ops);
  overlay_fini (o);
  return inner;
}

bool
volume_overlay_starved (struct volume *v)
{
  struct overlay *o = overlay_of (v);

  LOCK_SCOPE (&o->lock);
  return o->starved;
}

uint64_t
volume_overlay_blocks (struct volume *v, uint64_t *blks)
{
  struct overlay *o = overlay_of (v);
  uint64_t n = 0;

  assert (v->ops == &overlay_ops);
  LOCK_SCOPE (&o->lock);
  for (uint64_t i = 0; i < o->nr_slots && blks != NULL; i++)
    if (o->slots[i].page != NULL)
      blks[n++] = o->slots[i].blk;
  return o->nr_used;
}
