/* SPDX-License-Identifier: BSD-2-Clause */
/* The overlay volume, over a fault volume that counts what reaches the inner
 * one and makes reads of it fail.
 */

#include <config.h>

#include "test-common.h"

#include <errno.h>
#include <pthread.h>

#include "fault.h"

#define NR_PAGES   512u
#define SIZE_BYTES (NR_PAGES * PAGE_BYTES)
#define RUN_MAX    24u
#define NR_THREADS 4u

/* ---- memory, wrapped ---- */

static atomic_bool wrap_none;       /* there is no memory */
static atomic_size_t wrap_table_at; /* none for tables of this size or more */

extern void *__real_malloc (size_t);
extern void *__real_calloc (size_t, size_t);
extern void *__wrap_malloc (size_t);
extern void *__wrap_calloc (size_t, size_t);

void *
__wrap_malloc (size_t bytes)
{
  return wrap_none ? NULL : __real_malloc (bytes);
}

void *
__wrap_calloc (size_t nr, size_t bytes)
{
  bool none = wrap_none || (wrap_table_at > 0 && nr * bytes >= wrap_table_at);

  return none ? NULL : __real_calloc (nr, bytes);
}

struct rig {
  struct volume *memory, *fault, *v;
  uint8_t *model; /* what v must read as */
  uint8_t *first; /* what memory was, and is */
  uint8_t *buf;
  int rule_write, rule_read;
};

static int
setup (void **state)
{
  struct fault_rule rule = { .action = FAULT_DELAY, .op = VIO_WRITE };
  struct rig *t = calloc (1, sizeof *t);

  test_log_forget ();
  t->model = test_pages (SIZE_BYTES);
  t->first = test_pages (SIZE_BYTES);
  t->buf = test_pages (SIZE_BYTES);
  test_pattern (t->first, SIZE_BYTES, 0, 1);
  memcpy (t->model, t->first, SIZE_BYTES);
  assert_int_equal (volume_open_memory ("m", SIZE_BYTES, true, &t->memory), 0);
  assert_int_equal (volume_write (t->memory, 0, t->first, SIZE_BYTES), 0);
  assert_int_equal (volume_open_fault (t->memory, &t->fault), 0);
  t->rule_write = fault_add (t->fault, &rule);
  rule.op = VIO_READ;
  t->rule_read = fault_add (t->fault, &rule);
  assert_int_equal (volume_open_overlay (t->fault, &t->v), 0);
  *state = t;
  return 0;
}

/* Whatever a test did: inner was not touched. */
static int
teardown (void **state)
{
  struct rig *t = *state;

  assert_int_equal (fault_nr_hits (t->fault, t->rule_write), 0);
  assert_int_equal (volume_read (t->memory, 0, t->buf, SIZE_BYTES), 0);
  assert_memory_equal (t->buf, t->first, SIZE_BYTES);
  volume_close (t->v); /* and the others */
  free (t->model);
  free (t->first);
  free (t->buf);
  free (t);
  return 0;
}

static void
put (struct rig *t, unsigned first, unsigned nr, uint64_t round)
{
  size_t off = first * PAGE_BYTES, bytes = nr * PAGE_BYTES;

  test_pattern (t->model + off, bytes, off, round);
  assert_int_equal (volume_write (t->v, off, t->model + off, bytes), 0);
}

static void
expect (struct rig *t, unsigned first, unsigned nr)
{
  size_t off = first * PAGE_BYTES, bytes = nr * PAGE_BYTES;

  memset (t->buf, 0xdd, bytes);
  assert_int_equal (volume_read (t->v, off, t->buf, bytes), 0);
  assert_memory_equal (t->buf, t->model + off, bytes);
}

/* ---- tests ---- */

static void
test_nothing_written (void **state)
{
  struct rig *t = *state;
  struct iovec iov[2] = { { t->buf + 9 * PAGE_BYTES, PAGE_BYTES },
                          { t->buf, PAGE_BYTES } };
  struct vio io = {
    .volume = t->v, .iov = iov, .nr_iov = 2, .bytes = 2 * PAGE_BYTES
  };

  assert_string_equal (t->v->ops->kind, "overlay");
  assert_string_equal (t->v->name, "m");
  assert_int_equal (t->v->size_bytes, SIZE_BYTES);
  assert_false (t->v->batched || t->v->sparse);
  expect (t, 0, NR_PAGES);
  assert_int_equal (fault_nr_hits (t->fault, t->rule_read), 1);
  vio_start (NULL, &io); /* in many parts, and one transfer all the same */
  assert_int_equal (io.error, 0);
  assert_int_equal (fault_nr_hits (t->fault, t->rule_read), 2);
  assert_memory_equal (t->buf, t->model + PAGE_BYTES, PAGE_BYTES);
  assert_memory_equal (t->buf + 9 * PAGE_BYTES, t->model, PAGE_BYTES);
  fault_fail_flush (t->fault, EIO); /* of which nothing is heard */
  assert_int_equal (volume_flush (t->v), 0);
  assert_int_equal (volume_trim (t->v, 0, PAGE_BYTES), EOPNOTSUPP);
  t->v->sparse = true; /* even then */
  assert_int_equal (volume_trim (t->v, 0, PAGE_BYTES), EOPNOTSUPP);
  expect (t, 0, NR_PAGES);
}

/* Runs from inner around and between pages that are here. */
static void
test_mixed (void **state)
{
  struct rig *t = *state;

  put (t, 3, 1, 2);
  put (t, 6, 2, 2);
  expect (t, 0, 10); /* 0-2, 4-5, 8-9 from inner */
  assert_int_equal (fault_nr_hits (t->fault, t->rule_read), 3);
  expect (t, 3, 1);
  expect (t, 6, 2);
  assert_int_equal (fault_nr_hits (t->fault, t->rule_read), 3);
  expect (t, 4, 4); /* 4-5 */
  expect (t, 2, 2); /* 2 */
  assert_int_equal (fault_nr_hits (t->fault, t->rule_read), 5);
  put (t, 3, 1, 3); /* again */
  expect (t, 0, NR_PAGES);
}

static void
test_bad_block (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = 5 * PAGE_BYTES,
                             .bytes = 1,
                             .error = EIO };

  fault_clear (t->fault);
  fault_add (t->fault, &rule);
  assert_int_equal (volume_read (t->v, 0, t->buf, 8 * PAGE_BYTES), EIO);
  put (t, 4, 1, 2);
  assert_int_equal (volume_read (t->v, 0, t->buf, 8 * PAGE_BYTES), EIO);
  assert_int_equal (t->v->nr_errors, 2);
  put (t, 5, 1, 2);
  expect (t, 0, 8);
  fault_clear (t->fault);
}

/* Random transfers, in one piece or many, and a model. */
static void
test_model (void **state)
{
  struct rig *t = *state;
  uint64_t seed = test_seed ();
  struct iovec iov[RUN_MAX];

  for (uint64_t round = 2; round < 4000; round++) {
    unsigned first = (unsigned) (test_random (&seed) % (NR_PAGES - RUN_MAX));
    unsigned nr = 1 + (unsigned) (test_random (&seed) % RUN_MAX);
    struct vio io = { .volume = t->v,
                      .op = test_random (&seed) % 8 ? VIO_READ : VIO_WRITE,
                      .off = first * PAGE_BYTES,
                      .buf = t->buf,
                      .bytes = nr * PAGE_BYTES };
    unsigned at = 0;

    while (round % 2 && at < nr) {
      unsigned n = 1 + (unsigned) (test_random (&seed) % (nr - at));

      iov[io.nr_iov++] =
          (struct iovec){ t->buf + at * PAGE_BYTES, n * PAGE_BYTES };
      io.iov = iov;
      at += n;
    }
    io.cached = io.op == VIO_READ && round % 3;
    test_pattern (t->buf, io.bytes, io.off, round);
    if (io.op == VIO_WRITE)
      memcpy (t->model + io.off, t->buf, io.bytes);
    vio_start (NULL, &io);
    assert_int_equal (io.error, 0);
    assert_int_equal (io.done, io.bytes);
    assert_memory_equal (t->buf, t->model + io.off, io.bytes);
  }
  expect (t, 0, NR_PAGES);
}

static void
test_no_memory (void **state)
{
  struct rig *t = *state;
  struct volume *v = NULL;

  put (t, 0, 4, 2);
  wrap_none = true;
  put (t, 0, 4, 3); /* which are here already */
  assert_int_equal (volume_write (t->v, 3 * PAGE_BYTES, t->model, PAGE_BYTES),
                    0);
  assert_int_equal (volume_write (t->v, 8 * PAGE_BYTES, t->model, PAGE_BYTES),
                    EIO);
  assert_true (volume_overlay_starved (t->v));
  assert_int_equal (volume_open_overlay (t->fault, &v), ENOMEM);
  wrap_none = false;
  assert_null (v);
  put (t, 3, 1, 3);
  expect (t, 0, NR_PAGES); /* and nothing has changed */

  /* No memory for a larger table: 48 of the first 64 slots can be used. */
  wrap_table_at = 128 * 16;
  put (t, 4, 44, 4);
  assert_int_equal (volume_write (t->v, 48 * PAGE_BYTES, t->model, PAGE_BYTES),
                    EIO);
  wrap_table_at = 0;
  expect (t, 0, NR_PAGES);
  put (t, 0, NR_PAGES, 5);
  expect (t, 0, NR_PAGES);
}

struct worker {
  struct rig *t;
  unsigned nr;
  pthread_t thread;
  int error;
};

/* Writes its own pages, every NR_THREADS-th, and reads runs of all. */
static void *
worker (void *arg)
{
  struct worker *w = arg;
  uint8_t *page = aligned_alloc (PAGE_BYTES, RUN_MAX * PAGE_BYTES);
  uint8_t want[PAGE_BYTES];

  for (unsigned i = w->nr; i < NR_PAGES && w->error == 0; i += NR_THREADS) {
    unsigned first = i / RUN_MAX * RUN_MAX;

    if (first + RUN_MAX > NR_PAGES)
      first = NR_PAGES - RUN_MAX;
    test_pattern (page, PAGE_BYTES, i * PAGE_BYTES, 2);
    w->error = volume_write (w->t->v, i * PAGE_BYTES, page, PAGE_BYTES);
    if (w->error == 0)
      w->error =
          volume_read (w->t->v, first * PAGE_BYTES, page, RUN_MAX * PAGE_BYTES);
    test_pattern (want, PAGE_BYTES, i * PAGE_BYTES, 2);
    if (memcmp (page + (i - first) * PAGE_BYTES, want, PAGE_BYTES) != 0)
      w->error = EDOM;
  }
  free (page);
  return NULL;
}

static void
test_threads (void **state)
{
  struct rig *t = *state;
  struct worker w[NR_THREADS];

  for (unsigned i = 0; i < NR_THREADS; i++) {
    w[i] = (struct worker){ .t = t, .nr = i };
    assert_int_equal (pthread_create (&w[i].thread, NULL, worker, &w[i]), 0);
  }
  for (unsigned i = 0; i < NR_THREADS; i++) {
    pthread_join (w[i].thread, NULL);
    assert_int_equal (w[i].error, 0);
  }
  test_pattern (t->model, SIZE_BYTES, 0, 2);
  expect (t, 0, NR_PAGES);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_nothing_written), CASE (test_mixed),     CASE (test_bad_block),
    CASE (test_model),           CASE (test_no_memory), CASE (test_threads),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
