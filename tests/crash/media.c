/* SPDX-License-Identifier: BSD-2-Clause */
/* Media for the simulator; see media.h.  run.c opens them, states.c makes new
 * images from a record.
 *
 *   image --> row --> block block block ..   a crash state differs from its
 *       '--> row     {refs, hash, bytes}      base in a few rows; others are
 *            ...                              shared
 *
 * Why not the memory volume under the fault volume: a state would be a copy of
 * all bytes, and its hash a walk over them.
 *
 * A write takes time: it begins, others may run, it ends.  In between its
 * bytes are in neither image nor reads; a crash may leave them or not.
 *
 * I1. image.hash is the sum over its blocks of a mix of place and hash, so
 *     that one block's change is one step.
 * I2. A block of zeros is always NULL.
 */

#include <config.h>

#include "media.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "rng.h"
#include "sim.h"
#include "task.h"

/* ---- blocks ---- */

static struct block *free_blocks;

static void *
must (void *p)
{
  if (p == NULL)
    abort ();
  return p;
}

/* Four lanes, so that multiplications overlap. */
static uint64_t
hash_page (const void *data)
{
  const uint8_t *p = data;
  uint64_t lane[4] = { 1, 2, 3, 4 }, word[4];

  for (unsigned i = 0; i < PAGE_BYTES; i += sizeof word) {
    memcpy (word, p + i, sizeof word);
    for (unsigned j = 0; j < 4; j++) {
      lane[j] = (lane[j] ^ word[j]) * UINT64_C (0x9fb21c651e98df25);
      lane[j] ^= lane[j] >> 35;
    }
  }
  return hash_add (hash_add (hash_add (lane[0], lane[1]), lane[2]), lane[3]);
}

static bool
is_zero (const void *data)
{
  const uint8_t *p = data;

  return p[0] == 0 && memcmp (p, p + 1, PAGE_BYTES - 1) == 0;
}

struct block *
block_new (const void *data)
{
  struct block *b = free_blocks;

  if (is_zero (data))
    return NULL;
  if (b != NULL)
    free_blocks = b->next_free;
  else
    b = must (aligned_alloc (64, sizeof *b));
  b->refs = 1;
  b->hash = hash_page (data);
  memcpy (b->data, data, PAGE_BYTES);
  return b;
}

void
block_ref (struct block *b)
{
  if (b != NULL)
    b->refs++;
}

void
block_put (struct block *b)
{
  if (b == NULL || --b->refs > 0)
    return;
  b->next_free = free_blocks;
  free_blocks = b;
}

void
blocks_free (void)
{
  while (free_blocks != NULL) {
    struct block *b = free_blocks;

    free_blocks = b->next_free;
    free (b);
  }
}

/* ---- images ---- */

static unsigned
nr_rows (const struct image *im)
{
  return (im->nr + ROW_BLOCKS - 1) / ROW_BLOCKS;
}

void
image_make (struct image *im, unsigned nr)
{
  im->nr = nr;
  im->hash = 0;
  im->row = must (calloc (nr_rows (im), sizeof *im->row));
}

void
image_copy (struct image *to, const struct image *from)
{
  *to = *from;
  to->row = must (malloc (nr_rows (from) * sizeof *to->row));
  for (unsigned i = 0; i < nr_rows (from); i++) {
    to->row[i] = from->row[i];
    if (to->row[i] != NULL)
      to->row[i]->refs++;
  }
}

static void
row_put (struct row *row)
{
  if (row == NULL || --row->refs > 0)
    return;
  for (unsigned i = 0; i < ROW_BLOCKS; i++)
    block_put (row->block[i]);
  free (row);
}

void
image_free (struct image *im)
{
  for (unsigned i = 0; i < nr_rows (im); i++)
    row_put (im->row[i]);
  free (im->row);
  *im = (struct image){ 0 };
}

/* The row is this image's alone from now on. */
static struct row *
own_row (struct row **rowp)
{
  struct row *old = *rowp, *row;

  if (old != NULL && old->refs == 1)
    return old;
  row = must (calloc (1, sizeof *row));
  if (old != NULL)
    *row = *old;
  row->refs = 1;
  for (unsigned i = 0; i < ROW_BLOCKS; i++)
    block_ref (row->block[i]);
  row_put (old);
  *rowp = row;
  return row;
}

static uint64_t
share (unsigned i, const struct block *b)
{
  return b != NULL ? rng_mix (b->hash ^ rng_mix (i + 1)) : 0;
}

void
image_set (struct image *im, unsigned i, struct block *b)
{
  struct block **place =
      &own_row (&im->row[i / ROW_BLOCKS])->block[i % ROW_BLOCKS];

  block_ref (b);
  im->hash += share (i, b) - share (i, *place);
  block_put (*place);
  *place = b;
}

/* ---- the record ---- */

void
record_clear (struct record *r)
{
  for (unsigned i = 0; i < r->nr_blocks; i++)
    block_put (r->blocks[i]);
  r->clock = 0;
  r->nr_writes = r->nr_flushes = r->nr_blocks = 0;
  r->nr_io = 0;
  r->changed_under_way = false;
}

void
record_free (struct record *r)
{
  record_clear (r);
  free (r->writes);
  free (r->flushes);
  free (r->blocks);
  memset (r, 0, sizeof *r);
}

/* Room for nr more in an array of *max places, of which used are taken. */
static void *
grown (void *array, unsigned used, unsigned nr, unsigned *max, size_t bytes)
{
  if (used + nr <= *max)
    return array;
  *max = 2 * (used + nr) + 64;
  return must (realloc (array, *max * bytes));
}

void
record_begin_with (struct record *r, const struct rec_write *writes,
                   unsigned nr_writes, struct block *const *blocks,
                   unsigned nr_blocks)
{
  r->writes =
      grown (r->writes, 0, nr_writes, &r->max_writes, sizeof *r->writes);
  r->blocks =
      grown (r->blocks, 0, nr_blocks, &r->max_blocks, sizeof (struct block *));
  memcpy (r->writes, writes, nr_writes * sizeof *writes);
  memcpy (r->blocks, blocks, nr_blocks * sizeof (struct block *));
  for (unsigned i = 0; i < nr_blocks; i++)
    block_ref (blocks[i]);
  r->nr_writes = nr_writes;
  r->nr_blocks = nr_blocks;
  r->clock = 1;
}

/* Page i of what a transfer moves. */
static uint8_t *
page_of (const struct vio *io, unsigned i)
{
  size_t at = (size_t) i * PAGE_BYTES;
  unsigned part = 0;

  if (io->iov == NULL)
    return (uint8_t *) io->buf + at;
  while (at >= io->iov[part].iov_len)
    at -= io->iov[part++].iov_len;
  return (uint8_t *) io->iov[part].iov_base + at;
}

static unsigned
record_write (struct record *r, unsigned volume, const struct vio *io)
{
  unsigned nr = (unsigned) (io->bytes >> PAGE_SHIFT);
  struct rec_write *w;

  r->writes = grown (r->writes, r->nr_writes, 1, &r->max_writes, sizeof *w);
  r->blocks = grown (r->blocks, r->nr_blocks, nr, &r->max_blocks,
                     sizeof (struct block *));
  w = &r->writes[r->nr_writes];
  *w = (struct rec_write){
    .volume = volume,
    .first = (unsigned) (io->off >> PAGE_SHIFT),
    .nr = nr,
    .blocks = r->nr_blocks,
    .begin = record_event (r),
    .end = RECORD_NEVER,
  };
  for (unsigned i = 0; i < nr; i++)
    r->blocks[r->nr_blocks++] = block_new (page_of (io, i));
  return r->nr_writes++;
}

/* ---- the volume ---- */

struct disk {
  struct volume v;
  struct image *image;
  struct record *record;
  unsigned number;
};

static struct disk *
disk_of (struct volume *v)
{
  return (struct disk *) ((char *) v - offsetof (struct disk, v));
}

/* How the next operation goes. */
static enum media_way
next_way (struct disk *d, enum media_op op, unsigned first, unsigned nr,
          int *error)
{
  struct record *r = d->record;
  uint64_t at = r->nr_io++;

  *error = 0;
  if (r->on_io != NULL)
    r->on_io (r->on_io_arg, at, op);
  if (r->fault == NULL)
    return WAY_WHOLE;
  return media_fault_take (r->fault, at, op, d->number, first, nr, error);
}

static void
put_page (uint8_t *to, const struct block *b)
{
  if (b != NULL)
    memcpy (to, b->data, PAGE_BYTES);
  else
    memset (to, 0, PAGE_BYTES);
}

/* What block i of the volume held before the last write that ended. */
static const struct block *
older_block (const struct disk *d, unsigned i)
{
  const struct record *r = d->record;
  bool seen = false;

  for (unsigned n = r->nr_writes; n-- > 0;) {
    const struct rec_write *w = &r->writes[n];

    if (w->volume != d->number || i < w->first || i >= w->first + w->nr ||
        w->end == RECORD_NEVER)
      continue;
    if (seen)
      return r->blocks[w->blocks + (i - w->first)];
    seen = true;
  }
  return image_get (&r->fault->start[d->number], i);
}

/* One read in four hangs for up to half a second: what it reads must stay. */
static void
take_long (const struct record *r)
{
  uint64_t n = rng_mix (r->slow ^ r->nr_io);

  if (r->slow != 0 && n % 4 == 0)
    task_sleep (NS_PER_MS * ((n >> 8) % 500));
}

static int
read_blocks (struct disk *d, struct vio *io)
{
  unsigned first = (unsigned) (io->off >> PAGE_SHIFT);
  unsigned nr = (unsigned) (io->bytes >> PAGE_SHIFT);
  int err;
  enum media_way way = next_way (d, MEDIA_READ, first, nr, &err);

  take_long (d->record);
  if (err != 0)
    return err;
  for (unsigned i = 0; i < nr; i++)
    put_page (page_of (io, i), image_get (d->image, first + i));
  if (way == WAY_FLIPPED)
    page_of (io, nr / 2)[PAGE_BYTES / 3] ^= 4;
  if (way == WAY_STALE)
    put_page (page_of (io, 0), older_block (d, first));
  return 0;
}

static bool
same (const struct block *b, const uint8_t *data)
{
  return b != NULL ? memcmp (b->data, data, PAGE_BYTES) == 0 : is_zero (data);
}

/* A write's blocks come onto the medium, in this way. */
static void
land (struct disk *d, const struct rec_write *w, enum media_way way)
{
  unsigned nr = way == WAY_NOT ? 0 : way == WAY_HALF ? w->nr / 2 : w->nr;
  unsigned first = w->first;

  if (way == WAY_ELSEWHERE) /* near, and within the volume */
    first = first + w->nr < d->image->nr ? first + 1 : first - 1;
  for (unsigned i = 0; i < nr; i++)
    image_set (d->image, first + i, d->record->blocks[w->blocks + i]);
}

static int
write_blocks (struct disk *d, const struct vio *io, enum media_op op)
{
  struct record *r = d->record;
  unsigned nr = record_write (r, d->number, io);
  const struct rec_write *w = &r->writes[nr];
  int err;
  enum media_way way = next_way (d, op, w->first, w->nr, &err);

  sim_note (nr << 8 | d->number);
  sim_point (SIM_POINT_IO);
  w = &r->writes[nr];
  land (d, w, way);
  for (unsigned i = 0; i < w->nr; i++)
    if (!same (r->blocks[w->blocks + i], page_of (io, i)))
      r->changed_under_way = true;
  r->writes[nr].end = record_event (r);
  return err;
}

static void
disk_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  struct disk *d = disk_of (v);

  (void) batch;
  sim_point (SIM_POINT_IO);
  io->error = io->op == VIO_READ ? read_blocks (d, io)
                                 : write_blocks (d, io, MEDIA_WRITE);
  io->done = io->error == 0 ? io->bytes : 0;
  sim_point (SIM_POINT_IO);
}

/* Was it over before a flush that went well? */
static bool
is_flushed (const struct record *r, const struct rec_write *w)
{
  for (unsigned i = r->nr_flushes; i-- > 0 && r->flushes[i].begin > w->end;)
    if (r->flushes[i].volume == w->volume && r->flushes[i].end != RECORD_NEVER)
      return true;
  return false;
}

/* What block i of the volume is sure to hold on the medium. */
static struct block *
sure_block (const struct disk *d, unsigned i)
{
  const struct record *r = d->record;

  for (unsigned n = r->nr_writes; n-- > 0;) {
    const struct rec_write *w = &r->writes[n];

    if (w->volume == d->number && i >= w->first && i < w->first + w->nr &&
        w->end != RECORD_NEVER && is_flushed (r, w))
      return r->blocks[w->blocks + (i - w->first)];
  }
  return image_get (&r->fault->start[d->number], i);
}

/* A flush has failed: the system may have forgotten what it was to write, and
 * reads what was there before.
 */
static void
drop_unflushed (struct disk *d)
{
  const struct record *r = d->record;

  for (unsigned n = 0; n < r->nr_writes; n++) {
    const struct rec_write *w = &r->writes[n];

    if (w->volume != d->number || w->end == RECORD_NEVER || is_flushed (r, w))
      continue;
    for (unsigned i = w->first; i < w->first + w->nr; i++)
      if (rng_mix (r->fault->at << 32 ^ i) % 2 == 0)
        image_set (d->image, i, sure_block (d, i));
  }
}

static int
disk_flush (struct volume *v)
{
  struct disk *d = disk_of (v);
  struct record *r = d->record;
  unsigned nr = r->nr_flushes;
  int err;

  next_way (d, MEDIA_SYNC, 0, 0, &err);
  r->flushes = grown (r->flushes, nr, 1, &r->max_flushes, sizeof *r->flushes);
  r->nr_flushes++;
  r->flushes[nr] = (struct rec_flush){ .volume = d->number,
                                       .begin = record_event (r),
                                       .end = RECORD_NEVER };
  sim_note (d->number);
  sim_point (SIM_POINT_IO);
  if (err == 0)
    r->flushes[nr].end = record_event (r);
  else if (r->fault->kind == MEDIA_FLUSH)
    drop_unflushed (d);
  sim_point (SIM_POINT_IO);
  return err;
}

/* What is given back becomes zeros, at once or when the machine has crashed;
 * or it stays, as a write that has not come to the medium.
 */
static int
disk_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  struct vio io = { .off = off, .bytes = bytes };
  int err;

  io.buf = must (calloc (1, bytes));
  err = write_blocks (disk_of (v), &io, MEDIA_TRIM);
  free (io.buf);
  return err;
}

static void
disk_close (struct volume *v)
{
  free (v->name);
  free (disk_of (v));
}

static const struct volume_ops disk_ops = {
  .kind = "simulated",
  .start = disk_start,
  .flush = disk_flush,
  .trim = disk_trim,
  .close = disk_close,
};

int
media_open (struct image *im, unsigned number, struct record *r,
            struct volume **vp)
{
  struct disk *d = must (calloc (1, sizeof *d));
  char name[] = { 'v', 'o', 'l', (char) ('0' + number), '\0' };

  d->v.ops = &disk_ops;
  d->v.name = must (strdup (name));
  d->v.size_bytes = (uint64_t) im->nr << PAGE_SHIFT;
  d->v.align = 1;
  d->v.checked = true;
  d->v.sparse = number == 1;
  d->image = im;
  d->record = r;
  d->number = number;
  *vp = &d->v;
  return 0;
}
