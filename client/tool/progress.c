/* SPDX-License-Identifier: BSD-2-Clause */
/* The line of progress, see progress.h.
 *
 *   format, check   --> progress_due () ? progress_show ()
 *   bench, bench-file --> progress_step (), progress_part ()
 *                                |
 *        thread, 4 times a second: progress_due () ? progress_show ()
 *
 * All that is in `line' and `step' is under the lock that stdio has on stderr
 * (flockfile), as is what is written there: complain () takes it too, so that
 * no line of progress comes between wiping and what is told.
 */

#include <config.h>

#include "progress.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "env.h"
#include "size.h"

#define AFTER_NS       (2 * NS_PER_S)
#define EVERY_NS       (NS_PER_S / 4)
#define LINE_MAX_BYTES 256

static struct {
  const char *command;
  uint64_t begin_ns, shown_ns, lines_ns;
  bool terminal, stands;
} line; /* [stderr] */

static struct {
  unsigned nr, all; /* nr: of this one, from 1 on */
  uint64_t begin_ns;
  uint64_t part_done, part_all; /* part_all 0: not known */
  char what[64], amount[HUMAN_BYTES + 16];
} step; /* [stderr] */

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  bool runs; /* [main] */
  bool stop; /* [lock] */
} ticker = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the line ---- */

void
progress_begin (const char *command, uint64_t lines_ns)
{
  flockfile (stderr);
  line.command = command;
  line.begin_ns = env_now_ns ();
  line.shown_ns = 0;
  line.lines_ns = lines_ns;
  line.terminal = isatty (STDERR_FILENO) == 1;
  funlockfile (stderr);
}

bool
progress_on_terminal (void)
{
  return line.terminal;
}

bool
progress_due (void)
{
  uint64_t now = env_now_ns (), every;
  bool due;

  flockfile (stderr);
  every = line.terminal ? EVERY_NS : line.lines_ns;
  due = every > 0 && now - line.begin_ns >= AFTER_NS &&
        now - line.shown_ns >= every;
  funlockfile (stderr);
  return due;
}

/* What does not fit is left out: a line that goes on in the next one could not
 * be wiped.
 */
static int
width (void)
{
  struct winsize size;

  if (ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
    return size.ws_col - 1;
  return LINE_MAX_BYTES;
}

void
progress_show (const char *fmt, ...)
{
  char text[LINE_MAX_BYTES];
  va_list args;
  int n;

  flockfile (stderr);
  n = snprintf (text, sizeof text, "farpage: %s: ", line.command);
  va_start (args, fmt);
  vsnprintf (text + n, sizeof text - (size_t) n, fmt, args);
  va_end (args);
  line.shown_ns = env_now_ns ();
  if (line.terminal)
    fprintf (stderr, "\r%.*s\033[K", width (), text);
  else
    fprintf (stderr, "%s\n", text);
  line.stands = line.terminal;
  funlockfile (stderr);
}

void
progress_wipe (void)
{
  flockfile (stderr);
  if (line.stands)
    fputs ("\r\033[K", stderr);
  line.stands = false;
  funlockfile (stderr);
}

/* ---- steps ---- */

/* As this step goes, or as those before it went; below 0: nobody can know. */
static double
seconds_left (uint64_t now_ns)
{
  double before = (double) (step.begin_ns - line.begin_ns) / NS_PER_S;
  double here = (double) (now_ns - step.begin_ns) / NS_PER_S;
  double mean = step.nr > 1 ? before / (step.nr - 1) : 0, left = mean - here;

  if (step.part_done > 0)
    left = here / (double) step.part_done *
           (double) (step.part_all - step.part_done);
  if (left < 0 || (step.nr == 1 && step.all > 1))
    return -1;
  return left + mean * (step.all - step.nr);
}

static void
show_step (void)
{
  char left[HUMAN_BYTES], part[64] = "";
  double seconds;

  flockfile (stderr);
  seconds = seconds_left (env_now_ns ());
  if (step.part_all > 0)
    snprintf (part, sizeof part, "%.0f %%, %s",
              100. * (double) step.part_done / (double) step.part_all,
              step.amount);
  if (step.nr > 0 && progress_due ())
    progress_show ("%u of %u, %s, %s%s left", step.nr, step.all, step.what,
                   part, seconds >= 0 ? time_human (seconds, left) : "?");
  funlockfile (stderr);
}

static void *
tick (void *arg)
{
  struct timespec until;

  (void) arg;
  pthread_mutex_lock (&ticker.lock);
  while (!ticker.stop) {
    clock_gettime (CLOCK_REALTIME, &until);
    until.tv_nsec += (long) EVERY_NS;
    until.tv_sec += until.tv_nsec / (long) NS_PER_S;
    until.tv_nsec %= (long) NS_PER_S;
    pthread_cond_timedwait (&ticker.changed, &ticker.lock, &until);
    pthread_mutex_unlock (&ticker.lock);
    show_step ();
    pthread_mutex_lock (&ticker.lock);
  }
  pthread_mutex_unlock (&ticker.lock);
  return NULL;
}

/* Without a thread there is no progress, and no harm. */
void
progress_steps (const char *command, unsigned all)
{
  progress_begin (command, 0);
  memset (&step, 0, sizeof step);
  step.all = all;
  ticker.stop = false;
  ticker.runs = progress_on_terminal () &&
                pthread_create (&ticker.thread, NULL, tick, NULL) == 0;
}

void
progress_step (const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  va_start (args, fmt);
  vsnprintf (step.what, sizeof step.what, fmt, args);
  va_end (args);
  step.nr++;
  step.begin_ns = env_now_ns ();
  step.part_done = step.part_all = 0;
  funlockfile (stderr);
}

void
progress_part (uint64_t done, uint64_t all, const char *amount)
{
  flockfile (stderr);
  step.part_done = done < all ? done : all;
  step.part_all = all;
  step.amount[0] = '\0';
  if (amount != NULL)
    snprintf (step.amount, sizeof step.amount, "%s, ", amount);
  funlockfile (stderr);
}

void
progress_end (void)
{
  if (ticker.runs) {
    pthread_mutex_lock (&ticker.lock);
    ticker.stop = true;
    pthread_cond_signal (&ticker.changed);
    pthread_mutex_unlock (&ticker.lock);
    pthread_join (ticker.thread, NULL);
    ticker.runs = false;
  }
  progress_wipe ();
}
