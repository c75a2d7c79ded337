/* SPDX-License-Identifier: BSD-2-Clause */
/* A durable store's stack, and its objects as the table on the media has them.
 *
 *   superblocks -> staging -> buffers -> flusher -> recovery
 *               -> free map, object table -> space (what is used is taken)
 *
 * Everything is made before the fork and without a thread; durable_start ()
 * begins the flusher's.
 *
 * At a cut (flush_ops) the roots and counts of objects that have changed go
 * into the table, the free map is folded, and the roots of table and free map
 * (and what is retired) into the superblock: in this order, for each changes
 * what comes after it.
 *
 * Locks: d->lock guards the list of objects.  It is held over a cut, and never
 * while anything waits for the gate.
 */

#include <config.h>

#include "durable-impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "sabotage.h"

#define PLACES_AT_A_TIME 16u /* of objects begun before a cut */

/* ---- the flusher's questions ---- */

/* Places of objects that have changed and whose entries are not begun in this
 * cycle yet; at most nr of them.
 */
static unsigned
find_changed (struct durable *d, uint64_t *places, unsigned nr)
{
  uint64_t cycle = flush_cycle (d->fl);
  unsigned n = 0;

  LOCK_SCOPE (&d->lock);
  for (struct dobject *o = d->objects; o != NULL && n < nr; o = o->next) {
    if (o->map == NULL || o->begun_cycle == cycle ||
        !objmeta_has_changed (o->map))
      continue;
    o->begun_cycle = cycle;
    places[n++] = o->place;
  }
  return n;
}

static void
count (const struct dobject *dobj, struct disk_object *now)
{
  if (dobj->o != NULL) {
    now->nr_mapped = object_nr_mapped (dobj->o);
    now->nr_zero = object_nr_zero (dobj->o);
  } else {
    now->nr_mapped = (uint64_t) dobj->nr_mapped;
    now->nr_zero = (uint64_t) dobj->nr_zero;
  }
}

/* Its root, height and counts go into the table. */
static int
cut_object (struct durable *d, struct change *ch, struct dobject *dobj)
{
  struct disk_object now = { .id = dobj->entry.id };

  if (dobj->map == NULL)
    return 0;
  (void) objmeta_root (dobj->map, &now);
  count (dobj, &now);
  return objtable_cut_object (d->ot, ch, dobj->place, &now);
}

/* In recovery nobody changes anything meanwhile, and what is dirty may have to
 * be written at any time: then this is a change as others are.  It comes many
 * times in a cycle, so a root that has not changed does not tell that counts
 * have not.
 */
static int
cut_in_recovery (struct durable *d)
{
  int err = 0;

  for (struct dobject *o = d->objects; o != NULL && err == 0; o = o->next) {
    struct change ch;

    if (!o->redone)
      continue;
    change_begin_cut (d->fl, &ch);
    err = cut_object (d, &ch, o);
    change_end (d->fl, &ch);
    o->redone = false;
  }
  return err;
}

/* The cut has no room to begin many nodes: most are begun here. */
static int
before_cut (void *arg)
{
  struct durable *d = arg;
  uint64_t places[PLACES_AT_A_TIME];
  unsigned nr;
  int err = freemap_before_cut (d->fm);

  if (err == 0 && d->pk == NULL)
    return cut_in_recovery (d);
  while (err == 0 && flush_has_room (d->fl) &&
         (nr = find_changed (d, places, PLACES_AT_A_TIME)) > 0) {
    struct change ch;

    change_begin_cut (d->fl, &ch);
    for (unsigned i = 0; i < nr && err == 0; i++)
      err = objtable_before_cut (d->ot, &ch, places[i]);
    change_end (d->fl, &ch);
  }
  return err;
}

/* At most so many that have changed.  Returns how many. */
static unsigned
cut_some (struct durable *d, struct change *ch, unsigned max, int *err)
{
  unsigned n = 0;

  LOCK_SCOPE (&d->lock);
  for (struct dobject *o = d->objects; o != NULL && n < max && *err == 0;
       o = o->next) {
    if (o->map == NULL || !objmeta_has_changed (o->map))
      continue;
    *err = cut_object (d, ch, o);
    n++;
  }
  return n;
}

static int
cut (void *arg, struct change *ch, struct disk_super *root)
{
  struct durable *d = arg;
  unsigned nr;
  int err = 0;

  do {
    flush_make_room (d->fl);
    nr = cut_some (d, ch, PLACES_AT_A_TIME, &err);
  } while (err == 0 && nr == PLACES_AT_A_TIME);
  if (err == 0)
    err = objtable_cut (d->ot, ch, root);
  if (err == 0)
    err = freemap_cut (d->fm, ch, root);
  if (err == 0)
    durable_cut_retired (d, root);
  return err;
}

static void
durable_lsn (void *arg, uint64_t lsn)
{
  struct durable *d = arg;

  parked_durable (d->pk, lsn);
}

static void
retired (void *arg, uint64_t cycle)
{
  struct durable *d = arg;

  if (d->pk != NULL) /* none is parked before recovery is over */
    parked_retired (d->pk, cycle);
}

static const struct flush_ops flush_ops = {
  .before_cut = before_cut,
  .cut = cut,
  .durable = durable_lsn,
  .retired = retired,
};

static void
want_units (void *arg)
{
  struct store *s = arg;

  flush_kick (s->durable->fl);
}

static void
wake_writer (void *arg)
{
  struct durable *d = arg;

  if (d->fl != NULL)
    flush_wake (d->fl);
}

/* ---- open ---- */

static struct space_run
usable_run (const struct durable *d, unsigned volume)
{
  const struct disk_super *root = &d->supers.root;
  uint64_t first = super_first_block (root, volume);

  return (struct space_run){
    .blk = blkno_make (volume, first),
    .nr = root->members[volume].nr_blocks - 2 - first,
  };
}

static int
make_space (struct store *s, struct durable *d)
{
  struct space_run usable[VOLUMES_MAX];
  struct space_config sc = {
    .volumes = s->volumes,
    .nr_volumes = s->nr_volumes,
    .stripe_blocks = s->config.stripe_blocks,
    .usable = usable,
    .on_level = store_space_changed,
    .want_units = want_units,
    .arg = s,
  };

  for (unsigned i = 0; i < s->nr_volumes; i++)
    usable[i] = usable_run (d, i);
  return space_create (&sc, &s->space);
}

static int
make_buffers (struct store *s, struct durable *d)
{
  uint64_t nr = max_u64 (s->config.cache_bytes / BUF_BYTES, BUFS_MIN);
  struct staging_config stc = { .dir = s->config.staging_dir,
                                .nr_buffers = nr,
                                .epoch = d->supers.root.epoch + 1 };
  struct bufs_config bc = {
    .volumes = s->volumes,
    .nr_volumes = s->nr_volumes,
    .uuid = d->supers.root.uuid,
    .cache_bytes = nr * BUF_BYTES,
    .wake = wake_writer,
    .arg = d,
  };
  struct flush_config fc = {
    .volumes = s->volumes,
    .nr_volumes = s->nr_volumes,
    .supers = &d->supers,
    .ops = &flush_ops,
    .arg = d,
  };
  int err;

  if (s->config.staging_dir != NULL && !s->config.readonly) {
    memcpy (stc.uuid, d->supers.root.uuid, sizeof stc.uuid);
    err = staging_create (&stc, &d->staging);
    if (err)
      return err;
    bc.memory = staging_memory (d->staging);
    bc.tags = staging_tags (d->staging);
  }
  err = bufs_create (&bc, &d->bs);
  if (err)
    return err;
  fc.bs = d->bs;
  return flush_create (&fc, &d->fl);
}

static void
forget_objects (struct durable *d)
{
  while (d->objects != NULL) {
    struct dobject *dobj = d->objects;

    d->objects = dobj->next;
    dobject_free (dobj);
  }
  memset (d->by_id, 0, sizeof d->by_id);
}

static void
tell_report (const struct recover_report *r, uint64_t took_ns)
{
  if (r->clean && r->nr_staged == 0)
    return;
  log_write (LOG_INFO,
             "store: recovered in %" PRIu64 " ms: log %" PRIu64 " to %" PRIu64
             ", %" PRIu64 " nodes put back, %" PRIu64 " records done again, "
             "%" PRIu64 " pages looked at, %" PRIu64 " older ones kept",
             took_ns / NS_PER_MS, r->first_lsn, r->end_lsn, r->nr_undone,
             r->nr_redone, r->nr_verified, r->nr_fallen);
}

static int
recover (struct store *s, struct durable *d)
{
  uint64_t old_id = d->supers.root.staging, begin_ns = env_now_ns ();
  struct staging *old = NULL;
  int err = 0;

  if (old_id != 0 && s->config.staging_dir != NULL)
    err =
        staging_open (s->config.staging_dir, d->supers.root.uuid, old_id, &old);
  if (err == ENOENT)
    err = 0;
  if (err == 0 && d->staging != NULL && SABOTAGE (publish_early))
    err = staging_publish (d->staging);
  if (err == 0)
    err = recover_run (d->fl, &d->supers, old, &durable_recover_ops, d,
                       &d->report);
  /* All that was in the old file is on the media. */
  if (err == 0 && d->staging != NULL && !SABOTAGE (publish_early))
    err = staging_publish (d->staging);
  if (err == 0)
    err = flush_set_staging (d->fl,
                             d->staging != NULL ? staging_id (d->staging) : 0);
  if (err == 0 && d->staging != NULL)
    err = staging_named (d->staging, supers_oldest (&d->supers.root));
  staging_close (old, false);
  d->recover_ns = env_now_ns () - begin_ns;
  if (err == 0)
    tell_report (&d->report, d->recover_ns);
  return err;
}

static int
mark_used (void *arg, const struct space_run *run)
{
  struct durable *d = arg;
  struct space_run usable = usable_run (d, blkno_volume (run->blk));
  uint64_t first = max_u64 (run->blk, usable.blk);
  uint64_t end = min_u64 (run->blk + run->nr, usable.blk + usable.nr);
  struct space_run part = { first, end - first };

  return first < end ? space_mark_used (d->s->space, &part) : 0;
}

/* Take from space what the free map says is used, and charge what the table
 * says; both must come to the same.
 */
static int
take_used (struct store *s, struct durable *d)
{
  uint64_t nr_used = objtable_nr_nodes (d->ot);
  uint64_t nr_charged = nr_used;
  int err = 0;

  for (unsigned i = 0; i < s->nr_volumes && err == 0; i++)
    err = freemap_each (d->fm, i, mark_used, d);
  for (struct dobject *o = d->objects; o != NULL && err == 0; o = o->next) {
    err = dobject_need_map (d, o);
    if (err)
      break;
    nr_used += (uint64_t) o->nr_mapped + objmeta_nr_nodes (o->map);
    nr_charged += (uint64_t) o->nr_mapped + objmeta_nr_nodes (o->map);
    nr_charged += (uint64_t) o->nr_zero;
    /* A reserved object charges all its pages itself, when it is made. */
    if (o->entry.state == DISK_OBJECT_LIVE &&
        (o->entry.flags & DISK_OBJECT_RESERVED))
      nr_charged -= (uint64_t) (o->nr_mapped + o->nr_zero);
  }
  if (err == 0 && space_nr_marked (s->space) != nr_used) {
    log_write (LOG_ERROR,
               "store: the free map has %" PRIu64 " blocks in use, the maps "
               "name %" PRIu64 " (run 'farpage check')",
               space_nr_marked (s->space), nr_used);
    return EUCLEAN;
  }
  if (err == 0 && space_charge (s->space, nr_charged) != 0) {
    log_write (LOG_ERROR, "store: more is mapped than the pool has (run "
                          "'farpage check')");
    err = EUCLEAN;
  }
  return err;
}

int
durable_open (struct store *s)
{
  struct durable *d = calloc (1, sizeof *d);
  int err;

  if (d == NULL)
    return ENOMEM;
  d->s = s;
  s->durable = d;
  lock_init (&d->lock, LOCK_DURABLE, "durable objects");
  err = supers_read (s->volumes, s->nr_volumes, &d->supers);
  /* What is written stays in memory: no feature forbids that. */
  if (err == 0 && s->config.readonly)
    d->supers.readonly = false;
  if (err == 0 && s->config.staging_dir != NULL && !s->config.readonly)
    err = staging_check_root (s->config.staging_dir, d->supers.root.uuid,
                              d->supers.root.epoch, d->supers.root.sequence);
  if (err == 0)
    err = make_space (s, d);
  if (err == 0)
    err = make_buffers (s, d);
  if (err == 0)
    err = recover (s, d);
  if (err == 0)
    err = parked_create (s->space, d->fl, &d->pk);
  /* Maps that recovery has made had nowhere to park, and all the pages that
   * they ever had in its log.
   */
  for (struct dobject *o = d->objects; o != NULL && err == 0; o = o->next)
    if (o->map != NULL) {
      objmeta_set_parked (o->map, d->pk);
      objmeta_set_pages (o->map, &o->entry);
    }
  if (err == 0)
    err = take_used (s, d);
  if (err == 0)
    flush_reserve (d->fl, objtable_nr_nodes (d->ot));
  return err;
}

int
durable_start (struct durable *d)
{
  return flush_start (d->fl);
}

int
durable_stop (struct durable *d)
{
  int err = flush_close (d->fl);

  if (err == 0 && d->staging != NULL) {
    staging_close (d->staging, true);
    d->staging = NULL;
  }
  return err;
}

void
durable_close (struct durable *d)
{
  if (d == NULL)
    return;
  forget_objects (d);
  flush_destroy (d->fl); /* its threads use all of the others */
  objtable_destroy (d->ot);
  freemap_destroy (d->fm);
  parked_destroy (d->pk);
  bufs_destroy (d->bs);
  staging_close (d->staging, false);
  lock_destroy (&d->lock);
  free (d);
}

bool
durable_failed (struct durable *d)
{
  return flush_failed (d->fl);
}

uint64_t
durable_nr_blocks (struct durable *d)
{
  uint64_t nr = objtable_nr_nodes (d->ot) + parked_nr_meta (d->pk);

  LOCK_SCOPE (&d->lock);
  for (struct dobject *o = d->objects; o != NULL; o = o->next) {
    nr += o->o != NULL ? object_nr_mapped (o->o) : (uint64_t) o->nr_mapped;
    nr += o->map != NULL ? objmeta_nr_nodes (o->map) : o->entry.nr_nodes;
  }
  return nr;
}

uint64_t
durable_nr_parked (struct durable *d)
{
  return parked_nr_blocks (d->pk);
}
