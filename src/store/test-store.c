/* SPDX-License-Identifier: BSD-2-Clause */
/* Named objects: make, remove, list, the default one; volumes handed in. */

#include <config.h>

#include "test-store.h"

static int
create_error (struct rig *rig, const char *name, uint64_t bytes, bool reserve)
{
  struct store_create c = { name, bytes, reserve, false };
  char instance[INSTANCE_HEX + 1] = "as before";
  int err = store_create (rig->s, &c, instance);

  if (err)
    assert_string_equal (instance, "as before");
  return err;
}

/* ---- make ---- */

static void
test_create (void **state)
{
  struct rig *rig = *state;
  struct object_stat st;

  assert_int_equal (create_error (rig, "a", 1, false), 0);
  assert_true (object_of (rig, "a", &st));
  assert_int_equal (st.size_bytes, 1);
  assert_int_equal (create_error (rig, "a", 1, false), EEXIST);
  assert_int_equal (create_error (rig, "b", OBJECT_BYTES_MAX, false), 0);
  assert_int_equal (create_error (rig, "c", 0, false), EINVAL);
  assert_int_equal (create_error (rig, "c", OBJECT_BYTES_MAX + 1, false),
                    EINVAL);
  assert_int_equal (create_error (rig, "c", UINT64_MAX, true), EINVAL);
  assert_int_equal (create_error (rig, "", 1, false), EINVAL);
  assert_int_equal (create_error (rig, "swap/x", 1, false), EINVAL);
  assert_int_equal (create_error (rig, "c~", 1, false), EINVAL);
  assert_false (object_of (rig, "c", &st));
  assert_int_equal (stat_of (rig).nr_objects, 2);
}

/* A reservation is had whole or not at all, and the name is free then. */
static void
test_create_reserved (void **state)
{
  struct rig *rig = *state;
  uint64_t free_bytes = stat_of (rig).free_bytes;
  struct object_stat st;

  assert_int_equal (create_error (rig, "r", free_bytes + PAGE_BYTES, true),
                    ENOSPC);
  assert_int_equal (stat_of (rig).free_bytes, free_bytes);
  assert_int_equal (create_error (rig, "r", free_bytes, true), 0);
  assert_true (object_of (rig, "r", &st));
  assert_true (st.reserved);
  assert_int_equal (st.reserved_bytes, free_bytes);
  assert_int_equal (stat_of (rig).free_bytes, 0);
  assert_int_equal (store_remove (rig->s, "r", false), 0);
  assert_int_equal (stat_of (rig).free_bytes, free_bytes);
}

/* A disk as large as the pool's promise can be written whole, and again. */
static void
test_reserved_is_kept (void **state)
{
  struct rig *rig = *state;
  uint64_t bytes = stat_of (rig).free_bytes;
  struct conn *c, *other;

  assert_int_equal (create_error (rig, "r", bytes, true), 0);
  create (rig, "n", MIB);
  c = open_as (rig, "r", &peer_a);
  other = open_as (rig, "n", &peer_a);
  assert_int_equal (write_byte (other, 0, 1), ENOSPC);
  for (uint8_t round = 1; round < 3; round++)
    for (uint64_t off = 0; off < bytes; off += PAGE_BYTES)
      assert_int_equal (write_byte (c, off, round), 0);
  assert_int_equal (read_byte (c, bytes - PAGE_BYTES), 2);
  store_disconnect (c);
  store_disconnect (other);
}

/* ---- remove ---- */

static void
test_remove (void **state)
{
  struct rig *rig = *state;
  struct conn *c, *d;

  assert_int_equal (store_remove (rig->s, "a", false), ENOENT);
  assert_int_equal (store_remove (rig->s, "a", true), ENOENT);
  assert_int_equal (store_remove (rig->s, "swap/x", true), ENOENT);
  create (rig, "a", MIB);
  c = open_as (rig, "a", &peer_a);
  d = open_as (rig, "a", &peer_a);
  assert_int_equal (store_remove (rig->s, "a", false), EBUSY);
  store_disconnect (c);
  assert_int_equal (store_remove (rig->s, "a", false), EBUSY);
  assert_int_equal (write_byte (d, 0, 1), 0);
  store_disconnect (d);
  assert_int_equal (store_remove (rig->s, "a", false), 0);
  assert_int_equal (store_remove (rig->s, "a", false), ENOENT);
  assert_int_equal (open_error (rig, "a"), ENOENT);
}

static int
must_not_be_told (void *arg, uint64_t off, uint64_t bytes, bool hole, bool zero)
{
  (void) arg;
  (void) off;
  (void) bytes;
  (void) hole;
  (void) zero;
  fail_msg ("extents of a removed disk");
  return 0;
}

static void
every_call_is_shut_down (struct conn *c)
{
  assert_int_equal (read_byte (c, 0), -ESHUTDOWN);
  assert_int_equal (write_byte (c, 0, 1), ESHUTDOWN);
  assert_int_equal (conn_write (c, "x", 17, 1, false), ESHUTDOWN);
  assert_int_equal (conn_flush (c), ESHUTDOWN);
  assert_int_equal (conn_trim (c, 0, PAGE_BYTES, false), ESHUTDOWN);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, true, true, false), ESHUTDOWN);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, false, false, false),
                    ESHUTDOWN);
  assert_int_equal (conn_cache (c, 0, PAGE_BYTES), ESHUTDOWN);
  assert_int_equal (
      conn_extents (c, 0, PAGE_BYTES, false, must_not_be_told, NULL),
      ESHUTDOWN);
}

/* --force: the space is there on return, the name can be used anew, and the
 * old clients never see the new disk.
 */
static void
test_remove_force (void **state)
{
  struct rig *rig = *state;
  uint64_t free_bytes = stat_of (rig).free_bytes;
  struct conn *c, *d;

  create (rig, "a", MIB);
  c = open_as (rig, "a", &peer_a);
  for (uint64_t off = 0; off < MIB; off += PAGE_BYTES)
    assert_int_equal (write_byte (c, off, 7), 0);
  assert_int_equal (stat_of (rig).mapped_bytes, MIB);
  assert_int_equal (store_remove (rig->s, "a", true), 0);
  assert_int_equal (stat_of (rig).mapped_bytes, 0);
  assert_int_equal (stat_of (rig).free_bytes, free_bytes);
  every_call_is_shut_down (c);
  create (rig, "a", MIB);
  d = open_as (rig, "a", &peer_b);
  assert_int_equal (read_byte (d, 0), 0);
  assert_int_equal (write_byte (d, 0, 9), 0);
  every_call_is_shut_down (c);
  assert_int_equal (read_byte (d, 0), 9);
  store_disconnect (c);
  assert_int_equal (read_byte (d, 0), 9);
  store_disconnect (d);
}

/* ---- requests held inside while their disk goes away ---- */

struct held {
  struct conn *c;
  int result;
};

static void *
held_write (void *arg)
{
  struct held *h = arg;

  h->result = write_byte (h->c, 0, 0x55);
  return NULL;
}

static void *
held_read (void *arg)
{
  struct held *h = arg;

  h->result = read_byte (h->c, 0);
  return NULL;
}

static void
remove_while_held (struct rig *rig, enum vio_op op, void *(*fn) (void *) )
{
  struct fault_rule rule = { .action = FAULT_HOLD, .op = op, .count = 1 };
  struct held h;
  pthread_t thread;
  int nr;

  create (rig, "h", MIB);
  h.c = open_as (rig, "h", &peer_a);
  assert_int_equal (write_byte (h.c, 0, 0x11), 0);
  nr = fault_add (rig->fault, &rule);
  pthread_create (&thread, NULL, fn, &h);
  assert_true (fault_wait_held (rig->fault, nr, 1, WAIT_NS));
  assert_int_equal (store_remove (rig->s, "h", true), 0);
  assert_int_equal (stat_of (rig).mapped_bytes, 0);
  assert_int_equal (stat_of (rig).parked_bytes,
                    op == VIO_READ ? PAGE_BYTES : 0);
  fault_release (rig->fault, nr);
  pthread_join (thread, NULL);
  assert_int_equal (h.result, op == VIO_READ ? -ESHUTDOWN : ESHUTDOWN);
  store_disconnect (h.c);
  fault_clear (rig->fault);
  assert_int_equal (stat_of (rig).parked_bytes, 0);
}

static void
test_remove_while_held (void **state)
{
  remove_while_held (*state, VIO_WRITE, held_write);
  remove_while_held (*state, VIO_READ, held_read);
}

static void *
call_remove (void *arg)
{
  struct call *call = arg;

  call->result = store_remove (call->rig->s, "n", true);
  atomic_store (&call->over, true);
  return NULL;
}

/* A write that was about to publish when the disk was killed is waited for,
 * also in a shard that has nothing yet: or its block would be lost.
 */
static void
test_remove_waits (void **state)
{
  struct rig *rig = *state;
  struct call write = { .rig = rig }, removal = { .rig = rig };
  int nr;

  create (rig, "n", 8 * MIB);
  write.c = open_as (rig, "n", &peer_a);
  nr = hold_part (rig, &write);
  must_wait_for (rig, &write, nr, &removal, call_remove);
  assert_int_equal (write.result, 0);
  assert_int_equal (removal.result, 0);
  assert_int_equal (stat_of (rig).mapped_bytes, 0);
  assert_int_equal (stat_of (rig).free_bytes + stat_of (rig).relocation_bytes,
                    POOL_BYTES);
  store_disconnect (write.c);
}

/* ---- list, default ---- */

static int
add_name (void *arg, const char *name, const char *description)
{
  assert_non_null (strstr (description, "durability=volatile"));
  strcat (strcat (arg, name), " ");
  return 0;
}

static int
stop_at_b (void *arg, const char *name, const char *description)
{
  add_name (arg, name, description);
  return name[0] == 'b' ? 42 : 0;
}

/* Makes what comes behind it, and removes what it stands on. */
static int
meddle (void *arg, const char *name, const char *description)
{
  struct rig *rig = arg;
  static char told[64];

  add_name (told, name, description);
  assert_int_equal (store_remove (rig->s, name, false), 0);
  if (name[0] == 'm')
    create (rig, "n", MIB);
  return strcmp (told, "a m n tail ") == 0 ? 99 : 0;
}

static void
test_list (void **state)
{
  struct rig *rig = *state;
  static const char *const names[] = { "tail", "a", "b", "\xc3\xbc", "c" };
  char told[128] = "";
  struct conn *c = open_as (rig, "swap/s:1M", &peer_a);

  for (size_t i = 0; i < ARRAY (names); i++)
    create (rig, names[i], MIB);
  assert_int_equal (store_list (rig->s, add_name, told), 0);
  assert_string_equal (told, "a b c tail \xc3\xbc ");
  told[0] = '\0';
  assert_int_equal (store_list (rig->s, stop_at_b, told), 42);
  assert_string_equal (told, "a b ");
  store_disconnect (c);
}

static void
test_list_changes (void **state)
{
  struct rig *rig = *state;

  create (rig, "a", MIB);
  create (rig, "m", MIB);
  create (rig, "tail", MIB);
  assert_int_equal (store_list (rig->s, meddle, rig), 99);
}

static void
test_default (void **state)
{
  struct rig *rig = *state;
  char name[OBJECT_NAME_MAX + 1] = "as before";
  struct conn *c = open_as (rig, "swap/s:1M", &peer_a);

  assert_int_equal (store_default (rig->s, name), ENOENT);
  assert_string_equal (name, "as before");
  assert_int_equal (open_error (rig, ""), ENOENT);
  create (rig, "one", 5 * MIB);
  assert_int_equal (store_default (rig->s, name), 0);
  assert_string_equal (name, "one");
  store_disconnect (c);
  c = open_as (rig, "", &peer_a);
  assert_int_equal (conn_size_bytes (c), 5 * MIB);
  create (rig, "two", MIB);
  assert_int_equal (store_default (rig->s, name), ENOENT);
  assert_int_equal (open_error (rig, ""), ENOENT);
  store_disconnect (c);
}

/* A default that is told wins, and is looked for when it is asked for. */
static void
test_default_told (void **state)
{
  struct store_config config = test_config;
  char text[] = "two", name[OBJECT_NAME_MAX + 1];
  struct rig rig;

  (void) state;
  config.default_name = text;
  rig_open (&rig, &config, POOL_BYTES);
  memset (text, 'x', 3); /* the store has its own copy */
  create (&rig, "one", MIB);
  assert_int_equal (store_default (rig.s, name), 0);
  assert_string_equal (name, "two");
  assert_int_equal (open_error (&rig, ""), ENOENT);
  create (&rig, "two", MIB);
  assert_int_equal (open_error (&rig, ""), 0);
  rig_close (&rig);
}

/* ---- open and close ---- */

/* What a caller had opened is the caller's still if the store fails. */
static void
test_open_fails (void **state)
{
  struct store_volume_config vc[2] = { { .size_bytes = MIB },
                                       { .path = "/nonexistent/volume" } };
  struct store_config config = test_config;
  struct store *s = NULL;

  (void) state;
  assert_int_equal (volume_open_memory ("mem", MIB, true, &vc[0].ready), 0);
  config.volumes = vc;
  config.nr_volumes = 2;
  assert_int_equal (store_open (&config, &s), ENOENT);
  config.nr_volumes = 0;
  assert_int_equal (store_open (&config, &s), EINVAL);
  config.nr_volumes = VOLUMES_MAX + 1;
  assert_int_equal (store_open (&config, &s), EINVAL);
  config.nr_volumes = 1;
  config.stripe_blocks = 257; /* the volume has 256 */
  assert_int_equal (store_open (&config, &s), EINVAL);
  assert_null (s);
  config.stripe_blocks = 0;
  assert_int_equal (store_open (&config, &s), 0);
  store_close (s);
  store_close (NULL);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    CASE (test_create),
    CASE (test_create_reserved),
    CASE (test_reserved_is_kept),
    CASE (test_remove),
    CASE (test_remove_force),
    CASE (test_remove_while_held),
    CASE (test_remove_waits),
    CASE (test_list),
    CASE (test_list_changes),
    CASE (test_default),
    cmocka_unit_test (test_default_told),
    cmocka_unit_test (test_open_fails),
  };

  return cmocka_run_group_tests_name ("store", tests, NULL, NULL);
}
