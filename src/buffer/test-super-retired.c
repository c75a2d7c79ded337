/* SPDX-License-Identifier: BSD-2-Clause */
/* The root superblock's list of blocks that failed a write: what it may be. */

#include <config.h>

#include "test-super.h"

#define VOLUME_1 (UINT64_C (1) << 48)

/* Blocks of the rig's volumes that may be META or DATA: 131 to 253 of the
 * root, 3 to 509 of volume 1.
 */
static void
test_retired (void **state)
{
  static const struct {
    struct disk_retired run[3];
    const char *says;
  } cases[] = {
    { { { 131, 123, 0 } }, NULL },
    { { { 253, 1, 0 }, { VOLUME_1 | 3, 507, 0 }, { 131, 122, 0 } }, NULL },
    { { { 130, 1, 0 } }, "outside their volume" },
    { { { 0, 1, 0 } }, "outside their volume" },
    { { { 131, 124, 0 } }, "outside their volume" },
    { { { 254, 1, 0 } }, "outside their volume" },
    { { { 255, 1, 0 } }, "outside their volume" },
    { { { 256, 1, 0 } }, "outside their volume" },
    { { { 253, UINT32_MAX, 0 } }, "outside their volume" },
    { { { UINT64_MAX, 1, 0 } }, "outside their volume" },
    { { { UINT64_C (1) << 60 | 131, 1, 0 } }, "outside their volume" },
    { { { VOLUME_1 | 2, 1, 0 } }, "outside their volume" },
    { { { VOLUME_1 | 3, 508, 0 } }, "outside their volume" },
    { { { 3 * VOLUME_1 | 3, 1, 0 } }, "outside their volume" },
    { { { 140, 5, 0 }, { 144, 1, 0 } }, "retired twice" },
    { { { 140, 5, 0 }, { 150, 1, 0 }, { 139, 2, 0 } }, "retired twice" },
    { { { 140, 5, 0 }, { 145, 1, 0 }, { 139, 1, 0 } }, NULL },
    { { { 140, 1, 0 }, { 0, 0, 0 }, { 150, 1, 0 } }, "an empty entry" },
    { { { 140, 1, 0 }, { 150, 0, 0 } }, "an empty entry" },
    { { { 140, 0, 0 } }, "an empty entry" },
    { { { 0, 0, 0 }, { 0, 1, 0 } }, "an empty entry" },
    { { { 140, 1, 1 } }, "spare" },
    { { { 0, 0, 0 }, { 0, 0, 1 } }, "spare" },
  };
  struct rig t;
  struct disk_super good, bad;

  UNUSED (state);
  rig_store (&t, 3);
  slot_read (t.v[0], 0, &good);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const char *why;

    bad = good;
    memcpy (bad.retired, cases[i].run, sizeof cases[i].run);
    slot_seal (&bad);
    why = super_error (&bad, 0, 256);
    if ((why == NULL) != (cases[i].says == NULL) ||
        (why != NULL && strstr (why, cases[i].says) == NULL))
      fail_msg ("list %zu: %s", i, why != NULL ? why : "good");
  }
  for (unsigned i = 0; i < DISK_RETIRED; i++)
    good.retired[i] = (struct disk_retired){ 131 + 2 * i, 1, 0 };
  slot_seal (&good);
  assert_null (super_error (&good, 0, 256));
  good.retired[DISK_RETIRED - 1].blk = 131;
  slot_seal (&good);
  assert_non_null (super_error (&good, 0, 256));
  rig_close (&t);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_retired),
  };

  return cmocka_run_group_tests_name ("super-retired", tests, test_begin,
                                      test_end);
}
