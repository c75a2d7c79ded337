/* SPDX-License-Identifier: BSD-2-Clause */
/* A file's pages into other memory, and back: for maps, whose pages users touch
 * and the file's nobody does.  Called by map-file.c on the loop; calls
 * file-page.c and file-rw.c.
 *
 * The file's memory is on the way only: what was copied out of it is the next
 * to be used again, and what was copied into it leaves as any other dirty page,
 * in rows.  So a map's writes are as ordered, and as durable, as those of
 * farpage_file_pwrite ().
 */

#include <config.h>

#include "file.h"

#include <errno.h>

static unsigned
out_step (struct file_op *op)
{
  unsigned none[2] = { 0, 0 };

  return file_step (op->file, &op->wish, &none[0], &none[1]);
}

int
file_copy_out (struct farpage_file *f, pgno_t first, unsigned count,
               uint8_t *to, bool ahead, farpage_page_fn *fn, void *arg)
{
  struct file_op *op = file_op_make (f, first, count, fn, arg);

  if (op == NULL)
    return ENOMEM;
  op->step = out_step;
  op->wish.to = to;
  if (ahead) {
    pthread_mutex_lock (&f->lock);
    if (!f->dead)
      file_get_ahead (f, first, count);
    pthread_mutex_unlock (&f->lock);
  }
  file_op_begin (&op->job);
  return 0;
}

static enum farpage_result
write_one (struct file_op *op, unsigned i)
{
  struct farpage_file *f = op->file;
  const pgno_t pgno = op->wish.waiter.first + i;
  int err =
      f->dead ? ESTALE : file_write_page (f, pgno, op->from + i * PAGE_BYTES);

  if (err == EAGAIN)
    err = file_no_room (f, &op->wish.room) != 0 ? EIO : EAGAIN;
  return err == 0        ? FARPAGE_OK
         : err == EAGAIN ? FARPAGE_PEND
         : err == EFBIG  ? FARPAGE_BAD
                         : FARPAGE_ERROR;
}

static unsigned
in_step (struct file_op *op)
{
  const struct file_waiter *w = &op->wish.waiter;
  unsigned left = 0;

  for (unsigned i = 0; i < w->end - w->first; i++) {
    if (op->result[i] == FARPAGE_PEND)
      op->result[i] = write_one (op, i);
    left += op->result[i] == FARPAGE_PEND;
  }
  return left;
}

int
file_copy_in (struct farpage_file *f, pgno_t first, unsigned count,
              const uint8_t *from, farpage_page_fn *fn, void *arg)
{
  struct file_op *op = file_op_make (f, first, count, fn, arg);

  if (op == NULL)
    return ENOMEM;
  op->step = in_step;
  op->from = from;
  file_op_begin (&op->job);
  return 0;
}
