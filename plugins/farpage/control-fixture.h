/* SPDX-License-Identifier: BSD-2-Clause */
/* A control server in a directory of its own, and a client, for tests. */

#ifndef FARPAGE_CONTROL_FIXTURE_H
#define FARPAGE_CONTROL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control-client.h"
#include "control.h"
#include "fake-store.h"
#include "log.h"

#define NR_OF(a) (sizeof (a) / sizeof (a)[0])
#define WAIT_MS  60000

struct fixture {
  char dir[32], path[64];
  struct store *store;
  struct armour armour; /* its OOM score is -7 */
  struct control *control;
  atomic_uint stops;
};

extern void count_stop (void *arg);
/* For log_set: the last message but debugging ones, to arg[512]. */
extern void keep_log (void *arg, enum log_level level, const char *text);
/* cmocka set-ups: a directory and a store; and a server on them. */
extern int setup_dir (void **state);
extern int setup (void **state);
extern int teardown (void **state);
/* A client, which fails the test where it cannot go on. */
extern int dial (const char *path);
/* false if the server has closed. */
extern bool say_bytes (int fd, const char *text, size_t n);
extern void say (int fd, const char *text);
/* One line of at most 128 KiB, or NULL at the end; static. */
extern char *hear (int fd);
/* The next answer, parsed. */
extern json_t *answer (int fd);
extern void assert_ok (int fd);
/* The next answer is a refusal whose text has words in it. */
extern void assert_refused (int fd, const char *name, const char *words);
extern void assert_closed (int fd);
/* Wait for on_stop. */
extern void await_stop (struct fixture *f);

#define SERVED(test) cmocka_unit_test_setup_teardown (test, setup, teardown)
#define ALONE(test)  cmocka_unit_test_setup_teardown (test, setup_dir, teardown)

#endif /* FARPAGE_CONTROL_FIXTURE_H */
