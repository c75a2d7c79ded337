/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that is not there; see starve.h.
 *
 * A store that cannot have what it asks for says so, or does with less, and
 * loses nothing: what it leaves is opened again with memory enough, and
 * compared.  A check that cannot have it says ENOMEM, or finds what it finds;
 * it never calls a good store damaged, and writes nothing.
 */

#include <config.h>

#include "starve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "sim.h"

const char *const starve_names[STARVE_WAYS] = {
  [STARVE_RECOVER] = "recovery and use",
  [STARVE_OPEN] = "open and use",
  [STARVE_CHECK] = "check of a closed store",
  [STARVE_CHECK_CRASHED] = "check of a crashed store",
};

static struct long_run run;

static bool
finish (struct starve *s)
{
  if (run.failed)
    memcpy (s->why, run.why, sizeof s->why);
  long_end (&run);
  return !run.failed;
}

bool
starve_begin (struct starve *s)
{
  long_begin (&run, s->subject, s->base, s->seed);
  long_go (&run, 0);
  s->nr_io = run.record.nr_io;
  return finish (s);
}

/* A run that its media leave in the middle, at another place each time. */
static void
crash (struct starve *s, uint64_t n)
{
  struct media_fault vanish = { .kind = MEDIA_VANISH, .at = n * 7 % s->nr_io };

  run.fault = run.record.fault = &vanish;
  long_go (&run, 0);
  record_clear (&run.record);
  run.fault = run.record.fault = NULL;
  if (!run.closed)
    run.ledger.live = run.ledger.durable;
}

/* ---- the store ---- */

static void
use (uint64_t n, bool *hit)
{
  struct media_fault none = { .kind = MEDIA_EIO, .at = RECORD_NEVER };

  run.fault = run.record.fault = &none;
  memory_fail_at (n, &none.hit);
  long_go (&run, 1);
  *hit = none.hit;
  memory_fail_at (MEMORY_NEVER, NULL);
  run.fault = NULL;
  if (!run.failed)
    long_look (&run, 2, false, 0);
}

/* ---- a check ---- */

struct checking {
  struct record record;
  const char *bad;
  bool closed;
};

static void
check_main (void *arg)
{
  struct checking *c = arg;
  struct volume *v[DISKS_MAX];

  for (unsigned i = 0; i < run.disks.nr; i++)
    media_open (&run.disks.image[i], i, &c->record, &v[i]);
  c->bad = run.subject->check_media (v, run.disks.nr, c->closed);
  for (unsigned i = 0; i < run.disks.nr; i++)
    volume_close (v[i]);
}

static void
check (uint64_t n, bool *hit)
{
  struct sim_config config = { .seed = run.seed, .random_seed = 60 };
  struct checking c = { .closed = run.closed };
  enum sim_end end;

  run_keep_log ();
  memory_fail_at (n, hit);
  end = sim_run (&config, check_main, &c);
  memory_fail_at (MEMORY_NEVER, NULL);
  log_set (NULL, NULL);
  if (end != SIM_DONE) {
    long_wrong (&run, "the check did not end (told above)");
    sim_tell (2, end);
  }
  if (c.bad == NULL && *hit)
    return; /* it did with less */
  if (c.bad != NULL && (!*hit || strstr (c.bad, strerror (ENOMEM)) == NULL))
    long_wrong (&run, "check: %s", c.bad);
  if (c.record.nr_writes > 0)
    long_wrong (&run, "a check has written to the media");
  record_free (&c.record);
}

/* ---- all ---- */

bool
starve_try (struct starve *s, uint64_t n, bool *hit)
{
  *hit = false;
  long_begin (&run, s->subject, s->base, s->seed);
  if (s->way == STARVE_RECOVER || s->way == STARVE_CHECK_CRASHED)
    crash (s, n);
  else
    run.closed = true;
  if (run.failed)
    return finish (s);
  if (s->way == STARVE_RECOVER || s->way == STARVE_OPEN)
    use (n, hit);
  else if (s->subject->check_media != NULL)
    check (n, hit);
  return finish (s);
}
