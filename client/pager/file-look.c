/* SPDX-License-Identifier: BSD-2-Clause */
/* What callers ask and say about a file but for its bytes: where its data lie,
 * what of it is mapped for writing, and figures.  On their threads, under the
 * lock.
 *
 *   map      | data |   hole   |  not known    | hole ...
 *   pages               d d                                  d: unwritten
 *   next data|------|   |-|    |---- ask ----|
 *
 * Data is all that is not known to be a hole, so who copies a file by its data
 * reads no holes and misses nothing: where nobody knows the server is asked,
 * and what it does not say is data.  Each question costs a round trip, so they
 * become larger while the answers are short, and are asked ahead of who copies;
 * what he read ahead goes on with him behind a hole.
 *
 * Who maps a file for writing says so, for what is cut off under a mapping
 * would come back with its next write.  So `resizing` and the count keep each
 * other out: who maps waits for the end of a cut, and a cut of what is mapped
 * is refused.
 */

#include <config.h>

#include "file.h"

#include <errno.h>

/* ---- data ---- */

/* The unwritten pages that follow each other, of those in [off, end) the first.
 */
static bool
find_unwritten (struct farpage_file *f, uint64_t off, uint64_t end,
                uint64_t *from, uint64_t *to)
{
  const pgno_t stop = (end + PAGE_MASK) / PAGE_BYTES;
  pgno_t first = stop;
  struct page *p;

  for (uint32_t i = 0;
       f->pages->nr_dirty + f->nr_writes > 0 && i < f->pages->nr; i++) {
    p = &f->pages->page[i];
    if (page_is_unwritten (p) && p->pgno < first && p->pgno >= off / PAGE_BYTES)
      first = p->pgno;
  }
  if (first == stop)
    return false;
  *from = max_u64 (off, first * PAGE_BYTES);
  while (first < stop && (p = page_find (f->pages, first)) != NULL &&
         page_is_unwritten (p))
    first++;
  *to = min_u64 (end, first * PAGE_BYTES);
  return true;
}

/* Questions about what is not known from off on, so that the answers are there
 * when somebody comes there.
 */
static void
ask_ahead (struct farpage_file *f, uint64_t off)
{
  uint64_t end;

  for (unsigned i = 0; i < FILE_MAP_ASKED - 2 && off < f->size_bytes; i++) {
    if (file_map_look (&f->map, off, &end) == FILE_MAP_UNKNOWN) {
      file_ask (f, off, f->span_bytes);
      end = off + f->span_bytes;
    }
    off = end;
  }
}

/* What off is, and to where: UNKNOWN if the server does not say.  Lock: needs
 * f->lock; lets go of it meanwhile.
 */
static enum file_map_kind
look (struct farpage_file *f, uint64_t off, uint64_t *end)
{
  const uint64_t span = f->span_bytes;
  enum file_map_kind kind;
  uint64_t begin;

  ask_ahead (f, off);
  kind = file_find_out (f, off, span, &begin, end);
  if (!f->has_map)
    *end = UINT64_MAX;
  else if (kind == FILE_MAP_UNKNOWN)
    *end = min_u64 (*end, off + span);
  return kind;
}

/* Lock: needs f->lock; lets go of it meanwhile. */
static int
next_data (struct farpage_file *f, uint64_t off, uint64_t *from, uint64_t *to)
{
  uint64_t end;

  while (!f->dead && off < f->size_bytes) {
    enum file_map_kind kind = look (f, off, &end);

    if (f->dead || off >= f->size_bytes)
      break;
    end = min_u64 (end, f->size_bytes);
    if (kind != FILE_MAP_HOLE) {
      ask_ahead (f, end);
      file_seq_jump (&f->seq, off / PAGE_BYTES);
      *from = off;
      *to = end;
      return 0;
    }
    if (find_unwritten (f, off, end, from, to))
      return 0;
    off = end;
  }
  return f->dead ? ESTALE : ENXIO;
}

int
farpage_file_next_data (struct farpage_file *f, uint64_t off_bytes,
                        uint64_t *from_bytes, uint64_t *end_bytes)
{
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  pthread_mutex_lock (&f->lock);
  err = next_data (f, off_bytes, from_bytes, end_bytes);
  pthread_mutex_unlock (&f->lock);
  return err;
}

/* ---- mapped for writing ---- */

/* Lock: needs f->lock; lets go of it meanwhile.  The file may have died. */
static int
map (struct farpage_file *f, uint64_t off, uint64_t end)
{
  int err = f->dead ? ESTALE : 0;

  while (err == 0 && f->resizing)
    err = file_wait (f);
  if (err != 0)
    return err;
  if (end > (f->size_bytes + PAGE_MASK) / PAGE_BYTES * PAGE_BYTES)
    return EINVAL;
  return file_mapped_add (&f->mapped, off, end);
}

int
farpage_file_map_count (struct farpage_file *f, uint64_t first_byte,
                        uint64_t bytes, int change)
{
  const uint64_t end = first_byte + bytes;
  int err;

  if (loop_is_here (f->loop))
    return EDEADLK;
  if (bytes == 0 || end < first_byte || (change != 1 && change != -1))
    return EINVAL;
  pthread_mutex_lock (&f->lock);
  if (change > 0)
    err = map (f, first_byte, end);
  else
    err = f->dead ? ESTALE : file_mapped_remove (&f->mapped, first_byte, end);
  pthread_mutex_unlock (&f->lock);
  return err;
}

/* ---- figures ---- */

int
farpage_file_stat (struct farpage_file *f, struct farpage_file_stat *stat,
                   size_t stat_bytes)
{
  struct farpage_file_stat st = { .block_bytes = f->block_bytes,
                                  .knows_holes = f->has_map,
                                  .pages_max = f->pages->nr,
                                  .reads_max = FILE_IOS,
                                  .writes_max = FILE_PUT_IOS };

  if (stat_bytes == 0)
    return EINVAL;
  pthread_mutex_lock (&f->lock);
  st.size_bytes = f->size_bytes;
  st.export_bytes = f->export_bytes;
  st.mapped_bytes = f->mapped.bytes;
  st.dead = f->dead;
  st.pages_cached = f->pages->nr - f->pages->list[PAGE_FREE].nr;
  st.pages_dirty = f->pages->nr_dirty;
  st.reads = f->nr_reads;
  st.writes = f->nr_writes;
  st.pages_got = f->nr_got;
  st.pages_put = f->nr_put;
  st.pages_failed = f->nr_failed;
  st.pages_holes = f->nr_holes;
  pthread_mutex_unlock (&f->lock);
  memset (stat, 0, stat_bytes);
  memcpy (stat, &st, min_u64 (stat_bytes, sizeof st));
  return 0;
}
