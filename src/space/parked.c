/* SPDX-License-Identifier: BSD-2-Clause */
/* Parked blocks: two queues, first in, first out.  The contract is in
 * parked.h; the rules behind it are R2 and R4 of flush.c.
 *
 * Called by objects (what a map named, what its tree gave up), by the commit's
 * thread (parked_durable) and by the cycle's (parked_retired).
 *
 *   page unmapped --> data: [runs, lsn] [runs, lsn] .. --record durable--> free
 *                     |  each block has a unit          unit given back
 *   node given up --> meta: [runs, cycle] ..       --cycle retired--> free
 *                        each block keeps its charge    charge given back
 *
 * Invariants
 * I1. A block leaves its queue when the lsn (cycle) that came with it is
 *     durable (retired), or later: what lies behind an entry waits for it, so
 *     that the order in which threads come here costs time, never a block.
 * I2. Blocks in the data queue = units that it holds.  Whenever more than half
 *     of the units are in it a commit is begun after the block came in.  So
 *     whoever waits for units, at most a quarter of them (space_slice_max),
 *     gets them: what is not free is in hands that will park or release it, or
 *     parked and behind a commit that has begun.
 * I3. Blocks in the meta queue = charges that it holds.
 *
 * A store that fails makes nothing durable any more: what is parked stays so,
 * and what finds the data queue full is forgotten, its units with it.
 *
 * Locks: lock is a leaf; space and flush are called without it.
 */

#include <config.h>

#include "parked.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "env.h"
#include "log.h"
#include "sabotage.h"

#ifndef DATA_RUNS /* the simulator has fewer */
#define DATA_RUNS 65536u
#endif
#define META_RUNS 32768u
#ifndef META_WAIT                 /* the simulator waits for less */
#define META_WAIT (META_RUNS / 2) /* more wait for cycles */
#endif
#define BATCH       64u /* runs freed between two looks */
#define FULL_NAP_NS (100 * NS_PER_MS)

struct parked_run {
  struct space_run run;
  uint64_t until; /* lsn, cycle */
};

struct queue {
  struct parked_run *runs; /* [parked.lock] a ring of max places */
  unsigned max;            /* [const] */
  uint64_t hint;           /* [const] whose lane gets them */
  unsigned first;          /* [parked.lock] */
  atomic_uint nr;          /* written under parked.lock */
  _Atomic uint64_t nr_blocks;
};

struct parked {
  struct space *sp; /* [const] */
  struct flush *fl; /* [const] */
  lock_t lock;
  cond_t room;         /* in data */
  unsigned nr_waiting; /* [lock] for room */
  struct queue data, meta;
};

static struct log_limit lost_limit;

/* ---- a queue ---- */

static struct parked_run *
place (struct queue *q, unsigned i)
{
  return &q->runs[(q->first + i) % q->max];
}

/* False: it is full.  Lock: needs parked.lock. */
static bool
push (struct queue *q, const struct parked_run *new)
{
  unsigned nr = atomic_load (&q->nr);
  struct parked_run *last = nr > 0 ? place (q, nr - 1) : NULL;

  if (last != NULL && last->until == new->until &&
      last->run.blk + last->run.nr == new->run.blk) {
    last->run.nr += new->run.nr;
  } else {
    if (nr == q->max)
      return false;
    *place (q, nr) = *new;
    atomic_store (&q->nr, nr + 1);
  }
  atomic_fetch_add (&q->nr_blocks, new->run.nr);
  return true;
}

/* Take up to BATCH runs off the front that may go by now.  Returns how many. */
static unsigned
pop (struct parked *pk, struct queue *q, uint64_t until,
     struct space_run runs[BATCH])
{
  unsigned nr = 0, left;

  LOCK_SCOPE (&pk->lock);
  left = atomic_load (&q->nr);
  while (left > 0 && nr < BATCH && place (q, 0)->until <= until) {
    runs[nr++] = place (q, 0)->run;
    q->first = (q->first + 1) % q->max;
    left--;
  }
  atomic_store (&q->nr, left);
  if (nr > 0 && q == &pk->data && pk->nr_waiting > 0)
    cond_broadcast (&pk->room);
  return nr;
}

/* Free what may go, and give back with it what promised it. */
static void
let_go (struct parked *pk, struct queue *q, uint64_t until,
        void (*give_back) (struct space *sp, uint64_t nr))
{
  struct space_run runs[BATCH];
  unsigned nr;

  while ((nr = pop (pk, q, until, runs)) > 0) {
    uint64_t nr_blocks = 0;

    for (unsigned i = 0; i < nr; i++)
      nr_blocks += runs[i].nr;
    space_free (pk->sp, q->hint, runs, nr);
    atomic_fetch_sub (&q->nr_blocks, nr_blocks);
    if (!SABOTAGE (park_no_unit) || give_back != space_unpark)
      give_back (pk->sp, nr_blocks);
  }
}

/* ---- data ---- */

/* Put runs into the queue, as many as it has room for; *many: a commit is
 * wanted (I2).
 */
static unsigned
push_data (struct parked *pk, const struct space_run *runs, unsigned nr_runs,
           struct parked_run new, bool *many)
{
  struct queue *q = &pk->data;
  unsigned nr = 0;

  LOCK_SCOPE (&pk->lock);
  for (; nr < nr_runs; nr++) {
    new.run = runs[nr];
    if (!push (q, &new))
      break;
  }
  *many = atomic_load (&q->nr_blocks) * 2 > space_nr_units (pk->sp) ||
          atomic_load (&q->nr) * 2 > q->max;
  return nr;
}

static void
wait_room (struct parked *pk)
{
  LOCK_SCOPE (&pk->lock);
  pk->nr_waiting++;
  /* Who fails the store does not know of us: look again now and then. */
  if (atomic_load (&pk->data.nr) == pk->data.max)
    cond_wait_until (&pk->room, &pk->lock, env_now_ns () + FULL_NAP_NS);
  pk->nr_waiting--;
}

void
parked_data (struct parked *pk, const struct space_run *runs, unsigned nr_runs,
             uint64_t lsn)
{
  uint64_t nr_blocks = 0;
  bool many;

  if (SABOTAGE (free_at_once)) {
    space_free (pk->sp, pk->data.hint, runs, nr_runs);
    return;
  }
  for (unsigned i = 0; i < nr_runs; i++)
    nr_blocks += runs[i].nr;
  if (!SABOTAGE (park_no_unit))
    space_park (pk->sp, nr_blocks);
  for (unsigned i = 0;;) {
    struct parked_run new = { .until = lsn };

    i += push_data (pk, runs + i, nr_runs - i, new, &many);
    if (many)
      flush_kick (pk->fl);
    /* It was durable before we came: nobody else will look again until
     * something new is, and whoever waits for units or for room may be who
     * would bring that.
     */
    if (lsn <= flush_durable (pk->fl))
      parked_durable (pk, lsn);
    if (i == nr_runs || flush_failed (pk->fl))
      break;
    wait_room (pk);
  }
}

void
parked_durable (struct parked *pk, uint64_t lsn)
{
  let_go (pk, &pk->data, lsn, space_unpark);
}

/* ---- meta ---- */

void
parked_meta (struct parked *pk, uint64_t blk, uint64_t cycle)
{
  struct parked_run new = { { blk, 1 }, cycle };

  lock_acquire (&pk->lock);
  bool done = push (&pk->meta, &new);

  lock_release (&pk->lock);
  /* The free map has it as free: it is back at the next start. */
  if (!done)
    log_limited (&lost_limit, LOG_WARNING,
                 "pool: more than %u map blocks wait for a cycle: one more is "
                 "of no use until the next start",
                 META_RUNS);
}

int
parked_wait (struct parked *pk)
{
  while (atomic_load (&pk->meta.nr) > META_WAIT) {
    int err = flush_run_cycle (pk->fl);

    if (err)
      return err;
  }
  return 0;
}

void
parked_retired (struct parked *pk, uint64_t cycle)
{
  if (SABOTAGE (free_meta_early))
    cycle++;
  let_go (pk, &pk->meta, cycle, space_uncharge);
}

/* ---- life ---- */

int
parked_create (struct space *sp, struct flush *fl, struct parked **pkp)
{
  struct parked *pk = calloc (1, sizeof *pk);

  if (pk == NULL)
    return ENOMEM;
  pk->sp = sp;
  pk->fl = fl;
  pk->data.max = DATA_RUNS;
  pk->data.hint = SPACE_HINT_SMALL;
  pk->meta.max = META_RUNS;
  pk->meta.hint = SPACE_HINT_META;
  pk->data.runs = calloc (DATA_RUNS, sizeof *pk->data.runs);
  pk->meta.runs = calloc (META_RUNS, sizeof *pk->meta.runs);
  lock_init (&pk->lock, LOCK_LEAF, "parked");
  cond_init (&pk->room);
  if (pk->data.runs == NULL || pk->meta.runs == NULL) {
    parked_destroy (pk);
    return ENOMEM;
  }
  *pkp = pk;
  return 0;
}

void
parked_destroy (struct parked *pk)
{
  if (pk == NULL)
    return;
  assert (pk->nr_waiting == 0);
  parked_durable (pk, UINT64_MAX);
  let_go (pk, &pk->meta, UINT64_MAX, space_uncharge);
  cond_destroy (&pk->room);
  lock_destroy (&pk->lock);
  free (pk->data.runs);
  free (pk->meta.runs);
  free (pk);
}

uint64_t
parked_nr_blocks (struct parked *pk)
{
  return atomic_load (&pk->data.nr_blocks) + parked_nr_meta (pk);
}

uint64_t
parked_nr_meta (struct parked *pk)
{
  return atomic_load (&pk->meta.nr_blocks);
}
