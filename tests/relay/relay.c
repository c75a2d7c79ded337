/* SPDX-License-Identifier: BSD-2-Clause */
/* relay: a slow and unreliable network between two sockets of this machine.
 *
 * Tests of the pager start it between client and server, and tell it by its
 * standard input what to do to the bytes.
 *
 *             ┌───────────────────────── relay ──────────────────────────┐
 *   client ──▶│ read, time t ─▶ rate: busy until ─▶ + delay ─▶ write when │──▶
 *             │                 max (free, t) + n/R   + jitter  it is due │
 *          ◀──│                the same the other way                     │◀──
 *             └──────────────────────────────────────────────────────────┘
 *             link.c: the times    pipe.c: one way    queue.c: in flight
 *             conn.c: two pipes    alarm.c: when      script.c: commands
 *
 * What it is true to: no byte leaves before its time; how much later is
 * what the machine's scheduler makes it, and `stat` tells it.  What it is not:
 * there is no loss and no limit to what is in flight, so a sender is never
 * slowed by a full buffer, and TCP's own windows are those of loopback.  A
 * connection is accepted before the target has been reached, without delay.
 *
 * One thread, one loop; it ends with its standard input.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "script.h"

static void
help (void)
{
  fputs (
      "Usage: relay [--realtime] [LINK AT TARGET [KEY=VALUE]...]\n"
      "\n"
      "Forwards stream sockets, as slowly and unreliably as it is told.  Arguments\n"
      "are a first `listen` command; others come by standard input, a line each, and\n"
      "each is answered by one line, \"ok ...\" or \"error ...\".  At the end of its\n"
      "input it ends, and with it all connections.\n"
      "\n"
      "  --realtime   before all usual processes of this machine, if that is allowed:\n"
      "               its times are truer, and who works beside it is slower\n"
      "\n"
      "Commands; up is from who connects to the target, down is back:\n",
      stdout);
  fputs (script_help, stdout);
}

static void
on_signal (struct ev_loop *loop, ev_signal *w, int revents)
{
  (void) w;
  (void) revents;
  ev_break (loop, EVBREAK_ALL);
}

/* Two descriptors a connection: all there may be. */
static void
raise_limits (bool realtime)
{
  const struct sched_param param = { .sched_priority = 1 };
  struct rlimit nofile;

  if (getrlimit (RLIMIT_NOFILE, &nofile) == 0) {
    nofile.rlim_cur = nofile.rlim_max;
    setrlimit (RLIMIT_NOFILE, &nofile);
  }
  if (realtime && sched_setscheduler (0, SCHED_RR, &param) == -1)
    fprintf (stderr, "relay: --realtime: %s (going on without)\n",
             strerror (errno));
}

/* The arguments as a command. */
static bool
first_link (struct script *s, int argc, char *argv[])
{
  char line[SCRIPT_LINE_MAX] = "listen";
  size_t len = strlen (line);

  for (int i = 0; i < argc; i++) {
    int n = snprintf (line + len, sizeof line - len, " %s", argv[i]);

    len += n;
    if (len >= sizeof line)
      return false;
  }
  return argc == 0 || script_obey (s, line);
}

int
main (int argc, char *argv[])
{
  static struct relay relay;
  static struct script script;
  struct ev_loop *loop;
  ev_signal sigterm, sigint;
  bool realtime = argc > 1 && strcmp (argv[1], "--realtime") == 0;
  int err, status = 0;

  argc -= 1 + realtime;
  argv += 1 + realtime;
  if (argc > 0 && strcmp (argv[0], "--help") == 0) {
    help ();
    return 0;
  }
  signal (SIGPIPE, SIG_IGN);
  raise_limits (realtime);
  loop = ev_default_loop (EVBACKEND_EPOLL);
  err = loop == NULL ? ENOSYS : relay_open (&relay, loop);
  if (err != 0) {
    fprintf (stderr, "relay: %s\n", strerror (err));
    return 1;
  }
  script_open (&script, &relay);
  ev_signal_init (&sigterm, on_signal, SIGTERM);
  ev_signal_init (&sigint, on_signal, SIGINT);
  ev_signal_start (loop, &sigterm);
  ev_signal_start (loop, &sigint);
  if (first_link (&script, argc, argv))
    ev_run (loop, 0);
  else
    status = 2;
  script_close (&script);
  relay_close (&relay);
  ev_loop_destroy (loop);
  return status;
}
