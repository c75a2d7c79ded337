/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage format: makes a durable store on volumes.
 *
 * Nothing is overwritten before all volumes are open, locked, looked at and
 * have their space; files that it made itself go away when it fails.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "env.h"
#include "item.h"
#include "progress.h"
#include "size.h"
#include "table.h"
#include "volumes.h"

struct format {
  const struct invocation *inv;
  uint64_t size_bytes, ring_bytes; /* as given, or 0 */
  bool made[ARGS_MAX];             /* files that are there because of us */
  struct volumes vs;
  uint64_t begin_ns; /* of what progress tells */
};

/* ---- what is given */

static int
take_size (const struct invocation *inv, enum option_id id, uint64_t *bytes)
{
  const char *text = inv->value[id];

  if (text == NULL)
    return 0;
  if (size_parse (text, bytes) == 0 && *bytes > 0)
    return 0;
  return complain_usage (inv->command,
                         "--%s: '%s' is no size: give bytes, or a number with "
                         "one of K M G T P E",
                         options[id].name, text);
}

/* Memory is no medium. */
static int
check_names (const struct invocation *inv)
{
  for (unsigned i = 0; i < inv->nr_args; i++)
    if (strncmp (inv->args[i], "mem:", 4) == 0) {
      complain (inv->args[i],
                "a store in memory needs no format (give it to nbdkit as it "
                "is)");
      return STATUS_NO;
    }
  return 0;
}

/* ---- files */

static void
unmake (const struct format *f)
{
  for (unsigned i = 0; i < f->inv->nr_args; i++)
    if (f->made[i])
      unlink (f->inv->args[i]);
}

/* With --size, those that are not there. */
static int
make_files (struct format *f)
{
  for (unsigned i = 0; i < f->inv->nr_args; i++) {
    const char *path = f->inv->args[i];
    struct stat st;

    if (lstat (path, &st) == 0 || errno != ENOENT)
      continue;
    if (f->size_bytes == 0) {
      complain (path, "there is no such file (give --size to have it made)");
      return STATUS_NO;
    }
    if (volume_create_file (path, f->size_bytes, given (f->inv, OPT_SPARSE)) !=
        0)
      return STATUS_NO;
    f->made[i] = true;
  }
  return 0;
}

/* What is there must be free to take, as large as was said, and have room. */
static int
check_volumes (struct format *f)
{
  uint64_t want = f->size_bytes & ~(uint64_t) PAGE_MASK;
  char is[HUMAN_BYTES];

  for (unsigned i = 0; i < f->vs.nr; i++) {
    struct volume *v = f->vs.v[i];

    if (want != 0 && v->size_bytes != want) {
      complain (v->name,
                "is there already, and has %s (%" PRIu64 " bytes): leave "
                "--size out, or name another",
                size_human (v->size_bytes, is), v->size_bytes);
      return STATUS_NO;
    }
    if (!f->made[i] && volume_format_check (v, given (f->inv, OPT_FORCE)) != 0)
      return STATUS_NO;
  }
  for (unsigned i = 0; i < f->vs.nr; i++)
    if (!f->made[i] && !given (f->inv, OPT_SPARSE) &&
        volume_allocate (f->vs.v[i]) != 0)
      return STATUS_NO;
  return 0;
}

static void
show_progress (void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
  const struct format *f = arg;
  char done[HUMAN_BYTES], all[HUMAN_BYTES], left[HUMAN_BYTES];
  double seconds = (double) (env_now_ns () - f->begin_ns) / (double) NS_PER_S;

  if (!progress_due ())
    return;
  seconds *= (double) (all_bytes - done_bytes) / (double) (done_bytes + 1);
  progress_show ("%s of %s written, %s left", size_human (done_bytes, done),
                 size_human (all_bytes, all), time_human (seconds, left));
}

/* ---- what was made */

static uint64_t
rest_blocks (const struct disk_super *root, unsigned volume)
{
  return root->members[volume].nr_blocks - DISK_SUPER_SLOTS / 2 -
         super_first_block (root, volume);
}

static void
print_made_json (const struct format *f, const struct disk_super *root)
{
  json_t *made = json_object (), *volumes = json_array ();

  json_object_set_new (made, "uuid", item_hex (root->uuid, sizeof root->uuid));
  json_object_set_new (made, "ring_bytes",
                       item_number (root->ring_blocks * DISK_BLOCK_BYTES));
  for (unsigned i = 0; i < f->vs.nr; i++) {
    const struct disk_member *m = &root->members[i];
    json_t *v = json_object ();

    json_object_set_new (v, "volume", item_number (i));
    json_object_set_new (v, "name",
                         item_text (f->inv->args[i], strlen (f->inv->args[i])));
    json_object_set_new (v, "size_bytes",
                         item_number (m->nr_blocks * DISK_BLOCK_BYTES));
    json_object_set_new (v, "freemap_bytes",
                         item_number (m->freemap_blocks * DISK_BLOCK_BYTES));
    json_object_set_new (
        v, "rest_bytes",
        item_number (rest_blocks (root, i) * DISK_BLOCK_BYTES));
    json_array_append_new (volumes, v);
  }
  json_object_set_new (made, "volumes", volumes);
  json_dumpf (made, stdout, JSON_INDENT (2));
  putchar ('\n');
  json_decref (made);
}

static void
size_cell (struct table *t, uint64_t nr_blocks)
{
  char text[HUMAN_BYTES];

  table_cell (t, "%s", size_human (nr_blocks * DISK_BLOCK_BYTES, text));
}

static void
print_made (const struct format *f, const struct disk_super *root)
{
  static const char *const heads[] = { ">#",        "/VOLUME", ">SIZE", ">LOG",
                                       ">FREE MAP", ">REST",   NULL };
  struct table *t = table_new (heads);

  printf ("Store ");
  for (unsigned i = 0; i < sizeof root->uuid; i++)
    printf ("%02x", root->uuid[i]);
  printf ("\n\n");
  for (unsigned i = 0; i < f->vs.nr; i++) {
    const struct disk_member *m = &root->members[i];

    table_cell (t, "%u", i);
    table_cell (t, "%s", f->inv->args[i]);
    size_cell (t, m->nr_blocks);
    if (i == 0)
      size_cell (t, root->ring_blocks);
    else
      table_cell (t, "-");
    size_cell (t, m->freemap_blocks);
    size_cell (t, rest_blocks (root, i));
  }
  table_print (t, 0);
}

/* ---- */

static int
format_volumes (struct format *f)
{
  struct super_format config = { .volumes = f->vs.v,
                                 .nr_volumes = f->vs.nr,
                                 .ring_bytes = f->ring_bytes,
                                 .progress = show_progress,
                                 .arg = f };
  uint8_t uuid[DISK_UUID_BYTES];
  struct disk_super root;
  int err;

  f->begin_ns = env_now_ns ();
  progress_begin ("format", 0);
  err = super_format (&config, uuid);
  progress_wipe ();
  if (err == 0)
    err = super_read (f->vs.v[0], &root, NULL);
  if (err != 0) {
    if (err != EINVAL) /* which was told with its reason */
      complain (f->inv->args[0], "no store was made: %s (check the medium)",
                strerror (err));
    return STATUS_NO;
  }
  if (given (f->inv, OPT_JSON))
    print_made_json (f, &root);
  else
    print_made (f, &root);
  return 0;
}

static int
run_format (const struct invocation *inv)
{
  struct format f = { .inv = inv };
  int status = take_size (inv, OPT_SIZE, &f.size_bytes);

  if (status == 0)
    status = take_size (inv, OPT_RING, &f.ring_bytes);
  if (status != 0)
    return status;
  volumes_tell ();
  status = check_names (inv);
  if (status == 0)
    status = make_files (&f);
  if (status == 0)
    status = volumes_open (inv, false, 0, &f.vs);
  if (status == 0)
    status = check_volumes (&f);
  if (status == 0)
    status = format_volumes (&f);
  volumes_close (&f.vs);
  if (status != 0)
    unmake (&f);
  return status;
}

const struct command command_format = {
  .name = "format",
  .args = "VOLUME...",
  .summary = "make a store that survives on volumes",
  .options = OPT_BIT (OPT_SIZE) | OPT_BIT (OPT_RING) | OPT_BIT (OPT_SPARSE) |
             OPT_BIT (OPT_FORCE) | OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = ARGS_MAX,
  .offline = true,
  .run = run_format,
};
