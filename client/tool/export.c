/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections for the kernel: see export.h.  Called by attach.c and watch.c;
 * calls libnbd, which negotiates and is then closed: it says nothing at that,
 * and a copy of its socket stays.
 *
 *   socket ─▶ libnbd: INFO name ─▶ instance ─▶ GO name~instance.session.n ─▶ fd
 *
 * Addresses are looked up once: when the network is away, so are names, and
 * this may be the machine's swap.
 *
 * Generations are milliseconds since boot: they grow as long as there can be a
 * device, whoever counts.
 */

#include <config.h>

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <linux/nbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* Flags that the kernel's header does not have. */
#define NBD_FLAG_ROTATIONAL        (1 << 4)
#define NBD_FLAG_SEND_WRITE_ZEROES (1 << 6)

#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_EACH_S 5
#define KEEPALIVE_PROBES 3

#define SYN_MS   500 /* between two sockets that ask for a connection */
#define SYNS_MAX 4

static int64_t
now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_BOOTTIME, &ts);
  return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int
left_ms (int64_t until)
{
  int64_t left = until - now_ms ();

  return left > 0 ? (int) left : 0;
}

/* What libnbd says, without its own names in front. */
static int
nbd_failed (struct export *e)
{
  const char *text = nbd_get_error ();
  const char *colon = text != NULL ? strstr (text, ": ") : NULL;
  int err = nbd_get_errno ();

  snprintf (e->why, sizeof e->why, "%s",
            colon != NULL  ? colon + 2
            : text != NULL ? text
                           : "the connection failed");
  return err != 0 ? err : ECONNRESET;
}

static int
failed (struct export *e, int err)
{
  snprintf (e->why, sizeof e->why, "%s", strerror (err));
  return err;
}

/* ---- negotiation ---- */

struct step {
  bool over;
  int error;
};

static int
on_step (void *arg, int *error)
{
  struct step *s = arg;

  s->over = true;
  s->error = *error;
  return 1;
}

/* Until the server has been greeted, or answers. */
static int
wait_for (struct export *e, struct nbd_handle *h, const struct step *step,
          int64_t until)
{
  while (step != NULL ? !step->over : !nbd_aio_is_negotiating (h)) {
    if (nbd_aio_is_dead (h) || nbd_aio_is_closed (h))
      return nbd_failed (e);
    if (left_ms (until) == 0)
      return failed (e, ETIMEDOUT);
    if (nbd_poll (h, left_ms (until)) == -1)
      return nbd_failed (e);
  }
  return 0;
}

/* INFO, or GO, about name. */
static int
ask (struct export *e, struct nbd_handle *h, bool go, const char *name,
     int64_t until)
{
  struct step step = { .over = false };
  const nbd_completion_callback cb = { .callback = on_step,
                                       .user_data = &step };
  int err;

  if (nbd_set_export_name (h, name) == -1 ||
      (go ? nbd_aio_opt_go (h, cb) : nbd_aio_opt_info (h, cb)) == -1)
    return nbd_failed (e);
  err = wait_for (e, h, &step, until);
  if (err == 0 && step.error != 0) {
    snprintf (e->why, sizeof e->why, "the server does not open '%s'", name);
    err = step.error;
  }
  return err;
}

static struct nbd_handle *
new_handle (struct export *e)
{
  struct nbd_handle *h = nbd_create ();

  if (h != NULL && nbd_set_opt_mode (h, true) == 0 &&
      nbd_set_full_info (h, true) == 0 &&
      nbd_set_request_structured_replies (h, false) == 0 &&
      nbd_set_tls (h, LIBNBD_TLS_DISABLE) == 0)
    return h;
  nbd_failed (e);
  nbd_close (h);
  return NULL;
}

/* ---- what the server says ---- */

/* "farpage instance=HEX durability=WORD linger=SECONDS" */
static void
take_description (struct export *e, struct nbd_handle *h)
{
  char *text = nbd_get_export_description (h);
  char instance[EXPORT_HEX + 1], durability[16];
  uint64_t linger;

  if (text != NULL &&
      sscanf (text,
              "farpage instance=%32[0-9a-f] durability=%15s linger=%" SCNu64,
              instance, durability, &linger) == 3 &&
      strlen (instance) == EXPORT_HEX) {
    memcpy (e->instance, instance, sizeof instance);
    e->is_volatile = strcmp (durability, "volatile") == 0;
    e->linger_seconds = linger;
  }
  free (text);
}

/* The name that the server has for it, without what may stand behind. */
static int
take_name (struct export *e, struct nbd_handle *h)
{
  char *asked = nbd_get_export_name (h), *own = NULL;

  if (asked != NULL && *asked == '\0')
    own = nbd_get_canonical_export_name (h);
  if (asked == NULL || strlen (asked) >= sizeof e->name ||
      (own != NULL && strlen (own) >= sizeof e->name)) {
    free (asked);
    free (own);
    return failed (e, ENAMETOOLONG);
  }
  strcpy (e->name, own != NULL ? own : asked);
  free (asked);
  free (own);
  if (e->instance[0] != '\0')
    e->name[strcspn (e->name, "~")] = '\0';
  return 0;
}

static int
take_size (struct export *e, struct nbd_handle *h)
{
  const int64_t size = nbd_get_size (h);

  if (size < 0)
    return nbd_failed (e);
  e->size_bytes = (uint64_t) size;
  e->flags = NBD_FLAG_HAS_FLAGS |
             (nbd_is_read_only (h) == 1 ? NBD_FLAG_READ_ONLY : 0) |
             (nbd_can_flush (h) == 1 ? NBD_FLAG_SEND_FLUSH : 0) |
             (nbd_can_fua (h) == 1 ? NBD_FLAG_SEND_FUA : 0) |
             (nbd_is_rotational (h) == 1 ? NBD_FLAG_ROTATIONAL : 0) |
             (nbd_can_trim (h) == 1 ? NBD_FLAG_SEND_TRIM : 0) |
             (nbd_can_zero (h) == 1 ? NBD_FLAG_SEND_WRITE_ZEROES : 0) |
             (nbd_can_multi_conn (h) == 1 ? NBD_FLAG_CAN_MULTI_CONN : 0);
  return 0;
}

static int
new_session (struct export *e)
{
  uint8_t bytes[EXPORT_HEX / 2];

  if (getrandom (bytes, sizeof bytes, 0) != (ssize_t) sizeof bytes)
    return failed (e, errno);
  for (unsigned i = 0; i < sizeof bytes; i++)
    snprintf (&e->session[2 * i], 3, "%02x", bytes[i]);
  return 0;
}

int
export_look (struct export *e, const char *uri, unsigned wait_ms)
{
  struct nbd_handle *h;
  const int64_t until = now_ms () + wait_ms;
  char *name = NULL;
  int err;

  memset (e, 0, sizeof *e);
  h = new_handle (e);
  if (h == NULL)
    return ENOMEM;
  err =
      nbd_set_uri_allow_transports (h, LIBNBD_ALLOW_TRANSPORT_TCP |
                                           LIBNBD_ALLOW_TRANSPORT_UNIX) == -1 ||
              nbd_set_uri_allow_tls (h, LIBNBD_TLS_DISABLE) == -1 ||
              nbd_aio_connect_uri (h, uri) == -1
          ? nbd_failed (e)
          : wait_for (e, h, NULL, until);
  if (err == 0) {
    e->peer_bytes = sizeof e->peer;
    name = nbd_get_export_name (h);
    if (name == NULL ||
        getpeername (nbd_aio_get_fd (h), (struct sockaddr *) &e->peer,
                     &e->peer_bytes) != 0)
      err = failed (e, errno);
  }
  if (err == 0)
    err = ask (e, h, false, name, until);
  if (err == 0) {
    take_description (e, h);
    err = take_name (e, h);
  }
  if (err == 0)
    err = take_size (e, h);
  if (err == 0)
    err = new_session (e);
  free (name);
  nbd_close (h);
  return err;
}

/* ---- connections ---- */

static int
set (int fd, int level, int name, int value)
{
  return setsockopt (fd, level, name, &value, sizeof value);
}

/* A server that is silent is found while it is waited for as well: what was
 * sent to it may be acknowledged, and its reply lost.
 */
static int
set_alive (int fd, unsigned user_timeout_ms)
{
  const bool soon = user_timeout_ms > 0;

  return set (fd, SOL_SOCKET, SO_KEEPALIVE, 1) != 0 ||
                 set (fd, IPPROTO_TCP, TCP_KEEPIDLE,
                      soon ? 1 : KEEPALIVE_IDLE_S) != 0 ||
                 set (fd, IPPROTO_TCP, TCP_KEEPINTVL,
                      soon ? 1 : KEEPALIVE_EACH_S) != 0 ||
                 set (fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES) != 0 ||
                 set (fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
                      (int) user_timeout_ms) != 0
             ? errno
             : 0;
}

/* A socket that connects, or is connected; or an errno below 0. */
static int
start_connect (const struct export *e, unsigned user_timeout_ms)
{
  const int family = e->peer.ss_family;
  int fd = socket (family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int err = 0;

  if (fd < 0)
    return -errno;
  if (family != AF_UNIX)
    err = set (fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0
              ? errno
              : set_alive (fd, user_timeout_ms);
  if (err == 0 &&
      connect (fd, (const struct sockaddr *) &e->peer, e->peer_bytes) != 0 &&
      errno != EINPROGRESS)
    err = errno;
  if (err == 0)
    return fd;
  close (fd);
  return -err;
}

/* The first of them that is connected, which is taken out, or an errno below 0
 * of the last that failed, or -EAGAIN.
 */
static int
take_connected (struct pollfd *p, unsigned *nr, int ms)
{
  int result = -EAGAIN;

  if (poll (p, *nr, ms) < 1)
    return result;
  for (unsigned i = *nr; i-- > 0 && result < 0;) {
    int err = ETIMEDOUT;
    socklen_t bytes = sizeof err;

    if (p[i].revents == 0)
      continue;
    if (getsockopt (p[i].fd, SOL_SOCKET, SO_ERROR, &err, &bytes) != 0)
      err = errno;
    if (err == 0)
      result = p[i].fd;
    else
      close (p[i].fd);
    result = err == 0 ? result : -err;
    p[i] = p[--*nr];
  }
  return result;
}

/* A socket that is connected, or an errno below 0.  TCP asks again after 1 s,
 * 3 s, 7 s; a network that is there again is found sooner by a new socket.
 */
static int
connect_peer (const struct export *e, int64_t until, unsigned user_timeout_ms)
{
  struct pollfd p[SYNS_MAX];
  unsigned nr = 0;
  int fd, left;

  do {
    if (nr < SYNS_MAX) {
      fd = start_connect (e, user_timeout_ms);
      if (fd < 0)
        break;
      p[nr++] = (struct pollfd){ .fd = fd, .events = POLLOUT };
    }
    left = left_ms (until);
    fd = take_connected (p, &nr, left < SYN_MS ? left : SYN_MS);
  } while (fd == -EAGAIN && left > 0);
  while (nr > 0)
    close (p[--nr].fd);
  return fd == -EAGAIN ? -ETIMEDOUT : fd;
}

static int
dial_one (struct export *e, const char *name, int64_t until,
          unsigned user_timeout_ms, int *fdp)
{
  struct nbd_handle *h;
  int err, fd = connect_peer (e, until, user_timeout_ms);

  if (fd < 0)
    return failed (e, -fd);
  h = new_handle (e);
  if (h == NULL) {
    close (fd);
    return ENOMEM;
  }
  /* which has fd from now on */
  err = nbd_aio_connect_socket (h, fd) == -1 ? nbd_failed (e)
                                             : wait_for (e, h, NULL, until);
  if (err == 0)
    err = ask (e, h, true, name, until);
  if (err == 0)
    err = take_size (e, h);
  if (err == 0) {
    *fdp = fcntl (nbd_aio_get_fd (h), F_DUPFD_CLOEXEC, 3);
    err = *fdp < 0 ? failed (e, errno) : 0;
  }
  nbd_close (h);
  return err;
}

int
export_dial (struct export *e, unsigned nr, unsigned wait_ms,
             unsigned user_timeout_ms, int *fds)
{
  const uint64_t now = (uint64_t) now_ms ();
  char name[EXPORT_TEXT_MAX + 2 * EXPORT_HEX + 32];
  unsigned n = 0;
  int err = 0;

  e->generation = e->generation < now ? now : e->generation + 1;
  if (e->instance[0] != '\0')
    snprintf (name, sizeof name, "%s~%s.%s.%" PRIu64, e->name, e->instance,
              e->session, e->generation);
  else
    snprintf (name, sizeof name, "%s", e->name);
  for (; n < nr && err == 0; n++)
    err = dial_one (e, name, now_ms () + wait_ms, user_timeout_ms, &fds[n]);
  if (err)
    while (--n > 0)
      close (fds[n - 1]);
  return err;
}
