/* SPDX-License-Identifier: BSD-2-Clause */
/* Check on stores that the server made: closed, and as they lay there at
 * moments when the process could have died; then with blocks of these replaced
 * by their older selves, and with bits turned in the log.
 *
 * The thread sanitizer follows the server, and not what has one thread: check,
 * repair, an open until its threads start.
 *
 * FARPAGE_SEED: of what is written, and of the damage.
 */

#include <config.h>

#include "test-check-live.h"

#define DISK_BYTES (3 * MIB)
#define IO_MAX     (64 * 1024)
#define ROUNDS     4

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define NR_DAMAGES 60u
#else
#define NR_DAMAGES 400u
#endif

static int
begin (void **state)
{
  struct live *t = calloc (1, sizeof *t);
  static const uint64_t bytes[NR_VOLUMES] = { 8 * MIB, 12 * MIB };

  live_open (t, bytes, MIB);
  *state = t;
  return 0;
}

static int
end (void **state)
{
  live_close (*state);
  free (*state);
  return 0;
}

/* Some writes, trims, zeros and flushes. */
static void
use (struct live *t, const char *name, unsigned nr)
{
  static uint8_t buf[IO_MAX];
  const struct peer peer = { .kind = PEER_UNKNOWN };
  struct conn *c;

  assert_int_equal (store_connect (t->s, name, false, &peer, &c), 0);
  for (unsigned i = 0; i < nr; i++) {
    uint64_t off = rnd () % (DISK_BYTES - IO_MAX) & ~UINT64_C (511);
    uint32_t bytes = (uint32_t) (512 + rnd () % (IO_MAX - 512)) & ~511u;
    unsigned what = (unsigned) rnd () % 16;

    memset (buf, (int) rnd (), sizeof buf);
    if (rnd () % 2)
      bytes = PAGE_BYTES;
    if (what < 10)
      assert_int_equal (conn_write (c, buf, off, bytes, false), 0);
    else if (what < 13)
      assert_int_equal (conn_trim (c, off, bytes, false), 0);
    else if (what < 15)
      assert_int_equal (conn_zero (c, off, bytes, what == 13, false, false), 0);
    else
      assert_int_equal (conn_flush (c), 0);
  }
  store_disconnect (c);
}

static void
flush (struct live *t, const char *name)
{
  const struct peer peer = { .kind = PEER_UNKNOWN };
  struct conn *c;

  assert_int_equal (store_connect (t->s, name, false, &peer, &c), 0);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
}

static int
look (struct live *t)
{
  int err;

  test_alone_begin ();
  err = found_run (&t->found, t->v, NR_VOLUMES, true);
  test_alone_end ();
  return err;
}

static void
expect_clean (struct live *t, bool closed)
{
  assert_int_equal (look (t), 0);
  found_none (&t->found);
  assert_true (t->found.report.whole);
  assert_int_equal (t->found.report.closed, closed);
  assert_true (closed || t->found.report.recovered);
}

static void
test_closed (void **state)
{
  struct live *t = *state;

  open_store (t);
  make (t, "a", DISK_BYTES);
  close_store (t);
  expect_clean (t, true);
  assert_int_equal (t->found.report.nr_objects, 1);
  for (unsigned i = 0; i < ROUNDS; i++) {
    open_store (t);
    use (t, "a", 100);
    close_store (t);
    expect_clean (t, true);
  }
  assert_true (t->found.report.nr_mapped > 0);
  open_store (t);
  make (t, "b", DISK_BYTES);
  use (t, "b", 100);
  assert_int_equal (store_remove (t->s, "a", false), 0);
  close_store (t);
  expect_clean (t, true);
  assert_int_equal (t->found.report.nr_objects, 1);
}

/* Copies of a store that is open, while nobody writes: what a dead process
 * leaves without staging.
 */
static void
make_open (struct live *t)
{
  open_store (t);
  make (t, "a", DISK_BYTES);
  make (t, "b", DISK_BYTES);
  use (t, "a", 150);
  close_store (t);
  open_store (t);
  use (t, "b", 100);
  assert_int_equal (store_remove (t->s, "a", false), 0);
  make (t, "c", DISK_BYTES);
  use (t, "c", 100);
  use (t, "b", 50);
  flush (t, "b");
  use (t, "c", 20);
  save_quiet (t);
  close_store (t);
  put_back (t);
}

static void
test_open (void **state)
{
  struct live *t = *state;
  unsigned nr_recovered = 0;

  for (unsigned i = 0; i < ROUNDS; i++) {
    make_open (t);
    assert_int_equal (look (t), 0);
    found_none (&t->found);
    assert_true (t->found.report.whole);
    assert_non_null (strstr (t->found.notes, "was not closed"));
    if (!t->found.report.recovered) /* then there was nothing to be done */
      assert_non_null (strstr (t->found.notes, " 0 nodes' images"));
    nr_recovered += t->found.report.recovered;
    assert_null (check_store_images (t->v, NR_VOLUMES, true));
    save (t); /* nothing was written */
    open_store (t);
    assert_int_equal (store_remove (t->s, "b", false), 0);
    assert_int_equal (store_remove (t->s, "c", false), 0);
    close_store (t);
    expect_clean (t, true);
  }
  assert_true (nr_recovered > 0);
}

/* ---- repair of a store that was not closed: recovery for real ---- */

static uint64_t
sum_of (struct live *t, const char *name)
{
  static uint8_t buf[IO_MAX];
  const struct peer peer = { .kind = PEER_UNKNOWN };
  struct conn *c;
  uint32_t crc = 0;

  assert_int_equal (store_connect (t->s, name, true, &peer, &c), 0);
  for (uint64_t off = 0; off < DISK_BYTES; off += sizeof buf) {
    assert_int_equal (conn_read (c, buf, off, sizeof buf), 0);
    crc = crc32c (crc, buf, sizeof buf);
  }
  store_disconnect (c);
  return crc;
}

static int
repair (struct live *t, const char *undo, uint64_t *nr)
{
  struct check_config config = { .volumes = t->v,
                                 .nr_volumes = NR_VOLUMES,
                                 .found = found_keep,
                                 .note = found_note,
                                 .arg = &t->found };
  struct check_repair r = { .undo_path = undo };
  int err;

  unlink (undo);
  memset (&t->found, 0, sizeof t->found);
  test_alone_begin ();
  err = check_repair (&config, &r, &t->found.report, nr);
  test_alone_end ();
  return err;
}

/* Interrupted at some write, then once more: what recovery finds is the same,
 * and what it promises is there.
 */
static void
interrupt (struct live *t, const char *undo, unsigned skip)
{
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = VIO_WRITE, .skip = skip, .error = EIO
  };
  uint64_t nr;

  for (unsigned i = 0; i < NR_VOLUMES; i++)
    fault_add (t->v[i], &rule);
  assert_int_equal (repair (t, undo, &nr), EIO);
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    fault_clear (t->v[i]);
}

/* A store that was not closed and that recovery has something to do for: when
 * the machine is slow, a cycle may have ended just before.
 */
static uint64_t
make_repairable (struct live *t, const char *undo)
{
  uint64_t nr;

  for (unsigned tries = 0; tries < 20; tries++) {
    make_open (t);
    assert_int_equal (repair (t, undo, &nr), 0);
    found_none (&t->found);
    if (nr > 0)
      return nr;
    open_store (t);
    assert_int_equal (store_remove (t->s, "b", false), 0);
    assert_int_equal (store_remove (t->s, "c", false), 0);
    close_store (t);
  }
  fail_msg ("never anything to recover");
  return 0;
}

static void
test_repair (void **state)
{
  struct live *t = *state;
  char dir[] = "/tmp/test-check.XXXXXX", undo[64];
  uint64_t nr, nr_planned, sum[2];

  assert_non_null (mkdtemp (dir));
  snprintf (undo, sizeof undo, "%s/undo", dir);
  nr_planned = make_repairable (t, undo);
  assert_int_equal (check_restore (undo, t->v, NR_VOLUMES, &nr), 0);
  assert_int_equal (nr, nr_planned);
  assert_true (is_saved (t));
  open_store (t);
  sum[0] = sum_of (t, "b");
  sum[1] = sum_of (t, "c");
  close_store (t);
  for (unsigned skip = 0; skip < nr_planned / NR_VOLUMES;
       skip += 1 + (unsigned) (nr_planned / 24)) {
    put_back (t);
    interrupt (t, undo, skip);
    assert_int_equal (look (t), 0);
    found_none (&t->found);
    assert_int_equal (repair (t, undo, &nr), 0);
    found_none (&t->found);
    assert_int_equal (look (t), 0);
    found_none (&t->found);
    assert_false (t->found.report.recovered);
    open_store (t);
    assert_int_equal (sum_of (t, "b"), sum[0]);
    assert_int_equal (sum_of (t, "c"), sum[1]);
    close_store (t);
    expect_clean (t, true);
  }
  print_message ("%" PRIu64 " blocks written\n", nr_planned);
  unlink (undo);
  rmdir (dir);
}

/* ---- damage ---- */

static void
damage (struct live *t, unsigned i, uint64_t place, const uint8_t *older)
{
  uint8_t page[PAGE_BYTES];

  memcpy (page, t->image[i] + place * PAGE_BYTES, sizeof page);
  if (older != NULL)
    memcpy (page, older + place * PAGE_BYTES, sizeof page);
  else
    page[rnd () % PAGE_BYTES] ^= (uint8_t) (1u << rnd () % 8);
  if (older == NULL && rnd () % 2)
    node_seal ((struct disk_node *) page);
  assert_int_equal (
      volume_write (t->v[i], place * PAGE_BYTES, page, sizeof page), 0);
}

static void
undamage (struct live *t, unsigned i, uint64_t place)
{
  assert_int_equal (volume_write (t->v[i], place * PAGE_BYTES,
                                  t->image[i] + place * PAGE_BYTES, PAGE_BYTES),
                    0);
}

/* A block that is not all zero. */
static uint64_t
some_block (struct live *t, unsigned i)
{
  static const uint8_t zeros[PAGE_BYTES];
  uint64_t nr = t->v[i]->size_bytes / PAGE_BYTES, place = rnd () % nr;

  while (memcmp (t->image[i] + place * PAGE_BYTES, zeros, sizeof zeros) == 0)
    place = (place + 1) % nr;
  return place;
}

/* Not closed: bits anywhere, the log among them; recovery runs on it. */
static void
test_damage (void **state)
{
  struct live *t = *state;
  unsigned nr_found = 0;

  make_open (t);
  for (unsigned n = 0; n < NR_DAMAGES; n++) {
    unsigned i = (unsigned) rnd () % 4 == 0;
    uint64_t place = some_block (t, i);
    int err;

    damage (t, i, place, NULL);
    err = look (t);
    assert_true (err == 0 || err == EINVAL);
    nr_found += err != 0 || t->found.nr > 0;
    undamage (t, i, place);
  }
  assert_true (nr_found > NR_DAMAGES / 8);
  print_message ("%u of %u damages found\n", nr_found, NR_DAMAGES);
  assert_int_equal (look (t), 0);
  found_none (&t->found);
}

/* Closed: any block that has changed since an older clean state, put back to
 * what it was then.  If it counts (META, DATA in use) that is found.
 */
static void
test_older (void **state)
{
  struct live *t = *state;
  uint8_t *older[NR_VOLUMES];
  unsigned nr = 0, nr_found = 0;

  open_store (t);
  make (t, "a", DISK_BYTES);
  use (t, "a", 150);
  close_store (t);
  save (t);
  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    older[i] = malloc (t->v[i]->size_bytes);
    memcpy (older[i], t->image[i], t->v[i]->size_bytes);
  }
  open_store (t);
  use (t, "a", 150);
  close_store (t);
  save (t);
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    for (uint64_t p = 0; p < t->v[i]->size_bytes / PAGE_BYTES; p++) {
      const struct disk_node *was =
          (const struct disk_node *) (older[i] + p * PAGE_BYTES);
      const struct disk_node *is =
          (const struct disk_node *) (t->image[i] + p * PAGE_BYTES);

      if (memcmp (was, is, PAGE_BYTES) == 0)
        continue;
      damage (t, i, p, older[i]);
      (void) look (t);
      nr++;
      nr_found += t->found.nr > 0;
      if (was->magic == DISK_NODE_MAGIC && is->magic == DISK_NODE_MAGIC &&
          was->cycle != is->cycle)
        assert_true (t->found.nr > 0);
      undamage (t, i, p);
    }
  assert_true (nr_found > 20);
  print_message ("%u of %u older blocks found\n", nr_found, nr);
  expect_clean (t, true);
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    free (older[i]);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_closed), CASE (test_open),  CASE (test_repair),
    CASE (test_damage), CASE (test_older),
  };

  seed_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
