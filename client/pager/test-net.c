/* SPDX-License-Identifier: BSD-2-Clause */
/* Servers and the relay for tests of the link: see test-net.h.  All
 * processes die with the test (PR_SET_PDEATHSIG); sockets are in its folder.
 */

#include <config.h>

#include "test-net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

const char *const server_names[SERVER_KINDS] = {
  "nbdkit memory", "nbdkit file",   "qemu-nbd",  "nbd-server",
  "farpage",       "farpage, kept", "nbdkit sh", "nbdkit sparse-random"
};

bool net_serial;

static char dir[64];
static char staging[64]; /* of a store that is kept; "": none */
static unsigned nr_sockets;

#define RUNNING_MAX 64u
static pid_t running[RUNNING_MAX]; /* for the end, after a failure */
static unsigned nr_running;

/* ---- messages ---- */

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char said[NET_LOG]; /* [log_mutex] */
static size_t said_len;

static void
on_log (void *arg, enum log_level level, const char *text)
{
  size_t len = strlen (text);

  (void) arg;
  (void) level;
  if (getenv ("FARPAGE_LOG") != NULL)
    fprintf (stderr, "# %s\n", text);
  pthread_mutex_lock (&log_mutex);
  if (said_len + len + 2 < sizeof said) {
    memcpy (said + said_len, text, len);
    said[said_len + len] = '\n';
    said_len += len + 1;
    said[said_len] = '\0';
  }
  pthread_mutex_unlock (&log_mutex);
}

bool
net_said (const char *part)
{
  bool yes;

  pthread_mutex_lock (&log_mutex);
  yes = strstr (said, part) != NULL;
  pthread_mutex_unlock (&log_mutex);
  return yes;
}

void
net_forget (void)
{
  pthread_mutex_lock (&log_mutex);
  said_len = 0;
  said[0] = '\0';
  pthread_mutex_unlock (&log_mutex);
}

/* ---- begin and end ---- */

int
net_group_setup (void **state)
{
  const char *tmp = getenv ("TMPDIR");

  (void) state;
  signal (SIGPIPE, SIG_IGN);
  log_set (on_log, NULL);
  snprintf (dir, sizeof dir, "%.40s/fp-XXXXXX", tmp != NULL ? tmp : "/tmp");
  assert_non_null (mkdtemp (dir));
  return 0;
}

static void
forget_running (pid_t pid)
{
  for (unsigned i = 0; i < RUNNING_MAX; i++)
    if (running[i] == pid)
      running[i] = 0;
}

int
net_group_teardown (void **state)
{
  char command[200];

  (void) state;
  for (unsigned i = 0; i < RUNNING_MAX; i++)
    if (running[i] > 1)
      kill (running[i], SIGTERM);

  snprintf (command, sizeof command, "rm -rf '%s' %s", dir, staging);
  assert_int_equal (system (command), 0);
  return 0;
}

const char *
net_dir (void)
{
  return dir;
}

/* ---- servers ---- */

/* FARPAGE_BUILD is the top of the build tree, else that of where we are. */
static void
build_path (const char *name, char *path, size_t len)
{
  const char *top = getenv ("FARPAGE_BUILD");

  snprintf (path, len, "%s/%s", top != NULL ? top : "../..", name);
}

static pid_t
spawn (char *const argv[], int in, int out)
{
  pid_t parent = getpid (), pid = fork ();

  if (pid != 0)
    return pid;
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  if (getppid () != parent)
    _exit (1);
  if (in != -1)
    dup2 (in, STDIN_FILENO);
  if (out != -1)
    dup2 (out, STDOUT_FILENO);
  for (int fd = 3; fd < 64; fd++)
    close (fd);
  if (getenv ("FARPAGE_LOG") == NULL) {
    int null = open ("/dev/null", O_WRONLY);

    dup2 (null, STDERR_FILENO);
  }
  execvp (argv[0], argv);
  _exit (127);
}

static bool
connects (const char *path)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

  snprintf (addr.sun_path, sizeof addr.sun_path, "%.100s", path);
  err = connect (fd, (struct sockaddr *) &addr, sizeof addr);
  close (fd);
  return err == 0;
}

static void
write_nbd_config (const struct server *s, const char *image)
{
  char path[128];
  FILE *f;

  snprintf (path, sizeof path, "%s/nbd.conf", dir);
  f = fopen (path, "w");
  assert_non_null (f);
  fprintf (f,
           "[generic]\nunixsock = %s\n"
           "[x]\nexportname = %s\nflush = true\ntrim = true\nfua = true\n",
           s->socket, image);
  fclose (f);
}

static unsigned
nbdkit_words (struct server *s, char *argv[], char *words)
{
  unsigned n = 0;
  char *state = NULL;

  argv[n++] = (char *) "nbdkit";
  argv[n++] = (char *) "-f";
  argv[n++] = (char *) "-U";
  argv[n++] = s->socket;
  if (net_serial) {
    argv[n++] = (char *) "-t";
    argv[n++] = (char *) "1";
  }
  if (s->psk != NULL) {
    argv[n++] = (char *) "--tls=require";
    argv[n++] = (char *) "--tls-psk";
    argv[n++] = (char *) s->psk;
  }
  if (s->certificates != NULL) {
    argv[n++] = (char *) "--tls=require";
    argv[n++] = (char *) "--tls-verify-peer";
    argv[n++] = (char *) "--tls-certificates";
    argv[n++] = (char *) s->certificates;
  }
  for (char *w = strtok_r (words, " ", &state); w != NULL;
       w = strtok_r (NULL, " ", &state))
    argv[n++] = w;
  return n;
}

static void
spawn_nbdkit (struct server *s, const char *image)
{
  const char *filter = s->filter != NULL ? s->filter : "";
  size_t len = strcspn (filter, " "); /* names, then their parameters */
  char head[128] = "", words[1200], plugin[512], *argv[24];
  unsigned n;

  build_path ("plugins/farpage/.libs/nbdkit-farpage-plugin.so", plugin,
              sizeof plugin);
  for (size_t at = 0, end; at < len; at = end + 1) {
    end = at + strcspn (filter + at, "+ ");
    n = (unsigned) strlen (head);
    snprintf (head + n, sizeof head - n, "--filter=%.*s ", (int) (end - at),
              filter + at);
  }
  if (s->kind == SERVER_MEMORY)
    snprintf (words, sizeof words, "%smemory %llu%s", head,
              (unsigned long long) s->size, filter + len);
  else if (s->kind == SERVER_FILE)
    snprintf (words, sizeof words, "%sfile %s%s", head, image, filter + len);
  else if (s->kind == SERVER_SPARSE)
    snprintf (words, sizeof words,
              "%ssparse-random %llu seed=1 runlength=100000%s", head,
              (unsigned long long) s->size, filter + len);
  else if (s->kind == SERVER_SCRIPT)
    snprintf (words, sizeof words, "%ssh %s/script%s", head, dir, filter + len);
  else if (s->kind == SERVER_DURABLE)
    snprintf (words, sizeof words, "%s%s %s control=%s/control staging=%s%s",
              head, plugin, image, dir, staging, filter + len);
  else
    snprintf (words, sizeof words, "%s%s mem:256M linger=60 control=%s", head,
              plugin, filter + len);
  n = nbdkit_words (s, argv, words);
  argv[n] = NULL;
  s->pid = spawn (argv, -1, -1);
}

static void
spawn_server (struct server *s)
{
  char image[100], conf[100], pid[100];
  char *qemu[] = { (char *) "qemu-nbd",
                   (char *) "-t",
                   (char *) "-e",
                   (char *) "8",
                   (char *) "-f",
                   (char *) "raw",
                   (char *) "-k",
                   s->socket,
                   (char *) "--discard=unmap",
                   (char *) "--cache=writeback",
                   image,
                   NULL };
  char *nbd[] = { (char *) "nbd-server", (char *) "-C", conf,
                  (char *) "-p",         pid,           NULL };

  snprintf (image, sizeof image, "%s/image", dir);
  snprintf (conf, sizeof conf, "%s/nbd.conf", dir);
  snprintf (pid, sizeof pid, "%s/nbd.pid", dir);
  if (s->kind == SERVER_QEMU) {
    s->pid = spawn (qemu, -1, -1);
  } else if (s->kind == SERVER_NBD) {
    write_nbd_config (s, image);
    s->pid = spawn (nbd, -1, -1);
  } else {
    spawn_nbdkit (s, image);
  }
}

/* `farpage` with these words; false: it failed. */
static bool
farpage (const char *words)
{
  char tool[512], text[400], *argv[12], *state = NULL;
  int status = 1, null = open ("/dev/null", O_WRONLY | O_CLOEXEC);
  unsigned n = 0;
  pid_t pid;

  build_path ("client/tool/farpage", tool, sizeof tool);
  snprintf (text, sizeof text, "%s", words);
  argv[n++] = tool;
  for (char *w = strtok_r (text, " ", &state); w != NULL && n < 11;
       w = strtok_r (NULL, " ", &state))
    argv[n++] = w;
  argv[n] = NULL;
  pid = spawn (argv, -1, null);
  close (null);
  return waitpid (pid, &status, 0) == pid && status == 0;
}

/* In memory, so that what was answered outlives the server; else none, and
 * answers wait for the volume.
 */
static void
make_staging (void)
{
  struct statfs fs;

  if (staging[0] != '\0' || statfs ("/dev/shm", &fs) == -1 ||
      fs.f_type != TMPFS_MAGIC)
    return;
  snprintf (staging, sizeof staging, "/dev/shm/fp-XXXXXX");
  if (mkdtemp (staging) == NULL)
    staging[0] = '\0';
}

static bool
format_store (const char *image)
{
  char words[300];

  make_staging ();
  snprintf (words, sizeof words, "format %s --ring 8M", image);
  return farpage (words);
}

/* The disk "t" of s->size / 2, on the store that was formatted. */
static bool
make_disk (struct server *s)
{
  char control[100], words[300];

  snprintf (control, sizeof control, "%s/control", dir);
  for (unsigned i = 0; i < 2000 && !connects (control); i++)
    net_sleep_ms (5);
  snprintf (words, sizeof words, "create t %llu --socket %s",
            (unsigned long long) s->size / 2, control);
  return farpage (words);
}

/* nbd-server goes into the background and writes where. */
static void
find_daemon (struct server *s)
{
  char path[100];
  int pid = 0;
  FILE *f;

  snprintf (path, sizeof path, "%s/nbd.pid", dir);
  for (unsigned i = 0; i < 200 && pid == 0; i++) {
    net_sleep_ms (5);
    f = fopen (path, "r");
    if (f != NULL && fscanf (f, "%d", &pid) != 1)
      pid = 0;
    if (f != NULL)
      fclose (f);
  }
  assert_true (pid > 1);
  unlink (path);
  s->pid = pid;
}

static bool
wait_for (struct server *s)
{
  int status = 0;
  bool ended = false;

  for (unsigned i = 0; i < 2000; i++) {
    if (connects (s->socket)) {
      if (s->kind == SERVER_NBD)
        find_daemon (s);
      return true;
    }
    ended = ended || waitpid (s->pid, &status, WNOHANG) == s->pid;
    if (ended && status != 0)
      return false;
    net_sleep_ms (5);
  }
  return false;
}

static bool
start (struct server *s)
{
  char image[100];
  int fd;

  snprintf (s->socket, sizeof s->socket, "%s/%u", dir, nr_sockets++);
  snprintf (image, sizeof image, "%s/image", dir);
  unlink (image);
  fd = open (image, O_RDWR | O_CREAT | O_TRUNC, 0600);
  assert_int_equal (ftruncate (fd, (off_t) s->size), 0);
  close (fd);
  if (s->kind == SERVER_DURABLE && !format_store (image))
    return false;
  return server_try_restart (s) && (s->kind != SERVER_DURABLE || make_disk (s));
}

bool
server_start (struct server *s, enum server_kind kind, uint64_t size,
              const char *filter)
{
  *s = (struct server){ .kind = kind, .size = size, .filter = filter };
  return start (s);
}

bool
server_start_tls (struct server *s, uint64_t size, const char *psk)
{
  *s = (struct server){ .kind = SERVER_MEMORY, .size = size, .psk = psk };
  return start (s);
}

bool
server_start_certificates (struct server *s, uint64_t size, const char *folder)
{
  *s = (struct server){ .kind = SERVER_MEMORY,
                        .size = size,
                        .certificates = folder };
  return start (s);
}

void
server_kill (struct server *s)
{
  int status;

  forget_running (s->pid);
  kill (s->pid, s->kind == SERVER_NBD ? SIGTERM : SIGKILL);
  if (s->kind != SERVER_NBD)
    waitpid (s->pid, &status, 0);
  unlink (s->socket);
}

bool
server_try_restart (struct server *s)
{
  spawn_server (s);
  if (!wait_for (s))
    return false;
  running[nr_running++ % RUNNING_MAX] = s->pid;
  return true;
}

void
server_restart (struct server *s)
{
  assert_true (server_try_restart (s));
}

static const char *
export_of (const struct server *s)
{
  if (s->kind == SERVER_FARPAGE)
    return "swap/t:64M";
  if (s->kind == SERVER_DURABLE)
    return "t";
  return s->kind == SERVER_NBD ? "x" : "";
}

void
server_uri (const struct server *s, char *uri, size_t len)
{
  snprintf (uri, len, "nbd+unix:///%s?socket=%s", export_of (s), s->socket);
}

/* ---- relay ---- */

static void
read_line (struct relay *r, char *line, size_t len)
{
  size_t n = 0;

  while (n < len - 1 && read (r->from, line + n, 1) == 1 && line[n] != '\n')
    n++;
  line[n] = '\0';
}

const char *
relay_tell (struct relay *r, const char *fmt, ...)
{
  static char line[8192];
  va_list args;
  int n;

  va_start (args, fmt);
  n = vsnprintf (line, sizeof line - 1, fmt, args);
  va_end (args);
  line[n++] = '\n';
  assert_int_equal (write (r->to, line, n), n);
  read_line (r, line, sizeof line);
  if (strncmp (line, "ok", 2) != 0)
    fail_msg ("relay: %s: %s", fmt, line);
  return line + (line[2] == ' ' ? 3 : 2);
}

bool
relay_is_there (void)
{
  char path[512];

  build_path ("tests/relay/relay", path, sizeof path);
  return access (path, X_OK) == 0;
}

void
relay_start (struct relay *r, const struct server *s, bool tcp,
             const char *options)
{
  char path[512], *argv[] = { path, (char *) "--realtime", NULL };
  int to[2], from[2];
  const char *answer;

  *r = (struct relay){ .tcp = tcp };
  build_path ("tests/relay/relay", path, sizeof path);
  assert_int_equal (pipe2 (to, O_CLOEXEC), 0);
  assert_int_equal (pipe2 (from, O_CLOEXEC), 0);
  r->pid = spawn (argv, to[0], from[1]);
  close (to[0]);
  close (from[1]);
  r->to = to[1];
  r->from = from[0];
  snprintf (r->at, sizeof r->at, "%s/%u", dir, nr_sockets++);
  if (tcp)
    answer = relay_tell (r, "listen a tcp:127.0.0.1:0 unix:%s %s", s->socket,
                         options);
  else
    answer = relay_tell (r, "listen a unix:%s unix:%s %s", r->at, s->socket,
                         options);
  if (tcp)
    snprintf (r->at, sizeof r->at, "%.60s", answer + strlen ("a tcp:"));
}

void
relay_stop (struct relay *r)
{
  int status;

  close (r->to);
  waitpid (r->pid, &status, 0);
  close (r->from);
}

void
relay_uri (const struct relay *r, const char *name, char *uri, size_t len)
{
  if (r->tcp)
    snprintf (uri, len, "nbd://%s/%s", r->at, name);
  else
    snprintf (uri, len, "nbd+unix:///%s?socket=%s", name, r->at);
}
