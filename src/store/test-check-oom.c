/* SPDX-License-Identifier: BSD-2-Clause */
/* Check and repair without memory: each single request for it fails in turn.
 * Then they say ENOMEM, or say and do what they would have; no finding is made
 * up or missed, and a repair that ends with an error has changed nothing.
 *
 * Check and repair have one thread, which the thread sanitizer does not follow
 * here; it does in test-check.c and test-check-repair.c.
 *
 * The linker puts the __wrap_ functions in place of the real ones.
 */

#include <config.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "test-check-live.h"

static atomic_ullong nr_requests, fail_at; /* 0: none fails */

static bool
fails (void)
{
  unsigned long long n = atomic_fetch_add (&nr_requests, 1) + 1;

  if (n != atomic_load (&fail_at))
    return false;
  errno = ENOMEM;
  return true;
}

static void
fail_nth (unsigned long long n)
{
  atomic_store (&nr_requests, 0);
  atomic_store (&fail_at, n);
}

extern void *__real_malloc (size_t bytes);
extern void *__real_calloc (size_t nr, size_t bytes);
extern void *__real_realloc (void *ptr, size_t bytes);
extern void *__real_aligned_alloc (size_t align, size_t bytes);
extern char *__real_strdup (const char *text);
extern void *__real_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                          off_t off);
extern void *__wrap_malloc (size_t bytes);
extern void *__wrap_calloc (size_t nr, size_t bytes);
extern void *__wrap_realloc (void *ptr, size_t bytes);
extern void *__wrap_aligned_alloc (size_t align, size_t bytes);
extern char *__wrap_strdup (const char *text);
extern void *__wrap_mmap (void *addr, size_t bytes, int prot, int flags, int fd,
                          off_t off);

void *
__wrap_malloc (size_t bytes)
{
  return fails () ? NULL : __real_malloc (bytes);
}

void *
__wrap_calloc (size_t nr, size_t bytes)
{
  return fails () ? NULL : __real_calloc (nr, bytes);
}

void *
__wrap_realloc (void *ptr, size_t bytes)
{
  return fails () ? NULL : __real_realloc (ptr, bytes);
}

void *
__wrap_aligned_alloc (size_t align, size_t bytes)
{
  return fails () ? NULL : __real_aligned_alloc (align, bytes);
}

char *
__wrap_strdup (const char *text)
{
  return fails () ? NULL : __real_strdup (text);
}

void *
__wrap_mmap (void *addr, size_t bytes, int prot, int flags, int fd, off_t off)
{
  return fails () ? MAP_FAILED
                  : __real_mmap (addr, bytes, prot, flags, fd, off);
}

/* ---- */

struct rig {
  struct volume **v;
  unsigned nr;
  uint8_t *image[STORE_MAX];
  char dir[64], undo[128];
  struct found found, whole; /* with all memory */
};

static void
read_images (struct rig *t, uint8_t *to[STORE_MAX])
{
  for (unsigned i = 0; i < t->nr; i++)
    assert_int_equal (volume_read (t->v[i], 0, to[i], t->v[i]->size_bytes), 0);
}

static void
take_images (struct rig *t)
{
  for (unsigned i = 0; i < t->nr; i++)
    t->image[i] = aligned_alloc (PAGE_BYTES, t->v[i]->size_bytes);
  read_images (t, t->image);
}

static void
put_images (struct rig *t)
{
  for (unsigned i = 0; i < t->nr; i++)
    assert_int_equal (
        volume_write (t->v[i], 0, t->image[i], t->v[i]->size_bytes), 0);
}

static void
expect_images (struct rig *t)
{
  uint8_t *now[STORE_MAX];

  for (unsigned i = 0; i < t->nr; i++)
    now[i] = aligned_alloc (PAGE_BYTES, t->v[i]->size_bytes);
  read_images (t, now);
  for (unsigned i = 0; i < t->nr; i++) {
    assert_memory_equal (now[i], t->image[i], t->v[i]->size_bytes);
    free (now[i]);
  }
}

static void
expect_same (const struct rig *t, unsigned long long n)
{
  const struct found *a = &t->found, *b = &t->whole;

  for (unsigned i = 0; i < a->nr || i < b->nr; i++)
    if (i >= a->nr || i >= b->nr || strcmp (a->text[i], b->text[i]) != 0)
      fail_msg ("request %llu failed: finding '%s', not '%s'", n,
                i < a->nr ? a->text[i] : "", i < b->nr ? b->text[i] : "");
}

/* Each request of a check. */
static void
check_each (struct rig *t)
{
  unsigned long long n = 0, nr_all;
  unsigned nr_refused = 0;
  int err;

  assert_int_equal (found_run (&t->whole, t->v, t->nr, true), 0);
  do {
    fail_nth (++n);
    err = found_run (&t->found, t->v, t->nr, true);
    nr_all = atomic_load (&nr_requests);
    fail_nth (0);
    nr_refused += err != 0;
    if (err != ENOMEM) {
      assert_int_equal (err, 0);
      expect_same (t, n);
    }
    expect_images (t);
  } while (n <= nr_all);
  print_message ("check: %llu requests failed, %u times ENOMEM\n", n - 1,
                 nr_refused);
  assert_true (nr_refused > 5);
}

static bool
go (void *arg, uint64_t nr_blocks, const struct check_report *after)
{
  (void) arg;
  (void) nr_blocks;
  (void) after;
  return true;
}

static int
repair (struct rig *t, struct found *found, uint64_t *nr)
{
  struct check_config config = { .volumes = t->v,
                                 .nr_volumes = t->nr,
                                 .found = found_keep,
                                 .note = found_note,
                                 .arg = found };
  struct check_repair r = { .lose_pages = true,
                            .undo_path = t->undo,
                            .go = go };

  unlink (t->undo);
  memset (found, 0, sizeof *found);
  *nr = 0;
  return check_repair (&config, &r, &found->report, nr);
}

static void
repair_each (struct rig *t)
{
  unsigned long long n = 0, nr_all;
  unsigned nr_refused = 0;
  uint64_t nr, nr_whole;
  int err;

  fail_nth (0);
  assert_int_equal (repair (t, &t->whole, &nr_whole), 0);
  assert_true (nr_whole > 0);
  put_images (t);
  do {
    fail_nth (++n);
    err = repair (t, &t->found, &nr);
    nr_all = atomic_load (&nr_requests);
    fail_nth (0);
    if (err == 0) {
      expect_same (t, n);
      assert_int_equal (nr, nr_whole);
      assert_int_equal (found_run (&t->found, t->v, t->nr, true), 0);
      found_none (&t->found);
      put_images (t);
    } else {
      assert_int_equal (err, ENOMEM);
      nr_refused++;
      assert_int_equal (access (t->undo, F_OK), -1);
      expect_images (t);
    }
  } while (n <= nr_all);
  print_message ("repair: %llu requests failed, %u times ENOMEM\n", n - 1,
                 nr_refused);
  assert_true (nr_refused > 5);
}

static void
run (struct volume **v, unsigned nr, bool damaged)
{
  struct rig *t = calloc (1, sizeof *t);

  t->v = v;
  t->nr = nr;
  snprintf (t->dir, sizeof t->dir, "/tmp/test-check.XXXXXX");
  assert_non_null (mkdtemp (t->dir));
  snprintf (t->undo, sizeof t->undo, "%s/undo", t->dir);
  test_alone_begin ();
  take_images (t);
  check_each (t);
  if (damaged)
    repair_each (t);
  test_alone_end ();
  for (unsigned i = 0; i < nr; i++)
    free (t->image[i]);
  unlink (t->undo);
  rmdir (t->dir);
  free (t);
}

static void
test_clean (void **state)
{
  struct store_made m;

  (void) state;
  made_open (&m, 2);
  run (m.v, m.nr, false);
  made_close (&m);
}

/* A slot, a leaf, a block with two owners, the free map. */
static void
test_damaged (void **state)
{
  static uint8_t zeros[PAGE_BYTES];
  struct disk_node node;
  struct disk_map *map = (struct disk_map *) node.body;
  struct store_made m;

  (void) state;
  made_open (&m, 2);
  blk_io (&m, VIO_WRITE, 1, zeros);
  blk_io (&m, VIO_WRITE, m.a_leaf[1].blk, zeros);
  blk_io (&m, VIO_READ, m.a_leaf[0].blk, &node);
  map->word[2] = map->word[1];
  node_store (&m, &node);
  blk_io (&m, VIO_WRITE, m.root.members[1].freemap.blk, zeros);
  run (m.v, m.nr, true);
  made_close (&m);
}

/* A store that was not closed: recovery in memory. */
static void
test_killed (void **state)
{
  static const uint64_t bytes[NR_VOLUMES] = { 3 * MIB / 2, MIB };
  static uint8_t page[PAGE_BYTES];
  const struct peer peer = { .kind = PEER_UNKNOWN };
  struct live live = { .s = NULL };
  struct conn *c;

  (void) state;
  live_open (&live, bytes, SUPER_RING_BLOCKS_MIN * DISK_BLOCK_BYTES);
  open_store (&live);
  make (&live, "a", MIB);
  assert_int_equal (store_connect (live.s, "a", false, &peer, &c), 0);
  for (unsigned i = 0; i < 20; i++) {
    memset (page, (int) i + 1, sizeof page);
    assert_int_equal (conn_write (c, page, i * PAGE_BYTES, sizeof page, true),
                      0);
  }
  save_quiet (&live);
  store_disconnect (c);
  close_store (&live);
  put_back (&live);
  run (live.v, NR_VOLUMES, true);
  live_close (&live);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_clean),
    cmocka_unit_test (test_damaged),
    cmocka_unit_test (test_killed),
  };

  seed_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
