/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-format.c looks for in docs/format.md: every field of every
 * structure, in order, and the numbers.
 */

#ifndef FARPAGE_FORMAT_FIELDS_H
#define FARPAGE_FORMAT_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include "disk.h"
#include "medium.h"
#include "super.h"
#include "swmeta.h"
#include "tree.h"
#include "types.h"

struct field {
  const char *name;
  uint64_t offset, bytes;
};

#define FIELD(type, name)                                                 \
  {                                                                       \
#name, offsetof(struct type, name), sizeof(((struct type *) 0)->name) \
  }

static const struct field label_fields[] = {
  FIELD (disk_label, magic),  FIELD (disk_label, version),
  FIELD (disk_label, spare0), FIELD (disk_label, size_bytes),
  FIELD (disk_label, uuid),   FIELD (disk_label, spare1),
  FIELD (disk_label, crc),    { NULL, sizeof (struct disk_label), 0 },
};

static const struct field pointer_fields[] = {
  FIELD (disk_pointer, blk),
  FIELD (disk_pointer, cycle),
  { NULL, sizeof (struct disk_pointer), 0 },
};

static const struct field member_fields[] = {
  FIELD (disk_member, nr_blocks),           FIELD (disk_member, freemap),
  FIELD (disk_member, freemap_height),      FIELD (disk_member, spare),
  FIELD (disk_member, freemap_first),       FIELD (disk_member, freemap_blocks),
  { NULL, sizeof (struct disk_member), 0 },
};

static const struct field retired_fields[] = {
  FIELD (disk_retired, blk),
  FIELD (disk_retired, nr),
  FIELD (disk_retired, spare),
  { NULL, sizeof (struct disk_retired), 0 },
};

static const struct field super_fields[] = {
  FIELD (disk_super, magic),
  FIELD (disk_super, version),
  FIELD (disk_super, slot),
  FIELD (disk_super, compat),
  FIELD (disk_super, ro_compat),
  FIELD (disk_super, incompat),
  FIELD (disk_super, uuid),
  FIELD (disk_super, volume),
  FIELD (disk_super, nr_volumes),
  FIELD (disk_super, nr_blocks),
  FIELD (disk_super, sequence),
  FIELD (disk_super, epoch),
  FIELD (disk_super, state),
  FIELD (disk_super, entry_bytes),
  FIELD (disk_super, ring_first),
  FIELD (disk_super, ring_blocks),
  FIELD (disk_super, cycle),
  FIELD (disk_super, redo_lsn),
  FIELD (disk_super, next_lsn),
  FIELD (disk_super, durable_lsn),
  FIELD (disk_super, staging),
  FIELD (disk_super, next_object),
  FIELD (disk_super, dirty_max),
  FIELD (disk_super, table),
  FIELD (disk_super, table_height),
  FIELD (disk_super, spare0),
  FIELD (disk_super, redo_epoch),
  FIELD (disk_super, spare1),
  FIELD (disk_super, members),
  FIELD (disk_super, retired),
  FIELD (disk_super, spare2),
  FIELD (disk_super, crc),
  { NULL, sizeof (struct disk_super), 0 },
};

static const struct field node_fields[] = {
  FIELD (disk_node, magic),
  FIELD (disk_node, version),
  FIELD (disk_node, type),
  FIELD (disk_node, level),
  FIELD (disk_node, blk),
  FIELD (disk_node, cycle),
  FIELD (disk_node, tree),
  FIELD (disk_node, index),
  FIELD (disk_node, uuid),
  FIELD (disk_node, nr_used),
  FIELD (disk_node, spare0),
  FIELD (disk_node, seal),
  FIELD (disk_node, spare1),
  FIELD (disk_node, body),
  FIELD (disk_node, spare2),
  FIELD (disk_node, crc),
  { NULL, sizeof (struct disk_node), 0 },
};

static const struct field inner_fields[] = {
  FIELD (disk_inner, child),
  { NULL, sizeof (struct disk_inner), 0 },
};

static const struct field map_fields[] = {
  FIELD (disk_map, word),
  FIELD (disk_map, crc),
  { NULL, sizeof (struct disk_map), 0 },
};

static const struct field table_fields[] = {
  FIELD (disk_table, object),
  { NULL, sizeof (struct disk_table), 0 },
};

static const struct field freemap_fields[] = {
  FIELD (disk_freemap, bits),
  { NULL, sizeof (struct disk_freemap), 0 },
};

static const struct field object_fields[] = {
  FIELD (disk_object, id),
  FIELD (disk_object, instance),
  FIELD (disk_object, size_bytes),
  FIELD (disk_object, state),
  FIELD (disk_object, flags),
  FIELD (disk_object, root),
  FIELD (disk_object, height),
  FIELD (disk_object, name_bytes),
  FIELD (disk_object, nr_mapped),
  FIELD (disk_object, nr_zero),
  FIELD (disk_object, nr_nodes),
  FIELD (disk_object, created_s),
  FIELD (disk_object, seal),
  FIELD (disk_object, old_bytes),
  FIELD (disk_object, spare),
  FIELD (disk_object, name),
  { NULL, sizeof (struct disk_object), 0 },
};

static const struct field log_fields[] = {
  FIELD (disk_log, magic), FIELD (disk_log, version),
  FIELD (disk_log, kind),  FIELD (disk_log, lsn),
  FIELD (disk_log, epoch), FIELD (disk_log, durable),
  FIELD (disk_log, uuid),  FIELD (disk_log, blk),
  FIELD (disk_log, bytes), FIELD (disk_log, sequence),
  FIELD (disk_log, seal),  FIELD (disk_log, body),
  FIELD (disk_log, crc),   { NULL, sizeof (struct disk_log), 0 },
};

static const struct field rec_fields[] = {
  FIELD (disk_rec, crc),
  FIELD (disk_rec, type),
  FIELD (disk_rec, bytes),
  FIELD (disk_rec, object),
  FIELD (disk_rec, pgno),
  FIELD (disk_rec, word),
  FIELD (disk_rec, nr),
  FIELD (disk_rec, spare),
  { NULL, sizeof (struct disk_rec), 0 },
};

static const struct field swent_fields[] = {
  FIELD (swent, word),
  FIELD (swent, crc),
  FIELD (swent, spare),
  { NULL, sizeof (struct swent), 0 },
};

#define NUMBER(name) \
  {                  \
#name, name, 0   \
  }

static const struct field numbers[] = {
  NUMBER (DISK_LABEL_VERSION),
  NUMBER (DISK_LABEL_BYTES),
  NUMBER (LABEL_AREA_BYTES),
  NUMBER (VOLUME_BYTES_MIN),
  NUMBER (PAGE_BYTES),
  NUMBER (SECTOR_BYTES),
  NUMBER (BLKNO_PLACE_BITS),
  NUMBER (VOLUMES_MAX),
  NUMBER (SWMETA_KIND_SHIFT),
  NUMBER (SWMETA_ABSENT),
  NUMBER (SWMETA_BLOCK),
  NUMBER (SWMETA_ZERO),
  NUMBER (SWBLOCK_PAGES),
  NUMBER (DISK_BLOCK_BYTES),
  NUMBER (DISK_CRC_OFF),
  NUMBER (DISK_SEAL_BYTES),
  NUMBER (DISK_SUPER_VERSION),
  NUMBER (DISK_SUPER_SLOTS),
  NUMBER (DISK_VOLUMES),
  NUMBER (DISK_RETIRED),
  NUMBER (DISK_CLEAN),
  NUMBER (DISK_IN_USE),
  NUMBER (SUPER_RING_BLOCKS_MIN),
  NUMBER (SUPER_RING_FREEMAP),
  NUMBER (SUPER_COUNT_MAX),
  NUMBER (DISK_NODE_MAGIC),
  NUMBER (DISK_NODE_HEAD),
  NUMBER (DISK_NODE_USED),
  NUMBER (DISK_NODE_INNER),
  NUMBER (DISK_NODE_MAP),
  NUMBER (DISK_NODE_TABLE),
  NUMBER (DISK_NODE_FREEMAP),
  NUMBER (DISK_TREE_TABLE),
  NUMBER (DISK_TREE_FREEMAP),
  NUMBER (DISK_TREE_FIRST),
  NUMBER (DISK_FANOUT),
  NUMBER (DISK_MAP_PAGES),
  NUMBER (DISK_TABLE_OBJECTS),
  NUMBER (DISK_FREEMAP_BITS),
  NUMBER (TREE_HEIGHT_MAX),
  NUMBER (DISK_OBJECT_FREE),
  NUMBER (DISK_OBJECT_LIVE),
  NUMBER (DISK_OBJECT_DYING),
  NUMBER (DISK_OBJECT_SHARED),
  NUMBER (DISK_OBJECT_RESERVED),
  NUMBER (DISK_OBJECT_UNNAMED),
  NUMBER (DISK_LOG_MAGIC),
  NUMBER (DISK_LOG_HEAD),
  NUMBER (DISK_LOG_REDO),
  NUMBER (DISK_LOG_UNDO),
  NUMBER (DISK_REC_MAP),
  NUMBER (DISK_REC_ZERO),
  NUMBER (DISK_REC_FREE),
  NUMBER (DISK_REC_NODE),
  NUMBER (DISK_REC_UNNODE),
  NUMBER (DISK_REC_OBJECT),
  NUMBER (DISK_UNDO_VERSION),
  { NULL, 0, 0 },
};

static const struct field undo_fields[] = {
  FIELD (disk_undo, magic),
  FIELD (disk_undo, version),
  FIELD (disk_undo, nr_volumes),
  FIELD (disk_undo, uuid),
  FIELD (disk_undo, nr_records),
  FIELD (disk_undo, nr_blocks),
  FIELD (disk_undo, spare),
  FIELD (disk_undo, crc),
  { NULL, sizeof (struct disk_undo), 0 },
};

static const struct field undo_rec_fields[] = {
  FIELD (disk_undo_rec, number),
  FIELD (disk_undo_rec, blk),
  FIELD (disk_undo_rec, data_crc),
  FIELD (disk_undo_rec, unread),
  FIELD (disk_undo_rec, spare),
  FIELD (disk_undo_rec, crc),
  { NULL, sizeof (struct disk_undo_rec), 0 },
};

static const struct {
  const char *title;
  const struct field *fields;
} structs[] = {
  { "## `struct disk_super`", super_fields },
  { "## `struct disk_member`", member_fields },
  { "## `struct disk_retired`", retired_fields },
  { "## `struct disk_pointer`", pointer_fields },
  { "## `struct disk_node`", node_fields },
  { "### `struct disk_inner`", inner_fields },
  { "### `struct disk_map`", map_fields },
  { "### `struct disk_freemap`", freemap_fields },
  { "### `struct disk_table`", table_fields },
  { "### `struct disk_object`", object_fields },
  { "## `struct disk_log`", log_fields },
  { "### `struct disk_rec`", rec_fields },
  { "## `struct disk_label`", label_fields },
  { "## `struct disk_undo`", undo_fields },
  { "### `struct disk_undo_rec`", undo_rec_fields },
  { "Their plain entry", swent_fields },
};

#endif /* FARPAGE_FORMAT_FIELDS_H */
