/* SPDX-License-Identifier: BSD-2-Clause */
/* The sweep as a program: crash --help.
 *
 *   sweep     several processes, each a part of the sequences, one table of
 *             what was seen
 *   sabotage  the same with one rule broken in the core: it must fail
 *   replay    one sequence and one way of crashes, told in words
 *
 * A failure, also an assertion or a signal in the store, is told with the
 * command that shows it again.  Exit status: 0 as it should be, 1 not, 2 wrong
 * use.
 */

#include <config.h>

#include <errno.h>
#include <execinfo.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"
#include "sim.h"
#include "sweep.h"
#include "switches.h"
#include "tables.h"

#define PROCS_MAX  64u
#define RUN_S_MAX  60u /* of real time for one run */
#define SEEN_SHIFT 25u

static const struct subject *const subjects[] = { &store_subject,
                                                  &plain_subject,
                                                  &strict_subject, &toy_subject,
                                                  &trivial_subject };
#define NR_SUBJECTS (sizeof subjects / sizeof subjects[0])

static struct {
  double seconds;
  uint64_t seed, min_distinct;
  unsigned nr_procs, states_max, inner_max, nr_rotated;
  bool sabotage_all, faults;
  const char *replay, *path, *fault;
} options = {
  .seconds = 10, .nr_procs = 2, .states_max = 12, .inner_max = 2, .path = ""
};

/* What a process tells the others. */
struct report {
  struct explore_stat stat;
  uint64_t nr_sequences, nr_all[ALL_MAX + 1];
  bool failed;
  double seconds, cpu_seconds; /* to the end, or the failure */
  char why[RUN_WHY_BYTES], sequence[256], path[256];
};

static struct sweep sweep;

static double
clock_s (clockid_t clock)
{
  struct timespec ts;

  clock_gettime (clock, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static double
now_s (void)
{
  return clock_s (CLOCK_MONOTONIC);
}

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

/* ---- telling ---- */

static void
tell_command (const char *sequence, const char *path)
{
  dprintf (2, "again: ./crash --subject %s --seed %" PRIu64,
           sweep.x.subject->name, options.seed);
  if (sabotage_on != SABOTAGE_NONE)
    dprintf (2, " --sabotage %s", sabotage_name (sabotage_on));
  if (toy_error != TOY_GOOD)
    dprintf (2, " --toy-error %d", (int) toy_error);
  dprintf (2, " --replay %s --path '%s'\n", sequence, path);
}

/* The store was stopped by an assertion, a signal, or by never ending. */
static void
on_signal (int sig)
{
  static char sequence[256], path[256];
  static void *frames[32];

  signal (sig, SIG_DFL);
  sweep_print (&sweep, sequence, sizeof sequence);
  sweep_print_path (&sweep, path, sizeof path);
  dprintf (2, "%s in sequence %s after crashes '%s'\n",
           sig == SIGALRM ? "no end" : strsignal (sig), sequence, path);
  run_print_log (2);
  backtrace_symbols_fd (frames, backtrace (frames, 32), 2);
  tell_command (sequence, path);
  _exit (1);
}

static void
catch_signals (void)
{
  static const int sigs[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM };
  static uint8_t stack[65536];
  struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
  stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };

  sigaltstack (&ss, NULL);
  for (unsigned i = 0; i < sizeof sigs / sizeof sigs[0]; i++)
    sigaction (sigs[i], &sa, NULL);
}

/* ---- one process ---- */

static void
sweep_prepare (struct seen *seen, unsigned part, unsigned nr_parts)
{
  sweep.x.seen = seen;
  sweep.x.seed = options.seed;
  sweep.x.states_max = options.states_max;
  sweep.x.inner_max = options.inner_max;
  sweep.x.run_s_max = RUN_S_MAX;
  sweep.x.fd = -1;
  sweep.part = part;
  sweep.nr_parts = nr_parts;
}

static int
work (struct report *report, struct seen *seen, unsigned part,
      unsigned nr_parts)
{
  double begin = now_s ();

  sweep_prepare (seen, part, nr_parts);
  sweep.x.deadline_ns = (uint64_t) ((begin + options.seconds) * 1e9);
  catch_signals ();
  report->failed = !sweep_begin (&sweep) || !sweep_run (&sweep);
  report->seconds = now_s () - begin;
  report->cpu_seconds = clock_s (CLOCK_PROCESS_CPUTIME_ID);
  report->stat = sweep.x.stat;
  report->nr_sequences = sweep.nr_sequences;
  memcpy (report->nr_all, sweep.nr_all, sizeof report->nr_all);
  memcpy (report->why, sweep.x.why, sizeof report->why);
  sweep_print (&sweep, report->sequence, sizeof report->sequence);
  sweep_print_path (&sweep, report->path, sizeof report->path);
  return report->failed;
}

/* ---- several processes ---- */

struct pack {
  struct report *report; /* one a process, shared */
  struct seen *seen;
  pid_t pid[PROCS_MAX];
  unsigned nr;
};

static void
pack_start (struct pack *p, unsigned nr)
{
  p->nr = nr;
  p->seen = seen_new (SEEN_SHIFT);
  p->report = mmap (NULL, nr * sizeof *p->report, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p->report == MAP_FAILED)
    abort ();
  fflush (stdout);
  for (unsigned i = 0; i < nr; i++) {
    p->pid[i] = fork ();
    if (p->pid[i] == -1)
      abort ();
    if (p->pid[i] == 0)
      _exit (work (&p->report[i], p->seen, i, nr));
  }
}

/* Until all are over, or the first has failed, and the others are stopped. */
static bool
pack_wait (struct pack *p, const struct report **failed)
{
  bool good = true;

  *failed = NULL;
  for (unsigned left = p->nr; left > 0; left--) {
    int status = 0;
    pid_t pid = wait (&status);
    bool bad = !WIFEXITED (status) || WEXITSTATUS (status) != 0;

    for (unsigned i = 0; i < p->nr; i++) {
      if (p->pid[i] == pid) {
        p->pid[i] = 0;
        if (bad && good && p->report[i].failed)
          *failed = &p->report[i];
      } else if (bad && good && p->pid[i] > 0)
        kill (p->pid[i], SIGKILL);
    }
    good &= !bad;
  }
  return good;
}

static void
pack_end (struct pack *p)
{
  munmap (p->report, p->nr * sizeof *p->report);
  seen_free (p->seen);
}

static void
add_stats (const struct pack *p, struct report *to)
{
  memset (to, 0, sizeof *to);
  for (unsigned i = 0; i < p->nr; i++) {
    const struct report *r = &p->report[i];

    to->nr_sequences += r->nr_sequences;
    to->cpu_seconds += r->cpu_seconds;
    for (unsigned j = 1; j <= ALL_MAX; j++)
      to->nr_all[j] += r->nr_all[j];
    to->stat.nr_runs += r->stat.nr_runs;
    to->stat.nr_states += r->stat.nr_states;
    to->stat.nr_distinct += r->stat.nr_distinct;
    for (unsigned j = 0; j <= DEPTH_MAX; j++)
      to->stat.nr_by_depth[j] += r->stat.nr_by_depth[j];
    for (unsigned j = 0; j < CRASH_KINDS; j++)
      to->stat.nr_by_kind[j] += r->stat.nr_by_kind[j];
  }
}

static void
print_stats (const struct pack *p, double seconds, uint64_t *nr_distinct)
{
  struct report r;

  add_stats (p, &r);
  printf ("%s: %" PRIu64 " sequences", sweep.x.subject->name, r.nr_sequences);
  for (unsigned i = 1; i <= ALL_MAX; i++)
    printf ("%s %" PRIu64 " of %" PRIu64 " of %u",
            i > 1 ? "," : " (all:", r.nr_all[i], sweep_how_many (i), i);
  printf (")\n%" PRIu64 " crash states, %" PRIu64 " distinct (by depth:",
          r.stat.nr_states, r.stat.nr_distinct);
  for (unsigned i = 1; i <= DEPTH_MAX; i++)
    printf (" %" PRIu64, r.stat.nr_by_depth[i]);
  printf ("; machine %" PRIu64 ", process %" PRIu64 ")\n",
          r.stat.nr_by_kind[CRASH_MACHINE], r.stat.nr_by_kind[CRASH_PROCESS]);
  printf ("%" PRIu64 " openings in %.1f s, %.0f us of a processor each; %.0f "
          "distinct states a second with %u processes\n",
          r.stat.nr_runs, seconds,
          r.cpu_seconds * 1e6 / (double) (r.stat.nr_runs + 1),
          (double) r.stat.nr_distinct / seconds, p->nr);
  *nr_distinct = r.stat.nr_distinct;
}

/* ---- what the program does ---- */

static int
replay (const char *sequence, const char *path)
{
  struct crash script[DEPTH_MAX];

  sweep_prepare (NULL, 0, 1);
  if (sweep_parse (&sweep, sequence) != 0 ||
      sweep_parse_path (script, &sweep.x.nr_script, path) != 0) {
    fprintf (stderr, "crash: no such sequence or path\n");
    return 2;
  }
  catch_signals ();
  if (!sweep_begin (&sweep)) {
    fprintf (stderr, "crash: the beginning fails: %s\n", sweep.x.why);
    return 1;
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
  fflush (stdout);
  fprintf (stderr, "FAIL after %.1f s: %s\n", r->seconds, r->why);
  replay (r->sequence, r->path);
  tell_command (r->sequence, r->path);
}

static int
plain_sweep (void)
{
  const struct report *failed;
  double begin = now_s ();
  uint64_t nr_distinct;
  struct pack p;
  bool good;

  pack_start (&p, options.nr_procs);
  good = pack_wait (&p, &failed);
  print_stats (&p, now_s () - begin, &nr_distinct);
  if (failed != NULL)
    tell_failure (failed);
  pack_end (&p);
  if (good && nr_distinct < options.min_distinct) {
    fprintf (stderr, "FAIL: fewer than %" PRIu64 " distinct states\n",
             options.min_distinct);
    good = false;
  }
  return good ? 0 : 1;
}

/* With this rule broken the sweep must fail. */
static bool
is_caught (enum sabotage sabotage)
{
  const struct report *failed;
  double begin = now_s ();
  struct pack p;
  bool good;

  sabotage_on = sabotage;
  pack_start (&p, options.nr_procs);
  good = pack_wait (&p, &failed);
  printf ("%s %-24s %6.1f s  %s\n", good ? "NOT CAUGHT" : "caught",
          sabotage_name (sabotage), now_s () - begin,
          good             ? sabotage_rule (sabotage)
          : failed != NULL ? failed->why
                           : "(stopped: told above)");
  pack_end (&p);
  sabotage_on = SABOTAGE_NONE;
  return !good;
}

static int
sabotage_sweep (void)
{
  unsigned nr = SABOTAGE_NR - 1, nr_tried = nr, nr_caught = 0;
  unsigned first = (unsigned) (rng_mix (options.seed) % nr);

  if (options.nr_rotated > 0 && options.nr_rotated < nr)
    nr_tried = options.nr_rotated;
  for (unsigned i = 0; i < nr_tried; i++)
    nr_caught += is_caught ((enum sabotage) (1 + (first + i) % nr));
  printf ("%u of %u broken rules were caught\n", nr_caught, nr_tried);
  return nr_caught == nr_tried ? 0 : 1;
}

/* ---- faults ---- */

/* Every kind at every place, in an order that the seed says, until the time is
 * up; number n of them.
 */
static bool
try_nth (struct faults *f, uint64_t n, uint64_t nr)
{
  uint64_t i = (rng_mix (options.seed) % nr + n * 1000003) % nr;
  enum media_fault_kind kind = (enum media_fault_kind) (i % MEDIA_FAULTS);

  alarm (RUN_S_MAX);
  if (faults_try (f, kind, i / MEDIA_FAULTS))
    return true;
  fflush (stdout);
  fprintf (stderr, "FAIL: %s at I/O %" PRIu64 ": %s\n", media_fault_names[kind],
           i / MEDIA_FAULTS, f->why);
  run_print_log (2);
  fprintf (stderr,
           "again: ./crash --subject %s --seed %" PRIu64 " --fault %s:%" PRIu64
           "\n",
           f->subject->name, options.seed, media_fault_names[kind],
           i / MEDIA_FAULTS);
  return false;
}

static int
try_given (struct faults *f, const char *text)
{
  for (unsigned kind = 0; kind < MEDIA_FAULTS; kind++) {
    size_t len = strlen (media_fault_names[kind]);

    if (strncmp (text, media_fault_names[kind], len) != 0 || text[len] != ':')
      continue;
    if (faults_try (f, (enum media_fault_kind) kind,
                    number (text + len + 1, UINT64_MAX))) {
      printf ("all is well\n");
      return 0;
    }
    fprintf (stderr, "FAIL: %s: %s\n", text, f->why);
    run_print_log (2);
    return 1;
  }
  fprintf (stderr, "crash: no such fault: %s\n", text);
  return 2;
}

static bool
faults_sweep (struct faults *f)
{
  double begin = now_s ();
  uint64_t nr = f->nr_io * MEDIA_FAULTS, n = 0, tried = 0;
  bool good = true;

  while (n < nr && good && now_s () - begin < options.seconds)
    good = try_nth (f, n++, nr);
  for (unsigned i = 0; i < MEDIA_FAULTS; i++) {
    printf ("%-18s %6" PRIu64 " places, %" PRIu64 " stores failed, %" PRIu64
            " refused after\n",
            media_fault_names[i], f->nr_tried[i], f->nr_lost[i],
            f->nr_refused[i]);
    tried += f->nr_tried[i];
  }
  printf ("%s: %" PRIu64 " faults in %" PRIu64 " of %" PRIu64
          " places and kinds, %" PRIu64 " I/Os, %.1f s\n",
          f->subject->name, tried, n, nr, f->nr_io, now_s () - begin);
  return good;
}

static int
faults_main (void)
{
  struct faults f = { .subject = sweep.x.subject, .seed = options.seed };
  int status;

  sweep_prepare (NULL, 0, 1);
  catch_signals ();
  if (!sweep_begin (&sweep)) {
    fprintf (stderr, "crash: the beginning fails: %s\n", sweep.x.why);
    return 1;
  }
  f.base = &sweep.base[0];
  if (!faults_begin (&f)) {
    fprintf (stderr, "FAIL, with no fault: %s\n", f.why);
    return 1;
  }
  if (options.fault != NULL)
    status = try_given (&f, options.fault);
  else
    status = faults_sweep (&f) ? 0 : 1;
  faults_end (&f);
  return status;
}

/* ---- options ---- */

static const char help[] =
    "usage: crash [OPTION]...\n"
    "  --subject NAME     store (with staging), plain (without),\n"
    "                     strict, toy, trivial\n"
    "  --seconds N        of the sweep, or until a sabotage counts as missed\n"
    "  --seed N           of all choices; random, and printed, without it\n"
    "  --procs N          processes (2)\n"
    "  --states N         states of a point, at most; 0: all (12)\n"
    "  --inner N          states of a point in a recovery (2)\n"
    "  --min-distinct N   fail with fewer distinct states\n"
    "  --sabotage NAME    break this rule; the sweep then must not fail, so\n"
    "                     this is for looking\n"
    "  --sabotage-all     break each in turn; each must be caught\n"
    "  --sabotage-some N  N of them, by the seed\n"
    "  --toy-error N      an error of the toy store\n"
    "  --faults           every fault of media at every I/O of 500 requests\n"
    "  --fault KIND:N     this one\n"
    "  --replay SEQUENCE --path PATH   as printed by a failure\n";

enum {
  O_SUBJECT = 256,
  O_SECONDS,
  O_SEED,
  O_PROCS,
  O_STATES,
  O_INNER,
  O_DISTINCT,
  O_SABOTAGE,
  O_SABOTAGE_ALL,
  O_SABOTAGE_SOME,
  O_TOY_ERROR,
  O_FAULTS,
  O_FAULT,
  O_REPLAY,
  O_PATH,
  O_HELP,
};

static const struct option longs[] = {
  { "subject", required_argument, NULL, O_SUBJECT },
  { "seconds", required_argument, NULL, O_SECONDS },
  { "seed", required_argument, NULL, O_SEED },
  { "procs", required_argument, NULL, O_PROCS },
  { "states", required_argument, NULL, O_STATES },
  { "inner", required_argument, NULL, O_INNER },
  { "min-distinct", required_argument, NULL, O_DISTINCT },
  { "sabotage", required_argument, NULL, O_SABOTAGE },
  { "sabotage-all", no_argument, NULL, O_SABOTAGE_ALL },
  { "sabotage-some", required_argument, NULL, O_SABOTAGE_SOME },
  { "toy-error", required_argument, NULL, O_TOY_ERROR },
  { "faults", no_argument, NULL, O_FAULTS },
  { "fault", required_argument, NULL, O_FAULT },
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
    options.seconds = (double) number (text, 10000000);
    break;
  case O_SEED:
    options.seed = number (text, UINT64_MAX);
    break;
  case O_PROCS:
    options.nr_procs = (unsigned) number (text, PROCS_MAX);
    break;
  case O_STATES:
    options.states_max = (unsigned) number (text, UINT32_MAX);
    break;
  case O_INNER:
    options.inner_max = (unsigned) number (text, UINT32_MAX);
    break;
  case O_DISTINCT:
    options.min_distinct = number (text, UINT64_MAX);
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
    sweep.x.subject = find_subject (text);
    break;
  case O_SABOTAGE:
    sabotage_on = sabotage_find (text);
    break;
  case O_SABOTAGE_ALL:
    options.sabotage_all = true;
    break;
  case O_FAULTS:
    options.faults = true;
    break;
  case O_FAULT:
    options.faults = true;
    options.fault = text;
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

  options.seed = given != NULL ? number (given, UINT64_MAX)
                               : rng_mix ((uint64_t) (now_s () * 1e9)) >> 32;
  sweep.x.subject = subjects[0];
  tables_tune ();
  while ((c = getopt_long (argc, argv, "", longs, NULL)) != -1)
    set_option (c, optarg);
  if (optind != argc || sweep.x.subject == NULL || options.nr_procs == 0 ||
      sabotage_on == SABOTAGE_NR) {
    fputs (help, stderr);
    return 2;
  }
  if (options.replay != NULL)
    return replay (options.replay, options.path);
  printf ("seed %" PRIu64 " (--seed, FARPAGE_SEED)\n", options.seed);
  if (options.faults)
    return faults_main ();
  if (options.sabotage_all || options.nr_rotated > 0)
    return sabotage_sweep ();
  return plain_sweep ();
}
