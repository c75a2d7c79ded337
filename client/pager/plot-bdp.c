/* SPDX-License-Identifier: BSD-2-Clause */
/* What the controller does on links that are reckoned (test-link.h), as columns
 * for gnuplot: `make plot`.
 *
 *   plot-bdp start    the first two seconds of 1 Gbit/s and 50 ms
 *   plot-bdp change   1 Gbit/s, and every 15 s the way is another
 */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "test-link.h"

static const struct way start[] = { { 0, 125000000, 50000, 0, 0, 0 } };

/* 1 -> 10 -> 1 ms, half of the rate is another's, two speeds. */
static const struct way change[] = {
  { 0, 125000000, 1000, 0, 0, 0 },
  { 15 * US_PER_S, 125000000, 10000, 0, 0, 0 },
  { 30 * US_PER_S, 125000000, 1000, 0, 0, 0 },
  { 45 * US_PER_S, 125000000, 10000, 0, 0, 0 },
  { 60 * US_PER_S, 125000000, 10000, 0, 0, 4 },
  { 75 * US_PER_S, 125000000, 10000, 0, 0, 0 },
  { 90 * US_PER_S, 125000000, 2000, 8000, 2, 0 },
};

static void
table (const struct way *way, unsigned nr, uint64_t end_us, uint64_t step_us)
{
  struct link l;

  puts ("# s  limit  units_of_the_way  bytes_a_second  share  queue");
  link_begin (&l, way, nr, test_environment ("FARPAGE_SEED", 1));
  while (l.now_us < end_us) {
    const struct way *w = link_way (&l);
    struct stretch s = link_run (&l, l.now_us + step_us);

    printf ("%.4f %u %.1f %.0f %.3f %.1f\n",
            (double) l.now_us / (double) US_PER_S, l.b.limit, way_units (w),
            s.share * (double) way_rate (w), s.share, s.queue);
  }
}

int
main (int argc, char **argv)
{
  if (argc == 2 && strcmp (argv[1], "start") == 0)
    table (start, 1, 2 * US_PER_S, 10000);
  else if (argc == 2 && strcmp (argv[1], "change") == 0)
    table (change, sizeof change / sizeof change[0], 105 * US_PER_S, 100000);
  else {
    fputs ("usage: plot-bdp start|change\n", stderr);
    return 2;
  }
  return fflush (stdout) == 0 ? 0 : 1;
}
