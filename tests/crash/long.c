/* SPDX-License-Identifier: BSD-2-Clause */
/* Long runs; see long.h.  What they ask for is in long-requests.c.
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

void
long_compare_page (struct long_run *y, const struct expect *e,
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

/* How many pages the object has, to be compared; 0: it is not there. */
static uint32_t
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
  else if (err == 0 && nr_pages != n->nr_pages && nr_pages != n->or_pages)
    long_wrong (y, "object %c has %u pages, not %u (or %u)", 'a' + name,
                nr_pages, n->nr_pages, n->or_pages);
  else if (err == ENOENT && n->life != 0 && !n->may_be_absent)
    long_wrong (y, "object %c is gone", 'a' + name);
  else if (err != 0 && err != ENOENT && must_read)
    long_wrong (y, "size of %c: %s", 'a' + name, strerror (err));
  return err == 0 ? nr_pages : 0;
}

static void
compare_all (struct long_run *y, const struct expect *e, bool must_read)
{
  for (unsigned name = 0; name < MODEL_NAMES && !y->failed; name++) {
    uint32_t nr_pages = compare_name (y, e, name, must_read);

    for (unsigned i = 0; i < e->nr_pages && !y->failed; i++)
      if (e->page[i].name == name && e->page[i].pgno < nr_pages)
        long_compare_page (y, e, &e->page[i], must_read);
  }
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
    long_judge (y, "open", err, false, false);
    return;
  }
  while (y->nr_requests < y->nr_requests_max && !y->failed)
    long_request (y);
  compare_all (y, &y->ledger.live, true);
  if (!y->failed && !y->errors && !y->lies && subject->check != NULL)
    bad = subject->check (y->s);
  if (bad != NULL && (y->fault == NULL || !y->fault->hit ||
                      strstr (bad, "cannot be read") == NULL))
    long_wrong (y, "check: %s", bad);
  err = subject->close (y->s);
  long_judge (y, "close", err, false, false);
  y->closed = err == 0;
  if (y->closed && y->fault != NULL && y->fault->hit &&
      y->fault->kind == MEDIA_FLUSH)
    long_wrong (y, "all went well, and a flush had failed");
}

struct look {
  struct long_run *y;
  bool keeps;
  unsigned nr_requests;
};

/* What is there now is sure: a recovery has made it durable. */
static int
settle_page (struct long_run *y, struct expect_page *p)
{
  static uint8_t page[PAGE_BYTES] __attribute__ ((aligned (PAGE_BYTES)));
  struct where at = { y->ledger.live.name[p->name].life, p->pgno };
  char why[200];
  int err = y->subject->read (y->s, p->name, page,
                              (uint64_t) p->pgno * PAGE_BYTES, PAGE_BYTES);

  p->nr = 1;
  if (err == 0 && !content_parse (page, &at, &p->is[0], why))
    err = EIO;
  return err;
}

static void
settle (struct long_run *y, const struct expect *found)
{
  struct expect *e = &y->ledger.live;
  unsigned kept = 0;
  uint32_t nr_pages;

  if (found != e)
    *e = *found;
  for (unsigned i = 0; i < MODEL_NAMES; i++) {
    e->name[i].may_be_absent = false;
    e->name[i].or_pages = 0;
    if (y->subject->size (y->s, i, &nr_pages) != 0)
      e->name[i] = (struct expect_name){ 0 };
    else
      e->name[i].nr_pages = nr_pages;
  }
  for (unsigned i = 0; i < e->nr_pages; i++)
    if (e->page[i].pgno < e->name[e->page[i].name].nr_pages)
      e->page[kept++] = e->page[i];
  e->nr_pages = kept;
  for (unsigned i = 0; i < kept && !y->failed; i++)
    if (settle_page (y, &e->page[i]) != 0)
      long_wrong (y, "page %u of %c was good and is not", e->page[i].pgno,
                  'a' + e->page[i].name);
  y->ledger.durable = y->start = *e;
}

static void
go_on (struct long_run *y, unsigned nr_requests)
{
  settle (y, y->closed ? &y->ledger.live : &y->ledger.durable);
  for (unsigned i = 0; i < nr_requests && !y->failed; i++)
    long_request (y);
  compare_all (y, &y->ledger.live, true);
}

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
    if (!y->lies && !y->may_refuse)
      long_wrong (y, "the next open fails: %s", strerror (err));
    return;
  }
  if (y->closed)
    compare_all (y, &y->ledger.live, !y->lies);
  else if (!y->lies)
    compare_all (y, &y->ledger.durable, true);
  if (!y->failed && look->nr_requests > 0)
    go_on (y, look->nr_requests);
  if (!y->failed && y->check && !y->lies && y->subject->check != NULL)
    bad = y->subject->check (y->s);
  if (bad != NULL)
    long_wrong (y, "check: %s", bad);
  err = y->subject->close (y->s);
  if (err != 0 && !y->lies)
    long_wrong (y, "the next close fails: %s", strerror (err));
}

static void
try_main (void *arg)
{
  struct look *look = arg;
  struct long_run *y = look->y;
  int err = open_store (y), err_close;

  if (err == 0) {
    if (!y->fault->hit || y->fault->op != MEDIA_READ)
      compare_all (y, look->keeps ? &y->ledger.live : &y->ledger.durable, true);
    err_close = y->subject->close (y->s);
    long_judge (y, "close", err_close, false, false);
    if (err_close == 0 && y->fault->hit && y->fault->kind == MEDIA_FLUSH)
      long_wrong (y, "all went well, and a flush had failed");
  } else {
    long_judge (y, "open", err, false, false);
  }
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
long_look (struct long_run *y, unsigned nr, bool keeps, unsigned nr_requests)
{
  struct look look = { y, keeps, nr_requests };

  y->nr_ops = 0;
  record_clear (&y->record);
  y->record.fault = NULL;
  simulate (y, look_main, &look, nr);
}

void
long_try (struct long_run *y, unsigned nr, bool keeps)
{
  struct look look = { y, keeps, 0 };

  y->nr_ops = 0;
  record_clear (&y->record);
  y->record.fault = y->fault;
  simulate (y, try_main, &look, nr);
  y->record.fault = y->fault = NULL;
}

void
long_ledger_at (const struct long_run *y, uint64_t at, struct ledger *l)
{
  ledger_begin (l, &y->start, y->subject->strict);
  for (unsigned i = 0, nr; i < y->nr_ops && y->op[i].begin < at; i += nr) {
    const struct done_op *o = &y->op[i];
    bool well = o->error == 0 && o->reply < at;

    for (nr = 1; o->group != 0 && i + nr < y->nr_ops; nr++)
      if (o[nr].group != o->group)
        break;
    if (was_refused (o, at))
      continue;
    if (o->group != 0)
      ledger_note_together (l, o, nr, at);
    else
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
                          .life = LONG_FIRST_LIFE };
  disks_copy (&y->disks, &base->disks);
  y->start = base->expect[CRASH_MACHINE];
  ledger_begin (&y->ledger, &y->start, subject->strict);
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
