/* SPDX-License-Identifier: BSD-2-Clause */
/* A map's inside: memory whose pages are those of an object.  What its files
 * share.
 *
 *   a touch --fault--> map-fault.c --get--> the object --> map_got ()
 *                        |  trend.c: what comes next          |
 *                        v                                    v
 *                      map-frame.c: which pages are in memory, and how
 *                        ^                                    |
 *   map-out.c: hides what is old, puts what is dirty, drops what is clean
 *
 * A page that is in memory has a frame; there are as many as the budget has
 * pages, and all else of a map is made when it is opened.
 *
 *               begin                arrived, nobody waits          touched
 *     FREE ───────────▶ FILLING ───────────────────────▶ READY ───────────┐
 *      ▲ ▲                 │ arrived, somebody waits                      │
 *      │ └── not there ────┤                                              ▼
 *      │                   └─────────────────────────────────────────▶ ACTIVE
 *      │                                                     touched ▲  │ old
 *      │  dropped            put                 ┌───────────────────┤  ▼
 *      └─────────── CLEAN ◀────── WRITING ◀── DIRTY ◀────────────── hidden
 *                     ▲                                  not written │
 *                     └──────────────────────────────────────────────┘
 *
 * FILLING, READY, CLEAN, DIRTY and WRITING pages are hidden (uffd.h): the next
 * touch is a fault, and makes them ACTIVE.  So what is hidden and touched again
 * soon stays, at the cost of a fault, and what is not goes, in the order in
 * which it was hidden: first in, first out with a second chance.
 *
 * All of it is the loop's, but open and close.
 */

#ifndef FARPAGE_MAP_H
#define FARPAGE_MAP_H

#include <ev.h>

#include "farpage.h"
#include "file.h"
#include "loop.h"
#include "swap.h"
#include "trend.h"
#include "uffd.h"

#define MAP_FRAMES_MIN  64u
#define MAP_FRAMES_MAX  (UINT64_C (1) << 28)
#define MAP_BUDGET      (UINT64_C (64) << 20) /* bytes, where none is said */
#define MAP_PUTS        256u                  /* under way */
#define MAP_WAITING     1024u                 /* faults that wait for a frame */
#define MAP_FAULTS      64u                   /* that are read at a time */
#define MAP_HIDE_BATCH  64u                   /* pages, at a time */
#define MAP_TURN_FRAMES 2048u /* that a call looks at in a turn of the loop */
#define MAP_GET_PAGES   FARPAGE_CLUSTER_MAX /* of one get */

enum frame_state {
  FRAME_FREE,
  FRAME_FILLING,
  FRAME_READY,
  FRAME_ACTIVE,
  FRAME_CLEAN,
  FRAME_DIRTY,
  FRAME_WRITING,
  FRAME_STATES
};

struct frame {
  pgno_t page;               /* unless FREE */
  struct frame *prev, *next; /* in the list of its state */
  struct frame *chain;       /* in the hash */
  enum frame_state state;
  unsigned pins;   /* it stays ACTIVE */
  uint64_t put;    /* the serial of the put that has it, or 0; WRITING or, when
                    * it was touched since, ACTIVE */
  bool dirty;      /* known to be written since the last put began */
  bool wanted;     /* FILLING: somebody waits */
  bool want_write; /* and to write */
  bool ahead;      /* FILLING, READY: was asked for before a touch */
};

struct frame_list {
  struct frame *first, *last;
  uint64_t nr;
};

/* A put of pages that lie together. */
struct map_put {
  struct farpage_map *map;
  struct map_put *next; /* free */
  pgno_t first;
  unsigned nr, left;
  uint64_t serial; /* in the order of their begins; 0: it is free */
};

/* A call of the public face that goes on as pages come and go. */
struct map_call {
  struct call call; /* first */
  struct map_call *next;
  struct farpage_map *map;
  bool (*go) (struct map_call *c); /* true: it is over; call.error is set */
  pgno_t first, end;
  pgno_t at;       /* pin: those before are pinned */
  uint64_t frame;  /* frames before it were looked at */
  uint64_t serial; /* sync: puts up to this one are waited for */
  int error;
};

/* A touch that something is to be guessed from. */
struct map_touched {
  pgno_t page; /* the one furthest on that is mapped with it */
  bool there;  /* in memory, or on its way */
};

/* The object, and how its pages come and go.  All is [loop] but where it is
 * said; results come by map_got () and map_put_done (), maybe before the
 * function returns.
 */
struct map_object {
  /* Begin to read: count at most MAP_GET_PAGES pages that lie in one row.
   * EAGAIN, ENOMEM: not now.
   */
  int (*get) (struct farpage_map *m, pgno_t first, unsigned count, bool ahead);
  /* Somebody waits for this page, which is being read ahead. */
  void (*hurry) (struct farpage_map *m, pgno_t page);
  /* Begin to write.  The same errors. */
  int (*put) (struct farpage_map *m, struct map_put *put, bool sync);
  /* Of [first, first + count) how many from first on lie in one row; 0: first
   * was never put, and is zeros.
   */
  unsigned (*row) (struct farpage_map *m, pgno_t first, unsigned count);
  /* Not on the loop's thread, all that follows.  It is this map's, and stays.
   * EBUSY: it is another's.
   */
  int (*open) (struct farpage_map *m);
  /* What was put is as durable as the object can say. */
  int (*flush) (struct farpage_map *m);
  int (*close) (struct farpage_map *m);
};

struct farpage_map {
  const struct map_object *ops;  /* [const] */
  struct farpage_object *object; /* [const] this, */
  struct farpage_file *file;     /* [const] or this */
  struct farpage_link *owner;    /* [const] */
  struct link *link;             /* [const] */
  struct loop *loop;             /* [const] */
  struct uffd *uffd;             /* [const] */
  uint64_t nr_pages;             /* [const] */

  struct frame *frame; /* [const] all of them */
  uint64_t nr_frames;  /* [const] */
  struct frame **hash;
  uint64_t nr_hash; /* [const] a power of two */
  struct frame_list list[FRAME_STATES];
  uint64_t low, high; /* [const] FREE: down to low for guesses; to be had */
  uint64_t nr_ahead;  /* FILLING or READY that nobody has touched */
  uint64_t nr_pinned;

  struct uffd_fault waiting[MAP_WAITING]; /* for a frame, oldest at head */
  unsigned head, nr_waiting;
  struct map_put put[MAP_PUTS];
  struct map_put *free_put;
  uint64_t serial;    /* of the newest put */
  uint64_t nr_puts;   /* under way */
  uint64_t put_pages; /* of them */
  unsigned cluster;   /* [const] pages of a put */
  bool put_failed;    /* no new put of our own before put_again */
  bool stuck;         /* and that was an ERROR; nothing was put since */
  ev_timer put_again;

  struct trend trend;
  struct map_touched touched[MAP_FAULTS]; /* in this turn */
  unsigned nr_touched;
  bool random;        /* advised: nothing is read ahead */
  bool in_order;      /* advised: what was passed is not wanted */
  uint64_t ahead_max; /* pages, by what the link can take; looked up a turn */
  uint64_t ahead_us;

  struct map_call *calls, *closer;
  bool changed; /* there may be work */
  ev_io faults;
  ev_prepare turn;
  ev_idle soon;   /* while there is work */
  ev_timer again; /* the kernel had no memory, or the pager no room */

  struct farpage_map_stat stat;
};

/* ---- map-frame.c ---- */

/* All are FREE. */
extern void frames_init (struct farpage_map *m);
/* NULL: it is not in memory. */
extern struct frame *frame_find (struct farpage_map *m, pgno_t page);
/* For pages of [first, first + nr), none of which is in memory: FILLING, memory
 * for them made.  Returns how many from first on have one now: fewer where no
 * more are FREE, 0 where the kernel has no memory.
 */
extern unsigned frame_take (struct farpage_map *m, pgno_t first, unsigned nr);
extern void frame_move (struct farpage_map *m, struct frame *f,
                        enum frame_state state);
/* The memory of f's page and the nr - 1 pages behind it, which have frames, is
 * given up: FREE.
 */
extern void frame_free (struct farpage_map *m, struct frame *f, unsigned nr);
/* It is nobody's guess any more. */
extern void frame_not_ahead (struct farpage_map *m, struct frame *f);
/* NULL, or what is wrong with frames, lists and counts. */
extern const char *map_check (struct farpage_map *m);

/* ---- map-fault.c ---- */

extern void map_on_faults (struct farpage_map *m);
/* What comes after those that were touched in this turn is read ahead. */
extern void map_guess (struct farpage_map *m);
/* Touched, or wanted by a pin: on its way to ACTIVE.  False: not now. */
extern bool map_want (struct farpage_map *m, pgno_t page, bool write);
/* A page that was asked for. */
extern void map_got (struct farpage_map *m, pgno_t page,
                     enum farpage_result result);
/* Read these pages, of which nobody says that they are needed, as far as there
 * is room for guesses; zeros: also those that were never put.  Returns how many
 * of them were taken care of.
 */
extern uint64_t map_ahead (struct farpage_map *m, pgno_t first, int64_t stride,
                           uint64_t nr, bool zeros);

/* ---- map-out.c ---- */

/* Room for what is to come, as far as it can be had now. */
extern void map_make_room (struct farpage_map *m);
/* Put f and its dirty neighbours.  EAGAIN: something has to end first. */
extern int map_put_row (struct farpage_map *m, struct frame *f, bool sync);
extern void map_put_done (struct map_put *put, pgno_t page,
                          enum farpage_result result);
/* ACTIVE: is it written? */
extern bool map_is_written (struct farpage_map *m, const struct frame *f);
/* What is ACTIVE of [first, end), and not pinned, is hidden. */
extern void map_hide_range (struct farpage_map *m, pgno_t first, pgno_t end);

/* ---- map.c ---- */

/* What waits is looked at again at the end of this turn; in a while. */
extern void map_work (struct farpage_map *m);
extern void map_work_later (struct farpage_map *m);
/* This page could not be got (put 0), or this put of it failed: calls that wait
 * for that are told.
 */
extern void map_tell_calls (struct farpage_map *m, pgno_t page, uint64_t put,
                            int error);

/* ---- map-call.c ---- */

/* map_call.go */
extern bool map_sync_go (struct map_call *c);
extern bool map_pin_go (struct map_call *c);
extern bool map_free_go (struct map_call *c);
/* EINVAL: some of [first, end) are not pinned. */
extern int map_unpin (struct farpage_map *m, pgno_t first, pgno_t end);
extern bool map_close_go (struct map_call *c);

/* ---- map-swap.c, map-file.c ---- */

extern const struct map_object map_swap_object, map_file_object;

#endif /* FARPAGE_MAP_H */
