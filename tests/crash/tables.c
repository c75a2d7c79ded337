/* SPDX-License-Identifier: BSD-2-Clause */
/* Large tables for a store that is opened thousands of times a second: calloc
 * and free, wrapped (Makefile.am: --wrap).
 *
 * The store makes its bounded tables at open, megabytes of zeros of which a
 * run touches a few pages.  malloc would take them from memory that was used
 * before and write all the zeros, or ask the kernel for a new mapping each
 * time.  Here a table keeps its mapping, and gives back its pages: only what a
 * run touched costs.
 *
 * One thread.
 */

#include <config.h>

#include "tables.h"

#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define TABLE_BYTES_MIN ((size_t) 128 << 10)
#define TABLES_MAX      64u

struct table {
  void *memory;
  size_t bytes;
  int used;
};

static struct table tables[TABLES_MAX];
static unsigned nr_tables;

extern void *__real_calloc (size_t nr, size_t bytes);
extern void __real_free (void *p);
extern void *__wrap_calloc (size_t nr, size_t bytes);
extern void __wrap_free (void *p);

void
tables_tune (void)
{
  mallopt (M_MMAP_THRESHOLD, 1 << 30);
  mallopt (M_TRIM_THRESHOLD, INT_MAX);
}

/* Zeros, or NULL: there are too many tables already. */
static void *
table_get (size_t bytes)
{
  struct table *t;

  for (t = tables; t < tables + nr_tables; t++)
    if (!t->used && t->bytes == bytes) {
      t->used = 1;
      return t->memory;
    }
  if (nr_tables == TABLES_MAX)
    return NULL;
  t->memory = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (t->memory == MAP_FAILED)
    return NULL;
  t->bytes = bytes;
  t->used = 1;
  nr_tables++;
  return t->memory;
}

void *
__wrap_calloc (size_t nr, size_t bytes)
{
  void *p = NULL;
  size_t all;

  if (!__builtin_mul_overflow (nr, bytes, &all) && all >= TABLE_BYTES_MIN)
    p = table_get (all);
  return p != NULL ? p : __real_calloc (nr, bytes);
}

void
__wrap_free (void *p)
{
  for (struct table *t = tables; t < tables + nr_tables; t++)
    if (t->memory == p) {
      madvise (p, t->bytes, MADV_DONTNEED);
      t->used = 0;
      return;
    }
  __real_free (p);
}
