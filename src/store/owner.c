/* SPDX-License-Identifier: BSD-2-Clause */
/* Who may write to an export: owners, sessions, generations.
 *
 *   nobody's --(first modifying request of client A)--> A's
 *   A's      --(A's last connection closes)-----------> nobody's
 *
 * I1. While an export is A's, a new connection of another client is shut out,
 *     read-only for its life, and modifying requests on older ones get EPERM;
 *     unless the export is shared.  One that has told its client nothing yet
 *     may look again, and stands as if it came at that moment.
 * I2. A client is its session if it names one; else its IP address (without
 *     the port: a reconnecting kernel is the same client); else uid and pid of
 *     a Unix socket's peer; else this one connection.
 * I3. Of one session only connections of the highest generation seen publish
 *     anything: joining with a higher one sets the others' fence flags, and
 *     object_fence () makes sure that no publisher is still past its look at
 *     the flag.  A lower one is refused.
 *
 * Not here: a wait for the owner to go.  Whether its process has ended is for
 * the plugin to find out, which looks again meanwhile.
 *
 * Lock: export.lock; a connection's flags are read without it.
 */

#include <config.h>

#include "store-impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool
ident_equal (const struct ident *a, const struct ident *b)
{
  return a->kind == b->kind && memcmp (a->id, b->id, sizeof a->id) == 0;
}

static void
ident_of (struct conn *c, const struct export_name *name)
{
  memset (&c->ident, 0, sizeof c->ident);
  if (name->has_session) {
    c->ident.kind = IDENT_SESSION;
    memcpy (c->ident.id, name->session, SESSION_BYTES);
  } else if (c->peer.kind == PEER_IP) {
    c->ident.kind = IDENT_IP;
    memcpy (c->ident.id, c->peer.address, sizeof c->peer.address);
  } else if (c->peer.kind == PEER_UNIX) {
    c->ident.kind = IDENT_UNIX;
    memcpy (c->ident.id, &c->peer.pid, sizeof c->peer.pid);
    memcpy (c->ident.id + 8, &c->peer.uid, sizeof c->peer.uid);
  } else {
    c->ident.kind = IDENT_CONN;
    memcpy (c->ident.id, &c->id, sizeof c->id);
  }
}

/* Does a connection of this session still hold its place? */
static bool
session_in_use (struct export *x, const struct session *session)
{
  for (struct conn *c = x->conns; c != NULL; c = c->next_export)
    if (c->has_session && memcmp (c->ident.id, session->id, SESSION_BYTES) == 0)
      return true;
  return false;
}

/* The session's place among those remembered; a new one takes a free place,
 * or that of the one that nobody uses and that was used longest ago: what is
 * forgotten is how far its generations had come.  Lock: needs export.lock.
 */
static struct session *
session_find (struct export *x, const uint8_t id[SESSION_BYTES])
{
  struct session *place = NULL;

  for (unsigned i = 0; i < SESSIONS_MAX; i++) {
    struct session *session = &x->sessions[i];

    if (session->used && memcmp (session->id, id, SESSION_BYTES) == 0)
      return session;
    if (place != NULL && session->nr >= place->nr)
      continue;
    if (!session->used || !session_in_use (x, session))
      place = session;
  }
  if (place == NULL)
    return NULL;
  if (!place->used)
    atomic_fetch_add (&x->nr_sessions, 1);
  place->used = true;
  memcpy (place->id, id, SESSION_BYTES);
  place->generation = 0;
  return place;
}

/* Take part in a session.  Lock: needs export.lock. */
static int
session_join (struct conn *c, const struct export_name *name, bool *fenced)
{
  struct session *session = session_find (c->x, name->session);

  if (session == NULL)
    return EMFILE;
  if (name->generation < session->generation)
    return ESHUTDOWN;
  session->generation = name->generation;
  session->nr = ++c->x->nr_joins;
  for (struct conn *o = c->x->conns; o != NULL; o = o->next_export)
    if (o->has_session && ident_equal (&o->ident, &c->ident) &&
        o->generation < name->generation && !atomic_load (&o->fenced)) {
      atomic_store (&o->fenced, true);
      *fenced = true;
    }
  c->has_session = true;
  c->generation = name->generation;
  return 0;
}

/* What c may do as the export's owner is now.  Lock: needs export.lock. */
static void
find_place (struct conn *c)
{
  const struct export *x = c->x;
  const bool mine = x->owned && ident_equal (&x->owner, &c->ident);

  atomic_store (&c->owns, mine);
  atomic_store (&c->shut_out, x->owned && !mine && !x->shared);
}

int
owner_join (struct conn *c, const struct export_name *name)
{
  struct export *x = c->x;
  bool fenced = false;
  int err = 0;

  ident_of (c, name);
  lock_acquire (&x->lock);
  if (name->has_session)
    err = session_join (c, name, &fenced);
  if (err == 0) {
    find_place (c);
    c->next_export = x->conns;
    x->conns = c;
  }
  lock_release (&x->lock);
  if (fenced)
    object_fence (x->o);
  return err;
}

void
owner_leave (struct conn *c)
{
  struct export *x = c->x;
  struct conn **p = &x->conns;

  LOCK_SCOPE (&x->lock);
  while (*p != c)
    p = &(*p)->next_export;
  *p = c->next_export;
  if (!x->owned || !ident_equal (&x->owner, &c->ident))
    return;
  for (struct conn *o = x->conns; o != NULL; o = o->next_export)
    if (ident_equal (&o->ident, &c->ident))
      return;
  x->owned = false;
}

int64_t
conn_owner_pid (const struct conn *c)
{
  struct export *x = c->x;
  int64_t pid = 0;

  LOCK_SCOPE (&x->lock);
  if (!x->owned || ident_equal (&x->owner, &c->ident))
    return 0;
  for (struct conn *o = x->conns; o != NULL; o = o->next_export) {
    if (!ident_equal (&o->ident, &x->owner))
      continue;
    if (o->peer.kind != PEER_UNIX || (pid != 0 && pid != o->peer.pid))
      return 0;
    pid = o->peer.pid;
  }
  return pid;
}

bool
conn_look_again (struct conn *c)
{
  LOCK_SCOPE (&c->x->lock);
  if (atomic_load (&c->shut_out))
    find_place (c);
  return !conn_readonly (c);
}

/* The first modifying request of c, or one that another client owns. */
static int
take (struct conn *c)
{
  struct export *x = c->x;

  LOCK_SCOPE (&x->lock);
  if (x->owned)
    return ident_equal (&x->owner, &c->ident) ? 0 : EPERM;
  x->owned = true;
  x->owner = c->ident;
  for (struct conn *o = x->conns; o != NULL; o = o->next_export)
    if (ident_equal (&o->ident, &c->ident))
      atomic_store (&o->owns, true);
  return 0;
}

int
owner_may_modify (struct conn *c)
{
  if (atomic_load (&c->fenced))
    return ESHUTDOWN;
  if (conn_readonly (c))
    return EPERM;
  if (c->x->shared || atomic_load (&c->owns))
    return 0;
  return take (c);
}

void
peer_text (const struct peer *peer, char *text, size_t bytes)
{
  char ip[INET6_ADDRSTRLEN];

  switch (peer->kind) {
  case PEER_IP:
    if (memcmp (peer->address, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0) {
      inet_ntop (AF_INET, peer->address + 12, ip, sizeof ip);
      snprintf (text, bytes, "%s:%u", ip, peer->port);
    } else {
      inet_ntop (AF_INET6, peer->address, ip, sizeof ip);
      snprintf (text, bytes, "[%s]:%u", ip, peer->port);
    }
    break;
  case PEER_UNIX:
    snprintf (text, bytes, "pid %" PRId64 " (uid %" PRIu32 ")", peer->pid,
              peer->uid);
    break;
  case PEER_UNKNOWN:
    snprintf (text, bytes, "unknown");
    break;
  }
}

void
ident_text (const struct ident *ident, char *text, size_t bytes)
{
  struct peer peer = { .kind = PEER_UNIX };
  char hex[2 * SESSION_BYTES + 1];
  uint64_t id;

  switch (ident->kind) {
  case IDENT_SESSION:
    hex_put (hex, ident->id, SESSION_BYTES);
    snprintf (text, bytes, "session %s", hex);
    break;
  case IDENT_IP:
    if (memcmp (ident->id, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0)
      inet_ntop (AF_INET, ident->id + 12, text, (socklen_t) bytes);
    else
      inet_ntop (AF_INET6, ident->id, text, (socklen_t) bytes);
    break;
  case IDENT_UNIX:
    memcpy (&peer.pid, ident->id, sizeof peer.pid);
    memcpy (&peer.uid, ident->id + 8, sizeof peer.uid);
    peer_text (&peer, text, bytes);
    break;
  case IDENT_CONN:
    memcpy (&id, ident->id, sizeof id);
    snprintf (text, bytes, "connection %" PRIu64, id);
    break;
  }
}
