/* SPDX-License-Identifier: BSD-2-Clause */
/* Each action of the fault volume, over memory and over a file. */

#include <config.h>

#include "test-common.h"

#include <errno.h>
#include <pthread.h>

#include "env.h"
#include "fault.h"

#define SIZE_BYTES (4 * MIB)
#define LONG_NS    (20 * NS_PER_S)
#define SHORT_NS   (50 * NS_PER_MS)
#define NR_THREADS 4
#define ERROR_OURS EXDEV /* that no medium gives by itself */

struct rig {
  struct volume *inner, *v;
  uint8_t *buf;
};

static int
setup (void **state, bool file)
{
  struct volume_path_options options = { .sparse = true };
  struct rig *t = calloc (1, sizeof *t);

  if (file)
    assert_int_equal (volume_open_path (test_file ("a", MIB + SIZE_BYTES),
                                        &options, &t->inner),
                      0);
  else
    assert_int_equal (volume_open_memory ("m", SIZE_BYTES, true, &t->inner), 0);
  assert_int_equal (volume_open_fault (t->inner, &t->v), 0);
  t->buf = test_pages (4 * PAGE_BYTES);
  test_log_forget ();
  *state = t;
  return 0;
}

static int
setup_memory (void **state)
{
  return setup (state, false);
}

static int
setup_file (void **state)
{
  return setup (state, true);
}

static int
teardown (void **state)
{
  struct rig *t = *state;

  volume_close (t->v); /* and the inner one */
  unlink (test_path ("a"));
  free (t->buf);
  free (t);
  return 0;
}

/* Move pages first to first + nr - 1, in buf at the same place; the error. */
static int
move (struct rig *t, enum vio_op op, unsigned first, unsigned nr)
{
  struct vio io = { .volume = t->v,
                    .op = op,
                    .off = first * PAGE_BYTES,
                    .buf = t->buf + first * PAGE_BYTES,
                    .bytes = nr * PAGE_BYTES };

  vio_start (NULL, &io);
  assert_int_equal (io.done, io.error == 0 ? io.bytes : 0);
  return io.error;
}

static int
add (struct rig *t, enum fault_action action, enum vio_op op)
{
  struct fault_rule rule = {
    .action = action, .op = op, .error = ERROR_OURS, .delay_ns = SHORT_NS
  };

  return fault_add (t->v, &rule);
}

static void
test_nothing (void **state)
{
  struct rig *t = *state;

  assert_string_equal (t->v->ops->kind, "fault");
  assert_string_equal (t->v->name, t->inner->name);
  assert_int_equal (t->v->size_bytes, t->inner->size_bytes);
  assert_int_equal (t->v->checked, t->inner->checked);
  assert_int_equal (t->v->align, t->inner->align);
  assert_int_equal (t->v->sparse, t->inner->sparse);
  assert_false (t->v->batched);
  memset (t->buf, 7, 4 * PAGE_BYTES);
  assert_int_equal (move (t, VIO_WRITE, 0, 4), 0);
  memset (t->buf, 0, 4 * PAGE_BYTES);
  assert_int_equal (move (t, VIO_READ, 0, 4), 0);
  assert_int_equal (t->buf[4 * PAGE_BYTES - 1], 7);
  assert_int_equal (volume_flush (t->v), 0);
  assert_int_equal (volume_trim (t->v, 0, 2 * MIB), 0);
  assert_int_equal (move (t, VIO_READ, 0, 4), 0);
  assert_int_equal (t->buf[0], 0);
}

static void
test_fail (void **state)
{
  struct rig *t = *state;
  int rule = add (t, FAULT_FAIL, VIO_WRITE);

  memset (t->buf, 1, PAGE_BYTES);
  assert_int_equal (move (t, VIO_WRITE, 0, 1), ERROR_OURS);
  assert_int_equal (t->v->nr_errors, 1);
  assert_int_equal (t->inner->nr_errors, 0);
  assert_int_equal (test_log_has (strerror (ERROR_OURS)), 1);
  assert_int_equal (move (t, VIO_READ, 0, 1), 0); /* other op */
  assert_int_equal (t->buf[0], 0);                /* nothing was written */
  assert_int_equal (fault_nr_hits (t->v, rule), 1);
  fault_clear (t->v);
  assert_int_equal (move (t, VIO_WRITE, 0, 1), 0);
  assert_int_equal (fault_nr_hits (t->v, rule), 0);
}

static void
test_skip_and_count (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .skip = 2,
                             .count = 3,
                             .error = ERROR_OURS };
  static const bool want[8] = { 0, 0, 1, 1, 1, 0, 0, 0 };
  int nr = fault_add (t->v, &rule);

  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (move (t, VIO_READ, 0, 1), want[i] ? ERROR_OURS : 0);
  assert_int_equal (fault_nr_hits (t->v, nr), 3);
}

static void
test_range (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_FAIL,
                             .op = VIO_READ,
                             .off = PAGE_BYTES + 100,
                             .bytes = PAGE_BYTES, /* of pages 1 and 2 */
                             .error = ERROR_OURS };

  fault_add (t->v, &rule);
  assert_int_equal (move (t, VIO_READ, 0, 1), 0);
  assert_int_equal (move (t, VIO_READ, 1, 1), ERROR_OURS);
  assert_int_equal (move (t, VIO_READ, 2, 1), ERROR_OURS);
  assert_int_equal (move (t, VIO_READ, 3, 1), 0);
  assert_int_equal (move (t, VIO_READ, 0, 2), ERROR_OURS);
  assert_int_equal (move (t, VIO_READ, 0, 4), ERROR_OURS);
}

static void
test_order_of_rules (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = VIO_READ, .count = 1, .error = ERROR_OURS
  };
  int first = fault_add (t->v, &rule), second;

  rule.error = EDOM;
  second = fault_add (t->v, &rule);
  assert_int_equal (move (t, VIO_READ, 0, 1), ERROR_OURS);
  assert_int_equal (fault_nr_hits (t->v, second), 0);
  assert_int_equal (move (t, VIO_READ, 0, 1), EDOM);
  assert_int_equal (move (t, VIO_READ, 0, 1), 0);
  assert_int_equal (fault_nr_hits (t->v, first), 1);
  assert_int_equal (fault_nr_hits (t->v, second), 1);
  for (int i = 2; i < FAULT_RULES_MAX; i++)
    assert_int_equal (fault_add (t->v, &rule), i);
  assert_int_equal (fault_add (t->v, &rule), -1);
  fault_clear (t->v);
  assert_int_equal (fault_add (t->v, &rule), 0);
}

static void
test_delay (void **state)
{
  struct rig *t = *state;
  uint64_t begin_ns;

  memset (t->buf, 9, PAGE_BYTES);
  assert_int_equal (move (t, VIO_WRITE, 0, 1), 0);
  memset (t->buf, 0, PAGE_BYTES);
  add (t, FAULT_DELAY, VIO_READ);
  begin_ns = env_now_ns ();
  assert_int_equal (move (t, VIO_READ, 0, 1), 0);
  assert_true (env_now_ns () - begin_ns >= SHORT_NS);
  assert_int_equal (t->buf[0], 9);
}

static void
test_corrupt_read (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_CORRUPT,
                             .op = VIO_READ,
                             .off = PAGE_BYTES + 5,
                             .bytes = 1,
                             .count = 1 };
  uint8_t want[2 * PAGE_BYTES] = { 0 };

  memset (t->buf, 0, 2 * PAGE_BYTES);
  assert_int_equal (move (t, VIO_WRITE, 0, 2), 0);
  fault_add (t->v, &rule);
  want[PAGE_BYTES + 5] = 1;
  assert_int_equal (move (t, VIO_READ, 0, 2), 0);
  assert_memory_equal (t->buf, want, sizeof want);
  want[PAGE_BYTES + 5] = 0; /* the medium itself is well */
  assert_int_equal (move (t, VIO_READ, 0, 2), 0);
  assert_memory_equal (t->buf, want, sizeof want);
}

static void
test_corrupt_write (void **state)
{
  struct rig *t = *state;
  uint8_t want[2 * PAGE_BYTES];

  memset (want, 4, sizeof want);
  memcpy (t->buf, want, sizeof want);
  add (t, FAULT_CORRUPT, VIO_WRITE);
  assert_int_equal (move (t, VIO_WRITE, 0, 2), 0);
  assert_memory_equal (t->buf, want, sizeof want); /* not in the buffer */
  assert_int_equal (move (t, VIO_READ, 0, 2), 0);
  want[0] = 5;
  assert_memory_equal (t->buf, want, sizeof want);
}

/* The byte is found in the second element, of a read and of a write. */
static void
test_corrupt_scattered (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = {
    .action = FAULT_CORRUPT, .off = PAGE_BYTES + 5, .bytes = 1, .count = 1
  };
  struct iovec iov[2] = { { t->buf + 3 * PAGE_BYTES, PAGE_BYTES },
                          { t->buf, 2 * PAGE_BYTES } };
  struct vio io = {
    .volume = t->v, .iov = iov, .nr_iov = 2, .bytes = 3 * PAGE_BYTES
  };

  for (int op = VIO_READ; op <= VIO_WRITE; op++) {
    memset (t->buf, 0, 4 * PAGE_BYTES);
    assert_int_equal (move (t, VIO_WRITE, 0, 4), 0);
    rule.op = io.op = (enum vio_op) op;
    fault_add (t->v, &rule);
    vio_start (NULL, &io);
    assert_int_equal (io.error, 0);
    assert_int_equal (io.done, io.bytes);
    assert_int_equal (t->buf[5], op == VIO_READ);
    t->buf[5] = 0;
    for (unsigned i = 0; i < 4 * PAGE_BYTES; i++)
      assert_int_equal (t->buf[i], 0);
    assert_int_equal (move (t, VIO_READ, 0, 4), 0);
    assert_int_equal (t->buf[PAGE_BYTES + 5], op == VIO_WRITE);
  }
}

static void
test_flush_fails (void **state)
{
  struct rig *t = *state;

  fault_fail_flush (t->v, ERROR_OURS);
  fault_fail_flush (t->v, 0);
  assert_int_equal (volume_flush (t->v), 0);
  fault_fail_flush (t->v, ERROR_OURS);
  assert_int_equal (volume_flush (t->v), ERROR_OURS);
  assert_int_equal (test_log_has ("flush failed: "), 1);
  /* It is not the medium that fails now, and it stays so. */
  fault_fail_flush (t->v, 0);
  assert_int_equal (volume_flush (t->v), EIO);
  assert_int_equal (t->v->nr_errors, 2);
  assert_int_equal (test_log_has ("flush failed: "), 1);
  memset (t->buf, 8, 4 * PAGE_BYTES);
  assert_int_equal (move (t, VIO_WRITE, 0, 4), EIO);
  assert_int_equal (volume_write (t->v, 0, t->buf, PAGE_BYTES), EIO);
  assert_int_equal (volume_trim (t->v, 0, PAGE_BYTES), EIO);
  assert_int_equal (t->v->nr_errors, 4);
  assert_int_equal (move (t, VIO_READ, 0, 4), 0); /* reads go on */
  assert_int_equal (t->buf[0], 0);                /* nothing was written */
}

/* ---- held ---- */

struct mover {
  struct rig *t;
  unsigned page;
  atomic_bool over;
  pthread_t thread;
};

static void *
mover (void *arg)
{
  struct mover *m = arg;

  m->t->v->nr_errors += move (m->t, VIO_WRITE, m->page, 1) != 0;
  m->over = true;
  return NULL;
}

static void
movers_start (struct rig *t, struct mover m[NR_THREADS])
{
  for (unsigned i = 0; i < NR_THREADS; i++) {
    m[i] = (struct mover){ .t = t, .page = i };
    assert_int_equal (pthread_create (&m[i].thread, NULL, mover, &m[i]), 0);
  }
}

static void
movers_join (struct mover m[NR_THREADS])
{
  for (unsigned i = 0; i < NR_THREADS; i++)
    pthread_join (m[i].thread, NULL);
}

static void
test_hold (void **state)
{
  struct rig *t = *state;
  int rule = add (t, FAULT_HOLD, VIO_WRITE);
  struct mover m[NR_THREADS];

  assert_int_equal (move (t, VIO_READ, 0, 4), 0);
  assert_false (fault_wait_held (t->v, rule, 1, SHORT_NS));
  memset (t->buf, 3, 4 * PAGE_BYTES);
  movers_start (t, m);
  assert_true (fault_wait_held (t->v, rule, NR_THREADS, LONG_NS));
  assert_false (fault_wait_held (t->v, rule, NR_THREADS + 1, SHORT_NS));
  for (unsigned i = 0; i < NR_THREADS; i++)
    assert_false (m[i].over);
  assert_int_equal (fault_nr_hits (t->v, rule), NR_THREADS);
  fault_release (t->v, rule);
  movers_join (m);
  assert_int_equal (t->v->nr_errors, 0);
  assert_int_equal (move (t, VIO_WRITE, 0, 1), 0); /* the rule is spent */
  memset (t->buf, 0, 4 * PAGE_BYTES);
  assert_int_equal (move (t, VIO_READ, 0, 4), 0);
  assert_int_equal (t->buf[3 * PAGE_BYTES], 3);
}

static void
test_hold_counts (void **state)
{
  struct rig *t = *state;
  struct fault_rule rule = { .action = FAULT_HOLD,
                             .op = VIO_WRITE,
                             .count = 2 };
  struct mover m[NR_THREADS];
  unsigned nr_over = 0;
  int nr = fault_add (t->v, &rule);

  movers_start (t, m);
  assert_true (fault_wait_held (t->v, nr, 2, LONG_NS));
  for (unsigned tries = 0; nr_over < NR_THREADS - 2 && tries < 2000; tries++) {
    usleep (1000);
    nr_over = 0;
    for (unsigned i = 0; i < NR_THREADS; i++)
      nr_over += m[i].over;
  }
  assert_int_equal (nr_over, NR_THREADS - 2);
  assert_int_equal (fault_nr_hits (t->v, nr), 2);
  fault_release (t->v, nr);
  movers_join (m);
}

static void
test_clear_lets_go (void **state)
{
  struct rig *t = *state;
  int rule = add (t, FAULT_HOLD, VIO_WRITE);
  struct mover m[NR_THREADS];

  movers_start (t, m);
  assert_true (fault_wait_held (t->v, rule, NR_THREADS, LONG_NS));
  fault_clear (t->v);
  /* The same number again, and nobody is held by it. */
  assert_int_equal (add (t, FAULT_HOLD, VIO_READ), rule);
  movers_join (m);
  assert_false (fault_wait_held (t->v, rule, 1, SHORT_NS));
  assert_int_equal (fault_nr_hits (t->v, rule), 0);
}

#define CASE(f, s) cmocka_unit_test_setup_teardown (f, s, teardown)
#define CASES(f)   CASE (f, setup_memory), CASE (f, setup_file)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASES (test_nothing),
    CASES (test_fail),
    CASES (test_skip_and_count),
    CASES (test_range),
    CASES (test_order_of_rules),
    CASES (test_delay),
    CASES (test_corrupt_read),
    CASES (test_corrupt_write),
    CASES (test_corrupt_scattered),
    CASES (test_flush_fails),
    CASES (test_hold),
    CASES (test_hold_counts),
    CASES (test_clear_lets_go),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
