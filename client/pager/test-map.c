/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory from afar beside an array: threads that read and write what they own,
 * by single pages and in rows, sync, pins and advice among them, with budgets
 * that are a part of the object; on all kinds of kernels that can be played
 * here (FARPAGE_UFFD_WITHOUT).
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-map-rig.h"
#include "test-util.h"

#define NR      2048u /* pages of the object: 8 MiB */
#define THREADS 4u
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define OPS 100u /* of each thread */
#else
#define OPS 500u
#endif

struct owner {
  pthread_t thread;
  struct farpage_map *map;
  uint64_t *memory;
  uint64_t *model; /* a word for each page: what its words are made of */
  unsigned id;
  uint64_t random, ops;
  unsigned wrong;
};

/* ---- the model ---- */

static uint64_t
word_of (uint64_t page, uint64_t seed, uint64_t i)
{
  return seed == 0 ? 0 : (page << 40) + seed + i;
}

static void
write_page (struct owner *o, uint64_t page, uint64_t seed)
{
  volatile uint64_t *at = o->memory + page * WORDS;

  for (unsigned i = 0; i < WORDS; i++)
    at[i] = word_of (page, seed, i);
  o->model[page] = seed;
}

static void
read_page (struct owner *o, uint64_t page)
{
  const volatile uint64_t *at = o->memory + page * WORDS;

  for (unsigned i = 0; i < WORDS; i++)
    if (at[i] != word_of (page, o->model[page], i)) {
      if (o->wrong++ == 0)
        print_message ("page %lu, word %u is %lx, not %lx\n", page, i, at[i],
                       word_of (page, o->model[page], i));
      return;
    }
}

/* A page of this owner. */
static uint64_t
any_page (struct owner *o)
{
  return test_random_below (&o->random, NR / THREADS) * THREADS + o->id;
}

static void
one_op (struct owner *o)
{
  const unsigned what = (unsigned) test_random_below (&o->random, 1000);
  uint64_t page = any_page (o), n = test_random_below (&o->random, 40);
  int err;

  if (what < 400) {
    read_page (o, page);
  } else if (what < 700) {
    write_page (o, page, test_random_below (&o->random, 1 << 30) + 1);
  } else if (what < 710) { /* as a kernel does that looks for memory */
    n = min_u64 (n, NR - page);
    map_page_out (o->map, page, n);
  } else if (what < 980) { /* a row */
    for (uint64_t i = 0; i < n && page < NR; i++, page += THREADS)
      if (what < 850)
        read_page (o, page);
      else
        write_page (o, page, test_random_below (&o->random, 1 << 30) + 1);
  } else if (what < 985) {
    n = min_u64 (n, NR - page);
    err = farpage_sync (o->map, page * PAGE, n * PAGE);
    o->wrong += err != 0;
  } else if (what < 990) {
    err = farpage_pin (o->map, page * PAGE, PAGE);
    if (err == 0) {
      read_page (o, page);
      write_page (o, page, 7);
      o->wrong += farpage_unpin (o->map, page * PAGE, PAGE) != 0;
    } else if (err != ENOMEM) {
      o->wrong++;
    }
  } else {
    n = min_u64 (n, NR - page);
    err = farpage_advise (o->map, page * PAGE, n * PAGE,
                          what < 995 ? FARPAGE_ADVICE_WILLNEED
                                     : FARPAGE_ADVICE_DONTNEED);
    o->wrong += err != 0;
  }
}

static void *
own (void *arg)
{
  struct owner *o = arg;

  for (uint64_t i = 0; i < o->ops && o->wrong == 0; i++)
    one_op (o);
  return NULL;
}

static void
run_model (struct rig *r, unsigned part, uint64_t *random)
{
  struct farpage_object *object = rig_make (r, NULL, NR);
  uint64_t *model = calloc (NR, sizeof model[0]);
  struct owner owner[THREADS];
  struct farpage_map *m = map_open (object, NR / part);

  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < THREADS; i++) {
      owner[i] =
          (struct owner){ .map = m,
                          .memory = farpage_map_address (m),
                          .model = model,
                          .id = i,
                          .random = test_random_below (random, 1u << 30) + 1,
                          .ops = test_environment ("FARPAGE_RANDOM_OPS", OPS) };
      pthread_create (&owner[i].thread, NULL, own, &owner[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
      pthread_join (owner[i].thread, NULL);
      assert_int_equal (owner[i].wrong, 0);
    }
    map_recount (m);
    map_print ("model", m);
    assert_true (map_stat (m).resident_bytes <= map_stat (m).budget_bytes);
    assert_int_equal (farpage_unmap (m), 0);
    m = map_open (object, NR / part);
    owner[0].memory = farpage_map_address (m);
    for (uint64_t p = 0; p < NR; p++)
      read_page (&owner[0], p);
    assert_int_equal (owner[0].wrong, 0);
  }
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (object), 0);
  free (model);
}

/* state: what this kernel shall not be able to do. */
static void
test_model (void **state)
{
  struct rig r = { .link = NULL };
  uint64_t random = test_seed ();

  setenv ("FARPAGE_UFFD_WITHOUT", *state, 1);
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  run_model (&r, 2, &random);
  run_model (&r, 4, &random);
  run_model (&r, 16, &random);
  rig_end (&r);
  unsetenv ("FARPAGE_UFFD_WITHOUT");
}

#define MODEL(name, without)                                   \
  {                                                            \
    name, test_model, NULL, NULL, (void *) (uintptr_t) without \
  }

int
main (void)
{
  const struct CMUnitTest tests[] = {
    MODEL ("as it is", ""),
    MODEL ("writes are told", "wp-async"),
    MODEL ("mapped by a copy", "continue-wp"),
    MODEL ("Linux 6.1", "wp-async continue-wp poison"),
  };

  return MAP_RUN (tests);
}
