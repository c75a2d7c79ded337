/* SPDX-License-Identifier: BSD-2-Clause */
/* Long runs; see long.h.
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
 *   names    an object is made, written and removed
 *
 * What must hold, whatever the fault:
 *   - a read gives what was written last, or an error; never anything else
 *   - nothing fails before the fault was met
 *   - after the store has failed no flush succeeds, nor a durable write
 *   - what was durable is there in the next run; after a clean close,
 *     everything
 * A medium that lies about a write (lost, misdirected) can make the next run
 * refuse to open, or pages unreadable: but it never makes them wrong.
 */

#include <config.h>

#include "long.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "sim.h"
#include "task.h"

#define PAGES_EACH 44u /* of each object that are used */
#define LEAF_PAGES 256u
#define CHURN_PAGE 300u /* of b, and CHURN_NR from there */
#define CHURN_NR   20u
#define EXTRA      2u /* the object that comes and goes */
#define EXTRA_NR   8u
#define FIRST_LIFE 100u

enum phase {
  PHASE_MIXED,
  PHASE_HOT,
  PHASE_LEAVES,
  PHASE_CHURN,
  PHASE_NAMES,
  PHASES
};

void
long_wrong (struct long_run *y, const char *fmt, ...)
{
  va_list args;
  int n;

  if (y->failed)
    return;
  y->failed = true;
  n = snprintf (y->why, sizeof y->why, "request %u: ", y->nr_requests);
  va_start (args, fmt);
  vsnprintf (y->why + n, sizeof y->why - (size_t) n, fmt, args);
  va_end (args);
}

/* ---- comparing ---- */

static void
compare_page (struct long_run *y, const struct expect *e,
              const struct expect_page *p, bool must_read)
{
  static uint8_t page[PAGE_BYTES] __attribute__ ((aligned (PAGE_BYTES)));
  struct where at = { e->name[p->name].life, p->pgno };
  struct content c;
  char why[200];
  int err = y->subject->read (y->s, p->name, page,
                              (uint64_t) p->pgno * PAGE_BYTES, PAGE_BYTES);

  if (y->record.fault != NULL && y->record.fault->hit)
    must_read = false; /* maybe just now */
  if (err != 0)
    y->errors = true;
  if (err != 0 && must_read)
    long_wrong (y, "read of page %u of %c: %s", p->pgno, 'a' + p->name,
                strerror (err));
  else if (err == 0 && !content_parse (page, &at, &c, why))
    long_wrong (y, "page %u of %c: %s", p->pgno, 'a' + p->name, why);
  else if (err == 0 && !expect_allows (p, &c))
    long_wrong (y,
                "page %u of %c has operations %u %u %u .. %u, not %u %u %u "
                ".. %u (or %u more)",
                p->pgno, 'a' + p->name, c.token[0], c.token[1], c.token[2],
                c.token[7], p->is[0].token[0], p->is[0].token[1],
                p->is[0].token[2], p->is[0].token[7], p->nr - 1);
}

/* Is the object there?  Its pages are compared then. */
static bool
compare_name (struct long_run *y, const struct expect *e, unsigned name,
              bool must_read)
{
  const struct expect_name *n = &e->name[name];
  uint32_t nr_pages = 0;
  int err = y->subject->size (y->s, name, &nr_pages);

  if (y->record.fault != NULL && y->record.fault->hit)
    must_read = false;
  if (err == 0 && n->life == 0)
    long_wrong (y, "object %c is there and should not be", 'a' + name);
  else if (err == 0 && nr_pages != n->nr_pages)
    long_wrong (y, "object %c has %u pages, not %u", 'a' + name, nr_pages,
                n->nr_pages);
  else if (err == ENOENT && n->life != 0 && !n->may_be_absent)
    long_wrong (y, "object %c is gone", 'a' + name);
  else if (err != 0 && err != ENOENT && must_read)
    long_wrong (y, "size of %c: %s", 'a' + name, strerror (err));
  return err == 0;
}

static void
compare_all (struct long_run *y, const struct expect *e, bool must_read)
{
  for (unsigned name = 0; name < MODEL_NAMES && !y->failed; name++) {
    if (!compare_name (y, e, name, must_read))
      continue;
    for (unsigned i = 0; i < e->nr_pages && !y->failed; i++)
      if (e->page[i].name == name)
        compare_page (y, e, &e->page[i], must_read);
  }
}

/* ---- requests ---- */

static int
send_write (struct long_run *y, const struct done_op *o)
{
  static uint8_t buf[24 * PAGE_BYTES];
  uint32_t bytes = o->op.nr * SECTOR_BYTES;

  for (uint32_t i = 0; i < o->op.nr; i++) {
    uint32_t sector = o->op.first + i;
    struct where at = { o->life, sector / PAGE_SECTORS };

    content_fill (o->token, &at, sector % PAGE_SECTORS, buf + i * SECTOR_BYTES);
  }
  return y->subject->write (y->s, o->op.name, buf,
                            (uint64_t) o->op.first * SECTOR_BYTES, bytes,
                            o->op.fua);
}

static int
send_op (struct long_run *y, const struct done_op *o)
{
  const struct subject *subject = y->subject;
  uint64_t off = (uint64_t) o->op.first * SECTOR_BYTES;
  uint32_t bytes = o->op.nr * SECTOR_BYTES;

  switch (o->op.kind) {
  case OP_WRITE:
    return send_write (y, o);
  case OP_TRIM:
    return subject->trim (y->s, o->op.name, off, bytes, o->op.fua);
  case OP_FLUSH:
    return subject->flush (y->s, o->op.name);
  case OP_CREATE:
    return subject->create (y->s, o->op.name, o->op.nr);
  case OP_REMOVE:
    return subject->remove (y->s, o->op.name);
  default:
    return subject->zero (y->s, o->op.name, off, bytes, o->op.kind == OP_ZERO,
                          o->op.fua);
  }
}

/* It failed: was the fault there by then?  It went well: should it have? */
static void
judge (struct long_run *y, const char *what, int err, bool failed_before,
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

static void
one_op (struct long_run *y, const struct op *op)
{
  static const char *const what[OP_KINDS] = {
    [OP_WRITE] = "a write",  [OP_TRIM] = "a trim",
    [OP_ZERO] = "a zero",    [OP_ZERO_RESERVED] = "a zero",
    [OP_FLUSH] = "a flush",  [OP_CREATE] = "a create",
    [OP_REMOVE] = "a remove"
  };
  bool failed_before = run_store_failed ();
  bool durable = op->fua || op->kind == OP_FLUSH || op->kind == OP_CREATE ||
                 op->kind == OP_REMOVE || y->subject->strict;
  struct done_op *o = &y->op[y->nr_ops++];

  *o = (struct done_op){ .op = *op,
                         .life = y->ledger.live.name[op->name].life,
                         .begin = record_event (&y->record),
                         .reply = RECORD_NEVER };
  if (op->kind == OP_WRITE)
    o->token = ++y->token;
  if (op->kind == OP_CREATE)
    o->life = ++y->life;
  o->error = send_op (y, o);
  o->reply = record_event (&y->record);
  judge (y, what[op->kind], o->error, failed_before, durable);
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

  one_op (y, &op);
}

/* In a large object four pages to a leaf: more leaves and pages in all than
 * there are buffers.
 */
static bool
is_large (const struct long_run *y, unsigned name)
{
  return y->ledger.live.name[name].nr_pages > PAGES_EACH * LEAF_PAGES / 4;
}

static uint32_t
place_of (const struct long_run *y, unsigned name, uint32_t page)
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

  op.first = place_of (y, op.name, page) * PAGE_SECTORS;
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
  one_op (y, &op);
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
    compare_page (y, live, &live->page[below (y, live->nr_pages)], true);
  else
    mixed_change (y);
}

static void
hot (struct long_run *y)
{
  struct op op = { .kind = OP_WRITE, .fua = true };

  op.first = place_of (y, 0, below (y, 3)) * PAGE_SECTORS;
  op.nr = PAGE_SECTORS * (1 + below (y, 2));
  one_op (y, &op);
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
    op.first = place_of (y, 0, leaf) * PAGE_SECTORS;
  one_op (y, &op);
}

/* So many that they go past the buffers. */
static void
one_round (struct long_run *y)
{
  struct op op = { .kind = OP_WRITE,
                   .name = 1,
                   .first = CHURN_PAGE * PAGE_SECTORS,
                   .nr = CHURN_NR * PAGE_SECTORS };

  one_op (y, &op);
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
  const struct expect_name *n = &y->ledger.live.name[EXTRA];
  struct op op = { .kind = OP_WRITE, .name = EXTRA };
  uint32_t what = below (y, 8);

  if (n->may_be_absent || what == 0) {
    mixed (y);
    return;
  }
  op.first = below (y, EXTRA_NR) * PAGE_SECTORS;
  op.nr = PAGE_SECTORS;
  if (n->life == 0)
    op = (struct op){ .kind = OP_CREATE, .name = EXTRA, .nr = 520 };
  else if (what < 3)
    op = (struct op){ .kind = OP_REMOVE, .name = EXTRA };
  else if (what == 3)
    op = (struct op){ .kind = OP_FLUSH, .name = EXTRA };
  one_op (y, &op);
}

static void
next_phase (struct long_run *y)
{
  static const unsigned most[PHASES] = { [PHASE_MIXED] = 80,
                                         [PHASE_HOT] = 160,
                                         [PHASE_LEAVES] = 60,
                                         [PHASE_CHURN] = 40,
                                         [PHASE_NAMES] = 40 };

  y->phase = below (y, PHASES);
  y->phase_left = 8 + below (y, most[y->phase]);
}

static void
one_request (struct long_run *y)
{
  static void (*const phases[PHASES]) (struct long_run * y) = {
    [PHASE_MIXED] = mixed, [PHASE_HOT] = hot,     [PHASE_LEAVES] = leaves,
    [PHASE_CHURN] = churn, [PHASE_NAMES] = names,
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

/* ---- runs ---- */

static int
open_store (struct long_run *y)
{
  struct volume *v[DISKS_MAX];

  for (unsigned i = 0; i < y->disks.nr; i++)
    media_open (&y->disks.image[i], i, &y->record, &v[i]);
  return y->subject->open (v, y->disks.nr, &y->s);
}

static void
go_main (void *arg)
{
  struct long_run *y = arg;
  const struct subject *subject = y->subject;
  const char *bad = NULL;
  int err = open_store (y);

  if (err != 0) {
    judge (y, "open", err, false, false);
    return;
  }
  while (y->nr_requests < y->nr_requests_max && !y->failed)
    one_request (y);
  compare_all (y, &y->ledger.live, true);
  if (!y->failed && !y->errors && !y->lies && subject->check != NULL)
    bad = subject->check (y->s);
  if (bad != NULL && (y->fault == NULL || !y->fault->hit ||
                      strstr (bad, "cannot be read") == NULL))
    long_wrong (y, "check: %s", bad);
  err = subject->close (y->s);
  judge (y, "close", err, false, false);
  y->closed = err == 0;
  if (y->closed && y->fault != NULL && y->fault->hit &&
      y->fault->kind == MEDIA_FLUSH)
    long_wrong (y, "all went well, and a flush had failed");
}

struct look {
  struct long_run *y;
  bool keeps;
};

static void
look_main (void *arg)
{
  const struct look *look = arg;
  struct long_run *y = look->y;
  const char *bad = NULL;
  int err = open_store (y);

  y->closed |= look->keeps;
  y->errors = err != 0;
  if (err != 0) {
    if (!y->lies)
      long_wrong (y, "the next open fails: %s", strerror (err));
    return;
  }
  if (y->closed)
    compare_all (y, &y->ledger.live, !y->lies);
  else if (!y->lies)
    compare_all (y, &y->ledger.durable, true);
  if (!y->failed && y->check && !y->lies && y->subject->check != NULL)
    bad = y->subject->check (y->s);
  if (bad != NULL)
    long_wrong (y, "check: %s", bad);
  err = y->subject->close (y->s);
  if (err != 0 && !y->lies)
    long_wrong (y, "the next close fails: %s", strerror (err));
}

static void
simulate (struct long_run *y, void (*fn) (void *), void *arg, unsigned nr)
{
  struct sim_config config = { .seed = y->seed, .random_seed = 50 + nr };
  enum sim_end end;

  run_keep_log ();
  end = sim_run (&config, fn, arg);
  log_set (NULL, NULL);
  if (end == SIM_DONE)
    return;
  long_wrong (y, "the run did not end (told above)");
  sim_tell (2, end);
}

void
long_go (struct long_run *y, unsigned nr)
{
  y->nr_requests = y->nr_ops = y->phase_left = 0;
  y->errors = y->closed = false;
  simulate (y, go_main, y, nr);
}

void
long_look (struct long_run *y, unsigned nr, bool keeps)
{
  struct look look = { y, keeps };

  record_clear (&y->record);
  y->record.fault = NULL;
  simulate (y, look_main, &look, nr);
}

void
long_ledger_at (const struct long_run *y, uint64_t at, struct ledger *l)
{
  ledger_begin (l, &y->base->expect[CRASH_MACHINE], y->subject->strict);
  for (unsigned i = 0; i < y->nr_ops && y->op[i].begin < at; i++) {
    const struct done_op *o = &y->op[i];
    bool well = o->error == 0 && o->reply < at;

    ledger_note (l, o, well ? LEDGER_WELL : LEDGER_MAYBE);
  }
}

void
long_begin (struct long_run *y, const struct subject *subject,
            const struct world *base, uint64_t seed)
{
  *y = (struct long_run){ .subject = subject,
                          .base = base,
                          .seed = seed,
                          .rng = { seed },
                          .nr_requests_max = LONG_REQUESTS,
                          .token = 1000,
                          .life = FIRST_LIFE };
  disks_copy (&y->disks, &base->disks);
  ledger_begin (&y->ledger, &base->expect[CRASH_MACHINE], subject->strict);
  if (subject->has_staging)
    ram_begin ();
}

void
long_end (struct long_run *y)
{
  if (y->subject->has_staging)
    ram_end ();
  record_free (&y->record);
  disks_free (&y->disks);
}
