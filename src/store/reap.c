/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks that were being removed, or made smaller, when the store ended: what
 * they still have is freed, in a thread of its own, while the store serves the
 * others, and those that are smaller now.
 *
 *   table on the media: LIVE --rm--> DYING --map is empty--> FREE
 *
 * One that was being made smaller is LIVE, and says its old size beside the new
 * one (resize.c).
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
  struct object *o; /* [lock] being dropped, or losing its tail; NULL */
};

/* From here on end () tells whoever works on o. */
static void
work_on (struct reaper *r, struct object *o)
{
  LOCK_SCOPE (&r->lock);
  r->o = o;
  if (o != NULL && atomic_load (&r->stop))
    object_drop_stop (o);
}

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
  work_on (r, o);
  err = object_drop (o);
  work_on (r, NULL);
  if (err) {
    durable_keep (s->durable, dobj);
    return err;
  }
  err = durable_forget (s->durable, dobj);
  if (err == 0)
    object_destroy (o);
  return err;
}

/* One that has a tail since the open; NULL: there is none any more. */
static struct export *
next_cut (struct store *s)
{
  LOCK_SCOPE (&s->lock);
  for (unsigned i = 0; i < s->nr_exports; i++)
    if (s->exports[i]->left_cut)
      return s->exports[i];
  return NULL;
}

static void
free_tail (struct reaper *r, struct export *x)
{
  struct store *s = r->s;
  int err;

  work_on (r, x->o);
  err = resize_finish (s, x);
  work_on (r, NULL);
  if (err && err != EINTR)
    log_write (LOG_ERROR,
               "export '%s': it was made smaller, and what went could not be "
               "freed: %s (the next start tries again)",
               x->name, strerror (err));
  LOCK_SCOPE (&s->lock);
  x->left_cut = x->resizing = false;
}

static void
reap_main (void *arg)
{
  struct reaper *r = arg;
  struct dobject *dobj;
  struct export *x;

  while (!atomic_load (&r->stop) && (x = next_cut (r->s)) != NULL)
    free_tail (r, x);
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

  if (durable_next_dying (s->durable) == NULL && next_cut (s) == NULL)
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
