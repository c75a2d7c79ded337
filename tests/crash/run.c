/* SPDX-License-Identifier: BSD-2-Clause */
/* One run; see run.h.  explore.c calls it for every state of media.
 *
 *   open --> compare with the world's expectation: what is found is sure now
 *        --> operations, one after the other or by several clients
 *        --> compare with the model --> check --> close
 *
 * All of it is inside the simulator; the record's clock also counts the
 * beginnings and replies of operations, so that a point on it says what had
 * been asked, what answered, and what was on the media.
 *
 * A run goes on to its end.  A crash is not a run that stops: it is a state of
 * media made from the record of one that did not.
 */

#include <config.h>

#include "run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "log.h"
#include "sim.h"
#include "task.h"

#define CLIENTS_MAX      3u
#define OBJECT_PAGES_MAX 8192u
#define CHUNK_PAGES      8u
#define SLEEP_NS         (UINT64_C (6000000000))

/* What the run's tasks share. */
struct bench {
  const struct run_config *config;
  const struct world *world;
  struct run *run;
  void *s;
};

static uint8_t chunk[CHUNK_PAGES * PAGE_BYTES]
    __attribute__ ((aligned (PAGE_BYTES)));

/* ---- what is wrong ---- */

static void wrong (struct run *run, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

static void
wrong (struct run *run, const char *fmt, ...)
{
  va_list args;

  if (run->failed)
    return;
  run->failed = true;
  va_start (args, fmt);
  vsnprintf (run->why, sizeof run->why, fmt, args);
  va_end (args);
}

/* ---- comparing ---- */

static void
page_wrong (struct bench *b, const struct where *at, unsigned name,
            const struct content *c, const struct expect_page *e)
{
  char found[64], allowed[512] = "";
  size_t len = 0;

  content_print (c, found, sizeof found);
  for (unsigned i = 0; e != NULL && i < e->nr && len < 440; i++) {
    len += (size_t) snprintf (allowed + len, sizeof allowed - len, " [");
    content_print (&e->is[i], allowed + len, sizeof allowed - len);
    len += strlen (allowed + len);
    len += (size_t) snprintf (allowed + len, sizeof allowed - len, "]");
  }
  wrong (b->run, "page %u of %c has [%s] (operations by sector), allowed:%s",
         at->pgno, 'a' + name, found, e == NULL ? " zeros" : allowed);
}

/* One object, and what is expected of each of its pages (NULL: zeros). */
struct object_view {
  unsigned name;
  uint16_t life;
  uint32_t nr_pages;
  const struct expect_page *page[OBJECT_PAGES_MAX];
  bool hole[OBJECT_PAGES_MAX];
};

static void
view_object (struct object_view *o, unsigned name, const struct expect *e,
             uint32_t nr_pages)
{
  memset (o, 0, sizeof *o);
  o->name = name;
  o->life = e->name[name].life;
  o->nr_pages = nr_pages;
  for (unsigned i = 0; i < e->nr_pages; i++)
    if (e->page[i].name == name)
      o->page[e->page[i].pgno] = &e->page[i];
}

/* Compare one page, and make what it is sure in found (NULL: not wanted). */
static void
compare_page (struct bench *b, const struct object_view *o, uint32_t pgno,
              const uint8_t *page, struct expect *found)
{
  const struct expect_page *p = o->page[pgno];
  struct where at = { o->life, pgno };
  struct content c = { { 0 } };
  char why[200];
  bool is_zero = page[0] == 0 && memcmp (page, page + 1, PAGE_BYTES - 1) == 0;

  if (!is_zero && !content_parse (page, &at, &c, why))
    wrong (b->run, "page %u of %c: %s", pgno, 'a' + o->name, why);
  else if (p != NULL ? !expect_allows (p, &c) : !is_zero)
    page_wrong (b, &at, o->name, &c, p);
  else if (!is_zero && o->hole[pgno])
    wrong (b->run, "page %u of %c is not zeros, and block status says hole",
           pgno, 'a' + o->name);
  else if (p != NULL && found != NULL)
    expect_page (found, o->name, pgno)->is[0] = c;
}

/* Holes are read only if a test wants all, or if they may be something. */
static bool
may_skip (const struct bench *b, const struct object_view *o, uint32_t first,
          uint32_t nr)
{
  if (b->config->read_all)
    return false;
  for (uint32_t i = first; i < first + nr; i++)
    if (!o->hole[i] || o->page[i] != NULL)
      return false;
  return true;
}

static void
compare_object (struct bench *b, struct object_view *o, struct expect *found)
{
  const struct subject *subject = b->config->subject;
  int err = 0;

  if (subject->holes != NULL)
    err = subject->holes (b->s, o->name, o->nr_pages, o->hole);
  if (err != 0)
    wrong (b->run, "block status of %c: %s", 'a' + o->name, strerror (err));
  for (uint32_t p = 0; p < o->nr_pages && !b->run->failed; p += CHUNK_PAGES) {
    uint32_t nr = o->nr_pages - p < CHUNK_PAGES ? o->nr_pages - p : CHUNK_PAGES;

    if (may_skip (b, o, p, nr))
      continue;
    err = subject->read (b->s, o->name, chunk, (uint64_t) p * PAGE_BYTES,
                         nr * PAGE_BYTES);
    if (err != 0)
      wrong (b->run, "read of pages %u to %u of %c: %s", p, p + nr - 1,
             'a' + o->name, strerror (err));
    for (uint32_t i = 0; i < nr && err == 0; i++)
      compare_page (b, o, p + i, chunk + i * PAGE_BYTES, found);
  }
}

static void
compare_name (struct bench *b, unsigned name, const struct expect *e,
              struct expect *found)
{
  static struct object_view view; /* of one comparing task at a time */
  const struct expect_name *n = &e->name[name];
  uint32_t nr_pages = 0;
  int err = b->config->subject->size (b->s, name, &nr_pages);

  if (err == ENOENT) {
    if (n->life != 0 && !n->may_be_absent)
      wrong (b->run, "object %c is gone", 'a' + name);
  } else if (err != 0)
    wrong (b->run, "size of %c: %s", 'a' + name, strerror (err));
  else if (n->life == 0)
    wrong (b->run, "object %c is there and should not be", 'a' + name);
  else if (nr_pages != n->nr_pages &&
           (nr_pages == 0 || nr_pages != n->or_pages))
    wrong (b->run, "object %c has %u pages, not %u (or %u)", 'a' + name,
           nr_pages, n->nr_pages, n->or_pages);
  else {
    if (found != NULL)
      found->name[name] = (struct expect_name){ n->life, false, nr_pages, 0 };
    view_object (&view, name, e, nr_pages);
    compare_object (b, &view, found);
  }
}

/* found: what is sure from now on. */
static void
compare (struct bench *b, const struct expect *e, struct expect *found)
{
  for (unsigned i = 0; i < MODEL_NAMES && !b->run->failed; i++)
    compare_name (b, i, e, found);
}

/* ---- opening ---- */

static int
open_store (struct bench *b)
{
  struct run *run = b->run;
  struct volume *v[DISKS_MAX];
  int err;

  for (unsigned i = 0; i < run->disks.nr; i++)
    media_open (&run->disks.image[i], i, &run->record, &v[i]);
  err = b->config->subject->open (v, run->disks.nr, &b->s);
  if (err != 0)
    b->s = NULL;
  return err;
}

static int
reopen (struct bench *b)
{
  int err = b->config->subject->close (b->s);

  b->s = NULL;
  return err != 0 ? err : open_store (b);
}

/* ---- operations ---- */

static int
do_op (struct bench *b, const struct done_op *o)
{
  switch (o->op.kind) {
  case OP_REOPEN:
    return reopen (b);
  case OP_SLEEP:
    task_sleep (SLEEP_NS);
    return 0;
  default:
    return subject_send (b->config->subject, b->s, o);
  }
}

/* The object now; life 0: there is none. */
static struct expect_name
name_now (const struct run *run, unsigned name)
{
  struct expect e;

  model_read (&run->history, RECORD_NEVER, &e);
  return e.name[name];
}

/* An operation that makes no sense is left out: a sequence stays what it is
 * whatever was done before it.
 */
static bool
makes_sense (const struct subject *subject, const struct op *op,
             const struct expect_name *now)
{
  if (op->kind == OP_SLEEP || op->kind == OP_REOPEN)
    return true;
  if (op->kind == OP_CREATE || now->life == 0)
    return op->kind == OP_CREATE && now->life == 0;
  if (op->kind == OP_RESIZE)
    return subject->resize != NULL;
  return op->first + op->nr <= now->nr_pages * PAGE_SECTORS;
}

/* May this find no space?  In a reserved object never, but to make it larger.
 */
static bool
may_fill (const struct bench *b, const struct done_op *o)
{
  const struct history *h = &b->run->history;

  if (o->op.kind == OP_RESIZE)
    return true;
  for (unsigned i = 0; i < h->nr; i++)
    if (b->config->subject->reserves && &h->op[i] != o &&
        h->op[i].op.kind == OP_CREATE && h->op[i].op.fua &&
        h->op[i].life == o->life)
      return false;
  return b->config->subject->fills;
}

static void
one_op (struct bench *b, const struct op *op)
{
  struct run *run = b->run;
  struct expect_name now = name_now (run, op->name);
  struct done_op *o;
  int err;

  if (b->s == NULL || !makes_sense (b->config->subject, op, &now) ||
      run->history.nr == MODEL_OPS_MAX)
    return;
  o = &run->history.op[run->history.nr++];
  *o = (struct done_op){ .op = *op,
                         .life = now.life,
                         .begin = record_event (&run->record),
                         .reply = RECORD_NEVER };
  if (op->kind == OP_WRITE)
    o->token = run->next_token++;
  if (op->kind == OP_CREATE)
    o->life = run->next_life++;
  err = do_op (b, o);
  o->error = err;
  o->reply = record_event (&run->record);
  sim_point (SIM_POINT_YIELD);
  if (err != 0 && !(err == ENOSPC && may_fill (b, o)))
    wrong (run, "operation %u: %s", run->history.nr, strerror (err));
}

struct client {
  struct bench *bench;
  unsigned nr;
};

static void
client_ops (struct bench *b, unsigned client)
{
  for (unsigned i = 0; i < b->config->nr_ops && !b->run->failed; i++)
    if (b->config->ops[i].client == client)
      one_op (b, &b->config->ops[i]);
}

static void
client_main (void *arg)
{
  struct client *c = arg;

  client_ops (c->bench, c->nr);
}

static void
all_ops (struct bench *b)
{
  struct client clients[CLIENTS_MAX];
  struct task *tasks[CLIENTS_MAX] = { NULL };
  unsigned last = 0;

  for (unsigned i = 0; i < b->config->nr_ops; i++)
    if (b->config->ops[i].client > last)
      last = b->config->ops[i].client;
  for (unsigned i = 1; i <= last; i++) {
    clients[i] = (struct client){ b, i };
    if (task_start ("client", client_main, &clients[i], &tasks[i]) != 0)
      abort ();
  }
  client_ops (b, 0);
  for (unsigned i = 1; i <= last; i++)
    task_join (tasks[i]);
}

/* ---- the run ---- */

static void
open_and_compare (struct bench *b)
{
  struct run *run = b->run;
  int err = open_store (b);

  if (err != 0) {
    wrong (run, "the store does not open: %s", strerror (err));
    return;
  }
  compare (b, &b->world->expect[b->world->kind], &run->history.start);
  if (!run->failed)
    run->history.opened = record_event (&run->record);
}

static void
check (struct bench *b)
{
  const struct subject *subject = b->config->subject;
  const char *bad = NULL;

  if (!b->run->failed && subject->check != NULL)
    bad = subject->check (b->s);
  if (bad != NULL)
    wrong (b->run, "check: %s", bad);
  if (b->run->record.changed_under_way)
    wrong (b->run, "a buffer was changed while it was being written");
}

/* The media as they are, by what looks at a store offline; it must not write.
 */
static void
check_media (struct bench *b, bool closed)
{
  struct run *run = b->run;
  uint64_t hash = disks_hash (&run->disks);
  struct record record = { 0 }; /* not of the run */
  struct volume *v[DISKS_MAX];
  const char *bad;

  for (unsigned i = 0; i < run->disks.nr; i++)
    media_open (&run->disks.image[i], i, &record, &v[i]);
  bad = b->config->subject->check_media (v, run->disks.nr, closed);
  /* A torn slot stays until its turn comes. */
  if (bad != NULL && !(b->world->torn && strstr (bad, "superblock slot")))
    wrong (run, "check of the %s store: %s", closed ? "closed" : "crashed",
           bad);
  if (disks_hash (&run->disks) != hash || record.nr_writes > 0)
    wrong (run, "a check has written to the media");
  for (unsigned i = 0; i < run->disks.nr; i++)
    volume_close (v[i]);
  record_free (&record);
}

static void
run_main (void *arg)
{
  struct bench *b = arg;
  struct run *run = b->run;
  struct expect e;
  int err;

  if (b->config->check_before && b->config->subject->check_media != NULL)
    check_media (b, false);
  open_and_compare (b);
  if (b->s == NULL)
    return;
  if (!run->failed)
    all_ops (b);
  if (b->s == NULL)
    return;
  if (!run->failed && run->history.nr > 0) {
    model_read (&run->history, RECORD_NEVER, &e);
    compare (b, &e, NULL);
  }
  check (b);
  err = b->config->subject->close (b->s);
  if (err != 0)
    wrong (run, "the store does not close: %s", strerror (err));
  if (!run->failed && b->config->check_after &&
      b->config->subject->check_media != NULL)
    check_media (b, true);
}

/* Before an event: what staging is. */
static void
save_staging (void *arg)
{
  struct run *run = arg;

  if (run->nr_saves == run->max_saves) {
    run->max_saves = 2 * run->max_saves + 64;
    run->saves = realloc (run->saves, run->max_saves * sizeof *run->saves);
    if (run->saves == NULL)
      abort ();
  }
  run->saves[run->nr_saves++] =
      (struct run_save){ run->record.clock, ram_save () };
}

/* A process may die at any time, so some points between the events of media
 * and requests become events, too.
 */
static void
maybe_event (void *arg)
{
  if ((sim_trace () & 31) == 0)
    record_event (&((struct run *) arg)->record);
}

static void
prepare (const struct run_config *config, const struct world *w,
         struct run *run)
{
  memset (run, 0, sizeof *run);
  run->history.strict = config->subject->strict;
  run->history.opened = RECORD_NEVER;
  run->next_token = w->next_token;
  run->next_life = w->next_life;
  disks_copy (&run->disks, &w->disks);
  if (w->pending != NULL)
    record_begin_with (&run->record, w->pending->writes, w->pending->nr_writes,
                       w->pending->blocks, w->pending->nr_blocks);
  if (!config->subject->has_staging)
    return;
  ram_begin ();
  ram_restore (w->staging);
  sim_on_point (maybe_event, run);
  if (!config->saves)
    return;
  run->record.before_event = save_staging;
  run->record.arg = run;
}

void
run_world (const struct run_config *config, const struct world *w,
           struct run *run)
{
  /* Nothing that is drawn may come again: names of lives, say. */
  struct sim_config sim = {
    .seed = config->seed,
    .random_seed =
        hash_add (w->depth, (uint64_t) w->next_life << 16 | w->next_token),
  };
  struct bench b = { .config = config, .world = w, .run = run };
  enum sim_end end;

  prepare (config, w, run);
  run_keep_log ();
  end = sim_run (&sim, run_main, &b);
  sim_on_point (NULL, NULL);
  if (run->record.before_event != NULL)
    save_staging (run); /* of the end */
  if (config->subject->has_staging)
    ram_end ();
  log_set (NULL, NULL);
  run->trace = sim_trace ();
  run->steps = sim_steps ();
  if (end != SIM_DONE) {
    wrong (run, "the run did not end (told above)");
    sim_tell (2, end);
  }
}

void
run_limit (unsigned seconds)
{
  struct itimerval timer = { .it_value.tv_sec = seconds };

  setitimer (ITIMER_PROF, &timer, NULL);
}

void
run_free (struct run *run)
{
  for (unsigned i = 0; i < run->nr_saves; i++)
    ram_put (run->saves[i].staging);
  free (run->saves);
  record_free (&run->record);
  disks_free (&run->disks);
}

void
pending_put (struct pending *p)
{
  if (p == NULL || --p->refs > 0)
    return;
  for (unsigned i = 0; i < p->nr_blocks; i++)
    block_put (p->blocks[i]);
  disks_free (&p->sure);
  free (p->writes);
  free (p->blocks);
  free (p);
}

void
world_free (struct world *w)
{
  pending_put (w->pending);
  w->pending = NULL;
  ram_put (w->staging);
  w->staging = NULL;
  disks_free (&w->disks);
}
