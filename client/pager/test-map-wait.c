/* SPDX-License-Identifier: BSD-2-Clause */
/* Touches of memory from afar that have to wait: for a server that is away, for
 * a kernel that has no memory.  Nobody sleeps on, and waiting takes no
 * processor.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include <cmocka.h>

#include "test-map-rig.h"
#include "test-util.h"

#define FRAMES 64u

/* ---- a kernel without memory ---- */

static atomic_uint to_refuse; /* so many times */

static bool
refuses (void)
{
  unsigned nr = atomic_load (&to_refuse);

  while (nr > 0 && !atomic_compare_exchange_weak (&to_refuse, &nr, nr - 1))
    ;
  errno = ENOMEM;
  return nr > 0;
}

/* To map a page, and to make one. */
extern int __real_ioctl (int fd, unsigned long request, void *arg);
extern int __wrap_ioctl (int fd, unsigned long request, void *arg);

int
__wrap_ioctl (int fd, unsigned long request, void *arg)
{
  if ((request == UFFDIO_CONTINUE || request == UFFDIO_COPY) && refuses ())
    return -1;
  return __real_ioctl (fd, request, arg);
}

extern int __real_fallocate (int fd, int mode, off_t off, off_t len);
extern int __wrap_fallocate (int fd, int mode, off_t off, off_t len);

int
__wrap_fallocate (int fd, int mode, off_t off, off_t len)
{
  if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 && refuses ())
    return -1;
  return __real_fallocate (fd, mode, off, len);
}

/* ---- who touches ---- */

/* Writes its pages, first, first + step and so on, its id in each. */
struct toucher {
  pthread_t thread;
  volatile uint64_t *memory;
  unsigned first, step, end; /* pages */
};

static void *
touch (void *arg)
{
  struct toucher *t = arg;

  for (unsigned p = t->first; p < t->end; p += t->step)
    t->memory[p * WORDS] += t->first + 1;
  return NULL;
}

static struct toucher *
touch_begin (struct farpage_map *m, unsigned nr, unsigned nr_pages)
{
  struct toucher *t = calloc (nr, sizeof *t);
  pthread_attr_t attr;

  assert_non_null (t);
  pthread_attr_init (&attr);
  pthread_attr_setstacksize (&attr, 256 * 1024);
  for (unsigned i = 0; i < nr; i++) {
    t[i] = (struct toucher){
      .memory = farpage_map_address (m), .first = i, .step = nr, .end = nr_pages
    };
    assert_int_equal (pthread_create (&t[i].thread, &attr, touch, &t[i]), 0);
  }
  pthread_attr_destroy (&attr);
  return t;
}

static void
touch_end (struct toucher *t, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++)
    pthread_join (t[i].thread, NULL);
  free (t);
}

static uint64_t
processor_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* ---- a server that is away ---- */

/* state: so many threads, each of which waits for a frame. */
static void
test_away (void **state)
{
  const unsigned nr = *(unsigned *) *state;
  /* A few have more than there are frames, each: none is done too early. */
  const unsigned nr_pages = nr > 256 ? nr : nr * 2 * FRAMES;
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  struct toucher *t;
  const volatile uint64_t *memory;
  uint64_t used_us;

  if (!rig_start_behind (&r, SERVER_MEMORY, 64 * MIB))
    skip ();
  o = rig_make (&r, NULL, nr_pages);
  m = map_open (o, FRAMES);
  relay_tell (&r.relay, "freeze a");
  t = touch_begin (m, nr, nr_pages);
  while (map_stat (m).waits < min_u64 (nr, MAP_WAITING))
    net_sleep_ms (1);
  net_sleep_ms (100); /* for those that do not fit into the ring */
  used_us = processor_us ();
  net_sleep_ms (1000);
  used_us = processor_us () - used_us;
  print_message ("%u wait: %u us of 1000000\n", nr, (unsigned) used_us);
  assert_true (used_us < 200000);
  relay_tell (&r.relay, "heal a");
  touch_end (t, nr);
  memory = farpage_map_address (m);
  for (unsigned p = 0; p < nr_pages; p++)
    assert_int_equal (memory[p * WORDS], p % nr + 1);
  map_recount (m);
  assert_int_equal (map_stat (m).lost, 0);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

/* ---- no memory ---- */

static void
test_no_memory (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  struct toucher *t;
  const volatile uint64_t *memory;

  (void) state;
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, 4 * FRAMES);
  m = map_open (o, FRAMES);
  for (unsigned round = 0; round < 20; round++) {
    atomic_store (&to_refuse, round * 3);
    t = touch_begin (m, 4, 4 * FRAMES);
    touch_end (t, 4);
    assert_int_equal (atomic_load (&to_refuse), 0);
  }
  memory = farpage_map_address (m);
  for (unsigned p = 0; p < 4 * FRAMES; p++)
    assert_int_equal (memory[p * WORDS], 20 * (p % 4 + 1));
  /* in order: pages that are mapped with the one that is touched, too */
  for (unsigned i = 0; i < 20 * 4 * FRAMES; i++) {
    const unsigned p = i % (4 * FRAMES);

    if (i % 5 == 0)
      atomic_store (&to_refuse, 1 + i % 3);
    assert_int_equal (memory[p * WORDS], 20 * (p % 4 + 1));
  }
  atomic_store (&to_refuse, 5);
  assert_int_equal (farpage_pin (m, 0, 8 * PAGE), 0);
  assert_int_equal (farpage_unpin (m, 0, 8 * PAGE), 0);
  map_recount (m);
  assert_int_equal (map_stat (m).lost, 0);
  assert_int_equal (farpage_unmap (m), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_close (&r);
  server_kill (&r.server);
}

/* ---- a kernel that looks for memory ---- */

static bool
is_unmapped (const void *at)
{
  int fd = open ("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  uint64_t entry = 0;

  assert_true (fd >= 0);
  assert_int_equal (pread (fd, &entry, sizeof entry,
                           (off_t) ((uintptr_t) at / PAGE * sizeof entry)),
                    sizeof entry);
  close (fd);
  return (entry >> 63) == 0;
}

/* It unmaps what it can, and touches are answered all the same; what was
 * written is put, what was not is not.  state: what it cannot do otherwise.
 */
static void
test_unmapped (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_map *m;
  volatile uint64_t *memory;
  unsigned nr = 0;

  setenv ("FARPAGE_UFFD_WITHOUT", *state, 1);
  assert_true (rig_start (&r, SERVER_MEMORY, 64 * MIB, NULL, NULL));
  o = rig_make (&r, NULL, 4 * FRAMES);
  m = map_open (o, 4 * FRAMES); /* it has no need to hide any itself */
  memory = farpage_map_address (m);
  alarm (100); /* a touch that is answered in vain is asked again for ever */
  for (uint64_t round = 1; round <= 20; round++) {
    for (unsigned p = 0; p < FRAMES; p++) {
      assert_int_equal (memory[p * WORDS], p % 3 == 0 ? round - 1 : 0);
      if (p % 3 == 0 && round < 20)
        memory[p * WORDS] = round;
    }
    map_page_out (m, 0, FRAMES);
    for (unsigned p = 0; p < FRAMES; p++)
      nr += is_unmapped ((void *) (uintptr_t) &memory[p * WORDS]);
    if (round % 3 == 0)
      assert_int_equal (farpage_sync (m, 0, FRAMES * PAGE), 0);
  }
  alarm (0);
  print_message ("unmapped: %u, faults: %lu, put: %lu\n", nr,
                 (unsigned long) map_stat (m).faults,
                 (unsigned long) map_stat (m).put);
  assert_true (nr > 10 * FRAMES);
  assert_true (map_stat (m).faults < 20 * 4 * FRAMES);
  map_recount (m);
  assert_int_equal (farpage_unmap (m), 0);
  for (unsigned p = 0; p < FRAMES; p++) {
    const enum farpage_result result = rig_get (&r, o, p);

    if (p % 3 == 0) {
      assert_int_equal (result, FARPAGE_OK);
      assert_int_equal (*(uint64_t *) &r.mem[(RIG_PAGES - 1) * PAGE], 19);
    } else if (strstr (*state, "continue-wp") == NULL) {
      assert_int_equal (result, FARPAGE_FAIL);
    }
  }
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
  unsetenv ("FARPAGE_UFFD_WITHOUT");
}

#define UNMAPPED(name, without)                                   \
  {                                                               \
    name, test_unmapped, NULL, NULL, (void *) (uintptr_t) without \
  }
#define AWAY(name, nr)              \
  {                                 \
    name, test_away, NULL, NULL, nr \
  }

int
main (void)
{
  static unsigned few = 4, many = MAP_WAITING + 2 * FRAMES;
  const struct CMUnitTest tests[] = {
    AWAY ("a few", &few),
    AWAY ("more than the ring takes", &many),
    cmocka_unit_test (test_no_memory),
    UNMAPPED ("unmapped by the kernel", ""),
    UNMAPPED ("unmapped, writes are told", "wp-async"),
    UNMAPPED ("unmapped by Linux 6.1", "wp-async continue-wp poison"),
  };

  return MAP_RUN (tests);
}
