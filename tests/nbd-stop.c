/* SPDX-License-Identifier: BSD-2-Clause */
/* A client that keeps requests in flight until its server goes away, for the
 * tests of `farpage stop` and of SIGTERM.
 *
 *   nbd-stop SOCKET NAME CONNECTIONS DEPTH
 *
 * Prints "started" when every request of the first round is out; at the end
 *
 *   replied=N errors=N (first: ERRNO) lost=N
 *
 * where lost counts requests that never got a reply: what a client sends
 * again to the next server.  Errors are replies that say so.  Status 0 if
 * every connection ended; 1 after 40 s without that.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#define CONNS_MAX 8
#define DEPTH_MAX 64
#define BYTES     4096
#define WAIT_S    40

struct slot {
  struct nbd_handle *nbd;
  char buf[BYTES];
  bool out; /* no reply so far */
};

static struct slot slots[CONNS_MAX][DEPTH_MAX];
static struct nbd_handle *conns[CONNS_MAX];
static unsigned long replied, errors, started;
static int first_error;

static void submit (struct slot *slot);

/* A reply, or the end of the connection: for that libnbd says ENOTCONN, which
 * no server can, since NBD has no such error.
 */
static int
done (void *opaque, int *error)
{
  struct slot *slot = opaque;

  if (*error == 0) {
    replied++;
    slot->out = false;
  } else if (*error != ENOTCONN) {
    errors++;
    slot->out = false;
    if (first_error == 0)
      first_error = *error;
  }
  return 1;
}

static void
submit (struct slot *slot)
{
  nbd_completion_callback callback = { .callback = done, .user_data = slot };
  unsigned long n = started++;
  uint64_t off = n % 1024 * BYTES;
  int64_t cookie;

  if (n % 2 == 0)
    cookie = nbd_aio_pwrite (slot->nbd, slot->buf, BYTES, off, callback, 0);
  else
    cookie = nbd_aio_pread (slot->nbd, slot->buf, BYTES, off, callback, 0);
  slot->out = cookie != -1;
}

static bool
alive (struct nbd_handle *nbd)
{
  return !nbd_aio_is_dead (nbd) && !nbd_aio_is_closed (nbd);
}

/* One turn of a connection: move bytes, then send what has room again. */
static void
turn (unsigned i, unsigned depth, int revents)
{
  unsigned dir = nbd_aio_get_direction (conns[i]);

  if ((revents & (POLLIN | POLLHUP | POLLERR)) &&
      (dir & LIBNBD_AIO_DIRECTION_READ))
    nbd_aio_notify_read (conns[i]);
  else if ((revents & POLLOUT) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
    nbd_aio_notify_write (conns[i]);
  for (unsigned k = 0; k < depth && alive (conns[i]); k++)
    if (!slots[i][k].out)
      submit (&slots[i][k]);
}

/* false: time is over. */
static bool
run (unsigned nr, unsigned depth)
{
  time_t end = time (NULL) + WAIT_S;

  for (;;) {
    struct pollfd p[CONNS_MAX];
    unsigned nr_alive = 0;

    for (unsigned i = 0; i < nr; i++) {
      bool on = alive (conns[i]);
      unsigned dir = on ? nbd_aio_get_direction (conns[i]) : 0;

      p[i] = (struct pollfd){ .fd = on ? nbd_aio_get_fd (conns[i]) : -1 };
      p[i].events = (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                    (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
      nr_alive += on;
    }
    if (nr_alive == 0)
      return true;
    if (time (NULL) >= end)
      return false;
    poll (p, nr, 1000);
    for (unsigned i = 0; i < nr; i++)
      if (p[i].revents != 0)
        turn (i, depth, p[i].revents);
  }
}

static struct nbd_handle *
dial (const char *path, const char *name)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_set_export_name (nbd, name) == -1 ||
      nbd_connect_unix (nbd, path) == -1) {
    fprintf (stderr, "nbd-stop: %s\n", nbd_get_error ());
    exit (1);
  }
  return nbd;
}

int
main (int argc, char **argv)
{
  unsigned nr, depth;
  unsigned long lost = 0;
  bool ended;

  if (argc != 5)
    return 2;
  nr = (unsigned) atoi (argv[3]);
  depth = (unsigned) atoi (argv[4]);
  if (nr > CONNS_MAX || depth > DEPTH_MAX)
    return 2;
  for (unsigned i = 0; i < nr; i++) {
    conns[i] = dial (argv[1], argv[2]);
    for (unsigned k = 0; k < depth; k++) {
      slots[i][k].nbd = conns[i];
      submit (&slots[i][k]);
    }
  }
  printf ("started\n");
  fflush (stdout);
  ended = run (nr, depth);
  for (unsigned i = 0; i < nr; i++) {
    for (unsigned k = 0; k < depth; k++)
      lost += slots[i][k].out;
    nbd_close (conns[i]);
  }
  printf ("replied=%lu errors=%lu (first: %s) lost=%lu\n", replied, errors,
          first_error != 0 ? strerrorname_np (first_error) : "none", lost);
  return ended ? 0 : 1;
}
