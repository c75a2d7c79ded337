/* SPDX-License-Identifier: BSD-2-Clause */
/* A map of a file: how its pages come and go.  Called by the other map files;
 * calls file-copy.c.
 *
 *   users' memory <--copied-- the file's memory <--read-- server
 *                 --copied-->                   --written->
 *
 * All of the file is counted as mapped for writing, so it is not made shorter
 * meanwhile, and has no second such map.  Who reads and writes it by bytes has
 * what the map has put.
 */

#include <config.h>

#include "map.h"

static void
got (void *arg, uint64_t page, enum farpage_result result)
{
  map_got (arg, page, result);
}

static int
file_get_pages (struct farpage_map *m, pgno_t first, unsigned count, bool ahead)
{
  return file_copy_out (m->file, first, count, uffd_own (m->uffd, first), ahead,
                        got, m);
}

static void
file_hurry (struct farpage_map *m, pgno_t page)
{
  link_hurry_at (m->link, page << PAGE_SHIFT);
}

static void
put (void *arg, uint64_t page, enum farpage_result result)
{
  map_put_done (arg, page, result);
}

static int
file_put_pages (struct farpage_map *m, struct map_put *p, bool sync)
{
  (void) sync; /* is the file's, when all are there */
  return file_copy_in (m->file, p->first, p->nr, uffd_own (m->uffd, p->first),
                       put, p);
}

static unsigned
file_row (struct farpage_map *m, pgno_t first, unsigned count)
{
  struct farpage_file *f = m->file;
  unsigned nr = 0;

  pthread_mutex_lock (&f->lock);
  while (nr < count && !(page_find (f->pages, first + nr) == NULL &&
                         file_is_hole (f, first + nr)))
    nr++;
  pthread_mutex_unlock (&f->lock);
  return nr;
}

static int
file_open_map (struct farpage_map *m)
{
  struct farpage_file *same;
  int err = farpage_file_map_count (m->file, 0, m->nr_pages << PAGE_SHIFT, 1);

  return err ? err : farpage_file_open (m->file->owner, NULL, &same);
}

static int
file_flush (struct farpage_map *m)
{
  return farpage_file_sync (m->file);
}

static int
file_close_map (struct farpage_map *m)
{
  farpage_file_map_count (m->file, 0, m->nr_pages << PAGE_SHIFT, -1);
  return farpage_file_close (m->file);
}

const struct map_object map_file_object = { .get = file_get_pages,
                                            .hurry = file_hurry,
                                            .put = file_put_pages,
                                            .row = file_row,
                                            .open = file_open_map,
                                            .flush = file_flush,
                                            .close = file_close_map };
