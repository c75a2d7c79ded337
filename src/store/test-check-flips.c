/* SPDX-License-Identifier: BSD-2-Clause */
/* Damage to each block of metadata of a small store, one at a time, and then
 * the server itself: superblock slots, log, all nodes of the table, of maps
 * and of free maps.
 *
 *   closed    the store was closed
 *   killed    it was not: log and maps are to be brought together.  The log
 *             says that all of it was durable
 *   cut       the same, and its last blocks came later than what says so
 *
 *   flipped   a bit of a byte, each byte of the block in turn
 *   sealed    the same under a new checksum: no medium does that
 *   zeroed, swapped with another block of its kind or of another, replaced by
 *   its older self
 *
 * After each of them a check of all and an open for real, which reads all
 * pages, writes some more, reads all again and closes.  O1 to O6 must hold:
 *
 * O1. Nothing crashes or hangs.
 * O2. A page reads as the oracle says, or not at all.  (Sealed: not asked for;
 *     a size or a name that was changed so is as good as the one before.)
 * O3. If the open is refused, or a disk or a page is not there, then the check
 *     has found something.  (Sealed: not what only the second open misses, and
 *     not for a record in the log: it says something else then, a disk's other
 *     name say, and nothing tells that it is not meant.)
 * O4. What is written after such an open and flushed is there, or an error.
 * O5. A slot that is lost costs nothing but itself.
 * O6. A repair that says that nothing will be left to be found is right, and
 *     the server opens the store and serves every page, but for those below a
 *     map's node that was lost: these may be holes.
 *
 * What the oracle allows is the last version of a page; where only a cut was
 * made, any since the last flush; and if it is the log that was damaged then,
 * any that ever was: a log whose end is lost ends earlier, as if the power had
 * failed before.  So it is where the last block, which is the witness, is
 * swapped with another one of the log.
 *
 * The thread sanitizer follows the server, and not what has one thread: check,
 * repair, an open until its threads start.
 *
 * FARPAGE_FLIP_STRIDE: bytes from one flip to the next (1: each byte, and all
 * pairs of blocks are swapped).  FARPAGE_SEED: of bits and pairs. FARPAGE_TEST:
 * this test alone.
 */

#include <config.h>

#include <signal.h>

#include "test-check-flips.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define STRIDE 1021u
#else
#define STRIDE 211u
#endif
#define PAIRS_NR   2u /* of each kind, swapped with a block */
#define RARE_TIMES 4u /* longer steps: sealed, a log that is not needed */
#define CASE_S     120u

/* A debugging build ends itself when its books do not balance at the close,
 * and what check has found under a good checksum may be a number of those.
 */
#ifdef FARPAGE_DEBUG
#define SERVE_ALL false
#else
#define SERVE_ALL true
#endif

static void
on_end (int number)
{
  (void) !write (STDERR_FILENO, now, strlen (now));
  signal (number, SIG_DFL);
  raise (number);
}

/* ---- one case ---- */

static void
put_block (struct flips *t, const struct block *b, const void *page)
{
  assert_int_equal (volume_write (t->live.v[b->volume], b->place * PAGE_BYTES,
                                  page, PAGE_BYTES),
                    0);
}

static void
read_disks (struct flips *t)
{
  for (unsigned d = 0; d < DISKS; d++) {
    struct conn *c = t->o.exists[d] ? connect_to (&t->o, d) : NULL;

    t->missing |= t->o.exists[d] && c == NULL;
    for (unsigned i = 0; i < PAGES && c != NULL; i++)
      expect_page (t, c, d, i);
    if (c != NULL)
      store_disconnect (c);
  }
}

/* New versions, as many as the store takes. */
static void
write_disks (struct flips *t)
{
  for (unsigned d = 0; d < DISKS; d++) {
    struct conn *c = t->o.exists[d] ? connect_to (&t->o, d) : NULL;
    unsigned first = (unsigned) rnd () % 8;
    bool written[PAGES] = { false };

    for (unsigned i = first; i < PAGES && c != NULL; i += 8)
      if (pgno_of (d, i) != CHECK_NONE)
        written[i] = put_page (&t->o, c, d, i, false);
    if (c != NULL && conn_flush (c) == 0)
      for (unsigned i = 0; i < PAGES; i++)
        if (written[i])
          t->o.pages[d][i].nr_flushed = t->o.pages[d][i].nr - 1;
    if (c != NULL)
      store_disconnect (c);
  }
}

/* Open what is there now as a server would, twice. */
static void
serve (struct flips *t)
{
  bool missing, read[DISKS][PAGES];

  t->was = t->o;
  t->missing = try_open_store (&t->live) != 0;
  if (t->missing) {
    t->tally[t->block != NULL ? t->block->kind : SLOT].nr_refused++;
    return;
  }
  read_disks (t);
  memcpy (read, t->read, sizeof read);
  write_disks (t);
  read_disks (t);
  try_close_store (&t->live);
  missing = t->missing;
  if (try_open_store (&t->live) == 0) {
    read_disks (t);
    try_close_store (&t->live);
  } else
    t->missing = true;
  if (t->damage == SEALED)
    t->missing = missing;
  memcpy (t->read, read, sizeof read);
  t->o = t->was;
}

static int
look (struct flips *t)
{
  int err;

  test_alone_begin ();
  err = found_run (&t->live.found, t->live.v, NR_VOLUMES, true);
  test_alone_end ();
  return err;
}

static bool
go (void *arg, uint64_t nr_blocks, const struct check_report *after)
{
  (void) arg;
  (void) nr_blocks;
  return after->nr_all == 0; /* else there is no use in it */
}

/* All pages that could be read before, and those that could not for another
 * reason than a map's node, are as they should be; others may be holes now.
 */
static void
expect_mended (struct flips *t, bool (*read)[PAGES])
{
  static const uint8_t zeros[PAGE_BYTES];
  const bool map =
      t->block->kind == MAP || (t->other != NULL && t->other->kind == MAP);

  for (unsigned d = 0; d < DISKS; d++) {
    struct conn *c = t->o.exists[d] ? connect_to (&t->o, d) : NULL;

    assert_true (c != NULL || !t->o.exists[d] || end_may_be_lost (t));
    for (unsigned i = 0; i < PAGES && c != NULL; i++) {
      uint64_t pgno = pgno_of (d, i);
      uint8_t is[PAGE_BYTES];

      if (pgno == CHECK_NONE)
        continue;
      assert_int_equal (conn_read (c, is, pgno * PAGE_BYTES, sizeof is), 0);
      if (!page_ok (&t->o, d, i, is, end_may_be_lost (t)) &&
          !(map && !read[d][i] && memcmp (is, zeros, sizeof zeros) == 0))
        fail_msg ("%s: repaired: disk %s, page %" PRIu64 ": bytes %u %u", now,
                  disks[d].name, pgno, is[0], is[7]);
    }
    if (c != NULL)
      store_disconnect (c);
  }
}

/* What repair calls good is good: check finds nothing, a server opens it and
 * serves all that could be saved.
 */
static void
mend (struct flips *t)
{
  struct check_config config = { .volumes = t->live.v,
                                 .nr_volumes = NR_VOLUMES };
  struct check_repair r = { .lose_pages = true,
                            .undo_path = t->undo,
                            .go = go };
  struct check_report report;
  bool read[DISKS][PAGES];
  uint64_t nr = 0;
  int err;

  memcpy (read, t->read, sizeof read);
  test_alone_begin ();
  err = check_repair (&config, &r, &report, &nr);
  test_alone_end ();
  assert_true (err == 0 || err == EINVAL);
  if (nr == 0)
    return;
  assert_int_equal (unlink (t->undo), 0);
  assert_int_equal (look (t), 0);
  found_none (&t->live.found);
  open_store (&t->live);
  expect_mended (t, read);
  close_store (&t->live);
  t->nr_mended++;
}

/* The same damage once more, and its repair. */
static void
mend_again (struct flips *t, const uint8_t b[PAGE_BYTES],
            const uint8_t other[PAGE_BYTES])
{
  put_back (&t->live);
  put_block (t, t->block, b);
  if (t->other != NULL)
    put_block (t, t->other, other);
  mend (t);
}

static void
get_block (struct flips *t, const struct block *b, uint8_t page[PAGE_BYTES])
{
  assert_int_equal (volume_read (t->live.v[b->volume], b->place * PAGE_BYTES,
                                 page, PAGE_BYTES),
                    0);
}

static void
try_damage (struct flips *t, const struct block *b, enum damage damage,
            const char *how)
{
  struct found *found = &t->live.found;
  uint8_t is[2][PAGE_BYTES];
  bool wrong;
  int err;

  t->block = b;
  t->damage = damage;
  get_block (t, b, is[0]);
  if (t->other != NULL)
    get_block (t, t->other, is[1]);
  snprintf (now, sizeof now, "%s, %s: volume %u, block %" PRIu64 " (%s)%s",
            state_names[t->state], damage_names[damage], b->volume, b->place,
            kind_names[b->kind], how);
  alarm (CASE_S);
  err = look (t);
  assert_true (err == 0 || err == EINVAL || err == EIO);
  wrong = err != 0 || found->nr > 0;
  t->missing = false;
  memset (t->read, 0, sizeof t->read);
  if (damage != SEALED || !wrong || SERVE_ALL)
    serve (t);
  if (t->missing && b->kind == SLOT && damage != SEALED && t->other == NULL)
    fail_msg ("%s: one slot less, and the store is not whole", now);
  if (t->missing && !wrong && !(damage == SEALED && b->kind == LOG_BLOCK))
    fail_msg ("%s: not there, and check has found nothing", now);
  if (wrong && (damage >= ZEROED || (damage == FLIPPED && rnd () % 16 == 0)))
    mend_again (t, is[0], is[1]);
  t->nr[damage]++;
  t->tally[b->kind].nr++;
  t->tally[b->kind].nr_missing += t->missing;
  t->tally[b->kind].nr_found += wrong;
  put_back (&t->live);
  t->block = NULL;
}

/* ---- damage ---- */

static unsigned
stride (void)
{
  const char *text = getenv ("FARPAGE_FLIP_STRIDE");
  unsigned n = text != NULL ? (unsigned) strtoul (text, NULL, 0) : 0;

  return n > 0 ? n : STRIDE;
}

/* Byte of a table's leaf. */
static bool
is_of_name (const uint8_t *page, unsigned byte)
{
  const struct disk_node *node = (const struct disk_node *) page;
  const struct disk_table *table = (const struct disk_table *) node->body;
  unsigned at = byte - DISK_NODE_HEAD;
  const struct disk_object *o = &table->object[at / sizeof *o];

  if (node->level > 0 || byte < DISK_NODE_HEAD || byte >= DISK_NODE_USED ||
      at / sizeof *o >= DISK_TABLE_OBJECTS || o->id == 0)
    return false;
  at %= sizeof *o;
  return at >= offsetof (struct disk_object, name) &&
         at - offsetof (struct disk_object, name) < o->name_bytes;
}

static void
flip (struct flips *t, const struct block *b, enum damage damage)
{
  const bool rare = damage == SEALED || b->unused;
  unsigned step = stride () * (rare ? RARE_TIMES : 1);
  uint8_t is[PAGE_BYTES];
  char how[32];

  for (unsigned byte = (unsigned) rnd () % step; byte < PAGE_BYTES;
       byte += step) {
    unsigned bit = (unsigned) rnd () % 8;

    memcpy (is, image_of (t, b), sizeof is);
    if (damage == SEALED && b->kind == SLOT && byte >= 16 && byte < 40)
      continue; /* features: of a later version, and no damage */
    if (damage == SEALED && b->kind == TABLE && is_of_name (is, byte))
      continue; /* the disk has another name then, and all that it had */
    is[byte] ^= (uint8_t) (1u << bit);
    if (damage == SEALED)
      node_seal ((struct disk_node *) is);
    put_block (t, b, is);
    snprintf (how, sizeof how, ", byte %u bit %u", byte, bit);
    try_damage (t, b, damage, how);
  }
}

static void
zero (struct flips *t, const struct block *b)
{
  static const uint8_t zeros[PAGE_BYTES];

  put_block (t, b, zeros);
  try_damage (t, b, ZEROED, "");
}

static void
swap_with (struct flips *t, const struct block *b, const struct block *other)
{
  char how[64];

  put_block (t, b, image_of (t, other));
  put_block (t, other, image_of (t, b));
  snprintf (how, sizeof how, ", with volume %u, block %" PRIu64, other->volume,
            other->place);
  t->other = other;
  try_damage (t, b, SWAPPED, how);
  t->other = NULL;
}

static void
swap_some (struct flips *t, const struct block *b)
{
  unsigned nr_same = 0, nr_other = 0;
  unsigned first = (unsigned) rnd () % t->nr_blocks;

  for (unsigned i = 0; i < t->nr_blocks; i++) {
    const struct block *other = &t->blocks[(first + i) % t->nr_blocks];
    unsigned *nr = other->kind == b->kind ? &nr_same : &nr_other;

    if (other == b || (*nr >= PAIRS_NR && stride () > 1))
      continue;
    (*nr)++;
    swap_with (t, b, other);
  }
}

static void
make_older (struct flips *t, const struct block *b)
{
  for (unsigned k = 0; k < t->nr_older; k++) {
    const uint8_t *page = t->older[k][b->volume] + b->place * PAGE_BYTES;
    char how[32];

    if (memcmp (page, image_of (t, b), PAGE_BYTES) == 0 ||
        (k > 0 &&
         memcmp (page,
                 page - t->older[k][b->volume] + t->older[k - 1][b->volume],
                 PAGE_BYTES) == 0))
      continue;
    put_block (t, b, page);
    snprintf (how, sizeof how, ", as of moment %u", k);
    try_damage (t, b, OLDER, how);
  }
}

/* Every kind of damage was done, and damage was found to slots and to what the
 * store needs: the log, which brings back nodes, or all nodes.
 */
static void
report (const struct flips *t)
{
  print_message ("%s: %u blocks", state_names[t->state], t->nr_blocks);
  for (enum damage d = 0; d < DAMAGES; d++) {
    assert_true (t->nr[d] > 0);
    print_message (", %" PRIu64 " %s", t->nr[d], damage_names[d]);
  }
  print_message (", %" PRIu64 " repaired\n", t->nr_mended);
  assert_true (t->nr_mended > 0);
  for (enum kind k = 0; k < KINDS; k++) {
    const struct tally *n = &t->tally[k];

    print_message ("  %s: %" PRIu64 " cases, %" PRIu64 " found by check, "
                   "%" PRIu64 " with something missing, %" PRIu64
                   " of them as the open was refused\n",
                   kind_names[k], n->nr, n->nr_found, n->nr_missing,
                   n->nr_refused);
    assert_true (n->nr > 0);
    if (k == SLOT || (k == LOG_BLOCK) != (t->state == CLOSED))
      assert_true (n->nr_found > 0);
  }
}

static void
flips_of (struct flips *t, enum state state)
{
  make_state (t, state);
  find_blocks (t);
  serve (t); /* without damage */
  assert_false (t->missing);
  put_back (&t->live);
  for (unsigned i = 0; i < t->nr_blocks; i++) {
    const struct block *b = &t->blocks[i];

    flip (t, b, FLIPPED);
    flip (t, b, SEALED);
    zero (t, b);
    swap_some (t, b);
    make_older (t, b);
  }
  report (t);
  assert_int_equal (look (t), 0);
  found_none (&t->live.found);
}

static void
test_closed (void **state)
{
  flips_of (*state, CLOSED);
}

static void
test_killed (void **state)
{
  flips_of (*state, KILLED);
}

static void
test_cut (void **state)
{
  flips_of (*state, CUT);
}

static int
begin (void **state)
{
  struct flips *t = calloc (1, sizeof *t);
  static const uint64_t bytes[NR_VOLUMES] = { 3 * MIB / 2, MIB };

  live_open (&t->live, bytes, SUPER_RING_BLOCKS_MIN * DISK_BLOCK_BYTES);
  snprintf (t->dir, sizeof t->dir, "/tmp/test-check.XXXXXX");
  assert_non_null (mkdtemp (t->dir));
  snprintf (t->undo, sizeof t->undo, "%s/undo", t->dir);
  *state = t;
  return 0;
}

static int
end (void **state)
{
  struct flips *t = *state;

  alarm (0);
  unlink (t->undo);
  rmdir (t->dir);
  live_close (&t->live);
  for (unsigned k = 0; k < t->nr_older; k++)
    for (unsigned i = 0; i < NR_VOLUMES; i++)
      free (t->older[k][i]);
  free (t);
  return 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    CASE (test_closed),
    CASE (test_killed),
    CASE (test_cut),
  };

  seed_begin ();
  signal (SIGABRT, on_end);
  signal (SIGALRM, on_end);
  cmocka_set_test_filter (getenv ("FARPAGE_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
