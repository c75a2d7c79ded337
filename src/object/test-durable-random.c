/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests to a durable object, against a plain copy of what it should
 * hold.  Now and then its process dies; without staging all that was replied
 * must be there afterwards.  Then the same with many threads at a time.
 */

#include <config.h>

#include "test-durable.h"

#define PAGES(n)   ((uint64_t) (n) *PAGE_BYTES)
#define BLOCKS     3072u
#define NR_PAGES   1600u
#define NR_STEPS   (4000 / SLOWER)
#define NR_THREADS 4u
#define NR_TURNS   (1500 / SLOWER)

static uint64_t random_state;

static uint64_t
below (uint64_t n)
{
  return test_random (&random_state) % n;
}

/* Mostly few pages, mostly in one place; parts of pages as well as whole. */
static void
some_range (uint64_t size, uint64_t *off, uint64_t *bytes)
{
  static const unsigned longest[] = { 1, 3, 20, 300 };
  uint64_t max = PAGES (longest[below (4)]);

  *off = below (2) ? below (size) : below (min_u64 (size, PAGES (40)));
  *bytes = 1 + below (max);
  if (below (2)) {
    *off &= ~(uint64_t) PAGE_MASK;
    *bytes = (*bytes + PAGE_MASK) & ~(uint64_t) PAGE_MASK;
  }
  *bytes = min_u64 (*bytes, size - *off);
}

static void
compare (struct rig *r, const uint8_t *model, uint64_t off, uint64_t bytes)
{
  static uint8_t buf[PAGES (NR_PAGES)];

  assert_int_equal (disk_read (&r->d, buf, off, bytes), 0);
  for (uint64_t i = 0; i < bytes; i++)
    if (buf[i] != model[off + i])
      fail_msg ("byte %" PRIu64 " of page %" PRIu64 " is %#x, not %#x",
                (off + i) % PAGE_BYTES, (off + i) / PAGE_BYTES, buf[i],
                model[off + i]);
}

static void
write_some (struct rig *r, uint8_t *model, uint64_t off, uint64_t bytes)
{
  int byte = 1 + (int) below (255);

  memset (model + off, byte, bytes);
  /* Holes in the middle of it. */
  if (bytes > PAGES (3) && below (3) == 0)
    memset (model + off + PAGES (1), 0, PAGES (1 + below (bytes / PAGES (3))));
  assert_int_equal (strategy_write (r->d.o, &r->d.fenced, model + off, off,
                                    bytes, below (10) == 0),
                    0);
}

static void
one_step (struct rig *r, uint8_t *model)
{
  uint64_t off, bytes;

  some_range (r->d.size, &off, &bytes);
  switch (below (16)) {
  default:
    write_some (r, model, off, bytes);
    break;
  case 10:
  case 11:
  case 12:
    memset (model + off, 0, bytes);
    assert_int_equal (strategy_zero (r->d.o, &r->d.fenced, off, bytes,
                                     below (2), below (10) == 0),
                      0);
    break;
  case 13:
    assert_int_equal (strategy_flush (r->d.o, &r->d.fenced), 0);
    break;
  case 14:
    compare (r, model, off, bytes);
    break;
  case 15:
    if (below (8) == 0)
      rig_check (r);
    if (below (20) == 0)
      rig_reopen (r);
    break;
  }
}

static void
test_steps (void **state)
{
  uint8_t *model = calloc (1, PAGES (NR_PAGES));
  struct rig r;

  UNUSED (state);
  memset (&r, 0, sizeof r);
  random_state = test_seed ();
  rig_format (&r, BLOCKS, PAGES (NR_PAGES) - 1234);
  for (unsigned i = 0; i < NR_STEPS; i++)
    one_step (&r, model);
  rig_reopen (&r);
  compare (&r, model, 0, r.d.size);
  rig_close (&r);
  free (model);
}

/* ---- threads ---- */

/* Pages of a worker: those that leave its number, so that all meet in every
 * leaf; each page says what was written to it last.
 */
struct worker {
  struct rig *r;
  pthread_t thread;
  uint64_t seed;
  unsigned nr;
  uint8_t byte[NR_PAGES / NR_THREADS];
};

static void
worker_turn (struct worker *w, unsigned i)
{
  struct object *o = w->r->d.o;
  atomic_bool *fenced = &w->r->d.fenced;
  uint64_t off = PAGES (i * NR_THREADS + w->nr);
  uint8_t buf[PAGE_BYTES];
  uint8_t byte = (uint8_t) test_random (&w->seed);

  switch (test_random (&w->seed) % 8) {
  default:
    memset (buf, byte, sizeof buf);
    assert_int_equal (strategy_write (o, fenced, buf, off, sizeof buf, false),
                      0);
    w->byte[i] = byte;
    break;
  case 4: /* in two parts */
    memset (buf, byte, sizeof buf);
    assert_int_equal (strategy_write (o, fenced, buf, off, 1000, false), 0);
    assert_int_equal (strategy_write (o, fenced, buf, off + 1000, 3096, true),
                      0);
    w->byte[i] = byte;
    break;
  case 5:
    assert_int_equal (
        strategy_zero (o, fenced, off, PAGE_BYTES, byte & 1, false), 0);
    w->byte[i] = 0;
    break;
  case 6:
    assert_int_equal (strategy_flush (o, fenced), 0);
    break;
  case 7:
    assert_int_equal (strategy_read (o, fenced, buf, off, sizeof buf), 0);
    for (unsigned k = 0; k < sizeof buf; k++)
      assert_int_equal (buf[k], w->byte[i]);
    break;
  }
}

static void *
worker_main (void *arg)
{
  struct worker *w = arg;

  for (unsigned i = 0; i < NR_TURNS; i++)
    worker_turn (w, test_random (&w->seed) % (NR_PAGES / NR_THREADS));
  return NULL;
}

static void
expect_worker (struct rig *r, const struct worker *w)
{
  for (unsigned i = 0; i < NR_PAGES / NR_THREADS; i++)
    disk_expect (&r->d, w->byte[i], PAGES (i * NR_THREADS + w->nr), PAGE_BYTES);
}

static void
test_threads (void **state)
{
  struct worker *w = calloc (NR_THREADS, sizeof *w);
  uint64_t seed = test_seed ();
  struct rig r;

  UNUSED (state);
  memset (&r, 0, sizeof r);
  rig_format (&r, BLOCKS, PAGES (NR_PAGES));
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < NR_THREADS; i++) {
      w[i].r = &r;
      w[i].nr = i;
      w[i].seed = seed + i + 100 * round;
      pthread_create (&w[i].thread, NULL, worker_main, &w[i]);
    }
    for (unsigned i = 0; i < 10; i++) {
      nap_ns (20 * NS_PER_MS);
      assert_int_equal (flush_run_cycle (r.fl), 0);
    }
    for (unsigned i = 0; i < NR_THREADS; i++)
      pthread_join (w[i].thread, NULL);
    rig_check (&r);
    rig_reopen (&r);
    for (unsigned i = 0; i < NR_THREADS; i++)
      expect_worker (&r, &w[i]);
  }
  rig_close (&r);
  free (w);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_steps),
    cmocka_unit_test (test_threads),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
