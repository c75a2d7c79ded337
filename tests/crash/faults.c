/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults of media; see faults.h.
 *
 *   run 1: open, 500 requests one after the other, close; one fault
 *   run 2: open what it left, with media that work, and compare
 *
 * What must hold, whatever the fault:
 *   - a read gives what was written last, or an error; never anything else
 *   - nothing fails before the fault was met
 *   - after a failed flush no flush succeeds, nor a durable write
 *   - what was durable is there in run 2; after a clean close, everything
 * A medium that lies about a write (lost, misdirected) can make run 2 refuse
 * to open, or pages unreadable: but it never makes them wrong.
 *
 * The oracle is a ledger and not the model's history: with one client, what
 * may be read is a set for each page that grows with what failed, and what may
 * be found after a failed end grows with each write until a flush.
 */

#include <config.h>

#include "faults.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "sim.h"
#include "task.h"

#define PAGES_EACH 44u /* of each object that are used */
#define IO_MAX     1000000u
#define VERSIONS   (MODEL_VERSIONS - 2)

struct faulty {
  struct faults *f;
  struct media_fault *fault;
  struct disks disks;
  struct record record;
  struct rng rng;
  void *s;
  struct expect live, durable;
  uint16_t token;
  unsigned nr_requests;
  bool failed; /* the oracle has said why */
  bool closed; /* cleanly */
  bool errors; /* some request has failed */
  bool lies;   /* the medium said it had done what it had not */
};

static void wrong (struct faulty *y, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

static void
wrong (struct faulty *y, const char *fmt, ...)
{
  va_list args;
  int n;

  if (y->failed)
    return;
  y->failed = true;
  n = snprintf (y->f->why, sizeof y->f->why, "request %u: ", y->nr_requests);
  va_start (args, fmt);
  vsnprintf (y->f->why + n, sizeof y->f->why - (size_t) n, fmt, args);
  va_end (args);
}

/* ---- the ledger ---- */

static void
add_version (struct expect_page *p, const struct content *c)
{
  if (!expect_allows (p, c) && p->nr < MODEL_VERSIONS)
    p->is[p->nr++] = *c;
}

static void
change (const struct op *op, uint16_t token, uint32_t pgno, struct content *c)
{
  for (unsigned i = 0; i < PAGE_SECTORS; i++) {
    uint32_t sector = pgno * PAGE_SECTORS + i;

    if (sector >= op->first && sector < op->first + op->nr)
      c->token[i] = op->kind == OP_WRITE ? token : 0;
  }
}

/* One page after a change that went well, or may have. */
static void
note_page (struct faulty *y, const struct op *op, uint32_t pgno, bool well)
{
  struct expect_page *live = expect_page (&y->live, op->name, pgno);
  struct expect_page *durable = expect_page (&y->durable, op->name, pgno);
  struct expect_page old = *live;

  if (well)
    live->nr = 0;
  for (unsigned i = 0; i < old.nr; i++) {
    struct content c = old.is[i];

    change (op, y->token, pgno, &c);
    add_version (live, &c);
    add_version (durable, &c);
  }
  if (well && op->fua)
    *durable = *live;
}

static void
note_change (struct faulty *y, const struct op *op, bool well)
{
  for (uint32_t p = op->first / PAGE_SECTORS;
       p * PAGE_SECTORS < op->first + op->nr; p++)
    note_page (y, op, p, well);
}

static bool
is_full (const struct faulty *y)
{
  for (unsigned i = 0; i < y->durable.nr_pages; i++)
    if (y->durable.page[i].nr > VERSIONS / 2 ||
        y->live.page[i].nr > VERSIONS / 2)
      return true;
  return false;
}

/* ---- comparing ---- */

static void
compare_page (struct faulty *y, const struct expect *e,
              const struct expect_page *p, bool must_read)
{
  static uint8_t page[PAGE_BYTES] __attribute__ ((aligned (PAGE_BYTES)));
  struct where at = { e->name[p->name].life, p->pgno };
  struct content c;
  char why[200];
  int err = y->f->subject->read (y->s, p->name, page,
                                 (uint64_t) p->pgno * PAGE_BYTES, PAGE_BYTES);

  if (y->record.fault != NULL && y->record.fault->hit)
    must_read = false; /* maybe just now */
  if (err != 0)
    y->errors = true;
  if (err != 0 && must_read)
    wrong (y, "read of page %u of %c: %s", p->pgno, 'a' + p->name,
           strerror (err));
  else if (err == 0 && !content_parse (page, &at, &c, why))
    wrong (y, "page %u of %c: %s", p->pgno, 'a' + p->name, why);
  else if (err == 0 && !expect_allows (p, &c))
    wrong (y, "page %u of %c has operations %u %u %u .. %u, not %u %u %u .. %u",
           p->pgno, 'a' + p->name, c.token[0], c.token[1], c.token[2],
           c.token[7], p->is[0].token[0], p->is[0].token[1], p->is[0].token[2],
           p->is[0].token[7]);
}

static void
compare_all (struct faulty *y, const struct expect *e, bool must_read)
{
  for (unsigned i = 0; i < e->nr_pages && !y->failed; i++)
    compare_page (y, e, &e->page[i], must_read);
}

/* ---- requests ---- */

static int
send_change (struct faulty *y, const struct op *op)
{
  static uint8_t buf[24 * PAGE_BYTES];
  const struct subject *subject = y->f->subject;
  uint64_t off = (uint64_t) op->first * SECTOR_BYTES;
  uint32_t bytes = op->nr * SECTOR_BYTES;

  if (op->kind == OP_TRIM)
    return subject->trim (y->s, op->name, off, bytes, op->fua);
  if (op->kind != OP_WRITE)
    return subject->zero (y->s, op->name, off, bytes, op->kind == OP_ZERO,
                          op->fua);
  for (uint32_t i = 0; i < op->nr; i++) {
    uint32_t sector = op->first + i;
    struct where at = { y->live.name[op->name].life, sector / PAGE_SECTORS };

    content_fill (y->token, &at, sector % PAGE_SECTORS, buf + i * SECTOR_BYTES);
  }
  return subject->write (y->s, op->name, buf, off, bytes, op->fua);
}

/* It failed: was the fault there by then?  It went well: should it have? */
static void
judge (struct faulty *y, const char *what, int err, bool failed_before,
       bool durable)
{
  const struct media_fault *fault = y->fault;

  if (err != 0)
    y->errors = true;
  if (err == ENOSPC && y->f->subject->fills)
    return;
  if (err != 0 && (fault == NULL || !fault->hit))
    wrong (y, "%s failed, with no fault: %s", what, strerror (err));
  if (err == 0 && durable && failed_before)
    wrong (y, "%s went well after the store had failed", what);
}

/* In a large object four pages to a leaf: more leaves and pages in all than
 * there are buffers.
 */
static uint32_t
place_of (const struct faulty *y, unsigned name, uint32_t page)
{
  if (y->live.name[name].nr_pages > PAGES_EACH * 64)
    return page / 4 * 256 + page % 4;
  return page + (page >= PAGES_EACH / 2 ? 246 : 0);
}

static void
one_change (struct faulty *y)
{
  static const enum op_kind kinds[] = { OP_WRITE,        OP_WRITE, OP_WRITE,
                                        OP_WRITE,        OP_TRIM,  OP_ZERO,
                                        OP_ZERO_RESERVED };
  struct op op = { .kind = kinds[rng_below (&y->rng, 7)],
                   .name = (unsigned) rng_below (&y->rng, 2),
                   .fua = rng_below (&y->rng, 8) == 0 };
  bool failed_before = run_store_failed ();
  uint32_t page = (uint32_t) rng_below (&y->rng, PAGES_EACH - 4);
  int err;

  op.first = place_of (y, op.name, page) * PAGE_SECTORS;
  op.nr = PAGE_SECTORS * (1 + (uint32_t) rng_below (&y->rng, 4));
  if (rng_below (&y->rng, 3) == 0) {
    op.first += 1 + (uint32_t) rng_below (&y->rng, 7);
    op.nr = 1 + (uint32_t) rng_below (&y->rng, 16);
  }
  if (rng_below (&y->rng, 24) == 0) { /* past the buffers */
    op.name = 1;
    op.first = 300 * PAGE_SECTORS;
    op.nr = 20 * PAGE_SECTORS;
  }
  y->token++;
  err = send_change (y, &op);
  judge (y, "a write, trim or zero", err, failed_before, op.fua);
  note_change (y, &op, err == 0);
}

static void
one_flush (struct faulty *y)
{
  bool failed_before = run_store_failed ();
  int err = y->f->subject->flush (y->s, (unsigned) rng_below (&y->rng, 2));

  judge (y, "a flush", err, failed_before, true);
  if (err == 0)
    y->durable = y->live;
}

static void
one_request (struct faulty *y)
{
  uint64_t what = rng_below (&y->rng, 100);

  y->nr_requests++;
  if (what < 10 || is_full (y))
    one_flush (y);
  else if (what < 12)
    task_sleep (UINT64_C (6000000000));
  else if (what < 45 && y->live.nr_pages > 0)
    compare_page (y, &y->live,
                  &y->live.page[rng_below (&y->rng, y->live.nr_pages)], true);
  else if (!is_full (y))
    one_change (y);
}

/* ---- the two runs ---- */

static int
open_store (struct faulty *y)
{
  struct volume *v[DISKS_MAX];

  for (unsigned i = 0; i < y->disks.nr; i++)
    media_open (&y->disks.image[i], i, &y->record, &v[i]);
  return y->f->subject->open (v, y->disks.nr, &y->s);
}

static void
run_with_fault (void *arg)
{
  struct faulty *y = arg;
  const struct subject *subject = y->f->subject;
  const char *bad = NULL;
  int err = open_store (y);

  if (err != 0) {
    judge (y, "open", err, false, false);
    return;
  }
  while (y->nr_requests < FAULT_REQUESTS && !y->failed)
    one_request (y);
  compare_all (y, &y->live, true);
  if (!y->failed && !y->errors && !y->lies && subject->check != NULL)
    bad = subject->check (y->s);
  if (bad != NULL && (y->fault == NULL || !y->fault->hit ||
                      strstr (bad, "cannot be read") == NULL))
    wrong (y, "check: %s", bad);
  err = subject->close (y->s);
  judge (y, "close", err, false, false);
  y->closed = err == 0;
  if (y->closed && y->fault != NULL && y->fault->hit &&
      y->fault->kind == MEDIA_FLUSH)
    wrong (y, "all went well, and a flush had failed");
}

/* Nothing is wrong with the media now. */
static void
run_after (void *arg)
{
  struct faulty *y = arg;
  int err = open_store (y);

  if (err != 0) {
    if (!y->lies)
      wrong (y, "the next open fails: %s", strerror (err));
    y->f->nr_refused[y->fault->kind]++;
    return;
  }
  if (y->closed)
    compare_all (y, &y->live, !y->lies);
  else if (!y->lies)
    compare_all (y, &y->durable, true);
  err = y->f->subject->close (y->s);
  if (err != 0 && !y->lies)
    wrong (y, "the next close fails: %s", strerror (err));
}

static void
simulate (struct faulty *y, void (*fn) (void *), unsigned nr)
{
  struct sim_config config = { .seed = y->f->seed, .random_seed = 50 + nr };
  enum sim_end end;

  run_keep_log ();
  end = sim_run (&config, fn, y);
  log_set (NULL, NULL);
  if (end == SIM_DONE)
    return;
  wrong (y, "the run did not end (told above)");
  sim_tell (2, end);
}

static void
faulty_begin (struct faulty *y, struct faults *f, struct media_fault *fault)
{
  *y = (struct faulty){ .f = f, .fault = fault };
  disks_copy (&y->disks, &f->base->disks);
  y->live = y->durable = f->base->expect[CRASH_MACHINE];
  y->token = 1000;
  y->rng.state = f->seed;
  y->record.fault = fault;
  if (fault != NULL)
    y->lies = fault->kind == MEDIA_LOST || fault->kind == MEDIA_MISDIRECTED;
  if (f->subject->has_staging)
    ram_begin ();
}

static void
faulty_end (struct faulty *y)
{
  if (y->f->subject->has_staging)
    ram_end ();
  record_free (&y->record);
  disks_free (&y->disks);
}

bool
faults_begin (struct faults *f)
{
  static struct faulty y;

  f->io = malloc (IO_MAX);
  if (f->io == NULL)
    abort ();
  faulty_begin (&y, f, NULL);
  y.record.io = f->io;
  simulate (&y, run_with_fault, 0);
  f->nr_io = y.record.nr_io;
  faulty_end (&y);
  return !y.failed;
}

void
faults_end (struct faults *f)
{
  free (f->io);
}

/* This kind at that place; true also if it means nothing there. */
static bool
faults_try (struct faults *f, enum media_fault_kind kind, uint64_t at)
{
  static struct faulty y;
  struct image start[DISKS_MAX];
  struct media_fault fault = { .kind = kind, .at = at, .start = start };

  if (at >= f->nr_io || !media_fault_fits (kind, (enum media_op) f->io[at]))
    return true;
  for (unsigned i = 0; i < f->base->disks.nr; i++)
    image_copy (&start[i], &f->base->disks.image[i]);
  faulty_begin (&y, f, &fault);
  f->nr_tried[kind]++;
  simulate (&y, run_with_fault, 0);
  f->nr_lost[kind] += !y.closed;
  if (!y.failed) {
    /* What is staged is there still: the process ended, not the machine. */
    record_clear (&y.record);
    y.record.fault = NULL;
    simulate (&y, run_after, 1);
  }
  faulty_end (&y);
  for (unsigned i = 0; i < f->base->disks.nr; i++)
    image_free (&start[i]);
  return !y.failed;
}

/* A run that its media leave in the middle, at another place each time; then a
 * recovery and 500 requests, in which the n-th request for memory fails.
 */
bool
faults_try_memory (struct faults *f, uint64_t n, bool *hit)
{
  static struct faulty y;
  struct media_fault vanish = { .kind = MEDIA_VANISH, .at = n * 7 % f->nr_io };
  struct media_fault none = { .kind = MEDIA_EIO, .at = RECORD_NEVER };

  faulty_begin (&y, f, &vanish);
  simulate (&y, run_with_fault, 0);
  record_clear (&y.record);
  y.record.fault = y.fault = &none;
  if (!y.closed)
    y.live = y.durable;
  y.nr_requests = 0;
  y.errors = y.closed = false;
  memory_fail_at (n, &none.hit);
  if (!y.failed)
    simulate (&y, run_with_fault, 1);
  *hit = none.hit;
  memory_fail_at (MEMORY_NEVER, NULL);
  if (!y.failed) {
    record_clear (&y.record);
    y.record.fault = NULL;
    simulate (&y, run_after, 2);
  }
  faulty_end (&y);
  return !y.failed;
}

uint64_t
faults_nr (const struct faults *f)
{
  return f->nr_io * MEDIA_FAULTS;
}

void
faults_nth (const struct faults *f, uint64_t n, char *text, size_t bytes)
{
  const uint64_t step = 1000003; /* a prime that divides no number of them */
  uint64_t nr = faults_nr (f), i = (rng_mix (f->seed) % nr + n * step) % nr;

  snprintf (text, bytes, "%s:%" PRIu64, media_fault_names[i % MEDIA_FAULTS],
            i / MEDIA_FAULTS);
}

int
faults_given (struct faults *f, const char *text)
{
  for (unsigned kind = 0; kind < MEDIA_FAULTS; kind++) {
    size_t len = strlen (media_fault_names[kind]);
    uint64_t at;

    if (strncmp (text, media_fault_names[kind], len) != 0 ||
        sscanf (text + len, ":%" SCNu64, &at) != 1)
      continue;
    return faults_try (f, (enum media_fault_kind) kind, at) ? 0 : EIO;
  }
  return EINVAL;
}
