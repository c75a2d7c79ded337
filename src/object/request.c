/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests under way, and what they owe each other.
 *
 * Each shard has a list of the changes (writes, trims, zeroings) that touch it
 * and are not over, in the order they were entered.
 *
 *   shard: first -> [write A] -> [zero B] -> [write C] <- last
 *
 * Overtaking.  Nobody waits for an older request, so a younger one may publish
 * first; what a client saw replied must then not be undone by the older:
 *
 * I1. When a request publishes a range it marks the sectors it covers whole in
 *     every older write of the list.  A write leaves its marked sectors out
 *     when it publishes, and is answered as done.
 * I2. An older zeroing has no data to hold back and may cover 4 GiB: instead
 *     of marking it, a younger request does the older one's work in the shard
 *     first.  Only its partial first and last page are marked.
 * I3. Marks are made only when the younger one has published: if it fails, the
 *     older one's data are not lost with it.
 * I4. Below a sector there is no order among overlapping requests in flight
 *     but the one in which they publish; NBD promises none.
 *
 * Locks: everything here is guarded by the shard's lock.  Entries live on the
 * stacks of their requests; nothing is allocated.
 */

#include <config.h>

#include "request.h"
#include "sabotage.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- entering and leaving ---- */

static uint64_t
mark_base (const struct request *req)
{
  return (req->off >> SECTOR_SHIFT) & ~UINT64_C (63);
}

static void
clear_marks (struct request *req)
{
  uint64_t last = req->off + req->bytes - 1;

  if (req->zero)
    memset (req->done, 0, last / SHARD_BYTES - req->off / SHARD_BYTES + 1);
  else
    memset (req->marks, 0,
            (((last >> SECTOR_SHIFT) - mark_base (req)) / 64 + 1) *
                sizeof *req->marks);
}

uint64_t
request_end_padded (const struct request *req)
{
  uint64_t end = req->off + req->bytes;

  return end == req->o->size_bytes ? bytes_to_pages (end) << PAGE_SHIFT : end;
}

/* The partial pages at both ends of a zeroing request. */
static void
find_edges (struct request *req)
{
  uint64_t end = request_end_padded (req);
  uint32_t head = req->off & PAGE_MASK;

  memset (req->edge, 0, sizeof req->edge);
  if (!req->zero)
    return;
  if (head != 0 || end - req->off < PAGE_BYTES) {
    req->edge[0].pgno = req->off >> PAGE_SHIFT;
    req->edge[0].in_page = head;
    req->edge[0].bytes = (uint32_t) min_u64 (PAGE_BYTES - head, req->bytes);
  }
  if ((end & PAGE_MASK) != 0 &&
      (req->edge[0].bytes == 0 || end >> PAGE_SHIFT != req->edge[0].pgno)) {
    req->edge[1].pgno = end >> PAGE_SHIFT;
    req->edge[1].bytes = end & PAGE_MASK;
  }
}

void
request_begin (struct request *req)
{
  struct object *o = req->o;
  uint64_t first = req->off / SHARD_BYTES;
  uint64_t last = (req->off + req->bytes - 1) / SHARD_BYTES;

  atomic_init (&req->overtaken, false);
  req->deadline_ns = 0;
  req->units_wait_ns = UNITS_WAIT_NS;
  req->mc.nr_blks = 0;
  req->cannot_help = false;
  clear_marks (req);
  find_edges (req);
  req->nr_entries = (unsigned) min_u64 (last - first + 1, o->nr_shards);
  for (unsigned i = 0; i < req->nr_entries; i++) {
    struct shard *shard = &o->shards[(first + i) & (o->nr_shards - 1)];
    struct entry *e = &req->entries[i];

    LOCK_SCOPE (&shard->lock);
    e->req = req;
    e->next = NULL;
    e->prev = shard->last;
    if (e->prev != NULL)
      e->prev->next = e;
    else
      shard->first = e;
    shard->last = e;
  }
  req->batch =
      o->pool != NULL && !object_is_durable (o) ? vbatch_get (o->pool) : NULL;
}

void
request_use_batch (struct request *req, bool use)
{
  struct object *o = req->o;

  if (!object_is_durable (o) || o->pool == NULL || use == (req->batch != NULL))
    return;
  if (!use)
    vbatch_put (req->batch);
  req->batch = use ? vbatch_get (o->pool) : NULL;
}

/* Through the log's end, and not only the request's own records: what it found
 * done already, as a trim that found holes, or had done by others, must not be
 * lost either.
 */
static int
wait_for_reply (struct object *o, bool fua)
{
  if (!object_is_durable (o))
    return 0;
  if ((fua || o->strict) && !SABOTAGE (ack_before_log))
    return flush_commit (o->fl, flush_tail (o->fl));
  return o->staged ? 0 : flush_written (o->fl, flush_tail (o->fl));
}

int
request_end (struct request *req, int err, bool fua)
{
  struct object *o = req->o;
  uint64_t first = req->off / SHARD_BYTES;

  vbatch_put (req->batch);
  if (req->mc.nr_blks > 0)
    request_put_nodes (req);
  for (unsigned i = 0; i < req->nr_entries; i++) {
    struct shard *shard = &o->shards[(first + i) & (o->nr_shards - 1)];
    struct entry *e = &req->entries[i];

    LOCK_SCOPE (&shard->lock);
    *(e->prev != NULL ? &e->prev->next : &shard->first) = e->next;
    *(e->next != NULL ? &e->next->prev : &shard->last) = e->prev;
  }
  return err ? err : wait_for_reply (o, fua);
}

int
strategy_flush (struct object *o, const atomic_bool *fenced)
{
  int err = wait_for_reply (o, true);

  return atomic_load (&o->dead) || atomic_load (fenced) ? ESHUTDOWN : err;
}

int
request_wait_charges (struct request *req, uint64_t nr)
{
  struct object *o = req->o;
  bool had_batch = req->batch != NULL;
  int err;

  if (req->deadline_ns == 0)
    req->deadline_ns = env_now_ns () + CHARGE_WAIT_NS;
  /* Others go on meanwhile. */
  vbatch_put (req->batch);
  err = space_charge_wait (o->space, nr, req->deadline_ns);
  req->batch = had_batch ? vbatch_get (o->pool) : NULL;
  return err;
}

int
request_may_publish (const struct request *req)
{
  if (atomic_load (&req->o->dead) || atomic_load (req->fenced))
    return ESHUTDOWN;
  return 0;
}

/* ---- overtaking ---- */

int
request_help_older (struct request *req, pgno_t pgno, struct freed *freed)
{
  uint64_t shard = pgno / SHARD_PAGES;

  for (struct entry *e = freed->shard->first; e->req != req; e = e->next) {
    struct request *older = e->req;
    uint64_t first = older->off / SHARD_BYTES;
    uint64_t last = (older->off + older->bytes - 1) / SHARD_BYTES;
    uint64_t charged = 0, needed;
    int err;

    if (!older->zero || shard < first || shard > last ||
        older->done[shard - first] != DONE_NOT ||
        request_may_publish (older) != 0)
      continue;
    err = zero_shard (older, shard, freed, &charged, &needed);
    freed->nr_charges += charged;
    if (err == EAGAIN && freed->nr_missing > 0 && !req->cannot_help) {
      freed->missing_to_help = true;
      return EAGAIN;
    }
    freed->nr_missing = 0;
    /* It cannot be made to wait here; it is told when it comes. */
    if (err)
      older->done[shard - first] = (uint8_t) (err == EAGAIN ? ENOSPC : err);
  }
  return 0;
}

/* Mark sectors [first, end) of the object in a write. */
static void
mark_write (struct request *older, uint64_t first, uint64_t end)
{
  uint64_t base = mark_base (older);
  uint64_t own_end = ((older->off + older->bytes - 1) >> SECTOR_SHIFT) + 1;

  first = max_u64 (first, older->off >> SECTOR_SHIFT);
  end = min_u64 (end, own_end);
  if (first >= end)
    return;
  atomic_store (&older->overtaken, true);
  for (; first < end; first++)
    older->marks[(first - base) / 64] |= UINT64_C (1) << ((first - base) % 64);
}

static void
mark_edge (struct request *older, struct edge *edge, uint64_t first,
           uint64_t end)
{
  uint64_t base = edge->pgno << (PAGE_SHIFT - SECTOR_SHIFT);

  if (edge->bytes == 0)
    return;
  for (unsigned i = 0; i < PAGE_BYTES / SECTOR_BYTES; i++)
    if (base + i >= first && base + i < end) {
      edge->marks |= 1u << i;
      atomic_store (&older->overtaken, true);
    }
}

void
request_mark_older (struct request *req, uint64_t off, uint64_t bytes)
{
  struct shard *shard = shard_of (req->o, off >> PAGE_SHIFT);
  uint64_t first = (off + SECTOR_BYTES - 1) >> SECTOR_SHIFT;
  uint64_t end = (off + bytes) >> SECTOR_SHIFT;

  /* The object's end is where its last sector ends, however short. */
  if (off + bytes == req->o->size_bytes)
    end = (off + bytes + SECTOR_BYTES - 1) >> SECTOR_SHIFT;
  for (struct entry *e = shard->first; e->req != req; e = e->next) {
    if (!e->req->zero) {
      mark_write (e->req, first, end);
      continue;
    }
    mark_edge (e->req, &e->req->edge[0], first, end);
    mark_edge (e->req, &e->req->edge[1], first, end);
  }
}

unsigned
request_marks (const struct request *req, pgno_t pgno)
{
  uint64_t base = mark_base (req);
  uint64_t first = pgno << (PAGE_SHIFT - SECTOR_SHIFT);
  uint64_t own_end = ((req->off + req->bytes - 1) >> SECTOR_SHIFT) + 1;
  unsigned marks = 0;

  if (!atomic_load (&req->overtaken))
    return 0;
  if (req->zero) {
    for (unsigned i = 0; i < 2; i++)
      if (req->edge[i].bytes > 0 && req->edge[i].pgno == pgno)
        marks |= req->edge[i].marks;
    return marks;
  }
  for (unsigned i = 0; i < PAGE_BYTES / SECTOR_BYTES; i++) {
    uint64_t sector = first + i;

    if (sector >= req->off >> SECTOR_SHIFT && sector < own_end &&
        req->marks[(sector - base) / 64] >> ((sector - base) % 64) & 1)
      marks |= 1u << i;
  }
  return marks;
}
