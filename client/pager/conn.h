/* SPDX-License-Identifier: BSD-2-Clause */
/* One connection: a libnbd handle under libev.  It carries requests, and says
 * that it is ready or lost; what follows from that is the link's.  All of it is
 * [loop].
 *
 *   IDLE --conn_start--> CONNECTING --handshake--> READY --the link--> UP
 *    ^    RESOLVING: before | that, of a name      |                   |
 *    |                      | LOOKING: UP but for a read of block 0    |
 *    +------conn_stop----- LOST <--------------------------------------+
 */

#ifndef FARPAGE_CONN_H
#define FARPAGE_CONN_H

#include <ev.h>

#include "request.h"
#include "uri.h"

struct leave;
struct nbd_handle;

enum conn_state {
  CONN_IDLE,
  CONN_RESOLVING, /* a name is being looked up */
  CONN_CONNECTING,
  CONN_READY,   /* the link has not looked at it yet */
  CONN_LOOKING, /* the link reads block 0 */
  CONN_UP,
  CONN_LOST /* conn_stop () is wanted; error says why */
};

struct conn_target {
  const struct uri *uri;
  const char *name; /* of the export */
  const char *tls_certificates, *tls_psk_file, *tls_username;
};

#define CONN_INSTANCE 32u /* hex digits */

/* What a server says of an export, checked. */
struct conn_facts {
  uint64_t size_bytes;  /* whole blocks */
  uint32_t block_bytes; /* the smallest request: a power of two */
  uint32_t request_max; /* bytes, whole pages and blocks */
  bool readonly, flush, fua, trim, zero, multi, status;
  char instance[CONN_INSTANCE + 1]; /* "": it tells none */
};

struct conn {
  unsigned index;
  struct ev_loop *ev;
  struct request_list *sent, *answered; /* the link's */
  struct leave *leave;                  /* the link's */
  enum conn_state state;
  struct nbd_handle *h;  /* NULL: IDLE */
  struct lookup *lookup; /* that has it now, or NULL */
  ev_io io;
  int fd, events;    /* that io has; -1: it is stopped */
  int error;         /* LOST: an errno */
  const char *why;   /* LOST: in words, or NULL: libnbd's */
  char text[160];    /* of libnbd's */
  uint64_t since_us; /* of its state */
  uint64_t bytes;    /* under way */
  unsigned nr;       /* requests under way */
  bool is_tcp;
  bool was_heard; /* since it was started: the server shakes hands */
  /* The link's. */
  bool first;          /* of the open: admit is not asked */
  bool was_up;         /* since it was started */
  uint64_t retry_us;   /* IDLE: connect again then; 0: not */
  uint64_t backoff_us; /* of the last time; 0: it was up */
  struct request look; /* LOOKING: the read */
  uint8_t *block;      /* LOOKING: of 4096 bytes */
};

extern void conn_init (struct conn *c, unsigned index, struct ev_loop *ev,
                       struct leave *leave, struct request_list *sent,
                       struct request_list *answered);
/* Begins to connect; the rest is told by the state. */
extern void conn_start (struct conn *c, const struct conn_target *target,
                        uint64_t now_us);
/* EPROTO, with why: the server says what cannot be. */
extern int conn_facts (struct conn *c, struct conn_facts *facts,
                       const char **why);
/* What the server calls the export, to be freed; NULL: it does not say. */
extern char *conn_own_name (struct conn *c);
/* Hands it to libnbd and puts it into sent; the answer, or why there is none,
 * puts it into answered.  FUA only where the server has it.
 */
extern void conn_send (struct conn *c, struct request *req, bool fua);
/* It is answered, and counted no more. */
extern void conn_forget (struct conn *c, const struct request *req);
/* Something of what was handed to libnbd has not been taken by the socket. */
extern bool conn_is_stuffed (struct conn *c);
/* Bytes that the socket takes before they leave; 0: as the system has it. */
extern void conn_set_unsent (struct conn *c, unsigned bytes);
/* It is lost, for that reason. */
extern void conn_lose (struct conn *c, int error, const char *why);
/* libev waits for what libnbd waits for.  Before the loop waits. */
extern void conn_watch (struct conn *c);
/* Ends it at once: what is sent and not answered is libnbd's no more.  polite:
 * nothing is; tells the server, and gives it until then to close its end.
 */
extern void conn_stop (struct conn *c);
extern void conn_say_bye (struct conn *c);
extern bool conn_is_gone (struct conn *c, int wait_ms);

#endif /* FARPAGE_CONN_H */
