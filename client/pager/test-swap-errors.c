/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager over nbdkit whose error filter fails one kind of request: what
 * comes of reads, writes, trims and flushes that end with EIO, ENOSPC or
 * ESHUTDOWN, as farpage(3) says.
 *
 *                EIO, ENOSPC                              ESHUTDOWN
 *   read         once more, alone; then ERROR             as if the connection
 *   write        the run is never used again; elsewhere,  were lost: all goes
 *                then ERROR, and the page is as before    again, and is OK when
 *   trim         what was freed is free                   the server is well;
 *   flush        as a write, for all that waits for it    else ERROR at the
 *   zero         (the link's alone) the error             deadline
 *
 * The filter (1.32) has nothing for flushes; there it is a script of ours for
 * nbdkit's sh plugin.
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-rig.h"

/* Each connection that is lost takes blocks away for good: there are enough. */
#define SIZE (64 * MIB)

static const char *const kinds[] = { "pread", "pwrite", "trim", "zero" };
static const struct {
  const char *name;
  int error;
} errors[] = { { "EIO", EIO }, { "ENOSPC", ENOSPC } };

/* Does it fail now?  What is in the file is for the script. */
static void
set_failing (const char *kind, const char *error)
{
  char path[200];
  FILE *f;

  snprintf (path, sizeof path, "%s/fail-%s", net_dir (), kind);
  if (error == NULL) {
    unlink (path);
    return;
  }
  f = fopen (path, "w");
  assert_non_null (f);
  fprintf (f, "%s\n", error);
  fclose (f);
}

/* nbdkit memory whose requests of each kind fail while set_failing () says so.
 */
static void
start (struct rig *r, const char *error, const struct farpage_options *options)
{
  static char filter[1000];
  size_t len = (size_t) snprintf (filter, sizeof filter, "error");

  for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    const char *k = kinds[i];

    set_failing (k, NULL);
    len += (size_t) snprintf (
        filter + len, sizeof filter - len,
        " error-%s=%s error-%s-rate=100%% error-%s-file=%s/fail-%s", k, error,
        k, k, net_dir (), k);
  }
  assert_true (len < sizeof filter);
  assert_true (rig_start (r, SERVER_MEMORY, SIZE, filter, options));
}

static uint64_t
nr_retired (struct rig *r)
{
  struct farpage_stat st;

  rig_check (r);
  rig_stat (r, &st);
  return st.blocks_retired;
}

static int
zero (struct rig *r)
{
  struct link *l = atomic_load (&r->link->link);

  return io_do (l, REQUEST_ZERO, POOL_ADMIN, 3 * MIB, NULL, 65536);
}

/* ---- EIO, ENOSPC ---- */

static void
reads_fail (struct rig *r, struct farpage_object *o, const char *error)
{
  enum farpage_result results[16];
  struct farpage_stat before, after;
  void *addr[16];

  assert_int_equal (rig_put (r, o, 1, 0, 16, 1), FARPAGE_OK);
  rig_stat (r, &before);
  set_failing ("pread", error);
  rig_addrs (r, addr, 0, 16, 1);
  assert_int_equal (farpage_getpages (o, 0, 16, 3, addr, results), 0);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (results[i], i == 3 ? FARPAGE_ERROR : FARPAGE_AGAIN);
  rig_stat (r, &after);
  assert_true (after.pages_failed - before.pages_failed == 1);
  set_failing ("pread", NULL);
  for (unsigned i = 0; i < 16; i++)
    rig_assert_has (r, o, i, 1, i, 1);
}

static void
writes_fail (struct rig *r, struct farpage_object *o, const char *error)
{
  const uint64_t before = nr_retired (r);
  uint8_t *data = r->mem;

  assert_int_equal (rig_put (r, o, 1, 0, 8, 2), FARPAGE_OK);
  set_failing ("pwrite", error);
  assert_int_equal (rig_put (r, o, 1, 4, 8, 3), FARPAGE_ERROR);
  assert_int_equal (nr_retired (r), before + 16);
  assert_int_equal (
      farpage_strategy (o, FARPAGE_WRITE, 40 * PAGE, 4 * PAGE, data), EIO);
  set_failing ("pwrite", NULL);
  assert_int_equal (nr_retired (r), before + 24);
  for (unsigned i = 0; i < 8; i++)
    rig_assert_has (r, o, i, 1, i, 2);
  assert_int_equal (rig_get (r, o, 40), FARPAGE_FAIL);
  assert_int_equal (rig_put (r, o, 1, 4, 8, 4), FARPAGE_OK);
  rig_assert_has (r, o, 11, 1, 11, 4);
  assert_int_equal (nr_retired (r), before + 24);
}

/* Until nothing waits and nothing is trimmed. */
static void
wait_trimmed (struct rig *r, struct farpage_stat *st)
{
  for (unsigned i = 0; i < 2000; i++) {
    rig_stat (r, st);
    if (st->blocks_trimming + st->blocks_waiting == 0)
      return;
    net_sleep_ms (5);
  }
  fail_msg ("trims do not end");
}

static void
trims_fail (struct rig *r, struct farpage_object *o, const char *error)
{
  struct farpage_stat before, after;

  assert_int_equal (farpage_freespace (o, 0, 512), 0);
  wait_trimmed (r, &before);
  assert_int_equal (rig_put (r, o, 1, 0, 512, 5), FARPAGE_OK);
  set_failing ("trim", error);
  assert_int_equal (farpage_freespace (o, 0, 512), 0);
  wait_trimmed (r, &after);
  set_failing ("trim", NULL);
  assert_true (after.errors > before.errors);
  assert_int_equal (after.blocks_free, before.blocks_free);
  assert_int_equal (after.blocks_retired, before.blocks_retired);
  assert_int_equal (after.blocks_limbo, 0);
}

static void
test_fails (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;

  (void) state;
  for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    start (&r, errors[i].name, NULL);
    o = rig_make (&r, NULL, 512);
    reads_fail (&r, o, errors[i].name);
    writes_fail (&r, o, errors[i].name);
    trims_fail (&r, o, errors[i].name);
    set_failing ("zero", errors[i].name);
    assert_int_equal (zero (&r), errors[i].error);
    set_failing ("zero", NULL);
    assert_int_equal (zero (&r), 0);
    assert_int_equal (atomic_load (&r.events[FARPAGE_DISCONNECTED]), 0);
    assert_int_equal (farpage_dealloc (o), 0);
    rig_end (&r);
  }
}

/* ---- ESHUTDOWN ---- */

struct healer {
  pthread_t thread;
  const char *kind;
  struct rig *rig;
};

/* Some connections later the server is well. */
static void *
heals (void *arg)
{
  struct healer *h = arg;
  struct farpage_stat before = { 0 }, now = { 0 };

  farpage_stat (h->rig->link, &before, sizeof before);
  for (unsigned i = 0; i < 2000 && now.reconnects < before.reconnects + 2;
       i++) {
    net_sleep_ms (5);
    farpage_stat (h->rig->link, &now, sizeof now);
  }
  set_failing (h->kind, NULL);
  return NULL;
}

static void
begin_healing (struct healer *h, struct rig *r, const char *kind)
{
  h->kind = kind;
  h->rig = r;
  set_failing (kind, "ESHUTDOWN");
  assert_int_equal (pthread_create (&h->thread, NULL, heals, h), 0);
}

static void
end_healing (struct healer *h)
{
  char path[200];

  pthread_join (h->thread, NULL);
  snprintf (path, sizeof path, "%s/fail-%s", net_dir (), h->kind);
  assert_int_equal (access (path, F_OK), -1);
}

/* A server that goes away, request by request, and is well again. */
static void
test_shutdown (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_stat st;
  struct healer h;

  (void) state;
  start (&r, "ESHUTDOWN", NULL);
  o = rig_make (&r, NULL, 512);
  begin_healing (&h, &r, "pwrite");
  assert_int_equal (rig_put (&r, o, 1, 0, 512, 1), FARPAGE_OK);
  end_healing (&h);
  begin_healing (&h, &r, "trim");
  assert_int_equal (farpage_freespace (o, 16, 400), 0);
  wait_trimmed (&r, &st);
  end_healing (&h);
  begin_healing (&h, &r, "zero");
  assert_int_equal (zero (&r), 0);
  end_healing (&h);
  for (unsigned i = 0; i < 16; i++)
    rig_assert_has (&r, o, i, 1, i, 1);
  wait_trimmed (&r, &st);
  assert_int_equal (st.blocks_retired, 0);
  assert_false (st.lost);
  assert_true (st.reconnects >= 6);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void *
heals_soon (void *arg)
{
  net_sleep_ms (400);
  set_failing (arg, NULL);
  return NULL;
}

static void
wait_connected (struct rig *r)
{
  struct farpage_stat st = { 0 };

  for (unsigned i = 0; i < 4000 && st.connections_up == 0; i++) {
    net_sleep_ms (5);
    rig_stat (r, &st);
  }
  assert_true (st.connections_up > 0);
}

/* The look at block 0 fails too, so nothing connects before the server is well;
 * and if it never is, the deadline ends it.
 */
static void
test_shutdown_reads (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_options options;
  struct farpage_object *o;
  pthread_t thread;

  (void) state;
  rig_options (&r, &options);
  options.deadline_us = 1500000;
  start (&r, "ESHUTDOWN", &options);
  o = rig_make (&r, NULL, 64);
  assert_int_equal (rig_put (&r, o, 1, 0, 64, 1), FARPAGE_OK);
  set_failing ("pread", "ESHUTDOWN");
  pthread_create (&thread, NULL, heals_soon, (void *) "pread");
  rig_assert_has (&r, o, 5, 1, 5, 1);
  pthread_join (thread, NULL);
  assert_true (atomic_load (&r.events[FARPAGE_DISCONNECTED]) > 0);
  set_failing ("pread", "ESHUTDOWN");
  assert_int_equal (rig_get (&r, o, 6), FARPAGE_ERROR);
  assert_int_equal (rig_put (&r, o, 1, 6, 1, 2), FARPAGE_ERROR);
  set_failing ("pread", NULL);
  wait_connected (&r);
  rig_assert_has (&r, o, 6, 1, 6, 1); /* it was not lost */
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- flushes ---- */

/* nbdkit sh, on the file that net_dir () has.  Under a new name first: the one
 * of the test before may just be executed, for a server that has ended.
 */
static void
write_script (uint64_t size)
{
  char path[200], new_path[200];
  FILE *f;

  snprintf (path, sizeof path, "%s/script", net_dir ());
  snprintf (new_path, sizeof new_path, "%s/script.new", net_dir ());
  f = fopen (new_path, "w");
  assert_non_null (f);
  fprintf (f,
           "#!/bin/sh\n"
           "image=%s/image fail=%s/fail-flush\n"
           "case $1 in\n"
           "get_size) echo %llu ;;\n"
           "can_write | can_flush) exit 0 ;;\n"
           "pread) dd if=$image bs=4096 skip=$4 count=$3 \\\n"
           "  iflag=skip_bytes,count_bytes status=none ;;\n"
           "pwrite) dd of=$image bs=1M seek=$4 oflag=seek_bytes \\\n"
           "  conv=notrunc status=none iflag=fullblock ;;\n"
           "flush) if [ -e $fail ]; then cat $fail >&2; exit 1; fi ;;\n"
           "*) exit 2 ;;\n"
           "esac\n",
           net_dir (), net_dir (), (unsigned long long) size);
  assert_int_equal (fchmod (fileno (f), 0700), 0);
  fclose (f);
  assert_int_equal (rename (new_path, path), 0);
}

/* What was answered and not flushed is not there, and is not tried again in
 * its place: the server may have thrown it away.
 */
static void
test_flush (void **state)
{
  struct rig r = { .link = NULL };
  static struct wait w;
  struct farpage_object *o;
  void *addr[8];

  (void) state;
  write_script (4 * MIB);
  set_failing ("flush", NULL);
  if (!rig_start (&r, SERVER_SCRIPT, 4 * MIB, NULL, NULL))
    skip ();
  o = rig_make (&r, NULL, 512);
  assert_int_equal (rig_put (&r, o, 1, 0, 8, 1), FARPAGE_OK);
  for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    const uint64_t before = nr_retired (&r);

    set_failing ("flush", errors[i].name);
    assert_int_equal (rig_put (&r, o, 1, 4, 8, 2), FARPAGE_ERROR);
    assert_int_equal (nr_retired (&r), before + 16);
    wait_init (&w, 100, 8); /* async: the flush comes by itself */
    rig_addrs (&r, addr, 20, 8, 1);
    assert_int_equal (farpage_aio_putpages (o, 100, 8, addr, 0, wait_page, &w),
                      0);
    wait_all (&w);
    for (unsigned k = 0; k < 8; k++)
      assert_int_equal (w.result[k], FARPAGE_ERROR);
    set_failing ("flush", NULL);
    for (unsigned k = 0; k < 8; k++)
      rig_assert_has (&r, o, k, 1, k, 1);
    assert_int_equal (rig_get (&r, o, 8), FARPAGE_FAIL);
    assert_int_equal (rig_get (&r, o, 100), FARPAGE_FAIL);
    assert_int_equal (nr_retired (&r), before + 32);
  }
  assert_int_equal (rig_put (&r, o, 1, 4, 8, 3), FARPAGE_OK);
  rig_assert_has (&r, o, 11, 1, 11, 3);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_flush_shutdown (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct healer h;

  (void) state;
  write_script (4 * MIB);
  set_failing ("flush", NULL);
  if (!rig_start (&r, SERVER_SCRIPT, 4 * MIB, NULL, NULL))
    skip ();
  o = rig_make (&r, NULL, 512);
  begin_healing (&h, &r, "flush");
  assert_int_equal (rig_put (&r, o, 1, 0, 40, 1), FARPAGE_OK);
  end_healing (&h);
  for (unsigned i = 0; i < 40; i++)
    rig_assert_has (&r, o, i, 1, i, 1);
  assert_int_equal (nr_retired (&r), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_fails),          cmocka_unit_test (test_shutdown),
    cmocka_unit_test (test_shutdown_reads), cmocka_unit_test (test_flush),
    cmocka_unit_test (test_flush_shutdown),
  };

  return NET_RUN (tests);
}
