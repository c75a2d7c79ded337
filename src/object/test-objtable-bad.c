/* SPDX-License-Identifier: BSD-2-Clause */
/* The object table where something is wrong: entries that cannot be, on their
 * way in, on the medium and in the log; no place, no space.
 */

#include <config.h>

#include "test-objtable.h"

/* ---- what is refused ---- */

static void
bad_state (struct disk_object *e)
{
  e->state = 3;
}
static void
bad_flags (struct disk_object *e)
{
  e->flags = 8;
}
static void
bad_id (struct disk_object *e)
{
  e->id = DISK_TREE_FIRST - 1;
}
static void
bad_id_high (struct disk_object *e)
{
  e->id = UINT64_MAX;
}
static void
no_instance (struct disk_object *e)
{
  memset (e->instance, 0, sizeof e->instance);
}
static void
no_size (struct disk_object *e)
{
  e->size_bytes = 0;
}
static void
bad_size (struct disk_object *e)
{
  e->size_bytes = OBJECT_BYTES_MAX + 1;
}
static void
no_name (struct disk_object *e)
{
  e->name_bytes = 0;
}
static void
long_name (struct disk_object *e)
{
  e->name_bytes = 256;
}
static void
nul_in_name (struct disk_object *e)
{
  e->name[2] = 0;
}
static void
behind_name (struct disk_object *e)
{
  e->name[255] = 'x';
}
static void
bad_seal (struct disk_object *e)
{
  e->seal[31] = 1;
}
static void
bad_spare (struct disk_object *e)
{
  e->spare[sizeof e->spare - 1] = 1;
}
static void
old_not_larger (struct disk_object *e)
{
  e->old_bytes = e->size_bytes;
}
static void
old_too_large (struct disk_object *e)
{
  e->old_bytes = OBJECT_BYTES_MAX + 1;
}
/* Those that a put does not look at. */
static void
bad_height (struct disk_object *e)
{
  e->height = TREE_HEIGHT_MAX + 1;
}
static void
low_height (struct disk_object *e)
{
  e->size_bytes = UINT64_C (300) * PAGE_BYTES;
  e->height = 0;
}
static void
half_root (struct disk_object *e)
{
  e->root.blk = 5;
}
static void
much_mapped (struct disk_object *e)
{
  e->nr_mapped = 257;
}
static void
very_much_mapped (struct disk_object *e)
{
  e->nr_mapped = 1;
  e->nr_zero = UINT64_MAX;
}
static void
free_not_empty (struct disk_object *e)
{
  memset (e, 0, sizeof *e);
  e->created_s = 1;
}

static const struct {
  void (*change) (struct disk_object *e);
  const char *words;
  bool put; /* refused there, too */
} bad[] = {
  { bad_state, "state is unknown", true },
  { bad_flags, "flags that are unknown", true },
  { bad_id, "id cannot be", true },
  { bad_id_high, "id cannot be", true },
  { no_instance, "no instance", true },
  { no_size, "size is out of range", true },
  { bad_size, "size is out of range", true },
  { no_name, "no name", true },
  { long_name, "name is too long", true },
  { nul_in_name, "not as long as is said", true },
  { behind_name, "not as long as is said", true },
  { bad_seal, "spare bytes", true },
  { bad_spare, "spare bytes", true },
  { old_not_larger, "size before", true },
  { old_too_large, "size before", true },
  { bad_height, "does not fit its size", false },
  { low_height, "does not fit its size", false },
  { half_root, "half a pointer", false },
  { much_mapped, "more of it is mapped", false },
  { very_much_mapped, "more of it is mapped", false },
  { free_not_empty, "not empty", false },
};

/* Nothing that could not be read again is put; the place is free then, or as
 * it was.
 */
static void
test_refused (void **state)
{
  struct world *w = world_create (16 * MIB);
  uint64_t place, id, lsn, next;
  struct disk_object e;

  UNUSED (state);
  create (w, MIB);
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (!bad[i].put)
      continue;
    assert_int_equal (objtable_alloc (w->ot, &place, &id), 0);
    assert_int_equal (place, 1);
    e = entry_of (id, MIB);
    bad[i].change (&e);
    assert_int_equal (objtable_put (w->ot, place, &e, &lsn), EINVAL);
    e = w->model[0];
    bad[i].change (&e);
    assert_int_equal (objtable_put (w->ot, 0, &e, &lsn), EINVAL);
  }
  /* A larger size has a level more, which a smaller one keeps. */
  e = w->model[0];
  e.size_bytes = 2 * MIB;
  assert_int_equal (objtable_put (w->ot, 0, &e, &lsn), 0);
  e.size_bytes = MIB - 5;
  e.old_bytes = 2 * MIB;
  assert_int_equal (objtable_put (w->ot, 0, &e, &lsn), 0);
  e.height = 1;
  w->model[0] = e;
  assert_int_equal (objtable_alloc (w->ot, &next, &id), 0);
  assert_int_equal (next, 1);
  /* Taken and put back; and a place that never was put. */
  objtable_free (w->ot, 1);
  assert_int_equal (objtable_alloc (w->ot, &next, &id), 0);
  assert_int_equal (next, 1);
  memset (&e, 0, sizeof e);
  assert_int_equal (objtable_put (w->ot, 1, &e, &lsn), 0);
  reopen (w, true);
  world_destroy (w);
}

/* All places but no more. */
static void
test_full (void **state)
{
  struct world *w = world_create (16 * MIB);
  uint64_t place, id;

  UNUSED (state);
  for (uint64_t i = 0; i < OBJTABLE_MAX; i++) {
    assert_int_equal (objtable_alloc (w->ot, &place, &id), 0);
    assert_int_equal (place, i);
    assert_int_equal (id, DISK_TREE_FIRST + i);
  }
  assert_int_equal (objtable_alloc (w->ot, &place, &id), ENOSPC);
  objtable_free (w->ot, 40000);
  assert_int_equal (objtable_alloc (w->ot, &place, &id), 0);
  assert_int_equal (place, 40000);
  assert_int_equal (objtable_alloc (w->ot, &place, &id), ENOSPC);
  world_destroy (w);
}

/* No block for a node: the place is free again, and nothing is lost. */
static void
test_no_space (void **state)
{
  struct world *w = world_create (16 * MIB);
  struct space_stat st;
  struct disk_object e;
  uint64_t place, id, lsn, rest;

  UNUSED (state);
  space_stat (w->sp, &st);
  for (uint64_t left = 0; left < 3; left++) {
    rest = st.nr_charge_max - left;
    assert_int_equal (space_charge (w->sp, rest), 0);
    assert_int_equal (objtable_alloc (w->ot, &place, &id), 0);
    assert_int_equal (place, 0);
    e = entry_of (id, MIB);
    w->id_max = id;
    assert_int_equal (objtable_put (w->ot, place, &e, &lsn), ENOSPC);
    space_uncharge (w->sp, rest);
    assert_null (space_check (w->sp, 0));
  }
  create (w, MIB);
  reopen (w, false);
  /* In a leaf that is there it needs none. */
  space_stat (w->sp, &st);
  rest = st.nr_charge_max - st.nr_charged;
  assert_int_equal (space_charge (w->sp, rest), 0);
  for (unsigned i = 0; i < 6; i++)
    create (w, MIB);
  space_uncharge (w->sp, rest);
  reopen (w, true);
  world_destroy (w);
}

/* ---- damage ---- */

static void (*change_entry) (struct disk_object *e);

static void
change_third (struct disk_node *node)
{
  change_entry (&((struct disk_table *) node->body)->object[2]);
}

static void
second_id (struct disk_object *e)
{
  e->id--;
}

static void
change_count (struct disk_node *node)
{
  node->nr_used++;
}

/* The only leaf's block. */
static uint64_t
leaf_block (struct world *w)
{
  struct disk_node *node = aligned_alloc (PAGE_BYTES, PAGE_BYTES);
  uint64_t blk = w->b.s.root.table.blk;

  for (unsigned level = 2; level > 0; level--) {
    assert_int_equal (
        volume_read (w->b.v[0], blk * PAGE_BYTES, node, PAGE_BYTES), 0);
    assert_int_equal (node->level, level);
    blk = ((struct disk_inner *) node->body)->child[0].blk;
  }
  free (node);
  return blk;
}

static void
damaged (void (*change) (struct disk_node *node), const char *words)
{
  struct world *w = world_create (16 * MIB);
  uint64_t blk;

  for (unsigned i = 0; i < 4; i++)
    create (w, MIB);
  assert_int_equal (flush_close (w->b.fl), 0);
  blk = leaf_block (w);
  drop (w);
  if (change != NULL)
    books_poke (&w->b, blk, change);
  else
    books_fail_reads (&w->b, blk);
  books_skip_second ();
  assert_int_equal (try_open (w), EIO);
  assert_null (w->ot);
  if (words != NULL && test_log_has (words) != 1)
    fail_msg ("not told: %s", words);
  world_destroy (w);
}

static void
test_damage (void **state)
{
  UNUSED (state);
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    change_entry = bad[i].change;
    damaged (change_third, bad[i].words);
  }
  change_entry = second_id;
  damaged (change_third, "two objects have one id");
  damaged (change_count, "count is wrong");
  damaged (NULL, NULL);
}

/* Records that cannot be. */
static void
test_bad_records (void **state)
{
  struct world *w = world_create (16 * MIB);
  struct disk_object e;
  struct disk_rec rec = { .type = DISK_REC_OBJECT };
  struct change ch;

  UNUSED (state);
  create (w, MIB);
  e = w->model[0];
  assert_int_equal (change_begin (w->b.fl, 4, &ch), 0);
  ch.quiet = true;
  rec.object = e.id;
  rec.pgno = OBJTABLE_MAX;
  assert_int_equal (objtable_redo (w->ot, &ch, &rec, &e), EIO);
  rec.pgno = 7; /* no leaf */
  assert_int_equal (objtable_redo (w->ot, &ch, &rec, &e), EIO);
  rec.pgno = 1;
  rec.object++;
  assert_int_equal (objtable_redo (w->ot, &ch, &rec, &e), EIO);
  rec.object = 5;
  assert_int_equal (objtable_redo (w->ot, &ch, &rec, &e), EIO);
  rec.object = e.id;
  e.flags = 8;
  assert_int_equal (objtable_redo (w->ot, &ch, &rec, &e), EIO);
  rec.type = DISK_REC_UNNODE;
  assert_int_equal (objtable_redo_node (w->ot, &ch, &rec), EIO);
  change_end (w->b.fl, &ch);
  compare (w, true);
  world_destroy (w);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_refused),     cmocka_unit_test (test_full),
    cmocka_unit_test (test_no_space),    cmocka_unit_test (test_damage),
    cmocka_unit_test (test_bad_records),
  };

  log_set (test_log_keep, NULL);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
