/* SPDX-License-Identifier: BSD-2-Clause */
/* A file's bytes, as a caller has them: pread, pwrite, sync.  On his thread,
 * under the lock but while he sleeps; calls file-get.c and file-put.c.
 *
 *   page by page:  there? ── copy, go on
 *                    | no: begin to read it; sleep until something changed
 *
 * What a write fills of a block needs no read: the block is valid then.  A
 * block that it only touches is read first, but where nothing of it is before
 * the end of the file.  A write is done when it is in memory: sync tells when
 * it is on the server.
 *
 * Few pages to be had: the oldest dirty ones are written, and who writes more
 * waits for them.  So dirt is bounded, and a reader finds pages.
 */

#include <config.h>

#include "file.h"

#include <assert.h>
#include <errno.h>

/* ---- who waits ---- */

void
file_waiter_add (struct farpage_file *f, struct file_waiter *w)
{
  w->next = f->waiters;
  f->waiters = w;
}

void
file_waiter_remove (struct farpage_file *f, struct file_waiter *w)
{
  struct file_waiter **at = &f->waiters;

  while (*at != w)
    at = &(*at)->next;
  *at = w->next;
  if (f->waiters == NULL) /* a close may wait for that */
    pthread_cond_broadcast (&f->changed);
}

/* ---- one page ---- */

struct part {
  struct farpage_file *file;
  struct file_waiter waiter;
  pgno_t pgno;
  unsigned from, len; /* bytes of the page */
  bool of_user;       /* it is written, and not to cut the file */
  unsigned count;     /* pages that the caller goes on to want, this one too */
  struct file_room room;
};

static struct part
part_of (struct farpage_file *f, uint64_t off, size_t left)
{
  struct part part = { .file = f, .pgno = off / PAGE_BYTES };

  part.from = off & PAGE_MASK;
  part.len = (unsigned) min_u64 (PAGE_BYTES - part.from, left);
  part.count = (unsigned) min_u64 ((part.from + left + PAGE_MASK) / PAGE_BYTES,
                                   FILE_DEMAND_IOS * f->io_pages);
  part.waiter.first = part.pgno;
  part.waiter.end = part.pgno + 1;
  return part;
}

/* A hole needs no I/O. */
static bool
is_whole (struct farpage_file *f, pgno_t pgno)
{
  const struct page *p = page_find (f->pages, pgno);

  return p != NULL && p->state != PAGE_BUSY && p->valid == PAGE_BITS_ALL;
}

/* The file was made so short meanwhile that not all of it is there; or is being
 * made so, by another than who writes: then it is before the cut, or behind.
 */
static bool
is_cut (const struct part *part)
{
  const struct farpage_file *f = part->file;

  return part->pgno * PAGE_BYTES + part->from + part->len > f->size_bytes ||
         (part->of_user && f->resizing);
}

/* The page is not as it is wanted; on return, if nothing is wrong, something
 * has changed.  EAGAIN: so has the file's end.
 */
static int
wait_for (struct part *part, bool read)
{
  struct farpage_file *f = part->file;
  unsigned count = part->waiter.alone ? 1 : part->count;
  unsigned behind = 0, ahead = 0;
  int err = EAGAIN;

  part->waiter.error = 0;
  file_waiter_add (f, &part->waiter);
  if (read)
    err = file_get (f, part->pgno,
                    (unsigned) min_u64 (count, file_nr_pages (f) - part->pgno),
                    &behind, &ahead);
  if (is_whole (f, part->pgno))
    err = 0;
  else if (err != EAGAIN || (err = file_no_room (f, &part->room)) == 0) {
    /* Which will end, and tell. */
    assert (f->dead || f->nr_reads + f->nr_writes > 0);
    err = file_wait (f);
  }
  file_waiter_remove (f, &part->waiter);
  if (err == 0)
    err = part->waiter.error;
  return err == 0 && is_cut (part) ? EAGAIN : err;
}

static void
read_ahead (struct farpage_file *f, pgno_t pgno)
{
  const unsigned most =
      (unsigned) min_u64 (f->pages->nr / 2, FILE_AHEAD_IOS * f->io_pages);
  pgno_t from;
  unsigned nr =
      file_seq_next (&f->seq, pgno, 1, file_nr_pages (f), most, &from);

  if (nr > 0)
    file_get_ahead (f, from, nr);
}

/* ---- reading ---- */

static int
read_part (struct part *part, uint8_t *to)
{
  struct farpage_file *f = part->file;
  const page_bits bits = page_bits_touched (part->from, part->len);
  struct page *p;
  int err;

  read_ahead (f, part->pgno);
  while ((p = page_find (f->pages, part->pgno)) == NULL ||
         p->state == PAGE_BUSY || (bits & ~p->valid) != 0) {
    err = wait_for (part, true);
    if (err != 0)
      return err;
  }
  memcpy (to, p->data + part->from, part->len);
  if (part->from + part->len == PAGE_BYTES || !p->touched)
    page_touch (f->pages, p);
  return 0;
}

/* Which lasts as long as a call does: `dead` is looked at under the lock. */
static int
enter (struct farpage_file *f)
{
  pthread_mutex_lock (&f->lock);
  return f->dead ? ESTALE : 0;
}

static int
leave (struct farpage_file *f, int err)
{
  pthread_mutex_unlock (&f->lock);
  return err;
}

int
farpage_file_pread (struct farpage_file *f, void *buf, size_t len, uint64_t off,
                    size_t *donep)
{
  uint8_t *to = buf;
  size_t done = 0;
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  err = enter (f);
  while (err == 0 && done < len && off + done < f->size_bytes) {
    struct part part = part_of (
        f, off + done, min_u64 (len - done, f->size_bytes - (off + done)));

    err = read_part (&part, to + done);
    if (err == 0)
      done += part.len;
    else if (err == EAGAIN)
      err = 0;
  }
  if (donep != NULL)
    *donep = done;
  return leave (f, done > 0 ? 0 : err);
}

/* ---- writing ---- */

/* Nobody has ever written behind the end: it is zeros. */
static page_bits
bits_behind_end (const struct farpage_file *f, pgno_t pgno)
{
  const uint64_t at = pgno * PAGE_BYTES;
  unsigned from;

  if (f->size_bytes >= at + PAGE_BYTES)
    return 0;
  from = f->size_bytes > at ? (unsigned) (f->size_bytes - at) : 0;
  return page_bits_filled (from, PAGE_BYTES - from);
}

/* That need not be read: what is behind the end, too. */
static page_bits
bits_filled (const struct part *part)
{
  const bool to_end = part->pgno * PAGE_BYTES + part->from + part->len ==
                      part->file->size_bytes;

  return page_bits_filled (part->from,
                           to_end ? PAGE_BYTES - part->from : part->len);
}

/* A page to write to, all of whose blocks that are touched but not filled are
 * valid.  NULL: not yet; *read: it has to be read.
 */
static struct page *
find_for_write (struct part *part, bool *read)
{
  struct farpage_file *f = part->file;
  const page_bits touched = page_bits_touched (part->from, part->len);
  const page_bits filled = bits_filled (part);
  struct page *p = page_find (f->pages, part->pgno);

  *read = p != NULL || (touched & ~filled) != 0;
  if (!*read) {
    p = page_take (f->pages, part->pgno);
    if (p != NULL) {
      memset (p->data, 0, PAGE_BYTES);
      page_filled (f->pages, p, bits_behind_end (f, part->pgno), false);
    } else {
      file_put_some (f, FILE_PUT_IOS / 2);
    }
  }
  return p != NULL && p->state != PAGE_BUSY &&
                 (touched & ~filled & ~p->valid) == 0
             ? p
             : NULL;
}

static int
page_for_write (struct part *part, struct page **pp)
{
  bool read;

  while ((*pp = find_for_write (part, &read)) == NULL) {
    int err = wait_for (part, read);

    if (err != 0)
      return err;
  }
  return 0;
}

static void
write_to (const struct part *part, struct page *p, const uint8_t *from)
{
  struct farpage_file *f = part->file;
  unsigned len = part->len;

  memcpy (p->data + part->from, from, len);
  if (part->pgno * PAGE_BYTES + part->from + len == f->size_bytes) {
    unsigned end = (part->from + len + SECTOR_BYTES - 1) / SECTOR_BYTES;

    memset (p->data + part->from + len, 0,
            end * SECTOR_BYTES - part->from - len);
    len = end * SECTOR_BYTES - part->from;
  }
  page_write (f->pages, p, part->from, len);
  page_touch (f->pages, p);
  if (f->pages->nr_dirty > f->pages->nr - 2 * f->floor)
    file_put_some (f, FILE_PUT_IOS / 2);
}

int
file_write_page (struct farpage_file *f, pgno_t pgno, const uint8_t *from)
{
  struct part part;
  struct page *p;
  bool read;

  if (pgno >= file_nr_pages (f))
    return EFBIG;
  part = part_of (f, pgno * PAGE_BYTES, f->size_bytes - pgno * PAGE_BYTES);
  p = find_for_write (&part, &read);
  if (p == NULL)
    return EAGAIN;
  write_to (&part, p, from);
  return 0;
}

static int
write_part (struct part *part, const uint8_t *from)
{
  struct page *p;
  int err = page_for_write (part, &p);

  if (err == 0)
    write_to (part, p, from);
  return err;
}

int
file_write_zeros (struct farpage_file *f, uint64_t off, uint64_t end)
{
  static const uint8_t zeros[PAGE_BYTES];
  int err = 0;

  while (err == 0 && off < end) {
    struct part part = part_of (f, off, end - off);

    part.count = 1;
    err = write_part (&part, zeros);
    off += part.len;
  }
  return err;
}

int
farpage_file_pwrite (struct farpage_file *f, const void *buf, size_t len,
                     uint64_t off, size_t *donep)
{
  const uint8_t *from = buf;
  size_t done = 0;
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  err = enter (f);
  while (err == 0 && done < len && off + done < f->size_bytes) {
    struct part part = part_of (
        f, off + done, min_u64 (len - done, f->size_bytes - (off + done)));

    if (f->resizing) {
      err = file_wait (f);
      continue;
    }
    part.count = 1;
    part.of_user = true;
    err = write_part (&part, from + done);
    if (err == 0)
      done += part.len;
    else if (err == EAGAIN)
      err = 0;
  }
  if (err == 0 && done == 0 && len > 0)
    err = EFBIG;
  if (donep != NULL)
    *donep = done;
  return leave (f, done > 0 ? 0 : err);
}

int
farpage_file_sync (struct farpage_file *f)
{
  static const struct file_put how = { .sync = true };
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  err = enter (f);
  if (err == 0)
    err = file_put_range (f, 0, UINT64_MAX, &how);
  return leave (f, err);
}
