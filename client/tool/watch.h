/* SPDX-License-Identifier: BSD-2-Clause */
/* Devices that are attached, and one that is watched: whose connections are
 * made again when they are lost.
 */

#ifndef FARPAGE_WATCH_H
#define FARPAGE_WATCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "device.h"
#include "export.h"
#include "kernel.h"

#define WATCH_DIAL_MS    2000u /* for a connection that is made again */
#define WATCH_TIMEOUT_MS 3000u /* TCP: nothing was acknowledged for so long */

struct attached {
  struct kernel *kernel;
  struct kernel_device dev;
  struct export export;
  char path[DEVICE_PATH_MAX];
  int fd[EXPORT_CONNS_MAX]; /* of the last generation, the kernel has them too
                             */
  unsigned nr;
};

/* Can a watcher say here what it watches?  If not, that is told. */
extern bool watch_is_possible (void);

/* Make the connections again whenever they are lost, and at SIGHUP, until
 * SIGTERM or SIGINT (0: the device stays) or until the device is detached by
 * somebody (0), or gives up (1, told).  If the export has become larger since,
 * so does the device.  Others find this process by watch_look ().  Blocks: yes.
 */
extern int watch_run (struct attached *a);

struct watch_state {
  pid_t pid;           /* 0: nobody watches it */
  unsigned generation; /* of its connections; 0: it does not hear SIGHUP yet */
  uint64_t size_bytes; /* of the device since then */
};

extern void watch_look (int index, struct watch_state *st);

#endif /* FARPAGE_WATCH_H */
