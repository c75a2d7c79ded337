/* SPDX-License-Identifier: BSD-2-Clause */
/* What swmeta.c asks of a zone; the rest of the zone is in swmeta.h. */

#ifndef FARPAGE_SWZONE_H
#define FARPAGE_SWZONE_H

#include "swmeta.h"

enum swzone_kind {
  SWZONE_SWBLOCK, /* SWBLOCK_PAGES entries */
  SWZONE_SHARD,
  SWZONE_INNER,
  SWZONE_KINDS,
};

#define SWZONE_SHARD_BYTES 384u
#define SWZONE_INNER_BYTES 4096u

/* A piece that is not in use; a chain of them ends with NULL. */
struct swzone_piece {
  struct swzone_piece *next;
};

/* nr pieces as a chain.  Not zeroed.  ENOMEM: none.
 * Lock: takes the zone's.
 */
extern int swzone_get (struct swzone *zone, enum swzone_kind kind, unsigned nr,
                       struct swzone_piece **chain);
/* Give back a chain, of any length; NULL is fine.  Lock: takes the zone's. */
extern void swzone_put (struct swzone *zone, enum swzone_kind kind,
                        struct swzone_piece *chain);

extern size_t swzone_entry_bytes (const struct swzone *zone);

#endif /* FARPAGE_SWZONE_H */
