/* SPDX-License-Identifier: BSD-2-Clause */
/* Armour with the kernel's own answers: of a process with all rights or some,
 * of one with none, and of one with none that may lock memory.  What is put on
 * cannot be had twice by one process, so each case is a child.
 *
 * Where the test itself lacks a right, the cases that need it are left out.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "armour.h"
#include "log.h"

#define NOBODY  65534
#define LIMIT   ((rlim_t) 8 << 20)
#define MAP_KIB (64l << 10)
#define MOST    (MAP_KIB - 1024) /* kernels before 6.2 count with a delay */
#define SKIPPED 77

/* A child's: it ends, and the parent says where. */
#define MUST(condition)                                        \
  do {                                                         \
    if (!(condition)) {                                        \
      fprintf (stderr, "line %d: %s\n", __LINE__, #condition); \
      _exit (1);                                               \
    }                                                          \
  } while (0)

/* As nbdkit has some: of the program itself, and never used. */
static char program_data[8 * (MAP_KIB << 10)];
static char said[512];
static unsigned nr_said;

static void
keep (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  (void) level;
  snprintf (said, sizeof said, "%s", text);
  nr_said++;
}

static bool
has_said (const char *words)
{
  return strstr (said, words) != NULL;
}

/* A number from /proc/self/status, in KiB. */
static long
status_kib (const char *key)
{
  FILE *f = fopen ("/proc/self/status", "re");
  size_t len = strlen (key);
  char line[256];
  long kib = -1;

  while (f != NULL && kib < 0 && fgets (line, sizeof line, f) != NULL)
    if (strncmp (line, key, len) == 0)
      kib = atol (line + len + 1);
  if (f != NULL)
    fclose (f);
  return kib;
}

static int
score (void)
{
  FILE *f = fopen ("/proc/self/oom_score_adj", "re");
  int n = 1;

  MUST (f != NULL && fscanf (f, "%d", &n) == 1);
  fclose (f);
  return n;
}

static bool
flusher (void)
{
  return prctl (PR_GET_IO_FLUSHER, 0ul, 0ul, 0ul, 0ul) == 1;
}

static void *
new_map (void)
{
  return mmap (NULL, MAP_KIB << 10, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* ---- who one can be ---- */

/* May this process lock memory beyond a limit?  Else the case is left out. */
static void
be_root (void)
{
  struct rlimit little = { LIMIT, LIMIT };

  if (geteuid () != 0 || setrlimit (RLIMIT_MEMLOCK, &little) == -1 ||
      mlockall (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == -1 ||
      new_map () == MAP_FAILED)
    _exit (SKIPPED);
  munlockall ();
}

/* Has it the right to the two others? */
static bool
is_resourceful (void)
{
  return prctl (PR_SET_IO_FLUSHER, 1ul, 0ul, 0ul, 0ul) == 0 &&
         prctl (PR_SET_IO_FLUSHER, 0ul, 0ul, 0ul, 0ul) == 0;
}

/* Without any, but that memory can be locked up to limit. */
static void
be_nobody (rlim_t limit)
{
  struct rlimit rl = { limit, limit };

  /* More than it has takes CAP_SYS_RESOURCE. */
  if (setrlimit (RLIMIT_MEMLOCK, &rl) == -1)
    _exit (SKIPPED);
  if (geteuid () == 0 && setresuid (NOBODY, NOBODY, NOBODY) == -1)
    _exit (SKIPPED);
  /* A process that has changed its user cannot write to its own files there. */
  prctl (PR_SET_DUMPABLE, 1ul, 0ul, 0ul, 0ul);
}

/* ---- cases ---- */

static void *
see_flag (void *arg)
{
  *(bool *) arg = flusher ();
  return NULL;
}

/* Root, with CAP_SYS_RESOURCE or without, as in a container. */
static void
root (void)
{
  struct armour a;
  pthread_t thread;
  bool all, inherited = false;
  int before = score ();

  be_root ();
  all = is_resourceful ();
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  MUST (a.locked && a.flusher == all && flusher () == all);
  MUST (score () == (all ? -1000 : before) && a.oom_score_adj == score ());
  MUST (nr_said == (all ? 0 : 1) && !has_said ("LimitMEMLOCK"));
  MUST (pthread_create (&thread, NULL, see_flag, &inherited) == 0);
  MUST (pthread_join (thread, NULL) == 0 && inherited == all);
}

/* Locked as it is touched: what has an address costs nothing, until it is
 * filled.
 */
static void
filled (void)
{
  long before = status_kib ("VmRSS");
  struct armour a;
  char *shared;

  be_root ();
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  MUST (new_map () != MAP_FAILED);
  MUST (status_kib ("VmLck") >= MAP_KIB);
  MUST (status_kib ("VmRSS") - before < MAP_KIB / 4);
  shared = mmap (NULL, MAP_KIB << 10, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MUST (shared != MAP_FAILED);
  armour_fill (&a, false, NULL);
  MUST (status_kib ("RssAnon") >= MOST);
  MUST (status_kib ("RssShmem") < MAP_KIB / 4);
  armour_fill (&a, true, NULL);
  MUST (status_kib ("RssShmem") >= MOST);
  MUST (program_data[0] == 0 && status_kib ("RssAnon") < 4 * MAP_KIB);
  before = status_kib ("VmRSS");
  MUST (new_map () != MAP_FAILED &&
        status_kib ("VmRSS") - before < MAP_KIB / 4);
}

/* Of files that are not wanted nothing comes in but what is written. */
static void
chosen (void)
{
  static const char *const none[] = { "none-of-this-name", NULL };
  static const char *const some[] = { "none", "test-armour-", NULL };
  char path[] = "/tmp/test-armour-XXXXXX";
  int fd = mkstemp (path);
  struct armour a;
  long before;

  MUST (fd != -1 && unlink (path) == 0);
  MUST (ftruncate (fd, MAP_KIB << 10) == 0);
  be_root ();
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  armour_fill (&a, false, none);
  MUST (mmap (NULL, MAP_KIB << 10, PROT_READ, MAP_PRIVATE, fd, 0) !=
        MAP_FAILED);
  before = status_kib ("RssFile");
  armour_fill (&a, false, none);
  MUST (status_kib ("RssFile") - before < MAP_KIB / 4);
  armour_fill (&a, false, some);
  MUST (status_kib ("RssFile") - before >= MOST);
  MUST (new_map () != MAP_FAILED);
  armour_fill (&a, false, none);
  MUST (status_kib ("RssAnon") >= MOST);
}

static void
tried (void)
{
  int before = score ();
  bool all;

  be_root ();
  all = is_resourceful ();
  MUST (armour_try (ARMOUR_YES) == (all ? 0 : EPERM));
  MUST (nr_said == (all ? 0 : 1));
  MUST (!flusher () && status_kib ("VmLck") == 0 && score () == before);
}

/* RLIMIT_MEMLOCK as it is for users: nothing that the server does later may
 * fail of it.
 */
static void
limited (void)
{
  struct armour a;

  be_nobody (LIMIT);
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  MUST (!a.flusher && !a.locked && a.oom_score_adj == score ());
  MUST (nr_said == 1 && has_said ("I/O flusher") && has_said ("OOM score") &&
        has_said ("CAP_SYS_RESOURCE") && has_said ("LimitMEMLOCK=infinity"));
  MUST (status_kib ("VmLck") == 0);
  MUST (new_map () != MAP_FAILED);
  armour_fill (&a, true, NULL);
  MUST (status_kib ("VmLck") == 0);
}

/* A limit that is above what is there now, so that mlockall works. */
static void
limited_later (void)
{
  struct rlimit rl;
  struct armour a;

  MUST (getrlimit (RLIMIT_MEMLOCK, &rl) == 0);
  be_nobody (rl.rlim_max);
  if (rl.rlim_max == RLIM_INFINITY ||
      mlockall (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == -1)
    _exit (SKIPPED);
  munlockall ();
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  MUST (!a.locked && status_kib ("VmLck") == 0 && nr_said == 1);
}

static void
unlimited (void)
{
  struct armour a;

  be_nobody (RLIM_INFINITY);
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  MUST (!a.flusher && a.locked && status_kib ("VmLck") > 0);
  MUST (nr_said == 1 && has_said ("CAP_SYS_RESOURCE") &&
        !has_said ("LimitMEMLOCK"));
}

/* The limit is not yet used to the full. */
static void
soft_limit (void)
{
  struct rlimit rl = { LIMIT, RLIM_INFINITY };
  struct armour a;

  be_nobody (RLIM_INFINITY);
  MUST (setrlimit (RLIMIT_MEMLOCK, &rl) == 0);
  MUST (armour_put_on (ARMOUR_AUTO, &a) == 0);
  MUST (a.locked);
}

static void
must_have_it (void)
{
  struct armour a;

  be_nobody (LIMIT);
  MUST (armour_try (ARMOUR_AUTO) == 0 && nr_said == 0);
  MUST (armour_try (ARMOUR_YES) == EPERM && has_said ("I/O flusher"));
  MUST (armour_put_on (ARMOUR_YES, &a) == EPERM && nr_said == 2);
}

static void
unwanted (void)
{
  int before = score ();
  struct armour a;

  MUST (armour_try (ARMOUR_NO) == 0);
  MUST (armour_put_on (ARMOUR_NO, &a) == 0);
  armour_fill (&a, true, NULL);
  MUST (!a.flusher && !a.locked && a.oom_score_adj == before);
  MUST (!flusher () && status_kib ("VmLck") == 0 && score () == before);
  MUST (nr_said == 0);
}

/* ---- */

static void
run (void (*fn) (void))
{
  pid_t pid;
  int status;

  fflush (NULL);
  pid = fork ();
  assert_true (pid >= 0);
  if (pid == 0) {
    log_set (keep, NULL);
    fn ();
    _exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  if (WIFEXITED (status) && WEXITSTATUS (status) == SKIPPED)
    skip ();
  assert_int_equal (status, 0);
}

#define CASE(name)                       \
  static void test_##name (void **state) \
  {                                      \
    (void) state;                        \
    run (name);                          \
  }

CASE (root)
CASE (filled)
CASE (chosen)
CASE (tried)
CASE (limited)
CASE (limited_later)
CASE (unlimited)
CASE (soft_limit)
CASE (must_have_it)
CASE (unwanted)

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_root),         cmocka_unit_test (test_filled),
    cmocka_unit_test (test_chosen),       cmocka_unit_test (test_tried),
    cmocka_unit_test (test_limited),      cmocka_unit_test (test_limited_later),
    cmocka_unit_test (test_unlimited),    cmocka_unit_test (test_soft_limit),
    cmocka_unit_test (test_must_have_it), cmocka_unit_test (test_unwanted),
  };

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
  puts ("SKIP: a sanitizer does not let memory be locked");
  return SKIPPED;
#endif
  return cmocka_run_group_tests_name ("armour", tests, NULL, NULL);
}
