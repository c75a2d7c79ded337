/* SPDX-License-Identifier: BSD-2-Clause */
/* Sessions and generations: who is fenced, and that what is fenced never
 * comes to the surface again.
 */

#include <config.h>

#include "test-store.h"

static const char *
session_name (unsigned session, uint64_t generation)
{
  static char name[128];

  snprintf (name, sizeof name, "n~.%032x.%" PRIu64, session, generation);
  return name;
}

static struct conn *
join (struct rig *rig, unsigned session, uint64_t generation)
{
  return open_as (rig, session_name (session, generation), &peer_a);
}

static int
join_error (struct rig *rig, unsigned session, uint64_t generation)
{
  return open_error (rig, session_name (session, generation));
}

static void
count_fenced (void *arg, const struct conn_stat *st)
{
  *(unsigned *) arg += st->fenced;
}

static unsigned
nr_fenced (struct rig *rig)
{
  unsigned nr = 0;

  store_each_conn (rig->s, count_fenced, &nr);
  return nr;
}

static int
fail_extent (void *arg, uint64_t off, uint64_t bytes, bool hole, bool zero)
{
  (void) arg;
  (void) off;
  (void) bytes;
  (void) hole;
  (void) zero;
  fail_msg ("extents for a fenced client");
  return 0;
}

static void
is_fenced (struct conn *c)
{
  assert_int_equal (read_byte (c, 0), -ESHUTDOWN);
  assert_int_equal (write_byte (c, 0, 99), ESHUTDOWN);
  assert_int_equal (conn_write (c, "x", 1, 1, false), ESHUTDOWN);
  assert_int_equal (conn_trim (c, 0, PAGE_BYTES, false), ESHUTDOWN);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, true, false, false),
                    ESHUTDOWN);
  assert_int_equal (conn_flush (c), ESHUTDOWN);
  assert_int_equal (conn_cache (c, 0, PAGE_BYTES), ESHUTDOWN);
  assert_int_equal (conn_extents (c, 0, PAGE_BYTES, false, fail_extent, NULL),
                    ESHUTDOWN);
}

/* ---- generations ---- */

static void
test_generations (void **state)
{
  struct rig *rig = *state;
  struct conn *old1, *old2, *new1, *new2, *plain, *stranger;

  create (rig, "n", MIB);
  plain = open_as (rig, "n", &peer_a);
  stranger = join (rig, 2, 1);
  old1 = join (rig, 1, 1);
  old2 = join (rig, 1, 1);
  assert_int_equal (write_byte (old1, 0, 1), 0);
  assert_int_equal (write_byte (old2, 0, 2), 0);
  assert_int_equal (nr_fenced (rig), 0);
  new1 = join (rig, 1, 7);
  assert_int_equal (nr_fenced (rig), 2);
  is_fenced (old1);
  is_fenced (old2);
  assert_int_equal (join_error (rig, 1, 6), ESHUTDOWN);
  assert_int_equal (join_error (rig, 1, 0), ESHUTDOWN);
  new2 = join (rig, 1, 7);
  assert_int_equal (write_byte (new1, 0, 3), 0);
  assert_int_equal (write_byte (new2, 0, 4), 0);
  /* Others are not fenced by it, and the session owns still. */
  assert_int_equal (read_byte (plain, 0), 4);
  assert_int_equal (read_byte (stranger, 0), 4);
  assert_int_equal (write_byte (plain, 0, 5), EPERM);
  assert_int_equal (write_byte (stranger, 0, 5), EPERM);
  store_disconnect (new1);
  store_disconnect (new2);
  /* All of the newest are gone; the older stay fenced. */
  is_fenced (old1);
  assert_int_equal (join_error (rig, 1, 6), ESHUTDOWN);
  store_disconnect (old1);
  store_disconnect (old2);
  assert_int_equal (join_error (rig, 1, 6), ESHUTDOWN);
  assert_int_equal (write_byte (plain, 0, 5), 0);
  assert_int_equal (join_error (rig, 1, 7), 0);
  assert_int_equal (join_error (rig, 1, UINT64_C (18446744073709551609)), 0);
  assert_int_equal (join_error (rig, 1, 8), ESHUTDOWN);
  store_disconnect (plain);
  store_disconnect (stranger);
}

/* A refused join leaves nothing behind. */
static void
test_refused_join (void **state)
{
  struct rig *rig = *state;
  struct conn *c;

  create (rig, "n", MIB);
  c = join (rig, 1, 5);
  for (int i = 0; i < 10; i++)
    assert_int_equal (join_error (rig, 1, 4), ESHUTDOWN);
  assert_int_equal (stat_of (rig).nr_conns, 1);
  assert_int_equal (nr_fenced (rig), 0);
  assert_int_equal (write_byte (c, 0, 1), 0);
  store_disconnect (c);
  assert_int_equal (store_remove (rig->s, "n", false), 0);
}

/* Sessions of one export say nothing of another. */
static void
test_per_export (void **state)
{
  struct rig *rig = *state;
  struct conn *c, *d;

  c = open_as (rig, "swap/a:1M~." HEX_A ".1", &peer_a);
  d = open_as (rig, "swap/b:1M~." HEX_A ".2", &peer_a);
  assert_int_equal (write_byte (c, 0, 1), 0);
  assert_int_equal (write_byte (d, 0, 1), 0);
  store_disconnect (c);
  store_disconnect (d);
}

/* ---- how many are remembered ---- */

/* While there is room nobody is forgotten, with or without connections. */
static void
test_remembered (void **state)
{
  struct rig *rig = *state;

  create (rig, "n", MIB);
  for (unsigned i = 1; i <= SESSIONS_MAX; i++)
    assert_int_equal (join_error (rig, i, 5), 0);
  for (unsigned i = 1; i <= SESSIONS_MAX; i++)
    assert_int_equal (join_error (rig, i, 4), ESHUTDOWN);
}

/* When there is none, who was here longest ago and is no more is forgotten. */
static void
test_forgotten (void **state)
{
  struct rig *rig = *state;
  struct conn *held;

  create (rig, "n", MIB);
  held = join (rig, 1, 5);
  for (unsigned i = 2; i <= SESSIONS_MAX; i++)
    assert_int_equal (join_error (rig, i, 5), 0);
  assert_int_equal (join_error (rig, 2, 6), 0); /* 3 is the oldest now */
  assert_int_equal (join_error (rig, 100, 1), 0);
  assert_int_equal (join_error (rig, 1, 4), ESHUTDOWN);
  assert_int_equal (join_error (rig, 2, 5), ESHUTDOWN);
  assert_int_equal (join_error (rig, 4, 4), ESHUTDOWN);
  assert_int_equal (join_error (rig, 100, 0), ESHUTDOWN);
  assert_int_equal (join_error (rig, 3, 0), 0); /* in the place of 4 */
  assert_int_equal (join_error (rig, 5, 4), ESHUTDOWN);
  store_disconnect (held);
}

/* With all places in use there is no new session, and none is disturbed. */
static void
test_all_in_use (void **state)
{
  struct rig *rig = *state;
  struct conn *c[SESSIONS_MAX], *d;

  create (rig, "n", MIB);
  for (unsigned i = 0; i < SESSIONS_MAX; i++)
    c[i] = join (rig, i + 1, 5);
  assert_int_equal (join_error (rig, 100, 1), EMFILE);
  assert_int_equal (join_error (rig, 30, 4), ESHUTDOWN);
  d = join (rig, 30, 6); /* has a place already */
  is_fenced (c[29]);
  store_disconnect (c[40]);
  assert_int_equal (join_error (rig, 100, 1), 0);
  c[40] = join (rig, 41, 1); /* 100 is idle: its place */
  for (unsigned i = 0; i < SESSIONS_MAX; i++)
    store_disconnect (c[i]);
  store_disconnect (d);
}

/* ---- a request that is held inside ---- */

struct held {
  struct conn *c;
  uint64_t off;
  uint32_t bytes;
  int result;
};

static void *
write_held (void *arg)
{
  struct held *h = arg;
  uint8_t *buf = malloc (h->bytes);

  memset (buf, 0x0d, h->bytes);
  h->result = conn_write (h->c, buf, h->off, h->bytes, false);
  free (buf);
  return NULL;
}

/* The write of the old generation lies in the medium; the client has gone over
 * to a new connection, sent it again and written over it.  Then the old one
 * comes to its end.
 */
static void
overtake (struct rig *rig, uint64_t off, uint32_t bytes)
{
  struct fault_rule rule = { .action = FAULT_HOLD,
                             .op = VIO_WRITE,
                             .count = 1 };
  struct held h = { .off = off, .bytes = bytes };
  uint64_t mapped, parked;
  struct conn *c;
  pthread_t thread;
  int nr;

  create (rig, "n", 8 * MIB);
  h.c = join (rig, 1, 1);
  assert_int_equal (write_byte (h.c, off, 0x01), 0);
  nr = fault_add (rig->fault, &rule);
  assert_int_equal (pthread_create (&thread, NULL, write_held, &h), 0);
  assert_true (fault_wait_held (rig->fault, nr, 1, WAIT_NS));

  c = join (rig, 1, 2); /* returns though the write is held */
  assert_int_equal (read_byte (c, off), 0x01);
  assert_int_equal (write_byte (c, off, 0x0d), 0);
  assert_int_equal (write_byte (c, off, 0x02), 0);
  mapped = stat_of (rig).mapped_bytes;
  parked = stat_of (rig).relocation_used_bytes;
  assert_true (parked >= PAGE_BYTES); /* its blocks are not free yet */

  fault_release (rig->fault, nr);
  pthread_join (thread, NULL);
  assert_int_equal (h.result, ESHUTDOWN);
  for (uint64_t at = off; at < off + bytes; at += PAGE_BYTES)
    assert_int_equal (read_byte (c, at), at == off ? 0x02 : 0);
  assert_int_equal (stat_of (rig).mapped_bytes, mapped);
  assert_int_equal (stat_of (rig).relocation_used_bytes, 0);
  store_disconnect (h.c);
  store_disconnect (c);
  fault_clear (rig->fault);
  assert_int_equal (store_remove (rig->s, "n", false), 0);
}

static void
test_overtaken (void **state)
{
  overtake (*state, 0, PAGE_BYTES);
  overtake (*state, 2 * MIB - PAGE_BYTES, PAGE_BYTES);
  overtake (*state, 2 * MIB - 2 * PAGE_BYTES, 4 * PAGE_BYTES); /* two shards */
  overtake (*state, MIB, 4 * MIB);
}

static void *
call_join (void *arg)
{
  struct call *call = arg;

  call->result =
      store_connect (call->rig->s, call->name, false, &peer_a, &call->c);
  atomic_store (&call->over, true);
  return NULL;
}

/* A write of the old generation that was past its look at the fence ends
 * before the open of the new one returns: nothing comes after it.
 */
static void
test_open_waits (void **state)
{
  struct rig *rig = *state;
  struct call write = { .rig = rig }, later = { .rig = rig };
  uint8_t byte;
  int nr;

  create (rig, "n", 8 * MIB);
  write.c = join (rig, 1, 1);
  nr = hold_part (rig, &write);
  later.name = session_name (1, 2);
  must_wait_for (rig, &write, nr, &later, call_join);
  assert_int_equal (write.result, 0);
  assert_int_equal (later.result, 0);
  assert_int_equal (conn_read (later.c, &byte, 17, 1), 0);
  assert_int_equal (byte, 'p');
  is_fenced (write.c);
  store_disconnect (write.c);
  store_disconnect (later.c);
}

/* ---- many generations at once ---- */

struct runner {
  struct rig *rig;
  atomic_uint *next;
  atomic_uint *newest; /* that was written with */
};

static void *
run_generations (void *arg)
{
  struct runner *r = arg;

  for (int i = 0; i < 200; i++) {
    unsigned generation = atomic_fetch_add (r->next, 1);
    char name[128];
    struct conn *c;
    int err;

    snprintf (name, sizeof name, "n~." HEX_A ".%u", generation);
    err = store_connect (r->rig->s, name, false, &peer_a, &c);
    if (err) {
      assert_int_equal (err, ESHUTDOWN);
      continue;
    }
    for (int k = 0; k < 4; k++) {
      uint64_t page[PAGE_BYTES / 8] = { generation };
      unsigned seen = atomic_load (r->newest);

      err = conn_write (c, page, 0, sizeof page, false);
      assert_true (err == 0 || err == ESHUTDOWN);
      /* A write that began when a newer generation had written is fenced. */
      assert_true (err == ESHUTDOWN || seen <= generation);
      while (err == 0 && seen < generation &&
             !atomic_compare_exchange_weak (r->newest, &seen, generation))
        ;
    }
    store_disconnect (c);
  }
  return NULL;
}

/* What is read in the end is what the newest that wrote has written. */
static void
test_many_generations (void **state)
{
  atomic_uint next = 1, newest = 0;
  struct runner r = { *state, &next, &newest };
  uint64_t page[PAGE_BYTES / 8];
  pthread_t thread[8];
  struct conn *c;

  create (r.rig, "n", MIB);
  for (int i = 0; i < 8; i++)
    pthread_create (&thread[i], NULL, run_generations, &r);
  for (int i = 0; i < 8; i++)
    pthread_join (thread[i], NULL);
  c = open_as (r.rig, "n", &peer_b);
  assert_int_equal (conn_read (c, page, 0, sizeof page), 0);
  assert_true (newest > 0);
  assert_int_equal (page[0], newest);
  store_disconnect (c);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    CASE (test_generations), CASE (test_refused_join),
    CASE (test_per_export),  CASE (test_remembered),
    CASE (test_forgotten),   CASE (test_all_in_use),
    CASE (test_overtaken),   CASE (test_many_generations),
    CASE (test_open_waits),
  };

  return cmocka_run_group_tests_name ("session", tests, NULL, NULL);
}
