/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage check: looks a durable store through, and repairs it.  The work is
 * done by store/check.c; here is what a user gives and sees.
 *
 *   findings, a line each   standard output (with --json all in one object)
 *   progress, complaints    standard error
 *
 * Exit statuses are those of e2fsck, see tool.h.  A signal ends it between two
 * steps, as long as nothing is being written.
 */

#include <config.h>

#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-show.h"
#include "env.h"
#include "progress.h"
#include "volumes.h"

/* A killed process holds its volumes until its last transfer is done. */
#define LOCK_WAIT_NS (10 * NS_PER_S)

static volatile sig_atomic_t stopped;

static void
on_signal (int number)
{
  stopped = number;
}

/* A second one ends it at once. */
static void
catch_signals (void)
{
  static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
  struct sigaction action = { .sa_handler = on_signal,
                              .sa_flags = (int) SA_RESETHAND };

  sigemptyset (&action.sa_mask);
  for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    sigaction (numbers[i], &action, NULL);
}

static bool
is_stopped (void *arg)
{
  (void) arg;
  return stopped != 0;
}

/* What recovery has to say, and sends users here with, is told as findings. */
static void
tell (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  if (level <= LOG_WARNING && strstr (text, "farpage check") == NULL)
    complain (NULL, "%s", text);
}

/* ---- what is given */

static int
check_usage (const struct invocation *inv)
{
  if (given (inv, OPT_RESTORE) &&
      (given (inv, OPT_REPAIR) || given (inv, OPT_DATA) ||
       given (inv, OPT_LOSE_PAGES) || given (inv, OPT_UNDO_FILE)))
    return complain_usage (inv->command, "--restore goes with no other option "
                                         "but --json");
  if (given (inv, OPT_REPAIR) && !given (inv, OPT_UNDO_FILE))
    return complain_usage (
        inv->command, "--repair needs --undo-file FILE: what is overwritten is "
                      "kept there, and --restore FILE puts it back");
  if (given (inv, OPT_UNDO_FILE) && !given (inv, OPT_REPAIR))
    return complain_usage (inv->command, "--undo-file goes with --repair");
  if (given (inv, OPT_UNDO_FILE) &&
      access (inv->value[OPT_UNDO_FILE], F_OK) == 0)
    return complain_usage (inv->command, "--undo-file: '%s' is there already",
                           inv->value[OPT_UNDO_FILE]);
  if (given (inv, OPT_LOSE_PAGES) && !given (inv, OPT_REPAIR))
    return complain_usage (inv->command, "--lose-pages goes with --repair");
  return 0;
}

/* Locked, so that no server starts meanwhile; what may not be written is
 * looked at as it is, if no server has it.
 */
static int
open_volumes (const struct invocation *inv, struct volumes *vs)
{
  bool readonly = false;

  for (unsigned i = 0; i < inv->nr_args; i++)
    readonly |= access (inv->args[i], W_OK) != 0 && errno != ENOENT;
  if (given (inv, OPT_REPAIR) || given (inv, OPT_RESTORE))
    readonly = false;
  if (volumes_open (inv, readonly, LOCK_WAIT_NS, vs) != 0)
    return STATUS_CHECK_FAILED;
  for (unsigned i = 0; i < vs->nr; i++)
    if (vs->in_use[i]) {
      complain (vs->v[i]->name,
                "a server has it open, and a store that is open cannot be "
                "checked (end the server with 'farpage stop' first)");
      volumes_close (vs);
      return STATUS_CHECK_FAILED;
    }
  return 0;
}

/* Where servers of this user keep staging files if they are not told. */
static const char *
staging_of (const struct invocation *inv, char *to, size_t bytes)
{
  const char *user = getenv ("XDG_RUNTIME_DIR");

  if (given (inv, OPT_STAGING))
    return inv->value[OPT_STAGING];
  if (user != NULL && geteuid () != 0) {
    snprintf (to, bytes, "%s/farpage", user);
    return to;
  }
  return access ("/run/farpage", F_OK) == 0 ? "/run/farpage"
                                            : "/dev/shm/farpage";
}

/* ---- */

static int
status_of (const struct show *s, const struct check_report *report, int err)
{
  if (err == EINTR) {
    complain (NULL, "check: ended by a signal; nothing was written");
    return STATUS_CHECK_CANCELLED;
  }
  if (err == EINVAL && report->nr_found[CHECK_VOLUME] > 0)
    return STATUS_CHECK_FAILED;
  if (err) {
    complain (NULL, "check: %s", strerror (err));
    return STATUS_CHECK_FAILED;
  }
  if (s->nr_written > 0)
    return s->left.nr_all > 0 || report->nr_found[CHECK_DATA] > 0
               ? STATUS_CHECK_ERRORS
               : STATUS_CHECK_REPAIRED;
  return report->nr_all > 0 ? STATUS_CHECK_ERRORS : 0;
}

static bool
go (void *arg, uint64_t nr_blocks, const struct check_report *after)
{
  struct show *s = arg;

  s->left = *after;
  show_plan (s, nr_blocks);
  return stopped == 0;
}

static int
run_restore (const struct invocation *inv, const struct volumes *vs)
{
  uint64_t nr = 0;

  if (check_restore (inv->value[OPT_RESTORE], vs->v, vs->nr, &nr) != 0)
    return STATUS_CHECK_FAILED;
  if (given (inv, OPT_JSON))
    printf ("{\n  \"restored_blocks\": %" PRIu64 "\n}\n", nr);
  else
    printf ("%" PRIu64 " blocks: as before the repair\n", nr);
  return 0;
}

static int
run_on (const struct invocation *inv, struct volumes *vs)
{
  char staging[PATH_MAX];
  struct show s;
  struct check_config config = {
    .volumes = vs->v,
    .nr_volumes = vs->nr,
    .data = given (inv, OPT_DATA),
    .staging_dir = staging_of (inv, staging, sizeof staging),
    .found = show_found,
    .note = show_note,
    .progress = show_progress,
    .stop = is_stopped,
    .arg = &s,
  };
  struct check_repair repair = { .lose_pages = given (inv, OPT_LOSE_PAGES),
                                 .undo_path = inv->value[OPT_UNDO_FILE],
                                 .go = go };
  struct check_report report;
  int err, status;

  show_begin (&s, given (inv, OPT_JSON), given (inv, OPT_ALL));
  if (given (inv, OPT_REPAIR)) {
    err = check_repair (&config, &repair, &report, &s.nr_written);
    if (err == 0 && stopped != 0 && s.nr_written == 0)
      err = EINTR;
  } else
    err = check_run (&config, &report);
  progress_wipe ();
  status = status_of (&s, &report, err);
  show_end (&s, &report, status);
  return status;
}

static int
run_check (const struct invocation *inv)
{
  struct volumes vs;
  int status = check_usage (inv);

  if (status != 0)
    return status;
  volumes_tell ();
  status = open_volumes (inv, &vs);
  if (status != 0)
    return status;
  log_set (tell, NULL);
  catch_signals ();
  status =
      given (inv, OPT_RESTORE) ? run_restore (inv, &vs) : run_on (inv, &vs);
  volumes_close (&vs);
  return status;
}

const struct command command_check = {
  .name = "check",
  .args = "VOLUME...",
  .summary = "look for damage in a store that is not running, and repair it",
  .options = OPT_BIT (OPT_DATA) | OPT_BIT (OPT_ALL) | OPT_BIT (OPT_REPAIR) |
             OPT_BIT (OPT_UNDO_FILE) | OPT_BIT (OPT_LOSE_PAGES) |
             OPT_BIT (OPT_RESTORE) | OPT_BIT (OPT_STAGING) | OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = ARGS_MAX,
  .offline = true,
  .usage_status = STATUS_CHECK_USAGE,
  .run = run_check,
};
