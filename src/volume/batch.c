/* SPDX-License-Identifier: BSD-2-Clause */
/* Transfers under way together: a pool of batches, each with an io_uring and
 * a bounce buffer of its own.
 *
 *   vpool --> free list --> vbatch --> vbatch ...
 *               vbatch: ring | bounce | slots[depth]
 *               slot:   io, fd, pos of io's first byte, retries
 *
 * States of a slot:
 *
 *   free --> taken   [vbatch_start_fd]: until vbatch_wait () puts a request
 *                     for it into the ring; with the sync engine it is run
 *                     to its end at once
 *   taken -> taken   [slot_advance]: short, EINTR, EAGAIN: the rest again;
 *                     one that stopped inside an element of iov goes on with
 *                     the rest of that element, alone, and then with the
 *                     elements behind it, so that no iov is copied or changed
 *   taken -> free    [slot_over]: all bytes moved, or an error
 *
 * I1. In vbatch_wait () a taken slot has exactly one request in its ring:
 *     queued, with the kernel, or completed and not yet seen.  So depth
 *     entries suffice.
 * I2. nr_pending is the number of taken slots; it is 0 outside
 *     vbatch_get () ... vbatch_wait (), and always 0 for the sync engine.
 * I3. No buffer is given back while the kernel may still use it: even when
 *     the ring itself fails, what the kernel has taken is waited for, and
 *     only the rest is done synchronously.
 * I4. Nothing is allocated after vpool_create ().
 *
 * Locks: pool.lock (LOCK_IO) guards the free list.  A batch itself belongs to
 * the thread that got it and has no lock.
 *
 * A ring of its own for each batch, and not one for all, because the thread
 * that submits is the one that waits: no lock, no hand-over, no thread that
 * would have to be woken first.  And the ring is for what is under way
 * together: a transfer that is alone in its batch is a plain preadv2 or
 * pwritev2, one call and no ring.  Nothing here orders transfers, not even
 * those of one batch to one place.
 */

#include <config.h>

#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>

#include "env.h"
#include "lock.h"
#include "medium.h"
#include "task.h"

/* Rounds in which a transfer may get nowhere before it is given up. */
#define RETRIES_MAX 1000
#define NAP_NS      NS_PER_MS
/* At most this much in one request: lengths there have 32 bits. */
#define REQUEST_BYTES_MAX (UINT32_C (1) << 30)

struct slot {
  struct vio *io; /* NULL: free */
  int fd;
  uint64_t pos; /* in fd, of io's first byte */
  unsigned nr_retries;
  struct iovec rest; /* what a request under way points to */
};

struct vbatch {
  struct vpool *pool;  /* [const] NULL: on the stack of vio_run () */
  struct vbatch *next; /* [pool.lock] in the free list */
  bool uring;          /* false: sync engine */
  struct io_uring ring;
  void *bounce; /* [const] */
  unsigned nr_pending;
  struct slot slots[VIO_DEPTH_MAX];
};

struct vpool {
  unsigned nr;         /* [const] */
  size_t bounce_bytes; /* [const] */
  unsigned depth;      /* [const] transfers under way in one batch */
  bool uring;          /* [const] */
  lock_t lock;
  cond_t returned;      /* [lock] a batch came back, and somebody waits */
  struct vbatch *free;  /* [lock] */
  unsigned nr_used;     /* [lock] */
  unsigned nr_waiting;  /* [lock] */
  struct vbatch *batch; /* [const] all of them */
};

/* ---- one transfer ---- */

static void
nap (void)
{
  struct timespec ts = { .tv_nsec = NAP_NS };

  nanosleep (&ts, NULL);
}

static bool
slot_over (struct slot *s, int error)
{
  struct vio *io = s->io;

  s->io = NULL;
  vio_finish (io, error);
  return true;
}

/* A request of the slot has ended: bytes moved, or a negative errno.  Returns
 * true when the transfer is over, false when its rest must be requested.
 */
static bool
slot_advance (struct slot *s, ssize_t res)
{
  struct vio *io = s->io;
  size_t before = io->done;

  if (res < 0 && res != -EINTR && res != -EAGAIN)
    return slot_over (s, (int) -res);
  if (res == 0) /* the medium ends before the volume does */
    return slot_over (s, EIO);
  if (res > 0) {
    assert ((size_t) res <= io->bytes - io->done);
    io->done += (size_t) res;
    if (io->done == io->bytes)
      return slot_over (s, 0);
    /* Past the page cache a request must begin on a block of the medium. */
    if (io->volume->direct && !io->cached)
      io->done &= ~(size_t) PAGE_MASK;
  }
  if (io->done > before) {
    s->nr_retries = 0;
    return false;
  }
  if (++s->nr_retries > RETRIES_MAX)
    return slot_over (s, EIO);
  if (res == -EAGAIN)
    nap ();
  return false;
}

/* What the next request moves: some whole elements of io's iov, or one piece
 * in s->rest.
 */
static const struct iovec *
slot_rest (struct slot *s, unsigned *nrp)
{
  const struct vio *io = s->io;
  unsigned i;

  s->rest = vio_rest (io, io->done, &i);
  if (io->iov != NULL && s->rest.iov_base == io->iov[i].iov_base) {
    *nrp = io->nr_iov - i;
    return &io->iov[i];
  }
  s->rest.iov_len = min_u64 (s->rest.iov_len, REQUEST_BYTES_MAX);
  *nrp = 1;
  return &s->rest;
}

/* ---- the engine without io_uring ---- */

static void
sync_run (struct slot *s)
{
  bool over;

  do {
    unsigned nr;
    const struct iovec *iov = slot_rest (s, &nr);
    off_t pos = (off_t) (s->pos + s->io->done);
    ssize_t n;

    if (s->io->op == VIO_READ)
      n = preadv2 (s->fd, iov, (int) nr, pos, 0);
    else
      n = pwritev2 (s->fd, iov, (int) nr, pos, 0);
    over = slot_advance (s, n < 0 ? -errno : n);
  } while (!over);
}

static void
sync_run_all (struct vbatch *b)
{
  for (unsigned i = 0; i < b->pool->depth; i++)
    if (b->slots[i].io != NULL)
      sync_run (&b->slots[i]);
  b->nr_pending = 0;
}

void
vio_run (struct vio *io)
{
  struct vbatch batch;

  /* Of its slots only the first is used, and all of them are large. */
  batch.uring = false;
  batch.nr_pending = 0;
  batch.slots[0].io = NULL;
  vio_start (&batch, io);
  assert (batch.nr_pending == 0);
}

/* ---- the engine with io_uring ---- */

static void
uring_queue (struct vbatch *b, struct slot *s)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&b->ring);
  unsigned nr;
  const struct iovec *iov = slot_rest (s, &nr);
  uint64_t pos = s->pos + s->io->done;
  bool read = s->io->op == VIO_READ;

  assert (sqe != NULL); /* I1 */
  if (iov != &s->rest && read)
    io_uring_prep_readv (sqe, s->fd, iov, nr, pos);
  else if (iov != &s->rest)
    io_uring_prep_writev (sqe, s->fd, iov, nr, pos);
  else if (read)
    io_uring_prep_read (sqe, s->fd, iov->iov_base, (unsigned) iov->iov_len,
                        pos);
  else
    io_uring_prep_write (sqe, s->fd, iov->iov_base, (unsigned) iov->iov_len,
                         pos);
  io_uring_sqe_set_data (sqe, s);
}

static void
uring_reap (struct vbatch *b)
{
  struct io_uring_cqe *cqe;

  while (io_uring_peek_cqe (&b->ring, &cqe) == 0) {
    struct slot *s = io_uring_cqe_get_data (cqe);
    int res = cqe->res;

    io_uring_cqe_seen (&b->ring, cqe);
    if (slot_advance (s, res))
      b->nr_pending--;
    else
      uring_queue (b, s);
  }
}

/* The ring takes no requests any more, which should not happen.  Wait for
 * what the kernel has (I3), do the rest here, and go on without the ring.
 */
static void
uring_give_up (struct vbatch *b, int error)
{
  log_write (LOG_WARNING,
             "io_uring failed: %s; this batch goes on with preadv2/pwritev2",
             strerror (error));
  while (b->nr_pending > io_uring_sq_ready (&b->ring)) {
    nap ();
    uring_reap (b);
  }
  io_uring_queue_exit (&b->ring);
  b->uring = false;
  sync_run_all (b);
}

static void
uring_round (struct vbatch *b)
{
  int ret = io_uring_submit_and_wait (&b->ring, 1);

  uring_reap (b);
  switch (ret < 0 ? -ret : 0) {
  case 0:
  case EINTR:
    break;
  case EAGAIN:
  case EBUSY:
  case ENOMEM: /* the kernel is short of memory for the moment */
    nap ();
    break;
  default:
    uring_give_up (b, -ret);
  }
}

/* A ring that can read and write, else the errno.  (READV and WRITEV are
 * older than the two that are asked for.)
 */
static int
uring_open (struct io_uring *ring, unsigned depth)
{
  struct io_uring_probe *probe;
  int ret = io_uring_queue_init (depth, ring, 0);
  bool able;

  if (ret < 0)
    return -ret;
  probe = io_uring_get_probe_ring (ring);
  able = probe != NULL && io_uring_opcode_supported (probe, IORING_OP_READ) &&
         io_uring_opcode_supported (probe, IORING_OP_WRITE);
  io_uring_free_probe (probe);
  if (able)
    return 0;
  io_uring_queue_exit (ring);
  return ENOSYS;
}

/* ---- batches ---- */

struct vbatch *
vbatch_get (struct vpool *pool)
{
  struct vbatch *b;

  LOCK_SCOPE (&pool->lock);
  while (pool->free == NULL) {
    pool->nr_waiting++;
    cond_wait (&pool->returned, &pool->lock);
    pool->nr_waiting--;
  }
  b = pool->free;
  pool->free = b->next;
  pool->nr_used++;
  return b;
}

void
vbatch_put (struct vbatch *b)
{
  struct vpool *pool;

  if (b == NULL)
    return;
  assert (b->nr_pending == 0);
  pool = b->pool;
  LOCK_SCOPE (&pool->lock);
  b->next = pool->free;
  pool->free = b;
  pool->nr_used--;
  if (pool->nr_waiting > 0)
    cond_broadcast (&pool->returned);
}

void *
vbatch_bounce (struct vbatch *b)
{
  return b->bounce;
}

unsigned
vbatch_depth (const struct vbatch *b)
{
  return b->pool->depth;
}

size_t
vpool_bounce_bytes (const struct vpool *pool)
{
  return pool->bounce_bytes;
}

void
vbatch_start_fd (struct vbatch *b, struct vio *io, int fd, uint64_t pos)
{
  struct slot *s = b->slots;

  assert (!b->uring || b->nr_pending < b->pool->depth);
  while (s->io != NULL)
    s++;
  *s = (struct slot){ .io = io, .fd = fd, .pos = pos };
  if (b->uring)
    b->nr_pending++;
  else
    sync_run (s);
}

void
vbatch_wait (struct vbatch *b)
{
  /* For one alone this thread would only sleep beside the ring. */
  if (b->nr_pending == 1)
    sync_run_all (b);
  for (unsigned i = 0; b->nr_pending > 0 && i < b->pool->depth; i++)
    if (b->slots[i].io != NULL)
      uring_queue (b, &b->slots[i]);
  while (b->nr_pending > 0)
    uring_round (b);
}

/* ---- the pool ---- */

static void
batch_close (struct vbatch *b)
{
  if (b->uring)
    io_uring_queue_exit (&b->ring);
  b->uring = false;
  if (b->bounce != NULL)
    munmap (b->bounce, b->pool->bounce_bytes);
  b->bounce = NULL;
}

static int
batch_open (struct vbatch *b, struct vpool *pool, bool uring)
{
  int err;

  b->pool = pool;
  if (uring) {
    err = uring_open (&b->ring, pool->depth);
    if (err != 0)
      return err;
    b->uring = true;
  }
  if (pool->bounce_bytes > 0) {
    void *p = mmap (NULL, pool->bounce_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p == MAP_FAILED) {
      err = errno;
      batch_close (b);
      return err;
    }
    b->bounce = p;
  }
  return 0;
}

/* All batches with this engine, or none. */
static int
pool_fill (struct vpool *pool, bool uring)
{
  for (unsigned i = 0; i < pool->nr; i++) {
    struct vbatch *b = &pool->batch[i];
    int err = batch_open (b, pool, uring);

    if (err != 0) {
      while (i-- > 0)
        batch_close (&pool->batch[i]);
      return err;
    }
    b->next = i > 0 ? &pool->batch[i - 1] : NULL;
  }
  pool->free = &pool->batch[pool->nr - 1];
  pool->uring = uring;
  return 0;
}

static int
pool_fill_by_engine (struct vpool *pool, enum vpool_engine engine)
{
  int err;

  if (engine == VPOOL_AUTO && task_table != NULL)
    engine = VPOOL_SYNC; /* simulated: nothing is for the kernel */
  if (engine != VPOOL_SYNC) {
    err = pool_fill (pool, true);
    if (err == 0 || engine == VPOOL_URING)
      return err;
    log_write (LOG_INFO, "no io_uring here (%s): using preadv2/pwritev2",
               strerror (err));
  }
  return pool_fill (pool, false);
}

int
vpool_create (unsigned nr, size_t bounce_bytes, enum vpool_engine engine,
              struct vpool **poolp)
{
  return vpool_create_deep (nr, bounce_bytes, engine, VIO_MAX, poolp);
}

int
vpool_create_deep (unsigned nr, size_t bounce_bytes, enum vpool_engine engine,
                   unsigned depth, struct vpool **poolp)
{
  struct vpool *pool;
  int err;

  assert (depth >= 1 && depth <= VIO_DEPTH_MAX);
  if (nr == 0 || bounce_bytes > SIZE_MAX - PAGE_MASK)
    return EINVAL;
  pool = calloc (1, sizeof *pool);
  if (pool == NULL)
    return ENOMEM;
  pool->nr = nr;
  pool->depth = depth;
  pool->bounce_bytes = (bounce_bytes + PAGE_MASK) & ~(size_t) PAGE_MASK;
  pool->batch = calloc (nr, sizeof *pool->batch);
  err = pool->batch != NULL ? pool_fill_by_engine (pool, engine) : ENOMEM;
  if (err != 0) {
    free (pool->batch);
    free (pool);
    return err;
  }
  lock_init (&pool->lock, LOCK_IO, "vpool");
  cond_init (&pool->returned);
  *poolp = pool;
  return 0;
}

void
vpool_destroy (struct vpool *pool)
{
  if (pool == NULL)
    return;
  assert (pool->nr_used == 0);
  for (unsigned i = 0; i < pool->nr; i++)
    batch_close (&pool->batch[i]);
  cond_destroy (&pool->returned);
  lock_destroy (&pool->lock);
  free (pool->batch);
  free (pool);
}

const char *
vpool_engine_name (const struct vpool *pool)
{
  return pool->uring ? "io_uring" : "sync";
}

unsigned
vpool_nr (const struct vpool *pool)
{
  return pool->nr;
}

unsigned
vpool_nr_used (struct vpool *pool)
{
  LOCK_SCOPE (&pool->lock);
  return pool->nr_used;
}
