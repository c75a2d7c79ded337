/* SPDX-License-Identifier: BSD-2-Clause */
/* Superblocks: finding, judging and writing the slots of all volumes.
 *
 * Each volume has DISK_SUPER_SLOTS slots, two at either end, written in turn
 * (sequence % 4), so that one torn or lost write never costs the others.  The
 * one with the highest sequence that is whole counts.  Slots of volumes other
 * than the root are written, and flushed, before the root's.
 */

#ifndef FARPAGE_SUPER_H
#define FARPAGE_SUPER_H

#include "disk.h"
#include "volume.h"

struct supers {
  struct volume *const *volumes; /* by their number in the store */
  unsigned nr_volumes;
  struct disk_super root; /* volume 0's, as it is or will be written next */
  struct disk_super peers[DISK_VOLUMES]; /* [0] is not used */
};

/* Where slot i of a volume of nr_blocks lies. */
extern uint64_t super_slot_block (uint64_t nr_blocks, unsigned slot);

/* NULL, or what is wrong with a slot as it was read.  Does not judge unknown
 * features.
 */
extern const char *super_error (const struct disk_super *super, unsigned slot,
                                uint64_t nr_blocks);

/* Read a volume's slots: the best of them; ENOENT if none is a superblock's
 * at all (no magic), EIO if there were some and none is whole.  errors, if not
 * NULL, has for each slot NULL or what is wrong.  Writes nothing.  Blocks: yes.
 */
extern int super_read (struct volume *v, struct disk_super *best,
                       const char *errors[DISK_SUPER_SLOTS]);

/* Read all volumes of a store, given in any order: puts them in order in
 * volumes[], and judges: the root's epoch counts, a peer may be at it or one
 * above;: uuid, own number, size, unknown incompatible features (EINVAL),
 * one missing or too many (ENXIO), an older peer (ESTALE).  What is wrong is
 * told in the log, with the remedy.
 */
extern int supers_read (struct volume **volumes, unsigned nr_volumes,
                        struct supers *s);

/* Write the next slot of the root, flushing nothing: sequence + 1, CRC, built
 * in page (DISK_BLOCK_BYTES, page-aligned).  EIO.
 */
extern int supers_write_root (struct supers *s, void *page);

/* A new epoch: the root's + 1 everywhere.  Peers' slots are written and
 * flushed, then the root's, and that flushed.  Blocks: yes.
 */
extern int supers_attach (struct supers *s, void *page);

/* ---- format ---- */

struct super_format {
  struct volume *const *volumes; /* in their order; 0 is the root */
  unsigned nr_volumes;
  uint64_t ring_bytes; /* 0: 1/256 of the root, 32 MiB to 1 GiB */
  /* Told as the log area is written; may be NULL. */
  void (*progress) (void *arg, uint64_t done_bytes, uint64_t all_bytes);
  void *arg;
};

/* Make a store on these volumes: log area written with zeros, free map, an
 * empty object table, all slots; durable on return.  The root's first slot is
 * written last, so that an interrupted format is no store.  EINVAL: too small
 * (told with the size that is needed).  ENOSPC, EIO.  Blocks: yes.
 */
extern int super_format (const struct super_format *config,
                         uint8_t uuid[DISK_UUID_BYTES]);

/* Blocks of a volume that are neither slots, ring nor free map begin here. */
extern uint64_t super_first_block (const struct disk_super *root,
                                   unsigned volume);

/* Sizes that the free map of a volume needs: nodes on all levels, and the
 * levels above its leaves.
 */
extern void super_freemap_size (uint64_t nr_blocks, uint64_t *nr_nodes,
                                uint32_t *height);

#endif /* FARPAGE_SUPER_H */
