/* SPDX-License-Identifier: BSD-2-Clause */
/* A store that keeps the contract in the simplest way there is: one volume
 * that is a log and never reused.  With it the engine is shown to accept what
 * is right and to find what is wrong (toy_error), before and beside the real
 * store.
 *
 *   | head | data .. | head | head | data .. | head ...
 *     seq 0            1      2                3        epochs never fall
 *
 * A head says what happened (pages, a new object, one removed, a new epoch)
 * and has CRCs of itself and of the data behind it.  An open reads heads until
 * one is not good, writes a head with a new epoch there, and flushes: what lay
 * behind it is of an older epoch and never counts again.
 *
 * One lock is held over each write, so that a later record is never on the
 * medium for sure when an earlier one is not.  Flushes are made by a task of
 * its own, for all who wait.
 */

#include <config.h>

#include "subject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "lock.h"
#include "model.h"
#include "task.h"

#define TOY_BLOCKS    4096u
#define TOY_PAGES_MAX 1024u
#define TOY_MAGIC     UINT64_C (0x796f74)
#define RUN_MAX       64u

enum head_kind {
  HEAD_PAGES,
  HEAD_ZEROS,
  HEAD_CREATE,
  HEAD_REMOVE,
  HEAD_EPOCH
};

struct head {
  uint64_t magic, seq, epoch;
  uint32_t kind, name, first, nr; /* pages */
  uint32_t data_crc, crc;
  uint8_t spare[PAGE_BYTES - 48];
};

struct toy {
  struct volume *v;
  lock_t lock;
  cond_t changed;
  struct task *syncer;
  uint64_t wanted, begun, synced; /* [lock] flushes */
  bool closing;                   /* [lock] */
  int error;                      /* [lock] of a flush, or of the open */
  uint64_t seq, epoch;            /* [lock] */
  uint32_t end;                   /* [lock] the next block of the log */
  uint32_t nr_pages[MODEL_NAMES]; /* [lock] 0: there is none */
  uint32_t block[MODEL_NAMES][TOY_PAGES_MAX]; /* [lock] 0: a hole */
  uint8_t *pending; /* [lock] TOY_EARLY_REPLY: not written yet */
  uint32_t pending_at, nr_pending;
};

enum toy_error toy_error;

static int
toy_format (struct volume *const *v, unsigned nr)
{
  (void) v;
  (void) nr;
  return 0;
}

/* ---- flushing ---- */

static void
sync_main (void *arg)
{
  struct toy *t = arg;

  lock_acquire (&t->lock);
  while (!t->closing) {
    uint64_t target = t->wanted;
    int err;

    if (t->synced == target) {
      cond_wait (&t->changed, &t->lock);
      continue;
    }
    t->begun = target;
    lock_release (&t->lock);
    err = toy_error == TOY_NO_FLUSH ? 0 : volume_flush (t->v);
    lock_acquire (&t->lock);
    if (t->error == 0) /* one that failed is final */
      t->error = err;
    t->synced = target;
    cond_broadcast (&t->changed);
  }
  lock_release (&t->lock);
}

static int
put_pending_locked (struct toy *t)
{
  int err = 0;

  if (t->nr_pending > 0)
    err = volume_write (t->v, (uint64_t) t->pending_at * PAGE_BYTES, t->pending,
                        (size_t) t->nr_pending * PAGE_BYTES);
  free (t->pending);
  t->pending = NULL;
  t->nr_pending = 0;
  return err;
}

static int
toy_sync (struct toy *t)
{
  uint64_t mine;
  int err;

  LOCK_SCOPE (&t->lock);
  err = put_pending_locked (t);
  if (toy_error == TOY_EARLY_FLUSH && t->begun > t->synced)
    mine = t->begun;
  else
    mine = ++t->wanted;
  cond_broadcast (&t->changed);
  while (t->synced < mine)
    cond_wait (&t->changed, &t->lock);
  return err != 0 ? err : t->error;
}

/* ---- the log ---- */

/* What a good head says, to memory. */
static void
redo (struct toy *t, const struct head *h, uint32_t at)
{
  if (h->kind == HEAD_CREATE || h->kind == HEAD_REMOVE) {
    memset (t->block[h->name], 0, sizeof t->block[h->name]);
    t->nr_pages[h->name] = h->kind == HEAD_CREATE ? h->nr : 0;
  }
  for (uint32_t i = 0; h->kind <= HEAD_ZEROS && i < h->nr; i++)
    t->block[h->name][h->first + i] = h->kind == HEAD_PAGES ? at + 1 + i : 0;
  t->epoch = h->epoch;
  t->seq = h->seq + 1;
  t->end = at + 1 + (h->kind == HEAD_PAGES ? h->nr : 0);
}

static int
append_locked (struct toy *t, enum head_kind kind, unsigned name,
               uint32_t first, uint32_t nr, const void *data)
{
  size_t data_bytes = data != NULL ? (size_t) nr * PAGE_BYTES : 0;
  uint8_t *buf = calloc (1, PAGE_BYTES + data_bytes);
  struct head *h = (struct head *) buf;
  uint32_t at = t->end;
  int err = t->error != 0 ? t->error : put_pending_locked (t);

  if (buf == NULL)
    return ENOMEM;
  *h = (struct head){ TOY_MAGIC, t->seq, t->epoch, kind,
                      name,      first,  nr,       .data_crc = 0 };
  if (data != NULL) {
    memcpy (buf + PAGE_BYTES, data, data_bytes);
    h->data_crc = crc32c (0, data, data_bytes);
  }
  h->crc = crc32c (0, h, PAGE_BYTES);
  if (toy_error == TOY_EARLY_REPLY && data != NULL) {
    t->pending = buf;
    t->pending_at = at;
    t->nr_pending = 1 + nr;
    redo (t, h, at);
    return err;
  }
  if (err == 0)
    err = volume_write (t->v, (uint64_t) at * PAGE_BYTES, buf,
                        PAGE_BYTES + data_bytes);
  if (err == 0)
    redo (t, h, at);
  free (buf);
  return err;
}

/* Is there a good head at t->end? */
static bool
head_is_good (struct toy *t, struct head *h)
{
  static uint8_t data[RUN_MAX * PAGE_BYTES];
  uint32_t crc;

  t->error = volume_read (t->v, (uint64_t) t->end * PAGE_BYTES, h, PAGE_BYTES);
  if (t->error != 0)
    return false;
  crc = h->crc;
  h->crc = 0;
  if (h->magic != TOY_MAGIC || h->seq != t->seq ||
      crc != crc32c (0, h, PAGE_BYTES))
    return false;
  if (h->epoch < t->epoch && toy_error != TOY_NO_EPOCH)
    return false;
  if (h->kind != HEAD_PAGES || toy_error == TOY_NO_CRC)
    return true;
  t->error = volume_read (t->v, (uint64_t) (t->end + 1) * PAGE_BYTES, data,
                          (size_t) h->nr * PAGE_BYTES);
  return t->error == 0 &&
         h->data_crc == crc32c (0, data, (size_t) h->nr * PAGE_BYTES);
}

static int
toy_open (struct volume *const *v, unsigned nr, void **sp)
{
  struct toy *t = calloc (1, sizeof *t);
  struct head h;
  int err;

  (void) nr;
  if (t == NULL)
    return ENOMEM;
  t->v = v[0];
  lock_init (&t->lock, LOCK_STORE, "toy");
  cond_init (&t->changed);
  while (t->end < TOY_BLOCKS - RUN_MAX && head_is_good (t, &h))
    redo (t, &h, t->end);
  t->epoch++;
  err = append_locked (t, HEAD_EPOCH, 0, 0, 0, NULL);
  if (err == 0 && toy_error != TOY_NO_OPEN_FLUSH)
    err = volume_flush (t->v);
  if (err == 0)
    err = task_start ("toy sync", sync_main, t, &t->syncer);
  *sp = t;
  return err;
}

static int
toy_close (void *s)
{
  struct toy *t = s;
  int err = toy_sync (t);

  lock_acquire (&t->lock);
  t->closing = true;
  cond_broadcast (&t->changed);
  lock_release (&t->lock);
  task_join (t->syncer);
  volume_close (t->v);
  cond_destroy (&t->changed);
  lock_destroy (&t->lock);
  free (t);
  return err;
}

/* ---- requests ---- */

static int
change_names (struct toy *t, enum head_kind kind, unsigned name, uint32_t nr)
{
  int err;

  lock_acquire (&t->lock);
  err = append_locked (t, kind, name, 0, nr, NULL);
  lock_release (&t->lock);
  return err == 0 && toy_error != TOY_LAZY_NAMES ? toy_sync (t) : err;
}

static int
toy_create (void *s, unsigned name, uint32_t nr_pages, bool reserved)
{
  (void) reserved;
  return change_names (s, HEAD_CREATE, name, nr_pages);
}

static int
toy_remove (void *s, unsigned name)
{
  return change_names (s, HEAD_REMOVE, name, 0);
}

static int
toy_size (void *s, unsigned name, uint32_t *nr_pages)
{
  struct toy *t = s;

  if (t->nr_pages[name] == 0)
    return ENOENT;
  *nr_pages = t->nr_pages[name];
  return 0;
}

static int
read_page_locked (struct toy *t, unsigned name, uint32_t pgno, uint8_t *to)
{
  uint32_t block = t->block[name][pgno];

  if (block == 0) {
    memset (to, 0, PAGE_BYTES);
    return 0;
  }
  if (block >= t->pending_at && block < t->pending_at + t->nr_pending) {
    memcpy (to, t->pending + (block - t->pending_at) * PAGE_BYTES, PAGE_BYTES);
    return 0;
  }
  return volume_read (t->v, (uint64_t) block * PAGE_BYTES, to, PAGE_BYTES);
}

static int
toy_read (void *s, unsigned name, void *buf, uint64_t off, uint32_t bytes)
{
  struct toy *t = s;
  uint32_t first = (uint32_t) (off / PAGE_BYTES);
  int err = 0;

  LOCK_SCOPE (&t->lock);
  for (uint32_t i = 0; i < bytes / PAGE_BYTES && err == 0; i++)
    err =
        read_page_locked (t, name, first + i, (uint8_t *) buf + i * PAGE_BYTES);
  return err;
}

/* data NULL: zeros. */
static int
toy_put (struct toy *t, unsigned name, const void *data, uint64_t off,
         uint32_t bytes)
{
  uint32_t first = (uint32_t) (off / PAGE_BYTES);
  uint32_t nr = (uint32_t) ((off + bytes + PAGE_MASK) / PAGE_BYTES) - first;
  uint8_t *buf = malloc ((size_t) nr * PAGE_BYTES);
  int err = 0;

  if (buf == NULL)
    return ENOMEM;
  LOCK_SCOPE (&t->lock);
  for (uint32_t i = 0; i < nr && err == 0; i++)
    err = read_page_locked (t, name, first + i, buf + i * PAGE_BYTES);
  if (data != NULL)
    memcpy (buf + off % PAGE_BYTES, data, bytes);
  else
    memset (buf + off % PAGE_BYTES, 0, bytes);
  if (err == 0 && t->end > TOY_BLOCKS - 2 * RUN_MAX)
    err = ENOSPC; /* its log never ends */
  if (err == 0)
    err = append_locked (t, HEAD_PAGES, name, first, nr, buf);
  free (buf);
  return err;
}

static int
with_fua (struct toy *t, int err, bool fua)
{
  return err == 0 && fua && toy_error != TOY_FUA_IGNORED ? toy_sync (t) : err;
}

static int
toy_write (void *s, unsigned name, const void *buf, uint64_t off,
           uint32_t bytes, bool fua)
{
  return with_fua (s, toy_put (s, name, buf, off, bytes), fua);
}

static int
toy_trim (void *s, unsigned name, uint64_t off, uint32_t bytes, bool fua)
{
  return with_fua (s, toy_put (s, name, NULL, off, bytes), fua);
}

static int
toy_zero (void *s, unsigned name, uint64_t off, uint32_t bytes, bool may_hole,
          bool fua)
{
  (void) may_hole;
  return with_fua (s, toy_put (s, name, NULL, off, bytes), fua);
}

static int
toy_flush (void *s, unsigned name)
{
  (void) name;
  return toy_sync (s);
}

static int
toy_holes (void *s, unsigned name, uint32_t nr_pages, bool *hole)
{
  struct toy *t = s;

  LOCK_SCOPE (&t->lock);
  for (uint32_t i = 0; i < nr_pages; i++)
    hole[i] = t->block[name][i] == 0;
  return 0;
}

const struct subject toy_subject = {
  .name = "toy",
  .nr_volumes = 1,
  .nr_bases = 2,
  .nr_blocks = { TOY_BLOCKS },
  .fills = true,
  .format = toy_format,
  .open = toy_open,
  .close = toy_close,
  .create = toy_create,
  .remove = toy_remove,
  .size = toy_size,
  .read = toy_read,
  .write = toy_write,
  .trim = toy_trim,
  .zero = toy_zero,
  .flush = toy_flush,
  .holes = toy_holes,
};
