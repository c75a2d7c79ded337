/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager: opening, closing, and where a file ends.  file.h has the
 * picture of the rest.
 *
 *   (none) --open--> open, refs 1 --open--> refs + 1
 *                      | last close: everything is written
 *                    closing: who opens waits for its end --> (none)
 *
 * A file is an export: its first byte is the export's, and it ends where the
 * export does, or before, for as long as it is open.  What is cut off is
 * written as zeros, so that it reads as zeros when the file grows again.
 *
 * Dead: closed by force, or the export is lost.  Every call says ESTALE from
 * then on, who sleeps wakes, and what was dirty is lost, which is told.
 */

#include <config.h>

#include "file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "log.h"
#include "swap.h"

#define CACHE_BYTES (UINT64_C (64) << 20)
#define FLOOR_PART  16u /* of the pages */

int
file_wait (struct farpage_file *f)
{
  if (!f->dead)
    pthread_cond_wait (&f->changed, &f->lock);
  return f->dead ? ESTALE : 0;
}

/* ---- making ---- */

static void
destroy (struct farpage_file *f)
{
  for (unsigned i = 0; i < FILE_IOS; i++)
    free (f->io[i].data);
  pages_destroy (f->pages);
  free (f->order);
  pthread_cond_destroy (&f->changed);
  pthread_mutex_destroy (&f->lock);
  free (f);
}

static int
make_memory (struct farpage_file *f, uint64_t cache_bytes)
{
  uint64_t nr = cache_bytes / PAGE_BYTES;
  int err;

  nr = max_u64 (nr, FILE_CACHE_MIN);
  if (nr > PAGES_MAX)
    return EINVAL;
  f->floor = (unsigned) max_u64 (nr / FLOOR_PART, 4);
  err = pages_create ((uint32_t) nr, &f->pages);
  if (err != 0)
    return err;
  f->order = calloc (nr, sizeof (struct page *));
  for (unsigned i = 0; i < FILE_IOS; i++) {
    struct file_io *io = &f->io[i];

    io->data = aligned_alloc (PAGE_BYTES, (size_t) f->io_pages * PAGE_BYTES);
    if (io->data == NULL)
      return ENOMEM;
    io->file = f;
    io->next = f->free;
    f->free = io;
  }
  return f->order == NULL ? ENOMEM : 0;
}

static int
make (struct farpage_link *l, const struct farpage_file_options *o,
      struct farpage_file **fp)
{
  struct farpage_file *f = calloc (1, sizeof *f);
  int err;

  if (f == NULL)
    return ENOMEM;
  pthread_mutex_init (&f->lock, NULL);
  pthread_cond_init (&f->changed, NULL);
  f->owner = l;
  f->link = atomic_load (&l->link);
  f->loop = l->loop;
  f->refs = 1;
  f->span_bytes = FILE_STATUS_SPAN;
  for (unsigned i = 0; i < FILE_MAP_ASKED; i++)
    f->ask[i].file = f;
  f->death.file = f;
  f->block_bytes = link_block_bytes (f->link);
  f->has_map = link_can_status (f->link);
  f->zeroes = link_can_zero (f->link);
  f->zero_most = link_request_max (f->link);
  f->size_bytes = f->export_bytes = link_size_bytes (f->link);
  f->io_pages = (unsigned) min_u64 (l->options.cluster_pages,
                                    link_request_max (f->link) / PAGE_BYTES);
  f->io_pages = (unsigned) min_u64 (f->io_pages, FILE_IO_PAGES);
  file_map_init (&f->map);
  err =
      f->block_bytes > f->io_pages * PAGE_BYTES
          ? EPROTO
          : make_memory (f, o->cache_bytes != 0 ? o->cache_bytes : CACHE_BYTES);
  if (err != 0) {
    destroy (f);
    return err;
  }
  *fp = f;
  return 0;
}

/* ---- from time to time ---- */

/* [loop] What is dirty goes in order; who syncs need not. */
static void
tidy (struct ev_loop *ev, ev_timer *w, int revents)
{
  struct farpage_file *f = w->data;

  (void) ev;
  (void) revents;
  pthread_mutex_lock (&f->lock);
  if (f->nr_writes == 0 && f->pages->nr_dirty > 0 && !f->dead)
    file_put_some (f, FILE_PUT_IOS);
  pthread_mutex_unlock (&f->lock);
}

/* ---- opening ---- */

struct opening {
  struct farpage_link *link;
  struct farpage_file *file; /* to be installed, or NULL */
};

/* [loop] */
static void
install (void *arg)
{
  struct opening *o = arg;
  struct farpage_file *f = o->file;

  o->link->opening = false;
  if (f == NULL)
    return;
  o->link->file = f;
  link_set_rules (
      f->link, (struct link_rules){ .strict = !f->unverified, .grows = true });
  ev_timer_init (&f->tidy, tidy, FILE_TIDY_S, FILE_TIDY_S);
  f->tidy.data = f;
  ev_timer_start (loop_ev (f->loop), &f->tidy);
}

/* [loop] */
static void
uninstall (void *arg)
{
  struct farpage_file *f = arg;

  ev_timer_stop (loop_ev (f->loop), &f->tidy);
  f->owner->file = NULL;
  link_set_rules (f->link, (struct link_rules){ .strict = false });
}

void
farpage_file_options_init (struct farpage_file_options *o)
{
  *o = (struct farpage_file_options){ .struct_bytes = sizeof *o };
}

/* Lock: needs l->file_lock. */
static int
open_first (struct farpage_link *l, const struct farpage_file_options *o)
{
  struct opening op = { .link = l };
  int err = pager_claim (l);

  if (err != 0)
    return err;
  err = make (l, o, &op.file);
  if (err == 0)
    op.file->unverified = o->reconnect_unverified;
  loop_call (l->loop, install, &op);
  l->open_file = op.file;
  return err;
}

int
farpage_file_open (struct farpage_link *l,
                   const struct farpage_file_options *options,
                   struct farpage_file **fp)
{
  struct farpage_file_options o;
  int err = 0;

  farpage_file_options_init (&o);
  if (options != NULL) {
    if (options->struct_bytes == 0 || options->struct_bytes > sizeof o)
      return EINVAL;
    memcpy (&o, options, options->struct_bytes);
  }
  if (loop_is_here (l->loop))
    return EDEADLK;
  pthread_mutex_lock (&l->file_lock);
  while (l->open_file != NULL && l->file_closing)
    pthread_cond_wait (&l->file_gone, &l->file_lock);
  if (l->open_file == NULL)
    err = open_first (l, &o);
  else
    l->open_file->refs++;
  if (err == 0)
    *fp = l->open_file;
  pthread_mutex_unlock (&l->file_lock);
  return err;
}

/* ---- closing ---- */

/* Dirty, or nobody knows yet whether they are not any more.  Lock: needs
 * f->lock.
 */
static uint32_t
nr_unwritten (const struct farpage_file *f)
{
  uint32_t nr = 0;

  for (uint32_t i = 0; i < f->pages->nr; i++)
    nr += page_is_unwritten (&f->pages->page[i]);
  return nr;
}

/* Lock: without f->lock, for a line goes to the user. */
static void
say_lost (struct farpage_file *f, const char *why, uint32_t nr_dirty)
{
  struct farpage_link *was = pager_speak (f->owner);

  if (why != NULL)
    log_write (LOG_WARNING, "file: %s", why);
  if (nr_dirty > 0)
    log_write (LOG_ERROR,
               "file: %" PRIu32 " pages that were not written are "
               "lost",
               nr_dirty);
  pager_speak (was);
}

/* Everything is written if it can be, nothing is under way any more, and
 * nothing begins.
 */
static int
end_all (struct farpage_file *f)
{
  static const struct file_put how = { .sync = true };
  uint32_t nr_dirty;
  bool was_dead;
  int err;

  pthread_mutex_lock (&f->lock);
  err = file_put_range (f, 0, UINT64_MAX, &how);
  while (f->nr_reads + f->nr_writes > 0 || file_is_asking (f) ||
         f->waiters != NULL || f->nr_ops > 0)
    pthread_cond_wait (&f->changed, &f->lock);
  was_dead = f->dead;
  f->dead = true;
  nr_dirty = nr_unwritten (f);
  pthread_mutex_unlock (&f->lock);
  if (!was_dead)
    say_lost (f, NULL, nr_dirty);
  return err;
}

int
farpage_file_close (struct farpage_file *f)
{
  struct farpage_link *l = f->owner;
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  pthread_mutex_lock (&l->file_lock);
  if (--f->refs > 0) {
    pthread_mutex_unlock (&l->file_lock);
    return 0;
  }
  l->file_closing = true;
  pthread_mutex_unlock (&l->file_lock);
  err = end_all (f);
  loop_call (f->loop, uninstall, f);
  pthread_mutex_lock (&l->file_lock);
  l->open_file = NULL;
  l->file_closing = false;
  pthread_cond_broadcast (&l->file_gone);
  pthread_mutex_unlock (&l->file_lock);
  destroy (f);
  return err;
}

/* [loop] Aio calls need not wait for what is under way either. */
static void
killed (struct job *job)
{
  file_ops_go (((struct file_death *) job)->file);
}

void
file_kill (struct farpage_file *f, const char *why)
{
  uint32_t nr_dirty;
  bool was_dead;

  pthread_mutex_lock (&f->lock);
  was_dead = f->dead;
  nr_dirty = nr_unwritten (f);
  f->dead = true;
  if (!was_dead) {
    f->mapped = (struct file_mapped){ .nr = 0 };
    f->death.job.fn = killed;
    loop_post (f->loop, &f->death.job);
  }
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->lock);
  if (!was_dead)
    say_lost (f, why, nr_dirty);
}

void
farpage_file_force_close (struct farpage_file *f)
{
  file_kill (f, "closed by force");
}

/* ---- where it ends ---- */

uint64_t
farpage_file_size (struct farpage_file *f)
{
  uint64_t size;

  pthread_mutex_lock (&f->lock);
  size = f->size_bytes;
  pthread_mutex_unlock (&f->lock);
  return size;
}

/* The export is about to be longer.  Behind its end was nothing to be read. */
static void
open_last_page (struct farpage_file *f)
{
  struct page *p = page_find (f->pages, f->export_bytes / PAGE_BYTES);

  if (p != NULL)
    page_unfill (f->pages, p,
                 ~page_bits_filled (0, f->export_bytes & PAGE_MASK));
}

/* [loop] The export is longer than it was: so is the file, if it was all. */
void
file_grown (struct farpage_file *f)
{
  const uint64_t bytes = link_size_bytes (f->link);

  pthread_mutex_lock (&f->lock);
  file_map_forget (&f->map);
  if (bytes > f->export_bytes) {
    open_last_page (f);
    if (f->size_bytes == f->export_bytes)
      f->size_bytes = bytes;
    f->export_bytes = bytes;
  }
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->lock);
}

static bool
is_under_way (const struct farpage_file *f, uint64_t off)
{
  for (unsigned i = 0; i < FILE_IOS; i++)
    if (f->io[i].serial != 0 && f->io[i].end > off)
      return true;
  return false;
}

/* Until nothing behind off is under way.  Lock: needs f->lock; lets go of it
 * meanwhile.
 */
static int
wait_for_ios (struct farpage_file *f, uint64_t off)
{
  int err = 0;

  while (err == 0 && is_under_way (f, off))
    err = file_wait (f);
  return err;
}

static void
drop_beyond (struct farpage_file *f, pgno_t end)
{
  for (uint32_t i = 0; i < f->pages->nr; i++) {
    struct page *p = &f->pages->page[i];

    if (p->state != PAGE_FREE && p->pgno >= end)
      page_drop (f->pages, p);
  }
}

/* The server has zeros from off to end. */
static int
write_zeros (struct farpage_file *f, uint64_t off, uint64_t end)
{
  const uint64_t mask = max_u64 (f->block_bytes, PAGE_BYTES) - 1;
  const uint64_t most = (uint64_t) f->io_pages * PAGE_BYTES & ~mask;
  const uint64_t first = off;
  int err = 0;

  f->zero_error = 0;
  while (off < end && err == 0) {
    struct file_io *io = file_io_take (f, FILE_IO_ZERO);

    if (io == NULL) {
      err = file_wait (f);
      continue;
    }
    memset (io->data, 0, most);
    io->off = off;
    io->end = min_u64 (end, off + (f->zeroes ? f->zero_most : most));
    off = io->end;
    file_io_start (io);
  }
  if (err == 0)
    err = wait_for_ios (f, first);
  return err == 0 ? f->zero_error : err;
}

/* Lock: needs f->lock; lets go of it meanwhile.  What lies in the block of the
 * new end is made zeros as any write is, the blocks behind it on the server.
 */
static int
shrink (struct farpage_file *f, uint64_t bytes)
{
  const uint64_t mask = max_u64 (f->block_bytes, SECTOR_BYTES) - 1;
  const uint64_t was = f->size_bytes;
  const uint64_t whole = min_u64 ((bytes + mask) & ~mask, was);
  struct page *p;
  const pgno_t end = (bytes + PAGE_MASK) / PAGE_BYTES;
  static const struct file_put how = { .sync = true };
  int err = file_write_zeros (f, bytes, whole);

  if (err == 0 && whole > end * PAGE_BYTES) /* pages that go are of the block */
    err = file_put_range (f, end, (whole + PAGE_MASK) / PAGE_BYTES, &how);
  if (err != 0)
    return err;
  f->size_bytes = bytes;
  err = wait_for_ios (f, bytes & ~(uint64_t) PAGE_MASK);
  if (err != 0)
    return err;
  drop_beyond (f, end);
  p = page_find (f->pages, bytes / PAGE_BYTES);
  if (p != NULL && (bytes & PAGE_MASK) != 0 && p->valid != 0) {
    const unsigned from = bytes & PAGE_MASK;

    memset (p->data + from, 0, PAGE_BYTES - from);
    p->valid |= page_bits_filled (from, PAGE_BYTES - from);
    if (whole < (bytes | PAGE_MASK))
      page_clean (f->pages, p,
                  page_bits_filled (whole & PAGE_MASK,
                                    PAGE_BYTES - (whole & PAGE_MASK)));
  }
  err = write_zeros (f, (bytes + mask) & ~mask,
                     min_u64 ((was + mask) & ~mask, f->export_bytes));
  if (err != 0) /* so that it can be tried again */
    f->size_bytes = max_u64 (f->size_bytes, was);
  return err;
}

int
farpage_file_setsize (struct farpage_file *f, uint64_t bytes)
{
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  pthread_mutex_lock (&f->lock);
  err = f->dead ? ESTALE : 0;
  while (err == 0 && f->resizing)
    err = file_wait (f);
  if (err == 0 && bytes > f->export_bytes)
    err = EFBIG;
  if (err == 0 && bytes < min_u64 (f->size_bytes, file_mapped_end (&f->mapped)))
    err = EBUSY;
  if (err == 0 && bytes < f->size_bytes) {
    f->resizing = true;
    err = shrink (f, bytes);
    f->resizing = false;
    pthread_cond_broadcast (&f->changed);
  } else if (err == 0) {
    f->size_bytes = bytes;
  }
  pthread_mutex_unlock (&f->lock);
  return err;
}

/* ---- checking ---- */

const char *
file_check (struct farpage_file *f)
{
  const char *wrong;
  unsigned nr_reads = 0, nr_writes = 0;

  pthread_mutex_lock (&f->lock);
  wrong = pages_check (f->pages);
  if (wrong == NULL)
    wrong = file_map_check (&f->map);
  if (wrong == NULL)
    wrong = file_mapped_check (&f->mapped);
  for (unsigned i = 0; i < FILE_IOS && wrong == NULL; i++) {
    const struct file_io *io = &f->io[i];

    if (io->serial == 0)
      continue;
    nr_reads += io->kind == FILE_IO_READ;
    nr_writes += io->kind != FILE_IO_READ;
    for (unsigned k = 0; k < i && io->kind != FILE_IO_READ; k++)
      if (f->io[k].serial != 0 && f->io[k].kind != FILE_IO_READ &&
          f->io[k].off < io->end && io->off < f->io[k].end)
        wrong = "two writes of one byte";
  }
  if (wrong == NULL && (nr_reads != f->nr_reads || nr_writes != f->nr_writes))
    wrong = "reads and writes under way";
  pthread_mutex_unlock (&f->lock);
  return wrong;
}
