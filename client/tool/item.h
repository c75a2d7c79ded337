/* SPDX-License-Identifier: BSD-2-Clause */
/* What is found on a volume, a structure at a time: for programs an object on
 * a line, for people the same with fewer quotes.
 */

#ifndef FARPAGE_ITEM_H
#define FARPAGE_ITEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An item of this kind at this place: printf's format. */
extern json_t *item_new (const char *kind, const char *at, ...)
    __attribute__ ((format (printf, 2, 3)));

/* Good, or with error what is wrong with it. */
extern void item_judge (json_t *item, const char *error);

/* Print and forget it.  People see
 *
 *   KIND AT: good | BAD: ERROR
 *     key=value key=value ...
 *     key:
 *       key=value key=value ...
 */
extern void item_print (json_t *item, bool as_json);

/* Values.  A number above 2^63 is a string. */
extern json_t *item_number (uint64_t n);
extern json_t *item_hex (const void *bytes, size_t len);
extern json_t *item_text (const void *bytes, size_t len); /* or hex */
extern json_t *item_block (uint64_t blk);                 /* VOLUME:PLACE */

#endif /* FARPAGE_ITEM_H */
