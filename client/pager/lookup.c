/* SPDX-License-Identifier: BSD-2-Clause */
/* Names are looked up by getaddrinfo (), which libnbd calls where
 * nbd_aio_connect_tcp () is called, and which waits for servers of names, for
 * half a minute if they are away.  On the loop that would hold up all else, and
 * on a loop of the caller's, the caller.  Called by conn.c.
 *
 *   loop: lookup_start ()  ──▶ thread: nbd_aio_connect_tcp ()
 *         on_bell ─▶ done ()  ◀── bell        │
 *   loop: lookup_leave ()    ──▶ left: it closes the handle and is gone
 *
 * The whole call is made there, not the lookup alone: so libnbd keeps the name,
 * by which it checks certificates, and goes over the addresses itself.  What
 * follows the first connect () is asynchronous, and the loop's.
 *
 * I1 While the thread runs the handle is its own.
 * I2 The bell is rung under the mutex and not after `left', so the loop is
 *    there when it rings.
 * I3 Who comes second, the thread's end or lookup_leave (), frees it.
 *
 * The threads are counted and bounded for the process.  One cannot be stopped,
 * so it may outlive the link, and the library must not be unloaded then; it
 * is linked so that it never is.  If a program ends in the moment in which one
 * that was left finds its name, libnbd is ended under it and aborts.
 */

#include <config.h>

#include "lookup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>
#include <libnbd.h>

struct lookup {
  struct ev_loop *ev;   /* [const] */
  struct nbd_handle *h; /* [const] */
  char *host, *port;    /* [const] */
  void (*done) (void *arg, int error, const char *text);
  void *arg;
  ev_async bell;
  pthread_mutex_t mutex;
  bool left, over; /* [mutex] */
  int error;       /* the thread's until over */
  char text[160];
};

static atomic_uint nr_threads;

static void
free_lookup (struct lookup *l)
{
  pthread_mutex_destroy (&l->mutex);
  free (l->host);
  free (l->port);
  free (l);
}

static void
connect_tcp (struct lookup *l)
{
  const char *text;

  if (nbd_aio_connect_tcp (l->h, l->host, l->port) != -1)
    return;
  l->error = nbd_get_errno ();
  if (l->error <= 0)
    l->error = EPROTO;
  text = nbd_get_error ();
  snprintf (l->text, sizeof l->text, "%s", text != NULL ? text : "no address");
}

static void *
run (void *arg)
{
  struct lookup *l = arg;
  bool left;

  connect_tcp (l);
  pthread_mutex_lock (&l->mutex);
  l->over = true;
  left = l->left;
  if (!left)
    ev_async_send (l->ev, &l->bell);
  pthread_mutex_unlock (&l->mutex);
  if (left) {
    nbd_close (l->h);
    free_lookup (l);
  }
  atomic_fetch_sub (&nr_threads, 1);
  return NULL;
}

static void
on_bell (struct ev_loop *ev, ev_async *w, int revents)
{
  struct lookup *l = w->data;

  (void) revents;
  pthread_mutex_lock (&l->mutex); /* the thread is out of it */
  pthread_mutex_unlock (&l->mutex);
  ev_async_stop (ev, w);
  l->done (l->arg, l->error, l->text);
  free_lookup (l);
}

/* Signals are the caller's: none is taken on our thread. */
static int
start_thread (struct lookup *l)
{
  pthread_attr_t attr;
  sigset_t all, old;
  pthread_t thread;
  int err;

  if (atomic_fetch_add (&nr_threads, 1) >= LOOKUPS_MAX) {
    atomic_fetch_sub (&nr_threads, 1);
    return EAGAIN;
  }
  pthread_attr_init (&attr);
  pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&thread, &attr, run, l);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  pthread_attr_destroy (&attr);
  if (err)
    atomic_fetch_sub (&nr_threads, 1);
  return err;
}

int
lookup_start (struct ev_loop *ev, struct nbd_handle *h, const char *host,
              const char *port,
              void (*done) (void *arg, int error, const char *text), void *arg,
              struct lookup **lp)
{
  struct lookup *l = calloc (1, sizeof *l);
  int err = ENOMEM;

  if (l == NULL)
    return ENOMEM;
  l->ev = ev;
  l->h = h;
  l->done = done;
  l->arg = arg;
  l->host = strdup (host);
  l->port = strdup (port);
  pthread_mutex_init (&l->mutex, NULL);
  ev_async_init (&l->bell, on_bell);
  l->bell.data = l;
  if (l->host != NULL && l->port != NULL) {
    ev_async_start (ev, &l->bell);
    err = start_thread (l);
    if (err)
      ev_async_stop (ev, &l->bell);
  }
  if (err) {
    free_lookup (l);
    return err;
  }
  *lp = l;
  return 0;
}

void
lookup_leave (struct lookup *l)
{
  bool over;

  pthread_mutex_lock (&l->mutex);
  l->left = true;
  over = l->over;
  ev_async_stop (l->ev, &l->bell);
  pthread_mutex_unlock (&l->mutex);
  if (over) {
    nbd_close (l->h);
    free_lookup (l);
  }
}

unsigned
lookup_nr (void)
{
  return atomic_load (&nr_threads);
}
