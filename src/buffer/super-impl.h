/* SPDX-License-Identifier: BSD-2-Clause */
/* What super.c and super-format.c share, and nobody else may call. */

#ifndef FARPAGE_SUPER_IMPL_H
#define FARPAGE_SUPER_IMPL_H

#include "super.h"

static inline uint64_t
super_volume_blocks (const struct volume *v)
{
  return v->size_bytes / DISK_BLOCK_BYTES;
}

/* Levels of any tree above its leaves, at most (tree.h says the same). */
#define SUPER_HEIGHT_MAX 6u

/* Blocks at either end that are slots. */
#define SUPER_FIRST (DISK_SUPER_SLOTS / 2)

#define SUPER_ENTRY_BYTES \
  ((uint32_t) (sizeof (struct disk_map) / DISK_MAP_PAGES))

/* Write super as the volume's next slot, built in page: sequence, slot and CRC
 * are filled in, in *super too if the write succeeds.  Flushes nothing.
 */
extern int super_put (struct volume *v, struct disk_super *super, void *page);

#endif /* FARPAGE_SUPER_IMPL_H */
