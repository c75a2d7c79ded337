/* SPDX-License-Identifier: BSD-2-Clause */
/* Words that every layer uses: pages, blocks, sizes. */

#ifndef FARPAGE_TYPES_H
#define FARPAGE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A page is 4096 bytes of an object; a block is its place on a volume. */
#define PAGE_SHIFT 12
#define PAGE_BYTES (UINT32_C (1) << PAGE_SHIFT)
#define PAGE_MASK  (PAGE_BYTES - 1)

/* A sector is what a medium writes whole: the grain of overtaking marks. */
#define SECTOR_SHIFT 9
#define SECTOR_BYTES (UINT32_C (1) << SECTOR_SHIFT)

/* A shard is 2 MiB of an object: the unit of locking. */
#define SHARD_PAGES 512u
#define SHARD_BYTES (SHARD_PAGES * PAGE_BYTES)

/* The largest object; any byte size up to it will do. */
#define OBJECT_BYTES_MAX (UINT64_C (1) << 50)

typedef uint64_t pgno_t; /* page of an object, counted from 0 */

/* A block number names volume and place: bits 0-47 the place (in blocks from
 * the start of the volume's data), bits 48-59 the volume.  Bits 60-63 are
 * zero; a map word keeps the kind of the entry there (swmeta.h).
 */
typedef uint64_t blkno_t;

#define BLKNO_PLACE_BITS 48
#define BLKNO_PLACE_MAX  ((UINT64_C (1) << BLKNO_PLACE_BITS) - 1)
#define VOLUMES_MAX      64u

static inline blkno_t
blkno_make (unsigned volume, uint64_t place)
{
  return ((uint64_t) volume << BLKNO_PLACE_BITS) | place;
}

static inline unsigned
blkno_volume (blkno_t blk)
{
  return (blk >> BLKNO_PLACE_BITS) & 0xfff;
}

static inline uint64_t
blkno_place (blkno_t blk)
{
  return blk & BLKNO_PLACE_MAX;
}

static inline uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static inline uint64_t
max_u64 (uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

/* Pages that so many bytes lie in. */
static inline pgno_t
bytes_to_pages (uint64_t bytes)
{
  return bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0);
}

/* Copy whole pages.  The size is kept from the compiler: one that knows it
 * makes a string instruction of the copy, at twice the time of the library's.
 */
static inline void
page_copy (void *to, const void *from, size_t nr)
{
  size_t bytes = nr << PAGE_SHIFT;

  __asm__("" : "+r"(bytes));
  memcpy (to, from, bytes);
}

#endif /* FARPAGE_TYPES_H */
