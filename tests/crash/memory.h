/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory for the core as the simulator builds it (Makefile.am: -include): each
 * request can be made to fail, and none of the simulator's own.
 */

#ifndef FARPAGE_CRASH_MEMORY_H
#define FARPAGE_CRASH_MEMORY_H

#include <config.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_NEVER UINT64_MAX

/* The n-th request from now on (0: the next one) fails, and *hit becomes true
 * then.
 */
extern void memory_fail_at (uint64_t n, bool *hit);
/* Requests since then. */
extern uint64_t memory_nr (void);

extern void *core_malloc (size_t bytes);
extern void *core_calloc (size_t nr, size_t bytes);
extern void *core_realloc (void *p, size_t bytes);
extern void *core_aligned_alloc (size_t align, size_t bytes);
extern char *core_strdup (const char *text);
extern void *core_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                        off_t off);

#ifdef FARPAGE_CORE
#define malloc        core_malloc
#define calloc        core_calloc
#define realloc       core_realloc
#define aligned_alloc core_aligned_alloc
#define strdup        core_strdup
#define mmap          core_mmap
#endif

#endif /* FARPAGE_CRASH_MEMORY_H */
