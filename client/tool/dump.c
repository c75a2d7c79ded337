/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage dump: every structure as it lies on the volumes, damaged or not.
 *
 *   run_dump --> slots [here] | dump_log | dump_node, _table, _freemap, _object
 *                                dump-log.c  dump-tree.c
 *
 * Takes no lock and writes nothing: beside a running server it shows what is
 * on the media now, which is behind what the server knows.  What the log would
 * change at the next start is not applied.
 */

#include <config.h>

#include "dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk-json.h"

void
dump_item (struct dump *d, json_t *item, const char *error)
{
  item_judge (item, error);
  d->bad |= error != NULL;
  item_print (item, d->as_json);
}

const char *
dump_read (struct dump *d, uint64_t blk, void *page)
{
  uint64_t place = blkno_place (blk);
  unsigned volume = blkno_volume (blk);
  struct volume *v = volume < DISK_VOLUMES ? d->by[volume] : NULL;

  if (blk != blkno_make (volume, place) || volume >= DISK_VOLUMES)
    return "there can be no such block";
  if (v == NULL)
    return "is on a volume that was not named";
  if (place >= v->size_bytes / DISK_BLOCK_BYTES)
    return "is behind its volume's end";
  if (volume_read (v, place * DISK_BLOCK_BYTES, page, DISK_BLOCK_BYTES) != 0)
    return "cannot be read";
  return NULL;
}

static void
dump_slots (struct dump *d)
{
  _Alignas(PAGE_BYTES) struct disk_super slot;

  for (unsigned i = 0; i < d->vs.nr; i++)
    for (unsigned k = 0; k < DISK_SUPER_SLOTS; k++) {
      struct volume *v = d->vs.v[i];
      uint64_t nr_blocks = v->size_bytes / DISK_BLOCK_BYTES;
      uint64_t block = super_slot_block (nr_blocks, k);
      json_t *item =
          item_new ("slot", "%u of %s, block %" PRIu64, k, v->name, block);
      const char *why = "it cannot be read";

      if (volume_read (v, block * DISK_BLOCK_BYTES, &slot, sizeof slot) == 0) {
        why = super_error (&slot, k, nr_blocks);
        if (why != super_no_magic)
          super_json (item, &slot);
      }
      dump_item (d, item, why);
    }
}

/* ---- which volume is which */

/* Put volumes in their places by their superblocks; those that have none take
 * the place in which they were named, if it is free.
 */
static int
find_volumes (struct dump *d)
{
  bool placed[ARGS_MAX] = { false };

  for (unsigned i = 0; i < d->vs.nr; i++) {
    const char *errors[DISK_SUPER_SLOTS];
    struct disk_super best;

    if (volumes_super (d->vs.v[i], &best, errors) != 0 || best.incompat != 0)
      continue;
    if (d->by[best.volume] != NULL) {
      complain (d->vs.v[i]->name,
                "has the same number as %s (name volumes of one store)",
                d->by[best.volume]->name);
      return STATUS_NO;
    }
    placed[i] = true;
    d->by[best.volume] = d->vs.v[i];
    if (best.volume == 0) {
      d->root = best;
      d->root_known = true;
    }
  }
  for (unsigned i = 0; i < d->vs.nr; i++)
    if (!placed[i] && d->by[i] == NULL)
      d->by[i] = d->vs.v[i];
  return 0;
}

static int
need_root (const struct dump *d)
{
  if (d->root_known)
    return 0;
  if (d->by[0] == NULL)
    complain (NULL, "volume 0 of the store is not among those named (name all "
                    "of them)");
  else
    complain (d->by[0]->name,
              "no good superblock, so nothing can be followed ('--slot' shows "
              "them, '--node' any block)");
  return STATUS_NO;
}

/* ---- what is asked for */

/* A number in C's notation. */
static bool
take_number (const char *text, char end, uint64_t max, uint64_t *n,
             const char **rest)
{
  char *stop;

  if (*text < '0' || *text > '9')
    return false;
  errno = 0;
  *n = strtoull (text, &stop, 0);
  *rest = stop + 1;
  return errno == 0 && *stop == end && *n <= max;
}

/* VOLUME:PLACE, or the number that both make. */
static bool
take_block (const char *text, uint64_t *blk)
{
  uint64_t volume, place;
  const char *rest;

  if (take_number (text, '\0', UINT64_MAX, blk, &rest))
    return true;
  if (!take_number (text, ':', DISK_VOLUMES - 1, &volume, &rest) ||
      !take_number (rest, '\0', BLKNO_PLACE_MAX, &place, &rest))
    return false;
  *blk = blkno_make ((unsigned) volume, place);
  return true;
}

static int
dump_asked (struct dump *d, const struct invocation *inv, uint64_t number)
{
  int status = 0;

  if (given (inv, OPT_NODE))
    dump_node (d, number);
  else if (given (inv, OPT_LOG) || given (inv, OPT_TABLE) ||
           given (inv, OPT_FREEMAP) || given (inv, OPT_OBJECT)) {
    status = need_root (d);
    if (status != 0)
      return status;
    if (given (inv, OPT_LOG))
      dump_log (d);
    else if (given (inv, OPT_TABLE))
      dump_table (d);
    else if (given (inv, OPT_FREEMAP))
      dump_freemap (d);
    else
      dump_object (d, number);
  } else
    dump_slots (d);
  return status;
}

static int
check_options (const struct invocation *inv, uint64_t *number)
{
  const char *rest;
  unsigned nr = 0;

  for (unsigned id = OPT_SLOT; id <= OPT_NODE; id++)
    nr += given (inv, id);
  if (nr > 1)
    return complain_usage (inv->command, "one thing at a time");
  if (given (inv, OPT_NODE) && !take_block (inv->value[OPT_NODE], number))
    return complain_usage (inv->command,
                           "--node: '%s' is no block: give VOLUME:PLACE",
                           inv->value[OPT_NODE]);
  if (given (inv, OPT_OBJECT) &&
      !take_number (inv->value[OPT_OBJECT], '\0', UINT64_MAX, number, &rest))
    return complain_usage (inv->command,
                           "--object: '%s' is no id ('--table' shows them)",
                           inv->value[OPT_OBJECT]);
  return 0;
}

static int
run_dump (const struct invocation *inv)
{
  struct dump d = { .as_json = given (inv, OPT_JSON) };
  const unsigned nr = sizeof d.node / sizeof d.node[0];
  uint64_t number = 0;
  char *memory;
  int status = check_options (inv, &number);

  if (status != 0)
    return status;
  volumes_tell ();
  memory = aligned_alloc (PAGE_BYTES, nr * DISK_BLOCK_BYTES);
  if (memory == NULL) {
    complain (NULL, "out of memory");
    return STATUS_NO;
  }
  for (unsigned i = 0; i < nr; i++)
    d.node[i] = (struct disk_node *) (memory + i * DISK_BLOCK_BYTES);
  status = volumes_open (inv, true, 0, &d.vs);
  if (status == 0)
    status = find_volumes (&d);
  if (status == 0)
    status = dump_asked (&d, inv, number);
  volumes_close (&d.vs);
  free (memory);
  return status == 0 && d.bad ? STATUS_NO : status;
}

const struct command command_dump = {
  .name = "dump",
  .args = "VOLUME...",
  .summary = "print what lies on volumes, damaged or not",
  .options = OPT_BIT (OPT_SLOT) | OPT_BIT (OPT_LOG) | OPT_BIT (OPT_TABLE) |
             OPT_BIT (OPT_FREEMAP) | OPT_BIT (OPT_OBJECT) | OPT_BIT (OPT_NODE) |
             OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = ARGS_MAX,
  .offline = true,
  .run = run_dump,
};
