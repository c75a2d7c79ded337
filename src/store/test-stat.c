/* SPDX-License-Identifier: BSD-2-Clause */
/* Statistics: that counts add up, also when their connections have gone;
 * bounds; objects, connections, volumes as they are; news of the pool.
 */

#include <config.h>

#include "test-store.h"

static const struct peer ip = { .kind = PEER_IP,
                                .address = { [10] = 0xff, 0xff, 10, 1, 2, 3 },
                                .port = 10809 };
static const struct peer ip6 = { .kind = PEER_IP,
                                 .address = { 0xfe, 0x80, [15] = 9 },
                                 .port = 4 };

/* ---- requests ---- */

static int
ignore_extent (void *arg, uint64_t off, uint64_t bytes, bool hole, bool zero)
{
  (void) arg;
  (void) off;
  (void) bytes;
  (void) hole;
  (void) zero;
  return 0;
}

/* One of each kind that works, and one that does not. */
static void
one_of_each (struct conn *c)
{
  char buf[8192] = "data";

  assert_int_equal (conn_read (c, buf, 0, 5000), 0);
  assert_int_equal (conn_read (c, buf, MIB, 1), EINVAL);
  buf[0] = 1;
  assert_int_equal (conn_write (c, buf, 1, 8000, false), 0);
  assert_int_equal (conn_write (c, buf, MIB - 1, 2, false), EINVAL);
  assert_int_equal (conn_flush (c), 0);
  assert_int_equal (conn_trim (c, 0, 9000, false), 0);
  assert_int_equal (conn_trim (c, UINT64_MAX, 7, false), EINVAL);
  assert_int_equal (conn_zero (c, 0, 300, true, false, false), 0);
  assert_int_equal (conn_zero (c, 0, 200, true, true, false), ENOTSUP);
  assert_int_equal (conn_extents (c, 0, MIB, false, ignore_extent, NULL), 0);
  assert_int_equal (conn_extents (c, 1, MIB, false, ignore_extent, NULL),
                    EINVAL);
  assert_int_equal (conn_cache (c, 0, 100), 0);
  assert_int_equal (conn_cache (c, 0, MIB + 1), EINVAL);
}

static const struct req_stat each[REQ_KINDS] = {
  [REQ_READ] = { 2, 5001, 1 },       [REQ_WRITE] = { 2, 8002, 1 },
  [REQ_FLUSH] = { 1, 0, 0 },         [REQ_TRIM] = { 2, 9007, 1 },
  [REQ_ZERO] = { 2, 500, 1 },        [REQ_EXTENTS] = { 2, 2 * MIB, 1 },
  [REQ_CACHE] = { 2, MIB + 101, 1 },
};

static void
must_be (const struct req_stat got[REQ_KINDS], unsigned times)
{
  for (unsigned k = 0; k < REQ_KINDS; k++) {
    assert_int_equal (got[k].count, each[k].count * times);
    assert_int_equal (got[k].bytes, each[k].bytes * times);
    assert_int_equal (got[k].errors, each[k].errors * times);
  }
}

static void
conn_is_one_each (void *arg, const struct conn_stat *st)
{
  must_be (st->req, 1);
  ++*(unsigned *) arg;
}

static void
test_requests (void **state)
{
  struct rig *rig = *state;
  struct conn *c[3];
  unsigned nr = 0;

  create (rig, "n", MIB);
  for (unsigned i = 0; i < 3; i++) {
    c[i] = open_as (rig, "n", &peer_a);
    one_of_each (c[i]);
  }
  must_be (stat_of (rig).req, 3);
  store_each_conn (rig->s, conn_is_one_each, &nr);
  assert_int_equal (nr, 3);
  store_disconnect (c[1]);
  must_be (stat_of (rig).req, 3);
  store_disconnect (c[0]);
  store_disconnect (c[2]);
  must_be (stat_of (rig).req, 3);
  assert_int_equal (stat_of (rig).nr_conns, 0);
  for (unsigned k = 0; k < REQ_KINDS; k++)
    assert_non_null (req_kind_names[k]);
}

/* An error of the medium is counted as one, and told once. */
static void
test_medium_error (void **state)
{
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = VIO_READ, .error = EIO, .count = 1
  };
  struct rig *rig = *state;
  struct conn *c;

  create (rig, "n", MIB);
  c = open_as (rig, "n", &peer_a);
  assert_int_equal (write_byte (c, 0, 1), 0);
  fault_add (rig->fault, &rule);
  assert_int_equal (read_byte (c, 0), -EIO);
  assert_int_equal (read_byte (c, 0), 1);
  assert_int_equal (stat_of (rig).req[REQ_READ].errors, 1);
  assert_int_equal (stat_of (rig).req[REQ_READ].count, 2);
  store_disconnect (c);
}

/* ---- connections ---- */

static struct conn_stat conns[8];
static unsigned nr_conns;

static void
keep_conn (void *arg, const struct conn_stat *st)
{
  (void) arg;
  assert_true (nr_conns < ARRAY (conns));
  conns[nr_conns++] = *st;
}

static void
look (struct rig *rig)
{
  nr_conns = 0;
  store_each_conn (rig->s, keep_conn, NULL);
}

static void
test_conns (void **state)
{
  struct rig *rig = *state;
  struct conn *c[4];

  test_clock_start ();
  create (rig, "n", MIB);
  c[0] = open_as (rig, "n", &ip);
  test_clock_add (5 * NS_PER_S);
  c[1] = open_as (rig, "swap/x:1M~." HEX_A ".1", &ip6);
  c[2] = open_as (rig, "n", &peer_a);
  c[3] = open_as (rig, "n", &peer_unknown);
  read_byte (c[0], 0);
  test_clock_add (2 * NS_PER_S);
  look (rig); /* the youngest first */
  assert_int_equal (nr_conns, 4);
  assert_string_equal (conns[0].peer, "unknown");
  assert_string_equal (conns[1].peer, "pid 17 (uid 1000)");
  assert_string_equal (conns[2].peer, "[fe80::9]:4");
  assert_string_equal (conns[3].peer, "10.1.2.3:10809");
  assert_string_equal (conns[2].export, "swap/x");
  assert_int_equal (conns[3].age_ns, 7 * NS_PER_S);
  assert_int_equal (conns[3].idle_ns, 2 * NS_PER_S);
  assert_int_equal (conns[2].idle_ns, 2 * NS_PER_S);
  assert_true (conns[0].id > conns[1].id);
  for (int i = 0; i < 4; i++)
    store_disconnect (c[i]);
}

static struct rig *late_rig;
static struct conn *late;

static void
come_late (void)
{
  test_clock_add (3 * NS_PER_S);
  late = open_as (late_rig, "n", &peer_a);
}

/* One that comes when the clock has been looked at is of age 0. */
static void
test_late_conn (void **state)
{
  struct rig *rig = *state;

  test_clock_start ();
  create (rig, "n", MIB);
  late_rig = rig;
  test_clock_hook = come_late;
  look (rig);
  assert_int_equal (nr_conns, 1);
  assert_int_equal (conns[0].age_ns, 0);
  assert_int_equal (conns[0].idle_ns, 0);
  store_disconnect (late);
}

/* ---- bounds ---- */

struct bounds {
  unsigned nr;
  uint64_t objects, conns, volumes, charged, sessions;
};

static void
add_bound (void *arg, const char *name, uint64_t used, uint64_t max)
{
  struct bounds *b = arg;

  b->nr++;
  assert_true (max > 0);
  assert_true (used <= max);
  if (strcmp (name, "objects") == 0)
    b->objects = used;
  else if (strcmp (name, "connections") == 0)
    b->conns = used;
  else if (strcmp (name, "volumes") == 0)
    b->volumes = used;
  else if (strncmp (name, "sessions", 8) == 0)
    b->sessions = used;
  else if (strcmp (name, "blocks promised to pages") == 0)
    b->charged = used;
}

static void
test_bounds (void **state)
{
  struct rig *rig = *state;
  struct conn *c = open_as (rig, "swap/x:1M", &peer_a);
  struct bounds b = { 0 };

  create (rig, "n", MIB);
  assert_int_equal (open_error (rig, "n~." HEX_A ".1"), 0);
  assert_int_equal (open_error (rig, "n~." HEX_A ".2"), 0);
  assert_int_equal (open_error (rig, "n~." HEX_B ".1"), 0);
  store_each_bound (rig->s, add_bound, &b);
  assert_int_equal (b.nr, 8);
  assert_int_equal (b.sessions, 2);
  assert_int_equal (b.objects, 2);
  assert_int_equal (b.conns, 1);
  assert_int_equal (b.volumes, 1);
  assert_int_equal (b.charged, 256);
  store_disconnect (c);
}

/* ---- space ---- */

static void
keep_volume (void *arg, const struct volume_stat *st)
{
  *(struct volume_stat *) arg = *st;
}

static void
test_space (void **state)
{
  struct rig *rig = *state;
  struct store_stat st = stat_of (rig);
  struct volume_stat v;
  struct conn *c;
  uint64_t nr = 0;

  assert_int_equal (st.size_bytes, POOL_BYTES);
  assert_int_equal (st.free_bytes + st.relocation_bytes, POOL_BYTES);
  assert_int_equal (st.relocation_used_bytes, 0);
  assert_int_equal (st.space, SPACE_OK);
  assert_int_equal (st.stripe_blocks, 32);
  assert_int_equal (st.fragments[14], 1); /* all of 2^14 blocks, in one run */
  create (rig, "n", 16 * MIB);
  c = open_as (rig, "n", &peer_a);
  for (uint64_t off = 0; off < MIB; off += PAGE_BYTES)
    assert_int_equal (write_byte (c, off, 1), 0);
  assert_int_equal (conn_zero (c, MIB, 4 * PAGE_BYTES, false, false, false), 0);
  st = stat_of (rig);
  assert_int_equal (st.mapped_bytes, MIB);
  assert_int_equal (st.reserved_bytes, 4 * PAGE_BYTES);
  for (unsigned i = 0; i < 64; i++)
    nr += st.fragments[i];
  assert_true (nr >= 1);
  store_each_volume (rig->s, keep_volume, &v);
  assert_int_equal (v.size_bytes, POOL_BYTES);
  assert_int_equal (v.used_bytes, MIB);
  assert_string_equal (v.kind, "fault");
  store_disconnect (c);
}

/* ---- news ---- */

static struct news {
  atomic_uint nr;
  _Atomic int last;
  _Atomic bool wrong; /* told to somebody who was there no more */
  _Atomic bool listening;
} news;

static void
hear (void *arg, enum space_state state)
{
  struct news *n = arg;

  if (n == NULL || !atomic_load (&n->listening)) {
    atomic_store (&news.wrong, true);
    return;
  }
  atomic_store (&n->last, (int) state);
  atomic_fetch_add (&n->nr, 1);
}

/* Fill the disk to its end, or to ENOSPC; the error. */
static int
fill (struct conn *c)
{
  int err = 0;

  for (uint64_t off = 0; off < conn_size_bytes (c) && err == 0;
       off += PAGE_BYTES)
    err = write_byte (c, off, 1);
  return err;
}

static int
drain (struct conn *c)
{
  int err = 0;

  for (uint64_t off = 0; off < conn_size_bytes (c) && err == 0; off += MIB)
    err = conn_trim (c, off, MIB, false);
  return err;
}

static void
test_news (void **state)
{
  struct rig *rig = *state;
  struct conn *c;

  memset (&news, 0, sizeof news);
  news.listening = true;
  store_on_space (rig->s, hear, &news);
  create (rig, "n", 2 * POOL_BYTES);
  c = open_as (rig, "n", &peer_a);
  assert_int_equal (fill (c), ENOSPC);
  assert_int_equal (news.nr, 2); /* almost full, full; each once */
  assert_int_equal (news.last, SPACE_FULL);
  assert_int_equal (stat_of (rig).space, SPACE_FULL);
  assert_int_equal (write_byte (c, 0, 2), 0); /* overwrites go on */
  assert_int_equal (news.nr, 2);
  assert_int_equal (drain (c), 0);
  assert_int_equal (news.last, SPACE_OK);
  assert_int_equal (stat_of (rig).space, SPACE_OK);
  assert_false (news.wrong);
  store_on_space (rig->s, NULL, NULL);
  store_disconnect (c);
}

static atomic_bool news_end;

static void *
fill_and_drain (void *arg)
{
  while (!atomic_load (&news_end)) {
    assert_int_equal (fill (arg), ENOSPC);
    assert_int_equal (drain (arg), 0);
  }
  return NULL;
}

/* A listener that has gone is not told any more. */
static void
test_news_unheard (void **state)
{
  struct rig *rig = *state;
  pthread_t thread;
  struct conn *c;

  memset (&news, 0, sizeof news);
  news_end = false;
  create (rig, "n", 2 * POOL_BYTES);
  c = open_as (rig, "n", &peer_a);
  assert_int_equal (pthread_create (&thread, NULL, fill_and_drain, c), 0);
  for (unsigned i = 0; i < 20000 || news.nr == 0; i++) {
    atomic_store (&news.listening, true);
    store_on_space (rig->s, hear, &news);
    if (i % 64 == 0)
      usleep (100);
    store_on_space (rig->s, NULL, NULL);
    atomic_store (&news.listening, false);
  }
  atomic_store (&news_end, true);
  pthread_join (thread, NULL);
  assert_false (news.wrong);
  store_disconnect (c);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    CASE (test_requests),  CASE (test_medium_error), CASE (test_conns),
    CASE (test_late_conn), CASE (test_bounds),       CASE (test_space),
    CASE (test_news),      CASE (test_news_unheard),
  };

  return cmocka_run_group_tests_name ("stat", tests, NULL, NULL);
}
