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
static char current_what[128];

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

#define FAULTY_REQUESTS 80u
#define FAULTY_PARTS    2u  /* of FAULT_PARTS */
#define FAULTY_LAST     12u /* places: maps are written, and the close */

/* What a process does between sequences, and how long it took. */
struct meanwhile {
  const struct pack_config *config;
  struct report *report;
  struct cuts cuts;
  struct faults faults;
  uint64_t nr;        /* of long runs, by all processes */
  uint64_t nr_faulty; /* of runs with faults */
  double began_s, cuts_s, faults_s;
};

static bool
try_cuts (struct meanwhile *m)
{
  struct report *r = m->report;
  uint64_t seed = hash_add (m->config->seed, m->nr) >> 16;
  double end_s = m->began_s + m->config->seconds;
  bool good;

  m->nr += m->config->nr_procs;
  run_limit (RUN_S_MAX);
  good = cuts_run (&m->cuts, seed, (uint64_t) (end_s * 1e9));
  run_limit (0);
  r->nr_long = m->cuts.nr_runs;
  r->nr_cuts = m->cuts.stat.nr_states;
  r->nr_tried = m->cuts.nr_tried;
  if (!good) {
    memcpy (r->why, m->cuts.why, sizeof r->why);
    snprintf (r->option, sizeof r->option, "--cut %s", m->cuts.what);
  }
  return good;
}

static void
doing_fault (const char *what)
{
  char text[80];

  snprintf (text, sizeof text, "--fault %s", what);
  pack_doing (text);
  run_limit (RUN_S_MAX);
}

/* Some of all faults of a short run, another each time. */
static bool
try_faults (struct meanwhile *m)
{
  struct report *r = m->report;
  struct faults *f = &m->faults;
  bool good;

  f->seed = hash_add (m->config->seed, m->nr_faulty++) >> 16;
  f->deadline_ns = (uint64_t) ((m->began_s + m->config->seconds) * 1e9);
  run_limit (RUN_S_MAX);
  good = faults_begin (f);
  for (unsigned i = 0; i < FAULTY_PARTS && good; i++)
    good = faults_part (f, i);
  if (good)
    good = faults_last (f, FAULTY_LAST);
  run_limit (0);
  faults_end (f);
  pack_doing ("");
  if (good)
    return true;
  memcpy (r->why, f->why, sizeof r->why);
  snprintf (r->option, sizeof r->option, "--fault %s", f->what);
  return false;
}

/* Long runs have an eighth of the time, or a half, and faults an eighth. */
static bool
meanwhile (void *arg)
{
  struct meanwhile *m = arg;
  double now_s = pack_now_s (), all_s = now_s - m->began_s;

  if (all_s >= m->config->seconds)
    return true;
  if (m->cuts_s * (m->config->faults ? 2 : 8) <= all_s) {
    if (!try_cuts (m))
      return false;
    m->cuts_s += pack_now_s () - now_s;
  }
  now_s = pack_now_s ();
  if (m->config->faults && m->faults_s * 8 <= now_s - m->began_s) {
    if (!try_faults (m))
      return false;
    m->faults_s += pack_now_s () - now_s;
  }
  return true;
}

static void
meanwhile_begin (struct meanwhile *m, struct sweep *s, double begin_s,
                 unsigned part)
{
  const struct subject *subject = m->config->subject;

  m->began_s = begin_s;
  m->nr = part;
  m->cuts = (struct cuts){ .subject = subject,
                           .base = s->base,
                           .nr_bases = sweep_bases_for_long (subject),
                           .seen = s->x.seen };
  m->faults =
      (struct faults){ .subject = subject,
                       .base = &s->base[sweep_bases_for_long (subject) - 1],
                       .nr_requests = FAULTY_REQUESTS,
                       .doing = doing_fault };
  s->meanwhile = meanwhile;
  s->arg = m;
}

static void
add_stat (struct explore_stat *to, const struct explore_stat *stat)
{
  to->nr_runs += stat->nr_runs;
  to->nr_states += stat->nr_states;
  to->nr_distinct += stat->nr_distinct;
  for (unsigned i = 0; i <= DEPTH_MAX; i++)
    to->nr_by_depth[i] += stat->nr_by_depth[i];
  for (unsigned i = 0; i < CRASH_KINDS; i++)
    to->nr_by_kind[i] += stat->nr_by_kind[i];
}

static int
work (struct pack *p, unsigned part)
{
  static struct sweep s;
  static struct pack_config mine;
  static struct meanwhile m;
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
  m.config = config;
  m.report = report;
  meanwhile_begin (&m, &s, begin, part);
  s.x.deadline_ns = (uint64_t) ((begin + config->seconds) * 1e9);
  if (!report->failed)
    report->failed = !sweep_run (&s);
  report->seconds = pack_now_s () - begin;
  report->cpu_seconds = clock_s (CLOCK_PROCESS_CPUTIME_ID);
  report->stat = s.x.stat;
  report->nr_sequences = s.nr_sequences;
  memcpy (report->nr_all, s.nr_all, sizeof report->nr_all);
  add_stat (&report->stat, &m.cuts.stat);
  if (report->option[0] == '\0')
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
    to->nr_long += r->nr_long;
    to->nr_cuts += r->nr_cuts;
    to->nr_tried += r->nr_tried;
    add_stat (&to->stat, &r->stat);
  }
}
