/* SPDX-License-Identifier: BSD-2-Clause */
/* Making a store on volumes: called by the tool's `farpage format` and by
 * tests; super.c reads and judges what is made here.
 *
 *   root   | slot slot | ring, zeros | free map 0 | ...          | slot slot |
 *   peer   | slot slot | free map i | ...                        | slot slot |
 *
 *   a free map's nodes, one after the other: leaves, the level above, .., root
 *
 * The steps, each durable before the next begins:
 *
 *   1  zeros over the root's slots but the newest; over that one: the old
 *      store is as it was, or there is none
 *   2  zeros over the first and last MiB of every volume: slots, labels, what
 *      others may have left; ring; free maps
 *   3  all slots of the peers, with sequences 1 to 4
 *   4  those of the root: there is a store as soon as one of them is whole
 *
 * I1. At any time there is the old store, none, or a good new one.
 * I2. The log area is really written: blocks of a file that were allocated and
 *     not written cost twice at the first commit that gets there.
 *
 * No locks: the volumes are the caller's alone.  Whether what lies on them may
 * be overwritten has been asked before.
 */

#include <config.h>

#include "super.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "env.h"
#include "super-impl.h"

#define MIB          (UINT64_C (1) << 20)
#define WRITE_BLOCKS ((uint32_t) (MIB / DISK_BLOCK_BYTES))

#define RING_SHIFT_DEFAULT 8 /* 1/256 of the root volume */
#define RING_BYTES_LOW     (32 * MIB)
#define RING_BYTES_HIGH    (1024 * MIB)

struct format {
  const struct super_format *config;
  struct disk_super root; /* before its slots are written: sequence 0 */
  uint64_t peers_nodes;   /* of the free maps of all volumes but the root */
  uint64_t done_bytes, all_bytes;
  /* Blocks gathered for one write. */
  uint8_t *buf; /* WRITE_BLOCKS */
  struct volume *volume;
  uint64_t first;
  uint32_t nr;
};

/* ---- writing in pieces of 1 MiB ---- */

static int
out_flush (struct format *f)
{
  uint64_t off = f->first * DISK_BLOCK_BYTES;
  size_t bytes = (size_t) f->nr * DISK_BLOCK_BYTES;
  int err;

  if (bytes == 0)
    return 0;
  err = volume_write (f->volume, off, f->buf, bytes);
  f->first += f->nr;
  f->nr = 0;
  f->done_bytes += bytes;
  if (err == 0 && f->config->progress != NULL)
    f->config->progress (f->config->arg, f->done_bytes, f->all_bytes);
  return err;
}

static void
out_begin (struct format *f, unsigned volume, uint64_t first)
{
  f->volume = f->config->volumes[volume];
  f->first = first;
  f->nr = 0;
}

/* The next block, all zero, for the caller to fill before the next call. */
static int
out_block (struct format *f, void **blockp)
{
  int err = f->nr == WRITE_BLOCKS ? out_flush (f) : 0;

  if (err != 0)
    return err;
  *blockp = f->buf + (size_t) f->nr++ * DISK_BLOCK_BYTES;
  memset (*blockp, 0, DISK_BLOCK_BYTES);
  return 0;
}

static int
write_zeros (struct format *f, unsigned volume, uint64_t first, uint64_t nr)
{
  void *block;
  int err = 0;

  out_begin (f, volume, first);
  while (nr-- > 0 && err == 0)
    err = out_block (f, &block);
  return err != 0 ? err : out_flush (f);
}

/* ---- what will be where ---- */

static uint64_t
blocks_of (const struct format *f, unsigned volume)
{
  return super_volume_blocks (f->config->volumes[volume]);
}

/* At either end. */
static uint64_t
wipe_blocks (uint64_t nr_blocks)
{
  return min_u64 (nr_blocks, WRITE_BLOCKS);
}

/* The smallest ring for free maps of so many nodes. */
static uint64_t
ring_need (uint64_t nr_nodes)
{
  return max_u64 (SUPER_RING_BLOCKS_MIN, SUPER_RING_FREEMAP * nr_nodes);
}

/* The ring's blocks; 0: the configuration's is too small, told.  What is not
 * given is never too small: more than half of the root if it must.
 */
static uint64_t
plan_ring (const struct format *f, uint64_t nr_nodes)
{
  const struct volume *v = f->config->volumes[0];
  uint64_t need = ring_need (nr_nodes), bytes = f->config->ring_bytes;

  if (bytes == 0) {
    bytes =
        min_u64 (max_u64 (v->size_bytes >> RING_SHIFT_DEFAULT, RING_BYTES_LOW),
                 min_u64 (RING_BYTES_HIGH, v->size_bytes / 2));
    return max_u64 (bytes / DISK_BLOCK_BYTES, need);
  }
  if (bytes / DISK_BLOCK_BYTES >= need)
    return bytes / DISK_BLOCK_BYTES;
  log_write (LOG_ERROR,
             "%s: a ring of %" PRIu64 " bytes is too small for volumes of this "
             "size (at least %" PRIu64 ": make the ring larger)",
             v->name, bytes, need * DISK_BLOCK_BYTES);
  return 0;
}

/* Format puts so many blocks on a volume of nr_blocks: those that it has then
 * to have.
 */
static uint64_t
size_need (const struct format *f, unsigned volume, uint64_t nr_blocks)
{
  uint64_t ring = f->config->ring_bytes / DISK_BLOCK_BYTES, nr;
  uint64_t rest = 2 * SUPER_FIRST + SUPER_REST_BLOCKS_MIN;
  uint32_t height;

  super_freemap_size (nr_blocks, &nr, &height);
  if (volume > 0)
    return rest + nr;
  return rest + nr + max_u64 (ring, ring_need (f->peers_nodes + nr));
}

/* The least that is enough; a larger volume has a larger free map, too. */
static uint64_t
size_least (const struct format *f, unsigned volume)
{
  uint64_t nr = 0, need = size_need (f, volume, 0);

  while (nr < need) {
    nr = need;
    need = size_need (f, volume, nr);
  }
  return nr;
}

/* What else than a larger volume may help, or why it must be so large. */
static void
tell_few (const struct format *f, unsigned volume, uint64_t need)
{
  const struct volume *v = f->config->volumes[volume];
  uint64_t ring = f->config->ring_bytes / DISK_BLOCK_BYTES;
  uint64_t nr_nodes = f->peers_nodes + f->root.members[0].freemap_blocks;
  uint64_t other = blocks_of (f, volume);
  char more[128] = "";

  other -= min_u64 (other, 2 * SUPER_FIRST + SUPER_REST_BLOCKS_MIN +
                               f->root.members[0].freemap_blocks);
  if (volume == 0 && ring > other && other >= ring_need (nr_nodes))
    snprintf (more, sizeof more, ", or a ring of at most %" PRIu64,
              other * DISK_BLOCK_BYTES);
  else if (volume == 0 && ring_need (nr_nodes) > SUPER_RING_BLOCKS_MIN)
    snprintf (more, sizeof more, ", for the log of volumes as large as these");
  log_write (LOG_ERROR,
             "%s: has %" PRIu64 " bytes, which are too few (at least %" PRIu64
             "%s)",
             v->name, v->size_bytes, need * DISK_BLOCK_BYTES, more);
}

/* Is there room for all that format puts on a volume, and some more? */
static int
size_error (const struct format *f, unsigned volume)
{
  const struct volume *v = f->config->volumes[volume];
  uint64_t need = size_least (f, volume);

  if (blocks_of (f, volume) > BLKNO_PLACE_MAX + 1) {
    log_write (LOG_ERROR, "%s: is too large (at most %" PRIu64 " bytes)",
               v->name, (BLKNO_PLACE_MAX + 1) * DISK_BLOCK_BYTES);
    return EINVAL;
  }
  if (volume == 0 && need > BLKNO_PLACE_MAX + 1) {
    log_write (LOG_ERROR,
               "%s: a ring of %" PRIu64 " bytes is larger than any volume "
               "(make it smaller)",
               v->name, f->config->ring_bytes);
    return EINVAL;
  }
  if (blocks_of (f, volume) >= need)
    return 0;
  tell_few (f, volume, need);
  return EINVAL;
}

static void
plan_root (struct format *f)
{
  struct disk_super *p = &f->root;

  memcpy (p->magic, DISK_SUPER_MAGIC, sizeof p->magic);
  p->version = DISK_SUPER_VERSION;
  env_random (p->uuid, sizeof p->uuid);
  p->nr_volumes = f->config->nr_volumes;
  p->nr_blocks = blocks_of (f, 0);
  p->epoch = 1;
  p->state = DISK_CLEAN;
  p->entry_bytes = SUPER_ENTRY_BYTES;
  p->cycle = 1;
  p->redo_lsn = p->next_lsn = p->durable_lsn = 1;
  p->next_object = DISK_TREE_FIRST;
}

static int
plan (struct format *f)
{
  struct disk_super *p = &f->root;
  uint64_t nr_nodes = 0;

  plan_root (f);
  for (unsigned i = 0; i < p->nr_volumes; i++) {
    struct disk_member *m = &p->members[i];

    m->nr_blocks = blocks_of (f, i);
    super_freemap_size (m->nr_blocks, &m->freemap_blocks, &m->freemap_height);
    nr_nodes += m->freemap_blocks;
    f->peers_nodes += i > 0 ? m->freemap_blocks : 0;
    f->all_bytes += 2 * wipe_blocks (m->nr_blocks) * DISK_BLOCK_BYTES;
  }
  p->ring_first = SUPER_FIRST;
  p->ring_blocks = plan_ring (f, nr_nodes);
  if (p->ring_blocks == 0)
    return EINVAL;
  for (unsigned i = 0; i < p->nr_volumes; i++) {
    struct disk_member *m = &p->members[i];
    uint64_t last;
    int err;

    err = size_error (f, i);
    if (err != 0)
      return err;
    m->freemap_first = SUPER_FIRST + (i == 0 ? p->ring_blocks : 0);
    last = m->freemap_first + m->freemap_blocks - 1;
    m->freemap =
        (struct disk_pointer){ .blk = blkno_make (i, last), .cycle = p->cycle };
  }
  f->all_bytes += (p->ring_blocks + nr_nodes) * DISK_BLOCK_BYTES;
  return 0;
}

/* ---- the free map ---- */

/* A volume's tree as it will lie: levels[0] are the leaves. */
struct level {
  uint64_t first, nr;
};

static void
node_begin (const struct format *f, struct disk_node *node, unsigned volume,
            unsigned level, uint64_t index)
{
  node->magic = DISK_NODE_MAGIC;
  node->version = 1;
  node->type = level == 0 ? DISK_NODE_FREEMAP : DISK_NODE_INNER;
  node->level = (uint8_t) level;
  node->cycle = f->root.cycle;
  node->tree = DISK_TREE_FREEMAP + volume;
  node->index = index;
  memcpy (node->uuid, f->root.uuid, sizeof node->uuid);
}

/* Set the bits of those blocks of [from, to) that the leaf has. */
static void
leaf_set (struct disk_node *leaf, uint64_t from, uint64_t to)
{
  uint64_t base = leaf->index * DISK_FREEMAP_BITS;

  from = max_u64 (from, base);
  to = min_u64 (to, base + DISK_FREEMAP_BITS);
  for (uint64_t i = from; i < to; i++)
    leaf->body[(i - base) / 8] |= (uint8_t) (1u << ((i - base) % 8));
  leaf->nr_used += to > from ? (uint32_t) (to - from) : 0;
}

static void
leaf_fill (const struct format *f, struct disk_node *leaf, unsigned volume)
{
  uint64_t nr_blocks = f->root.members[volume].nr_blocks;

  leaf_set (leaf, 0, super_first_block (&f->root, volume));
  leaf_set (leaf, nr_blocks - SUPER_FIRST, UINT64_MAX);
}

static void
inner_fill (const struct format *f, struct disk_node *node, unsigned volume,
            const struct level *below)
{
  struct disk_pointer *child = ((struct disk_inner *) node->body)->child;
  uint64_t base = node->index * DISK_FANOUT;

  for (uint64_t i = base; i < base + DISK_FANOUT && i < below->nr; i++) {
    child[i - base].blk = blkno_make (volume, below->first + i);
    child[i - base].cycle = f->root.cycle;
    node->nr_used++;
  }
}

static int
write_level (struct format *f, unsigned volume, const struct level *levels,
             unsigned level)
{
  for (uint64_t i = 0; i < levels[level].nr; i++) {
    struct disk_node *node;
    int err = out_block (f, (void **) &node);

    if (err != 0)
      return err;
    node_begin (f, node, volume, level, i);
    node->blk = blkno_make (volume, levels[level].first + i);
    if (level == 0)
      leaf_fill (f, node, volume);
    else
      inner_fill (f, node, volume, &levels[level - 1]);
    node->crc = crc32c (0, node, DISK_CRC_OFF);
  }
  return 0;
}

static int
write_freemap (struct format *f, unsigned volume)
{
  const struct disk_member *m = &f->root.members[volume];
  struct level levels[SUPER_HEIGHT_MAX + 1];
  uint64_t first = m->freemap_first, nr;
  int err = 0;

  nr = (m->nr_blocks + DISK_FREEMAP_BITS - 1) / DISK_FREEMAP_BITS;
  out_begin (f, volume, first);
  for (unsigned l = 0; l <= m->freemap_height && err == 0; l++) {
    levels[l] = (struct level){ .first = first, .nr = nr };
    err = write_level (f, volume, levels, l);
    first += nr;
    nr = (nr + DISK_FANOUT - 1) / DISK_FANOUT;
  }
  return err != 0 ? err : out_flush (f);
}

/* ---- the steps ---- */

static int
flush_from (const struct format *f, unsigned from)
{
  int err = 0;

  for (unsigned i = from; i < f->config->nr_volumes && err == 0; i++)
    err = volume_flush (f->config->volumes[i]);
  return err;
}

static int
wipe_slot (struct format *f, unsigned slot)
{
  return write_zeros (f, 0, super_slot_block (blocks_of (f, 0), slot), 1);
}

/* Step 1.  An old store's newest slot goes alone, when the others have gone:
 * else an older one might come to serve, with peers that are newer.
 */
static int
wipe_root_slots (struct format *f)
{
  struct volume *v = f->config->volumes[0];
  struct disk_super old;
  unsigned newest = 0;
  int err = 0;

  if (super_read (v, &old, NULL) == 0)
    newest = old.slot;
  for (unsigned i = 1; i < DISK_SUPER_SLOTS && err == 0; i++)
    err = wipe_slot (f, (newest + i) % DISK_SUPER_SLOTS);
  if (err == 0)
    err = volume_flush (v);
  if (err == 0)
    err = wipe_slot (f, newest);
  return err != 0 ? err : volume_flush (v);
}

/* Step 2. */
static int
write_areas (struct format *f, unsigned volume)
{
  uint64_t nr_blocks = blocks_of (f, volume);
  uint64_t nr = wipe_blocks (nr_blocks);
  int err = write_zeros (f, volume, 0, nr);

  if (err == 0)
    err = write_zeros (f, volume, nr_blocks - nr, nr);
  if (err == 0 && volume == 0)
    err = write_zeros (f, 0, f->root.ring_first, f->root.ring_blocks);
  if (err == 0)
    err = write_freemap (f, volume);
  return err;
}

/* Steps 3 and 4: one volume's slots. */
static int
write_slots (struct format *f, unsigned volume)
{
  struct disk_super super = f->root;
  const size_t state = offsetof (struct disk_super, state);
  int err = 0;

  if (volume > 0) {
    super.volume = volume;
    super.nr_blocks = f->root.members[volume].nr_blocks;
    memset ((char *) &super + state, 0, sizeof super - state);
  }
  for (unsigned i = 0; i < DISK_SUPER_SLOTS && err == 0; i++)
    err = super_put (f->config->volumes[volume], &super, f->buf);
  return err;
}

static int
run (struct format *f)
{
  int err = wipe_root_slots (f);

  f->done_bytes = 0;
  for (unsigned i = 0; i < f->root.nr_volumes && err == 0; i++)
    err = write_areas (f, i);
  if (err == 0)
    err = flush_from (f, 0);
  for (unsigned i = 1; i < f->root.nr_volumes && err == 0; i++)
    err = write_slots (f, i);
  if (err == 0)
    err = flush_from (f, 1);
  if (err == 0)
    err = write_slots (f, 0);
  return err != 0 ? err : volume_flush (f->config->volumes[0]);
}

int
super_format (const struct super_format *config, uint8_t uuid[DISK_UUID_BYTES])
{
  struct format f = { .config = config };
  int err;

  if (config->nr_volumes == 0 || config->nr_volumes > DISK_VOLUMES) {
    log_write (LOG_ERROR, "a store has 1 to %u volumes", DISK_VOLUMES);
    return EINVAL;
  }
  err = plan (&f);
  if (err != 0)
    return err;
  f.buf = aligned_alloc (PAGE_BYTES, WRITE_BLOCKS * DISK_BLOCK_BYTES);
  if (f.buf == NULL)
    return ENOMEM;
  err = run (&f);
  free (f.buf);
  if (err == 0)
    memcpy (uuid, f.root.uuid, DISK_UUID_BYTES);
  return err;
}
