/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory from afar and those who use it: counters that all threads add to while
 * pages come and go, children, kernel calls and devices, the budget at every
 * moment, the end of a map under load, and what may not be asked for.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-map-rig.h"
#include "test-util.h"

#define NR      1024u /* pages of the object */
#define FRAMES  64u
#define THREADS 4u
#define ROUNDS  6u /* of a counter, by each thread */

/* ---- counters ---- */

struct adder {
  pthread_t thread;
  _Atomic uint64_t *memory;
  uint64_t random;
};

static void *
add (void *arg)
{
  struct adder *a = arg;
  static _Thread_local unsigned order[NR];

  for (unsigned round = 0; round < ROUNDS; round++) {
    for (unsigned i = 0; i < NR; i++) {
      unsigned at = (unsigned) test_random_below (&a->random, i + 1);

      order[i] = order[at];
      order[at] = i;
    }
    for (unsigned i = 0; i < NR; i++)
      atomic_fetch_add (&a->memory[order[i] * WORDS], 1);
  }
  return NULL;
}

/* The most that was seen of it, every 10 ms. */
struct watcher {
  pthread_t thread;
  struct farpage_map *map;
  atomic_bool stop;
  uint64_t most, looks;
};

static void *
watch (void *arg)
{
  struct watcher *w = arg;

  while (!atomic_load (&w->stop)) {
    w->most = max_u64 (w->most, uffd_resident_bytes (w->map->uffd));
    w->looks++;
    net_sleep_ms (10);
  }
  return NULL;
}

/* state: what this kernel shall not be able to do. */
static void
test_counters (void **state)
{
  struct rig r = { .link = NULL };
  struct adder adder[THREADS];
  struct watcher w = { .most = 0 };
  struct farpage_object *o;
  struct farpage_map *m;
  _Atomic uint64_t *memory;

  setenv ("FARPAGE_UFFD_WITHOUT", *state, 1);
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, NR);
  w.map = m = map_open (o, FRAMES);
  memory = farpage_map_address (m);
  pthread_create (&w.thread, NULL, watch, &w);
  for (unsigned i = 0; i < THREADS; i++) {
    adder[i] = (struct adder){ .memory = memory, .random = i + 1 };
    pthread_create (&adder[i].thread, NULL, add, &adder[i]);
  }
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join (adder[i].thread, NULL);
  atomic_store (&w.stop, true);
  pthread_join (w.thread, NULL);
  map_recount (m);
  for (unsigned i = 0; i < NR; i++)
    assert_int_equal (memory[i * WORDS], THREADS * ROUNDS);
  map_print ("counters", m);
  assert_true (w.looks > 1 && w.most > 0);
  assert_true (w.most <= FRAMES * PAGE);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
  unsetenv ("FARPAGE_UFFD_WITHOUT");
}

/* ---- who else looks ---- */

static void
test_children (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  uint8_t *memory, byte;
  int status;
  pid_t child;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, NR);
  m = map_open (o, FRAMES);
  memory = farpage_map_address (m);
  for (unsigned i = 0; i < NR; i++)
    memory[i * PAGE] = 1;
  for (unsigned i = 0; i < 20; i++) {
    child = fork ();
    if (child == 0) {
      if (i % 2 == 0)
        execl ("/bin/true", "true", NULL);
      /* not zeros, and nothing of ours */
      _exit (map_peek (memory + i * PAGE, &byte) == SIGSEGV ? 0 : 1);
    }
    assert_true (child > 0);
    for (unsigned k = i; k < NR; k += 20)
      memory[k * PAGE]++;
    assert_int_equal (waitpid (child, &status, 0), child);
    assert_int_equal (status, 0);
  }
  for (unsigned i = 0; i < NR; i++)
    assert_int_equal (memory[i * PAGE], 2);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* read () into it and write () from it, where the kernel is let to fault. */
static void
test_kernel (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  uint8_t *memory, *plain = malloc (NR * PAGE);
  char path[200];
  int fd;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, NR);
  m = map_open (o, FRAMES);
  memory = farpage_map_address (m);
  net_fill (plain, NR * PAGE, 3);
  snprintf (path, sizeof path, "%s/bytes", net_dir ());
  fd = open (path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  assert_int_equal (write (fd, plain, NR * PAGE), NR * PAGE);
  for (size_t done = 0; done < NR * PAGE;) { /* four times the budget */
    ssize_t n = pread (fd, memory + done, NR * PAGE - done, (off_t) done);

    assert_true (n > 0);
    done += (size_t) n;
  }
  assert_int_equal (memcmp (memory, plain, NR * PAGE), 0);
  memory[5 * PAGE] ^= 1;
  plain[5 * PAGE] ^= 1;
  for (size_t done = 0; done < NR * PAGE;) {
    ssize_t n = pwrite (fd, memory + done, NR * PAGE - done, (off_t) done);

    assert_true (n > 0);
    done += (size_t) n;
  }
  memset (memory, 0, PAGE);
  for (unsigned i = 0; i < NR; i++) {
    uint8_t page[PAGE];

    assert_int_equal (pread (fd, page, PAGE, (off_t) i * PAGE), PAGE);
    assert_int_equal (memcmp (page, plain + i * PAGE, PAGE), 0);
  }
  map_recount (m);
  close (fd);
  free (plain);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* O_DIRECT into what is pinned, while all else comes and goes, and syncs. */
static void
test_device (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  uint8_t *memory, *plain = malloc (16 * PAGE);
  char path[200];
  int fd;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, NR);
  m = map_open (o, FRAMES);
  memory = farpage_map_address (m);
  net_fill (plain, 16 * PAGE, 4);
  snprintf (path, sizeof path, "%s/direct", net_dir ());
  fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
  if (fd < 0) {
    print_message ("%s: no O_DIRECT\n", path);
    fd = open (path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  }
  memcpy (r.mem, plain, 16 * PAGE);
  assert_int_equal (write (fd, r.mem, 16 * PAGE), 16 * PAGE);
  for (unsigned round = 0; round < 8; round++) {
    const unsigned at = 100 + round * 32;

    assert_int_equal (farpage_pin (m, at * PAGE, 16 * PAGE), 0);
    assert_int_equal (map_stat (m).pages_pinned, 16);
    assert_int_equal (farpage_sync (m, 0, NR * PAGE), 0);
    assert_int_equal (pread (fd, memory + at * PAGE, 16 * PAGE, 0), 16 * PAGE);
    assert_int_equal (farpage_advise (m, 0, NR * PAGE, FARPAGE_ADVICE_DONTNEED),
                      0);
    for (unsigned i = 500; i < 700; i++)
      memory[i * PAGE] = 1;
    map_recount (m);
    assert_int_equal (farpage_unpin (m, at * PAGE, 16 * PAGE), 0);
  }
  for (unsigned i = 500; i < NR; i++)
    memory[i * PAGE] = 1;
  for (unsigned round = 0; round < 8; round++)
    assert_int_equal (
        memcmp (memory + (100 + round * 32) * PAGE, plain, 16 * PAGE), 0);
  close (fd);
  free (plain);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- the end of it ---- */

struct toucher {
  pthread_t thread;
  uint8_t *memory;
  unsigned id;
  uint64_t random;
  atomic_ulong touches;
  int signal;
};

static void *
touch (void *arg)
{
  struct toucher *t = arg;

  while (t->signal == 0) {
    t->signal = map_poke (
        t->memory + test_random_below (&t->random, NR) * PAGE + 8 + t->id, 1);
    atomic_fetch_add (&t->touches, 1);
  }
  return NULL;
}

static void
test_unmap (void **state)
{
  struct rig r = { .link = NULL };
  struct toucher t[THREADS];
  struct farpage_object *o;
  struct farpage_map *m;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, NR);
  for (unsigned round = 0; round < 10; round++) {
    uint64_t *memory;

    m = map_open (o, FRAMES);
    memory = farpage_map_address (m);
    for (unsigned i = 0; i < NR; i++)
      memory[i * WORDS] = round + i;
    for (unsigned i = 0; i < THREADS; i++) {
      t[i] = (struct toucher){ .memory = (uint8_t *) memory,
                               .id = i,
                               .random = i + 1 };
      pthread_create (&t[i].thread, NULL, touch, &t[i]);
    }
    while (atomic_load (&t[0].touches) < 100)
      net_sleep_ms (1);
    assert_int_equal (farpage_unmap (m), 0);
    for (unsigned i = 0; i < THREADS; i++) {
      pthread_join (t[i].thread, NULL);
      assert_int_equal (t[i].signal, SIGSEGV);
    }
    m = map_open (o, FRAMES);
    memory = farpage_map_address (m);
    for (unsigned i = 0; i < NR; i++)
      assert_int_equal (memory[i * WORDS], round + i);
    assert_int_equal (farpage_unmap (m), 0);
  }
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- calls ---- */

static void
test_calls (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m, *none = NULL;
  struct farpage_stat st;
  uint64_t *memory;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, "mapped", NR);
  assert_int_equal (farpage_map (o, FRAMES * PAGE - 1, &none), EINVAL);
  m = map_open (o, FRAMES);
  assert_int_equal (farpage_map (o, 0, &none), EBUSY);
  assert_null (none);
  memory = farpage_map_address (m);
  assert_int_equal (farpage_sync (m, 0, NR * PAGE + 1), EINVAL);
  assert_int_equal (farpage_sync (m, UINT64_MAX, 2), EINVAL);
  assert_int_equal (farpage_pin (m, NR * PAGE, 1), EINVAL);
  assert_int_equal (farpage_pin (m, 0, (FRAMES / 2 + 1) * PAGE), ENOMEM);
  assert_int_equal (farpage_unpin (m, 0, 1), EINVAL);
  assert_int_equal (farpage_advise (m, 0, 1, (enum farpage_advice) 17), EINVAL);
  assert_int_equal (farpage_map_stat (m, NULL, 0), EINVAL);

  /* a sync puts what was written, and no more */
  for (unsigned i = 0; i < 20; i++)
    memory[i * WORDS] = i + 1;
  assert_int_equal (farpage_sync (m, 0, 20 * PAGE), 0);
  assert_int_equal (map_stat (m).put, 20);
  for (unsigned i = 0; i < 20; i++)
    assert_int_equal (memory[i * WORDS], i + 1);
  assert_int_equal (farpage_sync (m, 0, NR * PAGE), 0);
  assert_int_equal (map_stat (m).put, 20);
  memory[7 * WORDS] = 99;
  assert_int_equal (farpage_sync (m, 8 * PAGE, PAGE), 0);
  assert_int_equal (map_stat (m).put, 20);
  assert_int_equal (farpage_sync (m, 7 * PAGE + 5, 1), 0);
  assert_int_equal (map_stat (m).put, 21);

  /* what is given up is zeros, and so is its space */
  assert_int_equal (farpage_pin (m, 3 * PAGE, PAGE), 0);
  assert_int_equal (farpage_unmap (m), EBUSY);
  assert_int_equal (farpage_advise (m, 0, 20 * PAGE, FARPAGE_ADVICE_FREE),
                    EBUSY);
  assert_int_equal (farpage_unpin (m, 3 * PAGE, PAGE), 0);
  assert_int_equal (farpage_advise (m, 0, 20 * PAGE + 1, FARPAGE_ADVICE_FREE),
                    EINVAL);
  assert_int_equal (farpage_advise (m, 0, 20 * PAGE, FARPAGE_ADVICE_FREE), 0);
  rig_stat (&r, &st);
  assert_int_equal (st.blocks_used, 0);
  for (unsigned i = 0; i < 20; i++)
    assert_int_equal (memory[i * WORDS], 0);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

#define COUNTERS(name, without)                                   \
  {                                                               \
    name, test_counters, NULL, NULL, (void *) (uintptr_t) without \
  }

int
main (void)
{
  const struct CMUnitTest tests[] = {
    COUNTERS ("counters", ""),
    COUNTERS ("counters, writes are told", "wp-async"),
    COUNTERS ("counters, Linux 6.1", "wp-async continue-wp poison"),
    cmocka_unit_test (test_children),
    cmocka_unit_test (test_kernel),
    cmocka_unit_test (test_device),
    cmocka_unit_test (test_unmap),
    cmocka_unit_test (test_calls),
  };

  return MAP_RUN (tests);
}
