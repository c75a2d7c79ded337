/* SPDX-License-Identifier: BSD-2-Clause */
/* The model of test-swap-model.c through the servers there are: what one lets
 * pass another may not.  FARPAGE_SEED, FARPAGE_RANDOM_OPS.
 */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test-rig.h"
#include "test-swap-model.h"

/* 12 MiB: three objects of 1500 pages nearly fill 3071 blocks. */
static void
run (enum server_kind kind, uint64_t size, uint64_t nr_ops, const char *filter)
{
  const struct model_plan plan = {
    .kind = kind, .size = size, .nr_ops = model_ops (nr_ops), .filter = filter
  };

  model_run (&plan);
}

static void
test_memory (void **state)
{
  (void) state;
  run (SERVER_MEMORY, 12 * MIB, 20000, NULL);
}

static void
test_slow (void **state)
{
  (void) state;
  run (SERVER_MEMORY, 12 * MIB, 4000, "delay rdelay=1ms wdelay=2ms");
}

static void
test_file (void **state)
{
  (void) state;
  run (SERVER_FILE, 12 * MIB, 4000, NULL);
}

static void
test_qemu (void **state)
{
  (void) state;
  run (SERVER_QEMU, 12 * MIB, 4000, NULL);
}

static void
test_nbd_server (void **state)
{
  (void) state;
  run (SERVER_NBD, 12 * MIB, 4000, NULL);
}

static void
test_farpage (void **state)
{
  (void) state;
  run (SERVER_FARPAGE, 12 * MIB, 6000, NULL);
}

/* A store of 128 MiB with a disk of half of that. */
static void
test_durable (void **state)
{
  (void) state;
  run (SERVER_DURABLE, 128 * MIB, 4000, NULL);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_memory),     cmocka_unit_test (test_slow),
    cmocka_unit_test (test_file),       cmocka_unit_test (test_qemu),
    cmocka_unit_test (test_nbd_server), cmocka_unit_test (test_farpage),
    cmocka_unit_test (test_durable),
  };

  return NET_RUN (tests);
}
