/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of the swap pager: a server, a link to it by the public face, a
 * pager on it, and what they told.
 */

#ifndef FARPAGE_TEST_RIG_H
#define FARPAGE_TEST_RIG_H

#include "swap.h"
#include "test-net.h"

#define RIG_PAGES 1024u
#define MIB       (UINT64_C (1) << 20)
#define PAGE      FARPAGE_PAGE

struct rig {
  struct server server;
  struct relay relay; /* if it is behind one */
  bool relayed;
  struct farpage_link *link;
  struct farpage_swap *swap;
  uint8_t *mem; /* RIG_PAGES pages, in one piece */
  atomic_uint events[FARPAGE_ROOM + 1];
  char toggle[200]; /* the error filter's file; "" */
  struct {
    struct job job; /* first */
    sem_t begun, end;
  } hold;
};

/* The server, the link, the pager.  False: it cannot run here. */
extern bool rig_start (struct rig *r, enum server_kind kind, uint64_t size,
                       const char *filter,
                       const struct farpage_options *options);
/* nbdkit memory whose requests of this kind ("pread", "pwrite", "trim",
 * "flush") fail while it is told to.
 */
extern void rig_start_failing (struct rig *r, uint64_t size, const char *kind);
extern void rig_fail (struct rig *r, bool on);
/* Behind a relay. */
extern bool rig_start_behind (struct rig *r, enum server_kind kind,
                              uint64_t size);
/* On an export that is there, whose server and relay are the test's. */
extern void rig_open (struct rig *r, const char *uri,
                      const struct farpage_options *options);
/* What rig_end () does before it ends the server. */
extern void rig_close (struct rig *r);
extern bool rig_start_behind_as (struct rig *r, enum server_kind kind,
                                 uint64_t size,
                                 const struct farpage_options *options);
extern void rig_options (struct rig *r, struct farpage_options *options);
/* Checks once more, closes all, ends the server. */
extern void rig_end (struct rig *r);
/* swap_check () on the loop; fails the test. */
extern void rig_check (struct rig *r);
/* The loop stands still from here to there: what is asked for between them is
 * done in one turn, if it is less than LOOP_TURN.
 */
extern void rig_hold (struct rig *r);
extern void rig_let_go (struct rig *r);
/* Long calls do 8 pages a turn. */
extern void rig_small_steps (struct rig *r);
extern void rig_stat (struct rig *r, struct farpage_stat *st);

/* What page `page` of the object with this key has in its version. */
extern void rig_fill (void *to, uint64_t key, uint64_t page, uint64_t version);
extern bool rig_is (const void *from, uint64_t key, uint64_t page,
                    uint64_t version);
extern struct farpage_object *rig_make (struct rig *r, const char *name,
                                        uint64_t nr_pages);
/* Put pages [first, first + n), filled; the result of all of them. */
extern enum farpage_result rig_put (struct rig *r, struct farpage_object *o,
                                    uint64_t key, uint64_t first, unsigned n,
                                    uint64_t version);
/* Into the last page of mem. */
extern enum farpage_result rig_get (struct rig *r, struct farpage_object *o,
                                    uint64_t page);
/* It is there, and what page `as' with this key has in this version. */
extern void rig_assert_has (struct rig *r, struct farpage_object *o,
                            uint64_t page, uint64_t key, uint64_t as,
                            uint64_t version);
/* Addresses of n pages of mem from i on, each stride pages behind the other. */
extern void rig_addrs (struct rig *r, void *addr[], unsigned i, unsigned n,
                       unsigned stride);

/* An aio call's results; wait for all of them. */
struct wait {
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  uint64_t first;
  unsigned count, left;
  enum farpage_result result[FARPAGE_COUNT_MAX];
  uint64_t us[FARPAGE_COUNT_MAX]; /* when */
};
extern void wait_init (struct wait *w, uint64_t first, unsigned count);
extern farpage_page_fn wait_page;
extern void wait_all (struct wait *w);

#endif /* FARPAGE_TEST_RIG_H */
