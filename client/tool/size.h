/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes and times, as people write and read them. */

#ifndef FARPAGE_SIZE_H
#define FARPAGE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* Digits, and one letter at most: k m g t p e (powers of 1024), b (bytes), s
 * (sectors of 512), in either case.  EINVAL: something else.  ERANGE: more
 * than 2^63-1.
 */
extern int size_parse (const char *text, uint64_t *bytes);

#define HUMAN_BYTES 32

/* "512B", "3.3G": a letter as size_parse takes it. */
extern const char *size_human (uint64_t bytes, char to[HUMAN_BYTES]);

/* "12ms", "3.4s", "5m 2s", "1d 2h". */
extern const char *time_human (double seconds, char to[HUMAN_BYTES]);

/* part of whole, in per cent; 0 of 0 is 0. */
extern double percent (uint64_t part, uint64_t whole);

#endif /* FARPAGE_SIZE_H */
