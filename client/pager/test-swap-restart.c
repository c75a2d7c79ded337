/* SPDX-License-Identifier: BSD-2-Clause */
/* The model of test-swap-model.c while its server is killed with SIGKILL and
 * started again, 30 times in all.  What was put and found OK comes back as it
 * was put, where the server keeps what it has flushed; where it forgets all,
 * each page is an error, never zeros.
 *
 *   nbdkit file              8   what was answered is in the page cache
 *   the same, with a cache   7   what was not flushed is gone, as when a
 *                                machine loses its power
 *   farpage, kept           10   sessions; connections are fenced off
 *   nbdkit memory            5   each time a pager loses all
 *
 * FARPAGE_SEED, FARPAGE_RANDOM_OPS.
 */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test-rig.h"
#include "test-swap-model.h"

static void
restarts (enum server_kind kind, const char *filter, unsigned nr)
{
  const struct model_plan plan = { .kind = kind,
                                   .size = 128 * MIB,
                                   .nr_ops = model_ops (1000),
                                   .filter = filter,
                                   .nr_restarts = nr };

  model_run (&plan);
}

static void
test_file (void **state)
{
  (void) state;
  restarts (SERVER_FILE, NULL, 8);
}

/* By pages, for a server that tears a page when it dies breaks what it says. */
static void
test_cache (void **state)
{
  (void) state;
  restarts (SERVER_FILE, "cache cache=writeback cache-min-block-size=4096", 7);
}

static void
test_durable (void **state)
{
  (void) state;
  restarts (SERVER_DURABLE, NULL, 10);
}

static void
test_memory (void **state)
{
  const struct model_plan plan = { .kind = SERVER_MEMORY,
                                   .size = 64 * MIB,
                                   .nr_ops = model_ops (1000),
                                   .nr_restarts = 1,
                                   .forgets = true };

  (void) state;
  for (unsigned i = 0; i < 5; i++)
    model_run (&plan);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_file),
    cmocka_unit_test (test_cache),
    cmocka_unit_test (test_durable),
    cmocka_unit_test (test_memory),
  };

  return NET_RUN (tests);
}
