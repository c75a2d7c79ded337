/* SPDX-License-Identifier: BSD-2-Clause */
/* `farpage bench-file URI`: what an export costs as a file, by libfarpage's
 * file pager.  It reads and never writes.
 *
 *   one page   anywhere, one after the other, before anything else is read, so
 *              that nearly none is in the cache: what a wait costs
 *   in order   from the begin on, and round again: with read-ahead, no page is
 *              found in the cache, as the span is larger than it
 *   cached     4 KiB anywhere in what is in the cache
 *   --data     all data of the export, once, holes left out
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench-common.h"
#include "env.h"
#include "print.h"
#include "progress.h"
#include "size.h"
#include "table.h"

#define SPAN       (UINT64_C (256) << 20)
#define SPAN_MIN   (UINT64_C (128) << 20) /* the cache has half of it */
#define WARM_BYTES (UINT64_C (16) << 20)  /* that are read again and again */
#define READ_BYTES (UINT64_C (256) << 10)
#define SECONDS    0.5
#define PAGES_MAX  1000u /* that are timed */

struct bench_file {
  const char *uri;
  unsigned connections;
  uint64_t span_bytes;
  double seconds;
  bool data, json;
  struct farpage_link *link;
  struct farpage_file *file;
  uint8_t *buf;
  uint64_t size_bytes, random;
  /* What comes out. */
  double in_order, cached; /* bytes a second */
  double median_us, p99_us;
  uint64_t data_bytes;
  double data_seconds;
};

static double
since (uint64_t begin_ns)
{
  return (double) (env_now_ns () - begin_ns) / (double) NS_PER_S;
}

static int
read_at (struct bench_file *b, uint64_t off, uint64_t len)
{
  size_t done = 0;
  int err = farpage_file_pread (b->file, b->buf, len, off, &done);

  if (err == 0 && done == 0)
    err = EIO;
  if (err != 0)
    complain (b->uri, "byte %" PRIu64 ": %s (is its server still there?)", off,
              strerror (err));
  return err;
}

/* ---- figures ---- */

static int
measure_in_order (struct bench_file *b)
{
  const uint64_t begin = env_now_ns ();
  uint64_t off = 0, nr = 0;
  int err = 0;

  while (err == 0 && since (begin) < b->seconds) {
    const uint64_t left = b->span_bytes - off;
    const uint64_t len = left < READ_BYTES ? left : READ_BYTES;

    err = read_at (b, off, len);
    off = (off + len) % b->span_bytes;
    nr += len;
  }
  b->in_order = (double) nr / since (begin);
  return err;
}

/* Far apart, so that nearly none is found and none is in order. */
static int
measure_page (struct bench_file *b)
{
  const uint64_t begin = env_now_ns (), nr_pages = b->span_bytes / FARPAGE_PAGE;
  double us[PAGES_MAX];
  unsigned nr = 0;
  int err = 0;

  while (err == 0 && nr < PAGES_MAX &&
         (nr == 0 || since (begin) < b->seconds)) {
    const uint64_t page = bench_random (&b->random) % nr_pages,
                   start = env_now_ns ();

    err = read_at (b, page * FARPAGE_PAGE, FARPAGE_PAGE);
    us[nr++] = since (start) * 1e6;
  }
  qsort (us, nr, sizeof us[0], bench_by_number);
  b->median_us = us[nr / 2];
  b->p99_us = us[nr * 99 / 100];
  return err;
}

static int
measure_cached (struct bench_file *b)
{
  const uint64_t warm = b->span_bytes < WARM_BYTES ? b->span_bytes : WARM_BYTES;
  uint64_t begin, nr = 0;
  int err = 0;

  for (uint64_t off = 0; off < warm && err == 0; off += READ_BYTES)
    err = read_at (b, off, READ_BYTES);
  begin = env_now_ns ();
  while (err == 0 && (nr % 64 != 0 || since (begin) < b->seconds)) {
    err = read_at (
        b, bench_random (&b->random) % (warm / FARPAGE_PAGE) * FARPAGE_PAGE,
        FARPAGE_PAGE);
    nr++;
  }
  b->cached = (double) (nr * FARPAGE_PAGE) / since (begin);
  return err;
}

static int
measure_data (struct bench_file *b)
{
  const uint64_t begin = env_now_ns ();
  uint64_t from, end, off = 0;
  char text[HUMAN_BYTES];
  int err;

  while ((err = farpage_file_next_data (b->file, off, &from, &end)) == 0) {
    for (off = from; off < end && err == 0; off += READ_BYTES) {
      const uint64_t len = end - off < READ_BYTES ? end - off : READ_BYTES;

      err = read_at (b, off, len);
      b->data_bytes += len;
      progress_part (off, b->size_bytes, size_human (b->data_bytes, text));
    }
    if (err != 0)
      return err;
    off = end;
  }
  b->data_seconds = since (begin);
  if (err == ENXIO)
    return 0;
  complain (b->uri, "what is data behind byte %" PRIu64 ": %s", off,
            strerror (err));
  return err;
}

/* ---- the program's part ---- */

static int
parse (const struct invocation *inv, struct bench_file *b)
{
  *b = (struct bench_file){ .uri = inv->args[0],
                            .span_bytes = SPAN,
                            .seconds = SECONDS,
                            .random = BENCH_SEED,
                            .data = given (inv, OPT_DATA),
                            .json = given (inv, OPT_JSON) };
  return bench_parse_common (inv, SPAN_MIN, &b->connections, &b->span_bytes,
                             &b->seconds);
}

static int
try_to_open (struct bench_file *b)
{
  struct farpage_options opts;
  int err;

  bench_options_init (&opts);
  opts.connections = b->connections;
  b->buf = malloc (READ_BYTES);
  if (b->buf == NULL)
    return ENOMEM;
  err = farpage_link_open (b->uri, &opts, &b->link);
  if (err == 0)
    err = farpage_file_open (b->link, NULL, &b->file);
  if (err != 0)
    return err;
  b->size_bytes = farpage_file_size (b->file);
  b->span_bytes -= b->span_bytes % READ_BYTES;
  return 0;
}

static int
open_file (struct bench_file *b)
{
  const int err = try_to_open (b);
  char size[HUMAN_BYTES], span[HUMAN_BYTES];

  if (err != 0) {
    bench_complain_open (b->uri, err);
    return err;
  }
  if (b->size_bytes < b->span_bytes) {
    complain (b->uri,
              "it is too small: it has %s, and --span is %s (128M at "
              "least)",
              size_human (b->size_bytes, size),
              size_human (b->span_bytes, span));
    return ENOSPC;
  }
  bench_opened ();
  return 0;
}

static int
measure (struct bench_file *b)
{
  static const struct {
    const char *name;
    int (*run) (struct bench_file *b);
  } steps[] = { { "opening", open_file },
                { "single pages", measure_page },
                { "in order", measure_in_order },
                { "cached pages", measure_cached },
                { "all data", measure_data } };
  const unsigned nr = b->data ? 5 : 4;
  int err = 0;

  progress_steps ("bench-file", nr);
  for (unsigned i = 0; i < nr && err == 0; i++) {
    progress_step ("%s", steps[i].name);
    err = steps[i].run (b);
  }
  progress_end ();
  return err;
}

static void
show (const struct bench_file *b)
{
  static const char *const heads[] = { ">IN ORDER", ">CACHED", ">PAGE, US",
                                       ">99TH", NULL };
  char text[HUMAN_BYTES];
  struct table *t = table_new (heads);

  printf ("Reads of a file, bytes a second; and what a page takes in us:\n");
  table_cell (t, "%s", size_human ((uint64_t) b->in_order, text));
  table_cell (t, "%s", size_human ((uint64_t) b->cached, text));
  table_cell (t, "%.0f", b->median_us);
  table_cell (t, "%.0f", b->p99_us);
  table_print (t, 2);
  if (b->data)
    printf ("\nAll data, %s, in %.2f s\n", size_human (b->data_bytes, text),
            b->data_seconds);
}

static void
show_json (const struct bench_file *b)
{
  json_t *json = json_pack ("{s:s, s:f, s:f, s:f, s:f, s:f}", "uri", b->uri,
                            "seconds", b->seconds, "in_order_bytes_per_s",
                            b->in_order, "cached_bytes_per_s", b->cached,
                            "median_us", b->median_us, "p99_us", b->p99_us);

  if (b->data) {
    json_object_set_new (json, "data_bytes",
                         json_integer ((json_int_t) b->data_bytes));
    json_object_set_new (json, "data_seconds", json_real (b->data_seconds));
  }
  print_json (json, false);
  json_decref (json);
}

static int
run (const struct invocation *inv)
{
  struct bench_file b;
  int status = parse (inv, &b);

  if (status != 0)
    return status;
  status = measure (&b) == 0 ? 0 : STATUS_NO;
  if (b.file != NULL)
    (void) farpage_file_close (b.file);
  if (b.link != NULL)
    farpage_link_close (b.link);
  free (b.buf);
  if (status == 0 && b.json)
    show_json (&b);
  else if (status == 0)
    show (&b);
  return status;
}

const struct command command_bench_file = {
  .name = "bench-file",
  .args = "URI",
  .summary = "read an export as a file, and tell how fast",
  .options = OPT_BIT (OPT_CONNECTIONS) | OPT_BIT (OPT_SPAN) |
             OPT_BIT (OPT_SECONDS) | OPT_BIT (OPT_DATA) | OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = 1,
  .offline = true,
  .run = run,
};
