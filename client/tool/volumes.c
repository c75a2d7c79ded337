/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening of volumes; called by format.c, info.c and dump.c.
 *
 * Messages of the layers below come through log.h and are ours already: they
 * name the volume and the remedy.
 */

#include <config.h>

#include "volumes.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define READS_MAX    3
#define READ_WAIT_NS 5000000

static void
tell (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  if (level <= LOG_WARNING)
    complain (NULL, "%s", text);
}

void
volumes_tell (void)
{
  log_set (tell, NULL);
}

/* Is path one of those before it, maybe by another name? */
static bool
given_twice (const struct invocation *inv, unsigned nr)
{
  struct stat st, before;

  if (stat (inv->args[nr], &st) != 0)
    return false;
  for (unsigned i = 0; i < nr; i++)
    if (stat (inv->args[i], &before) == 0 &&
        (S_ISBLK (st.st_mode)
             ? S_ISBLK (before.st_mode) && before.st_rdev == st.st_rdev
             : before.st_dev == st.st_dev && before.st_ino == st.st_ino)) {
      complain (inv->args[nr], "is given twice (name each volume once)");
      return true;
    }
  return false;
}

int
volumes_open (const struct invocation *inv, bool readonly,
              uint64_t lock_wait_ns, struct volumes *vs)
{
  memset (vs, 0, sizeof *vs);
  for (unsigned i = 0; i < inv->nr_args; i++) {
    struct volume_store_options how = {
      .readonly = readonly,
      .lock_wait_ns = lock_wait_ns,
    };

    if (given_twice (inv, i) ||
        volume_open_store (inv->args[i], &how, &vs->v[i]) != 0) {
      volumes_close (vs);
      return STATUS_NO;
    }
    vs->in_use[i] = how.in_use;
    vs->nr++;
  }
  return 0;
}

void
volumes_close (struct volumes *vs)
{
  while (vs->nr > 0)
    volume_close (vs->v[--vs->nr]);
}

int
volumes_super (struct volume *v, struct disk_super *best,
               const char *errors[DISK_SUPER_SLOTS])
{
  const struct timespec wait = { .tv_nsec = READ_WAIT_NS };
  int err = 0;

  for (unsigned n = 0; n < READS_MAX; n++) {
    bool bad = false;

    err = super_read (v, best, errors);
    for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
      bad |= errors[i] != NULL;
    if (!bad || err == ENOENT || n + 1 == READS_MAX)
      break;
    nanosleep (&wait, NULL);
  }
  return err;
}
