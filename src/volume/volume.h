/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes on media, behind one table of functions.
 *
 * A volume is a row of bytes that can be read and written in any order; it
 * does not know what they mean.  Offsets are in bytes from the start of the
 * volume's data (a volatile store's path has a label before them) and, like
 * lengths, multiples of PAGE_BYTES; the caller keeps them inside size_bytes.
 *
 * I/O goes in batches: take a batch from the pool, start up to VIO_MAX
 * transfers on any volumes, wait for all of them, put the batch back.
 *
 *   b = vbatch_get (pool);
 *   vio_start (b, &io[0]); vio_start (b, &io[1]);
 *   vbatch_wait (b);
 *   ... io[0].error, io[1].error ...
 *   vbatch_put (b);
 */

#ifndef FARPAGE_VOLUME_H
#define FARPAGE_VOLUME_H

#include <sys/uio.h>

#include "log.h"
#include "types.h"

struct vbatch;
struct volume;

enum vio_op {
  VIO_READ,
  VIO_WRITE
};

#define VIO_IOV_MAX 256 /* elements of one transfer */

/* One transfer.  The caller owns it and keeps it, and buf or iov and what it
 * points to, until vbatch_wait () has returned.
 */
struct vio {
  struct volume *volume;
  enum vio_op op;
  bool cached;  /* a read that may go through the page cache: see below */
  uint64_t off; /* bytes, PAGE_BYTES aligned */
  void *buf;    /* aligned to volume->align; not looked at if iov is set */
  size_t bytes; /* multiple of PAGE_BYTES, not 0 */
  /* NULL, or the pieces of memory that are moved one behind the other: each
   * aligned as buf must be, a multiple of PAGE_BYTES and not 0; bytes of them
   * all together.
   */
  const struct iovec *iov;
  unsigned nr_iov; /* 1 to VIO_IOV_MAX if iov is set */
  int error;       /* result: 0 or a positive errno, set when it is over */
  size_t done;     /* [volume] bytes over so far */
};

/* Cached reads: a path volume that is used past the page cache reads what is
 * asked for in this way through the page cache all the same; other volumes
 * make no difference.  Their memory needs no alignment, so no bounce buffer:
 * volume->align is for all other transfers.  A write takes what it overwrites
 * out of the page cache before and after, and a trim too; but a cached read,
 * or the kernel's reading ahead of one, that runs beside them may return old
 * bytes or a mixture, and in rare cases (the kernel could not take a page out)
 * may leave them in the cache.  So it is for callers that can tell, by a
 * check of what was read, and then read again past the cache.
 */

/* The seam.  A medium implements these; everybody else calls volume_* below.
 */
struct volume_ops {
  const char *kind; /* "memory", "file", "block", "overlay", "fault" */

  /* Begin a transfer.  Either it is over at once (error is set) or it is
   * pending in the batch until vbatch_wait ().  batch may be NULL if
   * !volume->batched.  Blocks: if !volume->batched, or if the batch is of the
   * sync engine.
   */
  void (*start) (struct volume *v, struct vbatch *batch, struct vio *io);

  /* As volume_flush ().  Of two at a time that cover one failure both must
   * fail.  Blocks: yes.
   */
  int (*flush) (struct volume *v);

  /* Give a range back to the medium; what it reads as afterwards is not
   * said.  EOPNOTSUPP: this medium cannot.  Blocks: yes.
   */
  int (*trim) (struct volume *v, uint64_t off, uint64_t bytes);

  void (*close) (struct volume *v);
};

struct volume {
  const struct volume_ops *ops;
  char *name;          /* [const] as the user gave it */
  uint64_t size_bytes; /* [const] of data, multiple of PAGE_BYTES */
  uint32_t align;      /* [const] of memory in transfers: 1 or PAGE_BYTES */
  bool batched;        /* [const] start needs a batch */
  bool checked;        /* [const] bytes leave this process's memory: verify */
  bool direct;         /* [const] past the page cache */
  bool sparse;         /* [const] freed runs go back by trim */
  bool readonly;       /* [const] writes are EROFS */
  atomic_bool flush_failed; /* for good: see volume_flush () */
  _Atomic uint64_t nr_errors;
  struct log_limit error_limit; /* [atomic] of messages about errors */
};

/* ---- opening.  Errors are told in the log, with the remedy, and returned
 * as a positive errno.
 */

/* Memory (memfd) of size_bytes (rounded down to pages), allocated now or
 * ENOMEM; with sparse, allocated when written and freed by trim: a write for
 * which the system has no memory wakes its OOM killer.
 */
extern int volume_open_memory (const char *name, uint64_t size_bytes,
                               bool sparse, struct volume **vp);

enum volume_direct {
  DIRECT_AUTO,
  DIRECT_YES,
  DIRECT_NO
};

struct volume_path_options {
  bool force;                /* overwrite what is there */
  bool sparse;               /* do not allocate a file's blocks */
  enum volume_direct direct; /* past the page cache: auto = where it works */
  uint64_t lock_wait_ns;     /* for another process to let go */
};

/* An existing regular file or block device, for a volatile store: locked for
 * this process alone, checked to be ours or empty (or force), labelled, and
 * a regular file's blocks allocated.  Errors: ENOENT, EISDIR, EACCES, EROFS,
 * EBUSY (locked), EEXIST (has other data, or a durable store), EINVAL (FIFO,
 * too small), ENOSPC, EIO.  Blocks: yes.
 */
extern int volume_open_path (const char *path,
                             const struct volume_path_options *options,
                             struct volume **vp);

/* ---- opening the volumes of a durable store, and making them ---- */

struct volume_store_options {
  bool readonly;             /* take no lock, change nothing */
  bool sparse;               /* give freed runs back by volume_trim () */
  enum volume_direct direct; /* past the page cache: auto = where it works */
  uint64_t lock_wait_ns;     /* for another process to let go */
  bool in_use; /* result of readonly: another process has it locked */
};

/* An existing regular file or block device, whatever it holds: offset 0 is its
 * first byte, size_bytes its size rounded down to pages.  Locked for this
 * process alone; nothing is written or allocated.  With readonly it is not
 * locked, writes are EROFS, trims EOPNOTSUPP, and flush has nothing to do.
 * Errors as volume_open_path () but EEXIST and ENOSPC.  Blocks: yes.
 */
extern int volume_open_store (const char *path,
                              struct volume_store_options *options,
                              struct volume **vp);

/* Format, volume by volume, each step on all of them before the next one:
 * volume_create_file () for those that are to be made, volume_open_store (),
 * volume_format_check (), volume_allocate (), volume_wipe (), and then the
 * superblocks.  On a volume that is no path the last three do nothing.
 * Blocks: yes.
 */

/* Make a regular file of size_bytes (rounded down to pages), for its owner
 * alone, allocated unless sparse; it and its name are on the medium on return.
 * On failure there is none.  EEXIST (whatever it is, also a symbolic link),
 * ENOENT, EACCES, EROFS, EINVAL (too small), ENOSPC, EFBIG, EIO.
 */
extern int volume_create_file (const char *path, uint64_t size_bytes,
                               bool sparse);

/* May what is on it be overwritten?  Yes if there is nothing that anybody
 * would miss, or the label of a volatile store.  Else EEXIST: a durable store,
 * a file system, a partition table, other data; with force it is told and
 * taken.  EIO.  Changes nothing.
 */
extern int volume_format_check (struct volume *v, bool force);

/* Give a regular file all its blocks.  ENOSPC, EOPNOTSUPP (the file system
 * cannot: told, with sparse=yes as the remedy), EROFS (readonly).
 */
extern int volume_allocate (struct volume *v);

/* Zeros over the first and the last MiB, where labels and signatures are; they
 * are on the medium on return.  No transfer is under way.  EIO, ENOSPC, EROFS
 * (readonly).
 */
extern int volume_wipe (struct volume *v);

/* ---- over another volume ---- */

/* What is written to it is kept in memory and forgotten at close; reads of
 * anything else come from inner, which is never written, flushed or trimmed.
 * Takes inner over (closes it with itself, but not when this fails).
 * Transfers are over when start returns; a batch is not needed.  size_bytes,
 * align, checked and direct are the inner volume's; it is not sparse.  A write
 * that finds no memory is EIO, and may have written some of its pages.
 * ENOMEM.
 */
extern int volume_open_overlay (struct volume *inner, struct volume **vp);

/* Forget what was written to it, and give inner back. */
extern struct volume *volume_overlay_detach (struct volume *v);

/* How many blocks (PAGE_BYTES) were written to it; to blks[], if not NULL, in
 * no order.  Nobody is at work.
 */
extern uint64_t volume_overlay_blocks (struct volume *v, uint64_t *blks);

/* Has a write failed for want of memory?  Above it that is a medium's error. */
extern bool volume_overlay_starved (struct volume *v);

/* A size in bytes below which a volume is refused: one stripe. */
#define VOLUME_BYTES_MIN (32 * PAGE_BYTES)

extern void volume_close (struct volume *v); /* NULL is fine */

/* Everything whose completion was seen before the call is on the medium when
 * it returns 0.  A flush that has failed is never made good by a later one,
 * for nobody knows what the kernel or the medium has dropped since: from then
 * on every write, trim and flush of this volume is EIO, until it is opened
 * anew.  Reads go on.  Lock: as vio_start ().  Blocks: yes.
 */
extern int volume_flush (struct volume *v);

/* EOPNOTSUPP: the medium cannot, or the volume is not sparse: then its space
 * was set aside at open and is kept.
 */
extern int volume_trim (struct volume *v, uint64_t off, uint64_t bytes);

/* ---- batches ---- */

#define VIO_MAX       4  /* transfers under way in one batch */
#define VIO_DEPTH_MAX 32 /* and of a deep pool, at most */

struct vpool;

enum vpool_engine {
  VPOOL_AUTO,
  VPOOL_URING,
  VPOOL_SYNC
};

/* A pool of nr batches, each with a page-aligned bounce buffer of that many
 * bytes, made (and touched) now.  VPOOL_AUTO takes io_uring where the kernel
 * has it and plain preadv2/pwritev2 where not; VPOOL_URING fails with the
 * kernel's errno.  Call it after the process's last fork.
 */
extern int vpool_create (unsigned nr, size_t bounce_bytes,
                         enum vpool_engine engine, struct vpool **poolp);
/* The same, with depth transfers under way in one batch, at most
 * VIO_DEPTH_MAX: for who is alone on the volumes and moves many small ones.
 */
extern int vpool_create_deep (unsigned nr, size_t bounce_bytes,
                              enum vpool_engine engine, unsigned depth,
                              struct vpool **poolp);
extern void vpool_destroy (struct vpool *pool); /* NULL is fine */
extern const char *vpool_engine_name (const struct vpool *pool);
extern unsigned vpool_nr (const struct vpool *pool);
extern unsigned vpool_nr_used (struct vpool *pool);

/* Waits while all are out, so: Lock: none is held.  Blocks: yes. */
extern struct vbatch *vbatch_get (struct vpool *pool);
extern void vbatch_put (struct vbatch *batch); /* NULL is fine */
extern void *vbatch_bounce (struct vbatch *batch);
extern unsigned vbatch_depth (const struct vbatch *batch);
extern size_t vpool_bounce_bytes (const struct vpool *pool);

/* The whole transfer in the calling thread, with no pool.  Blocks: yes. */
extern void vio_run (struct vio *io);

/* Begin a transfer; at most vbatch_depth () are pending in a batch.  A write is
 * EROFS if the volume is readonly, EIO if a flush of it has failed.  Lock: none
 * of rank LOCK_IO or above is held.
 */
extern void vio_start (struct vbatch *batch, struct vio *io);
/* Wait until everything started in the batch is over.  Blocks: yes. */
extern void vbatch_wait (struct vbatch *batch);

/* ---- one transfer with no pool: all of it in the calling thread, for opening
 * and recovery.  The arguments and the result are those of a struct vio.
 * Lock: as vio_start ().  Blocks: yes.
 */
extern int volume_read (struct volume *v, uint64_t off, void *buf,
                        size_t bytes);
extern int volume_write (struct volume *v, uint64_t off, const void *buf,
                         size_t bytes);

#endif /* FARPAGE_VOLUME_H */
