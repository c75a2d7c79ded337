/* SPDX-License-Identifier: BSD-2-Clause */
/* The rig of test-check.c and test-check-map.c: a store made by hand, a node
 * of it that is changed and put back, and a check.
 */

#ifndef FARPAGE_TEST_CHECK_RIG_H
#define FARPAGE_TEST_CHECK_RIG_H

#include "test-check.h"

struct rig {
  struct store_made m;
  struct found found;
  struct disk_node node;
};

static inline int
begin (void **state)
{
  struct rig *t = calloc (1, sizeof *t);

  made_open (&t->m, 2);
  *state = t;
  return 0;
}

static inline int
end (void **state)
{
  struct rig *t = *state;

  made_close (&t->m);
  free (t);
  return 0;
}

static inline struct disk_node *
get (struct rig *t, struct disk_pointer at)
{
  blk_io (&t->m, VIO_READ, at.blk, &t->node);
  return &t->node;
}

static inline struct disk_map *
get_map (struct rig *t, struct disk_pointer at)
{
  return (struct disk_map *) get (t, at)->body;
}

static inline struct disk_object *
get_entries (struct rig *t)
{
  return ((struct disk_table *) get (t, t->m.table[0])->body)->object;
}

static inline void
put (struct rig *t)
{
  node_store (&t->m, &t->node);
}

static inline void
check (struct rig *t)
{
  assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, false), 0);
}

static inline void
check_data (struct rig *t)
{
  assert_int_equal (found_run (&t->found, t->m.v, t->m.nr, true), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown (f, begin, end)

#endif /* FARPAGE_TEST_CHECK_RIG_H */
