/* SPDX-License-Identifier: BSD-2-Clause */
/* Check, first phase: the slots of every volume, and whether the volumes are
 * one store.  The rules are those of buffer/super.c, but all that is wrong is
 * told and not the first alone.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The volumes as they were given. */
struct given {
  unsigned nr;
  struct disk_super *best; /* nr */
  const char *errors[DISK_VOLUMES][DISK_SUPER_SLOTS];
  bool good[DISK_VOLUMES];
  bool no_store; /* what was given is not one store */
};

static void __attribute__ ((format (printf, 4, 5)))
refuse (struct check *c, struct given *g, const struct volume *v,
        const char *fmt, ...)
{
  struct check_place at = CHECK_NOWHERE;
  char text[256];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  at.volume = v;
  check_tell (c, CHECK_VOLUME, &at, "%s", text);
  g->no_store = true;
}

/* Is that what a crash leaves that comes while a slot is written?  Slots are
 * written in turn, so it stays only until the store is opened, and the one
 * before it counts: no damage.
 */
static bool
is_cut_off (const struct disk_super *best, unsigned slot, const char *why)
{
  return slot == super_next_slot (best) &&
         (why == super_wrong_crc || why == super_unread);
}

static void
tell_slots (struct check *c, struct given *g, unsigned i)
{
  const struct volume *v = c->config->volumes[i];

  for (unsigned slot = 0; slot < DISK_SUPER_SLOTS; slot++) {
    struct check_place at = CHECK_NOWHERE;

    if (g->errors[i][slot] == NULL)
      continue;
    if (g->good[i] && is_cut_off (&g->best[i], slot, g->errors[i][slot])) {
      check_note (c,
                  "%s: superblock slot %u is not whole: its write was cut off "
                  "(the next superblock goes there, and nothing is lost)",
                  v->name, slot);
      continue;
    }
    at.volume = v;
    at.blk = super_slot_block (v->size_bytes / DISK_BLOCK_BYTES, slot);
    at.repair = g->good[i] ? "is written anew" : NULL;
    check_tell (c, CHECK_SLOT, &at, "superblock slot %u: %s", slot,
                g->errors[i][slot]);
  }
}

static bool
is_other_version (const char *const errors[DISK_SUPER_SLOTS])
{
  bool other = false;

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    other |= errors[i] == super_other_version;
  return other;
}

static void
look_at_volume (struct check *c, struct given *g, unsigned i)
{
  struct volume *v = c->config->volumes[i];
  int err = super_read (v, &g->best[i], g->errors[i]);

  g->good[i] = err == 0;
  if (err == ENOENT) {
    refuse (c, g, v, "is no volume of a durable store (check the path)");
    return;
  }
  if (err == EINVAL && is_other_version (g->errors[i])) {
    refuse (c, g, v, "was made by another version of farpage (use that one)");
    return;
  }
  if (err == EINVAL) {
    refuse (c, g, v,
            "its size has changed since it was formatted (give it "
            "the old size again)");
    return;
  }
  tell_slots (c, g, i);
  if (err == 0 && g->best[i].incompat != 0)
    refuse (c, g, v,
            "has features that this farpage does not know (use a "
            "newer one)");
  else if (err == 0 && g->best[i].ro_compat != 0 && c->fix)
    refuse (c, g, v,
            "has features that this farpage does not know: it can be looked "
            "at, and not repaired (use a newer one)");
}

/* The volume that others are compared with: the root, if it is there. */
static unsigned
find_first (const struct given *g)
{
  unsigned first = g->nr;

  for (unsigned i = g->nr; i-- > 0;)
    if (g->good[i] && (first == g->nr || g->best[first].volume != 0 ||
                       g->best[i].volume == 0))
      first = i;
  return first;
}

static void
place_volume (struct check *c, struct given *g, unsigned i, unsigned first)
{
  const struct disk_super *p = &g->best[i], *q = &g->best[first];
  struct volume *v = c->config->volumes[i], *w = c->config->volumes[first];

  if (memcmp (p->uuid, q->uuid, sizeof p->uuid) != 0)
    refuse (c, g, v, "belongs to another store than %s", w->name);
  else if (p->nr_volumes != q->nr_volumes)
    refuse (c, g, v,
            "is of a store of %" PRIu32 " volumes, and %s of one of "
            "%" PRIu32,
            p->nr_volumes, w->name, q->nr_volumes);
  else if (p->volume >= g->nr)
    refuse (c, g, v,
            "is volume %" PRIu32 " of a store of %" PRIu32
            ", and %u are named (name all of them)",
            p->volume, p->nr_volumes, g->nr);
  else if (c->bare[p->volume] != NULL)
    refuse (c, g, v,
            "is volume %" PRIu32 " of the store, and so is %s (name "
            "each once, and no copies)",
            p->volume, c->bare[p->volume]->name);
  else {
    c->bare[p->volume] = v;
    memcpy (c->slots[p->volume], g->errors[i], sizeof g->errors[i]);
    if (p->volume == 0)
      c->root = *p;
    else
      c->peers[p->volume] = *p;
  }
}

static void
compare_peer (struct check *c, struct given *g, unsigned i)
{
  const struct disk_super *p = &c->peers[i];
  const struct volume *v = c->bare[i];

  if (p->nr_blocks != c->root.members[i].nr_blocks)
    refuse (c, g, v, "has %" PRIu64 " blocks, and %s knows it with %" PRIu64,
            p->nr_blocks, c->bare[0]->name, c->root.members[i].nr_blocks);
  else if (p->epoch < c->root.epoch)
    refuse (c, g, v,
            "is older (epoch %" PRIu64 ") than the rest of its store "
            "(epoch %" PRIu64 "): an old copy? (name the right one)",
            p->epoch, c->root.epoch);
  else if (p->epoch > c->root.epoch + 1)
    refuse (c, g, c->bare[0],
            "is older (epoch %" PRIu64 ") than %s (epoch "
            "%" PRIu64 "): an old copy? (name the right one)",
            c->root.epoch, v->name, p->epoch);
}

static void
join (struct check *c, struct given *g)
{
  unsigned first = find_first (g);
  const struct volume *v;

  if (first == g->nr)
    return;
  v = c->config->volumes[first];
  for (unsigned i = 0; i < g->nr; i++)
    if (g->good[i])
      place_volume (c, g, i, first);
  for (unsigned i = 0; i < g->best[first].nr_volumes && !g->no_store; i++)
    if (c->bare[i] == NULL && g->nr < g->best[first].nr_volumes)
      refuse (c, g, v,
              "is of a store of %" PRIu32 " volumes, and number %u is "
              "missing (name all of them)",
              g->best[first].nr_volumes, i);
  for (unsigned i = 1; i < g->best[first].nr_volumes && !g->no_store; i++)
    if (c->bare[i] != NULL && c->bare[0] != NULL)
      compare_peer (c, g, i);
}

/* All volumes have a good slot and are one store. */
static int
finish (struct check *c, const struct given *g)
{
  uint64_t ro_compat = 0;

  for (unsigned i = 0; i < g->nr; i++)
    if (!g->good[i])
      return EUCLEAN;
  c->nr_volumes = g->nr;
  for (unsigned i = 0; i < g->nr; i++) {
    ro_compat |= g->best[i].ro_compat;
    c->volumes[i] = c->bare[i];
    c->report->nr_blocks += c->root.members[i].nr_blocks;
  }
  if (ro_compat != 0)
    check_note (c, "the store has features that this farpage does not know: "
                   "what they mean is not looked at");
  return 0;
}

int
check_supers (struct check *c)
{
  struct given g = { .nr = c->config->nr_volumes };
  int err;

  if (g.nr == 0 || g.nr > DISK_VOLUMES)
    return EINVAL;
  g.best = calloc (g.nr, sizeof *g.best);
  c->peers = calloc (g.nr, sizeof *c->peers);
  if (g.best == NULL || c->peers == NULL) {
    free (g.best);
    return ENOMEM;
  }
  for (unsigned i = 0; i < g.nr; i++)
    look_at_volume (c, &g, i);
  if (!g.no_store)
    join (c, &g);
  err = g.no_store ? EINVAL : finish (c, &g);
  free (g.best);
  return err;
}
