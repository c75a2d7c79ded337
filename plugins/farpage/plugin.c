/* SPDX-License-Identifier: BSD-2-Clause */
/* The nbdkit plugin: it translates, and decides nothing.
 *
 *   nbdkit worker thread -> callback here -> store_/conn_ function
 *                                         <- 0 or errno, made nbdkit's
 *
 * Rules of nbdkit 1.32 that this file keeps, each with a test:
 * T1. A zero that fails with ENOTSUP or EOPNOTSUPP makes nbdkit write zeros
 *     at the wrong place: only a request with FAST_ZERO gets ENOTSUP.
 * T2. An extent that ends behind the request aborts the server: extents are
 *     cut at the request's end before they are added.
 * T3. An errno that NBD has no word for becomes EINVAL, which blames the
 *     client: wire_errno () lets out only words it has.
 * T4. .open and .close run for every look a client takes at an export, and for
 *     each connection: what an export is does not hang on them.
 * T5. Threads, rings and loops do not live through the fork: they are made in
 *     .after_fork.  All else that can fail is done in .get_ready, for after
 *     the fork nobody may see an error any more.  Locked memory does not live
 *     through it either, and a thread that is made too early does not inherit
 *     the flusher's flag: armour comes first in .after_fork; .get_ready looks
 *     whether it can.
 * T6. .close may be left out when the server ends.
 * T7. Told to quit, nbdkit answers what it still reads with ESHUTDOWN, which
 *     a kernel turns into I/O errors: `farpage stop` holds all requests and
 *     ends the process instead.
 * T8. nbdkit fails a list of more than 10,000 exports as a whole: it is cut.
 */

#include <config.h>

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "armour.h"
#include "control.h"
#include "env.h"
#include "log.h"
#include "params.h"
#include "store.h"

#define THREAD_MODEL    NBDKIT_THREAD_MODEL_PARALLEL
#define BLOCK_MIN       1
#define BLOCK_PREFERRED PAGE_BYTES
#define BLOCK_MAX       (UINT32_C (32) << 20)
#define HOLD_WAIT_NS    (20 * NS_PER_S)
#define LEAVE_MS        2000u /* for the connections of a process that ended */

#define EXPORTS_LISTED_MAX 10000

static struct store *store;
static struct control *control;
static struct armour armour;

static void
log_to_nbdkit (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  if (level == LOG_ERROR || level == LOG_WARNING)
    nbdkit_error ("%s", text);
  else
    nbdkit_debug ("%s", text);
}

/* ---- the server's life ---- */

static int
farpage_get_ready (void)
{
  int err;

  log_set (log_to_nbdkit, NULL);
  if (armour_try (params_armour ()) != 0) {
    nbdkit_error ("armour=yes was asked for; armour=auto goes on without");
    return -1;
  }
  err = store_open (params_store (), &store);
  if (err) {
    nbdkit_error ("the store was not opened: %s", strerror (err));
    return -1;
  }
  err = control_bind (params_control (), &control);
  if (err) {
    nbdkit_error ("no control socket: %s", strerror (err));
    return -1;
  }
  return 0;
}

/* `farpage stop`, in the control thread, when its client has been told. */
static void
stop (void *arg)
{
  (void) arg;
  if (!store_hold (store, HOLD_WAIT_NS))
    nbdkit_error ("stop: requests are still under way after %d s",
                  (int) (HOLD_WAIT_NS / NS_PER_S));
  else if (store_stop (store) != 0)
    nbdkit_error ("stop: the store did not end clean; it recovers at its next "
                  "start");
  control_stop (control);
  _exit (0);
}

static int
farpage_after_fork (void)
{
  int err = armour_put_on (params_armour (), &armour);

  if (err == 0)
    err = store_start (store);
  if (err == 0)
    err = control_start (control, store, &armour, stop, NULL);
  if (err) {
    nbdkit_error ("the server cannot start: %s", strerror (err));
    return -1;
  }
  armour_fill (&armour, !params_store ()->sparse, NULL);
  return 0;
}

static void
farpage_cleanup (void)
{
  struct store_stat st;

  control_stop (control);
  control = NULL;
  if (store == NULL)
    return;
  store_stat (store, &st);
  if (st.nr_conns == 0) /* T6 */
    store_close (store);
  else
    (void) store_stop (store);
  store = NULL;
}

static void
farpage_unload (void)
{
  params_free ();
}

static void
farpage_dump_plugin (void)
{
  printf ("farpage_durability=flush,strict,volatile\n");
  printf ("farpage_volumes=mem,file,block\n");
  printf ("farpage_volumes_max=%u\n", VOLUMES_MAX);
  printf ("farpage_block_maximum=%u\n", BLOCK_MAX);
#ifdef FARPAGE_DEBUG
  printf ("farpage_debug=yes\n");
#endif
}

/* ---- names ---- */

struct exports_arg {
  struct nbdkit_exports *exports;
  unsigned nr;
};

/* Those behind the last that fits can be opened, but are not listed (T8). */
#define LIST_FULL (-1)

static int
add_export (void *arg, const char *name, const char *description)
{
  struct exports_arg *a = arg;

  if (a->nr++ == EXPORTS_LISTED_MAX)
    return LIST_FULL;
  return nbdkit_add_export (a->exports, name, description) == 0 ? 0 : ENOMEM;
}

static int
farpage_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  struct exports_arg arg = { exports, 0 };
  int err = store_list (store, add_export, &arg);

  (void) readonly;
  (void) is_tls;
  return err == 0 || err == LIST_FULL ? 0 : -1;
}

static const char *
farpage_default_export (int readonly, int is_tls)
{
  char name[OBJECT_NAME_MAX + 1];

  (void) readonly;
  (void) is_tls;
  if (store_default (store, name) != 0)
    return "";
  return nbdkit_strdup_intern (name);
}

/* ---- connections ---- */

static void
find_peer (struct peer *peer)
{
  struct sockaddr_storage ss;
  socklen_t len = sizeof ss;

  memset (peer, 0, sizeof *peer);
  if (nbdkit_peer_name ((struct sockaddr *) &ss, &len) < 0)
    return;
  if (ss.ss_family == AF_UNIX) {
    int64_t uid = nbdkit_peer_uid ();

    peer->pid = nbdkit_peer_pid ();
    peer->uid = (uint32_t) uid;
    if (uid >= 0 && peer->pid >= 0)
      peer->kind = PEER_UNIX;
  } else if (ss.ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *) &ss;

    peer->kind = PEER_IP;
    peer->address[10] = peer->address[11] = 0xff;
    memcpy (&peer->address[12], &in->sin_addr, 4);
    peer->port = ntohs (in->sin_port);
  } else if (ss.ss_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &ss;

    peer->kind = PEER_IP;
    memcpy (peer->address, &in6->sin6_addr, 16);
    peer->port = ntohs (in6->sin6_port);
  }
}

/* Who owns the export has ended, and its connections are about to: the next
 * client may well be here before nbdkit has seen that.
 */
static bool
owner_has_ended (const struct conn *c)
{
  const int64_t pid = conn_owner_pid (c);

  return pid > 0 && kill ((pid_t) pid, 0) == -1 && errno == ESRCH;
}

/* Has the owner ended?  That is asked before each look: who goes away between
 * the two is seen by the look.
 */
static void
wait_to_write (struct conn *c)
{
  const struct timespec nap = { .tv_nsec = 1000000 };

  for (unsigned ms = 0; conn_readonly (c); ms++) {
    bool ended = owner_has_ended (c);

    if (conn_look_again (c) || !ended || ms == LEAVE_MS)
      return;
    nanosleep (&nap, NULL);
  }
}

static void *
farpage_open (int readonly)
{
  const char *export = nbdkit_export_name ();
  struct peer peer;
  struct conn *c;
  int err;

  if (export == NULL)
    return NULL;
  find_peer (&peer);
  err = store_connect (store, export, readonly != 0, &peer, &c);
  if (err) {
    nbdkit_debug ("export '%s': %s", export, strerror (err));
    return NULL;
  }
  if (!readonly)
    wait_to_write (c);
  return c;
}

static void
farpage_close (void *handle)
{
  store_disconnect (handle);
}

static const char *
farpage_export_description (void *handle)
{
  return conn_description (handle);
}

static int64_t
farpage_get_size (void *handle)
{
  return (int64_t) conn_size_bytes (handle);
}

static int
farpage_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                    uint32_t *maximum)
{
  (void) handle;
  *minimum = BLOCK_MIN;
  *preferred = BLOCK_PREFERRED;
  *maximum = BLOCK_MAX;
  return 0;
}

static int
farpage_can_write (void *handle)
{
  return !conn_readonly (handle);
}

static int
yes (void *handle)
{
  (void) handle;
  return 1;
}

static int
no (void *handle)
{
  (void) handle;
  return 0;
}

static int
farpage_can_fua (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

static int
farpage_can_cache (void *handle)
{
  (void) handle;
  return NBDKIT_CACHE_NATIVE;
}

/* ---- requests ---- */

/* T3. */
static int
wire_errno (int err)
{
  switch (err) {
  case EPERM:
  case EROFS:
  case EIO:
  case ENOMEM:
  case EINVAL:
  case ENOSPC:
  case ESHUTDOWN:
    return err;
  default:
    return EIO;
  }
}

/* The client is told by errno; a message a request could fill the log. */
static int
result (int err)
{
  if (err == 0)
    return 0;
  nbdkit_set_error (wire_errno (err));
  return -1;
}

static int
farpage_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
               uint32_t flags)
{
  (void) flags;
  return result (conn_read (handle, buf, offset, count));
}

static int
farpage_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
                uint32_t flags)
{
  return result (
      conn_write (handle, buf, offset, count, flags & NBDKIT_FLAG_FUA));
}

static int
farpage_flush (void *handle, uint32_t flags)
{
  (void) flags;
  return result (conn_flush (handle));
}

static int
farpage_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  return result (conn_trim (handle, offset, count, flags & NBDKIT_FLAG_FUA));
}

static int
farpage_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  bool fast = flags & NBDKIT_FLAG_FAST_ZERO;
  int err = conn_zero (handle, offset, count, flags & NBDKIT_FLAG_MAY_TRIM,
                       fast, flags & NBDKIT_FLAG_FUA);

  if (err == ENOTSUP && fast) { /* T1 */
    nbdkit_set_error (ENOTSUP);
    return -1;
  }
  return result (err);
}

static int
farpage_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) flags;
  return result (conn_cache (handle, offset, count));
}

struct extents_arg {
  struct nbdkit_extents *extents;
  uint64_t end; /* of the request */
};

static int
add_extent (void *arg, uint64_t off, uint64_t bytes, bool hole, bool zero)
{
  struct extents_arg *a = arg;
  uint32_t type =
      (hole ? NBDKIT_EXTENT_HOLE : 0) | (zero ? NBDKIT_EXTENT_ZERO : 0);

  if (off >= a->end)
    return 0;
  bytes = min_u64 (bytes, a->end - off); /* T2 */
  return nbdkit_add_extent (a->extents, off, bytes, type) == 0 ? 0 : ENOMEM;
}

static int
farpage_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents)
{
  struct extents_arg arg = { extents, offset + count };

  return result (conn_extents (handle, offset, count,
                               flags & NBDKIT_FLAG_REQ_ONE, add_extent, &arg));
}

static struct nbdkit_plugin plugin = {
  .name = "farpage",
  .longname = "farpage: remote swap and disks from a pool",
  .version = PACKAGE_VERSION,
  .unload = farpage_unload,
  .dump_plugin = farpage_dump_plugin,
  .config = params_set,
  .config_complete = params_complete,
  .config_help = params_help,
  .magic_config_key = "volume",
  .get_ready = farpage_get_ready,
  .after_fork = farpage_after_fork,
  .cleanup = farpage_cleanup,
  .list_exports = farpage_list_exports,
  .default_export = farpage_default_export,
  .export_description = farpage_export_description,
  .open = farpage_open,
  .close = farpage_close,
  .get_size = farpage_get_size,
  .block_size = farpage_block_size,
  .can_write = farpage_can_write,
  .can_flush = yes,
  .is_rotational = no,
  .can_trim = yes,
  .can_zero = yes,
  .can_fast_zero = yes,
  .can_extents = yes,
  .can_multi_conn = yes,
  .can_fua = farpage_can_fua,
  .can_cache = farpage_can_cache,
  .pread = farpage_pread,
  .pwrite = farpage_pwrite,
  .flush = farpage_flush,
  .trim = farpage_trim,
  .zero = farpage_zero,
  .extents = farpage_extents,
  .cache = farpage_cache,
  .errno_is_preserved = 1,
};

/* What nbdkit looks for; its header defines it, but does not declare it. */
extern NBDKIT_DLL_PUBLIC struct nbdkit_plugin *plugin_init (void);
NBDKIT_REGISTER_PLUGIN (plugin)
