/* SPDX-License-Identifier: BSD-2-Clause */
/* Switches that break one rule each, in the simulator's build only: what the
 * tests are worth is how soon they notice.  Everywhere else SABOTAGE () is
 * false at compile time.
 */

#ifndef FARPAGE_SABOTAGE_H
#define FARPAGE_SABOTAGE_H

/* X (name, the rule it breaks) */
#define SABOTAGES(X)                                                           \
  X (skip_commit_flush, "a commit flushes every marked volume")                \
  X (mark_before_completion, "a flush is for what was complete when it began") \
  X (skip_meta_flush, "META is flushed before the superblock that says so")    \
  X (retry_flush, "a failed flush is final")                                   \
  X (ack_before_log, "a flush is answered when its records are durable")       \
  X (no_undo, "a node's old image is in the log before it is changed")         \
  X (ignore_epoch, "a dropped log block never counts again")                   \
  X (believe_all, "records above the durable mark are verified")               \
  X (free_at_once, "a block is free when its unmapping is durable")            \
  X (meta_before_log,                                                          \
     "META is written when the log through its cut is durable")                \
  X (super_before_meta, "the superblock is written when its META is complete") \
  X (close_unflushed, "META is flushed before the clean superblock")           \
  X (data_after_log, "data is flushed before the mark covers its record")      \
  X (no_image, "a cut node's content is kept before it changes")               \
  X (no_gate, "nobody is changing anything at a cut")                          \
  X (lazy_names, "making and removing are durable when answered")              \
  X (seal_old_cycle, "a node tells the cycle that wrote it")                   \
  X (no_cycle_check, "a node has the cycle of what points to it")              \
  X (fold_late, "the free map is folded at the cut")                           \
  X (same_epoch, "an open raises the epoch")                                   \
  X (root_before_peers, "peers have the new epoch before the root")            \
  X (mark_too_high, "the mark tells what a flush has covered")                 \
  X (no_log_crc, "a log block has the right CRC")                              \
  X (undo_forwards, "of several images of a node the oldest wins")             \
  X (unnode_at_once, "nodes go when the pages above the mark are decided")     \
  X (no_open_flush, "what recovery reads is on the media")                     \
  X (forget_staging, "what a dead process had staged is written")              \
  X (publish_early, "the old staging file stays until recovery is over")       \
  X (no_page_crc, "a page has the CRC of its map entry")                       \
  X (no_data_tag, "a page is staged before it is answered")                    \
  X (untag_early, "a page stays staged until its write has ended")             \
  X (keep_old_page, "a buffer of a block goes before it is written past")      \
  X (read_old_image, "recovery reads a node it has written from its place")    \
  X (forget_images, "nodes that recovery has not changed are put back")        \
  X (early_before_log, "recovery writes a node when its image is durable")     \
  X (free_meta_early, "a map block is free when its cycle has retired")        \
  X (free_ring_early, "the ring is free when the superblock drops it")         \
  X (retire_early, "META's blocks wait for the cut after them")                \
  X (rewrite_log, "a log block that was flushed is not written again")         \
  X (believe_behind, "the log ends at the first block that is not good")       \
  X (forget_mark, "a recovery goes on telling the old mark")                   \
  X (settle_late, "an object's pages are decided before it leaves")            \
  X (same_slot, "superblock slots take turns")                                 \
  X (trust_old_root, "the log says which superblocks are too old")             \
  X (super_once, "the newest superblock is in two slots")                      \
  X (super_unflushed, "a superblock is flushed before it counts")              \
  X (no_mend, "a log block that was being filled is made whole")               \
  X (forget_retired, "recovery keeps the list of blocks that failed a write")  \
  X (park_no_unit, "a parked block keeps its unit")                            \
  X (forget_pins, "a block that is being read stays what it is")               \
  X (cut_early, "what is cut off is freed when the table has the new end")     \
  X (forget_tail, "the table tells what is behind a new end until it is freed")

#ifdef FARPAGE_SABOTAGE
#define SABOTAGE_ENUM(name, rule) SABOTAGE_##name,
enum sabotage {
  SABOTAGE_NONE,
  SABOTAGES (SABOTAGE_ENUM) SABOTAGE_NR
};
extern enum sabotage sabotage_on;
#define SABOTAGE(name) (sabotage_on == SABOTAGE_##name)
#else
#define SABOTAGE(name) 0
#endif

#endif /* FARPAGE_SABOTAGE_H */
