/* SPDX-License-Identifier: BSD-2-Clause */
/* Other sizes for disks, through store.h: of volatile stores, and of durable
 * ones that stop, crash, and go on with what they had begun.
 */

#include <config.h>

#include "test-kept.h"

#include "durable.h"

#define VOLATILE(f) cmocka_unit_test_setup_teardown (f, setup, teardown)

static int
resize (struct rig *rig, const char *name, uint64_t bytes)
{
  return store_resize (rig->s, name, bytes);
}

static uint64_t
size_of (struct rig *rig, const char *name)
{
  struct object_stat st;

  assert_true (object_of (rig, name, &st));
  return st.size_bytes;
}

/* Nothing between off and end, which may be anywhere in a page. */
static void
assert_zeros (struct conn *c, uint64_t off, uint64_t end)
{
  static uint8_t buf[MIB], zero[MIB];

  while (off < end) {
    uint32_t n = (uint32_t) min_u64 (end - off, sizeof buf);

    assert_int_equal (conn_read (c, buf, off, n), 0);
    assert_memory_equal (buf, zero, n);
    off += n;
  }
}

/* ---- any store ---- */

/* Who has it open keeps the end that it was told; who comes has the new one. */
static void
larger (struct rig *rig)
{
  struct conn *old, *new;

  create (rig, "a", 10000);
  old = open_as (rig, "a", &peer_a);
  assert_int_equal (conn_write (old, "end", 9997, 3, false), 0);
  assert_int_equal (resize (rig, "a", 40 * MIB + 1), 0);
  assert_int_equal (size_of (rig, "a"), 40 * MIB + 1);
  assert_int_equal (conn_size_bytes (old), 10000);
  assert_int_equal (conn_write (old, "x", 10000, 1, false), EINVAL);
  assert_int_equal (conn_trim (old, 8192, 1809, false), EINVAL);
  new = open_as (rig, "a", &peer_a);
  assert_int_equal (conn_size_bytes (new), 40 * MIB + 1);
  assert_zeros (new, 10000, 40 * MIB + 1);
  assert_int_equal (conn_write (new, "beyond", 10000, 6, false), 0);
  assert_int_equal (conn_write (new, "z", 40 * MIB, 1, false), 0);
  assert_int_equal (write_byte (new, 30 * MIB, 9), 0);
  /* To the end that it knows, and not to the end of the page. */
  assert_int_equal (conn_trim (old, 8192, 1808, false), 0);
  assert_zeros (new, 8192, 10000);
  assert_int_equal (read_byte (new, 30 * MIB), 9);
  assert_int_equal (conn_write (old, "end", 9997, 3, false), 0);
  store_disconnect (old);
  store_disconnect (new);
}

static void
expect_text (struct conn *c, uint64_t off, const char *text)
{
  char buf[16];
  uint32_t n = (uint32_t) strlen (text);

  assert_int_equal (conn_read (c, buf, off, n), 0);
  assert_memory_equal (buf, text, n);
}

/* What lies behind the new end does not come back. */
static void
smaller (struct rig *rig)
{
  uint64_t free_bytes;
  struct conn *c;

  c = open_as (rig, "a", &peer_a);
  assert_int_equal (resize (rig, "a", 10003), EBUSY);
  assert_int_equal (size_of (rig, "a"), 40 * MIB + 1);
  expect_text (c, 9997, "endbeyond");
  expect_text (c, 40 * MIB, "z");
  store_disconnect (c);
  free_bytes = stat_of (rig).free_bytes;
  assert_int_equal (resize (rig, "a", 10003), 0);
  assert_true (stat_of (rig).free_bytes >= free_bytes + 2 * PAGE_BYTES);
  assert_int_equal (resize (rig, "a", 10003), 0); /* nothing to do */
  c = open_as (rig, "a", &peer_a);
  assert_int_equal (conn_size_bytes (c), 10003);
  expect_text (c, 9997, "endbey");
  assert_int_equal (resize (rig, "a", 40 * MIB), 0);
  store_disconnect (c);
  c = open_as (rig, "a", &peer_a);
  expect_text (c, 9997, "endbey");
  assert_zeros (c, 10003, 40 * MIB);
  store_disconnect (c);
}

/* An end that moves within its page: no page goes, only bytes. */
static void
within_page (struct rig *rig)
{
  struct conn *c;

  create (rig, "w", 6 * PAGE_BYTES);
  c = open_as (rig, "w", &peer_a);
  assert_int_equal (conn_write (c, "within", 5 * PAGE_BYTES, 6, false), 0);
  store_disconnect (c);
  assert_int_equal (resize (rig, "w", 5 * PAGE_BYTES + 5), 0);
  assert_int_equal (resize (rig, "w", 5 * PAGE_BYTES + 4), 0);
  assert_int_equal (size_of (rig, "w"), 5 * PAGE_BYTES + 4);
  assert_int_equal (resize (rig, "w", 6 * PAGE_BYTES), 0);
  c = open_as (rig, "w", &peer_a);
  expect_text (c, 5 * PAGE_BYTES, "with");
  assert_zeros (c, 5 * PAGE_BYTES + 4, 6 * PAGE_BYTES);
  store_disconnect (c);
  assert_int_equal (store_remove (rig->s, "w", false), 0);
}

static void
refused (struct rig *rig)
{
  struct conn *c = open_as (rig, "swap/s:1M", &peer_a);

  store_disconnect (c);
  assert_int_equal (resize (rig, "swap/s", 2 * MIB), ENOTSUP);
  assert_int_equal (resize (rig, "swap/none", 2 * MIB), ENOTSUP);
  assert_int_equal (resize (rig, "none", 2 * MIB), ENOENT);
  assert_int_equal (resize (rig, "a/b", 2 * MIB), ENOENT);
  assert_int_equal (resize (rig, "a", 0), EINVAL);
  assert_int_equal (resize (rig, "a", OBJECT_BYTES_MAX + 1), EINVAL);
  assert_int_equal (size_of (rig, "a"), 40 * MIB);
}

/* What a reserved disk gets is charged before, and given back after. */
static void
reserved (struct rig *rig)
{
  struct store_create sc = { .name = "r",
                             .size_bytes = 10 * MIB + 5,
                             .reserve = true };
  char instance[INSTANCE_HEX + 1];
  struct store_stat st = stat_of (rig), now;
  struct conn *c;

  assert_int_equal (store_create (rig->s, &sc, instance), 0);
  c = open_as (rig, "r", &peer_a);
  assert_int_equal (write_byte (c, 3 * MIB, 3), 0);
  assert_int_equal (resize (rig, "r", 20 * MIB), 0);
  now = stat_of (rig);
  assert_in_range (st.free_bytes - now.free_bytes, 20 * MIB,
                   20 * MIB + 60 * PAGE_BYTES);
  assert_int_equal (resize (rig, "r", 20 * MIB + now.free_bytes + MIB), ENOSPC);
  assert_int_equal (stat_of (rig).free_bytes, now.free_bytes);
  assert_int_equal (size_of (rig, "r"), 20 * MIB);
  store_disconnect (c);
  c = open_as (rig, "r", &peer_a);
  for (uint64_t off = 0; off < 20 * MIB; off += MIB / 2)
    assert_int_equal (write_byte (c, off, 5), 0);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
  assert_int_equal (resize (rig, "r", MIB + 1), 0);
  for (unsigned i = 0;
       stat_of (rig).free_bytes + MIB + 30 * PAGE_BYTES < st.free_bytes; i++) {
    assert_true (i < 1000); /* what is parked comes back soon */
    usleep (10000);
  }
  c = open_as (rig, "r", &peer_a);
  assert_int_equal (read_byte (c, MIB / 2), 5);
  expect_text (c, MIB, "\5");
  store_disconnect (c);
  assert_int_equal (store_remove (rig->s, "r", false), 0);
  assert_null (store_check (rig->s));
}

static void
all_kinds (struct rig *rig)
{
  larger (rig);
  smaller (rig);
  within_page (rig);
  refused (rig);
  reserved (rig);
}

static void
test_volatile (void **state)
{
  all_kinds (*state);
}

static void
test_durable (void **state)
{
  struct kept *k = *state;

  all_kinds (&k->rig);
  reopen (k);
  assert_int_equal (size_of (&k->rig, "a"), 40 * MIB);
  assert_null (store_check (k->rig.s));
}

/* ---- while requests come ---- */

static void *
call_grow (void *arg)
{
  struct call *call = arg;

  call->result = store_resize (call->rig->s, "a", 4 * MIB);
  atomic_store (&call->over, true);
  return NULL;
}

/* A request under way is waited for, and who comes meanwhile waits, too. */
static void
test_under_way (void **state)
{
  struct rig *rig = *state;
  struct call write, grow = { .rig = rig };
  struct conn *c;

  create (rig, "a", MIB);
  c = open_as (rig, "a", &peer_a);
  write = (struct call){ .rig = rig, .c = c };
  assert_int_equal (write_byte (c, 0, 1), 0);
  must_wait_for (rig, &write, hold_part (rig, &write), &grow, call_grow);
  assert_int_equal (write.result, 0);
  assert_int_equal (grow.result, 0);
  assert_int_equal (size_of (rig, "a"), 4 * MIB);
  expect_text (c, 16, "\1p\1");
  store_disconnect (c);
}

/* One that does not end: nothing has changed, and all goes on.  Meanwhile no
 * other resizes the disk, nor removes it.
 */
static void
test_stuck (void **state)
{
  struct rig *rig = *state;
  struct call write, grow = { .rig = rig };
  struct object_stat st;
  struct conn *c;
  int nr;

  create (rig, "a", MIB);
  c = open_as (rig, "a", &peer_a);
  write = (struct call){ .rig = rig, .c = c };
  assert_int_equal (write_byte (c, 0, 1), 0);
  nr = hold_part (rig, &write);
  call_start (&grow, call_grow);
  usleep (100000);
  assert_int_equal (resize (rig, "a", 5 * MIB), EALREADY);
  assert_int_equal (store_remove (rig->s, "a", true), EALREADY);
  pthread_join (grow.thread, NULL);
  assert_int_equal (grow.result, ETIMEDOUT);
  assert_true (object_of (rig, "a", &st));
  assert_int_equal (st.size_bytes, MIB);
  fault_release (rig->fault, nr);
  pthread_join (write.thread, NULL);
  assert_int_equal (write.result, 0);
  fault_clear (rig->fault);
  assert_int_equal (write_byte (c, 0, 2), 0);
  assert_int_equal (resize (rig, "a", 4 * MIB), 0);
  store_disconnect (c);
}

struct hammer {
  struct rig *rig;
  struct conn *c;
  atomic_bool stop;
  atomic_uint nr; /* rounds */
};

static void *
hammer_main (void *arg)
{
  struct hammer *h = arg;

  while (!atomic_load (&h->stop)) {
    unsigned nr = atomic_load (&h->nr);
    uint64_t page = nr % 256 * PAGE_BYTES;

    assert_int_equal (write_byte (h->c, page, (uint8_t) nr), 0);
    assert_int_equal (read_byte (h->c, page), (uint8_t) nr);
    assert_int_equal (conn_trim (h->c, page, PAGE_BYTES, false), 0);
    atomic_store (&h->nr, nr + 1);
  }
  return NULL;
}

/* Many times larger, from a map of one leaf to one of several levels. */
static void
grow_hammered (struct rig *rig)
{
  struct hammer h = { .rig = rig };
  pthread_t thread;

  create (rig, "a", MIB);
  h.c = open_as (rig, "a", &peer_a);
  assert_int_equal (pthread_create (&thread, NULL, hammer_main, &h), 0);
  for (unsigned shift = 21; shift <= 46; shift++) {
    uint64_t bytes = UINT64_C (1) << shift;
    unsigned nr = atomic_load (&h.nr);
    struct conn *c;

    while (atomic_load (&h.nr) == nr)
      usleep (1000);
    assert_int_equal (resize (rig, "a", bytes), 0);
    c = open_as (rig, "a", &peer_a);
    assert_int_equal (write_byte (c, bytes - PAGE_BYTES, (uint8_t) shift), 0);
    store_disconnect (c);
  }
  atomic_store (&h.stop, true);
  pthread_join (thread, NULL);
  store_disconnect (h.c);
}

static void
check_hammered (struct rig *rig)
{
  struct conn *c = open_as (rig, "a", &peer_a);

  for (unsigned shift = 21; shift <= 46; shift++)
    assert_int_equal (read_byte (c, (UINT64_C (1) << shift) - PAGE_BYTES),
                      shift);
  store_disconnect (c);
}

static void
test_hammered (void **state)
{
  grow_hammered (*state);
  check_hammered (*state);
}

static void
test_hammered_durable (void **state)
{
  struct kept *k = *state;

  grow_hammered (&k->rig);
  check_hammered (&k->rig);
  assert_int_equal (stat_of (&k->rig).failed == NULL, true);
  reopen (k);
  check_hammered (&k->rig);
  assert_int_equal (resize (&k->rig, "a", 2 * MIB), 0);
  assert_null (store_check (k->rig.s));
  reopen (k);
  assert_int_equal (size_of (&k->rig, "a"), 2 * MIB);
  assert_null (store_check (k->rig.s));
}

/* ---- crashes ---- */

/* What was answered is there after a crash. */
static void
test_crash (void **state)
{
  struct kept *k = *state;
  struct conn *c;

  create (&k->rig, "a", MIB);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (conn_write (c, "first", 17, 5, true), 0);
  store_disconnect (c);
  assert_int_equal (resize (&k->rig, "a", 3 * GIB), 0);
  save (k);
  crash (k);
  assert_int_equal (size_of (&k->rig, "a"), 3 * GIB);
  c = open_as (&k->rig, "a", &peer_a);
  expect_text (c, 17, "first");
  assert_int_equal (conn_write (c, "far", 2 * GIB, 3, true), 0);
  store_disconnect (c);
  save (k);
  crash (k);
  c = open_as (&k->rig, "a", &peer_a);
  expect_text (c, 2 * GIB, "far");
  store_disconnect (c);
  assert_int_equal (resize (&k->rig, "a", 20), 0);
  save (k);
  crash (k);
  assert_int_equal (size_of (&k->rig, "a"), 20);
  assert_int_equal (resize (&k->rig, "a", 3 * GIB), 0);
  c = open_as (&k->rig, "a", &peer_a);
  expect_text (c, 17, "fir");
  assert_zeros (c, 20, MIB);
  assert_zeros (c, 2 * GIB, 2 * GIB + MIB);
  store_disconnect (c);
  assert_null (store_check (k->rig.s));
}

/* What a resize had begun when the machine crashed is ended by the next start,
 * and nobody sees anything of it.
 */
static void
test_left_behind (void **state)
{
  struct kept *k = *state;
  uint64_t free_bytes = stat_of (&k->rig).free_bytes;
  struct conn *c;

  create (&k->rig, "a", 64 * MIB);
  c = open_as (&k->rig, "a", &peer_a);
  for (uint64_t off = 0; off < 64 * MIB; off += MIB)
    assert_int_equal (write_byte (c, off, 7), 0);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
  /* As a crash leaves it behind step 2. */
  k->rig.s->exports[0]->resizing = true;
  assert_int_equal (durable_set_size (k->rig.s->durable,
                                      k->rig.s->exports[0]->dobj, MIB + 7,
                                      64 * MIB),
                    0);
  save (k);
  crash (k);
  assert_int_equal (size_of (&k->rig, "a"), MIB + 7);
  assert_null (store_check (k->rig.s)); /* waits for the reaper */
  for (unsigned i = 0;
       stat_of (&k->rig).free_bytes + 20 * PAGE_BYTES < free_bytes; i++) {
    assert_true (i < 1000);
    usleep (10000);
  }
  assert_int_equal (resize (&k->rig, "a", 64 * MIB), 0);
  c = open_as (&k->rig, "a", &peer_a);
  assert_int_equal (read_byte (c, 0), 7);
  expect_text (c, MIB, "\7\7\7\7\7\7\7");
  assert_zeros (c, MIB + 7, 64 * MIB);
  store_disconnect (c);
}

/* The same of a reserved disk in a pool that has no page to spare. */
static void
test_left_behind_full (void **state)
{
  struct kept *k = *state;
  struct store_create sc = { .name = "r",
                             .size_bytes = 20 * MIB,
                             .reserve = true };
  char instance[INSTANCE_HEX + 1];
  uint64_t page = 0;
  struct conn *c;

  assert_int_equal (store_create (k->rig.s, &sc, instance), 0);
  c = open_as (&k->rig, "r", &peer_a);
  for (uint64_t off = 0; off < 20 * MIB; off += MIB)
    assert_int_equal (write_byte (c, off, 7), 0);
  store_disconnect (c);
  create (&k->rig, "z", GIB);
  c = open_as (&k->rig, "z", &peer_a);
  while (write_byte (c, page, 1) == 0)
    page += PAGE_BYTES;
  assert_int_equal (write_byte (c, page, 1), ENOSPC);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
  k->rig.s->exports[0]->resizing = true;
  assert_int_equal (durable_set_size (k->rig.s->durable,
                                      k->rig.s->exports[0]->dobj, 3 * MIB + 1,
                                      20 * MIB),
                    0);
  save (k);
  crash (k);
  assert_null (store_check (k->rig.s));
  assert_int_equal (size_of (&k->rig, "r"), 3 * MIB + 1);
  assert_int_equal (resize (&k->rig, "r", 3 * MIB), 0);
  c = open_as (&k->rig, "z", &peer_a);
  assert_int_equal (write_byte (c, page, 1), 0); /* there is room again */
  store_disconnect (c);
  c = open_as (&k->rig, "r", &peer_a);
  for (uint64_t off = 0; off < 3 * MIB; off += PAGE_BYTES)
    assert_int_equal (write_byte (c, off, 8), 0);
  store_disconnect (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    VOLATILE (test_volatile),     VOLATILE (test_under_way),
    VOLATILE (test_hammered),     CASE (test_durable),
    CASE (test_hammered_durable), CASE (test_crash),
    CASE (test_left_behind),      CASE (test_left_behind_full),
    VOLATILE (test_stuck),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
