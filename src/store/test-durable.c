/* SPDX-License-Identifier: BSD-2-Clause */
/* Durable stores through store.h: what is there after a stop, after a crash
 * (the volume's bytes as they were at a moment, with what no flush covered
 * lost or not), and what a store that has failed still does.
 *
 * The volume is memory behind a fault volume.  A store does not close it, so
 * that the next one finds it.
 */

#include <config.h>

#include "test-kept.h"

#define DISK    (16 * MIB)
#define NR_MANY 2000u
#define OPEN_MS 20000u
#define LARGE   (96 * MIB)
#define SMALL   (1 * MIB)
#define LEAVES  1200u /* a MiB of a disk each: far more than SMALL holds */

static void
test_reopen (void **state)
{
  struct kept *k = *state;
  struct store_create c = { .name = "r", .size_bytes = DISK, .reserve = true };
  char instance[INSTANCE_HEX + 1];
  struct object_stat was, is;
  struct store_stat before;
  struct conn *conn;

  create (&k->rig, "a", DISK + 1234);
  assert_int_equal (store_create (k->rig.s, &c, instance), 0);
  conn = open_as (&k->rig, "a", &peer_a);
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal (write_byte (conn, i * 5 * PAGE_BYTES, (uint8_t) (i + 1)),
                      0);
  store_disconnect (conn);
  assert_true (object_of (&k->rig, "a", &was));
  before = stat_of (&k->rig);
  for (unsigned round = 0; round < 3; round++) {
    reopen (k);
    assert_true (durable_of (k).recovery.clean);
    assert_true (object_of (&k->rig, "a", &is));
    assert_string_equal (is.instance, was.instance);
    assert_int_equal (is.size_bytes, DISK + 1234);
    assert_int_equal (is.mapped_bytes, 64 * PAGE_BYTES);
    assert_true (object_of (&k->rig, "r", &is));
    assert_string_equal (is.instance, instance);
    assert_int_equal (is.reserved_bytes, DISK);
    assert_int_equal (stat_of (&k->rig).reserved_bytes, before.reserved_bytes);
    assert_int_equal (stat_of (&k->rig).free_bytes, before.free_bytes);
    conn = open_as (&k->rig, "a", &peer_a);
    for (unsigned i = 0; i < 64; i++)
      assert_int_equal (read_byte (conn, i * 5 * PAGE_BYTES), i + 1);
    store_disconnect (conn);
  }
  assert_string_equal (before.durability, "flush");
}

static void
test_create_remove (void **state)
{
  struct kept *k = *state;
  struct object_stat st;
  char name[OBJECT_NAME_MAX + 1];

  create (&k->rig, "a", DISK);
  save (k);
  crash (k);
  assert_false (durable_of (k).recovery.clean);
  assert_true (object_of (&k->rig, "a", &st));
  assert_int_equal (store_default (k->rig.s, name), 0);
  assert_string_equal (name, "a");
  create (&k->rig, "b", DISK);
  assert_int_equal (store_remove (k->rig.s, "a", false), 0);
  save (k);
  crash (k);
  assert_false (object_of (&k->rig, "a", &st));
  assert_true (object_of (&k->rig, "b", &st));
  assert_int_equal (store_default (k->rig.s, name), 0);
  assert_string_equal (name, "b");
}

static void
test_flush (void **state)
{
  struct kept *k = *state;
  struct conn *c, *other;

  create (&k->rig, "a", DISK);
  create (&k->rig, "b", DISK);
  c = open_as (&k->rig, "a", &peer_a);
  other = open_as (&k->rig, "b", &peer_b);
  for (unsigned i = 0; i < 32; i++)
    assert_int_equal (write_byte (c, i * 3 * PAGE_BYTES, 7), 0);
  assert_int_equal (conn_flush (other), 0); /* another connection's counts */
  save (k);
  store_disconnect (c);
  store_disconnect (other);
  crash (k);
  c = open_as (&k->rig, "a", &peer_a);
  for (unsigned i = 0; i < 32; i++)
    assert_int_equal (read_byte (c, i * 3 * PAGE_BYTES), 7);
  store_disconnect (c);
}

static void
test_fua (void **state)
{
  struct kept *k = *state;
  static uint8_t page[PAGE_BYTES] __attribute__ ((aligned (4096)));
  struct conn *c;

  create (&k->rig, "a", DISK);
  c = open_as (&k->rig, "a", &peer_a);
  memset (page, 5, sizeof page);
  assert_int_equal (write_byte (c, PAGE_BYTES, 4), 0);
  assert_int_equal (write_byte (c, 2 * PAGE_BYTES, 4), 0);
  assert_int_equal (conn_write (c, page, 0, PAGE_BYTES, true), 0);
  assert_int_equal (conn_trim (c, PAGE_BYTES, PAGE_BYTES, true), 0);
  assert_int_equal (
      conn_zero (c, 2 * PAGE_BYTES, PAGE_BYTES, false, false, true), 0);
  save (k);
  store_disconnect (c);
  crash (k);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (read_byte (c, 0), 5);
  assert_int_equal (read_byte (c, PAGE_BYTES), 0);
  assert_int_equal (read_byte (c, 2 * PAGE_BYTES), 0);
  store_disconnect (c);
}

/* A disk that was being emptied goes on being so at the next start. */
static void
test_dying (void **state)
{
  static uint8_t buf[4 * MIB] __attribute__ ((aligned (4096)));
  struct kept *k = *state;
  uint64_t free_bytes = stat_of (&k->rig).free_bytes;
  struct object_stat st;
  struct conn *c;

  create (&k->rig, "a", DISK);
  c = open_as (&k->rig, "a", &peer_a);
  memset (buf, 9, sizeof buf);
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal (conn_write (c, buf, i * sizeof buf, sizeof buf, true), 0);
  /* It is open: the step to "dying" is made, and it is emptied, and saved in
   * whatever state it is then.
   */
  assert_int_equal (store_remove (k->rig.s, "a", true), 0);
  save (k);
  store_disconnect (c);
  crash (k);
  assert_false (object_of (&k->rig, "a", &st));
  for (unsigned i = 0; stat_of (&k->rig).free_bytes + MIB < free_bytes; i++) {
    assert_true (i < 1000);
    usleep (10000);
  }
  create (&k->rig, "a", DISK);
}

static void
write_leaves (struct kept *k, unsigned with)
{
  struct conn *c = open_as (&k->rig, "a", &peer_a);

  for (unsigned i = 0; i < LEAVES; i++)
    assert_int_equal (write_byte (c, i * MIB, (uint8_t) (i + with)), 0);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
}

static void
check_leaves (struct kept *k, unsigned with)
{
  struct conn *c = open_as (&k->rig, "a", &peer_a);

  for (unsigned i = 0; i < LEAVES; i++)
    assert_int_equal (read_byte (c, i * MIB), (uint8_t) (i + with));
  store_disconnect (c);
}

/* A server with little memory comes after one that had much, and has changed
 * more nodes than the other can hold: first new ones, then some that were.
 */
static void
test_small_cache (void **state)
{
  struct kept *k = *state;
  uint64_t most = 0;

  k->cache_bytes = LARGE;
  reopen (k);
  create (&k->rig, "a", LEAVES * MIB);
  for (unsigned round = 1; round <= 3; round++) {
    struct durable_stat st;

    write_leaves (k, round);
    save (k);
    k->cache_bytes = SMALL;
    crash (k);
    st = durable_of (k);
    assert_false (st.recovery.clean);
    assert_int_equal (st.cache.size_bytes, SMALL);
    print_message ("%" PRIu64 " KiB of maps written by recovery\n",
                   st.log.meta_bytes >> 10);
    most = max_u64 (most, st.log.meta_bytes);
    check_leaves (k, round);
    assert_null (store_check (k->rig.s));
    k->cache_bytes = LARGE;
    reopen (k);
    check_leaves (k, round);
  }
  /* A cycle may have come by just before a crash, but not each time. */
  assert_true (most > 2 * SMALL);
}

static void
test_many (void **state)
{
  struct kept *k = *state;
  struct object_stat st;
  uint64_t begin_ns;
  char name[16];

  for (unsigned i = 0; i < NR_MANY; i++) {
    snprintf (name, sizeof name, "d%u", i);
    create (&k->rig, name, MIB);
  }
  begin_ns = env_now_ns ();
  reopen (k);
  begin_ns = (env_now_ns () - begin_ns) / NS_PER_MS;
  print_message ("%u disks: stopped and open again in %" PRIu64 " ms\n",
                 NR_MANY, begin_ns);
  assert_true (begin_ns < OPEN_MS);
  assert_int_equal (stat_of (&k->rig).nr_objects, NR_MANY);
  assert_true (object_of (&k->rig, "d0", &st));
  assert_true (object_of (&k->rig, name, &st));
}

/* The log cannot be written: reads go on, all else is EIO, told once. */
static void
test_failed (void **state)
{
  struct kept *k = *state;
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = VIO_WRITE, .error = EIO, .count = UINT32_MAX
  };
  struct store_create sc = { .name = "b", .size_bytes = DISK };
  char instance[INSTANCE_HEX + 1];
  struct conn *c;

  create (&k->rig, "a", DISK);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (write_byte (c, 0, 3), 0);
  assert_int_equal (conn_flush (c), 0);
  assert_null (stat_of (&k->rig).failed);
  fault_add (k->rig.fault, &rule);
  (void) write_byte (c, PAGE_BYTES, 4);
  assert_int_equal (conn_flush (c), EIO);
  fault_clear (k->rig.fault); /* it stays failed all the same */
  assert_non_null (stat_of (&k->rig).failed);
  assert_int_equal (test_log_has ("store: failed"), 1);
  assert_int_equal (write_byte (c, 2 * PAGE_BYTES, 4), EIO);
  assert_int_equal (conn_flush (c), EIO);
  assert_int_equal (conn_trim (c, 0, PAGE_BYTES, false), EIO);
  assert_int_equal (store_create (k->rig.s, &sc, instance), EIO);
  assert_int_equal (read_byte (c, 0), 3);
  assert_int_equal (test_log_has ("store: failed"), 1);
  store_disconnect (c);
  assert_int_equal (store_stop (k->rig.s), EIO);
  close_store (k);
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (read_byte (c, 0), 3);
  store_disconnect (c);
}

/* A disk with a byte in it, in a store that is stopped. */
static void
make_stopped (struct kept *k)
{
  struct conn *c;

  create (&k->rig, "a", DISK);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (write_byte (c, 0, 3), 0);
  store_disconnect (c);
  assert_int_equal (store_stop (k->rig.s), 0);
  close_store (k);
}

/* Whoever comes to a store open read-only may read, and has nothing to wait
 * for.
 */
static void
test_readonly (void **state)
{
  struct kept *k = *state;
  struct conn *c, *d;

  make_stopped (k);
  k->readonly = true;
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
  c = open_as (&k->rig, "a", &peer_a);
  d = open_as (&k->rig, "a", &peer_b);
  assert_true (conn_readonly (c));
  assert_int_equal (write_byte (c, 0, 4), EPERM);
  assert_int_equal (conn_owner_pid (d), 0);
  store_disconnect (c);
  assert_false (conn_look_again (d));
  assert_true (conn_readonly (d));
  assert_int_equal (write_byte (d, 0, 4), EPERM);
  assert_int_equal (read_byte (d, 0), 3);
  store_disconnect (d);
}

/* All slots get a feature that nobody knows, which forbids writing. */
static void
add_feature (struct kept *k)
{
  void *page = aligned_alloc (PAGE_BYTES, PAGE_BYTES);
  struct supers *s = calloc (1, sizeof *s);

  assert_true (page != NULL && s != NULL);
  assert_int_equal (supers_read (&k->memory, 1, s), 0);
  s->root.ro_compat = 4;
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    assert_int_equal (supers_write_root (s, page), 0);
  free (s);
  free (page);
}

static void
test_readonly_feature (void **state)
{
  struct kept *k = *state;
  struct conn *c;

  make_stopped (k);
  add_feature (k);
  assert_int_equal (open_store (k, STORE_FLUSH), EROFS);
  k->readonly = true;
  assert_int_equal (open_store (k, STORE_FLUSH), 0);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (read_byte (c, 0), 3);
  store_disconnect (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_reopen),   CASE (test_create_remove),
    CASE (test_flush),    CASE (test_fua),
    CASE (test_dying),    CASE (test_many),
    CASE (test_failed),   CASE (test_small_cache),
    CASE (test_readonly), CASE (test_readonly_feature),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
