/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-super.c and test-super-format.c share: a store over memory
 * volumes, each under a fault volume.
 */

#ifndef FARPAGE_TEST_SUPER_H
#define FARPAGE_TEST_SUPER_H

#include "test-common.h"

#include <errno.h>

#include "crc32c.h"
#include "fault.h"
#include "super.h"

#define RIG_VOLUMES 4
#define RING_MIN    (SUPER_RING_BLOCKS_MIN * DISK_BLOCK_BYTES)

struct rig {
  struct volume *v[RIG_VOLUMES]; /* fault over memory */
  unsigned nr;
  struct super_format format;
  struct supers s;
  uint8_t uuid[DISK_UUID_BYTES];
  void *page;
};

static inline void
rig_open (struct rig *t, unsigned nr, const uint64_t *sizes)
{
  static const char *const names[RIG_VOLUMES] = { "va", "vb", "vc", "vd" };
  struct volume *inner;

  t->nr = nr;
  for (unsigned i = 0; i < nr; i++) {
    assert_int_equal (volume_open_memory (names[i], sizes[i], true, &inner), 0);
    assert_int_equal (volume_open_fault (inner, &t->v[i]), 0);
  }
  t->page = test_pages (PAGE_BYTES);
  t->format = (struct super_format){ .volumes = t->v, .nr_volumes = nr };
  t->format.ring_bytes = RING_MIN;
  test_log_forget ();
}

static inline void
rig_close (struct rig *t)
{
  for (unsigned i = 0; i < t->nr; i++)
    volume_close (t->v[i]);
  free (t->page);
  memset (t, 0, sizeof *t);
}

/* A store of nr volumes of 1, 2, .. MiB, formatted and read. */
static inline void
rig_store (struct rig *t, unsigned nr)
{
  static const uint64_t sizes[RIG_VOLUMES] = { MIB, 2 * MIB, 3 * MIB, 4 * MIB };

  rig_open (t, nr, sizes);
  assert_int_equal (super_format (&t->format, t->uuid), 0);
  assert_int_equal (supers_read (t->v, nr, &t->s), 0);
}

static inline void
move_blocks (struct volume *v, enum vio_op op, uint64_t blk, void *buf,
             uint32_t nr)
{
  struct vio io = { .volume = v,
                    .op = op,
                    .off = blk * DISK_BLOCK_BYTES,
                    .buf = buf,
                    .bytes = (size_t) nr * DISK_BLOCK_BYTES };

  vio_run (&io);
  assert_int_equal (io.error, 0);
}

static inline uint64_t
slot_of (const struct volume *v, unsigned slot)
{
  return super_slot_block (v->size_bytes / DISK_BLOCK_BYTES, slot);
}

static inline void
slot_read (struct volume *v, unsigned slot, struct disk_super *to)
{
  move_blocks (v, VIO_READ, slot_of (v, slot), to, 1);
}

static inline void
slot_write (struct volume *v, unsigned slot, const struct disk_super *from)
{
  struct disk_super copy = *from;

  move_blocks (v, VIO_WRITE, slot_of (v, slot), &copy, 1);
}

static inline void
slot_seal (struct disk_super *p)
{
  p->crc = crc32c (0, p, DISK_CRC_OFF);
}

#endif /* FARPAGE_TEST_SUPER_H */
