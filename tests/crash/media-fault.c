/* SPDX-License-Identifier: BSD-2-Clause */
/* Which transfer fails, and how; media.c does what is said here.  One fault a
 * run, at a place that is a number, so that every place can be tried.
 */

#include <config.h>

#include "media.h"

#include <errno.h>

const char *const media_fault_names[MEDIA_FAULTS] = {
  [MEDIA_EIO] = "eio-once",
  [MEDIA_EIO_EVER] = "eio-for-ever",
  [MEDIA_ENOSPC] = "enospc",
  [MEDIA_SHORT] = "short-write",
  [MEDIA_FLIP] = "bit-flip",
  [MEDIA_LOST] = "lost-write",
  [MEDIA_MISDIRECTED] = "misdirected-write",
  [MEDIA_STALE] = "stale-read",
  [MEDIA_FLUSH] = "flush-error",
  [MEDIA_VANISH] = "vanish",
};

bool
media_fault_fits (enum media_fault_kind kind, enum media_op op)
{
  switch (kind) {
  case MEDIA_EIO:
  case MEDIA_EIO_EVER:
    return op != MEDIA_SYNC;
  case MEDIA_ENOSPC:
  case MEDIA_SHORT:
  case MEDIA_LOST:
  case MEDIA_MISDIRECTED:
    return op == MEDIA_WRITE;
  case MEDIA_FLIP:
  case MEDIA_STALE:
    return op == MEDIA_READ;
  case MEDIA_FLUSH:
    return op == MEDIA_SYNC;
  default:
    return true;
  }
}

/* Does what was hit once go on to fail? */
static bool
still_fails (const struct media_fault *f, enum media_op op, unsigned volume,
             unsigned first, unsigned nr)
{
  if (!f->hit || f->volume != volume)
    return false;
  if (f->kind == MEDIA_VANISH)
    return true;
  return f->kind == MEDIA_EIO_EVER && op != MEDIA_SYNC &&
         first < f->first + f->nr && f->first < first + nr;
}

static enum media_way
way_of (enum media_fault_kind kind, int *error)
{
  static const enum media_way ways[MEDIA_FAULTS] = {
    [MEDIA_EIO] = WAY_NOT,
    [MEDIA_EIO_EVER] = WAY_NOT,
    [MEDIA_ENOSPC] = WAY_NOT,
    [MEDIA_SHORT] = WAY_HALF,
    [MEDIA_FLIP] = WAY_FLIPPED,
    [MEDIA_LOST] = WAY_NOT,
    [MEDIA_MISDIRECTED] = WAY_ELSEWHERE,
    [MEDIA_STALE] = WAY_STALE,
    [MEDIA_FLUSH] = WAY_NOT,
    [MEDIA_VANISH] = WAY_NOT,
  };
  static const int errors[MEDIA_FAULTS] = {
    [MEDIA_EIO] = EIO,   [MEDIA_EIO_EVER] = EIO, [MEDIA_ENOSPC] = ENOSPC,
    [MEDIA_SHORT] = EIO, [MEDIA_FLUSH] = EIO,    [MEDIA_VANISH] = ENODEV,
  };

  *error = errors[kind];
  return ways[kind];
}

enum media_way
media_fault_take (struct media_fault *f, uint64_t at, enum media_op op,
                  unsigned volume, unsigned first, unsigned nr, int *error)
{
  if (still_fails (f, op, volume, first, nr))
    return way_of (f->kind, error);
  if (at != f->at || !media_fault_fits (f->kind, op))
    return WAY_WHOLE;
  f->hit = true;
  f->volume = volume;
  f->first = first;
  f->nr = nr;
  f->op = op;
  return way_of (f->kind, error);
}
