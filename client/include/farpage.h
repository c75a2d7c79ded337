/* SPDX-License-Identifier: BSD-2-Clause */
/* libfarpage: pages of this process on another machine.
 *
 * A link is one or several connections to one export of an NBD server, any
 * server's.  A swap pager keeps many objects on it; an object is a range of
 * pages that are put there and got back.  A file pager makes it one file, read
 * and written through a cache of pages.  farpage(3) is the manual.
 *
 * Every function that returns int returns 0 or a positive errno, sets no errno,
 * and on failure leaves its results untouched.  Pages are FARPAGE_PAGE bytes
 * and counted in pages; what is counted in bytes or microseconds says so in its
 * name.  All functions may be called from any thread.  Those that block must
 * not be called on the thread of the link's loop, where callbacks run
 * (EDEADLK).  "Blocks: shortly" is until the loop has come round to it; of
 * these farpage_stat (), farpage_haspage () and farpage_set_async_* () may be
 * called there, too.  "Does not block" of a file: but for the time of a copy.
 */

#ifndef FARPAGE_H
#define FARPAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define FARPAGE_PAGE        4096u
#define FARPAGE_CLUSTER_MAX 512u  /* pages */
#define FARPAGE_COUNT_MAX   4096u /* pages of one call */
#define FARPAGE_NAME_MAX    255u  /* bytes of an object's name */

struct ev_loop;
struct farpage_link;
struct farpage_swap;
struct farpage_object;

/* What became of a page. */
enum farpage_result {
  FARPAGE_OK = 0,   /* get: it is there; put: durable (on a volatile link:
                     * answered) */
  FARPAGE_BAD = 1,  /* it is not in the object */
  FARPAGE_FAIL = 2, /* get: it was never put; put: there is no space */
  FARPAGE_PEND = 3, /* under way: no function gives this, callers may note it */
  FARPAGE_ERROR = 4, /* get: its content is lost or cannot be read; put: it is
                      * not written */
  FARPAGE_AGAIN = 5, /* it was not tried: ask again */
};

/* ---- link ---- */

enum farpage_event {
  FARPAGE_DISCONNECTED = 1, /* all connections are lost; it tries again */
  FARPAGE_CONNECTED,        /* again */
  FARPAGE_LOST,             /* the server has another store now, or none */
  FARPAGE_ALMOST_FULL,
  FARPAGE_FULL,
  FARPAGE_ROOM, /* neither full nor almost full any more */
};

/* farpage_options_init () first, then what shall be different. */
struct farpage_options {
  size_t struct_bytes;    /* set by farpage_options_init () */
  unsigned connections;   /* at most; 0: 4 where the server allows several */
  unsigned cluster_pages; /* 16; cut to the server's largest request */
  unsigned async_max;     /* clusters of async writes under way: 256 */
  uint64_t deadline_us;   /* of a request: 300 s, as 0 is */
  bool is_volatile;       /* a put is OK at its answer, before any flush */
  bool takeover;          /* open what seems to be in use, or something else */
  const char *tls_certificates; /* a folder, as libnbd has it; NULL */
  const char *tls_psk_file, *tls_username; /* NULL */
  struct ev_loop *loop; /* the caller's, which he runs; NULL: a thread */
  /* On the loop's thread, and on that of who opens or closes; may be NULL.
   * priority: as in syslog.h. */
  void (*log) (void *arg, int priority, const char *line);
  /* On the loop's thread; may be NULL. */
  void (*event) (void *arg, enum farpage_event event);
  void *arg;
};
extern void farpage_options_init (struct farpage_options *options);

/* uri: nbd://, nbds://, nbd+unix:// or nbds+unix://.  options may be NULL.
 * EINVAL: uri or options; EROFS: the export is read-only; EPROTO: the server
 * says what cannot be; ECONNREFUSED, ETIMEDOUT, EACCES, ENOMEM and others.
 * Blocks: until the export was looked at, at most the deadline.
 */
extern int farpage_link_open (const char *uri,
                              const struct farpage_options *options,
                              struct farpage_link **linkp);
/* EBUSY: a pager is open on it.  Blocks: until the connections are closed. */
extern int farpage_link_close (struct farpage_link *link);

/* Clusters of async writes that may be under way: at most, and at least (4).
 * Numbers that make no sense are clamped to 1 .. 1024; a least above the most
 * is the most; the same for both: fixed.  Lower than what is under way: as that
 * ends.  Blocks: shortly.
 */
extern int farpage_set_async_max (struct farpage_link *link, unsigned clusters);
extern int farpage_set_async_min (struct farpage_link *link, unsigned clusters);

/* In the order of the pools: demand reads, sync writes, reads ahead, async
 * writes, all else.
 */
#define FARPAGE_POOLS 5
struct farpage_pool_stat {
  unsigned requests, queued, requests_max, requests_peak;
  uint64_t bytes, limit_bytes;         /* under way; the window */
  uint64_t bytes_per_s, round_trip_us; /* as the window's controller sees them;
                                        * 0: it does not look */
};
struct farpage_stat {
  uint64_t size_bytes, request_max_bytes;
  unsigned connections, connections_up;
  bool durable, trims; /* OK means durable; freed space is trimmed */
  uint64_t reconnects, replayed, elsewhere, reports, flushes, errors;
  uint64_t requests_read, requests_written, requests_trimmed;
  uint64_t bytes_read, bytes_written;
  struct farpage_pool_stat pool[FARPAGE_POOLS];
  /* Of the swap pager; all zero: none is open. */
  uint64_t blocks, blocks_free, blocks_used, blocks_waiting, blocks_trimming,
      blocks_retired, blocks_limbo;
  uint64_t low, high; /* almost full below low, until above high */
  bool full, almost_full, lost;
  unsigned objects, objects_max, calls, calls_max, runs, runs_max;
  uint64_t map_bytes, map_bytes_max;
  uint64_t pages_got, pages_put, runs_put, pages_failed;
};
/* stat_bytes: sizeof *stat; a library that knows more leaves it away, one that
 * knows less leaves zeros.  EINVAL: 0.  Blocks: shortly.
 */
extern int farpage_stat (struct farpage_link *link, struct farpage_stat *stat,
                         size_t stat_bytes);

/* ---- swap pager ---- */

/* EBUSY: another process has it, or this link has a pager; EEXIST: the export
 * holds something else (takeover takes it all the same); ENOSPC: fewer than 64
 * pages; ENOMEM; EIO, ETIMEDOUT and others of the server.
 * Blocks: yes, 1 s, and 5 s more if it was not closed by who had it before.
 */
extern int farpage_swap_open (struct farpage_link *link,
                              struct farpage_swap **swapp);
/* EBUSY: it has objects.  Blocks: until what is under way is done. */
extern int farpage_swap_close (struct farpage_swap *swap);

/* An object that holds size_bytes from off_bytes on, in whole pages: page 0 is
 * at byte 0.  name NULL: one that nobody else finds.  Else the object with this
 * name, a reference more, or a new one: who makes it and who finds it get the
 * same.  EEXIST: it has another size.  EINVAL: the name, or no page.  EFBIG:
 * above 2^50 bytes.  ENOMEM, also for more than 2^20 objects.  Blocks: shortly.
 */
extern int farpage_alloc (struct farpage_swap *swap, const char *name,
                          uint64_t off_bytes, uint64_t size_bytes,
                          struct farpage_object **objectp);
extern void farpage_reference (struct farpage_object *object);
/* One reference less.  With the last the name is free at once, then what is
 * under way is waited for, then its pages are freed.  Blocks: yes.
 */
extern int farpage_dealloc (struct farpage_object *object);
extern uint64_t farpage_pages (const struct farpage_object *object);

/* Called on the loop's thread, once for each page of a call, in any order. */
typedef void farpage_page_fn (void *arg, uint64_t page,
                              enum farpage_result result);

#define FARPAGE_AHEAD 1 /* get: nobody waits for it */
#define FARPAGE_SYNC  2 /* put: somebody waits for it */

/* Get page first + req, and of the others of [first, first + count) those that
 * lie beside it on the server, a cluster at most, into addr[i]; the rest is
 * given back: AGAIN.  The page that is wanted is asked for before the others,
 * and fn (may be NULL) has it as soon as it is there.  Memory is the library's
 * until the page's result; addr itself is copied.  EINVAL: count 0 or above
 * FARPAGE_COUNT_MAX, req not below count, flags.  EAGAIN: 4096 calls are under
 * way.  ENOMEM.  After an errno no page has a result.  Does not block.
 */
extern int farpage_aio_getpages (struct farpage_object *object, uint64_t first,
                                 unsigned count, unsigned req,
                                 void *const addr[], int flags,
                                 farpage_page_fn *fn, void *arg);
/* The same, with results[count], when all of them are known.  Blocks: yes. */
extern int farpage_getpages (struct farpage_object *object, uint64_t first,
                             unsigned count, unsigned req, void *const addr[],
                             enum farpage_result results[]);

/* Put pages [first, first + count) from addr[i].  Each goes to fresh space, in
 * runs as large as there are.  Until its result a page is neither changed nor
 * freed by the caller; another put of it meanwhile is AGAIN.  A result that is
 * not OK leaves what was put of the page before.  Errors as above.  Does not
 * block.
 */
extern int farpage_aio_putpages (struct farpage_object *object, uint64_t first,
                                 unsigned count, void *const addr[], int flags,
                                 farpage_page_fn *fn, void *arg);
/* The same, as FARPAGE_SYNC, with results[count].  Blocks: yes. */
extern int farpage_putpages (struct farpage_object *object, uint64_t first,
                             unsigned count, void *const addr[],
                             enum farpage_result results[]);

/* Is the page there, or being put?  before, after (may be NULL): how many pages
 * on each side lie in one row with it, at most 7; not set if it is not there.
 * Blocks: shortly.
 */
extern bool farpage_haspage (struct farpage_object *object, uint64_t page,
                             unsigned *before, unsigned *after);
/* Their space is free; what is being put is freed when that ends.  Of pages
 * that are put or reserved meanwhile each may be freed or not.  EINVAL: not in
 * the object.  Blocks: yes.
 */
extern int farpage_freespace (struct farpage_object *object, uint64_t first,
                              uint64_t count);
/* The caller has changed the page, which is in his memory: what was put of it
 * is freed.  EINVAL: not in the object.  Blocks: shortly.
 */
extern int farpage_unswapped (struct farpage_object *object, uint64_t page);
/* Space for pages, which read as zeros until they are put; what they had is
 * dropped.  A put of one takes fresh space as any other, and gives this back
 * when it has ended.  EINVAL: not in the object.  ENOSPC, ENOMEM: all is as
 * before.  More than 1024 pages: waits until the object does not page, and what
 * is asked of it meanwhile waits.  Blocks: yes.
 */
extern int farpage_reserve (struct farpage_object *object, uint64_t first,
                            uint64_t count);

#define FARPAGE_DESTROY 4 /* copy: and farpage_dealloc () of src */
/* Pages of src from page first on become those of dst from 0 on, where dst has
 * none; src has them no more.  Waits until neither pages.  With FARPAGE_DESTROY
 * src's name is free at once, all it still has is freed, and the caller's
 * reference goes; on failure src is the caller's as before.  EINVAL: flags, the
 * same object, of another pager.  ENOMEM: some pages are moved, the others are
 * where they were.  Blocks: yes.
 */
extern int farpage_copy (struct farpage_object *src, struct farpage_object *dst,
                         uint64_t first, int flags);

enum farpage_command {
  FARPAGE_READ,
  FARPAGE_WRITE,
  FARPAGE_FREE
};
/* A transfer by bytes.  EINVAL: not in whole pages, or not in the object;
 * ENOSPC, EIO, ENOMEM: of the lowest page that has an error.  Blocks: yes.
 */
extern int farpage_strategy (struct farpage_object *object,
                             enum farpage_command command, uint64_t off_bytes,
                             size_t len_bytes, void *data);

extern const char *farpage_version (void);

/* ---- memory ---- */

/* An object as memory: its pages come when they are touched, and go when the
 * budget is used up.  One map of an object at a time; while there is one its
 * pages are the map's, and no other call of this header changes them.
 *
 * A page that was never put is zeros.  One that is lost, or that cannot be read
 * before the link's deadline, is SIGBUS for who touches it, never zeros.  No
 * child of fork () has the memory.  Calls of the kernel may be given it (read
 * (), write ()) where the program may handle faults of the kernel, which root
 * and who has /dev/userfaultfd may; devices (O_DIRECT) only what is pinned.
 * Nothing that the loop's thread needs may lie in it, nor what the caller's
 * allocator hands out to the loop.
 */
struct farpage_map;
struct farpage_file;

/* budget_bytes: of memory, at least 256 KiB; 0: 64 MiB; besides, 3 % of it for
 * what is known of each page, and 1 MiB.  The address has room for
 * farpage_pages ().  EBUSY: it is mapped.  EINVAL: the budget.  EPERM, ENOSYS,
 * EOPNOTSUPP: the kernel does not let or cannot; log has what is missing.
 * ENOMEM, EMFILE.  Blocks: shortly.
 */
extern int farpage_map (struct farpage_object *object, uint64_t budget_bytes,
                        struct farpage_map **mapp);
/* The same of a file: all of it, as long as it is then, is mapped for writing,
 * by farpage_file_map_count (); behind its end the last page is zeros, and what
 * is written there goes nowhere.  The file's own cache is besides.  EBUSY: some
 * of it is mapped.  EINVAL: also for no byte.  ESTALE.
 */
extern int farpage_map_file (struct farpage_file *file, uint64_t budget_bytes,
                             struct farpage_map **mapp);
extern void *farpage_map_address (const struct farpage_map *map);
/* What was written is put, then the memory is gone: a touch, also one that
 * waits, is SIGSEGV from the begin of this call on.  EBUSY: some of it is
 * pinned, or another call is under way; it is as before.  EIO, ENOSPC: it is
 * gone, and not all of it was put.  Blocks: yes.
 */
extern int farpage_unmap (struct farpage_map *map);

/* What was written in these bytes' pages before is put, as by
 * farpage_putpages (), or written to the file and that synced.  EIO, ENOSPC:
 * some of it is not, and is dirty as before. EINVAL: not in the object. Blocks:
 * yes.
 */
extern int farpage_sync (struct farpage_map *map, uint64_t off_bytes,
                         uint64_t len_bytes);
/* These bytes' pages are in memory, and stay until they are unpinned as often;
 * a device may read and write them.  ENOMEM: more than half of the budget.
 * EIO: one is lost.  EINVAL.  Blocks: until they are there; unpin: shortly.
 */
extern int farpage_pin (struct farpage_map *map, uint64_t off_bytes,
                        uint64_t len_bytes);
extern int farpage_unpin (struct farpage_map *map, uint64_t off_bytes,
                          uint64_t len_bytes);

enum farpage_advice {
  FARPAGE_ADVICE_NORMAL, /* of the whole map, as are RANDOM and SEQUENTIAL */
  FARPAGE_ADVICE_RANDOM, /* nothing is read ahead */
  FARPAGE_ADVICE_SEQUENTIAL, /* what is behind a page is, from the first touch
                                on */
  FARPAGE_ADVICE_WILLNEED,   /* read these, as far as there is room */
  FARPAGE_ADVICE_DONTNEED,   /* the next to go, if they are not touched again */
  FARPAGE_ADVICE_FREE        /* whole pages: their content is given up, zeros */
};
/* EINVAL: not in the object, advice.  FREE: EBUSY, some are pinned; EOPNOTSUPP,
 * of a file; blocks.
 * Blocks: shortly.
 */
extern int farpage_advise (struct farpage_map *map, uint64_t off_bytes,
                           uint64_t len_bytes, enum farpage_advice advice);

struct farpage_map_stat {
  uint64_t budget_bytes, resident_bytes;
  uint64_t pages_mapped, pages_dirty,
      pages_pinned; /* now; dirty: known to be */
  /* So far.  hits: faults at pages in memory; waits: that found no room; zeros:
   * pages that were never put, and were made.
   */
  uint64_t faults, hits, waits, zeros, demand_reads;
  /* Pages: read or made ahead; touched after that, or mapped with one that was;
   * touched while it was under way; never.
   */
  uint64_t ahead, ahead_hits, ahead_late, ahead_wasted;
  uint64_t dropped, put, put_failed, lost;
};
/* stat_bytes as in farpage_stat ().  EINVAL: 0.  Blocks: shortly; may be called
 * on the loop's thread.
 */
extern int farpage_map_stat (struct farpage_map *map,
                             struct farpage_map_stat *stat, size_t stat_bytes);

/* ---- files ---- */

/* The bytes of an export, as a file: read and written anywhere through a cache
 * of pages.  One a link.  When it is lost with its export, or closed by force,
 * every call says ESTALE, and of pages ERROR.
 */
struct farpage_file;

struct farpage_file_options {
  size_t struct_bytes;  /* set by farpage_file_options_init () */
  uint64_t cache_bytes; /* 0: 64 MiB; at least 256 KiB */
  /* Go on after a loss also with a server that does not say that it is the
   * same one: a write that was under way may land late, on what came after it.
   */
  bool reconnect_unverified;
};
extern void farpage_file_options_init (struct farpage_file_options *options);

/* Open it once more: the same file, as it is, with one reference more.  options
 * may be NULL.  EBUSY: the link has a swap pager.  EPROTO: the server's blocks
 * are larger than a cluster.  ENOMEM.  EINVAL: options, or a cache above 256
 * GiB.  Blocks: shortly, and while the last user's close has not ended.
 */
extern int farpage_file_open (struct farpage_link *link,
                              const struct farpage_file_options *options,
                              struct farpage_file **filep);
/* The last one writes what is dirty.  The file is gone also where that fails.
 * ESTALE, EIO and others: not all of it was.  Blocks: until it is.
 */
extern int farpage_file_close (struct farpage_file *file);
/* Now, whoever uses it: who sleeps in a call wakes, what is dirty is lost. Each
 * user still closes it.  log is called on this thread.  Does not block.
 */
extern void farpage_file_force_close (struct farpage_file *file);

/* Bytes.  At first those of the export; after a connection was lost, also what
 * the export has grown by.  Does not block.
 */
extern uint64_t farpage_file_size (struct farpage_file *file);
/* Not remembered by the server.  Smaller: what is cut off is zeros there, and
 * so it is when the file is made larger again.  EFBIG: larger than the export.
 * EBUSY: some of what is cut off is mapped.  ESTALE, EIO and others.  Blocks:
 * if it is smaller.
 */
extern int farpage_file_setsize (struct farpage_file *file, uint64_t bytes);
/* These bytes are mapped for writing (change 1), or not any more (-1), all that
 * were mapped at once or some of them.  EBUSY: some are already; a byte has one
 * writer.  EINVAL: no bytes, behind the file's last page, or some are not
 * mapped; change.  ENOMEM: in more than 256 pieces.  ESTALE: and nothing is
 * counted any more.  Blocks: while the file is made smaller.
 */
extern int farpage_file_map_count (struct farpage_file *file,
                                   uint64_t first_byte, uint64_t bytes,
                                   int change);

/* *done: bytes, less than len only at the file's end, or when it failed after
 * these; 0 on failure.  done may be NULL.  A write is done when it is in
 * memory.  EFBIG: it begins at the end or behind it.  ESTALE; EIO and what else
 * a read of the server fails with, or the writes that have to make room. Block:
 * until what is not in memory is read; a write also while few pages are clean.
 */
extern int farpage_file_pread (struct farpage_file *file, void *buf, size_t len,
                               uint64_t off_bytes, size_t *done);
extern int farpage_file_pwrite (struct farpage_file *file, const void *buf,
                                size_t len, uint64_t off_bytes, size_t *done);
/* The same cache by pages, for who looks after it himself.  A count is at most
 * FARPAGE_COUNT_MAX and half of the cache: EINVAL.
 *
 * Has it something there that is no hole?  True too when the server does not
 * say.  before, after (may be NULL): pages on both sides that are alike, as far
 * as is known.  False on the loop's thread.  Blocks: until the server has said.
 */
extern bool farpage_file_haspage (struct farpage_file *file, uint64_t page,
                                  unsigned *before, unsigned *after);
/* The next range [*from_bytes, *end_bytes) at off_bytes or behind it that is
 * not known to be a hole, or is dirty; the next one may begin where it ends.
 * All of the file where the server does not know of holes.  ENXIO: there is
 * none up to the end.  ESTALE.  Blocks: until the server has said.
 */
extern int farpage_file_next_data (struct farpage_file *file,
                                   uint64_t off_bytes, uint64_t *from_bytes,
                                   uint64_t *end_bytes);
/* Pages [first, first + count) into the cache; behind and ahead: how many more
 * on both sides would be welcome, and on return were asked for (NULL: none).
 * OK: it is there; BAD: behind the end; ERROR: it cannot be read.  EINVAL.
 * Blocks: until all results are known.
 */
extern int farpage_file_getpages (struct farpage_file *file, uint64_t first,
                                  unsigned count, unsigned *behind,
                                  unsigned *ahead,
                                  enum farpage_result results[]);
/* fn (may be NULL) has each page's result once, on the loop's thread, where it
 * may call what does not block.  The file is closed after the last of them.
 * EINVAL, ENOMEM.  Does not block.
 */
extern int farpage_file_aio_getpages (struct farpage_file *file, uint64_t first,
                                      unsigned count, unsigned behind,
                                      unsigned ahead, farpage_page_fn *fn,
                                      void *arg);
#define FARPAGE_INVAL      4  /* put: waits, and the page is dropped after it */
#define FARPAGE_NOREUSE    8  /* put: the next to be used again */
#define FARPAGE_CLUSTER_OK 16 /* put: within a second, with others */
/* Dirty pages of [first, first + count) to the server.  OK: not dirty; with
 * FARPAGE_SYNC or _INVAL: durable.  PEND: on its way, farpage_file_sync ()
 * tells.  AGAIN: a part of it is written, or it was dirtied again.  BAD: behind
 * the end.  ERROR: it is dirty as before.  EINVAL: count or flags.  Blocks:
 * with FARPAGE_SYNC or _INVAL, and while few pages of the cache are clean.
 */
extern int farpage_file_putpages (struct farpage_file *file, uint64_t first,
                                  unsigned count, int flags,
                                  enum farpage_result results[]);

/* What was written before it is durable (on a volatile link: answered).  EIO
 * and others: some of it is not, and stays dirty; the next call tries again.
 * Blocks: until it is.
 */
extern int farpage_file_sync (struct farpage_file *file);

struct farpage_file_stat {
  uint64_t size_bytes, export_bytes, mapped_bytes;
  uint32_t block_bytes; /* what the server's requests are multiples of */
  bool knows_holes;     /* the server does */
  bool dead;
  uint64_t pages_max, pages_cached, pages_dirty; /* of the cache; now */
  unsigned reads, reads_max, writes, writes_max; /* under way; rows of pages */
  uint64_t pages_got, pages_put, pages_failed;   /* so far; failed: to put */
  uint64_t pages_holes;                          /* zeros without a read */
};
/* stat_bytes as in farpage_stat ().  EINVAL: 0.  Does not block. */
extern int farpage_file_stat (struct farpage_file *file,
                              struct farpage_file_stat *stat,
                              size_t stat_bytes);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif /* FARPAGE_H */
