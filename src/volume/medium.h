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

/* ---- batch.c ---- */

/* Begin to move io's bytes from or to fd, whose byte pos is io's first. */
extern void vbatch_start_fd (struct vbatch *batch, struct vio *io, int fd,
                             uint64_t pos);

/* ---- label.c: the label in the first bytes of a path volume ---- */

/* Data begins here; the bytes between label and data are zero. */
#define LABEL_AREA_BYTES (UINT64_C (1) << 20)

/* What a path turned out to hold. */
enum label_found {
  LABEL_OURS,  /* a good label: what follows is a volatile store's */
  LABEL_EMPTY, /* nothing that anybody would miss, as far as one can see */
  LABEL_OTHER, /* something else, and force says to overwrite it */
};

/* Look what is on the open path of size_bytes.  EEXIST: other data, and no
 * force.  fd is not O_DIRECT.  Blocks: yes.
 */
extern int label_check (int fd, const char *path, uint64_t size_bytes,
                        bool force, enum label_found *foundp);

/* Write a new label, zeros up to the data, and, over LABEL_OTHER, zeros on
 * the last MiB where others keep a second copy of theirs; all of it is on the
 * medium on return.  Blocks: yes.
 */
extern int label_write (int fd, const char *path, uint64_t size_bytes,
                        enum label_found found);

#endif /* FARPAGE_MEDIUM_H */
