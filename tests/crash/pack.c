/* SPDX-License-Identifier: BSD-2-Clause */
/* Several processes; see pack.h.  crash.c is the caller.
 *
 * A process has all of a sweep to itself but the table of what was seen; it
 * ends with its report, or with 1 when it was stopped by a signal and has told
 * why.
 */

#include <config.h>

#include "pack.h"

#include <execinfo.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "switches.h"

/* Places for what is seen in a second, and how many there are. */
#define SEEN_RATE      32768.0
#define WHOLE_S        600.0 /* that all of more than one operation take */
#define SEEN_SHIFT_MIN 20u
#define SEEN_SHIFT_MAX 26u

static double
clock_s (clockid_t clock)
{
  struct timespec ts;

  clock_gettime (clock, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

double
pack_now_s (void)
{
  return clock_s (CLOCK_MONOTONIC);
}

/* ---- telling ---- */

void
pack_tell_command (const struct pack_config *config, const char *what)
{
  dprintf (2, "again: ./crash --subject %s --seed %" PRIu64,
           config->subject->name, config->seed);
  if (sabotage_on != SABOTAGE_NONE)
    dprintf (2, " --sabotage %s", sabotage_name (sabotage_on));
  if (toy_error != TOY_GOOD)
    dprintf (2, " --toy-error %d", (int) toy_error);
  dprintf (2, " %s\n", what);
}

/* What was under way when a signal came. */
static const struct sweep *current;
static const struct pack_config *current_config;
static char current_what[80];

/* The store was stopped by an assertion, a signal, or by never ending. */
static void
on_signal (int sig)
{
  static char sequence[256], path[256], what[600];
  static void *frames[32];

  signal (sig, SIG_DFL);
  sweep_print (current, sequence, sizeof sequence);
  sweep_print_path (current, path, sizeof path);
  if (current_what[0] != '\0')
    memcpy (what, current_what, sizeof current_what);
  else
    snprintf (what, sizeof what, "--replay %s --path '%s'", sequence, path);
  dprintf (2, "%s\n", sig == SIGPROF ? "no end" : strsignal (sig));
  run_print_log (2);
  backtrace_symbols_fd (frames, backtrace (frames, 32), 2);
  pack_tell_command (current_config, what);
  _exit (1);
}

void
pack_doing (const char *what)
{
  snprintf (current_what, sizeof current_what, "%s", what);
}

void
pack_catch_signals (const struct sweep *s, const struct pack_config *config)
{
  static const int sigs[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGPROF };
  static uint8_t stack[65536];
  struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
  stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };

  current = s;
  current_config = config;
  sigaltstack (&ss, NULL);
  for (unsigned i = 0; i < sizeof sigs / sizeof sigs[0]; i++)
    sigaction (sigs[i], &sa, NULL);
}

/* ---- one process ---- */

bool
pack_sweep_begin (struct sweep *s, const struct pack_config *config,
                  struct seen *seen, unsigned part)
{
  *s = (struct sweep){ .part = part, .nr_parts = config->nr_procs };
  s->points_max = config->points_max;
  s->whole = config->whole;
  s->x.subject = config->subject;
  s->x.seen = seen;
  s->x.seed = config->seed;
  s->x.states_max = config->states_max;
  s->x.inner_max = config->inner_max;
  s->x.run_s_max = RUN_S_MAX;
  s->x.fd = -1;
  return sweep_begin (s);
}

/* Faults of media until then. */
static bool
try_faults (struct report *report, const struct pack_config *config,
            const struct world *base, double until_s)
{
  struct faults f = { .subject = config->subject,
                      .seed = config->seed,
                      .base = base };
  char fault[64] = "", what[80];
  bool good = faults_begin (&f);

  for (uint64_t n = 0; good && n < faults_nr (&f) && pack_now_s () < until_s;
       n++) {
    faults_nth (&f, n, fault, sizeof fault);
    snprintf (what, sizeof what, "--fault %s", fault);
    pack_doing (what);
    run_limit (RUN_S_MAX);
    good = faults_given (&f, fault) == 0;
  }
  run_limit (0);
  if (!good) {
    memcpy (report->why, f.why, sizeof report->why);
    memcpy (report->fault, fault, sizeof report->fault);
  }
  pack_doing ("");
  faults_end (&f);
  return good;
}

static int
work (struct pack *p, unsigned part)
{
  static struct sweep s;
  static struct pack_config mine;
  const struct pack_config *config = &mine;
  struct report *report = &p->report[part];
  double begin = pack_now_s ();

  mine = *p->config;
  if (mine.faults && part == mine.nr_procs - 1)
    mine.subject = &plain_subject;
  report->subject = mine.subject;
  pack_catch_signals (&s, config);
  report->failed = !pack_sweep_begin (&s, config, p->seen, part);
  s.drawn_only = mine.subject != p->config->subject;
  if (!report->failed && config->faults)
    report->failed = !try_faults (report, config, sweep_base_for_faults (&s),
                                  begin + config->seconds / 4);
  s.x.deadline_ns = (uint64_t) ((begin + config->seconds) * 1e9);
  if (!report->failed)
    report->failed = !sweep_run (&s);
  report->seconds = pack_now_s () - begin;
  report->cpu_seconds = clock_s (CLOCK_PROCESS_CPUTIME_ID);
  report->stat = s.x.stat;
  report->nr_sequences = s.nr_sequences;
  memcpy (report->nr_all, s.nr_all, sizeof report->nr_all);
  if (report->fault[0] == '\0')
    memcpy (report->why, s.x.why, sizeof report->why);
  sweep_print (&s, report->sequence, sizeof report->sequence);
  sweep_print_path (&s, report->path, sizeof report->path);
  return report->failed;
}

/* ---- several ---- */

static unsigned
seen_shift (const struct pack_config *config)
{
  double seconds = config->seconds + (config->whole > 1 ? WHOLE_S : 0);
  unsigned shift = SEEN_SHIFT_MIN;

  while (shift < SEEN_SHIFT_MAX &&
         (double) (UINT64_C (1) << shift) < seconds * SEEN_RATE)
    shift++;
  return shift;
}

void
pack_start (struct pack *p, const struct pack_config *config)
{
  unsigned nr = config->nr_procs;

  p->config = config;
  p->seen = seen_new (seen_shift (config));
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
      _exit (work (p, i));
  }
}

bool
pack_wait (struct pack *p, const struct report **failed)
{
  bool good = true;

  *failed = NULL;
  for (unsigned left = p->config->nr_procs; left > 0; left--) {
    int status = 0;
    pid_t pid = wait (&status);
    bool bad = !WIFEXITED (status) || WEXITSTATUS (status) != 0;

    for (unsigned i = 0; i < p->config->nr_procs; i++) {
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

void
pack_end (struct pack *p)
{
  munmap (p->report, p->config->nr_procs * sizeof *p->report);
  seen_free (p->seen);
}

void
pack_sum (const struct pack *p, struct report *to)
{
  memset (to, 0, sizeof *to);
  for (unsigned i = 0; i < p->config->nr_procs; i++) {
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
