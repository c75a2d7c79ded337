/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's nbd driver, over netlink: devices are made, given new sockets,
 * and ended.
 *
 * Functions return 0 or an errno of the driver, if not said otherwise:  EPERM:
 * not root.  EBUSY: the device is in use.  EINVAL: it is not attached, or not
 * as this backend.
 */

#ifndef FARPAGE_KERNEL_H
#define FARPAGE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define KERNEL_BLOCK_BYTES 4096u

struct kernel;

struct kernel_device {
  int index; /* of /dev/nbdINDEX; -1: any that is free */
  uint64_t size_bytes;
  uint64_t flags;        /* NBD_FLAG_* */
  uint64_t dead_seconds; /* requests wait so long for a new socket, then fail */
  const char *backend;   /* who may give it new sockets */
};

/* The size of a device for an export of so many bytes: whole blocks of it. */
static inline uint64_t
kernel_bytes (uint64_t bytes)
{
  return bytes / KERNEL_BLOCK_BYTES * KERNEL_BLOCK_BYTES;
}

/* The driver is reached in the first network namespace, from any other one,
 * too.  ENOENT: there is no driver.
 */
extern int kernel_open (struct kernel **kp);
extern void kernel_close (struct kernel *k);

/* The sockets are the device's from now on, and stay open when they are closed
 * here.  dev->index is the one that was chosen.
 */
extern int kernel_connect (struct kernel *k, struct kernel_device *dev,
                           const int *fds, unsigned nr);
/* In place of a socket that is dead; where none is, the driver closes it and
 * says 0, too.
 */
extern int kernel_reconnect (struct kernel *k, const struct kernel_device *dev,
                             int fd);
/* All sockets must be of connections that were told of this size. */
extern int kernel_resize (struct kernel *k, const struct kernel_device *dev);
extern int kernel_disconnect (struct kernel *k, int index);

/* Readable when kernel_take_dead () may have something. */
extern int kernel_fd (const struct kernel *k);
/* How many sockets of the device the driver has given up since the last call.
 * Does not block.
 */
extern unsigned kernel_take_dead (struct kernel *k, int index);

#endif /* FARPAGE_KERNEL_H */
