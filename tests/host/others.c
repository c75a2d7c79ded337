/* SPDX-License-Identifier: BSD-2-Clause */
/* Those who come in between: clients that only look, and somebody at the
 * control socket who makes and removes disks, some of them under the hands of
 * those who write them.
 */

#include <config.h>

#include "load.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES (1 << 20)
#define STRANGER     77 /* nobody's number among the disks' */
#define VICTIMS      3

/* ---- looks ---- */

static const char *const no_exports[] = {
  "",
  "none",
  "swap/",
  "swap/x:0",
  "swap/x",
  "swap/big:900M",
  "swap/s0:2M",
  "a/b",
  "\xff",
  "disk0@snap",
  ".x",
  "disk0~00",
  "disk0~00112233445566778899aabbccddeeff",
};

static void
look_at_nothing (struct host *host, uint64_t *random)
{
  size_t nr = sizeof no_exports / sizeof no_exports[0];

  host_connection (no_exports[test_random_below (random, nr)], HOST_PEER_UNIX,
                   STRANGER, 0);
  MUST (host->p->open (0) == NULL);
}

/* A stranger: may read, and what he may not is refused. */
static void
look_at_disk (struct host *host, uint64_t *random)
{
  const struct disk *d = &host->disk[test_random_below (random, NR_DISKS)];
  char text[128], again[512];
  uint8_t buf[3000];
  void *h;

  host_connection (d->export, HOST_PEER_IP6, STRANGER, 0);
  h = host->p->open (test_random_below (random, 2) == 0);
  MUST (h != NULL);
  MUST (host->p->get_size (h) == (int64_t) d->bytes);
  MUST (host->p->pread (h, buf, sizeof buf,
                        test_random_below (random, d->bytes - sizeof buf),
                        0) == 0);
  if (!host->p->can_write (h)) {
    MUST (host->p->pwrite (h, buf, 1, 0, 0) == -1);
    MUST (host_take_error () == EPERM);
  }
  snprintf (text, sizeof text, "%s", host->p->export_description (h));
  MUST (strncmp (text, "farpage instance=", 17) == 0);
  host->p->close (h);

  snprintf (again, sizeof again, "%s~%.32s", d->export, text + 17);
  host_connection (again, HOST_PEER_IP6, STRANGER, 0);
  h = host->p->open (1);
  MUST (h != NULL);
  host->p->close (h);
}

void *
look_main (void *arg)
{
  struct host *host = arg;
  uint64_t random = host->seed | 1;

  while (!atomic_load (&host->end)) {
    struct nbdkit_exports x = { 0 };

    look_at_nothing (host, &random);
    look_at_disk (host, &random);
    MUST (host->p->list_exports (0, 0, &x) == 0);
    MUST (x.nr >= 1);
    MUST (host->p->default_export (0, 0)[0] == '\0');
    atomic_fetch_add (&host->nr_looks, 1);
    usleep (200);
  }
  return NULL;
}

/* ---- the control socket ---- */

const char *
control_ask (const struct host *host, char *answer, size_t bytes,
             const char *fmt, ...)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char line[512];
  size_t len = 0;
  va_list args;

  va_start (args, fmt);
  vsnprintf (line, sizeof line, fmt, args);
  va_end (args);
  snprintf (sun.sun_path, sizeof sun.sun_path, "%.90s/sock", host->dir);
  MUST (connect (fd, (struct sockaddr *) &sun, sizeof sun) == 0);
  MUST (send (fd, line, strlen (line), 0) == (ssize_t) strlen (line));
  do {
    ssize_t n = recv (fd, answer + len, bytes - 1 - len, 0);

    MUST (n > 0);
    len += (size_t) n;
  } while (answer[len - 1] != '\n');
  answer[len] = '\0';
  close (fd);
  return answer;
}

static bool
is_ok (const char *answer)
{
  return strncmp (answer, "{\"ok\": true", 11) == 0;
}

/* ---- victims ---- */

struct victim {
  struct host *host;
  void *handle;
  uint64_t bytes;
  atomic_bool removed;
};

/* Writes until the disk is taken away; then nothing works any more. */
static void *
victim_main (void *arg)
{
  struct victim *v = arg;
  uint64_t random = v->host->seed + (uintptr_t) v;
  uint8_t buf[20000];
  bool removed, shut = false;

  memset (buf, 0x42, sizeof buf);
  do {
    uint64_t off = test_random_below (&random, v->bytes - sizeof buf);
    int r, err;

    removed = atomic_load (&v->removed);
    if (test_random_below (&random, 4) == 0)
      r = v->host->p->pread (v->handle, buf, sizeof buf, off, 0);
    else
      r = v->host->p->pwrite (v->handle, buf, sizeof buf, off, 0);
    err = host_take_error ();
    MUST (r == 0 || err == ESHUTDOWN || err == ENOSPC);
    MUST (!shut || err == ESHUTDOWN);
    MUST (!removed || err == ESHUTDOWN);
    shut = r != 0 && err == ESHUTDOWN;
  } while (!removed);
  atomic_fetch_add (&v->host->nr_shut_down, 1);
  return NULL;
}

/* Make a disk, let some write it, take it away from them. */
static void
one_victim (struct host *host, unsigned nr, uint64_t *random, char *answer)
{
  uint64_t bytes = MIB + test_random_below (random, 64 * MIB);
  struct victim v = { .host = host, .bytes = bytes };
  pthread_t thread[VICTIMS];
  char name[32];

  snprintf (name, sizeof name, "t%u", nr % 10);
  MUST (is_ok (control_ask (
      host, answer, ANSWER_BYTES,
      "{\"cmd\": \"create\", \"name\": \"%s\", \"size\": %" PRIu64 "}\n", name,
      bytes)));
  host_connection (name, HOST_PEER_IP4, STRANGER, 0);
  v.handle = host->p->open (0);
  MUST (v.handle != NULL);
  for (int i = 0; i < VICTIMS; i++)
    MUST (pthread_create (&thread[i], NULL, victim_main, &v) == 0);
  usleep ((useconds_t) test_random_below (random, 20000));
  control_ask (host, answer, ANSWER_BYTES,
               "{\"cmd\": \"rm\", \"name\": \"%s\"}\n", name);
  MUST (!is_ok (answer) && strstr (answer, "EBUSY") != NULL);
  MUST (is_ok (control_ask (
      host, answer, ANSWER_BYTES,
      "{\"cmd\": \"rm\", \"name\": \"%s\", \"force\": true}\n", name)));
  atomic_store (&v.removed, true);
  for (int i = 0; i < VICTIMS; i++)
    pthread_join (thread[i], NULL);
  host->p->close (v.handle);
}

void *
control_main (void *arg)
{
  struct host *host = arg;
  uint64_t random = host->seed * 31 | 1;
  char *answer = malloc (ANSWER_BYTES);

  MUST (answer != NULL);
  for (unsigned nr = 0; !atomic_load (&host->end); nr++) {
    one_victim (host, nr, &random, answer);
    MUST (is_ok (
        control_ask (host, answer, ANSWER_BYTES, "{\"cmd\": \"stat\"}\n")));
    MUST (is_ok (
        control_ask (host, answer, ANSWER_BYTES, "{\"cmd\": \"ls\"}\n")));
    MUST (!is_ok (control_ask (host, answer, ANSWER_BYTES,
                               "{\"cmd\": \"rm\", \"name\": \"none\"}\n")));
    atomic_fetch_add (&host->nr_controls, 6);
  }
  free (answer);
  return NULL;
}
