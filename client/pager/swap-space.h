/* SPDX-License-Identifier: BSD-2-Clause */
/* The blocks of an export that is used as swap: which are free, which wait
 * until they may be, which never will be again.
 *
 *   free --take--> [in a put or a map] --give--> waits for older reads
 *     ^                     |                            |
 *     |                     +--retire--> never again     | ripe
 *     +------- trimmed, or not worth it <----------------+
 *
 * Block 0 is the stamp's and is never handed out.  All of it is [loop].
 */

#ifndef FARPAGE_SWAP_SPACE_H
#define FARPAGE_SWAP_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct swap_space;

enum swap_space_level {
  SWAP_ROOM,
  SWAP_ALMOST_FULL, /* below low, until above high */
  SWAP_FULL         /* somebody got nothing, until there is low again */
};

struct swap_space_config {
  uint64_t nr_blocks; /* of the export */
  bool trim;          /* runs may be trimmed before they are free again */
  uint32_t trim_max;  /* blocks of one trim, at most */
  void (*level) (void *arg, enum swap_space_level level); /* may be NULL */
  void *arg;
};

extern int swap_space_create (const struct swap_space_config *config,
                              struct swap_space **sp);
extern void swap_space_destroy (struct swap_space *s);

/* The biggest run first: want blocks, or half as many, and so on down to 4, or
 * to all that is wanted if that is less; next fit.  ENOSPC: not even that, also
 * not after what is ripe was taken back.
 */
extern int swap_space_take (struct swap_space *s, uint64_t want, uint64_t *blk,
                            uint64_t *nr);
/* The same, down to single blocks (for a reserve). */
extern int swap_space_take_any (struct swap_space *s, uint64_t want,
                                uint64_t *blk, uint64_t *nr);
/* Never used: back at once. */
extern void swap_space_return (struct swap_space *s, uint64_t blk, uint64_t nr);
/* Was in a map: free when every read that began before now is over, and, if it
 * is large enough, trimmed.  Adjacent runs merge.  Needs no memory, and
 * cannot fail: what waits is kept in bits made at the start.
 */
extern void swap_space_give (struct swap_space *s, uint64_t blk, uint64_t nr);
/* A write to it has failed: never again. */
extern void swap_space_retire (struct swap_space *s, uint64_t blk, uint64_t nr);
/* A write or trim on a lost connection may still be done: not until that is
 * fenced off.
 */
extern void swap_space_limbo (struct swap_space *s, uint64_t blk, uint64_t nr);
/* What was put into limbo so far is free again. */
extern void swap_space_fenced (struct swap_space *s);

/* Reads hold back what is given while they are under way. */
extern uint64_t swap_space_read_begin (struct swap_space *s);
extern void swap_space_read_end (struct swap_space *s, uint64_t ticket);

/* What reads held back may be more than is moved on at once.  False: there is
 * more to do, by swap_space_tidy (), so many runs a time; true: that was all.
 */
extern bool swap_space_is_tidy (const struct swap_space *s);
extern bool swap_space_tidy (struct swap_space *s, unsigned runs);

/* The next run to trim, ripe and of SWAP_TRIM_MIN blocks or more; it is under
 * trim until told.  Only when SWAP_TRIM_GATHER have come together, or all:
 * then also when there are few, and what is too small is free, some of it a
 * call.  False: none.
 */
#define SWAP_TRIM_MIN    16u  /* 64 KiB */
#define SWAP_TRIM_GATHER 256u /* 1 MiB */
extern bool swap_space_next_trim (struct swap_space *s, bool all, uint64_t *blk,
                                  uint64_t *nr);
/* The server has answered, well or not: it was a hint. */
extern void swap_space_trimmed (struct swap_space *s, uint64_t blk,
                                uint64_t nr);

/* It will never answer: the connection it was sent on is lost. */
extern void swap_space_trim_lost (struct swap_space *s, uint64_t blk,
                                  uint64_t nr);

struct swap_space_stat {
  /* nr_ripe: may be trimmed, or taken; it counts as free. */
  uint64_t nr_blocks, nr_free, nr_ripe, nr_used, nr_waiting, nr_trimming,
      nr_retired, nr_limbo;
  uint64_t low, high;
  enum swap_space_level level;
};
extern void swap_space_stat (const struct swap_space *s,
                             struct swap_space_stat *st);
/* Is it in a put or a map, as far as this knows? */
extern bool swap_space_is_used (const struct swap_space *s, uint64_t blk);
/* NULL, or what does not add up: every block but 0 is one of these.  Of more
 * than 2^20 blocks only the sums are looked at.
 */
extern const char *swap_space_check (const struct swap_space *s);

#endif /* FARPAGE_SWAP_SPACE_H */
