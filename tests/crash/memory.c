/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests for memory that fail; see memory.h.  faults.c says which. */

#include "memory.h"

#include <errno.h>

#undef malloc
#undef calloc
#undef realloc
#undef aligned_alloc
#undef strdup
#undef mmap

static uint64_t nr_requests, fail_at = MEMORY_NEVER;
static bool *hit_flag;

void
memory_fail_at (uint64_t n, bool *hit)
{
  nr_requests = 0;
  fail_at = n;
  hit_flag = hit;
}

uint64_t
memory_nr (void)
{
  return nr_requests;
}

static bool
fails (void)
{
  if (nr_requests++ != fail_at)
    return false;
  *hit_flag = true;
  errno = ENOMEM;
  return true;
}

void *
core_malloc (size_t bytes)
{
  return fails () ? NULL : malloc (bytes);
}

void *
core_calloc (size_t nr, size_t bytes)
{
  return fails () ? NULL : calloc (nr, bytes);
}

void *
core_realloc (void *p, size_t bytes)
{
  return fails () ? NULL : realloc (p, bytes);
}

void *
core_aligned_alloc (size_t align, size_t bytes)
{
  return fails () ? NULL : aligned_alloc (align, bytes);
}

char *
core_strdup (const char *text)
{
  return fails () ? NULL : strdup (text);
}

void *
core_mmap (void *addr, size_t bytes, int prot, int flags, int fd, off_t off)
{
  return fails () ? MAP_FAILED : mmap (addr, bytes, prot, flags, fd, off);
}
