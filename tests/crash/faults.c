/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults of media; see faults.h, and long.h for what must hold.
 *
 *   run 0:  open -- 500 requests -- close        which I/Os there are
 *   run 1:  the same, with one fault
 *   run 2:  open what it left, with media that work, and compare
 *
 * Every fault begins with run 1 from the start.  To fork at each I/O, so that
 * what comes before it is done once, took twice the time: a child copies more
 * pages than the half of a run is worth.
 */

#include <config.h>

#include "faults.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETIRED_MAX 16u /* blocks, beside those that are from the start */
#define RETIRED_FEW 4u  /* the same, of the smallest pool */
#define GO_ON       40u /* requests after the next open */

static struct long_run run;

static bool
is_late (const struct faults *f)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return f->deadline_ns != 0 &&
         (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec >
             f->deadline_ns;
}

/* ---- run 0 ---- */

static void
note_io (void *arg, uint64_t at, enum media_op op)
{
  struct faults *f = arg;

  if (at == f->max_io) {
    f->max_io = 2 * f->max_io + 1024;
    f->io = realloc (f->io, f->max_io);
    if (f->io == NULL)
      abort ();
  }
  f->io[at] = (uint8_t) op;
  f->nr_io = (unsigned) at + 1;
  for (unsigned kind = 0; kind < MEDIA_FAULTS; kind++)
    f->nr_places[kind] += media_fault_fits ((enum media_fault_kind) kind, op);
}

static void
begin (const struct faults *f)
{
  long_begin (&run, f->subject, f->base, f->seed);
  if (f->nr_requests != 0)
    run.nr_requests_max = f->nr_requests;
}

bool
faults_begin (struct faults *f)
{
  bool good;

  begin (f);
  run.record.on_io = note_io;
  run.record.on_io_arg = f;
  long_go (&run, 0);
  good = !run.failed;
  memcpy (f->why, run.why, sizeof f->why);
  long_end (&run);
  return good;
}

void
faults_end (struct faults *f)
{
  free (f->io);
  f->io = NULL;
  f->nr_io = f->max_io = 0;
}

/* ---- runs 1 and 2 ---- */

/* A write has failed there, was done elsewhere, and the store was closed: it
 * has retired the place, as far as the least pool can do without.
 */
static bool
is_retired (const struct media_fault *f)
{
  return run.subject->retires && run.closed && f->hit && f->op == MEDIA_WRITE &&
         f->nr <= (run.subject->fills ? RETIRED_FEW : RETIRED_MAX) &&
         (f->kind == MEDIA_EIO || f->kind == MEDIA_EIO_EVER ||
          f->kind == MEDIA_SHORT);
}

/* What was retired by the run before is written no more. */
static void
look_for_retired (const struct media_fault *f)
{
  for (unsigned i = 0; i < run.record.nr_writes; i++) {
    const struct rec_write *w = &run.record.writes[i];

    if (w->volume == f->volume && w->first < f->first + f->nr &&
        f->first < w->first + w->nr)
      long_wrong (&run,
                  "blocks %u-%u of volume %u had failed a write, and one "
                  "is written again",
                  f->first, f->first + f->nr - 1, f->volume);
  }
}

/* This kind at that place; true also if it means nothing there. */
static bool
faults_try (struct faults *f, enum media_fault_kind kind, uint64_t at)
{
  struct image start[DISKS_MAX];
  struct media_fault fault = { .kind = kind, .at = at, .start = start };

  if (at >= f->nr_io || !media_fault_fits (kind, (enum media_op) f->io[at]))
    return true;
  begin (f);
  for (unsigned i = 0; i < f->base->disks.nr; i++)
    image_copy (&start[i], &f->base->disks.image[i]);
  snprintf (f->what, sizeof f->what, "%s:%" PRIu64 ":%" PRIu64 ":%u",
            media_fault_names[kind], at, f->seed, run.nr_requests_max);
  if (f->doing != NULL)
    f->doing (f->what);
  run.fault = run.record.fault = &fault;
  run.lies = kind == MEDIA_LOST || kind == MEDIA_MISDIRECTED;
  long_go (&run, 0);
  f->nr_tried[kind]++;
  f->nr_lost[kind] += !run.closed;
  /* What is staged is there still: the process ended, not the machine. */
  if (!run.failed) {
    bool retired = is_retired (&fault);

    f->nr_retired += retired;
    long_look (&run, 1, false, retired ? GO_ON : 0);
    if (retired)
      look_for_retired (&fault);
    f->nr_refused[kind] += run.errors && run.lies;
  }
  memcpy (f->why, run.why, sizeof f->why);
  long_end (&run);
  for (unsigned i = 0; i < f->base->disks.nr; i++)
    image_free (&start[i]);
  return !run.failed;
}

static bool
try_places (struct faults *f, uint64_t at, unsigned step)
{
  for (; at < f->nr_io; at += step)
    for (unsigned kind = 0; kind < MEDIA_FAULTS && !is_late (f); kind++)
      if (!faults_try (f, (enum media_fault_kind) kind, at))
        return false;
  return true;
}

bool
faults_part (struct faults *f, unsigned part)
{
  return try_places (f, (part + rng_mix (f->seed)) % FAULT_PARTS, FAULT_PARTS);
}

bool
faults_last (struct faults *f, unsigned nr)
{
  return try_places (f, f->nr_io > nr ? f->nr_io - nr : 0, 1);
}

int
faults_given (struct faults *f, const char *text)
{
  for (unsigned kind = 0; kind < MEDIA_FAULTS; kind++) {
    size_t len = strlen (media_fault_names[kind]);
    uint64_t at;

    if (strncmp (text, media_fault_names[kind], len) != 0 ||
        sscanf (text + len, ":%" SCNu64 ":%" SCNu64 ":%u", &at, &f->seed,
                &f->nr_requests) < 1 ||
        f->nr_requests > LONG_REQUESTS)
      continue;
    if (!faults_begin (f))
      return EIO;
    return faults_try (f, (enum media_fault_kind) kind, at) ? 0 : EIO;
  }
  return EINVAL;
}
