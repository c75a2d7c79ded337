/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers of the server, for people. */

#ifndef FARPAGE_PRINT_H
#define FARPAGE_PRINT_H

#include <jansson.h>

/* The table of `ls`. */
extern void print_objects (const json_t *objects);

/* The answer to `stat`: all of it, or what is about one object. */
extern void print_stat (const json_t *stat);
extern void print_object (const json_t *stat);

#endif /* FARPAGE_PRINT_H */
