/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold: an nbdkit filter in which one write waits.
 *
 *   nbdkit --filter=.../hold.so PLUGIN hold=FILE ...
 *
 * The next write after FILE was made takes it away, makes FILE.held, and waits
 * for FILE.go; then it goes on to the plugin, and what that answered is in
 * FILE.done: 0, or the name of an error.
 */
#include <config.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <nbdkit-filter.h>

static char *hold_path;

static int
hold_config (nbdkit_next_config *next, nbdkit_backend *nxdata, const char *key,
             const char *value)
{
  if (strcmp (key, "hold") != 0)
    return next (nxdata, key, value);
  free (hold_path);
  hold_path = nbdkit_absolute_path (value);
  return hold_path != NULL ? 0 : -1;
}

static void
hold_unload (void)
{
  free (hold_path);
}

static const char *
path_of (char path[4096], const char *suffix)
{
  snprintf (path, 4096, "%s%s", hold_path, suffix);
  return path;
}

static void
say (const char *text)
{
  char part[4096], done[4096];
  FILE *f = fopen (path_of (part, ".part"), "w");

  if (f == NULL)
    return;
  fprintf (f, "%s\n", text);
  fclose (f);
  rename (part, path_of (done, ".done"));
}

static int
hold_pwrite (nbdkit_next *next, void *handle, const void *buf, uint32_t count,
             uint64_t offset, uint32_t flags, int *err)
{
  const struct timespec pause = { .tv_nsec = 10000000 };
  char held[4096], go[4096];
  int result;

  (void) handle;
  if (hold_path == NULL || rename (hold_path, path_of (held, ".held")) != 0)
    return next->pwrite (next, buf, count, offset, flags, err);
  while (access (path_of (go, ".go"), F_OK) != 0)
    nanosleep (&pause, NULL);
  result = next->pwrite (next, buf, count, offset, flags, err);
  say (result == 0 ? "0" : strerrorname_np (*err));
  return result;
}

static struct nbdkit_filter filter = {
  .name = "hold",
  .config = hold_config,
  .unload = hold_unload,
  .pwrite = hold_pwrite,
};

extern struct nbdkit_filter *filter_init (void);
NBDKIT_REGISTER_FILTER (filter)
