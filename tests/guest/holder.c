/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holder: has memory, gives some of it back, and knows what is in the rest.
 *
 *   holder MIB SEED
 *
 * All of it is written, then "ready" is told, and commands are taken from
 * standard input, a line each, answered by "ok":
 *
 *   free N    so many pages of a thousand have been given back now, at random
 *   check     what is left is as it was written
 *
 * Exit: 0 at the end of the input; 1 a page was wrong; 2 usage, or a failed
 * system call.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "work.h"

static uint64_t seed, nr_pages, nr_freed;
static uint64_t *memory;
static uint32_t *order; /* pages, the freed ones first */

static void
die (const char *what)
{
  fprintf (stderr, "holder: %s: %s\n", what, strerror (errno));
  exit (2);
}

static void *
take (size_t bytes)
{
  void *p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED)
    die ("mmap");
  return p;
}

static uint64_t
word_of (uint64_t page, uint64_t i)
{
  return (page * WORDS + i) * UINT64_C (0x9e3779b97f4a7c15) ^ seed;
}

static void
begin (void)
{
  uint64_t random = seed * 2 + 1;

  for (uint64_t p = 0; p < nr_pages; p++) {
    for (uint64_t i = 0; i < WORDS; i++)
      memory[p * WORDS + i] = word_of (p, i);
    order[p] = (uint32_t) p;
  }
  for (uint64_t p = nr_pages - 1; p > 0; p--) {
    uint64_t other;
    uint32_t page = order[p];

    random = random * UINT64_C (6364136223846793005) + 1442695040888963407;
    other = (random >> 33) % (p + 1);
    order[p] = order[other];
    order[other] = page;
  }
}

static void
free_up_to (uint64_t thousandths)
{
  for (; nr_freed < nr_pages * thousandths / 1000; nr_freed++)
    if (madvise (memory + (uint64_t) order[nr_freed] * WORDS, PAGE,
                 MADV_DONTNEED) != 0)
      die ("madvise");
}

static void
check (void)
{
  for (uint64_t n = nr_freed; n < nr_pages; n++)
    for (uint64_t i = 0; i < WORDS; i++)
      if (memory[order[n] * (uint64_t) WORDS + i] != word_of (order[n], i)) {
        fprintf (stderr, "holder: page %" PRIu32 " is wrong\n", order[n]);
        exit (1);
      }
}

int
main (int argc, char **argv)
{
  char line[64];

  if (argc != 3 || strtoull (argv[1], NULL, 10) == 0) {
    fprintf (stderr, "usage: holder MIB SEED\n");
    return 2;
  }
  seed = strtoull (argv[2], NULL, 10) + 1;
  nr_pages = (strtoull (argv[1], NULL, 10) << 20) / PAGE;
  memory = take (nr_pages * PAGE);
  order = take (nr_pages * sizeof *order);
  begin ();
  setvbuf (stdout, NULL, _IOLBF, 0);
  printf ("ready\n");
  while (fgets (line, sizeof line, stdin) != NULL) {
    if (strncmp (line, "free ", 5) == 0)
      free_up_to (strtoull (line + 5, NULL, 10));
    else
      check ();
    printf ("ok\n");
  }
  return 0;
}
