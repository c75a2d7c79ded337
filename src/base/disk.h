/* SPDX-License-Identifier: BSD-2-Clause */
/* Every structure that farpage puts on a medium or into an undo file, and
 * nothing else.
 *
 * All numbers are little-endian, spare bytes are zero and checked.  The CRC is
 * the last field of every 4096-byte structure and covers all bytes before it.
 * docs/format.md draws them; a test compares the two.
 *
 * A volatile store keeps nothing but a label on its path volumes.  A durable
 * store's volumes look like this (in blocks of 4096 bytes, from the medium's
 * first byte; volume 0 is the root volume):
 *
 *   0      1      2         2 + ring        ..             n-2    n-1
 *   | slot | slot | ring .. | free map ..   | blocks ..    | slot | slot |
 *     0      2      (root)    (META)          META, DATA     1      3
 */

#ifndef FARPAGE_DISK_H
#define FARPAGE_DISK_H

#include <stddef.h>
#include <stdint.h>

#define DISK_BLOCK_BYTES 4096u
#define DISK_CRC_OFF     4092u
#define DISK_UUID_BYTES  16
/* Room that each sealed structure keeps: tag 16, lane 4, counter 8, salt 4. */
#define DISK_SEAL_BYTES 32

/* ---- the label of a volatile store's volume ----
 *
 *   0        8        12       16       24               40        4092
 *   | magic  | version| zero   | bytes  | uuid (16)      | zeros .. | crc |
 */

#define DISK_LABEL_MAGIC   "FARPAGEV"
#define DISK_LABEL_VERSION 1
#define DISK_LABEL_BYTES   4096

struct disk_label {
  uint8_t magic[8]; /* DISK_LABEL_MAGIC, no zero at the end */
  uint32_t version; /* DISK_LABEL_VERSION */
  uint32_t spare0;
  uint64_t size_bytes; /* of the volume when it was labelled */
  uint8_t uuid[16];    /* of this label */
  uint8_t spare1[DISK_LABEL_BYTES - 44];
  uint32_t crc; /* CRC32C of the bytes before it */
};

_Static_assert(sizeof (struct disk_label) == DISK_LABEL_BYTES, "label size");
_Static_assert(offsetof (struct disk_label, uuid) == 24, "label uuid");
_Static_assert(offsetof (struct disk_label, crc) == DISK_LABEL_BYTES - 4,
               "label crc");

/* ---- superblock ---- */

/* A block that something points to, and the cycle that wrote it last: a block
 * of another cycle is stale, or a lost or misplaced write.  blk 0: none.
 */
struct disk_pointer {
  uint64_t blk;
  uint64_t cycle;
};

#define DISK_SUPER_MAGIC   "FARPAGED"
#define DISK_SUPER_VERSION 1
#define DISK_SUPER_SLOTS   4u /* two at either end, written in turn */
#define DISK_VOLUMES       64u

enum disk_state {
  DISK_CLEAN = 1,  /* closed: the maps are whole, the log is not needed */
  DISK_IN_USE = 2, /* open, or was when its process or machine died */
};

/* Blocks that failed a write, as the root volume knows them: no block of a run
 * is ever given out, and no map names one.  nr 0: no entry, none behind it.
 */
struct disk_retired {
  uint64_t blk; /* the first, with its volume's number */
  uint32_t nr;
  uint32_t spare;
};
#define DISK_RETIRED 40u

/* A volume as the root volume knows it. */
struct disk_member {
  uint64_t nr_blocks;
  struct disk_pointer freemap; /* root of the free map's tree */
  uint32_t freemap_height;     /* levels above its leaves */
  uint32_t spare;
  uint64_t freemap_first, freemap_blocks; /* where its nodes lie */
};

struct disk_super {
  uint8_t magic[8]; /* DISK_SUPER_MAGIC, no zero at the end */
  uint32_t version;
  uint32_t slot;                        /* own place: 0 to 3 */
  uint64_t compat, ro_compat, incompat; /* features; unknown: see format.md */
  uint8_t uuid[DISK_UUID_BYTES];        /* of the store */
  uint32_t volume, nr_volumes;          /* own number; 0 is the root */
  uint64_t nr_blocks;                   /* of this volume */
  uint64_t sequence;                    /* rises with each write of a slot */
  uint64_t epoch;                       /* rises with each open */
  /* What follows is zero but in the root volume's slots. */
  uint32_t state;       /* enum disk_state */
  uint32_t entry_bytes; /* of a page's map entry: 12 */
  uint64_t ring_first, ring_blocks;
  uint64_t cycle;       /* of the last cut that this superblock knows of */
  uint64_t redo_lsn;    /* maps on the media are as of here; log from here */
  uint64_t next_lsn;    /* at a clean close: where the log goes on */
  uint64_t durable_lsn; /* the log is durable up to here (without it) */
  uint64_t staging;     /* id of the staging file that belongs to it; or 0 */
  uint64_t next_object; /* ids from here on were never used */
  uint64_t dirty_max;   /* nodes its server has dirty, at most */
  struct disk_pointer table; /* root of the object table's tree */
  uint32_t table_height, spare0;
  uint64_t redo_epoch; /* blocks from redo_lsn on are of this epoch or later */
  uint8_t spare1[56];
  struct disk_member members[DISK_VOLUMES];  /* from byte 256 on */
  struct disk_retired retired[DISK_RETIRED]; /* from byte 3328 on */
  uint8_t spare2[DISK_CRC_OFF - 256 - DISK_VOLUMES * 48 - DISK_RETIRED * 16];
  uint32_t crc;
};

_Static_assert(sizeof (struct disk_super) == DISK_BLOCK_BYTES, "super size");
_Static_assert(sizeof (struct disk_member) == 48, "member size");
_Static_assert(offsetof (struct disk_super, members) == 256, "super members");
_Static_assert(sizeof (struct disk_retired) == 16, "retired size");
_Static_assert(offsetof (struct disk_super, retired) == 3328, "super retired");

/* ---- META: a node of a tree ----
 *
 * All META is trees: the object table, each object's page map, each volume's
 * free map.  Level 0 holds what the tree is for, levels above it hold
 * pointers.  Bytes from DISK_NODE_USED on are zero, so that a node fits into
 * one log block.
 */

#define DISK_NODE_MAGIC UINT32_C (0x4e504146) /* "FAPN" */
#define DISK_NODE_HEAD  128u
#define DISK_NODE_USED  3968u
#define DISK_NODE_BODY  (DISK_NODE_USED - DISK_NODE_HEAD)

enum disk_node_type {
  DISK_NODE_INNER = 1,   /* pointers to the level below */
  DISK_NODE_MAP = 2,     /* map entries of DISK_MAP_PAGES pages */
  DISK_NODE_TABLE = 3,   /* DISK_TABLE_OBJECTS objects */
  DISK_NODE_FREEMAP = 4, /* a bit a block, 1: in use */
};

struct disk_node {
  uint32_t magic;
  uint16_t version; /* 1 */
  uint8_t type, level;
  uint64_t blk;   /* own place */
  uint64_t cycle; /* that wrote it last */
  uint64_t tree;  /* object id, or one of the trees below */
  uint64_t index; /* within its level: page, child, ... / what a node covers */
  uint8_t uuid[DISK_UUID_BYTES];
  uint32_t nr_used; /* entries that are not zero (bits set, in a free map) */
  uint32_t spare0;
  uint8_t seal[DISK_SEAL_BYTES];
  uint8_t spare1[DISK_NODE_HEAD - 64 - DISK_SEAL_BYTES];
  uint8_t body[DISK_NODE_BODY];
  uint8_t spare2[DISK_CRC_OFF - DISK_NODE_USED];
  uint32_t crc;
};

_Static_assert(sizeof (struct disk_node) == DISK_BLOCK_BYTES, "node size");
_Static_assert(offsetof (struct disk_node, body) == DISK_NODE_HEAD,
               "node body");

/* Trees that are no object's page map.  Object ids begin at DISK_TREE_FIRST. */
#define DISK_TREE_TABLE   UINT64_C (1)
#define DISK_TREE_FREEMAP UINT64_C (0x100) /* + the volume's number */
#define DISK_TREE_FIRST   UINT64_C (0x1000)

#define DISK_FANOUT_SHIFT 7
#define DISK_FANOUT       (1u << DISK_FANOUT_SHIFT)
struct disk_inner {
  struct disk_pointer child[DISK_FANOUT];
};

/* Two arrays, so that an entry costs 12 bytes: a word as in swmeta.h, and the
 * page's CRC32C.  Sealed stores will have 56 bytes and 64 pages a node.
 */
#define DISK_MAP_SHIFT 8
#define DISK_MAP_PAGES (1u << DISK_MAP_SHIFT)
struct disk_map {
  uint64_t word[DISK_MAP_PAGES];
  uint32_t crc[DISK_MAP_PAGES];
};

#define DISK_FREEMAP_BITS (DISK_NODE_BODY * 8)
struct disk_freemap {
  uint8_t bits[DISK_NODE_BODY];
};

enum disk_object_state {
  DISK_OBJECT_FREE = 0, /* the place is empty: all zero */
  DISK_OBJECT_LIVE = 1,
  DISK_OBJECT_DYING = 2, /* removed; its blocks are being freed */
};

enum disk_object_flags {
  DISK_OBJECT_SHARED = 1,
  DISK_OBJECT_RESERVED = 2, /* every page of it is charged */
  DISK_OBJECT_UNNAMED = 4,  /* swap/ID, kept by swap-keep=yes */
};

struct disk_object {
  uint64_t id;
  uint8_t instance[16];
  uint64_t size_bytes;
  uint32_t state, flags;
  struct disk_pointer root; /* of its page map */
  uint32_t height;          /* levels above the map's leaves */
  uint32_t name_bytes;
  uint64_t nr_mapped, nr_zero, nr_nodes; /* as of the cycle's cut */
  uint64_t created_s;                    /* seconds since 1970 */
  uint8_t seal[DISK_SEAL_BYTES];
  uint64_t old_bytes; /* size before; what is behind size_bytes is being freed
                       * up to there.  0: nothing is there */
  uint8_t spare[120];
  uint8_t name[256]; /* no zero at the end is needed */
};

#define DISK_TABLE_OBJECTS 7u
struct disk_table {
  struct disk_object object[DISK_TABLE_OBJECTS];
};

_Static_assert(sizeof (struct disk_object) == 512, "object size");
_Static_assert(sizeof (struct disk_inner) <= DISK_NODE_BODY, "inner fits");
_Static_assert(sizeof (struct disk_map) <= DISK_NODE_BODY, "map fits");
_Static_assert(sizeof (struct disk_table) <= DISK_NODE_BODY, "table fits");

/* ---- the log: a ring of blocks, each whole by itself ----
 *
 * lsn counts log blocks since format and only grows; its place is ring_first
 * + lsn % ring_blocks.  Along the ring lsns follow each other and epochs never
 * fall.
 */

#define DISK_LOG_MAGIC UINT32_C (0x4c504146) /* "FAPL" */
#define DISK_LOG_HEAD  96u
#define DISK_LOG_BODY  (DISK_CRC_OFF - DISK_LOG_HEAD)

enum disk_log_kind {
  DISK_LOG_REDO = 1, /* records */
  DISK_LOG_UNDO = 2, /* the first DISK_NODE_USED bytes of a node, as it lies
                      * on the medium at blk */
};

struct disk_log {
  uint32_t magic;
  uint16_t version; /* 1 */
  uint16_t kind;
  uint64_t lsn;
  uint64_t epoch;
  uint64_t durable; /* every block below was durable when this was written */
  uint8_t uuid[DISK_UUID_BYTES];
  uint64_t blk;      /* UNDO: of the node; else 0 */
  uint32_t bytes;    /* of the body that are used */
  uint32_t sequence; /* low half: root slots older than this do not serve */
  uint8_t seal[DISK_SEAL_BYTES];
  uint8_t body[DISK_LOG_BODY];
  uint32_t crc;
};

_Static_assert(sizeof (struct disk_log) == DISK_BLOCK_BYTES, "log size");
_Static_assert(offsetof (struct disk_log, body) == DISK_LOG_HEAD, "log body");
_Static_assert(DISK_NODE_USED <= DISK_LOG_BODY, "an image fits");

enum disk_rec_type {
  DISK_REC_MAP = 1,  /* pages pgno.. are in blocks word..; their CRCs follow */
  DISK_REC_ZERO = 2, /* pages become "zero, reserved" */
  DISK_REC_FREE = 3, /* pages become holes */
  DISK_REC_NODE = 4, /* the tree has a new node: level nr, index pgno, at
                      * block word */
  DISK_REC_UNNODE = 5, /* the tree has this (empty) node no more */
  DISK_REC_OBJECT = 6, /* table place pgno becomes the disk_object that
                        * follows; its root, height and counts do not count */
};

/* A record never crosses a log block.  Its CRC lets the next process tell a
 * whole record from one that was being written when this one died.
 */
struct disk_rec {
  uint32_t crc; /* of lsn of its block, then of what follows this field */
  uint16_t type;
  uint16_t bytes; /* of all of it, a multiple of 8 */
  uint64_t object;
  uint64_t pgno;
  uint64_t word;
  uint32_t nr; /* pages; level */
  uint32_t spare;
  /* MAP: nr CRC32Cs of pages, padded with zeros to 8; OBJECT: its entry */
};

_Static_assert(sizeof (struct disk_rec) == 40, "record size");

/* ---- undo files: what a repair has overwritten; no part of a store ----
 *
 *   | head (4096) | record | block (4096) | record | block | ...
 */

#define DISK_UNDO_MAGIC   "FARPAGEU"
#define DISK_UNDO_VERSION 1

struct disk_undo {
  uint8_t magic[8]; /* DISK_UNDO_MAGIC, no zero at the end */
  uint32_t version, nr_volumes;
  uint8_t uuid[DISK_UUID_BYTES]; /* of the store */
  uint64_t nr_records;
  uint64_t nr_blocks[DISK_VOLUMES]; /* of each volume */
  uint8_t spare[DISK_CRC_OFF - 40 - 8 * DISK_VOLUMES];
  uint32_t crc;
};

struct disk_undo_rec {
  uint64_t number; /* 0, 1, .. */
  uint64_t blk;    /* with its volume's number */
  uint32_t data_crc;
  uint32_t unread; /* 1: it could not be read: nothing to put back */
  uint32_t spare;
  uint32_t crc; /* of the bytes before it */
  /* The block's 4096 bytes. */
};

_Static_assert(sizeof (struct disk_undo) == DISK_BLOCK_BYTES, "undo head");
_Static_assert(sizeof (struct disk_undo_rec) == 32, "undo record");

#endif /* FARPAGE_DISK_H */
