/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage stop: ends a server so that its clients can wait for the next one.
 *
 * The server answers before it holds all requests, and is gone when its
 * process is: that is what is waited for.  A process that cannot be seen from
 * here (another pid namespace) is gone when the connection ends.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define WAIT_MS     30000
#define PROGRESS_MS 2000

static int64_t
now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* false: still there after WAIT_MS. */
static bool
wait_gone (struct client *c, int pidfd)
{
  struct pollfd p = { .fd = pidfd != -1 ? pidfd : c->fd, .events = POLLIN };
  int64_t start = now_ms ();
  bool told = false;

  for (;;) {
    int64_t left = start + (told ? WAIT_MS : PROGRESS_MS) - now_ms ();
    int n = poll (&p, 1, left > 0 ? (int) left : 0);

    if (n == 1)
      return true;
    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1 || told)
      return false;
    fprintf (stderr,
             "farpage: waiting for the server to end (%d s at most)...\n",
             WAIT_MS / 1000);
    told = true;
  }
}

static int
run_stop (const struct invocation *inv)
{
  struct client c;
  json_t *answer;
  bool gone;
  int pidfd, status = client_open (inv, &c);

  if (status != 0)
    return status;
  /* before the question, so that the pid cannot be another's by now */
  pidfd = c.pid > 0 ? (int) syscall (SYS_pidfd_open, c.pid, 0) : -1;
  answer = client_call (&c, json_pack ("{s:s}", "cmd", "stop"));
  gone = answer != NULL && wait_gone (&c, pidfd);
  if (gone && c.pid > 0)
    printf ("stopped (pid %d)\n", (int) c.pid);
  else if (gone)
    printf ("stopped\n");
  else if (answer != NULL)
    complain (c.path,
              "the server has not ended within %d s (its log says more)",
              WAIT_MS / 1000);
  json_decref (answer);
  if (pidfd != -1)
    close (pidfd);
  client_close (&c);
  return gone ? 0 : STATUS_NO;
}

const struct command command_stop = {
  .name = "stop",
  .args = "",
  .summary = "end the server; its clients can wait for the next",
  .run = run_stop,
};
