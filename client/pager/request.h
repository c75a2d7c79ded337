/* SPDX-License-Identifier: BSD-2-Clause */
/* A request to the server, as the pager makes it and the link carries it out.
 * All of it is the loop's.
 *
 *   submit --> QUEUED --room in its pool--> SENT --> (a write:) REPLIED -->
 * done ^                           |             |
 *                +--- connection lost -------+-------------+   link.c says when
 */

#ifndef FARPAGE_REQUEST_H
#define FARPAGE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "bdp.h"

enum request_kind {
  REQUEST_READ,
  REQUEST_WRITE,
  REQUEST_TRIM,
  REQUEST_ZERO,  /* WRITE_ZEROES, holes allowed */
  REQUEST_FLUSH, /* done: every write that was replied to before is durable */
  REQUEST_STATUS /* what is a hole? up to REQUEST_STATUS_MAX bytes */
};

#define REQUEST_STATUS_MAX UINT32_C (0xffff0000) /* in blocks of 64 KiB */
#define REQUEST_EXTENTS    256u                  /* of an answer, at most */
#define REQUEST_PARTS      8u /* of a read's answer, that do not touch */

/* The answer to REQUEST_STATUS: rows of bytes from off_bytes on, none empty, in
 * all at most len_bytes, maybe less.  None: the server said what cannot be.
 */
struct request_extents {
  unsigned nr;
  struct {
    uint32_t bytes;
    bool zeros; /* reads as zeros; else nobody knows */
  } extent[REQUEST_EXTENTS];
};

/* The pool whose room it takes; each has its own queue, in this order. */
enum request_pool {
  POOL_DEMAND, /* somebody waits for this page */
  POOL_WSYNC,  /* and for this write */
  POOL_AHEAD,
  POOL_WASYNC,
  POOL_ADMIN, /* flushes, trims, the stamp */
  POOLS
};

enum request_state {
  REQUEST_IDLE,    /* the submitter's */
  REQUEST_QUEUED,  /* waits for room, or for a connection */
  REQUEST_SENT,    /* libnbd has it */
  REQUEST_REPLIED, /* a write: answered, no flush covers it yet */
  REQUEST_OVER     /* done () is about to be called */
};

struct conn;

struct request {
  /* What is wanted; set before link_submit (). */
  enum request_kind kind;
  enum request_pool pool;
  uint64_t off_bytes; /* a multiple of link_block_bytes () */
  uint32_t len_bytes; /* the same, and at most link_request_max () */
  uint8_t *data;      /* of a read or write, in one piece */
  struct request_extents *extents; /* of a status */
  bool fua;
  /* It is over: error is 0 or an errno, and the request the submitter's. */
  void (*done) (struct request *req);
  /* A write or trim that was SENT on a connection that is lost: its server may
   * still do it, so it must go to another place.  0: off_bytes is that place.
   * An errno: it ends with that.  NULL: it ends with EIO.
   */
  int (*elsewhere) (struct request *req);
  void *arg;
  int error;

  /* The link's. */
  enum request_state state;
  struct request *prev, *next; /* in the list of its state */
  struct bdp_mark mark;
  uint64_t since_us;   /* when it was submitted */
  uint64_t told_us;    /* when a report last named it */
  uint64_t replied_us; /* REPLIED: when */
  uint64_t seq;        /* REPLIED: of its reply; FLUSH: when it was sent */
  bool again;          /* not REPLIED: it was, and is sent once more */
  bool answered;       /* SENT: error is what the server said */
  /* SENT: of a read, the bytes that have come, from off_bytes on. */
  struct request_part {
    uint32_t from, end;
  } part[REQUEST_PARTS];
  unsigned nr_parts;
  bool left;              /* for this place: it may still be done there, late,
                           * also when it is over */
  struct conn *conn;      /* SENT: on which */
  enum request_pool took; /* SENT: whose room it has */
};

/* Requests of one state, oldest first. */
struct request_list {
  struct request *first, *last;
  unsigned nr;
  uint64_t bytes;
};

extern void request_append (struct request_list *list, struct request *req);
extern void request_remove (struct request_list *list, struct request *req);
/* All of from goes before what is in list, in its order. */
extern void request_prepend_all (struct request_list *list,
                                 struct request_list *from);
/* Bytes that go over the network. */
extern uint32_t request_carries (const struct request *req);
/* It changes content: write or zero. */
extern bool request_writes (const struct request *req);
/* Bytes [from, end) of a read have come.  False: some of them had before, or
 * it comes in too many pieces.
 */
extern bool request_add_part (struct request *req, uint32_t from, uint32_t end);
extern bool request_is_whole (const struct request *req);
extern const char *request_kind_name (enum request_kind kind);
/* NULL, or what is wrong with the list, all of which is in this state. */
extern const char *request_list_check (const struct request_list *list,
                                       enum request_state state);

#endif /* FARPAGE_REQUEST_H */
