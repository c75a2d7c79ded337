/* SPDX-License-Identifier: BSD-2-Clause */
/* Slots: each field wrong by itself, torn and lost writes, volumes in any
 * order and those that do not belong together, new epochs.
 */

#include <config.h>

#include "test-super.h"

static struct rig rig;

static int
open_store (void **state)
{
  rig_store (&rig, 3);
  *state = &rig;
  return 0;
}

static int
close_store (void **state)
{
  rig_close (*state);
  return 0;
}

/* ---- one slot ---- */

static void
test_places (void **state)
{
  UNUSED (state);
  assert_int_equal (super_slot_block (100, 0), 0);
  assert_int_equal (super_slot_block (100, 2), 1);
  assert_int_equal (super_slot_block (100, 1), 98);
  assert_int_equal (super_slot_block (100, 3), 99);
}

static void
test_sizes (void **state)
{
  static const struct {
    uint64_t nr_blocks, nr_nodes;
    uint32_t height;
  } cases[] = {
    { 1, 1, 0 },
    { 30720, 1, 0 },
    { 30721, 3, 1 },
    { 30720 * 128, 129, 1 },
    { 30720 * 128 + 1, 129 + 2 + 1, 2 },
    { UINT64_C (30720) * 128 * 128, 16384 + 128 + 1, 2 },
    { UINT64_C (30720) * 128 * 128 + 1, 16385 + 129 + 2 + 1, 3 },
    { UINT64_C (1) << 48, UINT64_C (9234743335), 5 },
  };

  UNUSED (state);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint64_t nr_nodes;
    uint32_t height;

    super_freemap_size (cases[i].nr_blocks, &nr_nodes, &height);
    assert_int_equal (nr_nodes, cases[i].nr_nodes);
    assert_int_equal (height, cases[i].height);
  }
}

struct wrong {
  size_t off, bytes;
  uint64_t value;
  const char *says;
};

#define FIELD(name) \
  offsetof (struct disk_super, name), sizeof (((struct disk_super *) 0)->name)
#define HUGE (UINT64_C (1) << 60)
#define ALL  UINT64_MAX

/* The rig's root: 256 blocks, ring 2 to 129, free map 130, sequence 4, slot 0;
 * members of 256, 512 and 768 blocks.
 */
static const struct wrong root_wrongs[] = {
  { FIELD (magic[0]), 'X', "no superblock" },
  { FIELD (version), 2, "another version" },
  { FIELD (version), 0, "another version" },
  { FIELD (slot), 2, "another slot" },
  { FIELD (slot), 4, "another slot" },
  { FIELD (uuid), 0, "uuid" },
  { FIELD (volume), 3, "volume's number" },
  { FIELD (volume), ALL, "volume's number" },
  { FIELD (volume), 1, "not the root's" },
  { FIELD (nr_volumes), 0, "number of volumes" },
  { FIELD (nr_volumes), 65, "number of volumes" },
  { FIELD (nr_volumes), 2, "more members" },
  { FIELD (nr_volumes), 4, "size of a volume" },
  { FIELD (nr_blocks), 255, "another size" },
  { FIELD (nr_blocks), ALL, "another size" },
  { FIELD (sequence), 0, "sequence is" },
  { FIELD (sequence), 5, "sequence is" },
  { FIELD (sequence), HUGE, "sequence is" },
  { FIELD (epoch), 0, "epoch" },
  { FIELD (epoch), HUGE, "epoch" },
  { FIELD (state), 0, "state" },
  { FIELD (state), 3, "state" },
  { FIELD (entry_bytes), 16, "map entries" },
  { FIELD (ring_first), 1, "the ring is outside" },
  { FIELD (ring_first), 255, "the ring is outside" },
  { FIELD (ring_first), ALL, "the ring is outside" },
  { FIELD (ring_first), 3, "overlaps" },
  { FIELD (ring_first), 126, "overlaps" },
  { FIELD (ring_blocks), 127, "too small" },
  { FIELD (ring_blocks), 129, "overlaps" },
  { FIELD (ring_blocks), 253, "the ring is outside" },
  { FIELD (ring_blocks), ALL, "the ring is outside" },
  { FIELD (ring_blocks), ALL - 1, "the ring is outside" },
  { FIELD (cycle), 0, "cycle is" },
  { FIELD (cycle), HUGE, "cycle is" },
  { FIELD (redo_lsn), 0, "sequence number" },
  { FIELD (redo_lsn), HUGE, "sequence number" },
  { FIELD (redo_lsn), 2, "longer than the ring" },
  { FIELD (redo_epoch), HUGE, "later epoch" },
  { FIELD (next_lsn), 0, "sequence number" },
  { FIELD (next_lsn), HUGE, "sequence number" },
  { FIELD (next_lsn), 130, "log's end" },
  { FIELD (durable_lsn), 0, "sequence number" },
  { FIELD (durable_lsn), HUGE, "sequence number" },
  { FIELD (durable_lsn), 130, "longer than the ring" },
  { FIELD (next_object), 0xfff, "next object" },
  { FIELD (next_object), HUGE, "next object" },
  { FIELD (dirty_max), UINT64_C (1) << 32, "dirty nodes" },
  { FIELD (table.blk), 131, "root is of no cycle" },
  { FIELD (table.cycle), 1, "root is outside" },
  { FIELD (table_height), 7, "table's height" },
  { FIELD (spare0), 1, "spare" },
  { FIELD (spare1[0]), 1, "spare" },
  { FIELD (spare1[55]), 1, "spare" },
  { FIELD (spare2[0]), 1, "spare" },
  { FIELD (retired[39].spare), 1, "spare" },
  { FIELD (retired[39].nr), 1, "an empty entry" },
  { offsetof (struct disk_super, crc) - 1, 1, 1, "spare" },
  { FIELD (members[1].spare), 1, "spare" },
  { FIELD (members[0].nr_blocks), 255, "size of a volume" },
  { FIELD (members[1].nr_blocks), 4, "size of a volume" },
  { FIELD (members[1].nr_blocks), (UINT64_C (1) << 48) + 1,
    "size of a volume" },
  { FIELD (members[2].nr_blocks), 30721, "not fit" },
  { FIELD (members[2].freemap_height), 1, "not fit" },
  { FIELD (members[2].freemap_blocks), 0, "not fit" },
  { FIELD (members[2].freemap_blocks), 2, "not fit" },
  { FIELD (members[2].freemap_first), 1, "outside its volume" },
  { FIELD (members[2].freemap_first), 766, "outside its volume" },
  { FIELD (members[2].freemap_first), ALL, "outside its volume" },
  { FIELD (members[0].freemap_first), 2, "overlaps" },
  { FIELD (members[0].freemap_first), 129, "overlaps" },
  { FIELD (members[0].freemap_first), 131, "outside of that" },
  { FIELD (members[1].freemap.blk), 2, "outside of that" },
  { FIELD (members[1].freemap.blk), UINT64_C (1) << 48 | 3, "outside of that" },
  { FIELD (members[1].freemap.blk), UINT64_C (1) << 60 | UINT64_C (1) << 48 | 2,
    "outside of that" },
  { FIELD (members[1].freemap.cycle), 0, "no cycle" },
  { FIELD (members[1].freemap.cycle), 2, "no cycle" },
  { FIELD (members[3].nr_blocks), 1, "more members" },
  { FIELD (members[63].freemap_blocks), 1, "more members" },
};

static void
set_field (struct disk_super *p, size_t off, size_t bytes, uint64_t value)
{
  uint8_t *to = (uint8_t *) p + off;

  for (size_t i = 0; i < bytes; i++)
    to[i] = i < 8 ? (uint8_t) (value >> 8 * i) : 0;
}

/* Wrong in all slots: the store is refused, and nothing else is. */
static void
test_fields (void **state)
{
  struct rig *t = *state;
  struct disk_super good[DISK_SUPER_SLOTS], bad;

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    slot_read (t->v[0], i, &good[i]);
    assert_null (super_error (&good[i], i, 256));
  }
  assert_int_equal (good[0].sequence, 4);
  for (size_t i = 0; i < sizeof root_wrongs / sizeof root_wrongs[0]; i++) {
    const struct wrong *w = &root_wrongs[i];
    const char *why;

    bad = good[0];
    set_field (&bad, w->off, w->bytes, w->value);
    slot_seal (&bad);
    why = super_error (&bad, 0, 256);
    if (why == NULL || strstr (why, w->says) == NULL)
      fail_msg ("byte %zu is 0x%" PRIx64 ": %s, not %s", w->off, w->value,
                why != NULL ? why : "good", w->says);
    slot_write (t->v[0], 0, &bad);
    if (w->off != offsetof (struct disk_super, version)) {
      assert_int_equal (supers_read (t->v, 3, &t->s), 0);
      assert_int_equal (t->s.root.sequence, 3);
      assert_string_equal (t->s.root_errors[0], why);
      assert_true (test_log_has ("va: superblock slot 0: ") > 0);
    } else
      assert_int_equal (supers_read (t->v, 3, &t->s), EINVAL);
  }
}

/* What is outside a root's slots is zero in a peer's. */
static void
test_peer_fields (void **state)
{
  struct rig *t = *state;
  struct disk_super good, bad;

  slot_read (t->v[1], 0, &good);
  for (size_t off = offsetof (struct disk_super, state); off < DISK_CRC_OFF;
       off++) {
    bad = good;
    ((uint8_t *) &bad)[off] = 1;
    slot_seal (&bad);
    assert_non_null (super_error (&bad, 0, good.nr_blocks));
  }
  bad = good;
  bad.volume = 2; /* a peer's all the same: supers_read () minds */
  slot_seal (&bad);
  assert_null (super_error (&bad, 0, good.nr_blocks));
}

/* Any bit turned, and no CRC that hides it. */
static void
test_bits (void **state)
{
  struct rig *t = *state;
  struct disk_super slot;

  slot_read (t->v[0], 0, &slot);
  for (unsigned bit = 0; bit < 8 * DISK_BLOCK_BYTES; bit++) {
    ((uint8_t *) &slot)[bit / 8] ^= (uint8_t) (1u << bit % 8);
    assert_non_null (super_error (&slot, 0, 256));
    ((uint8_t *) &slot)[bit / 8] ^= (uint8_t) (1u << bit % 8);
  }
  assert_null (super_error (&slot, 0, 256));
}

/* What passes keeps I4, whatever was written over it under a good CRC. */
static void
test_random_fields (void **state)
{
  struct rig *t = *state;
  uint64_t seed = test_seed ();
  struct disk_super good, bad;
  unsigned nr_good = 0;

  slot_read (t->v[0], 0, &good);
  for (unsigned n = 0; n < 200000; n++) {
    uint64_t r = test_random (&seed), value = test_random (&seed) >> r % 64;

    bad = good;
    set_field (&bad, 8 * (r >> 32) % 440, 1 + (r >> 8) % 8, value);
    slot_seal (&bad);
    if (super_error (&bad, 0, 256) != NULL)
      continue;
    nr_good++;
    assert_int_equal (bad.nr_blocks, 256);
    assert_true (bad.ring_first + bad.ring_blocks <=
                 bad.members[0].freemap_first);
    for (unsigned i = 0; i < bad.nr_volumes; i++)
      assert_true (super_first_block (&bad, i) <= bad.members[i].nr_blocks - 2);
    assert_true (bad.redo_lsn <= bad.durable_lsn);
    assert_true (bad.durable_lsn < HUGE && bad.cycle < HUGE);
  }
  assert_true (nr_good > 0);
}

/* ---- slots in turn ---- */

static void
test_turns (void **state)
{
  struct rig *t = *state;
  struct disk_super slot;

  for (unsigned n = 5; n < 50; n++) {
    t->s.root.staging = n;
    assert_int_equal (supers_write_root (&t->s, t->page), 0);
    assert_int_equal (t->s.root.sequence, n);
    for (unsigned back = 0; back < DISK_SUPER_SLOTS && back + 4 < n; back++) {
      slot_read (t->v[0], (n - back) % 4, &slot);
      assert_int_equal (slot.sequence, n - back);
      assert_int_equal (slot.staging, n - back);
    }
    assert_int_equal (supers_read (t->v, 3, &t->s), 0);
    assert_int_equal (t->s.root.sequence, n);
    assert_int_equal (t->s.root.staging, n);
    assert_int_equal (test_log_has ("slot"), 0);
  }
}

/* Every mixture of old and new sectors in the slot that was being written. */
static void
test_torn (void **state)
{
  struct rig *t = *state;
  struct disk_super old, new, mixed, best;
  const char *errors[DISK_SUPER_SLOTS];

  for (unsigned n = 5; n < 10; n++) {
    slot_read (t->v[0], n % 4, &old);
    t->s.root.staging = n * UINT64_C (0x0101010101010101);
    assert_int_equal (supers_write_root (&t->s, t->page), 0);
    slot_read (t->v[0], n % 4, &new);
    for (unsigned mask = 0; mask < 256; mask++) {
      uint64_t want = n - 1;

      for (unsigned i = 0; i < 8; i++)
        memcpy ((char *) &mixed + 512 * i,
                (char *) (mask >> i & 1 ? &new : &old) + 512 * i, 512);
      slot_write (t->v[0], n % 4, &mixed);
      if (memcmp (&mixed, &new, sizeof new) == 0)
        want = n;
      assert_int_equal (super_read (t->v[0], &best, errors), 0);
      assert_int_equal (best.sequence, want);
      assert_true (want == n || errors[n % 4] != NULL ||
                   memcmp (&mixed, &old, sizeof old) == 0);
    }
    slot_write (t->v[0], n % 4, &new);
  }
}

/* A write that fails is made again in the same place. */
static void
test_failed_write (void **state)
{
  struct fault_rule rule = { .op = VIO_WRITE, .count = 3, .error = EIO };
  struct rig *t = *state;
  struct disk_super slot;

  fault_add (t->v[0], &rule);
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal (supers_write_root (&t->s, t->page), EIO);
  assert_int_equal (t->s.root.sequence, 4);
  assert_int_equal (supers_write_root (&t->s, t->page), 0);
  slot_read (t->v[0], 1, &slot);
  assert_int_equal (slot.sequence, 5);
}

/* One slot after the other goes bad, or cannot be read. */
static void
test_losses (void **state)
{
  struct rig *t = *state;
  struct disk_super best, zeros = { .slot = 0 };
  struct fault_rule rule = { .op = VIO_READ, .error = EIO };

  for (unsigned s = 4; s > 1; s--) {
    rule.off = slot_of (t->v[0], s % 4) * DISK_BLOCK_BYTES;
    rule.bytes = DISK_BLOCK_BYTES;
    fault_add (t->v[0], &rule);
    assert_int_equal (supers_read (t->v, 3, &t->s), 0);
    assert_int_equal (t->s.root.sequence, s - 1);
    assert_non_null (t->s.root_errors[s % 4]);
  }
  rule.bytes = 0;
  fault_add (t->v[0], &rule);
  test_log_forget ();
  assert_int_equal (supers_read (t->v, 3, &t->s), EIO);
  assert_int_equal (test_log_has ("va: none of its superblocks is good: it "
                                  "cannot be read (run 'farpage check va')"),
                    1);
  fault_clear (t->v[0]);
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    slot_write (t->v[0], i, &zeros);
  assert_int_equal (super_read (t->v[0], &best, NULL), ENOENT);
  assert_int_equal (supers_read (t->v, 3, &t->s), EMEDIUMTYPE);
  assert_int_equal (test_log_has ("va: not a farpage volume (run 'farpage "
                                  "format va' to make it one)"),
                    1);
}

/* ---- a store's volumes ---- */

static void
test_order (void **state)
{
  static const unsigned orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
                                        { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
  struct rig *t = *state;

  for (unsigned n = 0; n < 6; n++) {
    struct volume *mixed[3];

    for (unsigned i = 0; i < 3; i++)
      mixed[i] = t->v[orders[n][i]];
    assert_int_equal (supers_read (mixed, 3, &t->s), 0);
    assert_memory_equal (mixed, t->v, sizeof mixed);
    assert_ptr_equal (t->s.volumes, mixed);
    assert_int_equal (t->s.nr_volumes, 3);
    assert_int_equal (t->s.peers[2].nr_blocks, 768);
    assert_false (t->s.readonly);
  }
}

/* volumes[] are refused with this error and this message. */
static void
refused (struct rig *t, struct volume *const *volumes, unsigned nr, int error,
         const char *says)
{
  struct volume *v[RIG_VOLUMES];

  memcpy (v, volumes, nr * sizeof *v);
  test_log_forget ();
  assert_int_equal (supers_read (v, nr, &t->s), error);
  if (test_log_has (says) != 1)
    fail_msg ("'%s' and not '%s'", test_log[0], says);
  assert_memory_equal (v, volumes, nr * sizeof *v);
}

static void
test_wrong_volumes (void **state)
{
  struct rig *t = *state;
  struct rig other = { .nr = 0 };
  struct volume *two[3] = { t->v[2], t->v[0] };

  refused (t, two, 2, ENXIO,
           "vc: is of a store of 3 volumes, and number 1 is missing");
  refused (t, &t->v[1], 2, ENXIO, "and number 0 is missing");
  refused (t, t->v, 2, ENXIO, "and number 2 is missing (name all of them)");
  refused (t, t->v, 1, ENXIO, "and number 1 is missing");
  assert_int_equal (test_log_has ("number 2 is missing"), 1);
  two[2] = t->v[2];
  refused (t, two, 3, EINVAL, "vc: is volume 2 of the store, and so is vc");
  rig_store (&other, 3);
  two[0] = other.v[1];
  two[2] = t->v[2];
  refused (t, two, 3, EINVAL, "va: belongs to another store than vb");
  rig_close (&other);
  assert_int_equal (supers_read (t->v, 0, &t->s), ENXIO);
}

/* All slots of a volume get these bytes at off. */
static void
change_all (struct volume *v, size_t off, size_t bytes, uint64_t value)
{
  struct disk_super slot;

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    slot_read (v, i, &slot);
    set_field (&slot, off, bytes, value);
    slot_seal (&slot);
    slot_write (v, i, &slot);
  }
}

static void
test_wrong_peers (void **state)
{
  struct rig *t = *state;

  change_all (t->v[0], FIELD (epoch), 7);
  refused (t, t->v, 3, ESTALE, "vb: is older (epoch 1) than the rest of its");
  change_all (t->v[1], FIELD (epoch), 7);
  change_all (t->v[2], FIELD (epoch), 8);
  assert_int_equal (supers_read (t->v, 3, &t->s), 0);
  change_all (t->v[2], FIELD (epoch), 9);
  refused (t, t->v, 3, ESTALE, "va: is older (epoch 7) than vc (epoch 9)");
  change_all (t->v[2], FIELD (epoch), 7);
  change_all (t->v[2], FIELD (volume), 1);
  refused (t, t->v, 3, EINVAL, "vc: is volume 1 of the store, and so is vb");
  change_all (t->v[2], FIELD (volume), 2);
  change_all (t->v[0], FIELD (members[1].nr_blocks), 511);
  refused (t, t->v, 3, EINVAL, "vb: has 512 blocks, and va knows it with 511");
  change_all (t->v[0], FIELD (members[1].nr_blocks), 512);
  change_all (t->v[1], FIELD (nr_volumes), 4);
  refused (t, t->v, 3, EINVAL,
           "vb: is of a store of 4 volumes, and va of one of 3");
  change_all (t->v[1], FIELD (version), 2);
  refused (t, t->v, 3, EINVAL, "vb: was made by another version of farpage");
}

static void
test_features (void **state)
{
  struct rig *t = *state;

  change_all (t->v[0], FIELD (compat), 4);
  change_all (t->v[0], FIELD (spare1), 1);
  assert_int_equal (supers_read (t->v, 3, &t->s), 0);
  assert_false (t->s.readonly);
  assert_int_equal (supers_write_root (&t->s, t->page), 0);
  assert_int_equal (t->s.root.compat, 4); /* and it stays */
  change_all (t->v[2], FIELD (ro_compat), 2);
  assert_int_equal (supers_read (t->v, 3, &t->s), 0);
  assert_true (t->s.readonly);
  assert_int_equal (test_log_has ("vc: has features (0x2) that"), 1);
  assert_int_equal (supers_attach (&t->s, t->page), EROFS);
  assert_int_equal (t->s.peers[1].epoch, 1);
  assert_int_equal (supers_write_root (&t->s, t->page), EROFS);
  change_all (t->v[0], FIELD (incompat), 9);
  change_all (t->v[0], FIELD (entry_bytes), 56);
  refused (t, t->v, 3, EINVAL, "va: has features (0x9) that");
}

/* A volume that has grown or shrunk shows slots of another size. */
static void
test_resized (void **state)
{
  static const uint64_t sizes[] = { 2 * MIB, MIB - 4096, MIB / 2 };
  struct rig *t = *state;
  void *buf = test_pages (2 * MIB);

  for (unsigned i = 0; i < 3; i++) {
    struct volume *v[3] = { NULL, t->v[1], t->v[2] };

    memset (buf, 0, 2 * MIB);
    move_blocks (t->v[0], VIO_READ, 0, buf, 256);
    assert_int_equal (volume_open_memory ("va", sizes[i], true, &v[0]), 0);
    move_blocks (v[0], VIO_WRITE, 0, buf, (uint32_t) (sizes[i] / 4096));
    refused (t, v, 3, EINVAL, "va: its size has changed since");
    volume_close (v[0]);
  }
  free (buf);
}

/* ---- epochs ---- */

static void
test_attach (void **state)
{
  struct rig *t = *state;

  for (unsigned n = 2; n < 10; n++) {
    assert_int_equal (supers_attach (&t->s, t->page), 0);
    assert_int_equal (supers_read (t->v, 3, &t->s), 0);
    assert_int_equal (t->s.root.epoch, n);
    assert_int_equal (t->s.root.state, DISK_IN_USE);
    for (unsigned i = 1; i < 3; i++)
      assert_int_equal (t->s.peers[i].epoch, n);
  }
}

/* It ends at each write and flush: the root is last, and it can be tried
 * again, by us or by the next.
 */
static void
test_attach_fails (void **state)
{
  struct fault_rule rule = { .op = VIO_WRITE, .count = 1, .error = EIO };
  struct rig *t = *state;

  for (unsigned n = 0; n < 6; n++) {
    unsigned volume = n % 3;
    struct disk_super before = t->s.root, best;

    if (n < 3)
      fault_add (t->v[volume], &rule);
    else
      fault_fail_flush (t->v[volume], EIO);
    assert_int_equal (supers_attach (&t->s, t->page), EIO);
    fault_clear (t->v[volume]);
    t->v[volume]->flush_failed = false; /* as if it was opened again */
    assert_int_equal (t->s.root.epoch, before.epoch);
    assert_int_equal (super_read (t->v[0], &best, NULL), 0);
    if (n != 3) /* the root's own flush: it may be there */
      assert_int_equal (best.sequence, before.sequence);
    if (n % 2 == 0)
      assert_int_equal (supers_read (t->v, 3, &t->s), 0);
    assert_int_equal (supers_attach (&t->s, t->page), 0);
    assert_int_equal (supers_read (t->v, 3, &t->s), 0);
    assert_int_equal (t->s.root.epoch, before.epoch + 1);
  }
}

#define STORE(f) cmocka_unit_test_setup_teardown (f, open_store, close_store)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_places),
    cmocka_unit_test (test_sizes),
    STORE (test_fields),
    STORE (test_peer_fields),
    STORE (test_bits),
    STORE (test_random_fields),
    STORE (test_turns),
    STORE (test_torn),
    STORE (test_failed_write),
    STORE (test_losses),
    STORE (test_order),
    STORE (test_wrong_volumes),
    STORE (test_wrong_peers),
    STORE (test_features),
    STORE (test_resized),
    STORE (test_attach),
    STORE (test_attach_fails),
  };

  return cmocka_run_group_tests_name ("super", tests, test_begin, test_end);
}
