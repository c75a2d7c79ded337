/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of the store's own META share: a formatted store on memory
 * volumes, each under a fault volume, that is opened, closed cleanly, or
 * killed: then what was not written is gone.
 */

#ifndef FARPAGE_TEST_BOOKS_H
#define FARPAGE_TEST_BOOKS_H

#include "test-common.h"

#include <errno.h>

#include "crc32c.h"
#include "env.h"
#include "fault.h"
#include "freemap.h"
#include "recover.h"

#define BOOKS_VOLUMES 2u

struct books {
  struct volume *v[BOOKS_VOLUMES]; /* fault over memory */
  unsigned nr_volumes;
  uint64_t nr_buffers;
  const struct flush_ops *flush_ops; /* arg of both is arg */
  const struct recover_ops *recover_ops;
  void *arg;
  struct supers s;
  struct bufs *bs;
  struct flush *fl;
  struct freemap *fm; /* made by recover_ops->begin */
  struct recover_report report;
};

/* Open, recover, and start threads; fl and bs are set when begin is called. */
static inline int
books_try_open (struct books *b)
{
  struct volume *volumes[BOOKS_VOLUMES];
  struct bufs_config bc = { .volumes = b->v,
                            .nr_volumes = b->nr_volumes,
                            .cache_bytes = b->nr_buffers * BUF_BYTES };
  struct flush_config fc = { .volumes = b->v,
                             .nr_volumes = b->nr_volumes,
                             .supers = &b->s,
                             .ops = b->flush_ops,
                             .arg = b->arg };

  memcpy (volumes, b->v, sizeof volumes);
  assert_int_equal (supers_read (volumes, b->nr_volumes, &b->s), 0);
  b->s.volumes = b->v;
  bc.uuid = b->s.root.uuid;
  assert_int_equal (bufs_create (&bc, &b->bs), 0);
  fc.bs = b->bs;
  assert_int_equal (flush_create (&fc, &b->fl), 0);
  return recover_run (b->fl, &b->s, NULL, b->recover_ops, b->arg, &b->report);
}

static inline void
books_open (struct books *b)
{
  assert_int_equal (books_try_open (b), 0);
  assert_int_equal (flush_start (b->fl), 0);
}

/* Everything that was not written is gone; what hangs on it is destroyed by the
 * caller before, and after flush_close () if that is to be clean.
 */
static inline void
books_drop (struct books *b)
{
  flush_destroy (b->fl); /* its threads first */
  freemap_destroy (b->fm);
  b->fm = NULL;
  bufs_destroy (b->bs);
}

static inline void
books_create (struct books *b, const uint64_t *sizes, unsigned nr)
{
  struct super_format format = { .volumes = b->v, .nr_volumes = nr };
  uint8_t uuid[DISK_UUID_BYTES];

  b->nr_volumes = nr;
  for (unsigned i = 0; i < nr; i++) {
    struct volume *inner;

    assert_int_equal (
        volume_open_memory (i == 0 ? "v0" : "v1", sizes[i], true, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &b->v[i]), 0);
  }
  format.ring_bytes = sizes[0] > 1024 * MIB ? 32 * MIB : 4 * MIB;
  assert_int_equal (super_format (&format, uuid), 0);
}

static inline void
books_destroy (struct books *b)
{
  for (unsigned i = 0; i < b->nr_volumes; i++)
    volume_close (b->v[i]);
}

/* ---- time ---- */

static uint64_t books_skipped_ns;

static inline uint64_t
books_now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * NS_PER_S + (uint64_t) ts.tv_nsec +
         books_skipped_ns;
}

static inline void
books_random (void *buf, size_t len)
{
  assert_int_equal (getentropy (buf, len), 0);
}

/* What is told once a second is told again.  No store is open. */
static inline void
books_skip_second (void)
{
  static const struct env_ops ops = { .now_ns = books_now_ns,
                                      .random = books_random };

  env_set (&ops);
  books_skipped_ns += 2 * NS_PER_S;
}

/* ---- nodes on the medium ---- */

/* Change a node's bytes on its volume, and make its checksum right. */
static inline void
books_poke (struct books *b, uint64_t blk, void (*change) (struct disk_node *n))
{
  static _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
  struct disk_node *node = (struct disk_node *) page;
  struct volume *v = b->v[blkno_volume (blk)];
  uint64_t off = blkno_place (blk) * PAGE_BYTES;

  assert_int_equal (volume_read (v, off, page, PAGE_BYTES), 0);
  assert_int_equal (node->magic, DISK_NODE_MAGIC);
  change (node);
  node->crc = crc32c (0, node, DISK_CRC_OFF);
  assert_int_equal (volume_write (v, off, page, PAGE_BYTES), 0);
}

/* Reads of a block fail from now on; the rule's number for fault_remove (). */
static inline int
books_fail_reads (struct books *b, uint64_t blk)
{
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = blkno_place (blk) * PAGE_BYTES,
                             .bytes = PAGE_BYTES,
                             .error = EIO };

  return fault_add (b->v[blkno_volume (blk)], &rule);
}

#endif /* FARPAGE_TEST_BOOKS_H */
