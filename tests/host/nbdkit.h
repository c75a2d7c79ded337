/* SPDX-License-Identifier: BSD-2-Clause */
/* A small nbdkit inside the test's own process: the functions a plugin calls,
 * and what a test sets and sees behind them.
 */

#ifndef FARPAGE_HOST_NBDKIT_H
#define FARPAGE_HOST_NBDKIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

/* The table of the plugin that is linked in. */
extern struct nbdkit_plugin *plugin_init (void);

/* ---- what the calling thread's connection is, as nbdkit knows it ---- */

enum host_peer {
  HOST_PEER_NONE,   /* nbdkit_peer_name fails */
  HOST_PEER_UNIX,   /* number is the pid, uid 1000 */
  HOST_PEER_NO_PID, /* a Unix socket whose peer the kernel does not tell */
  HOST_PEER_IP4,    /* 10.0.0.number */
  HOST_PEER_IP6,    /* fe80::number */
  HOST_PEER_MAPPED, /* ::ffff:10.0.0.number */
  HOST_PEER_OTHER   /* a family the plugin has not heard of */
};
extern void host_connection (const char *export, enum host_peer kind,
                             unsigned number, uint16_t port);

/* ---- what the plugin has said ---- */

/* The errno of the calling thread's last nbdkit_set_error; 0: none since. */
extern int host_take_error (void);
/* Does a message of nbdkit_error since host_forget () have these words? */
extern bool host_said (const char *words);
extern void host_forget (void);
/* Print it all, for a test that failed. */
extern void host_show (void);

/* ---- extents and exports ---- */

/* As nbdkit 1.32, a test ends at once if one is out of order or too long. */
struct host_extent {
  uint64_t off, bytes;
  uint32_t type;
};
#define HOST_EXTENTS_MAX 4096
struct nbdkit_extents {
  uint64_t end, next;
  unsigned nr, max; /* max: fail the call that would be one more */
  struct host_extent extent[HOST_EXTENTS_MAX];
};
extern void host_extents_init (struct nbdkit_extents *x, uint64_t off,
                               uint32_t bytes);

#define HOST_EXPORTS_MAX 10000 /* nbdkit's own */
struct nbdkit_exports {
  unsigned nr;
  char last[256];
};

#endif /* FARPAGE_HOST_NBDKIT_H */
