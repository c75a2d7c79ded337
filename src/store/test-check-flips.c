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
 * pages, writes some more, reads all again and closes.  O1 to O4 must hold:
 *
 * O1. Nothing crashes or hangs.
 * O2. A page reads as the oracle says, or not at all.  (Sealed: not asked for;
 *     a size or a name that was changed so is as good as the one before.)
 * O3. If the open is refused, or a disk or a page is not there, then the check
 *     has found something.  (Sealed: not what only the second open misses.)
 * O4. What is written after such an open and flushed is there, or an error.
 *
 * What the oracle allows is the last version of a page; where only a cut was
 * made, any since the last flush; and if it is the log that was damaged then,
 * any that ever was: a log whose end is lost ends earlier, as if the power had
 * failed before.  So it is where the last block, which is the witness, is
 * swapped with another one of the log.
 *
 * FARPAGE_FLIP_STRIDE: bytes from one flip to the next (1: each byte, and all
 * pairs of blocks are swapped).  FARPAGE_SEED: of bits and pairs.
 */

#include <config.h>

#include <signal.h>

#include "recover.h"
#include "test-check-oracle.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define STRIDE 1021u
#else
#define STRIDE 211u
#endif
#define PAIRS_NR   2u /* of each kind, swapped with a block */
#define RARE_TIMES 4u /* longer steps: sealed, a log that is not needed */
#define OLDER_MAX  4u
#define BLOCKS_MAX 400u
#define CASE_S     120u

/* A debugging build ends itself when its books do not balance at the close,
 * and what check has found under a good checksum may be a number of those.
 */
#ifdef FARPAGE_DEBUG
#define SERVE_ALL false
#else
#define SERVE_ALL true
#endif

enum state {
  CLOSED,
  KILLED,
  CUT,
  STATES
};
static const char *const state_names[STATES] = { "closed", "killed", "cut" };

enum damage {
  FLIPPED,
  SEALED,
  ZEROED,
  SWAPPED,
  OLDER,
  DAMAGES
};
static const char *const damage_names[DAMAGES] = { "flipped", "sealed",
                                                   "zeroed", "swapped",
                                                   "older" };

enum kind {
  SLOT,
  LOG_BLOCK,
  TABLE,
  MAP,
  FREEMAP,
  KINDS
};
static const char *const kind_names[KINDS] = { "superblock", "log", "table",
                                               "map", "free map" };

struct block {
  unsigned volume;
  uint64_t place;
  enum kind kind;
  bool unused; /* of the log, and not needed */
};

/* The case under way, for whoever looks for it after a crash. */
static char now[256];

static void
on_end (int number)
{
  (void) !write (STDERR_FILENO, now, strlen (now));
  signal (number, SIG_DFL);
  raise (number);
}

struct flips {
  struct live live;
  struct oracle o;
  uint64_t witness; /* the block that says that the log is all there */
  uint8_t *older[OLDER_MAX][NR_VOLUMES];
  unsigned nr_older;
  enum state state;
  struct block blocks[BLOCKS_MAX];
  unsigned nr_blocks;
  /* The case under way. */
  const struct block *block, *other;
  enum damage damage;
  struct oracle was;
  bool missing; /* the open, a disk or a page failed */
  uint64_t nr[DAMAGES];
  struct tally {
    uint64_t nr, nr_found, nr_missing, nr_refused;
  } tally[KINDS];
};

/* May the log have lost its end, and with it who says that there was one? */
static bool
end_may_be_lost (const struct flips *t)
{
  const struct block *b = t->block, *other = t->other;

  if (b == NULL || b->kind != LOG_BLOCK)
    return false;
  return t->state == CUT ||
         (other != NULL && other->kind == LOG_BLOCK &&
          (b->place == t->witness || other->place == t->witness));
}

static void
expect_page (struct flips *t, struct conn *c, unsigned d, unsigned i)
{
  bool ever = end_may_be_lost (t);
  uint64_t pgno = pgno_of (d, i);
  uint8_t is[PAGE_BYTES];

  if (pgno == CHECK_NONE)
    return;
  if (conn_read (c, is, pgno * PAGE_BYTES, sizeof is) != 0)
    t->missing = true;
  else if (t->damage != SEALED && !page_ok (&t->o, d, i, is, ever))
    fail_msg ("%s: disk %s, page %" PRIu64 ": bytes %u %u, not one of %u "
              "versions (%u are over, the last is %u)",
              now, disks[d].name, pgno, is[0], is[7], t->o.pages[d][i].nr,
              t->o.pages[d][i].nr_flushed,
              t->o.pages[d][i].version[t->o.pages[d][i].nr - 1]);
}

/* ---- making the store ---- */

static void
keep_older (struct flips *t)
{
  assert_true (t->nr_older < OLDER_MAX);
  save (&t->live);
  for (unsigned i = 0; i < NR_VOLUMES; i++) {
    t->older[t->nr_older][i] = malloc (t->live.v[i]->size_bytes);
    memcpy (t->older[t->nr_older][i], t->live.image[i],
            t->live.v[i]->size_bytes);
  }
  t->nr_older++;
}

/* Until nothing is left to be flushed, and the log's last block says so: it is
 * the witness for all before it.
 */
static void
wait_idle (struct flips *t)
{
  const struct timespec nap = { .tv_sec = 1, .tv_nsec = 200000000 };
  struct recover_look look;
  struct disk_super root;

  do {
    nanosleep (&nap, NULL);
    save_quiet (&t->live);
    assert_int_equal (super_read (t->live.v[0], &root, NULL), 0);
    assert_int_equal (recover_look (t->live.v[0], &root, &look), 0);
  } while (look.mark + 1 < look.end);
  t->witness = root.ring_first + (look.end - 1) % root.ring_blocks;
}

static void
make_state (struct flips *t, enum state state)
{
  t->state = state;
  oracle_begin (&t->o, &t->live);
  keep_older (t);
  open_store (&t->live);
  create (&t->o, 0);
  create (&t->o, 1);
  use_disks (&t->o, 30, true);
  close_store (&t->live);
  keep_older (t);
  for (unsigned round = 0; round < 2; round++) {
    open_store (&t->live);
    use_disks (&t->o, 20, true);
    close_store (&t->live);
    keep_older (t);
  }
  open_store (&t->live);
  create (&t->o, 2);
  use_disks (&t->o, 30, true);
  if (state == CUT) {
    use_disks (&t->o, 5, false);
    save_quiet (&t->live);
  } else if (state == KILLED)
    wait_idle (t);
  close_store (&t->live);
  if (state == CLOSED)
    save (&t->live);
  if (state != CUT)
    set_flushed (&t->o);
  put_back (&t->live);
}

/* ---- its blocks ---- */

static enum kind
kind_of (const struct disk_node *node)
{
  return node->tree == DISK_TREE_TABLE   ? TABLE
         : node->tree >= DISK_TREE_FIRST ? MAP
                                         : FREEMAP;
}

static void
find_blocks (struct flips *t)
{
  static const uint8_t zeros[PAGE_BYTES];
  struct recover_look look;
  struct disk_super root;

  assert_int_equal (super_read (t->live.v[0], &root, NULL), 0);
  assert_int_equal (recover_look (t->live.v[0], &root, &look), 0);
  t->nr_blocks = 0;
  for (unsigned v = 0; v < NR_VOLUMES; v++) {
    uint64_t nr = root.members[v].nr_blocks;

    for (uint64_t p = 0; p < nr; p++) {
      const uint8_t *page = t->live.image[v] + p * PAGE_BYTES;
      const struct disk_node *node = (const struct disk_node *) page;
      struct block b = { .volume = v, .place = p, .kind = SLOT };

      if (memcmp (page, zeros, sizeof zeros) == 0)
        continue;
      if (v == 0 && p >= root.ring_first &&
          p < root.ring_first + root.ring_blocks) {
        b.kind = LOG_BLOCK;
        b.unused = (p - root.ring_first + root.ring_blocks -
                    look.first % root.ring_blocks) %
                       root.ring_blocks >=
                   look.end - look.first;
      } else if (p >= 2 && p < nr - 2) {
        if (node->magic != DISK_NODE_MAGIC ||
            node->crc != crc32c (0, node, DISK_CRC_OFF))
          continue;
        b.kind = kind_of (node);
      }
      assert_true (t->nr_blocks < BLOCKS_MAX);
      t->blocks[t->nr_blocks++] = b;
    }
  }
}

static uint8_t *
image_of (struct flips *t, const struct block *b)
{
  return t->live.image[b->volume] + b->place * PAGE_BYTES;
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
  bool missing;

  t->was = t->o;
  t->missing = try_open_store (&t->live) != 0;
  if (t->missing) {
    t->tally[t->block != NULL ? t->block->kind : SLOT].nr_refused++;
    return;
  }
  read_disks (t);
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
  t->o = t->was;
}

static void
try_damage (struct flips *t, const struct block *b, enum damage damage,
            const char *how)
{
  struct found *found = &t->live.found;
  bool wrong;
  int err;

  t->block = b;
  t->damage = damage;
  snprintf (now, sizeof now, "%s, %s: volume %u, block %" PRIu64 " (%s)%s",
            state_names[t->state], damage_names[damage], b->volume, b->place,
            kind_names[b->kind], how);
  alarm (CASE_S);
  err = found_run (found, t->live.v, NR_VOLUMES, true);
  assert_true (err == 0 || err == EINVAL || err == EIO);
  wrong = err != 0 || found->nr > 0;
  t->missing = false;
  if (damage != SEALED || !wrong || SERVE_ALL)
    serve (t);
  if (t->missing && !wrong)
    fail_msg ("%s: not there, and check has found nothing", now);
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

    if (damage == SEALED && b->kind == SLOT && byte >= 16 && byte < 40)
      continue; /* features: of a later version, and no damage */
    memcpy (is, image_of (t, b), sizeof is);
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
  print_message ("\n");
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
  assert_int_equal (found_run (&t->live.found, t->live.v, NR_VOLUMES, true), 0);
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
  *state = t;
  return 0;
}

static int
end (void **state)
{
  struct flips *t = *state;

  alarm (0);
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
  return cmocka_run_group_tests (tests, NULL, NULL);
}
