/* SPDX-License-Identifier: BSD-2-Clause */
/* A lying NBD server, for tests of the link.  Fixed newstyle, simple replies; a
 * thread for each connection; what it says comes from struct fake.
 *
 * Lock: fake.mutex, of all but the sockets' bytes.  Not done: more than
 * FAKE_CONNS connections in its life.
 */

#include <config.h>

#include "fake-nbd.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REP_MAGIC      UINT64_C (0x3e889045565a9)
#define IN_MAGIC       0x25609513u
#define OUT_MAGIC      0x67446698u
#define CHUNK_MAGIC    0x668e33efu
#define REP_ACK        1u
#define REP_INFO       3u
#define REP_CONTEXT    4u
#define ERR_UNSUP      0x80000001u
#define OPT_ABORT      2u
#define OPT_GO         7u
#define OPT_STRUCTURED 8u
#define OPT_CONTEXT    10u
#define OPT_MAX        65536u
#define REQUEST_MAX    (64u << 20)

struct server_conn {
  struct fake *f;
  unsigned n;
  int fd;
};

static bool
get (int fd, void *to, size_t len)
{
  for (size_t n = 0; n < len;) {
    ssize_t r = recv (fd, (char *) to + n, len - n, 0);

    if (r <= 0)
      return false;
    n += r;
  }
  return true;
}

static bool
put (int fd, const void *from, size_t len)
{
  for (size_t n = 0; n < len;) {
    ssize_t r = send (fd, (const char *) from + n, len - n, MSG_NOSIGNAL);

    if (r <= 0)
      return false;
    n += r;
  }
  return true;
}

/* ---- handshake ---- */

static bool
reply_option (int fd, uint32_t option, uint32_t type, const void *data,
              uint32_t len)
{
  struct __attribute__ ((packed)) {
    uint64_t magic;
    uint32_t option, type, len;
  } head = { htobe64 (REP_MAGIC), htobe32 (option), htobe32 (type),
             htobe32 (len) };

  return put (fd, &head, sizeof head) && put (fd, data, len);
}

static bool
tell_export (struct fake *f, int fd, uint32_t option)
{
  struct __attribute__ ((packed)) {
    uint16_t type;
    uint64_t size;
    uint16_t flags;
  } export = { 0, htobe64 (f->size), htobe16 (f->flags | 1) };
  struct __attribute__ ((packed)) {
    uint16_t type;
    uint32_t block[3];
  } block = { htobe16 (3),
              { htobe32 (f->block[0]), htobe32 (f->block[1]),
                htobe32 (f->block[2]) } };
  char text[256] = { 0, 2 };

  if (f->description != NULL) {
    int n = snprintf (text + 2, sizeof text - 2, "%s", f->description);

    if (!reply_option (fd, option, REP_INFO, text, 2 + n))
      return false;
  }
  if (f->block[2] != 0 &&
      !reply_option (fd, option, REP_INFO, &block, sizeof block))
    return false;
  return reply_option (fd, option, REP_INFO, &export, sizeof export) &&
         reply_option (fd, option, REP_ACK, NULL, 0);
}

static void
note_name (struct fake *f, const char *data, uint32_t len)
{
  uint32_t n = 0;

  if (len >= 4)
    memcpy (&n, data, 4);
  n = be32toh (n);
  if (len >= 4 && n <= len - 4 && n < sizeof f->name) {
    pthread_mutex_lock (&f->mutex);
    memcpy (f->name, data + 4, n);
    f->name[n] = '\0';
    pthread_mutex_unlock (&f->mutex);
  }
}

/* Structured replies and one context, if there is something to tell. */
static bool
tell_more (struct fake *f, int fd, uint32_t option)
{
  char context[] = "\0\0\0\1base:allocation";

  if (option == OPT_CONTEXT && f->nr_extents > 0 &&
      !reply_option (fd, option, REP_CONTEXT, context, sizeof context - 1))
    return false;
  return reply_option (fd, option, f->nr_extents > 0 ? REP_ACK : ERR_UNSUP,
                       NULL, 0);
}

/* True: go on with requests. */
static bool
shake_hands (struct fake *f, int fd)
{
  static const char hello[] = "NBDMAGICIHAVEOPT\0\3";
  char skipped[OPT_MAX];
  uint32_t flags;
  struct __attribute__ ((packed)) {
    char magic[8];
    uint32_t option, len;
  } head;

  if (!put (fd, hello, 18) || !get (fd, &flags, sizeof flags))
    return false;
  while (get (fd, &head, sizeof head)) {
    uint32_t option = be32toh (head.option), len = be32toh (head.len);

    if (len > sizeof skipped || !get (fd, skipped, len))
      return false;
    if (option == OPT_GO)
      note_name (f, skipped, len);
    if (option == OPT_GO && f->refuse == 0)
      return tell_export (f, fd, option);
    if (option == OPT_STRUCTURED || option == OPT_CONTEXT) {
      if (!tell_more (f, fd, option))
        return false;
      continue;
    }
    if (!reply_option (fd, option,
                       option == OPT_ABORT ? REP_ACK
                       : option == OPT_GO  ? f->refuse
                                           : ERR_UNSUP,
                       NULL, 0) ||
        option == OPT_ABORT)
      return false;
  }
  return false;
}

/* ---- requests ---- */

struct __attribute__ ((packed)) wire_request {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t cookie, off;
  uint32_t len;
};

/* What to do with the next of this kind; waits where it is to be held. */
static struct fake_rule
next_act (struct fake *f, unsigned kind)
{
  static const struct fake_rule well;
  struct fake_rule *rule = &f->rule[kind], act = well;

  pthread_mutex_lock (&f->mutex);
  f->nr[kind]++;
  if (kind == FAKE_READ)
    f->writes_before_read = f->nr[FAKE_WRITE];
  if (rule->after > 0) {
    rule->after--;
  } else if (rule->act != FAKE_ANSWER) {
    act = *rule;
    if (rule->times > 0 && --rule->times == 0)
      *rule = well;
  }
  while (act.act == FAKE_HOLD && !f->released)
    pthread_cond_wait (&f->cond, &f->mutex);
  pthread_mutex_unlock (&f->mutex);
  return act;
}

static bool
answer (int fd, const struct wire_request *req, struct fake_rule rule,
        const void *data, uint32_t len)
{
  struct __attribute__ ((packed)) {
    uint32_t magic, error;
    uint64_t cookie;
  } head = { htobe32 (OUT_MAGIC), 0, req->cookie };

  if (rule.act == FAKE_SILENT)
    return true;
  if (rule.act == FAKE_CLOSE)
    return false;
  if (rule.act == FAKE_BAD_COOKIE)
    head.cookie ^= htobe64 (UINT64_C (1) << 40);
  if (rule.act == FAKE_BAD_MAGIC)
    head.magic ^= htobe32 (1);
  if (rule.act == FAKE_ERROR) {
    head.error = htobe32 (rule.value);
    len = 0;
  }
  if (rule.act == FAKE_HALF) {
    size_t n = len > 0 ? sizeof head : sizeof head / 2;

    return put (fd, &head, n) && put (fd, data, len / 2) && false;
  }
  return put (fd, &head, sizeof head) && put (fd, data, len);
}

struct __attribute__ ((packed)) wire_chunk {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t cookie;
  uint32_t len;
};

/* Bytes [from, end) of what was asked for. */
static bool
put_part (int fd, const struct wire_request *req, const uint8_t *data,
          uint32_t from, uint32_t end)
{
  struct wire_chunk head = { htobe32 (CHUNK_MAGIC), 0, htobe16 (1), req->cookie,
                             htobe32 (8 + end - from) };
  uint64_t off = htobe64 (be64toh (req->off) + from);

  return put (fd, &head, sizeof head) && put (fd, &off, 8) &&
         put (fd, data + from, end - from);
}

static bool
answer_parts (int fd, const struct wire_request *req, enum fake_parts parts,
              const uint8_t *data, uint32_t len)
{
  /* Into how many pieces it is cut, and which come, by letters. */
  static const struct {
    uint32_t nr;
    const char *order;
  } how[] = {
    [FAKE_PARTS_NONE] = { 2, "" },
    [FAKE_PARTS_FIRST] = { 2, "a" },
    [FAKE_PARTS_SECOND] = { 2, "b" },
    [FAKE_PARTS_FIRST_TWICE] = { 2, "aa" },
    [FAKE_PARTS_ALL_AND_FIRST] = { 2, "aab" },
    [FAKE_PARTS_BOTH] = { 2, "ab" },
    [FAKE_PARTS_TURNED] = { 2, "ba" },
    [FAKE_PARTS_COMB_8] = { 16, "acegikmobdfhjlnp" },
    [FAKE_PARTS_COMB_9] = { 18, "acegikmoqbdfhjlnpr" },
  };
  const struct wire_chunk end = { htobe32 (CHUNK_MAGIC), htobe16 (1), 0,
                                  req->cookie, 0 };

  for (const char *at = how[parts].order; *at != '\0'; at++) {
    uint32_t i = (uint32_t) (*at - 'a'), nr = how[parts].nr;

    if (!put_part (fd, req, data, len * i / nr, len * (i + 1) / nr))
      return false;
  }
  return put (fd, &end, sizeof end);
}

/* The same where structured replies were asked for: a read and a status. */
static bool
answer_chunk (const struct fake *f, int fd, const struct wire_request *req,
              const void *data, uint32_t len)
{
  struct wire_chunk head = { htobe32 (CHUNK_MAGIC), htobe16 (1), 0, req->cookie,
                             0 };
  uint32_t words[1 + 16] = { htobe32 (1) };

  if (be16toh (req->type) == FAKE_READ) {
    head.type = htobe16 (1);
    head.len = htobe32 (8 + len);
    return put (fd, &head, sizeof head) && put (fd, &req->off, 8) &&
           put (fd, data, len);
  }
  for (unsigned i = 0; i < f->nr_extents; i++)
    words[1 + i] = htobe32 (f->extents[i]);
  head.type = htobe16 (5);
  head.len = htobe32 (4 + 4 * f->nr_extents);
  return put (fd, &head, sizeof head) && put (fd, words, 4 + 4 * f->nr_extents);
}

static bool
serve_one (struct fake *f, int fd, uint8_t *buf)
{
  struct wire_request req;
  struct fake_rule rule;
  unsigned kind;
  uint64_t off;
  uint32_t len;
  bool inside;

  if (!get (fd, &req, sizeof req) || be32toh (req.magic) != IN_MAGIC)
    return false;
  kind = be16toh (req.type);
  off = be64toh (req.off);
  len = be32toh (req.len);
  if (kind >= FAKE_KINDS || kind == FAKE_DISC ||
      (len > REQUEST_MAX && kind != FAKE_STATUS) ||
      (kind == FAKE_WRITE && !get (fd, buf, len)))
    return false;
  inside = off <= f->data_bytes && len <= f->data_bytes - off;
  rule = next_act (f, kind);
  pthread_mutex_lock (&f->mutex);
  if ((kind == FAKE_READ || kind == FAKE_WRITE || kind == FAKE_ZERO) &&
      off < f->bad_end && f->bad < off + len)
    rule = (struct fake_rule){ .act = FAKE_ERROR, .value = f->bad_error };
  if (kind == FAKE_WRITE && inside && rule.act != FAKE_ERROR)
    memcpy (f->data + off, buf, len);
  if (kind == FAKE_READ && inside)
    memcpy (buf, f->data + off, len);
  pthread_mutex_unlock (&f->mutex);
  if (rule.act == FAKE_PARTS)
    return answer_parts (fd, &req, rule.value, buf, len);
  if (rule.act == FAKE_ANSWER && f->nr_extents > 0 &&
      (kind == FAKE_READ || kind == FAKE_STATUS))
    return answer_chunk (f, fd, &req, buf, len);
  return answer (fd, &req, rule, buf, kind == FAKE_READ ? len : 0);
}

static void *
serve (void *arg)
{
  struct server_conn *c = arg;
  uint8_t *buf = malloc (REQUEST_MAX);

  if (shake_hands (c->f, c->fd))
    while (serve_one (c->f, c->fd, buf))
      ;
  shutdown (c->fd, SHUT_RDWR);
  free (buf);
  free (c);
  return NULL;
}

static void *
accept_all (void *arg)
{
  struct fake *f = arg;
  int fd;

  while ((fd = accept (f->listener, NULL, NULL)) != -1) {
    pthread_mutex_lock (&f->mutex);
    if (f->refusing || f->nr_accepted == FAKE_CONNS) {
      f->nr_refused++;
      close (fd);
    } else {
      struct server_conn *c = malloc (sizeof *c);

      *c = (struct server_conn){ f, f->nr_accepted++, fd };
      f->fds[c->n] = fd;
      pthread_create (&f->threads[c->n], NULL, serve, c);
    }
    pthread_mutex_unlock (&f->mutex);
  }
  return NULL;
}

/* ---- from the test ---- */

void
fake_init (struct fake *f, const char *path)
{
  *f = (struct fake){ .size = 16u << 20,
                      .flags = FAKE_FLAGS,
                      .data_bytes = 16u << 20,
                      .mutex = PTHREAD_MUTEX_INITIALIZER,
                      .cond = PTHREAD_COND_INITIALIZER };
  snprintf (f->path, sizeof f->path, "%s", path);
}

void
fake_begin (struct fake *f)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int err;

  f->data = calloc (1, f->data_bytes);
  unlink (f->path);
  snprintf (addr.sun_path, sizeof addr.sun_path, "%s", f->path);
  f->listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  err = bind (f->listener, (struct sockaddr *) &addr, sizeof addr);
  assert (err == 0);
  err = listen (f->listener, 16);
  assert (err == 0);
  (void) err;
  pthread_create (&f->acceptor, NULL, accept_all, f);
}

void
fake_cut (struct fake *f)
{
  pthread_mutex_lock (&f->mutex);
  for (unsigned i = 0; i < f->nr_accepted; i++)
    shutdown (f->fds[i], SHUT_RDWR);
  pthread_mutex_unlock (&f->mutex);
}

void
fake_end (struct fake *f)
{
  shutdown (f->listener, SHUT_RDWR);
  pthread_join (f->acceptor, NULL);
  close (f->listener);
  fake_release (f);
  fake_cut (f);
  for (unsigned i = 0; i < f->nr_accepted; i++) {
    pthread_join (f->threads[i], NULL);
    close (f->fds[i]);
  }
  unlink (f->path);
  free (f->data);
  f->data = NULL;
}

void
fake_rule (struct fake *f, enum fake_kind kind, enum fake_act act,
           uint32_t value, unsigned after, unsigned times)
{
  pthread_mutex_lock (&f->mutex);
  f->rule[kind] = (struct fake_rule){ act, value, after, times };
  if (act == FAKE_HOLD)
    f->released = false;
  pthread_mutex_unlock (&f->mutex);
}

void
fake_bad (struct fake *f, uint64_t from, uint64_t end, uint32_t error)
{
  pthread_mutex_lock (&f->mutex);
  f->bad = from;
  f->bad_end = end;
  f->bad_error = error;
  pthread_mutex_unlock (&f->mutex);
}

void
fake_release (struct fake *f)
{
  pthread_mutex_lock (&f->mutex);
  f->released = true;
  pthread_cond_broadcast (&f->cond);
  pthread_mutex_unlock (&f->mutex);
}

void
fake_refuse (struct fake *f, bool yes)
{
  pthread_mutex_lock (&f->mutex);
  f->refusing = yes;
  pthread_mutex_unlock (&f->mutex);
}

unsigned
fake_count (struct fake *f, enum fake_kind kind)
{
  unsigned nr;

  pthread_mutex_lock (&f->mutex);
  nr = f->nr[kind];
  pthread_mutex_unlock (&f->mutex);
  return nr;
}
