/* SPDX-License-Identifier: BSD-2-Clause */
/* What test-check-flips.c does its damage to: a small store in each state that
 * it can lie there in, what its disks hold, and its blocks of metadata.
 */

#ifndef FARPAGE_TEST_CHECK_FLIPS_H
#define FARPAGE_TEST_CHECK_FLIPS_H

#include "recover.h"
#include "test-check-oracle.h"

#define OLDER_MAX  4u
#define BLOCKS_MAX 400u

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
  bool missing;            /* the open, a disk or a page failed */
  bool read[DISKS][PAGES]; /* ... this one not, in the first open */
  char dir[64], undo[128];
  uint64_t nr_mended;
  uint64_t nr[DAMAGES];
  struct tally {
    uint64_t nr, nr_found, nr_missing, nr_refused;
  } tally[KINDS];
};

/* May the log have lost its end, and with it who says that there was one? */
static inline bool
end_may_be_lost (const struct flips *t)
{
  const struct block *b = t->block, *other = t->other;

  if (b == NULL || b->kind != LOG_BLOCK)
    return false;
  return t->state == CUT ||
         (other != NULL && other->kind == LOG_BLOCK &&
          (b->place == t->witness || other->place == t->witness));
}

static inline void
expect_page (struct flips *t, struct conn *c, unsigned d, unsigned i)
{
  bool ever = end_may_be_lost (t);
  uint64_t pgno = pgno_of (d, i);
  uint8_t is[PAGE_BYTES];

  if (pgno == CHECK_NONE)
    return;
  t->read[d][i] = conn_read (c, is, pgno * PAGE_BYTES, sizeof is) == 0;
  if (!t->read[d][i])
    t->missing = true;
  else if (t->damage != SEALED && !page_ok (&t->o, d, i, is, ever))
    fail_msg ("%s: disk %s, page %" PRIu64 ": bytes %u %u, not one of %u "
              "versions (%u are over, the last is %u)",
              now, disks[d].name, pgno, is[0], is[7], t->o.pages[d][i].nr,
              t->o.pages[d][i].nr_flushed,
              t->o.pages[d][i].version[t->o.pages[d][i].nr - 1]);
}

/* ---- making the store ---- */

static inline void
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
static inline void
wait_idle (struct flips *t)
{
  const struct timespec nap = { .tv_sec = 1, .tv_nsec = 200000000 };
  struct recover_look look;
  struct disk_super root;

  do {
    nanosleep (&nap, NULL);
    AnnotateIgnoreReadsBegin (__FILE__, __LINE__);
    save_quiet (&t->live);
    assert_int_equal (super_read (t->live.v[0], &root, NULL), 0);
    assert_int_equal (recover_look (t->live.v[0], &root, &look), 0);
    AnnotateIgnoreReadsEnd (__FILE__, __LINE__);
  } while (look.mark + 1 < look.end);
  t->witness = root.ring_first + (look.end - 1) % root.ring_blocks;
}

static inline void
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

static inline enum kind
kind_of (const struct disk_node *node)
{
  return node->tree == DISK_TREE_TABLE   ? TABLE
         : node->tree >= DISK_TREE_FIRST ? MAP
                                         : FREEMAP;
}

static inline void
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

static inline uint8_t *
image_of (struct flips *t, const struct block *b)
{
  return t->live.image[b->volume] + b->place * PAGE_BYTES;
}

#endif /* FARPAGE_TEST_CHECK_FLIPS_H */
