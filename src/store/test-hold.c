/* SPDX-License-Identifier: BSD-2-Clause */
/* Holding: requests under way finish, later ones never return.  Each case is
 * a child process, since its threads can only end with it.
 */

#include <config.h>

#include "test-store.h"

#include <signal.h>
#include <sys/wait.h>

#define NR_LATER 8

#define MUST(what)                                        \
  do {                                                    \
    if (!(what)) {                                        \
      fprintf (stderr, "line %d: %s\n", __LINE__, #what); \
      _exit (1);                                          \
    }                                                     \
  } while (0)

static struct rig rig;
static struct conn *conn;
static atomic_uint nr_returned;
static atomic_int held_result = -1;

static void *
write_held (void *arg)
{
  (void) arg;
  atomic_store (&held_result, write_byte (conn, 0, 5));
  return NULL;
}

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

/* One of each kind; none may return. */
static void *
later (void *arg)
{
  char buf[PAGE_BYTES] = "x";

  switch ((uintptr_t) arg) {
  case 0:
    conn_read (conn, buf, 0, sizeof buf);
    break;
  case 1:
    conn_write (conn, buf, 0, sizeof buf, false);
    break;
  case 2:
    conn_flush (conn);
    break;
  case 3:
    conn_trim (conn, 0, sizeof buf, false);
    break;
  case 4:
    conn_zero (conn, 0, sizeof buf, true, false, false);
    break;
  case 5:
    conn_cache (conn, 0, sizeof buf);
    break;
  case 6:
    conn_extents (conn, 0, sizeof buf, false, ignore_extent, NULL);
    break;
  default:
    conn_write (conn, buf, UINT64_MAX, 1,
                false); /* also what would be refused */
  }
  atomic_fetch_add (&nr_returned, 1);
  return NULL;
}

static void
start_later (pthread_t thread[NR_LATER])
{
  for (uintptr_t i = 0; i < NR_LATER; i++)
    MUST (pthread_create (&thread[i], NULL, later, (void *) i) == 0);
  usleep (100000);
}

static void
child_idle (void)
{
  pthread_t thread[NR_LATER];

  MUST (store_hold (rig.s, 0));
  MUST (stat_of (&rig).holding);
  start_later (thread);
  MUST (nr_returned == 0);
  MUST (store_hold (rig.s, 0)); /* what is held is not under way */
  MUST (stat_of (&rig).req[REQ_WRITE].count == 0);
  store_tick (rig.s); /* does no harm */
}

static void
child_under_way (void)
{
  struct fault_rule rule = { .action = FAULT_HOLD,
                             .op = VIO_WRITE,
                             .count = 1 };
  pthread_t thread, others[NR_LATER];
  int nr = fault_add (rig.fault, &rule);

  MUST (pthread_create (&thread, NULL, write_held, NULL) == 0);
  MUST (fault_wait_held (rig.fault, nr, 1, WAIT_NS));
  MUST (!store_hold (rig.s, 50 * NS_PER_MS));
  start_later (others);
  MUST (nr_returned == 0 && held_result == -1);
  fault_release (rig.fault, nr);
  pthread_join (thread, NULL);
  MUST (held_result == 0);
  MUST (store_hold (rig.s, WAIT_NS));
  MUST (nr_returned == 0);
  MUST (stat_of (&rig).mapped_bytes == PAGE_BYTES);
}

/* Many come in just as it begins: each is done or never comes back, and when
 * store_hold has returned nothing moves any more.
 */
static void *
hammer (void *arg)
{
  atomic_uint *nr = arg;

  for (;;) {
    if (write_byte (conn, 0, 1) != 0)
      _exit (2);
    atomic_fetch_add (nr, 1);
  }
  return NULL;
}

static void
child_hammered (void)
{
  atomic_uint nr = 0;
  pthread_t thread[4];
  uint64_t count;

  for (int i = 0; i < 4; i++)
    MUST (pthread_create (&thread[i], NULL, hammer, &nr) == 0);
  while (nr < 100)
    usleep (100);
  MUST (store_hold (rig.s, WAIT_NS));
  count = stat_of (&rig).req[REQ_WRITE].count;
  usleep (50000);
  MUST (stat_of (&rig).req[REQ_WRITE].count == count);
  MUST (nr == count);
}

/* Run a case in a child, with a store of its own. */
static void
in_child (void (*fn) (void))
{
  int status;
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  assert_true (pid >= 0);
  if (pid == 0) {
    alarm (60);
    rig_open (&rig, &test_config, POOL_BYTES);
    create (&rig, "n", MIB);
    conn = open_as (&rig, "n", &peer_a);
    fn ();
    _exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_true (WIFEXITED (status));
  assert_int_equal (WEXITSTATUS (status), 0);
}

static void
test_idle (void **state)
{
  (void) state;
  in_child (child_idle);
}

static void
test_under_way (void **state)
{
  (void) state;
  in_child (child_under_way);
}

static void
test_hammered (void **state)
{
  (void) state;
  for (int i = 0; i < 20; i++)
    in_child (child_hammered);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_idle),
    cmocka_unit_test (test_under_way),
    cmocka_unit_test (test_hammered),
  };

  return cmocka_run_group_tests_name ("hold", tests, NULL, NULL);
}
