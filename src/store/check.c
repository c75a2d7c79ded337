/* SPDX-License-Identifier: BSD-2-Clause */
/* Checking a durable store: the phases in their order, and the telling of
 * what they find.
 *
 *   check_run --> check_supers    slots of all volumes; which is the root
 *             --> check_log       the ring; recovery, over overlays in memory
 *             --> check_table     objects
 *             --> check_maps      their maps
 *             --> check_twice     blocks that are named twice: by whom
 *             --> check_counts    the table's numbers against what was counted
 *             --> check_retired   blocks that failed a write are not named
 *             --> check_freemaps  the free map against what is named
 *             --> check_pages     (if wanted) every page against its CRC
 *
 * Called by the tool, by a simulator after each crash, and by tests.  Calls
 * recovery as the server does, but reads nodes by itself: the buffers and
 * trees of the server believe more than can be believed here.
 *
 * I1. Nothing that was read is believed.  A number is looked at before it is
 *     an index or a place; every loop ends by a number of our own.
 * I2. Nothing is written but to overlays in memory; repairing (check-repair.c)
 *     lets these phases put right there what they find, and then writes it.
 * I3. Memory: two bits a block, the objects' entries, CHECK_TWICE_MAX blocks
 *     that are named twice, and what recovery takes.
 *
 * One thread, no locks.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NODES 64u

const char *const check_kind_names[CHECK_KINDS] = {
  [CHECK_VOLUME] = "volume",   [CHECK_SLOT] = "superblock",
  [CHECK_LOG] = "log",         [CHECK_OBJECT] = "object",
  [CHECK_NODE] = "node",       [CHECK_ENTRY] = "entry",
  [CHECK_COUNT] = "count",     [CHECK_TWICE] = "twice",
  [CHECK_LOST] = "lost",       [CHECK_LEAKED] = "leaked",
  [CHECK_FREEMAP] = "freemap", [CHECK_RETIRED] = "retired",
  [CHECK_DATA] = "data",
};

const char *const check_phase_names[CHECK_PHASES] = {
  [CHECK_PHASE_SUPER] = "superblocks",  [CHECK_PHASE_LOG] = "log",
  [CHECK_PHASE_TABLE] = "object table", [CHECK_PHASE_MAPS] = "maps",
  [CHECK_PHASE_BLOCKS] = "free map",    [CHECK_PHASE_DATA] = "data",
};

/* ---- telling ---- */

/* Text put together; what does not fit is cut off. */
struct line {
  char *to;
  size_t left;
};

static void __attribute__ ((format (printf, 2, 3)))
put (struct line *l, const char *fmt, ...)
{
  va_list args;
  int n;

  va_start (args, fmt);
  n = vsnprintf (l->to, l->left, fmt, args);
  va_end (args);
  if (n < 0)
    return;
  if ((size_t) n >= l->left)
    n = (int) l->left - 1;
  l->to += n;
  l->left -= (size_t) n;
}

static void
put_range (struct line *l, const char *one, uint64_t first, uint64_t nr)
{
  if (nr > 1)
    put (l, "%ss %" PRIu64 "-%" PRIu64, one, first, first + nr - 1);
  else
    put (l, "%s %" PRIu64, one, first);
}

static void
put_owner (struct line *l, const struct check_finding *f)
{
  if (f->tree == DISK_TREE_TABLE)
    put (l, "object table: ");
  else if (f->tree >= DISK_TREE_FREEMAP &&
           f->tree < DISK_TREE_FREEMAP + DISK_VOLUMES)
    put (l, "free map: ");
  else if (f->object != NULL)
    put (l, "'%s' (%#" PRIx64 ")%s", f->object, f->tree,
         f->pgno != CHECK_NONE ? ", " : ": ");
  else
    put (l, "object %#" PRIx64 "%s", f->tree,
         f->pgno != CHECK_NONE ? ", " : ": ");
  if (f->tree >= DISK_TREE_FIRST && f->pgno != CHECK_NONE) {
    put_range (l, "page", f->pgno, f->nr_pages);
    put (l, ": ");
  }
}

void
check_finding_text (const struct check_finding *f, char *to, size_t bytes)
{
  struct line l = { to, bytes };

  *to = '\0';
  if (f->volume != NULL)
    put (&l, "%s: ", f->volume);
  if (f->blk != CHECK_NONE) {
    put_range (&l, "block", f->blk, f->nr_blocks);
    put (&l, ": ");
  }
  if (f->tree != CHECK_NONE)
    put_owner (&l, f);
  put (&l, "%s", f->what);
  if (f->repair != NULL)
    put (&l, " (%s)", f->repair);
}

void
check_tell (struct check *c, enum check_kind kind, const struct check_place *at,
            const char *fmt, ...)
{
  struct check_finding f = { .kind = kind,
                             .blk = at->blk,
                             .nr_blocks = at->nr_blocks,
                             .tree = at->tree,
                             .pgno = at->pgno,
                             .nr_pages = at->nr_pages,
                             .what = c->text,
                             .repair = c->fix ? at->repair : NULL };
  const struct check_object *o = check_object_of (c, at->tree);
  va_list args;

  va_start (args, fmt);
  vsnprintf (c->text, sizeof c->text, fmt, args);
  va_end (args);
  if (at->volume != NULL)
    f.volume = at->volume->name;
  else if (at->blk != CHECK_NONE && blkno_volume (at->blk) < c->nr_volumes)
    f.volume = c->volumes[blkno_volume (at->blk)]->name;
  if (at->blk != CHECK_NONE)
    f.blk = blkno_place (at->blk);
  if (o != NULL)
    f.object = o->name;
  c->report->nr_found[kind]++;
  c->report->nr_all++;
  c->report->nr_repairs += f.repair != NULL;
  if (c->config->found != NULL)
    c->config->found (c->config->arg, &f);
}

void
check_note (struct check *c, const char *fmt, ...)
{
  va_list args;

  if (c->config->note == NULL)
    return;
  va_start (args, fmt);
  vsnprintf (c->text, sizeof c->text, fmt, args);
  va_end (args);
  c->config->note (c->config->arg, c->text);
}

int
check_tick (struct check *c, enum check_phase phase, uint64_t done,
            uint64_t all)
{
  if (c->ticks++ % TICK_NODES != 0 && done != all)
    return 0;
  if (c->config->stop != NULL && c->config->stop (c->config->arg))
    return EINTR;
  if (c->config->progress != NULL)
    c->config->progress (c->config->arg, phase, done, all);
  return 0;
}

/* ---- what all phases use ---- */

bool
check_all_zero (const void *buf, size_t len)
{
  const uint8_t *p = buf;

  return len == 0 || (p[0] == 0 && memcmp (p, p + 1, len - 1) == 0);
}

struct check_object *
check_object_of (struct check *c, uint64_t tree)
{
  uint64_t low = 0, high = tree < SUPER_COUNT_MAX ? c->nr_objects : 0;

  while (low < high) {
    uint64_t mid = low + (high - low) / 2;

    if (c->objects[mid].entry.id < tree)
      low = mid + 1;
    else
      high = mid;
  }
  return low < c->nr_objects && c->objects[low].entry.id == tree
             ? &c->objects[low]
             : NULL;
}

int
check_read (struct check *c, uint64_t blk, void *to)
{
  return volume_read (c->volumes[blkno_volume (blk)],
                      blkno_place (blk) * DISK_BLOCK_BYTES, to,
                      DISK_BLOCK_BYTES);
}

int
check_write (struct check *c, uint64_t blk, const void *from)
{
  struct volume *v = c->volumes[blkno_volume (blk)];
  int err = volume_write (v, blkno_place (blk) * DISK_BLOCK_BYTES, from,
                          DISK_BLOCK_BYTES);

  return err != 0 && c->overlaid && volume_overlay_starved (v) ? ENOMEM : err;
}

/* ---- the phases ---- */

/* Everything in c->pass: for the owners of blocks. */
static int
walk_again (struct check *c)
{
  int err = check_table (c);

  return err ? err : check_maps (c);
}

static int
look_at_trees (struct check *c)
{
  int err;

  c->nr_walked = 0;
  c->pass = PASS_LOOK;
  err = check_owners_begin (c);
  if (err == 0)
    err = check_ahead_begin (c);
  if (err == 0)
    err = check_table (c);
  if (err == 0)
    err = check_maps (c);
  if (err == 0)
    err = check_twice (c, walk_again);
  if (err == 0)
    err = check_counts (c);
  if (err == 0)
    check_retired (c);
  if (err == 0)
    err = check_freemaps (c);
  if (err == 0 && c->config->data)
    err = check_pages (c);
  c->report->whole = err == 0;
  return err;
}

int
check_all (struct check *c)
{
  int err = check_tick (c, CHECK_PHASE_SUPER, 0, 0);

  c->nodes =
      aligned_alloc (DISK_BLOCK_BYTES, (TREE_LEVELS + 1) * DISK_BLOCK_BYTES);
  if (c->nodes == NULL)
    return ENOMEM;
  if (err == 0)
    err = check_supers (c);
  if (err == 0)
    err = check_log (c);
  if (err == 0)
    err = look_at_trees (c);
  return err == EUCLEAN ? 0 : err; /* told, and the rest cannot be looked at */
}

static void
free_objects (struct check *c)
{
  for (uint64_t i = 0; i < c->nr_objects; i++)
    free (c->objects[i].name);
  free (c->objects);
  c->objects = NULL;
  c->nr_objects = c->max_objects = 0;
}

void
check_end (struct check *c)
{
  free_objects (c);
  check_owners_end (c);
  check_ahead_end (c);
  for (unsigned i = 0; i < c->nr_volumes && c->overlaid; i++)
    if (c->volumes[i] != NULL)
      (void) volume_overlay_detach (c->volumes[i]);
  free (c->peers);
  free (c->nodes);
  c->nodes = NULL;
}

int
check_run (const struct check_config *config, struct check_report *report)
{
  struct check *c = calloc (1, sizeof *c);
  int err;

  memset (report, 0, sizeof *report);
  if (c == NULL)
    return ENOMEM;
  c->config = config;
  c->report = report;
  err = check_all (c);
  check_end (c);
  free (c);
  return err;
}

/* ---- for the simulator ---- */

struct first {
  char text[512];
};

static void
keep_first (void *arg, const struct check_finding *f)
{
  struct first *first = arg;

  if (first->text[0] == '\0')
    check_finding_text (f, first->text, sizeof first->text);
}

const char *
check_store_images (struct volume *const *volumes, unsigned nr_volumes,
                    bool recover)
{
  static struct first first;
  struct check_config config = {
    .volumes = volumes,
    .nr_volumes = nr_volumes,
    .data = true,
    .no_recover = !recover,
    .found = keep_first,
    .arg = &first,
  };
  struct check_report report;
  int err;

  first.text[0] = '\0';
  err = check_run (&config, &report);
  if (first.text[0] == '\0' && err != 0)
    snprintf (first.text, sizeof first.text, "check: %s", strerror (err));
  return first.text[0] != '\0' ? first.text : NULL;
}
