/* SPDX-License-Identifier: BSD-2-Clause */
/* What the store counts, as JSON objects; see docs/control.md for the keys. */

#ifndef FARPAGE_STAT_JSON_H
#define FARPAGE_STAT_JSON_H

#include <jansson.h>

#include "armour.h"
#include "store.h"

/* A bound that is not the store's. */
struct bound {
  const char *name;
  uint64_t used, max;
};

/* The answer to `stat`: everything, or what belongs to one object.  Results
 * are new references.  ENOENT: no object of this name.  ENOMEM.
 */
extern int stat_json (struct store *s, const char *name,
                      const struct armour *armour, const struct bound *extra,
                      json_t **to);

/* The array `objects`: all, or the one of this name.  Errors as above. */
extern int stat_json_objects (struct store *s, const char *name, json_t **to);

/* "ok", "almost full", "full". */
extern const char *stat_json_space (enum space_state state);

/* A JSON string; bytes that are no UTF-8 become '?'.  NULL: no memory. */
extern json_t *stat_json_string (const char *text);

#endif /* FARPAGE_STAT_JSON_H */
