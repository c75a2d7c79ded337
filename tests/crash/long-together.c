/* SPDX-License-Identifier: BSD-2-Clause */
/* Several clients at once, for a while of a long run; see long.h.
 *
 *   changers  two of them: writes, trims and zeroes of the same four pages
 *   a churner large writes of other pages, and flushes: blocks come round
 *   readers   two of them, of the pages that the others change; their reads
 *             may hang in the medium
 *
 * A read is judged when it is over, by model.c's rule for requests at once; the
 * ledger goes on when all clients are done.  A page has so few changes that
 * what it may be has room in struct expect_page: two and two of the changers in
 * every order, or those of the churner in theirs.
 */

#include <config.h>

#include "long.h"

#include <stdlib.h>
#include <string.h>

#include "task.h"

#define CLIENTS     5u
#define HOT_PAGES   4u
#define HOT_CHANGES 2u /* of each changer */
#define ROUNDS_MAX  6u
#define READS_MAX   8u
#define DURABLE_MAX 5u /* what a page may be before */

struct client {
  struct long_run *y;
  struct rng rng;
  unsigned name; /* of the hot pages */
  uint32_t page; /* the first one */
};

static uint32_t
below (struct client *c, uint32_t n)
{
  return (uint32_t) rng_below (&c->rng, n);
}

/* ---- clients ---- */

static void
changer (void *arg)
{
  static const enum op_kind kinds[] = { OP_WRITE, OP_WRITE, OP_WRITE,
                                        OP_TRIM,  OP_ZERO,  OP_ZERO_RESERVED };
  struct client *c = arg;

  for (unsigned i = 0; i < HOT_CHANGES && !c->y->failed; i++) {
    uint32_t at = below (c, HOT_PAGES * PAGE_SECTORS);
    struct op op = { .kind = kinds[below (c, 6)],
                     .name = c->name,
                     .first = c->page * PAGE_SECTORS + at,
                     .fua = below (c, 4) == 0 };

    op.nr = 1 + below (c, HOT_PAGES * PAGE_SECTORS - at);
    long_op (c->y, &op);
  }
}

static void
churner (void *arg)
{
  struct client *c = arg;
  unsigned nr = 1 + below (c, ROUNDS_MAX);

  for (unsigned i = 0; i < nr && !c->y->failed; i++) {
    struct op op = { .kind = OP_WRITE,
                     .name = 1,
                     .first = CHURN_PAGE * PAGE_SECTORS,
                     .nr = CHURN_NR * PAGE_SECTORS };

    long_op (c->y, &op);
    op = (struct op){ .kind = OP_FLUSH, .name = 1 };
    if (below (c, 2) == 0)
      long_op (c->y, &op);
  }
}

/* What a read may find that began at `begin` and is over now. */
static const struct expect *
may_read (const struct long_run *y, uint64_t begin)
{
  static struct history h;
  static struct expect e;

  h = (struct history){ .start = y->ledger.live };
  for (unsigned i = 0; i < y->nr_ops; i++)
    if (y->op[i].group == y->group)
      h.op[h.nr++] = y->op[i];
  model_read (&h, begin, &e);
  return &e;
}

static void
judge_page (struct long_run *y, const struct expect *e, unsigned name,
            uint32_t pgno, const uint8_t *page)
{
  const struct expect_page *p = expect_find (e, name, pgno);
  struct where at = { e->name[name].life, pgno };
  struct content c, zeros = { { 0 } };
  char why[200], text[64];

  if (!content_parse (page, &at, &c, why)) {
    long_wrong (y, "beside changes, page %u of %c: %s", pgno, 'a' + name, why);
    return;
  }
  if (p != NULL ? expect_allows (p, &c) : memcmp (&c, &zeros, sizeof c) == 0)
    return;
  content_print (&c, text, sizeof text);
  long_wrong (y, "beside changes, page %u of %c has [%s], none of %u", pgno,
              'a' + name, text, p != NULL ? p->nr : 1);
}

static void
read_once (struct client *c)
{
  struct long_run *y = c->y;
  bool hot = below (c, 2) == 0;
  unsigned name = hot ? c->name : 1;
  uint32_t first = hot ? c->page : CHURN_PAGE, nr = hot ? HOT_PAGES : CHURN_NR;
  uint8_t *buf = aligned_alloc (PAGE_BYTES, CHURN_NR * PAGE_BYTES);
  uint64_t begin = record_event (&y->record);
  const struct expect *e;
  int err;

  if (buf == NULL)
    abort ();
  err = y->subject->read (y->s, name, buf, (uint64_t) first * PAGE_BYTES,
                          nr * PAGE_BYTES);
  if (err != 0)
    long_judge (y, "a read beside changes", err, false, false);
  else {
    e = may_read (y, begin);
    for (uint32_t i = 0; i < nr; i++)
      judge_page (y, e, name, first + i, buf + i * PAGE_BYTES);
  }
  free (buf);
}

static void
reader (void *arg)
{
  struct client *c = arg;
  unsigned nr = 1 + below (c, READS_MAX);

  for (unsigned i = 0; i < nr && !c->y->failed; i++)
    read_once (c);
}

/* ---- all of them ---- */

/* What is there before them must leave room for what they may make of it. */
static bool
has_room (const struct long_run *y, unsigned name, uint32_t first, uint32_t nr)
{
  for (uint32_t i = first; i < first + nr; i++) {
    const struct expect_page *live = expect_find (&y->ledger.live, name, i);
    const struct expect_page *durable =
        expect_find (&y->ledger.durable, name, i);

    if ((live != NULL && live->nr > 1) ||
        (durable != NULL && durable->nr > DURABLE_MAX))
      return false;
  }
  return true;
}

static void
run_clients (struct client *c)
{
  static void (*const fn[CLIENTS]) (void *arg) = { changer, changer, churner,
                                                   reader, reader };
  struct task *task[CLIENTS];

  for (unsigned i = 0; i < CLIENTS; i++)
    if (task_start ("client", fn[i], &c[i], &task[i]) != 0)
      abort ();
  for (unsigned i = 0; i < CLIENTS; i++)
    task_join (task[i]);
}

bool
long_together (struct long_run *y)
{
  unsigned name = (unsigned) rng_below (&y->rng, 2), first = y->nr_ops;
  uint32_t page =
      long_place (y, name, HOT_PAGES * (uint32_t) rng_below (&y->rng, 5));
  struct client c[CLIENTS];
  uint32_t nr_pages;

  if (y->nr_ops + LONG_TOGETHER > LONG_OPS ||
      !has_room (y, name, page, HOT_PAGES) ||
      !has_room (y, 1, CHURN_PAGE, CHURN_NR) ||
      y->subject->size (y->s, 1 - name, &nr_pages) != 0 ||
      y->subject->size (y->s, name, &nr_pages) != 0)
    return false;
  for (unsigned i = 0; i < CLIENTS; i++)
    c[i] = (struct client){ y, { rng_next (&y->rng) }, name, page };
  y->group = ++y->nr_groups;
  y->record.slow = rng_next (&y->rng) | 1;
  run_clients (c);
  y->record.slow = 0;
  y->group = 0;
  ledger_note_together (&y->ledger, &y->op[first], y->nr_ops - first,
                        RECORD_NEVER);
  y->nr_requests += y->nr_ops - first - 1;
  return true;
}
