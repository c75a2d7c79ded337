/* SPDX-License-Identifier: BSD-2-Clause */
/* What callers ask and say about a file but for its bytes: where its data lie,
 * what is mapped for writing, and what a file that is dead says to all of it.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "farpage.h"
#include "file.h"
#include "test-net.h"

#define MIB (UINT64_C (1) << 20)

#define CACHE_BYTES (256u << 10) /* 64 pages */

static struct server server;
static struct farpage_link *link_;
static struct farpage_file *file;

static void
open_file (void)
{
  struct farpage_file_options o;
  char uri[256];

  server_uri (&server, uri, sizeof uri);
  assert_int_equal (farpage_link_open (uri, NULL, &link_), 0);
  farpage_file_options_init (&o);
  o.cache_bytes = CACHE_BYTES;
  assert_int_equal (farpage_file_open (link_, &o, &file), 0);
}

/* False: it cannot run here. */
static bool
start (enum server_kind kind, uint64_t size, const char *filter)
{
  if (!server_start (&server, kind, size, filter)) {
    print_message ("%s cannot run here\n", server_names[kind]);
    return false;
  }
  open_file ();
  return true;
}

static void
close_file (int err)
{
  const char *wrong = file_check (file);

  if (wrong != NULL)
    fail_msg ("%s", wrong);
  assert_int_equal (farpage_file_close (file), err);
  assert_int_equal (farpage_link_close (link_), 0);
}

static void
end (int err)
{
  close_file (err);
  server_kill (&server);
}

/* ---- data ---- */

/* A byte is set for each 512 that are said to be data; how many they are. */
static unsigned
find_data (uint8_t *is_data, uint64_t size)
{
  uint64_t off = 0, from, to;
  unsigned nr = 0;
  int err;

  memset (is_data, 0, size / 512);
  while ((err = farpage_file_next_data (file, off, &from, &to)) == 0) {
    assert_true (off <= from && from < to && to <= size);
    assert_int_equal (from % 512, 0);
    memset (is_data + from / 512, 1, (to - from) / 512);
    nr += (to - from) / 512;
    off = to;
  }
  assert_int_equal (err, ENXIO);
  return nr;
}

static const struct piece {
  uint64_t off;
  uint32_t bytes;
} pieces[] = { { 0, 65536 },
               { 19 * 65536, 65536 },
               { 20 * MIB, MIB },
               { 33 * MIB, 4 * MIB },
               { 64 * MIB - 65536, 65536 } };
#define NR_PIECES (sizeof pieces / sizeof pieces[0])

/* The file has the pieces, and nothing else. */
static void
assert_pieces (uint8_t *is_data)
{
  unsigned nr = 0;

  (void) find_data (is_data, 64 * MIB);
  for (unsigned i = 0; i < NR_PIECES; i++) {
    nr += pieces[i].bytes / 512;
    assert_null (
        memchr (is_data + pieces[i].off / 512, 0, pieces[i].bytes / 512));
    assert_int_equal (is_data[(pieces[i].off + pieces[i].bytes) / 512], 0);
  }
  for (unsigned i = 0; i < 64 * MIB / 512; i++)
    nr -= is_data[i];
  assert_int_equal (nr, 0);
}

/* Dirty, then on the server, then as the server has it. */
static void
test_data (void **state)
{
  const enum server_kind kind = *(const enum server_kind *) *state;
  uint8_t *is_data = calloc (1, 64 * MIB / 512 + 1);
  uint8_t *some = malloc (4 * MIB);

  if (!start (kind, 64 * MIB, NULL))
    skip ();
  memset (some, 7, 4 * MIB);
  for (unsigned i = 0; i < NR_PIECES; i++)
    assert_int_equal (
        farpage_file_pwrite (file, some, pieces[i].bytes, pieces[i].off, NULL),
        0);
  assert_pieces (is_data);
  assert_int_equal (farpage_file_sync (file), 0);
  assert_pieces (is_data);
  close_file (0);
  open_file ();
  assert_pieces (is_data);
  end (0);
  free (some);
  free (is_data);
}

/* Off in the middle, a file that ends in it, a page that is dirty in a hole. */
static void
test_data_parts (void **state)
{
  uint64_t from, to;
  uint8_t byte = 1;

  (void) state;
  assert_true (start (SERVER_MEMORY, 256 * MIB, NULL));
  assert_int_equal (farpage_file_next_data (file, 0, &from, &to), ENXIO);
  assert_int_equal (farpage_file_pwrite (file, &byte, 1, 200 * MIB + 77, NULL),
                    0);
  assert_int_equal (farpage_file_next_data (file, 5, &from, &to), 0);
  assert_int_equal (from, 200 * MIB);
  assert_int_equal (to, 200 * MIB + 4096);
  assert_int_equal (farpage_file_next_data (file, 200 * MIB + 9, &from, &to),
                    0);
  assert_int_equal (from, 200 * MIB + 9);
  assert_int_equal (farpage_file_setsize (file, 200 * MIB + 100), 0);
  assert_int_equal (farpage_file_next_data (file, 200 * MIB + 9, &from, &to),
                    0);
  assert_int_equal (to, 200 * MIB + 100);
  assert_int_equal (farpage_file_next_data (file, to, &from, &to), ENXIO);
  assert_int_equal (farpage_file_next_data (file, UINT64_MAX, &from, &to),
                    ENXIO);
  end (0);
}

/* What is being written is data, though the server may not have it yet when it
 * is asked about what is around it.
 */
static void
test_data_written (void **state)
{
  static const uint8_t block[512] = { 1 };
  enum farpage_result result;
  uint64_t from, to;

  (void) state;
  assert_true (start (SERVER_MEMORY, MIB, "delay wdelay=1"));
  assert_int_equal (farpage_file_pwrite (file, block, 512, 5 * 4096, NULL), 0);
  assert_int_equal (farpage_file_putpages (file, 5, 1, 0, &result), 0);
  for (unsigned i = 0; i < 3; i++) {
    assert_int_equal (farpage_file_next_data (file, 0, &from, &to), 0);
    assert_int_equal (from, 5 * 4096);
    assert_in_range (to, from + 512, from + 4096);
    assert_int_equal (farpage_file_next_data (file, 6 * 4096, &from, &to),
                      ENXIO);
  }
  assert_int_equal (result, FARPAGE_PEND);
  assert_int_equal (farpage_file_sync (file), 0);
  end (0);
}

/* A server without block status, one that says that all is data, and one that
 * fails each question.
 */
static void
test_data_unknown (void **state)
{
  uint64_t from, to;
  uint8_t *is_data = calloc (1, 100 * MIB / 512);

  (void) state;
  if (start (SERVER_NBD, 100 * MIB, NULL)) {
    assert_false (file->has_map);
    assert_int_equal (farpage_file_next_data (file, 77, &from, &to), 0);
    assert_int_equal (from, 77);
    assert_int_equal (to, 100 * MIB);
    end (0);
  }
  assert_true (start (SERVER_MEMORY, 100 * MIB, "noextents"));
  assert_int_equal (find_data (is_data, 100 * MIB), 100 * MIB / 512);
  end (0);
  assert_true (start (SERVER_MEMORY, 100 * MIB,
                      "error error-extents=EIO error-extents-rate=100%"));
  assert_int_equal (find_data (is_data, 100 * MIB), 100 * MIB / 512);
  end (0);
  free (is_data);
}

/* Holes that follow each other are asked about in few questions. */
static void
test_data_far (void **state)
{
  const uint64_t size = 65536 * MIB;
  uint64_t from, to;
  struct link_stat st;
  uint8_t byte = 1;

  (void) state;
  assert_true (start (SERVER_MEMORY, size, NULL));
  assert_int_equal (farpage_file_pwrite (file, &byte, 1, size - 1, NULL), 0);
  assert_int_equal (farpage_file_sync (file), 0);
  close_file (0);
  open_file ();
  assert_int_equal (farpage_file_next_data (file, 0, &from, &to), 0);
  assert_in_range (from, size - 65536, size - 4096);
  assert_int_equal (to, size);
  net_stat (file->link, &st);
  assert_in_range (st.nr_status, 1, 64);
  end (0);
}

/* What is said to be a hole reads as zeros, by somebody who does not ask; no
 * hole is read by who copies the data.
 */
static void
test_data_random (void **state)
{
  const uint64_t size = 100 * MIB;
  uint8_t *is_data = calloc (1, size / 512), *bytes = malloc (MIB);
  static const uint8_t zeros[512];
  struct farpage_stat st;
  unsigned nr;

  (void) state;
  if (!start (SERVER_SPARSE, size, NULL))
    skip ();
  nr = find_data (is_data, size);
  assert_in_range (nr, size / 512 / 50, size / 512 / 3);
  assert_int_equal (farpage_stat (link_, &st, sizeof st), 0);
  assert_int_equal (st.bytes_read, 0);
  end (0);
  assert_true (start (SERVER_SPARSE, size, "noextents"));
  for (uint64_t off = 0; off < size; off += MIB) {
    assert_int_equal (farpage_file_pread (file, bytes, MIB, off, NULL), 0);
    for (unsigned i = 0; i < MIB / 512; i++)
      if (!is_data[off / 512 + i])
        assert_memory_equal (bytes + i * 512, zeros, 512);
  }
  end (0);
  free (bytes);
  free (is_data);
}

/* ---- figures ---- */

/* On the loop's thread, too. */
static void
look (void *arg)
{
  assert_int_equal (
      farpage_file_stat (file, arg, sizeof (struct farpage_file_stat)), 0);
}

static void
test_stat (void **state)
{
  struct {
    struct farpage_file_stat st;
    uint64_t beyond;
  } now;
  struct farpage_file_stat *st = &now.st;
  uint8_t byte = 1;

  (void) state;
  assert_true (start (SERVER_MEMORY, MIB, NULL));
  assert_int_equal (farpage_file_stat (file, st, 0), EINVAL);
  assert_int_equal (farpage_file_map_count (file, 0, 8192, 1), 0);
  assert_int_equal (farpage_file_setsize (file, MIB - 1), 0);
  assert_int_equal (farpage_file_haspage (file, 0, NULL, NULL), false);
  assert_int_equal (farpage_file_pread (file, &byte, 1, 0, NULL), 0);
  assert_int_equal (farpage_file_pwrite (file, &byte, 1, 5, NULL), 0);
  now.beyond = 1;
  assert_int_equal (farpage_file_stat (file, st, sizeof now), 0);
  assert_int_equal (now.beyond, 0);
  assert_int_equal (st->size_bytes, MIB - 1);
  assert_int_equal (st->export_bytes, MIB);
  assert_int_equal (st->mapped_bytes, 8192);
  assert_true (st->knows_holes && !st->dead);
  assert_int_equal (st->pages_max, CACHE_BYTES / 4096);
  assert_in_range (st->pages_cached, 1, 2); /* and the one with the end */
  assert_in_range (st->pages_dirty, 1, 2);
  assert_in_range (st->pages_holes, 1, 2);
  assert_int_equal (st->pages_failed, 0);
  assert_int_equal (farpage_file_sync (file), 0);
  assert_int_equal (loop_call (file->loop, look, st), 0);
  assert_int_equal (st->pages_dirty, 0);
  assert_in_range (st->pages_put, 1, 2);
  memset (st, 0xff, sizeof *st);
  assert_int_equal (farpage_file_stat (file, st, sizeof st->size_bytes), 0);
  assert_int_equal (st->size_bytes, MIB - 1);
  assert_int_equal (st->export_bytes, UINT64_MAX);
  farpage_file_force_close (file);
  look (st);
  assert_true (st->dead);
  end (ESTALE);
}

/* ---- mapped for writing ---- */

static void
count (int err, uint64_t first, uint64_t bytes, int change)
{
  assert_int_equal (farpage_file_map_count (file, first, bytes, change), err);
}

static void
test_count (void **state)
{
  (void) state;
  assert_true (start (SERVER_MEMORY, 10000, NULL));
  count (EINVAL, 0, 0, 1);
  count (EINVAL, 0, 4096, 2);
  count (EINVAL, 0, 4096, 0);
  count (EINVAL, UINT64_MAX, 2, 1);
  count (EINVAL, 8192, 4097, 1); /* behind the last page */
  count (EINVAL, 0, 1, -1);      /* there is none */
  count (0, 4096, 4096, 1);
  count (EBUSY, 8191, 2, 1); /* a second writer */
  count (0, 8192, 4096, 1);  /* as far as the last page goes */
  assert_int_equal (file->mapped.bytes, 8192);
  count (EINVAL, 4095, 2, -1);
  count (0, 5000, 5000, -1); /* a part of both */
  count (EINVAL, 5000, 1, -1);
  assert_int_equal (file->mapped.bytes, 3192);
  end (0);
}

/* A cut of what is mapped is refused, any other is not. */
static void
test_count_and_size (void **state)
{
  (void) state;
  assert_true (start (SERVER_MEMORY, 10000, NULL));
  count (0, 4096, 8192, 1);
  assert_int_equal (farpage_file_setsize (file, 9999), EBUSY);
  assert_int_equal (farpage_file_setsize (file, 10000), 0);
  assert_int_equal (farpage_file_setsize (file, 10001), EFBIG);
  count (0, 8192, 4096, -1);
  assert_int_equal (farpage_file_setsize (file, 8191), EBUSY);
  assert_int_equal (farpage_file_setsize (file, 8192), 0);
  count (EINVAL, 8192, 4096, 1);
  assert_int_equal (farpage_file_setsize (file, 10000), 0);
  count (0, 4096, 4096, -1);
  assert_int_equal (farpage_file_setsize (file, 0), 0);
  end (0);
}

static atomic_bool cut_ended;

static void *
cut (void *arg)
{
  (void) arg;
  assert_int_equal (farpage_file_setsize (file, 4096), 0);
  atomic_store (&cut_ended, true);
  return NULL;
}

/* Who maps while the file is cut waits, and finds it short. */
static void
test_count_waits (void **state)
{
  pthread_t thread;
  bool cutting = false;

  (void) state;
  assert_true (
      start (SERVER_MEMORY, MIB, "delay delay-zero=300ms delay-write=300ms"));
  atomic_store (&cut_ended, false);
  pthread_create (&thread, NULL, cut, NULL);
  while (!cutting) {
    net_sleep_ms (1);
    pthread_mutex_lock (&file->lock);
    cutting = file->resizing;
    pthread_mutex_unlock (&file->lock);
  }
  count (EINVAL, 0, 8192, 1);
  pthread_mutex_lock (&file->lock);
  assert_false (file->resizing);
  pthread_mutex_unlock (&file->lock);
  count (0, 0, 4096, 1);
  pthread_join (thread, NULL);
  assert_true (atomic_load (&cut_ended));
  count (0, 0, 4096, -1);
  end (0);
}

/* ---- dead ---- */

static atomic_uint nr_told;

static void
on_page (void *arg, uint64_t page, enum farpage_result result)
{
  (void) arg;
  (void) page;
  if (result == FARPAGE_ERROR)
    atomic_fetch_add (&nr_told, 1);
}

static void
wait_for (atomic_uint *number, unsigned least)
{
  for (unsigned i = 0; i < 5000 && atomic_load (number) < least; i++)
    net_sleep_ms (1);
  assert_int_equal (atomic_load (number), least);
}

static void
test_dead (void **state)
{
  enum farpage_result result[2] = { FARPAGE_OK, FARPAGE_OK };
  uint64_t from, to;
  uint8_t byte = 1;

  (void) state;
  assert_true (start (SERVER_MEMORY, MIB, NULL));
  assert_int_equal (farpage_file_pwrite (file, &byte, 1, 0, NULL), 0);
  count (0, 0, 4096, 1);
  farpage_file_force_close (file);
  count (ESTALE, 0, 4096, -1);
  count (ESTALE, 4096, 4096, 1);
  assert_int_equal (file->mapped.bytes, 0);
  assert_int_equal (farpage_file_setsize (file, MIB), ESTALE);
  assert_int_equal (farpage_file_setsize (file, MIB + 1), ESTALE);
  assert_int_equal (farpage_file_setsize (file, 1), ESTALE);
  assert_int_equal (farpage_file_pread (file, &byte, 1, 0, NULL), ESTALE);
  assert_int_equal (farpage_file_pwrite (file, &byte, 1, 0, NULL), ESTALE);
  assert_int_equal (farpage_file_sync (file), ESTALE);
  assert_false (farpage_file_haspage (file, 0, NULL, NULL));
  assert_int_equal (farpage_file_next_data (file, 0, &from, &to), ESTALE);
  assert_int_equal (farpage_file_getpages (file, 0, 2, NULL, NULL, result), 0);
  assert_int_equal (result[0], FARPAGE_ERROR);
  assert_int_equal (result[1], FARPAGE_ERROR);
  assert_int_equal (farpage_file_putpages (file, 0, 2, FARPAGE_SYNC, result),
                    0);
  assert_int_equal (result[0], FARPAGE_ERROR);
  atomic_store (&nr_told, 0);
  assert_int_equal (farpage_file_aio_getpages (file, 0, 2, 0, 0, on_page, NULL),
                    0);
  wait_for (&nr_told, 2);
  end (ESTALE);
}

/* Into the cache, and nobody wants to know. */
static void
test_untold (void **state)
{
  struct page *p = NULL;

  (void) state;
  assert_true (start (SERVER_MEMORY, MIB, NULL));
  assert_int_equal (farpage_file_aio_getpages (file, 7, 1, 0, 0, NULL, NULL),
                    0);
  for (unsigned i = 0; i < 5000 && p == NULL; i++) {
    net_sleep_ms (1);
    pthread_mutex_lock (&file->lock);
    p = page_find (file->pages, 7);
    if (p != NULL && p->state == PAGE_BUSY)
      p = NULL;
    pthread_mutex_unlock (&file->lock);
  }
  assert_non_null (p);
  end (0);
}

/* Most pages are dirty: each hole is filled once, not in the page that the one
 * before it has just got.
 */
static void
test_few_pages (void **state)
{
  enum farpage_result result[30];
  uint8_t *some = calloc (1, 54 * FARPAGE_PAGE);

  (void) state;
  assert_true (start (SERVER_MEMORY, MIB, NULL));
  assert_false (farpage_file_haspage (file, 0, NULL, NULL));
  memset (some, 1, 54 * FARPAGE_PAGE);
  assert_int_equal (
      farpage_file_pwrite (file, some, 54 * FARPAGE_PAGE, MIB / 2, NULL), 0);
  assert_int_equal (farpage_file_getpages (file, 0, 30, NULL, NULL, result), 0);
  for (unsigned i = 0; i < 30; i++)
    assert_int_equal (result[i], FARPAGE_OK);
  assert_in_range (file->nr_holes, 30, 45);
  end (0);
  free (some);
}

int
main (void)
{
  static enum server_kind kinds[] = { SERVER_MEMORY, SERVER_FILE, SERVER_QEMU,
                                      SERVER_FARPAGE };
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_prestate (test_data, &kinds[0]),
    cmocka_unit_test_prestate (test_data, &kinds[1]),
    cmocka_unit_test_prestate (test_data, &kinds[2]),
    cmocka_unit_test_prestate (test_data, &kinds[3]),
    cmocka_unit_test (test_data_parts),
    cmocka_unit_test (test_data_written),
    cmocka_unit_test (test_data_unknown),
    cmocka_unit_test (test_data_far),
    cmocka_unit_test (test_data_random),
    cmocka_unit_test (test_stat),
    cmocka_unit_test (test_count),
    cmocka_unit_test (test_count_and_size),
    cmocka_unit_test (test_count_waits),
    cmocka_unit_test (test_dead),
    cmocka_unit_test (test_untold),
    cmocka_unit_test (test_few_pages),
  };

  return NET_RUN (tests);
}
