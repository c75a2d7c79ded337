/* SPDX-License-Identifier: BSD-2-Clause */
/* Devices of the nbd driver: see device.h.  Called by attach.c, watch.c,
 * grow.c and detach.c; calls the kernel, and libblkid.
 */

#include <config.h>

#include "device.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define NBD_MAJOR 43
#define INDEX_MAX 0xffff

extern char **environ;

/* ---- names ---- */

int
device_index (const char *path)
{
  static const char prefix[] = "/dev/nbd";
  const char *digits = path + strlen (prefix);
  char real[4096], *end;
  struct stat st;
  unsigned long n;

  if (stat (path, &st) == 0 && S_ISBLK (st.st_mode) &&
      major (st.st_rdev) == NBD_MAJOR && realpath (path, real) != NULL)
    path = real;
  if (strncmp (path, prefix, strlen (prefix)) != 0)
    return -1;
  digits = path + strlen (prefix);
  errno = 0;
  n = strtoul (digits, &end, 10);
  if (*digits < '0' || *digits > '9' || *end != '\0' || errno != 0 ||
      n > INDEX_MAX)
    return -1;
  return (int) n;
}

void
device_path (int index, char path[DEVICE_PATH_MAX])
{
  snprintf (path, DEVICE_PATH_MAX, "/dev/nbd%d", index);
}

/* ---- /sys ---- */

bool
device_is_attached (int index)
{
  char path[64];

  snprintf (path, sizeof path, "/sys/block/nbd%d/pid", index);
  return access (path, F_OK) == 0;
}

int
device_set (int index, const char *name, const char *value)
{
  char path[96];
  int fd, err = 0;

  snprintf (path, sizeof path, "/sys/block/nbd%d/queue/%s", index, name);
  fd = open (path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return errno;
  if (write (fd, value, strlen (value)) < 0)
    err = errno;
  close (fd);
  return err;
}

/* ---- in use ---- */

bool
device_is_swap (int index, uint64_t *used_bytes)
{
  char line[4096], name[3072], want[DEVICE_PATH_MAX];
  unsigned long long used;
  bool found = false;
  FILE *f = fopen ("/proc/swaps", "re");

  if (f == NULL)
    return false;
  device_path (index, want);
  while (!found && fgets (line, sizeof line, f) != NULL)
    if (sscanf (line, "%3071s %*s %*u %llu", name, &used) == 2 &&
        strcmp (name, want) == 0) {
      found = true;
      *used_bytes = used * 1024;
    }
  fclose (f);
  return found;
}

int
device_is_free (int index)
{
  char path[DEVICE_PATH_MAX];
  int fd;

  device_path (index, path);
  fd = open (path, O_RDONLY | O_EXCL | O_CLOEXEC);
  if (fd < 0)
    return errno;
  close (fd);
  return 0;
}

int
device_sync (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC), err;

  if (fd < 0)
    return errno;
  err = fsync (fd) == 0 ? 0 : errno;
  close (fd);
  return err;
}

int
device_content (int index, char type[DEVICE_PATH_MAX])
{
  char path[DEVICE_PATH_MAX];
  const char *found = "";
  blkid_probe probe;
  int n;

  device_path (index, path);
  probe = blkid_new_probe_from_filename (path);
  if (probe == NULL)
    return errno != 0 ? errno : EIO;
  blkid_probe_enable_partitions (probe, 1);
  n = blkid_do_safeprobe (probe);
  if (n == 0 && blkid_probe_lookup_value (probe, "TYPE", &found, NULL) != 0 &&
      blkid_probe_lookup_value (probe, "PTTYPE", &found, NULL) != 0)
    found = "";
  if (n == -2)
    found = "more than one thing";
  snprintf (type, DEVICE_PATH_MAX, "%s", found);
  blkid_free_probe (probe);
  return n == -1 ? EIO : 0;
}

/* ---- programs ---- */

int
device_run (const char *const argv[])
{
  posix_spawn_file_actions_t actions;
  int status = -1, err;
  pid_t pid;

  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_addopen (&actions, STDOUT_FILENO, "/dev/null",
                                    O_WRONLY, 0);
  err = posix_spawnp (&pid, argv[0], &actions, NULL, (char *const *) argv,
                      environ);
  posix_spawn_file_actions_destroy (&actions);
  if (err) {
    errno = err;
    return -1;
  }
  while (waitpid (pid, &status, 0) == -1 && errno == EINTR)
    ;
  return WIFEXITED (status) ? WEXITSTATUS (status) : -1;
}
