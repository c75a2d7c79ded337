/* SPDX-License-Identifier: BSD-2-Clause */
/* The fixture of test-volume.c and test-batch.c: two volumes of one kind and a
 * pool of one engine, for each row of configs[].
 */

#ifndef FARPAGE_TEST_RIG_H
#define FARPAGE_TEST_RIG_H

#include "test-common.h"

struct config {
  bool memory;
  enum vpool_engine engine;
  enum volume_direct direct;
};

static const struct config configs[] = {
  { .memory = true, .engine = VPOOL_SYNC },
  { .engine = VPOOL_SYNC, .direct = DIRECT_NO },
  { .engine = VPOOL_SYNC, .direct = DIRECT_AUTO },
  { .engine = VPOOL_URING, .direct = DIRECT_NO },
  { .engine = VPOOL_URING, .direct = DIRECT_AUTO },
};

#define NR_VOLUMES 2
#define DATA_BYTES (2 * MIB)
#define BOUNCE     (128 * 1024)
#define POOL_NR    3
#define QUARTER    (DATA_BYTES / 2) /* of the bytes of both volumes */
#define NR_PAGES   (QUARTER / PAGE_BYTES)

struct rig {
  const struct config *config;
  struct volume *v[NR_VOLUMES];
  struct vpool *pool;
  uint8_t *buf[VIO_MAX]; /* QUARTER bytes each */
  bool cached;           /* reads are */
  bool scatter;          /* page by page, the last of the buffer first */
  struct iovec iov[VIO_MAX][NR_PAGES];
};

_Static_assert(NR_PAGES == VIO_IOV_MAX, "as many as may be");

static bool uring_works;

static inline void
rig_look_for_uring (void)
{
  struct vpool *pool;

  uring_works = vpool_create (1, 0, VPOOL_URING, &pool) == 0;
  if (uring_works)
    vpool_destroy (pool);
}

/* A test's state is its config until setup () has made the rig. */
static inline bool
is_config (const void *state)
{
  for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++)
    if (state == &configs[i])
      return true;
  return false;
}

static const char *
file_name (int i)
{
  return test_path (i == 0 ? "a" : "b");
}

static inline int
setup (void **state)
{
  const struct config *config = *state;
  struct volume_path_options options = { .sparse = true,
                                         .direct = config->direct };
  struct rig *t;

  if (config->engine == VPOOL_URING && !uring_works)
    return 0; /* *state stays the config: rig_of () skips */
  test_log_forget ();
  t = calloc (1, sizeof *t);
  t->config = config;
  for (int i = 0; i < NR_VOLUMES; i++) {
    if (config->memory) {
      assert_int_equal (
          volume_open_memory ("mem:2M", DATA_BYTES, true, &t->v[i]), 0);
    } else {
      test_file (i == 0 ? "a" : "b", MIB + DATA_BYTES);
      assert_int_equal (volume_open_path (file_name (i), &options, &t->v[i]),
                        0);
    }
    assert_int_equal (t->v[i]->size_bytes, DATA_BYTES);
  }
  for (int i = 0; i < VIO_MAX; i++)
    t->buf[i] = test_pages (QUARTER);
  assert_int_equal (vpool_create (POOL_NR, BOUNCE, config->engine, &t->pool),
                    0);
  *state = t;
  return 0;
}

static inline int
teardown (void **state)
{
  struct rig *t = *state;

  if (is_config (t))
    return 0; /* was skipped */
  vpool_destroy (t->pool);
  for (int i = 0; i < NR_VOLUMES; i++) {
    volume_close (t->v[i]);
    if (!t->config->memory)
      unlink (file_name (i));
  }
  for (int i = 0; i < VIO_MAX; i++)
    free (t->buf[i]);
  free (t);
  return 0;
}

static inline struct rig *
rig_of (void **state)
{
  if (is_config (*state)) {
    print_message ("skipped: this kernel gives us no io_uring\n");
    skip ();
  }
  return *state;
}

static inline bool
is_uring (const struct rig *t)
{
  return t->config->engine == VPOOL_URING;
}

static inline uint64_t
rig_blocks (struct rig *t, int nr)
{
  return t->config->memory ? test_memfd_blocks (nr)
                           : test_blocks (file_name (nr));
}

/* The i-th of VIO_MAX transfers that together cover both volumes. */
static inline struct vio
quarter (struct rig *t, enum vio_op op, unsigned i)
{
  struct vio io = { .volume = t->v[i / 2],
                    .op = op,
                    .cached = t->cached && op == VIO_READ,
                    .off = i % 2 * QUARTER,
                    .buf = t->buf[i],
                    .bytes = QUARTER };

  for (unsigned j = 0; t->scatter && j < NR_PAGES; j++)
    t->iov[i][j] = (struct iovec){ t->buf[i] + (NR_PAGES - 1 - j) * PAGE_BYTES,
                                   PAGE_BYTES };
  if (t->scatter) {
    io.buf = NULL;
    io.iov = t->iov[i];
    io.nr_iov = NR_PAGES;
  }
  return io;
}

static inline void
move_all (struct rig *t, enum vio_op op, struct vio io[VIO_MAX])
{
  struct vbatch *b = vbatch_get (t->pool);

  for (unsigned i = 0; i < VIO_MAX; i++) {
    io[i] = quarter (t, op, i);
    vio_start (b, &io[i]);
  }
  vbatch_wait (b);
  vbatch_put (b);
}

/* What the i-th transfer's memory is when its place on the volume has the
 * pattern of this round.
 */
static inline void
fill_one (struct rig *t, uint8_t *buf, unsigned i, uint64_t round)
{
  for (unsigned j = 0; j < NR_PAGES; j++)
    test_pattern (buf + (t->scatter ? NR_PAGES - 1 - j : j) * PAGE_BYTES,
                  PAGE_BYTES, i * QUARTER + j * PAGE_BYTES, round);
}

static inline void
fill (struct rig *t, uint64_t round)
{
  for (unsigned i = 0; i < VIO_MAX; i++)
    fill_one (t, t->buf[i], i, round);
}

static inline void
forget (struct rig *t)
{
  for (unsigned i = 0; i < VIO_MAX; i++)
    memset (t->buf[i], 0xdd, QUARTER);
}

/* All was moved, and memory is as fill () makes it. */
static inline void
expect_moved (struct rig *t, const struct vio io[VIO_MAX], uint64_t round)
{
  uint8_t *want = test_pages (QUARTER);

  for (unsigned i = 0; i < VIO_MAX; i++) {
    fill_one (t, want, i, round);
    assert_int_equal (io[i].error, 0);
    assert_int_equal (io[i].done, QUARTER);
    assert_memory_equal (t->buf[i], want, QUARTER);
  }
  free (want);
}

/* All of both volumes must be the pattern of this round. */
static inline void
expect_all (struct rig *t, uint64_t round)
{
  struct vio io[VIO_MAX];

  forget (t);
  move_all (t, VIO_READ, io);
  expect_moved (t, io, round);
}

static inline void
write_all_ok (struct rig *t, uint64_t round)
{
  struct vio io[VIO_MAX];

  fill (t, round);
  move_all (t, VIO_WRITE, io);
  for (unsigned i = 0; i < VIO_MAX; i++)
    assert_int_equal (io[i].error, 0);
}

#define CASE(f, i, text)                                               \
  {                                                                    \
#f ", " text, f, setup, teardown, (void *) (uintptr_t) &configs[i] \
  }
#define FILES(f)                                            \
  CASE (f, 1, "sync, cached"), CASE (f, 2, "sync, direct"), \
      CASE (f, 3, "io_uring, cached"), CASE (f, 4, "io_uring, direct")
#define ALL(f)   CASE (f, 0, "memory"), FILES (f)
#define URING(f) CASE (f, 3, "cached"), CASE (f, 4, "direct")

#endif /* FARPAGE_TEST_RIG_H */
