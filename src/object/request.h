/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests under way in an object, shard by shard.  Private to object/. */

#ifndef FARPAGE_REQUEST_H
#define FARPAGE_REQUEST_H

#include "env.h"
#include "lock.h"
#include "object.h"
#include "strategy.h"

/* Locks for shards: an object's shard s uses number s % nr_shards. */
#define SHARDS_MAX 64u

/* What a read is reading: blocks that must not be free until it is over. */
#define PIN_EXTENTS VIO_MAX
struct pin {
  struct pin *next;
  unsigned nr_extents, nr_parked;
  struct space_run extent[PIN_EXTENTS];
  uint64_t parked[SHARD_PAGES / 64]; /* a bit a block, extents in a row */
};

struct shard {
  lock_t lock;
  struct entry *first; /* [lock] changes under way, oldest first */
  struct entry *last;  /* [lock] */
  struct pin *pins;    /* [lock] reads under way */
} __attribute__ ((aligned (64)));

struct object {
  _Atomic uint64_t size_bytes; /* changes while no request is under way */
  _Atomic pgno_t
      nr_pages;        /* the same; more than it has while a tail is there */
  bool reserved;       /* [const] */
  struct space *space; /* [const] */
  struct vpool *pool;  /* [const] once requests come */
  const struct map_ops *ops; /* [const] */
  void *map;                 /* [shard.lock], each shard its part */
  unsigned nr_shards;        /* [const] a power of two */
  atomic_bool dead, drop_stop;
  bool cut;                         /* it may have a tail; as nr_pages */
  bool dropped;                     /* its owner's */
  _Atomic uint64_t nr_mapped;       /* entries of kind block */
  _Atomic uint64_t nr_zero;         /* entries of kind "zero, reserved" */
  uint64_t hint;                    /* [const] tells its lanes from others' */
  _Atomic uint64_t nr_node_charges; /* change.c, N2 */
  /* [const] Of a durable object; else NULL, and false. */
  struct bufs *bs;
  struct flush *fl;
  struct parked *pk;
  bool strict, staged;
  bool cached;      /* [const] reads may go through the page cache */
  const char *name; /* [const] may be NULL */
  struct shard shards[];
};

static inline struct shard *
shard_of (struct object *o, pgno_t pgno)
{
  return &o->shards[(pgno / SHARD_PAGES) & (o->nr_shards - 1)];
}

static inline uint64_t
lane_hint (const struct object *o, pgno_t pgno, bool buffered)
{
  return buffered ? SPACE_HINT_SMALL : o->hint + pgno / SHARD_PAGES;
}

static inline bool
object_is_durable (const struct object *o)
{
  return o->fl != NULL;
}

/* A place in a shard's list of changes under way. */
struct entry {
  struct entry *prev, *next;
  struct request *req;
};

/* The first or last page of a zeroing request, if it covers only a part of
 * it: a small write of zeros of its own.
 */
struct edge {
  pgno_t pgno;
  uint32_t in_page, bytes; /* bytes 0: there is none */
  unsigned marks;          /* [shard.lock] as request.marks, of this page */
};

/* A request that changes pages, from its entry to its end.
 *
 * marks: of a write, a bit for each sector that a later request has replaced,
 * counted from the 32 KiB that hold off (so that no word belongs to two
 * shards).  done: of a zeroing request, a byte for each shard it covers,
 * counted from its first: what became of its whole pages there, seen to by
 * itself or by a later request that was there first: DONE_NOT yet, DONE_WELL,
 * else the errno.
 */
#define DONE_NOT           0
#define DONE_WELL          UINT8_MAX
#define REQUEST_MARK_WORDS (STRATEGY_BYTES_MAX / SECTOR_BYTES / 64 + 2)
#define REQUEST_DONE_BYTES ((UINT64_C (1) << 32) / SHARD_BYTES + 2)

struct request {
  struct object *o;
  const atomic_bool *fenced;
  uint64_t off, bytes;
  bool zero, keep;
  struct vbatch *batch;   /* NULL if no volume needs one, or not now */
  uint64_t deadline_ns;   /* of its waits for charges; 0: none so far */
  uint64_t units_wait_ns; /* what is left of UNITS_WAIT_NS */
  atomic_bool overtaken;  /* marks, or an edge's, are not all 0 */
  struct map_change mc;   /* its change under way; its blocks for nodes */
  bool cannot_help;       /* there is no room for older requests' nodes */
  unsigned nr_entries;
  struct edge edge[2];
  struct entry entries[SHARDS_MAX];
  union {
    uint8_t done[REQUEST_DONE_BYTES];   /* [shard.lock] */
    uint64_t marks[REQUEST_MARK_WORDS]; /* [shard.lock] */
  };
};

/* Enter a request: it is older than any that begins after the return.  o,
 * fenced, off, bytes, zero and keep are set.  Lock: none held.  Blocks: for a
 * batch, when it has been entered.
 */
extern void request_begin (struct request *req);
/* It is over, with this result.  If that is 0, and the object is durable, wait
 * as long as its reply must: fua or a strict store, until the change is
 * durable; without staging, until it is written.  Returns the result.  Lock:
 * none held. Blocks: yes.
 */
extern int request_end (struct request *req, int err, bool fua);

/* A request of a durable object has a batch only where it says so here: room in
 * the buffers is waited for without.  Lock: none held.  Blocks: yes.
 */
extern void request_use_batch (struct request *req, bool use);

/* Where it ends in the object; the object's last page counts as whole. */
extern uint64_t request_end_padded (const struct request *req);

/* Wait for nr charges; all waits of a request together end CHARGE_WAIT_NS
 * after its first began.  ENOSPC.  req->batch may be another afterwards.
 * Lock: none held, nor units.
 */
extern int request_wait_charges (struct request *req, uint64_t nr);

/* May a request publish?  0 or ESHUTDOWN.  Lock: needs a shard's. */
extern int request_may_publish (const struct request *req);

/* ---- object.c ---- */

/* Remove what dead objects, or others behind their end, have from this page on.
 */
extern int object_drop_from (struct object *o, pgno_t pgno);

/* ---- change.c ---- */

/* Give back the blocks for nodes that a request has left.  Lock: none held. */
extern void request_put_nodes (struct request *req);

/* A change of one shard's map, and the blocks and promises it set free, to be
 * given back when the shard's lock is released.  At most all pages of a shard,
 * and a slice's own.
 */
#define PIN_RUNS       64u
#define FREED_RUNS_MAX (SHARD_PAGES + SPACE_HANDOUT_MAX)
struct freed {
  struct object *o;
  struct shard *shard;
  struct map_change *mc;
  unsigned nr_missing;   /* blocks for nodes that mc must have */
  bool missing_to_help;  /* they are for an older request's change */
  uint64_t nr_charges;   /* promises that nobody needs any more */
  uint64_t nr_displaced; /* pages whose promises others took over */
  unsigned nr_runs;
  struct space_run runs[FREED_RUNS_MAX];
};
extern void freed_init (struct freed *freed, struct object *o, pgno_t pgno,
                        struct map_change *mc);
/* Begin a change, and take the shard's lock.  EIO: the store has failed, and
 * nothing is held.  Lock: none held.  Blocks: yes.
 */
extern int freed_enter (struct freed *freed);
extern void freed_leave (struct freed *freed);
/* Before these pages of the shard are built (or else freed): load all that it
 * takes, so that it does not fail.  EAGAIN: freed->nr_missing blocks for nodes
 * are needed (request_wait ()), and nothing has changed.
 * Lock: needs the shard's.
 */
extern int freed_prepare (struct freed *freed, pgno_t pgno, uint64_t nr,
                          bool build);
/* Build entries of pages that were prepared.  EAGAIN as freed_prepare (). */
extern int freed_build (struct freed *freed, pgno_t pgno, uint64_t nr,
                        const struct swent *ents);
/* After EAGAIN: wait for what is missing, charges (*charged grows to needed)
 * and blocks for nodes.  ENOSPC, EIO.  Lock: none held, nor units.
 */
extern int request_wait (struct request *req, const struct freed *freed,
                         uint64_t *charged, uint64_t needed);
/* A run of entries has left the map; arg is a struct freed (swmeta_run_fn).
 * removed: and nothing took its place, so its charges go too; displaced: its
 * charges are the newcomers'.  Lock: needs the shard's.
 */
extern void freed_removed (void *arg, const struct swmeta_run *run);
extern void freed_displaced (void *arg, const struct swmeta_run *run);
/* Give it all back.  Lock: none held.  Blocks: yes. */
extern void freed_give_back (struct freed *freed, pgno_t pgno);
/* After that, runs that no map ever named: gathered, and given back. */
extern void freed_blocks (struct freed *freed, const struct space_run *run);
extern void freed_give_back_unnamed (struct freed *freed, pgno_t pgno);

/* The blocks of pin must stay until pin_end ().  Lock: needs the shard's. */
extern void pin_begin (struct shard *shard, struct pin *pin);
/* Lock: takes the shard's. */
extern void pin_end (struct object *o, pgno_t pgno, struct pin *pin);

/* ---- request.c again ---- */

/* Before req publishes pages in pgno's shard: zeroings older than req that
 * have not come to this shard yet are done now, in the change of freed.
 * EAGAIN as freed_prepare ().  Lock: needs the shard's.
 */
extern int request_help_older (struct request *req, pgno_t pgno,
                               struct freed *freed);

/* After req has published [off, off + bytes): older requests leave it out
 * from now on.  Lock: needs the range's shard's.
 */
extern void request_mark_older (struct request *req, uint64_t off,
                                uint64_t bytes);

/* The sectors of a page of the write req that are marked: bit i for sector i.
 * Lock: needs its shard's.
 */
extern unsigned request_marks (const struct request *req, pgno_t pgno);

/* ---- strategy-zero.c ---- */

/* See to the whole pages of a zeroing request in one shard, in the change of
 * freed, which may be a younger request's.  EAGAIN (only with keep): nothing
 * has changed; as freed_prepare (), or *charged must grow to *nr_needed.
 * Lock: needs the shard's.
 */
extern int zero_shard (struct request *req, uint64_t shard, struct freed *freed,
                       uint64_t *charged, uint64_t *nr_needed);

/* ---- page.c: one page, under its shard's lock ---- */

/* Bytes [in_page, in_page + bytes) of a page, but for the sectors in marks,
 * become those of src (NULL: zeros).  Lock: none held.  Blocks: yes.
 */
extern int page_update (struct request *req, pgno_t pgno, uint32_t in_page,
                        uint32_t bytes, const void *src);

extern bool page_is_zero (const void *buf);

#define UNITS_WAIT_NS  (15 * NS_PER_S)
#define CHARGE_WAIT_NS (10 * NS_PER_S)

/* Units for nr blocks, or EIO when reads are stuck.  Lock: none held. */
extern int take_units (struct request *req, uint64_t nr);

#endif /* FARPAGE_REQUEST_H */
