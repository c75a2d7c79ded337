/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that are not there, on their way from the server.  Called by file-rw.c
 * and file-page.c under the lock; calls file-plan.c for what to read, the map
 * for what is a hole, and file-io.c.
 *
 *     behind             first   count          ahead
 *     . . r r | - - r r r W W W W W | r r r r r | . .      r: read with it
 *       ^ resident or too far: stops                  ^ of a stream: by itself
 *
 * First the io is taken, then the map is asked: who gets no io need not know
 * what is a hole.  A page that is known to be one is zeros without I/O.  What
 * is not known is read like data, and asked about meanwhile: a wait for the
 * answer would cost each read of an unknown place a round trip more.
 *
 * The first page is what a call has in the end, or there is something under way
 * that tells; what is wanted with it must not take its place, so it is begun
 * only while there are enough, and holes are filled one at a time.
 *
 * Neighbours are read only into pages that nobody misses: behind as far as the
 * first that is in memory, from near to far, and none while few can be had.  A
 * page that is partly valid is read by itself, where it is not.
 */

#include <config.h>

#include "file.h"

#include <errno.h>

/* ---- the map ---- */

/* Questions become larger as long as the answers are short: what is in many
 * pieces takes a server its time.
 */
static void
learn_span (struct farpage_file *f, const struct request *req, unsigned nr)
{
  if (nr >= REQUEST_EXTENTS)
    f->span_bytes = FILE_STATUS_SPAN;
  else if (nr > 0 && nr <= REQUEST_EXTENTS / 8 &&
           req->len_bytes >= f->span_bytes)
    f->span_bytes = min_u64 (f->span_bytes * 8, REQUEST_STATUS_MAX);
}

static void
asked (struct request *req)
{
  struct file_ask *ask = req->arg;
  struct farpage_file *f = ask->file;
  struct file_extent extents[REQUEST_EXTENTS];
  uint64_t at = req->off_bytes;
  unsigned nr = 0;

  pthread_mutex_lock (&f->lock);
  for (unsigned i = 0; req->error == 0 && i < ask->extents.nr; i++) {
    extents[nr].off = at;
    at += ask->extents.extent[i].bytes;
    extents[nr].end = at;
    extents[nr++].kind =
        ask->extents.extent[i].zeros ? FILE_MAP_HOLE : FILE_MAP_DATA;
  }
  learn_span (f, req, nr);
  file_map_answer (&f->map, ask->ask, extents, nr);
  ask->ask = NULL;
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->lock);
}

static void
ask (struct job *job)
{
  struct file_ask *a = (struct file_ask *) job;

  link_submit (a->file->link, &a->req);
}

bool
file_is_asked (const struct farpage_file *f, uint64_t off)
{
  for (unsigned i = 0; i < FILE_MAP_ASKED; i++)
    if (f->ask[i].ask != NULL && f->ask[i].ask->off <= off &&
        off < f->ask[i].ask->end)
      return true;
  return false;
}

bool
file_is_asking (const struct farpage_file *f)
{
  for (unsigned i = 0; i < FILE_MAP_ASKED; i++)
    if (f->ask[i].ask != NULL)
      return true;
  return false;
}

void
file_ask (struct farpage_file *f, uint64_t off, uint64_t span)
{
  const uint64_t mask = max_u64 (f->block_bytes, PAGE_BYTES) - 1;
  struct file_ask *a = f->ask;
  uint64_t end;

  while (a < &f->ask[FILE_MAP_ASKED] && a->ask != NULL)
    a++;
  if (!f->has_map || a == &f->ask[FILE_MAP_ASKED] || off >= f->export_bytes ||
      file_is_asked (f, off) ||
      file_map_look (&f->map, off, &end) != FILE_MAP_UNKNOWN)
    return;
  off &= ~mask;
  end = min_u64 (end, off + span);
  end = min_u64 ((end + mask) & ~mask, f->export_bytes);
  a->ask = file_map_ask (&f->map, off, end);
  a->req = (struct request){ .kind = REQUEST_STATUS,
                             .pool = POOL_DEMAND,
                             .off_bytes = off,
                             .len_bytes = (uint32_t) (end - off),
                             .extents = &a->extents,
                             .done = asked,
                             .arg = a };
  a->job.fn = ask;
  loop_post (f->loop, &a->job);
}

enum file_map_kind
file_find_out (struct farpage_file *f, uint64_t off, uint64_t span,
               uint64_t *begin, uint64_t *end)
{
  enum file_map_kind kind;
  bool was_asked = false;

  while ((kind = file_map_around (&f->map, off, begin, end)) ==
             FILE_MAP_UNKNOWN &&
         f->has_map && !was_asked) {
    file_ask (f, off, span);
    was_asked = file_is_asked (f, off);
    if (!was_asked && !file_is_asking (f)) /* which would end, and give room */
      break;
    do
      if (file_wait (f) != 0)
        return FILE_MAP_UNKNOWN;
    while (file_is_asked (f, off));
  }
  return kind;
}

bool
file_is_hole (const struct farpage_file *f, pgno_t pgno)
{
  uint64_t at = pgno * PAGE_BYTES, end;

  if (file_map_look (&f->map, at, &end) != FILE_MAP_HOLE)
    return false;
  return end >= min_u64 (at + PAGE_BYTES, f->export_bytes);
}

/* EAGAIN: no page can be had. */
static int
fill_hole (struct farpage_file *f, pgno_t pgno)
{
  struct page *p = page_take (f->pages, pgno);

  if (p == NULL)
    return EAGAIN;
  memset (p->data, 0, PAGE_BYTES);
  page_filled (f->pages, p, PAGE_BITS_ALL, false);
  f->nr_holes++;
  return 0;
}

/* ---- one read ---- */

static void
put_in (struct file_io *io, unsigned at, struct page *p)
{
  io->page[at] = p;
  io->bits[at] = PAGE_BITS_ALL & ~p->valid;
}

/* It goes off: whole blocks of the server around what is not valid. */
static void
start (struct file_io *io)
{
  struct farpage_file *f = io->file;
  const uint64_t mask = f->block_bytes - 1;
  unsigned last = io->nr - 1;

  io->off = io->first * PAGE_BYTES +
            (unsigned) __builtin_ctz (io->bits[0]) * SECTOR_BYTES;
  io->end = (io->first + last) * PAGE_BYTES +
            (32 - (unsigned) __builtin_clz (io->bits[last])) * SECTOR_BYTES;
  io->off &= ~mask;
  io->end = min_u64 ((io->end + mask) & ~mask, f->export_bytes);
  file_io_start (io);
}

static bool
can_have_more (const struct farpage_file *f)
{
  return file_nr_to_be_had (f) > f->floor;
}

/* Pages from pgno on that are not in memory and no holes, nr at most; those
 * after the first only while there are enough.
 */
static unsigned
take_up (struct file_io *io, pgno_t pgno, unsigned nr, bool must)
{
  struct farpage_file *f = io->file;
  unsigned n;

  for (n = 0; n < nr; n++) {
    struct page *p;

    if (page_find (f->pages, pgno + n) != NULL || file_is_hole (f, pgno + n) ||
        (!(must && n == 0) && !can_have_more (f)))
      break;
    p = page_take (f->pages, pgno + n);
    if (p == NULL)
      break;
    put_in (io, io->nr++, p);
  }
  return n;
}

/* Before those that it has. */
static unsigned
take_down (struct file_io *io, pgno_t pgno, unsigned nr)
{
  struct farpage_file *f = io->file;
  struct page *page[FILE_IO_PAGES];
  unsigned n = 0;

  while (n < nr && can_have_more (f) &&
         page_find (f->pages, pgno - 1 - n) == NULL &&
         !file_is_hole (f, pgno - 1 - n)) {
    page[n] = page_take (f->pages, pgno - 1 - n);
    if (page[n] == NULL)
      break;
    n++;
  }
  for (unsigned i = io->nr; i-- > 0;) {
    io->page[i + n] = io->page[i];
    io->bits[i + n] = io->bits[i];
  }
  for (unsigned i = 0; i < n; i++)
    put_in (io, n - 1 - i, page[i]);
  io->nr += n;
  return n;
}

/* Pages that lie with pgno as far as is known. */
static void
around (const struct farpage_file *f, pgno_t pgno, struct file_plan *plan)
{
  uint64_t end;

  (void) file_map_look (&f->map, pgno * PAGE_BYTES, &end);
  plan->after = end == UINT64_MAX
                    ? UINT64_MAX
                    : max_u64 (end / PAGE_BYTES, pgno + 1) - 1 - pgno;
}

/* Of the pages [first, first + count) the first is not there. */
static int
read_row (struct farpage_file *f, pgno_t first, unsigned count,
          unsigned *behind, unsigned *ahead)
{
  struct file_plan plan = { .nr_pages = file_nr_pages (f),
                            .first = first,
                            .count = count,
                            .block_pages = 1,
                            .max = f->io_pages };
  struct file_io *io;
  pgno_t lo, hi;

  file_span (f, first, &lo, &hi);
  plan.nr_pages = min_u64 (plan.nr_pages, hi);
  plan.count = (unsigned) min_u64 (count, min_u64 (f->io_pages, hi - first));
  if (f->block_bytes > PAGE_BYTES)
    plan.block_pages = f->block_bytes / PAGE_BYTES;
  io = file_io_take (f, FILE_IO_READ);
  if (io == NULL)
    return EAGAIN;
  file_ask (f, first * PAGE_BYTES, FILE_STATUS_SPAN);
  around (f, first, &plan);
  plan.before = first - lo; /* take_down () stops where a hole begins */
  file_plan (&plan, behind, ahead);
  io->first = first;
  if (take_up (io, first, plan.count, true) == plan.count)
    *ahead = take_up (io, first + plan.count, *ahead, false);
  else
    *ahead = 0;
  if (io->nr == 0) {
    file_io_give (io);
    return EAGAIN;
  }
  *behind = take_down (io, first, *behind);
  io->first -= *behind;
  start (io);
  return 0;
}

/* Some of it is valid: the rest is read. */
static int
read_rest (struct farpage_file *f, struct page *p)
{
  struct file_io *io = file_io_take (f, FILE_IO_READ);

  if (io == NULL)
    return EAGAIN;
  page_refill (f->pages, p);
  io->first = p->pgno;
  io->nr = 1;
  put_in (io, 0, p);
  start (io);
  return 0;
}

/* Begin with what is missing of this page, and of count from there on.  *behind
 * and *ahead are 0 after it if no row is read.
 */
static int
get_one (struct farpage_file *f, pgno_t pgno, unsigned count, unsigned *behind,
         unsigned *ahead)
{
  struct page *p = page_find (f->pages, pgno);
  unsigned b = *behind, a = *ahead;
  int err = 0;

  *behind = *ahead = 0;
  if (p != NULL) {
    if (p->state != PAGE_BUSY && p->valid != PAGE_BITS_ALL)
      err = read_rest (f, p);
    return err;
  }
  if (file_is_hole (f, pgno))
    return fill_hole (f, pgno);
  err = read_row (f, pgno, count, &b, &a);
  if (err == 0) {
    *behind = b;
    *ahead = a;
  }
  return err;
}

int
file_get (struct farpage_file *f, pgno_t first, unsigned count,
          unsigned *behind, unsigned *ahead)
{
  const unsigned want_ahead = *ahead;
  int err = get_one (f, first, count, behind, ahead);

  for (unsigned i = 1; err == 0 && i < count && can_have_more (f); i++) {
    unsigned none = 0, a = want_ahead;

    if (page_find (f->pages, first + i) == NULL && file_is_hole (f, first + i))
      continue;
    if (get_one (f, first + i, count - i, &none, &a) != 0)
      break;
    if (a > 0)
      *ahead = a;
  }
  if (err == EAGAIN && f->pages->list[PAGE_FREE].nr == 0 && !can_have_more (f))
    file_put_some (f, FILE_PUT_IOS / 2);
  return err;
}

void
file_get_ahead (struct farpage_file *f, pgno_t first, unsigned count)
{
  while (count > 0 && can_have_more (f) &&
         f->nr_reads + f->nr_writes < FILE_IOS - FILE_DEMAND_IOS) {
    struct file_io *io;
    pgno_t lo, hi;
    unsigned n = 1;

    if (page_find (f->pages, first) == NULL && file_is_hole (f, first)) {
      if (fill_hole (f, first) != 0)
        return;
    } else if (page_find (f->pages, first) == NULL) {
      io = file_io_take (f, FILE_IO_READ);
      if (io == NULL)
        return;
      file_ask (f, first * PAGE_BYTES, FILE_STATUS_SPAN);
      io->ahead = true;
      io->first = first;
      file_span (f, first, &lo, &hi);
      n = (unsigned) min_u64 (min_u64 (count, f->io_pages), hi - first);
      n = take_up (io, first, n, false);
      if (n == 0) {
        file_io_give (io);
        return;
      }
      start (io);
    }
    first += n;
    count -= n;
  }
}
