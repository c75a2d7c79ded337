/* SPDX-License-Identifier: BSD-2-Clause */
/* The blocks of an export that is used as swap; see swap-space.h for the
 * picture.  Called by the swap pager on the loop's thread; calls blist alone.
 *
 * Every state but "used" is a set of blocks, and a set is a blist: for those
 * that are searched a block is in the set if the blist has it free (so a run
 * is found with blist_alloc), for the two others if it has it taken.  A blist
 * needs no memory after it was made, so nothing here can fail for memory.
 * Cost: 2 bits a block and set, 10 of them in all: 320 KiB a GiB.
 *
 * Older reads.  A block may be given while a read of it is under way, and must
 * not be written before that read is over.  Time goes in turns; a read counts
 * in the turn it began in, and what is given belongs to the turn it was given
 * in.  A new turn t begins only when no read of turn t - 2 is left, so two
 * counts and two sets are enough, told apart by the turn's last bit:
 *
 *     turn      t - 1                 t (now)
 *     reads     reads[t - 1 & 1]      reads[t & 1] <- read_begin
 *     given     given[t - 1 & 1]      given[t & 1] <- give
 *
 * What was given in t - 1 is ripe when the reads of t - 1 are over, for those
 * before it are already.  A turn ends as soon as it can and something waits
 * for that, so that reads which overlap for ever hold nothing back for ever.
 *
 * Invariants (swap_space_check):
 * I1. Every block but 0 is in one set at most; one that is in none is used.
 * I2. Block 0 is in no set.
 * I3. What waits while no read is under way is being moved on (is_behind ()).
 * I4. full and almost are what the rules at level () say.
 *
 * Nothing here takes long: a run is moved from set to set in pieces, and a
 * million runs by many calls; the owner is told when there are more
 * (swap_space_is_tidy ()).  But for a take that finds nothing: it looks at all
 * there is before it says so.
 *
 * No locks: one thread has it.  Deliberately not done: no read holds back only
 * its own blocks (that needed memory for each), and nothing is ever moved to
 * make runs longer.
 */

#include <config.h>

#include "swap-space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blist.h"
#include "types.h"

#define LOW_MIN     16u
#define LOW_MAX     4096u
#define TAKE_MIN    4u
#define PIECE       16384u /* blocks, of a run that is moved */
#define GIVE_RUNS   4u     /* that a give moves on: more than it brings */
#define READ_RUNS   64u    /* that the end of a read does */
#define SMALL_RUNS  1024u  /* too small for a trim, that a sweep does */
#define TAKE_RUNS   1024u  /* that a take does, and looks again */
#define CHECKED_MAX (UINT64_C (1) << 20)

struct swap_space {
  struct swap_space_config config; /* [const] */
  uint64_t low, high;              /* [const] */
  struct blist *free;
  struct blist *given[2];
  uint64_t reads[2];
  uint64_t turn;
  struct blist *ripe; /* always empty if nothing is trimmed */
  struct blist *limbo;
  struct blist *trimming, *retired; /* taken: in the set */
  uint64_t nr_trimming, nr_retired;
  bool sweeping; /* enough was gathered, and not all of it has left */
  bool full, almost;
  uint64_t room_mark; /* full until so many are free */
};

/* ---- sets ---- */

static void
set_add (struct blist *set, uint64_t blk, uint64_t nr)
{
  int err = blist_free (set, blk, nr);

  assert (err == 0);
  (void) err;
}

/* So many runs, long ones in pieces; true: all. */
static bool
set_move (struct blist *from, struct blist *to, uint64_t runs)
{
  uint64_t blk, nr;

  for (; blist_nr_free (from) > 0; runs--) {
    if (runs == 0 || blist_alloc (from, 1, PIECE, &blk, &nr) != 0)
      return false;
    set_add (to, blk, nr);
  }
  return true;
}

static void
mark_add (struct blist *set, uint64_t *count, uint64_t blk, uint64_t nr)
{
  uint64_t added;
  int err = blist_fill (set, blk, nr, &added);

  assert (err == 0 && added == nr);
  (void) err;
  *count += added;
}

static void
mark_remove (struct blist *set, uint64_t *count, uint64_t blk, uint64_t nr)
{
  set_add (set, blk, nr);
  *count -= nr;
}

/* ---- full, almost full ---- */

static uint64_t
available (const struct swap_space *s)
{
  return blist_nr_free (s->free) + blist_nr_free (s->ripe);
}

static enum swap_space_level
level (const struct swap_space *s)
{
  if (s->full)
    return SWAP_FULL;
  return s->almost ? SWAP_ALMOST_FULL : SWAP_ROOM;
}

/* almost: set below low, cleared above high.  full: set when somebody got
 * nothing, cleared at low, but not before a good deal more is free than he
 * found: in small pieces there may be much that is of no use.
 */
static void
look (struct swap_space *s, bool got_nothing)
{
  const enum swap_space_level was = level (s);
  const uint64_t now = available (s);
  uint64_t most =
      s->config.nr_blocks - 1 - s->nr_retired - blist_nr_free (s->limbo);

  if (got_nothing) {
    s->full = true;
    s->room_mark = now + LOW_MIN > s->low ? now + LOW_MIN : s->low;
  } else if (now >= min_u64 (s->room_mark, most)) {
    s->full = false;
  }
  if (now < s->low)
    s->almost = true;
  else if (now > s->high)
    s->almost = false;
  if (level (s) != was && s->config.level != NULL)
    s->config.level (s->config.arg, level (s));
}

/* ---- making ---- */

static int
make_sets (struct swap_space *s)
{
  struct blist **const searched[] = { &s->given[0], &s->given[1], &s->ripe,
                                      &s->limbo };
  const uint64_t nr = s->config.nr_blocks;
  uint64_t taken;
  int err;

  for (unsigned i = 0; i < sizeof searched / sizeof searched[0]; i++) {
    err = blist_create (nr, searched[i]);
    if (err)
      return err;
    blist_fill (*searched[i], 0, nr, &taken);
  }
  err = blist_create (nr, &s->trimming);
  if (!err)
    err = blist_create (nr, &s->retired);
  if (!err)
    err = blist_create (nr, &s->free);
  if (!err)
    blist_fill (s->free, 0, 1, &taken);
  return err;
}

int
swap_space_create (const struct swap_space_config *config,
                   struct swap_space **sp)
{
  struct swap_space *s;
  int err;

  if (config->nr_blocks < 2 || config->nr_blocks > BLIST_BLOCKS_MAX)
    return EINVAL;
  s = calloc (1, sizeof *s);
  if (s == NULL)
    return ENOMEM;
  s->config = *config;
  if (s->config.trim_max < SWAP_TRIM_MIN)
    s->config.trim = false;
  s->low = min_u64 (max_u64 (config->nr_blocks / 64, LOW_MIN), LOW_MAX);
  s->high = 2 * s->low;
  s->almost = config->nr_blocks - 1 < s->low;
  err = make_sets (s);
  if (err) {
    swap_space_destroy (s);
    return err;
  }
  *sp = s;
  return 0;
}

void
swap_space_destroy (struct swap_space *s)
{
  if (s == NULL)
    return;
  blist_destroy (s->free);
  blist_destroy (s->given[0]);
  blist_destroy (s->given[1]);
  blist_destroy (s->ripe);
  blist_destroy (s->limbo);
  blist_destroy (s->trimming);
  blist_destroy (s->retired);
  free (s);
}

/* ---- taking ---- */

/* Read reads of the turn before are over: what was given then is ripe, but may
 * not have been moved yet.
 */
static bool
is_behind (const struct swap_space *s)
{
  const unsigned before = (s->turn + 1) & 1;

  return s->reads[before] == 0 && blist_nr_free (s->given[before]) > 0;
}

/* What no read holds back any more may go on, a number of runs of it. */
static void
ripen (struct swap_space *s, uint64_t runs)
{
  struct blist *to = s->config.trim ? s->ripe : s->free;

  for (;;) {
    const unsigned before = (s->turn + 1) & 1;

    if (s->reads[before] > 0 || !set_move (s->given[before], to, runs) ||
        blist_nr_free (s->given[s->turn & 1]) == 0)
      return;
    s->turn++;
  }
}

static int
take_from (struct blist *set, uint64_t want, uint64_t least, uint64_t *blk,
           uint64_t *nr)
{
  for (uint64_t n = want;; n = max_u64 (n / 2, least)) {
    if (blist_alloc (set, n, want, blk, nr) == 0)
      return 0;
    if (n == least)
      return ENOSPC;
  }
}

/* Also of what is ripe; and if there is no run, what is ripe and what is free
 * make some together.
 */
static int
take (struct swap_space *s, uint64_t want, uint64_t least, uint64_t *blk,
      uint64_t *nr)
{
  int err;

  assert (want > 0);
  least = min_u64 (want, least);
  err = take_from (s->free, want, least, blk, nr);
  if (err && blist_nr_free (s->ripe) > 0)
    err = take_from (s->ripe, want, least, blk, nr);
  while (err && (is_behind (s) || blist_nr_free (s->ripe) > 0)) {
    ripen (s, TAKE_RUNS);
    set_move (s->ripe, s->free, TAKE_RUNS);
    err = take_from (s->free, want, least, blk, nr);
  }
  look (s, err != 0);
  return err;
}

int
swap_space_take (struct swap_space *s, uint64_t want, uint64_t *blk,
                 uint64_t *nr)
{
  return take (s, want, TAKE_MIN, blk, nr);
}

int
swap_space_take_any (struct swap_space *s, uint64_t want, uint64_t *blk,
                     uint64_t *nr)
{
  return take (s, want, 1, blk, nr);
}

/* ---- giving ---- */

void
swap_space_return (struct swap_space *s, uint64_t blk, uint64_t nr)
{
  set_add (s->free, blk, nr);
  look (s, false);
}

void
swap_space_give (struct swap_space *s, uint64_t blk, uint64_t nr)
{
  set_add (s->given[s->turn & 1], blk, nr);
  ripen (s, GIVE_RUNS);
  look (s, false);
}

uint64_t
swap_space_read_begin (struct swap_space *s)
{
  s->reads[s->turn & 1]++;
  return s->turn;
}

void
swap_space_read_end (struct swap_space *s, uint64_t ticket)
{
  assert (s->reads[ticket & 1] > 0);
  s->reads[ticket & 1]--;
  ripen (s, READ_RUNS);
  look (s, false);
}

bool
swap_space_is_tidy (const struct swap_space *s)
{
  return !is_behind (s);
}

bool
swap_space_tidy (struct swap_space *s, unsigned runs)
{
  ripen (s, runs);
  look (s, false);
  return !is_behind (s);
}

void
swap_space_retire (struct swap_space *s, uint64_t blk, uint64_t nr)
{
  mark_add (s->retired, &s->nr_retired, blk, nr);
}

void
swap_space_limbo (struct swap_space *s, uint64_t blk, uint64_t nr)
{
  set_add (s->limbo, blk, nr);
}

void
swap_space_fenced (struct swap_space *s)
{
  set_move (s->limbo, s->free, UINT64_MAX);
  look (s, false);
}

/* ---- trims ---- */

bool
swap_space_next_trim (struct swap_space *s, bool all, uint64_t *blk,
                      uint64_t *nr)
{
  if (blist_nr_free (s->ripe) >= SWAP_TRIM_GATHER)
    s->sweeping = true;
  if (!s->sweeping && !all)
    return false;
  if (blist_alloc (s->ripe, SWAP_TRIM_MIN, s->config.trim_max, blk, nr) == 0) {
    mark_add (s->trimming, &s->nr_trimming, *blk, *nr);
    look (s, false);
    return true;
  }
  s->sweeping = false;
  if (all)
    set_move (s->ripe, s->free, SMALL_RUNS);
  return false;
}

void
swap_space_trimmed (struct swap_space *s, uint64_t blk, uint64_t nr)
{
  mark_remove (s->trimming, &s->nr_trimming, blk, nr);
  set_add (s->free, blk, nr);
  look (s, false);
}

void
swap_space_trim_lost (struct swap_space *s, uint64_t blk, uint64_t nr)
{
  mark_remove (s->trimming, &s->nr_trimming, blk, nr);
  set_add (s->limbo, blk, nr);
}

/* ---- counts ---- */

void
swap_space_stat (const struct swap_space *s, struct swap_space_stat *st)
{
  st->nr_blocks = s->config.nr_blocks;
  st->nr_free = blist_nr_free (s->free);
  st->nr_ripe = blist_nr_free (s->ripe);
  st->nr_waiting = blist_nr_free (s->given[0]) + blist_nr_free (s->given[1]);
  st->nr_trimming = s->nr_trimming;
  st->nr_retired = s->nr_retired;
  st->nr_limbo = blist_nr_free (s->limbo);
  st->nr_used = st->nr_blocks - 1 - st->nr_free - st->nr_ripe - st->nr_waiting -
                st->nr_trimming - st->nr_retired - st->nr_limbo;
  st->low = s->low;
  st->high = s->high;
  st->level = level (s);
}

static unsigned
sets_of (const struct swap_space *s, uint64_t blk)
{
  return blist_is_free (s->free, blk, 1) + blist_is_free (s->ripe, blk, 1) +
         blist_is_free (s->given[0], blk, 1) +
         blist_is_free (s->given[1], blk, 1) +
         blist_is_free (s->limbo, blk, 1) +
         !blist_is_free (s->trimming, blk, 1) +
         !blist_is_free (s->retired, blk, 1);
}

bool
swap_space_is_used (const struct swap_space *s, uint64_t blk)
{
  return blk > 0 && blk < s->config.nr_blocks && sets_of (s, blk) == 0;
}

static const char *
check_sets (const struct swap_space *s)
{
  const struct blist *const sets[] = { s->free,     s->ripe,  s->given[0],
                                       s->given[1], s->limbo, s->trimming,
                                       s->retired };

  for (unsigned i = 0; i < sizeof sets / sizeof sets[0]; i++) {
    const char *wrong = blist_check (sets[i]);

    if (wrong != NULL)
      return wrong;
  }
  return NULL;
}

const char *
swap_space_check (const struct swap_space *s)
{
  const uint64_t nr = s->config.nr_blocks;
  struct swap_space_stat st;
  const char *wrong = check_sets (s);

  if (wrong != NULL)
    return wrong;
  if (nr - blist_nr_free (s->trimming) != s->nr_trimming ||
      nr - blist_nr_free (s->retired) != s->nr_retired)
    return "the count of blocks under trim or retired";
  if (sets_of (s, 0) != 0)
    return "block 0 is in a set";
  for (uint64_t b = 1; nr <= CHECKED_MAX && b < nr; b++)
    if (sets_of (s, b) > 1)
      return "a block is in two sets";
  swap_space_stat (s, &st);
  if (st.nr_used >= nr)
    return "more blocks in sets than there are";
  if (st.nr_waiting > 0 && s->reads[0] + s->reads[1] == 0 && !is_behind (s))
    return "blocks wait for no read";
  if (!s->config.trim && st.nr_ripe + st.nr_trimming > 0)
    return "trims where there are none";
  if ((available (s) < s->low && !s->almost) ||
      (available (s) > s->high && s->almost))
    return "almost full or not";
  return NULL;
}
