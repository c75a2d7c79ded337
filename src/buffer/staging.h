/* SPDX-License-Identifier: BSD-2-Clause */
/* Staging: the buffers' memory as a file in RAM, so that the next process
 * finds what this one had replied but not written when it was killed.
 *
 *   head (4096) | tags, one for each buffer | buffers
 *   magic, version, boot id, store uuid, id, nr_buffers, crc
 *
 * The file is DIR/UUID.staging, and counts only if the superblock names its
 * random id and the machine has not been booted since (boot id): then every
 * tag that is not 0 names a buffer to be written: DATA to its block, UNDO to
 * its place in the ring.  A new file is made beside it and renamed over it
 * when all of it has been written.
 *
 * Two processes never have one store's file: its volumes' locks, which are
 * taken before, keep the second out.
 */

#ifndef FARPAGE_STAGING_H
#define FARPAGE_STAGING_H

#include "buf.h"
#include "disk.h"

struct staging_config {
  const char *dir; /* made if it is not there; must be on tmpfs or ramfs */
  uint8_t uuid[DISK_UUID_BYTES];
  uint64_t nr_buffers;
  uint64_t epoch; /* that the root will have at least when it is published */
};

/* Where the memory comes from implements the calls; see staging_set (). */
struct staging {
  uint64_t id;          /* not 0 */
  uint64_t nr_buffers;  /* [const] */
  uint8_t *memory;      /* [const] nr_buffers pages */
  struct buf_tag *tags; /* [const] nr_buffers */
  int (*publish) (struct staging *sg);
  int (*named) (struct staging *sg, uint64_t sequence);
  void (*close) (struct staging *sg, bool remove);
};

/* A new file with a new id, all its memory allocated, under a temporary name.
 * EINVAL: dir is no RAM.  ENOSPC, EACCES and what else a file may say.  Errors
 * are told in the log, with the remedy.  Blocks: yes.
 */
extern int staging_create (const struct staging_config *config,
                           struct staging **sgp);
extern void *staging_memory (struct staging *sg);
extern struct buf_tag *staging_tags (struct staging *sg);
extern uint64_t staging_id (const struct staging *sg);
/* It takes the place of the older one. */
extern int staging_publish (struct staging *sg);
/* The root's superblocks with this sequence and later ones name it, durably:
 * from now on no older one serves.  Before anything is replied.  EIO, told.
 */
extern int staging_named (struct staging *sg, uint64_t sequence);
/* remove: nothing in it is needed (a clean close).  One that was created and
 * never published goes in any case.  NULL is fine.
 */
extern void staging_close (struct staging *sg, bool remove);

/* The older file with this id, read-only.  ENOENT: there is none, or (told in
 * the log) it does not count.  Any other error: it may be there and count, and
 * to go on without it may lose what was replied.  Told in the log.
 */
extern int staging_open (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
                         uint64_t id, struct staging **sgp);

/* ESTALE, told in the log: there is a file of this store and this boot which
 * was made by an open with a later epoch than this, or is named by superblocks
 * from a later sequence on, so that the superblock with these two is an old
 * copy's, or later ones are lost.  Else 0.  Blocks: yes.
 */
extern int staging_check_root (const char *dir,
                               const uint8_t uuid[DISK_UUID_BYTES],
                               uint64_t epoch, uint64_t sequence);

/* For each buffer that has a tag, until fn returns an error, which is
 * returned.  They come in no order, log blocks as they were left, maybe
 * unfinished.  blk is what the tag says: fn checks its range.  EIO: a tag is of
 * no type that is staged.
 */
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
  int (*check_root) (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
                     uint64_t epoch, uint64_t sequence);
};
extern void staging_set (const struct staging_ops *ops);

#endif /* FARPAGE_STAGING_H */
