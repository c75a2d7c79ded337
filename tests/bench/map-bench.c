/* SPDX-License-Identifier: BSD-2-Clause */
/* map-bench: what memory from afar costs, for bench-map.sh.
 *
 *   map-bench touch URI          a touch of a page that is not there, beside a
 *                                read of 4 KiB by libnbd, and a fault of the
 *                                barest userfaultfd loop there can be, which
 *                                reads nothing, or that by libnbd
 *   map-bench patterns URI       pages a second in order, backwards, by a
 *                                stride, by two readers, and at random, each
 *                                with what is read ahead and without
 *   map-bench fill URI MS        a reader in order, alone and beside four that
 *                                touch at random; MS is the round trip
 *   map-bench written URI        pages written for pages that were changed
 *
 * Objects are made anew on URI's export, all of which is used.  Prints JSON.
 * The figures of one run are taken in turns.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <farpage.h>
#include <libnbd.h>

#include "bare-fault.h"

#define PAGE     FARPAGE_PAGE
#define MIB      (UINT64_C (1) << 20)
#define NR       (UINT64_C (128) * MIB / PAGE) /* pages of the object */
#define BUDGET   (UINT64_C (16) * MIB)
#define ROUNDS   9u
#define TOUCHES  50u /* of a round */
#define TOUCHERS 4u

/* ---- tools ---- */

static double
now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}

static void
must (int err, const char *what)
{
  if (err == 0)
    return;
  fprintf (stderr, "map-bench: %s: %s\n", what, strerror (err));
  exit (1);
}

static int
by_number (const void *a, const void *b)
{
  const double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

/* share 0.5: the median */
static double
quantile (double *values, size_t nr, double share)
{
  qsort (values, nr, sizeof values[0], by_number);
  return values[(size_t) ((double) (nr - 1) * share)];
}

static uint64_t
random_below (uint64_t *state, uint64_t n)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state % n;
}

/* ---- memory ---- */

struct far {
  struct farpage_link *link;
  struct farpage_swap *swap;
  struct farpage_object *object;
  struct farpage_map *map;
  volatile uint64_t *memory;
};

#define WORDS (PAGE / sizeof (uint64_t)) /* of a page */

static void
log_line (void *arg, int priority, const char *line)
{
  (void) arg;
  if (priority <= 4) /* a warning, or worse */
    fprintf (stderr, "%s\n", line);
}

static void
map_again (struct far *f)
{
  if (f->map != NULL)
    must (farpage_unmap (f->map), "unmap");
  must (farpage_map (f->object, BUDGET, &f->map), "map");
  f->memory = farpage_map_address (f->map);
}

/* All pages are with the server, and none is here. */
static void
far_open (struct far *f, const char *uri)
{
  struct farpage_options options;

  *f = (struct far){ .map = NULL };
  farpage_options_init (&options);
  options.log = log_line;
  must (farpage_link_open (uri, &options, &f->link), uri);
  must (farpage_swap_open (f->link, &f->swap), uri);
  must (farpage_alloc (f->swap, NULL, 0, NR * PAGE, &f->object), "alloc");
  map_again (f);
  for (uint64_t p = 0; p < NR; p++)
    f->memory[p * WORDS] = p + 1;
  map_again (f);
}

static void
far_close (struct far *f)
{
  must (farpage_unmap (f->map), "unmap");
  must (farpage_dealloc (f->object), "dealloc");
  must (farpage_swap_close (f->swap), "close");
  must (farpage_link_close (f->link), "close");
}

static struct farpage_map_stat
map_stat (const struct far *f)
{
  struct farpage_map_stat st;

  must (farpage_map_stat (f->map, &st, sizeof st), "stat");
  return st;
}

static uint64_t
bytes_read (const struct far *f)
{
  struct farpage_stat st;

  must (farpage_stat (f->link, &st, sizeof st), "stat");
  return st.bytes_read;
}

/* A page holds what was put there, or the program ends. */
static void
look (const struct far *f, uint64_t page)
{
  if (f->memory[page * WORDS] == page + 1)
    return;
  fprintf (stderr, "map-bench: page %" PRIu64 " is wrong\n", page);
  exit (1);
}

/* ---- touch ---- */

static struct nbd_handle *
nbd_open (const char *uri)
{
  struct nbd_handle *h = nbd_create ();

  if (h == NULL || nbd_connect_uri (h, uri) == -1) {
    fprintf (stderr, "map-bench: %s\n", nbd_get_error ());
    exit (1);
  }
  return h;
}

struct reader {
  struct nbd_handle *h;
  uint64_t random;
};

static void
read_anywhere (void *arg, void *page)
{
  struct reader *r = arg;

  if (nbd_pread (r->h, page, PAGE, random_below (&r->random, NR) * PAGE, 0) ==
      -1)
    must (nbd_get_errno (), "libnbd");
}

/* In turns, all at pages that are nowhere near those before. */
static void
run_touch (const char *uri)
{
  static double us[4][ROUNDS * TOUCHES];
  struct reader reader = { nbd_open (uri), 2 }, other = { nbd_open (uri), 3 };
  struct bare_fault *bare = bare_fault_open (ROUNDS * TOUCHES, NULL, NULL);
  struct bare_fault *far =
      bare_fault_open (ROUNDS * TOUCHES, read_anywhere, &other);
  uint64_t random = 1;
  char buf[PAGE];
  struct far f;

  far_open (&f, uri);
  must (farpage_advise (f.map, 0, NR * PAGE, FARPAGE_ADVICE_RANDOM), "advise");
  for (unsigned nr = 0; nr < ROUNDS * TOUCHES; nr++) {
    double begin = now_us ();

    look (&f, random_below (&random, NR));
    us[0][nr] = now_us () - begin;
    begin = now_us ();
    read_anywhere (&reader, buf);
    us[1][nr] = now_us () - begin;
    begin = now_us ();
    bare_fault_touch (bare, nr);
    us[2][nr] = now_us () - begin;
    begin = now_us ();
    bare_fault_touch (far, nr);
    us[3][nr] = now_us () - begin;
  }
  printf ("{\"touch_us\": %.1f, \"libnbd_us\": %.1f, \"bare_us\": %.1f, "
          "\"bare_far_us\": %.1f}\n",
          quantile (us[0], ROUNDS * TOUCHES, 0.5),
          quantile (us[1], ROUNDS * TOUCHES, 0.5),
          quantile (us[2], ROUNDS * TOUCHES, 0.5),
          quantile (us[3], ROUNDS * TOUCHES, 0.5));
  bare_fault_close (bare);
  bare_fault_close (far);
  nbd_close (reader.h);
  nbd_close (other.h);
  far_close (&f);
}

/* ---- patterns ---- */

static uint64_t
in_order (uint64_t i, uint64_t *random)
{
  (void) random;
  return i;
}

static uint64_t
backwards (uint64_t i, uint64_t *random)
{
  (void) random;
  return NR - 1 - i;
}

static uint64_t
stride_7 (uint64_t i, uint64_t *random)
{
  (void) random;
  return i * 7 % NR;
}

static uint64_t
two_readers (uint64_t i, uint64_t *random)
{
  (void) random;
  return (i % 2) * (NR / 2) + i / 2;
}

static uint64_t
anywhere (uint64_t i, uint64_t *random)
{
  (void) i;
  return random_below (random, NR);
}

static const struct pattern {
  const char *name;
  uint64_t (*page) (uint64_t i, uint64_t *random);
} patterns[] = { { "in_order", in_order },
                 { "backwards", backwards },
                 { "stride_7", stride_7 },
                 { "two_readers", two_readers },
                 { "random", anywhere } };

#define PATTERNS (sizeof patterns / sizeof patterns[0])
#define PAIRS    5 /* with what is read ahead, and without */

/* Pages a second for at least some seconds, and bytes that were read for each
 * page that was.
 */
static double
run_pattern (struct far *f, const struct pattern *p, bool ahead, uint64_t seed,
             double *extra)
{
  const uint64_t most = p->page == anywhere   ? UINT64_MAX
                        : p->page == stride_7 ? NR / 7
                                              : NR;
  struct farpage_map_stat before, after;
  uint64_t read, i = 0, random = seed;
  double begin, took;

  map_again (f);
  must (farpage_advise (f->map, 0, NR * PAGE,
                        ahead ? FARPAGE_ADVICE_NORMAL : FARPAGE_ADVICE_RANDOM),
        "advise");
  before = map_stat (f);
  read = bytes_read (f);
  begin = now_us ();
  while (i < most && (i % 16 != 0 || now_us () - begin < 1.5e6))
    look (f, p->page (i++, &random));
  took = now_us () - begin;
  after = map_stat (f);
  *extra = (double) (bytes_read (f) - read) /
               (double) ((after.demand_reads - before.demand_reads +
                          after.ahead_hits - before.ahead_hits +
                          after.ahead_late - before.ahead_late) *
                         PAGE) -
           1;
  return (double) i / took * 1e6;
}

static void
run_patterns (const char *uri)
{
  struct far f;

  far_open (&f, uri);
  printf ("{");
  for (unsigned i = 0; i < PATTERNS; i++) {
    double pages[2][PAIRS], extra[2][PAIRS], times[PAIRS];

    for (unsigned k = 0; k < PAIRS; k++) {
      for (unsigned ahead = 0; ahead < 2; ahead++)
        pages[ahead][k] =
            run_pattern (&f, &patterns[i], ahead, 17 + k, &extra[ahead][k]);
      times[k] = pages[1][k] / pages[0][k];
    }
    printf ("%s\"%s\": {\"pages_per_s\": %.0f, \"without\": %.0f, "
            "\"times\": %.3f, \"extra\": %.4f}",
            i > 0 ? ", " : "", patterns[i].name,
            quantile (pages[1], PAIRS, 0.5), quantile (pages[0], PAIRS, 0.5),
            quantile (times, PAIRS, 0.5), quantile (extra[1], PAIRS, 0.5));
  }
  printf ("}\n");
  far_close (&f);
}

/* ---- fill ---- */

struct toucher {
  pthread_t thread;
  struct far *far;
  uint64_t random;
  atomic_bool *stop;
  double *us;
  size_t nr, most;
};

/* The upper half is its own, so that it is not filled for it. */
static void *
touch_anywhere (void *arg)
{
  struct toucher *t = arg;

  while (!atomic_load (t->stop) && t->nr < t->most) {
    const uint64_t page = NR / 2 + random_below (&t->random, NR / 2);
    const double begin = now_us ();

    look (t->far, page);
    t->us[t->nr++] = now_us () - begin;
  }
  return NULL;
}

/* Pages a second of a reader in order. */
static double
fill (struct far *f, double seconds)
{
  const double begin = now_us ();
  uint64_t i = 0;

  while (i % 64 != 0 || now_us () - begin < seconds * 1e6)
    look (f, i++ % (NR / 2));
  return (double) i / (now_us () - begin) * 1e6;
}

#define FILL_S 2.5
#define TIMES  20000u /* of touches, of each thread */

static void
run_fill (const char *uri, double ms)
{
  static double us[TOUCHERS * TIMES];
  double alone[3], beside[3];
  struct far f;
  size_t nr = 0;

  far_open (&f, uri);
  for (unsigned round = 0; round < 3; round++) {
    struct toucher t[TOUCHERS];
    atomic_bool stop = false;

    map_again (&f);
    fill (&f, 1); /* until it has found its speed */
    alone[round] = fill (&f, FILL_S);
    for (unsigned i = 0; i < TOUCHERS; i++) {
      t[i] = (struct toucher){ .far = &f,
                               .random = 100 * round + i + 1,
                               .stop = &stop,
                               .us = &us[nr + i * (TIMES / 3)],
                               .most = TIMES / 3 };
      pthread_create (&t[i].thread, NULL, touch_anywhere, &t[i]);
    }
    beside[round] = fill (&f, FILL_S);
    atomic_store (&stop, true);
    for (unsigned i = 0; i < TOUCHERS; i++) {
      pthread_join (t[i].thread, NULL);
      memmove (&us[nr], t[i].us, t[i].nr * sizeof us[0]);
      nr += t[i].nr;
    }
  }
  printf ("{\"ms\": %g, \"alone\": %.0f, \"beside\": %.0f, \"touches\": %zu, "
          "\"median_us\": %.0f, \"p99_us\": %.0f}\n",
          ms, quantile (alone, 3, 0.5), quantile (beside, 3, 0.5), nr,
          quantile (us, nr, 0.5), quantile (us, nr, 0.99));
  far_close (&f);
}

/* ---- written ---- */

/* Pages [0, NR) in an order in which each comes once. */
static uint64_t
shuffled (uint64_t i)
{
  return i * 12347 % NR; /* which is odd, and NR a power of two */
}

/* Each page is looked at once, one of `each` is changed, twice at a time.
 * Returns how many pages were written to the server for one that was changed.
 */
static double
write_some (struct far *f, unsigned each, bool order)
{
  const uint64_t before = map_stat (f).put;
  uint64_t changed = 0;

  for (uint64_t i = 0; i < NR; i++) {
    const uint64_t page = order ? i : shuffled (i);

    look (f, page);
    if (i % each != 0)
      continue;
    f->memory[page * WORDS + 1] = i;
    f->memory[page * WORDS + WORDS - 1] = i;
    changed++;
  }
  must (farpage_sync (f->map, 0, NR * PAGE), "sync");
  return (double) (map_stat (f).put - before) / (double) changed;
}

static void
run_written (const char *uri)
{
  struct far f;

  far_open (&f, uri);
  printf ("{\"in_order_all\": %.4f, ", write_some (&f, 1, true));
  printf ("\"in_order_eighth\": %.4f, ", write_some (&f, 8, true));
  printf ("\"random_half\": %.4f, ", write_some (&f, 2, false));
  printf ("\"random_eighth\": %.4f}\n", write_some (&f, 8, false));
  far_close (&f);
}

int
main (int argc, char **argv)
{
  const char *figure = argc > 2 ? argv[1] : "";

  if (strcmp (figure, "touch") == 0 && argc == 3)
    run_touch (argv[2]);
  else if (strcmp (figure, "patterns") == 0 && argc == 3)
    run_patterns (argv[2]);
  else if (strcmp (figure, "fill") == 0 && argc == 4)
    run_fill (argv[2], atof (argv[3]));
  else if (strcmp (figure, "written") == 0 && argc == 3)
    run_written (argv[2]);
  else {
    fprintf (stderr, "Usage: %s touch|patterns|fill|written URI [MS]\n",
             argv[0]);
    return 2;
  }
  return 0;
}
