/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory from afar that is touched in some order, behind a slow network: what
 * comes next is there, and mapped, before it is touched.
 */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test-map-rig.h"
#include "test-util.h"

#define NR     2048u
#define FRAMES 512u
#define MANY   16u /* pages that are mapped with one fault, at best */

static struct rig rig;
static struct farpage_object *object;

/* Page p of the object holds p + 1. */
static int
group_setup (void **state)
{
  struct farpage_map *m;
  volatile uint64_t *memory;

  if (net_group_setup (state) != 0 ||
      !rig_start_behind (&rig, SERVER_MEMORY, 64 * MIB))
    return -1;
  object = rig_make (&rig, NULL, NR);
  m = map_open (object, FRAMES);
  memory = farpage_map_address (m);
  for (unsigned p = 0; p < NR; p++)
    memory[p * WORDS] = p + 1;
  assert_int_equal (farpage_unmap (m), 0);
  relay_tell (&rig.relay, "set a delay=1000");
  return 0;
}

static int
group_teardown (void **state)
{
  assert_int_equal (farpage_dealloc (object), 0);
  rig_end (&rig);
  return net_group_teardown (state);
}

/* state: the stride. */
static void
test_stride (void **state)
{
  const int stride = *(int *) *state;
  struct farpage_map *m = map_open (object, FRAMES);
  const volatile uint64_t *memory = farpage_map_address (m);
  struct farpage_map_stat st;
  unsigned nr = 0;

  for (int64_t p = stride > 0 ? 0 : NR - 1; p >= 0 && p < NR; p += stride, nr++)
    assert_int_equal (memory[p * WORDS], p + 1);
  st = map_stat (m);
  map_print ("stride", m);
  assert_true (st.demand_reads <= 16);
  /* Pages that do not lie together come one by one: fewer are there at a time.
   */
  assert_true (st.faults <=
               (abs (stride) == 1 ? nr / (MANY / 4) + 32 : nr * 3 / 4));
  assert_true (st.ahead_hits >= nr * 3 / 4);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
}

/* Four times what there is memory for, so nothing is there any more. */
static void
test_laps (void **state)
{
  struct farpage_map *m = map_open (object, FRAMES);
  const volatile uint64_t *memory = farpage_map_address (m);
  struct farpage_map_stat st;

  (void) state;
  for (unsigned lap = 0; lap < 4; lap++)
    for (unsigned p = lap * 40; p < NR; p++)
      assert_int_equal (memory[p * WORDS], p + 1);
  st = map_stat (m);
  map_print ("laps", m);
  assert_true (st.demand_reads <= 4 * 16);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
}

/* Each lap leaves behind what was read ahead of its end. */
static void
test_left_behind (void **state)
{
  struct farpage_map *m = map_open (object, FRAMES);
  const volatile uint64_t *memory = farpage_map_address (m);
  struct farpage_map_stat st;

  (void) state;
  for (unsigned lap = 0; lap < 10; lap++)
    for (unsigned p = 0; p < NR * 5 / 8; p++)
      assert_int_equal (memory[p * WORDS], p + 1);
  st = map_stat (m);
  map_print ("left behind", m);
  assert_true (st.demand_reads <= 10 * 16);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
}

/* What was never put is there at once, while there is room: in the first half
 * of the budget nothing has to go.
 */
static void
test_fresh (void **state)
{
  struct farpage_object *o = rig_make (&rig, NULL, NR);
  struct farpage_map *m = map_open (o, FRAMES);
  volatile uint64_t *memory = farpage_map_address (m);
  uint64_t first_faults = 0;
  struct farpage_map_stat st;

  (void) state;
  for (unsigned p = 0; p < NR; p++) {
    assert_int_equal (memory[p * WORDS + 5], 0);
    memory[p * WORDS] = ~(uint64_t) p;
    if (p == FRAMES / 2)
      first_faults = map_stat (m).faults;
  }
  st = map_stat (m);
  map_print ("fresh", m);
  assert_int_equal (st.demand_reads, 0);
  assert_true (st.zeros >= NR);
  if (!uffd_tells_writes (m->uffd))
    assert_true (first_faults <= FRAMES / 2 / (MANY / 4));
  for (unsigned p = 0; p < NR; p++)
    assert_int_equal (memory[p * WORDS], ~(uint64_t) p);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
}

/* Nothing is read that nobody wants. */
static void
test_random (void **state)
{
  struct farpage_map *m = map_open (object, FRAMES);
  const volatile uint64_t *memory = farpage_map_address (m);
  uint64_t random = test_seed ();
  struct farpage_map_stat st;

  (void) state;
  for (unsigned i = 0; i < 1000; i++) {
    const uint64_t p = test_random_below (&random, NR);

    assert_int_equal (memory[p * WORDS], p + 1);
  }
  st = map_stat (m);
  map_print ("random", m);
  assert_true (st.ahead <= st.demand_reads / 10);
  assert_int_equal (farpage_unmap (m), 0);
}

#define STRIDE(name, stride)              \
  {                                       \
    name, test_stride, NULL, NULL, stride \
  }

int
main (void)
{
  static int up = 1, down = -1, seven = 7, back = -3;
  const struct CMUnitTest tests[] = {
    STRIDE ("in order", &up),        STRIDE ("backwards", &down),
    STRIDE ("each seventh", &seven), STRIDE ("each third, backwards", &back),
    cmocka_unit_test (test_laps),    cmocka_unit_test (test_left_behind),
    cmocka_unit_test (test_fresh),   cmocka_unit_test (test_random),
  };

  if (!map_can_run ())
    return 77;
  return cmocka_run_group_tests (tests, group_setup, group_teardown);
}
