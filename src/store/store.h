/* SPDX-License-Identifier: BSD-2-Clause */
/* A store: a pool of volumes and the virtual disks in it.
 *
 * The plugin and the tests speak to farpage through this header alone: open a
 * store, connect to an export by name, read and write, look at statistics.
 *
 * Functions return 0 or a positive errno and leave results untouched on
 * failure.  Any thread may call any function; store_open, store_start and
 * store_close are called once, by one thread.
 */

#ifndef FARPAGE_STORE_H
#define FARPAGE_STORE_H

#include "types.h"

struct volume;
struct store;
struct conn; /* one client's connection to one export */

#define EXPORT_NAME_MAX 4096 /* bytes, as in NBD */
#define OBJECT_NAME_MAX 255  /* bytes of UTF-8 */
#define INSTANCE_HEX    32   /* digits of an instance */

/* ---- open and close ---- */

enum store_direct {
  STORE_DIRECT_AUTO,
  STORE_DIRECT_YES,
  STORE_DIRECT_NO
};

/* Whether what becomes free goes back to the medium. */
enum store_discard {
  STORE_DISCARD_AUTO, /* of block devices, and of what is sparse */
  STORE_DISCARD_ON,   /* what is not sparse and no device is refused */
  STORE_DISCARD_OFF
};

/* What outlives the process and the machine; see docs/contract.md. */
enum store_durability {
  STORE_VOLATILE, /* nothing */
  STORE_FLUSH,    /* what a flush or FUA covered; and, if only the process
                   * dies, all that was replied */
  STORE_STRICT,   /* all that was replied */
};

struct store_volume_config {
  const char *path;     /* NULL: memory */
  uint64_t size_bytes;  /* of memory */
  struct volume *ready; /* not NULL: opened by the caller, for the store to
                         * have and to close once store_open has worked */
};

struct store_config {
  const struct store_volume_config *volumes;
  unsigned nr_volumes;
  bool sparse, force;
  enum store_direct direct;
  enum store_discard discard;
  uint64_t swap_size_bytes; /* of unnamed objects; 0: the name must say */
  int reserve;              /* -1: yes for swap, no for named; else 0 or 1 */
  uint64_t linger_ns;       /* of unnamed objects after the last close */
  uint64_t linger_unwritten_ns; /* the same, for those never written */
  uint64_t lock_wait_ns;        /* for a volume that another process holds */
  const char *default_name;     /* NULL: the only named object */
  unsigned stripe_blocks;       /* 0: 32 */
  /* Of a durable store, on formatted volumes: */
  enum store_durability durability;
  uint64_t cache_bytes;    /* of buffers; 0: CACHE_BYTES */
  const char *staging_dir; /* a directory on tmpfs; NULL: none */
  bool swap_keep;          /* unnamed objects are kept like named ones */
  bool readonly;           /* nothing is written: recovery is in memory */
};

#define CACHE_BYTES (UINT64_C (64) << 20)

/* Open volumes and make the store; no thread is started.  What goes wrong is
 * told in the log.  Blocks: yes.
 */
extern int store_open (const struct store_config *config, struct store **sp);

/* After the last fork: I/O contexts.  Blocks: no. */
extern int store_start (struct store *s);

/* A clean end of a durable store: everything is written, and the next open has
 * nothing to recover.  No request is under way (store_hold), none comes any
 * more.  EIO: it has failed.  Blocks: yes.
 */
extern int store_stop (struct store *s);

/* Nobody is connected any more; stops a durable store first, if that has not
 * been done.  Blocks: yes.  NULL is fine.
 */
extern void store_close (struct store *s);

/* From now on every request that comes in is held and never answered; returns
 * when those under way are over, or false when timeout_ns have passed.
 */
extern bool store_hold (struct store *s, uint64_t timeout_ns);

/* Work for idle moments, about once a second: drops unnamed objects whose
 * time has come, gives gathered frees back.  Blocks: shortly.
 */
extern void store_tick (struct store *s);

/* ---- objects ---- */

struct store_create {
  const char *name;
  uint64_t size_bytes; /* 1 to OBJECT_BYTES_MAX; any byte size */
  bool reserve;        /* space for all of it is set aside now */
  bool shared;         /* several clients may write at a time */
};

/* EINVAL: bad name (store_name_ok says why) or size.  EEXIST.  ENOSPC: not
 * enough for the reservation.  EROFS.  instance receives 32 hex digits and a
 * NUL.
 */
extern int store_create (struct store *s, const struct store_create *c,
                         char instance[INSTANCE_HEX + 1]);

/* ENOENT.  EROFS.  EBUSY: open, and not force.  EALREADY: it is being resized.
 * With force, calls of those who
 * have it open fail with ESHUTDOWN from now on.  Its space is free on return.
 */
extern int store_remove (struct store *s, const char *name, bool force);

/* A named object gets this size, any byte size as in store_create; durable on
 * return.  Connections that are open keep the end that they have.  What is new
 * reads as zeros; what goes is free on return.  A moment long the object's
 * requests wait.
 *
 * ENOENT.  EROFS.  EINVAL: bad size.  ENOTSUP: unnamed.  EBUSY: it would be
 * smaller, and is open.  EALREADY: it is being made, or resized.  ENOSPC: what
 * it reserves does not fit.  ETIMEDOUT: requests under way do not end.  After
 * any of these, and ENOMEM, it is as it was.  EIO: the store has failed; or the
 * size is what it was to be, and what goes could not be read: the next start
 * goes on, or the next call.
 */
extern int store_resize (struct store *s, const char *name,
                         uint64_t size_bytes);

/* NULL, or what is wrong with a name for a named object. */
extern const char *store_name_error (const char *name);

/* ---- connections ---- */

/* Who is at the other end: the owner of an export is told by it. */
enum peer_kind {
  PEER_UNKNOWN,
  PEER_IP,
  PEER_UNIX
};
struct peer {
  enum peer_kind kind;
  uint8_t address[16]; /* PEER_IP: v6, or v4 mapped; no port */
  uint16_t port;       /* PEER_IP: for display only */
  uint32_t uid;        /* PEER_UNIX */
  int64_t pid;         /* PEER_UNIX */
};

/* Open an export by its full name.  ENOENT: no such export.  EINVAL: the name
 * makes no sense.  ENOSPC: no room for a reserved swap export.  ESTALE: the
 * instance is gone.  ESHUTDOWN: the session's generation is fenced.  EEXIST:
 * the ID is in use with another size.  EMFILE: too many.  The log says more.
 */
extern int store_connect (struct store *s, const char *export, bool readonly,
                          const struct peer *peer, struct conn **cp);
extern void store_disconnect (struct conn *c);

extern uint64_t conn_size_bytes (const struct conn *c);
extern bool conn_readonly (const struct conn *c);
/* The process that owns the export, if it is another client's, all of whose
 * connections come from it over Unix sockets; else 0.
 */
extern int64_t conn_owner_pid (const struct conn *c);
/* If c is read-only as another client owned the export when it connected, and
 * none does any more, it is as if it connected only now: of several that wait
 * so, the first to write is the owner.  What asked to be read-only, or is of a
 * readonly store, stays so.  True: c is not read-only.  Only for one whose
 * client has not been told yet what conn_readonly () says.  Blocks: no.
 */
extern bool conn_look_again (struct conn *c);
/* "farpage instance=… durability=… linger=…", for the life of c. */
extern const char *conn_description (const struct conn *c);

/* Ranges must lie inside the export (EINVAL else); length 0 does nothing.
 * Errors: EPERM (owned by another client, or read-only), EIO, ENOMEM, ENOSPC,
 * ESHUTDOWN.  fua: durable before it returns, if the export is.  Blocks: yes.
 */
extern int conn_read (struct conn *c, void *buf, uint64_t off, uint32_t bytes);
extern int conn_write (struct conn *c, const void *buf, uint64_t off,
                       uint32_t bytes, bool fua);
/* All that was answered before, to any connection, is durable: of exports that
 * are.  EIO: the store has failed.
 */
extern int conn_flush (struct conn *c);
extern int conn_trim (struct conn *c, uint64_t off, uint32_t bytes, bool fua);
/* may_hole false: pages stay reserved.  fast: ENOTSUP, and nothing changes,
 * if it would be no faster than writing zeros.
 */
extern int conn_zero (struct conn *c, uint64_t off, uint32_t bytes,
                      bool may_hole, bool fast, bool fua);
extern int conn_cache (struct conn *c, uint64_t off, uint32_t bytes);

/* Calls fn for the extents of the range in rising order, together exactly the
 * range, until fn returns non-zero (which is returned).  hole implies zero.
 */
typedef int (*conn_extent_fn) (void *arg, uint64_t off, uint64_t bytes,
                               bool hole, bool zero);
extern int conn_extents (struct conn *c, uint64_t off, uint32_t bytes, bool one,
                         conn_extent_fn fn, void *arg);

/* ---- names ---- */

/* Named exports in rising order, for NBD_OPT_LIST.  Unnamed ones are never
 * listed.  fn is called with no lock held.
 */
typedef int (*store_name_fn) (void *arg, const char *name,
                              const char *description);
extern int store_list (struct store *s, store_name_fn fn, void *arg);

/* What the empty export name means, copied to name; ENOENT: nothing. */
extern int store_default (struct store *s, char name[OBJECT_NAME_MAX + 1]);

/* ---- statistics ---- */

enum req_kind {
  REQ_READ,
  REQ_WRITE,
  REQ_FLUSH,
  REQ_TRIM,
  REQ_ZERO,
  REQ_EXTENTS,
  REQ_CACHE,
  REQ_KINDS
};
extern const char *const req_kind_names[REQ_KINDS];

struct req_stat {
  uint64_t count, bytes, errors;
};

enum space_state {
  SPACE_OK,
  SPACE_ALMOST_FULL,
  SPACE_FULL
};

struct store_stat {
  uint64_t size_bytes;     /* of the pool */
  uint64_t mapped_bytes;   /* blocks that a page is in */
  uint64_t reserved_bytes; /* promised, with no block yet */
  uint64_t parked_bytes;   /* unmapped, still being read or needed by a crash */
  uint64_t free_bytes;     /* what new pages can have */
  /* The reserve: blocks on the move, and those retired. */
  uint64_t relocation_bytes, relocation_used_bytes;
  enum space_state space;
  unsigned stripe_blocks;
  const char *durability; /* "volatile", "flush", "strict" */
  const char *failed;     /* NULL, or why; then nothing is written any more */
  bool readonly;
  bool holding; /* store_hold () was called */
  uint64_t uptime_ns;
  unsigned nr_objects, nr_conns;
  struct req_stat req[REQ_KINDS];
  uint64_t
      fragments[64]; /* free runs of 2^i to 2^(i+1)-1 blocks, all volumes */
};
extern void store_stat (struct store *s, struct store_stat *st);

/* Buffers of one type.  dirty: not written yet, or being written. */
struct cache_use {
  uint64_t clean_bytes, dirty_bytes, dirty_max_bytes;
};

struct durable_stat {
  uint64_t epoch;
  const char *staging; /* a directory; NULL: replies wait for their writes */
  struct {
    uint64_t size_bytes, free_bytes, writing_bytes;
    struct cache_use meta, data, undo;
    uint64_t nr_hits, nr_loads, nr_evicted;
  } cache;
  struct {
    uint64_t size_bytes, used_bytes; /* of the ring */
    uint64_t first_lsn, tail_lsn, durable_lsn, cycle;
    uint64_t nr_commits, nr_cycles, nr_flushes; /* since the open, as below */
    /* Written to the volumes; direct: data past the buffers. */
    uint64_t direct_bytes, data_bytes, log_bytes, meta_bytes;
  } log;
  struct {
    bool clean;
    uint64_t duration_ns;
    uint64_t first_lsn, end_lsn, durable_lsn;
    uint64_t nr_staged, nr_undone, nr_redone, nr_verified, nr_fallen;
  } recovery; /* what the last open did */
};
/* False: s is volatile, and has nothing of this. */
extern bool store_durable_stat (struct store *s, struct durable_stat *st);

/* Blocks that failed a write and are not used until the next start; the first
 * 256 runs of them.  block: its number in the volume.
 */
extern void store_each_retired (struct store *s,
                                void (*fn) (void *arg, const char *volume,
                                            uint64_t block, uint64_t nr),
                                void *arg);

struct volume_stat {
  const char *name, *kind, *engine;
  uint64_t size_bytes, used_bytes; /* used: taken from its blist */
  uint64_t nr_errors;
  bool direct, sparse, checked;
};
extern void store_each_volume (struct store *s,
                               void (*fn) (void *arg,
                                           const struct volume_stat *st),
                               void *arg);

struct object_stat {
  const char *name; /* "NAME", or "swap/ID" */
  char instance[INSTANCE_HEX + 1];
  uint64_t size_bytes, mapped_bytes, reserved_bytes;
  bool unnamed, reserved, shared;
  unsigned nr_conns;
  char owner[128];    /* empty: nobody's */
  uint64_t linger_ns; /* left, for an unnamed one that nobody has open */
};
/* name NULL: all, named ones first, in order.  ENOENT. */
extern int store_each_object (struct store *s, const char *name,
                              void (*fn) (void *arg,
                                          const struct object_stat *st),
                              void *arg);

struct conn_stat {
  uint64_t id;
  const char *export;
  char peer[128];
  uint64_t age_ns, idle_ns; /* since open, since the last request began */
  bool readonly, fenced;
  unsigned under_way;
  struct req_stat req[REQ_KINDS];
};
extern void store_each_conn (struct store *s,
                             void (*fn) (void *arg, const struct conn_stat *st),
                             void *arg);

/* Every bound of the store and its use. */
extern void store_each_bound (struct store *s,
                              void (*fn) (void *arg, const char *name,
                                          uint64_t used, uint64_t max),
                              void *arg);

/* Told when the pool becomes full or almost full, or no longer is; called
 * from whatever thread noticed, one at a time; must not block, nor call the
 * store.  When store_on_space returns, what was told before it is told no
 * more.
 */
extern void store_on_space (struct store *s,
                            void (*fn) (void *arg, enum space_state state),
                            void *arg);

/* Walks and recounts everything; nobody is at work.  NULL, or what is wrong. */
extern const char *store_check (struct store *s);

#endif /* FARPAGE_STORE_H */
