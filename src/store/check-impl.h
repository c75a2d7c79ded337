/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of check share; nobody else includes it. */

#ifndef FARPAGE_CHECK_IMPL_H
#define FARPAGE_CHECK_IMPL_H

#include "check.h"

#include "disk.h"
#include "recover.h"
#include "tree.h"
#include "volume.h"

/* Slots at the end of a volume. */
#define SLOTS_END       (DISK_SUPER_SLOTS / 2)
#define TREE_LEVELS     (TREE_HEIGHT_MAX + 1)
#define CHECK_TWICE_MAX 65536u /* blocks whose owners are told */

/* An object of the table. */
struct check_object {
  uint64_t place;
  struct disk_object entry;
  char *name;  /* for messages */
  bool twin;   /* its id is another's: its map is not looked at */
  bool broken; /* a node of its map is not good */
  uint64_t nr_nodes, nr_mapped, nr_zero; /* as counted */
};

/* Who names a block. */
struct check_owner {
  uint64_t tree;
  uint64_t pgno;  /* of a page; of a node: the first page it covers */
  bool node;      /* a map's or the table's node, not a page */
  bool crc_right; /* of a page: the block has its CRC */
};

/* A block that is named more than once: its first two owners. */
struct check_twice {
  uint64_t blk;
  unsigned nr;    /* owners found */
  unsigned keeps; /* which of them will keep it */
  struct check_owner owner[2];
};

/* What a walk through trees is for. */
enum check_pass {
  PASS_LOOK,   /* judge, count, note who owns what */
  PASS_OWNERS, /* find the owners of blocks that are named twice */
  PASS_DROP,   /* repair: take those blocks from who does not keep them */
  PASS_DATA,   /* gather pages to be read */
};

struct check {
  const struct check_config *config;
  struct check_report *report;
  bool fix, lose_pages; /* volumes are overlays: write what is right */

  unsigned nr_volumes;
  struct volume *bare[DISK_VOLUMES];    /* by number; the caller's */
  struct volume *volumes[DISK_VOLUMES]; /* the same, or overlays over them */
  bool overlaid;
  struct disk_super root;
  struct disk_super *peers; /* nr_volumes; [0] is not used */
  const char *slots[DISK_VOLUMES][DISK_SUPER_SLOTS]; /* what is wrong */

  enum check_pass pass;
  /* A bit a block, whole leaves of a free map: named by anybody, or never to
   * be; and: named as a node.
   */
  uint8_t *owned[DISK_VOLUMES], *node[DISK_VOLUMES];
  struct check_twice *twice; /* rising once PASS_LOOK is over */
  uint64_t nr_twice;
  bool no_memory; /* for twice: told by check_twice () */

  struct check_object *objects;
  uint64_t nr_objects, max_objects;
  bool maps_broken; /* some blocks' owners are not known */
  bool entry_noted; /* what to do about bad entries was told */

  struct disk_node *nodes; /* a buffer a level */
  struct check_data *data;
  struct check_ahead *ahead; /* NULL: nothing is read ahead */
  uint64_t nr_walked, nr_to_walk;
  unsigned ticks;
  char text[512];
};

/* ---- check.c ---- */

/* Where a finding is; what is CHECK_NONE or NULL is not told. */
struct check_place {
  uint64_t blk, nr_blocks; /* blk names the volume, too */
  uint64_t tree, pgno, nr_pages;
  const struct volume *volume; /* if blk is CHECK_NONE or of no volume */
  const char *repair;
};
#define CHECK_NOWHERE \
  ((struct check_place){ CHECK_NONE, 1, CHECK_NONE, CHECK_NONE, 1, NULL, NULL })

extern int check_all (struct check *c);
extern void check_end (struct check *c);
extern void check_tell (struct check *c, enum check_kind kind,
                        const struct check_place *at, const char *fmt, ...)
    __attribute__ ((format (printf, 4, 5)));
extern void check_note (struct check *c, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));
/* Progress; EINTR: stop. */
extern int check_tick (struct check *c, enum check_phase phase, uint64_t done,
                       uint64_t all);
extern struct check_object *check_object_of (struct check *c, uint64_t tree);
extern bool check_all_zero (const void *buf, size_t len);
extern int check_read (struct check *c, uint64_t blk, void *to);
extern int check_write (struct check *c, uint64_t blk, const void *from);

/* ---- check-super.c ---- */

/* EINVAL: the volumes are no store. */
extern int check_supers (struct check *c);

/* ---- check-log.c ---- */

/* Is the log good, and must it be gone through?  If so that is done in
 * overlays, and c->root is what it gives.  EUCLEAN: it cannot be; the maps are
 * in no known state.
 */
extern int check_log (struct check *c);

/* ---- check-recover.c ---- */

/* The server's recovery, on c->volumes.  0, or why it, or what comes after it
 * when a store is opened, failed.
 */
extern int check_recover (struct check *c);

/* ---- check-tree.c ---- */

struct check_walk {
  struct check *c;
  uint64_t tree;
  enum disk_node_type leaf_type;
  unsigned height;
  uint64_t nr_leaves;  /* it can have at most */
  uint64_t leaf_pages; /* what a leaf covers */
  /* A good leaf.  True: it was changed. */
  bool (*leaf) (struct check_walk *w, struct disk_node *leaf);
  void *arg;
  uint64_t nr_nodes; /* good ones */
  bool broken;
};
/* Look at all of a tree.  *root becomes none if its node is dropped.  ENOMEM,
 * EINTR.
 */
extern int check_walk (struct check_walk *w, struct disk_pointer *root);

/* May META or DATA be there? */
extern bool check_block_ok (const struct check *c, uint64_t blk);

/* ---- check-ahead.c ---- */

extern int check_ahead_begin (struct check *c);
extern void check_ahead_end (struct check *c);
/* Read all leaves that a node of level 1 points to. */
extern void check_ahead_read (struct check *c,
                              const struct disk_pointer child[DISK_FANOUT]);
/* A block that was read so; false: read it. */
extern bool check_ahead_take (struct check *c, uint64_t blk, void *to);

/* ---- check-owner.c ---- */

extern int check_owners_begin (struct check *c);
extern void check_owners_end (struct check *c);
/* owner names nr blocks from blk on, which are possible.  False: (PASS_LOOK)
 * the block is a node's already, and this is a node; (PASS_DROP) it must go.
 */
extern bool check_own (struct check *c, const struct check_owner *owner,
                       uint64_t blk);
/* Is it named? */
extern bool check_is_owned (const struct check *c, uint64_t blk);
/* After PASS_LOOK: is it named more than once? */
extern bool check_is_twice (struct check *c, uint64_t blk);
/* Tell of blocks that are named twice.  again: goes through all trees once
 * more, in c->pass.
 */
extern int check_twice (struct check *c, int (*again) (struct check *c));

/* ---- check-table.c ---- */

extern int check_table (struct check *c);
/* Counts of the table against what was counted. */
extern int check_counts (struct check *c);

/* ---- check-map.c ---- */

/* All objects' maps, in c->pass. */
extern int check_maps (struct check *c);

/* ---- check-space.c ---- */

extern int check_freemaps (struct check *c);

/* ---- check-retired.c ---- */

/* The list of blocks that failed a write; with c->fix c->root gets what of it
 * is right.
 */
extern void check_retired (struct check *c);

/* ---- check-data.c ---- */

extern int check_pages (struct check *c);
/* In PASS_DATA: progress; a page to be read. */
extern int check_data_tick (struct check *c);
extern void check_data_add (struct check *c, uint64_t tree, pgno_t pgno,
                            uint64_t blk, uint32_t crc);

/* ---- check-undo.c ---- */

/* Write what these blocks (blk with the volume's number) of c->bare hold into
 * a new file; durable on return.
 */
extern int check_undo_write (struct check *c, const char *path,
                             const uint64_t *blks, uint64_t nr);

#endif /* FARPAGE_CHECK_IMPL_H */
