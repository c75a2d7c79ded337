/* SPDX-License-Identifier: BSD-2-Clause */
/* The log in memory: records and images on their way into the ring.
 *
 *   lsn      17        18        19        20
 *          | REDO    | UNDO    | UNDO    | REDO .. open |
 *            records   a node    a node    records
 *
 * A block is a buffer of type UNDO from its birth: tagged in staging, dirty,
 * in the order of lsns on its list, and one for every lsn.  One REDO block at
 * a time is open and takes records; images go into blocks of their own.  The
 * commit (commit.c) closes the open block, so that each group begins on a
 * fresh one, seals the blocks and writes them.
 *
 * I1. A block's place in the ring is never written before the superblock that
 *     frees it is durable (commit.c looks again before it writes).
 * I2. A record's block tells at least the mark as of the record: if the block
 *     that it names was another page's before, the record that says so is
 *     below.  Also of a block that nobody has sealed (staging).
 *     It also tells the superblock as of the record: if the block that it names
 *     was let go by that one, an older one does not serve.
 * I3. What the next process finds of a block in staging: a REDO block up to
 *     the first record that is not whole; an UNDO block if bytes says that its
 *     image was copied.
 *
 * Locks: log_lock guards the end of the log.  A record and its change happen
 * under the lock that guards what is changed, so records of one page follow
 * each other as its changes did.
 */

#include <config.h>

#include "flush-impl.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"

/* What a block may say of how far the log is durable. */
static uint64_t
mark_now (struct flush *fl)
{
  if (SABOTAGE (mark_too_high))
    return atomic_load (&fl->written_lsn);
  return fl->hold_mark ? fl->held_mark : atomic_load (&fl->durable_lsn);
}

/* Lock: needs log_lock, or the block is closed. */
static void
tell_marks (struct flush *fl, struct disk_log *log)
{
  log->durable = mark_now (fl);
  log->sequence = (uint32_t) atomic_load (&fl->sequence);
}

/* A new block at the log's end.  Lock: needs log_lock. */
static struct buf *
new_block (struct flush *fl, enum disk_log_kind kind)
{
  uint64_t lsn = atomic_load (&fl->next_lsn);
  struct buf *b = buf_undo_new (fl->bs, lsn);
  struct disk_log *log = (struct disk_log *) b->data;

  log->magic = DISK_LOG_MAGIC;
  log->version = 1;
  log->kind = kind;
  log->lsn = lsn;
  log->epoch = fl->epoch;
  tell_marks (fl, log);
  memcpy (log->uuid, fl->uuid, sizeof log->uuid);
  atomic_store (&fl->next_lsn, lsn + 1);
  return b;
}

/* Lock: needs log_lock. */
static void
close_block (struct flush *fl)
{
  fl->open = NULL;
}

uint64_t
undo_close_block (struct flush *fl)
{
  LOCK_SCOPE (&fl->log_lock);
  close_block (fl);
  return atomic_load (&fl->next_lsn);
}

void
undo_empty_block (struct flush *fl)
{
  LOCK_SCOPE (&fl->log_lock);
  close_block (fl);
  (void) new_block (fl, DISK_LOG_REDO);
}

struct buf *
undo_image (struct flush *fl, const struct buf *b, bool ref)
{
  struct disk_log *log;
  struct buf *image;

  LOCK_SCOPE (&fl->log_lock);
  image = new_block (fl, DISK_LOG_UNDO);
  log = (struct disk_log *) image->data;
  log->blk = b->blk;
  memcpy (log->body, b->data, DISK_NODE_USED);
  atomic_thread_fence (memory_order_release);
  log->bytes = DISK_NODE_USED; /* I3 */
  atomic_store (&fl->content_lsn, image->blk + 1);
  if (ref)
    buf_ref (image);
  return image;
}

static uint32_t
rec_crc (uint64_t lsn, const struct disk_rec *rec)
{
  uint32_t crc = crc32c (0, &lsn, sizeof lsn);

  return crc32c (crc, (const char *) rec + sizeof rec->crc,
                 rec->bytes - sizeof rec->crc);
}

void
undo_append (struct flush *fl, struct change *ch, struct disk_rec *rec,
             const void *more, uint32_t more_bytes)
{
  uint32_t bytes = (sizeof *rec + more_bytes + 7) & ~7u;
  struct disk_log *log;
  uint8_t *to;

  assert (bytes <= DISK_LOG_BODY);
  rec->bytes = (uint16_t) bytes;
  if (ch->quiet)
    return;
  LOCK_SCOPE (&fl->log_lock);
  if (fl->open != NULL && bytes > DISK_LOG_BODY - fl->open_bytes)
    close_block (fl);
  if (fl->open == NULL) {
    fl->open = new_block (fl, DISK_LOG_REDO);
    fl->open_bytes = 0;
  }
  log = (struct disk_log *) fl->open->data;
  to = log->body + fl->open_bytes; /* zeros so far */
  memcpy (to, rec, sizeof *rec);
  if (more_bytes > 0)
    memcpy (to + sizeof *rec, more, more_bytes);
  rec->crc = rec_crc (fl->open->blk, (const struct disk_rec *) to);
  memcpy (to, &rec->crc, sizeof rec->crc);
  fl->open_bytes += bytes;
  tell_marks (fl, log); /* I2 */
  if (rec->type == DISK_REC_MAP || rec->type == DISK_REC_ZERO ||
      rec->type == DISK_REC_FREE)
    atomic_fetch_add (&fl->pages, rec->nr);
  log->bytes = fl->open_bytes;
  ch->lsn = fl->open->blk + 1;
  if (atomic_load (&fl->content_lsn) < ch->lsn)
    atomic_store (&fl->content_lsn, ch->lsn);
}

void
undo_seal (struct flush *fl, struct buf *b)
{
  struct disk_log *log = (struct disk_log *) b->data;

  tell_marks (fl, log);
  log->crc = crc32c (0, log, DISK_CRC_OFF);
  if (log->durable > fl->told_lsn)
    fl->told_lsn = log->durable;
}

static bool
all_zero (const uint8_t *p, size_t bytes)
{
  while (bytes > 0 && *p == 0)
    p++, bytes--;
  return bytes == 0;
}

const char *
undo_error (const struct disk_log *log, const uint8_t *uuid)
{
  if (log->magic != DISK_LOG_MAGIC)
    return "is no log block";
  if (log->crc != crc32c (0, log, DISK_CRC_OFF) && !SABOTAGE (no_log_crc))
    return "its checksum is wrong";
  if (log->version != 1)
    return "its version is unknown";
  if (memcmp (log->uuid, uuid, sizeof log->uuid) != 0)
    return "belongs to another store";
  /* The next open has one epoch more. */
  if (log->lsn >= SUPER_COUNT_MAX || log->epoch >= SUPER_COUNT_MAX - 1)
    return "its numbers are impossible";
  if (log->durable > log->lsn)
    return "its durable mark is above itself";
  if (!all_zero (log->seal, sizeof log->seal))
    return "its spare bytes are not zero";
  if (log->kind == DISK_LOG_UNDO)
    return log->bytes == DISK_NODE_USED && log->blk != 0
               ? NULL
               : "its image is not whole";
  if (log->kind != DISK_LOG_REDO || log->blk != 0)
    return "its kind is unknown";
  if (log->bytes > DISK_LOG_BODY || log->bytes % 8 != 0)
    return "its length is wrong";
  return NULL;
}

const struct disk_rec *
undo_next_rec (const struct disk_log *log, uint32_t end, uint32_t *pos)
{
  const struct disk_rec *rec = (const struct disk_rec *) (log->body + *pos);

  if (end > DISK_LOG_BODY || *pos > end || end - *pos < sizeof *rec)
    return NULL;
  if (rec->bytes < sizeof *rec || rec->bytes % 8 != 0 ||
      rec->bytes > end - *pos || rec->crc != rec_crc (log->lsn, rec))
    return NULL;
  *pos += rec->bytes;
  return rec;
}
