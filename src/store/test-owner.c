/* SPDX-License-Identifier: BSD-2-Clause */
/* Owners: who is the same client, who may write, and until when. */

#include <config.h>

#include "test-store.h"

#define V4(a, b, c, d)                                   \
  {                                                      \
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d \
  }

static const struct peer ip_a1 = { .kind = PEER_IP,
                                   .address = V4 (10, 0, 0, 1),
                                   .port = 1000 };
static const struct peer ip_a2 = { .kind = PEER_IP,
                                   .address = V4 (10, 0, 0, 1),
                                   .port = 2000 };
static const struct peer ip_b = { .kind = PEER_IP,
                                  .address = V4 (10, 0, 0, 2),
                                  .port = 1000 };
static const struct peer ip_6 = { .kind = PEER_IP,
                                  .address = { 0xfe, 0x80, [15] = 1 },
                                  .port = 1000 };
static const struct peer unix_pid = { .kind = PEER_UNIX,
                                      .uid = 1000,
                                      .pid = 18 };
static const struct peer unix_uid = { .kind = PEER_UNIX,
                                      .uid = 1001,
                                      .pid = 17 };
/* The bytes of peer_a's pid and uid, as an address. */
static const struct peer ip_like_unix = { .kind = PEER_IP,
                                          .address = { 17, [8] = 0xe8, 3 } };

struct pair {
  const char *what;
  const struct peer *p, *q;
  const char *p_name, *q_name; /* suffixes */
  bool same;
  const char *owner; /* what stat calls p */
};

static const struct pair pairs[] = {
  { "same address, another port", &ip_a1, &ip_a2, "", "", true, "10.0.0.1" },
  { "another address", &ip_a1, &ip_b, "", "", false, "10.0.0.1" },
  { "v4 and v6", &ip_a1, &ip_6, "", "", false, "10.0.0.1" },
  { "v6", &ip_6, &ip_6, "", "", true, "fe80::1" },
  { "same process", &peer_a, &peer_a, "", "", true, "pid 17 (uid 1000)" },
  { "another pid", &peer_a, &unix_pid, "", "", false, "pid 17 (uid 1000)" },
  { "another uid", &peer_a, &unix_uid, "", "", false, "pid 17 (uid 1000)" },
  { "Unix and IP", &peer_a, &ip_a1, "", "", false, "pid 17 (uid 1000)" },
  { "the same bytes", &peer_a, &ip_like_unix, "", "", false,
    "pid 17 (uid 1000)" },
  { "unknown peers", &peer_unknown, &peer_unknown, "", "", false,
    "connection " },
  { "unknown and IP", &peer_unknown, &ip_a1, "", "", false, "connection " },
  { "one session, two addresses", &ip_a1, &ip_b, "~." HEX_A ".1",
    "~." HEX_A ".1", true, "session " HEX_A },
  { "one session, unknown peers", &peer_unknown, &peer_unknown, "~." HEX_A ".1",
    "~." HEX_A ".1", true, "session " HEX_A },
  { "two sessions, one address", &ip_a1, &ip_a1, "~." HEX_A ".1",
    "~." HEX_B ".1", false, "session " HEX_A },
  { "session and none, one address", &ip_a1, &ip_a1, "~." HEX_A ".1", "", false,
    "session " HEX_A },
  { "none and session, one process", &peer_a, &peer_a, "", "~." HEX_A ".1",
    false, "pid 17 (uid 1000)" },
};

static struct conn *
open_suffix (struct rig *rig, const char *suffix, const struct peer *peer)
{
  char name[128];

  snprintf (name, sizeof name, "n%s", suffix);
  return open_as (rig, name, peer);
}

/* Every way to modify ends with err. */
static void
all_modify (struct conn *c, int err)
{
  assert_int_equal (write_byte (c, 0, 1), err);
  assert_int_equal (conn_write (c, "x", 4097, 1, false), err);
  assert_int_equal (conn_trim (c, 0, PAGE_BYTES, false), err);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, true, false, false), err);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, false, false, false), err);
  assert_int_equal (conn_zero (c, 0, PAGE_BYTES, true, true, false), err);
}

static int
ignore_extent (void *arg, uint64_t off, uint64_t bytes, bool hole, bool zero)
{
  (void) arg;
  (void) off;
  (void) bytes;
  (void) hole;
  (void) zero;
  return 0;
}

static void
all_read (struct conn *c)
{
  assert_true (read_byte (c, 0) >= 0);
  assert_int_equal (conn_flush (c), 0);
  assert_int_equal (conn_cache (c, 0, PAGE_BYTES), 0);
  assert_int_equal (conn_extents (c, 0, PAGE_BYTES, false, ignore_extent, NULL),
                    0);
}

static const char *
owner_of (struct rig *rig)
{
  static struct object_stat st;

  assert_true (object_of (rig, "n", &st));
  return st.owner;
}

/* ---- the table ---- */

/* The owner has gone: what the other's connections may do now. */
static void
after_the_owner (struct rig *rig, const struct pair *t, struct conn *older,
                 struct conn *newer)
{
  struct conn *c;

  if (t->same)
    return;
  assert_string_equal (owner_of (rig), "");
  assert_true (conn_readonly (newer)); /* for its life: nbdkit asks once */
  all_modify (newer, EPERM);
  all_modify (older, 0);
  c = open_suffix (rig, t->p_name, t->p);
  assert_true (conn_readonly (c));
  all_modify (c, EPERM);
  store_disconnect (c);
}

static void
run_pair (struct rig *rig, const struct pair *t)
{
  struct conn *older, *newer, *p1, *p2;

  printf ("  %s\n", t->what);
  create (rig, "n", MIB);
  older = open_suffix (rig, t->q_name, t->q);
  p1 = open_suffix (rig, t->p_name, t->p);
  all_read (p1);
  all_read (older);
  assert_string_equal (owner_of (rig), "");
  all_modify (p1, 0);
  assert_memory_equal (owner_of (rig), t->owner, strlen (t->owner));
  all_read (older);
  all_modify (older, t->same ? 0 : EPERM);
  newer = open_suffix (rig, t->q_name, t->q);
  assert_int_equal (conn_readonly (newer), !t->same);
  all_read (newer);
  all_modify (newer, t->same ? 0 : EPERM);

  if (t->p->kind != PEER_UNKNOWN || t->p_name[0] != '\0') {
    p2 = open_suffix (rig, t->p_name, t->p);
    assert_false (conn_readonly (p2));
    store_disconnect (p1);
    p1 = p2;
    all_modify (older, t->same ? 0 : EPERM);
    all_modify (p1, 0);
  }
  store_disconnect (p1);
  after_the_owner (rig, t, older, newer);
  store_disconnect (older);
  store_disconnect (newer);
  assert_string_equal (owner_of (rig), "");
  assert_int_equal (store_remove (rig->s, "n", false), 0);
}

static void
test_pairs (void **state)
{
  for (size_t i = 0; i < ARRAY (pairs); i++)
    run_pair (*state, &pairs[i]);
}

/* Of the same client each connection keeps the others' rights alive: the last
 * to close is what counts, whichever it is.
 */
static void
test_last_close (void **state)
{
  struct rig *rig = *state;
  struct conn *c[4], *other;

  create (rig, "n", MIB);
  other = open_as (rig, "n", &peer_b);
  for (int i = 0; i < 4; i++)
    c[i] = open_as (rig, "n", &peer_a);
  all_modify (c[2], 0);
  for (int i = 0; i < 4; i++) {
    all_modify (other, EPERM);
    store_disconnect (c[(i + 2) % 4]);
  }
  all_modify (other, 0);
  store_disconnect (other);
}

/* A read-only connection of the owner holds the disk as well. */
static void
test_readonly_holds (void **state)
{
  struct rig *rig = *state;
  struct conn *c, *ro, *other;

  create (rig, "n", MIB);
  other = open_as (rig, "n", &peer_b);
  assert_int_equal (store_connect (rig->s, "n", true, &peer_a, &ro), 0);
  c = open_as (rig, "n", &peer_a);
  all_modify (c, 0);
  store_disconnect (c);
  all_modify (other, EPERM);
  all_modify (ro, EPERM);
  store_disconnect (ro);
  all_modify (other, 0);
  store_disconnect (other);
}

static void
test_shared (void **state)
{
  struct rig *rig = *state;
  struct store_create create = { "n", MIB, false, true };
  char instance[INSTANCE_HEX + 1];
  struct conn *c, *d, *e;

  assert_int_equal (store_create (rig->s, &create, instance), 0);
  c = open_as (rig, "n", &peer_a);
  d = open_as (rig, "n", &peer_b);
  all_modify (c, 0);
  all_modify (d, 0);
  e = open_as (rig, "n", &ip_b);
  assert_false (conn_readonly (e));
  all_modify (e, 0);
  assert_string_equal (owner_of (rig), "");
  store_disconnect (c);
  store_disconnect (d);
  store_disconnect (e);
}

/* A request that is refused, or does nothing, makes nobody an owner. */
static void
test_what_does_not_own (void **state)
{
  struct rig *rig = *state;
  struct conn *c, *other;

  create (rig, "n", MIB);
  c = open_as (rig, "n", &peer_a);
  other = open_as (rig, "n", &peer_b);
  assert_int_equal (conn_write (c, "", 0, 0, false), 0);
  assert_int_equal (conn_trim (c, MIB, 0, false), 0);
  assert_int_equal (conn_zero (c, 0, 0, true, true, false), 0);
  assert_int_equal (conn_write (c, "x", MIB, 1, false), EINVAL);
  assert_int_equal (conn_trim (c, MIB - 1, 2, false), EINVAL);
  assert_int_equal (conn_zero (c, UINT64_MAX, 1, true, false, false), EINVAL);
  assert_int_equal (conn_zero (c, 0, 17, true, true, false), ENOTSUP);
  assert_string_equal (owner_of (rig), "");
  all_modify (other, 0);
  store_disconnect (c);
  store_disconnect (other);
}

/* ---- the owner's process ---- */

static void
test_owner_pid (void **state)
{
  static const struct {
    const char *what;
    const struct peer *p[2];
    const char *suffix;
    int64_t pid;
  } cases[] = {
    { "a process", { &peer_a }, "", 17 },
    { "its two connections", { &peer_a, &peer_a }, "", 17 },
    { "an address", { &ip_a1 }, "", 0 },
    { "an unknown peer", { &peer_unknown }, "", 0 },
    { "a session of one process", { &peer_a, &peer_a }, "~." HEX_A ".1", 17 },
    { "of two processes", { &peer_a, &unix_pid }, "~." HEX_A ".1", 0 },
    { "of a process and an address", { &peer_a, &ip_b }, "~." HEX_A ".1", 0 },
    { "of an address and a process", { &ip_b, &peer_a }, "~." HEX_A ".1", 0 },
  };
  struct rig *rig = *state;

  create (rig, "n", MIB);
  for (size_t i = 0; i < ARRAY (cases); i++) {
    struct conn *other = open_as (rig, "n", &ip_6);
    struct conn *c = open_suffix (rig, cases[i].suffix, cases[i].p[0]);
    struct conn *d = NULL;

    printf ("  %s\n", cases[i].what);
    if (cases[i].p[1] != NULL)
      d = open_suffix (rig, cases[i].suffix, cases[i].p[1]);
    assert_int_equal (conn_owner_pid (other), 0); /* nobody's */
    assert_int_equal (write_byte (c, 0, 1), 0);
    assert_int_equal (conn_owner_pid (other), cases[i].pid);
    assert_int_equal (conn_owner_pid (c), 0); /* its own */
    store_disconnect (c);
    assert_int_equal (conn_owner_pid (other),
                      d != NULL && d->peer.kind == PEER_UNIX ? d->peer.pid : 0);
    if (d != NULL)
      store_disconnect (d);
    assert_int_equal (conn_owner_pid (other), 0); /* nobody's again */
    store_disconnect (other);
  }
}

/* ---- looking again ---- */

/* Shut out as long as any connection of the owner is there, then as if it had
 * come when it looked.
 */
static void
test_look_again (void **state)
{
  struct rig *rig = *state;
  struct conn *c, *d, *waits, *late;

  create (rig, "n", MIB);
  c = open_as (rig, "n", &peer_a);
  d = open_as (rig, "n", &peer_a);
  assert_true (conn_look_again (c));
  all_modify (c, 0);
  waits = open_as (rig, "n", &peer_b);
  for (int i = 0; i < 2; i++) {
    assert_false (conn_look_again (waits));
    assert_true (conn_readonly (waits));
    all_modify (waits, EPERM);
    store_disconnect (i == 0 ? c : d);
  }
  all_modify (waits, EPERM); /* it has not looked yet */
  assert_true (conn_look_again (waits));
  assert_false (conn_readonly (waits));
  assert_string_equal (owner_of (rig), ""); /* a look does not own */
  all_modify (waits, 0);
  assert_string_equal (owner_of (rig), "pid 18 (uid 1001)");
  late = open_as (rig, "n", &peer_a);
  assert_false (conn_look_again (late));
  all_modify (late, EPERM);
  assert_true (conn_look_again (waits));
  store_disconnect (late);
  store_disconnect (waits);
}

/* Another connection of the one that waits has become the owner. */
static void
test_look_again_mine (void **state)
{
  struct rig *rig = *state;
  struct conn *owner, *older, *waits;

  create (rig, "n", MIB);
  older = open_as (rig, "n", &peer_b);
  owner = open_as (rig, "n", &peer_a);
  all_modify (owner, 0);
  waits = open_as (rig, "n", &peer_b);
  store_disconnect (owner);
  all_modify (older, 0);
  all_modify (waits, EPERM);
  assert_true (conn_look_again (waits));
  all_modify (waits, 0);
  store_disconnect (older);
  store_disconnect (waits);
}

static void
test_look_again_readonly (void **state)
{
  struct rig *rig = *state;
  struct conn *owner, *before, *after;

  create (rig, "n", MIB);
  assert_int_equal (store_connect (rig->s, "n", true, &peer_b, &before), 0);
  assert_false (conn_look_again (before));
  owner = open_as (rig, "n", &peer_a);
  all_modify (owner, 0);
  assert_int_equal (store_connect (rig->s, "n", true, &peer_b, &after), 0);
  assert_false (conn_look_again (after));
  store_disconnect (owner);
  assert_false (conn_look_again (before));
  assert_false (conn_look_again (after));
  assert_true (conn_readonly (before) && conn_readonly (after));
  all_modify (before, EPERM);
  all_modify (after, EPERM);
  store_disconnect (before);
  store_disconnect (after);
}

/* Two that wait: the first to write is the owner, whether the other has looked
 * before that or looks then.
 */
static void
test_look_again_two (void **state)
{
  struct rig *rig = *state;

  create (rig, "n", MIB);
  for (int before = 0; before < 2; before++) {
    struct conn *owner = open_as (rig, "n", &peer_a), *b, *c;

    all_modify (owner, 0);
    b = open_as (rig, "n", &peer_b);
    c = open_as (rig, "n", &ip_b);
    store_disconnect (owner);
    assert_true (conn_look_again (b));
    if (before)
      assert_true (conn_look_again (c));
    all_modify (b, 0);
    assert_int_equal (conn_look_again (c), before);
    all_modify (c, EPERM);
    assert_int_equal (conn_owner_pid (c), peer_b.pid);
    store_disconnect (c);
    store_disconnect (b);
  }
}

/* ---- at once ---- */

#define RIVALS 8

struct rival {
  struct rig *rig;
  struct peer peer;
  pthread_barrier_t *start;
  int result;
};

static void *
rival (void *arg)
{
  struct rival *r = arg;
  struct conn *c = open_as (r->rig, "n", &r->peer);
  bool may;

  pthread_barrier_wait (r->start);
  pthread_barrier_wait (r->start); /* an owner has gone */
  may = conn_look_again (c);
  r->result = write_byte (c, 0, (uint8_t) r->peer.pid);
  assert_true (may || r->result == EPERM);
  pthread_barrier_wait (r->start);
  store_disconnect (c);
  return NULL;
}

/* One of them is the owner when the one before, if any, has gone. */
static void
compete (struct rig *rig, struct conn *before)
{
  pthread_barrier_t start;
  pthread_t thread[RIVALS];
  struct rival r[RIVALS];
  int nr_good = 0;

  pthread_barrier_init (&start, NULL, RIVALS + 1);
  for (int i = 0; i < RIVALS; i++) {
    r[i] = (struct rival){ rig, peer_a, &start, -1 };
    r[i].peer.pid = i + 1;
    pthread_create (&thread[i], NULL, rival, &r[i]);
  }
  pthread_barrier_wait (&start);
  if (before != NULL)
    store_disconnect (before);
  pthread_barrier_wait (&start);
  pthread_barrier_wait (&start);
  for (int i = 0; i < RIVALS; i++) {
    pthread_join (thread[i], NULL);
    assert_true (r[i].result == 0 || r[i].result == EPERM);
    nr_good += r[i].result == 0;
  }
  pthread_barrier_destroy (&start);
  assert_int_equal (nr_good, 1);
}

/* Of many who write first at once, one is the owner; of those, too, who have
 * waited for another to go.
 */
static void
test_rivals (void **state)
{
  struct rig *rig = *state;

  create (rig, "n", MIB);
  for (int round = 0; round < 100; round++) {
    struct conn *before = NULL;

    if (round % 2 == 1) {
      before = open_as (rig, "n", &peer_b);
      all_modify (before, 0);
    }
    compete (rig, before);
  }
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    CASE (test_pairs),
    CASE (test_last_close),
    CASE (test_shared),
    CASE (test_readonly_holds),
    CASE (test_what_does_not_own),
    CASE (test_owner_pid),
    CASE (test_look_again),
    CASE (test_look_again_mine),
    CASE (test_look_again_readonly),
    CASE (test_look_again_two),
    CASE (test_rivals),
  };

  return cmocka_run_group_tests_name ("owner", tests, NULL, NULL);
}
