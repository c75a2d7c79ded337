/* SPDX-License-Identifier: BSD-2-Clause */
/* The ruler: see ruler.h.  Called by test-relay.c and test-times.c.
 *
 *   ruler ─ client ─▶ relay ─▶ server ─ ruler      one process, one clock
 *     └──── commands ──┘
 */

#include <config.h>

#include "ruler.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static bool realtime;
static struct ruler *current; /* of this process */

static void
die (const char *what)
{
  fprintf (stderr, "ruler: %s: %s\n", what, strerror (errno));
  exit (1);
}

/* Also after a test that failed: no process, no files. */
static void
clean_up (void)
{
  struct dirent *entry;
  DIR *dir;

  if (current == NULL)
    return;
  kill (current->pid, SIGKILL);
  dir = opendir (current->dir);
  while (dir != NULL && (entry = readdir (dir)) != NULL)
    unlinkat (dirfd (dir), entry->d_name, 0);
  if (dir != NULL)
    closedir (dir);
  rmdir (current->dir);
  current = NULL;
}

void
ruler_realtime (void)
{
  const struct sched_param param = { .sched_priority = 1 };

  realtime = sched_setscheduler (0, SCHED_RR, &param) == 0;
  printf ("scheduled as %s\n", realtime ? "SCHED_RR" : "usual");
}

struct ruler ruler;

void
ruler_open (struct ruler *r)
{
  const char *relay = getenv ("RELAY");
  const char *tmp = getenv ("TMPDIR");
  int in[2], out[2];

  snprintf (r->dir, sizeof r->dir, "%s/farpage-relay.XXXXXX",
            tmp == NULL || strlen (tmp) > 30 ? "/tmp" : tmp);
  if (mkdtemp (r->dir) == NULL || pipe (in) == -1 || pipe (out) == -1)
    die (r->dir);
  r->pid = fork ();
  if (r->pid == -1)
    die ("fork");
  if (r->pid == 0) {
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    dup2 (in[0], STDIN_FILENO);
    dup2 (out[1], STDOUT_FILENO);
    close (in[1]);
    close (out[0]);
    relay = relay == NULL ? "./relay" : relay;
    execl (relay, "relay", realtime ? "--realtime" : NULL, NULL);
    die (relay);
  }
  close (in[0]);
  close (out[1]);
  r->in = fdopen (in[1], "w");
  r->out = fdopen (out[0], "r");
  current = r;
  atexit (clean_up);
}

int
ruler_close (struct ruler *r)
{
  int status;

  fclose (r->in);
  if (waitpid (r->pid, &status, 0) == -1 || status != 0) {
    fprintf (stderr, "ruler: the relay ended with status %#x\n", status);
    return 1;
  }
  fclose (r->out);
  if (rmdir (r->dir) == -1) { /* it has taken its sockets away */
    perror (r->dir);
    return 1;
  }
  current = NULL;
  return 0;
}

int
ruler_setup (void **state)
{
  (void) state;
  ruler_open (&ruler);
  return 0;
}

int
ruler_teardown (void **state)
{
  (void) state;
  return ruler_close (&ruler);
}

const char *
ruler_tell (struct ruler *r, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vfprintf (r->in, format, args);
  va_end (args);
  fputc ('\n', r->in);
  if (fflush (r->in) != 0 ||
      fgets (r->answer, sizeof r->answer, r->out) == NULL)
    die (format);
  r->answer[strcspn (r->answer, "\n")] = '\0';
  if (strncmp (r->answer, "ok", 2) != 0) {
    fprintf (stderr, "ruler: %s: %s\n", format, r->answer);
    exit (1);
  }
  return r->answer + (r->answer[2] == ' ' ? 3 : 2);
}

uint64_t
ruler_number (struct ruler *r, const char *key)
{
  char quoted[64];
  const char *at;

  snprintf (quoted, sizeof quoted, "\"%s\":", key);
  at = strstr (r->answer, quoted);
  if (at == NULL)
    die (key);
  return strtoull (at + strlen (quoted), NULL, 10);
}

void
ruler_link (struct ruler *r, const char *name, bool tcp, const char *settings,
            struct ruler_link *link)
{
  char at[ADDR_TEXT_MAX], target[ADDR_TEXT_MAX];
  struct addr a;
  int err;

  snprintf (target, sizeof target,
            tcp ? "tcp:127.0.0.1:0" : "unix:%s/%s.target", r->dir, name);
  snprintf (at, sizeof at, tcp ? "tcp:127.0.0.1:0" : "unix:%s/%s", r->dir,
            name);
  err = addr_parse (target, &a);
  err = err != 0 ? err : addr_listen (&a, &link->target);
  if (err != 0) {
    errno = err;
    die (target);
  }
  addr_print (&a, target);
  snprintf (
      at, sizeof at, "%s",
      strchr (ruler_tell (r, "listen %s %s %s %s", name, at, target, settings),
              ' ') +
          1);
  if (addr_parse (at, &link->at) != 0)
    die (at);
}

void
ruler_unlink (struct ruler_link *link)
{
  struct addr a = { .len = sizeof a.storage };

  getsockname (link->target, &a.any, &a.len);
  if (a.any.sa_family == AF_UNIX)
    unlink (a.path.sun_path);
  close (link->target);
}

/* Blocking, with a limit: a test that hangs tells nothing. */
static void
make_blocking (const struct addr *a, int fd)
{
  const struct timeval limit = { .tv_sec = 20 };

  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  addr_no_delay (a, fd);
}

int
ruler_connect (const struct ruler_link *link)
{
  int fd = socket (link->at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int err;

  if (fd == -1)
    die ("socket");
  if (connect (fd, &link->at.any, link->at.len) == -1) {
    err = errno;
    close (fd);
    errno = err;
    return -1;
  }
  make_blocking (&link->at, fd);
  return fd;
}

int
ruler_accept (const struct ruler_link *link)
{
  double limit = now_us () + 20e6;
  int fd;

  while ((fd = accept4 (link->target, NULL, NULL, SOCK_CLOEXEC)) == -1) {
    if (errno != EAGAIN || now_us () > limit)
      die ("accept");
    usleep (100);
  }
  make_blocking (&link->at, fd);
  return fd;
}

struct ends
ruler_ends (const struct ruler_link *link)
{
  struct ends e = { .client = ruler_connect (link) };

  if (e.client == -1)
    die ("connect");
  e.server = ruler_accept (link);
  return e;
}

void
ends_close (struct ends *e)
{
  close (e->client);
  close (e->server);
}

static void *
bare_run (void *arg)
{
  struct bare *b = arg;
  char message[BARE_LEN];
  double due_us;

  while (recv (b->own.client, message, sizeof message, MSG_WAITALL) ==
         sizeof message) {
    struct timespec due;

    memcpy (&due_us, message, sizeof due_us);
    due_us += b->delay_us;
    due.tv_sec = (time_t) (due_us / 1e6);
    due.tv_nsec = (long) ((due_us - due.tv_sec * 1e6) * 1e3);
    while (clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) ==
           EINTR)
      ;
    send_all (b->own.server, message, sizeof message);
  }
  return NULL;
}

/* Two sockets that are connected. */
static void
socket_pair (bool tcp, int fd[2])
{
  struct ruler_link link;
  int err;

  if (!tcp) {
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == -1)
      die ("socketpair");
    return;
  }
  err = addr_parse ("tcp:127.0.0.1:0", &link.at);
  err = err != 0 ? err : addr_listen (&link.at, &link.target);
  if (err != 0) {
    errno = err;
    die ("listen");
  }
  fd[0] = ruler_connect (&link);
  if (fd[0] == -1)
    die ("connect");
  fd[1] = ruler_accept (&link);
  close (link.target);
}

void
bare_open (struct bare *b, bool tcp, double delay_us)
{
  int in[2], out[2];

  socket_pair (tcp, in);
  socket_pair (tcp, out);
  b->ends = (struct ends){ .client = in[0], .server = out[0] };
  b->own = (struct ends){ .client = in[1], .server = out[1] };
  b->delay_us = delay_us;
  if (pthread_create (&b->thread, NULL, bare_run, b) != 0)
    die ("thread");
}

void
bare_close (struct bare *b)
{
  shutdown (b->ends.client, SHUT_WR);
  pthread_join (b->thread, NULL);
  ends_close (&b->ends);
  ends_close (&b->own);
}

void
send_all (int fd, const void *bytes, size_t len)
{
  while (len > 0) {
    ssize_t n = send (fd, bytes, len, MSG_NOSIGNAL);

    if (n == -1)
      die ("send");
    bytes = (const char *) bytes + n;
    len -= n;
  }
}

void
recv_all (int fd, void *bytes, size_t len)
{
  while (len > 0) {
    ssize_t n = recv (fd, bytes, len, 0);

    if (n <= 0)
      die (n == 0 ? "end of a connection" : "recv");
    bytes = (char *) bytes + n;
    len -= n;
  }
}

int
end_of (int fd)
{
  char byte;
  ssize_t n = recv (fd, &byte, 1, 0);

  return n > 0 ? -1 : n == 0 ? 0 : errno;
}

static uint64_t
pattern_word (unsigned stream, uint64_t i)
{
  uint64_t x = (i + 1) * UINT64_C (0x9e3779b97f4a7c15) ^
               (uint64_t) stream * UINT64_C (0xd1b54a32d192ed03);

  x = (x ^ x >> 31) * UINT64_C (0xbf58476d1ce4e5b9);
  return x ^ x >> 29;
}

void
pattern_fill (unsigned stream, uint64_t off, void *bytes, size_t len)
{
  unsigned char *to = bytes;

  while (len > 0) {
    uint64_t word = pattern_word (stream, off / 8);
    size_t at = off % 8, n = 8 - at < len ? 8 - at : len;

    memcpy (to, (const char *) &word + at, n);
    to += n;
    off += n;
    len -= n;
  }
}

bool
pattern_is (unsigned stream, uint64_t off, const void *bytes, size_t len)
{
  char want[4096];

  while (len > 0) {
    size_t n = len < sizeof want ? len : sizeof want;

    pattern_fill (stream, off, want, n);
    if (memcmp (want, bytes, n) != 0)
      return false;
    bytes = (const char *) bytes + n;
    off += n;
    len -= n;
  }
  return true;
}

static void *
sender_run (void *arg)
{
  struct sender *s = arg;
  static __thread char bytes[65536];

  for (uint64_t off = 0; off < s->len;) {
    uint64_t left = s->len - off;
    size_t len = left < sizeof bytes ? left : sizeof bytes;
    ssize_t n;

    pattern_fill (s->stream, off, bytes, len);
    for (size_t at = 0; at < len; at += n) {
      n = send (s->fd, bytes + at, len - at, MSG_NOSIGNAL);
      if (n == -1) {
        s->failed = true;
        return NULL;
      }
    }
    off += len;
  }
  return NULL;
}

void
sender_start (struct sender *s)
{
  s->failed = false;
  if (pthread_create (&s->thread, NULL, sender_run, s) != 0)
    die ("thread");
}

void
sender_join (struct sender *s)
{
  pthread_join (s->thread, NULL);
}

uint64_t
receive_pattern (int fd, unsigned stream, uint64_t max, int *err)
{
  static __thread char bytes[65536];
  uint64_t off = 0;

  *err = 0;
  while (off < max) {
    ssize_t n = recv (fd, bytes,
                      max - off < sizeof bytes ? max - off : sizeof bytes, 0);

    if (n == -1)
      *err = errno;
    if (n <= 0)
      return off;
    if (!pattern_is (stream, off, bytes, n)) {
      fprintf (stderr, "ruler: wrong bytes from %llu on\n",
               (unsigned long long) off);
      exit (1);
    }
    off += n;
  }
  return off;
}

static void *
receiver_run (void *arg)
{
  struct receiver *r = arg;
  int err;

  r->got = receive_pattern (r->fd, r->stream, r->len, &err);
  return NULL;
}

void
receiver_start (struct receiver *r)
{
  if (pthread_create (&r->thread, NULL, receiver_run, r) != 0)
    die ("thread");
}

void
receiver_join (struct receiver *r)
{
  pthread_join (r->thread, NULL);
}

double
now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static int
compare (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

double
median (double *values, unsigned nr)
{
  qsort (values, nr, sizeof *values, compare);
  return values[nr / 2];
}
