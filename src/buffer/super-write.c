/* SPDX-License-Identifier: BSD-2-Clause */
/* Superblocks: the writing of slots in turn.
 *
 *   recover, flush --> supers_attach, supers_write_root --> super_put
 *
 * I1. The slot with sequence s is s % 4.  So a write goes over the oldest one,
 *     and the two ends of the medium take turns.
 * I2. A slot whose write failed is written again before any other is: of the
 *     slots on the medium at most one is not whole because of us.
 * I3. No slot is written that super_error () would refuse: a superblock that
 *     nobody can read again is worse than a process that ends.
 * I4. Peers are durable with a new epoch before the root has it.  So a peer is
 *     at the root's epoch, or one above if the machine died in between.
 * I5. What counts is in two slots, one at either end, a flush behind each: one
 *     that is lost later costs nothing.  A root's older one would not do, for
 *     what the newest has let go is taken again; and a peer's would make it
 *     look like an old copy.
 *
 * No locks: opening and recovery are one task; after that only the flusher
 * calls supers_write_root ().
 */

#include <config.h>

#include <assert.h>
#include <errno.h>

#include "crc32c.h"
#include "super-impl.h"
#include "sabotage.h"

int
super_put (struct volume *v, struct disk_super *super, void *page)
{
  uint64_t nr_blocks = super_volume_blocks (v);
  struct disk_super *to = page;
  uint64_t off;
  int err;

  *to = *super;
  to->sequence++;
  to->slot = to->sequence % DISK_SUPER_SLOTS;
  to->crc = crc32c (0, to, DISK_CRC_OFF);
  assert (super_error (to, to->slot, nr_blocks) == NULL); /* I3 */
  off = super_slot_block (nr_blocks, to->slot) * DISK_BLOCK_BYTES;
  err = volume_write (v, off, page, DISK_BLOCK_BYTES);
  if (err == 0)
    *super = *to;
  return err;
}

int
supers_write_root (struct supers *s, void *page)
{
  s->root.sequence += SABOTAGE (same_slot) ? DISK_SUPER_SLOTS - 1 : 0;
  return s->readonly ? EROFS : super_put (s->volumes[0], &s->root, page);
}

static int
attach_root (struct supers *s, void *page)
{
  int err = 0;

  for (unsigned turn = 0; turn < SUPER_COPIES && err == 0; turn++) {
    err = supers_write_root (s, page);
    if (err == 0)
      err = volume_flush (s->volumes[0]);
  }
  return err;
}

static int
attach_peers (struct supers *s, void *page)
{
  int err = 0;

  if (SABOTAGE (root_before_peers)) {
    s->root.epoch++;
    err = supers_write_root (s, page);
    s->root.epoch--;
  }

  for (unsigned turn = 0; turn < SUPER_COPIES; turn++) {
    for (unsigned i = 1; i < s->nr_volumes && err == 0; i++) {
      s->peers[i].epoch = s->root.epoch + 1;
      err = super_put (s->volumes[i], &s->peers[i], page);
    }
    for (unsigned i = 1; i < s->nr_volumes && err == 0; i++)
      err = volume_flush (s->volumes[i]);
  }
  return err;
}

int
supers_attach (struct supers *s, void *page)
{
  uint32_t state = s->root.state;
  int err = s->readonly ? EROFS : attach_peers (s, page);

  if (err != 0)
    return err;
  if (!SABOTAGE (same_epoch))
    s->root.epoch++;
  s->root.state = DISK_IN_USE;
  err = attach_root (s, page);
  if (err != 0) { /* the medium may have the old one: peers stay one above */
    s->root.epoch--;
    s->root.state = state;
  }
  return err;
}
