/* SPDX-License-Identifier: BSD-2-Clause */
/* Figures of volumes for `make bench`: what a page costs in memory, and how
 * many random pages a second 16 threads read from a file, by each engine.
 *
 *   bench-volume [DIRECTORY-OF-THE-FILE [SECONDS]]
 */

#include <config.h>

#include "volume.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"

#define NR_THREADS  16
#define FILE_BYTES  (UINT64_C (256) << 20)
#define CHUNK_BYTES (UINT64_C (1) << 20)

static uint64_t
next_random (uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void
must (int err, const char *what)
{
  if (err != 0) {
    fprintf (stderr, "bench-volume: %s: %s\n", what, strerror (err));
    exit (1);
  }
}

static void
tell (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  if (level <= LOG_WARNING)
    fprintf (stderr, "bench-volume: %s\n", text);
}

/* ---- memory ---- */

static void
bench_memory (void)
{
  const unsigned nr = 1000000;
  uint64_t state = 88172645463325252u, ns;
  struct volume *v;
  static uint8_t page[PAGE_BYTES];
  struct vio io = { .buf = page, .bytes = PAGE_BYTES };

  must (volume_open_memory ("mem", FILE_BYTES, false, &v), "memory");
  io.volume = v;
  for (unsigned pass = 0; pass < 3; pass++) {
    uint64_t pages = FILE_BYTES / PAGE_BYTES;
    unsigned times = pass == 0 ? (unsigned) pages / 2 : nr;

    ns = env_now_ns ();
    for (unsigned i = 0; i < times; i++) {
      io.off = (pass == 0 ? i : next_random (&state) % pages) * PAGE_BYTES;
      io.op = VIO_WRITE;
      vio_start (NULL, &io);
      io.op = VIO_READ;
      vio_start (NULL, &io);
    }
    ns = env_now_ns () - ns;
    printf ("memory: 4 KiB write + read, %s: %.0f ns\n",
            pass == 0 ? "each page's first" : "random", (double) ns / times);
  }
  volume_close (v);
}

/* ---- file ---- */

struct reader {
  struct volume *v;
  struct vpool *pool;
  uint64_t end_ns, nr, seed;
  pthread_t thread;
};

static void *
reader (void *arg)
{
  struct reader *r = arg;

  while (env_now_ns () < r->end_ns) {
    struct vbatch *b = vbatch_get (r->pool);
    struct vio io = { .volume = r->v,
                      .op = VIO_READ,
                      .off = next_random (&r->seed) %
                             (r->v->size_bytes / PAGE_BYTES) * PAGE_BYTES,
                      .buf = vbatch_bounce (b),
                      .bytes = PAGE_BYTES };

    vio_start (b, &io);
    vbatch_wait (b);
    vbatch_put (b);
    must (io.error, "read");
    r->nr++;
  }
  return NULL;
}

static void
fill (struct volume *v)
{
  struct vpool *pool;
  struct vbatch *b;

  must (vpool_create (1, CHUNK_BYTES, VPOOL_SYNC, &pool), "pool");
  b = vbatch_get (pool);
  env_random (vbatch_bounce (b), CHUNK_BYTES);
  for (uint64_t off = 0; off < v->size_bytes; off += CHUNK_BYTES) {
    struct vio io = { .volume = v,
                      .op = VIO_WRITE,
                      .off = off,
                      .buf = vbatch_bounce (b),
                      .bytes = min_u64 (CHUNK_BYTES, v->size_bytes - off) };

    vio_start (b, &io);
    vbatch_wait (b);
    must (io.error, "write");
  }
  vbatch_put (b);
  vpool_destroy (pool);
}

static void
bench_readers (struct volume *v, enum vpool_engine engine, double seconds)
{
  struct reader r[NR_THREADS];
  uint64_t begin_ns, nr = 0;
  struct vpool *pool;

  if (vpool_create (NR_THREADS, PAGE_BYTES, engine, &pool) != 0) {
    printf ("file: no io_uring here\n");
    return;
  }
  begin_ns = env_now_ns ();
  for (unsigned i = 0; i < NR_THREADS; i++) {
    r[i] = (struct reader){
      .v = v,
      .pool = pool,
      .seed = i + 1234567,
      .end_ns = begin_ns + (uint64_t) (seconds * 1e9),
    };
    must (pthread_create (&r[i].thread, NULL, reader, &r[i]), "thread");
  }
  for (unsigned i = 0; i < NR_THREADS; i++) {
    pthread_join (r[i].thread, NULL);
    nr += r[i].nr;
  }
  printf ("file: 4 KiB random read, %d threads, %s, %s: %.0f IOPS\n",
          NR_THREADS, v->direct ? "direct" : "cached", vpool_engine_name (pool),
          (double) nr * 1e9 / (double) (env_now_ns () - begin_ns));
  vpool_destroy (pool);
}

static void
bench_file (const char *dir, double seconds)
{
  char path[4096];
  struct volume *v;
  int fd;

  snprintf (path, sizeof path, "%s/bench-volume.XXXXXX", dir);
  fd = mkostemp (path, O_CLOEXEC);
  if (fd == -1 || ftruncate (fd, (off_t) FILE_BYTES) == -1) {
    perror (path);
    exit (1);
  }
  close (fd);
  for (int direct = 0; direct < 2; direct++) {
    struct volume_path_options options = {
      .direct = direct ? DIRECT_AUTO : DIRECT_NO,
    };

    must (volume_open_path (path, &options, &v), path);
    fill (v);
    must (volume_flush (v), "flush");
    for (unsigned pass = 0; pass < 3; pass++) {
      bench_readers (v, VPOOL_SYNC, seconds);
      bench_readers (v, VPOOL_URING, seconds);
    }
    volume_close (v);
  }
  unlink (path);
}

int
main (int argc, char *argv[])
{
  log_set (tell, NULL);
  bench_memory ();
  bench_file (argc > 1 ? argv[1] : "/var/tmp", argc > 2 ? atof (argv[2]) : 1);
  return 0;
}
