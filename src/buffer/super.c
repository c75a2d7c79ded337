/* SPDX-License-Identifier: BSD-2-Clause */
/* Superblocks: which slot of a volume counts, and which volumes are a store.
 * super-write.c writes them, super-format.c makes them.
 *
 *   store open --> supers_read --> super_read --> super_error
 *
 *   blocks   0      1      2             n-2    n-1
 *            | slot | slot | ....        | slot | slot |
 *   slot       0      2                    1      3
 *
 * Every number of a slot is checked here, once.  Above, ring_first +
 * ring_blocks, a member's free map, retired blocks, heights, ... are inside
 * their volumes and cannot overflow.
 *
 * It does not judge whether an older slot will do when a newer one is damaged:
 * recovery does (recover-scan.c), by root_errors and the log.  Nor does it look
 * for slots where they lay when a volume had another size.
 */

#include <config.h>

#include "super.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crc32c.h"
#include "super-impl.h"

#define DIRTY_MAX (UINT64_C (1) << 32)

/* Features that this program knows: none so far. */
#define COMPAT_KNOWN    UINT64_C (0)
#define RO_COMPAT_KNOWN UINT64_C (0)
#define INCOMPAT_KNOWN  UINT64_C (0)

const char super_no_magic[] = "there is no superblock";
const char super_other_version[] = "it is of another version";
const char super_other_size[] = "it is of a volume of another size";
const char super_wrong_crc[] = "its CRC is wrong";
const char super_unread[] = "it cannot be read";

unsigned
super_next_slot (const struct disk_super *best)
{
  return (best->sequence + 1) % DISK_SUPER_SLOTS;
}

bool
super_has_unread (const char *const errors[DISK_SUPER_SLOTS])
{
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    if (errors[i] == super_unread)
      return true;
  return false;
}

static bool
all_zero (const void *buf, size_t len)
{
  const uint8_t *p = buf;

  return len == 0 || (p[0] == 0 && memcmp (p, p + 1, len - 1) == 0);
}

/* Are nr blocks from first on in [from, to)? */
static bool
inside (uint64_t first, uint64_t nr, uint64_t from, uint64_t to)
{
  return first >= from && first <= to && nr <= to - first;
}

static bool
sane_count (uint64_t n)
{
  return n > 0 && n < SUPER_COUNT_MAX;
}

uint64_t
super_slot_block (uint64_t nr_blocks, unsigned slot)
{
  return slot % 2 == 0 ? slot / 2 : nr_blocks - 2 + slot / 2;
}

uint64_t
super_first_block (const struct disk_super *root, unsigned volume)
{
  const struct disk_member *m = &root->members[volume];
  uint64_t first = m->freemap_first + m->freemap_blocks;

  if (volume == 0)
    first = max_u64 (first, root->ring_first + root->ring_blocks);
  return first;
}

void
super_freemap_size (uint64_t nr_blocks, uint64_t *nr_nodes, uint32_t *height)
{
  uint64_t nr = nr_blocks / DISK_FREEMAP_BITS;

  nr += nr_blocks % DISK_FREEMAP_BITS != 0;
  *nr_nodes = nr;
  *height = 0;
  while (nr > 1) {
    nr = nr / DISK_FANOUT + (nr % DISK_FANOUT != 0);
    *nr_nodes += nr;
    *height += 1;
  }
}

/* ---- judging a slot ---- */

static const char *
identity_error (const struct disk_super *p, unsigned slot, uint64_t nr_blocks)
{
  if (p->slot != slot)
    return "it belongs into another slot";
  if (p->nr_blocks != nr_blocks)
    return super_other_size;
  if (all_zero (p->uuid, sizeof p->uuid))
    return "its uuid is zero";
  if (p->nr_volumes == 0 || p->nr_volumes > DISK_VOLUMES)
    return "its number of volumes is impossible";
  if (p->volume >= p->nr_volumes)
    return "its volume's number is impossible";
  if (!sane_count (p->sequence) || p->sequence % DISK_SUPER_SLOTS != slot)
    return "its sequence is impossible";
  if (!sane_count (p->epoch))
    return "its epoch is impossible";
  return NULL;
}

static bool
features_unknown (const struct disk_super *p)
{
  return ((p->compat & ~COMPAT_KNOWN) | (p->ro_compat & ~RO_COMPAT_KNOWN) |
          (p->incompat & ~INCOMPAT_KNOWN)) != 0;
}

/* What a feature may have given a meaning. */
static const char *
spare_error (const struct disk_super *p)
{
  if (p->spare0 != 0 || !all_zero (p->spare1, sizeof p->spare1) ||
      !all_zero (p->spare2, sizeof p->spare2))
    return "its spare bytes are not zero";
  for (unsigned i = 0; i < p->nr_volumes; i++)
    if (p->members[i].spare != 0)
      return "its spare bytes are not zero";
  for (unsigned i = 0; i < DISK_RETIRED; i++)
    if (p->retired[i].spare != 0)
      return "its spare bytes are not zero";
  return NULL;
}

static const char *
member_error (const struct disk_super *p, unsigned volume)
{
  const struct disk_member *m = &p->members[volume];
  uint64_t first = m->freemap_first, nr;
  uint32_t height;

  if (m->nr_blocks <= DISK_SUPER_SLOTS || m->nr_blocks > BLKNO_PLACE_MAX + 1 ||
      (volume == 0 && m->nr_blocks != p->nr_blocks))
    return "the size of a volume in it is impossible";
  super_freemap_size (m->nr_blocks, &nr, &height);
  if (m->freemap_blocks != nr || m->freemap_height != height)
    return "a free map in it does not fit its volume's size";
  if (!inside (first, nr, SUPER_FIRST, m->nr_blocks - SUPER_FIRST))
    return "a free map in it is outside its volume";
  if (volume == 0 && first < p->ring_first + p->ring_blocks &&
      p->ring_first < first + nr)
    return "the free map overlaps the ring";
  if (m->freemap.blk != blkno_make (volume, blkno_place (m->freemap.blk)) ||
      !inside (blkno_place (m->freemap.blk), 1, first, first + nr))
    return "the root of a free map in it is outside of that";
  if (m->freemap.cycle == 0 || m->freemap.cycle > p->cycle)
    return "the root of a free map in it is of no cycle before its own";
  return NULL;
}

static const char *
members_error (const struct disk_super *p)
{
  const char *why = NULL;

  for (unsigned i = 0; i < p->nr_volumes && why == NULL; i++)
    why = member_error (p, i);
  if (why == NULL &&
      !all_zero (&p->members[p->nr_volumes],
                 (DISK_VOLUMES - p->nr_volumes) * sizeof p->members[0]))
    why = "it has more members than volumes";
  return why;
}

/* May all of it be META or DATA? */
static bool
rest_has (const struct disk_super *p, uint64_t blk, uint64_t nr)
{
  unsigned volume = blkno_volume (blk);

  return volume < p->nr_volumes &&
         blk == blkno_make (volume, blkno_place (blk)) &&
         inside (blkno_place (blk), nr, super_first_block (p, volume),
                 p->members[volume].nr_blocks - SUPER_FIRST);
}

static const char *
retired_error (const struct disk_super *p)
{
  const struct disk_retired *r = p->retired;
  unsigned nr = 0;

  for (; nr < DISK_RETIRED && r[nr].nr != 0; nr++) {
    if (!rest_has (p, r[nr].blk, r[nr].nr))
      return "retired blocks in it are outside their volume";
    for (unsigned i = 0; i < nr; i++)
      if (r[i].blk < r[nr].blk + r[nr].nr && r[nr].blk < r[i].blk + r[i].nr)
        return "a block in it is retired twice";
  }
  for (; nr < DISK_RETIRED; nr++)
    if (r[nr].blk != 0 || r[nr].nr != 0)
      return "retired blocks in it follow an empty entry";
  return NULL;
}

static const char *
table_error (const struct disk_super *p)
{
  const struct disk_pointer *at = &p->table;

  if (p->table_height > SUPER_HEIGHT_MAX)
    return "the object table's height is impossible";
  if (at->blk == 0 && at->cycle == 0)
    return NULL; /* no object yet */
  if (at->cycle == 0 || at->cycle > p->cycle)
    return "the object table's root is of no cycle before its own";
  if (!rest_has (p, at->blk, 1))
    return "the object table's root is outside its volume";
  return NULL;
}

static const char *
log_error (const struct disk_super *p)
{
  if (p->ring_blocks < SUPER_RING_BLOCKS_MIN ||
      !inside (p->ring_first, p->ring_blocks, SUPER_FIRST,
               p->nr_blocks - SUPER_FIRST))
    return "the ring is outside the volume, or too small";
  if (!sane_count (p->redo_lsn) || !sane_count (p->next_lsn) ||
      !sane_count (p->durable_lsn))
    return "a log sequence number in it is impossible";
  if (p->redo_epoch > p->epoch)
    return "its log is of a later epoch";
  if (p->redo_lsn > p->durable_lsn ||
      p->durable_lsn - p->redo_lsn > p->ring_blocks)
    return "its log is longer than the ring";
  if (p->state == DISK_CLEAN &&
      (p->next_lsn < p->redo_lsn || p->next_lsn - p->redo_lsn > p->ring_blocks))
    return "its log's end is impossible";
  return NULL;
}

static const char *
root_error (const struct disk_super *p)
{
  const char *why;

  if (p->state != DISK_CLEAN && p->state != DISK_IN_USE)
    return "its state is unknown";
  if (p->entry_bytes != SUPER_ENTRY_BYTES)
    return "its map entries have an unknown size";
  if (!sane_count (p->cycle))
    return "its cycle is impossible";
  if (p->next_object < DISK_TREE_FIRST || !sane_count (p->next_object))
    return "its next object's id is impossible";
  if (p->dirty_max >= DIRTY_MAX)
    return "its bound of dirty nodes is impossible";
  why = log_error (p);
  if (why == NULL)
    why = members_error (p);
  if (why == NULL)
    why = table_error (p);
  if (why == NULL)
    why = retired_error (p);
  return why;
}

const char *
super_error (const struct disk_super *p, unsigned slot, uint64_t nr_blocks)
{
  const size_t state = offsetof (struct disk_super, state);
  const char *why;

  if (memcmp (p->magic, DISK_SUPER_MAGIC, sizeof p->magic) != 0)
    return super_no_magic;
  if (p->crc != crc32c (0, p, DISK_CRC_OFF))
    return super_wrong_crc;
  if (p->version != DISK_SUPER_VERSION)
    return super_other_version;
  why = identity_error (p, slot, nr_blocks);
  if (why != NULL || (p->incompat & ~INCOMPAT_KNOWN) != 0)
    return why;
  if (p->volume == 0)
    why = root_error (p);
  if (why == NULL && !features_unknown (p)) {
    if (p->volume == 0)
      why = spare_error (p);
    else if (!all_zero ((const char *) p + state, DISK_CRC_OFF - state))
      why = "it is not the root's and has more than its own";
  }
  return why;
}

/* ---- reading one volume ---- */

static const char *
read_slot (struct volume *v, unsigned slot, struct disk_super *to)
{
  uint64_t nr_blocks = super_volume_blocks (v);
  uint64_t off = super_slot_block (nr_blocks, slot) * DISK_BLOCK_BYTES;

  if (volume_read (v, off, to, DISK_BLOCK_BYTES) != 0)
    return super_unread;
  return super_error (to, slot, nr_blocks);
}

int
super_read (struct volume *v, struct disk_super *best,
            const char *errors[DISK_SUPER_SLOTS])
{
  _Alignas(PAGE_BYTES) struct disk_super slot;
  struct disk_super found = { .sequence = 0 };
  unsigned nr_none = 0, nr_size = 0;
  bool other = false;

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    const char *why = read_slot (v, i, &slot);

    if (why == NULL && slot.sequence > found.sequence)
      found = slot;
    nr_none += why == super_no_magic;
    nr_size += why == super_other_size;
    other |= why == super_other_version;
    if (errors != NULL)
      errors[i] = why;
  }
  if (other || (nr_size > 0 && found.sequence == 0))
    return EINVAL;
  if (found.sequence == 0)
    return nr_none == DISK_SUPER_SLOTS ? ENOENT : EIO;
  *best = found;
  return 0;
}

/* ---- reading a store ---- */

static int
tell_unread (const struct volume *v, int err,
             const char *const errors[DISK_SUPER_SLOTS])
{
  const char *name = v->name;
  const char *worst = NULL;
  bool other = false;

  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++) {
    other |= errors[i] == super_other_version;
    if (worst == NULL && errors[i] != super_no_magic)
      worst = errors[i];
  }
  if (err == ENOENT)
    log_write (LOG_ERROR,
               "%s: not a farpage volume (run 'farpage format %s' to make it "
               "one)",
               name, name);
  else if (err == EINVAL && other)
    log_write (LOG_ERROR,
               "%s: was made by another version of farpage (use that one)",
               name);
  else if (err == EINVAL)
    log_write (LOG_ERROR,
               "%s: its size has changed since it was formatted (give it the "
               "old size again: 'farpage dump --slot %s' tells it)",
               name, name);
  else
    log_write (LOG_ERROR,
               "%s: none of its superblocks is good: %s (run 'farpage check "
               "%s')",
               name, worst, name);
  /* "No such file" would be read as one about the path. */
  return err == ENOENT ? EMEDIUMTYPE : err;
}

/* One volume's best slot, and whether we can do with its features. */
static int
read_one (struct volume *v, struct disk_super *best, bool *readonly,
          const char *errors[DISK_SUPER_SLOTS])
{
  int err = super_read (v, best, errors);

  if (err != 0)
    return tell_unread (v, err, errors);
  for (unsigned i = 0; i < DISK_SUPER_SLOTS; i++)
    if (errors[i] != NULL)
      log_write (LOG_WARNING, "%s: superblock slot %u: %s (another one serves)",
                 v->name, i, errors[i]);
  if ((best->incompat & ~INCOMPAT_KNOWN) != 0) {
    log_write (LOG_ERROR,
               "%s: has features (0x%" PRIx64 ") that this farpage does not "
               "know (use a newer one)",
               v->name, best->incompat & ~INCOMPAT_KNOWN);
    return EINVAL;
  }
  if ((best->ro_compat & ~RO_COMPAT_KNOWN) != 0) {
    log_write (LOG_WARNING,
               "%s: has features (0x%" PRIx64 ") that this farpage does not "
               "know: it can be read, and not written (start it with "
               "readonly=yes, or use a newer one)",
               v->name, best->ro_compat & ~RO_COMPAT_KNOWN);
    *readonly = true;
  }
  return 0;
}

static struct disk_super *
super_of (struct supers *s, unsigned volume)
{
  return volume == 0 ? &s->root : &s->peers[volume];
}

/* The volumes as they come in, each put into its place. */
struct gathering {
  struct volume *by_number[DISK_VOLUMES];
  const struct volume *first; /* that others are compared with */
  uint8_t uuid[DISK_UUID_BYTES];
  unsigned nr_volumes;
};

/* Does a volume belong to those that came before it? */
static int
gather (struct gathering *g, struct volume *v, const struct disk_super *p)
{
  const struct volume *twin = g->by_number[p->volume];

  if (g->first == NULL) {
    g->first = v;
    memcpy (g->uuid, p->uuid, sizeof g->uuid);
    g->nr_volumes = p->nr_volumes;
  }
  if (memcmp (g->uuid, p->uuid, sizeof g->uuid) != 0) {
    log_write (LOG_ERROR,
               "%s: belongs to another store than %s ('farpage info' tells "
               "which)",
               v->name, g->first->name);
    return EINVAL;
  }
  if (p->nr_volumes != g->nr_volumes) {
    log_write (LOG_ERROR,
               "%s: is of a store of %" PRIu32 " volumes, and %s of one of %u "
               "(run 'farpage check')",
               v->name, p->nr_volumes, g->first->name, g->nr_volumes);
    return EINVAL;
  }
  if (twin != NULL) {
    log_write (LOG_ERROR,
               "%s: is volume %" PRIu32 " of the store, and so is %s (name "
               "each once, and no copies)",
               v->name, p->volume, twin->name);
    return EINVAL;
  }
  g->by_number[p->volume] = v;
  return 0;
}

static int
missing_error (const struct gathering *g)
{
  int err = 0;

  for (unsigned i = 0; i < g->nr_volumes; i++)
    if (g->by_number[i] == NULL) {
      log_write (LOG_ERROR,
                 "%s: is of a store of %u volumes, and number %u is missing "
                 "(name all of them)",
                 g->first->name, g->nr_volumes, i);
      err = ENXIO;
    }
  return err;
}

static int
peer_error (const struct volume *v, const struct disk_super *root,
            const struct disk_super *peer, const struct volume *v_root)
{
  uint64_t known = root->members[peer->volume].nr_blocks;

  if (peer->nr_blocks != known) {
    log_write (LOG_ERROR,
               "%s: has %" PRIu64 " blocks, and %s knows it with %" PRIu64
               " (run 'farpage check')",
               v->name, peer->nr_blocks, v_root->name, known);
    return EINVAL;
  }
  if (peer->epoch < root->epoch) {
    log_write (LOG_ERROR,
               "%s: is older (epoch %" PRIu64 ") than the rest of its store "
               "(epoch %" PRIu64 "): an old copy? (name the right one)",
               v->name, peer->epoch, root->epoch);
    return ESTALE;
  }
  if (peer->epoch > root->epoch + 1) {
    log_write (LOG_ERROR,
               "%s: is older (epoch %" PRIu64 ") than %s (epoch %" PRIu64
               "): an old copy? (name the right one)",
               v_root->name, root->epoch, v->name, peer->epoch);
    return ESTALE;
  }
  return 0;
}

int
supers_read (struct volume **volumes, unsigned nr_volumes, struct supers *s)
{
  struct gathering g = { .first = NULL };
  struct disk_super one;
  int err = 0;

  memset (s, 0, sizeof *s);
  for (unsigned i = 0; i < nr_volumes && err == 0; i++) {
    const char *errors[DISK_SUPER_SLOTS];

    err = read_one (volumes[i], &one, &s->readonly, errors);
    if (err == 0)
      err = gather (&g, volumes[i], &one);
    if (err == 0)
      *super_of (s, one.volume) = one;
    if (err == 0 && one.volume == 0)
      memcpy (s->root_errors, errors, sizeof errors);
  }
  if (err == 0 && nr_volumes == 0)
    err = ENXIO;
  if (err == 0)
    err = missing_error (&g);
  for (unsigned i = 1; i < nr_volumes && err == 0; i++)
    err = peer_error (g.by_number[i], &s->root, &s->peers[i], g.by_number[0]);
  if (err != 0)
    return err;
  memcpy (volumes, g.by_number, nr_volumes * sizeof *volumes);
  s->volumes = volumes;
  s->nr_volumes = nr_volumes;
  return 0;
}
