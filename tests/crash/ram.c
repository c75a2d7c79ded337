/* SPDX-License-Identifier: BSD-2-Clause */
/* Staging in memory; see ram.h.  The store under test has it by staging_set ();
 * run.c saves and restores it.
 *
 *   create --> a file without a name --publish--> the directory's one file
 *                                                  |           ^
 *                                            ram_save    ram_restore
 *                                                  v           |
 *                                         ram_copy: tagged buffers alone
 *
 * A buffer without a tag means nothing to the next process, so a copy leaves
 * it out, and a restored file has there what another left.
 */

#include <config.h>

#include "ram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "media.h"
#include "env.h"
#include "rng.h"
#include "staging.h"

struct copied {
  uint64_t what;
  unsigned index;
  struct block *block;
};

struct ram_copy {
  unsigned refs;
  uint64_t id, nr_buffers, epoch, sequence;
  unsigned nr;
  struct copied copied[];
};

struct file {
  struct staging sg;
  uint64_t epoch;    /* as in staging_config */
  uint64_t sequence; /* as staging_named () said */
  bool published;
  bool old; /* opened, not made */
};

static struct {
  struct file *live;     /* the named file, if this process made it */
  struct ram_copy *left; /* the named file, if one before did; or NULL */
  struct ram_copy *last; /* of ram_save (), to share its blocks */
} dir;

static void *
must (void *p)
{
  if (p == NULL)
    abort ();
  return p;
}

/* ---- copies ---- */

struct ram_copy *
ram_ref (struct ram_copy *copy)
{
  if (copy != NULL)
    copy->refs++;
  return copy;
}

void
ram_put (struct ram_copy *copy)
{
  if (copy == NULL || --copy->refs > 0)
    return;
  for (unsigned i = 0; i < copy->nr; i++)
    block_put (copy->copied[i].block);
  free (copy);
}

uint64_t
ram_hash (const struct ram_copy *copy)
{
  uint64_t hash = 0;

  if (copy == NULL)
    return 0;
  for (unsigned i = 0; i < copy->nr; i++) {
    const struct copied *c = &copy->copied[i];

    hash += hash_add (c->what, c->block != NULL ? c->block->hash : 0);
  }
  return hash_add (hash_add (hash, copy->id), copy->sequence);
}

static bool
same_page (const struct block *b, const uint8_t *page)
{
  if (b != NULL)
    return memcmp (b->data, page, PAGE_BYTES) == 0;
  return page[0] == 0 && memcmp (page, page + 1, PAGE_BYTES - 1) == 0;
}

/* The block for a page; the last copy's, if nothing has changed.  *at: where
 * to look there.
 */
static struct block *
share_block (const struct file *f, unsigned index, unsigned *at)
{
  const uint8_t *page = f->sg.memory + (size_t) index * PAGE_BYTES;
  const struct ram_copy *last = dir.last;

  while (last != NULL && *at < last->nr && last->copied[*at].index < index)
    ++*at;
  if (last != NULL && *at < last->nr && last->copied[*at].index == index &&
      same_page (last->copied[*at].block, page)) {
    block_ref (last->copied[*at].block);
    return last->copied[*at].block;
  }
  return block_new (page);
}

static struct ram_copy *
copy_live (const struct file *f)
{
  struct ram_copy *copy;
  unsigned nr = 0, at = 0;

  for (unsigned i = 0; i < f->sg.nr_buffers; i++)
    nr += f->sg.tags[i].what != 0;
  copy = must (malloc (sizeof *copy + nr * sizeof copy->copied[0]));
  *copy = (struct ram_copy){
    .refs = 1,
    .id = f->sg.id,
    .nr_buffers = f->sg.nr_buffers,
    .epoch = f->epoch,
    .sequence = f->sequence,
  };
  for (unsigned i = 0; i < f->sg.nr_buffers; i++)
    if (f->sg.tags[i].what != 0)
      copy->copied[copy->nr++] =
          (struct copied){ f->sg.tags[i].what, i, share_block (f, i, &at) };
  return copy;
}

struct ram_copy *
ram_save (void)
{
  struct ram_copy *copy;

  if (dir.live == NULL)
    return ram_ref (dir.left);
  copy = copy_live (dir.live);
  ram_put (dir.last);
  dir.last = ram_ref (copy);
  return copy;
}

void
ram_restore (struct ram_copy *copy)
{
  ram_ref (copy);
  ram_put (dir.left);
  ram_put (dir.last);
  dir.left = copy;
  dir.last = NULL;
  dir.live = NULL; /* its process is dead */
}

/* ---- what the store sees ---- */

static struct file *
file_of (struct staging *sg)
{
  return (struct file *) ((char *) sg - offsetof (struct file, sg));
}

/* Memory of files that are closed, for the next ones: new pages cost more than
 * the run that uses them.
 */
static struct {
  uint8_t *memory;
  uint64_t nr_buffers;
} spare[2];

static uint8_t *
take_memory (uint64_t nr_buffers)
{
  for (unsigned i = 0; i < 2; i++) {
    uint8_t *memory = spare[i].memory;

    if (memory == NULL || spare[i].nr_buffers != nr_buffers)
      continue;
    spare[i].memory = NULL;
    return memory;
  }
  return must (aligned_alloc (PAGE_BYTES, nr_buffers * PAGE_BYTES));
}

static void
give_memory (uint8_t *memory, uint64_t nr_buffers)
{
  unsigned i = spare[0].memory != NULL;

  free (spare[i].memory);
  spare[i].memory = memory;
  spare[i].nr_buffers = nr_buffers;
}

static int
ram_publish (struct staging *sg)
{
  struct file *f = file_of (sg);

  f->published = true;
  dir.live = f;
  ram_put (dir.left);
  dir.left = NULL;
  return 0;
}

static int
ram_named (struct staging *sg, uint64_t sequence)
{
  file_of (sg)->sequence = sequence;
  return 0;
}

static void
ram_close (struct staging *sg, bool remove)
{
  struct file *f = file_of (sg);

  if (dir.live == f) {
    ram_put (dir.left);
    dir.left = remove ? NULL : copy_live (f);
    dir.live = NULL;
  } else if (f->old && remove) {
    ram_put (dir.left);
    dir.left = NULL;
  }
  give_memory (sg->memory, sg->nr_buffers);
  free (sg->tags);
  free (f);
}

static struct file *
make_file (uint64_t id, uint64_t nr_buffers)
{
  struct file *f = must (calloc (1, sizeof *f));

  f->sg.id = id;
  f->sg.nr_buffers = nr_buffers;
  f->sg.memory = take_memory (nr_buffers);
  f->sg.tags = must (calloc (nr_buffers, sizeof *f->sg.tags));
  f->sg.publish = ram_publish;
  f->sg.named = ram_named;
  f->sg.close = ram_close;
  return f;
}

static int
ram_create (const struct staging_config *config, struct staging **sgp)
{
  struct file *f;
  uint64_t id;

  env_random (&id, sizeof id);
  f = make_file (id | 1, config->nr_buffers);
  f->epoch = config->epoch;
  memset (f->sg.memory, 0, config->nr_buffers * PAGE_BYTES);
  *sgp = &f->sg;
  return 0;
}

static int
ram_open (const char *name, const uint8_t uuid[DISK_UUID_BYTES], uint64_t id,
          struct staging **sgp)
{
  const struct ram_copy *left = dir.left;
  struct file *f;

  (void) name;
  (void) uuid;
  if (left == NULL || left->id != id)
    return ENOENT;
  f = make_file (id, left->nr_buffers);
  f->epoch = left->epoch;
  f->sequence = left->sequence;
  f->old = true;
  for (unsigned i = 0; i < left->nr; i++) {
    const struct copied *c = &left->copied[i];
    uint8_t *page = f->sg.memory + (size_t) c->index * PAGE_BYTES;

    f->sg.tags[c->index].what = c->what;
    if (c->block != NULL)
      memcpy (page, c->block->data, PAGE_BYTES);
    else
      memset (page, 0, PAGE_BYTES);
  }
  *sgp = &f->sg;
  return 0;
}

static int
ram_check_root (const char *name, const uint8_t uuid[DISK_UUID_BYTES],
                uint64_t epoch, uint64_t sequence)
{
  (void) name;
  (void) uuid;
  if (dir.left == NULL)
    return 0;
  return dir.left->epoch > epoch || dir.left->sequence > sequence ? ESTALE : 0;
}

void
ram_begin (void)
{
  static const struct staging_ops ops = { ram_create, ram_open,
                                          ram_check_root };

  staging_set (&ops);
}

void
ram_end (void)
{
  ram_restore (NULL);
  staging_set (NULL);
}
