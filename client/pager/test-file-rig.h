/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of the file pager: a server, maybe a relay before it, a link and a
 * file on it by the public face, and threads that ask for it.
 */

#ifndef FARPAGE_TEST_FILE_RIG_H
#define FARPAGE_TEST_FILE_RIG_H

#include "file.h"
#include "test-net.h"
#include "test-rig.h"

struct file_rig {
  struct server server;
  struct relay relay;
  bool relayed;
  struct farpage_link *link;
  struct farpage_file *file;
  unsigned unit;        /* bytes of what is a page in calls of this; 0: PAGE */
  uint64_t deadline_us; /* 0: 20 s */
  atomic_uint events[FARPAGE_ROOM + 1];
  /* Lines that the user was told; each asks the file something, as he may. */
  atomic_uint nr_lines;
  _Atomic (struct farpage_file *) asked;
};

struct file_rig_how {
  enum server_kind kind;
  uint64_t size;
  const char *filter;
  unsigned pages;         /* of the cache */
  unsigned cluster_pages; /* 0: as by itself */
  bool behind;            /* a relay */
  bool unverified;
  unsigned unit;
  uint64_t deadline_us;
};

/* False: it cannot run here. */
extern bool file_rig_start (struct file_rig *r, const struct file_rig_how *how);
/* On an export that is there. */
extern void file_rig_open (struct file_rig *r, const char *uri,
                           const struct file_rig_how *how);
/* Closes the file with this result, and the link. */
extern void file_rig_close (struct file_rig *r, int result);
/* The same, and ends relay and server. */
extern void file_rig_end (struct file_rig *r, int result);
/* file_check (); fails the test. */
extern void file_rig_check (struct file_rig *r);
/* Page `page` in this version is written, all of it; is read, and has it. */
extern int file_rig_put (struct file_rig *r, uint64_t page, uint64_t version);
extern int file_rig_get (struct file_rig *r, uint64_t page, uint64_t version);

/* Calls of pages [first, first + nr), at random and checked, until it is told
 * to stop or one of them fails: then error is that, or -1: wrong bytes.
 */
struct file_worker {
  struct file_rig *rig;
  uint64_t first, nr;
  uint64_t random;
  atomic_ulong *progress;
  atomic_bool *stop;
  unsigned syncs; /* one in so many calls is a sync; 0: none */
  uint64_t *version;
  int error;
  pthread_t thread;
};
extern void file_worker_begin (struct file_worker *w);
/* Fails the test if it takes minutes. */
extern void file_worker_end (struct file_worker *w);
extern void file_rig_join (pthread_t thread);

#endif /* FARPAGE_TEST_FILE_RIG_H */
