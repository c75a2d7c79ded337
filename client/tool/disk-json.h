/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of disk.h as JSON, whatever their bytes are.  Their values
 * are added to an object; nothing is judged but what would be read past.
 */

#ifndef FARPAGE_DISK_JSON_H
#define FARPAGE_DISK_JSON_H

#include <jansson.h>

#include "disk.h"

extern void super_json (json_t *to, const struct disk_super *super);
/* Head, and what its type says that is in it. */
extern void node_json (json_t *to, const struct disk_node *node);
extern void node_head_json (json_t *to, const struct disk_node *node);
extern void object_json (json_t *to, const struct disk_object *object);
/* Head and records; the last value, if not 0, is how many bytes behind the
 * last whole record are not one.
 */
extern void log_json (json_t *to, const struct disk_log *log);

/* "zero", "block", ...: the kind of a map word. */
extern const char *word_kind (uint64_t word);

#endif /* FARPAGE_DISK_JSON_H */
