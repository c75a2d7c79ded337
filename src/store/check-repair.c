/* SPDX-License-Identifier: BSD-2-Clause */
/* Repairing a durable store.
 *
 *   1  the phases of check, over overlays in memory: recovery writes there,
 *      and with c->fix so does every phase that can put right what it finds
 *   2  superblock slots that are bad are written anew, from the good ones
 *   3  a second check, of what the overlays show
 *   4  go on? (what will be left is known now)
 *   5  the undo file, durable
 *   6  what the overlays hold goes to the volumes
 *
 * I1. Nothing is written to a volume before 5 is over.
 * I2. 6 goes in the order of recovery: the ring; pages and nodes; superblocks
 *     of the peers; those of the root, the oldest first, each durable before
 *     the next begins.  So whenever it is interrupted the old superblock finds
 *     its log and does again what recovery did, and what phases put right in
 *     place, which needs no superblock, is found right or put right again.
 * I3. No page is made up: what is lost stays in the map, as an error, unless
 *     lose_pages was said.
 *
 * Deliberately not done: a log with a hole in it, an object table that cannot
 * be read, entries of it that make no sense, are not repaired.  Behind a hole
 * no node can be trusted to be of the same moment as its neighbours, so every
 * page would be a guess; a disk whose entry is lost has neither name nor size.
 * Notes say what the operator can do.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"

/* ---- superblocks ---- */

static struct disk_super *
super_of (struct check *c, unsigned volume)
{
  return volume == 0 ? &c->root : &c->peers[volume];
}

/* A slot as the best one, but for its place: the sequence that it had when the
 * slots were written in turn, or, right after format, one behind.
 */
static int
write_slot (struct check *c, unsigned volume, unsigned slot)
{
  struct disk_super *page = (struct disk_super *) &c->nodes[0];
  const struct disk_super *best = super_of (c, volume);
  uint64_t back = (best->slot - slot) % DISK_SUPER_SLOTS;
  uint64_t nr_blocks = c->root.members[volume].nr_blocks;

  *page = *best;
  page->slot = slot;
  if (best->sequence > back)
    page->sequence -= back;
  else
    page->sequence += DISK_SUPER_SLOTS - back;
  page->crc = crc32c (0, page, DISK_CRC_OFF);
  return check_write (
      c, blkno_make (volume, super_slot_block (nr_blocks, slot)), page);
}

static int
fix_slots (struct check *c, unsigned volume)
{
  const char *errors[DISK_SUPER_SLOTS];
  struct disk_super best;
  int err = super_read (c->volumes[volume], &best, errors);

  if (err)
    return EIO;
  if (volume == 0 &&
      (best.next_object != c->root.next_object ||
       memcmp (best.retired, c->root.retired, sizeof best.retired) != 0)) {
    c->root.slot = (best.slot + 1) % DISK_SUPER_SLOTS;
    c->root.sequence = best.sequence + 1;
    err = write_slot (c, 0, c->root.slot);
    errors[c->root.slot] = NULL;
  }
  for (unsigned slot = 0; slot < DISK_SUPER_SLOTS && err == 0; slot++)
    if (errors[slot] != NULL)
      err = write_slot (c, volume, slot);
  return err;
}

/* ---- what is to be written ---- */

/* Blocks of all overlays, with their volumes' numbers. */
struct changes {
  uint64_t *blks;
  uint64_t nr;
};

/* When a block is written: 0, 1, .. in rising order. */
static unsigned
turn_of (const struct check *c, uint64_t blk)
{
  unsigned volume = blkno_volume (blk);
  uint64_t place = blkno_place (blk);

  if (place < SLOTS_END ||
      place >= c->root.members[volume].nr_blocks - SLOTS_END)
    return volume > 0 ? 2 : 3;
  return volume == 0 && place >= c->root.ring_first &&
                 place - c->root.ring_first < c->root.ring_blocks
             ? 0
             : 1;
}

static int
by_number (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static int
gather (struct check *c, struct changes *ch)
{
  uint64_t nr = 0;

  for (unsigned i = 0; i < c->nr_volumes && c->overlaid; i++)
    nr += volume_overlay_blocks (c->volumes[i], NULL);
  ch->blks = calloc (nr + 1, sizeof *ch->blks);
  if (ch->blks == NULL)
    return ENOMEM;
  for (unsigned i = 0; i < c->nr_volumes && c->overlaid; i++) {
    uint64_t n = volume_overlay_blocks (c->volumes[i], ch->blks + ch->nr);

    for (uint64_t k = 0; k < n; k++, ch->nr++)
      ch->blks[ch->nr] = blkno_make (i, ch->blks[ch->nr]);
  }
  qsort (ch->blks, ch->nr, sizeof *ch->blks, by_number);
  return 0;
}

/* Blocks that are the same as before need no write. */
static int
leave_same (struct check *c, struct changes *ch)
{
  struct disk_node *was = &c->nodes[0], *is = &c->nodes[1];
  uint64_t n = 0;

  for (uint64_t i = 0; i < ch->nr; i++) {
    uint64_t blk = ch->blks[i];
    int err = check_read (c, blk, is);

    if (err)
      return err;
    if (volume_read (c->bare[blkno_volume (blk)],
                     blkno_place (blk) * DISK_BLOCK_BYTES, was,
                     DISK_BLOCK_BYTES) != 0 ||
        memcmp (was, is, sizeof *is) != 0)
      ch->blks[n++] = blk;
  }
  ch->nr = n;
  return 0;
}

/* ---- writing ---- */

static int
write_block (struct check *c, uint64_t blk)
{
  struct disk_node *page = &c->nodes[0];
  int err = check_read (c, blk, page);

  return err ? err
             : volume_write (c->bare[blkno_volume (blk)],
                             blkno_place (blk) * DISK_BLOCK_BYTES, page,
                             DISK_BLOCK_BYTES);
}

static int
flush_all (struct check *c)
{
  int err = 0;

  for (unsigned i = 0; i < c->nr_volumes && err == 0; i++)
    err = volume_flush (c->bare[i]);
  return err;
}

/* The block of the root's slot with the lowest sequence above *sequence; 0:
 * there is none.
 */
static uint64_t
next_slot (struct check *c, const struct changes *ch, uint64_t *sequence)
{
  const struct disk_super *slot = (struct disk_super *) &c->nodes[1];
  uint64_t best = UINT64_MAX, found = UINT64_MAX;

  for (uint64_t i = 0; i < ch->nr; i++)
    if (turn_of (c, ch->blks[i]) == 3 &&
        check_read (c, ch->blks[i], &c->nodes[1]) == 0 &&
        slot->sequence > *sequence && slot->sequence < best) {
      best = slot->sequence;
      found = ch->blks[i];
    }
  *sequence = best;
  return found;
}

static int
write_changes (struct check *c, const struct changes *ch)
{
  uint64_t sequence = 0, blk;
  int err = 0;

  for (unsigned turn = 0; turn < 3 && err == 0; turn++) {
    for (uint64_t i = 0; i < ch->nr && err == 0; i++)
      if (turn_of (c, ch->blks[i]) == turn)
        err = write_block (c, ch->blks[i]);
    if (err == 0)
      err = flush_all (c);
  }
  while (err == 0 && (blk = next_slot (c, ch, &sequence)) != UINT64_MAX) {
    err = write_block (c, blk);
    if (err == 0)
      err = volume_flush (c->bare[0]);
  }
  return err;
}

/* ---- all of it ---- */

/* What will a check find? */
static int
look_again (struct check *c, struct check_report *after)
{
  struct check_config config = *c->config;

  config.volumes = c->volumes;
  config.nr_volumes = c->nr_volumes;
  config.staging_dir = NULL;
  config.found = NULL;
  config.note = NULL;
  config.data = false;
  return check_run (&config, after);
}

static int
decide (struct check *c, const struct check_repair *repair, struct changes *ch)
{
  struct check_report after;
  int err = 0;

  if (!c->overlaid)
    return 0; /* it did not come that far */
  for (unsigned i = 0; i < c->nr_volumes && err == 0; i++)
    err = fix_slots (c, i);
  if (err == 0)
    err = gather (c, ch);
  if (err == 0)
    err = leave_same (c, ch);
  if (err || ch->nr == 0)
    return err;
  err = look_again (c, &after);
  if (err == 0 && repair->go != NULL &&
      !repair->go (c->config->arg, ch->nr, &after))
    ch->nr = 0;
  return err;
}

int
check_repair (const struct check_config *config,
              const struct check_repair *repair, struct check_report *report,
              uint64_t *nr_written)
{
  struct check *c = calloc (1, sizeof *c);
  struct changes ch = { NULL, 0 };
  int err;

  memset (report, 0, sizeof *report);
  if (c == NULL)
    return ENOMEM;
  c->config = config;
  c->report = report;
  c->fix = true;
  c->lose_pages = repair->lose_pages;
  err = check_all (c);
  if (err == 0)
    err = decide (c, repair, &ch);
  if (err == 0 && ch.nr > 0)
    err = check_undo_write (c, repair->undo_path, ch.blks, ch.nr);
  if (err == 0 && ch.nr > 0)
    err = write_changes (c, &ch);
  if (err == 0)
    *nr_written = ch.nr;
  free (ch.blks);
  check_end (c);
  free (c);
  return err;
}
