/* SPDX-License-Identifier: BSD-2-Clause */
/* Sending an operation to a store as a client would; see subject.h.
 *
 * Called by runs, short (run.c) and long (long-requests.c).
 */

#include <config.h>

#include "subject.h"

#include <stdlib.h>
#include <string.h>

#include "model.h"

static void
fill (const struct done_op *o, uint8_t *to)
{
  for (uint32_t i = 0; i < o->op.nr; i++) {
    uint32_t sector = o->op.first + i;
    struct where at = { o->life, sector / PAGE_SECTORS };

    content_fill (o->token, &at, sector % PAGE_SECTORS, to + i * SECTOR_BYTES);
  }
}

static int
send_write (const struct subject *subject, void *s, const struct done_op *o)
{
  uint32_t bytes = o->op.nr * SECTOR_BYTES;
  uint8_t *buf = aligned_alloc (PAGE_BYTES, (bytes + PAGE_MASK) & ~PAGE_MASK);
  int err;

  if (buf == NULL)
    abort ();
  fill (o, buf);
  err =
      subject->write (s, o->op.name, buf, (uint64_t) o->op.first * SECTOR_BYTES,
                      bytes, o->op.fua);
  memset (buf, 0xee, bytes); /* the reply is out: it is the client's again */
  free (buf);
  return err;
}

int
subject_send (const struct subject *subject, void *s, const struct done_op *o)
{
  uint64_t off = (uint64_t) o->op.first * SECTOR_BYTES;
  uint32_t bytes = o->op.nr * SECTOR_BYTES;

  switch (o->op.kind) {
  case OP_WRITE:
    return send_write (subject, s, o);
  case OP_TRIM:
    return subject->trim (s, o->op.name, off, bytes, o->op.fua);
  case OP_FLUSH:
    return subject->flush (s, o->op.name);
  case OP_CREATE:
    return subject->create (s, o->op.name, o->op.nr, o->op.fua);
  case OP_REMOVE:
    return subject->remove (s, o->op.name);
  case OP_RESIZE:
    return subject->resize (s, o->op.name, o->op.nr);
  default:
    return subject->zero (s, o->op.name, off, bytes, o->op.kind == OP_ZERO,
                          o->op.fua);
  }
}
