/* SPDX-License-Identifier: BSD-2-Clause */
/* The plugin under load, inside one process: its callbacks driven by many
 * threads as nbdkit does it, so that sanitizers see all of it.
 *
 *   NR_DISKS x SLOTS connections x WORKERS threads    load.c
 *   a client that looks, somebody at the control socket with victims
 *                                                     others.c
 *   the plugin's own control thread
 *
 * FARPAGE_HOST_SECONDS: how long (10); FARPAGE_SEED.
 */

#include <config.h>

#include "load.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES (64 * MIB)
#define DISK_BYTES (4 * MIB)

/* Grains: one sector (a page is eight workers'), a page, odd, a shard less a
 * sector, all that a worker has in one row.
 */
static const struct disk disks[NR_DISKS] = {
  { "disk0", "disk0", DISK_BYTES + 777, 1, HOST_PEER_UNIX, NULL },
  { "disk1", "disk1", DISK_BYTES, 8, HOST_PEER_IP4, NULL },
  { "disk2", "disk2", DISK_BYTES + 1, 79, HOST_PEER_IP6, NULL },
  { "disk3", "disk3", 8 * MIB, 4095, HOST_PEER_MAPPED, NULL },
  { "swap/s0:4M", NULL, DISK_BYTES, 8, HOST_PEER_UNIX, NULL },
  { "swap/s1:4M", NULL, DISK_BYTES, 2047, HOST_PEER_IP4, NULL },
};

/* ---- begin and end ---- */

static void
set (struct host *host, const char *key, const char *value)
{
  MUST (host->p->config (key, value) == 0);
}

static void
start_server (struct host *host)
{
  const char *tmp = getenv ("TMPDIR");
  char path[300];
  int fd;

  snprintf (host->dir, sizeof host->dir, "%s/farpage-host.XXXXXX",
            tmp != NULL ? tmp : "/tmp");
  MUST (mkdtemp (host->dir) != NULL);
  host->p = plugin_init ();
  snprintf (path, sizeof path, "%s/volume", host->dir);
  fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  MUST (fd >= 0 && ftruncate (fd, (off_t) FILE_BYTES) == 0);
  close (fd);
  set (host, "volume", path);
  set (host, "volume", "mem:48M");
  set (host, "durability", "volatile");
  snprintf (path, sizeof path, "%s/sock", host->dir);
  set (host, "control", path);
  set (host, "armour", "no");
  MUST (host->p->config_complete () == 0);
  MUST (host->p->get_ready () == 0);
  MUST (host->p->after_fork () == 0);
}

static void
make_disks (struct host *host)
{
  char answer[1024];

  for (int i = 0; i < NR_DISKS; i++) {
    struct disk *d = &host->disk[i];

    *d = disks[i];
    d->model = calloc (1, d->bytes);
    MUST (d->model != NULL);
    if (d->name == NULL)
      continue;
    control_ask (host, answer, sizeof answer,
                 "{\"cmd\": \"create\", \"name\": \"%s\", \"size\": %" PRIu64
                 ", \"reserve\": true}\n",
                 d->name, d->bytes);
    MUST (strstr (answer, "\"ok\": true") != NULL);
  }
}

static uint64_t
number (const json_t *pool, const char *key)
{
  return (uint64_t) json_integer_value (json_object_get (pool, key));
}

/* When only the swap exports are left, the pool must say so. */
static void
check_pool (struct host *host)
{
  static char answer[1 << 20];
  uint64_t mapped = 0;
  json_t *json, *pool, *object;
  size_t i;

  control_ask (host, answer, sizeof answer, "{\"cmd\": \"stat\"}\n");
  json = json_loads (answer, 0, NULL);
  MUST (json != NULL);
  pool = json_object_get (json, "pool");
  json_array_foreach (json_object_get (json, "objects"), i, object)
  {
    MUST (json_is_true (json_object_get (object, "unnamed")));
    MUST (number (object, "connections") == 0);
    mapped += number (object, "mapped_bytes");
  }
  MUST (number (pool, "mapped_bytes") == mapped);
  MUST (number (pool, "mapped_bytes") + number (pool, "reserved_bytes") ==
        2 * DISK_BYTES);
  MUST (number (pool, "parked_bytes") == 0);
  MUST (number (pool, "relocation_used_bytes") == 0);
  MUST (number (pool, "free_bytes") + number (pool, "relocation_bytes") +
            2 * DISK_BYTES ==
        number (pool, "size_bytes"));
  for (i = 0, mapped = 0;
       i < json_array_size (json_object_get (json, "volumes")); i++)
    mapped += number (json_array_get (json_object_get (json, "volumes"), i),
                      "used_bytes");
  MUST (mapped == number (pool, "mapped_bytes"));
  json_decref (json);
}

static void
end_server (struct host *host)
{
  char answer[1024], path[300];

  for (int i = 0; i < NR_DISKS; i++) {
    struct disk *d = &host->disk[i];

    disk_verify (host, d);
    free (d->model);
    if (d->name == NULL)
      continue;
    control_ask (host, answer, sizeof answer,
                 "{\"cmd\": \"rm\", \"name\": \"%s\"}\n", d->name);
    MUST (strstr (answer, "\"ok\": true") != NULL);
  }
  check_pool (host);
  host->p->cleanup ();
  host->p->unload ();
  snprintf (path, sizeof path, "%s/volume", host->dir);
  MUST (unlink (path) == 0);
  MUST (rmdir (host->dir) == 0); /* the socket has gone */
}

/* ---- the load ---- */

int
main (void)
{
  static struct host host;
  struct slot slot[NR_DISKS * SLOTS];
  pthread_t thread[NR_DISKS * SLOTS + 2];
  unsigned nr = 0, seconds;

  seconds = (unsigned) test_environment ("FARPAGE_HOST_SECONDS", 10);
  host.seed = test_seed ();
  start_server (&host);
  make_disks (&host);
  for (unsigned i = 0; i < NR_DISKS * SLOTS; i++, nr++) {
    slot[i] = (struct slot){ &host, &host.disk[i / SLOTS], i % SLOTS };
    MUST (pthread_create (&thread[nr], NULL, slot_main, &slot[i]) == 0);
  }
  usleep (100000); /* so that swap exports are there to be looked at */
  MUST (pthread_create (&thread[nr++], NULL, look_main, &host) == 0);
  MUST (pthread_create (&thread[nr++], NULL, control_main, &host) == 0);
  sleep (seconds);
  atomic_store (&host.end, true);
  for (unsigned i = 0; i < nr; i++)
    pthread_join (thread[i], NULL);
  end_server (&host);
  printf ("%lu requests by %lu connections, %lu looks, %lu control requests, "
          "%lu threads shut down in %u s: all as it must be\n",
          host.nr_requests, host.nr_opens, host.nr_looks, host.nr_controls,
          host.nr_shut_down, seconds);
  return 0;
}
