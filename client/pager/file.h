/* SPDX-License-Identifier: BSD-2-Clause */
/* The file pager's inside: what its files share.
 *
 *   callers' threads                      the loop
 *   file-rw.c: copy, under the lock       file-io.c: reads and writes end
 *      | not there                           ^
 *      '--> file-get.c --> file_io --post--> link
 *   sync, eviction --> file-put.c --> file_io --post--> link
 *
 * A file's pages, its map and all below are under its lock, which is held for
 * the time of a copy and never while anything waits.  So what is in memory
 * costs a caller no more than that, and no turn of the loop.  Who waits does so
 * for `changed`, and looks at everything again after it.
 *
 * Locks: file.lock, then the loop's inbox.  The link is the loop's.
 */

#ifndef FARPAGE_FILE_H
#define FARPAGE_FILE_H

#include <pthread.h>

#include <ev.h>

#include "farpage.h"
#include "file-map.h"
#include "file-mapped.h"
#include "file-plan.h"
#include "nbd-link.h"
#include "pages.h"

#define FILE_IOS        256u /* reads and writes under way, or on their way */
#define FILE_PUT_IOS    128u /* of them writes, at most */
#define FILE_DEMAND_IOS 32u  /* of them neither writes nor reads ahead */
#define FILE_AHEAD_IOS  192u /* of a stream that is read in order, at most */
#define FILE_IO_PAGES   64u  /* of one */
#define FILE_CACHE_MIN  64u  /* pages */
#define FILE_TIDY_S     1.0  /* so often what is dirty is written */
/* Bytes that are asked about at a time. */
#define FILE_STATUS_SPAN (UINT64_C (64) << 20)

struct farpage_file;

enum file_io_kind {
  FILE_IO_READ,
  FILE_IO_WRITE,
  FILE_IO_MERGE, /* a read of blocks that a write does not fill, then that */
  FILE_IO_ZERO   /* what was cut off */
};

/* One read or write of a row of pages, through memory of its own: pages need
 * not lie together, and what is being sent does not change.
 */
struct file_io {
  struct job job; /* first */
  struct request req;
  struct farpage_file *file;
  struct file_io *next; /* free */
  enum file_io_kind kind;
  uint64_t serial;   /* in the order of starts; 0: it is not under way */
  uint64_t off, end; /* bytes */
  pgno_t first;
  unsigned nr;
  bool ahead;    /* a read that nobody waits for */
  bool sync;     /* a write that somebody waits for */
  bool idle;     /* its pages are the next to be used again */
  uint8_t *data; /* [const] FILE_IO_PAGES */
  struct page *page[FILE_IO_PAGES];
  page_bits bits[FILE_IO_PAGES]; /* to be read, or being written */
};

/* A question about holes. */
struct file_ask {
  struct job job; /* first */
  struct request req;
  struct farpage_file *file;
  struct file_map_ask *ask; /* NULL: it is not under way */
  struct request_extents extents;
};

/* It died: aio calls are told. */
struct file_death {
  struct job job; /* first */
  struct farpage_file *file;
};

/* A call that has to do with pages [first, end) and is not over. */
struct file_waiter {
  struct file_waiter *next;
  pgno_t first, end;
  bool alone;    /* a read of several failed: try each by itself */
  int error;     /* a read of one failed, */
  pgno_t bad;    /* of this one */
  int put_error; /* a write of one failed */
  int row_error; /* one of several: each is to be tried by itself */
};

/* Who waits for a page that he may have, and since when no write has made room,
 * by the file's counts.
 */
struct file_room {
  uint64_t nr_put, nr_failed;
};

/* Pages of waiter that somebody wants, and what became of them. */
struct file_wish {
  struct file_waiter waiter;
  struct file_room room;
  enum farpage_result *result; /* PEND: none yet */
  uint8_t *to; /* they are copied to, as soon as they are there; or NULL */
};

/* An aio call. */
struct file_op {
  struct job job; /* first */
  struct file_op *next;
  struct farpage_file *file;
  /* Results of those that have none, and what is needed for that; how many
   * have none then.
   */
  unsigned (*step) (struct file_op *op);
  struct file_wish wish;
  const uint8_t *from; /* of a write: its pages */
  unsigned behind, ahead;
  farpage_page_fn *fn;
  void *arg;
  enum farpage_result result[]; /* PEND: none yet */
};

struct farpage_file {
  struct farpage_link *owner; /* [const] */
  struct link *link;          /* [const] */
  struct loop *loop;          /* [const] */
  uint32_t block_bytes;       /* [const] of the server's requests */
  unsigned io_pages;          /* [const] of one read or write */
  unsigned floor;       /* [const] fewer pages to be had: write and wait */
  bool has_map;         /* [const] the server knows of holes */
  bool zeroes;          /* [const] and writes zeros */
  bool unverified;      /* [const] goes on with a server that says nothing */
  uint32_t zero_most;   /* [const] bytes of one request for zeros */
  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  struct pages *pages; /* [const] */
  struct file_map map;
  struct file_seq seq;
  struct file_ask ask[FILE_MAP_ASKED];
  uint64_t span_bytes;   /* of questions of who looks for data */
  uint64_t size_bytes;   /* where the file ends */
  uint64_t export_bytes; /* and the export */
  unsigned refs;
  bool dead;                 /* closed by force, or lost: ESTALE */
  bool resizing;             /* by one at a time */
  int put_error;             /* of the last write of a page that failed */
  int zero_error;            /* of what was cut off */
  struct file_mapped mapped; /* for writing */
  struct file_io io[FILE_IOS];
  struct file_io *free;
  uint64_t serial;
  unsigned nr_reads, nr_writes; /* ios under way */
  struct page **order;          /* of the pages; who has it says so */
  bool ordering;
  struct file_waiter *waiters;
  struct file_op *ops; /* their waiters are among those */
  unsigned nr_ops;     /* those, and the ones that are on their way to it */
  struct file_death death;
  uint64_t nr_got, nr_put, nr_failed, nr_holes; /* pages */
  ev_timer tidy;                                /* [loop] */
};

/* Pages [*lo, *hi) that one read or write with pgno may have: where a block of
 * the server is larger than a page it has whole blocks, and no more than fit.
 */
static inline void
file_span (const struct farpage_file *f, pgno_t pgno, pgno_t *lo, pgno_t *hi)
{
  const unsigned block = f->block_bytes / PAGE_BYTES;
  const unsigned span = block > 1 ? f->io_pages / block * block : 0;

  *lo = span > 0 ? pgno / span * span : 0;
  *hi = span > 0 ? *lo + span : UINT64_MAX / PAGE_BYTES;
}

/* Lock: needs file->lock, for all that follows but where it is said. */

static inline uint64_t
file_nr_pages (const struct farpage_file *f)
{
  return (f->size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
}

/* Pages that can be had now. */
static inline unsigned
file_nr_to_be_had (const struct farpage_file *f)
{
  return f->pages->list[PAGE_FREE].nr + f->pages->list[PAGE_INACTIVE].nr;
}

/* ---- file-io.c ---- */

/* NULL: FILE_IOS are under way, or so many writes. */
extern struct file_io *file_io_take (struct farpage_file *f,
                                     enum file_io_kind kind);
extern void file_io_give (struct file_io *io);
/* To the loop; it ends there, under the lock, and `changed` is told. */
extern void file_io_start (struct file_io *io);

/* ---- file-get.c ---- */

/* Begin to read what of these pages is not valid, the row that goes with them,
 * and what comes next.  Does not wait.  EAGAIN: something has to end first, of
 * which `changed` tells.
 */
extern int file_get (struct farpage_file *f, pgno_t first, unsigned count,
                     unsigned *behind, unsigned *ahead);

/* Begin to read these ahead, as far as there is room. */
extern void file_get_ahead (struct farpage_file *f, pgno_t first,
                            unsigned count);
/* Zeros, all of the page, as far as the server has it. */
extern bool file_is_hole (const struct farpage_file *f, pgno_t pgno);
/* Ask what is a hole from there on, if nobody knows and nobody asks; about so
 * many bytes, FILE_STATUS_SPAN to REQUEST_STATUS_MAX.
 */
extern void file_ask (struct farpage_file *f, uint64_t off, uint64_t span);
/* A question about off is under way; any is. */
extern bool file_is_asked (const struct farpage_file *f, uint64_t off);
extern bool file_is_asking (const struct farpage_file *f);
/* What off is and to where, all of its kind from *begin on, when the server has
 * been asked about it.  Lets go of the lock meanwhile.
 */
extern enum file_map_kind file_find_out (struct farpage_file *f, uint64_t off,
                                         uint64_t span, uint64_t *begin,
                                         uint64_t *end);

/* ---- file-put.c ---- */

/* How a row of pages is written. */
struct file_put {
  bool sync; /* somebody waits: it does not wait for company, nor its flush */
  bool idle; /* the pages are not wanted any more */
};

/* Begin to write dirty page p and its dirty neighbours.  EAGAIN: something has
 * to end first.
 */
extern int file_put_row (struct farpage_file *f, struct page *p,
                         const struct file_put *how);
/* The oldest dirty ones, about so many pages, as far as there is room. */
extern void file_put_some (struct farpage_file *f, unsigned nr);
/* All dirty pages of [first, end), and wait until they and those that were
 * being written are covered, or failed.  ESTALE: the file is dead; EIO and
 * others: some of it is dirty as before.  The lock is let go of meanwhile.
 */
extern int file_put_range (struct farpage_file *f, pgno_t first, pgno_t end,
                           const struct file_put *how);
/* No page can be had.  EIO and others: nor will be, for what is dirty cannot be
 * written.
 */
extern int file_no_room (const struct farpage_file *f, struct file_room *room);

/* ---- file-page.c ---- */

/* Gets what is wished, behind and ahead with the first; how many have no result
 * then.
 */
extern unsigned file_step (struct farpage_file *f, struct file_wish *wish,
                           unsigned *behind, unsigned *ahead);
/* One for pages [first, first + count), all PEND; NULL: no memory. */
extern struct file_op *file_op_make (struct farpage_file *f, pgno_t first,
                                     unsigned count, farpage_page_fn *fn,
                                     void *arg);
/* [loop] Without the lock: it begins. */
extern void file_op_begin (struct job *job);

/* [loop] Without the lock: ops go on, those that are over are told. */
extern void file_ops_go (struct farpage_file *f);

/* ---- file-rw.c ---- */

extern void file_waiter_add (struct farpage_file *f, struct file_waiter *w);
extern void file_waiter_remove (struct farpage_file *f, struct file_waiter *w);

/* The page's part in the file is written, in memory.  EAGAIN: something has to
 * end first, of which `changed' tells.  EFBIG: it is behind the end.
 */
extern int file_write_page (struct farpage_file *f, pgno_t pgno,
                            const uint8_t *from);
/* [off, end) of the file are written with zeros, in memory. */
extern int file_write_zeros (struct farpage_file *f, uint64_t off,
                             uint64_t end);

/* ---- file-copy.c ---- */

/* [loop] Without the lock.  Pages [first, first + count) of the file into
 * memory that is the file's until fn has been called for each; ahead: nobody
 * waits. ENOMEM.
 */
extern int file_copy_out (struct farpage_file *f, pgno_t first, unsigned count,
                          uint8_t *to, bool ahead, farpage_page_fn *fn,
                          void *arg);
/* The same the other way: OK is that they are written in the file's memory, and
 * a sync tells of the server.
 */
extern int file_copy_in (struct farpage_file *f, pgno_t first, unsigned count,
                         const uint8_t *from, farpage_page_fn *fn, void *arg);

/* ---- file.c ---- */

/* [loop] Without the lock: the link was connected again; it is lost. */
extern void file_grown (struct farpage_file *f);
extern void file_kill (struct farpage_file *f, const char *why);

/* Sleep until something has changed; ESTALE: the file is dead. */
extern int file_wait (struct farpage_file *f);
/* NULL, or what is wrong with pages, map and counts. */
extern const char *file_check (struct farpage_file *f);

#endif /* FARPAGE_FILE_H */
