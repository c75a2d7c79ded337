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
  X (free_meta_early, "a map block is free when its cycle has retired")        \
  X (free_at_once, "a block is free when its unmapping is durable")

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
