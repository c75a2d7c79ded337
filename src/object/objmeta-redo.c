/* SPDX-License-Identifier: BSD-2-Clause */
/* Page maps after a crash: redoing the log's records; see objmeta.c.
 *
 * Called by recovery, alone on the map, in the log's order, in a change that
 * appends nothing.  What a page had is taken from the map and not from the
 * record, so that the free map and the counts follow what is there.  Leaves
 * that become empty stay until their record UNNODE.
 *
 * A record that cannot be right (pages beyond the object's end, a block beyond
 * its volume's, a node that no record made) is EIO: recovery has checked its
 * CRC, so the store is damaged.
 */

#include <config.h>

#include "objmeta-impl.h"

#include <errno.h>

/* ---- nodes ---- */

static void
node_used (void *arg, uint64_t blk)
{
  struct objmeta *m = arg;

  freemap_note (m->fm, &(struct space_run){ blk, 1 }, true);
}

/* Nobody allocates before recovery's own superblock: it need not be parked. */
static void
node_gone (void *arg, uint64_t blk)
{
  struct objmeta *m = arg;

  freemap_note (m->fm, &(struct space_run){ blk, 1 }, false);
}

int
objmeta_redo_node (void *map, struct change *ch, const struct disk_rec *rec)
{
  struct objmeta *m = map;

  /* The tree looks whether the rest of it can be right. */
  if (rec->nr == 0 && rec->pgno > (m->nr_pages - 1) / DISK_MAP_PAGES)
    return objmeta_trouble (m, rec->pgno, "the log has a node beyond the end");
  return tree_redo (&m->tree, ch, rec, node_used, node_gone, m);
}

uint64_t
objmeta_where (void *map, pgno_t pgno)
{
  struct objmeta *m = map;

  return tree_where (&m->tree, pgno / DISK_MAP_PAGES);
}

/* ---- pages ---- */

struct redo {
  struct objmeta *m;
  struct gather before, after;
  int64_t nr[SWMETA_ZERO + 1]; /* by kind: how many more there are */
};

/* The word of a page becomes this. */
static void
set_word (struct redo *r, const struct part *part, unsigned k, uint64_t to)
{
  uint64_t *word = &map_of (part->leaf)->word[part->first + k];

  if (*word == to)
    return;
  r->nr[swmeta_kind (*word)]--;
  r->nr[swmeta_kind (to)]++;
  node_of_leaf (part->leaf)->nr_used += (to != 0) - (*word != 0);
  objmeta_gather (&r->before, part->pgno + k, *word);
  objmeta_gather (&r->after, part->pgno + k, to);
  *word = to;
}

/* The word that a record gives its i-th page. */
static uint64_t
word_of (const struct disk_rec *rec, uint64_t i)
{
  switch (rec->type) {
  case DISK_REC_MAP:
    return swmeta_word (SWMETA_BLOCK, rec->word + i);
  case DISK_REC_ZERO:
    return swmeta_word (SWMETA_ZERO, 0);
  default:
    return 0;
  }
}

static int
redo_part (struct redo *r, struct change *ch, const struct disk_rec *rec,
           const uint32_t *crc, struct part *part)
{
  struct objmeta *m = r->m;
  uint32_t *to = map_of (part->leaf)->crc + part->first;
  int err = objmeta_check_part (m, part);

  if (err == 0)
    err = tree_begin (&m->tree, ch, part->leaf);
  if (err)
    return err;
  for (unsigned k = 0; k < part->nr; k++) {
    uint64_t i = part->pgno + k - rec->pgno;

    set_word (r, part, k, word_of (rec, i));
    to[k] = rec->type == DISK_REC_MAP ? crc[i] : 0;
  }
  objmeta_gather_end (&r->before);
  objmeta_gather_end (&r->after);
  buf_done (m->tree.fl, part->leaf);
  return 0;
}

static int
check_rec (const struct objmeta *m, const struct disk_rec *rec)
{
  bool map = rec->type == DISK_REC_MAP;

  if (!map && rec->type != DISK_REC_ZERO && rec->type != DISK_REC_FREE)
    return objmeta_trouble (m, rec->pgno, "the log has an unknown record");
  if (rec->nr == 0 || rec->pgno >= m->nr_pages ||
      rec->nr > m->nr_pages - rec->pgno)
    return objmeta_trouble (m, rec->pgno,
                            "the log has a record that goes beyond the end");
  if (map &&
      (swmeta_blkno (rec->word) != rec->word ||
       !objmeta_run_ok (m, swmeta_word (SWMETA_BLOCK, rec->word), rec->nr)))
    return objmeta_trouble (m, rec->pgno,
                            "the log has a record with a block beyond the "
                            "volume's end");
  return 0;
}

int
objmeta_redo (void *map, struct change *ch, const struct disk_rec *rec,
              const uint32_t *crc, int64_t *nr_mapped, int64_t *nr_zero)
{
  struct redo r = { .m = map,
                    .before = { .m = map, .used = false },
                    .after = { .m = map, .used = true } };
  uint64_t done = 0;
  int err = check_rec (r.m, rec);

  while (done < rec->nr && err == 0) {
    struct part part = { .pgno = rec->pgno + done };

    part.first = part.pgno % DISK_MAP_PAGES;
    part.nr = (unsigned) min_u64 (DISK_MAP_PAGES - part.first, rec->nr - done);
    err = tree_get (&r.m->tree, part.pgno / DISK_MAP_PAGES, &part.leaf);
    if (err == 0 && part.leaf != NULL) {
      err = redo_part (&r, ch, rec, crc, &part);
      buf_put (r.m->tree.bs, part.leaf);
    } else if (err == 0 && rec->type != DISK_REC_FREE) {
      err =
          objmeta_trouble (r.m, part.pgno, "the log has no record of its node");
    }
    done += part.nr;
  }
  *nr_mapped += r.nr[SWMETA_BLOCK];
  *nr_zero += r.nr[SWMETA_ZERO];
  return err;
}
