/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of this folder share: an object in a pool over memory, over
 * memory that fails or holds what it is told to, or over a file; requests in
 * threads of their own; the recount of everything.
 */

#ifndef FARPAGE_TEST_DISK_H
#define FARPAGE_TEST_DISK_H

#include "test-common.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "env.h"
#include "fault.h"
#include "request.h"
#include "strategy.h"

#define LATE_NS       (120 * NS_PER_S)
#define BATCHES       8
#define BOUNCE_PAGES  SPACE_HANDOUT_MAX
#define SECTORS_PAGE  (PAGE_BYTES / SECTOR_BYTES)
#define NEAR_FULL(nr) ((nr) *3 / 4) /* what a tiny pool of nr can promise */

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SLOWER 10
#else
#define SLOWER 1
#endif

enum disk_kind {
  DISK_MEMORY,
  DISK_FAULT,
  DISK_FILE
};

struct disk {
  enum disk_kind kind;
  struct volume *v;
  struct space *sp;
  struct swzone *zone;
  struct vpool *pool;
  struct object *o;
  uint64_t size;
  bool reserved;
  atomic_bool fenced; /* stays down, for requests that need none */
};

static inline void
nap_ns (uint64_t ns)
{
  struct timespec ts = { .tv_sec = (time_t) (ns / NS_PER_S),
                         .tv_nsec = (long) (ns % NS_PER_S) };

  nanosleep (&ts, NULL);
}

static inline void
disk_volume (struct disk *d, uint64_t bytes)
{
  struct volume_path_options options = { .direct = DIRECT_AUTO };
  struct volume *inner;

  if (d->kind == DISK_FILE) {
    assert_int_equal (
        volume_open_path (test_file ("disk", MIB + bytes), &options, &d->v), 0);
    assert_int_equal (
        vpool_create (BATCHES, BOUNCE_PAGES * PAGE_BYTES, VPOOL_AUTO, &d->pool),
        0);
    return;
  }
  assert_int_equal (volume_open_memory ("mem", bytes, false, &inner), 0);
  d->v = inner;
  if (d->kind == DISK_FAULT) {
    assert_int_equal (volume_open_fault (inner, &d->v), 0);
    d->v->checked = true;
  }
}

/* Another object in the pool of d, or its first. */
static inline int
disk_object (struct disk *d, uint64_t size, bool reserved, struct object **op)
{
  struct object_config config = { .size_bytes = size,
                                  .reserved = reserved,
                                  .prepared = reserved,
                                  .space = d->sp,
                                  .pool = d->pool,
                                  .zone = d->zone };

  return object_create (&config, op);
}

static inline struct disk *
disk_open (enum disk_kind kind, uint64_t nr_blocks, uint64_t size,
           bool reserved)
{
  struct disk *d = calloc (1, sizeof *d);
  struct space_config config = { .volumes = &d->v, .nr_volumes = 1 };

  d->kind = kind;
  d->size = size;
  d->reserved = reserved;
  disk_volume (d, nr_blocks * PAGE_BYTES);
  assert_int_equal (space_create (&config, &d->sp), 0);
  assert_int_equal (swzone_create (sizeof (struct swent), 64 * MIB, &d->zone),
                    0);
  assert_int_equal (disk_object (d, size, reserved, &d->o), 0);
  return d;
}

static inline struct space_stat
disk_stat (struct disk *d)
{
  struct space_stat st;

  space_stat (d->sp, &st);
  return st;
}

/* Nobody is at work; d->o is the only object: NULL, or what is wrong. */
static inline const char *
disk_wrong (struct disk *d)
{
  uint64_t nr_mapped = d->o != NULL ? object_nr_mapped (d->o) : 0;
  uint64_t nr_charged = 0;
  const char *wrong = d->o != NULL ? object_check (d->o) : NULL;

  if (wrong == NULL)
    wrong = space_check (d->sp, nr_mapped);
  if (d->o != NULL)
    nr_charged = nr_mapped + object_nr_reserved (d->o);
  if (wrong == NULL && disk_stat (d).nr_charged != nr_charged)
    wrong = "charges and pages differ";
  return wrong;
}

static inline void
disk_check (struct disk *d)
{
  const char *wrong = disk_wrong (d);

  if (wrong != NULL)
    fail_msg ("%s", wrong);
}

static inline void
disk_close (struct disk *d)
{
  disk_check (d);
  object_destroy (d->o);
  d->o = NULL;
  disk_check (d);
  assert_int_equal (swzone_bytes (d->zone), 0);
  swzone_destroy (d->zone);
  space_destroy (d->sp);
  vpool_destroy (d->pool);
  volume_close (d->v);
  if (d->kind == DISK_FILE)
    unlink (test_path ("disk"));
  free (d);
}

/* ---- requests ---- */

static inline int
disk_write (struct disk *d, const void *buf, uint64_t off, uint64_t bytes)
{
  return strategy_write (d->o, &d->fenced, buf, off, bytes, false);
}

static inline int
disk_read (struct disk *d, void *buf, uint64_t off, uint64_t bytes)
{
  return strategy_read (d->o, &d->fenced, buf, off, bytes);
}

static inline int
disk_zero (struct disk *d, uint64_t off, uint64_t bytes, bool keep)
{
  return strategy_zero (d->o, &d->fenced, off, bytes, keep, false);
}

/* Fill the range with this byte (not 0). */
static inline int
disk_fill (struct disk *d, int byte, uint64_t off, uint64_t bytes)
{
  char *buf = malloc (bytes);
  int err;

  memset (buf, byte, bytes);
  err = disk_write (d, buf, off, bytes);
  free (buf);
  return err;
}

/* The range reads as this byte, everywhere. */
static inline void
disk_expect (struct disk *d, int byte, uint64_t off, uint64_t bytes)
{
  uint8_t *buf = malloc (bytes);

  memset (buf, ~byte, bytes);
  assert_int_equal (disk_read (d, buf, off, bytes), 0);
  for (uint64_t i = 0; i < bytes; i++)
    if (buf[i] != (uint8_t) byte)
      fail_msg ("byte %" PRIu64 " is %#x, not %#x", off + i, buf[i],
                (unsigned) byte);
  free (buf);
}

static inline struct strategy_extent
disk_extent (struct disk *d, uint64_t off, uint64_t max)
{
  struct strategy_extent x;

  assert_int_equal (strategy_extent (d->o, off, max, &x), 0);
  return x;
}

/* A request in a thread of its own. */
enum call_op {
  CALL_READ,
  CALL_WRITE,
  CALL_ZERO,
  CALL_KEEP
};

struct call {
  enum call_op op;
  struct object *o;
  atomic_bool fenced;
  uint8_t *buf; /* NULL of zeros */
  uint64_t off, bytes;
  int err;
  atomic_bool over;
  pthread_t thread;
};

static inline void *
call_thread (void *arg)
{
  struct call *c = arg;

  if (c->op == CALL_READ)
    c->err = strategy_read (c->o, &c->fenced, c->buf, c->off, c->bytes);
  else if (c->op == CALL_WRITE)
    c->err = strategy_write (c->o, &c->fenced, c->buf, c->off, c->bytes, false);
  else
    c->err = strategy_zero (c->o, &c->fenced, c->off, c->bytes,
                            c->op == CALL_KEEP, false);
  atomic_store (&c->over, true);
  return NULL;
}

/* byte: what a write writes everywhere. */
static inline struct call *
call_start (struct disk *d, enum call_op op, int byte, uint64_t off,
            uint64_t bytes)
{
  struct call *c = calloc (1, sizeof *c);

  c->op = op;
  c->o = d->o;
  c->off = off;
  c->bytes = bytes;
  if (op == CALL_READ || op == CALL_WRITE) {
    c->buf = malloc (bytes);
    memset (c->buf, byte, bytes);
  }
  pthread_create (&c->thread, NULL, call_thread, c);
  return c;
}

/* Its end, and its result. */
static inline int
call_join (struct call *c)
{
  int err;

  pthread_join (c->thread, NULL);
  err = c->err;
  free (c->buf);
  free (c);
  return err;
}

/* Hold the next transfer of this kind that no earlier rule takes; of a
 * request in a thread wait until it is held.
 */
static inline int
hold_next (struct disk *d, enum vio_op op)
{
  struct fault_rule rule = { .action = FAULT_HOLD, .op = op, .count = 1 };
  int nr = fault_add (d->v, &rule);

  assert_true (nr >= 0);
  return nr;
}

static inline void
wait_held (struct disk *d, int rule)
{
  assert_true (fault_wait_held (d->v, rule, 1, LATE_NS));
}

static inline struct call *
call_held (struct disk *d, enum call_op op, int byte, uint64_t off,
           uint64_t bytes, int *rule)
{
  struct call *c;

  *rule = hold_next (d, op == CALL_READ ? VIO_READ : VIO_WRITE);
  c = call_start (d, op, byte, off, bytes);
  wait_held (d, *rule);
  return c;
}

static inline void
fail_next (struct disk *d, enum vio_op op, unsigned count)
{
  struct fault_rule rule = {
    .action = FAULT_FAIL, .op = op, .count = count, .error = EIO
  };

  assert_true (fault_add (d->v, &rule) >= 0);
}

#endif /* FARPAGE_TEST_DISK_H */
