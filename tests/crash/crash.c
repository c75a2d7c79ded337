/* SPDX-License-Identifier: BSD-2-Clause */
/* The sweep as a program: crash --help.
 *
 *   sweep     several processes, each a part of the sequences, one table of
 *             what was seen
 *   sabotage  the same with one rule broken in the core: it must fail; and
 *             not with none
 *   replay    one sequence and one way of crashes, told in words
 *
 * A failure, also an assertion or a signal in the store, is told with the
 * command that shows it again.  Exit status: 0 as it should be, 1 not, 2 wrong
 * use.
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pack.h"
#include "starve.h"
#include "switches.h"
#include "tables.h"

static const struct subject *const subjects[] = {
  &store_subject, &plain_subject, &strict_subject,
  &huge_subject,  &toy_subject,   &trivial_subject
};
#define CONTROL_S   10.0 /* of the sweep with no rule broken */
#define NR_SUBJECTS (sizeof subjects / sizeof subjects[0])

static struct {
  uint64_t min_distinct;
  unsigned nr_rotated;
  bool sabotage_all, faults, oom;
  unsigned nr_parts, way;
  uint64_t memory;
  const char *replay, *path, *fault, *cut;
} options = { .path = "", .nr_parts = FAULT_PARTS, .way = STARVE_WAYS };

static struct pack_config config = {
  .seconds = 10, .nr_procs = 2, .points_max = 8, .states_max = 3, .inner_max = 1
};

static struct sweep sweep;

static uint64_t
number (const char *text, uint64_t max)
{
  char *end;
  uint64_t n;

  errno = 0;
  n = strtoull (text, &end, 0);
  if (errno != 0 || *end != '\0' || end == text || n > max) {
    fprintf (stderr, "crash: not a number, or too big: %s\n", text);
    exit (2);
  }
  return n;
}

static void
print_stats (const struct pack *p, double seconds, uint64_t *nr_distinct)
{
  struct report r;

  pack_sum (p, &r);
  printf ("%s: %" PRIu64 " sequences; every state of", config.subject->name,
          r.nr_sequences);
  for (unsigned i = 1; i <= ALL_MAX; i++)
    printf ("%s length %u: %" PRIu64 " of %" PRIu64, i > 1 ? "," : "", i,
            r.nr_all[i], sweep_how_many (config.subject, i));
  printf ("\n%" PRIu64 " crash states, %" PRIu64 " distinct (by depth:",
          r.stat.nr_states, r.stat.nr_distinct);
  for (unsigned i = 1; i <= DEPTH_MAX; i++)
    printf (" %" PRIu64, r.stat.nr_by_depth[i]);
  printf ("; machine %" PRIu64 ", process %" PRIu64 ")\n",
          r.stat.nr_by_kind[CRASH_MACHINE], r.stat.nr_by_kind[CRASH_PROCESS]);
  printf ("%" PRIu64 " openings in %.1f s, %.0f us of a processor each; %.0f "
          "distinct states a second with %u processes\n",
          r.stat.nr_runs, seconds,
          r.cpu_seconds * 1e6 / (double) (r.stat.nr_runs + 1),
          (double) r.stat.nr_distinct / seconds, config.nr_procs);
  printf ("of them %" PRIu64 " of %" PRIu64 " runs of %u requests, %" PRIu64
          " met a fault when they were opened\n",
          r.nr_cuts, r.nr_long, LONG_REQUESTS, r.nr_tried);
  *nr_distinct = r.stat.nr_distinct;
}

/* ---- what the program does ---- */

static bool
begin_alone (void)
{
  pack_catch_signals (&sweep, &config);
  if (pack_sweep_begin (&sweep, &config, NULL, 0))
    return true;
  fprintf (stderr, "crash: the beginning fails: %s\n", sweep.x.why);
  return false;
}

static int
replay (const char *sequence, const char *path)
{
  struct crash script[DEPTH_MAX];

  if (!begin_alone ())
    return 1;
  if (sweep_parse (&sweep, sequence) != 0 ||
      sweep_parse_path (script, &sweep.x.nr_script, path) != 0) {
    fprintf (stderr, "crash: no such sequence or path\n");
    return 2;
  }
  sweep.x.fd = 2;
  sweep.x.script = script;
  if (sweep_one (&sweep)) {
    fprintf (stderr, "all is well on this way\n");
    return 0;
  }
  return 1;
}

static void
tell_failure (const struct report *r)
{
  char what[600];

  config.subject = r->subject;
  fflush (stdout);
  fprintf (stderr, "FAIL after %.1f s: %s\n", r->seconds, r->why);
  if (r->option[0] != '\0')
    snprintf (what, sizeof what, "%s", r->option);
  else {
    snprintf (what, sizeof what, "--replay %s --path '%s'", r->sequence,
              r->path);
    replay (r->sequence, r->path);
  }
  pack_tell_command (&config, what);
}

static int
plain_sweep (void)
{
  const struct report *failed;
  double begin = pack_now_s ();
  uint64_t nr_distinct;
  struct pack p;
  bool good;

  pack_start (&p, &config);
  good = pack_wait (&p, &failed);
  print_stats (&p, pack_now_s () - begin, &nr_distinct);
  if (failed != NULL)
    tell_failure (failed);
  if (seen_is_full (p.seen)) {
    fprintf (stderr, "FAIL: more states than the table has places for\n");
    good = false;
  }
  pack_end (&p);
  if (good && nr_distinct < options.min_distinct) {
    fprintf (stderr, "FAIL: fewer than %" PRIu64 " distinct states\n",
             options.min_distinct);
    good = false;
  }
  return good ? 0 : 1;
}

/* That those who have ended have used. */
static double
cpu_s (void)
{
  struct rusage u;

  getrusage (RUSAGE_CHILDREN, &u);
  return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* With this rule broken the sweep must fail. */
static bool
is_caught (enum sabotage sabotage)
{
  const struct report *failed;
  double begin = pack_now_s (), cpu = cpu_s ();
  struct pack p;
  bool good;

  sabotage_on = sabotage;
  pack_start (&p, &config);
  good = pack_wait (&p, &failed);
  printf ("%s %-22s %5.1f s, of processors %5.1f  %s\n",
          good ? "NOT CAUGHT" : "caught", sabotage_name (sabotage),
          pack_now_s () - begin, cpu_s () - cpu,
          good             ? sabotage_rule (sabotage)
          : failed != NULL ? failed->why
                           : "(stopped: told above)");
  pack_end (&p);
  sabotage_on = SABOTAGE_NONE;
  return !good;
}

/* What fails with no rule broken would pass for having caught each. */
static bool
is_well_alone (enum sabotage sabotage)
{
  double seconds = config.seconds;
  bool well;

  sabotage_on = SABOTAGE_NONE;
  config.seconds = seconds < CONTROL_S ? seconds : CONTROL_S;
  well = plain_sweep () == 0;
  config.seconds = seconds;
  sabotage_on = sabotage;
  return well;
}

static int
sabotage_sweep (void)
{
  unsigned nr = SABOTAGE_NR - 1, nr_tried = nr, nr_caught = 0;
  unsigned first;

  first = (unsigned) (rng_mix (config.seed) % nr);
  if (sabotage_on != SABOTAGE_NONE)
    first = sabotage_on - 1;
  config.faults = true;
  if (!is_well_alone (sabotage_on))
    return 1;
  if (options.nr_rotated > 0 && options.nr_rotated < nr)
    nr_tried = options.nr_rotated;
  for (unsigned i = 0; i < nr_tried; i++)
    nr_caught += is_caught ((enum sabotage) (1 + (first + i) % nr));
  printf ("%u of %u broken rules were caught\n", nr_caught, nr_tried);
  return nr_caught == nr_tried ? 0 : 1;
}

/* ---- faults ---- */

static int
fail_with (const char *at, const char *why, const char *option)
{
  fflush (stdout);
  fprintf (stderr, "FAIL: %s: %s\n", at, why);
  run_print_log (2);
  pack_tell_command (&config, option);
  return 1;
}

static void
print_faults (const struct faults *f, double seconds)
{
  uint64_t tried = 0, places = 0;

  for (unsigned i = 0; i < MEDIA_FAULTS; i++) {
    printf ("%-18s %6" PRIu64 " of %6" PRIu64 " places, %" PRIu64
            " stores failed, %" PRIu64 " refused after\n",
            media_fault_names[i], f->nr_tried[i], f->nr_places[i],
            f->nr_lost[i], f->nr_refused[i]);
    tried += f->nr_tried[i];
    places += f->nr_places[i];
  }
  printf ("%s: places x kinds: %" PRIu64 " of %" PRIu64 ", %u I/Os, %" PRIu64
          " rows retired, %.1f s\n",
          f->subject->name, tried, places, f->nr_io, f->nr_retired, seconds);
}

static void
doing_fault (const char *what)
{
  char text[80];

  snprintf (text, sizeof text, "--fault %s", what);
  pack_doing (text);
  run_limit (RUN_S_MAX);
}

/* So many parts of all there are, or until the time is up. */
static int
try_faults (void)
{
  struct faults f = {
    .subject = config.subject,
    .seed = config.seed,
    .base = &sweep.base[sweep_bases_for_long (config.subject) - 1],
    .doing = doing_fault
  };
  double begin = pack_now_s ();
  char option[128];
  bool good = true;

  f.deadline_ns = (uint64_t) ((begin + config.seconds) * 1e9);
  if (options.fault == NULL && !faults_begin (&f))
    return fail_with ("no fault", f.why, "--faults --parts 0");
  if (options.fault != NULL) {
    int err = faults_given (&f, options.fault);

    if (err != EIO)
      printf ("%s: %s\n", options.fault, err == 0 ? "all is well" : "none");
    if (err != EIO)
      return err == 0 ? 0 : 2;
    good = false;
  }
  for (unsigned i = 0; i < options.nr_parts && good; i++)
    if (pack_now_s () - begin < config.seconds)
      good = faults_part (&f, i);
  run_limit (0);
  if (options.fault == NULL)
    print_faults (&f, pack_now_s () - begin);
  snprintf (option, sizeof option, "--fault %s", f.what);
  faults_end (&f);
  return good ? 0 : fail_with (f.what, f.why, option);
}

/* ---- memory ---- */

/* Each request for memory in turn, from options.memory on. */
static int
try_memory (enum starve_way way)
{
  struct starve s = {
    .subject = config.subject,
    .seed = config.seed,
    .base = &sweep.base[sweep_bases_for_long (config.subject) - 1],
    .way = way
  };
  uint64_t n = options.memory, nr_hit = 0, nr_missed = 0;
  bool good = starve_begin (&s), hit;
  char what[80] = "";

  for (; good && nr_missed < 8; n++) {
    snprintf (what, sizeof what, "--memory-way %u --memory-from %" PRIu64, way,
              n);
    pack_doing (what);
    run_limit (RUN_S_MAX);
    good = starve_try (&s, n, &hit);
    nr_hit += hit;
    nr_missed = hit ? 0 : nr_missed + 1;
  }
  run_limit (0);
  printf ("%s, %s: memory failed at %" PRIu64 " places\n", s.subject->name,
          starve_names[way], nr_hit);
  return good ? 0 : fail_with (starve_names[way], s.why, what);
}

static int
try_memory_all (void)
{
  int status = 0;

  for (unsigned way = 0; way < STARVE_WAYS && status == 0; way++)
    if (options.way == STARVE_WAYS || options.way == way)
      status = try_memory ((enum starve_way) way);
  return status;
}

/* ---- one crash of a long run ---- */

static int
try_cut (void)
{
  struct cuts c = { .subject = config.subject,
                    .base = sweep.base,
                    .nr_bases = sweep_bases_for_long (config.subject) };
  int err = cuts_given (&c, options.cut);

  if (err == EINVAL) {
    fprintf (stderr, "crash: no such run: %s\n", options.cut);
    return 2;
  }
  if (err == 0) {
    printf ("all is well\n");
    return 0;
  }
  fprintf (stderr, "FAIL: %s: %s\n", c.what, c.why);
  run_print_log (2);
  return 1;
}

/* ---- options ---- */

static const char help[] =
    "usage: crash [OPTION]...\n"
    "  --subject NAME     store (with staging), plain (without),\n"
    "                     strict, huge, toy, trivial\n"
    "  --seconds N        of the sweep, or until a sabotage counts as missed\n"
    "  --seed N           of all choices; random, and printed, without it\n"
    "  --procs N          processes (2)\n"
    "  --whole N          all sequences of up to N operations, however long it\n"
    "                     takes\n"
    "  --points N         of a drawn sequence where it crashes; 0: all (8)\n"
    "  --states N         states of such a point, at most; 0: all (3)\n"
    "  --inner N          states of a point in a recovery (1)\n"
    "  --min-distinct N   fail with fewer distinct states\n"
    "  --sabotage NAME    break this rule; the sweep then must not fail, so\n"
    "                     this is for looking\n"
    "  --sabotage-all     break each in turn; each must be caught\n"
    "  --sabotage-some N  N of them, by the seed, or from --sabotage on\n"
    "  --toy-error N      an error of the toy store\n"
    "  --faults           every fault of media at every I/O of 500 requests\n"
    "  --parts N          N of 64 parts of these\n"
    "  --fault KIND:N     this one, or KIND:N:SEED:REQUESTS\n"
    "  --memory-from N    every request for memory fails in turn, from N on\n"
    "  --memory-way W     0 to 3: of recovery, open, check (closed, crashed)\n"
    "  --cut SEED:PATH    crashes of a long run, as printed by a failure\n"
    "  --replay SEQUENCE --path PATH   as printed by a failure\n";

enum {
  O_SUBJECT = 256,
  O_SECONDS,
  O_SEED,
  O_PROCS,
  O_WHOLE,
  O_POINTS,
  O_STATES,
  O_INNER,
  O_DISTINCT,
  O_SABOTAGE,
  O_SABOTAGE_ALL,
  O_SABOTAGE_SOME,
  O_TOY_ERROR,
  O_MEMORY,
  O_FAULTS,
  O_FAULT,
  O_PARTS,
  O_WAY,
  O_CUT,
  O_REPLAY,
  O_PATH,
  O_HELP,
};

static const struct option longs[] = {
  { "subject", required_argument, NULL, O_SUBJECT },
  { "seconds", required_argument, NULL, O_SECONDS },
  { "seed", required_argument, NULL, O_SEED },
  { "procs", required_argument, NULL, O_PROCS },
  { "whole", required_argument, NULL, O_WHOLE },
  { "points", required_argument, NULL, O_POINTS },
  { "states", required_argument, NULL, O_STATES },
  { "inner", required_argument, NULL, O_INNER },
  { "min-distinct", required_argument, NULL, O_DISTINCT },
  { "sabotage", required_argument, NULL, O_SABOTAGE },
  { "sabotage-all", no_argument, NULL, O_SABOTAGE_ALL },
  { "sabotage-some", required_argument, NULL, O_SABOTAGE_SOME },
  { "toy-error", required_argument, NULL, O_TOY_ERROR },
  { "memory-from", required_argument, NULL, O_MEMORY },
  { "faults", no_argument, NULL, O_FAULTS },
  { "fault", required_argument, NULL, O_FAULT },
  { "parts", required_argument, NULL, O_PARTS },
  { "memory-way", required_argument, NULL, O_WAY },
  { "cut", required_argument, NULL, O_CUT },
  { "replay", required_argument, NULL, O_REPLAY },
  { "path", required_argument, NULL, O_PATH },
  { "help", no_argument, NULL, O_HELP },
  { NULL, 0, NULL, 0 },
};

static const struct subject *
find_subject (const char *name)
{
  for (unsigned i = 0; i < NR_SUBJECTS; i++)
    if (strcmp (subjects[i]->name, name) == 0)
      return subjects[i];
  return NULL;
}

static void
set_number (int c, const char *text)
{
  switch (c) {
  case O_SECONDS:
    config.seconds = (double) number (text, 10000000);
    break;
  case O_SEED:
    config.seed = number (text, UINT64_MAX);
    break;
  case O_PROCS:
    config.nr_procs = (unsigned) number (text, PROCS_MAX);
    break;
  case O_WHOLE:
    config.whole = (unsigned) number (text, ALL_MAX);
    break;
  case O_POINTS:
    config.points_max = (unsigned) number (text, UINT32_MAX);
    break;
  case O_STATES:
    config.states_max = (unsigned) number (text, UINT32_MAX);
    break;
  case O_INNER:
    config.inner_max = (unsigned) number (text, UINT32_MAX);
    break;
  case O_DISTINCT:
    options.min_distinct = number (text, UINT64_MAX);
    break;
  case O_PARTS:
    options.nr_parts = (unsigned) number (text, FAULT_PARTS);
    break;
  case O_WAY:
    options.way = (unsigned) number (text, STARVE_WAYS - 1);
    break;
  case O_SABOTAGE_SOME:
    options.nr_rotated = (unsigned) number (text, UINT32_MAX);
    break;
  default:
    toy_error = (enum toy_error) number (text, TOY_ERRORS - 1);
  }
}

static void
set_option (int c, const char *text)
{
  switch (c) {
  case O_SUBJECT:
    config.subject = find_subject (text);
    break;
  case O_SABOTAGE:
    sabotage_on = sabotage_find (text);
    break;
  case O_SABOTAGE_ALL:
    options.sabotage_all = true;
    break;
  case O_MEMORY:
    options.memory = number (text, UINT32_MAX);
    options.faults = options.oom = true;
    break;
  case O_FAULTS:
    options.faults = true;
    break;
  case O_FAULT:
    options.faults = true;
    options.fault = text;
    break;
  case O_CUT:
    options.cut = text;
    break;
  case O_REPLAY:
    options.replay = text;
    break;
  case O_PATH:
    options.path = text;
    break;
  case O_HELP:
    fputs (help, stdout);
    exit (0);
  case '?':
    exit (2);
  default:
    set_number (c, text);
  }
}

int
main (int argc, char **argv)
{
  const char *given = getenv ("FARPAGE_SEED");
  int c;

  config.seed = given != NULL
                    ? number (given, UINT64_MAX)
                    : rng_mix ((uint64_t) (pack_now_s () * 1e9)) >> 32;
  config.subject = subjects[0];
  tables_tune ();
  while ((c = getopt_long (argc, argv, "", longs, NULL)) != -1)
    set_option (c, optarg);
  if (optind != argc || config.subject == NULL || config.nr_procs == 0 ||
      sabotage_on == SABOTAGE_NR) {
    fputs (help, stderr);
    return 2;
  }
  if (options.replay != NULL)
    return replay (options.replay, options.path);
  printf ("seed %" PRIu64 " (--seed, FARPAGE_SEED)\n", config.seed);
  if ((options.faults || options.cut != NULL) && !begin_alone ())
    return 1;
  if (options.cut != NULL)
    return try_cut ();
  if (options.faults)
    return options.oom ? try_memory_all () : try_faults ();
  if (options.sabotage_all || options.nr_rotated > 0)
    return sabotage_sweep ();
  return plain_sweep ();
}
