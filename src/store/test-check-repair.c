/* SPDX-License-Identifier: BSD-2-Clause */
/* Repair: what it puts right and what it leaves; that it writes nothing
 * without an undo file; that undo files put all back; and that it may be
 * interrupted at every write.
 */

#include <config.h>

#include "test-check.h"

#include <sys/stat.h>
#include <unistd.h>

struct rig {
  struct store_made m;
  struct found found;
  struct disk_node node;
  struct check_report left;
  bool go;
  char dir[64], undo[128];
  uint64_t nr_written, nr_planned;
  uint8_t *image[STORE_MAX];
};

static int
begin (void **state)
{
  struct rig *t = calloc (1, sizeof *t);

  made_open (&t->m, 2);
  for (unsigned i = 0; i < t->m.nr; i++)
    t->image[i] = aligned_alloc (PAGE_BYTES, t->m.v[i]->size_bytes);
  snprintf (t->dir, sizeof t->dir, "/tmp/test-check.XXXXXX");
  assert_non_null (mkdtemp (t->dir));
  snprintf (t->undo, sizeof t->undo, "%s/undo", t->dir);
  t->go = true;
  *state = t;
  return 0;
}

static int
end (void **state)
{
  struct rig *t = *state;

  for (unsigned i = 0; i < t->m.nr; i++)
    free (t->image[i]);
  made_close (&t->m);
  unlink (t->undo);
  rmdir (t->dir);
  free (t);
  return 0;
}

static void
image_take (struct rig *t)
{
  for (unsigned i = 0; i < t->m.nr; i++)
    assert_int_equal (
        volume_read (t->m.v[i], 0, t->image[i], t->m.v[i]->size_bytes), 0);
}

static void
image_put (struct rig *t)
{
  for (unsigned i = 0; i < t->m.nr; i++)
    assert_int_equal (
        volume_write (t->m.v[i], 0, t->image[i], t->m.v[i]->size_bytes), 0);
}

static bool
image_is (struct rig *t)
{
  bool same = true;

  for (unsigned i = 0; i < t->m.nr; i++) {
    uint8_t *now = aligned_alloc (PAGE_BYTES, t->m.v[i]->size_bytes);

    assert_int_equal (volume_read (t->m.v[i], 0, now, t->m.v[i]->size_bytes),
                      0);
    same &= memcmp (now, t->image[i], t->m.v[i]->size_bytes) == 0;
    free (now);
  }
  return same;
}

static bool
go (void *arg, uint64_t nr_blocks, const struct check_report *after)
{
  struct found *found = arg;
  struct rig *t =
      (struct rig *) ((char *) found - offsetof (struct rig, found));

  t->left = *after;
  t->nr_planned = nr_blocks;
  return t->go;
}

static int
repair (struct rig *t, bool lose)
{
  struct check_config config = { .volumes = t->m.v,
                                 .nr_volumes = t->m.nr,
                                 .found = found_keep,
                                 .note = found_note,
                                 .arg = &t->found };
  struct check_repair r = { .lose_pages = lose,
                            .undo_path = t->undo,
                            .go = go };

  unlink (t->undo);
  memset (&t->found, 0, sizeof t->found);
  memset (&t->left, 0, sizeof t->left);
  t->nr_written = 0;
  return check_repair (&config, &r, &t->found.report, &t->nr_written);
}

static void
expect_clean (struct rig *t)
{
  assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, true), 0);
  found_none (&t->found);
}

/* Repair, see that it is clean, go back by the undo file, and leave it. */
static void
repair_and_undo (struct rig *t, bool lose)
{
  uint64_t nr = 0;

  image_take (t);
  t->go = false;
  assert_int_equal (repair (t, lose), 0);
  assert_int_equal (t->nr_written, 0);
  assert_true (image_is (t));
  assert_int_equal (access (t->undo, F_OK), -1);
  t->go = true;
  assert_int_equal (repair (t, lose), 0);
  assert_true (t->found.nr > 0 && t->nr_written > 0);
  assert_int_equal (t->left.nr_all, 0);
  expect_clean (t);
  assert_int_equal (check_restore (t->undo, t->m.v, t->m.nr, &nr), 0);
  assert_int_equal (nr, t->nr_written);
  assert_true (image_is (t));
  assert_int_equal (repair (t, lose), 0);
  expect_clean (t);
}

static struct disk_node *
get (struct rig *t, struct disk_pointer at)
{
  blk_io (&t->m, VIO_READ, at.blk, &t->node);
  return &t->node;
}

static void
put (struct rig *t)
{
  node_store (&t->m, &t->node);
}

/* ---- damage, one kind each; true: pages must be given up ---- */

static bool
bad_slots (struct rig *t)
{
  uint8_t zeros[PAGE_BYTES] = { 0 };

  for (unsigned slot = 0; slot < DISK_SUPER_SLOTS; slot++)
    for (unsigned i = 0; i < 2; i++)
      if (slot != t->m.root.slot || i == 1)
        if (!(i == 1 && slot == 2))
          blk_io (&t->m, VIO_WRITE,
                  blkno_make (i, super_slot_block (
                                     t->m.root.members[i].nr_blocks, slot)),
                  zeros);
  return false;
}

static bool
bad_counts (struct rig *t)
{
  struct disk_object *e =
      ((struct disk_table *) get (t, t->m.table[0])->body)->object;

  e[0].nr_mapped = 3;
  e[0].nr_zero = 0;
  e[2].nr_nodes = 9;
  t->node.nr_used = 5;
  put (t);
  get (t, t->m.a_root)->nr_used++;
  put (t);
  get (t, t->m.b_leaf)->nr_used++;
  put (t);
  t->m.root.next_object = ID_A;
  make_slots (&t->m);
  return false;
}

static bool
bad_bits (struct rig *t)
{
  get (t, t->m.root.members[1].freemap);
  t->node.body[0] = 0x5f; /* 5, 7 are free */
  t->node.body[40] = 0xff;
  put (t);
  return false;
}

static bool
bad_freemap (struct rig *t)
{
  get (t, t->m.root.members[0].freemap)->body[77] ^= 1;
  blk_io (&t->m, VIO_WRITE, t->node.blk, &t->node);
  return false;
}

static bool
bad_leaf (struct rig *t)
{
  get (t, t->m.a_leaf[0])->body[77] ^= 1;
  blk_io (&t->m, VIO_WRITE, t->node.blk, &t->node);
  return true;
}

static bool
bad_inner (struct rig *t)
{
  get (t, t->m.a_root)->cycle++;
  put (t);
  return true;
}

static bool
bad_pointer (struct rig *t)
{
  ((struct disk_inner *) get (t, t->m.a_root)->body)->child[3].blk = 77777;
  put (t);
  return true;
}

static bool
bad_entry (struct rig *t)
{
  ((struct disk_map *) get (t, t->m.a_leaf[0])->body)->word[3] = UINT64_MAX;
  ((struct disk_map *) t->node.body)->word[4] = swmeta_word (SWMETA_BLOCK, 1);
  put (t);
  return true;
}

static bool
bad_twice (struct rig *t)
{
  struct disk_map *map = (struct disk_map *) get (t, t->m.a_leaf[0])->body;

  map->word[2] = map->word[1];                               /* 1 keeps it */
  map->word[3] = swmeta_word (SWMETA_BLOCK, t->m.b_page[0]); /* b keeps it */
  map->word[4] = swmeta_word (SWMETA_BLOCK, t->m.table[0].blk);
  put (t);
  return true;
}

static struct disk_object *
entries (struct rig *t)
{
  return ((struct disk_table *) get (t, t->m.table[0])->body)->object;
}

static bool
bad_same (struct rig *t)
{
  struct disk_object *e = entries (t);

  e[2].name[0] = 'a';
  memcpy (e[2].instance, e[0].instance, sizeof e[2].instance);
  put (t);
  return false;
}

/* Blocks that nothing uses, which stay, on either side of some that are. */
static bool
bad_retired (struct rig *t)
{
  struct disk_retired *r = t->m.root.retired;

  r[0] = (struct disk_retired){ blkno_make (1, t->m.next[1] - 2), 10, 0 };
  r[1] = (struct disk_retired){ t->m.a_page[4], 2, 0 };
  r[2] = (struct disk_retired){ blkno_make (0, 200), 1, 0 };
  make_slots (&t->m);
  return false;
}

static bool (*const damages[]) (struct rig *t) = {
  bad_slots,   bad_counts, bad_bits,  bad_freemap, bad_leaf,    bad_inner,
  bad_pointer, bad_entry,  bad_twice, bad_same,    bad_retired,
};

static void
test_each (void **state)
{
  struct rig *t = *state;

  for (unsigned i = 0; i < ARRAY (damages); i++) {
    bool lose = damages[i](t);

    print_message ("damage %u\n", i);
    repair_and_undo (t, lose);
    end (state);
    begin (state);
    t = *state;
  }
}

/* The map keeps its blocks, and the list the others. */
static void
test_retired (void **state)
{
  struct rig *t = *state;
  struct supers *s = calloc (1, sizeof *s);
  const struct disk_retired *r = s->root.retired;
  uint64_t end = t->m.next[1];

  (void) bad_retired (t);
  assert_int_equal (repair (t, false), 0);
  assert_int_equal (t->found.nr, 2);
  assert_int_equal (t->left.nr_all, 0);
  assert_int_equal (t->nr_written, 1); /* a slot */
  expect_clean (t);
  assert_int_equal (t->found.report.nr_retired, 9);
  assert_int_equal (supers_read (t->m.v, t->m.nr, s), 0);
  assert_int_equal (r[0].blk, blkno_make (1, end));
  assert_int_equal (r[0].nr, 8);
  assert_int_equal (r[1].blk, 200);
  assert_int_equal (r[1].nr, 1);
  assert_int_equal (r[2].nr, 0);
  free (s);
}

static void
test_all_at_once (void **state)
{
  struct rig *t = *state;

  for (unsigned i = 1; i < ARRAY (damages); i++)
    if (damages[i] != bad_inner)
      (void) damages[i](t);
  (void) bad_slots (t);
  repair_and_undo (t, true);
}

/* Without lose_pages nothing that was is given up, and no block that may be
 * one's is made free.
 */
static void
test_keep (void **state)
{
  struct rig *t = *state;

  for (unsigned i = 0; i < ARRAY (damages); i++) {
    if (damages[i](t)) {
      image_take (t);
      assert_int_equal (repair (t, false), 0);
      assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, true), 0);
      assert_true (t->found.nr > 0);
    }
    end (state);
    begin (state);
    t = *state;
  }
  (void) bad_leaf (t);
  (void) bad_bits (t);
  image_take (t);
  assert_int_equal (repair (t, false), 0);
  assert_true (found_has (&t->found, CHECK_LOST, "in use from now on"));
  assert_false (found_has (&t->found, CHECK_LEAKED, "free from now on"));
  assert_int_equal (t->nr_written, 1);
  assert_true (t->left.nr_all > 0);
}

static void
test_twice_keeps (void **state)
{
  struct rig *t = *state;
  const struct disk_map *map;

  (void) bad_twice (t);
  assert_int_equal (repair (t, true), 0);
  found_expect (&t->found, CHECK_TWICE, "the first keeps it");
  map = (const struct disk_map *) get (t, t->m.a_leaf[0])->body;
  assert_int_equal (map->word[1], swmeta_word (SWMETA_BLOCK, t->m.a_page[1]));
  for (unsigned i = 2; i < 5; i++)
    assert_true (map->word[i] == 0 && map->crc[i] == 0);
  map = (const struct disk_map *) get (t, t->m.b_leaf)->body;
  assert_int_equal (map->word[0], swmeta_word (SWMETA_BLOCK, t->m.b_page[0]));
  expect_clean (t);
  assert_int_equal (t->found.report.nr_mapped, 11 + B_PAGES - 3);
}

/* The older one stays as it is, and a name stays a name, however long. */
static void
test_same (void **state)
{
  struct rig *t = *state;
  struct disk_object *e;
  char name[256];

  (void) bad_same (t);
  assert_int_equal (repair (t, false), 0);
  found_expect (&t->found, CHECK_OBJECT, "its id is put behind its name");
  found_expect (&t->found, CHECK_OBJECT, "it gets a new one");
  expect_clean (t);
  e = entries (t);
  assert_string_equal ((char *) e[0].name, "a");
  assert_string_equal ((char *) e[2].name, "a.1001");
  assert_int_equal (e[2].name_bytes, 6);
  assert_memory_not_equal (e[0].instance, e[2].instance, 16);
  for (unsigned i = 0; i < 254; i += 2)
    memcpy (name + i, "\xc3\xa4", 2);
  name[254] = 'x';
  for (unsigned i = 0; i < 3; i += 2) {
    memcpy (e[i].name, name, 255);
    e[i].name_bytes = 255;
  }
  put (t);
  assert_int_equal (repair (t, false), 0);
  expect_clean (t);
  e = entries (t);
  assert_memory_equal (e[0].name, name, 255);
  assert_memory_equal (e[2].name, name, 250);
  assert_memory_equal (e[2].name + 250, ".1001", 6);
}

/* What is not repaired, and what to do then. */
static void
test_told (void **state)
{
  struct rig *t = *state;

  entries (t)[2].id = ID_A;
  put (t);
  assert_int_equal (repair (t, true), 0);
  assert_non_null (strstr (t->found.notes, "put back copies of all its"));
  assert_true (t->left.nr_all > 0 || t->nr_written == 0);
  entries (t)[2].id = ID_B;
  t->node.cycle++;
  put (t);
  assert_int_equal (repair (t, true), 0);
  assert_non_null (strstr (t->found.notes, "disks below a node of the table"));
  assert_true (t->left.nr_all > 0 || t->nr_written == 0);
}

/* Every write of a repair fails, and all after it: a second repair makes it
 * good, and so does the undo file.
 */
static void
test_interrupted (void **state)
{
  struct rig *t = *state;
  unsigned n = 0;
  int err = EIO;

  for (unsigned i = 1; i < ARRAY (damages); i++)
    if (damages[i] != bad_inner)
      (void) damages[i](t);
  (void) bad_slots (t);
  image_take (t);
  for (; err != 0; n++) {
    struct fault_rule rule = {
      .action = FAULT_FAIL, .op = VIO_WRITE, .skip = n / 2, .error = EIO
    };
    uint64_t nr_back;

    for (unsigned i = 0; i < t->m.nr; i++)
      fault_add (t->m.v[i], &rule);
    err = repair (t, true);
    assert_true (err == 0 || err == EIO);
    for (unsigned i = 0; i < t->m.nr; i++)
      fault_clear (t->m.v[i]);
    if (n % 2 == 0) {
      assert_int_equal (repair (t, true), 0);
      expect_clean (t);
    } else {
      assert_int_equal (check_restore (t->undo, t->m.v, t->m.nr, &nr_back), 0);
      assert_true (image_is (t));
    }
    image_put (t);
  }
  assert_true (n > 10 && t->nr_planned >= n / 2);
  print_message ("interrupted %u times\n", n - 1);
}

/* Undo files that are not whole, or not ours. */
static void
test_undo_file (void **state)
{
  struct rig *t = *state;
  struct store_made other;
  uint64_t nr = 0;
  struct stat st;
  FILE *fp;

  (void) bad_bits (t);
  (void) bad_counts (t);
  assert_int_equal (repair (t, false), 0);
  image_take (t);
  assert_int_equal (stat (t->undo, &st), 0);
  assert_int_equal (st.st_mode & 0777, 0600);
  for (long at = 0; at < st.st_size; at += 97) {
    int c;

    fp = fopen (t->undo, "r+");
    fseek (fp, at, SEEK_SET);
    c = fgetc (fp);
    fseek (fp, at, SEEK_SET);
    fputc (c ^ 4, fp);
    fclose (fp);
    assert_int_not_equal (check_restore (t->undo, t->m.v, t->m.nr, &nr), 0);
    fp = fopen (t->undo, "r+");
    fseek (fp, at, SEEK_SET);
    fputc (c, fp);
    fclose (fp);
  }
  made_open (&other, 2);
  assert_int_equal (check_restore (t->undo, other.v, 2, &nr), EINVAL);
  made_close (&other);
  assert_int_equal (check_restore (t->undo, t->m.v, 1, &nr), EINVAL);
  assert_int_equal (check_restore ("/nowhere/undo", t->m.v, 2, &nr), ENOENT);
  assert_int_equal (truncate (t->undo, st.st_size - 1), 0);
  assert_int_equal (check_restore (t->undo, t->m.v, 2, &nr), EUCLEAN);
  assert_true (image_is (t));
  assert_int_equal (nr, 0);
}

static void
test_no_undo (void **state)
{
  struct rig *t = *state;
  struct check_config config = { .volumes = t->m.v, .nr_volumes = 2 };
  struct check_repair r = { .undo_path = "/nowhere/undo" };
  struct check_report report;
  uint64_t nr = 7;
  FILE *fp;

  (void) bad_bits (t);
  image_take (t);
  assert_int_equal (check_repair (&config, &r, &report, &nr), ENOENT);
  r.undo_path = t->undo;
  fp = fopen (t->undo, "w");
  fclose (fp);
  assert_int_equal (check_repair (&config, &r, &report, &nr), EEXIST);
  assert_int_equal (nr, 7);
  assert_true (image_is (t));
  r.undo_path = "/dev/full";
  assert_int_equal (check_repair (&config, &r, &report, &nr), EEXIST);
}

/* Features of a later farpage that forbid writing, on any volume. */
static void
test_features (void **state)
{
  struct rig *t = *state;

  (void) bad_bits (t);
  for (unsigned i = 0; i < t->m.nr; i++) {
    image_take (t);
    for (unsigned slot = 0; slot < DISK_SUPER_SLOTS; slot++) {
      uint64_t nr_blocks = t->m.root.members[i].nr_blocks;
      uint64_t blk = blkno_make (i, super_slot_block (nr_blocks, slot));
      struct disk_super super;

      blk_io (&t->m, VIO_READ, blk, &super);
      super.ro_compat = 4;
      node_seal ((struct disk_node *) &super);
      blk_io (&t->m, VIO_WRITE, blk, &super);
    }
    assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, true), 0);
    assert_non_null (strstr (t->found.notes, "has features"));
    assert_int_equal (repair (t, true), EINVAL);
    found_expect (&t->found, CHECK_VOLUME, "and not repaired");
    assert_int_equal (t->nr_written, 0);
    image_put (t);
  }
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_each),      CASE (test_all_at_once), CASE (test_keep),
    CASE (test_retired),   CASE (test_twice_keeps), CASE (test_interrupted),
    CASE (test_undo_file), CASE (test_no_undo),     CASE (test_features),
    CASE (test_same),      CASE (test_told),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
