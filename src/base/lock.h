/* SPDX-License-Identifier: BSD-2-Clause */
/* Mutexes with ranks.
 *
 * Every lock has a rank from the one table in src/README.md, and a thread
 * takes ranks upward only.  A build with --enable-debug keeps the stack of
 * locks each thread holds and aborts on a wrong rank; other builds pay for a
 * plain pthread mutex and a look whether a simulator has taken over (task.h).
 */

#ifndef FARPAGE_LOCK_H
#define FARPAGE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
  LOCK_FLUSH = 5,   /* one device flush at a time */
  LOCK_DURABLE = 8, /* store: objects of a durable store, over a cut */
  LOCK_STORE = 10,  /* store: table of objects, their open counts */
  LOCK_OBJECT = 20, /* object: handles, owner, sessions */
  LOCK_TABLE = 25,  /* leaves of the object table, or of the free maps */
  LOCK_SHARD = 30,  /* object shard: its part of the map, requests under way */
  LOCK_TREE = 35,   /* inner nodes of a tree of META, its root pointer */
  LOCK_LANE = 40,   /* space lane: the run it hands out, frees it gathers */
  LOCK_SPACE = 50,  /* space: rotation, state, waiters */
  LOCK_VOLUME = 60, /* one volume's blist */
  LOCK_ZONE = 70,   /* memory of page maps */
  LOCK_IO = 80,     /* volume: contexts for I/O */
  LOCK_NODE = 81,   /* META: is a node of the cut still to be copied */
  LOCK_LOG = 82,    /* the log's end */
  LOCK_BUF = 84,    /* a part of the buffers' hash: who is in which buffer */
  LOCK_LIST = 86,   /* dirty and free lists of buffers */
  LOCK_LEAF = 90,   /* nothing is taken under it */
};

/* Ranks are checked; also in the simulator's build, which tells names. */
#if defined FARPAGE_DEBUG || defined FARPAGE_SABOTAGE
#define LOCK_CHECKED
#endif

typedef struct lock {
  pthread_mutex_t mutex;
#ifdef LOCK_CHECKED
  enum lock_rank rank;
  const char *name;
#endif
} lock_t;

typedef struct cond {
  pthread_cond_t cond;
} cond_t;

/* Make a lock of this rank.  Several locks of one rank are never held
 * together.  name is for the checker's message and must be a constant.
 */
extern void lock_init (lock_t *lock, enum lock_rank rank, const char *name);
extern void lock_destroy (lock_t *lock);

extern void lock_acquire (lock_t *lock); /* Blocks: yes */
extern void lock_release (lock_t *lock);

/* true if this thread holds the lock, for assertions only: a build without
 * --enable-debug cannot tell and says true.
 */
extern bool lock_held (const lock_t *lock);

extern void cond_init (cond_t *cond);
extern void cond_destroy (cond_t *cond);

/* Wait until signalled or until deadline_ns on the clock of env_now_ns ().
 * Lock: needs lock, the only one held.  Returns false when the time is up.
 */
extern bool cond_wait_until (cond_t *cond, lock_t *lock, uint64_t deadline_ns);
extern void cond_wait (cond_t *cond, lock_t *lock);
extern void cond_broadcast (cond_t *cond);

#ifdef LOCK_CHECKED
/* The locks that a thread holds, or a simulator's task: it exchanges them when
 * it lets another task run.
 */
#define LOCKS_HELD_MAX 8
struct locks_held {
  const lock_t *lock[LOCKS_HELD_MAX];
  unsigned nr;
};
extern void locks_held_exchange (struct locks_held *save,
                                 const struct locks_held *load);
#endif

/* LOCK_SCOPE (&x) holds x to the end of the enclosing block. */
static inline void
lock_scope_end (lock_t **lock)
{
  lock_release (*lock);
}
#define LOCK_SCOPE(ptr)     LOCK_SCOPE_ (ptr, __COUNTER__)
#define LOCK_SCOPE_(ptr, n) LOCK_SCOPE__ (ptr, n)
#define LOCK_SCOPE__(ptr, n)                                                 \
  __attribute__ ((cleanup (lock_scope_end))) lock_t *lock_scope_##n = (ptr); \
  lock_acquire (lock_scope_##n)

#endif /* FARPAGE_LOCK_H */
