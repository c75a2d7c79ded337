/* SPDX-License-Identifier: BSD-2-Clause */
/* Check and repair on damaged stores: every byte of metadata with a bit
 * turned, as it is and under a new checksum; blocks that are zero, swapped, or
 * as they once were.  Nothing crashes, no byte that counts is missed, and what
 * repair says will be left is what is left.
 *
 * One thread does it all: the thread sanitizer does not follow.
 *
 * FARPAGE_SEED: of the bits.  FARPAGE_FUZZ_ALL: every byte also where a slow
 * build takes one in some.
 */

#include <config.h>

#include "test-check.h"

#include "env.h"
#include "test-alone.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define STRIDE 29u
#else
#define STRIDE 3u
#endif

static uint64_t seed;

static uint64_t
rnd (void)
{
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

struct rig {
  struct store_made m;
  struct found found;
  uint64_t blks[64]; /* metadata that counts */
  unsigned nr;
  struct check_report after;
  uint64_t nr_checks, nr_missed, nr_repaired;
};

static void
add (struct rig *t, uint64_t blk)
{
  t->blks[t->nr++] = blk;
}

static void
find_blocks (struct rig *t)
{
  const struct store_made *m = &t->m;

  for (unsigned i = 0; i < m->nr; i++) {
    for (unsigned slot = 0; slot < DISK_SUPER_SLOTS; slot++)
      add (t, blkno_make (
                  i, super_slot_block (m->root.members[i].nr_blocks, slot)));
    add (t, m->root.members[i].freemap.blk);
  }
  for (unsigned i = 0; i < 3; i++)
    add (t, m->table[i].blk);
  add (t, m->a_root.blk);
  add (t, m->a_leaf[0].blk);
  add (t, m->a_leaf[1].blk);
  add (t, m->b_leaf.blk);
}

static int
begin (void **state)
{
  struct rig *t = calloc (1, sizeof *t);

  made_open (&t->m, 2);
  find_blocks (t);
  *state = t;
  return 0;
}

static int
end (void **state)
{
  struct rig *t = *state;

  made_close (&t->m);
  free (t);
  return 0;
}

static bool
do_not (void *arg, uint64_t nr_blocks, const struct check_report *after)
{
  struct found *found = arg;
  struct rig *t =
      (struct rig *) ((char *) found - offsetof (struct rig, found));

  (void) nr_blocks;
  t->after = *after;
  t->nr_repaired++;
  return false;
}

/* Repair up to where it would write. */
static void
try_repair (struct rig *t)
{
  struct check_config config = { .volumes = t->m.v,
                                 .nr_volumes = t->m.nr,
                                 .found = found_keep,
                                 .arg = &t->found };
  struct check_repair repair = { .lose_pages = rnd () % 2 != 0, .go = do_not };
  uint64_t nr_written = 0;

  t->found.nr = 0;
  memset (&t->after, 0, sizeof t->after);
  (void) check_repair (&config, &repair, &t->found.report, &nr_written);
  assert_int_equal (nr_written, 0);
  assert_true (t->after.nr_all <= t->found.report.nr_all);
}

/* A check with a block as it is now.  True: something was found, or told as
 * what a crash leaves of a superblock.
 */
static bool
look (struct rig *t)
{
  int err = found_run (&t->found, t->m.v, t->m.nr, rnd () % 8 == 0);
  bool found = err != 0 || t->found.nr > 0 ||
               strstr (t->found.notes, "is not whole") != NULL;

  /* The oldest slot alone: as a write that was cut off leaves it. */
  found |= strstr (t->found.notes, "its write was cut off") != NULL;
  assert_true (err == 0 || err == EINVAL);
  t->nr_checks++;
  if (found && rnd () % 8 == 0)
    try_repair (t);
  return found;
}

static void
flip_all (struct rig *t, bool seal)
{
  unsigned step = getenv ("FARPAGE_FUZZ_ALL") != NULL ? 1 : STRIDE;
  uint8_t was[PAGE_BYTES], is[PAGE_BYTES];

  for (unsigned i = 0; i < t->nr; i++) {
    blk_io (&t->m, VIO_READ, t->blks[i], was);
    for (unsigned byte = (unsigned) rnd () % step; byte < PAGE_BYTES;
         byte += step) {
      memcpy (is, was, sizeof is);
      is[byte] ^= (uint8_t) (1u << rnd () % 8);
      if (seal)
        node_seal ((struct disk_node *) is);
      blk_io (&t->m, VIO_WRITE, t->blks[i], is);
      if (!look (t) && !seal)
        fail_msg ("block %#" PRIx64 ", byte %u: not found", t->blks[i], byte);
      else
        t->nr_missed += !t->found.nr;
    }
    blk_io (&t->m, VIO_WRITE, t->blks[i], was);
  }
  assert_false (look (t));
  print_message ("%" PRIu64 " checks, %" PRIu64 " found nothing, %" PRIu64
                 " repairs\n",
                 t->nr_checks, t->nr_missed, t->nr_repaired);
}

static void
test_flips (void **state)
{
  flip_all (*state, false);
}

static void
test_sealed_flips (void **state)
{
  flip_all (*state, true);
}

/* Each block that counts in place of each other, and zeros. */
static void
test_swaps (void **state)
{
  struct rig *t = *state;
  uint8_t was[PAGE_BYTES], is[PAGE_BYTES];
  unsigned nr_equal = 0;

  for (unsigned i = 0; i < t->nr; i++) {
    blk_io (&t->m, VIO_READ, t->blks[i], was);
    for (unsigned k = 0; k <= t->nr; k++) {
      memset (is, 0, sizeof is);
      if (k < t->nr)
        blk_io (&t->m, VIO_READ, t->blks[k], is);
      if (k == i || memcmp (is, was, sizeof is) == 0) {
        nr_equal++;
        continue;
      }
      blk_io (&t->m, VIO_WRITE, t->blks[i], is);
      if (!look (t))
        fail_msg ("block %#" PRIx64 " in place of %#" PRIx64 ": not found",
                  k < t->nr ? t->blks[k] : 0, t->blks[i]);
    }
    blk_io (&t->m, VIO_WRITE, t->blks[i], was);
  }
  assert_int_equal (nr_equal, t->nr);
  print_message ("%" PRIu64 " checks\n", t->nr_checks);
}

/* Many random bytes, under good checksums, in many blocks at once. */
static void
test_storms (void **state)
{
  struct rig *t = *state;
  uint8_t (*was)[PAGE_BYTES] = malloc (t->nr * sizeof *was);
  uint8_t is[PAGE_BYTES];

  for (unsigned i = 0; i < t->nr; i++)
    blk_io (&t->m, VIO_READ, t->blks[i], was[i]);
  for (unsigned n = 0; n < 20000 / STRIDE; n++) {
    for (unsigned i = 0; i < t->nr; i++) {
      bool slot =
          blkno_place (t->blks[i]) < 2 ||
          blkno_place (t->blks[i]) >= 254 * (1 + blkno_volume (t->blks[i]));

      memcpy (is, was[i], sizeof is);
      for (unsigned k = (unsigned) rnd () % (slot ? 2 : 6); k > 0; k--) {
        unsigned at =
            slot ? 88 + (unsigned) rnd () % 400 : 128 + (unsigned) rnd () % 600;

        is[at] = rnd () % 3 ? (uint8_t) rnd () : was[rnd () % t->nr][at];
      }
      node_seal ((struct disk_node *) is);
      blk_io (&t->m, VIO_WRITE, t->blks[i], is);
    }
    (void) look (t);
  }
  for (unsigned i = 0; i < t->nr; i++)
    blk_io (&t->m, VIO_WRITE, t->blks[i], was[i]);
  free (was);
  assert_false (look (t));
  print_message ("%" PRIu64 " checks, %" PRIu64 " repairs\n", t->nr_checks,
                 t->nr_repaired);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_flips),
    CASE (test_sealed_flips),
    CASE (test_swaps),
    CASE (test_storms),
  };
  const char *text = getenv ("FARPAGE_SEED");
  int nr_failed;

  seed = text != NULL ? strtoull (text, NULL, 0) : env_now_ns ();
  seed |= 1;
  print_message ("FARPAGE_SEED=%" PRIu64 "\n", seed);
  test_alone_begin ();
  nr_failed = cmocka_run_group_tests (tests, NULL, NULL);
  test_alone_end ();
  return nr_failed;
}
