/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks that nothing names any more and that must not be used yet: those of
 * pages until the record that unmapped them is durable, those of META until
 * no superblock needs the cycle they were given up in.
 */

#ifndef FARPAGE_PARKED_H
#define FARPAGE_PARKED_H

#include "flush.h"
#include "space.h"

struct parked;

extern int parked_create (struct space *sp, struct flush *fl,
                          struct parked **pkp);
/* What is still parked is freed: nobody needs it any more. */
extern void parked_destroy (struct parked *pk); /* NULL is fine */

/* These blocks left the map by records below lsn, and nobody reads them.  Each
 * keeps a unit until it is free; a commit is begun when many wait.  Lock: none
 * held.  Blocks: while the queue is full.
 */
extern void parked_data (struct parked *pk, const struct space_run *runs,
                         unsigned nr_runs, uint64_t lsn);

/* A node's block, given up in this cycle; its charge is given back with it.
 * Lock: any below LOCK_LEAF.  Blocks: no; room is had with parked_wait ().
 */
extern void parked_meta (struct parked *pk, uint64_t blk, uint64_t cycle);

/* Wait (running cycles) until there is room for CHANGE_NODES_MAX more nodes of
 * each change under way.  EIO: the store has failed.  Lock: none held.
 */
extern int parked_wait (struct parked *pk);

/* From flush_ops. */
extern void parked_durable (struct parked *pk, uint64_t lsn);
extern void parked_retired (struct parked *pk, uint64_t cycle);

/* All; and those of META, which space does not count as parked. */
extern uint64_t parked_nr_blocks (struct parked *pk);
extern uint64_t parked_nr_meta (struct parked *pk);

#endif /* FARPAGE_PARKED_H */
