/* SPDX-License-Identifier: BSD-2-Clause */
/* The bytes on their way in one direction of one connection. */

#ifndef FARPAGE_RELAY_QUEUE_H
#define FARPAGE_RELAY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_BLOCK_BYTES 65536

enum seg_kind {
  SEG_DATA,
  SEG_END,   /* the sender has closed its half */
  SEG_RESET, /* the sender is gone */
};

/* What one read brought.  Its bytes are due evenly between begin and end. */
struct seg {
  int64_t begin_ns;
  int64_t end_ns;
  uint32_t len;
  uint32_t sent; /* of len */
  enum seg_kind kind;
};

struct block;

/* All zero: empty. */
struct queue {
  struct block *first, *last;
  uint64_t bytes; /* not sent yet */
};

/* A place in the queue. */
struct queue_at {
  struct block *block;
  uint32_t off;
};

/* Room for the next read: at least a quarter of a block.  NULL: no memory. */
void *queue_room (struct queue *q, size_t *bytes);

/* seg->len bytes were put where queue_room () said.  Blocks: never. */
void queue_add (struct queue *q, const struct seg *seg);

/* The first segment that is not sent whole, NULL if there is none; then those
 * behind it.  *bytes: what is left of it.
 */
struct seg *queue_first (struct queue *q, struct queue_at *at, void **bytes);
struct seg *queue_next (struct queue_at *at, void **bytes);

/* bytes of data have left, from the front on. */
void queue_sent (struct queue *q, uint64_t bytes);

/* The first segment, of no bytes, has left. */
void queue_pop (struct queue *q);

void queue_shift (struct queue *q, int64_t ns);
void queue_drop (struct queue *q);

/* Memory of all queues: in use, and kept for the next use. */
struct queue_memory {
  uint64_t used_bytes;
  uint64_t kept_bytes;
};
struct queue_memory queue_memory (void);

/* Gives the kept memory back, too. */
void queue_trim (void);

#endif /* FARPAGE_RELAY_QUEUE_H */
