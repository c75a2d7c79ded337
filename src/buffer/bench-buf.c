/* SPDX-License-Identifier: BSD-2-Clause */
/* How fast buffers are: `bench-buf [JSON-FILE [DIR]]`.
 *
 * A hot node found and put, a page written into a buffer (with its room waited
 * for, and with an eviction each), read from one, and what a commit pays a
 * page for its transfer: 1024 pages beside each other, and each alone.  Every
 * figure is the median of REPEATS repetitions.  Writes go to memory, which
 * shows the cost of this layer, and to a file in DIR (/var/tmp).
 */

#include <config.h>

#include "buf.h"
#include "env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REPEATS     5u
#define RESULTS_MAX 24u
#define CACHE_BYTES (UINT64_C (64) << 20)
#define FILE_BYTES  (UINT64_C (512) << 20)
#define NR_NODES    4096u
#define NR_LOOKS    2000000u
#define NR_PAGES    1024u /* of one pass of the writer */
#define NR_PASSES   64u

struct result {
  const char *name, *unit;
  double value;
};

static struct result results[RESULTS_MAX];
static unsigned nr_results;

static void
report (const char *name, double value, const char *unit)
{
  if (nr_results < RESULTS_MAX)
    results[nr_results++] = (struct result){ name, unit, value };
  printf ("%-48s %10.1f %s\n", name, value, unit);
  fflush (stdout);
}

static int
write_json (const char *path)
{
  FILE *fp = fopen (path, "w");

  if (fp == NULL) {
    perror (path);
    return 1;
  }
  fprintf (fp, "[\n");
  for (unsigned i = 0; i < nr_results; i++)
    fprintf (fp, "  {\"name\": \"%s\", \"value\": %.3f, \"unit\": \"%s\"}%s\n",
             results[i].name, results[i].value, results[i].unit,
             i + 1 < nr_results ? "," : "");
  fprintf (fp, "]\n");
  return fclose (fp) == 0 ? 0 : 1;
}

static void
must (int err, const char *what)
{
  if (err) {
    fprintf (stderr, "bench-buf: %s: %s\n", what, strerror (err));
    exit (1);
  }
}

static int
compare_doubles (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return x < y ? -1 : x > y;
}

static double
median (double values[REPEATS])
{
  qsort (values, REPEATS, sizeof values[0], compare_doubles);
  return values[REPEATS / 2];
}

static uint64_t
next_random (void)
{
  static uint64_t state = 88172645463325252;

  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state >> 8;
}

/* The time of this thread, so that what else the machine does counts less; not
 * for transfers, which are waited for.
 */
static uint64_t
cpu_now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t) ts.tv_sec * NS_PER_S + (uint64_t) ts.tv_nsec;
}

/* ---- the rig ---- */

struct rig {
  struct volume *volume;
  struct vpool *pool;
  struct bufs *bs;
  struct buf **taken;
  struct buf_io *ios;
};

static void
rig_open (struct rig *r, struct volume *volume)
{
  static const uint8_t uuid[DISK_UUID_BYTES];
  struct bufs_config config = { .volumes = &r->volume,
                                .nr_volumes = 1,
                                .uuid = uuid,
                                .cache_bytes = CACHE_BYTES };

  r->volume = volume;
  must (vpool_create (1, 0, VPOOL_AUTO, &r->pool), "batches");
  must (bufs_create (&config, &r->bs), "buffers");
  r->taken = calloc (NR_PAGES, sizeof (struct buf *));
  r->ios = calloc (NR_PAGES, sizeof *r->ios);
  must (r->taken == NULL || r->ios == NULL ? ENOMEM : 0, "memory");
}

static void
rig_close (struct rig *r)
{
  free (r->taken);
  free (r->ios);
  bufs_destroy (r->bs);
  vpool_destroy (r->pool);
  volume_close (r->volume);
}

/* ---- nodes ---- */

static void
bench_find (struct rig *r)
{
  struct buf_id id = { .tree = DISK_TREE_FIRST };
  double ns[REPEATS];

  for (id.index = 0; id.index < NR_NODES; id.index++)
    buf_put (r->bs, buf_meta_new (r->bs, &id, DISK_NODE_MAP, id.index));
  for (unsigned spread = 1; spread <= NR_NODES; spread *= NR_NODES) {
    for (unsigned k = 0; k < REPEATS; k++) {
      uint64_t begin_ns = cpu_now_ns ();

      for (unsigned i = 0; i < NR_LOOKS; i++) {
        id.index = next_random () % spread;
        buf_put (r->bs, buf_meta_find (r->bs, &id));
      }
      ns[k] = (double) (cpu_now_ns () - begin_ns) / NR_LOOKS;
    }
    report (spread == 1 ? "buf_meta_find + buf_put, one node"
                        : "buf_meta_find + buf_put, of 4096 nodes",
            median (ns), "ns");
  }
}

/* ---- pages ---- */

/* What a commit does with the pages of one pass. */
static void
write_out (struct rig *r, uint64_t *write_ns, uint64_t *rest_ns)
{
  uint64_t rest = cpu_now_ns ();
  unsigned nr = bufs_take (r->bs, BUF_DATA, r->taken, NR_PAGES);
  struct vbatch *batch = vbatch_get (r->pool);
  uint64_t begin_ns;

  *rest_ns += cpu_now_ns () - rest;
  for (unsigned i = 0; i < nr; i++)
    r->ios[i] = (struct buf_io){ .first = blkno_place (r->taken[i]->blk),
                                 .page = r->taken[i]->data };
  begin_ns = env_now_ns ();
  must (bufs_write (r->bs, batch, r->ios, nr), "write");
  *write_ns += env_now_ns () - begin_ns;
  rest = cpu_now_ns ();
  bufs_written (r->bs, r->taken, nr);
  *rest_ns += cpu_now_ns () - rest;
  vbatch_put (batch);
}

static void
write_page (struct rig *r, uint64_t blk)
{
  static uint8_t page[BUF_BYTES];
  struct buf *b;

  must (buf_data_get (r->bs, &b, 1), "get");
  page_copy (b->data, page, 1);
  buf_data_add (r->bs, &b, 1, blk);
}

/* Pages step blocks apart, pass by pass; nanoseconds a page. */
static void
pass (struct rig *r, uint64_t step, uint64_t *blk, double *copy, double *out,
      double *rest)
{
  uint64_t copy_ns = 0, write_ns = 0, rest_ns = 0;
  const double pages = (double) NR_PASSES * NR_PAGES;

  for (unsigned n = 0; n < NR_PASSES; n++) {
    uint64_t begin_ns = cpu_now_ns ();

    for (unsigned i = 0; i < NR_PAGES; i++) {
      *blk = (*blk + step) % (r->volume->size_bytes / BUF_BYTES);
      write_page (r, *blk);
    }
    copy_ns += cpu_now_ns () - begin_ns;
    write_out (r, &write_ns, &rest_ns);
  }
  *copy = (double) copy_ns / pages;
  *out = (double) write_ns / pages;
  *rest = (double) rest_ns / pages;
}

static void
bench_pages (struct rig *r, uint64_t step, const char *const names[3])
{
  double copy[REPEATS], out[REPEATS], rest[REPEATS];
  uint64_t blk = 0;

  for (unsigned k = 0; k < REPEATS; k++)
    pass (r, step, &blk, &copy[k], &out[k], &rest[k]);
  report (names[0], median (copy), "ns");
  report (names[1], median (out), "ns");
  report (names[2], median (rest), "ns");
}

static void
bench_read (struct rig *r)
{
  static uint8_t page[BUF_BYTES];
  double ns[REPEATS];

  for (unsigned i = 0; i < 2 * NR_PAGES; i++) {
    write_page (r, i);
  }
  for (unsigned k = 0; k < REPEATS; k++) {
    uint64_t begin_ns = cpu_now_ns ();

    for (unsigned i = 0; i < NR_LOOKS / 8; i++)
      if (!buf_data_read (r->bs, next_random () % NR_PAGES, page))
        must (ENOENT, "read");
    ns[k] = (double) (cpu_now_ns () - begin_ns) / (NR_LOOKS / 8);
  }
  report ("buf_data_read, hot", median (ns), "ns");
}

static struct volume *
open_file (const char *dir)
{
  struct volume_path_options options = { .direct = DIRECT_AUTO };
  struct volume *v;
  char path[4096];
  int fd;

  snprintf (path, sizeof path, "%s/bench-buf.XXXXXX", dir);
  fd = mkostemp (path, O_CLOEXEC);
  if (fd == -1 || ftruncate (fd, (off_t) FILE_BYTES) == -1) {
    perror (path);
    exit (1);
  }
  close (fd);
  must (volume_open_path (path, &options, &v), path);
  unlink (path);
  return v;
}

int
main (int argc, char *argv[])
{
  static const char *const memory[3] = {
    "buf_data_get + buf_data_add, a page",
    "bufs_write, 1024 neighbours in memory, a page",
    "bufs_take + bufs_written, a page",
  };
  static const char *const scattered[3] = {
    "buf_data_get + buf_data_add, scattered, a page",
    "bufs_write, 1024 scattered in memory, a page",
    "bufs_take + bufs_written, scattered, a page",
  };
  static const char *const file[3] = {
    "buf_data_get + buf_data_add, file, a page",
    "bufs_write, 1024 neighbours in a file, a page",
    "bufs_take + bufs_written, file, a page",
  };
  static const char *const file_scattered[3] = {
    "buf_data_get + buf_data_add, file scattered",
    "bufs_write, 1024 scattered in a file, a page",
    "bufs_take + bufs_written, file scattered, a page",
  };
  struct volume *v;
  struct rig r;

  must (volume_open_memory ("memory", FILE_BYTES, false, &v), "volume");
  rig_open (&r, v);
  bench_find (&r);
  bench_pages (&r, 1, memory);
  bench_pages (&r, 4099, scattered);
  bench_read (&r);
  rig_close (&r);
  rig_open (&r, open_file (argc > 2 ? argv[2] : "/var/tmp"));
  bench_pages (&r, 1, file);
  bench_pages (&r, 4099, file_scattered);
  rig_close (&r);
  return argc > 1 ? write_json (argv[1]) : 0;
}
