/* SPDX-License-Identifier: BSD-2-Clause */
/* What `farpage bench` measures, by libfarpage's public functions alone. */

#ifndef FARPAGE_BENCH_RUN_H
#define FARPAGE_BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#define BENCH_SPAN_MIN (UINT64_C (16) << 20)

struct bench_config {
  const char *uri;
  unsigned connections; /* 0: as the library likes */
  bool takeover;
  uint64_t span_bytes; /* of the object that is written and read */
  double seconds;      /* of each figure */
};

enum bench_figure {
  BENCH_PUT,        /* pages in order, asynchronously */
  BENCH_GET,        /* the same, nobody waits for a single one */
  BENCH_PUT_RANDOM, /* one page in 16, anywhere */
  BENCH_GET_RANDOM, /* single pages, which somebody waits for */
  BENCH_FIGURES
};

struct bench_result {
  double bytes_per_s;
  double pages_per_request;
  double moved_per_byte; /* bytes in requests, of those asked for */
};

/* What one demand read takes, of many: microseconds. */
struct bench_trip {
  double least_us, median_us, p99_us;
};

struct bench;

/* Told in the log (complain ()).  cluster_pages: 1 to 512. */
extern int bench_open (const struct bench_config *config,
                       unsigned cluster_pages, struct bench **bp);
extern void bench_close (struct bench *b);
/* Async writes under way, in clusters; 0: the library follows the link. */
extern void bench_set_async (struct bench *b, unsigned clusters);
/* Write every page once, so that there is something to get. */
extern int bench_fill (struct bench *b);
extern int bench_measure (struct bench *b, enum bench_figure figure,
                          struct bench_result *result);
/* beside: while puts of other pages leave as fast as they can. */
extern int bench_trips (struct bench *b, bool beside, struct bench_trip *trip);

#endif /* FARPAGE_BENCH_RUN_H */
