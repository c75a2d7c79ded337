/* SPDX-License-Identifier: BSD-2-Clause */
/* Undo files: what blocks held before a repair overwrote them, and the way
 * back.  base/disk.h has the structures.
 *
 * A file counts only as a whole: as many records as its head says, each with
 * the right CRCs.  It belongs to a store by its uuid and its volumes' sizes.
 *
 * I1. All of it is durable before the first block is overwritten.
 * I2. Nothing is put back before all of it has been verified; the root's
 *     superblocks come last.
 *
 * Called by check-repair.c and by the tool.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "log.h"

/* ---- writing ---- */

static int
put (FILE *fp, const void *buf, size_t bytes)
{
  if (fwrite (buf, 1, bytes, fp) == bytes)
    return 0;
  return errno != 0 ? errno : EIO;
}

static int
put_head (struct check *c, FILE *fp, uint64_t nr)
{
  struct disk_undo head = { .version = DISK_UNDO_VERSION,
                            .nr_volumes = c->nr_volumes,
                            .nr_records = nr };

  memcpy (head.magic, DISK_UNDO_MAGIC, sizeof head.magic);
  memcpy (head.uuid, c->root.uuid, sizeof head.uuid);
  for (unsigned i = 0; i < c->nr_volumes; i++)
    head.nr_blocks[i] = c->root.members[i].nr_blocks;
  head.crc = crc32c (0, &head, DISK_CRC_OFF);
  return put (fp, &head, sizeof head);
}

static int
put_block (struct check *c, FILE *fp, uint64_t number, uint64_t blk)
{
  struct disk_node *page = &c->nodes[0];
  struct disk_undo_rec rec = { .number = number, .blk = blk };
  int err;

  if (volume_read (c->bare[blkno_volume (blk)],
                   blkno_place (blk) * DISK_BLOCK_BYTES, page,
                   DISK_BLOCK_BYTES) != 0) {
    memset (page, 0, sizeof *page);
    rec.unread = 1;
  }
  rec.data_crc = crc32c (0, page, sizeof *page);
  rec.crc = crc32c (0, &rec, offsetof (struct disk_undo_rec, crc));
  err = put (fp, &rec, sizeof rec);
  return err ? err : put (fp, page, sizeof *page);
}

/* The file's name is on the medium, too. */
static int
sync_dir (const char *path)
{
  char *copy = strdup (path);
  int fd = copy != NULL ? open (dirname (copy), O_RDONLY | O_DIRECTORY) : -1;
  int err = fd == -1 || fsync (fd) == -1 ? errno : 0;

  if (fd != -1)
    close (fd);
  free (copy);
  return err == EINVAL ? 0 : err; /* a file system that has no such sync */
}

static int
put_all (struct check *c, FILE *fp, const uint64_t *blks, uint64_t nr)
{
  int err = put_head (c, fp, nr);

  for (uint64_t i = 0; i < nr && err == 0; i++)
    err = put_block (c, fp, i, blks[i]);
  if (err == 0 && (fflush (fp) != 0 || fsync (fileno (fp)) != 0))
    err = errno;
  return err;
}

int
check_undo_write (struct check *c, const char *path, const uint64_t *blks,
                  uint64_t nr)
{
  int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), err;
  FILE *fp = fd != -1 ? fdopen (fd, "w+") : NULL;

  if (fp == NULL) {
    err = errno;
    if (fd != -1)
      close (fd);
  } else {
    errno = 0;
    err = put_all (c, fp, blks, nr);
    if (fclose (fp) != 0 && err == 0)
      err = errno;
    if (err == 0)
      err = sync_dir (path);
    if (err)
      unlink (path);
  }
  if (err)
    log_write (LOG_ERROR,
               "%s: the undo file cannot be written: %s (nothing was "
               "repaired)",
               path, strerror (err));
  return err;
}

/* ---- putting back ---- */

struct restore {
  const char *path;
  FILE *fp;
  struct disk_undo head;
  struct volume *volumes[DISK_VOLUMES]; /* by number */
  uint8_t *page;
};

static int
refuse (const struct restore *r, int err, const char *why)
{
  log_write (LOG_ERROR, "%s: %s (nothing was put back)", r->path, why);
  return err;
}

static int
get_head (struct restore *r)
{
  const struct disk_undo *h = &r->head;

  if (fread (&r->head, 1, sizeof r->head, r->fp) != sizeof r->head ||
      memcmp (h->magic, DISK_UNDO_MAGIC, sizeof h->magic) != 0)
    return refuse (r, EINVAL, "is no undo file");
  if (h->crc != crc32c (0, h, DISK_CRC_OFF))
    return refuse (r, EUCLEAN, "is damaged");
  if (h->version != DISK_UNDO_VERSION || h->nr_volumes == 0 ||
      h->nr_volumes > DISK_VOLUMES ||
      !check_all_zero (h->spare, sizeof h->spare))
    return refuse (r, EINVAL, "was made by another version of farpage");
  return 0;
}

/* The next record, its block in r->page. */
static int
get_block (struct restore *r, uint64_t number, struct disk_undo_rec *rec)
{
  unsigned volume;

  if (fread (rec, 1, sizeof *rec, r->fp) != sizeof *rec ||
      fread (r->page, 1, DISK_BLOCK_BYTES, r->fp) != DISK_BLOCK_BYTES)
    return refuse (r, EUCLEAN, "is cut off");
  volume = blkno_volume (rec->blk);
  if (rec->crc != crc32c (0, rec, offsetof (struct disk_undo_rec, crc)) ||
      rec->number != number || rec->blk >> 60 != 0 || rec->unread > 1 ||
      rec->spare != 0 || volume >= r->head.nr_volumes ||
      blkno_place (rec->blk) >= r->head.nr_blocks[volume] ||
      rec->data_crc != crc32c (0, r->page, DISK_BLOCK_BYTES))
    return refuse (r, EUCLEAN, "is damaged");
  return 0;
}

static int
verify (struct restore *r)
{
  struct disk_undo_rec rec;
  int err = 0;

  for (uint64_t i = 0; i < r->head.nr_records && err == 0; i++)
    err = get_block (r, i, &rec);
  if (err == 0 && fgetc (r->fp) != EOF)
    err = refuse (r, EUCLEAN, "is longer than it says");
  return err;
}

/* Which volume is which: by any slot that is good. */
static int
match (struct restore *r, struct volume *const *volumes, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++) {
    struct disk_super best;

    if (super_read (volumes[i], &best, NULL) != 0 ||
        memcmp (best.uuid, r->head.uuid, sizeof best.uuid) != 0 ||
        best.volume >= r->head.nr_volumes ||
        best.nr_blocks != r->head.nr_blocks[best.volume])
      return refuse (r, EINVAL, "is of another store than the volumes");
    r->volumes[best.volume] = volumes[i];
  }
  for (unsigned i = 0; i < r->head.nr_volumes; i++)
    if (r->volumes[i] == NULL)
      return refuse (r, EINVAL,
                     "is of more volumes than are named (name all "
                     "of the store)");
  return 0;
}

/* When a block is put back: 0; slots of the peers 1, of the root 2. */
static unsigned
turn_of (const struct restore *r, uint64_t blk)
{
  unsigned volume = blkno_volume (blk);
  uint64_t place = blkno_place (blk);

  if (place >= SLOTS_END && place < r->head.nr_blocks[volume] - SLOTS_END)
    return 0;
  return volume > 0 ? 1 : 2;
}

static int
put_back (struct restore *r, unsigned turn, uint64_t *nr)
{
  struct disk_undo_rec rec;
  int err = 0;

  if (fseeko (r->fp, sizeof r->head, SEEK_SET) != 0)
    return errno;
  for (uint64_t i = 0; i < r->head.nr_records && err == 0; i++) {
    err = get_block (r, i, &rec);
    if (err || turn_of (r, rec.blk) != turn || rec.unread)
      continue;
    err = volume_write (r->volumes[blkno_volume (rec.blk)],
                        blkno_place (rec.blk) * DISK_BLOCK_BYTES, r->page,
                        DISK_BLOCK_BYTES);
    *nr += err == 0;
  }
  for (unsigned i = 0; i < r->head.nr_volumes && err == 0; i++)
    err = volume_flush (r->volumes[i]);
  return err;
}

int
check_restore (const char *undo_path, struct volume *const *volumes,
               unsigned nr_volumes, uint64_t *nr_written)
{
  struct restore r = { .path = undo_path, .fp = fopen (undo_path, "re") };
  uint64_t nr = 0;
  int err;

  if (r.fp == NULL) {
    err = errno;
    log_write (LOG_ERROR, "%s: cannot be read: %s", undo_path, strerror (err));
    return err;
  }
  r.page = aligned_alloc (DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
  err = r.page != NULL ? get_head (&r) : ENOMEM;
  if (err == 0)
    err = verify (&r);
  if (err == 0)
    err = match (&r, volumes, nr_volumes);
  for (unsigned turn = 0; turn <= 2 && err == 0; turn++)
    err = put_back (&r, turn, &nr);
  if (err == 0)
    *nr_written = nr;
  free (r.page);
  fclose (r.fp);
  return err;
}
