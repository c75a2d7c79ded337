/* SPDX-License-Identifier: BSD-2-Clause */
/* Staging; the contract is in staging.h.
 *
 *   staging_create --> DIR/UUID.staging.new --staging_publish--> UUID.staging
 *   staging_open   --> UUID.staging, read-only --> staging_each
 *
 * I1. A file under the last name is whole: head, tags and buffers have their
 *     size and their memory, so a store into the mapping never fails.
 * I2. What a file says is believed only if its head's CRC is right, and its
 *     sizes follow from its head, and it is ours (owner, mode, no link), of
 *     this boot, of this store, and the one that the superblock names.
 * I3. Only the file that this process has open is ever removed.
 *
 * Locks: none.  One thread opens and closes; tags are atomic.
 *
 * Not done: keeping the contents safe from a power cut.  That is the log's.
 */

#include <config.h>

#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "crc32c.h"
#include "env.h"
#include "log.h"
#include "size.h"

#define HEAD_MAGIC   "FARPAGES"
#define HEAD_VERSION 1
#define BOOT_ID      "/proc/sys/kernel/random/boot_id"
#define BOOT_BYTES   36
#define BUFFERS_MAX  (UINT64_C (1) << 30)
#define NAME_BYTES   (36 + sizeof ".staging.new")

struct head {
  uint8_t magic[8]; /* HEAD_MAGIC, no zero at the end */
  uint32_t version;
  uint32_t spare0;
  uint8_t uuid[DISK_UUID_BYTES];
  uint64_t id;
  uint64_t nr_buffers;
  char boot[BOOT_BYTES]; /* the kernel's text, no zero at the end */
  uint32_t spare1;
  uint64_t epoch;    /* of the open that made it, or one below */
  uint64_t sequence; /* of the first superblock that names it; 0: none yet */
  uint8_t spare2[DISK_CRC_OFF - 68 - BOOT_BYTES];
  uint32_t crc;
};

_Static_assert(sizeof (struct head) == DISK_BLOCK_BYTES, "head size");
_Static_assert(sizeof (struct buf_tag) == 8, "tag size");

struct file {
  struct staging sg;
  int dir, fd;
  char *dir_name;
  char name[NAME_BYTES];     /* the last one */
  char new_name[NAME_BYTES]; /* until it is published; "" then */
  void *map;
  size_t map_bytes;
};

static const struct staging_ops *current;

static struct file *
file_of (struct staging *sg)
{
  return (struct file *) ((char *) sg - offsetof (struct file, sg));
}

/* ---- what a file looks like ---- */

static uint64_t
tags_bytes (uint64_t nr)
{
  return (nr * sizeof (struct buf_tag) + PAGE_MASK) & ~(uint64_t) PAGE_MASK;
}

/* nr is at most BUFFERS_MAX. */
static uint64_t
file_bytes (uint64_t nr)
{
  return sizeof (struct head) + tags_bytes (nr) + nr * BUF_BYTES;
}

static void
make_names (struct file *f, const uint8_t uuid[DISK_UUID_BYTES])
{
  char text[36 + 1], *to = text;

  for (unsigned i = 0; i < DISK_UUID_BYTES; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      *to++ = '-';
    to += sprintf (to, "%02x", uuid[i]);
  }
  snprintf (f->name, sizeof f->name, "%s.staging", text);
  snprintf (f->new_name, sizeof f->new_name, "%s.staging.new", text);
}

static int
read_boot (char boot[BOOT_BYTES])
{
  int fd = open (BOOT_ID, O_RDONLY | O_CLOEXEC);
  ssize_t n = -1;
  int err;

  if (fd != -1)
    n = read (fd, boot, BOOT_BYTES);
  err = fd == -1 || n == -1 ? errno : n < BOOT_BYTES ? EIO : 0;
  if (fd != -1)
    close (fd);
  if (err)
    log_write (LOG_ERROR, "staging: %s: %s (is /proc mounted?)", BOOT_ID,
               strerror (err));
  return err;
}

static int
map_file (struct file *f, uint64_t nr, int prot)
{
  uint8_t *p;

  f->map_bytes = file_bytes (nr);
  p = mmap (NULL, f->map_bytes, prot, MAP_SHARED, f->fd, 0);
  if (p == MAP_FAILED)
    return errno;
  f->map = p;
  f->sg.nr_buffers = nr;
  f->sg.tags = (struct buf_tag *) (p + sizeof (struct head));
  f->sg.memory = p + sizeof (struct head) + tags_bytes (nr);
  return 0;
}

/* ---- names ---- */

/* Does the name still mean the file that is open? */
static bool
is_own (const struct file *f, const char *name)
{
  struct stat a, b;

  return fstat (f->fd, &a) == 0 &&
         fstatat (f->dir, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
         a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void
file_close (struct staging *sg, bool remove)
{
  struct file *f = file_of (sg);
  const char *name = f->new_name[0] != 0 ? f->new_name : f->name;

  if (f->fd != -1 && (remove || name == f->new_name) && is_own (f, name))
    unlinkat (f->dir, name, 0); /* I3 */
  if (f->map != NULL)
    munmap (f->map, f->map_bytes);
  if (f->fd != -1)
    close (f->fd);
  if (f->dir != -1)
    close (f->dir);
  free (f->dir_name);
  free (f);
}

static int
file_publish (struct staging *sg)
{
  struct file *f = file_of (sg);

  if (renameat (f->dir, f->new_name, f->dir, f->name) == -1) {
    int err = errno;

    log_write (LOG_ERROR, "staging: %s/%s: %s", f->dir_name, f->name,
               strerror (err));
    return err;
  }
  f->new_name[0] = 0;
  return 0;
}

/* One write: a process that is killed in it has done it, or not. */
static int
file_named (struct staging *sg, uint64_t sequence)
{
  struct file *f = file_of (sg);
  struct head head;
  int err = 0;

  memcpy (&head, f->map, sizeof head);
  head.sequence = sequence;
  head.crc = crc32c (0, &head, DISK_CRC_OFF);
  if (pwrite (f->fd, &head, sizeof head, 0) != (ssize_t) sizeof head)
    err = EIO;
  if (err)
    log_write (LOG_ERROR, "staging: %s/%s: cannot be written", f->dir_name,
               f->name);
  return err;
}

static int
file_new (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
          struct file **fp)
{
  struct file *f = calloc (1, sizeof *f);

  if (f == NULL)
    return ENOMEM;
  f->dir = f->fd = -1;
  f->sg.publish = file_publish;
  f->sg.named = file_named;
  f->sg.close = file_close;
  make_names (f, uuid);
  f->dir_name = strdup (dir);
  if (f->dir_name == NULL) {
    free (f);
    return ENOMEM;
  }
  *fp = f;
  return 0;
}

/* ---- creating ---- */

static int
open_dir (struct file *f)
{
  struct statfs fs;

  f->dir = open (f->dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (f->dir == -1 || fstatfs (f->dir, &fs) == -1)
    return errno;
  if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
    return EINVAL;
  return 0;
}

static int
create_dir (struct file *f)
{
  int err = 0;

  if (mkdir (f->dir_name, 0700) == -1 && errno != EEXIST)
    err = errno;
  if (err == 0)
    err = open_dir (f);
  if (err == EINVAL)
    log_write (LOG_ERROR,
               "staging: %s is not in memory (tmpfs): choose another with "
               "staging=DIR",
               f->dir_name);
  else if (err)
    log_write (LOG_ERROR, "staging: %s: %s (choose another with staging=DIR)",
               f->dir_name, strerror (err));
  return err;
}

/* The file, with all its memory, under its first name. */
static int
create_file (struct file *f, uint64_t nr)
{
  char human[HUMAN_BYTES];
  int err = 0;

  /* What is there is of a process that did not live to publish it. */
  unlinkat (f->dir, f->new_name, 0);
  f->fd = openat (f->dir, f->new_name,
                  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (f->fd == -1)
    err = errno;
  if (err == 0)
    err = posix_fallocate (f->fd, 0, (off_t) file_bytes (nr));
  if (err == 0)
    err = map_file (f, nr, PROT_READ | PROT_WRITE);
  if (err == ENOSPC)
    log_write (LOG_ERROR,
               "staging: %s has no room for %s (make room there, or choose a "
               "smaller cache or another staging=DIR)",
               f->dir_name, size_human (file_bytes (nr), human));
  else if (err)
    log_write (LOG_ERROR, "staging: %s/%s: %s", f->dir_name, f->new_name,
               strerror (err));
  return err;
}

static int
write_head (struct file *f, const struct staging_config *config)
{
  struct head *head = f->map; /* all zero, as the file is new */

  memcpy (head->magic, HEAD_MAGIC, sizeof head->magic);
  head->version = HEAD_VERSION;
  memcpy (head->uuid, config->uuid, sizeof head->uuid);
  head->epoch = config->epoch;
  while (head->id == 0)
    env_random (&head->id, sizeof head->id);
  head->nr_buffers = f->sg.nr_buffers;
  f->sg.id = head->id;
  if (read_boot (head->boot) != 0)
    return EIO;
  head->crc = crc32c (0, head, DISK_CRC_OFF);
  return 0;
}

static int
file_create (const struct staging_config *config, struct staging **sgp)
{
  struct file *f;
  int err;

  if (config->nr_buffers == 0 || config->nr_buffers > BUFFERS_MAX)
    return EINVAL;
  err = file_new (config->dir, config->uuid, &f);
  if (err)
    return err;
  err = create_dir (f);
  if (err == 0)
    err = create_file (f, config->nr_buffers);
  if (err == 0)
    err = write_head (f, config);
  if (err) {
    file_close (&f->sg, true);
    return err;
  }
  *sgp = &f->sg;
  return 0;
}

/* ---- opening ---- */

static const char *
head_error (const struct head *head, const struct stat *st,
            const uint8_t uuid[DISK_UUID_BYTES])
{
  if (memcmp (head->magic, HEAD_MAGIC, sizeof head->magic) != 0)
    return "is no staging file";
  if (head->crc != crc32c (0, head, DISK_CRC_OFF))
    return "its checksum is wrong";
  if (head->version != HEAD_VERSION)
    return "its version is unknown";
  if (memcmp (head->uuid, uuid, sizeof head->uuid) != 0)
    return "belongs to another store";
  if (head->nr_buffers == 0 || head->nr_buffers > BUFFERS_MAX ||
      (uint64_t) st->st_size != file_bytes (head->nr_buffers))
    return "has a wrong size";
  return NULL;
}

/* NULL: it is of this store and this boot. */
static const char *
read_head (struct file *f, const uint8_t uuid[DISK_UUID_BYTES],
           struct head *head)
{
  char boot[BOOT_BYTES];
  struct stat st;
  const char *why;

  if (fstat (f->fd, &st) == -1 || !S_ISREG (st.st_mode))
    return "is no file";
  if (st.st_uid != geteuid () || (st.st_mode & 077) != 0)
    return "is not ours alone";
  if (pread (f->fd, head, sizeof *head, 0) != (ssize_t) sizeof *head)
    return "has a wrong size";
  why = head_error (head, &st, uuid);
  if (why != NULL)
    return why;
  if (read_boot (boot) != 0 || memcmp (head->boot, boot, sizeof boot) != 0)
    return "is from before the machine was booted";
  return NULL;
}

/* NULL: it counts. */
static const char *
judge (struct file *f, const uint8_t uuid[DISK_UUID_BYTES], uint64_t id)
{
  struct head head;
  const char *why = read_head (f, uuid, &head);

  if (why != NULL)
    return why;
  if (head.id != id)
    return "is not the one that the superblock names";
  f->sg.id = id;
  f->sg.nr_buffers = head.nr_buffers;
  return NULL;
}

static int
open_old (struct file *f)
{
  int err = open_dir (f);

  if (err)
    return err == EINVAL ? ENOENT : err;
  f->fd =
      openat (f->dir, f->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  return f->fd == -1 ? errno : 0;
}

/* ENOENT: there is none, or (told) it does not count. */
static int
open_file (struct file *f, const uint8_t uuid[DISK_UUID_BYTES], uint64_t id)
{
  const char *why;
  int err = open_old (f);

  if (err)
    return err;
  why = judge (f, uuid, id);
  if (why == NULL)
    return map_file (f, f->sg.nr_buffers, PROT_READ);
  log_write (LOG_WARNING, "staging: %s/%s: %s: it is not used", f->dir_name,
             f->name, why);
  return ENOENT;
}

static int
file_open (const char *dir, const uint8_t uuid[DISK_UUID_BYTES], uint64_t id,
           struct staging **sgp)
{
  struct file *f;
  int err = file_new (dir, uuid, &f);

  if (err)
    return err;
  f->new_name[0] = 0;
  err = open_file (f, uuid, id);
  if (err == 0) {
    *sgp = &f->sg;
    return 0;
  }
  if (err != ENOENT)
    log_write (LOG_ERROR,
               "staging: %s/%s: %s (it may hold what a process that died had "
               "replied to and not written)",
               dir, f->name, strerror (err));
  file_close (&f->sg, false);
  return err;
}

static int
file_check_root (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
                 uint64_t epoch, uint64_t sequence)
{
  struct head head;
  struct file *f;
  int err;

  err = file_new (dir, uuid, &f);
  if (err)
    return err;
  f->new_name[0] = 0;
  if (open_old (f) == 0 && read_head (f, uuid, &head) == NULL &&
      (head.epoch > epoch || head.sequence > sequence)) {
    log_write (LOG_ERROR,
               "staging: %s/%s: is of epoch %" PRIu64 " and superblock %" PRIu64
               ", and the root volume of epoch %" PRIu64 " and superblock "
               "%" PRIu64 ": an old copy of it, or superblocks that are lost? "
               "(name the right one; if there is none any more remove the "
               "file, and what it has is lost)",
               dir, f->name, head.epoch, head.sequence, epoch, sequence);
    err = ESTALE;
  }
  file_close (&f->sg, false);
  return err;
}

/* ---- for all ---- */

static const struct staging_ops files = {
  .create = file_create,
  .open = file_open,
  .check_root = file_check_root,
};

void
staging_set (const struct staging_ops *ops)
{
  current = ops;
}

int
staging_check_root (const char *dir, const uint8_t uuid[DISK_UUID_BYTES],
                    uint64_t epoch, uint64_t sequence)
{
  return (current != NULL ? current : &files)
      ->check_root (dir, uuid, epoch, sequence);
}

int
staging_create (const struct staging_config *config, struct staging **sgp)
{
  return (current != NULL ? current : &files)->create (config, sgp);
}

int
staging_open (const char *dir, const uint8_t uuid[DISK_UUID_BYTES], uint64_t id,
              struct staging **sgp)
{
  return (current != NULL ? current : &files)->open (dir, uuid, id, sgp);
}

void *
staging_memory (struct staging *sg)
{
  return sg->memory;
}

struct buf_tag *
staging_tags (struct staging *sg)
{
  return sg->tags;
}

uint64_t
staging_id (const struct staging *sg)
{
  return sg->id;
}

int
staging_publish (struct staging *sg)
{
  return sg->publish (sg);
}

int
staging_named (struct staging *sg, uint64_t sequence)
{
  return sg->named (sg, sequence);
}

void
staging_close (struct staging *sg, bool remove)
{
  if (sg != NULL)
    sg->close (sg, remove);
}

int
staging_each (struct staging *sg, staging_fn fn, void *arg)
{
  for (uint64_t i = 0; i < sg->nr_buffers; i++) {
    uint64_t what =
        atomic_load_explicit (&sg->tags[i].what, memory_order_acquire);
    enum buf_type type = what >> 60;
    int err = EIO;

    if (what == 0)
      continue;
    if (type == BUF_DATA || type == BUF_UNDO)
      err = fn (arg, type, what & ((UINT64_C (1) << 60) - 1),
                sg->memory + i * BUF_BYTES);
    else
      log_write (LOG_ERROR, "staging: buffer %" PRIu64 " has a wrong tag", i);
    if (err)
      return err;
  }
  return 0;
}
