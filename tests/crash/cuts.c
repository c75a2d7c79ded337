/* SPDX-License-Identifier: BSD-2-Clause */
/* Crashes of long runs; see cuts.h.  pack.c calls it, before the sweep.
 *
 *   long run --record--> some points --> some states of each --> look
 *        '--> look, and maybe go on for some requests --record--> .. --> look
 *        '--> open, on media that fail once --> look
 *
 * A run of 500 requests takes some milliseconds, an opening one: so each run
 * is worth many crashes.  Of the machine they are at any point; of the process
 * where its staging was kept, at one event of SAVE_SHARE.
 */

#include <config.h>

#include "cuts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk.h"
#include "super.h"
#include "sweep.h"

#define POINTS     24u /* of a run, about */
#define STATES     2u  /* of a point */
#define INNER      4u  /* points of what follows a crash, about, if any */
#define GO_ON      24u /* requests after a crash, at most */
#define SAVE_SHARE 1024u
#define FAULT_IOS  48u /* of an open, about */

/* A long run and what follows it: one crash each. */
struct chain {
  struct cuts *c;
  uint64_t seed, deadline_ns;
  struct rng rng;
  struct long_run *run;   /* what crashes */
  struct long_run *after; /* looks at what is left */
  const struct disks *start;
  const struct ledger *ledger; /* of its beginning, if it is no first run */
  unsigned depth;              /* crashes before it */
};

/* ---- staging ---- */

static struct run_save saves[4096];
static unsigned nr_saves;

static void
maybe_save (void *arg)
{
  const struct long_run *y = arg;

  if (rng_mix (y->seed ^ y->record.clock) % SAVE_SHARE == 0 &&
      nr_saves < sizeof saves / sizeof saves[0])
    saves[nr_saves++] = (struct run_save){ y->record.clock, ram_save () };
}

static void
forget_saves (void)
{
  while (nr_saves > 0)
    ram_put (saves[--nr_saves].staging);
}

static const struct run_save *
save_at (uint64_t at)
{
  for (unsigned i = 0; i < nr_saves; i++)
    if (saves[i].at == at)
      return &saves[i];
  return NULL;
}

/* ---- one state ---- */

static bool crash_all (struct chain *ch);

static bool
is_late (const struct chain *ch)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ch->deadline_ns != 0 &&
         (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec >
             ch->deadline_ns;
}

static void
count (struct cuts *c, const struct long_run *after, const struct crash *crash,
       unsigned depth)
{
  c->stat.nr_states++;
  c->stat.nr_runs++;
  if (c->seen == NULL || !seen_add (c->seen, disks_hash (&after->disks)))
    return;
  c->stat.nr_distinct++;
  c->stat.nr_by_depth[depth]++;
  c->stat.nr_by_kind[crash->kind]++;
}

/* The crash of a recovery, and nothing more, changes nothing of what may be
 * found.
 */
static void
make_after (const struct chain *ch, const struct states *s,
            const struct crash *crash)
{
  struct long_run *y = ch->after;

  y->subject = ch->run->subject;
  y->base = ch->run->base;
  y->seed = ch->seed;
  y->rng.state = hash_add (crash->at, crash->choice);
  y->token = ch->run->token;
  y->life = ch->run->life;
  y->phase_left = 0;
  y->failed = y->closed = y->errors = false;
  y->may_refuse = ch->depth > 0 && ch->run->may_refuse;
  y->nr_requests = 0;
  y->fault = NULL;
  states_make (s, crash->choice, &y->disks);
  if (ch->depth > 0 &&
      (ch->run->nr_ops == 0 || ch->run->op[0].begin >= crash->at)) {
    y->ledger = *ch->ledger;
    return;
  }
  long_ledger_at (ch->run, crash->at, &y->ledger);
  for (unsigned i = 0; i < ch->run->nr_ops; i++)
    y->nr_requests += ch->run->op[i].begin < crash->at;
}

static void
note_path (struct cuts *c, const struct crash *crash, unsigned depth)
{
  size_t at = strlen (c->what);

  snprintf (c->what + at, sizeof c->what - at, "%s%c%" PRIu64 ".%u",
            depth > 0 ? "/" : "", crash->kind == CRASH_MACHINE ? 'M' : 'P',
            crash->at, crash->choice);
}

/* Crashes of what has followed this one? */
static bool
crash_again (struct chain *ch, const struct disks *start,
             const struct ledger *ledger)
{
  static struct long_run inner;
  const struct cuts *c = ch->c;
  struct chain next = *ch;

  if (ch->depth > 0 || c->nr_script == 1 ||
      (c->nr_script == 0 && rng_below (&ch->rng, 3) != 0))
    return true;
  next.run = ch->after;
  next.after = &inner;
  next.start = start;
  next.ledger = ledger;
  next.depth = 1;
  return crash_all (&next);
}

/* How many requests come after it; a number of its own, so that a script has
 * the same.
 */
static unsigned
how_many (const struct chain *ch, const struct crash *crash)
{
  uint64_t n = rng_mix (ch->seed ^ hash_add (crash->at, crash->choice));

  return ch->depth == 0 && n % 3 == 0 ? 1 + (n >> 8) % GO_ON : 0;
}

/* Media that fail, and do not lie; of superblocks some bit may be wrong, for
 * that is seen.  In half of all cases it is superblocks: an open reads them
 * first.
 */
static struct media_fault
pick_fault (const struct subject *subject, uint64_t n)
{
  static const enum media_fault_kind kinds[] = { MEDIA_EIO,    MEDIA_EIO_EVER,
                                                 MEDIA_ENOSPC, MEDIA_SHORT,
                                                 MEDIA_FLUSH,  MEDIA_VANISH };
  static const enum media_fault_kind slot_kinds[] = { MEDIA_EIO, MEDIA_FLIP };

  if (n % 2 == 0 && subject->check_media != NULL)
    return (struct media_fault){ .kind = slot_kinds[(n >> 8) % 2],
                                 .at = (n >> 16) % (DISK_SUPER_SLOTS *
                                                    subject->nr_volumes) };
  return (struct media_fault){ .kind = kinds[(n >> 8) % 6],
                               .at = (n >> 16) % FAULT_IOS };
}

/* What is left of a first crash is opened with a fault: whatever comes of that,
 * nothing is lost.  A number of its own, as above.
 */
static void
try_with_fault (const struct chain *ch, const struct crash *crash)
{
  uint64_t n = rng_mix (hash_add (ch->seed, crash->at) ^ crash->choice);
  struct media_fault fault = pick_fault (ch->run->subject, n >> 8);
  struct cuts *c = ch->c;

  c->tried[0] = '\0';
  if (ch->depth > 0 || n % 4 != 0)
    return;
  fault.start = ch->after->disks.image;
  ch->after->fault = &fault;
  long_try (ch->after, 10, crash->kind == CRASH_PROCESS);
  c->nr_tried += fault.hit;
  if (fault.hit)
    snprintf (c->tried, sizeof c->tried, " (an open met %s at vol%u, block %u)",
              media_fault_names[fault.kind], fault.volume, fault.first);
}

/* Of the root's superblocks one is lost, which costs nothing; or two, and what
 * is left may not serve: but if it does, nothing is lost.
 */
static void
lose_slots (const struct chain *ch, const struct crash *crash)
{
  uint64_t n = rng_mix (hash_add (ch->seed, crash->at) ^ crash->choice);
  struct image *root = &ch->after->disks.image[0];
  struct cuts *c = ch->c;
  unsigned nr = 1 + (n >> 8) % 2, first = (n >> 16) % DISK_SUPER_SLOTS;

  if (ch->depth > 0 || n % 2 != 1 || ch->run->subject->check_media == NULL)
    return;
  for (unsigned i = 0; i < nr; i++) {
    unsigned slot = (first + i) % DISK_SUPER_SLOTS;

    image_set (root, (unsigned) super_slot_block (root->nr, slot), NULL);
  }
  ch->after->may_refuse = nr > 1;
  snprintf (c->tried, sizeof c->tried,
            " (superblocks lost: %u, from slot %u on)", nr, first);
}

/* False: it is wrong, and c->what says how to come there. */
static bool
crash_once (struct chain *ch, const struct states *s, const struct crash *crash)
{
  static struct ledger ledgers[2];
  struct cuts *c = ch->c;
  size_t len = strlen (c->what);
  bool process = crash->kind == CRASH_PROCESS, good;
  struct disks start;

  note_path (c, crash, ch->depth);
  make_after (ch, s, crash);
  count (c, ch->after, crash, ch->depth + 1);
  if (ch->run->subject->has_staging)
    ram_restore (process ? save_at (crash->at)->staging : NULL);
  try_with_fault (ch, crash);
  lose_slots (ch, crash);
  disks_copy (&start, &ch->after->disks);
  ledgers[ch->depth] = ch->after->ledger;
  ch->after->check = (crash->at + crash->choice) % 4 == 0;
  if (!ch->after->failed)
    long_look (ch->after, ch->depth + 1, process, how_many (ch, crash));
  good = !ch->after->failed;
  if (!good)
    snprintf (c->why, sizeof c->why, "%.*s%s",
              (int) (sizeof c->why - sizeof c->tried), ch->after->why,
              c->tried);
  else if (!process)
    good = crash_again (ch, &start, &ledgers[ch->depth]);
  disks_free (&start);
  disks_free (&ch->after->disks);
  record_clear (&ch->after->record);
  if (good)
    c->what[len] = '\0';
  return good;
}

/* ---- which ---- */

static bool
crash_point (struct chain *ch, const struct states *s)
{
  struct crash crash = { s->kind, s->at, 0 };
  bool good = true;

  if (ch->c->nr_script > 0 && ch->c->script[ch->depth].choice >= s->nr) {
    snprintf (ch->c->why, sizeof ch->c->why,
              "no such state here: the path is of another geometry or order");
    return false;
  }
  if (ch->c->nr_script > 0)
    return crash_once (ch, s, &ch->c->script[ch->depth]);
  for (unsigned i = 0; i < STATES && good && !is_late (ch); i++) {
    crash.choice = (unsigned) rng_below (&ch->rng, s->nr);
    good = crash_once (ch, s, &crash);
  }
  return good;
}

static bool
is_wanted (struct chain *ch, enum crash_kind kind, uint64_t at, unsigned nr)
{
  const struct cuts *c = ch->c;

  if (kind == CRASH_PROCESS && save_at (at) == NULL)
    return false;
  if (c->nr_script > 0)
    return c->script[ch->depth].kind == kind && c->script[ch->depth].at == at;
  return kind == CRASH_PROCESS ||
         rng_below (&ch->rng, nr) < (ch->depth == 0 ? POINTS : INNER);
}

static bool
crash_kind (struct chain *ch, enum crash_kind kind)
{
  uint64_t *points;
  unsigned nr = states_points (&ch->run->record, kind, &points);
  struct states s;
  enum moment waits = MOMENT_ANY;
  bool good = true;

  states_begin (&s, &ch->run->record, ch->start, kind);
  for (unsigned i = 0; i < nr && good && !is_late (ch); i++) {
    bool wanted = is_wanted (ch, kind, points[i], nr);

    if (ch->c->nr_script == 0 && kind == CRASH_MACHINE)
      wanted = states_put_off (&ch->run->record, ch->start, points[i], wanted,
                               &ch->rng, &waits);
    if (!wanted)
      continue;
    states_advance (&s, points[i]);
    good = crash_point (ch, &s);
  }
  states_end (&s);
  free (points);
  return good;
}

static bool
crash_all (struct chain *ch)
{
  return crash_kind (ch, CRASH_MACHINE) &&
         (ch->depth > 0 || !ch->run->subject->has_staging ||
          crash_kind (ch, CRASH_PROCESS));
}

/* The seed says which base, too; mostly the largest. */
static const struct world *
pick_base (const struct cuts *c, uint64_t seed)
{
  return &c->base[seed % 4 == 0 ? rng_mix (seed) % c->nr_bases
                                : c->nr_bases - 1];
}

bool
cuts_run (struct cuts *c, uint64_t seed, uint64_t deadline_ns)
{
  static struct long_run run, after;
  struct chain ch = { .c = c,
                      .seed = seed,
                      .deadline_ns = deadline_ns,
                      .rng = { rng_mix (seed) },
                      .run = &run,
                      .after = &after };
  bool good;

  snprintf (c->what, sizeof c->what, "%" PRIu64 ":", seed);
  c->nr_runs++;
  long_begin (&run, c->subject, pick_base (c, seed), seed);
  ch.start = &run.base->disks;
  if (c->subject->has_staging) {
    run.record.before_event = maybe_save;
    run.record.arg = &run;
  }
  long_go (&run, 0);
  run.record.before_event = NULL;
  good = !run.failed;
  if (good)
    good = crash_all (&ch);
  else
    memcpy (c->why, run.why, sizeof c->why);
  forget_saves ();
  long_end (&run);
  return good;
}

int
cuts_given (struct cuts *c, const char *text)
{
  uint64_t seed;
  int used = 0;

  if (sscanf (text, "%" SCNu64 ":%n", &seed, &used) != 1 || used == 0 ||
      sweep_parse_path (c->script, &c->nr_script, text + used) != 0)
    return EINVAL;
  return cuts_run (c, seed, 0) ? 0 : EIO;
}
