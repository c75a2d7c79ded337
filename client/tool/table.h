/* SPDX-License-Identifier: BSD-2-Clause */
/* Tables for people: columns as wide as what is in them. */

#ifndef FARPAGE_TABLE_H
#define FARPAGE_TABLE_H

struct table;

#define TABLE_COLUMNS_MAX 10

/* A head is a letter for the adjustment and the name; NULL ends them.  '<':
 * left, '>': right, '/': left, for paths, which are cut at their start.
 */
extern struct table *table_new (const char *const *heads);

/* The next cell, from left to right and down. */
extern void table_cell (struct table *t, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

/* Print, each line after `indent` spaces, and free. */
extern void table_print (struct table *t, int indent);

#endif /* FARPAGE_TABLE_H */
