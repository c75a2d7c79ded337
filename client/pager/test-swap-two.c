/* SPDX-License-Identifier: BSD-2-Clause */
/* Two processes and one export: the stamp gives it to one of them.
 *
 * The processes are this program again, which is told by its standard input:
 *
 *   test-swap-two URI     link  ── "ready"
 *      "go"               pager ── "open", or the error's number
 *                         it has lost the export ── "lost"
 *      end of input       closes all, ends
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-rig.h"

#define WAIT_MS 30000

/* ---- the process that opens ---- */

static void
say (const char *word)
{
  dprintf (STDOUT_FILENO, "%s\n", word);
}

static void
on_event (void *arg, enum farpage_event event)
{
  (void) arg;
  if (event == FARPAGE_LOST)
    say ("lost");
}

static int
opens (const char *uri)
{
  struct farpage_options options;
  struct farpage_link *link;
  struct farpage_swap *swap;
  char line[16];
  int err;

  farpage_options_init (&options);
  options.event = on_event;
  if (farpage_link_open (uri, &options, &link) != 0)
    return 1;
  say ("ready");
  if (fgets (line, sizeof line, stdin) != NULL) {
    err = farpage_swap_open (link, &swap);
    snprintf (line, sizeof line, "%d", err);
    say (err != 0 ? line : "open");
    while (fgets (line, sizeof line, stdin) != NULL)
      ;
    if (!err)
      farpage_swap_close (swap);
  }
  return farpage_link_close (link);
}

/* ---- the test's side of it ---- */

struct process {
  pid_t pid;
  int to, from;
  char word[16]; /* the last that it said */
};

/* Its next word, within ms; false: it says nothing. */
static bool
hear (struct process *p, int ms)
{
  struct pollfd fd = { .fd = p->from, .events = POLLIN };
  size_t n = 0;

  if (poll (&fd, 1, ms) != 1)
    return false;
  while (n < sizeof p->word - 1 && read (p->from, p->word + n, 1) == 1 &&
         p->word[n] != '\n')
    n++;
  p->word[n] = '\0';
  return n > 0;
}

static void
start (struct process *p, const char *uri)
{
  int to[2], from[2];
  pid_t parent = getpid ();

  assert_int_equal (pipe2 (to, O_CLOEXEC), 0);
  assert_int_equal (pipe2 (from, O_CLOEXEC), 0);
  p->pid = fork ();
  if (p->pid == 0) {
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (getppid () != parent)
      _exit (1);
    dup2 (to[0], STDIN_FILENO);
    dup2 (from[1], STDOUT_FILENO);
    execl ("/proc/self/exe", "test-swap-two", uri, (char *) NULL);
    _exit (127);
  }
  close (to[0]);
  close (from[1]);
  p->to = to[1];
  p->from = from[0];
  assert_true (hear (p, WAIT_MS));
  assert_string_equal (p->word, "ready");
}

static void
go (struct process *p)
{
  assert_int_equal (write (p->to, "go\n", 3), 3);
}

/* How: by the end of its input, or by SIGKILL. */
static void
end (struct process *p, bool kills)
{
  int status;

  if (kills)
    kill (p->pid, SIGKILL);
  close (p->to);
  assert_int_equal (waitpid (p->pid, &status, 0), p->pid);
  assert_int_equal (kills ? WTERMSIG (status) : status, kills ? SIGKILL : 0);
  close (p->from);
}

/* ---- at once ---- */

#define EXPORTS 3u

/* So that the second has looked before the first has written. */
#define DELAY "delay wdelay=300ms"

struct contest {
  struct server server;
  char uri[300];
  struct process two[2];
};

static bool
has (const struct process *p)
{
  return strcmp (p->word, "open") == 0;
}

/* Which of them has it; the other was told EBUSY.  If this machine stood still
 * for more than a second, between a look at the stamp and its writing, both may
 * have it; then one of them loses it at his next beat.
 */
static struct process *
winner (struct contest *c, unsigned *nr_both)
{
  struct process *p = c->two;

  if (has (&p[0]) && has (&p[1])) {
    ++*nr_both;
    for (unsigned i = 0; i < 100; i++)
      for (unsigned k = 0; k < 2; k++)
        if (hear (&p[k], 50) && strcmp (p[k].word, "lost") == 0)
          return &p[1 - k];
    fail_msg ("two have one export");
  }
  assert_true (has (&p[0]) || has (&p[1]));
  assert_int_equal (atoi (p[has (&p[0])].word), EBUSY);
  return &p[!has (&p[0])];
}

/* Two for each of the exports, all at once; the winners close it. */
static void
contest (struct contest *c, unsigned nr)
{
  unsigned nr_both = 0;

  for (unsigned i = 0; i < nr; i++)
    for (unsigned k = 0; k < 2; k++)
      start (&c[i].two[k], c[i].uri);
  for (unsigned i = 0; i < nr; i++)
    for (unsigned k = 0; k < 2; k++)
      go (&c[i].two[k]);
  for (unsigned i = 0; i < nr; i++)
    for (unsigned k = 0; k < 2; k++)
      assert_true (hear (&c[i].two[k], WAIT_MS));
  for (unsigned i = 0; i < nr; i++) {
    struct process *won = winner (&c[i], &nr_both);

    assert_false (hear (won, 0));
    end (won == c[i].two ? won + 1 : won - 1, false);
    end (won, false);
  }
  if (nr_both > 0)
    print_message ("%u of %u exports were two's for a while\n", nr_both, nr);
  assert_true (nr_both == 0 || nr_both < nr);
}

/* One that nobody ever had, and then one that was closed. */
static void
test_at_once (void **state)
{
  struct contest c[EXPORTS];

  (void) state;
  for (unsigned i = 0; i < EXPORTS; i++) {
    assert_true (server_start (&c[i].server, SERVER_MEMORY, MIB, DELAY));
    server_uri (&c[i].server, c[i].uri, sizeof c[i].uri);
  }
  contest (c, EXPORTS);
  contest (c, EXPORTS);
  for (unsigned i = 0; i < EXPORTS; i++)
    server_kill (&c[i].server);
}

/* ---- of one who died ---- */

/* Who comes next waits to see whether he is alive, and has it then; two who
 * come next: one of them.  One who is alive keeps it.
 */
static void
test_dead (void **state)
{
  struct contest c[EXPORTS];
  struct process first[EXPORTS], late;
  uint64_t begin_us;

  (void) state;
  for (unsigned i = 0; i < EXPORTS; i++) {
    assert_true (server_start (&c[i].server, SERVER_MEMORY, MIB, DELAY));
    server_uri (&c[i].server, c[i].uri, sizeof c[i].uri);
    start (&first[i], c[i].uri);
    go (&first[i]);
  }
  for (unsigned i = 0; i < EXPORTS; i++) {
    assert_true (hear (&first[i], WAIT_MS));
    assert_true (has (&first[i]));
  }
  start (&late, c[0].uri);
  go (&late);
  for (unsigned i = 1; i < EXPORTS; i++)
    end (&first[i], true);
  begin_us = net_now_us ();
  contest (c + 1, EXPORTS - 1);
  assert_true (net_now_us () - begin_us >= STAMP_LOOKS * STAMP_LOOK_US);
  assert_true (hear (&late, WAIT_MS));
  assert_int_equal (atoi (late.word), EBUSY);
  end (&late, false);
  assert_false (hear (&first[0], 0));
  end (&first[0], false);
  for (unsigned i = 0; i < EXPORTS; i++)
    server_kill (&c[i].server);
}

int
main (int argc, char *argv[])
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_at_once),
    cmocka_unit_test (test_dead),
  };

  if (argc > 1)
    return opens (argv[1]);
  return NET_RUN (tests);
}
