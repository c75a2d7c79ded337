/* SPDX-License-Identifier: BSD-2-Clause */
/* A link: a socket that listens, whom it forwards to, and how slowly. */

#ifndef FARPAGE_RELAY_LINK_H
#define FARPAGE_RELAY_LINK_H

#include "addr.h"
#include "conn.h"

#define LINKS_MAX     64
#define LINK_NAME_MAX 32

/* What the relay is made of. */
struct relay {
  struct ev_loop *loop;
  struct alarms alarms;
  struct link *links[LINKS_MAX];
  unsigned nr_links;
  size_t nr_conns;
  struct conn *over; /* connections to be freed at the end of a turn */
  ev_prepare end_of_turn;
};

/* How bytes travel in one direction.  A change is for those that come later. */
struct travel {
  int64_t delay_ns;
  int64_t jitter_ns; /* 0 to this much is added */
  bool each;         /* the rate is for each connection, not for all */
  struct rate rate;  /* the clock that all share */
  int64_t frozen_ns; /* since then; 0: it runs */
  uint64_t cut_at;   /* of every new connection, or CUT_NEVER */
  enum cut_how cut_how;
  uint64_t in_bytes, out_bytes;
};

struct link {
  struct relay *relay;
  char name[LINK_NAME_MAX];
  struct addr at, target;
  int fd; /* -1: refusing, and the address was given back */
  ev_io accepting;
  ev_timer rest; /* after accept found no descriptor free */
  bool refusing;
  uint64_t seed;
  struct travel travel[NR_WAYS];
  struct conn *conns;
  uint64_t nr_conns, nr_accepted, nr_failed; /* no target */
};

int relay_open (struct relay *r, struct ev_loop *loop);
void relay_close (struct relay *r);

/* Listens.  at->len is of the real address afterwards.  0 or a positive
 * errno.
 */
int link_open (struct relay *r, const char *name, const struct addr *at,
               const struct addr *target, struct link **link);
void link_close (struct link *link);

struct link *link_find (struct relay *r, const char *name);
struct conn *link_conn (struct link *link, uint64_t id);

void link_freeze (struct link *link, enum way way);
void link_thaw (struct link *link, enum way way);

/* Who connects is refused, as where nobody listens. */
void link_refuse (struct link *link);

/* As when it was opened, but for delays and rates.  0 or a positive errno. */
int link_heal (struct link *link);

/* Another rate, for what comes later. */
void link_set_rate (struct link *link, enum way way, uint64_t bytes_per_s,
                    bool each);

/* When seg->len bytes that are read now may go out: begin and end. */
void link_schedule (struct pipe *p, int64_t now, struct seg *seg);

#endif /* FARPAGE_RELAY_LINK_H */
