/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager where it is narrow: more dirt than the cache has pages, holes
 * that do not fit, ends that move under readers and writers, and several who
 * write to one page and one block of the server.
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
#include "test-util.h"

#define PAGES FILE_CACHE_MIN

static struct fake fake;

static void
fake_open (struct file_rig *r)
{
  const struct file_rig_how how = { .pages = PAGES };
  char uri[200];

  memset (r, 0, sizeof *r);
  snprintf (uri, sizeof uri, "nbd+unix:///n?socket=%s", fake.path);
  fake_begin (&fake);
  file_rig_open (r, uri, &how);
}

static void
make_fake (void)
{
  char path[100];

  snprintf (path, sizeof path, "%s/fake", net_dir ());
  fake_init (&fake, path);
}

/* ---- dirt ---- */

struct reader {
  struct file_rig *rig;
  atomic_bool stop;
  unsigned nr;
  int error;
  pthread_t thread;
};

static void *
read_all (void *arg)
{
  struct reader *rd = arg;

  for (unsigned i = 0; rd->error == 0 && !atomic_load (&rd->stop); i++) {
    rd->error = file_rig_get (rd->rig, 4000 + i % 90, 0);
    rd->nr++;
  }
  return NULL;
}

static unsigned
nr_unclean (struct farpage_file *f)
{
  unsigned nr = 0;

  pthread_mutex_lock (&f->lock);
  for (unsigned i = 0; i < f->pages->nr; i++)
    nr += page_is_unwritten (&f->pages->page[i]);
  pthread_mutex_unlock (&f->lock);
  return nr;
}

static void *
write_all (void *arg)
{
  struct reader *wr = arg;

  for (; wr->error == 0 && wr->nr < 50 * PAGES; wr->nr++) {
    wr->error = file_rig_put (wr->rig, wr->nr, 1);
    if (wr->nr % 64 == 0 && nr_unclean (wr->rig->file) > PAGES)
      wr->error = -1;
  }
  return NULL;
}

static void
stop_tidy (void *arg)
{
  struct farpage_file *f = arg;

  ev_timer_stop (loop_ev (f->loop), &f->tidy);
}

/* A writer of 50 times the cache gets on, and so does who reads.  Nobody helps
 * him: not the reader, who comes in the second half, nor the timer.
 */
static void
dirty_much (const struct file_rig_how *how)
{
  struct reader rd = { .nr = 0 }, wr = { .nr = 0 };
  struct file_rig r;

  if (!file_rig_start (&r, how))
    skip ();
  rd.rig = wr.rig = &r;
  assert_int_equal (r.file->pages->nr, PAGES);
  assert_int_equal (loop_call (r.file->loop, stop_tidy, r.file), 0);
  assert_int_equal (pthread_create (&wr.thread, NULL, write_all, &wr), 0);
  file_rig_join (wr.thread);
  assert_int_equal (wr.error, 0);
  wr.nr = 40 * PAGES;
  assert_int_equal (pthread_create (&rd.thread, NULL, read_all, &rd), 0);
  assert_int_equal (pthread_create (&wr.thread, NULL, write_all, &wr), 0);
  file_rig_join (wr.thread);
  file_rig_check (&r);
  atomic_store (&rd.stop, true);
  file_rig_join (rd.thread);
  assert_int_equal (rd.error, 0);
  assert_int_equal (wr.error, 0);
  assert_true (rd.nr > 0);
  for (unsigned i = 0; i < 50 * PAGES; i++)
    assert_int_equal (file_rig_get (&r, i, 1), 0);
  assert_int_equal (farpage_file_sync (r.file), 0);
  assert_int_equal (nr_unclean (r.file), 0);
  file_rig_end (&r, 0);
}

static void
test_dirt (void **state)
{
  (void) state;
  dirty_much (&(struct file_rig_how){
      .kind = SERVER_MEMORY, .size = 16 * MIB, .pages = PAGES });
}

/* One whose answers take longer. */
static void
test_dirt_slow (void **state)
{
  (void) state;
  dirty_much (&(struct file_rig_how){ .kind = SERVER_MEMORY,
                                      .size = 16 * MIB,
                                      .filter = "delay wdelay=10ms",
                                      .pages = 1 });
}

/* ---- few pages can be had ---- */

struct held {
  struct job job; /* first */
  sem_t begun, end;
};

static void
hold (struct job *job)
{
  struct held *h = (struct held *) job;

  sem_post (&h->begun);
  while (sem_wait (&h->end) == -1)
    ;
}

static void *
let_go_later (void *arg)
{
  net_sleep_ms (150);
  sem_post (&((struct held *) arg)->end);
  return NULL;
}

/* What would be on its way is waited for. */
static void
test_put_forced (void **state)
{
  const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                    .size = 16 * MIB,
                                    .pages = PAGES };
  enum farpage_result results[8];
  struct held h = { .job.fn = hold };
  struct file_rig r;
  pthread_t thread;

  (void) state;
  assert_true (file_rig_start (&r, &how));
  sem_init (&h.begun, 0, 0);
  sem_init (&h.end, 0, 0);
  for (unsigned round = 0; round < 2; round++) {
    const unsigned nr = round == 0 ? 20 : PAGES - 2;

    loop_post (r.file->loop, &h.job);
    sem_wait (&h.begun);
    for (unsigned i = 0; i < nr; i++)
      assert_int_equal (file_rig_put (&r, i, round + 1), 0);
    if (round == 1)
      assert_int_equal (pthread_create (&thread, NULL, let_go_later, &h), 0);
    assert_int_equal (farpage_file_putpages (r.file, 8, 8, 0, results), 0);
    for (unsigned i = 0; i < 8; i++)
      assert_int_equal (results[i], round == 0 ? FARPAGE_PEND : FARPAGE_OK);
    if (round == 0)
      sem_post (&h.end);
    else
      file_rig_join (thread);
    assert_int_equal (farpage_file_sync (r.file), 0);
  }
  sem_destroy (&h.begun);
  sem_destroy (&h.end);
  file_rig_end (&r, 0);
}

static void
test_counts (void **state)
{
  static const struct {
    uint64_t first;
    unsigned count;
    int error;
  } cases[] = {
    { 0, 0, EINVAL },
    { 0, PAGES / 2, 0 },
    { 0, PAGES / 2 + 1, EINVAL },
    { 0, FARPAGE_COUNT_MAX + 1, EINVAL },
    { 0, UINT32_MAX, EINVAL },
    { UINT64_MAX - 1, 2, EINVAL },
    { UINT64_MAX - 2, 2, 0 },
    { UINT64_MAX / PAGE, 4, 0 },
    { UINT64_MAX / PAGE + 1, 4, 0 },
    { 4096, 1, 0 },
  };
  const struct file_rig_how how = { .kind = SERVER_MEMORY,
                                    .size = 16 * MIB,
                                    .pages = PAGES };
  enum farpage_result results[PAGES];
  static struct wait w;
  struct file_rig r;

  (void) state;
  assert_true (file_rig_start (&r, &how));
  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const uint64_t first = cases[i].first;
    const unsigned n = cases[i].count;
    const int error = cases[i].error;
    enum farpage_result want = first < 4096 ? FARPAGE_OK : FARPAGE_BAD;

    assert_int_equal (
        farpage_file_getpages (r.file, first, n, NULL, NULL, results), error);
    for (unsigned k = 0; error == 0 && k < n; k++)
      assert_int_equal (results[k], want);
    for (int flags = 0; flags <= FARPAGE_SYNC; flags += FARPAGE_SYNC)
      assert_int_equal (
          farpage_file_putpages (r.file, first, n, flags, results), error);
    for (unsigned k = 0; error == 0 && k < n; k++)
      assert_int_equal (results[k], want);
    if (error == 0)
      wait_init (&w, first, n);
    assert_int_equal (
        farpage_file_aio_getpages (r.file, first, n, 9, 9, wait_page, &w),
        error);
    if (error == 0)
      wait_all (&w);
    for (unsigned k = 0; error == 0 && k < n; k++)
      assert_int_equal (w.result[k], want);
  }
  assert_int_equal (farpage_file_putpages (r.file, 0, 1, 1 << 20, results),
                    EINVAL);
  assert_false (farpage_file_haspage (r.file, UINT64_MAX, NULL, NULL));
  assert_int_equal (file_rig_put (&r, UINT64_MAX / PAGE, 1), EFBIG);
  file_rig_end (&r, 0);
}

/* What went with the first read is told, however many pages were wanted. */
static void
test_behind_ahead (void **state)
{
  enum farpage_result results[16];
  struct file_rig r;

  (void) state;
  make_fake ();
  fake_open (&r);
  for (unsigned count = 1; count <= 8; count++) {
    unsigned behind = 3, ahead = 4, first = 100 * count;

    assert_int_equal (
        farpage_file_getpages (r.file, first, count, &behind, &ahead, results),
        0);
    for (unsigned i = 0; i < count; i++)
      assert_int_equal (results[i], FARPAGE_OK);
    assert_int_equal (behind, 3);
    assert_int_equal (ahead, 4);
    assert_int_equal (fake_count (&fake, FAKE_READ), count);
    assert_int_equal (farpage_file_putpages (r.file, first - 3, count + 7,
                                             FARPAGE_INVAL, results),
                      0);
  }
  file_rig_close (&r, 0);
  fake_end (&fake);
}

/* ---- holes, and two pages for them ---- */

/* Pages that are zeros need no I/O, so nothing comes that would wake who waits
 * for room for all of them at once.
 */
static void
test_holes (void **state)
{
  const uint32_t extents[] = { 1u << 30, 3 };
  enum farpage_result results[30];
  uint8_t data[30 * PAGE];
  static struct wait w;
  struct file_rig r;
  size_t done;

  (void) state;
  make_fake ();
  memcpy (fake.extents, extents, sizeof extents);
  fake.nr_extents = 2;
  fake_open (&r);
  assert_false (farpage_file_haspage (r.file, 0, NULL, NULL));
  fake_rule (&fake, FAKE_WRITE, FAKE_HOLD, 0, 0, 0);
  for (unsigned i = 0; i < PAGES - 2; i++)
    assert_int_equal (file_rig_put (&r, i, 1), 0);
  wait_init (&w, 100, 30);
  assert_int_equal (
      farpage_file_aio_getpages (r.file, 100, 30, 5, 5, wait_page, &w), 0);
  wait_all (&w);
  assert_int_equal (
      farpage_file_getpages (r.file, 200, 30, NULL, NULL, results), 0);
  for (unsigned i = 0; i < 30; i++) {
    assert_int_equal (w.result[i], FARPAGE_OK);
    assert_int_equal (results[i], FARPAGE_OK);
  }
  assert_int_equal (
      farpage_file_pread (r.file, data, sizeof data, 300 * PAGE + 1, &done), 0);
  assert_int_equal (done, sizeof data);
  for (unsigned i = 0; i < sizeof data; i++)
    assert_int_equal (data[i], 0);
  fake_release (&fake);
  file_rig_close (&r, 0);
  fake_end (&fake);
}

/* ---- ends that move ---- */

struct mover {
  struct file_rig *rig;
  atomic_bool *stop;
  uint64_t random;
  unsigned nr;
  int error;
  pthread_t thread;
};

/* Anywhere, with any length; only what is behind the end is refused. */
static void *
move (void *arg)
{
  struct mover *m = arg;
  struct farpage_file *f = m->rig->file;
  uint8_t data[9 * PAGE];

  while (m->error == 0 && !atomic_load (m->stop)) {
    uint64_t off = test_random_below (&m->random, 300 * PAGE);
    size_t len = 1 + test_random_below (&m->random, sizeof data - 1);

    if (test_random_below (&m->random, 20) == 0)
      m->error = farpage_file_sync (f);
    else if (test_random_below (&m->random, 2) == 0)
      m->error = farpage_file_pread (f, data, len, off, NULL);
    else
      m->error = farpage_file_pwrite (f, data, len, off, NULL);
    if (m->error == EFBIG)
      m->error = 0;
    m->nr++;
  }
  return NULL;
}

static void
move_end (const struct file_rig_how *how)
{
  struct mover m[3];
  atomic_bool stop = false;
  uint64_t random = test_seed ();
  struct file_rig r;

  if (!file_rig_start (&r, how))
    skip ();
  for (unsigned i = 0; i < 3; i++) {
    m[i] = (struct mover){ .rig = &r, .stop = &stop, .random = random + i };
    assert_int_equal (pthread_create (&m[i].thread, NULL, move, &m[i]), 0);
  }
  for (unsigned i = 0; i < 300; i++) {
    uint64_t to = test_random_below (&random, how->size + 1);

    assert_int_equal (
        farpage_file_setsize (r.file, i % 2 == 0 ? to : how->size), 0);
    file_rig_check (&r);
  }
  atomic_store (&stop, true);
  for (unsigned i = 0; i < 3; i++) {
    file_rig_join (m[i].thread);
    assert_int_equal (m[i].error, 0);
    assert_true (m[i].nr > 0);
  }
  assert_int_equal (farpage_file_setsize (r.file, 0), 0);
  assert_int_equal (farpage_file_setsize (r.file, how->size), 0);
  for (unsigned i = 0; i < how->size / PAGE; i++)
    assert_int_equal (file_rig_get (&r, i, 0), 0);
  file_rig_end (&r, 0);
}

static void
test_ends (void **state)
{
  (void) state;
  move_end (&(struct file_rig_how){
      .kind = SERVER_MEMORY, .size = 300 * PAGE, .pages = PAGES });
}

#define BLOCKS(n)                                                   \
  "blocksize-policy blocksize-minimum=" n " blocksize-preferred=" n \
  " blocksize-maximum=32M blocksize-error-policy=error"

static void
test_ends_64k (void **state)
{
  (void) state;
  move_end (&(struct file_rig_how){ .kind = SERVER_FILE,
                                    .size = 304 * PAGE,
                                    .filter = BLOCKS ("64k"),
                                    .pages = PAGES });
}

/* A request of ours is no whole number of the server's blocks, and zeros have
 * to be sent.
 */
static void
test_ends_wide (void **state)
{
  (void) state;
  move_end (&(struct file_rig_how){ .kind = SERVER_FILE,
                                    .size = 304 * PAGE,
                                    .filter = "nozero+" BLOCKS ("64k"),
                                    .pages = PAGES,
                                    .cluster_pages = 24 });
}

/* ---- several on one block ---- */

#define PARTS 4u

struct part {
  struct file_rig *rig;
  uint64_t off;
  unsigned len;
  uint8_t last;
  int error;
  pthread_t thread;
};

static void *
write_part (void *arg)
{
  struct part *p = arg;
  struct farpage_file *f = p->rig->file;
  uint8_t data[PAGE], is[PAGE];
  enum farpage_result result;

  for (unsigned i = 1; p->error == 0 && i <= 250; i++) {
    p->last = (uint8_t) i;
    memset (data, (int) i, p->len);
    p->error = farpage_file_pwrite (f, data, p->len, p->off, NULL);
    if (p->error == 0 && i % 3 == 0)
      p->error = farpage_file_putpages (f, p->off / PAGE, 1,
                                        i % 2 ? FARPAGE_INVAL : 0, &result);
    if (p->error == 0)
      p->error = farpage_file_pread (f, is, p->len, p->off, NULL);
    if (p->error == 0 && memcmp (is, data, p->len) != 0)
      p->error = -1;
  }
  return NULL;
}

static void
share (const struct file_rig_how *how)
{
  /* Two halves of one page, none of which is blocks; two other pages. */
  struct part part[PARTS] = { { .off = 0, .len = 2000 },
                              { .off = 2000, .len = 2096 },
                              { .off = 4 * PAGE + 100, .len = 700 },
                              { .off = 9 * PAGE, .len = PAGE } };
  struct file_rig r, again = { .link = NULL };
  char uri[300];

  if (!file_rig_start (&r, how))
    skip ();
  for (unsigned i = 0; i < PARTS; i++) {
    part[i].rig = &r;
    assert_int_equal (
        pthread_create (&part[i].thread, NULL, write_part, &part[i]), 0);
  }
  for (unsigned i = 0; i < PARTS; i++)
    file_rig_join (part[i].thread);
  for (unsigned i = 0; i < PARTS; i++)
    assert_int_equal (part[i].error, 0);
  file_rig_close (&r, 0);
  server_uri (&r.server, uri, sizeof uri);
  file_rig_open (&again, uri, how);
  for (unsigned i = 0; i < PARTS; i++) {
    uint8_t data[PAGE];

    assert_int_equal (
        farpage_file_pread (again.file, data, part[i].len, part[i].off, NULL),
        0);
    for (unsigned k = 0; k < part[i].len; k++)
      assert_int_equal (data[k], part[i].last);
  }
  file_rig_close (&again, 0);
  server_kill (&r.server);
}

static void
test_share (void **state)
{
  static const char *const filters[] = { NULL, BLOCKS ("4096"),
                                         BLOCKS ("64k") };

  (void) state;
  for (unsigned i = 0; i < 3; i++)
    share (&(struct file_rig_how){ .kind = SERVER_FILE,
                                   .size = 4 * MIB,
                                   .filter = filters[i],
                                   .pages = PAGES });
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_dirt),         cmocka_unit_test (test_dirt_slow),
    cmocka_unit_test (test_put_forced),   cmocka_unit_test (test_counts),
    cmocka_unit_test (test_behind_ahead), cmocka_unit_test (test_holes),
    cmocka_unit_test (test_ends),         cmocka_unit_test (test_ends_64k),
    cmocka_unit_test (test_ends_wide),    cmocka_unit_test (test_share),
  };

  return NET_RUN (tests);
}
