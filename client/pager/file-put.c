/* SPDX-License-Identifier: BSD-2-Clause */
/* Dirty pages on their way to the server.  Called by file-rw.c and file-page.c
 * under the lock, and by file.c from time to time; calls file-io.c.
 *
 *   pages      | 7 . d d | 8 d d d | 9 d . v |      d: dirty, v: valid, .: not
 *   row            off ^                 ^ end      of 7 to 9, one write
 *   blocks of the server, if larger than the gaps:
 *              | .  merge: what is not valid is read first, then written with
 * it
 *
 * A row is dirty pages that follow each other, up to io_pages.  It begins with
 * the first dirty block and ends with the last, both moved out to whole blocks
 * of the server.  What is valid between goes with them.  What is not, in a
 * block of the server that is larger than ours, is read first.
 *
 * Invariant: of all writes under way no two have a byte in common.  So the
 * older one cannot land on the newer, also if it is sent again; and a merge
 * writes back what it has read only where nobody else writes.
 */

#include <config.h>

#include "file.h"

#include <errno.h>
#include <stdlib.h>

/* ---- rows ---- */

static bool
is_to_be_put (const struct page *p)
{
  return p != NULL && p->state != PAGE_BUSY && p->dirty != 0 && p->writing == 0;
}

static bool
goes_along (const struct page *p)
{
  return is_to_be_put (p) && !p->alone;
}

static unsigned
first_bit (page_bits bits)
{
  return (unsigned) __builtin_ctz (bits);
}

static unsigned
end_bit (page_bits bits)
{
  return 32 - (unsigned) __builtin_clz (bits);
}

static bool
overlaps (const struct farpage_file *f, uint64_t off, uint64_t end)
{
  for (unsigned i = 0; i < FILE_IOS; i++) {
    const struct file_io *io = &f->io[i];

    if (io->serial != 0 && io->kind != FILE_IO_READ && io->off < end &&
        off < io->end)
      return true;
  }
  return false;
}

/* The pages [*first, *end) around p that go in one write. */
static void
find_row (struct farpage_file *f, const struct page *p, pgno_t *first,
          pgno_t *end)
{
  pgno_t lo, hi;

  file_span (f, p->pgno, &lo, &hi);
  *first = p->pgno;
  *end = p->pgno + 1;
  if (p->alone)
    return;
  while (*end < hi && *end - *first < f->io_pages &&
         goes_along (page_find (f->pages, *end)))
    ++*end;
  while (*first > lo && *end - *first < f->io_pages &&
         goes_along (page_find (f->pages, *first - 1)))
    --*first;
}

/* Is all of [off, end) valid in these pages? */
static bool
is_whole (const struct file_io *io)
{
  uint64_t at = io->off;

  for (unsigned i = 0; i < io->nr && at < io->end; i++) {
    uint64_t page = (io->first + i) * PAGE_BYTES;
    uint64_t to = min_u64 (io->end, page + PAGE_BYTES);
    page_bits bits;

    if (at < page)
      return false;
    bits = page_bits_touched ((unsigned) (at - page), (unsigned) (to - at));
    if ((bits & ~io->page[i]->valid) != 0)
      return false;
    at = to;
  }
  return at == io->end;
}

int
file_put_row (struct farpage_file *f, struct page *p,
              const struct file_put *how)
{
  const uint64_t mask = f->block_bytes - 1;
  struct page *page[2]; /* first and last */
  struct file_io *io;
  uint64_t off, end_off;
  pgno_t first, end;

  find_row (f, p, &first, &end);
  page[0] = page_find (f->pages, first);
  page[1] = page_find (f->pages, end - 1);
  off = first * PAGE_BYTES + first_bit (page[0]->dirty) * SECTOR_BYTES;
  end_off = (end - 1) * PAGE_BYTES + end_bit (page[1]->dirty) * SECTOR_BYTES;
  off &= ~mask;
  end_off = min_u64 ((end_off + mask) & ~mask, f->export_bytes);
  if (overlaps (f, off, end_off))
    return EAGAIN;
  io = file_io_take (f, FILE_IO_WRITE);
  if (io == NULL)
    return EAGAIN;
  io->off = off;
  io->end = end_off;
  io->first = first;
  io->nr = (unsigned) (end - first);
  io->sync = how->sync;
  io->idle = how->idle;
  for (unsigned i = 0; i < io->nr; i++)
    io->page[i] = page_find (f->pages, first + i);
  if (!is_whole (io))
    io->kind = FILE_IO_MERGE;
  for (unsigned i = 0; i < io->nr; i++)
    io->bits[i] = page_put_begin (f->pages, io->page[i]);
  file_io_start (io);
  return 0;
}

void
file_put_some (struct farpage_file *f, unsigned nr)
{
  static const enum page_state lists[] = { PAGE_LAUNDRY, PAGE_ACTIVE };
  const struct file_put how = { .sync = false };

  for (unsigned k = 0; k < 2; k++) {
    struct page *p = f->pages->list[lists[k]].first, *next;
    unsigned looks = 4 * FILE_IOS * FILE_IO_PAGES;

    for (; p != NULL && nr > 0 && looks > 0; p = next, looks--) {
      if (f->free == NULL || f->nr_writes >= FILE_PUT_IOS)
        return;
      next = p->next;
      if (is_to_be_put (p) && file_put_row (f, p, &how) == 0)
        nr--;
    }
  }
}

/* ---- all of a range ---- */

static int
by_pgno (const void *a, const void *b)
{
  const struct page *x = *(struct page *const *) a;
  const struct page *y = *(struct page *const *) b;

  return x->pgno < y->pgno ? -1 : x->pgno > y->pgno;
}

/* The dirty pages of [first, end), in order. */
static uint32_t
collect (struct farpage_file *f, pgno_t first, pgno_t end)
{
  uint32_t nr = 0;

  if (end - first <= f->pages->nr / 2) { /* a call's, not the file's */
    for (pgno_t pgno = first; pgno < end; pgno++) {
      struct page *p = page_find (f->pages, pgno);

      if (p != NULL && p->dirty != 0)
        f->order[nr++] = p;
    }
    return nr;
  }
  for (uint32_t i = 0; i < f->pages->nr; i++) {
    struct page *p = &f->pages->page[i];

    if (p->dirty != 0 && first <= p->pgno && p->pgno < end)
      f->order[nr++] = p;
  }
  qsort (f->order, nr, sizeof (struct page *), by_pgno);
  return nr;
}

static bool
is_under_way (const struct farpage_file *f, uint64_t off, uint64_t end,
              uint64_t serial)
{
  for (unsigned i = 0; i < FILE_IOS; i++) {
    const struct file_io *io = &f->io[i];

    if (io->serial != 0 && io->serial <= serial && io->kind != FILE_IO_READ &&
        io->off < end && off < io->end)
      return true;
  }
  return false;
}

/* What became dirty after the begin need not be waited for. */
static int
put_in_order (struct farpage_file *f, pgno_t first, pgno_t end,
              const struct file_put *how)
{
  uint32_t nr = collect (f, first, end);
  int err = 0;

  for (uint32_t i = 0; i < nr && err == 0;) {
    struct page *p = f->order[i];

    if (p->dirty == 0 || p->pgno < first || p->pgno >= end)
      i++;
    else if (!is_to_be_put (p) || file_put_row (f, p, how) != 0)
      err = file_wait (f);
  }
  return err;
}

static int
put_once (struct farpage_file *f, pgno_t first, pgno_t end,
          const struct file_put *how)
{
  const uint64_t last =
      end > UINT64_MAX / PAGE_BYTES ? UINT64_MAX : end * PAGE_BYTES;
  uint64_t serial;
  int err = f->dead ? ESTALE : 0;

  while (err == 0 && f->ordering)
    err = file_wait (f);
  if (err != 0)
    return err;
  f->ordering = true;
  err = put_in_order (f, first, end, how);
  f->ordering = false;
  pthread_cond_broadcast (&f->changed);
  serial = f->serial;
  while (err == 0 && is_under_way (f, first * PAGE_BYTES, last, serial))
    err = file_wait (f);
  return err;
}

/* What failed together is tried once more, page by page: one that cannot be
 * written keeps no other from it.  What had no answer in time is nobody's fault
 * of them, and to wait once more would take as long.
 */
int
file_put_range (struct farpage_file *f, pgno_t first, pgno_t end,
                const struct file_put *how)
{
  struct file_waiter w = { .first = first, .end = end };
  int err;

  file_waiter_add (f, &w);
  err = put_once (f, first, end, how);
  if (err == 0 && w.row_error != 0 && w.row_error != ETIMEDOUT) {
    w.row_error = w.put_error = 0;
    err = put_once (f, first, end, how);
  }
  file_waiter_remove (f, &w);
  if (err == 0)
    err = w.put_error != 0 ? w.put_error : w.row_error;
  return err;
}

int
file_no_room (const struct farpage_file *f, struct file_room *room)
{
  if (room->nr_put != f->nr_put) {
    room->nr_put = f->nr_put;
    room->nr_failed = f->nr_failed;
  }
  return f->nr_failed - room->nr_failed < FILE_PUT_IOS ? 0 : f->put_error;
}
