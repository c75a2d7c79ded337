/* SPDX-License-Identifier: BSD-2-Clause */
/* Superblocks and format against power cuts.  A volume that keeps a record of
 * its writes and flushes; then, for a cut before each of them, what a medium
 * may hold: all that was flushed, and of the rest each write whole, lost, or
 * some of its sectors, as the seed says.
 */

#include <config.h>

#include "test-super.h"

#define NR_VOLUMES 3
#define OPS_MAX    512
#define SUBSETS    24 /* for each cut */

struct op {
  unsigned volume;
  bool flush;
  uint64_t off;
  size_t bytes;
  uint8_t *data;
  uint64_t mark; /* `mark` at that time */
};

static const uint64_t sizes[NR_VOLUMES] = { 165 * 4096, 37 * 4096, 50 * 4096 };
static struct op ops[OPS_MAX];
static unsigned nr_ops;
static uint64_t mark;

/* ---- a volume that records ---- */

struct recorder {
  struct volume v;
  unsigned number;
  uint8_t *bytes;
};

static struct recorder recorders[NR_VOLUMES];

static struct op *
record (struct recorder *r, bool flush)
{
  struct op *op = &ops[nr_ops++];

  assert_true (nr_ops < OPS_MAX);
  *op = (struct op){ .volume = r->number, .flush = flush, .mark = mark };
  return op;
}

static void
recorder_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  struct recorder *r = (struct recorder *) v;
  struct op *op;

  UNUSED (batch);
  io->done = io->bytes;
  if (io->op == VIO_READ) {
    memcpy (io->buf, r->bytes + io->off, io->bytes);
    return;
  }
  memcpy (r->bytes + io->off, io->buf, io->bytes);
  op = record (r, false);
  op->off = io->off;
  op->bytes = io->bytes;
  op->data = malloc (io->bytes);
  memcpy (op->data, io->buf, io->bytes);
}

static int
recorder_flush (struct volume *v)
{
  record ((struct recorder *) v, true);
  return 0;
}

static const struct volume_ops recorder_ops = {
  .kind = "recorder",
  .start = recorder_start,
  .flush = recorder_flush,
};

static void
forget (void)
{
  for (unsigned i = 0; i < nr_ops; i++)
    free (ops[i].data);
  nr_ops = 0;
}

static int
setup (void **state)
{
  static char *names[NR_VOLUMES] = { (char *) "ra", (char *) "rb",
                                     (char *) "rc" };
  struct rig *t = calloc (1, sizeof *t);

  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    recorders[i] = (struct recorder){ .number = i };
    recorders[i].v.ops = &recorder_ops;
    recorders[i].v.name = names[i];
    recorders[i].v.size_bytes = sizes[i];
    recorders[i].v.align = 1;
    recorders[i].bytes = calloc (1, sizes[i]);
    t->v[i] = &recorders[i].v;
  }
  t->nr = NR_VOLUMES;
  t->page = test_pages (PAGE_BYTES);
  t->format = (struct super_format){ .volumes = t->v,
                                     .nr_volumes = NR_VOLUMES,
                                     .ring_bytes = RING_MIN };
  *state = t;
  return 0;
}

static int
teardown (void **state)
{
  struct rig *t = *state;

  forget ();
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    free (recorders[i].bytes);
  free (t->page);
  free (t);
  return 0;
}

/* ---- cuts ---- */

static void
apply (uint8_t *image, const struct op *op, uint64_t r)
{
  if (r % 4 == 0)
    return;
  for (size_t i = 0; i < op->bytes; i += 512)
    if (r % 4 == 1 || (r >> (8 + i / 512 % 48) & 1) != 0)
      memcpy (image + op->off + i, op->data + i, 512);
}

/* What the media may hold when the power goes before op number end. */
static void
cut (uint8_t *const before[NR_VOLUMES], unsigned end, uint64_t *seed)
{
  unsigned flushed[NR_VOLUMES] = { 0 };

  for (unsigned i = 0; i < NR_VOLUMES; i++)
    memcpy (recorders[i].bytes, before[i], sizes[i]);
  for (unsigned i = 0; i < end; i++)
    if (ops[i].flush)
      flushed[ops[i].volume] = i;
  for (unsigned i = 0; i < end; i++)
    if (!ops[i].flush)
      apply (recorders[ops[i].volume].bytes, &ops[i],
             i < flushed[ops[i].volume] ? 1 : test_random (seed));
}

typedef void (*check_fn) (struct rig *t, uint64_t flushed_mark);

/* Run what is recorded against check. */
static void
cuts (struct rig *t, uint8_t *const before[NR_VOLUMES], check_fn check)
{
  uint64_t seed = test_seed ();
  unsigned nr = nr_ops;

  for (unsigned end = 0; end <= nr; end++)
    for (unsigned n = 0; n < SUBSETS; n++) {
      cut (before, end, &seed);
      check (t, end < nr ? ops[end].mark : mark);
      assert_int_equal (nr_ops, nr); /* reading writes nothing */
    }
  print_message ("%u cuts\n", (nr + 1) * SUBSETS);
}

static void
images_take (uint8_t *images[NR_VOLUMES])
{
  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    images[i] = malloc (sizes[i]);
    memcpy (images[i], recorders[i].bytes, sizes[i]);
  }
  forget ();
}

static void
images_free (uint8_t *images[NR_VOLUMES])
{
  for (unsigned i = 0; i < NR_VOLUMES; i++)
    free (images[i]);
}

/* ---- tests ---- */

static uint8_t *old_images[NR_VOLUMES];
static uint8_t old_uuid[16];
static unsigned seen[3]; /* old, none, new */

/* The old store with all that its older slots stand for, none, or a new one
 * to its last bit.
 */
static void
check_format (struct rig *t, uint64_t flushed_mark)
{
  int err = supers_read (t->v, NR_VOLUMES, &t->s);
  struct disk_super root;

  if (flushed_mark != 0) /* format has returned */
    assert_memory_equal (t->s.root.uuid, t->uuid, 16);
  if (err == 0 && memcmp (t->s.root.uuid, old_uuid, 16) == 0) {
    for (unsigned i = 0; i < NR_VOLUMES; i++)
      assert_memory_equal (recorders[i].bytes + (i == 0 ? 2 * 4096 : 0),
                           old_images[i] + (i == 0 ? 2 * 4096 : 0),
                           sizes[i] - (i == 0 ? 4 * 4096 : 0));
    seen[0]++;
  } else if (err == 0) {
    check_fresh (t);
    seen[2]++;
  } else {
    assert_true (err == EMEDIUMTYPE || err == EIO);
    assert_int_not_equal (super_read (t->v[0], &root, NULL), 0);
    seen[1]++;
  }
}

static void
format_over (struct rig *t)
{
  memset (seen, 0, sizeof seen);
  images_take (old_images);
  mark = 0;
  assert_int_equal (super_format (&t->format, t->uuid), 0);
  mark = 1;
  cuts (t, old_images, check_format);
  images_free (old_images);
  print_message ("old %u, none %u, new %u\n", seen[0], seen[1], seen[2]);
}

static void
test_format_empty (void **state)
{
  format_over (*state);
  assert_int_equal (seen[0], 0);
  assert_true (seen[1] > 0 && seen[2] > 0);
}

static void
test_format_store (void **state)
{
  struct rig *t = *state;

  assert_int_equal (super_format (&t->format, old_uuid), 0);
  assert_int_equal (supers_read (t->v, NR_VOLUMES, &t->s), 0);
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal (supers_attach (&t->s, t->page), 0);
  format_over (t);
  assert_true (seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

/* There is always a store, with the newest slot that was flushed or a later
 * one, and it can be attached.
 */
static void
check_slots (struct rig *t, uint64_t flushed_mark)
{
  assert_int_equal (supers_read (t->v, NR_VOLUMES, &t->s), 0);
  assert_true (t->s.root.sequence >= flushed_mark);
  assert_true (t->s.root.sequence <= flushed_mark + SUPER_COPIES);
  assert_in_range (t->s.peers[1].epoch, t->s.root.epoch, t->s.root.epoch + 1);
}

static void
test_slots (void **state)
{
  struct rig *t = *state;
  uint8_t *images[NR_VOLUMES];

  assert_int_equal (super_format (&t->format, t->uuid), 0);
  assert_int_equal (supers_read (t->v, NR_VOLUMES, &t->s), 0);
  images_take (images);
  mark = t->s.root.sequence;
  for (unsigned i = 0; i < 12; i++) {
    if (i % 3 == 0)
      assert_int_equal (supers_attach (&t->s, t->page), 0);
    else {
      assert_int_equal (supers_write_root (&t->s, t->page), 0);
      assert_int_equal (volume_flush (t->v[0]), 0);
    }
    mark = t->s.root.sequence;
  }
  cuts (t, images, check_slots);
  images_free (images);
}

#define TEST(f) cmocka_unit_test_setup_teardown (f, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    TEST (test_format_empty),
    TEST (test_format_store),
    TEST (test_slots),
  };

  return cmocka_run_group_tests_name ("super-crash", tests, test_begin,
                                      test_end);
}
