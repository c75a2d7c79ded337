/* SPDX-License-Identifier: BSD-2-Clause */
/* What a server said of holes: the file pager's block map, cached.
 *
 *   0        64K         1M              5M
 *   | data    | hole      |  not known    | data ...
 *
 * Only a hole saves anything, so nothing is believed for longer than it holds:
 * what is written is data from when the write begins; an answer is dropped if
 * anything that it is about was written since it was asked for; and another
 * connection begins without any.
 * Lock: the file's.
 */

#ifndef FARPAGE_FILE_MAP_H
#define FARPAGE_FILE_MAP_H

#include "types.h"

#define FILE_MAP_EXTENTS 4096u
#define FILE_MAP_ASKED   16u

enum file_map_kind {
  FILE_MAP_UNKNOWN,
  FILE_MAP_DATA,
  FILE_MAP_HOLE /* reads as zeros */
};

struct file_extent {
  uint64_t off, end; /* bytes */
  enum file_map_kind kind;
};

/* A question under way. */
struct file_map_ask {
  uint64_t off, end; /* the same: it is nobody's */
  bool spoiled;
};

struct file_map {
  /* In order, not empty, none UNKNOWN, neighbours that touch differ. */
  struct file_extent extent[FILE_MAP_EXTENTS];
  unsigned nr;
  struct file_map_ask ask[FILE_MAP_ASKED];
};

/* All unknown, no question. */
extern void file_map_init (struct file_map *m);
/* All unknown, and questions under way are spoiled. */
extern void file_map_forget (struct file_map *m);

/* What off is, and where that ends at the latest (*end > off; UINT64_MAX: it is
 * the same to the end).
 */
extern enum file_map_kind file_map_look (const struct file_map *m, uint64_t off,
                                         uint64_t *end);

/* All that is known to be of one kind with off: [*begin, *end). */
extern enum file_map_kind file_map_around (const struct file_map *m,
                                           uint64_t off, uint64_t *begin,
                                           uint64_t *end);

/* A question about [off, end) leaves.  NULL: FILE_MAP_ASKED are under way. */
extern struct file_map_ask *file_map_ask (struct file_map *m, uint64_t off,
                                          uint64_t end);
/* Its answer, from its off on, any number of extents (what is beyond its end,
 * or empty, is ignored); none: it failed.
 */
extern void file_map_answer (struct file_map *m, struct file_map_ask *ask,
                             const struct file_extent *extents, unsigned nr);

/* A write of it begins, or ends, or nobody knows whether it did. */
extern void file_map_written (struct file_map *m, uint64_t off, uint64_t end);
/* Zeros were written, or it was trimmed. */
extern void file_map_changed (struct file_map *m, uint64_t off, uint64_t end);

/* NULL, or what is wrong. */
extern const char *file_map_check (const struct file_map *m);

#endif /* FARPAGE_FILE_MAP_H */
