/* SPDX-License-Identifier: BSD-2-Clause */
/* Included before each file of the core when it is compiled for the simulator:
 * its switches (sabotage.h), and bounds so low that short runs come to them.
 */

#ifndef FARPAGE_BOUNDS_H
#define FARPAGE_BOUNDS_H

#define FARPAGE_SABOTAGE

#define BUFS_MIN              112u
#define SUPER_RING_BLOCKS_MIN 72u
#define CYCLE_EARLY_NODES(fl) (4 + (fl)->epoch % 3 * 5)
#define AHEAD_NODES           6u
#define DATA_RUNS             24u
#define META_WAIT             2u
#define NOTED_FOLD            24u

#endif /* FARPAGE_BOUNDS_H */
