/* SPDX-License-Identifier: BSD-2-Clause */
/* The label of a volatile path volume, and whether a path may be taken: for
 * that, or for a durable store.
 *
 *   0        4 KiB                 1 MiB                          size
 *   | label  | zeros               | data, of no value once the   |
 *   |        |                     | process has ended            |
 *
 * file.c calls label_check () before it changes anything, and label_write ()
 * when everything else has succeeded; for a store that is formatted, which has
 * no label, label_wipe () instead.
 *
 * I1. A path is ours only if the label is good to its last bit and the rest
 *     of the first MiB is zero: some file systems keep their first structure
 *     behind our label, and a path they took later must not be taken for
 *     ours.
 * I2. Without force nothing is overwritten that has a slot of a durable
 *     store's superblock, in which libblkid sees anything, or which has a byte
 *     other than zero in its first or last MiB.
 * I3. The label is on the medium before the first byte of data is: else a
 *     crash would leave data that the next start refuses to overwrite.
 * I4. Over other data, a second copy at the end (GPT, md) goes first, so that
 *     no program finds it and puts it back over ours.
 *
 * It reads all of the path only where the label or other people's signatures
 * may be: a file with data in its middle alone passes for empty.
 */

#include <config.h>

#include "medium.h"

#include <blkid/blkid.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc32c.h"
#include "disk.h"
#include "env.h"
#include "log.h"

/* ---- bytes ---- */

static int
read_all (int fd, uint8_t *buf, size_t len, uint64_t off)
{
  while (len > 0) {
    ssize_t n = pread (fd, buf, len, (off_t) off);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      return n == 0 ? EIO : errno;
    buf += n;
    off += (uint64_t) n;
    len -= (size_t) n;
  }
  return 0;
}

static int
write_all (int fd, const uint8_t *buf, size_t len, uint64_t off)
{
  while (len > 0) {
    ssize_t n = pwrite (fd, buf, len, (off_t) off);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      return n == 0 ? EIO : errno;
    buf += n;
    off += (uint64_t) n;
    len -= (size_t) n;
  }
  return 0;
}

static bool
all_zero (const void *buf, size_t len)
{
  const uint8_t *p = buf;

  return len == 0 || (p[0] == 0 && memcmp (p, p + 1, len - 1) == 0);
}

/* ---- looking ---- */

static bool
label_has_magic (const struct disk_label *l)
{
  return memcmp (l->magic, DISK_LABEL_MAGIC, sizeof l->magic) == 0;
}

static bool
label_is_good (const struct disk_label *l)
{
  return label_has_magic (l) &&
         le32toh (l->crc) == crc32c (0, l, offsetof (struct disk_label, crc)) &&
         le32toh (l->version) == DISK_LABEL_VERSION && l->spare0 == 0 &&
         all_zero (l->spare1, sizeof l->spare1);
}

/* Does libblkid find a file system, a partition table, ...?  name has room for
 * 64 bytes.  What it cannot make out is something too: force then decides, and
 * a medium that cannot be read has shown itself before.
 */
static bool
probe (int fd, char *name)
{
  blkid_probe pr = blkid_new_probe ();
  const char *value = "something that libblkid cannot make out";
  int ret = -1;

  if (pr != NULL && blkid_probe_set_device (pr, fd, 0, 0) == 0) {
    blkid_probe_enable_superblocks (pr, 1);
    blkid_probe_set_superblocks_flags (pr, BLKID_SUBLKS_TYPE);
    blkid_probe_enable_partitions (pr, 1);
    ret = blkid_do_probe (pr);
  }
  if (ret == 0 && blkid_probe_lookup_value (pr, "TYPE", &value, NULL) != 0)
    blkid_probe_lookup_value (pr, "PTTYPE", &value, NULL);
  strncpy (name, value, 63);
  name[63] = '\0';
  if (pr != NULL)
    blkid_free_probe (pr);
  return ret != 1;
}

/* Has a durable store been here?  One slot of its superblocks will do, in
 * whatever state: two at either end.  first holds the first MiB.
 */
static int
look_for_store (int fd, uint64_t size_bytes, const uint8_t *first, bool *foundp)
{
  uint8_t last[2 * DISK_BLOCK_BYTES];
  uint64_t end = size_bytes & ~(uint64_t) PAGE_MASK;
  int err = read_all (fd, last, sizeof last, end - sizeof last);
  bool found = false;

  if (err != 0)
    return err;
  for (unsigned i = 0; i < 2; i++) {
    size_t at = i * DISK_BLOCK_BYTES;

    found |= memcmp (first + at, DISK_SUPER_MAGIC, 8) == 0 ||
             memcmp (last + at, DISK_SUPER_MAGIC, 8) == 0;
  }
  *foundp = found;
  return 0;
}

/* Is there anything?  first holds the first MiB and becomes the last one.
 * EEXIST: yes, and why has 64 bytes to say what; *storep: a durable store.
 */
static int
look_for_data (int fd, uint64_t size_bytes, uint8_t *first, char *why,
               bool *storep)
{
  uint64_t off = size_bytes - LABEL_AREA_BYTES;
  int err = look_for_store (fd, size_bytes, first, storep);

  strcpy (why, "a durable store");
  if (err != 0 || *storep)
    return err != 0 ? err : EEXIST;
  if (probe (fd, why))
    return EEXIST;
  strcpy (why, "data in its first MiB");
  if (label_has_magic ((const struct disk_label *) first))
    strcpy (why, "a label of farpage that is damaged or of another version");
  if (!all_zero (first, LABEL_AREA_BYTES))
    return EEXIST;
  strcpy (why, "data in its last MiB");
  err = read_all (fd, first, LABEL_AREA_BYTES, off);
  if (err == 0 && !all_zero (first, LABEL_AREA_BYTES))
    err = EEXIST;
  return err;
}

static const char *
remedy (enum label_use use, bool store)
{
  if (use == LABEL_FOR_FORMAT)
    return "name another volume, or give --force to overwrite it";
  return store ? "use it with durability=flush, or force=yes to overwrite it"
               : "name another volume, or give force=yes to overwrite it";
}

int
label_check (int fd, const char *path, uint64_t size_bytes, enum label_use use,
             bool force, enum label_found *foundp)
{
  uint8_t *first = malloc (LABEL_AREA_BYTES);
  enum label_found found = LABEL_EMPTY;
  bool store = false;
  char why[64];
  int err;

  if (first == NULL)
    return ENOMEM;
  err = read_all (fd, first, LABEL_AREA_BYTES, 0);
  if (err == 0 && label_is_good ((const struct disk_label *) first) &&
      all_zero (first + DISK_LABEL_BYTES, LABEL_AREA_BYTES - DISK_LABEL_BYTES))
    found = LABEL_OURS;
  else if (err == 0)
    err = look_for_data (fd, size_bytes, first, why, &store);
  free (first);

  if (err == EEXIST && force) {
    log_write (LOG_WARNING, "%s: holds %s; overwriting it", path, why);
    found = LABEL_OTHER;
    err = 0;
  } else if (err == EEXIST) {
    log_write (LOG_ERROR, "%s: holds %s (%s)", path, why, remedy (use, store));
  } else if (err != 0) {
    log_write (LOG_ERROR, "%s: cannot be read: %s (check the medium)", path,
               strerror (err));
  }
  if (err == 0)
    *foundp = found;
  return err;
}

/* ---- writing ---- */

static void
label_fill (struct disk_label *l, uint64_t size_bytes)
{
  memcpy (l->magic, DISK_LABEL_MAGIC, sizeof l->magic);
  l->version = htole32 (DISK_LABEL_VERSION);
  l->size_bytes = htole64 (size_bytes);
  env_random (l->uuid, sizeof l->uuid);
  l->crc = htole32 (crc32c (0, l, offsetof (struct disk_label, crc)));
}

int
label_wipe (int fd, const char *path, uint64_t size_bytes)
{
  uint8_t *zeros = calloc (1, LABEL_AREA_BYTES);
  int flags = fcntl (fd, F_GETFL), err = 0;

  if (zeros == NULL)
    return ENOMEM;
  if (fcntl (fd, F_SETFL, flags & ~O_DIRECT) == -1)
    err = errno;
  if (err == 0)
    err = write_all (fd, zeros, LABEL_AREA_BYTES, 0);
  if (err == 0)
    err =
        write_all (fd, zeros, LABEL_AREA_BYTES, size_bytes - LABEL_AREA_BYTES);
  if (err == 0 && fdatasync (fd) == -1)
    err = errno;
  if (fcntl (fd, F_SETFL, flags) == -1 && err == 0)
    err = errno;
  free (zeros);
  if (err != 0)
    log_write (LOG_ERROR, "%s: cannot be wiped: %s (%s)", path, strerror (err),
               err == ENOSPC || err == EDQUOT ? "free some space"
                                              : "check the medium");
  return err;
}

/* Zeros over the last MiB, but not over the label area; whole pages, for fd
 * may be O_DIRECT.  What is behind the last page is not data of ours.
 */
static int
wipe_end (int fd, uint64_t size_bytes, const uint8_t *zeros)
{
  uint64_t end = size_bytes & ~(uint64_t) PAGE_MASK;
  uint64_t off = max_u64 (end - LABEL_AREA_BYTES, LABEL_AREA_BYTES);

  return write_all (fd, zeros, end - off, off);
}

int
label_write (int fd, const char *path, uint64_t size_bytes,
             enum label_found found)
{
  uint8_t *area = mmap (NULL, LABEL_AREA_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int err = 0;

  if (area == MAP_FAILED)
    return ENOMEM;
  if (found == LABEL_OTHER)
    err = wipe_end (fd, size_bytes, area);
  if (err == 0) {
    label_fill ((struct disk_label *) area, size_bytes);
    err = write_all (fd, area, LABEL_AREA_BYTES, 0);
  }
  if (err == 0 && fdatasync (fd) == -1)
    err = errno;
  munmap (area, LABEL_AREA_BYTES);
  if (err != 0)
    log_write (LOG_ERROR, "%s: the label cannot be written: %s (%s)", path,
               strerror (err),
               err == ENOSPC || err == EDQUOT ? "free some space"
                                              : "check the medium");
  return err;
}
