/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers: all of a durable store's memory for what lies on its volumes.
 *
 * A buffer holds one block of 4096 bytes and has a type:
 *
 *   VOLUME  the superblock slot that a volume gets next, one a volume, always
 *           referenced; whole slots are written in turn, nothing to undo
 *   META    a node of a tree, found by (tree, level, index); changes between
 *           buf_begin () and buf_done () (flush.h), leaves only by the flusher
 *   UNDO    a block of the log, found by nobody; written once, then free
 *   DATA    a page on its way to its block, found by block number; never
 *           changes once it is dirty, for writes go to fresh blocks
 *
 * All come from one pool of cache_bytes made at the start; nothing is
 * allocated later.  Each type has a share of the pool that its dirty buffers
 * never exceed, so that whoever may hold a lock always finds a clean one:
 *
 *   dirty META   1/2    a cycle begins at 3/8
 *   dirty DATA   1/4    writers wait before they take a lock (buf_data_get)
 *   UNDO         1/8    changes wait before they take a lock (change_begin)
 *   the rest     1/8    what loads hold
 *
 * (of the pool without its VOLUME buffers).  UNDO's share is kept free for it,
 * and so is a buffer for every DATA page that has been waited for: neither
 * evicts anything under its caller's locks.
 *
 * Clean META and DATA stay until their memory is needed (a clock goes round;
 * DATA beyond 3/8 makes room for itself);
 * a buffer with references never leaves, and to be dirty, or taken for
 * writing, is a reference.
 *
 * With tags, the pool is memory that outlives the process (staging.h): each
 * dirty DATA and UNDO buffer is named there before it counts as dirty, and no
 * more once it is on the volume.
 */

#ifndef FARPAGE_BUF_H
#define FARPAGE_BUF_H

#include "disk.h"
#include "lock.h"
#include "types.h"
#include "volume.h"

#include <stdatomic.h>

#define BUF_BYTES 4096u
#ifndef BUFS_MIN      /* the simulator has fewer */
#define BUFS_MIN 256u /* buffers in a pool, at least */
#endif
#define BUF_RUN_MAX 256u /* buffers that leave as one transfer, at most */

enum buf_type {
  BUF_FREE,
  BUF_VOLUME,
  BUF_META,
  BUF_UNDO,
  BUF_DATA,
  BUF_TYPES
};

/* What the next process finds of a buffer; see staging.h. */
struct buf_tag {
  _Atomic uint64_t what; /* enum buf_type << 60 | blk or lsn; 0: nothing */
};

struct buf_id {
  uint64_t tree, index;
  unsigned level;
};

struct buf {
  uint8_t *data;      /* [const] BUF_BYTES, page-aligned */
  enum buf_type type; /* [while referenced] */
  struct buf_id id;   /* [while referenced] META */
  uint64_t blk;       /* [while referenced] META, DATA: its place; UNDO: lsn */
  _Atomic unsigned refs;   /* and two bits, buf-impl.h */
  atomic_bool is_data;     /* as type says, for the clock */
  atomic_bool touched;     /* since the clock last came by */
  unsigned flags;          /* [list lock] enum buf_flags, buf-impl.h */
  _Atomic uint32_t bucket; /* [bucket lock] of the hash; or none */
  struct buf *next_hash;   /* [bucket lock] */
  struct buf *prev, *next; /* [list lock] in its type's dirty list, or free */
  /* META: flush.c's, all zero when a node is loaded or made.  [node lock] */
  uint64_t dirty_cycle; /* the cycle it was last changed in; 0: never */
  bool fresh;           /* was made in dirty_cycle: nothing to undo */
  bool cut;             /* belongs to the cycle being written, not copied yet */
  struct buf *image;    /* if cut: its content at the cut, when it has changed
                         * since (an UNDO buffer, referenced) */
};

struct bufs;

struct bufs_config {
  struct volume *const *volumes; /* stay the caller's */
  unsigned nr_volumes;
  const uint8_t *uuid; /* of the store, for nodes' heads: copied */
  uint64_t cache_bytes;
  void *memory;         /* cache_bytes, page-aligned; NULL: made here */
  struct buf_tag *tags; /* one a buffer, all 0; NULL: none */
  /* Dirty DATA should be written: there is much of it, or somebody waits for
   * room.  Called with no lock of rank LOCK_BUF or above; must not block.  May
   * be NULL.
   */
  void (*wake) (void *arg);
  void *arg;
};

/* EINVAL: too small.  ENOMEM. */
extern int bufs_create (const struct bufs_config *config, struct bufs **bsp);
/* Whatever is dirty or referenced is gone.  NULL is fine. */
extern void bufs_destroy (struct bufs *bs);
extern unsigned bufs_nr (const struct bufs *bs);

/* Does this block, whatever the number comes from, lie in one of the volumes?
 */
extern bool bufs_has_block (const struct bufs *bs, uint64_t blk);

struct bufs_stat {
  uint64_t nr, nr_free;
  uint64_t nr_clean[BUF_TYPES], nr_dirty[BUF_TYPES]; /* as bufs_nr_dirty () */
  uint64_t nr_running;                               /* being written */
  uint64_t nr_hits, nr_loads, nr_evicted;
};
extern void bufs_stat (struct bufs *bs, struct bufs_stat *st);

/* META, DATA: buffers that are dirty or being written, each counted once.
 * UNDO: all that are not free, for an image outlives its own write.  These are
 * what the shares limit.  Lock: none needed.
 */
extern uint64_t bufs_nr_dirty (struct bufs *bs, enum buf_type type);
extern uint64_t bufs_dirty_max (struct bufs *bs, enum buf_type type);

/* A failed store: nothing is written again; dirty buffers stay, and reads go
 * on.  Wakes all that wait, with EIO.
 */
extern void bufs_fail (struct bufs *bs);

/* In recovery, with no thread: what buf_meta_get () would read from block blk
 * comes from fn; ENOENT: it is read all the same.  It is judged in either case.
 * NULL: everything is read.
 */
typedef int (*bufs_source) (void *arg, uint64_t blk, void *page);
extern void bufs_set_source (struct bufs *bs, bufs_source fn, void *arg);

/* ---- references ---- */

extern void buf_ref (struct buf *b);
extern void buf_put (struct bufs *bs, struct buf *b);

/* ---- META ---- */

/* The node id, which lies at `at`: cached, or read and checked (magic, own
 * address, tree, level, index, type, cycle == at->cycle, uuid, spare zeros,
 * CRC).  A node that is dirty or cut is never compared with at->cycle.  EIO,
 * and a line in the log that names volume, block and what is wrong.  Two
 * threads never want one node at a time: the lock that guards its content is
 * held.  If no buffer is clean (far more threads than buffers) it waits,
 * for a second at most, then EIO.  quiet: for check and scrub, what had to be
 * read goes when it is put, unless somebody else found it meanwhile.
 * Lock: none of rank LOCK_BUF or above held.  Blocks: yes.
 */
extern int buf_meta_get (struct bufs *bs, const struct buf_id *id,
                         enum disk_node_type type,
                         const struct disk_pointer *at, bool quiet,
                         struct buf **bp);

/* The same if it is cached, else NULL.  Hot.  Blocks: no. */
extern struct buf *buf_meta_find (struct bufs *bs, const struct buf_id *id);

/* A new node, all zero behind its head, referenced, not dirty yet: the caller
 * calls buf_begin () with fresh set.  It has no buffer yet.  NULL: for a second
 * no buffer was clean.  Lock: none of rank LOCK_BUF or above held.
 */
extern struct buf *buf_meta_new (struct bufs *bs, const struct buf_id *id,
                                 enum disk_node_type type, uint64_t blk);

/* The node is no more: nobody finds it again, it leaves its dirty list, and it
 * is freed when the last reference goes; one that is taken for writing is
 * written.
 */
extern void buf_meta_drop (struct bufs *bs, struct buf *b);

/* Finish the node's head (cycle) and CRC for the medium, in its buffer, so
 * that a clean node is what lies on the medium, then copy it.  to may be
 * b->data, or NULL: no copy.
 */
extern void buf_meta_seal (struct buf *b, uint64_t cycle, void *to);

/* NULL, or what is wrong with a node as it was read from blk.  uuid, id NULL,
 * type 0: not looked at.
 */
extern const char *buf_node_error (const struct disk_node *node,
                                   const uint8_t *uuid, const struct buf_id *id,
                                   unsigned type, uint64_t blk);

/* ---- DATA ---- */

/* Wait until nr more pages may become dirty, first come, first served, and get
 * buffers for them: the caller's alone, to be filled.  nr is at most
 * bufs_dirty_max ().  EIO: the store has failed, or for a second no buffer was
 * clean.  Lock: none held.  Blocks: yes.
 */
extern int buf_data_get (struct bufs *bs, struct buf **to, unsigned nr);
/* They are not needed. */
extern void buf_data_unget (struct bufs *bs, struct buf *const *bufs,
                            unsigned nr);

/* Buffers from buf_data_get (), filled, become the content of the blocks from
 * blk on: tagged, dirty and found by all when this returns.  Old buffers of
 * these blocks are dropped, dirty or not.  Lock: any below LOCK_BUF.  Blocks:
 * no.
 */
extern void buf_data_add (struct bufs *bs, struct buf *const *bufs, unsigned nr,
                          uint64_t blk);

/* Is any page in a buffer?  For who would ask for many blocks: false counts for
 * all that were in none before the call.  Lock: none needed.
 */
extern bool bufs_have_data (struct bufs *bs);

/* If block blk is in a buffer, copy it out. */
extern bool buf_data_read (struct bufs *bs, uint64_t blk, void *page);

/* Blocks are about to be written past the buffers: forget what they hold.  If
 * one is just being written (it was given up before it had a record) this
 * waits until that is over.  Lock: any below LOCK_BUF.
 */
extern void buf_data_drop (struct bufs *bs, uint64_t blk, uint64_t nr);

/* ---- VOLUME ---- */

/* The buffer of a volume's next slot; never NULL, no reference is taken. */
extern struct buf *buf_volume (struct bufs *bs, unsigned volume);

/* ---- UNDO ---- */

/* A buffer for log block lsn, zeroed; within the share, which the caller has
 * credit for (change_begin): never NULL.  It is dirty at once, which keeps it;
 * buf_ref () for who needs it for longer.  Calls follow each other as lsns do.
 * Lock: any below LOCK_BUF.
 */
extern struct buf *buf_undo_new (struct bufs *bs, uint64_t lsn);

/* ---- dirty lists and writing (flush.c) ---- */

/* META becomes dirty, or stays it, and is on the list of the current cycle,
 * also while it is written for the one before.  Lock: any below LOCK_LIST.
 */
extern void buf_meta_dirty (struct bufs *bs, struct buf *b);

/* Take up to max buffers off the type's dirty list into to[], oldest first
 * (UNDO: by lsn), each with a reference; DATA is then sorted by volume and
 * block, neighbours beside each other.  They count as running until
 * bufs_written (), which is not called for a write that failed: those stay as
 * they are, and are found by all.
 */
extern unsigned bufs_take (struct bufs *bs, enum buf_type type, struct buf **to,
                           unsigned max);

/* By volume and block; needs no memory.  Nobody changes their places. */
extern void bufs_sort (struct buf **to, unsigned nr);

/* A page and its place. */
struct buf_io {
  uint64_t volume, first; /* first: its block, from the volume's start */
  void *page;             /* page-aligned */
  int error;              /* result */
};

/* Write all, in the caller's order, what follows each other on a volume in one
 * transfer (BUF_RUN_MAX), as many at a time as the batch takes; every io.error
 * is set.  Returns the first error.  Lock: none of rank LOCK_IO or above held.
 * Blocks: yes.
 */
extern int bufs_write (struct bufs *bs, struct vbatch *batch,
                       struct buf_io *ios, unsigned nr);

/* The writes of these, all of one type, are over well: clean, or free (UNDO);
 * tags are taken away; the references of bufs_take () are given back; waiters
 * are woken.
 */
extern void bufs_written (struct bufs *bs, struct buf *const *bufs,
                          unsigned nr);

/* Walk and recount; nobody is at work.  NULL, or what is wrong. */
extern const char *bufs_check (struct bufs *bs);

#endif /* FARPAGE_BUF_H */
