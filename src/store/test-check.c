/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: each kind of damage is found, named, and nothing else is. */

#include <config.h>

#include "test-check.h"

#include "env.h"

/* A store, a node of it that is to be changed and put back, and a check. */
struct rig {
  struct store_made m;
  struct found found;
  struct disk_node node;
};

static int
begin (void **state)
{
  struct rig *t = calloc (1, sizeof *t);

  made_open (&t->m, 2);
  *state = t;
  return 0;
}

static int
end (void **state)
{
  struct rig *t = *state;

  made_close (&t->m);
  free (t);
  return 0;
}

static struct disk_node *
get (struct rig *t, struct disk_pointer at)
{
  blk_io (&t->m, VIO_READ, at.blk, &t->node);
  return &t->node;
}

static struct disk_map *
get_map (struct rig *t, struct disk_pointer at)
{
  return (struct disk_map *) get (t, at)->body;
}

static struct disk_object *
get_entries (struct rig *t)
{
  return ((struct disk_table *) get (t, t->m.table[0])->body)->object;
}

static void
put (struct rig *t)
{
  node_store (&t->m, &t->node);
}

static void
check (struct rig *t)
{
  assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, false), 0);
}

static void
check_data (struct rig *t)
{
  assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, true), 0);
}

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
  found_expect (&t->found, CHECK_LEAKED, "vb: blocks 3-7: nothing uses it");
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

/* ---- nodes ---- */

static void
test_node (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = t->m.a_leaf[1].blk * PAGE_BYTES,
                             .bytes = PAGE_BYTES,
                             .error = EIO };

  assert_int_equal (fault_add (t->m.v[0], &rule), 0);
  check (t);
  found_expect (&t->found, CHECK_NODE,
                "'a' (0x1000), pages 256-511: node 1 of level 0: cannot be "
                "read");
  found_expect (&t->found, CHECK_LEAKED, "nothing uses it");
  assert_int_equal (t->found.report.nr_pages_lost, 256);
  fault_clear (t->m.v[0]);
  get (t, t->m.a_leaf[1])->cycle++;
  put (t);
  check (t);
  found_expect (&t->found, CHECK_NODE, "is newer than what points to it");
  get (t, t->m.a_leaf[1])->cycle -= 2;
  put (t);
  check (t);
  found_expect (&t->found, CHECK_NODE, "is older than what points to it");
  get (t, t->m.a_leaf[1])->cycle++;
  t->node.tree = ID_B;
  put (t);
  check (t);
  found_expect (&t->found, CHECK_NODE, "belongs to another tree");
}

/* Pointers that lead nowhere, to another's node, or round. */
static void
test_pointer (void **state)
{
  struct rig *t = *state;
  const struct {
    struct disk_pointer to;
    const char *words;
  } cases[] = {
    { { 1, CYCLE }, "leads to block 0x1, where no node can be" },
    { { UINT64_MAX, CYCLE }, "where no node can be" },
    { { blkno_make (1, 511), CYCLE }, "where no node can be" },
    { { blkno_make (2, 100), CYCLE }, "where no node can be" },
    { { 0, CYCLE }, "has a cycle and no block" },
    { t->m.a_leaf[0], "has another index" },
    { t->m.a_root, "belongs to another level" },
    { { t->m.b_leaf.blk, CYCLE }, "belongs to another tree" },
    { { t->m.a_page[3], CYCLE }, "is no node" },
  };

  for (unsigned i = 0; i < ARRAY (cases); i++) {
    struct disk_node *n = get (t, t->m.a_root);

    ((struct disk_inner *) n->body)->child[1] = cases[i].to;
    put (t);
    check (t);
    found_expect (&t->found, CHECK_NODE, cases[i].words);
    ((struct disk_inner *) n->body)->child[1] = t->m.a_leaf[1];
    put (t);
  }
  ((struct disk_inner *) get (t, t->m.a_root)->body)->child[4] = t->m.a_leaf[1];
  put (t);
  check (t);
  found_expect (&t->found, CHECK_NODE,
                "node 4 of level 0: lies behind the "
                "last");
  ((struct disk_inner *) get (t, t->m.a_root)->body)->child[4] =
      (struct disk_pointer){ 0, 0 };
  put (t);
  t->node.nr_used++;
  put (t);
  check (t);
  found_only (&t->found, CHECK_COUNT, "another number of pointers");
}

/* Two maps have one tree: of objects with one id. */
static void
test_shared_tree (void **state)
{
  struct rig *t = *state;
  struct disk_object *e = get_entries (t);

  e[1] = e[0];
  e[1].instance[0] ^= 1;
  e[1].name[0] = 'c';
  t->node.nr_used++;
  put (t);
  check (t);
  found_only (&t->found, CHECK_OBJECT,
              "place 1, 'c' (0x1000): another object "
              "has its id");
}

/* ---- entries ---- */

static void
test_page (void **state)
{
  struct rig *t = *state;
  static const struct {
    unsigned page;
    uint64_t word;
    const char *words;
  } cases[] = {
    { 200, UINT64_C (3) << 60, "page 200: its entry's kind is unknown" },
    { 200, UINT64_C (2) << 60 | 1, "a page of zeros has a block" },
    { 200, UINT64_C (1) << 60, "is in a block that is none of a page" },
    { 200, UINT64_C (1) << 60 | 3, "is in a block that is none of a page" },
    { 200, UINT64_C (1) << 60 | 254, "is in a block that is none of a page" },
    { 200, UINT64_C (1) << 60 | UINT64_C (1) << 59,
      "is in a block that is none of a page" },
  };

  for (unsigned i = 0; i < ARRAY (cases); i++) {
    struct disk_map *map = get_map (t, t->m.a_leaf[0]);

    map->word[cases[i].page] = cases[i].word;
    t->node.nr_used++;
    put (t);
    check (t);
    found_only (&t->found, CHECK_ENTRY, cases[i].words);
    map->word[cases[i].page] = 0;
    t->node.nr_used--;
    put (t);
  }
  get_map (t, t->m.a_leaf[0])->crc[100] = 9;
  put (t);
  check (t);
  found_only (&t->found, CHECK_ENTRY, "page 100: a hole has a checksum");
  get_map (t, t->m.a_leaf[0])->crc[100] = 0;
  t->node.nr_used++;
  put (t);
  check (t);
  found_only (&t->found, CHECK_COUNT,
              "number of entries (13) than it says "
              "(14)");
  t->node.nr_used--;
  put (t);
  for (unsigned i = 5; i < 9; i++)
    get_map (t, t->m.b_leaf)->word[i] = swmeta_word (SWMETA_ZERO, 0);
  for (unsigned i = 5; i < 9; i++)
    ((struct disk_map *) t->node.body)->word[i] = swmeta_word (SWMETA_ZERO, 0);
  t->node.nr_used += 4;
  put (t);
  check (t);
  found_only (&t->found, CHECK_ENTRY,
              "'b' (0x1001), pages 5-8: lies behind the disk's end");
}

static void
test_twice (void **state)
{
  struct rig *t = *state;
  struct disk_map *map = get_map (t, t->m.a_leaf[0]);
  struct disk_map was = *map;

  map->word[2] = map->word[1]; /* but another CRC */
  put (t);
  check (t);
  assert_int_equal (t->found.nr, 2);
  found_expect (&t->found, CHECK_TWICE,
                "belongs to 'a', page 1 and 'a', page "
                "2; it has the content of the first");
  found_expect (&t->found, CHECK_LEAKED, "nothing uses it");
  map->word[2] = swmeta_word (SWMETA_BLOCK, t->m.b_page[4]);
  map->crc[2] ^= 1;
  put (t);
  check (t);
  found_expect (&t->found, CHECK_TWICE,
                "vb: block 7: belongs to 'a', page 2 "
                "and 'b', page 4; it has the content "
                "of the second");
  map->word[2] = swmeta_word (SWMETA_BLOCK, t->m.a_leaf[1].blk);
  put (t);
  check (t);
  found_expect (&t->found, CHECK_TWICE,
                "belongs to 'a', page 2 and 'a', node for page 256; it has "
                "the content of the second");
  map->word[2] = swmeta_word (SWMETA_BLOCK, t->m.table[1].blk);
  put (t);
  check (t);
  found_expect (&t->found, CHECK_TWICE,
                "belongs to the object table and 'a', "
                "page 2");
  *map = was;
  put (t);
  check (t);
  found_none (&t->found);
}

/* ---- the free map ---- */

static void
set_bit (struct rig *t, unsigned volume, uint64_t place, bool used)
{
  get (t, t->m.root.members[volume].freemap);
  t->node.body[place / 8] &= (uint8_t) ~(1u << place % 8);
  t->node.body[place / 8] |= (uint8_t) ((used ? 1u : 0u) << place % 8);
  t->node.nr_used += used ? 1 : UINT32_MAX;
  put (t);
}

static void
test_freemap (void **state)
{
  struct rig *t = *state;

  set_bit (t, 1, 5, false);
  set_bit (t, 1, 6, false);
  check (t);
  found_only (&t->found, CHECK_LOST,
              "vb: blocks 5-6: in use, and the free map "
              "says free");
  set_bit (t, 1, 5, true);
  set_bit (t, 1, 6, true);
  set_bit (t, 1, 200, true);
  check (t);
  found_only (&t->found, CHECK_LEAKED, "vb: block 200: nothing uses it");
  set_bit (t, 1, 200, false);
  set_bit (t, 1, 0, false); /* a slot */
  check (t);
  found_only (&t->found, CHECK_LOST, "vb: block 0: in use");
  set_bit (t, 1, 0, true);
  set_bit (t, 1, 512, false); /* behind the end */
  check (t);
  found_only (&t->found, CHECK_LOST, "vb: block 512: in use");
  set_bit (t, 1, 512, true);
  t->node.nr_used++;
  put (t);
  check (t);
  found_only (&t->found, CHECK_COUNT, "free map: the node has another number");
  t->node.nr_used--;
  t->node.uuid[0] ^= 1;
  put (t);
  check (t);
  found_only (&t->found, CHECK_FREEMAP,
              "vb: block 2: free map: node 0 of "
              "level 0: belongs to another store");
}

/* ---- pages ---- */

static void
test_data (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = t->m.a_page[4] * PAGE_BYTES,
                             .bytes = PAGE_BYTES,
                             .error = EIO };
  uint8_t page[PAGE_BYTES];

  blk_io (&t->m, VIO_READ, t->m.b_page[2], page);
  page[4095] ^= 0x80;
  blk_io (&t->m, VIO_WRITE, t->m.b_page[2], page);
  check (t);
  found_none (&t->found);
  check_data (t);
  found_only (&t->found, CHECK_DATA,
              "vb: block 5: 'b' (0x1001), page 2: its content's checksum is "
              "wrong");
  fault_add (t->m.v[0], &rule);
  check_data (t);
  assert_int_equal (t->found.nr, 2);
  found_expect (&t->found, CHECK_DATA, "'a' (0x1000), page 4: cannot be read");
  assert_int_equal (t->found.report.nr_verified, 15);
  assert_non_null (check_store_images (t->m.v, 2, false));
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

#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_clean),       CASE (test_empty), CASE (test_slots),
    CASE (test_volumes),     CASE (test_older), CASE (test_log),
    CASE (test_log_short),   CASE (test_entry), CASE (test_same),
    CASE (test_counts),      CASE (test_node),  CASE (test_pointer),
    CASE (test_shared_tree), CASE (test_page),  CASE (test_twice),
    CASE (test_freemap),     CASE (test_data),  CASE (test_stop),
    CASE (test_cost),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
