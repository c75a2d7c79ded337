/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages in memory: random uses beside a plain array of what they should be, and
 * the rules of which is used again.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pages.h"
#include "test-util.h"

#define NR    24u /* pages */
#define PGNOS 80u
#define STEPS 200000u

static struct pages *ps;

/* What a page should be; content: the byte that each of its blocks has. */
struct want {
  bool there, busy;
  page_bits valid, dirty, writing;
  uint8_t content[8];
};

static struct want want[PGNOS];

static int
set_up (void **state)
{
  (void) state;
  memset (want, 0, sizeof want);
  return pages_create (NR, &ps);
}

static int
tear_down (void **state)
{
  (void) state;
  pages_destroy (ps);
  return 0;
}

static void
check (void)
{
  const char *wrong = pages_check (ps);

  if (wrong != NULL)
    fail_msg ("%s", wrong);
}

/* ---- one page ---- */

static struct page *
get (pgno_t pgno, bool active)
{
  struct page *p = page_take (ps, pgno);

  assert_non_null (p);
  page_filled (ps, p, PAGE_BITS_ALL, active);
  return p;
}

static void
test_bits (void **state)
{
  (void) state;
  assert_int_equal (page_bits_touched (0, 4096), 0xff);
  assert_int_equal (page_bits_filled (0, 4096), 0xff);
  assert_int_equal (page_bits_touched (511, 2), 0x03);
  assert_int_equal (page_bits_filled (511, 2), 0);
  assert_int_equal (page_bits_filled (511, 513), 0x02);
  assert_int_equal (page_bits_touched (512, 512), 0x02);
  assert_int_equal (page_bits_touched (4095, 1), 0x80);
  assert_int_equal (page_bits_touched (100, 0), 0);
  assert_int_equal (page_bits_touched (4096, 0), 0);
  assert_int_equal (page_bits_filled (1, 4095), 0xfe);
}

static void
test_create (void **state)
{
  struct pages *none = NULL;

  (void) state;
  assert_int_equal (pages_create (0, &none), EINVAL);
  assert_int_equal (pages_create (PAGES_MAX + 1, &none), EINVAL);
  assert_null (none);
  pages_destroy (NULL);
}

/* A pass over many leaves alone what was touched twice. */
static void
test_pass (void **state)
{
  (void) state;
  for (unsigned i = 0; i < 8; i++) {
    struct page *p = get (i, false);

    page_touch (ps, p);
    page_touch (ps, p);
    assert_int_equal (p->state, PAGE_ACTIVE);
  }
  for (unsigned i = 100; i < 1000; i++)
    page_touch (ps, get (i, false));
  for (unsigned i = 0; i < 8; i++)
    assert_non_null (page_find (ps, i));
  check ();
}

/* What is active and not touched any more goes after all. */
static void
test_age (void **state)
{
  (void) state;
  for (unsigned i = 0; i < NR; i++)
    get (i, true);
  page_touch (ps, page_find (ps, 0));
  for (unsigned i = 100; i < 100 + NR / 2; i++)
    get (i, false);
  assert_non_null (page_find (ps, 0));
  assert_null (page_find (ps, 1));
  check ();
}

/* All dirty: nothing is to be had until one was written. */
static void
test_dirty (void **state)
{
  struct page *p;

  (void) state;
  for (unsigned i = 0; i < NR; i++)
    page_write (ps, get (i, i % 2), 0, 4096);
  assert_int_equal (ps->nr_dirty, NR);
  assert_null (page_take (ps, 100));
  p = page_find (ps, 7);
  assert_int_equal (page_put_begin (ps, p), 0xff);
  assert_null (page_take (ps, 100));
  page_write (ps, p, 0, 512); /* again, meanwhile */
  page_put_end (ps, p, 0xff, false);
  assert_int_equal (p->dirty, 1);
  assert_null (page_take (ps, 100));
  assert_int_equal (page_put_begin (ps, p), 1);
  page_put_end (ps, p, 0, false); /* it failed */
  assert_int_equal (p->dirty, 1);
  assert_int_equal (p->state, PAGE_ACTIVE);
  assert_null (page_take (ps, 100));
  page_put_begin (ps, p);
  page_put_end (ps, p, 1, true);
  assert_ptr_equal (page_take (ps, 100), p);
  assert_null (page_find (ps, 7));
  check ();
}

/* Who says that he will not come back is the first to go. */
static void
test_idle (void **state)
{
  struct page *p;

  (void) state;
  for (unsigned i = 0; i < NR; i++)
    get (i, false);
  p = page_find (ps, NR - 1);
  page_write (ps, p, 0, 1);
  page_put_begin (ps, p);
  page_put_end (ps, p, 1, true);
  assert_ptr_equal (page_take (ps, 100), p);
  check ();
}

/* ---- at random ---- */

static void
compare (pgno_t pgno)
{
  const struct page *p = page_find (ps, pgno);
  struct want *w = &want[pgno];
  bool kept = w->busy || (w->dirty | w->writing) != 0;

  if (p == NULL) {
    if (kept)
      fail_msg ("page %u is gone", (unsigned) pgno);
    w->there = false;
    return;
  }
  assert_true (w->there);
  assert_int_equal (p->state == PAGE_BUSY, w->busy);
  assert_int_equal (p->valid, w->valid);
  assert_int_equal (p->dirty, w->dirty);
  assert_int_equal (p->writing, w->writing);
  for (unsigned i = 0; i < 8; i++)
    if ((w->valid >> i & 1) != 0)
      assert_int_equal (p->data[i * 512 + 100], w->content[i]);
}

static void
fill (struct page *p, struct want *w, page_bits bits, uint8_t content)
{
  for (unsigned i = 0; i < 8; i++)
    if ((bits >> i & 1) != 0) {
      memset (p->data + i * 512, content, 512);
      w->content[i] = content;
    }
}

static unsigned
nr_that_stay (void)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < PGNOS; i++)
    nr += want[i].busy || (want[i].dirty | want[i].writing) != 0;
  return nr;
}

static void
step_absent (uint64_t *random, pgno_t pgno)
{
  struct page *p = page_take (ps, pgno);

  (void) random;
  if (p == NULL) {
    assert_int_equal (nr_that_stay (), NR);
    return;
  }
  want[pgno] = (struct want){ .there = true, .busy = true };
}

static void
step_busy (uint64_t *random, struct page *p, struct want *w)
{
  page_bits bits = test_random_below (random, 256) & ~w->valid;

  if (test_random_below (random, 4) == 0) {
    page_not_filled (ps, p);
    w->there = w->valid != 0;
  } else {
    fill (p, w, bits, test_random_below (random, 256));
    page_filled (ps, p, bits, test_random_below (random, 2) != 0);
    w->valid |= bits;
  }
  w->busy = false;
}

static void
step_write (uint64_t *random, struct page *p, struct want *w)
{
  unsigned from = test_random_below (random, 4096);
  unsigned len = 1 + test_random_below (random, 4096 - from);
  page_bits touched, filled;

  if (test_random_below (random, 2) != 0)
    from = from / 512 * 512, len = (len + 511) / 512 * 512;
  touched = page_bits_touched (from, len);
  filled = page_bits_filled (from, len);
  if ((touched & ~filled & ~w->valid) != 0)
    return;
  fill (p, w, touched, test_random_below (random, 256));
  page_write (ps, p, from, len);
  w->valid |= filled;
  w->dirty |= touched;
}

static void
step_put (uint64_t *random, struct page *p, struct want *w)
{
  page_bits done = test_random_below (random, 4) != 0
                       ? PAGE_BITS_ALL
                       : test_random_below (random, 256);

  if (w->writing != 0) {
    page_put_end (ps, p, done, test_random_below (random, 2) != 0);
    w->dirty |= w->writing & ~done;
    w->writing = 0;
  } else if (w->dirty != 0) {
    assert_int_equal (page_put_begin (ps, p), w->dirty);
    w->writing = w->dirty;
    w->dirty = 0;
  }
}

static void
step_there (uint64_t *random, struct page *p, struct want *w)
{
  page_bits bits = test_random_below (random, 256);

  switch (test_random_below (random, 13)) {
  case 0:
    if (w->writing == 0) {
      page_drop (ps, p);
      *w = (struct want){ .there = false };
    }
    break;
  case 1:
    page_clean (ps, p, bits);
    w->dirty &= ~bits;
    break;
  case 2:
    if (w->valid != PAGE_BITS_ALL) {
      page_refill (ps, p);
      w->busy = true;
    }
    break;
  case 3:
  case 4:
    page_touch (ps, p);
    break;
  case 5:
    page_unfill (ps, p, bits);
    w->valid &= ~bits | w->dirty | w->writing;
    break;
  case 6:
  case 7:
  case 8:
    step_write (random, p, w);
    break;
  default:
    step_put (random, p, w);
  }
}

static void
test_random (void **state)
{
  uint64_t random = test_seed ();

  (void) state;
  for (unsigned i = 0; i < STEPS; i++) {
    pgno_t pgno = test_random_below (&random, PGNOS);
    struct want *w = &want[pgno];
    struct page *p = page_find (ps, pgno);

    compare (pgno);
    if (p == NULL)
      step_absent (&random, pgno);
    else if (w->busy && w->writing != 0 && test_random_below (&random, 2) != 0)
      step_put (&random, p, w);
    else if (w->busy)
      step_busy (&random, p, w);
    else
      step_there (&random, p, w);
    if (i % 64 == 0)
      check ();
  }
  for (unsigned i = 0; i < PGNOS; i++)
    compare (i);
}

int
main (void)
{
#define CASE(fn) cmocka_unit_test_setup_teardown (fn, set_up, tear_down)
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_bits),
    cmocka_unit_test (test_create),
    CASE (test_pass),
    CASE (test_age),
    CASE (test_dirty),
    CASE (test_idle),
    CASE (test_random),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
