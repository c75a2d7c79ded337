/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads and writes of a file's pages: from when they are posted to their end.
 * Called by file-get.c and file-put.c, under the lock; calls the link, on the
 * loop.
 *
 *   READ    ─▶ blocks that were not valid are, the others stay as they are
 *   MERGE   ─▶ what it read, with what is to be written over it ─▶ WRITE
 *   WRITE   ─▶ covered: clean, but for what was written since; failed: dirty
 *   ZERO    ─▶ nothing to be done
 *
 * A write has a copy of its blocks, so what is sent and sent again after a loss
 * is one content; a merge takes its copy when it has read.  A server's block is
 * in one write at a time: file-put.c sees to that.
 *
 * A read of several pages that failed tells who waits for them to try his
 * alone; one of a single page is his error.  The pages of a write that failed
 * go alone the next time.
 */

#include <config.h>

#include "file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "log.h"

/* ---- from and to the free list ---- */

struct file_io *
file_io_take (struct farpage_file *f, enum file_io_kind kind)
{
  struct file_io *io = f->free;
  const bool writes = kind != FILE_IO_READ;

  if (io == NULL || (writes && f->nr_writes >= FILE_PUT_IOS))
    return NULL;
  f->free = io->next;
  io->kind = kind;
  io->nr = 0;
  io->ahead = io->sync = io->idle = false;
  f->nr_writes += writes;
  f->nr_reads += !writes;
  return io;
}

void
file_io_give (struct file_io *io)
{
  struct farpage_file *f = io->file;
  const bool writes = io->kind != FILE_IO_READ;

  f->nr_writes -= writes;
  f->nr_reads -= !writes;
  io->serial = 0;
  io->next = f->free;
  f->free = io;
}

/* ---- ends ---- */

/* Blocks of a page; those that lie in [off, end) only. */
static void
copy_blocks (const struct file_io *io, unsigned i, page_bits bits, bool to_page)
{
  uint64_t at = (io->first + i) * PAGE_BYTES;
  uint8_t *page = io->page[i]->data;

  for (unsigned k = 0; k < PAGE_BYTES / SECTOR_BYTES; k++, at += SECTOR_BYTES) {
    uint64_t from = max_u64 (at, io->off);
    uint64_t to = min_u64 (at + SECTOR_BYTES, io->end);

    if ((bits >> k & 1) == 0 || from >= to)
      continue;
    if (to_page) {
      memcpy (page + (from & PAGE_MASK), io->data + (from - io->off),
              to - from);
      if (to < at + SECTOR_BYTES) /* the export ends in it */
        memset (page + (to & PAGE_MASK), 0, at + SECTOR_BYTES - to);
    } else {
      memcpy (io->data + (from - io->off), page + (from & PAGE_MASK),
              to - from);
    }
  }
}

/* Beyond the end of the file there are zeros, whatever the export has. */
static void
zero_tail (const struct farpage_file *f, struct page *p)
{
  uint64_t at = p->pgno * PAGE_BYTES;

  if (f->size_bytes < at + PAGE_BYTES) {
    unsigned from = f->size_bytes > at ? (unsigned) (f->size_bytes - at) : 0;

    memset (p->data + from, 0, PAGE_BYTES - from);
  }
}

static void
tell_waiters (struct farpage_file *f, const struct file_io *io, int error)
{
  for (struct file_waiter *w = f->waiters; w != NULL; w = w->next) {
    if (w->first >= io->first + io->nr || io->first >= w->end)
      continue;
    if (io->nr > 1 && !f->dead) {
      w->alone = true;
    } else {
      w->error = error;
      w->bad = io->first;
    }
  }
}

static bool
is_waited_for (const struct farpage_file *f, pgno_t pgno)
{
  for (const struct file_waiter *w = f->waiters; w != NULL; w = w->next)
    if (w->first <= pgno && pgno < w->end)
      return true;
  return false;
}

/* Of page i, what it has read: all, but where the export has grown since. */
static page_bits
bits_read (const struct file_io *io, unsigned i)
{
  const uint64_t at = (io->first + i) * PAGE_BYTES;
  page_bits bits = io->bits[i];

  if (io->end < io->file->export_bytes)
    bits &= page_bits_filled (0, (unsigned) min_u64 (PAGE_BYTES, io->end - at));
  return bits;
}

static void
end_read (struct farpage_file *f, struct file_io *io, int error)
{
  for (unsigned i = 0; i < io->nr; i++) {
    struct page *p = io->page[i];
    const page_bits bits = bits_read (io, i);

    if (error != 0) {
      page_not_filled (f->pages, p);
      continue;
    }
    copy_blocks (io, i, bits, true);
    zero_tail (f, p);
    page_filled (f->pages, p, bits, is_waited_for (f, p->pgno));
  }
  if (error == 0)
    f->nr_got += io->nr;
  else
    tell_waiters (f, io, error);
}

static void
end_write (struct farpage_file *f, struct file_io *io, int error)
{
  file_map_written (&f->map, io->off, io->end);
  for (unsigned i = 0; i < io->nr; i++)
    page_put_end (f->pages, io->page[i], error == 0 ? io->bits[i] : 0,
                  io->idle);
  if (error == 0) {
    f->nr_put += io->nr;
    return;
  }
  for (struct file_waiter *w = f->waiters; w != NULL; w = w->next)
    if (w->first < io->first + io->nr && io->first < w->end)
      *(io->nr > 1 ? &w->row_error : &w->put_error) = error;
  if (io->nr > 1)
    return;
  f->nr_failed++;
  f->put_error = error;
}

/* Lock: without the file's, for a line goes to the user. */
static void
say_not_written (const struct file_io *io, int error)
{
  static struct log_limit limit;

  log_limited (&limit, LOG_WARNING,
               "file: %" PRIu64 " bytes at %" PRIu64 " were not written: error "
               "%d (they stay dirty)",
               io->end - io->off, io->off, error);
}

static void io_done (struct request *req);

/* Where nobody fences off a lost connection it may still land there, late: who
 * opened the file has taken that upon himself.
 */
static int
same_place (struct request *req)
{
  (void) req;
  return 0;
}

static void
submit (struct file_io *io, enum request_kind kind, enum request_pool pool)
{
  io->req =
      (struct request){ .kind = kind,
                        .pool = pool,
                        .off_bytes = io->off,
                        .len_bytes = (uint32_t) (io->end - io->off),
                        .data = io->data,
                        .done = io_done,
                        .elsewhere = io->file->unverified ? same_place : NULL,
                        .arg = io };
  link_submit (io->file->link, &io->req);
}

/* [loop] What it has read, with what is dirty over it, is written. */
static void
merge (struct file_io *io)
{
  struct farpage_file *f = io->file;

  pthread_mutex_lock (&f->lock);
  for (unsigned i = 0; i < io->nr; i++)
    copy_blocks (io, i, io->page[i]->valid, false);
  io->kind = FILE_IO_WRITE;
  pthread_mutex_unlock (&f->lock);
  submit (io, REQUEST_WRITE, io->sync ? POOL_WSYNC : POOL_WASYNC);
}

/* [loop] */
static void
io_done (struct request *req)
{
  struct file_io *io = req->arg;
  struct farpage_file *f = io->file;

  if (io->kind == FILE_IO_MERGE && req->error == 0) {
    merge (io);
    return;
  }
  if (req->error != 0 && io->nr > 0 && io->kind != FILE_IO_READ)
    say_not_written (io, req->error);
  pthread_mutex_lock (&f->lock);
  if (io->kind == FILE_IO_READ)
    end_read (f, io, req->error);
  else if (io->kind == FILE_IO_ZERO)
    file_map_changed (&f->map, io->off, io->end);
  else
    end_write (f, io, req->error);
  if (io->kind == FILE_IO_ZERO && req->error != 0)
    f->zero_error = req->error;
  file_io_give (io);
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->lock);
  file_ops_go (f);
}

/* [loop] */
static void
begin (struct job *job)
{
  struct file_io *io = (struct file_io *) job;

  switch (io->kind) {
  case FILE_IO_READ:
    submit (io, REQUEST_READ, io->ahead ? POOL_AHEAD : POOL_DEMAND);
    break;
  case FILE_IO_MERGE:
    submit (io, REQUEST_READ, POOL_AHEAD);
    break;
  case FILE_IO_WRITE:
    submit (io, REQUEST_WRITE, io->sync ? POOL_WSYNC : POOL_WASYNC);
    break;
  case FILE_IO_ZERO:
    submit (io, io->file->zeroes ? REQUEST_ZERO : REQUEST_WRITE, POOL_WSYNC);
    break;
  }
}

void
file_io_start (struct file_io *io)
{
  struct farpage_file *f = io->file;

  assert (io->off < io->end && io->end <= f->export_bytes);
  if (io->kind == FILE_IO_WRITE || io->kind == FILE_IO_MERGE)
    file_map_written (&f->map, io->off, io->end);
  if (io->kind == FILE_IO_WRITE)
    for (unsigned i = 0; i < io->nr; i++)
      copy_blocks (io, i, io->page[i]->valid, false);
  io->serial = ++f->serial;
  io->job.fn = begin;
  loop_post (f->loop, &io->job);
}
