/* SPDX-License-Identifier: BSD-2-Clause */
/* A file beside an array of its bytes, after fsx (Apple; from NFS's test
 * suites): read, write, another size, sync, close and open again, memory that
 * is mapped, in random order with random places, through each server; exact
 * sizes, and blocks of the server from one byte to 64 KiB.  A small cache, so
 * that pages come and go.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "farpage.h"
#include "file.h"
#include "test-net.h"
#include "test-util.h"

#define CACHE_BYTES (256u << 10) /* 64 pages */
#define CASES       16u
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define OPS (20000u / CASES)
#else
#define OPS (200000u / CASES)
#endif
#define WINDOW  (UINT64_C (1) << 20) /* of a large file: the end of it */
#define LARGE   (UINT64_C (1) << 30)
#define LEN_MAX 40000u

struct rig {
  enum server_kind kind;
  uint64_t size;
  const char *filter;
};

static struct server server;
static struct farpage_link *link_;
static struct farpage_file *file;
static uint8_t *plain, *buf;
static uint64_t size; /* of the file */
static bool *mapped;  /* which pages, for writing */
static uint64_t nr_mapped_max;

static void
open_file (void)
{
  struct farpage_file_options o;
  char uri[256];

  if (link_ == NULL) {
    server_uri (&server, uri, sizeof uri);
    assert_int_equal (farpage_link_open (uri, NULL, &link_), 0);
  }
  farpage_file_options_init (&o);
  o.cache_bytes = CACHE_BYTES;
  assert_int_equal (farpage_file_open (link_, &o, &file), 0);
}

static void
check (void)
{
  const char *wrong = file_check (file);

  if (wrong != NULL)
    fail_msg ("%s", wrong);
}

static void
compare (uint64_t off, size_t len)
{
  size_t done;

  memset (buf, 0xa5, len);
  assert_int_equal (farpage_file_pread (file, buf, len, off, &done), 0);
  assert_int_equal (done, off >= size ? 0 : min_u64 (len, size - off));
  if (memcmp (buf, plain + off, done) == 0)
    return;
  for (size_t i = 0; i < done; i++)
    if (buf[i] != plain[off + i])
      fail_msg ("byte %" PRIu64 " is %02x, not %02x (read of %zu at %" PRIu64
                ", size %" PRIu64 ")",
                off + i, buf[i], plain[off + i], len, off, size);
}

static void
do_write (uint64_t *random, uint64_t off, size_t len)
{
  size_t done;
  int err;

  for (size_t i = 0; i < len; i++)
    buf[i] = (uint8_t) test_random_below (random, 256);
  err = farpage_file_pwrite (file, buf, len, off, &done);
  if (off >= size) {
    assert_int_equal (err, len > 0 ? EFBIG : 0);
    return;
  }
  assert_int_equal (err, 0);
  assert_int_equal (done, min_u64 (len, size - off));
  memcpy (plain + off, buf, done);
}

static uint64_t
mapped_end (void)
{
  uint64_t i = nr_mapped_max;

  while (i > 0 && !mapped[i - 1])
    i--;
  return i * 4096;
}

/* Where it plays. */
static uint64_t
window_begin (uint64_t most)
{
  return most > LARGE ? most - WINDOW : 0;
}

static void
do_setsize (uint64_t *random, uint64_t most)
{
  const uint64_t lo = window_begin (most);
  uint64_t to = lo + test_random_below (random, most - lo + 1);
  bool busy = to < min_u64 (size, mapped_end ());

  assert_int_equal (farpage_file_setsize (file, most + 1), EFBIG);
  assert_int_equal (farpage_file_setsize (file, to), busy ? EBUSY : 0);
  if (busy)
    return;
  if (to < size)
    memset (plain + to, 0, size - to);
  size = to;
  assert_int_equal (farpage_file_size (file), to);
}

static void
do_reopen (uint64_t most, bool link_too)
{
  assert_int_equal (farpage_file_close (file), 0);
  if (link_too) {
    assert_int_equal (farpage_link_close (link_), 0);
    link_ = NULL;
  }
  open_file ();
  size = most; /* is not remembered, nor what is mapped */
  memset (mapped, 0, nr_mapped_max);
  assert_int_equal (farpage_file_size (file), most);
}

/* ---- mapped for writing ---- */

static unsigned
nr_mapped (uint64_t first, unsigned count)
{
  unsigned nr = 0;

  for (unsigned i = 0; i < count && first + i < nr_mapped_max; i++)
    nr += mapped[first + i];
  return nr;
}

static void
map_count (uint64_t first, unsigned count, int change, int err)
{
  assert_int_equal (farpage_file_map_count (file, first * 4096,
                                            (uint64_t) count * 4096, change),
                    err);
  for (unsigned i = 0; err == 0 && i < count; i++)
    mapped[first + i] = change > 0;
}

static void
do_map (uint64_t *random)
{
  const uint64_t first = test_random_below (random, nr_mapped_max + 1);
  const unsigned count = 1 + test_random_below (random, 8);
  const uint64_t nr = (size + 4095) / 4096;

  switch (test_random_below (random, 3)) {
  case 0:
    if (first + count > nr)
      map_count (first, count, 1, EINVAL);
    else
      map_count (first, count, 1, nr_mapped (first, count) > 0 ? EBUSY : 0);
    break;
  case 1:
    map_count (first, count, -1, nr_mapped (first, count) < count ? EINVAL : 0);
    break;
  default: /* all that there are */
    for (uint64_t i = 0; i < nr_mapped_max; i++)
      if (mapped[i])
        map_count (i, 1, -1, 0);
  }
}

/* ---- as memory ---- */

static void
touch (uint64_t *random, uint8_t *memory, uint64_t off, size_t len)
{
  if (test_random_below (random, 2) == 0) {
    for (size_t i = 0; i < len; i++)
      memory[off + i] = plain[off + i] =
          (uint8_t) test_random_below (random, 256);
  } else if (memcmp (memory + off, plain + off, len) != 0) {
    fail_msg ("%zu bytes of memory at %" PRIu64 " are not those of the file",
              len, off);
  }
}

/* All of it, within half of the cache, for a while. */
static void
do_memory (uint64_t *random, uint64_t most)
{
  const uint64_t lo = min_u64 (size, window_begin (most));
  struct farpage_map *map;
  int err = farpage_map_file (file, CACHE_BYTES, &map);

  if (size == 0 || mapped_end () > 0) {
    assert_int_equal (err, size == 0 ? EINVAL : EBUSY);
    return;
  }
  assert_int_equal (err, 0);
  for (unsigned i = 0; i < 40; i++) {
    const uint64_t off = lo + test_random_below (random, size - lo);

    touch (random, farpage_map_address (map), off,
           min_u64 (size - off, test_random_below (random, 5000)));
  }
  if (size > 1)
    assert_int_equal (farpage_file_setsize (file, 1), EBUSY);
  if (test_random_below (random, 2) == 0) {
    const uint64_t off = lo + test_random_below (random, size - lo);

    assert_int_equal (farpage_sync (map, 0, size), 0);
    compare (off, 3000);
  }
  assert_int_equal (farpage_unmap (map), 0);
}

/* ---- by pages ---- */

#define COUNT 30u

static struct {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  unsigned nr;
  uint64_t first;
  enum farpage_result result[COUNT];
} told = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, { 0 } };

static void
on_page (void *arg, uint64_t page, enum farpage_result result)
{
  (void) arg;
  pthread_mutex_lock (&told.lock);
  told.result[page - told.first] = result;
  told.nr++;
  pthread_cond_signal (&told.cond);
  pthread_mutex_unlock (&told.lock);
}

static void
aio_get (uint64_t first, unsigned count, enum farpage_result result[])
{
  told.nr = 0;
  told.first = first;
  assert_int_equal (
      farpage_file_aio_getpages (file, first, count, 3, 5, on_page, NULL), 0);
  pthread_mutex_lock (&told.lock);
  while (told.nr < count)
    pthread_cond_wait (&told.cond, &told.lock);
  pthread_mutex_unlock (&told.lock);
  memcpy (result, told.result, count * sizeof result[0]);
}

static void
do_get (uint64_t *random, uint64_t first, unsigned count)
{
  const uint64_t nr = (size + 4095) / 4096;
  enum farpage_result result[COUNT];
  unsigned behind = test_random_below (random, 20);
  unsigned ahead = test_random_below (random, 20);
  unsigned b = behind, a = ahead;

  if (test_random_below (random, 2) == 0) {
    aio_get (first, count, result);
  } else {
    assert_int_equal (
        farpage_file_getpages (file, first, count, &b, &a, result), 0);
    assert_true (b <= behind && a <= ahead);
  }
  for (unsigned i = 0; i < count; i++)
    assert_int_equal (result[i], first + i < nr ? FARPAGE_OK : FARPAGE_BAD);
  compare (first * 4096, min_u64 (count * 4096, LEN_MAX));
}

static void
do_put (uint64_t *random, uint64_t first, unsigned count)
{
  static const int flags[] = { 0, FARPAGE_SYNC, FARPAGE_INVAL, FARPAGE_NOREUSE,
                               FARPAGE_CLUSTER_OK };
  const int flag = flags[test_random_below (random, 5)];
  const uint64_t nr = (size + 4095) / 4096;
  enum farpage_result result[COUNT];

  assert_int_equal (farpage_file_putpages (file, first, count, flag, result),
                    0);
  for (unsigned i = 0; i < count; i++)
    if (first + i >= nr)
      assert_int_equal (result[i], FARPAGE_BAD);
    else if (flag == FARPAGE_SYNC || flag == FARPAGE_INVAL)
      assert_int_equal (result[i], FARPAGE_OK);
    else
      assert_true (result[i] == FARPAGE_OK || result[i] == FARPAGE_PEND);
}

/* What it says is a hole reads as zeros. */
static void
do_has (uint64_t page)
{
  unsigned before = 0, after = 0;
  const uint64_t nr = (size + 4095) / 4096;
  const bool has = farpage_file_haspage (file, page, &before, &after);

  if (page >= nr)
    assert_false (has);
  else if (has)
    assert_true (before <= page && page + after < nr);
  else
    for (uint64_t i = page * 4096; i < min_u64 (size, page * 4096 + 4096); i++)
      assert_int_equal (plain[i], 0);
}

/* What it passes over is zeros. */
static void
do_next (uint64_t off)
{
  uint64_t from = size, to = size;
  int err = farpage_file_next_data (file, off, &from, &to);

  assert_int_equal (err, from == size ? ENXIO : 0);
  assert_true (to <= size && (err != 0 || (off <= from && from < to)));
  for (uint64_t i = off; i < from; i++)
    if (plain[i] != 0)
      fail_msg ("byte %" PRIu64 " is no hole", i);
}

static void
do_pages (uint64_t *random, uint64_t most)
{
  const uint64_t lo = window_begin (most) / 4096;
  const uint64_t first = lo + test_random_below (random, most / 4096 - lo + 3);
  const unsigned count = 1 + test_random_below (random, COUNT);

  switch (test_random_below (random, 5)) {
  case 0:
    do_has (first);
    break;
  case 2:
    do_next (lo * 4096 + test_random_below (random, most - lo * 4096 + 2));
    break;
  case 1:
    do_get (random, first, count);
    break;
  default:
    do_put (random, first, count);
  }
}

static void
run (uint64_t most, uint64_t *random)
{
  const uint64_t ops = test_environment ("FARPAGE_RANDOM_OPS", OPS);
  const uint64_t lo = window_begin (most), span = most - lo;

  for (uint64_t i = 0; i < ops; i++) {
    uint64_t off = lo + test_random_below (random, span + span / 16 + 2);
    size_t len = test_random_below (random, LEN_MAX);
    unsigned what = test_random_below (random, 100);

    if (test_random_below (random, 3) != 0)
      len = test_random_below (random, 5000);
    if (test_random_below (random, 4) == 0)
      off = off / 4096 * 4096;
    if (what < 30)
      compare (off, len);
    else if (what < 45)
      do_pages (random, most);
    else if (what < 80)
      do_write (random, off, len);
    else if (what < 84)
      do_setsize (random, most);
    else if (what < 90)
      assert_int_equal (farpage_file_setsize (file, size = most), 0);
    else if (what < 96)
      assert_int_equal (farpage_file_sync (file), 0);
    else if (what < 97)
      check ();
    else if (what < 98)
      do_map (random);
    else if (what < 99)
      do_memory (random, most);
    else
      do_reopen (most, test_random_below (random, 2) != 0);
  }
  for (uint64_t off = 0; off < size; off += LEN_MAX)
    compare (off, LEN_MAX);
}

/* state: a struct rig. */
static void
test_model (void **state)
{
  const struct rig *rig = *state;
  uint64_t random = test_seed ();

  if (!server_start (&server, rig->kind, rig->size, rig->filter))
    skip ();
  link_ = NULL; /* one before this may have failed */
  open_file ();
  size = farpage_file_size (file);
  if (rig->kind != SERVER_FARPAGE) /* which has a least size */
    assert_int_equal (size, rig->size);
  plain = calloc (1, size + LEN_MAX + 1);
  buf = malloc (LEN_MAX);
  nr_mapped_max = (size + 4095) / 4096;
  mapped = calloc (1, nr_mapped_max);
  run (size, &random);
  check ();
  assert_int_equal (farpage_file_close (file), 0);
  assert_int_equal (farpage_link_close (link_), 0);
  link_ = NULL;
  server_kill (&server);
  free (mapped);
  free (plain);
  free (buf);
}

#define MODEL(name, kind, size, filter)         \
  {                                             \
    name, test_model, NULL, NULL, &(struct rig) \
    {                                           \
      SERVER_##kind, size, filter               \
    }                                           \
  }
#define BLOCKS(n)                                                   \
  "blocksize-policy blocksize-minimum=" n " blocksize-preferred=" n \
  " blocksize-maximum=32M blocksize-error-policy=error"

int
main (void)
{
  const struct CMUnitTest tests[] = {
    MODEL ("memory", MEMORY, 1000000, NULL),
    MODEL ("memory, nothing", MEMORY, 0, NULL),
    MODEL ("memory, 1 byte", MEMORY, 1, NULL),
    MODEL ("memory, 511", MEMORY, 511, NULL),
    MODEL ("memory, 512", MEMORY, 512, NULL),
    MODEL ("memory, 4095", MEMORY, 4095, NULL),
    MODEL ("memory, 4097", MEMORY, 4097, NULL),
    MODEL ("memory, 1 GiB + 1", MEMORY, LARGE + 1, NULL),
    MODEL ("memory, holes are not told", MEMORY, 1000000, "noextents"),
    MODEL ("file", FILE, 700001, NULL),
    MODEL ("file, blocks of 512", FILE, 700416, BLOCKS ("512")),
    MODEL ("file, blocks of 4096", FILE, 172 * 4096, BLOCKS ("4096")),
    MODEL ("file, blocks of 64 KiB", FILE, 12 * 65536, BLOCKS ("64k")),
    MODEL ("qemu-nbd", QEMU, 1 << 20, NULL),
    MODEL ("nbd-server", NBD, 1 << 20, NULL),
    MODEL ("farpage", FARPAGE, 1 << 20, NULL),
  };

  static_assert (sizeof tests / sizeof tests[0] == CASES, "OPS is of them");
  return NET_RUN (tests);
}
