/* SPDX-License-Identifier: BSD-2-Clause */
/* The link to one export: connections, what waits and what is under way on
 * them, and what becomes of it when they break.  link.c has the rules.
 *
 * All but link_open () and link_close () is [loop].
 */

#ifndef FARPAGE_LINK_H
#define FARPAGE_LINK_H

#include "loop.h"
#include "window.h"

struct link;

#define LINK_CONNS_MAX 16u

enum link_event {
  LINK_CONNECTED,    /* again */
  LINK_DISCONNECTED, /* all connections are lost; it tries again */
  LINK_LOST /* what the server has now is not what it had: everything fails */
};

struct link_config {
  const char *uri;
  unsigned connections;   /* at most; 0: 4 where the server offers several */
  uint64_t deadline_us;   /* for a request, and for the first connect */
  uint64_t report_us;     /* a request that takes so long is told, again and
                           * again */
  uint32_t cluster_bytes; /* cut to the server's largest request */
  bool is_volatile;       /* a write is done at its reply, no flush is sent */
  const char *tls_certificates, *tls_psk_file, *tls_username; /* or NULL */
  struct ev_loop *own; /* the caller's loop; NULL: a thread */
  /* Is this still the same store?  By the rules: block is the first 4096 bytes
   * of the export, read on a new connection before anything else is sent.  An
   * errno: it is not; with no other connection up, LOST.
   */
  int (*admit) (void *arg, const uint8_t *block);
  void (*event) (void *arg, enum link_event event); /* may be NULL */
  void *arg;
};

/* What its user may ask for when it breaks; all false after link_open (). */
struct link_rules {
  bool asks;   /* admit is asked; the export has 4096 bytes */
  bool strict; /* writes have no other place to go */
  bool grows;  /* link_size_bytes () follows the server's, and is [loop] */
};

struct link_stat {
  unsigned nr_conns, nr_conns_up;
  uint64_t nr_reconnects, nr_replayed, nr_elsewhere, nr_reports, nr_flushes;
  /* Requests answered well. */
  uint64_t nr_read, nr_written, nr_trimmed, nr_status;
  uint64_t bytes_read, bytes_written;
  uint64_t nr_errors;
  struct {
    unsigned nr, nr_queued, nr_max, nr_peak;
    uint64_t bytes, limit_bytes, rate, rt_us; /* rate: bytes a second */
  } pool[POOLS];
};

/* Connects and looks at the export.  EINVAL: uri or config (told in the log);
 * EPROTO: the server says what cannot be; ECONNREFUSED, ETIMEDOUT, EACCES and
 * what else a socket says.  Told in the log.  Blocks: at most deadline_us.
 */
extern int link_open (const struct link_config *config, struct link **lp);
/* No request is with it.  With a loop of the caller's: on its thread, or while
 * it runs on another.  Blocks: until the connections are closed, at most 1 s.
 */
extern void link_close (struct link *l);

extern struct loop *link_loop (struct link *l);
extern uint64_t link_size_bytes (const struct link *l);
/* What offsets and lengths are multiples of: 1 to 65536, a power of two. */
extern uint32_t link_block_bytes (const struct link *l);
extern uint32_t link_request_max (const struct link *l); /* bytes */
extern bool link_is_readonly (const struct link *l);
extern bool link_can_trim (const struct link *l);
extern bool link_can_zero (const struct link *l);
extern bool link_can_status (const struct link *l);
/* OK of a write means durable. */
extern bool link_is_durable (const struct link *l);
/* "NAME~INSTANCE" where the server tells one, else NULL. */
extern const char *link_instance (const struct link *l);

extern void link_set_rules (struct link *l, struct link_rules rules);
/* done is called later, never from here. */
extern void link_submit (struct link *l, struct request *req);
/* A read that nobody waited for is wanted now: it moves to POOL_DEMAND if it
 * has not left.
 */
extern void link_hurry (struct link *l, struct request *req);
/* The same of the read that has the byte at off_bytes, if there is one. */
extern void link_hurry_at (struct link *l, uint64_t off_bytes);
extern void link_set_range (struct link *l, enum request_pool pool,
                            unsigned min, unsigned max);
extern void link_stat (struct link *l, struct link_stat *st);
/* NULL, or what is wrong with lists, states and counts. */
extern const char *link_check (struct link *l);

#endif /* FARPAGE_LINK_H */
