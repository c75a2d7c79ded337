/* SPDX-License-Identifier: BSD-2-Clause */
/* table: a hash table that is larger than the memory it has; an example of
 * farpage_map ().
 *
 *   table WHERE BUDGET KEYS [THREADS]
 *
 * WHERE is an NBD URI, all of whose export is used, or the path of a file that
 * is mapped; BUDGET the memory to be used, in MiB.  KEYS numbers are put into
 * it, each with a value of 264 bytes, and all are looked up again, by THREADS
 * threads (4) that have a part each.  What it cost is told on standard error;
 * exit status 1 if one was not found.
 *
 * Open addressing in pages: a key's page is its hash, within it the next free
 * slot is taken, and where the page is full that of the next page.  So a key
 * costs one page, which is what a touch of far memory costs; and there is no
 * order in them, so nothing is read ahead.  While one thread waits the others
 * go on.
 */

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "example-memory.h"

#define PAGE_SLOTS  15u
#define VALUE_WORDS 33u
#define LOCKS       1024u

struct slot {
  uint64_t key; /* 0: free */
  uint64_t value[VALUE_WORDS];
};

struct page {
  uint64_t nr;
  uint64_t unused;
  struct slot slot[PAGE_SLOTS];
};

struct worker {
  pthread_t thread;
  uint64_t from, to, missing;
};

static struct page *table;
static uint64_t nr_pages;
static pthread_mutex_t lock[LOCKS]; /* of the pages with this remainder */

/* splitmix64 */
static uint64_t
mix (uint64_t x)
{
  x += UINT64_C (0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

/* False: it has no room. */
static bool
put_in (uint64_t at, uint64_t key, const uint64_t value[VALUE_WORDS])
{
  struct page *p = &table[at];
  bool done = false;

  pthread_mutex_lock (&lock[at % LOCKS]);
  if (p->nr < PAGE_SLOTS) {
    p->slot[p->nr].key = key;
    memcpy (p->slot[p->nr++].value, value, sizeof p->slot[0].value);
    done = true;
  }
  pthread_mutex_unlock (&lock[at % LOCKS]);
  return done;
}

static void
put (uint64_t key, const uint64_t value[VALUE_WORDS])
{
  uint64_t at = mix (key) % nr_pages;

  while (!put_in (at, key, value))
    at = (at + 1) % nr_pages;
}

/* NULL: it is not there. */
static const uint64_t *
get (uint64_t key)
{
  for (uint64_t at = mix (key) % nr_pages;; at = (at + 1) % nr_pages) {
    const struct page *p = &table[at];

    for (unsigned i = 0; i < p->nr; i++)
      if (p->slot[i].key == key)
        return p->slot[i].value;
    if (p->nr < PAGE_SLOTS)
      return NULL;
  }
}

static void
make_value (uint64_t key, uint64_t value[VALUE_WORDS])
{
  for (unsigned i = 0; i < VALUE_WORDS; i++)
    value[i] = mix (key + i);
}

static void *
fill (void *arg)
{
  struct worker *w = arg;
  uint64_t value[VALUE_WORDS];

  for (uint64_t key = w->from; key < w->to; key++) {
    make_value (key, value);
    put (key, value);
  }
  return NULL;
}

static void *
look_up (void *arg)
{
  struct worker *w = arg;
  uint64_t value[VALUE_WORDS];

  for (uint64_t key = w->from; key < w->to; key++) {
    const uint64_t *found = get (key);

    make_value (key, value);
    w->missing += found == NULL || memcmp (found, value, sizeof value) != 0;
  }
  return NULL;
}

static uint64_t
run (struct worker *w, unsigned nr, void *(*fn) (void *arg))
{
  uint64_t missing = 0;

  for (unsigned i = 0; i < nr; i++)
    pthread_create (&w[i].thread, NULL, fn, &w[i]);
  for (unsigned i = 0; i < nr; i++) {
    pthread_join (w[i].thread, NULL);
    missing += w[i].missing;
  }
  return missing;
}

int
main (int argc, char **argv)
{
  struct worker w[64] = { { .from = 0 } };
  uint64_t budget, keys, missing;
  struct memory *m;
  unsigned nr = argc > 4 ? (unsigned) atoi (argv[4]) : 4;

  if (argc < 4 || argc > 5 || nr == 0 || nr > 64 ||
      (budget = strtoull (argv[2], NULL, 10) << 20) == 0 ||
      (keys = strtoull (argv[3], NULL, 10)) == 0) {
    fprintf (stderr, "Usage: %s NBD-URI|PATH MIB KEYS [THREADS]\n", argv[0]);
    return 2;
  }
  nr_pages = keys / (PAGE_SLOTS * 3 / 4) + 2;
  m = memory_open (argv[1], nr_pages * sizeof table[0], budget);
  table = memory_address (m);
  for (unsigned i = 0; i < LOCKS; i++)
    pthread_mutex_init (&lock[i], NULL);
  for (unsigned i = 0; i < nr; i++)
    w[i] = (struct worker){ .from = 1 + keys * i / nr,
                            .to = 1 + keys * (i + 1) / nr };
  run (w, nr, fill);
  memory_print (m, "filled");
  missing = run (w, nr, look_up);
  memory_print (m, "looked up");
  memory_close (m);
  if (missing > 0)
    fprintf (stderr, "table: %" PRIu64 " of %" PRIu64 " keys are missing\n",
             missing, keys);
  return missing > 0;
}
