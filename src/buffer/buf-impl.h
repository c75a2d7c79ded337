/* SPDX-License-Identifier: BSD-2-Clause */
/* What buf.c, buf-meta.c, buf-data.c, buf-list.c, buf-write.c and buf-check.c
 * share; nobody else includes it.
 */

#ifndef FARPAGE_BUF_IMPL_H
#define FARPAGE_BUF_IMPL_H

#include "buf.h"

/* Bits beside the count in refs. */
#define BUF_GONE  (UINT32_C (1) << 31) /* nobody finds it: freed by the last */
#define BUF_QUIET (UINT32_C (1) << 30) /* evicted by the last */
#define BUF_COUNT (BUF_QUIET - 1)

enum buf_flags {
  BUF_DIRTY = 1,   /* on its type's list, which holds a reference */
  BUF_RUNNING = 2, /* bufs_take () has given its reference away */
};

#define BUCKET_NONE    UINT32_MAX
#define BUF_PARTS_MIN  16u
#define BUF_PARTS_MAX  1024u
#define BUF_WAKE_PAGES 256u
#define BUF_NAP_NS     (1000u * 1000)

/* A part of the hash: buckets whose number is its own modulo nr_parts. */
struct part {
  lock_t lock; /* LOCK_BUF */
  uint64_t nr_hits, nr_evicted;
} __attribute__ ((aligned (64)));

/* Who waits for room for DATA; on its thread's stack. */
struct data_waiter {
  struct data_waiter *next;
  cond_t cond;
  unsigned nr;
  bool over, failed;
};

/* Dirty buffers of a type, oldest first. */
struct buf_list {
  lock_t lock; /* LOCK_LIST */
  struct buf *first, *last;
  uint64_t nr, nr_running;
  _Atomic uint64_t nr_pinned; /* dirty or running, each once */
  /* DATA */
  uint64_t nr_reserved;
  bool woken; /* wake was called since bufs_take () */
  struct data_waiter *waiter, **waiter_end;
} __attribute__ ((aligned (64)));

struct buf_free {
  lock_t lock; /* LOCK_LIST */
  struct buf *first;
  uint64_t nr;
  uint64_t nr_undo; /* UNDO buffers that are not free */
} __attribute__ ((aligned (64)));

struct bufs {
  struct bufs_config config;     /* [const] */
  uint8_t uuid[DISK_UUID_BYTES]; /* [const] */
  unsigned nr;                   /* [const] */
  struct buf *bufs;              /* [const] volumes' first */
  uint8_t *memory;               /* [const] */
  uint64_t dirty_max[BUF_TYPES]; /* [const] */
  uint64_t wake_at;              /* [const] dirty DATA to call wake at */
  unsigned nr_parts;             /* [const] a power of two */
  struct part *parts;
  uint32_t nr_buckets; /* [const] a power of two */
  struct buf **buckets;
  struct buf_free free;
  struct buf_list lists[BUF_TYPES];
  _Atomic uint64_t nr_type[BUF_TYPES]; /* not BUF_FREE */
  _Atomic uint64_t nr_loads;
  uint64_t data_max; /* [const] DATA, clean ones too, that evicts no META */
  _Atomic uint64_t hand[2]; /* of the clock */
  atomic_bool failed;
  bufs_source source; /* NULL: none */
  void *source_arg;
  struct log_limit full_limit, bad_limit;
};

/* ---- buf.c ---- */

static inline struct part *
buf_part (struct bufs *bs, uint32_t bucket)
{
  return &bs->parts[bucket & (bs->nr_parts - 1)];
}

extern uint32_t buf_bucket_of_node (const struct bufs *bs,
                                    const struct buf_id *id);
extern uint32_t buf_bucket_of_block (const struct bufs *bs, uint64_t blk);

/* Lock: need the bucket's. */
extern struct buf *buf_find_node (struct bufs *bs, uint32_t bucket,
                                  const struct buf_id *id);
extern struct buf *buf_find_block (struct bufs *bs, uint32_t bucket,
                                   uint64_t blk);
extern void buf_hash_add (struct bufs *bs, uint32_t bucket, struct buf *b);
extern void buf_hash_remove (struct bufs *bs, struct buf *b);

/* Buffers of this type in nobody's hands but the caller's: one reference, in no
 * list and no bucket, DATA gone, pages as somebody left them.  Returns how many
 * there are: less than nr if for a second none was clean.
 */
extern unsigned bufs_new (struct bufs *bs, enum buf_type type, struct buf **to,
                          unsigned nr);
extern struct buf *buf_new (struct bufs *bs, enum buf_type type); /* or NULL */
/* It was never seen by others. */
extern void buf_free_new (struct bufs *bs, struct buf *b);

/* ---- buf-list.c ---- */

static inline struct buf_tag *
buf_tag (struct bufs *bs, const struct buf *b)
{
  return bs->config.tags != NULL ? &bs->config.tags[b - bs->bufs] : NULL;
}

static inline uint64_t
buf_tag_what (enum buf_type type, uint64_t blk)
{
  return (uint64_t) type << 60 | blk;
}

static inline void
buf_untag (struct bufs *bs, const struct buf *b)
{
  struct buf_tag *tag = buf_tag (bs, b);

  if (tag != NULL)
    atomic_store_explicit (&tag->what, 0, memory_order_release);
}

extern void buf_lists_init (struct bufs *bs);
extern void buf_lists_fini (struct bufs *bs);
/* Put a buffer, whose content is whole, at its list's end.  Its caller's
 * reference becomes the list's.  Lock: needs the list's.
 */
extern void buf_list_add_locked (struct bufs *bs, struct buf *b);
/* Off its list, if it is there.  The list's reference becomes the caller's. */
extern bool buf_list_remove (struct bufs *bs, struct buf *b);

/* ---- buf-data.c ---- */

/* Room may have come: give it to who waits.  Lock: needs the list's. */
extern void buf_data_serve_locked (struct bufs *bs, struct buf_list *l);
extern void buf_data_wake (struct bufs *bs);

#endif /* FARPAGE_BUF_IMPL_H */
