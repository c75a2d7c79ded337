/* SPDX-License-Identifier: BSD-2-Clause */
/* How fast and how large blist and swmeta are: `bench-base [JSON-FILE]`.
 *
 * Prints a table, with the goals and whether they hold, and writes the same
 * as JSON.  Every time is the median of REPEATS repetitions, in time of the
 * processor; what a ratio compares was measured in turn.  Takes less than a
 * minute and 2 GiB.
 */

#include <config.h>

#include "blist.h"
#include "env.h"
#include "swmeta.h"
#include "test-util.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define REPEATS     5u
#define RESULTS_MAX 40u
#define GIB_BLOCKS  (UINT64_C (1) << 18)
#define BLOCKS_1G   GIB_BLOCKS
#define BLOCKS_64G  (64 * GIB_BLOCKS)
#define BLOCKS_16T  (16384 * GIB_BLOCKS)
#define NR_OPS      2000000u
#define HELD        4096u /* runs held before the oldest is freed */
#define MAP_PAGES   (4 * GIB_BLOCKS)

/* ---- results ---- */

struct result {
  const char *name;
  const char *unit;
  double value;
  double goal; /* at most; 0: none */
};

static struct result results[RESULTS_MAX];
static unsigned nr_results;

static double
report (const char *name, double value, const char *unit, double goal)
{
  const char *verdict = goal == 0 ? "" : value <= goal ? "ok" : "MISSED";

  if (nr_results < RESULTS_MAX)
    results[nr_results++] = (struct result){ name, unit, value, goal };
  if (goal == 0)
    printf ("%-50s %9.2f %s\n", name, value, unit);
  else
    printf ("%-50s %9.2f %-10s (goal %6.2f) %s\n", name, value, unit, goal,
            verdict);
  fflush (stdout);
  return value;
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
  for (unsigned i = 0; i < nr_results; i++) {
    const struct result *r = &results[i];

    fprintf (fp, "  {\"name\": \"%s\", \"value\": %.3f, \"unit\": \"%s\"",
             r->name, r->value, r->unit);
    if (r->goal != 0)
      fprintf (fp, ", \"goal\": %.3f, \"ok\": %s", r->goal,
               r->value <= r->goal ? "true" : "false");
    fprintf (fp, "}%s\n", i + 1 < nr_results ? "," : "");
  }
  fprintf (fp, "]\n");
  return fclose (fp) == 0 ? 0 : 1;
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

static void
must (int err)
{
  if (err) {
    fprintf (stderr, "bench-base: %s\n", strerror (err));
    exit (1);
  }
}

/* The time of this thread, so that what else the machine does counts less. */
static uint64_t
cpu_now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t) ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static uint64_t random_state = 88172645463325252;

static uint64_t
rnd (uint64_t below)
{
  return test_random_below (&random_state, below);
}

/* ---- blist ---- */

/* One block at a time; the one taken HELD operations ago goes back. */
static double
next_fit (struct blist *bl)
{
  static uint64_t held[HELD];
  uint64_t count, begin;

  for (unsigned i = 0; i < HELD; i++)
    must (blist_alloc (bl, 1, 1, &held[i], &count));
  begin = cpu_now_ns ();
  for (unsigned i = 0; i < NR_OPS; i++) {
    must (blist_free (bl, held[i % HELD], 1));
    must (blist_alloc (bl, 1, 1, &held[i % HELD], &count));
  }
  begin = cpu_now_ns () - begin;
  for (unsigned i = 0; i < HELD; i++)
    must (blist_free (bl, held[i], 1));
  return (double) begin / NR_OPS;
}

static double
at_random (struct blist *bl)
{
  uint64_t nr_blocks = blist_nr_blocks (bl);
  uint64_t start, count, begin = cpu_now_ns ();

  for (unsigned i = 0; i < NR_OPS; i++) {
    blist_seek (bl, rnd (nr_blocks));
    must (blist_alloc (bl, 1, 1, &start, &count));
    must (blist_free (bl, start, 1));
  }
  return (double) (cpu_now_ns () - begin) / NR_OPS;
}

struct run {
  uint64_t start, count;
};

/* Runs of 1 to 16 blocks, at least 1; a random earlier one goes back. */
static double
fragmented (struct blist *bl)
{
  static struct run held[HELD];
  uint64_t begin;

  for (unsigned i = 0; i < HELD; i++)
    must (blist_alloc (bl, 1, 1 + rnd (16), &held[i].start, &held[i].count));
  begin = cpu_now_ns ();
  for (unsigned i = 0; i < NR_OPS; i++) {
    struct run *r = &held[rnd (HELD)];

    must (blist_free (bl, r->start, r->count));
    must (blist_alloc (bl, 1, 1 + rnd (16), &r->start, &r->count));
  }
  begin = cpu_now_ns () - begin;
  for (unsigned i = 0; i < HELD; i++)
    must (blist_free (bl, held[i].start, held[i].count));
  return (double) begin / NR_OPS;
}

/* A blist of which so many blocks in a hundred are taken, at random. */
static struct blist *
blist_filled (uint64_t nr_blocks, unsigned percent)
{
  struct blist *bl;
  uint64_t nr;

  must (blist_create (nr_blocks, &bl));
  for (uint64_t b = 0; b < nr_blocks; b++)
    if (rnd (100) < percent)
      must (blist_fill (bl, b, 1, &nr));
  return bl;
}

static double
repeat (double (*fn) (struct blist *bl), struct blist *bl)
{
  double ns[REPEATS];

  for (unsigned i = 0; i < REPEATS; i++)
    ns[i] = fn (bl);
  return median (ns);
}

/* What memory alone costs: set and clear a bit in one of as many words, in
 * nodes of the same size, at random or in order.
 */
static double
bare (bool in_order)
{
  const uint64_t nr = BLOCKS_16T / 64, huge = UINT64_C (2) << 20;
  struct {
    uint64_t used, bound;
  } *nodes = aligned_alloc (huge, nr * sizeof *nodes);
  uint64_t begin, spent;

  must (nodes == NULL ? ENOMEM : 0);
  madvise (nodes, nr * sizeof *nodes, MADV_HUGEPAGE);
  memset (nodes, 0, nr * sizeof *nodes);
  begin = cpu_now_ns ();
  for (unsigned i = 0; i < NR_OPS; i++) {
    uint64_t block = in_order ? i : rnd (BLOCKS_16T);
    uint64_t *word = &nodes[block / 64].used;
    uint64_t bit = ~*word & (UINT64_MAX << block % 64);

    bit &= -bit;
    *word |= bit;
    /* The second half is another call, and reads what the first wrote. */
    __asm__ volatile("" ::: "memory");
    must ((*word & bit) != bit);
    *word &= ~bit;
  }
  spent = cpu_now_ns () - begin;
  free (nodes);
  return (double) spent / NR_OPS;
}

static void
bench_bare (void)
{
  double a[REPEATS], b[REPEATS];

  for (unsigned i = 0; i < REPEATS; i++) {
    a[i] = bare (true);
    b[i] = bare (false);
  }
  report ("bare bits in 1 GiB of nodes, in order", median (a), "ns/op", 0);
  report ("bare bits in 1 GiB of nodes, at random", median (b), "ns/op", 0);
  report ("bare bits, at random : in order", median (b) / median (a), "times",
          0);
}

static void
bench_blist_sizes (void)
{
  struct blist *small, *large;
  double a[REPEATS], b[REPEATS], c[REPEATS], base, random_small;
  uint64_t nr;

  must (blist_create (BLOCKS_1G, &small));
  must (blist_create (BLOCKS_16T, &large));
  /* So that the memory of all nodes is there. */
  must (blist_fill (large, 0, BLOCKS_16T, &nr));
  must (blist_free (large, 0, BLOCKS_16T));
  for (unsigned i = 0; i < REPEATS; i++) {
    a[i] = next_fit (small);
    b[i] = next_fit (large);
    c[i] = at_random (large);
  }
  base = report ("blist next fit, 1 GiB", median (a), "ns/op", 0);
  report ("blist next fit, 16 TiB", median (b), "ns/op", 0);
  random_small = repeat (at_random, small);
  report ("blist at random places, 1 GiB", random_small, "ns/op", 0);
  report ("blist at random places, 16 TiB", median (c), "ns/op", 0);
  report ("blist next fit, 16 TiB : 1 GiB", median (b) / base, "times", 1.5);
  report ("blist random 16 TiB : random 1 GiB", median (c) / random_small,
          "times", 6);
  report ("blist random 16 TiB : next fit 1 GiB", median (c) / base, "times",
          6);
  report ("blist memory, 1 GiB", blist_bytes (small) * 8.0 / BLOCKS_1G,
          "bits/block", 2.25);
  report ("blist memory, 16 TiB", blist_bytes (large) * 8.0 / BLOCKS_16T,
          "bits/block", 2.25);
  blist_destroy (small);
  blist_destroy (large);
}

static void
bench_blist_fragmented (void)
{
  struct blist *empty = blist_filled (BLOCKS_64G, 10);
  struct blist *full = blist_filled (BLOCKS_64G, 95);
  double a[REPEATS], b[REPEATS];

  for (unsigned i = 0; i < REPEATS; i++) {
    a[i] = fragmented (empty);
    b[i] = fragmented (full);
  }
  report ("blist 1 to 16, 64 GiB, 10 % full", median (a), "ns/op", 0);
  report ("blist 1 to 16, 64 GiB, 95 % full", median (b), "ns/op", 0);
  report ("blist 95 % : 10 % full", median (b) / median (a), "times", 3);
  blist_destroy (empty);
  blist_destroy (full);
}

/* ---- swmeta ---- */

static void
ignore (void *arg, const struct swmeta_run *run)
{
  (void) arg;
  (void) run;
}

struct map_times {
  double build, lookup, free, bytes_per_page;
};

/* Map, look up and free MAP_PAGES pages, `len` at a time, each time a run of
 * its own.
 */
static struct map_times
map_times (unsigned len)
{
  struct swent ents[32] = { { 0 } };
  struct swmeta_run run;
  struct map_times t;
  struct swzone *zone;
  struct swmeta *map;
  uint64_t begin;

  must (swzone_create (sizeof ents[0], UINT64_MAX, &zone));
  must (swmeta_create (zone, MAP_PAGES, &map));
  begin = cpu_now_ns ();
  for (pgno_t p = 0; p < MAP_PAGES; p += len) {
    for (unsigned i = 0; i < len; i++)
      ents[i].word = swmeta_word (SWMETA_BLOCK, p + p / len + i + 1);
    must (swmeta_build (map, p, len, ents, ignore, NULL));
  }
  t.build = (double) (cpu_now_ns () - begin) / MAP_PAGES;
  t.bytes_per_page = (double) swzone_bytes (zone) / MAP_PAGES;
  begin = cpu_now_ns ();
  for (pgno_t p = 0; p < MAP_PAGES; p += len) {
    swmeta_lookup (map, p, 32, &run);
    must (run.nr_pages != len);
  }
  t.lookup = (double) (cpu_now_ns () - begin) / MAP_PAGES;
  begin = cpu_now_ns ();
  for (pgno_t p = 0; p < MAP_PAGES; p += len)
    swmeta_free (map, p, len, ignore, NULL);
  t.free = (double) (cpu_now_ns () - begin) / MAP_PAGES;
  swmeta_destroy (map);
  swzone_destroy (zone);
  return t;
}

static void
bench_map (unsigned len, const char *const names[3])
{
  double a[REPEATS], b[REPEATS], c[REPEATS];
  struct map_times t;

  for (unsigned i = 0; i < REPEATS; i++) {
    t = map_times (len);
    a[i] = t.build;
    b[i] = t.lookup;
    c[i] = t.free;
  }
  if (len > 1)
    report ("swmeta memory, dense", t.bytes_per_page, "bytes/page", 18);
  report (names[0], median (a), "ns/page", 0);
  report (names[1], median (b), "ns/page", 0);
  report (names[2], median (c), "ns/page", 0);
}

static void
free_blocks (void *arg, const struct swmeta_run *run)
{
  must (blist_free (arg, swmeta_blkno (run->word), run->nr_pages));
}

/* Map 64 GiB in runs of `len` blocks, neighbouring runs far apart; drop it
 * shard by shard, and give the blocks back.  Milliseconds.  With slowest,
 * *slowest is the most that one shard took, in microseconds; asking the clock
 * so often costs a tenth.
 */
static double
drop_64g (unsigned len, double *slowest)
{
  const uint64_t nr_runs = BLOCKS_64G / len;
  struct swent ents[32] = { { 0 } };
  uint64_t nr, begin, most = 0;
  struct swzone *zone;
  struct swmeta *map;
  struct blist *bl;

  must (swzone_create (sizeof ents[0], UINT64_MAX, &zone));
  must (swmeta_create (zone, BLOCKS_64G, &map));
  must (blist_create (BLOCKS_64G, &bl));
  must (blist_fill (bl, 0, BLOCKS_64G, &nr));
  for (uint64_t r = 0; r < nr_runs; r++) {
    /* An odd factor: every run once. */
    uint64_t start = r * 2654435761 % nr_runs * len;

    for (unsigned i = 0; i < len; i++)
      ents[i].word = swmeta_word (SWMETA_BLOCK, start + i);
    must (swmeta_build (map, r * len, len, ents, ignore, NULL));
  }
  begin = cpu_now_ns ();
  for (uint64_t s = swmeta_next_shard (map, 0); s != UINT64_MAX;
       s = swmeta_next_shard (map, s + 1)) {
    uint64_t start = slowest != NULL ? cpu_now_ns () : 0;

    swmeta_free (map, s * SHARD_PAGES, SHARD_PAGES, free_blocks, bl);
    if (slowest != NULL)
      most = max_u64 (most, cpu_now_ns () - start);
  }
  swmeta_destroy (map);
  begin = cpu_now_ns () - begin;
  must (blist_nr_free (bl) != BLOCKS_64G);
  blist_destroy (bl);
  swzone_destroy (zone);
  if (slowest != NULL)
    *slowest = most / 1e3;
  return begin / 1e6;
}

static void
bench_drop (void)
{
  double ms[REPEATS], us;

  for (unsigned i = 0; i < REPEATS; i++)
    ms[i] = drop_64g (32, NULL);
  report ("drop 64 GiB, runs of 32", median (ms), "ms", 150);
  drop_64g (32, &us);
  report ("  its slowest shard", us, "us", 0);
  report ("drop 64 GiB, runs of 1", drop_64g (1, NULL), "ms", 0);
}

int
main (int argc, char *argv[])
{
  static const char *const names_1[] = { "swmeta build, 1 page at a time",
                                         "swmeta lookup, 1 page",
                                         "swmeta free, 1 page at a time" };
  static const char *const names_32[] = { "swmeta build, 32 pages at a time",
                                          "swmeta lookup, 32 pages",
                                          "swmeta free, 32 pages at a time" };

  bench_blist_sizes ();
  bench_bare ();
  bench_blist_fragmented ();
  bench_map (32, names_32);
  bench_map (1, names_1);
  bench_drop ();
  return argc > 1 ? write_json (argv[1]) : 0;
}
