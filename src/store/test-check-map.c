/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: damage of maps, of pages, and of who owns which block is found, named,
 * and nothing else is.
 */

#include <config.h>

#include "test-check-rig.h"

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
  found_expect (&t->found, CHECK_LEAKED, "nothing that can be read uses it");
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_node), CASE (test_pointer), CASE (test_shared_tree),
    CASE (test_page), CASE (test_twice),   CASE (test_freemap),
    CASE (test_data),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
