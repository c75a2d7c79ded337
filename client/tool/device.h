/* SPDX-License-Identifier: BSD-2-Clause */
/* A device /dev/nbdN as this machine sees it: /sys/block, /proc/swaps.
 *
 * Functions that return int: 0 or an errno.
 */

#ifndef FARPAGE_DEVICE_H
#define FARPAGE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#define DEVICE_PATH_MAX 32u

/* The N of /dev/nbdN, or of another path to that device; -1: it is none.  It
 * may not be there yet.
 */
extern int device_index (const char *path);
extern void device_path (int index, char path[DEVICE_PATH_MAX]);

extern bool device_is_attached (int index);
/* Of /sys/block/nbdN/queue: ENOENT: the kernel does not have it. */
extern int device_set (int index, const char *name, const char *value);

/* Bytes of it that are used as swap. */
extern bool device_is_swap (int index, uint64_t *used_bytes);
/* EBUSY: it is mounted, or otherwise in use. */
extern int device_is_free (int index);
/* What the kernel holds for it is written. */
extern int device_sync (const char *path);

/* What is on it: "ext4", "swap", ...; "" for nothing that is known. */
extern int device_content (int index, char type[DEVICE_PATH_MAX]);

/* Run a program and wait for it: stdout is thrown away, stderr is ours. Returns
 * its status; -1: it did not run, or was killed.
 */
extern int device_run (const char *const argv[]);

#endif /* FARPAGE_DEVICE_H */
