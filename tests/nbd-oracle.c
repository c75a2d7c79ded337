/* SPDX-License-Identifier: BSD-2-Clause */
/* Clients that write at random, survive their server, and know afterwards what
 * its disks must hold (oracle.c).  Driven by a script: a line a command on
 * standard input, a line an answer.
 *
 *   nbd-oracle [-j JOURNAL | -p JOURNAL] [-l LOG] [-f] SOCKET MIB CONNS NAME...
 *
 *   dial          connect, so that the next run need not
 *   run MS        requests for MS milliseconds, or until the server has gone
 *   resume MS     the same, but who loses the server sends what was not
 *                 answered again to the next one
 *   play NR       with -p: the model becomes what was before entry NR of the
 *                 log
 *   verify        read everything and compare, after a restart
 *   look          the same, of a server that goes on
 *
 * All the disks have MIB MiB; CONNS connections share them out, each with
 * sectors of its own.  -f: only what was flushed stands.  -l: after each flush
 * the number of entries of this log of qemu's blklogwrites goes into the
 * journal.  "run" answers "ok" (time was over) or "gone", and the counts of
 * requests that were replied, lost (no reply), and errors; "verify" and "look"
 * "ok PAGES", "wrong SECTORS" or "failed ERRNO".
 *
 * Environment: FARPAGE_SEED.  One thread; libnbd's own checks stay on.
 */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "oracle.h"

#define CONNS_MAX      16u
#define DISKS_MAX      4u
#define DEPTH          4u
#define OP_BYTES       (128u << 10)
#define DIAL_TRIES     400 /* times 50 ms */
#define DRAIN_MS       30000
#define HOT_SECTORS    256u
#define VERIFY_SECTORS (OP_BYTES / SECTOR)

enum kind {
  WRITE,
  TRIM,
  ZERO,
  FLUSH,
  READ
};

struct slot {
  struct conn *c;
  enum kind kind;
  struct range r;
  uint32_t id, flags;
  uint64_t clock;
  bool out, over;
  int error;
  char buf[OP_BYTES];
};

struct conn {
  struct nbd_handle *nbd;
  unsigned disk;
  uint32_t first, nr; /* its sectors */
  struct slot slots[DEPTH];
};

static struct {
  const char *socket, *journal, *log;
  char **names;
  unsigned nr_disks, nr_conns;
  uint32_t disk_sectors;
  bool playing;
} config;

static struct conn conns[CONNS_MAX];
static struct oracle *oracle;
static uint64_t random_state;
static unsigned long replied, errors, lost, wrong_reads;
static int first_error;
static bool dialled; /* for the next run */

static uint32_t
random_below (uint32_t n)
{
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t) ((random_state >> 16) % n);
}

static uint64_t
now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}

/* ---- connections ---- */

static bool
alive (const struct conn *c)
{
  return c->nbd != NULL && !nbd_aio_is_dead (c->nbd) &&
         !nbd_aio_is_closed (c->nbd);
}

static bool
dial_once (struct conn *c)
{
  nbd_close (c->nbd);
  c->nbd = nbd_create ();
  return c->nbd != NULL &&
         nbd_set_export_name (c->nbd, config.names[c->disk]) == 0 &&
         nbd_connect_unix (c->nbd, config.socket) == 0;
}

static bool
dial (struct conn *c)
{
  for (int i = 0; i < DIAL_TRIES; i++) {
    if (dial_once (c))
      return true;
    usleep (50000);
  }
  fprintf (stderr, "nbd-oracle: %s\n", nbd_get_error ());
  return false;
}

static void
hang_up (void)
{
  for (unsigned i = 0; i < config.nr_conns; i++) {
    nbd_close (conns[i].nbd);
    conns[i].nbd = NULL;
  }
}

/* New ones: of an old one nobody has looked whether it still is. */
static bool
dial_all (void)
{
  hang_up ();
  for (unsigned i = 0; i < config.nr_conns; i++)
    if (!dial (&conns[i]))
      return false;
  return true;
}

/* ---- requests ---- */

/* A reply; for the end of the connection libnbd says ENOTCONN, which no server
 * can, since NBD has no such error: that is no reply.
 */
static int
done (void *opaque, int *error)
{
  struct slot *slot = opaque;

  if (*error != ENOTCONN) {
    slot->error = *error;
    slot->over = true;
  }
  return 1;
}

static void
transmit (struct slot *s)
{
  nbd_completion_callback cb = { .callback = done, .user_data = s };
  uint64_t off = (uint64_t) s->r.first * SECTOR;
  uint64_t len = (uint64_t) s->r.nr * SECTOR;
  struct nbd_handle *nbd = s->c->nbd;
  int64_t r = -1;

  switch (s->kind) {
  case WRITE:
    r = nbd_aio_pwrite (nbd, s->buf, len, off, cb, s->flags);
    break;
  case TRIM:
    r = nbd_aio_trim (nbd, len, off, cb, s->flags);
    break;
  case ZERO:
    r = nbd_aio_zero (nbd, len, off, cb, s->flags);
    break;
  case FLUSH:
    r = nbd_aio_flush (nbd, cb, 0);
    break;
  case READ:
    r = nbd_aio_pread (nbd, s->buf, len, off, cb, 0);
    break;
  }
  s->out = true;
  if (r == -1 && alive (s->c)) {
    fprintf (stderr, "nbd-oracle: %s\n", nbd_get_error ());
    exit (1);
  }
}

static void
choose_range (const struct conn *c, struct range *r)
{
  unsigned what = random_below (100);
  bool whole = what < 45 || what >= 90;
  uint32_t room = random_below (3) == 0 ? HOT_SECTORS : c->nr;

  if (what < 45)
    r->nr = PAGE_SECTORS;
  else if (what < 60)
    r->nr = 1;
  else if (what < 90)
    r->nr = 1 + random_below (6 * PAGE_SECTORS);
  else
    r->nr =
        PAGE_SECTORS * (1 + random_below (OP_BYTES / SECTOR / PAGE_SECTORS));
  r->disk = c->disk;
  if (room > c->nr)
    room = c->nr;
  if (r->nr >= room)
    r->nr = PAGE_SECTORS;
  r->first = random_below (room - r->nr);
  if (whole)
    r->first -= r->first % PAGE_SECTORS;
  r->first += c->first;
}

static enum kind
choose_kind (void)
{
  unsigned what = random_below (100);

  return what < 70   ? WRITE
         : what < 76 ? TRIM
         : what < 82 ? ZERO
         : what < 88 ? FLUSH
                     : READ;
}

static void
submit (struct slot *s)
{
  bool zeros = random_below (20) == 0;

  s->kind = choose_kind ();
  s->over = false;
  s->flags = random_below (10) == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
  choose_range (s->c, &s->r);
  if (s->kind == FLUSH || s->kind == READ) {
    s->clock = oracle_flush (oracle);
    transmit (s);
    return;
  }
  s->id = oracle_issue (oracle, s->r, s->kind != WRITE || zeros);
  if (s->id == 0)
    return;
  if (s->kind == ZERO && random_below (2) == 0)
    s->flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (zeros)
    memset (s->buf, 0, sizeof s->buf);
  else
    oracle_fill (s->id, s->r, s->buf);
  transmit (s);
}

static void
mark_log (void)
{
  uint64_t head[3]; /* magic, version, entries */
  int fd = open (config.log, O_RDONLY);

  if (fd == -1 || pread (fd, head, sizeof head, 0) != sizeof head) {
    perror (config.log);
    exit (1);
  }
  close (fd);
  oracle_mark (oracle, le64toh (head[2]));
}

static void
finish (struct slot *s)
{
  s->out = false;
  if (s->error == 0) {
    replied++;
  } else {
    errors++;
    if (first_error == 0)
      first_error = s->error;
  }
  if (s->kind == READ && s->error == 0) {
    wrong_reads += oracle_check (oracle, s->r, s->buf, LOOK_READ, s->clock);
  } else if (s->kind == FLUSH && s->error == 0) {
    oracle_flushed (oracle, s->clock);
    if (config.log != NULL)
      mark_log ();
  } else if (s->kind != READ && s->kind != FLUSH) {
    oracle_over (oracle, s->id, s->error == 0,
                 (s->flags & LIBNBD_CMD_FLAG_FUA) != 0);
  }
  s->error = 0;
}

/* The server has gone: what is out was maybe done. */
static void
lose (struct slot *s)
{
  s->out = false;
  lost++;
  if (s->kind != READ && s->kind != FLUSH)
    oracle_over (oracle, s->id, false, false);
}

/* ---- running ---- */

/* Take replies, send what has room.  Is anything out? */
static bool
turn (struct conn *c, bool more)
{
  bool out = false;

  for (unsigned k = 0; k < DEPTH; k++) {
    struct slot *s = &c->slots[k];

    if (s->out && s->over)
      finish (s);
    if (!s->out && more && alive (c))
      submit (s);
    out = out || s->out;
  }
  return out;
}

static void
move_bytes (struct conn *c, int revents)
{
  unsigned dir = nbd_aio_get_direction (c->nbd);

  if ((revents & (POLLIN | POLLHUP | POLLERR)) &&
      (dir & LIBNBD_AIO_DIRECTION_READ))
    nbd_aio_notify_read (c->nbd);
  else if ((revents & POLLOUT) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
    nbd_aio_notify_write (c->nbd);
}

static void
wait_all (void)
{
  struct pollfd p[CONNS_MAX];

  for (unsigned i = 0; i < config.nr_conns; i++) {
    bool on = alive (&conns[i]);
    unsigned dir = on ? nbd_aio_get_direction (conns[i].nbd) : 0;

    p[i] = (struct pollfd){ .fd = on ? nbd_aio_get_fd (conns[i].nbd) : -1 };
    p[i].events = (short) ((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                           (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
  }
  poll (p, config.nr_conns, 100);
  for (unsigned i = 0; i < config.nr_conns; i++)
    if (p[i].revents != 0)
      move_bytes (&conns[i], p[i].revents);
}

/* A connection has ended.  true: it has another now. */
static bool
ended (struct conn *c, bool resume)
{
  bool again = resume && dial (c);

  for (unsigned k = 0; k < DEPTH; k++) {
    struct slot *s = &c->slots[k];

    if (s->out && s->over)
      finish (s);
    if (s->out && again)
      transmit (s);
    else if (s->out)
      lose (s);
  }
  return again;
}

static void
run (uint64_t ms, bool resume)
{
  uint64_t end = now_ms () + ms;
  bool busy = true, gone = false;

  replied = errors = lost = wrong_reads = 0;
  first_error = 0;
  if (!dialled && !dial_all ()) {
    printf ("failed\n");
    return;
  }
  dialled = false;
  while (busy) {
    bool more = !gone && now_ms () < end;

    if (now_ms () > end + DRAIN_MS) {
      printf ("hangs\n");
      return;
    }
    busy = more;
    for (unsigned i = 0; i < config.nr_conns; i++) {
      if (!alive (&conns[i]) && !ended (&conns[i], resume))
        gone = true;
      else if (turn (&conns[i], more))
        busy = true;
    }
    if (busy)
      wait_all ();
  }
  printf ("%s replied=%lu lost=%lu errors=%lu (first: %s) wrong=%lu\n",
          gone ? "gone" : "ok", replied, lost, errors,
          first_error != 0 ? strerrorname_np (first_error) : "none",
          wrong_reads);
}

/* ---- looking ---- */

static unsigned
verify_disk (struct conn *c, enum oracle_look look)
{
  unsigned wrong = 0;
  struct range r = { .disk = c->disk, .nr = VERIFY_SECTORS };

  for (; r.first < config.disk_sectors; r.first += r.nr) {
    if (nbd_pread (c->nbd, c->slots[0].buf, (size_t) r.nr * SECTOR,
                   (uint64_t) r.first * SECTOR, 0) == -1) {
      int err = nbd_get_errno ();

      fprintf (stderr, "nbd-oracle: sector %u: %s\n", r.first,
               nbd_get_error ());
      printf ("failed %s\n", strerrorname_np (err));
      return UINT32_MAX;
    }
    wrong += oracle_check (oracle, r, c->slots[0].buf, look, UINT64_MAX);
  }
  return wrong;
}

static void
verify (enum oracle_look look)
{
  unsigned wrong = 0;

  if (!dial_all ()) {
    printf ("failed\n");
    return;
  }
  for (unsigned d = 0; d < config.nr_disks; d++) {
    unsigned n = verify_disk (&conns[d], look);

    if (n == UINT32_MAX)
      return;
    wrong += n;
  }
  if (wrong != 0)
    printf ("wrong %u\n", wrong);
  else
    printf ("ok %u\n", config.nr_disks * config.disk_sectors / PAGE_SECTORS);
}

static bool
obey (const char *line)
{
  uint64_t n;

  if (sscanf (line, "run %" SCNu64, &n) == 1)
    run (n, false);
  else if (strcmp (line, "dial\n") == 0) {
    dialled = dial_all ();
    printf (dialled ? "ok\n" : "failed\n");
  } else if (sscanf (line, "resume %" SCNu64, &n) == 1)
    run (n, true);
  else if (strcmp (line, "verify\n") == 0)
    verify (config.playing ? LOOK_COPY : LOOK_RESTART);
  else if (strcmp (line, "look\n") == 0)
    verify (LOOK_READ);
  else if (config.playing && sscanf (line, "play %" SCNu64, &n) == 1) {
    oracle_play (oracle, config.journal, n);
    printf ("ok\n");
  } else
    return false;
  fflush (stdout);
  return true;
}

/* ---- the command line ---- */

static int
usage (void)
{
  fprintf (stderr, "usage: nbd-oracle [-j JOURNAL | -p JOURNAL] [-l LOG] [-f] "
                   "SOCKET MIB CONNS NAME...\n");
  return 2;
}

static void
make_conns (void)
{
  unsigned each = config.nr_conns / config.nr_disks;

  for (unsigned i = 0; i < config.nr_conns; i++) {
    struct conn *c = &conns[i];

    c->disk = i % config.nr_disks;
    c->nr = config.disk_sectors / each;
    c->nr -= c->nr % PAGE_SECTORS;
    c->first = i / config.nr_disks * c->nr;
    for (unsigned k = 0; k < DEPTH; k++)
      c->slots[k].c = c;
  }
}

static bool
parse (int argc, char **argv, enum oracle_keeps *keeps)
{
  int opt;

  while ((opt = getopt (argc, argv, "j:p:l:f")) != -1)
    switch (opt) {
    case 'p':
      config.playing = true;
      /* fallthrough */
    case 'j':
      config.journal = optarg;
      break;
    case 'l':
      config.log = optarg;
      break;
    case 'f':
      *keeps = KEEPS_FLUSHED;
      break;
    default:
      return false;
    }
  if (argc - optind < 4)
    return false;
  config.socket = argv[optind];
  config.disk_sectors = (uint32_t) atoi (argv[optind + 1]) * 2048;
  config.nr_conns = (unsigned) atoi (argv[optind + 2]);
  config.names = argv + optind + 3;
  config.nr_disks = (unsigned) (argc - optind - 3);
  return config.nr_disks <= DISKS_MAX && config.nr_conns <= CONNS_MAX &&
         config.nr_conns >= config.nr_disks && config.disk_sectors > 0;
}

int
main (int argc, char **argv)
{
  enum oracle_keeps keeps = KEEPS_REPLIED;
  const char *seed = getenv ("FARPAGE_SEED");
  char line[128];

  if (!parse (argc, argv, &keeps))
    return usage ();
  random_state = seed != NULL ? strtoull (seed, NULL, 0) : 1;
  random_state = random_state * UINT64_C (0x9e3779b97f4a7c15) | 1;
  make_conns ();
  oracle = oracle_new (config.nr_disks, config.disk_sectors, keeps,
                       config.playing ? NULL : config.journal);
  while (fgets (line, sizeof line, stdin) != NULL)
    if (!obey (line)) {
      fprintf (stderr, "nbd-oracle: %s", line);
      return 1;
    }
  hang_up ();
  oracle_free (oracle);
  return 0;
}
