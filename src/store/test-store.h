/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of this folder share: a store on a fault volume, clients, a
 * clock that stands still, the log's messages.
 */

#ifndef FARPAGE_TEST_STORE_H
#define FARPAGE_TEST_STORE_H

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "env.h"
#include "fault.h"
#include "log.h"
#include "store-impl.h"
#include "volume.h"

#define MIB       (UINT64_C (1) << 20)
#define GIB       (UINT64_C (1) << 30)
#define ARRAY(a)  (sizeof (a) / sizeof (a)[0])
#define WAIT_NS   (30 * NS_PER_S) /* for what must come */
#define LOG_KEPT  8
#define LOG_CHARS 512

#define HEX_A "00112233445566778899aabbccddeeff"
#define HEX_B "ffeeddccbbaa99887766554433221100"

/* ---- the log ---- */

static char test_log[LOG_KEPT][LOG_CHARS];
static atomic_uint test_log_nr;
static pthread_mutex_t test_log_mutex = PTHREAD_MUTEX_INITIALIZER;

static inline void
test_log_keep (void *arg, enum log_level level, const char *text)
{
  unsigned i = atomic_fetch_add (&test_log_nr, 1) % LOG_KEPT;

  (void) arg;
  (void) level;
  pthread_mutex_lock (&test_log_mutex);
  snprintf (test_log[i], LOG_CHARS, "%s", text);
  pthread_mutex_unlock (&test_log_mutex);
}

/* How many of the last messages have these words. */
static inline unsigned
test_log_has (const char *words)
{
  unsigned nr = 0;

  pthread_mutex_lock (&test_log_mutex);
  for (int i = 0; i < LOG_KEPT; i++)
    nr += strstr (test_log[i], words) != NULL;
  pthread_mutex_unlock (&test_log_mutex);
  return nr;
}

/* ---- a clock that stands still unless it is told ---- */

static _Atomic uint64_t test_clock_ns;
/* Called once, by the next look at the clock, when the time has been taken:
 * what can happen between a look and what is done with it.
 */
static void (*test_clock_hook) (void);

static inline uint64_t
test_now (void)
{
  uint64_t now = atomic_load (&test_clock_ns);
  void (*hook) (void) = test_clock_hook;

  test_clock_hook = NULL;
  if (hook != NULL)
    hook ();
  return now;
}

static inline void
test_random_bytes (void *buf, size_t len)
{
  static _Atomic uint64_t state = 88172645463325252;
  uint8_t *p = buf;

  for (size_t i = 0; i < len; i++) {
    uint64_t x = atomic_fetch_add (&state, UINT64_C (0x9e3779b97f4a7c15));

    x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    p[i] = (uint8_t) (x >> 32);
  }
}

static inline void
test_clock_start (void)
{
  static const struct env_ops ops = { .now_ns = test_now,
                                      .random = test_random_bytes };

  atomic_store (&test_clock_ns, UINT64_C (1000000) * NS_PER_S);
  env_set (&ops);
}

static inline void
test_clock_add (uint64_t ns)
{
  atomic_fetch_add (&test_clock_ns, ns);
}

/* ---- a store ---- */

struct rig {
  struct store *s;
  struct volume *fault; /* the store's one volume */
};

static const struct store_config test_config = {
  .sparse = true,
  .reserve = -1,
  .linger_ns = 600 * NS_PER_S,
  .linger_unwritten_ns = 10 * NS_PER_S,
};

/* Open and start a store of one volume as config says otherwise. */
static inline void
rig_open (struct rig *rig, const struct store_config *config, uint64_t bytes)
{
  struct store_config c = *config;
  struct store_volume_config vc = { 0 };
  struct volume *memory;

  log_set (test_log_keep, NULL);
  memset (test_log, 0, sizeof test_log);
  assert_int_equal (volume_open_memory ("mem", bytes, c.sparse, &memory), 0);
  assert_int_equal (volume_open_fault (memory, &rig->fault), 0);
  vc.ready = rig->fault;
  c.volumes = &vc;
  c.nr_volumes = 1;
  assert_int_equal (store_open (&c, &rig->s), 0);
  assert_int_equal (store_start (rig->s), 0);
}

static inline void
rig_close (struct rig *rig)
{
  assert_string_equal (store_check (rig->s) != NULL ? store_check (rig->s) : "",
                       "");
  store_close (rig->s);
  env_set (NULL);
  log_set (NULL, NULL);
}

/* The fixture of most tests: the state is a rig with the usual config. */
#define POOL_BYTES (64 * MIB)
#define CASE(f)    cmocka_unit_test_setup_teardown (f, setup, teardown)

static inline int
setup (void **state)
{
  static struct rig rig;

  rig_open (&rig, &test_config, POOL_BYTES);
  *state = &rig;
  return 0;
}

static inline int
teardown (void **state)
{
  rig_close (*state);
  return 0;
}

/* ---- clients ---- */

/* Four peers; a and b differ in all but the kind. */
static const struct peer peer_unknown = { .kind = PEER_UNKNOWN };
static const struct peer peer_a = { .kind = PEER_UNIX, .uid = 1000, .pid = 17 };
static const struct peer peer_b = { .kind = PEER_UNIX, .uid = 1001, .pid = 18 };

static inline struct conn *
open_as (struct rig *rig, const char *name, const struct peer *peer)
{
  struct conn *c = NULL;

  assert_int_equal (store_connect (rig->s, name, false, peer, &c), 0);
  return c;
}

/* The error of an open that must fail, and that it touched nothing. */
static inline int
open_error (struct rig *rig, const char *name)
{
  struct conn *c = NULL;
  int err = store_connect (rig->s, name, false, &peer_a, &c);

  if (err == 0)
    store_disconnect (c);
  else
    assert_null (c);
  return err;
}

static inline void
create (struct rig *rig, const char *name, uint64_t bytes)
{
  struct store_create c = { .name = name, .size_bytes = bytes };
  char instance[INSTANCE_HEX + 1];

  assert_int_equal (store_create (rig->s, &c, instance), 0);
  assert_int_equal (strlen (instance), INSTANCE_HEX);
}

static inline int
write_byte (struct conn *c, uint64_t off, uint8_t byte)
{
  uint8_t page[PAGE_BYTES] __attribute__ ((aligned (4096)));

  memset (page, byte, sizeof page);
  return conn_write (c, page, off, sizeof page, false);
}

/* The byte that all of a page is, or -errno; -1000 if they differ. */
static inline int
read_byte (struct conn *c, uint64_t off)
{
  uint8_t page[PAGE_BYTES] __attribute__ ((aligned (4096)));
  int err = conn_read (c, page, off, sizeof page);

  if (err)
    return -err;
  for (size_t i = 1; i < sizeof page; i++)
    if (page[i] != page[0])
      return -1000;
  return page[0];
}

/* A call in a thread of its own, and whether it has come to its end. */
struct call {
  struct rig *rig;
  struct conn *c;
  const char *name;
  int result;
  atomic_bool over;
  pthread_t thread;
};

static inline void
call_start (struct call *call, void *(*fn) (void *) )
{
  atomic_store (&call->over, false);
  assert_int_equal (pthread_create (&call->thread, NULL, fn, call), 0);
}

/* One byte: a read-modify-write, which has its shard locked all the time. */
static inline void *
call_write_part (void *arg)
{
  struct call *call = arg;

  call->result = conn_write (call->c, "p", 17, 1, false);
  atomic_store (&call->over, true);
  return NULL;
}

/* Start that write, and have it held inside; returns the fault's rule. */
static inline int
hold_part (struct rig *rig, struct call *write)
{
  struct fault_rule rule = { .action = FAULT_HOLD,
                             .op = VIO_WRITE,
                             .count = 1 };
  int nr = fault_add (rig->fault, &rule);

  call_start (write, call_write_part);
  assert_true (fault_wait_held (rig->fault, nr, 1, WAIT_NS));
  return nr;
}

/* Start other, which must wait until the held write has been let go. */
static inline void
must_wait_for (struct rig *rig, struct call *write, int nr, struct call *other,
               void *(*fn) (void *) )
{
  call_start (other, fn);
  usleep (100000);
  assert_false (atomic_load (&other->over));
  fault_release (rig->fault, nr);
  pthread_join (write->thread, NULL);
  pthread_join (other->thread, NULL);
  fault_clear (rig->fault);
}

/* What stat says of one object; false: there is none. */
static inline void
copy_object (void *arg, const struct object_stat *st)
{
  *(struct object_stat *) arg = *st;
}

static inline bool
object_of (struct rig *rig, const char *name, struct object_stat *st)
{
  return store_each_object (rig->s, name, copy_object, st) == 0;
}

static inline struct store_stat
stat_of (struct rig *rig)
{
  struct store_stat st;

  store_stat (rig->s, &st);
  return st;
}

#endif /* FARPAGE_TEST_STORE_H */
