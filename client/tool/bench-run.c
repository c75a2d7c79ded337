/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages through the pager, for `farpage bench`; see bench-run.h.
 *
 *   main thread: free slot --> fill --> aio call --.
 *        ^                                         v
 *        '---------- slot free <--- last page <-- loop's thread: done ()
 *
 * A slot is memory for some pages and at most one use of it at a time, so that
 * what is under way is bounded by them and by the library's windows: there are
 * enough that it is the windows.  Each page begins with its number, and what
 * comes back is looked at.
 */

#include <config.h>

#include "bench-run.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench-common.h"
#include "env.h"
#include "progress.h"
#include "tool.h"

#define SLOTS       256u
#define SLOT_PAGES  32u /* at least; a cluster if that is larger */
#define APART       16u /* of BENCH_PUT_RANDOM: one page of so many */
#define TRIPS       200u
#define STILL_PAGES (BENCH_SPAN_MIN / FARPAGE_PAGE) /* that are read beside */
#define READERS     32u /* single pages that are waited for at a time */

struct slot {
  struct bench *b;
  uint8_t *memory;
  uint64_t first; /* page in memory[0], if they follow each other */
  unsigned left;  /* [lock] pages that have no result; 0: it is free */
};

struct bench {
  struct bench_config config;
  struct farpage_link *link;
  struct farpage_swap *swap;
  struct farpage_object *object;
  struct farpage_object *still; /* put once, for single reads */
  uint8_t *still_memory;
  atomic_bool stop;
  uint64_t nr_pages;
  unsigned cluster_pages, slot_pages;
  uint8_t *memory;
  uint64_t random;
  bool gets; /* what is measured now */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct slot slots[SLOTS];
  unsigned nr_busy;            /* [lock] */
  uint64_t nr_done, nr_failed; /* [lock] pages */
  uint64_t nr_wrong;           /* [lock] */
  enum farpage_result why;     /* [lock] of one that failed */
};

typedef int (*call_fn) (struct bench *b, struct slot *slot, unsigned nr);

/* How a figure is taken: pages of a call, the distance from one to the next (0:
 * anywhere), calls under way.
 */
struct plan {
  call_fn call;
  unsigned nr, step, max_busy;
  bool gets;
};

/* ---- slots ---- */

/* Lock: needs b->lock. */
static void
less (struct slot *slot, unsigned nr_pages)
{
  struct bench *b = slot->b;

  slot->left -= nr_pages;
  if (slot->left > 0)
    return;
  b->nr_busy--;
  pthread_cond_signal (&b->changed);
}

/* [loop] */
static void
done (void *arg, uint64_t page, enum farpage_result result)
{
  struct slot *slot = arg;
  struct bench *b = slot->b;
  uint64_t number;

  pthread_mutex_lock (&b->lock);
  if (result == FARPAGE_OK) {
    b->nr_done++;
    if (b->gets) {
      memcpy (&number, slot->memory + (page - slot->first) * FARPAGE_PAGE,
              sizeof number);
      b->nr_wrong += number != page;
    }
  } else if (result != FARPAGE_AGAIN || !b->gets) {
    b->nr_failed++;
    b->why = result;
  }
  less (slot, 1);
  pthread_mutex_unlock (&b->lock);
}

/* Of puts each slot in its turn, so that none comes round to a page whose last
 * put is still under way; of gets any.  NULL: none now.  Lock: needs b->lock.
 */
static struct slot *
find_slot (struct bench *b, const struct plan *p, uint64_t n)
{
  struct slot *slot = &b->slots[n % p->max_busy];

  if (!p->gets)
    return slot->left == 0 ? slot : NULL;
  for (unsigned i = 0; i < p->max_busy; i++)
    if (b->slots[i].left == 0)
      return &b->slots[i];
  return NULL;
}

/* For the n-th call. */
static struct slot *
take_slot (struct bench *b, const struct plan *p, uint64_t n)
{
  struct slot *slot;

  pthread_mutex_lock (&b->lock);
  while ((slot = find_slot (b, p, n)) == NULL)
    pthread_cond_wait (&b->changed, &b->lock);
  b->nr_busy++;
  slot->left = p->nr;
  pthread_mutex_unlock (&b->lock);
  return slot;
}

static void
wait_for_all (struct bench *b)
{
  pthread_mutex_lock (&b->lock);
  while (b->nr_busy > 0)
    pthread_cond_wait (&b->changed, &b->lock);
  pthread_mutex_unlock (&b->lock);
}

/* They were not taken: they have no result to come. */
static void
give_up (struct slot *slot, unsigned nr_pages)
{
  pthread_mutex_lock (&slot->b->lock);
  less (slot, nr_pages);
  pthread_mutex_unlock (&slot->b->lock);
}

/* ---- calls ---- */

static void
point_at (const struct slot *slot, unsigned nr, void **addr)
{
  for (unsigned i = 0; i < nr; i++)
    addr[i] = slot->memory + (size_t) i * FARPAGE_PAGE;
}

static void
number_pages (struct slot *slot, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++) {
    uint64_t number = slot->first + i;

    memcpy (slot->memory + (size_t) i * FARPAGE_PAGE, &number, sizeof number);
  }
}

static int
put_row (struct bench *b, struct slot *slot, unsigned nr)
{
  void *addr[FARPAGE_CLUSTER_MAX];

  point_at (slot, nr, addr);
  number_pages (slot, nr);
  return farpage_aio_putpages (b->object, slot->first, nr, addr, 0, done, slot);
}

/* One page of APART from slot->first on, one of the next, and so on: a call
 * each.
 */
static int
put_apart (struct bench *b, struct slot *slot, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++) {
    uint64_t page =
        slot->first + (uint64_t) i * APART + bench_random (&b->random) % APART;
    void *addr[1] = { slot->memory + (size_t) i * FARPAGE_PAGE };
    int err;

    memcpy (addr[0], &page, sizeof page);
    err = farpage_aio_putpages (b->object, page, 1, addr, 0, done, slot);
    if (err != 0 && i > 0)
      give_up (slot, nr - i);
    if (err != 0)
      return i > 0 ? 0 : err;
  }
  return 0;
}

static int
get_row (struct bench *b, struct slot *slot, unsigned nr)
{
  void *addr[FARPAGE_CLUSTER_MAX];

  point_at (slot, nr, addr);
  return farpage_aio_getpages (b->object, slot->first, nr, 0, addr,
                               FARPAGE_AHEAD, done, slot);
}

static int
get_one (struct bench *b, struct slot *slot, unsigned nr)
{
  void *addr[1] = { slot->memory };

  return farpage_aio_getpages (b->object, slot->first, nr, 0, addr, 0, done,
                               slot);
}

static struct plan
plan_of (const struct bench *b, enum bench_figure figure)
{
  /* No page is put again while it is under way. */
  uint64_t half = b->nr_pages / 2 / b->slot_pages;
  uint64_t apart = b->nr_pages / APART / 2;
  unsigned most = half < SLOTS ? (unsigned) half : SLOTS;
  unsigned nr = b->slot_pages;

  switch (figure) {
  case BENCH_PUT:
    return (struct plan){ put_row, b->slot_pages, b->slot_pages, most, false };
  case BENCH_GET:
    return (struct plan){ get_row, b->cluster_pages, b->cluster_pages, SLOTS,
                          true };
  case BENCH_PUT_RANDOM:
    if (nr > apart)
      nr = (unsigned) apart;
    apart /= nr;
    return (struct plan){ put_apart, nr, nr * APART,
                          apart < SLOTS ? (unsigned) apart : SLOTS, false };
  default:
    return (struct plan){ get_one, 1, 0, READERS, true };
  }
}

/* The first page of the n-th call. */
static uint64_t
place (struct bench *b, const struct plan *p, uint64_t n)
{
  if (p->step == 0)
    return bench_random (&b->random) % b->nr_pages;
  return n % (b->nr_pages / p->step) * p->step;
}

static const char *
why_not (enum farpage_result result)
{
  switch (result) {
  case FARPAGE_FAIL:
    return "there is no space";
  case FARPAGE_AGAIN:
    return "too much is under way";
  default:
    return "an error of the server or the connection (the server's log may say "
           "more)";
  }
}

static int
judge (struct bench *b)
{
  int err = 0;

  pthread_mutex_lock (&b->lock);
  if (b->nr_wrong > 0) {
    complain (b->config.uri, "%" PRIu64 " pages came back as others",
              b->nr_wrong);
    err = EIO;
  } else if (b->nr_failed > 0) {
    complain (b->config.uri, "%" PRIu64 " pages were not served: %s",
              b->nr_failed, why_not (b->why));
    err = EIO;
  }
  pthread_mutex_unlock (&b->lock);
  return err;
}

/* nr_calls, or as many as come in the time if it is 0. */
static int
run (struct bench *b, const struct plan *p, uint64_t nr_calls,
     struct bench_result *result)
{
  uint64_t begin = env_now_ns (), n = 0, nr_again = 0;
  uint64_t end = begin + (uint64_t) (b->config.seconds * (double) NS_PER_S);
  struct farpage_stat was, is;
  uint64_t bytes;

  (void) farpage_stat (b->link, &was, sizeof was);
  b->gets = p->gets;
  b->nr_done = b->nr_failed = b->nr_wrong = 0;
  while (!atomic_load (&b->stop) &&
         (nr_calls > 0 ? n < nr_calls : env_now_ns () < end)) {
    struct slot *slot = take_slot (b, p, n);
    int err;

    slot->first = place (b, p, n);
    err = p->call (b, slot, p->nr);
    if (err != 0)
      give_up (slot, p->nr);
    if (err == EAGAIN && nr_again++ < 1000000)
      continue; /* the library has enough: what is under way goes on */
    if (err != 0) {
      wait_for_all (b);
      complain (b->config.uri, "%s (is its server still there?)",
                strerror (err));
      return err;
    }
    n++;
    if (nr_calls > 0 && nr_calls < UINT64_MAX)
      progress_part (n, nr_calls, NULL);
  }
  wait_for_all (b);
  (void) farpage_stat (b->link, &is, sizeof is);
  result->bytes_per_s = (double) b->nr_done * FARPAGE_PAGE * NS_PER_S /
                        (double) (env_now_ns () - begin);
  n = p->gets ? is.requests_read - was.requests_read
              : is.requests_written - was.requests_written;
  result->pages_per_request = n > 0 ? (double) b->nr_done / (double) n : 0;
  bytes = p->gets ? is.bytes_read - was.bytes_read
                  : is.bytes_written - was.bytes_written;
  n = b->nr_done * FARPAGE_PAGE;
  result->moved_per_byte = n > 0 ? (double) bytes / (double) n : 0;
  return judge (b);
}

/* ---- public ---- */

static int
open_pager (struct bench *b)
{
  struct farpage_options opts;
  struct farpage_stat st;
  uint64_t most;
  int err;

  bench_options_init (&opts);
  opts.connections = b->config.connections;
  opts.cluster_pages = b->cluster_pages;
  opts.takeover = b->config.takeover;
  err = farpage_link_open (b->config.uri, &opts, &b->link);
  if (err == 0)
    err = farpage_swap_open (b->link, &b->swap);
  if (err == 0)
    err = farpage_stat (b->link, &st, sizeof st);
  if (err != 0)
    return err;
  /* A page that is put again takes new space before the old is free. */
  most = st.blocks / 4;
  b->nr_pages = b->config.span_bytes / FARPAGE_PAGE;
  if (b->nr_pages > most)
    b->nr_pages = most;
  b->nr_pages -= b->nr_pages % b->slot_pages;
  if (b->nr_pages < STILL_PAGES)
    return ENOSPC;
  err =
      farpage_alloc (b->swap, NULL, 0, b->nr_pages * FARPAGE_PAGE, &b->object);
  if (err == 0)
    err =
        farpage_alloc (b->swap, NULL, 0, STILL_PAGES * FARPAGE_PAGE, &b->still);
  return err;
}

static int
put_still (struct bench *b)
{
  enum farpage_result results[STILL_PAGES];
  void *addr[STILL_PAGES];
  int err;

  for (unsigned i = 0; i < STILL_PAGES; i++)
    addr[i] = b->still_memory;
  err = farpage_putpages (b->still, 0, STILL_PAGES, addr, results);
  for (unsigned i = 0; i < STILL_PAGES && err == 0; i++)
    err = results[i] == FARPAGE_OK ? 0 : EIO;
  return err;
}

int
bench_open (const struct bench_config *config, unsigned cluster_pages,
            struct bench **bp)
{
  struct bench *b = calloc (1, sizeof *b);
  int err = b != NULL ? 0 : ENOMEM;

  if (err == 0) {
    b->config = *config;
    b->cluster_pages = cluster_pages;
    b->slot_pages = cluster_pages > SLOT_PAGES ? cluster_pages : SLOT_PAGES;
    b->random = BENCH_SEED;
    pthread_mutex_init (&b->lock, NULL);
    pthread_cond_init (&b->changed, NULL);
    b->memory = aligned_alloc (FARPAGE_PAGE,
                               (size_t) SLOTS * b->slot_pages * FARPAGE_PAGE);
    b->still_memory = calloc (1, FARPAGE_PAGE);
    err =
        b->memory != NULL && b->still_memory != NULL ? open_pager (b) : ENOMEM;
    if (err == 0)
      err = put_still (b);
  }
  if (err != 0) {
    bench_complain_open (config->uri, err);
    bench_close (b);
    return err;
  }
  bench_opened ();
  memset (b->memory, 0, (size_t) SLOTS * b->slot_pages * FARPAGE_PAGE);
  for (unsigned i = 0; i < SLOTS; i++) {
    b->slots[i] = (struct slot){
      .b = b,
      .memory = b->memory + (size_t) i * b->slot_pages * FARPAGE_PAGE,
    };
  }
  *bp = b;
  return 0;
}

void
bench_close (struct bench *b)
{
  if (b == NULL)
    return;
  if (b->still != NULL)
    farpage_dealloc (b->still);
  if (b->object != NULL)
    farpage_dealloc (b->object);
  if (b->swap != NULL)
    farpage_swap_close (b->swap);
  if (b->link != NULL)
    farpage_link_close (b->link);
  pthread_cond_destroy (&b->changed);
  pthread_mutex_destroy (&b->lock);
  free (b->still_memory);
  free (b->memory);
  free (b);
}

void
bench_set_async (struct bench *b, unsigned clusters)
{
  farpage_set_async_min (b->link, clusters > 0 ? clusters : 4);
  farpage_set_async_max (b->link, clusters > 0 ? clusters : 256);
}

int
bench_fill (struct bench *b)
{
  struct plan p = plan_of (b, BENCH_PUT);
  struct bench_result unused;

  return run (b, &p, b->nr_pages / p.nr, &unused);
}

int
bench_measure (struct bench *b, enum bench_figure figure,
               struct bench_result *result)
{
  struct plan p = plan_of (b, figure);

  return run (b, &p, 0, result);
}

struct writer {
  pthread_t thread;
  struct bench *b;
  int error;
};

/* Puts, until somebody says stop. */
static void *
write_on (void *arg)
{
  struct writer *w = arg;
  struct plan p = plan_of (w->b, BENCH_PUT);
  struct bench_result unused;

  w->error = run (w->b, &p, UINT64_MAX, &unused);
  return NULL;
}

static int
time_trips (struct bench *b, double us[TRIPS])
{
  for (unsigned i = 0; i < TRIPS; i++) {
    uint64_t page = bench_random (&b->random) % STILL_PAGES;
    uint64_t begin = env_now_ns ();
    void *addr[1] = { b->still_memory };
    enum farpage_result result = FARPAGE_ERROR;
    int err = farpage_getpages (b->still, page, 1, 0, addr, &result);

    us[i] = (double) (env_now_ns () - begin) / 1000;
    if (err != 0 || result != FARPAGE_OK) {
      complain (b->config.uri, "page %" PRIu64 " was not served", page);
      return err != 0 ? err : EIO;
    }
    progress_part (i + 1, TRIPS, NULL);
  }
  return 0;
}

/* For as long as a figure takes, so that the window has found its size. */
static int
start_writer (struct writer *w)
{
  struct timespec ts = { .tv_sec = (time_t) w->b->config.seconds };

  ts.tv_nsec = (long) ((w->b->config.seconds - (double) ts.tv_sec) * 1e9);
  atomic_store (&w->b->stop, false);
  if (pthread_create (&w->thread, NULL, write_on, w) != 0)
    return EAGAIN;
  nanosleep (&ts, NULL);
  return 0;
}

int
bench_trips (struct bench *b, bool beside, struct bench_trip *trip)
{
  struct writer w = { .b = b };
  double us[TRIPS];
  int err = beside ? start_writer (&w) : 0;

  if (err != 0)
    return err;
  err = time_trips (b, us);
  if (beside) {
    atomic_store (&b->stop, true);
    pthread_join (w.thread, NULL);
    atomic_store (&b->stop, false);
  }
  qsort (us, TRIPS, sizeof us[0], bench_by_number);
  trip->least_us = us[0];
  trip->median_us = us[TRIPS / 2];
  trip->p99_us = us[TRIPS * 99 / 100];
  return err != 0 ? err : w.error;
}
