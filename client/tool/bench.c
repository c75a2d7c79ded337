/* SPDX-License-Identifier: BSD-2-Clause */
/* `farpage bench URI`: what pages cost over a link, by libfarpage's pager.
 *
 *   clusters x async limits --> put     one table
 *   clusters, limit follows --> put, get, random put, random get, trips
 *
 * bench-run.c measures; here is what is asked, and how it is shown.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench-common.h"
#include "bench-run.h"
#include "print.h"
#include "progress.h"
#include "size.h"
#include "table.h"
#include "tool.h"

#define SPAN (UINT64_C (256) << 20)
#define CLUSTERS \
  {              \
    4, 16, 64    \
  }
#define ASYNCS                \
  {                           \
    1, 2, 4, 8, 16, 32, 64, 0 \
  }
#define SECONDS 0.5

struct asked {
  struct bench_config config;
  unsigned cluster[BENCH_LIST_MAX], nr_clusters;
  unsigned async[BENCH_LIST_MAX], nr_asyncs; /* 0: follows the link */
};

/* Of one cluster size. */
struct row {
  double put[BENCH_LIST_MAX]; /* by async limit, bytes a second */
  struct bench_result result[BENCH_FIGURES];
  struct bench_trip trip, beside; /* beside puts */
};

static const char *const figure_names[BENCH_FIGURES] = {
  [BENCH_PUT] = "put",
  [BENCH_GET] = "get",
  [BENCH_PUT_RANDOM] = "put_random",
  [BENCH_GET_RANDOM] = "get_random",
};

/* ---- what is asked ---- */

static int
parse (const struct invocation *inv, struct asked *a)
{
  static const struct asked start = {
    .config = { .span_bytes = SPAN, .seconds = SECONDS },
    .cluster = CLUSTERS,
    .nr_clusters = 3,
    .async = ASYNCS,
    .nr_asyncs = BENCH_LIST_MAX,
  };

  *a = start;
  a->config.uri = inv->args[0];
  a->config.takeover = given (inv, OPT_TAKEOVER);
  if (given (inv, OPT_CLUSTER) &&
      bench_parse_list (inv->value[OPT_CLUSTER], 512, NULL, a->cluster,
                        &a->nr_clusters) != 0)
    return complain_usage (inv->command, "--cluster takes up to 8 numbers from "
                                         "1 to 512, as in 4,16,64");
  if (given (inv, OPT_ASYNC) &&
      bench_parse_list (inv->value[OPT_ASYNC], 1024, "follow", a->async,
                        &a->nr_asyncs) != 0)
    return complain_usage (inv->command,
                           "--async takes up to 8 of: numbers "
                           "from 1 to 1024, 'follow', as in 1,4,follow");
  return bench_parse_common (inv, BENCH_SPAN_MIN, &a->config.connections,
                             &a->config.span_bytes, &a->config.seconds);
}

/* ---- measuring ---- */

static void
begin_step (unsigned cluster, const char *what)
{
  progress_step ("clusters of %u: %s", cluster, what);
}

static int
measure_asyncs (struct bench *b, const struct asked *a, unsigned cluster,
                struct row *row)
{
  int err = 0;

  for (unsigned i = 0; i < a->nr_asyncs && err == 0; i++) {
    struct bench_result result;

    begin_step (cluster, "puts by limit");
    bench_set_async (b, a->async[i]);
    err = bench_measure (b, BENCH_PUT, &result);
    if (err == 0)
      row->put[i] = result.bytes_per_s;
  }
  bench_set_async (b, 0);
  return err;
}

static int
measure_figures (struct bench *b, unsigned cluster, struct row *row)
{
  int err = 0;

  for (unsigned f = 0; f < BENCH_FIGURES && err == 0; f++) {
    if (f == BENCH_GET) { /* what was put at random lies at random */
      begin_step (cluster, "put again");
      err = bench_fill (b);
    }
    begin_step (cluster, figure_names[f]);
    if (err == 0)
      err = bench_measure (b, (enum bench_figure) f, &row->result[f]);
  }
  return err;
}

/* Steps, beside those by limit and by figure. */
#define STEPS 5

static int
measure_cluster (const struct asked *a, unsigned cluster, struct row *row)
{
  struct bench *b;
  int err;

  begin_step (cluster, "opening");
  err = bench_open (&a->config, cluster, &b);
  if (err != 0)
    return err;
  begin_step (cluster, "the first put");
  err = bench_fill (b);
  if (err == 0)
    err = measure_asyncs (b, a, cluster, row);
  if (err == 0)
    err = measure_figures (b, cluster, row);
  begin_step (cluster, "single pages");
  if (err == 0)
    err = bench_trips (b, false, &row->trip);
  begin_step (cluster, "single pages beside puts");
  if (err == 0)
    err = bench_trips (b, true, &row->beside);
  bench_close (b);
  return err;
}

/* ---- showing ---- */

static const char *
async_name (unsigned async, char to[16])
{
  if (async == 0)
    return "follow";
  snprintf (to, 16, "%u", async);
  return to;
}

static void
print_tables (const struct asked *a, const struct row *rows)
{
  static const char *const all[] = {
    ">CLUSTER",    ">PUT",    ">GET",  ">RANDOM PUT",  ">PAGES A WRITE",
    ">RANDOM GET", ">MEDIAN", ">99TH", ">BESIDE PUTS", NULL
  };
  char names[BENCH_LIST_MAX][24], text[HUMAN_BYTES], n[16];
  const char *heads[BENCH_LIST_MAX + 2] = { ">CLUSTER" };
  struct table *t;

  for (unsigned i = 0; i < a->nr_asyncs; i++) {
    snprintf (names[i], sizeof names[i], ">%s", async_name (a->async[i], n));
    heads[i + 1] = names[i];
  }
  printf (
      "Puts, bytes a second, by pages of a cluster and clusters under way:\n");
  t = table_new (heads);
  for (unsigned c = 0; c < a->nr_clusters; c++) {
    table_cell (t, "%u", a->cluster[c]);
    for (unsigned i = 0; i < a->nr_asyncs; i++)
      table_cell (t, "%s", size_human ((uint64_t) rows[c].put[i], text));
  }
  table_print (t, 2);
  printf ("\nBytes a second, with a limit that follows; and what a page takes "
          "in us:\n");
  t = table_new (all);
  for (unsigned c = 0; c < a->nr_clusters; c++) {
    const struct bench_result *r = rows[c].result;

    table_cell (t, "%u", a->cluster[c]);
    table_cell (t, "%s",
                size_human ((uint64_t) r[BENCH_PUT].bytes_per_s, text));
    table_cell (t, "%s",
                size_human ((uint64_t) r[BENCH_GET].bytes_per_s, text));
    table_cell (t, "%s",
                size_human ((uint64_t) r[BENCH_PUT_RANDOM].bytes_per_s, text));
    table_cell (t, "%.1f", r[BENCH_PUT_RANDOM].pages_per_request);
    table_cell (t, "%s",
                size_human ((uint64_t) r[BENCH_GET_RANDOM].bytes_per_s, text));
    table_cell (t, "%.0f", rows[c].trip.median_us);
    table_cell (t, "%.0f", rows[c].trip.p99_us);
    table_cell (t, "%.0f", rows[c].beside.p99_us);
  }
  table_print (t, 2);
}

static json_t *
json_of_trip (const struct bench_trip *trip)
{
  return json_pack ("{s:f, s:f, s:f}", "least_us", trip->least_us, "median_us",
                    trip->median_us, "p99_us", trip->p99_us);
}

static json_t *
json_of_row (const struct asked *a, unsigned c, const struct row *row)
{
  json_t *puts = json_array (), *json = json_object ();
  char n[16];

  json_object_set_new (json, "cluster_pages", json_integer (a->cluster[c]));
  for (unsigned i = 0; i < a->nr_asyncs; i++)
    json_array_append_new (puts, json_pack ("{s:s, s:f}", "async",
                                            async_name (a->async[i], n),
                                            "bytes_per_s", row->put[i]));
  json_object_set_new (json, "put_by_async", puts);
  for (unsigned f = 0; f < BENCH_FIGURES; f++)
    json_object_set_new (
        json, figure_names[f],
        json_pack ("{s:f, s:f, s:f}", "bytes_per_s", row->result[f].bytes_per_s,
                   "pages_per_request", row->result[f].pages_per_request,
                   "moved_per_byte", row->result[f].moved_per_byte));
  json_object_set_new (json, "trip", json_of_trip (&row->trip));
  json_object_set_new (json, "trip_beside_puts", json_of_trip (&row->beside));
  return json;
}

static void
print_all_json (const struct asked *a, const struct row *rows)
{
  json_t *list = json_array (), *json;

  for (unsigned c = 0; c < a->nr_clusters; c++)
    json_array_append_new (list, json_of_row (a, c, &rows[c]));
  json = json_pack ("{s:s, s:f, s:o}", "uri", a->config.uri, "seconds",
                    a->config.seconds, "clusters", list);
  print_json (json, false);
  json_decref (json);
}

static void
write_plot (FILE *fp, const struct asked *a, const struct row *rows)
{
  char n[16];

  fputs ("set terminal svg size 720,400 background 'white'\n"
         "set xlabel 'clusters under way'\nset ylabel 'puts, MB/s'\n"
         "set yrange [0:]\nset key left top title 'pages of a cluster'\n"
         "set grid ytics\nset xtics (",
         fp);
  for (unsigned i = 0; i < a->nr_asyncs; i++)
    fprintf (fp, "%s'%s' %u", i > 0 ? ", " : "", async_name (a->async[i], n),
             i);
  fputs (")\nplot ", fp);
  for (unsigned c = 0; c < a->nr_clusters; c++)
    fprintf (fp, "%s'-' with linespoints title '%u'", c > 0 ? ", " : "",
             a->cluster[c]);
  for (unsigned c = 0; c < a->nr_clusters; c++) {
    fputc ('\n', fp);
    for (unsigned i = 0; i < a->nr_asyncs; i++)
      fprintf (fp, "%u %.3f\n", i, rows[c].put[i] / 1e6);
    fputc ('e', fp);
  }
  fputc ('\n', fp);
}

static bool
has_gnuplot (void)
{
  const char *path = getenv ("PATH");
  char file[4096];

  while (path != NULL) {
    size_t len = strcspn (path, ":");
    int n = snprintf (file, sizeof file, "%.*s/gnuplot", (int) len, path);

    if (n < (int) sizeof file && access (file, X_OK) == 0)
      return true;
    path = path[len] == ':' ? path + len + 1 : NULL;
  }
  return false;
}

/* Told before anything is measured.  What is there stays until then. */
static int
open_plot (const char *path, FILE **out)
{
  if (!has_gnuplot ()) {
    complain ("--plot", "there is no gnuplot (apt-get install gnuplot-nox)");
    return STATUS_NO;
  }
  *out = fopen (path, "ae");
  if (*out != NULL)
    return 0;
  complain (path, "%s", strerror (errno));
  return STATUS_NO;
}

/* gnuplot draws to its output, which is the file: no path is quoted. */
static int
plot (const char *path, FILE *out, const struct asked *a,
      const struct row *rows)
{
  FILE *fp;
  int fd, status;

  if (ftruncate (fileno (out), 0) != 0) {
    complain (path, "%s", strerror (errno));
    return STATUS_NO;
  }
  fflush (stdout);
  fd = dup (STDOUT_FILENO);
  dup2 (fileno (out), STDOUT_FILENO);
  fp = popen ("gnuplot", "w");
  if (fp != NULL)
    write_plot (fp, a, rows);
  status = fp != NULL ? pclose (fp) : -1;
  dup2 (fd, STDOUT_FILENO);
  close (fd);
  if (status == 0)
    return 0;
  complain (path, "gnuplot did not draw it (is there space?)");
  return STATUS_NO;
}

static int
measure_all (const struct asked *a, struct row *rows)
{
  int err = 0;

  progress_steps ("bench",
                  a->nr_clusters * (a->nr_asyncs + BENCH_FIGURES + STEPS));
  for (unsigned c = 0; c < a->nr_clusters && err == 0; c++)
    err = measure_cluster (a, a->cluster[c], &rows[c]);
  progress_end ();
  return err == 0 ? 0 : STATUS_NO;
}

static int
run (const struct invocation *inv)
{
  struct row rows[BENCH_LIST_MAX] = { 0 };
  struct asked a;
  FILE *out = NULL;
  int status = parse (inv, &a);

  if (status == 0 && given (inv, OPT_PLOT))
    status = open_plot (inv->value[OPT_PLOT], &out);
  if (status == 0)
    status = measure_all (&a, rows);
  if (status == 0 && given (inv, OPT_JSON))
    print_all_json (&a, rows);
  else if (status == 0)
    print_tables (&a, rows);
  if (status == 0 && out != NULL)
    status = plot (inv->value[OPT_PLOT], out, &a, rows);
  if (out != NULL)
    fclose (out);
  return status;
}

const struct command command_bench = {
  .name = "bench",
  .args = "URI",
  .summary = "put and get pages over a link, and tell how fast",
  .options = OPT_BIT (OPT_CLUSTER) | OPT_BIT (OPT_ASYNC) |
             OPT_BIT (OPT_CONNECTIONS) | OPT_BIT (OPT_SPAN) |
             OPT_BIT (OPT_SECONDS) | OPT_BIT (OPT_TAKEOVER) |
             OPT_BIT (OPT_PLOT) | OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = 1,
  .offline = true,
  .run = run,
};
