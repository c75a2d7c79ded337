/* SPDX-License-Identifier: BSD-2-Clause */
/* Check, second phase: the log, and recovery in memory.
 *
 *   medium --> overlay --> durable_open --> overlay: as after a clean close
 *
 * A store that was not closed is in order only together with its log, so the
 * very recovery that the server would run is run on overlays, and what it
 * gives is what the phases after this one look at.
 *
 * If recovery cannot redo a record, since a node that it needs is not good,
 * UNDO has been done all the same: the maps are as of the last cycle, and the
 * walks after this will name the node.  A log with a hole in it is another
 * matter: then nobody can tell which nodes belong together.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void
tell_log (struct check *c, uint64_t lsn, const char *what)
{
  struct check_place at = CHECK_NOWHERE;

  at.blk = c->root.ring_first + lsn % c->root.ring_blocks;
  check_tell (c, CHECK_LOG, &at, "log block %" PRIu64 ": %s", lsn, what);
}

/* ---- staging ---- */

static int
count_staged (void *arg, enum buf_type type, uint64_t blk, const void *page)
{
  struct check *c = arg;

  (void) type;
  (void) blk;
  (void) page;
  c->report->nr_staged++;
  return 0;
}

/* Has a process that died left anything? */
static bool
look_at_staging (struct check *c)
{
  const char *dir = c->config->staging_dir;
  struct staging *old;

  if (c->root.staging == 0)
    return false;
  if (dir == NULL || staging_open (dir, c->root.uuid, c->root.staging, &old)) {
    check_note (c, "no staging file of the process that had the store open "
                   "is there: what it had not flushed does not count");
    return false;
  }
  (void) staging_each (old, count_staged, c);
  staging_close (old, false);
  check_note (c,
              "a process that ended without stopping has left %" PRIu64
              " pages and log blocks in %s: the next server writes them",
              c->report->nr_staged, dir);
  return true;
}

/* ---- recovery ---- */

static int
open_overlays (struct check *c)
{
  int err = 0;

  if (c->overlaid)
    return 0;
  c->overlaid = true;
  memset (c->volumes, 0, sizeof c->volumes);
  for (unsigned i = 0; i < c->nr_volumes && err == 0; i++)
    err = volume_open_overlay (c->bare[i], &c->volumes[i]);
  return err;
}

/* The superblocks as they are in the overlays now. */
static int
read_again (struct check *c)
{
  int err = super_read (c->volumes[0], &c->root, NULL);

  for (unsigned i = 1; i < c->nr_volumes && err == 0; i++)
    err = super_read (c->volumes[i], &c->peers[i], NULL);
  return err ? EIO : 0;
}

/* Was it for want of memory that recovery took an overlay's write to have
 * failed?  That says nothing about the store.
 */
static bool
starved (const struct check *c)
{
  for (unsigned i = 0; i < c->nr_volumes; i++)
    if (volume_overlay_starved (c->volumes[i]))
      return true;
  return false;
}

/* Recovery has come to its end if nothing is left to be redone: what comes
 * after it in durable_open () is judged by the phases to come, and better.
 */
static int
recover (struct check *c)
{
  struct check_place at = CHECK_NOWHERE;
  struct recover_look look;
  int err = open_overlays (c), why;

  if (err)
    return err;
  why = check_recover (c);
  if (why == ENOMEM || (why != 0 && starved (c)))
    return ENOMEM;
  err = read_again (c);
  if (err == 0)
    err = recover_look (c->volumes[0], &c->root, &look);
  if (err)
    return err;
  c->report->recovered = look.wrong == NULL && look.first == look.end;
  if (c->report->recovered)
    return 0;
  at.volume = c->volumes[0];
  check_tell (c, CHECK_LOG, &at,
              "what the log has cannot be done again: %s; "
              "maps are looked at as of the last cycle",
              strerror (why));
  return 0;
}

/* ---- public ---- */

int
check_log (struct check *c)
{
  struct recover_look look;
  bool staged;
  int err = check_tick (c, CHECK_PHASE_LOG, 0, 0);

  if (err == 0)
    err = recover_look (c->bare[0], &c->root, &look);
  if (err)
    return err;
  c->report->closed = c->root.state == DISK_CLEAN && look.end == look.first;
  staged = !c->report->closed && look_at_staging (c);
  if (look.wrong != NULL && !staged) {
    tell_log (c, look.wrong_lsn, look.wrong);
    if (look.newer && super_has_unread (c->slots[0]))
      check_note (c,
                  "try again: a superblock slot that cannot be read may have "
                  "it");
    else if (look.unread)
      check_note (c, "try again; if it stays so, copy the volume to another "
                     "medium: what can still not be read counts as never "
                     "written there, which may lose the last requests before "
                     "the crash");
    else
      check_note (c,
                  "what was replied to and what maps were before is lost "
                  "there, so that no page below could be trusted: it is not "
                  "repaired, and no server opens the store; put back copies "
                  "of all its volumes that are of one moment, or make it anew "
                  "with 'farpage format --force'");
    return EUCLEAN;
  }
  if (!c->report->closed)
    check_note (c,
                "the store was not closed: its log has %" PRIu64
                " records and %" PRIu64 " nodes' images to be gone through "
                "(%" PRIu64 " blocks behind its end do not count)",
                look.nr_records, look.nr_images, look.nr_dropped);
  if (look.first == look.end && !staged)
    return c->fix ? open_overlays (c) : 0;
  if (c->config->no_recover)
    return EUCLEAN;
  return recover (c);
}
