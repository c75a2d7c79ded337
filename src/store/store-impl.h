/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of store/ share; nobody else includes it. */

#ifndef FARPAGE_STORE_IMPL_H
#define FARPAGE_STORE_IMPL_H

#include "store.h"

#include <stdatomic.h>

#include "lock.h"
#include "log.h"
#include "object.h"
#include "space.h"
#include "swmeta.h"
#include "volume.h"

#define EXPORTS_MAX    65536u /* objects in a store */
#define CONNS_MAX      4096u  /* connections to it */
#define SESSIONS_MAX   64u    /* remembered for an export */
#define BATCHES        32u    /* I/O contexts, of a store that needs them */
#define BOUNCE_BYTES   (SPACE_HANDOUT_MAX * PAGE_BYTES)
#define NAMED_LINGER_S 100000000u /* a named disk waits for ever */
#define SESSION_BYTES  16
#define INSTANCE_BYTES 16

/* ---- names.c: what an export name says ---- */

#define SWAP_PREFIX "swap/"

struct export_name {
  char name[OBJECT_NAME_MAX + sizeof SWAP_PREFIX]; /* "NAME" or "swap/ID" */
  bool unnamed;
  uint64_t size_bytes; /* of an unnamed one; 0: not said */
  bool has_instance, has_session;
  uint8_t instance[INSTANCE_BYTES];
  uint8_t session[SESSION_BYTES];
  uint64_t generation;
};

/* NULL, or what is wrong. */
extern const char *export_name_parse (const char *text,
                                      struct export_name *name);
extern void hex_put (char *text, const uint8_t *bytes, size_t nr);
/* A client's text for a message, cut to fit: what is no character, or steers
 * a terminal or ends a line of the log, becomes a question mark.
 */
extern void export_name_show (const char *text, char *to, size_t bytes);

/* ---- who a client is, as far as owning goes ---- */

struct ident {
  enum {
    IDENT_CONN,
    IDENT_SESSION,
    IDENT_IP,
    IDENT_UNIX
  } kind;
  uint8_t id[SESSION_BYTES];
};

struct session {
  bool used;
  uint8_t id[SESSION_BYTES];
  uint64_t generation; /* the highest seen; lower ones are fenced */
  uint64_t nr;         /* of the join that was its last */
};

/* An object with its name and those who have it open. */
struct export
{
  char *name;                       /* [const] */
  uint8_t instance[INSTANCE_BYTES]; /* [const] */
  char description[128];            /* [const] */
  bool unnamed, shared;             /* [const] */
  struct object *o;                 /* [const] once made */
  struct dobject *dobj;             /* of a durable one, or NULL */
  bool kept;                        /* could not be emptied: durable_keep () */
  bool made;                        /* [store.lock] else being made */
  bool listed;                      /* [store.lock] in the table */
  bool resizing;               /* [store.lock] nobody else may, nor remove */
  bool left_cut;               /* [store.lock] since the open: reap.c */
  bool shut;                   /* [store.lock] who asks for it waits */
  atomic_bool paused;          /* its requests wait; changes under lock */
  _Atomic uint64_t size_bytes; /* of connections that are opened now */
  unsigned nr_conns;           /* [store.lock] */
  uint64_t closed_ns;          /* [store.lock] when the last one left */
  atomic_bool written;         /* some request has modified it */
  lock_t lock;
  struct conn *conns;                    /* [lock] */
  bool owned;                            /* [lock] */
  struct ident owner;                    /* [lock] if owned */
  struct session sessions[SESSIONS_MAX]; /* [lock] */
  uint64_t nr_joins;                     /* [lock] of all sessions */
  atomic_uint nr_sessions;               /* written under lock: places taken */
};

struct req_count {
  _Atomic uint64_t count, bytes, errors;
};

struct conn {
  struct store *s;      /* [const] */
  struct export *x;     /* [const] */
  uint64_t id;          /* [const] */
  struct peer peer;     /* [const] */
  struct ident ident;   /* [const] */
  bool has_session;     /* [const] */
  uint64_t generation;  /* [const] */
  bool readonly;        /* [const] asked for so, or the store is */
  uint64_t size_bytes;  /* [const] of x, when it connected */
  uint64_t opened_ns;   /* [const] */
  atomic_bool fenced;   /* set under export.lock */
  atomic_bool owns;     /* written under export.lock */
  atomic_bool shut_out; /* the same: another client owned x at the last look */
  atomic_uint under_way;
  _Atomic uint64_t last_ns;
  struct req_count req[REQ_KINDS];
  struct conn *next_export;             /* [export.lock] */
  struct conn *next_store, *prev_store; /* [store.lock] */
};

struct store {
  struct store_config config;          /* [const] */
  char *default_name;                  /* [const] */
  unsigned nr_volumes;                 /* [const] */
  struct volume *volumes[VOLUMES_MAX]; /* [const] */
  struct space *space;                 /* [const] */
  struct durable *durable;             /* [const] NULL: volatile */
  bool opened;                         /* store_open () has worked */
  bool stopped;                        /* store_stop () was called */
  struct reaper *reaper;               /* of a durable store, or NULL */
  struct swzone *zone;                 /* [const] */
  struct vpool *pool;                  /* [const] once started */
  uint64_t opened_ns;                  /* [const] */
  lock_t news_lock;                    /* held while on_space is called */
  void (*on_space) (void *arg, enum space_state state); /* [news_lock] */
  void *on_space_arg;                                   /* [news_lock] */
  atomic_bool holding;
  struct log_limit client_limit;
  lock_t lock;
  cond_t changed;                   /* an export was made, or failed to be */
  struct export **exports;          /* [lock] by name */
  unsigned nr_exports;              /* [lock] */
  struct conn *conns;               /* [lock] */
  unsigned nr_conns;                /* [lock] */
  uint64_t next_conn_id;            /* [lock] */
  struct req_count gone[REQ_KINDS]; /* of connections that have ended */
};

/* ---- store.c ---- */

/* For space_config: tell of a level. */
extern void store_space_changed (void *arg, enum space_level level);
/* How a description names what s promises. */
extern const char *store_durability_name (const struct store *s);

/* ---- reap.c: objects that were being removed when the store ended ---- */

/* Begin to free what they have, in a thread of its own. */
extern int reap_start (struct store *s);
/* It ends soon, maybe before all is freed; or when all is. */
extern void reap_stop (struct store *s);
extern void reap_wait (struct store *s);

/* ---- resize.c ---- */

/* What a crash or a stop has left behind the end of x, which is resizing, is
 * freed.  EINTR (object_drop_stop ()), EIO: it is for the next one.
 */
extern int resize_finish (struct store *s, struct export *x);

/* ---- table.c ---- */

/* A new export of this name in the table, being made: others wait for it.
 * Lock: needs store.lock.
 */
extern int table_add (struct store *s, const char *name, struct export **xp);
/* The export of this name, made; NULL.  Lock: needs store.lock, which it lets
 * go while it waits.
 */
extern struct export *table_find (struct store *s, const char *name);
/* The same, made or being made. */
extern struct export *table_look (struct store *s, const char *name);
extern void table_remove (struct store *s, struct export *x);
/* The first named export behind name that is made; NULL.  Lock: as before. */
extern struct export *table_next (struct store *s, const char *name);

struct export_config {
  uint64_t size_bytes;
  bool unnamed, shared, reserved, prepared;
};
/* Find or make.  created: a new one is wanted, EEXIST if there is one.
 * nr_conns of the result is one more.
 */
extern int export_get (struct store *s, const char *name,
                       const struct export_config *config, bool create_only,
                       struct export **xp);
/* An export for an object that the table on the media has, at open. */
extern int export_load (struct store *s, struct dobject *dobj);
/* Give a reference back.  close: of a client that had it open, so that the
 * time it lingers begins; a look that led to nothing must not prolong it.
 */
extern void export_put (struct store *s, struct export *x);
extern void export_close (struct store *s, struct export *x);

/* How long an unnamed export that nobody has open still stays.  Lock: needs
 * store.lock.  [store.c]
 */
extern uint64_t linger_left_ns (struct store *s, const struct export *x,
                                uint64_t now_ns);

/* ---- owner.c ---- */

/* The connection joins its export; fences, and is shut out if another client
 * owns it.
 */
extern int owner_join (struct conn *c, const struct export_name *name);
extern void owner_leave (struct conn *c);
/* 0, EPERM or ESHUTDOWN: may this connection modify? */
extern int owner_may_modify (struct conn *c);

extern void peer_text (const struct peer *peer, char *text, size_t bytes);
extern void ident_text (const struct ident *ident, char *text, size_t bytes);

#endif /* FARPAGE_STORE_IMPL_H */
