/* SPDX-License-Identifier: BSD-2-Clause */
/* What of a file is mapped for writing: ranges of bytes, each byte by one
 * writer at most, and how many bytes that are.
 *
 * Lock: the file's.
 */

#ifndef FARPAGE_FILE_MAPPED_H
#define FARPAGE_FILE_MAPPED_H

#include "types.h"

#define FILE_MAPPED_MAX 256u

struct file_mapped {
  /* In order, not empty, none touches the next. */
  struct {
    uint64_t off, end;
  } range[FILE_MAPPED_MAX];
  unsigned nr;
  uint64_t bytes; /* of all of them */
};

/* [off, end) is not empty.  EBUSY: some of it is mapped.  ENOMEM: more than
 * FILE_MAPPED_MAX ranges.
 */
extern int file_mapped_add (struct file_mapped *m, uint64_t off, uint64_t end);
/* The same of what is mapped, or a part of it.  EINVAL: some of it is not.
 * ENOMEM: as above.
 */
extern int file_mapped_remove (struct file_mapped *m, uint64_t off,
                               uint64_t end);
/* Where the last range ends; 0: there is none. */
extern uint64_t file_mapped_end (const struct file_mapped *m);

/* NULL, or what is wrong. */
extern const char *file_mapped_check (const struct file_mapped *m);

#endif /* FARPAGE_FILE_MAPPED_H */
