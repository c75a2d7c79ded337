/* SPDX-License-Identifier: BSD-2-Clause */
/* A store as one would write it in an hour: each object has its place on the
 * volume, pages are written in place, a table in block 0 (of one sector that
 * counts) says which objects there are.  It forgets nothing that was flushed,
 * nor what an open has found, and still breaks the contract in one way: a write
 * in place is torn by a crash.  The model has to say so (test-model.c).
 */

#include <config.h>

#include "subject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define PLACE_BLOCKS 700u

struct trivial {
  struct volume *v;
  uint32_t table[PAGE_BYTES / sizeof (uint32_t)]; /* pages of each name */
};

static int
trivial_format (struct volume *const *v, unsigned nr)
{
  (void) v;
  (void) nr;
  return 0; /* all zeros is an empty store */
}

static int
trivial_open (struct volume *const *v, unsigned nr, void **sp)
{
  struct trivial *t = calloc (1, sizeof *t);
  int err;

  (void) nr;
  if (t == NULL)
    return ENOMEM;
  t->v = v[0];
  *sp = t;
  err = volume_read (t->v, 0, t->table, PAGE_BYTES);
  /* What a dead process had written the machine may still lose. */
  return err != 0 ? err : volume_flush (t->v);
}

static int
trivial_close (void *s)
{
  struct trivial *t = s;
  int err = volume_flush (t->v);

  volume_close (t->v);
  free (t);
  return err;
}

static int
put_size (struct trivial *t, unsigned name, uint32_t nr_pages)
{
  int err;

  t->table[name] = nr_pages;
  err = volume_write (t->v, 0, t->table, PAGE_BYTES);
  return err != 0 ? err : volume_flush (t->v);
}

static int
trivial_create (void *s, unsigned name, uint32_t nr_pages, bool reserved)
{
  (void) reserved;
  return put_size (s, name, nr_pages);
}

static int
trivial_remove (void *s, unsigned name)
{
  return put_size (s, name, 0);
}

static int
trivial_size (void *s, unsigned name, uint32_t *nr_pages)
{
  struct trivial *t = s;

  if (t->table[name] == 0)
    return ENOENT;
  *nr_pages = t->table[name];
  return 0;
}

static uint64_t
place (unsigned name, uint64_t off)
{
  return (1 + (uint64_t) name * PLACE_BLOCKS) * PAGE_BYTES + off;
}

static int
trivial_read (void *s, unsigned name, void *buf, uint64_t off, uint32_t bytes)
{
  return volume_read (((struct trivial *) s)->v, place (name, off), buf, bytes);
}

/* Whole pages around the range are read, changed and written; data NULL: zeros.
 */
static int
trivial_put (struct trivial *t, unsigned name, const void *data, uint64_t off,
             uint32_t bytes, bool fua)
{
  uint64_t first = off & ~(uint64_t) PAGE_MASK;
  uint64_t end = (off + bytes + PAGE_MASK) & ~(uint64_t) PAGE_MASK;
  uint8_t *buf = malloc (end - first);
  int err;

  if (buf == NULL)
    return ENOMEM;
  err = volume_read (t->v, place (name, first), buf, end - first);
  if (data != NULL)
    memcpy (buf + (off - first), data, bytes);
  else
    memset (buf + (off - first), 0, bytes);
  if (err == 0)
    err = volume_write (t->v, place (name, first), buf, end - first);
  free (buf);
  if (err == 0 && fua)
    err = volume_flush (t->v);
  return err;
}

static int
trivial_write (void *s, unsigned name, const void *buf, uint64_t off,
               uint32_t bytes, bool fua)
{
  return trivial_put (s, name, buf, off, bytes, fua);
}

static int
trivial_trim (void *s, unsigned name, uint64_t off, uint32_t bytes, bool fua)
{
  return trivial_put (s, name, NULL, off, bytes, fua);
}

static int
trivial_zero (void *s, unsigned name, uint64_t off, uint32_t bytes,
              bool may_hole, bool fua)
{
  (void) may_hole;
  return trivial_put (s, name, NULL, off, bytes, fua);
}

static int
trivial_flush (void *s, unsigned name)
{
  (void) name;
  return volume_flush (((struct trivial *) s)->v);
}

const struct subject trivial_subject = {
  .name = "trivial",
  .nr_volumes = 1,
  .nr_bases = 2,
  .nr_blocks = { 1 + MODEL_NAMES * PLACE_BLOCKS },
  .format = trivial_format,
  .open = trivial_open,
  .close = trivial_close,
  .create = trivial_create,
  .remove = trivial_remove,
  .size = trivial_size,
  .read = trivial_read,
  .write = trivial_write,
  .trim = trivial_trim,
  .zero = trivial_zero,
  .flush = trivial_flush,
};
