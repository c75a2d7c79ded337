/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager's inside: what its files share.
 *
 *   pager.c -- an op, posted --> swap-get.c, swap-put.c -- requests --> link
 *           -- a call, waited for --> swap-object.c, swap-move.c
 *
 * swap.c opens, closes and keeps time; swap-stamp.c has block 0; swap-check.c
 * recounts.  All of it is the loop's but what says otherwise.
 */

#ifndef FARPAGE_SWAP_H
#define FARPAGE_SWAP_H

#include <pthread.h>
#include <stdatomic.h>

#include <ev.h>

#include "farpage.h"
#include "nbd-link.h"
#include "stamp.h"
#include "swap-space.h"
#include "swmeta.h"

#define SWAP_OPS_MAX      4096u /* aio calls under way or in the inbox */
#define SWAP_REQUESTS_MAX 2048u /* puts begin no more than that */
#define SWAP_OBJECTS_MAX  (1u << 20)
#define SWAP_TRIMS_MAX    2u /* under way */
#define SWAP_HAS_MAX      7u /* pages each side that haspage tells of */
#define SWAP_BLOCKS_MIN   64u
#define SWAP_REPORT_US    UINT64_C (20000000)
#define SWAP_NAMES        1024u  /* heads of the hash of names */
#define SWAP_PUT_PAGES    16384u /* heads of the hash of pages being put */
#define SWAP_CHILDREN     4u     /* of one strategy call, under way */
#define SWAP_STEP_PAGES   65536u /* of long calls, in a turn */
#define SWAP_STEP_US      500u   /* or so long */
#define SWAP_STEP_CHUNK   128u   /* pages between two looks at the clock */
#define SWAP_RESERVE_ONCE 1024u  /* pages that a reserve does in one step */

/* Internal flag of a put: a page that is being put is waited for. */
#define OP_WAITS 0x100

/* ---- objects ---- */

struct farpage_object {
  struct farpage_swap *swap; /* [const] */
  struct farpage_object *prev, *next;
  struct farpage_object *next_name;
  char *name;        /* [const] or NULL */
  uint64_t nr_pages; /* [const] */
  struct swmeta *map;
  atomic_uint refs;    /* [atomic]; the last goes on the loop */
  bool listed;         /* found by its name */
  bool mapped;         /* a map has it, or is being made */
  bool dead;           /* copied away, or about to be freed */
  unsigned nr_claimed; /* copies and reserves that wait for, or have it */
  bool moving;         /* one of them is at work, alone on the map */
  unsigned paging;     /* ops that have begun and not ended */
  unsigned nr_parked;  /* ops that wait to begin */
  unsigned nr_puts;    /* puts under way */
};

/* A call of the public face that goes on after its function on the loop has
 * returned.  It lies on the stack of the thread that waits.
 */
struct call {
  struct job job;
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  bool done; /* [mutex] */
  int error; /* of the loop until done */
};

/* Something that waits until objects are quiet. */
struct waiter {
  struct waiter *next;
  bool (*try) (struct waiter *w); /* true: it waits no more */
  void *arg;
  const char *what;
  uint64_t since_us, told_us;
};

/* A call that takes long, a bit of it each turn of the loop. */
struct step {
  struct step *next;
  /* As much as swap_step_take () allows.  True: it is over, and not looked at
   * any more.
   */
  bool (*go) (struct step *step);
  /* Words that it has taken and no entry or put names; NULL: none. */
  void (*held) (const struct step *step, void (*see) (void *arg, uint64_t word),
                void *see_arg);
  void *arg;
};

/* ---- ops ---- */

/* One aio call. */
struct op {
  struct job job;  /* first */
  struct op *next; /* in swap.parked */
  void (*go) (struct op *op);
  struct farpage_object *object;
  uint64_t first;
  unsigned count, req;
  int flags;
  unsigned next_page; /* put: those before have begun */
  unsigned nr_left;   /* pages without a result, and 1 while it is worked on */
  bool begun;         /* it counts in object.paging */
  farpage_page_fn *fn;
  void *arg;
  void *addr[];
};

/* ---- puts ---- */

struct put_page {
  struct put_page *next; /* in the hash */
  struct put *put;
  uint64_t old; /* the word that its entry displaced, or 0 */
  bool dropped; /* the page has no entry any more */
};

/* A run of pages on its way to a run of blocks; its entries name those blocks
 * already.
 */
struct put {
  struct put *next; /* in its bundle */
  struct op *op;
  struct farpage_object *object;
  uint64_t first;
  unsigned nr;
  uint64_t blk;
  bool tried;  /* other blocks have failed */
  bool astray; /* lost with its connection, it may still land */
  bool stayed; /* its deadline came before it left */
  struct put_page page[];
};

/* Puts that leave as one write. */
struct bundle {
  struct request req; /* first */
  struct farpage_swap *swap;
  struct bundle *prev, *next; /* in swap.bundles */
  bool sync, sent;
  struct put *first, **tail; /* by block */
  uint64_t blk;
  unsigned nr;  /* blocks */
  uint8_t *own; /* their content, a cluster of memory; or NULL */
};

/* ---- the pager ---- */

struct trim {
  struct request req; /* first */
  struct farpage_swap *swap;
  uint64_t blk, nr;
  bool busy, lost;
};

struct farpage_swap {
  struct farpage_link *owner; /* [const] */
  struct link *link;          /* [const] */
  struct loop *loop;          /* [const] */
  uint64_t nr_blocks;         /* [const] */
  unsigned cluster;           /* [const] pages of a request */
  struct swzone *zone;        /* [const] */
  struct swap_space *space;
  bool lost; /* the store is another: everything fails */
  bool down; /* no connection */
  enum swap_space_level level;

  struct farpage_object *objects;
  unsigned nr_objects;
  struct farpage_object *named[SWAP_NAMES];
  struct put_page *puts[SWAP_PUT_PAGES];

  atomic_uint nr_ops; /* [atomic] */
  unsigned nr_requests;
  struct op *parked, **parked_tail; /* ops that cannot go on now */
  bool waking, wake_again;
  struct waiter *waiters;

  struct bundle *bundles; /* all */
  struct bundle *open[2]; /* by sync: may take more */
  unsigned nr_async;      /* bundles with the link, of async puts */
  ev_prepare turn;
  ev_idle soon;
  ev_timer hold;

  struct step *steps, **steps_tail; /* long calls at work, in turn */
  uint64_t step_turn_us;            /* in which turn: */
  uint64_t step_until_us, step_left;
  uint64_t step_pages; /* SWAP_STEP_PAGES, but for tests */
  struct step tidy;    /* of the space */
  bool tidying;
  ev_check step_turn;
  ev_idle step_more;

  unsigned alone_pages; /* a wanted page in a longer row goes by itself */
  uint64_t alone_us;    /* when that was worked out */

  struct trim trim[SWAP_TRIMS_MAX];
  struct stamp stamp;
  uint8_t *block; /* of the stamp's I/O */
  struct request beat;
  bool beating;
  ev_timer second, beat_timer;
  struct call *closer; /* waits until trims and beat are over */

  uint64_t nr_got, nr_put, nr_runs, nr_failed, nr_lost_pages;
};

struct farpage_link {
  _Atomic (struct link *) link;
  struct loop *loop;
  struct farpage_options options;   /* [const] */
  atomic_uint async_min, async_max; /* as they were asked for */
  struct farpage_swap *swap;        /* [loop] */
  bool opening;                     /* [loop] one is being opened */
  struct farpage_file *file;        /* [loop] or this one */
  pthread_mutex_t file_lock;        /* of what follows */
  pthread_cond_t file_gone;
  struct farpage_file *open_file; /* that farpage_file_open () finds */
  bool file_closing;
};

/* pager.c */
extern void pager_event (struct farpage_link *l, enum farpage_event event);
/* Log lines of this thread are for l from now on; whose they were. */
extern struct farpage_link *pager_speak (struct farpage_link *l);
/* Whoever opens a pager on it has it for himself, until `opening` is false
 * again.  EBUSY: another has, or a pager is open.  EDEADLK: on the loop's
 * thread.  Blocks: for a turn of the loop.
 */
extern int pager_claim (struct farpage_link *l);
/* On the loop: fn (call) is run there, and call_done () is called by it or
 * later. EDEADLK: on the loop's thread.  Blocks: yes.
 */
extern int call_wait (struct loop *loop, struct call *call,
                      void (*fn) (struct job *job));
extern void call_done (struct call *call, int error);

/* swap.c: ops */
extern bool op_begin (struct op *op);
extern void op_result (struct op *op, unsigned i, enum farpage_result result);
/* Of pages [from, to); AGAIN is BAD of those that the object has not. */
extern void op_results (struct op *op, unsigned from, unsigned to,
                        enum farpage_result result);
extern void op_release (struct op *op);
extern void op_park (struct op *op);
extern void swap_wait (struct farpage_swap *s, struct waiter *w);
/* Something has ended that ops or waiters may wait for. */
extern void swap_wake (struct farpage_swap *s);
/* Is this page of the op one of the object's? */
extern bool op_has (const struct op *op, unsigned i);
extern bool op_in_one_piece (const struct op *op, unsigned from, unsigned nr);
extern void swap_trim (struct farpage_swap *s, bool all);
/* Trims or the beat are over: who closes may wait for that. */
extern void swap_quiet (struct farpage_swap *s);
extern void swap_set_lost (struct farpage_swap *s, const char *why);

/* swap-step.c.  Begin: what may be done at once is; the rest in turns. */
extern void swap_step (struct farpage_swap *s, struct step *step);
/* So many pages, of those wanted, may be dealt with now; 0: in another turn. */
extern uint64_t swap_step_take (struct farpage_swap *s, uint64_t want);
extern void steps_start (struct farpage_swap *s);
extern void steps_stop (struct farpage_swap *s);
/* If the space is behind with what is ripe. */
extern void swap_tidy (struct farpage_swap *s);

/* swap-stamp.c.  Blocks (open): yes, not on the loop's thread. */
extern int swap_stamp_open (struct farpage_swap *s, bool takeover);
extern int swap_stamp_close (struct farpage_swap *s);
extern void swap_stamp_beat (struct farpage_swap *s);

/* swap-object.c */
extern int swap_object_find_or_make (struct farpage_swap *s, const char *name,
                                     uint64_t nr_pages,
                                     struct farpage_object **objectp);
extern void swap_object_unlist (struct farpage_object *o);
/* On the loop: a reference less; call_done () when all is done that follows.
 */
struct release {
  struct call *call;
  struct waiter waiter;
  struct step step;
  struct farpage_object *object;
  uint64_t next; /* pages before it are dropped */
};
extern void swap_object_release (struct release *r);
/* After swap_object_unlist (), when it is to live on. */
extern void swap_object_relist (struct farpage_object *o);
/* The entries of pages [*next, end) go, and what they named, as many as
 * swap_step_take () allows; *next is how far it came.  True: all.
 */
extern bool swap_object_drop (struct farpage_object *o, uint64_t *next,
                              uint64_t end);
extern uint64_t swap_object_word (struct farpage_object *o, uint64_t page);
/* The blocks of nr pages whose first has this word. */
extern void swap_give_words (struct farpage_swap *s, uint64_t word,
                             uint64_t nr);
static inline uint64_t
run_word (const struct swmeta_run *run, uint64_t i)
{
  return swmeta_kind (run->word) == SWMETA_BLOCK ? run->word + i : run->word;
}

/* swap-get.c, swap-put.c: op.go */
extern void get_go (struct op *op);
extern void put_go (struct op *op);
/* The put that this page is in, or NULL. */
extern struct put_page *put_find (const struct farpage_object *o,
                                  uint64_t page);
extern void *put_addr (const struct put_page *p);
/* Its entry was taken out. */
extern void put_drop (struct put_page *p);

/* A bundle is over for this put of it. */
extern void put_ended (struct put *put, int error);
/* It goes to other blocks. */
extern void put_move (struct put *put, uint64_t blk);

/* swap-bundle.c.  ENOMEM: the put did not join. */
extern int bundle_add (struct put *put, bool sync);
extern void bundles_start (struct farpage_swap *s);
extern void bundles_stop (struct farpage_swap *s);
extern const char *bundles_check (const struct farpage_swap *s);

/* swap-move.c */
struct reserve {
  struct call call; /* first */
  struct waiter waiter;
  struct step step;
  struct farpage_object *object;
  uint64_t first, count;
  uint64_t *fresh, *old; /* words of each page: to be, and displaced */
  /* fresh [0, taken) are had, [0, built) are entries, old [0, dropped) gone. */
  uint64_t taken, built, dropped;
  bool small; /* in one step, beside what else is under way */
  int error;
};
extern void reserve_start (struct job *job);
struct copy {
  struct call call; /* first */
  struct waiter waiter;
  struct step step;
  struct release release;
  struct farpage_object *src, *dst;
  uint64_t off;
  bool destroy;
  uint64_t nr, done; /* pages to move */
  bool moved;
  uint64_t next; /* of src: pages before it are dropped */
  int error;
};
extern void copy_start (struct job *job);

/* swap-check.c: NULL, or what is wrong; [loop]. */
extern const char *swap_check (struct farpage_swap *s);

/* pager.c: a copy of how, as an op on the loop.  EAGAIN: SWAP_OPS_MAX, but for
 * those that must come (beyond).  ENOMEM.  Any thread.
 */
extern int pager_post (const struct op *how, void *const addr[], bool beyond);
/* The same on the loop, and at once: results may come before it returns. */
extern int pager_begin (const struct op *how, void *const addr[]);

#endif /* FARPAGE_SWAP_H */
