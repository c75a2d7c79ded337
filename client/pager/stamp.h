/* SPDX-License-Identifier: BSD-2-Clause */
/* The stamp in block 0 of an export that is used as swap: who has it.
 *
 * Bytes, little-endian: 0 "FARPSWAP"; 8 version (4), 12 state (4); 16 id of
 * this use (16); 32 beat (8); 40 size in blocks (8); 48 process (4); 52 spare
 * (4, zero); 56 host (64, zeros behind its end); 120 spare (3972, zero); 4092
 * CRC32C of what is before it.
 *
 * Pure functions: no I/O, no state.
 */

#ifndef FARPAGE_STAMP_H
#define FARPAGE_STAMP_H

#include <stdbool.h>
#include <stdint.h>

#define STAMP_BYTES    4096u
#define STAMP_ID_BYTES 16u
#define STAMP_HOST_MAX 63u
#define STAMP_VERSION  1u
#define STAMP_BEAT_US  UINT64_C (2000000) /* who has it writes so often */
/* So often, at intervals of STAMP_LOOK_US, an open looks for a beat. */
#define STAMP_LOOKS   5u
#define STAMP_LOOK_US UINT64_C (1000000)

enum stamp_state {
  STAMP_OPEN = 1,
  STAMP_CLOSED = 2
};

struct stamp {
  enum stamp_state state;
  uint8_t id[STAMP_ID_BYTES]; /* random, another at each open */
  uint64_t beat;              /* one more each time */
  uint64_t nr_blocks;
  uint32_t pid;
  char host[STAMP_HOST_MAX + 1];
};

/* id, process and host of this one; state OPEN, beat 0. */
extern void stamp_init (struct stamp *st, uint64_t nr_blocks);
extern void stamp_write (const struct stamp *st, uint8_t *block);

enum stamp_sort {
  STAMP_NONE,   /* all zero: nobody ever had it */
  STAMP_VALID,  /* *st is filled */
  STAMP_FOREIGN /* something else: perhaps a file system */
};
extern enum stamp_sort stamp_read (const uint8_t *block, struct stamp *st);

enum stamp_rule {
  STAMP_TAKE,     /* nobody has it, or takeover says so */
  STAMP_WATCH,    /* somebody has or had it: look whether he is alive */
  STAMP_SOMETHING /* not ours to take */
};
extern enum stamp_rule stamp_look (const uint8_t *block, bool takeover);
/* Between two looks: has he written? */
extern bool stamp_is_alive (const uint8_t *first, const uint8_t *later);
/* Is it this use's? */
extern bool stamp_is_ours (const uint8_t *block, const struct stamp *ours);

#endif /* FARPAGE_STAMP_H */
