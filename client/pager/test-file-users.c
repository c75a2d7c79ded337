/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager and several users of one file: they open it and close it while
 * others are at work, one closes it by force; those who call from the loop's
 * own thread; and who writes what another cuts off.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test-file-rig.h"
#include "test-util.h"

#define USERS  2u
#define ROUNDS 200u

static const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                         .size = 4 * MIB,
                                         .pages = 64 };

struct user {
  struct farpage_link *link;
  uint64_t page, version;
  uint64_t random;
  bool force; /* somebody closes by force, now and then */
  int error;
  unsigned nr_stale;
  pthread_t thread;
};

/* What it wrote is there, in a file that was closed in between. */
static int
use (struct user *u, struct farpage_file *f)
{
  struct file_rig r = { .file = f, .unit = PAGE };
  uint8_t data[PAGE];
  int err = u->force ? farpage_file_pread (f, data, PAGE, u->page * PAGE, NULL)
                     : file_rig_get (&r, u->page, u->version);

  if (err == 0)
    err = file_rig_put (&r, u->page, u->version + 1);
  if (err == 0)
    u->version++;
  if (err == 0 && u->force && test_random_below (&u->random, 8) == 0)
    farpage_file_force_close (f);
  else if (err == 0 && test_random_below (&u->random, 4) == 0)
    err = farpage_file_sync (f);
  return err;
}

static void *
open_and_close (void *arg)
{
  struct user *u = arg;

  for (unsigned i = 0; u->error == 0 && i < ROUNDS; i++) {
    struct farpage_file *f;
    int err;

    u->error = farpage_file_open (u->link, NULL, &f);
    if (u->error != 0)
      break;
    err = use (u, f);
    u->nr_stale += err == ESTALE;
    if (err != ESTALE)
      u->error = err;
    err = farpage_file_close (f);
    if (u->error == 0 && err != ESTALE)
      u->error = err;
    net_sleep_ms (test_random_below (&u->random, 4)); /* nobody has it */
  }
  return NULL;
}

static void
share (bool force)
{
  struct user u[USERS];
  struct file_rig r;
  uint64_t random = test_seed ();

  assert_true (file_rig_start (&r, &how));
  atomic_store (&r.asked, NULL);
  assert_int_equal (farpage_file_close (r.file), 0);
  for (unsigned i = 0; i < USERS; i++) {
    u[i] = (struct user){
      .link = r.link, .page = 3 * i, .random = (random + i) | 1, .force = force
    };
    assert_int_equal (
        pthread_create (&u[i].thread, NULL, open_and_close, &u[i]), 0);
  }
  for (unsigned i = 0; i < USERS; i++)
    file_rig_join (u[i].thread);
  for (unsigned i = 0; i < USERS; i++) {
    assert_int_equal (u[i].error, 0);
    assert_true (force || u[i].version == ROUNDS);
    assert_true (force || u[i].nr_stale == 0);
  }
  assert_int_equal (farpage_link_close (r.link), 0);
  server_kill (&r.server);
}

static void
test_share (void **state)
{
  (void) state;
  share (false);
}

/* What is lost then is lost; nobody waits for ever, nothing is used after it is
 * gone.
 */
static void
test_share_force (void **state)
{
  (void) state;
  share (true);
}

/* ---- on the loop ---- */

static void
call_all (void *arg)
{
  struct file_rig *r = arg;
  struct farpage_file *f = r->file, *other = NULL;
  enum farpage_result results[2];
  uint8_t data[8];
  size_t done;

  assert_int_equal (farpage_file_open (r->link, NULL, &other), EDEADLK);
  assert_int_equal (farpage_file_pread (f, data, 8, 0, &done), EDEADLK);
  assert_int_equal (farpage_file_pwrite (f, data, 8, 0, &done), EDEADLK);
  assert_int_equal (farpage_file_sync (f), EDEADLK);
  assert_int_equal (farpage_file_setsize (f, 1), EDEADLK);
  assert_int_equal (farpage_file_getpages (f, 0, 2, NULL, NULL, results),
                    EDEADLK);
  assert_int_equal (farpage_file_putpages (f, 0, 2, 0, results), EDEADLK);
  assert_false (farpage_file_haspage (f, 0, NULL, NULL));
  assert_int_equal (farpage_file_size (f), 4 * MIB);
  assert_int_equal (farpage_file_close (f), EDEADLK);
}

struct chain {
  struct file_rig *rig;
  unsigned left;
  sem_t over;
};

/* The result of one is the begin of the next. */
static void
next_page (void *arg, uint64_t page, enum farpage_result result)
{
  struct chain *c = arg;

  assert_int_equal (result, FARPAGE_OK);
  if (--c->left == 0)
    sem_post (&c->over);
  else
    assert_int_equal (farpage_file_aio_getpages (c->rig->file, page + 1, 1, 0,
                                                 2, next_page, c),
                      0);
}

static void
test_loop (void **state)
{
  struct chain c = { .left = 300 };
  struct file_rig r;

  (void) state;
  assert_true (file_rig_start (&r, &how));
  assert_int_equal (loop_call (r.file->loop, call_all, &r), 0);
  c.rig = &r;
  sem_init (&c.over, 0, 0);
  next_page (&c, 0, FARPAGE_OK);
  while (sem_wait (&c.over) == -1)
    ;
  sem_destroy (&c.over);
  file_rig_end (&r, 0);
}

/* ---- a cut ---- */

/* Who writes what is being cut off, of a block that is larger than a page, is
 * either before the cut or behind the end: it does not come back.
 */
struct cut_writer {
  struct file_rig *rig;
  uint64_t off;
  atomic_bool stop;
  atomic_uint nr; /* that were taken */
  int error;
  pthread_t thread;
};

static void *
write_on (void *arg)
{
  struct cut_writer *w = arg;
  uint8_t data[PAGE];

  memset (data, 0x77, sizeof data);
  while (w->error == 0 && !atomic_load (&w->stop)) {
    w->error = farpage_file_pwrite (w->rig->file, data, PAGE, w->off, NULL);
    atomic_fetch_add (&w->nr, w->error == 0);
    if (w->error == EFBIG)
      w->error = 0;
  }
  return NULL;
}

/* The block is being written when the cut begins, so that it has to wait, and
 * the writer has time.  He is gone when it is looked at.
 */
static void
cut_once (struct cut_writer *w, uint64_t bytes)
{
  struct farpage_file *f = w->rig->file;
  const uint64_t was = farpage_file_size (f);
  static const uint8_t zeros[PAGE];
  enum farpage_result result;
  uint8_t is[PAGE];

  atomic_store (&w->stop, false);
  atomic_store (&w->nr, 0);
  assert_int_equal (pthread_create (&w->thread, NULL, write_on, w), 0);
  for (unsigned i = 0; i < 5000 && atomic_load (&w->nr) == 0; i++)
    net_sleep_ms (1);
  assert_int_equal (farpage_file_putpages (f, w->off / PAGE, 1, 0, &result), 0);
  assert_int_equal (result, FARPAGE_PEND);
  assert_int_equal (farpage_file_setsize (f, bytes), 0);
  file_rig_check (w->rig);
  assert_int_equal (farpage_file_sync (f), 0);
  atomic_store (&w->stop, true);
  file_rig_join (w->thread);
  assert_int_equal (w->error, 0);
  assert_int_equal (farpage_file_setsize (f, was), 0);
  assert_int_equal (farpage_file_pread (f, is, PAGE, w->off, NULL), 0);
  assert_memory_equal (is, zeros, PAGE);
}

static void
test_cut (void **state)
{
  const struct file_rig_how slow = {
    .kind = SERVER_FILE,
    .size = 304 * PAGE,
    .filter = "delay+blocksize-policy blocksize-minimum=64k "
              "blocksize-preferred=64k blocksize-maximum=32M "
              "blocksize-error-policy=error wdelay=20ms",
    .pages = 64
  };
  struct cut_writer w = { .off = 20 * PAGE };
  struct file_rig r;

  (void) state;
  if (!file_rig_start (&r, &slow))
    skip ();
  w.rig = &r;
  for (unsigned i = 0; i < 10; i++)
    cut_once (&w, 18 * PAGE + 100);
  file_rig_end (&r, 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_share),
    cmocka_unit_test (test_share_force),
    cmocka_unit_test (test_loop),
    cmocka_unit_test (test_cut),
  };

  return NET_RUN (tests);
}
