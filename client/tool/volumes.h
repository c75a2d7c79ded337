/* SPDX-License-Identifier: BSD-2-Clause */
/* The volumes that a command names, for commands that ask no server. */

#ifndef FARPAGE_VOLUMES_H
#define FARPAGE_VOLUMES_H

#include "super.h"
#include "tool.h"

struct volumes {
  struct volume *v[ARGS_MAX];
  bool in_use[ARGS_MAX]; /* with readonly: somebody has it locked */
  unsigned nr;
};

/* From now on what the layers below have to say is complained about. */
extern void volumes_tell (void);

/* Open all that inv names: locked for us alone, after lock_wait_ns at most for
 * each, or, with readonly, as they are and whoever has them.  0, or the exit
 * status.
 */
extern int volumes_open (const struct invocation *inv, bool readonly,
                         uint64_t lock_wait_ns, struct volumes *vs);
extern void volumes_close (struct volumes *vs);

/* Best slot of a volume, as super_read (), but read again if one of its slots
 * is bad: a running server may just have been writing it.
 */
extern int volumes_super (struct volume *v, struct disk_super *best,
                          const char *errors[DISK_SUPER_SLOTS]);

#endif /* FARPAGE_VOLUMES_H */
