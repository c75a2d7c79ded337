/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers of the server, for people and programs. */

#ifndef FARPAGE_PRINT_H
#define FARPAGE_PRINT_H

#include <jansson.h>
#include <stdbool.h>

/* An answer for a program, without its "ok": whole and readable, or on a line
 * when more will follow.
 */
extern void print_json (json_t *answer, bool as_line);

/* The table of `ls`. */
extern void print_objects (const json_t *objects);

/* The answer to `stat`: all of it, or what is about one object. */
extern void print_stat (const json_t *stat);
extern void print_object (const json_t *stat);

#endif /* FARPAGE_PRINT_H */
