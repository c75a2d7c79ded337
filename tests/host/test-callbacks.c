/* SPDX-License-Identifier: BSD-2-Clause */
/* The plugin's callbacks one by one, and nbdkit's traps (plugin.c: T1 to T4,
 * T8), with one server for all cases.
 */

#include <config.h>

#include "nbdkit.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u
#define MIB  (1u << 20)

static struct nbdkit_plugin *p;
static char dir[80];
static char answer[1 << 20];
static struct nbdkit_extents extents; /* large */

/* ---- the control socket ---- */

/* Send one line, wait for the answer's line. */
static const char *
control (const char *fmt, ...)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char line[1024];
  size_t len = 0;
  va_list args;

  va_start (args, fmt);
  vsnprintf (line, sizeof line, fmt, args);
  va_end (args);
  snprintf (sun.sun_path, sizeof sun.sun_path, "%s/sock", dir);
  assert_int_equal (connect (fd, (struct sockaddr *) &sun, sizeof sun), 0);
  assert_int_equal (send (fd, line, strlen (line), 0), strlen (line));
  do {
    ssize_t n = recv (fd, answer + len, sizeof answer - 1 - len, 0);

    assert_true (n > 0);
    len += (size_t) n;
  } while (answer[len - 1] != '\n');
  answer[len] = '\0';
  close (fd);
  return answer;
}

static void
create (const char *name, unsigned long size)
{
  control ("{\"cmd\": \"create\", \"name\": \"%s\", \"size\": %lu}\n", name,
           size);
  assert_non_null (strstr (answer, "\"ok\": true"));
}

static void
rm (const char *name)
{
  control ("{\"cmd\": \"rm\", \"name\": \"%s\"}\n", name);
  assert_non_null (strstr (answer, "\"ok\": true"));
}

static void *
open_as (const char *name, enum host_peer kind, unsigned number, uint16_t port)
{
  host_connection (name, kind, number, port);
  return p->open (0);
}

static void *
open_it (const char *name)
{
  void *h = open_as (name, HOST_PEER_UNIX, 1, 0);

  assert_non_null (h);
  return h;
}

/* ---- what the plugin says of itself and of an export ---- */

static void
test_table (void **state)
{
  (void) state;
  assert_string_equal (p->name, "farpage");
  assert_string_equal (p->magic_config_key, "volume");
  assert_int_equal (p->_thread_model, NBDKIT_THREAD_MODEL_PARALLEL);
  assert_int_equal (p->_api_version, 2);
  assert_true (p->errno_is_preserved);
  assert_non_null (strstr (p->config_help, "durability=flush|strict|volatile"));
  p->dump_plugin ();
}

static void
test_export (void **state)
{
  uint32_t minimum, preferred, maximum;
  void *h;

  (void) state;
  create ("n", 10 * MIB + 17);
  h = open_it ("n");
  assert_int_equal (p->get_size (h), 10 * MIB + 17);
  assert_int_equal (p->block_size (h, &minimum, &preferred, &maximum), 0);
  assert_int_equal (minimum, 1);
  assert_int_equal (preferred, PAGE);
  assert_int_equal (maximum, 32 * MIB);
  assert_int_equal (p->can_write (h), 1);
  assert_int_equal (p->can_flush (h), 1);
  assert_int_equal (p->can_trim (h), 1);
  assert_int_equal (p->can_zero (h), 1);
  assert_int_equal (p->can_fast_zero (h), 1);
  assert_int_equal (p->can_extents (h), 1);
  assert_int_equal (p->can_multi_conn (h), 1);
  assert_int_equal (p->is_rotational (h), 0);
  assert_int_equal (p->can_fua (h), NBDKIT_FUA_NATIVE);
  assert_int_equal (p->can_cache (h), NBDKIT_CACHE_NATIVE);
  assert_non_null (strstr (p->export_description (h), "durability=volatile"));
  assert_int_equal (p->flush (h, 0), 0);
  assert_int_equal (p->cache (h, PAGE, 0, 0), 0);
  p->close (h);
  h = p->open (1);
  assert_non_null (h);
  assert_int_equal (p->can_write (h), 0);
  p->close (h);
  rm ("n");
}

static void
test_names (void **state)
{
  char longest[4097 + 1];

  (void) state;
  assert_string_equal (p->default_export (0, 0), "");
  assert_null (open_as ("", HOST_PEER_UNIX, 1, 0));
  assert_null (open_as ("none", HOST_PEER_UNIX, 1, 0));
  assert_null (open_as ("swap/", HOST_PEER_UNIX, 1, 0));
  assert_null (open_as ("swap/x:0", HOST_PEER_UNIX, 1, 0));
  assert_null (open_as ("swap/x", HOST_PEER_UNIX, 1, 0));
  assert_null (open_as ("swap/x:1P", HOST_PEER_UNIX, 1, 0));
  assert_null (open_as ("\xff", HOST_PEER_UNIX, 1, 0));
  memset (longest, 'n', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  assert_null (open_as (longest, HOST_PEER_UNIX, 1, 0));
  create ("only", MIB);
  assert_string_equal (p->default_export (0, 0), "only");
  p->close (open_it (""));
  rm ("only");
}

/* ---- T1: zero ---- */

static void
test_zero (void **state)
{
  static const uint32_t counts[] = { 1,    511, 512,      PAGE - 1, PAGE,
                                     9000, MIB, 70 * MIB, 100 * MIB };
  uint8_t byte;
  void *h;

  (void) state;
  create ("n", 100ul * MIB);
  h = open_it ("n");
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
    for (uint32_t flags = 0; flags < 16; flags++) {
      uint32_t count = counts[i];
      bool fast = flags & NBDKIT_FLAG_FAST_ZERO;
      int r;

      assert_int_equal (p->pwrite (h, "x", 1, 0, 0), 0);
      r = p->zero (h, count, 0, flags);
      if (r == 0)
        assert_int_equal (host_take_error (), 0);
      else {
        assert_true (fast);
        assert_int_equal (host_take_error (), ENOTSUP);
      }
      assert_int_equal (r, fast && count < PAGE ? -1 : 0);
      assert_int_equal (p->pread (h, &byte, 1, 0, 0), 0);
      assert_int_equal (byte, r == 0 ? 0 : 'x');
    }
  p->close (h);
  rm ("n");
}

/* ---- edges ---- */

/* Requests of a few bytes around each edge of a page, and at the disk's end,
 * which is no page's.
 */
static void
test_edges (void **state)
{
  enum {
    SIZE = 3 * PAGE + 1
  };
  uint8_t model[SIZE] = { 0 }, buf[SIZE];
  uint8_t byte = 0;
  void *h;

  (void) state;
  create ("n", SIZE);
  h = open_it ("n");
  for (int edge = 0; edge <= SIZE; edge += PAGE)
    for (int off = edge - 2; off <= edge + 2; off++)
      for (int len = 0; len <= 4; len++) {
        if (off < 0 || off + len > SIZE)
          continue;
        memset (buf, ++byte, sizeof buf);
        assert_int_equal (p->pwrite (h, buf, len, off, 0), 0);
        memset (model + off, byte, len);
        if (byte % 5 == 0) {
          assert_int_equal (byte % 2 ? p->trim (h, len, off, 0)
                                     : p->zero (h, len, off, 0),
                            0);
          memset (model + off, 0, len);
        }
        assert_int_equal (p->pread (h, buf, SIZE, 0, 0), 0);
        assert_memory_equal (buf, model, SIZE);
      }
  for (int len = 1; len < 3; len++) {
    assert_int_equal (p->pread (h, buf, len, SIZE - len + 1, 0), -1);
    assert_int_equal (host_take_error (), EINVAL);
    assert_int_equal (p->pwrite (h, buf, len, SIZE - len + 1, 0), -1);
    assert_int_equal (p->trim (h, len, UINT64_MAX - 1, 0), -1);
    assert_int_equal (p->zero (h, UINT32_MAX, SIZE, 0), -1);
    assert_int_equal (host_take_error (), EINVAL);
  }
  p->close (h);
  rm ("n");
}

/* ---- T2: extents ---- */

static void
test_extents (void **state)
{
  const uint64_t size = UINT64_C (20) << 30;
  void *h;

  (void) state;
  create ("n", size);
  h = open_it ("n");
  assert_int_equal (p->pwrite (h, "x", 1, MIB, 0), 0);
  /* As much as can be asked for, of a hole larger than 4 GiB. */
  host_extents_init (&extents, 8 * MIB, UINT32_MAX);
  assert_int_equal (p->extents (h, UINT32_MAX, 8 * MIB, 0, &extents), 0);
  assert_int_equal (extents.nr, 1);
  assert_int_equal (extents.extent[0].bytes, UINT32_MAX);
  assert_int_equal (extents.extent[0].type,
                    NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
  /* To the byte, in the middle of a page. */
  host_extents_init (&extents, MIB - 1, PAGE + 2);
  assert_int_equal (p->extents (h, PAGE + 2, MIB - 1, 0, &extents), 0);
  assert_int_equal (extents.nr, 3);
  assert_int_equal (extents.extent[1].bytes, PAGE);
  assert_int_equal (extents.extent[1].type, 0);
  assert_int_equal (extents.extent[2].bytes, 1);
  host_extents_init (&extents, MIB + 17, 100);
  assert_int_equal (p->extents (h, 100, MIB + 17, 0, &extents), 0);
  assert_int_equal (extents.extent[0].bytes, 100);
  host_extents_init (&extents, 0, 4 * MIB);
  assert_int_equal (p->extents (h, 4 * MIB, 0, NBDKIT_FLAG_REQ_ONE, &extents),
                    0);
  assert_int_equal (extents.nr, 1);
  assert_int_equal (extents.extent[0].bytes, MIB);
  /* nbdkit has no memory for more. */
  host_extents_init (&extents, 0, 4 * MIB);
  extents.max = 1;
  assert_int_equal (p->extents (h, 4 * MIB, 0, 0, &extents), -1);
  assert_int_equal (host_take_error (), ENOMEM);
  p->close (h);
  rm ("n");
}

/* ---- T3: errors ---- */

static void
test_errors (void **state)
{
  void *a, *b;
  char buf[8] = "x";

  (void) state;
  create ("n", MIB);
  a = open_it ("n");
  b = open_as ("n", HOST_PEER_UNIX, 2, 0);
  assert_int_equal (p->pwrite (a, buf, 1, 0, 0), 0);
  assert_int_equal (p->pwrite (b, buf, 1, 0, 0), -1);
  assert_int_equal (host_take_error (), EPERM);
  assert_int_equal (p->trim (b, 1, 0, 0), -1);
  assert_int_equal (host_take_error (), EPERM);
  assert_int_equal (p->zero (b, 1, 0, 0), -1);
  assert_int_equal (host_take_error (), EPERM);
  assert_int_equal (p->pread (a, buf, 2, MIB - 1, 0), -1);
  assert_int_equal (host_take_error (), EINVAL);
  control ("{\"cmd\": \"rm\", \"name\": \"n\"}\n");
  assert_non_null (strstr (answer, "EBUSY"));
  control ("{\"cmd\": \"rm\", \"name\": \"n\", \"force\": true}\n");
  assert_non_null (strstr (answer, "\"ok\": true"));
  assert_int_equal (p->pread (a, buf, 1, 0, 0), -1);
  assert_int_equal (host_take_error (), ESHUTDOWN);
  host_extents_init (&extents, 0, PAGE);
  assert_int_equal (p->extents (a, PAGE, 0, 0, &extents), -1);
  assert_int_equal (host_take_error (), ESHUTDOWN);
  p->close (a);
  p->close (b);
}

static void
test_no_space (void **state)
{
  static char buf[MIB];
  int r = 0;
  void *h;

  (void) state;
  memset (buf, 1, sizeof buf);
  create ("n", 1024ul * MIB);
  h = open_it ("n");
  for (uint64_t off = 0; off < 1024ul * MIB && r == 0; off += MIB)
    r = p->pwrite (h, buf, MIB, off, 0);
  assert_int_equal (r, -1);
  assert_int_equal (host_take_error (), ENOSPC);
  p->close (h);
  rm ("n");
}

/* ---- who is who ---- */

struct meet {
  enum host_peer kind1, kind2;
  unsigned number1, number2;
  bool same;
};

static void
test_peers (void **state)
{
  static const struct meet meets[] = {
    { HOST_PEER_IP4, HOST_PEER_IP4, 1, 1, true },
    { HOST_PEER_IP4, HOST_PEER_IP4, 1, 2, false },
    { HOST_PEER_IP4, HOST_PEER_MAPPED, 1, 1, true },
    { HOST_PEER_IP6, HOST_PEER_IP6, 1, 1, true },
    { HOST_PEER_IP6, HOST_PEER_IP6, 1, 2, false },
    { HOST_PEER_IP6, HOST_PEER_IP4, 1, 1, false },
    { HOST_PEER_UNIX, HOST_PEER_UNIX, 1, 1, true },
    { HOST_PEER_UNIX, HOST_PEER_UNIX, 1, 2, false },
    { HOST_PEER_NO_PID, HOST_PEER_NO_PID, 0, 0, false },
    { HOST_PEER_NONE, HOST_PEER_NONE, 0, 0, false },
    { HOST_PEER_OTHER, HOST_PEER_OTHER, 1, 1, false },
  };

  (void) state;
  for (size_t i = 0; i < sizeof meets / sizeof meets[0]; i++) {
    const struct meet *m = &meets[i];
    void *a, *b;

    create ("n", MIB);
    a = open_as ("n", m->kind1, m->number1, 1000);
    assert_int_equal (p->pwrite (a, "x", 1, 0, 0), 0);
    b = open_as ("n", m->kind2, m->number2, 2000);
    assert_int_equal (p->can_write (b), m->same);
    p->close (b);
    p->close (a);
    rm ("n");
  }
}

/* ---- T4: a look is not a connection ---- */

static void
test_looks (void **state)
{
  void *h;

  (void) state;
  create ("n", MIB);
  h = open_it ("n");
  assert_int_equal (p->pwrite (h, "x", 1, 0, 0), 0);
  for (int i = 0; i < 10000; i++) {
    void *look = open_as ("n", HOST_PEER_UNIX, 2, 0);

    assert_non_null (look);
    assert_int_equal (p->can_write (look), 0);
    p->close (look);
  }
  assert_int_equal (p->pwrite (h, "x", 1, 0, 0), 0);
  p->close (h);
  rm ("n");
}

/* ---- T8: a long list ---- */

static void
test_list (void **state)
{
  struct nbdkit_exports x = { 0 };
  char name[32];

  (void) state;
  assert_int_equal (p->list_exports (0, 0, &x), 0);
  assert_int_equal (x.nr, 0);
  for (int i = 0; i < HOST_EXPORTS_MAX + 2; i++) {
    snprintf (name, sizeof name, "d%05d", i);
    create (name, MIB);
  }
  assert_int_equal (p->list_exports (0, 0, &x), 0);
  assert_int_equal (x.nr, HOST_EXPORTS_MAX);
  assert_string_equal (x.last, "d09999");
  for (int i = 0; i < HOST_EXPORTS_MAX + 2; i++) {
    snprintf (name, sizeof name, "d%05d", i);
    rm (name);
  }
}

/* ---- the server's life ---- */

static int
begin (void **state)
{
  const char *tmp = getenv ("TMPDIR");
  char path[PATH_MAX];

  (void) state;
  snprintf (dir, sizeof dir, "%.50s/farpage-host.XXXXXX",
            tmp != NULL ? tmp : "/tmp");
  if (mkdtemp (dir) == NULL)
    return -1;
  snprintf (path, sizeof path, "%s/sock", dir);
  p = plugin_init ();
  if (p->config ("volume", "mem:256M") != 0 ||
      p->config ("armour", "no") != 0 || p->config ("sparse", "yes") != 0 ||
      p->config ("control", path) != 0 || p->config_complete () != 0)
    return -1;
  return p->get_ready () == 0 && p->after_fork () == 0 ? 0 : -1;
}

static int
end (void **state)
{
  (void) state;
  p->cleanup ();
  p->unload ();
  return rmdir (dir); /* the socket is gone */
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_table),    cmocka_unit_test (test_export),
    cmocka_unit_test (test_names),    cmocka_unit_test (test_zero),
    cmocka_unit_test (test_extents),  cmocka_unit_test (test_errors),
    cmocka_unit_test (test_no_space), cmocka_unit_test (test_peers),
    cmocka_unit_test (test_looks),    cmocka_unit_test (test_list),
    cmocka_unit_test (test_edges),
  };

  return cmocka_run_group_tests_name ("callbacks", tests, begin, end);
}
