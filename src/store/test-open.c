/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening exports: unnamed ones made at first look, instances, sizes, the
 * race of many who want the same, what is told to whom fails.
 */

#include <config.h>

#include "test-store.h"

#define RACERS 16
#define ROUNDS 200

static const char *
instance_of (const struct conn *c, char instance[INSTANCE_HEX + 1])
{
  const char *at = strstr (conn_description (c), "instance=");

  assert_non_null (at);
  memcpy (instance, at + 9, INSTANCE_HEX);
  instance[INSTANCE_HEX] = '\0';
  return instance;
}

/* ---- races ---- */

struct racer {
  struct rig *rig;
  const char *name;
  struct conn *c;
  int err;
  pthread_barrier_t *start;
};

static void *
race (void *arg)
{
  struct racer *r = arg;

  pthread_barrier_wait (r->start);
  r->err = store_connect (r->rig->s, r->name, false, &peer_a, &r->c);
  return NULL;
}

/* Let all open name at once. */
static void
run_race (struct rig *rig, const char *name, struct racer r[RACERS])
{
  pthread_barrier_t start;
  pthread_t thread[RACERS];

  pthread_barrier_init (&start, NULL, RACERS);
  for (int i = 0; i < RACERS; i++) {
    r[i] = (struct racer){ rig, name, NULL, -1, &start };
    assert_int_equal (pthread_create (&thread[i], NULL, race, &r[i]), 0);
  }
  for (int i = 0; i < RACERS; i++)
    pthread_join (thread[i], NULL);
  pthread_barrier_destroy (&start);
}

static void
test_race (void **state)
{
  struct rig *rig = *state;

  for (int round = 0; round < ROUNDS; round++) {
    struct racer r[RACERS];
    char name[32], first[INSTANCE_HEX + 1], other[INSTANCE_HEX + 1];
    struct object_stat st;

    snprintf (name, sizeof name, "swap/r%d:64K", round);
    run_race (rig, name, r);
    instance_of (r[0].c, first);
    for (int i = 0; i < RACERS; i++) {
      assert_int_equal (r[i].err, 0);
      assert_string_equal (instance_of (r[i].c, other), first);
    }
    snprintf (name, sizeof name, "swap/r%d", round);
    assert_true (object_of (rig, name, &st));
    assert_int_equal (st.nr_conns, RACERS);
    for (int i = 0; i < RACERS; i++)
      store_disconnect (r[i].c);
  }
  assert_int_equal (stat_of (rig).nr_objects, ROUNDS);
}

/* All fail alike when it cannot be made, and the name is free then. */
static void
test_race_fails (void **state)
{
  struct rig *rig = *state;
  struct racer r[RACERS];

  for (int round = 0; round < 20; round++) {
    run_race (rig, "swap/big:1G", r);
    for (int i = 0; i < RACERS; i++)
      assert_int_equal (r[i].err, ENOSPC);
    assert_int_equal (stat_of (rig).nr_objects, 0);
  }
}

/* Named ones are made by one, and removed by one. */
struct maker {
  struct rig *rig;
  atomic_uint *made, *removed;
};

static void *
make_and_remove (void *arg)
{
  struct maker *m = arg;
  struct store_create c = { .name = "n", .size_bytes = MIB };
  char instance[INSTANCE_HEX + 1];
  struct conn *conn;

  for (int i = 0; i < 500; i++) {
    int err = store_create (m->rig->s, &c, instance);

    assert_true (err == 0 || err == EEXIST);
    atomic_fetch_add (m->made, err == 0);
    if (store_connect (m->rig->s, "n", false, &peer_a, &conn) == 0) {
      err = write_byte (conn, 0, 1);
      assert_true (err == 0 || err == ESHUTDOWN);
      store_disconnect (conn);
    }
    err = store_remove (m->rig->s, "n", i % 2);
    assert_true (err == 0 || err == ENOENT || (err == EBUSY && i % 2 == 0));
    atomic_fetch_add (m->removed, err == 0);
  }
  return NULL;
}

static void
test_race_named (void **state)
{
  atomic_uint made = 0, removed = 0;
  struct maker m = { *state, &made, &removed };
  pthread_t thread[8];

  for (int i = 0; i < 8; i++)
    assert_int_equal (pthread_create (&thread[i], NULL, make_and_remove, &m),
                      0);
  for (int i = 0; i < 8; i++)
    pthread_join (thread[i], NULL);
  assert_int_equal (atomic_load (&made),
                    atomic_load (&removed) + stat_of (*state).nr_objects);
  assert_true (atomic_load (&made) > 10);
}

/* ---- sizes ---- */

static void
test_sizes (void **state)
{
  struct rig *rig = *state;
  struct conn *c, *d;

  assert_int_equal (open_error (rig, "swap/x"), EINVAL);
  assert_int_equal (test_log_has ("swap-size=SIZE"), 1);
  assert_int_equal (stat_of (rig).nr_objects, 0);
  c = open_as (rig, "swap/x:1M", &peer_a);
  assert_int_equal (conn_size_bytes (c), MIB);
  assert_int_equal (open_error (rig, "swap/x:2M"), EEXIST);
  assert_int_equal (open_error (rig, "swap/x:1048575"), EEXIST);
  assert_int_equal (open_error (rig, "swap/x:1024K"), 0);
  d = open_as (rig, "swap/x", &peer_a); /* what it is, it is */
  assert_int_equal (conn_size_bytes (d), MIB);
  store_disconnect (d);
  store_disconnect (c);
  assert_int_equal (open_error (rig, "swap/x:2M"), EEXIST); /* it lingers */
}

static void
test_swap_size (void **state)
{
  struct store_config config = test_config;
  struct rig rig;
  struct conn *c, *d;

  (void) state;
  config.swap_size_bytes = 3 * MIB;
  rig_open (&rig, &config, POOL_BYTES);
  c = open_as (&rig, "swap/x", &peer_a);
  assert_int_equal (conn_size_bytes (c), 3 * MIB);
  d = open_as (&rig, "swap/y:1M", &peer_a);
  assert_int_equal (conn_size_bytes (d), MIB);
  assert_int_equal (open_error (&rig, "swap/y"), 0);
  assert_int_equal (open_error (&rig, "swap/y:3M"), EEXIST);
  store_disconnect (c);
  store_disconnect (d);
  rig_close (&rig);
}

/* ---- reservation ---- */

static void
test_too_big (void **state)
{
  struct rig *rig = *state;
  uint64_t free_bytes = stat_of (rig).free_bytes;
  struct conn *c;
  char name[64];

  assert_int_equal (open_error (rig, "swap/x:1G"), ENOSPC);
  assert_int_equal (test_log_has ("reserve=no"), 1);
  assert_int_equal (stat_of (rig).nr_objects, 0);
  assert_int_equal (stat_of (rig).free_bytes, free_bytes);
  assert_int_equal (open_error (rig, "swap/x:1P"), ENOSPC);
  snprintf (name, sizeof name, "swap/x:%" PRIu64, free_bytes);
  c = open_as (rig, name, &peer_a);
  assert_int_equal (stat_of (rig).free_bytes, 0);
  assert_int_equal (stat_of (rig).reserved_bytes, free_bytes);
  assert_int_equal (open_error (rig, "swap/y:4096"), ENOSPC);
  store_disconnect (c);
}

static void
test_reserve_no (void **state)
{
  struct store_config config = test_config;
  struct object_stat st;
  struct rig rig;
  struct conn *c;

  (void) state;
  config.reserve = 0;
  rig_open (&rig, &config, POOL_BYTES);
  c = open_as (&rig, "swap/x:1T", &peer_a);
  assert_true (object_of (&rig, "swap/x", &st));
  assert_false (st.reserved);
  assert_int_equal (stat_of (&rig).reserved_bytes, 0);
  assert_int_equal (write_byte (c, (UINT64_C (1) << 40) - PAGE_BYTES, 3), 0);
  store_disconnect (c);
  rig_close (&rig);
}

static void
test_reserve_yes (void **state)
{
  struct store_config config = test_config;
  struct object_stat st;
  struct rig rig;

  (void) state;
  config.reserve = 1;
  rig_open (&rig, &config, POOL_BYTES);
  create (&rig, "n", MIB);
  assert_true (object_of (&rig, "n", &st));
  assert_true (st.reserved);
  rig_close (&rig);
}

/* ---- instances ---- */

static void
test_instances (void **state)
{
  struct rig *rig = *state;
  char instance[INSTANCE_HEX + 1], name[128];
  struct conn *c = open_as (rig, "swap/x:1M", &peer_a), *d;

  instance_of (c, instance);
  snprintf (name, sizeof name, "swap/x~%s", instance);
  assert_int_equal (open_error (rig, name), 0);
  snprintf (name, sizeof name, "swap/x:1M~%s", instance);
  assert_int_equal (open_error (rig, name), 0);
  assert_int_equal (open_error (rig, "swap/x~" HEX_A), ESTALE);
  assert_int_equal (open_error (rig, "swap/never:1M~" HEX_A), ESTALE);
  store_disconnect (c);
  create (rig, "n", MIB);
  d = open_as (rig, "n", &peer_a);
  instance_of (d, instance);
  snprintf (name, sizeof name, "n~%s", instance);
  assert_int_equal (open_error (rig, name), 0);
  assert_int_equal (open_error (rig, "n~" HEX_B), ESTALE);
  store_disconnect (d);
  assert_int_equal (stat_of (rig).nr_objects, 2);
}

/* A dead instance stays dead, also when the name is somebody else's now. */
static void
test_dead_instance (void **state)
{
  struct rig *rig = *state;
  char instance[INSTANCE_HEX + 1], name[128];
  struct conn *c;

  create (rig, "n", MIB);
  c = open_as (rig, "n", &peer_a);
  instance_of (c, instance);
  store_disconnect (c);
  snprintf (name, sizeof name, "n~%s", instance);
  assert_int_equal (store_remove (rig->s, "n", false), 0);
  assert_int_equal (open_error (rig, name), ESTALE);
  create (rig, "n", MIB);
  assert_int_equal (open_error (rig, name), ESTALE);
  assert_int_equal (open_error (rig, "n"), 0);
}

static void
test_description (void **state)
{
  struct rig *rig = *state;
  struct conn *c = open_as (rig, "swap/x:1M", &peer_a);
  char instance[INSTANCE_HEX + 1], want[128];

  snprintf (want, sizeof want,
            "farpage instance=%s durability=volatile linger=600",
            instance_of (c, instance));
  assert_string_equal (conn_description (c), want);
  store_disconnect (c);
}

/* ---- who may not come in, and what the log says of it ---- */

static void
test_refusals (void **state)
{
  struct rig *rig = *state;
  struct conn *c = NULL;

  assert_int_equal (open_error (rig, "no\nsuch\x1b[2J"), EINVAL);
  assert_int_equal (test_log_has ("'no?such?[2J': "), 1);
  assert_int_equal (open_error (rig, "none"), ENOENT);
  assert_int_equal (open_error (rig, "a@b"), EINVAL);
  assert_int_equal (open_error (rig, "swap/"), EINVAL);
  create (rig, "n", MIB);
  assert_int_equal (store_connect (rig->s, "n", true, &peer_a, &c), 0);
  assert_true (conn_readonly (c));
  assert_int_equal (write_byte (c, 0, 1), EPERM);
  assert_int_equal (conn_trim (c, 0, PAGE_BYTES, false), EPERM);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, true, false, false), EPERM);
  assert_int_equal (read_byte (c, 0), 0);
  assert_int_equal (conn_flush (c), 0);
  store_disconnect (c);
}

static void
test_too_many (void **state)
{
  static struct conn *c[CONNS_MAX];
  struct rig *rig = *state;

  create (rig, "n", MIB);
  for (unsigned i = 0; i < CONNS_MAX; i++)
    c[i] = open_as (rig, "n", &peer_a);
  assert_int_equal (open_error (rig, "n"), EMFILE);
  store_disconnect (c[17]);
  c[17] = open_as (rig, "n", &peer_a);
  assert_int_equal (open_error (rig, "n"), EMFILE);
  for (unsigned i = 0; i < CONNS_MAX; i++)
    store_disconnect (c[i]);
  assert_int_equal (store_remove (rig->s, "n", false), 0);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    CASE (test_race),
    CASE (test_race_fails),
    CASE (test_race_named),
    CASE (test_sizes),
    CASE (test_too_big),
    CASE (test_instances),
    CASE (test_dead_instance),
    CASE (test_description),
    CASE (test_refusals),
    CASE (test_too_many),
    cmocka_unit_test (test_swap_size),
    cmocka_unit_test (test_reserve_no),
    cmocka_unit_test (test_reserve_yes),
  };

  return cmocka_run_group_tests_name ("open", tests, NULL, NULL);
}
