/* SPDX-License-Identifier: BSD-2-Clause */
/* What keeps a process going on a machine that is short of memory, and whose
 * swap it serves or connects: what it does for a page must not wait until some
 * other page has been written out, by itself maybe.
 *
 *   flusher        the kernel finds memory for our threads without I/O
 *   locked         no page of ours, once there, is taken away
 *   oom_score_adj  -1000: the OOM killer takes somebody else
 *
 * Each of the three is there or not by itself; where the rights for it are
 * missing it can go on without.
 */

#ifndef FARPAGE_ARMOUR_H
#define FARPAGE_ARMOUR_H

#include <stdbool.h>

enum armour_wanted {
  ARMOUR_AUTO, /* what can be had; what cannot is told, in one warning */
  ARMOUR_YES,  /* all of it, else EPERM, which is told */
  ARMOUR_NO    /* as the process is */
};

struct armour {
  bool flusher, locked;
  int oom_score_adj; /* as it is, whoever has set it */
};

/* Before the fork: would armour_put_on () work?  EPERM.  Nothing stays on: a
 * process that is made meanwhile has none of it.
 */
extern int armour_try (enum armour_wanted wanted);

/* After the last fork, which ends locks, and before any thread of ours, for the
 * flusher's flag is handed down from thread to thread.  From now on memory is
 * locked as it is touched; what is not touched costs nothing, so large stacks
 * do no harm.  *a: what is on.  EPERM.
 */
extern int armour_put_on (enum armour_wanted wanted, struct armour *a);

/* If memory is locked, what is mapped now is brought in: libraries, heap,
 * stacks of our own threads, buffers; with shared also memory volumes, which
 * the fork has left without page tables, and which must not be sparse then.
 * What is mapped later comes as it is touched, as before.  Blocks: for as long
 * as it takes to touch it all.
 *
 * libraries: NULL, or how the names of files begin of which all is wanted, up
 * to a NULL; what is only read of others comes as it is touched.
 */
extern void armour_fill (const struct armour *a, bool shared,
                         const char *const *libraries);

#endif /* FARPAGE_ARMOUR_H */
