/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of test-host share. */

#ifndef FARPAGE_HOST_LOAD_H
#define FARPAGE_HOST_LOAD_H

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "nbdkit.h"
#include "test-util.h"

#define SECTOR 512u
#define PAGE   4096u
#define MIB    (UINT64_C (1) << 20)

#define SLOTS    2                 /* connections to a disk at a time */
#define WORKERS  2                 /* threads of each */
#define SHARES   (SLOTS * WORKERS) /* who may write where: see load.c */
#define NR_DISKS 6

/* A failure ends the process at once, with the state of things as it is. */
#define MUST(what)                                                          \
  do {                                                                      \
    if (!(what)) {                                                          \
      fprintf (stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
      abort ();                                                             \
    }                                                                       \
  } while (0)

/* A disk and what must be in it. */
struct disk {
  const char *export; /* as it is opened */
  const char *name;   /* as the control socket knows it; NULL: unnamed */
  uint64_t bytes;
  unsigned grain; /* sectors in a row that belong to one worker */
  enum host_peer kind;
  uint8_t *model;
};

struct host {
  struct nbdkit_plugin *p;
  char dir[256];
  uint64_t seed;
  atomic_bool end;
  struct disk disk[NR_DISKS];
  atomic_ulong nr_requests, nr_opens, nr_looks, nr_controls, nr_shut_down;
};

/* ---- load.c ---- */

/* The connections of one slot of one disk, one after another. */
struct slot {
  struct host *host;
  struct disk *disk;
  unsigned nr;
};
extern void *slot_main (void *slot);
/* All of a disk must be as its model, and no worker is left. */
extern void disk_verify (struct host *host, struct disk *disk);

/* ---- others.c: those who come in between; threads ---- */

extern void *look_main (void *host);
extern void *control_main (void *host);

/* Send one line to the control socket, wait for the answer. */
extern const char *control_ask (const struct host *host, char *answer,
                                size_t bytes, const char *fmt, ...)
    __attribute__ ((format (printf, 4, 5)));

#endif /* FARPAGE_HOST_LOAD_H */
