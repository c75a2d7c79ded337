/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of the free map share: it and a plain array of who is in use.
 *
 * Pages stand for blocks here: place p of volume v is page p of object FIRST +
 * v, which is "zero" while the block is in use and a hole while it is not.  So
 * the log has records that redo what was noted, as those of maps do.
 */

#ifndef FARPAGE_TEST_FREEMAP_H
#define FARPAGE_TEST_FREEMAP_H

#include "test-books.h"

#define FIRST DISK_TREE_FIRST

struct world {
  struct books b;
  unsigned char *used[BOOKS_VOLUMES]; /* the model: a byte a block */
  uint64_t nr_blocks[BOOKS_VOLUMES];
  uint64_t first[BOOKS_VOLUMES], end[BOOKS_VOLUMES];
  unsigned nr_cuts;
  bool only_cut; /* nothing is folded before */
};

/* ---- what the flusher and recovery ask ---- */

static inline int
before_cut (void *arg)
{
  struct world *w = arg;

  return w->only_cut ? 0 : freemap_before_cut (w->b.fm);
}

static inline int
cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct world *w = arg;
  struct freemap_stat st;
  int err = freemap_cut (w->b.fm, ch, root);

  freemap_stat (w->b.fm, &st);
  assert_true (err != 0 || st.nr_noted == 0);
  w->nr_cuts++;
  return err;
}

static inline void
nothing (void *arg, uint64_t n)
{
  UNUSED (arg);
  UNUSED (n);
}

static const struct flush_ops flush_ops = {
  .before_cut = before_cut, .cut = cut, .durable = nothing, .retired = nothing
};

/* The model becomes what UNDO has left; REDO brings it to the log's end. */
static inline int
set_model (void *arg, const struct space_run *run)
{
  struct world *w = arg;

  memset (w->used[blkno_volume (run->blk)] + blkno_place (run->blk), 1,
          run->nr);
  return 0;
}

static inline int
begin (void *arg, const struct disk_super *root)
{
  struct world *w = arg;
  int err = freemap_create (w->b.bs, w->b.fl, root, &w->b.fm);

  for (unsigned v = 0; v < w->b.nr_volumes && err == 0; v++) {
    memset (w->used[v], 0, w->nr_blocks[v]);
    err = freemap_each (w->b.fm, v, set_model, w);
  }
  return err;
}

static inline int
redo (void *arg, struct change *ch, const struct disk_rec *rec,
      const uint32_t *crc)
{
  struct world *w = arg;
  unsigned v = (unsigned) (rec->object - FIRST);
  unsigned char used = rec->type == DISK_REC_ZERO;

  UNUSED (ch);
  UNUSED (crc);
  for (uint64_t i = rec->pgno; i < rec->pgno + rec->nr; i++) {
    struct space_run run = { blkno_make (v, i), 1 };

    if (w->used[v][i] != used)
      freemap_note (w->b.fm, &run, used);
    w->used[v][i] = used;
  }
  return 0;
}

static inline int
redo_none (void *arg, struct change *ch, const struct disk_rec *rec)
{
  UNUSED (arg);
  UNUSED (ch);
  UNUSED (rec);
  return EIO;
}

static inline int
redo_no_object (void *arg, struct change *ch, const struct disk_rec *rec,
                const struct disk_object *entry)
{
  UNUSED (entry);
  return redo_none (arg, ch, rec);
}

static const struct recover_ops recover_ops = {
  .begin = begin, .node = redo_none, .object = redo_no_object, .map = redo
};

/* ---- a world ---- */

static inline void
world_create (struct world *w, const uint64_t *sizes, unsigned nr,
              uint64_t nr_buffers)
{
  memset (w, 0, sizeof *w);
  w->b = (struct books){ .nr_buffers = nr_buffers,
                         .flush_ops = &flush_ops,
                         .recover_ops = &recover_ops,
                         .arg = w };
  test_log_forget ();
  for (unsigned v = 0; v < nr; v++) {
    w->nr_blocks[v] = sizes[v] / PAGE_BYTES;
    w->used[v] = calloc (w->nr_blocks[v], 1);
    assert_non_null (w->used[v]);
  }
  books_create (&w->b, sizes, nr);
  books_open (&w->b);
  for (unsigned v = 0; v < nr; v++) {
    w->first[v] = super_first_block (&w->b.s.root, v);
    w->end[v] = w->nr_blocks[v] - 2;
  }
}

static inline void
world_drop (struct world *w)
{
  books_drop (&w->b);
  books_destroy (&w->b);
  for (unsigned v = 0; v < w->b.nr_volumes; v++)
    free (w->used[v]);
}

/* 64 MiB and 400 MiB: one leaf, and four. */
static inline void
world_small (struct world *w)
{
  world_create (w, (uint64_t[]){ 64 * MIB, 400 * MIB }, 2, BUFS_MIN);
}

struct each {
  struct world *w;
  uint64_t next[BOOKS_VOLUMES]; /* nothing below is still to be told */
};

static inline int
compare_run (void *arg, const struct space_run *run)
{
  struct each *e = arg;
  unsigned v = blkno_volume (run->blk);
  uint64_t place = blkno_place (run->blk);

  assert_true (run->nr > 0);
  assert_true (e->next[v] == 0 || place > e->next[v]); /* whole, and rising */
  for (; e->next[v] < place; e->next[v]++)
    if (e->w->used[v][e->next[v]])
      fail_msg ("volume %u: block %" PRIu64 " is used, and not told", v,
                e->next[v]);
  for (; e->next[v] < place + run->nr; e->next[v]++)
    if (!e->w->used[v][e->next[v]])
      fail_msg ("volume %u: block %" PRIu64 " is told, and free", v,
                e->next[v]);
  return 0;
}

/* What is folded is what the model has; nothing is noted. */
static inline void
compare (struct world *w)
{
  struct each e = { .w = w };
  struct freemap_stat st;

  for (unsigned v = 0; v < w->b.nr_volumes; v++) {
    assert_int_equal (freemap_each (w->b.fm, v, compare_run, &e), 0);
    for (; e.next[v] < w->nr_blocks[v]; e.next[v]++)
      if (w->used[v][e.next[v]])
        fail_msg ("volume %u: block %" PRIu64 " is used, and not told", v,
                  e.next[v]);
  }
  freemap_stat (w->b.fm, &st);
  assert_int_equal (st.nr_wrong, 0);
}

static inline void
reopen (struct world *w, bool clean)
{
  if (clean)
    assert_int_equal (flush_close (w->b.fl), 0);
  else
    assert_int_equal (flush_commit (w->b.fl, flush_tail (w->b.fl)), 0);
  books_drop (&w->b);
  books_open (&w->b);
}

/* Note a run, and log it, in a change: what maps do. */
static inline void
change_run (struct world *w, unsigned v, uint64_t place, uint64_t nr, bool used)
{
  struct space_run run = { blkno_make (v, place), nr };
  struct change ch;

  assert_int_equal (freemap_enter (w->b.fm), 0);
  assert_int_equal (change_begin (w->b.fl, 1, &ch), 0);
  freemap_note (w->b.fm, &run, used);
  for (uint64_t i = 0; i < nr; i += SHARD_PAGES) {
    struct disk_rec rec = { .type = used ? DISK_REC_ZERO : DISK_REC_FREE,
                            .object = FIRST + v,
                            .pgno = place + i,
                            .nr = (uint32_t) min_u64 (SHARD_PAGES, nr - i) };

    undo_append (w->b.fl, &ch, &rec, NULL, 0);
  }
  memset (w->used[v] + place, used, nr);
  change_end (w->b.fl, &ch);
  freemap_leave (w->b.fm);
}

/* Without a record. */
static inline void
note (struct world *w, uint64_t blk, uint64_t nr, bool used)
{
  freemap_note (w->b.fm, &(struct space_run){ blk, nr }, used);
}

#endif /* FARPAGE_TEST_FREEMAP_H */
