/* SPDX-License-Identifier: BSD-2-Clause */
/* Crashes; see explore.h.
 *
 *   world -- run --> record --> points x choices --> worlds -- run --> ...
 *   depth 0                                          depth 1     to depth 3
 *
 * The run of a world of depth 1 and more is a recovery, and what was promised
 * before must be found; some go on with operations of their own.  Its own
 * crashes are those inside recovery (and after it).
 *
 * I1. What a run does depends on the seed and the path of crashes to it alone,
 *     so a path can be gone again: the seed of a run is a hash of both.
 * I2. A world that was seen (media, staging, expectation) is not run again.
 *
 * Of a sequence that is not drawn every state of every point is taken that the
 * sequences it begins with have not had.  Else only so many, by the seed;
 * another seed takes others.  A recovery has one crash of its own on average.
 *
 * Each store is closed and checked, the books of the running one and its media
 * by what `farpage check` does; every eighth also as the crash left it.
 */

#include <config.h>

#include "explore.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

/* ---- what was seen ---- */

struct seen {
  unsigned shift;
  _Atomic bool full;
  _Atomic uint64_t place[];
};

struct seen *
seen_new (unsigned shift)
{
  size_t bytes = sizeof (struct seen) + (sizeof (uint64_t) << shift);
  struct seen *s = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (s == MAP_FAILED)
    abort ();
  s->shift = shift;
  return s;
}

void
seen_free (struct seen *s)
{
  munmap (s, sizeof (struct seen) + (sizeof (uint64_t) << s->shift));
}

bool
seen_add (struct seen *s, uint64_t hash)
{
  uint64_t mask = (UINT64_C (1) << s->shift) - 1;

  hash += hash == 0;
  for (uint64_t i = hash & mask, tries = 0; tries < 256; tries++) {
    uint64_t old = 0;

    if (atomic_load (&s->place[i]) == hash)
      return false;
    if (atomic_compare_exchange_strong (&s->place[i], &old, hash))
      return true;
    if (old == hash)
      return false;
    i = (i + 1) & mask;
  }
  atomic_store (&s->full, true);
  return false;
}

bool
seen_is_full (struct seen *s)
{
  return atomic_load (&s->full);
}

/* ---- time ---- */

static uint64_t
real_now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static bool
is_late (const struct explore *x)
{
  return x->deadline_ns != 0 && real_now_ns () > x->deadline_ns;
}

/* ---- new worlds ---- */

/* What staging was at that time; every event has its save. */
static struct ram_copy *
staging_at (const struct run *run, uint64_t at)
{
  for (unsigned i = 0; i < run->nr_saves; i++)
    if (run->saves[i].at == at)
      return run->saves[i].staging;
  return NULL;
}

/* What may be found: before the store was open, what might be before. */
static void
expect_after (const struct world *w, const struct run *run,
              const struct crash *c, struct world *to)
{
  enum crash_kind kind = CRASH_MACHINE;

  for (; kind < CRASH_KINDS; kind++) {
    enum crash_kind from = c->kind == CRASH_MACHINE ? CRASH_MACHINE : kind;

    if (c->at <= run->history.opened)
      to->expect[kind] = w->expect[from];
    else
      model_crash (&run->history, from, c->at, &to->expect[kind]);
  }
}

/* Where a run's writes come onto. */
static const struct disks *
world_start (const struct world *w)
{
  return w->pending != NULL ? &w->pending->sure : &w->disks;
}

/* Copy write i of the record into p, over before the next record begins. */
static void
pend (struct pending *p, const struct record *r, unsigned i)
{
  const struct rec_write *w = &r->writes[i];
  struct rec_write *to = &p->writes[p->nr_writes++];

  *to = *w;
  to->begin = to->end = 0;
  to->blocks = p->nr_blocks;
  for (unsigned k = 0; k < w->nr; k++) {
    struct block *b = r->blocks[w->blocks + k];

    block_ref (b);
    p->blocks[p->nr_blocks++] = b;
  }
}

/* After the death of a process: what the machine may still lose.  NULL: nothing
 * (or a write is torn: then all is taken as flushed).
 */
static struct pending *
pending_make (const struct world *w, const struct run *run,
              const struct states *s, const struct crash *c)
{
  const struct record *r = &run->record;
  struct pending *p;
  struct states m;

  if (c->kind != CRASH_PROCESS || c->choice >= s->nr_whole)
    return NULL;
  p = calloc (1, sizeof *p);
  if (p == NULL)
    abort ();
  p->refs = 1;
  p->writes = calloc (r->nr_writes + 1, sizeof *p->writes);
  p->blocks = calloc (r->nr_blocks + 1, sizeof (struct block *));
  if (p->writes == NULL || p->blocks == NULL)
    abort ();
  states_begin (&m, r, world_start (w), CRASH_MACHINE);
  states_advance (&m, c->at);
  for (unsigned i = 0; i < m.nr_maybe; i++)
    if (r->writes[m.maybe[i]].end < c->at ||
        states_keeps (s, c->choice, m.maybe[i]))
      pend (p, r, m.maybe[i]);
  disks_copy (&p->sure, &m.sure);
  states_end (&m);
  if (p->nr_writes > 0)
    return p;
  pending_put (p);
  return NULL;
}

static uint64_t
world_media_hash (const struct world *w)
{
  return hash_add (disks_hash (&w->disks), ram_hash (w->staging));
}

static void
world_make (const struct world *w, const struct run *run,
            const struct states *s, const struct crash *c, struct world *to)
{
  *to = (struct world){ .kind = c->kind,
                        .next_token = run->next_token,
                        .next_life = run->next_life,
                        .depth = w->depth + 1,
                        .torn = w->torn || c->choice >= s->nr_whole };
  states_make (s, c->choice, &to->disks);
  to->pending = pending_make (w, run, s, c);
  if (c->kind == CRASH_PROCESS)
    to->staging = ram_ref (staging_at (run, c->at));
  expect_after (w, run, c, to);
}

/* ---- telling ---- */

static void
tell_run (const struct explore *x, const struct world *w, const struct run *run)
{
  dprintf (x->fd, "%s\n", w->depth == 0 ? "The run:" : "Then it is opened:");
  run_print (run, x->fd);
  if (run->failed) {
    dprintf (x->fd, "  the store's own last words:\n");
    run_print_log (x->fd);
  }
}

static void
tell_crash (const struct explore *x, const struct states *s,
            const struct crash *c)
{
  dprintf (x->fd, "  %4llu  THE %s DIES; of the writes in doubt:\n",
           (unsigned long long) c->at,
           c->kind == CRASH_MACHINE ? "MACHINE" : "PROCESS");
  states_print (s, c->choice, x->fd);
}

/* ---- exploring ---- */

static bool explore_world (struct explore *x, const struct world *w,
                           const struct op *ops, unsigned nr_ops, uint64_t seed,
                           struct world *after);

/* What a recovered store is asked to do then: mostly nothing. */
static unsigned
ops_after (struct rng *rng, struct op ops[2])
{
  static const char *const texts[] = { "wa0+8",   "w!a4+8", "fa",    "ta0+16",
                                       "wb0+8",   "s",      "ra",    "cc0+16",
                                       "wa40+24", "za8+8",  "w!b8+8" };
  unsigned nr = rng_below (rng, 4) == 0 ? 1 + (unsigned) rng_below (rng, 2) : 0;

  for (unsigned i = 0; i < nr; i++)
    if (op_parse (texts[rng_below (rng, sizeof texts / sizeof texts[0])],
                  &ops[i]) != 0)
      abort ();
  return nr;
}

/* Count it; true if it was not seen: neither these media, nor with what is
 * expected of them now.
 */
static bool
is_new (struct explore *x, const struct world *to)
{
  uint64_t media = world_media_hash (to);

  x->stat.nr_states++;
  if (x->seen == NULL)
    return true;
  if (seen_add (x->seen, rng_mix (media))) {
    x->stat.nr_distinct++;
    x->stat.nr_by_depth[to->depth]++;
    x->stat.nr_by_kind[to->kind]++;
  }
  if (to->pending != NULL)
    media = hash_add (media, disks_hash (&to->pending->sure));
  return seen_add (x->seen,
                   hash_add (media, expect_hash (&to->expect[to->kind])));
}

/* One state of one crash.  False: failed. */
static bool
explore_state (struct explore *x, const struct world *w, const struct run *run,
               const struct states *s, const struct crash *c, uint64_t seed)
{
  struct rng rng = { hash_add (hash_add (seed, c->at),
                               (uint64_t) c->choice << 1 | c->kind) };
  struct op ops[2];
  struct world to;
  bool good = true;
  unsigned nr_ops;

  world_make (w, run, s, c, &to);
  nr_ops = ops_after (&rng, ops);
  if (is_new (x, &to) || x->script != NULL) {
    x->path[x->nr_path++] = *c;
    good = explore_world (x, &to, ops, nr_ops, rng_next (&rng), NULL);
    if (good)
      x->nr_path--;
  }
  world_free (&to);
  return good;
}

/* How many states of a point are taken, and which: i-th of how many. */
static unsigned
nth_state (const struct states *s, unsigned max, unsigned i, uint64_t seed)
{
  struct rng rng = { hash_add (seed, s->at * 1000 + i) };

  return max >= s->nr ? i : (unsigned) rng_below (&rng, s->nr);
}

static bool
explore_point (struct explore *x, const struct world *w, const struct run *run,
               const struct states *s, uint64_t seed)
{
  unsigned max =
      x->states_max == 0 || x->states_max > s->nr ? s->nr : x->states_max;
  bool good = true;

  if (w->depth == 0 && x->every)
    max = s->nr;
  if (w->depth > 0 && max > x->inner_max)
    max = x->inner_max;
  for (unsigned i = 0; i < max && good && !is_late (x); i++) {
    struct crash c = { s->kind, s->at, nth_state (s, max, i, seed) };

    good = explore_state (x, w, run, s, &c, seed);
  }
  return good;
}

/* When the last operation began: what was there before it, a sequence without
 * it has seen.
 */
static uint64_t
last_begin (const struct run *run)
{
  uint64_t at = 0;

  for (unsigned i = 0; i < run->history.nr; i++)
    if (run->history.op[i].begin > at)
      at = run->history.op[i].begin;
  return at;
}

/* Is this point one of those looked at?  After a recovery, some: more if it
 * did something then.
 */
static bool
is_wanted (const struct explore *x, const struct world *w,
           const struct run *run, struct rng *rng, unsigned nr_points,
           uint64_t at)
{
  uint64_t share = run->history.nr > 0 ? 4 : 1;

  if (w->depth == 0 && x->every)
    return run->history.nr < 2 || at > last_begin (run);
  if (w->depth == 0 && x->points_max == 0)
    return true;
  if (w->depth == 0)
    share = at > last_begin (run) ? 2 * x->points_max : x->points_max / 2;
  else if (x->inner_max == 0)
    return false;
  if (w->depth > 0) /* there are two kinds */
    nr_points *= 2;
  return rng_below (rng, nr_points) < share;
}

static bool
explore_crashes (struct explore *x, const struct world *w,
                 const struct run *run, enum crash_kind kind, uint64_t seed)
{
  struct rng rng = { hash_add (seed, kind) };
  const struct crash *script = NULL;
  struct states s;
  uint64_t *points;
  unsigned nr = states_points (&run->record, kind, &points);
  enum moment waits = MOMENT_ANY;
  bool good = true;

  if (x->script != NULL)
    script = &x->script[w->depth];
  states_begin (&s, &run->record, world_start (w), kind);
  for (unsigned i = 0; i < nr && good && !is_late (x); i++) {
    bool wanted = is_wanted (x, w, run, &rng, nr, points[i]);

    if (kind == CRASH_MACHINE && w->depth == 0 && !x->every)
      wanted = states_put_off (&run->record, world_start (w), points[i], wanted,
                               &rng, &waits);
    if (script != NULL ? script->at != points[i] : !wanted)
      continue;
    states_advance (&s, points[i]);
    if (script == NULL)
      good = explore_point (x, w, run, &s, seed);
    else {
      tell_crash (x, &s, script);
      good = explore_state (x, w, run, &s, script, seed);
    }
  }
  states_end (&s);
  free (points);
  return good;
}

/* Does the script end here, or want the other kind? */
static bool
is_off_script (const struct explore *x, const struct world *w,
               enum crash_kind kind)
{
  return x->script != NULL &&
         (w->depth >= x->nr_script || x->script[w->depth].kind != kind);
}

static void
keep_after (const struct explore *x, const struct run *run, struct world *after)
{
  (void) x;
  *after = (struct world){ .next_token = run->next_token,
                           .next_life = run->next_life };
  disks_copy (&after->disks, &run->disks);
  model_read (&run->history, RECORD_NEVER, &after->expect[CRASH_MACHINE]);
  after->expect[CRASH_PROCESS] = after->expect[CRASH_MACHINE];
}

static bool
explore_world (struct explore *x, const struct world *w, const struct op *ops,
               unsigned nr_ops, uint64_t seed, struct world *after)
{
  bool inner = w->depth < DEPTH_MAX; /* its own crashes are looked at */
  bool crashed = w->depth > 0 && !w->torn;
  struct run_config config = {
    .subject = x->subject,
    .ops = ops,
    .nr_ops = nr_ops,
    .seed = seed,
    .read_all = seed % 16 == 0,
    .saves = inner,
    .check_before = crashed && seed % 8 == 1,
    .check_after = true,
  };
  struct run run;
  bool good = true;

  run_limit (x->run_s_max);
  run_world (&config, w, &run);
  run_limit (0);
  x->stat.nr_runs++;
  if (run.failed) {
    memcpy (x->why, run.why, sizeof x->why);
    good = false;
  }
  if (x->script != NULL && x->fd >= 0)
    tell_run (x, w, &run);
  for (enum crash_kind kind = CRASH_MACHINE;
       kind < CRASH_KINDS && good && inner; kind++)
    if (!is_off_script (x, w, kind))
      good = explore_crashes (x, w, &run, kind, seed);
  if (good && after != NULL)
    keep_after (x, &run, after);
  run_free (&run);
  return good;
}

bool
explore_ops (struct explore *x, const struct world *w, const struct op *ops,
             unsigned nr_ops, struct world *after)
{
  uint64_t seed = x->seed;

  for (unsigned i = 0; i < nr_ops; i++) {
    char text[64];

    op_print (&ops[i], text, sizeof text);
    for (const char *c = text; *c != '\0'; c++)
      seed = hash_add (seed, (uint8_t) *c);
  }
  x->nr_path = 0;
  return explore_world (x, w, ops, nr_ops, seed, after);
}

/* ---- format ---- */

struct formatter {
  const struct subject *subject;
  struct world *world;
  int err;
};

static void
format_main (void *arg)
{
  struct formatter *f = arg;
  struct record record = { 0 };
  struct volume *v[DISKS_MAX];

  for (unsigned i = 0; i < f->world->disks.nr; i++)
    media_open (&f->world->disks.image[i], i, &record, &v[i]);
  f->err = f->subject->format (v, f->world->disks.nr);
  for (unsigned i = 0; i < f->world->disks.nr; i++)
    volume_close (v[i]);
  record_free (&record);
}

int
explore_format (const struct subject *subject, struct world *w)
{
  struct formatter f = { subject, w, 0 };
  struct sim_config config = { .seed = 1, .random_seed = 99 };

  *w = (struct world){ .next_token = 1, .next_life = 1 };
  w->disks.nr = subject->nr_volumes;
  for (unsigned i = 0; i < w->disks.nr; i++)
    image_make (&w->disks.image[i], subject->nr_blocks[i]);
  return sim_run (&config, format_main, &f) == SIM_DONE ? f.err : EIO;
}
