/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of check share: a small store made by hand, node by node, so
 * that nothing but the format stands behind it; what check found in it.
 *
 *   disk 'a'  800 pages, map of 4 leaves: 0-9 and 300 mapped, 20-22 zero
 *   disk 'b'  5 pages, map of one leaf: all mapped, on the second volume
 */

#ifndef FARPAGE_TEST_CHECK_H
#define FARPAGE_TEST_CHECK_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check.h"
#include "crc32c.h"
#include "fault.h"
#include "super.h"
#include "swmeta.h"

#define MIB       (UINT64_C (1) << 20)
#define ARRAY(a)  (sizeof (a) / sizeof (a)[0])
#define STORE_MAX 3
#define FOUND_MAX 64
#define A_PAGES   800u
#define B_PAGES   5u
#define ID_A      DISK_TREE_FIRST
#define ID_B      (DISK_TREE_FIRST + 1)
#define CYCLE     UINT64_C (1)

struct store_made {
  struct volume *v[STORE_MAX]; /* fault over memory */
  unsigned nr;
  struct disk_super root;
  uint64_t next[STORE_MAX]; /* free places */
  /* Where what is. */
  struct disk_pointer table[3]; /* by level */
  struct disk_pointer a_root, a_leaf[2], b_leaf;
  uint64_t a_page[11], b_page[B_PAGES]; /* blocks: 0-9 and 300 */
};

static inline void
blk_io (struct store_made *m, enum vio_op op, uint64_t blk, void *buf)
{
  struct volume *v = m->v[blkno_volume (blk)];
  uint64_t off = blkno_place (blk) * DISK_BLOCK_BYTES;

  assert_int_equal (op == VIO_READ
                        ? volume_read (v, off, buf, DISK_BLOCK_BYTES)
                        : volume_write (v, off, buf, DISK_BLOCK_BYTES),
                    0);
}

static inline void
node_seal (struct disk_node *n)
{
  n->crc = crc32c (0, n, DISK_CRC_OFF);
}

static inline void
node_store (struct store_made *m, struct disk_node *n)
{
  node_seal (n);
  blk_io (m, VIO_WRITE, n->blk, n);
}

static inline uint64_t
new_block (struct store_made *m, unsigned volume)
{
  return blkno_make (volume, m->next[volume]++);
}

static inline struct disk_pointer
node_make (struct store_made *m, struct disk_node *n, uint64_t tree,
           enum disk_node_type type, unsigned level, uint64_t index)
{
  memset (n, 0, sizeof *n);
  n->magic = DISK_NODE_MAGIC;
  n->version = 1;
  n->type = (uint8_t) type;
  n->level = (uint8_t) level;
  n->blk = new_block (m, 0);
  n->cycle = CYCLE;
  n->tree = tree;
  n->index = index;
  memcpy (n->uuid, m->root.uuid, sizeof n->uuid);
  return (struct disk_pointer){ n->blk, n->cycle };
}

static inline void
page_make (struct store_made *m, struct disk_node *leaf, unsigned i,
           unsigned volume, uint64_t *blk)
{
  struct disk_map *map = (struct disk_map *) leaf->body;
  uint8_t page[PAGE_BYTES];

  *blk = new_block (m, volume);
  memset (page, (int) (i + 1), sizeof page);
  memcpy (page, blk, sizeof *blk);
  blk_io (m, VIO_WRITE, *blk, page);
  map->word[i] = swmeta_word (SWMETA_BLOCK, *blk);
  map->crc[i] = crc32c (0, page, sizeof page);
  leaf->nr_used++;
}

static inline void
child_set (struct disk_node *n, unsigned i, struct disk_pointer to)
{
  ((struct disk_inner *) n->body)->child[i] = to;
  n->nr_used++;
}

static inline void
make_a (struct store_made *m)
{
  struct disk_node leaf, inner;

  m->a_root = node_make (m, &inner, ID_A, DISK_NODE_INNER, 1, 0);
  m->a_leaf[0] = node_make (m, &leaf, ID_A, DISK_NODE_MAP, 0, 0);
  for (unsigned i = 0; i < 10; i++)
    page_make (m, &leaf, i, 0, &m->a_page[i]);
  for (unsigned i = 20; i < 23; i++) {
    ((struct disk_map *) leaf.body)->word[i] = swmeta_word (SWMETA_ZERO, 0);
    leaf.nr_used++;
  }
  node_store (m, &leaf);
  child_set (&inner, 0, m->a_leaf[0]);
  m->a_leaf[1] = node_make (m, &leaf, ID_A, DISK_NODE_MAP, 0, 1);
  page_make (m, &leaf, 300 - 256, 0, &m->a_page[10]);
  node_store (m, &leaf);
  child_set (&inner, 1, m->a_leaf[1]);
  node_store (m, &inner);
}

static inline void
make_b (struct store_made *m)
{
  struct disk_node leaf;

  m->b_leaf = node_make (m, &leaf, ID_B, DISK_NODE_MAP, 0, 0);
  for (unsigned i = 0; i < B_PAGES; i++)
    page_make (m, &leaf, i, m->nr > 1 ? 1 : 0, &m->b_page[i]);
  node_store (m, &leaf);
}

static inline void
entry_make (struct disk_object *e, uint64_t id, const char *name,
            uint64_t nr_pages, struct disk_pointer root)
{
  e->id = id;
  memset (e->instance, (int) id + 1, sizeof e->instance);
  e->size_bytes = nr_pages * PAGE_BYTES - 100;
  e->state = DISK_OBJECT_LIVE;
  e->root = root;
  e->height = nr_pages > DISK_MAP_PAGES;
  e->name_bytes = (uint32_t) strlen (name);
  e->created_s = 1;
  memcpy (e->name, name, e->name_bytes);
}

static inline void
make_table (struct store_made *m)
{
  struct disk_node n[3];
  struct disk_object *e;

  for (unsigned level = 0; level < 3; level++) {
    m->table[level] =
        node_make (m, &n[level], DISK_TREE_TABLE,
                   level == 0 ? DISK_NODE_TABLE : DISK_NODE_INNER, level, 0);
    if (level > 0)
      child_set (&n[level], 0, m->table[level - 1]);
  }
  e = ((struct disk_table *) n[0].body)->object;
  entry_make (&e[0], ID_A, "a", A_PAGES, m->a_root);
  e[0].nr_mapped = 11;
  e[0].nr_zero = 3;
  e[0].nr_nodes = 3;
  entry_make (&e[2], ID_B, "b", B_PAGES, m->b_leaf);
  e[2].nr_mapped = B_PAGES;
  e[2].nr_nodes = 1;
  n[0].nr_used = 2;
  for (unsigned level = 0; level < 3; level++)
    node_store (m, &n[level]);
}

/* What has been given out so far is in use, in the free maps. */
static inline void
make_freemap (struct store_made *m)
{
  struct disk_node leaf;

  for (unsigned i = 0; i < m->nr; i++) {
    blk_io (m, VIO_READ, m->root.members[i].freemap.blk, &leaf);
    for (uint64_t b = super_first_block (&m->root, i); b < m->next[i]; b++) {
      leaf.body[b / 8] |= (uint8_t) (1u << b % 8);
      leaf.nr_used++;
    }
    node_store (m, &leaf);
  }
}

/* All slots of the root become as m->root is. */
static inline void
make_slots (struct store_made *m)
{
  void *page = aligned_alloc (PAGE_BYTES, PAGE_BYTES);
  struct volume *v[STORE_MAX];
  struct supers *s = calloc (1, sizeof *s);

  memcpy (v, m->v, sizeof v);
  assert_int_equal (supers_read (v, m->nr, s), 0);
  m->root.sequence = s->root.sequence;
  s->root = m->root;
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    assert_int_equal (supers_write_root (s, page), 0);
  m->root = s->root;
  free (s);
  free (page);
}

static inline void
made_format (struct store_made *m, unsigned nr)
{
  static const char *const names[STORE_MAX] = { "va", "vb", "vc" };
  struct super_format format = { .volumes = m->v, .nr_volumes = nr };
  struct supers *s = calloc (1, sizeof *s);
  uint8_t uuid[DISK_UUID_BYTES];

  memset (m, 0, sizeof *m);
  m->nr = nr;
  format.ring_bytes = SUPER_RING_BLOCKS_MIN * DISK_BLOCK_BYTES;
  for (unsigned i = 0; i < nr; i++) {
    struct volume *inner;

    assert_int_equal (
        volume_open_memory (names[i], (i + 1) * MIB, true, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &m->v[i]), 0);
  }
  assert_int_equal (super_format (&format, uuid), 0);
  assert_int_equal (supers_read (m->v, nr, s), 0);
  m->root = s->root;
  free (s);
  for (unsigned i = 0; i < nr; i++)
    m->next[i] = super_first_block (&m->root, i);
}

static inline void
made_open (struct store_made *m, unsigned nr)
{
  made_format (m, nr);
  make_a (m);
  make_b (m);
  make_table (m);
  make_freemap (m);
  m->root.table = m->table[2];
  m->root.table_height = 2;
  m->root.next_object = ID_B + 1;
  make_slots (m);
}

static inline void
made_close (struct store_made *m)
{
  for (unsigned i = 0; i < m->nr; i++)
    volume_close (m->v[i]);
}

/* ---- what was found ---- */

struct found {
  char text[FOUND_MAX][512];
  enum check_kind kind[FOUND_MAX];
  unsigned nr;
  char notes[1024];
  struct check_report report;
};

static inline void
found_keep (void *arg, const struct check_finding *f)
{
  struct found *found = arg;

  if (found->nr == FOUND_MAX)
    return;
  found->kind[found->nr] = f->kind;
  check_finding_text (f, found->text[found->nr], sizeof found->text[0]);
  found->nr++;
}

static inline void
found_note (void *arg, const char *text)
{
  struct found *found = arg;
  size_t n = strlen (found->notes);

  snprintf (found->notes + n, sizeof found->notes - n, "%s\n", text);
}

static inline int
found_run (struct found *found, struct volume *const *v, unsigned nr, bool data)
{
  struct check_config config = {
    .volumes = v,
    .nr_volumes = nr,
    .data = data,
    .found = found_keep,
    .note = found_note,
    .arg = found,
  };

  memset (found, 0, sizeof *found);
  return check_run (&config, &found->report);
}

static inline void
found_print (const struct found *found)
{
  for (unsigned i = 0; i < found->nr; i++)
    fprintf (stderr, "  %s: %s\n", check_kind_names[found->kind[i]],
             found->text[i]);
}

/* Exactly one finding, of this kind and with these words. */
static inline void
found_only (const struct found *found, enum check_kind kind, const char *words)
{
  if (found->nr == 1 && found->kind[0] == kind &&
      strstr (found->text[0], words) != NULL)
    return;
  found_print (found);
  fail_msg ("%u findings, not one with '%s'", found->nr, words);
}

/* Among others. */
static inline bool
found_has (const struct found *found, enum check_kind kind, const char *words)
{
  for (unsigned i = 0; i < found->nr; i++)
    if (found->kind[i] == kind && strstr (found->text[i], words) != NULL)
      return true;
  return false;
}

static inline void
found_expect (const struct found *found, enum check_kind kind,
              const char *words)
{
  if (found_has (found, kind, words))
    return;
  found_print (found);
  fail_msg ("nothing found with '%s'", words);
}

static inline void
found_none (const struct found *found)
{
  if (found->nr > 0)
    found_print (found);
  assert_int_equal (found->nr, 0);
}

#endif /* FARPAGE_TEST_CHECK_H */
