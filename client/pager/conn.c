/* SPDX-License-Identifier: BSD-2-Clause */
/* One connection: a libnbd handle, its socket under libev.
 *
 *   link ─ conn_send ─▶ nbd_aio_* ─▶ socket        list sent
 *   on_io ─ nbd_aio_notify_* ─▶ on_answer ────────▶ list answered ─▶ link
 *
 * Called by the link alone (link-*.c), on the loop.
 *
 * I1 A request that libnbd has is in sent or answered, and its conn is this.
 * I2 on_part, on_extents and on_answer run inside of libnbd, with its lock
 * held: they note what has come, and the last moves the request from one list
 * to the other; they call nobody. I3 After each call of libnbd that may have
 * moved its state, look () compares it with ours: an end is seen in the turn in
 * which it happens. I4 io waits for what nbd_aio_get_direction () says, on
 * nbd_aio_get_fd (); it is set anew each time while CONNECTING, when libnbd may
 * close a socket and open another of the same number.
 *
 * An answer with ENOTCONN is none: libnbd makes it when it gives up.  After
 * nbd_close () no callback comes and no memory of a request is looked at.
 *
 * I5 While RESOLVING the handle is the lookup's (lookup.c), and not touched.
 *
 * Not done: to connect again, or to know what a request means.
 */

#include <config.h>

#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <libnbd.h>

#include "leave.h"
#include "lookup.h"

#define PAGE         4096u
#define SIZE_MAX_NBD (UINT64_C (1) << 62)
#define REQUEST_MOST (32u << 20) /* where the server says nothing */
#define BLOCK_MOST   (64u << 10)

void
conn_init (struct conn *c, unsigned index, struct ev_loop *ev,
           struct leave *leave, struct request_list *sent,
           struct request_list *answered)
{
  *c = (struct conn){ .index = index,
                      .ev = ev,
                      .leave = leave,
                      .sent = sent,
                      .answered = answered,
                      .fd = -1 };
}

void
conn_lose (struct conn *c, int error, const char *why)
{
  if (c->state == CONN_LOST || c->state == CONN_IDLE)
    return;
  c->state = CONN_LOST;
  c->error = error;
  c->why = why;
}

/* What libnbd's last error on this thread was. */
static void
lose_libnbd (struct conn *c)
{
  int error = nbd_get_errno ();
  const char *text = nbd_get_error ();

  if (c->state == CONN_LOST || c->state == CONN_IDLE)
    return;
  snprintf (c->text, sizeof c->text, "%s", text != NULL ? text : "closed");
  conn_lose (c, error > 0 ? error : EPROTO, c->text);
}

/* [I3] failed: the call said so. */
static void
look (struct conn *c, bool failed)
{
  if (c->h == NULL || c->state == CONN_LOST)
    return;
  if (nbd_aio_is_dead (c->h) || (failed && c->state == CONN_CONNECTING))
    lose_libnbd (c);
  else if (nbd_aio_is_closed (c->h))
    conn_lose (c, ECONNRESET, "the server closed it");
  else if (c->state == CONN_CONNECTING && nbd_aio_is_ready (c->h))
    c->state = CONN_READY;
}

static void
on_io (struct ev_loop *ev, ev_io *w, int revents)
{
  struct conn *c = w->data;
  int err;

  (void) ev;
  c->was_heard |= (c->events & EV_READ) != 0; /* a connect waits to write */
  if ((revents & EV_READ) != 0)
    err = nbd_aio_notify_read (c->h);
  else
    err = nbd_aio_notify_write (c->h);
  look (c, err == -1);
}

static void
unwatch (struct conn *c)
{
  if (c->fd != -1)
    ev_io_stop (c->ev, &c->io);
  c->fd = -1;
  c->events = 0;
}

void
conn_watch (struct conn *c)
{
  unsigned direction;
  int fd, events = 0;

  if (c->h == NULL || c->state == CONN_LOST || c->state == CONN_RESOLVING) {
    unwatch (c);
    return;
  }
  direction = nbd_aio_get_direction (c->h);
  fd = direction != 0 ? nbd_aio_get_fd (c->h) : -1;
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0)
    events |= EV_READ;
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0)
    events |= EV_WRITE;
  if (fd == c->fd && events == c->events && c->state != CONN_CONNECTING)
    return;
  unwatch (c);
  if (fd == -1)
    return;
  c->fd = fd;
  c->events = events;
  ev_io_init (&c->io, on_io, fd, events);
  c->io.data = c;
  ev_io_start (c->ev, &c->io);
}

/* ---- begin and end ---- */

static int
configure (struct conn *c, const struct conn_target *t)
{
  struct nbd_handle *h = c->h;
  const char *user = t->uri->user != NULL ? t->uri->user : t->tls_username;

  if (nbd_set_export_name (h, t->name) == -1 ||
      nbd_set_full_info (h, true) == -1 ||
      nbd_set_pread_initialize (h, false) == -1 ||
      nbd_add_meta_context (h, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_set_tls (h, t->uri->tls ? LIBNBD_TLS_REQUIRE : LIBNBD_TLS_DISABLE) ==
          -1)
    return -1;
  if (!t->uri->tls)
    return 0;
  if (t->tls_certificates != NULL &&
      nbd_set_tls_certificates (h, t->tls_certificates) == -1)
    return -1;
  if (t->tls_psk_file != NULL &&
      nbd_set_tls_psk_file (h, t->tls_psk_file) == -1)
    return -1;
  return user != NULL ? nbd_set_tls_username (h, user) : 0;
}

static bool
is_address (const char *host)
{
  uint8_t address[sizeof (struct in6_addr)];

  return inet_pton (AF_INET, host, address) == 1 ||
         inet_pton (AF_INET6, host, address) == 1;
}

static uint64_t
clock_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
on_lookup (void *arg, int error, const char *text)
{
  struct conn *c = arg;

  c->lookup = NULL;
  if (c->state != CONN_RESOLVING)
    return;
  c->state = CONN_CONNECTING;
  c->since_us = clock_us ();
  if (error != 0) {
    snprintf (c->text, sizeof c->text, "%s", text);
    conn_lose (c, error, c->text);
  }
  look (c, false);
}

static void
start_lookup (struct conn *c, const struct uri *uri)
{
  int err;

  c->state = CONN_RESOLVING;
  err = lookup_start (c->ev, c->h, uri->host, uri->port, on_lookup, c,
                      &c->lookup);
  if (err)
    conn_lose (c, err, NULL);
}

void
conn_start (struct conn *c, const struct conn_target *t, uint64_t now_us)
{
  int err;

  c->state = CONN_CONNECTING;
  c->since_us = now_us;
  c->bytes = 0;
  c->nr = 0;
  c->was_up = c->was_heard = false;
  c->is_tcp = t->uri->socket == NULL;
  c->h = nbd_create ();
  if (c->h == NULL || configure (c, t) == -1) {
    lose_libnbd (c);
    return;
  }
  if (c->is_tcp && !is_address (t->uri->host)) {
    start_lookup (c, t->uri);
    return;
  }
  if (c->is_tcp)
    err = nbd_aio_connect_tcp (c->h, t->uri->host, t->uri->port);
  else
    err = nbd_aio_connect_unix (c->h, t->uri->socket);
  look (c, err == -1);
}

void
conn_stop (struct conn *c)
{
  unwatch (c);
  if (c->lookup != NULL) {
    lookup_leave (c->lookup); /* and it closes the handle */
  } else {
    if (c->nr > 0 && !nbd_aio_is_dead (c->h) && !nbd_aio_is_closed (c->h))
      leave_take (c->leave, nbd_aio_get_fd (c->h));
    nbd_close (c->h);
  }
  c->lookup = NULL;
  c->h = NULL;
  c->state = CONN_IDLE;
  c->bytes = 0;
  c->nr = 0;
}

static bool
is_talking (const struct conn *c)
{
  return c->h != NULL && c->state != CONN_RESOLVING &&
         c->state != CONN_CONNECTING && c->state != CONN_LOST;
}

void
conn_say_bye (struct conn *c)
{
  if (!is_talking (c))
    return;
  nbd_aio_disconnect (c->h, 0);
}

bool
conn_is_gone (struct conn *c, int wait_ms)
{
  if (!is_talking (c))
    return true;
  if (nbd_aio_is_closed (c->h) || nbd_aio_is_dead (c->h))
    return true;
  return nbd_poll (c->h, wait_ms) == -1 || nbd_aio_is_closed (c->h) ||
         nbd_aio_is_dead (c->h);
}

/* ---- what the server says ---- */

static const char *
block_sizes (struct conn *c, struct conn_facts *f)
{
  int64_t least = nbd_get_block_size (c->h, LIBNBD_SIZE_MINIMUM);
  int64_t preferred = nbd_get_block_size (c->h, LIBNBD_SIZE_PREFERRED);
  int64_t most = nbd_get_block_size (c->h, LIBNBD_SIZE_MAXIMUM);

  if (least < 0 || preferred < 0 || most < 0)
    return "its block sizes are not numbers";
  if (least > BLOCK_MOST || (least & (least - 1)) != 0)
    return "its smallest block is not a power of two up to 65536";
  if (preferred != 0 && preferred < least)
    return "its preferred block is less than its smallest";
  f->block_bytes = least != 0 ? (uint32_t) least : 1;
  least = f->block_bytes > PAGE ? f->block_bytes : PAGE;
  if (most != 0 && most < least)
    return "its largest request is less than 4096, or than a block";
  if (most == 0 || most > REQUEST_MOST)
    most = REQUEST_MOST;
  f->request_max = (uint32_t) (most / least * least);
  return NULL;
}

/* "farpage instance=HEX ...": what our server says of an export. */
static void
find_instance (struct conn *c, char instance[CONN_INSTANCE + 1])
{
  static const char head[] = "farpage instance=";
  char *text = nbd_get_export_description (c->h);
  size_t len = sizeof head - 1;

  instance[0] = '\0';
  if (text != NULL && strncmp (text, head, len) == 0 &&
      strspn (text + len, "0123456789abcdef") == CONN_INSTANCE) {
    memcpy (instance, text + len, CONN_INSTANCE);
    instance[CONN_INSTANCE] = '\0';
  }
  free (text);
}

int
conn_facts (struct conn *c, struct conn_facts *facts, const char **why)
{
  struct conn_facts f = { 0 };
  int64_t size = nbd_get_size (c->h);

  *why = block_sizes (c, &f);
  if (*why == NULL && (size < 0 || (uint64_t) size > SIZE_MAX_NBD))
    *why = "its size is not one";
  if (*why == NULL && (uint64_t) size % f.block_bytes != 0)
    *why = "its size is not in whole blocks";
  if (*why != NULL)
    return EPROTO;
  f.size_bytes = (uint64_t) size;
  f.readonly = nbd_is_read_only (c->h) != 0;
  f.flush = nbd_can_flush (c->h) == 1;
  f.fua = nbd_can_fua (c->h) == 1;
  f.trim = nbd_can_trim (c->h) == 1;
  f.zero = nbd_can_zero (c->h) == 1;
  f.multi = nbd_can_multi_conn (c->h) == 1;
  f.status = nbd_can_meta_context (c->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  find_instance (c, f.instance);
  *facts = f;
  return 0;
}

char *
conn_own_name (struct conn *c)
{
  return nbd_get_canonical_export_name (c->h);
}

/* ---- requests ---- */

/* A server can say that a read is done and have sent no byte of it, or not all,
 * or some of them twice; libnbd does not count.  [I2]
 */
static int
on_part (void *arg, const void *data, size_t bytes, uint64_t off,
         unsigned status, int *error)
{
  struct request *req = arg;
  uint64_t from = off - req->off_bytes;

  (void) data;
  if (status == LIBNBD_READ_ERROR || bytes == 0)
    return 0;
  if (from <= req->len_bytes && bytes <= req->len_bytes - from &&
      request_add_part (req, (uint32_t) from, (uint32_t) (from + bytes)))
    return 0;
  *error = EIO;
  return -1;
}

/* [I2] */
static int
on_answer (void *arg, int *error)
{
  struct request *req = arg;
  struct conn *c = req->conn;
  bool lies = req->kind == REQUEST_READ && !request_is_whole (req);

  req->error = *error == 0 && lies ? EIO : *error;
  req->answered = true;
  request_remove (c->sent, req);
  request_append (c->answered, req);
  return 1;
}

/* A row of lengths and flags, nothing of which is believed: after what cannot
 * be, or what is beyond what was asked, nothing is looked at.  [I2]
 */
static int
on_extents (void *arg, const char *context, uint64_t off, uint32_t *entries,
            size_t nr, int *error)
{
  struct request *req = arg;
  struct request_extents *x = req->extents;
  uint32_t left = req->len_bytes;

  (void) error;
  x->nr = 0;
  if (off != req->off_bytes ||
      strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  for (size_t i = 0; i + 1 < nr && left > 0 && x->nr < REQUEST_EXTENTS;
       i += 2) {
    uint32_t bytes = entries[i] < left ? entries[i] : left;

    if (bytes == 0)
      break;
    x->extent[x->nr].bytes = bytes;
    x->extent[x->nr++].zeros = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0;
    left -= bytes;
  }
  return 0;
}

static int64_t
hand_over (struct conn *c, struct request *req, bool fua)
{
  const nbd_completion_callback done = { .callback = on_answer,
                                         .user_data = req };
  const nbd_chunk_callback part = { .callback = on_part, .user_data = req };
  const nbd_extent_callback extents = { .callback = on_extents,
                                        .user_data = req };
  uint32_t flags = fua ? LIBNBD_CMD_FLAG_FUA : 0;

  switch (req->kind) {
  case REQUEST_READ:
    req->nr_parts = 0;
    return nbd_aio_pread_structured (c->h, req->data, req->len_bytes,
                                     req->off_bytes, part, done, 0);
  case REQUEST_WRITE:
    return nbd_aio_pwrite (c->h, req->data, req->len_bytes, req->off_bytes,
                           done, flags);
  case REQUEST_TRIM:
    return nbd_aio_trim (c->h, req->len_bytes, req->off_bytes, done, flags);
  case REQUEST_ZERO:
    return nbd_aio_zero (c->h, req->len_bytes, req->off_bytes, done, flags);
  case REQUEST_STATUS:
    req->extents->nr = 0;
    return nbd_aio_block_status (c->h, req->len_bytes, req->off_bytes, extents,
                                 done, 0);
  default:
    return nbd_aio_flush (c->h, done, 0);
  }
}

void
conn_send (struct conn *c, struct request *req, bool fua)
{
  int64_t cookie;

  req->state = REQUEST_SENT;
  req->conn = c;
  req->answered = false;
  req->left = true;
  request_append (c->sent, req);
  c->bytes += request_carries (req);
  c->nr++;
  cookie = hand_over (c, req, fua);
  if (cookie == -1 && !req->answered) {
    int error = nbd_get_errno ();

    if (nbd_aio_is_dead (c->h) || nbd_aio_is_closed (c->h) || error == 0)
      error = ENOTCONN;
    on_answer (req, &error);
  }
  look (c, false);
}

void
conn_forget (struct conn *c, const struct request *req)
{
  c->bytes -= request_carries (req);
  c->nr--;
}

bool
conn_is_stuffed (struct conn *c)
{
  return (nbd_aio_get_direction (c->h) & LIBNBD_AIO_DIRECTION_WRITE) != 0;
}

void
conn_set_unsent (struct conn *c, unsigned bytes)
{
  int fd = nbd_aio_get_fd (c->h);
  int value = (int) bytes;

  if (fd == -1)
    return;
  if (!c->is_tcp)
    value /= 2; /* the kernel doubles it */
  if (c->is_tcp)
    setsockopt (fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof value);
  else if (bytes > 0)
    setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
}
