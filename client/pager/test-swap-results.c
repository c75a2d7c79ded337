/* SPDX-License-Identifier: BSD-2-Clause */
/* Every result that farpage.h names, and the test that reaches it.
 *
 *   get   OK, BAD, FAIL, AGAIN   test-swap.c put_and_get
 *         ERROR                  test-swap-errors.c, test-swap-late.c; after a
 *                                loss test-swap-restart.c
 *   put   OK, BAD                test-swap.c put_and_get
 *         FAIL                   test-swap.c test_full
 *         AGAIN                  test-swap-calls.c test_pending, and for want
 *                                of memory test-swap-oom.c, test-swap-limits.c
 *         ERROR                  test-swap-errors.c (write, flush),
 *                                test-swap-late.c (deadline)
 *   PEND  is never told: test_pending here
 *
 *   EINVAL    here test_open_refuses; test-swap.c test_arguments;
 *             test-swap-object.c test_strategy
 *   EROFS, EPROTO, ECONNREFUSED, ENOENT, ETIMEDOUT
 *             of a link's opening: here test_open_fails
 *   EACCES    here test_no_access; TLS: test-swap-tls.c
 *   EBUSY     test-swap.c test_arguments (what is still open);
 *             test-swap-object.c test_two, test-swap-two.c (another process)
 *   EEXIST    test-swap-object.c test_stamps, test_names
 *   ENOSPC    test-swap-object.c test_stamps, test_reserve, test_strategy
 *   ENOMEM    test-swap-oom.c; test-swap-limits.c test_maps_full
 *   EFBIG     test-swap.c test_arguments
 *   EAGAIN    test-swap-calls.c test_many
 *   EIO       test-swap-object.c test_strategy_errors
 *   EDEADLK   here test_on_loop
 *
 * Events: DISCONNECTED, CONNECTED, LOST test-swap-loss.c, test-swap-restart.c;
 * ALMOST_FULL, FULL, ROOM test-swap.c test_full.
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
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake-nbd.h"
#include "test-rig.h"

/* ---- a link's opening ---- */

static int
open_link (const char *uri, const struct farpage_options *options)
{
  struct farpage_link *const before = (struct farpage_link *) &before;
  struct farpage_link *link = before;
  int err = farpage_link_open (uri, options, &link);

  if (err == 0)
    farpage_link_close (link);
  else
    assert_ptr_equal (link, before); /* untouched */
  return err;
}

static void
test_open_refuses (void **state)
{
  const char *const uris[] = {
    "", "nbd", "http://a/", "nbd+ssh://a/", "nbd+vsock://1/", "nbd+unix://"
  };
  struct farpage_options good, o;

  (void) state;
  farpage_options_init (&good);
  assert_int_equal (open_link (NULL, &good), EINVAL);
  for (unsigned i = 0; i < sizeof uris / sizeof uris[0]; i++)
    assert_int_equal (open_link (uris[i], &good), EINVAL);
  o = good, o.struct_bytes = 0;
  assert_int_equal (open_link ("nbd://a/", &o), EINVAL);
  o = good, o.struct_bytes = sizeof o + 8;
  assert_int_equal (open_link ("nbd://a/", &o), EINVAL);
  o = good, o.cluster_pages = 0;
  assert_int_equal (open_link ("nbd://a/", &o), EINVAL);
  o = good, o.cluster_pages = FARPAGE_CLUSTER_MAX + 1;
  assert_int_equal (open_link ("nbd://a/", &o), EINVAL);
  o = good, o.connections = 17;
  assert_int_equal (open_link ("nbd://a/", &o), EINVAL);
}

static void
fake_uri (char *uri, size_t len, char *path, size_t path_len)
{
  snprintf (path, path_len, "%s/fake", net_dir ());
  snprintf (uri, len, "nbd+unix:///n?socket=%s", path);
}

static void
test_open_fails (void **state)
{
  struct farpage_options o;
  struct farpage_link *link;
  struct farpage_swap *swap;
  static struct fake fake;
  char uri[256], path[100];

  (void) state;
  fake_uri (uri, sizeof uri, path, sizeof path);
  farpage_options_init (&o);
  assert_int_equal (open_link (uri, &o), ENOENT);
  assert_int_equal (open_link ("nbd://127.0.0.1:1/", &o), ECONNREFUSED);
  fake_init (&fake, path);
  fake.flags |= 2; /* read-only */
  fake_begin (&fake);
  assert_int_equal (open_link (uri, &o), EROFS);
  fake_end (&fake);
  fake_init (&fake, path);
  fake.block[0] = 8192, fake.block[1] = 8192, fake.block[2] = 65536;
  fake.size += 4096; /* half of a block */
  fake_begin (&fake);
  assert_int_equal (open_link (uri, &o), EPROTO);
  fake_end (&fake);
  fake_init (&fake, path);
  fake.block[0] = 8192, fake.block[1] = 8192, fake.block[2] = 65536;
  fake_begin (&fake);
  assert_int_equal (farpage_link_open (uri, &o, &link), 0);
  assert_int_equal (farpage_swap_open (link, &swap), EPROTO);
  assert_int_equal (farpage_link_close (link), 0);
  fake_end (&fake);
  fake_init (&fake, path);
  fake_begin (&fake);
  pthread_mutex_lock (&fake.mutex); /* it says nothing */
  o.deadline_us = 300000;
  assert_int_equal (open_link (uri, &o), ETIMEDOUT);
  pthread_mutex_unlock (&fake.mutex);
  fake_end (&fake);
}

static void
test_no_access (void **state)
{
  char uri[256], path[100];
  static struct fake fake;

  (void) state;
  fake_uri (uri, sizeof uri, path, sizeof path);
  fake_init (&fake, path);
  fake_begin (&fake);
  assert_int_equal (chmod (path, 0), 0);
  setfsuid (65534); /* root may do all; the loop's thread is as we are */
  assert_int_equal (open_link (uri, NULL), EACCES);
  setfsuid (geteuid ());
  fake_end (&fake);
}

/* ---- calls ---- */

/* What each page of a call was told, as bits. */
static unsigned told[16];
static atomic_uint nr_told;

static void
on_page (void *arg, uint64_t page, enum farpage_result result)
{
  (void) arg;
  told[page] |= 1u << result;
  atomic_fetch_add (&nr_told, 1);
}

/* Each page is told once, and never that it is under way. */
static void
test_pending (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  void *addr[16];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, "delay wdelay=50ms", NULL));
  o = rig_make (&r, NULL, 16);
  rig_addrs (&r, addr, 0, 16, 1);
  assert_int_equal (farpage_aio_putpages (o, 0, 16, addr, 0, on_page, NULL), 0);
  while (atomic_load (&nr_told) < 16)
    net_sleep_ms (1);
  assert_int_equal (farpage_aio_getpages (o, 0, 16, 5, addr, 0, on_page, NULL),
                    0);
  while (atomic_load (&nr_told) < 32)
    net_sleep_ms (1);
  assert_int_equal (farpage_dealloc (o), 0);
  assert_int_equal (atomic_load (&nr_told), 32);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (told[i], 1u << FARPAGE_OK);
  rig_end (&r);
}

struct calls {
  struct rig *rig;
  struct farpage_object *o, *other;
  int result[12];
  unsigned nr;
  struct farpage_stat st;
  int stat, max;
  sem_t done;
};

static void
say (struct calls *c, int result)
{
  c->result[c->nr++] = result;
}

/* On the loop's thread: all that blocks. */
static void
all_calls (void *arg, uint64_t page, enum farpage_result ignored)
{
  struct calls *c = arg;
  struct rig *r = c->rig;
  enum farpage_result result;
  struct farpage_swap *swap = NULL;
  struct farpage_object *none = NULL;
  void *addr[1] = { r->mem };

  (void) page;
  (void) ignored;
  say (c, farpage_getpages (c->o, 0, 1, 0, addr, &result));
  say (c, farpage_putpages (c->o, 0, 1, addr, &result));
  say (c, farpage_alloc (r->swap, NULL, 0, PAGE, &none));
  say (c, farpage_dealloc (c->o));
  say (c, farpage_reserve (c->o, 0, 1));
  say (c, farpage_copy (c->o, c->other, 0, 0));
  say (c, farpage_strategy (c->o, FARPAGE_READ, 0, PAGE, r->mem));
  say (c, farpage_swap_open (r->link, &swap));
  say (c, farpage_swap_close (r->swap));
  say (c, farpage_link_close (r->link));
  /* These do not block for long. */
  c->stat = farpage_stat (r->link, &c->st, sizeof c->st);
  c->max = farpage_set_async_max (r->link, 8);
  sem_post (&c->done);
}

static void
test_on_loop (void **state)
{
  struct rig r = { .link = NULL };
  static struct calls c;
  void *addr[1];

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, MIB, NULL, NULL));
  c.rig = &r;
  c.o = rig_make (&r, NULL, 10);
  c.other = rig_make (&r, NULL, 10);
  sem_init (&c.done, 0, 0);
  rig_addrs (&r, addr, 5, 1, 1);
  assert_int_equal (farpage_aio_getpages (c.o, 0, 1, 0, addr, 0, all_calls, &c),
                    0);
  while (sem_wait (&c.done) == -1)
    ;
  assert_int_equal (c.nr, 10);
  for (unsigned i = 0; i < c.nr; i++)
    assert_int_equal (c.result[i], EDEADLK);
  assert_int_equal (c.stat, 0);
  assert_int_equal (c.max, 0);
  assert_int_equal (c.st.objects, 2);
  assert_int_equal (farpage_stat (r.link, &c.st, 0), EINVAL);
  sem_destroy (&c.done);
  assert_int_equal (farpage_dealloc (c.o), 0);
  assert_int_equal (farpage_dealloc (c.other), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_open_refuses), cmocka_unit_test (test_open_fails),
    cmocka_unit_test (test_no_access),    cmocka_unit_test (test_pending),
    cmocka_unit_test (test_on_loop),
  };

  return NET_RUN (tests);
}
