/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks that were being removed when the store ended: what they still have is
 * freed, in a thread of its own, while the store serves the others.
 *
 *   table on the media: LIVE --rm--> DYING --map is empty--> FREE
 *
 * The step to DYING is what removes a disk, durably; from there on it is only
 * work, in steps of one shard, each a change of its own.  A crash or a stop
 * between two of them loses nothing: the next start goes on.
 */

#include <config.h>

#include "durable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "task.h"

struct reaper {
  struct store *s;
  struct task *task;
  atomic_bool stop;
  lock_t lock;
  struct object *o; /* [lock] being dropped; NULL */
};

static int
drop (struct reaper *r, struct dobject *dobj)
{
  struct store *s = r->s;
  struct object_config oc = {
    .size_bytes = dobj->entry.size_bytes,
    .space = s->space,
    .pool = s->pool,
    .name = "a removed disk",
  };
  struct object *o;
  int err = durable_map (s->durable, dobj, &oc);

  if (err == 0)
    err = object_create (&oc, &o);
  if (err)
    return err;
  durable_attach (s->durable, dobj, o);
  object_kill (o);
  lock_acquire (&r->lock);
  r->o = o;
  if (atomic_load (&r->stop))
    object_drop_stop (o);
  lock_release (&r->lock);
  err = object_drop (o);
  lock_acquire (&r->lock);
  r->o = NULL;
  lock_release (&r->lock);
  if (err) {
    durable_keep (s->durable, dobj);
    return err;
  }
  err = durable_forget (s->durable, dobj);
  if (err == 0)
    object_destroy (o);
  return err;
}

static void
reap_main (void *arg)
{
  struct reaper *r = arg;
  struct dobject *dobj;

  while (!atomic_load (&r->stop) &&
         (dobj = durable_next_dying (r->s->durable)) != NULL) {
    int err = drop (r, dobj);

    if (err && err != EINTR)
      log_write (LOG_ERROR,
                 "store: a removed disk could not be freed: %s (the next start "
                 "tries again)",
                 strerror (err));
    if (err)
      return;
  }
}

int
reap_start (struct store *s)
{
  struct reaper *r;
  int err;

  if (durable_next_dying (s->durable) == NULL)
    return 0;
  r = calloc (1, sizeof *r);
  if (r == NULL)
    return ENOMEM;
  r->s = s;
  lock_init (&r->lock, LOCK_LEAF, "reaper");
  err = task_start ("reap", reap_main, r, &r->task);
  if (err) {
    lock_destroy (&r->lock);
    free (r);
    return err;
  }
  s->reaper = r;
  return 0;
}

static void
end (struct store *s, bool stop)
{
  struct reaper *r = s->reaper;

  if (r == NULL)
    return;
  lock_acquire (&r->lock);
  if (stop)
    atomic_store (&r->stop, true);
  if (stop && r->o != NULL)
    object_drop_stop (r->o);
  lock_release (&r->lock);
  task_join (r->task);
  lock_destroy (&r->lock);
  free (r);
  s->reaper = NULL;
}

void
reap_stop (struct store *s)
{
  end (s, true);
}

void
reap_wait (struct store *s)
{
  end (s, false);
}
