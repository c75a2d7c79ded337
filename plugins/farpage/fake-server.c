/* SPDX-License-Identifier: BSD-2-Clause */
/* The control server over a fake store, for client/tool/test-tool.sh.
 *
 *   fake-server [PATH [SECONDS]]   (no PATH, or "-": the default place)
 *
 * Prints the socket's path when it listens, takes SECONDS to stop, and makes
 * the pool almost full on SIGUSR1.
 */

#include <config.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "armour.h"
#include "control.h"
#include "fake-store.h"
#include "log.h"

static const struct armour armour = { .locked = true, .oom_score_adj = -7 };
static struct control *control;
static unsigned stop_s;

static void
print_log (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  (void) level;
  fprintf (stderr, "fake-server: %s\n", text);
}

/* As the plugin does it: the process ends here. */
static void
on_stop (void *arg)
{
  (void) arg;
  sleep (stop_s);
  control_stop (control);
  _exit (0);
}

int
main (int argc, char **argv)
{
  const char *path = argc > 1 && strcmp (argv[1], "-") != 0 ? argv[1] : NULL;
  struct store *s = fake_store_new ();
  sigset_t set;
  int sig;

  log_set (print_log, NULL);
  stop_s = argc > 2 ? (unsigned) atoi (argv[2]) : 0;
  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGUSR1);
  sigprocmask (SIG_BLOCK, &set, NULL);
  if (control_bind (path, &control) != 0 ||
      control_start (control, s, &armour, on_stop, NULL) != 0)
    return 1;
  path = control_path (control);
  puts (path != NULL ? path : "");
  fflush (stdout);
  while (sigwait (&set, &sig) == 0 && sig == SIGUSR1)
    fake_store_space (s, SPACE_ALMOST_FULL);
  control_stop (control);
  fake_store_free (s);
  return 0;
}
