/* SPDX-License-Identifier: BSD-2-Clause */
/* The real store as a subject: through store.h alone, but for its volumes and
 * its format.
 *
 * As small as it goes, so that its rings wrap, its buffers run out and an open
 * costs little: BUFS_MIN buffers, the smallest ring, 384 blocks and 160 on a
 * second volume; without staging so few blocks that each is used again soon,
 * and a ring so large that a cycle begins before anybody waits for it.
 * The strict one has a second volume that is so large that the free map of it
 * has more than one leaf.  One connection to each object, shared by all
 * clients.
 *
 * Each begins with some blocks on its list of those that failed a write: in
 * whatever state a crash leaves it, they are retired after the next open, and
 * no map has one.
 */

#include <config.h>

#include "subject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "check.h"
#include "model.h"
#include "store.h"
#include "super.h"
#include "task.h"

/* In the smallest one what is kept for a cut comes before three quarters. */
#define PLAIN_RING_BLOCKS 112u
/* The least for a free map of so many nodes. */
#define HUGE_RING_BLOCKS 1072u
#define HUGE_BUFS        256u

/* Until what a crash has left of a resize is done. */
#define RETRY_NS UINT64_C (1000000)

struct sut {
  struct store *s;
  struct conn *conn[MODEL_NAMES];
};

static const char *const names[MODEL_NAMES] = { "a", "b", "c", "d", "e",
                                                "f", "g", "h", "i" };

/* ---- format ---- */

/* Retired from the start: places of the rest of a volume, from its front. */
static const struct {
  unsigned volume;
  uint64_t first, nr;
} retired[] = { { 0, 4, 1 }, { 0, 9, 2 }, { 1, 3, 1 } };

#define NR_RETIRED (sizeof retired / sizeof retired[0])

static int
retire_some (struct volume *const *v, unsigned nr)
{
  void *page = aligned_alloc (PAGE_BYTES, PAGE_BYTES);
  struct supers *s = calloc (1, sizeof *s);
  struct volume *volumes[DISKS_MAX];
  int err = page != NULL && s != NULL ? 0 : ENOMEM;

  memcpy (volumes, v, nr * sizeof *v);
  if (err == 0)
    err = supers_read (volumes, nr, s);
  for (unsigned i = 0; i < NR_RETIRED && err == 0; i++) {
    uint64_t first = super_first_block (&s->root, retired[i].volume);

    s->root.retired[i].blk =
        blkno_make (retired[i].volume, first + retired[i].first);
    s->root.retired[i].nr = (uint32_t) retired[i].nr;
  }
  for (unsigned i = 0; i < DISK_SUPER_SLOTS && err == 0; i++) {
    err = supers_write_root (s, page);
    if (err == 0)
      err = volume_flush (volumes[0]);
  }
  free (s);
  free (page);
  return err;
}

static int
format_with (struct volume *const *v, unsigned nr, uint64_t ring_blocks)
{
  struct super_format config = {
    .volumes = v,
    .nr_volumes = nr,
    .ring_bytes = ring_blocks * DISK_BLOCK_BYTES,
  };
  uint8_t uuid[DISK_UUID_BYTES];
  int err = super_format (&config, uuid);

  return err ? err : retire_some (v, nr);
}

static int
real_format (struct volume *const *v, unsigned nr)
{
  return format_with (v, nr, SUPER_RING_BLOCKS_MIN);
}

static int
plain_format (struct volume *const *v, unsigned nr)
{
  return format_with (v, nr, PLAIN_RING_BLOCKS);
}

static int
huge_format (struct volume *const *v, unsigned nr)
{
  return format_with (v, nr, HUGE_RING_BLOCKS);
}

/* ---- open and close ---- */

static int
open_with (struct volume *const *v, unsigned nr, enum store_durability mode,
           const char *staging_dir, unsigned nr_bufs, void **sp)
{
  struct store_volume_config vc[DISKS_MAX] = { 0 };
  struct store_config config = {
    .volumes = vc,
    .nr_volumes = nr,
    .durability = mode,
    .cache_bytes = (uint64_t) nr_bufs * BUF_BYTES,
    .staging_dir = staging_dir,
    .reserve = -1,
  };
  struct sut *t = calloc (1, sizeof *t);
  int err = t != NULL ? 0 : ENOMEM;

  for (unsigned i = 0; i < nr; i++)
    vc[i].ready = v[i];
  if (err == 0)
    err = store_open (&config, &t->s);
  if (err != 0) {
    for (unsigned i = 0; i < nr; i++)
      volume_close (v[i]);
    free (t);
    return err;
  }
  err = store_start (t->s);
  if (err != 0) {
    store_close (t->s);
    free (t);
    return err;
  }
  *sp = t;
  return 0;
}

static int
open_staged (struct volume *const *v, unsigned nr, void **sp)
{
  return open_with (v, nr, STORE_FLUSH, "ram", BUFS_MIN, sp);
}

static int
open_plain (struct volume *const *v, unsigned nr, void **sp)
{
  return open_with (v, nr, STORE_FLUSH, NULL, BUFS_MIN, sp);
}

/* Half of META's buffers are for a cut's leaves of the free map; in the rest
 * there must be room for one change.
 */
static int
open_huge (struct volume *const *v, unsigned nr, void **sp)
{
  return open_with (v, nr, STORE_FLUSH, NULL, HUGE_BUFS, sp);
}

static int
open_strict (struct volume *const *v, unsigned nr, void **sp)
{
  return open_with (v, nr, STORE_STRICT, NULL, BUFS_MIN, sp);
}

static void
forget_conn (struct sut *t, unsigned name)
{
  if (t->conn[name] != NULL)
    store_disconnect (t->conn[name]);
  t->conn[name] = NULL;
}

static int
real_close (void *s)
{
  struct sut *t = s;
  int err;

  for (unsigned i = 0; i < MODEL_NAMES; i++)
    forget_conn (t, i);
  err = store_stop (t->s);
  store_close (t->s);
  free (t);
  return err;
}

/* ---- objects ---- */

static int
conn_of (struct sut *t, unsigned name, struct conn **cp)
{
  static const struct peer peer = { .kind = PEER_UNIX, .uid = 1, .pid = 1 };
  struct conn *c;
  int err = 0;

  if (t->conn[name] == NULL)
    err = store_connect (t->s, names[name], false, &peer, &c);
  if (err != 0)
    return err;
  if (t->conn[name] == NULL)
    t->conn[name] = c; /* connecting may let another client run */
  *cp = t->conn[name];
  return 0;
}

static int
real_create (void *s, unsigned name, uint32_t nr_pages, bool reserved)
{
  struct sut *t = s;
  struct store_create config = { .name = names[name],
                                 .size_bytes = (uint64_t) nr_pages
                                               << PAGE_SHIFT,
                                 .reserve = reserved };
  char instance[INSTANCE_HEX + 1];

  return store_create (t->s, &config, instance);
}

static int
real_remove (void *s, unsigned name)
{
  struct sut *t = s;
  int err;

  forget_conn (t, name);
  while ((err = store_remove (t->s, names[name], false)) == EALREADY)
    task_sleep (RETRY_NS);
  return err;
}

/* Larger while it is open, smaller when it is not. */
static int
real_resize (void *s, unsigned name, uint32_t nr_pages)
{
  struct sut *t = s;
  int err;

  while ((err = store_resize (t->s, names[name],
                              (uint64_t) nr_pages << PAGE_SHIFT)) == EBUSY ||
         err == EALREADY)
    if (err == EBUSY)
      forget_conn (t, name);
    else
      task_sleep (RETRY_NS);
  forget_conn (t, name);
  return err;
}

static int
real_size (void *s, unsigned name, uint32_t *nr_pages)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  if (err == 0)
    *nr_pages = (uint32_t) (conn_size_bytes (c) >> PAGE_SHIFT);
  return err;
}

/* ---- requests ---- */

static int
real_read (void *s, unsigned name, void *buf, uint64_t off, uint32_t bytes)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  return err != 0 ? err : conn_read (c, buf, off, bytes);
}

static int
real_write (void *s, unsigned name, const void *buf, uint64_t off,
            uint32_t bytes, bool fua)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  return err != 0 ? err : conn_write (c, buf, off, bytes, fua);
}

static int
real_trim (void *s, unsigned name, uint64_t off, uint32_t bytes, bool fua)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  return err != 0 ? err : conn_trim (c, off, bytes, fua);
}

static int
real_zero (void *s, unsigned name, uint64_t off, uint32_t bytes, bool may_hole,
           bool fua)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  return err != 0 ? err : conn_zero (c, off, bytes, may_hole, false, fua);
}

static int
real_flush (void *s, unsigned name)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  return err != 0 ? err : conn_flush (c);
}

static int
note_extent (void *arg, uint64_t off, uint64_t bytes, bool hole, bool zero)
{
  bool *holes = arg;

  (void) zero;
  for (uint64_t i = off >> PAGE_SHIFT; i < (off + bytes) >> PAGE_SHIFT; i++)
    holes[i] = hole;
  return 0;
}

static int
real_holes (void *s, unsigned name, uint32_t nr_pages, bool *hole)
{
  struct conn *c;
  int err = conn_of (s, name, &c);

  return err != 0 ? err
                  : conn_extents (c, 0, nr_pages << PAGE_SHIFT, false,
                                  note_extent, hole);
}

static void
count_retired (void *arg, const char *volume, uint64_t block, uint64_t nr)
{
  uint64_t *nr_blocks = arg;

  (void) volume;
  (void) block;
  *nr_blocks += nr;
}

static const char *
real_check (void *s)
{
  struct sut *t = s;
  uint64_t nr = 0, want = 0;

  for (unsigned i = 0; i < NR_RETIRED; i++)
    want += retired[i].nr;
  store_each_retired (t->s, count_retired, &nr);
  return nr < want ? "retired blocks are forgotten" : store_check (t->s);
}

static const char *
real_check_media (struct volume *const *v, unsigned nr, bool closed)
{
  return check_store_images (v, nr, !closed);
}

#define REAL                                                               \
  .nr_volumes = 2, .reserves = true, .retires = true, .close = real_close, \
  .create = real_create, .remove = real_remove, .resize = real_resize,     \
  .size = real_size, .read = real_read, .write = real_write,               \
  .trim = real_trim, .zero = real_zero, .flush = real_flush,               \
  .holes = real_holes, .check = real_check, .check_media = real_check_media

const struct subject store_subject = { .name = "store",
                                       .nr_blocks = { 384, 160 },
                                       .nr_bases = 4,
                                       .has_staging = true,
                                       .format = real_format,
                                       .open = open_staged,
                                       REAL };
const struct subject plain_subject = { .name = "plain",
                                       .nr_blocks = { 216, 48 },
                                       .nr_bases = 3,
                                       .fills = true,
                                       .format = plain_format,
                                       .open = open_plain,
                                       REAL };
const struct subject strict_subject = { .name = "strict",
                                        .nr_blocks = { 384,
                                                       DISK_FREEMAP_BITS + 64 },
                                        .nr_bases = 4,
                                        .strict = true,
                                        .format = real_format,
                                        .open = open_strict,
                                        REAL };
/* Two levels above the leaves of a free map. */
const struct subject huge_subject = {
  .name = "huge",
  .nr_blocks = { 1384, DISK_FREEMAP_BITS *DISK_FANOUT + 64 },
  .nr_bases = 4,
  .format = huge_format,
  .open = open_huge,
  REAL
};
