/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager and a server that dies, a network that breaks, and a user who
 * has enough: no wrong byte, no zeros for what was there, nobody sleeps for
 * ever.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-file-rig.h"
#include "test-killer.h"
#include "test-util.h"

#define WORKERS 3u
#define NR      160u /* pages of each: more than the cache has */
#define KILLS   3u

/* ---- under readers and writers ---- */

struct crowd {
  struct file_rig *rig;
  struct file_worker worker[WORKERS];
  atomic_bool stop;
};

static void
crowd_begin (struct crowd *c, struct file_rig *r, uint64_t random,
             atomic_ulong *progress)
{
  c->rig = r;
  atomic_store (&c->stop, false);
  for (unsigned i = 0; i < WORKERS; i++) {
    c->worker[i] = (struct file_worker){ .rig = r,
                                         .first = i * NR,
                                         .nr = NR,
                                         .random = random * (i + 1),
                                         .progress = progress,
                                         .stop = &c->stop,
                                         .syncs = 20 };
    file_worker_begin (&c->worker[i]);
  }
}

static void
crowd_end (struct crowd *c)
{
  atomic_store (&c->stop, true);
  for (unsigned i = 0; i < WORKERS; i++)
    file_worker_end (&c->worker[i]);
  for (unsigned i = 0; i < WORKERS; i++)
    assert_int_equal (c->worker[i].error, 0);
}

static void
crowd_compare (struct crowd *c, struct file_rig *r)
{
  for (unsigned i = 0; i < WORKERS; i++)
    for (unsigned k = 0; k < NR; k++)
      assert_int_equal (file_rig_get (r, i * NR + k, c->worker[i].version[k]),
                        0);
}

static void
crowd_free (struct crowd *c)
{
  for (unsigned i = 0; i < WORKERS; i++)
    free (c->worker[i].version);
}

/* Everything is there, also for who was not there before. */
static void
compare_anew (struct crowd *c, struct file_rig *r,
              const struct file_rig_how *how)
{
  struct file_rig again = { .link = NULL };
  char uri[300];

  crowd_compare (c, r);
  assert_int_equal (farpage_file_sync (r->file), 0);
  assert_int_equal (atomic_load (&r->events[FARPAGE_LOST]), 0);
  file_rig_close (r, 0);
  server_uri (&r->server, uri, sizeof uri);
  file_rig_open (&again, uri, how);
  crowd_compare (c, &again);
  file_rig_close (&again, 0);
}

/* Nobody who reads and writes sees anything of it. */
static void
kills (const struct file_rig_how *how)
{
  struct file_rig r;
  struct crowd c;
  struct killer k = { .nr = 0 };
  uint64_t random = test_seed ();

  if (!file_rig_start (&r, how))
    skip ();
  crowd_begin (&c, &r, random, &k.progress);
  killer_begin (&k, &r.server, KILLS, random);
  killer_wait (&k);
  crowd_end (&c);
  file_rig_check (&r);
  compare_anew (&c, &r, how);
  killer_end (&k);
  server_kill (&r.server);
  crowd_free (&c);
}

static void
test_kills_durable (void **state)
{
  (void) state;
  kills (&(struct file_rig_how){
      .kind = SERVER_DURABLE, .size = 64 * MIB, .pages = 64 });
}

/* Of each block of the server only parts are written, so the rest is read. */
static void
test_kills_parts (void **state)
{
  (void) state;
  kills (&(struct file_rig_how){
      .kind = SERVER_FILE,
      .size = 8 * MIB,
      .filter = "blocksize-policy blocksize-minimum=64k "
                "blocksize-preferred=64k blocksize-maximum=32M "
                "blocksize-error-policy=error",
      .pages = 64,
      .unit = 2500,
      .unverified = true });
}

static void
test_kills_file (void **state)
{
  (void) state;
  kills (&(struct file_rig_how){
      .kind = SERVER_FILE, .size = 8 * MIB, .pages = 64, .unverified = true });
}

/* Frozen for a while, and cut while writes are under way. */
static void
test_cuts (void **state)
{
  const struct file_rig_how how = {
    .kind = SERVER_FARPAGE, .size = 64 * MIB, .pages = 64, .behind = true
  };
  struct file_rig r;
  struct crowd c;
  atomic_ulong progress = 0;

  (void) state;
  if (!file_rig_start (&r, &how))
    skip ();
  crowd_begin (&c, &r, test_seed (), &progress);
  for (unsigned i = 0; i < 6; i++) {
    unsigned long was = atomic_load (&progress);

    relay_tell (&r.relay, "freeze a");
    net_sleep_ms (50);
    if (i % 3 != 2)
      relay_tell (&r.relay, i % 3 == 0 ? "cut a how=reset" : "cut a");
    relay_tell (&r.relay, "heal a");
    for (unsigned ms = 0; atomic_load (&progress) < was + 200; ms++) {
      assert_true (ms < 30000);
      net_sleep_ms (1);
    }
  }
  crowd_end (&c);
  assert_true (atomic_load (&r.events[FARPAGE_CONNECTED]) >= 4);
  crowd_compare (&c, &r);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 0);
  file_rig_end (&r, 0);
  crowd_free (&c);
}

/* ---- a server that may be another one ---- */

static void
page_told (void *arg, uint64_t page, enum farpage_result result)
{
  struct wait *w = arg;

  wait_page (w, page, result);
}

static void
assert_dead (struct file_rig *r)
{
  enum farpage_result results[8];
  static struct wait w;
  unsigned before, after;

  assert_int_equal (file_rig_get (r, 3, 1), ESTALE);
  assert_int_equal (file_rig_get (r, 40, 1), ESTALE);
  assert_int_equal (file_rig_put (r, 3, 2), ESTALE);
  assert_int_equal (farpage_file_sync (r->file), ESTALE);
  assert_int_equal (farpage_file_setsize (r->file, MIB), ESTALE);
  assert_int_equal (farpage_file_setsize (r->file, 4 * MIB), ESTALE);
  assert_false (farpage_file_haspage (r->file, 3, &before, &after));
  assert_int_equal (farpage_file_getpages (r->file, 0, 8, NULL, NULL, results),
                    0);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (results[i], FARPAGE_ERROR);
  for (int flags = 0; flags <= FARPAGE_CLUSTER_OK; flags++) {
    if ((flags & ~(FARPAGE_SYNC | FARPAGE_INVAL | FARPAGE_NOREUSE |
                   FARPAGE_CLUSTER_OK)) != 0)
      continue;
    assert_int_equal (farpage_file_putpages (r->file, 0, 8, flags, results), 0);
    for (unsigned i = 0; i < 8; i++)
      assert_int_equal (results[i], FARPAGE_ERROR);
  }
  wait_init (&w, 0, 8);
  assert_int_equal (
      farpage_file_aio_getpages (r->file, 0, 8, 0, 0, page_told, &w), 0);
  wait_all (&w);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (w.result[i], FARPAGE_ERROR);
}

/* What is in memory may still be had until the loss is seen; zeros never. */
static void
forgets (enum server_kind kind)
{
  const struct file_rig_how how = { .kind = kind,
                                    .size = 4 * MIB,
                                    .pages = 128 };
  struct file_rig r;
  int err = 0;

  if (!file_rig_start (&r, &how))
    skip ();
  for (unsigned i = 0; i < 200; i++)
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  assert_int_equal (farpage_file_sync (r.file), 0);
  for (unsigned i = 0; i < 32; i++) /* dirty */
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  server_kill (&r.server);
  server_restart (&r.server);
  for (unsigned i = 0; i < 100000 && err == 0; i++)
    err = file_rig_get (&r, i % 200, 1);
  assert_int_equal (err, ESTALE);
  assert_dead (&r);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 1);
  file_rig_end (&r, ESTALE);
}

static void
test_forgets_memory (void **state)
{
  (void) state;
  forgets (SERVER_MEMORY);
}

static void
test_forgets_file (void **state)
{
  (void) state;
  forgets (SERVER_FILE);
}

/* Too late is an error, and not the end: what is dirty is written after it. */
static void
test_deadline (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_FARPAGE,
                                    .size = 64 * MIB,
                                    .pages = 64,
                                    .behind = true,
                                    .deadline_us = 1000000 };
  enum farpage_result results[16];
  struct file_rig r;
  int err = ETIMEDOUT;

  (void) state;
  if (!file_rig_start (&r, &how))
    skip ();
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  assert_int_equal (farpage_file_sync (r.file), 0);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (file_rig_put (&r, i, 2), 0);
  relay_tell (&r.relay, "freeze a");
  assert_int_equal (file_rig_get (&r, 100, 1), ETIMEDOUT);
  assert_int_equal (farpage_file_sync (r.file), ETIMEDOUT);
  assert_int_equal (farpage_file_putpages (r.file, 0, 8, FARPAGE_SYNC, results),
                    0);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (results[i], FARPAGE_ERROR);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (file_rig_get (&r, i, i < 8 ? 2 : 1), 0);
  relay_tell (&r.relay, "heal a");
  for (unsigned i = 0; i < 10 && err == ETIMEDOUT; i++)
    err = farpage_file_sync (r.file);
  assert_int_equal (err, 0);
  assert_int_equal (
      farpage_file_putpages (r.file, 0, 16, FARPAGE_INVAL, results), 0);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (file_rig_get (&r, i, i < 8 ? 2 : 1), 0);
  file_rig_end (&r, 0);
}

/* ---- closed by force ---- */

enum what {
  READS,
  WRITES,
  SYNCS,
  CUTS,
  HAS,
  GETS,
  PUTS,
  WHATS
};

struct sleeper {
  struct file_rig *rig;
  enum what what;
  pthread_t thread;
  int error;
  enum farpage_result results[8];
};

static void *
sleep_in (void *arg)
{
  struct sleeper *s = arg;
  struct farpage_file *f = s->rig->file;

  switch (s->what) {
  case READS:
    s->error = file_rig_get (s->rig, 1000, 1);
    break;
  case WRITES:
    for (unsigned i = 0; s->error == 0 && i < 10000; i++)
      s->error = file_rig_put (s->rig, 2000 + i, 1);
    break;
  case SYNCS:
    s->error = farpage_file_sync (f);
    break;
  case CUTS:
    s->error = farpage_file_setsize (f, 15 * MIB);
    break;
  case HAS:
    s->error = farpage_file_haspage (f, 1500, NULL, NULL) ? 0 : ESTALE;
    break;
  case GETS:
    s->error = farpage_file_getpages (f, 1100, 8, NULL, NULL, s->results);
    break;
  default:
    s->error = farpage_file_putpages (f, 0, 8, FARPAGE_SYNC, s->results);
    break;
  }
  return NULL;
}

static void
begin_sleepers (struct file_rig *r, struct sleeper s[WHATS])
{
  memset (s, 0, WHATS * sizeof *s);
  for (unsigned i = 0; i < WHATS; i++) {
    s[i].rig = r;
    s[i].what = i;
    assert_int_equal (pthread_create (&s[i].thread, NULL, sleep_in, &s[i]), 0);
  }
}

static void
end_sleepers (struct sleeper s[WHATS])
{
  for (unsigned i = 0; i < WHATS; i++) {
    file_rig_join (s[i].thread);
    if (i == GETS || i == PUTS)
      for (unsigned k = 0; k < 8; k++)
        assert_int_equal (s[i].results[k], FARPAGE_ERROR);
    else if (i != HAS) /* whose answer may have been there */
      assert_int_equal (s[i].error, ESTALE);
  }
}

static void
test_force_close (void **state)
{
  const struct file_rig_how how = {
    .kind = SERVER_FARPAGE, .size = 64 * MIB, .pages = 64, .behind = true
  };
  struct sleeper s[WHATS];
  static struct wait w;
  struct file_rig r;
  unsigned nr_lines;

  (void) state;
  if (!file_rig_start (&r, &how))
    skip ();
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  relay_tell (&r.relay, "freeze a");
  wait_init (&w, 1200, 8);
  assert_int_equal (
      farpage_file_aio_getpages (r.file, 1200, 8, 4, 4, page_told, &w), 0);
  begin_sleepers (&r, s);
  net_sleep_ms (200);
  nr_lines = atomic_load (&r.nr_lines);
  farpage_file_force_close (r.file);
  farpage_file_force_close (r.file);
  assert_int_equal (atomic_load (&r.nr_lines), nr_lines + 2);
  end_sleepers (s);
  wait_all (&w);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal (w.result[i], FARPAGE_ERROR);
  assert_dead (&r);
  relay_tell (&r.relay, "heal a");
  file_rig_end (&r, ESTALE);
}

/* What is lost is not written after it, whatever is asked for. */
static void
test_force_close_dirty (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                    .size = 4 * MIB,
                                    .pages = 128 };
  struct file_rig r, again = { .link = NULL };
  char uri[300];

  (void) state;
  assert_true (file_rig_start (&r, &how));
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  farpage_file_force_close (r.file);
  assert_dead (&r);
  file_rig_close (&r, ESTALE);
  server_uri (&r.server, uri, sizeof uri);
  file_rig_open (&again, uri, &how);
  for (unsigned i = 0; i < 16; i++)
    assert_int_equal (file_rig_get (&again, i, 0), 0);
  file_rig_close (&again, 0);
  server_kill (&r.server);
}

/* ---- close, with others at work ---- */

struct held {
  struct job job; /* first */
  sem_t end;
};

static void
hold (struct job *job)
{
  while (sem_wait (&((struct held *) job)->end) == -1)
    ;
}

static void *
close_file (void *arg)
{
  struct file_rig *r = arg;

  assert_int_equal (farpage_file_close (r->file), 0);
  return NULL;
}

/* It waits for aio calls, also those that have not begun. */
static void
test_close_aio (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                    .size = 4 * MIB,
                                    .pages = 64 };
  struct held held = { .job.fn = hold };
  static struct wait w[4];
  struct file_rig r;
  pthread_t closer;

  (void) state;
  assert_true (file_rig_start (&r, &how));
  sem_init (&held.end, 0, 0);
  loop_post (r.file->loop, &held.job);
  for (unsigned i = 0; i < 4; i++) {
    wait_init (&w[i], 100 * i, 8);
    assert_int_equal (
        farpage_file_aio_getpages (r.file, 100 * i, 8, 2, 2, page_told, &w[i]),
        0);
  }
  assert_int_equal (pthread_create (&closer, NULL, close_file, &r), 0);
  net_sleep_ms (100);
  sem_post (&held.end);
  file_rig_join (closer);
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal (w[i].left, 0);
    for (unsigned k = 0; k < 8; k++)
      assert_int_equal (w[i].result[k], FARPAGE_OK);
  }
  sem_destroy (&held.end);
  assert_int_equal (farpage_link_close (r.link), 0);
  server_kill (&r.server);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_kills_durable),
    cmocka_unit_test (test_kills_file),
    cmocka_unit_test (test_kills_parts),
    cmocka_unit_test (test_cuts),
    cmocka_unit_test (test_forgets_memory),
    cmocka_unit_test (test_forgets_file),
    cmocka_unit_test (test_deadline),
    cmocka_unit_test (test_force_close),
    cmocka_unit_test (test_force_close_dirty),
    cmocka_unit_test (test_close_aio),
  };

  return NET_RUN (tests);
}
