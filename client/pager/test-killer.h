/* SPDX-License-Identifier: BSD-2-Clause */
/* Kills a server while a test is at work with it, and starts it again, again
 * and again.
 */

#ifndef FARPAGE_TEST_KILLER_H
#define FARPAGE_TEST_KILLER_H

#include <pthread.h>

#include "test-net.h"

struct killer {
  atomic_ulong progress; /* the test counts it up; it stands while no server is
                          * there */
  struct server *server; /* the killer's while it is not over */
  unsigned nr;           /* times */
  uint64_t random;
  pthread_t thread;
  atomic_bool is_over, stop;
  sem_t may_end;
};

/* progress is the test's before this, all else is not. */
extern void killer_begin (struct killer *k, struct server *server, unsigned nr,
                          uint64_t random);
/* The server was killed so often, or did not start; that fails the test in
 * killer_end ().
 */
extern bool killer_is_over (struct killer *k);
/* Blocks until then; the server is the test's again. */
extern void killer_wait (struct killer *k);
/* When the server is not needed any more: it dies with the killer's thread. */
extern void killer_end (struct killer *k);

#endif /* FARPAGE_TEST_KILLER_H */
