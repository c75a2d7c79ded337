/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory for the examples: that of another machine, by libfarpage, or a file's,
 * by mmap (), to compare with.
 */

#ifndef FARPAGE_EXAMPLE_MEMORY_H
#define FARPAGE_EXAMPLE_MEMORY_H

#include <stdint.h>

struct memory;

/* where: an NBD URI, or the path of a file.  budget_bytes: of memory, with a
 * URI; a file has what the kernel gives it.  Ends the program if it fails.
 */
extern struct memory *memory_open (const char *where, uint64_t bytes,
                                   uint64_t budget_bytes);
extern void *memory_address (struct memory *m);
/* What it has cost since it was opened, as a line on standard error. */
extern void memory_print (struct memory *m, const char *what);
extern void memory_close (struct memory *m);

#endif /* FARPAGE_EXAMPLE_MEMORY_H */
