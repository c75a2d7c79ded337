/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory for the examples; see example-memory.h. */

#include "example-memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <farpage.h>

struct memory {
  void *address;
  uint64_t bytes;
  double begin_s;
  /* far */
  struct farpage_link *link;
  struct farpage_swap *swap;
  struct farpage_object *object;
  struct farpage_map *map;
  /* a file's */
  int fd;
  struct rusage usage;
};

static double
now_s (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static void
must (int err, const char *what)
{
  if (err == 0)
    return;
  fprintf (stderr, "%s: %s\n", what, strerror (err));
  exit (1);
}

static void
log_line (void *arg, int priority, const char *line)
{
  (void) arg;
  if (priority <= 4) /* a warning, or worse */
    fprintf (stderr, "%s\n", line);
}

static void
open_far (struct memory *m, const char *uri, uint64_t budget_bytes)
{
  struct farpage_options options;

  farpage_options_init (&options);
  options.log = log_line;
  must (farpage_link_open (uri, &options, &m->link), uri);
  must (farpage_swap_open (m->link, &m->swap), uri);
  must (farpage_alloc (m->swap, NULL, 0, m->bytes, &m->object), "alloc");
  must (farpage_map (m->object, budget_bytes, &m->map), "map");
  m->address = farpage_map_address (m->map);
}

static void
open_file (struct memory *m, const char *path)
{
  m->fd = open (path, O_RDWR | O_CREAT, 0600);
  /* Zeros; of what cannot be made shorter the caller has to know. */
  if (m->fd >= 0)
    (void) !ftruncate (m->fd, 0);
  if (m->fd < 0 || (lseek (m->fd, 0, SEEK_END) < (off_t) m->bytes &&
                    ftruncate (m->fd, (off_t) m->bytes) != 0)) {
    perror (path);
    exit (1);
  }
  m->address =
      mmap (NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
  if (m->address == MAP_FAILED) {
    perror (path);
    exit (1);
  }
  getrusage (RUSAGE_SELF, &m->usage);
}

struct memory *
memory_open (const char *where, uint64_t bytes, uint64_t budget_bytes)
{
  struct memory *m = calloc (1, sizeof *m);

  if (m == NULL)
    exit (1);
  m->bytes = bytes;
  if (strncmp (where, "nbd", 3) == 0 && strstr (where, "://") != NULL)
    open_far (m, where, budget_bytes);
  else
    open_file (m, where);
  m->begin_s = now_s ();
  return m;
}

void *
memory_address (struct memory *m)
{
  return m->address;
}

static void
print_far (struct memory *m, const char *what)
{
  struct farpage_map_stat map;
  struct farpage_stat link;

  must (farpage_map_stat (m->map, &map, sizeof map), "stat");
  must (farpage_stat (m->link, &link, sizeof link), "stat");
  fprintf (stderr,
           "%s: %.2f s, %llu faults, %llu of them at pages in memory, %llu "
           "MiB read, %llu MiB written\n",
           what, now_s () - m->begin_s, (unsigned long long) map.faults,
           (unsigned long long) map.hits,
           (unsigned long long) link.bytes_read >> 20,
           (unsigned long long) link.bytes_written >> 20);
}

static void
print_file (struct memory *m, const char *what)
{
  struct rusage now;

  getrusage (RUSAGE_SELF, &now);
  fprintf (stderr,
           "%s: %.2f s, %ld faults, %ld of them at pages in memory, %ld MiB "
           "read, %ld MiB written\n",
           what, now_s () - m->begin_s,
           now.ru_majflt - m->usage.ru_majflt + now.ru_minflt -
               m->usage.ru_minflt,
           now.ru_minflt - m->usage.ru_minflt,
           (now.ru_inblock - m->usage.ru_inblock) >> 11,
           (now.ru_oublock - m->usage.ru_oublock) >> 11);
}

void
memory_print (struct memory *m, const char *what)
{
  if (m->map != NULL)
    print_far (m, what);
  else
    print_file (m, what);
}

void
memory_close (struct memory *m)
{
  if (m->map != NULL) {
    must (farpage_unmap (m->map), "unmap");
    must (farpage_dealloc (m->object), "dealloc");
    must (farpage_swap_close (m->swap), "close");
    must (farpage_link_close (m->link), "close");
  } else {
    munmap (m->address, m->bytes);
    close (m->fd);
  }
  free (m);
}
