/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of maps; see test-map-rig.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "test-map-rig.h"

bool
map_can_run (void)
{
  struct uffd *u;
  int err = uffd_open (1, &u);

  if (err == 0)
    uffd_close (u);
  if (err == EPERM || err == ENOSYS || err == EOPNOTSUPP)
    printf ("userfaultfd: %s (Linux 6.1, and root or /dev/userfaultfd)\n",
            strerror (err));
  return err != EPERM && err != ENOSYS && err != EOPNOTSUPP;
}

struct checking {
  struct farpage_map *map;
  const char *wrong;
};

static void
check_here (void *arg)
{
  struct checking *c = arg;

  c->wrong = map_check (c->map);
}

void
map_recount (struct farpage_map *m)
{
  struct checking c = { .map = m };

  loop_call (m->loop, check_here, &c);
  if (c.wrong != NULL)
    fail_msg ("%s", c.wrong);
}

struct farpage_map *
map_open (struct farpage_object *o, uint64_t nr_frames)
{
  struct farpage_map *m;

  assert_int_equal (farpage_map (o, nr_frames * PAGE, &m), 0);
  return m;
}

struct farpage_map_stat
map_stat (struct farpage_map *m)
{
  struct farpage_map_stat st;

  assert_int_equal (farpage_map_stat (m, &st, sizeof st), 0);
  return st;
}

void
map_print (const char *what, struct farpage_map *m)
{
  const struct farpage_map_stat st = map_stat (m);

  print_message ("%s: %" PRIu64 " faults, %" PRIu64 " hits, %" PRIu64
                 " waits, %" PRIu64 " zeros, %" PRIu64 " read; ahead %" PRIu64
                 ", hit %" PRIu64 ", late %" PRIu64 ", wasted %" PRIu64
                 "; dropped %" PRIu64 ", put %" PRIu64 "\n",
                 what, st.faults, st.hits, st.waits, st.zeros, st.demand_reads,
                 st.ahead, st.ahead_hits, st.ahead_late, st.ahead_wasted,
                 st.dropped, st.put);
}

/* It leaves pages alone that are mapped twice: ours is taken away before. */
void
map_page_out (struct farpage_map *m, uint64_t first, uint64_t nr)
{
  uint8_t *users = uffd_users (m->uffd);

  madvise (uffd_own (m->uffd, first), nr * PAGE, MADV_DONTNEED);
  madvise (users + first * PAGE, nr * PAGE, MADV_PAGEOUT);
}

/* ---- touches that may be a signal ---- */

static _Thread_local sigjmp_buf back;
static _Thread_local volatile sig_atomic_t caught;

static void
on_signal (int signal)
{
  caught = signal;
  siglongjmp (back, 1);
}

static void
catch_signals (void)
{
  struct sigaction action = { .sa_handler = on_signal };

  sigaction (SIGBUS, &action, NULL);
  sigaction (SIGSEGV, &action, NULL);
}

int
map_peek (const volatile uint8_t *at, uint8_t *byte)
{
  catch_signals ();
  if (sigsetjmp (back, 1) != 0)
    return caught;
  *byte = *at;
  return 0;
}

int
map_poke (volatile uint8_t *at, uint8_t byte)
{
  catch_signals ();
  if (sigsetjmp (back, 1) != 0)
    return caught;
  *at = byte;
  return 0;
}
