/* SPDX-License-Identifier: BSD-2-Clause */
/* The ledger; see ledger.h.  long.c keeps one while it works, cuts.c makes one
 * for any moment of a run that is over.
 *
 * Requests of several clients at once begin with a page that is what live says:
 * what came before them was over.  After a crash it is
 *   - what they leave of that (model.c), or
 *   - if none of them is there, and none must be, what durable said before.
 * A flush among them that went well makes sure all that came before them.
 *
 * Pages that are not in it are zeros; a trim of such a page says nothing new.
 */

#include <config.h>

#include "ledger.h"

#include <string.h>

#define VERSIONS (MODEL_VERSIONS - 2)

void
ledger_begin (struct ledger *l, const struct expect *start, bool strict)
{
  l->live = l->durable = *start;
  l->strict = strict;
}

/* ---- pages ---- */

static void
add_version (struct expect_page *p, const struct content *c)
{
  if (!expect_allows (p, c) && p->nr < MODEL_VERSIONS)
    p->is[p->nr++] = *c;
}

static void
note_page (struct ledger *l, const struct done_op *o, uint32_t pgno,
           enum ledger_how how)
{
  struct expect_page *live = expect_page (&l->live, o->op.name, pgno);
  struct expect_page *durable = expect_page (&l->durable, o->op.name, pgno);
  struct expect_page old = *live;

  if (how == LEDGER_WELL)
    live->nr = 0;
  for (unsigned i = 0; i < old.nr; i++) {
    struct content c = old.is[i];

    model_apply (o, pgno, &c);
    add_version (live, &c);
    add_version (durable, &c);
  }
  if (how == LEDGER_WELL && (o->op.fua || l->strict))
    *durable = *live;
}

static bool
touches (const struct done_op *o, const struct expect_page *p)
{
  uint32_t first = p->pgno * PAGE_SECTORS;

  return p->name == o->op.name && o->op.first < first + PAGE_SECTORS &&
         first < o->op.first + o->op.nr;
}

static void
note_change (struct ledger *l, const struct done_op *o, enum ledger_how how)
{
  uint32_t end = o->op.first + o->op.nr;

  if (o->op.kind == OP_WRITE) {
    for (uint32_t p = o->op.first / PAGE_SECTORS; p * PAGE_SECTORS < end; p++)
      note_page (l, o, p, how);
    return;
  }
  for (unsigned i = 0; i < l->live.nr_pages; i++)
    if (touches (o, &l->live.page[i]))
      note_page (l, o, l->live.page[i].pgno, how);
}

/* ---- several clients ---- */

/* Is p sure to be what these leave, or what live was before them? */
static bool
is_sure (const struct history *h, const struct expect_page *p, uint64_t at)
{
  for (unsigned i = 0; i < h->nr; i++) {
    const struct done_op *o = &h->op[i];

    if (o->error == 0 && o->reply < at &&
        (o->op.kind == OP_FLUSH ||
         ((o->op.fua || h->strict) && touches (o, p))))
      return true;
  }
  return false;
}

void
ledger_note_together (struct ledger *l, const struct done_op *ops, unsigned nr,
                      uint64_t at)
{
  static struct history h;
  static struct expect found;

  h = (struct history){ .strict = l->strict, .start = l->live, .nr = nr };
  memcpy (h.op, ops, nr * sizeof *ops);
  model_crash (&h, CRASH_MACHINE, at, &found);
  for (unsigned i = 0; i < found.nr_pages; i++) {
    const struct expect_page *p = &found.page[i];
    struct expect_page *durable = expect_page (&l->durable, p->name, p->pgno);

    if (is_sure (&h, p, at))
      *durable = *p;
    else
      for (unsigned j = 0; j < p->nr; j++)
        add_version (durable, &p->is[j]);
  }
  model_crash (&h, CRASH_PROCESS, at, &l->live);
}

/* ---- names ---- */

/* Pages that it has no more are zeros if it gets them again. */
static void
cut_pages (struct expect *e, unsigned name, uint32_t nr_pages)
{
  unsigned kept = 0;

  for (unsigned i = 0; i < e->nr_pages; i++)
    if (e->page[i].name != name || e->page[i].pgno < nr_pages)
      e->page[kept++] = e->page[i];
  e->nr_pages = kept;
}

/* Making, removing and resizing are durable when they are answered. */
static void
note_name (struct expect *e, const struct done_op *o, enum ledger_how how)
{
  struct expect_name *n = &e->name[o->op.name];

  if (o->op.kind == OP_CREATE)
    *n = (struct expect_name){ o->life, how != LEDGER_WELL, o->op.nr, 0 };
  else if (o->op.kind == OP_RESIZE && how != LEDGER_WELL)
    n->or_pages = o->op.nr;
  else if (o->op.kind == OP_RESIZE) {
    n->nr_pages = o->op.nr;
    cut_pages (e, o->op.name, o->op.nr);
  } else if (how != LEDGER_WELL)
    n->may_be_absent = true;
  else {
    *n = (struct expect_name){ 0 };
    cut_pages (e, o->op.name, 0);
  }
}

/* ---- all ---- */

void
ledger_note (struct ledger *l, const struct done_op *o, enum ledger_how how)
{
  switch (o->op.kind) {
  case OP_WRITE:
  case OP_TRIM:
  case OP_ZERO:
  case OP_ZERO_RESERVED:
    note_change (l, o, how);
    break;
  case OP_CREATE:
  case OP_REMOVE:
  case OP_RESIZE:
    note_name (&l->live, o, how);
    note_name (&l->durable, o, how);
    break;
  case OP_FLUSH:
    if (how == LEDGER_WELL)
      l->durable = l->live;
    break;
  default:
    break;
  }
}

bool
ledger_is_full (const struct ledger *l)
{
  for (unsigned i = 0; i < l->live.nr_pages; i++)
    if (l->durable.page[i].nr > VERSIONS / 2 ||
        l->live.page[i].nr > VERSIONS / 2)
      return true;
  return false;
}
