/* SPDX-License-Identifier: BSD-2-Clause */
/* Parameters, good and bad, and the ends a server can come to (plugin.c, T5 to
 * T7), through the plugin's own callbacks.  A plugin is configured once in its
 * life, so each case is a child process.
 */

#include <config.h>

#include "nbdkit.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PARAMS_MAX 4
#define ARRAY(a)   (sizeof (a) / sizeof (a)[0])

struct params {
  const char *param[PARAMS_MAX]; /* "key=value" */
  const char *thing, *remedy;    /* words of the message; NULL: none */
};

static char dir[PATH_MAX];

/* ---- one case, in a child ---- */

enum stage {
  STAGE_CONFIG = 1, /* where it fails */
  STAGE_COMPLETE,
  STAGE_READY,
  STAGE_AFTER_FORK,
  STAGE_NONE
};

static enum stage
configure (const struct nbdkit_plugin *p, const struct params *params)
{
  /* Which rights a test has is nobody's business here. */
  if (p->config ("armour", "no") != 0)
    return STAGE_CONFIG;
  for (int i = 0; i < PARAMS_MAX && params->param[i] != NULL; i++) {
    char key[256];
    const char *value = strchr (params->param[i], '=');

    snprintf (key, sizeof key, "%.*s", (int) (value - params->param[i]),
              params->param[i]);
    if (p->config (key, value + 1) != 0)
      return STAGE_CONFIG;
  }
  return p->config_complete () == 0 ? STAGE_NONE : STAGE_COMPLETE;
}

static enum stage
live (const struct params *params)
{
  const struct nbdkit_plugin *p = plugin_init ();
  enum stage stage = configure (p, params);

  if (stage != STAGE_NONE) {
    p->unload ();
    return stage;
  }
  if (p->get_ready () != 0)
    return STAGE_READY;
  if (p->after_fork () != 0)
    return STAGE_AFTER_FORK;
  p->cleanup ();
  p->unload ();
  return STAGE_NONE;
}

/* Where it failed; 100: the message did not say what it should. */
static int
run (const struct params *params)
{
  int status;
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  assert_true (pid >= 0);
  if (pid == 0) {
    enum stage stage;

    alarm (60);
    stage = live (params);
    bool wrong =
        stage == STAGE_NONE || params->thing == NULL
            ? host_said ("\n")
            : !host_said (params->thing) || !host_said (params->remedy);

    if (wrong) {
      host_show ();
      exit (100);
    }
    exit ((int) stage);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  return WIFEXITED (status) ? WEXITSTATUS (status) : 200;
}

static void
expect (const struct params *table, size_t nr, enum stage stage)
{
  for (size_t i = 0; i < nr; i++) {
    int got = run (&table[i]);

    if (got != (int) stage)
      fail_msg ("'%s': ended with %d, not %d", table[i].param[0], got, stage);
  }
}

/* ---- cases ---- */

static const struct params bad_values[] = {
  { { "colour=red" }, "colour", "--help" },
  { { "Volume=mem:1G" }, "Volume", "--help" },
  { { "=x" }, "''", "--help" },
  { { "volume=" }, "volume", "say" },
  { { "volume=mem:" }, "mem:", "10G" },
  { { "volume=mem:0" }, "mem:", "10G" },
  { { "volume=mem:-1" }, "'-1'", "10G" },
  { { "volume=mem:1X" }, "'1X'", "10G" },
  { { "volume=mem:9223372036854775808" }, "9223372036854775808", "10G" },
  { { "volume=mem:99999999999999999999" }, "mem:", "10G" },
  { { "volume=mem:127K" }, "mem:127K", "128K" },
  { { "cache=0" }, "cache", "10G" },
  { { "cache=1023K" }, "cache=1023K", "cache=1M" },
  { { "discard=maybe" }, "discard", "discard=yes" },
  { { "readonly=maybe" }, "readonly", "readonly=yes" },
  { { "swap-keep=maybe" }, "swap-keep", "swap-keep=yes" },
  { { "durability=" }, "durability=", "say flush, strict or volatile" },
  { { "durability=Volatile" }, "Volatile", "say flush, strict or volatile" },
  { { "swap-size=0" }, "swap-size", "10G" },
  { { "swap-size=-1" }, "swap-size", "10G" },
  { { "swap-size=" }, "swap-size", "10G" },
  { { "swap-size=10GB" }, "10GB", "10G" },
  { { "swap-size=9223372036854775808" }, "swap-size", "10G" },
  { { "linger=" }, "linger=", "seconds" },
  { { "linger=-1" }, "linger=-1", "seconds" },
  { { "linger=1m" }, "linger=1m", "seconds" },
  { { "linger=100000001" }, "linger=100000001", "100000000" },
  { { "linger=18446744073709551616" }, "linger", "seconds" },
  { { "default=" }, "default", "default=NAME" },
  { { "default=a/b" }, "default", "default=NAME" },
  { { "default=swap/x" }, "default", "default=NAME" },
  { { "default=\xff" }, "default", "default=NAME" },
  { { "direct=maybe" }, "direct", "direct=yes" },
  { { "sparse=" }, "sparse", "sparse=yes" },
  { { "sparse=2" }, "sparse", "sparse=yes" },
  { { "force=maybe" }, "force", "force=yes" },
  { { "reserve=auto" }, "reserve", "reserve=yes" },
  { { "armour=maybe" }, "armour", "armour=yes" },
};

static void
test_bad_values (void **state)
{
  (void) state;
  expect (bad_values, ARRAY (bad_values), STAGE_CONFIG);
}

static const struct params incomplete[] = {
  { { NULL }, "no volume", "mem:1G" },
  { { "durability=volatile" }, "no volume", "mem:1G" },
  { { "volume=mem:1M", "swap-size=2P" }, "swap-size", "1P" },
  { { "durability=flush" }, "no volume", "mem:1G" },
  { { "volume=mem:1M", "durability=flush" }, "mem:", "durability=volatile" },
  { { "volume=mem:1M", "durability=strict" }, "mem:", "durability=volatile" },
  { { "volume=mem:1M", "volume=second" }, "mem:", "durability=volatile" },
  { { "volume=mem:1M", "readonly=yes" }, "readonly=yes", "format" },
  { { "volume=mem:1M", "swap-keep=yes" }, "swap-keep=yes", "format" },
  { { "volume=file", "force=yes" }, "force=yes", "format" },
};

static void
test_incomplete (void **state)
{
  (void) state;
  expect (incomplete, ARRAY (incomplete), STAGE_COMPLETE);
}

static void
test_volumes_max (void **state)
{
  struct nbdkit_plugin *p = plugin_init ();
  pid_t pid = fork ();
  int status;

  (void) state;
  if (pid == 0) {
    for (int i = 0; i < 64; i++)
      if (p->config ("volume", i % 2 ? "mem:1M" : "relative") != 0)
        exit (1);
    if (p->config ("volume", "mem:1M") != -1 || !host_said ("at most 64"))
      exit (2);
    p->unload ();
    exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (status, 0);
}

#define QUIET "control=", "durability=volatile"

static const struct params not_ready[] = {
  { { "volume=missing", QUIET }, "missing", "make" },
  { { "volume=directory", QUIET }, "directory", "directory" },
  { { "volume=fifo", QUIET }, "fifo", "file" },
  { { "volume=tiny", QUIET }, "tiny", "truncate" },
  { { "volume=data", QUIET }, "data", "force=yes" },
  { { "volume=/dev/null", "control=" }, "/dev/null", "block device" },
  { { "volume=data", "control=" }, "data", "farpage format" },
  { { "volume=mem:1M", "control=data" }, "data", "control=PATH" },
  { { "volume=mem:1M", "control=missing/sock" }, "missing/sock", "control=" },
  { { "volume=mem:1M", "discard=on", "control=" }, "discard=on", "sparse" },
};

static void
make_file (const char *name, off_t bytes, const char *text)
{
  int fd = open (name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

  assert_true (fd >= 0);
  assert_int_equal (pwrite (fd, text, strlen (text), 0), strlen (text));
  assert_int_equal (ftruncate (fd, bytes), 0);
  close (fd);
}

static void
test_not_ready (void **state)
{
  (void) state;
  mkdir ("directory", 0700);
  mkfifo ("fifo", 0600);
  make_file ("tiny", 1 << 20, "");
  make_file ("data", 8 << 20, "somebody's");
  expect (not_ready, ARRAY (not_ready), STAGE_READY);
  rmdir ("directory");
  unlink ("fifo");
  unlink ("tiny");
  unlink ("data");
}

static const struct params good[] = {
  { { "volume=mem:1M", "control=" }, NULL, NULL },
  { { "volume=mem:128K", "volume=mem:1M", "control=" }, NULL, NULL },
  { { "volume=mem:1M", "control=sock" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "linger=0" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "linger=100000000" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "swap-size=1P" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "default=d\xc3\xbcsk" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "default=a", "default=b" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "direct=auto" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "direct=off" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "reserve=no" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "reserve=1" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "armour=off" }, NULL, NULL },
  { { "volume=mem:64G", "control=", "sparse=yes" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "discard=off" }, NULL, NULL },
  { { "volume=mem:1M", "control=", "discard=on", "sparse=yes" }, NULL, NULL },
  { { "volume=file", "durability=volatile", "control=", "direct=no" },
    NULL,
    NULL },
  { { "volume=file", "durability=volatile", "control=", "force=yes" },
    NULL,
    NULL },
};

static void
test_good (void **state)
{
  (void) state;
  make_file ("file", 8 << 20, "");
  expect (good, ARRAY (good), STAGE_NONE);
  unlink ("file");
  assert_int_equal (access ("sock", F_OK), -1);
}

/* plugin.c, T6: a connection that nbdkit never closes keeps nothing from
 * ending.
 */
static void
test_left_open (void **state)
{
  static const struct params params = { { "volume=mem:4M", "control=sock" },
                                        NULL,
                                        NULL };
  struct nbdkit_plugin *p = plugin_init ();
  pid_t pid = fork ();
  int status;

  (void) state;
  if (pid == 0) {
    alarm (60);
    if (configure (p, &params) != STAGE_NONE || p->get_ready () != 0 ||
        p->after_fork () != 0)
      _exit (1);
    host_connection ("swap/x:1M", HOST_PEER_UNIX, 1, 0);
    if (p->open (0) == NULL)
      _exit (2);
    p->cleanup ();
    p->unload ();
    _exit (access ("sock", F_OK) == 0 ? 3 : 0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (status, 0);
}

/* ---- T7: stop ---- */

struct writer {
  struct nbdkit_plugin *p;
  void *handle;
};

static void *
write_for_ever (void *arg)
{
  static char buf[8192] = "x";
  struct writer *w = arg;

  for (;;)
    if (w->p->pwrite (w->handle, buf, sizeof buf, 0, 0) != 0)
      _exit (4); /* whoever is answered is not told of an error */
  return NULL;
}

static void
child_stop (const struct params *params)
{
  struct sockaddr_un sun = { AF_UNIX, "sock" };
  struct nbdkit_plugin *p = plugin_init ();
  struct writer writer = { p, NULL };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  pthread_t thread;
  char answer[64];

  alarm (60);
  if (configure (p, params) != STAGE_NONE || p->get_ready () != 0 ||
      p->after_fork () != 0)
    _exit (1);
  host_connection ("swap/x:1M", HOST_PEER_UNIX, 1, 0);
  writer.handle = p->open (0);
  if (writer.handle == NULL)
    _exit (2);
  for (int i = 0; i < 4; i++)
    pthread_create (&thread, NULL, write_for_ever, &writer);
  usleep (20000);
  if (connect (fd, (struct sockaddr *) &sun, sizeof sun) != 0 ||
      send (fd, "{\"cmd\": \"stop\"}\n", 16, 0) != 16 ||
      recv (fd, answer, sizeof answer, 0) < 12 ||
      memcmp (answer, "{\"ok\": true", 11) != 0)
    _exit (3);
  pause (); /* the server ends the process, with 0 */
}

static void
test_stop (void **state)
{
  static const struct params params = { { "volume=mem:4M", "control=sock" },
                                        NULL,
                                        NULL };
  pid_t pid = fork ();
  int status;

  (void) state;
  if (pid == 0)
    child_stop (&params);
  assert_int_equal (waitpid (pid, &status, 0), pid);
  assert_int_equal (status, 0);
  assert_int_equal (access ("sock", F_OK), -1);
}

static int
begin (void **state)
{
  const char *tmp = getenv ("TMPDIR");

  (void) state;
  snprintf (dir, sizeof dir, "%s/farpage-params.XXXXXX",
            tmp != NULL ? tmp : "/tmp");
  return mkdtemp (dir) != NULL && chdir (dir) == 0 ? 0 : -1;
}

static int
end (void **state)
{
  static const char *const names[] = { "fifo", "tiny", "data", "file", "sock" };

  (void) state;
  for (size_t i = 0; i < ARRAY (names); i++)
    unlink (names[i]); /* of a case that failed */
  rmdir ("directory");
  return chdir ("/") == 0 && rmdir (dir) == 0 ? 0 : -1;
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_bad_values),  cmocka_unit_test (test_incomplete),
    cmocka_unit_test (test_volumes_max), cmocka_unit_test (test_not_ready),
    cmocka_unit_test (test_good),        cmocka_unit_test (test_left_open),
    cmocka_unit_test (test_stop),
  };

  return cmocka_run_group_tests_name ("params", tests, begin, end);
}
