/* SPDX-License-Identifier: BSD-2-Clause */
/* Large memory for a store that is opened thousands of times a second: calloc,
 * free, mmap and munmap, wrapped (Makefile.am: --wrap).
 *
 * The store makes its bounded tables and its buffers at open, megabytes of
 * zeros of which a run touches a few pages.  The kernel's new pages cost more
 * than all else that an open does.  Here such memory keeps its mapping and the
 * pages that were ever touched; when it is given back these are written with
 * zeros, so that the next one has what it must have.
 *
 * One thread.
 */

#include <config.h>

#include "tables.h"

#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TABLE_BYTES_MIN ((size_t) 128 << 10)
#define TABLE_BYTES_MAX ((size_t) 4 << 20)
#define TABLES_MAX      64u
#define PAGE            ((size_t) 4096)

struct table {
  uint8_t *memory; /* NULL: no table is here any more */
  size_t bytes;
  bool used;
};

static struct table tables[TABLES_MAX];
static unsigned nr_tables;

extern void *__real_calloc (size_t nr, size_t bytes);
extern void __real_free (void *p);
extern void *__real_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                          off_t off);
extern int __real_munmap (void *p, size_t bytes);
extern void *__wrap_calloc (size_t nr, size_t bytes);
extern void __wrap_free (void *p);
extern void *__wrap_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                          off_t off);
extern int __wrap_munmap (void *p, size_t bytes);

void
tables_tune (void)
{
  mallopt (M_MMAP_THRESHOLD, 1 << 30);
  mallopt (M_TRIM_THRESHOLD, INT_MAX);
}

/* Zeros, or NULL: too large, or there are too many tables already. */
static void *
table_get (size_t bytes)
{
  struct table *t, *place = NULL;

  if (bytes > TABLE_BYTES_MAX)
    return NULL;
  for (t = tables; t < tables + nr_tables; t++) {
    if (t->memory == NULL)
      place = t;
    else if (!t->used && t->bytes == bytes) {
      t->used = true;
      return t->memory;
    }
  }
  if (place == NULL && nr_tables == TABLES_MAX)
    return NULL;
  t = place != NULL ? place : &tables[nr_tables];
  t->memory = __real_mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (t->memory == MAP_FAILED) {
    t->memory = NULL;
    return NULL;
  }
  t->bytes = bytes;
  t->used = true;
  nr_tables += place == NULL;
  return t->memory;
}

/* Zeros again, in the pages that it has. */
static void
table_put (struct table *t)
{
  static uint8_t has[TABLE_BYTES_MAX / PAGE];
  size_t bytes;

  t->used = false;
  if (mincore (t->memory, t->bytes, has) != 0)
    abort ();
  for (size_t at = 0; at < t->bytes; at += bytes) {
    bytes = t->bytes - at < PAGE ? t->bytes - at : PAGE;
    if (has[at / PAGE] & 1)
      memset (t->memory + at, 0, bytes);
  }
}

static struct table *
table_of (const void *p)
{
  for (struct table *t = tables; t < tables + nr_tables; t++)
    if (t->memory != NULL && t->memory == p)
      return t;
  return NULL;
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
  struct table *t = table_of (p);

  if (t != NULL)
    table_put (t);
  else
    __real_free (p);
}

void *
__wrap_mmap (void *addr, size_t bytes, int prot, int flags, int fd, off_t off)
{
  void *p = NULL;

  if (addr == NULL && bytes > 0 && prot == (PROT_READ | PROT_WRITE) &&
      (flags & (MAP_PRIVATE | MAP_ANONYMOUS)) == (MAP_PRIVATE | MAP_ANONYMOUS))
    p = table_get (bytes);
  return p != NULL ? p : __real_mmap (addr, bytes, prot, flags, fd, off);
}

/* Who gives back a part alone has the rest to himself. */
int
__wrap_munmap (void *p, size_t bytes)
{
  struct table *t = table_of (p);

  if (t != NULL && t->bytes == bytes) {
    table_put (t);
    return 0;
  }
  for (t = tables; t < tables + nr_tables; t++)
    if (t->memory != NULL && (uint8_t *) p >= t->memory &&
        (uint8_t *) p < t->memory + t->bytes)
      t->memory = NULL;
  return __real_munmap (p, bytes);
}
