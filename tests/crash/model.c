/* SPDX-License-Identifier: BSD-2-Clause */
/* The contract; see model.h.  Pure: no store, no I/O, no task.
 *
 * For one page, the operations of a run that touch it are ordered in part: one
 * that was replied to before another began comes before it.  After a crash the
 * page is what some of them leave, applied in an order that respects this:
 *
 *   start --> o1 --> o2 --> o3 ...        every stop on every such way at
 *                |      |                 which all that must have survived
 *                '------'-- allowed       has been passed
 *
 * What must have survived:
 *   the process died    all that was replied to
 *   the machine died    what was replied to before a flush began that was
 *                       itself replied to; with FUA, what was replied to; of
 *                       a strict store, the same
 * A close that went well is a flush.  An operation that failed may have been
 * done, or not.
 *
 * A read finds each page as it is on some such way at a place where all that
 * was replied to before the read began is there, of what has begun when the
 * read is over:
 *
 *   write 1  |--------------------|
 *   write 2        |---|                 a page of the read is as before, 1,
 *   read                |------|         2, 1 2 or 2 1; but 2 was over when it
 *                                        began: so 2, 1 2 or 2 1
 *
 * Pages of one read are judged one by one.  A request that has failed may be
 * on the way or not, but never after one that began when it was over.
 *
 * So a page is old or new and never mixed, and never new with an older write
 * missing below.  Objects go the same way, one at a time: creating, removing
 * and resizing are durable when they are replied to.  Pages behind the end of
 * an object that was made smaller are zeros, if it ever has them again; of one
 * of which nobody knows whether it was they are as before, if it has them.
 */

#include <config.h>

#include "model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MAGIC UINT64_C (0xfa9)

/* ---- bytes ---- */

/* The first word of a sector says who wrote it, and where to. */
static uint64_t
sector_name (uint16_t token, const struct where *at, unsigned sector)
{
  return (uint64_t) token << 48 | (uint64_t) (at->life & 0xff) << 40 |
         (uint64_t) (at->pgno & 0xffffff) << 16 | sector << 12 | MAGIC;
}

void
content_fill (uint16_t token, const struct where *at, unsigned sector, void *to)
{
  uint64_t word[SECTOR_BYTES / 8] = { 0 };

  if (token != 0) {
    word[0] = sector_name (token, at, sector);
    for (unsigned i = 1; i < SECTOR_BYTES / 8; i++)
      word[i] = (word[0] + i) * UINT64_C (0x9fb21c651e98df25);
  }
  memcpy (to, word, sizeof word);
}

static bool
foreign (uint64_t name, unsigned sector, char *why)
{
  if ((name & 0xfff) == MAGIC)
    snprintf (why, 200,
              "sector %u has bytes of operation %u for life %u, page %u, "
              "sector %u (or a part of them)",
              sector, (unsigned) (name >> 48), (unsigned) (name >> 40 & 0xff),
              (unsigned) (name >> 16 & 0xffffff), (unsigned) (name >> 12 & 15));
  else
    snprintf (why, 200, "sector %u has bytes that nobody wrote: %016llx...",
              sector, (unsigned long long) name);
  return false;
}

bool
content_parse (const void *page, const struct where *at, struct content *c,
               char *why)
{
  for (unsigned i = 0; i < PAGE_SECTORS; i++) {
    const uint8_t *sector = (const uint8_t *) page + i * SECTOR_BYTES;
    uint8_t want[SECTOR_BYTES];
    uint64_t name;

    memcpy (&name, sector, sizeof name);
    c->token[i] = (uint16_t) (name >> 48);
    content_fill (c->token[i], at, i, want);
    if (memcmp (sector, want, SECTOR_BYTES) != 0)
      return foreign (name, i, why);
  }
  return true;
}

/* ---- expectations ---- */

const struct expect_page *
expect_find (const struct expect *e, unsigned name, uint32_t pgno)
{
  for (unsigned i = 0; i < e->nr_pages; i++)
    if (e->page[i].pgno == pgno && e->page[i].name == name)
      return &e->page[i];
  return NULL;
}

struct expect_page *
expect_page (struct expect *e, unsigned name, uint32_t pgno)
{
  struct expect_page *p = (struct expect_page *) expect_find (e, name, pgno);

  if (p != NULL)
    return p;
  assert (e->nr_pages < MODEL_PAGES);
  p = &e->page[e->nr_pages++];
  p->name = name;
  p->pgno = pgno;
  p->nr = 1;
  p->is[0] = (struct content){ { 0 } };
  return p;
}

bool
expect_allows (const struct expect_page *e, const struct content *c)
{
  for (unsigned i = 0; i < e->nr; i++)
    if (memcmp (&e->is[i], c, sizeof *c) == 0)
      return true;
  return false;
}

static uint64_t
content_hash (const struct content *c)
{
  uint64_t word[2];

  _Static_assert(sizeof word == sizeof *c, "eight tokens of 16 bits");
  memcpy (word, c, sizeof word);
  return hash_add (word[0], word[1]);
}

/* Of sets, so sums. */
uint64_t
expect_hash (const struct expect *e)
{
  uint64_t hash = 0;

  for (unsigned i = 0; i < MODEL_NAMES; i++)
    hash = hash_add (hash, (uint64_t) e->name[i].life << 40 |
                               (uint64_t) e->name[i].nr_pages << 1 |
                               e->name[i].may_be_absent) +
           e->name[i].or_pages;
  for (unsigned i = 0; i < e->nr_pages; i++) {
    const struct expect_page *p = &e->page[i];
    uint64_t sum = 0;

    for (unsigned j = 0; j < p->nr; j++)
      sum += content_hash (&p->is[j]);
    hash += hash_add (sum, (uint64_t) p->name << 32 | p->pgno);
  }
  return hash;
}

/* ---- which operations count ---- */

static bool
changes_pages (enum op_kind kind)
{
  return kind == OP_WRITE || kind == OP_TRIM || kind == OP_ZERO ||
         kind == OP_ZERO_RESERVED;
}

/* What is asked of the history: a crash, or a read. */
struct question {
  const struct history *h;
  enum crash_kind kind;
  uint64_t begun;   /* operations that began before this may be there */
  uint64_t replied; /* those replied to before this, if survives () */
  bool read;
};

static bool
flushed (const struct question *q, const struct done_op *o)
{
  for (unsigned i = 0; i < q->h->nr; i++) {
    const struct done_op *f = &q->h->op[i];

    if ((f->op.kind == OP_FLUSH || f->op.kind == OP_REOPEN) && f->error == 0 &&
        f->reply < q->replied && f->begin > o->reply)
      return true;
  }
  return false;
}

static bool
must_survive (const struct question *q, const struct done_op *o)
{
  if (o->error != 0 || o->reply >= q->replied)
    return false;
  return q->read || q->kind == CRASH_PROCESS || q->h->strict || o->op.fua ||
         o->op.kind == OP_RESIZE || flushed (q, o);
}

static bool
touches (const struct done_op *o, const struct expect_page *p, uint16_t life)
{
  uint32_t first = p->pgno * PAGE_SECTORS;

  if (o->op.kind == OP_RESIZE)
    return o->life == life && p->pgno >= o->op.nr;
  return changes_pages (o->op.kind) && o->life == life &&
         o->op.first < first + PAGE_SECTORS && first < o->op.first + o->op.nr;
}

/* ---- one page ---- */

/* The operations that touch it, and the walk over their orders. */
struct walk {
  const struct done_op *op[MODEL_OPS_MAX];
  unsigned nr;
  uint32_t must; /* a bit each */
  struct expect_page *to;
};

static void
allow (struct expect_page *p, const struct content *c)
{
  if (expect_allows (p, c))
    return;
  assert (p->nr < MODEL_VERSIONS);
  p->is[p->nr++] = *c;
}

void
model_apply (const struct done_op *o, uint32_t pgno, struct content *c)
{
  for (unsigned i = 0; i < PAGE_SECTORS; i++) {
    uint32_t sector = pgno * PAGE_SECTORS + i;

    if (o->op.kind == OP_RESIZE)
      c->token[i] = pgno < o->op.nr ? c->token[i] : 0;
    else if (sector >= o->op.first && sector < o->op.first + o->op.nr)
      c->token[i] = o->op.kind == OP_WRITE ? o->token : 0;
  }
}

/* May i be next, when those of done were applied? */
static bool
may_follow (const struct walk *w, uint32_t done, unsigned i)
{
  if (done >> i & 1)
    return false;
  for (unsigned j = 0; j < w->nr; j++) {
    if (done >> j & 1) {
      if (w->op[i]->reply < w->op[j]->begin)
        return false;
    } else if (w->op[j]->error == 0 && w->op[j]->reply < w->op[i]->begin)
      return false;
  }
  return true;
}

static void
walk_on (const struct walk *w, uint32_t done, const struct content *c)
{
  if ((done & w->must) == w->must)
    allow (w->to, c);
  for (unsigned i = 0; i < w->nr; i++) {
    struct content next = *c;

    if (!may_follow (w, done, i))
      continue;
    model_apply (w->op[i], w->to->pgno, &next);
    walk_on (w, done | 1u << i, &next);
  }
}

static void
page_versions (const struct question *q, struct expect_page *p, uint16_t life)
{
  struct content start[MODEL_VERSIONS];
  unsigned nr = p->nr;
  struct walk w = { .to = p };

  for (unsigned i = 0; i < q->h->nr; i++) {
    const struct done_op *o = &q->h->op[i];

    if (o->begin >= q->begun || !touches (o, p, life) ||
        (o->op.kind == OP_RESIZE && !must_survive (q, o)))
      continue;
    if (must_survive (q, o))
      w.must |= 1u << w.nr;
    w.op[w.nr++] = o;
  }
  memcpy (start, p->is, nr * sizeof *start);
  p->nr = 0;
  for (unsigned i = 0; i < nr; i++)
    walk_on (&w, 0, &start[i]);
}

/* ---- all ---- */

/* Objects come and go one after the other (the sweep never has two clients at
 * one name's making), so the last step alone can be in doubt.
 */
static void
name_versions (const struct question *q, struct expect *to)
{
  for (unsigned i = 0; i < q->h->nr; i++) {
    const struct done_op *o = &q->h->op[i];
    struct expect_name *n = &to->name[o->op.name];
    bool sure = o->error == 0 && o->reply < q->replied;

    if ((o->op.kind != OP_CREATE && o->op.kind != OP_REMOVE &&
         o->op.kind != OP_RESIZE) ||
        o->begin >= q->begun || was_refused (o, q->replied))
      continue;
    if (o->op.kind == OP_CREATE)
      *n = (struct expect_name){ o->life, !sure, o->op.nr, 0 };
    else if (o->op.kind == OP_RESIZE && sure)
      n->nr_pages = o->op.nr;
    else if (o->op.kind == OP_RESIZE)
      n->or_pages = o->op.nr;
    else if (sure)
      *n = (struct expect_name){ 0 };
    else
      n->may_be_absent = true;
  }
}

static void
forget_pages (struct expect *e, unsigned name)
{
  unsigned kept = 0;

  for (unsigned i = 0; i < e->nr_pages; i++)
    if (e->page[i].name != name)
      e->page[kept++] = e->page[i];
  e->nr_pages = kept;
}

static void
answer (const struct question *q, struct expect *to)
{
  *to = q->h->start;
  name_versions (q, to);
  for (unsigned i = 0; i < MODEL_NAMES; i++)
    if (to->name[i].life != q->h->start.name[i].life)
      forget_pages (to, i);
  for (unsigned i = 0; i < q->h->nr; i++) {
    const struct done_op *o = &q->h->op[i];

    if (!changes_pages (o->op.kind) || o->begin >= q->begun ||
        o->life != to->name[o->op.name].life)
      continue;
    for (uint32_t p = o->op.first / PAGE_SECTORS;
         p * PAGE_SECTORS < o->op.first + o->op.nr; p++)
      expect_page (to, o->op.name, p);
  }
  for (unsigned i = 0; i < to->nr_pages; i++)
    page_versions (q, &to->page[i], to->name[to->page[i].name].life);
}

void
model_crash (const struct history *h, enum crash_kind kind, uint64_t at,
             struct expect *to)
{
  struct question q = { h, kind, at, at, false };

  answer (&q, to);
}

void
model_read (const struct history *h, uint64_t begin, struct expect *to)
{
  struct question q = { h, CRASH_PROCESS, RECORD_NEVER, begin, true };

  answer (&q, to);
}
