/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage dump --log: the ring's blocks in the order of their lsns.
 *
 * Two passes over the ring, in pieces: the first finds what each place holds
 * (16 bytes of memory a block), the second prints.  Good blocks are printed
 * whatever turn of the ring they are of; bad ones first; places that are all
 * zero were never written and are only counted.
 */

#include <config.h>

#include "dump.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "disk-json.h"
#include "flush.h"
#include "ring.h"

struct place {
  uint64_t lsn, at;
};

struct rows {
  struct dump *d;
  struct ring ring;
  struct place *places; /* of good blocks */
  uint64_t nr_good, nr_bad, nr_empty;
};

/* The block at a place of the ring, NULL if it cannot be read. */
static const struct disk_log *
block_at (struct rows *r, uint64_t at)
{
  return ring_block (&r->ring, at, 0, r->ring.ring_blocks, false);
}

static bool
is_empty (const struct disk_log *log)
{
  const char *p = (const char *) log;

  return p[0] == 0 && memcmp (p, p + 1, sizeof *log - 1) == 0;
}

static void
bad_block (struct rows *r, uint64_t at, const struct disk_log *log,
           const char *why)
{
  json_t *item = item_new ("log", "place %" PRIu64, at);

  r->nr_bad++;
  if (log != NULL && log->magic == DISK_LOG_MAGIC)
    log_json (item, log);
  dump_item (r->d, item, why);
}

static void
find_blocks (struct rows *r)
{
  const struct disk_super *root = &r->d->root;

  for (uint64_t at = 0; at < root->ring_blocks; at++) {
    const struct disk_log *log = block_at (r, at);
    const char *why = log == NULL ? "it cannot be read" : NULL;

    if (log != NULL && is_empty (log)) {
      r->nr_empty++;
      continue;
    }
    if (log != NULL)
      why = undo_error (log, root->uuid);
    if (why == NULL && log->lsn % root->ring_blocks != at)
      why = "belongs into another place of the ring";
    if (why != NULL)
      bad_block (r, at, log, why);
    else
      r->places[r->nr_good++] = (struct place){ .lsn = log->lsn, .at = at };
  }
}

static int
by_lsn (const void *a, const void *b)
{
  uint64_t la = ((const struct place *) a)->lsn;
  uint64_t lb = ((const struct place *) b)->lsn;

  return la < lb ? -1 : la > lb;
}

static void
print_blocks (struct rows *r)
{
  for (uint64_t i = 0; i < r->nr_good; i++) {
    const struct place *p = &r->places[i];
    const struct disk_log *log = block_at (r, p->at);
    json_t *item = item_new ("log", "%" PRIu64, p->lsn);

    if (log != NULL)
      log_json (item, log);
    dump_item (r->d, item,
               log == NULL          ? "it cannot be read any more"
               : log->lsn != p->lsn ? "was written over meanwhile"
                                    : NULL);
  }
}

void
dump_log (struct dump *d)
{
  const struct disk_super *root = &d->root;
  struct rows r = { .d = d };
  json_t *item;

  r.places = calloc (root->ring_blocks, sizeof *r.places);
  if (ring_open (&r.ring, d->by[0], root, RING_RUN_MAX) != 0 ||
      r.places == NULL) {
    complain (NULL, "out of memory");
    d->bad = true;
  } else {
    find_blocks (&r);
    qsort (r.places, r.nr_good, sizeof *r.places, by_lsn);
    print_blocks (&r);
    item = item_new ("ring", "of %s", d->by[0]->name);
    json_object_set_new (item, "nr_good", item_number (r.nr_good));
    json_object_set_new (item, "nr_bad", item_number (r.nr_bad));
    json_object_set_new (item, "nr_empty", item_number (r.nr_empty));
    json_object_set_new (item, "redo_lsn", item_number (root->redo_lsn));
    json_object_set_new (item, "durable_lsn", item_number (root->durable_lsn));
    item_print (item, d->as_json);
  }
  ring_close (&r.ring);
  free (r.places);
}
