/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage info: what the superblocks of volumes say.  Takes no lock and reads
 * slots only, so it works beside a running server.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "disk-json.h"
#include "item.h"
#include "size.h"
#include "table.h"
#include "volumes.h"

struct look {
  const char *name;
  const struct volume *v;
  bool in_use;
  int err; /* of super_read () */
  struct disk_super best;
  struct disk_super slots[DISK_SUPER_SLOTS]; /* for the table, as read */
  const char *errors[DISK_SUPER_SLOTS];
};

/* A slot as it is, good or not; zeros if it cannot be read. */
static void
read_slots (struct volume *v, struct look *look)
{
  _Alignas(PAGE_BYTES) struct disk_super slot;
  uint64_t nr_blocks = v->size_bytes / DISK_BLOCK_BYTES;

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    uint64_t off = super_slot_block (nr_blocks, i) * DISK_BLOCK_BYTES;

    memset (&slot, 0, sizeof slot);
    if (volume_read (v, off, &slot, sizeof slot) == 0)
      look->slots[i] = slot;
  }
}

static const char *
state_text (const struct look *look)
{
  if (look->in_use)
    return "in use by a server";
  return look->best.state == DISK_CLEAN
             ? "clean"
             : "was not closed: its next start recovers it";
}

/* ---- for programs */

static json_t *
slot_json (const struct look *look, unsigned slot)
{
  uint64_t nr_blocks = look->v->size_bytes / DISK_BLOCK_BYTES;
  json_t *json = json_object ();

  json_object_set_new (json, "slot", item_number (slot));
  json_object_set_new (json, "block",
                       item_number (super_slot_block (nr_blocks, slot)));
  item_judge (json, look->errors[slot]);
  if (look->errors[slot] == NULL) {
    const struct disk_super *p = &look->slots[slot];

    json_object_set_new (json, "sequence", item_number (p->sequence));
    json_object_set_new (json, "epoch", item_number (p->epoch));
  }
  return json;
}

static json_t *
look_json (const struct look *look)
{
  json_t *json = json_object (), *slots = json_array ();

  json_object_set_new (json, "name",
                       item_text (look->name, strlen (look->name)));
  json_object_set_new (json, "kind", json_string (look->v->ops->kind));
  json_object_set_new (json, "size_bytes", item_number (look->v->size_bytes));
  json_object_set_new (json, "in_use", json_boolean (look->in_use));
  json_object_set_new (json, "good", json_boolean (look->err == 0));
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    json_array_append_new (slots, slot_json (look, i));
  json_object_set_new (json, "slots", slots);
  if (look->err == 0) {
    json_t *best = json_object ();

    super_json (best, &look->best);
    json_object_set_new (json, "best", best);
  }
  return json;
}

/* ---- for people */

static void
print_slots (const struct look *look)
{
  static const char *const heads[] = { ">SLOT",  ">BLOCK", ">SEQUENCE",
                                       ">EPOCH", "<",      NULL };
  uint64_t nr_blocks = look->v->size_bytes / DISK_BLOCK_BYTES;
  struct table *t = table_new (heads);

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    const struct disk_super *p = &look->slots[i];
    bool good = look->errors[i] == NULL;
    bool best = good && look->err == 0 && p->sequence == look->best.sequence;

    table_cell (t, "%u", i);
    table_cell (t, "%" PRIu64, super_slot_block (nr_blocks, i));
    table_cell (t, "%" PRIu64, good ? p->sequence : 0);
    table_cell (t, "%" PRIu64, good ? p->epoch : 0);
    table_cell (t, "%s", !good ? look->errors[i] : best ? "counts" : "good");
  }
  table_print (t, 2);
}

static void
print_members (const struct disk_super *root)
{
  static const char *const heads[] = { ">VOLUME",   ">SIZE", ">LOG",
                                       ">FREE MAP", ">REST", NULL };
  struct table *t = table_new (heads);
  char text[HUMAN_BYTES];

  for (unsigned i = 0; i < root->nr_volumes; i++) {
    const struct disk_member *m = &root->members[i];
    uint64_t rest = m->nr_blocks - DISK_SUPER_SLOTS / 2;
    uint64_t log = i == 0 ? root->ring_blocks : 0;

    rest -= super_first_block (root, i);
    table_cell (t, "%u", i);
    table_cell (t, "%s", size_human (m->nr_blocks * DISK_BLOCK_BYTES, text));
    table_cell (t, "%s", size_human (log * DISK_BLOCK_BYTES, text));
    table_cell (t, "%s",
                size_human (m->freemap_blocks * DISK_BLOCK_BYTES, text));
    table_cell (t, "%s", size_human (rest * DISK_BLOCK_BYTES, text));
  }
  table_print (t, 2);
}

static void
print_retired (const struct disk_super *root)
{
  uint64_t nr = 0;

  for (unsigned i = 0; i < DISK_RETIRED; i++)
    nr += root->retired[i].nr;
  if (nr == 0)
    return;
  printf ("  retired %" PRIu64 " blocks that failed a write:", nr);
  for (unsigned i = 0; i < DISK_RETIRED && root->retired[i].nr != 0; i++) {
    uint64_t first = blkno_place (root->retired[i].blk);

    printf ("%s %u:%" PRIu64, i > 0 ? "," : "",
            blkno_volume (root->retired[i].blk), first);
    if (root->retired[i].nr > 1)
      printf ("-%" PRIu64, first + root->retired[i].nr - 1);
  }
  putchar ('\n');
}

static void
print_root (const struct look *look)
{
  const struct disk_super *p = &look->best;
  char text[HUMAN_BYTES];

  printf ("  state   %s\n", state_text (look));
  printf ("  cycle   %" PRIu64 "\n", p->cycle);
  printf ("  log     %s from block %" PRIu64 "; redo from %" PRIu64
          ", durable to %" PRIu64 "\n",
          size_human (p->ring_blocks * DISK_BLOCK_BYTES, text), p->ring_first,
          p->redo_lsn, p->durable_lsn);
  if (p->table.blk == 0)
    printf ("  disks   none\n");
  else
    printf ("  disks   table at %u:%" PRIu64 ", height %" PRIu32 "\n",
            blkno_volume (p->table.blk), blkno_place (p->table.blk),
            p->table_height);
  print_retired (p);
  putchar ('\n');
  print_members (p);
  putchar ('\n');
}

static void
print_look (const struct look *look)
{
  char text[HUMAN_BYTES], name[1024];

  snprintf (name, sizeof name, "%s", look->name);
  make_printable (name);
  printf ("%s: %s, %" PRIu64 " blocks", name,
          size_human (look->v->size_bytes, text),
          look->v->size_bytes / DISK_BLOCK_BYTES);
  if (look->err == 0) {
    printf (", volume %" PRIu32 " of %" PRIu32 "%s\n  store   ",
            look->best.volume, look->best.nr_volumes,
            look->best.volume == 0 ? " (root)" : "");
    for (unsigned i = 0; i < sizeof look->best.uuid; i++)
      printf ("%02x", look->best.uuid[i]);
    printf (", epoch %" PRIu64 "\n", look->best.epoch);
  } else
    printf (": no good superblock\n");
  if (look->err == 0 && look->best.volume == 0 && look->best.incompat == 0)
    print_root (look);
  print_slots (look);
}

/* ---- */

static int
look_at (struct volumes *vs, unsigned i, struct look *look)
{
  struct volume *v = vs->v[i];

  memset (look, 0, sizeof *look);
  look->name = v->name;
  look->v = v;
  look->in_use = vs->in_use[i];
  look->err = volumes_super (v, &look->best, look->errors);
  read_slots (v, look);
  if (look->err == 0)
    return 0;
  if (look->err == ENOENT)
    complain (v->name,
              "not a farpage volume (run 'farpage format' to make it one)");
  else
    complain (v->name, "no superblock is good (run 'farpage check')");
  return STATUS_NO;
}

static int
run_info (const struct invocation *inv)
{
  json_t *volumes = json_array ();
  struct volumes vs;
  int status;

  volumes_tell ();
  status = volumes_open (inv, true, 0, &vs);
  if (status != 0) {
    json_decref (volumes);
    return status;
  }
  for (unsigned i = 0; i < vs.nr; i++) {
    struct look look;

    if (look_at (&vs, i, &look) != 0)
      status = STATUS_NO;
    if (given (inv, OPT_JSON))
      json_array_append_new (volumes, look_json (&look));
    else if (look.err != ENOENT) {
      printf ("%s", i > 0 ? "\n" : "");
      print_look (&look);
    }
  }
  volumes_close (&vs);
  if (given (inv, OPT_JSON)) {
    volumes = json_pack ("{s:o}", "volumes", volumes);
    json_dumpf (volumes, stdout, JSON_INDENT (2));
    putchar ('\n');
  }
  json_decref (volumes);
  return status;
}

const struct command command_info = {
  .name = "info",
  .args = "VOLUME...",
  .summary = "show what volumes are, also of a running store",
  .options = OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = ARGS_MAX,
  .offline = true,
  .run = run_info,
};
