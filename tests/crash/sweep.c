/* SPDX-License-Identifier: BSD-2-Clause */
/* Sequences; see sweep.h.
 *
 * The alphabet has each kind of request, and places where the store has seams:
 * parts of pages, pages that overlap, the edge between two leaves of a map
 * (256 pages) and between two shards (512), runs that go past the buffers.
 */

#include <config.h>

#include "sweep.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const alphabet[] = {
  "wa0+8",      /* a page */
  "wa3+1",      /* a sector of it */
  "wa4+20",     /* from the middle of one page to that of another */
  "wa2040+24",  /* over the edge of a leaf: pages 255 to 257 */
  "wa4000+200", /* many pages, over the edge of a shard */
  "w!a0+8",     /* durable */
  "w!a2+4",     /* a durable part */
  "wa4000+120", /* so many that buffers run out, and not past them */
  "wa4000+480", /* so many that all free blocks may come and go */
  "wa8+16",     /* pages 1 and 2 */
  "ta0+16",     /* whole pages */
  "ta2+12",     /* edges too */
  "ta2040+160", /* a whole end of a leaf, and more */
  "za8+8",      /* zeros */
  "Za0+16",     /* zeros, reserved */
  "z!a4+12",    /* durable zeros */
  "fa",         /* flush */
  "wb0+8",      /* another object */
  "w!b8+8",     /* and durable there */
  "rb",         /* that object is removed */
  "cc0+40",     /* a new one is made */
  "c!c0+40",    /* and reserved */
  "wc0+8",      /* and written */
  "s",          /* timers: marks, cycles */
  "o",          /* closed, and opened again */
  "wa10240+8",  /* far away, if it is so large */
  "ta10240+8",  /* so that a leaf becomes empty */
  "Ra0+7000",   /* larger; or smaller by a leaf */
  "Rb0+7400",   /* the same, in the middle of a leaf */
  "Rc0+600",    /* larger: it needs a level more */
  "Rc0+3",      /* smaller, in the middle of what is written */
};
#define LETTERS (sizeof alphabet / sizeof alphabet[0])

static const char *const base_ops[BASES][MODEL_OPS_MAX] = {
  { "ca0+600", "cb0+520" },
  { "ca0+600", "cb0+520", "cd0+8", "ce0+8", "cf0+8", "cg0+8", "ch0+8", "wa0+24",
    "wa2040+24", "wb0+16", "fa", "wa4000+200", "ta8+8", "wb8+4", "fa", "s",
    "wa4090+12", "wb4096+8", "za2040+8" },
  { "ca0+8000",  "cb0+520",   "wa0+8",     "wa4096+8",  "wa6144+8",
    "wa8192+8",  "wa10240+8", "wa12288+8", "wa14336+8", "wa16384+8",
    "wa18432+8", "wa20480+8", "wa22528+8", "wa24576+8", "wa26624+8",
    "wa28672+8", "wa30720+8", "wa32768+8", "wa34816+8", "wa36864+8",
    "wa38912+8", "wa40960+8", "wa43008+8", "wa45056+8", "wa47104+8",
    "wa49152+8", "wa51200+8", "wa53248+8", "wa55296+8", "wa57344+8",
    "fa" },
  { "ca0+8000",   "cb0+8000",   "wa2040+16",  "wa6136+16",  "wa10232+16",
    "wa14328+16", "wa18424+16", "wa22520+16", "wa26616+16", "wa30712+16",
    "wa34808+16", "wa38904+16", "wa43000+16", "wa47096+16", "wa51192+16",
    "wa55288+16", "wb2040+16",  "wb6136+16",  "wb10232+16", "wb14328+16",
    "wb18424+16", "wb22520+16", "wb26616+16", "wb30712+16", "wb34808+16",
    "wb38904+16", "wb43000+16", "wb47096+16", "wb51192+16", "wb55288+16",
    "wb59384+16", "fa" },
};

/* ---- sequences as text ---- */

void
sweep_print (const struct sweep *s, char *text, size_t bytes)
{
  size_t at = (size_t) snprintf (text, bytes, "%u:", s->base_nr);

  for (unsigned i = 0; i < s->nr_ops && at < bytes; i++) {
    char op[64];

    op_print (&s->ops[i], op, sizeof op);
    at +=
        (size_t) snprintf (text + at, bytes - at, "%s%s", i > 0 ? "," : "", op);
  }
}

int
sweep_parse (struct sweep *s, const char *text)
{
  char copy[256], *save, *op;
  int used = 0;

  if (sscanf (text, "%u:%n", &s->base_nr, &used) != 1 || used == 0 ||
      s->base_nr >= s->x.subject->nr_bases ||
      strlen (text + used) >= sizeof copy)
    return EINVAL;
  strcpy (copy, text + used);
  s->nr_ops = 0;
  for (op = strtok_r (copy, ",", &save); op != NULL;
       op = strtok_r (NULL, ",", &save))
    if (s->nr_ops == SEQUENCE_MAX || op_parse (op, &s->ops[s->nr_ops++]) != 0)
      return EINVAL;
  return 0;
}

void
sweep_print_path (const struct sweep *s, char *text, size_t bytes)
{
  size_t at = 0;

  text[0] = '\0';
  for (unsigned i = 0; i < s->x.nr_path && at < bytes; i++) {
    const struct crash *c = &s->x.path[i];

    at += (size_t) snprintf (text + at, bytes - at, "%s%c%llu.%u",
                             i > 0 ? "/" : "",
                             c->kind == CRASH_MACHINE ? 'M' : 'P',
                             (unsigned long long) c->at, c->choice);
  }
}

int
sweep_parse_path (struct crash path[DEPTH_MAX], unsigned *nr, const char *text)
{
  *nr = 0;
  while (*text != '\0') {
    unsigned long long at;
    unsigned choice;
    char kind;
    int used;

    if (*nr == DEPTH_MAX ||
        sscanf (text, "%c%llu.%u%n", &kind, &at, &choice, &used) != 3 ||
        (kind != 'M' && kind != 'P'))
      return EINVAL;
    path[(*nr)++] = (struct crash){ kind == 'M' ? CRASH_MACHINE : CRASH_PROCESS,
                                    at, choice };
    text += used;
    text += *text == '/';
  }
  return 0;
}

/* ---- bases ---- */

bool
sweep_begin (struct sweep *s)
{
  struct explore quiet = { .subject = s->x.subject, .fd = -1 };
  unsigned i;

  for (i = 0; i < s->x.subject->nr_bases; i++) {
    struct op ops[MODEL_OPS_MAX];
    struct world empty;
    unsigned nr = 0;
    bool good;

    while (nr < MODEL_OPS_MAX && base_ops[i][nr] != NULL) {
      if (op_parse (base_ops[i][nr], &ops[nr]) != 0)
        abort ();
      nr++;
    }
    if (explore_format (s->x.subject, &empty) != 0)
      return false;
    /* A script of no crash: this run alone. */
    quiet.script = &(struct crash){ .at = RECORD_NEVER };
    good = explore_ops (&quiet, &empty, ops, nr, &s->base[i]);
    world_free (&empty);
    if (!good) {
      memcpy (s->x.why, quiet.why, sizeof s->x.why);
      return false;
    }
  }
  return true;
}

void
sweep_end (struct sweep *s)
{
  for (unsigned i = 0; i < BASES; i++)
    world_free (&s->base[i]);
}

unsigned
sweep_bases_for_long (const struct subject *subject)
{
  return subject->nr_bases < BASES_LONG ? subject->nr_bases : BASES_LONG;
}

bool
sweep_one (struct sweep *s)
{
  s->nr_sequences++;
  return explore_ops (&s->x, &s->base[s->base_nr], s->ops, s->nr_ops, NULL);
}

/* ---- the sweep ---- */

static bool
is_late (const struct sweep *s)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return s->x.deadline_ns != 0 &&
         (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec >
             s->x.deadline_ns;
}

/* The sequence with this number, of length n. */
static void
take (struct sweep *s, unsigned n, uint64_t number)
{
  s->base_nr = (unsigned) (number % s->x.subject->nr_bases);
  number /= s->x.subject->nr_bases;
  s->nr_ops = n;
  for (unsigned i = 0; i < n; i++) {
    if (op_parse (alphabet[number % LETTERS], &s->ops[i]) != 0)
      abort ();
    number /= LETTERS;
  }
}

uint64_t
sweep_how_many (const struct subject *subject, unsigned n)
{
  uint64_t nr = subject->nr_bases;

  while (n-- > 0)
    nr *= LETTERS;
  return nr;
}

/* All sequences of one operation, then of two, then of three: each once, in an
 * order that the seed says.
 */
struct all {
  unsigned n;
  uint64_t i, nr, at;
};

static void
all_begin (const struct sweep *s, struct all *all, unsigned n)
{
  all->n = n;
  all->i = 0;
  all->nr = sweep_how_many (s->x.subject, n);
  all->at = rng_mix (s->x.seed + n) % all->nr;
}

/* The next one is this process's; false: there is none any more. */
static bool
all_next (struct sweep *s, struct all *all)
{
  const uint64_t step = 7919; /* a prime that divides no number of them */

  do {
    if (all->i == all->nr && all->n == ALL_MAX)
      return false;
    if (all->i == all->nr)
      all_begin (s, all, all->n + 1);
    all->at = (all->at + step) % all->nr;
  } while (all->i++ % s->nr_parts != s->part);
  take (s, all->n, all->at);
  return true;
}

/* Something that only one client may do, with no other at a's requests. */
static bool
is_for_one (const struct sweep *s)
{
  for (unsigned i = 0; i < s->nr_ops; i++)
    if (s->ops[i].kind == OP_REOPEN ||
        (s->ops[i].kind == OP_RESIZE && s->ops[i].name == 0))
      return true;
  return false;
}

/* Half of them are of these: blocks leave maps, cycles come, blocks are used
 * again.
 */
static void
draw_again (struct sweep *s, struct rng *rng)
{
  static const char *const hot[] = { "wa0+8",      "ta0+16",     "wa10240+8",
                                     "ta10240+8",  "s",          "fa",
                                     "o",          "wa4000+120", "wa4000+480",
                                     "wa4000+480", "wa4000+480", "Ra0+300",
                                     "Ra0+1100" };

  for (unsigned i = 0; i < s->nr_ops; i++)
    if (op_parse (hot[rng_below (rng, sizeof hot / sizeof hot[0])],
                  &s->ops[i]) != 0)
      abort ();
}

/* One of this length, maybe by two or three clients at a time. */
static void
draw (struct sweep *s, struct rng *rng, unsigned n)
{
  unsigned clients = 1 + (unsigned) rng_below (rng, 3);

  take (s, n, rng_next (rng));
  if (rng_below (rng, 2) == 0)
    draw_again (s, rng);
  if (is_for_one (s))
    clients = 1;
  for (unsigned i = 0; i < n; i++)
    if (s->ops[i].kind != OP_CREATE && s->ops[i].kind != OP_REMOVE &&
        s->ops[i].name != 1 && s->ops[i].name != 2)
      s->ops[i].client = (unsigned) rng_below (rng, clients);
}

/* One of all: every state that its last operation may leave. */
static bool
try_next (struct sweep *s, const struct all *all, uint64_t deadline_ns)
{
  bool good;

  s->x.every = true;
  s->x.deadline_ns = all->n > s->whole ? deadline_ns : 0;
  good = is_late (s) || sweep_one (s);
  s->nr_all[all->n] += good && !is_late (s);
  s->x.deadline_ns = deadline_ns;
  return good;
}

static bool
try_drawn (struct sweep *s)
{
  s->x.every = false;
  s->x.points_max = s->points_max;
  return is_late (s) || sweep_one (s);
}

/* By turns, so that a short time sees some of each. */
bool
sweep_run (struct sweep *s)
{
  struct rng rng = { hash_add (s->x.seed, s->part) };
  uint64_t deadline_ns = s->x.deadline_ns;
  bool more = !s->drawn_only;
  struct all all;

  all_begin (s, &all, 1);
  for (;;) {
    more = more && all_next (s, &all);
    if (more && !try_next (s, &all, deadline_ns))
      return false;
    if (is_late (s) && (!more || all.n > s->whole))
      return true;
    draw (s, &rng, 2 + (unsigned) rng_below (&rng, 2));
    if (!try_drawn (s))
      return false;
    draw (s, &rng, 4 + (unsigned) rng_below (&rng, SEQUENCE_MAX - 3));
    if (!try_drawn (s))
      return false;
    if (s->meanwhile != NULL && !s->meanwhile (s->arg))
      return false;
  }
}
