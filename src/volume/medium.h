/* SPDX-License-Identifier: BSD-2-Clause */
/* What the media of this folder share, and nobody above may call. */

#ifndef FARPAGE_MEDIUM_H
#define FARPAGE_MEDIUM_H

#include "volume.h"

/* ---- volume.c ---- */

/* Set the fields that every medium has: ops, a copy of name, no errors.  The
 * rest of v is zero already.  ENOMEM.
 */
extern int medium_init (struct volume *v, const struct volume_ops *ops,
                        const char *name);
extern void medium_fini (struct volume *v);

/* The transfer is over: keep the result, count and tell an error. */
extern void vio_finish (struct vio *io, int error);

/* A transfer's memory is one part, buf, or the elements of iov. */
static inline unsigned
vio_nr_parts (const struct vio *io)
{
  return io->iov != NULL ? io->nr_iov : 1;
}

static inline struct iovec
vio_part (const struct vio *io, unsigned i)
{
  return io->iov != NULL ? io->iov[i] : (struct iovec){ io->buf, io->bytes };
}

/* What is left of the part that holds byte at of the transfer, from that byte
 * on; *ip: which part.
 */
extern struct iovec vio_rest (const struct vio *io, size_t at, unsigned *ip);

/* ---- batch.c ---- */

/* Begin to move io's bytes from or to fd, whose byte pos is io's first. */
extern void vbatch_start_fd (struct vbatch *batch, struct vio *io, int fd,
                             uint64_t pos);

/* ---- path.c: a path before it is a volume.  Errors are told and returned as
 * volume_open_path () says.  Blocks: yes.
 */

/* Is it a block device?  EINVAL: it is neither that nor a regular file.  make
 * is the command that makes a file, to be told if there is none.
 */
extern int path_type (const char *path, const char *make, bool *blockp);

/* Open it and lock it, waiting for wait_ns until others let go. */
extern int path_open (const char *path, bool block, uint64_t wait_ns, int *fdp);

/* Open it with no lock, for reading; *in_usep: has another process one? */
extern int path_open_readonly (const char *path, bool block, int *fdp,
                               bool *in_usep);

extern int path_size (int fd, const char *path, bool block, uint64_t *sizep);

/* Give a regular file all its blocks. */
extern int path_allocate (int fd, const char *path, uint64_t size_bytes);

/* Make fd O_DIRECT if a page at any page's place can be moved that way; else
 * a positive errno, which is not told.
 */
extern int path_direct (int fd, bool block);

/* A second descriptor of the open path, read-only and through the page
 * cache.
 */
extern int path_cached (int fd, const char *path, bool block, int *fdp);

/* ---- label.c: the label in the first bytes of a path volume ---- */

/* Data begins here; the bytes between label and data are zero. */
#define LABEL_AREA_BYTES (UINT64_C (1) << 20)

/* What a path turned out to hold. */
enum label_found {
  LABEL_OURS,  /* a good label: what follows is a volatile store's */
  LABEL_EMPTY, /* nothing that anybody would miss, as far as one can see */
  LABEL_OTHER, /* something else, and force says to overwrite it */
};

/* What the path is wanted for. */
enum label_use {
  LABEL_FOR_VOLATILE, /* a volatile store: force=yes */
  LABEL_FOR_FORMAT,   /* farpage format: --force */
};

/* Look what is on the open path of size_bytes.  EEXIST: other data, and no
 * force.  fd is not O_DIRECT.  Blocks: yes.
 */
extern int label_check (int fd, const char *path, uint64_t size_bytes,
                        enum label_use use, bool force,
                        enum label_found *foundp);

/* Zeros over the first and the last MiB of the path, to its last byte, also
 * if fd is O_DIRECT, which it is not while this runs; they are on the medium
 * on return.  Blocks: yes.
 */
extern int label_wipe (int fd, const char *path, uint64_t size_bytes);

/* Write a new label, zeros up to the data, and, over LABEL_OTHER, zeros on
 * the last MiB where others keep a second copy of theirs; all of it is on the
 * medium on return.  Blocks: yes.
 */
extern int label_write (int fd, const char *path, uint64_t size_bytes,
                        enum label_found found);

#endif /* FARPAGE_MEDIUM_H */
