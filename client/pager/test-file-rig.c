/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of the file pager; see test-file-rig.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "test-file-rig.h"
#include "test-util.h"

#define JOIN_S 60

static void
on_event (void *arg, enum farpage_event event)
{
  struct file_rig *r = arg;

  atomic_fetch_add (&r->events[event], 1);
}

static void
on_line (void *arg, int priority, const char *line)
{
  struct file_rig *r = arg;
  struct farpage_file *f = atomic_load (&r->asked);

  if (f != NULL)
    (void) farpage_file_size (f);
  atomic_fetch_add (&r->nr_lines, 1);
  if (getenv ("FARPAGE_TEST_LOG") != NULL)
    fprintf (stderr, "<%d> %s\n", priority, line);
}

void
file_rig_open (struct file_rig *r, const char *uri,
               const struct file_rig_how *how)
{
  struct farpage_options o;
  struct farpage_file_options fo;
  int err;

  farpage_options_init (&o);
  o.deadline_us = how->deadline_us != 0 ? how->deadline_us : 20000000;
  r->unit = how->unit != 0 ? how->unit : PAGE;
  if (how->cluster_pages != 0)
    o.cluster_pages = how->cluster_pages;
  o.event = on_event;
  o.log = on_line;
  o.arg = r;
  err = farpage_link_open (uri, &o, &r->link);
  if (err)
    fail_msg ("%s: %s", uri, strerror (err));
  farpage_file_options_init (&fo);
  fo.cache_bytes = (uint64_t) how->pages * PAGE;
  fo.reconnect_unverified = how->unverified;
  err = farpage_file_open (r->link, &fo, &r->file);
  if (err)
    fail_msg ("file on %s: %s", uri, strerror (err));
  atomic_store (&r->asked, r->file);
}

bool
file_rig_start (struct file_rig *r, const struct file_rig_how *how)
{
  char uri[300];

  memset (r, 0, sizeof *r);
  if ((how->behind && !relay_is_there ()) ||
      !server_start (&r->server, how->kind, how->size, how->filter)) {
    print_message ("%s or the relay cannot run here\n",
                   server_names[how->kind]);
    return false;
  }
  server_uri (&r->server, uri, sizeof uri);
  if (how->behind) {
    relay_start (&r->relay, &r->server, false, "");
    r->relayed = true;
    relay_uri (&r->relay, how->kind == SERVER_FARPAGE ? "swap/t:64M" : "", uri,
               sizeof uri);
  }
  file_rig_open (r, uri, how);
  return true;
}

void
file_rig_check (struct file_rig *r)
{
  const char *wrong = file_check (r->file);

  if (wrong != NULL)
    fail_msg ("file_check: %s", wrong);
}

void
file_rig_close (struct file_rig *r, int result)
{
  file_rig_check (r);
  atomic_store (&r->asked, NULL);
  assert_int_equal (farpage_file_close (r->file), result);
  assert_int_equal (farpage_link_close (r->link), 0);
}

void
file_rig_end (struct file_rig *r, int result)
{
  file_rig_close (r, result);
  if (r->relayed)
    relay_stop (&r->relay);
  server_kill (&r->server);
}

int
file_rig_put (struct file_rig *r, uint64_t page, uint64_t version)
{
  uint64_t data[PAGE / 8];
  size_t done;
  int err;

  rig_fill (data, 1, page, version);
  err = farpage_file_pwrite (r->file, data, r->unit, page * r->unit, &done);
  return err == 0 && done != r->unit ? -1 : err;
}

/* Version 0 was never written: zeros. */
int
file_rig_get (struct file_rig *r, uint64_t page, uint64_t version)
{
  static const uint64_t zeros[PAGE / 8];
  uint64_t data[PAGE / 8], want[PAGE / 8];
  size_t done;
  int err = farpage_file_pread (r->file, data, r->unit, page * r->unit, &done);

  if (err != 0)
    return err;
  rig_fill (want, 1, page, version);
  if (done == r->unit &&
      memcmp (data, version == 0 ? zeros : want, r->unit) == 0)
    return 0;
  print_message ("page %" PRIu64 ", version %" PRIu64 ": %zu bytes, %s\n", page,
                 version, done,
                 memcmp (data, zeros, r->unit) == 0 ? "zeros" : "others");
  return -1;
}

/* ---- workers ---- */

static void *
work (void *arg)
{
  struct file_worker *w = arg;

  while (w->error == 0 && !atomic_load (w->stop)) {
    uint64_t i = test_random_below (&w->random, w->nr);

    if (w->syncs > 0 && test_random_below (&w->random, w->syncs) == 0)
      w->error = farpage_file_sync (w->rig->file);
    else if (test_random_below (&w->random, 2) == 0)
      w->error = file_rig_get (w->rig, w->first + i, w->version[i]);
    else if ((w->error =
                  file_rig_put (w->rig, w->first + i, w->version[i] + 1)) == 0)
      w->version[i]++;
    atomic_fetch_add (w->progress, 1);
  }
  return NULL;
}

void
file_worker_begin (struct file_worker *w)
{
  w->version = calloc (w->nr, sizeof *w->version);
  w->random |= 1;
  w->error = 0;
  assert_int_equal (pthread_create (&w->thread, NULL, work, w), 0);
}

void
file_worker_end (struct file_worker *w)
{
  file_rig_join (w->thread);
}

void
file_rig_join (pthread_t thread)
{
  struct timespec until;

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += JOIN_S;
  if (pthread_timedjoin_np (thread, NULL, &until) != 0) {
    print_message ("a thread sleeps for ever\n");
    abort ();
  }
}
