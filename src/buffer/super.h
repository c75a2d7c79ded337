/* SPDX-License-Identifier: BSD-2-Clause */
/* Superblocks: finding, judging and writing the slots of all volumes.
 *
 * Each volume has DISK_SUPER_SLOTS slots, two at either end, written in turn
 * (sequence % 4), so that one torn or lost write never costs the others, and
 * always two with the same content, a flush behind each.  The one with the
 * highest sequence that is whole counts.  Slots of volumes other than the root
 * are written, and flushed, before the root's.
 *
 * Structures are used as they lie on the medium: a durable store runs on
 * little-endian machines alone.
 */

#ifndef FARPAGE_SUPER_H
#define FARPAGE_SUPER_H

#include "disk.h"
#include "volume.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "a durable store's structures are used in place");

#ifndef SUPER_RING_BLOCKS_MIN /* the simulator has fewer */
#define SUPER_RING_BLOCKS_MIN 128u
#endif
/* Blocks of the ring for each node of the free maps, at least. */
#define SUPER_RING_FREEMAP 8u
/* Blocks that format leaves for META and DATA on each volume, at least. */
#define SUPER_REST_BLOCKS_MIN (VOLUME_BYTES_MIN / DISK_BLOCK_BYTES)
/* Above all counters that a superblock holds: lsn, cycle, epoch, ... */
#define SUPER_COUNT_MAX (UINT64_C (1) << 60)

/* The newest superblock of a volume is in so many slots. */
#define SUPER_COPIES 2u

struct supers {
  struct volume *const *volumes; /* by their number in the store */
  unsigned nr_volumes;
  /* Unknown features: nothing may be written (EROFS).  Who has overlays in
   * memory may take it back.
   */
  bool readonly;
  /* Of the root's slots as they were read, for each NULL or what is wrong.  A
   * newer one than root may have been lost only if one of them is not NULL,
   * or if its write never reached the medium.
   */
  const char *root_errors[DISK_SUPER_SLOTS];
  struct disk_super root; /* volume 0's, as it is or will be written next */
  struct disk_super peers[DISK_VOLUMES]; /* [0] is not used */
};

/* Where slot i of a volume of nr_blocks lies. */
extern uint64_t super_slot_block (uint64_t nr_blocks, unsigned slot);

/* NULL, or what is wrong with a slot as it was read from a volume of
 * nr_blocks.  Does not judge unknown features; where there are some, what they
 * may have changed is not judged either.
 */
extern const char *super_error (const struct disk_super *super, unsigned slot,
                                uint64_t nr_blocks);

/* super_error () says one of these for what is no damage. */
extern const char super_no_magic[], super_other_version[], super_other_size[];
/* What a write that a crash has cut off may leave. */
extern const char super_wrong_crc[], super_unread[];
/* Of a volume's slots, as super_read () judged them. */
extern bool super_has_unread (const char *const errors[DISK_SUPER_SLOTS]);
/* Where the next superblock of this volume goes: if a write was cut off, over
 * what it has left.
 */
extern unsigned super_next_slot (const struct disk_super *best);

/* Read a volume's slots: the best of them.  ENOENT if none is a superblock's
 * at all (no magic); EIO if there were some and none is good; EINVAL if one is
 * whole and of another version, or those that are whole are of a volume of
 * another size.  errors, if not NULL, has for each slot NULL or what is wrong,
 * in any case.  Tells nothing, writes nothing.  Blocks: yes.
 */
extern int super_read (struct volume *v, struct disk_super *best,
                       const char *errors[DISK_SUPER_SLOTS]);

/* Read all volumes of a store, given in any order: puts them in order in
 * volumes[], and judges: the root's epoch counts, a peer may be at it or one
 * above; uuid, own number, size, unknown incompatible features, one given
 * twice (EINVAL), one missing (ENXIO), an older peer or one that is more than
 * one above (ESTALE), and what super_read () says, but EMEDIUMTYPE for ENOENT.
 * All that is wrong is told in the log, with the remedy; damaged slots beside a
 * good one are, too.  When it fails volumes[] is as it was and *s of no use.
 */
extern int supers_read (struct volume **volumes, unsigned nr_volumes,
                        struct supers *s);

/* Write the next slot of the root, one of SUPER_COPIES, flushing nothing:
 * sequence + 1, CRC, built in page (DISK_BLOCK_BYTES, page-aligned).  EIO, and
 * then a later call writes the same slot.  Blocks: yes.
 */
extern int supers_write_root (struct supers *s, void *page);

/* When all copies of this one are durable: the oldest that may be gone by. */
static inline uint64_t
supers_oldest (const struct disk_super *root)
{
  return root->sequence - (SUPER_COPIES - 1);
}

/* A new epoch: the root's + 1 everywhere.  Peers' slots are written and
 * flushed, then the root's with the state DISK_IN_USE, and that flushed.  When
 * it fails, the root's epoch and state in s are as before.  EIO, EROFS.
 * Blocks: yes.
 */
extern int supers_attach (struct supers *s, void *page);

/* ---- format ---- */

struct super_format {
  struct volume *const *volumes; /* in their order; 0 is the root */
  unsigned nr_volumes;
  uint64_t ring_bytes; /* 0: 1/256 of the root, 32 MiB to 1 GiB, but at most
                        * half of it; more if the free maps are that large */
  /* Told as log area and free map are written; may be NULL. */
  void (*progress) (void *arg, uint64_t done_bytes, uint64_t all_bytes);
  void *arg;
};

/* Make a store on these volumes, whatever they held: the first and last MiB
 * of each wiped, log area written with zeros, free map, an empty object table,
 * all slots; durable on return.  The root's slots go first and come back last,
 * so that an interrupted format is no store.  EINVAL: too small (told with the
 * least size that is enough), or a ring that is.  ENOSPC, EIO, ENOMEM.  Blocks:
 * yes.
 */
extern int super_format (const struct super_format *config,
                         uint8_t uuid[DISK_UUID_BYTES]);

/* Blocks of a volume that are neither slots, ring nor free map begin here;
 * they end before its last two, which are slots.
 */
extern uint64_t super_first_block (const struct disk_super *root,
                                   unsigned volume);

/* Sizes that the free map of a volume needs: nodes on all levels, and the
 * levels above its leaves.
 */
extern void super_freemap_size (uint64_t nr_blocks, uint64_t *nr_nodes,
                                uint32_t *height);

#endif /* FARPAGE_SUPER_H */
