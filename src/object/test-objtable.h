/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of the object table share: the table and a plain array of entries,
 * over a whole store: log, cycles, free map, space.  Roots of maps are made up:
 * nobody follows them.
 */

#ifndef FARPAGE_TEST_OBJTABLE_H
#define FARPAGE_TEST_OBJTABLE_H

#include "test-books.h"

#include "objtable.h"

#define NR_MODEL 2000u

struct world {
  struct books b;
  struct space *sp;
  struct objtable *ot;
  lock_t lock;
  struct disk_object model[NR_MODEL]; /* [lock] */
  bool cuts_roots;  /* each cut gives each object another root */
  uint64_t version; /* of those */
  uint64_t id_max;  /* the highest id so far */
};

/* ---- what the flusher and recovery ask ---- */

/* Does the next cut, or the one under way, give this one another root? */
static inline bool
is_due (const struct world *w, unsigned place)
{
  return w->model[place].state != DISK_OBJECT_FREE &&
         (place + w->version) % 5 == 0;
}

/* The places of those that are due at the next cut.  Returns how many. */
static inline unsigned
find_due (struct world *w, unsigned *places)
{
  unsigned nr = 0;

  LOCK_SCOPE (&w->lock);
  w->version += w->cuts_roots;
  for (unsigned i = 0; w->cuts_roots && i < NR_MODEL; i++)
    if (is_due (w, i))
      places[nr++] = i;
  return nr;
}

static inline int
before_cut (void *arg)
{
  struct world *w = arg;
  unsigned places[NR_MODEL];
  unsigned nr = find_due (w, places);
  int err = 0;

  for (unsigned i = 0; i < nr && err == 0; i++) {
    struct change ch;

    change_begin_cut (w->b.fl, &ch);
    err = objtable_before_cut (w->ot, &ch, places[i]);
    change_end (w->b.fl, &ch);
  }
  return err ? err : freemap_before_cut (w->b.fm);
}

static inline int
cut_roots (struct world *w, struct change *ch)
{
  LOCK_SCOPE (&w->lock);
  for (unsigned i = 0; i < NR_MODEL; i++) {
    struct disk_object *e = &w->model[i];
    struct disk_object now = { .id = e->id,
                               .root = { w->version, w->version },
                               .height = (uint32_t) max_u64 (
                                   e->height, w->version % TREE_HEIGHT_MAX),
                               .nr_mapped = w->version % 1000,
                               .nr_zero = 2,
                               .nr_nodes = 3 };
    int err;

    if (!is_due (w, i))
      continue;
    err = objtable_cut_object (w->ot, ch, i, &now);
    if (err)
      return err;
    e->root = now.root;
    e->height = now.height;
    e->nr_mapped = now.nr_mapped;
    e->nr_zero = now.nr_zero;
    e->nr_nodes = now.nr_nodes;
  }
  return 0;
}

static inline int
cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct world *w = arg;
  int err = w->cuts_roots ? cut_roots (w, ch) : 0;

  if (err == 0)
    err = objtable_cut (w->ot, ch, root);
  return err ? err : freemap_cut (w->b.fm, ch, root);
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

static inline int
begin (void *arg, const struct disk_super *root)
{
  struct world *w = arg;
  struct space_run usable = { super_first_block (root, 0), 0 };
  struct space_config sc = {
    .volumes = w->b.v, .nr_volumes = 1, .stripe_blocks = 4, .usable = &usable
  };
  int err = freemap_create (w->b.bs, w->b.fl, root, &w->b.fm);

  usable.nr = root->members[0].nr_blocks - 2 - usable.blk;
  assert_int_equal (space_create (&sc, &w->sp), 0);
  return err ? err
             : objtable_create (w->b.bs, w->b.fl, w->sp, w->b.fm, root, &w->ot);
}

static inline int
redo_node (void *arg, struct change *ch, const struct disk_rec *rec)
{
  struct world *w = arg;

  return objtable_redo_node (w->ot, ch, rec);
}

static inline int
redo_object (void *arg, struct change *ch, const struct disk_rec *rec,
             const struct disk_object *entry)
{
  struct world *w = arg;

  /* What is the cuts' is not in the log. */
  assert_int_equal (entry->root.blk, 0);
  assert_int_equal (entry->nr_mapped + entry->nr_zero + entry->nr_nodes, 0);
  return objtable_redo (w->ot, ch, rec, entry);
}

static inline int
redo_map (void *arg, struct change *ch, const struct disk_rec *rec,
          const uint32_t *crc)
{
  UNUSED (arg);
  UNUSED (ch);
  UNUSED (rec);
  UNUSED (crc);
  return EIO;
}

static const struct recover_ops recover_ops = {
  .begin = begin, .node = redo_node, .object = redo_object, .map = redo_map
};

/* ---- a world ---- */

static inline int
mark_used (void *arg, const struct space_run *run)
{
  struct world *w = arg;

  return space_mark_used (w->sp, run);
}

static inline int
try_open (struct world *w)
{
  int err = books_try_open (&w->b);

  if (err == 0)
    err = freemap_each (w->b.fm, 0, mark_used, w);
  if (err)
    return err;
  assert_int_equal (space_nr_marked (w->sp), objtable_nr_nodes (w->ot));
  assert_int_equal (space_charge (w->sp, objtable_nr_nodes (w->ot)), 0);
  assert_int_equal (flush_start (w->b.fl), 0);
  return 0;
}

static inline void
drop (struct world *w)
{
  if (w->ot != NULL && !flush_failed (w->b.fl))
    assert_null (space_check (w->sp, objtable_nr_nodes (w->ot)));
  flush_destroy (w->b.fl);
  w->b.fl = NULL;
  objtable_destroy (w->ot);
  w->ot = NULL;
  space_destroy (w->sp);
  w->sp = NULL;
  books_drop (&w->b);
}

static inline struct world *
world_of (uint64_t size_bytes, uint64_t nr_buffers)
{
  struct world *w = calloc (1, sizeof *w);

  assert_non_null (w);
  lock_init (&w->lock, LOCK_STORE, "model");
  w->b = (struct books){ .nr_buffers = nr_buffers,
                         .flush_ops = &flush_ops,
                         .recover_ops = &recover_ops,
                         .arg = w };
  books_skip_second ();
  test_log_forget ();
  books_create (&w->b, &size_bytes, 1);
  assert_int_equal (try_open (w), 0);
  return w;
}

static inline struct world *
world_create (uint64_t size_bytes)
{
  return world_of (size_bytes, BUFS_MIN);
}

static inline void
world_destroy (struct world *w)
{
  drop (w);
  books_destroy (&w->b);
  lock_destroy (&w->lock);
  free (w);
}

static inline void
close_world (struct world *w, bool clean)
{
  if (clean)
    assert_int_equal (flush_close (w->b.fl), 0);
  else
    assert_int_equal (flush_commit (w->b.fl, flush_tail (w->b.fl)), 0);
  drop (w);
}

struct each {
  struct world *w;
  uint64_t next;
  bool exact;
};

static inline int
compare_entry (void *arg, uint64_t place, const struct disk_object *entry)
{
  struct each *e = arg;
  struct disk_object want;

  assert_in_range (place, e->next, NR_MODEL - 1);
  for (; e->next < place; e->next++)
    assert_int_equal (e->w->model[e->next].state, DISK_OBJECT_FREE);
  want = e->w->model[e->next++];
  if (!e->exact) { /* as of an older cut */
    assert_in_range (entry->root.blk, 0, want.root.blk);
    assert_in_range (entry->height, 0, want.height);
    want.root = entry->root;
    want.height = entry->height;
    want.nr_mapped = entry->nr_mapped;
    want.nr_zero = entry->nr_zero;
    want.nr_nodes = entry->nr_nodes;
    e->w->model[place] = want;
  }
  assert_memory_equal (entry, &want, sizeof want);
  return 0;
}

static inline void
compare (struct world *w, bool exact)
{
  struct each e = { .w = w, .exact = exact };

  assert_int_equal (objtable_each (w->ot, compare_entry, &e), 0);
  for (; e.next < NR_MODEL; e.next++)
    assert_int_equal (w->model[e.next].state, DISK_OBJECT_FREE);
}

static inline void
reopen (struct world *w, bool clean)
{
  close_world (w, clean);
  assert_int_equal (try_open (w), 0);
  compare (w, clean);
}

/* An entry that is as it should be; height as put () makes it. */
static inline struct disk_object
entry_of (uint64_t id, uint64_t size_bytes)
{
  struct disk_object e = { .id = id,
                           .size_bytes = size_bytes,
                           .state = DISK_OBJECT_LIVE,
                           .created_s = 1234567890 + id };
  uint64_t nr_pages = (size_bytes - 1) / PAGE_BYTES + 1;

  memcpy (e.instance, &id, sizeof id);
  e.height = tree_height ((nr_pages + DISK_MAP_PAGES - 1) / DISK_MAP_PAGES);
  e.name_bytes =
      (uint32_t) snprintf ((char *) e.name, sizeof e.name, "disk-%" PRIu64, id);
  return e;
}

static inline uint64_t
create (struct world *w, uint64_t size_bytes)
{
  struct disk_object e;
  uint64_t place, id, lsn = 0;

  assert_int_equal (objtable_alloc (w->ot, &place, &id), 0);
  assert_in_range (place, 0, NR_MODEL - 1);
  assert_int_equal (w->model[place].state, DISK_OBJECT_FREE);
  assert_true (id > w->id_max);
  w->id_max = id;
  e = entry_of (id, size_bytes);
  assert_int_equal (objtable_put (w->ot, place, &e, &lsn), 0);
  assert_true (lsn > 0 && lsn <= flush_tail (w->b.fl));
  LOCK_SCOPE (&w->lock);
  w->model[place] = e;
  return place;
}

static inline void
set_state (struct world *w, uint64_t place, enum disk_object_state state)
{
  struct disk_object e;
  uint64_t lsn;

  lock_acquire (&w->lock);
  e = w->model[place];
  lock_release (&w->lock);
  e.state = state;
  /* What is the cuts' does not count. */
  e.root = (struct disk_pointer){ 77, 78 };
  e.nr_mapped = e.height = 99;
  assert_int_equal (objtable_put (w->ot, place, &e, &lsn), 0);
  LOCK_SCOPE (&w->lock);
  if (state == DISK_OBJECT_FREE)
    memset (&w->model[place], 0, sizeof w->model[place]);
  else
    w->model[place].state = state;
}

#endif /* FARPAGE_TEST_OBJTABLE_H */
