/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: damage of superblocks, log and object table is found, named, and
 * nothing else is; stopping; what it costs. */

#include <config.h>

#include "test-check-rig.h"

#include "env.h"

/* ---- nothing is wrong ---- */

static void
test_clean (void **state)
{
  struct rig *t = *state;
  const struct check_report *r = &t->found.report;
  struct volume *turned[2] = { t->m.v[1], t->m.v[0] };

  check_data (t);
  found_none (&t->found);
  assert_true (r->whole && r->closed && !r->recovered);
  assert_int_equal (r->nr_objects, 2);
  assert_int_equal (r->nr_nodes, 3 + 3 + 1);
  assert_int_equal (r->nr_mapped, 11 + B_PAGES);
  assert_int_equal (r->nr_zero, 3);
  assert_int_equal (r->nr_verified, 11 + B_PAGES);
  assert_int_equal (r->nr_blocks, 3 * MIB / PAGE_BYTES);
  assert_int_equal (r->nr_used, 2 * 4 + 128 + 2 + 7 + 16);
  assert_true (r->memory_bytes > 0);
  assert_int_equal (found_run (&t->found, turned, 2, true), 0);
  found_none (&t->found);
  assert_null (check_store_images (t->m.v, 2, false));
}

static void
test_empty (void **state)
{
  struct rig *t = *state;

  made_close (&t->m);
  made_format (&t->m, 3);
  check_data (t);
  found_none (&t->found);
  assert_true (t->found.report.whole);
}

/* ---- superblocks and volumes ---- */

/* Each slot of the root in turn with a wrong CRC: it is no finding where a
 * crash may have left it, that is where the next superblock goes.
 */
static void
test_cut_off_slots (struct rig *t)
{
  uint64_t nr_blocks = t->m.v[0]->size_bytes / PAGE_BYTES;
  uint8_t page[PAGE_BYTES];

  make_slots (&t->m);
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    uint64_t blk = blkno_make (0, super_slot_block (nr_blocks, i));
    bool next = i == (t->m.root.sequence + 1) % DISK_SUPER_SLOTS;
    unsigned nr_before;

    check (t);
    nr_before = t->found.nr;
    blk_io (&t->m, VIO_READ, blk, page);
    page[3000] ^= 1;
    blk_io (&t->m, VIO_WRITE, blk, page);
    check (t);
    assert_true (t->found.report.whole);
    if (i != t->m.root.sequence % DISK_SUPER_SLOTS)
      assert_int_equal (t->found.nr, nr_before + !next);
    page[3000] ^= 1;
    blk_io (&t->m, VIO_WRITE, blk, page);
  }
}

static void
test_slots (void **state)
{
  struct rig *t = *state;
  uint8_t page[PAGE_BYTES] = { 0 };
  uint64_t nr_blocks = t->m.v[1]->size_bytes / PAGE_BYTES;

  blk_io (&t->m, VIO_WRITE, blkno_make (1, super_slot_block (nr_blocks, 3)),
          page);
  check (t);
  found_only (&t->found, CHECK_SLOT,
              "vb: block 511: superblock slot 3: there is no superblock");
  assert_true (t->found.report.whole);
  test_cut_off_slots (t);
  for (unsigned i = 0; i < 4; i++)
    blk_io (&t->m, VIO_READ, blkno_make (1, super_slot_block (nr_blocks, 0)),
            page);
  page[300] ^= 1;
  for (unsigned i = 0; i < 4; i++)
    blk_io (&t->m, VIO_WRITE, blkno_make (1, super_slot_block (nr_blocks, i)),
            page);
  check (t);
  assert_int_equal (t->found.nr, 4);
  found_expect (&t->found, CHECK_SLOT, "slot 2: its CRC is wrong");
  assert_false (t->found.report.whole);
}

static void
test_volumes (void **state)
{
  struct rig *t = *state;
  struct volume *v[3] = { t->m.v[0], t->m.v[0], NULL };
  struct store_made other;

  assert_int_equal (found_run (&t->found, v, 1, false), EINVAL);
  found_only (&t->found, CHECK_VOLUME,
              "va: is of a store of 2 volumes, and "
              "number 1 is missing");
  assert_int_equal (found_run (&t->found, v, 2, false), EINVAL);
  found_expect (&t->found, CHECK_VOLUME, "and so is va");
  made_open (&other, 2);
  v[1] = other.v[1];
  assert_int_equal (found_run (&t->found, v, 2, false), EINVAL);
  found_expect (&t->found, CHECK_VOLUME, "belongs to another store than va");
  made_close (&other);
  assert_int_equal (volume_open_memory ("none", MIB, true, &v[1]), 0);
  assert_int_equal (found_run (&t->found, v, 2, false), EINVAL);
  found_only (&t->found, CHECK_VOLUME, "none: is no volume of a durable store");
  volume_close (v[1]);
  assert_int_equal (found_run (&t->found, v, 0, false), EINVAL);
}

static void
test_older (void **state)
{
  struct rig *t = *state;

  t->m.root.epoch += 1;
  make_slots (&t->m);
  assert_int_equal (found_run (&t->found, t->m.v, 2, false), EINVAL);
  found_only (&t->found, CHECK_VOLUME, "vb: is older (epoch 1)");
}

/* ---- the log ---- */

static void
log_put (struct rig *t, uint64_t lsn, uint64_t epoch, uint64_t durable)
{
  struct disk_log log = { .magic = DISK_LOG_MAGIC,
                          .version = 1,
                          .kind = DISK_LOG_REDO,
                          .lsn = lsn,
                          .epoch = epoch,
                          .durable = durable };
  uint64_t at = lsn % t->m.root.ring_blocks;

  memcpy (log.uuid, t->m.root.uuid, sizeof log.uuid);
  log.crc = crc32c (0, &log, DISK_CRC_OFF);
  blk_io (&t->m, VIO_WRITE, t->m.root.ring_first + at, &log);
}

static void
test_log (void **state)
{
  struct rig *t = *state;

  t->m.root.state = DISK_IN_USE;
  make_slots (&t->m);
  check (t);
  found_none (&t->found); /* not closed, and nothing to be redone */
  assert_false (t->found.report.closed);
  log_put (t, 5, 1, 1); /* dropped */
  check (t);
  found_none (&t->found);
  log_put (t, 5, 1, 2);
  check (t);
  found_only (&t->found, CHECK_LOG,
              "va: block 3: log block 1: is damaged: it was durable");
  assert_false (t->found.report.whole);
  log_put (t, 1 + t->m.root.ring_blocks, 1, 1);
  check (t);
  found_only (&t->found, CHECK_LOG, "of a later turn");
}

/* Far ahead, and not where the log begins: whether or not it was closed. */
static void
test_log_far (void **state)
{
  struct rig *t = *state;

  for (unsigned closed = 0; closed < 2; closed++) {
    t->m.root.state = closed ? DISK_CLEAN : DISK_IN_USE;
    make_slots (&t->m);
    log_put (t, 5 + 3 * t->m.root.ring_blocks, 1, 1);
    check (t);
    found_only (&t->found, CHECK_LOG,
                "va: block 7: log block 5: is of a later turn");
    assert_false (t->found.report.whole);
    log_put (t, 5, 1, 1); /* dropped */
    check (t);
    found_none (&t->found);
  }
}

static void
test_log_short (void **state)
{
  struct rig *t = *state;

  t->m.root.state = DISK_IN_USE;
  t->m.root.durable_lsn = 3;
  make_slots (&t->m);
  check (t);
  found_only (&t->found, CHECK_LOG, "log block 1: is missing");
}

/* ---- the object table ---- */

static void
test_entry (void **state)
{
  struct rig *t = *state;
  struct disk_object *e;
  static const struct {
    size_t off;
    const char *words;
  } cases[] = {
    { offsetof (struct disk_object, instance), NULL },
    { offsetof (struct disk_object, flags) + 2, "has unknown flags" },
    { offsetof (struct disk_object, state) + 1, "its state is unknown" },
    { offsetof (struct disk_object, id) + 7, "its id is impossible" },
    { offsetof (struct disk_object, size_bytes) + 7, "size is out of range" },
    { offsetof (struct disk_object, height), "height does not fit its size" },
    { offsetof (struct disk_object, old_bytes),
      "its size before is out of range" },
    { offsetof (struct disk_object, nr_zero) + 7, "more of it is mapped" },
    { offsetof (struct disk_object, seal) + 7, "spare bytes are not zero" },
    { offsetof (struct disk_object, spare) + 7, "spare bytes are not zero" },
    { offsetof (struct disk_object, name), "has a control character" },
    { offsetof (struct disk_object, name) + 1, "not as long as it says" },
    { offsetof (struct disk_object, name_bytes), "the name is empty" },
    { offsetof (struct disk_object, name_bytes) + 3, "its name is too long" },
  };

  for (unsigned i = 0; i < ARRAY (cases); i++) {
    e = get_entries (t);
    ((uint8_t *) &e[2])[cases[i].off] =
        cases[i].off == offsetof (struct disk_object, name)         ? 7
        : cases[i].off == offsetof (struct disk_object, name_bytes) ? 0
                                                                    : 0x77;
    if (cases[i].off == offsetof (struct disk_object, name_bytes))
      e[2].name[0] = 0;
    put (t);
    check (t);
    if (cases[i].words != NULL)
      found_expect (&t->found, CHECK_OBJECT, cases[i].words);
    else
      found_none (&t->found);
    e = get_entries (t);
    memset (&e[2], 0, sizeof e[2]);
    entry_make (&e[2], ID_B, "b", B_PAGES, t->m.b_leaf);
    e[2].nr_mapped = B_PAGES;
    e[2].nr_nodes = 1;
    put (t);
  }
  check (t);
  found_none (&t->found);
  e = get_entries (t);
  e[1].id = 5;
  put (t);
  check (t);
  found_only (&t->found, CHECK_OBJECT, "its place is free and not empty");
}

static void
test_same (void **state)
{
  struct rig *t = *state;
  struct disk_object *e = get_entries (t);

  e[2].name[0] = 'a';
  put (t);
  check (t);
  found_only (&t->found, CHECK_OBJECT,
              "place 2, 'a' (0x1001): another object "
              "has its name");
  e = get_entries (t);
  e[2].name[0] = 'b';
  memcpy (e[2].instance, e[0].instance, sizeof e[2].instance);
  put (t);
  check (t);
  found_only (&t->found, CHECK_OBJECT, "another object has its instance");
  e = get_entries (t);
  e[2].instance[0] ^= 1;
  e[2].id = ID_A;
  put (t);
  check (t);
  found_expect (&t->found, CHECK_OBJECT, "another object has its id");
  found_expect (&t->found, CHECK_LEAKED,
                "vb: blocks 3-7: nothing that can be read");
}

/* Blocks that failed a write are told, and are no damage; but if a map has
 * them, or the table.
 */
static void
test_retired (void **state)
{
  struct rig *t = *state;
  struct disk_retired *r = t->m.root.retired;

  r[0] = (struct disk_retired){ blkno_make (1, 200), 7, 0 };
  r[1] = (struct disk_retired){ blkno_make (0, t->m.next[0]), 1, 0 };
  make_slots (&t->m);
  check_data (t);
  found_none (&t->found);
  assert_int_equal (t->found.report.nr_retired, 8);
  assert_non_null (strstr (t->found.notes, "vb: 7 blocks from 200 on failed"));
  assert_non_null (strstr (t->found.notes, "va: 1 blocks from "));
  r[1].blk = t->m.table[0].blk;
  make_slots (&t->m);
  check (t);
  found_only (&t->found, CHECK_RETIRED, "failed a write, and in use");
  assert_int_equal (t->found.report.nr_retired, 7);
  r[1].blk = t->m.a_page[9] - 1;
  r[1].nr = 2;
  make_slots (&t->m);
  check (t);
  found_only (&t->found, CHECK_RETIRED, "failed a write, and in use");
}

static void
test_counts (void **state)
{
  struct rig *t = *state;
  struct disk_object *e = get_entries (t);

  e[0].nr_mapped++;
  e[0].nr_zero--;
  e[2].nr_nodes = 7;
  put (t);
  check (t);
  assert_int_equal (t->found.nr, 3);
  found_expect (&t->found, CHECK_COUNT,
                "'a' (0x1000): the table says 12 pages, and there are 11");
  found_expect (&t->found, CHECK_COUNT, "2 reserved zero pages");
  found_expect (&t->found, CHECK_COUNT,
                "'b' (0x1001): the table says 7 map "
                "nodes, and there are 1");
  e = get_entries (t);
  e[0].nr_mapped--;
  e[0].nr_zero++;
  e[2].nr_nodes = 1;
  t->node.nr_used = 3;
  put (t);
  check (t);
  found_only (&t->found, CHECK_COUNT, "another number of objects");
  t->node.nr_used = 2;
  put (t);
  t->m.root.next_object = ID_B;
  make_slots (&t->m);
  check (t);
  found_only (&t->found, CHECK_COUNT, "has been given before");
}

/* ---- stopping, and what it costs ---- */

static bool
stop_at_once (void *arg)
{
  return *(unsigned *) arg == 0 || --*(unsigned *) arg == 0;
}

static void
test_stop (void **state)
{
  struct rig *t = *state;
  unsigned left;
  struct check_config config = { .volumes = t->m.v,
                                 .nr_volumes = 2,
                                 .data = true,
                                 .stop = stop_at_once,
                                 .arg = &left };
  struct check_report report;
  unsigned nr = 0;

  for (left = 0; check_run (&config, &report) != 0; left = ++nr) {
    assert_false (report.whole);
    assert_true (nr < 100);
  }
  assert_true (nr > 0);
}

static void
test_cost (void **state)
{
  struct rig *t = *state;
  uint64_t begin_ns = env_now_ns (), ns;

  for (unsigned i = 0; i < 1000; i++)
    assert_null (check_store_images (t->m.v, 2, false));
  ns = env_now_ns () - begin_ns;
  print_message ("a check of a closed store of 3 MiB: %" PRIu64 " ns\n",
                 ns / 1000);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_clean),   CASE (test_empty),     CASE (test_slots),
    CASE (test_volumes), CASE (test_older),     CASE (test_log),
    CASE (test_log_far), CASE (test_log_short), CASE (test_entry),
    CASE (test_same),    CASE (test_counts),    CASE (test_stop),
    CASE (test_cost),    CASE (test_retired),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
