/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the link: link.c, link-send.c, link-reconnect.c, link-watch.c. */

#ifndef FARPAGE_LINK_IMPL_H
#define FARPAGE_LINK_IMPL_H

#include <semaphore.h>

#include "conn.h"
#include "leave.h"
#include "nbd-link.h"

#define LINK_FLUSH_US  50000u /* from a write's answer to the flush, at most */
#define LINK_IDLE_US   1000u  /* the same, if no other write is under way */
#define LINK_TRIMS_MAX 2u     /* under way, so that a flush finds room */
#define LINK_SESSION   32u    /* hex digits */
#define LINK_CONNS     4u     /* where the server allows several */

enum link_state {
  LINK_OPENING,
  LINK_UP,
  LINK_DOWN, /* no connection is up; it tries again */
  LINK_DEAD, /* lost for good, or never open */
  LINK_CLOSING
};

/* A queue for each pool, and one for flushes, which wait for no trim. */
#define QUEUE_FLUSH POOLS
#define QUEUES      (POOLS + 1)

struct link {
  struct link_config config; /* [const] its strings are copies */
  struct uri uri;            /* [const] */
  char *where;               /* [const] the URI, for messages */
  struct loop *loop;         /* [const] */
  struct ev_loop *ev;        /* [const] */
  enum link_state state;
  struct link_rules rules;
  unsigned nr_conns; /* that there shall be */
  struct conn conn[LINK_CONNS_MAX];
  struct leave leave;
  struct window window;
  struct request_list queue[QUEUES], sent, answered, replied, over;
  struct conn_facts facts; /* [const] of the first connect */

  /* Sessions: [const] once open but for the generation. */
  bool fences; /* a reopen ends what is on lost connections */
  char session[LINK_SESSION + 1];
  uint64_t generation;
  char *instance; /* NAME~INSTANCE; or NULL */
  char *name;     /* of the export, as it is asked for next */

  /* Cover. */
  uint64_t seq;             /* of the last write's reply */
  unsigned nr_again;        /* writes of list replied that are sent again */
  unsigned nr_trims;        /* SENT */
  struct request own_flush; /* IDLE, or under way */
  bool flush_again;         /* one more as soon as it is back */

  ev_prepare pass;
  ev_idle more; /* there is more to do than fits into a turn */
  ev_timer cover, retry, watch;
  unsigned seed;

  int open_error;
  bool opened;
  sem_t opened_sem;
  struct link_stat stat;
};

/* link.c */
extern void link_over (struct link *l, struct request *req, int error);
extern void link_fail_all (struct link *l, int error);
extern void link_open_done (struct link *l, int error);

/* link-send.c */
extern void link_enqueue (struct link *l, struct request *req);
extern void link_dispatch (struct link *l);
extern bool link_take_answers (struct link *l);
extern void link_want_flush (struct link *l);
extern void link_cover_init (struct link *l);
extern bool link_covers (const struct link *l);

/* link-reconnect.c */
extern void link_connect (struct link *l, struct conn *c);
extern bool link_look (struct link *l); /* true: something happened */
extern void link_retry_init (struct link *l);
extern struct conn *link_first_up (struct link *l, unsigned *nr_up);
extern void link_lost_for_good (struct link *l, const char *why, int error);

/* link-watch.c */
extern void link_watch_init (struct link *l);
extern bool link_is_late (const struct link *l, const struct request *req);

#endif /* FARPAGE_LINK_IMPL_H */
