/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager and a server that says no: to a read, a write, a flush, zeros,
 * a question about holes, or says about these what cannot be.  An error is of
 * the page that has it and of no other, a write that failed is dirty and is
 * written when it can be, and whoever has to wait for that is told.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake-nbd.h"
#include "test-file-rig.h"

#define BAD 5u /* a page */

static struct fake fake;
static struct file_rig rig;

static void
start_as (unsigned pages)
{
  const struct file_rig_how how = { .pages = pages };
  char uri[200];

  memset (&rig, 0, sizeof rig);
  snprintf (uri, sizeof uri, "nbd+unix:///n?socket=%s", fake.path);
  fake_begin (&fake);
  for (unsigned i = 0; i < 256; i++)
    rig_fill (fake.data + i * PAGE, 1, i, 1);
  file_rig_open (&rig, uri, &how);
}

static int
setup (void **state)
{
  char path[100];

  (void) state;
  snprintf (path, sizeof path, "%s/fake", net_dir ());
  fake_init (&fake, path);
  return 0;
}

static void
end (int result)
{
  file_rig_close (&rig, result);
  fake_end (&fake);
}

static void
be_bad (unsigned page, int error)
{
  fake_bad (&fake, page * PAGE + 512, page * PAGE + 513, (uint32_t) error);
}

static void
be_well (void)
{
  fake_bad (&fake, 0, 0, 0);
}

static bool
server_has (unsigned page, uint64_t version)
{
  bool has;

  pthread_mutex_lock (&fake.mutex);
  has = rig_is (fake.data + page * PAGE, 1, page, version);
  pthread_mutex_unlock (&fake.mutex);
  return has;
}

/* ---- reads ---- */

static void
get_all (enum farpage_result bad)
{
  enum farpage_result results[16];
  static struct wait w;

  wait_init (&w, 0, 16);
  assert_int_equal (
      farpage_file_aio_getpages (rig.file, 0, 16, 0, 8, wait_page, &w), 0);
  wait_all (&w);
  assert_int_equal (
      farpage_file_getpages (rig.file, 0, 16, NULL, NULL, results), 0);
  for (unsigned i = 0; i < 16; i++) {
    assert_int_equal (w.result[i], i == BAD ? bad : FARPAGE_OK);
    assert_int_equal (results[i], i == BAD ? bad : FARPAGE_OK);
  }
}

static void
test_read (void **state)
{
  static const int errors[] = { EPERM, EIO, ENOMEM, EINVAL, ENOSPC };
  uint8_t data[4 * PAGE];
  size_t done;

  (void) state;
  start_as (64);
  be_bad (BAD, EIO);
  get_all (FARPAGE_ERROR);
  for (unsigned i = 0; i < 5; i++) {
    be_bad (BAD, errors[i]);
    assert_int_equal (file_rig_get (&rig, BAD, 1), errors[i]);
    /* and half of a page, which has to be read for it */
    assert_int_equal (
        farpage_file_pwrite (rig.file, data, 100, BAD * PAGE + 300, NULL),
        errors[i]);
  }
  assert_int_equal (file_rig_get (&rig, BAD - 1, 1), 0);
  assert_int_equal (file_rig_get (&rig, BAD + 1, 1), 0);
  assert_int_equal (farpage_file_pread (rig.file, data, sizeof data,
                                        (BAD - 2) * PAGE + 9, &done),
                    0);
  assert_int_equal (done, 2 * PAGE - 9);
  file_rig_check (&rig);
  be_well ();
  get_all (FARPAGE_OK);
  assert_int_equal (file_rig_get (&rig, BAD, 1), 0);
  end (0);
}

/* ---- writes ---- */

static void
put_pages (unsigned first, unsigned nr, uint64_t version)
{
  for (unsigned i = first; i < first + nr; i++)
    assert_int_equal (file_rig_put (&rig, i, version), 0);
}

/* It fails for as long as the server does, and has no other page fail. */
static void
test_write (void **state)
{
  enum farpage_result results[16];

  (void) state;
  start_as (64);
  be_bad (BAD, ENOSPC);
  put_pages (0, 16, 2);
  assert_int_equal (farpage_file_sync (rig.file), ENOSPC);
  assert_true (atomic_load (&rig.nr_lines) > 0);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (server_has (i, i == BAD ? 1 : 2), true);
  assert_int_equal (farpage_file_sync (rig.file), ENOSPC);
  assert_int_equal (
      farpage_file_putpages (rig.file, 0, 16, FARPAGE_SYNC, results), 0);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (results[i], i == BAD ? FARPAGE_ERROR : FARPAGE_OK);
  assert_int_equal (
      farpage_file_putpages (rig.file, 0, 16, FARPAGE_INVAL, results), 0);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (results[i], i == BAD ? FARPAGE_ERROR : FARPAGE_OK);
  assert_int_equal (file_rig_get (&rig, BAD, 2), 0); /* is dirty */
  net_sleep_ms (1200); /* fails once more, in the background */
  be_well ();
  assert_int_equal (farpage_file_sync (rig.file), 0);
  assert_true (server_has (BAD, 2));
  assert_int_equal (farpage_file_sync (rig.file), 0);
  put_pages (0, 16, 3); /* together again */
  assert_int_equal (farpage_file_sync (rig.file), 0);
  end (0);
}

static void
test_write_again (void **state)
{
  (void) state;
  start_as (64);
  be_bad (BAD, EIO);
  put_pages (0, 16, 2);
  assert_int_equal (farpage_file_sync (rig.file), EIO);
  put_pages (BAD, 1, 3);
  be_well ();
  for (unsigned i = 0; i < 3000 && !server_has (BAD, 3); i++)
    net_sleep_ms (1); /* by itself */
  assert_true (server_has (BAD, 3));
  assert_int_equal (farpage_file_sync (rig.file), 0);
  end (0);
}

static void *
sync_it (void *arg)
{
  *(int *) arg = farpage_file_sync (rig.file);
  return NULL;
}

/* Two who sync at once are both told. */
static void
test_two_syncs (void **state)
{
  pthread_t thread[2];
  int error[2] = { 0, 0 };

  (void) state;
  start_as (64);
  put_pages (BAD, 1, 2);
  be_bad (BAD, EIO);
  fake_rule (&fake, FAKE_WRITE, FAKE_HOLD, 0, 0, 0);
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal (pthread_create (&thread[i], NULL, sync_it, &error[i]), 0);
  net_sleep_ms (150);
  fake_release (&fake);
  for (unsigned i = 0; i < 2; i++)
    file_rig_join (thread[i]);
  assert_int_equal (error[0], EIO);
  assert_int_equal (error[1], EIO);
  be_well ();
  end (0);
}

/* What a flush that failed should have covered is not known to be there. */
static void
test_flush (void **state)
{
  unsigned nr;

  (void) state;
  start_as (64);
  put_pages (BAD, 1, 2);
  fake_rule (&fake, FAKE_FLUSH, FAKE_ERROR, EIO, 0, 1);
  assert_int_equal (farpage_file_sync (rig.file), EIO);
  nr = fake_count (&fake, FAKE_WRITE);
  assert_int_equal (farpage_file_sync (rig.file), 0);
  assert_true (fake_count (&fake, FAKE_WRITE) > nr);
  put_pages (0, 16, 3); /* a row: each is tried by itself, which goes well */
  fake_rule (&fake, FAKE_FLUSH, FAKE_ERROR, EIO, 0, 1);
  nr = fake_count (&fake, FAKE_WRITE);
  assert_int_equal (farpage_file_sync (rig.file), 0);
  assert_true (fake_count (&fake, FAKE_WRITE) >= nr + 17);
  end (0);
}

/* A block of the server has to be read before a part of it is written. */
static void
test_merge (void **state)
{
  uint8_t data[512];

  (void) state;
  fake.block[0] = fake.block[1] = 65536;
  fake.block[2] = 1u << 20;
  start_as (64);
  memset (data, 0x55, sizeof data);
  fake_rule (&fake, FAKE_READ, FAKE_ERROR, EIO, 0, 0);
  assert_int_equal (farpage_file_pwrite (rig.file, data, 512, BAD * PAGE, NULL),
                    0);
  assert_int_equal (farpage_file_sync (rig.file), EIO);
  assert_true (server_has (BAD, 1));
  assert_int_equal (farpage_file_sync (rig.file), EIO);
  fake_rule (&fake, FAKE_READ, FAKE_ANSWER, 0, 0, 0);
  assert_int_equal (farpage_file_sync (rig.file), 0);
  assert_memory_equal (fake.data + BAD * PAGE, data, 512);
  for (unsigned i = 0; i < 16; i++)
    assert_true (i == BAD || server_has (i, 1));
  end (0);
}

/* ---- the end ---- */

/* It is as long as it was, and the next try is one. */
static void
test_zero (void **state)
{
  struct file_rig_how how = { .kind = SERVER_MEMORY,
                              .size = 4 * MIB,
                              .pages = 64 };
  char toggle[200], filter[400];
  struct file_rig r;

  (void) state;
  snprintf (toggle, sizeof toggle, "%s/fail", net_dir ());
  snprintf (filter, sizeof filter,
            "error error-zero=ENOSPC error-zero-rate=100%% error-zero-file=%s",
            toggle);
  how.filter = filter;
  assert_true (file_rig_start (&r, &how));
  for (unsigned i = 0; i < 100; i++)
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  assert_int_equal (farpage_file_sync (r.file), 0);
  fclose (fopen (toggle, "w"));
  assert_int_equal (farpage_file_setsize (r.file, 10 * PAGE), ENOSPC);
  assert_int_equal (farpage_file_size (r.file), 4 * MIB);
  assert_int_equal (farpage_file_setsize (r.file, 10 * PAGE), ENOSPC);
  unlink (toggle);
  assert_int_equal (farpage_file_setsize (r.file, 10 * PAGE), 0);
  assert_int_equal (farpage_file_size (r.file), 10 * PAGE);
  assert_int_equal (farpage_file_setsize (r.file, 4 * MIB), 0);
  for (unsigned i = 0; i < 100; i++)
    assert_int_equal (file_rig_get (&r, i, i < 10), 0);
  file_rig_end (&r, 0);
}

/* ---- what cannot be written fills the cache ---- */

/* Who needs room is told, and does not sleep; what is there can be had. */
static void
test_full (void **state)
{
  enum farpage_result results[4];
  static struct wait w;
  unsigned nr = 0;
  int err = 0;

  (void) state;
  start_as (64);
  fake_bad (&fake, 0, UINT64_MAX, ENOSPC);
  while (err == 0 && nr < 200)
    err = file_rig_put (&rig, nr++, 2);
  assert_int_equal (err, ENOSPC);
  nr--;
  assert_true (nr >= 32 && nr <= 64);
  for (unsigned i = 0; i < nr; i++)
    assert_int_equal (file_rig_get (&rig, i, 2), 0);
  fake_bad (&fake, 0, 200 * PAGE, ENOSPC);
  assert_int_equal (file_rig_get (&rig, 250, 1), ENOSPC);
  assert_int_equal (
      farpage_file_getpages (rig.file, 240, 4, NULL, NULL, results), 0);
  wait_init (&w, 240, 4);
  assert_int_equal (
      farpage_file_aio_getpages (rig.file, 240, 4, 0, 0, wait_page, &w), 0);
  wait_all (&w);
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal (results[i], FARPAGE_ERROR);
    assert_int_equal (w.result[i], FARPAGE_ERROR);
  }
  file_rig_check (&rig);
  be_well ();
  (void) farpage_file_sync (rig.file); /* of what was under way, maybe */
  assert_int_equal (farpage_file_sync (rig.file), 0);
  for (unsigned i = 0; i < 250; i++)
    assert_int_equal (file_rig_get (&rig, i, i < nr ? 2 : 1), 0);
  end (0);
}

static void
be_slow (struct ev_loop *ev, ev_prepare *w, int revents)
{
  (void) ev;
  (void) w;
  (void) revents;
  net_sleep_ms (2);
}

/* The timer is due in each turn, and before what was posted meanwhile. */
static void
hurry_tidy (void *arg)
{
  struct farpage_file *f = rig.file;
  struct ev_loop *ev = loop_ev (f->loop);

  ev_timer_stop (ev, &f->tidy);
  ev_timer_set (&f->tidy, 0.0001, 0.0001);
  ev_timer_start (ev, &f->tidy);
  ev_prepare_init ((ev_prepare *) arg, be_slow);
  ev_prepare_start (ev, arg);
}

static void
stop_slow (void *arg)
{
  ev_prepare_stop (loop_ev (rig.link->loop), arg);
}

/* A file that is closed with dirty pages is not written to after it. */
static void
test_close (void **state)
{
  ev_prepare slow;

  (void) state;
  for (unsigned i = 0; i < 25; i++) {
    unsigned nr;

    setup (NULL);
    start_as (64);
    be_bad (BAD, EIO);
    put_pages (0, 16, 2);
    assert_int_equal (loop_call (rig.link->loop, hurry_tidy, &slow), 0);
    atomic_store (&rig.asked, NULL);
    assert_int_equal (farpage_file_close (rig.file), EIO);
    nr = fake_count (&fake, FAKE_WRITE);
    assert_int_equal (loop_call (rig.link->loop, stop_slow, &slow), 0);
    net_sleep_ms (5);
    assert_int_equal (fake_count (&fake, FAKE_WRITE), nr);
    assert_int_equal (farpage_link_close (rig.link), 0);
    fake_end (&fake);
  }
}

/* ---- holes ---- */

/* Pages [0, 16) are data, [16, 32) a hole, and of the rest nobody knows; from
 * where it is asked, for the fake says the same wherever that is.
 */
static void
check_map (bool known)
{
  unsigned before = 99, after = 99;

  assert_true (farpage_file_haspage (rig.file, 0, NULL, NULL)); /* asks */
  assert_true (farpage_file_haspage (rig.file, 3, &before, &after));
  assert_int_equal (before, 3);
  assert_int_equal (after, known ? 12 : 4092);
  assert_true (farpage_file_haspage (rig.file, 20, NULL, NULL) != known);
  assert_true (farpage_file_haspage (rig.file, 40, &before, &after));
  assert_true (after <= 4095 - 40);
  assert_false (farpage_file_haspage (rig.file, 4096, NULL, NULL));
  assert_int_equal (file_rig_get (&rig, 3, 1), 0);
  assert_int_equal (file_rig_get (&rig, 20, !known), 0);
  for (unsigned i = 32; i < 56; i++)
    assert_int_equal (file_rig_get (&rig, i, 1), 0);
  file_rig_check (&rig);
}

static void
map_is (unsigned nr, uint32_t last, bool fails, bool known)
{
  const uint32_t extents[] = { 65536, 0, 65536, 3, last, 3 };

  setup (NULL);
  memcpy (fake.extents, extents, sizeof extents);
  fake.nr_extents = nr;
  start_as (256);
  if (fails)
    fake_rule (&fake, FAKE_STATUS, FAKE_ERROR, EIO, 0, 0);
  check_map (known);
  end (0);
}

static void
test_map (void **state)
{
  (void) state;
  map_is (4, 0, false, true); /* short */
  map_is (6, 0, false, true); /* one of no bytes */
  map_is (4, 0, true, false); /* an error */
  map_is (0, 0, false, false);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup (test_read, setup),
    cmocka_unit_test_setup (test_write, setup),
    cmocka_unit_test_setup (test_write_again, setup),
    cmocka_unit_test_setup (test_two_syncs, setup),
    cmocka_unit_test_setup (test_flush, setup),
    cmocka_unit_test_setup (test_merge, setup),
    cmocka_unit_test (test_zero),
    cmocka_unit_test_setup (test_full, setup),
    cmocka_unit_test (test_close),
    cmocka_unit_test (test_map),
  };

  return NET_RUN (tests);
}
