/* SPDX-License-Identifier: BSD-2-Clause */
/* Staging: the buffers' memory as a file in RAM, so that the next process
 * finds what this one had replied but not written when it was killed.
 *
 *   head (4096) | tags, one for each buffer | buffers
 *   magic, version, boot id, store uuid, id, epoch, nr_buffers, crc
 *
 * The file is DIR/UUID.staging, and counts only if the superblock names its
 * random id and the machine has not been booted since (boot id): then every
 * tag that is not 0 names a buffer to be written: DATA to its block, UNDO to
 * its place in the ring.  A new file is made beside it and renamed over it
 * when all of it has been written.
 */

#ifndef FARPAGE_STAGING_H
#define FARPAGE_STAGING_H

#include "buf.h"
#include "super.h"

struct staging;

struct staging_config {
  const char *dir; /* made if it is not there; must be on tmpfs or ramfs */
  uint8_t uuid[DISK_UUID_BYTES];
  uint64_t nr_buffers;
};

/* A new file with a new id, under a temporary name.  EINVAL: dir is no RAM.
 * Errors are told in the log.
 */
extern int staging_create (const struct staging_config *config,
                           struct staging **sgp);
extern void *staging_memory (struct staging *sg);
extern struct buf_tag *staging_tags (struct staging *sg);
extern uint64_t staging_id (const struct staging *sg);
/* It takes the place of the older one. */
extern int staging_publish (struct staging *sg);
/* remove: nothing in it is needed (a clean close). NULL is fine. */
extern void staging_close (struct staging *sg, bool remove);

/* The older file with this id, if it is there and counts: ENOENT else.  Its
 * buffers in no order; log blocks as they were left, maybe unfinished.
 */
extern int staging_open (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
                         uint64_t id, struct staging **sgp);
typedef int (*staging_fn) (void *arg, enum buf_type type, uint64_t blk,
                           const void *page);
extern int staging_each (struct staging *sg, staging_fn fn, void *arg);

/* For the simulator: staging that lives in the process.  NULL puts the files
 * back.
 */
struct staging_ops {
  int (*create) (const struct staging_config *config, struct staging **sgp);
  int (*open) (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
               uint64_t id, struct staging **sgp);
};
extern void staging_set (const struct staging_ops *ops);

#endif /* FARPAGE_STAGING_H */
