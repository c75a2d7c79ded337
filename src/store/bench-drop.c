/* SPDX-License-Identifier: BSD-2-Clause */
/* What the removal of a large disk costs, and what it costs another client:
 * `bench-drop [JSON-FILE]`.
 *
 * A pool on a volume that forgets what is written to it, so that 64 GiB fit
 * anywhere; a disk of 64 GiB all mapped, in runs of RUN_PAGES; another client
 * that reads and writes single pages of a disk of its own all the time.  The
 * disk is removed; the removal's time and the client's longest wait during it
 * are taken, beside its longest wait in as much time with nothing going on.
 * Medians of ROUNDS rounds; less than a minute and 1 GiB.
 */

#include <config.h>

#include "store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "volume.h"

#define ROUNDS     5u
#define DISK_BYTES (UINT64_C (64) << 30)
#define POOL_BYTES (UINT64_C (72) << 30)
#define RUN_PAGES  32u
#define DROP_GOAL  150.0 /* ms */
#define WAIT_GOAL  5.0   /* ms */

static void
must (int err)
{
  if (err) {
    fprintf (stderr, "bench-drop: %s\n", strerror (err));
    exit (1);
  }
}

/* ---- a volume that forgets ---- */

static void
forget_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  (void) v;
  (void) batch;
  if (io->op == VIO_READ)
    memset (io->buf, 1, io->bytes);
  io->done = io->bytes;
}

static int
forget_flush (struct volume *v)
{
  (void) v;
  return 0;
}

static int
forget_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  (void) v;
  (void) off;
  (void) bytes;
  return 0;
}

static void
forget_close (struct volume *v)
{
  (void) v;
}

static const struct volume_ops forget_ops = {
  .kind = "forget",
  .start = forget_start,
  .flush = forget_flush,
  .trim = forget_trim,
  .close = forget_close,
};

/* ---- the other client ---- */

struct client {
  struct conn *conn;
  atomic_bool stop;
  _Atomic uint64_t worst_ns; /* since it was last set to 0 */
};

static void *
client_run (void *arg)
{
  struct client *c = arg;
  char page[PAGE_BYTES];
  uint64_t n = 0;

  memset (page, 1, sizeof page);
  while (!atomic_load (&c->stop)) {
    uint64_t off = (n++ * 7919 % 4096) << PAGE_SHIFT;
    uint64_t begin_ns = env_now_ns (), took_ns;

    must (n % 2 ? conn_write (c->conn, page, off, sizeof page, false)
                : conn_read (c->conn, page, off, sizeof page));
    took_ns = env_now_ns () - begin_ns;
    if (took_ns > atomic_load (&c->worst_ns))
      atomic_store (&c->worst_ns, took_ns);
  }
  return NULL;
}

/* ---- rounds ---- */

static void
fill (struct store *s, const char *name)
{
  static char buf[RUN_PAGES * PAGE_BYTES];
  struct peer peer = { .kind = PEER_UNKNOWN };
  struct conn *c;

  memset (buf, 1, sizeof buf);
  must (store_connect (s, name, false, &peer, &c));
  for (uint64_t off = 0; off < DISK_BYTES; off += sizeof buf)
    must (conn_write (c, buf, off, sizeof buf, false));
  store_disconnect (c);
}

struct round {
  double drop_ms, wait_ms, idle_ms;
};

static struct round
run_round (struct store *s, struct client *c)
{
  struct store_create create = { .name = "large", .size_bytes = DISK_BYTES };
  char instance[INSTANCE_HEX + 1];
  struct round r;
  uint64_t begin_ns, took_ns;

  must (store_create (s, &create, instance));
  fill (s, "large");
  atomic_store (&c->worst_ns, 0);
  begin_ns = env_now_ns ();
  must (store_remove (s, "large", false));
  took_ns = env_now_ns () - begin_ns;
  r.drop_ms = (double) took_ns / NS_PER_MS;
  r.wait_ms = (double) atomic_exchange (&c->worst_ns, 0) / NS_PER_MS;
  usleep ((useconds_t) (took_ns / 1000));
  r.idle_ms = (double) atomic_exchange (&c->worst_ns, 0) / NS_PER_MS;
  return r;
}

static int
compare (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static double
median (double *values)
{
  qsort (values, ROUNDS, sizeof *values, compare);
  return values[ROUNDS / 2];
}

static int
tell (const char *path, double drop_ms, double wait_ms, double idle_ms)
{
  FILE *fp;

  printf ("drop 64 GiB, all mapped, runs of %u %24.1f ms   (goal %5.1f) %s\n",
          RUN_PAGES, drop_ms, DROP_GOAL,
          drop_ms <= DROP_GOAL ? "ok" : "MISSED");
  printf ("  longest wait of another client %20.2f ms   (goal %5.1f) %s\n",
          wait_ms, WAIT_GOAL, wait_ms <= WAIT_GOAL ? "ok" : "MISSED");
  printf ("  the same with nothing going on %20.2f ms\n", idle_ms);
  if (path == NULL)
    return 0;
  fp = fopen (path, "w");
  if (fp == NULL) {
    perror (path);
    return 1;
  }
  fprintf (fp,
           "{ \"drop_ms\": %.3f, \"drop_goal_ms\": %.1f, \"wait_ms\": %.3f, "
           "\"wait_goal_ms\": %.1f, \"idle_wait_ms\": %.3f }\n",
           drop_ms, DROP_GOAL, wait_ms, WAIT_GOAL, idle_ms);
  return fclose (fp) == 0 ? 0 : 1;
}

int
main (int argc, char *argv[])
{
  struct volume volume = {
    .ops = &forget_ops,
    .name = (char *) "forget",
    .size_bytes = POOL_BYTES,
    .align = 1,
  };
  struct store_volume_config vc = { .ready = &volume };
  struct store_config config = { .volumes = &vc,
                                 .nr_volumes = 1,
                                 .reserve = -1,
                                 .linger_ns = 600 * NS_PER_S,
                                 .swap_size_bytes = UINT64_C (16) << 20 };
  struct peer peer = { .kind = PEER_UNKNOWN };
  double drop[ROUNDS], wait[ROUNDS], idle[ROUNDS];
  struct client client = { 0 };
  struct store *s;
  pthread_t thread;

  must (store_open (&config, &s));
  must (store_start (s));
  must (store_connect (s, "swap/other", false, &peer, &client.conn));
  must (pthread_create (&thread, NULL, client_run, &client));
  for (unsigned i = 0; i < ROUNDS; i++) {
    struct round r = run_round (s, &client);

    drop[i] = r.drop_ms;
    wait[i] = r.wait_ms;
    idle[i] = r.idle_ms;
  }
  atomic_store (&client.stop, true);
  pthread_join (thread, NULL);
  store_disconnect (client.conn);
  store_close (s);
  return tell (argc > 1 ? argv[1] : NULL, median (drop), median (wait),
               median (idle));
}
