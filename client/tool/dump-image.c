/* SPDX-License-Identifier: BSD-2-Clause */
/* For test-dump.sh: writes one of each structure into a volume that was just
 * formatted (one volume, ring of 1 MiB), with nothing but disk.h, and points a
 * superblock at them.
 *
 *   dump-image FILE [stale]       stale: what points to 0x1000's map says that
 * a later cycle wrote it
 *
 * Blocks from the first free one, f, on:
 *
 *   f    table, level 1     f+2  map of 0x1000, level 1
 *   f+1  table, leaf 0      f+3  its leaf 0     f+4  its leaf 2
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "super.h"

#define NR_LOG 4

static struct volume *volume;
static bool stale;
static struct supers supers;
static _Alignas(PAGE_BYTES) union {
  struct disk_node node;
  struct disk_log log;
  uint8_t bytes[PAGE_BYTES];
} page;

static void
put (uint64_t place)
{
  page.node.crc = crc32c (0, &page, DISK_CRC_OFF);
  if (volume_write (volume, place * PAGE_BYTES, &page, PAGE_BYTES) != 0)
    exit (1);
}

static void *
node (uint64_t blk, enum disk_node_type type, unsigned level, uint64_t tree,
      uint64_t index)
{
  memset (&page, 0, sizeof page);
  page.node.magic = DISK_NODE_MAGIC;
  page.node.version = 1;
  page.node.type = (uint8_t) type;
  page.node.level = (uint8_t) level;
  page.node.blk = blk;
  page.node.cycle = 1;
  page.node.tree = tree;
  page.node.index = index;
  memcpy (page.node.uuid, supers.root.uuid, sizeof page.node.uuid);
  return page.node.body;
}

static void
put_inner (uint64_t blk, uint64_t tree, unsigned a, uint64_t blk_a, unsigned b,
           uint64_t blk_b)
{
  struct disk_inner *inner = node (blk, DISK_NODE_INNER, 1, tree, 0);

  inner->child[a] = (struct disk_pointer){ blk_a, 1 };
  inner->child[b] = (struct disk_pointer){ blk_b, 1 };
  page.node.nr_used = a == b ? 1 : 2;
  put (blk);
}

static struct disk_object
object (uint64_t id, const char *name, uint64_t root)
{
  struct disk_object o = { .id = id,
                           .size_bytes = 3 * 256 * PAGE_BYTES,
                           .state = DISK_OBJECT_LIVE,
                           .flags = DISK_OBJECT_RESERVED,
                           .root = { root, root != 0 },
                           .height = root != 0,
                           .name_bytes = (uint32_t) strlen (name),
                           .created_s = 1800000000 };

  memcpy (o.name, name, strlen (name));
  memset (o.instance, 0xab, sizeof o.instance);
  return o;
}

static void
put_table (uint64_t first)
{
  struct disk_table *table;

  put_inner (first, DISK_TREE_TABLE, 0, first + 1, 0, first + 1);
  table = node (first + 1, DISK_NODE_TABLE, 0, DISK_TREE_TABLE, 0);
  table->object[0] = object (0x1000, "vm1", first + 2);
  table->object[0].root.cycle += stale;
  table->object[5] = object (0x1001, "bad\xff\nname", 0);
  table->object[5].state = DISK_OBJECT_DYING;
  page.node.nr_used = 2;
  put (first + 1);
}

/* Pages 0 to 9 in blocks from 0:500 on, page 10 elsewhere, 20 to 29 zero;
 * pages 512 and 513.
 */
static void
put_map (uint64_t first)
{
  struct disk_map *map;

  put_inner (first + 2, 0x1000, 0, first + 3, 2, first + 4);
  map = node (first + 3, DISK_NODE_MAP, 0, 0x1000, 0);
  for (unsigned i = 0; i < 10; i++) {
    map->word[i] = UINT64_C (1) << 60 | (500 + i);
    map->crc[i] = 0xc0de0000 + i;
  }
  map->word[10] = UINT64_C (1) << 60 | 700;
  for (unsigned i = 20; i < 30; i++)
    map->word[i] = UINT64_C (2) << 60;
  page.node.nr_used = 21;
  put (first + 3);
  map = node (first + 4, DISK_NODE_MAP, 0, 0x1000, 2);
  map->word[0] = UINT64_C (1) << 60 | 511;
  map->word[1] = UINT64_C (1) << 60 | 512;
  page.node.nr_used = 2;
  put (first + 4);
}

/* ---- log */

static void
log_begin (uint64_t lsn, enum disk_log_kind kind)
{
  memset (&page, 0, sizeof page);
  page.log.magic = DISK_LOG_MAGIC;
  page.log.version = 1;
  page.log.kind = (uint16_t) kind;
  page.log.lsn = lsn;
  page.log.epoch = 1;
  page.log.durable = lsn > 2 ? lsn - 1 : 1;
  memcpy (page.log.uuid, supers.root.uuid, sizeof page.log.uuid);
}

static void
record (struct disk_rec rec, const void *more, uint32_t more_bytes)
{
  uint8_t *to = page.log.body + page.log.bytes;
  uint64_t lsn = page.log.lsn;
  uint32_t crc;

  rec.bytes = (uint16_t) (sizeof rec + ((more_bytes + 7) & ~7u));
  memcpy (to, &rec, sizeof rec);
  if (more_bytes > 0)
    memcpy (to + sizeof rec, more, more_bytes);
  crc = crc32c (0, &lsn, sizeof lsn);
  crc = crc32c (crc, to + 4, rec.bytes - 4u);
  memcpy (to, &crc, sizeof crc);
  page.log.bytes += rec.bytes;
}

static void
put_log (uint64_t first)
{
  const uint64_t ring = supers.root.ring_first;
  const uint32_t crcs[3] = { 0x11111111, 0x22222222, 0x33333333 };
  struct disk_object o = object (0x1002, "new", 0);
  static _Alignas(PAGE_BYTES) uint8_t image[PAGE_BYTES];

  log_begin (1, DISK_LOG_REDO);
  record ((struct disk_rec){ .type = DISK_REC_MAP,
                             .object = 0x1000,
                             .pgno = 7,
                             .word = 800,
                             .nr = 3 },
          crcs, sizeof crcs);
  record ((struct disk_rec){ .type = DISK_REC_ZERO, .pgno = 20, .nr = 10 },
          NULL, 0);
  record ((struct disk_rec){ .type = DISK_REC_FREE, .pgno = 40, .nr = 5 }, NULL,
          0);
  put (ring + 1);
  log_begin (2, DISK_LOG_REDO);
  record ((struct disk_rec){ .type = DISK_REC_NODE,
                             .object = 0x1000,
                             .pgno = 2,
                             .word = first + 4 },
          NULL, 0);
  record ((struct disk_rec){ .type = DISK_REC_UNNODE,
                             .object = 0x1000,
                             .pgno = 1,
                             .word = first + 5 },
          NULL, 0);
  record ((struct disk_rec){ .type = DISK_REC_OBJECT, .pgno = 6 }, &o,
          sizeof o);
  page.log.bytes += 48; /* of which nothing was written */
  put (ring + 2);
  log_begin (3, DISK_LOG_UNDO);
  page.log.blk = first;
  page.log.bytes = DISK_NODE_USED;
  if (volume_read (volume, first * PAGE_BYTES, image, PAGE_BYTES) != 0)
    exit (1);
  memcpy (page.log.body, image, DISK_NODE_USED);
  put (ring + 3);
}

int
main (int argc, char **argv)
{
  struct volume_store_options how = { .readonly = false };
  static _Alignas(PAGE_BYTES) uint8_t slot[PAGE_BYTES];
  uint64_t first;

  stale = argc == 3;
  if (argc < 2 || volume_open_store (argv[1], &how, &volume) != 0 ||
      supers_read (&volume, 1, &supers) != 0)
    return 1;
  first = super_first_block (&supers.root, 0);
  put_table (first);
  put_map (first);
  put_log (first);
  supers.root.table = (struct disk_pointer){ first, 1 };
  supers.root.table_height = 1;
  supers.root.durable_lsn = NR_LOG;
  supers.root.state = DISK_IN_USE;
  supers.root.retired[0] = (struct disk_retired){ 2000, 5, 0 };
  supers.root.retired[1] = (struct disk_retired){ 2010, 1, 0 };
  if (supers_write_root (&supers, slot) != 0 || volume_flush (volume) != 0)
    return 1;
  printf ("%llu\n", (unsigned long long) first);
  volume_close (volume);
  return 0;
}
