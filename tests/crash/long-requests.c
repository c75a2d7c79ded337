/* SPDX-License-Identifier: BSD-2-Clause */
/* The requests of a long run; see long.h.
 *
 * Short sequences from three bases see each seam of the store, but they do not
 * wear it: a ring that comes round while a cycle is under way, a block of META
 * that is a page's next, a pool that is full to what can be promised.  So the
 * requests come in phases, and the seed says which, and for how long:
 *
 *   mixed    every kind, small, at pages of two objects
 *   hot      durable writes of a page or two: log, and few nodes
 *   leaves   whole leaves of a map are emptied, and are needed again
 *   churn    many pages over and over, and no flush: blocks come round
 *   names    an object is made, written, resized and removed
 *   together several clients at once (long-together.c)
 *
 * A run has about half of these, the seed says which: what comes of one phase
 * alone, for long, is not what comes of all of them by turns.
 */

#include <config.h>

#include "long.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "task.h"

#define PAGES_EACH  44u /* of each object that are used */
#define LEAF_PAGES  256u
#define EXTRA       2u /* the object that comes and goes */
#define EXTRA_NR    8u
#define RESERVED_NR 24u

enum phase {
  PHASE_MIXED,
  PHASE_HOT,
  PHASE_LEAVES,
  PHASE_CHURN,
  PHASE_NAMES,
  PHASE_TOGETHER,
  PHASES
};

/* Every second object that comes and goes is; its life says so, since that is
 * known after a crash too.
 */
static bool
is_reserved (unsigned life)
{
  return life >= LONG_FIRST_LIFE && life % 2 == 1;
}

/* It failed: was the fault there by then?  It went well: should it have? */
void
long_judge (struct long_run *y, const char *what, int err, bool failed_before,
            bool durable)
{
  const struct media_fault *fault = y->fault;

  if (err != 0)
    y->errors = true;
  if (err == ENOSPC && y->subject->fills)
    return;
  if (err != 0 && (fault == NULL || !fault->hit))
    long_wrong (y, "%s failed, with no fault: %s", what, strerror (err));
  if (err == 0 && durable && failed_before)
    long_wrong (y, "%s went well after the store had failed", what);
}

void
long_op (struct long_run *y, const struct op *op)
{
  static const char *const what[OP_KINDS] = {
    [OP_WRITE] = "a write",   [OP_TRIM] = "a trim",
    [OP_ZERO] = "a zero",     [OP_ZERO_RESERVED] = "a zero",
    [OP_FLUSH] = "a flush",   [OP_CREATE] = "a create",
    [OP_REMOVE] = "a remove", [OP_RESIZE] = "a resize"
  };
  bool failed_before = run_store_failed ();
  bool durable = op->fua || op->kind == OP_FLUSH || op->kind == OP_CREATE ||
                 op->kind == OP_REMOVE || op->kind == OP_RESIZE ||
                 y->subject->strict;
  struct done_op *o = &y->op[y->nr_ops++];

  *o = (struct done_op){ .op = *op,
                         .life = y->ledger.live.name[op->name].life,
                         .begin = record_event (&y->record),
                         .reply = RECORD_NEVER,
                         .group = y->group };
  if (op->kind == OP_WRITE)
    o->token = ++y->token;
  if (op->kind == OP_CREATE)
    o->life = ++y->life;
  o->error = subject_send (y->subject, y->s, o);
  o->reply = record_event (&y->record);
  if (o->error == ENOSPC && !was_refused (o, RECORD_NEVER) &&
      y->subject->reserves && is_reserved (o->life) &&
      (y->fault == NULL || !y->fault->hit))
    long_wrong (y, "%s of a reserved object finds no space", what[op->kind]);
  long_judge (y, what[op->kind], o->error, failed_before, durable);
  if (y->group == 0 && !was_refused (o, RECORD_NEVER))
    ledger_note (&y->ledger, o, o->error == 0 ? LEDGER_WELL : LEDGER_MAYBE);
}

static uint32_t
below (struct long_run *y, uint32_t n)
{
  return (uint32_t) rng_below (&y->rng, n);
}

static void
flush (struct long_run *y)
{
  struct op op = { .kind = OP_FLUSH, .name = below (y, 2) };

  long_op (y, &op);
}

/* In a large object four pages to a leaf: more leaves and pages in all than
 * there are buffers.
 */
static bool
is_large (const struct long_run *y, unsigned name)
{
  return y->ledger.live.name[name].nr_pages > PAGES_EACH * LEAF_PAGES / 4;
}

uint32_t
long_place (const struct long_run *y, unsigned name, uint32_t page)
{
  if (is_large (y, name))
    return page / 4 * LEAF_PAGES + page % 4;
  return page + (page >= PAGES_EACH / 2 ? 246 : 0);
}

/* ---- phases ---- */

static void
mixed_change (struct long_run *y)
{
  static const enum op_kind kinds[] = { OP_WRITE,        OP_WRITE, OP_WRITE,
                                        OP_WRITE,        OP_TRIM,  OP_ZERO,
                                        OP_ZERO_RESERVED };
  struct op op = { .kind = kinds[below (y, 7)],
                   .name = below (y, 2),
                   .fua = below (y, 8) == 0 };
  uint32_t page = below (y, PAGES_EACH - 4);

  op.first = long_place (y, op.name, page) * PAGE_SECTORS;
  op.nr = PAGE_SECTORS * (1 + below (y, 4));
  if (below (y, 3) == 0) {
    op.first += 1 + below (y, 7);
    op.nr = 1 + below (y, 16);
  }
  if (below (y, 24) == 0) { /* past the buffers */
    op.name = 1;
    op.first = CHURN_PAGE * PAGE_SECTORS;
    op.nr = CHURN_NR * PAGE_SECTORS;
  }
  long_op (y, &op);
}

static void
mixed (struct long_run *y)
{
  const struct expect *live = &y->ledger.live;
  uint32_t what = below (y, 100);

  if (what < 10)
    flush (y);
  else if (what < 12)
    task_sleep (UINT64_C (6000000000));
  else if (what < 45 && live->nr_pages > 0)
    long_compare_page (y, live, &live->page[below (y, live->nr_pages)], true);
  else
    mixed_change (y);
}

static void
hot (struct long_run *y)
{
  struct op op = { .kind = OP_WRITE, .fua = true };

  op.first = long_place (y, 0, below (y, 3)) * PAGE_SECTORS;
  op.nr = PAGE_SECTORS * (1 + below (y, 2));
  long_op (y, &op);
}

/* A whole leaf goes, or is needed again. */
static void
one_leaf (struct long_run *y)
{
  struct op op = { .kind = below (y, 3) == 0 ? OP_WRITE : OP_TRIM,
                   .fua = below (y, 4) == 0 };
  uint32_t leaf = below (y, PAGES_EACH / 4);

  op.first = leaf * LEAF_PAGES * PAGE_SECTORS;
  op.nr = PAGE_SECTORS;
  if (op.kind == OP_TRIM && is_large (y, 0))
    op.nr *= LEAF_PAGES;
  if (!is_large (y, 0))
    op.first = long_place (y, 0, leaf) * PAGE_SECTORS;
  long_op (y, &op);
}

/* So many that they go past the buffers. */
static void
one_round (struct long_run *y)
{
  struct op op = { .kind = OP_WRITE,
                   .name = 1,
                   .first = CHURN_PAGE * PAGE_SECTORS,
                   .nr = CHURN_NR * PAGE_SECTORS };

  long_op (y, &op);
}

/* Leaves are given up, a cycle or none comes, and then all free blocks. */
static void
leaves (struct long_run *y)
{
  unsigned step = y->phase_left % 16;

  if (step > 9)
    one_leaf (y);
  else if (step == 9)
    task_sleep (UINT64_C (1000000000) * (1 + below (y, 6)));
  else if (step == 0 || below (y, 16) == 0)
    flush (y);
  else
    one_round (y);
}

static void
churn (struct long_run *y)
{
  if (below (y, 4) == 0)
    mixed (y);
  else
    one_round (y);
}

static void
names (struct long_run *y)
{
  static const uint32_t sizes[] = { 4, 200, 520, 1100 };
  const struct expect_name *n = &y->ledger.live.name[EXTRA];
  struct op op = { .kind = OP_WRITE, .name = EXTRA };
  uint32_t what = below (y, 8);

  if (n->may_be_absent || n->or_pages != 0 || what == 0) {
    mixed (y);
    return;
  }
  op.first = below (y, n->nr_pages < EXTRA_NR && n->life != 0 ? n->nr_pages
                                                              : EXTRA_NR) *
             PAGE_SECTORS;
  op.nr = PAGE_SECTORS;
  if (n->life == 0)
    op = is_reserved (y->life + 1)
             ? (struct op){ .kind = OP_CREATE,
                            .name = EXTRA,
                            .nr = RESERVED_NR,
                            .fua = true }
             : (struct op){ .kind = OP_CREATE, .name = EXTRA, .nr = 520 };
  else if (what < 3)
    op = (struct op){ .kind = OP_REMOVE, .name = EXTRA };
  else if (what == 3)
    op = (struct op){ .kind = OP_FLUSH, .name = EXTRA };
  else if (what == 4 && y->subject->resize != NULL)
    op = (struct op){ .kind = OP_RESIZE,
                      .name = EXTRA,
                      .nr = is_reserved (n->life)
                                ? 4 + below (y, 2 * RESERVED_NR)
                                : sizes[below (y, 4)] };
  if (op.kind == OP_RESIZE)
    op.nr += op.nr == n->nr_pages; /* one that must write something */
  long_op (y, &op);
}

static void
together (struct long_run *y)
{
  if (!long_together (y))
    mixed (y);
}

static bool
has_phase (const struct long_run *y, enum phase phase)
{
  unsigned has = rng_mix (y->seed) & ((1u << PHASES) - 1);

  return has == 0 || has >> phase & 1;
}

static void
next_phase (struct long_run *y)
{
  static const unsigned most[PHASES] = {
    [PHASE_MIXED] = 80, [PHASE_HOT] = 200,  [PHASE_LEAVES] = 60,
    [PHASE_CHURN] = 40, [PHASE_NAMES] = 40, [PHASE_TOGETHER] = 8
  };

  static const enum phase which[] = {
    PHASE_MIXED,  PHASE_HOT,    PHASE_HOT,    PHASE_CHURN,    PHASE_NAMES,
    PHASE_LEAVES, PHASE_LEAVES, PHASE_LEAVES, PHASE_TOGETHER, PHASE_TOGETHER
  };

  do
    y->phase = which[below (y, sizeof which / sizeof which[0])];
  while (!has_phase (y, y->phase));
  y->phase_left =
      (y->phase == PHASE_TOGETHER ? 1 : 8) + below (y, most[y->phase]);
}

void
long_request (struct long_run *y)
{
  static void (*const phases[PHASES]) (struct long_run * y) = {
    [PHASE_MIXED] = mixed, [PHASE_HOT] = hot,     [PHASE_LEAVES] = leaves,
    [PHASE_CHURN] = churn, [PHASE_NAMES] = names, [PHASE_TOGETHER] = together,
  };

  y->nr_requests++;
  if (ledger_is_full (&y->ledger)) {
    flush (y);
    return;
  }
  if (y->phase_left == 0)
    next_phase (y);
  y->phase_left--;
  phases[y->phase](y);
}
