/* SPDX-License-Identifier: BSD-2-Clause */
/* Swap metadata: the page map of one object, in swblocks of 16 entries.
 *
 * An entry has a fixed size given when its zone is made.  swmeta looks at its
 * first 8 bytes only, the word: 0 means "no entry"; the top four bits are the
 * kind, the rest is the block.  Entries of kind SWMETA_BLOCK go on from page
 * to page when their blocks do; entries of any other kind when their words
 * are equal.  A run is a row of such entries.
 *
 * A map has no lock of its own.  Callers may work on one map at the same time
 * as long as each holds the lock of the shard (SHARD_PAGES pages, aligned)
 * that it touches; no call crosses a shard unless its comment says so.  It
 * never calls the allocator: what an entry named is handed back to the caller.
 *
 * Functions return 0 or a positive errno and do nothing on failure.  None
 * blocks, but for the zone's own short lock.
 */

#ifndef FARPAGE_SWMETA_H
#define FARPAGE_SWMETA_H

#include "types.h"

#include <stdio.h>

#define SWBLOCK_PAGES 16u

enum swmeta_kind {
  SWMETA_ABSENT = 0, /* no entry: a hole */
  SWMETA_BLOCK = 1,  /* the page is in this block */
  SWMETA_ZERO = 2,   /* reads as zeros, space is reserved for it */
};

#define SWMETA_KIND_SHIFT 60

static inline enum swmeta_kind
swmeta_kind (uint64_t word)
{
  return (enum swmeta_kind) (word >> SWMETA_KIND_SHIFT);
}

static inline blkno_t
swmeta_blkno (uint64_t word)
{
  return word & ((UINT64_C (1) << SWMETA_KIND_SHIFT) - 1);
}

static inline uint64_t
swmeta_word (enum swmeta_kind kind, blkno_t blk)
{
  return ((uint64_t) kind << SWMETA_KIND_SHIFT) | blk;
}

/* The plain entry. */
struct swent {
  uint64_t word;
  uint32_t crc;   /* CRC32C of the page, where the volume wants one */
  uint32_t spare; /* zero */
};

struct swmeta_run {
  pgno_t pgno;
  uint64_t word; /* of the first page; 0 for a hole */
  uint64_t nr_pages;
};

/* What was displaced or freed, a run at a time, in rising order of pages.  It
 * must not call on the map that called it.
 */
typedef void (*swmeta_run_fn) (void *arg, const struct swmeta_run *run);

/* ---- zone: the memory of all maps of a store, bounded, thread safe ---- */

struct swzone;

/* Memory for at most bytes_max bytes of swblocks and nodes.  ENOMEM, EINVAL
 * (an entry is 8 to 64 bytes, a multiple of 8).  It comes from the system as
 * maps need it, and goes back when they do not.
 */
extern int swzone_create (size_t entry_bytes, uint64_t bytes_max,
                          struct swzone **zonep);
extern void swzone_destroy (struct swzone *zone); /* all maps are gone */
extern uint64_t swzone_bytes (const struct swzone *zone); /* in use */
extern uint64_t swzone_bytes_max (const struct swzone *zone);

/* ---- map ---- */

struct swmeta;

extern int swmeta_create (struct swzone *zone, pgno_t nr_pages,
                          struct swmeta **mapp);
/* Frees all memory; entries still there are forgotten. NULL is fine. */
extern void swmeta_destroy (struct swmeta *map);

/* Make and touch all memory the map can need, so that no later call on it
 * can fail for memory.  Alone on the map.  ENOMEM: as before the call.
 */
extern int swmeta_reserve (struct swmeta *map);

/* From now on it has so many pages; those that it loses have no entries.  A map
 * that was reserved is so for all of them.  Alone on the map.  ENOMEM, EINVAL.
 */
extern int swmeta_resize (struct swmeta *map, pgno_t nr_pages);

extern pgno_t swmeta_nr_pages (const struct swmeta *map);
extern uint64_t swmeta_nr_entries (const struct swmeta *map); /* [atomic] */

/* The longest run from pgno on, at most max pages and not beyond its shard.
 * A hole is a run with word 0.  Skips absent swblocks in one step.
 */
extern void swmeta_lookup (struct swmeta *map, pgno_t pgno, uint64_t max,
                           struct swmeta_run *run);

/* The pages before and after pgno whose entries go on from its own, at most
 * that many and within its shard; both 0 if pgno has no entry.
 */
extern void swmeta_extent (struct swmeta *map, pgno_t pgno, uint64_t max_before,
                           uint64_t max_after, uint64_t *before,
                           uint64_t *after);

/* Copy nr entries (absent ones as zeros) to ents. */
extern void swmeta_get (struct swmeta *map, pgno_t pgno, uint64_t nr,
                        void *ents);

/* Enter nr entries (none of kind absent) and hand back what they displace.
 * ENOMEM: nothing has changed.
 */
extern int swmeta_build (struct swmeta *map, pgno_t pgno, uint64_t nr,
                         const void *ents, swmeta_run_fn displaced, void *arg);

/* Remove the entries of nr pages and hand back what they named. */
extern void swmeta_free (struct swmeta *map, pgno_t pgno, uint64_t nr,
                         swmeta_run_fn freed, void *arg);

/* Remove one entry and copy it to ent (zeros if there was none). */
extern void swmeta_pop (struct swmeta *map, pgno_t pgno, void *ent);

/* Move the entries of nr pages to pages dst_pgno on of dst, which may be
 * another map or a part of the same that does not overlap; ranges may cross
 * shards, the caller is alone on both.  An entry that dst has already stays
 * (destination wins), the source's is handed back.  ENOMEM: *nr_moved pages
 * are done, the rest untouched.
 */
extern int swmeta_move (struct swmeta *dst, pgno_t dst_pgno, struct swmeta *src,
                        pgno_t src_pgno, uint64_t nr, swmeta_run_fn freed,
                        void *arg, uint64_t *nr_moved);

/* The first shard at or after this one that may have entries; UINT64_MAX if
 * none.  Needs no shard's lock; cost follows what is mapped, not the size.
 */
extern uint64_t swmeta_next_shard (struct swmeta *map, uint64_t shard);

/* For readers and tests: alone on the map. */
extern void swmeta_dump (struct swmeta *map, FILE *fp);
extern const char *swmeta_check (struct swmeta *map);

#endif /* FARPAGE_SWMETA_H */
