/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes in flight, with the time at which each may leave.
 *
 * Called by pipe.c alone; calls the kernel for memory.
 *
 *   first                                    last
 *   block ──────────────▶ block ──────────▶ block
 *   [seg|bytes][seg|bytes] [seg|bytes]…      [seg|bytes] room
 *         ▲ head                                        ▲ fill
 *
 * A segment lies in one block, its bytes behind it, so a read goes straight
 * to its place and many small ones share a block.  A block that has been sent
 * goes back to the kernel (SPARE_BLOCKS stay for the next read): what the queue
 * costs is what is in flight.
 *
 * I1  Segments leave in the order in which they came.
 * I2  bytes is the sum of len - sent over the segments from head on.
 * I3  Every block but the last holds a segment that has not been sent whole.
 *
 * It has no limit, on purpose: a network that is slower than its sender has to
 * be slow by its clock, not by the size of somebody's buffer.  One thread.
 */

#include <config.h>

#include "queue.h"

#include <assert.h>
#include <sys/mman.h>

#define SPARE_BLOCKS 64
#define ROOM_MIN     (QUEUE_BLOCK_BYTES / 4)

struct block {
  struct block *next;
  uint32_t head; /* of the first segment that is there */
  uint32_t fill; /* behind the last */
};

static struct block *spare;
static unsigned nr_spare;
static uint64_t nr_used;

static uint32_t
seg_bytes (uint32_t len)
{
  return sizeof (struct seg) + (len + 7) / 8 * 8;
}

static struct seg *
seg_at (struct block *b, uint32_t off)
{
  return (struct seg *) ((char *) b + off);
}

static struct block *
block_get (void)
{
  struct block *b = spare;

  if (b != NULL) {
    spare = b->next;
    nr_spare--;
  } else {
    b = mmap (NULL, QUEUE_BLOCK_BYTES, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b == MAP_FAILED)
      return NULL;
  }
  nr_used++;
  *b = (struct block){ .head = sizeof *b, .fill = sizeof *b };
  return b;
}

static void
block_put (struct block *b)
{
  nr_used--;
  if (nr_spare >= SPARE_BLOCKS) {
    munmap (b, QUEUE_BLOCK_BYTES);
    return;
  }
  b->next = spare;
  spare = b;
  nr_spare++;
}

void *
queue_room (struct queue *q, size_t *bytes)
{
  struct block *b = q->last;

  if (b == NULL || QUEUE_BLOCK_BYTES - b->fill < ROOM_MIN) {
    b = block_get ();
    if (b == NULL)
      return NULL;
    if (q->last != NULL)
      q->last->next = b;
    else
      q->first = b;
    q->last = b;
  }
  *bytes = QUEUE_BLOCK_BYTES - b->fill - sizeof (struct seg);
  return seg_at (b, b->fill) + 1;
}

void
queue_add (struct queue *q, const struct seg *seg)
{
  struct block *b = q->last;

  assert (b != NULL && seg_bytes (seg->len) <= QUEUE_BLOCK_BYTES - b->fill);
  *seg_at (b, b->fill) = *seg;
  b->fill += seg_bytes (seg->len);
  q->bytes += seg->len;
}

static struct seg *
look (struct queue_at *at, void **bytes)
{
  struct seg *seg;

  while (at->block != NULL && at->off == at->block->fill) {
    at->block = at->block->next;
    at->off = sizeof *at->block;
  }
  if (at->block == NULL)
    return NULL;
  seg = seg_at (at->block, at->off);
  *bytes = (char *) (seg + 1) + seg->sent;
  return seg;
}

struct seg *
queue_first (struct queue *q, struct queue_at *at, void **bytes)
{
  *at = (struct queue_at){ .block = q->first };
  if (q->first != NULL)
    at->off = q->first->head;
  return look (at, bytes);
}

struct seg *
queue_next (struct queue_at *at, void **bytes)
{
  at->off += seg_bytes (seg_at (at->block, at->off)->len);
  return look (at, bytes);
}

void
queue_pop (struct queue *q)
{
  struct block *b = q->first;

  b->head += seg_bytes (seg_at (b, b->head)->len);
  while ((b = q->first) != NULL && b->head == b->fill) {
    q->first = b->next;
    if (q->first == NULL)
      q->last = NULL;
    block_put (b);
  }
}

void
queue_sent (struct queue *q, uint64_t bytes)
{
  assert (bytes <= q->bytes);
  q->bytes -= bytes;
  while (bytes > 0) {
    struct seg *seg = seg_at (q->first, q->first->head);
    uint32_t left = seg->len - seg->sent;

    if (bytes < left) {
      seg->sent += (uint32_t) bytes;
      return;
    }
    bytes -= left;
    queue_pop (q);
  }
}

void
queue_shift (struct queue *q, int64_t ns)
{
  struct queue_at at;
  void *bytes;

  for (struct seg *s = queue_first (q, &at, &bytes); s != NULL;
       s = queue_next (&at, &bytes)) {
    s->begin_ns += ns;
    s->end_ns += ns;
  }
}

void
queue_drop (struct queue *q)
{
  while (q->first != NULL) {
    struct block *b = q->first;

    q->first = b->next;
    block_put (b);
  }
  *q = (struct queue){ 0 };
}

struct queue_memory
queue_memory (void)
{
  return (struct queue_memory){
    .used_bytes = nr_used * QUEUE_BLOCK_BYTES,
    .kept_bytes = (uint64_t) nr_spare * QUEUE_BLOCK_BYTES,
  };
}

void
queue_trim (void)
{
  while (spare != NULL) {
    struct block *b = spare;

    spare = b->next;
    munmap (b, QUEUE_BLOCK_BYTES);
  }
  nr_spare = 0;
}
