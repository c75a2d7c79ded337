/* SPDX-License-Identifier: BSD-2-Clause */
/* Large numbers: ten thousand disks, and a large mapped one that is dropped
 * while another client reads.
 *
 * Times are printed; the bounds are wide enough for a machine that does other
 * things as well, and for sanitizers (FARPAGE_SLOW, times).
 */

#include <config.h>

#include "test-store.h"

#include "test-util.h"

#define NR_OBJECTS 10000
#define BIG_BYTES  (UINT64_C (2) * GIB)
#define WRITE_MAX  MIB

static uint64_t
slow (void)
{
  return test_environment ("FARPAGE_SLOW", 1);
}

/* ---- many ---- */

static int
count_name (void *arg, const char *name, const char *description)
{
  (void) name;
  (void) description;
  ++*(unsigned *) arg;
  return 0;
}

static void
count_object (void *arg, const struct object_stat *st)
{
  (void) st;
  ++*(unsigned *) arg;
}

static double
seconds_since (uint64_t start_ns)
{
  return (double) (env_now_ns () - start_ns) / (double) NS_PER_S;
}

static const char *
nth_name (unsigned i)
{
  static char name[32];

  snprintf (name, sizeof name, "disk-%u", i * 7919 % NR_OBJECTS);
  return name;
}

static void
test_many (void **state)
{
  struct rig *rig = *state;
  double made, listed, opened;
  unsigned nr = 0;
  uint64_t start = env_now_ns ();

  for (unsigned i = 0; i < NR_OBJECTS; i++)
    create (rig, nth_name (i), GIB);
  made = seconds_since (start);

  start = env_now_ns ();
  assert_int_equal (store_list (rig->s, count_name, &nr), 0);
  assert_int_equal (store_each_object (rig->s, NULL, count_object, &nr), 0);
  listed = seconds_since (start);
  assert_int_equal (nr, 2 * NR_OBJECTS);

  start = env_now_ns ();
  for (unsigned i = 0; i < NR_OBJECTS; i++)
    store_disconnect (open_as (rig, nth_name (i), &peer_a));
  opened = seconds_since (start);
  printf ("%d disks: made in %.3f s, listed twice in %.3f s, each opened in "
          "%.3f s\n",
          NR_OBJECTS, made, listed, opened);
  assert_true (listed + opened < (double) slow ());
  for (unsigned i = 0; i < NR_OBJECTS; i++)
    assert_int_equal (store_remove (rig->s, nth_name (i), false), 0);
}

/* ---- large ---- */

struct reader {
  struct conn *c;
  atomic_bool end;
  uint64_t worst_ns, nr;
};

static void *
read_all_the_time (void *arg)
{
  struct reader *r = arg;

  while (!atomic_load (&r->end)) {
    uint64_t start = env_now_ns (), took;
    uint8_t off = (uint8_t) (r->nr % 64);

    assert_int_equal (read_byte (r->c, (uint64_t) off * PAGE_BYTES), 7);
    if (r->nr % 4 == 0)
      assert_int_equal (write_byte (r->c, (uint64_t) off * PAGE_BYTES, 7), 0);
    took = env_now_ns () - start;
    r->worst_ns = max_u64 (r->worst_ns, took);
    r->nr++;
  }
  return NULL;
}

static void
map_all (struct rig *rig, const char *name, uint64_t bytes)
{
  struct conn *c = open_as (rig, name, &peer_a);
  uint8_t *buf = malloc (WRITE_MAX);

  memset (buf, 1, WRITE_MAX);
  for (uint64_t off = 0; off < bytes; off += WRITE_MAX)
    assert_int_equal (conn_write (c, buf, off, WRITE_MAX, false), 0);
  free (buf);
  store_disconnect (c);
}

/* The longest wait of a client that reads and writes while ns pass. */
static struct reader
watch_idle (struct conn *c)
{
  struct reader r = { .c = c };
  pthread_t thread;

  pthread_create (&thread, NULL, read_all_the_time, &r);
  usleep (100000);
  atomic_store (&r.end, true);
  pthread_join (thread, NULL);
  return r;
}

static void
test_drop (void **state)
{
  uint64_t bytes = test_environment ("FARPAGE_BIG_BYTES", BIG_BYTES);
  struct store_config config = test_config;
  struct reader r = { 0 }, idle;
  struct rig rig;
  pthread_t thread;
  uint64_t start;
  double took;

  (void) state;
  config.sparse = false; /* or it is the system's time that is measured */
  rig_open (&rig, &config, bytes + bytes / 16 + 64 * MIB);
  create (&rig, "big", bytes);
  create (&rig, "other", MIB);
  map_all (&rig, "big", bytes);
  assert_int_equal (stat_of (&rig).mapped_bytes, bytes);
  r.c = open_as (&rig, "other", &peer_b);
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal (write_byte (r.c, i * PAGE_BYTES, 7), 0);
  idle = watch_idle (r.c);
  pthread_create (&thread, NULL, read_all_the_time, &r);
  usleep (20000);
  start = env_now_ns ();
  assert_int_equal (store_remove (rig.s, "big", false), 0);
  took = seconds_since (start);
  usleep (20000);
  atomic_store (&r.end, true);
  pthread_join (thread, NULL);
  printf ("%.1f GiB mapped, dropped in %.3f s; another client's longest wait: "
          "%.3f ms (idle: %.3f ms), %" PRIu64 " turns\n",
          (double) bytes / (double) GIB, took, (double) r.worst_ns / 1e6,
          (double) idle.worst_ns / 1e6, r.nr);
  assert_true (r.worst_ns < 100 * NS_PER_MS * slow ());
  assert_int_equal (stat_of (&rig).mapped_bytes, 64 * PAGE_BYTES);
  store_disconnect (r.c);
  rig_close (&rig);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    CASE (test_many),
    cmocka_unit_test (test_drop),
  };

  return cmocka_run_group_tests_name ("scale", tests, NULL, NULL);
}
