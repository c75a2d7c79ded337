/* SPDX-License-Identifier: BSD-2-Clause */
/* Objects of the swap pager over real servers: their table, what they have,
 * what is moved between them, and who has the export.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-rig.h"

static void
assert_zeros (struct rig *r, struct farpage_object *o, uint64_t page)
{
  const uint8_t *at = r->mem + (RIG_PAGES - 1) * PAGE;

  assert_int_equal (rig_get (r, o, page), FARPAGE_OK);
  assert_true (at[0] == 0 && memcmp (at, at + 1, PAGE - 1) == 0);
}

static uint64_t
nr_used (struct rig *r)
{
  struct farpage_stat st;

  rig_check (r);
  rig_stat (r, &st);
  return st.blocks_used;
}

/* ---- the table ---- */

#define MAKERS 4

struct maker {
  struct rig *rig;
  pthread_t thread;
  pthread_barrier_t *start;
  struct farpage_object *object;
};

static void *
makes (void *arg)
{
  struct maker *m = arg;

  pthread_barrier_wait (m->start);
  m->object = rig_make (m->rig, "the same", 100);
  return NULL;
}

static void
test_names (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *a, *b, *other, *none = NULL;
  struct maker m[MAKERS];
  pthread_barrier_t start;
  struct farpage_stat st;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  for (unsigned round = 0; round < 50; round++) {
    pthread_barrier_init (&start, NULL, MAKERS);
    for (unsigned i = 0; i < MAKERS; i++) {
      m[i] = (struct maker){ .rig = &r, .start = &start };
      pthread_create (&m[i].thread, NULL, makes, &m[i]);
    }
    for (unsigned i = 0; i < MAKERS; i++)
      pthread_join (m[i].thread, NULL);
    pthread_barrier_destroy (&start);
    for (unsigned i = 0; i < MAKERS; i++) {
      assert_ptr_equal (m[i].object, m[0].object);
      rig_stat (&r, &st);
      assert_int_equal (st.objects, 1);
      assert_int_equal (farpage_dealloc (m[i].object), 0);
    }
    rig_stat (&r, &st);
    assert_int_equal (st.objects, 0);
  }
  a = rig_make (&r, "a", 10);
  assert_int_equal (rig_put (&r, a, 1, 0, 10, 0), FARPAGE_OK);
  assert_int_equal (farpage_alloc (r.swap, "a", 0, 11 * PAGE, &none), EEXIST);
  assert_null (none);
  /* The offset counts, and all is rounded up to whole pages. */
  assert_int_equal (farpage_alloc (r.swap, "a", 1, 9 * PAGE, &b), 0);
  assert_ptr_equal (a, b);
  farpage_reference (b);
  assert_int_equal (farpage_dealloc (b), 0);
  assert_int_equal (farpage_dealloc (b), 0);
  rig_assert_has (&r, a, 9, 1, 9, 0);
  b = rig_make (&r, NULL, 10);
  other = rig_make (&r, NULL, 10);
  assert_ptr_not_equal (b, other);
  assert_int_equal (farpage_dealloc (other), 0);
  assert_int_equal (farpage_dealloc (b), 0);
  assert_int_equal (farpage_dealloc (a), 0);
  b = rig_make (&r, "a", 20); /* the name is free again, and has nothing */
  assert_int_equal (rig_get (&r, b, 9), FARPAGE_FAIL);
  assert_int_equal (farpage_dealloc (b), 0);
  assert_int_equal (nr_used (&r), 0);
  rig_end (&r);
}

struct ender {
  struct farpage_object *object;
  uint64_t us;
};

static void *
ends (void *arg)
{
  struct ender *e = arg;
  uint64_t begin = net_now_us ();

  assert_int_equal (farpage_dealloc (e->object), 0);
  e->us = net_now_us () - begin;
  return NULL;
}

/* The name is free at once; the end waits for what is under way. */
static void
test_dealloc_waits (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *a, *b;
  static struct wait w;
  struct ender e;
  pthread_t thread;
  void *addr[16];
  uint64_t begin;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, "delay wdelay=300ms", NULL));
  a = rig_make (&r, "a", 16);
  rig_addrs (&r, addr, 0, 16, 1);
  wait_init (&w, 0, 16);
  assert_int_equal (farpage_aio_putpages (a, 0, 16, addr, 0, wait_page, &w), 0);
  e.object = a;
  pthread_create (&thread, NULL, ends, &e);
  net_sleep_ms (50);
  begin = net_now_us ();
  b = rig_make (&r, "a", 16);
  assert_ptr_not_equal (a, b);
  assert_int_equal (rig_get (&r, b, 0), FARPAGE_FAIL);
  assert_true (net_now_us () - begin < 150000);
  pthread_join (thread, NULL);
  assert_true (e.us > 200000);
  wait_all (&w);
  assert_int_equal (w.result[15], FARPAGE_OK);
  assert_int_equal (nr_used (&r), 0);
  assert_int_equal (farpage_dealloc (b), 0);
  rig_end (&r);
}

/* ---- what they have ---- */

static void
test_haspage (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  unsigned before = 99, after = 99;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 16 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, 2000);
  assert_int_equal (rig_put (&r, o, 1, 500, 40, 0),
                    FARPAGE_OK); /* over a shard's end, in runs of 16 */
  assert_false (farpage_haspage (o, 499, &before, &after));
  assert_false (farpage_haspage (o, 2000, &before, &after));
  assert_int_equal (before, 99);
  assert_true (farpage_haspage (o, 500, &before, &after));
  assert_int_equal (before, 0);
  assert_int_equal (after, 7);
  assert_true (farpage_haspage (o, 513, &before, &after));
  assert_int_equal (before, 7);
  assert_int_equal (after, 7);
  assert_true (farpage_haspage (o, 538, NULL, &after));
  assert_int_equal (after, 1);
  assert_int_equal (farpage_unswapped (o, 511), 0);
  assert_false (farpage_haspage (o, 511, NULL, NULL));
  assert_true (farpage_haspage (o, 513, &before, NULL));
  assert_int_equal (before, 1);
  assert_int_equal (nr_used (&r), 39);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_reserve (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o, *other;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 101 * PAGE, NULL, NULL));
  o = rig_make (&r, NULL, 1000);
  other = rig_make (&r, NULL, 100);
  assert_int_equal (rig_put (&r, o, 1, 8, 30, 0), FARPAGE_OK);
  assert_int_equal (farpage_reserve (o, 0, 71), ENOSPC);
  assert_int_equal (nr_used (&r), 30);
  for (unsigned i = 8; i < 38; i++)
    rig_assert_has (&r, o, i, 1, i, 0);
  assert_int_equal (rig_get (&r, o, 7), FARPAGE_FAIL);
  /* In single blocks, if need be; what pages had is dropped. */
  assert_int_equal (rig_put (&r, other, 2, 0, 60, 0), FARPAGE_OK);
  for (unsigned i = 0; i < 60; i += 2)
    assert_int_equal (farpage_freespace (other, i, 1), 0);
  assert_int_equal (farpage_reserve (o, 0, 20), 0);
  assert_int_equal (nr_used (&r), 30 + 30 + 8);
  for (unsigned i = 0; i < 20; i++)
    assert_zeros (&r, o, i);
  rig_assert_has (&r, o, 20, 1, 20, 0);
  assert_true (farpage_haspage (o, 0, NULL, NULL));
  assert_int_equal (rig_put (&r, o, 3, 4, 2, 0), FARPAGE_OK);
  rig_assert_has (&r, o, 5, 3, 5, 0);
  assert_zeros (&r, o, 3);
  assert_int_equal (nr_used (&r), 68);
  assert_int_equal (farpage_freespace (o, 0, 1000), 0);
  assert_int_equal (nr_used (&r), 30);
  assert_int_equal (farpage_dealloc (o), 0);
  assert_int_equal (farpage_dealloc (other), 0);
  rig_end (&r);
}

static void
test_copy (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *src, *dst, *found;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 16 * MIB, NULL, NULL));
  src = rig_make (&r, "src", 2000);
  dst = rig_make (&r, NULL, 100);
  assert_int_equal (rig_put (&r, src, 1, 900, 50, 0), FARPAGE_OK);
  assert_int_equal (rig_put (&r, src, 1, 995, 10, 0), FARPAGE_OK);
  assert_int_equal (rig_put (&r, dst, 2, 10, 10, 0), FARPAGE_OK);
  assert_int_equal (farpage_reserve (src, 930, 2), 0);
  assert_int_equal (nr_used (&r), 70);
  assert_int_equal (farpage_copy (src, dst, 900, 0), 0);
  for (unsigned i = 0; i < 100; i++)
    if (i >= 10 && i < 20)
      rig_assert_has (&r, dst, i, 2, i, 0); /* the destination wins */
    else if (i == 30 || i == 31)
      assert_zeros (&r, dst, i);
    else if (i < 50 || i >= 95)
      rig_assert_has (&r, dst, i, 1, 900 + i, 0);
    else
      assert_int_equal (rig_get (&r, dst, i), FARPAGE_FAIL);
  assert_int_equal (rig_get (&r, src, 900), FARPAGE_FAIL);
  rig_assert_has (&r, src, 1000, 1, 1000, 0); /* outside of the window: kept */
  assert_int_equal (nr_used (&r), 60);
  assert_int_equal (farpage_copy (src, dst, UINT64_MAX, 0), 0); /* nothing */
  farpage_reference (src);
  assert_int_equal (farpage_copy (src, dst, 950, FARPAGE_DESTROY), 0);
  rig_assert_has (&r, dst, 50, 1, 1000, 0);
  rig_assert_has (&r, dst, 0, 1, 900, 0);
  assert_int_equal (nr_used (&r), 60); /* 5 of 5 came over */
  found = rig_make (&r, "src", 7);     /* the name is free */
  assert_int_equal (rig_get (&r, src, 1000), FARPAGE_ERROR);
  assert_int_equal (farpage_dealloc (src), 0);
  assert_int_equal (farpage_copy (found, dst, 0, FARPAGE_DESTROY), 0);
  assert_int_equal (farpage_dealloc (dst), 0);
  rig_end (&r);
}

struct copier {
  struct farpage_object *src, *dst;
  uint64_t us;
};

static void *
copies (void *arg)
{
  struct copier *c = arg;
  uint64_t begin = net_now_us ();

  assert_int_equal (farpage_copy (c->src, c->dst, 0, FARPAGE_DESTROY), 0);
  c->us = net_now_us () - begin;
  return NULL;
}

/* It waits for both to be quiet; what is asked of the destination meanwhile
 * waits for it.
 */
static void
test_copy_waits (void **state)
{
  struct rig r = { .link = NULL };
  static struct wait w;
  struct copier c;
  pthread_t thread;
  void *addr[16];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, "delay wdelay=300ms", NULL));
  c.src = rig_make (&r, NULL, 16);
  c.dst = rig_make (&r, NULL, 16);
  rig_addrs (&r, addr, 0, 16, 1);
  for (unsigned i = 0; i < 16; i++)
    rig_fill (addr[i], 1, i, 0);
  wait_init (&w, 0, 16);
  assert_int_equal (farpage_aio_putpages (c.src, 0, 16, addr, 0, wait_page, &w),
                    0);
  pthread_create (&thread, NULL, copies, &c);
  net_sleep_ms (50);
  rig_check (&r);
  rig_assert_has (&r, c.dst, 3, 1, 3, 0); /* after the copy */
  pthread_join (thread, NULL);
  assert_true (c.us > 200000);
  wait_all (&w);
  assert_int_equal (nr_used (&r), 16);
  assert_int_equal (farpage_dealloc (c.dst), 0);
  rig_end (&r);
}

/* ---- strategy ---- */

static void
test_strategy (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  uint8_t *data;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 4 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, 2000);
  data = malloc (1100 * PAGE);
  for (unsigned i = 0; i < 1100; i++)
    rig_fill (data + i * PAGE, 1, i, 0);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 1, PAGE, data), EINVAL);
  assert_int_equal (farpage_strategy (o, FARPAGE_WRITE, 0, 512, data), EINVAL);
  assert_int_equal (
      farpage_strategy (o, FARPAGE_READ, 1999 * PAGE, 2 * PAGE, data), EINVAL);
  assert_int_equal (farpage_strategy (o, (enum farpage_command) 9, 0, 0, data),
                    EINVAL);
  assert_int_equal (
      farpage_strategy (o, FARPAGE_WRITE, 5 * PAGE, 700 * PAGE, data), 0);
  rig_check (&r);
  memset (data, 0xaa, 1100 * PAGE);
  assert_int_equal (
      farpage_strategy (o, FARPAGE_FREE, 300 * PAGE, 3 * PAGE, NULL), 0);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 0, 1000 * PAGE, data),
                    0);
  for (unsigned i = 0; i < 1000; i++)
    if (i >= 5 && i < 705 && (i < 300 || i >= 303))
      assert_true (rig_is (data + i * PAGE, 1, i - 5, 0));
    else
      assert_true (data[i * PAGE] == 0 &&
                   memcmp (data + i * PAGE, data + i * PAGE + 1, PAGE - 1) ==
                       0);
  assert_int_equal (data[1000 * PAGE], 0xaa);
  /* There are 1023 blocks. */
  assert_int_equal (farpage_strategy (o, FARPAGE_WRITE, 0, 1100 * PAGE, data),
                    ENOSPC);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 0, 0, NULL), 0);
  rig_check (&r);
  free (data);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_strategy_errors (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  uint8_t *data = calloc (200, PAGE);

  (void) state;
  rig_start_failing (&r, 4 * MIB, "pread");
  o = rig_make (&r, NULL, 200);
  assert_int_equal (rig_put (&r, o, 1, 50, 100, 0), FARPAGE_OK);
  rig_fail (&r, true);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 0, 200 * PAGE, data),
                    EIO);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 0, 50 * PAGE, data), 0);
  rig_fail (&r, false);
  assert_int_equal (farpage_strategy (o, FARPAGE_READ, 0, 200 * PAGE, data), 0);
  assert_true (rig_is (data + 50 * PAGE, 1, 50, 0));
  free (data);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- who has the export ---- */

static char
    heard[1024]; /* the log of open_another (), on two threads in turn */

static void
hear (void *arg, int priority, const char *line)
{
  size_t len = strlen (heard);

  (void) arg;
  snprintf (heard + len, sizeof heard - len, "<%d>%s\n", priority, line);
}

static int
open_another (struct rig *r, bool takeover)
{
  struct farpage_options o;
  struct farpage_link *link;
  struct farpage_swap *swap;
  char uri[300];
  int err;

  rig_options (r, &o);
  o.takeover = takeover;
  o.log = hear;
  heard[0] = '\0';
  server_uri (&r->server, uri, sizeof uri);
  assert_int_equal (farpage_link_open (uri, &o, &link), 0);
  err = farpage_swap_open (link, &swap);
  if (!err)
    assert_int_equal (farpage_swap_close (swap), 0);
  assert_int_equal (farpage_link_close (link), 0);
  return err;
}

/* A second one is refused while the first is alive; if he takes it all the
 * same, the first has lost.
 */
static void
test_two (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  char who[100];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  o = rig_make (&r, NULL, 10);
  assert_int_equal (rig_put (&r, o, 1, 0, 10, 0), FARPAGE_OK);
  assert_int_equal (open_another (&r, false), EBUSY);
  snprintf (who, sizeof who, "<3>swap: the export is in use by process %ld on",
            (long) getpid ());
  assert_non_null (strstr (heard, who));
  rig_assert_has (&r, o, 0, 1, 0, 0);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 0);
  assert_int_equal (open_another (&r, true), 0);
  for (unsigned i = 0; i < 50; i++)
    if (atomic_load (&r.events[FARPAGE_LOST]) == 0)
      net_sleep_ms (100);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 1);
  assert_int_equal (rig_get (&r, o, 0), FARPAGE_ERROR);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
write_block (struct rig *r, const void *block)
{
  char image[200];
  int fd;

  (void) r;
  snprintf (image, sizeof image, "%s/image", net_dir ());
  fd = open (image, O_WRONLY);
  assert_true (fd >= 0);
  assert_int_equal (pwrite (fd, block, STAMP_BYTES, 0), STAMP_BYTES);
  close (fd);
}

static void
test_stamps (void **state)
{
  struct rig r = { .link = NULL };
  uint8_t block[STAMP_BYTES] = { 0 };
  struct stamp st;
  uint64_t begin;

  (void) state;
  assert_true (server_start (&r.server, SERVER_FILE, MIB, NULL));
  memcpy (block + 1080, "\x53\xef", 2); /* ext2's magic */
  write_block (&r, block);
  assert_int_equal (open_another (&r, false), EEXIST);
  assert_non_null (strstr (heard, "<3>swap: the export holds something else"));
  assert_int_equal (open_another (&r, true), 0);
  assert_int_equal (open_another (&r, false), 0); /* it was closed */
  stamp_init (&st, 256);                          /* of one who died */
  stamp_write (&st, block);
  write_block (&r, block);
  begin = net_now_us ();
  assert_int_equal (open_another (&r, false), 0);
  assert_true (net_now_us () - begin >= STAMP_LOOKS * STAMP_LOOK_US);
  assert_non_null (strstr (heard, "did not close the export"));
  server_kill (&r.server);
  assert_true (server_start (&r.server, SERVER_FILE, 63 * PAGE, NULL));
  assert_int_equal (open_another (&r, false), ENOSPC);
  server_kill (&r.server);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_names),    cmocka_unit_test (test_dealloc_waits),
    cmocka_unit_test (test_haspage),  cmocka_unit_test (test_reserve),
    cmocka_unit_test (test_copy),     cmocka_unit_test (test_copy_waits),
    cmocka_unit_test (test_strategy), cmocka_unit_test (test_strategy_errors),
    cmocka_unit_test (test_two),      cmocka_unit_test (test_stamps),
  };

  return NET_RUN (tests);
}
