/* SPDX-License-Identifier: BSD-2-Clause */
/* How long a large durable store takes to open, and how much memory:
 * `bench-open [JSON-FILE]`.
 *
 * A store with FARPAGE_BENCH_GIB (100) mapped, in a sparse file in TMPDIR.  It
 * is made by the store itself, page for page, but the volume below keeps no
 * page of data: all have one content, and where that was written a bit is set.
 * Superblocks, log, maps and free map lie in the file, and go there and come
 * from there past the page cache.
 *
 *   store -> hollow volume --superblocks, log, nodes--> file
 *                  '--data--> a bit a block, shared by all processes
 *
 * What lies in the file is moved as the file would move it, several transfers
 * at a time; FARPAGE_BENCH_SERIAL=1 has it one by one.
 *
 * Each step is a process, so that its memory is its own and that it can be
 * killed:
 *
 *   make    format, map everything, clean end
 *   open    after a clean end
 *   fill    random writes for FILL_NS, then kill -9 when the log is as full as
 *           it was seen to become
 *   open    after that: the process died (staging is there), or the machine
 *           did (it is not)
 *
 * The log becomes as full as it can only if the cache is large; with the cache
 * that is usual a cycle begins earlier.  Both are measured; with
 * FARPAGE_BENCH_ONLY=N only the N-th crash of main ()'s table (1 to 3).
 */

#include <config.h>

#include "durable-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "env.h"

#define NR_WRITERS    8u
#define FILL_NS       (20 * NS_PER_S)
#define WRITE_BYTES   (UINT64_C (1) << 20)
#define GIB           (UINT64_C (1) << 30)
#define MIB           (UINT64_C (1) << 20)
#define CACHE_LARGE   (512 * MIB)
#define BITMAP_A_GIB  (72 * UINT64_C (1024))
#define CLEAN_GOAL_MS 2000.0
#define CRASH_GOAL_MS 10000.0

struct bench {
  char dir[4096], file[4096 + 16];
  uint64_t disk_bytes, pool_bytes;
  bool serial;              /* one transfer at a time */
  _Atomic uint64_t *hollow; /* shared: a bit for each block that holds page */
  _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
};

static struct bench bench;

static void
must (int err, const char *what)
{
  if (err) {
    fprintf (stderr, "bench-open: %s: %s\n", what, strerror (err));
    _exit (1);
  }
}

static void
log_to_stderr (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  if (level != LOG_DEBUG)
    fprintf (stderr, "bench-open: %s\n", text);
}

/* ---- the hollow volume ---- */

static struct volume *inner;

static bool
is_hollow (uint64_t blk)
{
  return atomic_load (&bench.hollow[blk / 64]) >> (blk % 64) & 1;
}

static void
set_hollow (uint64_t blk, bool hollow)
{
  uint64_t bit = UINT64_C (1) << (blk % 64);

  if (is_hollow (blk) == hollow)
    return;
  if (hollow)
    atomic_fetch_or (&bench.hollow[blk / 64], bit);
  else
    atomic_fetch_and (&bench.hollow[blk / 64], ~bit);
}

/* Does page i of a transfer need no file? */
static bool
is_page_hollow (enum vio_op op, uint64_t blk, const uint8_t *p)
{
  return op == VIO_READ ? is_hollow (blk)
                        : memcmp (p, bench.page, PAGE_BYTES) == 0;
}

/* Reads through the page cache need no alignment; the file's do. */
static int
read_page (uint64_t blk, uint8_t *p)
{
  _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
  int err = volume_read (inner, blk << PAGE_SHIFT, page, sizeof page);

  if (err == 0)
    memcpy (p, page, sizeof page);
  return err;
}

/* Does all of it lie in the file, in memory that the file can take? */
static bool
is_plain (const struct vio *io, const struct iovec *iov, unsigned nr)
{
  uint64_t blk = io->off >> PAGE_SHIFT;

  for (unsigned i = 0; i < nr; i++) {
    const uint8_t *p = iov[i].iov_base;

    if ((uintptr_t) p % PAGE_BYTES != 0)
      return false;
    for (size_t at = 0; at < iov[i].iov_len; at += PAGE_BYTES, blk++)
      if (is_page_hollow (io->op, blk, p + at))
        return false;
  }
  return true;
}

/* It is the file's transfer from now on. */
static void
start_inner (struct vbatch *batch, struct vio *io)
{
  uint64_t blk = io->off >> PAGE_SHIFT;

  if (io->op == VIO_WRITE)
    for (size_t at = 0; at < io->bytes; at += PAGE_BYTES)
      set_hollow (blk++, false);
  io->volume = inner;
  io->cached = false;
  inner->ops->start (inner, batch, io);
}

/* nr pages that are all hollow, or none of them is. */
static int
move_row (enum vio_op op, uint64_t blk, uint8_t *p, uint64_t nr, bool hollow)
{
  uint64_t off = blk << PAGE_SHIFT;
  int err = 0;

  if (op == VIO_WRITE) {
    for (uint64_t i = 0; i < nr; i++)
      set_hollow (blk + i, hollow);
    return hollow ? 0 : volume_write (inner, off, p, nr << PAGE_SHIFT);
  }
  if (!hollow && (uintptr_t) p % PAGE_BYTES == 0)
    return volume_read (inner, off, p, nr << PAGE_SHIFT);
  for (uint64_t i = 0; i < nr && err == 0; i++, p += PAGE_BYTES)
    if (hollow)
      memcpy (p, bench.page, PAGE_BYTES);
    else
      err = read_page (blk + i, p);
  return err;
}

static int
move_part (enum vio_op op, uint64_t blk, uint8_t *p, uint64_t nr)
{
  int err = 0;

  for (uint64_t i = 0; i < nr && err == 0;) {
    bool hollow = is_page_hollow (op, blk + i, p + (i << PAGE_SHIFT));
    uint64_t end = i + 1;

    while (end < nr &&
           is_page_hollow (op, blk + end, p + (end << PAGE_SHIFT)) == hollow)
      end++;
    err = move_row (op, blk + i, p + (i << PAGE_SHIFT), end - i, hollow);
    i = end;
  }
  return err;
}

static void
hollow_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  struct iovec one = { io->buf, io->bytes };
  const struct iovec *iov = io->iov != NULL ? io->iov : &one;
  unsigned nr = io->iov != NULL ? io->nr_iov : 1;
  uint64_t blk = io->off >> PAGE_SHIFT;

  (void) v;
  if (!bench.serial && is_plain (io, iov, nr)) {
    start_inner (batch, io);
    return;
  }
  for (unsigned i = 0; i < nr && io->error == 0; i++) {
    io->error =
        move_part (io->op, blk, iov[i].iov_base, iov[i].iov_len >> PAGE_SHIFT);
    blk += iov[i].iov_len >> PAGE_SHIFT;
  }
  io->done = io->error == 0 ? io->bytes : 0;
}

static int
hollow_flush (struct volume *v)
{
  (void) v;
  return volume_flush (inner);
}

static int
hollow_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  (void) v;
  (void) off;
  (void) bytes;
  return EOPNOTSUPP;
}

static void
hollow_close (struct volume *v)
{
  (void) v;
  volume_close (inner);
}

static const struct volume_ops hollow_ops = {
  .kind = "hollow",
  .start = hollow_start,
  .flush = hollow_flush,
  .trim = hollow_trim,
  .close = hollow_close,
};

static struct volume hollow = {
  .ops = &hollow_ops,
  .name = (char *) "hollow",
  .align = PAGE_BYTES,
  .checked = true,
  .direct = true,
  .batched = true,
};

static struct volume *
open_hollow (void)
{
  struct volume_store_options options = { .lock_wait_ns = 30 * NS_PER_S };

  must (volume_open_store (bench.file, &options, &inner), bench.file);
  hollow.size_bytes = inner->size_bytes;
  return &hollow;
}

/* ---- steps, each in a process of its own ---- */

struct result {
  double open_ms, peak_mib, allowed_mib, ring_mib, used_mib;
};

static struct store *
open_store (uint64_t cache_bytes, bool staging)
{
  struct store_volume_config vc = { .ready = open_hollow () };
  struct store_config config = { .volumes = &vc,
                                 .nr_volumes = 1,
                                 .reserve = -1,
                                 .durability = STORE_FLUSH,
                                 .cache_bytes = cache_bytes,
                                 .staging_dir = staging ? "/dev/shm" : NULL };
  struct store *s;

  must (store_open (&config, &s), "open");
  must (store_start (s), "start");
  return s;
}

static struct conn *
connect_disk (struct store *s)
{
  struct peer peer = { .kind = PEER_UNKNOWN };
  struct conn *c;

  must (store_connect (s, "large", false, &peer, &c), "connect");
  return c;
}

static void
close_store (struct store *s)
{
  must (store_stop (s), "stop");
  store_close (s);
}

static void
step_make (struct result *r)
{
  static _Alignas(PAGE_BYTES) uint8_t buf[WRITE_BYTES];
  struct volume *volumes[1];
  struct super_format format = { .volumes = volumes, .nr_volumes = 1 };
  struct store_create create = { .name = "large",
                                 .size_bytes = bench.disk_bytes };
  char instance[INSTANCE_HEX + 1];
  uint8_t uuid[DISK_UUID_BYTES];
  struct store *s;
  struct conn *c;

  (void) r;
  must (volume_create_file (bench.file, bench.pool_bytes, true), bench.file);
  volumes[0] = open_hollow ();
  must (super_format (&format, uuid), "format");
  volume_close (volumes[0]);
  s = open_store (0, true);
  must (store_create (s, &create, instance), "create");
  c = connect_disk (s);
  for (uint64_t i = 0; i < WRITE_BYTES; i += PAGE_BYTES)
    memcpy (buf + i, bench.page, PAGE_BYTES);
  for (uint64_t off = 0; off < bench.disk_bytes; off += WRITE_BYTES)
    must (conn_write (c, buf, off, WRITE_BYTES, false), "write");
  store_disconnect (c);
  close_store (s);
}

static uint64_t
peak_bytes (void)
{
  FILE *fp = fopen ("/proc/self/status", "r");
  uint64_t kib = 0;
  char line[256];

  must (fp == NULL ? errno : 0, "/proc/self/status");
  while (fgets (line, sizeof line, fp) != NULL)
    if (sscanf (line, "VmHWM: %" SCNu64, &kib) == 1)
      break;
  fclose (fp);
  return kib << 10;
}

/* The bitmap of this bench is no memory of the store: all of it counts before
 * the store is opened.
 */
static void
touch_hollow (void)
{
  for (uint64_t blk = 0; blk < bench.pool_bytes / PAGE_BYTES; blk += 64)
    (void) is_hollow (blk);
}

static void
step_open (struct result *r, bool staging)
{
  uint64_t before_bytes, begin_ns, allowed;
  struct store *s;

  touch_hollow ();
  before_bytes = peak_bytes ();
  begin_ns = env_now_ns ();
  s = open_store (0, staging);

  r->open_ms = (double) (env_now_ns () - begin_ns) / NS_PER_MS;
  r->peak_mib = (double) (peak_bytes () - before_bytes) / (double) MIB;
  allowed = CACHE_BYTES;
  allowed += BITMAP_A_GIB * (bench.pool_bytes / GIB);
  allowed += (uint64_t) vpool_nr (s->pool) * BOUNCE_BYTES;
  r->allowed_mib = (double) allowed / (double) MIB;
  close_store (s);
}

struct writer {
  struct conn *c;
  uint64_t random;
};

static void *
write_at_random (void *arg)
{
  struct writer *w = arg;

  for (;;) {
    uint64_t page;

    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    page = (w->random >> 8) % (bench.disk_bytes / PAGE_BYTES);
    must (conn_write (w->c, bench.page, page << PAGE_SHIFT, PAGE_BYTES, false),
          "write");
  }
  return NULL;
}

/* Ends by being killed; r is shared. */
static void
step_fill (struct result *r, uint64_t cache_bytes)
{
  struct store *s = open_store (cache_bytes, true);
  struct conn *c = connect_disk (s);
  struct writer writers[NR_WRITERS];
  uint64_t begin_ns = env_now_ns (), most = 0, used = 0;
  struct flush_stat st;

  for (unsigned i = 0; i < NR_WRITERS; i++) {
    pthread_t thread;

    writers[i] = (struct writer){ c, 88172645463325252 + i };
    must (pthread_create (&thread, NULL, write_at_random, &writers[i]),
          "thread");
  }
  do {
    uint64_t gone_ns = env_now_ns () - begin_ns;

    usleep (1000);
    flush_stat (s->durable->fl, &st);
    used = st.tail_lsn - st.redo_lsn;
    most = max_u64 (most, used);
    if (gone_ns > FILL_NS && (20 * used > 19 * most || gone_ns > 2 * FILL_NS))
      break;
  } while (true);
  r->ring_mib = (double) (st.ring_blocks * BUF_BYTES) / (double) MIB;
  r->used_mib = (double) (used * BUF_BYTES) / (double) MIB;
  kill (getpid (), SIGKILL);
}

/* ---- running and telling ---- */

enum step {
  STEP_MAKE,
  STEP_OPEN,
  STEP_OPEN_ALONE, /* no staging */
  STEP_FILL,
  STEP_FILL_LARGE
};

static void
run (enum step step, struct result *r)
{
  bool dies = step == STEP_FILL || step == STEP_FILL_LARGE;
  pid_t pid;
  int status;

  fflush (NULL);
  pid = fork ();
  must (pid == -1 ? errno : 0, "fork");
  if (pid == 0) {
    if (step == STEP_MAKE)
      step_make (r);
    else if (dies)
      step_fill (r, step == STEP_FILL_LARGE ? CACHE_LARGE : 0);
    else
      step_open (r, step == STEP_OPEN);
    fflush (NULL);
    _exit (0);
  }
  must (waitpid (pid, &status, 0) == -1 ? errno : 0, "wait");
  if (dies ? !WIFSIGNALED (status) || WTERMSIG (status) != SIGKILL
           : status != 0) {
    fprintf (stderr, "bench-open: a step failed\n");
    exit (1);
  }
}

static void
tell (const char *what, const struct result *r, double goal_ms, FILE *json)
{
  printf ("open %-34s %8.0f ms  (goal %5.0f) %-6s  log %6.1f of %5.1f MiB, "
          "memory %6.1f MiB (at most %6.1f) %s\n",
          what, r->open_ms, goal_ms, r->open_ms <= goal_ms ? "ok" : "MISSED",
          r->used_mib, r->ring_mib, r->peak_mib, r->allowed_mib,
          r->peak_mib <= r->allowed_mib ? "ok" : "MISSED");
  if (json != NULL)
    fprintf (json,
             "  { \"after\": \"%s\", \"ms\": %.1f, \"goal_ms\": %.0f, "
             "\"log_mib\": %.1f, \"ring_mib\": %.1f, \"memory_mib\": %.1f, "
             "\"memory_goal_mib\": %.1f },\n",
             what, r->open_ms, goal_ms, r->used_mib, r->ring_mib, r->peak_mib,
             r->allowed_mib);
}

static void *
shared (uint64_t bytes)
{
  void *p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  must (p == MAP_FAILED ? ENOMEM : 0, "memory");
  return p;
}

static void
set_up (void)
{
  const char *tmp = getenv ("TMPDIR"), *gib = getenv ("FARPAGE_BENCH_GIB");

  bench.disk_bytes = (gib != NULL ? strtoull (gib, NULL, 0) : 100) * GIB;
  bench.pool_bytes = bench.disk_bytes + bench.disk_bytes / 8;
  snprintf (bench.dir, sizeof bench.dir, "%s/farpage-bench.XXXXXX",
            tmp != NULL ? tmp : "/tmp");
  must (mkdtemp (bench.dir) == NULL ? errno : 0, bench.dir);
  snprintf (bench.file, sizeof bench.file, "%s/volume", bench.dir);
  bench.hollow = shared (bench.pool_bytes / PAGE_BYTES / 8 + 8);
  for (unsigned i = 0; i < PAGE_BYTES; i++)
    bench.page[i] = (uint8_t) (i * 131 + 17);
  bench.serial = getenv ("FARPAGE_BENCH_SERIAL") != NULL;
  log_set (log_to_stderr, NULL);
}

int
main (int argc, char *argv[])
{
  static const struct {
    const char *after;
    enum step fill, open;
  } crashes[] = {
    { "after kill -9", STEP_FILL, STEP_OPEN },
    { "after a crash", STEP_FILL, STEP_OPEN_ALONE },
    { "after a crash, cache=512M", STEP_FILL_LARGE, STEP_OPEN_ALONE },
  };
  FILE *json = argc > 1 ? fopen (argv[1], "w") : NULL;
  const char *only = getenv ("FARPAGE_BENCH_ONLY");
  struct result *r;

  set_up ();
  r = shared (sizeof *r);
  run (STEP_MAKE, r);
  printf ("%" PRIu64 " GiB mapped\n", bench.disk_bytes / GIB);
  if (json != NULL)
    fprintf (json, "{ \"gib\": %" PRIu64 ", \"opens\": [\n",
             bench.disk_bytes / GIB);
  run (STEP_OPEN, r);
  tell ("after a clean end", r, CLEAN_GOAL_MS, json);
  for (unsigned i = 0; i < sizeof crashes / sizeof crashes[0]; i++) {
    if (only != NULL && strtoul (only, NULL, 0) != i + 1)
      continue;
    run (crashes[i].fill, r);
    run (crashes[i].open, r);
    tell (crashes[i].after, r, CRASH_GOAL_MS, json);
  }
  run (STEP_OPEN, r);
  r->used_mib = 0;
  tell ("after a clean end, again", r, CLEAN_GOAL_MS, json);
  if (json != NULL) {
    fseek (json, -2, SEEK_CUR); /* the last comma */
    fprintf (json, "\n] }\n");
    fclose (json);
  }
  unlink (bench.file);
  rmdir (bench.dir);
  return 0;
}
