/* SPDX-License-Identifier: BSD-2-Clause */
/* What the engine is worth, before there is a store: the model's own answers,
 * a correct store that passes, the trivial one that fails for reasons that are
 * told, and the toy's seeded errors, each caught.  Also: a failure repeats from
 * its seed and path.  (Crash states: test-states.c.)
 */

#include <config.h>

#include "sweep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "ledger.h"
#include "sim.h"

static uint64_t seed = 1;

static uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* ---- the model ---- */

static struct history h;

static struct done_op *
did (enum op_kind kind, uint32_t first, uint32_t nr, uint64_t begin,
     uint64_t reply)
{
  struct done_op *o = &h.op[h.nr++];

  *o = (struct done_op){ .op = { .kind = kind, .first = first, .nr = nr },
                         .token = (uint16_t) h.nr,
                         .life = 1,
                         .begin = begin,
                         .reply = reply };
  return o;
}

static void
fresh (void)
{
  memset (&h, 0, sizeof h);
  h.start.name[0] = (struct expect_name){ 1, false, 100, 0 };
}

/* The first two sectors' tokens that a page may have: "0.0,1.1". */
static const char *
versions (const struct expect_page *p)
{
  static char text[256];
  bool has[100] = { false };

  text[0] = '\0';
  for (unsigned i = 0; p != NULL && i < p->nr; i++)
    has[p->is[i].token[0] * 10 + p->is[i].token[1]] = true;
  for (unsigned i = 0; i < 100; i++)
    if (has[i])
      sprintf (text + strlen (text), "%s%u.%u", text[0] != '\0' ? "," : "",
               i / 10, i % 10);
  return text;
}

static const char *
page0 (enum crash_kind kind, uint64_t at)
{
  static struct expect e;

  model_crash (&h, kind, at, &e);
  return versions (expect_find (&e, 0, 0));
}

/* At a read that is over now. */
static const char *
page0_read (uint64_t begin)
{
  static struct expect e;

  model_read (&h, begin, &e);
  return versions (expect_find (&e, 0, 0));
}

static void
test_model_writes (void **state)
{
  (void) state;
  fresh ();
  did (OP_WRITE, 0, 8, 10, 20);
  did (OP_WRITE, 0, 8, 30, 40);
  assert_string_equal (page0 (CRASH_MACHINE, 5), "");
  assert_string_equal (page0 (CRASH_MACHINE, 15), "0.0,1.1");
  assert_string_equal (page0 (CRASH_PROCESS, 15), "0.0,1.1");
  assert_string_equal (page0 (CRASH_MACHINE, 25), "0.0,1.1");
  assert_string_equal (page0 (CRASH_PROCESS, 25), "1.1");
  assert_string_equal (page0 (CRASH_MACHINE, 50), "0.0,1.1,2.2");
  assert_string_equal (page0 (CRASH_PROCESS, 50), "2.2");
}

static void
test_model_parts (void **state)
{
  (void) state;
  fresh ();
  did (OP_WRITE, 0, 1, 10, 20);
  did (OP_WRITE, 1, 1, 30, 40);
  /* Never the second alone: it was made over the first. */
  assert_string_equal (page0 (CRASH_MACHINE, 50), "0.0,1.0,1.2");
  h.op[1].begin = 15; /* at the same time: then yes */
  assert_string_equal (page0 (CRASH_MACHINE, 50), "0.0,0.2,1.0,1.2");
}

static void
test_model_flush (void **state)
{
  struct done_op *f;

  (void) state;
  fresh ();
  did (OP_WRITE, 0, 8, 10, 20);
  f = did (OP_FLUSH, 0, 0, 30, 40);
  did (OP_WRITE, 0, 8, 50, 60);
  assert_string_equal (page0 (CRASH_MACHINE, 35), "0.0,1.1");
  assert_string_equal (page0 (CRASH_MACHINE, 45), "1.1");
  assert_string_equal (page0 (CRASH_MACHINE, 70), "1.1,3.3");
  f->begin = 15; /* it began before the reply: it need not cover it */
  assert_string_equal (page0 (CRASH_MACHINE, 45), "0.0,1.1");
  f->begin = 30;
  f->error = 5;
  assert_string_equal (page0 (CRASH_MACHINE, 45), "0.0,1.1");
  h.op[0].op.fua = true;
  assert_string_equal (page0 (CRASH_MACHINE, 45), "1.1");
  h.op[2].error = 5; /* failed: done or not */
  assert_string_equal (page0 (CRASH_PROCESS, 70), "1.1,3.3");
  h.op[2].error = 0;
  h.strict = true;
  assert_string_equal (page0 (CRASH_MACHINE, 70), "3.3");
}

/* Operation 1 is under way all the time, 2 is a part of its page. */
static void
test_model_read (void **state)
{
  (void) state;
  fresh ();
  did (OP_WRITE, 0, 8, 10, RECORD_NEVER);
  did (OP_WRITE, 0, 1, 20, 30);
  assert_string_equal (page0_read (15), "0.0,1.1,2.0,2.1");
  assert_string_equal (page0_read (35), "1.1,2.0,2.1");
  h.op[0].reply = 40;
  assert_string_equal (page0_read (35), "1.1,2.0,2.1");
  assert_string_equal (page0_read (45), "1.1,2.1");
}

static void
test_model_failed (void **state)
{
  (void) state;
  fresh ();
  did (OP_WRITE, 0, 1, 10, 20)->error = 5;
  did (OP_WRITE, 1, 1, 30, 40);
  assert_string_equal (page0 (CRASH_PROCESS, 50), "0.2,1.2");
  h.op[1].op.first = 0; /* it hides what has failed, which is never late */
  assert_string_equal (page0 (CRASH_PROCESS, 50), "2.0");
}

static const char *
page0_ledger (const struct expect *e)
{
  return versions (expect_find (e, 0, 0));
}

static void
test_ledger_together (void **state)
{
  static struct ledger l;
  struct done_op *f;

  (void) state;
  fresh ();
  ledger_begin (&l, &h.start, false);
  ledger_note (&l, did (OP_WRITE, 0, 8, 10, 20), LEDGER_WELL);
  did (OP_WRITE, 0, 1, 30, 50);
  did (OP_WRITE, 1, 1, 40, 60);
  ledger_note_together (&l, &h.op[1], 2, 35);
  assert_string_equal (page0_ledger (&l.live), "1.1,2.1");
  assert_string_equal (page0_ledger (&l.durable), "0.0,1.1,2.1");
  ledger_begin (&l, &h.start, false);
  ledger_note (&l, &h.op[0], LEDGER_WELL);
  ledger_note_together (&l, &h.op[1], 2, 70);
  assert_string_equal (page0_ledger (&l.live), "2.3");
  /* Not 2.0, nor 0.3: what came before them was over. */
  assert_string_equal (page0_ledger (&l.durable), "0.0,1.1,1.3,2.1,2.3");
  ledger_begin (&l, &h.start, false);
  ledger_note (&l, &h.op[0], LEDGER_WELL);
  f = did (OP_FLUSH, 0, 0, 55, 65);
  ledger_note_together (&l, &h.op[1], 3, 70);
  assert_string_equal (page0_ledger (&l.durable), "2.1,2.3");
  ledger_begin (&l, &h.start, false);
  ledger_note (&l, &h.op[0], LEDGER_WELL);
  f->error = 5;
  h.op[2].op.fua = true;
  ledger_note_together (&l, &h.op[1], 3, 70);
  assert_string_equal (page0_ledger (&l.durable), "1.3,2.3");
}

static void
test_model_trim (void **state)
{
  (void) state;
  fresh ();
  did (OP_WRITE, 0, 8, 10, 20)->op.fua = true;
  did (OP_TRIM, 1, 20, 30, 40);
  assert_string_equal (page0 (CRASH_MACHINE, 50), "1.0,1.1");
  assert_string_equal (page0 (CRASH_PROCESS, 50), "1.0");
}

static void
test_model_names (void **state)
{
  struct expect e;

  (void) state;
  fresh ();
  did (OP_WRITE, 0, 8, 10, 20)->op.fua = true;
  did (OP_REMOVE, 0, 0, 30, 40);
  model_crash (&h, CRASH_MACHINE, 35, &e);
  assert_true (e.name[0].life == 1 && e.name[0].may_be_absent);
  assert_non_null (expect_find (&e, 0, 0));
  model_crash (&h, CRASH_MACHINE, 45, &e);
  assert_int_equal (e.name[0].life, 0);
  did (OP_CREATE, 0, 50, 50, 60)->life = 2;
  model_crash (&h, CRASH_MACHINE, 55, &e);
  assert_true (e.name[0].life == 2 && e.name[0].may_be_absent);
  assert_null (expect_find (&e, 0, 0)); /* all zeros */
  model_crash (&h, CRASH_MACHINE, 65, &e);
  assert_true (e.name[0].life == 2 && !e.name[0].may_be_absent);
}

/* Old or new until it is answered; what went away does not come back. */
static void
test_model_resize (void **state)
{
  struct expect e;

  (void) state;
  fresh ();
  did (OP_WRITE, 0, 8, 10, 20)->op.fua = true;
  did (OP_WRITE, 80, 8, 10, 20)->op.fua = true; /* page 10 */
  did (OP_RESIZE, 0, 5, 30, 40);
  model_crash (&h, CRASH_MACHINE, 35, &e);
  assert_true (e.name[0].nr_pages == 100 && e.name[0].or_pages == 5);
  assert_string_equal (versions (expect_find (&e, 0, 10)), "2.2");
  model_crash (&h, CRASH_MACHINE, 45, &e);
  assert_true (e.name[0].nr_pages == 5 && e.name[0].or_pages == 0);
  did (OP_RESIZE, 0, 50, 50, 60);
  model_crash (&h, CRASH_MACHINE, 55, &e);
  assert_true (e.name[0].nr_pages == 5 && e.name[0].or_pages == 50);
  assert_string_equal (versions (expect_find (&e, 0, 10)), "0.0");
  did (OP_WRITE, 80, 8, 70, 80);
  model_crash (&h, CRASH_MACHINE, 90, &e);
  assert_true (e.name[0].nr_pages == 50 && e.name[0].or_pages == 0);
  assert_string_equal (versions (expect_find (&e, 0, 10)), "0.0,5.5");
  assert_string_equal (versions (expect_find (&e, 0, 0)), "1.1");
  did (OP_RESIZE, 0, 70, 95, 99)->error = ENOSPC;
  model_crash (&h, CRASH_MACHINE, 100, &e);
  assert_true (e.name[0].nr_pages == 50 && e.name[0].or_pages == 0);
}

static void
test_content (void **state)
{
  static uint8_t page[PAGE_BYTES];
  struct where here = { 1, 7 }, there = { 1, 8 }, other = { 2, 7 };
  struct content c;
  char why[200];

  (void) state;
  for (unsigned i = 0; i < PAGE_SECTORS; i++)
    content_fill (i % 3, &here, i, page + i * SECTOR_BYTES);
  assert_true (content_parse (page, &here, &c, why));
  for (unsigned i = 0; i < PAGE_SECTORS; i++)
    assert_int_equal (c.token[i], i % 3);
  assert_false (content_parse (page, &there, &c, why));
  assert_non_null (strstr (why, "operation 1 for life 1, page 7"));
  assert_false (content_parse (page, &other, &c, why));
  page[SECTOR_BYTES + 300] ^= 1;
  assert_false (content_parse (page, &here, &c, why));
}

/* ---- whole stores ---- */

/* Not by time: what a seed finds, it finds on a slow machine too. */
static uint64_t sequences_max;

static bool
is_more (void *arg)
{
  return ((const struct sweep *) arg)->nr_sequences < sequences_max;
}

/* False: a failure, and s->x.why says which. */
static bool
sweep (struct sweep *s, const struct subject *subject, uint64_t nr_sequences)
{
  memset (s, 0, sizeof *s);
  s->x.subject = subject;
  s->x.seed = seed;
  s->x.seen = seen_new (22);
  s->x.states_max = 12;
  s->x.inner_max = 2;
  s->nr_parts = 1;
  s->meanwhile = is_more;
  s->arg = s;
  sequences_max = nr_sequences;
  return sweep_begin (s) && (sweep_run (s) || s->x.why[0] == '\0');
}

static void
sweep_over (struct sweep *s)
{
  sweep_end (s);
  seen_free (s->x.seen);
}

/* The failure of s again, by its text alone; also told, to a file. */
static void
again (struct sweep *s)
{
  static char text[256], path[256], told[65536];
  struct crash script[DEPTH_MAX];
  struct sweep t = *s;
  FILE *f = tmpfile ();
  size_t n;

  sweep_print (s, text, sizeof text);
  sweep_print_path (s, path, sizeof path);
  assert_int_equal (sweep_parse (&t, text), 0);
  assert_int_equal (sweep_parse_path (script, &t.x.nr_script, path), 0);
  t.x.script = script;
  t.x.fd = fileno (f);
  t.x.why[0] = '\0';
  assert_false (sweep_one (&t));
  assert_string_equal (t.x.why, s->x.why);
  rewind (f);
  n = fread (told, 1, sizeof told - 1, f);
  told[n] = '\0';
  assert_non_null (strstr (told, "WRONG: "));
  assert_true (strstr (told, " DIES") != NULL || t.x.nr_script == 0);
  fclose (f);
}

static struct sweep s;

static void
test_toy_passes (void **state)
{
  uint64_t begin_ns = now_ns ();

  (void) state;
  toy_error = TOY_GOOD;
  if (!sweep (&s, &toy_subject, 400))
    fail_msg ("%s", s.x.why);
  print_message ("%.0f us a run\n", (double) (now_ns () - begin_ns) / 1e3 /
                                        (double) s.x.stat.nr_runs);
  assert_true (s.x.stat.nr_by_depth[3] > 0);
  assert_true (s.x.stat.nr_by_kind[CRASH_PROCESS] > 0);
  sweep_over (&s);
}

static void
test_trivial_fails (void **state)
{
  (void) state;
  assert_false (sweep (&s, &trivial_subject, 1000));
  print_message ("trivial: %s\n", s.x.why);
  /* A page is neither old nor new: nothing else is wrong with it. */
  assert_non_null (strstr (s.x.why, "(operations by sector), allowed"));
  again (&s);
  sweep_over (&s);
}

static void
test_toy_errors (void **state)
{
  /* A sign of what was wrong, where there is but one. */
  static const char *const why[TOY_ERRORS] = {
    [TOY_NO_FLUSH] = "",         [TOY_NO_CRC] = "sector",
    [TOY_NO_EPOCH] = "",         [TOY_FUA_IGNORED] = "allowed: [",
    [TOY_LAZY_NAMES] = "object", [TOY_EARLY_REPLY] = "allowed: [",
    [TOY_NO_OPEN_FLUSH] = "",    [TOY_EARLY_FLUSH] = "",
  };

  (void) state;
  for (toy_error = TOY_GOOD + 1; toy_error < TOY_ERRORS; toy_error++) {
    uint64_t begin_ns = now_ns ();

    if (sweep (&s, &toy_subject, 20000))
      fail_msg ("toy error %d was not caught", toy_error);
    print_message ("toy error %d after %.2f s: %s\n", toy_error,
                   (double) (now_ns () - begin_ns) / 1e9, s.x.why);
    assert_non_null (strstr (s.x.why, why[toy_error]));
    again (&s);
    sweep_over (&s);
  }
  toy_error = TOY_GOOD;
}

/* All of a run is the same from the same seed, another from another. */
static void
test_runs_repeat (void **state)
{
  struct run_config config = { .subject = &toy_subject };
  uint64_t traces[20];
  struct run run;

  (void) state;
  memset (&s, 0, sizeof s);
  s.x.subject = &toy_subject;
  assert_true (sweep_begin (&s));
  assert_int_equal (sweep_parse (&s, "1:wa0+8,wa4+20@1,fa@1,s,rb,w!a2+4"), 0);
  config.ops = s.ops;
  config.nr_ops = s.nr_ops;
  for (unsigned i = 0; i < 20; i++) {
    uint64_t hash;

    config.seed = i;
    run_world (&config, &s.base[1], &run);
    assert_false (run.failed);
    traces[i] = run.trace;
    hash = disks_hash (&run.disks);
    run_free (&run);
    free (malloc (i * 100)); /* the heap is not the same */
    run_world (&config, &s.base[1], &run);
    assert_int_equal (run.trace, traces[i]);
    assert_int_equal (disks_hash (&run.disks), hash);
    run_free (&run);
    for (unsigned j = 0; j < i; j++)
      assert_int_not_equal (traces[j], traces[i]);
  }
  sweep_end (&s);
}

static int
end (void **state)
{
  (void) state;
  sim_free ();
  blocks_free ();
  return 0;
}

int
main (void)
{
#define T(f) cmocka_unit_test (f)
  const struct CMUnitTest tests[] = {
    T (test_model_writes),  T (test_model_parts),  T (test_model_flush),
    T (test_model_read),    T (test_model_failed), T (test_ledger_together),
    T (test_model_trim),    T (test_model_resize), T (test_model_names),
    T (test_content),       T (test_runs_repeat),  T (test_toy_passes),
    T (test_trivial_fails), T (test_toy_errors),
  };
  const char *given = getenv ("FARPAGE_SEED");

  if (given != NULL)
    seed = strtoull (given, NULL, 0);
  else
    seed = now_ns ();
  printf ("seed %llu (FARPAGE_SEED)\n", (unsigned long long) seed);
  return cmocka_run_group_tests (tests, NULL, end);
}
