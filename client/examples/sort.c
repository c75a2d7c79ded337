/* SPDX-License-Identifier: BSD-2-Clause */
/* sort: a file of numbers, sorted in memory that this machine does not have; an
 * example of farpage_map ().
 *
 *   sort WHERE BUDGET INPUT OUTPUT
 *
 * WHERE is an NBD URI, all of whose export is used, or the path of a file that
 * is mapped; BUDGET the memory to be used, in MiB (with a path: what the pieces
 * are cut to); INPUT and OUTPUT have numbers of 64 bits, of this machine's byte
 * order.  What it cost is told on standard error.
 *
 *   |  numbers, a piece after the other   |  the same, sorted  |
 *
 * Each piece, half of the budget and so in memory, is sorted by itself;
 * then all are read side by side, smallest first, and written behind them.  So
 * the far memory is read and written in order, if by many readers at a time:
 * that is foreseen (trend.h), and costs little more than the network.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "example-memory.h"

#define BUFFER 65536u /* numbers */

struct piece {
  const uint64_t *next, *end;
};

static void
fail (const char *what)
{
  perror (what);
  exit (1);
}

static int
by_size (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* Through a buffer: whoever may not have kernel calls touch far memory can. */
static void
read_all (const char *path, uint64_t *to, uint64_t nr)
{
  static uint64_t buffer[BUFFER];
  FILE *in = fopen (path, "r");
  size_t n;

  if (in == NULL)
    fail (path);
  for (; nr > 0; nr -= n, to += n) {
    n = fread (buffer, sizeof buffer[0], nr < BUFFER ? nr : BUFFER, in);
    if (n == 0)
      fail (path);
    memcpy (to, buffer, n * sizeof buffer[0]);
  }
  fclose (in);
}

static void
write_all (const char *path, const uint64_t *from, uint64_t nr)
{
  static uint64_t buffer[BUFFER];
  FILE *out = fopen (path, "w");

  if (out == NULL)
    fail (path);
  while (nr > 0) {
    const size_t n = nr < BUFFER ? nr : BUFFER;

    memcpy (buffer, from, n * sizeof buffer[0]);
    if (fwrite (buffer, sizeof buffer[0], n, out) != n)
      fail (path);
    from += n;
    nr -= n;
  }
  if (fclose (out) != 0)
    fail (path);
}

/* heap[0] has the smallest number of all. */
static void
sift (struct piece *heap, unsigned nr, unsigned i)
{
  for (;;) {
    unsigned least = i;

    for (unsigned k = 2 * i + 1; k < nr && k <= 2 * i + 2; k++)
      if (*heap[k].next < *heap[least].next)
        least = k;
    if (least == i)
      return;
    const struct piece p = heap[i];
    heap[i] = heap[least];
    heap[least] = p;
    i = least;
  }
}

static void
merge (struct piece *heap, unsigned nr, uint64_t *to)
{
  for (unsigned i = nr; i-- > 0;)
    sift (heap, nr, i);
  while (nr > 0) {
    *to++ = *heap[0].next++;
    if (heap[0].next == heap[0].end)
      heap[0] = heap[--nr];
    sift (heap, nr, 0);
  }
}

int
main (int argc, char **argv)
{
  struct stat st;
  uint64_t budget, nr, most, *numbers;
  struct memory *m;
  struct piece *heap;
  unsigned nr_pieces = 0;

  if (argc != 5 || (budget = strtoull (argv[2], NULL, 10) << 20) == 0) {
    fprintf (stderr, "Usage: %s NBD-URI|PATH MIB INPUT OUTPUT\n", argv[0]);
    return 2;
  }
  if (stat (argv[3], &st) != 0)
    fail (argv[3]);
  nr = (uint64_t) st.st_size / sizeof *numbers;
  if (nr == 0) {
    fprintf (stderr, "%s: no number of 8 bytes\n", argv[3]);
    return 1;
  }
  most = budget / 2 / sizeof *numbers;
  m = memory_open (argv[1], 2 * nr * sizeof *numbers, budget);
  numbers = memory_address (m);
  heap = calloc (nr / most + 1, sizeof *heap);
  if (heap == NULL)
    fail ("sort");
  read_all (argv[3], numbers, nr);
  for (uint64_t i = 0; i < nr; i += most) {
    const uint64_t n = nr - i < most ? nr - i : most;

    qsort (numbers + i, n, sizeof *numbers, by_size);
    heap[nr_pieces++] = (struct piece){ numbers + i, numbers + i + n };
  }
  merge (heap, nr_pieces, numbers + nr);
  write_all (argv[4], numbers + nr, nr);
  memory_print (m, "sort");
  memory_close (m);
  free (heap);
  return 0;
}
