/* SPDX-License-Identifier: BSD-2-Clause */
/* A device whose connections are made again: see watch.h.  Called by attach.c,
 * grow.c and detach.c; calls export.c and kernel.c.
 *
 *   the driver: a socket is dead ─▶ all of them are shut, and dead
 *       ▲                                │
 *       └── sockets, one by one ◀── the next generation, when there is a server
 *
 * W1 A new generation is opened when every socket of the last one is shut, and
 *    the driver has said so: the server fences the older one off, and what is
 *    still sent there would be an error.
 * W2 A socket is given to the driver for one that is dead, never more: it would
 *    close it, and say nothing.
 * W3 The device is never given an export of another instance, nor a smaller
 *    one, nor what may be another one because nobody knows.  It is larger than
 *    the export at no time: it grows when each socket is of a connection that
 *    was told so.
 *
 * This may be the machine's swap, and what makes the connection again must not
 * wait for it: the process is locked in memory, has memory found for it without
 * I/O, is not killed for want of it, and leaves out what it cannot say at once.
 *
 * Not done: a device of a watcher that was killed is not watched again; it
 * works on until its connection is lost.
 */

#include <config.h>

#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "armour.h"
#include "log.h"
#include "tool.h"

#define FOLDER     "/run/farpage"
#define AGAIN_MS   500  /* from one look for the server to the next */
#define DEAD_MS    5000 /* until the driver has seen that sockets are shut */
#define TELL_EVERY 20   /* looks that failed for the same reason */

/* What its file says, in one piece. */
#define STATE_PRINT "%10u %20" PRIu64 "\n"
#define STATE_SCAN  "%u %" SCNu64
#define STATE_BYTES 32

/* ---- what it says ---- */

static void tell (const struct attached *a, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

static void
tell (const struct attached *a, const char *fmt, ...)
{
  struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
  char text[1200];
  va_list args;

  if (poll (&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
    return;
  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  complain (a->path, "%s", text);
}

static int64_t
now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_BOOTTIME, &ts);
  return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- who watches what ---- */

/* A file that the watcher has a lock on: the kernel knows whose that is. */
static int
lock_file (int index, int flags)
{
  char path[64];

  snprintf (path, sizeof path, FOLDER "/nbd%d.watch", index);
  return open (path, flags | O_CLOEXEC | O_NOFOLLOW, 0644);
}

void
watch_look (int index, struct watch_state *st)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int fd = lock_file (index, O_RDWR);
  char text[STATE_BYTES + 1] = "";

  *st = (struct watch_state){ .pid = 0 };
  if (fd < 0)
    return;
  if (fcntl (fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) {
    st->pid = lock.l_pid;
    if (pread (fd, text, STATE_BYTES, 0) != STATE_BYTES ||
        sscanf (text, STATE_SCAN, &st->generation, &st->size_bytes) != 2)
      st->generation = 0;
  }
  close (fd);
}

bool
watch_is_possible (void)
{
  if (mkdir (FOLDER, 0755) == 0 || access (FOLDER, W_OK) == 0)
    return true;
  complain (FOLDER, "nothing can be written there, which a watcher needs: %s",
            strerror (errno));
  return false;
}

/* Returns what holds the lock, or -1. */
static int
take_lock (const struct attached *a)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int fd = lock_file (a->dev.index, O_RDWR | O_CREAT);

  if (fd >= 0 && fcntl (fd, F_SETLK, &lock) == 0 && ftruncate (fd, 0) == 0)
    return fd;
  complain (FOLDER, "cannot say there that %s is watched: %s", a->path,
            strerror (errno));
  if (fd >= 0)
    close (fd);
  return -1;
}

/* ---- a loss ---- */

struct watch {
  struct attached *a;
  int signals;
  int file; /* the one with the lock */
  unsigned generation;
  unsigned nr_dead; /* of its sockets, as the driver says */
  bool ended;       /* a signal came */
  bool anew;        /* SIGHUP did */
};

static void
say_state (struct watch *w)
{
  char text[STATE_BYTES + 1];

  snprintf (text, sizeof text, STATE_PRINT, ++w->generation,
            w->a->dev.size_bytes);
  if (pwrite (w->file, text, STATE_BYTES, 0) != STATE_BYTES)
    tell (w->a, "%s: %s", FOLDER, strerror (errno));
}

static void
take_signal (struct watch *w)
{
  struct signalfd_siginfo info;

  if (read (w->signals, &info, sizeof info) != (ssize_t) sizeof info)
    return;
  if (info.ssi_signo == SIGHUP)
    w->anew = true;
  else
    w->ended = true;
}

/* True: there is something to look at; false: the time is over. */
static bool
wait_for (struct watch *w, int ms)
{
  struct pollfd p[] = { { .fd = w->signals, .events = POLLIN },
                        { .fd = kernel_fd (w->a->kernel), .events = POLLIN } };

  if (poll (p, 2, ms) < 1)
    return false;
  if (p[0].revents != 0)
    take_signal (w);
  w->nr_dead += kernel_take_dead (w->a->kernel, w->a->dev.index);
  return true;
}

static void
shut_all (struct watch *w)
{
  const int64_t until = now_ms () + DEAD_MS;

  for (unsigned i = 0; i < w->a->nr; i++)
    shutdown (w->a->fd[i], SHUT_RDWR);
  while (w->nr_dead < w->a->nr && !w->ended && now_ms () < until)
    wait_for (w, (int) (until - now_ms ()));
  for (unsigned i = 0; i < w->a->nr; i++)
    close (w->a->fd[i]);
}

/* Connections to what it was, or has become: 0.  ESTALE: it is something else.
 */
static int
dial (struct watch *w)
{
  struct export *e = &w->a->export;
  const uint64_t size_bytes = e->size_bytes, flags = e->flags;
  int err =
      export_dial (e, w->a->nr, WATCH_DIAL_MS, WATCH_TIMEOUT_MS, w->a->fd);

  if (err == 0 && e->flags == flags &&
      (e->size_bytes == size_bytes ||
       (e->size_bytes > size_bytes && e->instance[0] != '\0')))
    return 0;
  if (err == 0) {
    snprintf (e->why, sizeof e->why,
              e->flags == flags
                  ? "the server has another size for it now"
                  : "the server allows less, or more, of it now (is it open "
                    "elsewhere?)");
    for (unsigned i = 0; i < w->a->nr; i++)
      close (w->a->fd[i]);
    err = ESTALE;
  }
  e->size_bytes = size_bytes; /* some of them may have been told another */
  e->flags = flags;
  return err;
}

/* The new sockets, one for each that is dead [W2]. */
static int
hand_over (struct watch *w)
{
  int err = 0;

  for (unsigned i = 0; i < w->a->nr && err == 0; i++)
    err = kernel_reconnect (w->a->kernel, &w->a->dev, w->a->fd[i]);
  if (err)
    for (unsigned i = 0; i < w->a->nr; i++)
      close (w->a->fd[i]);
  return err;
}

/* The device is as large as its export [W3]. */
static void
grow (struct watch *w)
{
  struct kernel_device *dev = &w->a->dev;
  const uint64_t was_bytes = dev->size_bytes;
  int err;

  dev->size_bytes = kernel_bytes (w->a->export.size_bytes);
  if (dev->size_bytes == was_bytes)
    return;
  err = kernel_resize (w->a->kernel, dev);
  if (err == 0) {
    tell (w->a, "it has %" PRIu64 " bytes now", dev->size_bytes);
    return;
  }
  dev->size_bytes = was_bytes;
  tell (w->a, "it keeps its size: the driver: %s", strerror (err));
}

/* Until there is a server that has it.  0; or what the driver says. */
static int
come_back (struct watch *w)
{
  const int64_t begin = now_ms ();
  int64_t next = begin + AGAIN_MS;
  unsigned looks = 0;
  bool is_there = false;
  int err;

  while (!w->ended && (err = dial (w)) != 0) {
    const bool was_there = is_there;

    is_there = err == ENOENT || err == ESTALE;
    if (is_there != was_there)
      looks = 0;
    if (looks++ % TELL_EVERY == 0)
      tell (w->a, "%s: %s; it is tried again, and the device waits",
            is_there ? "the server is there, and does not have what it had"
                     : "no server",
            w->a->export.why);
    if ((uint64_t) (now_ms () - begin) / 1000 > w->a->dev.dead_seconds)
      return ETIMEDOUT;
    if (!device_is_attached (w->a->dev.index))
      return EINVAL;
    if (now_ms () < next)
      wait_for (w, (int) (next - now_ms ()));
    next = now_ms () + AGAIN_MS;
  }
  if (w->ended)
    return 0;
  w->nr_dead = 0;
  w->anew = false;
  err = hand_over (w);
  if (err)
    return err;
  tell (w->a, "connected again, after %.1f s",
        (double) (now_ms () - begin) / 1000);
  grow (w);
  say_state (w);
  return 0;
}

/* The exit status, or -1: it goes on. */
static int
on_loss (struct watch *w)
{
  int err;

  if (!device_is_attached (w->a->dev.index))
    return 0;
  tell (w->a, w->anew ? "told to connect again" : "the connection is lost");
  shut_all (w);
  err = come_back (w);
  if (err == 0)
    return -1;
  if (!device_is_attached (w->a->dev.index))
    return 0;
  if (err == ETIMEDOUT) { /* the driver still waits with what was sent */
    kernel_disconnect (w->a->kernel, w->a->dev.index);
    tell (w->a,
          "given up: the server was away for too long (what waited has "
          "failed, and all that is asked will; unmount it or swapoff, and "
          "attach it again)");
  } else
    tell (w->a,
          "given up: %s (what waited has failed; 'farpage detach' it, and "
          "attach it again)",
          strerror (err));
  return STATUS_NO;
}

static void
on_log (void *arg, enum log_level level, const char *text)
{
  const struct attached *a = arg;

  if (level <= LOG_WARNING)
    complain (a->path, "the watcher's %s", text);
}

/* What cannot be had is told, and done without.  Most of the libraries are here
 * for libnbd's TLS, 40 MiB with their tables, which a small machine would miss:
 * of these stays what the first connection has touched.
 */
static void
put_on_armour (struct attached *a)
{
  static const char *const libraries[] = { "ld-",   "libc.",  "libnbd.",
                                           "libnl", "libxml", NULL };
  struct armour armour;

  log_set (on_log, a);
  (void) armour_put_on (ARMOUR_AUTO, &armour);
  armour_fill (&armour, false, libraries);
}

int
watch_run (struct attached *a)
{
  struct watch w = { .a = a, .file = take_lock (a) };
  int status = -1;
  sigset_t set;

  if (w.file < 0)
    return STATUS_NO;
  put_on_armour (a);
  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGHUP);
  sigprocmask (SIG_BLOCK, &set, NULL);
  w.signals = signalfd (-1, &set, SFD_CLOEXEC);
  say_state (&w);
  while (status == -1) {
    if (w.ended)
      status = 0;
    else if (w.nr_dead > 0 || w.anew)
      status = on_loss (&w);
    else
      wait_for (&w, -1);
  }
  close (w.signals);
  close (w.file);
  return status;
}
